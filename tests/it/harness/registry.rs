//! A service with a registry of providers.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use provost::Client;
use serde_json::Value;

use crate::harness::{Options, Output, SOON, Scratch, Service, fixture, procfs, wait};

/// A service with a registry, and one binary that behaves.
pub struct Registry(pub Service);

impl Registry {
    pub fn start() -> Self {
        Self::of(Service::new())
    }

    /// With this in its configuration.
    pub fn configured(scratch: &Scratch, text: &str) -> Self {
        let config = scratch.file("provost.toml");
        fs::write(&config, text).expect("the directory is ours");
        Self::of(Options::new().serve(&["--config", &config]).start())
    }

    pub fn of(service: Service) -> Self {
        let dir = format!("{}/providers", service.state_dir());
        fs::create_dir_all(&dir).expect("the state is ours");
        let registry = Self(service);
        registry.binary("fine", "fine");
        registry.binary("exit-early", "exit-early");
        registry
    }

    /// A binary that executes the rude provider with these arguments.
    pub fn binary(&self, name: &str, arguments: &str) {
        let path = format!("{}/providers/{name}", self.0.state_dir());
        fs::write(&path, format!("#!/bin/sh\nexec {} {arguments}\n", fixture("rude"))).expect("it is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    pub fn cli(&self, args: &[&str]) -> Output {
        self.0.cli(&[&["registry"], args].concat())
    }

    pub fn ok(&self, args: &[&str]) -> String {
        self.0.ok(&[&["registry"], args].concat())
    }

    pub fn register(&self, name: &str) {
        self.ok(&["register", name, "--binary", "fine"]);
    }

    /// What a command that fails says for programs.
    pub fn reason(&self, code: i32, args: &[&str]) -> String {
        let out = self.cli(&[args, &["--json"]].concat());
        out.expect(code);
        out.json()[0]["error"]["reason"].as_str().expect("there is a reason").to_owned()
    }

    /// The same of a fetch.
    pub fn fetch_reason(&self, code: i32, name: &str) -> String {
        let out = self.0.cli(&["provider", "fetch", name, "pid", "--json"]);
        out.expect(code);
        out.json()[0]["error"]["reason"].as_str().expect("there is a reason").to_owned()
    }

    pub fn fetch(&self, name: &str) -> Output {
        self.0.cli(&["provider", "fetch", name, "pid", "--unwrap"])
    }

    pub fn entry(&self, name: &str) -> Value {
        self.cli(&["show", name, "--json"]).json().remove(0)
    }

    pub fn status(&self, name: &str) -> String {
        self.entry(name)["status"].as_str().expect("it is text").to_owned()
    }

    pub fn pid(&self, name: &str) -> u32 {
        u32::try_from(self.entry(name)["pid"].as_u64().expect("it runs")).expect("it is a pid")
    }

    /// Kills its process, and waits until the service knows.
    pub fn kill(&self, name: &str) {
        let process = format!("provider.default.{name}");
        procfs::signal("KILL", self.pid(name));
        self.0.until_state(&process, "stopped");
    }

    /// What was told of it.
    pub fn events(&self, name: &str) -> Vec<Value> {
        self.cli(&["events", name]).json()
    }

    pub fn kinds(&self, name: &str) -> Vec<String> {
        let events = self.events(name);
        events.iter().map(|e| e["kind"].as_str().expect("it is text").to_owned()).collect()
    }

    /// Waits until the last event about it is of this kind, and returns all kinds.
    pub fn kinds_until(&self, name: &str, last: &str) -> Vec<String> {
        wait::until(last, SOON, || self.kinds(name).last().is_some_and(|kind| kind == last));
        self.kinds(name)
    }

    pub fn host(&self) -> Client {
        Client::connect_to_host(self.0.socket().as_ref()).expect("the host runs")
    }
}

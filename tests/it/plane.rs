//! A service with a module plane, and providers of modules in Python and Node.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::g_clients::installed;
use crate::harness::cli::run;
use crate::harness::{
    LATER, Options, Output, Running, SOON, Scratch, Service, binary, free_port, procfs, wait,
};

/// Waits until providers can register. A service that has just begun does not know its host at once.
#[track_caller]
pub fn until_host(service: &Service) {
    wait::until("the host is ready", LATER, || {
        service.cli(&["wait", "provost.host", "--for", "ready", "--timeout", "20s"]).code == 0
    });
}

/// A provider in Python that registers at this address.
pub fn provider(address: &str, args: &[&str], variables: &[(&str, &str)]) -> Running {
    let here = |path: &str| format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(installed("python/bin/python3"));
    command.arg(here("tests/clients/module.py")).arg(address).args(args);
    command.env("PROTO", here("proto")).envs(variables.iter().copied());
    Running::new(command)
}

/// `provost cert`, in this directory.
#[track_caller]
pub fn certificates(dir: &str, args: &[&str]) {
    let mut command = Command::new(binary());
    command.arg("cert").args(&args[..1]).args(["--dir", dir]).args(&args[1..]);
    run(command, SOON).expect(0);
}

/// A service with a module plane, and its providers as processes of its own.
pub struct Plane {
    pub service: Service,
    /// Where providers register.
    pub address: String,
    _files: Scratch,
}

impl Plane {
    pub fn start() -> Self {
        Self::with("heartbeat_timeout = '2s'\ncontrol_timeout = '3s'\nreport_interval = '500ms'\n")
    }

    /// With these settings.
    pub fn with(settings: &str) -> Self {
        let (files, address) = (Scratch::new(), format!("127.0.0.1:{}", free_port()));
        let config = files.file("provost.toml");
        let text = format!("[modules]\nlisten = '{address}'\n{settings}");
        fs::write(&config, text).expect("the directory is ours");
        let service = Options::new().serve(&["--config", &config]).start();
        until_host(&service);
        Self { service, address, _files: files }
    }

    /// With mutual TLS, on all addresses: its certificates, and those of the client `client.provost`, are in
    /// the directory that is returned, too.
    pub fn secured(settings: &str) -> (Self, Scratch) {
        Self::secured_with(settings, |_| ())
    }

    /// The same, with more done in that directory before the service begins.
    pub fn secured_with(settings: &str, prepare: impl FnOnce(&str)) -> (Self, Scratch) {
        let (files, port) = (Scratch::new(), free_port());
        let dir = files.path().to_str().expect("the path is text").to_owned();
        certificates(&dir, &["init"]);
        prepare(&dir);
        let config = files.file("provost.toml");
        let text =
            format!("[modules]\nlisten = '0.0.0.0:{port}'\ntls = true\ncertificates = '{dir}'\n{settings}");
        fs::write(&config, text).expect("the directory is ours");
        let service = Options::new().serve(&["--config", &config]).start();
        until_host(&service);
        (Self { service, address: format!("localhost:{port}"), _files: Scratch::new() }, files)
    }

    /// A provider in Python, once it has registered and its stream is acknowledged.
    pub fn python(&self, name: &str, args: &[&str]) {
        self.run_python(name, args).expect(0);
    }

    pub fn run_python(&self, name: &str, args: &[&str]) -> Output {
        let here = |path: &str| format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        let (python, script) = (installed("python/bin/python3"), here("tests/clients/module.py"));
        let proto = format!("PROTO={}", here("proto"));
        let python = python.to_string();
        let command = [&*python, &*script, &*self.address];
        let start =
            ["start", "--name", name, "--env", &*proto, "--ready-line", "active ", "--wait=ready", "--"];
        self.service.cli(&[&start[..], &command, args].concat())
    }

    pub fn node(&self, name: &str, namespace: &str) {
        let here = |path: &str| format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        let proto = format!("PROTO={}", here("proto"));
        let libraries = format!("LIBRARIES={}", installed("node/node_modules"));
        let script = here("tests/clients/module.js");
        let start = ["start", "--name", name, "--env", &*proto, "--env", &*libraries];
        let ready =
            ["--ready-line", "active ", "--wait=ready", "--", "node", &*script, &*self.address, namespace];
        self.service.cli(&[&start[..], &ready].concat()).expect(0);
    }

    pub fn cli(&self, args: &[&str]) -> Output {
        self.service.cli(&[&["module"], args].concat())
    }

    /// A provider in Python that is no process of the service's, once its stream is acknowledged; with more
    /// variables.
    #[track_caller]
    pub fn outside(&self, args: &[&str], variables: &[(&str, &str)]) -> Running {
        let running = self.begin(args, variables);
        running.line_with("active ", SOON);
        running
    }

    /// The same, as it begins.
    pub fn begin(&self, args: &[&str], variables: &[(&str, &str)]) -> Running {
        provider(&self.address, args, variables)
    }

    /// Kills the host, and waits for the next one.
    #[track_caller]
    pub fn kill_host(&self) {
        let old = self.service.pid("provost.host");
        procfs::signal("KILL", old);
        wait::until("there is another host", SOON, || {
            let now = self.service.cli(&["status", "provost.host", "--json"]);
            now.code == 0 && now.json()[0]["pid"].as_u64().is_some_and(|pid| pid != u64::from(old))
        });
        until_host(&self.service);
    }

    /// Waits until the only connection is in this state.
    #[track_caller]
    pub fn until_state(&self, state: &str) {
        wait::until(state, SOON, || {
            let all = self.connections();
            all.len() == 1 && all[0]["state"] == state
        });
    }

    /// What a call gives.
    #[track_caller]
    pub fn call(&self, name: &str, input: &Value) -> Value {
        let out = self.cli(&["call", name, "--input", &input.to_string()]);
        out.expect(0);
        serde_json::from_str(&out.out()).expect("an answer is JSON")
    }

    pub fn connections(&self) -> Vec<Value> {
        self.cli(&["connections", "--json"]).json()
    }

    /// What the log of a provider says.
    pub fn log(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.service.output(name)).into_owned()
    }

    pub fn modules(&self) -> String {
        self.cli(&["list"]).expect(0).out()
    }
}

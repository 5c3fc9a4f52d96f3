//! What a command has at hand while it runs: the way to the service, the form of its answers, and the screen.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::json;
use crate::cli::manual::About;
use crate::cli::remote::RemoteOptions;
use crate::cli::stdout::Out;
use crate::client::{Client, default_socket};
use crate::wire::error::{Code, Error};

/// The target that many other programs have for what a pattern means here.
pub const ALL: &str = "all";

pub struct Session {
    /// All commands, in the order in which they are shown.
    pub commands: Vec<&'static About>,
    /// `--socket`, if it was given.
    pub socket: Option<PathBuf>,
    /// `--host` and the like.
    pub remote: RemoteOptions,
    /// `--json`: an answer is one JSON object per line, instead of text for people and for `cut`.
    pub json: bool,
    pub out: Out,
}

impl Session {
    /// With nothing said yet.
    pub fn new(commands: Vec<&'static About>) -> Self {
        Self { commands, socket: None, remote: RemoteOptions::default(), json: false, out: Out::new() }
    }

    pub fn socket(&self) -> Result<PathBuf, Error> {
        if self.remote.is_given() {
            return Err(Error::usage("this is for the service of this machine")
                .hint("an administrator does it there; for this machine leave out -H, --host and what belongs to them"));
        }
        self.socket.clone().map_or_else(default_socket, Ok)
    }

    /// A connection to the service, here or elsewhere.
    pub fn client(&self) -> Result<Client, Error> {
        if !self.remote.is_given() {
            return Client::connect(&self.socket()?);
        }
        if self.socket.is_some() {
            return Err(Error::usage("--socket is for this machine, --host for another: give one of them"));
        }
        Client::connect_to(&self.remote.address()?)
    }

    /// Whether answers are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints an answer: the object with `--json`, else the line.
    pub fn answer(&mut self, object: impl FnOnce() -> Value, line: impl FnOnce() -> String) {
        if self.is_json() {
            self.object(&object());
        } else {
            self.out.line(&line());
        }
    }

    /// With `--json`, a failure is an object on standard output, too.
    pub fn report(&mut self, e: &Error) {
        if self.is_json() {
            self.object(&json!({ "error": json::error(e) }));
        }
    }

    /// A connection for these targets, of which `all` means every process if none is called so.
    pub fn client_for(&self, targets: &mut [String]) -> Result<Client, Error> {
        let mut client = self.client()?;
        if let Some(all) = targets.iter_mut().find(|target| *target == ALL) {
            let items = client.status(vec![ALL.to_owned()])?;
            if items.iter().all(|item| item.error.as_ref().is_some_and(|e| e.code == Code::NotFound)) {
                *all = "*".to_owned();
            }
        }
        Ok(client)
    }

    /// Prints one JSON object.
    pub fn object(&mut self, object: &Value) {
        self.out.line(&object.to_string());
    }
}

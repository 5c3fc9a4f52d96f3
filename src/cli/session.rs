//! What a command has at hand while it runs: the way to the service, the form of its answers, and the screen.

use std::path::PathBuf;

use serde_json::Value;
#[cfg(feature = "gateway")]
use serde_json::json;

#[cfg(feature = "gateway")]
use crate::cli::json;
use crate::cli::manual::About;
use crate::cli::remote::RemoteOptions;
use crate::cli::stdout::Out;
use crate::client::{Client, default_socket};
use crate::wire::error::Error;

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
                .hint("leave out --host and what belongs to it"));
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
    #[cfg(feature = "gateway")]
    pub fn reported<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(e) = &result
            && self.is_json()
        {
            self.object(&json!({ "error": json::error(e) }));
        }
        result
    }

    /// Prints one JSON object.
    pub fn object(&mut self, object: &Value) {
        self.out.line(&object.to_string());
    }
}

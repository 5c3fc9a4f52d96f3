//! How providers and services reach each other, behind traits: gRPC is one way (`grpc.rs`), a service in
//! memory another (`memory.rs`), with which an author tests a provider without a service. The messages here
//! are those of the protocol without its wire.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use crate::sdk::module::definition::{Call, Failure};
use crate::sdk::module::schema::Type;
use crate::wire::error::Error;

/// What comes a while later; it can be given up at any time.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a provider registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    pub namespace: String,
    /// Empty: alone.
    pub group: String,
    /// Where it executes, as HOST:PORT.
    pub executor_url: String,
    pub modules: Vec<Declaration>,
}

/// One module of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    pub name: String,
    pub input: Type,
    pub output: Type,
    pub version: String,
    pub description: String,
}

/// What a service answers to a registration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    pub connection_id: String,
    /// Whether all modules are accepted.
    pub success: bool,
    /// By name; an error is the reason of the rejection.
    pub results: Vec<(String, Result<(), String>)>,
}

/// What a provider says on its control stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToService {
    /// That it lives; the time in ms since 1970.
    Heartbeat(i64),
    DrainAck {
        accepted: bool,
        in_flight: u32,
    },
}

/// What a service says there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromService {
    HeartbeatAck,
    ActiveModules(Vec<String>),
    /// It gives the provider nothing new.
    Drain(String),
    /// What this version of the protocol does not know.
    Unknown,
}

/// The way to services, and back.
pub trait Transport: Send + Sync + 'static {
    /// Where the only service is, if none is named; none: one has to be.
    fn only_service(&self) -> Option<SocketAddr> {
        None
    }

    /// A connection to the service at this address; why there is none.
    fn connect(&self, service: SocketAddr) -> Result<Box<dyn Service>, String>;

    /// Has calls of modules executed that come to this address; its port may be 0: any that is free.
    fn serve(&self, listen: SocketAddr, execute: Arc<dyn Execute>) -> Result<Box<dyn Executor>, Error>;
}

/// A connection to one service. It ends when this is dropped.
pub trait Service: Send {
    /// `replaces`: the connection that this one follows; empty: none.
    fn register(&self, what: &Registration, replaces: &str) -> Result<Registered, String>;

    /// Takes back what was registered. What comes of it does not matter: the end of the stream does the same.
    fn deregister(&self, what: &Registration, connection_id: &str);

    /// Opens the control stream of this connection.
    fn control(&self, connection_id: &str, namespace: &str) -> Result<Box<dyn Control>, String>;
}

/// A control stream.
pub trait Control: Send {
    /// Whether it could be sent.
    fn send(&mut self, message: ToService) -> Later<'_, bool>;

    /// The next message; none: the service has ended the stream. An error is the reason why it broke.
    fn next(&mut self) -> Later<'_, Result<Option<FromService>, String>>;

    /// Nothing more is sent.
    fn close(&mut self) -> Later<'_, ()>;
}

/// What executes modules, on whatever thread calls come.
pub trait Execute: Send + Sync {
    /// Input and output are bytes as the serializer has them.
    fn execute(&self, module: &str, input: &[u8], call: &Call) -> Result<Vec<u8>, Failure>;
}

/// Where calls come in, for as long as it is kept.
pub trait Executor: Send {
    /// The port that was bound.
    fn port(&self) -> u16;

    /// Takes no more calls, and leaves those that are under way some time.
    fn stop(self: Box<Self>);
}

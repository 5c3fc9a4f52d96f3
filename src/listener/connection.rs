//! One client, on the thread of its connection: its hello, then its requests one after another, until one
//! side has enough. Requests that come early stay in the socket; there is never more than one in work.

use std::convert::Infallible;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::listener::channel::{Channel, Closed, End, not_understood};
use crate::listener::limits::Limits;
use crate::listener::replies::Replies;
use crate::listener::slots::Slot;
use crate::sys::rest;
use crate::wire::envelope::Envelope;
use crate::wire::error::{Code, Error};
use crate::wire::frame;
use crate::wire::reply::{More, Reply};
use crate::wire::request::{CHANNEL_VERSION, Hello};
use crate::wire::role::Role;

/// What stands behind the listener. One call per request, on the connection's thread.
pub trait Service: Send + Sync + 'static {
    /// Answers one request: any number of replies, exactly the last of them sent as such. An error says that
    /// the client is gone, and is passed on as it comes from `replies`.
    fn call(&self, envelope: Envelope, caller: &Caller, replies: &mut Replies<'_>) -> Result<(), Closed>;
}

/// The client, as the kernel noted it at the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// For logs only: numbers are reused.
    pub pid: u32,
    /// Root, or the user that the service runs as; never by the gateway's way, whoever that runs as.
    pub is_owner: bool,
    /// What it may ask for.
    pub role: Role,
    /// It has come by the gateway's own way.
    pub is_gateway: bool,
}

/// A connection. The fields are dropped in this order: the slot is free when the socket is closed.
pub(super) struct Connection {
    channel: Channel,
    service: Arc<dyn Service>,
    caller: Caller,
    phase: Phase,
    slot: Slot,
}

/// What the client's next frame is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Hello,
    Requests,
}

impl Connection {
    pub(super) fn new(
        socket: Arc<UnixStream>,
        slot: Slot,
        service: Arc<dyn Service>,
        caller: Caller,
        limits: Limits,
    ) -> Self {
        Self { channel: Channel::new(socket, limits), service, caller, phase: Phase::Hello, slot }
    }

    /// The whole life of the connection.
    pub(super) fn run(mut self) {
        let Err(end) = self.serve();
        if let End::Broken(error) = end {
            let last_error = match self.phase {
                Phase::Hello => Hello { error: Some(error), ..Hello::ours() }.encode(),
                Phase::Requests => Reply::Error(error).encode(More::Last),
            };
            self.channel.goodbye(&last_error);
        }
    }

    fn serve(&mut self) -> Result<Infallible, End> {
        self.greet()?;
        loop {
            let envelope = self.channel.receive(Envelope::decode)?;
            rest::used();
            let mut replies = Replies::new(&mut self.channel);
            match envelope {
                Ok(envelope) => self.service.call(envelope, &self.caller, &mut replies)?,
                // The frame was whole, so the next one may be better.
                Err(error) => replies.send(&Reply::Error(error), More::Last)?,
            }
            if !replies.is_done() {
                let error = Error::new(Code::Failed, "the service left the request without an end")
                    .hint("this is a defect of provost: please report it");
                replies.send(&Reply::Error(error), More::Last)?;
            }
        }
    }

    /// The slot knows at each moment whether the hello may have come.
    fn receive_hello(&mut self) -> Result<Result<Hello, Error>, End> {
        let deadline = Some(self.channel.hello_deadline());
        loop {
            if let Some(hello) = self.channel.try_receive(deadline, Hello::decode)? {
                return Ok(hello);
            }
            self.slot.begin_idle();
            self.channel.wait_for_bytes(deadline)?;
            self.slot.end_idle();
        }
    }

    /// The answer stays unsent until the client has to be waited for: most have sent a request with their
    /// hello, and get both answers in one go.
    fn greet(&mut self) -> Result<(), End> {
        let hello = self.receive_hello()?.map_err(|e| End::Broken(not_understood(&e)))?;
        check_version(&hello).map_err(End::Broken)?;
        if !self.slot.greeted() {
            return Err(End::Closed);
        }
        self.phase = Phase::Requests;
        self.channel.trust();
        let answer = Hello { versions: vec![CHANNEL_VERSION], ..Hello::ours() };
        self.channel.put(|out| frame::put(out, &answer.encode())).map_err(|_| End::Closed)
    }
}

fn check_version(hello: &Hello) -> Result<(), Error> {
    if hello.versions.contains(&CHANNEL_VERSION) {
        return Ok(());
    }
    let theirs: Vec<_> = hello.versions.iter().map(u32::to_string).collect();
    let theirs =
        if theirs.is_empty() { "no version".to_owned() } else { format!("version {}", theirs.join(", ")) };
    let ours = Hello::ours().program;
    Err(Error::new(
        Code::Refused,
        format!("the client speaks {theirs} of the command channel, the service ({ours}) version {CHANNEL_VERSION}"),
    )
    .hint("use the 'provost' command of the service's version"))
}

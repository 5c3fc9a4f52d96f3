//! The client library: one typed method for every request, over the service's unix socket or through the
//! gateway of another machine. Calls block. Over the socket it has no thread of its own; a connection to a
//! gateway has a pump for TLS, and the C core's. It knows nothing of keeper or engine.
//!
//! The engine may be killed at any instant and is back within milliseconds. A client notices nothing of it:
//! what can be asked twice is asked again on a new connection, a restart or a signal with its key, streams go
//! on at the next byte, events after the last number. Only calls of modules, and canaries that are started or
//! aborted, say so when they cannot know whether they were done (`retry.rs`).

#![forbid(unsafe_code)]

mod cancel;
mod connection;
#[cfg(test)]
pub(crate) mod fake_server;
mod feed;
mod hold;
mod link;
#[cfg(feature = "gateway")]
mod pair;
#[cfg(feature = "gateway")]
mod remote;
mod retry;
mod session;
#[cfg(feature = "gateway")]
pub mod settings;
mod socket;
mod stream;

#[cfg(feature = "gateway")]
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::Instant;

pub use crate::client::cancel::Canceller;
pub use crate::client::connection::Address;
#[cfg(feature = "gateway")]
use crate::client::connection::Connection;
pub use crate::client::feed::{Feed, FeedItem};
pub use crate::client::hold::Hold;
use crate::client::link::{HOST_AGAIN, HOST_TIMEOUT};
#[cfg(feature = "gateway")]
pub use crate::client::remote::Remote;
use crate::client::session::Session;
pub use crate::client::socket::{
    SOCKET_PATH_LEN_MAX, SOCKET_VARIABLE, default_socket, grpc_socket, host_socket,
};
pub use crate::client::stream::{OutputStream, StreamItem};
use crate::wire::audit::{AuditLine, AuditLog, Note};
use crate::wire::envelope::Behalf;
use crate::wire::error::{Code, Error};
use crate::wire::event::Event;
use crate::wire::health::Health;
use crate::wire::id::{OrderKey, ProcessId};
#[cfg(feature = "gateway")]
use crate::wire::keep::{Document, Keep};
use crate::wire::module::ModuleBatch;
use crate::wire::module::{ModuleAnswer, ModuleCall};
use crate::wire::process::Process;
use crate::wire::provider::{HOST, ProviderAnswer, ProviderCall};
use crate::wire::registry::{RegistryAnswer, RegistryCall};
use crate::wire::reply::{Chunk, Definition, Environment, Item, Reply, Service, Upgraded};
use crate::wire::request::{
    EnvChange, Events, List, Output, Remove, Request, Signal, Start, Status, Stop, Stream, Until, Update,
    Upgrade, Wait,
};

/// A connection to the service, which is made again whenever it breaks.
///
/// ```no_run
/// use provost::wire::request::{Numbering, Start, Wait};
/// use provost::{Client, Spec};
/// use provost::wire::id::ProcessId;
///
/// let mut client = Client::connect_default()?;
/// let id = ProcessId::new();
/// client.start(Start { spec: Spec::new(["sleep", "1"]), ids: vec![id], numbering: Numbering::Single })?;
/// let items = client.wait(Wait { targets: vec![id.to_string()], ..Wait::default() })?;
/// let process = items[0].process.as_ref().expect("it was just started");
/// println!("{} is {}", process.label(), process.state.name());
/// # Ok::<(), provost::Error>(())
/// ```
#[derive(Debug)]
pub struct Client(Session);

impl Client {
    /// Connects to the socket at `path`.
    ///
    /// ```no_run
    /// let client = provost::Client::connect("/run/provost/engine.sock".as_ref())?;
    /// # Ok::<(), provost::Error>(())
    /// ```
    pub fn connect(path: &Path) -> Result<Self, Error> {
        Self::connect_to(&Address::socket(path.to_owned()))
    }

    /// Connects to the host of providers beside the engine whose socket this is, which runs it where it does
    /// not run yet.
    pub fn connect_to_host(engine: &Path) -> Result<Self, Error> {
        let host = host_socket(engine);
        if let Ok(client) = Self::connect(&host) {
            return Ok(client);
        }
        let mut client = Self::connect(engine)?;
        let deadline = Instant::now() + HOST_TIMEOUT;
        loop {
            client.call(Request::Host)?;
            let (targets, timeout) = (vec![HOST.to_owned()], Some(HOST_TIMEOUT));
            let item = client.wait(Wait { targets, until: Until::Ready, timeout })?.pop();
            item.and_then(|item| item.error).map_or(Ok(()), Err)?;
            match Self::connect(&host) {
                // It has just ended, and the engine is about to notice.
                Err(e) if e.code == Code::Unreachable && Instant::now() < deadline => {
                    thread::sleep(HOST_AGAIN);
                }
                connected => return connected,
            }
        }
    }

    /// Connects to where the service listens by default, see [`default_socket`].
    pub fn connect_default() -> Result<Self, Error> {
        Self::connect(&default_socket()?)
    }

    /// Connects to a service wherever it is.
    pub fn connect_to(address: &Address) -> Result<Self, Error> {
        Session::open(address).map(Self)
    }

    /// Where the service is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// Makes every further request on behalf of `caller`, whom events record as the cause. None makes them in
    /// the client's own name.
    pub fn on_behalf_of(&mut self, caller: Option<Behalf>) {
        self.0.on_behalf_of = caller;
    }

    /// A new process, or several instances of one: all or none. An item for each.
    pub fn start(&mut self, start: Start) -> Result<Vec<Item>, Error> {
        start.spec.check()?;
        self.items(Request::Start(Box::new(start)))
    }

    /// Starts again what is stopped; what runs already is left as it is.
    pub fn start_again(&mut self, targets: Vec<String>) -> Result<Vec<Item>, Error> {
        self.items(Request::StartAgain(targets))
    }

    /// Stops, and answers when nothing of the processes is left.
    pub fn stop(&mut self, stop: Stop) -> Result<Vec<Item>, Error> {
        self.items(Request::Stop(stop))
    }

    /// Stops what runs, and starts all: each once, also where the service dies in the middle.
    pub fn restart(&mut self, targets: Vec<String>) -> Result<Vec<Item>, Error> {
        self.items(Request::Restart(targets))
    }

    /// Has one process run in another way, and answers when that holds; where a run is to be replaced, when
    /// the next one runs. The same once more changes nothing.
    pub fn update(&mut self, update: Update) -> Result<Vec<Item>, Error> {
        update.spec.check()?;
        self.items(Request::Update(Box::new(update)))
    }

    /// How processes are to be run, with the values of their variables; what is not there is an error.
    pub fn definitions(&mut self, targets: Vec<String>) -> Result<Vec<Definition>, Error> {
        let mut definitions = Vec::new();
        for reply in self.call(Request::Definitions(targets))? {
            match reply {
                Reply::Definition(definition) => definitions.push(*definition),
                Reply::Item(Item { error: Some(e), .. }) => return Err(e),
                _ => {}
            }
        }
        Ok(definitions)
    }

    /// Forgets processes and what they printed.
    pub fn remove(&mut self, remove: Remove) -> Result<Vec<Item>, Error> {
        self.items(Request::Remove(remove))
    }

    /// Sends a signal, to each once. One whose engine dies in the very moment of sending may get none.
    pub fn signal(&mut self, signal: Signal) -> Result<Vec<Item>, Error> {
        self.items(Request::Signal(signal))
    }

    /// Waits until each process is where it should be, or the time is over: then its item has an error of
    /// code [`Code::TimedOut`].
    pub fn wait(&mut self, wait: Wait) -> Result<Vec<Item>, Error> {
        self.items(Request::Wait(wait))
    }

    /// How they are, as the service knows it: whether a signal has halted one is not looked at.
    pub fn status(&mut self, targets: Vec<String>) -> Result<Vec<Item>, Error> {
        self.items(Request::Status(targets.into()))
    }

    /// The same with [`Process::halted`], for which the service looks at each.
    pub fn look_at(&mut self, targets: Vec<String>) -> Result<Vec<Item>, Error> {
        self.items(Request::Status(Status { targets, look: true }))
    }

    /// What processes there are.
    pub fn list(&mut self, list: List) -> Result<Vec<Process>, Error> {
        let some = |reply| if let Reply::Processes(some) = reply { some } else { Vec::new() };
        Ok(self.call(Request::List(list))?.into_iter().flat_map(some).collect())
    }

    /// The output that is kept, as it is in one instant.
    pub fn output(&mut self, output: Output) -> Result<Vec<Chunk>, Error> {
        let chunk = |reply| if let Reply::Chunk(chunk) = reply { Some(chunk) } else { None };
        Ok(self.call(Request::Output(output))?.into_iter().filter_map(chunk).collect())
    }

    /// Output as it comes, until every target is at rest and all was delivered. Takes this connection over;
    /// the next call makes a new one.
    pub fn stream(&mut self, stream: Stream) -> Result<OutputStream, Error> {
        OutputStream::begin(self.0.hand_over(), stream)
    }

    /// The same, read where the service keeps it, which costs a fraction: for root and the service's own
    /// user, on its machine, and up to 8 processes. For others it is [`Client::stream`]. What is removed
    /// meanwhile keeps its memory as long as this goes on.
    pub fn stream_shared(&mut self, stream: Stream) -> Result<OutputStream, Error> {
        OutputStream::begin_shared(self.0.hand_over(), stream)
    }

    /// Has the output of a process wait for this reader, as in a pipe, from now on and for as long as what is
    /// returned lasts: beyond what is kept of it, no more is taken than was read with
    /// [`Client::stream_held`]. The process need not be there yet. For root and the service's own user, on
    /// its machine. Takes this connection over.
    pub fn hold(&mut self, id: ProcessId) -> Result<Hold, Error> {
        Hold::begin(self.0.hand_over(), id)
    }

    /// As [`Client::stream_shared`], by the reader that has a [`Client::hold`] of the processes. Each item is
    /// to be dealt with before the next one is asked for.
    pub fn stream_held(&mut self, stream: Stream) -> Result<OutputStream, Error> {
        let mut stream = self.stream_shared(stream)?;
        if stream.hold() {
            return Ok(stream);
        }
        Err(Error::new(Code::Refused, "the service does not share the memory of the output"))
    }

    /// Shows the global environment, after changing it where a change is given.
    pub fn env(&mut self, change: EnvChange) -> Result<Environment, Error> {
        self.one(
            Request::Env(change),
            |reply| if let Reply::Environment(it) = reply { Some(it) } else { None },
        )
    }

    /// How the service is: its database, its sinks, and what it found when it began.
    pub fn health(&mut self) -> Result<Health, Error> {
        self.one(Request::Health, |reply| if let Reply::Health(it) = reply { Some(it) } else { None })
    }

    /// Who asked for what, after a line: at most 1,000 lines at a time.
    pub fn audit(&mut self, audit: AuditLog) -> Result<Vec<AuditLine>, Error> {
        let some = |reply| if let Reply::Audit(some) = reply { some } else { Vec::new() };
        Ok(self.call(Request::AuditLog(audit))?.into_iter().flat_map(some).collect())
    }

    /// Puts on record that a request was refused before the service heard of it.
    pub fn note(&mut self, note: Note) -> Result<(), Error> {
        self.call(Request::Note(note)).map(drop)
    }

    /// Has a change of the host's put on record, and its document kept; returns the number of its line.
    #[cfg(feature = "gateway")]
    pub(crate) fn keep(&mut self, keep: Keep) -> Result<u64, Error> {
        let number = |reply| if let Reply::Kept(line) = reply { Some(line) } else { None };
        self.one(Request::Keep(Box::new(keep)), number)
    }

    /// Sends what [`Client::keep`] is then called with, and does not wait for the answer.
    #[cfg(feature = "gateway")]
    pub(crate) fn keep_ahead(&mut self, keep: &Keep) {
        self.0.ask_ahead(&Request::Keep(Box::new(keep.clone())));
    }

    /// The documents of this kind that the host has had kept.
    #[cfg(feature = "gateway")]
    pub(crate) fn documents(&mut self, kind: &str) -> Result<Vec<Document>, Error> {
        let document = |reply| if let Reply::Document(document) = reply { Some(document) } else { None };
        Ok(self.call(Request::Documents(kind.to_owned()))?.into_iter().filter_map(document).collect())
    }

    /// What happened, and with `follow` what happens. Takes this connection over; the next call makes a new
    /// one.
    pub fn events(&mut self, events: Events) -> Result<Feed, Error> {
        Feed::begin(self.0.hand_over(), events)
    }

    /// About the service itself.
    pub fn service(&mut self) -> Result<Service, Error> {
        self.one(Request::Service, |reply| if let Reply::Service(it) = reply { Some(it) } else { None })
    }

    /// Moves the running service to another binary; answers when it is done, or why it is not. The processes
    /// of the service notice nothing.
    pub fn upgrade(&mut self, upgrade: Upgrade) -> Result<Upgraded, Error> {
        self.one(
            Request::Upgrade(upgrade),
            |reply| if let Reply::Upgraded(it) = reply { Some(it) } else { None },
        )
    }

    /// Asks the host of providers, to whose socket this client is connected: see [`host_socket`].
    pub fn provider(&mut self, call: ProviderCall) -> Result<ProviderAnswer, Error> {
        self.one(
            Request::Provider(call),
            |reply| if let Reply::Provider(it) = reply { Some(it) } else { None },
        )
    }

    /// Asks the host about modules, to whose socket this client is connected: see [`host_socket`].
    pub fn module(&mut self, call: ModuleCall) -> Result<ModuleAnswer, Error> {
        self.one(Request::Module(call), |reply| if let Reply::Module(it) = reply { Some(it) } else { None })
    }

    /// Has the host execute a module with each of several inputs; what came of each, in their order.
    pub fn module_batch(&mut self, batch: ModuleBatch) -> Result<Vec<Result<Vec<u8>, Error>>, Error> {
        let inputs = batch.inputs.len();
        let replies = self.call(Request::Module(ModuleCall::Batch(batch)))?;
        let outcomes = replies.into_iter().filter_map(|reply| match reply {
            Reply::Module(ModuleAnswer::Outcome(outcome)) => Some(outcome),
            _ => None,
        });
        let outcomes: Vec<_> = outcomes.collect();
        if outcomes.len() == inputs { Ok(outcomes) } else { Err(no_answer()) }
    }

    /// Forgets for whom it has asked, and who could have cancelled that. False: it was cancelled.
    #[cfg(feature = "gateway")]
    pub(crate) fn rest(&mut self) -> bool {
        self.0.rest()
    }

    /// Sends a request that the next call makes. False: there is no connection at hand, or it needs a key,
    /// and nothing was sent.
    #[cfg(feature = "gateway")]
    pub(crate) fn ask_ahead(&mut self, request: &Request) -> bool {
        self.0.ask_ahead(request)
    }

    /// Waits until the connection that there is has ended.
    #[cfg(feature = "gateway")]
    pub(crate) fn until_lost(&self) {
        if let Some(link) = &self.0.link {
            link.until_lost();
        }
    }

    /// The socket on which gRPC on this machine is listened for, for whoever serves it.
    #[cfg(feature = "gateway")]
    pub(crate) fn grpc_listener(&mut self) -> Result<OwnedFd, Error> {
        self.call(Request::GrpcListener)?;
        self.0.link.as_mut().and_then(|link| link.take_shared().pop()).ok_or_else(no_answer)
    }

    /// What the gateway works with, as `wire` has it in `gateway.proto`. `listens`: with its listener.
    #[cfg(feature = "gateway")]
    pub(crate) fn gateway_setup(&mut self, listens: bool) -> Result<Vec<OwnedFd>, Error> {
        self.call(Request::GatewaySetup { listens })?;
        Ok(self.0.link.as_mut().map(Connection::take_shared).unwrap_or_default())
    }

    /// Has the service's gateway be as its configuration says by now. Answers when that is so, but for the
    /// files of a gateway that stays.
    pub fn reload(&mut self) -> Result<(), Error> {
        self.call(Request::Reload).map(drop)
    }

    /// Asks the host of providers about the registry, as [`Client::provider`] does.
    pub fn registry(&mut self, call: RegistryCall) -> Result<RegistryAnswer, Error> {
        let replies = self.call(Request::Registry(call))?.into_iter();
        let answers =
            replies.filter_map(|reply| if let Reply::Registry(it) = reply { Some(it) } else { None });
        answers.reduce(RegistryAnswer::and).ok_or_else(no_answer)
    }

    /// Adds what happened to providers to the events of the service: for their host alone. An engine that
    /// dies in the middle may have added some of it, which is then there twice.
    pub fn announce(&mut self, events: Vec<Event>) -> Result<(), Error> {
        self.call(Request::Announce(events)).map(drop)
    }

    fn items(&mut self, request: Request) -> Result<Vec<Item>, Error> {
        self.0.items(request)
    }

    /// The first reply of the kind that answers the request.
    fn one<T>(&mut self, request: Request, kind: impl Fn(Reply) -> Option<T>) -> Result<T, Error> {
        self.call(request)?.into_iter().find_map(kind).ok_or_else(no_answer)
    }

    /// Sends any request that is not a stream; returns the replies in their order.
    pub fn call(&mut self, request: Request) -> Result<Vec<Reply>, Error> {
        self.0.call(request, None)
    }

    /// The same for a restart or a signal of somebody who may ask again, with the same key. Without one, a
    /// fresh key is good for the attempts of this call.
    pub fn call_with_key(&mut self, request: Request, key: Option<OrderKey>) -> Result<Vec<Reply>, Error> {
        self.0.call(request, key)
    }

    /// Ends what this client and its streams wait for from another thread, for good.
    pub fn canceller(&mut self) -> Canceller {
        self.0.canceller()
    }
}

fn no_answer() -> Error {
    Error::new(Code::Failed, "the service gave no answer to the question")
        .hint("compare the versions of client and service with 'provost version'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::{Act, FakeServer, process};

    fn client(server: &FakeServer) -> Client {
        Client(server.session())
    }

    fn item(target: &str, error: Option<Error>) -> Reply {
        let process = Some(process(target));
        Reply::Item(Item { target: target.into(), process, error, unrecorded: None, has_others: false })
    }

    #[test]
    fn greeting_and_request_arrive_together() {
        let server = FakeServer::new(vec![vec![Act::Answer(vec![item("a", None)])]]);
        let items = client(&server).status(vec!["a".into()]).unwrap();
        assert_eq!(items[0].target, "a");
        let seen = server.finish();
        assert_eq!(seen.requests, [Request::Status(vec!["a".into()].into())]);
        assert_eq!(seen.first_reads, [2], "frames in the first read");
    }

    #[test]
    fn one_connection_serves_many_requests() {
        let answer = || Act::Answer(vec![item("a", None)]);
        let server = FakeServer::new(vec![vec![answer(), answer()]]);
        let mut client = client(&server);
        client.status(vec!["a".into()]).unwrap();
        client.status(vec!["a".into()]).unwrap();
        assert_eq!(server.finish().requests.len(), 2);
    }

    #[cfg(feature = "gateway")]
    #[test]
    fn what_was_sent_ahead_is_sent_once_and_again_only_when_the_connection_breaks() {
        let answer = |name| Act::Answer(vec![item(name, None)]);
        let server = FakeServer::new(vec![vec![answer("a"), answer("b"), Act::Hangup], vec![answer("c")]]);
        let mut client = client(&server);
        for name in ["a", "b", "c"] {
            assert!(client.ask_ahead(&Request::Status(vec![name.into()].into())));
            assert_eq!(client.status(vec![name.into()]).unwrap()[0].target, name);
        }
        let asked = server.finish().requests;
        assert_eq!(asked, ["a", "b", "c", "c"].map(|name| Request::Status(vec![name.into()].into())));
    }

    #[cfg(feature = "gateway")]
    #[test]
    fn an_answer_that_nobody_waited_for_is_nobody_elses() {
        let answer = |name| Act::Answer(vec![item(name, None)]);
        let server = FakeServer::new(vec![vec![answer("a")], vec![answer("b")]]);
        let mut client = client(&server);
        assert!(client.ask_ahead(&Request::Status(vec!["a".into()].into())) && client.rest());
        let restart = Request::Restart(vec!["a".into()]);
        assert!(!client.ask_ahead(&restart), "its key is made for all attempts together");
        assert_eq!(client.status(vec!["b".into()]).unwrap()[0].target, "b");
    }

    #[test]
    fn a1_a_broken_request_is_asked_again_and_its_half_answer_dropped() {
        let server = FakeServer::new(vec![
            vec![Act::Partly(vec![item("a", None)])],
            vec![Act::Hangup],
            vec![Act::Answer(vec![item("a", None), item("b", None)])],
        ]);
        let items = client(&server).stop(Stop { targets: vec!["*".into()], ..Stop::default() }).unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(server.finish().requests.len(), 3);
    }

    #[test]
    fn a_restart_is_asked_again_with_the_same_key() {
        let server = FakeServer::new(vec![vec![Act::Hangup], vec![Act::Answer(vec![item("a", None)])]]);
        client(&server).restart(vec!["a".into()]).unwrap();
        let keys = server.finish().keys;
        assert!(keys.len() == 2 && keys[0].is_some() && keys[0] == keys[1], "{keys:?}");
    }

    #[test]
    fn what_is_gone_at_a_repeated_removal_was_removed() {
        let gone = || Some(Error::new(Code::NotFound, "gone"));
        let server = FakeServer::new(vec![vec![Act::Hangup], vec![Act::Answer(vec![item("a", gone())])]]);
        let items = client(&server).remove(Remove { targets: vec!["a".into()], force: false }).unwrap();
        assert_eq!(items[0].error, None);
        server.finish();
        let server = FakeServer::new(vec![vec![Act::Answer(vec![item("a", gone())])]]);
        let items = client(&server).remove(Remove { targets: vec!["a".into()], force: false }).unwrap();
        assert_eq!(items[0].error, gone());
        server.finish();
    }

    #[test]
    fn a_repeated_wait_has_less_time() {
        let server = FakeServer::new(vec![vec![Act::Hangup], vec![Act::Answer(vec![item("a", None)])]]);
        let timeout = Some(std::time::Duration::from_secs(60));
        let wait = Wait { targets: vec!["a".into()], until: Until::Ready, timeout };
        client(&server).wait(wait).unwrap();
        let seen = server.finish().requests;
        let left = |n: usize| if let Request::Wait(wait) = &seen[n] { wait.timeout } else { None };
        assert!(left(1) <= left(0) && left(0) <= timeout, "{seen:?}");
    }

    #[test]
    fn an_error_for_the_whole_request_leaves_the_connection_usable() {
        let refusal = Reply::Error(Error::new(Code::Refused, "no"));
        let server =
            FakeServer::new(vec![vec![Act::Answer(vec![refusal]), Act::Answer(vec![item("a", None)])]]);
        let mut client = client(&server);
        assert_eq!(client.list(List::default()).unwrap_err().code, Code::Refused);
        assert_eq!(client.status(vec!["a".into()]).unwrap().len(), 1);
        server.finish();
    }

    #[test]
    fn the_end_of_the_service_is_told_at_once() {
        let server = FakeServer::new(vec![vec![Act::Hangup]]);
        let mut client = client(&server);
        server.stop_listening();
        assert_eq!(client.status(vec!["a".into()]).unwrap_err().code, Code::Unreachable);
    }
}

//! One run of a provider: from the start of its process to the accepted configuration, and its end. Each
//! step has its own deadline, and a set-up that fails leaves nothing behind.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use crate::client::Client;
use crate::provider::binary;
use crate::provider::calls::{About, Connection};
use crate::provider::cancel::Cancel;
use crate::provider::config;
use crate::provider::failure::{Ending, Failure};
use crate::provider::last_end::{LastEnd, own_end, was_stopped};
use crate::provider::launch::{self, Launch};
use crate::provider::notes::Notes;
use crate::provider::port_owner::Port;
use crate::provider::process::{
    bad_handshake, binary_of, ending, follow, forget, forget_all, forget_ended, name_of, spawn, status,
    until_stopped,
};
use crate::provider::proof::{NotOpen, Proof};
use crate::provider::secrets;
use crate::provider::users::Users;
use crate::sdk::handshake::{Features, PortReader};
use crate::sys::{clock, poll, thread};
use crate::wire::error::Error;
use crate::wire::id::{Name, ProcessId};
use crate::wire::note::{InitState, ProviderNote};
use crate::wire::process::{End, Process};
use crate::wire::provider::{Definition, ProviderName};
use crate::wire::request::Stop;
use crate::wire::time::millis;

/// The first pause before a port that refuses is tried again, ms; each next one is twice as long.
const CONNECT_PAUSE_MS: u64 = 5;
const CONNECT_PAUSE_MAX_MS: u64 = 200;
/// How often a provider that says STARTING is asked again, ms.
const STARTING_PAUSE_MS: u64 = 50;
/// How long a provider has to leave by itself after Shutdown.
const LEAVE_BY_ITSELF: Duration = Duration::from_millis(300);
/// How long the end of a process may take to become known after its connection broke.
const END_BECOMES_KNOWN: Duration = Duration::from_millis(300);

/// The end of what would not end by itself.
const SIGKILL: End = End::Signal(9);

/// How a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HowEnded {
    ByItself,
    Killed,
}

/// What an earlier host has left of a run.
#[derive(Debug)]
pub enum Recovered {
    Run(Box<Run>),
    /// It has ended by itself meanwhile, or before.
    Ended(LastEnd, Failure),
    None,
}

/// Puts the note of a launch on record.
pub(super) type WriteNote<'a> = &'a dyn Fn(&ProviderNote) -> Result<(), Error>;

/// Where providers are run.
#[derive(Clone, Debug)]
pub struct Site {
    /// Of the service.
    pub socket: PathBuf,
    /// Where binaries are executed from.
    pub directories: Vec<PathBuf>,
    pub notes: Notes<ProviderNote>,
}

/// A provider that runs and is initialised.
#[derive(Debug)]
pub struct Run {
    pub process: ProcessId,
    /// Of the process.
    pub number: u64,
    pub pid: u32,
    pub port: u16,
    /// As it was found.
    pub binary: String,
    /// What its process is called.
    pub name: String,
    pub definition: Arc<Definition>,
    /// The calls over it.
    pub users: Users,
    proof: Proof,
    /// None while nobody uses it.
    connection: Mutex<Option<Connection>>,
    about: Mutex<Option<About>>,
    pub cancel: Cancel,
    /// How often it was given its configuration again; locked meanwhile.
    pub(super) initialised_again: Mutex<u64>,
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        (self.process, self.number) == (other.process, other.number)
    }
}

impl Run {
    /// One that somebody else runs, without a connection.
    pub(super) fn of_remote(note: &ProviderNote, definition: Arc<Definition>, cancel: Cancel) -> Self {
        let (process, number) = note.process.unwrap_or_default();
        Self {
            process,
            number,
            pid: 0,
            port: 0,
            binary: definition.what(),
            name: String::new(),
            definition,
            users: Users::default(),
            proof: Proof::default(),
            connection: Mutex::default(),
            about: Mutex::default(),
            cancel,
            initialised_again: Mutex::default(),
        }
    }

    /// The same with this connection, over which this was said.
    pub(super) fn with(self, connection: Connection, about: Option<About>) -> Self {
        Self { connection: Mutex::new(Some(connection)), about: Mutex::new(about), ..self }
    }

    /// Whether somebody else runs it.
    pub fn is_remote(&self) -> bool {
        self.definition.remote.is_some()
    }

    /// The present connection, or a new one to the same process.
    pub fn connection(&self) -> Result<Connection, Failure> {
        self.connect().map(|(connection, _)| connection)
    }

    /// The same, and whether it is a new one.
    pub fn connect(&self) -> Result<(Connection, bool), Failure> {
        if let Some(connection) = &*self.connection.lock() {
            return Ok((connection.clone(), false));
        }
        let (timeout, cancel) = (self.definition.timeouts.health, self.cancel.clone());
        let opened = match &self.definition.remote {
            Some(end) => Connection::remote(end, timeout, cancel).map_err(NotOpen::failure_of_remote)?,
            None => {
                let port = Port { number: self.port, leader: self.pid, id: self.process };
                Connection::open(port, timeout, cancel, &self.proof).map_err(NotOpen::failure)?
            }
        };
        let mut present = self.connection.lock();
        let is_new = present.is_none();
        Ok((present.get_or_insert(opened).clone(), is_new))
    }

    pub fn is_connected(&self) -> bool {
        self.connection.lock().is_some()
    }

    /// Closes the connection when the calls over it have ended; the next call makes a new one.
    pub fn disconnect(&self) {
        let connection = self.connection.lock().take();
        drop(connection);
    }

    /// What it says that it is; asked once.
    pub fn about(&self) -> Result<About, Failure> {
        if let Some(about) = &*self.about.lock() {
            return Ok(about.clone());
        }
        let about = self.connection()?.info(self.definition.timeouts.info)?;
        Ok(self.about.lock().insert(about).clone())
    }

    /// What was asked already.
    pub fn known_about(&self) -> Option<About> {
        self.about.lock().clone()
    }
}

impl Site {
    pub fn client(&self) -> Result<Client, Error> {
        Client::connect(&self.socket)
    }

    /// Starts a process for this definition and brings it to where it can be asked.
    pub fn start(&self, name: &ProviderName, definition: &Arc<Definition>) -> Result<Run, Failure> {
        let write = |note: &ProviderNote| self.notes.write(name, note);
        self.launch(name, definition, (&[name.process(), name.second_process()], &write))
    }

    /// The same under the first of these names, of which none stays another's. The note is written at each
    /// step, before there is something that the next host would have to take back.
    pub(super) fn launch(
        &self,
        name: &ProviderName,
        definition: &Arc<Definition>,
        (names, write): (&[Name], WriteNote<'_>),
    ) -> Result<Run, Failure> {
        if let Some(end) = &definition.remote {
            return self.meet(name, (definition, end), write);
        }
        let path = binary::find(definition, &self.directories)?;
        // Nothing is started that cannot be configured.
        config::given(definition)?;
        let mut client = self.client()?;
        // What has a name is left of a host that died in the middle, or has ended.
        forget_all(&mut client, names)?;
        let id = ProcessId::new();
        let mut note =
            ProviderNote { process: Some((id, 1)), ..ProviderNote::of(Definition::clone(definition)) };
        write(&note)?;
        let launch = Launch::prepare(definition, &self.socket, id)?;
        note.proof = launch.proof.clone();
        let process = spawn(&mut client, names[0].clone(), definition, (&path, id), &launch)?;
        self.set_up(definition, name, &process, (launch, &mut note, write)).map_err(|failure| {
            let is_broken = matches!(failure, Failure::Unavailable { .. } | Failure::NotProven { .. });
            if is_broken || matches!(failure, Failure::NotHealthy { .. }) {
                // Its connection broke: its end may not be known yet.
                let _ = client.wait(until_stopped(&id.to_string(), END_BECOMES_KNOWN));
            }
            let ending = ending(&mut client, &id.to_string(), definition);
            let _ = forget(&mut client, &id.to_string());
            with_ending(failure, ending)
        })
    }

    fn set_up(
        &self,
        definition: &Arc<Definition>,
        name: &ProviderName,
        process: &Process,
        (launch, note, write): (Launch, &mut ProviderNote, WriteNote<'_>),
    ) -> Result<Run, Failure> {
        let timeouts = &definition.timeouts;
        let deadline = clock::now_ms() + millis(timeouts.handshake);
        let (number, features) = self.read_port(process.id, timeouts.handshake)?;
        launch.taken(features)?;
        let proof = Proof::of(&note.proof)?;
        let pid = process.pid.unwrap_or_default();
        let port = Port { number, leader: pid, id: process.id };
        let cancel = Cancel::default();
        let deadline = deadline.max(clock::now_ms() + 1000);
        let connection = connect(port, deadline, (&mut self.client()?, &cancel), &proof)?;
        wait_until_usable(&connection, definition)?;
        let about = check_pins(&connection, definition)?;
        (note.port, note.init) = (Some(number), InitState::Intended);
        write(note)?;
        let config = config::given(definition)?;
        connection.init(name.alias(), &config, &definition.source_file_path, timeouts.init).map_err(
            |failure| match failure {
                // It may repeat what it was given.
                Failure::InitFailed { status, ending } => {
                    Failure::InitFailed { status: secrets::redact(&status, definition), ending }
                }
                other => other,
            },
        )?;
        drop(config);
        note.init = InitState::Done;
        write(note)?;
        Ok(Run {
            process: process.id,
            number: process.run,
            pid,
            port: number,
            binary: binary_of(process),
            name: name_of(process),
            definition: Arc::clone(definition),
            users: Users::default(),
            proof,
            connection: Mutex::new(Some(connection)),
            about: Mutex::new(about),
            cancel,
            initialised_again: Mutex::default(),
        })
    }

    /// The port that the process reports, and what it can.
    fn read_port(&self, id: ProcessId, timeout: Duration) -> Result<(u16, Features), Failure> {
        let mut client = self.client()?;
        let canceller = client.canceller();
        let reader = Arc::new(Mutex::new(PortReader::default()));
        let ((to, from), ours) = (bounded(1), Arc::clone(&reader));
        thread::spawn("handshake", move || drop(to.send(follow(&mut client, id, &ours))))
            .map_err(|e| Error::failed("start a thread", &e))?;
        if let Ok(port) = from.recv_timeout(timeout) {
            return Ok((port?, reader.lock().features()));
        }
        canceller.cancel();
        let mut reader = reader.lock();
        match reader.end().map_err(bad_handshake)? {
            // A line without a newline, which nothing has followed.
            Some(port) => Ok((port, reader.features())),
            None => Err(Failure::HandshakeTimeout { after: timeout, ending: Ending::default() }),
        }
    }

    /// A run that an earlier host has left, if it can be used as it is. What cannot, is ended: nobody would
    /// know what it was given.
    pub fn recover(&self, note: &ProviderNote) -> Recovered {
        if note.definition.remote.is_some() {
            // It is not asked before somebody wants something of it.
            let is_met = note.init == InitState::Done && note.process.is_some();
            let run = || Run::of_remote(note, Arc::new(note.definition.clone()), Cancel::default());
            return if is_met { Recovered::Run(Box::new(run())) } else { Recovered::None };
        }
        let Some((process, number)) = note.process else { return Recovered::None };
        launch::forget(&note.definition, &self.socket, process);
        // Without the service there is none; a start looks again for what has the name.
        let Ok(mut client) = self.client() else { return Recovered::None };
        let target = process.to_string();
        let runs = |p: &Process| p.run == number && !p.state.is_at_rest();
        let found = status(&mut client, &target).ok().filter(|p| runs(p) && note.init == InitState::Done);
        if let Some(run) = found.as_ref().and_then(|found| Self::find_again(note, found)) {
            return Recovered::Run(Box::new(run));
        }
        // It was there a moment ago, and its end may not be known yet.
        if found.is_some() {
            let _ = client.wait(until_stopped(&target, END_BECOMES_KNOWN));
        }
        let ended = Some(()).filter(|()| note.init == InitState::Done);
        let end = ended.and_then(|()| own_end(&mut client, process, number)).map(|(end, at)| {
            let known = ending(&mut client, &target, &note.definition);
            let ending = Ending { exit: end.exit, ..known };
            (LastEnd { process, how: ending.text(), at }, Failure::Crashed { ending })
        });
        let _ = forget(&mut client, &target);
        end.map_or(Recovered::None, |(end, why)| Recovered::Ended(end, why))
    }

    fn find_again(note: &ProviderNote, found: &Process) -> Option<Run> {
        let ((process, number), reported, pid) = (note.process?, note.port?, found.pid?);
        let cancel = Cancel::default();
        let port = Port { number: reported, leader: pid, id: process };
        let (proof, timeout) = (Proof::of(&note.proof).ok()?, note.definition.timeouts.health);
        let connection = Connection::open(port, timeout, cancel.clone(), &proof).ok()?;
        let (_, is_usable) = connection.health(timeout).ok()?;
        is_usable.then(|| Run {
            process,
            number,
            pid,
            port: reported,
            binary: binary_of(found),
            name: name_of(found),
            users: Users::default(),
            definition: Arc::new(note.definition.clone()),
            proof,
            connection: Mutex::new(Some(connection)),
            about: Mutex::default(),
            cancel,
            initialised_again: Mutex::default(),
        })
    }

    /// Whether a definition could be started, as far as that is seen without starting it.
    pub fn check(&self, definition: &Definition) -> Result<(), Failure> {
        if definition.remote.is_some() {
            return Ok(());
        }
        binary::check(definition, &self.directories)
    }

    /// Looks what has become of a run whose connection broke: its end, or none if it goes on; the next call
    /// connects again.
    pub fn look_after(&self, run: &Run) -> Result<Option<Failure>, Failure> {
        if run.is_remote() {
            run.disconnect();
            return Ok(None);
        }
        let mut client = self.client()?;
        let target = run.process.to_string();
        let _ = client.wait(until_stopped(&target, END_BECOMES_KNOWN))?;
        let ended = end_of(&mut client, run);
        if ended.is_none() {
            run.disconnect();
        }
        Ok(ended)
    }

    /// How a run has ended; none: it goes on.
    pub fn end_of(&self, run: &Run) -> Result<Option<Failure>, Failure> {
        if run.is_remote() {
            return Ok(None);
        }
        Ok(end_of(&mut self.client()?, run))
    }

    /// Ends a run: politely, then with SIGTERM to all of it, then with SIGKILL. Its process is forgotten.
    pub fn stop(&self, name: &ProviderName, run: &Run) -> Result<(), Failure> {
        self.stop_by(name, run, u64::MAX).map(drop)
    }

    /// Forgets the process of a run that has ended without being asked to, if the service can be reached: the
    /// next start would.
    pub fn forget_ended(&self, name: &ProviderName) {
        let names = [name.process(), name.second_process()];
        if let Ok(mut client) = self.client() {
            let _ = forget_ended(&mut client, &names);
        }
    }

    /// The same until this time (monotonic ms), even if that is less than the provider's own timeouts.
    pub fn stop_by(&self, name: &ProviderName, run: &Run, deadline_ms: u64) -> Result<HowEnded, Failure> {
        let how = self.end_process(run, deadline_ms)?;
        // What somebody else runs goes on, and keeps its configuration.
        let init = if run.is_remote() { InitState::Done } else { InitState::None };
        let note = ProviderNote { init, ..ProviderNote::of(Definition::clone(&run.definition)) };
        self.notes.write(name, &note).map_err(Failure::Service)?;
        Ok(how)
    }

    /// The same, and the note stays as it is.
    pub(super) fn end_process(&self, run: &Run, deadline_ms: u64) -> Result<HowEnded, Failure> {
        run.cancel.cancel();
        if run.is_remote() {
            run.disconnect();
            return Ok(HowEnded::ByItself);
        }
        let timeouts = &run.definition.timeouts;
        // The second step has its time even if the first took all of its own.
        let at_most = |timeout: Duration| {
            let half_ms = deadline_ms.saturating_sub(clock::now_ms()) / 2;
            timeout.min(Duration::from_millis(half_ms))
        };
        let target = run.process.to_string();
        let mut client = self.client()?;
        if run.connection().is_ok_and(|c| c.shutdown(at_most(timeouts.shutdown)).is_ok()) {
            let _ = client.wait(until_stopped(&target, at_most(LEAVE_BY_ITSELF)))?;
        }
        let timeout = Some(at_most(timeouts.term));
        let stopped = client.stop(Stop { targets: vec![target.clone()], timeout, ..Stop::default() })?;
        let ends = stopped.iter().filter_map(|item| item.process.as_ref()?.exit).map(|exit| exit.end);
        let is_killed = ends.into_iter().any(|end| end == SIGKILL);
        forget(&mut client, &target)?;
        Ok(if is_killed { HowEnded::Killed } else { HowEnded::ByItself })
    }

    /// Ends the process of a provider at once, also of one that is being started.
    pub fn kill(&self, name: &ProviderName) -> Result<(), Failure> {
        let stop = Stop {
            targets: vec![name.process().to_string()],
            timeout: Some(Duration::ZERO),
            ..Stop::default()
        };
        self.client()?.stop(stop).map(drop).map_err(Failure::Service)
    }
}

/// Connects, again and again while the port refuses: the line may come before the listener. Not to one that
/// has ended.
fn connect(
    port: Port,
    deadline: u64,
    (client, cancel): (&mut Client, &Cancel),
    proof: &Proof,
) -> Result<Connection, Failure> {
    let mut pause = CONNECT_PAUSE_MS;
    loop {
        let left = Duration::from_millis(deadline.saturating_sub(clock::now_ms()).max(1));
        let failed = match Connection::open(port, left, cancel.clone(), proof) {
            Ok(connection) => return Ok(connection),
            Err(NotOpen::Unreachable(e)) => e,
            Err(NotOpen::Taken(why)) => return Err(Failure::BadHandshake { why, line: Vec::new() }),
            Err(NotOpen::Late(after)) => {
                let why = format!("it has not proven who it is within {} s", after.as_secs_f32());
                return Err(Failure::NotHealthy { why, ending: Ending::default() });
            }
            Err(why @ (NotOpen::Unproven(_) | NotOpen::BadFiles(_))) => return Err(why.failure()),
        };
        match failed {
            // What is not permitted now will not be in a moment.
            e if e.kind() != ErrorKind::ConnectionRefused || clock::now_ms() >= deadline => {
                let why = format!("nothing can be reached on port {}: {e}", port.number);
                return Err(Failure::NotHealthy { why, ending: Ending::default() });
            }
            e => {
                let left = Duration::from_millis(pause.min(deadline.saturating_sub(clock::now_ms())));
                let items = client.wait(until_stopped(&port.id.to_string(), left))?;
                if items.iter().all(|item| item.error.is_none()) {
                    return Err(Failure::Unavailable { message: e.to_string() });
                }
                pause = (pause * 2).min(CONNECT_PAUSE_MAX_MS);
            }
        }
    }
}

/// Asks Health until it no longer says STARTING.
pub(super) fn wait_until_usable(connection: &Connection, definition: &Definition) -> Result<(), Failure> {
    let timeouts = &definition.timeouts;
    let deadline = clock::now_ms() + millis(timeouts.starting);
    loop {
        let (health, is_usable) = connection
            .health(timeouts.health)
            .map_err(|failure| Failure::NotHealthy { why: failure.message(), ending: Ending::default() })?;
        if is_usable {
            return Ok(());
        }
        if clock::now_ms() >= deadline {
            let why =
                format!("it says 'starting' after {} s: {}", timeouts.starting.as_secs(), health.message);
            return Err(Failure::NotHealthy { why, ending: Ending::default() });
        }
        let _ = poll::wait(&mut [], Some(clock::now_ms() + STARTING_PAUSE_MS));
    }
}

/// Compares the pins with what the provider says; asks it only where there are some.
pub(super) fn check_pins(connection: &Connection, definition: &Definition) -> Result<Option<About>, Failure> {
    if definition.pin_type.is_none() && definition.pin_version.is_none() {
        return Ok(None);
    }
    let about = connection.info(definition.timeouts.info)?;
    for (what, wanted, found) in
        [("type", &definition.pin_type, &about.kind), ("version", &definition.pin_version, &about.version)]
    {
        if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != found) {
            return Err(Failure::PinMismatch { what, wanted: wanted.clone(), found: found.clone() });
        }
    }
    Ok(Some(about))
}

fn with_ending(failure: Failure, known: Ending) -> Failure {
    match failure {
        Failure::HandshakeTimeout { after, .. } => Failure::HandshakeTimeout { after, ending: known },
        Failure::ExitedEarly { .. } => Failure::ExitedEarly { ending: known },
        Failure::NotHealthy { .. } | Failure::NotProven { .. } | Failure::Unavailable { .. }
            if known.exit.is_some() =>
        {
            Failure::Crashed { ending: known }
        }
        Failure::NotHealthy { why, .. } => Failure::NotHealthy { why, ending: known },
        Failure::InitFailed { status, .. } => Failure::InitFailed { status, ending: known },
        other => other,
    }
}

/// `Crashed`, or `ShutDown` where somebody has stopped its process; none: it goes on.
fn end_of(client: &mut Client, run: &Run) -> Option<Failure> {
    let target = run.process.to_string();
    let found = status(client, &target).ok();
    let lives = found.as_ref().is_some_and(|p| p.run == run.number && p.pid == Some(run.pid));
    (!lives).then(|| match was_stopped(client, run.process, run.number) {
        true => Failure::ShutDown,
        false => Failure::Crashed { ending: ending(client, &target, &run.definition) },
    })
}

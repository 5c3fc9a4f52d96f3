//! The process of a provider, as the service keeps it: how it is started and listened to, how it has ended,
//! and how it is forgotten.

use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;

use crate::client::{Client, StreamItem};
use crate::provider::failure::{Ending, Failure};
use crate::provider::launch::Launch;
use crate::provider::secrets;
use crate::sdk::handshake::{BadLine, PortReader};
use crate::wire::error::{Code, EXECUTABLE_MISMATCH, EXECUTABLE_NOT_GUARDED, Error};
use crate::wire::id::{Name, ProcessId};
use crate::wire::process::Process;
use crate::wire::provider::{Definition, ProviderEnvironment};
use crate::wire::reply::Item;
use crate::wire::request::{Numbering, Output, Remove, Since, Start, Stream, StreamKind, Until, Wait};
use crate::wire::spec::{EnvBase, Spec};

/// Bytes of output that are kept of a provider.
const OUTPUT_BYTES: u64 = 256 << 10;
/// How much of its standard error an error carries, in bytes and in lines.
const STDERR_LEN_MAX: usize = 2 << 10;
const STDERR_LINES_MAX: usize = 64;

/// Starts the process, as a managed one.
pub fn spawn(
    client: &mut Client,
    name: Name,
    definition: &Definition,
    (path, id): (&Path, ProcessId),
    launch: &Launch,
) -> Result<Process, Failure> {
    let path =
        path.to_str().ok_or_else(|| Failure::InvalidPath { message: "the path is not text".into() })?;
    let mut spec = Spec::new([path]);
    spec.name = Some(name);
    spec.autostart = Some(false);
    spec.no_new_privs = true;
    // Compared by who executes it, and what was compared is executed.
    spec.executable_sha256.clone_from(&definition.sha256);
    spec.rlimits.clone_from(&definition.limits);
    spec.landlock.clone_from(&definition.landlock);
    spec.output_bytes = OUTPUT_BYTES;
    spec.stop.timeout = definition.timeouts.term;
    spec.cwd.clone_from(&definition.cwd);
    spec.user.clone_from(&definition.user);
    spec.group.clone_from(&definition.group);
    match &definition.environment {
        ProviderEnvironment::Inherit => {}
        ProviderEnvironment::Clear => spec.env_base = EnvBase::Empty,
        ProviderEnvironment::Allow(names) => {
            spec.env_base = EnvBase::Empty;
            let named = names.iter().filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)));
            spec.env.extend(named);
        }
    }
    launch.add_to(&mut spec);
    let start = Start { spec, ids: vec![id], numbering: Numbering::Single };
    let item = client.start(start).map_err(|e| not_started(e, path, Failure::Service))?;
    let started = item.into_iter().next().map(|item| match item {
        Item { error: None, process: Some(process), .. } => Ok(process),
        Item { error: Some(e), .. } => Err(not_started(e, path, |e| Failure::NotStarted { why: e.message })),
        Item { .. } => Err(Failure::NotStarted { why: "it is not there".into() }),
    });
    started.unwrap_or_else(|| Err(Failure::NotStarted { why: "the service did not say".into() }))
}

/// Why a process could not be started.
fn not_started(e: Error, path: &str, otherwise: impl Fn(Error) -> Failure) -> Failure {
    match e.reason.as_str() {
        EXECUTABLE_MISMATCH | EXECUTABLE_NOT_GUARDED => Failure::NotTheExecutable(e),
        _ if matches!(e.code, Code::CannotExecute | Code::ProgramNotFound) => {
            Failure::NotExecutable { path: path.to_owned(), why: e.message }
        }
        _ => otherwise(e),
    }
}

/// Reads standard output until the port is there, or the process has ended.
pub fn follow(client: &mut Client, id: ProcessId, reader: &Mutex<PortReader>) -> Result<u16, Failure> {
    let stream = Stream { targets: vec![id.to_string()], kind: StreamKind::Stdout, since: Since::Start };
    for item in client.stream(stream)? {
        match item? {
            StreamItem::Chunk(chunk) => {
                if let Some(port) = reader.lock().feed(&chunk.data).map_err(bad_handshake)? {
                    return Ok(port);
                }
            }
            // What came too fast to be read was no handshake that anybody waits for.
            StreamItem::Gap(_) => *reader.lock() = PortReader::default(),
            StreamItem::Ended(_) => break,
        }
    }
    Err(Failure::ExitedEarly { ending: Ending::default() })
}

pub fn bad_handshake(bad: BadLine) -> Failure {
    Failure::BadHandshake { why: bad.why.to_owned(), line: bad.line }
}

/// Waits for the end of a process, so long at most.
pub fn until_stopped(target: &str, timeout: Duration) -> Wait {
    Wait { targets: vec![target.to_owned()], until: Until::Stopped, timeout: Some(timeout) }
}

/// Removes what has one of these names, as far as it is there.
pub fn forget_all(client: &mut Client, names: &[Name]) -> Result<(), Failure> {
    let targets = names.iter().map(ToString::to_string).collect();
    let found = client.status(targets)?.into_iter().filter_map(|item| item.process);
    found.map(|process| process.id.to_string()).try_for_each(|target| forget(client, &target))
}

/// The same of those that have run and rest, and of no other.
pub fn forget_ended(client: &mut Client, names: &[Name]) -> Result<(), Failure> {
    let targets = names.iter().map(ToString::to_string).collect();
    let found = client.status(targets)?.into_iter().filter_map(|item| item.process);
    let ended = found.filter(|process| process.run > 0 && process.state.is_at_rest());
    ended.map(|process| process.id.to_string()).try_for_each(|target| forget(client, &target))
}

/// Removes a process, stopping it where it runs. None is none to remove.
pub fn forget(client: &mut Client, target: &str) -> Result<(), Failure> {
    if status(client, target).is_err_and(|e| e.code == Code::NotFound) {
        return Ok(());
    }
    let items = client.remove(Remove { targets: vec![target.to_owned()], force: true })?;
    let error = items.into_iter().find_map(|item| item.error).filter(|e| e.code != Code::NotFound);
    error.map_or(Ok(()), |e| Err(Failure::Service(e)))
}

pub fn status(client: &mut Client, target: &str) -> Result<Process, Error> {
    let items = client.status(vec![target.to_owned()])?;
    let none = || Error::new(Code::NotFound, "the process is not there");
    items.into_iter().find_map(|item| item.process).ok_or_else(none)
}

/// How a process ended, if it did, and the end of what it has said on standard error.
pub fn ending(client: &mut Client, target: &str, definition: &Definition) -> Ending {
    let exit = status(client, target).ok().filter(|p| p.pid.is_none()).and_then(|p| p.exit);
    let output = client.output(Output { target: target.to_owned(), kind: StreamKind::Stderr });
    let bytes: Vec<u8> = output.unwrap_or_default().iter().flat_map(|chunk| chunk.data.to_vec()).collect();
    let text = secrets::tail(&bytes, 0, STDERR_LEN_MAX, definition);
    let lines: Vec<_> = text.lines().collect();
    let stderr = lines[lines.len().saturating_sub(STDERR_LINES_MAX)..].join("\n");
    Ending { exit, stderr, shown: definition.stderr }
}

/// What its process is called.
pub fn name_of(process: &Process) -> String {
    process.name.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// What its process executes.
pub fn binary_of(process: &Process) -> String {
    process.command.first().cloned().unwrap_or_default()
}

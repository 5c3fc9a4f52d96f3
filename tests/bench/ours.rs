//! The Provost that is measured: a service in the run's directory, by its command line and by its client
//! library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use provost::Client;
use provost::Spec;
use provost::sys::pidfd::PidFd;
use provost::wire::id::ProcessId;
use provost::wire::process::Process;
use provost::wire::reply::Item;
use provost::wire::request::{List, Numbering, Remove, Start};

use crate::rivals::SERVICE;
use crate::sample::{Outcome, until};
use crate::sweep::{MARK, in_memory};

/// The binary that is measured: `make bench` links it statically, as it is given out.
pub const BINARY: &str = env!("CARGO_BIN_EXE_provost");
/// How long the service may take to be there.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// A running service.
pub struct Provost {
    keeper: Child,
    socket: String,
    pub client: Client,
}

impl Provost {
    /// Starts a service with its database in `dir`, and its socket in memory.
    pub fn serve(dir: &Path) -> Outcome<Self> {
        Self::serve_with(dir, &[])
    }

    /// The same with more options, of which the last one counts.
    pub fn serve_with(dir: &Path, options: &[&str]) -> Outcome<Self> {
        let beside = in_memory(dir);
        let beside = if fs::create_dir_all(&beside).is_ok() { &beside } else { dir };
        let text = |path: PathBuf| path.to_str().map(str::to_owned).ok_or("a path is not text");
        let (socket, state) = (text(beside.join("engine.sock"))?, text(dir.join("engine.sock.state"))?);
        let mut keeper = Command::new(BINARY)
            .args(["serve", "--socket", &socket, "--state", &state])
            .args(options)
            .env(MARK, dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("serve.log"))?)
            .spawn()?;
        let connect = || Client::connect(socket.as_ref());
        let client = match until("the service answers", READY_LIMIT, || connect().is_ok()) {
            Ok(_) => connect()?,
            Err(e) => {
                keeper.kill()?;
                let log = fs::read_to_string(dir.join("serve.log"))?;
                return Err(format!("{e}: {log}").into());
            }
        };
        Ok(Self { keeper, socket, client })
    }

    /// Version, size, and how it keeps trees.
    pub fn describe(&mut self) -> Outcome<String> {
        let service = self.client.service()?;
        let kib = fs::metadata(BINARY)?.len() >> 10;
        let cgroups = if service.cgroups { "with" } else { "without" };
        Ok(format!("provost {}, {kib} KiB, {cgroups} cgroups", service.version))
    }

    /// Keeper and engine.
    pub fn pids(&mut self) -> Outcome<Vec<u32>> {
        Ok(vec![self.keeper.id(), self.client.service()?.engine_pid])
    }

    /// The path of its socket.
    pub fn socket(&self) -> &str {
        &self.socket
    }

    /// A command line for a script.
    pub fn line(&self, args: &str) -> String {
        format!("{BINARY} --socket {} {args}", self.socket)
    }

    /// Runs a command to its end. It must succeed.
    pub fn run(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new(BINARY);
        command.args(["--socket", &self.socket]).args(args).stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status()?;
        if status.success() { Ok(()) } else { Err(format!("{status}: provost {}", args.join(" ")).into()) }
    }

    /// Sees to it that this many services run, s-1 and so on.
    pub fn fill(&mut self, count: u32) -> Outcome {
        let pattern = Some("s-*".to_owned());
        let have =
            u32::try_from(self.client.list(List { pattern, all: false, ..Default::default() })?.len())?;
        if have < count {
            // Names are numbered from 1, so more of them are others.
            let name = if have == 0 { "s" } else { "more" };
            let count = (count - have).to_string();
            self.run(&[&["start", "--name", name, "--instances", &count, "--"], &SERVICE[..]].concat())?;
        }
        Ok(())
    }

    /// Another connection.
    pub fn connect(&self) -> Outcome<Client> {
        Ok(Client::connect(self.socket.as_ref())?)
    }

    /// Starts one process by the library.
    pub fn start_one(&mut self, spec: Spec) -> Outcome<Process> {
        start_one(&mut self.client, spec)
    }

    /// Stops and forgets one process.
    pub fn remove(&mut self, target: &str) -> Outcome {
        self.client.remove(Remove { targets: vec![target.to_owned()], force: true })?;
        Ok(())
    }

    /// Ends the service in order.
    pub fn end(mut self) -> Outcome {
        PidFd::open(self.keeper.id())?.signal(15)?;
        let status = self.keeper.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the service ended with {status}").into()) }
    }
}

/// Starts one process over this connection. It must be recorded.
pub fn start_one(client: &mut Client, spec: Spec) -> Outcome<Process> {
    let start = Start { spec, ids: vec![ProcessId::new()], numbering: Numbering::Single };
    let items = client.start(start)?;
    match items.iter().find_map(|item| item.unrecorded.clone()) {
        Some(why) => Err(format!("not recorded: {why}").into()),
        None => only(items),
    }
}

/// The process of the only item of an answer.
pub fn only(items: Vec<Item>) -> Outcome<Process> {
    let item = items.into_iter().next().ok_or("an answer without an item")?;
    match (item.error, item.process) {
        (Some(e), _) => Err(e.message.into()),
        (None, process) => process.ok_or_else(|| "an answer without a process".into()),
    }
}

//! A service for tests: a thread that listens on a socket of its own and plays a script, one list of acts for
//! each connection. It records the requests that it receives.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::{fs, thread};

use tempfile::TempDir;

use crate::client::connection::Address;
use crate::client::session::Session;
use crate::wire::envelope::Envelope;
use crate::wire::frame::{self, Frames};
use crate::wire::id::{OrderKey, ProcessId};
use crate::wire::process::{Process, State};
use crate::wire::reply::{More, Reply};
use crate::wire::request::{Hello, Request};
use crate::wire::spec::RestartPolicy;
use crate::wire::time::Timestamp;

/// What the server does with one request.
pub(crate) enum Act {
    /// Answers with these, the last one marked.
    Answer(Vec<Reply>),
    /// Answers with these, then breaks the connection.
    Partly(Vec<Reply>),
    /// Breaks the connection without a word.
    Hangup,
}

/// What the server saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: Vec<Request>,
    /// The keys that they came with.
    pub(super) keys: Vec<Option<OrderKey>>,
    /// Whole frames in the first read of each connection.
    pub(super) first_reads: Vec<usize>,
}

pub(crate) struct FakeServer {
    dir: TempDir,
    thread: JoinHandle<Seen>,
}

impl FakeServer {
    pub(crate) fn new(script: Vec<Vec<Act>>) -> Self {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let thread = thread::spawn(move || play(&listener, script));
        Self { dir, thread }
    }

    pub(super) fn session(&self) -> Session {
        Session::open(&Address::socket(self.path())).unwrap()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// Takes the socket away; connections that exist go on.
    pub(super) fn stop_listening(&self) {
        fs::remove_file(self.path()).unwrap();
    }

    /// Waits for the end of the script.
    pub(crate) fn finish(self) -> Seen {
        self.thread.join().unwrap()
    }
}

fn play(listener: &UnixListener, script: Vec<Vec<Act>>) -> Seen {
    let mut seen = Seen::default();
    for acts in script {
        let (socket, _) = listener.accept().unwrap();
        serve(socket, acts, &mut seen);
    }
    seen
}

fn serve(mut socket: UnixStream, acts: Vec<Act>, seen: &mut Seen) {
    let mut inbox = Inbox { socket: socket.try_clone().unwrap(), frames: Frames::new(), reads: Vec::new() };
    assert!(Hello::decode(&inbox.next()).is_ok());
    let mut out = Vec::new();
    frame::put(&mut out, &Hello::ours().encode()).unwrap();
    // A client that has rested meanwhile is gone.
    if socket.write_all(&out).is_err() {
        return;
    }
    for act in acts {
        let envelope = Envelope::decode(&inbox.next()).unwrap();
        seen.requests.push(envelope.request);
        seen.keys.push(envelope.key);
        let (replies, last) = match act {
            Act::Answer(replies) => (replies, true),
            Act::Partly(replies) => (replies, false),
            Act::Hangup => break,
        };
        let count = replies.len();
        for (n, reply) in replies.into_iter().enumerate() {
            let more = if last && n + 1 == count { More::Last } else { More::Follows };
            let mut out = Vec::new();
            frame::put(&mut out, &reply.encode(more)).unwrap();
            socket.write_all(&out).unwrap();
        }
        if !last {
            break;
        }
    }
    seen.first_reads.push(inbox.reads[0]);
}

struct Inbox {
    socket: UnixStream,
    frames: Frames,
    /// Whole frames that each read brought.
    reads: Vec<usize>,
}

impl Inbox {
    fn next(&mut self) -> Vec<u8> {
        loop {
            if let Some(payload) = self.frames.take().unwrap() {
                return payload.to_vec();
            }
            let mut buf = [0; 65536];
            let n = self.socket.read(&mut buf).unwrap();
            assert!(n > 0, "the client closed the connection");
            self.frames.feed(&buf[..n]);
            let mut count = Frames::new();
            count.feed(&buf[..n]);
            self.reads.push(std::iter::from_fn(|| count.take().unwrap().map(|_| ())).count());
        }
    }
}

/// A running process whose id follows from its name, with output from byte 0 to byte 100.
pub(crate) fn process(name: &str) -> Process {
    let mut id = [0; 16];
    id[..name.len().min(16)].copy_from_slice(&name.as_bytes()[..name.len().min(16)]);
    Process {
        id: ProcessId::from_bytes(id),
        name: name.parse().ok(),
        instance: None,
        run: 1,
        state: State::Running,
        ready: true,
        pid: Some(1),
        restarts: 0,
        created_at: Timestamp(1),
        started_at: Some(Timestamp(1)),
        stopped_at: None,
        exit: None,
        start_failure: None,
        command: vec!["true".into()],
        attempts: 0,
        window_restarts: 0,
        max_restarts: Some(10),
        next_attempt_at: None,
        kill_at: None,
        cause: String::new(),
        restart: RestartPolicy::Never,
        output_start: 0,
        output_end: 100,
        stuck: false,
        halted: false,
        usage: None,
        labels: Vec::new(),
        cwd: "/".into(),
        user: None,
        internal: false,
        outdated: false,
        unfit: String::new(),
        status: String::new(),
        waits_for: String::new(),
        hook: String::new(),
        limits: Box::default(),
        limits_trouble: String::new(),
        is_blocked: false,
        run_output_start: 0,
        stop_signal: 0,
        stop_asked_at: None,
        log_trouble: String::new(),
        log_lost: 0,
        log_files: Vec::new(),
        next_run_at: None,
        schedule: std::sync::Arc::default(),
    }
}

//! Commands: run to their end within a deadline, or in the background with their output at hand.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, unbounded};
use parking_lot::Mutex;
use serde_json::Value;

use crate::harness::{SOON, procfs, wait};

/// How a command ended, and what it said.
#[derive(Clone)]
pub struct Output {
    /// The exit code, or 128 and the signal.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// How long it took.
    pub took: Duration,
}

impl Output {
    /// Standard output as text, without white space at its end.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Standard error as text, without white space at its end.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim_end().to_owned()
    }

    /// Fails the test unless the command ended with this code.
    #[track_caller]
    pub fn expect(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "exit code\n{self:?}");
        self
    }

    /// The JSON objects on standard output, one of each line.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let text = self.out();
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON: {line:?}: {e}\n{self:?}"));
        text.lines().map(parse).collect()
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cut = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4000)]).into_owned();
            if bytes.len() > 4000 { format!("{text}... ({} bytes)", bytes.len()) } else { text }
        };
        writeln!(f, "code {} after {:?}", self.code, self.took)?;
        write!(f, "--- stdout\n{}\n--- stderr\n{}\n---", cut(&self.stdout), cut(&self.stderr))
    }
}

pub fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Runs a command to its end. One that takes longer than `limit` is killed and fails the test.
#[track_caller]
pub fn run(mut command: Command, limit: Duration) -> Output {
    let begin = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let what = format!("{command:?}");
    let child = command.spawn().unwrap_or_else(|e| panic!("cannot run {what}: {e}"));
    let pid = child.id();
    let (done, ended) = bounded(1);
    thread::spawn(move || {
        let _ = done.send(child.wait_with_output());
    });
    match ended.recv_timeout(limit) {
        Ok(output) => {
            let output = output.expect("its pipes can be read");
            let (stdout, stderr) = (output.stdout, output.stderr);
            Output { code: code_of(output.status), stdout, stderr, took: begin.elapsed() }
        }
        Err(_) => {
            procfs::signal("KILL", pid);
            panic!("not done after {limit:?}: {what}");
        }
    }
}

/// What has `env` give a program the signal as by default.
const INTERRUPTIBLE: &str = "--default-signal=INT";

/// The same command, which SIGINT ends also where these tests ignore it, as a job in the background of a
/// script does: programs are handed that on.
fn interruptible(command: &Command) -> Command {
    let mut same = Command::new("env");
    same.arg(INTERRUPTIBLE).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => same.env(key, value),
            None => same.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        same.current_dir(dir);
    }
    same
}

/// A command in the background. Killed when dropped.
pub struct Running {
    what: String,
    pid: u32,
    lines: Receiver<String>,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    ended: Receiver<ExitStatus>,
    begin: Instant,
    reaped: bool,
}

impl Running {
    /// Starts it. Its lines of standard output can be waited for, and everything it wrote is kept.
    #[track_caller]
    pub fn new(command: Command) -> Self {
        let mut command = interruptible(&command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run {what}: {e}"));
        let (tell_line, lines) = unbounded();
        let (tell_end, ended) = bounded(1);
        let stdout = Arc::new(Mutex::new(Vec::new()));
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let pid = child.id();
        let out_pipe = child.stdout.take().expect("stdout is a pipe");
        let err_pipe = child.stderr.take().expect("stderr is a pipe");
        let (out_kept, err_kept) = (Arc::clone(&stdout), Arc::clone(&stderr));
        let out_reader = thread::spawn(move || {
            let mut reader = BufReader::new(out_pipe);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                out_kept.lock().extend_from_slice(&line);
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                let _ = tell_line.send(text);
                line.clear();
            }
        });
        let err_reader = thread::spawn(move || keep_all(err_pipe, &err_kept));
        thread::spawn(move || {
            // Its output first, so that an ended command has everything in place.
            let _ = (out_reader.join(), err_reader.join());
            let status = Child::wait(&mut child).expect("it is our child");
            let _ = tell_end.send(status);
        });
        Self { what, pid, lines, stdout, stderr, ended, begin: Instant::now(), reaped: false }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The next line of its standard output; none when it ended.
    #[track_caller]
    pub fn line(&self, limit: Duration) -> Option<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("no line within {limit:?} from {}\n{}", self.what, self.stderr_text())
            }
        }
    }

    /// Reads lines until one holds this text, and returns it.
    #[track_caller]
    pub fn line_with(&self, text: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.line(left) {
                Some(line) if line.contains(text) => return line,
                Some(_) => {}
                None => panic!("{} ended without a line with {text:?}\n{}", self.what, self.stderr_text()),
            }
        }
    }

    /// How many bytes of standard output have come.
    pub fn stdout_len(&self) -> usize {
        self.stdout.lock().len()
    }

    /// What has come on standard output so far.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout.lock()).into_owned()
    }

    /// What has come on standard error so far.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock()).into_owned()
    }

    /// Sends it a signal, once it is the program and no more what makes it interruptible: that may ignore
    /// one.
    #[track_caller]
    pub fn signal(&self, signal: &str) {
        wait::until("it is executed", SOON, || {
            // It has no command line in the middle of an exec, which may be that of `env`.
            let command = procfs::command(self.pid);
            !self.is_running() || !command.is_empty() && !command.contains(INTERRUPTIBLE)
        });
        procfs::signal(signal, self.pid);
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.ended.is_empty()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self, limit: Duration) -> Output {
        let Ok(status) = self.ended.recv_timeout(limit) else {
            panic!("not ended after {limit:?}: {}\n{}", self.what, self.stderr_text());
        };
        self.reaped = true;
        let (stdout, stderr) =
            (std::mem::take(&mut *self.stdout.lock()), std::mem::take(&mut *self.stderr.lock()));
        Output { code: code_of(status), stdout, stderr, took: self.begin.elapsed() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped && self.ended.is_empty() {
            procfs::signal("KILL", self.pid);
        }
    }
}

fn keep_all(mut pipe: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 4096];
    while let Ok(n) = pipe.read(&mut chunk) {
        if n == 0 {
            return;
        }
        kept.lock().extend_from_slice(&chunk[..n]);
    }
}

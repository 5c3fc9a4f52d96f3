//! Standard output and standard error. Output is gathered and written at once at the end, or when a stream
//! says so; when its reader has gone, the rest is dropped in silence, as a program in a pipe is expected to
//! end.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "gateway")]
use serde_json::Value;

use crate::cli::text;
use crate::sys::closed::is_stdout_closed;
use crate::sys::errno::EBADF;
use crate::sys::pipe::write_at_once;
use crate::sys::poll::{self, PollFd};
use crate::sys::terminal;
use crate::sys::terminal::Size;
use crate::sys::thread;
use crate::wire::error::Error;

/// Gathered output is written when it has come to so many bytes.
const GATHER_LEN: usize = 256 << 10;
/// The longest line of a log, in bytes: what Linux writes into a pipe in one piece (PIPE_BUF).
const LOG_LINE_LEN_MAX: usize = 4096;

/// From now on the program ends, with success, when the reader of standard output has gone: for what may have
/// nothing to write for long, and would not notice.
pub fn end_with_reader() -> Result<(), Error> {
    let watch = || {
        let out = io::stdout();
        let mut fds = [PollFd::unread(out.as_fd())];
        while !fds[0].is_hung_up() {
            if poll::wait(&mut fds, None).is_err() {
                return;
            }
        }
        process::exit(0);
    };
    let begun = thread::spawn("reader", watch);
    begun.map(drop).map_err(|e| Error::failed("wait for the reader", &text::cause(&e)))
}

pub struct Out {
    gathered: Vec<u8>,
    failure: Option<io::Error>,
}

impl Out {
    pub fn new() -> Self {
        Self { gathered: Vec::new(), failure: None }
    }

    /// Whether standard output is a terminal.
    pub fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// How much the terminal shows; none if it is none, or does not know.
    pub fn size(&self) -> Option<Size> {
        terminal::size(io::stdout().as_fd())
    }

    /// Takes in one line.
    pub fn line(&mut self, line: &str) {
        self.bytes(line.as_bytes());
        self.bytes(b"\n");
    }

    /// Takes in bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.failure.is_none() {
            self.gathered.extend_from_slice(bytes);
            if self.gathered.len() >= GATHER_LEN {
                self.flush();
            }
        }
    }

    /// Writes what was gathered.
    pub fn flush(&mut self) {
        let mut gathered = std::mem::take(&mut self.gathered);
        self.put(&gathered);
        gathered.clear();
        self.gathered = gathered;
    }

    /// Writes bytes at once.
    pub fn write(&mut self, bytes: &[u8]) {
        self.flush();
        self.put(bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        if is_stdout_closed() && !bytes.is_empty() {
            // The runtime has put something in its place that takes everything.
            self.failure = Some(io::Error::from_raw_os_error(EBADF));
        }
        if self.failure.is_none() && !bytes.is_empty() {
            let mut stdout = io::stdout().lock();
            self.failure = stdout.write_all(bytes).and_then(|()| stdout.flush()).err();
        }
    }

    /// Whether a write has failed, so that any other is dropped.
    pub fn is_broken(&self) -> bool {
        self.failure.is_some()
    }

    /// Writes the rest. That the reader has gone is no error.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.flush();
        match &self.failure {
            Some(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::failed("write to standard output", &text::cause(e)))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A value of JSON: indented on a terminal, on one line else.
#[cfg(feature = "gateway")]
pub fn value(out: &mut Out, is_json: bool, value: &Value) {
    if out.is_terminal() && !is_json {
        out.line(&format!("{value:#}"));
    } else {
        out.line(&value.to_string());
    }
}

/// A table on a terminal; else a line for each row, its fields set apart by tabs, without the header.
pub fn table<const N: usize>(out: &mut Out, header: [&str; N], rows: Vec<[String; N]>) {
    if out.is_terminal() {
        let all: Vec<_> = [header.map(str::to_owned)].into_iter().chain(rows).collect();
        text::columns(&all).iter().for_each(|line| out.line(line));
    } else {
        rows.iter().for_each(|row| out.line(&row.join("\t")));
    }
}

/// Tells what went wrong, and the next step.
pub fn complain(e: &Error) {
    let mut text = format!("provost: {}\n", text::escaped(&e.message));
    e.marked().lines().for_each(|line| text.push_str(&format!("provost: {}\n", text::escaped(line))));
    if !e.hint.is_empty() {
        text.push_str(&format!("provost: hint: {}\n", text::escaped(&e.hint)));
    }
    to_stderr(text.as_bytes());
}

/// A line of a program that others depend on: it is dropped where nobody reads the log, and never waited for.
/// How many were dropped is said when somebody reads again.
pub fn log(message: &str) {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    let line = format!("provost: {}\n", text::escaped(message));
    let dropped = DROPPED.load(Ordering::Relaxed);
    let said = match dropped {
        0 => line,
        n => format!("provost: {n} lines were dropped, since nobody read the log\n{line}"),
    };
    // What is no longer than this goes into a pipe in one piece.
    let bytes = &said.as_bytes()[..said.len().min(LOG_LINE_LEN_MAX)];
    let is_full =
        write_at_once(io::stderr().as_fd(), bytes).is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
    if is_full {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    } else {
        DROPPED.fetch_sub(dropped, Ordering::Relaxed);
    }
}

/// Tells something that is no failure.
pub fn notice(message: &str) {
    to_stderr(format!("provost: {}\n", text::escaped(message)).as_bytes());
}

/// Writes to standard error in one piece, so that lines of several programs do not mix. That it cannot be
/// written is not reported: there is no other place for it.
pub fn to_stderr(bytes: &[u8]) {
    let _ = pass_to_stderr(bytes);
}

/// The same for what a program wrote, which may care.
pub fn pass_to_stderr(bytes: &[u8]) -> io::Result<()> {
    io::stderr().lock().write_all(bytes)
}

//! What this program does when it is run as a part of a measurement.

use std::env;
use std::io::{Read, Write, stdout};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::id;
use std::thread;
use std::time::{Duration, Instant};

use crate::sample::Outcome;

/// Bytes of a question and an answer of [`echo`]: what a status request and its reply have, about.
pub const QUESTION_LEN: usize = 32;
pub const ANSWER_LEN: usize = 256;
/// The length of a line that the writer writes, with its end.
const LINE_LEN: usize = 128;

/// This program, as text for a command line.
pub fn our_path() -> Outcome<String> {
    Ok(env::current_exe()?.to_str().ok_or("the path of this program is not text")?.to_owned())
}

/// Writes lines to standard output in blocks, and then reports how many nanoseconds that took: what the
/// reader can not hide, since a pipe holds little.
pub fn write(report: &str, block: &str, total: &str) -> Outcome {
    let (block_len, total): (usize, u64) = (block.parse()?, total.parse()?);
    let mut block = vec![b'.'; block_len];
    block.iter_mut().skip(LINE_LEN - 1).step_by(LINE_LEN).for_each(|byte| *byte = b'\n');
    let mut out = stdout().lock();
    let begin = Instant::now();
    for _ in 0..total / block_len as u64 {
        // A whole block has no line that is left over, so standard output's own buffer is passed by.
        out.write_all(&block)?;
    }
    out.flush()?;
    let took = begin.elapsed().as_nanos();
    UnixDatagram::unbound()?.send_to(format!("write {took}").as_bytes(), report)?;
    Ok(())
}

/// Tells that it was started, and stays.
pub fn tell(report: &str, tag: &str) -> Outcome {
    UnixDatagram::unbound()?.send_to(format!("{tag} {}", id()).as_bytes(), report)?;
    loop {
        thread::park();
    }
}

/// Answers every question: the least that a request and its reply over a unix socket can cost.
pub fn echo(socket: &str) -> Outcome {
    let (mut connection, _) = UnixListener::bind(socket)?.accept()?;
    let (mut question, answer) = ([0; QUESTION_LEN], [0; ANSWER_LEN]);
    while connection.read_exact(&mut question).is_ok() {
        connection.write_all(&answer)?;
    }
    Ok(())
}

/// Where the programs report to.
pub struct Reports {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Reports {
    /// A socket with this name.
    pub fn new(dir: &Path, name: &str) -> Outcome<Self> {
        let path = dir.join(name);
        let socket = UnixDatagram::bind(&path)?;
        Ok(Self { socket, path })
    }

    /// Its path, as text for a command line.
    pub fn path(&self) -> Outcome<&str> {
        Ok(self.path.to_str().ok_or("the path of the directory is not text")?)
    }

    /// Waits for the next report with this tag, and returns its number.
    pub fn next(&self, tag: &str, limit: Duration) -> Outcome<u64> {
        let deadline = Instant::now() + limit;
        let mut buffer = [0; 128];
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left))?;
            let n = self.socket.recv(&mut buffer).map_err(|e| format!("no report of {tag}: {e}"))?;
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if let Some((found, number)) = text.split_once(' ')
                && found == tag
            {
                return Ok(number.parse()?);
            }
        }
    }
}

//! One line on a terminal while something is waited for: for whom, and what comes next. It stands on standard
//! error, comes when the wait gets long, and goes with it. In a pipe there is none.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::text;
use crate::client::Client;
use crate::sys::terminal;
use crate::sys::thread;
use crate::wire::process::{Process, State};
use crate::wire::time::Timestamp;

/// From when on a wait is long, and how often the line is written again: it counts seconds.
const STEP: Duration = Duration::from_secs(1);
/// How many processes the line tells of.
const SHOWN_MAX: usize = 3;

/// What ends the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    AtRest,
    Ready,
}

/// The line, which goes when this is dropped.
pub struct Progress {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// None where nobody would see it.
    pub fn begin(session: &Session, targets: &[String], until: Until) -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let client = session.client().ok()?;
        let (end, ended) = bounded(1);
        let targets = targets.to_vec();
        let thread = thread::spawn("progress", move || show(client, &targets, until, &ended)).ok();
        Some(Self { end: Some(end), thread })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn show(mut client: Client, targets: &[String], until: Until, ended: &Receiver<()>) {
    let mut is_shown = false;
    while ended.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
        let Ok(items) = client.status(targets.to_vec()) else { break };
        let processes: Vec<Process> = items.into_iter().filter_map(|item| item.process).collect();
        let columns = terminal::size(io::stderr().as_fd()).map_or(80, |size| size.columns);
        let line = line(&processes, until, Timestamp::now());
        // The last column stays free: a terminal might begin a new line.
        let line = text::fitted(&line, columns.saturating_sub(1)).into_owned();
        stdout::to_stderr(format!("\r{line}\x1b[K").as_bytes());
        is_shown = true;
    }
    if is_shown {
        stdout::to_stderr(b"\r\x1b[K");
    }
}

/// `waits for web-1: SIGTERM 4.0 s ago, SIGKILL in 6.0 s; db: starting`.
fn line(processes: &[Process], until: Until, now: Timestamp) -> String {
    let is_there = |p: &Process| match until {
        Until::AtRest => p.state.is_at_rest(),
        Until::Ready => p.state == State::Running && p.ready,
    };
    let left: Vec<&Process> = processes.iter().filter(|p| !is_there(p)).collect();
    let mut parts: Vec<String> =
        left.iter().take(SHOWN_MAX).map(|p| format!("{}: {}", p.label(), what(p, now))).collect();
    if left.len() > SHOWN_MAX {
        parts.push(format!("{} more", left.len() - SHOWN_MAX));
    }
    format!("waits for {}", parts.join("; "))
}

fn what(p: &Process, now: Timestamp) -> String {
    match p.state {
        State::Stopping => text::stop_progress(p, now).unwrap_or_else(|| "SIGKILL was sent".to_owned()),
        _ => text::state(p, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::process;

    #[test]
    fn the_line_tells_for_whom_and_what_comes() {
        let mut stubborn = process("web-1");
        stubborn.state = State::Stopping;
        (stubborn.stop_signal, stubborn.stop_asked_at) = (15, Some(Timestamp(1_000)));
        stubborn.kill_at = Some(Timestamp(11_000));
        let mut gone = process("web-2");
        gone.state = State::Stopped;
        let line = line(&[stubborn, gone], Until::AtRest, Timestamp(5_000));
        assert_eq!(line, "waits for web-1: SIGTERM 4.0 s ago, SIGKILL in 6.0 s");
    }
}

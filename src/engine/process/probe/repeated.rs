//! A probe that is made again and again, at its pace: over the network, or by a program.

use std::time::Duration;

use crate::engine::process::probe::exec::ExecAttempt;
use crate::engine::process::probe::net::{NetAttempt, is_listened_to};
use crate::sys::poll::PollFd;
use crate::wire::probes::HttpUrl;
use crate::wire::time::millis;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Tcp(u16),
    Http(HttpUrl),
    Exec(Vec<String>),
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub interval: Duration,
    /// How long one may take.
    pub attempt: Duration,
}

/// Starts the program of a probe, as the process would be started.
pub type StartExec<'a> = &'a dyn Fn(&[String]) -> Result<ExecAttempt, String>;

#[derive(Debug)]
pub struct Repeated {
    target: Target,
    pace: Pace,
    /// When the next attempt begins, or the present one has taken too long (monotonic ms).
    due: u64,
    attempt: Option<Attempt>,
    /// When the next one is to begin, while one is under way.
    next: u64,
    /// Why the last one failed.
    pub last: String,
    /// How many in a row came to what is counted.
    pub in_a_row: u32,
}

#[derive(Debug)]
enum Attempt {
    Net(NetAttempt),
    Exec(ExecAttempt),
}

impl Repeated {
    /// The first attempt begins at `first` (monotonic ms).
    pub fn new(target: Target, pace: Pace, first: u64) -> Self {
        Self { target, pace, due: first, attempt: None, next: first, last: String::new(), in_a_row: 0 }
    }

    pub fn due(&self) -> u64 {
        self.due
    }

    pub fn poll_fds(&self) -> Vec<PollFd<'_>> {
        match &self.attempt {
            None => Vec::new(),
            Some(Attempt::Net(attempt)) => vec![attempt.poll_fd()],
            Some(Attempt::Exec(attempt)) => attempt.poll_fds(),
        }
    }

    /// Begins an attempt that is due, goes on with one that is under way, gives up one that takes too long.
    /// Some: one is over, and how it went. `taken`: who had the port before the process.
    pub fn go_on(&mut self, now: u64, taken: &[u64], exec: StartExec<'_>) -> Option<Result<(), String>> {
        let outcome = match &mut self.attempt {
            None if now < self.due => return None,
            None => {
                self.next = now + millis(self.pace.interval);
                match self.begin(taken, exec) {
                    Ok(attempt) => {
                        self.attempt = Some(attempt);
                        self.due = now + millis(self.pace.attempt);
                        // It may be over already: a port of this machine answers at once.
                        return self.go_on(now, taken, exec);
                    }
                    Err(why) => Err(why),
                }
            }
            Some(Attempt::Net(attempt)) => match attempt.go_on() {
                Some(outcome) => outcome,
                None if now < self.due => return None,
                None => Err(format!("no answer within {}", text(self.pace.attempt))),
            },
            Some(Attempt::Exec(attempt)) => match attempt.go_on() {
                Some(outcome) => outcome,
                None if now < self.due => return None,
                None => Err(format!("not done within {}, and killed", text(self.pace.attempt))),
            },
        };
        self.attempt = None;
        self.due = self.next.max(now);
        if let Err(why) = &outcome {
            self.last.clone_from(why);
        }
        Some(outcome)
    }

    fn begin(&self, taken: &[u64], exec: StartExec<'_>) -> Result<Attempt, String> {
        match &self.target {
            Target::Tcp(port) => {
                is_listened_to(*port, taken)?;
                NetAttempt::tcp(*port).map(Attempt::Net)
            }
            Target::Http(url) => {
                if url.address.ip().is_loopback() {
                    is_listened_to(url.address.port(), taken)?;
                }
                NetAttempt::http(url).map(Attempt::Net)
            }
            Target::Exec(command) => exec(command).map(Attempt::Exec),
        }
    }
}

/// A duration in a sentence.
pub fn text(time: Duration) -> String {
    let ms = millis(time);
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

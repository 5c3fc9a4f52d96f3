//! A probe that is made again and again, at its pace: over the network, by a program, or by the host.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::context::HostWay;
use crate::engine::process::probe::exec::ExecAttempt;
use crate::engine::process::probe::grpc::{GrpcAttempt, MARGIN_MS, Unseen};
use crate::engine::process::probe::net::{NetAttempt, is_listened_to};
use crate::sys::poll::PollFd;
use crate::wire::grpc_probe::GrpcEnd;
use crate::wire::probes::HttpUrl;
use crate::wire::time::millis;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Tcp(u16),
    Http(HttpUrl),
    Exec(Vec<String>),
    /// As the definition has it.
    Grpc(String),
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub interval: Duration,
    /// How long one may take.
    pub attempt: Duration,
}

/// Who makes what a thread cannot make by itself.
pub struct Means<'a> {
    /// Starts the program of a probe, as the process would be started.
    pub exec: &'a dyn Fn(&[String]) -> Result<ExecAttempt, String>,
    pub host: &'a Arc<HostWay>,
}

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
    Exec(Box<ExecAttempt>),
    Grpc(GrpcAttempt),
}

/// Why there is no attempt.
enum NotBegun {
    /// It has failed at once.
    Failed(String),
    Unseen(Unseen),
}

impl From<String> for NotBegun {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
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
            Some(Attempt::Grpc(attempt)) => vec![attempt.poll_fd()],
        }
    }

    /// Begins an attempt that is due, goes on with one that is under way, gives up one that takes too long.
    /// Some: one is over, and how it went. `taken`: who had the port before the process. An attempt that
    /// could not be made counts for nothing.
    pub fn go_on(&mut self, now: u64, taken: &[u64], means: &Means<'_>) -> Option<Result<(), String>> {
        let outcome = match &mut self.attempt {
            None if now < self.due => return None,
            None => {
                self.next = now + millis(self.pace.interval);
                match self.begin(taken, means) {
                    Ok(attempt) => {
                        let margin = if matches!(attempt, Attempt::Grpc(_)) { MARGIN_MS } else { 0 };
                        self.attempt = Some(attempt);
                        self.due = now + millis(self.pace.attempt) + margin;
                        // It may be over already: a port of this machine answers at once.
                        return self.go_on(now, taken, means);
                    }
                    Err(NotBegun::Failed(why)) => Err(why),
                    Err(NotBegun::Unseen(unseen)) => return self.pass_over(unseen, now),
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
            Some(Attempt::Grpc(attempt)) => match attempt.go_on() {
                Some(Ok(outcome)) => outcome,
                Some(Err(unseen)) => return self.pass_over(unseen, now),
                None if now < self.due => return None,
                None => {
                    let silent = Unseen("the host of providers has not answered".to_owned());
                    return self.pass_over(silent, now);
                }
            },
        };
        self.attempt = None;
        self.due = self.next.max(now);
        if let Err(why) = &outcome {
            self.last.clone_from(why);
        }
        Some(outcome)
    }

    /// Nobody has looked, which is no word about the process.
    fn pass_over(&mut self, Unseen(why): Unseen, now: u64) -> Option<Result<(), String>> {
        self.attempt = None;
        self.due = self.next.max(now);
        self.last = why;
        None
    }

    fn begin(&self, taken: &[u64], means: &Means<'_>) -> Result<Attempt, NotBegun> {
        match &self.target {
            Target::Tcp(port) => {
                is_listened_to(*port, taken)?;
                Ok(Attempt::Net(NetAttempt::tcp(*port)?))
            }
            Target::Http(url) => {
                if url.address.ip().is_loopback() {
                    is_listened_to(url.address.port(), taken)?;
                }
                Ok(Attempt::Net(NetAttempt::http(url)?))
            }
            Target::Exec(command) => Ok(Attempt::Exec(Box::new((means.exec)(command)?))),
            Target::Grpc(end) => {
                if let Some(port) = GrpcEnd::parse(end).ok().and_then(|end| end.port()) {
                    is_listened_to(port, taken)?;
                }
                let begun = GrpcAttempt::begin(means.host, end, self.pace.attempt);
                begun.map(Attempt::Grpc).map_err(NotBegun::Unseen)
            }
        }
    }
}

/// A duration in a sentence.
pub fn text(time: Duration) -> String {
    let ms = millis(time);
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

//! What to do when a connection breaks in the middle of a request. The engine may be killed at any instant
//! and is back within milliseconds, while the socket stays where it is: so whatever may be asked twice is
//! asked again, for as long as something is heard in between. What may not is reported as unknown.

use std::fmt::Display;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::link::{Fault, TIMEOUT};
use crate::wire::canary::CanaryCall;
use crate::wire::error::{Code, Error};
use crate::wire::module::ModuleCall;
use crate::wire::request::Request;

/// The first pause; each next one is twice as long. The very first repetition comes without any.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// How long a start may take: hundreds of instances are started, or none.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the outcome of an upgrade may be awaited: the service itself gives up before that.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(40);

/// Whether a request can be asked twice without being done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Safe,
    /// No: each one that arrives does something.
    Unsafe,
}

/// See [`Repeat`]. A start and an upgrade are safe for their ids, which the client chose: the second finds
/// what the first made.
pub(super) fn repeat(request: &Request) -> Repeat {
    match request {
        Request::Start(_)
        | Request::StartAgain(_)
        | Request::Update(_)
        | Request::Definitions(_)
        | Request::Stop(_)
        | Request::Remove(_)
        | Request::Wait(_)
        | Request::Status(_)
        | Request::List(_)
        | Request::Output(_)
        | Request::Stream(_)
        | Request::Follow(_)
        | Request::Hold(_)
        | Request::Env(_)
        | Request::Events(_)
        | Request::Service
        | Request::Health
        | Request::AuditLog(_)
        | Request::Note(_)
        | Request::Provider(_)
        | Request::Registry(_)
        | Request::Announce(_)
        | Request::Host
        | Request::GrpcListener
        | Request::GatewaySetup { .. }
        | Request::Reload
        | Request::GrpcProbe(_)
        | Request::Keep(_)
        | Request::Documents(_)
        | Request::Upgrade(_) => Repeat::Safe,
        Request::Module(
            ModuleCall::List | ModuleCall::Connections | ModuleCall::Expected | ModuleCall::Drain { .. },
        ) => Repeat::Safe,
        Request::Module(ModuleCall::Allow(_)) => Repeat::Safe,
        // For their key.
        Request::Restart(_) | Request::Signal(_) => Repeat::Safe,
        Request::Module(ModuleCall::Canary(CanaryCall::Status(_))) => Repeat::Safe,
        // What has begun once, or ended, does not do it again.
        Request::Module(ModuleCall::Canary(CanaryCall::Start(_) | CanaryCall::Abort(_))) => Repeat::Unsafe,
        Request::Module(ModuleCall::Call(_) | ModuleCall::Batch(_)) => Repeat::Unsafe,
    }
}

/// Whether the service knows by a key that a request has come before.
pub(super) fn has_key(request: &Request) -> bool {
    matches!(request, Request::Restart(_) | Request::Signal(_))
}

/// How long the service may say nothing while it works on this; none: as long as it takes.
pub(super) fn timeout(request: &Request) -> Option<Duration> {
    match request {
        Request::Start(_) | Request::StartAgain(_) => Some(START_TIMEOUT),
        Request::Upgrade(_) => Some(UPGRADE_TIMEOUT),
        Request::Wait(wait) => wait.timeout.map(|timeout| timeout.saturating_add(TIMEOUT)),
        Request::Signal(_)
        | Request::Status(_)
        | Request::Definitions(_)
        | Request::List(_)
        | Request::Output(_)
        | Request::Env(_)
        | Request::Service
        | Request::Health
        | Request::AuditLog(_)
        | Request::Host
        | Request::GrpcListener
        | Request::GatewaySetup { .. }
        | Request::Announce(_)
        | Request::Keep(_)
        | Request::Documents(_)
        | Request::Note(_) => Some(TIMEOUT),
        Request::Events(events) if !events.follow => Some(TIMEOUT),
        Request::Follow(follow) if follow.share => Some(TIMEOUT),
        // These last as long as the process they are about, or within the timeouts of the provider.
        Request::Stop(_)
        | Request::Reload
        | Request::Restart(_)
        | Request::Update(_)
        | Request::Remove(_)
        | Request::Stream(_)
        | Request::Follow(_)
        | Request::Hold(_)
        | Request::GrpcProbe(_)
        | Request::Provider(_)
        | Request::Module(_)
        | Request::Registry(_)
        | Request::Events(_) => None,
    }
}

/// Counts the attempts of one request and ends them in time.
#[derive(Debug)]
pub(super) struct Attempts {
    /// Set by the first failure since the service was last heard: silence alone is no failure.
    give_up_at: Option<Instant>,
    pause: Duration,
    broken: u32,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self { give_up_at: None, pause: Duration::ZERO, broken: 0 }
    }

    /// The service was heard: its time begins again.
    pub(super) fn received(&mut self) {
        self.give_up_at = None;
        self.pause = Duration::ZERO;
    }

    /// Whether the request is being repeated.
    pub(super) fn is_repeated(&self) -> bool {
        self.broken > 0
    }

    /// Decides after a failure: comes back when it is time to try again, or with the error that ends it.
    pub(super) fn after(&mut self, fault: Fault, repeat: Repeat, service: &dyn Display) -> Result<(), Error> {
        self.decide(fault, repeat, service, Instant::now()).map(thread::sleep)
    }

    /// How long to pause before the next attempt.
    fn decide(
        &mut self,
        fault: Fault,
        repeat: Repeat,
        service: &dyn Display,
        now: Instant,
    ) -> Result<Duration, Error> {
        let cause = match fault {
            Fault::Final(e) => return Err(e),
            Fault::Silent(timeout) => {
                let e = format!(
                    "the service on {} does not answer: nothing came for {} s",
                    service,
                    timeout.as_secs()
                );
                return Err(Error::new(Code::Unreachable, e)
                    .hint("it may be stopped or overloaded, and may still do what was asked when it goes on: look at the processes 'provost serve' and 'provost engine', and then with 'provost list'"));
            }
            Fault::Broken(_) if repeat == Repeat::Unsafe => {
                let e = "the connection broke after the request was sent: whether it was done is unknown";
                return Err(Error::new(Code::Failed, e)
                    .hint("look with 'provost status TARGET...' before you ask again"));
            }
            Fault::Unsent(e) | Fault::Broken(e) => e,
        };
        if now >= *self.give_up_at.get_or_insert(now + TIMEOUT) {
            return Err(self.gave_up(&cause, service));
        }
        self.broken += 1;
        let pause = self.pause;
        self.pause = (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        Ok(pause)
    }

    fn gave_up(&self, cause: &io::Error, service: &dyn Display) -> Error {
        let cause = match cause.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                "it closes the connection".to_owned()
            }
            _ => cause.to_string(),
        };
        let (broken, seconds) = (self.broken, TIMEOUT.as_secs());
        Error::new(
            Code::Unreachable,
            format!("the service on {service} does not answer: {cause}, {broken} times within {seconds} s"),
        )
        .hint("see what 'provost serve' says on its standard error")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Fault {
        Fault::Broken(io::ErrorKind::UnexpectedEof.into())
    }

    #[test]
    fn time_runs_from_the_first_failure_not_from_the_last_word() {
        let (path, mut now) = (&"/s", Instant::now());
        let mut attempts = Attempts::new();
        for _ in 0..3 {
            // An hour without a word is no reason to give up at the first failure.
            now += Duration::from_secs(3600);
            assert_eq!(attempts.decide(broken(), Repeat::Safe, path, now), Ok(Duration::ZERO));
            assert_eq!(attempts.decide(broken(), Repeat::Safe, path, now), Ok(PAUSE_MIN));
            attempts.received();
        }
        assert!(attempts.decide(broken(), Repeat::Safe, path, now).is_ok());
        let e = attempts.decide(broken(), Repeat::Safe, path, now + TIMEOUT).unwrap_err();
        assert_eq!(e.code, Code::Unreachable);
    }

    #[test]
    fn what_is_unsafe_is_repeated_only_if_it_was_not_sent() {
        let (path, now) = (&"/s", Instant::now());
        let unsent = Fault::Unsent(io::ErrorKind::BrokenPipe.into());
        assert!(Attempts::new().decide(unsent, Repeat::Unsafe, path, now).is_ok());
        assert!(Attempts::new().decide(broken(), Repeat::Unsafe, path, now).is_err());
        assert!(Attempts::new().decide(Fault::Silent(TIMEOUT), Repeat::Safe, path, now).is_err());
    }
}

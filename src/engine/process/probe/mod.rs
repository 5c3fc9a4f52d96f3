//! What is looked at to see whether a run is ready, and whether it is still well. Owned by the process's
//! thread, which polls the descriptors and the one time that is due, and acts on what comes out. Nothing is
//! looked at while nothing is due: output, messages and ends wake the thread by themselves.

pub mod exec;
pub mod grpc;
pub mod line;
pub mod net;
pub mod notify;
pub mod repeated;

use std::time::Duration;

use crate::engine::process::probe::line::LineProbe;
use crate::engine::process::probe::notify::NotifySocket;
use crate::engine::process::probe::repeated::{Means, Pace, Repeated, Target, text};
use crate::ring::Ring;
use crate::sys::poll::PollFd;
use crate::wire::probes::{HttpUrl, Liveness, Readiness};
use crate::wire::record::cut;
use crate::wire::spec::Spec;
use crate::wire::time::millis;

/// Between two probes of readiness, where the definition does not say: over the network.
const NET_INTERVAL: Duration = Duration::from_millis(50);
/// ... and by another program: one of its own, or the host by gRPC.
const EXEC_INTERVAL: Duration = Duration::from_secs(1);

/// All that is looked at for one process.
#[derive(Debug, Default)]
pub struct Probes {
    /// Until it is ready.
    ready: Option<Ready>,
    successes: u32,
    /// Whether it stays so.
    recheck: Option<Repeated>,
    recheck_failures: u32,
    fail_line: Option<LineProbe>,
    /// From then on.
    live: Option<Live>,
    failures: u32,
    /// Stays over all runs.
    pub notify: Option<NotifySocket>,
}

#[derive(Debug)]
enum Ready {
    Line(LineProbe),
    Repeated(Repeated),
    /// It says so itself, or its end does.
    ByItself,
}

#[derive(Debug)]
enum Live {
    Repeated(Repeated),
    /// It has to say so before `due` (monotonic ms), then once more.
    Watchdog {
        interval: Duration,
        due: u64,
    },
}

/// What has come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Ready,
    /// It is ready no more, and why.
    Unready(String),
    /// The run has failed, and why.
    Unfit(String),
}

/// What is looked at again and again for this measure of readiness, and how often as a rule.
fn target(ready: &Readiness) -> Option<(Target, Duration)> {
    match ready {
        Readiness::Tcp(port) => Some((Target::Tcp(*port), NET_INTERVAL)),
        Readiness::Http(url) => HttpUrl::parse(url).ok().map(|url| (Target::Http(url), NET_INTERVAL)),
        Readiness::Exec(command) => Some((Target::Exec(command.clone()), EXEC_INTERVAL)),
        Readiness::Grpc(end) => Some((Target::Grpc(end.clone()), EXEC_INTERVAL)),
        Readiness::Line(_) | Readiness::Notify | Readiness::Exit => None,
    }
}

/// `tcp 8080 (nobody listens at port 8080)`: what is to show that it is ready, and what the last look met. No
/// arguments of a program and no query of a URL: they may be secret.
pub fn describe(measure: &Readiness, met: &str) -> String {
    let what = match measure {
        Readiness::Line(text) => format!("its line '{text}'"),
        Readiness::Tcp(port) => format!("tcp {port}"),
        Readiness::Notify => "its READY=1".to_owned(),
        Readiness::Http(url) => url.split('?').next().unwrap_or_default().to_owned(),
        Readiness::Exec(command) => command.first().cloned().unwrap_or_default(),
        Readiness::Exit => "its end".to_owned(),
        Readiness::Grpc(end) => format!("grpc {end}"),
    };
    cut(&if met.is_empty() { what } else { format!("{what} ({met})") })
}

/// The same from when it is ready on, if that is wanted.
fn repeated_later(spec: &Spec, now: u64) -> Option<Repeated> {
    let rules = &spec.ready_rules;
    let interval = rules.recheck?;
    let (target, _) = target(spec.ready.as_ref()?)?;
    let pace = Pace { interval, attempt: rules.attempt };
    Some(Repeated::new(target, pace, now.saturating_add(millis(interval))))
}

impl Probes {
    /// Looks for the readiness of a run: its output begins at `output_from`, its program began at `started`
    /// (monotonic ms).
    pub fn look_for_ready(&mut self, spec: &Spec, output_from: u64, started: u64) {
        let rules = &spec.ready_rules;
        let repeated = |(target, usual)| {
            let pace = Pace { interval: rules.interval.unwrap_or(usual), attempt: rules.attempt };
            Ready::Repeated(Repeated::new(target, pace, started.saturating_add(millis(rules.delay))))
        };
        self.ready = spec.ready.as_ref().and_then(|ready| match ready {
            Readiness::Line(text) => Some(Ready::Line(LineProbe::new(text, output_from))),
            Readiness::Notify | Readiness::Exit => Some(Ready::ByItself),
            Readiness::Tcp(_) | Readiness::Http(_) | Readiness::Exec(_) | Readiness::Grpc(_) => {
                target(ready).map(repeated)
            }
        });
        self.successes = rules.successes;
        let fail_line = rules.fail_line.as_ref().filter(|_| self.ready.is_some());
        self.fail_line = fail_line.map(|text| LineProbe::new(text, output_from));
    }

    /// It was ready, and is not any more: it is looked whether it is again, at the pace at which that was
    /// seen. False: its definition does not say so.
    pub fn look_for_ready_again(&mut self, spec: &Spec, now: u64) -> bool {
        let Some(again) = repeated_later(spec, now) else { return false };
        (self.ready, self.fail_line, self.recheck) = (Some(Ready::Repeated(again)), None, None);
        self.successes = spec.ready_rules.successes;
        true
    }

    /// It has said itself that it is ready no more: nobody looks whether it is.
    pub fn end_recheck(&mut self) {
        self.recheck = None;
    }

    /// It is ready: from `now` on it is looked whether it stays so, if its definition says that.
    pub fn look_for_end_of_ready(&mut self, spec: &Spec, now: u64) {
        (self.ready, self.fail_line) = (None, None);
        self.recheck_failures = spec.ready_rules.failures;
        self.recheck = repeated_later(spec, now);
    }

    pub fn is_looking_for_life(&self) -> bool {
        self.live.is_some()
    }

    /// It was ready: from `now` on it is looked whether it is well.
    pub fn look_for_life(&mut self, spec: &Spec, now: u64) {
        let rules = &spec.live_rules;
        let pace = Pace { interval: rules.interval, attempt: rules.attempt };
        let first = now.saturating_add(millis(rules.delay)).saturating_add(millis(rules.interval));
        let repeated = |target| Some(Live::Repeated(Repeated::new(target, pace, first)));
        self.failures = rules.failures;
        self.live = match &spec.live {
            None => None,
            Some(Liveness::Tcp(port)) => repeated(Target::Tcp(*port)),
            Some(Liveness::Http(url)) => HttpUrl::parse(url).ok().map(Target::Http).and_then(repeated),
            Some(Liveness::Exec(command)) => repeated(Target::Exec(command.clone())),
            Some(Liveness::Grpc(end)) => repeated(Target::Grpc(end.clone())),
            Some(Liveness::Notify) => Some(Live::Watchdog { interval: rules.interval, due: first }),
        };
    }

    /// Nothing is looked at any more.
    pub fn end(&mut self) {
        (self.ready, self.fail_line, self.live, self.recheck) = (None, None, None, None);
    }

    pub fn is_looking_for_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// Why the last look whether it is ready failed; empty: it did not, or there was none.
    pub fn last_look(&self) -> &str {
        if let Some(Ready::Repeated(probe)) = &self.ready { &probe.last } else { "" }
    }

    /// When something has to be done.
    pub fn due(&self) -> Option<u64> {
        let ready = if let Some(Ready::Repeated(probe)) = &self.ready { Some(probe.due()) } else { None };
        let live = match &self.live {
            None => None,
            Some(Live::Repeated(probe)) => Some(probe.due()),
            Some(Live::Watchdog { due, .. }) => Some(*due),
        };
        let recheck = self.recheck.as_ref().map(Repeated::due);
        [ready, recheck, live].into_iter().flatten().min()
    }

    /// What to poll for those that are under way.
    pub fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let ready =
            if let Some(Ready::Repeated(probe)) = &self.ready { probe.poll_fds() } else { Vec::new() };
        let live = if let Some(Live::Repeated(probe)) = &self.live { probe.poll_fds() } else { Vec::new() };
        let recheck = self.recheck.as_ref().map(Repeated::poll_fds).unwrap_or_default();
        ready.into_iter().chain(recheck).chain(live).collect()
    }

    /// There is new output.
    pub fn read(&mut self, ring: &Ring<'_>) -> Option<Finding> {
        // What says that it will never be comes first: a program may print both.
        if self.fail_line.as_mut().is_some_and(|probe| probe.reads(ring)) {
            self.fail_line = None;
            return Some(Finding::Unfit("its output has the line of failure".to_owned()));
        }
        let Some(Ready::Line(probe)) = &mut self.ready else { return None };
        probe.reads(ring).then_some(Finding::Ready)
    }

    /// Does what is due.
    pub fn go_on(&mut self, now: u64, taken: &[u64], means: &Means<'_>) -> Option<Finding> {
        if let Some(Ready::Repeated(probe)) = &mut self.ready {
            match probe.go_on(now, taken, means) {
                Some(Ok(())) => probe.in_a_row += 1,
                Some(Err(_)) => probe.in_a_row = 0,
                None => {}
            }
            if probe.in_a_row >= self.successes {
                return Some(Finding::Ready);
            }
        }
        if let Some(probe) = &mut self.recheck {
            match probe.go_on(now, taken, means) {
                Some(Ok(())) => probe.in_a_row = 0,
                Some(Err(_)) => probe.in_a_row += 1,
                None => {}
            }
            if probe.in_a_row >= self.recheck_failures {
                return Some(Finding::Unready(probe.last.clone()));
            }
        }
        match &mut self.live {
            Some(Live::Repeated(probe)) => {
                match probe.go_on(now, &[], means) {
                    Some(Ok(())) => probe.in_a_row = 0,
                    Some(Err(_)) => probe.in_a_row += 1,
                    None => {}
                }
                (probe.in_a_row >= self.failures).then(|| {
                    let times = match probe.in_a_row {
                        1 => "a probe of its life failed".to_owned(),
                        n => format!("{n} probes of its life in a row failed"),
                    };
                    Finding::Unfit(format!("{times}: {}", probe.last))
                })
            }
            Some(Live::Watchdog { interval, due }) if *due <= now => {
                Some(Finding::Unfit(format!("it has not said WATCHDOG=1 within {}", text(*interval))))
            }
            Some(Live::Watchdog { .. }) | None => None,
        }
    }

    /// It has said that it is well.
    pub fn said_well(&mut self, now: u64) {
        if let Some(Live::Watchdog { interval, due }) = &mut self.live {
            *due = now.saturating_add(millis(*interval));
        }
    }

    /// Why it is not ready in its time.
    pub fn too_late(&self, limit: Duration) -> String {
        let limit = text(limit);
        match &self.ready {
            Some(Ready::Repeated(probe)) if !probe.last.is_empty() => {
                format!("it was not ready within {limit}: {}", probe.last)
            }
            Some(Ready::Line(_)) => format!("it has not printed that it is ready within {limit}"),
            Some(Ready::ByItself | Ready::Repeated(_)) | None => format!("it was not ready within {limit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_that_it_is_ready_is_described_without_secrets() {
        let http = Readiness::Http("http://127.0.0.1:80/up?key=s3cret".to_owned());
        assert_eq!(
            describe(&http, "it answers with status 503"),
            "http://127.0.0.1:80/up (it answers with status 503)"
        );
        let exec = Readiness::Exec(vec!["pg_isready".to_owned(), "s3cret".to_owned()]);
        assert_eq!(describe(&exec, ""), "pg_isready");
        assert_eq!(describe(&Readiness::Line("up".to_owned()), ""), "its line 'up'");
    }
}

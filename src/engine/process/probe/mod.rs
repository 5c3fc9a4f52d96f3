//! What is looked at to see whether a run is ready, and whether it is still well. Owned by the process's
//! thread, which polls the descriptors and the one time that is due, and acts on what comes out. Nothing is
//! looked at while nothing is due: output, messages and ends wake the thread by themselves.

pub mod exec;
pub mod line;
pub mod net;
pub mod notify;
pub mod repeated;

use std::time::Duration;

use crate::engine::process::probe::line::LineProbe;
use crate::engine::process::probe::notify::NotifySocket;
use crate::engine::process::probe::repeated::{Pace, Repeated, StartExec, Target, text};
use crate::ring::Ring;
use crate::sys::poll::PollFd;
use crate::wire::probes::{HttpUrl, Liveness, Readiness};
use crate::wire::spec::Spec;
use crate::wire::time::millis;

/// Between two probes of readiness, where the definition does not say: over the network.
const NET_INTERVAL: Duration = Duration::from_millis(50);
/// ... and by a program.
const EXEC_INTERVAL: Duration = Duration::from_secs(1);

/// All that is looked at for one process.
#[derive(Debug, Default)]
pub struct Probes {
    /// Until it is ready.
    ready: Option<Ready>,
    successes: u32,
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
    /// The run has failed, and why.
    Unfit(String),
}

impl Probes {
    /// Looks for the readiness of a run: its output begins at `output_from`, its program began at `started`
    /// (monotonic ms).
    pub fn look_for_ready(&mut self, spec: &Spec, output_from: u64, started: u64) {
        let rules = &spec.ready_rules;
        let repeated = |target, usual| {
            let pace = Pace { interval: rules.interval.unwrap_or(usual), attempt: rules.attempt };
            Some(Ready::Repeated(Repeated::new(target, pace, started.saturating_add(millis(rules.delay)))))
        };
        self.ready = match &spec.ready {
            None => None,
            Some(Readiness::Line(text)) => Some(Ready::Line(LineProbe::new(text, output_from))),
            Some(Readiness::Tcp(port)) => repeated(Target::Tcp(*port), NET_INTERVAL),
            Some(Readiness::Http(url)) => {
                HttpUrl::parse(url).ok().and_then(|url| repeated(Target::Http(url), NET_INTERVAL))
            }
            Some(Readiness::Exec(command)) => repeated(Target::Exec(command.clone()), EXEC_INTERVAL),
            Some(Readiness::Notify | Readiness::Exit) => Some(Ready::ByItself),
        };
        self.successes = rules.successes;
        let fail_line = rules.fail_line.as_ref().filter(|_| self.ready.is_some());
        self.fail_line = fail_line.map(|text| LineProbe::new(text, output_from));
    }

    /// It is ready: from `now` on it is looked whether it is well.
    pub fn look_for_life(&mut self, spec: &Spec, now: u64) {
        (self.ready, self.fail_line) = (None, None);
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
            Some(Liveness::Notify) => Some(Live::Watchdog { interval: rules.interval, due: first }),
        };
    }

    /// Nothing is looked at any more.
    pub fn end(&mut self) {
        (self.ready, self.fail_line, self.live) = (None, None, None);
    }

    pub fn is_looking_for_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// When something has to be done.
    pub fn due(&self) -> Option<u64> {
        let ready = if let Some(Ready::Repeated(probe)) = &self.ready { Some(probe.due()) } else { None };
        let live = match &self.live {
            None => None,
            Some(Live::Repeated(probe)) => Some(probe.due()),
            Some(Live::Watchdog { due, .. }) => Some(*due),
        };
        [ready, live].into_iter().flatten().min()
    }

    /// What to poll for those that are under way.
    pub fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let ready =
            if let Some(Ready::Repeated(probe)) = &self.ready { probe.poll_fds() } else { Vec::new() };
        let live = if let Some(Live::Repeated(probe)) = &self.live { probe.poll_fds() } else { Vec::new() };
        ready.into_iter().chain(live).collect()
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
    pub fn go_on(&mut self, now: u64, taken: &[u64], exec: StartExec<'_>) -> Option<Finding> {
        if let Some(Ready::Repeated(probe)) = &mut self.ready {
            match probe.go_on(now, taken, exec) {
                Some(Ok(())) => probe.in_a_row += 1,
                Some(Err(_)) => probe.in_a_row = 0,
                None => {}
            }
            if probe.in_a_row >= self.successes {
                return Some(Finding::Ready);
            }
        }
        match &mut self.live {
            Some(Live::Repeated(probe)) => {
                match probe.go_on(now, &[], exec) {
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
    pub fn is_well(&mut self, now: u64) {
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

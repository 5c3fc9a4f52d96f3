//! A sink's thread: takes events from the source, has them delivered, and tries again with growing delays.
//! Owns what is on its way; the rest of the program sees its [`Standing`]. It waits in one place, for events
//! or for one deadline.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::context::Notify;
use crate::engine::history::sinks::deliver::{Deliver, Delivery, Failed};
use crate::sys::clock;
use crate::wire::event::Event;
use crate::wire::time::{Timestamp, millis};

/// After the first failure.
const DELAY_MIN: Duration = Duration::from_millis(500);
/// After many; also how soon a sink that was mended is noticed.
const DELAY_MAX: Duration = Duration::from_secs(30);
/// The longest delay that the other side can ask for.
const ASKED_MAX: Duration = Duration::from_secs(60);
/// The longest message that is kept, in characters.
const MESSAGE_LEN_MAX: usize = 400;

/// Where a sink's events come from.
pub trait Source: Send + Sync {
    /// Events after `since`, at most `max`.
    fn read(&self, since: u64, max: usize) -> Batch;
    /// Waits until there may be something after `since`, or until the deadline (monotonic milliseconds), or
    /// until the end is asked for: then false. After `u64::MAX` there is never anything.
    fn wait(&self, since: u64, deadline_ms: Option<u64>) -> bool;
    /// Remembers how far this sink has come. To lose it means that events are sent again.
    fn delivered(&self, sink: &str, seq: u64);
}

/// What a [`Source`] has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In order; empty when there is nothing new now.
    pub events: Vec<Event>,
    /// How many before them are no longer kept.
    pub missed: u64,
    /// The number to go on after.
    pub next: u64,
}

/// From where a sink goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begin {
    /// What [`Source::delivered`] was last told of it.
    pub since: u64,
    /// The newest event there is: a sink that has come further met another numbering.
    pub newest: u64,
}

/// How a sink is getting on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// All events up to this one have been dealt with.
    pub seq: u64,
    /// How many were delivered since this engine started.
    pub delivered: u64,
    /// How many were refused for ever by the other side.
    pub rejected: u64,
    /// How many were no longer kept when their turn came.
    pub missed: u64,
    /// How many attempts have failed.
    pub failed: u64,
    /// Failed attempts since the last one that worked; 0: it works.
    pub failing: u32,
    /// The last failure, and when it was; it stays visible.
    pub last_error: Option<(Timestamp, String)>,
}

/// A sink that runs. Cheap to clone; its thread ends when its source says so.
#[derive(Clone, Debug)]
pub struct SinkState {
    name: Arc<str>,
    standing: Arc<Mutex<Standing>>,
}

impl SinkState {
    pub(super) fn new(name: &str, begin: Begin) -> Self {
        let standing = Standing { seq: begin.since.min(begin.newest), ..Standing::default() };
        Self { name: name.into(), standing: Arc::new(Mutex::new(standing)) }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is getting on.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    /// How many events it has still to deal with, when this is the newest one.
    #[must_use]
    pub fn behind(&self, newest: u64) -> u64 {
        newest.saturating_sub(self.standing.lock().seq)
    }
}

pub struct Worker {
    state: SinkState,
    to: Box<dyn Deliver>,
    source: Arc<dyn Source>,
    notify: Notify,
    /// Delivery from the source and not delivered yet, in order.
    pending: VecDeque<Event>,
    /// The last event that was taken from the source.
    since: u64,
    /// How many refused and how many missed events the log was last told of.
    said_rejected: u64,
    said_missed: u64,
}

impl Worker {
    pub fn new(state: SinkState, to: Box<dyn Deliver>, source: Arc<dyn Source>, notify: Notify) -> Self {
        Self {
            state,
            to,
            source,
            notify,
            pending: VecDeque::new(),
            since: 0,
            said_rejected: 0,
            said_missed: 0,
        }
    }

    /// Until the source says that it is over.
    pub fn run(&mut self, begin: Begin) {
        let mut is_begun = false;
        loop {
            let failed = if is_begun { self.step() } else { self.begin(begin) };
            is_begun |= failed.is_none();
            let more = match failed {
                Some(failed) => {
                    let pause = self.note_failure(&failed);
                    self.source.wait(u64::MAX, Some(clock::now_ms() + millis(pause)))
                }
                None if self.pending.is_empty() => self.source.wait(self.since, None),
                None => true,
            };
            if !more {
                return;
            }
        }
    }

    /// Finds out where to go on.
    fn begin(&mut self, begin: Begin) -> Option<Failed> {
        let cursor = begin.since.min(begin.newest);
        self.since = match self.to.resume() {
            Err(failed) => return Some(failed),
            Ok(None) => cursor,
            Ok(Some(seq)) if seq <= begin.newest => seq,
            Ok(Some(seq)) => {
                self.say(&format!(
                    "it holds event {seq}, but the newest there is has number {}: the numbering began anew",
                    begin.newest
                ));
                cursor
            }
        };
        let since = self.since;
        self.note(|standing| standing.seq = since);
        self.recovered();
        None
    }

    /// Reads where nothing is pending, and delivers once.
    fn step(&mut self) -> Option<Failed> {
        if self.pending.is_empty() && !self.read() {
            return None;
        }
        let events = self.pending.make_contiguous();
        match self.to.deliver(events) {
            Ok(taken) => self.settle(taken),
            Err(failed) => Some(failed),
        }
    }

    /// Whether there is something to deliver.
    fn read(&mut self) -> bool {
        loop {
            let batch = self.source.read(self.since, self.to.batch_max());
            if batch.missed > 0 {
                let missed = self.note(|standing| {
                    standing.missed += batch.missed;
                    standing.missed
                });
                if is_news(&mut self.said_missed, missed) {
                    self.say(&format!("{missed} events in all were no longer kept when their turn came"));
                }
            }
            let is_over = batch.next <= self.since;
            self.since = self.since.max(batch.next);
            self.pending = batch.events.into();
            if !self.pending.is_empty() {
                return true;
            }
            // Nothing readable in a part that is there: the next part may have something.
            if is_over {
                return false;
            }
        }
    }

    /// Takes from what is pending what has been dealt with.
    fn settle(&mut self, taken: Delivery) -> Option<Failed> {
        let (again, failed) = taken.again.map_or((Vec::new(), None), |(again, failed)| (again, Some(failed)));
        let dealt: Vec<Event> = self.pending.drain(..taken.count).collect();
        let delivered = (taken.count - again.len()) as u64 - taken.rejected;
        for (_, event) in dealt.into_iter().enumerate().rev().filter(|(n, _)| again.binary_search(n).is_ok())
        {
            self.pending.push_front(event);
        }
        let seq = self.pending.front().map_or(self.since, |event| event.seq - 1);
        let rejected = self.note(|standing| {
            standing.seq = seq;
            standing.delivered += delivered;
            standing.rejected += taken.rejected;
            standing.rejected
        });
        self.source.delivered(self.state.name(), seq);
        if let Some(reason) = taken.reason.filter(|_| is_news(&mut self.said_rejected, rejected)) {
            self.say(&format!(
                "{rejected} events in all were refused for ever, one of them so: {}",
                line(&reason)
            ));
        }
        if failed.is_none() {
            self.recovered();
        }
        failed
    }

    fn recovered(&self) {
        let attempts = self.note(|standing| std::mem::take(&mut standing.failing));
        if attempts > 0 {
            self.say(&format!("works again after {attempts} failed attempts"));
        }
    }

    /// Counts a failure; returns how long to wait now.
    fn note_failure(&self, failed: &Failed) -> Duration {
        let message = line(&failed.message);
        let failing = self.note(|standing| {
            standing.failed += 1;
            standing.failing = standing.failing.saturating_add(1);
            standing.last_error = Some((Timestamp::now(), message.clone()));
            standing.failing
        });
        if failing == 1 {
            self.say(&format!("{message}; its events are kept, and sent as soon as it works"));
        }
        delay(failing, failed.after, clock::now_ns())
    }

    fn note<T>(&self, change: impl FnOnce(&mut Standing) -> T) -> T {
        change(&mut self.state.standing.lock())
    }

    fn say(&self, what: &str) {
        (self.notify.0)(&format!("sink {}: {what}", self.state.name()));
    }
}

/// How long to wait after this many failures in a row: twice as long each time, off by up to a quarter, so
/// that many services do not come back together; and no less than was asked for.
fn delay(failing: u32, asked: Option<Duration>, random: u64) -> Duration {
    let doubled = DELAY_MIN.saturating_mul(1 << failing.saturating_sub(1).min(16)).min(DELAY_MAX);
    let percent = 75 + u32::try_from(random % 51).expect("a small number");
    (doubled * percent / 100).max(asked.unwrap_or_default().min(ASKED_MAX))
}

/// Whether a count has at least doubled since it was last said: then it is said again. A log does not grow by
/// a line for each of what goes wrong.
fn is_news(said: &mut u64, count: u64) -> bool {
    let is = count > 0 && count >= said.saturating_mul(2);
    if is {
        *said = count;
    }
    is
}

/// Text from the other side, fit for one line of the log.
fn line(text: &str) -> String {
    let cut: String = text.chars().take(MESSAGE_LEN_MAX).collect();
    let harmless = |c: char| if c.is_control() || crate::wire::id::is_bidi(c) { ' ' } else { c };
    cut.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_to_its_limit_and_honours_what_is_asked() {
        let ms = |failing, asked: Option<u64>, random| {
            millis(delay(failing, asked.map(Duration::from_secs), random))
        };
        assert_eq!((ms(1, None, 0), ms(1, None, 25), ms(1, None, 50)), (375, 500, 625));
        assert_eq!((ms(2, None, 25), ms(5, None, 25), ms(7, None, 25)), (1000, 8000, 30_000));
        assert_eq!(ms(u32::MAX, None, 25), 30_000);
        assert_eq!((ms(1, Some(5), 25), ms(1, Some(3600), 25), ms(7, Some(1), 25)), (5000, 60_000, 30_000));
    }

    #[test]
    fn what_goes_on_is_said_ever_more_rarely() {
        let mut said = 0;
        let news: Vec<u64> = (0..=100).filter(|&count| is_news(&mut said, count)).collect();
        assert_eq!(news, [1, 2, 4, 8, 16, 32, 64]);
    }

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(line("a\nb\u{1b}[0m\u{202e}"), "a b [0m ");
        assert_eq!(line(&"é".repeat(1000)).chars().count(), MESSAGE_LEN_MAX);
    }
}

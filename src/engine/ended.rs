//! What has ended and has no name is forgotten when it is old, or when there are too many: each keeps its
//! output in memory, and nobody would remove it. One thread, woken when a process comes to rest, and by the
//! time when the oldest is too old.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::internal;
use crate::engine::process::handle::{Ask, Process};
use crate::engine::service::Engine;
use crate::sys::{clock, poll, thread};
use crate::wire::record::Record;
use crate::wire::time::{Timestamp, millis};

/// Who has just ended is left alone: whoever ran it still asks how it was, ms.
const FRESH_MS: u64 = 10_000;
/// Those that end within this time are looked at together, ms.
const TOGETHER_MS: u64 = 1000;

/// Looks after it until the engine ends.
pub fn look_after(engine: &Arc<Engine>) -> io::Result<()> {
    let engine = Arc::clone(engine);
    let work = move || {
        loop {
            engine.context.ended.await_next();
            let next = forget_old(&engine).map(|ms| clock::now_ms().saturating_add(ms));
            let _ = poll::wait(&mut [], next);
            let _ = poll::wait(&mut [], Some(clock::now_ms() + TOGETHER_MS));
        }
    };
    thread::spawn("ended", work).map(drop)
}

/// Forgets what is to go, and returns in how many ms there may be more.
fn forget_old(engine: &Engine) -> Option<u64> {
    let (settings, now) = (engine.context.retention.settings, engine.context.retention.now());
    let mut ended: Vec<(Timestamp, Arc<Process>)> =
        engine.table.others().into_iter().filter_map(ended_at).collect();
    ended.sort_by_key(|(at, process)| (*at, process.id));
    let ages: Vec<u64> = ended.iter().map(|(at, _)| now.0.saturating_sub(at.0)).collect();
    let (count, next) = to_forget(&ages, settings.keep_ended, settings.keep_ended_for);
    for (_, process) in &ended[..count] {
        // One that was started again meanwhile refuses.
        if internal::ask(process, Ask::Remove, "kept long enough").error.is_none() {
            engine.forget(process);
        }
    }
    next
}

/// How many of the oldest go, and in how many ms to look again; `ages` in ms, the oldest first.
fn to_forget(ages: &[u64], keep: u64, keep_for: Duration) -> (usize, Option<u64>) {
    let too_many = ages.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    let keep_for = millis(keep_for).max(FRESH_MS);
    let goes_at = |n: usize| if n < too_many { FRESH_MS } else { keep_for };
    let count = ages.iter().enumerate().take_while(|&(n, &age)| age >= goes_at(n)).count();
    let next = ages.get(count).map(|age| goes_at(count).saturating_sub(*age));
    (count, next)
}

/// When it ended, if it is one that nobody has named, or declared, or left running.
fn ended_at(process: Arc<Process>) -> Option<(Timestamp, Arc<Process>)> {
    let at = if process.name.is_some() { None } else { rests_since(&process.record()) };
    Some((at?, process))
}

fn rests_since(record: &Record) -> Option<Timestamp> {
    record.stopped_at.filter(|_| record.state.is_at_rest() && record.run > 0 && !record.left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::process::fresh::fresh;
    use crate::wire::id::ProcessId;
    use crate::wire::process::State;

    #[test]
    fn the_oldest_go_when_they_are_too_many_or_too_old() {
        let day = Duration::from_secs(86_400);
        let forget = |ages: &[u64], keep| to_forget(ages, keep, day);
        assert_eq!(forget(&[], 2), (0, None));
        assert_eq!(forget(&[70_000, 60_000], 2), (0, Some(86_330_000)));
        assert_eq!(forget(&[80_000, 70_000, 60_000], 2), (1, Some(86_330_000)));
        assert_eq!(forget(&[90_000_000, 60_000], 2), (1, Some(86_340_000)));
        // Too many, but they have only just ended.
        assert_eq!(forget(&[12_000, 4000, 3000], 1), (1, Some(6000)));
        assert_eq!(forget(&[4000, 3000], 0), (0, Some(6000)));
    }

    #[test]
    fn what_runs_or_never_ran_or_was_left_alone_stays() {
        let mut record = fresh(ProcessId::new(), None, None);
        assert_eq!(rests_since(&record), None);
        (record.run, record.stopped_at) = (1, Some(Timestamp(7)));
        assert_eq!(rests_since(&record), Some(Timestamp(7)));
        record.left = true;
        assert_eq!(rests_since(&record), None);
        (record.left, record.state) = (false, State::Running);
        assert_eq!(rests_since(&record), None);
    }
}

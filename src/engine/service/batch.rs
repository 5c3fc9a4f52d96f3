//! One request for many processes: asked at the same time, answered one by one as they are done.

use std::sync::Arc;

use crossbeam_channel::unbounded;

use crate::engine::process::handle::{AnswerTo, Answered, Ask, Msg, Process};
use crate::engine::process::restart::is_done;
use crate::engine::service::engine::{Answer, Asked, Engine};
use crate::engine::write_queue::{COMPARED, WriteSeq};
use crate::listener::{Closed, Replies, Woken};
use crate::sys::{clock, poll, signal};
use crate::wire::error::{Code, Error};
use crate::wire::keeper::ToKeeper;
use crate::wire::process::{End, State};
use crate::wire::record::Record;
use crate::wire::reply::{Item, More, Reply};
use crate::wire::request::{Until, Wait};
use crate::wire::spec::Spec;
use crate::wire::time::millis;

/// The result for a process that was found; `unrecorded`: why it is not recorded, if it is not.
pub fn item(process: &Process, error: Option<Error>, unrecorded: Option<String>) -> Reply {
    let (target, process) = (process.label(), Some(process.show()));
    Reply::Item(Item { target, process, error, unrecorded, has_others: false })
}

/// The result for a target that means nothing.
pub fn missing(target: String, error: Error, unrecorded: Option<String>) -> Reply {
    Reply::Item(Item { target, process: None, error: Some(error), unrecorded, has_others: false })
}

impl Engine {
    /// Asks every process that the targets mean, and sends an item for each as it answers.
    pub(super) fn ask_each(
        &self,
        targets: &[String],
        what: &dyn Fn(&Process) -> Ask,
        asked: &Asked,
        replies: &mut Replies<'_>,
    ) -> Answer {
        let (found, not_found) = self.find_allowed(targets, asked);
        if !not_found.is_empty() {
            // An engine before this one may have removed it, and not have lived to record that.
            let unrecorded = self.recorded(asked.write_seq.max(COMPARED), replies)?;
            for (target, error) in not_found {
                replies.send(&missing(target, error, unrecorded.clone()), More::Follows)?;
            }
        }
        let asks = found.iter().map(|p| (Arc::clone(p), what(p))).collect();
        self.ask_and_then(asks, asked, replies, &mut |process, answered, replies| {
            let Answered { shown, error, unrecorded, .. } = answered;
            let has_others = self.context.board.has_others(process.id);
            let item = Item { target: process.label(), process: Some(shown), error, unrecorded, has_others };
            replies.send(&Reply::Item(item), More::Follows)
        })?;
        Ok(Reply::Done)
    }

    /// Asks these processes, and returns the answers when all have come.
    pub(super) fn ask_all(
        &self,
        processes: &[Arc<Process>],
        what: &Ask,
        asked: &Asked,
        replies: &mut Replies<'_>,
    ) -> Result<Vec<Answered>, Closed> {
        let asks = processes.iter().map(|p| (Arc::clone(p), what.clone())).collect();
        let mut answers = Vec::new();
        self.ask_and_then(asks, asked, replies, &mut |_, answered, _| {
            answers.push(answered);
            Ok(())
        })?;
        Ok(answers)
    }

    fn ask_and_then(
        &self,
        asks: Vec<(Arc<Process>, Ask)>,
        asked: &Asked,
        replies: &mut Replies<'_>,
        then: &mut dyn FnMut(&Process, Answered, &mut Replies<'_>) -> Result<(), Closed>,
    ) -> Result<(), Closed> {
        let (to, answers) = unbounded();
        for (tag, (process, what)) in asks.iter().enumerate() {
            let answer = AnswerTo::new(to.clone(), tag, replies.waker());
            process.send(Msg::Ask { what: what.clone(), cause: asked.cause.clone(), answer });
        }
        let mut left = asks.len();
        let mut client = Ok(());
        while left > 0 {
            while let Ok(mut answered) = answers.try_recv().map(|answered| *answered) {
                left -= 1;
                let (process, what) = &asks[answered.tag];
                let write_seq = match what {
                    Ask::Remove if answered.error.is_none() => self.forget(process),
                    _ => process.write_seq(),
                };
                if client.is_ok() {
                    client = self.recorded(write_seq.max(asked.write_seq), replies).and_then(|unrecorded| {
                        answered.unrecorded = unrecorded;
                        then(process, answered, replies)
                    });
                }
            }
            if left == 0 {
                break;
            }
            if client.is_ok() {
                client = replies.wait(None).map(drop);
            } else if asks.iter().any(|(_, what)| *what == Ask::Remove) {
                // A removal that has begun has to be brought to its end here, client or not; it does not
                // take long. If the wait fails, the loop looks again.
                let _ = poll::wait(&mut [], None);
            } else {
                break;
            }
        }
        client
    }

    /// The keeper first: were it the other way round, the next engine might find two processes of one name.
    /// Then out of the table, and only then marked: what is not in the table is deleted from the store.
    /// Returns what has to be written before it is said.
    pub fn forget(&self, process: &Process) -> WriteSeq {
        // Without a keeper the engine ends, and with it the process's memory.
        let _ = self.context.link.send(&ToKeeper::Forget { id: process.id }, &[]);
        self.table.remove(process.id);
        self.context.write_queue.mark_now(process.id)
    }

    /// Waits until every process is in the state wanted, or cannot come to it, or time is up.
    pub(super) fn wait(&self, r: &Wait, replies: &mut Replies<'_>) -> Answer {
        let (mut left, not_found) = self.find_all(&r.targets);
        for (target, error) in not_found {
            replies.send(&missing(target, error, None), More::Follows)?;
        }
        let _watches: Vec<_> = left.iter().map(|p| p.watch(replies.waker())).collect();
        let deadline = r.timeout.map(|t| clock::now_ms().saturating_add(millis(t)));
        loop {
            let mut waiting = Vec::new();
            for process in left {
                match wait_result(&process, r.until) {
                    None => waiting.push(process),
                    Some(error) => replies.send(&item(&process, error, None), More::Follows)?,
                }
            }
            left = waiting;
            if left.is_empty() {
                break;
            }
            if replies.wait(deadline)? == Woken::Deadline {
                for process in &left {
                    let (label, record) = (process.label(), process.record());
                    let waits_for = match process.waits_for(&record, &process.spec()) {
                        whom if r.until == Until::Ready && !whom.is_empty() => format!(", waits for {whom}"),
                        _ => String::new(),
                    };
                    let state = record.state.name();
                    let how = how_ended(&record);
                    let error =
                        Error::new(Code::TimedOut, format!("{label} is still {state}{how}{waits_for}")).hint(
                            format!("'provost why {label}' tells what it waits for, and what came of it"),
                        );
                    replies.send(&item(process, Some(error), None), More::Follows)?;
                }
                break;
            }
        }
        Ok(Reply::Done)
    }
}

/// `None`: not yet. `Some(None)`: it is.
fn wait_result(process: &Process, until: Until) -> Option<Option<Error>> {
    let record = process.record();
    if is_there(&record, &process.spec(), until) {
        return Some(None);
    }
    if is_about_to_start(&record) {
        return None;
    }
    if until != Until::Stopped && record.is_blocked && record.state == State::Starting {
        let e = format!("{} waits for {}, which does not come by itself", process.label(), record.waits_for);
        let hint = "it starts when that is ready: start it, or see 'provost why' of it";
        return Some(Some(Error::new(Code::No, e).hint(hint)));
    }
    // At rest, nothing happens without a person: waiting on would be waiting for ever.
    (record.state.is_at_rest() || process.is_removed()).then(|| Some(never(process, &record)))
}

fn is_there(record: &Record, spec: &Spec, until: Until) -> bool {
    match until {
        Until::Stopped => record.state.is_at_rest() && !is_about_to_start(record),
        Until::Running => record.state == State::Running,
        Until::Ready => record.state == State::Running && record.ready || is_done(record, spec),
    }
}

/// One of the service's own was made just now, and its start is on its way.
fn is_about_to_start(record: &Record) -> bool {
    record.internal && record.run == 0 && record.wanted && record.state == State::Stopped
}

fn never(process: &Process, record: &Record) -> Error {
    let how = how_ended(record);
    let state = if record.state == State::Failed {
        "has failed".to_owned()
    } else {
        format!("is {}", record.state.name())
    };
    Error::new(Code::No, format!("{} {state}{how}", process.label()))
        .hint(format!("'provost why {}' tells what happened", process.label()))
}

/// What came of the run before, of what does not run.
fn how_ended(record: &Record) -> String {
    if !record.state.is_at_rest() && record.state != State::Backoff {
        return String::new();
    }
    match (&record.start_failure, record.exit.map(|exit| exit.end)) {
        _ if !record.unfit.is_empty() => format!(": {}", record.unfit),
        (Some(failure), _) => format!(": {}", failure.in_words()),
        (None, Some(End::Code(code))) => format!(": exit code {code}"),
        (None, Some(End::Signal(number))) => format!(": {}", signal::name(number.into())),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::process::fresh::fresh;
    use crate::wire::id::ProcessId;

    #[test]
    fn who_waits_for_the_end_of_what_is_about_to_start_goes_on_waiting() {
        let made = Record { internal: true, wanted: true, ..fresh(ProcessId::new(), None, None) };
        let spec = Spec::new(vec!["true".to_owned()]);
        let is_stopped = |record: &Record| is_there(record, &spec, Until::Stopped);
        assert!(!is_stopped(&made));
        assert!(!is_stopped(&Record { state: State::Starting, run: 1, ..made.clone() }));
        assert!(is_stopped(&Record { run: 1, ..made.clone() }), "it has run");
        assert!(is_stopped(&Record { wanted: false, ..made.clone() }), "it was stopped before");
        assert!(is_stopped(&Record { internal: false, ..made }), "it was only made");
    }
}

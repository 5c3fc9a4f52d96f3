//! Results of several targets: a line for each, and one exit code for all.

use std::collections::HashMap;
use std::time::Duration;

use crate::cli::json;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::suggest;
use crate::cli::text;
use crate::wire::error::{Code, Error};
use crate::wire::process::{Process, State};
use crate::wire::reply::Item;
use crate::wire::request::Until;
use crate::wire::time::Timestamp;

/// What a command has to say about a process.
pub enum Expectation {
    /// It is as was wanted.
    Yes(String),
    No(String),
}

/// How the targets did.
#[derive(Debug, Default)]
pub struct Counts {
    done: usize,
    failed: Vec<Code>,
}

impl Counts {
    /// One more that did what it should.
    pub fn done(&mut self) {
        self.done += 1;
    }

    /// One more that failed.
    pub fn failed(&mut self, code: Code) {
        self.failed.push(code);
    }

    /// Of these and those.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.done += others.done;
        self.failed.extend(others.failed);
        self
    }

    /// The exit code: 0 when none failed, the code of all when all failed with the same one, 8 when only some
    /// failed.
    pub fn exit_code(&self) -> u8 {
        match self.failed.split_first() {
            None => 0,
            Some(_) if self.done > 0 => Code::Partial.exit_code(),
            Some((first, rest)) if rest.iter().all(|code| code == first) => first.exit_code(),
            Some(_) => Code::Failed.exit_code(),
        }
    }
}

/// Prints each result and counts them.
pub fn report(
    session: &mut Session,
    items: &[Item],
    expectation: impl Fn(&Process) -> Expectation,
) -> Counts {
    let mut counts = Counts::default();
    for item in &suggest::better_items(session, items) {
        if session.is_json() {
            session.object(&json::item(item));
        }
        let Some(process) = judge(item, &mut counts) else { continue };
        let (line, is_met) = match expectation(process) {
            Expectation::Yes(line) => (line, true),
            Expectation::No(line) => (line, false),
        };
        if is_met {
            counts.done()
        } else {
            counts.failed(Code::No)
        }
        if !session.is_json() {
            session.out.line(&format!("{}: {line}", process.label()));
        }
    }
    counts
}

/// Prints the state of each process and counts them.
pub fn report_states(session: &mut Session, items: &[Item]) -> Counts {
    let now = Timestamp::now();
    report(session, items, |process| Expectation::Yes(text::state(process, now)))
}

/// Items in the order of their targets, those of a pattern by name and number: they come as each is done.
pub fn in_order(mut items: Vec<Item>, targets: &[String]) -> Vec<Item> {
    let position: HashMap<&str, usize> = targets.iter().enumerate().map(|(n, t)| (t.as_str(), n)).collect();
    let pattern = targets.iter().position(|t| t.contains('*')).unwrap_or(targets.len());
    items.sort_by_cached_key(|item| {
        let position = position.get(item.target.as_str()).copied().unwrap_or(pattern);
        let instance = item.process.as_ref().and_then(|p| p.instance);
        let name = item.process.as_ref().map_or_else(|| item.target.clone(), Process::label);
        let base = match instance {
            Some(_) => name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(),
            None => name,
        };
        (position, base, instance)
    });
    items
}

/// An item's process, unless it has an error, which is told and counted.
pub fn judge<'a>(item: &'a Item, counts: &mut Counts) -> Option<&'a Process> {
    if let Some(e) = &item.error {
        stdout::complain(&named(item, e));
        counts.failed(e.code);
        return None;
    }
    if let Some(why) = &item.unrecorded {
        let label = item.process.as_ref().map_or_else(|| item.target.clone(), Process::label);
        stdout::notice(&format!("{label}: done, but it is not recorded: {why}"));
    }
    if item.process.is_none() {
        // Gone, which is what a removal wanted.
        counts.done();
    }
    item.process.as_ref()
}

/// Says of what did not come in time what was waited for, and for how long.
pub fn tell_late(items: &mut [Item], until: Until, timeout: Option<Duration>) {
    let after = text::span(timeout.unwrap_or_default());
    for item in items {
        let label = item.process.as_ref().map_or_else(|| item.target.clone(), Process::label);
        let Some(e) = item.error.as_mut().filter(|e| e.code == Code::TimedOut) else { continue };
        // What the service says of it follows the state.
        let state = e.message.split_once(" is still ").map_or("there", |(_, state)| state);
        let state = state.replacen(State::Backoff.name(), "between two attempts", 1);
        let has_schedule = item.process.as_ref().is_some_and(|process| process.schedule.is_on());
        let end = if has_schedule { "stop --keep-schedule" } else { "stop" };
        let why = item.process.as_ref().and_then(Process::awaited).unwrap_or(&label);
        let (what, next) = match until {
            Until::Stopped => {
                ("has not stopped", format!("until it is up: provost wait --for ready {label}; to end it"))
            }
            Until::Running => ("is not running", format!("'provost why {why}' tells more; to end it")),
            Until::Ready => ("is not ready", format!("'provost why {why}' tells more; to end it")),
        };
        e.message = format!("{label} {what} after {after}: it is {state}, and goes on");
        e.hint = format!("{next}: provost {end} {label}");
    }
}

/// The error with its target in front, unless it names it already.
pub fn named(item: &Item, e: &Error) -> Error {
    let label = item.process.as_ref().map_or_else(|| item.target.clone(), Process::label);
    if e.message.contains(&label) || e.message.contains(&item.target) {
        return e.clone();
    }
    Error { message: format!("{label}: {}", e.message), ..e.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::process;

    #[test]
    fn items_of_a_pattern_are_put_in_order() {
        let item = |name: &str, instance| {
            let mut p = process(name);
            p.instance = instance;
            Item { target: name.into(), process: Some(p), error: None, unrecorded: None, has_others: false }
        };
        let items = vec![item("w-10", Some(10)), item("b", None), item("w-2", Some(2)), item("a", None)];
        let sorted = in_order(items, &["b".into(), "*".into()]);
        let names: Vec<&str> = sorted.iter().map(|i| i.target.as_str()).collect();
        assert_eq!(names, ["b", "a", "w-2", "w-10"]);
    }

    #[test]
    fn the_exit_code_of_many() {
        let code = |done, failed: &[Code]| Counts { done, failed: failed.to_vec() }.exit_code();
        assert_eq!(code(2, &[]), 0);
        assert_eq!(code(0, &[Code::NotFound]), 4);
        assert_eq!(code(0, &[Code::NotFound, Code::NotFound]), 4);
        assert_eq!(code(1, &[Code::NotFound]), 8);
        assert_eq!(code(0, &[Code::NotFound, Code::Refused]), 1);
    }
}

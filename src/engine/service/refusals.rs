//! Refusals that repeat: a caller that asks again and again for what it may not have gets one line in the
//! audit, which counts, and not thousands that push others out. Pure: it is told what time it is.

use std::collections::BTreeMap;

use crate::wire::audit::{AuditLine, Note, REFUSED, TIMES_UNTIL, fit};
use crate::wire::json;
use crate::wire::time::Timestamp;

/// How long after the first one others are counted with it, ms.
const WINDOW_MS: u64 = 10 * 60_000;
/// The most lines that are remembered; the oldest goes first.
const LINES_MAX: usize = 1000;
/// How many other things, or names at a login, one line tells of.
const OTHERS_MAX: usize = 8;

/// Who was refused what, as the first word has it, and for want of which role: an endless number of targets
/// makes no endless number of lines.
type Key = (String, String, String);

/// The refusals of the last minutes.
#[derive(Debug, Default)]
pub struct Refusals(BTreeMap<Key, Repeated>);

#[derive(Debug)]
struct Repeated {
    line: AuditLine,
    times: u64,
    /// What the first one was about, and its result.
    what: String,
    result: String,
    /// What those that are counted with it were about, if something else.
    others: Vec<String>,
}

impl Refusals {
    /// The line that this one is counted with, and what it says now; none if it has to have its own.
    pub fn repeated(&mut self, who: &str, note: &Note, now: Timestamp) -> Option<AuditLine> {
        let repeated = self.0.get_mut(&key(who, note)?)?;
        if now.0.saturating_sub(repeated.line.at.0) >= WINDOW_MS {
            return None;
        }
        repeated.times += 1;
        let text = format!("{REFUSED} {}{TIMES_UNTIL}{}", repeated.times, json::time(now));
        let first = repeated.result.strip_prefix(REFUSED).unwrap_or_default();
        repeated.line.result = Some(fit(&format!("{text}{first}")));
        let is_told = note.what == repeated.what || repeated.others.contains(&note.what);
        if !is_told && repeated.others.len() <= OTHERS_MAX {
            let is_last = repeated.others.len() == OTHERS_MAX;
            repeated.others.push(if is_last { "others".to_owned() } else { note.what.clone() });
            repeated.line.what = fit(&format!("{}; also {}", repeated.what, repeated.others.join(", ")));
        }
        Some(repeated.line.clone())
    }

    /// A line of its own, with which the next ones are counted.
    pub fn begin(&mut self, note: &Note, line: &AuditLine) {
        let Some(key) = key(&line.who, note) else { return };
        if self.0.len() >= LINES_MAX && !self.0.contains_key(&key) {
            let oldest =
                self.0.iter().min_by_key(|(_, repeated)| repeated.line.at).map(|(key, _)| key.clone());
            oldest.map(|key| self.0.remove(&key));
        }
        let (what, result) = (note.what.clone(), note.result.clone());
        self.0.insert(key, Repeated { line: line.clone(), times: 1, what, result, others: Vec::new() });
    }
}

/// None: it is no refusal.
fn key(who: &str, note: &Note) -> Option<Key> {
    let verb = note.what.split(' ').next().unwrap_or_default();
    let role = note.result.strip_prefix(REFUSED)?.split_once(" may not ").map_or("", |_| &note.result);
    Some((who.to_owned(), verb.to_owned(), role.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(what: &str, result: &str) -> Note {
        Note { what: what.into(), result: result.into() }
    }

    fn line(seq: u64, at: u64, who: &str, note: &Note) -> AuditLine {
        let result = Some(note.result.clone());
        AuditLine { seq, at: Timestamp(at), who: who.into(), what: note.what.clone(), result }
    }

    #[test]
    fn repeated_refusals_are_one_line_with_a_count() {
        let mut refusals = Refusals::default();
        let stop = |n: u64| note(&format!("stop web-{n}"), "refused: viewer may not stop");
        assert_eq!(refusals.repeated("vera", &stop(0), Timestamp(0)), None);
        refusals.begin(&stop(0), &line(7, 0, "vera", &stop(0)));
        let mut last = None;
        for n in 1..5000 {
            last = refusals.repeated("vera", &stop(n), Timestamp(n));
        }
        let last = last.expect("it is counted");
        assert_eq!((last.at, last.last_at()), (Timestamp(0), Timestamp(4999)));
        assert_eq!(line(8, 5, "vera", &note("stop", "refused: times until then")).last_at(), Timestamp(5));
        let others: Vec<_> = (1..=OTHERS_MAX).map(|n| format!("stop web-{n}, ")).collect();
        assert_eq!((last.seq, last.what), (7, format!("stop web-0; also {}others", others.concat())));
        let result = "refused 5000 times until 1970-01-01T00:00:04.999Z: viewer may not stop";
        assert_eq!(last.result.as_deref(), Some(result));
        // Others, other things, and what is no refusal have lines of their own; so has what comes later.
        assert_eq!(refusals.repeated("olga", &stop(1), Timestamp(1)), None);
        assert_eq!(refusals.repeated("vera", &note("remove web", "refused: no"), Timestamp(1)), None);
        let other_role = note("stop web", "refused: operator may not stop");
        assert_eq!(refusals.repeated("vera", &other_role, Timestamp(1)), None);
        assert_eq!(refusals.repeated("vera", &note("stop web", "done"), Timestamp(1)), None);
        assert_eq!(refusals.repeated("vera", &stop(1), Timestamp(WINDOW_MS)), None);
    }

    #[test]
    fn their_number_is_limited() {
        let mut refusals = Refusals::default();
        let login = note("log in as x", "refused: wrong");
        for n in 0..2 * LINES_MAX as u64 {
            refusals.begin(&login, &line(n, n, &format!("c{n}"), &login));
        }
        assert_eq!(refusals.0.len(), LINES_MAX);
        assert!(refusals.repeated("c1999", &login, Timestamp(2000)).is_some());
    }
}

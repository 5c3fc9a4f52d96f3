//! The audit: every request that changes something, or reads what may be secret, is on record with its client
//! and with what came of it; a change before it is answered. That it was asked is written with whatever else
//! it has written, mostly at no cost of its own; what came of it follows within a moment, or at once where
//! the whole request was refused.

use crate::engine::service::engine::{Answer, Asked, Engine, Failure};
use crate::engine::service::who::Who;
use crate::engine::write_queue::Question;
use crate::listener::{Counts, Replies};
use crate::wire::audit::{AuditLine, AuditLog, fit};
use crate::wire::error::{Code, Error};
use crate::wire::id::OrderKey;
use crate::wire::reply::{More, Reply};
use crate::wire::request::Request;
use crate::wire::time::Timestamp;

/// The most lines of one answer.
const LINES_MAX: u32 = 1000;
/// Lines in one reply: less than 512 KiB.
const BATCH: usize = 250;

impl Engine {
    /// Does what changes something, between the two parts of its line.
    pub(super) fn audited(
        &self,
        who: Who,
        what: String,
        request: Request,
        key: Option<OrderKey>,
        replies: &mut Replies<'_>,
    ) -> Answer {
        let write_queue = &self.context.write_queue;
        let note = if let Request::Note(note) = &request { Some(note.clone()) } else { None };
        if let Some(note) = &note {
            let repeated = self.refusals.lock().repeated(&who.name, note, Timestamp::now());
            if let Some(line) = repeated {
                // The first one is on record.
                write_queue.mark_audit(line);
                return Ok(Reply::Done);
            }
        }
        let result = note.as_ref().map(|note| note.result.clone());
        let seq = self.context.feed.number_audit();
        let Who { name, cause, is_trusted, is_admin, is_gateway, .. } = who;
        let mut line = AuditLine { seq, at: Timestamp::now(), who: name, what, result };
        note.iter().for_each(|note| self.refusals.lock().begin(note, &line));
        let write_seq = write_queue.mark_audit(line.clone());
        let asked = Asked { cause, is_trusted, is_admin, is_gateway, key, write_seq };
        let is_open_ended = matches!(request, Request::Stream(_));
        let ended = self.answer(request, &asked, replies);
        line.result.get_or_insert_with(|| fit(&summary(&ended, replies.counts(), is_open_ended)));
        let write_seq = write_queue.mark_audit(line);
        if let Err(Failure::Failed(_)) = ended {
            self.recorded(write_seq, replies)?;
        }
        ended
    }

    /// Lines that are stored.
    pub(super) fn audit(&self, r: AuditLog, replies: &mut Replies<'_>) -> Answer {
        let max = if r.max == 0 { LINES_MAX } else { r.max.min(LINES_MAX) } as usize;
        let lines = self.context.write_queue.ask(|to| Question::Audit { since: r.since, max, to });
        let failed = |why| Error::new(Code::Failed, format!("the audit cannot be read: {why}"));
        for some in lines.map_err(failed)?.chunks(BATCH) {
            replies.send(&Reply::Audit(some.to_vec()), More::Follows)?;
        }
        Ok(Reply::Done)
    }
}

/// `is_open_ended`: it has no end but that its asker has enough.
fn summary(ended: &Answer, counts: &Counts, is_open_ended: bool) -> String {
    let Counts { done, failed, why } = counts;
    let items = match (done, failed, why) {
        (0 | 1, 0, _) => "done".to_owned(),
        (done, 0, _) => format!("{done} done"),
        (0, 1, Some(e)) => refusal(e),
        (_, _, why) => {
            let why = why.as_ref().map(|e| format!(": {}", e.message)).unwrap_or_default();
            format!("{done} done, {failed} failed{why}")
        }
    };
    match ended {
        Ok(_) => items,
        Err(Failure::Failed(e)) => refusal(e),
        Err(Failure::Closed) if is_open_ended => "until the asker left".to_owned(),
        Err(Failure::Closed) => {
            format!("the asker left before the end; until then: {done} done, {failed} failed")
        }
    }
}

fn refusal(e: &Error) -> String {
    format!("{}: {}", e.code.name(), e.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counts_or_the_error() {
        let e = || Error::new(Code::Refused, "web is running");
        let shown = |ended: Answer, done, failed| {
            summary(&ended, &Counts { done, failed, why: (failed > 0).then(e) }, false)
        };
        assert_eq!(shown(Ok(Reply::Done), 1, 0), "done");
        assert_eq!(shown(Ok(Reply::Done), 3, 0), "3 done");
        assert_eq!(shown(Ok(Reply::Done), 0, 1), "refused: web is running");
        assert_eq!(shown(Ok(Reply::Done), 2, 2), "2 done, 2 failed: web is running");
        assert_eq!(shown(Err(e().into()), 0, 0), "refused: web is running");
        assert!(shown(Err(Failure::Closed), 1, 0).starts_with("the asker left"));
        assert_eq!(summary(&Err(Failure::Closed), &Counts::default(), true), "until the asker left");
    }
}

//! What the host of providers tells, events that the engine knows nothing about, put among its own; and what
//! it has kept, with the line of the audit that says who wanted it.

use crate::engine::service::engine::{Answer, Engine};
use crate::engine::write_queue::Question;
use crate::listener::{Caller, Replies};
use crate::wire::error::{Code, Error};
use crate::wire::event::{Event, EventKind};
use crate::wire::id::Name;
use crate::wire::keep::Keep;
use crate::wire::provider::HOST;
use crate::wire::record::cut;
use crate::wire::reply::{More, Reply};

impl Engine {
    /// Whether this is the host of providers, which alone may say what happened to them. Its number alone is
    /// not enough: once it has ended, another user's process may have that before we hear of the end.
    pub(super) fn is_host(&self, caller: &Caller) -> bool {
        if !caller.is_owner {
            return false;
        }
        let host = self.table.find(HOST).ok().and_then(|found| found.first().and_then(|p| p.record().pid));
        host == Some(caller.pid)
    }

    /// Gives the events their numbers, cut to the room that the feed has for them.
    pub(super) fn announced(&self, events: Vec<Event>) -> Answer {
        let is_named = |e: &Event| e.name.parse::<Name>().is_ok_and(|name| name.is_of_provider());
        let is_its_own = |e: &Event| {
            (e.kind.is_of_provider() && is_named(e)) || (e.kind.is_of_modules() && e.name.is_empty())
        };
        if let Some(e) = events.iter().find(|e| !is_its_own(e) || e.id.is_some()) {
            let e = format!("an event {} is not for the host of providers to tell", e.kind.name());
            return Err(Error::new(Code::Refused, e).into());
        }
        for event in events {
            let (cause, detail) = (cut(&event.cause), cut(&event.detail));
            if self.context.is_stopping() && event.kind == EventKind::ProviderError {
                // Whoever ends the service looks into its log.
                let detail: String = detail.chars().filter(|c| !c.is_control()).collect();
                self.context.say(&format!("{}: {detail}", event.name));
            }
            self.context.feed.publish(Event { cause, detail, run: 0, exit: None, ..event });
        }
        self.context.write_queue.mark_events();
        Ok(Reply::Done)
    }

    /// Answers when the line and the document are written. What came of an earlier line is written soon.
    pub(super) fn keep(&self, keep: Keep, replies: &mut Replies<'_>) -> Answer {
        let Keep { mut line, document } = keep;
        let is_awaited = line.as_ref().is_some_and(|line| line.seq == 0 || document.is_some());
        if let Some(line) = line.as_mut().filter(|line| line.seq == 0) {
            line.seq = self.context.feed.number_audit();
        }
        let seq = line.as_ref().map_or(0, |line| line.seq);
        let write_seq = self.context.write_queue.mark_kept(line, document);
        if is_awaited {
            // Where the database does not work, both wait for it, as all that changes does.
            self.recorded(write_seq, replies)?;
        }
        Ok(Reply::Kept(seq))
    }

    /// The documents of a kind, each in a reply of its own.
    pub(super) fn documents(&self, kind: String, replies: &mut Replies<'_>) -> Answer {
        if self.context.write_queue.dir().is_none() {
            // Nothing is kept.
            return Ok(Reply::Done);
        }
        let documents = self.context.write_queue.ask(|to| Question::Documents { kind, to });
        let failed = |why| Error::new(Code::Failed, format!("the documents cannot be read: {why}"));
        for document in documents.map_err(failed)? {
            replies.send(&Reply::Document(document), More::Follows)?;
        }
        Ok(Reply::Done)
    }
}

//! What the host of providers tells: events that the engine knows nothing about, put among its own.

use crate::engine::service::engine::{Answer, Engine};
use crate::listener::Caller;
use crate::wire::error::{Code, Error};
use crate::wire::event::{Event, EventKind};
use crate::wire::id::Name;
use crate::wire::provider::HOST;
use crate::wire::record::cut;
use crate::wire::reply::Reply;

impl Engine {
    /// Whether this is the host of providers, which alone may say what happened to them.
    pub(super) fn is_host(&self, caller: &Caller) -> bool {
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
}

//! The bulk API of OpenSearch as bytes: what is sent, and what the answer means for each document. Pure.

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::engine::history::sinks::deliver::{Delivery, Failed};
use crate::wire::event::Event;
use crate::wire::json;

/// Largest request, in bytes: half of what small installations take.
const REQUEST_LEN_MAX: usize = 5 << 20;
/// What OpenSearch answers for a document that it cannot take, whoever looks after it.
const BAD_REQUEST: u16 = 400;
/// Errors with that status which an operator can mend: they are about the index and not about the document.
const OF_THE_INDEX: [&str; 4] = [
    "illegal_argument_exception",
    "index_closed_exception",
    "invalid_index_name_exception",
    "validation_exception",
];
/// What such an error is caused by where it is about the document all the same.
const TERM_TOO_LONG: &str = "max_bytes_length_exceeded_exception";

/// What makes an event's document one of its own: sent twice, it is there once.
fn document_id(service: Uuid, event: &Event) -> String {
    format!("{service}-{}", event.seq)
}

/// A request with as many of these events as it may hold, and how many that are: at least one.
pub fn request(events: &[Event], index: &str, service: Uuid) -> (Vec<u8>, usize) {
    let mut body = Vec::new();
    for (n, event) in events.iter().enumerate() {
        let before = body.len();
        let action = json!({ "index": { "_index": index, "_id": document_id(service, event) } });
        let mut document = json::event(event);
        // Several services may share an index.
        document["service"] = service.to_string().into();
        for line in [action, document] {
            serde_json::to_writer(&mut body, &line).expect("a vector takes everything");
            body.push(b'\n');
        }
        if n > 0 && body.len() > REQUEST_LEN_MAX {
            body.truncate(before);
            return (body, n);
        }
    }
    (body, events.len())
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: ItemResult,
}

#[derive(Deserialize)]
struct ItemResult {
    #[serde(rename = "_id")]
    id: Option<String>,
    status: u16,
    error: Option<Value>,
}

impl ItemResult {
    /// Whether this document will never be taken in. What an operator can mend (rights, a blocked, closed or
    /// missing index, a full cluster) is no fault of it.
    fn is_final(&self) -> bool {
        let error = self.error.as_ref();
        let cause = error.and_then(|e| e.get("caused_by"));
        let is = |of: Option<&Value>, kinds: &[&str]| {
            of.and_then(|e| e.get("type")?.as_str()).is_some_and(|kind| kinds.contains(&kind))
        };
        self.status == BAD_REQUEST && (!is(error, &OF_THE_INDEX) || is(cause, &[TERM_TOO_LONG]))
    }

    fn why(&self) -> String {
        let part = |key| self.error.as_ref().and_then(|e| e.get(key)).and_then(Value::as_str);
        match (part("type"), part("reason")) {
            (Some(kind), Some(reason)) => format!("status {}, {kind}: {reason}", self.status),
            _ => format!("status {}", self.status),
        }
    }
}

/// What the answer to a request with these events means for each of them.
pub fn outcome(answer: &[u8], events: &[Event], service: Uuid) -> Result<Delivery, Failed> {
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|e| Failed::new(format!("the answer is not that of a bulk request: {e}")))?;
    if answer.items.len() != events.len() {
        let (items, sent) = (answer.items.len(), events.len());
        return Err(Failed::new(format!("the answer is about {items} documents, {sent} were sent")));
    }
    let mut taken = Delivery { count: events.len(), ..Delivery::default() };
    let mut again: Vec<(usize, &ItemResult)> = Vec::new();
    for (n, (Item { index: outcome }, event)) in answer.items.iter().zip(events).enumerate() {
        if outcome.id.as_ref().is_some_and(|id| *id != document_id(service, event)) {
            return Err(Failed::new("the answer is about other documents than were sent"));
        }
        if outcome.is_final() {
            taken.rejected += 1;
            taken.reason.get_or_insert_with(|| outcome.why());
        } else if !(200..=299).contains(&outcome.status) {
            again.push((n, outcome));
        }
    }
    if let Some((_, first)) = again.first() {
        let count = again.len();
        let message =
            format!("{count} of {} documents were not taken in, the first: {}", events.len(), first.why());
        taken.again = Some((again.iter().map(|(n, _)| *n).collect(), Failed::new(message)));
    }
    Ok(taken)
}

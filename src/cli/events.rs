//! `provost events`: what happened, and what happens.

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::json;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::text;
use crate::client::FeedItem;
use crate::wire::error::Error;
use crate::wire::event::{Event, EventKind};
use crate::wire::request::Events;

pub const COMMAND: Command = Command::new("events", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Show what happened to processes";
const HELP: &str = "\
Usage: provost events [OPTIONS] [TARGET]

A line for each event: number, time, process, what happened. Numbers have no holes; events that are
no longer kept are told on standard error.

Options:
      --follow               Go on as events happen
      --since SEQ            Events after this number; else all that are kept
";

fn parse(arguments: &mut Arguments) -> Result<Events, Error> {
    let mut events = Events::default();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--follow" => events.follow = true,
            "--since" => events.since = arguments.number(&option)?,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    events.target = arguments.optional_target()?;
    Ok(events)
}

fn run(events: Events, session: &mut Session) -> Result<u8, Error> {
    let follow = events.follow;
    for item in session.client()?.events(events)? {
        match item? {
            FeedItem::Event(event) if session.is_json() => session.object(&json::event(&event)),
            FeedItem::Event(event) => session.out.line(&line(&event)),
            FeedItem::Missed(count) => {
                session.out.flush();
                stdout::notice(&format!("{count} events are no longer kept"));
            }
        }
        if follow {
            session.out.flush();
        }
        if session.out.is_broken() {
            break;
        }
    }
    Ok(0)
}

/// An event on a line of its own.
pub fn line(e: &Event) -> String {
    let who = match e.id {
        None if e.name.is_empty() => "service".to_owned(),
        None => e.name.clone(),
        Some(id) if e.name.is_empty() => id.to_string(),
        Some(_) => e.name.clone(),
    };
    format!("{} {} {who} {}", e.seq, json::time(e.at), arguments(e))
}

/// `exited (run 3, exit code 1 after 120 ms)`: an event without its number, time and process.
pub fn arguments(e: &Event) -> String {
    let mut facts = Vec::new();
    if e.run > 0 {
        facts.push(format!("run {}", e.run));
    }
    facts.extend(e.pid.map(|pid| format!("pid {pid}")));
    facts.extend(e.exit.as_ref().map(|exit| format!("{} after {}", text::end(exit), text::span(exit.ran))));
    facts.extend((!e.detail.is_empty()).then(|| text::escaped(&e.detail).into_owned()));
    facts.extend(
        (is_asked_for(e.kind) && !e.cause.is_empty()).then(|| format!("by {}", text::escaped(&e.cause))),
    );
    if facts.is_empty() {
        e.kind.name().to_owned()
    } else {
        format!("{} ({})", e.kind.name(), facts.join(", "))
    }
}

/// Whether a client or a rule asked for it. Any other event only follows from one that was asked for.
fn is_asked_for(kind: EventKind) -> bool {
    match kind {
        EventKind::Created
        | EventKind::Started
        | EventKind::StartFailed
        | EventKind::AttemptFailed
        | EventKind::GaveUp
        | EventKind::Stopping
        | EventKind::Signalled
        | EventKind::Removed
        | EventKind::Updated
        | EventKind::ProviderRegistered
        | EventKind::ProviderUnregistered
        | EventKind::ProviderStopped
        | EventKind::CircuitBreakerIsolated
        | EventKind::EnvChanged => true,
        EventKind::Unknown
        | EventKind::Ready
        | EventKind::Exited
        | EventKind::Lost
        | EventKind::Killed
        | EventKind::Stuck
        | EventKind::Stopped
        | EventKind::Adopted
        | EventKind::ProviderStarted
        | EventKind::ProviderError
        | EventKind::HealthStatusChanged
        | EventKind::CircuitBreakerOpened
        | EventKind::CircuitBreakerHalfOpen
        | EventKind::CircuitBreakerClosed
        | EventKind::Unfit
        | EventKind::Unready
        | EventKind::TakenOver => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        let events = parsed("--follow --since 12 web").unwrap();
        assert_eq!(events, Events { since: 12, follow: true, target: Some("web".into()) });
        assert!(parsed("a b").is_err());
        assert!(parsed("--since x").is_err());
    }
}

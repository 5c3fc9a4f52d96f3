//! `provost events`: what happened, and what happens.

use std::collections::VecDeque;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::json;
use crate::cli::session::Session;
use crate::cli::since::{Begin, last_event};
use crate::cli::stdout;
use crate::cli::text;
use crate::client::{Client, FeedItem};
use crate::wire::error::Error;
use crate::wire::event::{CAUSE_RECONCILER, Event, EventKind, STOPPED_SCHEDULE, STOPPED_WAITING};
use crate::wire::request::Events;

pub const COMMAND: Command = Command::new("events", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Show what happened to processes";
const HELP: &str = "\
Usage: provost events [OPTIONS] [TARGET]

A line for each event: number, time, process, what happened. Numbers have no holes; events that are
no longer kept are told on standard error.

Options:
  -f, --follow               Go on as events happen, beginning with the next one
      --since WHERE          Events after this number, or from a time on: 10m ago, 2026-01-31T12:00:00Z;
                             start: all that are kept, as without --follow; now
  -n, --limit N              Only the last N of those that are kept; with --follow, and then go on

Examples:
  provost events --limit 20
  provost events --since 1h
  provost events --follow web
";

/// What to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct EventsArgs {
    target: Option<String>,
    follow: bool,
    since: Option<Begin>,
    limit: Option<usize>,
}

fn parse(arguments: &mut Arguments) -> Result<EventsArgs, Error> {
    let mut args = EventsArgs::default();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--follow" | "-f" => args.follow = true,
            "--since" => args.since = Some(Begin::parse(&option, &arguments.value(&option)?)?),
            "--limit" | "-n" => args.limit = Some(arguments.number(&option)?),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    args.target = arguments.optional_target()?;
    Ok(args)
}

fn run(args: EventsArgs, session: &mut Session) -> Result<u8, Error> {
    let mut targets: Vec<String> = args.target.into_iter().collect();
    let mut client = session.client_for(&mut targets)?;
    let target = targets.pop();
    let kept = match (args.since, args.limit) {
        (Some(begin), _) => begin.event(&mut client)?,
        (None, None) if args.follow => last_event(&mut client)?,
        (None, _) => 0,
    };
    let mut events = Events { since: kept, follow: args.follow, target };
    if let Some(limit) = args.limit {
        events.since = show_last(&mut client, &events, limit, session)?;
        if !args.follow {
            return Ok(0);
        }
    }
    show_each(&mut client, events, session, show)
}

/// Shows what has come and what comes, one by one; the exit code.
pub fn show_each(
    client: &mut Client,
    events: Events,
    session: &mut Session,
    show: impl Fn(&Event, &mut Session),
) -> Result<u8, Error> {
    let is_followed = events.follow;
    if is_followed {
        stdout::end_with_reader()?;
    }
    for item in client.events(events)? {
        match item? {
            FeedItem::Event(event) => show(&event, session),
            FeedItem::Missed(count) => {
                session.out.flush();
                stdout::notice(&format!("{count} events are no longer kept"));
            }
        }
        if is_followed {
            session.out.flush();
        }
        if session.out.is_broken() {
            break;
        }
    }
    Ok(0)
}

/// The last ones of those that are kept. Returns the number of the last.
fn show_last(
    client: &mut Client,
    events: &Events,
    limit: usize,
    session: &mut Session,
) -> Result<u64, Error> {
    let (mut last, mut seq) = (VecDeque::new(), events.since);
    for item in client.events(Events { follow: false, ..events.clone() })? {
        match item? {
            FeedItem::Event(event) => {
                seq = event.seq;
                last.push_back(event);
                if last.len() > limit {
                    last.pop_front();
                }
            }
            // Of what is not shown anyway.
            FeedItem::Missed(_) => {}
        }
    }
    last.iter().for_each(|event| show(event, session));
    session.out.flush();
    Ok(seq)
}

fn show(event: &Event, session: &mut Session) {
    session.answer(|| json::event(event), || line(event));
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
    facts.extend((is_asked_for(e) && !e.cause.is_empty()).then(|| match e.cause.as_str() {
        CAUSE_RECONCILER => "as the service found it".to_owned(),
        cause => format!("by {}", text::escaped(cause)),
    }));
    let what = title(e);
    if facts.is_empty() { what.to_owned() } else { format!("{what} ({})", facts.join(", ")) }
}

/// What people are told. Scripts have the names.
fn title(e: &Event) -> &'static str {
    // It tells of the run to come; that the one before has failed is told by its end.
    if e.kind == EventKind::AttemptFailed && e.detail.starts_with("attempt") {
        return "restart planned";
    }
    e.kind.name()
}

/// Whether this is where somebody stopped it.
pub fn is_a_stop(e: &Event) -> bool {
    let ended_no_run = || [STOPPED_WAITING, STOPPED_SCHEDULE].contains(&e.detail.as_str());
    e.kind == EventKind::Stopping || e.kind == EventKind::Stopped && ended_no_run()
}

/// Whether a client or a rule asked for it. Any other event only follows from one that was asked for.
fn is_asked_for(e: &Event) -> bool {
    match e.kind {
        EventKind::Stopped => is_a_stop(e),
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
        | EventKind::CanaryStarted
        | EventKind::CanaryAborted
        | EventKind::EnvChanged => true,
        EventKind::Unknown
        | EventKind::Ready
        | EventKind::Exited
        | EventKind::Lost
        | EventKind::Killed
        | EventKind::Stuck
        | EventKind::Adopted
        | EventKind::ProviderStarted
        | EventKind::ProviderError
        | EventKind::HealthStatusChanged
        | EventKind::CircuitBreakerOpened
        | EventKind::CircuitBreakerHalfOpen
        | EventKind::CircuitBreakerClosed
        | EventKind::Unfit
        | EventKind::Unready
        | EventKind::CanaryPromoted
        | EventKind::CanaryRolledBack
        | EventKind::Missed
        | EventKind::ModuleMissing
        | EventKind::ModuleBack
        | EventKind::ModuleDeaf
        | EventKind::Forked
        | EventKind::EndsService
        | EventKind::HookFailed
        | EventKind::OomKilled
        | EventKind::OverMemory
        | EventKind::TakenOver => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        let args = parsed("-f --since 12 web -n 5").unwrap();
        assert_eq!((args.since, args.follow, args.limit), (Some(Begin::After(12)), true, Some(5)));
        assert_eq!(args.target.as_deref(), Some("web"));
        assert!(parsed("a b").is_err());
        assert!(parsed("--since x").is_err());
    }
}

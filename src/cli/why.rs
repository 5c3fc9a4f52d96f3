//! `provost why`: what happened to a process, why, and what comes next, in sentences.

use std::time::Duration;

use serde_json::json;

use crate::cli::arguments::Arguments;
use crate::cli::batch::named;
use crate::cli::command::{Command, job};
use crate::cli::events;
use crate::cli::json;
use crate::cli::session::Session;
use crate::cli::text;
use crate::client::Client;
use crate::client::FeedItem;
use crate::client::StreamItem;
use crate::wire::error::Error;
use crate::wire::event::{Event, EventKind};
use crate::wire::process::{Process, State};
use crate::wire::request::{Events, Since, Stream, StreamKind};
use crate::wire::time::Timestamp;

/// How far back the last line of output is looked for, in bytes.
const LOOK_BACK: u64 = 4 << 10;
/// How many events are shown.
const EVENTS_MAX: usize = 8;
/// The longest last line, in characters.
const LINE_LEN_MAX: usize = 160;

pub const COMMAND: Command = Command::new("why", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Tell what happened to a process, why, and what comes next";
const HELP: &str = "\
Usage: provost why TARGET

One sentence from its state, its last end and its last output, then its latest events.
";

fn parse(arguments: &mut Arguments) -> Result<String, Error> {
    arguments.no_options()?;
    arguments.one_target()
}

fn run(target: String, session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client()?;
    let mut processes = Vec::new();
    for item in client.status(vec![target])? {
        match &item.error {
            Some(e) => return Err(named(&item, e)),
            None => processes.extend(item.process),
        }
    }
    for process in &processes {
        let last_line = last_line(&output_end(&mut client, process)?);
        let events = latest_events(&mut client, process)?;
        let stopper = stopper(process, &events);
        let sentence = sentence(process, stopper, last_line.as_deref(), Timestamp::now());
        if session.is_json() {
            session.object(&json!({
                "id": process.id.to_string(),
                "name": process.name.as_ref().map(|n| n.as_str()),
                "state": process.state.name(),
                "sentence": sentence,
                "last_output": last_line,
                "events": events.iter().map(json::event).collect::<Vec<_>>(),
            }));
            continue;
        }
        session.out.line(&sentence);
        for event in events {
            session.out.line(&format!("  {}  {}", json::time(event.at), events::arguments(&event)));
        }
    }
    Ok(0)
}

/// The last bytes of what it printed up to now, without waiting for more.
fn output_end(client: &mut Client, process: &Process) -> Result<Vec<u8>, Error> {
    let (start, end) = (process.output_start, process.output_end);
    let mut bytes = Vec::new();
    if start == end {
        return Ok(bytes);
    }
    let since = Since::Offset(end.saturating_sub(LOOK_BACK).max(start));
    let stream = Stream { targets: vec![process.id.to_string()], kind: StreamKind::Both, since };
    for item in client.stream(stream)? {
        match item? {
            StreamItem::Chunk(chunk) => {
                bytes.extend_from_slice(&chunk.data);
                if chunk.offset + chunk.data.len() as u64 >= end {
                    break;
                }
            }
            StreamItem::Gap(gap) if gap.offset + gap.missed >= end => break,
            StreamItem::Gap(_) => {}
            StreamItem::Ended(_) => break,
        }
    }
    Ok(bytes)
}

/// The last line that is not empty, harmless and not too long.
fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(text::cut(&text::escaped(line.trim_end()), LINE_LEN_MAX).into_owned())
}

fn latest_events(client: &mut Client, process: &Process) -> Result<Vec<Event>, Error> {
    let events = Events { since: 0, follow: false, target: Some(process.id.to_string()) };
    let mut all = Vec::new();
    for item in client.events(events)? {
        if let FeedItem::Event(event) = item? {
            all.push(event);
        }
    }
    Ok(all.split_off(all.len().saturating_sub(EVENTS_MAX)))
}

/// Who stopped the latest run; none when it ended by itself.
fn stopper<'a>(p: &Process, events: &'a [Event]) -> Option<&'a str> {
    let stop = events.iter().rev().find(|e| e.kind == EventKind::Stopping && e.run == p.run)?;
    Some(&stop.cause)
}

fn sentence(p: &Process, stopper: Option<&str>, last_line: Option<&str>, now: Timestamp) -> String {
    let mut parts = what_is(p, stopper, now);
    if p.restarts > 0 && !matches!(p.state, State::Backoff | State::Failed) {
        let times = if p.restarts == 1 { "once".to_owned() } else { format!("{} times", p.restarts) };
        parts.push(format!("restarted {times} by itself so far"));
    }
    parts.extend(p.outdated.then(|| {
        let label = p.label();
        format!("its definition was changed since it started: 'provost restart {label}' makes it hold")
    }));
    parts.extend(what_next(p, now));
    parts.extend(last_line.map(|line| format!("last output: {line}")));
    format!("{}: {}", p.label(), parts.join("; "))
}

/// What it is now, and how it came to that.
fn what_is(p: &Process, stopper: Option<&str>, now: Timestamp) -> Vec<String> {
    let by = |who: &str| if who.is_empty() { String::new() } else { format!(" by {}", text::escaped(who)) };
    let asked = if p.cause.is_empty() { String::new() } else { format!(", asked for{}", by(&p.cause)) };
    match p.state {
        State::Running => {
            let since = p.started_at.map(|at| format!(" for {}", text::age(at, now))).unwrap_or_default();
            let pid = p.pid.map(|pid| format!("pid {pid}, ")).unwrap_or_default();
            let ready = if p.ready { "and ready" } else { "but not ready" };
            let mut parts = vec![format!("running{since} {ready} ({pid}run {}){asked}", p.run)];
            parts.extend((!p.status.is_empty()).then(|| format!("says: {}", text::escaped(&p.status))));
            parts.extend(
                how_it_ended(p).filter(|_| p.exit.is_some()).map(|end| format!("the run before: {end}")),
            );
            parts
        }
        State::Starting if p.is_blocked => vec![format!(
            "waits for {}, which does not come by itself; it starts when that is ready{asked}",
            text::escaped(&p.waits_for)
        )],
        State::Starting if !p.waits_for.is_empty() => {
            vec![format!("waits for {}{asked}", text::escaped(&p.waits_for))]
        }
        State::Starting => vec![format!("starting (run {}){asked}", p.run)],
        State::Stopping if p.stuck => {
            vec![format!(
                "stopping{asked}; SIGKILL was sent, and something of it does not die: it hangs in the kernel"
            )]
        }
        State::Stopping if !p.unfit.is_empty() => vec![format!("stopping: {}", text::escaped(&p.unfit))],
        State::Stopping => vec![format!("stopping{asked}")],
        State::Backoff => {
            let attempt = match p.max_restarts {
                Some(max) if p.attempts <= max => format!("{} of {max}", p.attempts),
                Some(_) | None => p.attempts.to_string(),
            };
            vec![format!("backing off after attempt {attempt}{}", in_brackets(p))]
        }
        State::Failed => {
            vec![format!("failed: gave up after {} restarts{}", p.window_restarts, in_brackets(p))]
        }
        State::Stopped => {
            let ago = p.stopped_at.map(|at| format!(" {} ago", text::age(at, now))).unwrap_or_default();
            let how = match stopper {
                _ if p.start_failure.is_some() => "could not be started".to_owned(),
                _ if p.exit.is_none() => text::no_end(p).to_owned(),
                _ if !p.unfit.is_empty() => "failed".to_owned(),
                Some(who) => format!("stopped{}", by(who)),
                None => "ended by itself".to_owned(),
            };
            vec![format!("{how}{ago}{}", in_brackets(p))]
        }
    }
}

/// What will happen without a person, or what a person can do.
fn what_next(p: &Process, now: Timestamp) -> Option<String> {
    let label = p.label();
    match p.state {
        State::Backoff => p.next_attempt_at.map(|at| format!("next attempt in {}", text::until(at, now))),
        State::Stopping => p.kill_at.map(|at| format!("SIGKILL in {}", text::until(at, now))),
        State::Failed | State::Stopped => Some(format!("it stays so until 'provost start {label}'")),
        State::Running | State::Starting => None,
    }
}

/// ` (exit code 1, 120 ms after start)`, or nothing.
fn in_brackets(p: &Process) -> String {
    how_it_ended(p).map(|end| format!(" ({end})")).unwrap_or_default()
}

fn how_it_ended(p: &Process) -> Option<String> {
    let end = text::last_end(p)?;
    let ran = p.exit.as_ref().filter(|_| p.start_failure.is_none()).map(|exit| exit.ran);
    Some(match ran.filter(|ran| *ran > Duration::ZERO) {
        Some(ran) => format!("{end}, {} after start", text::span(ran)),
        None => end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::process;
    use crate::wire::process::{End, Exit};

    fn failing() -> Process {
        let mut p = process("web");
        p.state = State::Backoff;
        p.pid = None;
        (p.attempts, p.max_restarts) = (3, Some(10));
        p.next_attempt_at = Some(Timestamp(11_640));
        p.exit = Some(Exit {
            end: End::Code(1),
            core: false,
            oom: false,
            ran: Duration::from_millis(120),
            user: Duration::ZERO,
            system: Duration::ZERO,
            max_rss_kib: 0,
        });
        p
    }

    #[test]
    fn a_backoff_is_explained() {
        assert_eq!(
            sentence(&failing(), None, Some("boom"), Timestamp(10_000)),
            "web: backing off after attempt 3 of 10 (exit code 1, 120 ms after start); next attempt in 1.6 s; \
             last output: boom"
        );
    }

    #[test]
    fn giving_up_tells_the_way_out() {
        let mut p = failing();
        (p.state, p.window_restarts, p.restarts) = (State::Failed, 10, 10);
        let text = sentence(&p, None, None, Timestamp(10_000));
        assert!(text.contains("gave up after 10 restarts") && text.contains("'provost start web'"), "{text}");
    }

    #[test]
    fn a_stop_by_a_person_is_told_from_an_end_by_itself() {
        let mut p = failing();
        (p.state, p.stopped_at) = (State::Stopped, Some(Timestamp(8_000)));
        let text = |stopper| sentence(&p, stopper, None, Timestamp(10_000));
        assert!(text(Some("uid 0")).starts_with("web: stopped by uid 0 2.0 s ago (exit code 1, 120 ms"));
        assert!(text(None).starts_with("web: ended by itself 2.0 s ago (exit code 1"));
    }

    #[test]
    fn the_last_line_is_harmless() {
        assert_eq!(last_line(b"a\nb\x1b[2J\r\n\n  \n").as_deref(), Some("b\\u{1b}[2J"));
        assert_eq!(last_line(b"\n"), None);
    }
}

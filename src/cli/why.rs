//! `provost why`: what happened to a process, why, and what comes next, in sentences.

use std::time::Duration;

use serde_json::json;

use crate::cli::arguments::Arguments;
use crate::cli::batch::named;
use crate::cli::command::{Command, job};
use crate::cli::events;
use crate::cli::json;
use crate::cli::last_output;
use crate::cli::session::Session;
use crate::cli::text;
use crate::client::Client;
use crate::client::FeedItem;
use crate::sys::signal;
use crate::wire::error::Error;
use crate::wire::event::{CAUSE_RECONCILER, Event, EventKind, LEFT_BEHIND};
use crate::wire::process::{End, Process, State};
use crate::wire::request::Events;
use crate::wire::time::Timestamp;

/// How many events are shown.
const EVENTS_MAX: usize = 8;
/// How many of the last lines of a run are shown.
const LINES_MAX: usize = 10;

pub const COMMAND: Command = Command::new("why", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Tell what happened to a process, why, and what comes next";
const HELP: &str = "\
Usage: provost why TARGET

One sentence from its state, its last end and its last output, then the last lines of the run before, if
that has failed, and its latest events. Who may not read output gets all but that.

Examples:
  provost why web
";

fn parse(arguments: &mut Arguments) -> Result<String, Error> {
    arguments.no_options()?;
    arguments.one_target()
}

fn run(target: String, session: &mut Session) -> Result<u8, Error> {
    let mut targets = vec![target];
    let mut client = session.client_for(&mut targets)?;
    let mut processes = Vec::new();
    for item in client.look_at(targets)? {
        match &item.error {
            Some(e) => return Err(named(&item, e)),
            None => processes.extend(item.process),
        }
    }
    for process in &processes {
        let lines = last_output::read(&mut client, process, LINES_MAX)?;
        // What one of ours says last of all is how to mend it.
        let is_hint = |line: &&String| line.starts_with("provost: hint: ");
        let last_of = |lines: &'_ [String]| lines.iter().rev().find(|line| !is_hint(line)).cloned();
        let last_line = last_of(&lines.latest);
        let line_before = if last_line.is_none() { last_of(&lines.before) } else { None };
        let events = latest_events(&mut client, process)?;
        let facts = Facts {
            stopper: stopper(process, &events),
            killer: killer(process, &events),
            is_background: went_into_background(process, &events),
            last_line: last_line.as_deref(),
            line_before: line_before.as_deref(),
            unfit_before: unfit_before(process, &events),
            // What failed and was started again: then the latest lines are of another run.
            before: if died_before(process) { &lines.before } else { &[] },
        };
        let sentence = sentence(process, &facts, Timestamp::now());
        if session.is_json() {
            session.object(&json!({
                "id": process.id.to_string(),
                "name": process.name.as_ref().map(|n| n.as_str()),
                "state": process.state.name(),
                "sentence": sentence,
                "last_output": last_line,
                "output_of_run_before": facts.before,
                "events": events.iter().map(json::event).collect::<Vec<_>>(),
            }));
            continue;
        }
        session.out.line(&sentence);
        if lines.is_refused {
            session.out.line("  its output is not shown: you may not read it");
        }
        if !facts.before.is_empty() {
            session.out.line(&format!("  last output of run {}, which ended:", process.run - 1));
            facts.before.iter().for_each(|line| session.out.line(&format!("    {line}")));
        }
        for event in &events {
            session.out.line(&format!("  {}  {}", json::time(event.at), events::arguments(event)));
        }
    }
    Ok(0)
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
    let stop = events.iter().rev().find(|e| events::is_a_stop(e) && e.run == p.run)?;
    Some(&stop.cause)
}

/// Who sent the signal by which the latest run ended, if a client did.
fn killer<'a>(p: &Process, events: &'a [Event]) -> Option<&'a str> {
    let End::Signal(number) = p.exit.as_ref()?.end else { return None };
    let sent = format!("{} to ", signal::name(u32::from(number)));
    let is_it = |e: &&Event| {
        e.kind == EventKind::Signalled
            && e.run == p.run
            && e.detail.starts_with(&sent)
            && !e.detail.ends_with(LEFT_BEHIND)
    };
    events.iter().rev().find(is_it).map(|e| e.cause.as_str())
}

/// Why the service ended the run before: it was not ready in time, or well no more.
fn unfit_before<'a>(p: &Process, events: &'a [Event]) -> Option<&'a str> {
    let unfit = events.iter().rev().find(|e| e.kind == EventKind::Unfit && e.run + 1 == p.run)?;
    Some(&unfit.detail)
}

/// What is told beside the process itself.
#[derive(Clone, Copy, Debug, Default)]
struct Facts<'a> {
    /// Who stopped the latest run; none when it ended by itself.
    stopper: Option<&'a str>,
    /// Who sent it the signal by which it ended.
    killer: Option<&'a str>,
    /// The program went on in the background, and that was ended.
    is_background: bool,
    last_line: Option<&'a str>,
    /// Of the run before, where the latest has printed nothing.
    line_before: Option<&'a str>,
    /// Why the run before was ended by the service.
    unfit_before: Option<&'a str>,
    /// The last lines of the run before, if that has died.
    before: &'a [String],
}

/// Whether the latest run follows one that has failed.
fn died_before(p: &Process) -> bool {
    p.run > 1 && matches!(p.state, State::Running | State::Starting) && last_output::has_failed(p)
}

/// Whether a run that ended well left something behind: the latest, or the one before.
fn went_into_background(p: &Process, events: &[Event]) -> bool {
    let ended_well = |run: u64| {
        let mut exits = events.iter().filter(|e| e.kind == EventKind::Exited && e.run == run);
        exits.any(|e| e.exit.as_ref().is_some_and(|exit| exit.end == End::Code(0)))
    };
    let left = |e: &Event| e.kind == EventKind::Signalled && e.detail.ends_with(LEFT_BEHIND);
    events.iter().any(|e| left(e) && e.run + 1 >= p.run && ended_well(e.run))
}

/// How programs that are known for it stay where they are.
const IN_FOREGROUND: [(&str, &str); 6] = [
    ("nginx", "nginx -g 'daemon off;'"),
    ("redis-server", "redis-server --daemonize no"),
    ("httpd", "httpd -D FOREGROUND"),
    ("apache2", "apache2 -D FOREGROUND"),
    ("sshd", "sshd -D"),
    ("php-fpm", "php-fpm -F"),
];

fn foreground(p: &Process) -> String {
    const WHAT: &str =
        "it put itself into the background, and what it left behind was ended: run it in the foreground";
    let program = p.command.first().and_then(|program| program.rsplit('/').next()).unwrap_or_default();
    match IN_FOREGROUND.iter().find(|(name, _)| *name == program) {
        Some((_, command)) => format!("{WHAT}: {command}"),
        None => format!("{WHAT}, or give forking = true and its pid_file"),
    }
}

fn sentence(p: &Process, facts: &Facts<'_>, now: Timestamp) -> String {
    let mut parts = what_is(p, facts, now);
    parts.extend(facts.is_background.then(|| foreground(p)));
    if p.restarts > 0 && !matches!(p.state, State::Backoff | State::Failed) {
        let times = if p.restarts == 1 { "once".to_owned() } else { format!("{} times", p.restarts) };
        parts.push(format!("restarted {times} by itself so far"));
    }
    parts.extend(p.outdated.then(|| {
        let label = p.label();
        format!("its definition was changed since it started: 'provost restart {label}' makes it hold")
    }));
    parts.extend(what_next(p, now));
    parts.extend(facts.last_line.map(|line| format!("last output: {line}")));
    parts.extend(facts.line_before.map(|line| format!("last output, of the run before: {line}")));
    format!("{}: {}", p.label(), parts.join("; "))
}

/// What it is now, and how it came to that.
fn what_is(p: &Process, facts: &Facts<'_>, now: Timestamp) -> Vec<String> {
    let by = |who: &str| if who.is_empty() { String::new() } else { format!(" by {}", text::escaped(who)) };
    let asked = match p.cause.as_str() {
        "" => String::new(),
        CAUSE_RECONCILER => ", found so when the service began".to_owned(),
        cause => format!(", asked for{}", by(cause)),
    };
    match p.state {
        State::Running => {
            let since = p.started_at.map(|at| format!(" for {}", text::age(at, now))).unwrap_or_default();
            let pid = p.pid.map(|pid| format!("pid {pid}, ")).unwrap_or_default();
            let ready = if p.ready { "and ready".to_owned() } else { format!("but {}", text::not_ready(p)) };
            let mut parts = vec![format!("running{since} {ready} ({pid}run {}){asked}", p.run)];
            parts.extend((!p.limits_trouble.is_empty()).then(|| text::limits(p)).flatten());
            parts.extend(p.halted.then(|| text::HALTED.to_owned()));
            parts.extend((!p.hook.is_empty()).then(|| format!("runs its {}", text::escaped(&p.hook))));
            parts.extend((!p.status.is_empty()).then(|| format!("says: {}", text::escaped(&p.status))));
            let before = how_it_ended(p).filter(|_| p.exit.is_some());
            parts.extend(before.map(|end| match facts.unfit_before {
                Some(why) => format!("the run before was ended: {} ({end})", text::escaped(why)),
                None => format!("the run before: {end}"),
            }));
            parts
        }
        State::Starting | State::Stopping if !p.hook.is_empty() && !p.stuck => {
            vec![format!("{}: runs its {}{asked}", p.state.name(), text::escaped(&p.hook))]
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
                "stopping{asked}; SIGKILL was sent, and something of it is still there: it hangs in the kernel, or is another user's"
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
            vec![format!(
                "failed: gave up after {}{}",
                text::count(p.window_restarts, "restart"),
                in_brackets(p)
            )]
        }
        State::Stopped | State::Scheduled if p.run == 0 => vec!["has not run yet".to_owned()],
        State::Stopped | State::Scheduled => {
            let ago = p.stopped_at.map(|at| format!(" {} ago", text::age(at, now))).unwrap_or_default();
            let how = match facts.stopper {
                _ if p.start_failure.is_some() => "could not be started".to_owned(),
                _ if p.exit.is_none() => text::no_end(p).to_owned(),
                _ if !p.unfit.is_empty() => "failed".to_owned(),
                Some(who) => format!("stopped{}", by(who)),
                None => match facts.killer {
                    Some(who) => format!("ended by a signal that {} sent", text::escaped(who)),
                    None => "ended by itself".to_owned(),
                },
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
        State::Stopping => text::stop_progress(p, now),
        State::Failed | State::Stopped | State::Scheduled => Some(match p.next_run_at {
            Some(at) => {
                let when = p.schedule.when.as_deref().unwrap_or_default();
                let zone = p.schedule.zone.as_deref().map(|zone| format!(" {zone}")).unwrap_or_default();
                format!(
                    "it runs next in {}, as its schedule says: {}",
                    text::until(at, now),
                    text::escaped(&format!("{when}{zone}"))
                )
            }
            None if p.schedule.is_on() => {
                format!("its schedule is suspended until 'provost start {label}', which also runs it at once")
            }
            None if p.state == State::Failed && p.name.is_some() => {
                format!(
                    "it stays so until 'provost start {label}', or until another service begins and tries it"
                )
            }
            None => format!("it stays so until 'provost start {label}'"),
        }),
        // Of that there is more to know.
        State::Starting => p.awaited().map(|other| format!("'provost why {other}' tells of that")),
        State::Running => None,
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
    use crate::wire::process::Exit;

    fn failing() -> Process {
        let mut p = process("web");
        p.state = State::Backoff;
        p.pid = None;
        (p.attempts, p.max_restarts) = (3, Some(10));
        p.next_attempt_at = Some(Timestamp(11_640));
        p.exit = Some(Exit { ran: Duration::from_millis(120), ..Exit::with(End::Code(1)) });
        p
    }

    #[test]
    fn why_the_run_before_was_ended_is_told_before_by_what() {
        let exit = Some(Exit { ran: Duration::from_secs(8), ..Exit::with(End::Signal(15)) });
        let p = Process { run: 2, exit, ..process("web") };
        let unfit_before = Some("it was not ready within 8 s");
        let said = sentence(&p, &Facts { unfit_before, ..Facts::default() }, Timestamp(10_000));
        assert!(
            said.contains(
                "; the run before was ended: it was not ready within 8 s (SIGTERM, 8.0 s after start)"
            ),
            "{said}"
        );
    }

    #[test]
    fn a_line_of_the_run_before_is_told_as_that() {
        let said =
            |line_before| sentence(&process("web"), &Facts { line_before, ..Facts::default() }, Timestamp(9));
        assert!(said(Some("GET / 200")).ends_with("; last output, of the run before: GET / 200"));
        assert!(!said(None).contains("output"));
    }

    #[test]
    fn a_backoff_is_explained() {
        assert_eq!(
            sentence(&failing(), &Facts { last_line: Some("boom"), ..Facts::default() }, Timestamp(10_000)),
            "web: backing off after attempt 3 of 10 (exit code 1, 120 ms after start); next attempt in 1.6 s; \
             last output: boom"
        );
    }

    #[test]
    fn giving_up_tells_the_way_out() {
        let mut p = failing();
        (p.state, p.window_restarts, p.restarts) = (State::Failed, 10, 10);
        let text = sentence(&p, &Facts::default(), Timestamp(10_000));
        assert!(text.contains("gave up after 10 restarts") && text.contains("'provost start web'"), "{text}");
    }

    #[test]
    fn a_stop_by_a_person_is_told_from_an_end_by_itself() {
        let mut p = failing();
        (p.state, p.stopped_at) = (State::Stopped, Some(Timestamp(8_000)));
        let text = |stopper| sentence(&p, &Facts { stopper, ..Facts::default() }, Timestamp(10_000));
        assert!(text(Some("uid 0")).starts_with("web: stopped by uid 0 2.0 s ago (exit code 1, 120 ms"));
        assert!(text(None).starts_with("web: ended by itself 2.0 s ago (exit code 1"));
        let facts = Facts { killer: Some("uid 0"), ..Facts::default() };
        let killed = sentence(&p, &facts, Timestamp(10_000));
        assert!(killed.starts_with("web: ended by a signal that uid 0 sent 2.0 s ago"), "{killed}");
    }

    #[test]
    fn what_went_into_the_background_is_told_how_to_stay() {
        let mut p = failing();
        p.command = vec!["/usr/sbin/nginx".into()];
        let text = sentence(&p, &Facts { is_background: true, ..Facts::default() }, Timestamp(10_000));
        assert!(text.contains("in the foreground: nginx -g 'daemon off;'"), "{text}");
    }
}

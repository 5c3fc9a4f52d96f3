//! `provost list`: what there is. A table for people, lines for `cut` and for scripts.

use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use serde_json::json;

use crate::cli::applied;
use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::format::Format;
use crate::cli::json;
use crate::cli::process_table::{self, Colours};
use crate::cli::session::Session;
use crate::cli::since::last_event;
use crate::cli::stdout;
use crate::cli::text;
use crate::cli::values;
use crate::client::Client;
use crate::sys::thread;
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::process::{Process, State, Usage};
use crate::wire::request::{Events, List};
use crate::wire::time::Timestamp;

/// How often the ages on a screen are drawn again. The service is asked only when something has happened.
const REDRAW: Duration = Duration::from_secs(1);

/// All states, for an option.
const STATES: [State; 7] = [
    State::Stopped,
    State::Starting,
    State::Running,
    State::Stopping,
    State::Backoff,
    State::Failed,
    State::Scheduled,
];

pub const COMMAND: Command = Command::new("list", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "List processes";
const HELP: &str = "\
Usage: provost list [OPTIONS] [PATTERN]

On a terminal a table that fits it. Else a line for each, without a header, its fields set apart by tabs:
UUID, name, state, pid, run, restarts, start of the latest run, command; '-' stands for nothing. With
--usage, before the command: processor time in ms, memory in bytes, processes, threads, descriptors.

Options:
  -a, --all                  Also what the service runs for itself
      --state STATE,..       Only those that are stopped, starting, running, stopping, backoff, failed
                             or scheduled
      --failed               Only what is in trouble: it gave up, waits for its next attempt, or is at rest and
                             its last run failed, whatever its state is called
      --label K[=V]          Only those with this label; may be repeated, then all have to be there
      --count                Only how many run; with --state or --failed, how many of these there are
      --table                The table in a pipe, too
      --format TEXT          A line for each with its fields in place: any that --json has, as {name},
                             {pid} or {exit.code}; \\t and \\n are understood
      --usage                What each takes of the machine with all it started: time on processors, resident
                             memory, processes, threads, open descriptors; with --json also bytes from and to
                             storage
  -w, --watch                Show it again whenever something changes, until ctrl-c; with --usage each second

Examples:
  provost list --failed
  provost list --label tier=front 'web-*'
  provost list --format '{name} {pid}'
  provost list --count 'web-*'
  provost list --usage --watch
";

#[derive(Debug, Default, PartialEq, Eq)]
struct ListArgs {
    list: List,
    /// Empty: all.
    states: Vec<State>,
    is_failed: bool,
    labels: Vec<(String, Option<String>)>,
    format: Option<Format>,
    is_count: bool,
    is_table: bool,
    is_watched: bool,
}

fn parse(arguments: &mut Arguments) -> Result<ListArgs, Error> {
    let mut args = ListArgs::default();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--all" | "-a" => args.list.all = true,
            "--state" => args.states.extend(states(&arguments.value(&option)?)?),
            "--failed" => args.is_failed = true,
            "--label" => {
                let label = arguments.value(&option)?;
                let (key, value) = label.split_once('=').unzip();
                args.labels.push((key.unwrap_or(&label).to_owned(), value.map(str::to_owned)));
            }
            "--usage" => args.list.usage = true,
            "--count" => args.is_count = true,
            "--table" => args.is_table = true,
            "--format" => args.format = Some(arguments.value(&option)?.parse()?),
            "--watch" | "-w" => args.is_watched = true,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    if args.is_count && (args.is_table || args.is_watched || args.format.is_some() || args.list.usage) {
        return Err(arguments.usage("--count prints a number and nothing else".into()));
    }
    if args.is_count && args.states.is_empty() && !args.is_failed {
        args.states.push(State::Running);
    }
    args.list.pattern = arguments.optional_target()?;
    Ok(args)
}

fn states(text: &str) -> Result<Vec<State>, Error> {
    let one = |name: &str| {
        STATES.into_iter().find(|state| state.name() == name).ok_or_else(|| {
            let all = "write stopped, starting, running, stopping, backoff, failed or scheduled";
            values::bad("--state", name, all)
        })
    };
    text.split(',').map(one).collect()
}

impl ListArgs {
    fn fits(&self, p: &Process) -> bool {
        let has = |(key, value): &(String, Option<String>)| {
            p.labels.iter().any(|(k, v)| k == key && value.as_ref().is_none_or(|value| v == value))
        };
        (self.states.is_empty() || self.states.contains(&p.state))
            && (!self.is_failed || process_table::is_in_trouble(p))
            && self.labels.iter().all(has)
    }

    /// Why a screen stays empty.
    fn nothing(&self) -> String {
        match &self.list.pattern {
            Some(pattern) if STATES.iter().any(|state| state.name() == pattern) => {
                format!("no process is called {pattern}; in that state: provost list --state {pattern}")
            }
            Some(pattern) => format!("no process fits {}: 'provost list' shows all", quoted(pattern)),
            None if self.states.is_empty() && self.labels.is_empty() && !self.is_failed => {
                "there is no process: 'provost start --name NAME -- COMMAND' starts one".to_owned()
            }
            None => "no process is so: 'provost list' shows all".to_owned(),
        }
    }

    fn read(&self, client: &mut Client) -> Result<Vec<Process>, Error> {
        let mut processes = client.list(self.list.clone())?;
        processes.retain(|p| self.fits(p));
        Ok(processes)
    }

    fn print(&self, processes: &[Process], session: &mut Session) {
        if self.is_count {
            match session.is_json() {
                true => session.object(&json!({ "count": processes.len() })),
                false => session.out.line(&processes.len().to_string()),
            }
        } else if session.is_json() {
            processes.iter().for_each(|p| session.object(&json::process(p)));
        } else if let Some(format) = &self.format {
            processes.iter().for_each(|p| session.out.line(&format.line(p)));
        } else if session.out.is_terminal() || self.is_table {
            let is_terminal = session.out.is_terminal();
            let colours = if is_terminal { Colours::wanted() } else { Colours::No };
            let size = session.out.size();
            let mut lines =
                process_table::lines(processes, Timestamp::now(), colours, size.map(|size| size.columns));
            if let Some(rows) = size.map(|size| size.rows).filter(|&rows| self.is_watched && rows > 1) {
                // The last line stays free for the cursor.
                lines.truncate(rows - 1);
            }
            lines.iter().for_each(|line| session.out.line(line));
        } else {
            processes.iter().for_each(|p| session.out.line(&line(p, self.list.usage)));
        }
    }
}

fn run(mut args: ListArgs, session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client()?;
    if args.list.pattern.as_deref() == Some("all") {
        let mut all = ["all".to_owned()];
        client = session.client_for(&mut all)?;
        args.list.pattern = Some(std::mem::take(&mut all[0]));
    }
    if args.is_watched {
        return watch(&args, &mut client, session);
    }
    let processes = args.read(&mut client)?;
    args.print(&processes, session);
    if processes.is_empty() && session.out.is_terminal() && !session.is_json() && !args.is_count {
        stdout::notice(&args.nothing());
    }
    applied::notice(session);
    Ok(0)
}

/// Shows it again after each event. One thread waits for those, this one for it, or for the next drawing.
fn watch(args: &ListArgs, client: &mut Client, session: &mut Session) -> Result<u8, Error> {
    let (tell, news_come) = crossbeam_channel::bounded(1);
    let mut feed = session.client()?;
    let since = last_event(&mut feed)?;
    let mut feed = feed.events(Events { since, follow: true, target: None })?;
    let wait = move || {
        while let Some(batch) = feed.batch() {
            let is_over = batch.is_err();
            // One that is not taken yet says the same.
            let _ = tell.try_send(batch.map(drop));
            if is_over {
                return;
            }
        }
    };
    thread::spawn("events", wait).map_err(|e| Error::failed("wait for events", &text::cause(&e)))?;
    stdout::end_with_reader()?;
    let is_screen = session.out.is_terminal() && !session.is_json();
    let mut processes = args.read(client)?;
    loop {
        if is_screen {
            // Home, and nothing of what was there.
            session.out.bytes(b"\x1b[H\x1b[2J");
        }
        args.print(&processes, session);
        session.out.flush();
        if session.out.is_broken() {
            return Ok(0);
        }
        let news = if is_screen || args.list.usage {
            match news_come.recv_timeout(REDRAW) {
                // What is taken changes without an event.
                Err(RecvTimeoutError::Timeout) if args.list.usage => Some(Ok(())),
                Err(RecvTimeoutError::Timeout) => continue,
                news => news.ok(),
            }
        } else {
            news_come.recv().ok()
        };
        match news {
            Some(news) => news?,
            None => return Ok(0),
        }
        processes = args.read(client)?;
        if !is_screen && !session.is_json() {
            session.out.line("");
        }
    }
}

fn line(p: &Process, is_usage: bool) -> String {
    let maybe = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let used = |what: &dyn Fn(&Usage) -> u64| maybe(p.usage.as_ref().map(|usage| what(usage).to_string()));
    let mut fields = vec![
        p.id.to_string(),
        maybe(p.name.as_ref().map(ToString::to_string)),
        p.state.name().to_owned(),
        maybe(p.pid.map(|pid| pid.to_string())),
        p.run.to_string(),
        p.restarts.to_string(),
        maybe(p.started_at.map(json::time)),
    ];
    if is_usage {
        fields.extend([used(&|u| u.cpu_ms), used(&|u| u.memory), used(&|u| u.processes.into())]);
        fields.extend([used(&|u| u.threads.into()), used(&|u| u.descriptors.into())]);
    }
    fields.push(text::quoted_command(&p.command));
    fields.join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::process;

    #[test]
    fn one_pattern_at_most() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        assert_eq!(
            parsed("web-* -a").unwrap().list,
            List { pattern: Some("web-*".into()), all: true, ..List::default() }
        );
        assert!(parsed("a b").is_err());
    }

    #[test]
    fn states_and_labels_choose() {
        let mut p = process("web");
        p.labels = vec![("tier".into(), "front".into())];
        let fits = |line: &str| parse(&mut Arguments::of(line)).unwrap().fits(&p);
        assert!(
            fits("") && fits("--state failed,running") && fits("--label tier") && fits("--label tier=front")
        );
        assert!(!fits("--state failed") && !fits("--label tier=back") && !fits("--label tier --label x"));
        assert!(parse(&mut Arguments::of("--state up")).is_err());
        assert!(!fits("--failed"));
        (p.state, p.pid, p.unfit) = (State::Stopped, None, "port 80".to_owned());
        let fits = |line: &str| parse(&mut Arguments::of(line)).unwrap().fits(&p);
        assert!(fits("--failed") && !fits("--state failed") && fits("--count --failed"));
    }

    #[test]
    fn a_plain_line_has_eight_fields() {
        let mut p = process("web");
        p.name = None;
        let line = line(&p, false);
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(fields[1..], ["-", "running", "1", "1", "0", "1970-01-01T00:00:00.001Z", "true"]);
    }
}

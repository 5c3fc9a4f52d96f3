//! `provost list`: what there is. A table for people, lines for `cut`.

use std::env;

use crate::cli::applied;
use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::json;
use crate::cli::session::Session;
use crate::cli::text;
use crate::wire::error::Error;
use crate::wire::process::{Process, State};
use crate::wire::request::List;
use crate::wire::time::Timestamp;

/// The longest command in the table, in characters; `--json` has it whole.
const COMMAND_LEN_MAX: usize = 60;

pub const COMMAND: Command = Command::new("list", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "List processes";
const HELP: &str = "\
Usage: provost list [OPTIONS] [PATTERN]

On a terminal a table. Else a line for each, without a header, its fields set apart by tabs:
UUID, name, state, pid, run, restarts, start of the latest run, command; '-' stands for nothing.

Options:
      --all                  Also what the service runs for itself
";

fn parse(arguments: &mut Arguments) -> Result<List, Error> {
    let mut list = List::default();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--all" => list.all = true,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    list.pattern = arguments.optional_target()?;
    Ok(list)
}

fn run(list: List, session: &mut Session) -> Result<u8, Error> {
    let processes = session.client()?.list(list)?;
    if session.is_json() {
        processes.iter().for_each(|p| session.object(&json::process(p)));
    } else if session.out.is_terminal() {
        let lines = table(&processes, Timestamp::now(), Colours::wanted());
        lines.iter().for_each(|line| session.out.line(line));
    } else {
        processes.iter().for_each(|p| session.out.line(&line(p)));
    }
    applied::notice(session);
    Ok(0)
}

fn line(p: &Process) -> String {
    let maybe = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    [
        p.id.to_string(),
        maybe(p.name.as_ref().map(ToString::to_string)),
        p.state.name().to_owned(),
        maybe(p.pid.map(|pid| pid.to_string())),
        p.run.to_string(),
        p.restarts.to_string(),
        maybe(p.started_at.map(json::time)),
        text::quoted_command(&p.command),
    ]
    .join("\t")
}

/// Whether the table has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colours {
    No,
    Yes,
}

impl Colours {
    /// Unless `NO_COLOR` is set to anything, or the terminal is a dumb one.
    fn wanted() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        if is_set("NO_COLOR") || dumb { Self::No } else { Self::Yes }
    }

    fn paint(self, state: State, text: &str) -> String {
        let colour = match (self, state) {
            (Self::No, _) | (Self::Yes, State::Stopped) => return text.to_owned(),
            (Self::Yes, State::Running) => 32,
            (Self::Yes, State::Starting | State::Stopping) => 36,
            (Self::Yes, State::Backoff) => 33,
            (Self::Yes, State::Failed) => 31,
        };
        format!("\x1b[{colour}m{text}\x1b[0m")
    }
}

/// The table's lines, its header first. Empty when there is nothing to show.
fn table(processes: &[Process], now: Timestamp, colours: Colours) -> Vec<String> {
    const STATE: usize = 1;
    if processes.is_empty() {
        return Vec::new();
    }
    let header = ["NAME", "STATE", "PID", "RUN", "RESTARTS", "AGE", "COMMAND"].map(str::to_owned);
    let rows: Vec<[String; 7]> = [header].into_iter().chain(processes.iter().map(|p| row(p, now))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut lines = Vec::with_capacity(rows.len());
    for (n, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            if column == 6 {
                line.push_str(cell);
                continue;
            }
            let padded = format!("{cell:<width$}", width = widths[column]);
            match n.checked_sub(1) {
                Some(n) if column == STATE => line.push_str(&colours.paint(processes[n].state, &padded)),
                _ => line.push_str(&padded),
            }
            line.push_str("  ");
        }
        lines.push(line);
    }
    lines
}

fn row(p: &Process, now: Timestamp) -> [String; 7] {
    let state = match (p.state, p.ready, p.stuck) {
        (State::Running, false, _) => "running, not ready".to_owned(),
        (State::Running, true, _) if p.outdated => "running, outdated".to_owned(),
        (State::Starting, _, _) if !p.waits_for.is_empty() => "starting, waits".to_owned(),
        (State::Stopping, _, true) => "stopping, stuck".to_owned(),
        (state, _, _) => state.name().to_owned(),
    };
    // Of what runs, since when; of what does not, since when not.
    let since = if p.pid.is_some() { p.started_at } else { p.stopped_at.or(Some(p.created_at)) };
    [
        p.label(),
        state,
        p.pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
        p.run.to_string(),
        p.restarts.to_string(),
        since.map_or_else(|| "-".into(), |at| text::age(at, now)),
        text::cut(&text::quoted_command(&p.command), COMMAND_LEN_MAX).into_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::process;

    #[test]
    fn one_pattern_at_most() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        assert_eq!(
            parsed("web-* --all").unwrap(),
            List { pattern: Some("web-*".into()), all: true, ..List::default() }
        );
        assert!(parsed("a b").is_err());
    }

    #[test]
    fn f19_the_table_is_aligned_whatever_commands_hold() {
        let mut odd = process("odd");
        odd.command = vec!["a\u{1b}[31m\n".into(), "x".repeat(100)];
        odd.state = State::Failed;
        let lines = table(&[process("web"), odd], Timestamp(60_001), Colours::No);
        assert_eq!(lines[0], "NAME  STATE    PID  RUN  RESTARTS  AGE    COMMAND");
        assert_eq!(lines[1], "web   running  1    1    0         1 min  true");
        assert!(lines[2].contains("'a\\u{1b}[31m\\n' xxx") && lines[2].ends_with('…'), "{}", lines[2]);
        assert!(table(&[process("web")], Timestamp(1), Colours::Yes)[1].contains("\x1b[32mrunning\x1b[0m"));
    }

    #[test]
    fn a_plain_line_has_eight_fields() {
        let mut p = process("web");
        p.name = None;
        let line = line(&p);
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(fields[1..], ["-", "running", "1", "1", "0", "1970-01-01T00:00:00.001Z", "true"]);
    }
}

//! Processes as a table that fits the terminal it is on: columns that a person can do without go first, then
//! the command and the name are cut.

use std::env;
use std::time::Duration;

use crate::cli::text;
use crate::sys::signal;
use crate::wire::process::{End, Process, State, Usage};
use crate::wire::time::Timestamp;

/// How wide the command stays at least, as long as there are other columns to leave out.
const COMMAND_WIDTH_MIN: usize = 16;
/// How wide a name stays at least.
const NAME_WIDTH_MIN: usize = 8;

/// Whether a table has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    No,
    Yes,
}

const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const CYAN: u8 = 36;
const RED: u8 = 31;

impl Colours {
    /// Unless `NO_COLOR` is set to anything, or the terminal is a dumb one.
    pub fn wanted() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        if is_set("NO_COLOR") || dumb { Self::No } else { Self::Yes }
    }

    fn paint(self, colour: Option<u8>, text: &str) -> String {
        match (self, colour) {
            (Self::Yes, Some(colour)) => format!("\x1b[{colour}m{text}\x1b[0m"),
            (Self::Yes, None) | (Self::No, _) => text.to_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Name,
    State,
    Exit,
    Pid,
    Run,
    Restarts,
    Age,
    Command,
    /// What it takes of the machine, where that was asked for.
    Cpu,
    Memory,
    Processes,
    Threads,
    Descriptors,
}

impl Column {
    /// From left to right.
    const ALL: [Self; 8] =
        [Self::Name, Self::State, Self::Pid, Self::Run, Self::Restarts, Self::Age, Self::Exit, Self::Command];
    /// The same where it is asked for what they take of the machine.
    const USAGE: [Self; 10] = [
        Self::Name,
        Self::State,
        Self::Pid,
        Self::Cpu,
        Self::Memory,
        Self::Processes,
        Self::Threads,
        Self::Descriptors,
        Self::Age,
        Self::Command,
    ];
    /// Those that are left out where there is no room, the first one first.
    const TO_SPARE: [Self; 8] = [
        Self::Run,
        Self::Restarts,
        Self::Threads,
        Self::Descriptors,
        Self::Processes,
        Self::Pid,
        Self::Command,
        Self::Age,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::State => "STATE",
            Self::Exit => "LAST EXIT",
            Self::Pid => "PID",
            Self::Run => "RUN",
            Self::Restarts => "RESTARTS",
            Self::Age => "AGE",
            Self::Command => "COMMAND",
            Self::Cpu => "CPU TIME",
            Self::Memory => "MEMORY",
            Self::Processes => "PROCS",
            Self::Threads => "THREADS",
            Self::Descriptors => "FDS",
        }
    }

    fn cell(self, p: &Process, now: Timestamp) -> String {
        let used = |what: &dyn Fn(&Usage) -> String| p.usage.as_ref().map_or_else(|| "-".into(), what);
        match self {
            Self::Cpu => used(&|u| text::span(Duration::from_millis(u.cpu_ms))),
            Self::Memory => used(&|u| text::bytes(u.memory)),
            Self::Processes => used(&|u| u.processes.to_string()),
            Self::Threads => used(&|u| u.threads.to_string()),
            Self::Descriptors => used(&|u| u.descriptors.to_string()),
            Self::Name => p.label(),
            Self::State => state(p, now),
            Self::Exit => last_exit(p),
            Self::Pid => p.pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
            Self::Run => p.run.to_string(),
            Self::Restarts => p.restarts.to_string(),
            Self::Age => {
                // Of what runs, since when; of what does not, since when not.
                let since = if p.pid.is_some() { p.started_at } else { p.stopped_at.or(Some(p.created_at)) };
                since.map_or_else(|| "-".into(), |at| text::age(at, now))
            }
            Self::Command => text::quoted_command(&p.command),
        }
    }

    fn colour(self, p: &Process) -> Option<u8> {
        match self {
            Self::State => colour_of(p.state),
            Self::Exit => is_failure(p).then_some(RED),
            Self::Name | Self::Pid | Self::Run | Self::Restarts | Self::Age | Self::Command => None,
            Self::Cpu | Self::Memory | Self::Processes | Self::Threads | Self::Descriptors => None,
        }
    }
}

fn colour_of(state: State) -> Option<u8> {
    match state {
        State::Stopped => None,
        State::Running => Some(GREEN),
        State::Starting | State::Stopping => Some(CYAN),
        State::Backoff => Some(YELLOW),
        State::Failed => Some(RED),
        State::Scheduled => Some(CYAN),
    }
}

fn state(p: &Process, now: Timestamp) -> String {
    match (p.state, p.ready, p.stuck) {
        (State::Running, false, _) => "running, not ready".to_owned(),
        (State::Running, true, _) if p.outdated => "running, outdated".to_owned(),
        (State::Starting, _, _) if !p.waits_for.is_empty() => "starting, waits".to_owned(),
        (State::Stopping, _, true) => "stopping, stuck".to_owned(),
        (State::Scheduled, _, _) if p.next_run_at.is_some() => {
            let until = p.next_run_at.map(|at| text::until(at, now)).unwrap_or_default();
            format!("scheduled, in {until}")
        }
        (state, _, _) if p.is_suspended() => {
            format!("{}, suspended", state.name())
        }
        (state, _, _) => state.name().to_owned(),
    }
}

/// `exited 4`, `SIGKILL, out of memory`, `exec: no such file or directory`.
fn last_exit(p: &Process) -> String {
    match (&p.start_failure, &p.exit) {
        (Some(failure), _) if failure.errno == 0 => "not started".to_owned(),
        (Some(failure), _) => format!("{}: {}", failure.step, text::errno(failure.errno)),
        (None, Some(exit)) if !p.unfit.is_empty() => format!("unfit, {}", text::end(exit)),
        (None, Some(exit)) => match exit.end {
            End::Code(code) => format!("exited {code}"),
            End::Signal(_) => text::end(exit),
        },
        (None, None) => "-".to_owned(),
    }
}

/// SIGTERM is what a stop sends, so it is a failure only of what is not to be stopped.
fn is_failure(p: &Process) -> bool {
    p.start_failure.is_some()
        || !p.unfit.is_empty()
        || p.exit.as_ref().is_some_and(|exit| match exit.end {
            End::Code(code) => code != 0,
            End::Signal(number) => {
                exit.core
                    || exit.oom
                    || u32::from(number) != signal::TERM
                    || matches!(p.state, State::Failed | State::Backoff)
            }
        })
}

/// Whether somebody has to look at it: it failed, and does not run now.
pub fn is_in_trouble(p: &Process) -> bool {
    match p.state {
        State::Failed | State::Backoff => true,
        State::Stopped | State::Scheduled => is_failure(p),
        State::Starting | State::Running | State::Stopping => false,
    }
}

/// The table's lines, its header first, none wider than the terminal. Empty when there is nothing to show.
pub fn lines(processes: &[Process], now: Timestamp, colours: Colours, width: Option<usize>) -> Vec<String> {
    if processes.is_empty() {
        return Vec::new();
    }
    let (columns, widths) = layout(processes, now, width);
    let line = |cell: &dyn Fn(Column) -> (String, Option<u8>)| {
        let cells = columns.iter().zip(&widths).map(|(&column, &width)| {
            let (text, colour) = cell(column);
            let fitted = text::fitted(&text, width);
            // Nothing is aligned behind the last one.
            let is_last = Some(&column) == columns.last();
            let shown = if is_last { fitted.into_owned() } else { text::padded(&fitted, width) };
            colours.paint(colour, &shown)
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    let header = line(&|column| (column.title().to_owned(), None));
    let rows = processes.iter().map(|p| line(&|column| (column.cell(p, now), column.colour(p))));
    [header].into_iter().chain(rows).collect()
}

/// Which columns there are, and how wide each is.
fn layout(processes: &[Process], now: Timestamp, width: Option<usize>) -> (Vec<Column>, Vec<usize>) {
    let natural = |column: Column| {
        let cells = processes.iter().map(|p| text::width(&column.cell(p, now)));
        cells.chain([text::width(column.title())]).max().unwrap_or(0)
    };
    let is_usage = processes.iter().any(|p| p.usage.is_some());
    let mut columns = if is_usage { Column::USAGE.to_vec() } else { Column::ALL.to_vec() };
    let mut widths: Vec<usize> = columns.iter().map(|&column| natural(column)).collect();
    let Some(width) = width else { return (columns, widths) };
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
    let at_least = |columns: &[Column], widths: &[usize]| {
        let command = columns.iter().position(|&c| c == Column::Command);
        total(widths) - command.map_or(0, |at| widths[at].saturating_sub(COMMAND_WIDTH_MIN))
    };
    for spared in Column::TO_SPARE {
        if at_least(&columns, &widths) <= width {
            break;
        }
        if let Some(at) = columns.iter().position(|&c| c == spared) {
            columns.remove(at);
            widths.remove(at);
        }
    }
    // What is too wide still is cut; how a process is stays whole for the longest.
    for cut in [Column::Command, Column::Name, Column::Exit, Column::State] {
        let Some(at) = columns.iter().position(|&c| c == cut) else { continue };
        let over = total(&widths).saturating_sub(width);
        let least = if cut == Column::Name { NAME_WIDTH_MIN } else { text::width(cut.title()) };
        widths[at] -= over.min(widths[at].saturating_sub(least));
    }
    (columns, widths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::process;
    use crate::wire::process::Exit;

    fn failed(name: &str) -> Process {
        let mut p = process(name);
        (p.state, p.pid) = (State::Failed, None);
        p.exit = Some(Exit::with(End::Code(4)));
        p
    }

    #[test]
    fn f19_the_table_is_aligned_whatever_commands_hold() {
        let mut odd = failed("odd");
        odd.command = vec!["a\u{1b}[31m\n".into(), "x".repeat(100)];
        let all = [process("web"), odd];
        let shown = lines(&all, Timestamp(60_001), Colours::No, Some(100));
        assert_eq!(shown[0], "NAME  STATE    PID  RUN  RESTARTS  AGE    LAST EXIT  COMMAND");
        assert_eq!(shown[1], "web   running  1    1    0         1 min  -          true");
        assert!(shown[2].contains("'a\\u{1b}[31m\\n' xxx") && shown[2].ends_with('…'), "{}", shown[2]);
        assert!(lines(&all, Timestamp(1), Colours::Yes, None)[1].contains("\x1b[32mrunning\x1b[0m"));
        assert!(lines(&all, Timestamp(1), Colours::Yes, None)[2].contains("\x1b[31mexited 4"));
    }

    #[test]
    fn what_they_take_stands_where_it_was_asked_for() {
        let (mut web, db) = (process("web"), failed("db"));
        web.usage =
            Some(Usage { cpu_ms: 61_000, memory: 12_345_678, processes: 2, threads: 3, ..Usage::default() });
        let shown = lines(&[web, db], Timestamp(60_001), Colours::No, Some(100));
        assert_eq!(shown[0], "NAME  STATE    PID  CPU TIME   MEMORY    PROCS  THREADS  FDS  AGE    COMMAND");
        assert_eq!(shown[1], "web   running  1    1 min 1 s  11.7 MiB  2      3        0    1 min  true");
        assert!(shown[2].starts_with("db    failed   -    -          -         -"), "{}", shown[2]);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut wide = failed("a-name-that-is-rather-long-for-a-process");
        wide.command = vec!["日本語".repeat(40)];
        let all = [process("web"), wide, failed("db")];
        for width in [40, 60, 80, 120, 200] {
            let shown = lines(&all, Timestamp(60_001), Colours::No, Some(width));
            for line in &shown {
                assert!(text::width(line) <= width, "{width}: {line}");
            }
            assert!(shown[2].starts_with("a-name-t") && shown[2].contains("exited 4"), "{width}: {shown:?}");
        }
    }
}

//! `provost logs`: lines of processes from their files and from what is kept, as one, in order of time.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::Path;

use regex::bytes::Regex;
use serde_json::json;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::escape::escape;
use crate::cli::json;
use crate::cli::log_lines::{Line, Lines, STDERR, STDOUT};
use crate::cli::output::tell_empty;
use crate::cli::runs::{Run, Which};
use crate::cli::session::Session;
use crate::cli::since::when;
use crate::cli::stdout;
use crate::cli::values;
use crate::client::{Client, FeedItem, StreamItem};
use crate::wire::error::{Code, Error};
use crate::wire::event::EventKind;
use crate::wire::id::{ProcessId, quoted};
use crate::wire::log::LogFormat;
use crate::wire::process::Process;
use crate::wire::redact;
use crate::wire::reply::{Chunk, Definition};
use crate::wire::request::{Events, Output, Since, Stream, StreamKind};
use crate::wire::spec::Spec;
use crate::wire::time::Timestamp;

pub const COMMAND: Command = Command::new("logs", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Print lines of processes, from their log files and from what is kept";
const HELP: &str = "\
Usage: provost logs [OPTIONS] TARGET...

Old files, also compressed ones, the present one and the output that the service keeps are read as one;
lines of several processes are ordered by time. Files are read here, by whoever calls this; those of
another machine are not, nor is what may not be read: then there is what is kept. Lines of files with
log_format = \"raw\" have no time but that of their file, as long as they are not among what is kept.

Options:
      --since WHEN           Lines from then on: a duration back from now, as 10m, or a time as 16:30,
                             2026-01-31, 2026-01-31T16:30 or 2026-01-31T12:00:00Z
      --until WHEN           Lines up to then
      --run N                Lines of this run only; last: of the latest. Not of files without times
      --grep RE              Lines that this regular expression matches
      --level LEVEL          Lines of this level and above: trace, debug, info, warn, error or fatal.
                             A line without one is of the level of the line before of its stream
      --stdout               Standard output only
      --stderr               Standard error only. Files that both streams share say which one a line
                             is of only with log_format = \"json\"
  -n, --tail N               The last N of those lines
      --follow, -f           Go on with what comes, over stops and starts, until Ctrl-c
      --timestamps           Put the time before each line
      --prefix               Put the process's name before each line, '!' before standard error; by
                             default where there are several

Examples:
  provost logs --since 10m --grep timeout web
  provost logs --tail 100 --follow 'worker-*'
  provost logs --level warn --since 2026-01-31T12:00:00Z --until 2026-01-31T13:00:00Z web
";

/// Words for levels, the least first; those of one level in one line.
const LEVELS: [&[&str]; 6] = [
    &["trace"],
    &["debug"],
    &["info", "notice"],
    &["warn", "warning"],
    &["error", "err"],
    &["fatal", "critical", "panic", "emerg", "alert"],
];
/// The level of lines before the first that has one: info.
const LEVEL_DEFAULT: usize = 2;
/// So far into a line its level is looked for, in bytes.
const LEVEL_WITHIN: usize = 160;

struct LogsArgs {
    targets: Vec<String>,
    wanted: Wanted,
    tail: Option<usize>,
    run: Option<Which>,
    follow: bool,
    timestamps: bool,
    prefix: bool,
}

/// Which lines are shown.
#[derive(Default)]
struct Wanted {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    grep: Option<Regex>,
    level: Option<usize>,
    kind: StreamKind,
}

impl Wanted {
    /// Whether every line is.
    fn is_all(&self) -> bool {
        let is_bound = self.since.is_some() || self.until.is_some();
        !is_bound && self.grep.is_none() && self.level.is_none() && self.kind == StreamKind::Both
    }
}

/// The levels of the last lines: of standard error, and of what else there is.
#[derive(Clone, Copy)]
struct Levels {
    stderr: usize,
    other: usize,
}

impl Levels {
    const FIRST: Self = Self { stderr: LEVEL_DEFAULT, other: LEVEL_DEFAULT };
}

fn parse(arguments: &mut Arguments) -> Result<LogsArgs, Error> {
    let (mut wanted, mut tail, mut run) = (Wanted::default(), None, None);
    let (mut follow, mut timestamps, mut prefix) = (false, false, false);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--since" => wanted.since = Some(when(&option, &arguments.value(&option)?)?),
            "--until" => wanted.until = Some(when(&option, &arguments.value(&option)?)?),
            "--grep" => wanted.grep = Some(expression(&arguments.value(&option)?)?),
            "--level" => {
                let value = arguments.value(&option)?;
                let found =
                    LEVELS.iter().position(|words| words.contains(&value.to_ascii_lowercase().as_str()));
                let all = "write trace, debug, info, warn, error or fatal";
                wanted.level = Some(found.ok_or_else(|| values::bad(&option, &value, all))?);
            }
            "--stdout" => wanted.kind = values::narrow(wanted.kind, StreamKind::Stdout),
            "--stderr" => wanted.kind = values::narrow(wanted.kind, StreamKind::Stderr),
            "--run" => run = Some(arguments.value(&option)?.parse()?),
            "--tail" | "-n" => tail = Some(arguments.number(&option)?),
            "--follow" | "-f" => follow = true,
            "--timestamps" => timestamps = true,
            "--prefix" => prefix = true,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    if run.is_some() && follow {
        return Err(arguments.usage("--run and --follow exclude one another".into()));
    }
    Ok(LogsArgs { targets: arguments.targets()?, wanted, tail, run, follow, timestamps, prefix })
}

fn expression(text: &str) -> Result<Regex, Error> {
    Regex::new(text).map_err(|e| {
        let why = redact::why(&e);
        Error::usage(format!("--grep takes a regular expression, not {}: {why}", quoted(text)))
    })
}

/// Lines of one process, or of one of its streams.
struct Source {
    id: ProcessId,
    lines: Lines,
    /// The next one, with the time by which it is ordered.
    next: Option<(Timestamp, Line)>,
    levels: Levels,
    /// That all lines are of; none: each says so itself, or nobody knows.
    stream: Option<&'static str>,
    /// The one that is meant; none: all.
    run: Option<Run>,
    /// Lines were left out of which nobody knows the run.
    has_unknown: bool,
}

impl Source {
    /// Goes to the next line that is wanted.
    fn advance(&mut self, wanted: &Wanted, last: Timestamp) -> io::Result<()> {
        loop {
            let Some(mut line) = self.lines.next().transpose()? else {
                self.next = None;
                return Ok(());
            };
            line.stream = line.stream.or(self.stream);
            let at = line.at.unwrap_or(last);
            self.has_unknown |= self.run.is_some() && line.at.is_none();
            if self.run.is_none_or(|run| run.has(line.at)) && wanted.takes(&line, &mut self.levels) {
                self.next = Some((at, line));
                return Ok(());
            }
        }
    }
}

impl Wanted {
    fn takes(&self, line: &Line, levels: &mut Levels) -> bool {
        let is_stderr = line.stream == Some(STDERR);
        let level = if is_stderr { &mut levels.stderr } else { &mut levels.other };
        if self.level.is_some() {
            *level = level_of(&line.text).unwrap_or(*level);
        }
        let is_late = self.since.is_none_or(|since| line.at.is_none_or(|at| at >= since));
        let is_early = self.until.is_none_or(|until| line.at.is_none_or(|at| at <= until));
        let is_loud = self.level.is_none_or(|least| *level >= least);
        let is_of_kind = match self.kind {
            StreamKind::Both => true,
            StreamKind::Stdout => line.stream == Some(STDOUT),
            StreamKind::Stderr => is_stderr,
        };
        is_late
            && is_early
            && is_loud
            && is_of_kind
            && self.grep.as_ref().is_none_or(|grep| grep.is_match(&line.text))
    }
}

/// The first word near the begin of a line that names a level.
fn level_of(line: &[u8]) -> Option<usize> {
    let begin = &line[..line.len().min(LEVEL_WITHIN)];
    let words = begin.split(|b| !b.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    let named = |word: &[u8]| {
        LEVELS.iter().position(|names| names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes())))
    };
    words.filter_map(named).next()
}

fn run(mut args: LogsArgs, session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client_for(&mut args.targets)?;
    let definitions = definitions(&mut client, &args.targets, session.remote.is_given())?;
    let mut shows = Shows::new(&definitions, &args, session);
    let (mut sources, mut ends) = (Vec::new(), Vec::new());
    for definition in &definitions {
        let id = definition.process.id;
        let chunks = client.output(Output { target: id.to_string(), kind: StreamKind::Both })?;
        let end = chunks.last().map(|chunk| chunk.offset + chunk.data.len() as u64);
        ends.push((id, end.unwrap_or(definition.process.output_end)));
        let run = args.run.map(|which| Run::of(&mut client, &definition.process, which)).transpose()?;
        let new = sources_of(definition, &chunks, &args.wanted);
        sources.extend(new.into_iter().map(|source| Source { run, ..source }));
    }
    tell_timeless(&definitions, &sources, &args);
    let (mut last_ones, mut is_shown) = (VecDeque::new(), false);
    let mut show = |shown: (ProcessId, Line), session: &mut Session| match args.tail {
        Some(0) => {}
        Some(most) => {
            if last_ones.len() == most {
                last_ones.pop_front();
            }
            last_ones.push_back(shown);
        }
        None => {
            is_shown = true;
            shows.line(shown.0, &shown.1, session);
        }
    };
    for source in &mut sources {
        advance(source, &args.wanted, Timestamp::default(), &shows_name(&definitions, source.id));
    }
    while let Some(first) = earliest(&sources) {
        let source = &mut sources[first];
        let Some((at, line)) = source.next.take() else { break };
        show((source.id, line), session);
        advance(source, &args.wanted, at, &shows_name(&definitions, source.id));
        if session.out.is_broken() {
            return Ok(0);
        }
    }
    let is_empty = args.tail.is_none() && !is_shown || args.tail.is_some() && last_ones.is_empty();
    for (id, line) in last_ones {
        shows.line(id, &line, session);
    }
    let mut code = 0;
    if is_empty && sources.iter().any(|source| source.has_unknown) {
        let how = "without --run, or with log_format = \"time\" from now on";
        stdout::notice(&format!("lines of a raw log file tell no run, once they are in it alone: {how}"));
        code = Code::No.exit_code();
    } else if is_empty && args.wanted.is_all() && args.tail != Some(0) && !session.is_json() {
        let unread = definitions.iter().map(|definition| &definition.process);
        for process in unread.filter(|process| process.log_files.is_empty()) {
            let run = sources.iter().find(|source| source.id == process.id).and_then(|source| source.run);
            code = code.max(tell_empty(&mut client, process, run.as_ref(), session.out.is_terminal())?);
        }
    }
    session.out.flush();
    if args.follow && args.wanted.until.is_none() {
        follow(&args, ends, &mut shows, session)?;
        return Ok(0);
    }
    Ok(code)
}

/// Says where lines without a time stand among those that have one, as far as that is not to be seen.
fn tell_timeless(definitions: &[Definition], sources: &[Source], args: &LogsArgs) {
    let how = if args.wanted.since.is_some() || args.wanted.until.is_some() {
        "all of them are shown"
    } else if definitions.len() > 1 || args.timestamps {
        "they stand before the others"
    } else {
        return;
    };
    for definition in definitions {
        let id = definition.process.id;
        if sources.iter().any(|source| source.id == id && source.run.is_none() && source.lines.are_timeless())
        {
            let label = definition.process.label();
            stdout::notice(&format!(
                "{label}: lines that are in its raw file alone have no time: {how}; with log_format = \"time\" new ones have"
            ));
        }
    }
}

/// How processes are run, which tells how to read their log files. Where none can be read that is not asked
/// for: not everybody who reads output may see it.
fn definitions(client: &mut Client, targets: &[String], is_remote: bool) -> Result<Vec<Definition>, Error> {
    let items = client.status(targets.to_vec())?;
    if let Some(e) = items.iter().find_map(|item| item.error.clone()) {
        return Err(e);
    }
    let known: Vec<_> = items.into_iter().filter_map(|item| item.process).collect();
    if known.iter().any(|process| !process.log_files.is_empty()) {
        let can_read = || known.iter().flat_map(|p| &p.log_files).any(|path| File::open(path).is_ok());
        let why = match is_remote {
            true => "they are read on that machine".to_owned(),
            false if !can_read() => "they are not readable for you".to_owned(),
            false => match client.definitions(targets.to_vec()) {
                Err(e) if e.code == Code::Refused => e.message,
                definitions => return definitions,
            },
        };
        stdout::notice(&format!("this is what is kept, without what is in log files alone: {why}"));
    }
    let unread = |process| Process { log_files: Vec::new(), ..process };
    let definition = |process| Definition { process: unread(process), spec: Spec::new([""]) };
    Ok(known.into_iter().map(definition).collect())
}

fn shows_name(definitions: &[Definition], id: ProcessId) -> String {
    let found = definitions.iter().find(|definition| definition.process.id == id);
    found.map_or_else(|| id.to_string(), |definition| definition.process.label())
}

fn advance(source: &mut Source, wanted: &Wanted, last: Timestamp, label: &str) {
    if let Err(e) = source.advance(wanted, last) {
        stdout::notice(&format!("{label}: its log cannot be read: {e}"));
        source.next = None;
    }
}

/// Which of them is next: in order of time, and of those at one time in order of their names.
fn earliest(sources: &[Source]) -> Option<usize> {
    let all = sources.iter().enumerate();
    all.filter_map(|(n, source)| Some((source.next.as_ref()?.0, n))).min().map(|(_, n)| n)
}

/// One for each file of a process, and one for what is in none.
fn sources_of(definition: &Definition, chunks: &[Chunk], wanted: &Wanted) -> Vec<Source> {
    let (process, log) = (&definition.process, &definition.spec.log);
    let is_first = chunks.first().is_none_or(|chunk| chunk.offset == 0);
    let of_stream = |lines, stream| Source {
        id: process.id,
        lines,
        next: None,
        levels: Levels::FIRST,
        stream,
        run: None,
        has_unknown: false,
    };
    let source = |lines| of_stream(lines, None);
    let (stdout, stderr) = (Some(STDOUT), Some(STDERR));
    let of = |stderr: bool| -> Vec<Chunk> {
        chunks.iter().filter(|chunk| chunk.stderr == stderr).cloned().collect()
    };
    let read = |path: &String, chunks: &[Chunk]| match log_of(path, log.format, chunks, is_first, wanted) {
        Ok(lines) => lines,
        Err(e) => {
            stdout::notice(&format!("{}: {path} cannot be read, this is what is kept: {e}", process.label()));
            Lines::kept(chunks, is_first)
        }
    };
    match (log.paths(), &process.log_files[..]) {
        ([Some(out), Some(err)], [file]) if out == err => vec![source(read(file, chunks))],
        ([Some(_), Some(_)], [out, err]) => {
            vec![of_stream(read(out, &of(false)), stdout), of_stream(read(err, &of(true)), stderr)]
        }
        ([Some(_), None], [out]) => {
            vec![of_stream(read(out, &of(false)), stdout), source(Lines::kept(&of(true), is_first))]
        }
        ([None, Some(_)], [err]) => {
            vec![source(Lines::kept(&of(false), is_first)), of_stream(read(err, &of(true)), stderr)]
        }
        _ => vec![source(Lines::kept(chunks, is_first))],
    }
}

fn log_of(
    path: &str,
    format: LogFormat,
    chunks: &[Chunk],
    is_first: bool,
    wanted: &Wanted,
) -> io::Result<Lines> {
    Lines::of(Path::new(path), format, (chunks, is_first), wanted.since)
}

/// What comes, over stops and starts.
fn follow(
    args: &LogsArgs,
    mut ends: Vec<(ProcessId, u64)>,
    shows: &mut Shows,
    session: &mut Session,
) -> Result<(), Error> {
    stdout::end_with_reader()?;
    let (mut client, mut waiting) = (session.client()?, session.client()?);
    let seen = waiting.events(Events { since: 0, follow: false, target: None })?;
    let since = seen.filter_map(|item| if let Ok(FeedItem::Event(e)) = item { Some(e.seq) } else { None });
    let since = since.last().unwrap_or(0);
    let mut events = waiting.events(Events { since, follow: true, target: None })?;
    let mut levels: HashMap<ProcessId, Levels> = HashMap::new();
    loop {
        stream(&mut client, args, &mut ends, &mut levels, shows, session)?;
        if session.out.is_broken() || ends.is_empty() {
            return Ok(());
        }
        // All are at rest: until one of them is started.
        loop {
            let Some(item) = events.next() else { return Ok(()) };
            let FeedItem::Event(event) = item? else { continue };
            let is_ours = event.id.is_some_and(|id| ends.iter().any(|(ours, _)| *ours == id));
            if is_ours && event.kind == EventKind::Removed {
                ends.retain(|(id, _)| event.id != Some(*id));
                if ends.is_empty() {
                    return Ok(());
                }
            } else if is_ours && event.kind == EventKind::Started {
                break;
            }
        }
    }
}

/// Until all of them are at rest.
fn stream(
    client: &mut Client,
    args: &LogsArgs,
    ends: &mut Vec<(ProcessId, u64)>,
    levels: &mut HashMap<ProcessId, Levels>,
    shows: &mut Shows,
    session: &mut Session,
) -> Result<(), Error> {
    let targets = ends.iter().map(|(id, _)| id.to_string()).collect();
    let since = Since::Offsets(ends.iter().map(|(_, end)| *end).collect());
    let mut open: HashMap<(ProcessId, bool), Vec<u8>> = HashMap::new();
    let stream = match client.stream(Stream { targets, kind: StreamKind::Both, since }) {
        // Removed meanwhile.
        Err(e) if e.code == Code::NotFound => {
            ends.clear();
            return Ok(());
        }
        stream => stream?,
    };
    for item in stream {
        match item? {
            StreamItem::Chunk(chunk) => {
                let end = chunk.offset + chunk.data.len() as u64;
                ends.iter_mut().filter(|(id, _)| *id == chunk.id).for_each(|(_, known)| *known = end);
                let text = open.entry((chunk.id, chunk.stderr)).or_default();
                for piece in chunk.data.split_inclusive(|&b| b == b'\n') {
                    text.extend_from_slice(piece);
                    if text.last() == Some(&b'\n') || text.len() > LINE_OPEN_MAX {
                        let text = std::mem::take(text);
                        shows.stream_line(args, levels, (chunk.id, chunk.stderr, chunk.at), text, session);
                    }
                }
            }
            StreamItem::Gap(gap) => {
                session.out.flush();
                stdout::notice(&format!("{}: {} bytes were missed", shows.name(gap.id), gap.missed));
            }
            StreamItem::Ended(_) => {}
        }
        session.out.flush();
        if session.out.is_broken() {
            return Ok(());
        }
    }
    for ((id, stderr), text) in open.into_iter().filter(|(_, text)| !text.is_empty()) {
        shows.stream_line(args, levels, (id, stderr, Timestamp::now()), text, session);
    }
    session.out.flush();
    Ok(())
}

/// A line that is followed is shown in pieces from this length on, in bytes.
const LINE_OPEN_MAX: usize = 1 << 20;

/// How lines get onto the screen.
struct Shows {
    names: HashMap<ProcessId, String>,
    width: usize,
    timestamps: bool,
    prefix: bool,
    escape: bool,
}

impl Shows {
    fn new(definitions: &[Definition], args: &LogsArgs, session: &Session) -> Self {
        let names: HashMap<_, _> = definitions.iter().map(|d| (d.process.id, d.process.label())).collect();
        let width = names.values().map(String::len).max().unwrap_or(0);
        let prefix = args.prefix || names.len() > 1;
        Self { names, width, timestamps: args.timestamps, prefix, escape: session.out.is_terminal() }
    }

    fn name(&self, id: ProcessId) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    fn stream_line(
        &self,
        args: &LogsArgs,
        levels: &mut HashMap<ProcessId, Levels>,
        (id, stderr, at): (ProcessId, bool, Timestamp),
        mut text: Vec<u8>,
        session: &mut Session,
    ) {
        if text.last() == Some(&b'\n') {
            text.pop();
        }
        let stream = Some(if stderr { STDERR } else { STDOUT });
        let line = Line { at: Some(at), stream, text };
        if args.wanted.takes(&line, levels.entry(id).or_insert(Levels::FIRST)) {
            self.line(id, &line, session);
        }
    }

    fn line(&self, id: ProcessId, line: &Line, session: &mut Session) {
        if session.is_json() {
            session.object(&json!({
                "id": id.to_string(),
                "name": self.name(id),
                "at": line.at.map(json::time),
                "stream": line.stream,
                "line": String::from_utf8_lossy(&line.text),
            }));
            return;
        }
        let mut out = Vec::with_capacity(line.text.len() + 64);
        if self.timestamps {
            out.extend_from_slice(line.at.map_or_else(|| "-".to_owned(), json::time).as_bytes());
            out.push(b' ');
        }
        if self.prefix {
            let mark = if line.stream == Some(STDERR) { '!' } else { '|' };
            let width = self.width;
            out.extend_from_slice(format!("{:<width$} {mark} ", self.name(id)).as_bytes());
        }
        if self.escape {
            out.extend_from_slice(escape(&line.text).as_bytes());
        } else {
            out.extend_from_slice(&line.text);
        }
        out.push(b'\n');
        session.out.bytes(&out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64, text: &str) -> Line {
        Line { at: Some(Timestamp(at)), stream: None, text: text.as_bytes().to_vec() }
    }

    #[test]
    fn only_what_is_wanted_is_taken() {
        let args = parse(&mut Arguments::of("web --grep time.*t --level warn --tail 5 -f")).unwrap();
        assert!(args.follow && args.tail == Some(5));
        let mut level = Levels::FIRST;
        let takes = |text: &str, level: &mut Levels| args.wanted.takes(&line(5, text), level);
        assert!(takes("2026 WARN timeout", &mut level));
        assert!(takes("  at timeout.c", &mut level), "it goes on");
        assert!(!takes("INFO timeout", &mut level));
        assert!(!takes("error: other", &mut level));
        assert!(takes("error: timeout", &mut level));
        let of_stderr = |text: &str| Line { stream: Some(STDERR), ..line(5, text) };
        assert!(!args.wanted.takes(&of_stderr("timeout"), &mut level), "that was the other stream");
        let narrow = parse(&mut Arguments::of("web --stderr")).unwrap().wanted;
        assert!(narrow.takes(&of_stderr("x"), &mut level) && !narrow.takes(&line(5, "x"), &mut level));
        let wanted = Wanted { since: Some(Timestamp(5)), until: Some(Timestamp(6)), ..Wanted::default() };
        let taken: Vec<_> = (4..=7).filter(|&at| wanted.takes(&line(at, "x"), &mut level)).collect();
        assert_eq!(taken, [5, 6]);
    }
}

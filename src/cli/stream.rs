//! `provost stream`: output as it comes.

use std::collections::HashMap;

use crate::cli::arguments::Arguments;
use crate::cli::batch::{Counts, named};
use crate::cli::command::{Command, job};
use crate::cli::escape::escape;
use crate::cli::following::{Followed, Following};
use crate::cli::json;
use crate::cli::labels::{Extras, Labels};
use crate::cli::last_lines::last_lines;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::suggest;
use crate::cli::values;
use crate::cli::whole_text::WholeText;
use crate::client::{Client, StreamItem};
use crate::wire::error::Error;
use crate::wire::id::ProcessId;
use crate::wire::process::Process;
use crate::wire::reply::{Chunk, Gap};
use crate::wire::request::{Output, Since, Stream, StreamKind};

pub const COMMAND: Command = Command::new("stream", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Print output of processes as it comes, until ctrl-c";
const HELP: &str = "\
Usage: provost stream [OPTIONS] TARGET...

Goes on over stops and starts, and takes in what a pattern means later. Ctrl-c ends the stream, not the
processes. Where a run begins is told on standard error; so is output that was overwritten before it could
be printed, to the byte: a slow reader never holds a process back.

Options:
      --since WHERE          start: the oldest byte kept; now (default); or an offset in bytes
  -n, --tail N               Begin with the last N lines of each, ordered by their time
      --until-end            End when all of them have stopped, as scripts want it
      --stdout               Standard output only
      --stderr               Standard error only
      --prefix               Put the process's name before each line, '!' before standard error
  -t, --timestamps           Put the time before each line
      --raw                  Byte for byte on a terminal, too
  -f, --follow               As it does anyway

Examples:
  provost stream --prefix --timestamps 'worker-*'
  provost stream --tail 20 web
  provost stream --since start --stderr --until-end web
";

/// What to follow, and how to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamArgs {
    pub stream: Stream,
    pub tail: Option<usize>,
    pub until_end: bool,
    pub extras: Extras,
    pub raw: bool,
}

fn parse(arguments: &mut Arguments) -> Result<StreamArgs, Error> {
    let mut stream = Stream { targets: Vec::new(), kind: StreamKind::Both, since: Since::Now };
    let (mut extras, mut raw, mut tail, mut until_end) = (Extras::default(), false, None, false);
    let mut has_since = false;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--since" => {
                stream.since = since(&arguments.value(&option)?)?;
                has_since = true;
            }
            "--tail" | "-n" => tail = Some(arguments.number(&option)?),
            "--until-end" => until_end = true,
            "--stdout" => stream.kind = values::narrow(stream.kind, StreamKind::Stdout),
            "--stderr" => stream.kind = values::narrow(stream.kind, StreamKind::Stderr),
            "--prefix" => extras.name = true,
            "--timestamps" | "-t" => extras.time = true,
            "--raw" => raw = true,
            "--follow" | "-f" => {}
            _ => return Err(arguments.unknown(&option)),
        }
    }
    if has_since && tail.is_some() {
        return Err(arguments.usage("--since and --tail both say where it begins: give one".into()));
    }
    stream.targets = arguments.targets()?;
    Ok(StreamArgs { stream, tail, until_end, extras, raw })
}

fn since(text: &str) -> Result<Since, Error> {
    match text {
        "start" => Ok(Since::Start),
        "now" => Ok(Since::Now),
        _ => {
            let bad = |_| values::bad("--since", text, "write start, now, or an offset in bytes");
            text.parse().map(Since::Offset).map_err(bad)
        }
    }
}

/// Also what 'provost output --follow' does.
pub fn run(mut args: StreamArgs, session: &mut Session) -> Result<u8, Error> {
    let client = session.client_for(&mut args.stream.targets)?;
    let shows = Shows { is_escaped: session.out.is_terminal() && !args.raw, text: WholeText::default() };
    if args.until_end { until_end(args, client, shows, session) } else { follow(args, shows, session) }
}

/// Ends with ctrl-c, or when nothing can come any more.
fn follow(args: StreamArgs, mut shows: Shows, session: &mut Session) -> Result<u8, Error> {
    stdout::end_with_reader()?;
    let (mut following, processes) =
        Following::begin(session, args.stream.targets.clone(), args.stream.kind)?;
    let names = processes.iter().map(|p| (p.id, p.label())).collect();
    let mut labels = Labels::new(names, args.extras);
    let mut client = session.client()?;
    for (id, offset) in
        begin(&args, &mut client, &processes, |chunk| shows.chunk(chunk, &mut labels, session))?
    {
        following.begin_at(id, offset);
    }
    session.out.flush();
    if following.is_at_rest() {
        stdout::notice("nothing of it runs: waits for a start (ctrl-c ends this)");
    }
    following.start()?;
    while !session.out.is_broken() {
        match following.next()? {
            Followed::Chunk(chunk) => shows.chunk(chunk, &mut labels, session),
            Followed::Gap(gap) => missed(&gap, &labels, session),
            Followed::Run(process) => {
                labels.add(process.id, process.label());
                session.out.flush();
                let pid = process.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
                stdout::notice(&format!("{}: run {} begins{pid}", process.label(), process.run));
                if session.is_json() {
                    session.object(&json::run_begins(&process));
                }
            }
            Followed::Ended => break,
        }
        session.out.flush();
    }
    shows.finish(&mut labels, session);
    Ok(0)
}

/// Where each process begins. What is shown before, of several, is ordered by time.
fn begin(
    args: &StreamArgs,
    client: &mut Client,
    processes: &[Process],
    mut show: impl FnMut(Chunk),
) -> Result<Vec<(ProcessId, u64)>, Error> {
    let (mut offsets, mut kept) = (Vec::new(), Vec::new());
    let is_kept = args.tail.is_some() || (args.stream.since == Since::Start && processes.len() > 1);
    for p in processes {
        let mut offset = match args.stream.since {
            Since::Start => p.output_start,
            Since::Offset(offset) => offset,
            Since::Now | Since::Offsets(_) => p.output_end,
        };
        if is_kept {
            let output = Output { target: p.id.to_string(), kind: args.stream.kind };
            let chunks = client.output(output)?;
            offset = chunks.last().map_or(p.output_end, |c| c.offset + c.data.len() as u64);
            kept.extend(last_lines(chunks, args.tail.unwrap_or(usize::MAX)));
        }
        offsets.push((p.id, offset));
    }
    kept.sort_by_key(|chunk| chunk.at);
    kept.into_iter().for_each(&mut show);
    Ok(offsets)
}

fn missed(gap: &Gap, labels: &Labels, session: &mut Session) {
    session.out.flush();
    stdout::notice(&format!("{}: {} bytes were missed", labels.name(gap.id), gap.missed));
    if session.is_json() {
        session.object(&json::gap(gap));
    }
}

/// Ends when all of them are at rest, and all was printed.
fn until_end(
    mut args: StreamArgs,
    mut client: Client,
    mut shows: Shows,
    session: &mut Session,
) -> Result<u8, Error> {
    let mut labels = Labels::new(HashMap::new(), args.extras);
    if args.tail.is_some() {
        let items = client.status(args.stream.targets.clone())?;
        let processes: Vec<Process> = items.into_iter().filter_map(|item| item.process).collect();
        processes.iter().for_each(|p| labels.add(p.id, p.label()));
        let begun = begin(&args, &mut client, &processes, |chunk| shows.chunk(chunk, &mut labels, session))?;
        if !begun.is_empty() {
            args.stream.targets = begun.iter().map(|(id, _)| id.to_string()).collect();
            args.stream.since = Since::Offsets(begun.into_iter().map(|(_, offset)| offset).collect());
        }
    }
    let stream = client.stream(args.stream)?;
    stream.labels().for_each(|(id, label)| labels.add(id, label.to_owned()));
    let mut counts = Counts::default();
    for item in stream {
        match item? {
            StreamItem::Chunk(chunk) => shows.chunk(chunk, &mut labels, session),
            StreamItem::Gap(gap) => missed(&gap, &labels, session),
            StreamItem::Ended(item) => match &item.error {
                Some(e) => {
                    stdout::complain(&suggest::better(session, named(&item, e)));
                    counts.failed(e.code);
                }
                None => counts.done(),
            },
        }
        session.out.flush();
        if session.out.is_broken() {
            break;
        }
    }
    shows.finish(&mut labels, session);
    if labels.count() > 0 {
        counts.done();
    }
    Ok(counts.exit_code())
}

/// How output gets onto the screen.
struct Shows {
    is_escaped: bool,
    text: WholeText,
}

impl Shows {
    fn chunk(&mut self, chunk: Chunk, labels: &mut Labels, session: &mut Session) {
        if !session.is_json() && !self.is_escaped {
            return session.out.bytes(&labels.dress(&chunk));
        }
        if let Some(whole) = self.text.push(chunk) {
            self.whole(whole, labels, session);
        }
    }

    /// What was kept back: nothing more comes.
    fn finish(&mut self, labels: &mut Labels, session: &mut Session) {
        for chunk in self.text.finish() {
            self.whole(chunk, labels, session);
        }
        session.out.flush();
    }

    fn whole(&self, mut chunk: Chunk, labels: &mut Labels, session: &mut Session) {
        if session.is_json() {
            return session.object(&json::chunk(&chunk));
        }
        chunk.data = escape(&chunk.data).into_bytes().into();
        session.out.bytes(&labels.dress(&chunk));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_begins_is_read() {
        let since = |line: &str| parse(&mut Arguments::of(line)).map(|args| args.stream.since);
        assert_eq!(since("web"), Ok(Since::Now));
        assert_eq!(since("web --since start"), Ok(Since::Start));
        assert_eq!(since("--since 4096 web"), Ok(Since::Offset(4096)));
        assert!(since("web --since yesterday").is_err());
        assert!(since("web --since start --tail 3").is_err());
    }
}

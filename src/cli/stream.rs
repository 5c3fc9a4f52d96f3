//! `provost stream`: output as it comes.

use crate::cli::arguments::Arguments;
use crate::cli::batch::{Counts, named};
use crate::cli::command::{Command, job};
use crate::cli::escape::Escaper;
use crate::cli::json;
use crate::cli::labels::{Extras, Labels};
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::values;
use crate::client::StreamItem;
use crate::wire::error::Error;
use crate::wire::reply::Chunk;
use crate::wire::request::{Since, Stream, StreamKind};

pub const COMMAND: Command = Command::new("stream", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Print output of processes as it comes, until they stop";
const HELP: &str = "\
Usage: provost stream [OPTIONS] TARGET...

Ctrl-c ends the stream, not the processes. Output that was overwritten before it could be printed is
told on standard error, to the byte; a slow reader never holds a process back.

Options:
      --since WHERE          start: the oldest byte kept; now (default); or an offset in bytes
      --stdout               Standard output only
      --stderr               Standard error only
      --prefix               Put the process's name before each line, '!' before standard error
      --timestamps           Put the time before each line
      --raw                  Byte for byte on a terminal, too

Examples:
  provost stream --prefix --timestamps 'worker-*'
  provost stream --since start --stderr web
";

/// What to follow, and how to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StreamArgs {
    stream: Stream,
    extras: Extras,
    raw: bool,
}

fn parse(arguments: &mut Arguments) -> Result<StreamArgs, Error> {
    let mut stream = Stream { targets: Vec::new(), kind: StreamKind::Both, since: Since::Now };
    let (mut extras, mut raw) = (Extras::default(), false);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--since" => stream.since = since(&arguments.value(&option)?)?,
            "--stdout" => stream.kind = values::narrow(stream.kind, StreamKind::Stdout),
            "--stderr" => stream.kind = values::narrow(stream.kind, StreamKind::Stderr),
            "--prefix" => extras.name = true,
            "--timestamps" => extras.time = true,
            "--raw" => raw = true,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    stream.targets = arguments.targets()?;
    Ok(StreamArgs { stream, extras, raw })
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

fn run(args: StreamArgs, session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client()?;
    let stream = client.stream(args.stream)?;
    let known = stream.labels().map(|(id, label)| (id, label.to_owned())).collect();
    let mut labels = Labels::new(known, args.extras);
    let mut shows = Shows { escape: session.out.is_terminal() && !args.raw, escaper: Escaper::new() };
    let mut counts = Counts::default();
    for item in stream {
        match item? {
            StreamItem::Chunk(chunk) => shows.chunk(chunk, &mut labels, session),
            StreamItem::Gap(gap) => {
                session.out.flush();
                stdout::notice(&format!("{}: {} bytes were missed", labels.name(gap.id), gap.missed));
                if session.is_json() {
                    session.object(&json::gap(&gap));
                }
            }
            StreamItem::Ended(item) => match &item.error {
                Some(e) => {
                    stdout::complain(&named(&item, e));
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
    if labels.count() > 0 {
        counts.done();
    }
    Ok(counts.exit_code())
}

/// How output gets onto the screen.
struct Shows {
    escape: bool,
    escaper: Escaper,
}

impl Shows {
    fn chunk(&mut self, chunk: Chunk, labels: &mut Labels, session: &mut Session) {
        if session.is_json() {
            session.object(&json::chunk(&chunk));
            return;
        }
        let mut shown = chunk;
        if self.escape {
            shown.data = self.escaper.push(&shown.data).into_bytes().into();
        }
        let bytes = labels.dress(&shown);
        session.out.bytes(&bytes);
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
    }
}

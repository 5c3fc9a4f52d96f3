//! `provost output`: the output that is kept, in one instant.

use bytes::Buf;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::escape::Escaper;
use crate::cli::json;
use crate::cli::session::Session;
use crate::cli::values;
use crate::wire::error::Error;
use crate::wire::reply::Chunk;
use crate::wire::request::{Output, StreamKind};

pub const COMMAND: Command = Command::new("output", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Print the output that is kept of a process";
const HELP: &str = "\
Usage: provost output [OPTIONS] TARGET

Byte for byte, each stream in its order. The two are pipes of their own: what is written to both within
moments may change places ('--shell' with 2>&1 makes one of them). On a terminal control characters are
shown as their escapes.

Options:
      --stdout               Standard output only
      --stderr               Standard error only
      --tail N               The last N lines only
      --raw                  Byte for byte on a terminal, too
";

#[derive(Clone, Debug, PartialEq, Eq)]
struct OutputArgs {
    target: String,
    kind: StreamKind,
    tail: Option<usize>,
    raw: bool,
}

fn parse(arguments: &mut Arguments) -> Result<OutputArgs, Error> {
    let (mut kind, mut tail, mut raw) = (StreamKind::Both, None, false);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--stdout" => kind = values::narrow(kind, StreamKind::Stdout),
            "--stderr" => kind = values::narrow(kind, StreamKind::Stderr),
            "--tail" => tail = Some(arguments.number(&option)?),
            "--raw" => raw = true,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    Ok(OutputArgs { target: arguments.one_target()?, kind, tail, raw })
}

fn run(args: OutputArgs, session: &mut Session) -> Result<u8, Error> {
    let mut chunks = session.client()?.output(Output { target: args.target, kind: args.kind })?;
    if let Some(lines) = args.tail {
        chunks = last_lines(chunks, lines);
    }
    if session.is_json() {
        chunks.iter().for_each(|chunk| session.object(&json::chunk(chunk)));
        return Ok(0);
    }
    let mut escaper = Escaper::new();
    let escape = session.out.is_terminal() && !args.raw;
    for chunk in &chunks {
        if escape {
            session.out.bytes(escaper.push(&chunk.data).as_bytes());
        } else {
            session.out.bytes(&chunk.data);
        }
    }
    session.out.bytes(escaper.finish().as_bytes());
    if escape && chunks.last().is_some_and(|c| !c.data.ends_with(b"\n")) {
        // So that the prompt does not hang on the last line.
        session.out.bytes(b"\n");
    }
    Ok(0)
}

/// What the last so many lines are; the last one may lack its end.
fn last_lines(mut chunks: Vec<Chunk>, lines: usize) -> Vec<Chunk> {
    let mut found = 0;
    let mut is_last_byte = true;
    for n in (0..chunks.len()).rev() {
        for at in (0..chunks[n].data.len()).rev() {
            // The line feed at the very end belongs to the last line.
            if chunks[n].data[at] == b'\n' && !is_last_byte {
                found += 1;
            }
            is_last_byte = false;
            if found == lines {
                // With no lines wanted, this is the very end.
                let cut = at + 1;
                chunks.drain(..n);
                chunks[0].data.advance(cut);
                chunks[0].offset += cut as u64;
                chunks.retain(|chunk| !chunk.data.is_empty());
                return chunks;
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::ProcessId;
    use crate::wire::time::Timestamp;

    fn tail(parts: &[&str], lines: usize) -> (Option<u64>, String) {
        let mut offset = 100;
        let mut chunks = Vec::new();
        for part in parts {
            let data = part.as_bytes().to_vec();
            chunks.push(Chunk {
                id: ProcessId::from_bytes([0; 16]),
                offset,
                stderr: false,
                at: Timestamp(1),
                data: data.into(),
            });
            offset += part.len() as u64;
        }
        let left = last_lines(chunks, lines);
        let text = left.iter().map(|c| String::from_utf8(c.data.to_vec()).unwrap()).collect();
        (left.first().map(|c| c.offset), text)
    }

    #[test]
    fn lines_are_counted_from_the_end_over_chunks() {
        let parts = ["one\ntw", "o\nthr", "ee\n"];
        assert_eq!(tail(&parts, 1), (Some(108), "three\n".into()));
        assert_eq!(tail(&parts, 2), (Some(104), "two\nthree\n".into()));
        assert_eq!(tail(&parts, 9), (Some(100), "one\ntwo\nthree\n".into()));
        assert_eq!(tail(&parts, 0), (None, String::new()));
        assert_eq!(tail(&["a\nb"], 1), (Some(102), "b".into()));
        assert_eq!(tail(&["a\n", "\n"], 1), (Some(102), "\n".into()));
        assert_eq!(tail(&[], 3), (None, String::new()));
    }

    #[test]
    fn both_streams_together_are_all() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        assert_eq!(parsed("web --stdout --stderr").unwrap().kind, StreamKind::Both);
        assert_eq!(parsed("web --stderr --tail 3").unwrap().kind, StreamKind::Stderr);
        assert!(parsed("web api").is_err());
        assert!(parsed("web --tail -3").is_err());
    }
}

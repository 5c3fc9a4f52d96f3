//! `provost output`: the output that is kept, in one instant.

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::escape::escape;
use crate::cli::json;
use crate::cli::labels::Extras;
use crate::cli::last_lines::last_lines;
use crate::cli::runs::{Run, Which};
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::stream;
use crate::cli::stream::StreamArgs;
use crate::cli::values;
use crate::cli::whole_text::WholeText;
use crate::client::Client;
use crate::wire::error::{Code, Error};
use crate::wire::process::Process;
use crate::wire::reply::Chunk;
use crate::wire::request::{Output, Since, Stream, StreamKind};

pub const COMMAND: Command = Command::new("output", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Print the output that is kept of a process";
const HELP: &str = "\
Usage: provost output [OPTIONS] TARGET

Byte for byte, each stream in its order. The two are pipes of their own: what is written to both within
moments may change places (started with --merge-streams it is one). On a terminal control characters are
shown as their escapes. Exit code 3 when it was printed under an earlier service, and so is not kept.

Options:
      --stdout               Standard output only
      --stderr               Standard error only
      --run N                Of this run only; last: of the latest
  -n, --tail N               The last N lines only
  -f, --follow               Go on with what comes, as 'provost stream' does, until ctrl-c
      --raw                  Byte for byte on a terminal, too

Examples:
  provost output --tail 20 web
  provost output --run last nightly
";

#[derive(Clone, Debug, PartialEq, Eq)]
struct OutputArgs {
    target: String,
    kind: StreamKind,
    tail: Option<usize>,
    run: Option<Which>,
    raw: bool,
    follow: bool,
}

fn parse(arguments: &mut Arguments) -> Result<OutputArgs, Error> {
    let (mut kind, mut tail, mut raw, mut follow) = (StreamKind::Both, None, false, false);
    let mut run = None;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--stdout" => kind = values::narrow(kind, StreamKind::Stdout),
            "--stderr" => kind = values::narrow(kind, StreamKind::Stderr),
            "--follow" | "-f" => follow = true,
            "--tail" | "-n" => tail = Some(arguments.number(&option)?),
            "--run" => run = Some(arguments.value(&option)?.parse()?),
            "--raw" => raw = true,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    if run.is_some() && follow {
        return Err(arguments.usage("--run and --follow exclude one another".into()));
    }
    Ok(OutputArgs { target: arguments.one_target()?, kind, tail, run, raw, follow })
}

fn run(args: OutputArgs, session: &mut Session) -> Result<u8, Error> {
    if args.follow {
        let stream = Stream { targets: vec![args.target], kind: args.kind, since: Since::Start };
        let (tail, raw, extras) = (args.tail, args.raw, Extras::default());
        return stream::run(StreamArgs { stream, tail, until_end: false, extras, raw }, session);
    }
    let mut targets = [args.target];
    let mut client = session.client_for(&mut targets)?;
    let [target] = targets;
    if target == "*" {
        return Err(Error::usage("the output of one process at a time").hint("of all: provost logs all"));
    }
    let (kind, named) = (args.kind, target.clone());
    let run = args.run.map(|which| Run::of_target(&mut client, &target, which)).transpose()?;
    let mut chunks = client.output(Output { target, kind: args.kind })?;
    if let Some(run) = &run {
        run.cut(&mut chunks);
    }
    let is_empty = chunks.is_empty() && kind == StreamKind::Both;
    if let Some(lines) = args.tail {
        chunks = last_lines(chunks, lines);
    }
    let asked = if is_empty { client.status(vec![named])?.pop() } else { None };
    let code = asked.and_then(|item| item.process).map_or(Ok(0), |process| {
        tell_empty(&mut client, &process, run.as_ref(), session.out.is_terminal())
    })?;
    if session.is_json() {
        WholeText::of(chunks).iter().for_each(|chunk| session.object(&json::chunk(chunk)));
        return Ok(code);
    }
    print(chunks, session.out.is_terminal() && !args.raw, session);
    Ok(code)
}

/// Says why there is no output of a process, or of a run of it, where that is not only because there was
/// none: then the exit code is another one. Output is kept as long as there is the service; a log file
/// outlives it.
pub fn tell_empty(
    client: &mut Client,
    process: &Process,
    run: Option<&Run>,
    is_terminal: bool,
) -> Result<u8, Error> {
    let label = process.label();
    if process.run == 0 {
        return Ok(0);
    }
    let what = run.map_or_else(|| label.clone(), |run| format!("run {} of {label}", run.number));
    if run.map_or(process.started_at, |run| run.since) < Some(client.service()?.started_at) {
        let how = match process.log_files.is_empty() {
            true => "'log' in its section, or --log, keeps it in a file; with log_format = \"time\" it is \
                     found there by its run"
                .to_owned(),
            false => match run {
                Some(run) => format!("its log file is read by: provost logs --run {} {label}", run.number),
                None => format!("its log file is read by: provost logs {label}"),
            },
        };
        stdout::notice(&format!("what {what} printed under the service before is not kept; {how}"));
        // One that an earlier service started may print yet.
        let is_over = run.is_some() || process.state.is_at_rest();
        return Ok(if is_over { Code::No.exit_code() } else { 0 });
    } else if is_terminal || run.is_some() {
        stdout::notice(&format!("{what} has printed nothing that is kept"));
    }
    Ok(0)
}

/// Prints all that there is.
pub fn print(chunks: Vec<Chunk>, is_escaped: bool, session: &mut Session) {
    if !is_escaped {
        return chunks.iter().for_each(|chunk| session.out.bytes(&chunk.data));
    }
    let chunks = WholeText::of(chunks);
    chunks.iter().for_each(|chunk| session.out.bytes(escape(&chunk.data).as_bytes()));
    if chunks.last().is_some_and(|chunk| !chunk.data.ends_with(b"\n")) {
        // So that the prompt does not hang on the last line.
        session.out.bytes(b"\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_together_are_all() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        assert_eq!(parsed("web --stdout --stderr").unwrap().kind, StreamKind::Both);
        assert_eq!(parsed("web --stderr --tail 3").unwrap().kind, StreamKind::Stderr);
        assert!(parsed("web api").is_err());
        assert!(parsed("web --tail -3").is_err());
    }
}

//! The last lines that a process has printed: those of its latest run, and those of the run before, which is
//! what is asked for after a crash and a restart.

use crate::cli::runs::{Run, Which};
use crate::cli::text;
use crate::client::{Client, StreamItem};
use crate::wire::error::{Code, Error};
use crate::wire::process::{End, Process, State};
use crate::wire::request::{Since, Stream, StreamKind};
use crate::wire::time::Timestamp;

/// How far back lines are looked for, in bytes.
const LOOK_BACK: u64 = 4 << 10;
/// Who starts what has failed, as the service calls it.
const BY_POLICY: &str = "restart policy";
/// The longest line that is shown, in characters.
const LINE_LEN_MAX: usize = 160;

/// Lines, oldest first, harmless and not too long; without those that are empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LastLines {
    /// Of the latest run.
    pub latest: Vec<String>,
    /// Of the one before it.
    pub before: Vec<String>,
    /// Who asks may not read output.
    pub is_refused: bool,
}

/// At most so many lines of each.
pub fn read(client: &mut Client, process: &Process, lines_max: usize) -> Result<LastLines, Error> {
    let begin = process.run_output_start.clamp(process.output_start, process.output_end);
    let mut read = || {
        let latest = end_of(client, process, (begin, process.output_end), |_| true)?;
        let before = of_run_before(client, process, begin)?;
        Ok(LastLines {
            latest: lines(&latest, lines_max),
            before: lines(&before, lines_max),
            is_refused: false,
        })
    };
    read().or_else(|e: Error| match e.code {
        Code::Refused => Ok(LastLines { is_refused: true, ..LastLines::default() }),
        _ => Err(e),
    })
}

/// The last bytes of the run before the latest one, which begins at this offset; none where nothing is
/// recorded of its start.
fn of_run_before(client: &mut Client, process: &Process, begin: u64) -> Result<Vec<u8>, Error> {
    if process.run < 2 || begin == process.output_start {
        return Ok(Vec::new());
    }
    match Run::of(client, process, Which::Number(process.run - 1)) {
        Ok(run) => end_of(client, process, (process.output_start, begin), |at| run.has(Some(at))),
        Err(e) if e.code == Code::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Whether its last end was a failure: of what was stopped, only a code of its own says so.
pub fn has_failed(process: &Process) -> bool {
    let end = process.exit.as_ref().map(|exit| exit.end);
    match process.state {
        State::Failed | State::Backoff => true,
        State::Stopped | State::Scheduled => {
            !process.unfit.is_empty() || matches!(end, Some(End::Code(code)) if code != 0)
        }
        // One that somebody has started again had not failed just before.
        State::Running | State::Starting => {
            process.cause == BY_POLICY && end.is_some_and(|end| end != End::Code(0))
        }
        State::Stopping => false,
    }
}

/// The last bytes of what was printed from `from` to `to`, as far as its time is wanted, without waiting for
/// more.
fn end_of(
    client: &mut Client,
    process: &Process,
    (from, to): (u64, u64),
    is_wanted: impl Fn(Timestamp) -> bool,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    if from == to {
        return Ok(bytes);
    }
    let since = Since::Offset(to.saturating_sub(LOOK_BACK).max(from));
    let stream = Stream { targets: vec![process.id.to_string()], kind: StreamKind::Both, since };
    for item in client.stream(stream)? {
        match item? {
            StreamItem::Chunk(chunk) => {
                let left = usize::try_from(to.saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
                if is_wanted(chunk.at) {
                    bytes.extend_from_slice(&chunk.data[..chunk.data.len().min(left)]);
                }
                if chunk.offset + chunk.data.len() as u64 >= to {
                    break;
                }
            }
            StreamItem::Gap(gap) if gap.offset + gap.missed >= to => break,
            StreamItem::Gap(_) => {}
            StreamItem::Ended(_) => break,
        }
    }
    Ok(bytes)
}

fn lines(bytes: &[u8], lines_max: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let last = text.lines().rev().filter(|line| !line.trim().is_empty()).take(lines_max);
    let harmless = last.map(|line| text::cut(&text::escaped(line.trim_end()), LINE_LEN_MAX).into_owned());
    let mut lines: Vec<String> = harmless.collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_harmless() {
        assert_eq!(lines(b"a\nb\x1b[2J\r\n\n  \n", 1), ["b\\u{1b}[2J"]);
        assert_eq!(lines(b"a\nb\nc", 2), ["b", "c"]);
        assert_eq!(lines(b"\n", 3), [""; 0]);
    }
}

//! One run of a process, as `--run N` means it: where its output begins and ends. Of the latest run that is
//! known to the byte; of those before by the times at which they were started.

use std::str::FromStr;

use crate::cli::values;
use crate::client::{Client, FeedItem};
use crate::wire::error::{Code, Error};
use crate::wire::event::EventKind;
use crate::wire::id::ProcessId;
use crate::wire::process::Process;
use crate::wire::reply::Chunk;
use crate::wire::request::Events;
use crate::wire::time::Timestamp;

/// Which run is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Last,
    Number(u64),
}

impl FromStr for Which {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = text.parse().ok().filter(|&n| n > 0).map(Self::Number);
        let which = if text == "last" { Some(Self::Last) } else { number };
        which.ok_or_else(|| values::bad("--run", text, "write the number of a run, from 1, or last"))
    }
}

/// From where to where its output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub number: u64,
    /// The first byte of the latest run; none: it is another one.
    offset: Option<u64>,
    /// The first byte of the latest run; none: it is that one. What a run says at once may have come before
    /// its start was on record.
    end: Option<u64>,
    /// From when on; none: it has not begun to execute.
    pub since: Option<Timestamp>,
    /// Before when: another one was started then.
    before: Option<Timestamp>,
}

impl Run {
    /// The same of one that is named.
    pub fn of_target(client: &mut Client, target: &str, which: Which) -> Result<Self, Error> {
        let item = client.status(vec![target.to_owned()])?.into_iter().next();
        match item.map(|item| (item.process, item.error)) {
            Some((Some(process), None)) => Self::of(client, &process, which),
            Some((_, Some(e))) => Err(e),
            _ => Err(Error::new(Code::NotFound, format!("there is no process {target}"))),
        }
    }

    pub fn of(client: &mut Client, process: &Process, which: Which) -> Result<Self, Error> {
        let number = if let Which::Number(number) = which { number } else { process.run };
        let label = process.label();
        if number > process.run || process.run == 0 {
            let runs = match process.run {
                0 => "no run yet".to_owned(),
                1 => "one run".to_owned(),
                runs => format!("{runs} runs"),
            };
            return Err(Error::new(Code::NotFound, format!("{label} has had {runs}")));
        }
        let is_latest = number == process.run;
        let started = started(client, process.id)?;
        let since = started.iter().find(|(run, _)| *run == number).map(|(_, at)| *at);
        if since.is_none() && !is_latest {
            let e = Error::new(Code::NotFound, format!("nothing is recorded of run {number} of {label}"));
            return Err(e.hint(format!("'provost history {label}' shows what is")));
        }
        let before = started.iter().find(|(run, _)| *run > number).map(|(_, at)| *at);
        let latest = Some(process.run_output_start);
        let (offset, end) = if is_latest { (latest, None) } else { (None, latest) };
        Ok(Self { number, offset, end, since, before })
    }

    /// Whether a line of this time is of this run. One whose time is not known is of none.
    pub fn has(&self, at: Option<Timestamp>) -> bool {
        let is_after = |at: Timestamp| self.since.is_some_and(|since| at >= since);
        at.is_some_and(|at| is_after(at) && self.before.is_none_or(|before| at < before))
    }

    /// Of what is kept, what is of this run.
    pub fn cut(&self, chunks: &mut Vec<Chunk>) {
        match self.offset {
            Some(offset) => chunks.retain(|chunk| chunk.offset >= offset),
            None => chunks
                .retain(|chunk| self.end.is_none_or(|end| chunk.offset < end) && self.has(Some(chunk.at))),
        }
    }
}

/// When each run began to execute.
fn started(client: &mut Client, id: ProcessId) -> Result<Vec<(u64, Timestamp)>, Error> {
    let events = Events { since: 0, follow: false, target: Some(id.to_string()) };
    let mut started = Vec::new();
    for item in client.events(events)? {
        match item? {
            FeedItem::Event(event) if event.kind == EventKind::Started => started.push((event.run, event.at)),
            FeedItem::Event(_) | FeedItem::Missed(_) => {}
        }
    }
    Ok(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_a_number_or_the_last() {
        assert_eq!(["last".parse(), "3".parse()], [Ok(Which::Last), Ok(Which::Number(3))]);
        for bad in ["0", "-1", "first", ""] {
            assert!(bad.parse::<Which>().is_err(), "{bad}");
        }
    }

    #[test]
    fn output_is_of_the_run_that_was_there() {
        let run = Run {
            number: 1,
            offset: None,
            end: None,
            since: Some(Timestamp(10)),
            before: Some(Timestamp(20)),
        };
        let of: Vec<_> = [9, 10, 19, 20].iter().map(|&at| run.has(Some(Timestamp(at)))).collect();
        assert_eq!((of, run.has(None)), (vec![false, true, true, false], false));
        let chunk = |offset, at| Chunk {
            id: ProcessId::new(),
            offset,
            stderr: false,
            at: Timestamp(at),
            data: vec![b'x'].into(),
        };
        let left = |run: Run| {
            let mut chunks = vec![chunk(0, 9), chunk(5, 10), chunk(9, 20)];
            run.cut(&mut chunks);
            chunks.iter().map(|chunk| chunk.offset).collect::<Vec<_>>()
        };
        assert_eq!(left(run), [5]);
        assert_eq!(left(Run { offset: Some(9), ..run }), [9]);
        assert_eq!(left(Run { end: Some(5), ..run }), [0; 0]);
    }
}

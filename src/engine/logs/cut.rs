//! What was read of a process's output, cut so that no line of one stream stands in the middle of one of the
//! other. Pure.

use bytes::{Bytes, BytesMut};

use crate::ring::{Read, Source};
use crate::wire::time::Timestamp;

/// Bytes of one stream: whole lines, or, at the end of what was cut by force, the begin of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub source: Source,
    pub at: Timestamp,
    pub bytes: Bytes,
}

/// What can be written now.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cut {
    pub runs: Vec<Run>,
    /// All before this offset is in the runs, or of a stream that nobody wants.
    pub end: u64,
    /// Bytes that were skipped, the rest of a line whose begin is lost.
    pub torn: u64,
}

/// How far a cut goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To where both streams are at the begin of a line.
    Lines,
    /// To the end, whatever is there.
    End,
}

/// Which streams are wanted: standard output, standard error.
pub type Wanted = [bool; 2];

#[derive(Default)]
struct Open {
    parts: Vec<Bytes>,
    at: Timestamp,
}

/// The number of a stream.
#[must_use]
pub fn index(source: Source) -> usize {
    match source {
        Source::Stdout => 0,
        Source::Stderr => 1,
    }
}

/// Cuts what was read from `from` on.
#[must_use]
pub fn cut(read: &Read, from: u64, wanted: Wanted, until: Until) -> Cut {
    let mut cut = Cut { runs: Vec::new(), end: from, torn: 0 };
    let mut open = [Open::default(), Open::default()];
    // How many of the runs are before the last clean point.
    let mut clean = 0;
    let mut is_after_gap = read.missed > 0;
    for piece in &read.pieces {
        let n = index(piece.source);
        let mut bytes = read.bytes(piece);
        let mut offset = piece.offset;
        if std::mem::take(&mut is_after_gap) && wanted[n] {
            let skipped = bytes.iter().position(|&b| b == b'\n').map_or(bytes.len(), |at| at + 1);
            cut.torn = skipped as u64;
            offset += cut.torn;
            drop(bytes.split_to(skipped));
        }
        if wanted[n] && !bytes.is_empty() {
            let lines = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
            if lines > 0 {
                offset += lines as u64;
                let whole = bytes.split_to(lines);
                cut.runs.push(Run { source: piece.source, at: piece.at, bytes: open[n].close(whole) });
                if open[1 - n].parts.is_empty() {
                    (clean, cut.end) = (cut.runs.len(), offset);
                }
            }
            if !bytes.is_empty() {
                offset += bytes.len() as u64;
                open[n].at = piece.at;
                open[n].parts.push(bytes);
            }
        } else {
            offset += bytes.len() as u64;
        }
        if open.iter().all(|open| open.parts.is_empty()) {
            (clean, cut.end) = (cut.runs.len(), offset);
        }
    }
    match until {
        Until::Lines => cut.runs.truncate(clean),
        Until::End => {
            for (source, mut open) in [Source::Stdout, Source::Stderr].into_iter().zip(open) {
                if !open.parts.is_empty() {
                    let (at, bytes) = (open.at, open.close(Bytes::new()));
                    cut.runs.push(Run { source, at, bytes });
                }
            }
            cut.end = read.next;
        }
    }
    cut
}

impl Open {
    /// All that is open, and this behind it.
    fn close(&mut self, last: Bytes) -> Bytes {
        if self.parts.is_empty() {
            return last;
        }
        let parts = std::mem::take(&mut self.parts);
        let len = parts.iter().map(Bytes::len).sum::<usize>() + last.len();
        let mut all = BytesMut::with_capacity(len);
        parts.iter().chain([&last]).for_each(|part| all.extend_from_slice(part));
        all.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Source::{Stderr, Stdout};

    const BOTH: Wanted = [true, true];

    fn read(missed: u64, pieces: &[(Source, &str)]) -> Read {
        Read::of(100 + missed, missed, pieces)
    }

    fn texts(cut: &Cut) -> Vec<(Source, &str)> {
        cut.runs.iter().map(|run| (run.source, std::str::from_utf8(&run.bytes).unwrap())).collect()
    }

    #[test]
    fn a_line_of_one_stream_is_not_torn_by_the_other() {
        let read = read(0, &[(Stdout, "a\nb"), (Stderr, "x\n"), (Stdout, "c\nd\n"), (Stderr, "y")]);
        let lines = cut(&read, 100, BOTH, Until::Lines);
        assert_eq!(texts(&lines), [(Stdout, "a\n"), (Stderr, "x\n"), (Stdout, "bc\nd\n")]);
        assert_eq!(lines.end, 109);
        let all = cut(&read, 100, BOTH, Until::End);
        assert_eq!((texts(&all).last(), all.end), (Some(&(Stderr, "y")), 110));
    }

    #[test]
    fn what_is_open_holds_back_what_came_after_it() {
        let read = read(0, &[(Stdout, "a\nb"), (Stderr, "x\n")]);
        let lines = cut(&read, 100, BOTH, Until::Lines);
        assert_eq!((texts(&lines), lines.end), (vec![(Stdout, "a\n")], 102));
        let all = cut(&read, 100, BOTH, Until::End);
        assert_eq!(texts(&all), [(Stdout, "a\n"), (Stderr, "x\n"), (Stdout, "b")]);
    }

    #[test]
    fn a_stream_that_nobody_wants_holds_nothing_back() {
        let read = read(0, &[(Stderr, "x"), (Stdout, "a\n"), (Stderr, "y")]);
        let lines = cut(&read, 100, [true, false], Until::Lines);
        assert_eq!((texts(&lines), lines.end), (vec![(Stdout, "a\n")], 104));
    }

    #[test]
    fn the_rest_of_a_line_whose_begin_is_lost_is_lost_too() {
        let read = read(7, &[(Stdout, "rest\nwhole\n")]);
        let lines = cut(&read, 100, BOTH, Until::Lines);
        assert_eq!((texts(&lines), lines.torn, lines.end), (vec![(Stdout, "whole\n")], 5, 118));
    }
}

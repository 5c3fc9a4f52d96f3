//! A text that is looked for in the output of a run.

use crate::ring::{Ring, Source};
use crate::wire::request::StreamKind;

/// The most output looked at in one go, in bytes.
const READ_MAX: u64 = 1 << 20;

/// A line with this text, looked for from this offset on.
#[derive(Debug)]
pub struct LineProbe {
    text: Vec<u8>,
    from: u64,
    /// The last bytes of each stream: the text may be cut in two, and what the other one says may stand
    /// between its halves.
    ends: [Vec<u8>; 2],
}

impl LineProbe {
    /// Looks for the text in a run whose output begins at `from`.
    pub fn new(text: &str, from: u64) -> Self {
        Self { text: text.as_bytes().to_vec(), from, ends: [Vec::new(), Vec::new()] }
    }

    /// Looks at the output that is new; true when the text is there.
    pub fn reads(&mut self, ring: &Ring<'_>) -> bool {
        loop {
            let Ok(read) = ring.read(self.from, READ_MAX, StreamKind::Both) else { return false };
            if read.missed > 0 {
                self.ends = [Vec::new(), Vec::new()];
            }
            for piece in &read.pieces {
                if self.finds(piece.source, &read.bytes(piece)) {
                    return true;
                }
            }
            self.from = read.next;
            if read.next >= ring.head() {
                return false;
            }
        }
    }

    /// The text has no end of a line in it: where it is found within one stream, it is within a line.
    fn finds(&mut self, source: Source, bytes: &[u8]) -> bool {
        let end = &mut self.ends[usize::from(source == Source::Stderr)];
        end.extend_from_slice(bytes);
        if end.windows(self.text.len()).any(|w| w == self.text.as_slice()) {
            return true;
        }
        end.drain(..end.len().saturating_sub(self.text.len() - 1));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_in_one_stream_whatever_the_other_says_between() {
        let mut probe = LineProbe::new("server ready", 0);
        assert!(!probe.finds(Source::Stdout, b"server "));
        assert!(!probe.finds(Source::Stderr, b"ready\nserver rea"), "of two streams");
        assert!(!probe.finds(Source::Stdout, b"rea"));
        assert!(probe.finds(Source::Stdout, b"dy\n"), "in three pieces");
        assert!(probe.finds(Source::Stderr, b"dy"));
    }
}

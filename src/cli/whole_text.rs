//! Chunks of output that are cut between characters: a character that is cut in two by the reading of a pipe,
//! or by output of another stream or process in between, is kept back until the rest of it comes.

use std::collections::HashMap;

use bytes::Bytes;

use crate::wire::id::ProcessId;
use crate::wire::reply::Chunk;

/// The beginnings of characters that are kept back: at most three bytes for each stream.
#[derive(Debug, Default)]
pub struct WholeText(HashMap<(ProcessId, bool), Chunk>);

impl WholeText {
    /// The same bytes but for those of a character whose end is to come; nothing, if those are all. Offset
    /// and length still say where the next byte is: where other output came in between, it begins that
    /// much earlier.
    pub fn push(&mut self, mut chunk: Chunk) -> Option<Chunk> {
        let source = (chunk.id, chunk.stderr);
        if let Some(begun) = self.0.remove(&source) {
            chunk.offset = chunk.offset.saturating_sub(begun.data.len() as u64);
            chunk.data = [&begun.data[..], &chunk.data].concat().into();
        }
        let begun = chunk.data.split_off(chunk.data.len() - begun_len(&chunk.data));
        if !begun.is_empty() {
            let offset = chunk.offset + chunk.data.len() as u64;
            // A copy: not to keep all of the chunk for it.
            let data = Bytes::copy_from_slice(&begun);
            self.0.insert(source, Chunk { offset, data, ..chunk.clone() });
        }
        (!chunk.data.is_empty()).then_some(chunk)
    }

    /// What was kept back, when nothing more comes, in the order in which it was printed.
    pub fn finish(&mut self) -> Vec<Chunk> {
        let mut left: Vec<Chunk> = self.0.drain().map(|(_, chunk)| chunk).collect();
        left.sort_by_key(|chunk| (chunk.at, chunk.offset));
        left
    }

    /// The same of all chunks that there are.
    pub fn of(chunks: Vec<Chunk>) -> Vec<Chunk> {
        let mut text = Self::default();
        let mut whole: Vec<Chunk> = chunks.into_iter().filter_map(|chunk| text.push(chunk)).collect();
        whole.extend(text.finish());
        whole
    }
}

/// How many bytes at the end begin a character that they do not end; a character has at most four.
fn begun_len(bytes: &[u8]) -> usize {
    let is_begun = |&n: &usize| is_beginning(&bytes[bytes.len() - n..]);
    (1..=bytes.len().min(3)).find(is_begun).unwrap_or(0)
}

fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::time::Timestamp;

    const A: u8 = 1;
    const B: u8 = 2;

    fn chunk(id: u8, stderr: bool, offset: u64, data: &[u8]) -> Chunk {
        let id = ProcessId::from_bytes([id; 16]);
        Chunk { id, offset, stderr, at: Timestamp(offset), data: data.to_vec().into() }
    }

    #[test]
    fn characters_survive_any_cutting() {
        let bytes = "aß€🦀".as_bytes();
        for cut in 0..=bytes.len() {
            let (one, two) = bytes.split_at(cut);
            let whole = WholeText::of(vec![chunk(A, false, 7, one), chunk(A, false, 7 + cut as u64, two)]);
            let mut next = 7;
            for part in &whole {
                assert!(std::str::from_utf8(&part.data).is_ok());
                assert_eq!(part.offset, next);
                next += part.data.len() as u64;
            }
            assert_eq!(whole.iter().map(|c| &c.data[..]).collect::<Vec<_>>().concat(), bytes);
        }
    }

    #[test]
    fn streams_and_processes_do_not_break_each_others_characters() {
        let (first, rest) = "€".as_bytes().split_at(1);
        let parts = vec![
            chunk(A, false, 0, first),
            chunk(A, true, 1, b"x"),
            chunk(B, false, 0, first),
            chunk(A, false, 2, rest),
            chunk(B, false, 1, b"y"),
            chunk(A, true, 4, first),
        ];
        let whole: Vec<_> = WholeText::of(parts)
            .into_iter()
            .map(|c| (c.id.as_bytes()[0], c.stderr, c.offset, c.data.to_vec()))
            .collect();
        let expected = [
            (A, true, 1, b"x".to_vec()),
            (A, false, 1, "€".into()),
            (B, false, 0, [first, b"y"].concat()),
            (A, true, 4, first.to_vec()),
        ];
        assert_eq!(whole, expected);
    }

    #[test]
    fn what_is_no_text_is_not_kept_back() {
        assert_eq!(WholeText::default().push(chunk(A, false, 0, b"\xff\xfe")).unwrap().data, b"\xff\xfe"[..]);
        assert_eq!(WholeText::default().push(chunk(A, false, 0, b"a\xc3")).unwrap().data, b"a"[..]);
        assert_eq!(WholeText::default().push(chunk(A, false, 0, b"")), None);
    }
}

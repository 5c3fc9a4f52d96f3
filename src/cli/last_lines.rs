//! The last lines of output that is kept in chunks.

use bytes::Buf;

use crate::wire::reply::Chunk;

/// What the last so many lines are; the last one may lack its end.
pub fn last_lines(mut chunks: Vec<Chunk>, lines: usize) -> Vec<Chunk> {
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
}

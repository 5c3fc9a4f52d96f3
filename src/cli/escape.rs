//! Output of processes made harmless for a terminal: no control character but tab and line feed gets through,
//! and bytes that are no text are shown by their numbers. Works over any cutting of the bytes.

use std::fmt::Write;

use crate::wire::id::is_bidi;

/// Escapes bytes as they come; keeps back a character that is not whole yet.
#[derive(Debug, Default)]
pub struct Escaper {
    begun: Vec<u8>,
}

impl Escaper {
    pub fn new() -> Self {
        Self::default()
    }

    /// What these bytes show.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let joined;
        let bytes = if self.begun.is_empty() {
            bytes
        } else {
            joined = [&self.begun, bytes].concat();
            self.begun.clear();
            &joined[..]
        };
        let mut out = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            chunk.valid().chars().for_each(|c| show(c, &mut out));
            // A beginning of a character at the very end may go on.
            if chunks.peek().is_none() && is_beginning(chunk.invalid()) {
                self.begun = chunk.invalid().to_vec();
            } else {
                show_bytes(chunk.invalid(), &mut out);
            }
        }
        out
    }

    /// What was kept back, when nothing more comes.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        show_bytes(&self.begun, &mut out);
        self.begun.clear();
        out
    }
}

fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}

fn show(c: char, out: &mut String) {
    if (c.is_control() && c != '\n' && c != '\t') || is_bidi(c) {
        out.extend(c.escape_default())
    } else {
        out.push(c)
    }
}

fn show_bytes(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        let _ = write!(out, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parts: &[&[u8]]) -> String {
        let mut escaper = Escaper::new();
        let mut out: String = parts.iter().map(|part| escaper.push(part)).collect();
        out += &escaper.finish();
        out
    }

    #[test]
    fn d5_what_moves_a_terminal_is_shown_not_sent() {
        assert_eq!(
            shown(&[b"a\tb\n\x1b]0;title\x07\x1b[31mred\r"]),
            "a\tb\n\\u{1b}]0;title\\u{7}\\u{1b}[31mred\\r"
        );
        assert_eq!(shown(&[b"\xff\xfe"]), "\\xff\\xfe");
        assert_eq!(shown(&["\u{9b}31m\u{202e}".as_bytes()]), "\\u{9b}31m\\u{202e}");
    }

    #[test]
    fn characters_survive_any_cutting() {
        let bytes = "aß€🦀".as_bytes();
        for cut in 0..bytes.len() {
            assert_eq!(shown(&[&bytes[..cut], &bytes[cut..]]), "aß€🦀");
        }
        assert_eq!(shown(&[&bytes[..2]]), "a\\xc3");
        assert_eq!(shown(&[b"\xe2\x82", b"x"]), "\\xe2\\x82x");
    }
}

//! Output of processes made harmless for a terminal: no control character but tab and line feed gets through,
//! and bytes that are no text are shown by their numbers.

use std::fmt::Write;

use crate::wire::id::is_bidi;

/// What these bytes show. Where they are part of more, they are to be cut between characters
/// (`cli/whole_text.rs`).
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| show(c, &mut out));
        show_bytes(chunk.invalid(), &mut out);
    }
    out
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

    #[test]
    fn d5_what_moves_a_terminal_is_shown_not_sent() {
        assert_eq!(
            escape(b"a\tb\n\x1b]0;title\x07\x1b[31mred\r"),
            "a\tb\n\\u{1b}]0;title\\u{7}\\u{1b}[31mred\\r"
        );
        assert_eq!(escape(b"\xff\xfe"), "\\xff\\xfe");
        assert_eq!(escape(b"\xe2\x82x"), "\\xe2\\x82x");
        assert_eq!(escape("\u{9b}31m\u{202e}".as_bytes()), "\\u{9b}31m\\u{202e}");
    }
}

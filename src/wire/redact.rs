//! What must not be seen in output: patterns, and lines in which what they match is replaced. Pure.

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use crate::wire::error::Error;
use crate::wire::id::quoted;

/// What stands for a match, however long. It is never longer than that: so output gets no longer either.
const MARK: &[u8] = b"***";
/// The most patterns of a process.
const PATTERNS_MAX: usize = 32;
/// The longest pattern, in bytes.
const PATTERN_LEN_MAX: usize = 1000;
/// The most memory that a pattern may take, compiled; all of them together take four times as much.
const COMPILED_MAX: usize = 256 << 10;
/// Lines shorter than this, in bytes, are looked at as a whole. The smallest chunk of a ring is no shorter.
pub const LINE_MAX: usize = 16 << 10;
/// In longer ones, matches up to this long are found wherever they are, in bytes.
const OVERLAP: usize = 4 << 10;

/// Whether these can be used.
pub fn check(patterns: &[String]) -> Result<(), Error> {
    if patterns.len() > PATTERNS_MAX {
        let len = patterns.len();
        return Err(Error::usage(format!("{len} patterns in redact are over the limit of {PATTERNS_MAX}")));
    }
    Redactor::new(patterns).map(drop)
}

/// Compiled patterns.
#[derive(Debug)]
pub struct Redactor {
    /// All of them, which finds in one go that none matches.
    any: RegexSet,
    each: Vec<Regex>,
}

/// What of a stream comes out next.
#[derive(Debug, PartialEq, Eq)]
pub struct Next {
    /// How many of its bytes that was.
    pub taken: usize,
    pub out: Vec<u8>,
    /// The rest of the line belongs to a match.
    pub swallows: bool,
}

/// Where what is looked at ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There may be more of its last line.
    Open,
    /// Nothing more comes: what has no end of a line is one.
    Final,
}

impl Redactor {
    /// `None`: there are no patterns.
    pub fn new(patterns: &[String]) -> Result<Option<Self>, Error> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let each = patterns.iter().map(|pattern| compiled(pattern)).collect::<Result<Vec<_>, _>>()?;
        let any = RegexSetBuilder::new(patterns).size_limit(4 * COMPILED_MAX).build();
        let any = any.map_err(|_| Error::usage("the patterns in redact take too much memory together"))?;
        Ok(Some(Self { any, each }))
    }

    /// One line that is no output.
    #[must_use]
    pub fn text(&self, line: &str) -> String {
        let mut out = Vec::new();
        mark(line.as_bytes(), &self.matches(line.as_bytes()), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// What comes of the lines that are whole, of what was read of a stream. What is left is shorter than
    /// [`LINE_MAX`]. `swallows`: as it was said of what was before.
    #[must_use]
    pub fn next(&self, bytes: &[u8], swallows: bool, ending: Ending) -> Next {
        let mut next = Next { taken: 0, out: Vec::with_capacity(bytes.len()), swallows };
        while next.taken < bytes.len() {
            let rest = &bytes[next.taken..];
            let end = rest.iter().position(|&b| b == b'\n');
            let line = &rest[..end.unwrap_or(rest.len())];
            let taken = if next.swallows {
                line.len()
            } else if line.len() >= LINE_MAX {
                self.begin_of(&line[..LINE_MAX], &mut next)
            } else if end.is_some() || ending == Ending::Final {
                mark(line, &self.matches(line), &mut next.out);
                line.len()
            } else {
                break;
            };
            next.taken += taken;
            if end == Some(taken) {
                next.out.push(b'\n');
                next.taken += 1;
                next.swallows = false;
            }
        }
        next.swallows &= ending == Ending::Open;
        next
    }

    /// The begin of a line that is longer than this: all but its last bytes, in which a match may begin. How
    /// much that is.
    fn begin_of(&self, piece: &[u8], next: &mut Next) -> usize {
        let cut = piece.len() - OVERLAP;
        let mut found = self.matches(piece);
        found.retain(|range| range.start < cut);
        let end = found.last().map_or(cut, |last| last.end.max(cut));
        mark(&piece[..end], &found, &mut next.out);
        // One that ends where the piece does may go on behind it.
        next.swallows = end == piece.len();
        end
    }

    /// What any of them matches, in order; what overlaps is one.
    fn matches(&self, text: &[u8]) -> Vec<Range<usize>> {
        if !self.any.is_match(text) {
            return Vec::new();
        }
        let each = self.each.iter().flat_map(|pattern| pattern.find_iter(text));
        let mut all: Vec<_> = each.map(|found| found.range()).filter(|range| !range.is_empty()).collect();
        all.sort_unstable_by_key(|range| range.start);
        let mut apart: Vec<Range<usize>> = Vec::new();
        for range in all {
            match apart.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                Some(_) | None => apart.push(range),
            }
        }
        apart
    }
}

fn mark(text: &[u8], found: &[Range<usize>], out: &mut Vec<u8>) {
    let mut from = 0;
    for range in found {
        out.extend_from_slice(&text[from..range.start]);
        out.extend_from_slice(&MARK[..MARK.len().min(range.len())]);
        from = range.end;
    }
    out.extend_from_slice(&text[from..]);
}

/// What is wrong with a regular expression, in one line: those before it show the expression.
#[must_use]
pub fn why(e: &regex::Error) -> String {
    let e = e.to_string();
    e.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn compiled(pattern: &str) -> Result<Regex, Error> {
    if pattern.is_empty() || pattern.len() > PATTERN_LEN_MAX {
        let what = format!("the pattern {} is empty, or over {PATTERN_LEN_MAX} bytes", quoted(pattern));
        return Err(Error::usage(what));
    }
    let built = RegexBuilder::new(pattern).size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX).build();
    built.map_err(|e| match e {
        regex::Error::CompiledTooBig(_) => {
            Error::usage(format!("the pattern {} takes too much memory", quoted(pattern)))
                .hint("ask for fewer repetitions, or for ASCII alone: (?-u)")
        }
        e => {
            let why = why(&e);
            Error::usage(format!("the pattern {} is no regular expression: {why}", quoted(pattern)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redactor(patterns: &[&str]) -> Redactor {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        Redactor::new(&patterns).unwrap().unwrap()
    }

    /// All that comes out of this, if it comes in pieces of these sizes.
    fn all(redactor: &Redactor, bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
        let (mut from, mut to, mut swallows, mut out) = (0, 0, false, Vec::new());
        let mut sizes = sizes.iter().cycle();
        while to < bytes.len() {
            to = (to + sizes.next().unwrap_or(&usize::MAX)).min(bytes.len());
            let next = redactor.next(&bytes[from..to], swallows, Ending::Open);
            assert!(next.out.len() <= next.taken);
            out.extend(next.out);
            (from, swallows) = (from + next.taken, next.swallows);
            assert!(to - from < LINE_MAX);
        }
        let last = redactor.next(&bytes[from..], swallows, Ending::Final);
        assert_eq!((from + last.taken, last.swallows), (bytes.len(), false));
        [out, last.out].concat()
    }

    fn text(redactor: &Redactor, line: &str) -> String {
        String::from_utf8(all(redactor, line.as_bytes(), &[1 << 20])).unwrap()
    }

    #[test]
    fn what_overlaps_is_one_mark() {
        let both = redactor(&["token=\\w+", "\\w+@host"]);
        assert_eq!(text(&both, "a token=abc@host b\nno\n"), "a *** b\nno\n");
        assert_eq!(text(&both, "token=1,token=2"), "***,***");
        let ends = redactor(&["^a.*z$"]);
        assert_eq!(text(&ends, "a\nz\nabz\n\nxabz\n"), "a\nz\n***\n\nxabz\n");
        let bytes = redactor(&["(?-u)\\xff+"]);
        assert_eq!(all(&bytes, b"\xc3\xff\xff\xff\xff\n", &[3]), b"\xc3***\n");
        assert_eq!(text(&redactor(&["7+", "x*"]), "1 7 77 777 7777\nx"), "1 * ** *** ***\n*");
    }

    #[test]
    fn a_line_waits_for_its_end() {
        let it = redactor(&["secret"]);
        let next = it.next(b"b\na secr", false, Ending::Open);
        assert_eq!((next.taken, &next.out[..]), (2, &b"b\n"[..]));
        let end = it.next(b"a secret", false, Ending::Final);
        assert_eq!((end.taken, &end.out[..]), (8, &b"a ***"[..]));
    }

    #[test]
    fn a_long_line_is_looked_at_in_pieces_that_overlap() {
        let it = redactor(&["k=[a-y]+"]);
        let secret = format!("k={}", "a".repeat(OVERLAP - 2));
        for before in (0..3 * LINE_MAX).step_by(509) {
            let line = format!("{}{secret}{}\nk=b\n", "z".repeat(before), "z".repeat(2 * LINE_MAX));
            let expected = line.replace(&secret, "***").replace("k=b", "***");
            assert_eq!(text(&it, &line), expected);
            assert!(all(&it, line.as_bytes(), &[before + 1, 4096, 1]) == expected.as_bytes());
        }
        // Whatever goes on and on is swallowed up to the end of its line.
        let long = format!("z{secret}{}\nend\n", "a".repeat(5 * LINE_MAX));
        assert_eq!(text(&it, &long), "z***\nend\n");
    }

    #[test]
    fn a_pattern_has_limits_and_says_what_is_wrong() {
        let why = |pattern: &str| check(&[pattern.to_owned()]).unwrap_err().message;
        assert_eq!(why("a(b"), "the pattern 'a(b' is no regular expression: unclosed group");
        assert!(why("(\\w{500}){500}").contains("too much memory"));
        assert!(why("").contains("empty") && why(&"a".repeat(1001)).contains("1000"));
        assert!(check(&vec!["a".to_owned(); PATTERNS_MAX]).is_ok());
        assert!(check(&vec!["a".to_owned(); PATTERNS_MAX + 1]).is_err());
        assert!(Redactor::new(&[]).unwrap().is_none());
    }

    proptest! {
        /// However it comes, it comes out in the same way, and without what is not to be seen.
        #[test]
        fn pieces_come_out_as_the_whole(
            lines in prop::collection::vec("[a-c ]{0,12}(key=[0-9]{1,9})?[a-c ]{0,12}\n?", 0..40),
            sizes in prop::collection::vec(1usize..40, 1..40),
        ) {
            let text = lines.concat();
            let out = all(&redactor(&["key=[0-9]+"]), text.as_bytes(), &sizes);
            let expected = Regex::new("key=[0-9]+").unwrap().replace_all(text.as_bytes(), MARK).into_owned();
            prop_assert_eq!(out, expected);
        }
    }
}

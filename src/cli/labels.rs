//! Names and times before the lines of a stream. Nothing is kept back until a line is whole: a line that is
//! interrupted by one of another process is ended, and goes on under its own name.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::cli::json;
use crate::wire::id::ProcessId;
use crate::wire::reply::Chunk;

/// What stands before a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// The process's name, and whether it is standard error.
    pub name: bool,
    pub time: bool,
}

pub struct Labels {
    names: HashMap<ProcessId, String>,
    extras: Extras,
    width: usize,
    /// The process and the stream whose line is not ended yet.
    open: Option<(ProcessId, bool)>,
}

impl Labels {
    pub fn new(names: HashMap<ProcessId, String>, extras: Extras) -> Self {
        let width = names.values().map(String::len).max().unwrap_or(0);
        Self { names, extras, width, open: None }
    }

    /// One more process.
    pub fn add(&mut self, id: ProcessId, name: String) {
        self.width = self.width.max(name.len());
        self.names.insert(id, name);
    }

    /// What a process is called.
    pub fn name(&self, id: ProcessId) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// How many processes there are.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// A chunk's bytes with what stands before each line.
    pub fn dress<'a>(&mut self, chunk: &'a Chunk) -> Cow<'a, [u8]> {
        if !self.extras.name && !self.extras.time {
            return Cow::Borrowed(&chunk.data);
        }
        let source = (chunk.id, chunk.stderr);
        let label = self.label(chunk);
        let mut out = Vec::with_capacity(chunk.data.len() + 64);
        if self.open.is_some_and(|open| open != source) {
            out.push(b'\n');
            self.open = None;
        }
        for line in chunk.data.split_inclusive(|&byte| byte == b'\n') {
            if self.open.is_none() {
                out.extend_from_slice(label.as_bytes());
            }
            out.extend_from_slice(line);
            self.open = (!line.ends_with(b"\n")).then_some(source);
        }
        Cow::Owned(out)
    }

    fn label(&self, chunk: &Chunk) -> String {
        let mut label = String::new();
        if self.extras.time {
            label.push_str(&json::time(chunk.at));
            label.push(' ');
        }
        if self.extras.name {
            let mark = if chunk.stderr { '!' } else { '|' };
            label.push_str(&format!("{:<width$} {mark} ", self.name(chunk.id), width = self.width));
        }
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::time::Timestamp;

    #[test]
    fn every_line_has_its_name_once() {
        let (a, b) = (ProcessId::from_bytes([1; 16]), ProcessId::from_bytes([2; 16]));
        let names = HashMap::from([(a, "a".into()), (b, "bb".into())]);
        let mut labels = Labels::new(names, Extras { name: true, time: false });
        let mut out = Vec::new();
        let mut say = |id, stderr, text: &str| {
            let chunk = Chunk { id, offset: 0, stderr, at: Timestamp(0), data: text.to_owned().into() };
            out.extend_from_slice(&labels.dress(&chunk));
        };
        say(a, false, "one\ntw");
        say(a, false, "o\nthr");
        say(b, false, "x\n");
        say(a, false, "ee\n");
        say(a, true, "oh");
        say(a, false, "four\n");
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "a  | one\na  | two\na  | thr\nbb | x\na  | ee\na  ! oh\na  | four\n");
    }

    #[test]
    fn without_extras_bytes_stay_as_they_are() {
        let mut labels = Labels::new(HashMap::new(), Extras::default());
        let id = ProcessId::from_bytes([1; 16]);
        let chunk = Chunk { id, offset: 0, stderr: false, at: Timestamp(0), data: vec![0, 255, 10].into() };
        assert_eq!(labels.dress(&chunk), &[0u8, 255, 10][..]);
    }
}

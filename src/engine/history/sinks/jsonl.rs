//! Events as lines of a file, which is rotated by size. The file itself knows how far it has come: its last
//! whole line. Others may move or delete it at any time. A line is never torn for good: what a crash or a
//! full disk cut short is taken away again before the next one is written.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde::Deserialize;

use crate::engine::history::sinks::deliver::{Deliver, Delivery, Failed};
use crate::engine::history::sinks::rotation::{numbered, rotate};
use crate::engine::settings::JsonlSettings;
use crate::sys;
use crate::sys::errno::{ELOOP, ENOENT};
use crate::wire::event::Event;
use crate::wire::id::quoted;
use crate::wire::json;

/// Events for one write: some 200 KiB.
const BATCH_MAX: usize = 512;
/// How much of the end of a file is looked at for its last line; a line has less than 4 KiB.
const TAIL_LEN: u64 = 256 << 10;
/// What every line of ours begins with.
const LINE_BEGIN: &[u8] = b"{\"seq\":";

/// A file of lines.
#[derive(Debug)]
pub struct Jsonl {
    settings: JsonlSettings,
    open: Option<Open>,
}

/// The file while it is open.
#[derive(Debug)]
struct Open {
    file: File,
    device: u64,
    inode: u64,
    /// Up to where it is whole.
    len: u64,
    /// There may be something after that, which has to go before anything is written.
    is_torn: bool,
}

/// The number of the event in a line.
#[derive(Deserialize)]
struct LineSeq {
    seq: u64,
}

impl Jsonl {
    #[must_use]
    pub fn new(settings: JsonlSettings) -> Self {
        Self { settings, open: None }
    }

    fn path(&self) -> &Path {
        &self.settings.path
    }

    /// The file, as it is at the path now.
    fn opened(&mut self) -> Result<&mut Open, Failed> {
        if self.open.as_ref().is_some_and(|open| !open.is_as_left(&self.settings.path)) {
            self.open = None;
        }
        if self.open.is_none() {
            self.open = Some(self.reopen()?.0);
        }
        let open = self.open.as_mut().expect("it was opened above");
        if open.is_torn {
            open.file.set_len(open.len).map_err(|e| failed("mend", &self.settings.path, &e))?;
            open.is_torn = false;
        }
        Ok(open)
    }

    /// Opens the file, or makes it; with the last event in it.
    fn reopen(&self) -> Result<(Open, Option<u64>), Failed> {
        let path = self.path();
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            // A pipe in its place must not make us wait.
            .custom_flags(sys::O_NOFOLLOW | sys::O_NONBLOCK)
            .open(path)
            .map_err(|e| failed("open", path, &e))?;
        let meta = file.metadata().map_err(|e| failed("look at", path, &e))?;
        if !meta.is_file() {
            return Err(refused(path, "it is not a regular file"));
        }
        let end = End::of(&file, &meta).map_err(|e| failed("read", path, &e))?;
        if !end.is_ours {
            return Err(refused(
                path,
                "there is something else in it than events: move it away, or give another path",
            ));
        }
        let is_torn = end.whole < meta.len();
        Ok((Open { file, device: meta.dev(), inode: meta.ino(), len: end.whole, is_torn }, end.seq))
    }

    /// Lines for as many events as fit into what room the file has, at least one.
    fn lines(events: &[Event], room: u64) -> (Vec<u8>, usize) {
        let mut lines = Vec::new();
        let mut count = 0;
        for event in events {
            let before = lines.len();
            serde_json::to_writer(&mut lines, &json::event(event)).expect("a vector takes everything");
            lines.push(b'\n');
            if count > 0 && lines.len() as u64 > room {
                lines.truncate(before);
                break;
            }
            count += 1;
        }
        (lines, count)
    }
}

impl Deliver for Jsonl {
    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    fn resume(&mut self) -> Result<Option<u64>, Failed> {
        let (open, seq) = self.reopen()?;
        self.open = Some(open);
        if seq.is_some() {
            return Ok(seq);
        }
        // Killed between the rotation and the first line of the new file, or the file was taken away.
        let Ok(file) = File::open(numbered(self.path(), 1)) else { return Ok(None) };
        let end = file.metadata().and_then(|meta| End::of(&file, &meta));
        Ok(end.ok().and_then(|end| end.seq))
    }

    fn deliver(&mut self, events: &[Event]) -> Result<Delivery, Failed> {
        let max = self.settings.max_size;
        let len = self.opened()?.len;
        let (mut lines, mut count) = Self::lines(events, max.saturating_sub(len));
        if len > 0 && len + lines.len() as u64 > max {
            rotate(self.path(), self.settings.max_files).map_err(|(to, e)| failed("rotate to", &to, &e))?;
            self.open = None;
            (lines, count) = Self::lines(events, max);
        }
        let written = self.opened()?.write(&lines);
        written.map_err(|e| failed("write to", self.path(), &e))?;
        Ok(Delivery { count, ..Delivery::default() })
    }
}

impl Open {
    /// Whether it is at its path and as long as we left it. Otherwise its end has to be looked at again.
    fn is_as_left(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|meta| {
            let is_len = if self.is_torn { meta.len() >= self.len } else { meta.len() == self.len };
            is_len && (meta.dev(), meta.ino()) == (self.device, self.inode)
        })
    }

    /// All of it or, for the next reader, nothing.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        // One write(2), but for a signal or a disk that is just full.
        if let Err(e) = self.file.write_all(lines) {
            self.is_torn = self.file.set_len(self.len).is_err();
            return Err(e);
        }
        self.len += lines.len() as u64;
        Ok(())
    }
}

/// What the end of a file tells.
#[derive(Debug, PartialEq, Eq)]
struct End {
    /// It holds events, or nothing.
    is_ours: bool,
    /// Up to here it is whole lines.
    whole: u64,
    /// The event of the last line that can be read.
    seq: Option<u64>,
}

impl End {
    fn of(file: &File, meta: &Metadata) -> io::Result<Self> {
        let begin = meta.len().saturating_sub(TAIL_LEN);
        let mut tail = vec![0; usize::try_from(meta.len() - begin).expect("a few pages")];
        file.read_exact_at(&mut tail, begin)?;
        Ok(Self::in_tail(&tail, begin))
    }

    fn in_tail(tail: &[u8], begin: u64) -> Self {
        let whole = tail.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let mut lines = tail[..whole].split(|&b| b == b'\n').rev().filter(|line| !line.is_empty());
        // A power cut may leave a line of zeros.
        let seq = lines.find_map(|line| serde_json::from_slice::<LineSeq>(line).ok()).map(|line| line.seq);
        let is_first = begin == 0 && whole == 0;
        let torn = &tail[whole..];
        let begins = torn.starts_with(&LINE_BEGIN[..torn.len().min(LINE_BEGIN.len())]);
        Self { is_ours: seq.is_some() || (is_first && begins), whole: begin + whole as u64, seq }
    }
}

fn refused(path: &Path, why: &str) -> Failed {
    Failed::new(format!("cannot write to {}: {why}", quoted(&path.to_string_lossy())))
}

fn failed(what: &str, path: &Path, e: &io::Error) -> Failed {
    let why = match e.raw_os_error() {
        Some(ELOOP) => "it is a symbolic link".to_owned(),
        Some(ENOENT) => "its directory does not exist".to_owned(),
        _ => e.to_string(),
    };
    Failed::new(format!("cannot {what} {}: {why}", quoted(&path.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_file_tells_where_to_go_on() {
        let end = |text: &str| End::in_tail(text.as_bytes(), 0);
        let is = |is_ours, whole, seq| End { is_ours, whole, seq };
        assert_eq!(end(""), is(true, 0, None));
        assert_eq!(end("{\"seq\":7,\"a\":1}\n"), is(true, 16, Some(7)));
        assert_eq!(end("{\"seq\":7}\n{\"seq\":8"), is(true, 10, Some(7)));
        assert_eq!(end("{\"se"), is(true, 0, None));
        assert_eq!(end("{\"seq\":7}\n\0\0\0\n"), is(true, 14, Some(7)));
        assert_eq!(end("{\"seq\":7}\n\0\0\0"), is(true, 10, Some(7)));
        // Not ours: such a file is not cut.
        assert!(!end("root:x:0:0:\n").is_ours);
        assert!(!end("root").is_ours);
        assert!(!end("root:x:0:0:\nro").is_ours);
    }
}

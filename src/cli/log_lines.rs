//! Lines of a process from its log files and from what the service keeps of its output, the oldest first and
//! each once.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::wire::log::{LogFormat, OLD_SUFFIX_LEN, old_at};
use crate::wire::reply::Chunk;
use crate::wire::time::Timestamp;

/// The longest line that is read in one piece, in bytes.
const LINE_LEN_MAX: u64 = 1 << 20;
const ZIPPED: &str = ".gz";
/// By so many bytes the end of a file is found in what is kept.
const COMPARED_LEN: u64 = 4096;

/// One line, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was written, where that is known.
    pub at: Option<Timestamp>,
    /// Of which stream, where that is known.
    pub stream: Option<&'static str>,
    pub text: Vec<u8>,
}

/// Where the lines of one file come from: old files, the present one, then what is kept.
pub struct Lines {
    files: VecDeque<Segment>,
    open: Option<Box<dyn BufRead>>,
    format: LogFormat,
    /// Lines of the files from here on are among those that are kept.
    kept_from: Option<Until>,
    kept: VecDeque<Line>,
}

/// Where the files end for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Before the first line of this time.
    Before(Timestamp),
    /// Behind the last line of this time.
    Through(Timestamp),
}

struct Segment {
    path: PathBuf,
    is_zipped: bool,
    /// So many bytes of it count.
    len: u64,
}

impl Lines {
    /// Of a process without a log.
    pub fn kept(chunks: &[Chunk], is_first: bool) -> Self {
        let kept = lines(chunks, is_first).into();
        Self { files: VecDeque::new(), open: None, format: LogFormat::Raw, kept_from: None, kept }
    }

    /// Of the file at this path and of what is kept. `is_first`: what is kept begins with the first byte.
    /// Old files that were finished before `since` are left out.
    pub fn of(
        path: &Path,
        format: LogFormat,
        (chunks, is_first): (&[Chunk], bool),
        since: Option<Timestamp>,
    ) -> io::Result<Self> {
        let mut files = segments(path, since)?;
        let mut kept = VecDeque::from(lines(chunks, is_first));
        let mut kept_from = None;
        if format == LogFormat::Raw {
            let rest = if is_first { 0 } else { rest_len(chunks) };
            let mut known = in_files(chunks, files.back()).saturating_sub(rest);
            // The end of the files is what is kept, which says when.
            while let Some(last) = files.back_mut().filter(|_| known > 0) {
                let less = known.min(last.len);
                last.len -= less;
                known -= less;
                if last.len == 0 {
                    files.pop_back();
                }
            }
            // Their lines came before what is kept, and no later than the last of them was changed.
            let newest = chunks.first().map(|chunk| chunk.at).into_iter().chain(changed_at(path)).min();
            if newest.zip(since).is_some_and(|(newest, since)| newest < since) {
                files.clear();
            }
        } else if let Some(first) = chunks.first() {
            kept_from = Some(if is_first { Until::Before(first.at) } else { Until::Through(first.at) });
            kept.retain(|line| is_first || line.at > Some(first.at));
        }
        Ok(Self { files, open: None, format, kept_from, kept })
    }

    /// Whether lines of files are among them, and have no time.
    pub fn are_timeless(&self) -> bool {
        self.format == LogFormat::Raw && !self.files.is_empty()
    }

    /// The next line of a file.
    fn next_of_files(&mut self) -> Option<io::Result<Line>> {
        loop {
            let Some(reader) = &mut self.open else {
                let segment = self.files.pop_front()?;
                match segment.open() {
                    Ok(reader) => self.open = Some(reader),
                    // It has become an old one, or has gone, since it was listed.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Some(Err(e)),
                }
                continue;
            };
            let mut text = Vec::new();
            match reader.by_ref().take(LINE_LEN_MAX).read_until(b'\n', &mut text) {
                Ok(0) => self.open = None,
                Ok(_) => {
                    if text.last() == Some(&b'\n') {
                        text.pop();
                    }
                    let line = parsed(self.format, text);
                    let is_kept = match (self.kept_from, line.at) {
                        (Some(Until::Before(first)), Some(at)) => at >= first,
                        (Some(Until::Through(last)), Some(at)) => at > last,
                        (None, _) | (_, None) => false,
                    };
                    if is_kept {
                        self.files.clear();
                        self.open = None;
                        return None;
                    }
                    return Some(Ok(line));
                }
                Err(e) => {
                    self.open = None;
                    return Some(Err(e));
                }
            }
        }
    }
}

impl Iterator for Lines {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_of_files().or_else(|| self.kept.pop_front().map(Ok))
    }
}

impl Segment {
    /// The last bytes of it.
    fn end(&self) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let len = self.len.min(COMPARED_LEN);
        file.seek(SeekFrom::Start(self.len - len))?;
        let mut bytes = Vec::new();
        file.take(len).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn open(&self) -> io::Result<Box<dyn BufRead>> {
        let file = File::open(&self.path)?;
        Ok(if self.is_zipped {
            Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file)).take(self.len)))
        } else {
            Box::new(BufReader::with_capacity(64 << 10, file.take(self.len)))
        })
    }
}

/// When a file was last written to.
fn changed_at(path: &Path) -> Option<Timestamp> {
    let since = fs::metadata(path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok().map(Timestamp)
}

/// How long the rest of a line is with which what is kept begins, in bytes, for both streams.
fn rest_len(chunks: &[Chunk]) -> u64 {
    let mut is_open = [true, true];
    let mut len = 0;
    for chunk in chunks {
        let is_open = &mut is_open[usize::from(chunk.stderr)];
        if *is_open {
            let end = chunk.data.iter().position(|&b| b == b'\n');
            *is_open = end.is_none();
            len += end.map_or(chunk.data.len(), |end| end + 1) as u64;
        }
    }
    len
}

/// How much of what is kept is in the files, in bytes: all but what is on its way to the last one.
fn in_files(chunks: &[Chunk], last: Option<&Segment>) -> u64 {
    let kept: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.data.iter().copied()).collect();
    let end = last.and_then(|last| last.end().ok()).unwrap_or_default();
    let is_end = |&n: &usize| n == kept.len() || (n > 0 && kept[n - 1] == b'\n');
    let fits = |&n: &usize| {
        let some = n.min(end.len());
        some > 0 && kept[n - some..n] == end[end.len() - some..]
    };
    (0..=kept.len()).rev().filter(is_end).find(fits).unwrap_or(kept.len()) as u64
}

/// The old files and the present one.
fn segments(path: &Path, since: Option<Timestamp>) -> io::Result<VecDeque<Segment>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        return Ok(VecDeque::new());
    };
    let mut old: Vec<(String, bool)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let Ok(found) = entry?.file_name().into_string() else { continue };
        let Some(end) = found.strip_prefix(name) else { continue };
        let (suffix, kind) = end.split_at_checked(OLD_SUFFIX_LEN).unwrap_or((end, ""));
        let is_late = old_at(suffix).is_some_and(|at| since.is_none_or(|since| at >= since));
        if is_late && (kind.is_empty() || kind == ZIPPED) {
            old.push((suffix.to_owned(), kind == ZIPPED));
        }
    }
    // Of one that is there twice, for a moment, the one that is not compressed.
    old.sort();
    old.dedup_by(|second, first| second.0 == first.0);
    let mut all = VecDeque::new();
    for (suffix, is_zipped) in old {
        let end = if is_zipped { ZIPPED } else { "" };
        let path = dir.join(format!("{name}{suffix}{end}"));
        all.extend(segment(path, is_zipped)?);
    }
    all.extend(segment(path.to_owned(), false)?);
    Ok(all)
}

fn segment(path: PathBuf, is_zipped: bool) -> io::Result<Option<Segment>> {
    let mut file = match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut len = file.metadata()?.len();
    if is_zipped {
        // The last word of it is how long it was.
        let mut word = [0; 4];
        file.seek(SeekFrom::End(-4))?;
        file.read_exact(&mut word)?;
        len = u64::from(u32::from_le_bytes(word));
    }
    Ok(Some(Segment { path, is_zipped, len }))
}

/// What stands in a line of a log.
fn parsed(format: LogFormat, text: Vec<u8>) -> Line {
    let unknown = |text| Line { at: None, stream: None, text };
    match format {
        LogFormat::Raw => unknown(text),
        LogFormat::Time => match text.iter().position(|&b| b == b' ') {
            Some(end) if end < 32 => match std::str::from_utf8(&text[..end]).ok().and_then(moment) {
                Some(at) => Line { at: Some(at), stream: None, text: text[end + 1..].to_vec() },
                None => unknown(text),
            },
            Some(_) | None => unknown(text),
        },
        LogFormat::Json => {
            let Ok(object) = serde_json::from_slice::<Value>(&text) else { return unknown(text) };
            let stream = STREAMS.into_iter().find(|stream| object["stream"] == *stream);
            match (object["time"].as_str().and_then(moment), object["message"].as_str()) {
                (Some(at), Some(message)) => Line { at: Some(at), stream, text: message.as_bytes().to_vec() },
                _ => unknown(text),
            }
        }
    }
}

/// A time as RFC 3339 has it.
pub fn moment(text: &str) -> Option<Timestamp> {
    let at = text.parse::<jiff::Timestamp>().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}

/// The lines of what is kept. If it does not begin with the first byte, the rest of a line comes first, which
/// is left out where another line follows.
fn lines(chunks: &[Chunk], is_first: bool) -> Vec<Line> {
    let mut all = Vec::new();
    let mut open: [Option<(Timestamp, Vec<u8>)>; 2] = [None, None];
    let mut is_rest = [!is_first, !is_first];
    for chunk in chunks {
        let n = usize::from(chunk.stderr);
        for piece in chunk.data.split_inclusive(|&b| b == b'\n') {
            let (_, text) = open[n].get_or_insert_with(|| (chunk.at, Vec::new()));
            text.extend_from_slice(piece);
            if text.last() == Some(&b'\n') {
                text.pop();
                let (_, text) = open[n].take().expect("just put in");
                if !std::mem::take(&mut is_rest[n]) {
                    all.push(Line { at: Some(chunk.at), stream: Some(STREAMS[n]), text });
                }
            }
        }
    }
    for (n, open) in open.into_iter().enumerate() {
        all.extend(open.map(|(at, text)| Line { at: Some(at), stream: Some(STREAMS[n]), text }));
    }
    all
}

pub const STDOUT: &str = "stdout";
pub const STDERR: &str = "stderr";
const STREAMS: [&str; 2] = [STDOUT, STDERR];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::ProcessId;
    use crate::wire::log::old_suffix;

    fn chunk(at: u64, stderr: bool, text: &str) -> Chunk {
        let id = ProcessId::from_bytes([1; 16]);
        Chunk { id, offset: 0, stderr, at: Timestamp(at), data: text.to_owned().into() }
    }

    fn texts(lines: Lines) -> Vec<String> {
        lines.map(|line| String::from_utf8(line.unwrap().text).unwrap()).collect()
    }

    #[test]
    fn what_is_kept_is_lines() {
        let chunks = [chunk(1, false, "rest\na"), chunk(2, true, "x\ny\n"), chunk(3, false, "b\nc")];
        let lines = lines(&chunks, false);
        let shown: Vec<_> = lines
            .iter()
            .map(|l| (l.at.unwrap().0, l.stream.unwrap(), String::from_utf8_lossy(&l.text)))
            .collect();
        assert_eq!(shown, [(2, "stderr", "y".into()), (3, "stdout", "ab".into()), (3, "stdout", "c".into())]);
    }

    #[test]
    fn files_and_what_is_kept_are_one() {
        let dir = std::env::temp_dir().join(format!("provost-lines-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let log = dir.join("a");
        let put = |end: &str, text: &str| fs::write(dir.join(format!("a{end}")), text).unwrap();
        put(&old_suffix(Timestamp(1000)), "1\n2\n");
        put(&old_suffix(Timestamp(2000)), "3\n");
        put("", "4\n5\n");
        put(".other", "not this\n");
        let kept = [chunk(3000, false, "\n4\n5\n6\n")];
        let all = Lines::of(&log, LogFormat::Raw, (&kept[..], false), None).unwrap();
        // The last line is on its way to the file.
        assert_eq!(texts(all), ["1", "2", "3", "4", "5", "6"].map(String::from));
        let kept = [chunk(3000, false, "4\n5\n")];
        let all = Lines::of(&log, LogFormat::Raw, (&kept[..], true), Some(Timestamp(1500))).unwrap();
        assert_eq!(texts(all), ["3", "4", "5"].map(String::from));
        put("", "1970-01-01T00:00:03.000Z 4\n1970-01-01T00:00:03.001Z 5\n");
        let kept = [chunk(3000, false, "4\n"), chunk(3001, false, "5\n"), chunk(3002, false, "6\n")];
        for is_first in [true, false] {
            let since = Some(Timestamp(2500));
            let all = Lines::of(&log, LogFormat::Time, (&kept[..], is_first), since).unwrap();
            assert_eq!(texts(all), ["4", "5", "6"].map(String::from), "{is_first}");
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn lines_of_each_form_are_read() {
        let line = parsed(
            LogFormat::Json,
            br#"{"time":"1970-01-01T00:00:01.5Z","stream":"stderr","message":"m"}"#.to_vec(),
        );
        assert_eq!(line, Line { at: Some(Timestamp(1500)), stream: Some("stderr"), text: b"m".to_vec() });
        assert_eq!(parsed(LogFormat::Time, b"no time".to_vec()).text, b"no time");
        assert_eq!(parsed(LogFormat::Json, b"no json".to_vec()).at, None);
    }
}

//! Lines as they stand in a log. Pure: the same output is the same bytes each time.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::engine::logs::cut::{Run, Wanted, index};
use crate::ring::Source;
use crate::wire::log::{Log, LogFormat, NAME_MARK};
use crate::wire::time::Timestamp;

/// What stands for the stream in a prefix.
const STREAM_MARK: &str = "{stream}";
/// The stream that the service's own lines are of.
pub const OURS: &str = "provost";

/// Output that is not in the log, to be told there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub bytes: u64,
    pub at: Timestamp,
    /// Why it could not be written; empty: it was not written in time.
    pub why: String,
}

/// How the lines of one process are written.
#[derive(Debug)]
pub struct Form<'a> {
    pub log: &'a Log,
    pub name: &'a str,
    pub run: u64,
    /// What stands in a line of JSON besides.
    pub more: &'a Map<String, Value>,
}

impl Form<'_> {
    /// What is written for these, of the streams that are wanted.
    #[must_use]
    pub fn render(&self, runs: &[Run], wanted: Wanted, lost: Option<&Lost>) -> Bytes {
        let is_plain = self.log.format == LogFormat::Raw && self.log.prefix.is_none();
        let mut ours = runs.iter().filter(|run| wanted[index(run.source)]);
        if is_plain && lost.is_none() {
            // As it is, where it is.
            match (ours.next(), ours.next()) {
                (None, _) => return Bytes::new(),
                (Some(only), None) => return only.bytes.clone(),
                (Some(_), Some(_)) => {}
            }
        }
        let mut out = Vec::new();
        if let Some(lost) = lost {
            self.line(&mut out, OURS, lost.at, lost.text().as_bytes(), Some(lost.bytes));
        }
        for run in runs.iter().filter(|run| wanted[index(run.source)]) {
            if is_plain {
                out.extend_from_slice(&run.bytes);
                continue;
            }
            let stream = name(run.source);
            for line in run.bytes.split_inclusive(|&b| b == b'\n') {
                self.line(&mut out, stream, run.at, line, None);
            }
        }
        out.into()
    }

    fn line(&self, out: &mut Vec<u8>, stream: &str, at: Timestamp, line: &[u8], lost: Option<u64>) {
        let (text, is_whole) = match line.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (line, lost.is_some()),
        };
        if self.log.format == LogFormat::Json {
            let mut object = Map::new();
            object.insert("time".into(), time(at).into());
            object.insert("name".into(), self.name.into());
            object.insert("run".into(), self.run.into());
            object.insert("stream".into(), stream.into());
            object.extend(self.more.clone());
            object.insert("message".into(), String::from_utf8_lossy(text).into());
            if !is_whole {
                object.insert("partial".into(), true.into());
            }
            if let Some(bytes) = lost {
                object.insert("lost_bytes".into(), bytes.into());
            }
            out.extend_from_slice(Value::from(object).to_string().as_bytes());
        } else {
            if self.log.format == LogFormat::Time {
                out.extend_from_slice(time(at).as_bytes());
                out.push(b' ');
            }
            if let Some(prefix) = &self.log.prefix {
                let prefix = prefix.replace(NAME_MARK, self.name).replace(STREAM_MARK, stream);
                out.extend_from_slice(prefix.as_bytes());
            }
            out.extend_from_slice(text);
        }
        out.push(b'\n');
    }
}

impl Lost {
    pub fn text(&self) -> String {
        let mut text = format!("provost: {} bytes of output were lost here", self.bytes);
        if self.why.is_empty() {
            text.push_str(": the file took none for a second");
        } else {
            let _ = write!(text, ": {}", self.why);
        }
        text
    }
}

/// How a stream is called.
pub fn name(source: Source) -> &'static str {
    match source {
        Source::Stdout => "stdout",
        Source::Stderr => "stderr",
    }
}

/// In UTC, to the millisecond.
#[must_use]
pub fn time(at: Timestamp) -> String {
    let at = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs() -> Vec<Run> {
        let run = |source, bytes: &'static str| Run {
            source,
            at: Timestamp(1_700_000_000_123),
            bytes: bytes.into(),
        };
        vec![run(Source::Stdout, "a\nb\n"), run(Source::Stderr, "\"c\"Ã"), run(Source::Stdout, "d\n")]
    }

    fn rendered(log: &Log, wanted: Wanted, lost: Option<&Lost>) -> String {
        let more = Map::from_iter([("host".to_owned(), "box".into())]);
        let more = if log.fields.is_empty() { Map::new() } else { more };
        let form = Form { log, name: "web", run: 3, more: &more };
        String::from_utf8(form.render(&runs(), wanted, lost).to_vec()).unwrap()
    }

    #[test]
    fn raw_lines_are_what_they_were() {
        let log = Log::default();
        assert_eq!(rendered(&log, [true, true], None), "a\nb\n\"c\"Ãd\n");
        assert_eq!(rendered(&log, [true, false], None), "a\nb\nd\n");
        let lost = Lost { bytes: 7, at: Timestamp(0), why: "no space".into() };
        assert!(
            rendered(&log, [false, false], Some(&lost)).starts_with("provost: 7 bytes of output were lost")
        );
    }

    #[test]
    fn lines_have_a_time_a_prefix_or_fields() {
        let log = Log { format: LogFormat::Time, prefix: Some("{name}/{stream}: ".into()), ..Log::default() };
        let at = "2023-11-14T22:13:20.123Z";
        assert_eq!(
            rendered(&log, [true, true], None),
            format!("{at} web/stdout: a\n{at} web/stdout: b\n{at} web/stderr: \"c\"Ã\n{at} web/stdout: d\n")
        );
        let mut log = Log { format: LogFormat::Json, ..Log::default() };
        let line = rendered(&log, [false, true], None);
        log.fields = vec!["host".into()];
        assert_eq!(
            rendered(&log, [false, true], None),
            line.replace("stderr\",", "stderr\",\"host\":\"box\",")
        );
        assert_eq!(
            line,
            format!(
                "{{\"time\":\"{at}\",\"name\":\"web\",\"run\":3,\"stream\":\"stderr\",\"message\":\"\\\"c\\\"Ã\",\"partial\":true}}\n"
            )
        );
    }
}

//! One line of output as syslog and journald take it. Pure.

use crate::engine::logs::render::time;
use crate::wire::receiver::Protocol;
use crate::wire::time::Timestamp;

/// The longest part of a line in one message to syslog, in bytes: with what stands before it, no more than
/// the 8 KiB that receivers take.
const SYSLOG_TEXT_MAX: usize = 7 << 10;
/// The longest name of a program in RFC 5424, in bytes.
const APP_NAME_LEN_MAX: usize = 48;
/// `daemon`, times eight.
const FACILITY: u8 = 3 << 3;
const ERROR: u8 = 3;
const WARNING: u8 = 4;
const INFO: u8 = 6;

/// Whose lines these are.
#[derive(Clone, Debug)]
pub struct Origin {
    pub host: String,
    pub name: String,
    pub id: String,
    pub instance: Option<u32>,
    pub run: u64,
    pub pid: Option<u32>,
}

/// A line, or a part of one.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub stream: &'static str,
    pub at: Timestamp,
    /// Without its end.
    pub text: &'a [u8],
    /// More of it follows.
    pub is_part: bool,
}

impl Line<'_> {
    /// Standard error counts as errors, what the service says itself as warnings.
    fn severity(&self) -> u8 {
        match self.stream {
            "stdout" => INFO,
            "stderr" => ERROR,
            _ => WARNING,
        }
    }
}

impl Origin {
    /// What is sent for a line.
    #[must_use]
    pub fn messages(&self, line: Line<'_>, protocol: Protocol) -> Vec<Vec<u8>> {
        match protocol {
            Protocol::Syslog => self.syslog(line),
            Protocol::Journal => vec![self.journal(line)],
        }
    }

    /// As RFC 5424 has it, in as many messages as it takes.
    fn syslog(&self, line: Line<'_>) -> Vec<Vec<u8>> {
        let mut rest = line.text;
        let mut all = Vec::new();
        loop {
            let (text, more) = rest.split_at(part(rest));
            let is_part = line.is_part || !more.is_empty();
            all.push(self.syslog_message(Line { text, is_part, ..line }));
            if more.is_empty() {
                return all;
            }
            rest = more;
        }
    }

    fn syslog_message(&self, line: Line<'_>) -> Vec<u8> {
        let priority = FACILITY | line.severity();
        let app = header(&self.name, APP_NAME_LEN_MAX);
        let pid = self.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let mut head = format!(
            "<{priority}>1 {at} {host} {app} {pid} {stream} [provost@32473 name=\"{name}\" id=\"{id}\" run=\"{run}\" \
             stream=\"{stream}\"",
            at = time(line.at),
            host = header(&self.host, 255),
            stream = line.stream,
            name = value(&self.name),
            id = self.id,
            run = self.run,
        );
        if let Some(instance) = self.instance {
            head.push_str(&format!(" instance=\"{instance}\""));
        }
        if line.is_part {
            head.push_str(" partial=\"true\"");
        }
        head.push_str("] ");
        [head.as_bytes(), line.text].concat()
    }

    /// In journald's native protocol.
    fn journal(&self, line: Line<'_>) -> Vec<u8> {
        let mut fields = vec![
            ("PRIORITY", line.severity().to_string()),
            ("SYSLOG_IDENTIFIER", self.name.clone()),
            ("PROVOST_NAME", self.name.clone()),
            ("PROVOST_ID", self.id.clone()),
            ("PROVOST_RUN", self.run.to_string()),
            ("PROVOST_STREAM", line.stream.to_owned()),
            ("PROVOST_TIME", time(line.at)),
        ];
        fields.extend(self.instance.map(|instance| ("PROVOST_INSTANCE", instance.to_string())));
        fields.extend(self.pid.map(|pid| ("SYSLOG_PID", pid.to_string())));
        fields.extend(line.is_part.then(|| ("PROVOST_PARTIAL", "true".to_owned())));
        let fields: String = fields.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        // A line holds no end of a line, and so needs no length in front.
        [fields.as_bytes(), b"MESSAGE=", line.text, b"\n"].concat()
    }
}

/// How much of it goes into one message: no character is cut in two.
fn part(text: &[u8]) -> usize {
    if text.len() <= SYSLOG_TEXT_MAX {
        return text.len();
    }
    let goes_on = |at: &usize| text[*at] & 0xC0 == 0x80;
    (SYSLOG_TEXT_MAX - 3..=SYSLOG_TEXT_MAX).rev().find(|at| !goes_on(at)).unwrap_or(SYSLOG_TEXT_MAX)
}

/// As a part of the header: printable, and not empty.
fn header(text: &str, len_max: usize) -> String {
    let shown = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let text: String = text.chars().map(shown).take(len_max).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// As the value of a parameter.
fn value(text: &str) -> String {
    text.chars().flat_map(|c| matches!(c, '"' | '\\' | ']').then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        let [host, name, id] = ["box", "web-2", "01a"].map(str::to_owned);
        Origin { host, name, id, instance: Some(2), run: 3, pid: Some(77) }
    }

    fn line(text: &[u8]) -> Line<'_> {
        Line { stream: "stderr", at: Timestamp(1_700_000_000_123), text, is_part: false }
    }

    #[test]
    fn a_line_for_syslog_is_as_the_standard_has_it() {
        let [message] = &origin().syslog(line(b"a \"b\""))[..] else { panic!("one message") };
        assert_eq!(
            String::from_utf8_lossy(message),
            "<27>1 2023-11-14T22:13:20.123Z box web-2 77 stderr [provost@32473 name=\"web-2\" id=\"01a\" run=\"3\" \
             stream=\"stderr\" instance=\"2\"] a \"b\""
        );
        let bare = Origin {
            host: String::new(),
            name: "a ]\"\\Ã".to_owned(),
            instance: None,
            pid: None,
            ..origin()
        };
        let message = bare.syslog_message(Line { is_part: true, ..line(b"") });
        assert_eq!(
            String::from_utf8(message).unwrap(),
            "<27>1 2023-11-14T22:13:20.123Z - a_]\"\\_ - stderr [provost@32473 name=\"a \\]\\\"\\\\Ã\" id=\"01a\" run=\"3\" \
             stream=\"stderr\" partial=\"true\"] "
        );
    }

    #[test]
    fn a_long_line_goes_in_parts_without_cutting_a_character() {
        let text = format!("a{}", "Ã".repeat(SYSLOG_TEXT_MAX));
        let parts = origin().syslog(line(text.as_bytes()));
        let texts: Vec<_> = parts
            .iter()
            .map(|part| {
                let part = std::str::from_utf8(part).unwrap();
                assert!(part.len() < 8 << 10);
                part.split_once("] ").unwrap()
            })
            .collect();
        assert_eq!(texts.iter().map(|(_, text)| *text).collect::<String>(), text);
        let partial = |n: usize| texts[n].0.contains("partial");
        assert_eq!((texts.len(), partial(0), partial(1), partial(2)), (3, true, true, false));
    }

    #[test]
    fn a_line_for_the_journal_is_a_list_of_fields() {
        let out = Line { stream: "stdout", ..line(b"\xff = x") };
        let entry = origin().journal(out);
        let fields: Vec<_> = entry.strip_suffix(b"\n").unwrap().split(|&b| b == b'\n').collect();
        assert!(fields.contains(&&b"MESSAGE=\xff = x"[..]) && fields.contains(&&b"PRIORITY=6"[..]));
        assert!(fields.contains(&&b"PROVOST_INSTANCE=2"[..]) && fields.contains(&&b"SYSLOG_PID=77"[..]));
        assert_eq!(fields.len(), 10);
    }
}

//! Facts in words, for people: durations, ends, states, and text from outside made harmless.

use std::borrow::Cow;
use std::io;
#[cfg(feature = "gateway")]
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

#[cfg(feature = "gateway")]
use crate::sys::files;
use crate::sys::signal;
use crate::wire::error::{Code, Error};
use crate::wire::id::{is_bidi, quoted};
use crate::wire::process::{End, Exit, Process, StartFailure, State};
use crate::wire::time::{Timestamp, millis};

/// Text without anything that moves a cursor or reorders a line: such characters stand there as their
/// escapes.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() || is_bidi(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() || is_bidi(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// What the program without the feature `gateway` cannot do.
#[cfg(not(feature = "gateway"))]
pub fn without_gateway(lack: &str) -> Error {
    Error::new(Code::Refused, format!("this provost was built without gateway: it {lack}"))
        .hint("take one that was built with the feature gateway, as 'make static' does")
}

/// A command as one would type it into a shell, harmless to print.
pub fn quoted_command(arguments: &[String]) -> String {
    let mut out = String::new();
    for argument in arguments {
        if !out.is_empty() {
            out.push(' ');
        }
        let plain = |c: char| c.is_alphanumeric() || "-_=+./:,@%^".contains(c);
        if !argument.is_empty() && argument.chars().all(plain) {
            out.push_str(argument);
        } else {
            out.push('\'');
            out.push_str(&escaped(argument).replace('\'', "'\\''"));
            out.push('\'');
        }
    }
    out
}

/// How many columns a terminal needs for it.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// The text with blanks behind it, so that it is so many columns wide.
pub fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// So much of it as fits into so many columns, the last one an ellipsis when some was cut.
pub fn fitted(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let more = UnicodeWidthChar::width(c).unwrap_or(0);
        if used + more >= columns {
            break;
        }
        used += more;
        out.push(c);
    }
    out.push('…');
    Cow::Owned(out)
}

/// At most so many characters, the last one an ellipsis when some were cut.
pub fn cut(text: &str, chars: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars) {
        None => Cow::Borrowed(text),
        Some(_) => {
            let end = text.char_indices().nth(chars.saturating_sub(1)).map_or(0, |(at, _)| at);
            Cow::Owned(format!("{}…", &text[..end]))
        }
    }
}

/// `120 ms`, `1.6 s`, `12 s`, `3 min 12 s`, `5 h 3 min`, `3 d 4 h`.
pub fn span(duration: Duration) -> String {
    let (ms, s) = (millis(duration), duration.as_secs());
    let two = |large: u64, unit: &str, small: u64, rest: &str| {
        if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {rest}") }
    };
    match s {
        0 => format!("{ms} ms"),
        1..=9 => format!("{}.{} s", s, ms % 1000 / 100),
        10..=59 => format!("{s} s"),
        60..=3599 => two(s / 60, "min", s % 60, "s"),
        3600..=86399 => two(s / 3600, "h", s % 3600 / 60, "min"),
        _ => two(s / 86400, "d", s % 86400 / 3600, "h"),
    }
}

/// From then to now.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    span(Duration::from_millis(now.0.saturating_sub(then.0)))
}

/// A size for people: `512 B`, `11.7 MiB`.
pub fn bytes(size: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut tenths = u128::from(size) * 10;
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10 * 1024 {
            break;
        }
        (tenths, unit) = (tenths / 1024, next);
    }
    if unit == "B" { format!("{size} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

/// From now to then.
pub fn until(then: Timestamp, now: Timestamp) -> String {
    age(now, then)
}

/// Rows as a table: columns as wide as their widest cell, two blanks between them.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let widths: [usize; N] =
        std::array::from_fn(|n| rows.iter().map(|row| width(&row[n])).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| padded(cell, width)).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// `exit code 1`, `SIGKILL, out of memory`, `SIGSEGV, core dumped`.
pub fn end(exit: &Exit) -> String {
    let mut out = match exit.end {
        End::Code(code) => format!("exit code {code}"),
        End::Signal(number) => signal::name(u32::from(number)),
    };
    if exit.oom {
        out.push_str(", out of memory");
    }
    if exit.core {
        out.push_str(", core dumped");
    }
    out
}

/// A path in quotes, harmless to print.
pub fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// The path made absolute; `what` names it in the error.
pub fn absolute(what: &str, path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|e| {
        let message = format!("{what} {} cannot be made absolute: {}", self::path(path), cause(&e));
        Error::new(Code::Failed, message)
    })
}

/// What stands in an option: itself, the content of `@FILE`, or of standard input for `@-`; at most `max`
/// bytes.
#[cfg(feature = "gateway")]
pub fn given(option: &str, value: &str, max: usize) -> Result<Vec<u8>, Error> {
    let bytes = match value.strip_prefix('@') {
        None => value.as_bytes().to_vec(),
        Some("-") => {
            let mut bytes = Vec::new();
            let read = io::stdin().take(max as u64 + 1).read_to_end(&mut bytes);
            read.map_err(|e| Error::failed(&format!("read {option} from standard input"), &e))?;
            bytes
        }
        Some(path) => files::read(path.as_ref(), max as u64)
            .map_err(|why| Error::usage(format!("cannot read {}: {why}", quoted(path))))?,
    };
    if bytes.len() > max {
        return Err(Error::usage(format!("{option} has more than {max} bytes")));
    }
    Ok(bytes)
}

/// What the system says of an error number.
pub fn errno(number: i32) -> String {
    cause(&io::Error::from_raw_os_error(number))
}

/// An error of the system as the end of a message.
pub fn cause(e: &io::Error) -> String {
    let text = e.to_string();
    let arguments = text.split(" (os error").next().unwrap_or_default();
    let mut chars = arguments.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// `exec '/x': no such file or directory`.
pub fn start_failure(failure: &StartFailure) -> String {
    escaped(&failure.in_words()).into_owned()
}

/// What is said of a process that is there and does nothing.
pub const HALTED: &str = "halted by a signal or a debugger: 'provost signal CONT' lets it go on";

/// What came of the latest run, if one ended: an exit or a failed start.
pub fn last_end(process: &Process) -> Option<String> {
    match (&process.start_failure, &process.exit) {
        (Some(failure), _) => Some(start_failure(failure)),
        (None, Some(exit)) if !process.unfit.is_empty() => {
            Some(format!("{}, and was ended: {}", escaped(&process.unfit), end(exit)))
        }
        (None, Some(exit)) => Some(end(exit)),
        (None, None) => None,
    }
}

/// `running (pid 12, run 3, for 5 s)`: a process's state with what matters most about it.
pub fn state(process: &Process, now: Timestamp) -> String {
    let mut facts = Vec::new();
    match process.state {
        State::Running => {
            facts.extend(process.pid.map(|pid| format!("pid {pid}")));
            facts.push(format!("run {}", process.run));
            facts.extend(process.started_at.map(|at| format!("for {}", age(at, now))));
            if !process.ready {
                facts.push(not_ready(process));
            }
            facts.extend((!process.hook.is_empty()).then(|| format!("runs its {}", escaped(&process.hook))));
            facts.extend((!process.status.is_empty()).then(|| escaped(&process.status).into_owned()));
            facts.extend(limits(process));
            facts.extend(process.halted.then(|| HALTED.to_owned()));
            if process.outdated {
                facts.push("outdated: changed since it started".into());
            }
            if !process.log_trouble.is_empty() {
                let (why, lost) = (escaped(&process.log_trouble), process.log_lost);
                facts.push(format!("no log: {why}; {lost} bytes lost"));
            }
        }
        State::Starting | State::Stopping if !process.hook.is_empty() => {
            facts.push(format!("runs its {}", escaped(&process.hook)));
        }
        State::Starting if !process.waits_for.is_empty() => {
            facts.push(format!("waits for {}", escaped(&process.waits_for)));
        }
        State::Starting => facts.push(format!("run {}", process.run)),
        State::Stopping if process.stuck => {
            facts.push("SIGKILL was sent and something is still there".into())
        }
        State::Stopping if !process.unfit.is_empty() => facts.push(escaped(&process.unfit).into_owned()),
        State::Stopping => facts.extend(stop_progress(process, now)),
        State::Backoff => {
            facts.extend(last_end(process));
            facts.extend(process.next_attempt_at.map(|at| format!("next attempt in {}", until(at, now))));
        }
        State::Stopped | State::Failed | State::Scheduled => {
            facts.push(last_end(process).unwrap_or_else(|| no_end(process).into()));
        }
    }
    if process.state.is_at_rest() {
        facts.extend(process.next_run_at.map(|at| format!("next run in {}", until(at, now))));
        if process.is_suspended() {
            facts.push("its schedule is suspended".to_owned());
        }
    }
    if facts.is_empty() {
        return process.state.name().to_owned();
    }
    format!("{} ({})", process.state.name(), facts.join(", "))
}

/// `not ready: waits for tcp 8080 (nobody listens at port 8080)`.
pub fn not_ready(process: &Process) -> String {
    match process.waits_for.as_str() {
        "" => "not ready".to_owned(),
        what => format!("not ready: waits for {}", escaped(what)),
    }
}

/// `memory_max 512 MiB, cpu_quota 1.5`, or why they do not hold; none: nothing is said.
pub fn limits(process: &Process) -> Option<String> {
    if !process.limits_trouble.is_empty() {
        return Some(format!("without its limits: {}", escaped(&process.limits_trouble)));
    }
    let all = process.limits.values().filter(|(key, _)| *key != "limits_optional");
    let one = |(key, value): (&str, Value)| match value {
        Value::String(text) => format!("{key} {text}"),
        value => format!("{key} {value}"),
    };
    let all: Vec<_> = all.map(one).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// `SIGTERM 4.0 s ago, SIGKILL in 6.0 s`: how far a stop has come.
pub fn stop_progress(process: &Process, now: Timestamp) -> Option<String> {
    let asked =
        process.stop_asked_at.map(|at| format!("{} {} ago", signal::name(process.stop_signal), age(at, now)));
    let kill = process.kill_at.map(|at| format!("SIGKILL in {}", until(at, now)));
    let parts: Vec<String> = asked.into_iter().chain(kill).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// `1 restart`, `2 restarts`.
pub fn count(n: impl Into<u64>, what: &str) -> String {
    let n = n.into();
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Why there is no end to tell.
pub fn no_end(process: &Process) -> &'static str {
    if process.run == 0 { "never started" } else { "nobody saw its end" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f19_control_characters_are_shown_not_sent() {
        assert_eq!(escaped("plain é"), "plain é");
        assert_eq!(escaped("a\u{1b}[31m\n\u{202e}"), "a\\u{1b}[31m\\n\\u{202e}");
        assert_eq!(quoted_command(&["a b".into(), "it's".into(), String::new()]), "'a b' 'it'\\''s' ''");
        assert_eq!(quoted_command(&["\u{7}x".into()]), "'\\u{7}x'");
    }

    #[cfg(feature = "gateway")]
    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "b"], ["äöü", "c"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), ["a    b", "äöü  c"]);
    }

    #[test]
    fn sizes_have_a_unit_that_suits_them() {
        let shown = [0, 1023, 1024, 12_345_678, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "11.7 MiB", "16383.9 PiB"]);
    }

    #[test]
    fn spans_have_two_parts_at_most() {
        let text = |ms| span(Duration::from_millis(ms));
        assert_eq!(text(120), "120 ms");
        assert_eq!(text(1_640), "1.6 s");
        assert_eq!(text(59_999), "59 s");
        assert_eq!(text(192_000), "3 min 12 s");
        assert_eq!(text(120_000), "2 min");
        assert_eq!(text(18_180_000), "5 h 3 min");
        assert_eq!(text(273_600_000), "3 d 4 h");
    }

    #[test]
    fn what_is_fitted_takes_no_more_columns_than_there_are() {
        assert_eq!(width("日本"), 4);
        assert_eq!(fitted("日本語", 5), "日本…");
        assert_eq!(fitted("日本語", 6), "日本語");
        assert_eq!(fitted("abcdef", 4), "abc…");
        assert_eq!(padded("日", 4), "日  ");
    }

    #[test]
    fn cutting_counts_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }

    #[test]
    fn error_numbers_have_words() {
        assert_eq!(errno(2), "no such file or directory");
    }
}

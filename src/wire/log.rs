//! Into which files a process's output is written, in what form, and what becomes of a file that is large or
//! old.

use std::path::{Component, Path};
use std::time::Duration;

use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::proto::{same_variants, v1};
use crate::wire::receiver::Receiver;
use crate::wire::time::{DURATION_MAX, Timestamp, millis};

/// The least output that a process with a log keeps, in bytes: what is on its way to the file.
pub const KEPT_MIN: u64 = 64 << 10;
/// A file of this many bytes is followed by another, when nothing is said.
pub const SIZE_DEFAULT: u64 = 50 << 20;
/// The smallest size at which a file can be followed by another, in bytes.
pub const SIZE_MIN: u64 = 4 << 10;
/// How many old files are kept, when nothing is said.
pub const KEEP_DEFAULT: u32 = 5;
/// The most old files that can be kept.
pub const KEEP_MAX: u32 = 1000;
/// The longest path, in bytes.
const PATH_LEN_MAX: usize = 4000;
/// The longest prefix, in bytes.
const PREFIX_LEN_MAX: usize = 256;
/// What stands for the process's name in a path and a prefix.
pub const NAME_MARK: &str = "{name}";

/// The length of what [`old_suffix`] gives, in bytes.
pub const OLD_SUFFIX_LEN: usize = 21;
const OLD_SUFFIX: &str = ".%Y%m%dT%H%M%S.%3fZ";

/// What the name of a file gets that has become old then. Such names sort by time.
#[must_use]
pub fn old_suffix(at: Timestamp) -> String {
    let at = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.unwrap_or_default().strftime(OLD_SUFFIX).to_string()
}

/// When that was; `None`: it is another ending.
#[must_use]
pub fn old_at(suffix: &str) -> Option<Timestamp> {
    let shape = |c: u8| if c.is_ascii_digit() { b'0' } else { c };
    if !suffix.bytes().map(shape).eq(*b".00000000T000000.000Z") {
        return None;
    }
    let [year, month, day] = [&suffix[1..5], &suffix[5..7], &suffix[7..9]];
    let [hour, minute, second] = [&suffix[10..12], &suffix[12..14], &suffix[14..]];
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}");
    let at = text.parse::<jiff::Timestamp>().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// As they are.
    #[default]
    Raw,
    /// The time before each.
    Time,
    /// An object in JSON for each.
    Json,
}

impl LogFormat {
    pub const ALL: [Self; 3] = [Self::Raw, Self::Time, Self::Json];

    /// As it is written in a definition.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Time => "time",
            Self::Json => "json",
        }
    }
}

same_variants!(LogFormat: Raw, Time, Json);

/// What can stand in a line of JSON besides: of the process, its present run and the machine.
pub const MORE_FIELDS: [&str; 5] = ["id", "instance", "pid", "host", "labels"];

/// The files of one process. It has none as long as no path is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// For both streams, except the one that has a file of its own.
    pub file: Option<String>,
    pub stdout: Option<String>,
    pub stderr: Option<String>,
    /// A file that would be larger is followed by another; `None`: it grows.
    pub size: Option<u64>,
    /// A file that is older is followed by another.
    pub age: Option<Duration>,
    /// How many old files stay.
    pub keep: u32,
    /// Old files are compressed.
    pub gzip: bool,
    pub format: LogFormat,
    /// Stands before each line.
    pub prefix: Option<String>,
    /// What stands in each line of JSON besides, of [`MORE_FIELDS`].
    pub fields: Vec<String>,
    /// Who receives the lines in place of files, see [`Receiver::parse`].
    pub to: Option<String>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            file: None,
            stdout: None,
            stderr: None,
            size: Some(SIZE_DEFAULT),
            age: None,
            keep: KEEP_DEFAULT,
            gzip: false,
            format: LogFormat::default(),
            prefix: None,
            fields: Vec::new(),
            to: None,
        }
    }
}

impl Log {
    /// Whether anything is written.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.to.is_some() || self.paths().iter().any(Option::is_some)
    }

    /// Where standard output and standard error are written, as the definition has it.
    #[must_use]
    pub fn paths(&self) -> [Option<&str>; 2] {
        [&self.stdout, &self.stderr].map(|own| own.as_deref().or(self.file.as_deref()))
    }

    /// The same for the process that is called so.
    #[must_use]
    pub fn paths_of(&self, label: &str) -> [Option<String>; 2] {
        self.paths().map(|path| path.map(|path| path.replace(NAME_MARK, label)))
    }

    pub fn check(&self, output_bytes: u64) -> Result<(), Error> {
        let bad = |what: String| Err(Error::usage(what));
        for path in [&self.file, &self.stdout, &self.stderr].into_iter().flatten() {
            check_path(path)?;
        }
        if !self.is_on() {
            if *self != Self::default() {
                let e = Error::usage("it is said how a log is written, and not into which file");
                return Err(e.hint("give log = \"FILE\""));
            }
            return Ok(());
        }
        if let Some(to) = &self.to {
            Receiver::parse(to)?;
            if *self != (Self { to: self.to.clone(), ..Self::default() }) {
                let what = format!("lines go to {to}, and there is a file for them, or how it is written");
                return Err(Error::usage(what).hint("leave out log_to, or all other settings of the log"));
            }
        }
        if self.stdout.is_some() && self.stdout == self.stderr {
            return Err(Error::usage("both streams have one file").hint("name it once, with log"));
        }
        if output_bytes < KEPT_MIN {
            let what = format!("output of {output_bytes} bytes is too little on its way to a log");
            return Err(Error::usage(what).hint(format!("keep at least {KEPT_MIN}")));
        }
        if self.size.is_some_and(|size| size < SIZE_MIN) {
            let size = self.size.unwrap_or_default();
            return bad(format!("a log_size of {size} bytes is too small: {SIZE_MIN} (4 KiB) is the least"));
        }
        if self.age.is_some_and(|age| age.is_zero() || age > DURATION_MAX) {
            return bad("the age of a log is outside of a millisecond to a year".into());
        }
        if self.keep > KEEP_MAX {
            return bad(format!("{} old logs are over the limit of {KEEP_MAX}", self.keep));
        }
        if let Some(other) = self.fields.iter().find(|field| !MORE_FIELDS.contains(&field.as_str())) {
            return bad(format!("{} is none of {}", quoted(other), MORE_FIELDS.join(", ")));
        }
        if !self.fields.is_empty() && self.format != LogFormat::Json {
            let what = "fields have a place in lines of JSON alone";
            return Err(Error::usage(what).hint("give log_format = \"json\", too"));
        }
        match &self.prefix {
            Some(p) if p.len() > PREFIX_LEN_MAX || p.contains(char::is_control) => {
                bad(format!("the prefix {} is too long, or no single line", quoted(p)))
            }
            Some(_) if self.format == LogFormat::Json => {
                bad("a prefix has no place before JSON, which names process and stream".into())
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(in crate::wire) fn to_wire(&self) -> Option<v1::Log> {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        (*self != Self::default()).then(|| v1::Log {
            file: text(&self.file),
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
            size: Some(self.size.unwrap_or(0)),
            age_ms: self.age.map_or(0, millis),
            keep: Some(self.keep),
            gzip: self.gzip,
            format: self.format.to_wire() as i32,
            prefix: text(&self.prefix),
            fields: self.fields.clone(),
            to: text(&self.to),
        })
    }

    pub(in crate::wire) fn from_wire(w: Option<v1::Log>) -> Self {
        let Some(w) = w else { return Self::default() };
        let text = |t: String| (!t.is_empty()).then_some(t);
        Self {
            file: text(w.file),
            stdout: text(w.stdout),
            stderr: text(w.stderr),
            size: Some(w.size.unwrap_or(SIZE_DEFAULT)).filter(|&size| size != 0),
            age: (w.age_ms != 0).then(|| Duration::from_millis(w.age_ms)),
            keep: w.keep.unwrap_or(KEEP_DEFAULT),
            gzip: w.gzip,
            format: LogFormat::from_wire(w.format),
            prefix: text(w.prefix),
            fields: w.fields,
            to: text(w.to),
        }
    }
}

/// A path leads to a file, and never up again.
fn check_path(path: &str) -> Result<(), Error> {
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir);
    let names_a_file = !path.is_empty() && !path.ends_with(['/', '.']);
    if path.len() > PATH_LEN_MAX || path.contains(char::is_control) || !names_a_file {
        return Err(Error::usage(format!("{} is not the path of a log", quoted(path))));
    }
    // What is no file elsewhere would be a file of that name here.
    let meant = match path.to_ascii_lowercase().as_str() {
        "journald" | "journal" => Some("lines go to journald with log_to = \"journald\", and without log"),
        "syslog" => Some("lines go to syslog with log_to = \"syslog\", and without log"),
        "none" | "off" | "null" | "false" | "/dev/null" | "stdout" | "stderr" | "/dev/stdout"
        | "/dev/stderr" => {
            Some("leave log out: what is printed is kept in memory all the same, and 'provost logs' shows it")
        }
        _ => None,
    };
    if let Some(meant) = meant {
        return Err(Error::usage(format!("{} is no file for a log", quoted(path))).hint(meant));
    }
    if !Path::new(path).components().all(is_plain) {
        return Err(Error::usage(format!("the path {} of a log holds '.' or '..'", quoted(path)))
            .hint("give an absolute path, or a name: that is a file in the service's own directory"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(file: &str) -> Log {
        Log { file: Some(file.into()), ..Log::default() }
    }

    #[test]
    fn a_path_leads_to_a_file_and_not_up() {
        for good in ["web.log", "/var/log/web.log", "shop/{name}.log"] {
            assert!(to(good).check(KEPT_MIN).is_ok(), "{good}");
        }
        for word in ["journald", "NONE", "/dev/null", "/dev/stdout"] {
            assert!(to(word).check(KEPT_MIN).is_err_and(|e| e.hint.contains("log")), "{word}");
        }
        for bad in
            ["", "/", "logs/", "../web.log", "/var/../etc/x", "./web.log", "a\nb", "web.", &"x".repeat(4001)]
        {
            assert!(to(bad).check(KEPT_MIN).is_err(), "{bad}");
        }
        assert!(to("web.log").check(KEPT_MIN - 1).is_err());
    }

    #[test]
    fn a_stream_of_its_own_file_is_not_in_the_common_one() {
        let log = Log { stderr: Some("/e".into()), ..to("{name}.log") };
        assert_eq!(log.paths_of("web"), [Some("web.log".into()), Some("/e".into())]);
        assert_eq!(Log { file: None, ..log.clone() }.paths(), [None, Some("/e")]);
        assert!(Log { stdout: Some("/e".into()), ..log }.check(KEPT_MIN).is_err());
    }

    #[test]
    fn how_a_log_is_written_needs_a_log() {
        assert!(Log::default().check(0).is_ok());
        assert!(Log { gzip: true, ..Log::default() }.check(KEPT_MIN).is_err());
        assert!(
            Log { prefix: Some("x ".into()), format: LogFormat::Json, ..to("a") }.check(KEPT_MIN).is_err()
        );
        assert!(Log { size: Some(1), ..to("a") }.check(KEPT_MIN).is_err());
        let fields = Log { fields: vec!["pid".into(), "labels".into()], ..to("a") };
        assert!(
            fields.check(KEPT_MIN).is_err()
                && Log { format: LogFormat::Json, ..fields }.check(KEPT_MIN).is_ok()
        );
        let other = Log { fields: vec!["user".into()], format: LogFormat::Json, ..to("a") };
        assert_eq!(
            other.check(KEPT_MIN).unwrap_err().message,
            "'user' is none of id, instance, pid, host, labels"
        );
        let sent = Log { to: Some("syslog".into()), ..Log::default() };
        assert!(sent.is_on() && sent.check(KEPT_MIN).is_ok() && sent.check(KEPT_MIN - 1).is_err());
        assert!(Log { gzip: true, ..sent.clone() }.check(KEPT_MIN).is_err());
        assert!(Log { to: sent.to, ..to("a") }.check(KEPT_MIN).is_err(), "files or a receiver");
    }

    #[test]
    fn what_is_encoded_is_read_back() {
        let log = Log {
            stderr: Some("/e".into()),
            size: None,
            age: Some(Duration::from_secs(5)),
            keep: 0,
            gzip: true,
            format: LogFormat::Time,
            prefix: Some("{name} ".into()),
            fields: vec!["id".into()],
            to: Some("syslog".into()),
            ..to("/a")
        };
        assert_eq!(Log::from_wire(log.to_wire()), log);
        assert_eq!(Log::default().to_wire(), None);
        assert_eq!(Log::from_wire(None), Log::default());
    }
}

//! The arguments of a command line, one after the other. Takes out what every command shares (`--socket`,
//! `--json`, `--help`), says which argument is bad, and keeps apart what stands behind `--`.

use std::ffi::OsString;
use std::mem;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::Arg;

use crate::cli::elsewhere;
use crate::cli::manual;
use crate::cli::manual::{About, Answers};
use crate::cli::remote;
use crate::cli::remote::RemoteOptions;
use crate::cli::values;
use crate::wire::error::Error;
use crate::wire::id::{Target, quoted};

/// Numbers that options take, with their range.
pub trait Whole: FromStr {
    const MIN: i128;
    const MAX: i128;
}

macro_rules! whole {
    ($($number:ty),*) => {
        $(impl Whole for $number {
            const MIN: i128 = <$number>::MIN as i128;
            const MAX: i128 = <$number>::MAX as i128;
        })*
    };
}

whole!(u16, u32, u64, usize, i32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    Option(String),
    Value(String),
}

/// What the options that every command shares say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    pub socket: Option<PathBuf>,
    pub json: bool,
    pub help: bool,
    /// `--host` and the like. Behind a command that has an option of the same name, it is the command's.
    pub remote: RemoteOptions,
}

/// The words that are left.
pub struct Arguments {
    parser: lexopt::Parser,
    /// What stands behind `--`, until the command takes it.
    program: Option<Vec<String>>,
    command: Option<&'static About>,
    /// The values read so far.
    values: Vec<String>,
    /// All words as they came, without what stands behind `--`.
    words: Vec<String>,
    /// The options seen so far that every command shares.
    pub shared: Shared,
}

impl Arguments {
    /// Over the words behind the program's own name.
    pub fn new(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        let mut texts = Vec::new();
        for (n, argument) in arguments.into_iter().enumerate() {
            let text = argument.into_string().map_err(|argument| {
                Error::usage(format!(
                    "argument {} is not valid UTF-8: {}",
                    n + 1,
                    quoted(&argument.to_string_lossy())
                ))
                .hint("Provost takes text only; wrap the program in a script that makes up the argument")
            })?;
            texts.push(text);
        }
        let program = texts.iter().position(|t| t == "--").map(|at| {
            let program = texts.split_off(at + 1);
            texts.pop();
            program
        });
        Ok(Self {
            parser: lexopt::Parser::from_args(texts.clone()),
            program,
            command: None,
            values: Vec::new(),
            words: texts,
            shared: Shared::default(),
        })
    }

    /// Of a line that has no quotes.
    #[cfg(test)]
    pub fn of(line: &str) -> Self {
        Self::new(line.split_whitespace().map(OsString::from)).unwrap()
    }

    /// From here on the words belong to this command.
    pub fn belong_to(&mut self, command: &'static About) -> Result<(), Error> {
        self.command = Some(command);
        if self.shared.json && command.answers != Answers::Json {
            return Err(self.unknown("--json"));
        }
        Ok(())
    }

    /// Whether `--json` is among the words, before any of them is understood.
    pub fn has_json(&self) -> bool {
        self.words.iter().any(|word| word == "--json")
    }

    /// The words that nobody has read yet; from here on there are none.
    pub fn rest(&mut self) -> Vec<String> {
        self.parser.try_raw_args().map(|rest| rest.map(text).collect()).unwrap_or_default()
    }

    /// Has these read next.
    pub fn insert(&mut self, words: &[&str]) {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).chain(self.rest()).collect();
        self.parser = lexopt::Parser::from_args(words);
    }

    /// All words from this one on, and those before it behind the command's name.
    pub fn split_at(&self, word: &str) -> (&[String], &[String]) {
        let name = self.command.and_then(|command| self.words.iter().position(|w| w == command.name));
        let begin = name.map_or(0, |at| at + 1);
        let at = self.words[begin..].iter().position(|w| w == word).map_or(self.words.len(), |at| begin + at);
        (&self.words[begin..at], &self.words[at..])
    }

    /// Takes what stands behind `--`; none when there is no `--`.
    pub fn take_program(&mut self) -> Option<Vec<String>> {
        self.program.take()
    }

    /// The next word that is not shared by every command. After `--help` there is none.
    pub fn next(&mut self) -> Result<Option<Argument>, Error> {
        while !self.shared.help {
            let next = match self.parser.next() {
                Ok(Some(Arg::Long(name))) => Ok(Some(Argument::Option(format!("--{name}")))),
                Ok(Some(Arg::Short(name))) => Ok(Some(Argument::Option(format!("-{name}")))),
                Ok(Some(Arg::Value(value))) => Ok(Some(Argument::Value(text(value)))),
                Ok(None) => Ok(None),
                Err(e) => Err(e),
            };
            let Some(argument) = next.map_err(|e| self.explain(e))? else { return Ok(self.next_behind()) };
            match &argument {
                Argument::Option(option) => match option.as_str() {
                    "--socket" => self.shared.socket = Some(self.value("--socket")?.into()),
                    "--json" if self.command.is_none_or(|c| c.answers == Answers::Json) => {
                        self.shared.json = true
                    }
                    "--help" | "-h" => self.shared.help = true,
                    name if remote::NAMES.contains(&name) && !self.is_own(name) => {
                        let value = self.value(name)?;
                        self.shared.remote.take(name, value);
                    }
                    _ => return Ok(Some(argument)),
                },
                Argument::Value(_) => return Ok(Some(argument)),
            }
        }
        Ok(None)
    }

    /// Whether the command has an option of this name itself.
    fn is_own(&self, option: &str) -> bool {
        let is_it = |flag: manual::Flag| flag.names.iter().any(|name| name == option);
        self.command.is_some_and(|command| manual::options(command).into_iter().any(is_it))
    }

    /// Behind `--` every word is a value.
    fn next_behind(&mut self) -> Option<Argument> {
        let program = self.program.as_mut()?;
        if program.is_empty() { None } else { Some(Argument::Value(program.remove(0))) }
    }

    /// The value of the option just read.
    pub fn value(&mut self, option: &str) -> Result<String, Error> {
        match self.parser.value() {
            Ok(value) => Ok(text(value)),
            Err(_) if ["-H", "--host"].contains(&option) => {
                Err(self
                    .usage(format!("option {option} needs a value: the service of which machine is meant")))
            }
            Err(_) => Err(self.usage(format!("option {option} needs a value"))),
        }
    }

    /// The value of the option just read, if it is glued to it: `--wait=ready`.
    pub fn glued_value(&mut self) -> Option<String> {
        self.parser.optional_value().map(text)
    }

    /// The value of the option just read, if one is glued to it or the next word is no option.
    #[cfg(feature = "gateway")]
    pub fn value_if_given(&mut self) -> Option<String> {
        if let Some(value) = self.glued_value() {
            return Some(value);
        }
        let mut words = self.parser.try_raw_args()?;
        let is_value = words.peek().is_some_and(|word| !word.as_encoded_bytes().starts_with(b"-"));
        if is_value { words.next().map(text) } else { None }
    }

    /// The value of the option just read, as a duration.
    pub fn duration(&mut self, option: &str) -> Result<Duration, Error> {
        values::duration(option, &self.value(option)?)
    }

    /// The value of the option just read, as a number.
    pub fn number<T: Whole>(&mut self, option: &str) -> Result<T, Error> {
        let value = self.value(option)?;
        value.parse().map_err(|_| {
            Error::usage(format!("bad value {} of {option}", quoted(&value))).hint(format!(
                "write a whole number from {} to {}",
                T::MIN,
                T::MAX
            ))
        })
    }

    /// The refusal of an option that the command does not have.
    pub fn unknown(&self, option: &str) -> Error {
        let Some(command) = self.command else {
            return self.usage(format!("unknown option {}", quoted(option)));
        };
        Error::usage(format!("'provost {}' has no option {}", command.name, quoted(option)))
            .hint(elsewhere::hint(command, option))
    }

    /// The refusal of a word that has no place.
    pub fn stray(&self, value: &str) -> Error {
        self.usage(format!("there is no place for {}", quoted(value)))
    }

    /// A refusal that shows how the command is written.
    pub fn usage(&self, message: String) -> Error {
        match self.command {
            Some(command) => {
                let others = match manual::has_other_usages(command) {
                    true => format!("; 'provost help {}' shows the others", command.name),
                    false => String::new(),
                };
                Error::usage(message).hint(format!("usage: {}{others}", manual::usage(command)))
            }
            None => Error::usage(message)
                .hint("usage: provost COMMAND [OPTIONS]; 'provost help' shows the commands"),
        }
    }

    /// The next option of the command. The values before it are kept for the functions below.
    pub fn next_option(&mut self) -> Result<Option<String>, Error> {
        loop {
            match self.next()? {
                Some(Argument::Value(value)) => self.values.push(value),
                Some(Argument::Option(option)) => return Ok(Some(option)),
                None => return Ok(None),
            }
        }
    }

    /// Reads a command that has no options of its own.
    pub fn no_options(&mut self) -> Result<(), Error> {
        self.next_option()?.map_or(Ok(()), |option| Err(self.unknown(&option)))
    }

    /// Takes the first of the values.
    pub fn next_value(&mut self) -> Option<String> {
        if self.values.is_empty() { None } else { Some(self.values.remove(0)) }
    }

    /// The first of the values so far.
    pub fn first_value(&self) -> Option<&str> {
        self.values.first().map(String::as_str)
    }

    /// Whether one of the values so far is a path, which no target is.
    pub fn has_path(&self) -> bool {
        self.values.iter().any(|value| value.contains('/'))
    }

    /// Takes all values that are left.
    pub fn values(&mut self) -> Vec<String> {
        mem::take(&mut self.values)
    }

    /// Refuses any value that is left.
    pub fn no_values(&self) -> Result<(), Error> {
        self.values.first().map_or(Ok(()), |value| Err(self.stray(value)))
    }

    /// Reads a command that takes nothing.
    pub fn nothing(&mut self) -> Result<(), Error> {
        self.no_options()?;
        self.no_values()
    }

    /// Takes the values as targets: at least one, each of a form that can name a process.
    pub fn targets(&mut self) -> Result<Vec<String>, Error> {
        if self.values.is_empty() && !self.shared.help {
            let e = self.usage("no target is given".into());
            // Where several can be named, all can.
            let takes_all = self.command.is_some_and(|command| manual::usage(command).contains("TARGET..."));
            let hint = format!("{}; every process: all", e.hint);
            return Err(if takes_all { e.hint(hint) } else { e });
        }
        for target in &self.values {
            target.parse::<Target>()?;
        }
        Ok(self.values())
    }

    /// The same where no target means all.
    pub fn targets_or_all(&mut self) -> Result<Vec<String>, Error> {
        if self.values.is_empty() { Ok(Vec::new()) } else { self.targets() }
    }

    /// The same for a command with exactly one target.
    pub fn one_target(&mut self) -> Result<String, Error> {
        let mut targets = self.targets()?;
        match targets.len() {
            0 | 1 => Ok(targets.pop().unwrap_or_default()),
            _ => Err(self.stray(&targets[1])),
        }
    }

    /// The same for a command with one target or none.
    pub fn optional_target(&mut self) -> Result<Option<String>, Error> {
        let target = self.next_value();
        target.as_deref().map(str::parse::<Target>).transpose()?;
        self.no_values().map(|()| target)
    }

    fn explain(&self, e: lexopt::Error) -> Error {
        match e {
            lexopt::Error::UnexpectedValue { option, value } => self.usage(format!(
                "option {option} takes no value, but has {}",
                quoted(&value.to_string_lossy())
            )),
            other => self.usage(other.to_string()),
        }
    }
}

/// All words were checked to be text when they came in.
fn text(argument: OsString) -> String {
    argument.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn shared_options_are_taken_out_wherever_they_stand() {
        let mut arguments = Arguments::of("a --json b --socket /s -- --json");
        assert_eq!(arguments.next().unwrap(), Some(Argument::Value("a".into())));
        assert_eq!(arguments.next().unwrap(), Some(Argument::Value("b".into())));
        assert_eq!(arguments.next().unwrap(), Some(Argument::Value("--json".into())));
        assert_eq!(arguments.next().unwrap(), None);
        assert_eq!(arguments.shared, Shared { socket: Some("/s".into()), json: true, ..Shared::default() });
    }

    #[test]
    fn what_stands_behind_two_dashes_is_kept_apart() {
        let mut arguments = Arguments::of("-x -- a -- b");
        assert_eq!(arguments.take_program(), Some(vec!["a".into(), "--".into(), "b".into()]));
        assert_eq!(arguments.next().unwrap(), Some(Argument::Option("-x".into())));
        assert_eq!(arguments.next().unwrap(), None);
    }

    #[test]
    fn bad_text_is_named_by_its_place() {
        let bad = [OsString::from("start"), OsString::from_vec(vec![b'a', 0xff])];
        let e = Arguments::new(bad).err().unwrap();
        assert!(e.message.contains("argument 2"), "{e}");
    }

    #[test]
    fn a_missing_and_a_surplus_value_are_told_apart() {
        let mut missing = Arguments::of("--socket");
        assert!(missing.next().unwrap_err().message.contains("--socket needs a value"));
        let mut missing = Arguments::of("-H");
        assert!(missing.next().unwrap_err().message.contains("which machine"), "it asks for no help");
        let mut surplus = Arguments::of("--json=1");
        let e = surplus.next().and_then(|_| surplus.next()).unwrap_err();
        assert!(e.message.contains("--json takes no value"), "{e}");
    }
}

//! What comes of a file of another supervisor: sections, each with what could not be carried over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};

use crate::cli::{text, toml};
use crate::sys::files;
use crate::wire::error::Error;
use crate::wire::id::{Name, quoted};
use crate::wire::log::NAME_MARK;

/// The longest file that is read, in bytes.
const FILE_LEN_MAX: u64 = 16 << 20;

/// What came of a file.
#[derive(Debug, Default)]
pub struct Imported {
    /// About all of it.
    pub notes: Vec<String>,
    pub defaults: Map<String, Value>,
    pub processes: Vec<Imports>,
}

/// One section `[process.NAME]`.
#[derive(Clone, Debug, Default)]
pub struct Imports {
    pub name: String,
    pub fields: Map<String, Value>,
    /// What could not be carried over, or is otherwise than it was.
    pub notes: Vec<String>,
}

impl Imports {
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.fields.insert(key.to_owned(), value.into());
    }

    /// Variables, taken as they stand.
    pub fn set_env(&mut self, env: Map<String, Value>) {
        if env.values().any(|value| value.as_str().is_some_and(|text| text.contains("${"))) {
            self.set("expand_env", false);
        }
        if !env.is_empty() {
            self.set("env", env);
        }
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

impl Imported {
    /// Each name once, and of the kind that names are of; and for each a log of its own.
    pub fn name(&mut self) {
        let mut taken = BTreeSet::new();
        for process in &mut self.processes {
            let fit = |c: char| if c.is_ascii_alphanumeric() || "._@-".contains(c) { c } else { '_' };
            let mut name: String = process.name.chars().map(fit).take(56).collect();
            if name.parse::<Name>().is_err() {
                name.insert_str(0, "p-");
            }
            let mut unique = name.clone();
            for n in 2.. {
                if taken.insert(unique.clone()) {
                    break;
                }
                unique = format!("{name}-{n}");
            }
            if unique != process.name {
                let was = std::mem::replace(&mut process.name, unique);
                process.note(format!("it was called {was}"));
            }
        }
        self.part_logs();
    }

    /// A file that several write elsewhere is several here.
    fn part_logs(&mut self) {
        const KEYS: [&str; 3] = ["log", "log_stdout", "log_stderr"];
        let mut writers: BTreeMap<String, u64> = BTreeMap::new();
        for process in &self.processes {
            let instances = process.fields.get("instances").and_then(Value::as_u64).unwrap_or(1);
            let paths: BTreeSet<_> =
                KEYS.iter().filter_map(|key| process.fields.get(*key)?.as_str()).collect();
            paths.into_iter().for_each(|path| *writers.entry(path.to_owned()).or_default() += instances);
        }
        for process in &mut self.processes {
            for key in KEYS {
                let path = process.fields.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                if writers.get(&path).is_none_or(|&n| n < 2) || path.contains(NAME_MARK) {
                    continue;
                }
                process.note(format!("{path} had several writers; here each has a log of its own"));
                process.set(key, own_log(&path, &process.name));
            }
        }
    }

    pub fn to_toml(&self, path: &Path) -> String {
        let mut out = format!("# Made by 'provost import' of {}.\n", text::path(path));
        self.notes.iter().for_each(|note| out.push_str(&comment(note)));
        // What is so of all stands there once.
        let is_common = |note: &&String| {
            self.processes.len() > 1 && self.processes.iter().all(|p| p.notes.contains(note))
        };
        let common: Vec<&String> =
            self.processes.iter().take(1).flat_map(|p| &p.notes).filter(is_common).collect();
        common.iter().for_each(|note| out.push_str(&comment(&format!("each: {note}"))));
        if !self.defaults.is_empty() {
            out.push('\n');
            out.push_str(&toml::section(&["defaults"], &self.defaults));
        }
        for process in &self.processes {
            out.push('\n');
            let own = process.notes.iter().filter(|note| !common.contains(note));
            own.for_each(|note| out.push_str(&comment(note)));
            out.push_str(&toml::section(&["process", &process.name], &process.fields));
        }
        out
    }
}

/// `/var/log/web-{name}.log` in the place of `/var/log/web.log`; without what the name begins with anyway.
fn own_log(path: &str, name: &str) -> String {
    let (directory, file) = path.rsplit_once('/').map_or(("", path), |(dir, _)| path.split_at(dir.len() + 1));
    let (stem, ending) = file.rsplit_once('.').map_or((file, ""), |(stem, _)| file.split_at(stem.len()));
    let stem = if name.starts_with(stem) { String::new() } else { format!("{stem}-") };
    format!("{directory}{stem}{NAME_MARK}{ending}")
}

fn comment(note: &str) -> String {
    let line = |line: &str| format!("# {}\n", text::escaped(line));
    note.lines().map(line).collect()
}

/// Reads a file of text.
pub fn read(path: &Path) -> Result<String, Error> {
    let failed = |why: String| Error::usage(format!("cannot read {}: {why}", text::path(path)));
    let bytes = files::read(path, FILE_LEN_MAX).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| failed("it is not valid UTF-8".to_owned()))
}

/// A command line as a shell takes it apart, without doing anything with it.
pub fn words(line: &str) -> Result<Vec<String>, Error> {
    let (mut words, mut word, mut is_open) = (Vec::new(), String::new(), false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                is_open = true;
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(unclosed(line)),
                    }
                }
            }
            '"' => {
                is_open = true;
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err(unclosed(line)),
                        },
                        Some(c) => word.push(c),
                        None => return Err(unclosed(line)),
                    }
                }
            }
            '\\' => {
                is_open = true;
                word.push(chars.next().ok_or_else(|| unclosed(line))?);
            }
            c if c.is_whitespace() => {
                if std::mem::take(&mut is_open) {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => {
                is_open = true;
                word.push(c);
            }
        }
    }
    if is_open {
        words.push(word);
    }
    Ok(words)
}

fn unclosed(line: &str) -> Error {
    Error::usage(format!("the command {} ends within quotes", quoted(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_taken_apart_as_a_shell_does() {
        let w = |line: &str| words(line).unwrap();
        assert_eq!(w(r#"a  "b c" d'e f'\ g "x\"y\n" '' "#), ["a", "b c", "de f g", "x\"y\\n", ""]);
        assert!(w("  ").is_empty());
        assert!(words("a 'b").is_err() && words("a \"b").is_err() && words("a \\").is_err());
    }

    #[test]
    fn what_is_so_of_all_is_said_once() {
        let mut all = ["a", "b"].map(|name| Imports { name: name.to_owned(), ..Imports::default() });
        all.iter_mut().for_each(|process| process.note("it is old"));
        all[1].note("it is blue");
        let imported = Imported { processes: all.into(), ..Imported::default() };
        let toml = imported.to_toml(Path::new("f"));
        assert_eq!(toml.matches("# each: it is old\n").count(), 1, "{toml}");
        assert_eq!(toml.matches("it is old").count(), 1, "{toml}");
        assert!(toml.contains("# it is blue\n[process.b]"), "{toml}");
    }

    #[test]
    fn logs_that_several_wrote_are_parted() {
        assert_eq!(own_log("/var/log/web.log", "web_00"), "/var/log/{name}.log");
        assert_eq!(own_log("/var/log/all.log", "web"), "/var/log/all-{name}.log");
        assert_eq!((own_log("out", "web"), own_log("/out", "out")), ("out-{name}".into(), "/{name}".into()));
        let with = |name: &str, log: &str| {
            let mut process = Imports { name: name.to_owned(), ..Imports::default() };
            process.set("log", log);
            process
        };
        let processes = vec![with("a", "/l/all.log"), with("b", "/l/all.log"), with("c", "/l/c.log")];
        let mut imported = Imported { processes, ..Imported::default() };
        imported.name();
        let logs: Vec<_> = imported.processes.iter().map(|p| p.fields["log"].as_str().unwrap()).collect();
        assert_eq!(logs, ["/l/all-{name}.log", "/l/all-{name}.log", "/l/c.log"]);
        assert!(imported.processes[1].notes[0].contains("several writers"));
        assert!(imported.processes[2].notes.is_empty());
    }

    #[test]
    fn names_are_made_fit() {
        let named = |name: &str| Imports { name: name.to_owned(), ..Imports::default() };
        let mut imported =
            Imported { processes: ["a b", "a_b", "-x", "ok"].map(named).into(), ..Imported::default() };
        imported.name();
        let names: Vec<_> = imported.processes.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["a_b", "a_b-2", "p--x", "ok"]);
        assert_eq!(imported.processes[0].notes, ["it was called a b"]);
        assert!(imported.processes[3].notes.is_empty());
    }
}

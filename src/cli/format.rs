//! Lines for scripts: a text with the fields of a process in it, as `{name} {pid}`.

use std::str::FromStr;

use serde_json::Value;

use crate::cli::json;
use crate::cli::text;
use crate::cli::values;
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::process::Process;

/// The fields of a process, as `--json` has them.
pub const FIELDS: [&str; 47] = [
    "id",
    "name",
    "instance",
    "run",
    "state",
    "ready",
    "pid",
    "restarts",
    "created_at",
    "started_at",
    "stopped_at",
    "exit",
    "start_failure",
    "command",
    "attempts",
    "window_restarts",
    "max_restarts",
    "next_attempt_at",
    "kill_at",
    "stop_signal",
    "stop_asked_at",
    "run_output_start",
    "cause",
    "restart",
    "output_start",
    "output_end",
    "stuck",
    "labels",
    "cwd",
    "user",
    "own",
    "outdated",
    "halted",
    "usage",
    "waits_for",
    "blocked",
    "unfit",
    "status",
    "log_trouble",
    "log_lost",
    "log_files",
    "hook",
    "limits",
    "limits_trouble",
    "next_run_at",
    "schedule",
    "schedule_zone",
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A field, and what is in it: `exit.code`.
    Field(Vec<String>),
}

/// What a line is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Part>);

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| {
            Error::usage(format!("bad format {}: {why}", quoted(text)))
                .hint("write fields as {name}, {pid} or {exit.code}, and {{ for a brace; 'provost list --json' shows them")
        };
        let (mut parts, mut plain) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '{' | '}' if rest.starts_with(c) => {
                    plain.push(c);
                    rest = &rest[1..];
                }
                '{' => {
                    let (field, behind) = rest.split_once('}').ok_or_else(|| bad("a '{' is not closed"))?;
                    rest = behind;
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    let path: Vec<String> = field.split('.').map(str::to_owned).collect();
                    if !FIELDS.contains(&path[0].as_str()) {
                        let e = bad(&format!("there is no field {}", quoted(field)));
                        return Err(match values::closest(&path[0], FIELDS) {
                            Some(near) => e.hint(format!("did you mean {{{near}}}?")),
                            None => e,
                        });
                    }
                    parts.push(Part::Field(path));
                }
                '\\' if rest.starts_with(['t', 'n']) => {
                    plain.push(if rest.starts_with('t') { '\t' } else { '\n' });
                    rest = &rest[1..];
                }
                c => plain.push(c),
            }
        }
        parts.push(Part::Text(plain));
        if !parts.iter().any(|part| matches!(part, Part::Field(_))) {
            let e = bad("there is no field in it, so that all lines would be the same");
            let hint = format!("{}; whole objects: --json", e.hint);
            return Err(e.hint(hint));
        }
        Ok(Self(parts))
    }
}

impl Format {
    /// The line of one process. What is not there is `-`.
    pub fn line(&self, process: &Process) -> String {
        let object = json::process(process);
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(path) => {
                shown(path.iter().fold(&object, |value, key| value.get(key).unwrap_or(&Value::Null)))
            }
        };
        self.0.iter().map(part).collect()
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(value) => text::escaped(value).into_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::process;

    #[test]
    fn fields_stand_in_their_places() {
        let line = |format: &str| format.parse::<Format>().unwrap().line(&process("web"));
        assert_eq!(line("{name} {pid}"), "web 1");
        assert_eq!(line("{{{state}}}\\t{exit.code}|"), "{running}\t-|");
    }

    #[test]
    fn an_unknown_field_is_refused_and_the_near_one_named() {
        let e = "{nmae}".parse::<Format>().unwrap_err();
        assert!(e.hint.contains("{name}"), "{e:?}");
        assert!("{name".parse::<Format>().is_err());
        for without in ["json", "{{.Name}}", ""] {
            assert!(without.parse::<Format>().unwrap_err().hint.contains("--json"), "{without}");
        }
    }

    #[test]
    fn every_field_of_a_process_can_be_shown() {
        let object = json::process(&process("web"));
        let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
        assert!(keys.iter().all(|key| FIELDS.contains(&key.as_str())), "{keys:?}");
        assert_eq!(keys.len(), FIELDS.len());
    }
}

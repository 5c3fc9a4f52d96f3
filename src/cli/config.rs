//! `provost config`: every value of a configuration and where it comes from, and the schema of such a file
//! for editors. It reads, and asks no service.

use std::env;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::declared::Declared;
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::{state, stdout, text};
use crate::config::origin::{Origin, Shown, shown};
use crate::config::schema::schema;
use crate::config::{self, Config};
use crate::sys::system;
use crate::wire::error::Error;
use crate::wire::id::{Name, quoted};

pub const COMMAND: Command = Command::new("config", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .takes(Positional::OneOf(&["show", "check", "schema"]));
const SUMMARY: &str = "Show every setting and where it comes from";
const HELP: &str = "\
Usage: provost config [show] [--set] [FILE]
       provost config check [FILE]
       provost config schema

'show' prints all that can be configured, with the files in conf.d beside: the section, the key, the value,
and where it comes from, a line of a file or the default. FILE is else that of the running service, or
without one the one that 'provost serve' reads.
Secret values are shown as ***. What 'provost apply' or the service would refuse is named behind them, with
the same words and exit code.

'check' prints nothing but that, and what is well: how many processes are declared. Programs, working
directories, those of logs, users and groups, and the files of [grpc] that are not there yet are told, and are
no error.

'schema' prints the JSON Schema of such a file, for editors.

Options:
      --set                  Only what a file or the environment says

Examples:
  provost config show --set
  provost config check /etc/provost/provost.toml
  provost config schema
";

#[derive(Debug, PartialEq, Eq)]
enum ConfigArgs {
    Show { file: Option<PathBuf>, only: Which },
    Check { file: Option<PathBuf> },
    Schema,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    All,
    Set,
}

fn parse(arguments: &mut Arguments) -> Result<ConfigArgs, Error> {
    let mut only = Which::All;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--set" => only = Which::Set,
            "--config" | "--file" => {
                return Err(arguments
                    .unknown(&option)
                    .hint("the file stands alone: provost config check FILE"));
            }
            _ => return Err(arguments.unknown(&option)),
        }
    }
    let what = arguments.next_value();
    let args = match what.as_deref() {
        None => ConfigArgs::Show { file: None, only },
        Some("show") => ConfigArgs::Show { file: arguments.next_value().map(PathBuf::from), only },
        Some("check" | "validate" | "test") if only == Which::All => {
            ConfigArgs::Check { file: arguments.next_value().map(PathBuf::from) }
        }
        Some("schema") if only == Which::All => ConfigArgs::Schema,
        Some(other) => {
            let other = quoted(other);
            let e = arguments.usage(format!("there is no 'provost config {}'", other.trim_matches('\'')));
            return Err(match what.as_deref() {
                Some("diff") => e.hint(
                    "provost apply --dry-run FILE; of the service's own settings: provost reload --dry-run",
                ),
                Some("get" | "list" | "ls") => {
                    e.hint("provost config show prints all, provost show TARGET a process")
                }
                Some("set" | "edit" | "add" | "unset") => e.hint(
                    "change the file; then provost apply, or provost reload for the service's own settings",
                ),
                _ => e,
            });
        }
    };
    arguments.no_values()?;
    Ok(args)
}

fn run(args: ConfigArgs, session: &mut Session) -> Result<u8, Error> {
    let (file, only) = match args {
        ConfigArgs::Schema => {
            session.out.line(&serde_json::to_string_pretty(&schema()).expect("it is made of texts"));
            return Ok(0);
        }
        ConfigArgs::Check { file } => return check_alone(file, session),
        ConfigArgs::Show { file, only } => (file, only),
    };
    let (file, file_from) = find(file, session)?;
    let rows = shown(file.as_deref())?;
    let checked = file.as_deref().map_or(Ok(()), |file| check(file, session).map(drop));
    let rows: Vec<_> =
        rows.into_iter().filter(|row| only == Which::All || row.origin != Origin::Default).collect();
    let places = places(session, file, file_from)?
        .into_iter()
        .filter(|place| only == Which::All || place.1 != DEFAULT);
    let mut lines: Vec<[String; 4]> = Vec::new();
    for (key, from, value) in places {
        if session.is_json() {
            session.object(&json!({ "section": "", "key": key, "value": value, "from": from, "file": null, "line": null }));
        } else {
            lines.push([String::new(), key.to_owned(), value, from]);
        }
    }
    for row in rows {
        if session.is_json() {
            session.object(&object(&row));
        } else {
            lines.push([row.section.clone(), row.key.clone(), value(&row), from(&row.origin)]);
        }
    }
    if !session.is_json() {
        stdout::table(&mut session.out, ["SECTION", "KEY", "VALUE", "FROM"], lines);
    }
    checked.map(|()| 0)
}

/// The configuration that is meant, and where that comes from.
fn find(file: Option<PathBuf>, session: &Session) -> Result<(Option<PathBuf>, String), Error> {
    Ok(match file {
        Some(file) if !file.exists() && file.to_str().is_some_and(|name| name.parse::<Name>().is_ok()) => {
            let name = file.to_string_lossy();
            let process = name.strip_prefix("process.").unwrap_or(&name);
            let e = Error::usage(format!("there is no file {}", text::path(&file)));
            return Err(e.hint(format!("the definition of a process: provost show {process}")));
        }
        Some(file) => (Some(text::absolute("configuration", &file)?), "command line".to_owned()),
        None => match state::of_service(&session.socket()?).config {
            Some(file) => (Some(file), OF_SERVICE.to_owned()),
            None => (state::default_config(), of_user("XDG_CONFIG_HOME")),
        },
    })
}

/// As apply reads it, then as the service does, which takes no directory.
fn check(file: &Path, session: &Session) -> Result<(Declared, Config), Error> {
    let declared = Declared::read(file)?;
    if file.is_dir() {
        return Ok((declared, Config::default()));
    }
    let state = session.socket().and_then(|socket| state::directory_of(&socket)).ok();
    config::load(file, state.as_deref()).map(|config| (declared, config))
}

/// Says what is wrong with a configuration, or how many processes it declares.
fn check_alone(file: Option<PathBuf>, session: &mut Session) -> Result<u8, Error> {
    let file = find(file, session)?.0.ok_or_else(|| {
        Error::usage("there is no configuration where one usually is")
            .hint("name it: provost config check FILE")
    })?;
    let checked = check(&file, session)?;
    checked.0.tell_missing();
    config::missing_groups(&checked.1.local.unknown_groups).iter().for_each(|what| stdout::notice(what));
    #[cfg(feature = "gateway")]
    checked.1.grpc.iter().flat_map(config::missing_files).for_each(|what| stdout::notice(&what));
    let count = checked.0.processes.len();
    let shown = file.to_string_lossy().into_owned();
    let processes = if count == 1 { "process" } else { "processes" };
    session.answer(
        || json!({ "file": shown, "well": true, "processes": count }),
        || format!("{} is well: {count} {processes} declared", text::path(&file)),
    );
    Ok(0)
}

const DEFAULT: &str = "default";
/// A place that is that of a service which runs.
const OF_SERVICE: &str = "the running service";

/// What is no key of a file: where the service is reached, what it keeps, and the file itself. Each with
/// where that comes from.
fn places(
    session: &Session,
    file: Option<PathBuf>,
    file_from: String,
) -> Result<Vec<(&'static str, String, String)>, Error> {
    let socket = session.socket()?;
    let (state, state_from) = match state::of_service(&socket).state {
        Some(path) => (Ok(path), OF_SERVICE.to_owned()),
        None => (state::directory(&socket), of_user("XDG_STATE_HOME")),
    };
    let state = state.map_or_else(|_| "none".to_owned(), |path| shown_path(&path));
    let config = file.map_or_else(|| "none".to_owned(), |path| shown_path(&path));
    let socket_from = match session.socket {
        Some(_) => "command line".to_owned(),
        None => of_variable("PROVOST_SOCKET"),
    };
    Ok(vec![
        ("--socket", socket_from, shown_path(&socket)),
        ("--state", state_from, state),
        ("--config", file_from, config),
    ])
}

fn of_variable(variable: &str) -> String {
    match env::var_os(variable) {
        Some(value) if !value.is_empty() => format!("environment: {variable}"),
        Some(_) | None => DEFAULT.to_owned(),
    }
}

/// The same of a place of the user's; root's own places are fixed.
fn of_user(variable: &str) -> String {
    if system::euid() == 0 { DEFAULT.to_owned() } else { of_variable(variable) }
}

fn value(row: &Shown) -> String {
    match (&row.value, &row.origin) {
        // A sentence of the reference.
        (Value::String(text), Origin::Default) => text.clone(),
        (value, _) => text::escaped(&value.to_string()).into_owned(),
    }
}

/// Without quotes, so that it can be copied.
fn shown_path(path: &Path) -> String {
    text::escaped(&path.to_string_lossy()).into_owned()
}

fn from(origin: &Origin) -> String {
    match origin {
        Origin::Default => DEFAULT.to_owned(),
        Origin::File { path, line } => format!("{}:{line}", shown_path(path)),
    }
}

fn object(row: &Shown) -> Value {
    let (file, line) = match &row.origin {
        Origin::Default => (None, None),
        Origin::File { path, line } => (Some(path.to_string_lossy()), Some(line)),
    };
    json!({
        "section": row.section,
        "key": row.key,
        "value": row.value,
        "from": from(&row.origin),
        "file": file,
        "line": line,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_decides() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        assert_eq!(parsed(""), Ok(ConfigArgs::Show { file: None, only: Which::All }));
        let file = Some("a.toml".into());
        assert_eq!(parsed("show --set a.toml"), Ok(ConfigArgs::Show { file, only: Which::Set }));
        assert_eq!(parsed("schema"), Ok(ConfigArgs::Schema));
        for bad in ["a.toml", "schema x", "schema --set", "show a b"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}

//! `provost import`: what another supervisor is told, as a configuration of this one. It reads and
//! prints, and asks no service.

mod imported;
mod ini;
mod pm2;
mod procfile;
mod supervisord;
mod supervisord_files;
mod supervisord_logs;

use std::path::{Path, PathBuf};

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::import::imported::read;
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::wire::error::Error;
use crate::wire::id::quoted;

pub const COMMAND: Command = Command::new("import", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .takes(Positional::Nothing)
    .text_only();
const SUMMARY: &str = "Print the configuration of another supervisor as one of this";
const HELP: &str = "\
Usage: provost import [supervisord|procfile|pm2] FILE

Reads a supervisord.conf with what it includes, a Procfile, or a dump.pm2, and prints a provost.toml. What
could not be carried over stands in it as a comment, beside the process that it is about. Which kind of file
it is shows in its name, unless it is said. Nothing is started, and no service is asked.

Examples:
  provost import /etc/supervisor/supervisord.conf
  provost import procfile Procfile
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Supervisord,
    Procfile,
    Pm2,
}

impl Kind {
    fn named(word: &str) -> Option<Self> {
        match word {
            "supervisord" => Some(Self::Supervisord),
            "procfile" => Some(Self::Procfile),
            "pm2" => Some(Self::Pm2),
            _ => None,
        }
    }

    fn of(path: &Path) -> Result<Self, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let is_one_of = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if name.starts_with("procfile") {
            Ok(Self::Procfile)
        } else if is_one_of(&[".js", ".cjs", ".mjs"]) {
            Err(pm2::no_dump("a program that makes up a configuration is not executed"))
        } else if name.contains("pm2") || name.ends_with(".json") {
            Ok(Self::Pm2)
        } else if is_one_of(&[".service", ".timer", ".target", ".yml", ".yaml", ".kdl", ".toml"]) {
            let e = format!("files as {} are not read", quoted(&name));
            Err(Error::usage(e).hint(
                "kinds are supervisord, procfile and pm2; 'provost config schema' has all keys of a file of this one",
            ))
        } else {
            Ok(Self::Supervisord)
        }
    }
}

struct ImportArgs {
    kind: Kind,
    path: PathBuf,
}

fn parse(arguments: &mut Arguments) -> Result<ImportArgs, Error> {
    arguments.no_options()?;
    let first = arguments.next_value();
    let second = arguments.next_value();
    arguments.no_values()?;
    match (first, second) {
        (Some(kind), Some(path)) => {
            let known = Kind::named(&kind).ok_or_else(|| {
                Error::usage(format!("there is no kind {} to import", quoted(&kind)))
                    .hint("kinds are supervisord, procfile and pm2")
            })?;
            Ok(ImportArgs { kind: known, path: path.into() })
        }
        (Some(path), None) => {
            let path = PathBuf::from(path);
            Ok(ImportArgs { kind: Kind::of(&path)?, path })
        }
        (None, _) => Err(arguments.usage("the file to import is missing".into())),
    }
}

fn run(args: ImportArgs, session: &mut Session) -> Result<u8, Error> {
    let imported = match args.kind {
        Kind::Supervisord => supervisord::import(&args.path),
        Kind::Procfile => procfile::import(&read(&args.path)?),
        Kind::Pm2 => pm2::import(&read(&args.path)?),
    }?;
    session.out.line(imported.to_toml(&args.path).trim_end());
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_file_shows_in_its_name_unless_it_is_said() {
        let kind = |line: &str| parse(&mut Arguments::of(line)).map(|args| args.kind);
        assert_eq!(kind("/etc/supervisor/supervisord.conf"), Ok(Kind::Supervisord));
        assert_eq!((kind("Procfile.dev"), kind("x/dump.pm2")), (Ok(Kind::Procfile), Ok(Kind::Pm2)));
        assert_eq!(kind("supervisord x.json"), Ok(Kind::Supervisord));
        assert!(kind("").is_err() && kind("runit x").is_err());
        assert!(kind("eco.config.js").unwrap_err().hint.contains("pm2 save"));
        assert!(kind("web.service").unwrap_err().message.contains("are not read"));
        assert_eq!(kind("supervisord web.service"), Ok(Kind::Supervisord));
    }
}

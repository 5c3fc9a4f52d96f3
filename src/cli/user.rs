//! `provost user`: who has a password for gRPC.

use std::io::{self, BufRead, ErrorKind, IsTerminal, Read};
use std::path::{Path, PathBuf};

use serde_json::json;
use zeroize::Zeroizing;

use crate::access::password::{Hash, Memory, Password};
use crate::access::roles::Roles;
use crate::access::users;
use crate::access::users::Users;
use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::state;
use crate::cli::state::Given;
use crate::cli::stdout;
use crate::cli::text;
use crate::cli::toml;
use crate::config;
use crate::gateway::settings::UserSource;
use crate::sys::terminal::ask_silently;
use crate::wire::error::{Code, Error};
use crate::wire::id::{Name, quoted};

/// The longest line that is taken for a password, in bytes: what is longer is refused with its own words.
const LINE_LEN_MAX: u64 = 4096;

pub const COMMAND: Command = Command::new("user", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .destroys()
    .takes(Positional::OneOf(&["add", "passwd", "remove", "list"]));
const SUMMARY: &str = "Add or remove users of gRPC, or change their passwords";
const HELP: &str = "\
Usage: provost user add NAME [OPTIONS]
       provost user passwd NAME [OPTIONS]
       provost user remove NAME [OPTIONS]
       provost user list [OPTIONS]

The password is asked for twice at the terminal, or is one line of standard input: 8 to 256 bytes. The
users file is the one that the configuration names, else 'users' in the directory of the service's
state. A gateway that runs notices a change by itself. Fields of list in a pipe: name, role.

Options:
      --users FILE           The users file
      --state DIR            The state directory (that of the service at the socket)
      --config FILE          The configuration (that of the service at the socket)

Examples:
  provost user add ann
  provost user list
";

/// When what was taken away is of no more use.
pub const FOLLOWS: &str = "a gateway that runs follows within a second; 'provost reload' waits until it has";

#[derive(Debug, PartialEq, Eq)]
struct UserArgs {
    what: What,
    users: Option<PathBuf>,
    config: Option<PathBuf>,
    state: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Add(Name),
    Passwd(Name),
    Remove(Name),
    List,
}

fn parse(arguments: &mut Arguments) -> Result<UserArgs, Error> {
    let (mut users, mut config, mut state) = (None, None, None);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--users" => users = Some(arguments.value(&option)?.into()),
            "--state" => state = Some(arguments.value(&option)?.into()),
            "--config" => config = Some(arguments.value(&option)?.into()),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    let verb = arguments.next_value();
    let mut name = |verb: &str| {
        let name = arguments.next_value();
        let lacking = || Error::usage(format!("'user {verb}' needs a name"));
        name.ok_or_else(|| lacking().hint(format!("usage: provost user {verb} NAME")))?.parse::<Name>()
    };
    let what = match verb.as_deref() {
        Some("add") => What::Add(name("add")?),
        Some("passwd" | "password") => What::Passwd(name("passwd")?),
        Some("remove" | "rm" | "delete" | "del") => What::Remove(name("remove")?),
        Some("list" | "ls" | "show") => What::List,
        None if arguments.shared.help => What::List,
        Some(other) => {
            let e = Error::usage(format!("there is no 'provost user {}'", quoted(other).trim_matches('\'')));
            return Err(e.hint("there are add, passwd, remove and list: 'provost help user'"));
        }
        None => return Err(arguments.usage("'provost user' needs add, passwd, remove or list".into())),
    };
    arguments.no_values().map(|()| UserArgs { what, users, config, state })
}

fn run(args: UserArgs, session: &mut Session) -> Result<u8, Error> {
    let files = UserFiles::find(&args, session)?;
    match args.what {
        What::List => return list(&files, session),
        What::Add(name) => {
            // Checked before the password is asked for, which would be in vain.
            if known(&files.file)?.get(name.as_str()).is_some() {
                return Err(is_there(&name));
            }
            let hash = hash(&name)?;
            users::edit(&files.file, |users| match users.get(name.as_str()) {
                Some(_) => Err(is_there(&name)),
                None => users.set(name.clone(), hash),
            })?;
            report("added", &name, &files, session);
            if files.roles.by_user.contains_key(name.as_str()) {
                stdout::notice(FOLLOWS);
            } else {
                let line = format!("[grpc.user_roles] {} = \"operator\"", toml::key(name.as_str()));
                let then = "then 'provost reload'";
                stdout::notice(&format!(
                    "{name} may do nothing yet; add to the configuration: {line}, and a role of the certificate in \
                     [grpc.certificate_roles]; {then}"
                ));
            }
        }
        What::Passwd(name) => {
            if known(&files.file)?.get(name.as_str()).is_none() {
                return Err(no_such_user(&name, &files));
            }
            let hash = hash(&name)?;
            users::edit(&files.file, |users| match users.get(name.as_str()) {
                Some(_) => users.set(name.clone(), hash),
                None => Err(no_such_user(&name, &files)),
            })?;
            report("changed", &name, &files, session);
            stdout::notice(FOLLOWS);
        }
        What::Remove(name) => {
            known(&files.file)?;
            users::edit(&files.file, |users| match users.remove(name.as_str()) {
                true => Ok(()),
                false => Err(no_such_user(&name, &files)),
            })?;
            report("removed", &name, &files, session);
            stdout::notice(FOLLOWS);
        }
    }
    Ok(0)
}

/// Where the users are, and what they may do.
struct UserFiles {
    file: PathBuf,
    roles: Roles,
}

impl UserFiles {
    fn find(args: &UserArgs, session: &Session) -> Result<Self, Error> {
        let users = args.users.clone();
        // Of the service that is addressed; but what is named need not be looked for.
        let is_named = users.is_some() || args.state.is_some();
        let given = if is_named { Given::default() } else { state::of_service(&session.socket()?) };
        let state = || {
            let state = args.state.clone().or_else(|| given.state.clone());
            state.map_or_else(|| state::directory(&session.socket()?), Ok)
        };
        let usual = || if is_named { None } else { given.config.clone().or_else(state::default_config) };
        let grpc = match args.config.clone().or_else(usual) {
            Some(config) => config::load(&config, Some(&state()?))?.grpc,
            None => None,
        };
        let (named, roles) = match grpc {
            Some(grpc) => (Some(grpc.users), grpc.roles),
            None => (None, Roles::default()),
        };
        let file = match (users, named) {
            (Some(file), _) | (None, Some(UserSource::File(file))) => file,
            (None, Some(UserSource::Demo(_))) => {
                let message = "the users of this configuration are in its [grpc.demo_users]";
                return Err(Error::new(Code::Refused, message)
                    .hint("take that section out, and 'provost user add' makes a file"));
            }
            (None, None) => state()?.join("users"),
        };
        Ok(Self { file: text::absolute("the users file", &file)?, roles })
    }
}

/// The users as they are; none when there is no file.
fn known(file: &Path) -> Result<Users, Error> {
    match file.symlink_metadata() {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Users::default()),
        _ => Users::load(file),
    }
}

fn is_there(name: &Name) -> Error {
    Error::new(Code::Refused, format!("there is a user {name} already"))
        .hint(format!("another password: provost user passwd {name}"))
}

fn no_such_user(name: &Name, files: &UserFiles) -> Error {
    Error::new(Code::NotFound, format!("there is no user {name} in {}", text::path(&files.file)))
        .hint("'provost user list' shows the users")
}

fn list(files: &UserFiles, session: &mut Session) -> Result<u8, Error> {
    let users = known(&files.file)?;
    let role = |name: &str| files.roles.by_user.get(name).map(|role| role.name());
    if session.is_json() {
        users.names().for_each(|name| session.object(&json!({ "name": name, "role": role(name) })));
    } else {
        let row = |name: &str| [name.to_owned(), role(name).unwrap_or("-").to_owned()];
        stdout::table(&mut session.out, ["NAME", "ROLE"], users.names().map(row).collect());
    }
    Ok(0)
}

fn report(what: &str, name: &Name, files: &UserFiles, session: &mut Session) {
    let file = files.file.to_string_lossy();
    let object = || json!({ "name": name.as_str(), "done": what, "users": file });
    session.answer(object, || format!("{name}: {what} ({})", text::escaped(&file)));
}

fn hash(name: &Name) -> Result<Hash, Error> {
    Hash::new(&Password::chosen(&password(name)?)?, &mut Memory::default())
}

/// Twice from the terminal, or one line of standard input.
fn password(name: &Name) -> Result<Zeroizing<String>, Error> {
    if !io::stdin().is_terminal() {
        let mut line = Zeroizing::new(Vec::with_capacity(LINE_LEN_MAX as usize + 1));
        let read_line = io::stdin().lock().take(LINE_LEN_MAX).read_until(b'\n', &mut line);
        read_line.map_err(|e| Error::failed("read the password", &text::cause(&e)))?;
        if line.is_empty() {
            return Err(Error::usage("there is no password on standard input")
                .hint("it is its first line; at a terminal it is asked for"));
        }
        return read(&line);
    }
    let ask = |question: &str| {
        let answer = ask_silently(question).map(Zeroizing::new).map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => {
                Error::new(Code::Failed, "no password was given, nothing is changed")
            }
            _ => Error::failed("ask for the password", &text::cause(&e))
                .hint("it can also be one line of standard input"),
        })?;
        read(&answer)
    };
    let first = ask(&format!("password of {name}: "))?;
    if *first != *ask("again: ")? {
        return Err(Error::new(Code::Refused, "these are two passwords, nothing is changed"));
    }
    Ok(first)
}

/// A line as text, without its end.
fn read(line: &[u8]) -> Result<Zeroizing<String>, Error> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| Error::usage("the password is not UTF-8 text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_decides() {
        let parsed = |line: &[&str]| parse(&mut Arguments::new(line.iter().map(Into::into)).unwrap());
        let ann = || "ann".parse::<Name>().unwrap();
        let args = |what| UserArgs { what, users: None, config: None, state: None };
        assert_eq!(parsed(&["add", "ann"]), Ok(args(What::Add(ann()))));
        assert_eq!(parsed(&["passwd", "ann"]), Ok(args(What::Passwd(ann()))));
        assert_eq!(parsed(&["rm", "ann"]), Ok(args(What::Remove(ann()))));
        assert_eq!(
            parsed(&["--users", "u", "remove", "ann", "--config", "c"]),
            Ok(UserArgs {
                what: What::Remove(ann()),
                users: Some("u".into()),
                config: Some("c".into()),
                state: None
            })
        );
        assert_eq!(parsed(&["list"]), Ok(args(What::List)));
        for bad in [&[][..], &["add"], &["add", "a b"], &["add", "a", "b"], &["list", "a"], &["set", "a"]] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_line_is_a_password_without_its_end() {
        for (line, want) in [(&b"abc\n"[..], "abc"), (b"abc", "abc"), (b"a b \r\n", "a b "), (b"\n", "")] {
            assert_eq!(*read(line).unwrap(), want);
        }
        assert!(read(b"\xff\n").is_err());
    }
}

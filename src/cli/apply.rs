//! `provost apply`: makes the processes be what a configuration declares. What is to be done is shown first.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::applied::{self, Outcome};
use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::declared::Declared;
use crate::cli::environment;
use crate::cli::json;
use crate::cli::manual::Positional;
use crate::cli::plan::{Action, Difference, Step, Wanted, followers, plan};
use crate::cli::service_settings::{self, Takes};
use crate::cli::session::Session;
use crate::cli::{state, stdout, text};
use crate::client::Client;
use crate::config;
use crate::sys::files;
use crate::wire::error::{Code, Error};
use crate::wire::id::{Name, ProcessId};
use crate::wire::process::{End, Process, State};
use crate::wire::reply::{Definition, Item};
use crate::wire::request::{EnvChange, List, Numbering, OutdatedRun, Remove, Start, TARGETS_MAX, Update};
use crate::wire::spec::RestartPolicy;

pub const COMMAND: Command = Command::new("apply", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .destroys()
    .takes(Positional::Nothing);
const SUMMARY: &str = "Make the processes be what the configuration declares";
const HELP: &str = "\
Usage: provost apply [OPTIONS] [FILE|DIR]

Reads [environment] and the sections [process.NAME] of FILE (that of the service if none is given; of another
machine's it has to be) and of conf.d/*.toml beside it; of DIR, all *.toml in it. Shows what would change,
field by field, then asks, then does it. Only what differs is touched, and restarted only where it must be.
What was declared and is no more is removed; what was started by hand is left alone. What is wrong in a file
changes nothing. Where something fails, it is named, and the rest is done: exit code 8.

Options:
      --dry-run              Only show it; exit code 3 if there is something to do
      --yes                  Do not ask
      --at-start             As the service does when it begins: nothing that has autostart = false is added

Examples:
  provost apply --dry-run
  provost apply --yes /etc/provost/provost.toml
";

struct ApplyArgs {
    path: Option<PathBuf>,
    mode: Mode,
    at_start: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Ask,
    DryRun,
    Yes,
}

fn parse(arguments: &mut Arguments) -> Result<ApplyArgs, Error> {
    let (mut mode, mut at_start) = (Mode::Ask, false);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--dry-run" => mode = Mode::DryRun,
            "--yes" if mode == Mode::Ask => mode = Mode::Yes,
            "--yes" => {}
            "--at-start" => at_start = true,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    let path = arguments.next_value().map(PathBuf::from);
    arguments.no_values()?;
    Ok(ApplyArgs { path, mode, at_start })
}

fn run(args: ApplyArgs, session: &mut Session) -> Result<u8, Error> {
    if args.path.is_none() && session.remote.is_given() {
        // The one of this machine is not meant, which may be only what leads to the other.
        let e =
            Error::usage("another machine's processes are declared by no file of this one until it is named");
        return Err(e.hint("name it: provost -H NAME apply FILE; what runs there is written down by: provost -H NAME export '*'"));
    }
    // That of the service that is addressed, or else the one that it would have.
    let path = args.path.clone().or_else(|| of_service(session)).or_else(state::default_config).ok_or_else(
        || Error::usage("there is no configuration where one usually is").hint("name it: provost apply FILE"),
    )?;
    // Its age before it is read: what is changed meanwhile is newer.
    let age = applied::newest(&path);
    let declared = Declared::read(&path).inspect_err(|_| {
        if args.at_start {
            applied::note(session, &path, (age, String::new()), Outcome::PartlyAtStart);
        }
    })?;
    if let (false, Err(e)) = (declared.processes.is_empty(), config::check_writers(&path)) {
        stdout::notice(&format!("{}; no service would begin with it: {}", e.message, e.hint));
    }
    let mut client = session.client()?;
    let (environment, mut steps) = differing(&declared, &mut client)?;
    let (digest, wanted) = (declared.digest(), &declared.processes);
    if args.at_start {
        let is_left_out = |step: &Step| {
            let autostart = step.wanted.as_ref().and_then(|wanted| wanted.spec.autostart);
            step.action == Action::Add && autostart == Some(false)
        };
        steps.retain(|step| !is_left_out(step));
    }
    let is_done = steps.is_empty() && environment.is_none();
    show(environment.as_ref(), &steps, wanted.len(), session);
    if !session.is_json() {
        for (who, whom) in followers(&steps, wanted) {
            stdout::notice(&format!("{who} requires {whom}, and stops and starts with it"));
        }
        for step in steps.iter().filter(|step| step.ends_run) {
            stdout::notice(&format!("{} runs, and is stopped for that", step.name));
        }
    }
    tell_whose(&path, &steps, &args, session)?;
    // What is missing on this machine need not be on another; and once it is done, the outcome tells.
    if args.mode != Mode::Yes && !session.remote.is_given() {
        declared.tell_missing();
    }
    if !args.at_start {
        tell_settings(&path, session);
    }
    match args.mode {
        Mode::DryRun => {
            tell_at_rest(&mut client, wanted, &[], session)?;
            return Ok(if is_done { 0 } else { Code::No.exit_code() });
        }
        _ if is_done => {
            applied::note(session, &path, (age, digest), Outcome::Whole);
            tell_at_rest(&mut client, wanted, &[], session)?;
            return Ok(0);
        }
        Mode::Yes => {}
        Mode::Ask => ask()?,
    }
    // First: who starts has it already.
    if let Some(Variables { change, .. }) = environment {
        let unrecorded = client.env(change)?.unrecorded;
        if let Some(why) = unrecorded {
            stdout::notice(&format!("{ENVIRONMENT}: done, but it is not recorded: {why}"));
        }
        match session.is_json() {
            true => {
                session.object(&json!({ "action": ENVIRONMENT, "name": null, "done": true, "error": null }))
            }
            false => session.out.line(&format!("{ENVIRONMENT}: done")),
        }
    }
    let mut failed = 0;
    for step in &steps {
        let done = act(&mut client, step);
        // What cannot run may be there all the same, to be tried again.
        let is_there = step.action == Action::Add && done.is_err() && is_there(&mut client, &step.name);
        report(step, &done, is_there, session);
        failed += usize::from(done.is_err());
    }
    let outcome = match (failed, args.at_start) {
        (0, _) => Outcome::Whole,
        (_, true) => Outcome::PartlyAtStart,
        (_, false) => Outcome::Partly,
    };
    applied::note(session, &path, (age, digest), outcome);
    // At the begin of a service nobody waits.
    let begun = if args.at_start { &[] } else { &steps[..] };
    tell_at_rest(&mut client, wanted, begun, session)?;
    Ok(if failed == 0 { 0 } else { Code::Partial.exit_code() })
}

/// Says where this is not the file by which the service begins; refuses it if it is a part of that one alone.
fn tell_whose(path: &Path, steps: &[Step], args: &ApplyArgs, session: &Session) -> Result<(), Error> {
    if steps.is_empty() {
        return Ok(());
    }
    let removes = steps.iter().any(|step| step.action == Action::Remove);
    let shown = text::path(path);
    if session.remote.is_given() {
        let again = "that service applies its own configuration again when it begins: change it there, too";
        stdout::notice(&match removes {
            true => {
                format!("what {shown} does not declare is removed ('provost update' changes one); {again}")
            }
            false => again.to_owned(),
        });
        return Ok(());
    }
    let Some(own) = of_service(session).filter(|own| !files::is_same(own, path)) else { return Ok(()) };
    let is_part = own.parent().map(|dir| dir.join("conf.d")).is_some_and(|dir| {
        files::is_same(&dir, path) || path.parent().is_some_and(|parent| files::is_same(&dir, parent))
    });
    let own = text::path(&own);
    if is_part && removes && args.mode != Mode::DryRun {
        let e = format!("{shown} is a part of {own}, and what only the rest declares would be removed");
        return Err(Error::new(Code::Refused, e).hint("all of it is applied by: provost apply"));
    }
    if is_part && !removes {
        return Ok(());
    }
    let what = match removes {
        true => "what only that declares is removed",
        false => "which holds again when the service begins anew",
    };
    stdout::notice(&format!("{shown} is not the configuration of the service, {own}: {what}"));
    Ok(())
}

/// Sections of the service itself are not applied.
fn tell_settings(path: &Path, session: &Session) {
    let changes = || {
        let own = of_service(session).filter(|own| files::is_same(own, path))?;
        service_settings::changes(&session.socket().ok()?, &own).ok()
    };
    let (later, now): (Vec<_>, Vec<_>) =
        changes().into_iter().flatten().partition(|change| change.takes == Takes::Service);
    for (changes, how) in [(now, "by 'provost reload'"), (later, "from the next start of the service on")] {
        let settings: Vec<_> = changes.into_iter().map(|change| change.setting).collect();
        if !settings.is_empty() && !session.is_json() {
            let settings = settings.join(", ");
            stdout::notice(&format!("the service's own settings are taken {how}: {settings}"));
        }
    }
}

fn of_service(session: &Session) -> Option<PathBuf> {
    state::of_service(&session.socket().ok()?).config
}

/// Notes that this configuration is applied, if there is nothing to do for it, and returns whether there is
/// nothing; an error if it could not be. What cannot be seen is not noted.
pub fn note_if_done(session: &Session, client: &mut Client, path: &Path) -> Result<bool, Error> {
    let age = applied::newest(path);
    let declared = Declared::read(path)?;
    // Where nothing is declared, what is there may be of another file.
    if declared.processes.is_empty() && declared.environment.is_none() {
        return Ok(true);
    }
    let Ok((environment, steps)) = differing(&declared, client) else { return Ok(true) };
    let is_done = environment.is_none() && steps.is_empty();
    if is_done {
        applied::note(session, path, (age, declared.digest()), Outcome::Whole);
    }
    Ok(is_done)
}

/// What is to be done for the service to have it.
fn differing(declared: &Declared, client: &mut Client) -> Result<(Option<Variables>, Vec<Step>), Error> {
    let environment = declared.environment.as_ref().map(|all| Variables::new(client, all));
    let environment = environment.transpose()?.flatten();
    Ok((environment, plan(&present(client)?, &declared.processes)?))
}

/// What is as it is declared may still have failed, or be stopped by somebody, and is not started again for a
/// change of its rules; and what was begun need not be ready yet.
fn tell_at_rest(
    client: &mut Client,
    wanted: &[Wanted],
    begun: &[Step],
    session: &Session,
) -> Result<(), Error> {
    if session.is_json() {
        return Ok(());
    }
    let wanted: BTreeMap<_, _> =
        wanted.iter().map(|wanted| (wanted.spec.name.as_ref(), &wanted.spec)).collect();
    let begun: BTreeSet<_> = begun.iter().map(|step| Some(&step.name)).collect();
    let mut not_ready = Vec::new();
    for process in client.list(List::default())? {
        let Some(spec) = wanted.get(&process.name.as_ref()) else { continue };
        let label = process.label();
        if process.state == State::Failed {
            let next = format!("'provost why {label}' tells why, 'provost start {label}' tries it again");
            stdout::notice(&format!("{label} has failed: {next}"));
        } else if process.is_suspended() {
            let how = format!(
                "'provost start {label}', which also runs it at once, resumes it; 'provost stop --keep-schedule {label}' ends that run alone"
            );
            stdout::notice(&format!("the schedule of {label} is suspended, and stays so: {how}"));
        } else if spec.autostart != Some(false) && was_stopped(&process) {
            stdout::notice(&format!("{label} was stopped, and stays so: provost start {label}"));
        } else if begun.contains(&process.name.as_ref())
            && spec.ready.is_some()
            && !process.ready
            && matches!(process.state, State::Starting | State::Running)
        {
            not_ready.push(label);
        }
    }
    if !not_ready.is_empty() {
        let labels = not_ready.join(" ");
        stdout::notice(&format!("not waited until they are ready: provost wait --for ready {labels}"));
    }
    Ok(())
}

/// By somebody: its rules would have started it again.
fn was_stopped(process: &Process) -> bool {
    let is_killed = || process.exit.is_some_and(|exit| matches!(exit.end, End::Signal(_)));
    let is_kept_up = match process.restart {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => is_killed(),
        RestartPolicy::Never => false,
    };
    process.state == State::Stopped && process.run > 0 && is_kept_up
}

/// What is to be done about the variables that every process gets.
const ENVIRONMENT: &str = "environment";

struct Variables {
    change: EnvChange,
    differences: Vec<Difference>,
}

impl Variables {
    /// None: they are as they are to be.
    fn new(client: &mut Client, wanted: &[(String, String)]) -> Result<Option<Self>, Error> {
        let present = client.env(EnvChange::default())?.env;
        let change = environment::change(&present, wanted);
        let differences = environment::differences(&present, &change);
        Ok((!differences.is_empty()).then_some(Self { change, differences }))
    }
}

fn present(client: &mut Client) -> Result<Vec<Definition>, Error> {
    let all = client.list(List { pattern: None, all: false, ..Default::default() })?;
    let ids: Vec<_> = all.iter().map(|p| p.id.to_string()).collect();
    let mut present = Vec::with_capacity(ids.len());
    for some in ids.chunks(TARGETS_MAX) {
        present.extend(client.definitions(some.to_vec())?);
    }
    Ok(present)
}

fn show(environment: Option<&Variables>, steps: &[Step], declared: usize, session: &mut Session) {
    let variables = environment.map(|variables| &variables.differences[..]).unwrap_or_default();
    if session.is_json() {
        if !variables.is_empty() {
            session.object(&object(ENVIRONMENT, None, variables));
        }
        for step in steps {
            session.object(&shown(step));
        }
    } else if steps.is_empty() && variables.is_empty() {
        session.out.line(&match declared {
            1 => "nothing to do: 1 process is as it is declared".to_owned(),
            n => format!("nothing to do: {n} processes are as they are declared"),
        });
    } else {
        let header = ["ACTION", "PROCESS", "FIELD", "IS", "IS TO BE"].map(str::to_owned);
        let steps =
            steps.iter().flat_map(|step| rows([step.action.name(), step.name.as_str()], &step.differences));
        let variables = if variables.is_empty() { Vec::new() } else { rows([ENVIRONMENT, ""], variables) };
        let rows: Vec<_> = [header].into_iter().chain(variables).chain(steps).collect();
        text::columns(&rows).iter().for_each(|line| session.out.line(line));
    }
    // Before it is done.
    session.out.flush();
}

fn shown(step: &Step) -> Value {
    object(step.action.name(), Some(step.name.as_str()), &step.differences)
}

fn object(action: &str, name: Option<&str>, differences: &[Difference]) -> Value {
    json!({
        "action": action,
        "name": name,
        "changes": differences.iter().map(|d| json!({ "field": d.field, "before": d.before, "after": d.after }))
            .collect::<Vec<_>>(),
    })
}

/// The longest value in the table, in characters.
const VALUE_LEN_MAX: usize = 48;

fn rows(first: [&str; 2], differences: &[Difference]) -> Vec<[String; 5]> {
    let first = first.map(str::to_owned);
    let row = |n: usize, d: &Difference| {
        let [action, name] = if n == 0 { first.clone() } else { Default::default() };
        let [before, after] = cells(d);
        [action, name, d.field.clone(), before, after]
    };
    let rows: Vec<_> = differences.iter().enumerate().map(|(n, d)| row(n, d)).collect();
    if rows.is_empty() {
        let [action, name] = first;
        return vec![[action, name, String::new(), String::new(), String::new()]];
    }
    rows
}

/// How much of what is the same in long values is shown before they differ, in characters.
const COMMON_LEN_MAX: usize = 12;

/// Both values, cut so that it is seen where they differ.
fn cells(d: &Difference) -> [String; 2] {
    let both =
        [&d.before, &d.after].map(|value| text::escaped(&Difference::cell(value.as_ref())).into_owned());
    let common = both[0].chars().zip(both[1].chars()).take_while(|(a, b)| a == b).count();
    let is_long = both.iter().any(|value| value.chars().count() > VALUE_LEN_MAX);
    let skipped = if is_long { common.saturating_sub(COMMON_LEN_MAX) } else { 0 };
    both.map(|value| match skipped {
        0 => text::cut(&value, VALUE_LEN_MAX).into_owned(),
        _ => {
            let rest: String = value.chars().skip(skipped).collect();
            format!("…{}", text::cut(&rest, VALUE_LEN_MAX - 1))
        }
    })
}

/// On a terminal; elsewhere nobody could answer.
pub fn ask() -> Result<(), Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::new(Code::Refused, "nothing was changed: there is no terminal to ask at")
            .hint("--yes does it without a question, --dry-run only shows it"));
    }
    let failed = |e: io::Error| Error::failed("ask at the terminal", &e);
    eprint!("Do it? [y/N] ");
    io::stderr().flush().map_err(failed)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(failed)?;
    if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(Error::new(Code::No, "nothing was changed"))
}

/// Does one of them. None is half done: each is one request, but for a replacement, which is two.
fn act(client: &mut Client, step: &Step) -> Result<Vec<Item>, Error> {
    let target = || step.id.map(|id| id.to_string()).unwrap_or_default();
    let remove =
        |client: &mut Client| client.remove(Remove { targets: vec![target()], force: true }).and_then(done);
    let Some(Wanted { mut spec, section, instance }) = step.wanted.clone() else { return remove(client) };
    match step.action {
        Action::Remove => {}
        Action::Add | Action::Replace => {
            step.id.map(|_| remove(client)).transpose()?;
        }
        Action::Change | Action::Restart => {
            let is_cut_off = step.action == Action::Restart || !spec.schedule.is_on();
            let outdated = if is_cut_off { OutdatedRun::Restart } else { OutdatedRun::Continue };
            let update = Update { target: target(), spec, outdated };
            return client.update(update).and_then(done);
        }
    }
    // The service adds the number.
    spec.name = section;
    let numbering = instance.map_or(Numbering::Single, Numbering::From);
    client.start(Start { spec, ids: vec![ProcessId::new()], numbering }).and_then(done)
}

fn done(items: Vec<Item>) -> Result<Vec<Item>, Error> {
    match items.iter().find_map(|item| item.error.clone()) {
        Some(e) => Err(e),
        None => Ok(items),
    }
}

fn is_there(client: &mut Client, name: &Name) -> bool {
    let items = client.status(vec![name.as_str().to_owned()]).unwrap_or_default();
    items.iter().any(|item| item.process.is_some())
}

fn report(step: &Step, done: &Result<Vec<Item>, Error>, is_there: bool, session: &mut Session) {
    let (action, name) = (step.action.name(), &step.name);
    if session.is_json() {
        let error = done.as_ref().err().map(json::error);
        session.object(
            &json!({ "action": action, "name": name.as_str(), "done": done.is_ok(), "error": error }),
        );
    }
    match done {
        Err(e) => stdout::complain(&Error {
            message: match is_there {
                true => format!("{name}: added, and cannot run: {}", e.message),
                false => format!("{name}: cannot {action}: {}", e.message),
            },
            hint: in_file(&e.hint),
            ..e.clone()
        }),
        Ok(items) => {
            for why in items.iter().filter_map(|item| item.unrecorded.as_ref()) {
                stdout::notice(&format!("{name}: done, but it is not recorded: {why}"));
            }
            if !session.is_json() {
                session.out.line(&format!("{action} {name}: done"));
            }
        }
    }
    session.out.flush();
}

/// A hint that names options of a start, as it is for who has a file: `--cwd` is cwd there. One that names a
/// command is left as it is.
fn in_file(hint: &str) -> String {
    if hint.contains("provost ") {
        return hint.to_owned();
    }
    let word = |word: &str| match word.strip_prefix("--") {
        Some(option) => option.replace('-', "_"),
        None => word.to_owned(),
    };
    hint.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_keys_of_the_file() {
        assert_eq!(
            in_file("give another one with --log-size, or none"),
            "give another one with log_size, or none"
        );
        assert_eq!(in_file("'provost remove --force web' ends it"), "'provost remove --force web' ends it");
    }

    #[test]
    fn long_values_are_shown_where_they_differ() {
        let of = |before: &str, after: &str| {
            let [before, after] = [before, after].map(|text| Some(Value::from(text)));
            cells(&Difference { field: "command".to_owned(), before, after })
        };
        assert_eq!(of("short", "shorter"), ["\"short\"", "\"shorter\""]);
        let long = "x".repeat(60);
        let [before, after] = of(&format!("{long}1"), &format!("{long}2"));
        assert_eq!((before.as_str(), after.as_str()), ("…xxxxxxxxxxxx1\"", "…xxxxxxxxxxxx2\""));
        let [before, after] = of("a", &long);
        assert!(before == "\"a\"" && after.starts_with("\"xxx") && after.chars().count() <= VALUE_LEN_MAX);
    }

    #[test]
    fn options_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        let args = parsed("--yes /etc/x.toml").unwrap();
        assert_eq!((args.mode, args.path, args.at_start), (Mode::Yes, Some("/etc/x.toml".into()), false));
        assert_eq!(parsed("--yes --dry-run").unwrap().mode, Mode::DryRun);
        assert_eq!(parsed("").unwrap().mode, Mode::Ask);
        assert!(parsed("a b").is_err());
    }
}

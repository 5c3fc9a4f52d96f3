//! `provost reload`: has the service be what its own sections of the configuration say by now, and the
//! gateway read its files again. What differs is shown first.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::apply;
use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::last_output;
use crate::cli::manual::Positional;
use crate::cli::service_settings::{self, Change, Takes};
use crate::cli::session::Session;
use crate::cli::{state, stdout, text};
use crate::client::{Client, StreamItem};
use crate::sys::{signal, thread};
use crate::wire::error::{Code, Error};
use crate::wire::id::{GATEWAY, UpgradeId};
use crate::wire::process::{Process, State};
use crate::wire::provider::HOST;
use crate::wire::reply::Item;
use crate::wire::request::{Signal, Since, Stream, StreamKind, Until, Upgrade, Wait};
use crate::wire::spec::Scope;

/// How long the gateway may take to say what came of it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const STEP: Duration = Duration::from_millis(100);
/// How often it may fail to begin: what an earlier one still holds is free soon.
const ATTEMPTS: u64 = 2;
/// What the line begins with that says so.
const REPORTS: [&str; 2] = ["reloaded", "not reloaded"];

pub const COMMAND: Command = Command::new("reload", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .writes()
    .takes(Positional::Nothing);
const SUMMARY: &str = "Have the service follow its own settings and their files";
const HELP: &str = "\
Usage: provost reload [OPTIONS]

Shows which of the service's own settings differ from those that hold, then makes these hold. Processes
are not touched: that is 'provost apply'. For most settings another engine begins, as in an upgrade; for
those of [providers], [modules] and [registry] the host begins anew, if it runs. The gateway reads
certificates, users and roles again; where the configuration has [grpc] by now, has it no more, or has
another 'listen', user or grace in it, the gateway begins, ends or begins anew. Says what came of it. What
cannot be read leaves everything as it was: then the command fails and says why.

Options:
      --dry-run              Only show it; exit code 3 if there is something to do
      --yes                  Do not ask, as it does on a terminal where a setting differs

Examples:
  provost reload --dry-run
  provost reload --yes
";
/// The program that the engine is, whatever has become of its path.
const OWN_PROGRAM: &str = "/proc/self/exe";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Ask,
    DryRun,
    Yes,
}

fn parse(arguments: &mut Arguments) -> Result<Mode, Error> {
    let mut mode = Mode::Ask;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--dry-run" => mode = Mode::DryRun,
            "--yes" if mode == Mode::Ask => mode = Mode::Yes,
            "--yes" => {}
            _ => return Err(arguments.unknown(&option)),
        }
    }
    match arguments.next_value() {
        Some(name) => {
            let e = arguments.stray(&name);
            let how = "provost reload is of the service's own settings; of a process:";
            Err(e.hint(format!("{how} provost restart {name}, or provost signal HUP {name}")))
        }
        None => Ok(mode),
    }
}

fn run(mode: Mode, session: &mut Session) -> Result<u8, Error> {
    if session.remote.is_given() {
        return of_remote(mode, session);
    }
    let socket = session.socket()?;
    let config = state::of_service(&socket).config;
    let changes = match &config {
        Some(config) => service_settings::changes(&socket, config).map_err(refused)?,
        None => Vec::new(),
    };
    match config.as_ref().map(|config| service_settings::check(&socket, config)) {
        Some(Ok(missing)) => missing.iter().for_each(|what| stdout::notice(what)),
        Some(Err(e)) if mode == Mode::DryRun => return Err(refused(e)),
        // The service says it, which can read what we may not.
        Some(Err(_)) | None => {}
    }
    // In a pipe the outcome is what is looked for.
    let is_shown = session.out.is_terminal() || mode == Mode::DryRun;
    if is_shown && !session.is_json() && !changes.is_empty() {
        service_settings::table(&changes).iter().for_each(|line| session.out.line(line));
        session.out.flush();
    }
    match mode {
        Mode::DryRun if changes.is_empty() => {
            return Ok(say(session, &[], "nothing differs from what holds"));
        }
        Mode::DryRun => {
            if session.is_json() {
                session.object(&json!({ "reloaded": false, "detail": "", "changes": objects(&changes) }));
            }
            return Ok(Code::No.exit_code());
        }
        Mode::Ask if !changes.is_empty() && io::stdin().is_terminal() => apply::ask()?,
        Mode::Ask | Mode::Yes => {}
    }
    let mut client = session.client()?;
    let said = make_hold(&mut client, &changes)?;
    if let Some(config) = config {
        service_settings::note_after(&changes, &socket, &config)?;
        let shown = text::path(&config);
        match apply::note_if_done(session, &mut client, &config) {
            Ok(true) => {}
            Ok(false) => stdout::notice(&format!(
                "processes are not touched, and differ from their sections: provost apply {shown}"
            )),
            Err(e) => {
                stdout::notice(&format!(
                    "processes are not touched, and could not be applied: {}",
                    e.message
                ));
            }
        }
    }
    let waiting: Vec<_> = (changes.iter().filter(|change| change.takes == Takes::Service))
        .map(|change| change.setting.as_str())
        .collect();
    if !waiting.is_empty() {
        let hold = if waiting.len() == 1 { "holds" } else { "hold" };
        stdout::notice(&format!(
            "{} {hold} from the next start of the service on, which an upgrade is not, and which starts its processes anew",
            waiting.join(", ")
        ));
    }
    let nothing = if waiting.is_empty() { NOTHING } else { "nothing else was to be reloaded" };
    Ok(say(session, &changes, said.as_deref().unwrap_or(nothing)))
}

fn refused(e: Error) -> Error {
    Error { message: format!("not reloaded: {}", e.message), ..e }
}

/// Only files are read again: what else there is would cut the way to it.
fn of_remote(mode: Mode, session: &mut Session) -> Result<u8, Error> {
    if mode == Mode::DryRun {
        return Err(Error::usage("what differs is told on the service's own machine alone"));
    }
    let mut client = session.client()?;
    let said = match gateway(&mut client)? {
        None => NOTHING.to_owned(),
        Some(gateway) => files_again(&mut client, &gateway).map_err(|e| match e.code {
            Code::Refused => refused(e).hint("an administrator of that service does it: 'provost reload'"),
            _ if e.hint.is_empty() => {
                e.hint("from here files are read again; settings, on the service's machine: provost reload")
            }
            _ => e,
        })?,
    };
    Ok(say(session, &[], &said))
}

/// Has the engine, the host and the gateway take them on; what has come of it, if there was anything to do.
fn make_hold(client: &mut Client, changes: &[Change]) -> Result<Option<String>, Error> {
    let before = gateway(client)?;
    client.reload().map_err(refused)?;
    let count = |what: Takes| changes.iter().filter(|change| change.takes == what).count();
    let (of_engine, of_host) = (count(Takes::Engine), count(Takes::Host));
    if of_engine + of_host == 0 {
        return gateway_after(client, before);
    }
    // The new engine has whatever is to run run, by what it reads.
    client.upgrade(Upgrade { id: UpgradeId::new(), path: Some(OWN_PROGRAM.to_owned()) })?;
    if of_host > 0
        && let Ok(host) = only(client.status(vec![HOST.to_owned()])?)
        && host.pid.is_some()
    {
        only(client.restart(vec![host.id.to_string()])?)?;
    }
    let gateway = gateway_after(client, before)?;
    let how = gateway.as_deref().and_then(|gateway| gateway.strip_prefix(REPORTS[0]));
    let gateway = how.map(|how| format!("; {}", how.trim_start_matches([':', ' ']))).unwrap_or_default();
    Ok(Some(format!("reloaded: {} settings hold now{gateway}", of_engine + of_host)))
}

/// There is no gateway, and no setting differs.
const NOTHING: &str =
    "there is nothing to reload: the service's own settings are as they were, and it runs no gateway";

fn objects(changes: &[Change]) -> Vec<Value> {
    changes.iter().map(service_settings::object).collect()
}

/// What has become of the gateway, if there was or is one.
fn gateway_after(client: &mut Client, before: Option<Process>) -> Result<Option<String>, Error> {
    let after = gateway(client)?;
    let said = match (before, after) {
        (None, None) => return Ok(None),
        (Some(_), None) => "reloaded: the gateway has ended, as the configuration says".to_owned(),
        (Some(before), Some(gateway)) if before.id == gateway.id && gateway.pid.is_some() => {
            files_again(client, &gateway)?
        }
        (before, Some(gateway)) => {
            // One that has failed waits for its next attempt, or for a person.
            if before.is_some_and(|before| before.id == gateway.id) {
                only(client.restart(vec![gateway.id.to_string()])?)?;
            }
            until_ready(client, &gateway)?;
            "reloaded: the gateway has begun, as the configuration says".to_owned()
        }
    };
    Ok(Some(said))
}

/// Has the gateway read its files again; its word about it.
fn files_again(client: &mut Client, gateway: &Process) -> Result<String, Error> {
    let id = vec![gateway.id.to_string()];
    only(client.signal(Signal { targets: id.clone(), signal: signal::HUP, scope: Scope::Leader })?)?;
    let since = Since::Offset(gateway.output_end);
    let report = report(client, Stream { targets: id, kind: StreamKind::Both, since })?;
    if report.starts_with(REPORTS[0]) { Ok(report) } else { Err(Error::new(Code::Failed, report)) }
}

/// The gateway, if there is one.
fn gateway(client: &mut Client) -> Result<Option<Process>, Error> {
    match only(client.status(vec![GATEWAY.to_owned()])?) {
        Ok(gateway) => Ok(Some(gateway)),
        Err(e) if e.code == Code::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Waits until one that was begun lets clients in, or has failed more than once.
fn until_ready(client: &mut Client, gateway: &Process) -> Result<(), Error> {
    let targets = vec![gateway.id.to_string()];
    let begun = Instant::now();
    loop {
        let step = Wait { targets: targets.clone(), until: Until::Ready, timeout: Some(STEP) };
        let Err(late) = only(client.wait(step)?) else { return Ok(()) };
        if late.code != Code::TimedOut || begun.elapsed() >= TIMEOUT {
            return Err(late.hint(format!("see 'provost why {GATEWAY}'")));
        }
        let now = only(client.status(targets.clone())?)?;
        let is_failing = matches!(now.state, State::Backoff | State::Failed);
        if is_failing && now.run >= gateway.run.saturating_add(ATTEMPTS) {
            return Err(does_not_begin(client, &now));
        }
    }
}

/// With its own last words about it.
fn does_not_begin(client: &mut Client, gateway: &Process) -> Error {
    let said = last_output::read(client, gateway, 2).map_or_else(|_| Vec::new(), |lines| lines.latest);
    let words = said.iter().map(|line| line.strip_prefix("provost: ").unwrap_or(line));
    let (hints, words): (Vec<_>, Vec<_>) = words.partition(|line| line.starts_with("hint: "));
    let why = words.last().map_or("it ends at once", |why| why);
    let hint = hints.last().and_then(|hint| hint.strip_prefix("hint: "));
    let e = Error::new(Code::Failed, format!("the gateway does not begin, and is tried again: {why}"));
    e.hint(hint.map_or_else(|| format!("see 'provost why {GATEWAY}'"), str::to_owned))
}

/// The process of an answer about one.
fn only(mut items: Vec<Item>) -> Result<Process, Error> {
    match items.pop() {
        Some(Item { error: Some(e), .. }) => Err(e),
        Some(Item { process: Some(process), .. }) => Ok(process),
        Some(_) | None => Err(Error::new(Code::Failed, "the service gave no answer")),
    }
}

fn say(session: &mut Session, changes: &[Change], line: &str) -> u8 {
    let object = || {
        let mut object = json!({ "reloaded": line.starts_with(REPORTS[0]), "detail": line });
        if !changes.is_empty() {
            object["changes"] = objects(changes).into();
        }
        object
    };
    session.answer(object, || text::escaped(line).into_owned());
    0
}

/// The gateway's line about it.
fn report(client: &mut Client, stream: Stream) -> Result<String, Error> {
    let canceller = client.canceller();
    let timeout = move || {
        std::thread::sleep(TIMEOUT);
        canceller.cancel();
    };
    thread::spawn("timeout", timeout).map_err(|e| Error::failed("start a thread", &e))?;
    let mut output = String::new();
    for item in client.stream(stream)? {
        let Ok(StreamItem::Chunk(chunk)) = item else { break };
        output.push_str(&String::from_utf8_lossy(&chunk.data));
        if let Some(line) = found(&output) {
            return Ok(line.to_owned());
        }
    }
    let e = format!("{GATEWAY} has not said within {} s what came of it", TIMEOUT.as_secs());
    Err(Error::new(Code::TimedOut, e).hint(format!("see 'provost why {GATEWAY}'")))
}

/// A whole line that is a report.
fn found(output: &str) -> Option<&str> {
    let whole = output.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let mut lines = whole.map(|line| line.strip_prefix("provost: ").unwrap_or(line));
    lines.find(|line| REPORTS.iter().any(|report| line.starts_with(report)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        assert_eq!(
            ["", "--yes", "--yes --dry-run"].map(|line| parsed(line).unwrap()),
            [Mode::Ask, Mode::Yes, Mode::DryRun]
        );
        assert!(parsed("x").is_err());
    }

    #[test]
    fn a_report_is_a_whole_line() {
        assert_eq!(found("listening on x\nreloaded: 2 us"), None);
        assert_eq!(found("listening on x\nreloaded: 2 users\n"), Some("reloaded: 2 users"));
        assert_eq!(found("provost: not reloaded: no key\nreloaded\n"), Some("not reloaded: no key"));
    }
}

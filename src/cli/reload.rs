//! `provost reload`: has the gateway be what the configuration says by now, and read its files again.

use std::time::Duration;

use serde_json::json;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::text;
use crate::client::{Client, StreamItem};
use crate::sys::{signal, thread};
use crate::wire::error::{Code, Error};
use crate::wire::id::GATEWAY;
use crate::wire::process::Process;
use crate::wire::reply::Item;
use crate::wire::request::{Signal, Since, Stream, StreamKind, Until, Wait};
use crate::wire::spec::Scope;

/// How long the gateway may take to say what came of it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What the line begins with that says so.
const REPORTS: [&str; 2] = ["reloaded", "not reloaded"];

pub const COMMAND: Command = Command::new("reload", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .writes()
    .takes(Positional::Nothing);
const SUMMARY: &str = "Have the gateway follow the configuration and its files";
const HELP: &str = "\
Usage: provost reload

Has the gateway read certificates, users and roles again. Where the configuration has [grpc] by now,
has it no more, or has another 'listen', user or grace in it, the gateway begins, ends or begins anew.
Says what came of it. What cannot be read leaves everything as it was: then the command fails and
says why. Without a gateway there is nothing to reload.

Examples:
  provost reload
";

fn parse(arguments: &mut Arguments) -> Result<(), Error> {
    arguments.nothing()
}

fn run((): (), session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client()?;
    let before = gateway(&mut client)?;
    // From another machine only files are read again: what else there is would cut the way to it.
    if !session.remote.is_given() {
        client.reload().map_err(|e| Error { message: format!("not reloaded: {}", e.message), ..e })?;
    }
    let after = gateway(&mut client)?;
    let gateway = match (before, after) {
        (None, None) => return Ok(say(session, "there is nothing to reload: the service runs no gateway")),
        (Some(_), None) => {
            return Ok(say(session, "reloaded: the gateway has ended, as the configuration says"));
        }
        (Some(before), Some(gateway)) if before.id == gateway.id => gateway,
        (_, Some(gateway)) => {
            until_ready(&mut client, &gateway)?;
            return Ok(say(session, "reloaded: the gateway has begun, as the configuration says"));
        }
    };
    let id = vec![gateway.id.to_string()];
    only(client.signal(Signal { targets: id.clone(), signal: signal::HUP, scope: Scope::Leader })?)?;
    let since = Since::Offset(gateway.output_end);
    let report = report(&mut client, Stream { targets: id, kind: StreamKind::Both, since })?;
    if report.starts_with(REPORTS[0]) {
        Ok(say(session, &report))
    } else {
        Err(Error::new(Code::Failed, report))
    }
}

/// The gateway, if there is one.
fn gateway(client: &mut Client) -> Result<Option<Process>, Error> {
    match only(client.status(vec![GATEWAY.to_owned()])?) {
        Ok(gateway) => Ok(Some(gateway)),
        Err(e) if e.code == Code::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Waits until one that was begun lets clients in.
fn until_ready(client: &mut Client, gateway: &Process) -> Result<(), Error> {
    let targets = vec![gateway.id.to_string()];
    let ready = only(client.wait(Wait { targets, until: Until::Ready, timeout: Some(TIMEOUT) })?);
    ready.map(drop).map_err(|e| e.hint(format!("see 'provost why {GATEWAY}'")))
}

/// The process of an answer about one.
fn only(mut items: Vec<Item>) -> Result<Process, Error> {
    match items.pop() {
        Some(Item { error: Some(e), .. }) => Err(e),
        Some(Item { process: Some(process), .. }) => Ok(process),
        Some(_) | None => Err(Error::new(Code::Failed, "the service gave no answer")),
    }
}

fn say(session: &mut Session, line: &str) -> u8 {
    let object = || json!({ "reloaded": line.starts_with(REPORTS[0]), "detail": line });
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
    fn a_report_is_a_whole_line() {
        assert_eq!(found("listening on x\nreloaded: 2 us"), None);
        assert_eq!(found("listening on x\nreloaded: 2 users\n"), Some("reloaded: 2 users"));
        assert_eq!(found("provost: not reloaded: no key\nreloaded\n"), Some("not reloaded: no key"));
    }
}

//! `provost doctor`: whether the service is well, part by part; and `provost reconcile`: what it found when
//! it began.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::cli::applied;
use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::json;
use crate::cli::manual::Positional;
use crate::cli::service_settings::{self, Change, Takes};
use crate::cli::session::Session;
use crate::cli::{state, text};
use crate::client::Client;
use crate::sys::system;
use crate::wire::error::{Code, Error};
use crate::wire::health::{Controller, Health, Reconciled, Sink, Store};
use crate::wire::id::GATEWAY;
use crate::wire::module::{ModuleAnswer, ModuleCall, ModuleExpectation};
use crate::wire::process::{Process, State};
use crate::wire::provider::HOST;
use crate::wire::request::List;
use crate::wire::time::Timestamp;

pub const COMMAND: Command =
    Command::new("doctor", SUMMARY, HELP, |arguments| job(parse(arguments)?, run)).takes(Positional::Nothing);
const SUMMARY: &str = "Show whether the service is well: its database, its sinks, its gateway";
const HELP: &str = "\
Usage: provost doctor

A line for each part: the database, each sink, the gateway for gRPC, the configuration if the service began
without being able to apply it as a whole or could not begin with it as it is by now, modules that are
expected, which limits processes can have, and what was found at the start. Exits with 3 when one of them is
not well.

Examples:
  provost doctor
";

pub const RECONCILE: Command = Command::new("reconcile", RECONCILE_SUMMARY, RECONCILE_HELP, |arguments| {
    job(parse(arguments)?, run_reconcile)
})
.takes(Positional::Nothing);
const RECONCILE_SUMMARY: &str = "Show what the service found when it began";
const RECONCILE_HELP: &str = "\
Usage: provost reconcile

What became of each process when the service began, or when an engine took over: started, stopped,
adopted, lost (it ended and nobody saw it), ended (it had outlived its service), left (alone).

Examples:
  provost reconcile
";

fn parse(arguments: &mut Arguments) -> Result<(), Error> {
    arguments.nothing()
}

fn run((): (), session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client()?;
    let health = client.health()?;
    let gateway = gateway(&mut client);
    let gateway_fails = gateway.as_ref().is_some_and(|p| matches!(p.state, State::Failed | State::Backoff));
    let modules = modules(&mut client, session);
    let not_applied = applied::not_applied(session, &mut client);
    let refused = refused(session);
    let is_well =
        is_well(&health) && !gateway_fails && modules.is_well() && not_applied.is_none() && refused.is_none();
    if session.is_json() {
        let mut object = in_json(&health);
        object["well"] = is_well.into();
        object["gateway"] = gateway.as_ref().map(gateway_json).into();
        object["modules"] = modules.in_json();
        object["applied"] = not_applied.is_none().into();
        object["refused"] = refused.into();
        session.object(&object);
    } else {
        session.out.line(&store(&health.store));
        for sink in &health.sinks {
            session.out.line(&self::sink(sink));
        }
        session.out.line(&format!("gateway: {}", gateway_state(gateway.as_ref())));
        if let Some(how) = &not_applied {
            session.out.line(&format!("configuration: not applied as a whole: '{how}' tells what and why"));
        }
        let of_start = |change: &Change| change.takes == Takes::Service;
        let (of_start, of_reload): (Vec<_>, Vec<_>) = not_yet(session).into_iter().partition(of_start);
        for (until, changes) in [("provost reload", of_reload), ("the next start of the service", of_start)] {
            let settings: Vec<_> = changes.iter().map(|change| change.setting.as_str()).collect();
            if !settings.is_empty() {
                let settings = settings.join(", ");
                session.out.line(&format!("configuration: does not hold yet, until {until}: {settings}"));
            }
        }
        if let Some(why) = refused {
            let why = text::escaped(&why);
            session.out.line(&format!("configuration: refused, and no service would begin with it: {why}"));
        }
        modules.lines().iter().for_each(|line| session.out.line(line));
        limits(&health.controllers).iter().for_each(|line| session.out.line(line));
        session.out.line(&format!("reconciled: {}", summary(&health.reconciled)));
    }
    Ok(if is_well { 0 } else { 3 })
}

/// Why the service could not begin with its configuration as that is by now; none where it could, or where
/// we need not be able to read what the service can.
fn refused(session: &Session) -> Option<String> {
    if session.remote.is_given() {
        return None;
    }
    let socket = session.socket().ok()?;
    let config = state::of_service(&socket).config?;
    let owner = fs::metadata(&socket).ok()?.uid();
    let is_like_it = [0, owner].contains(&system::euid());
    is_like_it.then(|| service_settings::check(&socket, &config).err())?.map(|e| e.message)
}

/// The service's own settings that stand in the configuration otherwise than they hold, as far as we see.
fn not_yet(session: &Session) -> Vec<Change> {
    let changes = || {
        let socket = session.socket().ok()?;
        service_settings::changes(&socket, &state::of_service(&socket).config?).ok()
    };
    let changes = if session.remote.is_given() { None } else { changes() };
    changes.unwrap_or_default()
}

/// How the modules are that the configuration expects.
enum Modules {
    /// None is expected.
    None,
    Expected(Vec<ModuleExpectation>),
    /// There is a host, and it does not tell.
    Unknown(Error),
}

/// Asks the host, if there is one.
fn modules(client: &mut Client, session: &Session) -> Modules {
    let list = List { pattern: Some(HOST.to_owned()), all: true, ..List::default() };
    let host = client.list(list).ok().and_then(|all| all.into_iter().find(|p| p.internal));
    let answer = match host {
        None => return Modules::None,
        Some(host) if matches!(host.state, State::Failed | State::Backoff) => {
            Err(Error::new(Code::Failed, text::state(&host, Timestamp::now())))
        }
        Some(_) => ask_host(session),
    };
    match answer {
        Ok(ModuleAnswer::Expected(all)) if !all.is_empty() => Modules::Expected(all),
        Ok(_) => Modules::None,
        // It has no module plane, or one that expects nothing.
        Err(e) if matches!(e.code, Code::Refused | Code::Usage) => Modules::None,
        Err(e) => Modules::Unknown(e),
    }
}

fn ask_host(session: &Session) -> Result<ModuleAnswer, Error> {
    let mut host = if session.remote.is_given() {
        session.client()?
    } else {
        Client::connect_to_host(&session.socket()?)?
    };
    host.module(ModuleCall::Expected)
}

impl Modules {
    fn is_well(&self) -> bool {
        match self {
            Self::None => true,
            Self::Expected(all) => all.iter().all(|one| one.missing_since.is_none()),
            Self::Unknown(_) => false,
        }
    }

    fn lines(&self) -> Vec<String> {
        let all = match self {
            Self::None => return Vec::new(),
            Self::Unknown(e) => {
                return vec![format!("modules: the host does not tell: {}", text::escaped(&e.message))];
            }
            Self::Expected(all) => all,
        };
        let missing = all.iter().filter_map(|one| {
            let since = json::time(one.missing_since?);
            Some(format!(
                "module {}: missing since {since}: {}",
                text::escaped(&one.name),
                text::escaped(&one.why)
            ))
        });
        let missing: Vec<_> = missing.collect();
        if missing.is_empty() {
            vec![format!("modules: all {} that are expected", all.len())]
        } else {
            missing
        }
    }

    fn in_json(&self) -> Value {
        match self {
            Self::None => json!([]),
            Self::Unknown(_) => Value::Null,
            Self::Expected(all) => all
                .iter()
                .map(|one| {
                    let since = one.missing_since.map(json::time);
                    json!({ "name": one.name, "missing_since": since, "why": one.why })
                })
                .collect(),
        }
    }
}

/// The process that speaks gRPC, where it has begun and we may see it.
pub fn gateway(client: &mut Client) -> Option<Process> {
    let all = client.list(List { pattern: Some(GATEWAY.to_owned()), all: true, ..List::default() }).ok()?;
    all.into_iter().find(|p| p.internal)
}

pub fn gateway_json(p: &Process) -> Value {
    json!({ "state": p.state.name(), "pid": p.pid })
}

pub fn gateway_state(gateway: Option<&Process>) -> String {
    let none = || {
        "none; it begins with [grpc] in the configuration, or at the first gRPC connection here".to_owned()
    };
    gateway.map_or_else(none, |p| text::state(p, Timestamp::now()))
}

fn run_reconcile((): (), session: &mut Session) -> Result<u8, Error> {
    let found = session.client()?.health()?.reconciled;
    if session.is_json() {
        session.object(&reconciled(&found));
        return Ok(0);
    }
    session.out.line(&summary(&found));
    for notice in &found.notices {
        session.out.line(&text::escaped(notice));
    }
    for process in &found.processes {
        let label = if process.name.is_empty() { process.id.to_string() } else { process.name.clone() };
        session.out.line(&format!("{label}: {}", text::escaped(&process.what.join(", "))));
    }
    Ok(0)
}

fn is_well(health: &Health) -> bool {
    health.store.state != "degraded"
        && health.store.left_out == 0
        && health.sinks.iter().all(|sink| sink.failing == 0)
}

fn store(s: &Store) -> String {
    let path = text::escaped(&s.path);
    match s.state.as_str() {
        "off" => "store: off, nothing outlives the service".to_owned(),
        "degraded" => {
            let since = s.since.map(json::time).unwrap_or_default();
            let why = text::escaped(&s.why);
            format!("store: degraded since {since}: {why}; {} changes are not recorded", s.unrecorded)
        }
        state => {
            let left_out = match s.left_out {
                0 => String::new(),
                n => format!("; {n} events are not in it, which happened while it could not be written"),
            };
            format!(
                "store: {state}, {path} ({} bytes, log {} bytes, {} events, SQLite {}){left_out}",
                s.bytes, s.wal_bytes, s.events, s.sqlite
            )
        }
    }
}

/// Which limits processes can have; then a line for each reason why not.
fn limits(all: &[Controller]) -> Vec<String> {
    let there: Vec<_> = all.iter().filter(|c| c.trouble.is_empty()).map(|c| c.name.as_str()).collect();
    let there = if there.is_empty() { "none of cgroups".to_owned() } else { there.join(", ") };
    let mut lines = vec![format!("limits: {there}")];
    for c in all.iter().filter(|c| !c.trouble.is_empty()) {
        lines.push(format!(
            "limits: not {}: {} ({})",
            c.name,
            text::escaped(&c.trouble),
            text::escaped(&c.hint)
        ));
    }
    lines
}

fn sink(s: &Sink) -> String {
    let name = text::escaped(&s.name);
    let counts = format!("{} delivered, {} rejected, {} missed", s.delivered, s.rejected, s.missed);
    if s.failing == 0 {
        return format!("sink {name}: works, {} behind, {counts}", s.behind);
    }
    let error = text::escaped(&s.last_error);
    format!("sink {name}: failing ({} attempts), {} behind, {counts}: {error}", s.failing, s.behind)
}

/// `the service began at ...: 3 found, 2 started, 1 lost`.
fn summary(r: &Reconciled) -> String {
    let counts: Vec<_> = counts(r).into_iter().map(|(what, n)| format!("{n} {what}")).collect();
    format!("{} at {}: {}", text::escaped(&r.why), json::time(r.at), counts.join(", "))
}

fn counts(r: &Reconciled) -> Vec<(&'static str, usize)> {
    let count =
        |what: &str| r.processes.iter().filter(|process| process.what.iter().any(|w| w == what)).count();
    let mut counts = vec![("found", r.found as usize)];
    counts.extend(["adopted", "lost", "started", "stopped", "ended", "left"].map(|what| (what, count(what))));
    counts
}

fn reconciled(r: &Reconciled) -> Value {
    let mut object = json!({ "at": json::time(r.at), "why": r.why });
    for (what, n) in counts(r) {
        object[what] = n.into();
    }
    let process = |f: &crate::wire::health::RestoredProcess| json!({ "id": f.id.to_string(), "name": f.name, "what": f.what });
    object["processes"] = r.processes.iter().map(process).collect();
    object["notices"] = r.notices.clone().into();
    object
}

fn in_json(health: &Health) -> Value {
    let s = &health.store;
    let sink = |s: &Sink| {
        json!({
            "name": s.name, "seq": s.seq, "behind": s.behind, "delivered": s.delivered, "rejected": s.rejected,
            "missed": s.missed, "failing": s.failing, "last_error": s.last_error,
            "last_error_at": s.last_error_at.map(json::time),
        })
    };
    let controller = |c: &Controller| json!({ "name": c.name, "trouble": c.trouble, "hint": c.hint });
    json!({
        "store": {
            "state": s.state, "path": s.path, "why": s.why, "since": s.since.map(json::time),
            "unrecorded": s.unrecorded, "left_out": s.left_out, "bytes": s.bytes, "wal_bytes": s.wal_bytes,
            "events": s.events, "sqlite": s.sqlite,
        },
        "sinks": health.sinks.iter().map(sink).collect::<Vec<_>>(),
        "controllers": health.controllers.iter().map(controller).collect::<Vec<_>>(),
        "reconciled": reconciled(&health.reconciled),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_told_and_is_not_well() {
        let mut health = Health::default();
        health.store.state = "sound".into();
        assert!(is_well(&health));
        health.sinks.push(Sink {
            name: "audit".into(),
            failing: 2,
            last_error: "disk full".into(),
            ..Sink::default()
        });
        assert!(!is_well(&health));
        assert!(sink(&health.sinks[0]).contains("failing (2 attempts)"));
        health.sinks.clear();
        health.store =
            Store { state: "degraded".into(), why: "no room".into(), unrecorded: 3, ..Store::default() };
        assert!(!is_well(&health));
        assert!(store(&health.store).contains("no room; 3 changes"));
    }

    #[test]
    fn limits_that_cannot_be_are_told_with_the_reason() {
        let of = |name: &str, trouble: &str| Controller {
            name: name.into(),
            trouble: trouble.into(),
            hint: "boot otherwise".into(),
        };
        let all = [of("memory", ""), of("cpu", ""), of("io", "it is not here")];
        assert_eq!(limits(&all), ["limits: memory, cpu", "limits: not io: it is not here (boot otherwise)"]);
        assert_eq!(limits(&all[2..])[0], "limits: none of cgroups");
    }

    #[test]
    fn a_module_that_is_missing_is_not_well() {
        let one = |name: &str, missing_since, why: &str| ModuleExpectation {
            name: name.into(),
            missing_since,
            why: why.into(),
        };
        let there = Modules::Expected(vec![one("a.b", None, "")]);
        assert!(there.is_well() && there.lines() == ["modules: all 1 that are expected"]);
        let missing = Modules::Expected(vec![
            one("a.b", None, ""),
            one("a.c", Some(Timestamp(0)), "nobody has registered it"),
        ]);
        assert!(!missing.is_well());
        let line = "module a.c: missing since 1970-01-01T00:00:00.000Z: nobody has registered it";
        assert_eq!(missing.lines(), [line]);
        let unknown = Modules::Unknown(Error::new(Code::Failed, "x"));
        assert!(!unknown.is_well() && unknown.in_json().is_null() && Modules::None.is_well());
    }
}

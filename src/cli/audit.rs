//! `provost audit`: who asked for what.

use std::fs;

use serde_json::json;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::json;
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::since::Begin;
use crate::cli::text;
use crate::wire::audit::{AuditLine, AuditLog};
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::time::Timestamp;

pub const COMMAND: Command =
    Command::new("audit", SUMMARY, HELP, |arguments| job(parse(arguments)?, run)).takes(Positional::Targets);
const SUMMARY: &str = "Show who asked for what, and what came of it";
const HELP: &str = "\
Usage: provost audit [OPTIONS] [WORD]

A line for every command that changes something or reads output or the environment, over either listener,
and for every refusal and failed login: number, time, who asked, what for, and what came of it. Refusals
that repeat are counted in the line of the first: --since TIME and --limit go by the last, --since NUMBER
leaves out what is counted further up. What update and scale read first is refused as that. Who is turned
away unknown, with a revoked certificate or as a local user without a role, is in 'provost output
provost.gateway' at most, and what changes files alone, as user and cert do, is nowhere. With WORD, only
lines that hold it: a process, a user. It is kept for 90 days ([history] keep_audit).

Options:
      --since WHERE          Lines after this number, or from a time on: 10m ago, 2026-01-31T12:00:00Z;
                             else all that are kept
  -n, --limit N              Only the last N of them

Examples:
  provost audit
  provost audit --since 1d
  provost audit --limit 5 web
";

#[derive(Debug, PartialEq, Eq)]
struct AuditArgs {
    begin: Begin,
    limit: Option<usize>,
    word: Option<String>,
}

fn parse(arguments: &mut Arguments) -> Result<AuditArgs, Error> {
    let (mut since, mut limit) = (Begin::After(0), None);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--since" => since = Begin::parse(&option, &arguments.value(&option)?)?,
            "--limit" | "-n" => limit = Some(arguments.number(&option)?),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    let word = arguments.next_value();
    arguments.no_values().map(|()| AuditArgs { begin: since, limit, word })
}

fn run(AuditArgs { begin, limit, word }: AuditArgs, session: &mut Session) -> Result<u8, Error> {
    if let Some(name) = session.remote.user.as_deref().filter(|_| !session.remote.is_whole()) {
        let e = Error::usage("--user is who we are to another machine, and goes with -H or --host");
        return Err(
            e.hint(format!("what {name} has asked for: provost audit {}", quoted(name).trim_matches('\'')))
        );
    }
    // Who asks on this machine stands there by number.
    let local = if session.remote.is_given() { None } else { word.as_deref().and_then(uid_of) };
    let is_meant = |line: &AuditLine| word.as_ref().is_none_or(|word| holds(line, word, local));
    let (mut since, from) = match begin {
        Begin::After(seq) => (seq, Timestamp(0)),
        Begin::At(at) => (0, at),
        Begin::Now => (0, Timestamp::now()),
    };
    let mut client = session.client()?;
    // Those that may be the last ones.
    let mut kept = Vec::new();
    loop {
        let lines = client.audit(AuditLog { since, max: 0 })?;
        let Some(last) = lines.last() else { break };
        since = last.seq;
        let is_wanted = |line: &AuditLine| line.last_at() >= from && is_meant(line);
        let wanted = lines.into_iter().filter(is_wanted);
        match limit {
            None => wanted.for_each(|line| tell(&line, session)),
            Some(limit) => {
                kept.extend(wanted);
                kept.sort_by_key(AuditLine::last_at);
                kept.drain(..kept.len().saturating_sub(limit));
            }
        }
        if session.out.is_broken() {
            return Ok(0);
        }
    }
    kept.iter().for_each(|line| tell(line, session));
    Ok(0)
}

/// Whether a line is about this word. `uid`: of whom it is the name.
fn holds(line: &AuditLine, word: &str, uid: Option<u32>) -> bool {
    // The number of a program is meant only by who says so.
    let who = line.who.split(" pid ").next().filter(|_| !word.contains("pid")).unwrap_or(&line.who);
    line.what.contains(word) || who.contains(word) || uid.is_some_and(|uid| who == format!("uid {uid}"))
}

/// The number of a user of this machine.
fn uid_of(name: &str) -> Option<u32> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = text.lines().map(|line| line.split(':'));
    let mut user = fields.find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    user.nth(1)?.parse().ok()
}

fn tell(line: &AuditLine, session: &mut Session) {
    session.answer(|| object(line), || text::escaped(&sentence(line)).into_owned());
}

fn object(line: &AuditLine) -> serde_json::Value {
    let AuditLine { seq, at, who, what, result } = line;
    json!({ "seq": seq, "at": json::time(*at), "who": who, "what": what, "result": result })
}

fn sentence(line: &AuditLine) -> String {
    let result = line.result.as_deref().unwrap_or("under way, or its engine ended before it was");
    format!("{} {} {}: {}: {result}", line.seq, json::time(line.at), line.who, line.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_user_and_no_program() {
        let who = "uid 1002 pid 731";
        let line = AuditLine {
            seq: 1,
            at: Timestamp(1),
            who: who.into(),
            what: "stop web".into(),
            result: Some("done".into()),
        };
        assert!(["1002", "uid 1002", "web", "pid 731", who].iter().all(|word| holds(&line, word, None)));
        assert!(
            !holds(&line, "731", None) && !holds(&line, "ann", Some(1000)) && holds(&line, "ann", Some(1002))
        );
    }

    #[test]
    fn a_line_tells_all() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        let args =
            |begin, limit, word: Option<&str>| Ok(AuditArgs { begin, limit, word: word.map(str::to_owned) });
        assert_eq!(parsed("--since 12"), args(Begin::After(12), None, None));
        assert_eq!(parsed("-n 3 web"), args(Begin::After(0), Some(3), Some("web")));
        assert!(parsed("web db").is_err());
        assert_eq!((uid_of("root"), uid_of("nobody-of-that-name")), (Some(0), None));
        let who = "uid 0 pid 5".to_owned();
        let mut line = AuditLine { seq: 3, at: Timestamp(1), who, what: "stop web".into(), result: None };
        assert!(sentence(&line).contains("uid 0 pid 5: stop web: under way"));
        line.result = Some("done".into());
        assert_eq!(sentence(&line), "3 1970-01-01T00:00:00.001Z uid 0 pid 5: stop web: done");
        assert_eq!(object(&line)["result"], "done");
    }
}

//! `provost audit`: who asked for what.

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
use crate::wire::time::Timestamp;

pub const COMMAND: Command =
    Command::new("audit", SUMMARY, HELP, |arguments| job(parse(arguments)?, run)).takes(Positional::Nothing);
const SUMMARY: &str = "Show who asked for what, and what came of it";
const HELP: &str = "\
Usage: provost audit [OPTIONS]

A line for every command that changes something or reads output or the environment, over either listener,
and for every refusal and failed login: number, time, who asked, what for, and what came of it. Refusals
that repeat are counted in one line. It is kept for 90 days ([history] keep_audit).

Options:
      --since WHERE          Lines after this number, or from a time on: 10m ago, 2026-01-31T12:00:00Z;
                             else all that are kept

Examples:
  provost audit
  provost audit --since 1d
";

fn parse(arguments: &mut Arguments) -> Result<Begin, Error> {
    let mut since = Begin::After(0);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--since" => since = Begin::parse(&option, &arguments.value(&option)?)?,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    arguments.no_values().map(|()| since)
}

fn run(begin: Begin, session: &mut Session) -> Result<u8, Error> {
    let (mut since, from) = match begin {
        Begin::After(seq) => (seq, Timestamp(0)),
        Begin::At(at) => (0, at),
        Begin::Now => (0, Timestamp::now()),
    };
    let mut client = session.client()?;
    loop {
        let lines = client.audit(AuditLog { since, max: 0 })?;
        let Some(last) = lines.last() else { return Ok(0) };
        since = last.seq;
        for line in lines.iter().filter(|line| line.at >= from) {
            session.answer(|| object(line), || text::escaped(&sentence(line)).into_owned());
        }
        if session.out.is_broken() {
            return Ok(0);
        }
    }
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
    fn a_line_tells_all() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        assert_eq!(parsed("--since 12"), Ok(Begin::After(12)));
        assert!(parsed("web").is_err());
        let who = "uid 0 pid 5".to_owned();
        let mut line = AuditLine { seq: 3, at: Timestamp(1), who, what: "stop web".into(), result: None };
        assert!(sentence(&line).contains("uid 0 pid 5: stop web: under way"));
        line.result = Some("done".into());
        assert_eq!(sentence(&line), "3 1970-01-01T00:00:00.001Z uid 0 pid 5: stop web: done");
        assert_eq!(object(&line)["result"], "done");
    }
}

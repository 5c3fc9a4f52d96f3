//! `provost version`: of this program, and of the service if there is one.

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::doctor;
use crate::cli::json;
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::text;
use crate::wire::error::Error;
use crate::wire::reply::Service;
use crate::wire::request::CHANNEL_VERSION;
use crate::wire::time::Timestamp;

pub const COMMAND: Command = Command::new("version", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .takes(Positional::Nothing);
const SUMMARY: &str = "Show the versions of this program and of the service";
const HELP: &str = "\
Usage: provost version

A service that is not reachable is no failure here.

Examples:
  provost version
";

fn parse(arguments: &mut Arguments) -> Result<(), Error> {
    arguments.nothing()
}

fn run((): (), session: &mut Session) -> Result<u8, Error> {
    let asked = session.client().and_then(|mut client| {
        let service = client.service()?;
        Ok((service, doctor::gateway(&mut client)))
    });
    let (service, gateway) = match asked {
        Ok((service, gateway)) => (Ok(service), gateway),
        Err(e) => (Err(e), None),
    };
    let version = env!("CARGO_PKG_VERSION");
    if session.is_json() {
        let object = serde_json::json!({
            "version": version,
            "channel": CHANNEL_VERSION,
            "service": service.as_ref().ok().map(json::service),
            "gateway": gateway.as_ref().map(doctor::gateway_json),
            "error": service.as_ref().err().map(json::error),
        });
        session.object(&object);
        return Ok(0);
    }
    session.out.line(&format!("provost {version}"));
    let is_there = service.is_ok();
    let about = match service {
        Ok(service) => describe(&service),
        Err(e) => e.message,
    };
    session.out.line(&format!("service: {}", text::escaped(&about)));
    if is_there {
        session.out.line(&format!("gateway: {}", doctor::gateway_state(gateway.as_ref())));
    }
    Ok(0)
}

fn describe(s: &Service) -> String {
    let plural = if s.processes == 1 { "process" } else { "processes" };
    let keeper = if s.keeper_version.is_empty() || s.keeper_version == s.version {
        String::new()
    } else {
        format!(" (keeper {})", s.keeper_version)
    };
    format!(
        "provost {}{keeper}, up for {}, keeper pid {}, engine pid {} (start {}), {} {plural}, {} running, cgroups {}",
        s.version,
        text::age(s.started_at, Timestamp::now()),
        s.keeper_pid,
        s.engine_pid,
        s.engine_starts,
        s.processes,
        s.running,
        if s.cgroups { "on" } else { "off" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_nothing_to_say() {
        assert!(parse(&mut Arguments::of("")).is_ok());
        assert!(parse(&mut Arguments::of("x")).is_err());
    }
}

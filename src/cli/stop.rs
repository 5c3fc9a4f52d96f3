//! `provost stop`: ends processes, and says so when nothing of them is left.

use crate::cli::arguments::Arguments;
use crate::cli::batch::{Expectation, in_order, report};
use crate::cli::command::{Command, job};
use crate::cli::others::tell_followers;
use crate::cli::progress::{Progress, Until as Wanted};
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::text;
use crate::cli::values;
use crate::wire::error::Error;
use crate::wire::process::Process;
use crate::wire::request::Stop;
use crate::wire::time::Timestamp;

pub const COMMAND: Command =
    Command::new("stop", SUMMARY, HELP, |arguments| job(parse(arguments)?, run)).writes();
const SUMMARY: &str = "Stop processes with all they started; done when nothing is left";
const HELP: &str = "\
Usage: provost stop [OPTIONS] TARGET...

Sends the stop signal, waits for the grace period, then kills what is left. Several targets are
stopped in parallel. What is stopped already is no failure. What was stopped stays so, also when the service
begins anew, until it is started. Exit code 3: it did not stop.

Options:
      --timeout D            Grace period, instead of the process's own
      --signal SIG           Stop signal, instead of the process's own
      --scope S              Whom it reaches: tree, mixed, group or leader
      --no-kill              At the end of the grace period leave it running
      --keep-schedule        Of what has a schedule end the run alone: the next one comes at its time

Examples:
  provost stop web
  provost stop --timeout 30s 'worker-*'
  provost stop --signal INT --no-kill web
  provost stop --keep-schedule nightly
";

fn parse(arguments: &mut Arguments) -> Result<Stop, Error> {
    let mut stop = Stop::default();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--timeout" => stop.timeout = Some(values::stop_timeout(&option, &arguments.value(&option)?)?),
            "--signal" => stop.signal = Some(values::signal(&arguments.value(&option)?)?),
            "--scope" => stop.scope = Some(values::stop_scope(&option, &arguments.value(&option)?)?),
            "--no-kill" => stop.no_kill = true,
            "--keep-schedule" => stop.keep_schedule = true,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    stop.targets = arguments.targets()?;
    Ok(stop)
}

fn run(mut stop: Stop, session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client_for(&mut stop.targets)?;
    let (targets, keeps_schedule) = (stop.targets.clone(), stop.keep_schedule);
    let progress = Progress::begin(session, &targets, Wanted::AtRest);
    let items = in_order(client.stop(stop)?, &targets);
    drop(progress);
    let now = Timestamp::now();
    let counts = report(session, &items, |p| {
        let line = text::state(p, now);
        if p.state.is_at_rest() { Expectation::Yes(line) } else { Expectation::No(line) }
    });
    tell_followers(session, &mut client, &items, None);
    if !keeps_schedule && !session.is_json() {
        let stopped =
            items.iter().filter(|item| item.error.is_none()).filter_map(|item| item.process.as_ref());
        for label in stopped.filter(|p| p.schedule.is_on() && p.state.is_at_rest()).map(Process::label) {
            stdout::notice(&format!(
                "{label} does not run by its schedule until 'provost start {label}'; --keep-schedule ends a run alone"
            ));
        }
    }
    let is_all = targets.iter().any(|target| target == "*");
    if is_all && counts.exit_code() == 0 && session.out.is_terminal() {
        stdout::notice("they stay stopped, also when the service begins anew: provost start all");
    }
    Ok(counts.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::spec::Scope;
    use std::time::Duration;

    #[test]
    fn options_are_read() {
        let line = "web --timeout 3s --signal HUP --scope group --no-kill api";
        let stop = parse(&mut Arguments::of(line)).unwrap();
        assert_eq!(stop.targets, ["web", "api"]);
        assert_eq!((stop.timeout, stop.signal), (Some(Duration::from_secs(3)), Some(1)));
        assert_eq!((stop.scope, stop.no_kill), (Some(Scope::Group), true));
    }

    #[test]
    fn a_target_is_needed_and_checked() {
        assert!(parse(&mut Arguments::of("")).is_err());
        assert!(parse(&mut Arguments::of("../x")).is_err());
    }
}

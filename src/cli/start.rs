//! `provost start`: a new process, or what was stopped again.

use std::collections::HashMap;
use std::time::Duration;

use crate::cli::applied;
use crate::cli::arguments::Arguments;
use crate::cli::batch::{Counts, in_order, judge, report_states, tell_late};
use crate::cli::command::{Command, job};
use crate::cli::json;
use crate::cli::manual::Positional;
use crate::cli::progress::{Progress, Until as Wanted};
use crate::cli::session::Session;
use crate::cli::spec_options::SpecOptions;
use crate::cli::stdout;
use crate::cli::suggest;
use crate::cli::text;
use crate::cli::values;
use crate::client::Client;
use crate::wire::error::{Code, Error};
use crate::wire::id::{ProcessId, quoted};
use crate::wire::process::{Process, State};
use crate::wire::reply::Item;
use crate::wire::request::{Numbering, Start, Until, Wait};
use crate::wire::spec::{INSTANCES_MAX, Spec};
use crate::wire::time::Timestamp;

pub const COMMAND: Command = Command::new("start", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .writes()
    .takes(Positional::ProgramOrTargets);
const SUMMARY: &str = "Start a new process, or start again what is stopped";
const HELP: &str = "\
Usage: provost start [OPTIONS] -- PROGRAM [ARG...]
       provost start [--wait[=WHAT]] [--timeout D] TARGET...

With --, a new process: prints its UUID, or one for each instance. Without, the targets are started
again, and jobs that have a schedule run now. There is no shell in between, unless --shell asks for one.

Options:
      --instances N          Start N of it, named NAME-1 to NAME-N: all or none
      --wait[=WHAT]          Wait until it is ready, which it is at once where no readiness is given; with
                             =running until the program executes
      --timeout D            How long to wait, else for ever; the process goes on then (exit code 5)

Examples:
  provost start --name web --restart always --ready-tcp 8000 --wait -- python3 -m http.server 8000
  provost start --name worker --instances 3 -- sleep 1000
  provost start web 'worker-*'
";

struct StartArgs {
    what: What,
    until: Option<Until>,
    timeout: Option<Duration>,
}

enum What {
    New { spec: Box<Spec>, instances: Option<u32> },
    Again(Vec<String>),
}

fn parse(arguments: &mut Arguments) -> Result<StartArgs, Error> {
    let program = arguments.take_program();
    let mut options = SpecOptions::new();
    let (mut instances, mut until, mut timeout) = (None, None, None);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--instances" => instances = Some(arguments.number(&option)?),
            "--wait" => until = Some(values::until_up(arguments.glued_value().as_deref())?),
            "--timeout" => timeout = Some(arguments.duration(&option)?),
            _ if options.take(&option, arguments)? => {}
            _ if program.is_none() => return Err(suggest::dashes(arguments, &option)),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    if timeout.is_some() && until.is_none() {
        return Err(arguments.usage("--timeout says how long to wait, but --wait is missing".into()));
    }
    let what = match program {
        Some(program) => {
            if let Some(value) = arguments.next_value() {
                return Err(before_the_dashes(&value));
            }
            if instances.is_some_and(|n| !(1..=INSTANCES_MAX).contains(&n)) {
                return Err(Error::usage(format!("--instances is outside 1 to {INSTANCES_MAX}")));
            }
            let spec = options.finish(program)?;
            if spec.schedule.is_on() && until.is_some() {
                return Err(Error::usage(
                    "--wait has nothing to wait for: what has a schedule runs at its time",
                )
                .hint("'provost start TARGET' runs it at once, too"));
            }
            What::New { spec: Box::new(spec), instances }
        }
        None => {
            if let Some(option) = options.first_seen().or(instances.map(|_| "--instances")) {
                let e = Error::usage(format!("option {option} is for a new process, but there is no --"));
                let values = arguments.values();
                return Err(e.hint(match &values[..] {
                    [] => format!("write: provost start {option} ... -- PROGRAM"),
                    [line] if line.contains(char::is_whitespace) => {
                        let line = text::quoted_command(&values);
                        format!("write: provost start {option} ... --shell -- {line}")
                    }
                    [target, ..] => {
                        let program = text::quoted_command(&values);
                        let changed = format!("one that there is: provost update {option} ... {target}");
                        format!("write: provost start {option} ... -- {program}; {changed}")
                    }
                }));
            }
            let targets = arguments.targets();
            let targets = targets.map_err(|e| match arguments.first_value() {
                Some(program) if arguments.has_path() => {
                    e.hint(suggest::with_dashes(arguments, "start", program))
                }
                _ => e,
            })?;
            if until.is_some() {
                values::only_processes(&targets)?;
            }
            What::Again(targets)
        }
    };
    Ok(StartArgs { what, until, timeout })
}

fn before_the_dashes(value: &str) -> Error {
    Error::usage(format!("{} stands before --, where only options do", quoted(value)))
        .hint("a new process: provost start [OPTIONS] -- PROGRAM [ARG...]; again what is stopped: provost start TARGET...")
}

fn run(args: StartArgs, session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client()?;
    let is_waited_for = args.until.is_some();
    let is_new = matches!(args.what, What::New { .. });
    let (mut counts, started) = match args.what {
        What::New { spec, instances } => {
            let items = start_new(&mut client, *spec, instances, session)?;
            tell_new(&items, is_waited_for, session)
        }
        What::Again(mut targets) => {
            client = session.client_for(&mut targets)?;
            let items = start_again(&mut client, targets, session)?;
            let (failed, started): (Vec<Item>, Vec<Item>) =
                items.into_iter().partition(|i| i.error.is_some());
            let now = if is_waited_for { failed } else { [failed, started.clone()].concat() };
            (report_states(session, &now), ids_of(&started))
        }
    };
    applied::notice(session);
    let Some(until) = args.until.filter(|_| !started.is_empty()) else { return Ok(counts.exit_code()) };
    // The UUIDs are known from here on, whatever the wait brings.
    session.out.flush();
    let progress = Progress::begin(session, &started, Wanted::Ready);
    let mut waited = client.wait(Wait { targets: started.clone(), until, timeout: args.timeout })?;
    drop(progress);
    tell_late(&mut waited, until, args.timeout);
    let waited = in_order(waited, &started);
    let of_waited = if is_new && !session.is_json() {
        let mut of_waited = Counts::default();
        waited.iter().for_each(|item| {
            if judge(item, &mut of_waited).is_some() {
                of_waited.done();
            }
        });
        of_waited
    } else {
        report_states(session, &waited)
    };
    match of_waited.exit_code() {
        0 => Ok(counts.exit_code()),
        code if counts.exit_code() == 0 => Ok(code),
        _ => {
            counts.failed(Code::Failed);
            Ok(counts.exit_code())
        }
    }
}

fn start_new(
    client: &mut Client,
    spec: Spec,
    instances: Option<u32>,
    session: &Session,
) -> Result<Vec<Item>, Error> {
    let ids: Vec<ProcessId> = (0..instances.unwrap_or(1)).map(|_| ProcessId::new()).collect();
    let numbering = if instances.is_some() { Numbering::Numbered } else { Numbering::Single };
    let command = spec.command.clone();
    let at_rest = if session.is_json() { Vec::new() } else { needed_at_rest(client, &spec) };
    let mut items =
        client.start(Start { spec, ids, numbering }).map_err(|e| suggest::shell(e, "start", &command))?;
    for label in at_rest.iter().filter(|_| items.iter().any(|item| item.error.is_none())) {
        stdout::notice(&format!("{label} did not run, and is started with it"));
    }
    for item in &mut items {
        item.error = item.error.take().map(|e| suggest::shell(e, "start", &command));
    }
    Ok(items)
}

/// What it needs and what has to be started for that. Not who is in a group: that is not known here; and a
/// job whose work is done stays so.
fn needed_at_rest(client: &mut Client, spec: &Spec) -> Vec<String> {
    let needs = spec.needs.requires.iter().chain(&spec.needs.wants).filter(|name| !name.starts_with('@'));
    let needs: Vec<_> = needs.cloned().collect();
    if needs.is_empty() || spec.schedule.is_on() {
        return Vec::new();
    }
    let rests = |p: &Process| p.state.is_at_rest() && p.exit.is_none_or(|exit| exit.shell_code() != 0);
    let processes = client.status(needs).unwrap_or_default().into_iter().filter_map(|item| item.process);
    processes.filter(rests).map(|process| process.label()).collect()
}

/// Tells the UUIDs of those that were started; as JSON, the state of one that is waited for comes after that.
fn tell_new(items: &[Item], is_waited_for: bool, session: &mut Session) -> (Counts, Vec<String>) {
    let (mut counts, mut started) = (Counts::default(), Vec::new());
    for item in items {
        if session.is_json() && (item.error.is_some() || !is_waited_for) {
            session.object(&json::item(item));
        }
        let Some(process) = judge(item, &mut counts) else { continue };
        counts.done();
        started.push(process.id.to_string());
        if !session.is_json() {
            session.out.line(&process.id.to_string());
        }
    }
    (counts, started)
}

fn start_again(client: &mut Client, targets: Vec<String>, session: &mut Session) -> Result<Vec<Item>, Error> {
    let command = format!("provost start -- {}", text::quoted_command(&targets));
    let before = if session.is_json() { Vec::new() } else { client.status(targets.clone())? };
    let mut items = in_order(client.start_again(targets.clone())?, &targets);
    let after: HashMap<_, _> =
        items.iter().filter_map(|item| item.process.as_ref()).map(|p| (p.id, p)).collect();
    for then in before.iter().filter_map(|item| item.process.as_ref()) {
        let Some(now) = after.get(&then.id) else { continue };
        if [then.state, now.state] == [State::Running; 2] && then.run == now.run {
            stdout::notice(&format!("{} is running already: nothing was started", now.label()));
        }
        if let Some(at) = now.next_run_at.filter(|_| then.is_suspended()) {
            let next = text::until(at, Timestamp::now());
            stdout::notice(&format!("{} runs by its schedule again, next in {next}", now.label()));
        }
    }
    items = suggest::better_items(session, &items);
    for e in items.iter_mut().filter_map(|item| item.error.as_mut()).filter(|e| e.code == Code::NotFound) {
        let hint = e.hint.split("; to start").next().unwrap_or_default();
        e.hint = format!("{hint}; to start a new one: {command}");
    }
    Ok(items)
}

fn ids_of(items: &[Item]) -> Vec<String> {
    items
        .iter()
        .filter(|i| i.error.is_none())
        .filter_map(|i| Some(i.process.as_ref()?.id.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<StartArgs, Error> {
        parse(&mut Arguments::of(line))
    }

    #[test]
    fn two_dashes_decide() {
        assert!(matches!(parsed("web-* api").unwrap().what, What::Again(t) if t == ["web-*", "api"]));
        let new = parsed("--name web --instances 3 -- sleep 9").unwrap();
        assert!(matches!(new.what, What::New { instances: Some(3), spec } if spec.command == ["sleep", "9"]));
    }

    #[test]
    fn waiting_is_for_ready() {
        let until = |line| parsed(line).unwrap().until;
        assert_eq!((until("-- a"), until("a")), (None, None));
        assert_eq!((until("--wait -- a"), until("--wait a")), (Some(Until::Ready), Some(Until::Ready)));
        assert_eq!(until("--wait=running --ready-line up -- a"), Some(Until::Running));
    }

    #[test]
    fn what_is_written_wrongly_is_explained() {
        let hint = |line| parsed(line).err().unwrap().hint;
        assert!(hint("--name web sleep 9").contains("-- sleep 9"));
        assert!(hint("python3 /srv/worker.py").contains("provost start -- python3 /srv/worker.py"));
        assert!(hint("--wait 15 web").contains("--timeout 15"));
        assert!(hint("web --wait ready").contains("--wait=ready"));
        assert!(hint("./x").contains("provost start -- ./x") && hint("web:*").contains("'web-*'"));
        assert!(hint("sleep -- 9").contains("provost start [OPTIONS] --"));
        assert!(parsed("--timeout 3s -- a").is_err());
        assert!(parsed("--instances 0 -- a").is_err());
        assert!(parsed("--wait=soon -- a").is_err());
        assert!(parsed("--schedule @daily -- a").is_ok());
        assert!(hint("--schedule @daily --wait -- a").contains("provost start TARGET"));
    }
}

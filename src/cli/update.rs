//! `provost update`: a process that is there is run in another way.

use serde_json::{Map, Value};

use crate::cli::arguments::Arguments;
use crate::cli::batch::{Counts, judge};
use crate::cli::command::{Command, job};
use crate::cli::json;
use crate::cli::manual::Positional;
use crate::cli::plan::{Difference, differences, is_job};
use crate::cli::session::Session;
use crate::cli::spec_options::SpecOptions;
use crate::cli::stdout;
use crate::cli::text;
use crate::wire::error::Error;
use crate::wire::field::{Effect, Field};
use crate::wire::field_values;
use crate::wire::fields::{self, FIELDS};
use crate::wire::id::quoted;
use crate::wire::process::{Process, State};
use crate::wire::reply::Definition;
use crate::wire::request::{OutdatedRun, Update};
use crate::wire::spec::Spec;
use crate::wire::time::Timestamp;
use crate::wire::values::closest;

pub const COMMAND: Command = Command::new("update", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .writes()
    .takes(Positional::ProgramOrTargets);
const SUMMARY: &str = "Change how processes are run, and restart those that need it";
const HELP: &str = "\
Usage: provost update [OPTIONS] TARGET... [-- PROGRAM [ARG...]]

Each keeps its UUID, its name, its history and its output. What is not said stays as it is: a variable,
a label or a limit is added to those that there are, or takes the place of the one of its name. Labels,
autostart and the rules for restart, stop and readiness hold at once, but a run that is ready stays so.
Everything else holds from the next run on, and so restarts what runs, but not the run of a job that has a
schedule; that is said before it is done. What cannot be run changes nothing.

Options:
      --no-restart           Leave the run as it is: it is outdated until it ends
      --dry-run              Say what would change, and change nothing
      --unset-env KEY        Take a variable out; may be repeated
      --unset FIELD          As by default again: any name that 'provost show' has; may be repeated

Examples:
  provost update --env LEVEL=debug web
  provost update --restart always --no-restart 'worker-*'
  provost update web -- python3 -m http.server 8001
";

struct UpdateArgs {
    targets: Vec<String>,
    /// The options of the new definition that were given.
    options: Vec<String>,
    /// Their values.
    values: Box<Spec>,
    unset_env: Vec<String>,
    unset: Vec<&'static Field>,
    outdated: OutdatedRun,
    is_dry: bool,
}

fn parse(arguments: &mut Arguments) -> Result<UpdateArgs, Error> {
    let program = arguments.take_program();
    let mut given = SpecOptions::new();
    let (mut unset_env, mut unset) = (Vec::new(), Vec::new());
    let (mut outdated, mut is_dry) = (OutdatedRun::Restart, false);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--no-restart" => outdated = OutdatedRun::Continue,
            "--dry-run" => is_dry = true,
            "--unset-env" => unset_env.push(arguments.value(&option)?),
            "--unset" => unset.push(unsettable(&arguments.value(&option)?)?),
            "--name" => {
                let e = Error::usage("a process keeps its name: it cannot be changed");
                return Err(e.hint("remove it, and start it under the other name"));
            }
            _ if given.take(&option, arguments)? => {}
            _ => return Err(arguments.unknown(&option)),
        }
    }
    let (options, values) = given.changes(program)?;
    let targets =
        arguments.targets().map_err(|e| match arguments.values().iter().find_map(|v| v.split_once('=')) {
            Some((key, value)) => {
                e.hint(format!("what changes is an option: --{} {value}", key.replace('_', "-")))
            }
            None => e,
        })?;
    if options.is_empty() && unset.is_empty() && unset_env.is_empty() && !arguments.shared.help {
        return Err(arguments.usage("nothing is said that could change".into()));
    }
    Ok(UpdateArgs { targets, options, values: Box::new(values), unset_env, unset, outdated, is_dry })
}

fn unsettable(key: &str) -> Result<&'static Field, Error> {
    let key = key.replace('-', "_");
    let others = || FIELDS.iter().map(|field| field.key).filter(|key| *key != "command");
    let known = fields::field(&key).filter(|field| field.key != "command");
    known.ok_or_else(|| {
        let e = Error::usage(format!("there is no field {} that could be unset", quoted(&key)));
        e.hint(match closest(&key, others()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("fields are {}", others().collect::<Vec<_>>().join(", ")),
        })
    })
}

fn run(mut args: UpdateArgs, session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client_for(&mut args.targets)?;
    let mut counts = Counts::default();
    for Definition { process, spec: before } in client.definitions(args.targets.clone())? {
        let after = changed(&args, &before)?;
        let plan = Plan::new(&args, &process, &before, &after);
        if !session.is_json() {
            plan.lines(&process, &before, &after).iter().for_each(|line| session.out.line(line));
            // Before it is done.
            session.out.flush();
        }
        if args.is_dry {
            counts.done();
            if session.is_json() {
                session.object(&plan.json(json::process(&process)));
            }
            continue;
        }
        if before.declared && !plan.changed.is_empty() && !session.is_json() {
            let label = process.label();
            stdout::notice(&format!(
                "{label} is declared: the next 'provost apply' has it be as its section says"
            ));
        }
        let outdated = if is_job(&before, &after) { OutdatedRun::Continue } else { args.outdated };
        let update = Update { target: process.id.to_string(), spec: after, outdated };
        for item in client.update(update)? {
            if session.is_json() {
                session.object(&plan.json(json::item(&item)));
            }
            let Some(process) = judge(&item, &mut counts) else { continue };
            counts.done();
            if !session.is_json() {
                let state = text::state(process, Timestamp::now());
                session.out.line(&format!("{}: {state}", process.label()));
            }
        }
    }
    Ok(counts.exit_code())
}

/// What an update means for one process.
struct Plan {
    changed: Vec<&'static Field>,
    restarts: bool,
}

impl Plan {
    fn new(args: &UpdateArgs, process: &Process, before: &Spec, after: &Spec) -> Self {
        let changed = fields::changed(before, after);
        let is_outdated = process.outdated || changed.iter().any(|field| field.effect == Effect::NextRun);
        let runs = matches!(process.state, State::Starting | State::Running);
        let is_cut_off = args.outdated == OutdatedRun::Restart && !is_job(before, after);
        Self { restarts: is_outdated && runs && is_cut_off, changed }
    }

    fn lines(&self, process: &Process, before: &Spec, after: &Spec) -> Vec<String> {
        let label = process.label();
        let what = match (self.changed.is_empty(), self.restarts) {
            (true, false) => format!("{label}: nothing changes"),
            (true, true) => format!("{label}: nothing changes, but its run is outdated: it is restarted"),
            (false, true) => format!("{label}: changes, and is restarted"),
            (false, false) => format!("{label}: changes"),
        };
        let fields = differences(Some(before), Some(after)).into_iter().map(|d| {
            let [is, is_to_be] = [&d.before, &d.after].map(|value| Difference::cell(value.as_ref()));
            format!("  {}", text::escaped(&format!("{}: {is} -> {is_to_be}", d.field)))
        });
        [what].into_iter().chain(fields).collect()
    }

    fn json(&self, mut object: Value) -> Value {
        object["changed"] = self.changed.iter().map(|field| field.key).collect();
        object["restarts"] = self.restarts.into();
        object
    }
}

/// The definition with what was said.
fn changed(args: &UpdateArgs, before: &Spec) -> Result<Spec, Error> {
    let mut fields = fields::to_map(before);
    let given = fields::to_map(&args.values);
    for option in &args.options {
        let key = key_of(option);
        // There is one measure of readiness, and one of life.
        fields.retain(|other, _| !field_values::alternatives(&key).contains(&other.as_str()));
        match given.get(key.as_str()) {
            Some(value) => drop(fields.insert(key, value.clone())),
            None => drop(fields.shift_remove(&key)),
        }
    }
    for field in &args.unset {
        fields.shift_remove(field.key);
    }
    let mut after = read(&fields)?;
    after.name.clone_from(&before.name);
    // It is a configuration's still, and the next apply shows what is different by now.
    after.declared = before.declared;
    let is_given = |key: &str| args.options.iter().any(|option| key_of(option) == key);
    let is_unset = |key: &str| args.unset.iter().any(|field| field.key == key);
    if is_given("env") && !is_unset("env") {
        after.env = merged(&before.env, &args.values.env);
    }
    if is_given("labels") && !is_unset("labels") {
        after.labels = merged(&before.labels, &args.values.labels);
    }
    if is_given("limits") && !is_unset("limits") {
        let limits = &args.values.rlimits;
        let others = before.rlimits.iter().filter(|l| limits.iter().all(|new| new.resource != l.resource));
        after.rlimits = others.chain(limits).cloned().collect();
    }
    after.env.retain(|(key, _)| !args.unset_env.contains(key));
    after.check()?;
    Ok(after)
}

fn read(fields: &Map<String, Value>) -> Result<Spec, Error> {
    let mut spec = Spec::new([""; 0]);
    for field in FIELDS {
        if let Some(value) = fields.get(field.key) {
            (field.set)(&mut spec, value)
                .map_err(|what| Error::usage(format!("{} takes {what}", field.key)))?;
        }
    }
    Ok(spec)
}

/// A variable takes the place of the one of its name, or comes last.
fn merged(before: &[(String, String)], new: &[(String, String)]) -> Vec<(String, String)> {
    let mut all = before.to_vec();
    for (key, value) in new {
        match all.iter_mut().rev().find(|(other, _)| other == key) {
            Some((_, old)) => value.clone_into(old),
            None => all.push((key.clone(), value.clone())),
        }
    }
    all
}

/// The field that an option is about.
fn key_of(option: &str) -> String {
    match option {
        "-e" | "--env" | "--env-file" => "env".to_owned(),
        "--label" => "labels".to_owned(),
        "--limit" => "limits".to_owned(),
        "--log-field" => "log_fields".to_owned(),
        "--no-expand" => "expand_env".to_owned(),
        "--no-autostart" => "autostart".to_owned(),
        "--shell" => "command".to_owned(),
        "--sha256" => "executable_sha256".to_owned(),
        other => other.trim_start_matches('-').replace('-', "_"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::probes::Readiness;
    use crate::wire::spec::RestartPolicy;

    fn after(line: &str, before: &Spec) -> Result<Spec, Error> {
        changed(&parse(&mut Arguments::of(line))?, before)
    }

    fn web() -> Spec {
        let mut spec = Spec::new(["sleep", "9"]);
        spec.name = Some("web".parse().unwrap());
        spec.env = vec![("A".into(), "1".into()), ("B".into(), "2".into())];
        (spec.nice, spec.ready) = (Some(5), Some(Readiness::Line("up".into())));
        spec
    }

    #[test]
    fn what_is_not_said_stays() {
        let spec = after("web -e A=3 -e C=4 --restart always", &web()).unwrap();
        let mut wanted = web();
        wanted.env = vec![("A".into(), "3".into()), ("B".into(), "2".into()), ("C".into(), "4".into())];
        wanted.restart.policy = RestartPolicy::Always;
        assert_eq!(spec, wanted);
        assert_eq!(after("web --restart never", &wanted).unwrap().restart.policy, RestartPolicy::Never);
        assert_eq!(after("web -- true", &web()).unwrap(), Spec { command: vec!["true".into()], ..web() });
    }

    #[test]
    fn what_is_taken_out_is_as_by_default() {
        let spec = after("web --unset nice --unset-env A --unset ready-line", &web()).unwrap();
        let wanted = Spec { nice: None, ready: None, env: vec![("B".into(), "2".into())], ..web() };
        assert_eq!(spec, wanted);
        assert_eq!(after("web --ready-tcp 80", &web()).unwrap().ready, Some(Readiness::Tcp(80)));
    }

    #[test]
    fn every_option_of_a_definition_is_about_a_field() {
        let about = crate::cli::spec_help::HELP.lines().filter_map(|line| {
            let option = line.split_whitespace().find(|word| word.starts_with("--"))?;
            Some(option.trim_end_matches(','))
        });
        for option in about.filter(|option| !["--name", "--"].contains(option)) {
            assert!(fields::field(&key_of(option)).is_some(), "{option}");
        }
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for line in
            ["web", "--nice 3", "web --name x", "web --unset command", "web --unset nicee", "web --shell"]
        {
            assert!(parse(&mut Arguments::of(line)).is_err(), "{line}");
        }
        assert!(parse(&mut Arguments::of("web --no-restart --unset nice")).is_ok());
    }
}

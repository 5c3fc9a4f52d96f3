//! `provost show` and `provost export`: how processes were defined, as it stands in a configuration file.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::text;
use crate::cli::toml;
use crate::wire::error::Error;
use crate::wire::field_values;
use crate::wire::fields;
use crate::wire::process::Process;
use crate::wire::reply::Definition;
use crate::wire::secrets;
use crate::wire::spec::Spec;

pub const COMMAND: Command = Command::new("show", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Show how processes are defined, and the command that would make them";
const HELP: &str = "\
Usage: provost show [--reveal] TARGET...

Prints a section of a configuration file for each. Values of variables whose names look secret (with
PASSWORD, SECRET, TOKEN, KEY or CREDENTIAL in them) are shown as ***.

Options:
      --reveal               Show those values too

Examples:
  provost show web
";

pub const EXPORT: Command =
    Command::new("export", EXPORT_SUMMARY, EXPORT_HELP, |arguments| job(parse_export(arguments)?, export))
        .takes(Positional::Targets)
        .text_only();
const EXPORT_SUMMARY: &str = "Print all definitions as one configuration file";
const EXPORT_HELP: &str = "\
Usage: provost export [--reveal] [PATTERN]

What has no name is left out, and named in a comment. The members of a set that are alike are one section.
Secret values are shown as by 'provost show'; a file with those *** is refused by 'provost apply'.

Options:
      --reveal               Show secret values too

Examples:
  provost export 'web-*'
";

struct ShowArgs {
    targets: Vec<String>,
    secrets: Secrets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secrets {
    Hidden,
    Shown,
}

fn options(arguments: &mut Arguments) -> Result<Secrets, Error> {
    let mut secrets = Secrets::Hidden;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--reveal" => secrets = Secrets::Shown,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    Ok(secrets)
}

fn parse(arguments: &mut Arguments) -> Result<ShowArgs, Error> {
    let secrets = options(arguments)?;
    Ok(ShowArgs { targets: arguments.targets()?, secrets })
}

fn parse_export(arguments: &mut Arguments) -> Result<ShowArgs, Error> {
    let secrets = options(arguments)?;
    let pattern = arguments.next_value().unwrap_or_else(|| "*".to_owned());
    arguments.no_values()?;
    Ok(ShowArgs { targets: vec![pattern], secrets })
}

fn run(mut args: ShowArgs, session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client_for(&mut args.targets)?;
    for (n, definition) in client.definitions(args.targets)?.into_iter().enumerate() {
        let Definition { process, spec } = shown(definition, args.secrets);
        let command_line = text::quoted_command(&command_line(&spec));
        if session.is_json() {
            session.object(&json!({
                "id": process.id.to_string(),
                "name": process.name.as_ref().map(|n| n.as_str()),
                "outdated": process.outdated,
                "definition": fields::to_map(&spec),
                "command_line": command_line,
            }));
            continue;
        }
        if n > 0 {
            session.out.line("");
        }
        session.out.line(&format!("# {command_line}"));
        session.out.line(toml::section(&["process", &process.label()], &fields::to_map(&spec)).trim_end());
    }
    Ok(0)
}

fn export(args: ShowArgs, session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client()?;
    let pattern = args.targets.first().filter(|pattern| *pattern != "*").cloned();
    let all = client.list(crate::wire::request::List { pattern, all: false, ..Default::default() })?;
    let ids: Vec<_> = all.iter().map(|p| p.id.to_string()).collect();
    let mut definitions = Vec::with_capacity(ids.len());
    // In parts: a request takes so many targets.
    for some in ids.chunks(crate::wire::request::TARGETS_MAX) {
        definitions.extend(client.definitions(some.to_vec())?.into_iter().map(|d| shown(d, args.secrets)));
    }
    let sets = sets(&definitions);
    let set = |process: &Process| set(process).and_then(|name| Some((sets.get(&name)?, name)));
    // A set is there with the first of its members.
    let is_there = |d: &&Definition| d.process.instance == Some(1) || set(&d.process).is_none();
    for (n, Definition { process, spec }) in definitions.iter().filter(is_there).enumerate() {
        if n > 0 {
            session.out.line("");
        }
        if process.name.is_none() {
            let command = text::quoted_command(&process.command);
            session.out.line(&format!("# {} has no name, and is left out: {command}", process.id));
            continue;
        }
        let (mut map, mut name) = (fields::to_map(spec), process.label());
        if let Some((instances, of_set)) = set(process) {
            map.insert("instances".to_owned(), (*instances).into());
            name = of_set;
        }
        session.out.line(toml::section(&["process", &name], &map).trim_end());
    }
    Ok(0)
}

/// How many instances each set has whose members are alike, and of whom none is missing.
fn sets(definitions: &[Definition]) -> BTreeMap<String, usize> {
    let mut members: BTreeMap<String, Vec<&Definition>> = BTreeMap::new();
    for definition in definitions {
        if let Some(name) = set(&definition.process) {
            members.entry(name).or_default().push(definition);
        }
    }
    let is_whole = |members: &[&Definition]| {
        let mut numbers: Vec<_> = members.iter().filter_map(|d| d.process.instance).collect();
        numbers.sort_unstable();
        let first = fields::to_map(&members[0].spec);
        numbers.into_iter().eq(1..=members.len() as u32)
            && members.iter().all(|d| fields::to_map(&d.spec) == first)
    };
    members.retain(|_, members| is_whole(members));
    members.into_iter().map(|(name, members)| (name, members.len())).collect()
}

/// What it is an instance of.
fn set(process: &Process) -> Option<String> {
    let end = format!("-{}", process.instance?);
    process.name.as_ref()?.as_str().strip_suffix(&end).map(str::to_owned)
}

fn shown(definition: Definition, secrets: Secrets) -> Definition {
    match secrets {
        Secrets::Shown => definition,
        Secrets::Hidden => Definition { spec: secrets::without_secrets(definition.spec), ..definition },
    }
}

/// The command line that would start it.
fn command_line(spec: &Spec) -> Vec<String> {
    let mut line: Vec<String> = ["provost", "start"].map(str::to_owned).into();
    if let Some(name) = &spec.name {
        line.extend(["--name".to_owned(), name.as_str().to_owned()]);
    }
    // A client's own directory is what counts where none is given.
    if spec.cwd.as_deref().is_none_or(|cwd| cwd == "/") {
        line.extend(["--cwd".to_owned(), "/".to_owned()]);
    }
    for (key, value) in &fields::to_map(spec) {
        options_of(spec, key, value, &mut line);
    }
    line.push("--".to_owned());
    line.extend(spec.command.iter().cloned());
    line
}

fn options_of(spec: &Spec, key: &str, value: &Value, line: &mut Vec<String>) {
    let each = |option: &str, pairs: &[(String, String)], line: &mut Vec<String>| {
        for (key, value) in pairs {
            line.extend([option.to_owned(), format!("{key}={value}")]);
        }
    };
    match (key, value) {
        ("command", _) => {}
        ("env", _) => each("--env", &spec.env, line),
        ("labels", _) => each("--label", &spec.labels, line),
        ("limits", _) => {
            let limits: Vec<_> =
                spec.rlimits.iter().map(|l| (l.resource.clone(), field_values::limit_text(l))).collect();
            each("--limit", &limits, line);
        }
        ("ready_exec" | "live_exec", Value::Array(all)) => {
            let words: Vec<_> = all.iter().map(bare).collect();
            let command = match &words[..] {
                [sh, c, command] if sh == "/bin/sh" && c == "-c" => command.clone(),
                _ => text::quoted_command(&words),
            };
            line.extend([option(key), command]);
        }
        ("expand_env", _) => line.push("--no-expand".to_owned()),
        ("autostart", Value::Bool(false)) => line.push("--no-autostart".to_owned()),
        (key, Value::Bool(_)) => line.push(option(key)),
        (key, Value::Array(all)) => {
            line.extend([option(key), all.iter().map(bare).collect::<Vec<_>>().join(",")])
        }
        (key, value) => line.extend([option(key), bare(value)]),
    }
}

fn option(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::spec_options::SpecOptions;
    use crate::wire::probes::Readiness;
    use crate::wire::spec::{RestartPolicy, Rlimit};

    #[test]
    fn the_command_line_makes_the_same_definition() {
        let mut spec = Spec::new(["sh", "-c", "a 'b'"]);
        spec.name = Some("web".parse().unwrap());
        spec.env = vec![("A".into(), "1 2".into()), ("A".into(), "${A}".into())];
        spec.env_expand = crate::wire::spec::EnvExpand::Literal;
        (spec.cwd, spec.groups) = (Some("/tmp".into()), vec!["a".into(), "b".into()]);
        (spec.umask, spec.nice, spec.no_new_privs) = (Some(0o27), Some(-5), true);
        spec.merge_streams = true;
        spec.rlimits = vec![Rlimit { resource: "nofile".into(), soft: 64, hard: u64::MAX }];
        spec.restart.policy = RestartPolicy::Always;
        (spec.restart.max_restarts, spec.restart.success_codes) = (None, vec![0, 3]);
        (spec.stop.signal, spec.output_bytes) = (2, 8192);
        (spec.ready, spec.autostart) = (Some(Readiness::Tcp(80)), Some(false));
        spec.labels = vec![("k".into(), "v".into())];
        let line = command_line(&spec);
        let mut arguments = Arguments::new(line[2..].iter().map(Into::into)).unwrap();
        let program = arguments.take_program().unwrap();
        let mut options = SpecOptions::new();
        while let Some(option) = arguments.next_option().unwrap() {
            assert!(options.take(&option, &mut arguments).unwrap(), "{option}");
        }
        assert_eq!(options.finish(program).unwrap(), spec);
    }

    #[test]
    fn a_pattern_is_all_that_an_export_takes() {
        assert_eq!(parse_export(&mut Arguments::of("")).unwrap().targets, ["*"]);
        assert_eq!(parse_export(&mut Arguments::of("--reveal web-*")).unwrap().secrets, Secrets::Shown);
        assert!(parse_export(&mut Arguments::of("a b")).is_err());
        assert!(parse(&mut Arguments::of("")).is_err());
    }
}

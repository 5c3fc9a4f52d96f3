//! `provost scale`: how many instances there are of what was started with several.

use crate::cli::arguments::Arguments;
use crate::cli::batch::{Counts, judge};
use crate::cli::command::{Command, job};
use crate::cli::json;
use crate::cli::session::Session;
use crate::cli::text;
use crate::client::Client;
use crate::wire::error::{Code, Error};
use crate::wire::id::{Name, ProcessId, quoted};
use crate::wire::process::Process;
use crate::wire::reply::Item;
use crate::wire::request::{List, Numbering, Remove, Start};
use crate::wire::spec::{INSTANCES_MAX, Spec};
use crate::wire::time::Timestamp;

pub const COMMAND: Command =
    Command::new("scale", SUMMARY, HELP, |arguments| job(parse(arguments)?, run)).destroys();
const SUMMARY: &str = "Change how many instances there are";
const HELP: &str = "\
Usage: provost scale NAME N

NAME is what they were started as: of NAME-1, NAME-2, ... those that lack up to N are started, as the first
of them is defined, and those over N are stopped and removed, the last one first. The others are left
alone. What is declared in the configuration is changed there.

Examples:
  provost scale worker 5
";

#[derive(Debug, PartialEq, Eq)]
struct ScaleArgs {
    name: Option<Name>,
    count: u32,
}

fn parse(arguments: &mut Arguments) -> Result<ScaleArgs, Error> {
    arguments.no_options()?;
    if arguments.shared.help {
        return Ok(ScaleArgs { name: None, count: 0 });
    }
    let (Some(name), Some(count)) = (arguments.next_value(), arguments.next_value()) else {
        return Err(arguments.usage("a name and a number are needed".into()));
    };
    arguments.no_values()?;
    let count = count.parse().ok().filter(|n| *n <= INSTANCES_MAX).ok_or_else(|| {
        Error::usage(format!("{} is no number of instances", quoted(&count)))
            .hint(format!("write a whole number from 0 to {INSTANCES_MAX}"))
    })?;
    Ok(ScaleArgs { name: Some(name.parse()?), count })
}

fn run(args: ScaleArgs, session: &mut Session) -> Result<u8, Error> {
    let (Some(name), count) = (args.name, args.count) else { return Ok(0) };
    let mut client = session.client()?;
    let there = instances(&mut client, &name)?;
    let Some((_, first)) = there.first() else {
        let alone = client.list(List { pattern: Some(name.to_string()), ..List::default() })?;
        if !alone.is_empty() {
            // Who may not change it learns that first.
            client.definitions(vec![name.to_string()])?;
            let e = Error::new(Code::Refused, format!("{name} is one process, and not the first of several"));
            return Err(e.hint(format!(
                "'instances = {count}' in its section of the configuration; or remove it, and: provost start --name {name} --instances {count} -- PROGRAM"
            )));
        }
        let hint = match count {
            0 => format!("'provost list {name}-*' shows which there are"),
            _ => format!("provost start --name {name} --instances {count} -- PROGRAM [ARG...]"),
        };
        return Err(Error::new(Code::NotFound, format!("there is no instance of {name}")).hint(hint));
    };
    let definition = client.definitions(vec![first.id.to_string()])?.pop();
    let Some(mut spec) = definition.map(|definition| definition.spec) else { return Ok(0) };
    if spec.declared {
        let e = Error::new(Code::Refused, format!("{name} is declared in the configuration"));
        return Err(e.hint("change 'instances' there, then: provost apply"));
    }
    spec.name = Some(name);
    let numbers: Vec<u32> = there.iter().map(|(n, _)| *n).collect();
    let mut counts = Counts::default();
    let over = there.iter().rev().filter(|(n, _)| *n > count);
    let targets: Vec<_> = over.map(|(_, process)| process.id.to_string()).collect();
    if !targets.is_empty() {
        report(&client.remove(Remove { targets, force: true })?, &mut counts, session);
    }
    for (begin, len) in lacking(&numbers, count) {
        report(&start(&mut client, spec.clone(), begin, len)?, &mut counts, session);
    }
    Ok(counts.exit_code())
}

/// Those that have both name and number, by their number.
fn instances(client: &mut Client, name: &Name) -> Result<Vec<(u32, Process)>, Error> {
    let all = client.list(List { pattern: Some(format!("{name}-*")), all: false, ..Default::default() })?;
    let of_name = |process: Process| {
        let n = process.instance?;
        (process.name == name.instance(n).ok()).then_some((n, process))
    };
    let mut all: Vec<_> = all.into_iter().filter_map(of_name).collect();
    all.sort_by_key(|(n, _)| *n);
    Ok(all)
}

/// The numbers up to `count` that are not there: where each row of them begins, and its length.
fn lacking(there: &[u32], count: u32) -> Vec<(u32, u32)> {
    let mut rows: Vec<(u32, u32)> = Vec::new();
    for n in (1..=count).filter(|n| !there.contains(n)) {
        match rows.last_mut() {
            Some((begin, len)) if *begin + *len == n => *len += 1,
            _ => rows.push((n, 1)),
        }
    }
    rows
}

fn start(client: &mut Client, spec: Spec, begin: u32, len: u32) -> Result<Vec<Item>, Error> {
    let ids = (0..len).map(|_| ProcessId::new()).collect();
    client.start(Start { spec, ids, numbering: Numbering::From(begin) })
}

fn report(items: &[Item], counts: &mut Counts, session: &mut Session) {
    for item in items {
        if session.is_json() {
            session.object(&json::item(item));
        }
        let Some(process) = judge(item, counts) else { continue };
        counts.done();
        if !session.is_json() {
            let state = text::state(process, Timestamp::now());
            session.out.line(&format!("{}: {state}", process.label()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_number_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        let args = ScaleArgs { name: Some("web".parse().unwrap()), count: 3 };
        assert_eq!(parsed("web 3"), Ok(args));
        for line in ["web", "web -1", "web x", "web 1001", "web* 1", "web 1 2"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn gaps_are_filled() {
        assert_eq!(lacking(&[1, 2, 3], 5), [(4, 2)]);
        assert_eq!(lacking(&[2, 5, 9], 7), [(1, 1), (3, 2), (6, 2)]);
        assert!(lacking(&[1, 2, 3], 2).is_empty());
    }
}

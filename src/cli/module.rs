//! `provost module`: modules that providers have registered, called and shown.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::arguments::Arguments;
use crate::cli::canary;
use crate::cli::command::{Codes, Command, job};
use crate::cli::manual::Positional;
use crate::cli::module_batch::{self, Batch};
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::text;
use crate::client::Client;
use crate::wire::canary::CanaryCall;
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;
use crate::wire::module::{
    INPUT_LEN_MAX, ModuleAnswer, ModuleCall, ModuleConnection, ModuleInfo, ModuleOrder,
};
use crate::wire::module::{ModuleBatch, PARALLEL};

pub const COMMAND: Command = Command::new("module", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .writes()
    .takes(Positional::OneOf(&VERBS))
    .codes(Codes::Program);
/// With those that follow `canary`: shells complete them, too.
const VERBS: [&str; 12] = [
    "list",
    "connections",
    "stats",
    "show",
    "schema",
    "call",
    "drain",
    "allow",
    "canary",
    "start",
    "status",
    "abort",
];
const SUMMARY: &str = "Call modules that programs have registered, and show them";
const HELP: &str = "\
Usage: provost module list|connections|stats
       provost module show|schema NAMESPACE.NAME
       provost module call NAMESPACE.NAME [--input JSON | --batch @FILE] [OPTIONS]
       provost module drain CONNECTION [OPTIONS]
       provost module allow NAMESPACE.NAME
       provost module canary start NAMESPACE --version V [OPTIONS]
       provost module canary status [NAMESPACE] [--watch]
       provost module canary abort NAMESPACE

Programs register modules with a running service and execute them for it (docs/modules.md). 'call'
checks the input against the module's types, has it executed by one of those that have registered it,
and prints the answer as JSON: indented on a terminal, on one line in a pipe. 'show' tells who
executes a module and why others do not, 'stats' how calls went. 'drain' gives a connection no new
calls. 'allow' lets the next registration of a module change its types so that callers may fail, which
is refused else. 'canary start' tries the members of a group that have modules of version V: one after
the other gets a share of the calls. Who passes takes its turns; the first that fails takes all back.
'canary status' shows each step. Exit codes: 2: the input does not fit; 4: no such module; 5: timed
out; 1: it failed, or what is watched was not promoted; 8: some of a batch failed.

'--batch' calls once for each input and prints a line for each, in their order: the answer, or an
empty one if that call failed, whose reason goes to standard error. With --json the lines are objects
with the input's number and 'output' or 'error'.

Options:
      --input JSON           The input, or @FILE, or @- for standard input (default: {})
      --batch JSON           Inputs instead: a JSON array, or one JSON value on each line; @FILE, @-
      --parallel N           How many of a batch at once, 64 at most (8)
      --tagged               Print the answer with its types
  -v, --verbose              Show the stack trace where the module itself failed
      --timeout D            How long each call may take (30s)
      --metadata KEY=VALUE   For the executor, as traceparent=...; can be given again
      --reason TEXT          Why it is drained
      --deadline D           How long what is drained may go on (30s)
      --version V            Of the members that are the canary
      --share PART           Of the calls, for the one on trial, as 10% or 0.1 (10%)
      --success-ratio PART   How many calls have to succeed, and to be fast enough (0.95)
      --latency D            How long a call may take to be fast enough (5s)
      --window D             How long a member is on trial at least (30s)
      --min-calls N          With how many calls at least (50)
      --no-rollback          Members that have passed stay when a later one fails
  -w, --watch                Show each step until the canary has ended

Examples:
  provost module call demo.add --input '{\"a\": 6, \"b\": 7}'
  provost module call demo.add --batch @sums.jsonl --parallel 16
  provost module canary start demo --version 2.0 --share 10%
";

/// How long a call may take, and what is drained may go on.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    Ask(ModuleCall),
    Schema(String),
    Show(String),
    Stats,
    /// Canaries of this namespace, or of all.
    Watch(String),
    /// With the input as it was given.
    Call {
        order: ModuleOrder,
        input: String,
        is_verbose: bool,
    },
    Batch(Batch),
}

fn parse(arguments: &mut Arguments) -> Result<Order, Error> {
    let (mut input, mut tagged, mut is_verbose, mut reason) = (None, false, false, String::new());
    let (mut inputs, mut parallel) = (None, None);
    let (mut timeout, mut deadline, mut metadata) = (TIMEOUT, TIMEOUT, Vec::new());
    let mut canary = canary::Options::default();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--input" => input = Some(arguments.value(&option)?),
            "--batch" => inputs = Some(arguments.value(&option)?),
            "--parallel" => parallel = Some(arguments.number(&option)?),
            "--tagged" => tagged = true,
            "-v" | "--verbose" => is_verbose = true,
            "--timeout" => timeout = arguments.duration(&option)?,
            "--metadata" => {
                let value = arguments.value(&option)?;
                let pair = value.split_once('=').filter(|(key, _)| !key.is_empty());
                let (key, value) =
                    pair.ok_or_else(|| arguments.usage("'--metadata' takes KEY=VALUE".into()))?;
                metadata.push((key.to_owned(), value.to_owned()));
            }
            "--reason" => reason = arguments.value(&option)?,
            "--deadline" => deadline = arguments.duration(&option)?,
            _ if canary.take(&option, arguments)? => {}
            _ => return Err(arguments.unknown(&option)),
        }
    }
    let verb = arguments.next_value().ok_or_else(|| arguments.usage("nothing is given to do".into()))?;
    if verb == "canary" {
        let order = match canary.order(arguments)? {
            canary::Order::Ask(call) => Order::Ask(ModuleCall::Canary(call)),
            canary::Order::Watch(namespace) => Order::Watch(namespace),
        };
        return arguments.no_values().map(|()| order);
    }
    canary.none_for(&verb, arguments)?;
    let mut of = |what: &str| {
        let value = arguments.next_value();
        value.ok_or_else(|| arguments.usage(format!("no {what} is given")))
    };
    let order = match verb.as_str() {
        "list" => Order::Ask(ModuleCall::List),
        "connections" => Order::Ask(ModuleCall::Connections),
        "stats" => Order::Stats,
        "schema" => Order::Schema(of("module")?),
        "show" => Order::Show(of("module")?),
        "call" => {
            let name = of("module")?;
            let order = ModuleOrder { name, input: Vec::new(), timeout, tagged, metadata };
            match (inputs, input) {
                (Some(_), Some(_)) => {
                    return Err(arguments.usage("'--batch' has the inputs: leave '--input' out".into()));
                }
                (None, _) if parallel.is_some() => {
                    return Err(arguments.usage("'--parallel' is for '--batch'".into()));
                }
                (Some(inputs), None) => {
                    let parallel = parallel.unwrap_or(PARALLEL);
                    let batch = ModuleBatch { order, inputs: Vec::new(), parallel };
                    Order::Batch(Batch { batch, inputs, is_verbose })
                }
                (None, input) => {
                    Order::Call { order, input: input.unwrap_or_else(|| "{}".to_owned()), is_verbose }
                }
            }
        }
        "allow" => Order::Ask(ModuleCall::Allow(of("module")?)),
        "drain" => Order::Ask(ModuleCall::Drain { connection: of("connection")?, reason, deadline }),
        other => {
            let e = format!("there is no 'provost module {}'", quoted(other).trim_matches('\''));
            return Err(arguments.usage(e));
        }
    };
    arguments.no_values().map(|()| order)
}

fn run(order: Order, session: &mut Session) -> Result<u8, Error> {
    match order {
        Order::Batch(batch) => module_batch::run(&batch, host(session)?, session),
        Order::Watch(namespace) => watch(&namespace, session),
        order => carry_out(order, session).map(|()| 0),
    }
}

fn watch(namespace: &str, session: &mut Session) -> Result<u8, Error> {
    let mut client = host(session)?;
    let status = ModuleCall::Canary(CanaryCall::Status(namespace.to_owned()));
    let read = || match client.module(status.clone())? {
        ModuleAnswer::Canaries(all) if all.is_empty() && !namespace.is_empty() => {
            Err(canary::none(namespace))
        }
        ModuleAnswer::Canaries(all) => Ok(all),
        _ => Err(not_understood()),
    };
    canary::watch(read, session)
}

fn carry_out(order: Order, session: &mut Session) -> Result<(), Error> {
    let call = match order {
        Order::Ask(call) => call,
        Order::Schema(name) => return schema(&name, session),
        Order::Show(name) => return show(&name, session),
        Order::Stats => return stats(session),
        Order::Watch(namespace) => return watch(&namespace, session).map(drop),
        Order::Batch(_) => return Err(not_understood()),
        Order::Call { order, input, is_verbose } => {
            let input = text::given("--input", &input, INPUT_LEN_MAX)?;
            let answer = ask(ModuleCall::Call(ModuleOrder { input, ..order }), session);
            let answer = answer.map_err(|e| module_batch::brief(e, is_verbose))?;
            return print_value(answer, session);
        }
    };
    let asked = match &call {
        ModuleCall::Canary(CanaryCall::Status(namespace)) => namespace.clone(),
        _ => String::new(),
    };
    let is_allowed = matches!(call, ModuleCall::Allow(_));
    match ask(call, session)? {
        ModuleAnswer::Canaries(all) if all.is_empty() && !asked.is_empty() => {
            return Err(canary::none(&asked));
        }
        ModuleAnswer::Canaries(all) => canary::print(&all, session),
        ModuleAnswer::Modules(all) if session.is_json() => {
            all.iter().for_each(|m| session.object(&module(m)))
        }
        ModuleAnswer::Modules(all) => {
            let rows = all.into_iter().map(|m| {
                [m.signature, m.version, m.members.to_string(), m.description]
                    .map(|t| text::escaped(&t).into_owned())
            });
            stdout::table(&mut session.out, ["MODULE", "VERSION", "MEMBERS", "DESCRIPTION"], rows.collect());
        }
        ModuleAnswer::Connections(all) if session.is_json() => {
            all.iter().for_each(|c| session.object(&connection(c)));
        }
        ModuleAnswer::Connections(all) => {
            let header =
                ["CONNECTION", "NAMESPACE", "GROUP", "EXECUTOR", "STATE", "MODULES", "CALLS", "ERRORS"];
            let rows = all.into_iter().map(|c| {
                let (calls, errors, modules) =
                    (c.requests.to_string(), c.errors.to_string(), c.modules.join(","));
                [c.id, c.namespace, c.group, c.executor, c.state, modules, calls, errors]
                    .map(|t| text::escaped(&t).into_owned())
            });
            stdout::table(&mut session.out, header, rows.collect());
        }
        ModuleAnswer::Value(_) | ModuleAnswer::Outcome(_) | ModuleAnswer::Expected(_) => {
            return Err(not_understood());
        }
        ModuleAnswer::Done if is_allowed => {
            let line = "its types may change at its next registration";
            session.answer(|| json!({ "allowed": true }), || line.to_owned());
        }
        ModuleAnswer::Done => session.answer(|| json!({ "drained": true }), || "it drains".to_owned()),
    }
    Ok(())
}

fn print_value(answer: ModuleAnswer, session: &mut Session) -> Result<(), Error> {
    let ModuleAnswer::Value(bytes) = answer else { return Err(not_understood()) };
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| Error::failed("read the answer", &e))?;
    let is_json = session.is_json();
    stdout::value(&mut session.out, is_json, &value);
    Ok(())
}

fn ask(call: ModuleCall, session: &Session) -> Result<ModuleAnswer, Error> {
    host(session)?.module(call)
}

/// A connection to the host, here or elsewhere.
fn host(session: &Session) -> Result<Client, Error> {
    if session.remote.is_given() { session.client() } else { Client::connect_to_host(&session.socket()?) }
}

/// The types of one module.
fn schema(name: &str, session: &mut Session) -> Result<(), Error> {
    let found = find(name, session)?;
    let lines = || {
        let all = [&found.signature, &found.changes].into_iter().filter(|line| !line.is_empty());
        let all: Vec<_> = all.map(|line| text::escaped(line).into_owned()).collect();
        all.join("\nchanged: ")
    };
    session.answer(|| module(&found), lines);
    Ok(())
}

fn find(name: &str, session: &Session) -> Result<ModuleInfo, Error> {
    let ModuleAnswer::Modules(all) = ask(ModuleCall::List, session)? else { return Err(not_understood()) };
    all.into_iter().find(|m| m.name == name).ok_or_else(|| {
        Error::new(Code::NotFound, format!("there is no module {}", quoted(name)))
            .hint("'provost module list' shows all")
    })
}

fn not_understood() -> Error {
    Error::new(Code::Failed, "the answer is not to the question")
}

/// One module, and how each of those is that have registered it.
fn show(name: &str, session: &mut Session) -> Result<(), Error> {
    let found = find(name, session)?;
    let ModuleAnswer::Connections(all) = ask(ModuleCall::Connections, session)? else {
        return Err(not_understood());
    };
    let (namespace, short) = name.rsplit_once('.').unwrap_or(("", name));
    let is_of_it = |c: &&ModuleConnection| c.namespace == namespace && c.modules.iter().any(|m| m == short);
    let of_it: Vec<_> = all.iter().filter(is_of_it).collect();
    let object = || {
        let mut shown = module(&found);
        shown["connections"] = of_it.iter().map(|c| connection(c)).collect();
        shown
    };
    let lines = || {
        let mut lines = vec![found.signature.clone()];
        if !found.description.is_empty() {
            lines.push(found.description.clone());
        }
        if !found.changes.is_empty() {
            lines.push(format!("changed: {}", found.changes));
        }
        lines.push(format!(
            "{} calls, {} failed, {} ms",
            found.requests,
            found.errors,
            ms(found.mean_latency_us)
        ));
        lines.extend(of_it.iter().map(|c| {
            let why = if c.reason.is_empty() { String::new() } else { format!(": {}", c.reason) };
            format!("{} at {}: {}, {} under way{why}", c.id, c.executor, c.state, c.in_flight)
        }));
        let lines: Vec<_> = lines.iter().map(|line| text::escaped(line).into_owned()).collect();
        lines.join("\n")
    };
    session.answer(object, lines);
    Ok(())
}

/// How calls of each module went.
fn stats(session: &mut Session) -> Result<(), Error> {
    let ModuleAnswer::Modules(all) = ask(ModuleCall::List, session)? else { return Err(not_understood()) };
    if session.is_json() {
        all.iter().for_each(|m| session.object(&module(m)));
        return Ok(());
    }
    let rows = all.into_iter().map(|m| {
        [m.name, m.members.to_string(), m.requests.to_string(), m.errors.to_string(), ms(m.mean_latency_us)]
            .map(|t| text::escaped(&t).into_owned())
    });
    stdout::table(&mut session.out, ["MODULE", "MEMBERS", "CALLS", "ERRORS", "MEAN_MS"], rows.collect());
    Ok(())
}

/// Microseconds as milliseconds with a fraction.
fn ms(us: u64) -> String {
    format!("{}.{:03}", us / 1000, us % 1000)
}

fn module(m: &ModuleInfo) -> Value {
    json!({
        "name": m.name, "signature": m.signature, "version": m.version, "description": m.description,
        "members": m.members, "requests": m.requests, "errors": m.errors,
        "mean_latency_us": m.mean_latency_us, "changes": m.changes,
    })
}

fn connection(c: &ModuleConnection) -> Value {
    json!({
        "id": c.id, "namespace": c.namespace, "group": c.group, "executor": c.executor, "state": c.state,
        "modules": c.modules, "registered_at": c.registered_at.0,
        "last_heartbeat_at": c.last_heartbeat_at.map(|at| at.0), "in_flight": c.in_flight,
        "requests": c.requests, "errors": c.errors, "last_error": c.last_error,
        "mean_latency_us": c.mean_latency_us, "reason": c.reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::canary::CanaryOrder;

    fn parsed(line: &str) -> Result<Order, Error> {
        parse(&mut Arguments::of(line))
    }

    #[test]
    fn orders_are_read() {
        assert_eq!(parsed("list"), Ok(Order::Ask(ModuleCall::List)));
        assert_eq!(parsed("schema a.b"), Ok(Order::Schema("a.b".into())));
        assert_eq!([parsed("show a.b"), parsed("stats")], [Ok(Order::Show("a.b".into())), Ok(Order::Stats)]);
        let timeout = Duration::from_secs(2);
        let order = ModuleOrder {
            name: "a.b".into(),
            input: Vec::new(),
            timeout,
            tagged: true,
            metadata: vec![("k".into(), "v=w".into())],
        };
        let call = Order::Call { order, input: "1".into(), is_verbose: false };
        assert_eq!(parsed("call a.b --input 1 --timeout 2s --tagged --metadata k=v=w"), Ok(call));
        let Ok(Order::Batch(Batch { batch, inputs, is_verbose })) =
            parsed("call a.b --batch @f --parallel 3 --timeout 2s -v")
        else {
            panic!("it is a batch")
        };
        assert_eq!((&*inputs, batch.parallel, batch.order.timeout, is_verbose), ("@f", 3, timeout, true));
        let (connection, reason, deadline) = ("c".to_owned(), "r".to_owned(), Duration::from_secs(1));
        let drain = ModuleCall::Drain { connection, reason, deadline };
        assert_eq!(parsed("drain c --reason r --deadline 1s"), Ok(Order::Ask(drain)));
    }

    #[test]
    fn canaries_are_read() {
        let ask = |call| Ok(Order::Ask(ModuleCall::Canary(call)));
        let status = |namespace: &str| ask(CanaryCall::Status(namespace.into()));
        assert_eq!([parsed("canary"), parsed("canary status a")], [status(""), status("a")]);
        assert_eq!(parsed("canary status -w"), Ok(Order::Watch(String::new())));
        assert_eq!(parsed("canary abort a"), ask(CanaryCall::Abort("a".into())));
        let order = CanaryOrder::new("a", "2");
        assert_eq!(parsed("canary start a --version 2"), ask(CanaryCall::Start(order.clone())));
        let whole = CanaryOrder {
            share: "5%".parse().unwrap(),
            success_ratio: "0.99".parse().unwrap(),
            latency: Duration::from_millis(200),
            window: Duration::from_secs(60),
            min_calls: 9,
            rolls_back: false,
            ..order
        };
        let line = "canary start a --version 2 --share 0.05 --success-ratio 99% --latency 200ms --window 1m \
                    --min-calls 9 --no-rollback";
        assert_eq!(parsed(line), ask(CanaryCall::Start(whole)));
        for line in [
            "canary x",
            "canary start a",
            "canary start --version 2",
            "canary start a --version 2 --share 0",
            "canary abort",
            "canary abort a b",
            "canary status a --share 5%",
            "list --share 5%",
            "list --watch",
        ] {
            assert!(parsed(line).is_err_and(|e| e.code == Code::Usage), "{line}");
        }
    }

    #[test]
    fn what_is_incomplete_is_refused() {
        for line in [
            "x",
            "call",
            "schema",
            "drain",
            "list more",
            "call a.b c",
            "call a.b --metadata =v",
            "call a.b --batch @f --input 1",
            "call a.b --parallel 3",
        ] {
            assert!(parsed(line).is_err_and(|e| e.code == Code::Usage), "{line}");
        }
    }
}

//! `provost registry`: every provider there is, and what becomes of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Codes, Command, job};
use crate::cli::events;
use crate::cli::json;
use crate::cli::manual::Positional;
use crate::cli::provider::{Given, definition_options, host, show_value};
use crate::cli::registry_entry::{finding_line, line, list, object};
use crate::cli::session::Session;
use crate::cli::since::Begin;
use crate::cli::stdout;
use crate::cli::text::{self, absolute};
use crate::cli::values;
use crate::client::host_socket;
use crate::wire::discovery::Discovery;
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;
use crate::wire::permit::{Chain, Outcome, Report, Wanted};
use crate::wire::provider::{ProviderName, SET_DEFAULT};
use crate::wire::registration::{Registration, TYPE_MODULE};
use crate::wire::registry::{Entry, Finding, RegistryAnswer, RegistryCall, Verb, Whom};
use crate::wire::request::Events;

pub const COMMAND: Command = Command::new("registry", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .destroys()
    .takes(Positional::OneOf(&VERBS))
    .codes(Codes::Program);
const VERBS: [&str; 25] = [
    "list",
    "show",
    "names",
    "has",
    "register",
    "unregister",
    "initialize",
    "dispose",
    "start",
    "stop",
    "restart",
    "replace",
    "shutdown",
    "discover",
    "refresh",
    "validate",
    "reset",
    "health",
    "monitor",
    "hold",
    "release",
    "permit",
    "report",
    "chain",
    "events",
];
const SUMMARY: &str = "Register providers, and see and change how they are";
const HELP: &str = concat!(
    "\
Usage: provost registry list [--capability NAME]
       provost registry names
       provost registry show|has NAME
       provost registry register NAME --binary FILE|--address HOST:PORT|--namespace NS [OPTIONS]
       provost registry unregister|replace NAME
       provost registry initialize|dispose|start|stop|restart|reset|health NAME|--all
       provost registry shutdown
       provost registry monitor start|stop [NAME] [--interval DURATION]
       provost registry discover [--config [FILE]] [--plugins [DIR]] [--environment] [--dry-run]
       provost registry refresh [start|stop] [--interval DURATION]
       provost registry validate
       provost registry hold NAME --reason TEXT
       provost registry release NAME
       provost registry permit NAME [--expires DURATION]
       provost registry report PERMIT ok|failed|ignored [--reason TEXT]
       provost registry chain NAME[,NAME...] [SEGMENT...] [--timeout DURATION] [--permit]
       provost registry events [NAME] [--follow]

The registry has an entry for every provider: those of the configuration, and those that were
registered or started since (docs/registry.md). 'unregister' waits for calls that are under way. One
that was disposed of takes no calls until it is initialised; 'shutdown' disposes of all at once, and
kills what has not ended in time ([registry.lifecycle]). 'replace' starts the next process and
initialises it, gives it the calls, and then ends the present one. One that was stopped is started by
the next call. Calls of a provider that keeps failing are refused by its circuit breaker (exit code 6),
until a probe succeeds or 'reset'; 'hold' refuses them until 'release'. Those that run are asked how
they are again and again ('monitor', by default all of them as [registry.health] says). 
'discover' looks what providers the configuration, the folders of plugins and the environment have
([registry.discovery]), in some of these or in all, and sees to it: what is new comes, what differs
is changed, what has gone goes. With a FILE or a DIR that is one more place of its kind until the host
ends; 'config_path' and 'plugin_path' of [registry.discovery] last. 'refresh' does so in all of these
that are used, and answers only what has changed; 'refresh start' does so again and again, until
'refresh stop' or the end of the host. 'validate' says of each whether it could be. Who calls what an
entry stands for without
Provost, such as the service behind a key, asks with 'permit' before and says with 'report' after
how that went: so the breaker counts. 'chain' tries providers in turn, those that are not well last,
and prints the value of the first that has one, or gives a permit of the first that lets calls
through. A list is a table on a terminal, and elsewhere one JSON object per line. Exit codes: 3: 'has'
says no; 4: no such provider or permit; 6: refused; 126, 127: the binary cannot be executed, or is not
there.

Options:
      --all                  All of them instead of one
      --set NAME             The set that the name is in (default: default); where no name is given,
                             only this set
      --capability NAME      Of 'list': only those that can that (repeat it)
      --follow               Go on as events happen
      --since WHERE          Events after this number, or from a time on (as of 'provost events'); else all
                             that are kept
      --plugins[=DIR]        Of 'discover': the folders of plugins, also those in DIR
                             ('--config[=FILE]': the configuration, also that in FILE)
      --environment          Of 'discover': the environment of the service
      --dry-run              Only say what 'discover' would do
      --interval DURATION    From one check of its health to the next, or from one look of 'refresh'
      --reason TEXT          Why the circuit breaker is held open, or why a call has failed
      --expires DURATION     How long a permit is good; then it is given back (30s)
      --timeout DURATION     How long all of a chain may take (as long as its providers)
      --permit               Of 'chain': a permit instead of a value
      --unwrap, --raw        Of 'chain': as 'provost provider fetch' has them
      --label K=V            A note about the provider (repeat it)
      --namespace NS         Of 'register': a namespace of the module plane, in the place of a binary
      --type TYPE            What kind of provider it is (process, or with --address remote)
",
    definition_options!(),
    "
Examples:
  provost registry register app --binary files --config '{\"directory\": \"/etc/app\"}'
  provost registry chain first,second database.json port --unwrap --timeout 2s
  provost registry events --follow
"
);

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Order {
    /// Only those that have all of these capabilities.
    List {
        call: RegistryCall,
        capabilities: Vec<String>,
    },
    Names(RegistryCall),
    Has(RegistryCall),
    Do(RegistryCall),
    Discover(RegistryCall),
    Refresh(RegistryCall),
    Permit(RegistryCall),
    Chain {
        call: RegistryCall,
        unwrap: bool,
        raw: bool,
    },
    Events {
        since: Begin,
        follow: bool,
        of: Option<ProviderName>,
    },
}

#[derive(Default)]
struct Options {
    given: Given,
    all: bool,
    since: Begin,
    follow: bool,
    reason: Option<String>,
    labels: Vec<(String, String)>,
    kind: Option<String>,
    namespace: Option<String>,
    capabilities: Vec<String>,
    interval: Option<Duration>,
    expires: Option<Duration>,
    timeout: Option<Duration>,
    is_permit: bool,
    discovery: Discovery,
}

fn parse(arguments: &mut Arguments) -> Result<Order, Error> {
    let mut options = Options::default();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--all" => options.all = true,
            "--follow" => options.follow = true,
            "--since" => options.since = Begin::parse(&option, &arguments.value(&option)?)?,
            "--reason" => options.reason = Some(arguments.value(&option)?),
            "--label" => options.labels.push(values::pair(&option, &arguments.value(&option)?)?),
            "--config" if arguments.first_value() == Some("discover") => {
                options.source("config");
                options.discovery.config_file = place(arguments)?;
            }
            "--plugins" => {
                options.source("plugin");
                options.discovery.plugin_directory = place(arguments)?;
            }
            "--environment" => options.source("environment"),
            "--dry-run" => options.discovery.is_dry_run = true,
            "--interval" => options.interval = Some(arguments.duration(&option)?),
            "--capability" => options.capabilities.push(arguments.value(&option)?),
            "--namespace" => options.namespace = Some(arguments.value(&option)?),
            "--type" => options.kind = Some(arguments.value(&option)?),
            "--expires" => options.expires = Some(arguments.duration(&option)?),
            "--timeout" => options.timeout = Some(arguments.duration(&option)?),
            "--permit" => options.is_permit = true,
            _ => options.given.take(&option, arguments)?,
        }
    }
    options.order(arguments)
}

/// Where a source is looked for beside the places that the service knows.
fn place(arguments: &mut Arguments) -> Result<Option<String>, Error> {
    let given = arguments.value_if_given();
    if given.as_ref().is_some_and(String::is_empty) {
        return Err(arguments.usage("the place to look in is empty".into()));
    }
    let path = given.map(|path| absolute("the place to look in", Path::new(&path))).transpose()?;
    let text = |path: PathBuf| path.into_os_string().into_string();
    path.map(text).transpose().map_err(|path| Error::usage(format!("{} is no UTF-8", path.display())))
}

impl Options {
    fn source(&mut self, name: &str) {
        self.discovery.sources.push(name.to_owned());
    }

    fn order(self, arguments: &mut Arguments) -> Result<Order, Error> {
        let verb = arguments.next_value().ok_or_else(|| arguments.usage("nothing is given to do".into()))?;
        if !VERBS.contains(&verb.as_str()) {
            let e = format!("there is no 'provost registry {}'", quoted(&verb).trim_matches('\''));
            return Err(arguments.usage(e));
        }
        let is_started = match verb.as_str() {
            "refresh" if arguments.first_value().is_some() => match arguments.next_value().as_deref() {
                Some("start") => Some(true),
                Some("stop") => Some(false),
                _ => return Err(arguments.usage("'refresh' takes 'start', 'stop', or nothing".into())),
            },
            "monitor" => match arguments.next_value().as_deref() {
                Some("start") => Some(true),
                Some("stop") => Some(false),
                _ => return Err(arguments.usage("'monitor' takes 'start' or 'stop'".into())),
            },
            _ => None,
        };
        if self.given.is_of_value() && verb != "chain" {
            return Err(arguments.usage("--unwrap and --raw are for the value of a 'chain'".into()));
        }
        match verb.as_str() {
            "chain" => return self.chain(arguments),
            "report" => return self.report(arguments),
            _ => {}
        }
        let alias = arguments.next_value();
        arguments.no_values()?;
        let set = self.given.set.clone();
        let of_name = |alias: &str| {
            let name = ProviderName::new(set.as_deref().unwrap_or(SET_DEFAULT), alias);
            name.map_err(|e| e.reason("invalid_name"))
        };
        let of = alias.as_deref().map(of_name).transpose()?;
        let whom = match (&of, self.all, verb.as_str()) {
            (Some(_), true, _) => return Err(arguments.usage("--all is given, and a name".into())),
            (Some(name), false, _) => Whom::One(name.clone()),
            (
                None,
                _,
                "list" | "names" | "events" | "monitor" | "shutdown" | "discover" | "refresh" | "validate",
            ) => Whom::All(set),
            (None, true, "initialize" | "dispose" | "start" | "stop" | "restart" | "reset" | "health") => {
                Whom::All(set)
            }
            (None, true, verb) => return Err(arguments.usage(format!("'{verb}' takes no --all"))),
            (None, false, _) => return Err(arguments.usage("no name is given".into())),
        };
        if of.is_some()
            && matches!(verb.as_str(), "list" | "names" | "shutdown" | "discover" | "refresh" | "validate")
        {
            return Err(arguments.usage(format!("'{verb}' takes no name")));
        }
        let call = |verb| RegistryCall { whom: whom.clone(), verb };
        Ok(match verb.as_str() {
            "events" => Order::Events { since: self.since, follow: self.follow, of },
            "list" => Order::List { call: call(Verb::Show), capabilities: self.capabilities },
            "names" => Order::Names(call(Verb::Show)),
            "has" => Order::Has(call(Verb::Show)),
            "show" => Order::Do(call(Verb::Show)),
            "refresh" if !self.discovery.sources.is_empty() || self.discovery.is_dry_run => {
                let e = "'refresh' takes no sources and no --dry-run: that is for 'discover'";
                return Err(arguments.usage(e.into()));
            }
            "refresh" if is_started == Some(true) => Order::Do(call(Verb::Refresh(self.interval))),
            "refresh" if is_started == Some(false) => Order::Do(call(Verb::StopRefresh)),
            "refresh" => Order::Refresh(call(Verb::Discover(Discovery::default()))),
            "discover" => Order::Discover(call(Verb::Discover(self.discovery))),
            "validate" => Order::Discover(call(Verb::Validate)),
            "shutdown" => Order::Do(call(Verb::ShutDown)),
            "unregister" => Order::Do(call(Verb::Unregister)),
            "initialize" => Order::Do(call(Verb::Initialize)),
            "dispose" => Order::Do(call(Verb::Dispose)),
            "start" => Order::Do(call(Verb::Start)),
            "stop" => Order::Do(call(Verb::Stop)),
            "restart" => Order::Do(call(Verb::Restart)),
            "replace" => Order::Do(call(Verb::Replace)),
            "reset" => Order::Do(call(Verb::Reset)),
            "health" => Order::Do(call(Verb::Health)),
            "release" => Order::Do(call(Verb::Release)),
            "permit" => Order::Permit(call(Verb::Permit(self.expires))),
            "monitor" if is_started == Some(true) => Order::Do(call(Verb::Monitor(self.interval))),
            "monitor" => Order::Do(call(Verb::Unmonitor)),
            "hold" => {
                let none = || arguments.usage("there is no --reason".into());
                Order::Do(call(Verb::Hold(self.reason.ok_or_else(none)?)))
            }
            _ => {
                let (definition, kind) = match &self.namespace {
                    Some(_) => (self.given.nothing(arguments)?, TYPE_MODULE.to_owned()),
                    None => {
                        let definition = self.given.definition(arguments)?;
                        let kind = definition.kind().to_owned();
                        (definition, kind)
                    }
                };
                let kind = self.kind.unwrap_or(kind);
                let (namespace, labels) = (self.namespace, self.labels);
                let registration = Registration { kind, definition, namespace, labels };
                Order::Do(call(Verb::Register(Box::new(registration))))
            }
        })
    }
}

impl Options {
    fn report(self, arguments: &mut Arguments) -> Result<Order, Error> {
        let (permit, outcome) = (arguments.next_value(), arguments.next_value());
        arguments.no_values()?;
        let (Some(permit), Some(outcome)) = (permit, outcome) else {
            return Err(arguments.usage("'report' takes a permit, and how the call has ended".into()));
        };
        let outcome = Outcome::from_name(&outcome)?;
        let report = Report { permit, outcome, reason: self.reason.unwrap_or_default() };
        Ok(Order::Do(RegistryCall { whom: Whom::All(None), verb: Verb::Report(report) }))
    }

    fn chain(self, arguments: &mut Arguments) -> Result<Order, Error> {
        let names = arguments.next_value().ok_or_else(|| arguments.usage("no name is given".into()))?;
        let set = self.given.set.as_deref().unwrap_or(SET_DEFAULT);
        let name = |alias: &str| ProviderName::new(set, alias).map_err(|e| e.reason("invalid_name"));
        let names = names.split(',').map(name).collect::<Result<_, _>>()?;
        let (path, (unwrap, raw)) = (arguments.values(), self.given.of_value());
        let wanted = match self.is_permit {
            true if path.is_empty() => Wanted::Permit(self.expires),
            true => return Err(arguments.usage("a permit has no path".into())),
            false => Wanted::Value(path),
        };
        let verb = Verb::Chain(Chain { names, wanted, timeout: self.timeout });
        Ok(Order::Chain { call: RegistryCall { whom: Whom::All(None), verb }, unwrap, raw })
    }
}

fn run(order: Order, session: &mut Session) -> Result<u8, Error> {
    carry_out(order, session)
}

fn carry_out(order: Order, session: &mut Session) -> Result<u8, Error> {
    match order {
        Order::Events { since, follow, of } => show_events(since, follow, of.as_ref(), session),
        Order::List { call, capabilities } => {
            let answer = ask(call, session)?;
            let has_all = |e: &Entry| capabilities.iter().all(|wanted| e.capabilities.contains(wanted));
            let entries: Vec<_> = answer.entries.into_iter().filter(has_all).collect();
            list(&entries, session);
            Ok(0)
        }
        Order::Names(call) => {
            for entry in ask(call, session)?.entries {
                let name = entry.provider.name.to_string();
                session.answer(|| json!({ "name": name }), || name.clone());
            }
            Ok(0)
        }
        Order::Has(call) => match ask(call, session) {
            Ok(_) => {
                session.answer(|| json!({ "has": true }), || "yes".to_owned());
                Ok(0)
            }
            Err(e) if e.code == Code::NotFound => {
                session.answer(|| json!({ "has": false }), || "no".to_owned());
                Ok(Code::No.exit_code())
            }
            Err(e) => Err(e),
        },
        Order::Discover(call) => Ok(found(&ask(call, session)?.findings, session)),
        Order::Refresh(call) => {
            let mut findings = ask(call, session)?.findings;
            // What is as it was is no news.
            findings.retain(|f| f.what != "shadowed");
            if findings.is_empty() && !session.is_json() {
                session.out.line("nothing has changed");
            }
            Ok(found(&findings, session))
        }
        Order::Permit(call) => {
            show_permit(&ask(call, session)?, session);
            Ok(0)
        }
        Order::Chain { call, unwrap, raw } => {
            let answer = ask(call, session)?;
            for (name, e) in &answer.failures {
                stdout::notice(&format!("{name} was passed over: {}", e.message));
            }
            show_permit(&answer, session);
            answer.value.map_or(Ok(()), |value| show_value(&value.value, unwrap, raw, session))?;
            Ok(0)
        }
        Order::Do(call) => {
            let is_of_all = matches!(call.whom, Whom::All(_));
            let answer = ask(call, session)?;
            for entry in &answer.entries {
                session.answer(|| object(entry), || text::escaped(&line(entry)).into_owned());
            }
            for (_, e) in &answer.failures {
                session.out.flush();
                stdout::complain(e);
            }
            Ok(if is_of_all && !answer.failures.is_empty() { Code::Partial.exit_code() } else { 0 })
        }
    }
}

/// The permit, if it is one: for people and scripts its name alone.
fn show_permit(answer: &RegistryAnswer, session: &mut Session) {
    let Some(permit) = &answer.permit else { return };
    let object = || {
        json!({
            "permit": permit.id,
            "set": permit.name.set(),
            "name": permit.name.alias(),
            "expires_at": json::time(permit.expires_at),
            "probe": permit.is_probe,
        })
    };
    session.answer(object, || permit.id.clone());
}

/// Tells what a discovery has found; the exit code.
fn found(findings: &[Finding], session: &mut Session) -> u8 {
    for f in findings {
        let object = || json!({ "what": f.what, "name": f.name, "source": f.source, "detail": f.detail });
        session.answer(object, || text::escaped(&finding_line(f)).into_owned());
    }
    let is_bad = findings.iter().any(|f| f.what == "invalid");
    if is_bad { Code::Partial.exit_code() } else { 0 }
}

fn ask(call: RegistryCall, session: &Session) -> Result<RegistryAnswer, Error> {
    // Where a service never had a host there is nothing yet but what the configuration defines.
    let is_quiet = matches!((&call.whom, &call.verb), (Whom::All(_), Verb::Show));
    if is_quiet && !session.remote.is_given() && !host_socket(&session.socket()?).exists() {
        return session.client().map(|_| RegistryAnswer::default());
    }
    host(session)?.registry(call)
}

/// What happened to providers: of the events of the service those that are about them.
fn show_events(
    since: Begin,
    is_followed: bool,
    of: Option<&ProviderName>,
    session: &mut Session,
) -> Result<u8, Error> {
    let process = of.map(ProviderName::process);
    let mut client = session.client()?;
    let since = since.event(&mut client)?;
    let events = Events { since, follow: is_followed, target: None };
    events::show_each(&mut client, events, session, |event, session| {
        let is_meant = process.as_ref().is_none_or(|process| process.as_str() == event.name);
        if event.kind.is_of_provider() && is_meant {
            if session.is_json() || !session.out.is_terminal() {
                session.object(&json::event(event));
            } else {
                session.out.line(&events::line(event));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Order, Error> {
        parse(&mut Arguments::of(line))
    }

    #[test]
    fn verbs_names_and_options_are_read() {
        let name = |set, alias| Whom::One(ProviderName::new(set, alias).unwrap());
        let call = |whom, verb| RegistryCall { whom, verb };
        let list = |capabilities: &[&str]| {
            let capabilities = capabilities.iter().map(ToString::to_string).collect();
            Ok(Order::List { call: call(Whom::All(None), Verb::Show), capabilities })
        };
        assert_eq!(parsed("list"), list(&[]));
        assert_eq!(parsed("list --capability chat --capability embed"), list(&["chat", "embed"]));
        let of_set = call(Whom::All(Some("ci".into())), Verb::Stop);
        assert_eq!(parsed("stop --all --set ci"), Ok(Order::Do(of_set)));
        assert_eq!(parsed("show a --set ci"), Ok(Order::Do(call(name("ci", "a"), Verb::Show))));
        let monitor = Verb::Monitor(Some(Duration::from_secs(2)));
        assert_eq!(parsed("monitor start a --interval 2s"), Ok(Order::Do(call(name("", "a"), monitor))));
        assert_eq!(parsed("monitor stop"), Ok(Order::Do(call(Whom::All(None), Verb::Unmonitor))));
        let sources = vec!["config".into(), "plugin".into()];
        let discovery = Discovery { sources, is_dry_run: true, ..Discovery::default() };
        let discover = |discovery| Ok(Order::Discover(call(Whom::All(None), Verb::Discover(discovery))));
        assert_eq!(parsed("discover --config --plugins --dry-run"), discover(discovery.clone()));
        let there = Discovery {
            config_file: Some("/a.toml".into()),
            plugin_directory: Some("/b".into()),
            ..discovery
        };
        assert_eq!(parsed("discover --config /a.toml --plugins=/b --dry-run"), discover(there));
        let refresh = call(Whom::All(None), Verb::Discover(Discovery::default()));
        assert_eq!(parsed("refresh"), Ok(Order::Refresh(refresh)));
        assert!(parsed("refresh --plugins").is_err() && parsed("refresh a").is_err());
        let again = call(Whom::All(None), Verb::Refresh(Some(Duration::from_secs(2))));
        assert_eq!(parsed("refresh start --interval 2s"), Ok(Order::Do(again)));
        assert_eq!(parsed("refresh stop"), Ok(Order::Do(call(Whom::All(None), Verb::StopRefresh))));
        let hold = call(name("", "a"), Verb::Hold("x".into()));
        assert_eq!(parsed("hold a --reason x"), Ok(Order::Do(hold)));
        let Ok(Order::Do(RegistryCall { verb: Verb::Register(r), .. })) =
            parsed("register a --binary /b --label team=x --fetch-timeout 1s")
        else {
            panic!("it is a registration");
        };
        assert_eq!((r.kind.as_str(), r.definition.binary.as_str()), ("process", "/b"));
        assert_eq!(r.labels, [("team".to_owned(), "x".to_owned())]);
        let report = Report { permit: "p".into(), outcome: Outcome::Failed, reason: "down".into() };
        let report = Order::Do(call(Whom::All(None), Verb::Report(report)));
        assert_eq!(parsed("report p failed --reason down"), Ok(report));
        let permit = call(name("", "a"), Verb::Permit(Some(Duration::from_secs(5))));
        assert_eq!(parsed("permit a --expires 5s"), Ok(Order::Permit(permit)));
        let names = vec![ProviderName::new("", "a").unwrap(), ProviderName::new("", "b").unwrap()];
        let wanted = Wanted::Value(vec!["x".into(), "y".into()]);
        let chain = Verb::Chain(Chain { names, wanted, timeout: Some(Duration::from_secs(1)) });
        let chain = Order::Chain { call: call(Whom::All(None), chain), unwrap: true, raw: false };
        assert_eq!(parsed("chain a,b x y --timeout 1s --unwrap"), Ok(chain));
        let files = "--client-cert /c --client-key /k --client-ca /a";
        let Ok(Order::Do(RegistryCall { verb: Verb::Register(r), .. })) =
            parsed(&format!("register a --address build.example:1 {files}"))
        else {
            panic!("it is a registration");
        };
        assert_eq!((r.kind.as_str(), r.definition.what().as_str()), ("remote", "build.example:1"));
        let Ok(Order::Do(RegistryCall { verb: Verb::Register(r), .. })) =
            parsed("register a --namespace x.y")
        else {
            panic!("it is a registration");
        };
        assert_eq!((r.kind.as_str(), r.namespace.as_deref()), ("module", Some("x.y")));
        let events = Order::Events { since: Begin::After(3), follow: true, of: None };
        assert_eq!(parsed("events --since 3 --follow"), Ok(events));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "frobnicate",
            "stop",
            "stop a --all",
            "unregister --all",
            "report p",
            "report p well",
            "chain",
            "chain a,,b x",
            "chain a x --permit",
            "permit",
            "register a",
            "register a --binary /b --address localhost:1",
            "register a --address 192.0.2.7:1",
            "register a --namespace x --binary /b",
            "register a --address build.example:1 --client-key /k",
            "hold a",
            "monitor",
            "monitor a",
            "list a",
            "shutdown a",
            "show a b",
            "show a --raw",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
        assert_eq!(parsed("show a/b").unwrap_err().reason, "invalid_name");
    }
}

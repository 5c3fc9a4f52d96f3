//! `provost provider`: executables that give out configuration values, hosted.

use prost::Message;
use serde_json::{Map, Value, json};

use crate::cli::arguments::Arguments;
use crate::cli::command::{Codes, Command, job};
use crate::cli::escape;
use crate::cli::manual::Positional;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::text;
use crate::cli::values;
use crate::client::{Client, host_socket};
use crate::sdk::value;
use crate::wire::error::{Code, Error};
use crate::wire::id::{Name, quoted};
use crate::wire::provider::{
    CONFIG_LEN_MAX, Definition, Provider, ProviderAnswer, ProviderCall, ProviderEnvironment, ProviderName,
    SCHEMA_LEN_MAX, SET_DEFAULT,
};
use crate::wire::provider_rules::{ShownStderr, Tls};
use crate::wire::remote_end::{EndFiles, RemoteEnd};
use crate::wire::request::{Output, StreamKind};

pub const COMMAND: Command = Command::new("provider", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .destroys()
    .takes(Positional::OneOf(&VERBS))
    .codes(Codes::Program);
const VERBS: [&str; 10] =
    ["start", "fetch", "info", "health", "logs", "stop", "reset", "replace", "list", "shutdown"];
const SUMMARY: &str = "Host providers of configuration values, and fetch from them";
/// The options that define a provider, for the help of the commands that take them.
macro_rules! definition_options {
    () => {
        "      --binary FILE          A path, or a name in one of the provider directories
      --address HOST:PORT    Instead: it runs there already, and is only spoken to. In plaintext on this
                             machine alone; elsewhere with --client-cert FILE, --client-key FILE and
                             --client-ca FILE (of PEM, on the service's machine)
      --config JSON          Its configuration: an object, or @FILE, or @- for standard input
      --schema JSON          A JSON Schema that the configuration has to fit, or @FILE (repeat it)
      --source FILE          The file that the configuration comes from
      --user USER            As whom it runs
      --group GROUP          With this group
      --cwd DIR              Its working directory
      --env-allow K          Of the service's variables only this one (repeat it)
      --env-clear            None of the service's variables
      --sha256 DIGITS        The binary has to have this SHA-256
      --pin-type TYPE        It has to say that it is of this type
      --pin-version V        It has to say that it has this version
      --allow-external       The binary may be outside of the provider directories
      --handshake-timeout D  Until it has reported its port (10s)
      --health-timeout D     For a health check (5s)
      --starting-timeout D   While it says that it is starting (30s)
      --init-timeout D       For taking its configuration (30s)
      --fetch-timeout D      For a value (30s)
      --info-timeout D       For saying what it is (5s)
      --shutdown-timeout D   For the request to end (5s)
      --term-timeout D       Between SIGTERM and SIGKILL (2s)
      --idle-timeout D       End it when nobody has asked for so long (never)
      --retries N            Start it again so often when a start fails (0)
      --retry-delay D        Before the second attempt, doubling from there (200ms)
      --stderr WHAT          Of what it writes to standard error, show: off, on-error (the last lines,
                             with errors; default), all (also what it writes while it is asked)
      --limit RES=SOFT[:HARD]  A resource limit, as nofile=1024; may be repeated
      --landlock-read PATH   It may read and execute what is at and below this path, and reach nothing
                             else, not even to begin; may be repeated
      --landlock-write PATH  ... and also change what is here
      --landlock-optional    Run it also where the kernel cannot see to that
      --tls                  Speak mutual TLS 1.3 with it, with certificates of each launch; one that does
                             not offer that is refused
      --cookie               Whoever answers on its port has to prove that it is this launch of it
"
    };
}
pub(super) use definition_options;
const HELP: &str = concat!(
    "\
Usage: provost provider start ALIAS --binary FILE [OPTIONS]
       provost provider fetch ALIAS SEGMENT...
       provost provider info|health|logs|stop|reset|replace ALIAS
       provost provider list|shutdown

A provider is an executable that says on which port it listens and answers there (docs/providers.md).
It is started when it is needed, once for each alias, and again after it has ended. 'fetch' prints
JSON: indented on a terminal, on one line in a pipe. 'stop' ends the process, 'reset' forgets that it
has failed, 'replace' changes to a fresh process, 'shutdown' ends all and forgets them. Exit codes:
4: no such alias or path; 5: timed out; 126, 127: the binary cannot be executed, or is not there.

Options:
      --set NAME             The set that the alias is in (default: default); 'list' and 'shutdown':
                             only this set
",
    definition_options!(),
    "      --unwrap               Print x where the value is {\"value\": x}
      --raw                  Print a text without quotes
  -v, -vv                    Show more of its standard error for this once: one step of --stderr, two

Examples:
  provost provider start app --binary files --config '{\"directory\": \"/etc/app\"}'
  provost provider fetch app database port --unwrap
"
);

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Order {
    Call(ProviderCall),
    Fetch { call: ProviderCall, unwrap: bool, raw: bool },
    Logs(ProviderName),
}

/// What options have given; `provost registry` takes the same ones.
#[derive(Default)]
pub struct Given {
    pub set: Option<String>,
    definition: Definition,
    config: Option<String>,
    schemas: Vec<String>,
    allowed: Vec<String>,
    is_clear: bool,
    unwrap: bool,
    raw: bool,
    address: Option<String>,
    files: EndFiles,
}

/// A path that holds wherever the service is.
fn path_of(option: &str, arguments: &mut Arguments) -> Result<String, Error> {
    let given = arguments.value(option)?;
    let path = text::absolute(option.trim_start_matches('-'), given.as_ref())?;
    path.into_os_string()
        .into_string()
        .map_err(|path| Error::usage(format!("the path {} is not UTF-8 text", text::path(path.as_ref()))))
}

fn parse(arguments: &mut Arguments) -> Result<Order, Error> {
    let (mut given, mut louder) = (Given::default(), 0);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "-v" => louder += 1,
            _ => given.take(&option, arguments)?,
        }
    }
    let order = given.order(arguments)?;
    if louder == 0 {
        return Ok(order);
    }
    let raised = |call| ProviderCall::Louder(louder, Box::new(call));
    match order {
        Order::Call(call) if call.name().is_some() => Ok(Order::Call(raised(call))),
        Order::Fetch { call, unwrap, raw } => Ok(Order::Fetch { call: raised(call), unwrap, raw }),
        Order::Call(_) | Order::Logs(_) => Err(arguments.usage("-v is for what asks one provider".into())),
    }
}

impl Given {
    pub fn take(&mut self, option: &str, arguments: &mut Arguments) -> Result<(), Error> {
        let definition = &mut self.definition;
        let step = option.trim_start_matches("--").strip_suffix("-timeout");
        if let Some(timeout) = step.and_then(|step| definition.timeouts.of(step)) {
            *timeout = arguments.duration(option)?;
            return if timeout.is_zero() {
                Err(Error::usage(format!("{option} 0 leaves no time at all")))
            } else {
                Ok(())
            };
        }
        match option {
            "--unwrap" => self.unwrap = true,
            "--raw" => self.raw = true,
            "--env-clear" => self.is_clear = true,
            "--allow-external" => definition.allow_external = true,
            "--tls" => definition.tls = Tls::Required,
            "--cookie" => definition.cookie = true,
            "--set" => self.set = Some(arguments.value(option)?),
            "--binary" => definition.binary = arguments.value(option)?,
            "--address" => self.address = Some(arguments.value(option)?),
            "--client-cert" => self.files.certificate = path_of(option, arguments)?,
            "--client-key" => self.files.key = path_of(option, arguments)?,
            "--client-ca" => self.files.ca = path_of(option, arguments)?,
            "--config" => self.config = Some(arguments.value(option)?),
            "--schema" => self.schemas.push(arguments.value(option)?),
            "--source" => definition.source_file_path = arguments.value(option)?,
            "--user" => definition.user = Some(arguments.value(option)?),
            "--group" => definition.group = Some(arguments.value(option)?),
            "--cwd" => definition.cwd = Some(arguments.value(option)?),
            "--env-allow" => self.allowed.push(arguments.value(option)?),
            "--sha256" => definition.sha256 = Some(arguments.value(option)?),
            "--pin-type" => definition.pin_type = Some(arguments.value(option)?),
            "--retries" => definition.retries.count = arguments.number(option)?,
            "--retry-delay" => definition.retries.delay = arguments.duration(option)?,
            "--stderr" => definition.stderr = ShownStderr::from_name(&arguments.value(option)?)?,
            "--limit" => definition.limits.push(values::rlimit(option, &arguments.value(option)?)?),
            "--landlock-read" => definition.landlock.read.push(arguments.value(option)?),
            "--landlock-write" => definition.landlock.write.push(arguments.value(option)?),
            "--landlock-optional" => definition.landlock.optional = true,
            "--pin-version" => definition.pin_version = Some(arguments.value(option)?),
            _ => return Err(arguments.unknown(option)),
        }
        Ok(())
    }

    fn order(self, arguments: &mut Arguments) -> Result<Order, Error> {
        let verb = arguments.next_value().ok_or_else(|| arguments.usage("nothing is given to do".into()))?;
        let set = self.set.clone();
        let nothing_more = |arguments: &Arguments, call| arguments.no_values().map(|()| Order::Call(call));
        match verb.as_str() {
            "list" => return nothing_more(arguments, ProviderCall::List(set)),
            "shutdown" => return nothing_more(arguments, ProviderCall::ShutDown(set)),
            known if VERBS.contains(&known) => {}
            other => {
                let e = format!("there is no 'provost provider {}'", quoted(other).trim_matches('\''));
                return Err(arguments.usage(e));
            }
        }
        let alias = arguments.next_value().ok_or_else(|| arguments.usage("no alias is given".into()))?;
        let name = ProviderName::new(set.as_deref().unwrap_or(SET_DEFAULT), &alias)?;
        let call = match verb.as_str() {
            "fetch" => {
                let call = ProviderCall::Fetch(name, arguments.values());
                return Ok(Order::Fetch { call, unwrap: self.unwrap, raw: self.raw });
            }
            "logs" => return arguments.no_values().map(|()| Order::Logs(name)),
            "info" => ProviderCall::Info(name),
            "health" => ProviderCall::Health(name),
            "stop" => ProviderCall::Stop(name),
            "reset" => ProviderCall::Reset(name),
            "replace" => ProviderCall::Replace(name),
            _ => {
                let definition = self.definition(arguments)?;
                ProviderCall::Start(name, Box::new(definition))
            }
        };
        nothing_more(arguments, call)
    }
}

impl Given {
    /// How a value is to be printed: unwrapped, and raw.
    pub fn of_value(&self) -> (bool, bool) {
        (self.unwrap, self.raw)
    }

    /// Whether that was said.
    pub fn is_of_value(&self) -> bool {
        self.unwrap || self.raw
    }

    /// How nothing is run.
    pub fn nothing(self, arguments: &Arguments) -> Result<Definition, Error> {
        let given = Self { set: None, ..self };
        if given.address.is_some() || given.config.is_some() || given.definition != Definition::default() {
            return Err(
                arguments.usage("a namespace is executed by its members: nothing else is given".into())
            );
        }
        Ok(given.definition)
    }

    /// How the provider is run.
    pub fn definition(self, arguments: &Arguments) -> Result<Definition, Error> {
        let mut definition = self.definition;
        let files = (self.files != EndFiles::default()).then_some(self.files);
        match (self.address, definition.binary.is_empty()) {
            (Some(address), true) => definition.remote = Some(RemoteEnd::new(&address, files)?),
            (Some(_), false) => return Err(arguments.usage("--address is given, and --binary".into())),
            (None, true) => return Err(arguments.usage("there is no --binary".into())),
            (None, false) if files.is_some() => {
                return Err(arguments.usage("certificates are for --address".into()));
            }
            (None, false) => {}
        }
        if definition.binary.contains('/') {
            let path = text::absolute("binary", definition.binary.as_ref())?;
            definition.binary = path.into_os_string().into_string().map_err(|path| {
                Error::usage(format!("the path {} is not UTF-8 text", text::path(path.as_ref())))
            })?;
        }
        definition.config = self.config.as_deref().map(config).transpose()?.unwrap_or_default();
        definition.schemas = self.schemas.iter().map(|given| schema(given)).collect::<Result<_, _>>()?;
        definition.environment = match (self.is_clear, self.allowed) {
            (true, allowed) if allowed.is_empty() => ProviderEnvironment::Clear,
            (false, allowed) if allowed.is_empty() => ProviderEnvironment::Inherit,
            (_, allowed) => ProviderEnvironment::Allow(allowed),
        };
        Ok(definition)
    }
}

/// The configuration, encoded: an object of JSON, or a file of it.
fn config(given: &str) -> Result<Vec<u8>, Error> {
    let text = text::given("--config", given, CONFIG_LEN_MAX)?;
    let map: Map<String, Value> = serde_json::from_slice(&text).map_err(|e| {
        Error::usage(format!("the configuration is no JSON object: {e}"))
            .hint("write --config '{\"key\": \"value\"}', or --config @FILE")
    })?;
    Ok(value::to_struct(map)?.encode_to_vec())
}

/// A schema; whether it is one is looked at by the host.
fn schema(given: &str) -> Result<String, Error> {
    let text = text::given("--schema", given, SCHEMA_LEN_MAX)?;
    String::from_utf8(text).map_err(|_| Error::usage("the schema is not UTF-8 text"))
}

fn run(order: Order, session: &mut Session) -> Result<u8, Error> {
    carry_out(order, session)
}

fn carry_out(order: Order, session: &mut Session) -> Result<u8, Error> {
    match order {
        Order::Logs(name) => logs(&name, session),
        Order::Fetch { call, unwrap, raw } => {
            if let ProviderAnswer::Value(bytes) = ask(call, session)? {
                show_value(&bytes, unwrap, raw, session)?;
            }
            Ok(0)
        }
        Order::Call(call) => {
            let is_of_all = matches!(call, ProviderCall::List(_) | ProviderCall::ShutDown(_));
            // Where a service never had a host there is nothing to show or to end. One that has died has left
            // its socket.
            if is_of_all && !session.remote.is_given() && !host_socket(&session.socket()?).exists() {
                return session.client().map(|_| 0);
            }
            let answer = ask(call, session)?;
            show(answer, session);
            Ok(0)
        }
    }
}

/// Asks the host, and shows what the provider has written to its standard error, where that is told.
fn ask(call: ProviderCall, session: &Session) -> Result<ProviderAnswer, Error> {
    if session.remote.is_given() && matches!(call, ProviderCall::Louder(..)) {
        return Err(Error::usage("-v shows standard error of a provider on this machine alone")
            .hint("'provost provider logs' shows it from elsewhere, too"));
    }
    let (answer, said) = host(session)?.provider(call)?.into_plain();
    stdout::to_stderr(escape::escape(said.as_bytes()).as_bytes());
    Ok(answer)
}

/// A connection to the host, which is run if it does not yet.
pub fn host(session: &Session) -> Result<Client, Error> {
    if session.remote.is_given() { session.client() } else { Client::connect_to_host(&session.socket()?) }
}

fn show(answer: ProviderAnswer, session: &mut Session) {
    match answer {
        ProviderAnswer::Provider(provider) => {
            session.answer(|| object(&provider), || text::escaped(&line(&provider)).into_owned());
        }
        ProviderAnswer::Health(health) => {
            let line = || text::escaped(&format!("{}: {}", health.status, health.message)).into_owned();
            session.answer(|| json!({ "status": health.status, "message": health.message }), line);
        }
        ProviderAnswer::List(all) if session.is_json() => {
            all.iter().for_each(|provider| session.object(&object(provider)));
        }
        ProviderAnswer::List(all) => {
            let rows = all.iter().map(|p| {
                let number = |n: Option<u32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
                let (pid, port) = (number(p.pid), number(p.port.map(u32::from)));
                let (name, state, starts) = (p.name.to_string(), p.state.name().into(), p.starts.to_string());
                [name, state, pid, port, starts, text::escaped(&p.binary).into_owned()]
            });
            let header = ["ALIAS", "STATE", "PID", "PORT", "STARTS", "BINARY"];
            stdout::table(&mut session.out, header, rows.collect());
        }
        ProviderAnswer::Value(_) | ProviderAnswer::Said(..) => {}
    }
}

/// "app: ready, pid 123, port 4567".
fn line(p: &Provider) -> String {
    let mut line = format!("{}: {}", p.name, p.state.name());
    let kind = [p.kind.as_str(), p.version.as_str()].join(" ");
    if !kind.trim().is_empty() {
        line.push_str(&format!(", {}", kind.trim()));
    }
    if let (Some(pid), Some(port)) = (p.pid, p.port) {
        line.push_str(&format!(", pid {pid}, port {port}"));
    }
    if !p.reason.is_empty() {
        line.push_str(&format!(": {}", p.reason));
    }
    line
}

fn object(p: &Provider) -> Value {
    json!({
        "set": p.name.set(),
        "alias": p.name.alias(),
        "state": p.state.name(),
        "binary": p.binary,
        "pid": p.pid,
        "port": p.port,
        "type": p.kind,
        "version": p.version,
        "starts": p.starts,
        "process": p.process,
        "reason": p.reason,
    })
}

/// Prints a value: for people on a terminal, for programs on one line elsewhere.
pub(super) fn show_value(bytes: &[u8], unwrap: bool, raw: bool, session: &mut Session) -> Result<(), Error> {
    let mut map = value::to_json(value::decode(bytes)?);
    let value = match map.remove("value") {
        Some(inner) if unwrap && map.is_empty() => inner,
        Some(inner) => {
            map.insert("value".to_owned(), inner);
            map.sort_keys();
            Value::Object(map)
        }
        None => Value::Object(map),
    };
    match value {
        Value::String(text) if raw => session.out.line(&text),
        value => {
            let is_json = session.is_json();
            stdout::value(&mut session.out, is_json, &value);
        }
    }
    Ok(())
}

/// What the provider's process has printed.
fn logs(name: &ProviderName, session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client()?;
    let mut output =
        |name: Name| client.output(Output { target: name.as_str().to_owned(), kind: StreamKind::Both });
    // One that was replaced has the other name.
    let chunks = match output(name.process()) {
        Err(e) if e.code == Code::NotFound => output(name.second_process()),
        output => output,
    };
    let chunks = chunks.map_err(|e| match e.code {
        Code::NotFound => Error::new(Code::NotFound, format!("provider {name} has no process"))
            .hint("it is started by the next fetch; 'provost provider list' shows what there is"),
        _ => e,
    })?;
    output::print(chunks, session.out.is_terminal(), session);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parsed(line: &[&str]) -> Result<Order, Error> {
        parse(&mut Arguments::new(line.iter().map(Into::into)).unwrap())
    }

    #[test]
    fn a_definition_is_read() {
        let line = ["start", "app", "--binary", "files", "--config", r#"{"a": 1}"#, "--fetch-timeout", "3s"];
        let Order::Call(ProviderCall::Start(name, definition)) = parsed(&line).unwrap() else {
            panic!("no start")
        };
        assert_eq!((name.to_string().as_str(), definition.binary.as_str()), ("app", "files"));
        assert_eq!(definition.timeouts.fetch, Duration::from_secs(3));
        assert_eq!(value::to_json(value::decode(&definition.config).unwrap())["a"], 1);
        assert_eq!(definition.environment, ProviderEnvironment::Inherit);
    }

    #[test]
    fn a_path_has_any_segments() {
        let Order::Fetch { call, unwrap, raw } = parsed(&["fetch", "app", "a", "b/c", "--unwrap"]).unwrap()
        else {
            panic!("no fetch")
        };
        let path = vec!["a".to_owned(), "b/c".to_owned()];
        assert_eq!(call, ProviderCall::Fetch(ProviderName::new("", "app").unwrap(), path));
        assert!(unwrap && !raw);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            &[][..],
            &["frobnicate"],
            &["start", "app"],
            &["start", "app", "--binary", "x", "--config", "[]"],
            &["start", "app", "--binary", "x", "--fetch-timeout", "0"],
            &["start", "a/b", "--binary", "x"],
            &["info"],
            &["info", "app", "more"],
            &["list", "app"],
            &["fetch", "app", "--set", "a.b"],
        ] {
            assert_eq!(parsed(line).map_err(|e| e.code), Err(Code::Usage), "{line:?}");
        }
    }
}

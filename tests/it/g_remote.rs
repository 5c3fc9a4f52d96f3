//! Our own command line and client library through the gateway: every command as on the service's own
//! machine, with the same output and the same exit code; and what becomes of them when something in between
//! dies.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use serde_json::Value;

use crate::harness::gateway::{NAME, User};
use crate::harness::{
    Gateway, LATER, Output, Running, SOON, binary, cli, fixture, free_port, procfs, rounds, wait,
};

/// Both ways to one service.
struct Both {
    gateway: Gateway,
}

impl Both {
    /// With a process that runs and one that has ended.
    #[track_caller]
    fn start() -> Self {
        let gateway = Gateway::start();
        let service = gateway.service();
        service.start(&["--name", "web", "--label", "tier=web", "--", "sleep", "1000"]);
        let script = "echo out; printf 'no \\377 text'; echo err >&2; exit 3";
        service.start(&["--name", "done", "--", "sh", "-c", script]);
        service.cli(&["wait", "done"]).expect(3);
        Self { gateway }
    }

    /// The command here and there: the same output, the same errors, this code.
    #[track_caller]
    fn same(&self, args: &[&str], code: i32) -> Output {
        let here = self.gateway.service().cli(args);
        let there = self.gateway.cli(User::Admin, args);
        let what = |o: &Output| (o.code, String::from_utf8_lossy(&o.stdout).into_owned(), o.err());
        assert_eq!(what(&there), what(&here), "provost {}: there and here", args.join(" "));
        assert_eq!(here.stdout, there.stdout, "byte by byte");
        here.expect(code).clone()
    }

    /// A command that changes something, here about the process "home" and there about "afar".
    #[track_caller]
    fn alike(&self, args: &[&str], code: i32) {
        let about = |name: &str| args.iter().map(|arg| arg.replace("NAME", name)).collect::<Vec<_>>();
        let (here, there) = (about("home"), about("afar"));
        let a = self.gateway.service().cli(&strs(&here));
        let b = self.gateway.cli(User::Admin, &strs(&there));
        let what = |o: &Output| (o.code, masked(&o.out(), "afar"), masked(&o.err(), "afar"));
        let home = (a.code, masked(&a.out(), "home"), masked(&a.err(), "home"));
        assert_eq!(what(&b), home, "provost {}: there and here", args.join(" "));
        a.expect(code);
    }
}

/// Without what differs between two processes: their names, ids and numbers, and whether times are in ms.
fn masked(text: &str, name: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let strs = text.split_inclusive(|c| !is_part(c)).map(|name| {
        let core = name.trim_end_matches(|c| !is_part(c));
        let shown = if core.contains(|c: char| c.is_ascii_digit()) { "N" } else { core };
        format!("{shown}{}", &name[core.len()..])
    });
    strs.collect::<String>().replace("N ms", "N s").replace(name, "NAME")
}

fn strs(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

#[test]
fn what_is_asked_from_afar_is_answered_as_at_home() {
    let both = Both::start();
    let id = both.gateway.service().status_json("web")["id"].as_str().expect("it has one").to_owned();
    both.same(&["list", "--json"], 0);
    both.same(&["list", "done"], 0);
    both.same(&["list", "--all", "w*"], 0);
    both.same(&["status", "done"], 3);
    both.same(&["status", "web", "--json"], 0);
    both.same(&["status", "web", "done", "--json"], 3);
    both.same(&["status", &id[..34], "--json"], 0);
    both.same(&["status", "nobody"], 4);
    // Its sentence tells how long ago it was.
    let events = |o: Output| o.expect(0).json()[0]["events"].clone();
    let why = ["why", "done", "--json"];
    assert_eq!(events(both.gateway.cli(User::Admin, &why)), events(both.gateway.service().cli(&why)));
    both.same(&["output", "done"], 0);
    both.same(&["output", "done", "--stderr"], 0);
    both.same(&["output", "done", "--json"], 0);
    both.same(&["output", "nobody"], 4);
    both.same(&["stream", "--until-end", "done", "--since", "start"], 0);
    both.same(&["stream", "--until-end", "nobody"], 4);
    both.same(&["wait", "done"], 3);
    both.same(&["wait", "web", "--for", "running", "--json"], 0);
    both.same(&["wait", "web", "--timeout", "50ms"], 5);
    both.same(&["history", "done"], 0);
    both.same(&["history", "done", "--json"], 0);
    both.same(&["events"], 0);
    both.same(&["events", "--json"], 0);
    both.same(&["env", "list"], 0);
    both.same(&["reconcile", "--json"], 0);
    both.same(&["version", "--json"], 0);
    both.same(&["audit"], 0);
    let doctor = both.gateway.cli(User::Admin, &["doctor", "--json"]).expect(0).json().remove(0);
    assert_eq!(doctor["store"]["state"], "sound", "{doctor}");
}

#[test]
fn what_is_done_from_afar_is_done_as_at_home() {
    let both = Both::start();
    both.gateway.service().start(&["--name", "home", "--", "sleep", "1000"]);
    let id = both.gateway.cli(User::Admin, &["start", "--name", "afar", "--", "sleep", "1000"]);
    assert_eq!(id.expect(0).out().len(), 36, "one UUID: {id:?}");
    both.alike(&["start", "--name", "NAME", "--", "true"], 6);
    both.alike(&["start", "--", "/no/such/program"], 1);
    both.alike(&["start", "--", "/etc/passwd"], 1);
    both.alike(&["start", "NAME"], 0);
    both.alike(&["signal", "CONT", "NAME"], 0);
    both.alike(&["stop", "NAME"], 0);
    both.alike(&["stop", "NAME"], 0);
    both.alike(&["start", "NAME"], 0);
    both.alike(&["remove", "NAME"], 6);
    both.alike(&["remove", "NAME", "--force"], 0);
    both.alike(&["remove", "NAME"], 4);
    both.alike(&["run", "--", "sh", "-c", "printf 'a\\377b'; echo err >&2; exit 7"], 7);
    both.alike(&["run", "--", "sh", "-c", "kill -s KILL $$"], 128 + 9);
    both.alike(&["run", "--", "/no/such/program"], 127);
    both.alike(&["env", "set", "COLOUR=NAME"], 0);
    both.same(&["env", "list"], 0);
    both.alike(&["env", "unset", "COLOUR"], 0);
    let before = both.gateway.service().pid("web");
    both.gateway.cli(User::Operator, &["restart", "web"]).expect(0);
    let after = both.gateway.service().status_json("web");
    assert_ne!(after["pid"], before, "{after}");
    // Who asked for it is in the cause.
    let cause = after["cause"].as_str().expect("text");
    assert!(cause.contains("olga") && cause.contains("client.provost"), "{cause}");
    // What it signals is the service's own.
    both.gateway.cli(User::Operator, &["reload"]).expect(6);
    both.gateway.cli(User::Admin, &["reload"]).expect(0);
}

/// The gateway, through which they go, reads no file of the host: neither its time zones.
#[test]
fn a_job_is_defined_and_shown_from_afar_as_at_home() {
    let both = Both::start();
    for (name, when) in [("nightly", "0 3 * * *"), ("often", "*/5 * * * *"), ("every", "@every 10m")] {
        both.gateway.cli(User::Admin, &["start", "--name", name, "--schedule", when, "--", "true"]).expect(0);
        both.same(&["show", name], 0);
    }
    both.same(&["schedule", "next", "nightly"], 0);
    both.gateway.cli(User::Admin, &["update", "nightly", "--schedule", "0 4 * * *"]).expect(0);
    both.same(&["export", "*"], 0);
    // What is declared there is not what the files of this machine say.
    let unnamed = both.gateway.cli(User::Admin, &["apply", "--yes"]);
    assert!(unnamed.expect(2).err().contains("apply FILE"), "{unnamed:?}");
    both.alike(&["start", "--schedule", "0 25 * * *", "--", "true"], 2);
}

#[test]
fn a_name_in_the_configuration_is_a_service() {
    let gateway = Gateway::start();
    gateway.service().start(&["--name", "web", "--", "sleep", "1000"]);
    let home = gateway.file("home");
    fs::create_dir_all(format!("{home}/provost")).expect("the directory is ours");
    let dir = gateway.dir();
    let config = format!(
        "[remote.lab]\nhost = \"{}\"\ncertificate = \"{dir}/client.pem\"\nkey = \"{dir}/client.key\"\n\
         ca = \"{dir}/ca.pem\"\nuser = \"alice\"\npassword_file = \"password\"\n",
        gateway.host()
    );
    fs::write(format!("{home}/provost/provost.toml"), config).expect("the directory is ours");
    let file = format!("{home}/provost/password");
    fs::write(&file, User::Admin.password()).expect("the directory is ours");
    let ask = |strs: &[&str]| {
        let mut command = Command::new(binary());
        command.args(strs).env_remove("PROVOST_SOCKET").env("XDG_CONFIG_HOME", &home).env("HOME", &home);
        cli::run(command, LATER)
    };
    let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("it is ours");
    mode(0o600);
    let there = ask(&["-H", "lab", "list"]);
    assert_eq!(there.expect(0).out(), gateway.service().ok(&["list"]));
    assert!(there.err().contains("[remote.lab] has no 'crl'"), "{there:?}");
    let named = format!("{home}/provost/provost.toml");
    let text = fs::read_to_string(&named).expect("it is ours");
    fs::write(&named, format!("{text}crl = \"none\"\n")).expect("it is ours");
    assert_eq!(ask(&["-H", "lab", "list"]).expect(0).err(), "");
    ask(&["--remote", "lab", "stop", "web"]).expect(0);
    // So is the password that is said for this command.
    let mut other = Command::new(binary());
    other.args(["-H", "lab", "list"]).env("XDG_CONFIG_HOME", &home).env("PROVOST_PASSWORD", "wrong password");
    cli::run(other, LATER).expect(6);
    // What is said on the command line is in the place of what is written there.
    let refused = ask(&["-H", "lab", "--user", "mallory", "list"]);
    assert!(refused.expect(6).err().contains("password"), "{refused:?}");
    let unknown = ask(&["-H", "lob", "list"]);
    assert!(unknown.expect(4).err().contains("lab"), "it names those that there are: {unknown:?}");
    mode(0o644);
    let open = ask(&["-H", "lab", "list"]);
    assert!(open.expect(2).err().contains("password"), "{open:?}");
}

#[test]
fn a_client_that_is_refused_learns_why() {
    let gateway = Gateway::start();
    let refused = |command: Command, code: i32, strs: &[&str]| {
        let ended = cli::run(command, LATER);
        let said = ended.expect(code).err();
        assert!(strs.iter().all(|w| said.contains(w)), "{strs:?} in {ended:?}");
    };
    let with = |more: &[&str]| gateway.command(User::Viewer, more);
    let mut wrong = with(&["list"]);
    wrong.env("PROVOST_PASSWORD", "wrong password");
    refused(wrong, 6, &["password"]);
    refused(with(&["stop", "web"]), 6, &["viewer", "operator"]);
    refused(with(&["output", "web"]), 6, &["viewer", "operator"]);
    // The later of two options holds.
    let nobody = format!("localhost:{}", free_port());
    refused(with(&["--host", &nobody, "list"]), 7, &[&nobody]);
    refused(
        with(&["--host", "no-such-host.invalid:1", "list"]),
        7,
        &["the name no-such-host.invalid cannot be looked up", "is the name right?"],
    );
    let elsewhere = relay(gateway.port());
    let named = ["127.0.0.2", "'::1'", "provost cert init --host NAME"];
    refused(with(&["--host", &elsewhere, "list"]), 6, &named);
    let other = gateway.file("other");
    gateway.service().ok(&["cert", "init", "--dir", &other]);
    let (ca, cert, key) =
        (format!("{other}/ca.pem"), format!("{other}/client.pem"), format!("{other}/client.key"));
    refused(with(&["--ca", &ca, "list"]), 6, &["certificate"]);
    refused(with(&["--cert", &cert, "--key", &key, "list"]), 6, &["certificate"]);
    refused(with(&["--cert", &cert, "list"]), 2, &["client.pem"]);
    refused(
        with(&["--ca", "/no/such/file", "list"]),
        2,
        &["/no/such/file", "an administrator of that service"],
    );
    refused(with(&["--ca", "~/ca.pem", "list"]), 2, &["write the whole path"]);
    refused(with(&["config", "show"]), 2, &["an administrator does it there"]);
    // Who may not change a process learns that, not how it is done.
    gateway.service().start(&["--name", "web", "--", "sleep", "1000"]);
    let operator = |more: &[&str]| gateway.command(User::Operator, more);
    refused(operator(&["scale", "web", "2"]), 6, &["that needs admin"]);
    refused(operator(&["reload"]), 6, &["not reloaded", "an administrator of that service does it"]);
}

/// Nobody is noted as refused for what is granted.
#[test]
fn who_reads_logs_from_afar_has_asked_for_nothing_else() {
    let gateway = Gateway::start();
    let service = gateway.service();
    let log = gateway.file("web.log");
    let script = "echo up; exec sleep 1000";
    service.start(&[
        "--name",
        "web",
        "--log",
        &log,
        "--ready-line",
        "up",
        "--wait",
        "--",
        "sh",
        "-c",
        script,
    ]);
    let logs = gateway.cli(User::Operator, &["logs", "web"]);
    assert_eq!(logs.expect(0).out(), "up");
    assert!(
        logs.err().contains("without what is in log files alone: they are read on that machine"),
        "{logs:?}"
    );
    let audit = service.ok(&["audit"]);
    assert!(audit.contains("read the output of web: done") && !audit.contains("refused"), "{audit}");
}

/// Guesses that go on are found by when they were last seen.
#[test]
fn refusals_that_are_counted_are_shown_by_the_latest() {
    let gateway = Gateway::start();
    let guess = || {
        let mut command = gateway.command(User::Viewer, &["list"]);
        command.env("PROVOST_PASSWORD", "wrong password");
        cli::run(command, LATER).expect(6).err()
    };
    guess();
    gateway.service().start(&["--name", "web", "--", "sleep", "1000"]);
    let between = gateway.service().ok(&["audit", "--json", "-n", "1"]);
    let at = serde_json::from_str::<Value>(&between).expect("an object")["at"].clone();
    guess();
    let since = ["audit", "--since", at.as_str().expect("a time")];
    let shown = gateway.service().ok(&since);
    assert!(shown.contains("refused 2 times until"), "{shown}");
    let last = gateway.service().ok(&["audit", "-n", "1"]);
    assert!(last.contains("refused 2 times until"), "{last}");
}

/// Another address of this machine, where the gateway can be reached, too: its certificate does not name it.
fn relay(to: u16) -> String {
    let listener = TcpListener::bind("127.0.0.2:0").expect("all of 127/8 is the loopback");
    let host = listener.local_addr().expect("it is bound").to_string();
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { return };
            let (near, far) = (Arc::new(near), Arc::new(far));
            let back = (Arc::clone(&near), Arc::clone(&far));
            thread::spawn(move || std::io::copy(&mut &*near, &mut &*far));
            thread::spawn(move || std::io::copy(&mut &*back.1, &mut &*back.0));
        }
    });
    host
}

/// Prints numbered lines for some seconds.
const COUNT: &str = "n=0; while [ $n -lt 300 ]; do n=$((n + 1)); echo $n; sleep 0.01; done; exit 5";

fn counted() -> String {
    (1..=300).map(|n| format!("{n}\n")).collect()
}

#[test]
fn a_stream_from_afar_ends_with_an_interrupt_and_the_process_does_not() {
    let gateway = Gateway::start();
    let service = gateway.service();
    service.start(&["--name", "tick", "--", "sh", "-c", "while :; do echo tick; sleep 0.05; done"]);
    let interrupted = |stream: Running| {
        stream.line_with("tick", SOON);
        stream.signal("INT");
        stream.end(SOON).code
    };
    let here = interrupted(service.background(&["stream", "tick"]));
    let there = interrupted(gateway.background(User::Operator, &["stream", "tick"]));
    assert_eq!(there, here);
    assert_eq!(service.state("tick"), "running");
}

#[test]
fn an_interrupt_from_afar_reaches_the_program() {
    let gateway = Gateway::start();
    let script = "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.05; done";
    let run = gateway.background(User::Admin, &["run", "--rm", "--", "sh", "-c", script]);
    run.line_with("up", SOON);
    run.signal("INT");
    run.line_with("caught", SOON);
    assert_eq!(run.end(SOON).code, 9);
    assert_eq!(gateway.service().list_json(), Vec::<Value>::new(), "nothing is left, as it was said");
}

/// A stream, a wait and the events go on over the death of what `kill` kills, each as if nothing had been.
#[track_caller]
fn goes_on_over(kill: impl Fn(&Gateway)) {
    let gateway = Gateway::start();
    let service = gateway.service();
    service.start(&["--name", "count", "--", "sh", "-c", COUNT]);
    let stream = gateway.background(User::Operator, &["stream", "--until-end", "count", "--since", "start"]);
    let waiting = gateway.background(User::Viewer, &["wait", "count"]);
    let events = gateway.background(User::Viewer, &["events", "--follow", "--since", "0", "--json"]);
    for line in ["40", "120"] {
        stream.line_with(line, SOON);
        kill(&gateway);
    }
    let streamed = stream.end(LATER);
    assert_eq!(String::from_utf8_lossy(&streamed.stdout), counted(), "{streamed:?}");
    streamed.expect(0);
    waiting.end(LATER).expect(5);
    service.start(&["--name", "last", "--", "true"]);
    events.line_with("\"last\"", SOON);
    events.signal("INT");
    let seqs: Vec<_> =
        events.end(SOON).json().iter().map(|e| e["seq"].as_u64().expect("it has one")).collect();
    assert!(seqs.windows(2).all(|two| two[1] == two[0] + 1), "none twice, none missing: {seqs:?}");
}

#[test]
fn the_engine_dies_under_remote_calls() {
    goes_on_over(|gateway| {
        gateway.service().kill_engine();
    });
}

#[test]
fn the_gateway_dies_under_remote_calls() {
    goes_on_over(|gateway| {
        gateway.kill();
    });
}

/// A start carries its id: asked again, it is found.
#[test]
fn no_start_is_lost_or_made_twice_when_the_gateway_dies() {
    let gateway = Gateway::start();
    let strs = ["start", "--", "sleep", "1000"];
    let first = gateway.cli(User::Admin, &strs);
    let mut answered = vec![first.expect(0).out()];
    let count = rounds(8);
    for n in 0..count {
        let pid = gateway.pid();
        let start = gateway.background(User::Admin, &strs);
        // At another moment of the call each time.
        wait::pass(first.took * n / count);
        procfs::signal("KILL", pid);
        let ended = start.end(LATER);
        // It could not even ask: nobody was there.
        if ended.code != 7 {
            answered.push(ended.expect(0).out());
        }
        wait::until("there is another gateway", SOON, || {
            gateway.service().status_json(NAME)["pid"].as_u64().is_some_and(|now| now != u64::from(pid))
        });
    }
    let all = gateway.service().list_json();
    let all: Vec<_> = all.iter().map(|p| p["id"].as_str().expect("text").to_owned()).collect();
    assert_eq!(answered, all, "in the order of their starts");
}

#[test]
fn providers_are_the_same_here_and_there() {
    let both = Both::start();
    let directory = format!("{}/providers", both.gateway.service().state_dir());
    fs::create_dir_all(&directory).expect("the state is ours");
    let script = format!("{directory}/rude");
    fs::write(&script, format!("#!/bin/sh\nexec {}\n", fixture("rude"))).expect("the directory is ours");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let start = ["provider", "start", "app", "--binary", "rude", "--config", r#"{"a": [1, {"b": null}]}"#];
    both.same(&start, 0);
    both.same(&["provider", "fetch", "app", "inits"], 0);
    both.same(&["provider", "fetch", "app", "pid", "--unwrap"], 0);
    both.same(&["provider", "fetch", "app", "nothing", "--json"], 4);
    both.same(&["provider", "fetch", "app", "denied", "--json"], 6);
    both.same(&["provider", "fetch", "app", "bad"], 2);
    both.same(&["provider", "start", "x", "--binary", "nothing", "--json"], 127);
    both.same(&["provider", "start", "app", "--binary", "other"], 6);
    both.same(&["provider", "fetch", "nobody", "x", "--json"], 4);
    for what in ["info", "health", "logs", "reset"] {
        both.same(&["provider", what, "app"], 0);
    }
    both.same(&["provider", "list", "--json"], 0);
    both.same(&["provider", "stop", "app"], 0);
    both.same(&["provider", "shutdown", "--set", "other"], 0);
    both.gateway.cli(User::Operator, &["provider", "fetch", "app", "inits"]).expect(0);
    both.gateway.cli(User::Viewer, &["provider", "fetch", "app", "inits"]).expect(6);
    both.gateway.cli(User::Operator, &["provider", "shutdown"]).expect(6);
    both.gateway.cli(User::Admin, &["provider", "shutdown"]).expect(0);
    assert_eq!(both.gateway.service().ok(&["provider", "list"]), "");
}

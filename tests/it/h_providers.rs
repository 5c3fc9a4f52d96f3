//! Providers: executables in three languages that keep to the protocol, and one that keeps to nothing.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::g_clients::installed;
use crate::harness::{Options, Output, SOON, Scratch, Service, binary, cli, fixture, procfs, rounds, wait};

/// A service with a directory of provider binaries.
pub struct Hosting(pub Service);

impl Hosting {
    pub fn start() -> Self {
        Self::of(Service::new())
    }

    pub fn of(service: Service) -> Self {
        fs::create_dir_all(format!("{}/providers", service.state_dir())).expect("the state is ours");
        Self(service)
    }

    /// Puts a script into the directory of providers.
    pub fn script(&self, name: &str, text: &str) -> String {
        let path = format!("{}/providers/{name}", self.0.state_dir());
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("the state is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        path
    }

    /// One that behaves like this.
    pub fn rude(&self, mode: &str) -> String {
        let name = format!("rude-{}", mode.replace(' ', "-"));
        self.script(&name, &format!("exec {} {mode}", fixture("rude")));
        name
    }

    /// One in Python and one in Node, as their authors would start them.
    pub fn others(&self) -> [String; 2] {
        let here = |path: &str| format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        let (proto, python) = (here("proto"), installed("python/bin/python3"));
        let script = here("tests/clients/provider.py");
        self.script("python", &format!("PROTO={proto} exec {python} {script}"));
        let (libraries, script) = (installed("node/node_modules"), here("tests/clients/provider.js"));
        self.script("node", &format!("PROTO={proto} LIBRARIES={libraries} exec node {script}"));
        ["python".to_owned(), "node".to_owned()]
    }

    pub fn cli(&self, args: &[&str]) -> Output {
        self.0.cli(&[&["provider"], args].concat())
    }

    pub fn ok(&self, args: &[&str]) -> String {
        self.0.ok(&[&["provider"], args].concat())
    }

    pub fn start_alias(&self, alias: &str, binary: &str) {
        self.ok(&["start", alias, "--binary", binary]);
    }

    pub fn fetch(&self, alias: &str, path: &[&str]) -> Value {
        let out = self.ok(&[&["fetch", alias, "--unwrap"], path].concat());
        serde_json::from_str(&out).expect("a value is JSON")
    }

    pub fn pid(&self, alias: &str) -> u32 {
        u32::try_from(self.fetch(alias, &["pid"]).as_u64().expect("it is a number")).expect("it is a pid")
    }

    /// What a command that fails says for programs.
    pub fn reason(&self, code: i32, args: &[&str]) -> String {
        let out = self.cli(&[args, &["--json"]].concat());
        out.expect(code);
        let lines = out.json();
        lines[0]["error"]["reason"].as_str().expect("there is a reason").to_owned()
    }

    pub fn state(&self, alias: &str) -> String {
        let all = self.cli(&["list", "--json"]).json();
        let found = all.iter().find(|p| p["alias"] == alias).unwrap_or_else(|| panic!("{alias} in {all:?}"));
        found["state"].as_str().expect("it is text").to_owned()
    }

    /// What runs of this service with this in its command line.
    pub fn running(&self, text: &str) -> Vec<u32> {
        procfs::with_command(text).into_iter().filter(|&pid| self.0.is_marked(pid)).collect()
    }

    pub fn host_pid(&self) -> u32 {
        self.0.pid("provost.host")
    }
}

#[test]
fn providers_in_python_and_node_are_hosted_as_they_are() {
    let hosting = Hosting::start();
    for name in hosting.others() {
        hosting.ok(&["start", &name, "--binary", &name, "--config", r#"{"a": 1}"#]);
        assert_eq!(
            hosting.fetch(&name, &["database"]),
            json!({ "host": "db1", "none": null, "port": 5432, "ratio": 0.5, "replicas": ["a", "b"], "tls": true }),
        );
        assert_eq!(hosting.ok(&["fetch", &name, "database", "host", "--unwrap", "--raw"]), "db1");
        assert_eq!(hosting.ok(&["fetch", &name, "database", "port"]), "{\"value\":5432}");
        assert_eq!(hosting.reason(4, &["fetch", &name, "database", "nothing"]), "path_not_found");
        assert_eq!(hosting.reason(2, &["fetch", &name]), "invalid_path");
        assert!(hosting.ok(&["info", &name]).contains(&format!("ready, {name} 1.0, pid ")));
        assert_eq!(hosting.ok(&["health", &name]), "ok: healthy");
        assert!(hosting.ok(&["logs", &name]).contains(&format!("the last words of {name}")));
        let before = hosting.pid(&name);
        procfs::signal("KILL", before);
        // With all of its threads: they hold its sockets.
        wait::until("it has gone", SOON, || !Path::new(&format!("/proc/{before}")).exists());
        // One that ended while nobody asked is started again, and initialised again.
        let after = hosting.pid(&name);
        assert_ne!(before, after);
        let begin = Instant::now();
        hosting.ok(&["stop", &name]);
        assert!(begin.elapsed() < Duration::from_secs(5), "it leaves at SIGTERM: {:?}", begin.elapsed());
        assert!(!procfs::alive(after));
        assert_eq!(hosting.state(&name), "idle");
    }
    hosting.ok(&["shutdown"]);
    assert_eq!(hosting.ok(&["list"]), "");
}

#[test]
fn one_of_the_configuration_is_started_when_it_is_asked() {
    let scratch = Scratch::new();
    let example = binary().parent().expect("it is in a directory").join("examples/files-provider");
    let config = scratch.file("provost.toml");
    fs::write(scratch.file("motd"), "hello\n").expect("the directory is ours");
    let text = format!(
        "[providers.files]\nbinary = '{}'\nallow_external = true\nlazy = true\nconfig = {{ directory = '.' }}\n",
        example.display()
    );
    fs::write(&config, text).expect("the directory is ours");
    let hosting = Hosting::of(Options::new().serve(&["--config", &config]).start());
    assert!(hosting.running("files-provider").is_empty() && hosting.ok(&["list"]).is_empty());
    // The configuration says '.', which is where it stands.
    assert_eq!(hosting.fetch("files", &["motd"]), "hello");
    assert_eq!(hosting.state("files"), "ready");
    hosting.ok(&["stop", "files"]);
    assert_eq!(hosting.fetch("files", &["motd"]), "hello");
}

#[test]
fn the_files_provider_gives_out_what_is_in_its_directory() {
    let hosting = Hosting::start();
    let directory = hosting.0.scratch().file("files");
    fs::create_dir_all(format!("{directory}/deep")).expect("the directory is ours");
    fs::write(format!("{directory}/db.json"), r#"{"port": 5432, "list": [1]}"#).expect("it is ours");
    fs::write(format!("{directory}/deep/motd"), "hello\n").expect("it is ours");
    std::os::unix::fs::symlink("/etc/passwd", format!("{directory}/link")).expect("it is ours");
    let example = binary().parent().expect("it is in a directory").join("examples/files-provider");
    hosting.script("files", &format!("exec {}", example.display()));
    let config = json!({ "directory": directory }).to_string();
    hosting.ok(&["start", "files", "--binary", "files", "--config", &config]);
    assert_eq!(hosting.fetch("files", &["db.json", "port"]), 5432);
    assert_eq!(hosting.fetch("files", &["deep", "motd"]), "hello");
    assert_eq!(hosting.reason(6, &["fetch", "files", "link"]), "permission_denied");
    assert_eq!(hosting.reason(2, &["fetch", "files", "..", "x"]), "invalid_path");
    assert_eq!(hosting.reason(4, &["fetch", "files", "nothing"]), "path_not_found");
    let wrong = json!({ "directory": "/no/such" }).to_string();
    assert_eq!(
        hosting.reason(1, &["start", "wrong", "--binary", "files", "--config", &wrong]),
        "init_failed"
    );
}

#[test]
fn h1_one_that_reports_nothing_is_given_up_and_holds_nobody_up() {
    let hosting = Hosting::start();
    let (silent, fine) = (hosting.rude("silent"), hosting.rude("fine"));
    thread::scope(|scope| {
        let begun = scope.spawn(|| {
            hosting.reason(1, &["start", "silent", "--binary", &silent, "--handshake-timeout", "3s"])
        });
        wait::until("it is being started", SOON, || {
            hosting.cli(&["list", "--json"]).json().iter().any(|p| p["state"] == "starting")
        });
        hosting.start_alias("fine", &fine);
        assert_eq!(hosting.fetch("fine", &["inits"]), 1);
        assert!(!begun.is_finished(), "the other one was waited for");
        assert_eq!(begun.join().expect("it does not panic"), "handshake_timeout");
    });
    assert_eq!(hosting.running("rude silent"), [0u32; 0], "nothing of it is left");
    assert_eq!(hosting.state("silent"), "idle");
}

#[test]
fn h2_h3_what_is_no_handshake_is_refused_and_shown() {
    let hosting = Hosting::start();
    for (mode, shown) in [
        ("garbage", "PROVIDER_PORT=eighty"),
        ("port-0", "PROVIDER_PORT=0"),
        ("port-65536", "PROVIDER_PORT=65536"),
        ("no-newline", "xxxx"),
    ] {
        let binary = hosting.rude(mode);
        let failed = hosting.cli(&["start", mode, "--binary", &binary]);
        failed.expect(1);
        assert!(failed.err().contains("bad handshake") && failed.err().contains(shown), "{failed:?}");
        assert!(failed.err().len() < 1000, "{failed:?}");
    }
    assert_eq!(hosting.0.below().iter().filter(|&&pid| procfs::command(pid).contains("rude")).count(), 0);
}

#[test]
fn h5_a_port_of_something_else_is_not_asked() {
    let hosting = Hosting::start();
    let stranger = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let port = stranger.local_addr().expect("it is bound").port();
    let binary = hosting.rude(&format!("another-port {port}"));
    let failed = hosting.cli(&["start", "other", "--binary", &binary]);
    failed.expect(1);
    assert!(failed.err().contains("which is not of this provider"), "{failed:?}");
    stranger.set_nonblocking(true).expect("it is a socket");
    assert!(stranger.accept().is_err(), "nobody has connected");
    let closed = hosting.rude("closed-port");
    let timeout = ["--handshake-timeout", "1s"];
    assert_eq!(
        hosting.reason(1, &[&["start", "closed", "--binary", &closed], &timeout[..]].concat()),
        "not_healthy"
    );
}

#[test]
fn h6_an_end_is_told_with_exit_and_last_words_and_the_next_call_works() {
    let hosting = Hosting::start();
    let (early, rude, init) = (hosting.rude("exit-early"), hosting.rude("fine"), hosting.rude("die-in-init"));
    let failed = hosting.cli(&["start", "early", "--binary", &early]);
    failed.expect(1);
    assert!(failed.err().contains("exit code 3; its standard error ends with: cannot go on"), "{failed:?}");
    assert_eq!(hosting.reason(1, &["start", "init", "--binary", &init]), "crashed");
    hosting.start_alias("rude", &rude);
    let begin = Instant::now();
    let failed = hosting.cli(&["fetch", "rude", "die"]);
    failed.expect(1);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(failed.err().contains("exit code 9; its standard error ends with: going down"), "{failed:?}");
    // Killed in the middle of a call, by somebody else.
    let pid = hosting.pid("rude");
    let hanging = hosting.0.background(&["provider", "fetch", "rude", "hang"]);
    wait::until("the call is under way", SOON, || has_call(pid));
    procfs::signal("KILL", pid);
    let ended = hanging.end(SOON);
    ended.expect(1);
    assert!(ended.err().contains("SIGKILL"), "{ended:?}");
    assert_eq!(hosting.fetch("rude", &["inits"]), 1);
}

/// Its port is looked at while it goes, or when it has gone: that is no stranger's, and nothing to wait for.
#[test]
fn h6_one_that_ends_as_it_reports_its_port_has_crashed() {
    let hosting = Hosting::start();
    let binary = hosting.rude("exit-at-port");
    // Longer than a command may take here.
    let patient = ["--retries", "0", "--handshake-timeout", "5m"];
    for n in 0..rounds(10) {
        let alias = format!("a{n}");
        let start = [&["start", &alias, "--binary", &binary], &patient[..]].concat();
        assert_eq!(hosting.reason(1, &start), "crashed");
    }
}

#[test]
fn h6_one_that_dies_again_and_again_is_left_alone_until_a_reset() {
    let hosting = Hosting::start();
    let binary = hosting.rude("exit-early");
    for _ in 0..5 {
        assert_eq!(hosting.reason(1, &["start", "early", "--binary", &binary]), "exited_early");
    }
    assert_eq!(hosting.state("early"), "failed");
    let starts = || hosting.cli(&["list", "--json"]).json()[0]["starts"].clone();
    // Nobody waits for it any more.
    assert_eq!((hosting.reason(6, &["fetch", "early", "x"]), starts()), ("circuit_open".into(), json!(5)));
    hosting.ok(&["reset", "early"]);
    assert_eq!((hosting.reason(1, &["fetch", "early", "x"]), starts()), ("exited_early".into(), json!(6)));
}

#[test]
fn what_has_died_by_itself_is_gone_with_its_alias() {
    let hosting = Hosting::start();
    let rude = hosting.rude("fine");
    for end in [&["stop", "rude"][..], &["shutdown"]] {
        hosting.start_alias("rude", &rude);
        procfs::signal("KILL", hosting.pid("rude"));
        hosting.0.until_state("provider.default.rude", "stopped");
        // Its host has noticed.
        wait::until("it is known to rest", SOON, || hosting.state("rude") == "idle");
        hosting.ok(end);
        let left = hosting.0.list_json();
        assert!(left.iter().all(|p| p["name"] != "provider.default.rude"), "{end:?}: {left:?}");
    }
}

#[test]
fn h7_h8_what_ignores_its_end_or_is_frozen_is_ended_all_the_same() {
    let hosting = Hosting::start();
    let (stubborn, child) = (hosting.rude("ignore-term"), hosting.rude("with-child"));
    let options = ["--term-timeout", "500ms", "--shutdown-timeout", "500ms", "--fetch-timeout", "500ms"];
    hosting.ok(&[&["start", "stubborn", "--binary", &stubborn], &options[..]].concat());
    hosting.ok(&[&["start", "child", "--binary", &child], &options[..]].concat());
    hosting.ok(&[&["start", "frozen", "--binary", &child], &options[..]].concat());
    let frozen = hosting.pid("frozen");
    procfs::signal("STOP", frozen);
    assert_eq!(hosting.reason(5, &["fetch", "frozen", "pid"]), "deadline");
    let begin = Instant::now();
    hosting.ok(&["shutdown"]);
    assert!(begin.elapsed() < Duration::from_secs(15), "all at once: {:?}", begin.elapsed());
    assert!(!procfs::alive(frozen));
    assert_eq!(hosting.running("sleep 76100"), [0u32; 0], "the daemons have gone, too");
}

#[test]
fn h9_what_prints_without_end_is_drained() {
    let hosting = Hosting::start();
    hosting.start_alias("loud", &hosting.rude("fine"));
    assert_eq!(hosting.fetch("loud", &["shout"]), "shouted");
}

#[test]
fn h10_answers_are_taken_up_to_limits_and_the_provider_stays() {
    let hosting = Hosting::start();
    let rude = hosting.rude("fine");
    hosting.start_alias("rude", &rude);
    let pid = hosting.pid("rude");
    for (path, code, reason) in [
        ("large", 1, "too_large"),
        ("denied", 6, "permission_denied"),
        ("bad", 2, "invalid_path"),
        ("busy", 1, "unavailable"),
        ("panic", 1, "refused"),
        ("nothing", 4, "path_not_found"),
    ] {
        assert_eq!(hosting.reason(code, &["fetch", "rude", path]), reason, "{path}");
    }
    assert_eq!((hosting.pid("rude"), hosting.fetch("rude", &["inits"])), (pid, json!(1)));
}

#[test]
fn h13_ten_who_want_one_alias_make_one_process_and_one_init() {
    let hosting = Hosting::start();
    let rude = hosting.rude("starting");
    hosting.script("other", "exit 0");
    thread::scope(|scope| {
        let starts: Vec<_> = (0..10).map(|_| scope.spawn(|| hosting.start_alias("one", &rude))).collect();
        starts.into_iter().for_each(|start| start.join().expect("each gets it"));
    });
    assert_eq!(hosting.fetch("one", &["inits"]), 1);
    assert_eq!(hosting.running("rude starting").len(), 1);
    let other = hosting.cli(&["start", "one", "--binary", "other"]);
    other.expect(6);
    assert!(other.err().contains(&format!("its binary is {rude}, not other")), "{other:?}");
    // The names of their processes are nobody else's.
    let named = hosting.0.cli(&["start", "--name", "provider.default.mine", "--", "sleep", "76101"]);
    named.expect(6);
    assert!(named.err().contains("is for a provider"), "{named:?}");
    // Another set has names of its own.
    hosting.ok(&["start", "one", "--set", "ci", "--binary", &rude]);
    assert_eq!(hosting.running("rude starting").len(), 2);
    hosting.ok(&["shutdown", "--set", "ci"]);
    assert_eq!(hosting.state("one"), "ready");
}

#[test]
fn h15_h17_h18_a_binary_that_others_can_change_or_that_is_another_is_not_executed() {
    let hosting = Hosting::start();
    let path = hosting.script("mine", &format!("exec {}", fixture("rude")));
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
    let start = |more: &[&'static str]| [&["start", "mine", "--binary", "mine"], more].concat();
    let zeros = "0000000000000000000000000000000000000000000000000000000000000000";
    mode(0o777);
    assert_eq!(hosting.reason(6, &start(&[])), "not_permitted");
    mode(0o644);
    assert_eq!(hosting.reason(126, &start(&[])), "not_executable");
    mode(0o755);
    assert_eq!(hosting.reason(6, &start(&["--sha256", zeros])), "pin_mismatch");
    assert_eq!(hosting.reason(127, &["start", "x", "--binary", "nothing"]), "binary_not_found");
    assert_eq!(hosting.reason(6, &["start", "x", "--binary", "/bin/true"]), "outside_directories");
    assert_eq!(hosting.reason(6, &start(&["--pin-type", "files"])), "pin_mismatch");
    assert_eq!(hosting.ok(&["list"]), "", "what was refused is not known");
    hosting.ok(&start(&["--pin-type", "rude", "--pin-version", "0.0"]));
    assert!(Path::new(&format!("/proc/{}", hosting.pid("mine"))).exists());
}

#[test]
fn h20_secrets_of_the_configuration_are_in_no_error() {
    let hosting = Hosting::start();
    let rude = hosting.rude("refuse-init");
    let config = r#"{"password": "correct horse"}"#;
    let failed = hosting.cli(&["start", "rude", "--binary", &rude, "--config", config]);
    failed.expect(1);
    assert!(failed.err().contains("my password is [hidden]"), "{failed:?}");
    assert!(!failed.err().contains("correct horse"), "{failed:?}");
    assert!(failed.err().contains("NOT_FOUND") && !failed.err().contains("path not found"), "{failed:?}");
}

/// Whether a provider of the SDK works on a call: it has a thread for each.
pub fn has_call(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.any(|name| name == "call\n")
}

/// The deaths of everything of ours, in turn: the providers go on, or end with the service, and none runs
/// twice or is initialised twice.
fn survives(hosting: &Hosting) {
    let rude = hosting.rude("fine");
    hosting.start_alias("rude", &rude);
    let pid = hosting.pid("rude");
    let is_the_same = |what: &str| {
        let found = wait::until_some("the host answers", SOON, || {
            let out = hosting.cli(&["fetch", "rude", "pid", "--unwrap"]);
            (out.code == 0).then(|| out.out().trim().to_owned())
        });
        assert_eq!((found, hosting.fetch("rude", &["inits"])), (pid.to_string(), json!(1)), "{what}");
        assert_eq!(hosting.running("rude fine"), [pid], "{what}");
    };
    procfs::signal("KILL", hosting.host_pid());
    is_the_same("the host was killed");
    hosting.0.kill_engine();
    is_the_same("the engine was killed");
    procfs::signal("KILL", hosting.host_pid());
    hosting.0.kill_engine();
    is_the_same("both were killed");
    // With the keeper gone, what it kept is ended by the next service, and started when it is asked for.
    hosting.0.kill_service();
    hosting.0.serve_again();
    let again = wait::until_some("the host answers", SOON, || {
        let out = hosting.cli(&["fetch", "rude", "pid", "--unwrap"]);
        (out.code == 0).then(|| out.out().trim().to_owned())
    });
    assert_eq!(hosting.running("rude fine").iter().map(ToString::to_string).collect::<Vec<_>>(), [again]);
    assert_eq!(hosting.fetch("rude", &["inits"]), 1);
}

#[test]
fn h23_providers_survive_the_death_of_host_and_engine() {
    survives(&Hosting::start());
}

#[test]
fn h23_providers_survive_the_death_of_host_and_engine_without_cgroups() {
    survives(&Hosting::of(Options::new().without_cgroups().start()));
}

#[test]
fn a_replaced_provider_fails_no_call() {
    let hosting = Hosting::start();
    hosting.start_alias("rude", &hosting.rude("fine"));
    let before = hosting.pid("rude");
    thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..50).map(|_| hosting.pid("rude")).collect::<Vec<_>>()))
            .collect();
        hosting.ok(&["replace", "rude"]);
        for call in calls {
            assert_eq!(call.join().expect("no call fails").len(), 50);
        }
    });
    assert_ne!(hosting.pid("rude"), before);
    assert!(!procfs::alive(before));
}

#[test]
fn no_other_waits_for_one_whose_calls_are_awaited() {
    let hosting = Hosting::start();
    let rude = hosting.rude("fine");
    hosting.ok(&["start", "slow", "--binary", &rude, "--fetch-timeout", "1m"]);
    let pid = hosting.pid("slow");
    let hanging = hosting.0.background(&["provider", "fetch", "slow", "hang"]);
    wait::until("the call is under way", SOON, || has_call(pid));
    let replacing = hosting.0.background(&["provider", "replace", "slow"]);
    wait::until("other calls do not wait for it", SOON, || hosting.pid("slow") != pid);
    hosting.start_alias("other", &rude);
    assert_eq!(hosting.state("slow"), "ready");
    assert!(hanging.is_running() && replacing.is_running(), "all of this was while the call went on");
    procfs::signal("KILL", pid);
    hanging.end(SOON).expect(1);
    replacing.end(SOON).expect(0);
    assert_ne!(hosting.pid("slow"), pid);
}

#[test]
fn without_a_service_nothing_is_listed_as_if_there_were_nothing() {
    let hosting = Hosting::start();
    hosting.ok(&["list"]);
    let elsewhere = format!("{}.none", hosting.0.socket());
    let list = cli::run(
        {
            let mut command = std::process::Command::new(binary());
            command.args(["--socket", &elsewhere, "provider", "list"]);
            command
        },
        SOON,
    );
    list.expect(7);
}

#[test]
fn what_was_left_half_initialised_does_not_stay() {
    let hosting = Hosting::start();
    let hanging = hosting.rude("hang-in-init");
    let start = ["provider", "start", "half", "--binary", &hanging, "--init-timeout", "1m"];
    let starting = hosting.0.background(&start);
    wait::until("Init is under way", SOON, || {
        hosting.running("rude hang-in-init").first().is_some_and(|&pid| has_call(pid))
    });
    procfs::signal("KILL", hosting.host_pid());
    starting.end(SOON);
    wait::until("the next host has ended it", SOON, || {
        hosting.cli(&["list"]).code == 0 && hosting.running("rude hang-in-init").is_empty()
    });
    assert_eq!(hosting.state("half"), "idle");
}

//! Whether a process is ready, and whether it is still well: each kind of probe, what becomes of one that
//! fails or hangs, and that nothing of it is lost with the engine.

use std::fs;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use crate::harness::{LATER, Options, SOON, Service, free_port, procfs, wait};

/// Says READY=1, and more, as a program without any library does.
const SAY: &str = "import os,socket,sys,time
def say(text):
    path = os.environ['NOTIFY_SOCKET']
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect('\\0' + path[1:])
    s.send(text.encode())
";

fn python(script: &str) -> [String; 3] {
    ["python3".to_owned(), "-c".to_owned(), format!("{SAY}{script}")]
}

/// `start` with these options and this command; its id.
fn start(service: &Service, options: &[&str], command: &[String]) -> String {
    let mut args = vec!["start"];
    args.extend(options);
    args.push("--");
    args.extend(command.iter().map(String::as_str));
    service.ok(&args)
}

/// Who sleeps for so many seconds.
fn sleeping(seconds: &str) -> Vec<u32> {
    let command = format!("sleep {seconds}");
    procfs::with_command(&command).into_iter().filter(|pid| procfs::command(*pid) == command).collect()
}

fn is_ready(service: &Service, name: &str) -> bool {
    service.status_json(name)["ready"].as_bool().unwrap()
}

#[test]
fn a_program_says_itself_that_it_is_ready_and_how_it_is() {
    let service = Service::new();
    let gate = service.scratch().file("gate");
    let script = format!(
        "say('STATUS=loading')\nwhile not os.path.exists('{gate}'): time.sleep(0.01)\n\
         say('READY=1\\nSTATUS=serving')\ntime.sleep(71101)"
    );
    start(&service, &["--name", "web", "--ready-notify"], &python(&script));
    wait::until("it has said what it does", SOON, || service.status_json("web")["status"] == "loading");
    assert!(!is_ready(&service, "web"));
    fs::write(&gate, "").unwrap();
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web"]);
    assert!(service.ok(&["status", "web"]).contains("serving"));
}

#[test]
fn what_is_not_ready_says_what_it_waits_for() {
    let service = Service::new();
    let port = free_port().to_string();
    let sleep = ["sleep", "71103"].map(str::to_owned);
    start(&service, &["--name", "web", "--ready-tcp", &port], &sleep);
    start(&service, &["--name", "quiet", "--ready-line", "up and well"], &sleep);
    let looked = format!("waits for tcp {port} (nobody listens at port {port})");
    wait::until("it was looked at", SOON, || service.ok(&["status", "web"]).contains(&looked));
    assert!(service.ok(&["why", "web"]).contains(&format!("but not ready: {looked}")));
    let late = service.cli(&["wait", "--for", "ready", "--timeout", "1ms", "web"]).expect(5).err();
    assert!(late.contains(&format!("web is not ready after 1 ms: it is running, {looked}")), "{late}");
    assert!(service.ok(&["status", "quiet"]).contains("not ready: waits for its line 'up and well'"));
}

/// Also from a descendant, that has ended by the time that its word is read.
#[test]
fn a_descendant_speaks_for_its_process_and_a_stranger_does_not() {
    let service = Service::new();
    let script = "import subprocess\nprint(os.environ['NOTIFY_SOCKET'], flush=True)\n\
                  while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n\
                  subprocess.run([sys.executable, '-c', sys.argv[2]])\ntime.sleep(71102)";
    let gate = service.scratch().file("gate");
    let mut command = python(script).to_vec();
    command.extend([gate.clone(), format!("{SAY}say('READY=1')")]);
    start(&service, &["--name", "web", "--ready-notify"], &command);
    wait::until("it has printed its socket", SOON, || service.output("web").ends_with(b"\n"));
    let socket = String::from_utf8(service.output("web")).unwrap();
    // The test itself is no descendant, and lives while its word is read, which is before the other one.
    let foreign = UnixDatagram::unbound().unwrap();
    let name = socket.trim().trim_start_matches('@');
    let address = SocketAddr::from_abstract_name(name);
    foreign.send_to_addr(b"READY=1\nSTATUS=from a stranger", &address.unwrap()).unwrap();
    fs::write(&gate, "").unwrap();
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web"]);
    assert!(service.status_json("web")["status"].is_null(), "what a stranger says is not taken");
}

/// A program of others that says so: systemd's own, as shells use it. That of redis is in `j_example.rs`.
#[test]
fn what_systemd_notify_says_is_understood() {
    if !Path::new("/usr/bin/systemd-notify").exists() {
        panic!("systemd-notify is not installed: tests/install.sh tests");
    }
    let service = Service::new();
    let script = "sleep 71120 & systemd-notify --ready --pid=$! --status='open for business'; wait";
    let options = ["--name", "web", "--ready-notify", "--ready-timeout", "30s", "--wait"];
    start(&service, &options, &["sh", "-c", script].map(str::to_owned));
    let shown = service.status_json("web");
    assert_eq!((&shown["status"], &shown["ready"]), (&"open for business".into(), &true.into()));
    wait::until("its main process is known", SOON, || procfs::command(service.pid("web")) == "sleep 71120");
    // More time than it has by its definition, for as long as it asks for.
    let script =
        "systemd-notify EXTEND_TIMEOUT_USEC=30000000; sleep 2.5; systemd-notify --ready; exec sleep 71121";
    let options = ["--name", "slow", "--ready-notify", "--ready-timeout", "2s", "--wait"];
    start(&service, &options, &["sh", "-c", script].map(str::to_owned));
    assert_eq!(service.status_json("slow")["run"], 1);
}

/// The keeper holds the socket: what is said while there is no engine waits in it.
#[test]
fn what_a_program_says_while_there_is_no_engine_is_heard() {
    let service = Service::new();
    let gate = service.scratch().file("gate");
    let script = format!(
        "while not os.path.exists('{gate}'): time.sleep(0.001)\nsay('READY=1\\nSTATUS=x')\ntime.sleep(71103)"
    );
    for round in 0..3 {
        let name = format!("web-{round}");
        start(&service, &["--name", &name, "--ready-notify"], &python(&script));
        assert!(!is_ready(&service, &name));
    }
    procfs::signal("STOP", service.keeper_pid());
    let engine = service.engine_pid();
    procfs::signal("KILL", engine);
    fs::write(&gate, "").unwrap();
    // They have said it, and there is nobody who could have read it.
    wait::pass(Duration::from_millis(200));
    procfs::signal("CONT", service.keeper_pid());
    for round in 0..3 {
        service.ok(&["wait", "--for", "ready", "--timeout", "20s", &format!("web-{round}")]);
    }
    assert_ne!(service.engine_pid(), engine);
}

/// A Python program that answers HTTP with the status that a file holds: it, its port, and the file.
fn web_server(service: &Service) -> (String, u16, String) {
    let (port, mode) = (free_port(), service.scratch().file("status"));
    let script = format!(
        "import http.server\n\
         class H(http.server.BaseHTTPRequestHandler):\n\
         \x20 def do_GET(self): self.send_response(int(open('{mode}').read())); self.end_headers()\n\
         \x20 def log_message(self, *a): pass\n\
         http.server.HTTPServer(('127.0.0.1', {port}), H).serve_forever()"
    );
    (script, port, mode)
}

#[test]
fn a_url_shows_readiness_and_then_life() {
    let service = Service::new();
    let (script, port, mode) = web_server(&service);
    let url = format!("http://127.0.0.1:{port}/health");
    fs::write(&mode, "503").unwrap();
    let options = [
        "--name",
        "web",
        "--restart",
        "always",
        "--ready-http",
        &url,
        "--live-http",
        &url,
        "--live-interval",
        "50ms",
        "--live-failures",
        "2",
    ];
    start(&service, &options, &["python3".into(), "-c".into(), script]);
    wait::until("it answers", LATER, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert!(!is_ready(&service, "web"), "503 is not ready");
    fs::write(&mode, "200").unwrap();
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web"]);
    assert_eq!(service.status_json("web")["run"], 1);
    fs::write(&mode, "500").unwrap();
    wait::until("it was restarted", LATER, || service.status_json("web")["run"] == 2);
    let events = service.ok(&["events", "web"]);
    assert!(events.contains("2 probes of its life in a row failed: it answers with status 500"), "{events}");
    fs::write(&mode, "204").unwrap();
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web"]);
}

#[test]
fn a_command_shows_readiness_and_one_that_hangs_is_killed_with_its_tree() {
    for options in [Options::new(), Options::new().without_cgroups()] {
        let service = options.start();
        let gate = service.scratch().file("gate");
        let probe = format!("test -e {gate} || {{ echo not yet >&2; sleep 71104 & sleep 71105; }}");
        let options = [
            "--name",
            "web",
            "--ready-exec",
            &probe,
            "--ready-attempt",
            "300ms",
            "--ready-interval",
            "100ms",
            "--ready-timeout",
            "60s",
        ];
        start(&service, &options, &["sleep".into(), "71106".into()]);
        wait::until("a probe hangs", SOON, || !sleeping("71105").is_empty());
        let first = sleeping("71104");
        wait::until("it was killed, with what it has started", SOON, || {
            first.iter().all(|pid| procfs::stat(*pid).is_none_or(|stat| stat.state == 'Z'))
        });
        assert!(!is_ready(&service, "web"));
        // One that an engine leaves behind ends, too.
        service.kill_engine();
        fs::write(&gate, "").unwrap();
        service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web"]);
        service.ok(&["stop", "web"]);
        wait::until("nothing of the probes is left", SOON, || {
            sleeping("71104").is_empty() && sleeping("71105").is_empty()
        });
    }
}

#[test]
fn what_is_not_ready_in_its_time_has_failed_and_says_why() {
    let service = Service::new();
    let port = free_port().to_string();
    let out = service.cli(&[
        "start",
        "--name",
        "web",
        "--ready-tcp",
        &port,
        "--ready-timeout",
        "300ms",
        "--wait",
        "--",
        "sleep",
        "71107",
    ]);
    let why = format!("not ready within 300 ms: nobody listens at port {port}");
    assert!(out.err().contains(&why), "{}", out.err());
    out.expect(3);
    assert!(service.ok(&["why", "web"]).contains(&why));
    // By its policy it is tried again, and given up at last.
    service.ok(&["update", "--restart", "on-failure", "--max-restarts", "1", "web"]);
    let out = service.cli(&["start", "--wait=ready", "web"]);
    assert!(out.err().contains(&why), "{}", out.err());
    assert_eq!(
        (service.state("web"), service.status_json("web")["run"].as_u64()),
        ("failed".into(), Some(3))
    );
    // The time counts on under another engine.
    service.ok(&["update", "--ready-timeout", "2s", "web"]);
    service.ok(&["start", "web"]);
    service.kill_engine();
    wait::until("it has failed again", LATER, || service.state("web") == "failed");
}

#[test]
fn a_line_of_failure_ends_the_waiting_at_once() {
    let service = Service::new();
    let script = "echo starting; echo 'bind: EADDRINUSE'; sleep 71108";
    let out = service.cli(&[
        "start",
        "--name",
        "web",
        "--ready-line",
        "listening",
        "--fail-line",
        "EADDRINUSE",
        "--wait",
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert!(out.err().contains("line of failure"), "{}", out.err());
    out.expect(3);
    assert_eq!(service.state("web"), "stopped");
}

#[test]
fn a_watchdog_restarts_what_falls_silent() {
    let service = Service::new();
    let marker = service.scratch().file("silent");
    let script = format!(
        "say('READY=1')\nassert os.environ['WATCHDOG_USEC'] == '400000'\n\
         while not os.path.exists('{marker}'): say('WATCHDOG=1'); time.sleep(0.05)\n\
         os.unlink('{marker}'); time.sleep(71109)"
    );
    let options = [
        "--name",
        "web",
        "--ready-notify",
        "--live-notify",
        "--live-interval",
        "400ms",
        "--restart",
        "always",
    ];
    start(&service, &options, &python(&script));
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web"]);
    // More than one interval, in which it speaks.
    wait::pass(Duration::from_millis(900));
    assert_eq!(service.status_json("web")["run"], 1);
    fs::write(&marker, "").unwrap();
    wait::until("it was restarted", LATER, || service.status_json("web")["run"] == 2);
    assert!(service.ok(&["events", "web"]).contains("not said WATCHDOG=1 within 400 ms"));
}

#[test]
fn a_job_is_ready_when_it_has_ended_with_success() {
    let service = Service::new();
    let gate = service.scratch().file("gate");
    let script = format!("while ! test -e {gate}; do sleep 0.01; done");
    service.ok(&["start", "--name", "migrate", "--ready-exit", "--", "sh", "-c", &script]);
    assert!(!is_ready(&service, "migrate"));
    let waits = service.background(&["wait", "--for", "ready", "migrate"]);
    fs::write(&gate, "").unwrap();
    waits.end(SOON).expect(0);
    assert!(is_ready(&service, "migrate"));
    let out = service.cli(&["start", "--name", "bad", "--ready-exit", "--wait", "--", "false"]);
    out.expect(3);
}

/// Nothing is looked at while nothing is due.
#[test]
fn who_is_ready_is_not_looked_at() {
    let service = Service::new();
    let script = "say('READY=1')\ntime.sleep(71110)";
    start(&service, &["--name", "said", "--ready-notify"], &python(script));
    service.ok(&["start", "--name", "line", "--ready-line", "up", "--", "sh", "-c", "echo up; sleep 71111"]);
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "said", "line"]);
    let engine = service.engine_pid();
    let before = procfs::at_rest(&[engine]);
    wait::pass(Duration::from_secs(2));
    assert_eq!(procfs::switches(engine), before, "threads of the engine have woken for nothing");
}

/// More than its socket holds, and more time than it has by its definition.
#[test]
fn a_program_is_listened_to_until_its_end() {
    let service = Service::new();
    let script = "import signal
def end(*_):
    say('STOPPING=1\\nEXTEND_TIMEOUT_USEC=30000000')
    for n in range(2000): say('STATUS=closing %d' % n)
    time.sleep(2)
    os._exit(7)
signal.signal(signal.SIGTERM, end)
say('READY=1')
while True: time.sleep(71112)";
    start(&service, &["--name", "web", "--ready-notify", "--stop-timeout", "1s"], &python(script));
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web"]);
    service.ok(&["stop", "web"]);
    let shown = service.status_json("web");
    assert_eq!(shown["exit"]["code"], 7, "{shown}");
    assert_eq!(shown["status"], "closing 1999");
}

#[test]
fn another_time_to_be_ready_counts_from_the_same_start() {
    let service = Service::new();
    let options = ["--name", "web", "--ready-line", "up", "--ready-timeout", "2s"];
    start(&service, &options, &["sleep".into(), "71113".into()]);
    service.ok(&["update", "--ready-timeout", "10m", "web"]);
    // Longer than it had at first.
    wait::pass(Duration::from_millis(2500));
    assert_eq!(service.state("web"), "running");
    service.ok(&["update", "--ready-timeout", "1s", "web"]);
    wait::until("its time is over", SOON, || service.state("web") == "stopped");
    let why = service.ok(&["why", "web"]);
    assert!(why.contains("not printed that it is ready within 1 s"), "{why}");
}

/// It runs on, and those that require it follow.
#[test]
fn readiness_is_lost_and_comes_back() {
    let service = Service::new();
    let (script, port, mode) = web_server(&service);
    let url = format!("http://127.0.0.1:{port}/health");
    fs::write(&mode, "200").unwrap();
    let options = [
        "--name",
        "db",
        "--ready-http",
        &url,
        "--ready-recheck",
        "50ms",
        "--ready-failures",
        "2",
        "--ready-timeout",
        "60s",
    ];
    start(&service, &options, &["python3".into(), "-c".into(), script]);
    service.ok(&["start", "--name", "web", "--requires", "db", "--", "sleep", "71114"]);
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web"]);
    for run in [2, 3] {
        let pid = service.pid("db");
        // Written whole in one step: what is read is a number.
        fs::write(format!("{mode}.new"), "500").unwrap();
        fs::rename(format!("{mode}.new"), &mode).unwrap();
        wait::until("it waits for it", LATER, || service.status_json("web")["waits_for"] == "db (not ready)");
        assert!(!is_ready(&service, "db"));
        assert!(service.ok(&["status", "db"]).contains("not ready"));
        // Another engine knows as much, and looks on. Another time to be ready is not one for this run.
        service.kill_engine();
        service.ok(&["update", "--ready-timeout", if run == 2 { "1ms" } else { "60s" }, "db"]);
        assert!(!is_ready(&service, "db"));
        fs::write(format!("{mode}.new"), "200").unwrap();
        fs::rename(format!("{mode}.new"), &mode).unwrap();
        service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web"]);
        assert_eq!(service.status_json("web")["run"], run);
        assert_eq!((service.pid("db"), service.status_json("db")["run"].as_u64()), (pid, Some(1)));
    }
    let events = service.ok(&["events", "db"]);
    assert!(events.contains("unready") && events.contains("it answers with status 500"), "{events}");
}

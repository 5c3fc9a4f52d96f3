//! The gateway, and what is behind it, killed under load; what is on record of those who come through it; and
//! what is nowhere: secrets.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::h2::{OK, PERMISSION_DENIED, Peer, expect_service, login, login_of, text_field, tls};
use crate::harness::cli;
use crate::harness::gateway::User;
use crate::harness::{Gateway, LATER, Options, SOON, procfs, rounds, wait};

fn targets(name: &str) -> Vec<u8> {
    text_field(1, name.as_bytes())
}

/// `Start { spec: Spec { command, name, env } }`.
fn start(name: &str, variable: (&str, &str)) -> Vec<u8> {
    let (key, value) = (text_field(1, variable.0.as_bytes()), text_field(2, variable.1.as_bytes()));
    let args = [text_field(1, b"sleep"), text_field(1, b"76020"), text_field(2, name.as_bytes())];
    text_field(1, &[args.concat(), text_field(3, &[key, value].concat())].concat())
}

/// It is confined, and may read nothing of /proc.
#[test]
fn a_gateway_that_nobody_calls_gives_its_code_back() {
    let gateway = Gateway::start();
    gateway.cli(User::Admin, &["list"]).expect(0);
    let in_use = procfs::files_kib(gateway.pid());
    wait::until("it is given back", LATER, || procfs::files_kib(gateway.pid()) < in_use / 2);
    gateway.cli(User::Admin, &["list"]).expect(0);
}

/// What the children are: they must not notice anything.
fn children(gateway: &Gateway) -> BTreeMap<String, Value> {
    let all = gateway.service().list_json().into_iter();
    all.map(|p| (p["name"].as_str().expect("text").to_owned(), p["pid"].clone())).collect()
}

/// Until somebody new is served; how long that took.
#[track_caller]
fn until_served(gateway: &Gateway) -> Duration {
    wait::until("somebody new is served", SOON, || {
        let mut peer = Peer::with(gateway.port(), tls(gateway)).ok();
        let answer = peer.as_mut().and_then(|peer| peer.call("ServiceInfo", &login_of(User::Viewer), &[]));
        answer.is_some_and(|answer| answer.status == Some(OK))
    })
}

/// Clients that call all the time, connect again when they lose their connection, and count what they get.
fn under_load<T>(gateway: &Gateway, work: impl FnOnce(&AtomicU32) -> T) -> T {
    let (is_over, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let login = login_of(User::Operator);
                while !is_over.load(Ordering::Relaxed) {
                    let Ok(mut peer) = Peer::with(gateway.port(), tls(gateway)) else {
                        wait::pass(Duration::from_millis(10));
                        continue;
                    };
                    while !is_over.load(Ordering::Relaxed) && peer.call("List", &login, &[]).is_some() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        wait::until("there is load", SOON, || answered.load(Ordering::Relaxed) > 20);
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&answered)));
        is_over.store(true, Ordering::Relaxed);
        worked.unwrap_or_else(|e| std::panic::resume_unwind(e))
    })
}

#[test]
fn g33_a_gateway_that_aborts_is_replaced_unnoticed() {
    let gateway = Gateway::start();
    for n in 0..5 {
        gateway.service().start(&["--name", &format!("web-{n}"), "--", "sleep", "76021"]);
    }
    let before = children(&gateway);
    under_load(&gateway, |_| {
        for round in 0..rounds(3) {
            // No restart of the next one may wait for those before.
            let old = gateway.pid();
            let begin = Instant::now();
            procfs::signal("ABRT", old);
            // The command line, meanwhile.
            let mut slowest = Duration::ZERO;
            wait::until("another one runs", SOON, || {
                let status = gateway.service().cli(&["status", "web-0"]);
                slowest = slowest.max(status.expect(0).took);
                let now = gateway.service().status_json("provost.gateway")["pid"].as_u64();
                now.is_some_and(|now| now != u64::from(old))
            });
            until_served(&gateway);
            println!("{round}: served again after {:?}; slowest status {slowest:?}", begin.elapsed());
            assert_eq!(children(&gateway), before);
        }
    });
}

#[test]
fn g33_an_abort_inside_the_grpc_core_ends_only_the_gateway() {
    let gateway = Gateway::start();
    gateway.service().start(&["--name", "web", "--", "sleep", "76022"]);
    let before = children(&gateway);
    let old = gateway.pid();
    let named = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|c| c.trim_end() == "grpc-0")
    };
    let tasks = fs::read_dir(format!("/proc/{old}/task")).expect("it runs").flatten();
    let core = tasks.filter(named).map(|task| task.file_name().into_string().expect("a number")).next();
    let core = core.expect("a thread of the core");
    let mut gdb = Command::new("gdb");
    gdb.args(["-p", &old.to_string(), "-batch", "-ex", "handle SIGABRT nostop noprint pass"]);
    gdb.args(["-ex", "python [t.switch() for t in gdb.selected_inferior().threads() if t.name == 'grpc-0']"]);
    gdb.args(["-ex", "thread", "-ex", "call (void)abort()"]);
    let Ok(output) = gdb.output() else {
        // Not every machine has a debugger: the signal alone is tested above.
        return println!("there is no gdb here");
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let current = said.lines().find(|line| line.contains("Current thread is")).unwrap_or_default();
    assert!(current.contains(&format!("LWP {core})")), "{output:?}");
    wait::until("it has ended", SOON, || !procfs::alive(old));
    let took = until_served(&gateway);
    println!("served again after {took:?}");
    assert_eq!(children(&gateway), before);
}

#[test]
fn a_engine_and_keeper_killed_under_grpc_load() {
    let mut gateway = Gateway::start();
    gateway.service().start(&["--name", "web", "--", "sleep", "76023"]);
    let before = children(&gateway);
    let pid = gateway.pid();
    under_load(&gateway, |answered| {
        for _ in 0..rounds(3) {
            gateway.service().kill_engine();
            let count = answered.load(Ordering::Relaxed);
            wait::until("calls are answered again", SOON, || answered.load(Ordering::Relaxed) > count + 20);
            assert_eq!(children(&gateway), before);
            assert_eq!(gateway.pid(), pid, "the gateway outlives the engine");
        }
        for _ in 0..rounds(3) {
            procfs::signal("KILL", gateway.pid());
            until_served(&gateway);
            assert_eq!(children(&gateway), before);
        }
        gateway.service().kill_all();
    });
    gateway.serve_again();
    until_served(&gateway);
    let after = children(&gateway);
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
}

/// Whether these bytes are anywhere in a file or below a directory.
fn holds(path: &Path, canary: &str) -> Option<String> {
    if path.is_dir() {
        return fs::read_dir(path).ok()?.flatten().find_map(|entry| holds(&entry.path(), canary));
    }
    let bytes = fs::read(path).ok()?;
    let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
    found.then(|| path.display().to_string())
}

#[test]
fn j1_secrets_appear_nowhere() {
    let gateway = Gateway::with(Options::new().through(&["prlimit", "--core=unlimited"]), "");
    let service = gateway.service();
    let wrong = "canary-of-a-wrong-password";
    let value = "canary-of-a-variable";
    let mut peer = Peer::new(&gateway);
    let login_admin = login_of(User::Admin);
    assert_eq!(
        peer.call("Start", &login_admin, &start("web", ("TOKEN", value))).and_then(|a| a.status),
        Some(OK)
    );
    let denied = peer.call("ServiceInfo", &login("alice", wrong), &[]).expect("it goes on");
    assert_eq!(denied.status, Some(PERMISSION_DENIED));
    assert!(!denied.text.contains(wrong));
    let seen = gateway.cli(User::Viewer, &["env", "list"]);
    assert_ne!(seen.code, 0, "{seen:?}");
    assert!(
        !gateway.cli(User::Viewer, &["status", "web", "--json"]).out().contains(value),
        "a viewer sees no values"
    );
    service.kill_engine();
    let key = fs::read_to_string(gateway.file("server.key")).expect("it is there");
    let key = key.lines().nth(1).expect("its first line").to_owned();
    let [password, wrong64] = [login_admin.clone(), login("alice", wrong)].map(|text| text[6..].to_owned());
    let secrets = [User::Admin.password(), wrong, &key, &password, &wrong64];
    let texts = |secret: &str| {
        let said = [
            service.log(),
            gateway.log(),
            service.ok(&["events", "--json"]),
            service.ok(&["audit", "--json"]),
        ];
        said.iter().position(|text| text.contains(secret))
    };
    let pids: Vec<u32> =
        [service.keeper_pid(), service.engine_pid(), gateway.pid(), service.pid("web")].to_vec();
    for secret in secrets {
        assert_eq!(texts(secret), None, "{secret} is said");
        assert_eq!(holds(Path::new(&service.state_dir()), secret), None, "{secret} is stored");
        for pid in &pids {
            for file in ["cmdline", "environ"] {
                assert_eq!(holds(Path::new(&format!("/proc/{pid}/{file}")), secret), None, "{secret}");
            }
        }
    }
    // A variable is in its process, and in the database that begins it again; nowhere else.
    assert_eq!(texts(value), None);
    for pid in &pids[..3] {
        assert_eq!(holds(Path::new(&format!("/proc/{pid}/environ")), value), None);
    }
    // Nor in a core, whatever its limit is for others.
    let limits = fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("it is there");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["1", "1"], "{core}");
    service.ok(&["remove", "--force", "*"]);
}

#[test]
fn j10_every_change_through_grpc_is_on_record_before_it_is_answered() {
    let mut gateway = Gateway::start();
    gateway.service().start(&["--name", "web", "--", "sleep", "76024"]);
    let serial = {
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-noout", "-serial", "-in", &gateway.file("client.pem")]);
        cli::run(openssl, SOON).expect(0).out().replace("serial=", "")
    };
    let mut expected: Vec<(String, String)> = Vec::new();
    for round in 0..3 {
        let mut peer = Peer::new(&gateway);
        let name = format!("new-{round}");
        let signal = [targets("web"), vec![0x10, 18]].concat();
        let changes = [
            ("Start", User::Admin, start(&name, ("A", "b")), format!("start sleep as {name}"), true),
            ("Start", User::Operator, start(&name, ("A", "b")), format!("start sleep as {name}"), false),
            ("Signal", User::Operator, signal.clone(), "signal SIGCONT web".to_owned(), true),
            ("Signal", User::Viewer, signal, "signal SIGCONT web".to_owned(), false),
            ("Restart", User::Operator, targets("web"), "restart web".to_owned(), true),
            ("Stop", User::Viewer, targets("web"), "stop web".to_owned(), false),
            ("Remove", User::Operator, targets("web"), "remove web".to_owned(), false),
            ("Stop", User::Operator, targets(&name), format!("stop {name}"), true),
        ];
        for (method, user, request, what, is_allowed) in changes {
            let answer = peer.call(method, &login_of(user), &request).expect("it goes on");
            let status = if is_allowed { OK } else { PERMISSION_DENIED };
            assert_eq!(answer.status, Some(status), "{method} {user:?} {answer:?}");
            expected.push((format!("user {}, certificate client.provost serial ", user.name()), what));
        }
        drop(peer);
        // At once, whatever was about to be written.
        gateway.service().kill_all();
        gateway.serve_again();
        let lines = gateway.service().cli(&["audit", "--json"]).expect(0).json();
        let remote: Vec<_> =
            lines.iter().filter(|l| l["who"].as_str().is_some_and(|w| w.starts_with("user "))).collect();
        assert_eq!(remote.len(), expected.len(), "{remote:?}");
        for (line, (who, what)) in remote.iter().zip(&expected) {
            let said = line["who"].as_str().expect("text");
            assert!(said.starts_with(who), "{line} is not by {who}");
            let hex =
                |text: &str| text.to_lowercase().replace([':', ' '], "").trim_start_matches('0').to_owned();
            assert_eq!(hex(&said[who.len()..]), hex(&serial), "{line}");
            assert_eq!(line["what"], **what, "{line}");
        }
        gateway.service().ok(&["remove", "--force", "new-*"]);
        expect_service(&gateway);
    }
    let refused = gateway.service().ok(&["audit"]);
    assert!(refused.contains("may not stop: that needs operator"), "{refused}");
}

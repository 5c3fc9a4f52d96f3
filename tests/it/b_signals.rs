//! What a stop sends, to whom, and what becomes of it where it may not be sent: several signals one after the
//! other, the leader alone before all are killed, and leftovers of another user.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::harness::{Options, SOON, Service, procfs, wait};

/// Says what it hears, and ends at the second signal alone.
const TERM_IS_NOT_ENOUGH: &str = "trap 'echo term' TERM; trap 'echo int; exit 3' INT; echo up; \
                                  while :; do sleep 0.05; done";

#[test]
fn b1_signals_of_a_stop_follow_each_other() {
    let service = Service::new();
    let signals = "TERM,300ms,INT,1m,KILL";
    let options = ["--stop-signal", signals, "--stop-scope", "leader", "--ready-line", "up", "--wait=ready"];
    let id = service.start(&[&options[..], &["--", "sh", "-c", TERM_IS_NOT_ENOUGH]].concat());
    service.cli(&["stop", &id]).expect(0);
    assert_eq!(String::from_utf8(service.output(&id)).unwrap(), "up\nterm\nint\n");
    assert_eq!(service.status_json(&id)["exit"]["code"], 3);
    let shown = service.ok(&["show", &id]);
    assert!(shown.contains("stop_signal = \"SIGTERM,300ms,SIGINT\""), "{shown}");
    assert!(shown.contains("stop_timeout = \"1m\""), "{shown}");
    // What a client says of one stop stands alone.
    service.cli(&["start", &id, "--wait=ready"]).expect(0);
    service.cli(&["stop", &id, "--signal", "INT"]).expect(0);
    let output = String::from_utf8(service.output(&id)).unwrap();
    assert!(output.ends_with("up\nint\n"), "{output}");
    for bad in ["TERM,INT", "TERM,10s,NO", "10s"] {
        let refused = service.cli(&["start", "--stop-signal", bad, "--", "true"]);
        refused.expect(2);
        assert!(refused.err().contains("TERM,10s,INT,5s,KILL"), "{refused:?}");
    }
}

/// How far the signals have come is known to the engine that follows.
#[test]
fn a4_the_next_signal_of_a_stop_is_sent_by_the_next_engine() {
    let service = Service::new();
    let options = ["--stop-signal", "TERM,2s,INT,1m", "--stop-scope", "leader", "--ready-line", "up"];
    let id = service.start(&[&options[..], &["--wait=ready", "--", "sh", "-c", TERM_IS_NOT_ENOUGH]].concat());
    let stop = service.background(&["stop", &id]);
    wait::until("it has the first", SOON, || service.output(&id).ends_with(b"term\n"));
    service.kill_engine();
    assert_eq!(stop.end(SOON).code, 0);
    assert!(service.output(&id).ends_with(b"int\n"), "{:?}", service.output(&id));
}

#[test]
fn b4_a_mixed_stop_asks_the_leader_alone_and_leaves_nothing() {
    for service in [Service::new(), Options::new().without_cgroups().start()] {
        let child = "setsid sh -c 'trap \"echo child\" TERM; echo up; while :; do sleep 0.05; done' &";
        let script = format!("trap 'echo leader; exit 0' TERM; {child} while :; do sleep 0.05; done");
        let options = ["--stop-scope", "mixed", "--stop-timeout", "1m", "--ready-line", "up", "--wait=ready"];
        let id = service.start(&[&options[..], &["--", "sh", "-c", &script]].concat());
        assert!(service.tree_of(&id).len() >= 2);
        service.cli(&["stop", &id]).expect(0);
        assert_eq!(String::from_utf8(service.output(&id)).unwrap(), "up\nleader\n");
        assert_eq!(service.tree_of(&id), Vec::<u32>::new());
    }
}

/// A program that became another user's, which the service may not signal.
#[test]
fn b1_what_may_not_be_signalled_is_said() {
    let service = Options::new().of_nobody().start();
    let setpriv = Command::new("sh").args(["-c", "command -v setpriv"]).output().unwrap().stdout;
    let program = service.scratch().file("setpriv");
    fs::copy(String::from_utf8(setpriv).unwrap().trim(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let options = ["--stop-timeout", "100ms", "--ready-line", "up", "--wait=ready", "--"];
    let command = [program.as_str(), "--reuid=0", "--clear-groups", "sh", "-c", "echo up; exec sleep 80001"];
    let id = service.start(&[&options[..], &command].concat());
    let pid = service.pid(&id);
    let stopped = service.cli(&["stop", &id]);
    procfs::signal("KILL", pid);
    stopped.expect(3);
    assert!(stopped.err().contains(&format!("may not signal pid {pid}")), "{stopped:?}");
    assert!(stopped.err().contains("EPERM"), "{stopped:?}");
    service.until_state(&id, "stopped");
}

/// Whoever deploys by a link means the link; and what runs is not ended for what cannot start.
#[test]
fn c1_a_restart_goes_through_the_link_and_never_ends_what_cannot_start_again() {
    let service = Service::new();
    let at = |name: &str| service.scratch().path().join(name);
    for release in ["r1", "r2"] {
        fs::create_dir(at(release)).unwrap();
        let script = format!("#!/bin/sh\necho {release}\nexec sleep 80002\n");
        fs::write(at(release).join("server"), script).unwrap();
        fs::set_permissions(at(release).join("server"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    symlink(at("r1"), at("current")).unwrap();
    let mut start = service.command(&["start", "--name", "app", "--wait", "--", "./server"]);
    let started = start.current_dir(at("current")).env("PWD", at("current")).output().unwrap();
    assert!(started.status.success(), "{started:?}");
    wait::until("r1", SOON, || service.output("app") == b"r1\n");
    fs::remove_file(at("current")).unwrap();
    symlink(at("r2"), at("current")).unwrap();
    service.cli(&["restart", "app"]).expect(0);
    wait::until("r2", SOON, || service.output("app").ends_with(b"r2\n"));
    let pid = service.pid("app");
    for gone in [at("r2").join("server"), at("current")] {
        fs::rename(&gone, at("away")).unwrap();
        for command in [&["restart", "app"][..], &["update", "app", "--env", "A=1"]] {
            let refused = service.cli(command);
            assert_ne!(refused.code, 0, "{refused:?}");
            assert!(refused.err().contains("it runs on"), "{refused:?}");
        }
        assert_eq!(service.pid("app"), pid, "what ran runs on");
        fs::rename(at("away"), &gone).unwrap();
    }
    service.cli(&["restart", "app"]).expect(0);
    assert_ne!(service.pid("app"), pid);
}

#[test]
fn b17_what_is_halted_is_called_so() {
    let service = Service::new();
    let id = service.start(&["--name", "web", "--", "sleep", "80004"]);
    let pid = service.pid(&id);
    procfs::signal("STOP", pid);
    wait::until("it is halted", SOON, || procfs::stat(pid).is_some_and(|s| s.state == 'T'));
    assert_eq!(service.status_json(&id)["halted"], true);
    for command in ["status", "why"] {
        let said = service.ok(&[command, "web"]);
        assert!(said.contains("halted by a signal") && said.contains("provost signal CONT"), "{said}");
    }
    service.cli(&["signal", "CONT", "web"]).expect(0);
    wait::until("it goes on", SOON, || service.status_json(&id)["halted"] == false);
}

#[test]
fn what_is_removed_by_force_may_be_gone() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sleep", "80005"]);
    for target in ["web", "web", "nobody-*"] {
        service.cli(&["remove", "--force", target]).expect(0);
    }
    service.cli(&["remove", "web"]).expect(4);
}

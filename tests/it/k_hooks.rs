//! Hooks: programs beside the life of a process. What they stand before waits for them, what they say is
//! output of the process, their failures count as the definition says, and no death around doubles or loses
//! them.

use std::fs;

use serde_json::Value;

use crate::harness::{LATER, Options, SOON, Service, procfs, wait};

/// With cgroups, if there are any, and without.
fn both_ways() -> [Options; 2] {
    [Options::new(), Options::new().without_cgroups()]
}

fn of_web(service: &Service) -> Vec<Value> {
    service.events().into_iter().filter(|e| e["name"] == "web").collect()
}

fn kinds(service: &Service) -> Vec<String> {
    of_web(service).iter().map(|e| e["kind"].as_str().unwrap().to_owned()).collect()
}

fn details(service: &Service, kind: &str) -> Vec<String> {
    let events = of_web(service);
    let of_kind = events.iter().filter(|e| e["kind"] == kind);
    of_kind.map(|e| e["detail"].as_str().unwrap().to_owned()).collect()
}

/// Appends a line to the file.
fn note(file: &str, line: &str) -> String {
    format!("echo {line} >> {file}")
}

/// Waits until the file is there.
fn until_there(file: &str) -> String {
    format!("until [ -e {file} ]; do sleep 0.02; done")
}

#[test]
fn all_four_run_in_their_order_as_the_process_does() {
    for options in both_ways() {
        let service = options.start();
        let notes = service.scratch().file("notes");
        let config = service.scratch().file("hooks.toml");
        let hook = |name: &str, more: &str| {
            let script = format!("echo {name} $PROVOST_HOOK $MINE $PROVOST_RUN {more} >> {notes}");
            format!("{name} = ['sh', '-c', '{script}']\n")
        };
        let declared = format!(
            "[process.web]\ncommand = ['sh', '-c', 'echo run >> {notes}; trap \"exit 0\" TERM; echo up; while :; do sleep \
             0.02; done']\nenv = {{ MINE = 'mine' }}\nready_line = 'up'\n{}{}{}{}",
            hook("pre_start", ""),
            hook("post_start", ""),
            hook("pre_stop", "pid $PROVOST_PID"),
            hook("post_stop", "$PROVOST_EXIT_CODE"),
        );
        fs::write(&config, declared).unwrap();
        service.ok(&["apply", "--yes", &config]);
        service.ok(&["wait", "--for", "ready", "--timeout", "60s", "web"]);
        let pid = service.pid("web");
        service.ok(&["stop", "web"]);
        let expected = format!(
            "pre_start pre_start mine 1\nrun\npost_start post_start mine 1\npre_stop pre_stop mine 1 pid \
             {pid}\npost_stop post_stop mine 1 0\n"
        );
        assert_eq!(fs::read_to_string(&notes).unwrap(), expected);
        let kinds = kinds(&service);
        assert_eq!(kinds, ["created", "started", "ready", "stopping", "exited", "stopped"]);
        assert!(service.ok(&["show", "web"]).contains("post_stop = ["));
    }
}

#[test]
fn each_stands_before_what_comes_next_and_is_told() {
    for options in both_ways() {
        let service = options.start();
        let gate = |name: &str| service.scratch().file(name);
        let [start, ready, stop, end] = ["start", "ready", "stop", "end"].map(gate);
        let hooks =
            [("--pre-start", &start), ("--post-start", &ready), ("--pre-stop", &stop), ("--post-stop", &end)];
        let scripts = hooks.map(|(option, gate)| [option.to_owned(), until_there(gate)]);
        let scripts: Vec<&str> = scripts.iter().flatten().map(String::as_str).collect();
        let until_hook = |hook: &str| {
            let mut last = Value::Null;
            let found = wait::holds_within(SOON, || {
                last = service.status_json("web");
                last["hook"] == hook
            });
            assert!(found, "{hook} does not run: {last}");
            let (status, why) = (service.cli(&["status", "web"]).out(), service.cli(&["why", "web"]).out());
            assert!(status.contains(&format!("runs its {hook}")), "{status}");
            assert!(why.contains(&format!("runs its {hook}")), "{why}");
            last
        };
        let begun = service
            .background(&[&["start", "--name", "web"], &scripts[..], &["--", "sleep", "72501"]].concat());
        wait::until("it is known", SOON, || service.cli(&["status", "web"]).code != 4);
        let process = until_hook("pre_start");
        assert_eq!((&process["state"], &process["pid"]), (&"starting".into(), &Value::Null), "{process}");
        fs::write(&start, "").unwrap();
        begun.end(LATER).expect(0);
        let process = until_hook("post_start");
        assert_eq!((&process["state"], &process["ready"]), (&"running".into(), &false.into()), "{process}");
        fs::write(&ready, "").unwrap();
        service.ok(&["wait", "--for", "ready", "--timeout", "60s", "web"]);
        let stopped = service.background(&["stop", "web"]);
        let process = until_hook("pre_stop");
        assert_eq!((&process["state"], &process["ready"]), (&"running".into(), &true.into()), "{process}");
        let pid = service.pid("web");
        fs::write(&stop, "").unwrap();
        let process = until_hook("post_stop");
        assert!(process["state"] == "stopping" && !procfs::alive(pid), "{process}");
        fs::write(&end, "").unwrap();
        stopped.end(LATER).expect(0);
        assert_eq!(service.state("web"), "stopped");
    }
}

#[test]
fn what_hooks_print_is_output_of_the_process() {
    let service = Service::new();
    let log = service.scratch().file("web.log");
    let hooks = ["--pre-start", "echo before; echo odd >&2", "--post-stop", "echo after"];
    let args =
        [&["start", "--name", "web", "--log", &log], &hooks[..], &["--", "sh", "-c", "echo it"]].concat();
    service.ok(&args);
    service.until_state("web", "stopped");
    assert_eq!(service.ok(&["output", "--stdout", "web"]), "before\nit\nafter");
    assert_eq!(service.ok(&["output", "--stderr", "web"]), "odd");
    wait::until("it is in the log", SOON, || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("before\n") && text.ends_with("it\nafter\n"))
    });
}

#[test]
fn a_pre_start_that_fails_is_a_start_that_fails() {
    let service = Service::new();
    let ran = service.scratch().file("ran");
    let program = note(&ran, "run");
    let start = |more: &[&str]| {
        let args = [&["start", "--name", "web", "--pre-start", "echo wrong >&2; exit 3"], more].concat();
        service.cli(&[&args[..], &["--", "sh", "-c", &program]].concat())
    };
    let failed = start(&[]);
    assert!(failed.expect(1).err().contains("its pre_start failed: exit code 3: wrong"), "{failed:?}");
    assert!(fs::metadata(&ran).is_err(), "the program was not run");
    assert_eq!(details(&service, "hook-failed"), ["pre_start: exit code 3: wrong"]);
    start(&["--pre-start-failure", "ignore"]).expect(0);
    service.until_state("web", "stopped");
    assert_eq!(fs::read_to_string(&ran).unwrap(), "run\n");
    // What its policy says of a failure holds for this one.
    let policy = ["--restart", "on-failure", "--max-restarts", "2", "--restart-delay", "1ms"];
    service.ok(&[&["update", "web", "--pre-start-failure", "fail"], &policy[..]].concat());
    let failed = service.cli(&["start", "web"]);
    assert!(failed.expect(1).err().contains("its pre_start failed: exit code 3: wrong"), "{failed:?}");
    service.until_state("web", "failed");
    assert_eq!(details(&service, "hook-failed").len(), 5);
    assert_eq!(fs::read_to_string(&ran).unwrap(), "run\n");
    let why = service.ok(&["why", "web"]);
    assert!(why.contains("pre_start failed: exit code 3"), "{why}");
}

#[test]
fn a_hook_is_tried_again_and_one_without_end_is_ended() {
    let service = Service::new();
    let tries = service.scratch().file("tries");
    let third = format!("echo try >> {tries}; [ $(wc -l < {tries}) -ge 3 ]");
    let again = ["start", "--name", "web", "--pre-start", &third, "--pre-start-failure", "retry"];
    service.ok(&[&again[..], &["--", "sleep", "72502"]].concat());
    assert_eq!(fs::read_to_string(&tries).unwrap(), "try\n".repeat(3));
    let expected = ["pre_start: exit code 1 (attempt 1 of 3)", "pre_start: exit code 1 (attempt 2 of 3)"];
    assert_eq!(details(&service, "hook-failed"), expected);
    service.ok(&["remove", "--force", "web"]);
    for option in ["--pre-stop", "--post-stop"] {
        let hook =
            [option, "sleep 72503 & sleep 72503", &format!("{option}-timeout"), "100ms"].map(str::to_owned);
        let hook: Vec<&str> = hook.iter().map(String::as_str).collect();
        service.ok(&[&["start", "--name", "web"], &hook[..], &["--", "sleep", "72504"]].concat());
        service.ok(&["stop", "web"]);
        assert_eq!(service.state("web"), "stopped", "a stop goes on");
        let said = details(&service, "hook-failed").pop().unwrap();
        assert_eq!(said, format!("{}: it has taken too long, and was ended", option[2..].replace('-', "_")));
        wait::until("nothing of it is left", SOON, || procfs::with_command("sleep 72503").is_empty());
        service.ok(&["remove", "web"]);
    }
}

#[test]
fn a_post_start_that_fails_fails_the_run() {
    let service = Service::new();
    service.ok(&["start", "--name", "web", "--post-start", "exit 4", "--", "sleep", "72505"]);
    let process = service.until_state("web", "stopped");
    assert_eq!(process["unfit"], "its post_start failed: exit code 4", "{process}");
    let ready = service.cli(&["wait", "--for", "ready", "web"]);
    assert!(ready.expect(125).err().contains("its post_start failed: exit code 4"), "{ready:?}");
    assert!(!kinds(&service).contains(&"ready".to_owned()));
}

#[test]
fn who_needs_it_waits_for_its_post_start() {
    let service = Service::new();
    let notes = service.scratch().file("notes");
    let slow = format!("sleep 0.3; {}", note(&notes, "registered"));
    let after = note(&notes, "second");
    service.ok(&["start", "--name", "web", "--post-start", &slow, "--", "sleep", "72506"]);
    service.ok(&["start", "--name", "second", "--requires", "web", "--", "sh", "-c", &after]);
    service.until_state("second", "stopped");
    assert_eq!(fs::read_to_string(&notes).unwrap(), "registered\nsecond\n");
}

#[test]
fn a_restart_has_its_hooks_and_an_end_by_itself_the_last() {
    let service = Service::new();
    let notes = service.scratch().file("notes");
    let [before, after, go] = ["pre", "stop", "post"].map(|word| note(&notes, word));
    let hooks = ["--pre-start", &before, "--pre-stop", &after, "--post-stop", &go];
    let args = ["start", "--name", "web", "--restart", "always"];
    service.ok(&[&args[..], &hooks, &["--", "sleep", "72507"]].concat());
    service.ok(&["restart", "web"]);
    assert_eq!(fs::read_to_string(&notes).unwrap(), "pre\nstop\npost\npre\n");
    procfs::signal("KILL", service.pid("web"));
    wait::until("the next one runs", SOON, || service.status_json("web")["run"] == 3);
    service.until_state("web", "running");
    assert_eq!(
        fs::read_to_string(&notes).unwrap(),
        "pre\nstop\npost\npre\npost\npre\n",
        "no stop was asked for"
    );
}

#[test]
fn a_stop_in_a_hurry_waits_for_no_hook() {
    let service = Service::new();
    let long = "sleep 72508";
    for hook in ["--pre-stop", "--post-stop", "--post-start"] {
        service.ok(&["start", "--name", "web", hook, long, "--", "sleep", "72509"]);
        let stopped = service.background(&["stop", "web"]);
        let name = hook[2..].replace('-', "_");
        if hook != "--post-start" {
            wait::until("it runs", SOON, || service.status_json("web")["hook"] == name.as_str());
        }
        service.ok(&["stop", "--timeout", "0", "web"]);
        assert_eq!(service.state("web"), "stopped");
        stopped.end(LATER).expect(0);
        wait::until("it is gone", SOON, || procfs::with_command(long).is_empty());
        service.ok(&["remove", "web"]);
    }
    // A start that waits for its hook is stopped with it.
    let started =
        service.background(&["start", "--name", "web", "--pre-start", long, "--", "sleep", "72509"]);
    wait::until("it runs", SOON, || {
        let status = service.cli(&["status", "--json", "web"]);
        status.code != 4 && status.json()[0]["hook"] == "pre_start"
    });
    service.ok(&["stop", "web"]);
    assert!(started.end(LATER).code != 0);
    wait::until("it is gone", SOON, || procfs::with_command(long).is_empty());
}

#[test]
fn the_end_of_the_service_waits_for_hooks() {
    let service = Service::new();
    let notes = service.scratch().file("notes");
    let slow = |word: &str| format!("sleep 0.3; {}", note(&notes, word));
    let (before, after) = (slow("before"), slow("after"));
    service.ok(&[
        "start",
        "--name",
        "web",
        "--pre-stop",
        &before,
        "--post-stop",
        &after,
        "--",
        "sleep",
        "72510",
    ]);
    service.end();
    assert_eq!(fs::read_to_string(&notes).unwrap(), "before\nafter\n");
}

#[test]
fn a_hook_is_begun_again_by_the_next_engine() {
    for options in both_ways() {
        let service = options.start();
        let [notes, gate] = ["notes", "gate"].map(|name| service.scratch().file(name));
        let hook = |word: &str| format!("{}; {}; rm {gate}", note(&notes, word), until_there(&gate));
        let hooks = ["pre_start", "post_start", "post_stop"];
        let scripts = hooks.map(hook);
        let options = ["--pre-start", &scripts[0], "--post-start", &scripts[1], "--post-stop", &scripts[2]];
        let started = service
            .background(&[&["start", "--name", "web"], &options[..], &["--", "sleep", "72511"]].concat());
        let mut expected = String::new();
        let mut kill_in = |name: &str| {
            let line = format!("{name}\n");
            let until = |text: &str| {
                wait::until("it has begun", SOON, || fs::read_to_string(&notes).is_ok_and(|t| t == text));
            };
            expected += &line;
            until(&expected);
            service.kill_engine();
            expected += &line;
            until(&expected);
            let mut hooks = procfs::with_command(&format!("/bin/sh -c echo {name}"));
            // A child of the shell has its command line until it is `sleep`; it leads no session.
            hooks.retain(|&pid| procfs::stat(pid).is_some_and(|s| s.session == pid));
            assert_eq!(hooks.len(), 1, "the one before is gone");
            fs::write(&gate, "").unwrap();
        };
        kill_in("pre_start");
        started.end(LATER).expect(0);
        kill_in("post_start");
        service.ok(&["wait", "--for", "ready", "--timeout", "60s", "web"]);
        let pid = service.pid("web");
        let stopped = service.background(&["stop", "web"]);
        kill_in("post_stop");
        stopped.end(LATER).expect(0);
        assert!(!procfs::alive(pid));
        assert_eq!(service.status_json("web")["run"], 1);
    }
}

#[test]
fn hooks_that_cannot_be_are_refused() {
    let service = Service::new();
    for (args, expected) in [
        (&["--pre-stop", "true", "--pre-stop-failure", "fail"][..], "a stop goes on whatever its hook does"),
        (&["--post-start-timeout", "3s"], "for a post_start, and there is none"),
        (&["--post-start", "true", "--ready-exit"], "has no post_start"),
        (&["--pre-start", "true", "--pre-start-failure", "maybe"], "write fail, ignore or retry"),
    ] {
        let refused = service.cli(&[&["start"], args, &["--", "true"]].concat());
        assert!(refused.expect(2).err().contains(expected), "{refused:?}");
    }
    let missing = service.cli(&["start", "--name", "web", "--pre-start", "/nosuch/program", "--", "true"]);
    assert!(missing.expect(1).err().contains("its pre_start failed"), "{missing:?}");
}

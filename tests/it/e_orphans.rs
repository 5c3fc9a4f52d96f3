//! Processes that outlived the service which started them: found by their mark, their cgroup, or number and
//! start time; dealt with as the settings say; never a second copy beside a first one, and never a word to a
//! process that is not ours.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::harness::{LATER, Options, SOON, Scratch, Service, UNMARKED_SH, binary, cli, procfs, wait};

/// A duration for `sleep` that no other test has, so that its process is found by its command line alone.
fn nap(n: u32) -> String {
    format!("{}.{}", 81_000 + n, std::process::id())
}

/// Ends what a failed test leaves of those that carry no mark.
struct Sweep(Vec<String>);

impl Drop for Sweep {
    fn drop(&mut self) {
        for pid in self.0.iter().flat_map(|nap| procfs::with_command(&format!("sleep {nap}"))) {
            procfs::signal("KILL", pid);
        }
    }
}

/// A service with this policy, and the directory of its settings.
fn with_policy(policy: &str, options: Options) -> (Service, Scratch) {
    let scratch = Scratch::new();
    let config = scratch.file("provost.toml");
    fs::write(&config, format!("orphans = {policy:?}\n")).expect("the directory is ours");
    (options.serve(&["--config", &config]).start(), scratch)
}

/// With cgroups, if there are any, and without.
fn both_ways() -> [Options; 2] {
    [Options::new(), Options::new().without_cgroups()]
}

#[track_caller]
fn running_again(service: &Service, target: &str, run: u64) -> Value {
    let mut last = Value::Null;
    let found = wait::holds_within(SOON, || {
        last = service.status_json(target);
        last["state"] == "running" && last["run"] == run
    });
    assert!(found, "{target} does not run as run {run}: {last}\n{}", service.log());
    last
}

#[test]
fn kill_ends_survivors_before_a_second_copy() {
    for options in both_ways() {
        let service = options.start();
        let log = service.scratch().file("copies");
        // Each copy looks whether another one is there: the lock is held by the process until its end.
        let script = format!("flock -n 9 || echo twice >> {log}; echo once >> {log}; exec sleep 80000 9>&9");
        let args = format!("exec 9>{log}.lock; {script}");
        let id = service.start(&["--name", "web", "--", "sh", "-c", &args]);
        let unnamed = service.start(&["--", "sleep", "80000"]);
        let pids = [service.pid("web"), service.pid(&unnamed)];
        service.until_store("sound");
        service.kill_service();
        assert!(pids.iter().all(|&pid| procfs::alive(pid)), "they go on without a service");
        service.serve_again();
        running_again(&service, "web", 2);
        wait::until("the second copy has looked", SOON, || {
            fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 2)
        });
        assert_eq!(fs::read_to_string(&log).expect("it is there"), "once\nonce\n");
        // A look in the middle of the script's exec finds no environment, and so no mark.
        wait::until("one process is its tree", SOON, || service.tree_of(&id).len() == 1);
        wait::until("the unnamed one is ended", SOON, || service.tree_of(&unnamed).is_empty());
        service.until_state(&unnamed, "stopped");
        let outcomes = service.outcomes();
        assert_eq!(
            (&outcomes["web"][..], &outcomes[&unnamed][..]),
            ("lost, ended, started", "lost, ended"),
            "{outcomes:?}"
        );
        for (id, pid) in [&id, &unnamed].iter().zip(pids) {
            let events = service.events_of(&service.status_json(id));
            let lost: Vec<_> = events.iter().filter(|e| e["kind"] == "lost").collect();
            assert_eq!(lost.len(), 1, "{events:?}");
            let detail = lost[0]["detail"].as_str().expect("text");
            assert!(detail.contains(&pid.to_string()), "it is told who: {detail}");
        }
    }
}

/// Members of the tree that left the session, threw away the environment, and do not care about SIGTERM.
#[test]
fn kill_reaches_those_who_hide() {
    let [leader, session, bare] = [1, 2, 3].map(nap);
    let _sweep = Sweep(vec![leader.clone(), session.clone(), bare.clone()]);
    let service = Service::new();
    let about = service.cli(&["version", "--json"]).expect(0).json().remove(0);
    let has_cgroups = about["service"]["cgroups"] == true;
    // Without a cgroup, one without an environment could be anybody's.
    let hide = if has_cgroups { format!("(setsid env -i sleep {bare} &);") } else { String::new() };
    let script = format!("(setsid sh -c 'trap \"\" TERM; sleep {session}' &); {hide} exec sleep {leader}");
    let id = service.start(&["--name", "web", "--stop-timeout", "300ms", "--", "sh", "-c", &script]);
    let all = || [&leader, &session, &bare].map(|nap| procfs::with_command(&format!("sleep {nap}")));
    wait::until("the tree is there", SOON, || {
        let [leader, session, bare] = all();
        leader.len() == 1 && session.len() == 2 && bare.len() == usize::from(has_cgroups)
    });
    let old: Vec<u32> = all().concat();
    service.until_store("sound");
    service.kill_service();
    service.serve_again();
    running_again(&service, "web", 2);
    assert!(old.iter().all(|&pid| !procfs::alive(pid)), "of the old tree, nothing is left: {old:?}");
    wait::until("the new tree is there, once", SOON, || {
        let [leader, session, bare] = all();
        leader.len() == 1 && session.len() == 2 && bare.len() == usize::from(has_cgroups)
    });
    service.ok(&["stop", &id]);
    assert_eq!(all().concat(), Vec::<u32>::new());
}

/// The engine that is ending them dies; the next one goes on with that.
#[test]
fn kill_goes_on_over_the_death_of_an_engine() {
    for options in both_ways() {
        let service = options.start();
        let script = "trap 'echo TERM' TERM; echo up; while :; do sleep 0.1; done";
        let args = ["--name", "web", "--stop-timeout", "2s", "--wait=ready", "--ready-line", "up"];
        let id = service.start(&[&args[..], &["--", "sh", "-c", script]].concat());
        let old = service.pid("web");
        service.until_store("sound");
        service.kill_service();
        service.serve_again();
        service.kill_engine();
        service.kill_engine();
        running_again(&service, "web", 2);
        assert!(!procfs::alive(old), "the first copy was ended before");
        assert_eq!(service.status_json(&id)["run"], 2);
        let leaders = service.tree_of(&id).into_iter().filter(|&pid| procfs::command(pid).contains("trap"));
        assert_eq!(leaders.count(), 1);
        service.ok(&["stop", "--timeout", "0s", &id]);
    }
}

/// What was stopped and whose tree nevertheless lives is ended, and stays stopped.
#[test]
fn killed_in_a_stop_stays_stopped() {
    let service = Service::new();
    let script = "trap 'echo TERM' TERM; echo up; while :; do sleep 0.1; done";
    let args = ["--name", "web", "--stop-timeout", "1s", "--wait=ready", "--ready-line", "up"];
    let id = service.start(&[&args[..], &["--", "sh", "-c", script]].concat());
    let pid = service.pid("web");
    let _stop = service.background(&["stop", "--timeout", "1h", "web"]);
    wait::until("it is asked to stop", SOON, || {
        String::from_utf8_lossy(&service.output("web")).contains("TERM\n")
    });
    service.until_state("web", "stopping");
    service.until_store("sound");
    service.kill_service();
    assert!(procfs::alive(pid));
    service.serve_again();
    service.until_state("web", "stopped");
    assert!(!procfs::alive(pid));
    assert_eq!((service.tree_of(&id), &service.status_json(&id)["run"]), (vec![], &1.into()));
}

#[test]
fn adopted_is_looked_after() {
    for options in both_ways() {
        let (service, _config) = with_policy("adopt", options);
        let names = ["to-stop", "to-end", "to-end-and-restart", "to-the-end"];
        for name in names {
            let restart = if name == "to-end-and-restart" { "always" } else { "never" };
            service.start(&["--name", name, "--restart", restart, "--", "sleep", "80000"]);
        }
        let unnamed = service.start(&["--", "sleep", "80000"]);
        let all: Vec<&str> = names.into_iter().chain([unnamed.as_str()]).collect();
        let pids: Vec<u32> = all.iter().map(|name| service.pid(name)).collect();
        service.until_store("sound");
        service.kill_service();
        service.serve_again();
        let outcomes = service.outcomes();
        assert!(all.iter().all(|name| outcomes[*name] == "adopted"), "{outcomes:?}");
        for _ in 0..2 {
            for (name, &pid) in all.iter().zip(&pids) {
                let process = service.status_json(name);
                let seen = (&process["state"], &process["pid"], &process["run"]);
                assert_eq!(seen, (&"running".into(), &pid.into(), &1.into()), "{process}");
                let id = process["id"].as_str().expect("the id is text");
                assert_eq!(service.tree_of(id), [pid], "no second copy");
                assert!(service.events_of(&process).iter().any(|e| e["kind"] == "adopted"));
            }
            // Not the keeper's children: the next engine has to find them all the same.
            service.kill_engine();
        }
        service.ok(&["stop", "to-stop"]);
        assert!(!procfs::alive(pids[0]));
        service.until_state("to-stop", "stopped");
        procfs::signal("KILL", pids[1]);
        let ended = service.until_state("to-end", "stopped");
        let events = service.events_of(&ended);
        // Before Linux 6.15 nobody but its parent could see how it ended, once it was reaped.
        let is_seen = events.iter().any(|e| e["kind"] == "exited" && e["exit"]["signal"] == "SIGKILL");
        let is_lost = procfs::kernel() < (6, 15) && events.iter().any(|e| e["kind"] == "lost");
        assert!(is_seen || is_lost, "{events:?}");
        procfs::signal("KILL", pids[2]);
        let again = running_again(&service, "to-end-and-restart", 2);
        assert_ne!(again["pid"], pids[2]);
        // A person's start takes the place of an adopted one only when that is gone.
        service.ok(&["restart", &unnamed]);
        assert!(!procfs::alive(pids[4]));
        running_again(&service, &unnamed, 2);
        // And again, from one that was adopted.
        service.until_store("sound");
        service.kill_service();
        service.serve_again();
        assert_eq!(service.pid("to-the-end"), pids[3]);
        service.end();
        assert!(!procfs::alive(pids[3]), "the end of the service is its end too");
        service.serve_again();
        running_again(&service, "to-the-end", 2);
        assert_eq!(service.state("to-stop"), "stopped");
    }
}

/// The end of an adopted process counts as any other: its code is known, and the restart policy goes by it.
#[test]
fn the_end_of_an_adopted_process_is_seen() {
    if procfs::kernel() < (6, 15) {
        return;
    }
    let (service, _config) = with_policy("adopt", Options::new());
    let script = |code: u32| format!("trap 'exit {code}' USR1; while :; do sleep 0.1; done");
    for (name, code) in [("well", 0), ("bad", 7)] {
        service.start(&["--name", name, "--restart", "on-failure", "--", "sh", "-c", &script(code)]);
    }
    let pids = ["well", "bad"].map(|name| service.pid(name));
    service.until_store("sound");
    service.kill_service();
    service.serve_again();
    service.kill_engine();
    pids.iter().for_each(|&pid| procfs::signal("USR1", pid));
    let well = service.until_state("well", "stopped");
    assert_eq!((&well["exit"]["code"], &well["run"]), (&0.into(), &1.into()), "{well}");
    let bad = running_again(&service, "bad", 2);
    assert_eq!(bad["exit"]["code"], 7, "{bad}");
}

/// A program that writes goes on writing when nobody reads, and what it wrote is there: over the death of the
/// whole service, and of an engine of the next one, to its last word.
#[test]
fn an_adopted_process_goes_on_writing() {
    for options in both_ways() {
        let (service, _config) = with_policy("adopt", options);
        let script =
            "trap 'echo bye >&2; exit 5' USR1; while echo $((n=n+1)); do sleep 0.01; done; echo broken >&2";
        for user in ["root", "nobody"] {
            let name = format!("web-{user}");
            service.start(&["--name", &name, "--user", user, "--", "sh", "-c", script]);
            let pid = service.pid(&name);
            let counted = || -> Vec<u64> {
                let output = String::from_utf8_lossy(&service.output(&name)).into_owned();
                output.lines().filter_map(|line| line.parse().ok()).collect()
            };
            wait::until("it counts", SOON, || counted().len() > 5);
            service.until_store("sound");
            let before = counted().last().copied();
            service.kill_service();
            service.serve_again();
            assert_eq!(service.pid(&name), pid, "it is adopted");
            wait::until("it counts on", SOON, || counted().len() > 50);
            service.kill_engine();
            let seen = counted().len();
            wait::until("and on", SOON, || counted().len() > seen + 50);
            let all = counted();
            assert!(
                all[0] <= before.expect("it has counted") + 200 && all.is_sorted_by(|a, b| a + 1 == *b),
                "{all:?}"
            );
            procfs::signal("USR1", pid);
            let ended = service.until_state(&name, "stopped");
            assert!(String::from_utf8_lossy(&service.output(&name)).contains("bye"), "its last word");
            let is_seen = ended["exit"]["code"] == 5;
            assert!(is_seen || procfs::kernel() < (6, 15), "{ended}");
            service.ok(&["remove", &name]);
        }
    }
}

/// Somebody outside the tree has the pipe when its run is over: it is never left in a full pipe.
#[test]
fn who_writes_to_a_run_that_is_over_goes_on() {
    let (service, config) = with_policy("adopt", Options::new().without_cgroups());
    let (file, name) = (config.file("written"), nap(31));
    let write = format!("while printf %1000s x; do echo >>{file}'$PROVOST_RUN'; done # {name}");
    // It ends when the writer has no mark any more: until then that is of its tree, and ended with it.
    let written = format!("while [ ! -s {file}$PROVOST_RUN ]; do sleep 0.01; done");
    let id = service.start(&["--", "sh", "-c", &format!("setsid {UNMARKED_SH} sh -c '{write}' & {written}")]);
    service.cli(&["wait", &id]).expect(0);
    let len = || fs::metadata(format!("{file}1")).map_or(0, |meta| meta.len());
    let goes_on = || {
        // Twenty pipes full.
        let before = len();
        wait::until("it goes on", SOON, || len() > before + 1300);
    };
    goes_on();
    let first = procfs::with_command(&name);
    // The next run lets go of the pipes of this one.
    service.ok(&["start", &id]);
    service.cli(&["wait", &id]).expect(0);
    procfs::with_command(&name)
        .into_iter()
        .filter(|pid| !first.contains(pid))
        .for_each(|pid| procfs::signal("KILL", pid));
    goes_on();
    wait::until("both are gone", SOON, || {
        procfs::with_command(&name).into_iter().for_each(|pid| procfs::signal("KILL", pid));
        procfs::with_command(&name).is_empty()
    });
}

/// There is nothing to adopt where the process itself has ended: what is left of its tree is.
#[test]
fn adopted_is_only_what_has_its_leader() {
    let child = nap(4);
    let _sweep = Sweep(vec![child.clone()]);
    let (service, _config) = with_policy("adopt", Options::new());
    let script = format!("sleep {child} & exec sleep 80000");
    let id = service.start(&["--name", "web", "--", "sh", "-c", &script]);
    let found = || procfs::with_command(&format!("sleep {child}"));
    wait::until("the tree is there", SOON, || found().len() == 1 && service.tree_of(&id).len() == 2);
    let (leader, old) = (service.pid("web"), found());
    service.until_store("sound");
    service.kill_service();
    procfs::signal("KILL", leader);
    wait::until("the leader has ended", SOON, || !procfs::alive(leader));
    service.serve_again();
    running_again(&service, "web", 2);
    assert!(!procfs::alive(old[0]), "ended before the second copy");
    assert!(service.outcomes()["web"].contains("ended"), "{:?}", service.outcomes());
}

#[test]
fn left_is_left_alone_and_reported() {
    for options in both_ways() {
        let (service, _config) = with_policy("leave", options);
        let id = service.start(&["--name", "web", "--restart", "always", "--", "sleep", "80000"]);
        service.start(&["--name", "gone", "--", "sleep", "80000"]);
        let (pid, gone) = (service.pid("web"), service.pid("gone"));
        service.until_store("sound");
        service.kill_service();
        procfs::signal("KILL", gone);
        wait::until("one has ended", SOON, || !procfs::alive(gone));
        service.serve_again();
        running_again(&service, "gone", 2);
        let process = service.status_json("web");
        assert_eq!((&process["state"], &process["run"]), (&"stopped".into(), &1.into()), "{process}");
        assert_eq!(service.tree_of(&id), [pid], "neither ended nor doubled");
        assert!(service.outcomes()["web"].contains("left"), "{:?}", service.outcomes());
        let events = service.events_of(&process);
        let lost = events.iter().rfind(|e| e["kind"] == "lost").expect("it is told");
        assert!(lost["detail"].as_str().is_some_and(|d| d.contains(&pid.to_string())), "{lost}");
        service.kill_engine();
        assert_eq!(service.tree_of(&id), [pid]);
        procfs::signal("KILL", pid);
        wait::until("it has ended", SOON, || !procfs::alive(pid));
        // Nothing stands in the way any more.
        service.ok(&["start", "web"]);
        running_again(&service, "web", 2);
    }
}

/// Neither the process itself nor its mark is left, only one of its group: it is known all the same, to the
/// next engine too.
#[test]
fn who_was_left_is_remembered_without_a_mark() {
    for (n, options) in (11..).zip(both_ways()) {
        let child = nap(n);
        let _sweep = Sweep(vec![child.clone()]);
        let (service, _config) = with_policy("leave", options);
        let script = format!("{UNMARKED_SH} sleep {child} & exec sleep 80000");
        service.start(&["--name", "web", "--", "sh", "-c", &script]);
        let found = || procfs::with_command(&format!("sleep {child}"));
        wait::until("the tree is there", SOON, || found().len() == 1);
        let (leader, bare) = (service.pid("web"), found()[0]);
        service.until_store("sound");
        service.kill_service();
        service.serve_again();
        assert!(service.outcomes()["web"].contains("left"), "{:?}", service.outcomes());
        procfs::signal("KILL", leader);
        wait::until("the process itself has ended", SOON, || !procfs::alive(leader));
        for _ in 0..2 {
            for refused in [["start", "web"], ["remove", "web"]] {
                let refused = service.cli(&refused);
                assert_eq!(refused.code, 6, "{refused:?}");
                assert!(refused.err().contains(&format!("pid {bare}")), "{refused:?}");
            }
            service.kill_engine();
        }
        service.ok(&["stop", "web"]);
        assert!(!procfs::alive(bare), "stopped means gone");
        // Nothing stands in the way any more.
        service.ok(&["start", "web"]);
        service.until_state("web", "running");
        service.ok(&["remove", "--force", "web"]);
    }
}

/// The engine that ends what an earlier service left dies, when only one without a mark is still there.
#[test]
fn kill_without_a_mark_goes_on_over_the_death_of_an_engine() {
    for (n, options) in (21..).zip(both_ways()) {
        let child = nap(n);
        let _sweep = Sweep(vec![child.clone()]);
        let service = options.start();
        let script = format!("(trap '' TERM; exec {UNMARKED_SH} sleep {child}) & exec sleep 80000");
        service.start(&["--name", "web", "--stop-timeout", "3s", "--", "sh", "-c", &script]);
        let found = || procfs::with_command(&format!("sleep {child}"));
        wait::until("the tree is there", SOON, || found().len() == 1);
        let (leader, bare) = (service.pid("web"), found()[0]);
        service.until_store("sound");
        service.kill_service();
        service.serve_again();
        wait::until("the process itself has ended", SOON, || !procfs::alive(leader));
        service.kill_engine();
        running_again(&service, "web", 2);
        assert!(!procfs::alive(bare), "ended before the second copy");
        service.ok(&["stop", "--timeout", "0s", "web"]);
    }
}

/// A start while the first copy is still there must not make a second one.
#[test]
fn left_is_not_doubled_by_a_start() {
    for options in both_ways() {
        let (service, _config) = with_policy("leave", options);
        let id = service.start(&["--name", "web", "--", "sleep", "80000"]);
        let pid = service.pid("web");
        service.until_store("sound");
        service.kill_service();
        service.serve_again();
        assert_eq!(service.tree_of(&id), [pid]);
        let refused = service.cli(&["start", "web"]);
        assert_eq!(refused.code, 6, "{refused:?}");
        assert!(refused.err().contains(&format!("pid {pid}")), "{refused:?}");
        let tree = service.tree_of(&id);
        assert_eq!(tree.len(), 1, "one copy, not {tree:?}: {}", service.status_json("web"));
        for pid in tree {
            procfs::signal("KILL", pid);
        }
    }
}

/// The same number, and another process: from the same boot, with the very pid that is on record.
#[test]
fn a7_recycled_pid_belongs_to_an_innocent() {
    for policy in ["kill", "adopt", "leave"] {
        let script = r#"
            $PROVOST serve --socket "$DIR/s" --state "$DIR/state" --config "$DIR/config" --cgroups off 2>"$DIR/log" &
            keeper=$!
            until $PROVOST list; do sleep 0.05; done >/dev/null 2>&1
            $PROVOST start --name web -- env -i sleep 80000 >/dev/null
            pid=$($PROVOST status web --json | jq .pid)
            $PROVOST doctor >/dev/null # what has happened so far is recorded when it answers
            kill -9 $keeper $pid
            wait $keeper 2>/dev/null
            # Its engine ends with it, a moment later.
            while grep -qs '^provost' /proc/[0-9]*/comm >/dev/null; do sleep 0.02; done
            while [ -e /proc/$pid ] && ! grep -q '^State:.Z' /proc/$pid/status; do sleep 0.02; done
            # Numbers go round until that one is given again, to one who has nothing to do with us.
            while [ -e /proc/$pid ]; do sleep 0.02; done
            echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid
            env -i /bin/sleep 80001 &
            innocent=$!
            [ $innocent = $pid ] || { echo "pid $pid was not recycled but $innocent"; exit 9; }
            $PROVOST serve --socket "$DIR/s" --state "$DIR/state" --config "$DIR/config" --cgroups off 2>>"$DIR/log" &
            keeper=$!
            until $PROVOST list; do sleep 0.05; done >/dev/null 2>&1
            until [ "$($PROVOST status web --json | jq .run)" = 2 ]; do sleep 0.05; done
            echo "innocent $(tr '\0' ' ' < /proc/$innocent/cmdline)"
            echo "other $(($($PROVOST status web --json | jq .pid) != innocent))"
            $PROVOST stop web >/dev/null
            kill -0 $innocent && echo alive
            kill -TERM $keeper; wait $keeper; echo "end $?"
            kill -0 $innocent && echo alive
        "#;
        let output = in_namespaces(policy, script);
        assert_eq!(output, "innocent /bin/sleep 80001 \nother 1\nalive\nend 0\nalive", "orphans = {policy}");
    }
}

/// Another boot: the numbers and start times on record say nothing, even where a process fits them.
#[test]
fn a8_nothing_is_believed_from_another_boot() {
    let script = |other: &str| {
        format!(
            r#"
            echo 11111111-1111-4111-8111-111111111111 > "$DIR/boot"
            mount --bind "$DIR/boot" /proc/sys/kernel/random/boot_id || exit 9
            serve() {{
                $PROVOST serve --socket "$DIR/s" --state "$DIR/state" --config "$DIR/config" --cgroups off 2>>"$DIR/log" &
                keeper=$!
                until $PROVOST list; do sleep 0.05; done >/dev/null 2>&1
            }}
            serve
            $PROVOST start --name web -- {UNMARKED_SH} sleep 80000 >/dev/null
            $PROVOST start --name halted -- sleep 80000 >/dev/null
            $PROVOST start -- sleep 80002 >/dev/null
            $PROVOST stop halted >/dev/null
            pid=$($PROVOST status web --json | jq .pid)
            unnamed=$($PROVOST list --json | jq 'select(.name == null) | .pid')
            $PROVOST doctor >/dev/null
            # It has no mark: only number and start time, in this boot, make it ours.
            kill -9 $keeper $unnamed
            wait $keeper 2>/dev/null
            # Its engine ends with it, a moment later.
            while grep -qs '^provost' /proc/[0-9]*/comm >/dev/null; do sleep 0.02; done
            echo {other} > "$DIR/boot"
            serve
            until [ "$($PROVOST status web --json | jq .run)" = 2 ]; do sleep 0.05; done
            $PROVOST wait web --for running >/dev/null
            kill -0 $pid 2>/dev/null && echo untouched || echo ended
            $PROVOST reconcile --json | jq -c '[.started, .stopped, .lost, .ended, .adopted]'
            pgrep -c -f '^sleep 80000'
            $PROVOST status halted --json | jq -r .state
            kill -TERM $keeper; wait $keeper; echo "end $?"
            kill -0 $pid 2>/dev/null && echo untouched || echo ended
        "#
        )
    };
    let other = in_namespaces("kill", &script("22222222-2222-4222-8222-222222222222"));
    assert_eq!(other, "untouched\n[1,1,2,0,0]\n2\nstopped\nend 0\nuntouched");
    // The proof that it would have been found: the same boot, and it is.
    let same = in_namespaces("kill", &script("11111111-1111-4111-8111-111111111111"));
    assert_eq!(same, "ended\n[1,1,2,1,0]\n1\nstopped\nend 0\nended");
}

/// The first process of a namespace collects the dead; a shell does while it waits for its own child.
const INIT: &str = r#"sh -c "$0" & wait $!"#;

/// Runs a script in namespaces of its own, where numbers of processes begin anew and mounts are its own;
/// nothing in there outlives it.
#[track_caller]
fn in_namespaces(policy: &str, script: &str) -> String {
    let scratch = Scratch::new();
    fs::write(scratch.file("config"), format!("orphans = {policy:?}\n")).expect("the directory is ours");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", INIT, script]);
    command.env("PROVOST", binary()).env("DIR", scratch.path()).env("PROVOST_SOCKET", scratch.file("s"));
    let output = cli::run(command, LATER);
    let log = fs::read_to_string(scratch.file("log")).unwrap_or_default();
    assert_eq!(output.code, 0, "{output:?}\n{log}");
    output.out()
}

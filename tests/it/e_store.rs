//! What is wanted outlives the service: what a person stopped stays stopped, what should run comes back, each
//! once, and numbers go on. Ended here in every way: the engine alone, everything at once as in a power cut,
//! and in good order.

use std::fs;

use serde_json::Value;

use crate::harness::{SOON, Service, rounds, wait};

/// Ends the service and starts it again.
type Again = fn(&Service);

/// The two ways in which nothing of a service is left.
const AGAIN: [(&str, Again); 2] = [("killed", cut_power), ("ended", end_in_order)];

fn cut_power(service: &Service) {
    service.kill_all();
    service.serve_again();
}

fn end_in_order(service: &Service) {
    service.end();
    service.serve_again();
}

/// It runs, in this run, as one process and no more.
#[track_caller]
fn expect_once(service: &Service, target: &str, run: u64) -> Value {
    wait::until(&format!("{target} runs"), SOON, || {
        let process = service.status_json(target);
        process["state"] == "running" && process["run"] == run
    });
    let process = service.status_json(target);
    let id = process["id"].as_str().expect("the id is text");
    let tree = service.tree_of(id);
    assert_eq!(tree.len(), 1, "{target} is there once: {tree:?}");
    assert_eq!(process["pid"], tree[0], "{process}");
    process
}

/// The numbers of all events have no hole and no double, whatever was between them.
#[track_caller]
fn expect_whole(events: &[Value]) {
    let numbers: Vec<u64> = events.iter().map(|e| e["seq"].as_u64().expect("a number")).collect();
    let want: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, want);
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["kind"].as_str().expect("text")).collect()
}

#[test]
fn stopped_stays_stopped_and_the_rest_comes_back_once() {
    let service = Service::new();
    let stopped = service.start(&["--name", "stopped", "--", "sleep", "80000"]);
    let by_hand = service.start(&["--name", "by-hand", "--restart", "always", "--", "sleep", "80000"]);
    let wanted: Vec<_> = (0..6)
        .map(|n| format!("wanted-{n}"))
        .map(|name| service.start(&["--name", &name, "--restart", "always", "--", "sleep", "80000"]))
        .collect();
    service.ok(&["stop", "stopped", "by-hand"]);
    service.kill_engine();
    for id in [&stopped, &by_hand] {
        assert_eq!(service.state(id), "stopped");
    }
    let mut run = 1;
    for (how, again) in AGAIN {
        // So that the numbers of the runs are known, which nobody was promised.
        service.until_store("sound");
        again(&service);
        run += 1;
        for id in [&stopped, &by_hand] {
            let process = service.status_json(id);
            assert_eq!(
                (&process["state"], &process["run"]),
                (&"stopped".into(), &1.into()),
                "{how}: {process}"
            );
            assert_eq!(service.tree_of(id), Vec::<u32>::new(), "{how}");
        }
        for id in &wanted {
            expect_once(&service, id, run);
        }
        let outcomes = service.outcomes();
        assert_eq!((outcomes.len(), outcomes["stopped"].as_str()), (8, "stopped"), "{how}: {outcomes:?}");
        assert!((0..6).all(|n| outcomes[&format!("wanted-{n}")].ends_with("started")), "{how}: {outcomes:?}");
    }
    // A person's start is as lasting as a stop.
    service.ok(&["start", "by-hand"]);
    service.until_store("sound");
    cut_power(&service);
    expect_once(&service, "by-hand", 3);
    assert_eq!(service.state("stopped"), "stopped");
    expect_whole(&service.events());
}

/// What was answered is on the disk: everything dies in the moment after the answer.
#[test]
fn an_answer_outlives_a_power_cut() {
    let service = Service::new();
    for n in 0..rounds(3) {
        let name = format!("n{n}");
        let id = service.start(&["--name", &name, "--", "sleep", "80000"]);
        cut_power(&service);
        // What was promised is that it runs. How far the run had come is written a moment later, its number
        // with it.
        service.until_state(&name, "running");
        assert_eq!(service.tree_of(&id), [service.pid(&name)], "once");
        service.ok(&["stop", &name]);
        cut_power(&service);
        assert_eq!(service.state(&id), "stopped");
        service.ok(&["env", "set", &format!("ROUND={n}")]);
        cut_power(&service);
        assert_eq!(service.ok(&["env", "list"]), format!("ROUND={n}"));
        service.ok(&["remove", &id]);
        cut_power(&service);
        assert_eq!(service.list_json(), Vec::<Value>::new(), "removed is removed");
    }
}

#[test]
fn without_a_name_it_is_lost_with_a_reason() {
    for (how, again) in AGAIN {
        let service = Service::new();
        let unnamed = service.start(&["--", "sleep", "80000"]);
        let unwanted = service.start(&["--name", "not-again", "--no-autostart", "--", "sleep", "80000"]);
        let unnamed_wanted = service.start(&["--autostart", "--", "sleep", "80000"]);
        service.until_store("sound");
        again(&service);
        expect_once(&service, &unnamed_wanted, 2);
        for id in [&unnamed, &unwanted] {
            let process = service.status_json(id);
            assert_eq!(
                (&process["state"], &process["run"]),
                (&"stopped".into(), &1.into()),
                "{how}: {process}"
            );
            assert_eq!(service.tree_of(id), Vec::<u32>::new(), "{how}");
            let events = service.events_of(&process);
            let lost: Vec<_> = events.iter().filter(|e| e["kind"] == "lost").collect();
            assert_eq!(lost.len(), 1, "{how}: {events:?}");
            let why = lost[0]["detail"].as_str().expect("text");
            assert!(why.contains("not started again") && why.contains("no name"), "{how}: {why}");
        }
        let outcomes = service.outcomes();
        assert_eq!((&outcomes[&unnamed][..], &outcomes["not-again"][..]), ("lost", "lost"), "{how}");
        // Told once, not with each start of the service.
        again(&service);
        let events = service.events();
        let lost = events.iter().filter(|e| e["id"] == *unnamed && e["kind"] == "lost").count();
        assert_eq!((lost, service.state(&unnamed).as_str()), (1, "stopped"), "{how}");
        // And it can be had again.
        service.ok(&["start", &unnamed]);
        expect_once(&service, &unnamed, 2);
    }
}

#[test]
fn a_task_that_is_done_is_not_done_again() {
    for (how, again) in AGAIN {
        let service = Service::new();
        let file = service.scratch().file("done");
        let script = |end: &str| format!("echo $PROVOST_NAME >> {file}; exit {end}");
        for (name, end) in [("good", "0"), ("bad", "1")] {
            service.start(&["--name", name, "--", "sh", "-c", &script(end)]);
            service.until_state(name, "stopped");
        }
        service.until_store("sound");
        again(&service);
        wait::until("the one that failed has run again", SOON, || {
            let process = service.status_json("bad");
            process["run"] == 2 && process["state"] == "stopped"
        });
        let done = std::fs::read_to_string(&file).expect("it is there");
        assert_eq!(done, "good\nbad\nbad\n", "{how}");
        let good = service.status_json("good");
        assert_eq!((&good["run"], &good["exit"]["code"]), (&1.into(), &0.into()), "{how}: {good}");
    }
}

#[test]
fn instances_come_back_each_once() {
    for (how, again) in AGAIN {
        let service = Service::new();
        let script = "echo instance $PROVOST_INSTANCE run $PROVOST_RUN; exec sleep 80000";
        let ids = service.ok(&["start", "--name", "web", "--instances", "3", "--", "sh", "-c", script]);
        let ids: Vec<_> = ids.lines().collect();
        assert_eq!(ids.len(), 3, "{ids:?}");
        service.ok(&["stop", ids[1]]);
        service.until_store("sound");
        again(&service);
        for (n, id) in ids.iter().enumerate() {
            if n == 1 {
                assert_eq!((service.state(id).as_str(), service.tree_of(id)), ("stopped", vec![]), "{how}");
                continue;
            }
            let instance = expect_once(&service, id, 2)["instance"].clone();
            let line = format!("instance {instance} run 2\n");
            wait::until(&format!("{how}: {line}"), SOON, || {
                String::from_utf8_lossy(&service.output(id)).ends_with(&line)
            });
        }
    }
}

/// Counters, the environment and what is known of a process: all of it is as it was.
#[test]
fn numbers_and_environment_go_on() {
    let service = Service::new();
    service.ok(&["env", "set", "COLOUR=green", "EMPTY="]);
    let args = ["--label", "tier=front", "--stop-timeout", "3s", "--env", "OWN=x y"];
    let script = "echo $COLOUR-$OWN-$PROVOST_RUN; exec sleep 80000";
    let id = service.start(&[&["--name", "web"], &args[..], &["--", "sh", "-c", script]].concat());
    let said = |service: &Service, line: &str| {
        wait::until(&format!("{line} is said"), SOON, || {
            String::from_utf8_lossy(&service.output("web")).ends_with(&format!("{line}\n"))
        });
    };
    said(&service, "green-x y-1");
    let mut newest = 0;
    for (n, (how, again)) in AGAIN.iter().cycle().take(4).enumerate() {
        let run = n as u64 + 1;
        let before = expect_once(&service, "web", run);
        // What nobody was promised is written a moment later.
        service.until_store("sound");
        let events = service.events();
        newest = newest.max(events.last().expect("there are some")["seq"].as_u64().expect("a number"));
        again(&service);
        let after = expect_once(&service, "web", run + 1);
        for key in ["id", "name", "labels", "command", "created_at"] {
            assert_eq!(after[key], before[key], "{how}: {key}");
        }
        said(&service, &format!("green-x y-{}", run + 1));
        let all = service.events();
        assert!(all.len() as u64 > newest, "{how}: {} events, the newest was {newest}", all.len());
        for (now, then) in all.iter().zip(&events) {
            assert_eq!(now, then, "{how}: what was told is told again, word for word");
        }
        expect_whole(&all);
    }
    assert_eq!(service.ok(&["env", "list"]), "COLOUR=green\nEMPTY=");
    assert_eq!(service.status_json("web")["id"], *id);
    let history = service.cli(&["history", "web", "--json"]).expect(0).json();
    assert_eq!(kinds(&history).iter().filter(|&&kind| kind == "started").count(), 5, "{history:?}");
}

/// What waits for its next attempt, and what has given up, are wanted too.
#[test]
fn what_waits_or_gave_up_is_started_again() {
    for (how, again) in AGAIN {
        let service = Service::new();
        let gate = service.scratch().file("gate");
        let script = format!("[ -e {gate} ] || exit 1; exec sleep 80000");
        let slow =
            ["--name", "waits", "--restart", "always", "--restart-delay", "1h", "--restart-delay-max", "1h"];
        service.start(&[&slow[..], &["--", "sh", "-c", &script]].concat());
        let hopeless =
            ["--name", "gave-up", "--restart", "always", "--max-restarts", "2", "--restart-delay", "10ms"];
        service.start(&[&hopeless[..], &["--", "sh", "-c", &script]].concat());
        service.until_state("waits", "backoff");
        service.until_state("gave-up", "failed");
        let runs =
            ["waits", "gave-up"].map(|name| service.status_json(name)["run"].as_u64().expect("a number"));
        std::fs::write(&gate, "").expect("the directory is ours");
        service.until_store("sound");
        again(&service);
        for (name, run) in ["waits", "gave-up"].iter().zip(runs) {
            let process = expect_once(&service, name, run + 1);
            assert_eq!(process["window_restarts"], 0, "{how}: it begins anew: {process}");
        }
    }
}

/// Without a place to keep things, nothing outlives the service, and that is said.
#[test]
fn kept_nowhere_is_said() {
    let service = crate::harness::Options::new().serve(&["--state", "none"]).start();
    service.start(&["--name", "web", "--", "sleep", "80000"]);
    let doctor = service.doctor();
    assert_eq!((&doctor["store"]["state"], &doctor["well"]), (&"off".into(), &true.into()), "{doctor}");
    service.kill_engine();
    expect_once(&service, "web", 1);
    cut_power(&service);
    assert_eq!(service.list_json(), Vec::<Value>::new());
}

/// What was removed is in no file of the database after a moment: not in its free pages, not in the log.
#[test]
fn values_of_what_was_removed_are_overwritten() {
    let service = Service::new();
    let secrets = ["hush-of-a-process", "hush-of-the-environment"];
    service.start(&["--name", "web", "--env", &format!("TOKEN={}", secrets[0]), "--", "sleep", "80000"]);
    service.ok(&["env", "set", &format!("TOKEN={}", secrets[1])]);
    service.until_store("sound");
    let files = || {
        let dir = fs::read_dir(service.state_dir()).expect("it is there");
        let files = dir.filter_map(|file| fs::read(file.ok()?.path()).ok());
        files.collect::<Vec<_>>().concat()
    };
    let is_in = |secret: &str| files().windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
    assert!(secrets.iter().all(|secret| is_in(secret)), "they are kept while they are of use");
    service.ok(&["remove", "--force", "web"]);
    service.ok(&["env", "unset", "TOKEN"]);
    for secret in secrets {
        wait::until(&format!("{secret} is gone"), SOON, || !is_in(secret));
    }
    // Also when the service ends at once.
    service.start(&["--name", "web", "--env", &format!("TOKEN={}", secrets[0]), "--", "sleep", "80000"]);
    service.until_store("sound");
    assert!(is_in(secrets[0]));
    service.ok(&["remove", "--force", "web"]);
    service.end();
    assert!(!is_in(secrets[0]), "a service that has ended leaves nothing of what was removed");
}

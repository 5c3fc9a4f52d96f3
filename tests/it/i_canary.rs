//! Canaries of modules, with providers in Python: what passes, what goes back, and how that is shown.

use provost::Client;
use provost::wire::module::{ModuleAnswer, ModuleCall, ModuleOrder};
use serde_json::{Value, json};

use crate::harness::{LATER, Running, SOON, wait};
use crate::plane::Plane;

/// Long enough to look between two steps, and short enough to wait for.
const WINDOW: &str = "1s";

/// A plane and its client, with one provider of version 1.0 in a group.
struct Group {
    plane: Plane,
    client: Client,
    _old: Running,
}

/// A provider of the new version.
struct Member {
    pid: u64,
    /// Where it executes.
    at: String,
    _running: Running,
}

impl Group {
    fn start() -> Self {
        let plane = Plane::with("heartbeat_timeout = '3s'\n");
        let old = plane.outside(&["demo", "g", "again"], &[]);
        let client = Client::connect_to_host(plane.service.socket().as_ref()).expect("the host runs");
        Self { plane, client, _old: old }
    }

    /// A member of version 2.0 with these variables, once it has registered.
    #[track_caller]
    fn new_member(&self, variables: &[(&str, &str)]) -> Member {
        let variables = [&[("VERSION", "2.0")], variables].concat();
        let running = self.plane.begin(&["demo", "g", "again"], &variables);
        let line = running.line_with("active ", SOON);
        let all = self.plane.connections();
        let own = all.iter().find(|c| line.ends_with(c["id"].as_str().expect("it has one")));
        let at = own.and_then(|c| c["executor"].as_str()).expect("it is connected").to_owned();
        Member { pid: running.pid().into(), at, _running: running }
    }

    fn canary(&self, options: &[&str]) {
        let start = ["canary", "start", "demo", "--version", "2.0", "--window", WINDOW];
        self.plane.cli(&[&start[..], options].concat()).expect(0);
    }

    /// Calls `who` once; the pid of who has answered.
    fn call(&mut self) -> Option<u64> {
        let order = ModuleOrder {
            name: "demo.who".into(),
            input: b"{}".to_vec(),
            timeout: SOON,
            tagged: false,
            metadata: Vec::new(),
        };
        match self.client.module(ModuleCall::Call(order)) {
            Ok(ModuleAnswer::Value(json)) => serde_json::from_slice(&json).ok(),
            _ => None,
        }
    }

    /// Calls until the canary has come so far.
    #[track_caller]
    fn call_until(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        wait::until(what, LATER, || {
            (0..20).for_each(|_| _ = self.call());
            last = self.status();
            is_so(&last)
        });
        last
    }

    fn status(&self) -> Value {
        self.plane.cli(&["canary", "status", "demo", "--json"]).json().pop().expect("there is one")
    }

    /// Events of canaries, once there are so many: kind, cause, and detail.
    #[track_caller]
    fn events(&self, count: usize) -> Vec<(String, String, String)> {
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let mut of_canary = Vec::new();
        wait::until("the events are known", SOON, || {
            let all = self.plane.service.cli(&["events", "--json"]).json();
            let some = all.iter().filter(|e| text(e, "kind").starts_with("canary-"));
            of_canary = some.map(|e| (text(e, "kind"), text(e, "cause"), text(e, "detail"))).collect();
            of_canary.len() >= count
        });
        of_canary
    }
}

/// What has happened, as "step executor".
fn steps(canary: &Value) -> Vec<String> {
    let text = |step: &Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
    let all = canary["steps"].as_array().expect("it has steps");
    all.iter()
        .map(|step| format!("{} {}", text(step, "step"), text(step, "executor")).trim_end().to_owned())
        .collect()
}

fn member<'c>(canary: &'c Value, executor: &str) -> &'c Value {
    let all = canary["members"].as_array().expect("it has members");
    all.iter().find(|m| m["executor"] == executor).expect("it is a member")
}

#[test]
fn a_canary_with_one_percent_of_errors_is_promoted_member_by_member() {
    let mut group = Group::start();
    group.canary(&["--share", "50%", "--min-calls", "100"]);
    assert!(group.status()["next"].as_str().is_some_and(|next| next.contains("has to register")));
    let (one, two) = (group.new_member(&[("FAIL_EVERY", "100")]), group.new_member(&[("FAIL_EVERY", "100")]));
    let all = [&*one.at, &*two.at];
    let trial = group.call_until("the first has passed", |c| member(c, all[0])["standing"] == "promoted");
    assert_eq!(member(&trial, all[1])["standing"], "on-trial", "{trial}");
    let done = group.call_until("it has ended", |c| c["state"] != "running");
    assert_eq!(done["state"], "promoted", "{done}");
    let on = |what: &str, n: usize| format!("{what} {}", all[n]);
    assert_eq!(
        steps(&done),
        [
            "started",
            &on("on-trial", 0),
            &on("promoted", 0),
            &on("on-trial", 1),
            &on("promoted", 1),
            "promoted"
        ]
    );
    for executor in all {
        let shown = member(&done, executor);
        let (calls, failures) = (shown["calls"].as_u64(), shown["failures"].as_u64());
        assert!(calls >= Some(100) && failures >= Some(1), "{shown}");
        assert!(shown["mean_latency_us"].as_u64() > Some(0), "{shown}");
    }
    // All take turns now: seen at six calls none of which is the hundredth of a member, which fails.
    let mut pids = Vec::new();
    wait::until("six calls in a row are answered", SOON, || {
        pids = (0..6).filter_map(|_| group.call()).collect();
        pids.len() == 6
    });
    for of in [&one, &two] {
        assert_eq!(pids.iter().filter(|pid| **pid == of.pid).count(), 2, "{pids:?}");
    }
    let kinds: Vec<_> = group.events(4).into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, ["canary-started", "canary-promoted", "canary-promoted", "canary-promoted"]);
}

#[test]
fn a_canary_with_ten_percent_of_errors_goes_back_in_reverse_order() {
    let mut group = Group::start();
    let good = group.new_member(&[]);
    let bad = group.new_member(&[("FAIL_EVERY", "10")]);
    group.canary(&["--share", "50%", "--min-calls", "40"]);
    let (good_at, bad_at) = (&*good.at, &*bad.at);
    let done = group.call_until("it has ended", |c| c["state"] != "running");
    assert_eq!((&done["state"], &done["holds"]), (&json!("rolled-back"), &json!(true)), "{done}");
    assert_eq!(
        steps(&done)[2..],
        [
            format!("promoted {good_at}"),
            format!("on-trial {bad_at}"),
            format!("failed {bad_at}"),
            format!("rolled-back {bad_at}"),
            format!("rolled-back {good_at}"),
        ]
    );
    let why = done["reason"].as_str().expect("it has a reason");
    assert!(why.starts_with(bad_at) && why.contains("calls failed, and 0.95 have to succeed"), "{why}");
    let old = group.call().expect("the old version answers");
    assert!(old != good.pid && old != bad.pid);
    assert!((0..20).all(|_| group.call() == Some(old)));
    // It is shown, and stays so when the host has begun once more.
    let shown = group.plane.cli(&["canary", "status"]).expect(0).out();
    assert!(shown.contains("rolled-back") && shown.contains(&format!("why: {bad_at}")), "{shown}");
    let events = group.events(5);
    let kinds: Vec<_> = events.iter().map(|(kind, ..)| &kind[..]).collect();
    let back = "canary-rolled-back";
    assert_eq!(kinds, ["canary-started", "canary-promoted", back, back, back], "{events:?}");
    assert!(events[0].1.starts_with("uid ") && events[1].1 == "canary", "{events:?}");
    assert!(events[3].2.contains(bad_at) && events[4].2.contains(good_at), "{events:?}");
    group.plane.kill_host();
    group.client = Client::connect_to_host(group.plane.service.socket().as_ref()).expect("the host runs");
    assert!((0..20).all(|_| group.call() == Some(old)));
    assert_eq!(group.status()["state"], "rolled-back");
    let watched = group.plane.cli(&["canary", "status", "demo", "--watch"]);
    watched.expect(1);
    assert!(watched.out().lines().count() >= 7, "{watched:?}");
}

#[test]
fn a_member_on_trial_gets_exactly_its_share() {
    let mut group = Group::start();
    let new = group.new_member(&[]);
    group.canary(&["--share", "10%", "--min-calls", "1000"]);
    let pids: Vec<_> = (0..100).filter_map(|_| group.call()).collect();
    assert_eq!(pids.iter().filter(|pid| **pid == new.pid).count(), 10);
    let shown = group.status();
    assert_eq!(member(&shown, &new.at)["calls"], 10, "{shown}");
    assert!(shown["next"].as_str().is_some_and(|next| next.contains("after 990 more calls")), "{shown}");
}

#[test]
fn who_is_too_slow_goes_back() {
    let mut group = Group::start();
    let _slow = group.new_member(&[("SLOW", "0.2")]);
    group.canary(&["--share", "50%", "--min-calls", "5", "--latency", "100ms"]);
    let done = group.call_until("it has ended", |c| c["state"] != "running");
    assert_eq!(done["state"], "rolled-back", "{done}");
    let why = done["reason"].as_str().expect("it has a reason");
    assert!(why.contains("5 of 5 calls took longer than 100ms"), "{why}");
}

#[test]
fn what_passed_stays_with_no_rollback_and_an_abort_takes_all_back() {
    let mut group = Group::start();
    let good = group.new_member(&[]);
    let bad = group.new_member(&[("FAIL_EVERY", "2")]);
    let (good_at, bad_at) = (&*good.at, &*bad.at);
    let options = ["--share", "50%", "--min-calls", "10"];
    group.canary(&[&options[..], &["--no-rollback"]].concat());
    let done = group.call_until("it has ended", |c| c["state"] != "running");
    assert_eq!(done["state"], "partial-failure", "{done}");
    let standing = |canary: &Value, of: &str| member(canary, of)["standing"].clone();
    assert_eq!([standing(&done, good_at), standing(&done, bad_at)], ["promoted", "rolled-back"]);
    let pids: Vec<_> = (0..20).filter_map(|_| group.call()).collect();
    assert_eq!(pids.iter().filter(|pid| **pid == good.pid).count(), 10, "{pids:?}");
    assert!(!pids.contains(&bad.pid));
    // Another one begins from the beginning, and ends when somebody wants.
    let again = [&["canary", "start", "demo", "--version", "2.0"], &options[..]].concat();
    group.plane.cli(&again).expect(0);
    group.plane.cli(&again).expect(3);
    assert_eq!(standing(&group.status(), good_at), "on-trial");
    assert!(group.plane.cli(&["canary", "abort", "demo"]).expect(0).out().contains("aborted"));
    group.plane.cli(&["canary", "abort", "demo"]).expect(4);
    assert!((0..20).all(|_| group.call().is_some_and(|pid| pid != good.pid)));
    let out = group.plane.cli(&["connections", "--json"]).json();
    assert!(out.iter().any(|c| c["reason"].as_str().is_some_and(|why| why.contains("held back"))), "{out:?}");
    let kinds: Vec<_> = group.events(7).into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds[kinds.len() - 2..], ["canary-aborted", "canary-rolled-back"]);
}

#[test]
fn a_canary_goes_on_when_the_host_is_killed_in_the_middle() {
    let mut group = Group::start();
    let (one, two) = (group.new_member(&[]), group.new_member(&[]));
    let all = [&*one.at, &*two.at];
    group.canary(&["--share", "50%", "--min-calls", "20"]);
    group.call_until("the first has passed", |c| member(c, all[0])["standing"] == "promoted");
    group.plane.kill_host();
    group.client = Client::connect_to_host(group.plane.service.socket().as_ref()).expect("the host runs");
    let shown = group.status();
    assert_eq!(
        (&shown["state"], &member(&shown, all[0])["standing"]),
        (&json!("running"), &json!("promoted"))
    );
    assert!(steps(&shown).contains(&"resumed".to_owned()), "{shown}");
    let done = group.call_until("it has ended", |c| c["state"] != "running");
    assert_eq!(done["state"], "promoted", "{done}");
    assert_eq!(
        steps(&done)[4..],
        ["resumed", &format!("on-trial {}", all[1]), &format!("promoted {}", all[1]), "promoted"]
    );
}

#[test]
fn what_cannot_be_tried_is_refused_with_the_next_step() {
    let plane = Plane::start();
    let _alone = plane.outside(&["alone"], &[]);
    for (args, code, what) in [
        (&["start", "alone", "--version", "2"][..], 6, "a canary needs a group"),
        (&["start", "none", "--version", "2"], 4, "nobody has registered modules of none"),
        (&["start", "a b", "--version", "2"], 2, "alphanumeric"),
        (&["start", "alone"], 2, "no version is given"),
        (&["abort", "alone"], 4, "no canary of alone runs"),
        (&["status", "alone"], 4, "no canary of 'alone'"),
    ] {
        let out = plane.cli(&[&["canary"], args].concat());
        out.expect(code);
        assert!(out.err().contains(what), "{out:?}");
    }
    assert_eq!(plane.cli(&["canary", "status"]).expect(0).out(), "");
}

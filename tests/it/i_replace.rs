//! A provider is replaced without a gap: the next one is initialised before it gets a call, and whatever goes
//! wrong on the way, one stays.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use provost::wire::provider::{ProviderCall, ProviderName};
use serde_json::json;

use crate::h_providers::has_call;
use crate::harness::{Registry, SOON, Scratch, procfs, wait};

/// A registry with a provider whose next start is as the file "mode" says.
struct Replaced {
    scratch: Scratch,
    registry: Registry,
    first: u32,
}

impl Replaced {
    fn start() -> Self {
        let (scratch, registry) = (Scratch::new(), Registry::start());
        registry.binary("by-mode", &format!("$(cat {})", scratch.file("mode")));
        let ours = Self { scratch, registry, first: 0 };
        ours.next_is("fine");
        let long = ["--fetch-timeout", "1m", "--init-timeout", "1m"];
        ours.registry.ok(&[&["register", "app", "--binary", "by-mode"], &long[..]].concat());
        let first = ours.registry.pid("app");
        Self { first, ..ours }
    }

    fn next_is(&self, mode: &str) {
        fs::write(self.scratch.file("mode"), mode).expect("the directory is ours");
    }

    fn running(&self, mode: &str) -> Vec<u32> {
        let all = procfs::with_command(&format!("rude {mode}"));
        all.into_iter().filter(|&pid| self.registry.0.is_marked(pid)).collect()
    }

    fn fetched(&self, key: &str) -> String {
        wait::until_some("the host answers", SOON, || {
            let out = self.registry.0.cli(&["provider", "fetch", "app", key, "--unwrap"]);
            (out.code == 0).then(|| out.out().trim().to_owned())
        })
    }

    /// One runs, this one, and it was initialised once.
    fn is_alone(&self, pid: u32) {
        assert_eq!((self.fetched("pid"), self.fetched("inits")), (pid.to_string(), "1".into()));
        wait::until("the other one is gone", SOON, || {
            [self.running("fine"), self.running("hang-in-init")].concat() == [pid]
        });
    }
}

#[test]
fn calls_go_on_while_the_next_one_is_initialised_and_to_it_afterwards() {
    let ours = Replaced::start();
    let registry = &ours.registry;
    let hanging = registry.0.background(&["provider", "fetch", "app", "hang"]);
    wait::until("the call is under way", SOON, || has_call(ours.first));
    ours.next_is("hang-in-init");
    let replacing = registry.0.background(&["registry", "replace", "app"]);
    let next = wait::until_some("Init is under way", SOON, || {
        ours.running("hang-in-init").into_iter().find(|&pid| has_call(pid))
    });
    assert_eq!(ours.fetched("pid"), ours.first.to_string(), "it does not wait for the next one");
    // One that dies before it is initialised changes nothing.
    procfs::signal("KILL", next);
    let failed = replacing.end(SOON);
    assert!(failed.expect(1).err().contains("SIGKILL"), "{failed:?}");
    ours.is_alone(ours.first);
    let entry = registry.entry("app");
    assert_eq!((&entry["status"], &entry["breaker"]["failures"]), (&json!("ready"), &json!(0)));
    registry.kinds_until("app", "provider-error");
    // The one that comes up takes the calls, though the old one still has one.
    ours.next_is("fine");
    let replacing = registry.0.background(&["registry", "replace", "app"]);
    wait::until("the next one takes the calls", SOON, || ours.fetched("pid") != ours.first.to_string());
    assert!(replacing.is_running() && hanging.is_running() && procfs::alive(ours.first));
    procfs::signal("KILL", ours.first);
    hanging.end(SOON).expect(1);
    assert!(replacing.end(SOON).expect(0).out().starts_with("app: ready"));
    let second = registry.pid("app");
    ours.is_alone(second);
    // Its process has the other name now, and what it prints is found.
    assert_eq!(registry.entry("app")["process"], "provider@default.app");
    assert_eq!(registry.0.status_json("provider@default.app")["pid"], second);
    registry.0.ok(&["provider", "logs", "app"]);
    // Its own crash is seen, which that of the old one was not.
    let before = registry.kinds("app").iter().filter(|kind| *kind == "provider-error").count();
    assert_eq!(before, 1, "{:?}", registry.kinds("app"));
    procfs::signal("KILL", second);
    registry.kinds_until("app", "provider-error");
    assert_eq!(ours.fetched("inits"), "1");
    assert_eq!(registry.entry("app")["process"], "provider.default.app");
}

#[test]
fn a_host_that_dies_in_the_middle_leaves_one() {
    let ours = Replaced::start();
    let registry = &ours.registry;
    // The next one is not initialised yet.
    ours.next_is("hang-in-init");
    let replacing = registry.0.background(&["registry", "replace", "app"]);
    wait::until("Init is under way", SOON, || ours.running("hang-in-init").into_iter().any(has_call));
    procfs::signal("KILL", registry.0.pid("provost.host"));
    replacing.end(SOON);
    ours.is_alone(ours.first);
    // The old one still has a call.
    ours.next_is("fine");
    let hanging = registry.0.background(&["provider", "fetch", "app", "hang"]);
    wait::until("the call is under way", SOON, || has_call(ours.first));
    let replacing = registry.0.background(&["registry", "replace", "app"]);
    wait::until("the next one takes the calls", SOON, || ours.fetched("pid") != ours.first.to_string());
    let second = registry.pid("app");
    procfs::signal("KILL", registry.0.pid("provost.host"));
    replacing.end(SOON);
    hanging.end(SOON);
    ours.is_alone(second);
}

#[test]
fn one_that_is_stopped_or_unregistered_meanwhile_stays_so() {
    let ours = Replaced::start();
    let registry = &ours.registry;
    ours.next_is("hang-in-init");
    let replacing = registry.0.background(&["registry", "replace", "app"]);
    let next = wait::until_some("Init is under way", SOON, || {
        ours.running("hang-in-init").into_iter().find(|&pid| has_call(pid))
    });
    registry.ok(&["stop", "app"]);
    procfs::signal("KILL", next);
    replacing.end(SOON).expect(1);
    assert_eq!(registry.status("app"), "stopped");
    assert!([ours.running("fine"), ours.running("hang-in-init")].concat().is_empty());
    // Where nothing runs there is nothing to be replaced: the next one is started.
    ours.next_is("fine");
    registry.ok(&["replace", "app"]);
    let pid = registry.pid("app");
    ours.is_alone(pid);
    registry.ok(&["unregister", "app"]);
    assert!(ours.running("fine").is_empty());
    assert_eq!(registry.reason(4, &["replace", "app"]), "not_found");
}

#[test]
fn a_configuration_that_changes_is_swapped_in_under_calls() {
    let scratch = Scratch::new();
    let plugins = scratch.file("plugins");
    fs::create_dir_all(&plugins).expect("the directory is ours");
    let config = |n: u32| {
        format!(
            "[registry.discovery]\nplugin_path = '{plugins}'\n\
             [providers.app]\nbinary = 'fine'\nswap = true\nconfig = {{ n = {n} }}\n"
        )
    };
    let registry = Registry::configured(&scratch, &config(0));
    registry.ok(&["start", "app"]);
    let (is_over, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let before = registry.pid("app");
    thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let mut host = registry.host();
            while !is_over.load(Ordering::Relaxed) {
                let name = ProviderName::new("", "app").expect("it is a name");
                host.provider(ProviderCall::Fetch(name, vec!["pid".into()])).expect("no call fails");
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
        for n in 1..4 {
            let so_far = calls.load(Ordering::Relaxed);
            wait::until("calls are made", SOON, || calls.load(Ordering::Relaxed) > so_far + 50);
            fs::write(scratch.file("provost.toml"), config(n)).expect("it is ours");
            assert_eq!(registry.ok(&["discover", "--config"]).lines().count(), 1);
        }
        is_over.store(true, Ordering::Relaxed);
        calling.join().expect("no call fails");
    });
    assert!(registry.pid("app") != before && !procfs::alive(before));
    assert_eq!(registry.entry("app")["starts"], 4);
    registry.kinds_until("app", "provider-started");
    // What cannot be started leaves the one that runs, with what it was given.
    let (pid, broken) = (registry.pid("app"), config(9).replace("'fine'", "'exit-early'"));
    fs::write(scratch.file("provost.toml"), broken).expect("it is ours");
    registry.cli(&["discover", "--config"]).expect(8);
    assert_eq!((registry.pid("app"), registry.status("app").as_str()), (pid, "ready"));
}

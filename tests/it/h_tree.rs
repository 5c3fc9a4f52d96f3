//! What belongs to a provider, and what is kept from it; and many that crash at once.

use std::fs;
use std::thread;

use crate::h_providers::Hosting;
use crate::harness::{Options, SOON, fixture, procfs, wait};

#[test]
fn h11_what_a_provider_sends_into_the_background_goes_with_it() {
    let hosting = Hosting::start();
    // It leaves its session, and its parent behind.
    hosting.start_alias("child", &hosting.rude("with-child"));
    let pid = hosting.pid("child");
    let daemon = hosting.running("sleep 76100");
    assert_eq!(daemon.len(), 1);
    procfs::signal("KILL", pid);
    wait::until("the daemon has gone with it", SOON, || hosting.running("sleep 76100").is_empty());
    assert_ne!(hosting.pid("child"), pid);
    hosting.ok(&["stop", "child"]);
    assert_eq!(hosting.running("sleep 76100"), [0u32; 0]);
    // One that is itself the daemon is not what was started, which has ended.
    hosting.script("daemon", &format!("setsid {} fine &\nexit 0", fixture("rude")));
    let reason = hosting.reason(1, &["start", "daemon", "--binary", "daemon"]);
    assert!(["exited_early", "crashed"].contains(&reason.as_str()), "{reason}");
    wait::until("nothing of it is left", SOON, || hosting.running("rude fine").is_empty());
}

#[test]
fn h12_a_provider_gets_no_descriptor_and_no_variable_that_is_not_for_it() {
    let hosting = Hosting::of(Options::new().through(&["env", "CANARY=of-the-service", "WANTED=1"]).start());
    let file = hosting.0.scratch().file("seen");
    hosting.script("listing", &format!("exec ls /proc/self/fd > {file}"));
    assert_eq!(hosting.reason(1, &["start", "fds", "--binary", "listing"]), "exited_early");
    // The last one is the directory that it reads.
    assert_eq!(fs::read_to_string(&file).expect("it has written it"), "0\n1\n2\n3\n");
    let text = format!("env > {file}\nexec {} fine", fixture("rude"));
    hosting.script("curious", &text);
    let seen = |alias: &str, more: &[&str]| {
        hosting.ok(&[&["start", alias, "--binary", "curious"], more].concat());
        let seen = fs::read_to_string(&file).expect("it has written it");
        ["CANARY=of-the-service", "WANTED=1"].map(|line| seen.lines().any(|l| l == line))
    };
    assert_eq!(seen("all", &[]), [true, true]);
    assert_eq!(seen("some", &["--env-allow", "WANTED"]), [false, true]);
    assert_eq!(seen("none", &["--env-clear"]), [false, false]);
}

#[test]
fn h22_fifty_that_crash_again_and_again_are_started_five_times_each_and_hold_up_nobody() {
    let hosting = Hosting::start();
    let binary = hosting.rude("exit-early");
    hosting.start_alias("fine", &hosting.rude("fine"));
    let names: Vec<_> = (0..50).map(|n| format!("crash{n}")).collect();
    thread::scope(|scope| {
        let crashing: Vec<_> = names
            .chunks(10)
            .map(|some| {
                let (hosting, binary) = (&hosting, &binary);
                scope.spawn(move || {
                    for name in some {
                        hosting.cli(&["start", name, "--binary", binary]).expect(1);
                    }
                    for name in some.iter().cycle().take(7 * some.len()) {
                        assert_ne!(hosting.cli(&["fetch", name, "x"]).code, 0);
                    }
                })
            })
            .collect();
        while !crashing.iter().all(|thread| thread.is_finished()) {
            let answer = hosting.cli(&["fetch", "fine", "inits", "--unwrap"]);
            assert_eq!(answer.expect(0).out().trim(), "1");
            assert!(answer.took < SOON, "{answer:?}");
        }
    });
    let all = hosting.cli(&["list", "--json"]).json();
    let starts: Vec<_> = all.iter().filter(|p| p["alias"] != "fine").map(|p| p["starts"].clone()).collect();
    assert!(starts.len() == 50 && starts.iter().all(|n| n == 5), "{starts:?}");
    assert_eq!(hosting.running("rude exit-early"), [0u32; 0]);
    hosting.0.expect_answer();
}

//! What the host promises in figures, and what clients may do at once: how soon an end is told, how soon one
//! that is polite has gone, and that many callers and a replacement are in nobody's way.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use provost::Client;
use provost::wire::provider::{ProviderAnswer, ProviderCall, ProviderName};
use serde_json::json;

use crate::h_providers::{Hosting, has_call};
use crate::harness::{Options, SOON, procfs, wait};

/// A client of the host, by the library.
fn client(hosting: &Hosting) -> Client {
    Client::connect_to_host(Path::new(hosting.0.socket())).expect("the host is there")
}

fn fetch(client: &mut Client, alias: &str, key: &str) -> Result<ProviderAnswer, String> {
    let name = ProviderName::new("", alias).expect("it is a name");
    client.provider(ProviderCall::Fetch(name, vec![key.to_owned()])).map_err(|e| e.message)
}

/// The best of three: other programs may be in the way.
fn best(mut measure: impl FnMut() -> Duration) -> Duration {
    (0..3).map(|_| measure()).min().expect("there are three")
}

#[test]
fn h6_a_kill_in_the_middle_of_a_call_is_told_within_a_second_with_the_last_words() {
    let hosting = Hosting::of(Options::new().alone().start());
    hosting.start_alias("rude", &hosting.rude("fine"));
    let took = best(|| {
        let pid = hosting.pid("rude");
        let hanging = hosting.0.background(&["provider", "fetch", "rude", "hang"]);
        wait::until("the call is under way", SOON, || has_call(pid));
        wait::until("it has said so", SOON, || hosting.ok(&["logs", "rude"]).contains("it takes for ever"));
        let begin = Instant::now();
        procfs::signal("KILL", pid);
        let ended = hanging.end(SOON);
        let took = begin.elapsed();
        let words = "SIGKILL; its standard error ends with: it takes for ever";
        assert!(ended.expect(1).err().contains(words), "{ended:?}");
        assert_eq!(hosting.fetch("rude", &["inits"]), json!(1));
        took
    });
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// As those that exist: Shutdown is answered, and SIGTERM ends them.
#[test]
fn h7_one_that_heeds_sigterm_alone_has_ended_cleanly_within_700_ms() {
    let hosting = Hosting::of(Options::new().alone().start());
    let [python, _] = hosting.others();
    hosting.ok(&["start", "python", "--binary", &python]);
    let took = best(|| {
        let pid = hosting.pid("python");
        let stopped = hosting.cli(&["stop", "python"]);
        stopped.expect(0);
        assert!(!procfs::alive(pid));
        stopped.took
    });
    assert!(took < Duration::from_millis(700), "{took:?}");
    assert_eq!(hosting.state("python"), "idle");
}

#[test]
fn under_two_hundred_calls_a_second_a_replacement_fails_none() {
    let hosting = Hosting::start();
    hosting.start_alias("rude", &hosting.rude("fine"));
    let before = hosting.pid("rude");
    let (is_over, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let begin = Instant::now();
    thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = client(&hosting);
                    while !is_over.load(Ordering::Relaxed) {
                        fetch(&mut client, "rude", "pid").expect("no call fails");
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for command in ["provider", "registry", "registry"] {
            let so_far = calls.load(Ordering::Relaxed);
            wait::until("they call", SOON, || calls.load(Ordering::Relaxed) > so_far + 100);
            hosting.0.ok(&[command, "replace", "rude"]);
        }
        is_over.store(true, Ordering::Relaxed);
        callers.into_iter().for_each(|caller| caller.join().expect("no call fails"));
    });
    let rate = calls.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    assert!(rate >= 200.0, "{rate} calls a second");
    assert_ne!(hosting.pid("rude"), before);
    assert_eq!(hosting.running("rude fine").len(), 1);
}

#[test]
fn fifty_callers_with_ten_calls_each_get_five_hundred_answers() {
    let hosting = Hosting::start();
    hosting.start_alias("rude", &hosting.rude("fine"));
    let answers = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let mut client = client(&hosting);
                for _ in 0..10 {
                    let answer = fetch(&mut client, "rude", "inits").expect("it is answered");
                    assert!(matches!(answer, ProviderAnswer::Value(_)), "{answer:?}");
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(answers.into_inner(), 500);
    assert_eq!(hosting.fetch("rude", &["inits"]), json!(1));
}

#[test]
fn five_who_want_at_once_what_is_not_there_all_fail_and_nothing_is_known_of_it() {
    let hosting = Hosting::start();
    hosting.ok(&["shutdown"]);
    let start = ["start", "none", "--binary", "nothing"];
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| assert_ne!(hosting.cli(&start).code, 0));
        }
    });
    assert_eq!(hosting.ok(&["list"]), "");
    assert_eq!(hosting.reason(127, &start), "binary_not_found");
    hosting.ok(&["shutdown"]);
}

#[test]
fn a_client_that_leaves_in_the_middle_takes_no_provider_with_it() {
    let hosting = Hosting::start();
    hosting.start_alias("rude", &hosting.rude("fine"));
    let pid = hosting.pid("rude");
    let hanging = hosting.0.background(&["provider", "fetch", "rude", "hang"]);
    wait::until("the call is under way", SOON, || has_call(pid));
    procfs::signal("KILL", hanging.pid());
    hanging.end(SOON);
    assert_eq!((hosting.pid("rude"), hosting.fetch("rude", &["inits"])), (pid, json!(1)));
}

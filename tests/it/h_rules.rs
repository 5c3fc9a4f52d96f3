//! The rules that a provider is run by: who is told what it writes, when it is tried again, what it may
//! reach. And what the host may not see or do: that is no permission.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::h_providers::Hosting;
use crate::harness::{Options, SOON, fixture, procfs, wait};

/// A script that writes something to its standard error before it becomes a provider.
fn muttering(hosting: &Hosting) {
    hosting.script("muttering", &format!("echo 'warming up' >&2\nexec {} fine", fixture("rude")));
}

#[test]
fn standard_error_is_told_as_the_definition_says_or_louder_for_one_command() {
    let hosting = Hosting::start();
    muttering(&hosting);
    let start = |alias: &str, more: &[&str]| {
        let out = hosting.cli(&[&["start", alias, "--binary", "muttering"], more].concat());
        out.expect(0).err().trim().to_owned()
    };
    assert_eq!(start("quiet", &["--stderr", "off"]), "");
    assert_eq!(start("usual", &[]), "");
    assert_eq!(start("once", &["-v"]), "warming up");
    assert_eq!(start("all", &["--stderr", "all"]), "warming up");
    let die = |alias: &str, more: &[&str]| {
        let out = hosting.cli(&[&["fetch", alias, "die"], more].concat());
        out.expect(1).err()
    };
    let quiet = die("quiet", &[]);
    assert!(quiet.contains("exit code 9") && !quiet.contains("going down"), "{quiet}");
    let louder = die("quiet", &["-v"]);
    assert!(louder.contains("its standard error ends with: warming up | going down"), "{louder}");
    assert!(die("usual", &[]).contains("going down"));
    // The call starts it afresh; what it says then is said meanwhile.
    let again = hosting.cli(&["fetch", "quiet", "inits", "-vv", "--unwrap"]);
    assert_eq!((again.expect(0).out().trim(), again.err().trim()), ("1", "warming up"));
    assert_eq!(hosting.cli(&["fetch", "quiet", "inits", "-vv"]).expect(0).err().trim(), "", "nothing new");
    hosting.cli(&["list", "-v"]).expect(2);
    hosting.cli(&["start", "x", "--binary", "muttering", "--stderr", "loud"]).expect(2);
}

/// A script that fails so many times before it becomes a provider.
fn failing(hosting: &Hosting, name: &str, times: u32) -> String {
    let count = hosting.0.scratch().file(&format!("{name}.count"));
    let text = format!(
        "n=$(cat {count} 2>/dev/null || echo 0)\necho $((n + 1)) > {count}\n\
         [ $n -ge {times} ] || {{ echo \"not yet $n\" >&2; exit 3; }}\nexec {} fine",
        fixture("rude")
    );
    hosting.script(name, &text);
    count
}

fn starts(hosting: &Hosting, alias: &str) -> serde_json::Value {
    let all = hosting.cli(&["list", "--json"]).json();
    all.iter().find(|p| p["alias"] == alias).expect("it is listed")["starts"].clone()
}

#[test]
fn h6_a_start_that_fails_is_tried_again_as_often_as_the_definition_says() {
    let hosting = Hosting::start();
    failing(&hosting, "twice", 2);
    let delay = ["--retry-delay", "10ms"];
    let start = |alias: &'static str, binary: &'static str, retries: &'static str| {
        [&["start", alias, "--binary", binary, "--retries", retries], &delay[..]].concat()
    };
    hosting.ok(&start("twice", "twice", "2"));
    assert_eq!((starts(&hosting, "twice"), hosting.fetch("twice", &["inits"])), (json!(3), json!(1)));
    failing(&hosting, "thrice", 3);
    let failed = hosting.cli(&start("thrice", "thrice", "2"));
    failed.expect(1);
    assert!(failed.err().contains("not yet 2"), "the last attempt's words: {failed:?}");
    // However often it may be tried: five times in a minute, and then no more.
    failing(&hosting, "never", 1000);
    assert_eq!(hosting.reason(1, &start("never", "never", "10")), "exited_early");
    assert_eq!((starts(&hosting, "never"), hosting.state("never")), (json!(5), "failed".into()));
    hosting.cli(&start("more", "never", "11")).expect(2);
    // What is wrong with the definition does not become right by waiting.
    assert_eq!(hosting.reason(127, &start("none", "none", "10")), "binary_not_found");
}

#[test]
fn h6_a_stop_ends_the_retries() {
    let hosting = Hosting::start();
    let count = failing(&hosting, "never", 1000);
    let start = ["provider", "start", "never", "--binary", "never", "--retries", "3", "--retry-delay", "60s"];
    let starting = hosting.0.background(&start);
    wait::until("it was tried once", SOON, || {
        Path::new(&count).exists() && hosting.running("providers/never").is_empty()
    });
    let stopped = hosting.cli(&["stop", "never"]);
    assert!(stopped.took < Duration::from_secs(20), "{stopped:?}");
    starting.end(SOON).expect(1);
    assert_eq!(fs::read_to_string(&count).expect("it was tried").trim(), "1");
}

#[test]
fn a_provider_has_the_limits_and_the_landlock_of_its_definition() {
    let hosting = Hosting::start();
    let file = hosting.0.scratch().file("touched");
    let text = format!("if echo x > {file}; then exit 3; fi\nexec {} fine", fixture("rude"));
    hosting.script("confined", &text);
    let limits = ["--limit", "nofile=200:300", "--limit", "core=0"];
    let landlock = ["--landlock-read", "/", "--landlock-write", "/dev/null"];
    hosting.ok(&[&["start", "confined", "--binary", "confined"], &limits[..], &landlock[..]].concat());
    assert_eq!(hosting.fetch("confined", &["inits"]), json!(1));
    assert!(!Path::new(&file).exists());
    let pid = hosting.pid("confined");
    let found = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let line = found.lines().find(|line| line.starts_with("Max open files")).expect("it is there");
    assert_eq!(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["200", "300"]);
    // Another definition under the same alias is told apart by them.
    let other = hosting.cli(&["start", "confined", "--binary", "confined"]);
    assert!(other.expect(6).err().contains("its limits, landlock is another one"), "{other:?}");
}

#[test]
fn h5_the_port_of_a_process_that_cannot_be_seen_is_not_asked() {
    let hosting = Hosting::of(Options::new().of_nobody().start());
    // Root's: the service, which is nobody's, is not let to look whose it is.
    let stranger = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let port = stranger.local_addr().expect("it is bound").port();
    let path = hosting.script("other", &format!("echo PROVIDER_PORT={port}\nexec sleep 76200"));
    let providers = Path::new(&path).parent().expect("it has one");
    for path in [Path::new(&path), providers] {
        chown(path, Some(65534), Some(65534)).expect("we are root");
    }
    let failed = hosting.cli(&["start", "other", "--binary", "other"]);
    failed.expect(1);
    assert!(failed.err().contains("belongs to a process of user 0"), "{failed:?}");
    stranger.set_nonblocking(true).expect("it is a socket");
    assert!(stranger.accept().is_err(), "nobody has connected");
}

#[test]
fn h5_a_connection_that_is_not_permitted_is_a_failure_at_once() {
    let script = format!("{}/tests/fixtures/no_connect.py", env!("CARGO_MANIFEST_DIR"));
    let hosting = Hosting::of(Options::new().through(&["python3", &script]).start());
    let rude = hosting.rude("fine");
    let failed = hosting.cli(&["start", "rude", "--binary", &rude, "--handshake-timeout", "1m"]);
    failed.expect(1);
    assert!(failed.took < Duration::from_secs(20), "it is not tried for a minute: {failed:?}");
    assert!(failed.err().contains("nothing can be reached on port"), "{failed:?}");
    assert!(failed.err().contains("ermission denied"), "{failed:?}");
    assert_eq!(hosting.running("rude fine"), [0u32; 0], "nothing of it is left");
    assert_eq!(hosting.state("rude"), "idle");
    assert!(procfs::alive(hosting.host_pid()));
}

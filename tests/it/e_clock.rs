//! A wall clock that jumps, or stands at the begin of 1970: what has a deadline keeps it, since that is
//! measured by another clock, and nothing that is kept is thrown away for it.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{LATER, Options, SOON, STUBBORN, Scratch, Service, cli, procfs, wait};

/// Thirty years, in seconds.
const YEARS: i64 = 30 * 365 * 86_400;

/// A wall clock of a test's own.
struct Clock {
    scratch: Scratch,
}

impl Clock {
    #[track_caller]
    fn new() -> Self {
        let scratch = Scratch::new();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/clock.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o", &scratch.file("clock.so"), source]);
        cli::run(cc, LATER).expect(0);
        let clock = Self { scratch };
        clock.is_ahead(0);
        clock
    }

    /// In place, since it is mapped by those who look at it.
    fn is_ahead(&self, seconds: i64) {
        use std::os::unix::fs::FileExt;
        let file =
            fs::File::options().write(true).create(true).truncate(false).open(self.scratch.file("ahead"));
        file.expect("the directory is ours").write_all_at(&seconds.to_ne_bytes(), 0).expect("it is ours");
    }

    /// A service that goes by it.
    fn service(&self) -> Service {
        let preload = format!("LD_PRELOAD={}", self.scratch.file("clock.so"));
        let ahead = format!("TEST_CLOCK={}", self.scratch.file("ahead"));
        Options::new().through(&["env", &preload, &ahead]).start()
    }
}

#[test]
fn e13_a_wall_clock_that_jumps_by_years_moves_no_deadline_and_loses_nothing() {
    let clock = Clock::new();
    let service = clock.service();
    service.start(&["--name", "steady", "--", "sleep", "82200"]);
    let pid = service.pid("steady");
    let back = ["--name", "back", "--restart", "always", "--restart-delay", "300ms", "--"];
    service.start(&[&back[..], &["sleep", "82201"]].concat());
    let ready = ["--wait=ready", "--ready-line", "up", "--stop-timeout", "700ms"];
    for (n, years) in (1..).zip([YEARS, -YEARS, 0]) {
        let old = service.pid("back");
        let name = format!("stubborn-{n}");
        service.start(&[&["--name", &name], &ready[..], &["--", "sh", "-c", STUBBORN]].concat());
        // The jump comes while both are waited for.
        procfs::signal("KILL", old);
        let begin = Instant::now();
        let stop = service.background(&["stop", &name]);
        clock.is_ahead(years);
        stop.end(SOON);
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(700), "killed early, after {took:?}");
        wait::until("it has come back", SOON, || {
            let now = service.status_json("back");
            now["state"] == "running" && now["pid"] != old
        });
        assert_eq!(service.pid("steady"), pid);
        service.until_store("sound");
    }
    // What was before the first jump is still there.
    let events = service.cli(&["events", "--since", "0", "--json"]).expect(0).json();
    let numbers: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>(), "nothing was thrown away");
    service.kill_engine();
    assert_eq!(service.pid("steady"), pid);
    service.end();
}

#[test]
fn e15_a_service_whose_clock_stands_at_1970_does_its_work() {
    let clock = Clock::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later");
    clock.is_ahead(-(now.as_secs() as i64));
    let service = clock.service();
    let id = service.start(&["--name", "web", "--", "sleep", "82210"]);
    service.ok(&["restart", "web"]);
    service.ok(&["stop", "web"]);
    service.ok(&["start", "web"]);
    service.until_store("sound");
    service.kill_all();
    service.serve_again();
    service.until_state("web", "running");
    assert!(service.ok(&["events", "--since", "0"]).contains("web"), "{id}");
    // And when it is set, all goes on.
    clock.is_ahead(0);
    service.ok(&["restart", "web"]);
    service.until_store("sound");
    service.end();
}

//! Logs on a disk that is full, or becomes read-only.

use std::fs;
use std::process::Command;
use std::time::Instant;

use crate::harness::{LATER, Options, SOON, Scratch, Service, cli, fixture, rounds, wait};

/// A service with a small disk of its own, which ends with it: the service, the path of the disk for it, and
/// the same path for us.
fn with_disk(scratch: &Scratch) -> (Service, String, String) {
    let disk = scratch.file("disk");
    fs::create_dir(&disk).expect("the directory is ours");
    let mount = format!("mount -t tmpfs -o size=2m,mode=700 tmpfs {disk} && exec \"$@\"");
    let service = Options::new()
        .through(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount, "sh"])
        .start();
    let seen = format!("/proc/{}/root{disk}", service.keeper_pid());
    (service, disk, seen)
}

fn expect_whole(log: &str, lost: u64, end: u64) {
    let text = fs::read_to_string(log).expect("text");
    let note = text.lines().find(|line| line.starts_with("provost: ")).expect("the gap is told");
    assert!(note.contains(&format!("{lost} bytes of output were lost here")), "{note}, not {lost}");
    let own: usize =
        text.lines().filter(|line| line.starts_with("provost: ")).map(|line| line.len() + 1).sum();
    assert_eq!(text.len() as u64 - own as u64 + lost, end, "what is there and what is lost is all there was");
    let mut last = 0;
    for line in text.lines().filter(|line| !line.starts_with("provost: ")) {
        let number = line.parse::<u64>().unwrap_or_else(|e| panic!("{line:?} is torn: {e}"));
        assert!(number > last, "{number} follows {last}");
        last = number;
    }
}

/// Leaves little room on a disk; what takes it up.
fn fill(disk: &str) -> String {
    let filler = format!("{disk}/filler");
    let mut dd = Command::new("dd");
    dd.args(["if=/dev/zero", "bs=1M", "count=1", &format!("of={filler}")]);
    cli::run(dd, LATER).expect(0);
    filler
}

#[test]
fn d9_a_full_disk_of_a_log_holds_no_child_up() {
    let scratch = Scratch::new();
    let (service, disk, seen) = with_disk(&scratch);
    let (log, filler) = (format!("{disk}/numbers.log"), fill(&seen));
    let (count, last) = ("1000000", 6_888_896);
    let program = [&fixture("numbers"), "--count", count];
    let options = ["--name", "numbers", "--output-limit", "256k", "--log", &log];
    service.start(&[&options[..], &["--"], &program[..]].concat());
    let begin = Instant::now();
    wait::until("the child has written everything", LATER, || {
        service.status_json("numbers")["output_end"] == last
    });
    println!("1000000 lines past a full disk in {:?}", begin.elapsed());
    let status = service.status_json("numbers");
    assert!(status["log_trouble"].as_str().is_some_and(|why| why.contains("No space left")), "{status}");
    assert!(status["log_lost"].as_u64() > Some(1 << 20), "{status}");
    service.until_said("numbers: its log cannot be written");
    // Engines come and go meanwhile.
    service.kill_engine();
    fs::remove_file(&filler).expect("it is there");
    wait::until("it is well", SOON, || {
        let status = service.status_json("numbers");
        let end = fs::read_to_string(format!("{seen}/numbers.log")).unwrap_or_default();
        status["log_trouble"].is_null() && end.ends_with("\n1000000\n")
    });
    let lost = service.status_json("numbers")["log_lost"].as_u64().expect("a number");
    expect_whole(&format!("{seen}/numbers.log"), lost, last);
}

/// With PROVOST_TEST_ROUNDS=10 for more than a minute.
#[test]
fn d9_a_disk_that_stays_full_holds_no_child_up() {
    let scratch = Scratch::new();
    let (service, disk, seen) = with_disk(&scratch);
    let (log, filler) = (format!("{disk}/numbers.log"), fill(&seen));
    let pace = ["--pace-us", "1000", "--burst", "100"];
    let options = ["--name", "numbers", "--output-limit", "256k", "--log", &log];
    service.start(&[&options[..], &["--", &fixture("numbers")], &pace].concat());
    let status = || service.status_json("numbers");
    wait::until("it is full", LATER, || status()["log_trouble"].is_string());
    let begin = Instant::now();
    for _ in 0..rounds(12) {
        let before = status()["output_end"].as_u64().expect("a number");
        wait::until("the child writes on", LATER, || {
            status()["output_end"].as_u64() > Some(before + 300_000)
        });
    }
    println!("full for {:?}", begin.elapsed());
    assert!(status()["log_lost"].as_u64() > Some(1 << 20) && status()["log_trouble"].is_string());
    fs::remove_file(&filler).expect("it is there");
    wait::until("it is well", SOON, || status()["log_trouble"].is_null());
    service.ok(&["stop", "numbers"]);
    let end = status()["output_end"].as_u64().expect("a number");
    let lost = status()["log_lost"].as_u64().expect("a number");
    expect_whole(&format!("{seen}/numbers.log"), lost, end);
}

#[test]
fn d12_a_log_on_a_disk_that_becomes_read_only_heals() {
    let scratch = Scratch::new();
    let (service, disk, seen) = with_disk(&scratch);
    let log = format!("{disk}/web.log");
    let script = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done";
    service.start(&["--name", "web", "--log", &log, "--", "sh", "-c", script]);
    let seen = format!("{seen}/web.log");
    wait::until("it writes", SOON, || fs::metadata(&seen).is_ok_and(|meta| meta.len() > 0));
    let remount = |how: &str| {
        let mut mount = Command::new("nsenter");
        mount.arg(format!("--mount=/proc/{}/ns/mnt", service.keeper_pid()));
        mount.args(["mount", "-o", &format!("remount,{how}"), &disk]);
        cli::run(mount, SOON)
    };
    // Not while it is open for writing; between two writes it may be.
    service.ok(&["update", "web", "--unset", "log"]);
    wait::until("it is read-only", SOON, || remount("ro").code == 0);
    let refused = service.cli(&["update", "web", "--log", &log]);
    assert!(refused.code != 0 && refused.err().contains("Read-only file system"), "{refused:?}");
    remount("rw").expect(0);
    service.ok(&["update", "web", "--log", &log]);
    let before = fs::metadata(&seen).expect("it is there").len();
    wait::until("it writes again", SOON, || fs::metadata(&seen).is_ok_and(|meta| meta.len() > before));
}

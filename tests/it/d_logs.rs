//! Output in files: every byte once, whatever dies meanwhile; files that others take away; links; what stands
//! in a line.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::{LATER, Options, SOON, Service, cli, fixture, procfs, wait};

/// A log's files, the oldest first, and what is in them.
pub fn files(log: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(log);
    let name = path.file_name().expect("a file").to_str().expect("text");
    let entries = fs::read_dir(path.parent().expect("a directory")).expect("it is there");
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| n.starts_with(name))
        .collect();
    // The present one is the newest.
    names.sort_by_key(|n| (n == name, n.clone()));
    // One that was there a moment ago may be an old one by now, or compressed.
    names.into_iter().filter_map(|n| Some((n.clone(), fs::read(path.with_file_name(n)).ok()?))).collect()
}

/// The same in one piece.
pub fn whole(log: &str) -> Vec<u8> {
    files(log).into_iter().flat_map(|(_, bytes)| bytes).collect()
}

fn lines(log: &str) -> Vec<String> {
    String::from_utf8(whole(log)).expect("text").lines().map(ToOwned::to_owned).collect()
}

fn until_lines(log: &str, count: usize) -> Vec<String> {
    let mut last = Vec::new();
    let found = wait::holds_within(SOON, || {
        last = if Path::new(log).exists() { lines(log) } else { Vec::new() };
        last.len() >= count
    });
    assert!(found, "{log} has {} of {count} lines: {:?}", last.len(), last.last());
    last
}

/// Says line by line what it reads, as long as somebody writes to the pipe.
pub fn parrot(service: &Service, name: &str, options: &[&str]) -> String {
    let fifo = service.scratch().file(&format!("{name}.fifo"));
    let mut make = Command::new("mkfifo");
    make.arg(&fifo);
    cli::run(make, SOON).expect(0);
    let script = format!("exec 3<>{fifo}; exec cat <&3");
    service.start(&[&["--name", name], options, &["--", "sh", "-c", &script]].concat());
    fifo
}

fn say(fifo: &str, text: &str) {
    fs::write(fifo, format!("{text}\n")).expect("somebody listens");
}

#[test]
fn d11_no_line_of_a_log_is_lost_over_kills_and_rotations() {
    const COUNT: u64 = 150_000;
    let service = Service::new();
    let log = service.scratch().file("numbers.log");
    let (numbers, count) = (fixture("numbers"), COUNT.to_string());
    let options = ["--output-limit", "64k", "--log", &log, "--log-size", "32k", "--log-keep", "1000"];
    let program = ["--", &numbers, "--count", &count, "--pace-us", "1000", "--burst", "100"];
    service.start(&[&["--name", "numbers"], &options[..], &program[..]].concat());
    for n in 1..=8 {
        wait::until("it writes on", LATER, || files(&log).len() > n);
        service.kill_engine_only();
    }
    let last = COUNT.to_string();
    wait::until("the last line is there", LATER, || lines(&log).last() == Some(&last));
    let lines = lines(&log);
    let wrong = lines.iter().zip(1..).find(|(line, n)| **line != n.to_string());
    assert!(wrong.is_none() && lines.len() as u64 == COUNT, "{wrong:?} of {} lines", lines.len());
    for (name, bytes) in files(&log) {
        assert!(bytes.len() <= 32 << 10, "{name} has {} bytes", bytes.len());
        assert!(bytes.ends_with(b"\n"), "{name} ends within a line");
    }
    assert_eq!(service.status_json("numbers")["log_lost"], 0);
}

#[test]
fn a_child_waits_for_its_log_and_nothing_is_lost() {
    let service = Service::new();
    let log = service.scratch().file("fire.log");
    let bytes = 300 << 20;
    let program = [fixture("firehose"), bytes.to_string()];
    let options =
        ["--name", "fire", "--output-limit", "64k", "--log", &log, "--log-size", "64m", "--log-keep", "9"];
    service.start(&[&options[..], &["--", &program[0], &program[1]]].concat());
    service.cli(&["wait", "fire"]).expect(0);
    wait::until("all is written", LATER, || files(&log).iter().map(|(_, b)| b.len()).sum::<usize>() >= bytes);
    let mut direct = Command::new(&program[0]);
    direct.arg(&program[1]);
    let direct = cli::run(direct, LATER).expect(0).stdout.clone();
    assert!(whole(&log) == direct, "the files hold what was written");
    assert_eq!(service.status_json("fire")["log_lost"], 0);
}

#[test]
fn d14_a_log_follows_no_link() {
    let service = Service::new();
    let dir = service.scratch().file("dir");
    fs::create_dir(&dir).expect("it is ours");
    let target = service.scratch().file("target");
    fs::write(&target, "untouched").expect("it is ours");
    let (link, hard, up) = (format!("{dir}/link"), format!("{dir}/hard"), service.scratch().file("up"));
    symlink(&target, &link).expect("it is ours");
    fs::hard_link(&target, &hard).expect("it is ours");
    symlink(&dir, &up).expect("it is ours");
    for path in [&link, &hard, &format!("{up}/log"), &format!("{dir}/missing/log"), &dir] {
        let refused = service.cli(&["start", "--name", "web", "--log", path, "--", "sleep", "80000"]);
        assert!(refused.expect(6).err().contains("cannot be written"), "{path}: {refused:?}");
    }
    let missing = format!("{dir}/missing/log");
    let refused = service.cli(&["start", "--log", &missing, "--", "true"]).expect(6).err();
    assert!(refused.contains(&format!("make it: mkdir -p '{dir}/missing'")), "{refused}");
    service.cli(&["start", "--log", "../web", "--", "true"]).expect(2);
    // Swapped under way.
    let log = format!("{dir}/web.log");
    let fifo = parrot(&service, "web", &["--log", &log]);
    say(&fifo, "one");
    until_lines(&log, 1);
    fs::rename(&log, format!("{dir}/moved")).expect("it is there");
    symlink(&target, &log).expect("it is ours");
    say(&fifo, "two");
    wait::until("the trouble is shown", SOON, || {
        let trouble = &service.status_json("web")["log_trouble"];
        trouble.as_str().is_some_and(|why| why.contains("symbolic link"))
    });
    assert!(service.ok(&["status", "web"]).contains("no log: "), "{}", service.ok(&["status", "web"]));
    fs::remove_file(&log).expect("it is there");
    assert_eq!(until_lines(&log, 1), ["two"], "what was kept meanwhile follows");
    wait::until("it is well", SOON, || service.status_json("web")["log_trouble"].is_null());
    assert_eq!(fs::read(&target).expect("it is there"), b"untouched");
}

/// Neither by its words nor by what somebody puts in its way while it is written.
#[test]
fn f18_a_log_leads_out_of_no_directory() {
    let service = Service::new();
    for path in ["../web.log", "a/../../web.log", "/var/log/../../etc/web", "./web", "a//../b", ".."] {
        for option in ["--log", "--log-stdout", "--log-stderr"] {
            let refused = service.cli(&["start", "--name", "web", option, path, "--", "true"]);
            assert!(refused.expect(2).err().contains("'..'"), "{path}: {refused:?}");
        }
        let config = service.scratch().file("provost.toml");
        let text = format!("[process.web]\ncommand = ['true']\n[process.web.log]\nfile = '{path}'\n");
        fs::write(&config, text).expect("it is ours");
        assert_ne!(service.cli(&["apply", "--yes", &config]).code, 0, "{path}");
    }
    assert!(service.list_json().is_empty());
    let (outside, dir) = (service.scratch().file("outside"), format!("{}/logs/web", service.state_dir()));
    fs::create_dir(&outside).expect("it is ours");
    let fifo = parrot(&service, "web", &["--log", "web/a.log", "--log-size", "4096"]);
    say(&fifo, "one");
    until_lines(&format!("{dir}/a.log"), 1);
    fs::rename(&dir, service.scratch().file("moved")).expect("it is there");
    symlink(&outside, &dir).expect("it is ours");
    // More than a file takes, so that another one has to be opened.
    for n in 0..3 {
        say(&fifo, &format!("{n}{}", "x".repeat(3000)));
    }
    wait::until("the trouble is shown", SOON, || !service.status_json("web")["log_trouble"].is_null());
    assert_eq!(fs::read_dir(&outside).expect("it is there").count(), 0);
    fs::remove_file(&dir).expect("it is a link");
    fs::create_dir(&dir).expect("it is ours");
    wait::until("it is well", LATER, || service.status_json("web")["log_trouble"].is_null());
}

#[test]
fn d10_others_may_take_a_log_away() {
    let service = Service::new();
    let log = service.scratch().file("web.log");
    let fifo = parrot(&service, "web", &["--log", &log]);
    say(&fifo, "one");
    until_lines(&log, 1);
    let moved = service.scratch().file("moved");
    fs::rename(&log, &moved).expect("it is there");
    say(&fifo, "two");
    assert_eq!(until_lines(&log, 1), ["two"]);
    assert_eq!(fs::read(&moved).expect("it is there"), b"one\n");
    fs::remove_file(&log).expect("it is there");
    say(&fifo, "three");
    assert_eq!(until_lines(&log, 1), ["three"]);
    assert_eq!(fs::metadata(&log).expect("it is there").mode() & 0o777, 0o640);
}

#[test]
fn a_signal_hup_to_the_service_ends_nothing_and_the_log_goes_on() {
    let service = Service::new();
    let log = service.scratch().file("web.log");
    let fifo = parrot(&service, "web", &["--log", &log]);
    say(&fifo, "first");
    until_lines(&log, 1);
    let (pid, keeper) = (service.pid("web"), service.keeper_pid());
    fs::rename(&log, service.scratch().file("moved")).unwrap();
    procfs::signal("HUP", keeper);
    say(&fifo, "second");
    assert_eq!(until_lines(&log, 1), ["second"]);
    assert_eq!((service.pid("web"), service.keeper_pid()), (pid, keeper));
}

#[test]
fn d13_a_log_that_is_cut_gets_no_hole() {
    let service = Service::new();
    let log = service.scratch().file("web.log");
    let fifo = parrot(&service, "web", &["--log", &log]);
    say(&fifo, "one line that is longer than the next");
    until_lines(&log, 1);
    fs::File::options().write(true).open(&log).and_then(|f| f.set_len(0)).expect("it is ours");
    service.kill_engine();
    say(&fifo, "two");
    assert_eq!(until_lines(&log, 1), ["two"]);
    assert_eq!(fs::read(&log).expect("it is there"), b"two\n");
}

#[test]
fn d15_two_streams_in_one_log_are_not_torn() {
    let service = Service::new();
    let log = service.scratch().file("both.log");
    // Lines of both streams, most of them in several writes.
    let script = "(for n in $(seq 4000); do printf out; printf ' '; echo $n; done) & \
                  (for n in $(seq 4000); do printf err >&2; printf ' ' >&2; echo $n >&2; done); wait";
    service.start(&["--name", "both", "--log", &log, "--", "sh", "-c", script]);
    service.cli(&["wait", "both"]).expect(0);
    let lines = until_lines(&log, 8000);
    for stream in ["out", "err"] {
        let of: Vec<_> =
            lines.iter().filter_map(|line| line.strip_prefix(stream)?.strip_prefix(' ')).collect();
        let wanted: Vec<_> = (1..=4000).map(|n: u32| n.to_string()).collect();
        assert!(
            of == wanted,
            "{stream}: {} lines, first wrong: {:?}",
            of.len(),
            of.iter().zip(&wanted).find(|(a, b)| a != b)
        );
    }
    assert_eq!(lines.len(), 8000);
}

#[test]
fn a_log_has_its_place_and_belongs_to_one_process() {
    let service = Service::new();
    service.ok(&[
        "start",
        "--name",
        "web",
        "--instances",
        "2",
        "--log",
        "shop/{name}.log",
        "--",
        "sh",
        "-c",
        "echo $PROVOST_NAME; exec sleep 80000",
    ]);
    for n in 1..=2 {
        let log = format!("{}/logs/shop/web-{n}.log", service.state_dir());
        assert_eq!(until_lines(&log, 1), [format!("web-{n}")]);
        assert_eq!(fs::metadata(&log).expect("it is there").mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(Path::new(&log).parent().unwrap()).unwrap().mode() & 0o777, 0o750);
    }
    let shared = service.cli(&["start", "--name", "x", "--log", "shop/web-1.log", "--", "true"]);
    assert!(shared.expect(6).err().contains("is the log of web-1"), "{shared:?}");
    let shared = service.cli(&["start", "--name", "y", "--instances", "2", "--log", "y.log", "--", "true"]);
    assert!(shared.expect(2).err().contains("cannot share one log"), "{shared:?}");
    let shared = service.cli(&["update", "web-2", "--log", "shop/web-1.log"]);
    assert!(!shared.err().is_empty() && shared.code != 0, "{shared:?}");
}

#[test]
fn a_log_goes_on_over_restarts_of_process_and_service() {
    let service = Service::new();
    let log = service.scratch().file("web.log");
    let script = "echo begin $PROVOST_RUN; printf 'no end'; exec sleep 80000";
    service.start(&["--name", "web", "--", "sh", "-c", script]);
    // It begins in place, with what comes from then on.
    service.ok(&["update", "web", "--log", &log]);
    service.ok(&["restart", "web"]);
    assert_eq!(until_lines(&log, 2)[0], "begin 2");
    service.end();
    assert_eq!(
        fs::read_to_string(&log).expect("it is there"),
        "begin 2\nno end",
        "the end leaves nothing out"
    );
    service.serve_again();
    service.until_state("web", "running");
    wait::until("it goes on", SOON, || lines(&log).iter().any(|line| line.ends_with("begin 3")));
    service.ok(&["stop", "web"]);
    service.ok(&["remove", "web"]);
    assert!(
        fs::read_to_string(&log).expect("it is there").ends_with("\nno end"),
        "removal leaves nothing out"
    );
}

#[test]
fn lines_of_a_log_say_when_and_of_whom() {
    let service = Service::new();
    let (out, err) = (service.scratch().file("out.log"), service.scratch().file("err.log"));
    let script = "echo a; echo b >&2; exec sleep 80000";
    let options = [
        "--log-stdout",
        &out,
        "--log-stderr",
        &err,
        "--log-format",
        "time",
        "--log-prefix",
        "{name} {stream}: ",
    ];
    service.start(&[&["--name", "web"], &options[..], &["--", "sh", "-c", script]].concat());
    let (a, b) = (until_lines(&out, 1), until_lines(&err, 1));
    assert!(a[0].ends_with("Z web stdout: a") && a[0].len() == 24 + " web stdout: a".len(), "{a:?}");
    assert!(b[0].ends_with("Z web stderr: b"), "{b:?}");
    let json = service.scratch().file("json.log");
    let fields = ["id", "labels", "instance", "host"].map(|field| ["--log-field", field]).concat();
    let options = ["--name", "api", "--label", "tier=front", "--log", &json, "--log-format", "json"];
    let id = service.start(&[&options[..], &fields, &["--", "sh", "-c", script]].concat());
    for line in until_lines(&json, 2) {
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let is_out = line["stream"] == "stdout";
        assert_eq!((&line["name"], &line["run"]), (&"api".into(), &1.into()), "{line}");
        assert_eq!(line["message"], if is_out { "a" } else { "b" }, "{line}");
        assert_eq!((&line["id"], &line["labels"]["tier"]), (&id.clone().into(), &"front".into()), "{line}");
        assert!(line["host"].is_string() && line["instance"].is_null(), "{line}");
    }
}

#[test]
fn old_logs_are_compressed_and_counted() {
    let service = Service::new();
    let log = service.scratch().file("numbers.log");
    let options = ["--log", &log, "--log-size", "16k", "--log-keep", "3", "--log-gzip"];
    let numbers = fixture("numbers");
    service.start(&[&["--name", "n"], &options[..], &["--", &numbers, "--count", "60000"]].concat());
    let is_settled = || {
        // First: there is no other rotation then.
        let is_written = lines_of(&log).last() == Some(&60000);
        let names: Vec<_> = files(&log).into_iter().map(|(name, _)| name).collect();
        is_written && names.len() == 4 && names[..3].iter().all(|name| name.ends_with("Z.gz"))
    };
    wait::until("three old ones are left", LATER, is_settled);
    let numbers = lines_of(&log);
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "what is left is in one piece");
}

fn lines_of(log: &str) -> Vec<u64> {
    let mut text = String::new();
    for (name, bytes) in files(log) {
        if name.ends_with(".gz") {
            let mut gunzip = flate2::read::GzDecoder::new(&bytes[..]);
            // It may still be written.
            if gunzip.read_to_string(&mut text).is_err() {
                return Vec::new();
            }
        } else if !name.ends_with(".new") {
            text.push_str(&String::from_utf8(bytes).expect("text"));
        }
    }
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn an_idle_log_wakes_nobody() {
    let service = Options::new().alone().start();
    let log = service.scratch().file("web.log");
    let fifo = parrot(&service, "web", &["--log", &log]);
    say(&fifo, "one");
    until_lines(&log, 1);
    let engine = service.engine_pid();
    let before = procfs::at_rest(&[engine]);
    wait::pass(Duration::from_secs(3));
    assert_eq!(procfs::switches(engine) - before, 0, "an idle engine wakes");
}

#[test]
fn files_and_what_is_kept_are_read_as_one() {
    let service = Service::new();
    let (raw, timed) = (service.scratch().file("raw.log"), service.scratch().file("timed.log"));
    let numbers = fixture("numbers");
    let options = ["--output-limit", "64k", "--log-size", "64k", "--log-keep", "100", "--log-gzip"];
    let program = ["--", &numbers, "--count", "60000"];
    service.start(&[&["--name", "raw", "--log", &raw], &options[..], &program[..]].concat());
    let time = ["--name", "timed", "--log", &timed, "--log-format", "time"];
    service.start(&[&time[..], &options[..], &program[..]].concat());
    let all: Vec<String> = (1..=60000).map(|n: u32| n.to_string()).collect();
    for (name, log) in [("raw", &raw), ("timed", &timed)] {
        let has_come = || {
            let text = whole(log);
            text.ends_with(b"60000\n")
                && files(log).iter().rev().skip(1).all(|(name, _)| name.ends_with(".gz"))
        };
        wait::until("all is written and compressed", LATER, has_come);
        let shown = service.ok(&["logs", name]);
        let wrong = shown.lines().zip(&all).find(|(shown, n)| shown != n);
        assert!(wrong.is_none() && shown.lines().count() == all.len(), "{name}: {wrong:?}");
    }
    assert_eq!(service.ok(&["logs", "timed", "--grep", "^4321.$", "--tail", "2"]), "43218\n43219");
    assert_eq!(service.ok(&["logs", "timed", "--until", "2020-01-01T00:00:00Z"]), "");
    assert_eq!(service.ok(&["logs", "timed", "--since", "1h", "--grep", "^17$"]), "17");
    let both = service.ok(&["logs", "timed", "raw", "--grep", "^59999$"]);
    let mut names: Vec<_> = both.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    names.sort_unstable();
    assert_eq!(names, ["raw", "timed"], "{both}");
    // As by a kill -9 of the service: what is kept is gone, the files are not.
    service.ok(&["stop", "timed"]);
    service.end();
    service.serve_again();
    let shown = service.ok(&["logs", "timed"]);
    assert!(shown.lines().eq(&all), "{} lines after another begin of the service", shown.lines().count());
}

#[test]
fn lines_without_a_time_are_not_taken_for_new_ones() {
    let service = Service::new();
    let log = service.scratch().file("raw.log");
    service.start(&["--name", "web", "--log", &log, "--", "echo", "one"]);
    until_lines(&log, 1);
    service.end();
    service.serve_again();
    let hours_ago = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3600);
    let file = File::options().append(true).open(&log).expect("it is ours");
    file.set_modified(hours_ago(2)).expect("it is ours");
    assert_eq!(service.ok(&["logs", "--since", "1h", "web"]), "", "its file has not changed since");
    let since = service.cli(&["logs", "--since", "3h", "web"]);
    assert_eq!(since.expect(0).out(), "one");
    assert!(
        since.err().contains("have no time: all of them are shown; with log_format = \"time\""),
        "{since:?}"
    );
    let all = service.cli(&["logs", "--timestamps", "web"]);
    assert_eq!(all.expect(0).out(), "- one");
    assert!(all.err().contains("have no time: they stand before the others"), "{all:?}");
    assert_eq!(service.cli(&["logs", "web"]).expect(0).err(), "");
    // Also where later ones have a time: of which run they are nobody knows.
    service.ok(&["update", "web", "--log-format", "time"]);
    let run = service.cli(&["logs", "--run", "1", "web"]);
    assert_eq!(run.expect(3).out(), "");
    assert!(run.err().contains("tell no run"), "{run:?}");
}

#[test]
fn logs_are_followed_over_stops_and_starts() {
    let service = Service::new();
    let log = service.scratch().file("web.log");
    let fifo = parrot(&service, "web", &["--log", &log]);
    say(&fifo, "warn: one");
    until_lines(&log, 1);
    let follower = service.background(&["logs", "-f", "--level", "warn", "web"]);
    wait::until("it shows what was", SOON, || follower.stdout_len() > 9);
    say(&fifo, "info: two");
    say(&fifo, "warn: three");
    wait::until("it shows what comes", SOON, || follower.stdout_len() > 21);
    service.ok(&["stop", "web"]);
    service.ok(&["start", "web"]);
    say(&fifo, "error: four");
    wait::until("it goes on", SOON, || follower.stdout_len() > 33);
    service.ok(&["remove", "--force", "web"]);
    let ended = follower.end(SOON);
    assert_eq!(ended.expect(0).out(), "warn: one\nwarn: three\nerror: four");
}

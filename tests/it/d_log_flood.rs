//! Logs under a flood: what comes as fast as the machine gives it is in the files, each line once, in files
//! that are as large as they may be.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::harness::{LATER, Service, cli, rounds, wait};

/// Lines of each round: 214 MB.
const LINES: u64 = 25_000_000;
const SIZE: u64 = 16 << 20;
/// Less room than this is left as it is, in bytes: there may be a line that would fit.
const SLACK: u64 = 64;

#[test]
fn d19_rotation_under_a_flood_tears_no_line_and_keeps_the_sizes() {
    let service = Service::new();
    let log = service.scratch().file("flood.log");
    let lines = (LINES * u64::from(rounds(1))).to_string();
    let size = SIZE.to_string();
    let options = ["--output-limit", "4m", "--log", &log, "--log-size", &size, "--log-keep", "1000"];
    let begin = Instant::now();
    service.start(&[&["--name", "flood"], &options[..], &["--", "seq", "1", &lines]].concat());
    service.cli(&["wait", "flood", "--timeout", "10m"]).expect(0);
    let status = service.status_json("flood");
    let bytes = status["output_end"].as_u64().expect("a number");
    wait::until("all is written", LATER, || files_of(&log).iter().map(|(_, len)| len).sum::<u64>() == bytes);
    println!("{} MB in {} files after {:?}", bytes >> 20, files_of(&log).len(), begin.elapsed());
    assert_eq!(service.status_json("flood")["log_lost"], 0);
    let all = files_of(&log);
    let (last, full) = all.split_last().expect("there are files");
    for (name, len) in full {
        assert!(*len <= SIZE && len + SLACK > SIZE, "{name} has {len} bytes");
    }
    assert!(last.1 <= SIZE);
    // In the order of their names they are what was written, byte for byte.
    let paths: Vec<_> = all.iter().map(|(name, _)| service.scratch().file(name)).collect();
    let mut compare = Command::new("bash");
    compare.args(["-c", "cat \"${@:2}\" | cmp - <(seq 1 $1)", "bash", &lines]).args(&paths);
    cli::run(compare, LATER).expect(0);
}

/// The files of a log with their lengths, the oldest first.
fn files_of(log: &str) -> Vec<(String, u64)> {
    let path = Path::new(log);
    let name = path.file_name().and_then(|name| name.to_str()).expect("text");
    let entries = fs::read_dir(path.parent().expect("a directory")).expect("it is there");
    let mut all: Vec<(String, u64)> = entries
        .flatten()
        .filter_map(|e| Some((e.file_name().into_string().ok()?, e.metadata().ok()?.len())))
        .filter(|(n, _)| n.starts_with(name))
        .collect();
    all.sort_by_key(|(n, _)| (n == name, n.clone()));
    all
}

//! Floods of output and readers that do not keep up: memory stays bounded, nobody is held back, every gap is
//! counted.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use provost::wire::request::Stop;

use crate::harness::{LATER, Options, Output, Running, SOON, Service, fixture, procfs, wait};

/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(6);

/// Where the output of a fast process begins and ends that is kept.
#[track_caller]
fn kept(client: &mut provost::Client, id: &str) -> (u64, u64) {
    let items = client.status(vec![id.to_owned()]).expect("the service answers");
    let process = items[0].process.as_ref().expect("it is known");
    (process.output_start, process.output_end)
}

/// What all memory files that a process holds take of the machine's memory.
fn shared_bytes(pid: u32) -> u64 {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    let memory =
        fds.filter(|e| fs::read_link(e.path()).is_ok_and(|to| to.to_string_lossy().contains("memfd:")));
    memory.filter_map(|e| fs::metadata(e.path()).ok()).map(|m| m.blocks() * 512).sum()
}

#[test]
fn d7_twenty_floods_take_bounded_memory_and_delay_no_start() {
    let service = Options::new().alone().start();
    let mut client = service.client();
    service.ok(&["list"]);
    let pids = [service.keeper_pid(), service.engine_pid()];
    // Code that was given back comes back with the first start.
    let memory = || pids.map(|pid| procfs::rss_kib(pid) - procfs::files_kib(pid)).iter().sum::<u64>();
    let before = memory();
    service.ok(&["start", "--name", "yes", "--instances", "20", "--output-limit", "256k", "--", "yes"]);
    let begin = Instant::now();
    let (mut most, mut times) = (0, Vec::new());
    while begin.elapsed() < FLOOD {
        let run = service.cli(&["run", "--", "true"]);
        run.expect(0);
        times.push(run.took);
        most = most.max(memory());
        wait::pass(Duration::from_millis(20));
    }
    times.sort();
    let (half, last) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{} starts: half below {half:?}, all below {last:?}; {before} KiB, {most} KiB at most",
        times.len()
    );
    assert!(last < SOON, "a start waits for the floods: {times:?}");
    assert!(most < before + 12 * 1024, "keeper and engine: {before} KiB before, {most} KiB at most");
    let shared = shared_bytes(service.keeper_pid());
    assert!(shared < 20 * (512 << 10) + (8 << 20), "{shared} bytes of memory files");
    for n in 1..=20 {
        let (start, end) = kept(&mut client, &format!("yes-{n}"));
        assert!(end - start <= 256 << 10, "no more is kept than was asked for: {start} to {end}");
        assert!(end > 1 << 20, "it was never held back for long: {end}");
    }
    assert_eq!(service.engine_pid(), pids[1], "the engine was never lost");
    let stop = Stop { targets: vec!["yes-*".into()], ..Stop::default() };
    let stopped = client.stop(stop).expect("the service answers");
    assert!(stopped.iter().all(|item| item.error.is_none()), "{stopped:?}");
}

/// What a reader got and what it was told to have missed make up everything up to `end`, in order. Returns
/// how many bytes it missed.
#[track_caller]
fn expect_whole(reader: &Output, end: u64) -> u64 {
    reader.expect(0);
    let mut next = None;
    let mut missed = 0;
    for item in reader.json() {
        // From the oldest byte kept, which need not be the first.
        let offset = item["offset"].as_u64().expect("a number");
        assert_eq!(offset, next.unwrap_or(offset), "neither gap nor overlap is untold: {item}");
        let gap = item["missed"].as_u64().unwrap_or(0);
        missed += gap;
        next = Some(offset + gap + item["text"].as_str().map_or(0, |t| t.len() as u64));
    }
    assert_eq!(next, Some(end), "all the rest came");
    missed
}

/// A reader is halted while its process writes on: the process, and other readers, do not notice; the reader
/// is told what it has missed, to the byte.
#[test]
fn d8_a_halted_reader_holds_up_no_other() {
    let service = Service::new();
    let mut client = service.client();
    let numbers = [fixture("numbers"), "--pace-us".into(), "1000".into(), "--burst".into(), "1000".into()];
    let args: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let id = service.start(&[&["--name", "fast", "--output-limit", "64k", "--"], &args[..]].concat());
    let halted = service.background(&["stream", "--until-end", "--json", "--since", "start", "fast"]);
    let other = service.background(&["stream", "--until-end", "--since", "start", "fast"]);
    wait::until("both read", SOON, || halted.stdout_len() > 0 && other.stdout_len() > 0);
    halted.signal("STOP");
    // More than ring, socket buffers and pipes can hold between them.
    let from = kept(&mut client, &id).1;
    let begin = Instant::now();
    wait::until("the process writes on", LATER, || kept(&mut client, &id).1 > from + (4 << 20));
    println!("4 MiB past a halted reader after {:?}", begin.elapsed());
    let far = kept(&mut client, &id).1;
    let read = other.stdout_len();
    wait::until("the other one reads on", SOON, || other.stdout_len() > read + 10_000);
    assert!(procfs::alive(halted.pid()));
    halted.signal("CONT");
    wait::until("it is told of the gap", SOON, || halted.stderr_text().contains("bytes were missed"));
    wait::until("and reads on", SOON, || kept(&mut client, &id).1 > far + (1 << 20));
    service.ok(&["stop", "fast"]);
    let end = kept(&mut client, &id).1;
    let halted = halted.end(SOON);
    let missed = expect_whole(&halted, end);
    assert!(missed > 1 << 20, "{missed} bytes were missed");
    other.end(SOON).expect(0);
}

/// A reader is halted for so long that the service lets it go: when it goes on, it is told what it has missed
/// all the same.
#[test]
fn d8_a_reader_that_was_let_go_learns_what_it_missed() {
    let service = Service::new();
    let mut client = service.client();
    let pace = ["--pace-us", "20000", "--burst", "4000"];
    let numbers = fixture("numbers");
    let args = [&["--name", "steady", "--output-limit", "64k", "--", &numbers], &pace[..]].concat();
    let id = service.start(&args);
    let reader = service.background(&["stream", "--until-end", "--json", "--since", "start", "steady"]);
    wait::until("it reads", SOON, || reader.stdout_len() > 0);
    // Both connections have said hello, so that neither ends for another reason.
    let from = kept(&mut client, &id).1;
    let threads = procfs::thread_count(service.engine_pid());
    reader.signal("STOP");
    let timeout = Duration::from_secs(30);
    let took = wait::until("it is let go", timeout, || procfs::thread_count(service.engine_pid()) < threads);
    assert!(took > Duration::from_secs(8), "a slow reader has its time: {took:?}");
    reader.signal("CONT");
    wait::until("the process writes on", LATER, || kept(&mut client, &id).1 > from + (2 << 20));
    service.ok(&["stop", "steady"]);
    let end = kept(&mut client, &id).1;
    let reader = reader.end(SOON);
    let missed = expect_whole(&reader, end);
    assert!(missed > 1 << 20, "{missed} bytes were missed");
    assert!(reader.err().contains("bytes were missed"), "{}", reader.err());
}

/// A reader that is killed, or hangs on a closed pipe, leaves nothing.
#[test]
fn d8_a_reader_that_is_gone_leaves_nothing() {
    let service = Service::new();
    let id = service.start(&["--", &fixture("numbers"), "--pace-us", "1000"]);
    service.ok(&["list"]);
    let before = service.footprint();
    let readers: Vec<_> = (0..5).map(|_| service.background(&["stream", "--until-end", &id])).collect();
    wait::until("all of them read", SOON, || readers.iter().all(|r| r.stdout_len() > 0));
    readers.iter().for_each(|r| r.signal("KILL"));
    readers.into_iter().for_each(|r| drop(r.end(SOON)));
    let mut head = std::process::Command::new("sh");
    let script = format!("{} stream {id} | head -n 3", crate::harness::binary().display());
    head.args(["-c", &script]).env("PROVOST_SOCKET", service.socket());
    let head = crate::harness::cli::run(head, SOON);
    assert_eq!((head.code, head.out().lines().count()), (0, 3), "{head:?}");
    assert_eq!(head.err(), "", "a reader that has enough is no failure");
    service.until_footprint(before);
}

/// How often the engine is killed: PROVOST_TEST_KILLS, where it is set.
fn kills() -> u64 {
    std::env::var("PROVOST_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// A million lines, each a write of its own, while the engine is killed again and again: not one is lost,
/// none comes twice, none is moved; in what is kept and in what a reader got.
#[test]
fn d17_no_line_of_a_million_is_lost_over_kills() {
    const LINES: u64 = 1_000_000;
    let service = Service::new();
    let wanted: Vec<u8> = (1..=LINES).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    let numbers = fixture("numbers");
    let pace = ["--count", "1000000", "--pace-us", "1000", "--burst", "400"];
    let args = [&["--name", "million", "--output-limit", "64m", "--", &numbers], &pace[..]].concat();
    let id = service.start(&args);
    let pid = service.pid(&id);
    let stream = service.background(&["stream", "--until-end", "--since", "0", "million"]);
    let mut client = service.client();
    for n in 1..=kills() {
        let from = wanted.len() as u64 * n / (kills() + 1);
        wait::until("it has written so far", LATER, || kept(&mut client, &id).1 >= from);
        service.kill_engine_only();
    }
    wait::until("it has written everything", LATER, || kept(&mut client, &id).1 >= wanted.len() as u64);
    assert_eq!(service.pid(&id), pid, "the same process all the time");
    assert!(service.output(&id) == wanted, "what is kept is not what was written");
    service.ok(&["stop", &id]);
    let streamed = stream.end(LATER);
    streamed.expect(0);
    assert_eq!(streamed.err(), "", "nothing was missed");
    assert!(streamed.stdout == wanted, "what was streamed is not what was written");
    assert_eq!(service.status_json(&id)["output_end"], wanted.len());
}

/// The engine dies between taking bytes from a pipe and noting that it did: the next one finds them.
#[test]
fn d17_bytes_in_hand_survive_a_kill() {
    let service = Service::new();
    let numbers = fixture("numbers");
    let args =
        ["--output-limit", "8m", "--", &numbers, "--count", "60000", "--pace-us", "1000", "--burst", "20"];
    let id = service.start(&args);
    let pid = service.pid(&id);
    for _ in 0..5 {
        let engine = service.engine_pid();
        let mut strace = std::process::Command::new("strace");
        // Each transfer from a pipe into the ring is done, and then does not return for a while.
        strace.args([
            "-f",
            "-o",
            "/dev/null",
            "-e",
            "inject=splice:delay_exit=300000",
            "-p",
            &engine.to_string(),
        ]);
        let strace = Running::new(strace);
        wait::until("strace is attached", SOON, || strace.stderr_text().contains("attached"));
        wait::pass(Duration::from_millis(200));
        service.kill_engine();
        strace.end(SOON);
    }
    let wanted: Vec<u8> = (1..=60_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    let mut client = service.client();
    wait::until("it has written everything", LATER, || kept(&mut client, &id).1 >= wanted.len() as u64);
    assert_eq!(service.pid(&id), pid, "the same process all the time");
    assert!(service.output(&id) == wanted, "what is kept is not what was written");
}

//! The database on a disk that is full, slow, broken, taken away or meddled with: supervision goes on, what
//! is not recorded is said, and it heals by itself; or, where only a person can help, `serve` refuses and
//! names the next step.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::e_damage;
use crate::harness::{
    LATER, Options, Output, Running, SOON, Scratch, Service, as_nobody, binary, cli, open_binary, procfs,
    wait,
};

/// A Python program with the database open as `db`.
fn python(database: &str, script: &str) -> Command {
    let begin =
        "import sqlite3, sys, time, zlib, struct\ndb = sqlite3.connect(sys.argv[1], isolation_level=None)\n";
    let mut command = Command::new("python3");
    command.args(["-c", &format!("{begin}{script}"), database]);
    command
}

/// Runs it to its end, and returns what it printed.
#[track_caller]
pub fn query(database: &str, script: &str) -> String {
    cli::run(python(database, script), LATER).expect(0).out()
}

/// Starts it, and waits until it says that it holds what it is to hold.
#[track_caller]
pub fn hold(database: &str, script: &str) -> Running {
    let wait = "print('held', flush=True)\ntime.sleep(600)";
    let holder = Running::new(python(database, &format!("{script}\n{wait}")));
    holder.line_with("held", SOON);
    holder
}

/// Runs `serve` that is to end by itself, being refused.
#[track_caller]
fn refused(state: &Path) -> Output {
    let scratch = Scratch::new();
    let mut command = Command::new(binary());
    command
        .args(["serve", "--socket", &scratch.file("s"), "--state"])
        .arg(state)
        .env_remove("PROVOST_SOCKET");
    let serve = Running::new(command);
    let output = serve.end(SOON);
    assert!(!output.err().contains("ready on"), "{output:?}");
    assert!(output.err().contains("hint: "), "there is a next step: {output:?}");
    output
}

pub fn database(service: &Service) -> String {
    format!("{}/provost.db", service.state_dir())
}

/// Nobody minds how the database is: start, list, stop, the end of a child and a restart are what they always
/// are. Returns what was said of the start.
#[track_caller]
pub fn expect_supervision(service: &Service, name: &str) -> Output {
    let script = "[ $PROVOST_RUN -gt 1 ] || exit 1; exec sleep 80000";
    let wanted = ["start", "--json", "--name", name, "--restart", "always", "--", "sh", "-c", script];
    let started = service.cli(&wanted);
    started.expect(0);
    wait::until("it is restarted", SOON, || {
        let process = service.status_json(name);
        process["run"] == 2 && process["state"] == "running"
    });
    assert!(service.list_json().iter().any(|p| p["name"] == name));
    let id = service.status_json(name)["id"].as_str().expect("text").to_owned();
    service.cli(&["stop", name]).expect(0);
    assert_eq!((service.tree_of(&id), service.state(name).as_str()), (vec![], "stopped"));
    started
}

/// Says that it is done and not recorded, to people and to programs.
#[track_caller]
fn expect_unrecorded(started: &Output) {
    assert!(started.err().contains("it is not recorded: "), "{started:?}");
    let why = started.json()[0]["unrecorded"].as_str().map(str::to_owned).unwrap_or_default();
    assert!(started.err().contains(&why) && !why.is_empty(), "{started:?}");
}

#[track_caller]
pub fn expect_recorded(service: &Service, name: &str) {
    let done = service.cli(&["start", "--json", "--name", name, "--", "sleep", "80000"]);
    assert_eq!(
        (done.expect(0).err().as_str(), &done.json()[0]["unrecorded"]),
        ("", &Value::Null),
        "{done:?}"
    );
}

/// Everything dies and comes back: these run, and those are stopped.
#[track_caller]
pub fn expect_kept(service: &Service, running: &[&str], stopped: &[&str]) {
    service.kill_all();
    service.serve_again();
    for name in running {
        service.until_state(name, "running");
    }
    for name in stopped {
        assert_eq!(service.state(name), "stopped", "{name}");
    }
    assert_eq!(service.list_json().len(), running.len() + stopped.len());
}

/// A thread that takes all room of a disk for this file, and whatever becomes free, until it is dropped.
struct Filling {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Filling {
    fn new(path: &str) -> Self {
        let mut file = fs::File::create(path).expect("it can be created");
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                if let Err(e) = file.write_all(&[0; 4096]) {
                    assert_eq!(e.kind(), ErrorKind::StorageFull, "{e}");
                    wait::pass(Duration::from_millis(10));
                }
            }
        });
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let end = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(end, Some(Ok(()))), "the disk could not be filled");
    }
}

#[test]
fn e1_a_full_disk_is_reported_and_heals() {
    let scratch = Scratch::new();
    let disk = scratch.file("disk");
    fs::create_dir(&disk).expect("the directory is ours");
    let mount = format!("mount -t tmpfs -o size=1m,mode=700 tmpfs {disk} && exec \"$@\"");
    let state = format!("{disk}/state");
    // The mount is the service's own, and ends with it.
    let service = Options::new()
        .serve(&["--state", &state])
        .through(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount, "sh"])
        .start();
    service.start(&["--name", "before", "--", "sleep", "80000"]);
    let seen = format!("/proc/{}/root{disk}", service.keeper_pid());
    let filler = format!("{seen}/filler");
    // Each attempt moves the log into the database and closes both, and so makes a little room: it is taken
    // at once, until there is none to be made.
    let filling = Filling::new(&filler);
    let mut failed = 0;
    wait::until("the disk is full for the service too", LATER, || {
        let set = service.cli(&["env", "set", "A=0"]);
        failed = if set.expect(0).err().contains("not recorded") { failed + 1 } else { 0 };
        // Longer than from one attempt to the next.
        wait::pass(Duration::from_millis(600));
        failed == 3
    });
    let started = expect_supervision(&service, "during");
    expect_unrecorded(&started);
    assert!(started.err().contains("full"), "the cause is named: {started:?}");
    let changed = service.cli(&["env", "set", "A=1"]);
    assert!(changed.expect(0).err().contains("not recorded"), "{changed:?}");
    let doctor = service.cli(&["doctor"]);
    assert!(doctor.expect(3).out().contains("store: degraded since "), "{doctor:?}");
    let health = service.doctor();
    assert!(health["store"]["unrecorded"].as_u64() > Some(0), "{health}");
    // Engines come and go meanwhile.
    service.kill_engine();
    assert_eq!((service.state("before").as_str(), service.state("during").as_str()), ("running", "stopped"));
    expect_unrecorded(&service.cli(&["start", "--json", "during"]));
    service.cli(&["remove", "--force", "before"]).expect(0);
    drop(filling);
    fs::remove_file(&filler).expect("it is there");
    let health = service.until_store("sound");
    assert_eq!((&health["store"]["unrecorded"], &health["well"]), (&0.into(), &true.into()), "{health}");
    let mut asked = Command::new("nsenter");
    asked.arg(format!("--mount=/proc/{}/ns/mnt", service.keeper_pid()));
    asked.args([
        "sqlite3",
        &format!("{state}/provost.db"),
        "select name, wanted from processes; select key, value from env",
    ]);
    let names = cli::run(asked, LATER).expect(0).out();
    assert_eq!(names, "during|1\nA|1");
    expect_recorded(&service, "after");
    let numbers: Vec<u64> = service.events().iter().filter_map(|e| e["seq"].as_u64()).collect();
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1) && numbers[0] == 1, "{numbers:?}");
}

/// A service that begins with a full disk: what is kept comes up, whatever can be recorded.
#[test]
fn e1_a_service_begins_on_a_full_disk() {
    let scratch = Scratch::new();
    let disk = scratch.file("disk");
    fs::create_dir(&disk).expect("the directory is ours");
    let script = format!(
        r#"
        mount -t tmpfs -o size=1m,mode=700 tmpfs {disk} || exit 9
        export PROVOST_SOCKET={disk}.s
        serve() {{
            $PROVOST serve --socket {disk}.s --state {disk}/state 2>>{disk}.log &
            keeper=$!
            until $PROVOST list; do kill -0 $keeper || exit 8; sleep 0.05; done >/dev/null 2>&1
        }}
        serve
        $PROVOST start --name web -- sleep 80000 >/dev/null
        kill -TERM $keeper; wait $keeper
        dd if=/dev/zero of={disk}/filler bs=4096 2>/dev/null
        serve
        until [ "$($PROVOST status web --json | jq .run)" = 2 ]; do sleep 0.05; done
        rm {disk}/filler
        until $PROVOST doctor >/dev/null; do sleep 0.05; done
        kill -TERM $keeper; wait $keeper; echo "end $?"
        "#
    );
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", &script]);
    command.env("PROVOST", binary());
    let output = cli::run(command, LATER);
    let log = fs::read_to_string(format!("{disk}.log")).unwrap_or_default();
    assert_eq!((output.code, output.out().as_str()), (0, "end 0"), "{output:?}\n{log}");
}

/// Attaches strace to the engine, for as long as it is held.
#[track_caller]
fn inject(service: &Service, what: &str) -> Running {
    let mut strace = Command::new("strace");
    let inject = format!("inject=fdatasync,fsync:{what}");
    strace.args(["-f", "-o", "/dev/null", "-e", &inject, "-p", &service.engine_pid().to_string()]);
    let strace = Running::new(strace);
    wait::until("strace is attached", SOON, || strace.stderr_text().contains("attached"));
    strace
}

fn let_go(service: &Service, strace: Running) {
    strace.signal("TERM");
    strace.end(SOON);
    wait::until("strace let go", SOON, || {
        procfs::status_line(service.engine_pid(), "TracerPid").is_some_and(|pid| pid == "0")
    });
}

#[test]
fn e2_a_change_that_cannot_be_synced_is_not_acknowledged() {
    let service = Service::new();
    service.start(&["--name", "before", "--", "sleep", "80000"]);
    let strace = inject(&service, "error=EIO");
    let started = expect_supervision(&service, "during");
    expect_unrecorded(&started);
    assert!(started.err().contains("I/O"), "the cause is named: {started:?}");
    service.until_store("degraded");
    let_go(&service, strace);
    service.until_store("sound");
    expect_recorded(&service, "after");
    expect_kept(&service, &["before", "after"], &["during"]);
}

/// A single failure that nobody repeats: what was not synced then must not pass for recorded.
#[test]
fn e2_a_single_failed_sync_does_not_pass_for_recorded() {
    let service = Service::new();
    for n in 1..=3 {
        let strace = inject(&service, &format!("error=EIO:when={n}"));
        let name = format!("during-{n}");
        // Either it says so, or it has been written again and is there.
        service.cli(&["start", "--name", &name, "--", "sleep", "80000"]).expect(0);
        let_go(&service, strace);
        service.until_store("sound");
    }
    expect_kept(&service, &["during-1", "during-2", "during-3"], &[]);
}

#[test]
fn e4_an_unusable_state_directory_is_refused() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    // Of another user.
    let foreign = path("foreign");
    fs::create_dir(&foreign).expect("the directory is ours");
    chown(&foreign, Some(65534), Some(65534)).expect("the tests run as root");
    let output = refused(&foreign);
    assert!(output.expect(6).err().contains("belongs to user 65534"), "{output:?}");
    // Open to others.
    let open = path("open");
    fs::create_dir(&open).expect("the directory is ours");
    fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).expect("it is ours");
    let output = refused(&open);
    assert!(output.expect(6).err().contains("others may write there (mode 0777)"), "{output:?}");
    assert!(output.err().contains("chmod 700"), "{output:?}");
    // Something else is there.
    let file = path("file");
    fs::write(&file, "mine").expect("the directory is ours");
    refused(&file);
    refused(&file.join("below"));
    assert_eq!(fs::read_to_string(&file).expect("it is left alone"), "mine");
    let linked = path("linked");
    fs::create_dir(&linked).expect("the directory is ours");
    fs::set_permissions(&linked, PermissionsExt::from_mode(0o700)).expect("it is ours");
    symlink(&file, linked.join("provost.db")).expect("the directory is ours");
    let output = refused(&linked);
    assert!(output.expect(6).err().contains("symbolic link"), "{output:?}");
    assert_eq!(fs::read_to_string(&file).expect("it is left alone"), "mine");
    // No parent: it is made, and nobody else can look into it.
    let deep = path("a/b/c");
    let _service = Options::new().serve(&["--state", deep.to_str().expect("the path is text")]).start();
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&deep), mode(&deep.join("provost.db"))), (0o700, 0o600));
}

/// Readable and not writable, for root too.
#[test]
fn e4_a_read_only_state_directory_is_refused() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sleep", "80000"]);
    service.end();
    let state = service.state_dir();
    let scratch = Scratch::new();
    let script = format!(
        "mount --bind {state} {state} && mount -o remount,ro,bind {state} && exec \"$PROVOST\" serve --socket {} --state {state}",
        scratch.file("s")
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).env("PROVOST", binary()).env_remove("PROVOST_SOCKET");
    let output = Running::new(command).end(SOON);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.err().contains(&state) && output.err().contains("Read-only"), "{output:?}");
    assert!(
        output.err().contains("hint: give the user of the service the right to write there"),
        "{output:?}"
    );
}

/// Another user's service says clearly what it lacks.
#[test]
fn e4_a_directory_without_write_access_is_refused() {
    let scratch = Scratch::new();
    let binary = open_binary(&scratch);
    let mine = scratch.file("mine");
    fs::create_dir(&mine).expect("the directory is ours");
    chown(&mine, Some(65534), Some(65534)).expect("the tests run as root");
    for (state, wanted) in [("/proc/none", "/proc/none"), (&scratch.file("denied/x"), "Permission denied")] {
        let socket = format!("{mine}/s");
        let args = ["serve", "--socket", &socket, "--state", state];
        let output = Running::new(as_nobody(&binary, &socket, &args)).end(SOON);
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.err().contains(wanted) && output.err().contains("hint: "), "{output:?}");
    }
}

/// Somebody reads without end: the log grows, but not beyond its limit, and then events are left out, which
/// is said.
#[test]
fn e8_a_log_held_by_a_reader_is_bounded() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sleep", "80000"]);
    let reader = hold(
        &database(&service),
        "db.execute('begin'); db.execute('select count(*) from events').fetchall()",
    );
    let mut client = service.client();
    let log_len = || fs::metadata(format!("{}-wal", database(&service))).map_or(0, |meta| meta.len());
    let mut writes = 0;
    while log_len() <= 64 << 20 {
        let set = vec![("BIG".to_owned(), format!("{writes:>60000}"))];
        client.env(provost::wire::request::EnvChange { set, ..Default::default() }).expect("it is taken");
        writes += 1;
        assert!(writes < 5000, "the log has {} bytes after {writes} writes", log_len());
    }
    // What decides what runs is recorded all the same.
    expect_recorded(&service, "during");
    let health = service.until_store("sound");
    assert!(health["store"]["left_out"].as_u64() > Some(0) && health["well"] == false, "{health}");
    assert!(log_len() < 80 << 20, "{} bytes", log_len());
    drop(reader);
    wait::until("the log is emptied", SOON, || {
        service.ok(&["env", "set", "SMALL=1"]);
        log_len() < 8 << 20
    });
    service.ok(&["env", "unset", "BIG"]);
    let names = query(&database(&service), "print(db.execute('select name from processes').fetchall())");
    assert_eq!(names, "[('web',), ('during',)]");
}

#[test]
fn e9_a_database_held_by_another_delays_no_supervision() {
    let service = Service::new();
    service.start(&["--name", "before", "--", "sleep", "80000"]);
    let holder = hold(&database(&service), "db.execute('begin immediate')");
    let started = expect_supervision(&service, "during");
    expect_unrecorded(&started);
    let health = service.doctor();
    assert_eq!(health["store"]["state"], "degraded", "{health}");
    assert!(health["store"]["why"].as_str().is_some_and(|why| why.contains("locked")), "{health}");
    service.kill_engine();
    expect_unrecorded(&service.cli(&["start", "--json", "--name", "later", "--", "sleep", "80000"]));
    drop(holder);
    service.until_store("sound");
    expect_kept(&service, &["before", "later"], &["during"]);
}

/// What was answered while no database works is on record over the death of the engine that answered it.
#[test]
fn e9_the_audit_of_a_held_database_outlives_engines() {
    let service = Service::new();
    let holder = hold(&database(&service), "db.execute('begin immediate')");
    for n in 0..3 {
        service.cli(&["env", "set", &format!("KEY{n}=x")]).expect(0);
        service.kill_engine();
    }
    service.cli(&["env", "set", "KEY3=x"]).expect(0);
    drop(holder);
    service.until_store("sound");
    let lines = service.cli(&["audit", "--json"]).expect(0).json();
    for n in 0..4 {
        let what = format!("KEY{n}");
        let found: Vec<_> =
            lines.iter().filter(|l| l["what"].as_str().is_some_and(|w| w.contains(&what))).collect();
        assert_eq!(found.len(), 1, "{what}: {lines:?}");
        assert!(found[0]["result"].is_string(), "what came of it, too: {lines:?}");
    }
}

/// Makes the database one of a later version, as that one would.
const NEWER: &str = "
value = b'99'
part = lambda b: struct.pack('<Q', len(b)) + b
db.execute('update service set value = ?, sum = ? where key = ?', ('99', zlib.crc32(part(b'schema') + part(value)), 'schema'))
db.execute('pragma user_version = 99')
print(db.total_changes)
";

#[test]
fn e10_a_database_of_a_later_version_is_refused() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sleep", "80000"]);
    service.end();
    let state = service.state_dir();
    assert_eq!(query(&database(&service), NEWER), "1", "there is a row for the version");
    let before = fs::read(database(&service)).expect("it is there");
    let output = refused(Path::new(&state));
    assert_eq!(output.code, 6, "{output:?}");
    let version = env!("CARGO_PKG_VERSION");
    for wanted in
        ["version 99", &format!("({version}) knows 3"), "provost.db", "run that version or a later one"]
    {
        assert!(output.err().contains(wanted), "{wanted:?}: {output:?}");
    }
    assert_eq!(fs::read(database(&service)).expect("it is there"), before, "it is left as it is");
    assert_eq!(e_damage::set_aside(&service), Vec::<String>::new());
}

#[test]
fn e12_a_million_events_delay_no_start() {
    let scratch = Scratch::new();
    let config = scratch.file("provost.toml");
    fs::write(&config, "[history]\nkeep_events = 1000\n").expect("the directory is ours");
    let service = Options::new().serve(&["--config", &config]).start();
    service.start(&["--name", "web", "--", "sleep", "80000"]);
    service.end();
    let rows = "
newest = db.execute('select max(seq) from events').fetchone()[0]
at, id = db.execute('select at, id from events where id is not null').fetchone()
row = lambda n: (newest + n, at, 1, id, 'web', 1, 4711, 'started', 'uid 0', None, None)
db.execute('pragma synchronous = off')
db.execute('begin')
db.executemany('insert into events (seq, at, mono, id, name, run, pid, kind, cause, ended, detail) values (?,?,?,?,?,?,?,?,?,?,?)', map(row, range(1, 1000001)))
db.execute('commit')
print(newest + 1000000)
";
    let newest: u64 = query(&database(&service), rows).parse().expect("a number");
    let begin = std::time::Instant::now();
    service.serve_again();
    service.until_state("web", "running");
    let took = begin.elapsed();
    println!("ready with a million events after {took:?}");
    assert!(took < Duration::from_secs(10), "ready after {took:?}");
    let since = (newest - 10).to_string();
    let events = service.cli(&["events", "--json", "--since", &since]).expect(0).json();
    let numbers: Vec<u64> = events.iter().filter_map(|e| e["seq"].as_u64()).collect();
    assert!(numbers[0] == newest - 9 && numbers.windows(2).all(|w| w[1] == w[0] + 1), "{numbers:?}");
    // Retention: each write takes away some of the oldest.
    let before = service.doctor()["store"]["events"].as_u64().expect("a number");
    assert!(before > 900_000, "{before}");
    for n in 0..20 {
        service.ok(&["env", "set", &format!("N={n}")]);
    }
    let after = service.doctor()["store"]["events"].as_u64().expect("a number");
    assert!(after + 30_000 < before, "{before} events, then {after}");
    let missed = service.cli(&["events", "--since", "0", "nobody-*", "--json"]);
    assert!(missed.code == 4 || missed.err().contains("no longer kept"), "{missed:?}");
}

/// Deadlines count the time that the machine is awake (CLOCK_MONOTONIC): a machine that has slept for days,
/// as the clock that counts on in sleep shows, neither acts early nor late.
#[test]
fn e14_a_machine_that_has_slept_acts_neither_early_nor_late() {
    let offsets = ["unshare", "-T", "--boottime", "8640000", "--fork", "--kill-child"];
    let mut probe = Command::new(offsets[0]);
    probe.args(&offsets[1..]).arg("true");
    if cli::run(probe, LATER).code != 0 {
        println!("left out: there are no time namespaces here");
        return;
    }
    let service = Options::new().through(&offsets).start();
    let wanted =
        ["--name", "fails", "--restart", "always", "--restart-delay", "1h", "--restart-delay-max", "1h"];
    service.start(&[&wanted[..], &["--", "sh", "-c", "exit 1"]].concat());
    let process = service.until_state("fails", "backoff");
    let time =
        |key: &str| process[key].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()).expect("a time");
    let delay = time("next_attempt_at").as_second() - time("stopped_at").as_second();
    assert!((3000..4200).contains(&delay), "in {delay} s: {process}");
    let web = service.start(&["--name", "web", "--", "sleep", "80000"]);
    let pid = service.pid("web");
    service.kill_engine();
    assert_eq!((service.pid("web"), service.state("fails").as_str()), (pid, "backoff"));
    service.until_store("sound");
    service.end();
    service.serve_again();
    service.until_state("web", "running");
    assert_eq!(service.tree_of(&web).len(), 1);
}

/// A disk that takes two seconds for each write: ends are seen, and stops done, without it.
#[test]
fn e16_a_slow_disk_delays_no_supervision() {
    let service = Options::new().alone().start();
    let crashing = service.start(&["--name", "crashing", "--restart", "always", "--", "sleep", "80000"]);
    let to_stop = service.start(&["--name", "to-stop", "--", "sleep", "80000"]);
    let old = service.pid(&crashing);
    let pid = service.pid(&to_stop);
    service.until_store("sound");
    let strace = inject(&service, "delay_enter=2000000");
    // Keeps the disk busy.
    let starting = service.background(&["start", "--name", "other", "--", "sleep", "80000"]);
    procfs::signal("KILL", old);
    let limit = Duration::from_secs(1);
    let mut last = None;
    let restarted = wait::until("it is restarted", SOON, || {
        last = service.tree_of(&crashing).first().copied();
        last.is_some_and(|pid| pid != old)
    });
    let stop = service.background(&["stop", "to-stop"]);
    let stopped = wait::until("it is stopped", SOON, || !procfs::alive(pid));
    assert!(restarted < limit && stopped < limit, "restarted after {restarted:?}, stopped after {stopped:?}");
    // Only the answer waits for the disk.
    assert_eq!((stop.end(LATER).code, starting.end(LATER).code), (0, 0));
    let_go(&service, strace);
    service.until_store("sound");
}

#[test]
fn e17_sqlite_is_new_enough() {
    let service = Service::new();
    let version = service.doctor()["store"]["sqlite"].as_str().expect("text").to_owned();
    let numbers: Vec<u32> = version.split('.').map(|n| n.parse().expect("a number")).collect();
    assert!(numbers >= vec![3, 51, 3], "{version}");
    assert!(service.ok(&["doctor"]).contains(&format!("SQLite {version}")));
}

/// One directory, one service: the second one is told whose it is, also between two engines.
#[test]
fn state_of_another_service() {
    let service = Service::new();
    let id = service.start(&["--", "sleep", "80000"]);
    for _ in 0..2 {
        let output = refused(Path::new(&service.state_dir()));
        assert_eq!(output.code, 6, "{output:?}");
        let pid = service.keeper_pid().to_string();
        assert!(output.err().contains(&pid) && output.err().contains(&service.state_dir()), "{output:?}");
        service.kill_engine();
    }
    assert_eq!(service.state(&id), "running");
    service.until_store("sound");
}

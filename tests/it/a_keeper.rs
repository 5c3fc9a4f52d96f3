//! The keeper: its socket, its rivals, and its end, which is bounded whatever the children do.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Options, Running, SOON, STUBBORN, Scratch, Service, binary, procfs, rounds, wait};

/// A service that may not come up.
fn serve(socket: &str) -> Running {
    Running::new(crate::harness::serve(socket))
}

/// Whether it said that it is ready.
fn is_ready(serve: &Running) -> bool {
    serve.stderr_text().contains("provost: ready on ")
}

fn end(serve: Running) {
    serve.signal("TERM");
    assert_eq!(serve.end(SOON).code, 0);
}

#[test]
fn a9_stale_socket_is_taken_over() {
    let scratch = Scratch::new();
    let socket = scratch.file("engine.sock");
    // A socket file whose listener is gone.
    drop(UnixListener::bind(&socket).expect("the directory is ours"));
    assert!(fs::exists(&socket).expect("the directory is ours"));
    let first = serve(&socket);
    wait::until("the service is ready", SOON, || is_ready(&first));
    // And one whose service was killed with all it had.
    let below: Vec<u32> = procfs::descendants(first.pid()).iter().map(|s| s.pid).collect();
    first.signal("KILL");
    first.end(SOON);
    for pid in below {
        procfs::signal("KILL", pid);
    }
    let second = serve(&socket);
    wait::until("the next service is ready", SOON, || is_ready(&second));
    end(second);
}

#[test]
fn a9_live_peer_is_respected() {
    let service = Service::new();
    let id = service.start(&["--", "sleep", "80000"]);
    let rival = serve(service.socket());
    let refused = rival.end(SOON);
    assert_eq!(refused.code, 6, "{refused:?}");
    let pid = service.keeper_pid().to_string();
    assert!(refused.err().contains(&pid), "it names the first one, pid {pid}: {refused:?}");
    assert!(refused.err().contains(service.socket()), "{refused:?}");
    assert_eq!(service.state(&id), "running");
    service.kill_engine();
    let refused = serve(service.socket()).end(SOON);
    assert_eq!(refused.code, 6, "after the death of an engine too: {refused:?}");
}

#[test]
fn a9_foreign_listener_is_left_alone() {
    let scratch = Scratch::new();
    let socket = scratch.file("engine.sock");
    let foreign = UnixListener::bind(&socket).expect("the directory is ours");
    foreign.set_nonblocking(true).expect("a socket can be non-blocking");
    let refused = serve(&socket).end(SOON);
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(refused.err().contains(&socket), "{refused:?}");
    let client = std::os::unix::net::UnixStream::connect(&socket);
    assert!(client.is_ok(), "its path still leads to it: {client:?}");
}

#[test]
fn a10_of_two_services_at_once_one_is_refused() {
    let scratch = Scratch::new();
    let socket = scratch.file("engine.sock");
    for round in 0..rounds(20) {
        let mut rivals = vec![serve(&socket), serve(&socket)];
        wait::until("one is refused", SOON, || rivals.iter().any(|r| !r.is_running()));
        let loser = rivals.swap_remove(usize::from(rivals[0].is_running()));
        let winner = rivals.remove(0);
        let refused = loser.end(SOON);
        assert_eq!(refused.code, 6, "round {round}: {refused:?}");
        wait::until("the other one is ready", SOON, || is_ready(&winner));
        let mut version = Command::new(binary());
        version.args(["version", "--json"]).env("PROVOST_SOCKET", &socket);
        let answer = crate::harness::cli::run(version, SOON);
        answer.expect(0);
        assert_eq!(answer.json()[0]["service"]["keeper_pid"], winner.pid(), "round {round}: {answer:?}");
        end(winner);
    }
}

fn start_stubborn(service: &Service, timeout: &str) -> String {
    let ready = ["--wait=ready", "--ready-line", "up"];
    service.start(&[&["--stop-timeout", timeout], &ready[..], &["--", "sh", "-c", STUBBORN]].concat())
}

#[test]
fn a16_second_signal_hurries() {
    for (first, second) in [("TERM", "TERM"), ("TERM", "INT"), ("INT", "QUIT")] {
        let service = Service::new();
        let id = start_stubborn(&service, "1h");
        let begin = Instant::now();
        procfs::signal(first, service.keeper_pid());
        wait::until("the child got its signal", SOON, || {
            service.cli(&["status", &id, "--json"]).out().contains("\"stopping\"")
        });
        procfs::signal(second, service.keeper_pid());
        assert_eq!(service.keeper_end(Duration::from_secs(30)), 0, "{first} then {second}");
        println!("{first} then {second}: ended after {:?}", begin.elapsed());
        assert_eq!(service.tree_of(&id), Vec::<u32>::new());
    }
}

#[test]
fn a16_end_waits_for_the_grace_and_no_longer() {
    let service = Options::new().alone().start();
    let id = start_stubborn(&service, "1s");
    let polite = service.start(&["--", "sleep", "80000"]);
    let begin = Instant::now();
    procfs::signal("TERM", service.keeper_pid());
    assert_eq!(service.keeper_end(SOON), 0);
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(990), "the grace was not given: {took:?}");
    assert!(took < Duration::from_secs(4), "ended late: {took:?}");
    assert_eq!(service.tree_of(&id), Vec::<u32>::new());
    assert_eq!(service.tree_of(&polite), Vec::<u32>::new());
    assert!(!fs::exists(service.socket()).expect("the directory is ours"), "the socket is taken away");
}

#[test]
fn a16_end_during_a_crash_loop() {
    let service = Service::new();
    let fast = [
        "--restart",
        "always",
        "--max-restarts",
        "none",
        "--restart-delay",
        "1ms",
        "--restart-delay-max",
        "5ms",
    ];
    service.ok(&[&["start", "--name", "loop", "--instances", "5"], &fast[..], &["--", "sh", "-c", "exit 1"]]
        .concat());
    wait::until("it loops", SOON, || service.status_json("loop-1")["restarts"].as_u64() > Some(5));
    let begin = Instant::now();
    procfs::signal("TERM", service.keeper_pid());
    assert_eq!(service.keeper_end(SOON), 0);
    assert!(begin.elapsed() < Duration::from_secs(8), "ended late: {:?}", begin.elapsed());
}

#[test]
fn a16_end_with_an_engine_that_dies_all_the_time() {
    let service = Service::new();
    service.ok(&["start", "--instances", "5", "--name", "nap", "--", "sleep", "80000"]);
    procfs::signal("TERM", service.keeper_pid());
    let begin = Instant::now();
    while procfs::alive(service.keeper_pid()) && begin.elapsed() < Duration::from_secs(5) {
        if let Some(engine) = service.engine_now() {
            procfs::signal("KILL", engine);
        }
        wait::pass(Duration::from_millis(20));
    }
    assert_eq!(service.keeper_end(Duration::from_secs(30)), 0);
}

#[test]
fn a16_end_with_an_engine_that_hangs() {
    let service = Service::new();
    service.ok(&["start", "--instances", "5", "--name", "nap", "--", "sleep", "80000"]);
    procfs::signal("STOP", service.engine_pid());
    // Two of one kind would be one where the first is not taken yet.
    procfs::signal("TERM", service.keeper_pid());
    procfs::signal("INT", service.keeper_pid());
    let code = service.keeper_end(Duration::from_secs(60));
    println!("exit code of the keeper: {code}");
    wait::until("nothing is left", SOON, || service.marked().is_empty());
}

#[test]
fn a17_death_of_the_keeper_ends_the_engine() {
    let service = Service::new();
    let id = service.start(&["--", "sleep", "80000"]);
    let engine = service.engine_pid();
    procfs::signal("KILL", service.keeper_pid());
    assert_eq!(service.keeper_end(SOON), 128 + 9);
    wait::until("the engine noticed", Duration::from_secs(5), || !procfs::alive(engine));
    // Its child is nobody's now: what became of it is told by the next line of the test, which cleans up.
    for pid in service.tree_of(&id) {
        procfs::signal("KILL", pid);
    }
}

/// Nobody reads what the service says, and the pipe is full: it goes on, also where it has much to say.
#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let scratch = Scratch::new();
    let socket = scratch.file("engine.sock");
    let mut command = Command::new("sh");
    // The other end is open, and is never read.
    let script = "mkfifo \"$0\"; exec 3<>\"$0\"; head -c 65536 /dev/zero >&3; exec \"$@\" 2>&3";
    command.args(["-c", script, &scratch.file("log")]).arg(binary());
    command.args(["serve", "--socket", &socket, "--state", "none"]).env_remove("PROVOST_SOCKET");
    let serve = Running::new(command);
    let cli = |args: &[&str]| {
        let mut command = Command::new(binary());
        command.args(args).env("PROVOST_SOCKET", &socket);
        crate::harness::cli::run(command, SOON)
    };
    wait::until("it answers", SOON, || cli(&["list"]).code == 0);
    let engine = || cli(&["version", "--json"]).json()[0]["service"]["engine_pid"].as_u64().map(|p| p as u32);
    cli(&["start", "--name", "web", "--", "sleep", "64010"]).expect(0);
    for _ in 0..3 {
        let before = engine();
        procfs::signal("KILL", before.expect("it answers"));
        wait::until("there is another", SOON, || engine().is_some_and(|now| Some(now) != before));
    }
    cli(&["stop", "web"]).expect(0);
    end(serve);
}

//! Failures of the place: who may connect, what the modes are from the first moment, and what is in the way.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::{
    LATER, Options, Output, SOON, Scratch, Service, as_nobody, binary, cli, open_binary, procfs, rounds,
    serve, wait,
};

fn mode(path: &str) -> u32 {
    fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{path}: {e}")).mode() & 0o7777
}

fn set_mode(path: &str, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("tests run as root");
}

#[test]
fn f10_another_user_is_refused_whatever_the_modes() {
    let scratch = Scratch::new();
    let program = open_binary(&scratch);
    let (dir, socket) = (scratch.file("run"), scratch.file("run/engine.sock"));
    let service = Options::new().at(&socket).start();
    assert_eq!((mode(&dir), mode(&socket), mode(&format!("{socket}.lock"))), (0o750, 0o660, 0o600));
    let nobody = |args: &[&str]| cli::run(as_nobody(&program, &socket, args), LATER);
    // Kept out by the modes: it cannot even be reached.
    let out = nobody(&["list"]);
    out.expect(6);
    assert!(
        out.err().contains(&format!("user 65534 may not connect to {socket}: permission denied")),
        "{out:?}"
    );
    assert!(out.err().contains("hint: "), "{out:?}");
    // Somebody loosens the modes: kept out by who they are.
    set_mode(&dir, 0o755);
    set_mode(&socket, 0o666);
    for args in [&["list"][..], &["start", "--", "sleep", "73000"], &["env", "set", "A=b"]] {
        let out = nobody(args);
        assert!(out.err().contains("user 65534 may not use this service"), "{out:?}");
        out.expect(6);
    }
    assert_eq!(service.cli(&["list", "--json"]).expect(0).out(), "", "nothing was started");
    assert_eq!(service.cli(&["env"]).expect(0).out(), "", "nothing was set");
    service.end();
}

/// Every mode that directory, socket and lock ever show while services start under a mask that closes
/// nothing.
#[test]
fn f11_modes_are_never_wider_than_in_the_end() {
    for _ in 0..rounds(15) {
        let scratch = Scratch::new();
        let (dir, socket) = (scratch.file("run"), scratch.file("run/engine.sock"));
        let lock = format!("{socket}.lock");
        let done = AtomicBool::new(false);
        let seen = thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut seen = BTreeSet::new();
                loop {
                    // One more look after the end, so that everything was seen at least once.
                    let is_last = done.load(Ordering::Relaxed);
                    for (what, path) in [("dir", &dir), ("socket", &socket), ("lock", &lock)] {
                        seen.extend(fs::symlink_metadata(path).map(|m| (what, m.mode() & 0o7777)));
                    }
                    if is_last {
                        return seen;
                    }
                }
            });
            let wrap = ["sh", "-c", "umask 000; exec \"$@\"", "sh"];
            let service = Options::new().through(&wrap).at(&socket).start();
            done.store(true, Ordering::Relaxed);
            let seen = watcher.join().expect("it only looks");
            service.cli(&["run", "--", "sh", "-c", "umask"]).expect(0);
            service.end();
            seen
        });
        assert_eq!(seen, [("dir", 0o750), ("lock", 0o600), ("socket", 0o660)].into());
    }
}

/// `serve` that must not come up.
#[track_caller]
fn refused(socket: &str, code: i32, what: &str) -> Output {
    let out = cli::run(serve(socket), SOON);
    out.expect(code);
    assert!(out.err().starts_with("provost: "), "{out:?}");
    assert!(out.err().contains(what), "{what:?} is not in {out:?}");
    out
}

#[test]
fn f12_foreign_files_in_the_way_are_left_alone() {
    let scratch = Scratch::new();
    let victim = scratch.file("victim");
    fs::write(&victim, "precious").expect("it is ours");
    let at = |name: &str| {
        fs::create_dir(scratch.file(name)).expect("it is ours");
        format!("{}/engine.sock", scratch.file(name))
    };

    let socket = at("link");
    symlink(&victim, &socket).expect("it is ours");
    refused(&socket, 6, "no socket");
    assert!(fs::symlink_metadata(&socket).expect("it is still there").is_symlink());

    let socket = at("dangling");
    symlink(scratch.file("nowhere"), &socket).expect("it is ours");
    refused(&socket, 6, "no socket");
    assert!(!fs::exists(scratch.file("nowhere")).expect("it can be told"));

    let socket = at("directory");
    fs::create_dir(&socket).expect("it is ours");
    refused(&socket, 6, "no socket");

    let socket = at("file");
    fs::write(&socket, "precious").expect("it is ours");
    refused(&socket, 6, "no socket");
    assert_eq!(fs::read(&socket).expect("it is still there"), b"precious");

    let socket = at("fifo");
    cli::run(args(&["mkfifo", &socket]), SOON).expect(0);
    refused(&socket, 6, "no socket");
    assert!(fs::symlink_metadata(&socket).expect("it is still there").file_type().is_fifo());

    // The lock is ours to make; a link in its place leads nowhere.
    for target in [victim.clone(), scratch.file("nowhere")] {
        let socket = at(if target == victim { "lock-link" } else { "lock-dangling" });
        symlink(&target, format!("{socket}.lock")).expect("it is ours");
        refused(&socket, 1, "engine.sock.lock");
        assert!(!fs::exists(&socket).expect("it can be told"));
    }
    assert!(!fs::exists(scratch.file("nowhere")).expect("it can be told"));
    let socket = at("lock-directory");
    fs::create_dir(format!("{socket}.lock")).expect("it is ours");
    refused(&socket, 1, "engine.sock.lock");
    assert_eq!(fs::read(&victim).expect("it is still there"), b"precious");

    // Somebody else's socket, while they listen; and what is left of it.
    let socket = at("foreign");
    let listener = UnixListener::bind(&socket).expect("nobody is there");
    refused(&socket, 6, "another program listens there");
    drop(listener);
    let service = Options::new().at(&socket).start();
    service.ok(&["list"]);
    // A second service names the first.
    refused(&socket, 6, &format!("keeper pid {}", service.keeper_pid()));
    service.ok(&["list"]);
    service.end();
    assert!(!fs::exists(&socket).expect("it can be told"), "a service takes its socket away");
}

fn args(args: &[&str]) -> Command {
    let mut command = Command::new(args[0]);
    command.args(&args[1..]);
    command
}

#[test]
fn f13_paths_too_long_for_a_socket_are_refused() {
    let scratch = Scratch::new();
    let path = |len: usize| {
        let dir = scratch.file("");
        format!("{dir}{}", "s".repeat(len - dir.len()))
    };
    for len in [108, 109, 200, 5000] {
        let long = path(len);
        let out = refused(&long, 2, "102 bytes");
        assert!(out.stderr.len() < 500, "a path is cut in a message: {out:?}");
        let mut client = args(&[binary().to_str().expect("text"), "list"]);
        client.env("PROVOST_SOCKET", &long);
        let out = cli::run(client, SOON);
        out.expect(2);
        assert!(out.err().contains("107"), "{out:?}");
    }
    for bad in ["", "/", "/tmp/.."] {
        refused(bad, 2, "path");
    }
    // There is room behind it for the socket of gRPC, unless there is none.
    refused(&path(103), 2, "102 bytes");
    let config = scratch.file("no-grpc.toml");
    fs::write(&config, "[local]\ngrpc = false\n").expect("the directory is ours");
    let longest = path(107);
    let service = Options::new().at(&longest).serve(&["--config", &config]).start();
    service.cli(&["run", "--", "true"]).expect(0);
    service.until_said(&longest);
    service.end();
}

/// Nothing of it can be reached from another mount namespace: all its sockets are files, or pairs without a
/// name.
#[test]
fn f14_no_abstract_sockets() {
    let service = Service::new();
    service.start(&["--", "sleep", "73001"]);
    let ours: Vec<String> = [service.keeper_pid(), service.engine_pid()]
        .iter()
        .flat_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten())
        .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        .filter_map(|to| Some(to.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    assert!(ours.len() >= 4, "a listening socket and a pair, held by two: {ours:?}");
    let table = fs::read_to_string("/proc/net/unix").expect("it is there");
    let named: Vec<&str> = table
        .lines()
        .filter(|line| line.split_whitespace().nth(6).is_some_and(|inode| ours.iter().any(|o| o == inode)))
        .filter_map(|line| line.split_whitespace().nth(7))
        .collect();
    assert!(!named.is_empty() && named.iter().all(|path| path.starts_with('/')), "{named:?}");
    // Nor on a network.
    let inets = ["tcp", "tcp6", "udp", "udp6"].map(|kind| fs::read_to_string(format!("/proc/net/{kind}")));
    for line in inets.iter().flatten().flat_map(|text| text.lines().skip(1)) {
        let inode = line.split_whitespace().nth(9).unwrap_or("0");
        assert!(!ours.iter().any(|o| o == inode), "a network socket: {line}");
    }
    assert!(procfs::alive(service.keeper_pid()));
}

/// Whatever was taken away, there is one service, and clients find it again.
#[test]
fn f23_a_socket_that_was_removed_is_made_again() {
    let scratch = Scratch::new();
    let (dir, socket) = (scratch.file("run"), scratch.file("run/engine.sock"));
    let service = Options::new().at(&socket).start();
    let id = service.start(&["--name", "web", "--", "sleep", "73001"]);
    let pid = service.pid(&id);
    let takings: [(&str, &dyn Fn()); 4] = [
        ("the socket", &|| fs::remove_file(&socket).expect("it was there")),
        ("renamed", &|| fs::rename(&socket, scratch.file("away")).expect("it was there")),
        ("the lock, too", &|| {
            fs::remove_file(format!("{socket}.lock")).expect("it was there");
            fs::remove_file(&socket).expect("it was there");
        }),
        // Something may be made again in there meanwhile.
        ("the directory", &|| drop(fs::remove_dir_all(&dir))),
    ];
    for (what, take) in takings {
        take();
        wait::until(&format!("{what}: it answers"), SOON, || service.cli(&["list"]).code == 0);
        assert_eq!((mode(&dir), mode(&socket)), (0o750, 0o660), "{what}");
        assert_eq!(service.pid(&id), pid, "{what}: nothing else has changed");
        let second = cli::run(serve(&socket), LATER);
        assert!(second.code == 6 && second.err().contains("serves"), "{what}: {second:?}");
        service.ok(&["list"]);
    }
    service.end();
    assert!(!fs::exists(&socket).expect("the directory is ours"), "the last one that was made");
}

#[test]
fn f23_what_is_in_the_place_of_a_removed_socket_is_left_alone() {
    let scratch = Scratch::new();
    let socket = scratch.file("engine.sock");
    let service = Options::new().at(&socket).start();
    // At one moment, so that the place is never free.
    fs::write(scratch.file("theirs"), "theirs").expect("the directory is ours");
    fs::rename(scratch.file("theirs"), &socket).expect("the directory is ours");
    service.until_said("something that is no socket is there");
    fs::remove_file(&socket).expect("it is there");
    wait::until("it answers", SOON, || service.cli(&["list"]).code == 0);
    fs::write(scratch.file("theirs"), "theirs").expect("the directory is ours");
    fs::rename(scratch.file("theirs"), &socket).expect("the directory is ours");
    service.end();
    assert_eq!(fs::read_to_string(&socket).expect("it is there"), "theirs");
}

/// Everything below a directory, with its mode.
fn below(dir: &str) -> Vec<(String, fs::Metadata)> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{dir}: {e}"));
    entries
        .flat_map(|entry| {
            let path = entry.expect("it can be read").path().to_str().expect("text").to_owned();
            let found = fs::symlink_metadata(&path).expect("it is there");
            let more = if found.is_dir() { below(&path) } else { Vec::new() };
            [vec![(path, found)], more].concat()
        })
        .collect()
}

/// Whatever the service makes, under a mask that closes nothing: the database, logs, notes, sockets.
#[test]
fn j3_what_the_service_makes_is_closed_under_any_mask() {
    let wrap = ["sh", "-c", "umask 000; exec \"$@\"", "sh"];
    let service = Options::new().through(&wrap).start();
    service.start(&["--name", "web", "--log", "web.log", "--", "sh", "-c", "echo x; exec sleep 73001"]);
    service.cli(&["provider", "info", "app"]);
    let log = format!("{}/logs/web.log", service.state_dir());
    wait::until("its line is there", LATER, || fs::read(&log).is_ok_and(|text| text == b"x\n"));
    let all = below(&service.state_dir());
    assert!(all.iter().any(|(path, _)| path.ends_with(".db")), "{all:?}");
    for (path, found) in &all {
        let open = match (found.is_dir(), path.contains("/logs")) {
            (true, _) => 0o027,
            (false, true) => 0o137,
            (false, false) => 0o177,
        };
        assert_eq!(found.mode() & open, 0, "{path}: {:o}", found.mode());
    }
    service.end();
}

/// Nothing is made where others may make things, too, but what a definition names.
#[test]
fn j6_no_file_is_made_where_others_may_make_theirs() {
    let scratch = Scratch::new();
    let (trace, socket) = (scratch.file("trace"), scratch.file("run/engine.sock"));
    let calls =
        "trace=openat,open,creat,mkdir,mkdirat,mknodat,linkat,symlinkat,rename,renameat,renameat2,bind";
    let wrap = ["strace", "-f", "-qq", "-s", "256", "-o", &trace, "-e", calls];
    let service = Options::new().through(&wrap).at(&socket).start();
    service.start(&["--name", "web", "--log", "web.log", "--ready-notify", "--", "sleep", "73002"]);
    service.cli(&["run", "--", "true"]).expect(0);
    service.cli(&["provider", "info", "app"]);
    service.kill_engine();
    service.ok(&["list"]);
    service.end();
    let trace = fs::read_to_string(&trace).expect("strace wrote it");
    let (ours, state) = (scratch.path().to_str().expect("text"), service.scratch().path());
    let state = state.to_str().expect("text");
    let is_foreign = |path: &&str| {
        ["/tmp", "/var/tmp", "/dev/shm"].iter().any(|open| path.starts_with(open))
            && !path.starts_with(ours)
            && !path.starts_with(state)
    };
    let makes =
        |line: &&str| line.contains("O_CREAT") || !(line.contains("openat(") || line.contains("open("));
    assert!(trace.contains(&socket), "the trace has what is made");
    for line in trace.lines().filter(makes) {
        let foreign = line.split('"').skip(1).step_by(2).find(is_foreign);
        assert_eq!(foreign, None, "{line}");
    }
}

/// One of another user: it cannot signal, trace or read the programs of the service.
#[test]
fn j7_a_process_of_another_user_reaches_nothing_of_the_service() {
    const REACH: &str = "import ctypes, os, sys\n\
        c = ctypes.CDLL(None, use_errno=True)\n\
        for pid in map(int, sys.argv[1:]):\n\
        \x20 for sig in 0, 15, 9, 19:\n\
        \x20   try: os.kill(pid, sig); print('signalled', pid, sig)\n\
        \x20   except PermissionError: pass\n\
        \x20 for name in 'mem', 'environ', 'maps', 'fd/0':\n\
        \x20   try: open('/proc/%d/%s' % (pid, name), 'rb').read(1); print('read', name)\n\
        \x20   except PermissionError: pass\n\
        \x20 if c.ptrace(16, pid, None, None) != -1: print('traced', pid)\n\
        print('done')";
    let service = Service::new();
    service.cli(&["provider", "info", "app"]);
    let mut ours = vec![service.keeper_pid(), service.engine_pid()];
    let all = service.cli(&["list", "--all", "--json"]).json();
    ours.extend(all.iter().filter_map(|p| p["pid"].as_u64()).map(|pid| u32::try_from(pid).expect("a pid")));
    let pids: Vec<_> = ours.iter().map(ToString::to_string).collect();
    let mut args = vec!["run", "--user", "nobody", "--cwd", "/", "--", "/usr/bin/python3", "-c", REACH];
    args.extend(pids.iter().map(String::as_str));
    assert_eq!(service.cli(&args).expect(0).out(), "done");
    assert!(ours.iter().all(|pid| procfs::alive(*pid)));
}

/// What the programs of the service hold is in no core of theirs, whatever the limit is; their processes have
/// the limit that the service has, or that their definition says.
#[test]
fn j2_the_programs_of_the_service_leave_no_core() {
    let core = |pid: u32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("it is there");
        line.split_whitespace().nth(4).expect("the soft limit").to_owned()
    };
    let service = Options::new().through(&["prlimit", "--core=unlimited"]).start();
    service.cli(&["provider", "info", "app"]);
    assert_eq!(core(service.engine_pid()), "1", "less than a page: no file");
    let all = service.cli(&["list", "--all", "--json"]).json();
    let own: Vec<_> = all.iter().filter_map(|p| p["pid"].as_u64()).collect();
    assert!(!own.is_empty(), "the host runs");
    for pid in own {
        assert_eq!(core(u32::try_from(pid).expect("a pid")), "1");
    }
    service.start(&["--name", "web", "--", "sleep", "73003"]);
    service.start(&["--name", "none", "--limit", "core=0", "--", "sleep", "73003"]);
    assert_eq!((core(service.pid("web")), core(service.pid("none"))), ("unlimited".into(), "0".into()));
}

/// The directory of the socket lies on a disk that is full: nothing that is asked for needs room there, also
/// not of the next engine and the next service, nor does a socket that is made again.
#[test]
fn f24_a_full_directory_of_the_socket_hinders_nothing() {
    let scratch = Scratch::new();
    let disk = scratch.file("disk");
    fs::create_dir(&disk).expect("the directory is ours");
    // More processes than the file of spawns has had room for.
    let script = format!(
        r#"
        mount -t tmpfs -o size=64k,mode=700 tmpfs {disk} || exit 9
        export PROVOST_SOCKET={disk}/s
        serve() {{
            $PROVOST serve --socket {disk}/s --state {disk}.state --cgroups off 2>>{disk}.log &
            keeper=$!
            until $PROVOST list; do kill -0 $keeper || exit 8; sleep 0.05; done >/dev/null 2>&1
        }}
        fill() {{ dd if=/dev/zero of={disk}/filler$1 bs=1024 2>/dev/null; [ "$(stat -f -c %a {disk})" = 0 ] || exit 7; }}
        serve
        $PROVOST start --name web -- sleep 80000 >/dev/null
        fill
        $PROVOST start --name many --instances 80 -- sleep 80000 >/dev/null || exit 1
        $PROVOST restart web >/dev/null || exit 2
        kill -9 $(pgrep -P $keeper -f 'provost engine')
        $PROVOST stop many-1 >/dev/null || exit 3
        $PROVOST start many-1 >/dev/null || exit 4
        rm {disk}/s
        until $PROVOST list >/dev/null 2>&1; do sleep 0.05; done
        old=$($PROVOST list --json | jq -r .pid)
        kill -9 $keeper; wait $keeper 2>/dev/null
        serve
        fill again
        until [ "$($PROVOST list --json | jq -r .state | sort | uniq -c | tr -d ' ')" = 81running ]; do sleep 0.05; done
        for pid in $old; do [ ! -e /proc/$pid ] || exit 5; done
        kill -TERM $keeper; wait $keeper; echo "end $?"
        pgrep -c sleep
        "#
    );
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", &script]);
    command.env("PROVOST", binary());
    let ended = cli::run(command, LATER);
    let log = fs::read_to_string(format!("{disk}.log")).unwrap_or_default();
    assert_eq!(ended.out(), "end 0\n0", "{ended:?}\n{log}");
}

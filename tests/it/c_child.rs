//! What a child gets, and what it does not: descriptors, signals, rights, limits, words, a terminal.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use provost::Spec;
use provost::wire::id::ProcessId;
use provost::wire::request::{Numbering, Output, Start, StreamKind, Wait};

use crate::harness::{LATER, Options, Service, cli, procfs, rounds};
use crate::raw::Peer;

/// The shell's own descriptors, listed by another program; the last command keeps the shell from becoming it.
const LIST_FDS: &str = "ls /proc/$$/fd; readlink /proc/$$/fd/0; exit 0";

#[test]
fn c8_a_child_gets_three_descriptors() {
    let service = Service::new();
    let done = AtomicBool::new(false);
    service.ok(&["list"]);
    let before = service.footprint();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let held = Peer::greeted(service.socket());
                    drop((Peer::silent(service.socket()), held));
                }
            });
        }
        let starters: Vec<_> = (0..16).map(|_| scope.spawn(|| start_listers(&service, rounds(10)))).collect();
        let results: Vec<_> = starters.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|r| r.expect("every child has three descriptors"));
    });
    assert_eq!(service.list_json().len(), 16 * rounds(10) as usize);
    service.ok(&["remove", "*"]);
    service.until_footprint(before);
}

fn start_listers(service: &Service, count: u32) {
    let mut client = service.client();
    for n in 0..count {
        let mut spec = Spec::new(["sh", "-c", LIST_FDS]);
        let id = ProcessId::new();
        spec.name = Some(format!("fds-{n}-{}", id.short()).parse().expect("a name"));
        let start = Start { spec, ids: vec![id], numbering: Numbering::Single };
        client.start(start).expect("an answer").into_iter().for_each(|item| assert_eq!(item.error, None));
        client.wait(Wait { targets: vec![id.to_string()], ..Wait::default() }).expect("it ends");
        let output = Output { target: id.to_string(), kind: StreamKind::Both };
        let chunks = client.output(output).expect("its output is kept");
        let text: Vec<u8> = chunks.into_iter().flat_map(|c| c.data).collect();
        assert_eq!(String::from_utf8_lossy(&text), "0\n1\n2\n/dev/null\n");
    }
}

/// However the service was started: with signals ignored (as by nohup), and with signals blocked.
#[test]
fn c10_no_signal_is_blocked_or_ignored() {
    let ignored = "--ignore-signal=HUP,INT,QUIT,PIPE,CHLD,USR1,ALRM,TSTP,RTMIN";
    let blocked = "--block-signal=HUP,TERM,CHLD,USR2,PIPE,RTMIN,SEGV";
    let service = Options::new().through(&["nohup", "env", ignored, blocked]).start();
    for round in 0..2 {
        let run = service.cli(&["run", "--", "cat", "/proc/self/status"]);
        let of_signals = run.expect(0).out();
        let of_signals: Vec<_> = of_signals
            .lines()
            .filter(|l| ["SigBlk:", "SigIgn:", "SigCgt:"].contains(&&l[..l.len().min(7)]))
            .collect();
        let none = "0".repeat(16);
        let wanted = ["SigBlk", "SigIgn", "SigCgt"].map(|key| format!("{key}:\t{none}"));
        assert_eq!(of_signals, wanted);
        // The service itself still sees its children end.
        service.cli(&["run", "--", "sh", "-c", "exit 7"]).expect(7);
        if round == 0 {
            service.kill_engine();
        }
    }
}

/// The soft and the hard limit of each resource as /proc names it.
fn limits_of(pid: u32) -> Vec<(String, String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let line = |line: &str| {
        let (name, rest) = line.split_at(25);
        let mut values = rest.split_whitespace().map(str::to_owned);
        (name.trim().to_owned(), values.next().unwrap_or_default(), values.next().unwrap_or_default())
    };
    text.lines().skip(1).map(line).collect()
}

fn nice_of(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    text.rsplit_once(") ").expect("a stat line").1.split(' ').nth(16).expect("field 19").to_owned()
}

#[test]
fn c12_a_child_gets_exactly_what_was_asked_for() {
    let service = Service::new();
    let limits = [
        ("nofile=100:200", "Max open files", "100", "200"),
        ("core=0", "Max core file size", "0", "0"),
        ("fsize=1000000:2000000", "Max file size", "1000000", "2000000"),
        ("stack=1048576:2097152", "Max stack size", "1048576", "2097152"),
        ("cpu=1000:2000", "Max cpu time", "1000", "2000"),
        ("nproc=300:400", "Max processes", "300", "400"),
        ("memlock=4096:8192", "Max locked memory", "4096", "8192"),
        ("data=1000000000:unlimited", "Max data size", "1000000000", "unlimited"),
        ("as=5000000000", "Max address space", "5000000000", "5000000000"),
        ("rss=12345:23456", "Max resident set", "12345", "23456"),
        ("locks=11:12", "Max file locks", "11", "12"),
        ("sigpending=13:14", "Max pending signals", "13", "14"),
        ("msgqueue=15:16", "Max msgqueue size", "15", "16"),
        ("nice=0", "Max nice priority", "0", "0"),
        ("rtprio=0", "Max realtime priority", "0", "0"),
        ("rttime=17:18", "Max realtime timeout", "17", "18"),
    ];
    let mut args = vec!["--user", "nobody", "--group", "daemon", "--groups", "4,tty,7"];
    args.extend([
        "--umask",
        "027",
        "--cwd",
        "/usr/bin",
        "--nice",
        "7",
        "--no-new-privs",
        "--oom-score-adj",
        "321",
    ]);
    args.extend(limits.iter().flat_map(|(limit, ..)| ["--limit", limit]));
    args.extend(["--", "sleep", "70000"]);
    let id = service.start(&args);
    // Once more by the next engine, and for the next run.
    for round in 0..2 {
        let pid = service.pid(&id);
        let line = |key| procfs::status_line(pid, key).unwrap_or_default();
        let group = numeric("group", "daemon");
        assert_eq!(line("Uid"), "65534\t65534\t65534\t65534");
        assert_eq!(line("Gid"), format!("{group}\t{group}\t{group}\t{group}"));
        let mut groups: Vec<_> = line("Groups").split_whitespace().map(str::to_owned).collect();
        groups.sort();
        assert_eq!(groups, ["4", &numeric("group", "tty"), "7"]);
        assert_eq!((line("Umask"), line("NoNewPrivs")), ("0027".into(), "1".into()));
        assert_eq!(nice_of(pid), "7");
        let oom = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("it runs");
        assert_eq!(oom.trim(), "321");
        assert_eq!(
            fs::read_link(format!("/proc/{pid}/cwd")).expect("we are root").to_str(),
            Some("/usr/bin")
        );
        let found = limits_of(pid);
        for (_, name, soft, hard) in &limits {
            let limit = found.iter().find(|(n, ..)| n == name).expect(name);
            assert_eq!((limit.1.as_str(), limit.2.as_str()), (*soft, *hard), "{name}");
        }
        if round == 0 {
            service.kill_engine();
            service.ok(&["restart", &id]);
        }
    }
}

/// The number of a name, as the system's own tools know it.
fn numeric(database: &str, name: &str) -> String {
    let mut getent = Command::new("getent");
    getent.args([database, name]);
    let line = cli::run(getent, LATER).expect(0).out();
    line.split(':').nth(2).expect("the number is the third field").to_owned()
}

/// What nobody asked for stays as the service was started, though the keeper raises its own limit of
/// descriptors.
#[test]
fn c12_what_was_not_asked_for_does_not_change() {
    let through = ["prlimit", "--nofile=1000:2000", "--core=4096:8192"];
    for options in [Options::new(), Options::new().without_cgroups()] {
        let service = options.through(&through).start();
        let has_cgroups =
            service.cli(&["version", "--json"]).expect(0).json()[0]["service"]["cgroups"] == true;
        let keeper = service.keeper_pid();
        let pid = service.pid(&service.start(&["--", "sleep", "70000"]));
        for key in
            ["Uid", "Gid", "Groups", "Umask", "NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapBnd", "Seccomp"]
        {
            assert_eq!(procfs::status_line(pid, key), procfs::status_line(keeper, key), "{key}");
        }
        assert_eq!(nice_of(pid), nice_of(keeper));
        let (ours, theirs) = (limits_of(keeper), limits_of(pid));
        for ((name, soft, hard), of_keeper) in theirs.into_iter().zip(ours) {
            if name == "Max open files" {
                assert_eq!((soft.as_str(), hard.as_str()), ("1000", "2000"));
                assert_eq!((of_keeper.1.as_str(), of_keeper.2.as_str()), ("2000", "2000"));
            } else if name == "Max file locks" && !has_cgroups {
                // Whose it is, in a limit that Linux does not heed.
                assert!(soft.parse::<u64>().is_ok_and(|soft| soft >= 1 << 62), "{soft}");
                assert_eq!(hard, of_keeper.2);
            } else {
                assert_eq!((name, soft, hard), of_keeper);
            }
        }
    }
}

/// A user's own groups come with it, and a number works as well as a name.
#[test]
fn c12_a_user_comes_with_its_groups() {
    let service = Service::new();
    for user in ["nobody", "65534"] {
        let run = service.cli(&["run", "--user", user, "--", "sh", "-c", "id -u; id -g; id -G"]);
        assert_eq!((run.code, run.out()), (0, "65534\n65534\n65534".into()), "{run:?}");
    }
    let run = service.cli(&["run", "--user", "64299", "--group", "64298", "--", "sh", "-c", "id -u; id -G"]);
    assert_eq!((run.code, run.out()), (0, "64299\n64298".into()), "{run:?}");
}

#[test]
fn c16_arguments_reach_the_program_unchanged() {
    let service = Service::new();
    let canary = service.scratch().file("canary");
    fs::write(&canary, "alive").expect("the directory is ours");
    let remove = format!("; rm -rf {canary}");
    let args = [
        remove.as_str(),
        "$(id)",
        "`id`",
        "$HOME",
        "*",
        "",
        " a  b ",
        "\\n",
        "'",
        "\"",
        "--",
        "-x",
        "${PATH}",
        "%s",
    ];
    let printf = [&["run", "--", "printf", "<%s>\\n"][..], &args].concat();
    let run = service.cli(&printf);
    let wanted: String = args.iter().map(|w| format!("<{w}>\n")).collect();
    assert_eq!((run.code, String::from_utf8_lossy(&run.stdout).into_owned()), (0, wanted), "{run:?}");

    // In values, ${VAR} alone is replaced, once, and not even that on request.
    let value = "A=${HOME} $HOME $(id) `id` ${B}; rm -rf *";
    let print = ["--", "printenv", "A"];
    let env = ["--clear-env", "-e", "PATH=/usr/bin:/bin", "-e", "HOME=/h", "-e", "B=${HOME}", "-e", value];
    let run = service.cli(&[&["run"], &env[..], &print].concat());
    assert_eq!((run.code, run.out()), (0, "/h $HOME $(id) `id` /h; rm -rf *".into()), "{run:?}");
    let run = service.cli(&[&["run", "--no-expand"], &env[..], &print].concat());
    assert_eq!((run.code, run.out()), (0, value[2..].into()), "{run:?}");

    // A shell only on request.
    let run = service.cli(&["run", "--shell", "--", "echo a | tr a b; echo $((6 * 7))"]);
    assert_eq!((run.code, run.out()), (0, "b\n42".into()), "{run:?}");
    assert_eq!(fs::read_to_string(&canary).expect("it is still there"), "alive");
}

/// The service runs on a terminal; its children have none, and nothing to read.
#[test]
fn c17_a_child_has_its_own_session_and_no_terminal() {
    // The terminal takes the three standard streams; where the service was to write its log is passed around
    // it.
    let wrap = "log=/proc/$$/fd/2; exec script -qefc \"exec $* 2>$log\" /dev/null";
    let service = Options::new().through(&["sh", "-c", wrap, "sh"]).start();
    assert_ne!(
        terminal(service.keeper_pid()),
        "0",
        "the keeper is on a terminal, or this test shows nothing"
    );
    let pid = service.pid(&service.start(&["--", "sleep", "70000"]));
    let stat = procfs::stat(pid).expect("it runs");
    assert_eq!((stat.session, stat.group), (pid, pid), "a session and a group of its own");
    assert_eq!(terminal(pid), "0");
    assert_eq!(fs::read_link(format!("/proc/{pid}/fd/0")).expect("it runs").to_str(), Some("/dev/null"));
    let run = service.cli(&["run", "--", "sh", "-c", "cat; tty; (: </dev/tty) 2>/dev/null || echo none"]);
    assert_eq!((run.code, run.out()), (0, "not a tty\nnone".into()), "{run:?}");
}

/// The number of the controlling terminal; 0 for none.
fn terminal(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    text.rsplit_once(") ").expect("a stat line").1.split(' ').nth(4).expect("field 7").to_owned()
}

#[test]
fn a_reference_to_what_is_not_set_is_told_in_the_log() {
    let service = Service::new();
    let args = ["--name", "web", "--env", "URL=http://${NO_SUCH_HOST}/", "--env", "TWICE=${URL}", "--"];
    service.ok(&[&["run"], &args[..], &["sh", "-c", "echo $URL"]].concat());
    service.until_said("web: URL refers to ${NO_SUCH_HOST}, which is not set and stands for nothing");
    assert_eq!(service.log().matches("refers to").count(), 1, "{}", service.log());
}

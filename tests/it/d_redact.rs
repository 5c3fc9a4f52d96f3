//! `redact`: what it matches in a line is seen nowhere, by whichever way the line leaves, however it was
//! written, and whatever dies meanwhile.

use std::fs;
use std::path::Path;

use crate::a_recover::kill_at;
use crate::d_logs::{parrot, whole};
use crate::harness::{LATER, SOON, Service, wait};

const PATTERN: &str = "token=[0-9a-f]+";
const SECRET: &str = "5ec2e75ec2e7";

/// Whether any file below holds it.
fn holds_secret(dir: &Path) -> Option<String> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let found = match entry.file_type() {
            Ok(kind) if kind.is_dir() => holds_secret(&path),
            Ok(kind) if kind.is_file() => fs::read(&path).ok().and_then(|bytes| {
                let holds = bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
                holds.then(|| path.display().to_string())
            }),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

#[test]
fn what_is_matched_is_seen_nowhere() {
    let service = Service::new();
    let logs = service.scratch().file("logs");
    fs::create_dir(&logs).unwrap();
    let (log, json) = (format!("{logs}/web.log"), format!("{logs}/json.log"));
    // Parts of a line that come at different times, both streams, a line without an end, an end that is shown
    // with its last lines.
    let (begin, end) = SECRET.split_at(5);
    let gate = service.scratch().file("gate");
    let script = format!(
        "printf 'a tok'; printf 'x token={SECRET}\\n' >&2; until [ -e {gate} ]; do sleep 0.02; done; \
         printf 'en={begin}'; sleep 0.1; printf '{end} b\\n'; head -c 40000 /dev/zero | tr '\\0' 'z'; \
         echo ' token={SECRET}'; echo 'last token={SECRET}' >&2; printf 'token={SECRET}'; exit 3"
    );
    let program = ["--", "sh", "-c", &script];
    service.start(&[&["--name", "web", "--redact", PATTERN, "--log", &log], &program[..]].concat());
    let stream = service.background(&["stream", "--since", "start", "--until-end", "web"]);
    wait::until("a line is there", SOON, || !service.output("web").is_empty());
    assert_eq!(service.output("web"), b"x ***\n", "the other one is not whole");
    fs::write(&gate, "").unwrap();
    service.until_state("web", "stopped");
    let z = "z".repeat(40000);
    let shown = String::from_utf8(service.output("web")).unwrap();
    let out = format!("a *** b\n{z} ***\n***");
    assert!(service.cli(&["output", "--stdout", "web"]).expect(0).stdout == out.as_bytes());
    assert_eq!(service.ok(&["output", "--stderr", "web"]), "x ***\nlast ***");
    let streamed = stream.end(SOON);
    wait::until("the log has it", SOON, || whole(&log).len() >= shown.len());
    let failing = ["--name", "hook", "--pre-start", "echo token=5ec2e75ec2e7 >&2; exit 1"];
    let failing = [&["start"], &failing[..], &["--redact", PATTERN, "--", "true"]].concat();
    let refused = service.cli(&failing);
    let probe = ["--ready-exec", "echo token=5ec2e75ec2e7 >&2; exit 1", "--ready-timeout", "1s"];
    let probing = [&["--name", "probe"], &probe[..], &["--redact", PATTERN, "--", "sleep", "60401"]].concat();
    service.start(&probing);
    service.until_state("probe", "stopped");
    service.start(
        &[
            &["--name", "json", "--redact", PATTERN, "--log", &json, "--log-format", "json"],
            &["--", "sh", "-c", "echo token=5ec2e75ec2e7"][..],
        ]
        .concat(),
    );
    wait::until("the log has it", SOON, || whole(&json).ends_with(b"}\n"));
    let mut texts = vec![shown, streamed.out(), refused.err(), refused.out()];
    for what in [
        &["why", "web"][..],
        &["why", "hook"],
        &["why", "probe"],
        &["status", "web"],
        &["status", "probe", "--json"],
        &["logs", "web"],
        &["logs", "--json", "web"],
        &["output", "--json", "web"],
        &["events"],
        &["events", "--json"],
    ] {
        let said = service.cli(what);
        texts.extend([said.out(), said.err()]);
    }
    assert!(texts.iter().all(|text| !text.contains(begin)), "{:?}", texts.iter().find(|t| t.contains(begin)));
    assert!(texts.iter().filter(|text| text.contains("***")).count() > 4);
    assert_eq!(holds_secret(Path::new(&logs)), None);
    assert!(!service.log().contains(SECRET));
}

#[test]
fn nothing_is_lost_or_seen_over_kills_of_the_engine() {
    const COUNT: u64 = 60_000;
    let service = Service::new();
    let log = service.scratch().file("numbers.log");
    let go = service.scratch().file("go");
    let script = format!(
        "until [ -e {go} ]; do sleep 0.02; done; seq 1 {COUNT} | while read -r n; do \
         printf '%s token={SECRET}%s' $n $n; echo \" end $n\"; done"
    );
    let options = ["--output-limit", "64k", "--log", &log, "--log-size", "1m", "--log-keep", "1000"];
    let program = ["--redact", PATTERN, "--", "sh", "-c", &script];
    service.start(&[&["--name", "numbers"], &options[..], &program[..]].concat());
    fs::write(&go, "").unwrap();
    for n in 1..=8 {
        wait::until("it writes on", LATER, || whole(&log).len() > n * 60_000);
        service.kill_engine_only();
    }
    service.until_state("numbers", "stopped");
    let last = format!("{COUNT} *** end {COUNT}\n");
    wait::until("the last line is there", LATER, || whole(&log).ends_with(last.as_bytes()));
    let text = String::from_utf8(whole(&log)).unwrap();
    let wrong = text.lines().zip(1..).find(|(line, n)| *line != format!("{n} *** end {n}"));
    assert!(wrong.is_none() && text.lines().count() as u64 == COUNT, "{wrong:?}");
}

#[test]
fn patterns_are_checked_changed_and_added_to_those_of_all() {
    let service = Service::new();
    let bad = service.cli(&["start", "--redact", "a(b", "--", "true"]);
    let said = bad.expect(2).err();
    assert!(said.contains("the pattern 'a(b' is no regular expression: unclosed group"), "{said}");
    let config = service.scratch().file("redact.toml");
    let go = service.scratch().file("go");
    let script =
        format!("for n in 1 2 3; do echo one$n two$n; until [ -e {go}$n ]; do sleep 0.02; done; done");
    let declared = |all: &str, own: &str| {
        format!(
            "[defaults]\nredact = ['{all}']\n[process.web]\ncommand = ['sh', '-c', '{script}']\nredact = ['{own}']\n\
             ready_line = 'two'\n"
        )
    };
    fs::write(&config, declared("one[0-9]", "two(")).unwrap();
    let refused = service.cli(&["apply", "--yes", &config]);
    let said = refused.expect(2).err();
    assert!(said.contains("redact.toml', line 5") && said.contains("unclosed group"), "{said}");
    fs::write(&config, declared("one[0-9]", "wo[0-9]")).unwrap();
    service.ok(&["apply", "--yes", &config]);
    wait::until("a line is there", SOON, || !service.output("web").is_empty());
    assert_eq!(service.output("web"), b"*** t***\n");
    let before = service.pid("web");
    service.ok(&["update", "web", "--redact", "two[0-9]"]);
    fs::write(format!("{go}1"), "").unwrap();
    wait::until("another line is there", SOON, || service.output("web").ends_with(b"one2 ***\n"));
    assert_eq!(service.pid("web"), before, "it runs on");
    service.ok(&["apply", "--yes", &config]);
    fs::write(format!("{go}2"), "").unwrap();
    wait::until("the last line is there", SOON, || service.output("web").ends_with(b"one2 ***\n*** t***\n"));
}

/// A kill before each system call by which a line comes in: the next engine finds it wherever it is then.
#[test]
fn nothing_is_lost_or_doubled_at_any_step_of_a_line() {
    let service = Service::new();
    let fifo = parrot(&service, "web", &["--redact", PATTERN]);
    let steps =
        ["lseek", "splice", "pwrite64", "pread64"].into_iter().flat_map(|call| [(call, 1), (call, 2)]);
    let more = [("pwrite64", 3), ("pwrite64", 4), ("pwrite64", 5), ("pread64", 3)];
    let (mut expected, mut killed) = (String::new(), 0);
    for (n, (call, nth)) in steps.chain(more).enumerate() {
        let old = service.engine_pid();
        let strace = kill_at(&service, call, nth);
        // The end of the last line, and the begin of the next.
        fs::write(&fifo, format!("{n} token={SECRET} end\nbegin of ")).unwrap();
        expected.push_str(&format!("{n} *** end\n"));
        wait::until(&format!("it comes with {call} number {nth}"), LATER, || {
            service.output("web").len() >= expected.len()
        });
        drop(strace);
        assert_eq!(String::from_utf8(service.output("web")).unwrap(), expected, "{call} number {nth}");
        killed += u32::from(service.engine_pid() != old);
        expected.push_str("begin of ");
    }
    assert!(killed >= 6, "{killed} engines were killed");
}

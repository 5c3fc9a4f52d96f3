//! Processes that the kernel lets reach only what they are said to need.

use std::fs;

use crate::harness::{Options, Service};

/// What a program of the system needs to begin.
const SYSTEM: [&str; 8] = [
    "--landlock-read",
    "/usr",
    "--landlock-read",
    "/bin",
    "--landlock-read",
    "/lib",
    "--landlock-read",
    "/lib64",
];

fn run<'a>(more: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    [&["run"], &SYSTEM[..], more, &["--"], command].concat()
}

#[test]
fn a_confined_process_reaches_what_it_may_and_nothing_else() {
    let service = Service::new();
    let (open, closed) = (service.scratch().file("open"), service.scratch().file("closed"));
    for dir in [&open, &closed] {
        fs::create_dir(dir).expect("the directory is ours");
        fs::write(format!("{dir}/text"), "text\n").expect("the directory is ours");
    }
    let (of_open, of_closed) = (format!("{open}/text"), format!("{closed}/text"));
    let read = service.cli(&run(&["--landlock-read", &open], &["cat", &of_open]));
    assert_eq!(read.expect(0).out().trim(), "text");
    let refused = service.cli(&run(&["--landlock-read", &open], &["cat", &of_closed]));
    assert!(refused.expect(1).err().contains("ermission denied"), "{refused:?}");
    // To read is not to write, and to write in one place is not to write in another.
    let write = |file: &str| format!("echo more >> {file}");
    let reader = service.cli(&run(&["--landlock-read", &open], &["sh", "-c", &write(&of_open)]));
    assert_ne!(reader.code, 0, "{reader:?}");
    let writer = ["--landlock-write", open.as_str()];
    service.cli(&run(&writer, &["sh", "-c", &write(&of_open)])).expect(0);
    let making = format!("mkdir {open}/made && rm {of_open}");
    service.cli(&run(&writer, &["sh", "-c", &making])).expect(0);
    assert_ne!(service.cli(&run(&writer, &["sh", "-c", &write(&of_closed)])).code, 0);
    assert_eq!(fs::read_to_string(&of_closed).expect("it is there"), "text\n");
    // What it starts is confined like it, and gains no rights.
    let status = service.cli(&run(&["--landlock-read", "/proc"], &["sh", "-c", "cat /proc/self/status"]));
    assert!(status.expect(0).out().contains("NoNewPrivs:\t1"), "{status:?}");
}

#[test]
fn what_landlock_does_not_allow_cannot_even_begin_and_the_error_says_why() {
    let service = Service::new();
    let refused = service.cli(&["run", "--landlock-read", "/tmp", "--", "/bin/true"]);
    refused.expect(126);
    assert!(refused.err().contains("landlock has to allow it"), "{refused:?}");
    let missing = service.cli(&run(&["--landlock-read", "/no/such"], &["true"]));
    missing.expect(125);
    assert!(missing.err().contains("landlock cannot allow '/no/such'"), "{missing:?}");
    service.cli(&["start", "--landlock-read", "usr", "--", "true"]).expect(2);
    service.cli(&["start", "--landlock-optional", "--", "true"]).expect(2);
    // With a definition that stays, also for the next engine.
    let mut args = vec!["--name", "confined"];
    args.extend(SYSTEM);
    args.extend(["--", "sleep", "71600"]);
    service.start(&args);
    service.kill_engine();
    service.ok(&["restart", "confined"]);
    let shown = service.ok(&["show", "confined"]);
    assert!(shown.contains("landlock_read = [\"/usr\", \"/bin\", \"/lib\", \"/lib64\"]"), "{shown}");
}

#[test]
fn a_kernel_without_landlock_refuses_unless_it_is_optional() {
    let inject = "inject=landlock_create_ruleset:error=ENOSYS";
    let strace = ["strace", "-f", "-o", "/dev/null", "-e", "trace=landlock_create_ruleset", "-e", inject];
    let service = Options::new().through(&strace).start();
    let refused = service.cli(&run(&[], &["true"]));
    refused.expect(125);
    assert!(refused.err().contains("this kernel has no landlock"), "{refused:?}");
    service.cli(&run(&["--landlock-optional"], &["true"])).expect(0);
    service.cli(&["run", "--", "true"]).expect(0);
}

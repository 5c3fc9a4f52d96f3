//! Programs that have to be certain files: what was compared is what is executed, whatever happens to the
//! path meanwhile.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::json;

use crate::h_providers::Hosting;
use crate::harness::{LATER, Options, SOON, Service, cli, fixture, procfs, rounds, wait};

/// As another program sees it.
fn sha256(path: &str) -> String {
    let mut command = Command::new("sha256sum");
    command.arg(path);
    let line = cli::run(command, LATER).expect(0).out();
    line.split(' ').next().expect("the digits are the first word").to_owned()
}

/// Exchanges what is at the path, as fast as it goes, as long as the work lasts.
fn while_exchanged(path: &str, put: impl Fn(bool) + Sync, work: impl FnOnce()) {
    let (is_over, times) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                put(times.fetch_add(1, Ordering::Relaxed).is_multiple_of(2));
            }
        });
        wait::until("it is exchanged", SOON, || times.load(Ordering::Relaxed) > 10);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(Path::new(path).exists());
}

/// Runs what is at `path`, which is now one program, now another, with the pin of the first, which succeeds.
fn runs_only_the_pinned_one(service: &Service, path: &str, pin: &str) {
    let (mut ran, mut refused) = (0, 0);
    for _ in 0..rounds(150) {
        let run = service.cli(&["run", "--sha256", pin, "--", path]);
        match run.code {
            0 => ran += 1,
            // As always with what could not be started.
            125 => {
                assert!(run.err().contains(pin) && run.err().contains("as pinned"), "{run:?}");
                refused += 1;
            }
            _ => panic!("something else ran: {run:?}"),
        }
    }
    assert!(ran > 0 && refused > 0, "{ran} ran, {refused} were refused");
}

#[test]
fn h16_what_is_exchanged_after_it_was_compared_is_not_executed() {
    let service = Service::new();
    let path = service.scratch().file("program");
    let staged = |name: &str| format!("{path}.{name}");
    let put = |is_good: bool| {
        let from = if is_good { "/bin/true" } else { "/bin/false" };
        let new = staged("new");
        let _ = fs::remove_file(&new);
        fs::hard_link(staged(if is_good { "true" } else { "false" }), &new)
            .and_then(|()| fs::rename(&new, &path))
            .unwrap_or_else(|e| panic!("{from}: {e}"));
    };
    fs::copy("/bin/true", staged("true")).expect("the directory is ours");
    fs::copy("/bin/false", staged("false")).expect("the directory is ours");
    let pin = sha256("/bin/true");
    while_exchanged(&path, put, || runs_only_the_pinned_one(&service, &path, &pin));
    service.expect_no_zombies();
}

#[test]
fn h16_a_link_that_leads_elsewhere_meanwhile_is_not_followed_again() {
    let service = Options::new().without_cgroups().start();
    let path = service.scratch().file("program");
    let put = |is_good: bool| {
        let new = format!("{path}.new");
        let _ = fs::remove_file(&new);
        symlink(if is_good { "/bin/true" } else { "/bin/false" }, &new)
            .and_then(|()| fs::rename(&new, &path))
            .expect("the directory is ours");
    };
    let pin = sha256("/bin/true");
    while_exchanged(&path, put, || runs_only_the_pinned_one(&service, &path, &pin));
}

#[test]
fn h16_a_pinned_process_is_compared_at_each_run_and_runs_as_any_other() {
    let service = Service::new();
    let path = service.scratch().file("nap");
    fs::copy("/bin/sleep", &path).expect("the directory is ours");
    let pin = sha256(&path);
    let id = service.start(&["--sha256", &pin, "--", &path, "71500"]);
    let pid = service.pid(&id);
    assert_eq!(procfs::command(pid), format!("{path} 71500"));
    let exe = fs::read_link(format!("/proc/{pid}/exe")).expect("it runs");
    assert_eq!(exe.to_str(), Some(path.as_str()));
    let others = procfs::fds(pid).into_iter().filter(|fd| fd.contains(&path)).count();
    assert_eq!(others, 0, "the program does not have itself open");
    service.kill_engine();
    service.ok(&["restart", &id]);
    let pid = service.pid(&id);
    // Exchanged while it runs: the run goes on, and the next one is refused.
    fs::rename(&path, format!("{path}.old")).expect("the directory is ours");
    fs::copy("/bin/true", &path).expect("the directory is ours");
    assert!(procfs::alive(pid));
    let refused = service.cli(&["restart", &id]);
    refused.expect(6);
    assert!(refused.err().contains(&pin) && refused.err().contains(&sha256("/bin/true")), "{refused:?}");
    // What is not at a path cannot be told from anything else of that name.
    service.cli(&["start", "--sha256", &pin, "--", "sleep", "1"]).expect(2);
    service.cli(&["start", "--sha256", "abc", "--", &path]).expect(2);
    let missing = service.cli(&["start", "--sha256", &pin, "--", "/no/such"]);
    assert!(missing.err().contains("there is no program '/no/such'"), "{missing:?}");
}

#[test]
fn h15_h16_a_provider_that_was_exchanged_is_not_executed() {
    let hosting = Hosting::start();
    let path = format!("{}/providers/pinned", hosting.0.state_dir());
    fs::copy(fixture("rude"), &path).expect("the state is ours");
    let pin = sha256(&path);
    hosting.ok(&["start", "pinned", "--binary", "pinned", "--sha256", &pin]);
    let pid = hosting.pid("pinned");
    assert_eq!(procfs::command(pid), path);
    // Another one comes in its place while it runs; the present one goes on.
    let other = hosting.script("other", "exit 0");
    fs::rename(&other, &path).expect("the state is ours");
    assert_eq!(hosting.pid("pinned"), pid);
    let refused = hosting.cli(&["replace", "pinned"]);
    refused.expect(6);
    assert!(refused.err().contains(&pin) && refused.err().contains(&sha256(&path)), "{refused:?}");
    assert_eq!(hosting.pid("pinned"), pid, "what could not be replaced goes on");
    procfs::signal("KILL", pid);
    wait::until("it has gone", SOON, || !Path::new(&format!("/proc/{pid}")).exists());
    let refused = hosting.cli(&["fetch", "pinned", "pid", "--json"]);
    refused.expect(6);
    let error = &refused.json()[0]["error"];
    assert_eq!(error["reason"], "pin_mismatch");
    let message = error["message"].as_str().expect("it is text");
    assert!(message.contains(&pin) && message.contains(&sha256(&path)), "{message}");
    assert_eq!(hosting.state("pinned"), "idle");
}

#[test]
fn h15_h18_a_pin_covers_a_script_and_its_interpreter_is_checked() {
    let hosting = Hosting::start();
    let path = hosting.script("script", &format!("exec {} fine", fixture("rude")));
    let pin = sha256(&path);
    hosting.ok(&["start", "script", "--binary", "script", "--sha256", &pin]);
    assert_eq!(hosting.fetch("script", &["inits"]), json!(1));
    hosting.ok(&["stop", "script"]);
    let text = fs::read_to_string(&path).expect("the state is ours");
    fs::write(&path, format!("{text}# changed\n")).expect("the state is ours");
    assert_eq!(hosting.reason(6, &["fetch", "script", "inits"]), "pin_mismatch");
    // What executes it is of it.
    let shell = hosting.0.scratch().file("sh");
    fs::copy("/bin/sh", &shell).expect("the directory is ours");
    fs::write(&path, text.replace("#!/bin/sh", &format!("#!{shell}"))).expect("the state is ours");
    hosting.start_alias("own-shell", "script");
    hosting.ok(&["stop", "own-shell"]);
    let mode = |mode| fs::set_permissions(&shell, std::os::unix::fs::PermissionsExt::from_mode(mode));
    mode(0o757).expect("it is ours");
    let refused = hosting.cli(&["fetch", "own-shell", "inits"]);
    refused.expect(6);
    assert!(refused.err().contains(&format!("'{shell}' is not safe to execute")), "{refused:?}");
}

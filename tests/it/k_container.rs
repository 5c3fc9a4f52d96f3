//! As the first process of a container: it reaps what nobody else is the parent of, and takes that for
//! nobody's death.

use std::process::Command;

use crate::harness::cli::{self, Running};
use crate::harness::{LATER, SOON, Scratch, binary, procfs, wait};

#[test]
fn an_unknown_process_that_pid_1_reaps_is_nobodys_death() {
    let scratch = Scratch::new();
    let socket = scratch.file("engine.sock");
    let serve =
        "exec unshare --pid --fork --kill-child --mount-proc \"$0\" serve --socket \"$1\" --state none 2>&1";
    let mut container = Command::new("sh");
    container.args(["-c", serve]).arg(binary()).arg(&socket);
    let container = Running::new(container);
    assert!(container.line_with("ready on", LATER).contains("keeper pid 1)"));
    let first =
        wait::until_some("it has a child", SOON, || Some(procfs::children(container.pid()).first()?.pid));
    let provost = |args: &[&str]| {
        let mut command = Command::new(binary());
        command.args(args).env("PROVOST_SOCKET", &socket);
        cli::run(command, LATER)
    };
    provost(&["start", "--name", "web", "--restart", "always", "--", "sleep", "72301"]).expect(0);
    let before = provost(&["status", "--json", "web"]).expect(0).json().remove(0);
    // Somebody else of the same container leaves orphans, who come to pid 1 and end there.
    let orphans = "for n in 1 2 3 4 5; do (sleep 0.0$n; exit $n) & done";
    let mut stranger = Command::new("nsenter");
    stranger.args(["--target", &first.to_string(), "--pid", "--mount", "sh", "-c", orphans]);
    cli::run(stranger, SOON).expect(0);
    wait::until("all are reaped", SOON, || {
        // The engine and the process are left.
        let children = procfs::children(first);
        children.len() == 2 && children.iter().all(|child| child.state != 'Z')
    });
    let after = provost(&["status", "--json", "web"]).expect(0).json().remove(0);
    assert_eq!(
        (&after["pid"], &after["run"], &after["state"]),
        (&before["pid"], &1.into(), &"running".into())
    );
    let events = provost(&["events", "--json", "--since", "1"]).expect(0).json();
    assert!(events.iter().all(|e| e["kind"] != "exited" && e["kind"] != "lost"), "{events:?}");
    // The end of pid 1 is the end of the container, in good order.
    procfs::signal("TERM", first);
    assert_eq!(container.end(LATER).code, 0);
    assert!(procfs::with_command("sleep 72301").is_empty());
}

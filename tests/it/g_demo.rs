//! The first steps over gRPC, as somebody makes them who has just cloned the repository and read its README:
//! `provost cert init`, `provost serve --config packaging/demo.toml`, `docs/client.py`.

use std::process::Command;

use crate::g_clients::installed;
use crate::harness::{LATER, Scratch, cli, free_port, open_binary};

/// In a world of its own, which ends with it. PORT is another than in the file, which the machine may use for
/// itself.
const STEPS: &str = r#"
    sed -i "s/127.0.0.1:7443/127.0.0.1:$PORT/" packaging/demo.toml
    $AS "$PROVOST" cert init
    $AS "$PROVOST" serve --config packaging/demo.toml & serve=$!
    until $AS "$PROVOST" output provost.gateway 2>&1 | grep 'gRPC is ready'; do sleep 0.05; done
    "$PYTHON" docs/client.py --host "localhost:$PORT" $CERTS -- sh -c 'echo hello; exit 4'
    $AS "$PROVOST" list
    kill -TERM $serve; wait $serve; echo "end $?"
"#;

/// Takes the steps in a clone, after some preparation, and expects what a reader of the README does.
#[track_caller]
fn take_the_steps(prepare: &str, variables: &[(&str, &str)]) {
    let scratch = Scratch::new();
    let provost = open_binary(&scratch);
    let clone = scratch.file("clone");
    std::fs::create_dir(&clone).expect("the directory is ours");
    let mut copy = Command::new("cp");
    copy.args(["-R", "docs", "packaging", "proto", &clone]).current_dir(env!("CARGO_MANIFEST_DIR"));
    cli::run(copy, LATER).expect(0);
    let mut steps = Command::new("unshare");
    steps.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-ec"]);
    steps.arg(format!("{prepare}{STEPS}")).current_dir(&clone);
    steps.env("PROVOST", provost).env("PYTHON", installed("python/bin/python"));
    steps.env("PORT", free_port().to_string()).env("HOME", scratch.path());
    for name in ["PROVOST_SOCKET", "PROVOST_PASSWORD", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"] {
        steps.env_remove(name);
    }
    steps.envs(variables.iter().copied());
    let ended = cli::run(steps, LATER);
    ended.expect(0);
    let (out, err) = (ended.out(), ended.err());
    assert!(out.contains("client.pem"), "cert init tells what it made: {ended:?}");
    assert!(out.contains("\nhello\n") && out.ends_with("end 0"), "{ended:?}");
    assert!(err.contains("started ") && err.contains("ended: exit_code: 4"), "{ended:?}");
}

#[test]
fn three_commands_as_root() {
    // What root's service keeps is not to meet what this machine may have of it.
    take_the_steps("mount -t tmpfs none /var/lib; mount -t tmpfs none /run;", &[]);
}

#[test]
fn three_commands_as_an_ordinary_user() {
    let prepare = "install -d -o 65534 -m 700 \"$HOME/nobody\" \"$HOME/nobody/run\"\n\
                   export HOME=\"$HOME/nobody\" XDG_RUNTIME_DIR=\"$HOME/nobody/run\"\n\
                   CERTS=\"--certs $HOME/.local/state/provost/certs\"\n";
    take_the_steps(prepare, &[("AS", "setpriv --reuid 65534 --regid 65534 --clear-groups --")]);
}

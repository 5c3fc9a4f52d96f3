//! A service at a place and in circumstances of the test's own: another user, another umask, something in its
//! way.

use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use crate::harness::{LATER, Output, Running, SOON, Scratch, binary, cli, wait};

/// The user that may nothing.
const NOBODY: u32 = 65534;

/// A service that was started by hand. Ended with [`Bare::end`]; dropped before that, it is killed.
pub struct Bare {
    running: Running,
    socket: String,
    scratch: Scratch,
}

/// `serve` at this place, started through these words.
pub fn serve(through: &[&str], socket: &str) -> Command {
    let binary = binary().to_str().expect("the path is text");
    let state = format!("{socket}.state");
    let args = [through, &[binary, "serve", "--socket", socket, "--state", &state]].concat();
    let mut command = Command::new(args[0]);
    command.args(&args[1..]).env_remove("PROVOST_SOCKET").current_dir("/");
    command
}

/// A command as nobody: run by a user to whom everything is closed that is not open to all.
pub fn as_nobody(binary: &str, socket: &str, args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--", binary])
        .args(args)
        .env("PROVOST_SOCKET", socket)
        .current_dir("/");
    command
}

/// A copy of the binary that everybody may execute, wherever the original lies.
pub fn open_binary(scratch: &Scratch) -> String {
    let copy = scratch.file("provost");
    std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).expect("it is ours");
    let mut install = Command::new("install");
    install.args(["-m", "755"]).arg(binary()).arg(&copy);
    cli::run(install, LATER).expect(0);
    copy
}

impl Bare {
    /// Starts it, and waits until it is ready.
    #[track_caller]
    pub fn start(scratch: Scratch, socket: &str, command: Command) -> Self {
        let running = Running::new(command);
        let ready =
            wait::holds_within(SOON, || running.stderr_text().contains("ready on ") || !running.is_running());
        assert!(ready && running.is_running(), "not ready: {}", running.stderr_text());
        Self { running, socket: socket.to_owned(), scratch }
    }

    /// A service of the user nobody.
    #[track_caller]
    pub fn of_nobody() -> Self {
        let scratch = Scratch::new();
        let binary = open_binary(&scratch);
        chown(scratch.path(), Some(NOBODY), Some(NOBODY)).expect("tests run as root");
        let socket = scratch.file("engine.sock");
        let command = as_nobody(
            &binary,
            &socket,
            &["serve", "--socket", &socket, "--state", &format!("{socket}.state")],
        );
        Self::start(scratch, &socket, command)
    }

    /// The keeper.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What it said on standard error.
    pub fn log(&self) -> String {
        self.running.stderr_text()
    }

    /// Runs a command for it.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(args).env("PROVOST_SOCKET", &self.socket);
        cli::run(command, LATER)
    }

    /// Runs a command for it as nobody.
    #[track_caller]
    pub fn cli_as_nobody(&self, args: &[&str]) -> Output {
        cli::run(as_nobody(&self.scratch.file("provost"), &self.socket, args), LATER)
    }

    /// Ends it in order.
    #[track_caller]
    pub fn end(self) {
        self.running.signal("TERM");
        self.running.end(SOON).expect(0);
    }
}

//! How a test wants its service.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use crate::harness::{LATER, Scratch, Service, binary, cli};

/// The user that may nothing.
const NOBODY: u32 = 65534;
/// How a command becomes that user, who is in no group.
const AS_NOBODY: [&str; 7] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];

/// How the service is to be started. [`Service::new`] is enough for most tests.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(in crate::harness) serve: Vec<String>,
    pub(in crate::harness) wrap: Vec<String>,
    pub(in crate::harness) alone: bool,
    pub(in crate::harness) socket: Option<String>,
    nobody: bool,
}

impl Options {
    /// As by default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without a cgroup for each process: the tree is found by groups, sessions and markers.
    pub fn without_cgroups(mut self) -> Self {
        self.serve.extend(["--cgroups".to_owned(), "off".to_owned()]);
        self
    }

    /// Started through another program: `prlimit --nofile=64`, `strace -f ...`. It must end when the keeper
    /// ends.
    pub fn through(mut self, args: &[&str]) -> Self {
        self.wrap = args.iter().map(|&w| w.to_owned()).collect();
        self
    }

    /// While no other test's service runs: for tests that measure time.
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// On this socket, in a directory that is the test's to make and to look into.
    pub fn at(mut self, socket: &str) -> Self {
        self.socket = Some(socket.to_owned());
        self
    }

    /// As a service of the user nobody, who also owns the service's directory.
    pub fn of_nobody(mut self) -> Self {
        self.nobody = true;
        self
    }

    pub(in crate::harness) fn is_of_nobody(&self) -> bool {
        self.nobody
    }

    /// With more arguments of `provost serve`, as `--config FILE`.
    pub fn serve(mut self, args: &[&str]) -> Self {
        self.serve.extend(args.iter().map(|&w| w.to_owned()));
        self
    }

    /// Starts it.
    #[track_caller]
    pub fn start(self) -> Service {
        Service::with(self)
    }

    /// Gives the directory of the service to its user.
    pub(in crate::harness) fn prepare(&self, scratch: &Scratch) {
        if self.nobody {
            open_binary(scratch);
            chown(scratch.path(), Some(NOBODY), Some(NOBODY)).expect("tests run as root");
        }
    }

    /// The command that serves, with a variable by which its processes are known.
    pub(in crate::harness) fn command(
        &self,
        scratch: &Scratch,
        socket: &str,
        state: &str,
        marker: (&str, &str),
    ) -> Command {
        let mut args = self.wrap.clone();
        if self.nobody {
            args.extend(AS_NOBODY.map(str::to_owned));
            args.push(scratch.file(OPEN_BINARY));
        } else {
            args.push(binary().to_str().expect("the path is text").to_owned());
        }
        args.extend(["serve", "--socket", socket].map(str::to_owned));
        if !self.serve.iter().any(|name| name == "--state") {
            args.extend(["--state".to_owned(), state.to_owned()]);
        }
        let is_off = std::env::var("PROVOST_TEST_CGROUPS").is_ok_and(|when| when == "off");
        if is_off && !self.serve.iter().any(|name| name == "--cgroups") {
            args.extend(["--cgroups", "off"].map(str::to_owned));
        }
        args.extend(self.serve.iter().cloned());
        let mut command = Command::new(&args[0]);
        command.args(&args[1..]).env_remove("PROVOST_SOCKET").env(marker.0, marker.1).current_dir("/");
        command
    }
}

/// What the copy for all users is called.
pub(in crate::harness) const OPEN_BINARY: &str = "provost";

/// A copy of the binary that every user may execute, wherever the original lies. Its path.
#[track_caller]
pub fn open_binary(scratch: &Scratch) -> String {
    let copy = scratch.file(OPEN_BINARY);
    fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).expect("it is ours");
    let mut install = Command::new("install");
    install.args(["-m", "755"]).arg(binary()).arg(&copy);
    cli::run(install, LATER).expect(0);
    copy
}

/// A command of the user nobody, to whom everything is closed that is not open to all. `binary` is one that
/// all may execute.
pub fn as_nobody(binary: &str, socket: &str, args: &[&str]) -> Command {
    let mut command = Command::new(AS_NOBODY[0]);
    command.args(&AS_NOBODY[1..]).arg(binary).args(args);
    command.env("PROVOST_SOCKET", socket).current_dir("/");
    command
}

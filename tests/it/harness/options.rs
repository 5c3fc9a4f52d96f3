//! How a test wants its service.

use std::process::Command;

use crate::harness::{Service, binary};

/// How the service is to be started. [`Service::new`] is enough for most tests.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(in crate::harness) serve: Vec<String>,
    pub(in crate::harness) wrap: Vec<String>,
    pub(in crate::harness) alone: bool,
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

    pub(in crate::harness) fn command(&self, socket: &str, state: &str, marker: (&str, &str)) -> Command {
        let mut args = self.wrap.clone();
        args.push(binary().to_str().expect("the path is text").to_owned());
        args.extend(["serve", "--socket", socket].map(str::to_owned));
        if !self.serve.iter().any(|name| name == "--state") {
            args.extend(["--state".to_owned(), state.to_owned()]);
        }
        args.extend(self.serve.iter().cloned());
        let mut command = Command::new(&args[0]);
        command.args(&args[1..]).env_remove("PROVOST_SOCKET").env(marker.0, marker.1).current_dir("/");
        command
    }
}

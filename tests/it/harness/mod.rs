//! A service for one test: its own directory, its own keeper and engine, its own marker in the environment of
//! every child. Ends with the test, and then checks that nothing was left: no zombie, no process, no panic.
//! The directory of a test that failed stays and its path is printed.
//!
//! Nothing here sleeps. What can be waited for is waited for (`provost wait`, `provost stream`, the end of a
//! command); the rest goes through [`wait::until`], which has a deadline and says what it waited for.

pub mod cli;
pub mod gateway;
pub mod procfs;
pub mod scratch;
pub mod vm;
pub mod wait;

mod options;
mod registry;
mod service;
mod sound;

pub use cli::{Output, Running};
pub use gateway::Gateway;
pub use options::{Options, as_nobody, open_binary};
pub use registry::Registry;
pub use scratch::Scratch;
pub use service::Service;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where waiting ends that should take no time at all: generous, since the machine may be busy with other
/// tests.
pub const SOON: Duration = Duration::from_secs(20);
/// Where waiting ends for work that takes a while.
pub const LATER: Duration = Duration::from_secs(120);

/// The binary under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_provost"))
}

/// In front of a program: it has neither mark, that of the environment nor that of a limit.
pub const UNMARKED: [&str; 4] = ["prlimit", "--locks=unlimited", "env", "-i"];
/// The same for a shell.
pub const UNMARKED_SH: &str = "prlimit --locks=unlimited env -i";

/// Ignores SIGTERM, and so does all it starts. It says `up` when it does.
pub const STUBBORN: &str = "trap '' TERM; echo up; while :; do sleep 1; done";

/// `serve` on this socket, beside the harness: for tests in which it does not come up, or not alone.
pub fn serve(socket: &str) -> Command {
    let mut command = Command::new(binary());
    command.args(["serve", "--socket", socket, "--state", &format!("{socket}.state")]);
    command.env_remove("PROVOST_SOCKET").current_dir("/");
    command
}

/// A program of `tests/fixtures`, as text for a command line.
pub fn fixture(name: &str) -> String {
    let dir = binary().parent().expect("the binary is in a directory").join("examples");
    let path: PathBuf = dir.join(format!("fixture-{name}"));
    assert!(
        path.exists(),
        "{} is not built: run 'cargo test' without --test, or 'cargo build --examples' first",
        path.display()
    );
    path.to_str().expect("the target directory's path is text").to_owned()
}

/// A port that nobody listens at just now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback is up");
    listener.local_addr().expect("it is bound").port()
}

/// How many rounds a repeated test makes: `usual`, multiplied by the variable PROVOST_TEST_ROUNDS where it is
/// set.
pub fn rounds(usual: u32) -> u32 {
    let factor = std::env::var("PROVOST_TEST_ROUNDS").ok().and_then(|text| text.parse::<f64>().ok());
    (f64::from(usual) * factor.unwrap_or(1.0)).ceil().max(1.0) as u32
}

/// Pseudo-random numbers, the same for the same seed: xorshift64*.
pub struct Random(u64);

impl Random {
    /// A sequence that differs from run to run; the seed is printed so that a failure can be played again
    /// with PROVOST_TEST_SEED.
    pub fn new() -> Self {
        let given = std::env::var("PROVOST_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |d| d.as_nanos() as u64)
        });
        println!("PROVOST_TEST_SEED={seed}");
        Self::seeded(seed)
    }

    /// The sequence of this seed.
    pub fn seeded(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next one, below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % limit
    }
}

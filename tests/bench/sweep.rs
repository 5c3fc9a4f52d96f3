//! Cleaning up whatever happens. A program of its own holds the other end of a pipe; when the benchmark ends
//! in any way (done, failed, ctrl-c, killed), the pipe closes, and everything that carries the run's mark in
//! its environment is killed, and the run's directory removed.

use std::env;
use std::fs;
use std::io::{Read, stdin};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::time::Duration;

use crate::host;
use crate::sample::{Outcome, pass};

/// The variable that marks what a run has started: its value is the run's directory, or a path below it.
pub const MARK: &str = "PROVOST_BENCH";
/// How long those that are asked to end are given for it.
const ASKED: Duration = Duration::from_secs(2);
/// How often it is looked for what is left. Each round kills all it finds; only what starts others meanwhile
/// survives.
const ROUNDS_MAX: u32 = 200;

/// The run's directory, and the program that cleans up after it.
pub struct Sweeper {
    dir: PathBuf,
    program: Child,
}

impl Sweeper {
    pub fn new() -> Outcome<Self> {
        let dir = env::temp_dir().join(format!("provost-bench-{}", id()));
        let private = |dir: &Path| fs::DirBuilder::new().mode(0o700).create(dir);
        private(&dir)?;
        // Without one, all is in the one directory.
        let _ = private(&in_memory(&dir));
        let program = Command::new(env::current_exe()?)
            .arg("sweep")
            .arg(&dir)
            .stdin(Stdio::piped())
            // A ctrl-c at the terminal is for the benchmark alone.
            .process_group(0)
            .spawn()?;
        Ok(Self { dir, program })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.program.stdin.take());
        let _ = self.program.wait();
    }
}

/// The program: waits for the end of the benchmark.
pub fn sweep(dir: &str) -> Outcome {
    let _ = stdin().read_to_end(&mut Vec::new());
    // Asked first, so that a service takes its cgroups away with it.
    if signal_marked("-TERM", dir)? > 0 {
        pass(ASKED);
    }
    kill_marked(dir)?;
    let _ = fs::remove_dir_all(in_memory(dir.as_ref()));
    Ok(fs::remove_dir_all(dir)?)
}

/// The directory in memory that belongs to this one of the run: as where services have their sockets, and
/// what lies beside them, it needs no disk. Programs may not be executed there.
pub fn in_memory(dir: &Path) -> PathBuf {
    let name = dir.strip_prefix(env::temp_dir()).unwrap_or(dir);
    Path::new("/dev/shm").join(name)
}

/// Kills everything whose mark begins so, until nothing is left of it.
pub fn kill_marked(mark: &str) -> Outcome {
    for _ in 0..ROUNDS_MAX {
        if signal_marked("-KILL", mark)? == 0 {
            return Ok(());
        }
        pass(Duration::from_millis(20));
    }
    Err(format!("something with {MARK}={mark} in its environment does not end").into())
}

/// Sends a signal to everything whose mark begins so, and returns how many that were.
fn signal_marked(signal: &str, mark: &str) -> Outcome<usize> {
    let pids: Vec<String> = host::marked(MARK, mark).iter().map(u32::to_string).collect();
    if !pids.is_empty() {
        // Some may be gone by now, which is what was wanted.
        let _ = Command::new("kill").arg(signal).args(&pids).stderr(Stdio::null()).status()?;
    }
    Ok(pids.len())
}

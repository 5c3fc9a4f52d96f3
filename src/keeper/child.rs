//! The child's side of a spawn, from fork to exec. It runs in a copy of the keeper, which has one thread, so it may
//! allocate; everything it needs was resolved by the engine and lies in the process's memory. The first step that fails
//! is written there with its errno; the pipe that closes at the exec only says that there is something to look at.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use crate::sys::memory::{PAGE, Window};
use crate::sys::{child, errno, limits, signal};
use crate::wire::keeper::{FAILURE_AT, Failure, Place, Step};
use crate::wire::record::Launch;

/// What the keeper hands to its child beside its own state.
#[derive(Debug)]
pub struct Birth<'a> {
    pub memory: &'a File,
    pub launch: Place,
    pub run: u64,
    pub stdin: &'a File,
    pub stdout: File,
    pub stderr: File,
    /// The soft limit of descriptors that the service was started with: the keeper has raised its own.
    pub nofile: (u64, u64),
}

type Failed = (Step, io::Error);

/// Becomes the program, or records why not and ends.
pub fn run(birth: &Birth<'_>) -> ! {
    // Mapped before any limit of the child's holds: a limit of file sizes would forbid to write the reason.
    let page = Window::map(birth.memory, PAGE);
    let (step, error) = match become_program(birth) {
        Ok(never) => match never {},
        Err(failed) => failed,
    };
    let errno = error.raw_os_error().unwrap_or(errno::EINVAL);
    // Without it the engine sees the exit code and no failure, and says that much.
    if let Ok(page) = page {
        page.write(FAILURE_AT, &Failure { run: birth.run, step, errno }.encode());
    }
    child::exit_now(127)
}

fn become_program(birth: &Birth<'_>) -> Result<std::convert::Infallible, Failed> {
    let at = |step: Step| move |e: io::Error| (step, e);
    child::setsid().map_err(at(Step::Session))?;
    for (fd, number) in [(birth.stdin, 0), (&birth.stdout, 1), (&birth.stderr, 2)] {
        child::dup_to(fd.as_fd(), number).map_err(at(Step::Descriptors))?;
    }
    child::close_on_exec_from(3).map_err(at(Step::Descriptors))?;
    let launch = read_launch(birth).map_err(at(Step::Memory))?;

    if let Some(mask) = launch.umask {
        child::umask(mask);
    }
    if let Some(nice) = launch.nice {
        child::set_nice(nice).map_err(at(Step::Nice))?;
    }
    if let Some(adj) = launch.oom_score_adj {
        fs::write("/proc/self/oom_score_adj", adj.to_string()).map_err(at(Step::OomScore))?;
    }
    if let Some(groups) = &launch.groups {
        child::set_groups(groups).map_err(at(Step::Groups))?;
    }
    // After everything that opens a file, before the rights to raise a limit are gone.
    set_limits(&launch, birth.nofile).map_err(at(Step::Limits))?;
    if let Some(gid) = launch.gid {
        child::set_gid(gid).map_err(at(Step::SetGid))?;
    }
    if let Some(uid) = launch.uid {
        child::set_uid(uid).map_err(at(Step::SetUid))?;
    }
    if launch.no_new_privs {
        child::set_no_new_privs().map_err(at(Step::NoNewPrivs))?;
    }
    std::env::set_current_dir(path(&launch.cwd)).map_err(at(Step::Chdir))?;
    signal::reset_all();
    Err((Step::Exec, exec(&launch)))
}

fn path(bytes: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt;
    std::path::Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn read_launch(birth: &Birth<'_>) -> io::Result<Launch> {
    let len = usize::try_from(birth.launch.len).map_err(|_| io::Error::from_raw_os_error(errno::E2BIG))?;
    let mut bytes = vec![0; len];
    birth.memory.read_exact_at(&mut bytes, birth.launch.offset)?;
    Launch::decode(&bytes).map_err(|_| io::Error::from_raw_os_error(errno::EINVAL))
}

fn set_limits(launch: &Launch, nofile: (u64, u64)) -> io::Result<()> {
    let number = limits::rlimit_number("nofile").expect("nofile is in the table");
    child::set_rlimit(number, nofile.0, nofile.1)?;
    launch.rlimits.iter().try_for_each(|&(resource, soft, hard)| child::set_rlimit(resource, soft, hard))
}

/// Tries each path as execvp(3) does: what is missing is skipped, and a refusal is remembered in case nothing better
/// comes.
fn exec(launch: &Launch) -> io::Error {
    let (argv, env): (child::Pointers, child::Pointers) =
        (launch.argv.iter().collect(), launch.env.iter().collect());
    let is_only = launch.candidates.count() == 1;
    let mut last = io::Error::from_raw_os_error(errno::ENOENT);
    let mut refused = false;
    for candidate in launch.candidates.iter() {
        let e = child::exec(candidate, &argv, &env);
        match e.raw_os_error() {
            Some(errno::ENOENT | errno::ENOTDIR) if !is_only => {
                if !refused {
                    last = e;
                }
            }
            Some(errno::EACCES) if !is_only => {
                last = e;
                refused = true;
            }
            _ => return e,
        }
    }
    last
}

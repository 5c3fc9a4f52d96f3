//! The child's side of a spawn, from fork to exec. It runs in a copy of the keeper, which has one thread, so
//! it may allocate, but does so for rare cases only; everything it needs was resolved by the engine and is
//! read in the process's memory. The first step that fails is written there with its errno; the pipe that
//! closes at the exec only says that there is something to look at.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::keeper::spawn_log::Expected;
use crate::keeper::spawn_slots::ChildFds;
use crate::sys::child::{self, Packed};
use crate::sys::memory::{PAGE, Window};
use crate::sys::{errno, landlock, limits, signal};
use crate::wire::keeper::{ByteRange, FAILURE_AT, Failure, Step};
use crate::wire::launch::Laid;

/// What the keeper hands to its child beside its own state.
#[derive(Clone, Copy, Debug)]
pub struct ChildSetup<'a> {
    pub fds: ChildFds<'a>,
    /// What it executes, if its launch says that it is given.
    pub program: Option<BorrowedFd<'a>>,
    pub launch: ByteRange,
    pub run: u64,
    /// Where it is put on record; none: it is not.
    pub spawn: Option<Expected<'a>>,
    pub stdin: &'a File,
    /// The soft limit of descriptors that the service was started with: the keeper has raised its own.
    pub nofile: (u64, u64),
    /// What the keeper ignores, and the child is not to.
    pub ignored: signal::Ignored,
}

/// The step, and its errno.
type Failed = (Step, i32);

/// The first act: whoever finds that the service is gone knows of this one from here on. Until then it holds
/// the lock of the service's place, as one of its descriptors.
pub fn record(setup: &ChildSetup<'_>) -> io::Result<()> {
    setup.spawn.map_or(Ok(()), |spawn| spawn.record())
}

/// Becomes the program, or records why not and ends.
pub fn run(setup: &ChildSetup<'_>) -> ! {
    // Mapped before any limit of the child's holds: a limit of file sizes would forbid to write the reason.
    let page = Window::map_known(setup.fds.memory, 0, PAGE);
    match become_program(setup) {
        Ok(never) => match never {},
        Err(failed) => end(setup, page, failed),
    }
}

/// Records that there is no record or are no descriptors of its own for it, and ends. Does nothing to those
/// that it sees.
pub fn refuse(setup: &ChildSetup<'_>, e: &io::Error) -> Infallible {
    let errno = e.raw_os_error().unwrap_or(errno::EINVAL);
    end(setup, Window::map_known(setup.fds.memory, 0, PAGE), (Step::Descriptors, errno))
}

fn end(setup: &ChildSetup<'_>, page: io::Result<Window>, (step, errno): Failed) -> ! {
    // Without it the engine sees the exit code and no failure, and says that much.
    if let Ok(page) = page {
        page.write(FAILURE_AT, &Failure { run: setup.run, step, errno }.encode());
    }
    child::exit_now(127)
}

fn become_program(setup: &ChildSetup<'_>) -> Result<Infallible, Failed> {
    let at = |step: Step| move |e: io::Error| (step, e.raw_os_error().unwrap_or(errno::EINVAL));
    child::setsid().map_err(at(Step::Session))?;
    let ChildFds { memory, stdout, stderr, until_exec } = setup.fds;
    for (fd, number) in [(setup.stdin.as_fd(), 0), (stdout, 1), (stderr, 2)] {
        child::dup_to(fd, number).map_err(at(Step::Descriptors))?;
    }
    // Read where it lies: what a child that was just forked touches, it has to fetch first.
    let len = usize::try_from(setup.launch.len).map_err(|_| (Step::Memory, errno::E2BIG))?;
    let mut window = Window::map_known(memory, setup.launch.offset, len).map_err(at(Step::Memory))?;
    // Not left to the exec, which may take its time: nothing of the keeper's, nor of another child's, is held
    // by it.
    child::close_all_but([until_exec, setup.program]).map_err(at(Step::Descriptors))?;
    let launch = Laid::find(window.as_bytes()).ok_or((Step::Memory, errno::EINVAL))?;
    if launch.merge_streams() {
        // Nobody has the other pipe then, and it ends.
        child::dup(1, 2).map_err(at(Step::Descriptors))?;
    }
    if launch.uid().is_some() {
        // A program may open them anew, as /dev/stdout. Where we may not give away, it has to do without.
        let _ = [1, 2].map(|number| child::give(number, launch.uid(), launch.gid()));
    }

    if launch.outlives() {
        [1, 2].into_iter().try_for_each(hold_open).map_err(at(Step::Descriptors))?;
    }

    if let Some(mask) = launch.umask() {
        child::umask(mask);
    }
    if let Some(nice) = launch.nice() {
        child::set_nice(nice).map_err(at(Step::Nice))?;
    }
    if let Some(adj) = launch.oom_score_adj() {
        fs::write("/proc/self/oom_score_adj", adj.to_string()).map_err(at(Step::OomScore))?;
    }
    if let Some(groups) = launch.groups() {
        child::set_groups(&groups).map_err(at(Step::Groups))?;
    }
    // After everything that opens a file, before the rights to raise a limit are gone.
    let nofile = [(limits::NOFILE, setup.nofile.0, setup.nofile.1)];
    for (resource, soft, hard) in nofile.into_iter().chain(launch.rlimits()) {
        child::set_rlimit(resource, soft, hard).map_err(at(Step::Limits))?;
    }
    if let Some(gid) = launch.gid() {
        child::set_gid(gid).map_err(at(Step::SetGid))?;
    }
    if let Some(uid) = launch.uid() {
        child::set_uid(uid).map_err(at(Step::SetUid))?;
    }
    if launch.no_new_privs() {
        child::set_no_new_privs().map_err(at(Step::NoNewPrivs))?;
    }
    let packed = |bytes| Packed::new(bytes).ok_or((Step::Memory, errno::EINVAL));
    let cwd = packed(launch.cwd)?.iter().next().ok_or((Step::Chdir, errno::ENOENT))?;
    child::chdir(cwd).map_err(at(Step::Chdir))?;
    confine(&launch).map_err(at(Step::Landlock))?;
    signal::reset(setup.ignored);
    let (argv, env) = (packed(launch.argv)?, packed(launch.env)?);
    Err((
        Step::Exec,
        match setup.program {
            Some(program) if launch.by_descriptor() => child::exec_file(program, argv, env),
            // It was given and has not come: no path stands for it.
            None if launch.by_descriptor() => errno::EBADF,
            Some(_) | None => exec(packed(launch.candidates)?, argv, env),
        },
    ))
}

/// Opens a pipe anew, to write and to read: as long as the child has it, nobody who writes dies of SIGPIPE,
/// and what is in it waits for whoever opens it next. It still ends when nobody is left who could write.
fn hold_open(number: i32) -> io::Result<()> {
    let both = File::options().read(true).write(true).open(format!("/proc/self/fd/{number}"))?;
    child::dup_to(both.as_fd(), number)
}

/// Leaves only those files in reach that the launch names, if it names any.
fn confine(launch: &Laid<'_>) -> io::Result<()> {
    if launch.readable.is_empty() && launch.writable.is_empty() {
        return Ok(());
    }
    // Else it could get them back by a program that gives more rights, and nobody but root may restrict so.
    child::set_no_new_privs()?;
    let packed = |bytes| Packed::new(bytes).ok_or(io::ErrorKind::InvalidData);
    match landlock::restrict(packed(launch.readable)?, packed(launch.writable)?) {
        Err(e) if launch.landlock_optional() && is_without(&e) => Ok(()),
        result => result,
    }
}

/// Whether the kernel cannot do it at all.
fn is_without(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(errno::ENOSYS | errno::EOPNOTSUPP))
}

/// Tries each path as execvp(3) does: what is missing is skipped, and a refusal is remembered in case nothing
/// better comes. Returns the errno that stands for all.
fn exec(candidates: Packed<'_>, argv: Packed<'_>, env: Packed<'_>) -> i32 {
    let is_only = candidates.iter().nth(1).is_none();
    let mut worst = errno::ENOENT;
    child::exec_first(candidates, argv, env, &mut |errno| match errno {
        errno::ENOENT | errno::ENOTDIR if !is_only => {
            if worst != errno::EACCES {
                worst = errno;
            }
            true
        }
        errno::EACCES if !is_only => {
            worst = errno;
            true
        }
        _ => {
            worst = errno;
            false
        }
    });
    worst
}

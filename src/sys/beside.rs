//! A child of an engine: a program that looks how a process is. Everything else is a child of the keeper.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use crate::sys::child;

/// Who the child becomes, and where it lives.
#[derive(Debug, Default)]
pub struct Place {
    /// `cgroup.procs` of its cgroup, opened for writing.
    pub procs: Option<File>,
    /// None: those of the engine, as for the next two.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub groups: Option<Vec<u32>>,
    pub no_new_privs: bool,
}

/// Starts the command in a session of its own, at this place. It ends with the thread that has started it.
pub fn spawn(command: &mut Command, place: Place) -> io::Result<Child> {
    let starter = std::process::id();
    let become_it = move || {
        if let Some(mut procs) = place.procs.as_ref() {
            // "0" is whoever writes.
            procs.write_all(b"0")?;
        }
        child::setsid()?;
        if place.uid.is_some() {
            // As for every child: its own pipe is its to open.
            let _ = child::give(2, place.uid, place.gid);
        }
        place.groups.as_deref().map_or(Ok(()), child::set_groups)?;
        place.gid.map_or(Ok(()), child::set_gid)?;
        place.uid.map_or(Ok(()), child::set_uid)?;
        if place.no_new_privs {
            child::set_no_new_privs()?;
        }
        // Behind the change of user, which would undo it.
        child::die_with(starter)
    };
    // SAFETY: between fork and exec only system calls are made, on what was there before the fork.
    unsafe { command.pre_exec(become_it) }.spawn()
}

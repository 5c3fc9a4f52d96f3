//! Controllers of cgroup v2: which of them the cgroups of processes have, and what keeps one from them. A
//! cgroup that has children with controllers may hold no process itself, the root of all excepted: where the
//! service's own is to have such children, the service moves into one beside them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::cgroup::{OWN, Root};
use crate::sys::procfs;
use crate::sys::system;

/// Those that limits need.
pub const CONTROLLERS: [&str; 4] = ["memory", "cpu", "pids", "io"];

/// How often others are moved out of the way: what they fork meanwhile is still in it.
const ROUNDS: u32 = 5;
/// How far up the parents of a process are followed.
const DEPTH_MAX: u32 = 64;

/// What keeps a controller from the cgroups of processes.
#[derive(Debug)]
pub enum Lack {
    /// It is bound to the hierarchy of cgroup v1.
    Version1,
    /// It was switched off when the machine began.
    Disabled,
    /// The kernel has none.
    NotBuilt,
    /// Whoever made this cgroup has not handed it down.
    NotDelegated(PathBuf),
    /// Others are in this cgroup, too, which it could not have beside children that have it.
    Shared(PathBuf, Vec<u32>),
    /// It could not be switched on here.
    Refused(PathBuf, io::Error),
}

/// Whether the cgroups of processes below it can have the controller; changes nothing.
pub fn available(root: &Root, controller: &str) -> Result<(), Lack> {
    if has(root.path(), "cgroup.controllers", controller) {
        return Ok(());
    }
    let Some(parent) = root.path().parent() else { return Err(Lack::NotBuilt) };
    if !has(parent, "cgroup.controllers", controller) {
        return Err(why_not_here(parent, controller));
    }
    let switch = parent.join("cgroup.subtree_control");
    if let Err(e) = fs::OpenOptions::new().write(true).open(&switch) {
        return Err(Lack::Refused(parent.to_owned(), e));
    }
    match strangers(parent) {
        others if others.is_empty() || is_root(parent) => Ok(()),
        others => Err(Lack::Shared(parent.to_owned(), others)),
    }
}

/// Gives it to the cgroups of processes, those that are there and those to come. For this the service moves
/// into a cgroup of its own, where it has to.
pub fn enable(root: &Root, controller: &str) -> Result<(), Lack> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |e| Lack::Refused(path, e)
    };
    if has(root.path(), "cgroup.subtree_control", controller) {
        return Ok(());
    }
    available(root, controller)?;
    if !has(root.path(), "cgroup.controllers", controller) {
        let parent = root.path().parent().ok_or(Lack::NotBuilt)?;
        // Of those that threads may have, the kernel would take them, and make the children useless instead.
        let is_root = is_root(parent);
        for _ in 0..ROUNDS {
            if is_root || pids(parent).is_empty() {
                break;
            }
            move_out(root, parent).map_err(refused(parent))?;
        }
        switch_on(parent, controller).map_err(refused(parent))?;
    }
    switch_on(root.path(), controller).map_err(refused(root.path()))
}

/// Undoes that, as far as it concerns who has moved: at the end of the service, when no process is left.
pub fn undo(root: &Root) {
    let Some(parent) = root.path().parent() else { return };
    let own = own_of(root);
    if !own.exists() {
        return;
    }
    for controller in CONTROLLERS {
        let _ = fs::write(parent.join("cgroup.subtree_control"), format!("-{controller}"));
    }
    for pid in pids(&own) {
        let _ = fs::write(parent.join("cgroup.procs"), pid.to_string());
    }
    let _ = fs::remove_dir(&own);
}

fn why_not_here(parent: &Path, controller: &str) -> Lack {
    let mount = parent.ancestors().take_while(|dir| dir.join("cgroup.controllers").exists()).last();
    if mount.is_some_and(|mount| has(mount, "cgroup.controllers", controller)) {
        return Lack::NotDelegated(parent.to_owned());
    }
    // /proc/cgroups: name, hierarchy of version 1 or 0, how many, whether it is switched on.
    let known = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    // Version 1 calls the one of storage otherwise.
    let name = if controller == "io" { "blkio" } else { controller };
    let line = known.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    match line.into_iter().find(|words| words.first() == Some(&name)).as_deref() {
        Some([_, _, _, "0"]) => Lack::Disabled,
        Some([_, "0", ..]) => Lack::NotDelegated(parent.to_owned()),
        Some(_) => Lack::Version1,
        None => Lack::NotBuilt,
    }
}

fn switch_on(path: &Path, controller: &str) -> io::Result<()> {
    fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"))
}

fn own_of(root: &Root) -> PathBuf {
    let mut name = root.path().file_name().unwrap_or_default().to_owned();
    name.push(OWN);
    root.path().with_file_name(name)
}

/// Moves the service and what it has in its cgroup into one of its own.
fn move_out(root: &Root, parent: &Path) -> io::Result<()> {
    let own = own_of(root);
    match fs::create_dir(&own) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let keeper = system::parent_pid();
    for pid in pids(parent).into_iter().filter(|&pid| descends(pid, keeper)) {
        // One that has ended meanwhile is in nobody's way.
        match fs::write(own.join("cgroup.procs"), pid.to_string()) {
            Err(e) if procfs::stat(pid).is_some_and(|stat| !stat.is_zombie()) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Who is in this cgroup, and is neither the service nor any of its children.
fn strangers(cgroup: &Path) -> Vec<u32> {
    let keeper = system::parent_pid();
    pids(cgroup).into_iter().filter(|&pid| !descends(pid, keeper)).collect()
}

fn descends(mut pid: u32, from: u32) -> bool {
    for _ in 0..DEPTH_MAX {
        if pid == from {
            return true;
        }
        let Some(stat) = procfs::stat(pid) else { return false };
        if stat.parent == 0 {
            return false;
        }
        pid = stat.parent;
    }
    false
}

fn pids(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid != 0).collect()
}

/// Whether it is the root of all cgroups, which alone has no kind.
fn is_root(cgroup: &Path) -> bool {
    !cgroup.join("cgroup.type").exists()
}

/// Whether the controller is among those that the file of this cgroup has.
fn has(cgroup: &Path, file: &str, controller: &str) -> bool {
    let text = fs::read_to_string(cgroup.join(file)).unwrap_or_default();
    text.split_ascii_whitespace().any(|name| name == controller)
}

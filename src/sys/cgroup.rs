//! cgroup v2: one leaf for each process, which knows everything the process started and can kill it in one
//! write. Files only; needs no controller.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::sys::procfs::{self, is_gone};

/// What follows the name of such a directory in that of the cgroup that the service itself moves into.
pub const OWN: &str = ".own";

/// A directory below our own cgroup, under which every process gets its leaf.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// Takes away the directories `PREFIX-PID-START-NAMESPACE` of processes that are gone without having done
    /// so.
    /// One in which something still lives cannot be taken away, and is not.
    pub fn sweep(prefix: &str) {
        let Ok(text) = ours_path() else { return };
        for path in subdirectories(&text).into_iter().flatten() {
            if is_left(&path, prefix) {
                remove_below(&path, 0);
                let _ = fs::remove_dir(&path);
            }
        }
    }

    /// Makes (or finds) the directory `name` below this process's own cgroup. Fails where there is no cgroup
    /// v2, where it is read-only, or where the kernel has no cgroup.kill (before 5.14).
    pub fn create(name: &str) -> io::Result<Self> {
        let path = ours_path()?.join(name);
        match fs::create_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        // That it opens for writing shows that we may.
        match OpenOptions::new().write(true).open(path.join("cgroup.kill")) {
            Ok(_) => Ok(Self(path)),
            Err(e) => {
                let _ = fs::remove_dir(&path);
                Err(e)
            }
        }
    }

    /// The root at a path that [`Root::create`] made in another process.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The leaf of this name; it need not be there.
    #[must_use]
    pub fn cgroup(&self, name: &str) -> Cgroup {
        Cgroup(self.0.join(name))
    }

    /// Names of the leaves that are there.
    pub fn names(&self) -> Vec<String> {
        (fs::read_dir(&self.0).into_iter().flatten())
            .filter_map(|entry| {
                let entry = entry.ok()?;
                entry.file_type().ok()?.is_dir().then(|| entry.file_name().into_string().ok())?
            })
            .collect()
    }

    /// Leaves in which something lives, with their names, below directories `PREFIX-PID-START-NAMESPACE` of
    /// processes that are gone.
    #[must_use]
    pub fn left(&self, prefix: &str) -> Vec<(String, Cgroup)> {
        let Some(parent) = self.0.parent() else { return Vec::new() };
        let roots = subdirectories(parent).into_iter().flatten().filter(|path| is_left(path, prefix));
        let names = roots.flat_map(|root| {
            let root = Self(root);
            root.names().into_iter().map(|name| (name.clone(), root.cgroup(&name))).collect::<Vec<_>>()
        });
        names.filter(|(_, cgroup)| cgroup.is_populated().unwrap_or(true)).collect()
    }

    /// Takes the directory away, if no leaf is left.
    pub fn remove(&self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The name of this process's directory: with its number, its start time, and the namespace that both are of.
/// No other process has all three.
#[must_use]
pub fn name_of_ours(prefix: &str) -> String {
    let pid = std::process::id();
    match procfs::stat(pid).zip(procfs::namespace()) {
        Some((stat, namespace)) => format!("{prefix}-{pid}-{}-{namespace}", stat.start_ticks),
        None => format!("{prefix}-{pid}"),
    }
}

/// Whether a directory is named `PREFIX-PID-START-NAMESPACE` after a process that is gone. In our /proc
/// nobody of another namespace can be seen; of a name that lacks one it is not known, and such a directory is
/// kept.
fn is_left(path: &Path, prefix: &str) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let Some(rest) = name.strip_prefix(prefix).and_then(|n| n.strip_prefix('-')) else { return false };
    let rest = rest.strip_suffix(OWN).unwrap_or(rest);
    let numbers: Option<Vec<u64>> = rest.split('-').map(|n| n.parse().ok()).collect();
    let Some([pid, start, namespace]) = numbers.and_then(|numbers| <[u64; 3]>::try_from(numbers).ok()) else {
        return false;
    };
    let Ok(pid) = u32::try_from(pid) else { return false };
    procfs::namespace() == Some(namespace)
        && match procfs::look(pid) {
            Err(_) => false,
            Ok(stat) => stat.is_none_or(|stat| stat.start_ticks != start),
        }
}

/// The directory of this process's own cgroup.
fn ours_path() -> io::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let text = text.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/").trim_start_matches('/');
    Ok(mount_point()?.join(text))
}

fn mount_point() -> io::Result<PathBuf> {
    // /proc/self/mountinfo: ... root mount-point options [tags] - type source options
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    mounts
        .lines()
        .find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4)).flatten()
        })
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "cgroup v2 is not mounted"))
}

#[derive(Clone, Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Whether it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.0.exists()
    }

    /// Makes it and opens it for a child to start in. One that is there from before is made again where that
    /// can be: Linux (as of 6.18) kills at once what clone3 puts into a cgroup whose cgroup.kill was ever
    /// written. Where the directory of all has vanished (whoever may write there can take away an empty one),
    /// it is made again.
    pub fn create(&self) -> io::Result<File> {
        if let Err(e) = fs::create_dir(&self.0) {
            if e.kind() == io::ErrorKind::AlreadyExists {
                self.remove();
            }
            fs::create_dir_all(&self.0)?;
        }
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_PATH).open(&self.0)
    }

    /// One below it; it need not be there.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    /// Writes one of its files.
    pub fn set(&self, file: &str, value: &str) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.0.join(file))?.write_all(value.as_bytes())
    }

    /// Opens what moves whoever writes `0` there into it.
    pub fn procs(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.0.join("cgroup.procs"))
    }

    /// Whether anything lives in it or below it. A leaf that is not there is empty.
    pub fn is_populated(&self) -> io::Result<bool> {
        match self.watch() {
            Ok(Some(events)) => events.is_populated(),
            Ok(None) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Opens `cgroup.events`, to be told when it becomes empty. `None`: the leaf is not there.
    pub fn watch(&self) -> io::Result<Option<Watch>> {
        match File::open(self.0.join("cgroup.events")) {
            Ok(file) => Ok(Some(Watch(file))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// SIGKILL to everything in it, whatever it forks meanwhile.
    pub fn kill(&self) -> io::Result<()> {
        match fs::write(self.0.join("cgroup.kill"), "1") {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Numbers of the processes in it and below it.
    pub fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        collect_pids(&self.0, 0, &mut pids)?;
        Ok(pids)
    }

    /// Whether the process is in it or below it.
    pub fn holds(&self, pid: u32) -> io::Result<bool> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).map(Some).or_else(is_gone)?;
        Ok(text.is_some_and(|text| self.is_named_in(&text)))
    }

    fn is_named_in(&self, cgroups: &str) -> bool {
        let Some(path) = cgroups.lines().find_map(|l| l.strip_prefix("0::/")) else { return false };
        // Both sides end in .../ROOT/LEAF[/...]; the mount point in front differs.
        let mut ours = self.0.components().rev();
        let (Some(cgroup), Some(root)) = (ours.next(), ours.next()) else { return false };
        let theirs: Vec<_> = Path::new(path).components().collect();
        theirs.windows(2).any(|pair| pair[0] == root && pair[1] == cgroup)
    }

    /// Opens `memory.events`, to be told when it changes. Fails without the memory controller.
    pub fn watch_memory(&self) -> io::Result<MemoryWatch> {
        File::open(self.0.join("memory.events")).map(MemoryWatch)
    }

    /// How much memory it holds, swapped out or not, in bytes: without what the kernel only keeps for it, as
    /// copies of files, and could take back at any time.
    pub fn memory_held(&self) -> io::Result<u64> {
        let number = |file: &str| {
            let text = fs::read_to_string(self.0.join(file))?;
            Ok::<u64, io::Error>(text.trim().parse().unwrap_or(0))
        };
        let stat = fs::read_to_string(self.0.join("memory.stat"))?;
        let of = |name: &str| value_of(&stat, name).unwrap_or(0);
        let kept = of("file").saturating_sub(of("shmem")).saturating_add(of("slab_reclaimable"));
        let swapped = number("memory.swap.current").unwrap_or(0);
        Ok(number("memory.current")?.saturating_sub(kept).saturating_add(swapped))
    }

    /// How often the kernel killed something in it for want of memory; 0 without the memory controller.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let Ok(text) = fs::read_to_string(self.0.join("memory.events")) else { return 0 };
        value_of(&text, "oom_kill").unwrap_or(0)
    }

    /// Takes it away, with what the process itself made below it. Fails while something lives in it.
    pub fn remove(&self) {
        if fs::remove_dir(&self.0).is_err() {
            remove_below(&self.0, 0);
            let _ = fs::remove_dir(&self.0);
        }
    }
}

/// How deep a process's own cgroups are followed.
const DEPTH_MAX: u32 = 8;

fn subdirectories(path: &Path) -> io::Result<impl Iterator<Item = PathBuf>> {
    let is_dir = |e: &fs::DirEntry| e.file_type().is_ok_and(|t| t.is_dir());
    Ok(fs::read_dir(path)?.filter_map(move |e| e.ok().filter(is_dir).map(|e| e.path())))
}

fn collect_pids(path: &Path, depth: u32, pids: &mut Vec<u32>) -> io::Result<()> {
    if let Some(text) = fs::read_to_string(path.join("cgroup.procs")).map(Some).or_else(is_gone)? {
        pids.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()));
    }
    if depth < DEPTH_MAX
        && let Some(mut below) = subdirectories(path).map(Some).or_else(is_gone)?
    {
        below.try_for_each(|below| collect_pids(&below, depth + 1, pids))?;
    }
    Ok(())
}

fn remove_below(path: &Path, depth: u32) {
    if depth < DEPTH_MAX {
        for below in subdirectories(path).into_iter().flatten() {
            remove_below(&below, depth + 1);
            let _ = fs::remove_dir(&below);
        }
    }
}

/// The number behind a name, in a file with a line for each.
fn value_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// An open `memory.events`: [`PollFd::changed`](crate::sys::poll::PollFd::changed) tells when to look.
#[derive(Debug)]
pub struct MemoryWatch(File);

/// What it says, counted since the cgroup was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEvents {
    /// Over `memory.high`, and held back.
    pub high: u64,
    /// Killed for want of memory.
    pub oom_kills: u64,
}

impl MemoryWatch {
    /// As it is now.
    pub fn read(&self) -> io::Result<MemoryEvents> {
        let mut buf = [0; 512];
        let n = self.0.read_at(&mut buf, 0)?;
        let text = String::from_utf8_lossy(&buf[..n]);
        let of = |name| value_of(&text, name).unwrap_or(0);
        Ok(MemoryEvents { high: of("high"), oom_kills: of("oom_kill") })
    }

    /// To wait for it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An open `cgroup.events`: [`PollFd::changed`](crate::sys::poll::PollFd::changed) tells when to look.
#[derive(Debug)]
pub struct Watch(File);

impl Watch {
    /// Whether anything lives there now.
    pub fn is_populated(&self) -> io::Result<bool> {
        let mut buf = [0; 128];
        let n = self.0.read_at(&mut buf, 0)?;
        Ok(!String::from_utf8_lossy(&buf[..n]).lines().any(|l| l == "populated 0"))
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_left_when_its_process_is_gone_though_another_has_the_number() {
        let pid = std::process::id();
        let start = procfs::stat(pid).unwrap().start_ticks;
        let ours = procfs::namespace().unwrap();
        let is_left = |name: &str| is_left(Path::new(name), "test");
        assert_eq!(name_of_ours("test"), format!("test-{pid}-{start}-{ours}"));
        assert!(!is_left(&format!("/a/test-{pid}-{start}-{ours}")));
        let before = start - 1;
        assert!(is_left(&format!("/a/test-{pid}-{before}-{ours}")), "another had this number before");
        assert!(is_left(&format!("/a/test-4194305-7-{ours}")), "no process has such a number");
        assert!(is_left(&format!("/a/test-4194305-7-{ours}.own")), "where it was itself");
        // Who is in another namespace cannot be seen from here.
        let other = ours - 1;
        for of_others in ["/a/test-4194305-7", "/a/test-4194305", &format!("/a/test-4194305-7-{other}")] {
            assert!(!is_left(of_others), "{of_others}");
        }
        for of_others in ["/a/test", "/a/test-x", "/a/other-4194305", "/a/test-1-2-3-4"] {
            assert!(!is_left(of_others), "{of_others}");
        }
    }

    #[test]
    fn copies_of_files_are_not_held() {
        let dir = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
        put("memory.current", "1000\n");
        put("memory.stat", "anon 400\nfile 500\nshmem 200\nfile_mapped 7\nslab_reclaimable 50\n");
        put("memory.events", "low 0\nhigh 3\nmax 4\noom 2\noom_kill 1\noom_group_kill 0\n");
        let cgroup = Cgroup(dir.path().to_owned());
        assert_eq!(cgroup.memory_held().unwrap(), 1000 - 300 - 50);
        put("memory.swap.current", "25\n");
        assert_eq!(cgroup.memory_held().unwrap(), 675);
        let events = cgroup.watch_memory().unwrap().read().unwrap();
        assert_eq!(events, MemoryEvents { high: 3, oom_kills: 1 });
        assert_eq!(cgroup.oom_kills(), 1);
    }

    #[test]
    fn a_directory_that_vanished_is_made_again() {
        let Ok(root) = Root::create(&name_of_ours("provost-test")) else { return };
        let cgroup = root.cgroup("leaf");
        cgroup.create().unwrap();
        cgroup.remove();
        root.remove();
        assert!(!root.path().exists());
        cgroup.create().unwrap();
        assert!(cgroup.exists());
        cgroup.remove();
        root.remove();
    }
}

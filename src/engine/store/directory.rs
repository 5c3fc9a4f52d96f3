//! Where the store lives: a directory for us alone, the lock that makes one service of it, and the files,
//! which have their final mode from their first moment and are known by device and inode from then on.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::store::error::{ErrorKind, StoreError, shown};
use crate::sys::{O_NOFOLLOW, O_NONBLOCK, errno, system};
use crate::wire::time::Timestamp;

/// The database's name in its directory.
const DATABASE: &str = "provost.db";
/// What SQLite appends for its log and for the index of that.
pub(super) const WAL: &str = "-wal";
const INDEX: &str = "-shm";
const LOCK: &str = "lock";
/// What a damaged database is called: this, and when that was noticed.
const DAMAGED: &str = ".damaged-";
/// The most damaged databases in one directory: with more, something is wrong that no new one will mend.
const DAMAGED_MAX: usize = 20;
/// How long the lock is waited for: the engine before this one is dead, but the kernel may still be clearing
/// it away.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is tried meanwhile. There is no call that waits for a lock with a deadline.
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// A directory that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct StoreDir {
    database: PathBuf,
    _lock: File,
}

impl StoreDir {
    /// Makes the directory if need be, and takes it.
    pub(super) fn claim(dir: &Path) -> Result<Self, StoreError> {
        let dir = &directory(dir)?;
        Ok(Self { _lock: take_lock(dir)?, database: dir.join(DATABASE) })
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        self.database.parent().expect("the database is in it")
    }

    /// The path of the database.
    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Makes the file if need be, and sees to it that only we can read it. The descriptor is closed again
    /// before SQLite opens its own: closing one later would take SQLite's locks away, as POSIX has it.
    pub(super) fn prepare(&self) -> Result<(), StoreError> {
        let path = self.database();
        // Not waiting, should it be a pipe.
        let file = private(O_NOFOLLOW | O_NONBLOCK).open(path).map_err(|e| match e.raw_os_error() {
            Some(errno::ELOOP) => in_the_way(path, "a symbolic link"),
            Some(errno::EISDIR) => in_the_way(path, "a directory"),
            _ => StoreError::io("open", path, &e),
        })?;
        let failed = |e| StoreError::io("look at", path, &e);
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(in_the_way(path, "something that is no file"));
        }
        if meta.uid() != system::euid() {
            return Err(of_another(path, &meta));
        }
        if meta.mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
        }
        Ok(())
    }
}

/// For files that only we may read, from their first moment.
fn private(flags: i32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    options
}

fn in_the_way(path: &Path, what: &str) -> StoreError {
    StoreError::new(ErrorKind::Refused, format!("cannot open the store {}: {what} is there", shown(path)))
        .hint("move it away, or choose another directory with --state")
}

fn of_another(path: &Path, meta: &fs::Metadata) -> StoreError {
    let who = format!("belongs to user {}, the service runs as user {}", meta.uid(), system::euid());
    StoreError::new(ErrorKind::Refused, format!("cannot keep the store in {}: it {who}", shown(path))).hint(
        "run the service as that user, give it to the right one, or choose another directory with --state",
    )
}

/// The directory as it really is: a link to it may be wanted, and what counts is where it leads.
fn directory(dir: &Path) -> Result<PathBuf, StoreError> {
    let failed = |e| StoreError::io("make the directory of the store", dir, &e);
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let made = match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
        Err(e) => return Err(failed(e)),
    };
    let real = dir.canonicalize().map_err(failed)?;
    if made && let Some(parent) = real.parent() {
        // What is in it is synced by SQLite, that it is there by us.
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    }
    let meta = fs::metadata(&real).map_err(failed)?;
    if !meta.is_dir() {
        return Err(in_the_way(&real, "something that is no directory"));
    }
    if meta.uid() != system::euid() {
        return Err(of_another(&real, &meta));
    }
    if meta.mode() & 0o022 != 0 {
        let message = format!(
            "cannot keep the store in {}: others may write there (mode {:04o})",
            shown(&real),
            meta.mode() & 0o7777
        );
        return Err(StoreError::new(ErrorKind::Refused, message).hint(format!("chmod 700 {}", shown(&real))));
    }
    Ok(real)
}

fn take_lock(dir: &Path) -> Result<File, StoreError> {
    let path = &dir.join(LOCK);
    let failed = |doing: &'static str| move |e| StoreError::io(doing, path, &e);
    let mut lock = private(O_NOFOLLOW).open(path).map_err(failed("open the store's lock"))?;
    let until = Instant::now() + LOCK_TIMEOUT;
    while !system::try_lock(&lock).map_err(failed("lock"))? {
        if Instant::now() >= until {
            let mut pid = String::new();
            let _ = (&mut lock).take(16).read_to_string(&mut pid);
            let message = format!("another provost (pid {}) keeps its store in {}", pid.trim(), shown(dir));
            return Err(StoreError::new(ErrorKind::Refused, message)
                .hint("use that one, stop it, or choose another directory with --state"));
        }
        thread::sleep(LOCK_INTERVAL);
    }
    let write = |lock: &mut File| -> io::Result<()> {
        lock.set_len(0)?;
        lock.seek(SeekFrom::Start(0))?;
        writeln!(lock, "{}", std::process::id())
    };
    // For people only: a full disk is no reason not to go on.
    let _ = write(&mut lock);
    Ok(lock)
}

/// A path with something after its last character.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.to_owned();
    path.as_mut_os_string().push(suffix);
    path
}

/// Device and inode: what a path names, whatever it is called.
type Identity = Option<(u64, u64)>;

fn identity(path: &Path) -> Identity {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// The files that SQLite has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Files {
    database: Identity,
    wal: Identity,
    index: Identity,
}

impl Files {
    /// What is at the paths now.
    pub(super) fn at(database: &Path) -> Self {
        let of = |suffix| identity(&with_suffix(database, suffix));
        Self { database: identity(database), wal: of(WAL), index: of(INDEX) }
    }

    /// Refuses unless they are still where they were opened: what we would write would be lost. A
    /// log of ours that lies beside another database is taken away.
    pub(super) fn check(&self, database: &Path) -> Result<(), StoreError> {
        let now = Self::at(database);
        if now == *self {
            return Ok(());
        }
        let suffix = if now.database != self.database {
            if now.wal == self.wal {
                // SQLite would play the one into the other.
                let _ = fs::remove_file(with_suffix(database, WAL));
                let _ = fs::remove_file(with_suffix(database, INDEX));
            }
            ""
        } else if now.wal != self.wal {
            WAL
        } else {
            INDEX
        };
        let path = with_suffix(database, suffix);
        let how = if identity(&path).is_none() { "is gone" } else { "was replaced" };
        Err(StoreError::new(ErrorKind::Replaced, format!("{} {how} while it was open", shown(&path))))
    }
}

/// Gives a damaged database of this directory, with its log, a name that says so and that nothing has yet.
/// Returns the new path. Not while it is open. Refuses when a score of them are there already.
pub fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let dir = dir.canonicalize()?;
    let _lock = take_lock(&dir).map_err(|e| io::Error::other(e.message))?;
    let database = dir.join(DATABASE);
    let aside = free_name(&database)?;
    // The log first: without its database it is nothing, beside a new one it would be poison.
    for suffix in [WAL, INDEX, ""] {
        match fs::rename(with_suffix(&database, suffix), with_suffix(&aside, suffix)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && !suffix.is_empty() => {}
            other => other?,
        }
    }
    File::open(&dir)?.sync_all()?;
    Ok(aside)
}

/// `provost.db.damaged-20260131T235959Z`, with a number behind it where that is taken.
fn free_name(database: &Path) -> io::Result<PathBuf> {
    let start = format!("{DATABASE}{DAMAGED}");
    let dir = database.parent().expect("the database is in a directory");
    let is_damaged = |name: &str| name.starts_with(&start) && !name.ends_with(WAL) && !name.ends_with(INDEX);
    let names = fs::read_dir(dir)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    if names.filter(|name| is_damaged(name)).count() >= DAMAGED_MAX {
        let what =
            format!("{DAMAGED_MAX} damaged databases are there already: look at them, and move them away");
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    let now = i64::try_from(Timestamp::now().0).unwrap_or(i64::MAX);
    let now = jiff::Timestamp::from_millisecond(now).map_err(io::Error::other)?;
    let stem = format!("{DAMAGED}{}", now.strftime("%Y%m%dT%H%M%SZ"));
    // More than the damaged ones can have taken.
    let names = (1..=2 * DAMAGED_MAX).map(|n| if n == 1 { stem.clone() } else { format!("{stem}-{n}") });
    let is_free = |path: &PathBuf| [WAL, INDEX, ""].iter().all(|s| identity(&with_suffix(path, s)).is_none());
    names
        .map(|name| with_suffix(database, &name))
        .find(is_free)
        .ok_or_else(|| io::Error::new(io::ErrorKind::AlreadyExists, "every name for it is taken"))
}

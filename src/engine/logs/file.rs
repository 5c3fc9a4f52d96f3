//! One file of a log: opened without following links, added to, and followed by another when it is large or
//! old. What is at its path is looked at before each write, so a file that somebody has moved, removed or cut
//! is no obstacle: the next line goes into the one that is there, or into a new one.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::engine::memory::LogFile as Mark;
use crate::sys::append::{Directory, split};
use crate::wire::log::old_suffix;
use crate::wire::time::{Timestamp, millis};

/// The most that an engine before us can have written without a record of it, in bytes.
const UNRECORDED_MAX: u64 = 4 << 20;

/// Where a path of a definition leads.
pub fn place(path: &str, dir: Option<&Path>) -> io::Result<(PathBuf, Option<PathBuf>)> {
    if path.starts_with('/') {
        return Ok((PathBuf::from(path), None));
    }
    let why = "the service keeps nothing, and so has no directory for it: give an absolute path";
    let dir = dir.ok_or_else(|| io::Error::other(why))?;
    // The way to the state may lead over links; that is its owner's affair.
    let state = dir.parent().map_or_else(|| Ok(PathBuf::from("/")), fs::canonicalize)?;
    let top = state.join(dir.file_name().unwrap_or_default());
    Ok((top.join(path), Some(top)))
}

/// A file that is open.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    top: Option<PathBuf>,
    directory: Directory,
    name: OsString,
    file: File,
    id: (u64, u64),
    size: u64,
    made_at: Timestamp,
}

impl LogFile {
    /// The one that this path of a definition means; it is made if there is none.
    pub fn open(path: &str, dir: Option<&Path>) -> io::Result<Self> {
        let (path, top) = place(path, dir)?;
        Self::at(path, top)
    }

    fn at(path: PathBuf, top: Option<PathBuf>) -> io::Result<Self> {
        let (parent, name) = split(&path).ok_or(io::ErrorKind::InvalidInput)?;
        let directory = Directory::open(parent, top.as_deref())?;
        let file = directory.append(&name)?;
        let meta = file.metadata()?;
        let made_at = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let made_at = made_at.map_or_else(Timestamp::now, |since| Timestamp(millis(since)));
        Ok(Self { directory, name, file, id: id(&meta), size: meta.len(), made_at, path, top })
    }

    /// What an engine before us has written and not recorded is cut off: it is written again.
    pub fn forget_unrecorded(&mut self, recorded: Mark) -> io::Result<()> {
        if recorded.inode == self.id.1
            && self.size > recorded.len
            && self.size - recorded.len <= UNRECORDED_MAX
        {
            self.file.set_len(recorded.len)?;
            self.size = recorded.len;
        }
        Ok(())
    }

    /// For the process's memory.
    pub fn mark(&self) -> Mark {
        Mark { inode: self.id.1, len: self.size }
    }

    /// Sees what is at the path by now. Whether it is another file.
    pub fn look(&mut self) -> io::Result<bool> {
        match fs::symlink_metadata(&self.path) {
            Ok(meta) if id(&meta) == self.id => {
                self.size = meta.len();
                Ok(false)
            }
            Ok(_) | Err(_) => {
                *self = Self::at(self.path.clone(), self.top.clone())?;
                Ok(true)
            }
        }
    }

    /// How many bytes more it takes.
    pub fn room(&self, limit: Option<u64>) -> u64 {
        limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.size))
    }

    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Whether it has something in it and is that old.
    pub fn is_old(&self, age: Option<Duration>) -> bool {
        let is_over = |age| Timestamp::now().0.saturating_sub(self.made_at.0) >= millis(age);
        self.size > 0 && age.is_some_and(is_over)
    }

    /// Adds all of it, or nothing.
    pub fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(e) = (&self.file).write_all(bytes) {
            // No line stays that is not whole.
            let _ = self.file.set_len(self.size);
            return Err(e);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Gives it the name of an old file, and begins another in its place.
    pub fn rotate(&mut self) -> io::Result<()> {
        let mut at = Timestamp::now();
        loop {
            let mut to = self.name.clone();
            to.push(OsStr::new(&old_suffix(at)));
            match self.directory.rename(&self.name, &to) {
                Ok(()) => break,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => at.0 += 1,
                Err(e) => return Err(e),
            }
        }
        *self = Self::at(self.path.clone(), self.top.clone())?;
        Ok(())
    }

    /// For whoever clears up what is old.
    pub fn directory(&self) -> io::Result<(Directory, OsString)> {
        Ok((self.directory.try_clone()?, self.name.clone()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn id(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

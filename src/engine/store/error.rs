//! What can be wrong with the store, and the one place where the words of SQLite and of the system become one
//! of it.

use std::fmt;
use std::io;
use std::path::Path;

use rusqlite::ffi;

use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;

/// The kind of an error, which is what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No room. Heals when there is some.
    Full,
    /// It may be read and not written.
    ReadOnly,
    /// Another program holds it. The one after which the store can still be used.
    Locked,
    /// What is in the file makes no sense. It is to be set aside.
    Corrupt,
    /// Written by a newer provost. It is to be left alone.
    Newer,
    /// The file at the path is not the one that was opened. It is to be opened again, and everything written.
    Replaced,
    /// The place cannot be used, and only a person can change that.
    Refused,
    /// The disk or the system failed.
    Io,
}

impl ErrorKind {
    /// What SQLite says, by its extended code.
    fn of_sqlite(code: i32) -> Self {
        match code {
            ffi::SQLITE_READONLY_DBMOVED => return Self::Replaced,
            // The index of the log could not grow.
            ffi::SQLITE_IOERR_SHMSIZE => return Self::Full,
            ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS | ffi::SQLITE_IOERR_DATA => {
                return Self::Corrupt;
            }
            _ => {}
        }
        match code & 0xff {
            ffi::SQLITE_FULL => Self::Full,
            ffi::SQLITE_READONLY | ffi::SQLITE_PERM | ffi::SQLITE_AUTH => Self::ReadOnly,
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_PROTOCOL => Self::Locked,
            // Our statements are right for our tables, and never break a constraint: so those are not our
            // tables.
            ffi::SQLITE_CORRUPT
            | ffi::SQLITE_NOTADB
            | ffi::SQLITE_FORMAT
            | ffi::SQLITE_ERROR
            | ffi::SQLITE_CONSTRAINT
            | ffi::SQLITE_MISMATCH
            | ffi::SQLITE_SCHEMA
            | ffi::SQLITE_TOOBIG
            | ffi::SQLITE_RANGE => Self::Corrupt,
            _ => Self::Io,
        }
    }

    fn of_io(e: &io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly,
            _ => Self::Io,
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Full => "make room there; it is written again as soon as there is some",
            Self::ReadOnly => "give the user of the service the right to write there",
            Self::Locked => "another program has it open in a transaction: end that",
            Self::Corrupt => "the file is set aside, not deleted, and made anew from what runs",
            Self::Newer => "run that version or a later one, or move the file away to begin anew",
            Self::Replaced => "leave the files of a running service alone; they are made anew from what runs",
            Self::Refused => "choose another directory with --state",
            Self::Io => "see the kernel's log (dmesg) for what the disk did",
        }
    }
}

/// An error of the store, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    pub kind: ErrorKind,
    /// One line, lower case, no final period.
    pub message: String,
    pub hint: String,
}

impl StoreError {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: kind.hint().to_owned() }
    }

    /// SQLite could not do this to this database.
    pub(super) fn sqlite(doing: &str, path: &Path, e: &rusqlite::Error) -> Self {
        // Everything else rusqlite says is about a value that is not of the kind that we write.
        let (kind, code) = match e {
            // What it maps cannot grow: SQLite's words do not say why.
            rusqlite::Error::SqliteFailure(e, _)
                if e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE =>
            {
                (ErrorKind::of_sqlite(e.extended_code), ", as on a full disk".to_owned())
            }
            rusqlite::Error::SqliteFailure(e, _) => {
                (ErrorKind::of_sqlite(e.extended_code), format!(" (SQLite's code {})", e.extended_code))
            }
            _ => (ErrorKind::Corrupt, String::new()),
        };
        Self::new(kind, format!("cannot {doing} {}: {e}{code}", shown(path)))
    }

    /// The system could not do this to this file.
    pub(super) fn io(doing: &str, path: &Path, e: &io::Error) -> Self {
        Self::new(ErrorKind::of_io(e), format!("cannot {doing} {}: {e}", shown(path)))
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {}

impl From<StoreError> for Error {
    fn from(e: StoreError) -> Self {
        let code = match e.kind {
            ErrorKind::Newer | ErrorKind::Refused => Code::Refused,
            ErrorKind::Full
            | ErrorKind::ReadOnly
            | ErrorKind::Locked
            | ErrorKind::Corrupt
            | ErrorKind::Replaced
            | ErrorKind::Io => Code::Failed,
        };
        Self::new(code, e.message).hint(e.hint)
    }
}

/// A path in a message.
pub(super) fn shown(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_kind() {
        for (code, kind) in [
            (ffi::SQLITE_FULL, ErrorKind::Full),
            (ffi::SQLITE_IOERR_FSYNC, ErrorKind::Io),
            (ffi::SQLITE_IOERR_SHMSIZE, ErrorKind::Full),
            (ffi::SQLITE_IOERR_SHORT_READ, ErrorKind::Corrupt),
            (ffi::SQLITE_BUSY_SNAPSHOT, ErrorKind::Locked),
            (ffi::SQLITE_CORRUPT_INDEX, ErrorKind::Corrupt),
            (ffi::SQLITE_NOTADB, ErrorKind::Corrupt),
            (ffi::SQLITE_READONLY_DIRECTORY, ErrorKind::ReadOnly),
            (ffi::SQLITE_READONLY_DBMOVED, ErrorKind::Replaced),
            (ffi::SQLITE_CANTOPEN, ErrorKind::Io),
            (ffi::SQLITE_NOMEM, ErrorKind::Io),
        ] {
            assert_eq!(ErrorKind::of_sqlite(code), kind, "code {code}");
        }
    }
}

//! What a host leaves to the next one: a file for each provider, in a directory beside the host's socket. It
//! lives as long as processes do, until the machine ends. The registry keeps its own notes in the same way.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::sys::files::{self, NEW_SUFFIX};
use crate::wire::error::{Code, Error};
use crate::wire::note::ProviderNote;
use crate::wire::provider::{CONFIG_LEN_MAX, ProviderName, SCHEMA_LEN_MAX, SCHEMAS_MAX};

/// What is noted about a provider.
pub trait Note: Sized {
    /// The largest one, in bytes.
    const LEN_MAX: u64;

    fn encode(&self) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> Result<Self, Error>;
}

impl Note for ProviderNote {
    /// A configuration, its schemas, and what is around them.
    const LEN_MAX: u64 = (CONFIG_LEN_MAX + SCHEMAS_MAX * SCHEMA_LEN_MAX) as u64 + (256 << 10);

    fn encode(&self) -> Vec<u8> {
        self.encode()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Self::decode(bytes)
    }
}

/// The directory. Only this host writes there, one file for each provider, and for each provider one thread
/// at a time.
#[derive(Debug)]
pub struct Notes<N> {
    path: PathBuf,
    is_new: bool,
    of: PhantomData<fn() -> N>,
}

impl<N> Clone for Notes<N> {
    fn clone(&self) -> Self {
        Self { path: self.path.clone(), is_new: self.is_new, of: PhantomData }
    }
}

impl<N: Note> Notes<N> {
    /// Makes the directory where it is not there. Configurations may hold secrets: it is for its owner alone.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let is_new = match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
            Err(e) => return Err(Error::failed(&format!("make the directory {}", path.display()), &e)),
        };
        Ok(Self { path: path.to_owned(), is_new, of: PhantomData })
    }

    /// Whether the directory was not there before: it is of no earlier host.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    pub fn write(&self, name: &ProviderName, note: &N) -> Result<(), Error> {
        files::replace_for_now(&self.path(name), 0o600, &note.encode())
            .map_err(|e| Error::failed(&format!("note what provider {name} is"), &e))
    }

    /// Whether there is one, which costs less than to read none.
    #[must_use]
    pub fn has(&self, name: &ProviderName) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// What was written last.
    pub fn read(&self, name: &ProviderName) -> Result<N, Error> {
        let read = files::private(&self.path(name), N::LEN_MAX);
        N::decode(
            &read.map_err(|why| Error::new(Code::Failed, format!("the note of provider {name}: {why}")))?,
        )
    }

    /// None is none to forget.
    pub fn forget(&self, name: &ProviderName) {
        let _ = fs::remove_file(self.path(name));
    }

    /// All of them, and for each that cannot be read, why.
    pub fn all(&self) -> (BTreeMap<ProviderName, N>, Vec<String>) {
        let (mut notes, mut bad) = (BTreeMap::new(), Vec::new());
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            // What a crash has left of a file that was being written.
            if file.ends_with(NEW_SUFFIX) {
                continue;
            }
            let read = file
                .split_once('.')
                .ok_or_else(|| "it has no set".to_owned())
                .and_then(|(set, alias)| ProviderName::new(set, alias).map_err(|e| e.message))
                .and_then(|name| {
                    let bytes = files::private(&entry.path(), N::LEN_MAX)?;
                    Ok((name, N::decode(&bytes).map_err(|e| e.message)?))
                });
            match read {
                Ok((name, note)) => drop(notes.insert(name, note)),
                Err(why) => bad.push(format!("{file}: {why}")),
            }
        }
        (notes, bad)
    }

    fn path(&self, name: &ProviderName) -> PathBuf {
        self.path.join(format!("{}.{}", name.set(), name.alias()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::provider::Definition;

    #[test]
    fn notes_are_found_again_and_bad_ones_are_named() {
        let path = std::env::temp_dir().join(format!("provost-notes-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let notes = Notes::open(&path).unwrap();
        let definition = Definition { binary: "/x".into(), ..Definition::default() };
        let note = ProviderNote::of(definition);
        let (one, two) = (ProviderName::new("", "a.new").unwrap(), ProviderName::new("ci", "a").unwrap());
        for name in [&two, &one, &one] {
            notes.write(name, &note).unwrap();
        }
        fs::write(path.join("default.broken"), [0xff]).unwrap();
        fs::write(path.join("default.c~new"), []).unwrap();
        assert!(ProviderName::new("", "c~new").is_err(), "none can be called so");
        let (all, bad) = notes.all();
        assert_eq!(Vec::from_iter(all), [(two.clone(), note.clone()), (one, note.clone())]);
        assert!(bad.len() == 1 && bad[0].starts_with("default.broken: "), "{bad:?}");
        assert_eq!(notes.read(&two), Ok(note));
        notes.forget(&two);
        assert!(notes.read(&two).is_err());
        assert_eq!(notes.all().0.len(), 1);
        fs::remove_dir_all(&path).unwrap();
    }
}

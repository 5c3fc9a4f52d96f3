//! What a host leaves to the next about entries: a file for each, in a directory beside that of the
//! providers' own notes. It lives as long as they do.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::sys::files;
use crate::wire::error::Error;
use crate::wire::provider::ProviderName;
use crate::wire::registry_note::RegistryNote;

/// The largest note, in bytes: the most labels, and what is around them.
const LEN_MAX: u64 = 128 << 10;

/// The directory. Only this host writes there, and for each entry one thread at a time.
#[derive(Debug)]
pub struct RegistryNotes(PathBuf);

impl RegistryNotes {
    /// Makes the directory where it is not there.
    pub fn open(path: &Path) -> Result<Self, Error> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::failed(&format!("make the directory {}", path.display()), &e))
            }
            _ => Ok(Self(path.to_owned())),
        }
    }

    pub fn write(&self, name: &ProviderName, note: &RegistryNote) -> Result<(), Error> {
        files::replace(&self.path(name), 0o600, &note.encode())
            .map_err(|e| Error::failed(&format!("note that {name} is registered"), &e))
    }

    /// None is none to forget.
    pub fn forget(&self, name: &ProviderName) {
        let _ = fs::remove_file(self.path(name));
    }

    /// All of them, and for each that cannot be read, why.
    pub fn all(&self) -> (BTreeMap<ProviderName, RegistryNote>, Vec<String>) {
        let (mut notes, mut bad) = (BTreeMap::new(), Vec::new());
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            // What a crash has left of a file that was being written.
            if file.ends_with(".new") {
                continue;
            }
            let read = file
                .split_once('.')
                .ok_or_else(|| "it has no set".to_owned())
                .and_then(|(set, alias)| ProviderName::new(set, alias).map_err(|e| e.message))
                .and_then(|name| {
                    let bytes = files::private(&entry.path(), LEN_MAX)?;
                    Ok((name, RegistryNote::decode(&bytes).map_err(|e| e.message)?))
                });
            match read {
                Ok((name, note)) => drop(notes.insert(name, note)),
                Err(why) => bad.push(format!("{file}: {why}")),
            }
        }
        (notes, bad)
    }

    fn path(&self, name: &ProviderName) -> PathBuf {
        self.0.join(format!("{}.{}", name.set(), name.alias()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::time::Timestamp;

    #[test]
    fn notes_are_found_again_and_bad_ones_are_named() {
        let path = std::env::temp_dir().join(format!("provost-registry-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let notes = RegistryNotes::open(&path).unwrap();
        let (one, two) = (ProviderName::new("", "a.b").unwrap(), ProviderName::new("ci", "a").unwrap());
        let note = RegistryNote { registered_at: Timestamp(7), ..RegistryNote::default() };
        for name in [&two, &one, &one] {
            notes.write(name, &note).unwrap();
        }
        fs::write(path.join("default.broken"), [0xff]).unwrap();
        fs::write(path.join("default.c.new"), []).unwrap();
        let (all, bad) = notes.all();
        assert_eq!(Vec::from_iter(all.keys()), [&two, &one]);
        assert!(bad.len() == 1 && bad[0].starts_with("default.broken: "), "{bad:?}");
        notes.forget(&two);
        assert_eq!(notes.all().0.len(), 1);
        fs::remove_dir_all(&path).unwrap();
    }
}

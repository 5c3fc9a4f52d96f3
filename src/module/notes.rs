//! What a host leaves to the next one about registrations: a file for each connection, in a directory beside
//! the host's socket. It holds for one run of the machine, as executors do.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::sys::files::{self, NEW_SUFFIX};
use crate::sys::procfs::boot_id;
use crate::wire::canary::Canary;
use crate::wire::error::Error;
use crate::wire::module_note::ModuleNote;

/// The largest note, in bytes: a registration is one message.
const LEN_MAX: u64 = 5 << 20;
/// The note of all canaries, and the most of it that is read, in bytes.
const CANARIES: &str = "canaries";
const CANARIES_LEN_MAX: u64 = 256 << 20;

/// The directory. Only one thread of this host writes there.
#[derive(Debug)]
pub struct Notes(PathBuf);

impl Notes {
    /// Makes the directory where it is not there, for its owner alone.
    pub fn open(path: &Path) -> Result<Self, Error> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::failed(&format!("make the directory {}", path.display()), &e))
            }
            _ => Ok(Self(path.to_owned())),
        }
    }

    pub fn write(&self, id: &str, note: &ModuleNote) -> io::Result<()> {
        let path = self.path(id).ok_or(io::ErrorKind::InvalidInput)?;
        files::replace(&path, 0o600, &note.encode())
    }

    pub fn write_canaries(&self, all: &[Canary]) -> io::Result<()> {
        files::replace(&self.0.join(CANARIES), 0o600, &Canary::encode_all(all))
    }

    /// What was noted of canaries: it holds also when the machine has begun again.
    pub fn canaries(&self) -> Result<Vec<Canary>, String> {
        let path = self.0.join(CANARIES);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let bytes = files::private(&path, CANARIES_LEN_MAX)?;
        Canary::decode_all(&bytes).map_err(|e| e.message)
    }

    /// None is none to forget.
    pub fn forget(&self, id: &str) {
        let _ = self.path(id).map(fs::remove_file);
    }

    /// Where the note of this connection is. None for what is no id of ours: an id may come from a provider,
    /// and a path must never be made of one that is a path itself.
    fn path(&self, id: &str) -> Option<PathBuf> {
        let own = Uuid::try_parse(id).ok()?.to_string();
        (own == id).then(|| self.0.join(own))
    }

    /// All that hold, the oldest first, and for each that cannot be read, why. What was left before the
    /// machine began again is forgotten.
    pub fn all(&self) -> (Vec<(String, ModuleNote)>, Vec<String>) {
        let (mut notes, mut bad, boot) = (Vec::new(), Vec::new(), boot_id());
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            // What a crash has left of a file that was being written.
            if id == CANARIES || id.ends_with(NEW_SUFFIX) {
                continue;
            }
            let read = self.path(&id).ok_or("it is none of a connection".to_owned()).and_then(|path| {
                let bytes = files::private(&path, LEN_MAX)?;
                ModuleNote::decode(&bytes).map_err(|e| e.message)
            });
            match read {
                Ok(note) if note.boot == boot => notes.push((id, note)),
                Ok(_) => self.forget(&id),
                Err(why) => bad.push(format!("{id}: {why}")),
            }
        }
        notes.sort_by_key(|(_, note)| note.registered_at);
        (notes, bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::time::Timestamp;

    #[test]
    fn notes_are_found_again_in_their_order_and_only_those_of_this_boot() {
        let path = std::env::temp_dir().join(format!("provost-module-notes-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let notes = Notes::open(&path).unwrap();
        let note = |boot: &str, at| ModuleNote {
            boot: boot.to_owned(),
            registered_at: Timestamp(at),
            registration: vec![1, 2],
            owner: String::new(),
        };
        let ids: Vec<_> = (0..3).map(|_| Uuid::new_v4().to_string()).collect();
        notes.write(&ids[0], &note(&boot_id(), 7)).unwrap();
        notes.write(&ids[1], &note(&boot_id(), 5)).unwrap();
        notes.write(&ids[2], &note("another", 6)).unwrap();
        fs::write(path.join("x"), "").unwrap();
        let shouted = ids[0].to_uppercase();
        fs::write(path.join(&shouted), "").unwrap();
        let (all, mut bad) = notes.all();
        bad.sort();
        assert_eq!(all.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&ids[1], &ids[0]]);
        assert_eq!(bad, [&*shouted, "x"].map(|name| format!("{name}: it is none of a connection")));
        assert!(!path.join(&ids[2]).exists());
        ids.iter().for_each(|id| notes.forget(id));
        assert!(notes.all().0.is_empty());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn canaries_are_found_again_beside_registrations() {
        let path = std::env::temp_dir().join(format!("provost-module-notes-canaries-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let notes = Notes::open(&path).unwrap();
        assert_eq!(notes.canaries(), Ok(Vec::new()));
        let all = vec![Canary::sample()];
        notes.write_canaries(&all).unwrap();
        assert_eq!(notes.canaries(), Ok(all));
        assert_eq!(notes.all(), (Vec::new(), Vec::new()));
        fs::write(path.join(CANARIES), [0xff]).unwrap();
        assert!(notes.canaries().is_err());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn what_is_no_id_is_no_path_either() {
        let path = std::env::temp_dir().join(format!("provost-module-notes-ids-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        let notes = Notes::open(&path.join("notes")).unwrap();
        let (id, other) = (Uuid::new_v4().to_string(), path.join("other"));
        notes.write(&id, &ModuleNote::default()).unwrap();
        fs::write(&other, "").unwrap();
        for foreign in
            [other.to_str().unwrap(), "../other", "", ".", &format!("{{{id}}}"), &id.to_uppercase()]
        {
            notes.forget(foreign);
            assert!(notes.write(foreign, &ModuleNote::default()).is_err(), "{foreign}");
        }
        assert_eq!(fs::read(&other).unwrap(), b"");
        assert!(path.join("notes").join(&id).exists());
        fs::remove_dir_all(&path).unwrap();
    }
}

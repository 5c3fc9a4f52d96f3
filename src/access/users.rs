//! The users file: `NAME:HASH` on each line, comments with `#`. Only its owner may read it, and it is changed
//! as a whole: a reader sees the old one or the new one.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::access::password::Hash;
use crate::sys::files;
use crate::sys::system::try_lock;
use crate::wire::error::{Code, Error};
use crate::wire::id::{Name, quoted};

/// The largest file, in bytes.
const LEN_MAX: u64 = 1 << 20;
const USERS_MAX: usize = 10_000;

/// Users with what is kept of their passwords, and whatever else is in their file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    lines: Vec<FileLine>,
    /// Where each is in `lines`.
    line_of: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum FileLine {
    User(Name, Hash),
    /// Empty, or a comment.
    Other(String),
}

impl Users {
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::read_from(&Self::open(path)?, path)
    }

    /// The file of users, which only its owner may read.
    pub fn open(path: &Path) -> Result<File, Error> {
        files::private_file(path).map_err(|why| cannot_take(path, &why))
    }

    /// Reads what [`Self::open`] has opened.
    pub fn read_from(file: &File, path: &Path) -> Result<Self, Error> {
        let bytes = files::content(file, LEN_MAX).map_err(|why| cannot_take(path, &why))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::usage(format!("the users file {} is not UTF-8 text", shown(path))))?;
        Self::parse(&text).map_err(|e| {
            let message = format!("the users file {}, {}", shown(path), e.message);
            Error { message, ..e }
        })
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let mut users = Self::default();
        for (n, line) in text.lines().enumerate() {
            users.read(line).map_err(|e| Error { message: format!("line {}: {}", n + 1, e.message), ..e })?;
        }
        Ok(users)
    }

    fn read(&mut self, line: &str) -> Result<(), Error> {
        if line.trim().is_empty() || line.starts_with('#') {
            self.lines.push(FileLine::Other(line.to_owned()));
            return Ok(());
        }
        // What is wrong is not quoted: it may be a password.
        let (name, hash) = line.split_once(':').ok_or_else(|| Error::usage("it is not NAME:HASH"))?;
        let name = name.parse::<Name>()?;
        if self.get(name.as_str()).is_some() {
            return Err(Error::usage(format!("there is another {name}")));
        }
        let hash = Hash::parse(hash).ok_or_else(|| {
            Error::usage(format!("the hash of {name} is not Argon2id with m=19456,t=2,p=1"))
                .hint(format!("set the password anew: provost user passwd {name}"))
        })?;
        self.set(name, hash)
    }

    /// What is kept of this user's password.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Hash> {
        match &self.lines[*self.line_of.get(name)?] {
            FileLine::User(_, hash) => Some(hash),
            FileLine::Other(_) => None,
        }
    }

    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.line_of.keys().map(String::as_str)
    }

    /// Adds a user, or gives one another password.
    pub fn set(&mut self, name: Name, hash: Hash) -> Result<(), Error> {
        if let Some(&line) = self.line_of.get(name.as_str()) {
            self.lines[line] = FileLine::User(name, hash);
            return Ok(());
        }
        if self.line_of.len() >= USERS_MAX {
            return Err(Error::new(Code::Refused, format!("there are {USERS_MAX} users, which is the most")));
        }
        self.line_of.insert(name.to_string(), self.lines.len());
        self.lines.push(FileLine::User(name, hash));
        Ok(())
    }

    /// Takes a user out; false when there is none of this name.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(line) = self.line_of.remove(name) else { return false };
        self.lines.remove(line);
        self.line_of.values_mut().filter(|other| **other > line).for_each(|other| *other -= 1);
        true
    }

    /// As the file has it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let line = |line: &FileLine| match line {
            FileLine::User(name, hash) => format!("{name}:{}\n", hash.to_text()),
            FileLine::Other(text) => format!("{text}\n"),
        };
        self.lines.iter().map(line).collect()
    }
}

/// Changes the file, which is made if need be, its directory too. Two at once do not undo each other.
pub fn edit<T>(path: &Path, change: impl FnOnce(&mut Users) -> Result<T, Error>) -> Result<T, Error> {
    let failed = |e: io::Error| Error::failed(&format!("write the users file {}", shown(path)), &e);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let dir = File::open(dir).map_err(failed)?;
    if !try_lock(&dir).map_err(failed)? {
        let message = format!("another program is changing the users file {}", shown(path));
        return Err(Error::new(Code::Refused, message).hint("try again"));
    }
    let mut users = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => {
            let message = format!("the users file {} is a symbolic link", shown(path));
            return Err(Error::new(Code::Refused, message).hint("give the path of the file itself"));
        }
        Ok(_) => Users::load(path)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Users::default(),
        Err(e) => return Err(failed(e)),
    };
    let answer = change(&mut users)?;
    let text = users.to_text();
    if text.len() as u64 > LEN_MAX {
        let message = format!("the users file {} would be larger than {LEN_MAX} bytes", shown(path));
        return Err(Error::new(Code::Refused, message));
    }
    files::replace(path, 0o600, text.as_bytes()).map_err(failed)?;
    Ok(answer)
}

fn cannot_take(path: &Path, why: &str) -> Error {
    let e = Error::new(Code::Refused, format!("cannot take the users file {}: {why}", shown(path)));
    e.hint(match why.to_lowercase().contains("permission denied") {
        true => "it is its owner's alone: root's, or that of the user of the service",
        false => "'provost user add NAME' makes one",
    })
}

fn shown(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::password::{Memory, Password};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use tempfile::TempDir;

    fn hash() -> Hash {
        Hash::decoy().unwrap()
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_file_is_changed_and_its_comments_stay() {
        let scratch = TempDir::new().unwrap();
        let path = scratch.path().join("deeper/users");
        let (ann, bob, new) = (hash(), hash(), hash());
        edit(&path, |users| users.set(name("ann"), ann.clone())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o7777, 0o700);
        let text = format!("# people\nann:{}\n\nbob:{}\n# end\n", ann.to_text(), bob.to_text());
        fs::write(&path, &text).unwrap();
        edit(&path, |users| users.set(name("ann"), new.clone())).unwrap();
        edit(&path, |users| users.set(name("eve"), ann.clone())).unwrap();
        let want = format!("{}eve:{}\n", text.replace(&ann.to_text(), &new.to_text()), ann.to_text());
        assert_eq!(fs::read_to_string(&path).unwrap(), want);
        assert!(edit(&path, |users| Ok(users.remove("ann"))).unwrap());
        assert!(!edit(&path, |users| Ok(users.remove("ann"))).unwrap());
        let users = Users::load(&path).unwrap();
        assert_eq!(users.names().collect::<Vec<_>>(), ["bob", "eve"]);
        assert_eq!((users.get("bob"), users.get("ann")), (Some(&bob), None));
        assert!(fs::read_to_string(&path).unwrap().starts_with("# people\n\nbob:"));
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_and_never_shown() {
        let good = hash().to_text();
        for (text, want) in [
            ("# x\nann".to_owned(), "line 2: it is not NAME:HASH"),
            ("ann:hunter2".to_owned(), "line 1: the hash of ann is not Argon2id"),
            (format!("ann:{}", good.replace("t=2", "t=9")), "line 1: the hash of ann is not Argon2id"),
            (format!("ann:{good}\nann:{good}"), "line 2: there is another ann"),
            (format!("a b:{good}"), "line 1: bad name 'a b'"),
            (format!(" ann:{good}"), "line 1: bad name ' ann'"),
            (format!(":{good}"), "line 1: bad name ''"),
        ] {
            let e = Users::parse(&text).unwrap_err();
            assert!(e.message.starts_with(want), "{e}");
            assert!(!e.message.contains("hunter2") && !e.message.contains(&good[35..]), "{e}");
        }
        let many: String = (0..=USERS_MAX).map(|n| format!("u{n}:{good}\n")).collect();
        assert!(Users::parse(&many).unwrap_err().message.contains("there are 10000 users"));
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_elsewhere_is_refused() {
        let scratch = TempDir::new().unwrap();
        let path = scratch.path().join("users");
        edit(&path, |users| users.set(name("ann"), hash())).unwrap();
        let link = scratch.path().join("link");
        symlink(&path, &link).unwrap();
        let before = fs::read(&path).unwrap();
        let e = edit(&link, |users| users.set(name("bob"), hash())).unwrap_err();
        assert!(e.message.ends_with("is a symbolic link"), "{e}");
        for mode in [0o640, 0o604, 0o622] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(Users::load(&path).unwrap_err().message.contains("chmod 600"));
            assert!(edit(&path, |users| users.set(name("bob"), hash())).is_err());
        }
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        // What failed leaves everything as it was.
        assert!(edit(&path, |_| Err::<(), _>(Error::usage("no"))).is_err());
        fs::create_dir(scratch.path().join("users~new")).unwrap();
        assert!(edit(&path, |users| users.set(name("bob"), hash())).is_err());
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::remove_dir(scratch.path().join("users~new")).unwrap();
        fs::write(scratch.path().join("users~new"), "left by a crash").unwrap();
        edit(&path, |users| users.set(name("bob"), hash())).unwrap();
        assert_eq!(Users::load(&path).unwrap().names().count(), 2);
        // Another program changes it.
        let dir = File::open(scratch.path()).unwrap();
        assert!(try_lock(&dir).unwrap());
        let e = edit(&path, |users| users.set(name("eve"), hash())).unwrap_err();
        assert_eq!((e.code, e.hint.as_str()), (Code::Refused, "try again"));
    }

    #[test]
    fn a_password_is_found_again() {
        let scratch = TempDir::new().unwrap();
        let path = scratch.path().join("users");
        let (mut memory, password) = (Memory::default(), Password::chosen("correct horse").unwrap());
        let hash = Hash::new(&password, &mut memory).unwrap();
        edit(&path, |users| users.set(name("ann"), hash)).unwrap();
        let users = Users::load(&path).unwrap();
        assert!(users.get("ann").unwrap().fits(&password, &mut memory));
        assert!(!format!("{users:?}").contains("argon2"));
    }
}

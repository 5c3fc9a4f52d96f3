//! Small files that are read or replaced whole: the configuration, and the secrets, certificates and users
//! that it names. Why one cannot be read is said in words, without its path, which the caller knows how to
//! name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::sys::O_NONBLOCK;
use crate::sys::system::euid;

/// The longest password, in bytes.
const SECRET_LEN_MAX: u64 = 4096;

/// A regular file of at most `max` bytes.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    read_open(&open(path)?, max)
}

/// A file of at most `max` bytes that only its owner may read, and that is ours or root's.
pub fn private(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let file = open(path)?;
    let meta = file.metadata().map_err(|e| e.to_string())?;
    if meta.mode() & 0o077 != 0 {
        return Err(format!(
            "others than its owner have access to it (mode {:04o}): chmod 600",
            meta.mode() & 0o7777
        ));
    }
    if meta.uid() != 0 && meta.uid() != euid() {
        return Err(format!("it belongs to another user (uid {})", meta.uid()));
    }
    read_open(&file, max)
}

/// Puts a new file in the place of an old one, if there is one: whoever reads it sees the one or the other.
/// It is on the disk when this returns. Its directory is to be locked against others who do the same.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    // The directory is locked: what has this name was left by a crash.
    match fs::remove_file(new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(new)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(new, path));
    if written.is_err() {
        let _ = fs::remove_file(new);
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    written.and_then(|()| File::open(dir)?.sync_all())
}

/// The password in such a file, without the end of its line.
pub fn password(path: &Path) -> Result<String, String> {
    let bytes = private(path, SECRET_LEN_MAX)?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || text.contains(char::is_control) {
        return Err("it is to hold the password on one line, and nothing else".to_owned());
    }
    Ok(text.to_owned())
}

/// Opens without waiting, whatever it is, and goes on only with a regular file.
fn open(path: &Path) -> Result<File, String> {
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
    let file = file.map_err(|e| e.to_string())?;
    let is_file = file.metadata().map_err(|e| e.to_string())?.is_file();
    if is_file { Ok(file) } else { Err("it is not a regular file".to_owned()) }
}

fn read_open(file: &File, max: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > max { Err(format!("it is larger than {max} bytes")) } else { Ok(bytes) }
}

//! Who may write a configuration that gives others rights, or says what is executed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys::system::euid;
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;

/// Refuses a file that others may change: who writes it decides who comes in, and what is executed. `with`:
/// what makes it such a file.
pub fn guard(path: &Path, with: &str) -> Result<(), Error> {
    let refused = |path: &Path, why: String, hint: String| {
        let path = quoted(&path.to_string_lossy());
        Error::new(Code::Refused, format!("others can change the configuration: {path} {why}")).hint(hint)
    };
    let failed = |e| refused(path, format!("cannot be looked at: {e}"), String::new());
    let file = path.canonicalize().map_err(failed)?;
    for (path, is_file) in file.ancestors().take(2).zip([true, false]) {
        let meta = fs::metadata(path).map_err(failed)?;
        if meta.uid() != 0 && meta.uid() != euid() {
            let hint = format!("{with}, it has to belong to root or to the user of the service");
            return Err(refused(path, format!("belongs to another user (uid {})", meta.uid()), hint));
        }
        // In a directory such as /tmp no user can replace another's file.
        let is_sticky = !is_file && meta.mode() & 0o1000 != 0;
        if meta.mode() & 0o022 != 0 && !is_sticky {
            let why = format!("has mode {:04o}", meta.mode() & 0o7777);
            return Err(refused(path, why, format!("chmod go-w {}", path.display())));
        }
    }
    Ok(())
}

//! Who may write a configuration that gives others rights, or says what is executed.

use std::path::Path;

use crate::config::file::LEN_MAX;
use crate::sys::files;
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;

/// Refuses a file that others may change, or that is not what was read: who writes it decides who comes in,
/// and what is executed. `with`: what makes it such a file.
pub fn guard(path: &Path, read: &str, with: &str) -> Result<(), Error> {
    let why = match files::guarded(path, LEN_MAX) {
        Ok(checked) if checked == read.as_bytes() => return Ok(()),
        Ok(_) => "it was changed while it was read".to_owned(),
        Err(why) => why,
    };
    // What mends it stands at the end of the reason, where there is a command for that.
    let (why, hint) = match why.rsplit_once(": chmod ") {
        Some((why, how)) => (why.to_owned(), format!("chmod {how}")),
        None => (why, format!("{with}, it has to belong to root or to the user of the service")),
    };
    let path = quoted(&path.to_string_lossy());
    Err(Error::new(Code::Refused, format!("others can change the configuration: {path}: {why}")).hint(hint))
}

//! Which configuration was applied last to a service of this machine, and whether its files have changed
//! since. It is noted beside the socket, and gone with the machine's runtime files: a service that begins
//! applies what it is given anyway.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use crate::cli::declared::Declared;
use crate::cli::session::Session;
use crate::cli::{state, stdout, text};
use crate::client::Client;
use crate::sys::files;
use crate::wire::id::APPLY;
use crate::wire::process::End;
use crate::wire::request::List;

/// The longest note that is believed, in bytes.
const LEN_MAX: u64 = 16 << 10;

/// The age of a configuration: when the last of its files was changed, in ms since the epoch.
pub fn newest(path: &Path) -> Option<u64> {
    let beside = if path.is_dir() { path.to_owned() } else { path.parent()?.join("conf.d") };
    let inside = fs::read_dir(&beside).into_iter().flatten().flatten().map(|entry| entry.path());
    let toml = inside.filter(|file| file.extension().is_some_and(|extension| extension == "toml"));
    // A directory changes when a file comes or goes.
    let all = [path.to_owned(), beside.clone()].into_iter().chain(toml);
    all.filter_map(|file| modified(&file)).max()
}

fn modified(path: &Path) -> Option<u64> {
    let since = fs::metadata(path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

fn note_path(session: &Session) -> Option<PathBuf> {
    let mut path = session.socket().ok()?;
    path.as_mut_os_string().push(".applied");
    Some(path)
}

/// Whether all of it could be applied; where not, what came of it is shown by whoever applied it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Whole,
    Partly,
    /// By the service when it began.
    PartlyAtStart,
}

/// The configuration is applied as it was at this age, with this digest. Who may not write there has told
/// nobody.
pub fn note(session: &Session, path: &Path, (newest, digest): (Option<u64>, String), outcome: Outcome) {
    let (Some(note), Ok(path)) = (note_path(session), std::path::absolute(path)) else { return };
    let (is_whole, at_start) = (outcome == Outcome::Whole, outcome == Outcome::PartlyAtStart);
    let text = json!({
        "path": path.to_string_lossy(), "newest": newest, "declared": digest, "whole": is_whole, "at_start": at_start,
    });
    let _ = files::replace(&note, 0o644, text.to_string().as_bytes());
}

/// What is noted of the service that there is: one that begins has a new socket.
fn read(session: &Session) -> Option<Value> {
    let note = note_path(session)?;
    if modified(&note)? < modified(&session.socket().ok()?)? {
        return None;
    }
    let bytes = files::read(&note, LEN_MAX).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// What tells why not all of the configuration is applied, if it is not.
pub fn not_applied(session: &Session, client: &mut Client) -> Option<String> {
    let by_service = format!("provost output {APPLY}");
    // What is noted on this machine is of the service here.
    if !session.remote.is_given()
        && let Some(note) = read(session)
    {
        let path = note["path"].as_str()?;
        // By hand anything can be applied; the service's own is what it is to be.
        let is_own = || state::of_service(&session.socket().ok()?).config.filter(|own| own == path);
        let by_hand = || Some(format!("provost apply {}", text::quoted_command(&[path.to_owned()])));
        return match (note["whole"] == false, note["at_start"] == true) {
            (false, _) => None,
            (true, true) => Some(by_service),
            (true, false) => is_own().and_then(|_| by_hand()),
        };
    }
    let list = List { pattern: Some(APPLY.to_owned()), all: true, ..List::default() };
    let process = client.list(list).ok()?.into_iter().find(|p| p.internal)?;
    let has_failed = process.exit.as_ref().is_some_and(|exit| exit.end != End::Code(0));
    (has_failed && process.state.is_at_rest()).then_some(by_service)
}

/// Says on standard error that the files have changed since, or could not be applied as a whole.
pub fn notice(session: &Session) {
    let Some(note) = read(session) else { return };
    let (Some(path), Some(then)) = (note["path"].as_str(), note["newest"].as_u64()) else { return };
    let shown = text::quoted_command(&[path.to_owned()]);
    // Not by a touch, nor in what the service itself is told.
    let is_same = || Declared::read(path.as_ref()).is_ok_and(|now| note["declared"] == now.digest());
    if newest(path.as_ref()).is_some_and(|now| now > then) && !is_same() {
        stdout::notice(&format!("{shown} has changed since it was applied: provost apply {shown}"));
    } else if note["whole"] == false {
        stdout::notice(&format!("{shown} could not be applied as a whole: provost apply {shown}"));
    }
}

//! Where the service keeps what outlives it, and where its settings are, when nothing is said.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::cli::text;
use crate::client::{Client, default_socket};
use crate::sys::system;
use crate::wire::error::Error;

const SYSTEM_STATE: &str = "/var/lib/provost";
const SYSTEM_CONFIG: &str = "/etc/provost/provost.toml";
/// The longest name that is made of a socket's path, in bytes.
const NAME_LEN_MAX: usize = 200;

/// The directory of the store for the service on this socket: each has its own.
pub fn directory(socket: &Path) -> Result<PathBuf, Error> {
    let base = base(system::euid(), env::var_os("XDG_STATE_HOME"), env::var_os("HOME"))?;
    // A service on another socket than usual is another service.
    Ok(if default_socket().is_ok_and(|usual| usual == socket) { base } else { base.join(name_of(socket)) })
}

/// What a service was started with.
#[derive(Debug, Default)]
pub struct Given {
    pub state: Option<PathBuf>,
    pub config: Option<PathBuf>,
}

/// What the service at this socket was started with, as its engine's arguments have it; nothing, if there is
/// none or it does not tell us.
pub fn of_service(socket: &Path) -> Given {
    let arguments = || {
        let pid = Client::connect(socket).and_then(|mut client| client.service()).ok()?.engine_pid;
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(
            bytes.split(|&byte| byte == 0).map(|word| OsStr::from_bytes(word).to_owned()).collect::<Vec<_>>(),
        )
    };
    let words = arguments().unwrap_or_default();
    let value = |option: &str| {
        let at = words.iter().position(|word| word == option)?;
        words.get(at + 1).map(PathBuf::from)
    };
    Given { state: value("--state"), config: value("--config") }
}

/// The directory of the store of the service at this socket, or of the one that there would be.
pub fn directory_of(socket: &Path) -> Result<PathBuf, Error> {
    of_service(socket).state.map_or_else(|| directory(socket), Ok)
}

/// For a user without a runtime directory: the place below their state, which nobody else makes.
pub fn make_socket_directory(socket: &Path) -> Result<(), Error> {
    let directory = socket.parent().filter(|dir| dir.ends_with("provost/run"));
    let Some(directory) = directory.filter(|_| default_socket().is_ok_and(|usual| usual == socket)) else {
        return Ok(());
    };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|e| {
        Error::failed(&format!("make {}", text::path(directory)), &text::cause(&e))
            .hint("give another place with --socket PATH")
    })
}

/// The settings that hold without `--config`, if there are any.
pub fn default_config() -> Option<PathBuf> {
    let path = if system::euid() == 0 { PathBuf::from(SYSTEM_CONFIG) } else { user_config()? };
    path.exists().then_some(path)
}

/// Where a client looks for services on other machines: among its user's settings, then among those of all.
#[cfg(feature = "gateway")]
pub fn client_configs() -> Vec<PathBuf> {
    user_config().into_iter().chain([PathBuf::from(SYSTEM_CONFIG)]).filter(|path| path.exists()).collect()
}

/// Where a user's own settings are.
fn user_config() -> Option<PathBuf> {
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    Some(env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or(home)?.join("provost/provost.toml"))
}

fn base(uid: u32, state_home: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, Error> {
    if uid == 0 {
        return Ok(SYSTEM_STATE.into());
    }
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = absolute(home).map(|home| home.join(".local/state"));
    let state = absolute(state_home).or(home).ok_or_else(|| {
        Error::usage(format!(
            "where to keep the state cannot be told: user {uid} has neither XDG_STATE_HOME nor HOME"
        ))
        .hint("give a directory with --state, or --state none to keep nothing")
    })?;
    Ok(state.join("provost"))
}

fn name_of(socket: &Path) -> String {
    let text = socket.to_string_lossy();
    let name: String = text.trim_start_matches('/').chars().map(|c| if c == '/' { '-' } else { c }).collect();
    let at = (0..=name.len().saturating_sub(NAME_LEN_MAX)).find(|&n| name.is_char_boundary(n)).unwrap_or(0);
    let cut = (at..name.len()).find(|&n| name.is_char_boundary(n) && name.len() - n <= NAME_LEN_MAX);
    name[cut.unwrap_or(0)..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_and_each_socket_has_its_own() {
        let path = |text: &str| Some(OsString::from(text));
        assert_eq!(base(0, path("/x"), None), Ok("/var/lib/provost".into()));
        assert_eq!(base(7, path("/x"), path("/home/u")), Ok("/x/provost".into()));
        assert_eq!(base(7, path("rel"), path("/home/u")), Ok("/home/u/.local/state/provost".into()));
        assert!(base(7, None, None).is_err());
        assert_eq!(name_of(Path::new("/run/x.sock")), "run-x.sock");
        assert_eq!(name_of(Path::new(&format!("/{}é/s", "x".repeat(300)))).len(), NAME_LEN_MAX);
    }
}

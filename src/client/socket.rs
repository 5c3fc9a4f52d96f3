//! Where the service's socket is, and opening it: every way in which that fails has its own words and its
//! next step.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::sys::socket::peer_credentials;
use crate::sys::system;
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;

/// The longest path of a unix socket, in bytes: what `sockaddr_un` holds beside its final NUL.
pub const SOCKET_PATH_LEN_MAX: usize = 107;
/// The variable that names the socket.
pub const SOCKET_VARIABLE: &str = "PROVOST_SOCKET";
/// Where root's service listens.
const SOCKET_OF_ROOT: &str = "/run/provost/engine.sock";

/// Where the service listens unless something else is said: `$PROVOST_SOCKET`; else
/// `/run/provost/engine.sock` for root, and `$XDG_RUNTIME_DIR/provost/engine.sock` for everybody else. Where
/// there is no such directory (su, cron, a small host), `provost/run/engine.sock` below `$XDG_STATE_HOME`, or
/// below `.local/state` in `$HOME`.
///
/// ```
/// let path = provost::client::default_socket();
/// assert!(path.is_ok_and(|p| p.is_absolute()) || std::env::var_os("HOME").is_none());
/// ```
pub fn default_socket() -> Result<PathBuf, Error> {
    choose(system::euid(), &|name| env::var_os(name))
}

fn choose(uid: u32, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, Error> {
    if let Some(path) = variable(SOCKET_VARIABLE).filter(|p| !p.is_empty()) {
        return Ok(path.into());
    }
    if uid == 0 {
        return Ok(SOCKET_OF_ROOT.into());
    }
    let directory = |name| variable(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let runtime = directory("XDG_RUNTIME_DIR").map(|dir| dir.join("provost/engine.sock"));
    let state = || directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")));
    runtime.or_else(|| Some(state()?.join("provost/run/engine.sock"))).ok_or_else(|| {
        Error::usage(format!(
            "where the service's socket is cannot be told: user {uid} has neither XDG_RUNTIME_DIR nor HOME"
        ))
        .hint(format!("give --socket PATH, or set {SOCKET_VARIABLE}"))
    })
}

/// Where the host of providers listens: `host.sock` beside `engine.sock`, and beside any other socket P
/// `P.host`.
#[must_use]
pub fn host_socket(engine: &Path) -> PathBuf {
    beside(engine, "host")
}

/// Where gRPC on this machine is listened for: `grpc.sock` beside `engine.sock`, and beside any other socket
/// P `P.grpc`. None: that path would be longer than a socket's may be.
#[must_use]
pub fn grpc_socket(engine: &Path) -> Option<PathBuf> {
    Some(beside(engine, "grpc")).filter(|path| path.as_os_str().len() <= SOCKET_PATH_LEN_MAX)
}

fn beside(engine: &Path, program: &str) -> PathBuf {
    if engine.file_name().is_some_and(|name| name == "engine.sock") {
        return engine.with_file_name(format!("{program}.sock"));
    }
    let mut path = engine.as_os_str().to_owned();
    path.push(format!(".{program}"));
    path.into()
}

/// Connects, without a word said yet.
pub(super) fn open(path: &Path) -> Result<UnixStream, Error> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(Error::usage("the path of the service's socket is empty").hint("check --socket"));
    }
    if bytes.len() > SOCKET_PATH_LEN_MAX {
        return Err(Error::usage(format!(
            "socket path {} has {} bytes, a unix socket's has at most {SOCKET_PATH_LEN_MAX}",
            shown(path),
            bytes.len()
        ))
        .hint("choose a shorter path with --socket"));
    }
    let socket = UnixStream::connect(path).map_err(|e| match fs::metadata(path) {
        Ok(found) if !found.file_type().is_socket() => not_a_socket(path),
        Ok(_) | Err(_) => why_not(path, &e),
    })?;
    let server = peer_credentials(socket.as_fd())
        .map_err(|e| Error::failed(&format!("ask who listens on {}", shown(path)), &e))?;
    check_server(path, server.uid, system::euid())?;
    Ok(socket)
}

/// Whoever listens there is told commands with their environments: that is root, or ourselves.
fn check_server(path: &Path, server_uid: u32, uid: u32) -> Result<(), Error> {
    if server_uid == 0 || server_uid == uid {
        return Ok(());
    }
    let message = format!("what listens on {} belongs to user {server_uid}", shown(path));
    Err(Error::new(Code::Refused, message)
        .hint(format!("a service is root's or user {uid}'s own; to use another's, become that user")))
}

fn not_a_socket(path: &Path) -> Error {
    Error::new(Code::Unreachable, format!("the service is not reachable: {} is not a socket", shown(path)))
        .hint("check --socket and PROVOST_SOCKET")
}

/// What to do about a socket that is not there: a user's own service is asked for, unless another is named.
fn where_else(path: &str, uid: u32, has_root_one: bool) -> String {
    if uid != 0 && has_root_one {
        return format!(
            "that is where a service of your own would be; root's is asked with --socket {SOCKET_OF_ROOT}, or {SOCKET_VARIABLE}={SOCKET_OF_ROOT}"
        );
    }
    format!("is 'provost serve' running? looked at {path} as user {uid}")
}

/// What it means for a person that `connect` failed with this.
fn why_not(path: &Path, e: &io::Error) -> Error {
    let (path, uid) = (shown(path), system::euid());
    let unreachable = |message: String| Error::new(Code::Unreachable, message);
    match e.kind() {
        io::ErrorKind::NotFound => {
            unreachable(format!("the service is not reachable: there is no socket {path}"))
                .hint(where_else(&path, uid, !matches!(Path::new(SOCKET_OF_ROOT).try_exists(), Ok(false))))
        }
        io::ErrorKind::NotADirectory => {
            unreachable(format!("the service is not reachable: a part of {path} is not a directory"))
                .hint("check --socket and PROVOST_SOCKET")
        }
        io::ErrorKind::ConnectionRefused => {
            unreachable(format!("the service is not reachable: nobody listens on {path}"))
                .hint("the service that made this socket has ended; start it again with 'provost serve'")
        }
        io::ErrorKind::PermissionDenied => {
            Error::new(Code::Refused, format!("user {uid} may not connect to {path}: permission denied"))
                .hint("connect as the user whose service it is, or as root, or have [local.group_roles] of its configuration give one of your groups a role, which holds from the next start of the service on")
        }
        _ => unreachable(format!("cannot connect to {path}: {e}"))
            .hint(format!("looked as user {uid}; is it the socket of 'provost serve'?")),
    }
}

/// A path for one line of a message.
pub(super) fn shown(path: &Path) -> String {
    let text = quoted(&path.to_string_lossy());
    // A path is shown whole, unless that would break the line.
    if text.len() == path.as_os_str().len() + 2 { text[1..text.len() - 1].to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_variable_root_and_runtime_dir_is_taken() {
        let choose = |uid, set: &[(&str, &str)]| {
            choose(uid, &|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        let (named, runtime) = (("PROVOST_SOCKET", "/a"), ("XDG_RUNTIME_DIR", "/b"));
        let (state, home) = (("XDG_STATE_HOME", "/c"), ("HOME", "/d"));
        assert_eq!(choose(0, &[named, runtime]), Ok("/a".into()));
        assert_eq!(choose(0, &[("PROVOST_SOCKET", ""), runtime]), Ok("/run/provost/engine.sock".into()));
        assert_eq!(choose(7, &[runtime, state, home]), Ok("/b/provost/engine.sock".into()));
        for none in ["", "b"] {
            let without = ("XDG_RUNTIME_DIR", none);
            assert_eq!(choose(7, &[without, state, home]), Ok("/c/provost/run/engine.sock".into()));
            let at_home = "/d/.local/state/provost/run/engine.sock";
            assert_eq!(choose(7, &[without, ("XDG_STATE_HOME", none), home]), Ok(at_home.into()));
            let error = choose(7, &[without, ("HOME", none)]).unwrap_err();
            assert!(error.hint.contains("PROVOST_SOCKET"), "{error}");
        }
    }

    #[test]
    fn who_has_no_service_is_told_of_roots() {
        assert!(where_else("/x", 7, true).contains("--socket /run/provost/engine.sock"));
        for (uid, has_root_one) in [(0, true), (7, false)] {
            let hint = where_else("/x", uid, has_root_one);
            assert!(hint.contains("'provost serve'") && hint.contains("/x"), "{hint}");
        }
    }

    #[test]
    fn each_failure_has_its_own_words() {
        let kinds = [
            io::ErrorKind::NotFound,
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::NotADirectory,
            io::ErrorKind::InvalidInput,
        ];
        let path = Path::new("/x/engine.sock");
        let messages: Vec<String> = kinds.map(|k| why_not(path, &k.into()).message).into();
        for (n, message) in messages.iter().enumerate() {
            assert!(message.contains("/x/engine.sock"), "{message}");
            assert!(!messages[..n].contains(message));
        }
    }

    #[test]
    fn f13_a_path_that_no_socket_can_have_is_refused() {
        let path = PathBuf::from(format!("/{}", "x".repeat(SOCKET_PATH_LEN_MAX)));
        let e = open(&path).unwrap_err();
        assert_eq!(e.code, Code::Usage);
        assert!(e.message.contains("108 bytes"), "{e}");
        assert_eq!(open(Path::new("")).unwrap_err().code, Code::Usage);
    }

    #[test]
    fn a_service_of_another_user_is_not_talked_to() {
        let path = Path::new("/x/engine.sock");
        for (server, ours) in [(0, 0), (0, 7), (7, 7)] {
            assert_eq!(check_server(path, server, ours), Ok(()));
        }
        for (server, ours) in [(7, 0), (7, 8)] {
            let e = check_server(path, server, ours).unwrap_err();
            assert!(
                e.code == Code::Refused && e.message.contains("user 7") && e.hint.contains("become"),
                "{e}"
            );
        }
    }

    #[test]
    fn f12_what_is_no_socket_is_called_so() {
        assert!(open(Path::new("/dev/null")).unwrap_err().message.contains("not a socket"));
        assert!(open(Path::new("/")).unwrap_err().message.contains("not a socket"));
    }
}

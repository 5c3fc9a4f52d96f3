//! Where the service lives: its directory, its lock, and its socket. The lock decides who serves; the socket
//! is made with its final mode and never with a wider one.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::sys::descriptor::{AtExec, at_exec};
use crate::sys::procfs::{self, Program};
use crate::sys::{O_NOFOLLOW, child, clock, poll, system};
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;

/// The longest path of a unix socket, in bytes: sun_path without its NUL.
const PATH_LEN_MAX: usize = 107;
/// Others than owner and group get nothing.
const DIRECTORY_MODE: u32 = 0o750;
/// The same where groups have roles: the listener knows who comes in.
const OPEN_DIRECTORY_MODE: u32 = 0o755;
/// How long the engine of a keeper that was killed may take to be gone, ms.
const DYING_MS: u64 = 1000;
/// How long a lock may be held by what a dead keeper left, ms: its children, until they have descriptors of
/// their own.
const LEFT_MS: u64 = 5000;
/// How long by a keeper that still seems to live, ms: one that was just killed does for a moment.
const LIVING_MS: u64 = 500;
/// How long to wait between two attempts to lock, ms: nothing tells of a lock that is given up.
const LOCK_PAUSE_MS: u64 = 10;
/// What is taken from the mode of a new socket: it is 0660 from its first moment.
const SOCKET_UMASK: u32 = 0o117;
/// The same where groups have roles: 0666.
const OPEN_SOCKET_UMASK: u32 = 0o111;

/// A place that is ours until it is dropped.
#[derive(Debug)]
pub struct SocketDir {
    socket: Bound,
    is_open: bool,
    lock: File,
}

/// A socket in the file system, which goes when it is dropped, if it is still the one that was bound.
#[derive(Debug)]
pub struct Bound {
    path: PathBuf,
    /// Device and inode; none: it went before it was looked at.
    identity: Option<(u64, u64)>,
}

impl Bound {
    /// The one that is there.
    fn at(path: PathBuf) -> Self {
        let identity = identity(&path);
        Self { path, identity }
    }

    /// Whether it is where clients look for it.
    pub fn is_there(&self) -> bool {
        self.identity.is_some() && identity(&self.path) == self.identity
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

impl SocketDir {
    /// Takes the place and listens there. Refuses when another service holds it, and when something that is
    /// not ours is in the way.
    /// `is_open`: for everybody who gets as far as to be looked at.
    pub fn claim(socket: &Path, is_open: bool) -> Result<(Self, OwnedFd), Error> {
        let shown = quoted(&socket.to_string_lossy());
        if socket.as_os_str().len() > PATH_LEN_MAX {
            return Err(Error::usage(format!("socket path {shown} is longer than {PATH_LEN_MAX} bytes"))
                .hint("give a shorter one with --socket"));
        }
        if !socket.is_absolute() || socket.file_name().is_none() {
            return Err(Error::usage(format!("socket path {shown} is not an absolute path of a file")));
        }
        make_directory(socket, false)?;
        let lock = take_lock(socket, AwaitLock::OfTheDead)?;
        clear_stale(socket)?;
        make_directory(socket, is_open)?;
        let listener = bind(socket, is_open).map_err(|e| failed("listen on the socket", socket, &e))?;
        Ok((Self { socket: Bound::at(socket.to_owned()), is_open, lock }, listener))
    }

    /// The place that this process held as another program, with its lock.
    pub fn inherited(socket: PathBuf, lock: File) -> Self {
        // As open as it is: nobody else made it.
        let is_open = fs::symlink_metadata(&socket).is_ok_and(|meta| meta.mode() & 0o002 != 0);
        Self { socket: Bound::at(socket), is_open, lock }
    }

    /// Whether the socket is where clients look for it.
    pub fn is_there(&self) -> bool {
        self.socket.is_there()
    }

    /// Whether others than our own user and group get as far as the socket.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Makes the socket again, which somebody has taken away. Whose place it is, is decided by the lock, also
    /// if that was taken away: then it is taken again.
    pub fn renew(&mut self) -> Result<OwnedFd, Error> {
        let socket = self.socket.path().to_owned();
        make_directory(&socket, self.is_open)?;
        let ours = self.lock.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
        if identity(&lock_path(&socket)) != ours {
            self.lock = take_lock(&socket, AwaitLock::Never)?;
        }
        expect_nothing_at(&socket)?;
        let listener =
            bind(&socket, self.is_open).map_err(|e| failed("listen on the socket", &socket, &e))?;
        // The one before has no name any more.
        self.socket = Bound::at(socket);
        Ok(listener)
    }

    /// What keeps others out for as long as it is open.
    pub fn lock(&self) -> &File {
        &self.lock
    }

    /// Where the socket is.
    pub fn socket(&self) -> &Path {
        self.socket.path()
    }
}

/// The socket for gRPC on this machine, listened to from the start; whoever serves it comes and goes.
#[derive(Debug)]
pub struct GrpcSocket {
    bound: Bound,
    listener: OwnedFd,
}

impl GrpcSocket {
    /// Listens there. To be called with the place claimed: its lock says that whoever still listens on what
    /// is in the way belongs to a service that is gone.
    pub fn open(path: &Path, is_open: bool) -> Result<Self, Error> {
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.file_type().is_socket() => {
                fs::remove_file(path).map_err(|e| failed("take away the stale socket", path, &e))?;
            }
            // `bind` says what is wrong.
            Ok(_) | Err(_) => {}
        }
        let listener = bind(path, is_open).map_err(|e| failed("listen on the socket", path, &e))?;
        Ok(Self { bound: Bound::at(path.to_owned()), listener })
    }

    /// Listens there again, if nothing is in the way.
    pub fn again(path: &Path, is_open: bool) -> Result<Self, Error> {
        expect_nothing_at(path)?;
        Self::open(path, is_open)
    }

    /// The one that this process held as another program.
    pub fn inherited(path: PathBuf, listener: OwnedFd) -> Self {
        Self { bound: Bound::at(path), listener }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.bound.path()
    }

    /// Whether it is where clients look for it.
    pub fn is_there(&self) -> bool {
        self.bound.is_there()
    }

    /// What connections wait in.
    pub fn listener(&self) -> &OwnedFd {
        &self.listener
    }
}

fn failed(doing: &str, path: &Path, e: &io::Error) -> Error {
    let error = Error::new(Code::Failed, format!("cannot {doing} {}: {e}", quoted(&path.to_string_lossy())));
    if e.kind() == io::ErrorKind::PermissionDenied {
        return error.hint(format!("user {} may not; choose another place with --socket", system::euid()));
    }
    error
}

/// The lock of the store's directory, for keepers; engines have one of their own.
const STATE_LOCK: &str = "keeper.lock";

/// Whether a keeper has ever kept its state there.
pub fn has_lock(directory: &Path) -> bool {
    directory.join(STATE_LOCK).exists()
}

/// Locks the directory of the store until this process and all it becomes by exec are gone: the descriptor is
/// left open on purpose, and over an exec. Children close it at theirs.
pub fn lock_state(directory: &Path) -> Result<(), Error> {
    let lock = lock(&directory.join(STATE_LOCK), AwaitLock::OfTheDead, |pid| {
        let at = quoted(&directory.to_string_lossy());
        let hint = "use that one, stop it with SIGTERM to that pid, or choose another directory with --state";
        Error::new(Code::Refused, format!("another provost keeps its state in {at} (keeper pid {pid})"))
            .hint(hint)
    })?;
    at_exec(lock.as_fd(), AtExec::Keep).map_err(|e| failed("keep the lock of", directory, &e))?;
    std::mem::forget(lock);
    Ok(())
}

/// The lock of a place. It stays when the place is given up: removing it would let two services lock two
/// files of one name.
fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.to_owned();
    path.as_mut_os_string().push(".lock");
    path
}

fn take_lock(socket: &Path, awaits: AwaitLock) -> Result<File, Error> {
    lock(&lock_path(socket), awaits, |pid| {
        let at = quoted(&socket.to_string_lossy());
        Error::new(Code::Refused, format!("another provost serves {at} already (keeper pid {pid})"))
            .hint("use it; or stop it with SIGTERM to that pid, and begin again when its processes have ended; or choose another place with --socket")
    })
}

/// Whether to wait for a lock that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AwaitLock {
    Never,
    /// What a keeper that was killed has left behind is on its way out.
    OfTheDead,
}

/// Locks a file and writes our number into it.
/// `taken`: what to say when somebody else, of this number, has it.
fn lock(path: &Path, awaits: AwaitLock, taken: impl Fn(&str) -> Error) -> Result<File, Error> {
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(O_NOFOLLOW)
        .open(path)
        .map_err(|e| failed("open the lock", path, &e))?;
    let begin = clock::now_ms();
    while !system::try_lock(&lock).map_err(|e| failed("lock", path, &e))? {
        let mut pid = String::new();
        let _ = lock.seek(SeekFrom::Start(0)).and_then(|_| (&mut lock).take(16).read_to_string(&mut pid));
        let keeper = pid.trim().parse().ok().and_then(procfs::stat);
        let is_there = keeper.is_some_and(|stat| stat.program != Program::Nothing);
        let now = clock::now_ms();
        let limit = match awaits {
            AwaitLock::Never => 0,
            AwaitLock::OfTheDead if is_there => LIVING_MS,
            AwaitLock::OfTheDead => LEFT_MS,
        };
        if now >= begin + limit {
            return Err(taken(pid.trim()));
        }
        let _ = poll::wait(&mut [], Some(now + LOCK_PAUSE_MS));
    }
    let write = |lock: &mut File| -> io::Result<()> {
        lock.set_len(0)?;
        lock.seek(SeekFrom::Start(0))?;
        writeln!(lock, "{}", std::process::id())
    };
    write(&mut lock).map_err(|e| failed("write the lock", path, &e))?;
    Ok(lock)
}

/// What may be in the way.
const NO_SOCKET: &str = "something that is no socket is there";

fn expect_nothing_at(socket: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(socket) {
        Ok(meta) if meta.file_type().is_socket() => Err(in_the_way(socket, "another socket is there")),
        Ok(_) => Err(in_the_way(socket, NO_SOCKET)),
        Err(_) => Ok(()),
    }
}

fn in_the_way(socket: &Path, what: &str) -> Error {
    let shown = quoted(&socket.to_string_lossy());
    Error::new(Code::Refused, format!("cannot listen on {shown}: {what}"))
        .hint("take it away, or choose another place with --socket")
}

/// Takes away a socket that a dead service left. Anything else in its place is somebody's, and stays.
fn clear_stale(socket: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(socket) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("look at", socket, &e)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(in_the_way(socket, NO_SOCKET));
        }
        Ok(_) => {}
    }
    // We have the lock, so whoever still listens may be the engine of a keeper that was killed, on its way
    // out.
    let until = clock::now_ms() + DYING_MS;
    while UnixStream::connect(socket).is_ok() && clock::now_ms() < until {
        let _ = poll::wait(&mut [], Some(clock::now_ms() + 10));
    }
    match UnixStream::connect(socket) {
        Ok(_) => Err(in_the_way(socket, "another program listens there")),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(socket).map_err(|e| failed("take away the stale socket", socket, &e))
        }
        Err(e) => Err(failed("connect to the socket that is there", socket, &e)),
    }
}

/// Makes the directory of the socket if it is missing.
fn make_directory(socket: &Path, is_open: bool) -> Result<(), Error> {
    let directory = socket.parent().expect("an absolute path of a file has a parent");
    match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("make the directory of the socket", directory, &e))
        }
        _ if is_open => open_directory(directory),
        _ => Ok(()),
    }
}

/// Lets everybody get as far as the sockets in the directory, if it is the one that services make. Another
/// one is its owner's affair.
fn open_directory(directory: &Path) -> Result<(), Error> {
    let meta = fs::metadata(directory).map_err(|e| failed("look at", directory, &e))?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o005 == 0o005 {
        return Ok(());
    }
    if mode == DIRECTORY_MODE && meta.uid() == system::euid() {
        return fs::set_permissions(directory, Permissions::from_mode(OPEN_DIRECTORY_MODE))
            .map_err(|e| failed("open the directory of the socket", directory, &e));
    }
    let shown = quoted(&directory.to_string_lossy());
    let e = format!("[local.group_roles] lets others in, but the directory {shown} has mode {mode:04o}");
    Err(Error::new(Code::Refused, e)
        .hint(format!("chmod go+rx {shown}, or choose another place with --socket")))
}

fn bind(socket: &Path, is_open: bool) -> io::Result<OwnedFd> {
    // The keeper has one thread, so nobody else makes files under this mask.
    let before = child::umask(if is_open { OPEN_SOCKET_UMASK } else { SOCKET_UMASK });
    let listener = UnixListener::bind(socket);
    child::umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

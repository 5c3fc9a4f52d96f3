//! Pipes between processes.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::sys::cerr;

/// A pipe: read end, write end. Neither is inherited by programs.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors, which have no other owner.
    unsafe {
        cerr(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Writes what there is room for now: `WouldBlock` where there is none. Though the descriptor is shared and
/// so cannot be made non-blocking, a writer that comes in between is not waited for where the kernel helps
/// (RWF_NOWAIT, for pipes from 6.5 on).
pub fn write_at_once(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let mut room = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd, which lives through the call.
    if cerr(unsafe { libc::poll(&raw mut room, 1, 0) })? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let plain = || {
        // SAFETY: pointer and length describe `bytes`.
        let n = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    };
    // A file has no reader to wait for; not to wait would mean for memory or its disk.
    if is_file(fd) {
        return plain();
    }
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: one part, which describes `bytes` and is only read.
    let written = unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const part, 1, -1, libc::RWF_NOWAIT) };
    let written = match usize::try_from(written) {
        Ok(n) => return Ok(n),
        Err(_) => io::Error::last_os_error(),
    };
    match written.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::ESPIPE) => plain(),
        _ => Err(written),
    }
}

/// The inode of a pipe, which both of its ends have.
pub fn inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: zero is a valid stat, and a place for the kernel to write to.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        cerr(libc::fstat(fd.as_raw_fd(), &raw mut stat))?;
        Ok(stat.st_ino)
    }
}

/// Opens the reading end of the pipe with this inode anew, which this process has open.
pub fn open_of(pid: u32, inode: u64) -> Option<OwnedFd> {
    let name = format!("pipe:[{inode}]");
    let all = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.filter_map(Result::ok);
    let has_it = |entry: &fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == &*name);
    all.filter(has_it).find_map(|entry| {
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(entry.path()).ok()?;
        // It may be another one by now.
        (self::inode(file.as_fd()).ok()? == inode).then(|| OwnedFd::from(file))
    })
}

/// The inode of the pipe that a process has open at this number, if to read and to write at once: so nobody
/// opens one who means to be heard by others.
pub fn inode_of_both_ways(pid: u32, number: u32) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
    let to = fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
    let inode = to.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok()?;
    (flags & libc::O_ACCMODE == libc::O_RDWR).then_some(inode)
}

fn is_file(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: zero is a valid stat, and a place for the kernel to write to.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(fd.as_raw_fd(), &raw mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFREG
    }
}

/// Asks for a pipe of this many bytes; refused beyond the user's share (/proc/sys/fs/pipe-user-pages-soft).
pub fn widen_pipe(pipe: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    let len = libc::c_int::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: fcntl with this command touches no memory of ours.
    cerr(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, len) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::soon;
    use std::io::Read;

    #[test]
    fn a_full_pipe_is_not_waited_for() {
        let (r, w) = pipe().unwrap();
        let mut written = 0;
        let full = loop {
            match write_at_once(w.as_fd(), &[b'x'; 1000]) {
                Ok(n) => written += n,
                Err(e) => break e,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(written >= 60_000, "{written}");
        File::from(r.try_clone().unwrap()).read_exact(&mut vec![0; 8192]).unwrap();
        assert_eq!(write_at_once(w.as_fd(), b"again").unwrap(), 5);
        drop(r);
        soon::until("nobody reads", || write_at_once(w.as_fd(), b"gone").is_err());
        let file = tempfile::tempfile().unwrap();
        assert_eq!(write_at_once(file.as_fd(), b"a file").unwrap(), 6);
    }
}

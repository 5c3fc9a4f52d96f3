//! Anonymous files (memfd) that outlive the process that writes them, as long as a process holds the
//! descriptor; windows into them; and moving bytes from a pipe into them inside the kernel.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::{cerr, cerr_long};

/// The unit in which our files are laid out, in bytes; the smallest page of every Linux machine we run on.
pub const PAGE: usize = 4096;

/// The machine's page, in bytes: 4096, or 16 or 64 KiB on some.
#[must_use]
pub fn page_size() -> usize {
    // SAFETY: touches no memory.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok().filter(|&n| n > 0).unwrap_or(PAGE)
}

/// A new anonymous file of this size. Pages are taken when they are first written.
pub fn memfd_create(name: &std::ffi::CStr, len: u64) -> io::Result<File> {
    // SAFETY: the name is a C string; the descriptor returned is new and ours.
    let file = unsafe {
        let fd = cerr(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC))?;
        File::from_raw_fd(fd)
    };
    file.set_len(len)?;
    Ok(file)
}

/// A file in memory that holds this, and that nobody can change any more.
pub fn memfd_sealed(name: &std::ffi::CStr, bytes: &[u8]) -> io::Result<File> {
    // SAFETY: the name is a C string; the descriptor returned is new and ours.
    let file = unsafe {
        let fd = cerr(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING))?;
        File::from_raw_fd(fd)
    };
    file.write_all_at(bytes, 0)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE | libc::F_SEAL_SEAL;
    // SAFETY: the descriptor is open, and takes no pointer.
    cerr(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(file)
}

/// A shared window into a file: what is written here is in the file at that instant, whatever becomes of us.
#[derive(Debug)]
pub struct Window {
    at: NonNull<u8>,
    len: usize,
    /// What is mapped in front of it, since a mapping begins with a page of the machine's.
    before: usize,
}

// SAFETY: the window is plain memory; words are reached through atomics, and ranges only with `&mut self` or
// by their one writer (see `write`).
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// Maps `len` bytes from the beginning of the file. The file must not shrink while the window lives; ours
    /// never do.
    pub fn map(file: &File, len: usize) -> io::Result<Self> {
        if file.metadata()?.len() < len as u64 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is smaller than the window"));
        }
        Self::map_known(file, 0, len)
    }

    /// Maps `len` bytes from the beginning of a file of somebody else's, to look at words: whoever writes
    /// through this window is ended (SIGSEGV). The file must have them and not shrink.
    pub fn map_for_reading(file: &File, len: usize) -> io::Result<Self> {
        Self::map_with(file, 0, len, libc::PROT_READ)
    }

    /// Maps `len` bytes from `offset`, a multiple of [`PAGE`], of a file that is known to have them: touched
    /// beyond its end, the window is deadly (SIGBUS).
    pub fn map_known(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        Self::map_with(file, offset, len, libc::PROT_READ | libc::PROT_WRITE)
    }

    fn map_with(file: &File, offset: u64, len: usize, access: libc::c_int) -> io::Result<Self> {
        Self::map_pages(file, offset, len, access, page_size())
    }

    fn map_pages(file: &File, offset: u64, len: usize, access: libc::c_int, page: usize) -> io::Result<Self> {
        let before = usize::try_from(offset % page as u64).expect("less than a page");
        let from = (offset - before as u64).cast_signed();
        let mapped = before.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new shared mapping at an address of the kernel's choice disturbs nothing.
        let at =
            unsafe { libc::mmap(ptr::null_mut(), mapped, access, libc::MAP_SHARED, file.as_raw_fd(), from) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping has `before` bytes, and more.
        let at = unsafe { at.cast::<u8>().add(before) };
        let at = NonNull::new(at).expect("mmap never returns null without MAP_FIXED");
        Ok(Self { at, len, before })
    }

    /// The 64-bit word at this byte offset, a multiple of 8.
    #[must_use]
    pub fn atomic(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset.is_multiple_of(8) && offset + 8 <= self.len,
            "word {offset} in a window of {}",
            self.len
        );
        // SAFETY: in bounds and aligned (the mapping is page-aligned); shared words are only ever touched
        // atomically.
        unsafe { &*self.at.as_ptr().add(offset).cast::<AtomicU64>() }
    }

    /// Copies bytes in. Nobody may read or write this range at the same time: the callers keep two slots and
    /// publish the one that is whole by a word, and write under a lock.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(
            offset.checked_add(bytes.len()).is_some_and(|end| end <= self.len),
            "write beyond the window"
        );
        // SAFETY: in bounds by the assertion; no overlap, since `bytes` is memory of ours and not of the
        // window.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.as_ptr().add(offset), bytes.len()) };
        // The words that publish these bytes must not become visible before them.
        std::sync::atomic::fence(Ordering::Release);
    }

    /// All of it, for one who knows that nobody writes there any more.
    #[must_use]
    pub fn as_bytes(&mut self) -> &[u8] {
        // SAFETY: the mapping has `len` bytes and lives as long as the borrow, which is this process's only
        // one.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }

    /// Copies bytes out; `None` beyond the window.
    #[must_use]
    pub fn read(&self, offset: usize, len: usize) -> Option<Vec<u8>> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        let mut bytes = vec![0; len];
        // SAFETY: in bounds by the check above, and the vector has room for `len` bytes.
        unsafe { ptr::copy_nonoverlapping(self.at.as_ptr().add(offset), bytes.as_mut_ptr(), len) };
        Some(bytes)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: exactly what `map_pages` made; references into it cannot outlive `self`.
        unsafe { libc::munmap(self.at.as_ptr().sub(self.before).cast(), self.before + self.len) };
    }
}

/// Moves up to `len` bytes from a pipe into the file at its own position, which moves with them. The kernel
/// does both in one call that a signal cannot cut in two: whoever holds the file next learns from its
/// position what was taken. `WouldBlock`: the pipe is empty. 0: its other end is closed.
pub fn splice(pipe: BorrowedFd<'_>, file: &File, len: usize) -> io::Result<usize> {
    // SAFETY: null offsets mean the descriptors' own positions; no memory of ours is touched.
    let n = unsafe {
        libc::splice(
            pipe.as_raw_fd(),
            ptr::null_mut(),
            file.as_raw_fd(),
            ptr::null_mut(),
            len,
            libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE,
        )
    };
    cerr_long(n as libc::c_long).map(|n| usize::try_from(n).expect("splice returns a count"))
}

/// Adds `len` bytes of the file from `offset` on; fewer are an error. Into memory that was not zeroed before.
pub fn read_exact_at(file: &File, bytes: &mut Vec<u8>, offset: u64, len: usize) -> io::Result<()> {
    bytes.reserve_exact(len);
    let begin = bytes.len();
    while bytes.len() < begin + len {
        let read = bytes.len() - begin;
        let at = libc::off_t::try_from(offset + read as u64).map_err(io::Error::other)?;
        let room = &mut bytes.spare_capacity_mut()[..len - read];
        // SAFETY: pointer and length describe `room`.
        let n = unsafe { libc::pread(file.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), at) };
        match usize::try_from(n) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            // SAFETY: the kernel has written so many bytes behind those that were there.
            Ok(n) => unsafe { bytes.set_len(bytes.len() + n) },
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
        }
    }
    Ok(())
}

/// Takes the program's own code out of memory: what only its beginning needed stays out, the rest comes back
/// from the page cache when it is next run.
pub fn forget_code() {
    let Some(code) = own_code() else { return };
    // In pages of the machine's: a last one that holds other things, too, stays.
    let page = page_size();
    let start = code.start.next_multiple_of(page);
    let len = (code.end & !(page - 1)).saturating_sub(start);
    // SAFETY: the range lies in a segment of the program's file that can be read and run, and not written:
    // whatever is touched in it again is read from the file again.
    unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_DONTNEED) };
}

/// The addresses of the program's code, by its own headers: what is confined may not read `/proc`.
fn own_code() -> Option<Range<usize>> {
    /// Looks through the segments of one object, and ends the iteration when it has found it.
    unsafe extern "C" fn look(
        info: *mut libc::dl_phdr_info,
        _: libc::size_t,
        found: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the C library passes a description that is valid during this call, and `own_code`'s range.
        let (info, found) = unsafe { (&*info, &mut *found.cast::<Range<usize>>()) };
        // SAFETY: as many headers as it says, which are part of the loaded object.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let here = own_code as fn() -> Option<Range<usize>> as usize;
        for header in headers {
            let is_code =
                header.p_type == libc::PT_LOAD && header.p_flags & (libc::PF_X | libc::PF_W) == libc::PF_X;
            let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
            let range = start..start.wrapping_add(header.p_memsz as usize);
            if is_code && range.contains(&here) {
                *found = range;
                return 1;
            }
        }
        0
    }
    let mut found = 0..0;
    // SAFETY: `look` gets the range that it is made for, which lives longer than the iteration.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut found).cast()) };
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pipe::pipe;
    use crate::sys::soon;
    use std::io::{Seek, SeekFrom, Write};
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    #[test]
    fn code_comes_back_after_it_was_forgotten() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let code = own_code().unwrap();
        let is_code = |line: &str| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let hex = |text| usize::from_str_radix(text, 16).unwrap();
            rest.starts_with("r-xp") && hex(start) <= code.start && code.end <= hex(end)
        };
        assert!(maps.lines().any(is_code), "{code:x?}\n{maps}");
        forget_code();
        assert_eq!(own_code().unwrap(), code);
    }

    #[test]
    fn splice_moves_the_files_own_position() {
        let mut file = memfd_create(c"test", 8192).unwrap();
        let (r, w) = pipe().unwrap();
        File::from(w.try_clone().unwrap()).write_all(b"hello world").unwrap();
        file.seek(SeekFrom::Start(100)).unwrap();
        assert_eq!(splice(r.as_fd(), &file, 5).unwrap(), 5);
        assert_eq!(file.stream_position().unwrap(), 105);
        assert_eq!(splice(r.as_fd(), &file, 100).unwrap(), 6);
        assert_eq!(splice(r.as_fd(), &file, 100).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(w);
        soon::until("it ends", || splice(r.as_fd(), &file, 100).is_ok_and(|len| len == 0));
        let mut got = [0; 11];
        file.read_exact_at(&mut got, 100).unwrap();
        assert_eq!(&got, b"hello world");
    }

    #[test]
    fn a_window_is_the_file() {
        let file = memfd_create(c"test", PAGE as u64).unwrap();
        let window = Window::map(&file, PAGE).unwrap();
        window.write(8, b"abc");
        window.atomic(16).store(7, Ordering::Release);
        let mut got = [0; 16];
        file.read_exact_at(&mut got, 8).unwrap();
        assert_eq!(&got, b"abc\0\0\0\0\0\x07\0\0\0\0\0\0\0");
        assert!(Window::map(&file, 2 * PAGE).is_err());
        assert_eq!(window.read(PAGE - 1, 2), None);
    }

    /// A launch lies at a multiple of 4096, which is within a page where pages are larger.
    #[test]
    fn a_window_may_begin_within_a_page_of_the_machine() {
        let file = memfd_create(c"test", 1 << 17).unwrap();
        for (offset, text) in [(5 * PAGE as u64, b"launch"), (17 * PAGE as u64, b"second")] {
            file.write_all_at(text, offset).unwrap();
            for page in [4 << 10, 16 << 10, 64 << 10] {
                let access = libc::PROT_READ | libc::PROT_WRITE;
                let mut window = Window::map_pages(&file, offset, 6, access, page).unwrap();
                assert_eq!(window.as_bytes(), text, "at {offset} in pages of {page}");
            }
        }
        assert!(page_size().is_multiple_of(PAGE));
    }
}

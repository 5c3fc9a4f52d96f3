//! Resource limits: their names and numbers, and what this process has.

use std::io;

use crate::sys::cerr;

/// Names as in setrlimit(2) without the prefix, and numbers; the one list of them.
const NAMES: [(&str, u32); 16] = [
    ("as", libc::RLIMIT_AS),
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("rss", libc::RLIMIT_RSS),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("rttime", libc::RLIMIT_RTTIME),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("stack", libc::RLIMIT_STACK),
];

pub const NOFILE: u32 = libc::RLIMIT_NOFILE;
pub const LOCKS: u32 = libc::RLIMIT_LOCKS;

/// The hard limit of this process; `u64::MAX`: there is none.
pub fn hard(resource: u32) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    cerr(unsafe { libc::getrlimit(resource, &raw mut limit) }).map(|_| limit.rlim_max)
}

/// The number of "nofile" or "NOFILE"; `None` for what is no limit.
#[must_use]
pub fn rlimit_number(name: &str) -> Option<u32> {
    NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|&(_, number)| number)
}

/// The name of that number.
#[must_use]
pub fn rlimit_name(number: u32) -> Option<&'static str> {
    NAMES.iter().find(|&&(_, n)| n == number).map(|&(name, _)| name)
}

/// All names, for a message that has to list them.
pub fn rlimit_names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|&(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for name in rlimit_names() {
            assert_eq!(rlimit_number(name).and_then(rlimit_name), Some(name));
        }
        assert_eq!(rlimit_number("NoFile"), Some(libc::RLIMIT_NOFILE));
        assert_eq!(rlimit_number(""), None);
        assert_eq!(rlimit_number("nofiles"), None);
    }
}

//! The terminal that a person sits at: its size, and a question whose answer it does not show.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::sys::cerr;
use crate::sys::poll;
use crate::sys::poll::PollFd;
use crate::sys::signal;
use crate::sys::signal::SignalFd;

/// What a terminal hands over as one line at most, in bytes.
const LINE_LEN_MAX: usize = 4096;

/// Asks at the terminal of this process, wherever its standard input comes from. The answer is without the
/// end of its line. The terminal is as it was afterwards, also after ctrl-c, which is the error
/// `Interrupted`.
pub fn ask_silently(question: &str) -> io::Result<Vec<u8>> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    // From here on signals are read: nothing may end us while the terminal is silent.
    let signals = SignalFd::new(&[signal::INT, signal::QUIT, signal::TERM, signal::HUP, signal::TSTP])?;
    let _silence = Silence::on(&terminal)?;
    (&terminal).write_all(question.as_bytes())?;
    loop {
        let mut fds = [PollFd::readable(terminal.as_fd()), PollFd::readable(signals.as_fd())];
        poll::wait(&mut fds, None)?;
        let has_answer = fds[0].is_ready();
        if let Some(signal) = signals.read()? {
            (&terminal).write_all(b"\n")?;
            return Err(io::Error::new(io::ErrorKind::Interrupted, signal::name(signal)));
        }
        if has_answer {
            // With room for all of it, so that no piece is left behind in memory.
            let mut line = vec![0; LINE_LEN_MAX];
            let len = (&terminal).read(&mut line)?;
            line.truncate(len);
            if line.pop_if(|last| *last == b'\n').is_none() && len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            return Ok(line);
        }
    }
}

/// How much a terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub columns: usize,
    pub rows: usize,
}

/// The size of the terminal that this is; none if it is no terminal, or does not know.
pub fn size(fd: BorrowedFd<'_>) -> Option<Size> {
    // SAFETY: all bytes zero are a winsize, which the kernel then fills.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open for the whole call, and the kernel writes one winsize.
    cerr(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) }).ok()?;
    (size.ws_col > 0).then(|| Size { columns: size.ws_col.into(), rows: size.ws_row.into() })
}

/// A terminal shows nothing but the ends of lines, until this is dropped.
struct Silence<'a> {
    terminal: &'a File,
    before: libc::termios,
}

impl<'a> Silence<'a> {
    fn on(terminal: &'a File) -> io::Result<Self> {
        // SAFETY: all bytes zero are a termios, which the kernel then fills.
        let mut before: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open for the whole call, and the kernel writes one termios.
        cerr(unsafe { libc::tcgetattr(terminal.as_raw_fd(), &raw mut before) })?;
        let mut silent = before;
        silent.c_lflag &= !libc::ECHO;
        silent.c_lflag |= libc::ECHONL;
        set(terminal, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // When the terminal is gone there is nothing to restore.
        let _ = set(self.terminal, &self.before);
    }
}

/// What was typed before is thrown away: it was shown.
fn set(terminal: &File, termios: &libc::termios) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call, and the kernel reads one termios.
    cerr(unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSAFLUSH, termios) }).map(drop)
}

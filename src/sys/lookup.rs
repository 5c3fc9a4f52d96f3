//! The output of a program that has so long for it: for what a thread cannot give up, such as a look-up of a
//! name in the C library.

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use crate::sys::clock;
use crate::sys::poll::{self, PollFd};

/// This program itself, also where its file was replaced.
pub const OURSELVES: &str = "/proc/self/exe";
/// How much is read at once.
const READ_LEN: usize = 4 << 10;

/// What a program of ours has printed by its end, if that is before the deadline (monotonic ms); else it is
/// killed. Nothing of it stays.
pub fn output_of(command: &mut Command, deadline_ms: u64, len_max: usize) -> io::Result<Vec<u8>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut read = || {
        let mut stdout = child.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
        let (mut output, mut bytes) = (Vec::new(), [0; READ_LEN]);
        loop {
            let mut fds = [PollFd::readable(stdout.as_fd())];
            poll::wait(&mut fds, Some(deadline_ms))?;
            if !fds[0].is_ready() && clock::now_ms() >= deadline_ms {
                return Err(ErrorKind::TimedOut.into());
            }
            if !fds[0].is_ready() {
                continue;
            }
            match stdout.read(&mut bytes)? {
                0 => return Ok(output),
                _ if output.len() >= len_max => return Err(ErrorKind::FileTooLarge.into()),
                n => output.extend_from_slice(&bytes[..n]),
            }
        }
    };
    let output = read();
    if output.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    output.and_then(
        |output: Vec<u8>| if status.success() { Ok(output) } else { Err(ErrorKind::NotFound.into()) },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, within_ms: u64) -> Result<Vec<u8>, ErrorKind> {
        let mut command = Command::new("sh");
        output_of(command.args(["-c", script]), clock::now_ms() + within_ms, 8).map_err(|e| e.kind())
    }

    #[test]
    fn a_program_has_so_long_and_so_much_to_say() {
        assert_eq!(shell("echo 1; echo 2", 20_000), Ok(b"1\n2\n".to_vec()));
        assert_eq!(shell("exit 1", 20_000), Err(ErrorKind::NotFound));
        assert_eq!(shell("yes", 20_000), Err(ErrorKind::FileTooLarge));
        assert_eq!(shell("exec sleep 1000", 100), Err(ErrorKind::TimedOut));
    }
}

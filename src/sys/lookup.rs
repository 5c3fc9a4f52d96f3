//! The addresses of a name, looked up by a program of our own that has so long for it: a thread could not
//! give up a look-up in the C library, and a static program had better not load more of that. All that we
//! connect to by name is looked up here: providers, executors, sinks, services on other machines.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::sys::clock;
use crate::sys::poll::{self, PollFd};

/// Whether this process is the program that has the command.
static IS_PROGRAM: AtomicBool = AtomicBool::new(false);

/// This program itself, also where its file was replaced.
const OURSELVES: &str = "/proc/self/exe";
/// How much is read at once.
const READ_LEN: usize = 4 << 10;
/// How long a name may be looked up, ms.
const LOOKUP_MAX_MS: u64 = 5000;
/// How long an address is good for, ms: a name service that is slow is not to be asked for each connection.
const KNOWN_MS: u64 = 30_000;
/// The most names that are known.
const KNOWN_MAX: usize = 1024;
/// The most that are looked up at once: each is a process.
const LOOKUPS_MAX: usize = 64;
/// The longest answer, in bytes.
const ANSWER_LEN_MAX: usize = 16 << 10;

/// This process is the program: without this, names are looked up in the process itself, which may be any
/// that uses the library.
pub fn look_up_by_command() {
    IS_PROGRAM.store(true, Ordering::Relaxed);
}

/// All addresses that a name has, by `provost lookup`, until the deadline (monotonic ms) at most; why not, in
/// words. Nobody is asked for an address, nor for `localhost`.
pub fn addresses(name: &str, deadline_ms: u64) -> Result<Vec<IpAddr>, String> {
    /// What was found, and until when it is good.
    type Known = BTreeMap<String, (Vec<IpAddr>, u64)>;
    static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());
    static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
    if name.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    if let Ok(ip) = name.parse() {
        return Ok(vec![ip]);
    }
    let now = clock::now_ms();
    if let Some((found, _)) = KNOWN.lock().get(name).filter(|(_, until)| now < *until) {
        return Ok(found.clone());
    }
    let cannot = |why: &str| format!("the name {name} cannot be looked up: {why}");
    if !IS_PROGRAM.load(Ordering::Relaxed) {
        let found = (name, 0).to_socket_addrs().map_err(|e| cannot(&e.to_string()))?;
        return Ok(found.map(|address| address.ip()).collect());
    }
    if UNDER_WAY.fetch_add(1, Ordering::Relaxed) >= LOOKUPS_MAX {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
        return Err(cannot("too many are being looked up"));
    }
    let mut command = Command::new(OURSELVES);
    let answer =
        output_of(command.args(["lookup", name]), deadline_ms.min(now + LOOKUP_MAX_MS), ANSWER_LEN_MAX);
    UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    let answer = answer.map_err(|e| match e.kind() {
        ErrorKind::TimedOut => cannot("nobody has answered in time"),
        ErrorKind::NotFound => cannot("it has no address"),
        _ => cannot(&e.to_string()),
    })?;
    let text = String::from_utf8_lossy(&answer);
    let found: Vec<IpAddr> = text.lines().filter_map(|line| line.parse().ok()).collect();
    if found.is_empty() {
        return Err(cannot("it has no address"));
    }
    let mut known = KNOWN.lock();
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    known.insert(name.to_owned(), (found.clone(), now + KNOWN_MS));
    Ok(found)
}

/// What a program of ours has printed by its end, if that is before the deadline (monotonic ms); else it is
/// killed. Nothing of it stays.
fn output_of(command: &mut Command, deadline_ms: u64, len_max: usize) -> io::Result<Vec<u8>> {
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
    fn nobody_is_asked_for_addresses() {
        let late = clock::now_ms();
        assert_eq!(addresses("192.0.2.7", late), Ok(vec![[192, 0, 2, 7].into()]));
        assert_eq!(addresses("::1", late), Ok(vec![Ipv6Addr::LOCALHOST.into()]));
        let here = addresses("LocalHost", late).unwrap();
        assert_eq!(here, [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]);
    }

    #[test]
    fn a_program_has_so_long_and_so_much_to_say() {
        assert_eq!(shell("echo 1; echo 2", 20_000), Ok(b"1\n2\n".to_vec()));
        assert_eq!(shell("exit 1", 20_000), Err(ErrorKind::NotFound));
        assert_eq!(shell("yes", 20_000), Err(ErrorKind::FileTooLarge));
        assert_eq!(shell("exec sleep 1000", 100), Err(ErrorKind::TimedOut));
    }
}

//! Whether executors answer: a connection to each, on which the other end has to say its SETTINGS of
//! HTTP/2. No module is executed for it. One thread for all of them, so that one that is silent holds up
//! nobody else.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;

use crate::module::executor::ExecutorAddress;
use crate::sys::clock;
use crate::sys::poll::{self, PollFd, Waker};

/// What a client begins with, and empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The head of a frame, and where the kind of the frame is in it.
const HEAD_LEN: usize = 9;
const KIND_AT: usize = 3;
const SETTINGS: u8 = 4;
/// How long a connection may take, on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// How long an executor may take to say something, ms.
const ANSWER_MS: u64 = 2000;
/// The most probes at once; others wait for them.
const PROBES_MAX: usize = 256;

/// Probes executors, and says how each is.
#[derive(Default)]
pub struct Prober {
    /// At most one for each connection.
    wanted: Mutex<VecDeque<(String, ExecutorAddress)>>,
    waker: OnceLock<Waker>,
}

/// One that is under way.
struct Probe {
    id: String,
    socket: TcpStream,
    head: Vec<u8>,
    deadline_ms: u64,
}

impl Prober {
    /// Has these executors probed.
    pub fn want(&self, probes: Vec<(String, ExecutorAddress)>) {
        self.wanted.lock().extend(probes);
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    /// Probes for ever; `report` is given the id of a connection, and why its executor does not answer, if it
    /// does not.
    pub fn run(&self, report: impl Fn(&str, Result<(), String>)) {
        self.waker.get_or_init(Waker::for_this_thread);
        let mut probes: Vec<Probe> = Vec::new();
        loop {
            while probes.len() < PROBES_MAX
                && let Some((id, address)) = self.take()
            {
                match begin(id.clone(), &address) {
                    Ok(probe) => probes.push(probe),
                    Err(why) => report(&id, Err(why)),
                }
            }
            let mut fds: Vec<_> = probes.iter().map(|probe| PollFd::readable(probe.socket.as_fd())).collect();
            let _ = poll::wait(&mut fds, probes.iter().map(|probe| probe.deadline_ms).min());
            drop(fds);
            let now_ms = clock::now_ms();
            probes.retain_mut(|probe| match probe.look(now_ms) {
                None => true,
                Some(result) => {
                    report(&probe.id, result);
                    false
                }
            });
        }
    }

    fn take(&self) -> Option<(String, ExecutorAddress)> {
        self.wanted.lock().pop_front()
    }
}

/// Connects to the first of the addresses that lets us, as calls do.
fn begin(id: String, address: &ExecutorAddress) -> Result<Probe, String> {
    let mut why = "it is not on this machine".to_owned();
    for each in address.loopback() {
        let connected = TcpStream::connect_timeout(&each, CONNECT_TIMEOUT).and_then(|mut socket| {
            socket.set_nonblocking(true)?;
            socket.write_all(PREFACE)?;
            Ok(socket)
        });
        match connected {
            Ok(socket) => {
                return Ok(Probe { id, socket, head: Vec::new(), deadline_ms: clock::now_ms() + ANSWER_MS });
            }
            Err(e) => why = format!("cannot connect: {e}"),
        }
    }
    Err(why)
}

impl Probe {
    /// How it has ended; none: it goes on.
    fn look(&mut self, now_ms: u64) -> Option<Result<(), String>> {
        let mut room = [0; HEAD_LEN];
        while self.head.len() < HEAD_LEN {
            match self.socket.read(&mut room[..HEAD_LEN - self.head.len()]) {
                Ok(0) => return Some(Err("it closes connections".to_owned())),
                Ok(n) => self.head.extend_from_slice(&room[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let is_over = now_ms >= self.deadline_ms;
                    return is_over.then(|| Err("it lets connections in and says nothing".to_owned()));
                }
                Err(e) => return Some(Err(format!("the connection broke: {e}"))),
            }
        }
        Some(if self.head[KIND_AT] == SETTINGS { Ok(()) } else { Err("it speaks no HTTP/2".to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::sys::thread;

    /// What a probe says of a server that does this with the connection.
    fn probed(serve: impl FnOnce(TcpStream) + Send + 'static) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ExecutorAddress::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let serving = std::thread::spawn(move || serve(listener.accept().unwrap().0));
        let (prober, (said, results)) = (Arc::new(Prober::default()), unbounded());
        let ours = Arc::clone(&prober);
        thread::spawn("probe", move || ours.run(|_, result| said.send(result).unwrap())).unwrap();
        prober.want(vec![("id".to_owned(), address)]);
        let result = results.recv_timeout(Duration::from_secs(20)).expect("it is reported");
        serving.join().unwrap();
        result
    }

    #[test]
    fn who_says_settings_answers_and_nobody_else_does() {
        assert_eq!(probed(|mut socket| socket.write_all(&PREFACE[24..]).unwrap()), Ok(()));
        let other = probed(|mut socket| socket.write_all(b"HTTP/1.1 400").unwrap());
        assert_eq!(other, Err("it speaks no HTTP/2".to_owned()));
        assert_eq!(probed(drop).map_err(|why| why.len() > 5), Err(true));
        let silent = probed(|mut socket| {
            // Until the other end gives up.
            let _ = socket.read_to_end(&mut Vec::new());
        });
        assert_eq!(silent, Err("it lets connections in and says nothing".to_owned()));
    }
}

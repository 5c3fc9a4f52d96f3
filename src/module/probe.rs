//! Whether executors answer: a connection to each, on which the other end has to say its SETTINGS of
//! HTTP/2. No module is executed for it. One thread for all of them, so that one that is silent holds up
//! nobody else; those with TLS are connected to on threads of their own.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::module::dial::Dialer;
use crate::module::executor::ExecutorAddress;
use crate::sys::poll::{self, PollFd, Waker};
use crate::sys::{clock, thread};

/// What a client begins with, and empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The head of a frame, and where the kind of the frame is in it.
const HEAD_LEN: usize = 9;
const KIND_AT: usize = 3;
const SETTINGS: u8 = 4;
/// How long a connection may take: on this machine, where others wait for it, and with TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
const SECURED_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an executor may take to say something, ms.
const ANSWER_MS: u64 = 2000;
/// The most probes at once; others wait for them.
const PROBES_MAX: usize = 256;

/// A connection with TLS to the executor of this connection, or why there is none.
type Dialled = (String, io::Result<OwnedFd>);

/// Probes executors, and says how each is.
pub struct Prober {
    dialer: Arc<Dialer>,
    /// At most one for each connection.
    wanted: Mutex<VecDeque<(String, ExecutorAddress)>>,
    /// Connections with TLS, which threads of their own have made.
    dialled: Arc<Mutex<Vec<Dialled>>>,
    waker: OnceLock<Waker>,
}

/// One that is under way.
struct Probe {
    id: String,
    socket: UnixStream,
    head: Vec<u8>,
    deadline_ms: u64,
}

impl Prober {
    pub fn new(dialer: Arc<Dialer>) -> Self {
        let (wanted, dialled, waker) = (Mutex::default(), Arc::default(), OnceLock::new());
        Self { dialer, wanted, dialled, waker }
    }

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
        let waker = self.waker.get_or_init(Waker::for_this_thread);
        let mut probes: Vec<Probe> = Vec::new();
        let mut dialling = 0;
        loop {
            while probes.len() + dialling < PROBES_MAX
                && let Some((id, address)) = self.take()
            {
                if self.dialer.is_secured(&address) {
                    match self.dial(id.clone(), address, waker.clone()) {
                        Ok(()) => dialling += 1,
                        Err(e) => report(&id, Err(format!("a thread cannot be started: {e}"))),
                    }
                    continue;
                }
                match begin(id.clone(), self.dialer.connect(&address, CONNECT_TIMEOUT)) {
                    Ok(probe) => probes.push(probe),
                    Err(why) => report(&id, Err(why)),
                }
            }
            for (id, connected) in std::mem::take(&mut *self.dialled.lock()) {
                dialling -= 1;
                match begin(id.clone(), connected) {
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

    /// Connects on a thread of its own: a handshake takes a while, and others are not to wait for it.
    fn dial(&self, id: String, address: ExecutorAddress, waker: Waker) -> io::Result<()> {
        let (dialer, dialled) = (Arc::clone(&self.dialer), Arc::clone(&self.dialled));
        let dial = move || {
            let connected = dialer.connect(&address, SECURED_TIMEOUT);
            dialled.lock().push((id, connected));
            waker.wake();
        };
        thread::spawn("modules-dial", dial).map(drop)
    }

    fn take(&self) -> Option<(String, ExecutorAddress)> {
        self.wanted.lock().pop_front()
    }
}

/// Says what a client says first.
fn begin(id: String, connected: io::Result<OwnedFd>) -> Result<Probe, String> {
    let begun = connected.and_then(|socket| {
        let mut socket = UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        socket.write_all(PREFACE)?;
        Ok(Probe { id, socket, head: Vec::new(), deadline_ms: clock::now_ms() + ANSWER_MS })
    });
    begun.map_err(|e| format!("cannot connect: {e}"))
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
    use std::net::{TcpListener, TcpStream};

    use crossbeam_channel::unbounded;

    use super::*;

    /// What a probe says of a server that does this with the connection.
    fn probed(serve: impl FnOnce(TcpStream) + Send + 'static) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ExecutorAddress::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let serving = std::thread::spawn(move || serve(listener.accept().unwrap().0));
        let (prober, (said, results)) = (Arc::new(Prober::new(Arc::default())), unbounded());
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

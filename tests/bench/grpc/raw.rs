//! HTTP/2 over TLS by hand: for clients that wait, and for those that no library would make.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::grpc::LOOPBACK;
use crate::sample::Outcome;

/// Types and flags of frames.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// CANCEL, as the payload of RST_STREAM.
pub const CANCEL: [u8; 4] = [0, 0, 0, 8];
/// What a frame holds that every server takes, bytes.
pub const PIECE: usize = 16 << 10;
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The setting of the window of a new stream, and what a window is without one, bytes.
const INITIAL_WINDOW: [u8; 2] = [0, 4];
const WINDOW: i64 = 65_535;
/// How long an end may say nothing in the middle of something.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection after its preface.
pub struct Raw {
    io: StreamOwned<ClientConnection, TcpStream>,
    windows: Windows,
}

/// How much the server has room for: on the connection, on a new stream, and on those that have had data.
struct Windows {
    connection: i64,
    initial: i64,
    streams: BTreeMap<u32, i64>,
}

/// A frame that came.
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Raw {
    /// Connects, up to the first frame of the server: then it has accepted us.
    pub fn connect(address: SocketAddr, tls: &Arc<ClientConfig>) -> Outcome<Self> {
        let tcp = TcpStream::connect(address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(TIMEOUT))?;
        tcp.set_write_timeout(Some(TIMEOUT))?;
        let name = ServerName::try_from(LOOPBACK)?;
        let io = StreamOwned::new(ClientConnection::new(Arc::clone(tls), name)?, tcp);
        let windows = Windows { connection: WINDOW, initial: WINDOW, streams: BTreeMap::new() };
        let mut raw = Self { io, windows };
        raw.write(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())?;
        let first = raw.read()?;
        if first.kind != SETTINGS {
            return Err(format!("the first frame is {}, not SETTINGS", first.kind).into());
        }
        raw.write(&frame(SETTINGS, ACK, 0, &[]))?;
        Ok(raw)
    }

    /// Waits for as long as it takes from now on.
    pub fn patient(&mut self) -> Outcome {
        Ok(self.io.sock.set_read_timeout(None)?)
    }

    pub fn write(&mut self, bytes: &[u8]) -> Outcome {
        self.io.write_all(bytes)?;
        Ok(self.io.flush()?)
    }

    pub fn read(&mut self) -> Outcome<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head)?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; len as usize];
        self.io.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        self.windows.widen(&frame);
        Ok(frame)
    }

    /// Sends a piece of a message as soon as there is room for it.
    pub fn send(&mut self, stream: u32, piece: &[u8]) -> Outcome {
        while !self.windows.take(stream, piece.len() as i64) {
            let got = self.read()?;
            self.answer(&got)?;
        }
        self.write(&frame(DATA, 0, stream, piece))
    }

    /// Takes what comes for so long, or to the end of the connection.
    pub fn idle(&mut self, time: Duration) -> Outcome {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.io.sock.set_read_timeout(Some(left))?;
            let got = self.read()?;
            self.answer(&got)?;
        }
        Ok(())
    }

    /// Reads frames to the end of this stream, and answers pings.
    pub fn finish(&mut self, stream: u32) -> Outcome {
        loop {
            let frame = self.read()?;
            self.answer(&frame)?;
            if frame.stream == stream && (frame.kind == RST_STREAM || frame.flags & END_STREAM != 0) {
                return Ok(());
            }
        }
    }

    /// Answers a ping, and lets everything else be.
    pub fn answer(&mut self, got: &Frame) -> Outcome {
        if got.kind == PING && got.flags & ACK == 0 {
            self.write(&frame(PING, ACK, 0, &got.payload))?;
        }
        Ok(())
    }
}

impl Windows {
    fn widen(&mut self, frame: &Frame) {
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, |bytes| i64::from(u32::from_be_bytes(bytes)));
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => {
                let settings = frame.payload.chunks_exact(6);
                for setting in settings.filter(|setting| setting[..2] == INITIAL_WINDOW) {
                    let now = number(&setting[2..]);
                    self.streams.values_mut().for_each(|window| *window += now - self.initial);
                    self.initial = now;
                }
            }
            WINDOW_UPDATE if frame.stream == 0 => self.connection += number(&frame.payload),
            WINDOW_UPDATE => {
                *self.streams.entry(frame.stream).or_insert(self.initial) += number(&frame.payload);
            }
            _ => {}
        }
    }

    fn take(&mut self, stream: u32, len: i64) -> bool {
        let window = self.streams.entry(stream).or_insert(self.initial);
        let fits = len <= *window && len <= self.connection;
        if fits {
            *window -= len;
            self.connection -= len;
        }
        fits
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The headers of a call of this method, without indexing and without compression, and more of them.
pub fn call(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    let fields = fields.iter().chain(&[("te", "trailers"), ("content-type", "application/grpc")]).chain(more);
    let literal = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    fields.flat_map(|(name, value)| [vec![0], literal(name), literal(value)].concat()).collect()
}

/// A message of a call, with its head.
pub fn whole(compressed: bool, bytes: &[u8]) -> Vec<u8> {
    let len = (bytes.len() as u32).to_be_bytes();
    [&[u8::from(compressed)], &len[..], bytes].concat()
}

/// A message of a call, in frames no longer than every server takes.
pub fn message(stream: u32, compressed: bool, bytes: &[u8]) -> Vec<u8> {
    let whole = whole(compressed, bytes);
    let frames = whole.chunks(PIECE).map(|part| frame(DATA, 0, stream, part));
    let end = frame(DATA, END_STREAM, stream, &[]);
    frames.chain([end]).flatten().collect()
}

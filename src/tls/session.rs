//! The TLS of one connection, between buffers: records in, plaintext out, and back. No input or output
//! happens here.

use std::ops::Deref;
use std::sync::Arc;

use rustls::Error as Tls;
use rustls::ServerConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, CommonState};

use crate::wire::buffer::Buffer;

/// The most bytes that may wait for the rest of their record or message: the longest certificate chain that
/// rustls takes is half of it, the rest is for the overhead of small records.
const PENDING_LEN_MAX: usize = 128 << 10;

/// The most plaintext in a record.
const RECORD_LEN: usize = 16 << 10;
/// More than a record adds to it: header, type, tag.
const RECORD_OVERHEAD: usize = 32;

pub(in crate::tls) struct Session {
    end: End,
    /// The peer has said that nothing more comes.
    peer_closed: bool,
    /// What has come and is not a whole record yet. rustls remembers positions in it: it goes into every
    /// call.
    pub incoming: Buffer,
    pub plain: Buffer,
    pub outgoing: Buffer,
}

enum End {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What to do as soon as rustls lets us write.
#[derive(Clone, Copy)]
enum Work<'a> {
    Nothing,
    Encrypt(&'a [u8]),
    Close,
}

/// What one call has led to.
enum Turn {
    /// There may be more in what has come.
    Again,
    /// The peer is at its end.
    PeerClosed,
    /// All that has come is worked on, and the work is done.
    Rest,
    /// The same, but the work could not be done.
    NotYet,
}

impl Session {
    /// The end that has connected. What it has to say first is in `outgoing` after the first
    /// [`Self::advance`].
    pub fn client(config: Arc<ClientConfig>, server: ServerName<'static>) -> Result<Self, Tls> {
        Ok(Self::new(End::Client(UnbufferedClientConnection::new(config, server)?)))
    }

    /// The end that was connected to.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Tls> {
        Ok(Self::new(End::Server(UnbufferedServerConnection::new(config)?)))
    }

    fn new(end: End) -> Self {
        Self {
            end,
            peer_closed: false,
            incoming: Buffer::default(),
            plain: Buffer::default(),
            outgoing: Buffer::default(),
        }
    }

    /// What rustls tells of the connection: certificates, ALPN, whether the handshake goes on.
    pub fn state(&self) -> &CommonState {
        match &self.end {
            End::Client(conn) => conn.deref(),
            End::Server(conn) => conn.deref(),
        }
    }

    /// Whether the peer has said that nothing more comes (close_notify).
    pub fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Works on all whole records of `incoming`. After an error, [`Self::alert`] is all that is left to do.
    pub fn advance(&mut self) -> Result<(), Tls> {
        self.work(Work::Nothing)?;
        if self.incoming.len() > PENDING_LEN_MAX {
            return Err(Tls::General("a handshake message is too long".to_owned()));
        }
        Ok(())
    }

    /// Encrypts into `outgoing`.
    pub fn encrypt(&mut self, plain: &[u8]) -> Result<(), Tls> {
        self.work(Work::Encrypt(plain))
    }

    /// Says that nothing more comes from us (close_notify).
    pub fn close(&mut self) -> Result<(), Tls> {
        self.work(Work::Close)
    }

    /// Gives back memory that is not in use.
    pub fn shrink(&mut self) {
        self.incoming.shrink();
        self.plain.shrink();
        self.outgoing.shrink();
    }

    /// Puts what the peer should know about a failure into `outgoing`.
    pub fn alert(&mut self) {
        while self.state().wants_write() {
            if self.turn(Work::Nothing).is_err() {
                break;
            }
        }
    }

    fn work(&mut self, work: Work<'_>) -> Result<(), Tls> {
        loop {
            match self.turn(work)? {
                Turn::Again => {}
                Turn::PeerClosed => self.peer_closed = true,
                Turn::Rest => return Ok(()),
                Turn::NotYet => return Err(Tls::HandshakeNotComplete),
            }
        }
    }

    fn turn(&mut self, work: Work<'_>) -> Result<Turn, Tls> {
        let incoming = self.incoming.filled_mut();
        let (discard, turn) = match &mut self.end {
            End::Client(conn) => {
                handle(conn.process_tls_records(incoming), work, &mut self.plain, &mut self.outgoing)
            }
            End::Server(conn) => {
                handle(conn.process_tls_records(incoming), work, &mut self.plain, &mut self.outgoing)
            }
        };
        self.incoming.consume(discard);
        turn
    }
}

fn handle<D>(
    status: UnbufferedStatus<'_, '_, D>,
    work: Work<'_>,
    plain: &mut Buffer,
    outgoing: &mut Buffer,
) -> (usize, Result<Turn, Tls>) {
    let mut discard = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(e) => return (discard, Err(e)),
    };
    let turn = match state {
        ConnectionState::ReadTraffic(mut traffic) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain.push(record.payload);
                }
                Some(Err(e)) => break Err(e),
                None => break Ok(Turn::Again),
            }
        },
        ConnectionState::EncodeTlsData(mut message) => {
            write(outgoing, 0, |room| message.encode(room).map_err(room_for_message)).map(|()| Turn::Again)
        }
        ConnectionState::TransmitTlsData(transmit) => {
            // It is in `outgoing`, in its place in the order.
            transmit.done();
            Ok(Turn::Again)
        }
        ConnectionState::WriteTraffic(mut traffic) => match work {
            Work::Nothing => Ok(()),
            Work::Encrypt(bytes) => {
                let records = bytes.len() / RECORD_LEN + 1;
                let len = bytes.len() + records * RECORD_OVERHEAD;
                write(outgoing, len, |room| traffic.encrypt(bytes, room).map_err(room_for_record))
            }
            Work::Close => {
                write(outgoing, 0, |room| traffic.queue_close_notify(room).map_err(room_for_record))
            }
        }
        .map(|()| Turn::Rest),
        ConnectionState::PeerClosed => Ok(Turn::PeerClosed),
        ConnectionState::BlockedHandshake | ConnectionState::Closed => match work {
            Work::Nothing => Ok(Turn::Rest),
            Work::Encrypt(_) | Work::Close => Ok(Turn::NotYet),
        },
        _ => Err(Tls::General("early data, which is not accepted".to_owned())),
    };
    (discard, turn)
}

/// Writes into room of this length, or of the length that turns out to be needed.
fn write(
    outgoing: &mut Buffer,
    len: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), Tls> {
    let mut len = len;
    loop {
        match write(outgoing.room(len)) {
            Ok(written) => {
                outgoing.add(written);
                return Ok(());
            }
            Err(Some(required)) if required > len => len = required,
            Err(_) => return Err(Tls::EncryptError),
        }
    }
}

/// How much room is required, if that is what was wrong.
fn room_for_message(e: EncodeError) -> Option<usize> {
    match e {
        EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => Some(required_size),
        EncodeError::AlreadyEncoded => None,
    }
}

fn room_for_record(e: EncryptError) -> Option<usize> {
    match e {
        EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => Some(required_size),
        EncryptError::EncryptExhausted => None,
    }
}

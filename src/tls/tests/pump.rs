//! What the pump does with bytes, ends and failures.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets};

use crate::sys::{clock, poll};
use crate::tls::pump::{Ended, Meter, MeterDecision, Unmetered};
use crate::tls::tests::{LONG_MS, Running, World, accepting, ops_but, shake_hands, unchecked};

/// A server that runs, and a client of rustls' own with its socket: for what a pump of ours would not do.
fn raw(world: &World, meter: impl Meter + Send + 'static) -> (Running, ClientConnection, TcpStream) {
    raw_with(world, world.client(), meter)
}

fn raw_with(
    world: &World,
    config: Arc<ClientConfig>,
    meter: impl Meter + Send + 'static,
) -> (Running, ClientConnection, TcpStream) {
    let (accepting, mut near) = accepting(world.server(), LONG_MS);
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(config, name).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut near).unwrap();
    }
    let tunnel = accepting.join().unwrap().unwrap().0;
    (Running::start(tunnel, meter), client, near)
}

fn send(client: &mut ClientConnection, mut tcp: &TcpStream, bytes: &[u8]) {
    client.writer().write_all(bytes).unwrap();
    while client.wants_write() {
        client.write_tls(&mut tcp).unwrap();
    }
}

/// Everything to the end.
fn drain(mut app: impl Read) -> Vec<u8> {
    let mut read = Vec::new();
    app.read_to_end(&mut read).unwrap();
    read
}

/// Writes until nothing more is taken, and says how much was.
fn fill(mut app: &UnixStream) -> usize {
    app.set_nonblocking(true).unwrap();
    let (chunk, mut sent, mut full) = (pattern(64 << 10), 0, 0);
    // For good: three times in a row, a while apart.
    while full < 3 {
        match app.write(&chunk) {
            Ok(n) => (sent, full) = (sent + n, 0),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::WouldBlock);
                full += 1;
                poll::wait(&mut [], Some(clock::now_ms() + 100)).unwrap();
            }
        }
        assert!(sent < 64 << 20, "nobody reads, and yet it goes on");
    }
    app.set_nonblocking(false).unwrap();
    sent
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * n / 251 + n) as u8).collect()
}

/// Records as a client of this connection would send them, with nothing in them: what rustls never sends.
struct Empty {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Empty {
    fn after(client: ClientConnection) -> Self {
        let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => panic!("another cipher"),
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap());
        Self { key, iv: iv.as_ref().try_into().unwrap(), sequence }
    }

    /// Application data of this length.
    fn record(&mut self, len: usize) -> Vec<u8> {
        let mut nonce = self.iv;
        nonce.iter_mut().skip(4).zip(self.sequence.to_be_bytes()).for_each(|(byte, n)| *byte ^= n);
        self.sequence += 1;
        let mut record = vec![b'x'; len];
        record.push(23);
        let sealed_len = u16::try_from(record.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, sealed_len[0], sealed_len[1]];
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut record).unwrap();
        [&header[..], &record].concat()
    }
}

#[test]
fn records_without_anything_in_them_are_counted() {
    let world = World::new();
    let mut config = Arc::unwrap_or_clone(world.client());
    config.enable_secret_extraction = true;
    let (running, client, mut near) = raw_with(&world, Arc::new(config), Unmetered);
    let mut empty = Empty::after(client);
    let mut app = &running.app;
    for _ in 0..20 {
        (0..32).for_each(|_| near.write_all(&empty.record(0)).unwrap());
        near.write_all(&empty.record(1)).unwrap();
        let mut byte = [0];
        app.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x", "a few are nobody's trouble");
    }
    (0..33).for_each(|_| drop(near.write_all(&empty.record(0))));
    let ended = running.end();
    // No meter of plaintext sees them; rustls itself counts.
    assert!(matches!(&ended, Ended::Refused(why) if why.contains("TooManyEmptyFragments")), "{ended:?}");
}

#[test]
fn bytes_go_both_ways_and_ends_are_separate() {
    let (mut server, mut client) = Running::both(&World::new());
    client.app.write_all(b"question").unwrap();
    let mut read = [0; 8];
    server.app.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"question");
    client.app.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.app.read(&mut read).unwrap(), 0, "the end arrives");
    server.app.write_all(b"answer!!").unwrap();
    client.app.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"answer!!", "the other direction goes on");
    server.app.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.app.read(&mut read).unwrap(), 0);
    assert_eq!((server.end(), client.end()), (Ended::Done, Ended::Done));
}

#[test]
fn much_goes_both_ways_at_once_unchanged() {
    let (server, client) = Running::both(&World::new());
    let sent = Arc::new(pattern(32 << 20));
    let write = |app: &UnixStream, chunk: usize| {
        let (mut app, sent) = (app.try_clone().unwrap(), sent.clone());
        std::thread::spawn(move || {
            sent.chunks(chunk).for_each(|part| app.write_all(part).unwrap());
            app.shutdown(Shutdown::Write).unwrap();
        })
    };
    let writers = [write(&server.app, 777), write(&client.app, 300_000)];
    let reader = client.app.try_clone().unwrap();
    let there = std::thread::spawn(move || drain(reader));
    assert!(drain(&server.app) == *sent);
    assert!(there.join().unwrap() == *sent);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!((server.end(), client.end()), (Ended::Done, Ended::Done));
}

#[test]
fn whoever_does_not_read_stops_the_sender() {
    let (server, mut client) = Running::both(&World::new());
    let sent = fill(&client.app);
    // The other direction is not held up.
    let mut answer = [0; 2];
    (&server.app).write_all(b"ok").unwrap();
    client.app.read_exact(&mut answer).unwrap();
    client.app.shutdown(Shutdown::Write).unwrap();
    assert_eq!(drain(&server.app).len(), sent, "and all of it is there");
}

#[test]
fn the_last_bytes_of_who_leaves_arrive() {
    let (server, client) = Running::both(&World::new());
    let sent = pattern(3 << 20);
    let reader = client.app.try_clone().unwrap();
    let there = std::thread::spawn(move || drain(reader));
    (&server.app).write_all(&sent).unwrap();
    assert_eq!(server.leave(), Ended::Dismissed);
    assert!(there.join().unwrap() == sent);
    assert_eq!(client.leave(), Ended::Done);
}

#[test]
fn a_peer_that_does_not_leave_is_left() {
    let (server, _client, tcp) = raw(&World::new(), Unmetered);
    let begin = clock::now_ms();
    assert_eq!(server.leave(), Ended::Dismissed);
    assert!(clock::now_ms() - begin < 5000);
    drop(tcp);
}

#[test]
fn g24_a_peer_that_takes_nothing_is_left_when_our_side_is_gone() {
    let (server, _client, tcp) = raw(&World::new(), Unmetered);
    fill(&server.app);
    assert_eq!(server.leave(), Ended::Lost("the client does not take what is left for it".to_owned()));
    drop(tcp);
}

#[test]
fn g11_key_updates_are_answered_and_a_flood_of_them_ends_the_connection() {
    let (mut server, mut client, tcp) = raw(&World::new(), Unmetered);
    let mut read = [0; 4];
    for _ in 0..100 {
        client.refresh_traffic_keys().unwrap();
        send(&mut client, &tcp, b"ping");
        server.app.read_exact(&mut read).unwrap();
        server.app.write_all(b"pong").unwrap();
        while client.process_new_packets().unwrap().plaintext_bytes_to_read() < 4 {
            client.read_tls(&mut &tcp).unwrap();
        }
        client.reader().read_exact(&mut read).unwrap();
        assert_eq!(&read, b"pong");
    }
    for _ in 0..100_000 {
        client.refresh_traffic_keys().unwrap();
        if client.write_tls(&mut &tcp).is_err() {
            break;
        }
    }
    let Ended::Refused(why) = server.end() else { panic!("it goes on") };
    assert!(why.contains("TooManyKeyUpdateRequests"), "{why}");
    assert!(drain(&server.app).is_empty());
}

#[test]
fn g12_an_end_without_a_farewell_is_no_end() {
    let (server, mut client, tcp) = raw(&World::new(), Unmetered);
    send(&mut client, &tcp, b"half of a mess");
    let mut half = Vec::new();
    client.writer().write_all(b"age").unwrap();
    client.write_tls(&mut half).unwrap();
    (&tcp).write_all(&half[..half.len() - 1]).unwrap();
    tcp.shutdown(Shutdown::Write).unwrap();
    assert_eq!(drain(&server.app), b"half of a mess", "a record that is not whole says nothing");
    assert_eq!(server.end(), Ended::Truncated);
}

#[test]
fn g7_what_is_not_of_this_connection_ends_it() {
    for garbage in
        [&b"\x17\x03\x03\x00\x20garbage garbage garbage garbage."[..], b"\x16\x03\x03\x00\x01\x00", b"GET /"]
    {
        let (server, _client, mut tcp) = raw(&World::new(), Unmetered);
        tcp.write_all(garbage).unwrap();
        tcp.shutdown(Shutdown::Write).unwrap();
        assert!(drain(&server.app).is_empty());
        let ended = server.end();
        assert!(matches!(ended, Ended::Refused(_) | Ended::Truncated), "{ended:?}");
    }
}

#[test]
fn what_the_server_thinks_of_our_certificate_is_told() {
    let mut world = World::new();
    let params = ops_but(|params| params.serial_number = Some(7u64.into()));
    world.server.crl = Some(world.dir.write("crl", &world.ca.revoke(&[7], 2100)));
    let files = world.dir.files("revoked", &world.ca.issue(&params), &world.ca);
    let (server, client) = shake_hands(world.server(), unchecked(&files), "localhost");
    assert!(server.is_err());
    let client = Running::start(client.unwrap(), Unmetered);
    let _ = (&client.app).write_all(b"PRI * HTTP/2.0");
    assert_eq!(client.end(), Ended::Refused("the server says that our certificate is revoked".to_owned()));
}

#[test]
fn another_thread_can_end_it_before_and_while_it_runs() {
    let world = World::new();
    let (server, client) = Running::both(&world);
    server.closer.close();
    assert_eq!(server.end(), Ended::Closed);
    assert_eq!(drain(&client.app).len(), 0);
    assert_eq!(client.leave(), Ended::Done, "it is told");

    let (server, _client) = shake_hands(world.server(), world.client(), "localhost");
    let tunnel = server.unwrap().0;
    tunnel.closer().close();
    assert_eq!(Running::start(tunnel, Unmetered).end(), Ended::Closed);
}

/// Lets nothing pass with this byte in it, and after each batch pauses.
struct Strict {
    pause_ms: u64,
}

impl Meter for Strict {
    fn inbound(&mut self, plaintext: &[u8], now_ms: u64) -> MeterDecision {
        if plaintext.contains(&b'!') {
            MeterDecision::Kill("no shouting")
        } else {
            MeterDecision::PauseUntil(now_ms + self.pause_ms)
        }
    }

    fn outbound(&mut self, plaintext: &[u8], now_ms: u64) -> MeterDecision {
        self.inbound(plaintext, now_ms)
    }
}

#[test]
fn the_meter_slows_down_and_ends() {
    let world = World::new();
    let (mut server, mut client, tcp) = raw(&world, Strict { pause_ms: 100 });
    let mut read = [0; 3];
    let begin = clock::now_ms();
    for _ in 0..4 {
        send(&mut client, &tcp, b"abc");
        server.app.read_exact(&mut read).unwrap();
    }
    let took = clock::now_ms() - begin;
    assert!((300..5000).contains(&took), "{took} ms");
    send(&mut client, &tcp, b"ab!");
    assert!(drain(&server.app).is_empty(), "it does not get through");
    assert_eq!(server.end(), Ended::Killed("no shouting"));

    let (mut server, _client, _tcp) = raw(&world, Strict { pause_ms: 0 });
    server.app.write_all(b"help!").unwrap();
    assert_eq!(server.end(), Ended::Killed("no shouting"), "in the other direction, too");
}

//! Clients that break or bend the handshake, and what every connection has to be.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

use crate::sys::clock;
use crate::sys::poll::{self, Wait, Waker};
use crate::tls::tests::{
    Accepting, LONG_MS, World, accepting, connected, openssl_client, shake_hands, unchecked,
};
use crate::tls::tunnel::{Refused, accept, connect};

fn refusal(accepting: Accepting) -> Refused {
    accepting.join().unwrap().map(|(_, peer)| peer).unwrap_err()
}

/// A client of rustls' own, and what it says first.
fn client(config: Arc<ClientConfig>) -> (ClientConnection, Vec<u8>) {
    let mut conn = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut hello = Vec::new();
    conn.write_tls(&mut hello).unwrap();
    (conn, hello)
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3], &len[..], payload].concat()
}

/// Everything the server says until it closes.
fn rest(mut tcp: TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let _ = tcp.read_to_end(&mut read);
    read
}

#[test]
fn g1_older_versions_get_an_alert_and_nothing_else() {
    let world = World::new();
    for version in ["-tls1_2", "-tls1_1", "-tls1"] {
        let client = openssl_client(&world, &[version, "-cipher", "DEFAULT@SECLEVEL=0"]);
        let why = Refused::Unacceptable("the client does not speak TLS 1.3".to_owned());
        assert_eq!(client.result.unwrap_err(), why, "{version}: {}", client.said);
        assert!(client.said.contains("alert"), "{version}: {}", client.said);
        assert!(client.said.contains("has read 7 bytes"), "{version}: {}", client.said);
    }
}

#[test]
fn three_suites_and_no_other() {
    let world = World::new();
    for suite in ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"] {
        let client = openssl_client(&world, &["-tls1_3", "-ciphersuites", suite]);
        assert_eq!(client.result.unwrap().names, ["ops"]);
        assert!(client.said.contains(&format!("Cipher is {suite}")), "{}", client.said);
        assert!(client.said.contains("ALPN protocol: h2"), "{}", client.said);
    }
    for suite in ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"] {
        let client = openssl_client(&world, &["-tls1_3", "-ciphersuites", suite]);
        let why = client.result.unwrap_err().to_string();
        assert_eq!(why, "the client offers none of our cipher suites");
        assert!(client.said.contains("alert handshake failure"), "{}", client.said);
    }
}

#[test]
fn g2_what_comes_before_the_handshake_is_done_goes_nowhere() {
    let world = World::new();
    let (_, hello) = client(world.client());
    for early in
        [record(23, &[0; 64]), record(23, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), b"PRI * HTTP/2.0".to_vec()]
    {
        let (server, mut tcp) = accepting(world.server(), LONG_MS);
        tcp.write_all(&[&hello[..], &early].concat()).unwrap();
        let why = refusal(server);
        assert!(matches!(why, Refused::Unacceptable(_)), "{why}");
    }
    let (server, mut tcp) = accepting(world.server(), LONG_MS);
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    assert!(matches!(refusal(server), Refused::Unacceptable(_)), "HTTP/2 without TLS");
}

#[test]
fn g5_records_of_one_byte_are_records() {
    let world = World::new();
    let (mut conn, hello) = client(world.client());
    let (server, mut tcp) = accepting(world.server(), LONG_MS);
    let pieces: Vec<u8> = hello[5..].iter().flat_map(|byte| record(22, &[*byte])).collect();
    tcp.write_all(&pieces).unwrap();
    conn.complete_io(&mut tcp).unwrap();
    assert_eq!(server.join().unwrap().map(|(_, peer)| peer).unwrap().names, ["ops"]);

    let mut config = (*world.client()).clone();
    config.max_fragment_size = Some(32);
    let (server, client) = shake_hands(world.server(), Arc::new(config), "localhost");
    assert!(server.is_ok() && client.is_ok(), "small encrypted ones, too");

    let (server, mut tcp) = accepting(world.server(), LONG_MS);
    // A message of 64 KiB, byte by byte: more than is kept.
    let header: Vec<u8> = [1, 0, 0xff, 0xff].iter().flat_map(|byte| record(22, &[*byte])).collect();
    let endless = record(22, &[0]).repeat(40_000);
    let _ = tcp.write_all(&[header, endless].concat());
    assert!(matches!(refusal(server), Refused::Unacceptable(_)));
}

#[test]
fn g6_a_farewell_after_the_first_message_ends_it() {
    let world = World::new();
    let (_, hello) = client(world.client());
    for goodbyes in [1, 10, 10_000] {
        let (server, mut tcp) = accepting(world.server(), LONG_MS);
        let _ = tcp.write_all(&[hello.clone(), record(21, &[1, 0]).repeat(goodbyes)].concat());
        drop(tcp);
        let why = refusal(server);
        assert_ne!(why, Refused::TimedOut);
    }
}

#[test]
fn g7_messages_of_another_epoch_are_refused() {
    let world = World::new();
    let (_, hello) = client(world.client());
    // The beginning of one more message in the record that ends the plaintext.
    let (server, mut tcp) = accepting(world.server(), LONG_MS);
    tcp.write_all(&record(22, &[&hello[5..], &[20, 0, 0, 4]].concat())).unwrap();
    let why = refusal(server);
    assert!(why.to_string().contains("KeyEpochWithPendingFragment"), "{why}");
    assert_eq!(rest(tcp).last_chunk(), Some(&[2, 10]), "unexpected_message");
    // A Finished that is not encrypted.
    let (server, mut tcp) = accepting(world.server(), LONG_MS);
    tcp.write_all(&[hello, record(22, &[20, 0, 0, 1, 0])].concat()).unwrap();
    assert!(matches!(refusal(server), Refused::Unacceptable(_)));
}

#[test]
fn g8_bytes_that_come_one_by_one_do_not_move_the_deadline() {
    let world = World::new();
    let (_, hello) = client(world.client());
    let (server, mut tcp) = accepting(world.server(), 200);
    let begin = clock::now_ms();
    for byte in &hello {
        if tcp.write_all(&[*byte]).is_err() || server.is_finished() {
            break;
        }
        poll::wait(&mut [], Some(clock::now_ms() + 5)).unwrap();
    }
    assert_eq!(refusal(server), Refused::TimedOut);
    assert!(clock::now_ms() - begin < 1000, "after {} ms", clock::now_ms() - begin);
}

#[test]
fn a_wake_up_during_the_handshake_is_kept() {
    let world = World::new();
    let (far, _near) = connected();
    Waker::for_this_thread().wake();
    let refused = accept(far, world.server(), clock::now_ms() + 50).map(|(_, peer)| peer);
    assert_eq!(refused.unwrap_err(), Refused::TimedOut);
    assert_eq!(poll::wait(&mut [], Some(clock::now_ms() + LONG_MS)).unwrap(), Wait::Woken);
}

#[test]
fn g10_nothing_is_resumed_and_nothing_comes_early() {
    let world = World::new();
    let mut config = (*world.client()).clone();
    config.resumption = Resumption::in_memory_sessions(4);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for _ in 0..2 {
        let (mut conn, hello) = client(config.clone());
        assert!(conn.early_data().is_none());
        let (server, mut tcp) = accepting(world.server(), LONG_MS);
        tcp.write_all(&hello).unwrap();
        conn.complete_io(&mut tcp).unwrap();
        drop(server.join().unwrap().unwrap());
        let _ = conn.complete_io(&mut tcp);
        assert_eq!(conn.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(conn.tls13_tickets_received(), 0);
    }
}

#[test]
fn g13_another_protocol_inside_is_refused_by_both_sides() {
    let world = World::new();
    for offered in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut config = (*world.client()).clone();
        config.alpn_protocols = offered.clone();
        let (server, _client) = shake_hands(world.server(), Arc::new(config), "localhost");
        let why = server.map(|(_, peer)| peer).unwrap_err().to_string();
        assert_eq!(why, "the client does not choose HTTP/2 (ALPN h2)");

        let mut config = (*world.server()).clone();
        config.alpn_protocols = offered;
        let (_, client) = shake_hands(Arc::new(config), world.client(), "localhost");
        let why = client.map(drop).unwrap_err().message;
        assert!(why.contains("HTTP/2 (ALPN h2)"), "{why}");
    }
    let mut both = (*unchecked(&world.client)).clone();
    both.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let (server, client) = shake_hands(world.server(), Arc::new(both), "localhost");
    assert!(server.is_ok() && client.is_ok(), "one of them is enough");
}

#[test]
fn a_server_that_is_none_is_told_in_words() {
    let world = World::new();
    let within =
        |tcp, ms| connect(tcp, world.client(), "localhost", clock::now_ms() + ms).map(drop).unwrap_err();
    let (far, near) = connected();
    let silent = within(near, 50);
    assert_eq!(silent.message, "the TLS handshake was not done in time");
    drop(far);
    let (far, near) = connected();
    drop(far);
    assert_eq!(within(near, LONG_MS).message, "the connection was closed during the TLS handshake");
    let (mut far, near) = connected();
    far.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").unwrap();
    assert!(!within(near, LONG_MS).message.is_empty());
    let (_far, near) = connected();
    let e = connect(near, world.client(), "not a name", 0).map(drop).unwrap_err();
    assert_eq!(e.message, "'not a name' is not the name of a host");
}

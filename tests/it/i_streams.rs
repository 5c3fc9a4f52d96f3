//! A thousand providers that do nothing but be there: what their control streams cost.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::h2::{
    ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, SETTINGS, fields, frame, literals, message,
    text_field,
};
use crate::harness::{LATER, free_port, procfs, wait};
use crate::plane::Plane;

const PROVIDERS: usize = 1000;
/// The most threads that the host may have with all of them.
const THREADS_MAX: usize = 50;
/// The length of a connection's id.
const ID_LEN: usize = 36;

/// A provider whose control stream is acknowledged, as bare frames.
pub fn provider(address: &str, namespace: &str, executor: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.set_read_timeout(Some(LATER)).expect("a limit is set");
    socket.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).expect("it is read");
    let whole = text_field(1, b"");
    let module = [text_field(1, b"m"), text_field(2, &whole), text_field(3, &whole)].concat();
    let request = [
        text_field(1, namespace.as_bytes()),
        text_field(2, &module),
        vec![3 << 3, 1],
        text_field(4, executor.as_bytes()),
    ];
    begin(&mut socket, 1, "Register", END_STREAM, &request.concat());
    let answer = data(&mut socket, 1);
    let at = answer.windows(2).position(|two| two == [4 << 3 | 2, ID_LEN as u8]).expect("it has an id");
    let id = &answer[at + 2..at + 2 + ID_LEN];
    let beat = text_field(10, &text_field(1, namespace.as_bytes()));
    begin(&mut socket, 3, "ControlPlane", 0, &[vec![1 << 3, 1], text_field(2, id), beat].concat());
    data(&mut socket, 3);
    socket
}

/// Begins a call with this message.
fn begin(socket: &mut TcpStream, stream: u32, method: &str, flags: u8, body: &[u8]) {
    let path = format!("/constellation.provider.v1.ModuleProvider/{method}");
    let block = literals(&fields(&path));
    let frames =
        [frame(HEADERS, END_HEADERS, stream, &block), frame(DATA, flags, stream, &message(body))].concat();
    socket.write_all(&frames).expect("it is read");
}

/// The next message on this stream.
fn data(socket: &mut TcpStream, stream: u32) -> Vec<u8> {
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).expect("it answers");
        let [a, b, c, kind, flags, rest @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        socket.read_exact(&mut payload).expect("a frame is whole");
        match kind {
            SETTINGS | PING if flags & ACK == 0 => {
                let answer = if kind == PING { &payload[..] } else { &[] };
                socket.write_all(&frame(kind, ACK, 0, answer)).expect("it is read");
            }
            DATA if u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) == stream => return payload,
            _ => {}
        }
    }
}

#[test]
fn a_thousand_idle_control_streams_cost_no_threads() {
    let plane = Plane::with("heartbeat_timeout = '1h'\ncontrol_timeout = '1h'\n");
    let host = plane.service.pid("provost.host");
    let executor = format!("127.0.0.1:{}", free_port());
    let begun = |n: usize| provider(&plane.address, &format!("n{n}"), &executor);
    let streams: Vec<_> = (0..PROVIDERS).map(begun).collect();
    let all = plane.connections();
    assert_eq!(all.len(), PROVIDERS);
    assert!(all.iter().all(|c| c["last_heartbeat_at"].is_u64()), "all are acknowledged");
    let threads = procfs::thread_count(host);
    assert!(threads < THREADS_MAX, "{threads} threads");
    drop(streams);
    wait::until("they are gone", LATER, || plane.connections().is_empty());
}

#[test]
fn i6_a_connection_without_tls_is_metered_and_the_log_says_why_it_ended() {
    let plane = Plane::start();
    plane.python("adder", &["demo"]);
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(5000);
    for (bytes, why) in [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "what came first was not HTTP/2"),
        (
            [PREFACE, &frame(SETTINGS, 0, 0, &[]), &pings].concat(),
            "it sent too many frames that carry nothing",
        ),
    ] {
        let mut socket = TcpStream::connect(&plane.address).expect("it listens");
        socket.set_read_timeout(Some(LATER)).expect("a limit is set");
        // It may be ended before all of it is taken.
        let _ = socket.write_all(&bytes);
        let ended = socket.read_to_end(&mut Vec::new());
        assert!(!ended.is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "it goes on");
        wait::until(why, LATER, || plane.log("provost.host").contains(&format!("connection ended: {why}")));
    }
    // Nobody else has noticed.
    assert_eq!(plane.call("demo.add", &json!({ "a": 6, "b": 7 })), 13);
    assert_eq!(plane.connections()[0]["state"], "active");
}

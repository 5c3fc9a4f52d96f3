//! What the pump does with bytes, ends and failures.

use std::io::Read;
use std::io::Write;
use std::net::Shutdown;

use crate::tls::pump::Ended;
use crate::tls::tests::Running;
use crate::tls::tests::World;

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

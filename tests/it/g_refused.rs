//! Calls that are refused, and in which words.

use std::time::Duration;

use crate::h2::{
    Answer, OK, PERMISSION_DENIED, Peer, UNIMPLEMENTED, fields, literals, login, login_of, message, path,
    text_field,
};
use crate::harness::gateway::User;
use crate::harness::{Gateway, SOON, wait};

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Begins a call of another service than ours.
fn begin(peer: &mut Peer, path: &str, authorization: &str, body: &[u8]) -> u32 {
    let more = if authorization.is_empty() { vec![] } else { vec![("authorization", authorization)] };
    peer.begin(&literals(&[fields(path), more].concat()), body)
}

#[test]
fn what_says_that_it_is_compressed_is_answered_unimplemented() {
    let gateway = Gateway::start();
    let (login, path) = (login_of(User::Admin), path("List"));
    let mut peer = Peer::new(&gateway);
    for encoding in ["gzip", "deflate", "none-of-these"] {
        let more = vec![("grpc-encoding", encoding), ("authorization", login.as_str())];
        let block = literals(&[fields(&path), more].concat());
        for flag in [1, 0] {
            let mut body = message(b"");
            body[0] = flag;
            let call = peer.begin(&block, &body);
            let answer = peer.answer(call).expect("the connection goes on");
            // The C core resets a stream that names what it has never heard of.
            let is_reset = answer.status.is_none() && encoding == "none-of-these";
            assert!(is_reset || answer.status == Some(UNIMPLEMENTED), "{encoding} {flag}: {answer:?}");
            let lower = answer.text.to_lowercase();
            for debug in [".cc", "file:", "created:", "src/core", "{"] {
                assert!(!lower.contains(debug), "{encoding} {flag}: {answer:?}");
            }
        }
    }
    assert_eq!(peer.call("List", &login, &[]).and_then(|a| a.status), Some(OK));
}

#[test]
fn a_wrong_password_is_refused_where_none_is_needed() {
    let gateway = Gateway::start();
    let mut peer = Peer::new(&gateway);
    let list = message(&text_field(7, b""));
    let wrong = login("alice", "not hers");
    for (path, body) in [(WATCH, message(b"")), (REFLECTION[0], list.clone()), (REFLECTION[1], list.clone())]
    {
        for bad in [wrong.as_str(), "Basic !", "Bearer x"] {
            let call = begin(&mut peer, path, bad, &body);
            let answer = peer.answer(call).expect("the connection goes on");
            assert_eq!(answer.status, Some(PERMISSION_DENIED), "{path} with {bad}: {answer:?}");
            assert!(answer.data.is_empty(), "{path} tells something");
        }
        for good in ["", &login_of(User::Viewer)] {
            let call = begin(&mut peer, path, good, &body);
            if path == WATCH {
                // It has no end.
                let is_refused = |answer: Option<Answer>| answer.is_some();
                wait::pass(Duration::from_millis(200));
                assert!(!is_refused(peer.has_ended(call)), "with {good}");
            } else {
                let answer = peer.answer(call).expect("the connection goes on");
                assert_eq!(answer.status, Some(OK), "{path} with {good}: {answer:?}");
                assert!(answer.data.len() > 50, "it lists services");
            }
        }
    }
    drop(peer);
    wait::until("its threads are free", SOON, || gateway.threads("call") == 0);
}

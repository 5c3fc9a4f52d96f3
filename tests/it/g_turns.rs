//! Turns: who asks for much at once makes nobody wait but himself.

use crate::h2::{OK, Peer, WINDOW_UPDATE, fields, frame, literals, login_of, message, text_field};
use crate::harness::gateway::User;
use crate::harness::{Gateway, LATER, procfs, wait};

/// As many as a connection has calls, almost.
const CALLS: usize = 98;

/// Whoever the gateway hears out after this has been heard out before.
fn until_all_are_heard(peer: &mut Peer) {
    let check = peer.begin(&literals(&fields("/grpc.health.v1.Health/Check")), &message(&[]));
    assert_eq!(peer.answer(check).and_then(|answer| answer.status), Some(OK));
}

#[test]
fn a_call_is_not_behind_those_of_one_who_asks_for_much() {
    let gateway = Gateway::start();
    gateway.service().ok(&["start", "--name", "many", "--instances", "400", "--", "true"]);
    gateway.service().ok(&["wait", "many-*"]);
    let peer = |user: User| {
        let mut peer = Peer::new(&gateway);
        // There is room for all answers, whether they are read or not.
        peer.send(&frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
        let status = peer.call("ServiceInfo", &login_of(user), &[]).and_then(|answer| answer.status);
        assert_eq!(status, Some(OK), "the password is remembered from here on");
        peer
    };
    let (mut greedy, mut good) = ([peer(User::Viewer), peer(User::Viewer)], peer(User::Operator));
    let engine = gateway.service().engine_pid();
    procfs::signal("STOP", engine);
    let mut asked: Vec<_> = greedy
        .iter_mut()
        .map(|peer| {
            let much = text_field(1, b"many-*");
            let calls: Vec<_> =
                (0..CALLS).map(|_| peer.ask("Status", &login_of(User::Viewer), &much)).collect();
            until_all_are_heard(peer);
            calls
        })
        .collect();
    let little = good.ask("ServiceInfo", &login_of(User::Operator), &[]);
    until_all_are_heard(&mut good);
    procfs::signal("CONT", engine);
    assert_eq!(good.answer(little).and_then(|answer| answer.status), Some(OK));
    let mut answered = |greedy: &mut [Peer; 2]| -> usize {
        for (peer, calls) in greedy.iter_mut().zip(&mut asked) {
            calls.retain(|&call| match peer.has_ended(call) {
                Some(answer) => {
                    assert_eq!(answer.status, Some(OK), "{answer:?}");
                    false
                }
                None => true,
            });
        }
        2 * CALLS - asked.iter().map(Vec::len).sum::<usize>()
    };
    let before = answered(&mut greedy);
    assert!(before < CALLS, "{before} of {} were answered before", 2 * CALLS);
    wait::until("the others are answered, too", LATER, || answered(&mut greedy) == 2 * CALLS);
}

/// Calls that come together with the same login: it is looked at once, and none is one too many.
#[test]
fn a_login_that_comes_often_is_looked_at_once() {
    let gateway = Gateway::start();
    let mut peer = Peer::new(&gateway);
    let calls: Vec<_> = (0..CALLS).map(|_| peer.ask("ServiceInfo", &login_of(User::Viewer), &[])).collect();
    for call in calls {
        let answer = peer.answer(call).expect("the connection goes on");
        assert_eq!(answer.status, Some(OK), "{answer:?}");
    }
}

/// Names that nobody has: soon they are not looked at any more, and then not even read at once. Who is in
/// already is served as before.
#[test]
fn invented_names_hold_up_only_their_own_connection() {
    let gateway = Gateway::start();
    let mut good = Peer::new(&gateway);
    let mut ask = || good.call("ServiceInfo", &login_of(User::Operator), &[]).and_then(|a| a.status);
    assert_eq!(ask(), Some(OK));
    let mut bad = Peer::new(&gateway);
    let names = (0..CALLS).map(|n| crate::h2::login(&format!("nobody-{n}"), "of nobody at all"));
    let calls: Vec<_> = names.map(|login| bad.ask("ServiceInfo", &login, &[])).collect();
    let mut ends = calls.iter().map(|&call| bad.answer(call).and_then(|answer| answer.status));
    assert!(ends.all(|status| status.is_some_and(|status| status != OK)));
    // What comes first shows that nothing more is to be read; the one behind it is read when what those took
    // is given back. Others come before.
    let first = bad.ask("ServiceInfo", &login_of(User::Viewer), &[]);
    assert!(bad.answer(first).is_some());
    let next = bad.ask("ServiceInfo", &login_of(User::Viewer), &[]);
    let mut served = 0;
    while bad.has_ended(next).is_none() {
        assert_eq!(ask(), Some(OK));
        served += 1;
    }
    assert!(served > 1, "nothing was slowed down");
}

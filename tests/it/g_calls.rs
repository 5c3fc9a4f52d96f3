//! Calls: who may make them, what becomes of those that are given up, and passwords that are wrong.

use std::thread;
use std::time::{Duration, Instant};

use crate::h2::{
    CANCELLED, DEADLINE_EXCEEDED, Footprint, OK, PERMISSION_DENIED, Peer, RESOURCE_EXHAUSTED, RST_STREAM,
    expect_service, fields, frame, literals, login, login_of, message, path, text_field,
};
use crate::harness::gateway::User;
use crate::harness::{Gateway, SOON, STUBBORN, rounds, wait};

/// `repeated string targets = 1`, as most requests begin.
fn targets(name: &str) -> Vec<u8> {
    text_field(1, name.as_bytes())
}

#[test]
fn f21_every_method_and_every_role() {
    let gateway = Gateway::start();
    gateway.service().start(&["--name", "web", "--", "sleep", "76010"]);
    gateway.service().start(&["--name", "old", "--", "true"]);
    gateway.service().until_state("old", "stopped");
    let web = || targets("web");
    let spec = |name: &str| {
        let args = [text_field(1, b"sleep"), text_field(1, b"76011"), text_field(2, name.as_bytes())];
        text_field(1, &args.concat())
    };
    let definition = [text_field(1, b"sleep"), text_field(1, b"76012"), text_field(2, b"old")].concat();
    let variable = text_field(1, &[text_field(1, b"A"), text_field(2, b"b")].concat());
    // A binary that is not there: who may ask for it gets as far as that.
    let upgrade =
        [text_field(1, b"01234567-89ab-7def-8123-456789abcdef"), text_field(2, b"/nonexistent")].concat();
    let (yes, no) = (true, false);
    // Viewer, operator, admin.
    let matrix: Vec<(&str, Vec<u8>, [bool; 3])> = vec![
        ("Status", web(), [yes, yes, yes]),
        ("List", vec![], [yes, yes, yes]),
        ("Wait", [web(), vec![0x10, 2]].concat(), [yes, yes, yes]),
        ("Events", vec![], [yes, yes, yes]),
        ("History", vec![], [yes, yes, yes]),
        ("ServiceInfo", vec![], [yes, yes, yes]),
        ("Health", vec![], [yes, yes, yes]),
        ("Output", web(), [no, yes, yes]),
        ("Stream", targets("old"), [no, yes, yes]),
        ("StartAgain", web(), [no, yes, yes]),
        ("Stop", targets("old"), [no, yes, yes]),
        ("Restart", web(), [no, yes, yes]),
        ("Signal", [web(), vec![0x10, 18]].concat(), [no, yes, yes]),
        ("Start", spec("new"), [no, no, yes]),
        ("Update", [text_field(1, b"old"), text_field(2, &definition)].concat(), [no, no, yes]),
        ("Definitions", web(), [no, no, yes]),
        ("Remove", targets("old"), [no, no, yes]),
        ("Environment", vec![], [no, no, yes]),
        ("Environment", variable, [no, no, yes]),
        ("Audit", vec![], [no, no, yes]),
        ("Upgrade", upgrade, [no, no, yes]),
    ];
    let proto = include_str!("../../proto/provost/v1/process_service.proto");
    let methods: Vec<_> = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")).collect();
    for method in &methods {
        let name = method.split('(').next().expect("it has a name");
        assert!(matrix.iter().any(|(known, ..)| known == &name), "{name} is not in the matrix");
    }
    let mut peer = Peer::new(&gateway);
    for (method, request, allowed) in &matrix {
        for (user, allowed) in [User::Viewer, User::Operator, User::Admin].into_iter().zip(*allowed) {
            let answer = peer.call(method, &login_of(user), request).expect("the connection goes on");
            let what = format!("{method} by {user:?}: {answer:?}");
            if allowed && *method != "Upgrade" {
                assert_eq!(answer.status, Some(OK), "{what}");
            } else {
                assert_eq!(answer.status == Some(PERMISSION_DENIED), !allowed, "{what}");
                assert!(allowed || answer.text.contains(" may not ") && answer.data.is_empty(), "{what}");
            }
        }
        for nobody in [login("alice", "olga's password"), login("nobody", "x"), "Basic".into(), String::new()]
        {
            let answer = peer.call(method, &nobody, request).expect("the connection goes on");
            // Refused, or, after some of them, not even looked at.
            let refused = [Some(PERMISSION_DENIED), Some(RESOURCE_EXHAUSTED)].contains(&answer.status);
            assert!(refused, "{method} by {nobody}: {answer:?}");
        }
        // The wrong passwords do not add up to a lock.
        assert_eq!(peer.call("ServiceInfo", &login_of(User::Admin), &[]).and_then(|a| a.status), Some(OK));
        let again = Peer::new(&gateway).call("ServiceInfo", &login_of(User::Admin), &[]);
        assert_eq!(again.and_then(|a| a.status), Some(OK), "{method}");
    }
    gateway.service().ok(&["remove", "--force", "*"]);
}

#[test]
fn f21_every_method_of_providers_and_every_role() {
    let gateway = Gateway::start();
    let target = text_field(1, &text_field(2, b"nothing"));
    let spec = [target.clone(), text_field(2, &text_field(1, b"/no/such"))].concat();
    let (yes, no) = (true, false);
    // Viewer, operator, admin.
    let matrix: Vec<(&str, Vec<u8>, [bool; 3])> = vec![
        ("StartProvider", spec, [no, no, yes]),
        ("FetchValue", target.clone(), [no, yes, yes]),
        ("ProviderInfo", target.clone(), [yes, yes, yes]),
        ("ProviderHealth", target.clone(), [yes, yes, yes]),
        ("ListProviders", vec![], [yes, yes, yes]),
        ("StopProvider", target.clone(), [no, no, yes]),
        ("ResetProvider", target.clone(), [no, no, yes]),
        ("ReplaceProvider", target, [no, no, yes]),
        ("ShutDownProviders", vec![], [no, no, yes]),
    ];
    let proto = include_str!("../../proto/provost/v1/provider_service.proto");
    let methods: Vec<_> = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")).collect();
    assert_eq!(methods.len(), matrix.len(), "{methods:?}");
    let mut peer = Peer::new(&gateway);
    for (method, request, allowed) in &matrix {
        let path = format!("ProviderService/{method}");
        for (user, allowed) in [User::Viewer, User::Operator, User::Admin].into_iter().zip(*allowed) {
            let answer = peer.call(&path, &login_of(user), request).expect("the connection goes on");
            assert_eq!(
                answer.status == Some(PERMISSION_DENIED),
                !allowed,
                "{method} by {user:?}: {answer:?}"
            );
            assert!(allowed || answer.text.contains(" may not "), "{method} by {user:?}: {answer:?}");
        }
    }
}

#[test]
fn g26_a_cancelled_call_ends_only_its_waiting() {
    let gateway = Gateway::start();
    gateway.service().start(&["--name", "web", "--stop-timeout", "2s", "--", "sh", "-c", STUBBORN]);
    gateway.service().start(&["--name", "two", "--stop-timeout", "2s", "--", "sh", "-c", STUBBORN]);
    gateway.service().start(&["--name", "still", "--", "sleep", "76012"]);
    wait::until("they are deaf", SOON, || {
        ["web", "two"].iter().all(|name| gateway.service().output(name) == b"up\n")
    });
    let before = Footprint::of(&gateway);
    let mut peer = Peer::new(&gateway);
    let login = login_of(User::Admin);
    assert_eq!(peer.call("ServiceInfo", &login, &[]).and_then(|a| a.status), Some(OK));
    let at_rest = Footprint::now(before.pid).threads;
    // A deadline in the middle of a stop.
    let path = path("Stop");
    let deadline = vec![("grpc-timeout", "300m"), ("authorization", &login)];
    let block = literals(&[fields(&path), deadline].concat());
    let id = peer.begin(&block, &message(&targets("web")));
    let answer = peer.answer(id).expect("the connection goes on");
    assert!(matches!(answer.status, Some(DEADLINE_EXCEEDED | CANCELLED) | None), "{answer:?}");
    assert_eq!(gateway.service().state("web"), "stopping", "the stop goes on");
    // A cancellation in the middle of another.
    let id = peer.ask("Stop", &login, &targets("two"));
    wait::until("it has begun", SOON, || gateway.service().state("two") == "stopping");
    peer.send(&frame(RST_STREAM, 0, id, &[0, 0, 0, 8]));
    gateway.service().until_state("web", "stopped");
    gateway.service().until_state("two", "stopped");
    // Many that wait for what never comes, given up in all ways.
    for round in 0..rounds(3) {
        let ids: Vec<u32> = (0..60).map(|_| peer.ask("Wait", &login, &targets("still"))).collect();
        wait::until("they wait", SOON, || Footprint::now(before.pid).threads >= at_rest + 50);
        let resets = ids.iter().map(|id| frame(RST_STREAM, 0, *id, &[0, 0, 0, 8]));
        peer.send(&resets.collect::<Vec<_>>().concat());
        wait::until("their threads are free", SOON, || Footprint::now(before.pid).threads <= at_rest + 2);
        assert_eq!(peer.call("ServiceInfo", &login, &[]).and_then(|a| a.status), Some(OK), "round {round}");
    }
    let mut other = Peer::new(&gateway);
    assert_eq!(other.call("ServiceInfo", &login, &[]).and_then(|a| a.status), Some(OK));
    (0..60).for_each(|_| _ = other.ask("Wait", &login, &targets("still")));
    wait::until("they wait", SOON, || Footprint::now(before.pid).threads >= at_rest + 50);
    drop((peer, other));
    before.expect_back(&gateway, 100);
    assert_eq!(gateway.service().state("still"), "running");
}

#[test]
fn g28_guessing_is_slow_and_tells_nothing() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    // As long as a wrong password is looked at, which is 16 times for each certificate: whether there is such
    // a user.
    let mut peer = Peer::new(&gateway);
    let mut times = [Vec::new(), Vec::new()];
    let mut ask = |user: &str, times: &mut Vec<Duration>| {
        let begin = Instant::now();
        let answer = peer.call("ServiceInfo", &login(user, "a wrong password"), &[]).expect("it goes on");
        assert_eq!(answer.status, Some(PERMISSION_DENIED), "{answer:?}");
        assert_eq!(answer.text, "wrong user or password");
        times.push(begin.elapsed());
    };
    for user in User::ALL {
        for _ in 0..2 {
            ask(user.name(), &mut times[0]);
            ask(&format!("{}x", user.name()), &mut times[1]);
        }
    }
    let [known, unknown] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    });
    println!("a wrong password of a known user takes {known:?}, of an unknown one {unknown:?}");
    let ratio = known.as_secs_f64() / unknown.as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "{known:?} against {unknown:?}");
    // A thousand more.
    let guesses = |first: usize| {
        let mut peer = Peer::new(&gateway);
        let mut count = [0; 3];
        for n in 0..250 {
            let guess = login(User::Operator.name(), &format!("guess {first} {n}"));
            let answer = peer.call("ServiceInfo", &guess, &[]).expect("it goes on");
            assert!(matches!(answer.status, Some(PERMISSION_DENIED | RESOURCE_EXHAUSTED)), "{answer:?}");
            match answer.text.as_str() {
                "wrong user or password" => count[0] += 1,
                "too many wrong passwords" => count[1] += 1,
                _ => count[2] += 1,
            }
        }
        count
    };
    let begin = Instant::now();
    let counts = thread::scope(|scope| {
        let all = [0, 1, 2, 3].map(|first| scope.spawn(move || guesses(first)));
        all.map(|guesses| guesses.join().expect("it guesses"))
    });
    println!("[looked at, locked out, turned away]: {counts:?} in {:?}", begin.elapsed());
    let looked_at: usize = counts.iter().map(|count| count[0]).sum();
    assert!(looked_at < 30, "{looked_at} of 1,000 passwords were looked at");
    // Somebody else is not locked out.
    drop(peer);
    before.expect_back(&gateway, 100);
}

#[test]
fn g29_impossible_passwords_are_refused_before_hashing() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    let mut peer = Peer::new(&gateway);
    assert_eq!(peer.call("ServiceInfo", &login_of(User::Viewer), &[]).and_then(|a| a.status), Some(OK));
    for (what, password) in [
        ("73 bytes", "x".repeat(73)),
        ("257 bytes", "x".repeat(257)),
        ("NUL", "a\0b".to_owned()),
        ("nothing", String::new()),
        ("10 KB", "x".repeat(7000)),
    ] {
        let answer = peer.call("ServiceInfo", &login("vera", &password), &[]).expect("it goes on");
        assert_eq!(answer.status, Some(PERMISSION_DENIED), "{what}: {answer:?}");
    }
    // Two logins, of which one is right.
    let (path, right) = (path("ServiceInfo"), login_of(User::Viewer));
    for both in [[&right, &login("alice", "x")], [&login("alice", "x"), &right], [&right, &right]] {
        let both = both.map(|login| ("authorization", login.as_str()));
        let id = peer.begin(&literals(&[fields(&path), both.to_vec()].concat()), &message(&[]));
        let answer = peer.answer(id).expect("it goes on");
        assert_eq!(answer.status, Some(PERMISSION_DENIED), "{answer:?}");
    }
    // A megabyte is more than any header may have.
    let long = login("vera", &"x".repeat(1 << 20));
    let block = literals(&[fields(&path), vec![("authorization", &long)]].concat());
    let id = peer.stream();
    let mut chunks = block.chunks(16_000);
    peer.send(&frame(1, 0, id, chunks.next().expect("it is long")));
    for chunk in chunks {
        peer.send(&frame(9, 0, id, chunk));
    }
    // The library below says so, or the meter ends the connection: whoever is first.
    let status = peer.answer(id).and_then(|a| a.status);
    assert!(matches!(status, None | Some(RESOURCE_EXHAUSTED)), "{status:?}");
    expect_service(&gateway);
    drop(peer);
    before.expect_back(&gateway, 100);
}

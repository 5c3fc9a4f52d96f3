//! Whose rights a call has: those of the connection that it came on, whatever was there before it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use provost::tls::material::{self, Files};
use rustls::ClientConfig;

use crate::h2::{
    OK, PERMISSION_DENIED, Peer, RESOURCE_EXHAUSTED, RST_STREAM, expect_service, fields, frame, literals,
    login, login_of, message, text_field, tls,
};
use crate::harness::gateway::{CLIENT, NAME, User};
use crate::harness::{Gateway, LATER, SOON, binary, cli, procfs, rounds, wait};

/// Another client's name, whose certificate is a viewer's.
const VIEWER: &str = "viewer.provost";
/// Connections at a time: descriptors of those that go are taken by those that come.
const AT_ONCE: u32 = 4;

/// A second certificate of the same authority, with a lower role; how its owner does TLS.
fn viewer(gateway: &Gateway) -> Arc<ClientConfig> {
    let mut command = std::process::Command::new(binary());
    command.args(["cert", "init", "--dir", gateway.dir(), "--client", VIEWER]);
    cli::run(command, LATER).expect(0);
    let file = gateway.file("provost.toml");
    let config = fs::read_to_string(&file).expect("it is ours");
    let (admins, both) =
        (format!("\"{CLIENT}\" = \"admin\""), format!("\"{CLIENT}\" = \"admin\"\n\"{VIEWER}\" = \"viewer\""));
    assert!(config.contains(&admins));
    fs::write(&file, config.replace(&admins, &both)).expect("it is ours");
    gateway.service().ok(&["reload"]);
    let named = |kind: &str| gateway.file(&format!("{VIEWER}.{kind}")).into();
    let (certificate, key, ca) = (named("pem"), named("key"), gateway.file("ca.pem").into());
    material::client(&Files { certificate, key, ca, crl: None }).expect("the files are good")
}

/// The same user on two certificates, one connection after the other, each left in the middle of a call: what
/// the admin's may and the viewer's may not is never mixed up.
#[test]
fn g27_no_call_has_the_rights_of_another_connection() {
    let gateway = Gateway::start();
    gateway.service().start(&["--name", "long", "--", "sleep", "75000"]);
    let (admin, viewer) = (tls(&gateway), viewer(&gateway));
    let (login, wait_for) = (login_of(User::Admin), text_field(1, b"long"));
    let before = procfs::fd_count(gateway.pid());
    let (served, refused) = (AtomicU32::new(0), AtomicU32::new(0));
    let total = rounds(200);
    thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (admin, viewer, login, wait_for) = (&admin, &viewer, &login, &wait_for);
            let (gateway, served, refused) = (&gateway, &served, &refused);
            scope.spawn(move || {
                for n in 0..total / AT_ONCE {
                    let is_admin = (n + worker) % 2 == 0;
                    let config = Arc::clone(if is_admin { admin } else { viewer });
                    let mut peer = Peer::with(gateway.port(), config).expect("it is let in");
                    peer.ask("Wait", login, wait_for);
                    // Once while the password is looked at, once with what the connection remembers.
                    for _ in 0..2 {
                        let status = peer.call("Environment", login, &[]).and_then(|a| a.status);
                        let expected = if is_admin { OK } else { PERMISSION_DENIED };
                        assert_eq!(status, Some(expected), "round {n}, admin: {is_admin}");
                    }
                    (if is_admin { served } else { refused }).fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let counts = (served.into_inner(), refused.into_inner());
    assert_eq!(counts, (total / AT_ONCE * AT_ONCE / 2, total / AT_ONCE * AT_ONCE / 2));
    // Those who left took their calls and descriptors with them.
    wait::until("no call is left", LATER, || gateway.threads("call") == 0);
    // The pool keeps a connection to the engine for each of its threads.
    wait::until("no descriptor is left", LATER, || procfs::fd_count(gateway.pid()) <= before + 16);
    expect_service(&gateway);
}

/// What the service runs for itself is out of an operator's reach, by name and by id, and within an admin's.
#[test]
fn the_services_own_processes_are_for_admins() {
    let gateway = Gateway::start();
    let (pid, id) = (gateway.pid(), gateway.service().status_json(NAME)["id"].clone());
    let id = id.as_str().expect("it has one").to_owned();
    let (operator, admin) = (login_of(User::Operator), login_of(User::Admin));
    let mut peer = Peer::new(&gateway);
    for target in [NAME, &id] {
        let target = text_field(1, target.as_bytes());
        for method in ["Stop", "Restart", "StartAgain", "Signal"] {
            // SIGSTOP, where it takes a signal.
            let number: &[u8] = if method == "Signal" { &[2 << 3, 19] } else { &[] };
            let answer = peer.call(method, &operator, &[&target, number].concat()).expect("an answer");
            let text = String::from_utf8_lossy(&answer.data).into_owned() + &answer.text;
            assert!(text.contains("that needs admin"), "{method}: {text}");
        }
        for method in ["Output", "Stream"] {
            let answer = peer.call(method, &operator, &target).expect("an answer");
            assert_eq!((answer.status, answer.data.len()), (Some(PERMISSION_DENIED), 0), "{method}");
        }
        let status = peer.call("Status", &operator, &target).and_then(|answer| answer.status);
        assert_eq!(status, Some(OK), "how it is may be seen");
        let output = peer.call("Output", &admin, &target).expect("an answer");
        assert!(output.status == Some(OK) && !output.data.is_empty());
    }
    assert_eq!(gateway.pid(), pid);
    assert_eq!(gateway.service().status_json(NAME)["run"], 1);
}

/// Open calls end when the user, its role or the certificate's role is not what it was; those of others go
/// on.
#[test]
fn open_calls_end_with_the_rights_of_their_callers() {
    let gateway = Gateway::start();
    gateway.service().start(&["--name", "still", "--", "sleep", "76003"]);
    let (file, users) = (gateway.file("provost.toml"), gateway.file("users"));
    let config = fs::read_to_string(&file).expect("it is ours");
    let reload = |from: &str, to: &str| {
        assert!(config.contains(from), "{config}");
        fs::write(&file, config.replace(from, to)).expect("it is ours");
        gateway.service().ok(&["reload"]);
    };
    let mut peer = Peer::new(&gateway);
    let still = text_field(1, b"still");
    let mut ask = |user: User| {
        let login = login_of(user);
        // The first one logs in.
        assert_eq!(peer.call("ServiceInfo", &login, &[]).and_then(|a| a.status), Some(OK));
        let ids = [("Wait", &still[..]), ("Stream", &still), ("Events", &[2 << 3, 1])];
        let ids = ids.map(|(method, request)| peer.ask(method, &login, request));
        ids.to_vec()
    };
    let removed = || {
        let mut command = std::process::Command::new(binary());
        command.args(["user", "remove", "olga", "--users", &users]);
        cli::run(command, LATER).expect(0);
    };
    let lower = || reload("olga = \"operator\"", "olga = \"viewer\"");
    let of_certificate = || reload(&format!("\"{CLIENT}\" = \"admin\""), "\"another\" = \"admin\"");
    let (kept, lost) = (ask(User::Viewer), ask(User::Operator));
    wait::until("all of them are open", SOON, || gateway.threads_that_wait("call") == 5);
    lower();
    let mut ended = |ids: &[u32]| {
        for id in ids {
            let answer = peer.answer(*id).expect("the connection goes on");
            assert_eq!(answer.status, Some(PERMISSION_DENIED), "{answer:?}");
            assert!(answer.text.contains("has changed"), "{answer:?}");
        }
    };
    ended(&lost);
    let count = || gateway.threads_that_wait("call");
    wait::until("a viewer's wait and its events are left, its stream was refused", SOON, || count() == 2);
    of_certificate();
    ended(&[kept[0], kept[2]]);
    reload("", "");
    let mut peer = Peer::new(&gateway);
    let (kept, lost) = (ask_again(&mut peer, User::Viewer), ask_again(&mut peer, User::Operator));
    wait::until("both wait", LATER, || gateway.threads_that_wait("call") == 2);
    removed();
    let answer = peer.answer(lost).expect("the connection goes on");
    assert_eq!(answer.status, Some(PERMISSION_DENIED), "{answer:?}");
    assert_eq!(peer.has_ended(kept), None);
}

/// Waits for what runs for ever, as this user, who has logged in before.
fn ask_again(peer: &mut Peer, user: User) -> u32 {
    let login = login_of(user);
    assert_eq!(peer.call("ServiceInfo", &login, &[]).and_then(|a| a.status), Some(OK));
    peer.ask("Wait", &login, &text_field(1, b"still"))
}

/// Watching health needs a certificate alone, and no thread: nobody is kept out by those who do.
#[test]
fn watches_of_health_cost_no_thread_and_are_few_on_a_connection() {
    let gateway = Gateway::start();
    let block = literals(&fields("/grpc.health.v1.Health/Watch"));
    let mut peers: Vec<_> = (0..20).map(|_| Peer::new(&gateway)).collect();
    for peer in &mut peers {
        let ids: Vec<_> = (0..60).map(|_| peer.begin(&block, &message(&[]))).collect();
        for id in &ids[8..] {
            let refused = peer.answer(*id).expect("the connection goes on");
            assert_eq!(refused.status, Some(RESOURCE_EXHAUSTED), "{refused:?}");
        }
        assert!(ids[..8].iter().all(|id| peer.has_ended(*id).is_none()));
    }
    assert_eq!(gateway.threads("call"), 0);
    expect_service(&gateway);
    // A watch that is given up leaves its place to another.
    let peer = &mut peers[0];
    peer.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    wait::until("there is a place", LATER, || {
        let id = peer.begin(&block, &message(&[]));
        wait::holds_within(Duration::from_millis(300), || peer.has_ended(id).is_some());
        peer.has_ended(id).is_none()
    });
}

/// A viewer's refusals, and logins that fail, are on record: one line each with a count.
#[test]
fn refusals_and_failed_logins_are_in_the_audit() {
    let gateway = Gateway::start();
    let mut peer = Peer::new(&gateway);
    let viewer = login_of(User::Viewer);
    for n in 0..50 {
        let target = text_field(1, format!("web-{n}").as_bytes());
        for method in ["Stop", "Output"] {
            let status = peer.call(method, &viewer, &target).and_then(|answer| answer.status);
            assert_eq!(status, Some(PERMISSION_DENIED));
        }
    }
    for n in 0..3 {
        let bad = login("alice", &format!("not the password {n}"));
        let status = peer.call("List", &bad, &[]).and_then(|answer| answer.status);
        assert_eq!(status, Some(PERMISSION_DENIED));
    }
    wait::until("all are counted", LATER, || {
        let lines = gateway.service().cli(&["audit", "--json"]).expect(0).json();
        let is = |what: &str, result: &str| {
            let fits =
                |text: &serde_json::Value, part: &str| text.as_str().is_some_and(|t| t.starts_with(part));
            let of = lines.iter().filter(|line| fits(&line["what"], what)).collect::<Vec<_>>();
            assert!(of.len() <= 1, "{of:?}");
            of.first().is_some_and(|line| fits(&line["result"], result))
        };
        is("stop web-0", "refused 50 times")
            && is("read the output of web-0", "refused 50 times")
            && is("log in as 'alice'", "refused 3 times")
    });
}

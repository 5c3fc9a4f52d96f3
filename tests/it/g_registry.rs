//! The registry of providers over gRPC: every method, every role, and the command line from another machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::h2::{PERMISSION_DENIED, Peer, login_of, text_field};
use crate::harness::gateway::User;
use crate::harness::{Gateway, fixture};

#[test]
fn every_method_of_the_registry_and_every_role() {
    let gateway = Gateway::start();
    let nothing = text_field(2, b"nothing");
    let spec = [text_field(1, &nothing), text_field(2, &text_field(1, b"/no/such"))].concat();
    // `EntryAction action = 3` about an alias that is not there.
    let change = |action: u8| [nothing.clone(), vec![0x18, action]].concat();
    let hold = [change(9), text_field(4, b"repairs")].concat();
    let (yes, no) = (true, false);
    // Viewer, operator, admin.
    let matrix: Vec<(&str, Vec<u8>, [bool; 3])> = vec![
        ("RegisterProvider", spec, [no, no, yes]),
        ("ListEntries", vec![], [yes, yes, yes]),
        ("ChangeEntries", change(1), [no, no, yes]),
        ("ChangeEntries", change(2), [no, no, yes]),
        ("ChangeEntries", change(3), [no, no, yes]),
        ("ChangeEntries", change(4), [no, yes, yes]),
        ("ChangeEntries", change(5), [no, yes, yes]),
        ("ChangeEntries", change(6), [no, yes, yes]),
        ("ChangeEntries", change(7), [no, yes, yes]),
        ("ChangeEntries", change(8), [yes, yes, yes]),
        ("ChangeEntries", hold, [no, no, yes]),
        ("ChangeEntries", change(10), [no, no, yes]),
        ("ChangeEntries", change(11), [no, no, yes]),
        ("ChangeEntries", change(12), [no, no, yes]),
        ("ChangeEntries", vec![0x18, 13], [no, no, yes]),
        // `bool dry_run = 2`.
        ("DiscoverProviders", vec![0x10, 1], [yes, yes, yes]),
        ("DiscoverProviders", vec![], [no, no, yes]),
        ("ValidateProviders", vec![], [yes, yes, yes]),
        ("PermitCall", text_field(1, &nothing), [no, yes, yes]),
        // `CallOutcome outcome = 2`.
        ("ReportCall", [text_field(1, b"none"), vec![0x10, 1]].concat(), [no, yes, yes]),
        ("CallChain", text_field(1, &nothing), [no, yes, yes]),
    ];
    let proto = include_str!("../../proto/provost/v1/registry_service.proto");
    let methods = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
    for method in methods {
        assert!(matrix.iter().any(|(tried, _, _)| *tried == method), "{method} is not tried");
    }
    let mut peer = Peer::new(&gateway);
    for (method, request, allowed) in &matrix {
        let path = format!("RegistryService/{method}");
        for (user, allowed) in [User::Viewer, User::Operator, User::Admin].into_iter().zip(*allowed) {
            let answer = peer.call(&path, &login_of(user), request).expect("the connection goes on");
            let what = format!("{method} {request:?} by {user:?}: {answer:?}");
            assert_eq!(answer.status == Some(PERMISSION_DENIED), !allowed, "{what}");
            assert!(allowed || answer.text.contains(" may not "), "{what}");
        }
    }
}

#[test]
fn the_command_line_asks_the_registry_of_another_machine() {
    let gateway = Gateway::start();
    let service = gateway.service();
    let path = format!("{}/providers/fine", service.state_dir());
    fs::create_dir_all(Path::new(&path).parent().expect("it has one")).expect("the state is ours");
    fs::write(&path, format!("#!/bin/sh\nexec {} fine\n", fixture("rude"))).expect("the state is ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let ok = |user: User, args: &[&str]| {
        let out = gateway.cli(user, &[&["registry"], args].concat());
        out.expect(0);
        out.out()
    };
    ok(User::Admin, &["register", "app", "--binary", "fine", "--label", "team=web"]);
    ok(User::Admin, &["monitor", "start", "app", "--interval", "2s"]);
    ok(User::Viewer, &["health", "app"]);
    ok(User::Operator, &["restart", "app"]);
    // Both ways say the same.
    let there = gateway.cli(User::Viewer, &["registry", "list", "--json"]).json();
    let here = service.cli(&["registry", "list", "--json"]).json();
    assert_eq!(there, here);
    assert_eq!((&there[0]["check_interval_ms"], &there[0]["labels"]["team"]), (&2000.into(), &"web".into()));
    ok(User::Admin, &["hold", "app", "--reason", "repairs"]);
    let out = gateway.cli(User::Admin, &["registry", "register", "app", "--binary", "fine", "--json"]);
    out.expect(6);
    assert_eq!(out.json()[0]["error"]["reason"], "already_exists");
    assert_eq!(gateway.cli(User::Viewer, &["registry", "has", "other"]).code, 3);
    ok(User::Viewer, &["validate"]);
    ok(User::Admin, &["shutdown"]);
    assert_eq!(service.cli(&["registry", "list", "--json"]).json()[0]["status"], "disposed");
    ok(User::Admin, &["unregister", "app"]);
    assert!(service.ok(&["audit"]).contains("unregister provider app"));
}

//! Shares: nobody takes all the calls that the gateway can have under way, and the gateway never takes all
//! connections of the engine.

use std::fs;

use crate::h2::{OK, Peer, RESOURCE_EXHAUSTED, login_of, text_field};
use crate::harness::gateway::User;
use crate::harness::{Gateway, LATER, Output, SOON, cli, wait};

/// As many as a connection has calls, almost.
const WAITS: usize = 98;

#[test]
fn a_viewers_waits_leave_room_for_everybody_else() {
    let gateway = Gateway::start();
    gateway.service().start(&["--name", "still", "--", "sleep", "76110"]);
    give_ops_a_certificate(&gateway);
    let forever = text_field(1, b"still");
    let (mut storm, mut refused) = (Vec::new(), 0);
    for _ in 0..6 {
        let mut peer = Peer::new(&gateway);
        let login = login_of(User::Viewer);
        // The password is remembered from here on.
        let known = peer.call("ServiceInfo", &login, &[]).expect("the connection goes on");
        assert!(matches!(known.status, Some(OK | RESOURCE_EXHAUSTED)), "{known:?}");
        let calls: Vec<_> = (0..WAITS).map(|_| peer.ask("Wait", &login, &forever)).collect();
        storm.push((peer, calls));
    }
    let asked = storm.len() * WAITS;
    wait::until("each of them waits or was refused", SOON, || {
        for (peer, calls) in &mut storm {
            calls.retain(|&call| {
                let ended = peer.has_ended(call);
                refused += usize::from(ended.is_some());
                ended.inspect(|end| assert_eq!(end.status, Some(RESOURCE_EXHAUSTED), "{end:?}")).is_none()
            });
        }
        refused + gateway.threads("call") >= asked
    });
    // On this machine, more than ever come at once.
    let ours: Vec<_> = (0..80).map(|_| gateway.service().client()).collect();
    gateway.service().ok(&["list"]);
    drop(ours);
    // Another certificate with another user.
    let ended = ops(&gateway, &["stop", "still"]);
    assert_eq!(ended.code, 0, "{ended:?}\n{}", gateway.log());
    assert!((100..=200).contains(&(asked - refused)), "{refused} of {asked} were refused");
}

/// A second client of the same authority, which may do what an operator may.
fn give_ops_a_certificate(gateway: &Gateway) {
    let dir = gateway.dir();
    gateway.service().ok(&["cert", "init", "--dir", dir, "--client", "ops.example"]);
    let config = gateway.file("provost.toml");
    let text = fs::read_to_string(&config).expect("the directory is ours");
    let roles = "[grpc.certificate_roles]\n\"ops.example\" = \"operator\"\n";
    fs::write(&config, text.replace("[grpc.certificate_roles]\n", roles)).expect("the directory is ours");
    gateway.service().ok(&["reload"]);
}

/// A command of the operator's with that certificate.
fn ops(gateway: &Gateway, args: &[&str]) -> Output {
    let mut command = gateway.command(User::Operator, &[]);
    command.args(["--cert", &gateway.file("ops.example.pem"), "--key", &gateway.file("ops.example.key")]);
    command.args(args);
    cli::run(command, LATER)
}

//! The module plane beyond this machine: mutual TLS, and namespaces that belong to certificates.

use std::fs;

use provost::tls::material::{self, Files};
use serde_json::{Value, json};

use crate::g_hoard::Hoarder;
use crate::h2::Peer;
use crate::harness::{SOON, Scratch, wait};
use crate::plane::{Plane, certificates};

fn host_says(plane: &Plane, what: &str) -> bool {
    let output = plane.service.cli(&["output", "provost.host"]);
    output.out().contains(what) || output.err().contains(what)
}

#[test]
fn providers_with_certificates_register_what_is_theirs_and_nobody_else_gets_in() {
    let (plane, files) = Plane::secured(
        "heartbeat_timeout = '3s'\n[modules.namespaces]\nmine = ['client.provost']\n'mine.not' = ['dns:other']\n",
    );
    let certificates = [("CERTIFICATES", files.path().to_str().expect("the path is text"))];
    let provider = plane.outside(&["mine.own"], &certificates);
    assert_eq!(plane.call("mine.own.who", &json!({})), provider.pid());
    for (namespace, why) in [
        ("mine.not", "Namespace mine.not is for certificates that [modules.namespaces] names"),
        ("free", "Namespace free is not among [modules.namespaces]"),
    ] {
        let refused = plane.begin(&[namespace], &certificates).end(SOON);
        refused.expect(3);
        assert!(refused.out().contains(why), "{refused:?}");
    }
    // Without TLS there is no connection, nor with TLS and without a certificate.
    for (variables, why) in [
        (&[][..], "refused"),
        (&[certificates[0], ("ANONYMOUS", "1")], "refused: the client has shown no certificate"),
    ] {
        let stranger = plane.begin(&["mine"], variables).end(SOON);
        assert_ne!(stranger.code, 0);
        assert!(stranger.err().contains("UNAVAILABLE"), "{stranger:?}");
        wait::until(why, SOON, || host_says(&plane, why));
    }
    assert_eq!(plane.connections().len(), 1);
    // It is restored as its owner's.
    plane.kill_host();
    plane.until_state("restored");
    assert_eq!(plane.call("mine.own.add", &json!({ "a": 1, "b": 2 })), 3);
    provider.signal("KILL");
    wait::until("it is gone", SOON, || plane.connections().is_empty());
}

#[test]
fn half_requests_of_a_provider_are_bounded_and_the_log_says_so() {
    let (plane, files) = Plane::secured("");
    let port = plane.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("it has a port");
    let tls = material::client(&Files {
        certificate: files.path().join("client.pem"),
        key: files.path().join("client.key"),
        ca: files.path().join("ca.pem"),
        crl: None,
    });
    let peer = Peer::with(port, tls.expect("the files are good")).expect("it is let in");
    let path = "/constellation.provider.v1.ModuleProvider/Register";
    assert!(Hoarder::new(peer, path, 16, 4 << 20).run(), "it is ended");
    wait::until("the log says why", SOON, || {
        host_says(&plane, "connection ended: it sent too much of requests that it did not end")
    });
}

#[test]
fn renewed_files_are_read_and_only_who_was_revoked_is_ended() {
    let (plane, files) = Plane::secured_with("", |dir| {
        for name in ["gone", "other"] {
            certificates(dir, &["init", "--client", name]);
        }
        // So there is a list from the start.
        certificates(dir, &["revoke", &format!("{dir}/gone.pem")]);
    });
    let dir = files.path().to_str().expect("the path is text");
    let others = Scratch::new();
    for (from, to) in [("ca.pem", "ca.pem"), ("other.pem", "client.pem"), ("other.key", "client.key")] {
        fs::copy(files.path().join(from), others.path().join(to)).expect("both are ours");
    }
    let own = [("CERTIFICATES", dir)];
    let other = [("CERTIFICATES", others.path().to_str().expect("the path is text"))];
    let (revoked, kept) = (plane.outside(&["one"], &own), plane.outside(&["two"], &other));
    // Another certificate of the service: nobody is ended, and the next one comes in with it.
    for name in ["server.pem", "server.key"] {
        fs::remove_file(files.path().join(name)).expect("it is there");
    }
    certificates(dir, &["init"]);
    wait::until("it is read", SOON, || host_says(&plane, "modules: certificates are read again"));
    let next = plane.outside(&["three"], &other);
    let id_of = |all: &[Value], namespace: &str| {
        all.iter().find(|c| c["namespace"] == namespace).map(|c| c["id"].clone())
    };
    let before = plane.connections();
    assert_eq!(before.len(), 3);
    certificates(dir, &["revoke", &format!("{dir}/client.pem")]);
    wait::until("its connection is ended", SOON, || host_says(&plane, "1 connections ended of providers"));
    wait::until("its modules are gone", SOON, || plane.connections().len() == 2);
    let refused = plane.begin(&["one"], &own).end(SOON);
    assert_ne!(refused.code, 0, "{refused:?}");
    for (provider, namespace) in [(&kept, "two"), (&next, "three")] {
        assert_eq!(plane.call(&format!("{namespace}.who"), &json!({})), provider.pid());
        assert_eq!(id_of(&plane.connections(), namespace), id_of(&before, namespace));
    }
    drop(revoked);
}

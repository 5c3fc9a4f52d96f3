//! The module plane beyond this machine: mutual TLS, and namespaces that belong to certificates.

use std::fs;

use provost::tls::material::{self, Files};
use serde_json::{Value, json};

use crate::g_hoard::Hoarder;
use crate::h2::Peer;
use crate::harness::{SOON, Scratch, procfs, wait};
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

#[test]
fn executors_of_named_hosts_are_spoken_to_with_mutual_tls_alone() {
    const HOST: &str = "127.0.0.2";
    let files = Scratch::new();
    let dir = files.path().to_str().expect("the path is text");
    certificates(dir, &["init", "--host", HOST]);
    let named = format!("[modules.executors]\nhosts = ['{HOST}']\ncertificates = '{dir}'\n");
    let plane = Plane::with(&format!("heartbeat_timeout = '2s'\n{named}"));
    let secured = format!("{HOST}={dir}");
    let provider = plane.outside(&["far"], &[("SECURED", &secured)]);
    assert_eq!(plane.call("far.who", &json!({})), provider.pid());
    assert!(plane.connections()[0]["executor"].as_str().is_some_and(|at| at.starts_with(HOST)));
    // One that shows a certificate of another authority is deaf.
    let others = Scratch::new();
    let other_dir = others.path().to_str().expect("the path is text");
    certificates(other_dir, &["init", "--host", HOST]);
    let other = plane.outside(&["other"], &[("SECURED", &format!("{HOST}={other_dir}"))]);
    let state = |namespace: &str| {
        let all = plane.connections();
        all.iter().find(|c| c["namespace"] == namespace).map(|c| c["state"].clone())
    };
    wait::until("it is deaf", SOON, || state("other") == Some("deaf".into()));
    plane.cli(&["call", "other.who"]).expect(1);
    assert!(other.is_running());
    assert_eq!(state("far"), Some("active".into()));
    // A host that is not named is refused, also one of this machine's network.
    let refused = plane.begin(&["else"], &[("ELSEWHERE", "10.255.255.1")]).end(SOON);
    refused.expect(3);
    assert!(refused.out().contains("or of a host that [modules.executors] names"), "{refused:?}");
}

#[test]
fn a_named_host_of_executors_is_looked_up_by_a_program_of_its_own() {
    const NOWHERE: &str = "nowhere.invalid";
    // As the configuration of this machine says, not a name service.
    let listed = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let names = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let of_here = listed.lines().map(names).filter(|words| words.first().is_some_and(|ip| ip == "127.0.0.1"));
    let name = of_here.flat_map(|words| words.into_iter().skip(1)).find(|name| name != "localhost");
    let host = name.unwrap_or_else(|| "localhost".to_owned());
    let files = Scratch::new();
    let dir = files.path().to_str().expect("the path is text");
    certificates(dir, &["init", "--host", &host]);
    let hosts = format!("hosts = ['{}', '{NOWHERE}']", host.to_uppercase());
    let plane = Plane::with(&format!("[modules.executors]\n{hosts}\ncertificates = '{dir}'\n"));
    let provider = plane.outside(&["far"], &[("SECURED", &format!("{host}={dir}"))]);
    assert_eq!(plane.call("far.who", &json!({})), provider.pid());
    // One whose name has no address is deaf, and says so.
    let lost = plane.outside(&["lost"], &[("ELSEWHERE", NOWHERE)]);
    wait::until("it is deaf", SOON, || {
        let all = plane.connections();
        let reason = all.iter().find(|c| c["namespace"] == "lost").map(|c| c["reason"].to_string());
        reason.is_some_and(|why| why.contains("the name nowhere.invalid cannot be looked up"))
    });
    let out = plane.cli(&["call", "lost.who"]);
    assert!(out.expect(1).err().contains("cannot be looked up"), "{out:?}");
    drop(lost);
    wait::until("no look-up is left", SOON, || {
        let all = procfs::with_command(&format!("lookup {NOWHERE}"));
        all.into_iter().all(|pid| !plane.service.is_marked(pid))
    });
}

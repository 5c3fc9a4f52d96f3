//! Files that cannot work are refused when they are read, by name and in words.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rcgen::{BasicConstraints, IsCa, date_time_ymd};

use crate::tls::material::{self, Files};
use crate::tls::tests::{Authority, CLIENT, SERVER, World, authority, leaf};

#[track_caller]
fn refused(files: &Files, error_texts: &[&str]) {
    let e = material::server(files).map(drop).unwrap_err();
    assert!(error_texts.iter().all(|text| e.message.contains(text)), "{error_texts:?}: {}", e.message);
}

#[test]
fn g31_a_key_that_others_can_read_is_refused() {
    let world = World::new();
    for mode in [0o644, 0o640, 0o604] {
        fs::set_permissions(&world.server.key, fs::Permissions::from_mode(mode)).unwrap();
        refused(&world.server, &["private key", "server.key", "others than its owner", "chmod 600"]);
    }
    fs::set_permissions(&world.server.key, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(material::server(&world.server).is_ok());
}

#[test]
fn keys_and_certificates_have_to_fit() {
    let world = World::new();
    let other = Files { key: world.client.key.clone(), ..world.server.clone() };
    refused(&other, &["client.key", "it is not that of the certificate", "server.pem"]);
    refused(&world.client, &["client.pem", "it was not made for servers"]);
    let e = material::client(&world.server).map(drop).unwrap_err();
    assert!(e.message.contains("it was not made for clients"), "{}", e.message);

    for (text, error_texts) in [("", "there is no private key"), ("-----BEGIN", "there is no private key")] {
        let key = world.dir.write("broken.key", text);
        refused(&Files { key, ..world.server.clone() }, &["broken.key", error_texts]);
    }
    let key = world.dir.write("swapped.key", &fs::read_to_string(&world.server.certificate).unwrap());
    refused(&Files { key, ..world.server.clone() }, &["swapped.key", "there is no private key"]);
    let key = world.dir.0.path().join("absent.key");
    refused(&Files { key, ..world.server.clone() }, &["absent.key", "No such file"]);
}

#[test]
fn certificates_that_nobody_would_accept_are_refused() {
    let world = World::new();
    let mut expired = leaf(&["localhost"], &[SERVER]);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let mut early = leaf(&["localhost"], &[SERVER]);
    early.not_before = date_time_ymd(2100, 1, 1);
    let mut authority = leaf(&["localhost"], &[SERVER]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for (params, error_texts) in [
        (expired, "it has expired on 2021-01-01T00:00:00.000Z"),
        (early, "it is not valid before 2100-01-01T00:00:00.000Z"),
        (authority, "it is that of an authority"),
    ] {
        let files = world.dir.files("bad", &world.ca.issue(&params), &world.ca);
        refused(&files, &["certificate", "bad.pem", error_texts]);
    }
    let certificate = world.dir.write("none.pem", "nothing\n");
    refused(&Files { certificate, ..world.server.clone() }, &["none.pem", "there is no certificate in it"]);
    let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let certificate = world.dir.write("torn.pem", torn);
    refused(&Files { certificate, ..world.server.clone() }, &["torn.pem", "it is not an X.509 certificate"]);
}

#[test]
fn authorities_have_to_be_some() {
    let world = World::new();
    let ca = world.dir.write("empty-ca.pem", "");
    refused(&Files { ca, ..world.server.clone() }, &["authorities", "empty-ca.pem", "no certificate"]);
    let leaf = world.ca.issue(&leaf(&["ops"], &[CLIENT])).chain;
    let ca = world.dir.write("leaf-ca.pem", &format!("{}{leaf}", world.ca.cert.pem()));
    refused(&Files { ca, ..world.server.clone() }, &["leaf-ca.pem", "is not an authority"]);

    let mut params = authority("old");
    params.not_after = date_time_ymd(2021, 1, 1);
    let old = Authority::new("root").under(params).cert.pem();
    let ca = world.dir.write("old-ca.pem", &old);
    refused(&Files { ca, ..world.server.clone() }, &["old-ca.pem", "it has expired on 2021"]);
    let ca = world.dir.write("both-ca.pem", &format!("{old}{}", world.ca.cert.pem()));
    assert!(material::server(&Files { ca, ..world.server.clone() }).is_ok(), "while one is replaced");
    let ca = world.dir.write("many-ca.pem", &world.ca.cert.pem().repeat(101));
    refused(&Files { ca, ..world.server.clone() }, &["many-ca.pem", "more than 100"]);
    let ca = world.dir.write("large-ca.pem", &"\n".repeat((1 << 20) + 1));
    refused(&Files { ca, ..world.server.clone() }, &["large-ca.pem", "larger than"]);
}

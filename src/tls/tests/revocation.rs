//! Revocation lists: what is on one, what none covers, and lists that cannot be believed.

use rcgen::{CertificateParams, SerialNumber};

use crate::tls::material;
use crate::tls::tests::{Authority, Identity, SERVER, World, authority, leaf, ops_but, shake_hands};

fn numbered(serial: u64) -> CertificateParams {
    ops_but(|params| params.serial_number = Some(SerialNumber::from(serial)))
}

/// What the server says to a client, or nothing if it is let in.
fn refusal(world: &World, client: &Identity) -> Option<String> {
    world.admits(client).err().map(|why| why.to_string())
}

#[test]
fn g4_what_is_revoked_is_refused() {
    let mut world = World::new();
    let revoked = world.ca.issue(&numbered(7));
    assert_eq!(refusal(&world, &revoked), None);
    world.server.crl = Some(world.dir.write("crl", &world.ca.revoke(&[6, 7], 2100)));
    assert_eq!(refusal(&world, &revoked), Some("the certificate of the client is revoked".to_owned()));
    assert_eq!(refusal(&world, &world.ca.issue(&numbered(8))), None);
}

#[test]
fn g4_a_chain_that_no_list_covers_is_refused() {
    let mut world = World::new();
    let middle = world.ca.under(authority("middle"));
    let mut client = middle.issue(&numbered(8));
    client.chain += &middle.cert.pem();
    let (upper, lower) = (world.ca.revoke(&[], 2100), middle.revoke(&[7], 2100));
    for (lists, uncovered) in [(&upper, true), (&lower, true), (&format!("{upper}{lower}"), false)] {
        world.server.crl = Some(world.dir.write("crl", lists));
        let why = refusal(&world, &client);
        assert_eq!(why.is_some(), uncovered, "{why:?}");
        assert!(why.is_none_or(|why| why.contains("without a revocation list")));
    }
    let strangers = Authority::new("test authority").revoke(&[], 2100);
    world.server.crl = Some(world.dir.write("crl", &strangers));
    let why = refusal(&world, &world.ca.issue(&numbered(8)));
    assert!(why.is_some(), "a list that the authority has not signed says nothing");
}

#[test]
fn g4_lists_that_cannot_be_believed_are_not_loaded() {
    let mut world = World::new();
    let good = world.ca.revoke(&[7], 2100);
    let mut torn: Vec<_> = good.lines().collect();
    torn.remove(2);
    for (text, why) in [
        (world.ca.revoke(&[7], 2021), "it has expired on 2021-01-01T00:00:00.000Z"),
        (torn.join("\n"), "malformed"),
        (good.replace("-----END X509 CRL-----", ""), "it is not PEM"),
        ("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".to_owned(), "malformed"),
        (world.ca.cert.pem(), "there is no revocation list in it"),
        (String::new(), "there is no revocation list in it"),
    ] {
        let path = world.dir.write("crl", &text);
        let name = path.to_string_lossy().into_owned();
        (world.server.crl, world.client.crl) = (Some(path.clone()), Some(path));
        for e in [material::server(&world.server).map(drop), material::client(&world.client).map(drop)] {
            let e = e.unwrap_err().message;
            assert!(e.contains(&name) && e.contains(why), "{why}: {e}");
        }
    }
}

#[test]
fn g4_a_server_may_be_revoked_too() {
    let mut world = World::new();
    let mut params = leaf(&["localhost"], &[SERVER]);
    params.serial_number = Some(SerialNumber::from(9));
    world.server = world.dir.files("revoked", &world.ca.issue(&params), &world.ca);
    world.client.crl = Some(world.dir.write("crl", &world.ca.revoke(&[9], 2100)));
    let (_, client) = shake_hands(world.server(), world.client(), "localhost");
    assert_eq!(client.map(drop).unwrap_err().message, "the certificate of the server is revoked");
}

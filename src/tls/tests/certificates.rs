//! Which certificates get a client in, and which servers a client believes.

use std::process::{Command, Stdio};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CustomExtension, GeneralSubtree, IsCa, KeyPair, NameConstraints, SanType, SerialNumber,
    date_time_ymd,
};

use crate::sys::clock;
use crate::tls::identity;
use crate::tls::tests::{
    Authority, CLIENT, Identity, SERVER, World, authority, leaf, openssl_client, ops_but, shake_hands,
    unchecked,
};
use crate::tls::tunnel::Refused;

/// The server's words for its refusal.
fn refusal(world: &World, client: &Identity) -> String {
    match world.admits(client) {
        Err(Refused::Unacceptable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_is_the_names_of_its_san() {
    let world = World::new();
    let mut params = leaf(&["ops.example", "10.1.2.3", "::1"], &[CLIENT]);
    params.subject_alt_names.push(SanType::URI("spiffe://example/ops".try_into().unwrap()));
    params.subject_alt_names.push(SanType::Rfc822Name("ops@example.org".try_into().unwrap()));
    params.subject_alt_names.push(SanType::URI("fd00::7".try_into().unwrap()));
    params.serial_number = Some(SerialNumber::from(0x00ab_cdef));
    params.not_after = date_time_ymd(2100, 1, 1);
    let client = world.ca.issue(&params);
    let peer = world.admits(&client).unwrap();
    let names = ["ops.example", "10.1.2.3", "::1", "spiffe://example/ops", "ops@example.org", "fd00::7"];
    assert_eq!(peer.names, names);
    let kinds = ["dns", "ip", "ip", "uri", "email", "uri"];
    assert_eq!(peer.typed, std::iter::zip(kinds, names).map(|(k, n)| format!("{k}:{n}")).collect::<Vec<_>>());
    assert_eq!((peer.serial.as_str(), peer.not_after.0), ("ABCDEF", 4_102_444_800_000));

    let described = identity::describe(client.chain.as_bytes()).unwrap();
    let [described] = &described[..] else { panic!("{described:?}") };
    assert_eq!((&described.names, described.fingerprint), (&peer.names, peer.fingerprint));
    assert_eq!((described.client, described.server, described.is_ca), (true, false, false));
    assert!(described.issuer.contains("test authority"), "{}", described.issuer);
    let ca = identity::describe(world.ca.cert.pem().as_bytes()).unwrap();
    assert!(ca[0].is_ca && ca[0].names.is_empty());
}

#[test]
fn g3_other_authorities_and_times_are_refused() {
    let world = World::new();
    let stranger = Authority::new("test authority").issue(&leaf(&["ops"], &[CLIENT]));
    let why = refusal(&world, &stranger);
    assert!(why.contains("wrong signature") || why.contains("authority that we do not know"), "{why}");
    let stranger = Authority::new("another").issue(&leaf(&["ops"], &[CLIENT]));
    let why = refusal(&world, &stranger);
    assert_eq!(why, "the certificate of the client is from an authority that we do not know");

    let key = KeyPair::generate().unwrap();
    let chain = leaf(&["ops"], &[CLIENT]).self_signed(&key).unwrap().pem();
    let why = refusal(&world, &Identity { chain, key: key.serialize_pem() });
    assert!(why.contains("authority that we do not know"), "{why}");

    let params = ops_but(|params| params.not_after = date_time_ymd(2020, 1, 2));
    let why = refusal(&world, &world.ca.issue(&params));
    assert_eq!(why, "the certificate of the client has expired on 2020-01-02T00:00:00.000Z");
    let params = ops_but(|params| params.not_before = date_time_ymd(2100, 1, 1));
    let why = refusal(&world, &world.ca.issue(&params));
    assert_eq!(why, "the certificate of the client is not valid before 2100-01-01T00:00:00.000Z");
}

#[test]
fn g3_certificates_for_something_else_are_refused() {
    let world = World::new();
    for purposes in [&[][..], &[SERVER]] {
        let why = refusal(&world, &world.ca.issue(&leaf(&["ops"], purposes)));
        assert!(why.ends_with("was not made for this purpose (extended key usage)"), "{why}");
    }
    let params = ops_but(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let why = refusal(&world, &world.ca.issue(&params));
    assert!(why.contains("CaUsedAsEndEntity"), "{why}");
}

#[test]
fn g3_a_certificate_without_a_usable_name_is_refused() {
    let world = World::new();
    let why = refusal(&world, &world.ca.issue(&leaf(&[], &[CLIENT])));
    assert!(why.contains("it has no name (SAN)"), "{why}");
    for name in ["spiffe://ops", "ops\nadmin", "ops@example.org"] {
        let mut params = leaf(&[], &[CLIENT]);
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        let why = refusal(&world, &world.ca.issue(&params));
        assert!(why.contains("malformed name") && !why.contains('\n'), "{why}");
    }
    // A second SAN: which one counts?
    let san = CustomExtension::from_oid_content(&[2, 5, 29, 17], b"\x30\x07\x82\x05admin".to_vec());
    let params = ops_but(|params| params.custom_extensions = vec![san]);
    assert!(world.admits(&world.ca.issue(&params)).is_err());
}

#[test]
fn g3_intermediates_count_as_far_as_they_may() {
    let world = World::new();
    let below = |authority: &Authority, params| {
        let mut issued = authority.issue(&params);
        issued.chain += &authority.cert.pem();
        issued
    };
    let middle = world.ca.under(authority("middle"));
    assert_eq!(world.admits(&below(&middle, leaf(&["ops"], &[CLIENT]))).unwrap().names, ["ops"]);
    let why = refusal(&world, &middle.issue(&leaf(&["ops"], &[CLIENT])));
    assert!(why.contains("authority that we do not know"), "without it in the chain: {why}");

    let not_an_authority = world.ca.under(leaf(&["ops"], &[CLIENT]));
    let why = refusal(&world, &below(&not_an_authority, leaf(&["admin"], &[CLIENT])));
    assert!(why.contains("EndEntityUsedAsCa"), "{why}");

    let mut params = authority("for ops only");
    let permitted_subtrees = vec![GeneralSubtree::DnsName("ops.example".to_owned())];
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
    let narrow = world.ca.under(params);
    assert!(world.admits(&below(&narrow, leaf(&["a.ops.example"], &[CLIENT]))).is_ok());
    let why = refusal(&world, &below(&narrow, leaf(&["admin.example"], &[CLIENT])));
    assert!(why.contains("NameConstraintViolation"), "{why}");
    let why = refusal(&world, &below(&narrow, leaf(&["*.example"], &[CLIENT])));
    assert!(why.contains("MalformedDnsIdentifier"), "a pattern that is wider: {why}");
}

#[test]
fn g3_long_chains_are_refused() {
    let world = World::new();
    let mut chain = String::new();
    let mut last = world.ca.under(authority("authority 1"));
    for n in 2..=100 {
        chain.insert_str(0, &last.cert.pem());
        last = last.under(authority(&format!("authority {n}")));
    }
    let mut client = last.issue(&leaf(&["ops"], &[CLIENT]));
    client.chain += &last.cert.pem();
    client.chain += &chain;
    let begin = clock::now_ms();
    let why = refusal(&world, &client);
    assert!(why.contains("authority that we do not know") || why.contains("MaximumPathDepth"), "{why}");
    assert!(clock::now_ms() - begin < 5000, "and not with much work");
}

/// What openssl makes and uses: keys that rustls has no part in.
fn openssl(world: &World, arguments: &str) {
    let done = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(world.dir.0.path())
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn g3_weak_rsa_keys_are_refused() {
    let world = World::new();
    world.dir.write("ca.key", &world.ca.issuer.key().serialize_pem());
    world
        .dir
        .write("ext", "subjectAltName=DNS:ops\nextendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n");
    for (bits, accepted) in [(1024, false), (2048, true)] {
        openssl(&world, &format!("req -newkey rsa:{bits} -nodes -keyout rsa.key -subj /CN=ops -out rsa.csr"));
        openssl(
            &world,
            "x509 -req -in rsa.csr -CA client-ca.pem -CAkey ca.key -days 2 -extfile ext -out rsa.pem",
        );
        // Its own security level would refuse the key before the server does.
        let arguments = ["-tls1_3", "-cert", "rsa.pem", "-key", "rsa.key", "-cipher", "DEFAULT@SECLEVEL=0"];
        match openssl_client(&world, &arguments).result.map(|peer| peer.names) {
            Ok(names) => assert!(accepted && names == ["ops"], "{bits}: {names:?}"),
            Err(why) => {
                assert!(!accepted && matches!(why, Refused::Unacceptable(_)), "{bits}: {why}");
                assert!(why.to_string().contains("ertificate"), "{why}");
            }
        }
    }
}

#[test]
fn servers_that_are_not_who_they_should_be_are_refused_in_words() {
    let world = World::new();
    let refusal = |config, name: &str| {
        let (_, client) = shake_hands(config, world.client(), name);
        client.map(drop).unwrap_err().message
    };
    let why = refusal(world.server(), "example.org");
    assert_eq!(
        why,
        "the certificate of the server is not for 'example.org' but for 'localhost', '127.0.0.1'"
    );
    let other = Authority::new("another");
    let files = world.dir.files("stranger", &other.issue(&leaf(&["localhost"], &[SERVER])), &world.ca);
    let config = crate::tls::material::server(&files).unwrap();
    let why = refusal(config, "localhost");
    assert_eq!(why, "the certificate of the server is from an authority that we do not know");
    let (server, client) = shake_hands(world.server(), world.client(), "127.0.0.1");
    assert!(server.is_ok() && client.is_ok(), "an address is a name, too");
}

#[test]
fn g2_no_certificate_is_refused() {
    let world = World::new();
    let mut config = (*unchecked(&world.client)).clone();
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    let (server, _client) = shake_hands(world.server(), Arc::new(config), "localhost");
    let why = server.map(|(_, peer)| peer).unwrap_err();
    assert_eq!(why, Refused::Unacceptable("the client has shown no certificate".to_owned()));
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

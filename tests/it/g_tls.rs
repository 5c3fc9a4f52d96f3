//! Who gets in, and who keeps others from it: versions, certificates, slow and many handshakes, files that
//! change, and a gateway without descriptors.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, Issuer, KeyIdMethod,
    KeyPair, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::h2::{
    END_HEADERS, Footprint, HEADERS, OK, PREFACE, Peer, expect_service, fields, frame, literals, login_of,
    message, path, tls,
};
use crate::harness::cli::{self, Output};
use crate::harness::gateway::{NAME, User};
use crate::harness::{Gateway, LATER, Options, Running, SOON, procfs, wait};

/// What the log says of those.
const REVOKED: &str = "the certificate of the client is revoked";
/// Whom a certificate is for.
const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;
const SERVER: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;

/// A certificate that the gateway's authority signs, and its key, as PEM.
fn issue(gateway: &Gateway, name: &str, usage: ExtendedKeyUsagePurpose, serial: u64) -> [String; 2] {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.extended_key_usages = vec![usage];
    params.serial_number = Some(SerialNumber::from(serial));
    let certificate = params.signed_by(&key, &issuer(gateway)).expect("it is signed");
    [certificate.pem(), key.serialize_pem()]
}

fn issuer(gateway: &Gateway) -> Issuer<'static, KeyPair> {
    let read = |name| fs::read_to_string(gateway.file(name)).expect("it is there");
    let key = KeyPair::from_pem(&read("ca.key")).expect("a key");
    Issuer::from_ca_cert_pem(&read("ca.pem"), key).expect("an authority")
}

/// What the authority has revoked, in the gateway's file.
fn revoke(gateway: &Gateway, serials: &[u64]) {
    let now = rcgen::date_time_ymd(2020, 1, 1);
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: now,
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: now,
        next_update: rcgen::date_time_ymd(2090, 1, 1),
        crl_number: SerialNumber::from(serials.len() as u64 + 1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = params.signed_by(&issuer(gateway)).and_then(|list| list.pem()).expect("it is signed");
    put(gateway, "crl.pem", &list);
}

/// A file in place of another, in one step.
fn put(gateway: &Gateway, name: &str, text: &str) {
    let (new, name) = (gateway.file("new"), gateway.file(name));
    fs::write(&new, text).expect("the directory is ours");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("it is ours");
    fs::rename(new, name).expect("the directory is ours");
}

/// A client that believes the gateway and shows this certificate.
fn config(gateway: &Gateway, identity: Option<&[String; 2]>, alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(gateway.file("ca.pem")).expect("it is PEM"))
        .expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some([chain, key]) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(|der| der.expect("it is PEM"));
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("it is PEM");
            builder.with_client_auth_cert(chain.collect(), key).expect("they belong together")
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Fails the test unless this client is refused, without a byte of HTTP/2, and the log says so.
#[track_caller]
fn expect_refused(gateway: &Gateway, config: Arc<ClientConfig>, why: &str) {
    let before = gateway.log().matches(why).count();
    if let Ok(mut peer) = Peer::silent(gateway.port(), config) {
        // Not by what it says: it has nothing to say.
        let frame = peer.next(SOON);
        assert!(frame.is_none(), "{why}: {frame:?}");
        assert!(peer.is_closed(), "{why}: it is still connected");
    }
    let said = wait::holds_within(SOON, || gateway.log().matches(why).count() > before);
    assert!(said, "no word of {why:?}\n{}", gateway.log());
}

/// What openssl has to say about a handshake.
fn openssl(gateway: &Gateway, options: &[&str]) -> Output {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{}", gateway.port()), "-alpn", "h2"]);
    command.args(["-CAfile", &gateway.file("ca.pem"), "-cert", &gateway.file("client.pem")]);
    command.args(["-key", &gateway.file("client.key")]).args(options);
    cli::run(command, LATER)
}

/// A Python program that may choose its own address: the loopback has many. Its arguments are the port and
/// the authority.
fn python(gateway: &Gateway, script: &str) -> Running {
    let mut command = Command::new("python3");
    command.args(["-c", script, &gateway.port().to_string(), &gateway.file("ca.pem")]);
    command.args([gateway.file("client.pem"), gateway.file("client.key")]);
    Running::new(command)
}

#[test]
fn g1_only_tls_1_3_and_three_suites() {
    let gateway = Gateway::start();
    for version in ["-tls1", "-tls1_1", "-tls1_2"] {
        let refused = openssl(&gateway, &[version, "-cipher", "DEFAULT@SECLEVEL=0"]);
        let said = format!("{}{}", refused.out(), refused.err());
        assert!(said.contains("SSL alert number "), "{version}: {refused:?}");
        assert!(said.contains("New, (NONE), Cipher is (NONE)"), "{version}: {refused:?}");
    }
    for suite in ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"] {
        let taken = openssl(&gateway, &["-tls1_3", "-ciphersuites", suite]);
        assert!(taken.out().contains(&format!("New, TLSv1.3, Cipher is {suite}")), "{taken:?}");
        assert!(taken.out().contains("ALPN protocol: h2"), "{taken:?}");
    }
    for suite in ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"] {
        let refused = openssl(&gateway, &["-tls1_3", "-ciphersuites", suite]);
        assert!(refused.err().contains("alert handshake failure"), "{suite}: {refused:?}");
    }
    gateway.until_said("does not speak TLS 1.3");
    expect_service(&gateway);
}

#[test]
fn g2_g3_g13_bad_certificates_and_protocols_are_refused() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    expect_refused(&gateway, config(&gateway, None, &["h2"]), "the client has shown no certificate");
    // What it says before it is refused goes nowhere.
    if let Ok(mut peer) = Peer::with(gateway.port(), config(&gateway, None, &["h2"])) {
        assert!(peer.next(SOON).is_none(), "HTTP/2 without a certificate");
    }
    let other = Gateway::start();
    let stranger = issue(&other, "client.provost", CLIENT, 7);
    expect_refused(
        &gateway,
        config(&gateway, Some(&stranger), &["h2"]),
        "refused: the certificate of the client",
    );
    let server = issue(&gateway, "client.provost", SERVER, 8);
    expect_refused(&gateway, config(&gateway, Some(&server), &["h2"]), "not made for this purpose");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["client.provost".to_owned()]).expect("a name");
    params.extended_key_usages = vec![CLIENT];
    let alone = params.self_signed(&key).expect("it is signed");
    let alone = [alone.pem(), key.serialize_pem()];
    expect_refused(
        &gateway,
        config(&gateway, Some(&alone), &["h2"]),
        "refused: the certificate of the client",
    );
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    let old = params.signed_by(&key, &issuer(&gateway)).expect("it is signed");
    let old = [old.pem(), key.serialize_pem()];
    expect_refused(&gateway, config(&gateway, Some(&old), &["h2"]), "has expired on 2001-01-01");
    let good = issue(&gateway, "client.provost", CLIENT, 9);
    for alpn in [&[][..], &["http/1.1"], &["h2c", "grpc"]] {
        expect_refused(&gateway, config(&gateway, Some(&good), alpn), "does not choose HTTP/2 (ALPN h2)");
    }
    let mut peer =
        Peer::with(gateway.port(), config(&gateway, Some(&good), &["http/1.1", "h2"])).expect("good");
    assert_eq!(peer.call("ServiceInfo", &login_of(User::Viewer), &[]).and_then(|a| a.status), Some(OK));
    drop(peer);
    before.expect_back(&gateway, 100);
}

#[test]
fn g4_a_revoked_certificate_ends_its_connections() {
    let gateway = Gateway::start();
    revoke(&gateway, &[]);
    let text = fs::read_to_string(gateway.file("provost.toml")).expect("it is there");
    let text = text.replace("ca = \"ca.pem\"\n", "ca = \"ca.pem\"\ncrl = \"crl.pem\"\n");
    put(&gateway, "provost.toml", &text);
    gateway.service().ok(&["reload"]);
    let [kept, lost] = [41, 42].map(|serial| issue(&gateway, "client.provost", CLIENT, serial));
    let connect = |identity| Peer::with(gateway.port(), config(&gateway, Some(identity), &["h2"]));
    let works = |peer: &mut Peer| {
        let answer = peer.call("ServiceInfo", &login_of(User::Viewer), &[]);
        assert_eq!(answer.and_then(|a| a.status), Some(OK), "{}", gateway.log());
    };
    let [mut kept_peer, mut lost_peer] =
        [&kept, &lost].map(|identity| connect(identity).expect("both are good"));
    works(&mut kept_peer);
    works(&mut lost_peer);
    revoke(&gateway, &[42]);
    gateway.service().ok(&["reload"]);
    wait::until("the revoked client is disconnected", SOON, || lost_peer.is_closed());
    gateway.until_said("ended 1 connections");
    expect_refused(&gateway, config(&gateway, Some(&lost), &["h2"]), REVOKED);
    works(&mut kept_peer);
    // A list that is none changes nothing.
    put(&gateway, "crl.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    let refused = gateway.service().cli(&["reload"]);
    assert!(refused.code != 0 && format!("{refused:?}").contains("malformed revocation list"), "{refused:?}");
    works(&mut kept_peer);
    works(&mut connect(&kept).expect("it is still good"));
    expect_refused(&gateway, config(&gateway, Some(&lost), &["h2"]), REVOKED);
}

/// The service reads the list where it is by default, and has it from now on.
fn begin_list(gateway: &Gateway, serials: &[u64]) {
    let text = fs::read_to_string(gateway.file("provost.toml")).expect("it is there");
    let text = text.replace("ca = \"ca.pem\"\n", "ca = \"ca.pem\"\ncertificates = \".\"\n");
    put(gateway, "provost.toml", &text);
    revoke(gateway, serials);
    gateway.service().ok(&["reload"]);
    gateway.until_said("reloaded certificates");
}

/// A client whose handshake is done on its side is held back while it is revoked.
#[test]
fn a_handshake_that_was_under_way_at_a_reload_is_judged_by_what_was_loaded() {
    let gateway = Gateway::start();
    let late = issue(&gateway, "client.provost", CLIENT, 77);
    let name = "localhost".try_into().expect("a name");
    let mut tls =
        rustls::ClientConnection::new(config(&gateway, Some(&late), &["h2"]), name).expect("good settings");
    let mut tcp = TcpStream::connect(("127.0.0.1", gateway.port())).expect("it listens");
    tcp.set_read_timeout(Some(SOON)).expect("a socket");
    tls.write_tls(&mut tcp).expect("it is taken");
    while tls.is_handshaking() {
        assert!(tls.read_tls(&mut tcp).expect("the server answers") > 0);
        tls.process_new_packets().expect("it is good");
    }
    begin_list(&gateway, &[77]);
    while tls.wants_write() {
        tls.write_tls(&mut tcp).expect("it is taken");
    }
    let mut plain = 0;
    while tls.read_tls(&mut tcp).is_ok_and(|n| n > 0) {
        plain += tls.process_new_packets().map_or(0, |state| state.plaintext_bytes_to_read());
    }
    assert_eq!(plain, 0, "it was served");
    gateway.until_said("would not be let in any more");
}

#[test]
fn a_list_that_vanishes_does_not_let_the_revoked_in() {
    let gateway = Gateway::start();
    let lost = issue(&gateway, "client.provost", CLIENT, 42);
    begin_list(&gateway, &[42]);
    fs::remove_file(gateway.file("crl.pem")).expect("it is there");
    gateway.service().cli(&["reload"]);
    gateway.until_said("there is no list of the revoked any more");
    expect_refused(&gateway, config(&gateway, Some(&lost), &["h2"]), REVOKED);
}

#[test]
fn a_connection_ends_with_its_certificate() {
    let gateway = Gateway::start();
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["client.provost".to_owned()]).expect("a name");
    params.extended_key_usages = vec![CLIENT];
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later");
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970 + Duration::from_secs(5);
    let certificate = params.signed_by(&key, &issuer(&gateway)).expect("it is signed");
    let identity = [certificate.pem(), key.serialize_pem()];
    let mut peer =
        Peer::with(gateway.port(), config(&gateway, Some(&identity), &["h2"])).expect("it is good");
    wait::until("its end ends the connection", SOON, || peer.is_closed());
    gateway.until_said("its certificate has expired");
    expect_service(&gateway);
}

/// 2,000 connections from eight addresses; each says one byte a second of what a handshake begins with.
const SLOW: &str = "
import os, resource, select, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
port, open_, begun = int(sys.argv[1]), [], 0
hello = bytes.fromhex('1603010200010001fc0303') + bytes(500)
print('begin', flush=True)
while begun < 2000:
    for _ in range(50):
        s = socket.socket()
        s.bind(('127.0.0.%d' % (2 + begun % 8), 0))
        s.settimeout(60)
        s.connect(('127.0.0.1', port))
        s.setblocking(False)
        open_.append([s, 0]); begun += 1
    time.sleep(0.1)
    for slot in list(open_):
        try:
            slot[0].send(hello[slot[1]:slot[1] + 1]); slot[1] += 1
            if slot[0].recv(1) == b'': raise OSError
        except BlockingIOError: pass
        except OSError: slot[0].close(); open_.remove(slot)
print('all begun', flush=True)
time.sleep(1)
";

#[test]
fn g8_slow_handshakes_keep_no_other_client_out() {
    let gateway = Gateway::with(Options::new(), "handshake = \"3s\"");
    let before = Footprint::of(&gateway);
    let mut old = Peer::new(&gateway);
    let login = login_of(User::Viewer);
    let crowd = python(&gateway, SLOW);
    crowd.line_with("begin", SOON);
    let (mut most, mut served, mut turned_away) = (0, 0, 0);
    while crowd.is_running() {
        assert_eq!(
            old.call("ServiceInfo", &login, &[]).and_then(|a| a.status),
            Some(OK),
            "{}",
            gateway.log()
        );
        // Somebody new has to try again where the door is crowded.
        match Peer::with(gateway.port(), tls(&gateway))
            .ok()
            .and_then(|mut p| p.call("ServiceInfo", &login, &[]))
        {
            Some(answer) => {
                assert_eq!(answer.status, Some(OK), "{answer:?}");
                served += 1;
            }
            None => turned_away += 1,
        }
        most = most.max(Footprint::now(before.pid).threads);
    }
    crowd.end(SOON).expect(0);
    println!("new clients meanwhile: {served} served, {turned_away} turned away; at most {most} threads");
    assert!(served > 0, "nobody new was served\n{}", gateway.log());
    assert!(most <= before.threads + 64 + 16, "{most} threads, before {before:?}");
    drop(old);
    before.expect_back(&gateway, 100);
}

/// Handshakes without a certificate from 127.0.0.2, then one with a good one from there and from 127.0.0.3.
/// One comes back every 200 ms: a good one that happened to get it comes again after more of the others.
const STORM: &str = "
import socket, ssl, sys
port, ca, cert, key = int(sys.argv[1]), *sys.argv[2:5]
def shake(source, good):
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    context.set_alpn_protocols(['h2'])
    if good: context.load_cert_chain(cert, key)
    try:
        s = socket.create_connection(('127.0.0.1', port), 10, (source, 0))
        t = context.wrap_socket(s)
    except OSError: return 'not let in'
    try: return 'served' if t.recv(9) else 'closed'
    except OSError: return 'refused'
    finally: t.close()
told = [shake('127.0.0.2', False) for _ in range(400)]
print({word: told.count(word) for word in set(told)}, flush=True)
for _ in range(50):
    while shake('127.0.0.2', False) != 'not let in': pass
    same = shake('127.0.0.2', True)
    if same == 'not let in': break
print('same:', same, 'other:', shake('127.0.0.3', True), flush=True)
";

#[test]
fn g9_a_storm_of_bad_handshakes_delays_no_other_client() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    let storm = python(&gateway, STORM);
    let (mut old, login, mut asked) = (Peer::new(&gateway), login_of(User::Viewer), 0);
    while storm.is_running() {
        assert_eq!(
            old.call("ServiceInfo", &login, &[]).and_then(|a| a.status),
            Some(OK),
            "{}",
            gateway.log()
        );
        asked += 1;
    }
    let ended = storm.end(SOON);
    let said = ended.expect(0).out();
    println!("{said}; {asked} calls answered meanwhile");
    assert!(said.contains("'not let in': ") && said.contains("'refused': "), "{ended:?}");
    assert!(said.contains("same: not let in other: served"), "{ended:?}");
    assert!(!said.contains("'served'"), "{ended:?}");
    drop(old);
    before.expect_back(&gateway, 100);
}

#[test]
fn g12_half_a_request_has_no_effect() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    let login = login_of(User::Admin);
    let path = path("Start");
    let block = literals(&[fields(&path), vec![("authorization", &login)]].concat());
    // Spec { command: ["sleep", "76002"] }, which would be a whole one if its last bytes had come, and
    // without them.
    let whole = message(b"\x0a\x0e\x0a\x05sleep\x0a\x0576002");
    for cut in [0, 1, 5, 8, whole.len() - 1, whole.len()] {
        let mut peer = Peer::new(&gateway);
        let bytes = [frame(HEADERS, END_HEADERS, 1, &block), frame(0, 0, 1, &whole[..cut])].concat();
        // Dropped without a goodbye of TLS.
        assert!(peer.send(&bytes));
    }
    before.expect_back(&gateway, 100);
    assert_eq!(gateway.service().list_json().len(), 0, "nothing was started");
    // The same with its end is a command.
    let mut peer = Peer::new(&gateway);
    assert_eq!(peer.call("Start", &login, &whole[5..]).and_then(|a| a.status), Some(OK));
    assert_eq!(gateway.service().list_json().len(), 1);
    gateway.service().ok(&["stop", "*"]);
}

#[test]
fn g14_one_listener_and_it_speaks_tls_only() {
    let gateway = Gateway::start();
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{}/fd", gateway.pid()))
        .expect("it runs")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|to| Some(to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let listeners = |file: &str, state: usize, is: &str, inode: usize| -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = lines
            .filter(|l| l.get(state) == Some(&is) && sockets.iter().any(|s| l.get(inode) == Some(&&**s)));
        ours.map(|l| l.join(" ")).collect()
    };
    let tcp = [listeners("tcp", 3, "0A", 9), listeners("tcp6", 3, "0A", 9)].concat();
    assert!(tcp.len() == 1 && tcp[0].contains(&format!(":{:04X} ", gateway.port())), "{tcp:?}");
    let unix = listeners("unix", 3, "00010000", 6);
    assert!(unix.iter().all(|line| line.ends_with("/grpc.sock")), "{unix:?}");
    for bytes in [PREFACE, b"GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"] {
        let mut tcp = TcpStream::connect(("127.0.0.1", gateway.port())).expect("it listens");
        tcp.set_read_timeout(Some(SOON)).expect("a time");
        tcp.write_all(bytes).expect("it is sent");
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer);
        // An alert of TLS, or nothing.
        assert!(answer.is_empty() || answer[0] == 0x15 && answer.len() <= 7, "{answer:?}");
    }
    expect_service(&gateway);
}

#[test]
fn g25_a_client_that_is_stopped_is_dropped() {
    let gateway = Gateway::with(Options::new(), "keepalive = \"1s\"");
    gateway.service().start(&["--name", "still", "--", "sleep", "76003"]);
    let before = Footprint::of(&gateway);
    let client = gateway.background(User::Admin, &["stream", "still"]);
    wait::until("it is connected", SOON, || Footprint::now(before.pid).threads >= before.threads + 2);
    client.signal("STOP");
    let mut now = before;
    let is_dropped = wait::holds_within(LATER, || {
        now = Footprint::now(before.pid);
        now.threads <= before.threads && now.fds <= before.fds
    });
    let fds = procfs::fds(before.pid);
    assert!(is_dropped, "before {before:?}, now {now:?}: {fds:?}\n{}", gateway.log());
    assert!(client.is_running(), "it is only stopped");
    client.signal("KILL");
    before.expect_back(&gateway, 100);
}

#[test]
fn g30_certificates_are_replaced_under_load() {
    let gateway = Gateway::start();
    let (mut old, login) = (Peer::new(&gateway), login_of(User::Viewer));
    let works = |peer: &mut Peer| {
        assert_eq!(
            peer.call("ServiceInfo", &login, &[]).and_then(|a| a.status),
            Some(OK),
            "{}",
            gateway.log()
        );
    };
    for serial in 100..105 {
        let [certificate, key] = issue(&gateway, "localhost", SERVER, serial);
        put(&gateway, "server.key", &key);
        put(&gateway, "server.pem", &certificate);
        let new = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("it is PEM");
        wait::until("new connections see the new certificate", SOON, || {
            works(&mut old);
            let mut peer = Peer::new(&gateway);
            works(&mut peer);
            peer.certificate() == new
        });
    }
    let good = Peer::new(&gateway).certificate();
    for (name, bad) in [("server.pem", "no certificate"), ("server.key", ""), ("ca.pem", "nobody")] {
        let before = gateway.log().matches("not reloaded, going on as before").count();
        let text = fs::read_to_string(gateway.file(name)).expect("it is there");
        put(&gateway, name, bad);
        wait::until("it says that it goes on", SOON, || {
            gateway.log().matches("not reloaded, going on as before").count() > before
        });
        put(&gateway, name, &text);
        let mut peer = Peer::new(&gateway);
        works(&mut peer);
        works(&mut old);
        assert_eq!(peer.certificate(), good);
    }
}

#[test]
fn g31_a_key_that_others_may_read_is_not_used() {
    let gateway = Gateway::start();
    gateway.service().start(&["--name", "web", "--", "sleep", "76004"]);
    let key = gateway.file("server.key");
    let chmod = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("it is ours");
    let expect_refusal = |why: &str| {
        let before = gateway.service().log().matches(why).count();
        procfs::signal("KILL", gateway.pid());
        let said = wait::holds_within(SOON, || gateway.service().log().matches(why).count() > before);
        assert!(said, "no word of {why:?}\n{}", gateway.service().log());
        assert!(TcpStream::connect(("127.0.0.1", gateway.port())).is_err(), "somebody listens");
        assert_eq!(gateway.service().state("web"), "running");
    };
    chmod(0o644);
    expect_refusal("others than its owner have access to it (mode 0644)");
    chmod(0o600);
    gateway.service().ok(&["restart", NAME]);
    wait::until("it is ready", SOON, || TcpStream::connect(("127.0.0.1", gateway.port())).is_ok());
    expect_service(&gateway);
    let given = Command::new("chown").args(["12345", &key]).status();
    if given.is_ok_and(|s| s.success()) {
        expect_refusal("server.key");
        Command::new("chown").args(["0", &key]).status().expect("it is installed");
    }
}

#[test]
fn g32_without_descriptors_it_waits_and_comes_back() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    let (mut old, login) = (Peer::new(&gateway), login_of(User::Viewer));
    assert_eq!(old.call("ServiceInfo", &login, &[]).and_then(|a| a.status), Some(OK));
    let limit = |count: &str| procfs::limit_descriptors(before.pid, count);
    let limits = fs::read_to_string(format!("/proc/{}/limits", before.pid)).expect("it runs");
    let usual = limits.lines().find(|l| l.starts_with("Max open files")).expect("it is there");
    let usual = usual.split_whitespace().nth(3).expect("the soft limit").to_owned();
    limit(&(Footprint::now(before.pid).fds + 1).to_string());
    let crowd: Vec<_> =
        (0..20).map(|_| TcpStream::connect(("127.0.0.1", gateway.port())).expect("it listens")).collect();
    gateway.until_said("cannot let connections in for a moment");
    let cpu = || {
        let text = fs::read_to_string(format!("/proc/{}/stat", before.pid)).expect("it runs");
        let fields: Vec<u64> =
            text.split_whitespace().skip(13).take(2).filter_map(|f| f.parse().ok()).collect();
        fields.iter().sum::<u64>()
    };
    let (begun, window) = (cpu(), Duration::from_secs(2));
    wait::pass(window);
    let ticks = cpu() - begun;
    println!("{ticks} ticks of the processor in {window:?} without descriptors");
    // A hundredth of a second each: a loop that spins has 200 of them.
    assert!(ticks < 50, "{ticks} ticks in {window:?}");
    assert_eq!(old.call("ServiceInfo", &login, &[]).and_then(|a| a.status), Some(OK), "who is in goes on");
    drop(crowd);
    limit(&usual);
    wait::until("somebody new is served", SOON, || {
        Peer::with(gateway.port(), tls(&gateway))
            .is_ok_and(|mut p| p.call("ServiceInfo", &login, &[]).is_some())
    });
    drop(old);
    before.expect_back(&gateway, 100);
}

//! Providers that prove who they are: with the certificates of their launch, with its token, or both; and
//! those that do not, or that are not what they say.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::g_clients::installed;
use crate::h_providers::Hosting;
use crate::harness::{LATER, Options, SOON, Scratch, cli, fixture, procfs, wait};

const BOTH: [&str; 2] = ["--tls", "--cookie"];
/// What no stranger may read.
const SECRET: &str = r#"{"password": "canary-of-the-launch"}"#;

fn here(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// The one in Python; `lie` is what it does instead of what it says.
fn python(hosting: &Hosting, lie: &str) -> String {
    let (proto, python) = (here("proto"), installed("python/bin/python3"));
    let script = here("tests/clients/tls_provider.py");
    let name = if lie.is_empty() { "python".to_owned() } else { lie.to_owned() };
    hosting.script(&name, &format!("LIE={lie} PROTO={proto} exec {python} {script}"));
    name
}

/// One that stands in for a provider, and the file that has every byte that came to it.
fn impostor(hosting: &Hosting, what: &str) -> (String, String) {
    let record = hosting.0.scratch().file(&format!("{what}.record"));
    let script = here("tests/fixtures/impostor.py");
    let keys = ["CERTIFICATE", "KEY"].map(|k| format!("{k}={}", hosting.0.scratch().file(k))).join(" ");
    hosting.script(what, &format!("{keys} exec python3 {script} {what} {record}"));
    (what.to_owned(), record)
}

fn start<'a>(alias: &'a str, binary: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["start", alias, "--binary", binary, "--config", SECRET], more].concat()
}

/// The process of a provider, as it is listed.
fn listed(hosting: &Hosting, alias: &str) -> serde_json::Value {
    let all = hosting.cli(&["list", "--json"]).json();
    all.into_iter().find(|p| p["alias"] == alias).expect("it is listed")
}

fn nothing_is_left(hosting: &Hosting, of: &str) {
    assert_eq!(hosting.running(of), [0; 0], "{of}");
    let left: Vec<_> = fs::read_dir(Path::new(hosting.0.socket()).parent().expect("it has one"))
        .expect("it is ours")
        .map(|entry| entry.expect("it is there").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("launch-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_provider_that_speaks_tls_is_hosted_and_answers_nobody_else() {
    let hosting = Hosting::start();
    for (alias, more) in [("tls", &BOTH[..1]), ("cookie", &BOTH[1..]), ("both", &BOTH[..])] {
        let rude = hosting.rude("fine");
        hosting.ok(&start(alias, &rude, more));
        assert_eq!(hosting.fetch(alias, &["inits"]), json!(1));
        assert_eq!(hosting.fetch(alias, &["password-length"]), json!("canary-of-the-launch".len()));
        let port = listed(&hosting, alias)["port"].as_u64().expect("it listens");
        let mut stranger = TcpStream::connect(("127.0.0.1", port as u16)).expect("it listens");
        stranger.set_read_timeout(Some(SOON)).expect("it is a socket");
        stranger.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("it takes bytes");
        let mut first = [0; 9];
        let is_http2 = stranger.read_exact(&mut first).is_ok() && first[3] == 4;
        assert_eq!(is_http2, alias == "cookie", "{alias}: {first:?}");
    }
    nothing_is_left(&hosting, "impostor");
    // Its end is like every other's.
    hosting.ok(&["stop", "tls"]);
    assert_eq!(hosting.state("tls"), "idle");
    assert_eq!(hosting.fetch("tls", &["inits"]), json!(1));
    // A definition without it is another one.
    let other = hosting.cli(&start("both", &hosting.rude("fine"), &["--tls"]));
    assert!(other.expect(6).err().contains("its TLS or cookie is another one"), "{other:?}");
}

#[test]
fn a_provider_in_python_speaks_tls_as_the_guide_says() {
    let hosting = Hosting::start();
    let binary = python(&hosting, "");
    for (alias, more) in [("none", &[][..]), ("tls", &BOTH[..1]), ("cookie", &BOTH[1..]), ("both", &BOTH)] {
        hosting.ok(&start(alias, &binary, more));
        assert_eq!(hosting.fetch(alias, &["database"]), json!({ "host": "db1", "port": 5432 }));
        assert_eq!(hosting.reason(4, &["fetch", alias, "nothing"]), "path_not_found");
        let pid = hosting.pid(alias);
        procfs::signal("KILL", pid);
        let again = wait::until_some("it was started again", SOON, || {
            let out = hosting.cli(&["fetch", alias, "pid", "--unwrap"]);
            (out.code == 0 && out.out().trim() != pid.to_string()).then(|| out.out().trim().to_owned())
        });
        assert_eq!(again, hosting.pid(alias).to_string());
    }
    hosting.ok(&["shutdown"]);
    nothing_is_left(&hosting, "tls_provider");
}

/// The names of the threads of a process.
fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| Some(fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned()))
        .collect()
}

/// The next host has what the last one knew of a launch, though the file is gone.
#[test]
fn h23_a_provider_with_tls_survives_the_death_of_the_host() {
    let hosting = Hosting::start();
    hosting.ok(&start("app", &hosting.rude("fine"), &BOTH));
    let pid = hosting.pid("app");
    for _ in 0..2 {
        procfs::signal("KILL", hosting.host_pid());
        let found = wait::until_some("the host answers", SOON, || {
            let out = hosting.cli(&["fetch", "app", "pid", "--unwrap"]);
            (out.code == 0).then(|| out.out().trim().to_owned())
        });
        assert_eq!((found, hosting.fetch("app", &["inits"])), (pid.to_string(), json!(1)));
    }
    assert_eq!(hosting.running("rude fine"), [pid]);
}

#[test]
fn a_connection_that_was_closed_for_want_of_use_is_made_again_with_both_proofs() {
    let hosting = Hosting::start();
    hosting.ok(&start("app", &hosting.rude("fine"), &BOTH));
    let host = hosting.host_pid();
    let has_pump = || threads(host).iter().any(|name| name == "tls");
    assert!(has_pump(), "{:?}", threads(host));
    wait::until("the connection is closed", LATER, || !has_pump());
    assert_eq!(hosting.fetch("app", &["inits"]), json!(1));
    assert!(has_pump());
}

#[test]
fn h4_what_is_asked_for_and_not_offered_is_refused_and_never_done_without() {
    let hosting = Hosting::start();
    let old =
        hosting.script("old", &format!("unset PROVIDER_TLS PROVIDER_COOKIE\nexec {} fine", fixture("rude")));
    let old = Path::new(&old).file_name().and_then(|name| name.to_str()).expect("it has one").to_owned();
    let silent = python(&hosting, "no-features");
    for binary in [&old, &silent] {
        for more in [&BOTH[..1], &BOTH[1..], &BOTH] {
            let failed = hosting.cli(&[&start("app", binary, more)[..], &["--json"]].concat());
            failed.expect(6);
            let error = &failed.json()[0]["error"];
            assert_eq!(error["reason"], "missing_feature", "{error}");
            let feature = more[0].trim_start_matches('-');
            let hint = error["hint"].as_str().expect("there is one");
            assert!(hint.contains(&format!("PROVIDER_FEATURES={feature}")), "{error}");
            nothing_is_left(&hosting, "rude fine");
            nothing_is_left(&hosting, "tls_provider");
        }
        // Without the wish for it they are hosted as ever, whatever they offer.
        hosting.ok(&start("app", binary, &[]));
        hosting.ok(&["shutdown"]);
    }
}

/// A certificate that no launch has made.
fn make_certificate(scratch: &Scratch) {
    let (certificate, key) = (scratch.file("CERTIFICATE"), scratch.file("KEY"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    openssl.args(["-subj", "/CN=launch", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]);
    openssl.args(["-out", &certificate, "-keyout", &key]);
    cli::run(openssl, LATER).expect(0);
}

/// The impostor is of the provider's own tree, so that the owner of the port tells nothing.
#[test]
fn h5_who_takes_the_port_of_a_provider_gets_nothing() {
    let hosting = Hosting::start();
    make_certificate(hosting.0.scratch());
    for what in ["listen", "certificate"] {
        let (binary, record) = impostor(&hosting, what);
        let timeouts = ["--tls", "--cookie", "--handshake-timeout", "2s"];
        let failed = hosting.cli(&start(what, &binary, &timeouts));
        failed.expect(if what == "listen" { 1 } else { 6 });
        assert!(failed.err().contains("proven"), "{failed:?}");
        let heard = fs::read(&record).unwrap_or_default();
        assert!(what != "listen" || heard.starts_with(&[0x16, 3]), "a ClientHello: {heard:?}");
        assert!(!heard.is_empty() && heard.len() < 2000, "{what}: {} bytes", heard.len());
        assert!(!String::from_utf8_lossy(&heard).contains("canary"), "{what}");
        nothing_is_left(&hosting, "impostor");
    }
}

#[test]
fn h5_a_wrong_cookie_or_none_or_plaintext_instead_of_tls_is_refused_before_init() {
    let hosting = Hosting::start();
    for (lie, more) in [("wrong-cookie", "--cookie"), ("no-proof", "--cookie"), ("plaintext", "--tls")] {
        let binary = python(&hosting, lie);
        let failed = hosting.cli(&[&start(lie, &binary, &[more])[..], &["-v"]].concat());
        assert!(failed.expect(6).err().contains("has not proven to be it"), "{failed:?}");
        assert!(!failed.err().contains("Init came"), "{failed:?}");
        nothing_is_left(&hosting, "tls_provider");
        // With the wish for the other alone it would have been hosted.
        let other = if more == "--tls" { "--cookie" } else { "--tls" };
        hosting.ok(&start(lie, &binary, &[other]));
        hosting.ok(&["shutdown"]);
    }
}

#[test]
fn h6_one_that_dies_before_it_has_proven_who_it_is_is_told_with_exit_and_last_words() {
    let hosting = Hosting::start();
    let (binary, _) = impostor(&hosting, "die");
    for more in [&BOTH[..1], &BOTH[1..]] {
        let failed = hosting.cli(&start("die", &binary, more));
        failed.expect(1);
        assert!(failed.err().contains("exit code 3; its standard error ends with: I was only"), "{failed:?}");
        assert!(failed.took < Duration::from_secs(10), "{failed:?}");
        nothing_is_left(&hosting, "impostor");
    }
}

/// A script that says whose its launch file is, and the path.
fn telling(path: &str) {
    let text = "#!/bin/sh\nf=$PROVIDER_LAUNCH_FILE\nstat -c '%u %a' \"$f\" \"${f%/*}\" >&2\necho \"$f\" >&2\n\
                test -r \"$f\" && echo readable >&2\nexit 3\n";
    fs::write(path, text).expect("it is ours");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

#[test]
fn the_launch_file_is_its_owners_alone_whatever_the_umask_and_gone_when_it_was_read() {
    let hosting = Hosting::of(Options::new().through(&["sh", "-c", "umask 0; exec \"$@\"", "sh"]).start());
    let outside = Scratch::new();
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = outside.file("telling");
    telling(&path);
    for (user, more) in [
        ("0", &[][..]),
        ("65534", &["--user", "nobody"]),
        ("65534", &["--user", "65534", "--group", "65534"]),
    ] {
        let failed = hosting.cli(&start("app", &path, &[&BOTH[..], &["--allow-external"], more].concat()));
        let said = failed.expect(1).err();
        let whose = format!("{user} 600 | {user} 700 | ");
        let rest = said.split_once(&whose).unwrap_or_else(|| panic!("{whose}: {said}")).1;
        let file = rest.split(" | ").next().expect("there is one");
        assert!(rest.contains("| readable"), "{said}");
        assert!(
            file.ends_with("/launch.json") && !Path::new(file).parent().expect("it has one").exists(),
            "{said}"
        );
    }
}

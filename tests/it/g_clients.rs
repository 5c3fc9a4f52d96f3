//! Clients that others wrote: `tests/clients` in Python and JavaScript, with the gRPC of each. What they
//! check is in them; here is which checks there are to be, so that none is left out unseen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::gateway::User;
use crate::harness::{Gateway, LATER, SOON, cli, fixture, wait};

/// In the order in which they are made.
const CHECKS: [&str; 46] = [
    "start_one",
    "start_count",
    "start_again",
    "start_of_nothing",
    "stop",
    "stop_with_a_signal",
    "restart",
    "remove",
    "update_and_definitions",
    "signal",
    "wait_for_states",
    "status_by_every_target",
    "list_all",
    "answers_by_pages",
    "output",
    "stream_both",
    "stream_from_offset",
    "env",
    "events_follow_and_resume",
    "history",
    "audit",
    "service",
    "health_of_the_store",
    "upgrade_needs_admin",
    "providers",
    "errors_have_details",
    "the_wrong_field_is_named",
    "deadline_ends_the_wait",
    "cancelled_stream_leaves_no_thread",
    "large_message_is_refused",
    "eight_streams",
    "fifty_calls",
    "wrong_password",
    "unknown_user",
    "no_credentials",
    "roles",
    "no_certificate",
    "other_authority",
    "expired_certificate",
    "tls_1_2",
    "health_check",
    "health_watch",
    "reflection_v1alpha",
    "reflection_v1",
    "keep_alive",
    "every_method",
];

/// A path in the repository.
fn here(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().expect("the path is text").to_owned()
}

/// Where tests/clients/install.sh puts the libraries.
pub fn installed(path: &str) -> String {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory");
    let path: PathBuf = target.join("clients").join(path);
    assert!(path.exists(), "{} is missing: run 'make test', which installs it", path.display());
    path.to_str().expect("the path is text").to_owned()
}

/// A certificate like the client's that ended yesterday, and one of another authority.
fn make_bad_certificates(gateway: &Gateway) {
    let file = |name: &str| gateway.file(name);
    let openssl = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(args);
        cli::run(command, SOON).expect(0);
    };
    let (key, request, expired) = (file("client.key"), file("expired.csr"), file("expired.pem"));
    let (name, usage) = ("subjectAltName=DNS:client.provost", "extendedKeyUsage=clientAuth");
    let subject = ["-subj", "/CN=expired", "-addext", name, "-addext", usage];
    openssl(&[&["req", "-new", "-key", &key, "-out", &request], &subject[..]].concat());
    let authority = ["-CA", &file("ca.pem"), "-CAkey", &file("ca.key"), "-set_serial", "7"];
    let yesterday = ["-copy_extensions", "copy", "-days", "-1", "-out", &expired];
    openssl(&[&["x509", "-req", "-in", &request], &authority[..], &yesterday[..]].concat());
    let other = file("other");
    gateway.service().ok(&["cert", "init", "--dir", &other]);
    let copies = [
        ("client.key", "expired.key"),
        ("other/client.pem", "other.pem"),
        ("other/client.key", "other.key"),
        ("other/ca.pem", "other-ca.pem"),
    ];
    for (from, to) in copies {
        fs::copy(file(from), file(to)).expect("the directory is ours");
    }
}

/// Runs a script against a service of its own.
fn every_check_is_ok(program: &str, script: &str) {
    let gateway = Gateway::start();
    make_bad_certificates(&gateway);
    let pid = gateway.pid();
    let users = User::ALL.map(|user| (user.role().to_owned(), json!([user.name(), user.password()])));
    let met = json!({
        "host": gateway.host(),
        "dir": gateway.dir(),
        "proto": here("proto"),
        "gateway_pid": pid,
        "provider": fixture("rude"),
        "libraries": installed("node/node_modules"),
        "users": serde_json::Map::from_iter(users),
    });
    let mut command = Command::new(program);
    command.args([&here(script), &met.to_string()]);
    let ended = cli::run(command, LATER);
    let said = ended.out();
    let (ok, other): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.starts_with("ok "));
    assert_eq!(other, Vec::<&str>::new(), "{ended:?}\n{}", gateway.log());
    assert_eq!(ok, CHECKS.map(|name| format!("ok {name}")), "all of them, and no others");
    ended.expect(0);
    assert_eq!(gateway.pid(), pid, "one gateway for all of it\n{}", gateway.log());
    for name in ["grpc-conn", "call"] {
        wait::until("the threads of its connections and calls are gone", SOON, || gateway.threads(name) == 0);
    }
    assert_eq!(gateway.service().list_json(), Vec::<Value>::new(), "each check removes what it made");
}

#[test]
fn grpcio_of_python() {
    every_check_is_ok(&installed("python/bin/python"), "tests/clients/python_client.py");
}

#[test]
fn grpc_js_of_node() {
    every_check_is_ok("node", "tests/clients/node_client.js");
}

//! The gateway has listeners and nothing else: its own user, no capability, no way to files. What it works
//! with comes from the engine, which knows it by the way that its connections come. And a reload that needs
//! another listener, which is another gateway's.

use std::fs;
use std::net::TcpStream;

use provost::wire::error::Code;
use provost::wire::request::Request;

use crate::h2::{OK, Peer, expect_service, login_of};
use crate::harness::gateway::{NAME, User};
use crate::harness::{Gateway, Options, SOON, Service, binary, free_port, procfs, wait};

/// A line of the process's status, as the kernel shows it.
#[track_caller]
fn status(pid: u32, key: &str) -> String {
    procfs::status_line(pid, key).expect("it runs")
}

#[track_caller]
fn expect_no_rights(pid: u32) {
    for key in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(pid, key).trim_start_matches('0'), "", "{key}");
    }
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    // It is the first to go where memory is short.
    let adj = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("it runs");
    assert!(adj.trim().parse::<i32>().expect("a number") >= 500, "{adj}");
}

/// Whether this test, and so its service, is root's.
fn is_root() -> bool {
    status(std::process::id(), "Uid").starts_with("0\t")
}

#[test]
fn it_has_no_rights_and_everything_works() {
    let gateway = Gateway::start();
    let pid = gateway.pid();
    expect_no_rights(pid);
    assert_eq!(!is_root(), status(pid, "Uid") == status(std::process::id(), "Uid"));
    let service = gateway.service();
    gateway
        .cli(User::Admin, &["start", "--name", "web", "--", "sh", "-c", "echo hello; exec sleep 76050"])
        .expect(0);
    let stream = gateway.background(User::Operator, &["stream", "--until-end", "--since", "start", "web"]);
    assert_eq!(stream.line(SOON).as_deref(), Some("hello"));
    // Under another engine, and as another gateway, too.
    service.kill_engine();
    assert_eq!(gateway.cli(User::Viewer, &["status", "web"]).code, 0);
    let pid = gateway.kill();
    expect_no_rights(pid);
    expect_service(&gateway);
    gateway.cli(User::Operator, &["stop", "web"]).expect(0);
}

#[test]
fn its_files_reach_it_at_every_reload_and_after_an_upgrade() {
    let gateway = Gateway::start();
    let bad = "cannot use the certificate";
    let (server, away) = (gateway.file("server.pem"), gateway.file("away"));
    fs::rename(&server, &away).expect("it is there");
    let said = gateway.service().cli(&["reload"]).expect(1).err();
    assert!(said.contains(bad) && said.contains("server.pem"), "{said}");
    // By itself, when there is something to read.
    let count = || gateway.log().matches(": reloaded certificates").count();
    let before = count();
    fs::rename(&away, &server).expect("it is there");
    wait::until("it is read again", SOON, || count() > before);
    let pid = gateway.pid();
    let new = gateway.file("provost-new");
    fs::copy(binary(), &new).expect("it can be copied");
    gateway.service().ok(&["upgrade", "--to", &new]);
    wait::until("it is the new program", SOON, || {
        let found = gateway.service().cli(&["status", NAME, "--json"]);
        let now = found.json().first().and_then(|g| g["pid"].as_u64()).unwrap_or_default();
        now != u64::from(pid) && Peer::with(gateway.port(), crate::h2::tls(&gateway)).is_ok()
    });
    expect_no_rights(gateway.pid());
    expect_service(&gateway);
    gateway.service().ok(&["reload"]);
}

#[test]
fn who_is_not_the_gateway_gets_nothing_of_it() {
    let gateway = Gateway::start();
    let mut client = gateway.service().client();
    for request in [Request::GrpcListener, Request::GatewaySetup { listens: false }] {
        let e = client.call(request).expect_err("root is not the gateway");
        assert_eq!(e.code, Code::Refused, "{e}");
    }
}

/// A service whose configuration the test writes, with certificates and users.
fn stage() -> (Gateway, String) {
    let gateway = Gateway::start();
    let config = fs::read_to_string(gateway.file("provost.toml")).expect("it is ours");
    (gateway, config)
}

fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn another_listener_is_another_gateway() {
    let (gateway, config) = stage();
    let configure = |text: &str| fs::write(gateway.file("provost.toml"), text).expect("it is ours");
    let reload = || gateway.service().cli(&["reload"]);
    let (old, new) = (gateway.port(), free_port());
    let pid = gateway.pid();
    let moved = config.replace(&format!(":{old}"), &format!(":{new}"));
    // One that could not begin is not begun, and the old one stays.
    let key = gateway.file("server.key");
    let hidden = format!("{key}.hidden");
    configure(&moved);
    fs::rename(&key, &hidden).expect("it is ours");
    assert!(reload().expect(2).err().contains("server.key"), "what is missing is named");
    fs::rename(&hidden, &key).expect("it is ours");
    assert!(is_open(old) && !is_open(new));
    assert_eq!(gateway.pid(), pid);
    // The gateway that there is does not take on what is for another one.
    gateway.service().ok(&["signal", "HUP", NAME]);
    gateway.until_said("not reloaded, going on as before: 'listen'");
    assert!(is_open(old) && !is_open(new));
    let said = reload().expect(0).out();
    assert!(said.starts_with("reloaded: the gateway has begun"), "{said}");
    assert!(!is_open(old) && is_open(new));
    assert_ne!(gateway.pid(), pid);
    // Twice is once.
    let pid = gateway.pid();
    assert!(reload().expect(0).out().starts_with("reloaded certificates"));
    assert_eq!(gateway.pid(), pid);
    // Users whose passwords everybody knows are not let in from anywhere else.
    let demo = moved.replace("users = \"users\"\n", "").replace("127.0.0.1", "0.0.0.0");
    configure(&format!(
        "{demo}\n[grpc.demo_users]\nalice = \"$argon2id$v=19$m=19456,t=2,p=1$JRqBsc+zp9xsSbFX6JvoSw$fW0SrsgE5rvvHXzNIUTZllMMtPokgdLKTONxuAGpd00\"\n"
    ));
    let said = reload().expect(2).err();
    assert!(said.contains("not reloaded") && said.contains("loopback"), "{said}");
    assert_eq!(gateway.pid(), pid);
    // It goes with its section, and comes back with it.
    configure("");
    assert!(reload().expect(0).out().starts_with("reloaded: the gateway has ended"));
    assert!(!is_open(new));
    assert!(reload().expect(0).out().starts_with("there is nothing to reload"));
    configure(&config);
    reload().expect(0);
    let answer = Peer::new(&gateway).call("ServiceInfo", &login_of(User::Viewer), &[]);
    assert_eq!(answer.and_then(|answer| answer.status), Some(OK));
    wait::until("its begin is told", SOON, || {
        gateway.service().log().matches(": gRPC is ready on").count() >= 3
    });
}

#[test]
fn without_a_section_the_gateway_of_this_machine_is_there_after_a_reload() {
    let (gateway, _) = stage();
    fs::write(gateway.file("provost.toml"), "").expect("it is ours");
    gateway.service().ok(&["reload"]);
    let socket = provost::client::grpc_socket(gateway.service().socket().as_ref()).expect("it is short");
    let _client = std::os::unix::net::UnixStream::connect(socket).expect("somebody listens");
    wait::until("it begins at the first connection", SOON, || {
        gateway.service().cli(&["status", NAME]).code == 0
    });
    let command = procfs::command(gateway.pid());
    assert!(command.ends_with("--local"), "{command}");
}

#[test]
fn a_service_without_a_configuration_has_nothing_to_reload() {
    let service = Options::new().start();
    let said = Service::ok(&service, &["reload"]);
    assert!(said.starts_with("there is nothing to reload"), "{said}");
}

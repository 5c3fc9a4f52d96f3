//! gRPC on the machine itself: over a unix socket, without certificate and password. The client is Python's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::g_clients::installed;
use crate::harness::{LATER, Options, Scratch, Service, cli, procfs};

const GATEWAY: &str = "provost.gateway";

fn socket(service: &Service) -> String {
    provost::client::grpc_socket(Path::new(service.socket())).expect("it is short").display().to_string()
}

/// List, Start, Stream, Stop, as any program on this machine would.
#[track_caller]
fn python_can_do_everything(service: &Service) {
    let here = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut command = Command::new(installed("python/bin/python"));
    command.arg(here("tests/clients/local_client.py")).arg(format!("unix://{}", socket(service)));
    command.arg(here("proto"));
    let ended = cli::run(command, LATER);
    assert_eq!(
        ended.out(),
        "ok list\nok start\nok stream\nok stop\nok audit",
        "{ended:?}\n{}",
        service.log()
    );
}

fn has_gateway(service: &Service) -> bool {
    service.cli(&["status", GATEWAY]).code == 0
}

#[test]
fn the_gateway_begins_at_the_first_connection_and_survives_every_death() {
    let service = Service::new();
    assert!(!has_gateway(&service), "nobody has connected");
    // The connection finds the socket of the next engine.
    service.kill_engine();
    assert!(!has_gateway(&service), "nobody has connected");
    python_can_do_everything(&service);
    assert!(has_gateway(&service));
    procfs::signal("KILL", service.pid(GATEWAY));
    python_can_do_everything(&service);
    service.kill_engine();
    python_can_do_everything(&service);
}

#[test]
fn another_user_is_refused() {
    const HELLO: &str = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.settimeout(20)\n\
                         s.connect(sys.argv[1])\ns.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0')\n\
                         print(len(s.recv(100)) > 0)";
    let service = Service::new();
    let socket = socket(&service);
    let mode = fs::metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "the mode keeps others out");
    // And when somebody has loosened it, the kernel's word does.
    for path in [Path::new(&socket), Path::new(&socket).parent().expect("it has one")] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("it is ours");
    }
    let ask = |wrap: &[&str]| {
        let mut command = Command::new("env");
        command.args(wrap).args(["/usr/bin/python3", "-c", HELLO, &socket]).current_dir("/");
        cli::run(command, LATER)
    };
    assert_eq!(ask(&[]).expect(0).out(), "True");
    let nobody = ask(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    assert_ne!(nobody.out(), "True", "{nobody:?}");
    let log = String::from_utf8_lossy(&service.output(GATEWAY)).into_owned();
    assert!(log.contains("uid 65534") && log.contains("refused"), "{log}");
}

#[test]
fn it_can_be_switched_off() {
    let files = Scratch::new();
    let config = files.file("provost.toml");
    fs::write(&config, "[local]\ngrpc = false\n").expect("the directory is ours");
    let service = Options::new().serve(&["--config", &config]).start();
    assert!(!Path::new(&socket(&service)).exists());
}

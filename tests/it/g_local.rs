//! gRPC on the machine itself: over a unix socket, without certificate and password. The client is Python's.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::g_clients::installed;
use crate::harness::{LATER, Options, Running, SOON, Scratch, Service, cli, fixture, procfs, wait};

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
    // Its log is written by a thread of its own.
    wait::until("it is told", SOON, || {
        let log = String::from_utf8_lossy(&service.output(GATEWAY)).into_owned();
        log.contains("uid 65534") && log.contains("refused")
    });
}

#[test]
fn every_method_is_called_by_a_tool_that_knows_nothing_but_the_address() {
    let service = Service::new();
    let here = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let protos = [
        include_str!("../../proto/provost/v1/process_service.proto"),
        include_str!("../../proto/provost/v1/provider_service.proto"),
        include_str!("../../proto/provost/v1/registry_service.proto"),
        include_str!("../../proto/provost/v1/module_service.proto"),
    ];
    let rpcs =
        protos.iter().flat_map(|proto| proto.lines()).filter_map(|line| line.trim().strip_prefix("rpc "));
    let mut methods: Vec<_> = rpcs.filter_map(|rpc| rpc.split('(').next()).collect();
    methods.sort_unstable();
    for reflection in ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"] {
        let mut command = Command::new(installed("python/bin/python"));
        command.arg(here("tests/clients/reflected_client.py"));
        command.args([&format!("unix://{}", socket(&service)), reflection, &fixture("rude")]);
        let ended = cli::run(command, LATER);
        let said = ended.out();
        let ok: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
        assert_eq!(ok, methods, "{ended:?}\n{}", service.log());
    }
}

/// A client of Python's that lists once when it is told to and says what came of it, until its input ends. It
/// keeps its channel.
fn asking(service: &Service) -> Asking {
    const ASK: &str = "import grpc, sys\nsys.path.insert(0, sys.argv[2])\n\
        api, services = grpc.protos_and_services('provost/v1/process_service.proto')\n\
        options = [('grpc.max_reconnect_backoff_ms', 200), ('grpc.initial_reconnect_backoff_ms', 100)]\n\
        stub = services.ProcessServiceStub(grpc.insecure_channel(sys.argv[1], options))\n\
        for line in sys.stdin:\n  try:\n\
        \x20   print(len(stub.List(api.ListRequest(), timeout=20, wait_for_ready=True).processes), flush=True)\n\
        \x20 except grpc.RpcError as e:\n    print(e.code().name, flush=True)";
    let mut child = Command::new(installed("python/bin/python"))
        .args(["-c", ASK, &format!("unix://{}", socket(service))])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("proto"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is installed");
    let said = BufReader::new(child.stdout.take().expect("it is a pipe"));
    Asking { child, said }
}

struct Asking {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Asking {
    fn list(&mut self) -> String {
        self.child.stdin.as_mut().expect("it is a pipe").write_all(b"list\n").expect("it reads");
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it says something");
        line.trim_end().to_owned()
    }

    /// Until the list has so many processes: a connection that broke meanwhile is made anew.
    #[track_caller]
    fn until_listed(&mut self, count: &str) {
        wait::until("the list is answered", LATER, || self.list() == count);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_channel_goes_on_with_the_service_that_follows_a_killed_one() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sleep", "76114"]);
    let mut client = asking(&service);
    assert_eq!(client.list(), "1");
    let gateway = service.pid(GATEWAY);
    // The gateway is nobody's child from here on, and accepts from a socket without a name.
    service.kill_at_once(&[]);
    assert!(Path::new(&socket(&service)).exists(), "it was killed: nobody has taken the socket away");
    service.serve_again();
    client.until_listed("1");
    wait::until("the gateway of before is gone", LATER, || !procfs::alive(gateway));
    client.until_listed("1");
    python_can_do_everything_beside(&service);
}

#[test]
fn an_upgrade_keeps_the_socket_and_calls_go_on() {
    let bin = Scratch::new();
    let copy = |to: &str| {
        let mut cp = Command::new("cp");
        cp.arg(crate::harness::binary()).arg(to);
        cli::run(cp, LATER).expect(0);
    };
    copy(&bin.file("provost"));
    // The harness's own binary comes as the first argument, and is passed over.
    let script = format!("shift; exec {} \"$@\"", bin.file("provost"));
    let service = Options::new().through(&["sh", "-c", &script, "sh"]).start();
    service.start(&["--name", "web", "--", "sleep", "76115"]);
    let pid = service.pid("web");
    let mut client = asking(&service);
    assert_eq!(client.list(), "1");
    let (inode, gateway) = (fs::metadata(socket(&service)).expect("it is there").ino(), service.pid(GATEWAY));
    copy(&bin.file("new"));
    fs::rename(bin.file("new"), bin.file("provost")).expect("the directory is ours");
    service.ok(&["upgrade"]);
    assert_eq!(fs::metadata(socket(&service)).expect("it is there").ino(), inode, "the same socket");
    wait::until("the gateway is of the new program", LATER, || {
        let now = service.cli(&["status", GATEWAY, "--json"]).json().pop();
        now.is_some_and(|now| now["pid"].as_u64().is_some_and(|pid| pid != u64::from(gateway)))
    });
    client.until_listed("1");
    assert_eq!(service.pid("web"), pid);
    python_can_do_everything_beside(&service);
}

/// As [`python_can_do_everything`], where `web` is there already.
#[track_caller]
fn python_can_do_everything_beside(service: &Service) {
    service.ok(&["remove", "--force", "web"]);
    python_can_do_everything(service);
}

#[test]
fn a_path_that_leaves_no_room_for_it_is_refused_in_clear_words() {
    let files = Scratch::new();
    let config = files.file("provost.toml");
    fs::write(&config, "[local]\ngrpc = false\n").expect("the directory is ours");
    let of_length = |len: usize| {
        let dir = files.file("");
        format!("{dir}{}", "s".repeat(len - dir.len()))
    };
    let serve = |socket: &str, more: &[&str]| {
        let mut command = Command::new(crate::harness::binary());
        command.args(["serve", "--state", "none", "--socket", socket]).args(more);
        Running::new(command)
    };
    let refused = serve(&of_length(103), &[]).end(LATER);
    let said = refused.expect(2).err();
    assert!(said.contains("has 103 bytes") && said.contains("at most 102 bytes"), "{said}");
    for (socket, more) in [(of_length(102), &[][..]), (of_length(107), &["--config", &config])] {
        let running = serve(&socket, more);
        wait::until("it serves", SOON, || running.stderr_text().contains("ready on"));
        assert_eq!(Path::new(&format!("{socket}.grpc")).exists(), more.is_empty());
        running.signal("TERM");
        running.end(LATER).expect(0);
    }
}

#[test]
fn it_can_be_switched_off() {
    let files = Scratch::new();
    let config = files.file("provost.toml");
    fs::write(&config, "[local]\ngrpc = false\n").expect("the directory is ours");
    let service = Options::new().serve(&["--config", &config]).start();
    assert!(!Path::new(&socket(&service)).exists());
}

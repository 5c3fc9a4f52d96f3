//! `[local.group_roles]`: members of groups of this machine, at each of the service's sockets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use provost::client::{grpc_socket, host_socket};

use crate::g_clients::installed;
use crate::harness::{
    LATER, Options, Output, Running, SOON, Scratch, Service, cli, open_binary, procfs, wait,
};

pub const VIEWERS: &str = "61001";
const OPERATORS: &str = "61002";
pub const ADMINS: &str = "61003";

/// A service whose groups have roles, and the files of others.
pub struct Stage {
    pub service: Service,
    files: Scratch,
    binary: String,
}

impl Stage {
    #[track_caller]
    pub fn new() -> Self {
        let files = Scratch::new();
        let binary = open_binary(&files);
        let config = files.file("provost.toml");
        let roles = format!("{VIEWERS} = 'viewer'\n{OPERATORS} = 'operator'\n{ADMINS} = 'admin'\n");
        fs::write(&config, format!("[local.group_roles]\n{roles}")).expect("the directory is ours");
        // The service makes the directory of the socket.
        let socket = files.file("run/engine.sock");
        let service = Options::new().at(&socket).serve(&["--config", &config]).start();
        Self { service, files, binary }
    }

    /// A command of somebody with this uid and these supplementary groups.
    pub fn command(&self, uid: u32, groups: &[&str], program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        let uid = uid.to_string();
        command.args(["--reuid", &uid, "--regid", "65534"]);
        match groups {
            [] => command.arg("--clear-groups"),
            groups => command.args(["--groups", &groups.join(",")]),
        };
        command
            .arg("--")
            .arg(program)
            .args(args)
            .current_dir("/")
            .env("PROVOST_SOCKET", self.service.socket());
        command
    }

    fn cli(&self, groups: &[&str], args: &[&str]) -> Output {
        cli::run(self.command(65534, groups, &self.binary, args), LATER)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode() & 0o7777
}

#[test]
fn members_may_what_their_group_may_and_nobody_else_comes_in() {
    let stage = Stage::new();
    let service = &stage.service;
    let socket = Path::new(service.socket());
    assert_eq!(mode(socket.parent().expect("it has one")), 0o755);
    assert_eq!(mode(socket), 0o666);
    service.start(&["--name", "web", "--", "sleep", "76112"]);
    for groups in [&[][..], &["61009"]] {
        let refused = stage.cli(groups, &["list"]);
        assert!(refused.expect(6).err().contains("in none of the groups"), "{refused:?}");
    }
    let (viewer, operator, admin) = (&[VIEWERS][..], &[VIEWERS, OPERATORS][..], &[ADMINS][..]);
    for groups in [viewer, operator, admin] {
        assert!(stage.cli(groups, &["list"]).expect(0).out().contains("web"));
        stage.cli(groups, &["status", "web"]).expect(0);
    }
    let refused = stage.cli(viewer, &["stop", "web"]);
    assert!(refused.expect(6).err().contains("viewer may not stop: that needs operator"), "{refused:?}");
    stage.cli(viewer, &["output", "web"]).expect(6);
    stage.cli(operator, &["start", "--name", "x", "--", "true"]).expect(6);
    stage.cli(operator, &["output", "web"]).expect(0);
    stage.cli(operator, &["restart", "web"]).expect(0);
    stage.cli(admin, &["start", "--name", "theirs", "--", "true"]).expect(0);
    assert_eq!(service.state("web"), "running");
    // Who asked is on record, and what was refused, too.
    let audit = service.ok(&["audit"]);
    for text in ["uid 65534", "restart web", "viewer may not stop", "operator may not start a new process"] {
        assert!(audit.contains(text), "{text}\n{audit}");
    }
    // Root is still whatever it was.
    service.ok(&["env", "set", "A=b"]);
    let keeps = stage.cli(operator, &["env"]);
    assert!(keeps.expect(6).err().contains("may not see the environment"), "{keeps:?}");
}

#[test]
fn members_ask_for_providers_as_their_group_may() {
    let stage = Stage::new();
    let (viewer, operator) = (&[VIEWERS][..], &[OPERATORS][..]);
    // Whoever may ask it something has the host run.
    stage.cli(viewer, &["provider", "info", "app"]).expect(4);
    stage.cli(viewer, &["provider", "list"]).expect(0);
    assert_eq!(mode(&host_socket(Path::new(stage.service.socket()))), 0o666);
    let start = ["provider", "start", "app", "--binary", "files"];
    let refused = stage.cli(operator, &start);
    assert!(refused.expect(6).err().contains("operator may not start a provider"), "{refused:?}");
    let refused = stage.cli(viewer, &["provider", "fetch", "app", "x"]);
    assert!(refused.expect(6).err().contains("viewer may not fetch"), "{refused:?}");
    stage.cli(operator, &["provider", "fetch", "app", "x"]).expect(4);
    let refused = stage.cli(&[], &["provider", "list"]);
    assert!(refused.expect(6).err().contains("may not use this service"), "{refused:?}");
}

#[test]
fn members_speak_grpc_as_their_group_may() {
    const ASK: &str = "import grpc, sys\nsys.path.insert(0, sys.argv[2])\n\
        api, services = grpc.protos_and_services('provost/v1/process_service.proto')\n\
        stub = services.ProcessServiceStub(grpc.insecure_channel('unix://' + sys.argv[1]))\n\
        def ask(method, request):\n  try:\n    method(request, timeout=20)\n    return 'OK'\n\
        \x20 except grpc.RpcError as e:\n    return e.code().name\n\
        print(ask(stub.List, api.ListRequest()), ask(stub.Stop, api.StopRequest(targets=['web'])), \
        ask(stub.Audit, api.AuditRequest()))";
    let stage = Stage::new();
    let service = &stage.service;
    service.start(&["--name", "web", "--", "sleep", "76113"]);
    let socket = grpc_socket(Path::new(service.socket())).expect("it is short");
    assert_eq!(mode(&socket), 0o666);
    // The libraries are in a directory of root's.
    let (python, proto) = (installed("python/bin/python"), concat!(env!("CARGO_MANIFEST_DIR"), "/proto"));
    let libraries = stage.files.file("libraries");
    let mut copy = Command::new("cp");
    let packages = Command::new(&python)
        .args(["-c", "import grpc, os; print(os.path.dirname(os.path.dirname(grpc.__file__)))"])
        .output()
        .expect("it is there");
    copy.arg("-r").arg(String::from_utf8_lossy(&packages.stdout).trim()).arg(&libraries);
    cli::run(copy, LATER).expect(0);
    let protos = stage.files.file("proto");
    let mut copy = Command::new("cp");
    copy.args(["-r", proto, &protos]);
    cli::run(copy, LATER).expect(0);
    let socket = socket.display().to_string();
    let ask = |groups: &[&str]| {
        let mut command = stage.command(65534, groups, "/usr/bin/python3", &["-c", ASK, &socket, &protos]);
        command.env("PYTHONPATH", &libraries).env("PYTHONDONTWRITEBYTECODE", "1");
        cli::run(command, LATER).expect(0).out()
    };
    assert_eq!(ask(&[VIEWERS]), "OK PERMISSION_DENIED PERMISSION_DENIED", "{}", service.log());
    assert_eq!(service.state("web"), "running");
    assert_eq!(ask(&[OPERATORS]), "OK OK PERMISSION_DENIED", "{}", service.log());
    assert_eq!(ask(&[ADMINS]), "OK OK OK", "{}", service.log());
    assert_eq!(ask(&["61009"]), "UNAVAILABLE UNAVAILABLE UNAVAILABLE", "{}", service.log());
}

#[test]
fn j9_a_member_has_a_share_of_the_connections() {
    let stage = Stage::new();
    stage.service.start(&["--name", "web", "--", "sleep", "76119"]);
    let ask = |uid, args: &[&str]| stage.command(uid, &[VIEWERS], &stage.binary, args);
    let waits: Vec<_> = (0..30).map(|_| Running::new(ask(61100, &["wait", "web"]))).collect();
    let running = || waits.iter().filter(|wait| wait.is_running()).count();
    wait::until("all but its share are refused", LATER, || running() <= 24);
    wait::pass(Duration::from_millis(300));
    assert_eq!(running(), 24);
    let refused = cli::run(ask(61100, &["list"]), LATER);
    assert!(refused.expect(6).err().contains("24 each"), "{refused:?}");
    // Another one has a share of its own, and root all the rest.
    cli::run(ask(61101, &["list"]), LATER).expect(0);
    stage.service.ok(&["stop", "web"]);
    let mut codes: Vec<_> = waits.into_iter().map(|wait| wait.end(LATER).code).collect();
    codes.sort_unstable();
    assert_eq!(codes.iter().filter(|code| **code == 125).count(), 6, "{codes:?}");
    cli::run(ask(61100, &["list"]), LATER).expect(0);
}

#[test]
fn without_groups_all_is_closed_and_a_closed_directory_is_told_of() {
    let files = Scratch::new();
    let socket = files.file("run/engine.sock");
    let service = Options::new().at(&socket).start();
    assert_eq!(mode(Path::new(&files.file("run"))), 0o750);
    assert_eq!(mode(Path::new(&socket)), 0o660);
    drop(service);
    // One that somebody has closed further than services do is not opened behind their back.
    fs::set_permissions(files.file("run"), PermissionsExt::from_mode(0o700)).expect("it is ours");
    let config = files.file("provost.toml");
    fs::write(&config, "[local.group_roles]\n61001 = 'viewer'\n").expect("the directory is ours");
    let serve = |config: &str| {
        let mut command = Command::new(crate::harness::binary());
        command.args(["serve", "--state", "none", "--socket", &socket, "--config", config]);
        cli::run(command, LATER)
    };
    let refused = serve(&config);
    assert!(refused.expect(6).err().contains("has mode 0700"), "{refused:?}");
    // Whoever writes this decides who comes in.
    fs::set_permissions(&config, PermissionsExt::from_mode(0o666)).expect("it is ours");
    fs::set_permissions(files.file("run"), PermissionsExt::from_mode(0o755)).expect("it is ours");
    let refused = serve(&config);
    assert!(refused.expect(6).err().contains("others can change"), "{refused:?}");
}

#[test]
fn a_group_that_is_gone_keeps_no_service_from_starting() {
    let files = Scratch::new();
    let config = files.file("provost.toml");
    let text = "[process.web]\ncommand = ['sleep', '76122']\n[local.group_roles]\nno-such-group = 'viewer'\n";
    fs::write(&config, text).expect("it is ours");
    let service = Options::new().serve(&["--config", &config]).start();
    let said = "[local.group_roles]: there is no group 'no-such-group': nobody has its role";
    service.until_said(said);
    wait::until("its processes run", SOON, || {
        service.list_json().iter().any(|p| p["name"] == "web" && p["state"] == "running")
    });
    for command in [&["config", "check", &config][..], &["reload"]] {
        assert!(service.cli(command).expect(0).err().contains(said), "{command:?}");
    }
}

/// What changes how a program is loaded has another program run in its name: who may not define one, sets it
/// nowhere.
#[test]
fn c11_variables_of_the_loader_are_only_for_who_defines_programs() {
    let stage = Stage::new();
    stage.service.start(&["--name", "web", "--env", "A=1", "--", "sleep", "76120"]);
    for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "BASH_ENV", "IFS", "PATH"] {
        let pair = format!("{name}=/tmp/x");
        for groups in [&[VIEWERS][..], &[OPERATORS]] {
            for args in [
                &["env", "set", &pair][..],
                &["update", "web", "--env", &pair],
                &["start", "--env", &pair, "--", "true"],
                &["run", "--env", &pair, "--", "true"],
            ] {
                let refused = stage.cli(groups, args);
                assert!(matches!(refused.code, 6 | 125), "{args:?}: {refused:?}");
                assert!(refused.err().contains("that needs admin"), "{args:?}: {refused:?}");
            }
        }
    }
    // By their restart it gets what it was defined with, and nothing of theirs.
    let mut restart = stage.command(65534, &[OPERATORS], &stage.binary, &["restart", "web"]);
    restart.env("LD_BIND_NOW", "1");
    cli::run(restart, LATER).expect(0);
    let environ = fs::read(format!("/proc/{}/environ", stage.service.pid("web"))).expect("it runs");
    let environ = String::from_utf8_lossy(&environ).into_owned();
    assert!(environ.contains("A=1") && !environ.contains("LD_BIND_NOW"), "{environ}");
    stage.cli(&[ADMINS], &["env", "set", "LD_BIND_NOW=1"]).expect(0);
    stage.service.ok(&["restart", "web"]);
    let environ = fs::read(format!("/proc/{}/environ", stage.service.pid("web"))).expect("it runs");
    assert!(String::from_utf8_lossy(&environ).contains("LD_BIND_NOW=1"));
}

/// A service of root runs what names no user as root: to define such a process takes an admin, and so does
/// to change whose it is.
#[test]
fn j5_only_who_may_define_programs_has_one_run_as_the_service() {
    let stage = Stage::new();
    let uid = |name: &str| {
        let pid = stage.service.pid(name);
        procfs::status_line(pid, "Uid").unwrap_or_else(|| panic!("{name} does not run"))
    };
    stage.service.start(&["--name", "web", "--user", "nobody", "--", "sleep", "76121"]);
    assert!(uid("web").starts_with("65534"), "{}", uid("web"));
    let define = [
        &["start", "--name", "mine", "--", "sleep", "76121"][..],
        &["start", "--name", "mine", "--user", "root", "--", "sleep", "76121"],
        &["run", "--", "true"],
        &["update", "web", "--user", "root"],
    ];
    for args in define {
        let refused = stage.cli(&[OPERATORS], args);
        assert!(refused.err().contains("that needs admin"), "{args:?}: {refused:?}");
    }
    stage.cli(&[OPERATORS], &["restart", "web"]).expect(0);
    assert!(uid("web").starts_with("65534"), "whose it is stays: {}", uid("web"));
    stage.cli(&[ADMINS], define[0]).expect(0);
    assert!(uid("mine").starts_with('0'), "{}", uid("mine"));
}

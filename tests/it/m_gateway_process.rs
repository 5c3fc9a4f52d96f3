//! The gateway as a process that the service keeps for itself: it comes and goes with the configuration,
//! outlives the engine, comes back when it dies, and is in nobody's way.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{LATER, Options, SOON, Scratch, Service, binary, procfs, wait};

const GATEWAY: &str = "provost.gateway";

/// A service with a gateway, and the files that this takes.
struct Stage {
    service: Service,
    port: u16,
    files: Scratch,
}

impl Stage {
    #[track_caller]
    fn new() -> Self {
        Self::with(&Options::new())
    }

    #[track_caller]
    fn with(options: &Options) -> Self {
        let files = Scratch::new();
        for name in ["ca.pem", "server.pem", "server.key"] {
            let fixture = format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"));
            fs::copy(fixture, files.file(name)).expect("it can be copied");
        }
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(files.file("server.key"), private).expect("it is ours");
        let free = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let config = files.file("provost.toml");
        fs::write(&config, grpc(port)).expect("the directory is ours");
        let service = options.clone().serve(&["--config", &config]).start();
        let stage = Self { service, port, files };
        stage.until_ready();
        stage
    }

    fn configure(&self, text: &str) {
        fs::write(self.files.file("provost.toml"), text).expect("the directory is ours");
    }

    #[track_caller]
    fn gateway(&self) -> Value {
        self.service.status_json(GATEWAY)
    }

    /// Its pid, once it lets clients in.
    #[track_caller]
    fn until_ready(&self) -> u64 {
        wait::until_some("the gateway is ready", LATER, || {
            let found = self.service.cli(&["status", GATEWAY, "--json"]);
            let gateway = found.json().pop().filter(|g| found.code == 0 && g["ready"] == true)?;
            TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            gateway["pid"].as_u64()
        })
    }
}

fn grpc(port: u16) -> String {
    format!(
        "[grpc]\nlisten = \"127.0.0.1:{port}\"\ncertificate = \"server.pem\"\nkey = \"server.key\"\nca = \"ca.pem\"\n\
         [grpc.demo_users]\ndemo = \"$argon2id$v=19$m=19456,t=2,p=1$JRqBsc+zp9xsSbFX6JvoSw$fW0SrsgE5rvvHXzNIUTZllMM\
         tPokgdLKTONxuAGpd00\"\n[grpc.user_roles]\ndemo = \"admin\"\n[grpc.certificate_roles]\nx = \"admin\"\n"
    )
}

#[test]
fn it_is_in_nobodys_way() {
    let stage = Stage::new();
    let service = &stage.service;
    service.start(&["--name", "web", "--", "sleep", "76000"]);
    let names = |args: &[&str]| -> Vec<String> {
        let listed = service.cli(args).expect(0).json();
        listed.iter().map(|p| p["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(&["list", "--json"]), ["web"]);
    assert_eq!(names(&["list", "*", "--json"]), ["web"]);
    assert_eq!(names(&["list", "--all", "--json"]), [GATEWAY, "web"]);
    assert_eq!(names(&["list", "--all", "provost.*", "--json"]), [GATEWAY]);
    assert_eq!(names(&["status", "*", "--json"]), ["web"]);
    let gateway = stage.gateway();
    assert_eq!(gateway["own"], true, "{gateway}");
    assert!(service.ok(&["version"]).contains("1 process, 1 running"));
    let pid = stage.until_ready();
    service.ok(&["stop", "*"]);
    service.ok(&["remove", "--force", "*"]);
    assert_eq!(stage.gateway()["pid"], pid);
    // It is not a client's to remove or to make, and is stopped and started by its name.
    let e = service.cli(&["remove", "--force", GATEWAY]).expect(6).err();
    assert!(e.contains("runs for itself"), "{e}");
    let e = service.cli(&["start", "--name", "provost.x", "--", "true"]).expect(6).err();
    assert!(e.contains("runs for itself"), "{e}");
    service.ok(&["stop", GATEWAY]);
    assert!(TcpStream::connect(("127.0.0.1", stage.port)).is_err());
    service.kill_engine();
    assert_eq!(stage.gateway()["state"], "stopped", "what a person stopped");
    service.ok(&["start", GATEWAY]);
    stage.until_ready();
    // Nothing of the environments of others comes to it.
    service.ok(&["env", "set", "LD_DEBUG=help"]);
    service.ok(&["restart", GATEWAY]);
    let pid = u32::try_from(stage.until_ready()).expect("a pid");
    assert_eq!(procfs::variable(pid, "LD_DEBUG"), None);
    assert_eq!(procfs::variable(pid, "HOME"), None);
}

#[test]
fn it_outlives_the_engine_and_comes_back_when_it_dies() {
    let stage = Stage::new();
    let pid = stage.until_ready();
    for _ in 0..3 {
        stage.service.kill_engine();
        assert_eq!((stage.until_ready(), &stage.gateway()["run"]), (pid, &Value::from(1)));
    }
    let child = stage.service.pid(&stage.service.start(&["--", "sleep", "76001"]));
    procfs::signal("ABRT", u32::try_from(pid).expect("a pid"));
    let took = wait::until("it is back", LATER, || {
        stage.gateway()["run"] == 2 && TcpStream::connect(("127.0.0.1", stage.port)).is_ok()
    });
    println!("g33: back after {took:?}");
    assert!(procfs::alive(child), "others do not notice");
    // Once for each run, whatever became of the engine meanwhile.
    let said = |text: &str| stage.service.log().matches(text).count();
    wait::until("both are told", SOON, || said("gRPC is ready on") >= 2 && said("ended (SIGABRT)") >= 1);
    assert_eq!((said("gRPC is ready on"), said("ended (SIGABRT)")), (2, 1), "{}", stage.service.log());
    // Its life is no part of what is kept: the next service begins with a new one.
    stage.service.end();
    assert!(TcpStream::connect(("127.0.0.1", stage.port)).is_err());
    let stage = stage;
    stage.service.serve_again();
    stage.until_ready();
    assert_eq!(stage.gateway()["run"], 1);
}

#[test]
fn it_follows_the_configuration() {
    let stage = Stage::new();
    let pid = stage.until_ready();
    // One that cannot be read is no reason to end anything.
    stage.configure("[grpc");
    stage.service.kill_engine();
    assert_eq!(stage.until_ready(), pid);
    stage.configure("");
    stage.service.kill_engine();
    wait::until("it is gone", SOON, || stage.service.cli(&["status", GATEWAY]).code == 4);
    assert!(TcpStream::connect(("127.0.0.1", stage.port)).is_err());
    assert_eq!(
        stage.service.ok(&["reload"]),
        "there is nothing to reload: the service's own settings are as they were, and it runs no gateway"
    );
    // What it cannot begin with is told, and tried again.
    stage.configure(&grpc(stage.port).replace("server.key", "nothing.key"));
    stage.service.kill_engine();
    stage.service.until_said("provost.gateway ended (exit code");
    stage.configure(&grpc(stage.port));
    stage.until_ready();
}

#[test]
fn reload_tells_what_came_of_it() {
    let stage = Stage::new();
    let said = stage.service.ok(&["reload"]);
    assert!(said.starts_with("reloaded"), "{said}");
    fs::rename(stage.files.file("server.key"), stage.files.file("away")).expect("it is there");
    let said = stage.service.cli(&["reload"]).expect(1).err();
    assert!(said.contains("not reloaded") && said.contains("server.key"), "{said}");
    fs::rename(stage.files.file("away"), stage.files.file("server.key")).expect("it is there");
    let said = stage.service.cli(&["reload", "--json"]).expect(0).json();
    assert_eq!(said[0]["reloaded"], true, "{said:?}");
}

#[test]
fn after_an_upgrade_it_is_the_new_program() {
    let stage = Stage::new();
    let pid = stage.until_ready();
    let new = stage.files.file("provost-new");
    fs::copy(binary(), &new).expect("it can be copied");
    stage.service.ok(&["upgrade", "--to", &new]);
    let inode = fs::metadata(&new).expect("it is there").ino();
    wait::until("the gateway is the new program", LATER, || {
        let now = stage.until_ready();
        now != pid && fs::metadata(format!("/proc/{now}/exe")).is_ok_and(|m| m.ino() == inode)
    });
    // Once.
    let now = stage.until_ready();
    stage.service.kill_engine();
    assert!(!wait::holds_within(Duration::from_millis(300), || stage.until_ready() != now));
}

/// They are done one after another, each is answered, and nobody notices.
#[test]
fn k2_a_thousand_reloads_at_once_change_nothing() {
    let stage = Stage::new();
    let web = stage.service.start(&["--", "sleep", "74001"]);
    let (gateway, pid) = (stage.until_ready(), stage.service.pid(&web));
    stage.service.client().reload().expect("it is as the configuration says");
    let before = stage.service.footprint();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = stage.service.client();
                for _ in 0..125 {
                    client.reload().expect("it is as the configuration says");
                }
            });
        }
    });
    assert_eq!((stage.until_ready(), stage.service.pid(&web)), (gateway, pid));
    stage.service.until_footprint(before);
    // Also while it is wrong half of the time.
    for n in 0..20 {
        let right = grpc(stage.port);
        stage.configure(if n % 2 == 0 { "[grpc" } else { &right });
        assert_eq!(stage.service.client().reload().is_ok(), n % 2 == 1, "{n}");
    }
    assert_eq!(stage.until_ready(), gateway);
}

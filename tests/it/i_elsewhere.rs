//! Providers that somebody else runs: met at an address, in plaintext on this machine and with certificates
//! elsewhere, and left alone when they are not wanted any more.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::{fs, thread};

use serde_json::json;

use crate::harness::cli::{self, Running};
use crate::harness::{Registry, SOON, Scratch, binary, fixture, procfs, wait};

/// A provider that no service runs.
pub struct Elsewhere {
    program: Running,
    pub port: u16,
}

impl Elsewhere {
    pub fn start(mode: &str) -> Self {
        Self::with(Command::new(fixture("rude")), &[mode])
    }

    fn with(mut command: Command, args: &[&str]) -> Self {
        command.args(args);
        let program = Running::new(command);
        let line = program.line_with("PROVIDER_PORT=", SOON);
        let port = line.trim().trim_start_matches("PROVIDER_PORT=").parse().expect("it is a port");
        Self { program, port }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn is_alive(&self) -> bool {
        self.program.is_running()
    }
}

/// A port that leads to another one, which can change, and counts its connections.
struct Forwarder {
    port: u16,
    to: Arc<AtomicU16>,
    made: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Forwarder {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let ours = listener.local_addr().expect("it listens").port();
        let (to, made, open) = (Arc::new(AtomicU16::new(port)), Arc::default(), Arc::default());
        let it = Self { port: ours, to, made, open };
        let (to, made, open) = (Arc::clone(&it.to), Arc::clone(&it.made), Arc::clone(&it.open));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to.load(Ordering::Relaxed))) else {
                    continue;
                };
                made.fetch_add(1, Ordering::Relaxed);
                open.fetch_add(1, Ordering::Relaxed);
                let open = Arc::clone(&open);
                let (mut from, mut back) =
                    (client.try_clone().expect("a copy"), server.try_clone().expect("a copy"));
                thread::spawn(move || {
                    let (mut client, mut server) = (client, server);
                    let answers = thread::spawn(move || {
                        let _ = io::copy(&mut back, &mut client);
                        let _ = client.shutdown(std::net::Shutdown::Both);
                    });
                    let _ = io::copy(&mut from, &mut server);
                    let _ = server.shutdown(std::net::Shutdown::Both);
                    let _ = answers.join();
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        it
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn fetched(registry: &Registry, name: &str, key: &str) -> String {
    registry.0.ok(&["provider", "fetch", name, key, "--unwrap"]).trim().to_owned()
}

#[test]
fn one_that_runs_elsewhere_is_met_initialised_once_and_left_alone() {
    let (registry, there) = (Registry::start(), Elsewhere::start("fine"));
    let config = ["--config", r#"{"password": "four"}"#];
    let out = registry.ok(&[&["register", "app", "--address", &there.address()], &config[..]].concat());
    assert!(out.starts_with(&format!("app: ready, remote of api, at {}", there.address())), "{out}");
    let entry = registry.entry("app");
    assert_eq!(
        (&entry["type"], &entry["address"], &entry["pid"]),
        (&json!("remote"), &json!(there.address()), &json!(null))
    );
    assert_eq!(fetched(&registry, "app", "password-length"), "4");
    // Nobody's death has it initialised again, and it is checked as any other one is.
    procfs::signal("KILL", registry.0.pid("provost.host"));
    wait::until("the next host answers", SOON, || registry.fetch("app").code == 0);
    registry.ok(&["stop", "app"]);
    assert_eq!(registry.status("app"), "stopped");
    registry.ok(&["replace", "app"]);
    registry.ok(&["dispose", "app"]);
    registry.ok(&["initialize", "app"]);
    assert!(registry.ok(&["health", "app"]).contains("health ok: fine"));
    assert_eq!(fetched(&registry, "app", "inits"), "1");
    registry.ok(&["unregister", "app"]);
    assert!(there.is_alive(), "it is not ours to end");
    // One that is not there leaves nothing.
    let gone = format!("127.0.0.1:{}", crate::harness::free_port());
    assert_eq!(registry.reason(1, &["register", "gone", "--address", &gone]), "registration_failed");
    assert_eq!(registry.ok(&["list"]), "");
}

#[test]
fn one_that_was_started_afresh_is_initialised_again_and_a_channel_is_given_back() {
    let registry = Registry::start();
    let first = Elsewhere::start("needs-init");
    let way = Forwarder::to(first.port);
    registry.ok(&["register", "app", "--address", &way.address(), "--config", "{}"]);
    assert_eq!(fetched(&registry, "app", "inits"), "1");
    // Whoever runs it has started it again, where it was.
    let second = Elsewhere::start("needs-init");
    way.to.store(second.port, Ordering::Relaxed);
    drop(first);
    assert_eq!(fetched(&registry, "app", "inits"), "1");
    let pid = second.program.pid().to_string();
    assert_eq!(fetched(&registry, "app", "pid"), pid);
    wait::until("the channel is given back", SOON, || way.open.load(Ordering::Relaxed) == 0);
    // A check opens one of its own, and does not keep it.
    let before = way.made.load(Ordering::Relaxed);
    registry.ok(&["monitor", "start", "app", "--interval", "200ms"]);
    wait::until("it is checked", SOON, || way.made.load(Ordering::Relaxed) > before + 3);
    assert!(way.open.load(Ordering::Relaxed) <= 1);
    // One that is gone is told, and refused in the end; nothing is started in its place.
    drop(second);
    wait::until("its breaker opens", SOON, || registry.entry("app")["breaker"]["state"] == "open");
    assert_eq!(registry.fetch_reason(6, "app"), "circuit_open");
    assert!(registry.kinds("app").contains(&"circuit-breaker-opened".to_owned()));
}

/// Nobody else would look after it: it would stay open, and be taken for one in use by the next check.
#[test]
fn a_check_that_fails_leaves_no_channel_open() {
    let scratch = Scratch::new();
    let registry = Registry::configured(
        &scratch,
        "[registry.health]\ncheck_interval = '200ms'\ntimeout = '100ms'\n\
         [registry.circuit_breaker]\nfailure_threshold = 1000\n",
    );
    let state = scratch.file("state");
    let there = Elsewhere::with(Command::new(fixture("rude")), &["by-file", &state]);
    let way = Forwarder::to(there.port);
    registry.ok(&["register", "app", "--address", &way.address()]);
    wait::until("that of the registration is given back", SOON, || way.open.load(Ordering::Relaxed) == 0);
    fs::write(&state, "hang").expect("it is ours");
    wait::until("it does not answer", SOON, || registry.status("app") == "degraded");
    let before = way.made.load(Ordering::Relaxed);
    wait::until("each check has its own", SOON, || way.made.load(Ordering::Relaxed) > before + 3);
    registry.ok(&["monitor", "stop", "app"]);
    wait::until("the last one is given back", SOON, || way.open.load(Ordering::Relaxed) == 0);
}

/// Certificates for both ends.
fn certificates(scratch: &Scratch, directory: &str) -> String {
    let directory = scratch.file(directory);
    let mut command = Command::new(binary());
    command.args(["cert", "init", "--dir", &directory]);
    cli::run(command, SOON).expect(0);
    directory
}

/// A provider that speaks TLS with these certificates.
fn secret(scratch: &Scratch, directory: &str) -> Elsewhere {
    let text = |name: &str| fs::read_to_string(format!("{directory}/{name}")).expect("it was made");
    let launch = json!({
        "certificate": text("server.pem"), "private_key": text("server.key"), "authority": text("ca.pem"),
        "cookie": "",
    });
    let path = scratch.file("launch.json");
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).expect("it is ours");
    serde_json::to_writer(file, &launch).expect("it is written");
    let mut command = Command::new(fixture("rude"));
    command.env("PROVIDER_TLS", "1").env("PROVIDER_LAUNCH_FILE", path);
    Elsewhere::with(command, &["fine"])
}

#[test]
fn elsewhere_both_ends_prove_who_they_are() {
    let scratch = Scratch::new();
    let registry = Registry::start();
    let (ours, others) = (certificates(&scratch, "ours"), certificates(&scratch, "others"));
    let there = secret(&scratch, &ours);
    let register = |name: &str, certificate: &str, ca: &str, address: &str| {
        let (cert, key) = (format!("{certificate}/client.pem"), format!("{certificate}/client.key"));
        let ca = format!("{ca}/ca.pem");
        let files = ["--client-cert", &cert, "--client-key", &key, "--client-ca", &ca];
        registry.cli(&[&["register", name, "--address", address], &files[..], &["--json"]].concat())
    };
    let reason = |out: &cli::Output| out.json()[0]["error"]["reason"].as_str().unwrap_or("").to_owned();
    register("app", &ours, &ours, &there.address()).expect(0);
    registry.fetch("app").expect(0);
    // By its name, as the certificate has it.
    register("local", &ours, &ours, &format!("localhost:{}", there.port)).expect(0);
    // Whoever is of another authority, at either end, is not spoken to.
    let message = |out: &cli::Output| out.json()[0]["error"]["message"].as_str().unwrap_or("").to_owned();
    let stranger = register("stranger", &ours, &others, &there.address());
    assert!(message(stranger.expect(6)).contains("has not proven to be it"), "{stranger:?}");
    assert_ne!(register("us", &others, &ours, &there.address()).code, 0, "it does not let us in");
    // Nor is plaintext spoken with it, or over a network.
    registry.cli(&["register", "plain", "--address", &there.address()]).expect(1);
    registry.cli(&["register", "far", "--address", "192.0.2.7:4000"]).expect(2);
    // A key that others can read is none.
    let open = format!("{others}/client.key");
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("it is ours");
    let refused = register("open", &others, &ours, &there.address());
    refused.expect(2);
    assert!(!reason(&refused).is_empty());
    // A new certificate is good from the next channel on, and none is kept.
    let names = registry.ok(&["names"]);
    assert_eq!(names.lines().collect::<Vec<_>>(), ["app", "local"]);
}

#[test]
fn a_name_is_looked_up_by_a_program_of_its_own() {
    let (registry, there) = (Registry::start(), Elsewhere::start("fine"));
    // As the configuration of this machine says, not a name service.
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let names = |ip: &str| {
        let line = hosts.lines().find(|line| line.split_whitespace().next() == Some(ip));
        let mut names = line.map(|line| line.split_whitespace().skip(1)).into_iter().flatten();
        names.find(|name| *name != "localhost").map(str::to_owned)
    };
    let unknown = format!("nowhere.invalid:{}", there.port);
    let out = registry.cli(&["register", "unknown", "--address", &unknown]);
    out.expect(1);
    assert!(out.err().contains("nowhere.invalid cannot be looked up"), "{out:?}");
    if let Some(name) = names("127.0.0.1") {
        registry.ok(&["register", "named", "--address", &format!("{name}:{}", there.port)]);
        registry.fetch("named").expect(0);
    }
    // A name of another address than this machine's own needs certificates.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("it has a name");
    let host = host.trim();
    let is_listed = hosts
        .lines()
        .any(|l| l.split_whitespace().skip(1).any(|name| name == host) && !l.starts_with("127."));
    if is_listed {
        let out = registry.cli(&["register", "far", "--address", &format!("{host}:{}", there.port)]);
        assert!(out.expect(2).err().contains("is not this machine"), "{out:?}");
    }
    let left: Vec<_> =
        procfs::with_command("lookup").into_iter().filter(|&p| registry.0.is_marked(p)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn one_of_the_configuration_is_met_with_the_service_or_when_it_is_asked() {
    let (scratch, there) = (Scratch::new(), Elsewhere::start("fine"));
    let one = |name: &str, more: &str| {
        let address = there.address();
        format!("[providers.{name}]\ntype = 'remote'\naddress = '{address}'\nconfig = {{ n = 1 }}\n{more}")
    };
    let text = one("app", "lazy = true\n") + &one("eager", "");
    let registry = Registry::configured(&scratch, &text);
    // The other one is there with the service, though nobody has asked for it.
    let is_said = || registry.ok(&["events"]).contains("provider-started");
    wait::until("it is initialised", SOON, is_said);
    assert_eq!(registry.status("eager"), "ready");
    let entry = registry.entry("app");
    assert_eq!(
        (&entry["type"], &entry["source"], &entry["status"]),
        (&json!("remote"), &json!("config"), &json!("idle"))
    );
    // One provider is behind both.
    assert_eq!(fetched(&registry, "app", "inits"), "2");
    assert_eq!(registry.status("app"), "ready");
    // A person has the last word, also with the next host.
    registry.ok(&["stop", "eager"]);
    let host = registry.0.pid("provost.host");
    procfs::signal("KILL", host);
    wait::until("the host is gone", SOON, || !procfs::alive(host));
    wait::until("the next host answers", SOON, || registry.cli(&["has", "eager"]).code == 0);
    assert_eq!(registry.status("eager"), "stopped");
}

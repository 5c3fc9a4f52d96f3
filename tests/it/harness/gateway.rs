//! A service with a gateway: certificates made by `provost cert init`, three users made by `provost user
//! add`, a port of its own on the loopback.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::cli::{self, Output, Running, code_of};
use crate::harness::{LATER, Options, SOON, Scratch, Service, binary, free_port, procfs, wait};

/// The name in the client's certificate, which is an admin's.
pub const CLIENT: &str = "client.provost";
/// What the engine calls the gateway.
pub const NAME: &str = "provost.gateway";

/// The users, one of each role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// alice
    Admin,
    /// olga
    Operator,
    /// vera
    Viewer,
}

impl User {
    pub const ALL: [Self; 3] = [Self::Admin, Self::Operator, Self::Viewer];

    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "alice",
            Self::Operator => "olga",
            Self::Viewer => "vera",
        }
    }

    /// The right one.
    pub fn password(self) -> &'static str {
        match self {
            Self::Admin => "alice: in wonderland",
            Self::Operator => "olga's password",
            Self::Viewer => "vera & ä password",
        }
    }

    /// Its role, in the configuration's words.
    pub fn role(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
        }
    }
}

/// The service and its gateway, which is ready.
pub struct Gateway {
    // Ends before its files are removed.
    service: Service,
    port: u16,
    files: Scratch,
}

impl Gateway {
    /// As by default.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(Options::new(), "")
    }

    /// With more lines below `[grpc.limits]`.
    #[track_caller]
    pub fn with(options: Options, limits: &str) -> Self {
        let files = Scratch::new();
        let dir = files.path().to_str().expect("the path is text").to_owned();
        local(&["cert", "init", "--dir", &dir], "");
        for user in User::ALL {
            let users = files.file("users");
            local(&["user", "add", user.name(), "--users", &users], &format!("{}\n", user.password()));
        }
        let port = free_port();
        let config = files.file("provost.toml");
        fs::write(&config, configuration(port, limits)).expect("the directory is ours");
        let service = options.serve(&["--config", &config]).start();
        let gateway = Self { service, port, files };
        gateway.until_ready(1);
        gateway
    }

    /// The service behind it.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Starts the service again, which the test has ended, and waits until its gateway is ready.
    #[track_caller]
    pub fn serve_again(&mut self) {
        self.service.serve_again();
        self.until_ready(1);
    }

    /// Its port of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it is, as in the server's certificate.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The directory of its files, where the test may keep its own.
    pub fn dir(&self) -> &str {
        self.files.path().to_str().expect("the path is text")
    }

    /// The path of a file: `ca.pem`, `client.pem`, `client.key`, `server.pem`, `server.key`, `ca.key`,
    /// `users`, `provost.toml`, or one of the test's own.
    pub fn file(&self, name: &str) -> String {
        self.files.file(name)
    }

    /// The process.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.service.pid(NAME)
    }

    /// How many threads of this name it has.
    #[track_caller]
    pub fn threads(&self, name: &str) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|comm| comm.trim_end() == name).count()
    }

    /// Those of its threads with this name that wait for something: a call's has begun then what it is for.
    pub fn threads_that_wait(&self, name: &str) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let waiting = format!("({name}) S ");
        let stats = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
        stats.filter(|stat| stat.contains(&waiting)).count()
    }

    /// What it has said: its log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.service.output(NAME)).into_owned()
    }

    /// Waits until it has said this.
    #[track_caller]
    pub fn until_said(&self, what: &str) {
        let said = wait::holds_within(SOON, || self.log().contains(what));
        assert!(said, "no word of {what:?}\n{}", self.log());
    }

    /// Waits until it has been ready so many times: a killed one is started again.
    #[track_caller]
    pub fn until_ready(&self, times: usize) {
        let mut log = String::new();
        let ready = wait::holds_within(SOON, || {
            // The engine begins the gateway when it already answers.
            let output = self.service.cli(&["output", NAME]);
            log = if output.code == 0 { output.out() } else { output.err() };
            log.matches("gRPC is ready on ").count() >= times
        });
        assert!(ready, "the gateway is not ready\n{log}\n{}", self.service.log());
    }

    /// Kills it with SIGKILL, and waits until another one is ready. Returns the new one's pid.
    #[track_caller]
    pub fn kill(&self) -> u32 {
        let times = self.log().matches("gRPC is ready on ").count();
        procfs::signal("KILL", self.pid());
        self.until_ready(times + 1);
        self.pid()
    }

    /// A command for this service through the gateway, to be run in any way.
    pub fn command(&self, user: User, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(["--host", &self.host(), "--ca", &self.file("ca.pem")]);
        command.args(["--cert", &self.file("client.pem"), "--key", &self.file("client.key")]);
        command.args(["--user", user.name()]).args(args);
        command.env("PROVOST_PASSWORD", user.password()).env_remove("PROVOST_SOCKET");
        command
    }

    /// Runs a command through the gateway to its end, however it ends.
    #[track_caller]
    pub fn cli(&self, user: User, args: &[&str]) -> Output {
        cli::run(self.command(user, args), LATER)
    }

    /// Starts a command through the gateway in the background.
    #[track_caller]
    pub fn background(&self, user: User, args: &[&str]) -> Running {
        Running::new(self.command(user, args))
    }
}

/// The gateway of a service of root's runs as a user that every system has.
fn configuration(port: u16, limits: &str) -> String {
    let users = User::ALL.map(|user| format!("{} = \"{}\"\n", user.name(), user.role())).concat();
    format!(
        "[grpc]\nlisten = \"127.0.0.1:{port}\"\ncertificate = \"server.pem\"\nkey = \"server.key\"\nca = \"ca.pem\"\n\
         users = \"users\"\nuser = \"daemon\"\n\n[grpc.certificate_roles]\n\"{CLIENT}\" = \"admin\"\n\n[grpc.user_roles]\n{users}\n\
         [grpc.limits]\n{limits}\n"
    )
}

/// Runs a command that needs no service, with this on standard input. It must succeed.
#[track_caller]
fn local(args: &[&str], input: &str) {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary is there");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads all of it");
    let ended = child.wait_with_output().expect("it is our child");
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(code_of(ended.status), 0, "provost {}\n{error}", args.join(" "));
}

//! Every example of the command line is run, as it stands in the help, the manual and the reference: only its
//! paths and ports are those of the test.

use std::fs;
use std::process::Command;

use crate::harness::{LATER, Options, Running, SOON, Scratch, Service, binary, cli, free_port};

/// What other documents have examples of, with all that they need, and tests of their own.
const ELSEWHERE: [&str; 3] = ["provider", "registry", "module"];

/// The lines under "Examples:" of every command.
fn examples() -> Vec<(String, String)> {
    let help = |args: &[&str]| {
        let mut command = Command::new(binary());
        cli::run(command_args(&mut command, args), SOON).expect(0).out()
    };
    let overview = help(&["help"]);
    let commands = overview.lines().skip_while(|l| !l.starts_with("  ")).take_while(|l| l.starts_with("  "));
    let mut all = Vec::new();
    for name in commands.filter_map(|line| line.split_whitespace().next()) {
        let text = help(&["help", name]);
        let (_, lines) = text.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{name} has no example"));
        all.extend(lines.lines().map(|line| (name.to_owned(), line.trim().to_owned())));
    }
    all
}

fn command_args(command: &mut Command, args: &[&str]) -> Command {
    command.args(args);
    std::mem::replace(command, Command::new("true"))
}

struct Place {
    service: Service,
    files: Scratch,
    config: String,
}

impl Place {
    fn new() -> Self {
        let files = Scratch::new();
        let config = files.file("provost.toml");
        fs::write(&config, "[process.declared]\ncommand = [\"sleep\", \"85001\"]\n").expect("it is ours");
        fs::write(files.file("Procfile"), "web: sleep 85002\n").expect("it is ours");
        fs::write(files.file("supervisord.conf"), "[program:x]\ncommand=sleep 85003\n").expect("it is ours");
        let service = Options::new().without_cgroups().serve(&["--config", &config]).start();
        Self { service, files, config }
    }

    /// The line with this test's paths and ports, for a shell.
    fn line(&self, example: &str) -> String {
        let port = free_port().to_string();
        let own = [
            ("/etc/provost/provost.toml", self.config.clone()),
            ("/etc/supervisor/supervisord.conf", self.files.file("supervisord.conf")),
            ("/var/lib/provost", self.files.file("other.state")),
            ("/usr/local/bin/provost", binary().display().to_string()),
            ("8000", port.clone()),
            ("8001", port),
            // Or else it takes until the processes end.
            ("sleep 1000", "sleep 85004".to_owned()),
        ];
        own.iter().fold(example.to_owned(), |line, (there, here)| line.replace(there, here))
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = binary().parent().expect("it is in a directory").display();
        command.args(["-c", line]).current_dir(self.files.path());
        command.env("PATH", format!("{bin}:{path}")).env("PROVOST_SOCKET", self.service.socket());
        command
    }

    /// What examples are about: `web` and three workers.
    fn set_up(&self, command: &str) {
        self.service.cli(&["remove", "--force", "*"]);
        if command == "start" {
            return;
        }
        self.service.start(&[
            "--name",
            "web",
            "--label",
            "tier=front",
            "--",
            "sh",
            "-c",
            "seq 9; exec sleep 85005",
        ]);
        self.service.ok(&["start", "--name", "worker", "--instances", "3", "--", "sleep", "85006"]);
    }
}

#[test]
fn every_example_runs() {
    let place = Place::new();
    let examples = examples();
    assert!(examples.len() > 50, "{examples:?}");
    for (name, example) in examples.iter().filter(|(name, _)| !ELSEWHERE.contains(&name.as_str())) {
        place.set_up(name);
        let line = place.line(example);
        let goes_on = (name == "stream" && !line.contains("--until-end"))
            || line.contains("--follow")
            || line == "provost wait 'worker-*'"
            || line.contains("--until-end");
        if name == "serve" {
            let socket = place.files.file("other.sock");
            let more = if line.contains("--state") { "" } else { " --state none" };
            let serve = Running::new(place.command(&format!("exec {line} --socket {socket}{more} 2>&1")));
            serve.line_with("ready on", SOON);
            serve.signal("TERM");
            serve.end(LATER).expect(0);
        } else if goes_on {
            let running = Running::new(place.command(&format!("exec {line}")));
            // That a later command is answered shows that this one had its time.
            place.service.ok(&["list"]);
            running.signal("INT");
            let ended = running.end(SOON);
            assert!(ended.code == 130 && !ended.err().contains("hint"), "{line}: {ended:?}");
        } else {
            let fed =
                if name == "user" { format!("echo correct horse battery | {line}") } else { line.clone() };
            // The second start of 'web' has to be there already.
            if line == "provost start web 'worker-*'" {
                place.set_up("stop");
            }
            let ended = cli::run(place.command(&fed), LATER);
            let may_be_no = ["run", "apply", "doctor", "status", "stop"].contains(&name.as_str());
            assert!(ended.code == 0 || (may_be_no && ended.code == 3), "{line}: {ended:?}");
        }
    }
    place.service.cli(&["remove", "--force", "*"]);
}

#[test]
fn certificates_and_users_are_those_of_the_service_that_is_addressed() {
    let place = Place::new();
    let state = place.service.state_dir();
    place.service.ok(&["cert", "init", "--client", "ann"]);
    assert!(fs::exists(format!("{state}/certs/ann.pem")).expect("it can be told"));
    cli::run(place.command("echo correct horse battery | provost user add ann"), LATER).expect(0);
    assert!(fs::exists(format!("{state}/users")).expect("it can be told"));
    let other = place.files.file("elsewhere");
    fs::create_dir(&other).expect("it is ours");
    place.service.ok(&["cert", "init", "--state", &other]);
    assert!(fs::exists(format!("{other}/certs/client.pem")).expect("it can be told"));
}

#[test]
fn apply_without_a_file_takes_the_one_of_the_service() {
    let place = Place::new();
    place.service.ok(&["wait", "--for", "running", "declared"]);
    fs::write(&place.config, "[process.declared]\ncommand = [\"sleep\", \"85007\"]\n").expect("it is ours");
    let shown = place.service.cli(&["apply", "--dry-run"]);
    assert!(shown.expect(3).out().contains("85007"), "{shown:?}");
}

#[test]
fn doctor_and_version_tell_of_the_gateway() {
    let place = Place::new();
    for command in ["doctor", "version"] {
        let said = place.service.ok(&[command]);
        assert!(said.lines().any(|line| line.starts_with("gateway: ")), "{said}");
        let object = place.service.cli(&[command, "--json"]).expect(0).json().remove(0);
        assert!(object.get("gateway").is_some(), "{object}");
    }
}

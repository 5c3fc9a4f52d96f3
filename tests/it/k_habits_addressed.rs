//! Commands that need to know what a service was started with ask the one that is addressed.

use std::fs;
use std::process::Command;

use crate::harness::{LATER, Options, SOON, Scratch, Service, binary, cli, wait};

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
        let service = Options::new().without_cgroups().serve(&["--config", &config]).start();
        Self { service, files, config }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = binary().parent().expect("it is in a directory").display();
        command.args(["-c", line]).current_dir(self.files.path());
        command.env("PATH", format!("{bin}:{path}")).env("PROVOST_SOCKET", self.service.socket());
        command
    }
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
fn certificates_are_shown_with_the_roles_of_the_service() {
    let place = Place::new();
    place.service.ok(&["cert", "init", "--client", "ann"]);
    let grpc = "[grpc]\nlisten = '127.0.0.1:1'\n[grpc.certificate_roles]\n'ann' = 'operator'\n";
    fs::write(&place.config, grpc).expect("it is ours");
    let shown = place.service.cli(&["cert", "show", "--json"]).expect(0).json();
    assert!(shown.iter().any(|one| one["names"][0] == "ann" && one["role"] == "operator"), "{shown:?}");
    // Those of another directory are none of what it lets in.
    let other = place.files.file("other");
    let said = place.service.cli(&["cert", "init", "--dir", &other, "--client", "ann"]).expect(0).err();
    assert!(said.contains("'ann' needs a role there") && !said.contains("a gateway that runs"), "{said}");
    // What cannot be read is said.
    fs::write(&place.config, format!("{grpc}nobody = 3\n")).expect("it is ours");
    let shown = place.service.cli(&["cert", "show"]);
    assert!(shown.expect(0).err().contains("roles are not shown: "), "{shown:?}");
}

#[test]
fn apply_without_a_file_takes_the_one_of_the_service() {
    let place = Place::new();
    wait::until("it is declared", SOON, || {
        place.service.list_json().iter().any(|p| p["name"] == "declared" && p["state"] == "running")
    });
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

//! What is told beside an answer: what it does not do by itself, and what is to be done next.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::harness::{LATER, Options, SOON, Scratch, Service, binary, cli, wait};
use crate::k_habits::hint;
use crate::k_habits_screen::on_terminal;

fn configured(scratch: &Scratch, text: &str) -> (Service, String) {
    let path = scratch.file("provost.toml");
    fs::write(&path, text).expect("it is ours");
    let service = Options::new().without_cgroups().serve(&["--config", &path]).start();
    wait::until("it is applied", LATER, || service.cli(&["wait", "provost.apply"]).code == 0);
    (service, path)
}

#[test]
fn a_gateway_without_its_certificate_names_it_and_what_makes_it() {
    let scratch = Scratch::new();
    let certs = scratch.file("certs");
    let grpc = format!("[grpc]\nlisten = '127.0.0.1:0'\ncertificates = '{certs}'\n");
    let (service, _) = configured(&scratch, &format!("{grpc}[process.web]\ncommand = ['sleep', '88101']\n"));
    service.until_said(&format!("cannot use the certificate '{certs}/server.pem': No such file"));
    let output = service.cli(&["output", "provost.gateway"]);
    assert!(output.expect(0).out().contains("'provost cert init' makes what is needed"), "{output:?}");
    service.ok(&["cert", "init", "--dir", &certs]);
    // There are no users yet, which is told at once and not after the time that a start may take.
    let said = service.cli(&["reload"]);
    assert!(
        said.expect(1)
            .err()
            .contains("the gateway does not begin, and is tried again: cannot take the users")
    );
    assert!(said.err().contains("hint: 'provost user add NAME' makes one"));
    let users = service.state_dir() + "/users";
    fs::write(&users, "").expect("it is ours");
    fs::set_permissions(&users, Permissions::from_mode(0o600)).expect("it is ours");
    // Or its next attempt came before.
    assert!(service.ok(&["reload"]).contains("reloaded"));
    wait::until("it serves", LATER, || service.cli(&["status", "provost.gateway"]).code == 0);
}

#[test]
fn why_tells_which_limits_are_not_kept() {
    let service = Options::new().without_cgroups().start();
    let options = ["--name", "web", "--memory-max", "64 MiB", "--limits-optional", "--", "sleep", "88102"];
    service.start(&options);
    let why = service.ok(&["why", "web"]);
    assert!(why.contains("without its limits: memory_max cannot be kept"), "{why}");
}

#[test]
fn a_terminal_is_told_what_does_not_happen_by_itself() {
    let service = Options::new().without_cgroups().start();
    let said = on_terminal(&service, 120, "list").expect(0).out();
    assert!(said.contains("provost start"), "an empty list tells how there comes something: {said}");
    service.start(&["--name", "web", "--", "sleep", "88103"]);
    let said = on_terminal(&service, 120, "env set A=b").expect(0).out();
    assert!(said.contains("it holds for what starts from now on: 'provost restart all'"), "{said}");
    let said = on_terminal(&service, 120, "stop all").expect(0).out();
    assert!(said.contains("they stay stopped, also when the service begins anew"), "{said}");
    // A script is not.
    for args in [&["env", "set", "A=c"][..], &["start", "all"], &["stop", "all"]] {
        assert_eq!(service.cli(args).expect(0).err(), "");
    }
}

#[test]
fn a_configuration_that_others_can_change_is_told_before_a_service_refuses_it() {
    let scratch = Scratch::new();
    let (service, path) = configured(&scratch, "[process.web]\ncommand = ['sleep', '88104']\n");
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("it is ours");
    let applied = service.cli(&["apply", "--dry-run", &path]);
    let said = applied.expect(0).err();
    assert!(
        said.contains("no service would begin with it") && said.contains(&format!("chmod go-w {path}")),
        "{said}"
    );
    assert!(applied.out().contains("nothing to do: 1 process is as it is declared"), "{applied:?}");
}

#[test]
fn who_removes_what_is_declared_hears_that_it_comes_again() {
    let scratch = Scratch::new();
    let (service, path) = configured(&scratch, "[process.web]\ncommand = ['sleep', '88105']\n");
    let said = service.cli(&["remove", "--force", "web"]).expect(0).err();
    assert!(said.contains("web: declared, and so made again by the next 'provost apply'"), "{said}");
    let hinted = hint(&service, &["start", "web"], 4);
    assert!(hinted.contains(&format!("and not there: provost apply {path}")), "{hinted}");
    // Another file would have it go.
    service.ok(&["apply", "--yes"]);
    let other = scratch.file("other.toml");
    fs::write(&other, "[process.db]\ncommand = ['sleep', '88106']\n").expect("it is ours");
    let said = service.cli(&["apply", "--dry-run", &other]).expect(3).err();
    assert!(said.contains("is not the configuration of the service") && said.contains(&path), "{said}");
}

#[test]
fn why_and_status_tell_of_failures_and_not_of_what_was_asked_for() {
    let service = Options::new().without_cgroups().start();
    // It dies once with a child that is left; then it ends well, with none.
    let script = "echo says; if [ -e once ]; then exit 0; fi; touch once; sleep 88108 & kill -9 $$";
    let dir = service.scratch().file("");
    let options = ["--name", "job", "--restart", "on-failure", "--restart-delay", "0", "--cwd", &dir, "--"];
    service.start(&[&options[..], &["sh", "-c", script]].concat());
    wait::until("its second run has ended", LATER, || {
        let job = service.status_json("job");
        job["run"] == 2 && job["state"] == "stopped"
    });
    let why = service.ok(&["why", "job"]);
    assert!(why.contains("left behind") && !why.contains("into the background"), "{why}");
    // One that once failed, and was restarted by hand since.
    let script = "echo says; if [ -e again ]; then exec sleep 88109; fi; touch again; exit 3";
    let options = ["--name", "web", "--restart", "always", "--restart-delay", "0", "--cwd", &dir, "--"];
    service.start(&[&options[..], &["sh", "-c", script]].concat());
    wait::until("it runs again", LATER, || service.status_json("web")["run"] == 2);
    let of_run_before = |run: u32| format!("last output of run {run}, which ended");
    wait::until("what died is shown", SOON, || {
        service.cli(&["status", "web"]).out().contains(&of_run_before(1))
    });
    service.ok(&["restart", "web"]);
    for command in ["status", "why"] {
        let said = service.ok(&[command, "web"]);
        assert!(!said.contains(&of_run_before(2)), "{said}");
    }
}

#[test]
fn a_part_of_the_configuration_is_not_applied_in_place_of_all() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path().join("conf.d")).expect("it is ours");
    let part = scratch.file("conf.d/db.toml");
    fs::write(&part, "[process.db]\ncommand = ['sleep', '88110']\n").expect("it is ours");
    let (service, _) = configured(&scratch, "[process.web]\ncommand = ['sleep', '88110']\n");
    assert!(hint(&service, &["apply", "--yes", &part], 6).contains("provost apply"));
    service.ok(&["status", "web", "db"]);
}

#[test]
fn who_stops_with_another_is_told() {
    let scratch = Scratch::new();
    let text = "[process.db]\ncommand = ['sleep', '88107']\n[process.web]\ncommand = ['sleep', '88107']\nrequires = ['db']\n";
    let (service, _) = configured(&scratch, text);
    service.until_state("web", "running");
    let said = on_terminal(&service, 120, "stop db").expect(0).out();
    assert!(said.contains("web goes with it: "), "{said}");
}

#[test]
fn an_address_where_the_name_of_a_machine_belongs_is_answered() {
    let service = Options::new().without_cgroups().start();
    for address in ["localhost:7443", "10.0.0.1", "ann@lab"] {
        assert!(hint(&service, &["-H", address, "list"], 4).contains("--host HOST:PORT"), "{address}");
    }
    assert!(!hint(&service, &["-H", "lab", "list"], 4).contains("--host"));
}

#[test]
fn a_password_that_is_changed_holds_when_the_gateway_has_read_it() {
    let service = Options::new().without_cgroups().start();
    let users = service.scratch().file("users");
    let user = |args: &[&str], password: &str| {
        let file = service.scratch().file("password");
        fs::write(&file, format!("{password}\n")).expect("it is ours");
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" <\"$PASSWORD_FILE\"", "sh"]).arg(binary()).arg("user").args(args);
        command.args(["--users", &users]).env("PASSWORD_FILE", &file).env("PROVOST_SOCKET", service.socket());
        cli::run(command, SOON)
    };
    let added = user(&["add", "ann"], "first of many words");
    assert!(added.expect(0).err().contains("[grpc.user_roles] ann = "), "{added:?}");
    let changed = user(&["passwd", "ann"], "second of many words");
    assert!(changed.expect(0).err().contains("follows within a second"), "{changed:?}");
}

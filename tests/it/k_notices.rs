//! What is told beside an answer: what it does not do by itself, and what is to be done next.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::harness::{LATER, Options, SOON, Scratch, binary, cli, wait};
use crate::k_habits::hint;
use crate::k_habits_screen::on_terminal;
use crate::k_wrong_turns::configured;

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
    let (service, path) = configured(&scratch, text);
    service.until_state("web", "running");
    fs::write(&path, text.replacen("88107", "88114", 1)).expect("it is ours");
    let said = service.cli(&["apply", "--dry-run"]).expect(3).err();
    assert!(said.contains("web requires db, and stops and starts with it"), "{said}");
    let said = service.cli(&["restart", "db"]).expect(0).err();
    assert!(said.contains("web goes with it"), "a script is told, too: {said}");
    service.cli(&["wait", "--for", "ready", "web"]).expect(0);
    assert_eq!(service.cli(&["restart", "web"]).expect(0).err().matches("goes with it").count(), 0);
    let said = on_terminal(&service, 120, "stop db").expect(0).out();
    assert!(said.contains("web goes with it"), "{said}");
    // Who is started with it is not shown as at rest.
    for _ in 0..10 {
        service.ok(&["stop", "web", "db"]);
        let said = service.ok(&["start", "web"]);
        assert!(!said.contains("db (stopped)"), "{said}");
    }
    service.ok(&["stop", "web", "db"]);
    let said = service.cli(&["restart", "--wait", "web"]).expect(0).err();
    assert!(said.contains("db is started with it, since web requires it"), "{said}");
    assert_eq!(service.status_json("db")["cause"], format!("uid {}, for web", provost::sys::system::euid()));
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
    // A name with a dot in it is one key.
    let added = user(&["add", "ops.example"], "third of many words");
    assert!(added.expect(0).err().contains("[grpc.user_roles] \"ops.example\" = "), "{added:?}");
}

#[test]
fn who_waits_in_vain_hears_for_how_long_and_for_what() {
    let service = Options::new().without_cgroups().start();
    service.start(&["--name", "web", "--ready-line", "up", "--", "sleep", "88111"]);
    let late = |args: &[&str]| service.cli(args).expect(5).err();
    for args in [
        &["wait", "--for", "ready", "--timeout", "50ms", "web"][..],
        &["restart", "--wait", "--timeout", "50ms", "web"],
        &["restart", "--one-by-one", "--timeout", "50ms", "web"],
    ] {
        let said = late(args);
        assert!(
            said.contains("web is not ready after 50 ms: it is running, waits for its line 'up'"),
            "{said}"
        );
    }
    let said = late(&["wait", "--timeout", "50ms", "web"]);
    assert!(said.contains("web has not stopped after 50 ms: it is running, and goes on"), "{said}");
    assert!(
        said.contains("until it is up: provost wait --for ready web; to end it: provost stop web"),
        "{said}"
    );
}

#[test]
fn a_stop_that_suspends_a_schedule_tells_what_does_not() {
    let service = Options::new().without_cgroups().start();
    service.start(&["--name", "nightly", "--schedule", "@daily", "--", "sleep", "88112"]);
    service.ok(&["start", "nightly"]);
    assert_eq!(service.cli(&["stop", "--keep-schedule", "nightly"]).expect(0).err(), "");
    let said = service.cli(&["stop", "nightly"]).expect(0).err();
    assert!(said.contains("nightly does not run by its schedule until 'provost start nightly'"), "{said}");
    assert!(said.contains("--keep-schedule"), "{said}");
    let said = service.cli(&["start", "nightly"]).expect(0).err();
    assert!(said.contains("nightly runs by its schedule again, next in "), "{said}");
    service.ok(&["stop", "--keep-schedule", "nightly"]);
    assert_eq!(service.cli(&["start", "nightly"]).expect(0).err(), "");
}

#[test]
fn an_apply_names_what_it_has_not_waited_for() {
    let scratch = Scratch::new();
    let db = "[process.db]\ncommand = ['sleep', '88117']\n";
    let (service, path) = configured(&scratch, db);
    let web = "[process.web]\ncommand = ['sleep', '88117']\nready_line = 'up'\n";
    fs::write(&path, format!("{db}{web}")).expect("it is ours");
    let said = service.cli(&["apply", "--yes"]).expect(0).err();
    assert!(said.ends_with("not waited until they are ready: provost wait --for ready web"), "{said}");
    assert_eq!(service.cli(&["apply", "--yes"]).expect(0).err(), "", "it has begun nothing");
    fs::write(&path, db).expect("it is ours");
    let said = service.cli(&["apply", "--dry-run"]).expect(3).err();
    assert!(said.contains("web runs, and is stopped for that"), "{said}");
}

#[test]
fn a_new_process_tells_who_is_started_with_it() {
    let service = Options::new().without_cgroups().start();
    service.start(&["--name", "db", "--", "sleep", "88115"]);
    service.ok(&["stop", "db"]);
    let new = |name| service.cli(&["start", "--name", name, "--requires", "db", "--", "sleep", "88115"]);
    let said = new("web").expect(0).err();
    assert!(said.contains("db did not run, and is started with it"), "{said}");
    assert_eq!(new("api").expect(0).err(), "", "it runs by now");
}

#[test]
fn an_apply_tells_what_a_person_has_stopped() {
    let scratch = Scratch::new();
    let kept = "[defaults]\nrestart = 'always'\n[process.web]\ncommand = ['sleep', '88113']\n";
    let left = "[process.db]\ncommand = ['sleep', '88113']\nautostart = false\n";
    let once = "[process.once]\ncommand = ['true']\nrestart = 'on-failure'\n";
    let job = "[process.nightly]\ncommand = ['true']\nschedule = '@daily'\nrestart = 'never'\n";
    let (service, _) = configured(&scratch, &[kept, left, once, job].concat());
    service.ok(&["apply", "--yes"]);
    service.until_state("once", "stopped");
    assert_eq!(service.cli(&["apply", "--yes"]).expect(0).err(), "", "what has ended by itself is well");
    service.ok(&["stop", "web", "db", "nightly"]);
    for mode in ["--yes", "--dry-run"] {
        let said = service.cli(&["apply", mode]).expect(0).err();
        assert!(said.contains("web was stopped, and stays so: provost start web"), "{said}");
        assert!(
            said.contains("the schedule of nightly is suspended, and stays so: 'provost start nightly'"),
            "{said}"
        );
        assert!(!said.contains("db ") && !said.contains("once "), "{said}");
    }
}

#[test]
fn a_run_of_which_nothing_is_kept_is_no_silence_in_a_pipe() {
    let service = Options::new().without_cgroups().start();
    service.start(&["--name", "quiet", "--", "true"]);
    service.cli(&["wait", "quiet"]).expect(0);
    let run = service.cli(&["output", "--run", "last", "quiet"]);
    assert_eq!(run.expect(0).out(), "");
    assert!(run.err().contains("run 1 of quiet has printed nothing that is kept"), "{run:?}");
    assert_eq!(service.cli(&["output", "quiet"]).expect(0).err(), "", "a script that reads all is not told");
    // What was there is another matter.
    service.start(&["--name", "job", "--schedule", "@yearly", "--", "echo", "says"]);
    service.ok(&["start", "job"]);
    service.until_state("job", "scheduled");
    assert_eq!(service.ok(&["logs", "--run", "last", "job"]), "says");
    service.end();
    service.serve_again();
    for args in [
        &["output", "job"][..],
        &["logs", "job"],
        &["logs", "--run", "last", "job"],
        &["output", "--run", "1", "job"],
    ] {
        let said = service.cli(args).expect(3).err();
        let what = if args.contains(&"--run") { "run 1 of job" } else { "job" };
        let gone = format!("what {what} printed under the service before is not kept; 'log' in its");
        assert!(said.contains(&gone), "{said}");
    }
    service.ok(&["start", "job"]);
    wait::until("its second run has ended", LATER, || {
        let job = service.status_json("job");
        job["run"] == 2 && job["state"] == "scheduled"
    });
    let said = service.cli(&["logs", "--run", "1", "job"]).expect(3).err();
    assert!(said.contains("what run 1 of job printed under the service before is not kept"), "{said}");
}

#[test]
fn why_tells_who_has_sent_the_signal_that_ended_it() {
    let service = Options::new().without_cgroups().start();
    service.start(&["--name", "web", "--", "sleep", "88117"]);
    service.ok(&["signal", "KILL", "web"]);
    service.until_state("web", "stopped");
    let why = service.ok(&["why", "web"]);
    assert!(
        why.starts_with("web: ended by a signal that uid ") && why.contains("SIGKILL to 1 process,"),
        "{why}"
    );
}

#[test]
fn a_check_tells_which_files_of_the_gateway_are_not_there_yet() {
    let scratch = Scratch::new();
    let (path, certs, users) = (scratch.file("own.toml"), scratch.file("certs"), scratch.file("users"));
    let grpc = format!("[grpc]\nlisten = '127.0.0.1:0'\ncertificates = '{certs}'\nusers = '{users}'\n");
    fs::write(&path, format!("{grpc}[grpc.certificate_roles]\nann = 'operator'\n")).expect("it is ours");
    let service = Options::new().without_cgroups().serve(&["--config", &path]).start();
    let check = || service.cli(&["config", "check", &path]).expect(0).err();
    let said = check();
    for file in ["server.pem", "server.key", "ca.pem"] {
        let missing = format!("[grpc]: '{certs}/{file}' is not there: 'provost cert init' makes it");
        assert!(said.contains(&missing), "{said}");
    }
    assert!(said.contains(&format!("'{users}' is not there: 'provost user add' makes it")), "{said}");
    // Whoever makes them is told what is left to do, and no more.
    let first = service.cli(&["cert", "init", "--dir", &certs]).expect(0).err();
    assert!(
        first.contains("'client.provost' needs a role there") && !first.contains("next: [grpc]"),
        "{first}"
    );
    let ann = service.cli(&["cert", "init", "--dir", &certs, "--client", "ann"]).expect(0).err();
    assert!(ann.contains("'ann' has the role operator: its owner gets"), "{ann}");
    assert!(!check().contains(".pem"), "{}", check());
}

#[test]
fn doctor_tells_which_settings_do_not_hold_yet_and_a_restart_that_its_file_is_newer() {
    let scratch = Scratch::new();
    let web = "[process.web]\ncommand = ['sleep', '88115']\n";
    let (service, path) = configured(&scratch, web);
    let doctor = || service.ok(&["doctor"]);
    assert!(!doctor().contains("does not hold yet"), "{}", doctor());
    let later = web.replace("88115", "88116");
    fs::write(&path, format!("{later}[history]\nkeep = '7d'\n[local]\ngrpc = false\n")).expect("it is ours");
    let said = doctor();
    assert!(said.contains("does not hold yet, until provost reload: history.keep"), "{said}");
    assert!(said.contains("does not hold yet, until the next start of the service: local.grpc"), "{said}");
    let said = service.cli(&["apply", "--dry-run"]).expect(3).err();
    assert!(said.contains("own settings are taken by 'provost reload': history.keep"), "{said}");
    assert!(
        said.contains("own settings are taken from the next start of the service on: local.grpc"),
        "{said}"
    );
    let said = service.cli(&["restart", "web"]).expect(0).err();
    assert!(said.contains("has changed since it was applied: provost apply"), "{said}");
    service.ok(&["reload", "--yes"]);
    let said = doctor();
    assert!(!said.contains("history.keep") && said.contains("local.grpc"), "{said}");
    fs::write(&path, "[process.web]\ncommand = 3\n").expect("it is ours");
    let said = service.cli(&["doctor"]).out();
    assert!(said.contains("configuration: refused, and no service would begin with it: "), "{said}");
}

#[test]
fn a_key_that_has_to_be_there_is_found_by_what_others_call_it() {
    let scratch = Scratch::new();
    let (service, path) = configured(&scratch, "[process.web]\ncommand = ['true']\n");
    for (text, key) in [
        ("[grpc]\nbind = '127.0.0.1:1'\n", "needs 'listen'; did you mean that by 'bind'?"),
        ("[grpc]\nlisen = '127.0.0.1:1'\n", "needs 'listen'; did you mean that by 'lisen'?"),
        ("[remote.lab]\naddress = 'lab:7443'\n", "needs 'host'; did you mean that by 'address'?"),
        (
            "[remote.lab]\nhost = 'lab:7443'\ncert = 'ann.pem'\n",
            "needs 'certificate'; did you mean that by 'cert'?",
        ),
    ] {
        fs::write(&path, text).expect("it is ours");
        let said = service.cli(&["config", "check", &path]).expect(2).err();
        assert!(said.contains(key), "{said}");
    }
}

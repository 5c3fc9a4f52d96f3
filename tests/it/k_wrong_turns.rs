//! More wrong turns of somebody who has nothing but the documentation: each command does what its words
//! promise, or says what does.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::cli::run;
use crate::harness::{LATER, Options, SOON, Scratch, Service, binary, wait};
use crate::k_habits::hint;

fn declare(path: &str, text: &str) {
    fs::write(path, text).expect("it is ours");
}

/// A service with this configuration, applied, and the path of that.
pub fn configured(scratch: &Scratch, text: &str) -> (Service, String) {
    let path = scratch.file("provost.toml");
    declare(&path, text);
    let service = Options::new().without_cgroups().serve(&["--config", &path]).start();
    wait::until("it is applied", LATER, || service.cli(&["wait", "provost.apply"]).code == 0);
    (service, path)
}

const WEB: &str = "[process.web]\ncommand = ['sleep', '88001']\n";

#[test]
fn a_start_of_what_is_there_waits_until_it_is_ready_as_its_definition_says() {
    let service = Options::new().without_cgroups().start();
    let script = "if [ -e gone ]; then exec sleep 88002; fi; echo up; exec sleep 88002";
    let dir = service.scratch().file("");
    let options = ["--name", "slow", "--ready-line", "up", "--cwd", &dir, "--wait"];
    service.start(&[&options[..], &["--", "sh", "-c", script]].concat());
    service.ok(&["stop", "slow"]);
    let up = service.ok(&["start", "--wait", "slow"]);
    assert!(up.contains("running") && !up.contains("not ready"), "{up}");
    service.ok(&["stop", "slow"]);
    fs::write(Path::new(&dir).join("gone"), "").expect("it is ours");
    let late = service.cli(&["start", "--wait", "--timeout", "100ms", "slow"]);
    let said = late.expect(5).err();
    assert!(said.contains("slow is not ready after") && said.contains("it is running, waits for"), "{said}");
    // Who is not there is told before the wait for the others.
    let waits = service.background(&["restart", "--wait", "slow", "nosuch"]);
    wait::until("it is told", SOON, || waits.stderr_text().contains("there is no process 'nosuch'"));
    drop(waits);
    // It ran already, and nothing more is waited for.
    let ran = service.cli(&["start", "--wait=running", "slow"]).expect(0).err();
    assert!(ran.contains("slow is running already: nothing was started"), "{ran}");
}

#[test]
fn a_hook_that_fails_after_the_start_fails_who_waits() {
    let service = Options::new().without_cgroups().start();
    let options = ["--name", "bad", "--post-start", "exit 1", "--wait"];
    service.cli(&[&["start"], &options[..], &["--", "sleep", "88003"]].concat()).expect(3);
}

#[test]
fn a_program_that_was_not_found_is_named() {
    let service = Options::new().without_cgroups().start();
    let path = service.scratch().file("p.toml");
    declare(&path, "[process.typo]\ncommand = ['no-such-program', '-x']\n");
    service.cli(&["apply", "--yes", &path]).expect(8);
    // Status tells in its exit code, too, that it does not run.
    for (command, code) in [("why", 0), ("status", 3)] {
        let said = service.cli(&[command, "typo"]).expect(code).out();
        assert!(said.contains("exec 'no-such-program' (looked in /"), "{said}");
    }
}

#[test]
fn two_that_would_write_one_log_are_refused_before_anything_is_changed() {
    let service = Options::new().without_cgroups().start();
    let path = service.scratch().file("p.toml");
    let log = service.scratch().file("one.log");
    let pair = format!("[process.pair]\ncommand = ['sleep', '88004']\ninstances = 2\nlog = '{log}'\n");
    let one = |name: &str| format!("[process.{name}]\ncommand = ['sleep', '88004']\nlog = '{log}'\n");
    for text in [pair.clone(), one("a") + &one("b")] {
        declare(&path, &text);
        for how in ["--dry-run", "--yes"] {
            assert!(hint(&service, &["apply", how, &path], 2).contains("{name} in the path"));
        }
        assert_eq!(service.list_json().len(), 0);
    }
    declare(&path, &pair.replace("one.log", "{name}.log"));
    service.ok(&["apply", "--yes", &path]);
}

#[test]
fn what_others_shared_is_imported_so_that_it_can_be_applied() {
    let service = Options::new().without_cgroups().start();
    let (conf, path) = (service.scratch().file("supervisord.conf"), service.scratch().file("p.toml"));
    let log = service.scratch().file("web.log");
    declare(
        &conf,
        &format!(
            "[program:web]\ncommand=sleep 88005\nnumprocs=2\nprocess_name=web_%(process_num)02d\nstdout_logfile={log}\n"
        ),
    );
    declare(&path, &service.ok(&["import", "supervisord", &conf]));
    service.ok(&["apply", "--yes", &path]);
    assert_eq!(service.list_json().len(), 2);
}

#[test]
fn only_a_change_of_what_is_declared_is_told() {
    let scratch = Scratch::new();
    let (service, path) = configured(&scratch, WEB);
    let said = || service.cli(&["list"]).expect(0).err();
    let later = |text: &str| {
        // Times are told apart by milliseconds.
        let before = fs::metadata(&path).and_then(|meta| meta.modified()).expect("it is there");
        wait::until("it is newer", SOON, || {
            declare(&path, text);
            fs::metadata(&path).and_then(|meta| meta.modified()).expect("it is there") > before
        });
    };
    later(&format!("# only a remark\n{WEB}"));
    assert_eq!(said(), "");
    later(&format!("{WEB}[history]\nkeep = '7d'\n"));
    assert_eq!(said(), "", "that is the service's own");
    later(&WEB.replace("88001", "88006"));
    assert!(said().contains("has changed since it was applied"), "{}", said());
    let reloaded = service.cli(&["reload", "--yes"]).expect(0).err();
    assert!(reloaded.contains("processes are not touched, and differ from their sections"), "{reloaded}");
    later(WEB);
    assert_eq!(said(), "", "it is as it was");
    // A service that begins anew is not told what the one before has applied.
    service.end();
    declare(&path, "");
    service.serve_again();
    assert_eq!(said(), "");
}

#[test]
fn what_is_declared_is_changed_in_its_file() {
    let scratch = Scratch::new();
    let (service, _path) = configured(&scratch, WEB);
    let said = service.cli(&["update", "web", "--env", "A=b"]).expect(0).err();
    assert!(said.contains("web is declared: the next 'provost apply'"), "{said}");
}

#[test]
fn a_configuration_is_checked_without_a_service() {
    let scratch = Scratch::new();
    let path = scratch.file("p.toml");
    let check = |text: &str| {
        declare(&path, text);
        let mut command = Command::new(binary());
        command.args(["config", "check", &path]).env("PROVOST_SOCKET", scratch.file("nobody.sock"));
        run(command, SOON)
    };
    let well = check(WEB);
    assert!(
        well.expect(0).out().ends_with("is well: 1 process declared") && well.err().is_empty(),
        "{well:?}"
    );
    let absent = check("[process.web]\ncommand = ['/no/program']\ncwd = '/no/directory'\n");
    let said = absent.expect(0).err();
    assert!(said.contains("web: its program '/no/program' is not there"), "{said}");
    assert!(said.contains("web: its directory '/no/directory' is not there"), "{said}");
    let absent = check("[process.web]\ncommand = ['python3 -m http.server']\nlog = '/no/logs/web.log'\n");
    let said = absent.expect(0).err();
    assert!(
        said.contains("no program 'python3 -m http.server'") && said.contains("text of its own"),
        "{said}"
    );
    assert!(said.contains("its log's directory '/no/logs' is not there"), "{said}");
    let script = scratch.file("run.sh");
    declare(&script, "#!/bin/sh\n");
    let absent =
        check(&format!("[process.web]\ncommand = ['{script}']\nuser = 'no-such-user'\ninstances = 3\n"));
    let said = absent.expect(0).err();
    assert!(said.contains(&format!("web: its program '{script}' is not executable: chmod +x")), "{said}");
    assert_eq!(said.matches("web: there is no user 'no-such-user'").count(), 1, "{said}");
    // The same before anything is applied.
    let service = Options::new().without_cgroups().start();
    let said = service.cli(&["apply", "--dry-run", &path]).expect(3).err();
    assert!(said.contains("web: there is no user 'no-such-user'"), "{said}");
    for wrong in ["[process.web]\ncomand = ['a']\n", "[history]\nkeep = 'x'\n", "[process"] {
        check(wrong).expect(2);
    }
}

#[test]
fn what_is_wrong_is_shown_where_its_key_stands() {
    let scratch = Scratch::new();
    let path = scratch.file("p.toml");
    let service = Options::new().without_cgroups().start();
    for (line, says) in [
        (
            "schedule = '@daily'\nschedule_zone = 'Nowhere/City'\n",
            "line 4, column 17: [process.web]: this host has no data for a time zone 'Nowhere/City'",
        ),
        ("nice = 1\nwants = ['db']\n", "line 4, column 9: [process.web] needs 'db', which is not declared"),
        (
            "log = '/tmp/a.log'\n[process.b]\ncommand = ['b']\nlog_stderr = '/tmp/a.log'\n",
            "line 6, column 14: the log '/tmp/a.log' of b is that of web",
        ),
    ] {
        declare(&path, &format!("{WEB}{line}"));
        let said = service.cli(&["apply", "--dry-run", &path]).expect(2).err();
        assert!(said.contains(says), "{said}");
        let excerpt = says.split("line ").nth(1).and_then(|rest| rest.split(',').next()).expect("a number");
        assert!(said.contains(&format!("provost: {excerpt} | ")), "{said}");
    }
}

#[test]
fn a_service_that_could_not_begin_again_is_not_well() {
    let scratch = Scratch::new();
    let (service, path) = configured(&scratch, WEB);
    assert!(!service.ok(&["doctor"]).contains("configuration:"));
    declare(&path, &format!("{WEB}[history]\nkeep = 'x'\n"));
    service.cli(&["reload"]).expect(2);
    let said = service.cli(&["doctor"]).expect(3).out();
    assert!(said.contains("configuration: refused, and no service would begin with it: "), "{said}");
    assert!(said.contains("line 4, column 8: 'keep' is a duration"), "{said}");
    let object = &service.cli(&["doctor", "--json"]).expect(3).json()[0];
    assert!(object["well"] == false && object["refused"].as_str().is_some_and(|why| why.contains("keep")));
    declare(&path, WEB);
    service.ok(&["doctor"]);
}

#[test]
fn what_is_taken_of_the_machine_is_shown_again_in_a_pipe_too() {
    let service = Options::new().without_cgroups().start();
    service.start(&["--name", "web", "--", "sleep", "88008"]);
    let top = service.background(&["top"]);
    wait::until("it is shown", SOON, || top.stdout_len() > 0);
    let first = top.stdout_len();
    wait::until("it is shown again, though nothing happens", SOON, || top.stdout_len() >= 2 * first);
}

#[test]
fn words_that_do_something_else_here_are_answered() {
    let service = Options::new().without_cgroups().start();
    service.start(&["--name", "web", "--", "sleep", "88007"]);
    assert!(hint(&service, &["list", "--format", "json"], 2).contains("--json"));
    assert!(hint(&service, &["signal", "web", "HUP"], 2).contains("provost signal HUP web"));
    assert!(hint(&service, &["reload", "web"], 2).contains("provost restart web"));
    assert!(hint(&service, &["env", "A=b"], 2).contains("provost env set A=b"));
    assert!(hint(&service, &["import", "eco.config.js"], 2).contains("pm2 save"));
    assert!(hint(&service, &["stop", "-9", "web"], 2).contains("provost stop --timeout 0"));
    assert!(hint(&service, &["stop"], 2).contains("every process: all"));
    assert!(hint(&service, &["update", "web", "restart=never"], 2).contains("--restart never"));
    assert!(hint(&service, &["start", "--name", "a", "sleep 5"], 2).contains("--shell -- 'sleep 5'"));
    assert!(hint(&service, &["start", "web", "--env", "A=b"], 2).contains("provost update --env ... web"));
    assert!(hint(&service, &["config", "show", "web"], 2).contains("provost show web"));
    assert!(hint(&service, &["wait", "--timeout", "10ms", "web"], 5).contains("--for ready"));
    assert!(hint(&service, &["env", "get", "A"], 2).contains("'provost env' lists them"));
    service.ok(&["start", "--name", "worker", "--instances", "2", "--", "sleep", "88007"]);
    assert!(hint(&service, &["status", "workers"], 4).contains("'worker-*'"));
    assert!(hint(&service, &["resume", "web"], 2).contains("provost start TARGET resumes a schedule"));
    assert!(hint(&service, &["why", "--run", "2", "web"], 2).contains("provost history TARGET"));
    assert!(hint(&service, &["cert", "revoke"], 2).contains("provost cert revoke ann"));
    assert!(hint(&service, &["audit", "--user", "ann"], 2).contains("provost audit ann"));
    assert!(hint(&service, &["remote", "add", "lab"], 2).contains("[remote.NAME]"));
    assert!(hint(&service, &["serve", "--check"], 2).contains("provost config check"));
    assert!(hint(&service, &["history", "--run", "2", "web"], 2).contains("provost logs --run N"));
    let shown = service.ok(&["config"]);
    let state = format!("--state\t{}\tthe running service", service.state_dir());
    assert!(shown.contains(&state), "{shown}");
    assert_eq!(service.ok(&["audit", "-n", "1"]).lines().count(), 1);
    let wrong = service.cli(&["logs", "--grep", "(", "web"]).expect(2).err();
    assert!(wrong.contains("not '(': unclosed group") && !wrong.contains("\\n"), "{wrong}");
    service.ok(&["logs", "--since", "2 hours ago", "web"]);
    assert_eq!(service.ok(&["list", "--failed"]), "");
    service.start(&["--name", "bad", "--", "sh", "-c", "exit 3"]);
    service.until_state("bad", "stopped");
    assert_eq!(service.ok(&["list", "--failed", "--format", "{name}"]), "bad");
}

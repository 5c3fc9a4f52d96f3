//! What is essential: when it has ended for good, the service ends in good order, with its exit code. That is
//! what a container is to do whose program has ended.

use std::fs;
use std::process::Command;

use crate::harness::cli::Running;
use crate::harness::{LATER, Options, Random, SOON, Scratch, Service, binary, procfs, rounds, wait};

/// Ends with this code when the file is there.
fn ends_when(gate: &str, code: u8) -> String {
    format!("until [ -e {gate} ]; do sleep 0.02; done; exit {code}")
}

fn kinds(service: &Service, name: &str) -> Vec<String> {
    let events = service.events();
    let of_it = events.iter().filter(|e| e["name"] == name);
    of_it.map(|e| e["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_end_of_what_is_essential_ends_everything_in_order_and_gives_its_code() {
    for options in [Options::new(), Options::new().without_cgroups()] {
        let service = options.start();
        let [gate, heard] = ["gate", "heard"].map(|name| service.scratch().file(name));
        let in_order =
            format!("trap 'echo heard > {heard}; exit 0' TERM; echo up; while :; do sleep 0.02; done");
        service.start_up(&["--name", "other"], &in_order);
        service.start(&["--name", "web", "--essential", "--", "sh", "-c", &ends_when(&gate, 7)]);
        assert!(service.ok(&["show", "web"]).contains("essential = true"));
        fs::write(&gate, "").unwrap();
        assert_eq!(service.keeper_end(LATER), 7, "{}", service.log());
        assert_eq!(fs::read_to_string(&heard).unwrap(), "heard\n", "the others are stopped as they wish");
        service.until_said("web is essential and has ended: the service ends");
        service.until_said("to end with exit code 7");
        fs::remove_file(&gate).unwrap();
        service.serve_again();
        // The service was to end, not the process: it is wanted as before.
        service.until_state("web", "running");
        let events = service.cli(&["events", "--json", "--since", "1"]).expect(0).json();
        let said = events.iter().find(|e| e["kind"] == "ends-service").expect("it is told");
        assert_eq!((&said["name"], &said["detail"]), (&"web".into(), &"it is essential: exit code 7".into()));
    }
}

#[test]
fn it_is_restarted_first_and_a_success_counts_as_an_end_too() {
    let service = Service::new();
    let runs = service.scratch().file("runs");
    let script = format!("echo run >> {runs}; exit 3");
    let policy = ["--restart", "on-failure", "--max-restarts", "2", "--restart-delay", "1ms"];
    service.cli(&[&["start", "--essential"], &policy[..], &["--", "sh", "-c", &script]].concat());
    assert_eq!(service.keeper_end(LATER), 3, "{}", service.log());
    assert_eq!(fs::read_to_string(&runs).unwrap(), "run\n".repeat(3));
    service.serve_again();
    service.cli(&["start", "--essential", "--", "true"]);
    assert_eq!(service.keeper_end(LATER), 0, "{}", service.log());
}

#[test]
fn a_signal_and_a_missing_program_end_it_as_a_shell_has_it() {
    let service = Service::new();
    service.start(&["--name", "web", "--essential", "--", "sleep", "72401"]);
    procfs::signal("KILL", service.pid("web"));
    assert_eq!(service.keeper_end(LATER), 128 + 9, "{}", service.log());
    service.serve_again();
    service.ok(&["remove", "--force", "web"]);
    service.cli(&["start", "--essential", "--", "/nosuch/program"]);
    assert_eq!(service.keeper_end(LATER), 127, "{}", service.log());
}

#[test]
fn what_a_client_stops_ends_nothing_else() {
    let service = Service::new();
    service.start(&["--name", "web", "--essential", "--", "sleep", "72402"]);
    service.ok(&["restart", "web"]);
    service.ok(&["stop", "web"]);
    service.ok(&["update", "web", "--label", "a=b"]);
    service.kill_engine();
    service.ok(&["start", "web"]);
    service.ok(&["stop", "web"]);
    assert!(!kinds(&service, "web").contains(&"ends-service".to_owned()));
    // An end in good order is one, though what is essential ends with it, and badly.
    let script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.02; done";
    service.ok(&["start", "--essential", "--ready-line", "up", "--wait=ready", "--", "sh", "-c", script]);
    service.end();
}

#[test]
fn it_ends_the_service_whenever_the_engine_is_killed() {
    let mut random = Random::new();
    for _ in 0..rounds(4) {
        let service = Service::new();
        let gate = service.scratch().file("gate");
        service.start(&["--name", "web", "--essential", "--", "sh", "-c", &ends_when(&gate, 5)]);
        fs::write(&gate, "").unwrap();
        let begun = std::time::Instant::now();
        let after = std::time::Duration::from_millis(random.below(60));
        wait::until("so much time has passed", SOON, || begun.elapsed() >= after);
        if let Some(engine) = service.engine_now() {
            procfs::signal("KILL", engine);
        }
        assert_eq!(service.keeper_end(LATER), 5, "{}", service.log());
    }
}

#[test]
fn a_container_ends_as_its_essential_process_has() {
    let scratch = Scratch::new();
    let socket = scratch.file("engine.sock");
    let config = scratch.file("provost.toml");
    let declared = "[process.web]\ncommand = ['sh', '-c', 'exit 4']\nessential = true\n\
                    restart = 'on-failure'\nmax_restarts = 1\n[process.log]\ncommand = ['sleep', '72403']\n";
    fs::write(&config, declared).unwrap();
    let serve = "exec unshare --pid --fork --kill-child --mount-proc \"$0\" serve --socket \"$1\" --state none \
                 --config \"$2\" 2>&1";
    let mut container = Command::new("sh");
    container.args(["-c", serve]).arg(binary()).args([&socket, &config]);
    let container = Running::new(container);
    assert_eq!(container.end(LATER).code, 4);
    assert!(procfs::with_command("sleep 72403").is_empty());
}

#[test]
fn a_job_by_a_schedule_is_not_essential() {
    let service = Service::new();
    let refused = service.cli(&["start", "--essential", "--schedule", "@daily", "--", "true"]);
    assert!(refused.expect(2).err().contains("essential has no place"), "{refused:?}");
}

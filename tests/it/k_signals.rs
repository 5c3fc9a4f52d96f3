//! Signals that nobody expects, in storms: what the service does not know ends and disturbs nothing.

use std::process::Command;

use crate::harness::{LATER, SOON, Service, cli, procfs, rounds, wait};

/// So many times one after the other, each of them.
fn storm(pids: &[u32], signals: &[&str]) {
    let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
    let script = "for n in $(seq $1); do for s in $2; do kill -s $s $3 2>/dev/null; done; done; true";
    let times = (500 * rounds(1)).to_string();
    let mut kill = Command::new("sh");
    kill.args(["-c", script, "sh", &times, &signals.join(" "), &pids.join(" ")]);
    cli::run(kill, LATER).expect(0);
}

#[test]
fn k8_a_storm_of_signals_to_the_service_ends_and_disturbs_nothing() {
    let service = Service::new();
    let (keeper, engine) = (service.keeper_pid(), service.engine_pid());
    service.start(&["--name", "web", "--", "sleep", "60801"]);
    let pid = service.pid("web");
    let before = service.footprint();
    storm(&[keeper], &["HUP", "USR1", "USR2"]);
    storm(&[keeper, engine], &["WINCH", "URG", "CHLD", "CONT"]);
    service.expect_answer();
    assert_eq!((service.keeper_pid(), service.engine_pid(), service.pid("web")), (keeper, engine, pid));
    service.until_footprint(before);
    service.start(&["--name", "next", "--", "sleep", "60802"]);
    service.ok(&["stop", "next"]);
}

/// Those that end a program end the engine as kill -9 does: another one goes on.
#[test]
fn k8_signals_that_end_a_program_end_no_more_than_the_engine() {
    let service = Service::new();
    let keeper = service.keeper_pid();
    service.start(&["--name", "web", "--", "sleep", "60803"]);
    let pid = service.pid("web");
    for signal in ["HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "40"] {
        let mut kill = Command::new("kill");
        kill.args(["-s", signal, &service.engine_pid().to_string()]);
        cli::run(kill, SOON).expect(0);
        wait::until("the service answers", LATER, || service.cli(&["list"]).code == 0);
        assert_eq!((service.keeper_pid(), service.pid("web")), (keeper, pid), "after {signal}");
        assert!(procfs::alive(pid));
    }
}

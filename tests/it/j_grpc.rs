//! Probes by gRPC, with a server of the library's own authors: the host of providers makes them, and what
//! happens to the host is no word about the process.

use std::path::Path;
use std::time::Duration;

use crate::g_clients::installed;
use crate::harness::{LATER, SOON, Service, free_port, procfs, wait};

/// Starts the server under this name with these options; its arguments are the address and more.
fn serve(service: &Service, name: &str, options: &[&str], server: &[&str]) {
    let python = installed("python/bin/python");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/health.py");
    let mut args = vec!["start", "--name", name];
    args.extend(options);
    args.extend(["--", &python, script]);
    args.extend(server);
    service.ok(&args);
}

fn address() -> String {
    format!("127.0.0.1:{}", free_port())
}

fn is_ready(service: &Service, name: &str) -> bool {
    service.status_json(name)["ready"].as_bool().unwrap()
}

fn until_ready(service: &Service, name: &str) {
    service.ok(&["wait", "--for", "ready", "--timeout", "60s", name]);
}

fn host(service: &Service) -> Option<u32> {
    let all = service.cli(&["list", "--all", "--json"]).json();
    let host = all.iter().find(|process| process["name"] == "provost.host")?;
    host["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
}

/// Also that the host is not there before, and that a run is ended by what the server says.
#[test]
fn what_a_server_says_by_grpc_is_its_readiness_and_its_life() {
    let service = Service::new();
    assert_eq!(host(&service), None);
    let at = address();
    let options = format!(
        "--restart always --ready-grpc {at} --ready-interval 50ms \
         --live-grpc {at} --live-interval 50ms --live-failures 2"
    );
    let options: Vec<&str> = options.split(' ').collect();
    serve(&service, "shop", &options, &[&at, "not-serving"]);
    wait::until("it listens", LATER, || service.output("shop").ends_with(b"listening\n"));
    wait::until("it was asked", LATER, || {
        service.ok(&["why", "shop"]).contains("not ready") && host(&service).is_some()
    });
    assert!(!is_ready(&service, "shop"), "it says that it is not serving");
    procfs::signal("USR2", service.pid("shop"));
    until_ready(&service, "shop");
    assert_eq!(service.status_json("shop")["run"], 1);
    procfs::signal("USR1", service.pid("shop"));
    wait::until("it was restarted", LATER, || service.status_json("shop")["run"] == 2);
    let events = service.ok(&["events", "shop"]);
    assert!(
        events.contains("2 probes of its life in a row failed: it says that it is not serving"),
        "{events}"
    );
}

#[test]
fn a_service_at_a_socket_is_asked_about_by_its_name() {
    let service = Service::new();
    let socket = service.scratch().file("shop.sock");
    let at = format!("unix:{socket}");
    let named = format!("{at}#shop.Cart");
    serve(&service, "cart", &["--ready-grpc", &named], &[&at, "not-serving"]);
    until_ready(&service, "cart");
    assert!(Path::new(&socket).exists());
    // What nobody offers is not ready in its time, and says why.
    for (n, (server, asked, why)) in [
        ("", "#shop.Basket", "it has no service \"shop.Basket\""),
        ("without", "", "it does not offer grpc.health.v1.Health"),
    ]
    .into_iter()
    .enumerate()
    {
        let (name, at) = (format!("other-{n}"), address());
        let options = ["--ready-grpc", &format!("{at}{asked}"), "--ready-timeout", "5s"];
        serve(&service, &name, &options, &[&at, server]);
        service.until_state(&name, "stopped");
        let said = service.ok(&["why", &name]);
        assert!(said.contains(why), "{said}");
    }
}

/// It is halted, killed, and kept from running: the process goes on, and is looked at again afterwards.
#[test]
fn what_happens_to_the_host_is_no_word_about_the_process() {
    let service = Service::new();
    let at = address();
    let options = format!(
        "--restart always --ready-grpc {at} --ready-interval 50ms --live-grpc {at} \
         --live-interval 20ms --live-attempt 200ms --live-failures 1"
    );
    let options: Vec<&str> = options.split(' ').collect();
    serve(&service, "shop", &options, &[&at]);
    until_ready(&service, "shop");
    let (pid, first) = (service.pid("shop"), host(&service).unwrap());
    procfs::signal("STOP", first);
    wait::pass(Duration::from_millis(2500));
    procfs::signal("CONT", first);
    for _ in 0..3 {
        let present = wait::until_some("the host runs", SOON, || host(&service));
        procfs::signal("KILL", present);
        wait::until("another host runs", LATER, || host(&service).is_some_and(|pid| pid != present));
    }
    service.kill_engine();
    wait::pass(Duration::from_millis(500));
    assert_eq!((service.pid("shop"), &service.status_json("shop")["run"]), (pid, &1.into()));
    procfs::signal("USR1", pid);
    wait::until("it was looked at again", LATER, || service.status_json("shop")["run"] == 2);
}

#[test]
fn what_is_ready_by_grpc_and_not_looked_at_again_wakes_nobody() {
    let service = Service::new();
    let at = address();
    serve(&service, "shop", &["--ready-grpc", &at], &[&at]);
    until_ready(&service, "shop");
    let ours = [service.keeper_pid(), service.engine_pid(), host(&service).unwrap()];
    let before = procfs::at_rest(&ours);
    wait::pass(Duration::from_secs(2));
    assert_eq!(ours.map(procfs::switches).iter().sum::<u64>() - before, 0, "wake-ups in 2 s");
}

#[test]
fn an_end_that_is_not_on_this_machine_is_refused() {
    let service = Service::new();
    for bad in ["10.0.0.1:50051", "shop.example:1", "unix:shop.sock", "127.0.0.1"] {
        let refused = service.cli(&["start", "--ready-grpc", bad, "--", "true"]);
        assert_eq!(refused.code, 2, "{bad}");
        let said = refused.err();
        assert!(said.contains("bad end of gRPC") && said.contains("unix:/PATH"), "{said}");
    }
}

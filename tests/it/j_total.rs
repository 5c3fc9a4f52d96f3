//! Declared for long: two hundred processes stopped, taken away and applied again, and an apply in the middle
//! of which something is killed. No second copy, and nothing is left over.

use std::fs;

use crate::harness::{LATER, Options, SOON, Service, procfs, rounds, wait};

const MANY: usize = 200;

fn copies() -> usize {
    procfs::with_command("sleep 72201").len()
}

/// What an apply by way of the command line, shown in a dry run, still has to do.
fn left_to_do(service: &Service, path: &str) -> usize {
    service.cli(&["apply", "--dry-run", "--json", path]).json().len()
}

#[test]
fn two_hundred_are_stopped_and_applied_again_ten_times() {
    let service = Service::new();
    let path = service.scratch().file("declared.toml");
    let declare = |label: u32| {
        let text = format!(
            "[process.one]\ncommand = ['sleep', '72201']\nlabels = {{ n = '{label}' }}\n[process.many]\n\
             instances = {}\ncommand = ['sleep', '72201']\nlog = '{{name}}.log'\nlabels = {{ n = '{label}' }}\n",
            MANY - 1
        );
        fs::write(&path, text).unwrap();
        service.ok(&["apply", "--yes", &path]);
    };
    let round = |n: u32| {
        declare(n);
        assert_eq!((service.list_json().len(), copies()), (MANY, MANY), "round {n}");
        service.ok(&["stop", "*"]);
        assert_eq!(copies(), 0, "round {n}");
        // A change of what rests starts nobody.
        declare(n + 1000);
        assert_eq!((copies(), left_to_do(&service, &path)), (0, 0), "round {n}");
        service.ok(&["start", "*"]);
        assert_eq!(copies(), MANY, "round {n}");
        fs::write(&path, "").unwrap();
        service.ok(&["apply", "--yes", &path]);
        assert_eq!((service.list_json().len(), copies()), (0, 0), "round {n}");
    };
    round(0);
    let before = service.footprint();
    let memory = || [service.keeper_pid(), service.engine_pid()].map(procfs::private_kib);
    round(1);
    let memory_before = memory();
    for n in 2..2 + rounds(10) {
        round(n);
    }
    service.until_footprint(before);
    for (what, (was, is)) in ["keeper", "engine"].iter().zip(memory_before.iter().zip(memory())) {
        assert!(is <= was + 4096, "{what}: {was} KiB before, {is} KiB after");
    }
    service.expect_no_zombies();
}

/// The keeper, and all the service, in the middle; the engine is in `j_apply.rs`.
#[test]
fn k4_a_service_that_is_killed_in_an_apply_goes_on_with_what_was_done() {
    for options in [Options::new(), Options::new().without_cgroups()] {
        let service = options.start();
        let path = service.scratch().file("declared.toml");
        for round in 0..rounds(3) {
            let one = |n: u32| {
                format!("[process.p-{n}]\ncommand = ['sleep', '72202']\nenv = {{ R = '{round}' }}\n")
            };
            fs::write(&path, (0..30).map(one).collect::<String>()).unwrap();
            let apply = service.background(&["apply", "--yes", &path]);
            apply.line_with("done", LATER);
            service.kill_service();
            // It has nobody to ask any more, and says so.
            assert_ne!(apply.end(LATER).code, 0);
            service.serve_again();
            wait::until("what was declared runs", SOON, || {
                service.list_json().iter().all(|p| p["state"] == "running")
            });
            let shown = left_to_do(&service, &path);
            assert!(shown > 0 && shown < 30, "{shown} are left to do");
            service.ok(&["apply", "--yes", &path]);
            assert_eq!((left_to_do(&service, &path), service.list_json().len()), (0, 30));
            for process in service.list_json() {
                let tree = service.tree_of(process["id"].as_str().unwrap());
                assert_eq!(tree.len(), 1, "one copy of each: {process}");
            }
            assert_eq!(procfs::with_command("sleep 72202").len(), 30);
        }
    }
}

/// Somebody applies from another machine, and the way there ends.
#[cfg(feature = "gateway")]
#[test]
fn k4_a_gateway_that_is_killed_in_an_apply_does_nothing_twice() {
    use crate::harness::Gateway;
    use crate::harness::gateway::User;
    let gateway = Gateway::start();
    let service = gateway.service();
    let path = gateway.file("declared.toml");
    for round in 0..rounds(3) {
        let one =
            |n: u32| format!("[process.p-{n}]\ncommand = ['sleep', '72203']\nenv = {{ R = '{round}' }}\n");
        fs::write(&path, (0..30).map(one).collect::<String>()).unwrap();
        let apply = gateway.background(User::Admin, &["apply", "--yes", &path]);
        apply.line_with("done", LATER);
        gateway.kill();
        // It may reach the next one, or have given up.
        let _ = apply.end(LATER);
        gateway.until_ready(round as usize + 2);
        gateway.cli(User::Admin, &["apply", "--yes", &path]).expect(0);
        assert_eq!((left_to_do(service, &path), service.list_json().len()), (0, 30));
        assert_eq!(procfs::with_command("sleep 72203").len(), 30);
        assert!(service.list_json().iter().all(|p| p["run"].as_u64().unwrap() <= u64::from(round) + 1));
    }
}

//! All providers end at once, within a limit, and whoever did not is named.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Registry, SOON, Scratch, procfs, wait};

const SHORT: &str = "[registry.health]
check_interval = '100ms'
timeout = '100ms'
failure_threshold = 1
[registry.lifecycle]
dispose_timeout = '3s'
graceful_shutdown_timeout = '6s'
";

/// Some that end by themselves, some that hang in the middle of it, and one that does nothing at all.
fn with_providers() -> (Scratch, Registry, Vec<u32>) {
    let scratch = Scratch::new();
    let registry = Registry::configured(&scratch, SHORT);
    registry.binary("hanging", "hang-in-shutdown");
    let register = |name: &str, binary: &str| {
        // Their own timeouts are longer than that of all.
        let timeouts = ["--shutdown-timeout", "1m", "--term-timeout", "1m"];
        registry.ok(&[&["register", name, "--binary", binary], &timeouts[..]].concat());
    };
    for n in 0..3 {
        register(&format!("fine{n}"), "fine");
        register(&format!("hanging{n}"), "hanging");
    }
    register("frozen", "fine");
    let names = ["fine0", "fine1", "fine2", "hanging0", "hanging1", "hanging2", "frozen"];
    let pids = names.iter().map(|name| registry.pid(name)).collect();
    procfs::signal("STOP", registry.pid("frozen"));
    (scratch, registry, pids)
}

#[test]
fn who_hangs_is_killed_in_time_and_named() {
    let (_scratch, registry, pids) = with_providers();
    let begin = Instant::now();
    let out = registry.cli(&["shutdown", "--json"]);
    assert!(begin.elapsed() < Duration::from_secs(7), "{:?}", begin.elapsed());
    out.expect(8);
    // SIGTERM has woken the frozen one, and it went.
    for name in ["hanging0", "hanging1", "hanging2"] {
        let line = format!("provider {name}: did not end by itself and was killed");
        assert!(out.err().contains(&line), "{}", out.err());
    }
    assert!(!out.err().contains("fine") && !out.err().contains("frozen"), "{}", out.err());
    let entries = out.json();
    assert!(entries.len() == 7 && entries.iter().all(|e| e["status"] == "disposed"), "{entries:?}");
    assert!(pids.into_iter().all(|pid| !procfs::alive(pid)));
    assert_eq!(registry.fetch_reason(6, "fine0"), "disposed");
    registry.ok(&["initialize", "fine0"]);
    registry.fetch("fine0").expect(0);
    // Nobody is checked any more while it ends.
    let kinds = registry.kinds_until("hanging0", "provider-error");
    assert_eq!(kinds[..2], ["provider-registered", "provider-started"]);
    assert!(!kinds.contains(&"health-status-changed".to_owned()), "{kinds:?}");
    assert!(registry.0.ok(&["audit"]).contains("shut down all providers in the registry: "));
}

#[test]
fn the_end_of_the_service_is_the_end_of_its_providers() {
    let (_scratch, registry, pids) = with_providers();
    let begin = Instant::now();
    registry.0.end();
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    assert!(pids.into_iter().all(|pid| !procfs::alive(pid)));
    let log = registry.0.log();
    let killed = |name: &str| format!("provider.default.{name}: did not end by itself and was killed");
    assert!(log.contains(&killed("hanging1")) && !log.contains(&killed("fine1")), "{log}");
    // The next one knows them, and that nobody has disposed of them.
    registry.0.serve_again();
    assert_eq!(registry.status("fine1"), "idle");
    registry.fetch("fine1").expect(0);
}

#[test]
fn a_call_that_is_under_way_does_not_hold_up_the_end() {
    let scratch = Scratch::new();
    let registry = Registry::configured(&scratch, SHORT);
    registry.register("app");
    let (begin, registry) = (Instant::now(), &registry);
    thread::scope(|scope| {
        let call = scope.spawn(|| registry.0.cli(&["provider", "fetch", "app", "hang"]));
        let is_asked = || {
            let output = registry.0.output("provider.default.app");
            String::from_utf8_lossy(&output).contains("for ever")
        };
        wait::until("it is asked", SOON, is_asked);
        registry.ok(&["shutdown"]);
        assert_ne!(call.join().expect("it does not panic").code, 0);
    });
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(registry.entry("app")["status"], json!("disposed"));
}

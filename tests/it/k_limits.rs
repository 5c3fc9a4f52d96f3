//! Limits where nothing sees to them: refused with the reason, or left out with a word. Where the kernel sees
//! to them, `k_limits_vm.rs` has them.

use crate::harness::{Options, SOON, Service, wait};

fn without() -> Service {
    Options::new().without_cgroups().start()
}

const WHY: &str = "memory_max cannot be kept: processes get no cgroups of their own here";

#[test]
fn a_limit_without_cgroups_is_refused_or_said_to_be_missing() {
    let service = without();
    let start = ["start", "--name", "web", "--memory-max", "64m"];
    let command = ["--", "sleep", "70000"];
    let refused = service.cli(&[&start[..], &command].concat());
    assert!(
        refused.expect(6).err().contains(WHY) && refused.err().contains("limits_optional"),
        "{refused:?}"
    );
    service.ok(&[&start[..], &["--limits-optional"], &command].concat());
    assert!(service.ok(&["status", "web"]).contains(&format!("without its limits: {WHY}")));
    let shown = service.cli(&["status", "web", "--json"]).expect(0).json().remove(0);
    assert_eq!(shown["limits_trouble"], WHY);
    assert_eq!(shown["limits"], serde_json::json!({ "memory_max": "64 MiB", "limits_optional": true }));
    service.until_said(WHY);
    // What runs is not changed into what would not be kept.
    let update = service.cli(&["update", "web", "--unset", "limits_optional", "--pids-max", "9"]);
    assert!(update.expect(6).err().contains("cannot be kept"), "{update:?}");
    service.ok(&["update", "web", "--unset", "memory_max", "--unset", "limits_optional"]);
    let is_plain = || !service.ok(&["status", "web"]).contains("limits");
    wait::until("nothing is said of limits", SOON, is_plain);
}

#[test]
fn apply_refuses_it_too_and_doctor_says_why() {
    let service = without();
    let path = service.scratch().file("declared.toml");
    let text = "[process.web]\ncommand = ['sleep', '70000']\nmemory_max = '64 MiB'\n";
    std::fs::write(&path, text).unwrap();
    let applied = service.cli(&["apply", "--yes", &path]);
    assert_ne!(applied.code, 0);
    assert!(applied.err().contains(WHY) || applied.out().contains(WHY), "{applied:?}");
    let doctor = service.cli(&["doctor", "--json"]).expect(0).json().remove(0);
    let of = |name: &str| {
        let all = doctor["controllers"].as_array().unwrap();
        all.iter().find(|c| c["name"] == name).unwrap()["trouble"].as_str().unwrap().to_owned()
    };
    assert!(of("memory").contains("no cgroups") && of("io").contains("no cgroups"), "{doctor}");
    assert!(service.ok(&["doctor"]).contains("limits: none of cgroups\n"));
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let service = without();
    for (options, why) in [
        ([["--memory-max", "4k"], ["--nice", "1"]], "under 1 MiB"),
        ([["--memory-max", "64m"], ["--restart-above", "64m"]], "not below memory_max"),
        ([["--memory-high", "64m"], ["--restart-above", "32m"]], "only one of them"),
        ([["--cpu-quota", "many"], ["--nice", "1"]], "as \"1.5\" or \"150%\""),
        ([["--cpu-weight", "0"], ["--nice", "1"]], "from 1 to 10000"),
    ] {
        let refused = service.cli(&[&["start"], &options.concat()[..], &["--", "true"]].concat());
        assert!(refused.expect(2).err().contains(why), "{options:?}: {refused:?}");
    }
}

//! A provider that names what is another's: it is refused everywhere, and the other one does not notice.

use std::process::Command;

use serde_json::json;

use crate::g_clients::installed;
use crate::harness::SOON;
use crate::harness::cli::run;
use crate::plane::Plane;

#[test]
fn foreign_ids_are_refused_and_change_nothing() {
    let plane = Plane::start();
    let victim = plane.outside(&["victim"], &[]);
    let id = plane.connections()[0]["id"].as_str().expect("it has one").to_owned();
    let here = |path: &str| format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    let mut intruder = Command::new(installed("python/bin/python3"));
    intruder.arg(here("tests/clients/intruder.py")).args([&*plane.address, "own", "victim", &*id]);
    intruder.env("PROTO", here("proto"));
    let out = run(intruder, SOON);
    let said = out.expect(0).out();
    let said: Vec<_> = said.lines().map(str::trim_end).collect();
    assert_eq!(
        said,
        [
            "taken: False Namespace victim is owned by another provider",
            "group: False Namespace victim is owned by another provider",
            "unknown: 0 acknowledged, then NOT_FOUND",
            "empty: 0 acknowledged, then NOT_FOUND",
            // Its own, an empty one on its own stream, and then the other's.
            "second: 3 acknowledged, then PERMISSION_DENIED",
            // That one has its stream already.
            "theirs: 0 acknowledged, then ALREADY_EXISTS",
            "by mine: False wrong namespace owner",
            "mine by theirs: False wrong namespace owner",
            "by none: False wrong namespace owner",
            "mine: True ",
            // Without an id: what was registered over the same channel.
            "mine by none: True ",
        ]
        .map(str::trim_end),
        "{out:?}"
    );
    let all = plane.connections();
    assert_eq!((all.len(), &all[0]["id"], &all[0]["state"]), (1, &json!(id), &json!("active")), "{all:?}");
    assert_eq!(plane.call("victim.who", &json!({})), victim.pid());
    assert!(victim.is_running());
}

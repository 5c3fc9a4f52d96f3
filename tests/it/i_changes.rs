//! A provider that registers again with other types: what callers do not notice is shown, what would break
//! them is refused until somebody allows it.

use serde_json::json;

use crate::harness::SOON;
use crate::plane::Plane;

#[test]
fn other_types_are_shown_and_those_that_break_callers_have_to_be_allowed() {
    let plane = Plane::start();
    let first = plane.outside(&["demo"], &[]);
    let executor = plane.connections()[0]["executor"].as_str().map(str::to_owned).expect("it has one");
    let port = executor.rsplit_once(':').expect("it has a port").1;
    // The same executor, so it takes the place of the first one.
    let again = |more: &str| plane.begin(&["demo"], &[("EXECUTOR", port), ("MORE", more)]);
    let refused = again("c").end(SOON);
    let said = refused.expect(3).out();
    let why = "its types change so that callers may fail: input.c: Int, is new ('provost module allow demo.add' lets it)";
    assert!(said.contains(&format!("rejected add: {why}")), "{said}");
    assert!(said.contains("rejected who: another module of this registration is refused"), "{said}");
    // What is there goes on as if nothing had been.
    assert_eq!(plane.call("demo.add", &json!({ "a": 6, "b": 7 })), 13);
    assert!(first.is_running() && plane.connections().len() == 1);
    assert_eq!(plane.cli(&["schema", "demo.add"]).expect(0).out(), "demo.add(a: Int, b: Int) -> Int");

    let optional = again("c?");
    optional.line_with("active ", SOON);
    assert_eq!(
        plane.cli(&["schema", "demo.add"]).expect(0).out(),
        "demo.add(a: Int, b: Int, c: Int?) -> Int\nchanged: input.c: Int?, is new"
    );
    assert_eq!(plane.call("demo.add", &json!({ "a": 6, "b": 7 })), 13);
    assert_eq!(plane.cli(&["show", "demo.add", "--json"]).json()[0]["changes"], "input.c: Int?, is new");

    plane.cli(&["allow", "demo.nothing"]).expect(4);
    plane.cli(&["allow", "demo.add"]).expect(0);
    let other = again("c");
    other.line_with("active ", SOON);
    let shown = plane.cli(&["show", "demo.add"]).expect(0).out();
    assert!(shown.contains("changed: input.c: Int, was Int?"), "{shown}");
    plane.cli(&["call", "demo.add", "--input", r#"{"a": 6, "b": 7}"#]).expect(2);
    // It was allowed once.
    assert!(plane.log("provost.host").contains("demo.add: its types have changed: input.c: Int, was Int?"));
    let refused = plane.begin(&["demo"], &[("EXECUTOR", port)]).end(SOON);
    drop((optional, other));
    assert!(refused.expect(3).out().contains("input.c: gone, was Int"), "{refused:?}");
}

//! Modules over gRPC: what each role may do with them, from another machine.

use serde_json::json;

use crate::harness::gateway::User;
use crate::harness::{Gateway, Options, SOON, free_port};
use crate::plane::provider;

#[test]
fn modules_are_called_through_the_gateway_by_those_who_may() {
    let address = format!("127.0.0.1:{}", free_port());
    let gateway = Gateway::with(Options::new(), &format!("[modules]\nlisten = '{address}'\n"));
    gateway.service().ok(&["wait", "provost.host", "--for", "ready"]);
    let adder = provider(&address, &["demo"], &[]);
    adder.line_with("active ", SOON);
    let run = |user, args: &[&str]| gateway.cli(user, &[&["module"], args].concat());
    let call = ["call", "demo.add", "--input", "{\"a\": 6, \"b\": 7}"];
    assert_eq!(run(User::Operator, &call).expect(0).json(), [json!(13)]);
    let trace = run(User::Operator, &["call", "demo.trace", "--metadata", "traceparent=00-1"]);
    assert_eq!(trace.expect(0).json(), [json!("00-1")]);
    let refused = run(User::Viewer, &call);
    refused.expect(6);
    assert!(refused.err().contains("may not call a module"), "{refused:?}");
    for (args, code, what) in [
        (&["call", "demo.add", "--input", "{\"a\": 1}"][..], 2, "b: it is missing"),
        (&["call", "demo.none"], 4, "no module demo.none"),
        (&["call", "demo.fail"], 1, "[RUNTIME_ERROR]"),
        (&["call", "demo.hang", "--timeout", "300ms"], 5, "no answer within 300 ms"),
    ] {
        let out = run(User::Operator, args);
        out.expect(code);
        assert!(out.err().contains(what), "{out:?}");
    }
    assert!(run(User::Viewer, &["list"]).expect(0).out().contains("demo.add(a: Int, b: Int) -> Int"));
    let all = run(User::Viewer, &["connections", "--json"]).json();
    assert_eq!((&all[0]["state"], all[0]["requests"].as_u64()), (&json!("active"), Some(4)), "{all:?}");
    let drain = ["drain", all[0]["id"].as_str().expect("it has one")];
    run(User::Operator, &drain).expect(6);
    run(User::Admin, &drain).expect(0);
    run(User::Operator, &call).expect(1);
}

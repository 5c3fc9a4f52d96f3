//! Tests of the plane: ownership, turns, and what time does.

use super::*;

const BEAT: u64 = 15_000;
const CONTROL: u64 = 30_000;

fn plane() -> Plane {
    Plane::new(ModuleLimits::default())
}

fn declared(name: &str) -> Declared {
    let (version, description) = (String::new(), String::new());
    Declared { name: name.into(), input: Ok(Type::Int), output: Ok(Type::Int), version, description }
}

fn registration(namespace: &str, group: Option<&str>, port: u16, names: &[&str]) -> Registration {
    Registration {
        namespace: namespace.into(),
        group: group.map(Into::into),
        executor_url: format!("localhost:{port}"),
        modules: names.iter().map(|name| declared(name)).collect(),
        protocol_version: PROTOCOL_VERSION,
        replaces: None,
    }
}

/// Registers; the reasons of the rejections.
fn register(plane: &mut Plane, id: &str, r: Registration) -> Vec<String> {
    plane.register(r, id, 0).results.into_iter().filter_map(|(_, result)| result.err()).collect()
}

/// Who is next for this module, as a call that ends at once.
fn turn(plane: &mut Plane, name: &str) -> String {
    let member = plane.next(name, &[]).unwrap();
    plane.done(&member.id, None);
    member.id
}

#[test]
fn every_state_and_every_event() {
    use Event::{Bound, DrainBegun, DrainRefused, Ended};
    use State::{Active, Disconnected, Draining, Registered};
    for (state, after) in [
        (Registered, [Some(Active), None, None, Some(Disconnected)]),
        (Active, [None, Some(Draining), None, Some(Disconnected)]),
        (Draining, [None, None, Some(Active), Some(Disconnected)]),
        (Disconnected, [None; 4]),
    ] {
        assert_eq!(
            [Bound, DrainBegun, DrainRefused, Ended].map(|event| state.after(event)),
            after,
            "{state:?}"
        );
    }
}

#[test]
fn a_namespace_has_one_owner() {
    for (first, second, reason) in [
        (None, None, "another provider"),
        (None, Some("g"), "another provider"),
        (Some("g"), Some("h"), "different provider group"),
        (Some("g"), None, "another provider"),
        (Some("g"), Some("g"), ""),
    ] {
        let mut plane = plane();
        assert!(register(&mut plane, "a", registration("ns", first, 1, &["m"])).is_empty());
        let why = register(&mut plane, "b", registration("ns", second, 2, &["m"])).join("");
        assert!(
            if reason.is_empty() { why.is_empty() } else { why.contains(reason) },
            "{first:?} {second:?}: {why}"
        );
    }
}

#[test]
fn what_is_rejected_whole_leaves_no_trace() {
    let mut plane = plane();
    let mut bad = registration("ns", None, 1, &["a b"]);
    assert_eq!(register(&mut plane, "a", bad).len(), 1);
    bad = registration("ns", None, 0, &["m", "n"]);
    assert_eq!(register(&mut plane, "a", bad).len(), 2);
    assert!(register(&mut plane, "a", registration("stdlib.x", None, 1, &["m"]))[0].contains("reserved"));
    bad = Registration { executor_url: "example.com:1".into(), ..registration("ns", None, 1, &["m"]) };
    assert!(register(&mut plane, "a", bad)[0].contains("of this machine"));
    let old = Registration { protocol_version: 0, ..registration("ns", None, 1, &["m"]) };
    assert!(register(&mut plane, "a", old)[0].contains("below 1"));
    assert!(plane.connections().is_empty() && plane.modules().is_empty());
    assert!(register(&mut plane, "b", registration("ns", Some("g"), 2, &["m"])).is_empty());
}

#[test]
fn of_a_request_that_is_accepted_in_part_exactly_that_part_is_kept() {
    let mut plane = plane();
    let mut r = registration("ns", None, 1, &["good", "good", "b ad", "worse"]);
    r.modules[3].input = Err("Missing input_schema".into());
    let why = register(&mut plane, "a", r);
    assert_eq!(why.len(), 3);
    assert!(why[0].contains("twice") && why[1].contains("alphanumeric") && why[2].contains("input schema"));
    assert_eq!(plane.modules().into_keys().collect::<Vec<_>>(), ["ns.good"]);
}

#[test]
fn turns_are_exactly_fair_when_members_come_and_go() {
    let mut plane = plane();
    for (n, id) in ["a", "b", "c"].into_iter().enumerate() {
        let port = u16::try_from(n + 1).unwrap();
        register(&mut plane, id, registration("ns", Some("g"), port, &["m"]));
    }
    let turns: Vec<_> = (0..5).map(|_| turn(&mut plane, "ns.m")).collect();
    assert_eq!(turns, ["a", "b", "c", "a", "b"]);
    plane.remove("a");
    let turns: Vec<_> = (0..4).map(|_| turn(&mut plane, "ns.m")).collect();
    assert_eq!(turns, ["c", "b", "c", "b"]);
}

#[test]
fn only_members_that_have_a_module_execute_it() {
    let mut plane = plane();
    register(&mut plane, "a", registration("ns", Some("g"), 1, &["m", "only"]));
    register(&mut plane, "b", registration("ns", Some("g"), 2, &["m"]));
    assert_eq!([0; 3].map(|_| turn(&mut plane, "ns.only")), ["a", "a", "a"]);
    let mut other = registration("ns", Some("g"), 3, &["m"]);
    other.modules[0].output = Ok(Type::String);
    assert!(register(&mut plane, "c", other)[0].contains("differ"));
    plane.remove("a");
    assert!(matches!(plane.next("ns.only", &[]), Err(NoMember::Unknown)));
    assert_eq!(turn(&mut plane, "ns.m"), "b");
}

#[test]
fn who_is_silent_is_gone_and_nobody_else() {
    let mut plane = plane();
    for (id, namespace, port) in [("a", "x", 1), ("b", "y", 2), ("c", "z", 3)] {
        register(&mut plane, id, registration(namespace, None, port, &["m"]));
    }
    plane.bind("a", 0).unwrap();
    plane.bind("b", 0).unwrap();
    plane.heartbeat("b", 10_000);
    assert!(plane.sweep(BEAT).ended.is_empty(), "the limit itself is not over it");
    let ended = |sweep: Sweep| sweep.ended.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ended(plane.sweep(BEAT + 1)), ["a"]);
    assert_eq!(ended(plane.sweep(25_001)), ["b"]);
    assert!(plane.sweep(CONTROL).ended.is_empty());
    assert_eq!(ended(plane.sweep(CONTROL + 1)), ["c"], "its stream never came");
    assert!(plane.modules().is_empty() && plane.sweep_due().is_none());
}

#[test]
fn a_stream_is_bound_once() {
    let mut plane = plane();
    assert_eq!(plane.bind("a", 0), Err(Unbound::Unknown));
    register(&mut plane, "a", registration("x", None, 1, &["m"]));
    assert_eq!(plane.bind("a", 0), Ok(()));
    assert_eq!(plane.bind("a", 0), Err(Unbound::Twice));
    assert_eq!(plane.sweep_due(), Some(BEAT + 1));
    let reports = (0..=2).flat_map(|n| {
        plane.heartbeat("a", n * 14_000 + 2_000);
        plane.sweep(n * 14_000 + 2_000).reports
    });
    assert_eq!(reports.collect::<Vec<_>>(), [("a".to_owned(), vec!["m".to_owned()])]);
}

#[test]
fn what_drains_gets_nothing_new_and_ends_in_time() {
    let mut plane = plane();
    register(&mut plane, "a", registration("x", None, 1, &["m"]));
    assert!(!plane.drain("a", 1000), "its stream has not begun");
    plane.bind("a", 0).unwrap();
    assert!(plane.drain("a", 1000) && !plane.drain("a", 1000));
    let Err(NoMember::NoneHealthy(why)) = plane.next("x.m", &[]) else { panic!("it drains") };
    assert!(why.contains("draining"), "{why}");
    plane.heartbeat("a", 500);
    assert!(plane.sweep(1000).ended.is_empty(), "heartbeats do not undo it, and it has its time");
    plane.refuse_drain("a", 900);
    assert_eq!(turn(&mut plane, "x.m"), "a");
    assert!(plane.drain("a", 1000));
    assert_eq!(plane.sweep(1001).ended.len(), 1);
}

#[test]
fn only_the_connection_itself_takes_its_modules_back() {
    let mut plane = plane();
    register(&mut plane, "a", registration("x", Some("g"), 1, &["m", "n"]));
    register(&mut plane, "b", registration("x", Some("g"), 2, &["m"]));
    register(&mut plane, "c", registration("y", None, 3, &["m"]));
    let names = ["m".to_owned(), "none".to_owned()];
    for id in ["c", "", "unknown"] {
        assert_eq!(plane.deregister(id, "x", &names).0, [Err("wrong namespace owner"); 2], "{id:?}");
    }
    assert_eq!(plane.deregister("a", "nobody", &names).0, [Err("wrong namespace owner"); 2]);
    assert_eq!(plane.deregister("z", "nobody", &names).0, [Err("not found"); 2]);
    assert_eq!(plane.modules()["x.m"].1, 2);
    assert_eq!(plane.deregister("a", "x", &names), (vec![Ok(()), Err("not found")], false));
    assert_eq!([0; 2].map(|_| turn(&mut plane, "x.m")), ["b", "b"]);
    assert_eq!(plane.deregister("a", "x", &["n".to_owned()]), (vec![Ok(())], true));
    assert_eq!(plane.connections().into_keys().collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn the_same_executor_registers_again_in_its_own_place() {
    let mut plane = plane();
    register(&mut plane, "a", registration("x", None, 1, &["m"]));
    let replaced = plane.register(registration("x", None, 1, &["m", "n"]), "b", 0).replaced;
    assert_eq!(replaced.as_deref(), Some("a"));
    assert_eq!(plane.connections().into_keys().collect::<Vec<_>>(), ["b"]);
    let named = Registration { replaces: Some("b".into()), ..registration("x", None, 9, &["m"]) };
    assert_eq!(plane.register(named, "c", 0).replaced.as_deref(), Some("b"));
    assert!(plane.next("x.n", &[]).is_err());
    assert_eq!(turn(&mut plane, "x.m"), "c");
}

#[test]
fn who_was_tried_is_not_tried_again() {
    let mut plane = plane();
    register(&mut plane, "a", registration("x", Some("g"), 1, &["m"]));
    register(&mut plane, "b", registration("x", Some("g"), 2, &["m"]));
    let first = plane.next("x.m", &[]).unwrap();
    plane.done(&first.id, Some("cannot connect".into()));
    let second = plane.next("x.m", std::slice::from_ref(&first.id)).unwrap();
    assert_ne!(first.id, second.id);
    plane.done(&second.id, Some("cannot connect".into()));
    let Err(NoMember::NoneHealthy(why)) = plane.next("x.m", &[first.id, second.id]) else {
        panic!("all were")
    };
    assert_eq!(why, "localhost:1: cannot connect; localhost:2: cannot connect");
    assert_eq!(plane.connections()["a"].errors, 1);
}

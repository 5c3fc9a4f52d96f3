//! Tests of the plane: ownership, turns, and what time does.

use std::time::Duration;

use super::*;
use crate::module::plane::register::{Declared, Registration};
use crate::module::plane::turns::{Ended, Member, NoMember, Nobody, Said};
use crate::sdk::module::protocol::PROTOCOL_VERSION;
use crate::sdk::module::schema::Type;

const BEAT: u64 = 15_000;
const CONTROL: u64 = 30_000;

pub fn plane() -> Plane {
    Plane::new(ModuleLimits::default())
}

fn declared(name: &str) -> Declared {
    let (version, description) = (String::new(), String::new());
    Declared { name: name.into(), input: Ok(Type::Int), output: Ok(Type::Int), version, description }
}

pub fn registration(namespace: &str, group: Option<&str>, port: u16, names: &[&str]) -> Registration {
    Registration {
        namespace: namespace.into(),
        group: group.map(Into::into),
        executor_url: format!("localhost:{port}"),
        modules: names.iter().map(|name| declared(name)).collect(),
        protocol_version: PROTOCOL_VERSION,
        replaces: None,
        owner: Owner::default(),
        channel: String::new(),
        len: 0,
    }
}

/// Registers; the reasons of the rejections.
pub fn register(plane: &mut Plane, id: &str, r: Registration) -> Vec<String> {
    plane.register(r, id, 0).results.into_iter().filter_map(|(_, result)| result.err()).collect()
}

/// Whose turn it is, at this time.
fn next_at(plane: &mut Plane, name: &str, tried: &[String], now_ms: u64) -> Result<Member, NoMember> {
    plane.next(name, tried, None, now_ms).map_err(|nobody| plane.why_none(nobody, name, tried))
}

pub fn next(plane: &mut Plane, name: &str, tried: &[String]) -> Result<Member, NoMember> {
    next_at(plane, name, tried, 0)
}

pub fn end(plane: &mut Plane, member: Member, said: Said, now_ms: u64) {
    let error = (said != Said::Answered).then(|| "cannot connect".to_owned());
    plane.done(member, Ended { said, error, took_us: 3000 }, now_ms);
}

/// Who is next for this module, as a call that ends at once.
pub fn turn(plane: &mut Plane, name: &str) -> String {
    let member = next(plane, name, &[]).unwrap();
    let id = member.id.clone();
    end(plane, member, Said::Answered, 0);
    id
}

#[test]
fn every_state_and_every_event() {
    use Event::{Bound, DrainBegun, DrainRefused, Ended};
    use State::{Active, Disconnected, Draining, Registered, Restored};
    for (state, after) in [
        (Registered, [Some(Active), None, None, Some(Disconnected)]),
        (Restored, [Some(Active), Some(Draining), None, Some(Disconnected)]),
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
fn i6_what_registrations_take_has_limits() {
    let mut plane = plane();
    let of = |n: usize, len: usize| Registration { len, ..registration(&format!("n{n}"), None, 1, &["m"]) };
    assert!(register(&mut plane, "a", of(0, 16 << 20)).is_empty());
    assert!(register(&mut plane, "b", of(1, 1))[0].contains("all registrations together"));
    plane.remove("a");
    for n in 0..2000 {
        assert!(register(&mut plane, &n.to_string(), of(n, 1)).is_empty());
    }
    assert!(register(&mut plane, "b", of(2000, 1))[0].contains("2000 connections already"));
    (0..2000).for_each(|n| drop(plane.remove(&n.to_string())));
    // One certificate leaves some for others.
    let owner = Owner::new(&["dns:a".to_owned()]);
    let own = |n: usize| Registration { owner: owner.clone(), ..of(n, 1) };
    let all = (0..600).filter(|n| register(&mut plane, &n.to_string(), own(*n)).is_empty());
    assert_eq!(all.count(), 500);
    assert!(register(&mut plane, "b", of(700, 1)).is_empty());
    let group = Registration { group: Some("g".repeat(201)), ..of(701, 1) };
    assert!(register(&mut plane, "c", group)[0].contains("group_id"));
}

#[test]
fn i2_whoever_would_be_gone_has_a_moment_more_when_it_was_this_process_that_was_late() {
    let mut plane = plane();
    for (id, namespace, port) in [("a", "x", 1), ("b", "y", 2)] {
        register(&mut plane, id, registration(namespace, None, port, &["m"]));
        plane.bind(id, &Owner::default(), 0).unwrap();
    }
    plane.excuse(60_000);
    plane.heartbeat("a", 60_001);
    assert!(plane.sweep(65_000).ended.is_empty());
    assert_eq!(plane.sweep(65_001).ended[0].0, "b");
    assert_eq!(plane.sweep(75_002).ended[0].0, "a");
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
fn types_that_break_callers_are_refused_until_they_are_allowed_once() {
    let mut plane = plane();
    assert!(!plane.allow_change("ns.m"), "there is none");
    assert!(register(&mut plane, "a", registration("ns", None, 1, &["m", "n"])).is_empty());
    let other = |output: Type| {
        let mut r = registration("ns", None, 1, &["m", "n", "b ad"]);
        r.modules[0].output = Ok(output);
        r
    };
    let why = register(&mut plane, "b", other(Type::Float));
    assert!(why[0].contains("output: Float, was Int") && why[0].contains("module allow ns.m"), "{why:?}");
    assert!(why[1].contains("another module") && why[2].contains("alphanumeric"), "{why:?}");
    assert_eq!(plane.connections().into_keys().collect::<Vec<_>>(), ["a"]);
    assert!(plane.allow_change("ns.m"));
    assert_eq!(register(&mut plane, "c", other(Type::Float)).len(), 1);
    assert_eq!(plane.modules()["ns.m"].changes, "output: Float, was Int");
    assert_eq!(register(&mut plane, "d", other(Type::String)).len(), 3, "it was allowed once");
    // What callers do not notice needs nobody's word, and the same types are no change.
    assert_eq!(register(&mut plane, "e", other(Type::Int)).len(), 1);
    assert_eq!(plane.modules()["ns.m"].changes, "output: Int, was Float");
    assert_eq!(register(&mut plane, "f", other(Type::Int)).len(), 1);
    assert_eq!(plane.modules()["ns.m"].changes, "");
    // Whoever comes when nobody is there begins anew.
    plane.remove("f");
    assert_eq!(register(&mut plane, "g", other(Type::String)).len(), 1);
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
    assert!(matches!(next(&mut plane, "ns.only", &[]), Err(NoMember::Unknown)));
    assert_eq!(turn(&mut plane, "ns.m"), "b");
}

#[test]
fn i1_i2_who_is_silent_is_gone_in_its_time_and_nobody_else() {
    let mut plane = plane();
    for (id, namespace, port) in [("a", "x", 1), ("b", "y", 2), ("c", "z", 3)] {
        register(&mut plane, id, registration(namespace, None, port, &["m"]));
    }
    plane.bind("a", &Owner::default(), 0).unwrap();
    plane.bind("b", &Owner::default(), 0).unwrap();
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
    assert_eq!(plane.bind("a", &Owner::default(), 0), Err(Unbound::Unknown));
    register(&mut plane, "a", registration("x", None, 1, &["m"]));
    assert_eq!(plane.bind("a", &Owner::default(), 0), Ok(()));
    assert_eq!(plane.bind("a", &Owner::default(), 0), Err(Unbound::Twice));
    assert_eq!(probed(&mut plane, 0), ["a"]);
    plane.probed("a", Ok(()), 0);
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
    plane.bind("a", &Owner::default(), 0).unwrap();
    assert!(plane.drain("a", 1000) && !plane.drain("a", 1000));
    let Err(NoMember::NoneHealthy(why)) = next(&mut plane, "x.m", &[]) else { panic!("it drains") };
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
        assert_eq!(
            plane.deregister(id, &Owner::default(), "x", &names).0,
            [Err("wrong namespace owner"); 2],
            "{id:?}"
        );
    }
    assert_eq!(
        plane.deregister("a", &Owner::default(), "nobody", &names).0,
        [Err("wrong namespace owner"); 2]
    );
    assert_eq!(plane.deregister("z", &Owner::default(), "nobody", &names).0, [Err("not found"); 2]);
    assert_eq!(plane.modules()["x.m"].members, 2);
    assert_eq!(
        plane.deregister("a", &Owner::default(), "x", &names),
        (vec![Ok(()), Err("not found")], false)
    );
    assert_eq!([0; 2].map(|_| turn(&mut plane, "x.m")), ["b", "b"]);
    assert_eq!(plane.deregister("a", &Owner::default(), "x", &["n".to_owned()]), (vec![Ok(())], true));
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
    assert!(next(&mut plane, "x.n", &[]).is_err());
    assert_eq!(turn(&mut plane, "x.m"), "c");
}

#[test]
fn who_was_tried_is_not_tried_again() {
    let mut plane = plane();
    register(&mut plane, "a", registration("x", Some("g"), 1, &["m"]));
    register(&mut plane, "b", registration("x", Some("g"), 2, &["m"]));
    let first = next(&mut plane, "x.m", &[]).unwrap();
    let mut tried = vec![first.id.clone()];
    end(&mut plane, first, Said::Unreached, 0);
    let second = next(&mut plane, "x.m", &tried).unwrap();
    assert_ne!(second.id, tried[0]);
    tried.push(second.id.clone());
    end(&mut plane, second, Said::Unreached, 0);
    let Err(NoMember::NoneHealthy(why)) = next(&mut plane, "x.m", &tried) else { panic!("all were") };
    assert_eq!(why, "localhost:1: cannot connect; localhost:2: cannot connect");
    assert_eq!(plane.connections()["a"].totals().errors, 1);
}

/// Those that are probed at this time.
fn probed(plane: &mut Plane, now_ms: u64) -> Vec<String> {
    plane.sweep(now_ms).probes.into_iter().map(|(id, _)| id).collect()
}

#[test]
fn an_executor_is_probed_and_one_that_is_deaf_gets_no_calls_until_it_answers() {
    let mut plane = plane();
    register(&mut plane, "a", registration("x", None, 1, &["m"]));
    plane.bind("a", &Owner::default(), 0).unwrap();
    assert_eq!(probed(&mut plane, 0), ["a"]);
    assert!(probed(&mut plane, 0).is_empty(), "one probe at a time");
    assert!(plane.probed("a", Err("nobody listens".into()), 10).is_some());
    assert_eq!(plane.connections()["a"].state_name(), "deaf");
    let Err(NoMember::NoneHealthy(why)) = next(&mut plane, "x.m", &[]) else { panic!("it is deaf") };
    assert!(why.contains("deaf, nobody listens"), "{why}");
    assert_eq!(plane.modules()["x.m"].members, 0);
    assert!(probed(&mut plane, 5009).is_empty());
    assert_eq!(probed(&mut plane, 5010), ["a"]);
    assert!(plane.probed("a", Ok(()), 5020).is_some());
    assert_eq!(turn(&mut plane, "x.m"), "a");
    assert_eq!(plane.connections()["a"].state_name(), "active");
    assert!(probed(&mut plane, 14_000).is_empty(), "its calls show how it is");
    let member = next_at(&mut plane, "x.m", &[], 14_000).unwrap();
    end(&mut plane, member, Said::Silent, 14_001);
    assert_eq!(probed(&mut plane, 14_001), ["a"], "a call was not answered");
}

#[test]
fn i17_what_was_restored_is_there_while_its_executor_answers() {
    let mut plane = plane();
    let r = registration("x", None, 1, &["m"]);
    assert!(plane.restore(r, "a", Timestamp(5), 0).results[0].1.is_ok());
    assert_eq!(plane.connections()["a"].state_name(), "restored");
    assert_eq!(turn(&mut plane, "x.m"), "a");
    for n in 0..20 {
        assert_eq!(probed(&mut plane, n * 5000), ["a"], "{n}");
        plane.probed("a", Ok(()), n * 5000);
    }
    let last = 19 * 5000;
    for n in 1..=3 {
        assert_eq!(probed(&mut plane, last + n * 5000), ["a"], "{n}");
        plane.probed("a", Err("gone".into()), last + n * 5000);
    }
    assert!(plane.knows("a"));
    assert_eq!(plane.sweep(last + BEAT + 1).ended.len(), 1);
    assert!(!plane.knows("a"));
}

#[test]
fn a_provider_that_registers_again_takes_the_place_of_what_was_restored() {
    let mut plane = plane();
    plane.restore(registration("x", None, 1, &["m"]), "a", Timestamp(5), 0);
    assert!(register(&mut plane, "z", registration("x", None, 2, &["m"]))[0].contains("another provider"));
    let replaced = plane.register(registration("x", None, 1, &["m"]), "b", 0).replaced;
    assert_eq!(replaced.as_deref(), Some("a"));
    // One whose stream comes back with its old id goes on.
    plane.restore(registration("y", None, 3, &["m"]), "c", Timestamp(5), 0);
    assert_eq!(plane.bind("c", &Owner::default(), 0), Ok(()));
    assert_eq!(plane.connections()["c"].state_name(), "active");
}

#[test]
fn i11_a_member_that_keeps_failing_is_ejected_for_a_while_unless_it_is_the_last() {
    let mut plane = plane();
    register(&mut plane, "a", registration("x", Some("g"), 1, &["m"]));
    register(&mut plane, "b", registration("x", Some("g"), 2, &["m"]));
    for now in 0..10 {
        let member = next_at(&mut plane, "x.m", &[], now).unwrap();
        let said = if member.id == "a" { Said::Broken } else { Said::Answered };
        end(&mut plane, member, said, now);
    }
    for now in 10..20 {
        let member = next_at(&mut plane, "x.m", &[], now).unwrap();
        assert_eq!(member.id, "b");
        end(&mut plane, member, Said::Answered, now);
    }
    let why = plane.connections()["a"].out().unwrap();
    assert!(why.contains("ejected after failures: cannot connect"), "{why}");
    // The other one is the last of them: however often it fails, it is asked.
    for now in 20..30 {
        let member = next_at(&mut plane, "x.m", &[], now).unwrap();
        assert_eq!(member.id, "b");
        end(&mut plane, member, Said::Broken, now);
    }
    assert_eq!(plane.connections()["b"].out(), None);
    let later: Vec<_> = (0..2)
        .map(|_| {
            let member = next_at(&mut plane, "x.m", &[], 12_000).unwrap();
            let id = member.id.clone();
            end(&mut plane, member, Said::Answered, 12_000);
            id
        })
        .collect();
    assert!(later.contains(&"a".to_owned()), "it is tried again: {later:?}");
    assert_eq!(plane.connections()["a"].out(), None);
}

#[test]
fn i15_calls_over_the_limit_of_a_member_wait_in_their_order() {
    let limits = ModuleLimits { member_calls: 1, member_queue: 2, ..ModuleLimits::default() };
    let mut plane = Plane::new(limits);
    register(&mut plane, "a", registration("x", None, 1, &["m"]));
    let first = next(&mut plane, "x.m", &[]).unwrap();
    let Err(NoMember::Busy(why)) = next(&mut plane, "x.m", &[]) else { panic!("it has one") };
    assert_eq!(why, "localhost:1: 1 calls are under way");
    let (one, two) = (plane.queue("x.m").unwrap(), plane.queue("x.m").unwrap());
    assert_eq!(plane.queue("x.m"), None, "the queue has its limit");
    end(&mut plane, first, Said::Answered, 0);
    assert!(matches!(plane.next("x.m", &[], None, 0), Err(Nobody::Busy)), "others wait before it");
    assert!(matches!(plane.next("x.m", &[], Some(two), 0), Err(Nobody::Busy)));
    let second = plane.next("x.m", &[], Some(one), 0).unwrap();
    plane.leave_queue("x.m", one);
    end(&mut plane, second, Said::Answered, 0);
    assert!(plane.next("x.m", &[], Some(two), 0).is_ok());
}

#[test]
fn i16_retries_have_a_budget_that_calls_earn() {
    let mut plane = plane();
    register(&mut plane, "a", registration("x", None, 1, &["m"]));
    assert_eq!((0..20).filter(|_| plane.may_retry("x.m", 0)).count(), 10);
    for _ in 0..9 {
        turn(&mut plane, "x.m");
    }
    assert!(!plane.may_retry("x.m", 0));
    turn(&mut plane, "x.m");
    assert!(plane.may_retry("x.m", 0));
}

#[test]
fn what_the_holder_of_a_certificate_has_is_no_other_ones() {
    let mut plane = plane();
    let (owner, other) = (Owner::new(&["dns:a".to_owned()]), Owner::new(&["dns:b".to_owned()]));
    let of = |owner: &Owner| Registration { owner: owner.clone(), ..registration("x", Some("g"), 1, &["m"]) };
    register(&mut plane, "a", of(&owner));
    for stranger in [&other, &Owner::default()] {
        assert_eq!(plane.bind("a", stranger, 0), Err(Unbound::Unknown));
        let names = ["m".to_owned()];
        assert_eq!(plane.deregister("a", stranger, "x", &names).0, [Err("wrong namespace owner")]);
        let r = Registration { replaces: Some("a".into()), ..of(stranger) };
        assert_eq!(plane.register(r, "b", 0).replaced, None);
        plane.remove("b");
    }
    assert_eq!(plane.bind("a", &owner, 0), Ok(()));
}

#[test]
fn who_waits_keeps_its_place_while_members_change() {
    let mut plane = Plane::new(ModuleLimits { member_calls: 1, ..ModuleLimits::default() });
    register(&mut plane, "a", registration("x", None, 1, &["m", "n"]));
    let _first = next(&mut plane, "x.m", &[]).unwrap();
    let waiting = plane.queue("x.m").unwrap();
    // Its only member goes out of the pool, and another one comes.
    assert!(plane.deregister("a", &Owner::default(), "x", &["m".to_owned()]).0[0].is_ok());
    assert!(matches!(plane.next("x.m", &[], Some(waiting), 0), Err(Nobody::Out)));
    plane.remove("a");
    register(&mut plane, "b", registration("x", None, 2, &["m"]));
    let later = plane.queue("x.m").unwrap();
    assert!(matches!(plane.next("x.m", &[], Some(later), 0), Err(Nobody::Busy)), "it comes later");
    assert_eq!(plane.next("x.m", &[], Some(waiting), 0).unwrap().id, "b");
    // When all have gone, nothing is left.
    plane.remove("b");
    [waiting, later].iter().for_each(|number| plane.leave_queue("x.m", *number));
    assert!(plane.pools.is_empty());
}

#[test]
fn what_is_expected_is_missing_only_when_nobody_has_answered_for_it_for_its_time() {
    let (expect, expect_grace) = ([("x".into(), ["m".into()].into())].into(), Duration::from_secs(1));
    let mut plane = Plane::new(ModuleLimits { expect, expect_grace, ..ModuleLimits::default() });
    let look = |plane: &mut Plane, now_ms| plane.sweep(now_ms).expected;
    assert_eq!(look(&mut plane, 0), []);
    assert_eq!(plane.sweep_due(), Some(1000));
    // It is there before its time is over, once it has answered.
    register(&mut plane, "a", registration("x", None, 1, &["m"]));
    assert_eq!(look(&mut plane, 900), []);
    plane.probed("a", Ok(()), 900);
    assert_eq!(look(&mut plane, 1000), []);
    plane.remove("a");
    assert_eq!((look(&mut plane, 2000), look(&mut plane, 2999)), (Vec::new(), Vec::new()));
    let name = "x.m".to_owned();
    let why = "nobody has registered it".to_owned();
    assert_eq!(look(&mut plane, 3000), [(name.clone(), Change::Missing(why.clone()))]);
    let shown = plane.expectations();
    assert!(shown.len() == 1 && shown[0].missing_since.is_some() && shown[0].why == why, "{shown:?}");
    assert_eq!(look(&mut plane, 9000), [], "it is told once");
    register(&mut plane, "b", registration("x", None, 2, &["other"]));
    register(&mut plane, "b", registration("x", None, 2, &["m"]));
    assert_eq!(look(&mut plane, 9001), []);
    assert_eq!(plane.expectations()[0].why, "localhost:2: it was not asked yet");
    plane.probed("b", Ok(()), 9002);
    assert_eq!(look(&mut plane, 9002), [(name, Change::Back)]);
    assert_eq!(plane.expectations()[0].missing_since, None);
}

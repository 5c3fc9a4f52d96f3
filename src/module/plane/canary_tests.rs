//! Tests of the plane with a canary: who gets which calls, and why not.

use super::tests::{end, next, plane, register, registration, turn};
use super::*;
use crate::module::plane::canary_news::CanaryRefused;
use crate::module::plane::register::Registration;
use crate::module::plane::turns::{Ended, NoMember, Said};
use crate::wire::canary::CanaryOrder;

fn versioned(group: &str, port: u16, version: &str) -> Registration {
    let mut r = registration("ns", Some(group), port, &["m"]);
    r.modules.iter_mut().for_each(|module| module.version = version.into());
    r
}

/// Two members of version 1, `a` and `b`, one of version 2, `c`, and a canary of that with this share.
fn with_canary(share: &str) -> Plane {
    let mut plane = plane();
    for (port, (id, version)) in (1..).zip([("a", "1"), ("b", "1"), ("c", "2")]) {
        assert!(register(&mut plane, id, versioned("g", port, version)).is_empty());
    }
    let order = CanaryOrder { share: share.parse().unwrap(), ..CanaryOrder::new("ns", "2") };
    assert_eq!(plane.start_canary(order, "uid 0", 0), Ok(()));
    assert!(plane.settle(|| 0), "there is something to be noted");
    plane
}

#[test]
fn a_member_on_trial_gets_exactly_its_share_and_others_take_turns_for_the_rest() {
    for (share, of, mine) in
        [("10%", 100, 10), ("12.5%", 1000, 125), ("1%", 1000, 10), ("50%", 10, 5), ("100%", 7, 7)]
    {
        let mut plane = with_canary(share);
        let turns: Vec<_> = (0..of).map(|_| turn(&mut plane, "ns.m")).collect();
        let count = |id: &str| turns.iter().filter(|turn| *turn == id).count();
        assert_eq!(count("c"), mine, "{share}");
        assert!(count("a").abs_diff(count("b")) <= 1, "{share}: {turns:?}");
    }
    let mut plane = with_canary("25%");
    let turns: String = (0..12).map(|_| turn(&mut plane, "ns.m")).collect();
    assert_eq!(turns, "abacbabcabac");
}

#[test]
fn a_member_on_trial_takes_what_nobody_else_can_but_not_what_others_are_too_busy_for() {
    let mut plane = with_canary("10%");
    // A call that did not reach another member.
    let tried = ["a".to_owned(), "b".to_owned()];
    let member = next(&mut plane, "ns.m", &tried).unwrap();
    assert_eq!(member.id, "c");
    end(&mut plane, member, Said::Answered, 0);
    plane.limits.member_calls = 1;
    let busy: Vec<_> = (0..2).map(|_| next(&mut plane, "ns.m", &[]).unwrap()).collect();
    assert!(matches!(next(&mut plane, "ns.m", &[]), Err(NoMember::Busy(_))));
    busy.into_iter().for_each(|member| end(&mut plane, member, Said::Answered, 0));
    // Its own turns go to others while it is out, and one of them is made up for.
    plane.probed("c", Err("refused".to_owned()), 0);
    let turns: String = (0..30).map(|_| turn(&mut plane, "ns.m")).collect();
    assert!(!turns.contains('c'), "{turns}");
    plane.probed("c", Ok(()), 0);
    let turns: String = (0..20).map(|_| turn(&mut plane, "ns.m")).collect();
    assert_eq!((turns.chars().position(|c| c == 'c'), turns.matches('c').count()), (Some(0), 3), "{turns}");
    for id in ["a", "b"] {
        plane.remove(id);
    }
    plane.settle(|| 0);
    assert_eq!(turn(&mut plane, "ns.m"), "c");
}

#[test]
fn who_is_held_back_says_so_and_is_let_in_by_another_canary() {
    let mut plane = with_canary("10%");
    register(&mut plane, "d", versioned("g", 9, "2"));
    plane.settle(|| 0);
    let out = |plane: &Plane, id: &str| plane.connection(id).unwrap().out();
    assert_eq!([out(&plane, "a"), out(&plane, "c")], [None, None]);
    assert!(out(&plane, "d").unwrap().contains("waits for its trial"));
    let order = || CanaryOrder::new("ns", "2");
    assert_eq!(plane.start_canary(order(), "uid 0", 0), Err(CanaryRefused::Running("2".into())));
    assert_eq!(plane.abort_canary("ns", "uid 1", 0), Ok(()));
    assert_eq!(plane.abort_canary("ns", "uid 1", 0), Err(CanaryRefused::NotRunning));
    plane.settle(|| 0);
    assert!((0..40).all(|_| turn(&mut plane, "ns.m") != "c"));
    assert_eq!(plane.modules()["ns.m"].members, 2);
    for id in ["a", "b"] {
        plane.remove(id);
    }
    let why = next(&mut plane, "ns.m", &[]).unwrap_err();
    assert!(matches!(&why, NoMember::NoneHealthy(why) if why.contains("version 2 is held back")), "{why:?}");
    assert_eq!(plane.start_canary(order(), "uid 0", 0), Ok(()));
    plane.settle(|| 0);
    assert_eq!(turn(&mut plane, "ns.m"), "c");
    let causes: Vec<_> = plane.take_news().into_iter().map(|n| (n.news.step.what, n.news.cause)).collect();
    let all = ["started", "on-trial", "aborted", "rolled-back", "started", "on-trial"];
    let by = ["uid 0", "canary", "uid 1", "uid 1", "uid 0", "canary"];
    assert_eq!(causes, Vec::from_iter(all.map(str::to_owned).into_iter().zip(by.map(str::to_owned))));
}

#[test]
fn a_canary_needs_a_group() {
    let mut plane = plane();
    register(&mut plane, "a", registration("ns", None, 1, &["m"]));
    let start =
        |plane: &mut Plane, namespace| plane.start_canary(CanaryOrder::new(namespace, "2"), "uid 0", 0);
    assert_eq!(start(&mut plane, "ns"), Err(CanaryRefused::Alone));
    assert_eq!(start(&mut plane, "none"), Err(CanaryRefused::NoMembers));
    assert!(plane.canaries("", 0).is_empty());
}

#[test]
fn calls_of_a_canary_are_counted_and_looked_at_when_they_are_due() {
    let mut plane = with_canary("100%");
    for n in 0..50u32 {
        let member = next(&mut plane, "ns.m", &[]).unwrap();
        assert_eq!(member.id, "c");
        end(&mut plane, member, if n == 0 { Said::Broken } else { Said::Answered }, 1);
    }
    // One that says nothing about the member is not counted.
    let member = next(&mut plane, "ns.m", &[]).unwrap();
    end(&mut plane, member, Said::Nothing, 1);
    assert_eq!(plane.canaries("ns", 1)[0].members[2].calls, 50);
    plane.take_news();
    let due = plane.canaries["ns"].due().unwrap();
    assert!(plane.sweep_due().unwrap() <= due);
    plane.sweep(due - 1);
    assert!(!plane.settle(|| due - 1));
    plane.sweep(due);
    assert!(plane.settle(|| due));
    let shown = &plane.canaries("ns", due)[0];
    assert_eq!((&*shown.state, shown.members[2].failures), ("promoted", 1), "{shown:?}");
    // From here on all take turns.
    let turns: String = (0..6).map(|_| turn(&mut plane, "ns.m")).collect();
    assert!(["a", "b", "c"].iter().all(|id| turns.matches(id).count() == 2), "{turns}");
}

#[test]
fn a_call_that_is_tried_once_more_is_not_owed_twice() {
    let mut plane = with_canary("50%");
    assert_eq!(turn(&mut plane, "ns.m"), "a");
    let again = next(&mut plane, "ns.m", &["a".to_owned()]).unwrap();
    assert_eq!(again.id, "b");
}

#[test]
fn who_is_promoted_takes_turns_that_are_counted_while_the_next_one_is_on_trial() {
    let mut plane = with_canary("50%");
    register(&mut plane, "d", versioned("g", 9, "2"));
    plane.settle(|| 0);
    (0..100).for_each(|_| drop(turn(&mut plane, "ns.m")));
    let due = plane.canaries["ns"].due().unwrap();
    plane.sweep(due);
    plane.settle(|| due);
    let turns: String = (0..12).map(|_| turn(&mut plane, "ns.m")).collect();
    let count = |id: &str| turns.matches(id).count();
    assert_eq!(["a", "b", "c", "d"].map(count), [2, 2, 2, 6], "{turns}");
    let shown = plane.canaries("ns", due).remove(0);
    let calls = |executor: &str| shown.members.iter().find(|m| m.executor == executor).map(|m| m.calls);
    assert_eq!([calls("localhost:3"), calls("localhost:9")], [Some(52), Some(6)]);
}

#[test]
fn an_answer_that_is_an_error_has_failed_and_who_drains_has_left() {
    let mut plane = with_canary("100%");
    let member = next(&mut plane, "ns.m", &[]).unwrap();
    plane.done(member, Ended { said: Said::Answered, error: Some("no".to_owned()), took_us: 1 }, 1);
    assert_eq!(plane.canaries("ns", 1)[0].members[2].failures, 1);
    plane.bind("c", &Owner::default(), 1).unwrap();
    assert!(plane.drain("c", 1000));
    plane.settle(|| 2);
    assert_eq!(plane.canaries("ns", 2)[0].steps.last().map(|step| &*step.what), Some("gone"));
}

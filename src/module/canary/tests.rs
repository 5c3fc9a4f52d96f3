//! Tests of the canary of one group, with time and calls that the tests make.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::module::canary::track::Track;

pub const WINDOW: u64 = 30_000;
pub const MIN_CALLS: u32 = 20;

pub fn at(ms: u64) -> Now {
    Now { ms, at: Timestamp(ms) }
}

pub fn order() -> CanaryOrder {
    CanaryOrder { min_calls: MIN_CALLS, ..CanaryOrder::new("n", "2") }
}

pub fn begun(order: CanaryOrder) -> Canary {
    let mut canary = Canary::begin(order, "uid 0", 1, at(0));
    canary.news.clear();
    canary
}

pub fn member(executor: &str, version: &str) -> Seen {
    Seen { executor: executor.to_owned(), versions: vec![version.to_owned()], out: None }
}

/// Two of the old version and these of the new one.
pub fn group(new: &[&str]) -> Vec<Seen> {
    let old = ["old1", "old2"].map(|executor| member(executor, "1"));
    old.into_iter().chain(new.iter().map(|executor| member(executor, "2"))).collect()
}

/// So many calls of a member, of which the first ones fail.
pub fn calls(canary: &mut Canary, executor: &str, count: u32, failed: u32, now_ms: u64) -> bool {
    let mut is_time = false;
    for n in 0..count {
        canary.begin_call(executor, now_ms);
        let call = Call { failed: n < failed, took: Duration::from_millis(2) };
        is_time |= canary.end_call(executor, now_ms, Some(call), now_ms);
    }
    is_time
}

/// What has happened since it was last asked, as "what executor".
pub fn news(canary: &mut Canary) -> Vec<String> {
    let news = std::mem::take(&mut canary.news);
    news.into_iter().map(|n| format!("{} {}", n.step.what, n.step.executor).trim_end().to_owned()).collect()
}

pub fn standings(canary: &Canary, seen: &[Seen]) -> Vec<Standing> {
    seen.iter().map(|s| canary.standing(s)).collect()
}

#[test]
fn one_member_after_the_other_is_on_trial_and_passes() {
    use Standing::{Held, OnTrial, Promoted, Usual};
    let (mut canary, seen) = (begun(order()), group(&["a", "b"]));
    canary.look(&seen, at(0));
    assert_eq!((news(&mut canary), canary.due()), (vec!["on-trial a".to_owned()], Some(WINDOW)));
    assert_eq!(standings(&canary, &seen), [Usual, Usual, OnTrial, Held]);
    // Neither time nor calls alone are enough.
    calls(&mut canary, "a", MIN_CALLS - 1, 1, 10);
    canary.look(&seen, at(WINDOW));
    assert_eq!((news(&mut canary), canary.due()), (Vec::new(), None));
    assert!(calls(&mut canary, "a", 1, 0, WINDOW + 1), "it is time for a look");
    canary.look(&seen, at(WINDOW + 1));
    assert_eq!(news(&mut canary), ["promoted a", "on-trial b"]);
    assert_eq!(standings(&canary, &seen), [Usual, Usual, Promoted, OnTrial]);
    assert!(!calls(&mut canary, "b", MIN_CALLS, 0, WINDOW + 2));
    canary.look(&seen, at(2 * WINDOW));
    assert_eq!(news(&mut canary), Vec::<String>::new());
    canary.look(&seen, at(2 * WINDOW + 1));
    assert_eq!(
        (news(&mut canary), canary.stage),
        (vec!["promoted b".into(), "promoted".into()], Stage::Promoted)
    );
    assert_eq!(standings(&canary, &seen), [Usual; 4]);
    assert_eq!((canary.due(), canary.shown(&seen, 0).next), (None, String::new()));
}

#[test]
fn the_first_that_fails_takes_all_back_in_reverse_order() {
    for failing in ["c", "a"] {
        let (mut canary, seen) = (begun(order()), group(&["a", "b", "c"]));
        canary.look(&seen, at(0));
        for (n, executor) in ["a", "b"].iter().enumerate() {
            calls(&mut canary, executor, MIN_CALLS, 0, 1);
            canary.look(&seen, at(WINDOW * (n as u64 + 1)));
        }
        news(&mut canary);
        // Before its window is over, and also one that had passed before.
        assert!(calls(&mut canary, failing, MIN_CALLS, 2, 2 * WINDOW + 1));
        canary.look(&seen, at(2 * WINDOW + 1));
        let failed = format!("failed {failing}");
        assert_eq!(news(&mut canary), [&*failed, "rolled-back c", "rolled-back b", "rolled-back a"]);
        let shown = canary.shown(&seen, 0);
        assert_eq!(shown.reason, format!("{failing}: 2 of 20 calls failed, and 0.95 have to succeed"));
        assert!(shown.next.contains("no calls until another canary"), "{}", shown.next);
        assert_eq!(
            standings(&canary, &seen)[1..],
            [Standing::Usual, Standing::Held, Standing::Held, Standing::Held]
        );
    }
}

#[test]
fn what_passed_stays_if_that_is_wanted() {
    let order = CanaryOrder { rolls_back: false, ..order() };
    let (mut canary, seen) = (begun(order), group(&["a", "b", "c"]));
    canary.look(&seen, at(0));
    calls(&mut canary, "a", MIN_CALLS, 0, 1);
    canary.look(&seen, at(WINDOW));
    news(&mut canary);
    calls(&mut canary, "b", MIN_CALLS, 2, WINDOW + 1);
    canary.look(&seen, at(WINDOW + 1));
    assert_eq!(
        (news(&mut canary), canary.stage),
        (vec!["failed b".into(), "rolled-back b".into()], Stage::PartialFailure)
    );
    // Who was not tried gets no calls either.
    assert_eq!(standings(&canary, &seen)[2..], [Standing::Usual, Standing::Held, Standing::Held]);
}

#[test]
fn slow_calls_and_calls_that_hang_are_a_breach() {
    let (mut canary, seen) = (begun(order()), group(&["a"]));
    canary.look(&seen, at(0));
    for n in 0..MIN_CALLS {
        let took = if n < 2 { Duration::from_secs(6) } else { Duration::ZERO };
        canary.begin_call("a", 0);
        canary.end_call("a", 0, Some(Call { failed: false, took }), 10);
    }
    canary.look(&seen, at(10));
    assert_eq!(canary.shown(&seen, 0).reason, "a: 2 of 20 calls took longer than 5s");
    let mut canary = begun(order());
    canary.look(&seen, at(0));
    calls(&mut canary, "a", MIN_CALLS, 0, 1);
    // Three that have not ended: they count as soon as they are too slow.
    (0..3).for_each(|_| canary.begin_call("a", WINDOW - 5000));
    canary.look(&seen, at(WINDOW - 1));
    assert!(canary.is_running());
    canary.look(&seen, at(WINDOW + 1));
    assert_eq!(canary.shown(&seen, 0).reason, "a: 3 of 23 calls took longer than 5s");
}

#[test]
fn who_gets_no_calls_for_its_whole_window_has_failed() {
    let (mut canary, mut seen) = (begun(order()), group(&["a"]));
    canary.look(&seen, at(0));
    seen[2].out = Some("deaf, connection refused".to_owned());
    canary.look(&seen, at(WINDOW - 1));
    assert!(canary.is_running());
    canary.look(&seen, at(WINDOW));
    assert_eq!(canary.shown(&seen, 0).reason, "a: it gets no calls: deaf, connection refused");
    // Who could get calls is tried first.
    let mut canary = begun(order());
    canary.look(&[seen[0].clone(), seen[2].clone(), member("b", "2")], at(0));
    assert_eq!(news(&mut canary), ["on-trial b"]);
}

#[test]
fn members_come_and_go_and_their_calls_are_not_forgotten() {
    let mut canary = begun(order());
    canary.look(&group(&[]), at(0));
    assert!(news(&mut canary).is_empty() && canary.shown(&group(&[]), 0).next.contains("has to register"));
    // One that fails and ends again and again, each time elsewhere.
    for n in 0..4u32 {
        let executor = format!("a{n}");
        let seen = group(&[&executor]);
        canary.look(&seen, at(u64::from(n)));
        calls(&mut canary, &executor, MIN_CALLS / 4, 1, u64::from(n));
    }
    canary.look(&group(&["a3"]), at(4));
    assert_eq!(canary.shown(&[], 0).reason, "a3: 4 of 20 calls failed, and 0.95 have to succeed");
    // A call that ends after its member has left.
    let mut canary = begun(order());
    canary.look(&group(&["a"]), at(0));
    canary.begin_call("a", 0);
    canary.look(&group(&[]), at(1));
    canary.end_call("a", 0, Some(Call { failed: true, took: Duration::ZERO }), 2);
    assert_eq!((canary.carried.calls, canary.carried.failures), (1, 1));
    // Both versions are gone, and come back.
    canary.look(&[], at(3));
    assert!(canary.is_running());
    canary.look(&group(&["a"]), at(4));
    assert_eq!(news(&mut canary), ["on-trial a", "gone a", "on-trial a"]);
}

#[test]
fn who_registers_again_at_the_same_place_is_the_same() {
    let (mut canary, seen) = (begun(order()), group(&["a", "b"]));
    canary.look(&seen, at(0));
    calls(&mut canary, "a", MIN_CALLS, 0, 1);
    canary.look(&seen, at(WINDOW));
    canary.look(&group(&["b"]), at(WINDOW + 1));
    assert_eq!(canary.standing(&member("a", "2")), Standing::Promoted);
    // With the old version it is one of the old ones.
    assert_eq!(canary.standing(&member("a", "1")), Standing::Usual);
}

#[test]
fn without_anybody_else_nothing_goes_back() {
    let only = [member("a", "2")];
    for is_aborted in [false, true] {
        let mut canary = begun(order());
        canary.look(&only, at(0));
        assert!(canary.shown(&only, 0).next.contains("takes all calls"));
        if is_aborted {
            canary.abort_by("uid 1", &only, at(1));
        } else {
            calls(&mut canary, "a", MIN_CALLS, MIN_CALLS, 1);
            canary.look(&only, at(1));
        }
        assert_eq!(canary.stage, if is_aborted { Stage::Aborted } else { Stage::PartialFailure });
        assert!(canary.shown(&only, 0).reason.ends_with("its members go on"));
        assert_eq!(canary.standing(&only[0]), Standing::Usual);
    }
}

#[test]
fn it_can_be_aborted_at_each_step() {
    for steps in 0..3u64 {
        let (mut canary, seen) = (begun(order()), group(&["a", "b"]));
        canary.look(&seen, at(0));
        for n in 1..=steps.min(1) {
            calls(&mut canary, "a", MIN_CALLS, 0, 1);
            canary.look(&seen, at(WINDOW * n));
        }
        if steps == 2 {
            calls(&mut canary, "b", MIN_CALLS / 2, 0, WINDOW + 1);
        }
        news(&mut canary);
        canary.abort_by("uid 7", &seen, at(WINDOW + 2));
        let back: &[&str] = if steps == 0 {
            &["aborted", "rolled-back a"]
        } else {
            &["aborted", "rolled-back b", "rolled-back a"]
        };
        assert_eq!(
            (news(&mut canary), canary.stage),
            (back.iter().map(|s| (*s).to_owned()).collect(), Stage::Aborted)
        );
        assert_eq!(standings(&canary, &seen)[2..], [Standing::Held; 2]);
        canary.look(&seen, at(10 * WINDOW));
        assert!(news(&mut canary).is_empty());
    }
}

#[test]
fn a_canary_goes_on_from_its_note_with_the_trial_begun_again() {
    let (mut track, seen) = (Track::default(), group(&["a", "b"]));
    track.begin(order(), "uid 0", 1, at(0));
    track.look(&seen, at(0));
    for _ in 0..MIN_CALLS {
        track.begin_call("a", 1);
        track.end_call(1, "a", 1, Some(Call { failed: false, took: Duration::from_millis(4) }), 2);
    }
    track.look(&seen, at(WINDOW));
    let noted = track.shown(&[], 0);
    let mut again = Track::default();
    noted.into_iter().for_each(|shown| again.restore(shown, 9, at(5)));
    again.look(&seen, at(5));
    let shown = again.shown(&seen, 5).remove(0);
    let whats: Vec<_> = shown.steps.iter().map(|step| format!("{} {}", step.what, step.executor)).collect();
    assert_eq!(whats, ["started ", "on-trial a", "promoted a", "on-trial b", "resumed ", "on-trial b"]);
    let a = shown.members.iter().find(|m| m.executor == "a").unwrap();
    assert_eq!((&*a.standing, a.calls, a.mean_latency_us), ("promoted", 20, 4000));
    assert_eq!(again.due(), Some(5 + WINDOW));
    // One that has ended holds its version back as before.
    again.abort_by("uid 1", &seen, at(6));
    let mut third = Track::default();
    again.shown(&[], 0).into_iter().for_each(|shown| third.restore(shown, 10, at(7)));
    assert_eq!(third.standing(&member("a", "2")), Standing::Held);
    assert_eq!(third.shown(&seen, 0).len(), 1);
}

#[test]
fn another_canary_lets_its_own_version_in_and_keeps_others_out() {
    let mut track = Track::default();
    let seen: Vec<_> = group(&["a"]).into_iter().chain([member("x", "3")]).collect();
    for version in ["2", "3"] {
        track.begin(CanaryOrder { version: version.into(), ..order() }, "uid 0", 1, at(0));
        track.look(&seen, at(0));
        track.abort_by("uid 0", &seen, at(1));
        track.look(&seen, at(1));
    }
    assert_eq!([track.standing(&seen[2]), track.standing(&seen[3])], [Standing::Held; 2]);
    assert!(track.why_held(&seen[2]).contains("version 2 is held back"));
    track.begin(order(), "uid 0", 2, at(2));
    track.look(&seen, at(2));
    assert_eq!([track.standing(&seen[2]), track.standing(&seen[3])], [Standing::OnTrial, Standing::Held]);
    // Those that are held are nobody to go back to.
    let held = [seen[2].clone(), seen[3].clone()];
    track.abort_by("uid 0", &held, at(3));
    assert_eq!(track.standing(&seen[2]), Standing::Usual);
}

#[test]
fn no_more_versions_are_held_than_may_be() {
    let mut track = Track::default();
    for n in 0..40 {
        let version = format!("v{n}");
        let seen = [member("old", "1"), member("new", &version)];
        track.begin(CanaryOrder { version, ..order() }, "uid 0", n, at(0));
        track.look(&seen, at(0));
        track.abort_by("uid 0", &seen, at(1));
    }
    assert!(track.shown(&[], 0).len() <= 18, "{}", track.shown(&[], 0).len());
    assert_eq!(track.standing(&member("x", "v39")), Standing::Held);
}

/// Something that happens to a canary.
#[derive(Clone, Debug)]
enum Event {
    Calls { member: usize, count: u32, failed: u32 },
    Time(u64),
    Members(BTreeSet<usize>),
    Abort,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..4usize, 1..40u32, 0..3u32).prop_map(|(member, count, failed)| Event::Calls { member, count, failed }),
        3 => (0..20_000u64).prop_map(Event::Time),
        2 => prop::collection::btree_set(0..4usize, 0..4).prop_map(Event::Members),
        1 => Just(Event::Abort),
    ]
}

proptest! {
    /// Whatever happens: one member at most is on trial, nobody passes without its time and its calls, who
    /// goes back does so in reverse order, and what has ended stays as it is.
    #[test]
    fn whatever_happens_the_rules_hold(events in prop::collection::vec(event(), 0..60), rolls_back: bool) {
        let names = ["a", "b", "c", "d"];
        let mut canary = begun(CanaryOrder { rolls_back, ..order() });
        let (mut now, mut seen) = (0, group(&["a", "b"]));
        let mut ended: Option<Stage> = None;
        for event in events {
            match event {
                Event::Calls { member, count, failed } => {
                    let executor = names[member];
                    let gets_calls = seen.iter().any(|s| {
                        s.executor == executor
                            && matches!(canary.standing(s), Standing::OnTrial | Standing::Promoted)
                    });
                    if gets_calls {
                        calls(&mut canary, executor, count, failed, now);
                    }
                }
                Event::Time(ms) => now += ms,
                Event::Members(some) => {
                    let some: Vec<&str> = some.into_iter().map(|n| names[n]).collect();
                    seen = group(&some);
                }
                Event::Abort if canary.is_running() => canary.abort_by("uid 0", &seen, at(now)),
                Event::Abort => {}
            }
            canary.look(&seen, at(now));
            let on_trial = canary.tried.iter().filter(|t| matches!(t.outcome, Outcome::OnTrial { .. })).count();
            prop_assert!(on_trial <= usize::from(canary.is_running()));
            for step in canary.steps.iter().filter(|step| step.what == "promoted" && !step.executor.is_empty()) {
                let begun = canary.steps.iter().rev().find(|s| {
                    s.what == "on-trial" && s.executor == step.executor && s.at <= step.at
                });
                prop_assert!(begun.is_some_and(|begun| step.at.0 - begun.at.0 >= WINDOW));
                let count: u32 = step.detail.split(' ').next().unwrap().parse().unwrap();
                prop_assert!(count >= MIN_CALLS);
            }
            let order_of = |what: &str| -> Vec<String> {
                canary.steps.iter().filter(|s| s.what == what).map(|s| s.executor.clone()).collect()
            };
            let (promoted, back) = (order_of("promoted"), order_of("rolled-back"));
            let back: Vec<_> = back.iter().filter_map(|b| promoted.iter().position(|p| p == b)).collect();
            prop_assert!(back.is_sorted_by(|a, b| a > b), "{:?}", canary.steps);
            if let Some(ended) = ended {
                prop_assert_eq!(canary.stage, ended);
            }
            ended = (!canary.is_running()).then_some(canary.stage);
            let restored = Canary::restored(canary.shown(&[], now), 2, at(now));
            prop_assert_eq!(restored.stage, canary.stage);
            for s in seen.iter().filter(|s| canary.standing(s) != Standing::OnTrial) {
                prop_assert_eq!(restored.standing(s), canary.standing(s));
            }
        }
    }
}

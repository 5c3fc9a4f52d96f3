//! Tests of the canary at its limits, each of which a wrong decision in one place has to break.

use super::tests::{MIN_CALLS, WINDOW, at, begun, calls, group, member, news, order, standings};
use super::*;
use crate::module::canary::track::Track;

#[test]
fn calls_of_who_left_count_for_one_that_follows_and_not_for_the_next() {
    let mut canary = begun(order());
    canary.look(&group(&["a"]), at(0));
    calls(&mut canary, "a", MIN_CALLS / 4, 1, 1);
    let seen = group(&["b", "c"]);
    canary.look(&seen, at(2));
    calls(&mut canary, "b", MIN_CALLS, 0, 3);
    canary.look(&seen, at(WINDOW + 2));
    calls(&mut canary, "c", MIN_CALLS, 1, WINDOW + 3);
    canary.look(&seen, at(2 * WINDOW + 2));
    assert_eq!((canary.stage, canary.reason.as_str()), (Stage::Promoted, ""));
}

#[test]
fn who_fails_or_is_out_is_nobody_to_stay() {
    let keep = || begun(CanaryOrder { rolls_back: false, ..order() });
    // One that had passed, without others.
    let (mut canary, seen) = (keep(), [member("a", "2"), member("b", "2")]);
    canary.look(&seen, at(0));
    calls(&mut canary, "a", MIN_CALLS, 0, 1);
    canary.look(&seen, at(WINDOW));
    calls(&mut canary, "a", MIN_CALLS, 2, WINDOW + 1);
    canary.look(&seen, at(WINDOW + 1));
    assert_eq!((canary.stage, canary.holds), (Stage::PartialFailure, false));
    assert_eq!(standings(&canary, &seen), [Standing::Usual; 2]);
    // The only other one gets no calls.
    let (mut canary, mut seen) = (keep(), [member("old", "1"), member("a", "2")]);
    seen[0].out = Some("deaf".to_owned());
    canary.look(&seen, at(0));
    calls(&mut canary, "a", MIN_CALLS, 2, 1);
    canary.look(&seen, at(1));
    assert_eq!((canary.stage, canary.standing(&seen[1])), (Stage::PartialFailure, Standing::Usual));
}

#[test]
fn who_comes_back_with_the_old_version_has_left() {
    let mut canary = begun(order());
    canary.look(&group(&["a"]), at(0));
    canary.look(&[member("old1", "1"), member("a", "1")], at(1));
    assert_eq!(news(&mut canary), ["on-trial a", "gone a"]);
}

#[test]
fn a_call_may_take_exactly_its_time() {
    let (mut canary, seen) = (begun(order()), group(&["a"]));
    canary.look(&seen, at(0));
    calls(&mut canary, "a", MIN_CALLS, 0, 1);
    (0..3).for_each(|_| canary.begin_call("a", WINDOW - 5000));
    canary.look(&seen, at(WINDOW));
    assert_eq!((canary.stage, canary.reason.as_str()), (Stage::Promoted, ""));
}

#[test]
fn what_has_ended_counts_nothing_more() {
    let (mut canary, seen) = (begun(order()), group(&["a"]));
    canary.look(&seen, at(0));
    canary.abort_by("uid 1", &seen, at(1));
    assert!(!calls(&mut canary, "a", MIN_CALLS, MIN_CALLS, 2));
    assert_eq!(canary.tried[0].counts.calls, 0);
    // Nor does another canary's call.
    let mut track = Track::default();
    track.begin(order(), "uid 0", 1, at(0));
    track.look(&seen, at(0));
    let call = Call { failed: true, took: std::time::Duration::ZERO };
    (0..MIN_CALLS).for_each(|_| assert!(!track.end_call(2, "a", 0, Some(call), 1)));
    assert_eq!(track.running().map(|canary| canary.tried[0].counts.calls), Some(0));
}

#[test]
fn the_latest_canary_decides_and_the_last_that_ended_is_shown() {
    let mut track = Track::default();
    let both = Seen { versions: vec!["2".to_owned(), "3".to_owned()], ..member("x", "2") };
    let seen = [member("old", "1"), both.clone()];
    let third = || CanaryOrder { version: "3".to_owned(), ..order() };
    track.begin(order(), "uid 0", 1, at(0));
    track.look(&seen, at(0));
    track.abort_by("uid 0", &seen, at(1));
    assert!(!track.is_idle(), "it holds version 2");
    track.begin(third(), "uid 0", 2, at(2));
    track.look(&seen, at(2));
    assert_eq!(track.standing(&both), Standing::OnTrial);
    // One that holds nothing.
    let mut track = Track::default();
    track.begin(order(), "uid 0", 1, at(0));
    track.abort_by("uid 0", &[], at(1));
    assert!(track.is_idle());
    track.begin(third(), "uid 0", 2, at(2));
    assert_eq!(track.shown(&[], 2).len(), 2);
}

//! The breaker's rules one by one, and what holds from every interleaving of calls, results and time.

use super::*;

fn breaker() -> Breaker {
    Breaker::new(BreakerSettings::default(), 1)
}

fn fail(breaker: &mut Breaker, now: u64) {
    let pass = breaker.ask(now).expect("it is closed");
    breaker.report(pass, Outcome::Failure("down".into()), now);
}

/// An open one, and when it lets a probe through.
fn open() -> (Breaker, u64) {
    let mut breaker = breaker();
    (0..5).for_each(|n| fail(&mut breaker, n));
    let retry = breaker.rejection().and_then(|r| r.retry_ms).expect("it is open");
    breaker.take_changes();
    (breaker, retry)
}

#[test]
fn i9_it_opens_at_exactly_the_threshold() {
    let mut breaker = breaker();
    for now in 0..4 {
        fail(&mut breaker, now);
    }
    assert_eq!((breaker.state(), breaker.failures(4)), (BreakerState::Closed, 4));
    fail(&mut breaker, 4);
    let changes = breaker.take_changes();
    let [Change::Opened { failures: 5, why, retry_ms }] = &changes[..] else { panic!("{changes:?}") };
    assert!(why == "down" && (300_004..=330_004).contains(retry_ms), "{changes:?}");
    let rejection = breaker.ask(5).unwrap_err();
    assert_eq!((rejection.state, rejection.retry_ms), (BreakerState::Open, Some(*retry_ms)));
}

#[test]
fn what_is_older_than_the_window_does_not_count_and_a_success_does_not_empty_it() {
    let mut breaker = breaker();
    for now in [0, 15_000, 30_000, 45_000, 60_000, 75_000] {
        fail(&mut breaker, now);
        let pass = breaker.ask(now).unwrap();
        breaker.report(pass, Outcome::Success, now);
    }
    assert_eq!(breaker.state(), BreakerState::Closed, "four in any minute");
    fail(&mut breaker, 76_000);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn i10_half_open_lets_one_probe_through_and_the_pause_grows_to_its_cap() {
    let (mut breaker, mut retry) = open();
    let mut pauses = Vec::new();
    for _ in 0..6 {
        assert!(breaker.ask(retry - 1).is_err());
        let probe = breaker.ask(retry).expect("it is due");
        assert!(probe.is_probe());
        assert_eq!(breaker.ask(retry).unwrap_err().state, BreakerState::HalfOpen);
        breaker.report(probe, Outcome::Failure("still down".into()), retry);
        let next = breaker.rejection().and_then(|r| r.retry_ms).unwrap();
        pauses.push((next - retry) / 300_000);
        retry = next;
    }
    assert_eq!(pauses, [2, 4, 8, 8, 8, 8]);
    let probe = breaker.ask(retry).unwrap();
    breaker.report(probe, Outcome::Success, retry);
    assert_eq!((breaker.state(), breaker.openings()), (BreakerState::Closed, 0));
    assert_eq!(breaker.take_changes().last(), Some(&Change::Closed));
}

#[test]
fn so_many_probes_as_are_set_and_so_many_successes_as_are_needed() {
    let settings = BreakerSettings { probes: 3, probes_needed: 2, ..BreakerSettings::default() };
    let mut breaker = Breaker::new(settings, 1);
    (0..5).for_each(|n| fail(&mut breaker, n));
    let now = breaker.rejection().and_then(|r| r.retry_ms).unwrap();
    let mut probes: Vec<_> = (0..3).map(|_| breaker.ask(now).unwrap()).collect();
    assert!(breaker.ask(now).is_err());
    breaker.report(probes.remove(0), Outcome::Success, now);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    breaker.report(probes.remove(0), Outcome::Success, now);
    assert_eq!(breaker.state(), BreakerState::Closed);
    breaker.report(probes.remove(0), Outcome::Failure("late".into()), now);
    assert_eq!(breaker.failures(now), 0, "it was of the period before");
}

#[test]
fn i9_the_share_of_failed_calls_opens_it_from_enough_calls_on() {
    let settings = BreakerSettings {
        failure_threshold: 1000,
        failure_percent: Some(50),
        calls_needed: 10,
        ..BreakerSettings::default()
    };
    let mut breaker = Breaker::new(settings, 1);
    let call = |breaker: &mut Breaker, outcome: Outcome, now| {
        let pass = breaker.ask(now).expect("it is closed");
        breaker.report(pass, outcome, now);
    };
    // Nine failures are too few calls; what says nothing is no call.
    (0..9).for_each(|n| call(&mut breaker, Outcome::Failure("down".into()), n));
    (0..9).for_each(|n| call(&mut breaker, Outcome::Ignored, n));
    assert_eq!(breaker.state(), BreakerState::Closed);
    // They are forgotten with their window, and of the next calls fewer than half fail.
    for n in 0..1000 {
        let bad = matches!(n % 5, 2 | 4);
        let outcome = if bad { Outcome::Failure("down".into()) } else { Outcome::Success };
        call(&mut breaker, outcome, 70_000 + n);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    let mut now = 72_000;
    while breaker.state() == BreakerState::Closed {
        call(&mut breaker, Outcome::Failure("worse".into()), now);
        now += 1;
    }
    assert_eq!(now, 72_200, "600 of 1,200");
    let changes = breaker.take_changes();
    assert!(
        matches!(&changes[..], [Change::Opened { failures: 600, why, .. }] if why == "worse"),
        "{changes:?}"
    );
}

#[test]
fn the_share_of_slow_calls_opens_it_and_a_slow_probe_does_not_close_it() {
    let settings = BreakerSettings {
        slow_after: Some(Duration::from_millis(100)),
        slow_percent: 80,
        calls_needed: 5,
        ..BreakerSettings::default()
    };
    let mut breaker = Breaker::new(settings, 1);
    let call = |breaker: &mut Breaker, now, took| {
        let pass = breaker.ask(now).expect("it lets calls through");
        breaker.report(pass, Outcome::Success, now + took);
    };
    (0..10).for_each(|n| call(&mut breaker, n * 1000, 100));
    assert_eq!(breaker.state(), BreakerState::Closed, "none was slower than that");
    let mut now = 70_000;
    (0..5).for_each(|n| call(&mut breaker, now + n * 1000, if n == 0 { 1 } else { 101 }));
    assert_eq!(breaker.state(), BreakerState::Open);
    let changes = breaker.take_changes();
    assert!(matches!(&changes[..], [Change::Opened { failures: 0, why, .. }] if why == SLOW), "{changes:?}");
    now = breaker.rejection().and_then(|r| r.retry_ms).expect("it is open");
    call(&mut breaker, now, 101);
    assert_eq!(breaker.state(), BreakerState::Open, "it is as slow as it was");
    now = breaker.rejection().and_then(|r| r.retry_ms).expect("it is open");
    call(&mut breaker, now, 100);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn i14_a_call_that_says_nothing_does_not_count_and_gives_the_probe_back() {
    let mut closed = breaker();
    for now in 0..100 {
        let pass = closed.ask(now).unwrap();
        closed.report(pass, Outcome::Ignored, now);
    }
    assert_eq!((closed.state(), closed.failures(100)), (BreakerState::Closed, 0));
    let (mut breaker, retry) = open();
    let probe = breaker.ask(retry).unwrap();
    breaker.report(probe, Outcome::Ignored, retry);
    assert!(breaker.ask(retry + 1).unwrap().is_probe());
}

#[test]
fn a_late_result_of_an_earlier_period_changes_nothing() {
    let mut breaker = breaker();
    let (late, other) = (breaker.ask(0).unwrap(), breaker.ask(0).unwrap());
    (0..5).for_each(|n| fail(&mut breaker, n));
    breaker.report(late, Outcome::Success, 10);
    assert_eq!(breaker.state(), BreakerState::Open);
    let retry = breaker.rejection().and_then(|r| r.retry_ms).unwrap();
    let probe = breaker.ask(retry).unwrap();
    breaker.report(other, Outcome::Failure("long ago".into()), retry);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    breaker.report(probe, Outcome::Success, retry);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn i13_held_reset_and_jumps_of_the_clock_while_it_is_open() {
    let (mut breaker, retry) = open();
    let probe = breaker.ask(retry).unwrap();
    breaker.hold("repairs");
    breaker.report(probe, Outcome::Success, retry);
    breaker.reset();
    let rejection = breaker.ask(u64::MAX).unwrap_err();
    assert_eq!((rejection.state, rejection.retry_ms), (BreakerState::Isolated, None));
    assert_eq!(rejection.why, "repairs");
    breaker.release();
    assert!(breaker.ask(0).is_ok());
    let (mut breaker, _) = open();
    // Backwards: it stays open. Far ahead: it is due, and nothing overflows.
    assert!(breaker.ask(0).is_err());
    assert!(breaker.ask(u64::MAX).unwrap().is_probe());
    let (mut breaker, _) = open();
    breaker.reset();
    assert_eq!((breaker.state(), breaker.failures(6)), (BreakerState::Closed, 0));
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn half_open_is_left_within_the_probe_deadline_from_every_interleaving() {
    let settings = BreakerSettings {
        failure_threshold: 2,
        monitoring_period: Duration::from_millis(50),
        recovery_timeout: Duration::from_millis(20),
        probe_timeout: Duration::from_millis(10),
        probes: 2,
        probes_needed: 2,
        failure_percent: Some(60),
        slow_after: Some(Duration::from_millis(5)),
        slow_percent: 80,
        calls_needed: 3,
    };
    let mut seen = [0; 4];
    for seed in 0..2000 {
        let (mut dice, mut breaker) = (Dice(seed), Breaker::new(settings.clone(), seed));
        let (mut now, mut out, mut last_probe) = (0, Vec::new(), 0);
        for _ in 0..60 {
            match dice.throw(8) {
                0..=2 => {
                    if let Ok(pass) = breaker.ask(now) {
                        if pass.is_probe() {
                            last_probe = now;
                        }
                        out.push(pass);
                    }
                }
                3..=5 if !out.is_empty() => {
                    let at = dice.throw(out.len() as u64) as usize;
                    let outcome = match dice.throw(3) {
                        0 => Outcome::Success,
                        1 => Outcome::Failure("x".into()),
                        _ => Outcome::Ignored,
                    };
                    breaker.report(out.swap_remove(at), outcome, now);
                }
                6 if dice.throw(10) == 0 => breaker.hold("x"),
                6 => breaker.release(),
                _ => now += dice.throw(30),
            }
            breaker.look(now);
            seen[breaker.state() as usize] += 1;
            if breaker.state() == BreakerState::HalfOpen {
                assert!(now < last_probe + 10, "seed {seed}: half-open since {last_probe}, it is {now}");
                assert!(breaker.deadline_ms().is_some_and(|at| at <= last_probe + 10));
            }
        }
        // However it stands, time alone makes it answer again, unless a person holds it.
        breaker.release();
        let later = now + 10 + 20 * PAUSE_GROWTH_MAX * 2;
        breaker.look(later);
        assert!(breaker.ask(later + 400).is_ok(), "seed {seed}: {breaker:?}");
    }
    assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
}

#[test]
fn i11_the_last_of_a_group_is_never_opened_for_its_failures() {
    let group = std::sync::Arc::new(crate::guard::group::Group::default());
    let one = || {
        let mut breaker = breaker();
        breaker.join(Some(Member::of(std::sync::Arc::clone(&group))));
        breaker
    };
    let (mut first, mut second) = (one(), one());
    (0..5).for_each(|now| fail(&mut first, now));
    (0..100).for_each(|now| fail(&mut second, now));
    assert_eq!((first.state(), second.state()), (BreakerState::Open, BreakerState::Closed));
    assert_eq!(second.failures(100), 5);
    // A person may take it out, and while it is out nobody else is.
    second.hold("repairs");
    assert_eq!(second.state(), BreakerState::Isolated);
    second.release();
    first.reset();
    (0..5).for_each(|now| fail(&mut second, now));
    assert_eq!((first.state(), second.state()), (BreakerState::Closed, BreakerState::Open));
    (0..100).for_each(|now| fail(&mut first, now));
    assert_eq!(first.state(), BreakerState::Closed);
    // One that gets no calls stands in for nobody.
    second.reset();
    second.set_away(true);
    (100..200).for_each(|now| fail(&mut first, now));
    assert_eq!(first.state(), BreakerState::Closed);
    second.set_away(false);
    fail(&mut first, 200);
    assert_eq!(first.state(), BreakerState::Open);
    drop(second);
    let mut third = one();
    (0..100).for_each(|now| fail(&mut third, now));
    assert_eq!(third.state(), BreakerState::Closed);
}

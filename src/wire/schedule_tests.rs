//! Which time is next: of each kind, where a clock leaves an hour out or shows it twice, and where it was
//! set.

use super::*;
use crate::wire::spec::{RestartPolicy, Spec};

fn at(text: &str) -> Timestamp {
    of(text.parse().unwrap()).unwrap()
}

fn times(when: &str, zone: &str) -> Times {
    Times::new(when, TimeZone::get(zone).unwrap(), at("2026-01-01T00:00:07Z")).unwrap()
}

fn next_ones(when: &str, zone: &str, from: &str, n: usize) -> Vec<String> {
    let times = times(when, zone);
    let all = std::iter::successors(times.after(at(from)), |at| times.after(*at));
    all.take(n).map(|at| times.shown(at)).collect()
}

#[test]
fn every_kind_of_schedule_has_a_next_time() {
    let next = |when| next_ones(when, "UTC", "2026-01-01T10:00:30Z", 2).join(", ");
    assert_eq!(next("0 3 * * *"), "Fri 2026-01-02 03:00:00 UTC, Sat 2026-01-03 03:00:00 UTC");
    assert_eq!(next(" */10  9-10 * * MON-FRI"), "Thu 2026-01-01 10:10:00 UTC, Thu 2026-01-01 10:20:00 UTC");
    assert_eq!(next("@hourly"), "Thu 2026-01-01 11:00:00 UTC, Thu 2026-01-01 12:00:00 UTC");
    assert_eq!(next("@daily"), next("@midnight"));
    assert_eq!(next("@weekly"), "Sun 2026-01-04 00:00:00 UTC, Sun 2026-01-11 00:00:00 UTC");
    assert_eq!(next("@monthly"), "Sun 2026-02-01 00:00:00 UTC, Sun 2026-03-01 00:00:00 UTC");
    assert_eq!(next("@yearly"), next("@annually"));
    assert_eq!(next("@every 10m"), "Thu 2026-01-01 10:10:07 UTC, Thu 2026-01-01 10:20:07 UTC");
    assert_eq!(next("0 0 29 2 *"), "Tue 2028-02-29 00:00:00 UTC, Sun 2032-02-29 00:00:00 UTC");
}

#[test]
fn the_first_of_even_steps_is_one_step_after_the_begin() {
    let times = times("@every 90s", "UTC");
    assert_eq!(times.after(at("2025-12-31T00:00:00Z")), Some(at("2026-01-01T00:01:37Z")));
    assert_eq!(times.after(at("2026-01-01T00:00:07Z")), Some(at("2026-01-01T00:01:37Z")));
    assert_eq!(times.after(at("2026-01-01T00:01:37Z")), Some(at("2026-01-01T00:03:07Z")));
}

#[test]
fn an_hour_that_the_clock_leaves_out_comes_an_hour_later() {
    let (zone, before) = ("Europe/Berlin", "2026-03-28T12:00:00Z");
    assert_eq!(
        next_ones("30 2 * * *", zone, before, 2),
        ["Sun 2026-03-29 03:30:00 CEST", "Mon 2026-03-30 02:30:00 CEST"]
    );
    // Those that mean the same moment then run once.
    assert_eq!(
        next_ones("30 2,3 * * *", zone, before, 2),
        ["Sun 2026-03-29 03:30:00 CEST", "Mon 2026-03-30 02:30:00 CEST"]
    );
    assert_eq!(
        next_ones("*/30 * * * *", zone, "2026-03-29T00:15:00Z", 3),
        ["Sun 2026-03-29 01:30:00 CET", "Sun 2026-03-29 03:00:00 CEST", "Sun 2026-03-29 03:30:00 CEST"]
    );
}

#[test]
fn an_hour_that_the_clock_shows_twice_counts_once_if_it_is_named() {
    let (zone, before) = ("Europe/Berlin", "2026-10-24T12:00:00Z");
    assert_eq!(
        next_ones("30 2 * * *", zone, before, 2),
        ["Sun 2026-10-25 02:30:00 CEST", "Mon 2026-10-26 02:30:00 CET"]
    );
    assert_eq!(
        next_ones("30 2 * * *", zone, "2026-10-25T01:10:00Z", 1),
        ["Mon 2026-10-26 02:30:00 CET"],
        "between the first and the second 02:30 by a clock"
    );
    assert_eq!(
        next_ones("*/30 * * * *", zone, "2026-10-25T00:15:00Z", 4),
        [
            "Sun 2026-10-25 02:30:00 CEST",
            "Sun 2026-10-25 02:00:00 CET",
            "Sun 2026-10-25 02:30:00 CET",
            "Sun 2026-10-25 03:00:00 CET"
        ]
    );
}

#[test]
fn a_clock_that_was_set_back_a_little_comes_to_no_time_twice() {
    let daily = times("0 3 * * *", "UTC");
    let last = Some(at("2026-05-02T03:00:00Z"));
    let next = |now| daily.next(last, at(now)).unwrap();
    assert_eq!(next("2026-05-02T03:00:01Z"), at("2026-05-03T03:00:00Z"));
    assert_eq!(next("2026-05-02T00:30:00Z"), at("2026-05-03T03:00:00Z"), "by less than three hours");
    assert_eq!(next("2026-04-20T12:00:00Z"), at("2026-04-21T03:00:00Z"), "by far: it was wrong before");
    let often = times("@every 10m", "UTC");
    let last = Some(at("2026-05-02T03:00:07Z"));
    assert_eq!(often.next(last, at("2026-05-02T02:59:59Z")), Some(at("2026-05-02T03:10:07Z")));
    assert_eq!(often.next(last, at("2026-05-02T02:00:00Z")), Some(at("2026-05-02T02:00:07Z")));
}

#[test]
fn what_is_no_schedule_is_refused_with_what_is_one() {
    for bad in [
        "",
        "0 3 * *",
        "0 3 * * * UTC",
        "60 3 * * *",
        "x",
        "@every",
        "@every 10",
        "@every 0s",
        "@every 500d",
        "@every x",
        "@reboot",
        "@dayly",
        "0 0 30 2 *",
    ] {
        let mut spec = Spec::new(["true"]);
        spec.schedule = std::sync::Arc::new(Schedule { when: Some(bad.into()), ..Schedule::default() });
        let is_a_bare_number = bad == "@every 10";
        assert_eq!(spec.check().is_ok(), is_a_bare_number, "{bad}");
    }
    let e = Times::new("60 3 * * *", TimeZone::UTC, Timestamp(0)).unwrap_err();
    assert!(e.message.contains("60") && !e.message.contains('\n'), "{}", e.message);
    let spec = |change: fn(&mut Spec)| {
        let mut spec = Spec::new(["true"]);
        spec.schedule = std::sync::Arc::new(Schedule { when: Some("@daily".into()), ..Schedule::default() });
        change(&mut spec);
        spec
    };
    assert!(spec(|_| ()).check().is_ok() && !spec(|_| ()).starts_with_the_service());
    assert!(spec(|s| s.autostart = Some(false)).check().is_ok());
    assert!(spec(|s| s.autostart = Some(true)).check().is_err());
    assert!(spec(|s| s.restart.policy = RestartPolicy::Always).check().is_err());
    assert!(spec(|s| std::sync::Arc::make_mut(&mut s.schedule).when = None).check().is_ok());
}

#[test]
fn a_zone_is_known_to_the_host_or_refused() {
    let zoned =
        |zone: &str| Schedule { when: Some("@daily".into()), zone: Some(zone.into()), ..Schedule::default() };
    assert!(zoned("Europe/Berlin").times(Timestamp(0)).unwrap().is_some());
    let e = zoned("Europe/Nowhere").times(Timestamp(0)).unwrap_err();
    assert!(e.message.contains("'Europe/Nowhere'") && e.hint.contains("tzdata"), "{e}");
    assert_eq!(zoned("Asia/Tokyo").with_zone().zone.as_deref(), Some("Asia/Tokyo"));
    assert_eq!(Schedule::default().with_zone(), Schedule::default());
}

#[test]
fn what_is_encoded_is_read_back() {
    let schedule = Schedule {
        when: Some("@daily".into()),
        zone: Some("UTC".into()),
        overlap: Overlap::Replace,
        missed: Missed::Run,
        jitter: Duration::from_secs(5),
    };
    assert_eq!(Schedule::from_wire(schedule.to_wire()), schedule);
    assert_eq!((Schedule::default().to_wire(), Schedule::from_wire(None)), (None, Schedule::default()));
}

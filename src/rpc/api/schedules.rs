//! Schedules as the public messages have them, and back.

use crate::rpc::api::values::{Invalid, Pairs, duration, ms, proto, same_names};
use crate::rpc::services::public as api;
use crate::wire::proto::v1;
use crate::wire::schedule::{Missed, Overlap, Schedule};

const OVERLAPS: Pairs<Overlap, api::ScheduleOverlap> =
    same_names!(Overlap as ScheduleOverlap: Forbid Replace);
const MISSED: Pairs<Missed, api::ScheduleMissed> = same_names!(Missed as ScheduleMissed: Skip Run);

/// Of a request.
pub(super) fn to_wire(rules: api::ScheduleRules) -> Result<v1::Schedule, Invalid> {
    let jitter = rules.jitter.map(|jitter| ms("spec.schedule.jitter", jitter)).transpose()?;
    Ok(v1::Schedule {
        when: rules.when,
        zone: rules.time_zone,
        overlap: OVERLAPS.asked("spec.schedule.overlap", rules.overlap)?.unwrap_or_default().to_wire() as i32,
        missed: MISSED.asked("spec.schedule.missed", rules.missed)?.unwrap_or_default().to_wire() as i32,
        jitter_ms: jitter.unwrap_or(0),
    })
}

/// Of an answer.
pub(super) fn shown(rules: api::ScheduleRules) -> Schedule {
    let text = |t: String| (!t.is_empty()).then_some(t);
    Schedule {
        when: text(rules.when),
        zone: text(rules.time_zone),
        overlap: OVERLAPS.known(rules.overlap).unwrap_or_default(),
        missed: MISSED.known(rules.missed).unwrap_or_default(),
        jitter: duration(rules.jitter),
    }
}

pub(super) fn rules(schedule: &Schedule) -> Option<api::ScheduleRules> {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    (*schedule != Schedule::default()).then(|| api::ScheduleRules {
        when: text(&schedule.when),
        time_zone: text(&schedule.zone),
        overlap: OVERLAPS.number(schedule.overlap),
        missed: MISSED.number(schedule.missed),
        jitter: Some(proto(schedule.jitter)),
    })
}

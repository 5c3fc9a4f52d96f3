//! The fields of a definition that say when it runs by itself.

use std::sync::Arc;
use std::time::Duration;

use crate::wire::field::{Effect, Field};
use crate::wire::field_values::{DURATION, span, text, time};
use crate::wire::schedule::{Missed, Overlap, Schedule};
use crate::wire::spec::Spec;

/// A process has one run at a time, so there is no third way.
pub const OVERLAP: &str =
    "\"forbid\" or \"replace\"; two runs at once, as \"allow\" elsewhere, take two processes (instances)";
const MISSED: &str = "\"skip\" or \"run\"";

/// All of them, in the order in which they are shown.
pub(in crate::wire) const SCHEDULE_FIELDS: [Field; 5] = [
    Field {
        key: "schedule",
        effect: Effect::InPlace,
        takes: "five fields of cron, as \"0 3 * * *\", or \"@every 10m\", \"@daily\" and the like",
        get: |s| s.schedule.when.clone().map(Into::into),
        set: |s, v| text(v).map(|when| schedule(s).when = Some(when)),
    },
    Field {
        key: "schedule_zone",
        effect: Effect::InPlace,
        takes: "the name of a time zone, as \"Europe/Berlin\"",
        get: |s| s.schedule.zone.clone().map(Into::into),
        set: |s, v| text(v).map(|zone| schedule(s).zone = Some(zone)),
    },
    Field {
        key: "schedule_overlap",
        effect: Effect::InPlace,
        takes: OVERLAP,
        get: |s| {
            let overlap = s.schedule.overlap;
            (overlap != Overlap::default()).then(|| overlap.name().into())
        },
        set: |s, v| {
            let found = Overlap::ALL.into_iter().find(|overlap| v.as_str() == Some(overlap.name()));
            schedule(s).overlap = found.ok_or_else(|| OVERLAP.to_owned())?;
            Ok(())
        },
    },
    Field {
        key: "schedule_missed",
        effect: Effect::InPlace,
        takes: MISSED,
        get: |s| {
            let missed = s.schedule.missed;
            (missed != Missed::default()).then(|| missed.name().into())
        },
        set: |s, v| {
            let found = Missed::ALL.into_iter().find(|missed| v.as_str() == Some(missed.name()));
            schedule(s).missed = found.ok_or_else(|| MISSED.to_owned())?;
            Ok(())
        },
    },
    Field {
        key: "schedule_jitter",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| span(s.schedule.jitter, Duration::ZERO),
        set: |s, v| time(v).map(|jitter| schedule(s).jitter = jitter),
    },
];

fn schedule(spec: &mut Spec) -> &mut Schedule {
    Arc::make_mut(&mut spec.schedule)
}

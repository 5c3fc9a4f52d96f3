//! How a process stands, as others see it who need it.

use std::sync::Arc;

use crate::engine::board::Standing;
use crate::engine::process::restart::is_done;
use crate::wire::probes::Readiness;
use crate::wire::process::State;
use crate::wire::record::Record;
use crate::wire::spec::Spec;
use crate::wire::time::millis;

/// Whether it is about to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    Stays,
    Leaves,
}

/// How it stands, for the board.
pub fn standing(record: &Record, spec: &Spec, going: Going) -> Standing {
    let is_active = match record.state {
        State::Running | State::Stopping => true,
        State::Starting => record.waits_for.is_empty(),
        State::Stopped | State::Scheduled | State::Failed | State::Backoff => false,
    };
    Standing {
        name: record.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default(),
        needs: Arc::clone(&spec.needs),
        state: record.state,
        run: record.run,
        started_mono: record.started_mono,
        is_ready: record.state == State::Running && record.ready || is_done(record, spec),
        is_job: spec.ready == Some(Readiness::Exit),
        is_active,
        is_blocked: record.is_blocked,
        is_leaving: going == Going::Leaves,
        stop_ms: millis(spec.stop_time()),
    }
}

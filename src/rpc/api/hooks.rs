//! Hooks as the public messages have them, and back.

use crate::rpc::api::values::{Invalid, Pairs, ms, proto, same_names};
use crate::rpc::services::public as api;
use crate::wire::hooks::{Hooks, OnFailure, When};
use crate::wire::proto::v1;

const MOMENTS: Pairs<When, api::HookMoment> =
    same_names!(When as HookMoment: PreStart PostStart PreStop PostStop);
const FAILURES: Pairs<OnFailure, api::HookFailure> = same_names!(OnFailure as HookFailure: Fail Ignore Retry);

/// Of a request.
pub(super) fn to_wire(hooks: Vec<api::ProcessHook>) -> Result<Vec<v1::Hook>, Invalid> {
    let hook = |hook: api::ProcessHook| {
        let unsaid = || Invalid::because("spec.hooks.moment", "it is not said when it runs");
        let when = MOMENTS.asked("spec.hooks.moment", hook.moment)?.ok_or_else(unsaid)?;
        let on_failure = FAILURES.asked("spec.hooks.on_failure", hook.on_failure.unwrap_or_default())?;
        Ok(v1::Hook {
            when: when as u32,
            command: hook.command,
            timeout_ms: hook.timeout.map(|time| ms("spec.hooks.timeout", time)).transpose()?.unwrap_or(0),
            on_failure: on_failure.map_or(0, |what| what as u32),
        })
    };
    hooks.into_iter().map(hook).collect()
}

pub(super) fn rules(hooks: &Hooks) -> Vec<api::ProcessHook> {
    let all = When::ALL.into_iter().filter_map(|when| Some((when, hooks.get(when)?)));
    all.map(|(when, hook)| api::ProcessHook {
        moment: MOMENTS.number(when),
        command: hook.command.clone(),
        timeout: hook.timeout.map(proto),
        on_failure: hook.on_failure.map(|what| FAILURES.number(what)),
    })
    .collect()
}

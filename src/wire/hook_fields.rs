//! The fields of a definition that say what runs beside the life of a process.

use std::sync::Arc;

use serde_json::Value;

use crate::wire::field::{Effect, Field};
use crate::wire::field_values::{DURATION, texts, time};
use crate::wire::hooks::{Hook, OnFailure, When};
use crate::wire::spec::Spec;
use crate::wire::values::duration_text;

const COMMAND: &str = "a list of strings: a program, and its arguments";
const START_FAILURE: &str = "\"fail\", \"ignore\" or \"retry\"";
const STOP_FAILURE: &str = "\"ignore\" or \"retry\"";

/// All of them, in the order in which they are shown.
pub(in crate::wire) const HOOK_FIELDS: [Field; 12] = [
    command::<0>("pre_start"),
    timeout::<0>("pre_start_timeout"),
    failure::<0>("pre_start_failure"),
    command::<1>("post_start"),
    timeout::<1>("post_start_timeout"),
    failure::<1>("post_start_failure"),
    command::<2>("pre_stop"),
    timeout::<2>("pre_stop_timeout"),
    failure::<2>("pre_stop_failure"),
    command::<3>("post_stop"),
    timeout::<3>("post_stop_timeout"),
    failure::<3>("post_stop_failure"),
];

const fn command<const N: usize>(key: &'static str) -> Field {
    let (get, set) = (command_of::<N>, set_command::<N>);
    Field { key, effect: Effect::InPlace, takes: COMMAND, get, set }
}

const fn timeout<const N: usize>(key: &'static str) -> Field {
    let (get, set) = (timeout_of::<N>, set_timeout::<N>);
    Field { key, effect: Effect::InPlace, takes: DURATION, get, set }
}

const fn failure<const N: usize>(key: &'static str) -> Field {
    let takes = if When::ALL[N].is_of_stop() { STOP_FAILURE } else { START_FAILURE };
    Field { key, effect: Effect::InPlace, takes, get: failure_of::<N>, set: set_failure::<N> }
}

fn hook<const N: usize>(spec: &Spec) -> &Hook {
    spec.hooks.of(When::ALL[N])
}

fn hook_mut<const N: usize>(spec: &mut Spec) -> &mut Hook {
    Arc::make_mut(&mut spec.hooks).of_mut(When::ALL[N])
}

fn command_of<const N: usize>(spec: &Spec) -> Option<Value> {
    let command = &hook::<N>(spec).command;
    (!command.is_empty()).then(|| command.clone().into())
}

fn set_command<const N: usize>(spec: &mut Spec, value: &Value) -> Result<(), String> {
    hook_mut::<N>(spec).command = texts(value)?;
    Ok(())
}

fn timeout_of<const N: usize>(spec: &Spec) -> Option<Value> {
    hook::<N>(spec).timeout.map(|time| duration_text(time).into())
}

fn set_timeout<const N: usize>(spec: &mut Spec, value: &Value) -> Result<(), String> {
    hook_mut::<N>(spec).timeout = Some(time(value)?);
    Ok(())
}

fn failure_of<const N: usize>(spec: &Spec) -> Option<Value> {
    hook::<N>(spec).on_failure.map(|what| what.name().into())
}

fn set_failure<const N: usize>(spec: &mut Spec, value: &Value) -> Result<(), String> {
    let found = OnFailure::ALL.into_iter().find(|what| value.as_str() == Some(what.name()));
    let takes = if When::ALL[N].is_of_stop() { STOP_FAILURE } else { START_FAILURE };
    let is_known = |what: &OnFailure| !(When::ALL[N].is_of_stop() && *what == OnFailure::Fail);
    hook_mut::<N>(spec).on_failure = Some(found.filter(is_known).ok_or_else(|| takes.to_owned())?);
    Ok(())
}

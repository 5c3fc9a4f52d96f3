//! Values of fields: from JSON, as a configuration has them too, into what a definition holds, and back. What
//! is returned as an error is what the field takes instead.

use std::mem;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::sys::limits;
use crate::wire::grpc_probe::GrpcEnd;
use crate::wire::probes::{HttpUrl, Liveness, Readiness, THRESHOLD_MAX};
use crate::wire::spec::{Rlimit, Spec};
use crate::wire::values::{duration, duration_text, size};

pub(in crate::wire) const DURATION: &str = "a duration, as \"500ms\", \"10s\", \"2m\", \"1h\" or \"30d\"";
pub(in crate::wire) const THRESHOLD: &str = "a whole number from 1 to 1000";
pub(in crate::wire) const LIMITS: &str = "a table of \"SOFT\" or \"SOFT:HARD\", as nofile = \"1024:4096\"";

pub(in crate::wire) fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(ToOwned::to_owned).ok_or_else(|| "a string".to_owned())
}

pub(in crate::wire) fn texts(value: &Value) -> Result<Vec<String>, String> {
    let refusal = || "a list of strings".to_owned();
    let list = value.as_array().ok_or_else(refusal)?;
    list.iter().map(|entry| text(entry).map_err(|_| refusal())).collect()
}

pub(in crate::wire) fn flag(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "true or false".to_owned())
}

pub(in crate::wire) fn time(value: &Value) -> Result<Duration, String> {
    // A number without a unit is taken on the command line, where it is at once seen what it does.
    let text = value.as_str().filter(|text| text.ends_with(char::is_alphabetic));
    text.and_then(duration).ok_or_else(|| DURATION.to_owned())
}

pub(in crate::wire) fn span(time: Duration, default: Duration) -> Option<Value> {
    (time != default).then(|| duration_text(time).into())
}

pub(in crate::wire) fn threshold(value: &Value) -> Result<u32, String> {
    let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
    number.filter(|n| (1..=THRESHOLD_MAX).contains(n)).ok_or_else(|| THRESHOLD.to_owned())
}

pub(in crate::wire) fn url(value: &Value) -> Result<String, String> {
    let url = text(value)?;
    HttpUrl::parse(&url).map(|_| url).map_err(|e| format!("a URL of an address of this kind: {}", e.message))
}

pub(in crate::wire) fn grpc_end(value: &Value) -> Result<String, String> {
    let end = text(value)?;
    GrpcEnd::parse(&end).map(|_| end).map_err(|e| format!("a server of this kind: {}", e.message))
}

pub(in crate::wire) fn names_value(names: &[String]) -> Option<Value> {
    (!names.is_empty()).then(|| names.into())
}

/// A table; where a name comes twice, which a table cannot say, a list.
pub(in crate::wire) fn pairs_value(pairs: &[(String, String)]) -> Option<Value> {
    let table: Map<_, _> = pairs.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect();
    match pairs.len() {
        0 => None,
        len if table.len() == len => Some(table.into()),
        _ => Some(pairs.iter().map(|(key, value)| format!("{key}={value}")).collect()),
    }
}

pub(in crate::wire) fn pairs(value: &Value) -> Result<Vec<(String, String)>, String> {
    let refusal = || "a table of strings, or a list of \"KEY=VALUE\"".to_owned();
    match value {
        Value::Object(table) => {
            let pair = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
            table.iter().map(pair).collect::<Option<_>>().ok_or_else(refusal)
        }
        Value::Array(list) => {
            let pair = |entry: &Value| {
                let (key, value) = entry.as_str()?.split_once('=')?;
                Some((key.to_owned(), value.to_owned()))
            };
            list.iter().map(pair).collect::<Option<_>>().ok_or_else(refusal)
        }
        _ => Err(refusal()),
    }
}

/// `1024`, `1024:4096` or `unlimited`.
#[must_use]
pub fn limit_text(limit: &Rlimit) -> String {
    let amount = |n: u64| if n == u64::MAX { "unlimited".to_owned() } else { n.to_string() };
    let (soft, hard) = (amount(limit.soft), amount(limit.hard));
    if soft == hard { soft } else { format!("{soft}:{hard}") }
}

pub(in crate::wire) fn limit((resource, value): &(String, String)) -> Result<Rlimit, String> {
    if limits::rlimit_number(resource).is_none() {
        return Err(format!("the resources {}", limits::rlimit_names().collect::<Vec<_>>().join(", ")));
    }
    let amount = |text: &str| if text == "unlimited" { Some(u64::MAX) } else { size(text) };
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let (soft, hard) = amount(soft).zip(amount(hard)).ok_or_else(|| LIMITS.to_owned())?;
    Ok(Rlimit { resource: resource.to_ascii_lowercase(), soft, hard })
}

/// The fields of which a definition has one at most.
#[must_use]
pub fn alternatives(key: &str) -> &'static [&'static str] {
    let all: [&'static [&'static str]; 2] = [
        &["ready_line", "ready_tcp", "ready_notify", "ready_http", "ready_exec", "ready_exit", "ready_grpc"],
        &["live_tcp", "live_http", "live_exec", "live_notify", "live_grpc"],
    ];
    all.into_iter().find(|keys| keys.contains(&key)).unwrap_or_default()
}

fn one_of(present: bool, key: &str) -> Result<(), String> {
    if present {
        return Err(format!("no place beside another: give one of {}", alternatives(key).join(", ")));
    }
    Ok(())
}

pub(in crate::wire) fn ready(spec: &mut Spec, ready: Readiness) -> Result<(), String> {
    let is_other = |there: &Readiness| mem::discriminant(there) != mem::discriminant(&ready);
    one_of(spec.ready.as_ref().is_some_and(is_other), "ready_line")?;
    spec.ready = Some(ready);
    Ok(())
}

pub(in crate::wire) fn live(spec: &mut Spec, live: Liveness) -> Result<(), String> {
    let is_other = |there: &Liveness| mem::discriminant(there) != mem::discriminant(&live);
    one_of(spec.live.as_ref().is_some_and(is_other), "live_tcp")?;
    spec.live = Some(live);
    Ok(())
}

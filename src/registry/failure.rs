//! What can be wrong with a call of the registry itself. What a provider fails with is told as it is.

use std::time::Duration;

use crate::guard::breaker::{BreakerState, Rejection};
use crate::sys::clock;
use crate::wire::error::{Code, Error};
use crate::wire::json::time;
use crate::wire::provider::ProviderName;
use crate::wire::time::Timestamp;

pub fn not_found(name: &ProviderName) -> Error {
    Error::new(Code::NotFound, format!("provider {name}: is not registered"))
        .hint("'provost registry list' shows what there is")
        .reason("not_found")
}

pub fn already_exists(name: &ProviderName) -> Error {
    Error::new(Code::Refused, format!("provider {name}: is registered already"))
        .hint(format!("'provost registry unregister {name}' makes room, or take another name"))
        .reason("already_exists")
}

pub fn disposed(name: &ProviderName) -> Error {
    Error::new(Code::Refused, format!("provider {name}: was disposed of"))
        .hint(format!("'provost registry initialize {name}' has it running again"))
        .reason("disposed")
}

/// Nobody is started to be asked how they are.
pub fn not_running(name: &ProviderName) -> Error {
    Error::new(Code::Refused, format!("provider {name}: does not run"))
        .hint(format!("'provost registry start {name}' has it running"))
        .reason("not_running")
}

/// Its process has ended while nobody asked it anything.
pub fn ended(name: &ProviderName, how: &str) -> Error {
    Error::new(Code::Failed, format!("provider {name}: ended by itself: {how}")).reason("crashed")
}

/// It only stands for something: a namespace, or a secret.
pub fn passive(name: &ProviderName, namespace: Option<String>) -> Error {
    match namespace {
        Some(namespace) => {
            let message =
                format!("provider {name}: is namespace {namespace} of modules: nothing runs for it");
            Error::new(Code::Refused, message)
                .hint("'provost module call' calls its modules")
                .reason("module")
        }
        None => Error::new(Code::Refused, format!("provider {name}: is a credential: nothing runs for it"))
            .hint("a plugin or a provider of the configuration that has this name takes its place")
            .reason("credential"),
    }
}

/// What it is to be made of is not good.
pub fn invalid_config(name: &ProviderName, why: &str) -> Error {
    Error::new(Code::Usage, format!("provider {name}: {why}")).reason("invalid_config")
}

/// A permit is of one provider; what is reported is a permit, and a chain names its own.
pub fn of_no_entry() -> Error {
    Error::usage("a permit is for one provider; a report, a chain and a refresh are for none")
}

/// Another thread registers it or takes it away.
pub fn busy(name: &ProviderName) -> Error {
    Error::new(Code::Refused, format!("provider {name}: is being registered or taken away"))
        .hint("try again in a moment")
        .reason("busy")
}

pub fn unknown_type(name: &ProviderName, kind: &str) -> Error {
    let message = format!("provider {name}: there is no type {}", crate::wire::id::quoted(kind));
    Error::new(Code::Usage, message)
        .hint("there are 'process', with a binary, 'remote', with an address, and 'module', with a namespace")
        .reason("invalid_config")
}

/// It has not ended, though it was given this time, and was killed.
pub fn not_ended(name: &ProviderName, after: Duration) -> Error {
    let message = format!("provider {name}: has not ended within {} s", after.as_secs_f32());
    Error::new(Code::TimedOut, message)
        .hint(format!("'provost status {}' shows what is left of it", name.process()))
        .reason("timeout")
}

/// It was started, or could not be, and nothing of it is left.
pub fn registration_failed(name: &ProviderName, cause: Error) -> Error {
    let why = without_name(name, &cause.message);
    let message = format!("provider {name}: cannot be registered: {why}");
    let reason = match cause.reason.as_str() {
        _ if cause.code == Code::TimedOut => "timeout",
        "invalid_config" => "invalid_config",
        _ => "registration_failed",
    };
    Error { message, ..cause }.reason(reason)
}

/// The breaker lets no call through.
pub fn circuit_open(name: &ProviderName, rejection: &Rejection) -> Error {
    let why = &rejection.why;
    let (message, hint) = match (rejection.state, rejection.retry_ms) {
        (BreakerState::Isolated, _) | (_, None) => (
            format!("its circuit breaker is held open: {why}"),
            format!("'provost registry release {name}' lets calls through again"),
        ),
        (BreakerState::HalfOpen, Some(_)) => (
            format!("its circuit breaker is half-open, and another call is the probe; it opened for: {why}"),
            "try again in a moment".to_owned(),
        ),
        (BreakerState::Open | BreakerState::Closed, Some(retry_ms)) => {
            let left = retry_ms.saturating_sub(clock::now_ms());
            let at = time(wall(retry_ms));
            let seconds = left.div_ceil(1000);
            (
                format!(
                    "its circuit breaker is open; the next probe is in {seconds} s, at {at}; it opened for: {why}"
                ),
                format!("wait, or 'provost registry reset {name}' when it is mended"),
            )
        }
    };
    let mut e = Error::new(Code::Refused, format!("provider {name}: {message}"));
    let left_ms = rejection.retry_ms.map(|at| at.saturating_sub(clock::now_ms()).max(1));
    e.retry_after_ms = left_ms.map_or(0, |ms| u32::try_from(ms).unwrap_or(u32::MAX));
    e.hint(hint).reason("circuit_open")
}

/// A moment of the monotonic clock by the wall clock, for people.
pub fn wall(mono_ms: u64) -> Timestamp {
    Timestamp(Timestamp::now().0.saturating_add(mono_ms).saturating_sub(clock::now_ms()))
}

/// A message of a provider, without saying whose it is.
pub fn without_name<'a>(name: &ProviderName, message: &'a str) -> &'a str {
    let rest = message.strip_prefix("provider ").and_then(|rest| rest.strip_prefix(&name.to_string()));
    rest.and_then(|rest| rest.strip_prefix(": ")).unwrap_or(message)
}

/// Whether an error says that the provider does not work, rather than that the question was bad. By the
/// reasons of `provider/failure.rs`.
pub fn is_of_the_provider(e: &Error) -> bool {
    matches!(
        e.reason.as_str(),
        "crashed"
            | "unavailable"
            | "deadline"
            | "refused"
            | "not_initialised"
            | "not_started"
            | "handshake_timeout"
            | "bad_handshake"
            | "not_proven"
            | "exited_early"
            | "not_healthy"
            | "init_failed"
    )
}

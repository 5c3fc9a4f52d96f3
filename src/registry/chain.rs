//! Chains: providers that are tried in turn within one time, each past its breaker as any call. Those that
//! are not well are tried last. Who fails or is passed over is told, with the reason.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use crate::registry::entry::Entry;
use crate::registry::health::OK;
use crate::registry::{Cause, Registry, failure};
use crate::sys::{clock, thread};
use crate::wire::error::{Code, Error};
use crate::wire::permit::{Chain, ChainValue, Wanted};
use crate::wire::provider::{ProviderAnswer, ProviderCall, ProviderName};
use crate::wire::registry::RegistryAnswer;
use crate::wire::time::millis;

/// The longest reason of one provider in the error of all, in characters.
const REASON_LEN_MAX: usize = 300;

impl Registry {
    /// What the first one of them has that can be used.
    pub(super) fn chain(self: &Arc<Self>, chain: Chain, cause: Cause<'_>) -> Result<RegistryAnswer, Error> {
        let deadline_ms = chain.timeout.map(|timeout| clock::now_ms().saturating_add(millis(timeout)));
        let mut answer = RegistryAnswer::default();
        for name in self.in_turn(&chain.names) {
            let left = deadline_ms.map(|at| Duration::from_millis(at.saturating_sub(clock::now_ms())));
            let result = match (self.find(&name), &chain.wanted) {
                _ if left.is_some_and(|left| left.is_zero()) => Err(late(&name)),
                (Err(e), _) => Err(e),
                (Ok(entry), Wanted::Permit(expiry)) => {
                    self.permit(&entry, *expiry).map(|permit| answer.permit = Some(permit))
                }
                (Ok(entry), Wanted::Value(path)) => self.value(&entry, path, left, cause).map(|value| {
                    answer.value = Some(ChainValue { name: name.clone(), value });
                }),
            };
            match result {
                Ok(()) => return Ok(answer),
                Err(e) => answer.failures.push((name, e)),
            }
        }
        Err(none_left(&answer.failures))
    }

    /// In the order that is given; those that are not well come last.
    fn in_turn(&self, names: &[ProviderName]) -> Vec<ProviderName> {
        let is_well = |name: &&ProviderName| {
            self.find(name).map_or(true, |entry| entry.facts.lock().health.status() == OK)
        };
        let (well, others): (Vec<_>, Vec<_>) = names.iter().partition(is_well);
        well.into_iter().chain(others).cloned().collect()
    }

    /// A value of one of them. What takes longer than is left is left to itself: its result counts for its
    /// breaker all the same.
    fn value(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        path: &[String],
        left: Option<Duration>,
        cause: Cause<'_>,
    ) -> Result<Vec<u8>, Error> {
        if entry.is_passive() {
            return Err(failure::passive(&entry.name, entry.namespace()));
        }
        let (ours, theirs, cause) = (Arc::clone(self), Arc::clone(entry), cause.to_owned());
        let call = ProviderCall::Fetch(entry.name.clone(), path.to_vec());
        let Some(left) = left else { return value_of(&self.guarded(entry, call, &cause)?) };
        let (to, from) = bounded(1);
        thread::spawn("chain", move || drop(to.send(ours.guarded(&theirs, call, &cause))))
            .map_err(|e| Error::failed("start a thread", &e))?;
        match from.recv_timeout(left) {
            Ok(result) => value_of(&result?),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(late(&entry.name)),
        }
    }
}

fn value_of(answer: &ProviderAnswer) -> Result<Vec<u8>, Error> {
    match answer.plain() {
        ProviderAnswer::Value(value) => Ok(value.clone()),
        _ => Err(Error::new(Code::Failed, "the provider has answered something else")),
    }
}

fn late(name: &ProviderName) -> Error {
    let message = format!("provider {name}: the time of the chain was over before it answered");
    Error::new(Code::TimedOut, message).hint("--timeout gives the chain more").reason("deadline")
}

/// Nobody could be used, for these reasons. It makes sense to come again when the first of them lets calls
/// through.
fn none_left(failures: &[(ProviderName, Error)]) -> Error {
    let one = |(name, e): &(ProviderName, Error)| {
        let why: String = failure::without_name(name, &e.message).chars().take(REASON_LEN_MAX).collect();
        format!("{name}: {why}")
    };
    let reasons: Vec<_> = failures.iter().map(one).collect();
    let message = format!("no provider of the chain could be used; {}", reasons.join("; "));
    let mut e = Error::new(Code::Refused, message).reason("no_available_provider");
    let known = failures.iter().map(|(_, e)| e.retry_after_ms).filter(|&ms| ms > 0);
    e.retry_after_ms = known.min().unwrap_or(0);
    e.hint("'provost registry list' shows how they are")
}

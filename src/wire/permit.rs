//! What others ask of the registry who call a provider themselves: a permit before a call and a report after
//! it, and a chain of providers, of which the first one is used that can be.

use std::time::Duration;

use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::proto::v1;
use crate::wire::provider::ProviderName;
use crate::wire::provider_messages::checked_path;
use crate::wire::time::{Timestamp, millis};

/// The longest time for which a permit is good.
pub const PERMIT_MAX: Duration = Duration::from_secs(3600);
/// The longest text of a permit or a reason, in bytes.
const TEXT_LEN_MAX: usize = 256;
/// The most providers of a chain.
const CHAIN_MAX: usize = 16;
/// The longest time of a chain.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// The right to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// What the report names it by.
    pub id: String,
    /// Of this provider.
    pub name: ProviderName,
    /// Until when it can be reported; its place is given back then.
    pub expires_at: Timestamp,
    /// The call is to find out whether things are better.
    pub is_probe: bool,
}

/// How a call has ended that there was a permit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Failed,
    /// It says nothing about the provider.
    Ignored,
}

/// The end of a call that there was a permit for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The id of the permit.
    pub permit: String,
    pub outcome: Outcome,
    /// Why it failed; may be empty.
    pub reason: String,
}

/// Providers that are tried in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub names: Vec<ProviderName>,
    pub wanted: Wanted,
    /// For all of it; none: as long as the providers take.
    pub timeout: Option<Duration>,
}

/// What is wanted of the first one that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The value at this path.
    Value(Vec<String>),
    /// A permit, good for so long; none: as configured.
    Permit(Option<Duration>),
}

/// A value, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainValue {
    pub name: ProviderName,
    /// `google.protobuf.Struct`, encoded.
    pub value: Vec<u8>,
}

impl Outcome {
    pub const NAMES: [(&'static str, Self); 3] =
        [("ok", Self::Ok), ("failed", Self::Failed), ("ignored", Self::Ignored)];

    /// Of the word for it.
    pub fn from_name(name: &str) -> Result<Self, Error> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        let e = || Error::usage(format!("a call ends 'ok', 'failed' or 'ignored', not {}", quoted(name)));
        found.map(|(_, outcome)| *outcome).ok_or_else(e)
    }

    fn to_wire(self) -> v1::PermitOutcome {
        match self {
            Self::Ok => v1::PermitOutcome::Ok,
            Self::Failed => v1::PermitOutcome::Failed,
            Self::Ignored => v1::PermitOutcome::Ignored,
        }
    }

    fn from_wire(number: i32) -> Result<Self, Error> {
        match v1::PermitOutcome::try_from(number) {
            Ok(v1::PermitOutcome::Ok) => Ok(Self::Ok),
            Ok(v1::PermitOutcome::Failed) => Ok(Self::Failed),
            Ok(v1::PermitOutcome::Ignored) => Ok(Self::Ignored),
            Err(_) => Err(Error::usage("the registry does not know this end of a call")),
        }
    }
}

/// None is as configured.
pub(in crate::wire) fn checked_expiry(ms: u64) -> Result<Option<Duration>, Error> {
    match Duration::from_millis(ms) {
        Duration::ZERO => Ok(None),
        expiry if expiry <= PERMIT_MAX => Ok(Some(expiry)),
        _ => Err(Error::usage("a permit is good for at most 1h")),
    }
}

impl Permit {
    pub(in crate::wire) fn to_wire(&self) -> v1::RegistryPermit {
        v1::RegistryPermit {
            id: self.id.clone(),
            set: self.name.set().to_owned(),
            alias: self.name.alias().to_owned(),
            expires_at: self.expires_at.0,
            probe: self.is_probe,
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::RegistryPermit) -> Result<Self, Error> {
        let name = ProviderName::new(&w.set, &w.alias)?;
        Ok(Self { id: w.id, name, expires_at: Timestamp(w.expires_at), is_probe: w.probe })
    }
}

impl Report {
    pub(in crate::wire) fn to_wire(&self) -> v1::RegistryReport {
        let outcome = self.outcome.to_wire().into();
        v1::RegistryReport { permit: self.permit.clone(), outcome, reason: self.reason.clone() }
    }

    pub(in crate::wire) fn from_wire(w: v1::RegistryReport) -> Result<Self, Error> {
        if w.permit.is_empty() || w.permit.len().max(w.reason.len()) > TEXT_LEN_MAX {
            return Err(Error::usage(format!("a permit and a reason have at most {TEXT_LEN_MAX} bytes")));
        }
        Ok(Self { permit: w.permit, outcome: Outcome::from_wire(w.outcome)?, reason: w.reason })
    }
}

impl Chain {
    pub(in crate::wire) fn to_wire(&self) -> v1::RegistryChain {
        let target = |name: &ProviderName| v1::RegistryTarget {
            set: name.set().to_owned(),
            alias: name.alias().to_owned(),
        };
        let (path, permit, expires_ms) = match &self.wanted {
            Wanted::Value(path) => (path.clone(), false, 0),
            Wanted::Permit(expiry) => (Vec::new(), true, expiry.map_or(0, millis)),
        };
        let (targets, timeout_ms) = (self.names.iter().map(target).collect(), self.timeout.map_or(0, millis));
        v1::RegistryChain { targets, path, permit, expires_ms, timeout_ms }
    }

    pub(in crate::wire) fn from_wire(w: v1::RegistryChain) -> Result<Self, Error> {
        if w.targets.is_empty() {
            return Err(Error::usage("the chain has no providers").reason("empty_provider_chain"));
        }
        if w.targets.len() > CHAIN_MAX {
            return Err(Error::usage(format!("a chain has at most {CHAIN_MAX} providers")));
        }
        let timeout = Duration::from_millis(w.timeout_ms);
        if timeout > TIMEOUT_MAX {
            return Err(Error::usage("a chain has at most 1h"));
        }
        let name = |t: v1::RegistryTarget| ProviderName::new(&t.set, &t.alias);
        let wanted = if w.permit {
            Wanted::Permit(checked_expiry(w.expires_ms)?)
        } else {
            Wanted::Value(checked_path(w.path)?)
        };
        Ok(Self {
            names: w.targets.into_iter().map(name).collect::<Result<_, _>>()?,
            wanted,
            timeout: (!timeout.is_zero()).then_some(timeout),
        })
    }
}

impl ChainValue {
    pub(in crate::wire) fn to_wire(&self) -> v1::RegistryValue {
        let (set, alias) = (self.name.set().to_owned(), self.name.alias().to_owned());
        v1::RegistryValue { set, alias, value: self.value.clone() }
    }

    pub(in crate::wire) fn from_wire(w: v1::RegistryValue) -> Result<Self, Error> {
        Ok(Self { name: ProviderName::new(&w.set, &w.alias)?, value: w.value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_and_chains_come_back_and_bad_ones_are_refused() {
        for (_, outcome) in Outcome::NAMES {
            let report = Report { permit: "p".into(), outcome, reason: "down".into() };
            assert_eq!(Report::from_wire(report.to_wire()), Ok(report));
        }
        assert!(Outcome::from_name("well").is_err());
        let name = |alias: &str| ProviderName::new("", alias).unwrap();
        let chain = Chain {
            names: vec![name("a"), name("b")],
            wanted: Wanted::Value(vec!["x".into()]),
            timeout: Some(Duration::from_secs(1)),
        };
        let permit =
            Chain { wanted: Wanted::Permit(Some(Duration::from_secs(2))), timeout: None, ..chain.clone() };
        for chain in [chain.clone(), permit] {
            assert_eq!(Chain::from_wire(chain.to_wire()), Ok(chain));
        }
        let e = Chain::from_wire(v1::RegistryChain::default()).unwrap_err();
        assert_eq!(e.reason, "empty_provider_chain");
        let many = Chain { names: vec![name("a"); CHAIN_MAX + 1], ..chain };
        assert!(Chain::from_wire(many.to_wire()).is_err());
        assert!(Report::from_wire(v1::RegistryReport::default()).is_err());
        assert!(checked_expiry(millis(PERMIT_MAX) + 1).is_err());
    }
}

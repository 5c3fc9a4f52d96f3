//! What the registry answers as a message, both ways, and in parts where it is long.

use crate::wire::error::Error;
use crate::wire::permit::{ChainValue, Permit};
use crate::wire::proto::v1;
use crate::wire::provider::ProviderName;
use crate::wire::registry::{Entry, Finding, RegistryAnswer};

impl RegistryAnswer {
    /// The rest of an answer that was sent in parts.
    #[must_use]
    pub fn and(mut self, rest: Self) -> Self {
        self.entries.extend(rest.entries);
        self.failures.extend(rest.failures);
        self.findings.extend(rest.findings);
        self.permit = self.permit.or(rest.permit);
        self.value = self.value.or(rest.value);
        self
    }

    /// The same answer in parts, each with so many entries at most.
    #[must_use]
    pub fn in_parts(mut self, entries_max: usize) -> Vec<Self> {
        let mut parts = Vec::new();
        while self.entries.len() > entries_max {
            let rest = self.entries.split_off(entries_max);
            parts.push(Self { entries: std::mem::replace(&mut self.entries, rest), ..Self::default() });
        }
        parts.push(self);
        parts
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::RegistryAnswer {
        let failure = |(name, e): &(ProviderName, Error)| v1::RegistryFailure {
            set: name.set().to_owned(),
            alias: name.alias().to_owned(),
            error: Some(e.to_wire()),
        };
        v1::RegistryAnswer {
            entries: self.entries.iter().map(Entry::to_wire).collect(),
            failures: self.failures.iter().map(failure).collect(),
            findings: self.findings.iter().map(Finding::to_wire).collect(),
            permit: self.permit.as_ref().map(Permit::to_wire),
            value: self.value.as_ref().map(ChainValue::to_wire),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::RegistryAnswer) -> Result<Self, Error> {
        let failure = |f: v1::RegistryFailure| {
            Ok((ProviderName::new(&f.set, &f.alias)?, Error::from_wire(f.error.unwrap_or_default())))
        };
        Ok(Self {
            entries: w.entries.into_iter().map(Entry::from_wire).collect::<Result<_, _>>()?,
            failures: w.failures.into_iter().map(failure).collect::<Result<_, Error>>()?,
            findings: w.findings.into_iter().map(Finding::from_wire).collect(),
            permit: w.permit.map(Permit::from_wire).transpose()?,
            value: w.value.map(ChainValue::from_wire).transpose()?,
        })
    }
}

//! Schemas of types: what every configuration of an entry of one type has to fit, whoever brings it. They are
//! read when they are used, so one that is bad harms its own type alone.

use crate::provider::Providers;
use crate::registry::discovery::{Behind, Candidate, Found};
use crate::registry::{Registry, failure};
use crate::sys::files;
use crate::wire::error::Error;
use crate::wire::provider::{Definition, ProviderName, SCHEMA_LEN_MAX, SCHEMAS_MAX};
use crate::wire::provider_rules::Timeouts;

impl Registry {
    /// Adds what is configured for all of its type: how long it may take for its configuration, and the
    /// schema, where there is one.
    pub(super) fn add_schema(
        &self,
        name: &ProviderName,
        kind: &str,
        definition: &mut Definition,
    ) -> Result<(), Error> {
        let init = &mut definition.timeouts.init;
        if *init == Timeouts::default().init {
            *init = self.settings.init_timeout;
        }
        let Some(path) = self.settings.schemas.get(kind) else { return Ok(()) };
        let bad = |why: &str| {
            let e = format!("the schema of type {kind}, {}: {why}", path.display());
            failure::invalid_config(name, &e)
        };
        let text = files::guarded(path, SCHEMA_LEN_MAX as u64).map_err(|why| bad(&why))?;
        let text = String::from_utf8(text).map_err(|_| bad("it is not UTF-8 text"))?;
        if definition.schemas.contains(&text) {
            return Ok(());
        }
        if definition.schemas.len() >= SCHEMAS_MAX {
            return Err(bad(&format!("there are {SCHEMAS_MAX} schemas already")));
        }
        definition.schemas.push(text);
        Ok(())
    }

    /// Adds to each of what was found the schema of its type. What cannot have it is bad: what there is of it
    /// stays.
    pub(super) fn add_schemas(&self, found: &mut Found) {
        let with = |mut candidate: Candidate| {
            let Behind::Process(definition) = &mut candidate.behind else { return Ok(candidate) };
            match self.add_schema(&candidate.name, &candidate.kind, definition) {
                Ok(()) => Ok(candidate),
                Err(e) => {
                    let why = failure::without_name(&candidate.name, &e.message).to_owned();
                    Err((candidate.place, why))
                }
            }
        };
        for result in std::mem::take(&mut found.candidates).into_iter().map(with) {
            match result {
                Ok(candidate) => found.candidates.push(candidate),
                Err(bad) => found.bad.push(bad),
            }
        }
    }

    /// Those of these definitions that could be given to their providers, and what is said of the others.
    pub(super) fn with_schemas(
        &self,
        definitions: Vec<(ProviderName, Definition)>,
    ) -> (Vec<(ProviderName, Definition)>, Vec<String>) {
        let (mut good, mut said) = (Vec::new(), Vec::new());
        for (name, mut definition) in definitions {
            let added = self.add_schema(&name, definition.kind(), &mut definition);
            match added.and_then(|()| Providers::fits(&name, &definition)) {
                Ok(()) => good.push((name, definition)),
                Err(e) => said.push(format!("{}; it is not used", e.message)),
            }
        }
        (good, said)
    }
}

impl Candidate {
    /// Whether its configuration fits, as far as that is seen before it is started.
    pub(super) fn fits(&self) -> Result<(), Error> {
        match &self.behind {
            Behind::Process(definition) => Providers::fits(&self.name, definition),
            Behind::Credential(_) => Ok(()),
        }
    }
}

//! What a configuration says of processes, as `apply` takes it: read from its files, and known again by a
//! digest. Asks no service.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use crate::cli::plan::Wanted;
use crate::cli::session::ALL;
use crate::cli::stdout;
use crate::config;
use crate::wire::error::Error;
use crate::wire::fields;
use crate::wire::id::Name;

/// All that a configuration says of processes.
pub struct Declared {
    pub processes: Vec<Wanted>,
    pub environment: Option<Vec<(String, String)>>,
}

impl Declared {
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut processes = Vec::new();
        for declaration in config::processes(path)? {
            let section = &declaration.spec.name;
            let wanted = |(spec, instance)| Wanted { spec, section: section.clone(), instance };
            processes.extend(declaration.specs().into_iter().map(wanted));
        }
        Ok(Self { processes, environment: config::environment(path)? })
    }

    /// Tells on standard error what this machine does not have yet of all that they need.
    pub fn tell_missing(&self) {
        let mut already = BTreeSet::new();
        if self.processes.iter().any(|wanted| wanted.spec.name.as_ref().is_some_and(|n| n.as_str() == ALL)) {
            stdout::notice(
                "a process is called all: as a target that is this one alone, and '*' is every one",
            );
        }
        for Wanted { spec, section, .. } in &self.processes {
            let name = section.as_ref().map_or("", Name::as_str);
            for what in config::missing(spec) {
                let notice = format!("{name}: {what}");
                if already.insert(notice.clone()) {
                    stdout::notice(&notice);
                }
            }
        }
    }

    /// The same for what says the same. One by a newer program may differ, which shows a change too many.
    pub fn digest(&self) -> String {
        let mut hasher = DefaultHasher::new();
        for Wanted { spec, section, instance } in &self.processes {
            let name = |name: &Option<_>| name.as_ref().map(ToString::to_string);
            (name(&spec.name), name(section), instance).hash(&mut hasher);
            serde_json::Value::from(fields::to_map(spec)).to_string().hash(&mut hasher);
        }
        self.environment.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

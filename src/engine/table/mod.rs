//! All processes: how they are found. One short lock; what is found is cloned out before anything is done
//! with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::process::handle::Process;
use crate::wire::error::{Code, Error};
use crate::wire::id::{Name, PREFIX_LEN_MIN, ProcessId, Target, no_such_target, quoted};

pub mod patterns;

/// The most processes, running or not: each costs a descriptor here and one in the keeper.
pub const PROCESSES_MAX: usize = 10_000;

/// The processes by id, in the order of their making, and by name. Shared by all threads.
#[derive(Debug, Default)]
pub struct Table {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: BTreeMap<ProcessId, Arc<Process>>,
    /// Also of those that are reserved.
    by_name: HashMap<Name, ProcessId>,
    /// Those that are about to be added; nobody can find them yet.
    reserved: BTreeSet<ProcessId>,
}

impl Table {
    /// Adds all or none. A name that is taken is refused; so is what goes over the limit.
    pub fn insert(&self, processes: &[Arc<Process>]) -> Result<(), Error> {
        self.reserve(processes)?;
        self.insert_reserved(processes);
        Ok(())
    }

    /// Keeps ids and names for these, all or none, as [`Table::insert`] would: from now on nobody else gets
    /// them, and nobody finds them.
    pub fn reserve(&self, processes: &[Arc<Process>]) -> Result<(), Error> {
        let mut inner = self.inner.lock();
        let count = inner.by_id.len() + inner.reserved.len();
        if count + processes.len() > PROCESSES_MAX {
            return Err(Error::new(Code::Refused, format!("there are {count} processes already"))
                .hint("remove those that are stopped: provost remove TARGET..."));
        }
        for process in processes {
            if inner.by_id.contains_key(&process.id) || inner.reserved.contains(&process.id) {
                return Err(Error::new(Code::Refused, format!("there is a process {} already", process.id)));
            }
            if let Some(name) = &process.name
                && let Some(other) = inner.by_name.get(name)
            {
                return Err(Error::new(
                    Code::Refused,
                    format!("there is a process '{name}' already ({other})"),
                )
                .hint(format!("start it again with 'provost start {name}', or remove it first")));
            }
        }
        for process in processes {
            if let Some(name) = &process.name {
                inner.by_name.insert(name.clone(), process.id);
            }
            inner.reserved.insert(process.id);
        }
        Ok(())
    }

    /// Gives up what is reserved.
    pub fn release(&self, processes: &[Arc<Process>]) {
        let mut inner = self.inner.lock();
        for process in processes {
            if inner.reserved.remove(&process.id)
                && let Some(name) = &process.name
            {
                inner.by_name.remove(name);
            }
        }
    }

    /// Adds what is reserved.
    pub fn insert_reserved(&self, processes: &[Arc<Process>]) {
        let mut inner = self.inner.lock();
        for process in processes {
            inner.reserved.remove(&process.id);
            inner.by_id.insert(process.id, Arc::clone(process));
        }
    }

    pub fn remove(&self, id: ProcessId) {
        let mut inner = self.inner.lock();
        if let Some(process) = inner.by_id.remove(&id)
            && let Some(name) = &process.name
        {
            inner.by_name.remove(name);
        }
    }

    /// The process of this id.
    pub fn get(&self, id: ProcessId) -> Option<Arc<Process>> {
        self.inner.lock().by_id.get(&id).cloned()
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Vec<Arc<Process>> {
        self.inner.lock().by_id.values().cloned().collect()
    }

    /// All that are not the service's own, oldest first.
    pub fn others(&self) -> Vec<Arc<Process>> {
        self.inner.lock().by_id.values().filter(|p| !p.is_internal).cloned().collect()
    }

    /// Those that a person means. A pattern may match nothing: that is not found. What the service runs for
    /// itself is meant by its whole name or id only.
    pub fn find(&self, target: &str) -> Result<Vec<Arc<Process>>, Error> {
        let found = match target.parse()? {
            Target::Id(id) => self.get(id).into_iter().collect(),
            Target::Pattern(pattern) => {
                let mut found = self.matching(&pattern);
                found.retain(|p| !p.is_internal);
                found
            }
            Target::Name(name) => match self.named(&name) {
                Some(process) => vec![process],
                None => self.by_prefix(&name)?.into_iter().collect(),
            },
        };
        if found.is_empty() { Err(no_such_target(target)) } else { Ok(found) }
    }

    /// The one of this name, or all of `@GROUP`.
    pub fn meant_by(&self, name: &str) -> Vec<Arc<Process>> {
        match name.strip_prefix('@') {
            Some(_) => self.matching(name),
            None => self.named(name).into_iter().collect(),
        }
    }

    /// Those whose names match, or all of `@GROUP`; a name without stars matches itself.
    pub fn matching(&self, pattern: &str) -> Vec<Arc<Process>> {
        if let Some(group) = pattern.strip_prefix('@') {
            let is_in = |p: &Arc<Process>| p.spec().needs.in_group.as_deref() == Some(group);
            return self.inner.lock().by_id.values().filter(|p| is_in(p)).cloned().collect();
        }
        let matches = |p: &Arc<Process>| match &p.name {
            Some(name) => patterns::matches(pattern, name.as_str()),
            // What has no name goes by its id.
            None => patterns::matches(pattern, &p.id.to_string()),
        };
        self.inner.lock().by_id.values().filter(|p| matches(p)).cloned().collect()
    }

    fn named(&self, name: &str) -> Option<Arc<Process>> {
        let inner = self.inner.lock();
        let id = inner.by_name.get(&name.parse::<Name>().ok()?)?;
        inner.by_id.get(id).cloned()
    }

    fn by_prefix(&self, prefix: &str) -> Result<Option<Arc<Process>>, Error> {
        let is_hex = |c: char| c.is_ascii_hexdigit() || c == '-';
        if prefix.len() < PREFIX_LEN_MIN || !prefix.chars().all(is_hex) {
            return Ok(None);
        }
        let prefix = prefix.to_ascii_lowercase();
        let inner = self.inner.lock();
        let others = inner.by_id.values().filter(|p| !p.is_internal);
        let mut found = others.filter(|p| p.id.to_string().starts_with(&prefix));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(Error::usage(format!("{} begins more than one UUID", quoted(&prefix)))
                .hint("give more of it: the first 12 digits are the time of the start")),
            (found, _) => Ok(found.cloned()),
        }
    }
}

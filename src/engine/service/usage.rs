//! What processes and all that they started take of the machine: looked at when somebody asks, and only then.

use std::sync::Arc;

use crate::engine::context::Context;
use crate::engine::look;
use crate::sys::usage;
use crate::wire::process::{Process, Usage};

/// One look at the machine, for many processes.
pub(super) struct Look<'a> {
    context: &'a Context,
    /// Taken for the first process that has no cgroup.
    look: Option<Arc<look::Look>>,
}

impl<'a> Look<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self { context, look: None }
    }

    /// What all that belongs to the process take; none: nothing of it is there.
    pub(super) fn at(&mut self, process: &Process) -> Option<Usage> {
        let mut sum = Usage::default();
        for one in self.pids(process).into_iter().filter_map(usage::of) {
            sum.cpu_ms = sum.cpu_ms.saturating_add(one.cpu_ms);
            sum.memory = sum.memory.saturating_add(one.memory);
            sum.processes = sum.processes.saturating_add(1);
            sum.threads = sum.threads.saturating_add(one.threads);
            sum.descriptors = sum.descriptors.saturating_add(one.descriptors);
            sum.read = sum.read.saturating_add(one.read);
            sum.written = sum.written.saturating_add(one.written);
        }
        (sum.processes > 0).then_some(sum)
    }

    /// Who is in its cgroup; without one, whoever descends from it.
    fn pids(&mut self, process: &Process) -> Vec<u32> {
        let cgroup = self.context.cgroups.as_ref().map(|root| root.cgroup(&process.id.to_string()));
        let found = cgroup.and_then(|cgroup| cgroup.pids().ok()).unwrap_or_default();
        match process.pid {
            Some(pid) if found.is_empty() => {
                let look = self.look.get_or_insert_with(|| self.context.looks.look(look::Marks::Unread));
                let one = look.seen.iter().filter(|seen| seen.stat.pid == pid);
                let family = look.family(one.map(|seen| (pid, seen.stat)).collect(), |_| true);
                family.into_keys().collect()
            }
            Some(_) | None => found,
        }
    }
}

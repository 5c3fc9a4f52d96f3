//! The limits of a run's cgroup: written before its program begins, and again when they are changed.

use crate::engine::process::limits;
use crate::engine::process::worker::Worker;
use crate::sys::cgroup::Cgroup;
use crate::wire::error::Error;
use crate::wire::record::cut;
use crate::wire::spec::Spec;

impl Worker {
    /// For a run that is to begin in its cgroup.
    pub(super) fn begin_limits(&mut self, spec: &Spec) -> Result<(), Error> {
        self.record.oom_kills = 0;
        self.record.limits_trouble.clear();
        if !spec.cgroup.is_on() {
            return Ok(());
        }
        self.keep_limits(spec)?;
        self.record.oom_kills = self.tree.cgroup.as_ref().map_or(0, Cgroup::oom_kills);
        Ok(())
    }

    /// Sees to it that they hold for what is in its cgroup. Where that cannot be, and need not, its record
    /// says so.
    fn keep_limits(&mut self, spec: &Spec) -> Result<(), Error> {
        let root = self.process.context.cgroups.as_ref();
        let kept = limits::keep(root, self.tree.cgroup.as_ref(), &spec.cgroup);
        let trouble = match kept {
            Err(e) if !spec.cgroup.optional => return Err(e),
            Err(e) => cut(e.message.strip_prefix("cannot start: ").unwrap_or(&e.message)),
            Ok(()) => String::new(),
        };
        if !trouble.is_empty() && trouble != self.record.limits_trouble {
            self.process.context.say(&format!("{}: {trouble}", self.process.label()));
        }
        self.record.limits_trouble = trouble;
        Ok(())
    }

    /// The same for a definition that takes the place of the present one, if it says anything else.
    pub(super) fn change_limits(&mut self, spec: &Spec) -> Result<(), Error> {
        if spec.cgroup == self.process.spec().cgroup {
            return Ok(());
        }
        // What has none gets its limits with its next run.
        if self.tree.cgroup.as_ref().is_some_and(Cgroup::exists) || self.record.pid.is_some() {
            self.keep_limits(spec)?;
        }
        Ok(())
    }
}

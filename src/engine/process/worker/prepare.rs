//! What the next run of the process would be: its spec, with who it is and with the environments of the
//! moment. `engine/process/prepare.rs` resolves it.

use crate::engine::limit_mark::LimitMark;
use crate::engine::process::limits;
use crate::engine::process::prepare::{self, Identity, Prepared, Variables};
use crate::engine::process::worker::Worker;
use crate::wire::error::Error;
use crate::wire::spec::Spec;

impl Worker {
    /// What a run with this spec would be.
    pub(super) fn prepare(&self, spec: &Spec, more: &Variables) -> Result<Prepared, Error> {
        let (process, context) = (&self.process, &self.process.context);
        let identity = Identity {
            id: process.id,
            name: process.name.clone(),
            run: self.record.run,
            instance: self.record.instance,
            service: context.feed.service(),
            more: more.clone(),
        };
        // What everybody may set is not for what the service runs for itself.
        let global_env = if process.is_internal { Vec::new() } else { context.feed.env() };
        if !spec.cgroup.optional {
            limits::check(context.cgroups.as_ref(), &spec.cgroup)?;
        }
        let mut prepared = prepare::prepare(spec, &identity, &global_env, &context.service_env)?;
        // A cgroup is the better mark.
        if context.cgroups.is_none() {
            LimitMark::new(identity.service, identity.id).put(&mut prepared.launch.rlimits);
        }
        Ok(prepared)
    }

    /// Says what values refer to in vain: once, and not at each attempt of a crash loop.
    pub(super) fn tell_unset(&self, unset: &Variables) {
        for (key, name) in unset.iter().filter(|_| self.record.attempts == 0) {
            let what = format!("{key} refers to ${{{name}}}, which is not set and stands for nothing");
            self.process.context.say(&format!("{}: {what}", self.process.label()));
        }
    }
}

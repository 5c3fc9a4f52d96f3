//! What the kernel tells of a run's memory: that something was killed for it, and that it is above where it
//! is to be restarted. Nobody looks until the kernel says that there is something to see.

use crate::engine::process::above::{Above, SAME_MOMENT_MS, above, counted, is_oom};
use crate::engine::process::handle::Ask;
use crate::engine::process::memory_look::MemoryLook;
use crate::engine::process::worker::Worker;
use crate::sys::cgroup::Cgroup;
use crate::sys::{clock, procfs};
use crate::wire::event::{EventKind, NewEvent};
use crate::wire::process::{End, State};
use crate::wire::record::cut;
use crate::wire::values::size_text;

/// How long the kernel's word is not listened to after it led to nothing, ms: what reads many files is at its
/// threshold all the time, with what the kernel only keeps for it.
const PAUSE_MS: u64 = 1000;
/// How long until it is tried again to restart what could not start again, ms.
const AGAIN_MS: u64 = 60_000;
/// Who asks for a restart above the threshold.
const CAUSE: &str = "restart_above";

impl Worker {
    /// A run begins, or its limits are others: from here on the kernel is listened to, where it has something
    /// to say of them.
    pub(super) fn watch_memory(&mut self) {
        let wanted = self.process.spec().cgroup.controllers().any(|(controller, _)| controller == "memory");
        let cgroup = self.tree.cgroup.as_ref().filter(|_| wanted);
        let watch = cgroup.and_then(|cgroup| cgroup.watch_memory().ok());
        let due = watch.is_some().then(clock::now_ms);
        self.memory = MemoryLook { watch, due, ..MemoryLook::default() };
    }

    /// Sees what has become of its memory.
    pub(super) fn look_at_memory(&mut self) {
        let now = clock::now_ms();
        let Some(events) = self.memory.watch.as_ref().and_then(|watch| watch.read().ok()) else {
            self.memory = MemoryLook::default();
            return;
        };
        let more = events.oom_kills.saturating_sub(self.record.oom_kills);
        if more > 0 {
            self.record.oom_kills = events.oom_kills;
            let before = self.memory.killed.map_or(0, |(n, _)| n);
            self.memory.killed = Some((before + more, now + SAME_MOMENT_MS));
            self.commit(&[]);
        }
        if self.memory.killed.is_some_and(|(_, until)| until <= now) {
            self.tell_killed();
        }
        // It says more than once in a pause what it has to say.
        let is_held = events.high > self.memory.high;
        self.memory.high = events.high;
        self.memory.due = is_held.then_some(now + PAUSE_MS);
        self.see_whether_above(now);
    }

    /// What was killed was not the process itself: that goes on.
    fn tell_killed(&mut self) {
        let Some((n, _)) = self.memory.killed.take() else { return };
        let limits = self.process.spec().cgroup;
        let at = limits.memory_max.map(|max| format!(", memory_max is {}", max.text())).unwrap_or_default();
        let what =
            if n == 1 { "one process of its tree was".to_owned() } else { format!("{n} of its tree were") };
        let detail = cut(&format!("{what} killed{at}"));
        self.commit(&[NewEvent { kind: EventKind::OomKilled, detail }]);
    }

    fn see_whether_above(&mut self, now: u64) {
        let spec = self.process.spec();
        let Some(threshold) = spec.cgroup.restart_above else { return };
        if self.record.state != State::Running || self.process.context.is_stopping() {
            return;
        }
        let bytes = threshold.bytes(procfs::memory_total());
        let held = self.tree.cgroup.as_ref().and_then(|cgroup| cgroup.memory_held().ok()).unwrap_or(0);
        let age_ms = now.saturating_sub(self.record.started_mono);
        let reset_after = spec.restart.reset_after;
        match above(held, bytes, age_ms, self.record.memory_restarts, reset_after) {
            Above::No => {}
            Above::Later { at_age_ms } => {
                self.memory.due = Some(self.record.started_mono.saturating_add(at_age_ms));
            }
            Above::Restart => {
                if let Some(refusal) = self.no_next_run(&spec) {
                    self.process.context.say(&format!("{}: {}", self.process.label(), refusal.message));
                    self.memory.due = Some(now + AGAIN_MS);
                    return;
                }
                self.record.memory_restarts = counted(self.record.memory_restarts, age_ms, reset_after);
                // It is not to be slowed down while it ends.
                if let Some(cgroup) = &self.tree.cgroup {
                    let _ = cgroup.set("memory.high", "max");
                }
                let held = size_text(held >> 20 << 20);
                let detail = cut(&format!("it holds {held}, restart_above is {}", threshold.text()));
                self.commit(&[NewEvent { kind: EventKind::OverMemory, detail }]);
                self.go(Ask::Restart { key: None }, CAUSE, None);
            }
        }
    }

    /// Whether the process itself ended by a kill for memory. Nothing of the run is looked at after this.
    pub(super) fn ended_for_memory(&mut self, end: End) -> bool {
        let is_now = self.memory.killed.is_some_and(|(_, until)| clock::now_ms() < until);
        let count = || self.tree.cgroup.as_ref().map_or(0, Cgroup::oom_kills);
        let is_oom = is_oom(&self.record, end) && (is_now || count() > self.record.oom_kills);
        if is_oom {
            self.memory.killed = None;
        }
        // What was killed beside it a moment ago is told in any case.
        self.tell_killed();
        self.memory = MemoryLook::default();
        is_oom
    }
}

//! Canaries of the groups that have registered: begun, shown, and looked at whenever something in their
//! namespace has changed or is due.

use std::collections::BTreeMap;

use crate::module::canary::track::Track;
use crate::module::canary::{Now, Seen};
use crate::module::plane::Plane;
use crate::module::plane::canary_news::{CanaryNews, CanaryRefused};
use crate::wire::canary::{Canary as Shown, CanaryOrder};
use crate::wire::time::Timestamp;

/// The most namespaces with canaries, running or ended.
const NAMESPACES_MAX: usize = 500;

impl Plane {
    /// A new version is to be tried.
    pub fn start_canary(&mut self, order: CanaryOrder, by: &str, now_ms: u64) -> Result<(), CanaryRefused> {
        let mut members = self.connections.values().filter(|c| c.namespace == order.namespace).peekable();
        members.peek().ok_or(CanaryRefused::NoMembers)?;
        if members.any(|c| c.group.is_none()) {
            return Err(CanaryRefused::Alone);
        }
        if let Some(running) = self.canaries.get_mut(&order.namespace).and_then(Track::running) {
            return Err(CanaryRefused::Running(running.order.version.clone()));
        }
        if !self.canaries.contains_key(&order.namespace) && self.canaries.len() >= NAMESPACES_MAX {
            let idle = self.canaries.iter().find(|(_, track)| track.is_idle()).map(|(name, _)| name.clone());
            self.canaries.remove(&idle.ok_or(CanaryRefused::TooMany)?);
        }
        self.last_number += 1;
        let (namespace, serial) = (order.namespace.clone(), self.last_number);
        self.canaries.entry(namespace.clone()).or_default().begin(order, by, serial, now(now_ms));
        self.touch(&namespace);
        Ok(())
    }

    /// Ends the canary of a namespace.
    pub fn abort_canary(&mut self, namespace: &str, by: &str, now_ms: u64) -> Result<(), CanaryRefused> {
        let seen = self.seen(namespace);
        let track = self.canaries.get_mut(namespace).ok_or(CanaryRefused::NotRunning)?;
        if !track.abort_by(by, &seen, now(now_ms)) {
            return Err(CanaryRefused::NotRunning);
        }
        self.touch(namespace);
        Ok(())
    }

    /// Canaries of this namespace, of each the earlier ones first; of all, if it is empty.
    pub fn canaries(&self, namespace: &str, now_ms: u64) -> Vec<Shown> {
        let asked = self.canaries.iter().filter(|(name, _)| namespace.is_empty() || *name == namespace);
        asked.flat_map(|(name, track)| track.shown(&self.seen(name), now_ms)).collect()
    }

    /// The same for a note.
    pub fn noted_canaries(&self, now_ms: u64) -> Vec<Shown> {
        self.canaries.values().flat_map(|track| track.shown(&[], now_ms)).collect()
    }

    /// What an earlier host has noted.
    pub fn restore_canaries(&mut self, all: Vec<Shown>, now_ms: u64) {
        for shown in all {
            self.last_number += 1;
            let (namespace, serial) = (shown.order.namespace.clone(), self.last_number);
            self.canaries.entry(namespace.clone()).or_default().restore(shown, serial, now(now_ms));
            self.touch(&namespace);
        }
    }

    /// Something in this namespace has changed.
    pub(super) fn touch(&mut self, namespace: &str) {
        if self.canaries.contains_key(namespace) {
            self.stale.insert(namespace.to_owned());
        }
    }

    /// Time has changed something where it has.
    pub(super) fn canaries_due(&mut self, now_ms: u64) {
        let due = self.canaries.iter().filter(|(_, track)| track.due().is_some_and(|due| now_ms >= due));
        self.stale.extend(due.map(|(name, _)| name.clone()));
    }

    /// Looks at the canaries in whose namespaces something has changed, and gives all members their
    /// standings. It is called before anybody else sees the plane. Whether there is something to be noted.
    pub fn settle(&mut self, now_ms: impl Fn() -> u64) -> bool {
        for namespace in std::mem::take(&mut self.stale) {
            let seen = self.seen(&namespace);
            let Some(track) = self.canaries.get_mut(&namespace) else { continue };
            let steps = track.look(&seen, now(now_ms()));
            let track = &self.canaries[&namespace];
            for connection in self.connections.values_mut().filter(|c| c.namespace == namespace) {
                let seen = connection.seen();
                connection.standing = track.standing(&seen);
                connection.why_held = track.why_held(&seen);
            }
            let version = track.version();
            self.news.extend(steps.into_iter().map(|news| CanaryNews {
                namespace: namespace.clone(),
                version: version.clone(),
                news,
            }));
        }
        !self.news.is_empty()
    }

    /// What has happened since it was last asked.
    pub fn take_news(&mut self) -> Vec<CanaryNews> {
        std::mem::take(&mut self.news)
    }

    /// The members of a group that are to take calls: who came first is first.
    fn seen(&self, namespace: &str) -> Vec<Seen> {
        let members = self.connections.iter().filter(|(_, c)| c.namespace == namespace && c.is_kept());
        let members: BTreeMap<_, _> = members.map(|(id, c)| ((c.registered_at, id), c.seen())).collect();
        members.into_values().collect()
    }
}

fn now(ms: u64) -> Now {
    Now { ms, at: Timestamp::now() }
}

//! All canaries of one namespace: the one that runs, if any, and those before it that are still shown or
//! still hold a version back.

use crate::module::canary::{Call, Canary, News, Now, Seen, Standing};
use crate::wire::canary::{Canary as Shown, CanaryOrder, Part};

/// The most versions that are held back; what is over that gets calls again.
const HELD_MAX: usize = 16;

#[derive(Debug, Default)]
pub struct Track {
    /// The oldest first. Only the last one may run.
    all: Vec<Canary>,
}

impl Track {
    /// From what an earlier host has left, in its order.
    pub fn restore(&mut self, shown: Shown, serial: u64, now: Now) {
        self.all.push(Canary::restored(shown, serial, now));
        self.forget_old();
    }

    pub fn running(&mut self) -> Option<&mut Canary> {
        self.all.last_mut().filter(|canary| canary.is_running())
    }

    /// Of the calls, for the member that is on trial; none: there is no canary now.
    pub fn share(&self) -> Option<Part> {
        self.all.last().filter(|canary| canary.is_running()).map(|canary| canary.order.share)
    }

    /// The one that runs, for what counts as its call.
    pub fn serial(&self) -> Option<u64> {
        self.all.last().filter(|canary| canary.is_running()).map(|canary| canary.serial)
    }

    /// An earlier canary of the same version holds it back no longer.
    pub fn begin(&mut self, order: CanaryOrder, by: &str, serial: u64, now: Now) {
        for canary in self.all.iter_mut().filter(|canary| canary.order.version == order.version) {
            canary.holds = false;
        }
        self.all.push(Canary::begin(order, by, serial, now));
        self.forget_old();
    }

    /// A call of a member has begun that counts.
    pub fn begin_call(&mut self, executor: &str, now_ms: u64) {
        if let Some(canary) = self.running() {
            canary.begin_call(executor, now_ms);
        }
    }

    /// A call of the canary with this serial has ended. Whether it is time for a look.
    pub fn end_call(
        &mut self,
        serial: u64,
        executor: &str,
        begun_ms: u64,
        call: Option<Call>,
        now_ms: u64,
    ) -> bool {
        let running = self.running().filter(|canary| canary.serial == serial);
        running.is_some_and(|canary| canary.end_call(executor, begun_ms, call, now_ms))
    }

    pub fn due(&self) -> Option<u64> {
        self.all.last().and_then(Canary::due)
    }

    /// Does what is due, and gives what has happened.
    pub fn look(&mut self, seen: &[Seen], now: Now) -> Vec<News> {
        let seen = self.without_held(seen);
        let Some(last) = self.all.last_mut() else { return Vec::new() };
        last.look(&seen, now);
        std::mem::take(&mut last.news)
    }

    /// Ends the one that runs; whether there was one.
    pub fn abort_by(&mut self, by: &str, seen: &[Seen], now: Now) -> bool {
        let seen = self.without_held(seen);
        let Some(running) = self.running() else { return false };
        running.abort_by(by, &seen, now);
        true
    }

    /// Those that an earlier canary holds back are nobody to go back to.
    fn without_held(&self, seen: &[Seen]) -> Vec<Seen> {
        let mut seen = seen.to_vec();
        let Some((_, earlier)) = self.all.split_last() else { return seen };
        for s in &mut seen {
            if earlier.iter().any(|canary| canary.standing(s) == Standing::Held) {
                s.out = Some("held back".to_owned());
            }
        }
        seen
    }

    /// Which calls a member gets.
    pub fn standing(&self, seen: &Seen) -> Standing {
        let all = self.all.iter().map(|canary| canary.standing(seen));
        all.rev().find(|standing| *standing != Standing::Usual).unwrap_or_default()
    }

    /// Why a member is held.
    pub fn why_held(&self, seen: &Seen) -> String {
        let holding = self.all.iter().rev().find(|canary| canary.standing(seen) == Standing::Held);
        holding.map_or_else(String::new, |canary| {
            let version = &canary.order.version;
            if canary.is_running() {
                format!("version {version} waits for its trial in the canary")
            } else {
                format!("version {version} is held back by its canary: 'provost module canary status'")
            }
        })
    }

    pub fn shown(&self, seen: &[Seen], now_ms: u64) -> Vec<Shown> {
        self.all.iter().map(|canary| canary.shown(seen, now_ms)).collect()
    }

    /// Of the latest canary.
    pub fn version(&self) -> String {
        self.all.last().map(|canary| canary.order.version.clone()).unwrap_or_default()
    }

    /// Nothing of it matters to any member.
    pub fn is_idle(&self) -> bool {
        self.all.iter().all(|canary| !canary.is_running() && !canary.holds)
    }

    /// Keeps what runs, the last that has ended, and what holds a version back.
    fn forget_old(&mut self) {
        let last_ended = self.all.iter().rposition(|canary| !canary.is_running());
        let held = self.all.iter().filter(|canary| canary.holds).count();
        let mut over = held.saturating_sub(HELD_MAX);
        let mut n = 0;
        self.all.retain(|canary| {
            let is_kept = canary.is_running() || Some(n) == last_ended || (canary.holds && over == 0);
            over = over.saturating_sub(usize::from(canary.holds));
            n += 1;
            is_kept
        });
    }
}

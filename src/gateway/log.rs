//! What the gateway says: lines for its operator. Whoever attacks it must not fill its log as well.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::sys::clock;

/// Lines that may come at once.
const BURST: u64 = 50;
/// How long it takes until one more may, ms.
const EACH_MS: u64 = 200;

pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

pub(super) struct Log {
    say: Say,
    state: Mutex<State>,
}

struct State {
    /// When all lines of the burst are there again.
    full_at: u64,
    unsaid: u64,
}

impl Log {
    pub fn new(say: Say) -> Self {
        Self { say, state: Mutex::new(State { full_at: 0, unsaid: 0 }) }
    }

    /// Says something that happened to others: as often as there is room for it.
    pub fn say(&self, line: &str) {
        let now = clock::now_ms();
        let mut state = self.state.lock();
        if state.full_at > now + BURST * EACH_MS {
            state.unsaid += 1;
            return;
        }
        state.full_at = state.full_at.max(now) + EACH_MS;
        if state.unsaid > 0 {
            (self.say)(&format!("{} lines of this kind were left out", state.unsaid));
            state.unsaid = 0;
        }
        (self.say)(line);
    }

    /// Says something about the gateway itself.
    pub fn event(&self, line: &str) {
        (self.say)(line);
    }
}

//! What the gateway says: lines for its operator. An attacker must not be able to fill the log.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::guard::token_bucket::{Rate, TokenBucket};
use crate::sys::clock;

/// How many lines there may be about clients.
const LINES: Rate = Rate { burst: 50, per_second: 5 };

pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

pub(super) struct Log {
    say: Say,
    allowance: Mutex<Allowance>,
}

struct Allowance {
    lines: TokenBucket,
    left_out: u64,
}

impl Log {
    pub fn new(say: Say) -> Self {
        let lines = TokenBucket::full(LINES, clock::now_ms());
        Self { say, allowance: Mutex::new(Allowance { lines, left_out: 0 }) }
    }

    /// Says something that happened to others: as often as there is room for it.
    pub fn say(&self, line: &str) {
        let mut allowance = self.allowance.lock();
        allowance.lines.refill(clock::now_ms());
        if allowance.lines.is_in_debt() {
            allowance.left_out += 1;
            return;
        }
        allowance.lines.take(1);
        match std::mem::take(&mut allowance.left_out) {
            0 => {}
            count => (self.say)(&format!("{count} lines of this kind were left out")),
        }
        (self.say)(line);
    }

    /// Says something about the gateway itself.
    pub fn event(&self, line: &str) {
        (self.say)(line);
    }
}

//! Those that execute one module, and those who wait for one of them.

use std::collections::VecDeque;

/// What retries may cost in tenths of a call: each call adds one, each retry takes ten.
const RETRY_TENTHS_MAX: u32 = 100;

/// Those that execute a module, in the order in which they came.
#[derive(Debug)]
pub struct Pool {
    pub members: Vec<String>,
    /// Whose turn is next.
    pub next: usize,
    /// The numbers of calls that wait until a member has less to do.
    pub waiting: VecDeque<u64>,
    retry_tenths: u32,
}

impl Default for Pool {
    fn default() -> Self {
        Self { members: Vec::new(), next: 0, waiting: VecDeque::new(), retry_tenths: RETRY_TENTHS_MAX }
    }
}

impl Pool {
    /// Takes a member out. The turns of the others stay as they are.
    pub fn leave(&mut self, id: &str) {
        let Some(at) = self.members.iter().position(|member| member == id) else { return };
        self.members.remove(at);
        if self.next > at {
            self.next -= 1;
        }
        if !self.members.is_empty() {
            self.next %= self.members.len();
        }
    }

    /// Nobody is in it, and nobody waits for somebody.
    pub fn is_unused(&self) -> bool {
        self.members.is_empty() && self.waiting.is_empty()
    }

    /// A first attempt is made: a part of a retry is earned by it.
    pub fn earn(&mut self) {
        self.retry_tenths = (self.retry_tenths + 1).min(RETRY_TENTHS_MAX);
    }

    /// Whether one more attempt of a call may be made: where everything fails, retries are no help.
    pub fn spend(&mut self) -> bool {
        let left = self.retry_tenths.checked_sub(10);
        self.retry_tenths = left.unwrap_or(self.retry_tenths);
        left.is_some()
    }
}

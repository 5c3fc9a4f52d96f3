//! Those that execute one module, and those who wait for one of them.

use std::collections::VecDeque;

use crate::guard::retry_budget::RetryBudget;

/// Those that execute a module, in the order in which they came.
#[derive(Debug, Default)]
pub struct Pool {
    pub members: Vec<String>,
    /// Whose turn is next.
    pub next: usize,
    /// The numbers of calls that wait until a member has less to do.
    pub waiting: VecDeque<u64>,
    pub retries: RetryBudget,
    /// What the member on trial is owed of the calls, in parts of one.
    pub owed: u32,
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
}

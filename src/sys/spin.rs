//! Looking again for a moment before going to sleep. What is expected within microseconds is there sooner
//! than a thread that sleeps would be awake, all the more on a processor that sleeps with it.
//!
//! Between two looks the processor is yielded: whoever has work is not kept from it. One thread of the
//! process does so at a time, and one that looked in vain does it less and less often: what is quiet stays
//! quiet.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::sys::clock;

/// For how long it is worth looking, in nanoseconds: about what two processes need to answer a question.
const SPIN_NS: u64 = 120_000;
/// After so many times in vain in a row, one chance of this power of two is taken.
const VAIN_MAX: u32 = 6;

/// With a single processor there would be nobody to look out for.
static USEFUL: LazyLock<bool> = LazyLock::new(|| thread::available_parallelism().is_ok_and(|n| n.get() > 1));
/// Whether a thread is spinning.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// One thing that a thread expects again and again.
#[derive(Debug, Default)]
pub struct Spin {
    /// Monotonic; 0: not spinning.
    until_ns: u64,
    /// How often it was in vain since it last was not.
    vain: u32,
    /// How many chances are let pass.
    pass: u32,
}

impl Spin {
    /// It is expected, from now on. A moment, unless another thread has it.
    pub fn begin(&mut self) {
        if self.until_ns == 0 {
            if self.pass > 0 {
                self.pass -= 1;
                return;
            }
            if !*USEFUL || TAKEN.swap(true, Ordering::Relaxed) {
                return;
            }
        }
        self.until_ns = clock::now_ns() + SPIN_NS;
    }

    /// Whether to look once more now, instead of going to sleep.
    pub fn again(&mut self) -> bool {
        if self.until_ns == 0 {
            return false;
        }
        if clock::now_ns() < self.until_ns {
            thread::yield_now();
            return true;
        }
        self.vain = (self.vain + 1).min(VAIN_MAX);
        self.pass = (1 << self.vain) - 1;
        self.release();
        false
    }

    /// It has come, or is no longer expected.
    pub fn end(&mut self) {
        if self.until_ns > 0 {
            self.vain = 0;
            self.release();
        }
    }

    fn release(&mut self) {
        self.until_ns = 0;
        TAKEN.store(false, Ordering::Relaxed);
    }
}

impl Drop for Spin {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_in_vain_does_it_less_and_less_often() {
        let mut spin = Spin::default();
        let times = (0..1000)
            .filter(|_| {
                spin.begin();
                let is_spinning = spin.again();
                while spin.again() {}
                is_spinning
            })
            .count();
        assert!(times <= 6 + 1000 / 63 + 1, "{times}");
    }
}

//! How far the log of a process is: what its own thread and the one that writes the logs have in common.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::ring::Ring;

/// Shared by the two threads, and by whoever shows the process.
#[derive(Debug, Default)]
pub struct LogState {
    /// There is a file to write to.
    is_on: AtomicBool,
    /// It is in the queue, or being written.
    is_marked: AtomicBool,
    /// Its thread waits until there is room.
    is_awaited: AtomicBool,
    /// The file cannot be written: nobody waits for it.
    is_failing: AtomicBool,
    /// Up to this offset output is written.
    written: AtomicU64,
    /// Bytes that were overwritten before they could be written.
    lost: AtomicU64,
    /// Why it fails.
    trouble: Mutex<String>,
}

impl LogState {
    pub fn new(is_on: bool, written: u64, lost: u64) -> Self {
        Self { is_on: is_on.into(), written: written.into(), lost: lost.into(), ..Self::default() }
    }

    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    pub fn turn(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Release);
        if !is_on {
            self.is_failing.store(false, Ordering::Release);
            self.trouble.lock().clear();
        }
    }

    /// Whether it has to be put into the queue: it is not there yet.
    pub fn mark(&self) -> bool {
        self.is_on() && !self.is_marked.swap(true, Ordering::SeqCst)
    }

    /// For the thread that writes, before it looks how much there is.
    pub fn unmark(&self) {
        self.is_marked.store(false, Ordering::SeqCst);
    }

    /// Whether the next chunk of output overwrites nothing that is still to be written.
    pub fn has_room(&self, ring: &Ring<'_>) -> bool {
        !self.is_on() || self.is_failing() || ring.spares(self.written())
    }

    /// Whether all of it is written, or cannot be.
    pub fn is_done(&self, head: u64) -> bool {
        !self.is_on() || self.is_failing() || self.written() >= head
    }

    /// The process's thread waits from now on, until it is woken after the next write.
    pub fn wait(&self) {
        self.is_awaited.store(true, Ordering::SeqCst);
    }

    /// Whether it waits.
    pub fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::SeqCst)
    }

    /// It is written up to there, and so much was lost so far. Whether the process's thread waits for that.
    pub fn advance(&self, written: u64, lost: u64) -> bool {
        self.lost.store(lost, Ordering::Release);
        self.written.store(written, Ordering::SeqCst);
        self.is_awaited.swap(false, Ordering::SeqCst)
    }

    pub fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }

    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::SeqCst)
    }

    pub fn trouble(&self) -> String {
        self.trouble.lock().clone()
    }

    /// It cannot be written, for this reason. Whether that is news.
    pub fn fail(&self, why: &str) -> bool {
        let mut trouble = self.trouble.lock();
        let is_news = *trouble != why;
        why.clone_into(&mut trouble);
        self.is_failing.store(true, Ordering::SeqCst);
        is_news
    }

    /// It can be written again. Whether that is news.
    pub fn recover(&self) -> bool {
        if !self.is_failing.swap(false, Ordering::SeqCst) {
            return false;
        }
        self.trouble.lock().clear();
        true
    }
}

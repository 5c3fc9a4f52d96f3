//! What a service has in hand while it answers one request: sending replies, and waiting for what comes next
//! without missing that the client has gone.

use std::fs::File;
use std::os::fd::AsFd;

use crate::listener::channel::{Channel, Closed, Put};
use crate::sys::poll::{Wait, Waker};
use crate::wire::error::{Code, Error};
use crate::wire::reply::{More, Reply, RingState};

/// The way back to the client, for one request.
pub struct Replies<'a> {
    channel: &'a mut Channel,
    is_done: bool,
    counts: Counts,
}

/// What the items sent so far say.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Items without an error.
    pub done: u32,
    pub failed: u32,
    /// The first of those.
    pub why: Option<Error>,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The waker was used, perhaps for an earlier request: look before you believe it.
    Waker,
    /// The deadline has come.
    Deadline,
}

impl<'a> Replies<'a> {
    pub(super) fn new(channel: &'a mut Channel) -> Self {
        Self { channel, is_done: false, counts: Counts::default() }
    }

    /// Sends a reply. It may stay here until the last one, 64 KiB, a [`flush`](Self::flush) or a
    /// [`wait`](Self::wait), whichever comes first.
    pub fn send(&mut self, reply: &Reply, more: More) -> Result<(), Closed> {
        debug_assert!(!self.is_done, "the last reply was sent");
        if let Reply::Item(item) = reply {
            match &item.error {
                None => self.counts.done += 1,
                Some(e) => {
                    self.counts.failed += 1;
                    self.counts.why.get_or_insert_with(|| e.clone());
                }
            }
        }
        match self.channel.put(|out| reply.put(more, out)) {
            Ok(()) => {}
            Err(Put::Closed) => return Err(Closed),
            // The request gets an end that its sender can read; the connection has none that it could go on
            // from.
            Err(Put::TooLarge(e)) => {
                let e = Reply::Error(Error::new(Code::Failed, format!("the answer is too large: {e}")));
                self.channel.goodbye(&e.encode(More::Last));
                return Err(Closed);
            }
        }
        match more {
            More::Follows => Ok(()),
            More::Last => {
                self.is_done = true;
                self.flush()
            }
        }
    }

    /// Sends files beside a reply: the memory of output, with how each is, or without that whatever else the
    /// request asks for.
    pub fn share(&mut self, rings: Vec<RingState>, files: &[File]) -> Result<(), Closed> {
        let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        self.flush()?;
        self.send(&Reply::Rings(rings), More::Follows)?;
        self.channel.flush_with(&fds)
    }

    /// Says that the answer is a stream of many bytes.
    pub fn widen(&self) {
        self.channel.widen();
    }

    /// What the items sent so far say.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Sends what has come together. Waits while the client does not read, within the limit for that.
    pub fn flush(&mut self) -> Result<(), Closed> {
        self.channel.flush()
    }

    /// Ends a [`wait`](Self::wait) of this thread; hand it to the thread that has more to say.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker::for_this_thread()
    }

    /// Waits until the waker is used or the deadline (monotonic ms) has come. An error when the client hangs
    /// up. Everything sent so far is on its way before the wait begins.
    pub fn wait(&mut self, deadline: Option<u64>) -> Result<Woken, Closed> {
        match self.channel.wait(deadline)? {
            Wait::Deadline => Ok(Woken::Deadline),
            // Nothing but a hang-up makes the socket ready, and that is an error: a wake as good as any.
            Wait::Woken | Wait::Ready => Ok(Woken::Waker),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }
}

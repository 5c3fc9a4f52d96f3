//! How much of requests has come that are not at their end, and how much of it each stream has. A message of
//! the largest length comes as fast as it can; what is more than that at a time comes slowly.

use std::collections::BTreeMap;

use crate::guard::token_bucket::{Rate, TokenBucket};
use crate::meter::budget::{Budget, Share};

/// So many of the largest messages may have come of requests that are not at their end: over one connection,
/// and over all.
const MESSAGES: u64 = 3;
const MESSAGES_ALL: u64 = 6;
/// The most bytes of a request that one frame of its answer shows to be taken: a short message. A stream of
/// them, each answered, can go on for ever.
const ANSWERED_LEN: u64 = 1 << 10;
/// What a connection may send in a second beyond one such message that is not at its end, in bytes: as much
/// as it may in the long run anyway. Without this, whoever sends what is never ended has the gateway take 160
/// MB/s.
const MORE_PER_SECOND: u32 = 8 << 20;

/// What connections may hold of such requests, whose messages have at most this length, in bytes.
#[must_use]
pub fn budget(message_len_max: u64) -> Budget {
    Budget::new(MESSAGES * message_len_max, MESSAGES_ALL * message_len_max)
}

/// Those of one connection, for as long as it lives.
pub struct Unfinished {
    share: Share,
    /// Bytes by the number of the stream.
    by_stream: BTreeMap<u32, u64>,
    /// What may come at once.
    pace: TokenBucket,
}

impl Unfinished {
    /// None yet.
    #[must_use]
    pub fn new(share: Share) -> Self {
        let burst = u32::try_from(share.each() / MESSAGES).unwrap_or(u32::MAX);
        let pace = TokenBucket::full(Rate { burst, per_second: MORE_PER_SECOND }, 0);
        Self { share, by_stream: BTreeMap::new(), pace }
    }

    /// Bytes of a request that goes on. Fails when it is more than one connection may hold.
    pub fn add(&mut self, stream: u32, len: u32) -> Result<(), &'static str> {
        if len == 0 {
            return Ok(());
        }
        if !self.share.add(len.into()) {
            return Err("it sent too much of requests that it did not end");
        }
        *self.by_stream.entry(stream).or_default() += u64::from(len);
        self.pace.take(len.into());
        Ok(())
    }

    /// What the time since the last call has brought.
    pub fn refill(&mut self, now_ms: u64) {
        self.pace.refill(now_ms);
    }

    /// Until when nothing more is read (monotonic ms); in the past if there is no need.
    #[must_use]
    pub fn until_ms(&self) -> u64 {
        self.pace.debt_paid_ms()
    }

    /// A part of an answer goes out on this stream, whose request may go on.
    pub fn answered(&mut self, stream: u32) {
        if let Some(len) = self.by_stream.get_mut(&stream) {
            let taken = ANSWERED_LEN.min(*len);
            *len -= taken;
            self.release(taken);
        }
    }

    /// The request is at its end, or given up.
    pub fn end(&mut self, stream: u32) {
        if let Some(len) = self.by_stream.remove(&stream) {
            self.release(len);
        }
    }

    fn release(&mut self, len: u64) {
        self.share.release(len);
        self.pace.give(u32::try_from(len).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::closer::Closer;

    fn with(each: u64) -> Unfinished {
        Unfinished::new(Budget::new(each, each).enter(Closer::default()))
    }

    #[test]
    fn what_is_at_its_end_leaves_room() {
        let mut one = with(100);
        assert!(one.add(1, 60).is_ok() && one.add(3, 40).is_ok());
        one.end(1);
        one.end(1);
        assert!(one.add(5, 60).is_ok());
        assert!(one.add(7, 1).is_err());
    }

    #[test]
    fn one_message_comes_at_once_and_more_comes_slowly() {
        const LEN: u32 = 4 << 20;
        let mut one = Unfinished::new(budget(LEN.into()).enter(Closer::default()));
        for stream in 0..100 {
            one.refill(1000);
            assert!(one.add(stream, LEN).is_ok() && one.until_ms() <= 1000, "as many as are ended");
            one.end(stream);
        }
        assert!(one.add(101, LEN).is_ok() && one.add(103, LEN).is_ok());
        assert_eq!(one.until_ms(), 1500);
        one.refill(1500);
        assert_eq!(one.until_ms(), 1500);
        assert!(one.add(105, LEN).is_ok());
        one.end(101);
        assert_eq!(one.until_ms(), 1500, "there is room for another one");
    }

    #[test]
    fn a_stream_of_answered_messages_goes_on_for_ever() {
        let mut one = with(100);
        for _ in 0..1000 {
            assert!(one.add(1, 60).is_ok());
            one.answered(1);
        }
        // An answer frees a short message, not a long one.
        let mut long = with(4000);
        assert!(long.add(1, 4000).is_ok());
        (0..2).for_each(|_| long.answered(1));
        assert!(long.add(1, 2048).is_ok() && long.add(1, 1).is_err());
        long.answered(3);
    }
}

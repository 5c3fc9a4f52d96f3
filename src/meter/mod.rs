//! Counts HTTP/2 frames on a connection, by nothing but their nine-byte headers, and holds them to quotas:
//! what the gRPC core below has no defence against. What a fast client may do is slowed down; what no client
//! does ends the connection.

#![forbid(unsafe_code)]

pub mod budget;
pub mod complaint;
mod frames;
mod quotas;
pub mod slowdown;
pub mod unfinished;

use std::collections::BTreeSet;

use crate::guard::token_bucket::TokenBucket;
use crate::meter::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, HEADERS, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE,
};
pub use crate::meter::quotas::Quotas;
use crate::meter::slowdown::Slowdown;
use crate::meter::unfinished::Unfinished;
use crate::tls::pump::{Meter, MeterDecision};

/// What a client sends first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The header of a gRPC message, in bytes: a frame of data that could not hold even that is of no use.
const MESSAGE_HEADER_LEN: u32 = 5;
/// Frames of data below this length, in bytes, cost more memory than they carry.
const FRAGMENT_LEN: u32 = 16;
/// So they count as this many frames.
const FRAGMENT_COST: u64 = 10;
/// The longest frame that is neither data nor headers, in bytes: what HTTP/2 allows unless more is announced.
const OTHER_FRAME_LEN_MAX: u32 = 16 << 10;
/// Of how many calls that have ended on our side it is known whether the client may still send trailers.
/// Those are on their way when our end comes; no client leaves that many of them unended.
const LATE_SENDERS_MAX: usize = 256;

/// Counts one connection's frames.
pub struct FrameMeter {
    quotas: Quotas,
    /// How much of the preface has come.
    preface: usize,
    inbound: Frames,
    outbound: Frames,
    bytes: TokenBucket,
    frames: TokenBucket,
    resets: TokenBucket,
    our_resets: TokenBucket,
    control: TokenBucket,
    /// CONTINUATION frames and bytes of the block of headers that is not at its end.
    continuations: u32,
    block_len: u32,
    /// Calls begun before our settings were acknowledged; none any more once they are.
    early_calls: Option<u32>,
    /// Calls that neither side has ended: at most those that are allowed, and the early ones.
    calls: BTreeSet<u32>,
    /// Streams that the client has begun and neither ended nor reset: it may send trailers on them, also when
    /// we have ended the call meanwhile and it does not know yet.
    senders: BTreeSet<u32>,
    /// The stream of the last call; each has a higher number than those before.
    last_call: u32,
    /// What has come of requests that are not at their end.
    unfinished: Option<Unfinished>,
    /// When the first answer has to be taken that is not yet.
    unread_due_ms: Option<UnreadDue>,
    /// What its calls think of it.
    slowdown: Option<Slowdown>,
}

/// See [`FrameMeter::also`].
pub type UnreadDue = Box<dyn Fn() -> Option<u64> + Send>;

impl FrameMeter {
    /// For a connection that begins now (monotonic ms).
    #[must_use]
    pub fn new(quotas: Quotas, now_ms: u64) -> Self {
        let full = |rate| TokenBucket::full(rate, now_ms);
        Self {
            preface: 0,
            inbound: Frames::default(),
            outbound: Frames::default(),
            bytes: full(quotas.bytes),
            frames: full(quotas.frames),
            resets: full(quotas.resets),
            our_resets: full(quotas.our_resets),
            control: full(quotas.control),
            continuations: 0,
            block_len: 0,
            early_calls: Some(0),
            calls: BTreeSet::new(),
            senders: BTreeSet::new(),
            last_call: 0,
            unfinished: None,
            unread_due_ms: None,
            slowdown: None,
            quotas,
        }
    }

    /// Also counts what of requests is not at its end, and ends the connection when an answer is not taken in
    /// time (monotonic ms).
    #[must_use]
    pub fn also(mut self, unfinished: Unfinished, unread_due_ms: UnreadDue) -> Self {
        (self.unfinished, self.unread_due_ms) = (Some(unfinished), Some(unread_due_ms));
        self
    }

    /// Also reads as slowly as the calls of the connection want.
    #[must_use]
    pub fn slowed_by(self, slowdown: Slowdown) -> Self {
        Self { slowdown: Some(slowdown), ..self }
    }

    /// The client's part of this stream is at its end, or nobody waits for it.
    fn end_request(&mut self, stream: u32) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.end(stream);
        }
    }

    /// The preface as far as it is in these bytes. What comes after it, or why not.
    fn after_preface<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let expected = &PREFACE[self.preface..];
        let len = expected.len().min(bytes.len());
        if bytes[..len] != expected[..len] {
            return Err("what came first was not HTTP/2");
        }
        self.preface += len;
        Ok(&bytes[len..])
    }

    /// A frame from the client.
    fn received(&mut self, frame: Frame) -> Result<(), &'static str> {
        let mut cost = 1;
        // We begin no streams, so there are none of the server's numbers. The gRPC core passes over such a
        // frame, and a counter that takes it for a call is misled.
        let is_on_stream = matches!(frame.kind, DATA | HEADERS | RST_STREAM | CONTINUATION);
        let is_ours = frame.stream.is_multiple_of(2);
        if is_ours && (is_on_stream || frame.kind == WINDOW_UPDATE && frame.stream != 0) {
            return Err("it used a stream number that is not a client's");
        }
        match frame.kind {
            DATA if frame.flags & END_STREAM == 0 && frame.len < MESSAGE_HEADER_LEN => self.control.take(1),
            DATA if frame.flags & END_STREAM == 0 && frame.len < FRAGMENT_LEN => cost = FRAGMENT_COST,
            SETTINGS if frame.flags & ACK != 0 => {
                self.control.take(1);
                self.early_calls = None;
            }
            PING | SETTINGS | PRIORITY => self.control.take(1),
            CONTINUATION => {
                self.control.take(1);
                self.continuations += 1;
                self.header_block(frame)?;
            }
            HEADERS => {
                (self.continuations, self.block_len) = (0, 0);
                self.header_block(frame)?;
                if frame.stream > self.last_call {
                    self.call(frame.stream)?;
                } else if !self.senders.contains(&frame.stream) {
                    return Err("it sent headers on a stream that is not open");
                }
            }
            RST_STREAM => {
                self.resets.take(1);
                self.calls.remove(&frame.stream);
                self.senders.remove(&frame.stream);
                self.end_request(frame.stream);
            }
            _ => {}
        }
        if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
            self.senders.remove(&frame.stream);
            self.end_request(frame.stream);
        } else if let Some(unfinished) = &mut self.unfinished
            && frame.kind == DATA
            && self.calls.contains(&frame.stream)
        {
            unfinished.add(frame.stream, frame.len)?;
        }
        self.frames.take(cost);
        if frame.len > OTHER_FRAME_LEN_MAX && !matches!(frame.kind, DATA | HEADERS | CONTINUATION) {
            return Err("it sent a frame that is too long");
        }
        if self.resets.is_in_debt() {
            return Err("it reset too many streams");
        }
        if self.control.is_in_debt() {
            return Err("it sent too many frames that carry nothing");
        }
        Ok(())
    }

    fn call(&mut self, stream: u32) -> Result<(), &'static str> {
        match &mut self.early_calls {
            None if self.calls.len() >= self.quotas.calls_max as usize => {
                return Err("it began more calls than it may have at a time");
            }
            None => {}
            Some(early) => {
                *early += 1;
                if *early > self.quotas.early_calls_max {
                    return Err("it began too many calls without acknowledging our settings");
                }
            }
        }
        self.last_call = stream;
        self.calls.insert(stream);
        self.senders.insert(stream);
        if self.senders.len() > self.calls.len() + LATE_SENDERS_MAX
            && let Some(&oldest) = self.senders.difference(&self.calls).next()
        {
            self.senders.remove(&oldest);
        }
        Ok(())
    }

    fn header_block(&mut self, frame: Frame) -> Result<(), &'static str> {
        self.block_len = self.block_len.saturating_add(frame.len);
        if self.continuations > self.quotas.continuations_max {
            return Err("it sent headers in too many pieces");
        }
        if self.block_len > self.quotas.header_block_len_max {
            return Err("it sent headers that are too long");
        }
        if frame.flags & END_HEADERS != 0 {
            (self.continuations, self.block_len) = (0, 0);
        }
        Ok(())
    }

    /// A frame of ours.
    fn sent(&mut self, frame: Frame) -> Result<(), &'static str> {
        match frame.kind {
            DATA | HEADERS => self.control.give(1),
            RST_STREAM => self.our_resets.take(1),
            _ => {}
        }
        if frame.kind == RST_STREAM || matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
            self.calls.remove(&frame.stream);
            self.end_request(frame.stream);
        } else if let (DATA, Some(unfinished)) = (frame.kind, &mut self.unfinished) {
            unfinished.answered(frame.stream);
        }
        if self.our_resets.is_in_debt() { Err("it made us reset too many streams") } else { Ok(()) }
    }
}

impl Meter for FrameMeter {
    fn inbound(&mut self, plaintext: &[u8], now_ms: u64) -> MeterDecision {
        for bucket in [&mut self.bytes, &mut self.frames, &mut self.resets, &mut self.control] {
            bucket.refill(now_ms);
        }
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.refill(now_ms);
        }
        self.bytes.take(plaintext.len() as u64);
        let mut rest = match self.after_preface(plaintext) {
            Ok(rest) => rest,
            Err(why) => return MeterDecision::Kill(why),
        };
        while let Some(frame) = self.inbound.next(&mut rest) {
            if let Err(why) = self.received(frame) {
                return MeterDecision::Kill(why);
            }
        }
        let slowed = self.slowdown.as_ref().map_or(0, |slowdown| slowdown.until_ms(now_ms));
        let unfinished = self.unfinished.as_ref().map_or(0, Unfinished::until_ms);
        let until = self.bytes.debt_paid_ms().max(self.frames.debt_paid_ms()).max(slowed).max(unfinished);
        if until > now_ms { MeterDecision::PauseUntil(until) } else { MeterDecision::Pass }
    }

    fn outbound(&mut self, plaintext: &[u8], now_ms: u64) -> MeterDecision {
        self.our_resets.refill(now_ms);
        let mut rest = plaintext;
        while let Some(frame) = self.outbound.next(&mut rest) {
            if let Err(why) = self.sent(frame) {
                return MeterDecision::Kill(why);
            }
        }
        MeterDecision::Pass
    }

    fn due(&mut self) -> Option<(u64, &'static str)> {
        let due = self.unread_due_ms.as_ref()?();
        due.map(|at| (at, "it did not take the answer of a call"))
    }
}

#[cfg(test)]
mod load;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::frames::tests::frame_of;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, len: usize) -> Vec<u8> {
        frame_of(1, kind, flags, len)
    }

    /// A connection that has begun, at the time 1,000,000 ms.
    struct Client {
        meter: FrameMeter,
        now_ms: u64,
    }

    impl Client {
        fn new() -> Self {
            let mut meter = FrameMeter::new(Quotas::default(), 1_000_000);
            assert_eq!(meter.inbound(PREFACE, 1_000_000), MeterDecision::Pass);
            // As by an acknowledgement, which would take from the quotas.
            meter.early_calls = None;
            Self { meter, now_ms: 1_000_000 }
        }

        /// Sends so many, evenly over so many milliseconds; answers the first decision that ends it.
        fn sends(&mut self, frames: &[u8], count: u64, over_ms: u64) -> Option<&'static str> {
            let begin = self.now_ms;
            for n in 0..count {
                self.now_ms = self.now_ms.max(begin + n * over_ms / count);
                if let Some(why) = self.says(frames) {
                    return Some(why);
                }
            }
            None
        }

        /// Begins so many calls, each on the next stream and with these frames after its headers, evenly over
        /// so many milliseconds. Each is answered before the next, unless it is reset.
        fn calls(&mut self, more: &[(u8, u8, usize)], count: u32, over_ms: u64) -> Option<&'static str> {
            let (begin, first) = (self.now_ms, (self.meter.last_call + 1) | 1);
            for n in 0..count {
                self.now_ms = self.now_ms.max(begin + u64::from(n) * over_ms / u64::from(count));
                let on = |kind, flags, len| frame_of(first + 2 * n, kind, flags, len);
                let mut frames = on(HEADERS, END_HEADERS, 120);
                more.iter().for_each(|&(kind, flags, len)| frames.extend(on(kind, flags, len)));
                if let Some(why) = self.says(&frames) {
                    return Some(why);
                }
                if !more.iter().any(|(kind, ..)| *kind == RST_STREAM) {
                    self.ends(first + 2 * n);
                }
            }
            None
        }

        fn says(&mut self, frames: &[u8]) -> Option<&'static str> {
            match self.meter.inbound(frames, self.now_ms) {
                MeterDecision::Pass => {}
                MeterDecision::PauseUntil(at) => self.now_ms = at,
                MeterDecision::Kill(why) => return Some(why),
            }
            None
        }

        /// We end this call.
        fn ends(&mut self, stream: u32) {
            let end = frame_of(stream, HEADERS, END_HEADERS | END_STREAM, 5);
            assert_eq!(self.meter.outbound(&end, self.now_ms), MeterDecision::Pass);
        }
    }

    #[test]
    fn honest_clients_are_not_disturbed() {
        let request = (DATA, END_STREAM, 40);
        let mut client = Client::new();
        assert_eq!(client.calls(&[request], 150_000, 10_000), None, "15,000 calls in a second");
        assert_eq!(client.now_ms, 1_000_000 + 149_999 * 10_000 / 150_000, "not even slowed down");

        let cancelled = [request, (RST_STREAM, 0, 4)];
        assert_eq!(client.calls(&cancelled, 3000, 60_000), None, "50 cancelled calls in a second");
        assert_eq!(client.sends(&frame(PING, 0, 8), 600, 60_000), None, "pings that measure the line");
        assert_eq!(client.sends(&frame(8, 0, 4), 200_000, 10_000), None, "windows widened for 500 MB/s");
        assert_eq!(client.sends(&frame(DATA, 0, 12), 40_000, 10_000), None, "a chat of short messages");
    }

    #[test]
    fn a_ping_for_each_batch_of_ours_is_allowed() {
        let mut client = Client::new();
        for _ in 0..100_000 {
            assert_eq!(client.meter.outbound(&frame(DATA, 0, 100), client.now_ms), MeterDecision::Pass);
            assert_eq!(client.sends(&frame(PING, 0, 8), 1, 1), None);
        }
    }

    #[test]
    fn g15_rapid_reset_ends_the_connection() {
        let why = Some("it reset too many streams");
        let reset = [(RST_STREAM, 0, 4)];
        assert_eq!(Client::new().calls(&reset, 100_000, 1000), why);
        assert_eq!(Client::new().calls(&reset, 2000, 10_000), why, "200/s, too");
        assert_eq!(Client::new().calls(&reset, 200, 0), None, "once, a client may give up all it has");
    }

    #[test]
    fn g16_making_us_reset_ends_the_connection() {
        let mut meter = FrameMeter::new(Quotas::default(), 0);
        let reset = frame(RST_STREAM, 0, 4);
        let decisions: Vec<_> = (0..201).map(|_| meter.outbound(&reset, 10)).collect();
        assert_eq!(decisions[199], MeterDecision::Pass);
        assert_eq!(decisions[200], MeterDecision::Kill("it made us reset too many streams"));
    }

    #[test]
    fn g19_calls_without_an_acknowledgement_of_our_settings_are_few() {
        let mut client = Client::new();
        client.meter.early_calls = Some(0);
        let call = |n: u32| frame_of(2 * n + 1, HEADERS, END_HEADERS, 50);
        (0..100).for_each(|n| assert_eq!(client.sends(&call(n), 1, 1), None));
        let why = Some("it began too many calls without acknowledging our settings");
        assert_eq!(client.sends(&call(100), 1, 1), why);
    }

    #[test]
    fn g19_calls_at_a_time_are_as_many_as_our_settings_say() {
        let mut client = Client::new();
        let call = |n: u32| frame_of(2 * n + 1, HEADERS, END_HEADERS, 50);
        // More than is allowed were begun before it was known.
        client.meter.early_calls = Some(0);
        client.meter.quotas.calls_max = 10;
        (0..20).for_each(|n| assert_eq!(client.sends(&call(n), 1, 1), None));
        assert_eq!(client.sends(&frame_of(0, SETTINGS, ACK, 0), 1, 1), None);
        let end = |n: u32| frame_of(2 * n + 1, HEADERS, END_HEADERS | END_STREAM, 5);
        let now = client.now_ms;
        (0..10).for_each(|n| assert_eq!(client.meter.outbound(&end(n), now), MeterDecision::Pass));
        assert_eq!(client.sends(&frame_of(31, RST_STREAM, 0, 4), 1, 1), None);
        // Trailers begin nothing.
        assert_eq!(client.sends(&frame_of(39, HEADERS, END_HEADERS | END_STREAM, 5), 1, 1), None);
        assert_eq!(client.sends(&call(20), 1, 1), None);
        assert_eq!(client.sends(&call(21), 1, 1), Some("it began more calls than it may have at a time"));
    }

    #[test]
    fn g19_numbers_that_are_no_calls_end_the_connection() {
        let headers = |stream| frame_of(stream, HEADERS, END_HEADERS, 50);
        let ended = |stream| frame_of(stream, HEADERS, END_HEADERS | END_STREAM, 50);
        let not_a_clients = Some("it used a stream number that is not a client's");
        for stream in [0, 2, 0x7fff_fffe] {
            assert_eq!(Client::new().says(&headers(stream)), not_a_clients);
        }
        assert_eq!(Client::new().says(&frame_of(2, WINDOW_UPDATE, 0, 4)), not_a_clients);
        assert_eq!(Client::new().says(&frame_of(0, WINDOW_UPDATE, 0, 4)), None);

        let not_open = Some("it sent headers on a stream that is not open");
        for before in [headers(51), [ended(49), headers(51)].concat()] {
            let mut client = Client::new();
            assert_eq!(client.says(&before), None);
            assert_eq!(client.says(&headers(49)), not_open);
        }
        let reset = [headers(1), frame_of(1, RST_STREAM, 0, 4)].concat();
        let mut client = Client::new();
        assert_eq!(client.says(&reset), None);
        assert_eq!(client.says(&ended(1)), not_open, "who has reset a stream has no more to say on it");
    }

    #[test]
    fn trailers_may_come_when_we_have_ended_the_call_or_reset_it() {
        let headers = |stream| frame_of(stream, HEADERS, END_HEADERS, 50);
        let trailers = |stream| frame_of(stream, HEADERS, END_HEADERS | END_STREAM, 50);
        for stream in [1, 3, 5] {
            let mut client = Client::new();
            assert_eq!(client.says(&[headers(1), headers(3), headers(5)].concat()), None);
            client.ends(1);
            let reset = frame_of(3, RST_STREAM, 0, 4);
            assert_eq!(client.meter.outbound(&reset, client.now_ms), MeterDecision::Pass);
            assert_eq!(client.says(&trailers(stream)), None, "stream {stream}");
            assert!(client.says(&trailers(stream)).is_some(), "stream {stream} has had its trailers");
        }
    }

    #[test]
    fn what_is_kept_of_calls_that_we_have_ended_has_a_limit() {
        let mut client = Client::new();
        assert_eq!(client.says(&frame_of(1, HEADERS, END_HEADERS, 50)), None);
        assert_eq!(client.calls(&[], 10_000, 10_000), None);
        assert_eq!(client.meter.senders.len(), 2 + LATE_SENDERS_MAX);
        assert_eq!(client.says(&frame_of(1, HEADERS, END_HEADERS | END_STREAM, 5)), None, "it is open");
    }

    #[test]
    fn g17_g20_headers_without_end_are_ended() {
        for (len, why) in
            [(0, "it sent headers in too many pieces"), (16 << 10, "it sent headers that are too long")]
        {
            let mut client = Client::new();
            assert_eq!(client.sends(&frame(HEADERS, 0, 16 << 10), 1, 1), None);
            assert_eq!(client.sends(&frame(CONTINUATION, 0, len), 33, 1000), Some(why));
        }
        let mut client = Client::new();
        let honest = |n: u32| {
            let on = |kind, flags, len| frame_of(2 * n + 1, kind, flags, len);
            let headers = [on(HEADERS, END_STREAM, 16 << 10), on(CONTINUATION, 0, 16 << 10)];
            [headers.concat(), on(CONTINUATION, END_HEADERS, 100)].concat()
        };
        (0..100).for_each(|n| assert_eq!(client.sends(&honest(n), 1, 10), None));
        assert!(client.sends(&frame(HEADERS, END_HEADERS, 70_000), 1, 1).is_some());
    }

    #[test]
    fn g18_g22_frames_that_carry_nothing_end_the_connection() {
        let why = Some("it sent too many frames that carry nothing");
        for nothing in [
            frame(PING, 0, 8),
            frame(PING, 1, 8),
            frame(SETTINGS, 0, 0),
            frame(PRIORITY, 0, 5),
            frame(DATA, 0, 0),
            frame(DATA, 0, 1),
            frame(CONTINUATION, END_HEADERS, 0),
        ] {
            assert_eq!(Client::new().sends(&nothing, 100_000, 1000), why, "{nothing:?}");
            assert_eq!(Client::new().sends(&nothing, 30_000, 20_000), why, "three times what is allowed");
        }
        assert!(Client::new().sends(&frame(SETTINGS, 0, 20_000), 1, 1).is_some(), "too long");
    }

    #[test]
    fn what_is_fast_is_slowed_down() {
        for (frame, count, ms, what) in [
            (frame(8, 0, 4), 1_100_000, 20_000, "a million frames beyond the first take 20 seconds"),
            (frame(DATA, 0, 6), 110_000, 20_000, "in fragments, ten times as long"),
            (frame(DATA, 0, (1 << 20) - 9), 56, 3000, "56 MiB with 32 MiB at once and 8 MiB/s"),
        ] {
            let mut client = Client::new();
            assert_eq!(client.sends(&frame, count, 0), None);
            // What begins the connection takes a little of each, too: at most a millisecond.
            assert!((ms..=ms + 1).contains(&(client.now_ms - 1_000_000)), "{what}");
        }
    }

    #[test]
    fn what_is_not_http2_is_refused() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", b"\x16\x03\x01"] {
            let mut meter = FrameMeter::new(Quotas::default(), 0);
            assert_eq!(meter.inbound(bytes, 0), MeterDecision::Kill("what came first was not HTTP/2"));
        }
    }

    proptest! {
        #[test]
        fn a_preface_may_come_in_pieces(cuts in prop::collection::vec(1usize..9, 1..30)) {
            let bytes = [&PREFACE[..], &frame(SETTINGS, 0, 12)].concat();
            let mut meter = FrameMeter::new(Quotas::default(), 0);
            let (mut rest, mut cut) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(rest.len().min(*cut.next().unwrap()));
                rest = after;
                prop_assert_eq!(meter.inbound(chunk, 0), MeterDecision::Pass);
            }
        }
    }
}

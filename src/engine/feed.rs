//! What is global and outlives the engine: the event feed and the environment, in memory that the keeper
//! holds.
//!
//! An event and the record of the process that it happened to are published under one lock: first the record,
//! which carries its events with their numbers, then the feed. If we end between the two, the next engine
//! finds in the record what the feed lacks. Numbers grow by one and are never given twice.
//!
//! ```text
//! 0  words      4096  two slots for the environment      then  the ring of events, 512 bytes each
//! ```

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::engine::memory::Memory;
use crate::sys::clock;
use crate::sys::memory::{PAGE, Window};
use crate::sys::poll::Waker;
use crate::wire::error::{Code, Error};
use crate::wire::event::NewEvent;
use crate::wire::event::{Event, EventKind};
use crate::wire::record::{Record, decode_env, encode_env};
use crate::wire::time::Timestamp;

const MAGIC: u64 = u64::from_le_bytes(*b"PROVOSTG");
const MAGIC_AT: usize = 0;
/// The number of the next event.
const NEXT_AT: usize = 8;
/// Grows by one with each change of the environment; its last bit is the current slot.
const TURN_AT: usize = 16;
/// Who the service is: a UUID in two words.
const SERVICE_AT: [usize; 2] = [24, 32];
/// Not 0: what an earlier service kept has been restored.
const RESTORED_AT: usize = 40;
/// The number of the first event that this memory ever held.
const FIRST_AT: usize = 48;
/// The number of the newest line of the audit.
const AUDIT_AT: usize = 56;
const ENV_AT: [usize; 2] = [PAGE, PAGE + ENV_SLOT_LEN];
const ENV_SLOT_LEN: usize = 160 << 10;
/// The most bytes the global environment takes, names and values together.
pub const ENV_LEN_MAX: usize = 128 << 10;
const EVENTS_AT: usize = PAGE + 2 * ENV_SLOT_LEN;
const EVENT_LEN: usize = 512;
/// How many events are kept.
pub const EVENTS_KEPT: u64 = 4096;
/// What the feed takes of the global memory.
pub const LEN: usize = EVENTS_AT + EVENT_LEN * (EVENTS_KEPT as usize);
/// The most events handed out at a time.
const BATCH_MAX: u64 = 512;

/// Feed and environment. Shared by all threads.
#[derive(Debug)]
pub struct Feed {
    window: Window,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    env: Vec<(String, String)>,
    followers: Vec<Waker>,
}

impl Feed {
    /// Takes over what is there, or begins.
    pub fn open(file: &File) -> Result<Self, Error> {
        let failed = |e: io::Error| Error::failed("map the global memory", &e);
        if file.metadata().map_err(failed)?.len() < LEN as u64 {
            file.set_len(LEN as u64).map_err(failed)?;
        }
        let window = Window::map(file, LEN).map_err(failed)?;
        if window.atomic(MAGIC_AT).load(Ordering::Acquire) != MAGIC {
            window.atomic(NEXT_AT).store(1, Ordering::Release);
            window.atomic(FIRST_AT).store(1, Ordering::Release);
            window.atomic(MAGIC_AT).store(MAGIC, Ordering::Release);
        }
        let env = read_env(&window)?;
        Ok(Self { window, inner: Mutex::new(Inner { env, followers: Vec::new() }) })
    }

    /// Publishes a record together with what is to be told about it.
    pub fn commit(&self, memory: &Memory, record: &mut Record, new_events: &[NewEvent], at: Timestamp) {
        if new_events.is_empty() {
            record.events.clear();
            memory.publish(record);
            return;
        }
        // The lock is held over writes to memory only; the order of records and events hangs on it.
        let inner = self.inner.lock();
        let next = self.next();
        record.events = new_events
            .iter()
            .zip(next..)
            .map(|(new_events, seq)| Event {
                seq,
                at,
                mono_ms: clock::now_ms(),
                id: Some(record.id),
                name: record.name.as_ref().map(|n| n.as_str().to_owned()).unwrap_or_default(),
                run: record.run,
                pid: record.pid,
                kind: new_events.kind,
                cause: record.cause.clone(),
                exit: if new_events.kind == EventKind::Exited { record.exit } else { None },
                detail: new_events.detail.clone(),
            })
            .collect();
        memory.publish(record);
        for event in &record.events {
            self.append(event);
        }
        wake(&inner.followers);
    }

    /// Adds what the records of the last engine have and the feed has not.
    pub fn catch_up(&self, records: &mut dyn Iterator<Item = &Record>) {
        let next = self.next();
        let mut missing: Vec<&Event> = records.flat_map(|r| &r.events).filter(|e| e.seq >= next).collect();
        missing.sort_by_key(|e| e.seq);
        for event in missing {
            if event.seq == self.next() {
                self.append(event);
            }
        }
    }

    /// Tells something that changes no record.
    pub fn publish(&self, event: Event) {
        let inner = self.inner.lock();
        self.append(&Event { seq: self.next(), ..event });
        wake(&inner.followers);
    }

    /// Who the service is; nil before [`Feed::begin`].
    pub fn service(&self) -> Uuid {
        let [high, low] = SERVICE_AT.map(|at| self.window.atomic(at).load(Ordering::Acquire));
        Uuid::from_u64_pair(high, low)
    }

    /// Whether what an earlier service kept is here by now.
    pub fn is_restored(&self) -> bool {
        self.window.atomic(RESTORED_AT).load(Ordering::Acquire) != 0
    }

    /// The first engine of a keeper goes on where an earlier service ended: as the same service, with the
    /// numbers of events behind its last one, and with its environment. Done twice when an engine dies
    /// meanwhile.
    pub fn begin(&self, service: Uuid, last_seq: u64, env: &[(String, String)]) {
        let mut inner = self.inner.lock();
        let (high, low) = service.as_u64_pair();
        self.window.atomic(SERVICE_AT[0]).store(high, Ordering::Release);
        self.window.atomic(SERVICE_AT[1]).store(low, Ordering::Release);
        if self.next() == self.window.atomic(FIRST_AT).load(Ordering::Acquire) {
            self.window.atomic(FIRST_AT).store(last_seq + 1, Ordering::Release);
            self.window.atomic(NEXT_AT).store(last_seq + 1, Ordering::Release);
        }
        write_env(&self.window, env);
        inner.env = env.to_vec();
    }

    /// Lines of the audit up to this number are stored.
    pub fn has_audit(&self, last: u64) {
        self.window.atomic(AUDIT_AT).fetch_max(last, Ordering::AcqRel);
    }

    /// A number for a line of the audit: greater than all before.
    pub fn number_audit(&self) -> u64 {
        self.window.atomic(AUDIT_AT).fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Everything that an earlier service kept is here.
    pub fn set_restored(&self) {
        self.window.atomic(RESTORED_AT).store(1, Ordering::Release);
    }

    /// The number of the oldest event that is still here.
    pub fn oldest(&self) -> u64 {
        self.next().saturating_sub(EVENTS_KEPT).max(self.window.atomic(FIRST_AT).load(Ordering::Acquire))
    }

    /// The number of the newest event.
    pub fn newest(&self) -> u64 {
        self.next() - 1
    }

    fn next(&self) -> u64 {
        self.window.atomic(NEXT_AT).load(Ordering::Acquire)
    }

    fn append(&self, event: &Event) {
        let bytes = event.encode();
        let len = bytes.len().min(EVENT_LEN - 4);
        let at = slot(event.seq);
        self.window.write(at + 4, &bytes[..len]);
        self.window.write(at, &u32::try_from(len).expect("a slot's length").to_le_bytes());
        self.window.atomic(NEXT_AT).store(event.seq + 1, Ordering::Release);
    }

    /// Events after `since`, how many before them are no longer kept, and the number to ask for next.
    pub fn read(&self, since: u64) -> (Vec<Event>, u64, u64) {
        let _whole = self.inner.lock();
        let (oldest, next) = (self.oldest(), self.next());
        let wanted = since.saturating_add(1);
        let first = wanted.max(oldest);
        let missed = oldest.saturating_sub(wanted);
        let end = next.min(first.saturating_add(BATCH_MAX));
        let events = (first..end).filter_map(|seq| self.event(seq)).collect();
        (events, missed, end.max(first) - 1)
    }

    fn event(&self, seq: u64) -> Option<Event> {
        let at = slot(seq);
        let len = u32::from_le_bytes(<[u8; 4]>::try_from(self.window.read(at, 4)?).ok()?);
        let bytes = self.window.read(at + 4, usize::try_from(len).ok()?.min(EVENT_LEN - 4))?;
        Event::decode(&bytes).ok()
    }

    /// Wakes a thread with every event until what is returned is dropped.
    pub fn follow(&self, waker: Waker) -> impl Drop {
        self.inner.lock().followers.push(waker.clone());
        Following { feed: self, waker }
    }

    pub fn env(&self) -> Vec<(String, String)> {
        self.inner.lock().env.clone()
    }

    /// Changes the global environment; returns it. What runs keeps what it has.
    pub fn change_env(
        &self,
        set: &[(String, String)],
        unset: &[String],
        cause: &str,
    ) -> Result<Vec<(String, String)>, Error> {
        let mut inner = self.inner.lock();
        let mut env = inner.env.clone();
        env.retain(|(key, _)| !unset.contains(key) && !set.iter().any(|(k, _)| k == key));
        env.extend(set.iter().cloned());
        env.sort();
        let len: usize = env.iter().map(|(k, v)| k.len() + v.len() + 16).sum();
        if len > ENV_LEN_MAX {
            return Err(Error::new(
                Code::Refused,
                format!("the global environment would take {len} bytes, the limit is {ENV_LEN_MAX}"),
            ));
        }
        if env != inner.env {
            write_env(&self.window, &env);
            inner.env.clone_from(&env);
            let names: Vec<_> =
                set.iter().map(|(k, _)| k.as_str()).chain(unset.iter().map(String::as_str)).collect();
            let mut detail = names.join(" ");
            detail.truncate(
                (0..=detail.len().min(120)).rev().find(|&n| detail.is_char_boundary(n)).unwrap_or(0),
            );
            self.append(&Event {
                seq: self.next(),
                at: Timestamp::now(),
                mono_ms: clock::now_ms(),
                kind: EventKind::EnvChanged,
                cause: cause.to_owned(),
                detail,
                ..Event::default()
            });
            wake(&inner.followers);
        }
        Ok(env)
    }
}

struct Following<'f> {
    feed: &'f Feed,
    waker: Waker,
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.feed.inner.lock().followers.retain(|f| !f.is(&self.waker));
    }
}

fn wake(followers: &[Waker]) {
    for follower in followers {
        follower.wake();
    }
}

fn slot(seq: u64) -> usize {
    EVENTS_AT + EVENT_LEN * usize::try_from(seq % EVENTS_KEPT).expect("a few thousand")
}

fn write_env(window: &Window, env: &[(String, String)]) {
    let bytes = encode_env(env);
    let turn = window.atomic(TURN_AT).load(Ordering::Acquire) + 1;
    let at = ENV_AT[usize::from(turn % 2 == 1)];
    window.write(at + 4, &bytes);
    window.write(at, &u32::try_from(bytes.len()).expect("checked against its limit").to_le_bytes());
    window.atomic(TURN_AT).store(turn, Ordering::Release);
}

fn read_env(window: &Window) -> Result<Vec<(String, String)>, Error> {
    let turn = window.atomic(TURN_AT).load(Ordering::Acquire);
    let at = ENV_AT[usize::from(turn % 2 == 1)];
    let broken = || Error::new(Code::Failed, "the global environment in memory is broken");
    let len = window.read(at, 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).ok_or_else(broken)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > ENV_SLOT_LEN - 4 {
        return Err(broken());
    }
    decode_env(&window.read(at + 4, len).ok_or_else(broken)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::process::fresh::fresh;
    use crate::sys::memory::memfd_create;
    use crate::wire::id::ProcessId;
    use crate::wire::spec::Spec;

    fn new_events(kind: EventKind) -> NewEvent {
        NewEvent { kind, detail: String::new() }
    }

    fn seqs(feed: &Feed, since: u64) -> (Vec<u64>, u64) {
        let (events, missed, _) = feed.read(since);
        (events.iter().map(|e| e.seq).collect(), missed)
    }

    #[test]
    fn the_next_engine_adds_what_the_feed_lacks() {
        let file = memfd_create(c"test", 0).unwrap();
        let memory = Memory::create(&Spec::new(["a"])).unwrap();
        let mut record = fresh(ProcessId::new(), None, None);
        let feed = Feed::open(&file).unwrap();
        feed.commit(
            &memory,
            &mut record,
            &[new_events(EventKind::Created), new_events(EventKind::Started)],
            Timestamp(1),
        );
        // An engine that ends between record and feed: the record has number 3, the feed does not.
        let event = Event { seq: 3, kind: EventKind::Exited, ..record.events[0].clone() };
        record.events = vec![event];
        let feed = Feed::open(&file).unwrap();
        assert_eq!(seqs(&feed, 0), (vec![1, 2], 0));
        feed.catch_up(&mut [&record].into_iter());
        feed.catch_up(&mut [&record].into_iter());
        assert_eq!(seqs(&feed, 0), (vec![1, 2, 3], 0));
        assert_eq!(feed.read(2).0[0].kind, EventKind::Exited);
    }

    #[test]
    fn what_is_no_longer_kept_is_counted() {
        let file = memfd_create(c"test", 0).unwrap();
        let memory = Memory::create(&Spec::new(["a"])).unwrap();
        let mut record = fresh(ProcessId::new(), None, None);
        let feed = Feed::open(&file).unwrap();
        for _ in 0..EVENTS_KEPT + 10 {
            feed.commit(&memory, &mut record, &[new_events(EventKind::Ready)], Timestamp(1));
        }
        let (first, missed) = seqs(&feed, 0);
        assert_eq!((first[0], missed), (11, 10));
        let mut since = 0;
        let mut count = 0;
        loop {
            let (events, _, next) = feed.read(since);
            if events.is_empty() {
                break;
            }
            count += events.len() as u64;
            since = next;
        }
        assert_eq!((count, since), (EVENTS_KEPT, EVENTS_KEPT + 10));
    }

    #[test]
    fn the_environment_outlives_the_engine() {
        let file = memfd_create(c"test", 0).unwrap();
        let feed = Feed::open(&file).unwrap();
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        feed.change_env(&[pair("A", "1"), pair("B", "2")], &[], "test").unwrap();
        feed.change_env(&[pair("A", "3")], &["B".into()], "test").unwrap();
        assert_eq!(Feed::open(&file).unwrap().env(), [pair("A", "3")]);
        assert!(feed.change_env(&[pair("X", &"x".repeat(ENV_LEN_MAX))], &[], "test").is_err());
        assert_eq!(feed.env(), [pair("A", "3")]);
    }
}

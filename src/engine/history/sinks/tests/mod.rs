//! Sinks against real files, sockets and servers.

mod jsonl;
mod opensearch;
mod server;
mod worker;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::engine::feed::Feed;
use crate::engine::history::sinks::deliver::{Delivery, Failed};
use crate::engine::history::sinks::worker::Standing;
use crate::sys::clock;
use crate::sys::memory::memfd_create;
use crate::wire::event::{Event, EventKind};
use crate::wire::id::ProcessId;
use crate::wire::process::{End, Exit};
use crate::wire::time::Timestamp;

const TIMEOUT: Duration = Duration::from_secs(30);
/// A service of these tests.
const SERVICE: Uuid = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001);

/// A directory of one test's own.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn event(seq: u64) -> Event {
    let exit = Exit {
        end: End::Code(3),
        core: false,
        oom: false,
        ran: Duration::from_millis(1500),
        user: Duration::from_millis(10),
        system: Duration::from_millis(5),
        max_rss_kib: 4096,
    };
    Event {
        seq,
        at: Timestamp(1_795_204_800_000 + seq),
        mono_ms: 0,
        id: Some(ProcessId::from_bytes(*Uuid::from_u128(u128::from(seq % 7)).as_bytes())),
        name: format!("web-{}", seq % 7),
        run: seq,
        pid: Some(4711),
        kind: EventKind::Exited,
        cause: "uid 1000".into(),
        exit: Some(exit),
        detail: format!("event {seq} of \"many\"\n"),
    }
}

fn events(seqs: std::ops::RangeInclusive<u64>) -> Vec<Event> {
    seqs.map(event).collect()
}

/// Events in memory, as the engine's source would have them.
#[derive(Default)]
struct Kept {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    events: Vec<Event>,
    /// How many are no longer kept.
    gone: u64,
    cursor: u64,
    is_over: bool,
}

impl Kept {
    fn add(&self, more: Vec<Event>) {
        self.inner.lock().events.extend(more);
        self.changed.notify_all();
    }

    fn newest(&self) -> u64 {
        self.inner.lock().events.last().map_or(0, |e| e.seq)
    }
}

fn keep(events: Vec<Event>) -> Arc<Kept> {
    let kept = Arc::new(Kept::default());
    kept.add(events);
    kept
}

impl Source for Kept {
    fn read(&self, since: u64, max: usize) -> Batch {
        let inner = self.inner.lock();
        let first = since.max(inner.gone);
        let events: Vec<Event> = inner.events.iter().filter(|e| e.seq > first).take(max).cloned().collect();
        let next = events.last().map_or(first, |e| e.seq);
        Batch { events, missed: first - since, next }
    }

    fn wait(&self, since: u64, deadline_ms: Option<u64>) -> bool {
        let mut inner = self.inner.lock();
        loop {
            if inner.is_over || inner.events.last().is_some_and(|e| e.seq > since) {
                return !inner.is_over;
            }
            match deadline_ms {
                None => self.changed.wait(&mut inner),
                Some(deadline) => {
                    let left = deadline.saturating_sub(clock::now_ms());
                    if left == 0 {
                        return true;
                    }
                    self.changed.wait_for(&mut inner, Duration::from_millis(left));
                }
            }
        }
    }

    fn delivered(&self, _: &str, seq: u64) {
        self.inner.lock().cursor = seq;
        self.changed.notify_all();
    }
}

/// A sink that runs.
struct Running {
    kept: Arc<Kept>,
    state: SinkState,
    log: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn new(settings: &SinkSettings, kept: &Arc<Kept>) -> Self {
        Self::with(kept, |begin, source, notify| start(settings, SERVICE, begin, source, notify))
    }

    fn with(
        kept: &Arc<Kept>,
        start: impl FnOnce(Begin, Arc<dyn Source>, Notify) -> io::Result<(SinkState, JoinHandle<()>)>,
    ) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let notify = Notify(Arc::new(move |line: &str| lines.lock().push(line.to_owned())));
        let newest = kept.newest();
        let since = {
            let mut inner = kept.inner.lock();
            inner.is_over = false;
            inner.cursor
        };
        let begin = Begin { since, newest };
        let (state, thread) = start(begin, Arc::clone(kept) as Arc<dyn Source>, notify).unwrap();
        Self { kept: Arc::clone(kept), state, log, thread: Some(thread) }
    }

    /// Waits until it has dealt with everything.
    #[track_caller]
    fn finish(&self) -> Standing {
        let newest = self.kept.newest();
        self.until(|standing| standing.seq == newest && standing.failing == 0)
    }

    /// Waits until its standing is so. The source tells of each delivery; failures are looked for.
    #[track_caller]
    fn until(&self, is_so: impl Fn(&Standing) -> bool) -> Standing {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let mut inner = self.kept.inner.lock();
            let standing = self.state.standing();
            if is_so(&standing) {
                return standing;
            }
            self.kept.changed.wait_for(&mut inner, Duration::from_millis(5));
            drop(inner);
            assert!(Instant::now() < deadline, "{standing:?} {:?}", self.log.lock());
        }
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kept.inner.lock().is_over = true;
        self.kept.changed.notify_all();
        let ended = self.thread.take().expect("it runs until here").join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

fn jsonl_at(path: &Path, max_size: u64, max_files: u32) -> SinkSettings {
    let jsonl = crate::engine::settings::JsonlSettings { path: path.to_owned(), max_size, max_files };
    SinkSettings { name: "audit".into(), kind: SinkKind::Jsonl(jsonl) }
}

/// The events of a file of lines, each checked whole.
fn seqs(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{path:?} is torn");
    let seq = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect(line);
        let seq = value["seq"].as_u64().unwrap();
        assert_eq!(value, crate::wire::json::event(&event(seq)));
        seq
    };
    text.lines().map(seq).collect()
}

/// Prints a figure where `PROVOST_TEST_FIGURES=1` asks for them.
fn figure(what: &str, count: u64, took: Duration) {
    if std::env::var_os("PROVOST_TEST_FIGURES").is_some() {
        let rate = count as f64 / took.as_secs_f64();
        let _ = writeln!(io::stderr(), "{what}: {count} events in {took:.2?}, {rate:.0} events/s");
    }
}

/// What the feed tells of the environment goes out without its values.
#[test]
fn no_environment_value_leaves() {
    let feed = Feed::open(&memfd_create(c"test", 0).unwrap()).unwrap();
    let canary = "c4n4ry-value";
    feed.change_env(&[("TOKEN".into(), canary.into())], &[], "uid 0").unwrap();
    feed.change_env(&[("TOKEN".into(), format!("{canary}-2"))], &["OTHER".into()], "uid 0").unwrap();
    let (events, _, _) = feed.read(0);
    assert_eq!(events.len(), 2);
    let scratch = Scratch::new();
    let path = scratch.path("events.jsonl");
    let server = server::Server::start(Vec::new());
    for settings in [jsonl_at(&path, 1 << 20, 2), server.settings()] {
        let kept = keep(events.clone());
        Running::new(&settings, &kept).finish();
    }
    let file = fs::read_to_string(&path).unwrap();
    let sent = String::from_utf8(server.requests()[0].body.clone()).unwrap();
    for text in [file, sent] {
        assert!(text.contains("TOKEN") && !text.contains(canary), "{text}");
    }
}

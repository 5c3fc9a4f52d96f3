//! The thread between source and destination.

use super::*;

/// Takes everything, and counts it.
struct Counter(Arc<Mutex<Vec<u64>>>, usize);

impl Deliver for Counter {
    fn batch_max(&self) -> usize {
        self.1
    }

    fn resume(&mut self) -> Result<Option<u64>, Failed> {
        Ok(None)
    }

    fn deliver(&mut self, events: &[Event]) -> Result<Delivery, Failed> {
        self.0.lock().extend(events.iter().map(|e| e.seq));
        Ok(Delivery { count: events.len(), ..Delivery::default() })
    }
}

fn counter(kept: &Arc<Kept>, batch: usize) -> (Running, Arc<Mutex<Vec<u64>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let to = Box::new(Counter(Arc::clone(&seen), batch));
    (Running::with(kept, |begin, source, notify| run("a-name-too-long", to, begin, source, notify)), seen)
}

#[test]
fn every_event_goes_out_once_in_order_as_it_comes() {
    let kept = keep(events(1..=10));
    let (sink, seen) = counter(&kept, 3);
    sink.finish();
    for n in 11..=50 {
        kept.add(events(n..=n));
    }
    let standing = sink.finish();
    assert_eq!(*seen.lock(), (1..=50).collect::<Vec<_>>());
    assert_eq!((standing.delivered, standing.missed, standing.failed), (50, 0, 0));
    assert_eq!((sink.state.behind(50), sink.state.behind(60)), (0, 10));
    assert_eq!(kept.inner.lock().cursor, 50);
    assert!(sink.log().is_empty(), "{:?}", sink.log());
}

#[test]
fn what_is_gone_is_counted_and_said() {
    let kept = keep(events(21..=30));
    kept.inner.lock().gone = 20;
    let (sink, seen) = counter(&kept, 100);
    let standing = sink.finish();
    assert_eq!((standing.delivered, standing.missed), (10, 20));
    assert_eq!(*seen.lock(), (21..=30).collect::<Vec<_>>());
    assert_eq!(
        sink.log(),
        ["sink a-name-too-long: 20 events in all were no longer kept when their turn came"]
    );
}

#[test]
fn a_sink_goes_on_from_its_cursor() {
    let kept = keep(events(1..=10));
    kept.inner.lock().cursor = 7;
    let (sink, seen) = counter(&kept, 100);
    sink.finish();
    assert_eq!(*seen.lock(), [8, 9, 10]);
}

/// One refuses, hangs and so on; the other knows nothing of it.
#[test]
fn a_dead_sink_holds_nobody_up() {
    let scratch = Scratch::new();
    let kept = keep(events(1..=100));
    let dead = Running::new(&jsonl_at(&scratch.path("no/such/dir"), 1 << 20, 2), &kept);
    let (alive, seen) = counter(&kept, 10);
    alive.finish();
    assert_eq!(seen.lock().len(), 100);
    let standing = dead.until(|standing| standing.failed >= 2);
    assert_eq!((standing.delivered, standing.seq), (0, 0));
    assert_eq!(dead.log().len(), 1, "{:?}", dead.log());
    let (_, why) = standing.last_error.unwrap();
    assert!(why.starts_with("cannot open ") && why.ends_with("its directory does not exist"), "{why}");
    // Both of one source here: its end is theirs.
    drop(alive);
}

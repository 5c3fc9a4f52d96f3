//! Threads that want the same provider, without a service: what they would start is seen in why they cannot.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::provider::alias::Decision;
use crate::provider::failure::Failure;
use crate::provider::{Alias, Notes, Providers};
use crate::wire::provider::{Definition, ProviderName};

/// How long a thread may take to fall asleep.
const ASLEEP_MAX_S: u64 = 20;

/// Providers whose binaries are not there, so that a start fails with the name of one.
fn providers(scratch: &Path) -> Providers {
    let notes = Notes::open(&scratch.join("notes")).unwrap();
    Providers::new(scratch.join("none.sock"), vec![scratch.to_owned()], notes)
}

fn definition(binary: &str) -> Definition {
    Definition { binary: binary.into(), ..Definition::default() }
}

/// A provider that somebody is at, so that whoever wants it waits.
fn busy(providers: &Providers) -> Arc<Alias> {
    let name = ProviderName::new("", "app").unwrap();
    let (alias, _) = providers.define(&name, definition("old")).unwrap();
    assert_eq!(alias.current.lock().get(0), Decision::Start);
    alias
}

/// Has a thread want the provider, and does the work when it waits for it. Returns what it got.
fn while_one_waits(providers: &Providers, alias: &Arc<Alias>, work: impl FnOnce()) -> Failure {
    let (to, from) = bounded(1);
    std::thread::scope(|scope| {
        let wants = scope.spawn(|| {
            to.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
            providers.get(alias).unwrap_err()
        });
        let stat = Path::new("/proc").join(from.recv().unwrap()).join("stat");
        let begin = Instant::now();
        // One that sleeps too early for another reason makes the test weaker, not wrong.
        while !fs::read_to_string(&stat).unwrap().rsplit_once(')').unwrap().1.starts_with(" S") {
            assert!(begin.elapsed().as_secs() < ASLEEP_MAX_S, "it does not wait");
            std::thread::yield_now();
        }
        work();
        wants.join().unwrap()
    })
}

#[test]
fn who_has_waited_starts_it_as_it_is_defined_by_then() {
    let scratch = tempfile::tempdir().unwrap();
    let providers = providers(scratch.path());
    let alias = busy(&providers);
    let failure = while_one_waits(&providers, &alias, || {
        *alias.definition.lock() = Arc::new(definition("new"));
        alias.current.rest();
    });
    assert!(matches!(&failure, Failure::BinaryNotFound { path, .. } if path == "new"), "{failure:?}");
}

#[test]
fn who_has_waited_starts_nothing_that_was_forgotten_or_ended() {
    let scratch = tempfile::tempdir().unwrap();
    let providers = providers(scratch.path());
    let alias = busy(&providers);
    let failure = while_one_waits(&providers, &alias, || alias.current.close());
    assert_eq!(failure, Failure::ShutDown);
    alias.current.rest();
    providers.forget(&alias.name).unwrap();
    assert_eq!(providers.get(&alias).unwrap_err(), Failure::ShutDown);
    let alias = busy(&providers);
    alias.current.rest();
    providers.end(&alias.name, Duration::from_secs(1)).unwrap();
    assert_eq!(providers.get(&alias).unwrap_err(), Failure::ShutDown);
    providers.reopen(&alias.name);
    assert!(matches!(providers.get(&alias).unwrap_err(), Failure::BinaryNotFound { .. }));
}

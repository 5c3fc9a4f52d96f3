//! One look at all processes, for whoever wants to know at the same time: where there are no cgroups, each
//! stop has to find its tree in /proc, and thousands that stop together would each read all of it.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::sys::procfs::{self, Stat};

/// The variables that tell a child who it is.
pub const PROVOST_ID: &str = "PROVOST_ID";
/// ... and whose: a later service finds by it what has outlived an earlier one.
pub const PROVOST_SERVICE: &str = "PROVOST_SERVICE";

/// A process as it was at the look.
#[derive(Clone, Debug)]
pub struct Seen {
    pub stat: Stat,
    /// What its environment says it is of: the process, and the service.
    pub id: Option<Vec<u8>>,
    pub service: Option<Vec<u8>>,
}

/// All processes that could be seen.
#[derive(Debug, Default)]
pub struct Look {
    pub seen: Vec<Seen>,
    /// Why one could not be looked at, as an error number.
    pub failed: Option<i32>,
}

/// Looks that are shared. A look that was begun before it was asked for does not count: what is asked about
/// may have happened since.
#[derive(Debug, Default)]
pub struct Looks {
    inner: Mutex<Inner>,
    over: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    /// How many were begun, and the last one that is over.
    begun: u64,
    over: u64,
    is_looking: bool,
    waiting: usize,
    last: Option<Arc<Look>>,
}

impl Looks {
    /// A look that was begun after this was called.
    pub fn look(&self) -> Arc<Look> {
        self.share(|| Look::take().unwrap_or_else(|e| Look { seen: Vec::new(), failed: e.raw_os_error() }))
    }

    fn share(&self, take: impl FnOnce() -> Look) -> Arc<Look> {
        let mut inner = self.inner.lock();
        let wanted = inner.begun + 1;
        inner.waiting += 1;
        // Of those who wait, one looks for all.
        while inner.is_looking && inner.over < wanted {
            self.over.wait(&mut inner);
        }
        let look = match &inner.last {
            Some(last) if inner.over >= wanted => Arc::clone(last),
            Some(_) | None => {
                inner.is_looking = true;
                inner.begun += 1;
                let number = inner.begun;
                drop(inner);
                let look = Arc::new(take());
                inner = self.inner.lock();
                (inner.over, inner.is_looking) = (number, false);
                inner.last = Some(Arc::clone(&look));
                self.over.notify_all();
                look
            }
        };
        inner.waiting -= 1;
        if inner.waiting == 0 {
            inner.last = None;
        }
        look
    }
}

impl Look {
    fn take() -> io::Result<Self> {
        let mut look = Self::default();
        for pid in procfs::pids()? {
            match Seen::of(pid) {
                Ok(Some(seen)) => look.seen.push(seen),
                Ok(None) => {}
                Err(e) => look.failed = e.raw_os_error(),
            }
        }
        Ok(look)
    }
}

impl Seen {
    fn of(pid: u32) -> io::Result<Option<Self>> {
        let Some(stat) = procfs::look(pid)?.filter(|stat| !stat.is_zombie()) else { return Ok(None) };
        let env = procfs::variables(pid)?;
        let value = |key: &str| {
            let is = |v: &[u8]| v.strip_prefix(key.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec);
            env.split(|&b| b == 0).find_map(is)
        };
        Ok(Some(Self { stat, id: value(PROVOST_ID), service: value(PROVOST_SERVICE) }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn who_asks_during_a_look_shares_the_next_one() {
        let (looks, taken) = (Looks::default(), AtomicUsize::new(0));
        let begun = || looks.inner.lock().waiting;
        thread::scope(|scope| {
            scope.spawn(|| {
                looks.share(|| {
                    taken.fetch_add(1, Ordering::SeqCst);
                    // Ten more ask, while this one looks.
                    for _ in 0..10 {
                        scope.spawn(|| {
                            let number = taken.load(Ordering::SeqCst) as i32;
                            let look = looks.share(|| Look {
                                failed: Some(1 + taken.fetch_add(1, Ordering::SeqCst) as i32),
                                ..Look::default()
                            });
                            assert!(look.failed > Some(number), "begun after it was asked for");
                        });
                    }
                    while begun() < 11 {
                        thread::yield_now();
                    }
                    Look::default()
                });
            });
        });
        assert_eq!(taken.load(Ordering::SeqCst), 2, "one for all ten");
        assert!(looks.inner.lock().last.is_none(), "nothing is kept");
    }

    #[test]
    fn a_look_sees_this_process() {
        let look = Looks::default().look();
        assert!(look.seen.iter().any(|seen| seen.stat.pid == std::process::id()));
    }
}

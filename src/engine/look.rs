//! One look at all processes, for whoever wants to know at the same time: where there are no cgroups, each
//! stop has to find its tree in /proc, and thousands that stop together would each read all of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

use crate::engine::limit_mark::LimitMark;
use crate::sys::clock;
use crate::sys::environ::{Environ, Reader};
use crate::sys::procfs::{self, Program, Stat};

/// How often /proc is read in one look, until that shows nobody new: who was started meanwhile may have got a
/// number that was passed already, and who started it may be gone.
const PASSES_MAX: u32 = 4;
/// How long one look waits for those of whom it cannot be seen yet who they are, for all of them together,
/// ms: an exec takes some microseconds, if nothing else wants the processor.
const SETTLE_MS: u64 = 2000;

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
    /// What its limits say, where its environment says nothing.
    pub limit_mark: Option<LimitMark>,
    /// It was in the middle of an exec all the time: it may be of anybody.
    pub is_unsettled: bool,
}

/// Whose marks a look reads. Most processes are older than the run that somebody asks about, and a mark is
/// read in two more files of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Marks {
    /// Of those that started then or later, in clock ticks since boot.
    Since(u64),
    /// Of nobody.
    #[default]
    Unread,
}

/// All processes that could be seen.
#[derive(Debug, Default)]
pub struct Look {
    pub seen: Vec<Seen>,
    /// Why one could not be looked at, as an error number.
    pub failed: Option<i32>,
    /// Where in `seen` those begin who came to light in the last pass only: of a tree that has one of them
    /// there may be more.
    pub newest: usize,
    /// Somebody new who carries a mark, of whatever service, came to light until the end.
    pub is_cut: bool,
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
    /// What the next look is to know of, for all who wait for it.
    next: Marks,
    last: Option<Arc<Look>>,
}

impl Looks {
    /// A look that was begun after this was called, with these marks at least.
    pub fn look(&self, marks: Marks) -> Arc<Look> {
        let failed = |e: io::Error| Look { failed: e.raw_os_error(), ..Look::default() };
        self.share(marks, |marks| Look::take(marks).unwrap_or_else(failed))
    }

    fn share(&self, marks: Marks, take: impl FnOnce(Marks) -> Look) -> Arc<Look> {
        let mut inner = self.inner.lock();
        let wanted = inner.begun + 1;
        inner.waiting += 1;
        inner.next = inner.next.min(marks);
        // Of those who wait, one looks for all.
        while inner.is_looking && inner.over < wanted {
            self.over.wait(&mut inner);
        }
        let look = match &inner.last {
            Some(last) if inner.over >= wanted => Arc::clone(last),
            Some(_) | None => {
                inner.is_looking = true;
                inner.begun += 1;
                let (number, marks) = (inner.begun, std::mem::take(&mut inner.next));
                drop(inner);
                let look = Arc::new(take(marks));
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
    /// Looks at all processes, until there is nobody new.
    pub fn take(marks: Marks) -> io::Result<Self> {
        let until = clock::now_ms() + SETTLE_MS;
        let (mut look, mut reader, mut listed) = (Self::default(), Reader::default(), HashSet::new());
        let mut unsettled = Vec::new();
        for _ in 0..PASSES_MAX {
            let (before, open_before) = (look.seen.len(), unsettled.len());
            // A number that is passed a second time within one look is the same process's: numbers are given
            // out in turn.
            for pid in procfs::pids()?.filter(|&pid| listed.insert(pid)) {
                unsettled.extend(look.see(pid, marks, &mut reader));
            }
            look.newest = before;
            let is_of_us = |seen: &Seen| seen.id.is_some() || seen.limit_mark.is_some();
            look.is_cut = look.seen[before..].iter().any(is_of_us) || unsettled.len() > open_before;
            if look.seen.len() == before && !look.is_cut {
                break;
            }
        }
        while !unsettled.is_empty() && clock::now_ms() < until {
            thread::yield_now();
            unsettled = unsettled.into_iter().filter_map(|pid| look.see(pid, marks, &mut reader)).collect();
        }
        let stats = unsettled.into_iter().filter_map(|pid| procfs::stat(pid).filter(|s| !s.is_zombie()));
        look.seen.extend(stats.map(|stat| Seen { is_unsettled: true, ..Seen::unmarked(stat) }));
        Ok(look)
    }

    /// Looks at one, who is given back if it has to be looked at again.
    fn see(&mut self, pid: u32, marks: Marks, reader: &mut Reader) -> Option<u32> {
        match Seen::of(pid, marks, reader) {
            Ok(Some(seen)) if seen.is_unsettled => return Some(pid),
            Ok(seen) => self.seen.extend(seen),
            Err(e) => self.failed = e.raw_os_error(),
        }
        None
    }

    /// These, and whom they have started, and whom those have, as far as `may_be` says.
    pub fn family(
        &self,
        mut found: BTreeMap<u32, Stat>,
        may_be: impl Fn(u32) -> bool,
    ) -> BTreeMap<u32, Stat> {
        loop {
            let is_child = |stat: &Stat| {
                let parent = found.get(&stat.parent);
                parent.is_some_and(|parent| parent.start_ticks <= stat.start_ticks)
            };
            let more: Vec<Stat> = (self.seen.iter().map(|seen| seen.stat))
                .filter(|stat| !found.contains_key(&stat.pid) && may_be(stat.pid) && is_child(stat))
                .collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more.into_iter().map(|stat| (stat.pid, stat)));
        }
    }

    /// Whether one descends from another, as far as it was seen.
    pub fn descends(&self, stat: &Stat, ancestor: u32) -> bool {
        let parents: HashMap<u32, u32> =
            self.seen.iter().map(|seen| (seen.stat.pid, seen.stat.parent)).collect();
        // The parents of a look were not all there at one moment, so they may go in a circle.
        let mut line = std::iter::successors(Some(stat.parent), |pid| parents.get(pid).copied());
        line.by_ref().take(parents.len()).any(|pid| pid == ancestor)
    }
}

impl Seen {
    fn unmarked(stat: Stat) -> Self {
        Self { stat, id: None, service: None, limit_mark: None, is_unsettled: false }
    }

    fn of(pid: u32, marks: Marks, reader: &mut Reader) -> io::Result<Option<Self>> {
        let Some(stat) = procfs::look(pid)?.filter(|stat| !stat.is_zombie()) else { return Ok(None) };
        if stat.program == Program::Nothing || marks > Marks::Since(stat.start_ticks) {
            return Ok(Some(Self::unmarked(stat)));
        }
        let (env, is_unsettled) = match reader.look(pid)? {
            Environ::Is(env) => (env, false),
            Environ::Nothing | Environ::Hidden => (&[][..], false),
            Environ::Unsettled => (&[][..], true),
        };
        let value = |key: &str| {
            let is = |v: &[u8]| v.strip_prefix(key.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec);
            env.split(|&b| b == 0).find_map(is)
        };
        let (id, service) = (value(PROVOST_ID), value(PROVOST_SERVICE));
        let limit_mark = if id.is_none() { LimitMark::of(pid)? } else { None };
        // Limits are there also in the middle of an exec.
        let is_unsettled = is_unsettled && limit_mark.is_none();
        Ok(Some(Self { stat, id, service, limit_mark, is_unsettled }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn who_asks_during_a_look_shares_the_next_one() {
        let (looks, taken) = (Looks::default(), AtomicUsize::new(0));
        let begun = || looks.inner.lock().waiting;
        thread::scope(|scope| {
            scope.spawn(|| {
                looks.share(Marks::Since(900), |_| {
                    taken.fetch_add(1, Ordering::SeqCst);
                    // Ten more ask, while this one looks.
                    for since in 1000..1010 {
                        let (looks, taken) = (&looks, &taken);
                        scope.spawn(move || {
                            let number = taken.load(Ordering::SeqCst) as i32;
                            let look = looks.share(Marks::Since(since), |marks| {
                                assert_eq!(marks, Marks::Since(1000), "enough for all ten");
                                let failed = Some(1 + taken.fetch_add(1, Ordering::SeqCst) as i32);
                                Look { failed, ..Look::default() }
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
    fn a_family_has_its_grandchildren() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 71801 & echo $!; read _"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let grandchild: u32 = line.trim().parse().unwrap();
        let look = Looks::default().look(Marks::Unread);
        let family = |pid: u32| {
            let one = look.seen.iter().filter(|seen| seen.stat.pid == pid).map(|seen| (pid, seen.stat));
            look.family(one.collect(), |_| true).into_keys().collect::<Vec<_>>()
        };
        let found = (family(child.id()), family(grandchild), family(std::process::id()));
        let _ = Command::new("kill").arg(line.trim()).status();
        drop(child.stdin.take());
        let _ = child.wait();
        assert_eq!((found.0, found.1), (vec![child.id(), grandchild], vec![grandchild]));
        assert!(found.2.contains(&grandchild));
    }

    #[test]
    fn marks_are_read_of_who_is_not_older() {
        let mut command = Command::new("sleep");
        let mut child = command.arg("71802").env(PROVOST_ID, "it").spawn().unwrap();
        let own = procfs::stat(std::process::id()).unwrap();
        let is_marked = |marks: Marks| {
            let look = Looks::default().look(marks);
            assert!(look.seen.iter().any(|seen| seen.stat.pid == own.pid), "all are seen");
            let seen = look.seen.iter().find(|seen| seen.stat.pid == child.id());
            seen.expect("it sleeps").id.is_some()
        };
        let start = procfs::stat(child.id()).unwrap().start_ticks;
        let marked = [0, start, start + 1].map(|since| is_marked(Marks::Since(since)));
        let unread = is_marked(Marks::Unread);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((marked, unread), ([true, true, false], false));
    }
}

//! Everything a process started, as far as the kernel lets us know it: its cgroup where it has one; else its
//! process group, its session, whoever carries its PROVOST_ID, unless from another service, and whom these
//! have started, as long as they are there, and from a stop on also after that. Signals go
//! through pidfds that were checked after they were opened, so no number that somebody else got meanwhile is
//! ever hit.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use uuid::Uuid;

use crate::engine::limit_mark::LimitMark;
use crate::engine::look::{Look, Looks, Marks, Seen};
use crate::engine::process::state::Whom;
use crate::engine::reserve::Reserve;
use crate::sys::cgroup::{Cgroup, Watch};
use crate::sys::errno::EAGAIN;
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::{self, Stat};
use crate::sys::{clock, signal, system};
use crate::wire::id::ProcessId;
use crate::wire::leader::Leader;
use crate::wire::spec::Scope;

/// The most survivors that are waited for at a time where there is no cgroup; when they are gone, the rest is
/// looked for.
const WAITED_MAX: usize = 16;
/// The most processes of a tree of whom it is remembered that they were told to stop.
const NOTIFIED_MAX: usize = 1024;
/// How long a kill without a cgroup goes after what forks while it looks, ms.
const HUNT_MS: u64 = 1500;
/// When to look again after it could not be done for want of descriptors or memory, ms.
const LOOK_MS: u64 = 100;

/// The tree of one run.
#[derive(Clone, Debug)]
pub struct Tree {
    pub id: ProcessId,
    /// Whose it is: one that restored a copy of our database has processes of the same ids.
    pub service: Uuid,
    pub cgroup: Option<Cgroup>,
    pub leader: Leader,
    /// When the first process of the run started, in clock ticks since boot, where the leader is another.
    pub first_ticks: Option<u64>,
    /// Whether the process itself has ended and been reaped.
    pub leader_gone: bool,
    /// Who got the signal of the present stop: it is of the tree whatever becomes of its parents.
    pub notified: Vec<Leader>,
    /// Shared by all trees.
    pub looks: Arc<Looks>,
}

/// What tells when (some of) the rest is gone.
#[derive(Debug)]
pub enum Rest {
    Empty,
    /// The cgroup's own word.
    Cgroup(Watch),
    /// Some of the survivors.
    Members(Vec<PidFd>),
    /// There were no means to look; at this time (monotonic ms) there may be.
    Unknown {
        look_at: u64,
    },
}

impl Rest {
    /// What to poll: the cgroup's file for changes, or survivors for their end.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Empty | Self::Unknown { .. } => Vec::new(),
            Self::Cgroup(watch) => vec![watch.as_fd()],
            Self::Members(members) => members.iter().map(AsFd::as_fd).collect(),
        }
    }

    /// When to look again, though nothing tells.
    pub fn due(&self) -> Option<u64> {
        if let Self::Unknown { look_at } = self { Some(*look_at) } else { None }
    }

    /// Whether the descriptors are a cgroup's file.
    pub fn is_cgroup(&self) -> bool {
        matches!(self, Self::Cgroup(_))
    }
}

impl Tree {
    /// Sends the signal of a stop to the scope, and SIGCONT after it. Returns how many got it.
    pub fn tell(&mut self, signal: u32, scope: Scope, whom: Whom) -> io::Result<u32> {
        let resumes = signal != signal::KILL && signal != signal::CONT;
        let mut members = self.members(scope.signalled())?;
        match whom {
            Whom::All => self.notified.clear(),
            Whom::Untold => members.retain(|member| !self.notified.contains(&member.identity)),
        }
        // Beyond the limit, one may be told twice.
        let room = NOTIFIED_MAX.saturating_sub(self.notified.len());
        self.notified.extend(members.iter().map(|member| member.identity).take(room));
        each(&members, |member| {
            let reached = member.fd.signal(signal)?;
            if reached && resumes {
                member.fd.signal(signal::CONT)?;
            }
            Ok(reached)
        })
    }

    /// Sends a signal as a person asked for it, without SIGCONT.
    pub fn signal_alone(&self, signal: u32, scope: Scope) -> io::Result<u32> {
        each(&self.members(scope.signalled())?, |member| member.fd.signal(signal))
    }

    /// SIGKILL to the scope, also to what it forks while we look.
    pub fn kill(&self, scope: Scope) -> io::Result<()> {
        let scope = scope.killed();
        if let (Scope::Tree, Some(cgroup)) = (scope, &self.cgroup) {
            cgroup.kill()?;
            return headless(cgroup);
        }
        if scope == Scope::Leader {
            return self.leader_if_there().map_or(Ok(()), |leader| leader.signal(signal::KILL).map(drop));
        }
        self.hunt(scope)
    }

    /// Stops everyone before killing anyone: what is stopped forks no more and keeps its place in the process
    /// table, so a fork bomb has nowhere to go. Each round stops what the last one had not seen; when all
    /// stand still, they die.
    fn hunt(&self, scope: Scope) -> io::Result<()> {
        let until = clock::now_ms() + HUNT_MS;
        loop {
            let is_over = clock::now_ms() >= until;
            let members = match self.members(scope) {
                // Somebody may be there who cannot be recognised yet.
                Err(e) if e.raw_os_error() == Some(EAGAIN) && !is_over => continue,
                members => members?,
            };
            if members.is_empty() {
                return Ok(());
            }
            let moving = || members.iter().filter(|m| !m.is_stopped);
            let stopped = each(moving(), |member| member.fd.signal(signal::STOP));
            let killed = if moving().next().is_none() || is_over {
                each(&members, |member| member.fd.signal(signal::KILL))
            } else {
                Ok(0)
            };
            if is_over {
                return stopped.and(killed).map(drop);
            }
        }
    }

    /// What is left of the scope, beside a leader that the keeper has not reported yet.
    pub fn rest(&self, scope: Scope, reserve: &Reserve) -> Rest {
        let scope = scope.killed();
        let unknown = || Rest::Unknown { look_at: clock::now_ms() + LOOK_MS };
        match self.look_for_rest(scope) {
            Ok(rest) => rest,
            // Only to see whether nobody is there: what is kept for all is not for one to hold and wait with.
            Err(_) => match reserve.with(|| self.look_for_rest(scope)) {
                Ok(Rest::Empty) => Rest::Empty,
                // Who cannot look has not seen that nobody is there.
                Ok(_) | Err(_) => unknown(),
            },
        }
    }

    fn look_for_rest(&self, scope: Scope) -> io::Result<Rest> {
        if let (Scope::Tree, Some(cgroup)) = (scope, &self.cgroup) {
            return match cgroup.watch()? {
                Some(watch) if watch.is_populated()? => Ok(Rest::Cgroup(watch)),
                Some(_) | None => Ok(Rest::Empty),
            };
        }
        if scope == Scope::Leader {
            return Ok(Rest::Empty);
        }
        let members: Vec<_> = self.members(scope)?.into_iter().take(WAITED_MAX).map(|m| m.fd).collect();
        Ok(if members.is_empty() { Rest::Empty } else { Rest::Members(members) })
    }

    /// Those of what is left that may not be signalled: they run as another user.
    pub fn refused(&self, scope: Scope) -> Vec<u32> {
        let is_refused =
            |member: &Member| member.fd.signal(0).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
        let members = self.members(scope.killed()).unwrap_or_default();
        members.iter().filter(|member| is_refused(member)).map(|member| member.identity.pid).collect()
    }

    /// The process of this number, if it is alive and of the tree. An error: there were no means to look.
    pub fn find(&self, pid: u32) -> io::Result<Option<(Leader, PidFd)>> {
        let member = match &self.cgroup {
            Some(cgroup) => checked(pid, |_| cgroup.holds(pid))?,
            None => {
                let look = self.look();
                let all = self.of_scope(Scope::Tree, &look);
                match (all.iter().find(|stat| stat.pid == pid), self.unknown(&look, &all)) {
                    (Some(stat), _) => checked(pid, |s| Ok(s.start_ticks == stat.start_ticks))?,
                    (None, Some(e)) => return Err(e),
                    (None, None) => None,
                }
            }
        };
        Ok(member.map(|member| (member.identity, member.fd)))
    }

    /// Numbers of what is left, for people.
    pub fn pids(&self, scope: Scope) -> Vec<u32> {
        match (scope.killed(), &self.cgroup) {
            (Scope::Tree, Some(cgroup)) => cgroup.pids().unwrap_or_default(),
            (scope, _) => self.of_scope(scope, &self.look()).iter().map(|stat| stat.pid).collect(),
        }
    }

    /// Everyone of the scope who is alive, each certainly the one meant; of very many, as many as there are
    /// descriptors for. An error: nobody was found, but not everybody could be looked at.
    fn members(&self, scope: Scope) -> io::Result<Vec<Member>> {
        let found: Vec<_> = match (scope, &self.cgroup) {
            (Scope::Leader, _) => {
                let identity = self.leader;
                let leader = self.leader_if_there().map(|fd| Member { fd, identity, is_stopped: false });
                return Ok(leader.into_iter().collect());
            }
            (Scope::Tree, Some(cgroup)) => (cgroup.pids()?.into_iter())
                .filter_map(|pid| checked(pid, |_| cgroup.holds(pid)).transpose())
                .collect(),
            (Scope::Tree, None) | (Scope::Group | Scope::Mixed, _) => {
                let look = self.look();
                let found = self.of_scope(scope, &look);
                let same = |stat: &Stat| checked(stat.pid, |s| Ok(s.start_ticks == stat.start_ticks));
                let unknown = self.unknown(&look, &found).map(Err);
                found.iter().filter_map(|stat| same(stat).transpose()).chain(unknown).collect()
            }
        };
        let (mut members, mut error) = (Vec::new(), None);
        for one in found {
            match one {
                Ok(member) => members.push(member),
                Err(e) => error = Some(e),
            }
        }
        error.filter(|_| members.is_empty()).map_or(Ok(members), Err)
    }

    /// Nobody who is older than the run can be of it.
    fn look(&self) -> Arc<Look> {
        self.looks.look(Marks::Since(self.begin_ticks()))
    }

    fn begin_ticks(&self) -> u64 {
        self.first_ticks.unwrap_or(self.leader.start_ticks)
    }

    /// Why somebody of the tree may not have been seen or recognised in a look that found these. Whom other
    /// trees and services have started in the meantime is no reason.
    fn unknown(&self, look: &Look, found: &[Stat]) -> Option<io::Error> {
        let may_be_ours = |seen: &Seen| seen.is_unsettled && self.may_hold(&seen.stat, look);
        let is_cut = || look.seen[look.newest..].iter().any(|s| found.iter().any(|f| f.pid == s.stat.pid));
        let is_unknown = look.seen.iter().any(may_be_ours) || is_cut();
        look.failed.or(is_unknown.then_some(EAGAIN)).map(io::Error::from_raw_os_error)
    }

    /// Whether a process may be of the tree, whoever it turns out to be. The keeper becomes the parent of all
    /// orphans: so who does not descend from it can only be of a tree that is older.
    fn may_hold(&self, stat: &Stat, look: &Look) -> bool {
        let keeper = system::parent_pid();
        let first = self.begin_ticks();
        let mut keepers = look.seen.iter().filter(|seen| seen.stat.pid == keeper);
        let is_older = keepers.next().is_none_or(|keeper| first < keeper.stat.start_ticks);
        stat.start_ticks >= first && (is_older || look.descends(stat, keeper))
    }

    /// Those of the scope, among all that were seen.
    fn of_scope(&self, scope: Scope, look: &Look) -> Vec<Stat> {
        // A service that was started from within a tree that it is to end has its mark, and is not of it; nor
        // are its other children.
        let ours = [std::process::id(), system::parent_pid()];
        let is_ours = |pid: u32| ours.contains(&pid);
        let has_number = self.has_number(look);
        let others = || look.seen.iter().filter(|seen| !is_ours(seen.stat.pid));
        let is = |seen: &&Seen| self.is_of(scope, seen, has_number);
        let found: BTreeMap<u32, Stat> = others().filter(is).map(|s| (s.stat.pid, s.stat)).collect();
        let found = if scope == Scope::Tree { look.family(found, |pid| !is_ours(pid)) } else { found };
        found.into_values().collect()
    }

    fn is_of(&self, scope: Scope, seen: &Seen, has_number: bool) -> bool {
        let s = &seen.stat;
        if s.start_ticks < self.begin_ticks() {
            return false;
        }
        let leader = self.leader.pid;
        // Another one with the leader's number belongs to somebody else; and number 0 is the kernel's own.
        let may = leader != 0 && (s.pid != leader || s.start_ticks == self.leader.start_ticks);
        // Itself in any case: before it has a session of its own, it is still in the keeper's group.
        if may && s.pid == leader {
            return true;
        }
        match scope {
            Scope::Leader => false,
            Scope::Group => may && s.group == leader && has_number,
            Scope::Tree | Scope::Mixed if may && (s.group == leader || s.session == leader) && has_number => {
                true
            }
            Scope::Tree | Scope::Mixed => {
                self.is_marked(seen)
                    || self.notified.contains(&Leader { pid: s.pid, start_ticks: s.start_ticks })
            }
        }
    }

    /// Whether the leader's number is not another's by now. The kernel gives it out again when group and
    /// session of this number are empty, so a group that another one leads is not the leader's.
    fn has_number(&self, look: &Look) -> bool {
        let mut others = look.seen.iter().map(|seen| &seen.stat).filter(|s| s.pid == self.leader.pid);
        others.all(|s| s.start_ticks == self.leader.start_ticks)
    }

    fn is_marked(&self, seen: &Seen) -> bool {
        let is = |value: &[u8], wanted: &dyn ToString| value == wanted.to_string().as_bytes();
        let by_limit = || seen.limit_mark == Some(LimitMark::new(self.service, self.id));
        seen.id.as_ref().map_or_else(by_limit, |id| is(id, &self.id))
            && seen.service.as_ref().is_none_or(|service| is(service, &self.service))
    }

    fn leader_if_there(&self) -> Option<PidFd> {
        if self.leader_gone { None } else { self.leader.open() }
    }
}

/// Does it to each, also after one who may not be signalled (it has changed its user). The error is the first
/// one's.
fn each<'m>(
    members: impl IntoIterator<Item = &'m Member>,
    act: impl Fn(&Member) -> io::Result<bool>,
) -> io::Result<u32> {
    let (mut reached, mut error) = (0, None);
    for member in members {
        match act(member) {
            Ok(is_reached) => reached += u32::from(is_reached),
            Err(e) => error = error.or(Some(e)),
        }
    }
    error.map_or(Ok(reached), Err)
}

/// Somebody of the tree.
#[derive(Debug)]
struct Member {
    fd: PidFd,
    identity: Leader,
    is_stopped: bool,
}

/// cgroup.kill signals first threads, and so passes over a process that lives on without its own.
fn headless(cgroup: &Cgroup) -> io::Result<()> {
    let is_headless = |pid: &u32| procfs::stat(*pid).is_some_and(|s| s.state == 'Z' && !s.is_zombie());
    for pid in cgroup.pids()?.into_iter().filter(is_headless) {
        if let Some(member) = checked(pid, |_| cgroup.holds(pid))? {
            member.fd.signal(signal::KILL)?;
        }
    }
    Ok(())
}

/// Opens a process and looks again: what was true before may have been of another one.
fn checked(pid: u32, ours: impl Fn(&Stat) -> io::Result<bool>) -> io::Result<Option<Member>> {
    let Some(fd) = PidFd::open(pid).map(Some).or_else(procfs::is_gone)? else { return Ok(None) };
    let Some(stat) = procfs::look(pid)? else { return Ok(None) };
    // Of one that lives on without its first thread it cannot be seen whether the others stand still.
    let is_stopped = matches!(stat.state, 'T' | 't' | 'Z');
    let identity = Leader { pid, start_ticks: stat.start_ticks };
    Ok((!stat.is_zombie() && ours(&stat)?).then_some(Member { fd, identity, is_stopped }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::engine::look::PROVOST_ID;

    fn tree(leader: Leader) -> Tree {
        Tree {
            id: ProcessId::new(),
            service: Uuid::nil(),
            cgroup: None,
            leader,
            first_ticks: None,
            leader_gone: false,
            notified: Vec::new(),
            looks: Arc::default(),
        }
    }

    fn identity(pid: u32) -> Leader {
        Leader { pid, start_ticks: procfs::stat(pid).unwrap().start_ticks }
    }

    /// Ends a child, and what is in its group, whatever becomes of the test.
    struct Ends(Child);

    impl Drop for Ends {
        fn drop(&mut self) {
            let _ = tree(identity(self.0.id())).kill(Scope::Group);
            let _ = self.0.wait();
        }
    }

    /// As a newborn is before its setsid.
    #[test]
    fn a_leader_in_its_parents_group_is_reached() {
        let child = Ends(Command::new("sleep").arg("71701").stdout(Stdio::null()).spawn().unwrap());
        let tree = tree(identity(child.0.id()));
        for scope in [Scope::Tree, Scope::Group, Scope::Leader] {
            assert_eq!(tree.signal_alone(signal::CONT, scope).unwrap(), 1, "{scope:?}");
        }
    }

    #[test]
    fn each_is_told_once_in_one_stop() {
        let child = Ends(Command::new("sleep").arg("71703").stdout(Stdio::null()).spawn().unwrap());
        let mut tree = tree(identity(child.0.id()));
        let mut tell = |whom| tree.tell(signal::CONT, Scope::Tree, whom).unwrap();
        assert_eq!((tell(Whom::All), tell(Whom::Untold)), (1, 0));
        assert_eq!((tell(Whom::All), tell(Whom::Untold)), (1, 0), "the next stop");
    }

    #[test]
    fn what_others_start_meanwhile_leaves_no_doubt() {
        let mut child = Command::new("true").spawn().unwrap();
        let tree = tree(identity(child.id()));
        child.wait().unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let mut other = Command::new("true");
                        other.env(PROVOST_ID, ProcessId::new().to_string()).status().unwrap();
                    }
                });
            }
            let looks: Vec<_> = (0..20).map(|_| tree.members(Scope::Tree).map(|found| found.len())).collect();
            is_over.store(true, Ordering::Relaxed);
            assert!(looks.iter().all(|look| matches!(look, Ok(0))), "{looks:?}");
        });
    }

    #[test]
    fn the_group_of_another_with_the_leaders_number_is_spared() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 71702 & echo up; wait"]).process_group(0).stdout(Stdio::piped());
        let mut child = Ends(command.spawn().unwrap());
        io::Read::read_exact(child.0.stdout.as_mut().unwrap(), &mut [0; 3]).unwrap();
        let own = identity(child.0.id());
        assert_eq!(tree(own).signal_alone(signal::CONT, Scope::Group).unwrap(), 2);
        // The leader that had this number before has ended, and is not listed any more.
        let before = Leader { start_ticks: own.start_ticks - 1, ..own };
        for scope in [Scope::Tree, Scope::Group] {
            assert_eq!(tree(before).signal_alone(signal::CONT, scope).unwrap(), 0, "{scope:?}");
        }
    }
}

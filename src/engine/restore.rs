//! A service that begins again: what the store keeps becomes processes again. Runs once for each keeper,
//! before clients are let in; the first engine does it, or the next one if that dies meanwhile.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use crate::engine::context::Context;
use crate::engine::look::{PROVOST_ID, PROVOST_SERVICE};
use crate::engine::memory::Memory;
use crate::engine::process::handle::{Inherited, Process};
use crate::engine::process::now::Now;
use crate::engine::process::tree::{Rest, Tree};
use crate::engine::process::worker;
use crate::engine::reconcile::{RestoreOutcome, Restored, Survivors, restore};
use crate::engine::settings::OrphanPolicy;
use crate::engine::store::{Kept, Loaded, Opened};
use crate::engine::table::Table;
use crate::sys::poll::{self, PollFd};
use crate::sys::{clock, procfs};
use crate::wire::error::{Code, Error};
use crate::wire::health::{Reconciled, RestoredProcess};
use crate::wire::id::ProcessId;
use crate::wire::keeper::CGROUP_PREFIX;
use crate::wire::keeper::ToKeeper;
use crate::wire::leader::Leader;
use crate::wire::spec::Scope;
use crate::wire::time::Timestamp;

/// How long an unknown process may take to be gone once it is killed, ms.
const GONE_MS: u64 = 2000;

/// Makes processes of what is kept and not here yet. Returns those that something is to be done for.
pub fn restore_all(
    context: &Arc<Context>,
    table: &Table,
    opened: &Opened,
    policy: OrphanPolicy,
    report: &mut Reconciled,
) -> Result<Vec<(Arc<Process>, Inherited)>, Error> {
    let loaded = &opened.loaded;
    context.feed.begin(loaded.service, loaded.last_seq.max(opened.given), &loaded.env);
    context.feed.has_audit(loaded.last_audit);
    let boot_id = procfs::boot_id();
    let mut survivors = left_behind(context, loaded, &boot_id)?;
    let now = Now { mono_ms: clock::now_ms(), wall: Timestamp::now(), jitter: 0 };
    let mut to_resume = Vec::new();
    for kept in &loaded.kept {
        let id = kept.record.id;
        if table.get(id).is_some() {
            continue;
        }
        let survivors = survivors.remove(&id).unwrap_or_default();
        let restored = restore(kept, &survivors, policy, now);
        let name = kept.record.name.as_ref().map(ToString::to_string).unwrap_or_default();
        report.processes.push(reported(id, name, &restored.outcomes));
        let Survivors { cgroup, leader, .. } = survivors;
        let leader = leader.unwrap_or_default();
        let inherited = Inherited {
            run: kept.record.run,
            pid: 0,
            leader,
            pipes: None,
            ended: None,
            cgroup,
            notify: None,
        };
        let is_at_rest = restored.record.state.is_at_rest();
        let process = hold(context, table, kept, restored)?;
        if !is_at_rest {
            to_resume.push((process, inherited));
        }
    }
    for (id, survivors) in survivors.into_iter().filter(|(id, _)| table.get(*id).is_none()) {
        let outcome = end_unknown(context, id, survivors, policy);
        report.processes.push(reported(id, String::new(), &[outcome]));
    }
    context.feed.set_restored();
    Ok(to_resume)
}

fn reported(id: ProcessId, name: String, outcomes: &[RestoreOutcome]) -> RestoredProcess {
    RestoredProcess { id, name, what: outcomes.iter().map(|outcome| outcome.name().to_owned()).collect() }
}

/// Has the keeper hold its memory, and makes it known.
fn hold(
    context: &Arc<Context>,
    table: &Table,
    kept: &Kept,
    restored: Restored,
) -> Result<Arc<Process>, Error> {
    let Restored { mut past, events, record, .. } = restored;
    let memory = Memory::create(&kept.spec)?;
    context.feed.commit(&memory, &mut past, &events, Timestamp::now());
    memory.publish(&record);
    context
        .link
        .send(&ToKeeper::Hold { id: record.id }, &[memory.as_fd()])
        .map_err(|e| Error::new(Code::Unreachable, format!("the keeper does not answer: {e}")))?;
    let process = Arc::new(Process::new(kept.spec.clone(), memory, record, Arc::clone(context), worker::run));
    table.insert(std::slice::from_ref(&process))?;
    Ok(process)
}

/// Ends what an earlier service had started and not lived to record. Its client was not told that it runs,
/// and asks again with the same id: it must be gone by then. There is nothing to adopt it by.
fn end_unknown(
    context: &Context,
    id: ProcessId,
    survivors: Survivors,
    policy: OrphanPolicy,
) -> RestoreOutcome {
    let pids = survivors.listed();
    if policy == OrphanPolicy::Leave {
        context.say(&format!("pid {pids} of {id}, which an earlier service did not record: left alone"));
        return RestoreOutcome::Left;
    }
    context.say(&format!("pid {pids} of {id}, which an earlier service did not record: ended"));
    let service = context.feed.service();
    let tree = |cgroup| Tree {
        id,
        service,
        cgroup,
        leader: Leader::default(),
        first_ticks: None,
        leader_gone: true,
        notified: Vec::new(),
        looks: Arc::clone(&context.looks),
    };
    let until = clock::now_ms() + GONE_MS;
    for tree in [Some(tree(None)), survivors.cgroup.map(|cgroup| tree(Some(cgroup)))].into_iter().flatten() {
        // What cannot be killed is not waited for longer than this.
        let _ = context.reserve.with(|| tree.kill(Scope::Tree));
        loop {
            let rest = tree.rest(Scope::Tree, &context.reserve);
            if matches!(rest, Rest::Empty) || clock::now_ms() >= until {
                break;
            }
            let kind = if rest.is_cgroup() { PollFd::changed } else { PollFd::readable };
            let mut fds: Vec<_> = rest.fds().into_iter().map(kind).collect();
            let _ = poll::wait(&mut fds, Some(rest.due().map_or(until, |due| due.min(until))));
        }
    }
    RestoreOutcome::Ended
}

/// What is still there of an earlier service: every process that carries its mark, and every one that is, by
/// number, start time and boot, the one that was recorded. The number alone proves nothing.
fn left_behind(
    context: &Context,
    loaded: &Loaded,
    boot_id: &str,
) -> Result<HashMap<ProcessId, Survivors>, Error> {
    let cannot = |e| Error::failed("look for what an earlier service left", &e);
    let leaders: HashMap<u32, (ProcessId, Leader)> = (loaded.kept.iter())
        .filter(|k| !boot_id.is_empty() && k.boot_id == boot_id)
        .filter_map(|k| k.leader.map(|leader| (leader.pid, (k.record.id, leader))))
        .collect();
    let mark = format!("{PROVOST_SERVICE}={}", loaded.service);
    let mut found: HashMap<ProcessId, Survivors> = HashMap::new();
    let mut unmarked = Vec::new();
    // The process that started this service may be one of them, and has handed its mark down.
    let ours = ancestors();
    for pid in procfs::pids().map_err(cannot)?.filter(|pid| !ours.contains(pid)) {
        let Some(stat) = procfs::look(pid).map_err(cannot)?.filter(|s| !s.is_zombie()) else { continue };
        let is_leader = leaders.get(&pid).filter(|(_, leader)| leader.start_ticks == stat.start_ticks);
        let env = procfs::variables(pid).map_err(cannot)?;
        let Some(id) = marked(&env, &mark).or(is_leader.map(|(id, _)| *id)) else {
            unmarked.push(stat);
            continue;
        };
        let survivors = found.entry(id).or_default();
        survivors.pids.push(pid);
        survivors.has_leader |= is_leader.is_some();
        // A number that names a group or session with one of ours in it was never another's.
        let of_group = [stat.group, stat.session].into_iter().find_map(|pid| leaders.get(&pid));
        let leader = is_leader.or(of_group).filter(|(of, _)| *of == id);
        survivors.leader = survivors.leader.or(leader.map(|(_, leader)| *leader));
    }
    // And who has taken off the mark, but not left the group and the session.
    for stat in unmarked {
        let of_group = [stat.group, stat.session].into_iter().find_map(|pid| leaders.get(&pid));
        let Some((id, leader)) = of_group.filter(|(_, leader)| stat.start_ticks >= leader.start_ticks) else {
            continue;
        };
        if let Some(survivors) = found.get_mut(id).filter(|survivors| survivors.leader == Some(*leader)) {
            survivors.pids.push(stat.pid);
        }
    }
    // Also those that have taken the mark off. An id belongs to one process only.
    let is_kept = |id: &ProcessId| loaded.kept.iter().any(|k| k.record.id == *id);
    for (name, cgroup) in context.cgroups.iter().flat_map(|root| root.left(CGROUP_PREFIX)) {
        let Some(id) = ProcessId::from_str(&name).ok().filter(|id| found.contains_key(id) || is_kept(id))
        else {
            continue;
        };
        let survivors = found.entry(id).or_default();
        survivors.pids.extend(cgroup.pids().map_err(cannot)?);
        survivors.pids.sort_unstable();
        survivors.pids.dedup();
        survivors.cgroup = Some(cgroup);
    }
    Ok(found)
}

/// This process, its parent, and so on.
fn ancestors() -> Vec<u32> {
    let parent = |pid: &u32| procfs::stat(*pid).map(|s| s.parent).filter(|&parent| parent != 0);
    std::iter::successors(Some(std::process::id()), parent).collect()
}

/// The process that an environment belongs to, if it is one of this service.
fn marked(env: &[u8], mark: &str) -> Option<ProcessId> {
    let mut variables = env.split(|&b| b == 0);
    if !variables.any(|v| v == mark.as_bytes()) {
        return None;
    }
    let id =
        env.split(|&b| b == 0).find_map(|v| v.strip_prefix(PROVOST_ID.as_bytes())?.strip_prefix(b"="))?;
    ProcessId::from_str(std::str::from_utf8(id).ok()?).ok()
}

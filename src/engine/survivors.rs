//! What an earlier service left: everybody is looked at, once, and it is said of which process they are. Ends
//! nobody and decides nothing.

use std::collections::HashMap;
use std::io;
use std::str::FromStr;

use crate::engine::context::Context;
use crate::engine::limit_mark::LimitMark;
use crate::engine::look::{Look, Marks, Seen};
use crate::engine::reconcile::Survivors;
use crate::engine::store::Loaded;
use crate::sys::clock;
use crate::sys::procfs::{self, Stat};
use crate::wire::error::Error;
use crate::wire::id::ProcessId;
use crate::wire::keeper::CGROUP_PREFIX;
use crate::wire::leader::Leader;
use crate::wire::spawn_record::SpawnRecord;

/// How long to look for survivors of whom it cannot be seen who they are, ms.
const LOOK_MS: u64 = 5000;

/// What is still there of an earlier service: who carries its mark, who is by number, start time and boot the
/// one that was recorded or spawned, who has not left the group or the session of such a one, and whom all
/// these have started. The number alone proves nothing.
pub fn left_behind(
    context: &Context,
    loaded: &Loaded,
    boot_id: &str,
    spawns: &[SpawnRecord],
) -> Result<HashMap<ProcessId, Survivors>, Error> {
    let cannot = |e| Error::failed("look for what an earlier service left", &e);
    let look = whole_look().map_err(cannot)?;
    let seen: HashMap<u32, &Stat> = look.seen.iter().map(|seen| (seen.stat.pid, &seen.stat)).collect();
    let mut leaders: HashMap<u32, (ProcessId, Leader)> = (loaded.kept.iter())
        .filter(|k| !boot_id.is_empty() && k.boot_id == boot_id)
        .filter_map(|k| k.leader.map(|leader| (leader.pid, (k.record.id, leader))))
        .collect();
    // The later ones last: a number may have been used twice.
    for spawn in spawns {
        let start_ticks = match seen.get(&spawn.pid) {
            Some(stat) if spawn.is(stat.start_ticks) => stat.start_ticks,
            Some(_) => continue,
            // Its number still names its group.
            None => spawn.first_ticks(),
        };
        let of = (spawn.id, Leader { pid: spawn.pid, start_ticks });
        // What is recorded is exact.
        let is_recorded =
            |(id, leader): &(ProcessId, Leader)| *id == spawn.id && spawn.is(leader.start_ticks);
        if !leaders.get(&spawn.pid).is_some_and(is_recorded) {
            leaders.insert(spawn.pid, of);
        }
    }
    let service = loaded.service.to_string();
    let ids = loaded.kept.iter().map(|k| k.record.id).chain(spawns.iter().map(|spawn| spawn.id));
    let by_limit: HashMap<LimitMark, ProcessId> =
        ids.map(|id| (LimitMark::new(loaded.service, id), id)).collect();
    let mut found: HashMap<ProcessId, Survivors> = HashMap::new();
    let mut of_whom: HashMap<u32, ProcessId> = HashMap::new();
    let mut others = Vec::new();
    // The process that started this service may be one of them, and has handed its mark down.
    let ours = ancestors();
    for one in look.seen.iter().filter(|one| !ours.contains(&one.stat.pid)) {
        let stat = &one.stat;
        let is_leader = leaders.get(&stat.pid).filter(|(_, leader)| leader.start_ticks == stat.start_ticks);
        let is_limited = || one.limit_mark.and_then(|mark| by_limit.get(&mark)).copied();
        let Some(id) = marked(one, &service).or_else(is_limited).or(is_leader.map(|(id, _)| *id)) else {
            others.push(one);
            continue;
        };
        of_whom.insert(stat.pid, id);
        let survivors = found.entry(id).or_default();
        survivors.pids.push(stat.pid);
        survivors.has_leader |= is_leader.is_some();
        // A number that names a group or session with one of ours in it was never another's.
        let of_group = [stat.group, stat.session].into_iter().find_map(|pid| leaders.get(&pid));
        let leader = is_leader.or(of_group).filter(|(of, _)| *of == id);
        survivors.leader = is_leader.map(|(_, leader)| *leader).or(survivors.leader);
        survivors.leader = survivors.leader.or(leader.map(|(_, leader)| *leader));
    }
    // And who has taken off the mark, but not left the group and the session, or has been started by one of
    // these.
    loop {
        let before = others.len();
        others.retain(|one| {
            let stat = &one.stat;
            let of_group = [stat.group, stat.session].into_iter().find_map(|pid| leaders.get(&pid));
            let of_group = of_group.filter(|(id, leader)| {
                stat.start_ticks >= leader.start_ticks
                    && found.get(id).is_some_and(|survivors| survivors.leader == Some(*leader))
            });
            let is_older = |parent: &Stat| parent.start_ticks <= stat.start_ticks;
            let of_parent =
                of_whom.get(&stat.parent).filter(|_| seen.get(&stat.parent).is_some_and(|p| is_older(p)));
            let Some(id) = of_group.map(|(id, _)| *id).or(of_parent.copied()) else { return true };
            found.entry(id).or_default().pids.push(stat.pid);
            of_whom.insert(stat.pid, id);
            false
        });
        if others.len() == before {
            break;
        }
    }
    let unknown: Vec<String> =
        others.iter().filter(|one| one.is_unsettled).map(|one| one.stat.pid.to_string()).collect();
    if !unknown.is_empty() {
        let pids = unknown.join(", ");
        context.say(&format!(
            "pid {pids} may be of an earlier service: it is in the middle of an exec all the time"
        ));
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

/// A look at everybody: again as long as somebody new of ours comes to light, or cannot be recognised.
fn whole_look() -> io::Result<Look> {
    let until = clock::now_ms() + LOOK_MS;
    loop {
        let look = Look::take(Marks::Since(0))?;
        if let Some(errno) = look.failed {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let is_whole = !look.is_cut && !look.seen.iter().any(|seen| seen.is_unsettled);
        if is_whole || clock::now_ms() >= until {
            return Ok(look);
        }
    }
}

/// The spawns that concern this database, the first one first.
pub fn spawns_of(context: &Context, loaded: &Loaded) -> Vec<SpawnRecord> {
    let is_kept = |id: &ProcessId| loaded.kept.iter().any(|k| k.record.id == *id);
    let is_ours = |b: &SpawnRecord| b.service == loaded.service || (b.service.is_nil() && is_kept(&b.id));
    context.spawns.all().into_iter().filter(is_ours).collect()
}

/// This process, its parent, and so on.
fn ancestors() -> Vec<u32> {
    let parent = |pid: &u32| procfs::stat(*pid).map(|s| s.parent).filter(|&parent| parent != 0);
    std::iter::successors(Some(std::process::id()), parent).collect()
}

/// The process that somebody's environment says he is of, if it is one of this service.
fn marked(seen: &Seen, service: &str) -> Option<ProcessId> {
    seen.service.as_ref().filter(|of| *of == service.as_bytes())?;
    ProcessId::from_str(std::str::from_utf8(seen.id.as_ref()?).ok()?).ok()
}

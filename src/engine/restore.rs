//! A service that begins again: what the store keeps becomes processes again. Runs once for each keeper,
//! before clients are let in; the first engine does it, or the next one if that dies meanwhile.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::context::Context;
use crate::engine::memory::Memory;
use crate::engine::process::handle::{Inherited, Process};
use crate::engine::process::now::Now;
use crate::engine::process::tree::{Rest, Tree};
use crate::engine::process::worker;
use crate::engine::reconcile::{RestoreOutcome, Restored, Survivors, restore};
use crate::engine::settings::OrphanPolicy;
use crate::engine::store::{Kept, Opened};
use crate::engine::survivors::{left_behind, spawns_of};
use crate::engine::table::Table;
use crate::sys::poll::{self, PollFd};
use crate::sys::{clock, procfs};
use crate::wire::error::{Code, Error};
use crate::wire::field::Effect;
use crate::wire::fields;
use crate::wire::health::{Reconciled, RestoredProcess};
use crate::wire::id::{Name, ProcessId};
use crate::wire::keeper::ToKeeper;
use crate::wire::spec::{Scope, Spec};
use crate::wire::time::Timestamp;

/// How long an unknown process may take to be gone once it is killed, ms.
const GONE_MS: u64 = 2000;

/// Makes processes of what is kept and not here yet; `declared`: what will be applied then. Returns those
/// that something is to be done for.
pub fn restore_all(
    context: &Arc<Context>,
    table: &Table,
    opened: &Opened,
    (policy, declared): (OrphanPolicy, Option<&[Spec]>),
    report: &mut Reconciled,
) -> Result<Vec<(Arc<Process>, Inherited)>, Error> {
    let loaded = &opened.loaded;
    context.feed.begin(loaded.service, loaded.last_seq.max(opened.given), &loaded.env);
    context.feed.has_audit(loaded.last_audit);
    let boot_id = procfs::boot_id();
    let spawns = spawns_of(context, loaded);
    let mut survivors = left_behind(context, loaded, &boot_id, &spawns)?;
    let runs: HashMap<ProcessId, u64> = spawns.iter().map(|b| (b.id, u64::from(b.run))).collect();
    let now = Now { mono_ms: clock::now_ms(), wall: Timestamp::now(), jitter: 0 };
    let declared: Option<HashMap<&Name, &Spec>> =
        declared.map(|all| all.iter().filter_map(|spec| Some((spec.name.as_ref()?, spec))).collect());
    let mut to_resume = Vec::new();
    for kept in &loaded.kept {
        let id = kept.record.id;
        if table.get(id).is_some() {
            continue;
        }
        let mut survivors = survivors.remove(&id).unwrap_or_default();
        survivors.run = runs.get(&id).copied().unwrap_or(0);
        let declared = declared.as_ref().filter(|_| survivors.pids.is_empty() && kept.spec.declared);
        let kept = &*declared.map_or(Cow::Borrowed(kept), |all| {
            as_declared(kept, kept.spec.name.as_ref().and_then(|name| all.get(name).copied()))
        });
        let restored = restore(kept, &survivors, policy, now);
        let name = kept.record.name.as_ref().map(ToString::to_string).unwrap_or_default();
        report.processes.push(reported(id, name, &restored.outcomes));
        let Survivors { cgroup, leader, .. } = survivors;
        let leader = leader.unwrap_or_default();
        let inherited = Inherited {
            run: restored.record.run,
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

/// What a configuration declares otherwise by now does not run as it was until that is applied: it is brought
/// back as it is to be, or, where that takes a new process or none, not started. `spec`: as it is declared by
/// now; none: it is not any more.
fn as_declared<'a>(kept: &'a Kept, spec: Option<&Spec>) -> Cow<'a, Kept> {
    let changed = spec.map(|spec| fields::changed(&kept.spec, spec)).unwrap_or_default();
    match spec {
        Some(_) if changed.is_empty() => Cow::Borrowed(kept),
        // When that runs is looked at with what it has run.
        Some(spec) if spec.schedule != kept.spec.schedule => Cow::Borrowed(kept),
        Some(spec) if changed.iter().all(|field| field.effect != Effect::Never) => {
            Cow::Owned(Kept { spec: spec.clone(), ..kept.clone() })
        }
        Some(_) | None => Cow::Owned(Kept { wanted: false, ..kept.clone() }),
    }
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
        leader: survivors.leader.unwrap_or_default(),
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

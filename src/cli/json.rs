//! Facts as JSON: one object per line. The names and their order are a promise to scripts; `docs/cli.md`
//! lists them. What sinks write too is in `wire/json.rs`.

use serde_json::{Map, Value, json};

use crate::cli::text;
use crate::sys::signal;
use crate::wire::error::{Detail, Error};
pub use crate::wire::json::{base64, event, exit, time};
use crate::wire::process::{Process, StartFailure, Usage};
use crate::wire::reply::{Chunk, Gap, Item, Service, Upgraded};
use crate::wire::time::Timestamp;

pub fn process(p: &Process) -> Value {
    let maybe_time = |at: Option<Timestamp>| at.map(time);
    let mut out = json!({
        "id": p.id.to_string(),
        "name": p.name.as_ref().map(|n| n.as_str()),
        "instance": p.instance,
        "run": p.run,
        "state": p.state.name(),
        "ready": p.ready,
        "pid": p.pid,
        "restarts": p.restarts,
        "created_at": time(p.created_at),
        "started_at": maybe_time(p.started_at),
        "stopped_at": maybe_time(p.stopped_at),
        "exit": p.exit.as_ref().map(exit),
        "start_failure": p.start_failure.as_ref().map(start_failure),
        "command": p.command,
        "attempts": p.attempts,
        "window_restarts": p.window_restarts,
        "max_restarts": p.max_restarts,
        "next_attempt_at": maybe_time(p.next_attempt_at),
        "kill_at": maybe_time(p.kill_at),
        "stop_signal": (p.stop_signal != 0).then(|| signal::name(p.stop_signal)),
        "stop_asked_at": maybe_time(p.stop_asked_at),
        "run_output_start": p.run_output_start,
        "cause": p.cause,
        "restart": p.restart.name(),
        "output_start": p.output_start,
        "output_end": p.output_end,
        "stuck": p.stuck,
        "labels": pairs(&p.labels),
        "cwd": p.cwd,
        "user": p.user,
        "own": p.internal,
        "outdated": p.outdated,
        "halted": p.halted,
        "usage": p.usage.map(usage),
        "waits_for": (!p.waits_for.is_empty()).then_some(&p.waits_for),
        "blocked": p.is_blocked,
        "unfit": (!p.unfit.is_empty()).then_some(&p.unfit),
        "status": (!p.status.is_empty()).then_some(&p.status),
        "log_trouble": (!p.log_trouble.is_empty()).then_some(&p.log_trouble),
        "log_lost": p.log_lost,
        "log_files": p.log_files,
    });
    // The macro above takes no more.
    out["hook"] = json!((!p.hook.is_empty()).then_some(&p.hook));
    out["limits"] =
        p.limits.values().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>().into();
    out["limits_trouble"] = json!((!p.limits_trouble.is_empty()).then_some(&p.limits_trouble));
    out["next_run_at"] = json!(maybe_time(p.next_run_at));
    out["schedule"] = json!(p.schedule.when);
    out["schedule_zone"] = json!(p.schedule.zone.as_ref().filter(|_| p.schedule.is_on()));
    out
}

fn start_failure(f: &StartFailure) -> Value {
    json!({ "step": f.step, "errno": f.errno, "object": f.object, "message": text::errno(f.errno) })
}

/// Pairs as an object; of equal keys the last one stays.
pub fn pairs(pairs: &[(String, String)]) -> Value {
    pairs.iter().map(|(k, v)| (k.clone(), Value::from(v.clone()))).collect::<Map<_, _>>().into()
}

/// What a command says of one target: the process, or what went wrong with it.
pub fn item(item: &Item) -> Value {
    match (&item.error, &item.process) {
        (None, Some(p)) => {
            let mut object = process(p);
            if let (Some(why), Value::Object(fields)) = (&item.unrecorded, &mut object) {
                fields.insert("unrecorded".to_owned(), why.as_str().into());
            }
            object
        }
        (e, p) => json!({
            "target": item.target,
            "error": e.as_ref().map(error),
            "process": p.as_ref().map(process),
        }),
    }
}

pub fn error(e: &Error) -> Value {
    let mut out = json!({ "code": e.code.name(), "message": e.message, "hint": e.hint });
    if !e.reason.is_empty() {
        out["reason"] = e.reason.as_str().into();
    }
    if !e.wrong().is_empty() {
        let detail = |d: &Detail| json!({ "path": d.path, "message": d.message });
        out["details"] = e.wrong().iter().map(detail).collect();
    }
    if e.retry_after_ms > 0 {
        out["retry_after_ms"] = e.retry_after_ms.into();
    }
    out
}

/// Output bytes: as text where they are text, else in base 64.
pub fn chunk(c: &Chunk) -> Value {
    let mut out = json!({
        "id": c.id.to_string(),
        "offset": c.offset,
        "stream": if c.stderr { "stderr" } else { "stdout" },
        "at": time(c.at),
    });
    let (key, value) = match std::str::from_utf8(&c.data) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("base64", base64(&c.data)),
    };
    out[key] = value.into();
    out
}

/// A run begins at this offset of a process's output.
pub fn run_begins(p: &Process) -> Value {
    json!({
        "id": p.id.to_string(),
        "offset": p.run_output_start,
        "run": p.run,
        "pid": p.pid,
    })
}

/// What a process takes of the machine; sizes in bytes.
fn usage(u: Usage) -> Value {
    json!({
        "cpu_ms": u.cpu_ms, "memory": u.memory, "processes": u.processes, "threads": u.threads,
        "descriptors": u.descriptors, "read": u.read, "written": u.written,
    })
}

/// Output bytes that were missed.
pub fn gap(g: &Gap) -> Value {
    json!({ "id": g.id.to_string(), "offset": g.offset, "missed": g.missed })
}

pub fn service(s: &Service) -> Value {
    json!({
        "version": s.version,
        "keeper_pid": s.keeper_pid,
        "engine_pid": s.engine_pid,
        "started_at": time(s.started_at),
        "engine_starts": s.engine_starts,
        "processes": s.processes,
        "running": s.running,
        "cgroups": s.cgroups,
        "keeper_version": s.keeper_version,
    })
}

/// What an upgrade came to.
pub fn upgraded(u: &Upgraded) -> Value {
    json!({ "before": u.before, "after": u.after, "path": u.path })
}

//! Facts as JSON: one object per line. The names and their order are a promise to scripts; `docs/cli.md` lists them.

use jiff::Timestamp as Moment;
use serde_json::{Map, Value, json};

use crate::cli::text;
use crate::sys::signal;
use crate::wire::error::Error;
use crate::wire::event::Event;
use crate::wire::process::{End, Exit, Process, StartFailure};
use crate::wire::reply::{Chunk, Gap, Item, Service, Upgraded};
use crate::wire::time::{Timestamp, millis};

/// RFC 3339 with milliseconds, UTC.
pub fn time(at: Timestamp) -> String {
    let moment = i64::try_from(at.0).ok().and_then(|ms| Moment::from_millisecond(ms).ok());
    format!("{:.3}", moment.unwrap_or(Moment::UNIX_EPOCH))
}

/// A process.
pub fn process(p: &Process) -> Value {
    let maybe_time = |at: Option<Timestamp>| at.map(time);
    json!({
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
        "cause": p.cause,
        "restart": p.restart.name(),
        "output_start": p.output_start,
        "output_end": p.output_end,
        "stuck": p.stuck,
        "labels": pairs(&p.labels),
        "cwd": p.cwd,
        "user": p.user,
    })
}

/// How a run ended.
pub fn exit(e: &Exit) -> Value {
    let mut out = Map::new();
    match e.end {
        End::Code(code) => {
            out.insert("code".into(), code.into());
        }
        End::Signal(number) => {
            out.insert("signal".into(), signal::name(u32::from(number)).into());
            out.insert("number".into(), number.into());
            out.insert("core".into(), e.core.into());
        }
    }
    out.insert("oom".into(), e.oom.into());
    out.insert("ran_ms".into(), millis(e.ran).into());
    out.insert("user_us".into(), micros(e.user).into());
    out.insert("system_us".into(), micros(e.system).into());
    out.insert("max_rss_kib".into(), e.max_rss_kib.into());
    out.into()
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
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
        (None, Some(p)) => process(p),
        (e, p) => json!({
            "target": item.target,
            "error": e.as_ref().map(error),
            "process": p.as_ref().map(process),
        }),
    }
}

/// What went wrong.
pub fn error(e: &Error) -> Value {
    json!({ "code": e.code.name(), "message": e.message, "hint": e.hint })
}

/// Something that happened.
pub fn event(e: &Event) -> Value {
    json!({
        "seq": e.seq,
        "at": time(e.at),
        "id": e.id.map(|id| id.to_string()),
        "name": if e.name.is_empty() { None } else { Some(&e.name) },
        "run": e.run,
        "pid": e.pid,
        "kind": e.kind.name(),
        "cause": e.cause,
        "exit": e.exit.as_ref().map(exit),
        "detail": e.detail,
    })
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

/// Output bytes that were missed.
pub fn gap(g: &Gap) -> Value {
    json!({ "id": g.id.to_string(), "offset": g.offset, "missed": g.missed })
}

/// The service itself.
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

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize];
            out.push(if n <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        assert_eq!(time(Timestamp(1_795_204_800_000)), "2026-11-20T20:00:00.000Z");
        assert_eq!(time(Timestamp(1_795_204_800_007)), "2026-11-20T20:00:00.007Z");
    }

    #[test]
    fn an_exit_is_a_code_or_a_signal() {
        let mut e = Exit {
            end: End::Code(3),
            core: false,
            oom: false,
            ran: Duration::from_millis(5),
            user: Duration::ZERO,
            system: Duration::ZERO,
            max_rss_kib: 1,
        };
        assert!(exit(&e).to_string().starts_with(r#"{"code":3,"#));
        e.end = End::Signal(9);
        let text = exit(&e).to_string();
        assert!(text.starts_with(r#"{"signal":"SIGKILL","number":9,"core":false,"oom":false,"#), "{text}");
    }

    #[test]
    fn base64_is_as_everybody_writes_it() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}

//! Entries of the registry, as they are shown.

use serde_json::{Value, json};

use crate::cli::json;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::text;
use crate::wire::provider::TYPE_REMOTE;
use crate::wire::registration::TYPE_MODULE;
use crate::wire::registry::{Entry, Finding};
use crate::wire::time::{Timestamp, millis};

/// A table for people on a terminal, and JSON elsewhere.
pub fn list(entries: &[Entry], session: &mut Session) {
    if session.is_json() || !session.out.is_terminal() {
        entries.iter().for_each(|entry| session.object(&object(entry)));
        return;
    }
    let rows = entries.iter().map(|e| {
        let dash = || "-".to_owned();
        let pid = e.provider.pid.map_or_else(dash, |pid| pid.to_string());
        let health = e.check.as_ref().map_or_else(dash, |check| check.health.clone());
        let (name, age) = (e.provider.name.to_string(), text::age(e.registered_at, Timestamp::now()));
        [name, e.kind.clone(), e.status.clone(), health, e.breaker.state.clone(), e.source.clone(), pid, age]
    });
    let header = ["NAME", "TYPE", "STATUS", "HEALTH", "BREAKER", "SOURCE", "PID", "AGE"];
    stdout::table(&mut session.out, header, rows.collect());
}

/// "app: ready, process of api, pid 123, breaker open until 2026-01-01T00:00:00.000Z: crashed".
pub fn line(e: &Entry) -> String {
    let p = &e.provider;
    let mut line = format!("{}: {}, {} of {}", p.name, e.status, e.kind, e.source);
    if let Some(pid) = p.pid {
        line.push_str(&format!(", pid {pid}"));
    }
    if e.kind == TYPE_REMOTE {
        line.push_str(&format!(", at {}", p.binary));
    }
    if e.kind == TYPE_MODULE {
        line.push_str(&format!(", namespace {}", p.binary));
    }
    if let Some(check) = &e.check {
        line.push_str(&format!(", health {}: {}", check.health, check.message));
    }
    if e.breaker.state != "closed" {
        line.push_str(&format!(", breaker {}", e.breaker.state));
        if let Some(at) = e.breaker.next_probe_at {
            line.push_str(&format!(", next probe at {}", json::time(at)));
        }
        line.push_str(&format!(": {}", e.breaker.reason));
    } else if !p.reason.is_empty() {
        line.push_str(&format!(": {}", p.reason));
    }
    line
}

/// "app: added, of plugin: /etc/provost/plugins/app".
pub fn finding_line(f: &Finding) -> String {
    let name = if f.name.is_empty() { String::new() } else { format!("{}: ", f.name) };
    let detail = if f.detail.is_empty() { String::new() } else { format!(": {}", f.detail) };
    format!("{name}{}, of {}{detail}", f.what, f.source)
}

pub fn object(e: &Entry) -> Value {
    let p = &e.provider;
    let check = e.check.as_ref().map(|c| {
        json!({ "at": json::time(c.at), "status": c.health, "message": c.message, "latency_ms": c.latency_ms })
    });
    let (is_remote, is_module) = (e.kind == TYPE_REMOTE, e.kind == TYPE_MODULE);
    json!({
        "set": p.name.set(),
        "name": p.name.alias(),
        "type": e.kind,
        "status": e.status,
        "source": e.source,
        "shadows": e.shadows,
        "registered_at": json::time(e.registered_at),
        "labels": json::pairs(&e.labels),
        "capabilities": e.capabilities,
        "health": check,
        "breaker": {
            "state": e.breaker.state,
            "failures": e.breaker.failures,
            "reason": e.breaker.reason,
            "next_probe_at": e.breaker.next_probe_at.map(json::time),
        },
        "check_interval_ms": e.interval.map(millis),
        "binary": if is_remote || is_module { "" } else { &p.binary },
        "namespace": if is_module { &p.binary } else { "" },
        "address": if is_remote { &p.binary } else { "" },
        "pid": p.pid,
        "port": p.port,
        "version": if e.version.is_empty() { &p.version } else { &e.version },
        "starts": p.starts,
        "process": p.process,
        "reason": p.reason,
    })
}

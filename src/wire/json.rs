//! Events as JSON: the one definition for the command line and for every sink. The names and their order are
//! a promise to scripts; `docs/cli.md` lists them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp as Moment;
use serde_json::{Map, Value, json};

use crate::sys::signal;
use crate::wire::event::Event;
use crate::wire::process::{End, Exit};
use crate::wire::time::{Timestamp, millis};

/// RFC 3339 with milliseconds, UTC.
#[must_use]
pub fn time(at: Timestamp) -> String {
    let moment = i64::try_from(at.0).ok().and_then(|ms| Moment::from_millisecond(ms).ok());
    format!("{:.3}", moment.unwrap_or(Moment::UNIX_EPOCH))
}

/// How a run ended.
#[must_use]
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

#[must_use]
pub fn event(e: &Event) -> Value {
    json!({
        "seq": e.seq,
        "at": time(e.at),
        "mono_ms": e.mono_ms,
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

/// Bytes as text: RFC 4648, with padding.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
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

//! The fields of a definition: how each is called, what it takes, and what it means for a run that is there.
//! The one table from which a definition is read, shown, compared and documented (`docs/config.md`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::wire::cgroup_fields::CGROUP_FIELDS;
use crate::wire::field::{Effect, Field, count, joined};
use crate::wire::field_values::{
    DURATION, LIMITS, THRESHOLD, flag, grpc_end, limit, limit_text, live, names_value, pairs, pairs_value,
    ready, span, text, texts, threshold, time, url,
};
use crate::wire::hook_fields::HOOK_FIELDS;
use crate::wire::log_fields::LOG_FIELDS;
use crate::wire::needs::OnDependency;
use crate::wire::probes::{LiveRules, Liveness, Readiness, ReadyRules};
use crate::wire::schedule_fields::SCHEDULE_FIELDS;
use crate::wire::spec::{
    EnvBase, EnvExpand, OUTPUT_BYTES_DEFAULT, RestartPolicy, RestartRules, Rlimit, Scope, Spec, StopRules,
};
use crate::wire::stop::FOREVER;
use crate::wire::time::DURATION_MAX;
use crate::wire::values::{duration_text, sha256, size, size_text};

/// All of them, in the order in which they are shown.
pub const FIELDS: &[Field] = &joined::<{ count(PARTS) }>(PARTS);

const PARTS: &[&[Field]] = &[OWN, &LOG_FIELDS, &SCHEDULE_FIELDS, &HOOK_FIELDS, &CGROUP_FIELDS];

const OWN: &[Field] = &[
    Field {
        key: "command",
        effect: Effect::NextRun,
        takes: "a list of strings: the program and its arguments",
        get: |s| Some(s.command.clone().into()),
        set: |s, v| texts(v).map(|command| s.command = command),
    },
    Field {
        key: "env",
        effect: Effect::NextRun,
        takes: "a table of strings, or a list of \"KEY=VALUE\"",
        get: |s| pairs_value(&s.env),
        set: |s, v| pairs(v).map(|env| s.env = env),
    },
    Field {
        key: "clear_env",
        effect: Effect::NextRun,
        takes: "true or false",
        get: |s| (s.env_base == EnvBase::Empty).then(|| true.into()),
        set: |s, v| flag(v).map(|is| s.env_base = if is { EnvBase::Empty } else { EnvBase::Service }),
    },
    Field {
        key: "expand_env",
        effect: Effect::NextRun,
        takes: "true or false",
        get: |s| (s.env_expand == EnvExpand::Literal).then(|| false.into()),
        set: |s, v| flag(v).map(|is| s.env_expand = if is { EnvExpand::Once } else { EnvExpand::Literal }),
    },
    Field {
        key: "cwd",
        effect: Effect::NextRun,
        takes: "an absolute path",
        get: |s| s.cwd.clone().filter(|cwd| cwd != "/").map(Into::into),
        set: |s, v| text(v).map(|cwd| s.cwd = Some(cwd)),
    },
    Field {
        key: "user",
        effect: Effect::NextRun,
        takes: "a user's name or number, as a string",
        get: |s| s.user.clone().map(Into::into),
        set: |s, v| text(v).map(|user| s.user = Some(user)),
    },
    Field {
        key: "group",
        effect: Effect::NextRun,
        takes: "a group's name or number, as a string",
        get: |s| s.group.clone().map(Into::into),
        set: |s, v| text(v).map(|group| s.group = Some(group)),
    },
    Field {
        key: "groups",
        effect: Effect::NextRun,
        takes: "a list of groups, as strings",
        get: |s| (!s.groups.is_empty()).then(|| s.groups.clone().into()),
        set: |s, v| texts(v).map(|groups| s.groups = groups),
    },
    Field {
        key: "umask",
        effect: Effect::NextRun,
        takes: "a string in base 8, as \"027\"",
        get: |s| s.umask.map(|mask| format!("{mask:03o}").into()),
        set: |s, v| {
            let mask = text(v).ok().and_then(|t| u32::from_str_radix(&t, 8).ok()).filter(|&m| m <= 0o777);
            s.umask = Some(mask.ok_or_else(|| takes("umask"))?);
            Ok(())
        },
    },
    Field {
        key: "nice",
        effect: Effect::NextRun,
        takes: "a whole number from -20 to 19",
        get: |s| s.nice.map(Into::into),
        set: |s, v| number(v, -20..=19, "nice").map(|nice| s.nice = Some(nice)),
    },
    Field {
        key: "oom_score_adj",
        effect: Effect::NextRun,
        takes: "a whole number from -1000 to 1000",
        get: |s| s.oom_score_adj.map(Into::into),
        set: |s, v| number(v, -1000..=1000, "oom_score_adj").map(|adj| s.oom_score_adj = Some(adj)),
    },
    Field {
        key: "no_new_privs",
        effect: Effect::NextRun,
        takes: "true or false",
        get: |s| s.no_new_privs.then(|| true.into()),
        set: |s, v| flag(v).map(|is| s.no_new_privs = is),
    },
    Field {
        key: "executable_sha256",
        effect: Effect::NextRun,
        takes: "64 hexadecimal digits: the SHA-256 of the program, which has an absolute path then",
        get: |s| s.executable_sha256.clone().map(Into::into),
        set: |s, v| {
            let digits = v.as_str().and_then(|text| sha256(text).ok());
            s.executable_sha256 = Some(digits.ok_or_else(|| takes("executable_sha256"))?);
            Ok(())
        },
    },
    Field {
        key: "landlock_read",
        effect: Effect::NextRun,
        takes: "a list of absolute paths that it may read and execute, and nothing else",
        get: |s| (!s.landlock.read.is_empty()).then(|| s.landlock.read.clone().into()),
        set: |s, v| texts(v).map(|paths| s.landlock.read = paths),
    },
    Field {
        key: "landlock_write",
        effect: Effect::NextRun,
        takes: "a list of absolute paths that it may also change",
        get: |s| (!s.landlock.write.is_empty()).then(|| s.landlock.write.clone().into()),
        set: |s, v| texts(v).map(|paths| s.landlock.write = paths),
    },
    Field {
        key: "landlock_optional",
        effect: Effect::NextRun,
        takes: "true or false",
        get: |s| s.landlock.optional.then(|| true.into()),
        set: |s, v| flag(v).map(|is| s.landlock.optional = is),
    },
    Field {
        key: "limits",
        effect: Effect::NextRun,
        takes: LIMITS,
        get: |s| {
            let limit = |l: &Rlimit| (l.resource.clone(), limit_text(l));
            pairs_value(&s.rlimits.iter().map(limit).collect::<Vec<_>>())
        },
        set: |s, v| pairs(v)?.iter().map(limit).collect::<Result<_, _>>().map(|all| s.rlimits = all),
    },
    Field {
        key: "restart",
        effect: Effect::InPlace,
        takes: "\"never\", \"on-failure\" or \"always\"",
        get: |s| {
            let policy = s.restart.policy;
            (policy != RestartPolicy::default()).then(|| policy.name().into())
        },
        set: |s, v| {
            let all = [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always];
            let found = all.into_iter().find(|policy| v.as_str() == Some(policy.name()));
            s.restart.policy = found.ok_or_else(|| takes("restart"))?;
            Ok(())
        },
    },
    Field {
        key: "restart_delay",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| span(s.restart.delay, RestartRules::default().delay),
        set: |s, v| time(v).map(|time| s.restart.delay = time),
    },
    Field {
        key: "restart_delay_max",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| span(s.restart.delay_max, RestartRules::default().delay_max),
        set: |s, v| time(v).map(|time| s.restart.delay_max = time),
    },
    Field {
        key: "max_restarts",
        effect: Effect::InPlace,
        takes: "a whole number from 1, or \"none\"",
        get: |s| {
            let max = s.restart.max_restarts;
            (max != RestartRules::default().max_restarts).then(|| max.map_or("none".into(), Into::into))
        },
        set: |s, v| {
            s.restart.max_restarts = match v.as_str() {
                Some("none") => None,
                _ => Some(number(v, 1..=i64::from(u32::MAX), "max_restarts")?),
            };
            Ok(())
        },
    },
    Field {
        key: "restart_window",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| span(s.restart.window, RestartRules::default().window),
        set: |s, v| time(v).map(|time| s.restart.window = time),
    },
    Field {
        key: "reset_after",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| span(s.restart.reset_after, RestartRules::default().reset_after),
        set: |s, v| time(v).map(|time| s.restart.reset_after = time),
    },
    Field {
        key: "success_codes",
        effect: Effect::InPlace,
        takes: "a list of exit codes, 0 to 255",
        get: |s| {
            let codes = &s.restart.success_codes;
            (!codes.is_empty()).then(|| codes.clone().into())
        },
        set: |s, v| {
            let codes = v.as_array().ok_or_else(|| takes("success_codes"))?;
            let codes = codes.iter().map(|code| number(code, 0..=255, "success_codes"));
            s.restart.success_codes = codes.collect::<Result<_, _>>()?;
            Ok(())
        },
    },
    Field {
        key: "stop_signal",
        effect: Effect::InPlace,
        takes: "a signal's name, as \"INT\", or several, as \"TERM,10s,INT\"",
        get: |s| {
            let signals = s.stop.signals();
            (signals != StopRules::default().signals()).then(|| signals.into())
        },
        set: |s, v| {
            let signals = v.as_str().ok_or_else(|| takes("stop_signal"))?;
            s.stop.set_signals(signals).map_err(|_| takes("stop_signal"))
        },
    },
    Field {
        key: "stop_timeout",
        effect: Effect::InPlace,
        takes: "a duration, as \"10s\", or \"infinity\"",
        get: |s| span(s.stop.timeout, StopRules::default().timeout),
        set: |s, v| {
            s.stop.timeout = if v == FOREVER { DURATION_MAX } else { time(v)? };
            Ok(())
        },
    },
    Field {
        key: "stop_scope",
        effect: Effect::InPlace,
        takes: "\"tree\", \"mixed\", \"group\" or \"leader\"",
        get: |s| {
            let known = SCOPES.iter().find(|(_, scope)| *scope == s.stop.scope);
            known.filter(|(_, scope)| *scope != Scope::default()).map(|(name, _)| (*name).into())
        },
        set: |s, v| {
            let known = SCOPES.iter().find(|(name, _)| v.as_str() == Some(name));
            s.stop.scope = known.ok_or_else(|| takes("stop_scope"))?.1;
            Ok(())
        },
    },
    Field {
        key: "output_limit",
        effect: Effect::Never,
        takes: "a size from \"4 KiB\" to \"64 MiB\"",
        get: |s| (s.output_bytes != OUTPUT_BYTES_DEFAULT).then(|| size_text(s.output_bytes).into()),
        set: |s, v| {
            let bytes = v.as_u64().or_else(|| size(v.as_str()?));
            s.output_bytes = bytes.ok_or_else(|| takes("output_limit"))?;
            Ok(())
        },
    },
    Field {
        key: "merge_streams",
        effect: Effect::NextRun,
        takes: "true or false",
        get: |s| s.merge_streams.then(|| true.into()),
        set: |s, v| flag(v).map(|is| s.merge_streams = is),
    },
    Field {
        key: "ready_line",
        effect: Effect::InPlace,
        takes: "a string that a line of output holds",
        get: |s| if let Some(Readiness::Line(line)) = &s.ready { Some(line.clone().into()) } else { None },
        set: |s, v| ready(s, Readiness::Line(text(v)?)),
    },
    Field {
        key: "ready_tcp",
        effect: Effect::InPlace,
        takes: "a port of 127.0.0.1, 1 to 65535",
        get: |s| if let Some(Readiness::Tcp(port)) = s.ready { Some(port.into()) } else { None },
        set: |s, v| ready(s, Readiness::Tcp(number(v, 1..=65535, "ready_tcp")?)),
    },
    Field {
        key: "ready_notify",
        effect: Effect::NextRun,
        takes: "true: it says READY=1 at NOTIFY_SOCKET",
        get: |s| (s.ready == Some(Readiness::Notify)).then(|| true.into()),
        set: |s, v| if flag(v)? { ready(s, Readiness::Notify) } else { Ok(()) },
    },
    Field {
        key: "ready_http",
        effect: Effect::InPlace,
        takes: "a URL that answers with 200 to 399, as \"http://127.0.0.1:8000/health\"",
        get: |s| if let Some(Readiness::Http(url)) = &s.ready { Some(url.clone().into()) } else { None },
        set: |s, v| ready(s, Readiness::Http(url(v)?)),
    },
    Field {
        key: "ready_exec",
        effect: Effect::InPlace,
        takes: "a list of strings: a program that ends with 0, and its arguments",
        get: |s| if let Some(Readiness::Exec(c)) = &s.ready { Some(c.clone().into()) } else { None },
        set: |s, v| ready(s, Readiness::Exec(texts(v)?)),
    },
    Field {
        key: "ready_grpc",
        effect: Effect::InPlace,
        takes: "a server that says by grpc.health.v1 that it serves: \"127.0.0.1:PORT\" or \"unix:/PATH\", #SERVICE",
        get: |s| if let Some(Readiness::Grpc(end)) = &s.ready { Some(end.clone().into()) } else { None },
        set: |s, v| ready(s, Readiness::Grpc(grpc_end(v)?)),
    },
    Field {
        key: "ready_exit",
        effect: Effect::InPlace,
        takes: "true: it is a job, ready when it has ended with success",
        get: |s| (s.ready == Some(Readiness::Exit)).then(|| true.into()),
        set: |s, v| if flag(v)? { ready(s, Readiness::Exit) } else { Ok(()) },
    },
    Field {
        key: "fail_line",
        effect: Effect::InPlace,
        takes: "a string that a line of output holds when it will never be ready",
        get: |s| s.ready_rules.fail_line.clone().map(Into::into),
        set: |s, v| text(v).map(|line| s.ready_rules.fail_line = Some(line)),
    },
    Field {
        key: "ready_timeout",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| s.ready_rules.timeout.map(|time| duration_text(time).into()),
        set: |s, v| time(v).map(|time| s.ready_rules.timeout = Some(time)),
    },
    Field {
        key: "ready_interval",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| s.ready_rules.interval.map(|time| duration_text(time).into()),
        set: |s, v| time(v).map(|time| s.ready_rules.interval = Some(time)),
    },
    Field {
        key: "ready_attempt",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| span(s.ready_rules.attempt, ReadyRules::default().attempt),
        set: |s, v| time(v).map(|time| s.ready_rules.attempt = time),
    },
    Field {
        key: "ready_delay",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| span(s.ready_rules.delay, Duration::ZERO),
        set: |s, v| time(v).map(|time| s.ready_rules.delay = time),
    },
    Field {
        key: "ready_successes",
        effect: Effect::InPlace,
        takes: THRESHOLD,
        get: |s| (s.ready_rules.successes != 1).then(|| s.ready_rules.successes.into()),
        set: |s, v| threshold(v).map(|n| s.ready_rules.successes = n),
    },
    Field {
        key: "ready_recheck",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| s.ready_rules.recheck.map(|time| duration_text(time).into()),
        set: |s, v| time(v).map(|time| s.ready_rules.recheck = Some(time)),
    },
    Field {
        key: "ready_failures",
        effect: Effect::InPlace,
        takes: THRESHOLD,
        get: |s| {
            let failures = s.ready_rules.failures;
            (failures != ReadyRules::default().failures).then(|| failures.into())
        },
        set: |s, v| threshold(v).map(|n| s.ready_rules.failures = n),
    },
    Field {
        key: "live_tcp",
        effect: Effect::InPlace,
        takes: "a port of 127.0.0.1, 1 to 65535",
        get: |s| if let Some(Liveness::Tcp(port)) = s.live { Some(port.into()) } else { None },
        set: |s, v| live(s, Liveness::Tcp(number(v, 1..=65535, "live_tcp")?)),
    },
    Field {
        key: "live_http",
        effect: Effect::InPlace,
        takes: "a URL that answers with 200 to 399, as \"http://127.0.0.1:8000/health\"",
        get: |s| if let Some(Liveness::Http(url)) = &s.live { Some(url.clone().into()) } else { None },
        set: |s, v| live(s, Liveness::Http(url(v)?)),
    },
    Field {
        key: "live_exec",
        effect: Effect::InPlace,
        takes: "a list of strings: a program that ends with 0, and its arguments",
        get: |s| if let Some(Liveness::Exec(c)) = &s.live { Some(c.clone().into()) } else { None },
        set: |s, v| live(s, Liveness::Exec(texts(v)?)),
    },
    Field {
        key: "live_grpc",
        effect: Effect::InPlace,
        takes: "a server that says by grpc.health.v1 that it serves: \"127.0.0.1:PORT\" or \"unix:/PATH\", #SERVICE",
        get: |s| if let Some(Liveness::Grpc(end)) = &s.live { Some(end.clone().into()) } else { None },
        set: |s, v| live(s, Liveness::Grpc(grpc_end(v)?)),
    },
    Field {
        key: "live_notify",
        effect: Effect::NextRun,
        takes: "true: it says WATCHDOG=1 at NOTIFY_SOCKET once in each live_interval",
        get: |s| (s.live == Some(Liveness::Notify)).then(|| true.into()),
        set: |s, v| if flag(v)? { live(s, Liveness::Notify) } else { Ok(()) },
    },
    Field {
        key: "live_interval",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| span(s.live_rules.interval, LiveRules::default().interval),
        set: |s, v| time(v).map(|time| s.live_rules.interval = time),
    },
    Field {
        key: "live_attempt",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| span(s.live_rules.attempt, LiveRules::default().attempt),
        set: |s, v| time(v).map(|time| s.live_rules.attempt = time),
    },
    Field {
        key: "live_delay",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| span(s.live_rules.delay, Duration::ZERO),
        set: |s, v| time(v).map(|time| s.live_rules.delay = time),
    },
    Field {
        key: "live_failures",
        effect: Effect::InPlace,
        takes: THRESHOLD,
        get: |s| {
            let failures = s.live_rules.failures;
            (failures != LiveRules::default().failures).then(|| failures.into())
        },
        set: |s, v| threshold(v).map(|n| s.live_rules.failures = n),
    },
    Field {
        key: "requires",
        effect: Effect::InPlace,
        takes: NAMES,
        get: |s| names_value(&s.needs.requires),
        set: |s, v| texts(v).map(|names| Arc::make_mut(&mut s.needs).requires = names),
    },
    Field {
        key: "wants",
        effect: Effect::InPlace,
        takes: NAMES,
        get: |s| names_value(&s.needs.wants),
        set: |s, v| texts(v).map(|names| Arc::make_mut(&mut s.needs).wants = names),
    },
    Field {
        key: "after",
        effect: Effect::InPlace,
        takes: NAMES,
        get: |s| names_value(&s.needs.after),
        set: |s, v| texts(v).map(|names| Arc::make_mut(&mut s.needs).after = names),
    },
    Field {
        key: "on_dependency",
        effect: Effect::InPlace,
        takes: "\"restart\", \"stop\" or \"ignore\"",
        get: |s| {
            let what = s.needs.on_dependency;
            (what != OnDependency::default()).then(|| what.name().into())
        },
        set: |s, v| {
            let found = OnDependency::ALL.into_iter().find(|what| v.as_str() == Some(what.name()));
            Arc::make_mut(&mut s.needs).on_dependency = found.ok_or_else(|| takes("on_dependency"))?;
            Ok(())
        },
    },
    Field {
        key: "in_group",
        effect: Effect::InPlace,
        takes: "the name of a group, which @NAME then means",
        get: |s| s.needs.in_group.clone().map(Into::into),
        set: |s, v| text(v).map(|group| Arc::make_mut(&mut s.needs).in_group = Some(group)),
    },
    Field {
        key: "forking",
        effect: Effect::NextRun,
        takes: "true: it puts itself into the background",
        get: |s| s.background.forking.then(|| true.into()),
        set: |s, v| flag(v).map(|is| s.background.forking = is),
    },
    Field {
        key: "pid_file",
        effect: Effect::NextRun,
        takes: "an absolute path: the file that names the process which goes on there",
        get: |s| s.background.pid_file.clone().map(Into::into),
        set: |s, v| text(v).map(|path| s.background.pid_file = Some(path)),
    },
    Field {
        key: "essential",
        effect: Effect::InPlace,
        takes: "true: when it has ended for good, the service ends too, with its exit code",
        get: |s| s.essential.then(|| true.into()),
        set: |s, v| flag(v).map(|is| s.essential = is),
    },
    Field {
        key: "labels",
        effect: Effect::InPlace,
        takes: "a table of strings",
        get: |s| pairs_value(&s.labels),
        set: |s, v| pairs(v).map(|labels| s.labels = labels),
    },
    Field {
        key: "autostart",
        effect: Effect::InPlace,
        takes: "true or false",
        get: |s| s.autostart.map(Into::into),
        set: |s, v| flag(v).map(|is| s.autostart = Some(is)),
    },
];

const NAMES: &str = "a list of names of processes, or \"@GROUP\"";
const SCOPES: [(&str, Scope); 4] =
    [("tree", Scope::Tree), ("mixed", Scope::Mixed), ("group", Scope::Group), ("leader", Scope::Leader)];
/// The field that is called so.
#[must_use]
pub fn field(key: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.key == key)
}

/// The fields that are not as by default, with their values.
#[must_use]
pub fn to_map(spec: &Spec) -> Map<String, Value> {
    FIELDS.iter().filter_map(|field| Some((field.key.to_owned(), (field.get)(spec)?))).collect()
}

/// In what two definitions differ. Not in their names, which are no field.
#[must_use]
pub fn changed(before: &Spec, after: &Spec) -> Vec<&'static Field> {
    // A variable may need those before it, so their order counts; tables are equal in any order.
    let is_other_order = |field: &Field| field.key == "env" && before.env != after.env;
    let differs = |field: &&Field| (field.get)(before) != (field.get)(after) || is_other_order(field);
    FIELDS.iter().filter(differs).collect()
}

fn takes(key: &str) -> String {
    field(key).map_or("another value", |field| field.takes).to_owned()
}

fn number<N: TryFrom<i64>>(
    value: &Value,
    range: std::ops::RangeInclusive<i64>,
    key: &str,
) -> Result<N, String> {
    let number = value.as_i64().filter(|n| range.contains(n)).and_then(|n| N::try_from(n).ok());
    number.ok_or_else(|| takes(key))
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;

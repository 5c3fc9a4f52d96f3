//! A definition that is shown is read as what it was, and a value of another kind is refused.

use super::*;
use crate::wire::background::Background;
use crate::wire::cgroup_limits::{CgroupLimits, Memory};
use crate::wire::hooks::{Hook, OnFailure, When};
use crate::wire::landlock::Landlock;
use crate::wire::log::{Log, LogFormat};
use crate::wire::needs::Needs;
use crate::wire::schedule::{Missed, Overlap, Schedule};

/// Every field of a spec, none as by default.
fn full() -> Spec {
    let mut spec = Spec::new(["a", "b c"]);
    spec.env = vec![("A".into(), "1".into()), ("API_KEY".into(), "${A}\n\"x\"".into())];
    (spec.env_base, spec.env_expand) = (EnvBase::Empty, EnvExpand::Literal);
    (spec.cwd, spec.user, spec.group) = (Some("/srv".into()), Some("u".into()), Some("0".into()));
    (spec.groups, spec.umask, spec.nice) = (vec!["g".into()], Some(0o27), Some(-5));
    (spec.oom_score_adj, spec.no_new_privs) = (Some(100), true);
    spec.executable_sha256 = Some("0a".repeat(32));
    spec.landlock = Landlock { read: vec!["/usr".into()], write: vec!["/tmp".into()], optional: true };
    spec.rlimits = vec![Rlimit { resource: "nofile".into(), soft: 64, hard: u64::MAX }];
    spec.restart = RestartRules {
        policy: RestartPolicy::OnFailure,
        delay: Duration::from_millis(1500),
        delay_max: Duration::from_secs(90),
        max_restarts: None,
        window: Duration::from_secs(3600),
        reset_after: Duration::from_secs(86_400),
        success_codes: vec![0, 3],
        on_oom: Some(false),
    };
    spec.stop = StopRules { signal: 2, steps: Vec::new(), timeout: Duration::ZERO, scope: Scope::Leader };
    (spec.merge_streams, spec.output_bytes, spec.ready) = (true, 8192, Some(Readiness::Tcp(80)));
    spec.ready_rules = ReadyRules {
        interval: Some(Duration::from_millis(20)),
        attempt: Duration::from_secs(2),
        successes: 2,
        delay: Duration::from_secs(3),
        timeout: Some(Duration::from_secs(4)),
        fail_line: Some("EADDRINUSE".into()),
        recheck: Some(Duration::from_secs(9)),
        failures: 4,
    };
    spec.live = Some(Liveness::Tcp(80));
    spec.live_rules = LiveRules {
        interval: Duration::from_secs(5),
        attempt: Duration::from_secs(6),
        failures: 7,
        delay: Duration::from_secs(8),
    };
    spec.needs = Arc::new(Needs {
        requires: vec!["db".into(), "@data".into()],
        wants: vec!["cache".into()],
        after: vec!["log".into()],
        on_dependency: OnDependency::Stop,
        in_group: Some("web".into()),
    });
    (spec.labels, spec.autostart) = (vec![("k".into(), "v".into())], Some(false));
    spec.log = Arc::new(Log {
        file: Some("{name}.log".into()),
        stdout: Some("/var/log/out".into()),
        stderr: Some("/var/log/err".into()),
        size: None,
        age: Some(Duration::from_secs(9)),
        keep: 0,
        gzip: true,
        format: LogFormat::Time,
        prefix: Some("{stream} ".into()),
        fields: Vec::new(),
        to: None,
    });
    spec.schedule = Arc::new(Schedule {
        when: Some("0 3 * * *".into()),
        zone: Some("Europe/Berlin".into()),
        overlap: Overlap::Replace,
        missed: Missed::Run,
        jitter: Duration::from_secs(300),
    });
    spec.essential = true;
    spec.cgroup = CgroupLimits {
        memory_max: Some(Memory::Percent(50)),
        restart_above: Some(Memory::Bytes(512 << 20)),
        cpu_weight: Some(200),
        cpu_quota: Some(1500),
        pids_max: Some(20),
        io_weight: Some(10),
        optional: true,
        memory_high: None,
    };
    spec.redact = vec!["token=\\w+".into(), "(?i)bearer \\S+".into()];
    let hooks = Arc::make_mut(&mut spec.hooks);
    for when in When::ALL {
        let what = if when.is_of_stop() { OnFailure::Ignore } else { OnFailure::Retry };
        let (command, timeout) = (vec!["a".to_owned(), when.name().to_owned()], Duration::from_secs(7));
        *hooks.of_mut(when) = Hook { command, timeout: Some(timeout), on_failure: Some(what) };
    }
    spec.background = Background { forking: true, pid_file: Some("/run/a.pid".into()) };
    spec
}

fn again(spec: &Spec) -> Spec {
    let mut read = Spec::new([""; 0]);
    for field in FIELDS {
        if let Some(value) = (field.get)(spec) {
            (field.set)(&mut read, &value).unwrap();
        }
    }
    read
}

#[test]
fn every_field_of_a_spec_is_shown_and_read() {
    assert_eq!(again(&full()), full());
    let shown = FIELDS.iter().filter(|field| (field.get)(&full()).is_some()).count();
    // Six of seven kinds of readiness, four of five of life, memory_high beside restart_above, and a receiver
    // and fields beside files.
    assert_eq!(shown, FIELDS.len() - 13);
    let mut other = full();
    let fields = vec!["pid".to_owned()];
    other.log = Arc::new(Log { to: Some("syslog:/run/log".into()), fields, ..Log::default() });
    assert_eq!(again(&other), other);
    for ready in [
        Readiness::Line("up".into()),
        Readiness::Notify,
        Readiness::Http("http://127.0.0.1:1/".into()),
        Readiness::Exec(vec!["a".into(), "b c".into()]),
        Readiness::Exit,
        Readiness::Grpc("127.0.0.1:1#a.B".into()),
    ] {
        other.ready = Some(ready);
        assert_eq!(again(&other), other);
    }
    for live in [
        Liveness::Http("http://127.0.0.1:1/".into()),
        Liveness::Exec(vec!["a".into()]),
        Liveness::Notify,
        Liveness::Grpc("unix:/a".into()),
    ] {
        other.live = Some(live);
        assert_eq!(again(&other), other);
    }
    other.env.push(("A".into(), "${A}2".into()));
    assert_eq!(again(&other), other, "a variable that is set twice");
    assert_eq!(again(&Spec::new(["a"])), Spec::new(["a"]));
    let shown: Vec<_> = FIELDS.iter().filter(|f| (f.get)(&Spec::new(["a"])).is_some()).collect();
    assert_eq!(shown.iter().map(|f| f.key).collect::<Vec<_>>(), ["command"]);
}

#[test]
fn a_change_names_its_fields() {
    let mut spec = full();
    assert!(changed(&full(), &spec).is_empty());
    spec.nice = None;
    spec.labels.clear();
    let keys: Vec<_> = changed(&full(), &spec).iter().map(|field| field.key).collect();
    assert_eq!(keys, ["nice", "labels"]);
    let mut spec = full();
    spec.env.reverse();
    assert_eq!(changed(&full(), &spec).iter().map(|field| field.key).collect::<Vec<_>>(), ["env"]);
}

#[test]
fn values_of_another_kind_are_refused() {
    for (key, value) in [
        ("command", Value::from("a b")),
        ("umask", 27.into()),
        ("umask", "1000".into()),
        ("nice", 20.into()),
        ("stop_timeout", "10".into()),
        ("stop_timeout", 10.into()),
        ("executable_sha256", "0a".into()),
        ("limits", serde_json::json!({ "files": "1" })),
        ("env", serde_json::json!({ "A": 1 })),
        ("env", serde_json::json!(["A"])),
        ("max_restarts", 0.into()),
        ("success_codes", serde_json::json!([256])),
        ("restart", "no".into()),
        ("memory_max", "1.5g".into()),
        ("cpu_quota", "x".into()),
        ("cpu_weight", 0.into()),
        ("pids_max", "many".into()),
        ("ready_tcp", 0.into()),
        ("ready_http", "https://127.0.0.1/".into()),
        ("ready_exec", "a b".into()),
        ("ready_grpc", "10.0.0.1:1".into()),
        ("live_grpc", "unix:a".into()),
        ("ready_successes", 0.into()),
        ("live_failures", 1001.into()),
    ] {
        let field = field(key).unwrap();
        assert!((field.set)(&mut Spec::new(["a"]), &value).is_err(), "{key} {value}");
    }
}

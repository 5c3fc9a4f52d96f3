//! Specs: what cannot be one, and what is made of what is missing.

use super::*;

#[test]
fn a_spec_survives_the_wire() {
    let mut spec = Spec::new(["a", "b"]);
    spec.name = Some("web".parse().unwrap());
    spec.env.push(("K".into(), "=v=".into()));
    spec.restart.max_restarts = None;
    spec.restart.success_codes = vec![0, 3];
    spec.ready = Some(Readiness::Tcp(80));
    spec.nice = Some(-5);
    assert_eq!(Spec::decode(&spec.encode()), Ok(spec));
}

#[test]
fn what_cannot_run_is_refused() {
    let with = |change: fn(&mut Spec)| {
        let mut spec = Spec::new(["a"]);
        change(&mut spec);
        spec.check()
    };
    assert!(with(|_| ()).is_ok());
    assert!(with(|s| s.command.clear()).is_err());
    assert!(with(|s| s.command.push("a\0b".into())).is_err());
    assert!(with(|s| s.command.push("x".repeat(STRING_LEN_MAX))).is_err());
    assert!(with(|s| s.command.push("x".repeat(STRING_LEN_MAX - 1))).is_ok());
    assert!(with(|s| s.env.push(("A=B".into(), String::new()))).is_err());
    assert!(with(|s| s.env.push((String::new(), String::new()))).is_err());
    assert!(with(|s| s.cwd = Some("here".into())).is_err());
    assert!(with(|s| s.umask = Some(0o1000)).is_err());
    assert!(with(|s| s.output_bytes = OUTPUT_BYTES_MAX + 1).is_err());
    assert!(with(|s| s.command = vec!["x".repeat(100_000); 22]).is_err());
}

/// Made by another protobuf library from the messages as they were when these were first stored: numbers
/// and meanings of fields must never change.
#[test]
fn what_was_stored_before_is_read_as_it_was_meant() {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap()).collect()
    };
    let stored = bytes(
        "0a0273680a022d630a017812037765621a060a014b120176200132042f7372763a01754201674a01614a0162\
     5012580960c8016801720c0a066e6f66696c65100118027a100802100118022003280430053a020007820106\
     0802100618018801804092010210509a01060a016c12016da00100",
    );
    let spec = Spec::decode(&stored).unwrap();
    assert_eq!(spec.command, ["sh", "-c", "x"]);
    assert_eq!((spec.user.as_deref(), spec.cwd.as_deref()), (Some("u"), Some("/srv")));
    assert_eq!((spec.umask, spec.nice, spec.oom_score_adj), (Some(0o22), Some(-5), Some(100)));
    assert_eq!(spec.env_base, EnvBase::Empty);
    assert_eq!(spec.rlimits, [Rlimit { resource: "nofile".into(), soft: 1, hard: 2 }]);
    assert_eq!((spec.restart.policy, spec.restart.max_restarts), (RestartPolicy::Always, Some(3)));
    assert_eq!((spec.restart.reset_after.as_millis(), &spec.restart.success_codes[..]), (5, &[0, 7][..]));
    assert_eq!((spec.stop.signal, spec.stop.scope), (2, Scope::Group));
    assert_eq!((spec.output_bytes, &spec.ready), (8192, &Some(Readiness::Tcp(80))));
    assert_eq!((spec.labels.len(), spec.autostart), (1, Some(false)));
    assert_eq!(Spec::decode(&spec.encode()), Ok(spec));
}

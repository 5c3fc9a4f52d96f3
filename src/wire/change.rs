//! What a request changes or reads, as the audit says it: one sentence for engine and gateway alike, and no
//! value of an environment is ever in it.

use std::fmt::Write;

use crate::sys::signal;
use crate::wire::audit::fit;
use crate::wire::request::{Numbering, Request};

impl Request {
    /// What goes on record: what it changes, or which environment or output it reads, where secrets may be;
    /// none: nothing of it.
    #[must_use]
    pub fn on_record(&self) -> Option<String> {
        let text = match self {
            Self::Env(r) if r.set.is_empty() && r.unset.is_empty() => "read the environment".to_owned(),
            Self::Definitions(targets) => format!("read the definition of {}", targets.join(" ")),
            Self::Output(r) => format!("read the output of {}", r.target),
            Self::Stream(r) => format!("read the output of {}", r.targets.join(" ")),
            // It is asked again and again; the memory is shared once.
            Self::Follow(r) if r.share => {
                let ids: Vec<_> = r.ids.iter().map(ToString::to_string).collect();
                format!("read the output of {}", ids.join(" "))
            }
            _ => return self.change(),
        };
        Some(fit(&text))
    }

    /// What it changes, in words that fit a line; none: nothing.
    #[must_use]
    pub fn change(&self) -> Option<String> {
        let on = |verb: &str, targets: &[String]| format!("{verb} {}", targets.join(" "));
        let text = match self {
            Self::Start(r) => {
                let mut text = format!("start {}", r.spec.command.first().map_or("", String::as_str));
                if let Some(name) = &r.spec.name {
                    let _ = write!(text, " as {name}");
                }
                if r.numbering != Numbering::Single {
                    let _ = write!(text, " ({} instances)", r.ids.len());
                }
                text
            }
            Self::StartAgain(targets) => on("start again", targets),
            Self::Update(r) => format!("update {}", r.target),
            Self::Stop(r) => on("stop", &r.targets),
            Self::Restart(targets) => on("restart", targets),
            Self::Remove(r) => on("remove", &r.targets),
            Self::Signal(r) => on(&format!("signal {}", signal::name(r.signal)), &r.targets),
            Self::Env(r) if r.set.is_empty() && r.unset.is_empty() => return None,
            Self::Env(r) => {
                let set = r.set.iter().map(|(key, _)| format!(" set {key}"));
                let unset = r.unset.iter().map(|key| format!(" unset {key}"));
                format!("env{}", set.chain(unset).collect::<String>())
            }
            Self::Upgrade(r) => format!("upgrade to {}", r.path.as_deref().unwrap_or("its own path")),
            Self::Reload => "reload the configuration".to_owned(),
            Self::Note(note) => note.what.clone(),
            Self::Provider(call) => call.change()?,
            Self::Module(call) => call.change()?,
            Self::Registry(call) => call.change()?,
            Self::Wait(_)
            | Self::Status(_)
            | Self::Definitions(_)
            | Self::List(_)
            | Self::Output(_)
            | Self::Stream(_)
            | Self::Events(_)
            | Self::Service
            | Self::Health
            | Self::Follow(_)
            | Self::Hold(_)
            | Self::AuditLog(_)
            | Self::Announce(_)
            | Self::GrpcProbe(_)
            | Self::Host
            | Self::GrpcListener
            | Self::GatewaySetup { .. }
            | Self::Documents(_) => return None,
            // It has its own line.
            Self::Keep(_) => return None,
        };
        Some(fit(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::audit::{Note, TEXT_LEN_MAX, is_odd};
    use crate::wire::id::ProcessId;
    use crate::wire::proto::v1;
    use crate::wire::request::{EnvChange, Output, Start, Stop, StreamKind};
    use crate::wire::spec::Spec;

    #[test]
    fn a_change_is_said_without_values() {
        let mut spec = Spec::new(["/bin/x", "--password=hush"]);
        spec.name = Some("web".parse().unwrap());
        spec.env.push(("KEY".into(), "hush".into()));
        let ids = vec![ProcessId::new(), ProcessId::new()];
        let start = Request::Start(Box::new(Start { spec, ids, numbering: Numbering::Numbered }));
        assert_eq!(start.change().unwrap(), "start /bin/x as web (2 instances)");
        let env = EnvChange { set: vec![("A".into(), "hush".into())], unset: vec!["B".into()] };
        assert_eq!(Request::Env(env).change().unwrap(), "env set A unset B");
        assert_eq!(Request::Env(EnvChange::default()).change(), None);
        assert_eq!(Request::Env(EnvChange::default()).on_record().unwrap(), "read the environment");
        let output = Request::Output(Output { target: "web".into(), kind: StreamKind::Both });
        assert_eq!((output.change(), output.on_record().unwrap()), (None, "read the output of web".into()));
        assert_eq!(Request::Service.on_record(), None);
        assert_eq!(Request::Service.change(), None);
    }

    #[test]
    fn a_line_is_one_line_of_limited_length() {
        let targets = vec!["a\n\u{202e}".repeat(1000)];
        let text = Request::Stop(Stop { targets, ..Stop::default() }).change().unwrap();
        assert!(text.len() <= TEXT_LEN_MAX && !text.contains(is_odd) && text.ends_with("..."), "{text}");
        let note = |what: &str| Note::from_wire(v1::Note { what: what.into(), result: "refused".into() });
        assert!(note("stop web").is_ok() && note(&text).is_ok());
        assert!(note("").is_err() && note("a\nb").is_err() && note(&"x".repeat(513)).is_err());
    }
}

//! What each request needs: the one table, without a default. A new request does not compile until it has its
//! line.

use crate::wire::canary::CanaryCall;
use crate::wire::error::{Code, Error};
use crate::wire::module::ModuleCall;
use crate::wire::provider::ProviderCall;
use crate::wire::registry::Verb;
use crate::wire::request::Request;
use crate::wire::role::Role;

/// The least role that may ask this.
#[must_use]
pub fn needs(request: &Request) -> Role {
    match request {
        Request::Status(_)
        | Request::List(_)
        | Request::Wait(_)
        | Request::Events(_)
        | Request::Service
        | Request::Health => Role::Viewer,
        // What programs print may hold secrets: to see that they are well is no reason to read it.
        Request::Output(_) | Request::Stream(_) | Request::Follow(_) | Request::Hold(_) => Role::Operator,
        Request::StartAgain(_) | Request::Stop(_) | Request::Restart(_) | Request::Signal(_) => {
            Role::Operator
        }
        // To define a command is to execute it, and its definition can be lost only by who can make it again.
        Request::Start(_) | Request::Update(_) | Request::Remove(_) | Request::Upgrade(_) => Role::Admin,
        // It holds the values of variables.
        Request::Definitions(_) => Role::Admin,
        // Values are secrets, and LD_PRELOAD is one of them.
        Request::Env(_) => Role::Admin,
        // It names all callers.
        Request::AuditLog(_) => Role::Admin,
        // That there is a host tells nothing; whoever may ask it something has it run.
        Request::Host => Role::Viewer,
        // These are the gateway's own, and have no way in from outside.
        Request::Note(_) | Request::GrpcListener | Request::GatewaySetup { .. } => Role::Admin,
        // These are the host's own.
        Request::Announce(_) | Request::Keep(_) | Request::Documents(_) => Role::Admin,
        // It decides who else comes in.
        Request::Reload => Role::Admin,
        // It connects to what it is told.
        Request::GrpcProbe(_) => Role::Admin,
        Request::Module(call) => match call {
            ModuleCall::List | ModuleCall::Connections | ModuleCall::Expected => Role::Viewer,
            ModuleCall::Call(_) | ModuleCall::Batch(_) => Role::Operator,
            ModuleCall::Canary(CanaryCall::Status(_)) => Role::Viewer,
            ModuleCall::Canary(CanaryCall::Start(_) | CanaryCall::Abort(_)) => Role::Admin,
            ModuleCall::Drain { .. } | ModuleCall::Allow(_) => Role::Admin,
        },
        Request::Registry(call) => match &call.verb {
            Verb::Show | Verb::Health | Verb::Validate => Role::Viewer,
            Verb::Discover(discovery) if discovery.is_dry_run => Role::Viewer,
            Verb::Start | Verb::Stop | Verb::Restart | Verb::Reset => Role::Operator,
            // As a call of a provider is.
            Verb::Permit(_) | Verb::Report(_) | Verb::Chain(_) => Role::Operator,
            // To register a provider is to execute code; to hold one is to take it from everybody.
            Verb::Register(_)
            | Verb::Unregister
            | Verb::Initialize
            | Verb::Dispose
            | Verb::Replace
            | Verb::Hold(_)
            | Verb::Release
            | Verb::Monitor(_)
            | Verb::Unmonitor
            | Verb::Refresh(_)
            | Verb::StopRefresh
            | Verb::ShutDown
            | Verb::Discover(_) => Role::Admin,
        },
        Request::Provider(call) => match call.plain() {
            ProviderCall::Info(_) | ProviderCall::Health(_) | ProviderCall::List(_) => Role::Viewer,
            ProviderCall::Fetch(..) => Role::Operator,
            // To define a provider is to execute code.
            ProviderCall::Start(..)
            | ProviderCall::Stop(_)
            | ProviderCall::Reset(_)
            | ProviderCall::Replace(_)
            | ProviderCall::ShutDown(_)
            // There is no other behind it.
            | ProviderCall::Louder(..) => Role::Admin,
        },
    }
}

/// What a request is about besides processes that clients have defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// What the service runs for itself: the gateway, the host of providers, the apply at its start.
    Service,
    /// A provider, which the host keeps.
    Provider,
}

/// Who may ask something of the service's own processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnRule {
    /// It is about no process.
    NotAsked,
    /// Nobody: what they are is decided elsewhere.
    Nobody,
    /// This role and those above it.
    From(Role),
}

/// The same for a process of the service's own. The engine holds it, which alone knows what a name means;
/// here is what it holds.
#[must_use]
pub fn needs_for_own(request: &Request, own: Own) -> OwnRule {
    match request {
        // That they are there is no secret.
        Request::Status(_) | Request::List(_) | Request::Wait(_) | Request::Events(_) => {
            OwnRule::From(needs(request))
        }
        // Through them everything else can be stopped, or read.
        Request::Output(_)
        | Request::Stream(_)
        | Request::Follow(_)
        | Request::Hold(_)
        | Request::StartAgain(_)
        | Request::Stop(_)
        | Request::Restart(_)
        | Request::Signal(_)
        | Request::Definitions(_) => OwnRule::From(Role::Admin),
        // How they are run is in the configuration, and so is whether they are there.
        Request::Update(_) => OwnRule::Nobody,
        Request::Remove(_) if own == Own::Service => OwnRule::Nobody,
        Request::Remove(_) => OwnRule::From(Role::Admin),
        Request::Start(_)
        | Request::Upgrade(_)
        | Request::Env(_)
        | Request::AuditLog(_)
        | Request::Note(_)
        | Request::Host
        | Request::GrpcListener
        | Request::GatewaySetup { .. }
        | Request::Reload
        | Request::Announce(_)
        | Request::Service
        | Request::Health
        | Request::Module(_)
        | Request::Registry(_)
        | Request::GrpcProbe(_)
        | Request::Keep(_)
        | Request::Documents(_)
        | Request::Provider(_) => OwnRule::NotAsked,
    }
}

/// Refuses what the role is not enough for, and says what would be.
pub fn allow(role: Role, request: &Request) -> Result<(), Error> {
    let needed = needs(request);
    if role >= needed {
        return Ok(());
    }
    let message = format!("{role} may not {}: that needs {needed}", request.verb());
    Err(Error::new(Code::Refused, message).hint(
        "docs/access.md has what each role may do; yours is the lower one of your certificate's and your \
             user's, or on this machine the highest of your groups'",
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::audit::{AuditLine, AuditLog, Note};
    use crate::wire::canary::CanaryOrder;
    use crate::wire::discovery::Discovery;
    use crate::wire::grpc_probe::GrpcProbe;
    use crate::wire::id::{ProcessId, UpgradeId};
    use crate::wire::keep::Keep;
    use crate::wire::module::ModuleBatch;
    use crate::wire::module::ModuleOrder;
    use crate::wire::provider::{Definition, ProviderName};
    use crate::wire::registration::Registration;
    use crate::wire::registry::{RegistryCall, Whom};
    use crate::wire::request::{
        EnvChange, Events, Follow, List, Numbering, OutdatedRun, Output, Remove, Signal, Since, Start, Stop,
        Stream, StreamKind, Update, Upgrade, Wait,
    };
    use crate::wire::spec::{Scope, Spec};
    use crate::wire::time::Timestamp;

    /// How many kinds of requests there are. A new one has its row below, and is counted here.
    const REQUESTS: usize = 33;

    /// F21: every request and every role, spelled out.
    #[test]
    fn f21_every_request_and_every_role() {
        let targets = || vec!["web".to_owned()];
        let signal = Signal { targets: targets(), signal: 1, scope: Scope::default() };
        let stream = Stream { targets: targets(), kind: StreamKind::Both, since: Since::Now };
        let start =
            Start { spec: Spec::new(["true"]), ids: vec![ProcessId::new()], numbering: Numbering::Single };
        let update =
            Update { target: "web".into(), spec: Spec::new(["true"]), outdated: OutdatedRun::Restart };
        let set = EnvChange { set: vec![("A".into(), "b".into())], unset: Vec::new() };
        let unset = EnvChange { set: Vec::new(), unset: vec!["A".into()] };
        let provider = || ProviderName::new("", "app").unwrap();
        let order = ModuleOrder {
            name: "a.b".into(),
            input: Vec::new(),
            timeout: Duration::ZERO,
            tagged: false,
            metadata: Vec::new(),
        };
        let (connection, reason) = ("c".to_owned(), String::new());
        let drain = ModuleCall::Drain { connection, reason, deadline: Duration::ZERO };
        let canary = |call| Request::Module(ModuleCall::Canary(call));
        let registry = |verb| Request::Registry(RegistryCall { whom: Whom::All(None), verb });
        let probe = GrpcProbe { end: "127.0.0.1:1".to_owned(), timeout: Duration::ZERO };
        let (kind, labels) = ("process".to_owned(), Vec::new());
        let registration = Registration { kind, definition: Definition::default(), namespace: None, labels };
        let line = AuditLine { seq: 0, at: Timestamp(0), who: "x".into(), what: "y".into(), result: None };
        let keep = Keep { line: Some(line), document: None };
        let (yes, no) = (true, false);
        // viewer, operator, admin, and whether it is a change.
        let matrix = [
            (Request::Status(targets().into()), [yes, yes, yes], no),
            (Request::List(List::default()), [yes, yes, yes], no),
            (Request::Wait(Wait::default()), [yes, yes, yes], no),
            (Request::Events(Events::default()), [yes, yes, yes], no),
            (Request::Service, [yes, yes, yes], no),
            (Request::Health, [yes, yes, yes], no),
            (Request::Output(Output { target: "web".into(), kind: StreamKind::Both }), [no, yes, yes], no),
            (Request::Stream(stream), [no, yes, yes], no),
            (Request::StartAgain(targets()), [no, yes, yes], yes),
            (Request::Stop(Stop::default()), [no, yes, yes], yes),
            (Request::Restart(targets()), [no, yes, yes], yes),
            (Request::Signal(signal), [no, yes, yes], yes),
            (Request::Start(Box::new(start)), [no, no, yes], yes),
            (Request::Update(Box::new(update)), [no, no, yes], yes),
            (Request::Definitions(targets()), [no, no, yes], no),
            (Request::Remove(Remove::default()), [no, no, yes], yes),
            (Request::Env(EnvChange::default()), [no, no, yes], no),
            (Request::Env(set), [no, no, yes], yes),
            (Request::Env(unset), [no, no, yes], yes),
            (Request::AuditLog(AuditLog::default()), [no, no, yes], no),
            (Request::Note(Note { what: "x".into(), result: "y".into() }), [no, no, yes], yes),
            (Request::Follow(Follow::default()), [no, yes, yes], no),
            (Request::Hold(ProcessId::new()), [no, yes, yes], no),
            (Request::GrpcListener, [no, no, yes], no),
            (Request::GatewaySetup { listens: true }, [no, no, yes], no),
            (Request::Reload, [no, no, yes], yes),
            (Request::GrpcProbe(probe), [no, no, yes], no),
            (Request::Upgrade(Upgrade { id: UpgradeId::new(), path: None }), [no, no, yes], yes),
            (Request::Host, [yes, yes, yes], no),
            (Request::Module(ModuleCall::List), [yes, yes, yes], no),
            (Request::Module(ModuleCall::Connections), [yes, yes, yes], no),
            (Request::Module(ModuleCall::Expected), [yes, yes, yes], no),
            (Request::Module(ModuleCall::Call(order)), [no, yes, yes], no),
            (Request::Module(ModuleCall::Batch(ModuleBatch::sample(Vec::new()))), [no, yes, yes], no),
            (Request::Module(drain), [no, no, yes], yes),
            (Request::Module(ModuleCall::Allow("a.b".into())), [no, no, yes], yes),
            (canary(CanaryCall::Status(String::new())), [yes, yes, yes], no),
            (canary(CanaryCall::Start(CanaryOrder::new("a", "2"))), [no, no, yes], yes),
            (canary(CanaryCall::Abort("a".into())), [no, no, yes], yes),
            (Request::Announce(Vec::new()), [no, no, yes], no),
            (Request::Keep(Box::new(keep)), [no, no, yes], no),
            (Request::Documents("entry".into()), [no, no, yes], no),
            (registry(Verb::Show), [yes, yes, yes], no),
            (registry(Verb::Health), [yes, yes, yes], no),
            (registry(Verb::Start), [no, yes, yes], yes),
            (registry(Verb::Stop), [no, yes, yes], yes),
            (registry(Verb::Restart), [no, yes, yes], yes),
            (registry(Verb::Reset), [no, yes, yes], yes),
            (registry(Verb::Permit(None)), [no, yes, yes], no),
            (registry(Verb::Register(Box::new(registration))), [no, no, yes], yes),
            (registry(Verb::Unregister), [no, no, yes], yes),
            (registry(Verb::Initialize), [no, no, yes], yes),
            (registry(Verb::Dispose), [no, no, yes], yes),
            (registry(Verb::Replace), [no, no, yes], yes),
            (registry(Verb::Hold("x".into())), [no, no, yes], yes),
            (registry(Verb::Release), [no, no, yes], yes),
            (registry(Verb::Monitor(None)), [no, no, yes], yes),
            (registry(Verb::Unmonitor), [no, no, yes], yes),
            (registry(Verb::Refresh(None)), [no, no, yes], yes),
            (registry(Verb::StopRefresh), [no, no, yes], yes),
            (registry(Verb::ShutDown), [no, no, yes], yes),
            (registry(Verb::Validate), [yes, yes, yes], no),
            (registry(Verb::Discover(Discovery::default())), [no, no, yes], yes),
            (Request::Provider(ProviderCall::List(None)), [yes, yes, yes], no),
            (Request::Provider(ProviderCall::Info(provider())), [yes, yes, yes], no),
            (Request::Provider(ProviderCall::Health(provider())), [yes, yes, yes], no),
            (Request::Provider(ProviderCall::Fetch(provider(), Vec::new())), [no, yes, yes], no),
            (Request::Provider(ProviderCall::Start(provider(), Box::default())), [no, no, yes], yes),
            (Request::Provider(ProviderCall::Stop(provider())), [no, no, yes], yes),
            (Request::Provider(ProviderCall::Reset(provider())), [no, no, yes], yes),
            (Request::Provider(ProviderCall::Replace(provider())), [no, no, yes], yes),
            (Request::Provider(ProviderCall::ShutDown(None)), [no, no, yes], yes),
        ];
        let kinds: std::collections::HashSet<_> =
            matrix.iter().map(|(request, ..)| std::mem::discriminant(request)).collect();
        assert_eq!(kinds.len(), REQUESTS, "every kind of request has a row in the matrix");
        for (request, allowed, changes) in &matrix {
            for (role, allowed) in Role::ALL.into_iter().zip(allowed) {
                let answer = allow(role, request);
                assert_eq!(answer.is_ok(), *allowed, "{role} {request:?}");
                if let Err(e) = answer {
                    assert_eq!(e.code, Code::Refused);
                    assert!(e.message.starts_with(&format!("{role} may not ")), "{e}");
                    assert!(e.message.ends_with(&format!("that needs {}", needs(request))), "{e}");
                }
            }
            assert_eq!(request.change().is_some(), *changes, "{request:?}");
        }
        assert_eq!(
            allow(Role::Viewer, &Request::Stop(Stop::default())).unwrap_err().message,
            "viewer may not stop: that needs operator"
        );
    }
}

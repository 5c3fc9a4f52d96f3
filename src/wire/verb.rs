//! What a request does, in the words of a refusal and of the audit.

use crate::wire::canary::CanaryCall;
use crate::wire::module::ModuleCall;
use crate::wire::provider::ProviderCall;
use crate::wire::registry::Verb;
use crate::wire::request::{EnvChange, Request};

impl Request {
    /// What it does, as a verb: `stop`, `read the output`.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Start(_) => "start a new process",
            Self::StartAgain(_) => "start",
            Self::Update(_) => "change how a process is run",
            Self::Definitions(_) => "see or change how processes are run",
            Self::Stop(_) => "stop",
            Self::Restart(_) => "restart",
            Self::Remove(_) => "remove",
            Self::Signal(_) => "signal",
            Self::Wait(_) => "wait",
            Self::Status(_) => "ask for the status",
            Self::List(_) => "list",
            Self::Output(_) | Self::Stream(_) | Self::Follow(_) => "read output",
            Self::Hold(_) => "have output wait",
            Self::Env(change) if *change == EnvChange::default() => "see the environment",
            Self::Env(_) => "change the environment",
            Self::Events(_) => "read events",
            Self::AuditLog(_) => "read the audit",
            Self::Note(_) => "put a note into the audit",
            Self::Service => "ask about the service",
            Self::Upgrade(_) => "upgrade the service",
            Self::Health => "ask how the service is",
            Self::Host => "run the host of providers",
            Self::GrpcListener => "take the socket for gRPC",
            Self::GatewaySetup { .. } => "take what the gateway works with",
            Self::Reload => "reload the configuration",
            Self::GrpcProbe(_) => "probe by gRPC",
            Self::Module(call) => match call {
                ModuleCall::List | ModuleCall::Connections | ModuleCall::Expected => "list modules",
                ModuleCall::Call(_) | ModuleCall::Batch(_) => "call a module",
                ModuleCall::Canary(CanaryCall::Status(_)) => "see canaries of modules",
                ModuleCall::Canary(CanaryCall::Start(_)) => "start a canary of modules",
                ModuleCall::Canary(CanaryCall::Abort(_)) => "abort a canary of modules",
                ModuleCall::Drain { .. } => "drain a provider of modules",
                ModuleCall::Allow(_) => "allow other types of a module",
            },
            Self::Announce(_) => "add events",
            Self::Keep(_) => "have a document kept",
            Self::Documents(_) => "read documents",
            Self::Registry(call) => match &call.verb {
                Verb::Show => "list the registry",
                Verb::Register(_) => "register a provider",
                Verb::Unregister => "unregister a provider",
                Verb::Initialize => "initialize a provider",
                Verb::Dispose => "dispose of a provider",
                Verb::Start => "start a provider",
                Verb::Stop => "stop a provider",
                Verb::Restart => "restart a provider",
                Verb::Replace => "replace a provider",
                Verb::Reset => "reset a provider",
                Verb::Health => "ask about a provider",
                Verb::Hold(_) => "hold a circuit breaker",
                Verb::Release => "release a circuit breaker",
                Verb::ShutDown => "shut down the registry",
                Verb::Discover(_) | Verb::Validate | Verb::Refresh(_) | Verb::StopRefresh => {
                    "discover providers"
                }
                Verb::Permit(_) | Verb::Report(_) | Verb::Chain(_) => "call a provider",
                Verb::Monitor(_) | Verb::Unmonitor => "change how a provider is monitored",
            },
            Self::Provider(call) => match call.plain() {
                ProviderCall::Start(..) => "start a provider",
                ProviderCall::Fetch(..) => "fetch from a provider",
                ProviderCall::Info(_) | ProviderCall::Health(_) => "ask about a provider",
                ProviderCall::List(_) => "list providers",
                ProviderCall::Stop(_) => "stop a provider",
                ProviderCall::Reset(_) => "reset a provider",
                ProviderCall::Replace(_) => "replace a provider",
                ProviderCall::ShutDown(_) => "shut down providers",
                ProviderCall::Louder(..) => "ask a provider",
            },
        }
    }
}

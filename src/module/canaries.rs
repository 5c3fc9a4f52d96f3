//! What is asked about canaries.

use crate::module::names::check_namespace;
use crate::module::plane::canary_news::CanaryRefused;
use crate::module::shared::Shared;
use crate::sys::clock;
use crate::wire::canary::CanaryCall;
use crate::wire::error::{Code, Error};
use crate::wire::module::ModuleAnswer;

/// Answers when what was asked for is noted.
pub fn answer(shared: &Shared, call: CanaryCall, who: &str) -> Result<ModuleAnswer, Error> {
    let namespace = match call {
        CanaryCall::Status(namespace) => namespace,
        CanaryCall::Start(order) => {
            let namespace = order.namespace.clone();
            check_namespace(&namespace).map_err(Error::usage)?;
            shared
                .with(|plane| plane.start_canary(order, who, clock::now_ms()))
                .map_err(|why| refused(why, &namespace))?;
            shared.until_noted()?;
            namespace
        }
        CanaryCall::Abort(namespace) => {
            shared
                .with(|plane| plane.abort_canary(&namespace, who, clock::now_ms()))
                .map_err(|why| refused(why, &namespace))?;
            shared.until_noted()?;
            namespace
        }
    };
    Ok(ModuleAnswer::Canaries(shared.with(|plane| plane.canaries(&namespace, clock::now_ms()))))
}

fn refused(why: CanaryRefused, namespace: &str) -> Error {
    match why {
        CanaryRefused::NoMembers => {
            Error::new(Code::NotFound, format!("nobody has registered modules of {namespace:.200}"))
                .reason("module_not_found")
                .hint("'provost module connections' shows who has registered what")
        }
        CanaryRefused::Alone => {
            let e =
                format!("namespace {namespace} belongs to one provider alone, and a canary needs a group");
            Error::new(Code::Refused, e).hint("providers that register with the same group_id share it")
        }
        CanaryRefused::Running(version) => {
            let e = format!("a canary of {namespace}, version {version:.80}, runs already");
            Error::new(Code::No, e).hint(format!("'provost module canary abort {namespace}' ends it"))
        }
        CanaryRefused::NotRunning => {
            Error::new(Code::NotFound, format!("no canary of {namespace:.200} runs"))
                .hint("'provost module canary status' shows all")
        }
        CanaryRefused::TooMany => Error::new(Code::Refused, "there are as many canaries as there can be")
            .hint("'provost module canary abort' ends one"),
    }
}

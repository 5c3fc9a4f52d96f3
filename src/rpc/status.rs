//! Errors as gRPC statuses and back: the one place that maps codes to them. The details make the way back
//! exact.

use std::collections::HashMap;
use std::time::Duration;

use grpcio::{RpcStatus, RpcStatusCode};
use prost::Message;
use prost_types::Any;

use crate::rpc::api::Invalid;
use crate::rpc::services::status::bad_request::FieldViolation;
use crate::rpc::services::status::{BadRequest, ErrorInfo, RetryInfo, Status};
use crate::wire::error::{ADMIN_ONLY, Code, Detail, Error};

/// The domain of our reasons.
const DOMAIN: &str = "provost.internal";
/// What an [`ErrorInfo`] is called inside of `Any`.
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
/// The longest message of a status, in bytes: it travels in a header, of which clients take 8 KiB.
const MESSAGE_LEN_MAX: usize = 2 << 10;

/// A reason that is none of the codes: the gateway's own refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Wrong or no user and password.
    Credentials,
    /// The role does not allow it.
    Role,
    /// Too many at once.
    Busy,
    /// Too many failed logins, for so long yet.
    Throttled { for_ms: u64 },
    /// The answer does not fit into one message.
    TooLarge,
    /// A defect of ours.
    Internal,
}

impl Reason {
    fn status(self) -> (RpcStatusCode, &'static str) {
        match self {
            Self::Credentials => (RpcStatusCode::PERMISSION_DENIED, "CREDENTIALS"),
            Self::Role => (RpcStatusCode::PERMISSION_DENIED, "ROLE"),
            Self::Busy => (RpcStatusCode::RESOURCE_EXHAUSTED, "BUSY"),
            Self::Throttled { .. } => (RpcStatusCode::RESOURCE_EXHAUSTED, "THROTTLED"),
            Self::TooLarge => (RpcStatusCode::RESOURCE_EXHAUSTED, "TOO_LARGE"),
            Self::Internal => (RpcStatusCode::INTERNAL, "INTERNAL"),
        }
    }

    /// When to come again, for what passes by itself.
    fn retry(self) -> Option<Any> {
        let after = match self {
            Self::Busy => Duration::from_secs(1),
            Self::Throttled { for_ms } => Duration::from_millis(for_ms),
            Self::Credentials | Self::Role | Self::TooLarge | Self::Internal => return None,
        };
        Some(any(RETRY_INFO, &RetryInfo { retry_delay: after.try_into().ok() }))
    }
}

/// None: it is not known when.
fn retry(after_ms: u32) -> Option<Any> {
    let after = Duration::from_millis(after_ms.into());
    (after_ms > 0).then(|| any(RETRY_INFO, &RetryInfo { retry_delay: after.try_into().ok() }))
}

/// The status that an error is.
pub(crate) fn of(error: &Error) -> RpcStatus {
    let code = match error.code {
        Code::Usage => RpcStatusCode::INVALID_ARGUMENT,
        Code::NotFound => RpcStatusCode::NOT_FOUND,
        Code::TimedOut => RpcStatusCode::DEADLINE_EXCEEDED,
        Code::Refused if error.reason == ADMIN_ONLY => RpcStatusCode::PERMISSION_DENIED,
        // Too much is under way, and it may be asked again.
        Code::Refused if error.reason == "busy" => RpcStatusCode::RESOURCE_EXHAUSTED,
        Code::Refused | Code::No | Code::CannotExecute | Code::ProgramNotFound => {
            RpcStatusCode::FAILED_PRECONDITION
        }
        Code::Unreachable => RpcStatusCode::UNAVAILABLE,
        Code::Failed | Code::Partial => RpcStatusCode::ABORTED,
    };
    let reason = if error.reason.is_empty() { &error.code.name().to_uppercase() } else { &error.reason };
    detailed(code, reason, error, details(error).or_else(|| retry(error.retry_after_ms)))
}

/// What is wrong in what was given, as much of it as a header has room for.
fn details(error: &Error) -> Option<Any> {
    let mut room = MESSAGE_LEN_MAX;
    let fits = |d: &&Detail| {
        let len = d.path.len() + d.message.len();
        room = room.saturating_sub(len);
        room > 0
    };
    let violation = |d: &Detail| FieldViolation { field: cut(&d.path), description: cut(&d.message) };
    let field_violations: Vec<_> = error.wrong().iter().take_while(fits).map(violation).collect();
    (!field_violations.is_empty()).then(|| any(BAD_REQUEST, &BadRequest { field_violations }))
}

impl From<Error> for RpcStatus {
    fn from(error: Error) -> Self {
        of(&error)
    }
}

/// A request that is wrong in one of its fields.
pub(crate) fn invalid(invalid: &Invalid) -> RpcStatus {
    let violation = FieldViolation { field: invalid.field.clone(), description: cut(&invalid.error.message) };
    let more = any(BAD_REQUEST, &BadRequest { field_violations: vec![violation] });
    let error = &invalid.error;
    detailed(RpcStatusCode::INVALID_ARGUMENT, &error.code.name().to_uppercase(), error, Some(more))
}

/// A refusal of the gateway's own.
pub(crate) fn refusal(reason: Reason, error: &Error) -> RpcStatus {
    let (code, name) = reason.status();
    detailed(code, name, error, reason.retry())
}

fn detailed(code: RpcStatusCode, reason: &str, error: &Error, more: Option<Any>) -> RpcStatus {
    let message = cut(&error.message);
    let hint = (!error.hint.is_empty()).then(|| ("hint".to_owned(), cut(&error.hint)));
    // A reason that is more exact does not tell the code.
    let code_name = (!error.reason.is_empty()).then(|| ("code".to_owned(), error.code.name().to_owned()));
    let info = ErrorInfo {
        reason: reason.to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: hint.into_iter().chain(code_name).collect::<HashMap<_, _>>(),
    };
    let details = [any(ERROR_INFO, &info)].into_iter().chain(more).collect();
    let details = Status { code: code.into(), message: message.clone(), details };
    RpcStatus::with_details(code, message, details.encode_to_vec())
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: name.to_owned(), value: message.encode_to_vec() }
}

/// The C core ends the process over a message with a NUL.
fn cut(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_LEN_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', " ")
}

/// Whether a reason is one of [`Error::reason`], not a code.
fn is_exact(reason: &str) -> bool {
    reason.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// The error that a status is.
pub(crate) fn error(status: &RpcStatus) -> Error {
    let sent = Status::decode(status.details()).map(|s| s.details).unwrap_or_default();
    let value = |name: &str| sent.iter().find(|any| any.type_url == name).map(|any| any.value.as_slice());
    let info = value(ERROR_INFO)
        .and_then(|value| ErrorInfo::decode(value).ok())
        .filter(|info| info.domain == DOMAIN);
    let request = value(BAD_REQUEST).and_then(|value| BadRequest::decode(value).ok()).unwrap_or_default();
    let detail = |v: FieldViolation| Detail { path: v.field, message: v.description };
    let details = request.field_violations.into_iter().map(detail).collect();
    let retry = value(RETRY_INFO).and_then(|v| RetryInfo::decode(v).ok()?.retry_delay);
    let after = retry.and_then(|delay| Duration::try_from(delay).ok()).unwrap_or_default();
    let hint = info.as_ref().and_then(|info| info.metadata.get("hint").cloned()).unwrap_or_default();
    let reason = info.as_ref().map(|info| info.reason.clone()).filter(|reason| is_exact(reason));
    let named = info.and_then(|info| {
        let name = info.metadata.get("code").cloned().unwrap_or_else(|| info.reason.to_lowercase());
        Code::ALL.into_iter().find(|c| c.name() == name)
    });
    let code = named.unwrap_or(match status.code() {
        RpcStatusCode::INVALID_ARGUMENT => Code::Usage,
        RpcStatusCode::NOT_FOUND => Code::NotFound,
        RpcStatusCode::DEADLINE_EXCEEDED => Code::TimedOut,
        RpcStatusCode::PERMISSION_DENIED
        | RpcStatusCode::UNAUTHENTICATED
        | RpcStatusCode::FAILED_PRECONDITION
        | RpcStatusCode::RESOURCE_EXHAUSTED
        | RpcStatusCode::UNIMPLEMENTED => Code::Refused,
        RpcStatusCode::UNAVAILABLE | RpcStatusCode::CANCELLED => Code::Unreachable,
        _ => Code::Failed,
    });
    let message =
        if status.message().is_empty() { status.code().to_string() } else { status.message().to_owned() };
    let error = Error::new(code, message).hint(hint).reason(reason.unwrap_or_default()).details(details);
    Error { retry_after_ms: u32::try_from(after.as_millis()).unwrap_or(u32::MAX), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_busy_is_exhausted() {
        let sent = Error::new(Code::Refused, "too many calls").reason("busy");
        let status = of(&sent);
        assert_eq!((status.code(), error(&status)), (RpcStatusCode::RESOURCE_EXHAUSTED, sent));
    }

    #[test]
    fn every_code_comes_back_with_its_hint() {
        for code in Code::ALL {
            let sent = Error::new(code, "what happened").hint("what to do");
            assert_eq!(error(&of(&sent)), sent);
            let detail = |path: &str| Detail { path: path.to_owned(), message: "is not there".to_owned() };
            let exact = sent.clone().reason("crashed").details(vec![detail(""), detail("/a/0")]);
            assert_eq!(error(&of(&exact)), exact);
            let later = Error { retry_after_ms: 1500, ..sent };
            assert_eq!(error(&of(&later)), later);
        }
    }

    #[test]
    fn what_a_core_cannot_take_is_taken_out() {
        let sent = Error::new(Code::Failed, format!("a\0{}", "ä".repeat(MESSAGE_LEN_MAX)));
        let status = of(&sent);
        assert!(status.message().len() <= MESSAGE_LEN_MAX && !status.message().contains('\0'));
    }

    #[test]
    fn a_refusal_is_permission_denied() {
        let status = refusal(Reason::Role, &Error::new(Code::Refused, "no"));
        assert_eq!(status.code(), RpcStatusCode::PERMISSION_DENIED);
        assert_eq!(error(&status).code, Code::Refused);
        let sent = Error::new(Code::Refused, "no").reason(ADMIN_ONLY);
        assert_eq!(of(&sent).code(), RpcStatusCode::PERMISSION_DENIED);
        assert_eq!(error(&of(&sent)), sent);
    }
}

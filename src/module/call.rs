//! A call of a module: the input is checked before it leaves, the output before it is given back, and who
//! cannot be reached is passed over for the next member of the group.

use std::time::Duration;

use bytes::Bytes;

use crate::module::executors::ExecuteFailure;
use crate::module::plane::connection::Module;
use crate::module::plane::turns::{Ended, Member, NoMember, Said};
use crate::module::request;
use crate::module::shared::Shared;
use crate::rpc::codec::Encoded;
use crate::rpc::services::constellation::ExecuteRequest;
use crate::sdk::module::json::{Json, object};
use crate::sdk::module::schema::Type;
use crate::sdk::module::value;
use crate::sys::clock;
use crate::wire::error::{Code, Error};
use crate::wire::module::ModuleOrder;
use crate::wire::time::millis;

/// A member that had less time than this says nothing by its silence, ms.
const FAIR_MS: u64 = 500;

/// By how many members in a row a call may be given up before the next attempt has to be earned.
const GIVEN_UP_MAX: u32 = 5;

/// What the tags of a small value take, in bytes.
const TAGS_LEN: usize = 1024;

/// What a call is given back, as JSON.
pub fn call(shared: &Shared, order: &ModuleOrder) -> Result<Vec<u8>, Error> {
    let deadline = clock::now_ms() + millis(order.timeout);
    let module =
        shared.with(|plane| plane.module(&order.name)).ok_or_else(|| none(&order.name, NoMember::Unknown))?;
    // Members of a group have the same types, so this is done once.
    let mut request = encoded(order, &module.input).map_err(|why| Failure::Input(why).error(order))?;
    let (mut tried, mut given_up): (Vec<String>, u32) = (Vec::new(), 0);
    loop {
        let member = shared.member(&order.name, &tried, deadline).map_err(|why| none(&order.name, why))?;
        let (id, begun) = (member.id.clone(), clock::now_ns());
        // It may have waited for its turn, or another member may have had the most of its time.
        let left_ms = deadline.saturating_sub(clock::now_ms());
        let result = execute(shared, &member, &request, left_ms)
            .and_then(|output| shown(&output, &module, order.tagged));
        shared.done(member, ended(&result, left_ms, begun));
        match result {
            // Who leaves says nothing about the others, so that this is no retry that has to be earned.
            Err(Failure::Execute(ExecuteFailure::GivenUp)) if given_up < GIVEN_UP_MAX => {
                given_up += 1;
                tried.push(id);
                request = request::again(request).map_err(|e| Failure::Input(e.to_string()).error(order))?;
            }
            // The last failure is what is told when there is no time, no budget or nobody left.
            Err(Failure::Execute(ExecuteFailure::Unreached(_) | ExecuteFailure::GivenUp))
                if shared.with(|plane| plane.may_retry(&order.name, clock::now_ms())) =>
            {
                tried.push(id);
                request = request::again(request).map_err(|e| Failure::Input(e.to_string()).error(order))?;
            }
            result => return result.map_err(|failure| failure.error(order)),
        }
    }
}

/// What is said of it, where nobody else has taken the call.
const GIVEN_UP: &str = "the executor has given the call up";

enum Failure {
    Input(String),
    Output(String),
    Execute(ExecuteFailure),
}

/// How an attempt has ended, for the record of the member, which had so much time for it.
fn ended(result: &Result<Vec<u8>, Failure>, left_ms: u64, begun_ns: u64) -> Ended {
    let said = match result {
        Ok(_) | Err(Failure::Execute(ExecuteFailure::Failed { .. })) => Said::Answered,
        Err(Failure::Input(_)) => Said::Nothing,
        Err(Failure::Output(_)) => Said::Broken,
        Err(Failure::Execute(ExecuteFailure::Unreached(_) | ExecuteFailure::GivenUp)) => Said::Unreached,
        Err(Failure::Execute(ExecuteFailure::Deadline)) if left_ms >= FAIR_MS => Said::Silent,
        Err(Failure::Execute(ExecuteFailure::Deadline | ExecuteFailure::TooLarge(_))) => Said::Nothing,
        Err(Failure::Execute(ExecuteFailure::Refused(_))) => Said::Broken,
    };
    let took_us = clock::now_ns().saturating_sub(begun_ns) / 1000;
    Ended { said, error: result.as_ref().err().map(Failure::text), took_us }
}

fn execute(
    shared: &Shared,
    member: &Member,
    request: &Encoded<ExecuteRequest>,
    left_ms: u64,
) -> Result<Bytes, Failure> {
    if left_ms == 0 {
        return Err(Failure::Execute(ExecuteFailure::Deadline));
    }
    let left = Duration::from_millis(left_ms);
    shared.executors.execute(&member.id, &member.executor, request, left).map_err(Failure::Execute)
}

/// What is given back of an output that is of the module's type.
fn shown(output: &[u8], module: &Module, tagged: bool) -> Result<Vec<u8>, Failure> {
    let len = output.len();
    let shown = |output: Json<'_>| {
        let whole = tagged.then(|| output.to_bytes(len));
        let plain = value::to_plain(output, &module.output)?;
        Ok(whole.unwrap_or_else(|| plain.to_bytes(len)))
    };
    value::read(output, shown).map_err(Failure::Output)
}

/// The message with the input as executors take it: a record of the parameters. What is no record is the one
/// called `input`.
fn encoded(order: &ModuleOrder, of: &Type) -> Result<Encoded<ExecuteRequest>, String> {
    let len = order.input.len() + TAGS_LEN;
    value::read(&order.input, |input| {
        let tagged = match of {
            Type::Record(_) => value::to_tagged(input, of),
            _ => value::to_tagged(object([("input", input)]), &Type::Record(of.parameters())),
        };
        Ok(request::message(&request::head(order), &tagged?, len))
    })
}

impl Failure {
    /// For the record of the member.
    fn text(&self) -> String {
        match self {
            Self::Input(why) | Self::Output(why) => why.clone(),
            Self::Execute(
                ExecuteFailure::Unreached(why) | ExecuteFailure::Refused(why) | ExecuteFailure::TooLarge(why),
            ) => why.clone(),
            Self::Execute(ExecuteFailure::GivenUp) => GIVEN_UP.to_owned(),
            Self::Execute(ExecuteFailure::Deadline) => "no answer in time".to_owned(),
            Self::Execute(ExecuteFailure::Failed { code, message, .. }) => format!("[{code}] {message}"),
        }
    }

    fn error(self, order: &ModuleOrder) -> Error {
        let name = &order.name;
        let (code, reason, why) = match self {
            Self::Input(why) => (Code::Usage, "input_mismatch", format!("the input does not fit: {why}")),
            Self::Output(why) => (Code::Failed, "output_mismatch", format!("the output does not fit: {why}")),
            Self::Execute(ExecuteFailure::Deadline) => {
                (Code::TimedOut, "timeout", format!("no answer within {} ms", millis(order.timeout)))
            }
            Self::Execute(
                ExecuteFailure::Unreached(why) | ExecuteFailure::Refused(why) | ExecuteFailure::TooLarge(why),
            ) => (Code::Failed, "transport", why),
            Self::Execute(ExecuteFailure::GivenUp) => (Code::Failed, "transport", GIVEN_UP.to_owned()),
            Self::Execute(ExecuteFailure::Failed { code, message, stack_trace }) => {
                let (exit, reason) = match &*code {
                    "TYPE_ERROR" => (Code::Usage, "type_error"),
                    "TIMEOUT" => (Code::TimedOut, "timeout"),
                    "MODULE_NOT_FOUND" => (Code::NotFound, "module_not_found"),
                    _ => (Code::Failed, "runtime_error"),
                };
                let e = Error::new(exit, format!("module {name} failed: [{code:.40}] {message:.2000}"));
                return e.reason(reason).hint(format!("{stack_trace:.2000}"));
            }
        };
        let shown = Error::new(code, format!("module {name}: {why:.2000}")).reason(reason);
        if code == Code::Usage {
            shown.hint(format!("'provost module schema {name}' shows its types"))
        } else {
            shown
        }
    }
}

fn none(name: &str, why: NoMember) -> Error {
    match why {
        NoMember::Unknown => Error::new(Code::NotFound, format!("there is no module {name:.200}"))
            .reason("module_not_found")
            .hint("'provost module list' shows all"),
        NoMember::Busy(why) => {
            let why = format!("module {name:.200}: all executors are busy: {why:.2000}");
            Error::new(Code::Refused, why)
                .reason("busy")
                .hint("'member_calls' and 'member_queue' of [modules] are the limits")
        }
        NoMember::NoneHealthy(why) => {
            Error::new(Code::Failed, format!("module {name:.200}: no healthy executors: {why:.2000}"))
                .reason("no_healthy_executors")
                .hint("'provost module connections' shows how each is")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_had_time_enough_is_silent() {
        for (left_ms, said) in [(0, Said::Nothing), (FAIR_MS - 1, Said::Nothing), (FAIR_MS, Said::Silent)] {
            let result = Err(Failure::Execute(ExecuteFailure::Deadline));
            assert_eq!(ended(&result, left_ms, clock::now_ns()).said, said, "{left_ms} ms");
        }
    }
}

//! A call of a module: the input is checked before it leaves, the output before it is given back, and who
//! cannot be reached is passed over for the next member of the group.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::module::executors::ExecuteFailure;
use crate::module::plane::{Member, NoMember};
use crate::module::schema::Type;
use crate::module::shared::Shared;
use crate::module::value;
use crate::rpc::services::constellation::ExecuteRequest;
use crate::sys::clock;
use crate::wire::error::{Code, Error};
use crate::wire::module::ModuleOrder;
use crate::wire::time::millis;

/// What a call is given back, as JSON.
pub fn call(shared: &Arc<Shared>, order: &ModuleOrder) -> Result<Vec<u8>, Error> {
    let deadline = clock::now_ms() + millis(order.timeout);
    let mut tried: Vec<String> = Vec::new();
    loop {
        let member =
            shared.with(|plane| plane.next(&order.name, &tried)).map_err(|why| none(&order.name, why))?;
        let result = execute(shared, &member, order, deadline);
        let error = result.as_ref().err().map(|failure| failure.text());
        // One that has gone meanwhile leaves no channel.
        if !shared.with(|plane| plane.done(&member.id, error)) {
            shared.executors.forget(&member.id);
        }
        match result {
            Err(Failure::Execute(ExecuteFailure::Unreached(_))) => tried.push(member.id),
            result => return result.map_err(|failure| failure.error(order)),
        }
    }
}

enum Failure {
    Input(String),
    Output(String),
    Execute(ExecuteFailure),
}

fn execute(shared: &Shared, member: &Member, order: &ModuleOrder, deadline: u64) -> Result<Vec<u8>, Failure> {
    let input = tagged_input(&order.input, &member.module.input).map_err(Failure::Input)?;
    let name = order.name.rsplit_once('.').map_or(&*order.name, |(_, name)| name);
    let request = ExecuteRequest {
        module_name: name.to_owned(),
        input_data: input.to_string().into_bytes(),
        execution_id: Uuid::new_v4().to_string(),
        metadata: HashMap::new(),
    };
    let left = deadline.saturating_sub(clock::now_ms());
    if left == 0 {
        return Err(Failure::Execute(ExecuteFailure::Deadline));
    }
    let left = std::time::Duration::from_millis(left);
    let output =
        shared.executors.execute(&member.id, &member.executor, &request, left).map_err(Failure::Execute)?;
    let output: Value = serde_json::from_slice(&output).map_err(|e| Failure::Output(e.to_string()))?;
    let plain = value::to_plain(&output, &member.module.output).map_err(Failure::Output)?;
    let shown = if order.tagged { output } else { plain };
    Ok(shown.to_string().into_bytes())
}

/// The input as executors take it: a record of the parameters. What is no record is the one called `input`.
fn tagged_input(input: &[u8], of: &Type) -> Result<Value, String> {
    let input: Value = serde_json::from_slice(input).map_err(|e| format!("it is no JSON: {e}"))?;
    match of {
        Type::Record(_) => value::to_tagged(&input, of),
        _ => value::to_tagged(&json!({ "input": input }), &Type::Record(of.parameters())),
    }
}

impl Failure {
    /// For the record of the member.
    fn text(&self) -> String {
        match self {
            Self::Input(why) | Self::Output(why) => why.clone(),
            Self::Execute(ExecuteFailure::Unreached(why) | ExecuteFailure::Refused(why)) => why.clone(),
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
            Self::Execute(ExecuteFailure::Unreached(why) | ExecuteFailure::Refused(why)) => {
                (Code::Failed, "transport", why)
            }
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
        NoMember::NoneHealthy(why) => {
            Error::new(Code::Failed, format!("module {name:.200}: no healthy executors: {why:.2000}"))
                .reason("no_healthy_executors")
                .hint("'provost module connections' shows how each is")
        }
    }
}

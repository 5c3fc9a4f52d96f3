//! What an executor is sent. The input is written into the message itself, as it may be large.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use uuid::Uuid;

use crate::rpc::codec::Encoded;
use crate::rpc::services::constellation::ExecuteRequest;
use crate::sdk::module::json::Json;
use crate::wire::module::ModuleOrder;

/// The number of `ExecuteRequest.input_data`.
const INPUT_DATA: u32 = 2;

/// A message with everything but the input.
pub fn head(order: &ModuleOrder) -> ExecuteRequest {
    let (_, name) = order.name.rsplit_once('.').unwrap_or(("", &order.name));
    ExecuteRequest {
        module_name: name.to_owned(),
        execution_id: new_id(),
        metadata: order.metadata.iter().cloned().collect(),
        ..ExecuteRequest::default()
    }
}

/// The whole message. The input will be about `len` bytes long.
pub fn message(head: &ExecuteRequest, input: &Json<'_>, len: usize) -> Encoded<ExecuteRequest> {
    let mut out = Vec::with_capacity(head.encoded_len() + len);
    head.encode(&mut out).expect("memory takes it");
    encode_key(INPUT_DATA, WireType::LengthDelimited, &mut out);
    let length_at = out.len();
    // Most often as many bytes as the true one.
    encode_varint(len as u64, &mut out);
    let input_at = out.len();
    input.write(&mut out);
    let mut length = Vec::new();
    encode_varint((out.len() - input_at) as u64, &mut length);
    out.splice(length_at..input_at, length);
    out.shrink_to_fit();
    Encoded::of(out)
}

/// The same as an execution of its own.
pub fn again(message: Encoded<ExecuteRequest>) -> grpcio::Result<Encoded<ExecuteRequest>> {
    let known = message.decode()?;
    Ok(Encoded::new(&ExecuteRequest { execution_id: new_id(), ..known }))
}

fn new_id() -> String {
    Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_message_has_its_input_however_long_it_was_thought_to_be() {
        let order = ModuleOrder {
            name: "a.b.echo".to_owned(),
            input: Vec::new(),
            timeout: Duration::ZERO,
            tagged: false,
            metadata: vec![("traceparent".to_owned(), "00-1".to_owned())],
        };
        for (text, thought) in [("", 0), ("x", 1 << 20), (&*"x".repeat(1 << 20), 1), (&*"x".repeat(200), 200)]
        {
            let input = Json::Text(text.into());
            let sent = message(&head(&order), &input, thought);
            let first = message(&head(&order), &input, thought).decode().unwrap();
            let second = again(sent).unwrap().decode().unwrap();
            assert_ne!(first.execution_id, second.execution_id);
            assert_eq!((&*first.module_name, &first.metadata["traceparent"][..]), ("echo", "00-1"));
            assert_eq!(first.input_data, format!("\"{text}\""));
            assert_eq!(ExecuteRequest { execution_id: first.execution_id.clone(), ..second }, first);
        }
    }
}

//! Server reflection, under both of its names: tells tools what services there are, from what was known at
//! build time. Nothing of it is secret, so a certificate is enough.

use futures_util::{SinkExt, TryStreamExt};
use grpcio::{DuplexSink, RequestStream, RpcContext, RpcStatus, RpcStatusCode, WriteFlags};

use crate::gateway::calls::Calls;
use crate::rpc::codec::Encoded;
use crate::rpc::services::descriptors::{FILES, SERVICES, SYMBOLS};
use crate::rpc::services::reflection::server_reflection_request::MessageRequest as Ask;
use crate::rpc::services::reflection::server_reflection_response::MessageResponse as Answer;
use crate::rpc::services::reflection::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse, ServerReflection,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};
use crate::rpc::services::reflection_alpha::ServerReflection as OlderReflection;
use crate::wire::error::Error;

type Requests = RequestStream<Encoded<ServerReflectionRequest>>;

/// The most bytes of a question: it is a name, and read on the completion thread.
const REQUEST_LEN_MAX: usize = 4 << 10;
type Responses = DuplexSink<ServerReflectionResponse>;

impl ServerReflection for Calls {
    fn server_reflection_info(&mut self, ctx: RpcContext<'_>, requests: Requests, responses: Responses) {
        answer_all(self, &ctx, requests, responses);
    }
}

impl OlderReflection for Calls {
    fn server_reflection_info(&mut self, ctx: RpcContext<'_>, requests: Requests, responses: Responses) {
        answer_all(self, &ctx, requests, responses);
    }
}

/// On the completion thread: an answer is a look into a table. Questions are read when the credentials have
/// been looked at.
fn answer_all(calls: &Calls, ctx: &RpcContext<'_>, mut requests: Requests, mut responses: Responses) {
    let allowed = calls.allowed(ctx);
    ctx.spawn(async move {
        if let Err(refusal) = allowed.await {
            drop(responses.fail(refusal).await);
            return;
        }
        while let Ok(Some(request)) = requests.try_next().await {
            let request = match decoded(request) {
                Ok(request) => request,
                Err(status) => return drop(responses.fail(status).await),
            };
            if responses.send((answer(request), WriteFlags::default())).await.is_err() {
                return;
            }
        }
        let _ = responses.close().await;
    });
}

fn decoded(request: Encoded<ServerReflectionRequest>) -> Result<ServerReflectionRequest, RpcStatus> {
    let short = (request.len() <= REQUEST_LEN_MAX).then_some(request);
    short.and_then(|request| request.decode().ok()).ok_or_else(|| {
        Error::usage(format!("a question of reflection has at most {REQUEST_LEN_MAX} bytes")).into()
    })
}

fn answer(request: ServerReflectionRequest) -> ServerReflectionResponse {
    let answer = match &request.message_request {
        Some(Ask::ListServices(_)) => Answer::ListServicesResponse(ListServiceResponse {
            service: SERVICES.iter().map(|&name| ServiceResponse { name: name.to_owned() }).collect(),
        }),
        Some(Ask::FileByFilename(name)) => file(FILES.iter().position(|(n, ..)| n == name)),
        Some(Ask::FileContainingSymbol(symbol)) => file(find(symbol)),
        // There are no extensions: proto3.
        Some(Ask::AllExtensionNumbersOfType(name)) if find(name).is_some() => {
            Answer::AllExtensionNumbersResponse(ExtensionNumberResponse {
                base_type_name: name.clone(),
                extension_number: Vec::new(),
            })
        }
        Some(Ask::FileContainingExtension(_) | Ask::AllExtensionNumbersOfType(_)) => file(None),
        None => error(RpcStatusCode::INVALID_ARGUMENT, "nothing is asked"),
    };
    ServerReflectionResponse {
        valid_host: request.host.clone(),
        original_request: Some(request),
        message_response: Some(answer),
    }
}

fn find(symbol: &str) -> Option<usize> {
    let symbol = symbol.strip_prefix('.').unwrap_or(symbol);
    SYMBOLS.binary_search_by(|(name, _)| (*name).cmp(symbol)).ok().map(|at| SYMBOLS[at].1)
}

/// A file, and behind it those that it imports.
fn file(at: Option<usize>) -> Answer {
    let Some(at) = at else { return error(RpcStatusCode::NOT_FOUND, "there is no such name") };
    let mut wanted = vec![FILES[at].0];
    let mut files = Vec::new();
    let mut next = 0;
    while let Some(&name) = wanted.get(next) {
        next += 1;
        if let Some((_, imports, bytes)) = FILES.iter().find(|(n, ..)| *n == name) {
            files.push(bytes.to_vec());
            wanted.extend(imports.iter().filter(|i| !wanted.contains(i)).copied().collect::<Vec<_>>());
        }
    }
    Answer::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto: files })
}

fn error(code: RpcStatusCode, message: &str) -> Answer {
    Answer::ErrorResponse(ErrorResponse { error_code: code.into(), error_message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_found_with_all_that_it_imports() {
        for service in SERVICES {
            let Answer::FileDescriptorResponse(found) = file(find(service)) else { panic!("{service}") };
            assert!(!found.file_descriptor_proto.is_empty());
        }
        let Answer::FileDescriptorResponse(found) = file(find("provost.v1.ProcessService.Start")) else {
            panic!("no method")
        };
        assert_eq!(found.file_descriptor_proto.len(), 6);
        assert_eq!(find("provost.v1.Nothing"), None);
    }
}

//! `provost.v1.ProviderService`: which way each method's call goes. What may start a provider takes a while.

use grpcio::{RpcContext, ServerStreamingSink, UnarySink};

use crate::gateway::calls::Calls;
use crate::rpc::codec::Encoded;
use crate::rpc::services::public as api;
use crate::rpc::services::public::ProviderService;

macro_rules! methods {
    ($($method:ident: $way:ident($request:ident) -> $sink:ident<$answer:ident>;)*) => {
        impl ProviderService for Calls {
            $(fn $method(
                &mut self,
                ctx: RpcContext<'_>,
                request: Encoded<api::$request>,
                sink: $sink<api::$answer>,
            ) {
                self.$way(&ctx, request, sink);
            })*
        }
    };
}

methods! {
    start_provider: later(StartProviderRequest) -> ServerStreamingSink<StartProviderResponse>;
    fetch_value: later(FetchValueRequest) -> ServerStreamingSink<FetchValueResponse>;
    provider_info: later(ProviderInfoRequest) -> ServerStreamingSink<ProviderInfoResponse>;
    provider_health: later(ProviderHealthRequest) -> ServerStreamingSink<ProviderHealthResponse>;
    list_providers: at_once(ListProvidersRequest) -> UnarySink<ListProvidersResponse>;
    stop_provider: later(StopProviderRequest) -> ServerStreamingSink<StopProviderResponse>;
    reset_provider: at_once(ResetProviderRequest) -> UnarySink<ResetProviderResponse>;
    replace_provider: later(ReplaceProviderRequest) -> ServerStreamingSink<ReplaceProviderResponse>;
    shut_down_providers: later(ShutDownProvidersRequest) -> ServerStreamingSink<ShutDownProvidersResponse>;
}

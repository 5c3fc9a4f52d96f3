//! The services of `provost.v1`: which way the call of each method goes.

use grpcio::{RpcContext, ServerStreamingSink, UnarySink};

use crate::gateway::calls::Calls;
use crate::rpc::codec::Encoded;
use crate::rpc::services::public as api;

macro_rules! methods {
    ($service:ident: $($method:ident: $way:ident($request:ident) -> $sink:ident<$answer:ident>;)*) => {
        impl api::$service for Calls {
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

methods! { ProcessService:
    start: later(StartRequest) -> ServerStreamingSink<StartResponse>;
    start_again: later(StartAgainRequest) -> ServerStreamingSink<StartAgainResponse>;
    update: later(UpdateRequest) -> ServerStreamingSink<UpdateResponse>;
    definitions: as_it_comes(DefinitionsRequest) -> ServerStreamingSink<DefinitionsResponse>;
    stop: later(StopRequest) -> ServerStreamingSink<StopResponse>;
    restart: later(RestartRequest) -> ServerStreamingSink<RestartResponse>;
    remove: later(RemoveRequest) -> ServerStreamingSink<RemoveResponse>;
    signal: at_once(SignalRequest) -> UnarySink<SignalResponse>;
    wait: later(WaitRequest) -> ServerStreamingSink<WaitResponse>;
    status: at_once(StatusRequest) -> UnarySink<StatusResponse>;
    list: at_once(ListRequest) -> UnarySink<ListResponse>;
    output: as_it_comes(OutputRequest) -> ServerStreamingSink<OutputResponse>;
    stream: as_it_comes(StreamRequest) -> ServerStreamingSink<StreamResponse>;
    environment: at_once(EnvironmentRequest) -> UnarySink<EnvironmentResponse>;
    events: as_it_comes(EventsRequest) -> ServerStreamingSink<EventsResponse>;
    history: as_it_comes(HistoryRequest) -> ServerStreamingSink<HistoryResponse>;
    audit: at_once(AuditRequest) -> UnarySink<AuditResponse>;
    service_info: at_once(ServiceInfoRequest) -> UnarySink<ServiceInfoResponse>;
    health: at_once(HealthRequest) -> UnarySink<HealthResponse>;
    upgrade: later(UpgradeRequest) -> ServerStreamingSink<UpgradeResponse>;
}

// What may start a provider takes a while.
methods! { ProviderService:
    start_provider: later(StartProviderRequest) -> ServerStreamingSink<StartProviderResponse>;
    fetch_value: ahead(FetchValueRequest) -> ServerStreamingSink<FetchValueResponse>;
    provider_info: later(ProviderInfoRequest) -> ServerStreamingSink<ProviderInfoResponse>;
    provider_health: later(ProviderHealthRequest) -> ServerStreamingSink<ProviderHealthResponse>;
    list_providers: of_host(ListProvidersRequest) -> UnarySink<ListProvidersResponse>;
    stop_provider: later(StopProviderRequest) -> ServerStreamingSink<StopProviderResponse>;
    reset_provider: of_host(ResetProviderRequest) -> UnarySink<ResetProviderResponse>;
    replace_provider: later(ReplaceProviderRequest) -> ServerStreamingSink<ReplaceProviderResponse>;
    shut_down_providers: later(ShutDownProvidersRequest) -> ServerStreamingSink<ShutDownProvidersResponse>;
}

methods! { RegistryService:
    register_provider: later(RegisterProviderRequest) -> ServerStreamingSink<RegisterProviderResponse>;
    list_entries: of_host(ListEntriesRequest) -> UnarySink<ListEntriesResponse>;
    change_entries: later(ChangeEntriesRequest) -> ServerStreamingSink<ChangeEntriesResponse>;
    discover_providers: later(DiscoverProvidersRequest) -> ServerStreamingSink<DiscoverProvidersResponse>;
    validate_providers: later(ValidateProvidersRequest) -> ServerStreamingSink<ValidateProvidersResponse>;
    permit_call: of_host(PermitCallRequest) -> UnarySink<PermitCallResponse>;
    report_call: of_host(ReportCallRequest) -> UnarySink<ReportCallResponse>;
    call_chain: later(CallChainRequest) -> ServerStreamingSink<CallChainResponse>;
}

methods! { ModuleService:
    call_module: ahead(CallModuleRequest) -> ServerStreamingSink<CallModuleResponse>;
    call_module_batch: as_it_comes(CallModuleBatchRequest) -> ServerStreamingSink<CallModuleBatchResponse>;
    list_modules: of_host(ListModulesRequest) -> UnarySink<ListModulesResponse>;
    list_module_connections: of_host(ListModuleConnectionsRequest) -> UnarySink<ListModuleConnectionsResponse>;
    list_expected_modules: of_host(ListExpectedModulesRequest) -> UnarySink<ListExpectedModulesResponse>;
    drain_module_connection: of_host(DrainModuleConnectionRequest) -> UnarySink<DrainModuleConnectionResponse>;
    allow_module_change: of_host(AllowModuleChangeRequest) -> UnarySink<AllowModuleChangeResponse>;
    start_module_canary: of_host(StartModuleCanaryRequest) -> UnarySink<StartModuleCanaryResponse>;
    abort_module_canary: of_host(AbortModuleCanaryRequest) -> UnarySink<AbortModuleCanaryResponse>;
    list_module_canaries: of_host(ListModuleCanariesRequest) -> UnarySink<ListModuleCanariesResponse>;
}

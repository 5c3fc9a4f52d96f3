//! What every method needs, as docs/access.md has it: made from the table in `access/policy.rs`, of a request
//! of each method. The integration tests try what the page says.

use crate::access::policy::{Own, OwnRule, needs, needs_for_own};
use crate::rpc::api::requests::Ask;
use crate::rpc::services::descriptors::SYMBOLS;
use crate::rpc::services::public as api;
use crate::wire::request::Request;
use crate::wire::role::Role;

const BEGIN: &str = "<!-- the table: made by src/gateway/access_table.rs -->\n\n";

fn asked(request: impl Ask) -> Request {
    request.request().unwrap_or_else(|e| panic!("{}: {}", e.field, e.error.message))
}

/// A request of each method, in the order of the services. What is told apart has a line of its own.
#[rustfmt::skip]
fn requests() -> Vec<(&'static str, &'static str, Request)> {
    let targets = || vec!["web".to_owned()];
    let target = || Some(api::ProviderTarget { alias: "app".to_owned(), ..Default::default() });
    let spec = || Some(api::ProcessSpec { command: vec!["true".to_owned()], ..Default::default() });
    let variable = api::EnvironmentVariable { key: "A".to_owned(), value: "b".to_owned() };
    let provider = api::ProviderSpec { binary: "/app".to_owned(), ..Default::default() };
    let change = |action: api::EntryAction| {
        asked(api::ChangeEntriesRequest { action: action.into(), ..Default::default() })
    };
    vec![
        ("Start", "", asked(api::StartRequest { spec: spec(), ..Default::default() })),
        ("StartAgain", "", asked(api::StartAgainRequest { targets: targets() })),
        ("Update", "", asked(api::UpdateRequest { target: "web".to_owned(), spec: spec(), restart: false })),
        ("Definitions", "", asked(api::DefinitionsRequest { targets: targets() })),
        ("Stop", "", asked(api::StopRequest { targets: targets(), ..Default::default() })),
        ("Restart", "", asked(api::RestartRequest { targets: targets(), ..Default::default() })),
        ("Remove", "", asked(api::RemoveRequest { targets: targets(), force: false })),
        ("Signal", "", asked(api::SignalRequest { targets: targets(), signal_number: 1, ..Default::default() })),
        ("Wait", "", asked(api::WaitRequest { targets: targets(), ..Default::default() })),
        ("Status", "", asked(api::StatusRequest { targets: targets(), ..Default::default() })),
        ("List", "", asked(api::ListRequest::default())),
        ("Output", "", asked(api::OutputRequest { target: "web".to_owned(), selection: 0 })),
        ("Stream", "", asked(api::StreamRequest { targets: targets(), ..Default::default() })),
        ("Environment", " (to see it)", asked(api::EnvironmentRequest::default())),
        ("Environment", " (to change it)", asked(api::EnvironmentRequest { set: vec![variable], unset: Vec::new() })),
        ("Events", "", asked(api::EventsRequest::default())),
        ("History", "", asked(api::HistoryRequest::default())),
        ("Audit", "", asked(api::AuditRequest::default())),
        ("ServiceInfo", "", asked(api::ServiceInfoRequest::default())),
        ("Health", "", asked(api::HealthRequest::default())),
        ("Upgrade", "", asked(api::UpgradeRequest {
            id: "01234567-89ab-7def-8123-456789abcdef".to_owned(), path: "/new".to_owned(),
        })),
        ("StartProvider", "", asked(api::StartProviderRequest { target: target(), spec: Some(provider.clone()) })),
        ("FetchValue", "", asked(api::FetchValueRequest { target: target(), path: Vec::new() })),
        ("ProviderInfo", "", asked(api::ProviderInfoRequest { target: target() })),
        ("ProviderHealth", "", asked(api::ProviderHealthRequest { target: target() })),
        ("ListProviders", "", asked(api::ListProvidersRequest::default())),
        ("StopProvider", "", asked(api::StopProviderRequest { target: target() })),
        ("ResetProvider", "", asked(api::ResetProviderRequest { target: target() })),
        ("ReplaceProvider", "", asked(api::ReplaceProviderRequest { target: target() })),
        ("ShutDownProviders", "", asked(api::ShutDownProvidersRequest::default())),
        ("RegisterProvider", "", asked(api::RegisterProviderRequest { target: target(), spec: Some(provider), ..Default::default() })),
        ("ListEntries", "", asked(api::ListEntriesRequest::default())),
        ("ChangeEntries", " (to ask how they are)", change(api::EntryAction::Health)),
        ("ChangeEntries", " (to start them)", change(api::EntryAction::Start)),
        ("ChangeEntries", " (to dispose of them)", change(api::EntryAction::Dispose)),
        ("DiscoverProviders", " (dry run)", asked(api::DiscoverProvidersRequest { dry_run: true, ..Default::default() })),
        ("DiscoverProviders", "", asked(api::DiscoverProvidersRequest::default())),
        ("ValidateProviders", "", asked(api::ValidateProvidersRequest::default())),
        ("PermitCall", "", asked(api::PermitCallRequest { target: target(), ..Default::default() })),
        ("ReportCall", "", asked(api::ReportCallRequest {
            permit: "p".to_owned(), outcome: api::CallOutcome::Ok.into(), ..Default::default()
        })),
        ("CallChain", "", asked(api::CallChainRequest { targets: vec![target().unwrap_or_default()], ..Default::default() })),
        ("CallModule", "", asked(api::CallModuleRequest { name: "a.b".to_owned(), ..Default::default() })),
        ("CallModuleBatch", "", asked(api::CallModuleBatchRequest { name: "a.b".to_owned(), ..Default::default() })),
        ("ListModules", "", asked(api::ListModulesRequest::default())),
        ("ListModuleConnections", "", asked(api::ListModuleConnectionsRequest::default())),
        ("ListExpectedModules", "", asked(api::ListExpectedModulesRequest::default())),
        ("DrainModuleConnection", "", asked(api::DrainModuleConnectionRequest {
            connection: "c".to_owned(), ..Default::default()
        })),
        ("AllowModuleChange", "", asked(api::AllowModuleChangeRequest { name: "a.b".to_owned() })),
        ("StartModuleCanary", "", asked(api::StartModuleCanaryRequest {
            namespace: "a".to_owned(), version: "2".to_owned(), ..Default::default()
        })),
        ("AbortModuleCanary", "", asked(api::AbortModuleCanaryRequest { namespace: "a".to_owned() })),
        ("ListModuleCanaries", "", asked(api::ListModuleCanariesRequest::default())),
    ]
}

fn table() -> String {
    let mut table = "| method | viewer | operator | admin | of the service's own | of a provider's |\n\
                     |---|---|---|---|---|---|\n"
        .to_owned();
    for (method, what, request) in requests() {
        let may = Role::ALL.map(|role| if role >= needs(&request) { "yes" } else { "no" });
        let own = [Own::Service, Own::Provider].map(|own| match needs_for_own(&request, own) {
            OwnRule::NotAsked => "-",
            OwnRule::Nobody => "nobody",
            OwnRule::From(role) => role.name(),
        });
        let cells = [&may[..], &own[..]].concat().join(" | ");
        table += &format!("| `{method}`{what} | {cells} |\n");
    }
    table
}

#[test]
fn the_documentation_has_the_table() {
    let docs = include_str!("../../docs/access.md");
    let (_, written) = docs.split_once(BEGIN).expect("the table has a beginning");
    let end = written.find("\n\n").map_or(written.len(), |end| end + 1);
    assert_eq!(&written[..end], table(), "docs/access.md is to have this:\n{}", table());
}

#[test]
fn every_method_has_its_line() {
    let ours = SYMBOLS.iter().filter_map(|(name, _)| name.strip_prefix("provost.v1."));
    let methods = ours.filter_map(|name| name.split_once("Service.").map(|(_, method)| method.to_owned()));
    let mut methods: Vec<_> = methods.collect();
    methods.sort();
    let mut listed: Vec<_> = requests().iter().map(|(method, ..)| (*method).to_owned()).collect();
    listed.dedup();
    listed.sort();
    assert_eq!(listed, methods);
}

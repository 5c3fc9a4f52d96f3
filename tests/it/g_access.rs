//! What docs/access.md says, tried: every method, by a viewer, an operator and an admin, over TLS, for a
//! process of somebody's and for each that the service keeps for itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::h2::{
    self, Answer, PERMISSION_DENIED, Peer, RESOURCE_EXHAUSTED, fields, literals, login_of, message,
    text_field,
};
use crate::harness::gateway::{NAME, User};
use crate::harness::{Gateway, LATER, fixture, wait};

const USERS: [User; 3] = [User::Viewer, User::Operator, User::Admin];

/// A line of the page.
struct Line {
    method: String,
    /// Which of its requests, where it needs more for some.
    what: String,
    may: [bool; 3],
    own: [String; 2],
}

fn page() -> Vec<Line> {
    // Those of the methods, which are the last on the page.
    let (_, page) = include_str!("../../docs/access.md").split_once("<!-- the table:").expect("it is there");
    let lines = page.lines().filter(|line| line.starts_with("| `"));
    let cells = lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let line = |cells: Vec<&str>| Line {
        method: cells[0].split('`').nth(1).unwrap_or("").to_owned(),
        what: cells[0].split('`').nth(2).unwrap_or("").trim().to_owned(),
        may: [1, 2, 3].map(|n| cells[n] == "yes"),
        own: [cells[4].to_owned(), cells[5].to_owned()],
    };
    cells.map(line).collect()
}

/// Whether a user of this role is among those that a cell names.
fn is_among(user: User, cell: &str) -> bool {
    let at = |name: &str| USERS.iter().position(|user| user.role() == name);
    at(cell).is_some_and(|least| at(user.role()) >= Some(least))
}

/// A request of this line about this process, where it is about any.
fn request(line: &Line, target: &str) -> Vec<u8> {
    let targets = text_field(1, target.as_bytes());
    let provider = || text_field(1, &text_field(2, b"nothing"));
    match line.method.as_str() {
        "Start" => text_field(1, &text_field(1, b"true")),
        "Update" => [targets, text_field(2, &text_field(1, b"true"))].concat(),
        // SIGCONT, which changes nothing.
        "Signal" => [targets, vec![0x10, 18]].concat(),
        // Until it runs, which it does, or cannot any more.
        "Wait" => [targets, vec![0x10, 2]].concat(),
        "Events" => text_field(3, target.as_bytes()),
        "History" => text_field(2, target.as_bytes()),
        "Environment" | "Audit" | "ServiceInfo" | "Health" | "ListProviders" | "ShutDownProviders" => vec![],
        "List" => [targets, vec![0x10, 1]].concat(),
        "Upgrade" => {
            [text_field(1, b"01234567-89ab-7def-8123-456789abcdef"), text_field(2, b"/nonexistent")].concat()
        }
        "StartProvider" | "RegisterProvider" => {
            [provider(), text_field(2, &text_field(1, b"/no/such"))].concat()
        }
        // Of a set that is not there, so that nothing changes.
        "ChangeEntries" => {
            let action = match line.what.as_str() {
                "(to ask how they are)" => 8,
                "(to start them)" => 4,
                _ => 3,
            };
            [text_field(1, b"none"), vec![3 << 3, action]].concat()
        }
        "DiscoverProviders" => vec![2 << 3, u8::from(line.what == "(dry run)")],
        "ListEntries" | "ValidateProviders" | "ListModules" | "ListModuleConnections" => vec![],
        "ListModuleCanaries" | "ListExpectedModules" => vec![],
        "StartModuleCanary" | "AbortModuleCanary" => [text_field(1, b"a"), text_field(2, b"2")].concat(),
        "CallModule" | "CallModuleBatch" | "DrainModuleConnection" | "AllowModuleChange" => {
            text_field(1, b"a.b")
        }
        "PermitCall" | "CallChain" => provider(),
        "ReportCall" => [text_field(1, b"none"), vec![2 << 3, 1]].concat(),
        method if method.ends_with("Provider") || method.contains("FetchValue") => provider(),
        "ProviderInfo" | "ProviderHealth" => provider(),
        _ => targets,
    }
}

/// As `h2::path` takes it.
fn service_and(method: &str) -> String {
    let others = [
        ("ProviderService", include_str!("../../proto/provost/v1/provider_service.proto")),
        ("RegistryService", include_str!("../../proto/provost/v1/registry_service.proto")),
        ("ModuleService", include_str!("../../proto/provost/v1/module_service.proto")),
    ];
    let its = others.into_iter().find(|(_, proto)| proto.contains(&format!("rpc {method}(")));
    its.map_or_else(|| method.to_owned(), |(service, _)| format!("{service}/{method}"))
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Refused as a whole for the role.
fn is_refused_by_role(answer: &Answer) -> bool {
    answer.status == Some(PERMISSION_DENIED) && answer.text.contains(" may not ")
}

/// Refused for what the process is, as a whole or in its result.
fn is_refused_as_own(answer: &Answer) -> bool {
    ["is what the service runs for itself", "is the service's own"]
        .iter()
        .any(|text| answer.text.contains(text) || holds(&answer.data, text))
}

/// A service with a host that has a provider, and so with each kind of its own processes; their names.
fn with_own_processes() -> (Gateway, Vec<(&'static str, usize)>) {
    let gateway = Gateway::start();
    let service = gateway.service();
    let directory = format!("{}/providers", service.state_dir());
    fs::create_dir_all(&directory).expect("the state is ours");
    let script = format!("{directory}/rude");
    fs::write(&script, format!("#!/bin/sh\nexec {}\n", fixture("rude"))).expect("the directory is ours");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    service.ok(&["provider", "start", "app", "--binary", "rude"]);
    // The last ones are those through which this test asks, and through which it asks for providers.
    (gateway, vec![("provider.default.app", 1), ("provost.host", 0), (NAME, 0)])
}

/// A call, which has a second: a stream would have no end.
fn call(peer: &mut Peer, user: User, method: &str, request: &[u8]) -> Option<Answer> {
    let (path, login) = (h2::path(&service_and(method)), login_of(user));
    let more = vec![("grpc-timeout", "1S"), ("authorization", login.as_str())];
    let more = if method == "Stream" { more } else { more[1..].to_vec() };
    let stream = peer.begin(&literals(&[fields(&path), more].concat()), &message(request));
    peer.answer(stream)
}

/// The gateway is there, and it is not the one of this pid.
fn until_another(gateway: &Gateway, pid: Option<u64>) {
    gateway.service().cli(&["start", NAME]);
    wait::until("there is another gateway", LATER, || {
        let now = gateway.service().status_json(NAME);
        now["pid"].as_u64() != pid && now["ready"] == true
    });
}

#[test]
fn the_page_holds_for_every_method_and_role() {
    let gateway = Gateway::start();
    let page = page();
    assert!(page.len() >= 30, "the page is read");
    let mut peer = Peer::new(&gateway);
    for line in &page {
        for (user, may) in USERS.into_iter().zip(line.may) {
            gateway.service().cli(&["start", "--name", "web", "--", "sleep", "76111"]);
            let request = request(line, "web");
            let answer = call(&mut peer, user, &line.method, &request).expect("the connection goes on");
            assert_ne!(answer.status, Some(RESOURCE_EXHAUSTED), "{answer:?}");
            assert_eq!(is_refused_by_role(&answer), !may, "{} by {user:?}: {answer:?}", line.method);
            if !may {
                assert!(answer.data.is_empty(), "{} by {user:?} tells something", line.method);
            }
        }
    }
    gateway.service().ok(&["remove", "--force", "*"]);
}

#[test]
fn the_page_holds_for_every_process_of_the_services_own() {
    let (gateway, own) = with_own_processes();
    let mut peer = Peer::new(&gateway);
    let mut tried = BTreeMap::<_, usize>::new();
    for (process, column) in own {
        for line in page().iter().filter(|line| line.own[column] != "-") {
            for user in USERS {
                let before = gateway.service().status_json(process);
                let request = request(line, process);
                let answer = call(&mut peer, user, &line.method, &request);
                let what = format!("{} of {process} by {user:?}: {answer:?}", line.method);
                let (may, cell) = (is_among(user, &line.own[column]), &line.own[column]);
                *tried.entry(may).or_default() += 1;
                let is_ended = may && process == NAME && ["Stop", "Restart"].contains(&line.method.as_str());
                if is_ended {
                    until_another(&gateway, before["pid"].as_u64());
                    peer = Peer::new(&gateway);
                } else {
                    let answer = answer.expect("the connection goes on");
                    let is_refused = is_refused_by_role(&answer) || is_refused_as_own(&answer);
                    assert_eq!(is_refused, !may, "the page says '{cell}': {what}");
                }
                if !may {
                    let after = gateway.service().status_json(process);
                    assert_eq!(
                        (&after["run"], &after["state"]),
                        (&before["run"], &before["state"]),
                        "{what}"
                    );
                }
                // What was stopped or removed by one who may is there again for the next.
                gateway.service().cli(&["provider", "fetch", "app", "inits"]);
            }
        }
    }
    assert!(tried[&true] > 30 && tried[&false] > 40, "{tried:?}");
}

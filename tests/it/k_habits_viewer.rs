//! What who may only look gets: everything but output.

use crate::harness::Gateway;
use crate::harness::gateway::User;

#[test]
fn a_viewer_gets_why_without_output() {
    let gateway = Gateway::start();
    gateway.service().start(&["--name", "web", "--", "sh", "-c", "echo secret; exit 4"]);
    gateway.service().until_state("web", "stopped");
    let why = gateway.cli(User::Viewer, &["why", "web"]);
    let said = why.expect(0).out();
    assert!(said.contains("exit code 4") && said.contains("its output is not shown"), "{why:?}");
    assert!(!said.contains("secret"), "{why:?}");
    let status = gateway.cli(User::Viewer, &["status", "web"]);
    assert!(!status.expect(3).out().contains("secret"), "{status:?}");
    assert!(gateway.cli(User::Operator, &["why", "web"]).expect(0).out().contains("last output: secret"));
}

//! The module plane beyond this machine: mutual TLS, and namespaces that belong to certificates.

use serde_json::json;

use crate::harness::{SOON, wait};
use crate::plane::Plane;

#[test]
fn providers_with_certificates_register_what_is_theirs_and_nobody_else_gets_in() {
    let (plane, files) = Plane::secured(
        "heartbeat_timeout = '3s'\n[modules.namespaces]\nmine = ['client.provost']\n'mine.not' = ['dns:other']\n",
    );
    let certificates = [("CERTIFICATES", files.path().to_str().expect("the path is text"))];
    let provider = plane.outside(&["mine.own"], &certificates);
    assert_eq!(plane.call("mine.own.who", &json!({})), provider.pid());
    for (namespace, why) in [
        ("mine.not", "Namespace mine.not is for certificates that [modules.namespaces] names"),
        ("free", "Namespace free is not among [modules.namespaces]"),
    ] {
        let refused = plane.begin(&[namespace], &certificates).end(SOON);
        refused.expect(3);
        assert!(refused.out().contains(why), "{refused:?}");
    }
    // Without a certificate there is no connection.
    let plain = plane.begin(&["mine"], &[]).end(SOON);
    assert_ne!(plain.code, 0);
    assert!(plain.err().contains("UNAVAILABLE"), "{plain:?}");
    assert_eq!(plane.connections().len(), 1);
    // It is restored as its owner's.
    plane.kill_host();
    plane.until_state("restored");
    assert_eq!(plane.call("mine.own.add", &json!({ "a": 1, "b": 2 })), 3);
    provider.signal("KILL");
    wait::until("it is gone", SOON, || plane.connections().is_empty());
}

//! The invariants of the protocol's own document, each as a test of its name.

use std::collections::BTreeMap;
use std::thread;

use parking_lot::Mutex;
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};

use crate::module::owner::Owner;
use crate::module::plane::Plane;
use crate::module::plane::register::{Declared, Registration};
use crate::module::plane::turns::{Ended, Said};
use crate::module::settings::ModuleLimits;
use crate::rpc::services::constellation as proto;
use crate::sdk::module::protocol::PROTOCOL_VERSION;
use crate::sdk::module::schema::Type;
use crate::sdk::module::value::{to_plain, to_tagged};

fn registration(namespace: &str, group: Option<&str>, port: u16) -> Registration {
    let module = Declared {
        name: "m".to_owned(),
        input: Ok(Type::Int),
        output: Ok(Type::Int),
        version: String::new(),
        description: String::new(),
    };
    Registration {
        namespace: namespace.to_owned(),
        group: group.map(str::to_owned),
        executor_url: format!("localhost:{port}"),
        modules: vec![module],
        protocol_version: PROTOCOL_VERSION,
        replaces: None,
        owner: Owner::default(),
        channel: String::new(),
        len: 0,
    }
}

/// Types as the wire has them, and a value of each.
fn typed() -> impl Strategy<Value = (Type, Value)> {
    let leaf = prop_oneof![
        any::<String>().prop_map(|text| (Type::String, json!(text))),
        any::<i64>().prop_map(|n| (Type::Int, json!(n))),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| (Type::Float, json!(f))),
        any::<bool>().prop_map(|is| (Type::Bool, json!(is))),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let fields = prop::collection::btree_map("[a-z]{1,4}", inner.clone(), 0..4);
        prop_oneof![
            fields.prop_map(|fields| {
                let of = fields.iter().map(|(name, (of, _))| (name.clone(), of.clone())).collect();
                let value = fields.into_iter().map(|(name, (_, value))| (name, value)).collect();
                (Type::Record(of), Value::Object(value))
            }),
            (inner.clone(), 0..3usize)
                .prop_map(|((of, value), n)| { (Type::List(Box::new(of)), Value::Array(vec![value; n])) }),
            (inner.clone(), any::<String>()).prop_map(|((of, value), key)| {
                (Type::Map(Box::new(Type::String), Box::new(of)), json!({ key: value }))
            }),
            (inner.clone(), any::<i64>()).prop_map(|((of, value), key)| {
                (Type::Map(Box::new(Type::Int), Box::new(of)), json!([[key, value]]))
            }),
            (inner.clone(), inner.clone(), any::<bool>()).prop_map(|(a, b, first)| {
                let (name, value) = if first { ("variant0", a.1) } else { ("variant1", b.1) };
                (Type::Union(vec![a.0, b.0]), json!({ name: value }))
            }),
            // An option of an option has one null for two values.
            (inner.prop_filter("no null", |(of, _)| !matches!(of, Type::Option(_))), any::<bool>()).prop_map(
                |((of, value), is_some)| {
                    (Type::Option(Box::new(of)), if is_some { value } else { Value::Null })
                }
            ),
        ]
    })
}

proptest! {
    #[test]
    fn namespace_isolation(all in prop::collection::vec((0..3usize, 0..3usize, 1..6u16), 1..40)) {
        let mut plane = Plane::new(ModuleLimits::default());
        for (n, (namespace, group, port)) in all.into_iter().enumerate() {
            let group = [None, Some("g"), Some("h")][group];
            plane.register(registration(["a", "b", "c"][namespace], group, port), &n.to_string(), 0);
            let mut owners: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
            for connection in plane.connections().into_values() {
                owners.entry(connection.namespace.clone()).or_default().push(connection.group.clone());
            }
            for groups in owners.into_values() {
                let is_one_group = groups[0].is_some() && groups.iter().all(|group| *group == groups[0]);
                prop_assert!(groups.len() == 1 || is_one_group, "{groups:?}");
            }
        }
    }

    #[test]
    fn reserved_namespace_protection(below in "(\\.[a-z]{1,5}){0,3}", beside in "[a-z]{1,5}") {
        let mut plane = Plane::new(ModuleLimits::default());
        let registered = plane.register(registration(&format!("stdlib{below}"), None, 1), "a", 0);
        prop_assert!(registered.results[0].1.as_ref().is_err_and(|why| why.contains("reserved")));
        prop_assert!(plane.connections().is_empty());
        let registered = plane.register(registration(&format!("stdlib{beside}"), None, 1), "b", 0);
        prop_assert!(registered.results[0].1.is_ok());
    }

    #[test]
    fn type_schema_round_trip_fidelity((of, _) in typed()) {
        let bytes = of.to_wire().encode_to_vec();
        let schema = proto::TypeSchema::decode(&*bytes).unwrap();
        prop_assert_eq!(Type::from_wire(&schema), Ok(of));
    }

    #[test]
    fn cvalue_serialization_round_trip_fidelity((of, value) in typed()) {
        let bytes = to_tagged(value.clone(), &of).unwrap().to_bytes(0);
        let tagged: Value = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(to_plain(tagged, &of).map(Value::from), Ok(value));
    }
}

#[test]
fn connection_lifecycle_is_server_authoritative() {
    let mut plane = Plane::new(ModuleLimits::default());
    for (id, namespace, port) in [("a", "x", 1), ("b", "y", 2)] {
        plane.register(registration(namespace, None, port), id, 0);
        plane.bind(id, &Owner::default(), 0).unwrap();
    }
    plane.heartbeat("b", 15_000);
    let ended: Vec<_> = plane.sweep(15_001).ended.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ended, ["a"]);
    // What has ended does not come back by what its provider says.
    plane.heartbeat("a", 15_002);
    assert!(plane.bind("a", &Owner::default(), 15_002).is_err() && !plane.drain("a", 20_000));
    assert_eq!(plane.modules().into_keys().collect::<Vec<_>>(), ["y.m"]);
}

#[test]
fn executor_pool_is_thread_safe() {
    const THREADS: usize = 16;
    const CALLS: usize = 500;
    const MEMBERS: usize = 4;
    let plane = Mutex::new(Plane::new(ModuleLimits::default()));
    for (n, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let port = u16::try_from(n + 1).unwrap();
        plane.lock().register(registration("x", Some("g"), port), id, 0);
    }
    let call = || {
        let member = plane.lock().next("x.m", &[], None, 0).expect("there are members");
        let id = member.id.clone();
        // Others take their turns meanwhile.
        thread::yield_now();
        plane.lock().done(member, Ended { said: Said::Answered, error: None, took_us: 1 }, 0);
        id
    };
    thread::scope(|scope| {
        (0..THREADS).for_each(|_| {
            scope.spawn(|| (0..CALLS).for_each(|_| drop(call())));
        });
        // One comes and goes.
        scope.spawn(|| {
            for _ in 0..CALLS {
                plane.lock().register(registration("x", Some("g"), 9), "e", 0);
                thread::yield_now();
                plane.lock().remove("e");
            }
        });
    });
    let all: Vec<_> = (0..2 * MEMBERS).map(|_| call()).collect();
    assert_eq!(all[..MEMBERS], all[MEMBERS..], "they take turns");
    let plane = plane.lock();
    assert!(plane.connections().values().all(|c| c.in_flight == 0 && c.totals().errors == 0));
}

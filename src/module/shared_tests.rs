//! Tests of what all threads of the module plane share: notes, and who is woken by what.

use std::fs;
use std::path::PathBuf;

use super::*;

/// A directory of the test's own, gone with it.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("provost-module-shared-{}", Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn shared(&self, limits: ModuleLimits) -> Shared {
        Shared::new(limits, Notes::open(&self.0.join("notes")).unwrap(), Arc::new(|_: &str| ()), untold())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Events go nowhere.
fn untold() -> Tell {
    Arc::new(|_, _: &str, _: &str| ())
}

/// How long something may take that is done at once; what is not done at once takes an hour.
const SOON: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

/// A plane with one module, `x.m`, whose only member takes one call at once; the member's id.
fn with_one(dir: &Dir, limits: ModuleLimits, say: Say) -> (Arc<Shared>, String) {
    let limits = ModuleLimits { member_calls: 1, ..limits };
    let shared = Shared::new(limits, Notes::open(&dir.0.join("notes")).unwrap(), say, untold());
    let id = shared.register(registration("x", &["m"])).connection_id;
    (Arc::new(shared), id)
}

fn registration(namespace: &str, names: &[&str]) -> Registration {
    let whole = proto::TypeSchema {
        r#type: Some(proto::type_schema::Type::Primitive(proto::PrimitiveType::default())),
    };
    let modules = names.iter().map(|name| proto::ModuleDeclaration {
        name: (*name).to_owned(),
        input_schema: Some(whole.clone()),
        output_schema: Some(whole.clone()),
        ..proto::ModuleDeclaration::default()
    });
    convert::registration(proto::RegisterRequest {
        namespace: namespace.to_owned(),
        modules: modules.collect(),
        protocol_version: PROTOCOL_VERSION,
        executor_url: "localhost:1".to_owned(),
        group_id: String::new(),
    })
}

fn deregister(id: &str) -> proto::DeregisterRequest {
    proto::DeregisterRequest {
        namespace: "x".to_owned(),
        module_names: vec!["m".to_owned()],
        connection_id: id.to_owned(),
    }
}

#[test]
fn a_deregistration_of_what_is_nobodys_removes_no_file() {
    let dir = Dir::new();
    let shared = dir.shared(ModuleLimits::default());
    let (other, unread) = (dir.0.join("other"), Uuid::new_v4().to_string());
    fs::write(&other, "").unwrap();
    // One that another version has left, and that is not understood here.
    fs::write(dir.0.join("notes").join(&unread), "?").unwrap();
    for id in [other.to_str().unwrap(), "../other", &unread] {
        assert!(!shared.deregister(&deregister(id), &Owner::default(), "").success);
        assert!(other.exists() && dir.0.join("notes").join(&unread).exists(), "{id}");
    }
}

#[test]
fn without_an_id_what_was_registered_over_the_same_channel_is_taken_back() {
    let dir = Dir::new();
    let shared = dir.shared(ModuleLimits::default());
    let over = |channel: &str, namespace: &str| {
        let (channel, owner) = (channel.to_owned(), Owner::default());
        shared.register(Registration { channel, owner, ..registration(namespace, &["m"]) })
    };
    over("fd:1", "x");
    // One that an earlier host has had came over none of these.
    over("", "y");
    let none = |r: &proto::DeregisterRequest, channel: &str| {
        let answer = shared.deregister(r, &Owner::default(), channel);
        (answer.success, answer.results.first().map(|r| r.error.clone()).unwrap_or_default())
    };
    let of = |namespace: &str| proto::DeregisterRequest { namespace: namespace.to_owned(), ..deregister("") };
    let refused = || (false, "wrong namespace owner".to_owned());
    assert_eq!(
        [none(&of("x"), "fd:2"), none(&of("y"), ""), none(&of("y"), "fd:1")],
        [(); 3].map(|()| refused())
    );
    assert_eq!(none(&of("nobody"), "fd:1"), (false, "not found".to_owned()));
    let nothing = proto::DeregisterRequest { module_names: Vec::new(), ..of("x") };
    assert_eq!([none(&nothing, "fd:2").0, none(&nothing, "fd:1").0], [false, true]);
    assert_eq!(none(&of("x"), "fd:1"), (true, String::new()));
    assert!(shared.with(|plane| plane.connections().len() == 1));
    assert_eq!(fs::read_dir(dir.0.join("notes")).unwrap().count(), 1);
}

#[test]
fn a_call_that_waits_for_a_module_is_answered_when_that_is_taken_back() {
    let dir = Dir::new();
    let (shared, id) = with_one(&dir, ModuleLimits::default(), Arc::new(|_: &str| ()));
    let deadline_ms = clock::now_ms() + millis(HOUR);
    let _busy = shared.member("x.m", &[], deadline_ms).unwrap();
    let (answered, answers) = crossbeam_channel::bounded(1);
    let theirs = Arc::clone(&shared);
    let waiting = std::thread::spawn(move || {
        answered.send(theirs.member("x.m", &[], deadline_ms).map(|member| member.id)).unwrap();
    });
    // It takes its place under the lock that its wait gives back.
    while shared.with(|plane| plane.waiting("x.m")) == 0 {
        std::thread::yield_now();
    }
    assert!(shared.deregister(&deregister(&id), &Owner::default(), "").success);
    assert_eq!(answers.recv_timeout(SOON), Ok(Err(NoMember::Unknown)));
    waiting.join().unwrap();
}

#[test]
fn heartbeats_are_missed_again_once_a_drain_is_not_accepted() {
    let dir = Dir::new();
    let (said, lines) = crossbeam_channel::unbounded();
    let say = Arc::new(move |line: &str| said.send(line.to_owned()).unwrap());
    let limits = ModuleLimits {
        heartbeat_timeout: Duration::from_millis(300),
        control_timeout: Duration::from_millis(1),
        ..ModuleLimits::default()
    };
    let (shared, id) = with_one(&dir, limits, say);
    shared.bind(&id, &Owner::default(), &Arc::default()).unwrap();
    assert!(shared.drain(&id, "", HOUR));
    let other = shared.register(registration("y", &["m"])).connection_id;
    let theirs = Arc::clone(&shared);
    // It ends with the tests.
    std::thread::spawn(move || theirs.keep_time());
    let until = |what: String| while lines.recv_timeout(SOON).expect("it is said soon") != what {};
    // What is left is the drain, and that is waited for.
    until(format!("connection {other}: gone, its control stream did not come"));
    shared.refuse_drain(&id);
    until(format!("connection {id}: gone, its heartbeats stopped"));
}

//! Who asked: requests on behalf of others, and the audit.

use provost::Spec;
use provost::wire::audit::{AuditLog, Note};
use provost::wire::envelope::Behalf;
use provost::wire::error::Code;
use provost::wire::id::ProcessId;
use provost::wire::request::{EnvChange, Numbering, Signal, Start, Stop};
use provost::wire::role::Role;
use provost::wire::spec::Scope;

use crate::harness::{Options, SOON, Service, wait};

const REMOTE: &str = "ops@client.example (serial 7f) user demo";

fn behalf(who: &str) -> Option<Behalf> {
    Some(Behalf { who: who.to_owned(), role: Role::Viewer })
}

fn start(name: &str) -> Start {
    let mut spec = Spec::new(["sleep", "75000"]);
    spec.name = Some(name.parse().expect("a name"));
    spec.env.push(("KEY".to_owned(), "hush".to_owned()));
    Start { spec, ids: vec![ProcessId::new()], numbering: Numbering::Single }
}

/// Who, what and the result of each line, without numbers of pids.
fn lines(service: &Service) -> Vec<(String, String, String)> {
    let all = service.cli(&["audit", "--json"]).expect(0).json();
    let text = |v: &serde_json::Value| v.as_str().unwrap_or("null").to_owned();
    let who = |v: &serde_json::Value| text(v).split(" pid ").next().expect("a first part").to_owned();
    all.iter().map(|l| (who(&l["who"]), text(&l["what"]), text(&l["result"]))).collect()
}

#[test]
fn a_request_on_behalf_of_another_names_that_one_as_its_cause() {
    let service = Service::new();
    let mut client = service.client();
    client.on_behalf_of(behalf(REMOTE));
    client.start(start("web")).expect("it is started");
    assert_eq!(service.status_json("web")["cause"], REMOTE);
    client.stop(Stop { targets: vec!["web".into()], ..Stop::default() }).expect("it is stopped");
    let events = service.events_of(&service.status_json("web"));
    assert!(events.iter().all(|e| e["cause"] == REMOTE), "{events:?}");
    // Also on a connection that takes over, and not after it was taken back.
    service.kill_engine();
    client.start_again(vec!["web".into()]).expect("it is started");
    assert_eq!(service.status_json("web")["cause"], REMOTE);
    client.on_behalf_of(None);
    client.stop(Stop { targets: vec!["web".into()], ..Stop::default() }).expect("it is stopped");
    assert!(service.status_json("web")["cause"].as_str().is_some_and(|c| c.starts_with("uid ")));
    client.on_behalf_of(behalf("two\nlines"));
    assert_eq!(client.start(start("odd")).expect_err("it is refused").code, Code::Usage);
}

#[test]
fn j10_every_change_has_a_line() {
    let service = Service::new();
    let mut client = service.client();
    client.on_behalf_of(behalf(REMOTE));
    client.start(start("web")).expect("it is started");
    client.start(start("web")).expect_err("the name is taken");
    let signal = |name: &str| Signal { targets: vec![name.into()], signal: 18, scope: Scope::Leader };
    client.signal(signal("web")).expect("it is signalled");
    client.signal(signal("nobody")).expect("there is an answer");
    let set = vec![("TOKEN".to_owned(), "hush".to_owned())];
    client.env(EnvChange { set, unset: vec!["OLD".to_owned()] }).expect("it is set");
    let note = Note { what: "stop web".into(), result: "refused: viewer may not stop".into() };
    client.note(note).expect("it is noted");
    service.ok(&["restart", "web"]);
    service.ok(&["stop", "web"]);
    service.ok(&["start", "web"]);
    service.ok(&["remove", "--force", "web"]);
    // What changes nothing has none, unless it reads what may be secret.
    service.ok(&["list"]);
    service.ok(&["env", "list"]);
    let uid = format!("uid {}", provost::sys::system::euid());
    let expected = [
        (REMOTE, "start sleep as web", "done"),
        (REMOTE, "start sleep as web", "refused: there is a process 'web' already"),
        (REMOTE, "signal SIGCONT web", "done"),
        (REMOTE, "signal SIGCONT nobody", "not_found: there is no process 'nobody'"),
        (REMOTE, "env set TOKEN unset OLD", "done"),
        (REMOTE, "stop web", "refused: viewer may not stop"),
        (&uid, "restart web", "done"),
        (&uid, "stop web", "done"),
        (&uid, "start again web", "done"),
        (&uid, "remove web", "done"),
        (&uid, "read the environment", "done"),
    ];
    let found = lines(&service);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, (who, what, result)) in found.iter().zip(expected) {
        assert!(found.0 == who && found.1 == what && found.2.starts_with(result), "{found:?} is not {what}");
    }
    let text = service.ok(&["audit", "--since", "9"]);
    assert!(text.lines().count() == 2 && text.contains(": remove web: done"), "{text}");
    assert!(!format!("{found:?}").contains("hush"));
}

/// A caller that is refused again and again has one line, and pushes nobody else's out.
#[test]
fn repeated_refusals_are_one_line_with_a_count() {
    let service = Service::new();
    service.ok(&["env", "set", "A=b"]);
    let mut client = service.client();
    client.on_behalf_of(behalf(REMOTE));
    for n in 0..100 {
        let note = Note { what: format!("stop web-{n}"), result: "refused: viewer may not stop".into() };
        client.note(note).expect("it is noted");
    }
    wait::until("all are counted", SOON, || {
        let found = lines(&service);
        assert_eq!(found.len(), 2, "{found:?}");
        // And tells what else was asked for, as far as that fits.
        found[1].1.starts_with("stop web-0; also stop web-1, stop web-2, ")
            && found[1].1.ends_with(", others")
            && found[1].2.starts_with("refused 100 times until ")
    });
}

#[test]
fn j10_what_was_answered_is_on_the_disk() {
    let service = Service::new();
    for round in 0..5_u64 {
        let mut client = service.client();
        client.start(start(&format!("web-{round}"))).expect("it is started");
        client
            .signal(Signal { targets: vec!["web-*".into()], signal: 18, scope: Scope::Leader })
            .expect("done");
        drop(client);
        // At once, whatever was about to be written.
        service.kill_all();
        service.serve_again();
        let found = service.client().audit(AuditLog::default()).expect("it can be read");
        let seqs: Vec<u64> = found.iter().map(|line| line.seq).collect();
        assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
        let count = |what: &str| found.iter().filter(|line| line.what == what).count() as u64;
        assert_eq!(count(&format!("start sleep as web-{round}")), 1, "{found:?}");
        assert_eq!(count("signal SIGCONT web-*"), round + 1, "{found:?}");
    }
    service.ok(&["remove", "--force", "*"]);
}

#[test]
fn j10_changes_without_a_database_are_reported_as_unrecorded() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sleep", "75001"]);
    let locked = lock(&service);
    let output = service.cli(&["signal", "cont", "web", "--json"]);
    assert!(output.json()[0]["unrecorded"].is_string(), "{output:?}");
    drop(locked);
    service.until_store("sound");
    wait::until("the line is there", SOON, || {
        lines(&service).iter().any(|l| l.1 == "signal SIGCONT web" && l.2 == "done")
    });
    // Without a database there is no audit, and nothing waits for one.
    let bare = Options::new().serve(&["--state", "none"]).start();
    bare.start(&["--name", "web", "--", "sleep", "75002"]);
    assert!(bare.cli(&["audit"]).expect(1).err().contains("no database"));
}

/// Keeps the database locked until it is dropped.
fn lock(service: &Service) -> crate::harness::Running {
    let script = format!(
        "import sqlite3, time\nd = sqlite3.connect('{}/provost.db', isolation_level=None)\n\
         d.execute('begin immediate')\nprint('locked', flush=True)\ntime.sleep(100)",
        service.state_dir()
    );
    let mut command = std::process::Command::new("python3");
    command.args(["-c", &script]);
    let locked = crate::harness::Running::new(command);
    locked.line_with("locked", SOON);
    locked
}

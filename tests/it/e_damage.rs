//! A database that is damaged, taken away or an old one: it is set aside or made anew from what runs, which
//! is the truth.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::e_disk::{database, expect_kept, expect_recorded, expect_supervision, query};
use crate::harness::{Options, SOON, Service, procfs, wait};

fn damage(path: &str, how: &str) {
    let mut bytes = fs::read(path).expect("it is there");
    match how {
        "header" => bytes[..64].fill(0x5a),
        "truncated" => bytes.truncate(bytes.len() / 2 + 100),
        "empty" => bytes.fill(0),
        "flipped" => bytes.iter_mut().skip(100).step_by(61).for_each(|b| *b ^= 0x55),
        "text" => bytes = b"this is no database".to_vec(),
        _ => unreachable!("{how}"),
    }
    fs::write(path, bytes).expect("it is ours");
}

/// The databases that were set aside, without what belongs to them.
pub fn set_aside(service: &Service) -> Vec<String> {
    let names = fs::read_dir(service.state_dir()).expect("it is there").flatten();
    let names = names.map(|e| e.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| {
            name.starts_with("provost.db.damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
        })
        .collect()
}

#[test]
fn e5_damage_found_at_the_start_is_set_aside() {
    for how in ["header", "truncated", "empty", "flipped", "text"] {
        let service = Service::new();
        service.start(&["--name", "web", "--", "sleep", "80000"]);
        service.end();
        damage(&database(&service), how);
        service.serve_again();
        // What could be read runs as it was; nothing else does.
        for process in service.list_json() {
            assert_eq!(
                (&process["name"], &process["command"][0]),
                (&"web".into(), &"sleep".into()),
                "{how}: {process}"
            );
        }
        let aside = set_aside(&service);
        assert!(aside.len() == 1, "{how}: {aside:?}");
        let report = service.cli(&["reconcile", "--json"]).expect(0).json().remove(0);
        let notices = report["notices"].to_string();
        assert!(notices.contains(&aside[0]), "{how}: it is said where it is now: {notices}");
        assert_eq!(service.doctor()["store"]["state"], "sound", "{how}");
        expect_recorded(&service, "new");
        let all = service.list_json().len();
        service.kill_all();
        service.serve_again();
        service.until_state("new", "running");
        assert_eq!((service.list_json().len(), set_aside(&service).len()), (all, 1), "{how}: once is enough");
    }
}

#[test]
fn e5_damage_while_the_service_runs_is_set_aside() {
    for how in ["header", "truncated", "flipped"] {
        let service = Service::new();
        service.ok(&["env", "set", "A=1"]);
        service.start(&["--name", "web", "--", "sleep", "80000"]);
        service.start(&["--name", "halted", "--", "sleep", "80000"]);
        service.ok(&["stop", "halted"]);
        let pid = service.pid("web");
        service.until_store("sound");
        // What is in the log only would come back from there.
        query(&database(&service), "db.execute('pragma wal_checkpoint(truncate)')");
        damage(&database(&service), how);
        service.kill_engine();
        expect_supervision(&service, "during");
        service.until_store("sound");
        assert_eq!(service.pid("web"), pid, "{how}");
        expect_recorded(&service, "after");
        expect_kept(&service, &["web", "after"], &["halted", "during"]);
        assert_eq!(service.ok(&["env", "list"]), "A=1", "{how}");
    }
}

/// Files that are deleted or replaced below the service's feet.
#[test]
fn e6_missing_and_replaced_files_are_noticed() {
    let all = |state: &str, deed: &dyn Fn(&str)| {
        for suffix in ["", "-wal", "-shm"] {
            deed(&format!("{state}/provost.db{suffix}"));
        }
    };
    type Deed<'d> = (&'d str, &'d dyn Fn(&str));
    let deeds: [Deed<'_>; 6] = [
        ("database deleted", &|state| fs::remove_file(format!("{state}/provost.db")).expect("it is there")),
        ("log deleted", &|state| fs::remove_file(format!("{state}/provost.db-wal")).expect("it is there")),
        ("index deleted", &|state| fs::remove_file(format!("{state}/provost.db-shm")).expect("it is there")),
        ("all deleted", &|state| all(state, &|path| fs::remove_file(path).expect("it is there"))),
        ("database replaced", &|state| {
            fs::write(format!("{state}/other"), "another file").expect("it is ours");
            fs::rename(format!("{state}/other"), format!("{state}/provost.db")).expect("it is ours");
        }),
        ("directory deleted", &|state| fs::remove_dir_all(state).expect("it is ours")),
    ];
    for (what, deed) in deeds {
        let service = Service::new();
        service.ok(&["env", "set", "A=1"]);
        let web = service.start(&["--name", "web", "--", "sleep", "80000"]);
        service.until_store("sound");
        deed(&service.state_dir());
        expect_supervision(&service, "during");
        service.until_store("sound");
        println!("{what}");
        service.until_said("while it was open");
        expect_recorded(&service, "after");
        assert!(procfs::alive(service.pid(&web)), "{what}");
        expect_kept(&service, &["web", "after"], &["during"]);
        assert_eq!(service.ok(&["env", "list"]), "A=1", "{what}");
    }
}

/// The database that was made anew knows the survivors of the service as its own, marks and all.
#[test]
fn e6_survivors_are_known_to_a_rebuilt_database() {
    let service = Options::new().without_cgroups().start();
    let script = "(setsid sleep 80001 &); exec sleep 80000";
    let id = service.start(&["--name", "web", "--", "sh", "-c", script]);
    wait::until("the tree is there", SOON, || service.tree_of(&id).len() == 2);
    fs::remove_dir_all(service.state_dir()).expect("it is ours");
    expect_supervision(&service, "during");
    service.until_store("sound");
    let old = service.tree_of(&id);
    service.kill_service();
    service.serve_again();
    wait::until("it runs again", SOON, || {
        service.status_json("web")["run"] == 2 && service.tree_of(&id).len() == 2
    });
    assert!(old.iter().all(|&pid| !procfs::alive(pid)), "a second copy beside {old:?}");
}

/// An old backup says what is no longer so: what runs is the truth.
#[test]
fn e7_what_runs_counts_more_than_an_old_backup() {
    let service = Service::new();
    service.start(&["--name", "halted-since", "--", "sleep", "80000"]);
    service.start(&["--name", "removed-since", "--", "sleep", "80000"]);
    service.start(&["--name", "started-since", "--", "sleep", "80000"]);
    service.ok(&["stop", "started-since"]);
    service.until_store("sound");
    let backup = service.scratch().file("backup.db");
    query(&database(&service), &format!("db.execute(\"vacuum into '{backup}'\")"));
    service.ok(&["stop", "halted-since"]);
    service.ok(&["remove", "--force", "removed-since"]);
    service.ok(&["start", "started-since"]);
    service.start(&["--name", "new-since", "--", "sleep", "80000"]);
    let pid = service.pid("started-since");
    service.until_store("sound");
    let newest = service.events().last().expect("there are some")["seq"].as_u64().expect("a number");
    let restored = service.scratch().file("restored.db");
    fs::copy(&backup, &restored).expect("it is ours");
    fs::set_permissions(&restored, PermissionsExt::from_mode(0o600)).expect("it is ours");
    fs::rename(&restored, database(&service)).expect("it is ours");
    service.kill_engine();
    service.until_store("sound");
    assert_eq!(service.pid("started-since"), pid);
    // The log says what is wrong, or it was healed by the engine that came: either way everything is in it.
    expect_recorded(&service, "after");
    let numbers: Vec<u64> = service.events().iter().filter_map(|e| e["seq"].as_u64()).collect();
    assert!(numbers.last() > Some(&newest) && numbers.windows(2).all(|w| w[1] == w[0] + 1), "{numbers:?}");
    expect_kept(&service, &["started-since", "new-since", "after"], &["halted-since"]);
}

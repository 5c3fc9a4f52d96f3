//! Processes that a file declares: what `apply` shows is what it does, and nothing else is touched.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;

use crate::harness::{LATER, Options, SOON, Scratch, Service, procfs, rounds, wait};

/// Writes the configuration, and returns its path.
fn config(service: &Service, text: &str) -> String {
    let path = service.scratch().file("declared.toml");
    fs::write(&path, text).unwrap();
    path
}

/// Action and name of each change that a dry run shows.
fn planned(service: &Service, path: &str) -> Vec<String> {
    let out = service.cli(&["apply", "--dry-run", "--json", path]);
    let steps = out.json();
    out.expect(if steps.is_empty() { 0 } else { 3 });
    steps
        .iter()
        .map(|s| format!("{} {}", s["action"].as_str().unwrap(), s["name"].as_str().unwrap()))
        .collect()
}

/// The pid of each process by its name.
fn pids(service: &Service) -> BTreeMap<String, Option<u64>> {
    let all = service.list_json();
    all.iter().map(|p| (p["name"].as_str().unwrap_or("-").to_owned(), p["pid"].as_u64())).collect()
}

const FIRST: &str = "
[defaults]
stop_timeout = '5s'
[process.same]
command = ['sleep', '1000']
[process.labelled]
command = ['sleep', '1000']
[process.restarted]
command = ['sleep', '1000']
env = { API_KEY = 'hush' }
[process.replaced]
command = ['sleep', '1000']
[process.removed]
command = ['sleep', '1000']
[process.many]
command = ['sh', '-c', 'echo $PROVOST_INSTANCE; sleep 1000']
instances = 3
";

const SECOND: &str = "
[defaults]
stop_timeout = '5s'
[process.same]
command = ['sleep', '1000']
[process.labelled]
command = ['sleep', '1000']
labels = { a = 'b' }
[process.restarted]
command = ['sleep', '1000']
env = { API_KEY = 'hush2', LEVEL = 'debug' }
[process.replaced]
command = ['sleep', '1000']
output_limit = '64 KiB'
[process.many]
command = ['sh', '-c', 'echo $PROVOST_INSTANCE; sleep 1000']
instances = 5
";

#[test]
fn k3_only_what_differs_is_touched() {
    let service = Service::new();
    service.start(&["--name", "by-hand", "--", "sleep", "1000"]);
    let path = config(&service, FIRST);
    assert_eq!(planned(&service, &path).len(), 8);
    assert_eq!(service.list_json().len(), 1, "a dry run changes nothing");
    service.ok(&["apply", "--yes", &path]);
    assert!(planned(&service, &path).is_empty());
    let before = pids(&service);
    assert_eq!(before.len(), 9);
    assert!(service.ok(&["apply", "--yes", &path]).contains("nothing to do"));
    assert_eq!(pids(&service), before);

    let path = config(&service, SECOND);
    let shown = service.cli(&["apply", "--dry-run", &path]).expect(3).out();
    assert!(
        shown.contains("restart  restarted") && shown.contains("env.LEVEL") && !shown.contains("hush"),
        "{shown}"
    );
    let wanted = [
        "remove removed",
        "replace replaced",
        "change labelled",
        "restart restarted",
        "add many-4",
        "add many-5",
    ];
    assert_eq!(planned(&service, &path), wanted);
    service.ok(&["apply", "--yes", &path]);
    let after = pids(&service);
    for name in ["by-hand", "same", "labelled", "many-1", "many-2", "many-3"] {
        assert_eq!(after[name], before[name], "{name}");
    }
    for name in ["restarted", "replaced"] {
        assert!(after[name].is_some() && after[name] != before[name], "{name}");
    }
    assert!(!after.contains_key("removed") && after["many-5"].is_some());
    wait::until("it has said its number", SOON, || service.output("many-5") == b"5\n");
    service.ok(&["stop", "many-5"]);
    // What a person stopped is as it is declared.
    assert!(planned(&service, &path).is_empty());
    service.ok(&["apply", "--yes", &config(&service, "")]);
    assert_eq!(pids(&service).into_keys().collect::<Vec<_>>(), ["by-hand"]);
}

#[test]
fn k1_what_is_wrong_in_a_file_changes_nothing() {
    let service = Service::new();
    service.start(&["--name", "by-hand", "--", "sleep", "1000"]);
    for (text, code, says) in [
        (
            "[process.a]\ncommand = ['true']\n[process.b]\ncomand = ['true']",
            2,
            "line 4, column 1: unknown key 'comand'",
        ),
        ("[proces.a]\ncommand = ['true']", 2, "unknown key 'proces'"),
        ("[process.a]\ncommand = ['true']\n[process.by-hand]\ncommand = ['true']", 6, "started by hand"),
    ] {
        let out = service.cli(&["apply", "--yes", &config(&service, text)]);
        assert!(out.err().contains(says), "{}", out.err());
        out.expect(code);
        assert_eq!(service.list_json().len(), 1);
    }
    // Without a terminal nobody can be asked.
    let path = config(&service, "[process.a]\ncommand = ['true']");
    assert!(service.cli(&["apply", &path]).expect(6).err().contains("--yes"));
    assert_eq!(service.list_json().len(), 1);
}

#[test]
fn what_fails_is_named_and_the_rest_is_done() {
    let service = Service::new();
    let path = config(
        &service,
        "[process.a]\ncommand = ['sleep', '1000']\n[process.bad]\ncommand = ['/no/such/program']\n\
         [process.c]\ncommand = ['sleep', '1000']\n",
    );
    let out = service.cli(&["apply", "--yes", &path]);
    assert!(out.err().contains("bad: added, and cannot run"), "{}", out.err());
    out.expect(8);
    assert_eq!(pids(&service).into_keys().collect::<Vec<_>>(), ["a", "bad", "c"]);
    // It is there and says what is wrong, and is tried again by the next apply.
    let status = service.cli(&["status", "bad"]).expect(3).out();
    assert!(status.contains("no such file"), "{status}");
    assert_eq!(planned(&service, &path), ["add bad"]);
    let pid = pids(&service)["a"];
    let path = config(
        &service,
        "[process.a]\ncommand = ['sleep', '1000']\n[process.bad]\ncommand = ['sleep', '1000']\n",
    );
    service.ok(&["apply", "--yes", &path]);
    let all = pids(&service);
    assert_eq!((all["a"], all["bad"].is_some(), all.len()), (pid, true, 2));
    assert!(planned(&service, &path).is_empty());
}

/// What was changed while there was no service does not run as it was, not for a moment.
#[test]
fn a_service_begins_with_what_its_file_says_by_now() {
    let settings = Scratch::new();
    let path = settings.file("provost.toml");
    let section = |name: &str, word: &str, more: &str| {
        let file = settings.file(name);
        format!(
            "[process.{name}]\ncommand = ['sh', '-c', 'echo {word} >> {file}; exec sleep 72510']\n{more}\n"
        )
    };
    let said = |name: &str| fs::read_to_string(settings.file(name)).unwrap_or_default();
    let old = ["same", "changed", "replaced", "gone"].map(|name| section(name, "old", "")).concat();
    fs::write(&path, old).unwrap();
    let service = Options::new().serve(&["--config", &path]).start();
    wait::until("all have run", SOON, || {
        ["same", "changed", "replaced", "gone"].iter().all(|name| said(name) == "old\n")
    });
    wait::until("it was applied", SOON, || service.cli(&["wait", "provost.apply"]).code == 0);
    let id = service.status_json("changed")["id"].clone();
    for how in [Service::end as fn(&Service), Service::kill_all] {
        how(&service);
        let text = [
            section("same", "old", ""),
            section("changed", "new", ""),
            section("replaced", "new", "output_limit = '8 KiB'"),
        ];
        fs::write(&path, text.concat()).unwrap();
        service.serve_again();
        wait::until("all run", SOON, || {
            ["same", "changed", "replaced"]
                .iter()
                .all(|name| pids(&service).get(*name).is_some_and(Option::is_some))
        });
        wait::until("it was applied", SOON, || service.cli(&["wait", "provost.apply"]).code == 0);
        assert!(!pids(&service).contains_key("gone"));
    }
    assert_eq!(said("gone"), "old\n", "it has run again");
    wait::until("each has said its word", SOON, || said("same").lines().count() == 3);
    wait::until("the new ones too", SOON, || {
        [said("changed"), said("replaced")] == ["old\nnew\nnew\n", "old\nnew\nnew\n"]
    });
    assert_eq!(service.status_json("changed")["id"], id, "it is the same one");
}

#[test]
fn what_a_service_could_not_begin_with_is_told() {
    let settings = Scratch::new();
    let path = settings.file("provost.toml");
    let declare = |program: &str, log: &str| {
        let text = format!(
            "[process.bad]\ncommand = ['{program}', '1000']\n[process.unlogged]\ncommand = ['sleep', '1000']\n\
             log = '{log}'\n"
        );
        fs::write(&path, text).unwrap();
    };
    declare("/no/such/program", "/no/such/directory/log");
    let service = Options::new().serve(&["--config", &path]).start();
    wait::until("it was applied", SOON, || service.cli(&["wait", "provost.apply"]).code == 8);
    let status = service.cli(&["status", "bad"]).expect(3).out();
    assert!(status.contains("no such file"), "{status}");
    let why = service.cli(&["why", "unlogged"]).expect(4).err();
    assert!(why.contains("provost output provost.apply"), "{why}");
    let said = service.cli(&["output", "provost.apply"]);
    assert!((said.expect(0).out() + &said.err()).contains("unlogged: cannot add"), "{said:?}");
    let doctor = service.cli(&["doctor"]).expect(3).out();
    assert!(doctor.contains("configuration: not applied as a whole"), "{doctor}");
    assert!(service.cli(&["list"]).err().contains("could not be applied as a whole: provost apply"));
    declare("sleep", &settings.file("log"));
    service.ok(&["apply", "--yes", &path]);
    assert_eq!(service.cli(&["status", "bad", "unlogged"]).expect(0).err(), "");
    service.ok(&["doctor"]);
}

#[test]
fn a_service_begins_with_what_is_declared() {
    let text = "[process.web]\ncommand = ['sleep', '1000']\n[process.later]\ncommand = ['sleep', '1000']\n\
                autostart = false\n";
    let settings = Scratch::new();
    let path = settings.file("provost.toml");
    fs::write(&path, text).unwrap();
    let service = Options::new().serve(&["--config", &path]).start();
    wait::until("it is made", SOON, || pids(&service).get("web").is_some_and(Option::is_some));
    assert!(!pids(&service).contains_key("later"));
    let first = service.status_json("web");
    service.kill_engine();
    assert_eq!(service.status_json("web")["pid"], first["pid"]);
    // A service that begins anew has the same process, once.
    service.kill_all();
    service.serve_again();
    service.until_state("web", "running");
    wait::until("it was applied", SOON, || service.cli(&["wait", "provost.apply"]).code == 0);
    let web = service.status_json("web");
    assert_eq!((&web["id"], service.list_json().len()), (&first["id"], 1));
}

/// Whatever ends an apply or the engine in the middle: the next apply does what is left, and nothing runs
/// twice.
#[test]
fn k4_an_apply_that_is_killed_is_finished_by_the_next() {
    let service = Service::new();
    let file = |round: u32| {
        let one =
            |n: u32| format!("[process.p-{n}]\ncommand = ['sleep', '1000']\nenv = {{ R = '{round}' }}\n");
        (0..12).map(one).collect::<String>()
    };
    for round in 0..rounds(4) {
        let path = config(&service, &file(round));
        let apply = service.background(&["apply", "--yes", &path]);
        apply.line_with("done", LATER);
        if round % 2 == 0 {
            apply.signal("KILL");
        } else {
            service.kill_engine();
        }
        let _ = apply.end(LATER);
        service.ok(&["apply", "--yes", &path]);
        assert!(planned(&service, &path).is_empty());
        assert_eq!(service.list_json().len(), 12);
        for process in service.list_json() {
            let tree = service.tree_of(process["id"].as_str().unwrap());
            assert_eq!(tree.len(), 1, "one copy of each: {process}");
            assert!(process["run"].as_u64().unwrap() <= u64::from(round) + 1, "{process}");
        }
    }
    assert!(service.list_json().iter().all(|p| p["state"] == "running"));
}

/// The variables that every process gets, as a whole: shown first, without secrets, and nothing is restarted.
#[test]
fn the_environment_is_declared_as_a_whole() {
    let service = Service::new();
    let path = service.scratch().file("provost.toml");
    let process = "[process.web]\ncommand = ['sleep', '82001']\nautostart = true\n";
    let declare = |variables: &str| fs::write(&path, format!("{variables}{process}")).expect("it is ours");
    service.ok(&["env", "set", "OLD=1", "SITE=a"]);
    declare("");
    service.ok(&["apply", "--yes", &path]);
    assert_eq!(service.ok(&["env"]), "OLD=1\nSITE=a", "nothing is said of it");
    let pid = service.pid("web");
    declare("[environment]\nSITE = 'b'\nAPI_KEY = 'cheese'\n");
    let shown = service.cli(&["apply", "--dry-run", &path]);
    let text = shown.expect(3).out();
    assert!(text.contains("environment") && text.contains("OLD") && text.contains("***"), "{text}");
    assert!(!text.contains("cheese") && !text.contains("web"), "{text}");
    assert_eq!(service.ok(&["env"]), "OLD=1\nSITE=a", "it was only shown");
    service.ok(&["apply", "--yes", &path]);
    service.cli(&["apply", "--dry-run", &path]).expect(0);
    assert_eq!(service.ok(&["env"]).lines().collect::<BTreeSet<_>>(), ["API_KEY=cheese", "SITE=b"].into());
    assert_eq!(service.pid("web"), pid, "nothing is restarted for it");
    service.ok(&["restart", "web"]);
    assert_eq!(procfs::variable(service.pid("web"), "SITE").as_deref(), Some("b"));
    assert_eq!(procfs::variable(service.pid("web"), "OLD"), None);
    let shown = service.ok(&["config", "show", "--set", &path]);
    assert!(shown.contains("environment\tSITE\t\"b\"") && !shown.contains("cheese"), "{shown}");
    declare("[environment]\n'A=B' = 'x'\n");
    let refused = service.cli(&["apply", "--yes", &path]);
    assert!(refused.expect(2).err().contains("line 2"), "{refused:?}");
    declare("[environment]\n");
    service.ok(&["apply", "--yes", &path]);
    assert_eq!(service.ok(&["env"]), "");
    // By hand the same.
    let file = service.scratch().file("common.env");
    fs::write(&file, "# all of it\nexport A=1\nB='2 3'\n").expect("it is ours");
    service.ok(&["env", "set", "OLD=1", "A=0"]);
    service.ok(&["env", "replace", &file]);
    assert_eq!(service.ok(&["env"]).lines().collect::<BTreeSet<_>>(), ["A=1", "B=2 3"].into());
}

#[test]
fn what_was_updated_by_hand_stays_declared_and_the_next_apply_shows_it() {
    let service = Service::new();
    let path = service.scratch().file("provost.toml");
    fs::write(
        &path,
        "[process.web]\ncommand = ['sleep', '82002']\n[process.db]\ncommand = ['sleep', '82002']\n",
    )
    .expect("it is ours");
    service.ok(&["apply", "--yes", &path]);
    assert_eq!(service.ok(&["list", "--count"]), "2");
    service.ok(&["update", "web", "--env", "A=1"]);
    let text = service.cli(&["apply", "--dry-run", &path]).expect(3).out();
    assert!(text.contains("web") && text.contains("env") && !text.contains("db"), "{text}");
    service.ok(&["apply", "--yes", &path]);
    service.cli(&["apply", "--dry-run", &path]).expect(0);
    service.ok(&["update", "web", "--env", "A=2"]);
    service.ok(&["stop", "db"]);
    assert_eq!(service.ok(&["list", "--count"]), "1");
    assert_eq!(service.ok(&["list", "--count", "--state", "stopped,running"]), "2");
    assert_eq!(service.ok(&["list", "--count", "d*"]), "0");
    fs::write(&path, "").expect("it is ours");
    service.ok(&["apply", "--yes", &path]);
    assert!(service.list_json().is_empty(), "what is declared no more is removed, also after an update");
}

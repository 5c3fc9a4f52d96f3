//! `provost reload`: the service's own settings are shown as they differ, and hold, while every process goes
//! on.

use std::fs;
use std::process::Command;

use crate::harness::cli::run;
use crate::harness::{LATER, Options, SOON, Scratch, Service, free_port, wait};

/// A service with this configuration, and the path of that.
fn service(settings: &Scratch, text: &str) -> (Service, String) {
    let path = settings.file("provost.toml");
    fs::write(&path, text).unwrap();
    (Options::new().serve(&["--config", &path]).start(), path)
}

fn lines(path: &str) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn settings_of_the_engine_hold_without_a_restart_of_anything() {
    let settings = Scratch::new();
    let (first, second) = (settings.file("a.jsonl"), settings.file("b.jsonl"));
    let sink = |path: &str| format!("[[sink]]\nkind = 'jsonl'\nname = 'audit'\npath = '{path}'\n");
    let web = "[process.web]\ncommand = ['sleep', '72501']\n";
    let (service, path) = service(&settings, &format!("{}{web}", sink(&first)));
    wait::until("it is applied", LATER, || service.cli(&["wait", "provost.apply"]).code == 0);
    let pid = service.pid("web");
    let same = service.cli(&["reload", "--dry-run"]).expect(0).out();
    assert_eq!(same, "nothing differs from what holds");

    let changed = format!("[service]\norphans = 'adopt'\n{}[history]\nkeep = '7d'\n{web}", sink(&second));
    fs::write(&path, changed).unwrap();
    let engine = service.engine_pid();
    let shown = service.cli(&["reload", "--dry-run"]).expect(3).out();
    for line in
        ["in place  history.keep     -", "in place  service.orphans  -", "in place  sink.1.path      "]
    {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    assert_eq!(service.engine_pid(), engine, "it was only shown");
    let said = service.cli(&["reload", "--yes", "--json"]).expect(0).json();
    assert!(!service.cli(&["status", "web"]).err().contains("has changed"), "nothing is left to apply");
    assert_eq!((&said[0]["reloaded"], said[0]["changes"].as_array().unwrap().len()), (&true.into(), 3));
    assert_ne!(service.engine_pid(), engine);
    let before = lines(&first);
    service.ok(&["start", "--name", "new", "--", "true"]);
    wait::until("events go to the new place", SOON, || {
        fs::read_to_string(&second).is_ok_and(|text| text.contains("\"new\""))
    });
    assert_eq!(lines(&first), before);
    assert_eq!(service.pid("web"), pid);
    assert_eq!(service.ok(&["reload", "--dry-run"]), "nothing differs from what holds");
    assert_eq!(
        service.ok(&["reload"]),
        "there is nothing to reload: the service's own settings are as they were, and it runs no gateway"
    );
}

#[test]
fn what_cannot_be_read_leaves_everything_as_it_was() {
    let settings = Scratch::new();
    let (service, path) = service(&settings, "[history]\nkeep = '7d'\n");
    let engine = service.engine_pid();
    for (text, says) in [
        ("[history]\nkep = '8d'\n", "line 2, column 1: unknown key 'kep' in [history]"),
        ("[history]\nkeep = '8d\n", "line 2, column 11"),
    ] {
        fs::write(&path, text).unwrap();
        let shown = service.cli(&["reload", "--dry-run"]).expect(2).err();
        let refused = service.cli(&["reload"]).expect(2).err();
        assert_eq!(shown.lines().next(), refused.lines().next());
        assert!(refused.contains("not reloaded") && refused.contains(says), "{refused}");
        assert_eq!(service.engine_pid(), engine);
    }
    fs::write(&path, "[history]\nkeep = '8d'\n").unwrap();
    // On a terminal it is asked for first.
    let reload = format!("{} reload", crate::harness::binary().display());
    let asked = |answer: &str| {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("echo {answer} | script -qec '{reload}' /dev/null"));
        shell.env("PROVOST_SOCKET", service.socket());
        run(shell, LATER)
    };
    let said = asked("n").out();
    assert!(said.contains("history.keep") && said.contains("nothing was changed"), "{said}");
    assert_eq!(service.engine_pid(), engine);
    assert!(asked("y").out().contains("reloaded: 1 settings hold now"));
    assert_ne!(service.engine_pid(), engine);
}

/// The host reads its sections when it begins.
#[cfg(feature = "gateway")]
#[test]
fn settings_of_the_host_restart_it_and_nothing_else() {
    let settings = Scratch::new();
    let (service, path) = service(&settings, "[process.web]\ncommand = ['sleep', '72502']\n");
    wait::until("it is applied", LATER, || service.cli(&["wait", "provost.apply"]).code == 0);
    let pid = service.pid("web");
    let modules = |port: u16| {
        format!("[modules]\nlisten = '127.0.0.1:{port}'\n[process.web]\ncommand = ['sleep', '72502']\n")
    };
    let is_open = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    for _ in 0..2 {
        let port = free_port();
        fs::write(&path, modules(port)).unwrap();
        let shown = service.cli(&["reload", "--dry-run"]).expect(3).out();
        assert!(shown.contains("restart host  modules.listen"), "{shown}");
        assert!(!is_open(port));
        service.ok(&["reload"]);
        wait::until("modules are registered there", LATER, || is_open(port));
    }
    // What is decided where the service begins is said.
    fs::write(&path, format!("[local]\ngrpc = false\n{}", modules(free_port()))).unwrap();
    let said = service.cli(&["reload"]).expect(0).err();
    assert!(said.contains("local.grpc holds from the next start of the service on"), "{said}");
    let shown = service.cli(&["reload", "--dry-run"]).expect(3).out();
    assert!(shown.contains("next start  local.grpc") && !shown.contains("modules"), "{shown}");
    assert_eq!(service.pid("web"), pid);
}

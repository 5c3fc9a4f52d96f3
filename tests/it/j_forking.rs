//! Programs that put themselves into the background: the main process is the one that a file or the program
//! itself names, if it is of the tree; its end is known; and it is the one after every kind of death around.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{LATER, Options, SOON, Service, procfs, wait};

/// Forks, and ends; what goes on writes its number to the first argument, waits for the second, and ends with
/// 7. With a third, its parent does not end before that is there.
const DAEMON: &str = "import os,sys,time
def until(path):
    while not os.path.exists(path): time.sleep(0.01)
if os.fork():
    if len(sys.argv) > 3: until(sys.argv[3])
    os._exit(0)
os.setsid()
if not os.fork(): time.sleep(72101)
open(sys.argv[1] + '.new', 'w').write(str(os.getpid()) + '\\n')
os.rename(sys.argv[1] + '.new', sys.argv[1])
until(sys.argv[2])
os._exit(7)
";

/// With cgroups, if there are any, and without.
fn both_ways() -> [Options; 2] {
    [Options::new(), Options::new().without_cgroups()]
}

/// Starts the daemon as `web`, with these options beside; the pid file, and what ends it.
fn start(service: &Service, options: &[&str], third: Option<&str>) -> (String, String) {
    let [file, gate] = ["web.pid", "gate"].map(|name| service.scratch().file(name));
    let mut args = vec!["start", "--name", "web", "--forking", "--pid-file", &file];
    args.extend(options);
    args.extend(["--", "python3", "-c", DAEMON, &file, &gate]);
    args.extend(third);
    service.ok(&args);
    (file, gate)
}

fn until_ready(service: &Service) -> u32 {
    service.ok(&["wait", "--for", "ready", "--timeout", "60s", "web"]);
    service.pid("web")
}

fn named(file: &str) -> u32 {
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

fn kinds(service: &Service) -> Vec<String> {
    let events = service.events();
    let of_web = events.iter().filter(|e| e["name"] == "web");
    of_web.map(|e| e["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_main_process_is_the_one_in_the_file_and_its_end_is_known() {
    for options in both_ways() {
        let service = options.start();
        let (file, gate) = start(&service, &[], None);
        let main = until_ready(&service);
        assert_eq!(main, named(&file));
        assert_eq!(kinds(&service), ["created", "started", "forked", "ready"]);
        assert_eq!(procfs::stat(main).unwrap().parent, service.keeper_pid(), "an orphan is the keeper's");
        fs::write(&gate, "").unwrap();
        let ended = service.until_state("web", "stopped");
        assert_eq!((&ended["exit"]["code"], &ended["run"]), (&7.into(), &1.into()), "{ended}");
        let left = service.tree_of(ended["id"].as_str().unwrap());
        assert!(left.is_empty(), "all of its tree is ended");
    }
}

#[test]
fn its_policy_restarts_it_and_a_stop_ends_all_of_it() {
    for options in both_ways() {
        let service = options.start();
        let (file, _) = start(&service, &["--restart", "on-failure"], None);
        let first = until_ready(&service);
        procfs::signal("KILL", first);
        wait::until("it has a new main process", LATER, || {
            let status = service.status_json("web");
            status["run"] == 2 && status["ready"] == true
        });
        let second = service.pid("web");
        assert!(second != first && second == named(&file), "{first} {second}");
        let before = service.status_json("web");
        assert_eq!(before["exit"]["signal"], "SIGKILL", "{before}");
        service.ok(&["restart", "--wait=ready", "web"]);
        let third = service.pid("web");
        assert!(third != second && !procfs::alive(second));
        service.ok(&["stop", "web"]);
        assert!(
            !procfs::alive(third)
                && service.tree_of(service.status_json("web")["id"].as_str().unwrap()).is_empty()
        );
        assert_eq!(service.status_json("web")["exit"]["signal"], "SIGTERM");
    }
}

/// It has ended, and was reaped, before anybody could read the file.
#[test]
fn one_that_ends_at_once_is_known_by_its_exit_code() {
    let service = Service::new();
    let file = service.scratch().file("web.pid");
    let script = format!("sh -c 'echo $$ > {file}; exit 3' & exit 0");
    service.ok(&["start", "--name", "web", "--forking", "--pid-file", &file, "--", "sh", "-c", &script]);
    let ended = service.until_state("web", "stopped");
    assert_eq!(ended["exit"]["code"], 3, "{ended}\n{:?}", kinds(&service));
}

#[test]
fn a_pid_file_of_a_stranger_is_refused() {
    for options in both_ways() {
        let service = options.start();
        let mut stranger = Command::new("sleep").arg("72102").stdin(Stdio::null()).spawn().unwrap();
        let file = service.scratch().file("web.pid");
        fs::write(&file, stranger.id().to_string()).unwrap();
        let script = "sleep 72103 & exit 0";
        service.ok(&["start", "--name", "web", "--forking", "--pid-file", &file, "--", "sh", "-c", script]);
        let failed = service.until_state("web", "stopped");
        let why = service.ok(&["why", "web"]);
        let said = format!("names pid {}, which is not of it", stranger.id());
        assert!(why.contains(&said) && failed["pid"].is_null(), "{why}");
        assert!(procfs::alive(stranger.id()) && procfs::with_command("sleep 72103").is_empty());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

#[test]
fn a_file_that_names_nobody_fails_the_run_by_its_name() {
    let service = Service::new();
    let file = service.scratch().file("web.pid");
    let args = ["start", "--name", "web", "--forking", "--pid-file", &file, "--wait=ready"];
    let started = service.cli(&[&args[..], &["--", "sh", "-c", "exit 0"]].concat());
    assert!(started.code != 0 && started.err().contains("its pid file cannot be read"), "{started:?}");
    assert!(service.ok(&["why", "web"]).contains(&file));
    // An old one is not believed either, though it names nobody who lives.
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    fs::write(&file, gone.id().to_string()).unwrap();
    Command::new("touch").args(["-d", "1 hour ago", &file]).status().unwrap();
    service.ok(&["start", "web"]);
    wait::until("it has failed again", SOON, || service.ok(&["why", "web"]).contains("is old: pid"));
}

#[test]
fn without_it_why_tells_what_to_do() {
    let service = Service::new();
    service.ok(&["start", "--name", "web", "--", "sh", "-c", "sleep 72104 & exit 0"]);
    service.until_state("web", "stopped");
    let why = service.ok(&["why", "web"]);
    assert!(why.contains("it put itself into the background") && why.contains("pid_file"), "{why}");
}

#[test]
fn a_stop_and_an_end_while_the_main_process_is_awaited_end_all() {
    for options in both_ways() {
        let service = options.start();
        let file = service.scratch().file("never");
        let script = "sleep 72105 & exit 0";
        service.ok(&["start", "--name", "web", "--forking", "--pid-file", &file, "--", "sh", "-c", script]);
        wait::until("the launcher is gone", SOON, || {
            service.pid("web") == 0 || !procfs::alive(service.pid("web"))
        });
        service.ok(&["stop", "web"]);
        assert_eq!(service.state("web"), "stopped");
        assert!(procfs::with_command("sleep 72105").is_empty());
        service.ok(&["start", "web"]);
        service.end();
        assert!(procfs::with_command("sleep 72105").is_empty());
    }
}

#[test]
fn its_main_process_is_known_after_every_death_of_an_engine() {
    for options in both_ways() {
        let service = options.start();
        let launch = service.scratch().file("launch");
        let (file, gate) = start(&service, &[], Some(&launch));
        wait::until("it has named itself", SOON, || fs::exists(&file).unwrap());
        // In the middle: the launcher ends while nobody is there.
        procfs::signal("STOP", service.keeper_pid());
        procfs::signal("KILL", service.engine_pid());
        fs::write(&launch, "").unwrap();
        wait::pass(Duration::from_millis(100));
        procfs::signal("CONT", service.keeper_pid());
        let main = until_ready(&service);
        assert_eq!(main, named(&file));
        for _ in 0..3 {
            service.kill_engine();
            let status = service.status_json("web");
            assert_eq!((&status["state"], &status["run"]), (&"running".into(), &1.into()), "{status}");
            assert_eq!(service.pid("web"), main);
        }
        // It ends while there is no engine: the keeper has seen how.
        procfs::signal("STOP", service.keeper_pid());
        procfs::signal("KILL", service.engine_pid());
        fs::write(&gate, "").unwrap();
        wait::pass(Duration::from_millis(100));
        procfs::signal("CONT", service.keeper_pid());
        let ended = service.until_state("web", "stopped");
        assert_eq!(ended["exit"]["code"], 7, "{ended}");
    }
}

#[test]
fn a_service_that_begins_again_finds_it() {
    for options in both_ways() {
        let scratch = crate::harness::Scratch::new();
        let config = scratch.file("provost.toml");
        fs::write(&config, "orphans = \"adopt\"\n").unwrap();
        let service = options.serve(&["--config", &config]).start();
        let (_, gate) = start(&service, &[], None);
        let main = until_ready(&service);
        service.until_store("sound");
        service.kill_service();
        assert!(procfs::alive(main));
        service.serve_again();
        assert_eq!(service.pid("web"), main);
        assert_eq!(service.status_json("web")["state"], "running");
        fs::write(&gate, "").unwrap();
        let ended = service.until_state("web", "stopped");
        assert!(service.tree_of(ended["id"].as_str().unwrap()).is_empty());
    }
}

#[test]
fn an_upgrade_keeps_it() {
    let service = Service::new();
    let (_, gate) = start(&service, &[], None);
    let main = until_ready(&service);
    service.ok(&["upgrade"]);
    assert_eq!(service.pid("web"), main);
    fs::write(&gate, "").unwrap();
    assert_eq!(service.until_state("web", "stopped")["exit"]["code"], 7);
}

/// Says what is given at NOTIFY_SOCKET.
const SAY: &str = "import os,socket,sys,time
def say(text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect('\\0' + os.environ['NOTIFY_SOCKET'][1:])
    s.send(text.encode())
def until(path):
    while not os.path.exists(path): time.sleep(0.01)
";

#[test]
fn it_may_say_itself_which_process_is_the_main_one() {
    for options in [&["--ready-notify", "--forking"][..], &["--ready-notify"]] {
        let service = Service::new();
        let gate = service.scratch().file("gate");
        let script = format!(
            "{SAY}say('MAINPID=1')\nif os.fork():\n    time.sleep(0.1)\n    os._exit(0)\n\
             say(f'MAINPID={{os.getpid()}}\\nREADY=1')\nuntil('{gate}')\nos._exit(5)"
        );
        let args = [&["start", "--name", "web"], options, &["--", "python3", "-c", &script]].concat();
        service.ok(&args);
        service.ok(&["wait", "--for", "ready", "--timeout", "60s", "web"]);
        let launcher_is_gone =
            || procfs::stat(service.pid("web")).is_some_and(|s| s.parent == service.keeper_pid());
        wait::until("its parent has ended", SOON, launcher_is_gone);
        assert_eq!(service.state("web"), "running");
        fs::write(&gate, "").unwrap();
        let ended = service.until_state("web", "stopped");
        assert_eq!((&ended["exit"]["code"], &ended["run"]), (&5.into(), &1.into()), "{ended}");
    }
}

/// Its parent lives, and takes its end for itself: that it is gone is all that is known.
#[test]
fn one_whose_parent_lives_and_reaps_it_is_lost() {
    let service = Service::new();
    let script = format!(
        "{SAY}pid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\n    time.sleep(72106)\n\
         say(f'MAINPID={{os.getpid()}}\\nREADY=1')\ntime.sleep(72107)"
    );
    service.ok(&["start", "--name", "web", "--ready-notify", "--", "python3", "-c", &script]);
    service.ok(&["wait", "--for", "ready", "--timeout", "60s", "web"]);
    procfs::signal("KILL", service.pid("web"));
    let ended = service.until_state("web", "stopped");
    assert!(ended["exit"].is_null() && kinds(&service).contains(&"lost".to_owned()), "{ended}");
    assert!(procfs::with_command("time.sleep(72106)").is_empty());
    service.ok(&["start", "web"]);
    service.ok(&["wait", "--for", "ready", "--timeout", "60s", "web"]);
}

/// Real ones, with their own ways to write the file.
#[test]
fn redis_and_nginx_run_in_the_background() {
    let service = Service::new();
    let dir = service.scratch().path().to_str().unwrap().to_owned();
    let [redis, nginx] = [(); 2].map(|()| crate::harness::free_port());
    let nginx_conf = format!(
        "pid {dir}/nginx.pid; error_log stderr; worker_processes 2; events {{}} http {{ access_log off; \
         client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; \
         uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; \
         server {{ listen 127.0.0.1:{nginx}; return 200; }} }}"
    );
    fs::write(format!("{dir}/nginx.conf"), nginx_conf).unwrap();
    let config = format!(
        "[defaults]\nforking = true\nrestart = \"on-failure\"\n[process.redis]\ncommand = [\"redis-server\", \
         \"--port\", \"{redis}\", \"--save\", \"\", \"--dir\", \"{dir}\", \"--daemonize\", \"yes\", \"--pidfile\", \
         \"{dir}/redis.pid\"]\npid_file = \"{dir}/redis.pid\"\nready_tcp = {redis}\n[process.nginx]\n\
         command = [\"nginx\", \"-p\", \"{dir}\", \"-e\", \"stderr\", \"-c\", \"{dir}/nginx.conf\"]\n\
         pid_file = \"{dir}/nginx.pid\"\nready_tcp = {nginx}\n"
    );
    let path = service.scratch().file("provost.toml");
    fs::write(&path, config).unwrap();
    service.ok(&["apply", "--yes", &path]);
    for (name, file) in [("redis", "redis.pid"), ("nginx", "nginx.pid")] {
        service.ok(&["wait", "--for", "ready", "--timeout", "60s", name]);
        let is_named = || service.pid(name) == named(&format!("{dir}/{file}"));
        wait::until("its main process is known", SOON, is_named);
        procfs::signal("KILL", service.pid(name));
        wait::until("it is there again", LATER, || {
            let status = service.status_json(name);
            status["run"] == 2 && status["ready"] == true && status["pid"] != 0
        });
        wait::until("its main process is known", SOON, is_named);
    }
    service.ok(&["stop", "redis", "nginx"]);
    let left: Vec<_> = ["redis.pid", "nginx.conf"]
        .into_iter()
        .flat_map(procfs::with_command)
        .filter(|&pid| service.is_marked(pid))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

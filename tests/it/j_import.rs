//! Configurations of other supervisors: imported, accepted, and run as they were by the other one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::cli::{Running, run};
use crate::harness::{LATER, SOON, Scratch, Service, procfs, wait};

/// Twenty programs with everything that people use.
fn conf(dir: &str) -> String {
    let mut text = format!(
        "[unix_http_server]\nfile={dir}/supervisor.sock\n\
         [supervisord]\nlogfile={dir}/supervisord.log\npidfile={dir}/supervisord.pid\nchildlogdir={dir}\n\
         environment=GLOBAL=\"for all\"\n\
         [rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n\
         [supervisorctl]\nserverurl=unix://{dir}/supervisor.sock\n\
         [include]\nfiles = conf.d/*.conf\n\
         [group:pair]\nprograms=left,right\npriority=5\n"
    );
    for name in ["left", "right"] {
        text +=
            &format!("[program:{name}]\ncommand={dir}/say {name}\nstopsignal=INT ; asks\nstopwaitsecs=3\n");
    }
    text += &format!(
        "[program:worker]\ncommand={dir}/say worker-%(process_num)d --of \"%(numprocs)d in all\"\n\
         process_name=%(program_name)s_%(process_num)02d\nnumprocs=10\nnumprocs_start=3\npriority=10\n\
         [program:user]\ncommand={dir}/say user\nuser=nobody\numask=027\ndirectory=/tmp\nstartsecs=0\n\
         environment=A=\"one, two\",HOME_OF=\"%(ENV_HOME)s\",PCT=\"5%%\"\nautorestart=true\nstopasgroup=true\n\
         [program:once]\ncommand={dir}/say once\nautorestart=false\nexitcodes=0,2\n\
         stdout_logfile={dir}/once.log\nstdout_logfile_maxbytes=1MB\nstdout_logfile_backups=3\n\
         [program:noisy]\ncommand={dir}/say noisy\nredirect_stderr=true\nstdout_logfile={dir}/%(program_name)s.log\n\
         [program:brief]\ncommand=sh -c \"exit 2\"\nexitcodes=2\nstartsecs=0\n\
         [program:later]\ncommand={dir}/say later\nautostart=false\n"
    );
    text
}

/// Prints what it was given, so that two supervisors can be compared.
const SAY: &str = "#!/bin/sh
{ for word; do echo \"arg $word\"; done; pwd; umask; id -u
env | grep -E '^(A|HOME_OF|PCT|GLOBAL|HERE)=' | sort; } > \"$(dirname \"$0\")/$SIDE.$1.new\"
mv \"$(dirname \"$0\")/$SIDE.$1.new\" \"$(dirname \"$0\")/$SIDE.$1\"
echo \"said $1\"
echo \"erred $1\" >&2
exec sleep 73001
";

fn said(dir: &str, side: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    let own = names.filter_map(|n| Some((n.strip_prefix(&format!("{side}."))?.to_owned(), n)));
    own.filter(|(name, _)| !name.ends_with(".new"))
        .map(|(name, file)| (name, fs::read_to_string(format!("{dir}/{file}")).unwrap()))
        .collect()
}

#[test]
fn what_supervisord_runs_is_imported_and_runs_the_same() {
    use std::os::unix::fs::PermissionsExt;
    if !Path::new("/usr/bin/supervisord").exists() {
        panic!("supervisord is not installed: tests/install.sh tests");
    }
    let scratch = Scratch::new();
    let dir = scratch.path().to_str().unwrap().to_owned();
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o777)).unwrap();
    fs::write(scratch.file("say"), SAY).unwrap();
    fs::set_permissions(scratch.file("say"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir(scratch.file("conf.d")).unwrap();
    let included = format!(
        "[program:included]\ncommand={dir}/say included\nenvironment=HERE=\"%(here)s\"\n\
         [program:bare]\ncommand=%(here)s/../say bare\n[eventlistener:ears]\ncommand=cat\nevents=TICK_60\nautostart=false\n"
    );
    fs::write(scratch.file("conf.d/more.conf"), included).unwrap();
    let path = scratch.file("supervisord.conf");
    fs::write(&path, conf(&dir)).unwrap();

    // The oracle: what supervisord itself makes of it.
    let mut oracle = Command::new("/usr/bin/supervisord");
    oracle.args(["-n", "-c", &path]).env("SIDE", "theirs").current_dir("/");
    let oracle = Running::new(oracle);
    let count = 2 + 10 + 1 + 1 + 2 + 1;
    wait::until("supervisord runs all", LATER, || said(&dir, "theirs").len() == count);

    let service = Service::new();
    let toml = service.ok(&["import", &path]);
    for line in [
        "# not carried over: [eventlistener:ears]",
        "[process.worker_03]",
        "in_group = \"pair\"",
        "success_codes = [0, 2]",
        "stop_signal = \"INT\"",
        "stop_timeout = \"3s\"",
        "autostart = false",
        "# autostart = false: 'provost apply' by hand starts it",
        &format!("log_stdout = \"{dir}/once.log\"\nlog_size = \"1 MiB\"\nlog_keep = 3\n"),
        &format!("log = \"{dir}/noisy.log\""),
    ] {
        assert!(toml.contains(line), "{line}\n{toml}");
    }
    let ours = scratch.file("provost.toml");
    // Else both write to one file.
    fs::write(
        &ours,
        toml.replace(&format!("{dir}/once.log"), &format!("{dir}/once.ours"))
            .replace("noisy.log", "noisy.ours"),
    )
    .unwrap();
    service.cli(&["apply", "--dry-run", &ours]).expect(3);
    service.ok(&["env", "set", "SIDE=ours"]);
    service.ok(&["apply", "--yes", &ours]);
    wait::until("all have said", LATER, || said(&dir, "ours").len() == count + 1);
    let (mut own, theirs) = (said(&dir, "ours"), said(&dir, "theirs"));
    // An apply by hand starts what is new, whatever a service would do at its begin.
    assert!(own.remove("later").is_some());
    assert_eq!(own, theirs);
    assert_eq!(service.cli(&["status", "--json", "@worker"]).json().len(), 10);
    let text = |name: &str| fs::read_to_string(scratch.file(name)).unwrap_or_default();
    for (ours, theirs, said) in [
        ("once.ours", "once.log", &["said once"][..]),
        ("noisy.ours", "noisy.log", &["said noisy", "erred noisy"]),
    ] {
        wait::until("both have written", SOON, || {
            [ours, theirs].iter().all(|file| said.iter().all(|line| text(file).contains(line)))
        });
        assert_eq!(text(ours).lines().count(), said.len(), "{}", text(ours));
        assert_eq!(text(theirs).lines().count(), said.len(), "{}", text(theirs));
    }
    behave_alike(&service, &path);
    procfs::signal("TERM", oracle.pid());
    oracle.end(LATER);
}

/// What the two do with the same programs when those are killed, stopped and started again.
fn behave_alike(service: &Service, conf: &str) {
    let ctl = |args: &[&str]| {
        let mut command = Command::new("/usr/bin/supervisorctl");
        command.args(["-c", conf]).args(args);
        run(command, LATER).out()
    };
    let their_pid = |name: &str| ctl(&["pid", name]).parse::<u32>().unwrap_or(0);
    let our_pid = |name: &str| service.status_json(name)["pid"].as_u64().unwrap_or(0) as u32;
    // Killed, an ordinary one comes again; one that is never restarted does not.
    for (name, theirs, comes_again) in [("left", "pair:left", true), ("once", "once", false)] {
        let before = (our_pid(name), their_pid(theirs));
        assert!(before.0 != 0 && before.1 != 0, "{name} {before:?}");
        procfs::signal("KILL", before.0);
        procfs::signal("KILL", before.1);
        wait::until("it is known", LATER, || {
            let now = (our_pid(name), their_pid(theirs));
            let is_there =
                |pid: u32, before: u32| if comes_again { pid != 0 && pid != before } else { pid == 0 };
            is_there(now.0, before.0) && is_there(now.1, before.1)
        });
    }
    // Ended with a code that is expected: both leave it at that.
    let theirs = ctl(&["status", "brief"]);
    let ours = service.status_json("brief");
    assert!(theirs.contains("EXITED"), "{theirs}");
    assert_eq!(
        (&ours["state"], &ours["exit"]["code"], &ours["run"]),
        (&"stopped".into(), &2.into(), &1.into())
    );
    // Stopped with the signal that is said, a group as a whole, and started again.
    ctl(&["stop", "pair:*"]);
    service.ok(&["stop", "@pair"]);
    for (name, theirs) in [("left", "pair:left"), ("right", "pair:right")] {
        assert!(ctl(&["status", theirs]).contains("STOPPED"));
        let status = service.status_json(name);
        assert_eq!((&status["state"], &status["exit"]["signal"]), (&"stopped".into(), &"SIGINT".into()));
    }
    ctl(&["start", "pair:*"]);
    service.ok(&["start", "@pair"]);
    assert!(their_pid("pair:left") != 0 && our_pid("left") != 0);
}

/// What people write who know supervisord well: indented keys, comments of both kinds, keys for all sections,
/// sections in several files, patterns, and names of every kind in values.
const TRICKY: &str = r#"[DEFAULT]
stopwaitsecs = 7
[supervisord]
environment = BASE="/srv/base",MODE=test
umask = 027
directory = /tmp
minfds = 2048
[include]
files = conf.d/*/?.conf conf.d/[x-z]*.ini
  none/*.conf

[program:indented]
    command = /bin/echo one ; a comment
      two            # another one
      "three;3#3"
    ; a line of its own
    directory = %(ENV_BASE)s/%(program_name)s
    user = nobody
    environment =
      A = "1, 2",
      B = '%(ENV_MODE)s',
      PATH = %(here)s/bin:/bin
[program:own]
environment = PORT="80%(process_num)02d",NAME='%(group_name)s'
command = /bin/serve --port %(ENV_PORT)s --of %(numprocs)d -n %(process_num)3d "%(host_node_name)s"
process_name = own-%(process_num)-2d
process_name = own-%(process_num)03d
numprocs = 3
numprocs_start = 9
stdout_logfile = /var/log/%(program_name)s-%(process_num)d.log
stopsignal = 2
priority = 20
[program:first]
command = a
priority = 3
autostart = %(ENV_YES)s
exitcodes = 0, 3
[program:second]
command: b
priority: 1
autorestart = FALSE
[program:third]
command = c 'd e'f \ g
priority = 900
startsecs = 0
autorestart = true
killasgroup = yes
[group:late]
programs = first,
  second
[group:early]
programs = split
priority = 7
[program:split]
command = one
startretries = 5
startsecs = 4
"#;

#[test]
fn a_file_is_read_as_supervisord_itself_reads_it() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.file("conf.d/in")).unwrap();
    fs::create_dir_all(scratch.file("conf.d/.hidden")).unwrap();
    let more = "[program:split]\ncommand = two %(here)s\n[program:also]\ncommand=cat\n[include]\nfiles=*\n";
    for (name, text) in [
        ("supervisord.conf", TRICKY),
        ("conf.d/in/b.conf", more),
        ("conf.d/in/bb.conf", "[program:not]\ncommand=a\n"),
        ("conf.d/.hidden/c.conf", "[program:hidden]\ncommand=a\n"),
        ("conf.d/y1.ini", "[program:also]\nstopsignal=sighup\n"),
    ] {
        fs::write(scratch.file(name), text).unwrap();
    }
    let conf = scratch.file("supervisord.conf");
    let mut import = Command::new(crate::harness::binary());
    import.args(["import", &conf]).env("YES", "no");
    let toml = run(import, SOON).expect(0).out();
    let ours = scratch.file("provost.toml");
    fs::write(&ours, &toml).unwrap();
    let oracle = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/supervisord_oracle.py");
    let mut python = Command::new("/usr/bin/python3");
    python.args([oracle, &conf, &ours]).env("YES", "no");
    let differences = run(python, SOON).expect(0).out();
    assert_eq!(differences, "", "{toml}");
    assert!(toml.contains("# included none/*.conf: there is no such file"), "{toml}");
    assert!(toml.contains("[defaults.limits]\nnofile = \"2048\""), "{toml}");
    assert_eq!(toml.matches("leaves running what it has started").count(), 8, "of all but one\n{toml}");
    assert!(toml.contains("after = [\"@own\"]"), "all of a program are called by its name\n{toml}");
}

#[test]
fn a_dump_of_pm2_is_imported() {
    let service = Service::new();
    let dir = service.scratch().path().to_str().unwrap().to_owned();
    let entry = |n: u32| {
        serde_json::json!({
            "name": "api", "pm_exec_path": format!("{dir}/api.sh"), "exec_interpreter": "sh", "pm_cwd": dir,
            "args": ["x y"], "exec_mode": "fork_mode", "instances": 2, "autorestart": true, "kill_timeout": 3000,
            "pm_out_log_path": format!("{dir}/api-out-{n}.log"), "pm_err_log_path": format!("{dir}/api-error-{n}.log"),
            "env": { "MODE": "production", "HOME": "/root", "name": "api" }, "status": "online", "watch": true,
        })
    };
    fs::write(service.scratch().file("api.sh"), "echo \"$MODE $1 $PWD\"; exec sleep 73004\n").unwrap();
    let path = service.scratch().file("dump.pm2");
    fs::write(&path, serde_json::Value::from(vec![entry(0), entry(1)]).to_string()).unwrap();
    let ours = service.scratch().file("provost.toml");
    let toml = service.ok(&["import", &path]);
    assert!(toml.contains("# not carried over: watch = true"), "{toml}");
    fs::write(&ours, toml).unwrap();
    service.ok(&["apply", "--yes", &ours]);
    for n in [1, 2] {
        let log = format!("{dir}/api-{n}-out.log");
        let said = format!("production x y {dir}\n");
        wait::until("its log is written", SOON, || fs::read_to_string(&log).is_ok_and(|text| text == said));
    }
    // Stopped as pm2 does it.
    service.ok(&["stop", "api-1"]);
    assert_eq!(service.status_json("api-1")["exit"]["signal"], "SIGINT");
}

#[test]
fn a_procfile_is_imported() {
    let service = Service::new();
    let path = service.scratch().file("Procfile");
    fs::write(&path, "web: echo port $PORT; exec sleep 73002\nworker: exec sleep 73003\n").unwrap();
    let ours = service.scratch().file("provost.toml");
    fs::write(&ours, service.ok(&["import", "procfile", &path])).unwrap();
    service.ok(&["apply", "--yes", &ours]);
    wait::until("it has said its port", SOON, || service.output("web") == b"port 5000\n");
    let mut nobody = service.command(&["import", "/no/such"]);
    nobody.env_remove("PROVOST_SOCKET");
    run(nobody, SOON).expect(2);
}

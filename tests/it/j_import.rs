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
         [program:once]\ncommand={dir}/say once\nautorestart=false\nexitcodes=0,2\nstdout_logfile={dir}/once.log\n\
         [program:later]\ncommand={dir}/say later\nautostart=false\n"
    );
    text
}

/// Prints what it was given, so that two supervisors can be compared.
const SAY: &str = "#!/bin/sh
{ for word; do echo \"arg $word\"; done; pwd; umask; id -u
env | grep -E '^(A|HOME_OF|PCT|GLOBAL|HERE)=' | sort; } > \"$(dirname \"$0\")/$SIDE.$1.new\"
mv \"$(dirname \"$0\")/$SIDE.$1.new\" \"$(dirname \"$0\")/$SIDE.$1\"
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
    let count = 2 + 10 + 1 + 1 + 2;
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
        &format!("stdout_logfile = {dir}/once.log"),
    ] {
        assert!(toml.contains(line), "{line}\n{toml}");
    }
    let ours = scratch.file("provost.toml");
    fs::write(&ours, toml).unwrap();
    service.cli(&["apply", "--dry-run", &ours]).expect(3);
    service.ok(&["env", "set", "SIDE=ours"]);
    service.ok(&["apply", "--yes", &ours]);
    wait::until("all have said", LATER, || said(&dir, "ours").len() == count + 1);
    let (mut own, theirs) = (said(&dir, "ours"), said(&dir, "theirs"));
    // An apply by hand starts what is new, whatever a service would do at its begin.
    assert!(own.remove("later").is_some());
    assert_eq!(own, theirs);
    assert_eq!(service.cli(&["status", "--json", "@worker"]).json().len(), 10);
    procfs::signal("TERM", oracle.pid());
    oracle.end(LATER);
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

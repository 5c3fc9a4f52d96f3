//! The supervisors that a user would pick instead, each in its usual way of use: with a number of services,
//! and one program that tells when it was started. One that is not installed has an empty column.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::host;
use crate::programs::our_path;
use crate::sample::{Outcome, shell, until};
use crate::sweep::{MARK, kill_marked};
use crate::table::Table;

/// What every service runs, here and there.
pub const SERVICE: [&str; 2] = ["/bin/sleep", "86400"];
/// How long it may take until all services run.
const UP_LIMIT: Duration = Duration::from_secs(60);

/// Which supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    S6,
    Runit,
    Supervisord,
}

pub const KINDS: [Kind; 3] = [Kind::S6, Kind::Runit, Kind::Supervisord];

/// What is asked of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Status,
    Start,
    Stop,
}

pub const VERBS: [Verb; 3] = [Verb::Status, Verb::Start, Verb::Stop];

impl Verb {
    /// As Provost and supervisorctl call it, and runit too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::S6 => "s6",
            Self::Runit => "runit",
            Self::Supervisord => "supervisord",
        }
    }

    /// The program that is started to bring all services up.
    fn root(self) -> &'static str {
        match self {
            Self::S6 => "s6-svscan",
            Self::Runit => "runsvdir",
            Self::Supervisord => "supervisord",
        }
    }
}

/// A running supervisor. Ends, with all its services, when dropped.
pub struct Rival {
    pub kind: Kind,
    pid: u32,
    dir: PathBuf,
}

impl Rival {
    /// Brings up those that are installed, one after the other, and notes how long each takes.
    pub fn bring_up_all(dir: &Path, services: u32, table: &mut Table) -> Vec<Self> {
        let mut rivals = Vec::new();
        let mut row = table.row(format!("supervisor and {services} services, from nothing"), "ms");
        for kind in KINDS {
            match Self::bring_up(kind, dir, services) {
                Ok((rival, took)) => {
                    row = row.rival(kind, Some(took.as_secs_f64() * 1e3));
                    rivals.push(rival);
                }
                Err(e) => println!("{} is left out: {e}", kind.name()),
            }
        }
        row.done();
        rivals
    }

    fn bring_up(kind: Kind, dir: &Path, services: u32) -> Outcome<(Self, Duration)> {
        let dir = dir.join(kind.name());
        fs::create_dir(&dir)?;
        match kind {
            Kind::S6 | Kind::Runit => {
                for n in 1..=services {
                    write_service(&dir.join(format!("s-{n}")), &SERVICE.join(" "))?;
                }
            }
            Kind::Supervisord => fs::write(dir.join("conf"), configuration(&dir, services)?)?,
        }
        let mut command = Command::new(kind.root());
        match kind {
            Kind::S6 => command.arg("-c").arg((services + 10).to_string()).arg(&dir),
            Kind::Runit => command.arg("-P").arg(&dir),
            Kind::Supervisord => command.arg("-c").arg(dir.join("conf")),
        };
        let log = fs::File::create(dir.join("log"))?;
        command.env(MARK, &dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().map_err(|e| format!("cannot run {}: {e}", kind.root()))?;
        let rival = Self { kind, pid: child.id(), dir };
        let took = until("all services run", UP_LIMIT, || rival.service_pids().len() == services as usize)?;
        Ok((rival, took))
    }

    /// Adds a program that tells this supervisor's name and its pid whenever it was started.
    pub fn add_teller(&self, report: &str) -> Outcome {
        let again = self.dir.join("again");
        match self.kind {
            Kind::S6 | Kind::Runit => {
                // Made aside, and then there at once with all it needs.
                let aside = self.dir.join(".again");
                write_service(&aside, &format!("{} tell {report} {}", our_path()?, self.kind.name()))?;
                fs::rename(&aside, &again)?;
                if self.kind == Kind::S6 {
                    shell(&format!("s6-svscanctl -a {}", self.dir.display()))?;
                }
                Ok(())
            }
            Kind::Supervisord => shell(&self.control("start again")),
        }
    }

    /// The line of a script that asks this of service `n`, and comes back when it is so.
    pub fn line(&self, verb: Verb, n: u32) -> String {
        let service = format!("{}/s-{n}", self.dir.display());
        match (self.kind, verb) {
            (Kind::S6, Verb::Status) => format!("s6-svstat {service}"),
            (Kind::S6, Verb::Start) => format!("s6-svc -wu -u {service}"),
            (Kind::S6, Verb::Stop) => format!("s6-svc -wD -d {service}"),
            (Kind::Runit, Verb::Status) => format!("sv status {service}"),
            (Kind::Runit, Verb::Start) => runit_line("up", "run", &service),
            (Kind::Runit, Verb::Stop) => runit_line("down", "down", &service),
            (Kind::Supervisord, _) => self.control(&format!("{} s:s-{n}", verb.name())),
        }
    }

    fn control(&self, args: &str) -> String {
        format!("supervisorctl -c {}/conf {args}", self.dir.display())
    }

    /// Its own processes: what it takes to keep the services.
    pub fn pids_of_manager(&self) -> Vec<u32> {
        host::tree(self.pid).into_iter().filter(|pid| !is_service(*pid)).collect()
    }

    fn service_pids(&self) -> Vec<u32> {
        host::tree(self.pid).into_iter().filter(|pid| is_service(*pid)).collect()
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        if let Err(e) = kill_marked(&self.dir.display().to_string()) {
            println!("{}: {e}", self.kind.name());
        }
    }
}

/// `sv start` and `sv stop` look in steps of 420 ms whether it is done. What runit itself takes shows when a
/// script looks without a pause, so that is what it is compared by.
fn runit_line(command: &str, state: &str, service: &str) -> String {
    let read = format!("read -r state < {service}/supervise/stat");
    format!("sv {command} {service}; while {read}; [ \"$state\" != {state} ]; do :; done")
}

fn is_service(pid: u32) -> bool {
    host::program(pid).ends_with("/sleep")
}

/// A service directory as s6 and runit both want it.
fn write_service(dir: &Path, command: &str) -> Outcome {
    fs::create_dir(dir)?;
    let run = dir.join("run");
    fs::write(&run, format!("#!/bin/sh\nexec {command}\n"))?;
    Ok(fs::set_permissions(run, fs::Permissions::from_mode(0o755))?)
}

/// supervisord with as little waiting as it can be told: a program counts as running when it was started.
fn configuration(dir: &Path, services: u32) -> Outcome<String> {
    let report = dir.with_file_name("restart.sock");
    Ok(format!(
        "[unix_http_server]\nfile={dir}/sock\n\
         [rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
         [supervisorctl]\nserverurl=unix://{dir}/sock\n\
         [supervisord]\nnodaemon=true\nlogfile={dir}/log.main\npidfile={dir}/pid\nminfds=4096\nchildlogdir={dir}\n\
         [program:s]\ncommand={service}\nnumprocs={services}\nnumprocs_start=1\nprocess_name=s-%(process_num)d\n\
         startsecs=0\nautorestart=true\n\
         [program:again]\ncommand={ours} tell {report} supervisord\nautostart=false\nautorestart=true\nstartsecs=0\n",
        dir = dir.display(),
        service = SERVICE.join(" "),
        ours = our_path()?,
        report = report.display(),
    ))
}

//! supervisord.conf, by supervisord's own rules: expansions, instances, groups, priorities. What it
//! does otherwise than a process here does is said beside it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::cli::import::imported::{Imported, Imports, words};
use crate::cli::import::ini::{Meaning, Names, Section, expand};
use crate::cli::import::supervisord_files::{self, names};
use crate::cli::import::supervisord_logs;
use crate::cli::text;
use crate::sys::signal;
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::values::duration_text;

/// Keys of a program that are carried over below.
const KNOWN: [&str; 26] = [
    "command",
    "process_name",
    "numprocs",
    "numprocs_start",
    "priority",
    "autostart",
    "startsecs",
    "startretries",
    "autorestart",
    "exitcodes",
    "stopsignal",
    "stopwaitsecs",
    "stopasgroup",
    "killasgroup",
    "user",
    "environment",
    "directory",
    "umask",
    "redirect_stderr",
    "stdout_logfile",
    "stderr_logfile",
    "stdout_logfile_maxbytes",
    "stdout_logfile_backups",
    "stderr_logfile_maxbytes",
    "stderr_logfile_backups",
    "serverurl",
];
/// ... and what has to do with logs, and nothing here.
const LOGS: [&str; 6] = [
    "stdout_capture_maxbytes",
    "stdout_events_enabled",
    "stdout_syslog",
    "stderr_capture_maxbytes",
    "stderr_events_enabled",
    "stderr_syslog",
];
/// The priority of a program that has none.
const PRIORITY: i64 = 999;
/// The most copies of one program.
const NUMPROCS_MAX: u32 = 1000;

/// The most that a process can wait for by name.
const AFTER_MAX: usize = 64;
/// Keys of supervisord's own section that are about supervisord alone.
const DAEMON: [&str; 13] = [
    "logfile",
    "logfile_maxbytes",
    "logfile_backups",
    "loglevel",
    "pidfile",
    "nodaemon",
    "silent",
    "identifier",
    "childlogdir",
    "nocleanup",
    "strip_ansi",
    "minfds",
    "minprocs",
];

/// A program in one of its groups; it may be in several, and is there once in each.
#[derive(Clone, Debug, Default)]
struct Group {
    /// Of `[group:NAME]`; a program alone is its own group, which has no name here.
    name: Option<String>,
    priority: Option<i64>,
}

pub fn import(path: &Path) -> Result<Imported, Error> {
    let path = text::absolute("the file", path)?;
    let here = path.parent().unwrap_or(Path::new("/"));
    let (all, notes) = supervisord_files::load(&path)?;
    let mut imported = Imported { notes, ..Imported::default() };
    let mut names = names(here);
    // What it gives to every program stands in values, too.
    for (key, value) in all.iter().find(|s| s.name == "supervisord").map_or(Ok(Map::new()), |section| {
        pairs(&expand(section.get("environment").unwrap_or_default(), &names)?)
    })? {
        names.insert(format!("ENV_{key}"), Meaning::Text(value.as_str().unwrap_or_default().to_owned()));
    }
    let mut ranked: Vec<((i64, i64), Vec<Imports>)> = Vec::new();
    for section in &all {
        let Some(name) = section.name.strip_prefix("program:").map(str::trim) else {
            other(section, &names, &mut imported)?;
            continue;
        };
        for group in groups(&all, name, &names)? {
            let program = Program::new(name, section, here, &names, group.name.as_deref());
            let own = program.integer("priority", PRIORITY)?;
            // First by that of the group, then by its own.
            let rank = if group.name.is_some() { group.priority.unwrap_or(PRIORITY) } else { own };
            ranked.push(((rank, own), program.processes()?));
        }
    }
    // Under an init that is '/', too.
    if !imported.defaults.contains_key("cwd")
        && !ranked.iter().flat_map(|(_, all)| all).all(|p| p.fields.contains_key("cwd"))
    {
        imported
            .notes
            .push("without 'directory' a program ran where supervisord was started; here in '/'".to_owned());
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    let ranks = ranked.iter().flat_map(|(rank, processes)| processes.iter().map(|_| *rank));
    let ranks: Vec<_> = ranks.collect();
    imported.processes = ranked.into_iter().flat_map(|(_, processes)| processes).collect();
    imported.name();
    in_order(&ranks, &mut imported.processes);
    Ok(imported)
}

/// Has each wait for those of the next lower rank; what is before them, they wait for themselves. All of a
/// group are called by its name.
fn in_order(ranks: &[(i64, i64)], processes: &mut [Imports]) {
    let group = |process: &Imports| process.fields.get("in_group").and_then(Value::as_str).map(str::to_owned);
    let mut of_group: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for (rank, process) in ranks.iter().zip(&*processes) {
        of_group.entry(group(process).unwrap_or_default()).or_default().push(*rank);
    }
    let mut before: Vec<((i64, i64), Vec<String>)> = Vec::new();
    for (rank, process) in ranks.iter().zip(processes) {
        let all_of = group(process).filter(|group| {
            let ranks = &of_group[group];
            ranks.len() > 1 && ranks.iter().all(|other| other == rank)
        });
        let name = all_of.map_or_else(|| process.name.clone(), |group| format!("@{group}"));
        match before.last_mut() {
            Some((last, names)) if last == rank => {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            _ => before.push((*rank, vec![name])),
        }
        let Some((_, names)) = before.len().checked_sub(2).map(|at| &before[at]) else { continue };
        if names.len() > AFTER_MAX {
            process
                .note(format!("waits for {AFTER_MAX} of the {} with the next lower priority", names.len()));
        }
        process.set("after", names.iter().take(AFTER_MAX).cloned().collect::<Vec<_>>());
    }
}

/// The groups of a program; one that is in none is alone.
fn groups(all: &[Section], program: &str, names: &Names) -> Result<Vec<Group>, Error> {
    let mut groups = Vec::new();
    for section in all {
        let Some(name) = section.name.strip_prefix("group:").map(str::trim) else { continue };
        let programs = expand(section.get("programs").unwrap_or_default(), names)?;
        if programs.split([',', '\n']).any(|one| one.trim() == program) {
            let priority = section.get("priority").map(|text| {
                let bad =
                    || Error::usage(format!("[{}]: bad value {} of priority", section.name, quoted(text)));
                expand(text, names)?.trim().parse::<i64>().map_err(|_| bad())
            });
            groups.push(Group { name: Some(name.to_owned()), priority: priority.transpose()? });
        }
    }
    Ok(if groups.is_empty() { vec![Group::default()] } else { groups })
}

/// What is no program.
fn other(section: &Section, names: &Names, imported: &mut Imported) -> Result<(), Error> {
    match section.name.as_str() {
        "supervisord" => supervisord(section, names, imported)?,
        name if name.starts_with("group:") => {}
        name if name.starts_with("eventlistener:") || name.starts_with("fcgi-program:") => {
            imported.notes.push(format!("not carried over: [{name}], which there is nothing for here"));
        }
        "unix_http_server" | "inet_http_server" | "supervisorctl" => {
            imported.notes.push(format!(
                "[{}] is of no use here: the socket and its rights are the service's",
                section.name
            ));
        }
        name if name.starts_with("rpcinterface:supervisor") => {}
        name => imported.notes.push(format!("not carried over: [{name}]")),
    }
    Ok(())
}

/// What supervisord's own section gives to all programs.
fn supervisord(section: &Section, names: &Names, imported: &mut Imported) -> Result<(), Error> {
    let get = |key: &str| section.get(key).map(|value| expand(value, names)).transpose();
    if let Some(environment) = get("environment")? {
        let env = pairs(&environment)?;
        if !env.is_empty() {
            imported.defaults.insert("env".to_owned(), env.into());
        }
    }
    if let Some(umask) = get("umask")?.filter(|umask| umask != "022") {
        imported.defaults.insert("umask".to_owned(), format!("{umask:0>3}").into());
    }
    if let Some(directory) = get("directory")? {
        imported.defaults.insert("cwd".to_owned(), directory.into());
    }
    if let Some(user) = get("user")? {
        imported.notes.push(format!("supervisord ran as user {user}: run the service as that user"));
    }
    // It raises its own limits, which its programs have then.
    let mut limits = Map::new();
    for (key, limit, least) in [("minfds", "nofile", 1024), ("minprocs", "nproc", 200)] {
        let Some(value) = get(key)? else { continue };
        let bad = || Error::usage(format!("[supervisord]: bad value {} of {key}", quoted(&value)));
        let value = value.trim().parse::<u64>().map_err(|_| bad())?;
        if value > least {
            limits.insert(limit.to_owned(), value.to_string().into());
        }
    }
    if !limits.is_empty() {
        imported.defaults.insert("limits".to_owned(), limits.into());
    }
    if section.get("strip_ansi").is_some_and(|value| parsed_flag(value) == Some(true)) {
        imported.notes.push("not carried over: strip_ansi; escape sequences stay in the logs".to_owned());
    }
    let known = ["environment", "umask", "directory", "user"];
    for (key, value) in &section.keys {
        if !known.contains(&key.as_str()) && !DAEMON.contains(&key.as_str()) {
            imported.notes.push(format!("not carried over: [supervisord] {key} = {value}"));
        }
    }
    Ok(())
}

fn parsed_flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

struct Program<'a> {
    name: &'a str,
    section: &'a Section,
    /// The directory of the configuration.
    here: &'a Path,
    group: Option<&'a str>,
    names: Names,
}

impl<'a> Program<'a> {
    fn new(
        name: &'a str,
        section: &'a Section,
        here: &'a Path,
        names: &Names,
        group: Option<&'a str>,
    ) -> Self {
        let mut names = names.clone();
        for (key, text) in [("program_name", name), ("group_name", group.unwrap_or(name))] {
            names.insert(key.to_owned(), Meaning::Text(text.to_owned()));
        }
        Self { name, section, here, group, names }
    }

    /// A value with what its names stand for.
    fn get(&self, key: &str) -> Result<Option<String>, Error> {
        self.section.get(key).map(|value| expand(value, &self.names).map_err(|e| self.in_it(e))).transpose()
    }

    fn in_it(&self, e: Error) -> Error {
        Error { message: format!("[program:{}]: {}", self.name, e.message), ..e }
    }

    fn bad(&self, key: &str, value: &str) -> Error {
        Error::usage(format!("[program:{}]: bad value {} of {key}", self.name, quoted(value)))
    }

    fn integer(&self, key: &str, default: i64) -> Result<i64, Error> {
        let Some(value) = self.get(key)? else { return Ok(default) };
        value.trim().parse().map_err(|_| self.bad(key, &value))
    }

    fn count(&self, key: &str, default: u32, max: u32) -> Result<u32, Error> {
        let value = self.integer(key, i64::from(default))?;
        u32::try_from(value).ok().filter(|n| *n <= max).ok_or_else(|| self.bad(key, &value.to_string()))
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, Error> {
        let Some(value) = self.get(key)? else { return Ok(default) };
        parsed_flag(&value).ok_or_else(|| self.bad(key, &value))
    }

    /// A section for each of its processes.
    fn processes(&self) -> Result<Vec<Imports>, Error> {
        let numprocs = self.count("numprocs", 1, NUMPROCS_MAX)?;
        let first = self.count("numprocs_start", 0, u32::MAX)?;
        let template = self.section.get("process_name").unwrap_or("%(program_name)s");
        if numprocs > 1 && !template.contains("%(process_num)") {
            let e = format!("numprocs is {numprocs}, and process_name has no %(process_num)");
            return Err(self.in_it(Error::usage(e)));
        }
        let mut all = Vec::new();
        for n in first..first.saturating_add(numprocs) {
            let mut names = self.names.clone();
            names.insert("process_num".to_owned(), Meaning::Number(n.into()));
            names.insert("numprocs".to_owned(), Meaning::Number(numprocs.into()));
            all.push(
                self.process(template, numprocs, names)
                    .map_err(|e| if e.message.starts_with("[program:") { e } else { self.in_it(e) })?,
            );
        }
        Ok(all)
    }

    fn process(&self, template: &str, numprocs: u32, mut names: Names) -> Result<Imports, Error> {
        let raw = |key: &str| self.section.get(key);
        let env = pairs(&expand(raw("environment").unwrap_or_default(), &names)?)?;
        // What the program gets stands in its values, too.
        for (key, value) in &env {
            names.insert(format!("ENV_{key}"), Meaning::Text(value.as_str().unwrap_or_default().to_owned()));
        }
        let get = |key: &str| raw(key).map(|value| expand(value, &names)).transpose();
        let mut process = Imports { name: expand(template, &names)?, ..Imports::default() };
        let command = get("command")?.ok_or_else(|| Error::usage("there is no command"))?;
        process.set("command", words(&command)?);
        if let Some(directory) = get("directory")? {
            let absolute = self.here.join(&directory);
            if absolute.as_os_str() != directory.as_str() {
                process.note(format!("directory = {directory}: taken from the directory of the file"));
            }
            process.set("cwd", absolute.to_string_lossy().into_owned());
        }
        if let Some(user) = self.get("user")? {
            process.set("user", user);
            process.note("user also sets HOME, LOGNAME, SHELL and USER here, and takes the user's groups");
        }
        if let Some(umask) = self.get("umask")? {
            process.set("umask", format!("{umask:0>3}"));
        }
        if let Some(group) = self.group.or(Some(self.name).filter(|_| numprocs > 1)) {
            process.set("in_group", group);
        }
        process.set_env(env);
        self.restarts(&mut process)?;
        self.stop(&mut process)?;
        if !self.flag("autostart", true)? {
            process.set("autostart", false);
            process.note("autostart = false: 'provost apply' by hand starts it all the same, 'apply --at-start' does not");
        }
        supervisord_logs::carry_over(&get, self.here, &mut process)?;
        self.rest(&mut process);
        Ok(process)
    }

    /// startsecs, startretries, autorestart, exitcodes.
    fn restarts(&self, process: &mut Imports) -> Result<(), Error> {
        let autorestart = self.get("autorestart")?.unwrap_or("unexpected".to_owned()).to_ascii_lowercase();
        let policy = match autorestart.as_str() {
            "unexpected" => "on-failure",
            _ if self.flag("autorestart", true)? => "always",
            _ => "never",
        };
        process.set("restart", policy);
        let startsecs = u64::from(self.count("startsecs", 1, 86_400 * 300)?);
        let retries = u64::from(self.count("startretries", 3, 1000)?);
        let seconds = |n: u64| duration_text(Duration::from_secs(n));
        if policy != "never" {
            process.set("restart_delay", "1s");
            process.set("restart_delay_max", seconds(retries.max(1)));
            if startsecs == 0 {
                process.set("max_restarts", "none");
            } else {
                process.set("max_restarts", retries.max(1));
                if retries == 0 {
                    process.note("startretries = 0: here it is tried once again");
                }
                // As long as its attempts take with the pauses between, 1 s, then 2 s, and so on.
                process
                    .set("restart_window", seconds(startsecs * (retries + 1) + retries * (retries + 1) / 2));
                process.set("reset_after", seconds(startsecs));
            }
        } else if ["startretries", "startsecs"].iter().any(|key| self.section.get(key).is_some()) {
            process.note("not carried over: startretries; what is never restarted is not tried again at its start either");
        }
        if let Some(text) = self.get("exitcodes")? {
            let codes = text.split(',').map(|code| code.trim().parse::<u8>());
            let codes = codes.collect::<Result<Vec<_>, _>>().map_err(|_| self.bad("exitcodes", &text))?;
            if codes != [0] {
                process.set("success_codes", codes);
            }
        }
        Ok(())
    }

    fn stop(&self, process: &mut Imports) -> Result<(), Error> {
        if let Some(text) = self.get("stopsignal")? {
            let signal = text.to_ascii_uppercase();
            let name = signal.trim().trim_start_matches("SIG");
            if signal::number(name).is_none() {
                return Err(self.bad("stopsignal", &text));
            }
            process.set("stop_signal", name);
        }
        let wait = self.count("stopwaitsecs", 10, 86_400 * 300)?;
        if wait != 10 {
            process.set("stop_timeout", duration_text(Duration::from_secs(u64::from(wait))));
        }
        let as_group = self.flag("stopasgroup", false)?;
        let kill_as_group = self.flag("killasgroup", as_group)?;
        if as_group && !kill_as_group {
            return Err(Error::usage("stopasgroup without killasgroup is refused by supervisord, too"));
        }
        if kill_as_group {
            process.set("stop_scope", "group");
            if !as_group {
                process.note("killasgroup without stopasgroup: here the group gets both signals");
            }
        } else {
            process.set("stop_scope", "leader");
            process.note("stop_scope = \"leader\" leaves running what it has started, as supervisord does; \"tree\" does not");
        }
        Ok(())
    }

    /// What is not carried over.
    fn rest(&self, process: &mut Imports) {
        let logs: Vec<_> = (LOGS.iter())
            .filter(|key| self.section.get(key).is_some_and(|v| v != "0" && parsed_flag(v) != Some(false)))
            .map(|key| format!("{key} = {}", self.section.get(key).unwrap_or_default()))
            .collect();
        if !logs.is_empty() {
            process.note(format!("not carried over: {}", logs.join(", ")));
        }
        for (key, value) in &self.section.keys {
            if !KNOWN.contains(&key.as_str()) && !LOGS.contains(&key.as_str()) {
                process.note(format!("not carried over: {key} = {value}"));
            }
        }
        if let Some(url) = self.section.get("serverurl").filter(|url| !url.eq_ignore_ascii_case("auto")) {
            process.note(format!("not carried over: serverurl = {url}"));
        }
    }
}

/// `A="1",B=2`: as supervisord reads it, values in quotes or without.
fn pairs(text: &str) -> Result<Map<String, Value>, Error> {
    let bad = || Error::usage(format!("environment {} is not KEY=VALUE,...", quoted(text)));
    let (mut env, mut rest) = (Map::new(), text.trim());
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(bad)?;
        let after = after.trim_start();
        let (value, left) = match after.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let end = after[1..].find(quote).ok_or_else(bad)? + 1;
                (after[1..end].trim_matches(['"', '\'']).to_owned(), &after[end + 1..])
            }
            _ => {
                let end = after.find([',', '\n']).unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        env.insert(key.trim().to_owned(), value.into());
        let left = left.trim_start();
        if !left.is_empty() && !left.starts_with(',') {
            return Err(bad());
        }
        rest = left.trim_start_matches([',', '\n', ' ', '\t']);
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_read_as_supervisord_reads_it() {
        let env = pairs("A=\"1, 2\",B=c d,\n  C='x\"y', D=/a:b").unwrap();
        let shown: Vec<_> = env.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap())).collect();
        assert_eq!(shown, ["A=1, 2", "B=c d", "C=x\"y", "D=/a:b"]);
        assert!(pairs("A").is_err() && pairs("A=\"x").is_err());
    }
}

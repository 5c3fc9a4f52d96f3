//! supervisord.conf, by supervisord's own rules: includes, expansions, instances, groups, priorities. What it
//! does otherwise than a process here does is said beside it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::cli::import::imported::{Imported, Imports, read, words};
use crate::cli::import::ini::{Section, expand, sections};
use crate::cli::import::supervisord_logs;
use crate::cli::text;
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

pub fn import(path: &Path) -> Result<Imported, Error> {
    let mut all = Vec::new();
    let path = text::absolute("the file", path)?;
    load(&path, &mut all)?;
    let mut imported = Imported::default();
    let groups = groups(&all);
    let mut ranked: Vec<(i64, Vec<Imports>)> = Vec::new();
    for (here, section) in &all {
        let Some(name) = section.name.strip_prefix("program:") else {
            other(section, here, &mut imported)?;
            continue;
        };
        let group = groups.get(name.trim());
        let program = Program::new(name.trim(), section, here)?;
        let priority = program.integer("priority", PRIORITY)?;
        ranked.push((priority, program.processes(group.map(String::as_str))?));
    }
    ranked.sort_by_key(|(priority, _)| *priority);
    let mut before: Vec<(i64, Vec<String>)> = Vec::new();
    let mut taken: Vec<(i64, Imports)> = Vec::new();
    for (priority, processes) in ranked {
        taken.extend(processes.into_iter().map(|process| (priority, process)));
    }
    imported.processes = taken.iter().map(|(_, process)| process.clone()).collect();
    imported.name();
    for ((priority, _), process) in taken.iter().zip(&mut imported.processes) {
        match before.last_mut() {
            Some((last, names)) if last == priority => names.push(process.name.clone()),
            _ => before.push((*priority, vec![process.name.clone()])),
        }
        // Those of the next lower priority; what is before them, they wait for themselves.
        if let Some((_, names)) = before.len().checked_sub(2).map(|at| &before[at]) {
            process.set("after", names.iter().take(64).cloned().collect::<Vec<_>>());
        }
    }
    Ok(imported)
}

/// The sections of a file and of those that it includes, each with the directory of its file.
fn load(path: &Path, all: &mut Vec<(PathBuf, Section)>) -> Result<(), Error> {
    let here = path.parent().unwrap_or(Path::new("/")).to_owned();
    let found = sections(&read(path)?, &path.to_string_lossy())?;
    let include = found.iter().find(|section| section.name == "include").cloned();
    all.extend(found.into_iter().filter(|section| section.name != "include").map(|s| (here.clone(), s)));
    let Some(include) = include else { return Ok(()) };
    for pattern in include.get("files").unwrap_or_default().split_whitespace() {
        let pattern = expand(pattern, &names(&here))?;
        for file in matching(&here.join(pattern))? {
            let inside = file.parent().unwrap_or(Path::new("/")).to_owned();
            let found = sections(&read(&file)?, &file.to_string_lossy())?;
            // As with supervisord, what is included includes nothing.
            all.extend(found.into_iter().filter(|s| s.name != "include").map(|s| (inside.clone(), s)));
        }
    }
    Ok(())
}

/// Files whose last part fits the pattern; stars elsewhere are not followed.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>, Error> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let directory = pattern.parent().unwrap_or(Path::new("/"));
    if directory.to_string_lossy().contains(['*', '?', '[']) || name.contains(['?', '[']) {
        let e = format!("cannot include {}: only '*' in the name of a file is followed", text::path(pattern));
        return Err(Error::usage(e).hint("import the files one by one"));
    }
    let mut found: Vec<PathBuf> = (fs::read_dir(directory).into_iter().flatten().flatten())
        .filter(|entry| fits(&name, &entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    Ok(found)
}

fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last) && !name.starts_with('.')
}

/// What may stand in every value.
fn names(here: &Path) -> BTreeMap<String, String> {
    let variables = env::vars_os().filter_map(|(key, value)| {
        Some((format!("ENV_{}", key.into_string().ok()?), value.into_string().ok()?))
    });
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let here = here.to_string_lossy().into_owned();
    variables.chain([("here".to_owned(), here), ("host_node_name".to_owned(), host)]).collect()
}

/// The group of each program that is in one.
fn groups(all: &[(PathBuf, Section)]) -> BTreeMap<String, String> {
    let mut groups = BTreeMap::new();
    for (_, section) in all {
        let Some(group) = section.name.strip_prefix("group:") else { continue };
        for program in section.get("programs").unwrap_or_default().split([',', '\n']) {
            groups.insert(program.trim().to_owned(), group.trim().to_owned());
        }
    }
    groups
}

/// What is no program.
fn other(section: &Section, here: &Path, imported: &mut Imported) -> Result<(), Error> {
    match section.name.as_str() {
        "supervisord" => {
            let names = names(here);
            if let Some(environment) = section.get("environment") {
                let env = pairs(&expand(environment, &names)?)?;
                imported.defaults.insert("env".to_owned(), env.into());
            }
            if let Some(umask) = section.get("umask").filter(|umask| *umask != "022") {
                imported.defaults.insert("umask".to_owned(), format!("{umask:0>3}").into());
            }
            if let Some(directory) = section.get("directory") {
                imported.defaults.insert("cwd".to_owned(), expand(directory, &names)?.into());
            }
            if let Some(user) = section.get("user") {
                imported.notes.push(format!("supervisord ran as user {user}: run the service as that user"));
            }
        }
        name if name.starts_with("group:") => {
            if section.get("priority").is_some() {
                let note = format!("not carried over: the priority of [{name}]; those of its programs are");
                imported.notes.push(note);
            }
        }
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

struct Program<'a> {
    name: &'a str,
    section: &'a Section,
    /// The directory of its file.
    here: &'a Path,
    names: BTreeMap<String, String>,
}

impl<'a> Program<'a> {
    fn new(name: &'a str, section: &'a Section, here: &'a Path) -> Result<Self, Error> {
        let mut names = names(here);
        names.insert("program_name".to_owned(), name.to_owned());
        Ok(Self { name, section, here, names })
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.section.get(key)
    }

    fn bad(&self, key: &str, value: &str) -> Error {
        Error::usage(format!("[program:{}]: bad value {} of {key}", self.name, quoted(value)))
    }

    fn integer(&self, key: &str, default: i64) -> Result<i64, Error> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => {
                let expanded = expand(value, &self.names)?;
                expanded.trim().parse().map_err(|_| self.bad(key, &expanded))
            }
        }
    }

    fn count(&self, key: &str, default: u32, max: u32) -> Result<u32, Error> {
        let value = self.integer(key, i64::from(default))?;
        u32::try_from(value).ok().filter(|n| *n <= max).ok_or_else(|| self.bad(key, &value.to_string()))
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, Error> {
        match self.get(key).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("true" | "yes" | "on" | "1" | "t") => Ok(true),
            Some("false" | "no" | "off" | "0" | "f" | "none") => Ok(false),
            Some(other) => Err(self.bad(key, other)),
        }
    }

    /// A section for each of its processes.
    fn processes(&self, group: Option<&str>) -> Result<Vec<Imports>, Error> {
        let numprocs = self.count("numprocs", 1, NUMPROCS_MAX)?;
        let first = self.count("numprocs_start", 0, u32::MAX)?;
        let template = self.get("process_name").unwrap_or("%(program_name)s");
        if numprocs > 1 && !template.contains("%(process_num)") {
            let e = format!(
                "[program:{}]: numprocs is {numprocs}, and process_name has no %(process_num)",
                self.name
            );
            return Err(Error::usage(e));
        }
        let group = group.or(Some(self.name).filter(|_| numprocs > 1));
        let mut all = Vec::new();
        for n in first..first.saturating_add(numprocs) {
            let mut names = self.names.clone();
            names.insert("process_num".to_owned(), n.to_string());
            names.insert("numprocs".to_owned(), numprocs.to_string());
            names.insert("group_name".to_owned(), group.unwrap_or(self.name).to_owned());
            all.push(self.process(expand(template, &names)?, group, &names)?);
        }
        Ok(all)
    }

    fn process(
        &self,
        name: String,
        group: Option<&str>,
        names: &BTreeMap<String, String>,
    ) -> Result<Imports, Error> {
        let mut process = Imports { name, ..Imports::default() };
        let lacking = || Error::usage(format!("[program:{}] has no command", self.name));
        let command = words(&expand(self.get("command").ok_or_else(lacking)?, names)?)?;
        process.set("command", command);
        if let Some(directory) = self.get("directory") {
            process.set("cwd", expand(directory, names)?);
        }
        if let Some(user) = self.get("user") {
            process.set("user", expand(user, names)?);
            process.note("user also sets HOME, LOGNAME, SHELL and USER here, and takes the user's groups");
        }
        if let Some(umask) = self.get("umask") {
            process.set("umask", format!("{umask:0>3}"));
        }
        if let Some(group) = group {
            process.set("in_group", group);
        }
        if let Some(environment) = self.get("environment") {
            process.set_env(pairs(&expand(environment, names)?)?);
        }
        self.restarts(&mut process)?;
        self.stop(&mut process)?;
        if !self.flag("autostart", true)? {
            process.set("autostart", false);
        }
        let get = |key: &str| self.get(key).map(|value| expand(value, names)).transpose();
        supervisord_logs::carry_over(&get, self.here, &mut process)
            .map_err(|e| Error { message: format!("[program:{}]: {}", self.name, e.message), ..e })?;
        self.rest(&mut process);
        Ok(process)
    }

    /// startsecs, startretries, autorestart, exitcodes.
    fn restarts(&self, process: &mut Imports) -> Result<(), Error> {
        let autorestart = self.get("autorestart").unwrap_or("unexpected").to_ascii_lowercase();
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
                // As long as its attempts take with the pauses between, 1 s, then 2 s, and so on.
                process
                    .set("restart_window", seconds(startsecs * (retries + 1) + retries * (retries + 1) / 2));
                process.set("reset_after", seconds(startsecs));
            }
        } else if self.get("startretries").is_some() || self.get("startsecs").is_some() {
            process.note("not carried over: startretries; what is never restarted is not tried again at its start either");
        }
        if let Some(codes) = self.get("exitcodes") {
            let codes = codes.split(',').map(|code| code.trim().parse::<u8>());
            let codes =
                codes.collect::<Result<Vec<_>, _>>().map_err(|_| self.bad("exitcodes", codes_text(self)))?;
            if codes != [0] {
                process.set("success_codes", codes);
            }
        }
        Ok(())
    }

    fn stop(&self, process: &mut Imports) -> Result<(), Error> {
        if let Some(signal) = self.get("stopsignal") {
            let name = signal.to_ascii_uppercase();
            process.set("stop_signal", name.trim_start_matches("SIG"));
        }
        let wait = self.count("stopwaitsecs", 10, 86_400 * 300)?;
        if wait != 10 {
            process.set("stop_timeout", duration_text(Duration::from_secs(u64::from(wait))));
        }
        let as_group = self.flag("stopasgroup", false)?;
        if as_group || self.flag("killasgroup", as_group)? {
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
            .filter(|key| self.get(key).is_some_and(|v| !["0", "false"].contains(&v)))
            .map(|key| format!("{key} = {}", self.get(key).unwrap_or_default()))
            .collect();
        if !logs.is_empty() {
            process.note(format!("not carried over: {}", logs.join(", ")));
        }
        for (key, value) in &self.section.keys {
            if !KNOWN.contains(&key.as_str()) && !LOGS.contains(&key.as_str()) {
                process.note(format!("not carried over: {key} = {value}"));
            }
        }
        if let Some(url) = self.get("serverurl") {
            process.note(format!("not carried over: serverurl = {url}"));
        }
    }
}

fn codes_text<'a>(program: &Program<'a>) -> &'a str {
    program.section.get("exitcodes").unwrap_or_default()
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
                (after[1..end].to_owned(), &after[end + 1..])
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

    #[test]
    fn stars_stand_for_parts_of_a_name() {
        assert!(fits("*.conf", "web.conf") && fits("a*b*.ini", "a-b.ini") && fits("x", "x"));
        assert!(
            !fits("*.conf", "web.conf~") && !fits("*.conf", ".conf") && !fits("a*", "b") && !fits("x", "xy")
        );
    }
}

//! `dump.pm2`: the list of processes that pm2 saves, an entry for each instance.

use serde_json::{Map, Value};

use crate::cli::import::imported::{Imported, Imports, words};
use crate::wire::error::Error;
use crate::wire::values::duration_text;
use std::time::Duration;

/// Variables of whoever was logged in, or of pm2 itself: not part of what the process is.
const NOT_ITS_OWN: [&str; 20] = [
    "HOME",
    "LOGNAME",
    "USER",
    "SHELL",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "TERM",
    "_",
    "MAIL",
    "LANG",
    "LS_COLORS",
    "PM2_HOME",
    "PM2_USAGE",
    "PM2_JSON_PROCESSING",
    "PM2_INTERACTOR_PROCESSING",
    "NODE_APP_INSTANCE",
    "unique_id",
    "DISPLAY",
    "HOSTNAME",
];

pub fn import(text: &str) -> Result<Imported, Error> {
    let dump: Vec<Map<String, Value>> =
        serde_json::from_str(text).map_err(|e| no_dump(&format!("this is no dump of pm2: {e}")))?;
    let mut imported = Imported::default();
    for entry in &dump {
        let name = string(entry, "name").unwrap_or_else(|| "app".to_owned());
        if let Some(same) = imported.processes.iter_mut().find(|p| p.name == name) {
            // Another instance of it.
            let instances = same.fields.get("instances").and_then(Value::as_u64).unwrap_or(1);
            same.set("instances", instances + 1);
            continue;
        }
        imported.processes.push(process(name, entry)?);
    }
    imported.name();
    Ok(imported)
}

/// The refusal of a file that pm2 has, and that is no dump.
pub fn no_dump(why: &str) -> Error {
    Error::usage(why).hint("what runs is in a dump: 'pm2 save', then 'provost import ~/.pm2/dump.pm2'")
}

fn process(name: String, entry: &Map<String, Value>) -> Result<Imports, Error> {
    let mut process = Imports { name, ..Imports::default() };
    let lacking = || Error::usage("an entry of the dump has no pm_exec_path");
    let program = string(entry, "pm_exec_path").ok_or_else(lacking)?;
    let mut command = match string(entry, "exec_interpreter").as_deref() {
        None | Some("none" | "") => Vec::new(),
        Some(interpreter) => vec![interpreter.to_owned()],
    };
    if !command.is_empty() {
        command.extend(list(entry, "node_args")?);
    }
    command.push(program);
    command.extend(list(entry, "args")?);
    process.set("command", command);
    if let Some(cwd) = string(entry, "pm_cwd") {
        process.set("cwd", cwd);
    }
    for (from, to) in [("uid", "user"), ("gid", "group")] {
        if let Some(value) = entry.get(from).filter(|value| !value.is_null()) {
            process.set(to, value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned));
        }
    }
    let autorestart = entry.get("autorestart").and_then(Value::as_bool).unwrap_or(true);
    process.set("restart", if autorestart { "always" } else { "never" });
    if autorestart {
        process.set("max_restarts", number(entry, "max_restarts").filter(|n| *n > 0).unwrap_or(16));
        process.note(
            "pm2 counts restarts of runs shorter than min_uptime for ever; here those within restart_window",
        );
    }
    for (from, to) in
        [("kill_timeout", "stop_timeout"), ("restart_delay", "restart_delay"), ("min_uptime", "reset_after")]
    {
        if let Some(ms) = number(entry, from).filter(|ms| *ms > 0) {
            process.set(to, duration_text(Duration::from_millis(ms)));
        }
    }
    if number(entry, "kill_timeout").is_none() {
        process.set("stop_timeout", "1600ms");
    }
    process.set("stop_signal", "INT");
    logs(&mut process, entry);
    if string(entry, "status").is_some_and(|status| status == "stopped") {
        process.set("autostart", false);
    }
    let is_own = |(key, value): &(&String, &Value)| {
        value.is_string()
            && !NOT_ITS_OWN.contains(&key.as_str())
            && !key.starts_with("SSH_")
            && !key.starts_with("pm_")
    };
    let env = entry.get("env").and_then(Value::as_object);
    let own = env.into_iter().flatten().filter(|pair| is_own(pair) && !entry_key(entry, pair.0));
    process.set_env(own.map(|(key, value)| (key.clone(), value.clone())).collect());
    if entry.get("wait_ready").and_then(Value::as_bool) == Some(true) {
        process.note(
            "wait_ready: process.send('ready') is not heard here; see ready_line, ready_tcp and ready_notify",
        );
    }
    if string(entry, "exec_mode").is_some_and(|mode| mode.starts_with("cluster")) {
        process
            .note("exec_mode = cluster: instances here are processes of their own, and do not share a port");
    }
    for key in ["watch", "max_memory_restart", "cron_restart", "exp_backoff_restart_delay"] {
        let is_set = |value: &&Value| !value.is_null() && **value != false && **value != 0;
        if let Some(value) = entry.get(key).filter(is_set) {
            process.note(format!("not carried over: {key} = {value}"));
        }
    }
    Ok(process)
}

/// Its files for output. Each instance of a process has files of its own here.
fn logs(process: &mut Imports, entry: &Map<String, Value>) {
    let mut any = false;
    for (from, to) in [("pm_out_log_path", "log_stdout"), ("pm_err_log_path", "log_stderr")] {
        let Some(path) = string(entry, from).filter(|path| path.starts_with('/') && path != "/dev/null")
        else {
            continue;
        };
        let (directory, file) = path.rsplit_once('/').unwrap_or(("", &path));
        // pm2 puts the number of the instance before the ending.
        let file = file.strip_prefix(&process.name).map_or_else(
            || file.to_owned(),
            |rest| {
                let (stem, ending) = rest.rsplit_once('.').unwrap_or((rest, "log"));
                let stem = stem.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
                format!("{{name}}{stem}.{ending}")
            },
        );
        process.set(to, format!("{directory}/{file}"));
        any = true;
    }
    if any {
        process.note("pm2 lets logs grow; here a file of 50 MiB is followed by another, and 5 old ones stay");
    }
}

/// Whether it is an entry's own key, which pm2 repeats among the variables.
fn entry_key(entry: &Map<String, Value>, key: &str) -> bool {
    key.chars().all(|c| c.is_ascii_lowercase() || c == '_') && entry.contains_key(key)
}

fn string(entry: &Map<String, Value>, key: &str) -> Option<String> {
    entry.get(key)?.as_str().map(ToOwned::to_owned)
}

fn number(entry: &Map<String, Value>, key: &str) -> Option<u64> {
    let value = entry.get(key)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn list(entry: &Map<String, Value>, key: &str) -> Result<Vec<String>, Error> {
    match entry.get(key) {
        Some(Value::Array(all)) => {
            Ok(all.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), ToOwned::to_owned)).collect())
        }
        Some(Value::String(line)) => words(line),
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn entries_of_one_name_are_instances() {
        let entry = |more: &str| {
            format!(
                "{{\"name\":\"api\",\"pm_exec_path\":\"/srv/api.js\",\"exec_interpreter\":\"node\",\"pm_cwd\":\"/srv\",\
                 \"node_args\":[\"--inspect\"],\"args\":\"-p 80\",\"exec_mode\":\"cluster_mode\",\"kill_timeout\":3000,\
                 \"pm_out_log_path\":\"/root/.pm2/logs/api-out-0.log\",\"pm_err_log_path\":\"/var/log/errors.log\",\
                 \"env\":{{\"NODE_ENV\":\"production\",\"HOME\":\"/root\",\"name\":\"api\"}}{more}}}"
            )
        };
        let dump = format!("[{},{}]", entry(""), entry(",\"watch\":true"));
        let toml = import(&dump).unwrap().to_toml(Path::new("dump.pm2"));
        for line in [
            "[process.api]",
            "command = [\"node\", \"--inspect\", \"/srv/api.js\", \"-p\", \"80\"]",
            "cwd = \"/srv\"",
            "instances = 2",
            "stop_timeout = \"3s\"",
            "log_stdout = \"/root/.pm2/logs/{name}-out.log\"",
            "log_stderr = \"/var/log/errors-{name}.log\"",
            "[process.api.env]\nNODE_ENV = \"production\"\n",
            "# exec_mode = cluster: instances here",
        ] {
            assert!(toml.contains(line), "{line}\n{toml}");
        }
        assert!(!toml.contains("HOME"));
        assert!(import("{}").is_err());
    }
}

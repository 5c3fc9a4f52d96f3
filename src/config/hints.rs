//! What a person may have meant by a key or a value of a configuration that is refused.

use serde_json::Value;

use crate::wire::values;

/// Keys that other programs have for what is another one here.
const ELSEWHERE: [(&[&str], &str); 27] = [
    (&["depends", "depends_on", "needs", "dependencies"], "requires = [\"NAME\"]"),
    (&["directory", "dir", "working_directory", "workingdirectory", "workdir"], "cwd = \"/DIRECTORY\""),
    (&["environment", "env_vars", "vars"], "env = { NAME = \"VALUE\" }"),
    (&["stdout_logfile", "logfile", "log_file", "out_file", "stdout"], "log = \"FILE\", or log_stdout"),
    (&["stderr_logfile", "error_file", "stderr"], "log_stderr = \"FILE\""),
    (&["stdout_logfile_maxbytes", "log_max_size", "max_size"], "log_size = \"50 MiB\""),
    (&["stdout_logfile_backups", "log_max_files", "max_files", "log_backups", "backups"], "log_keep = 5"),
    (&["cron", "cron_restart", "timer", "on_calendar", "oncalendar"], "schedule = \"0 3 * * *\""),
    (&["timezone", "time_zone", "tz"], "schedule_zone = \"Europe/Berlin\""),
    (&["uid", "username", "run_as", "runas"], "user = \"NAME\""),
    (&["gid"], "group = \"NAME\""),
    (&["startsecs", "min_uptime"], "reset_after = \"10s\""),
    (&["restartsec", "restart_sec", "backoff", "backoff_seconds"], "restart_delay = \"1s\""),
    (
        &["kill_timeout", "stopwaitsecs", "timeoutstopsec", "timeout_stop_sec", "stop_grace_period"],
        "stop_timeout = \"10s\"",
    ),
    (&["stopsignal", "killsignal", "kill_signal"], "stop_signal = \"TERM\""),
    (
        &["stopasgroup", "killasgroup", "killmode", "kill_mode"],
        "stop_scope = \"tree\", \"group\" or \"leader\"",
    ),
    (&["exitcodes", "successexitstatus", "success_exit_status"], "success_codes = [0]"),
    (&["redirect_stderr"], "merge_streams = true"),
    (&["nofile", "limitnofile", "rlimit_nofile", "ulimits"], "limits = { nofile = \"1024\" }"),
    (&["max_memory_restart"], "restart_above = \"512 MiB\""),
    (&["memory", "mem_limit", "memory_limit"], "memory_max = \"512 MiB\""),
    (&["wait_ready"], "ready_notify = true, or ready_tcp, ready_http, ready_line"),
    (&["autorestart", "restart_policy", "respawn"], "restart = \"always\", \"on-failure\" or \"never\""),
    (&["startretries", "retries", "restart_max", "max_restart"], "max_restarts = 10"),
    (&["exec", "cmd", "script", "program", "args", "execstart"], "command = [\"PROGRAM\", \"ARGUMENT\"]"),
    (&["numprocs", "replicas", "count"], "instances = 3"),
    (&["secrets", "mask"], "redact = ['password=\\S+'], for what is printed"),
];
/// What is no key, and how it is done.
const OTHERWISE: [(&[&str], &str); 6] = [
    (
        &["healthcheck", "health_check", "health"],
        "live_http = \"URL\" or live_exec = \"COMMAND\" looks whether it is well, ready_… whether it has come up",
    ),
    (&["priority"], "after = [\"NAME\"] orders starts; nice = 5 is for processors"),
    (&["description", "desc", "tags"], "labels = { description = \"TEXT\" } keeps anything"),
    (&["watch"], "files are not watched: what watches them runs 'provost restart NAME'"),
    (&["shell"], "there is no shell between; one is named: command = [\"sh\", \"-c\", \"a | b\"]"),
    (
        &["enabled", "disabled"],
        "autostart = false leaves it out when the service begins; or take the section out",
    ),
];

/// For a key that is not known in a section.
pub fn key(key: &str, known: &[&'static str]) -> String {
    let of_process = known.contains(&"command");
    let is = |words: &[&str]| of_process && words.contains(&key.to_lowercase().as_str());
    if let Some((_, here)) = ELSEWHERE.iter().find(|(words, _)| is(words)) {
        return format!("here that is {here}");
    }
    if let Some((_, how)) = OTHERWISE.iter().find(|(words, _)| is(words)) {
        return (*how).to_owned();
    }
    if let Some(near) = values::closest(key, known.iter().copied()) {
        return format!("the nearest key there is: {near}");
    }
    let shared =
        |known: &&&str| known.split('_').any(|part| part.len() > 2 && key.split('_').any(|p| p == part));
    // A process has a hundred keys.
    let alike: Vec<_> = known.iter().filter(shared).copied().collect();
    match (of_process, alike.is_empty()) {
        (false, _) => format!("keys there: {}", known.join(", ")),
        (true, false) => format!("keys there that are like it: {}; docs/config.md has all", alike.join(", ")),
        (true, true) => "docs/config.md and provost.toml(5) have all keys there".to_owned(),
    }
}

/// For a value that is not of the kind that a key takes, if it shows how it is meant.
pub fn value(key: &str, takes: &str, value: &Value) -> Option<String> {
    let written = match value {
        Value::String(text) if takes.starts_with("a list of strings: ") => {
            let is_shell = text.contains(['|', '&', ';', '<', '>', '$', '`', '*', '"', '\'', '\\']);
            let words = if is_shell { vec!["sh", "-c", text] } else { text.split_whitespace().collect() };
            let words: Vec<_> = words.into_iter().map(|word| Value::from(word).to_string()).collect();
            format!("[{}]", words.join(", "))
        }
        Value::String(text) if takes.starts_with("a list") => format!("[\"{text}\"]"),
        Value::String(text) if takes.starts_with("a size") => {
            let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
            let prefix = text[number.len()..].trim().chars().next()?.to_ascii_uppercase();
            format!("\"{} {prefix}iB\"", number.parse::<u32>().ok().filter(|_| "KMG".contains(prefix))?)
        }
        Value::String(text) if takes.starts_with("true") => match text.to_lowercase().as_str() {
            "yes" | "true" | "on" | "1" => "true".to_owned(),
            "no" | "false" | "off" | "0" => "false".to_owned(),
            _ => return None,
        },
        Value::String(text) if text.parse::<u64>().is_ok() && !takes.starts_with("a duration") => {
            text.clone()
        }
        Value::Number(number) if takes.starts_with("a duration") => format!("\"{number}s\""),
        Value::Number(number) if takes.contains(" as \"") || takes.starts_with("a size") => {
            format!("\"{number}\"")
        }
        Value::Object(all) if takes.starts_with("a table of") => {
            let (name, value) = all.iter().find(|(_, value)| !value.is_string())?;
            format!("{{ {name} = \"{value}\" }}")
        }
        _ => return None,
    };
    Some(format!("write {key} = {written}"))
}

/// For text that is no TOML, by what the parser says of it.
pub fn syntax(message: &str) -> Option<&'static str> {
    let is_escape = message.contains("escape");
    is_escape.then_some(
        "within \"…\" a backslash is written twice; within '…' it stands for itself, as in redact = ['password=\\S+']",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fields::FIELDS;
    use serde_json::json;

    fn known() -> Vec<&'static str> {
        FIELDS.iter().map(|field| field.key).chain(["instances"]).collect()
    }

    #[test]
    fn what_other_programs_call_a_key_is_answered_with_its_name_here() {
        let known = known();
        for (words, here) in ELSEWHERE {
            let named = here.split(' ').next().unwrap();
            assert!(known.contains(&named), "{here}");
            for word in words {
                assert!(!known.contains(word), "{word} is a key");
                assert_eq!(key(word, &known), format!("here that is {here}"));
            }
        }
        assert!(key("shell", &known).contains("[\"sh\", \"-c\""));
        assert_eq!(key("comand", &known), "the nearest key there is: command");
        assert!(key("restart_sometimes", &known).contains("restart_delay"));
        // A list of a hundred keys helps nobody.
        assert!(key("xyzzy", &known).len() < 80);
        assert_eq!(key("directory", &["host", "key"]), "keys there: host, key");
    }

    #[test]
    fn a_value_in_another_form_is_shown_in_the_one_that_is_meant() {
        let hint = |takes: &str, v: Value| value("k", takes, &v).unwrap_or_default();
        assert_eq!(hint("a list of names", json!("db")), "write k = [\"db\"]");
        let program = "a list of strings: a program, and its arguments";
        assert_eq!(hint(program, json!("sleep 4")), "write k = [\"sleep\", \"4\"]");
        assert_eq!(hint(program, json!("a 'b' | c")), "write k = [\"sh\", \"-c\", \"a 'b' | c\"]");
        assert_eq!(hint("a size, as \"1 GiB\"", json!("10MB")), "write k = \"10 MiB\"");
        assert_eq!(hint("a size, as \"1 GiB\"", json!("ten")), "");
        assert_eq!(hint("true or false", json!("yes")), "write k = true");
        assert_eq!(hint("a port of 127.0.0.1, 1 to 65535", json!("80")), "write k = 80");
        assert_eq!(hint("a duration, as \"500ms\" or \"10s\"", json!(10)), "write k = \"10s\"");
        assert_eq!(hint("a table of strings", json!({ "a": 1 })), "write k = { a = \"1\" }");
        assert_eq!(hint("\"never\" or \"always\"", json!("on_failure")), "");
        assert!(syntax("missing escaped value, expected `b`").is_some() && syntax("invalid key").is_none());
    }
}

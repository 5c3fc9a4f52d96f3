//! What a person may have meant by a key or a value of a configuration that is refused.

use serde_json::{Number, Value};

use crate::wire::id::Name;
use crate::wire::secrets::is_secret;
use crate::wire::values;

/// Keys that other programs have for what is another one here.
const ELSEWHERE: [(&[&str], &str); 29] = [
    (&["persistent", "catchup", "catch_up", "missed"], "schedule_missed = \"run\" or \"skip\""),
    (&["randomized_delay", "randomizeddelaysec", "jitter", "random_delay"], "schedule_jitter = \"5m\""),
    (&["depends", "depends_on", "needs", "dependencies"], "requires = [\"NAME\"]"),
    (
        &["directory", "dir", "working_dir", "working_directory", "workingdirectory", "workdir"],
        "cwd = \"/DIRECTORY\"",
    ),
    (&["environment", "env_vars", "vars"], "env = { NAME = \"VALUE\" }"),
    (&["stdout_logfile", "logfile", "log_file", "out_file", "stdout"], "log = \"FILE\", or log_stdout"),
    (&["stderr_logfile", "error_file", "stderr"], "log_stderr = \"FILE\""),
    (&["stdout_logfile_maxbytes", "log_max_size", "max_size"], "log_size = \"50 MiB\""),
    (&["stdout_logfile_backups", "log_max_files", "max_files", "log_backups", "backups"], "log_keep = 5"),
    (&["cron", "cron_restart", "timer", "on_calendar", "oncalendar"], "schedule = \"0 3 * * *\""),
    (&["timezone", "time_zone", "tz"], "schedule_zone = \"REGION/CITY\""),
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
    (&["numprocs", "replicas", "count"], "instances = N"),
    (&["secrets", "mask"], "redact = ['password=\\S+'], for what is printed"),
];
/// What is no key, and how it is done.
const OTHERWISE: [(&[&str], &str); 8] = [
    (
        &[
            "timeout",
            "run_timeout",
            "max_runtime",
            "runtimemaxsec",
            "timelimit",
            "time_limit",
            "max_duration",
            "max_run_time",
            "max_time",
            "activedeadlineseconds",
            "deadline",
            "kill_after",
            "duration",
        ],
        "a run may take as long as it takes; one that may not is started by timeout(1): command = [\"timeout\", \"1h\", \
         \"PROGRAM\"]",
    ),
    (
        &["env_file", "environment_file", "environmentfile", "envfile"],
        "a file of variables is read by commands: 'provost update --env-file FILE NAME', or for all 'provost env replace \
         FILE'; here they stand in env = { NAME = \"VALUE\" }",
    ),
    (
        &["healthcheck", "health_check", "health"],
        "live_http = \"URL\" or live_exec = [\"PROGRAM\"] looks whether it is well, ready_… whether it has come up",
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

/// How a process is declared, for who has it in a section of another name.
const DECLARED: &str = "a process is declared in a section of its own: [process.NAME]";
/// Sections of other programs, and what they are here.
const SECTIONS: [(&[&str], &str); 5] = [
    (&["services", "programs", "program", "apps", "app", "jobs", "job", "unit"], DECLARED),
    (
        &["supervisord", "supervisorctl", "unix_http_server", "inet_http_server", "rpcinterface"],
        "that is of another supervisor: provost import supervisord FILE prints such a file as one of this",
    ),
    (
        &["group", "groups"],
        "a group is what its processes say: in_group = \"NAME\" in each, and @NAME means all of them",
    ),
    (&["include", "includes", "import"], "the files conf.d/*.toml beside this one are read by themselves"),
    (
        &["env", "variables"],
        "the variables that all get: [environment]; those of one: env = { NAME = \"VALUE\" }",
    ),
];
/// What others call the place where users get their roles.
const ROLES: [&str; 5] = ["user_roles", "users", "user", "roles", "groups"];

/// For who gives the users of gRPC their roles where the file of them belongs.
const GRPC_ROLES: &str = "it is the path of the users file; roles stand in [grpc.user_roles]";

/// How it is declared, with its name where that is known.
fn declared(name: Option<&str>) -> String {
    match name.and_then(|name| name.parse::<Name>().ok()) {
        Some(name) => DECLARED.replace("NAME", name.as_str()),
        None => DECLARED.to_owned(),
    }
}

/// For a table that is not known in a section, of which the title is empty at the top of the file.
pub fn table(name: &str, title: &str, known: &[&'static str]) -> String {
    let is_near = || values::closest(name, known.iter().copied()).is_some();
    let elsewhere = SECTIONS.iter().find(|(names, _)| title.is_empty() && names.contains(&name));
    if let Some((_, how)) = elsewhere {
        return (*how).to_owned();
    }
    match title {
        "[service]" => DECLARED.to_owned(),
        "" if !is_near() => format!("{DECLARED}; other sections: {}", known.join(", ")),
        _ => key(name, known),
    }
}

/// What others call a key that has to be there, among those that are.
pub fn instead_of(key: &str, there: &[String]) -> Option<String> {
    let others: &[&str] = match key {
        "listen" => &["port", "address", "bind", "addr"],
        "host" => &["address", "url", "server", "addr"],
        "certificate" => &["cert", "cert_file", "client_cert"],
        "key" => &["key_file", "private_key", "client_key"],
        _ => &[],
    };
    let known = there.iter().find(|there| others.contains(&there.as_str())).cloned();
    known.or_else(|| values::closest(key, there.iter().cloned()))
}

/// A value of a key that has to be there.
pub fn example(key: &str) -> Option<&'static str> {
    Some(match key {
        "listen" => "listen = \"0.0.0.0:7443\"",
        "host" => "host = \"NAME:7443\"",
        "command" => "command = [\"PROGRAM\", \"ARGUMENT\"]",
        _ => return None,
    })
}

/// For a key that is not known in a section.
pub fn key(key: &str, known: &[&'static str]) -> String {
    let of_process = known.contains(&"command");
    if known.contains(&"group_roles") && ROLES.contains(&key) {
        return "here roles are of groups: [local.group_roles]; a user of gRPC has one in [grpc.user_roles]"
            .to_owned();
    }
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
        Value::Array(all) if takes == "a table, written [process]" => {
            return Some(declared(all.first().and_then(|first| first["name"].as_str())));
        }
        _ if takes == "a table, written [process.name]" => return Some(declared(value.as_str())),
        _ if takes.starts_with("a table, written [process.") => return Some(declared(None)),
        Value::Object(_) if key == "users" && takes == "a string" => return Some(GRPC_ROLES.to_owned()),
        Value::String(text) => from_text(takes, text)?,
        Value::Number(number) => from_number(key, takes, number)?,
        Value::Bool(is) if takes.starts_with('"') => from_text(takes, &is.to_string())?,
        // A variable.
        Value::Bool(is) if takes == "a string" && key == key.to_uppercase() => quoted(&is.to_string()),
        Value::Array(all) if takes.starts_with("a list of strings") => {
            let text = |value: &Value| match value {
                Value::String(text) => Some(text.clone()),
                Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            };
            let all: Vec<String> = all.iter().map(text).collect::<Option<_>>()?;
            listed(&all.iter().map(String::as_str).collect::<Vec<_>>())
        }
        Value::Array(all) if takes.starts_with("a string") => match &all[..] {
            [Value::String(one)] => quoted(one),
            _ => return None,
        },
        Value::Object(all) if takes.starts_with("a table of") => {
            let (name, value) = all.iter().find(|(_, value)| !value.is_string())?;
            format!("{{ {name} = \"{value}\" }}")
        }
        _ => return None,
    };
    // What is said of an error goes into logs.
    let may_be_shown = !is_secret(key) && !is_secret(&written);
    may_be_shown.then(|| format!("write {key} = {written}"))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn listed(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}

/// What others call a word that a key takes.
const CHOICES: [(&[&str], &str); 8] = [
    (&["unless-stopped", "yes", "true", "on"], "always"),
    (&["no", "none", "false", "off"], "never"),
    (&["unexpected", "on-error", "on-abnormal", "on-crash"], "on-failure"),
    (&["yes", "true", "on", "once", "catch-up", "persistent"], "run"),
    (&["no", "none", "false", "off"], "skip"),
    (&["skip", "ignore", "no", "none", "false"], "forbid"),
    (&["kill", "restart", "cancel"], "replace"),
    (&["all", "control-group", "cgroup"], "tree"),
];

/// The words that a key takes, of a sentence that may go on about others.
fn choices(takes: &str) -> Vec<&str> {
    takes.split(';').next().unwrap_or_default().split('"').skip(1).step_by(2).collect()
}

fn from_text(takes: &str, text: &str) -> Option<String> {
    let is_of = |kinds: &[&str]| kinds.iter().any(|kind| takes.starts_with(kind));
    let word = text.trim().to_lowercase();
    if is_of(&["a list of strings: "]) {
        let is_shell = text.contains(['|', '&', ';', '<', '>', '$', '`', '*', '"', '\'', '\\']);
        let words = if is_shell { vec!["sh", "-c", text] } else { text.split_whitespace().collect() };
        return Some(listed(&words));
    }
    if is_of(&["a list of exit codes"]) {
        let codes: Result<Vec<u8>, _> = text.split(',').map(|code| code.trim().parse()).collect();
        return codes.ok().map(|codes| format!("{codes:?}"));
    }
    if is_of(&["a list"]) || takes.ends_with("a list of \"KEY=VALUE\"") && text.contains('=') {
        return Some(listed(&[text]));
    }
    if is_of(&["a size", "an amount of memory"]) {
        let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let prefix = text[number.len()..].trim().chars().next()?.to_ascii_uppercase();
        let number = number.parse::<u32>().ok().filter(|_| "KMG".contains(prefix))?;
        return Some(quoted(&format!("{number} {prefix}iB")));
    }
    if is_of(&["true"]) {
        return match word.as_str() {
            "yes" | "true" | "on" | "1" => Some("true".to_owned()),
            "no" | "false" | "off" | "0" => Some("false".to_owned()),
            _ => None,
        };
    }
    if is_of(&["a duration"]) {
        return duration(&word).map(|duration| quoted(&duration));
    }
    if is_of(&["a port of 127.0.0.1"]) && text.contains(':') {
        let (host, port) = text.rsplit_once(':')?;
        let is_here = ["", "127.0.0.1", "localhost", "0.0.0.0", "*"].contains(&host);
        return port.parse::<u16>().ok().filter(|_| is_here).map(|port| port.to_string());
    }
    if is_of(&["\""]) {
        let choices = choices(takes);
        let word = word.replace('_', "-");
        let same = CHOICES.iter().filter(|(words, _)| words.contains(&word.as_str())).map(|(_, here)| *here);
        let meant = [word.as_str()].into_iter().chain(same).find(|meant| choices.contains(meant));
        return meant.map(quoted);
    }
    if takes.ends_with("or \"none\"")
        && ["unlimited", "infinite", "infinity", "never"].contains(&word.as_str())
    {
        return Some(quoted("none"));
    }
    text.parse::<u64>().is_ok().then(|| text.to_owned())
}

/// `5` in seconds, and a unit that is written out or has a blank before it.
fn duration(word: &str) -> Option<String> {
    match word {
        "hourly" => return Some("1h".to_owned()),
        "daily" => return Some("1d".to_owned()),
        "weekly" => return Some("7d".to_owned()),
        "monthly" => return Some("30d".to_owned()),
        _ => {}
    }
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u32 = word[..word.len() - unit.len()].parse().ok()?;
    Some(match unit.trim() {
        "ms" | "msec" | "msecs" | "millis" | "milliseconds" => format!("{number}ms"),
        "" | "s" | "sec" | "secs" | "second" | "seconds" => format!("{number}s"),
        "m" | "min" | "mins" | "minute" | "minutes" => format!("{number}m"),
        "h" | "hr" | "hrs" | "hour" | "hours" => format!("{number}h"),
        "d" | "day" | "days" => format!("{number}d"),
        "w" | "week" | "weeks" => format!("{}d", number.checked_mul(7)?),
        _ => return None,
    })
}

fn from_number(key: &str, takes: &str, number: &Number) -> Option<String> {
    let is_of = |kinds: &[&str]| kinds.iter().any(|kind| takes.starts_with(kind));
    if takes.contains("in base 8") {
        // Whether it was written so, it does not tell.
        return None;
    }
    if is_of(&["a duration"]) {
        return Some(quoted(&format!("{number}s")));
    }
    if is_of(&["a list of exit codes"]) {
        return Some(format!("[{number}]"));
    }
    if is_of(&["true"]) {
        return match number.as_u64() {
            Some(0) => Some("false".to_owned()),
            Some(1) => Some("true".to_owned()),
            _ => None,
        };
    }
    if key == "listen" {
        return Some(quoted(&format!("127.0.0.1:{number}")));
    }
    if key.ends_with("_http") {
        return Some(quoted(&format!("http://127.0.0.1:{number}/")));
    }
    if takes.ends_with("or \"none\"") && number.as_i64().is_some_and(|number| number < 0) {
        return Some(quoted("none"));
    }
    let is_text = is_of(&["a size", "a string"]) || takes.contains(" as \"");
    is_text.then(|| quoted(&number.to_string()))
}

/// For text that is no TOML, by what is in it and what the parser says of it.
pub fn syntax(text: &str, message: &str) -> Option<&'static str> {
    if text.lines().any(|line| line.starts_with("[program:") || line.trim() == "[supervisord]") {
        return Some("this is a file of supervisord: 'provost import FILE' prints it as one of this");
    }
    if text.trim_start().starts_with('{') {
        return Some(
            "this is JSON; a configuration is TOML: [process.web], and below it command = [\"PROGRAM\"]",
        );
    }
    if message.contains("escape") {
        return Some(
            "within \"…\" a backslash is written twice; within '…' it stands for itself, as in redact = \
             ['password=\\S+']",
        );
    }
    if message.contains("leading zero") {
        return Some("what begins with 0 is text, as in umask = \"027\"");
    }
    (message.contains("expected `=`"))
        .then_some("a section begins with its name, as [process.web]; below it each line is KEY = VALUE")
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
        let words = "\"never\", \"on-failure\" or \"always\"";
        assert_eq!(hint(words, json!("sometimes")), "");
        assert_eq!(hint(words, json!(true)), "write k = \"always\"");
        assert_eq!(hint(words, json!("On_Failure")), "write k = \"on-failure\"");
        assert_eq!(hint(words, json!("unless-stopped")), "write k = \"always\"");
        assert_eq!(hint("\"tree\" or \"group\"", json!("no")), "", "that is no choice there");
        let overlap =
            "\"forbid\" or \"replace\"; two runs at once, as \"allow\" elsewhere, take two processes";
        assert_eq!(hint(overlap, json!("allow")), "");
        assert_eq!(hint(overlap, json!("skip")), "write k = \"forbid\"");
        assert_eq!(hint("\"skip\" or \"run\"", json!(true)), "write k = \"run\"");
        let duration = "a duration, as \"500ms\" or \"10s\"";
        assert_eq!(hint(duration, json!("5")), "write k = \"5s\"");
        assert_eq!(hint(duration, json!("Daily")), "write k = \"1d\"");
        assert_eq!(hint(duration, json!("2 weeks")), "write k = \"14d\"");
        assert_eq!(hint(duration, json!("10 sec")), "write k = \"10s\"");
        assert_eq!(hint(duration, json!("soon")), "");
        let port = "a port of 127.0.0.1, 1 to 65535";
        assert_eq!(hint(port, json!("127.0.0.1:80")), "write k = 80");
        assert_eq!(hint(port, json!("db.example:80")), "");
        assert_eq!(hint("a string", json!(80)), "write k = \"80\"");
        assert_eq!(hint("a string", json!(true)), "");
        assert_eq!(value("DEBUG", "a string", &json!(true)).as_deref(), Some("write DEBUG = \"true\""));
        assert_eq!(hint("a string", json!(["up"])), "write k = \"up\"");
        assert_eq!(hint("a string in base 8, as \"027\"", json!(22)), "");
        let many = "a whole number from 1, or \"none\"";
        assert_eq!(hint(many, json!(-1)), "write k = \"none\"");
        assert_eq!(hint(many, json!("unlimited")), "write k = \"none\"");
        assert_eq!(hint("a list of exit codes, 0 to 255", json!("0, 3")), "write k = [0, 3]");
        assert_eq!(hint("a list of exit codes, 0 to 255", json!(0)), "write k = [0]");
        assert_eq!(hint("true or false", json!(1)), "write k = true");
        let pairs = "a table of strings, or a list of \"KEY=VALUE\"";
        assert_eq!(hint(pairs, json!("A=b")), "write k = [\"A=b\"]");
        assert_eq!(hint(pairs, json!("API_KEY=b")), "");
        assert_eq!(value("DB_PASSWORD", "a string", &json!(80)), None);
        let url = value("ready_http", "a string", &json!(8000));
        assert_eq!(url.as_deref(), Some("write ready_http = \"http://127.0.0.1:8000/\""));
        assert_eq!(hint("a table, written [process]", json!([])), DECLARED);
        assert!(hint("a table, written [process]", json!([{ "name": "w" }])).ends_with("[process.w]"));
        assert!(hint("a table, written [process.name]", json!("w")).ends_with("[process.w]"));
        assert_eq!(hint("a table, written [process.command]", json!("w")), DECLARED);
        let numbers = hint("a list of strings: the program and its arguments", json!(["a", 80]));
        assert_eq!(numbers, "write k = [\"a\", \"80\"]");
        assert_eq!(hint("a table, written [history]", json!([])), "");
        assert!(syntax("", "missing escaped value, expected `b`").is_some());
        assert!(syntax("", "invalid key").is_none());
        assert!(syntax("", "key with no value, expected `=`").is_some());
        assert!(syntax("[program:web]\n", "invalid key").is_some_and(|hint| hint.contains("provost import")));
        assert!(syntax("\n{ }", "invalid key").is_some_and(|hint| hint.contains("JSON")));
    }

    #[test]
    fn a_section_that_is_meant_for_a_process_is_answered_with_its_name_here() {
        let top = ["process", "history"];
        assert_eq!(table("web", "", &top), format!("{DECLARED}; other sections: process, history"));
        assert_eq!(table("program", "", &top), DECLARED);
        assert_eq!(table("processes", "", &top), "the nearest key there is: process");
        assert_eq!(table("web", "[service]", &["orphans"]), DECLARED);
        assert_eq!(table("a", "[history]", &["keep"]), "keys there: keep");
        assert!(table("user_roles", "[local]", &["grpc", "group_roles"]).contains("[local.group_roles]"));
    }
}

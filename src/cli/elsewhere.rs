//! Options that a command does not have: what a person may have meant by one, as other programs call it.

use crate::cli::manual::{self, About, Positional};
use crate::wire::values;

/// What other programs call an option of these.
const SAME: [(&[&str], &str); 22] = [
    (&["-n"], "--name"),
    (&["-u", "--uid"], "--user"),
    (&["--memory", "--mem", "--memory-limit", "--mem-limit"], "--memory-max"),
    (&["--max-memory-restart"], "--restart-above"),
    (&["--cpus", "--cpu", "--cpu-limit"], "--cpu-quota"),
    (&["--ready-port", "--port", "--wait-port"], "--ready-tcp"),
    (&["--health-cmd", "--healthcheck", "--health-check"], "--live-exec"),
    (&["--health-url", "--health-http"], "--live-http"),
    (&["--lines"], "--tail"),
    (&["--err", "--error"], "--stderr"),
    (&["--out"], "--stdout"),
    (&["-c", "--conf"], "--config"),
    (&["--cron", "--cron-restart", "--timer"], "--schedule"),
    (&["--dir", "--directory", "--workdir", "--working-directory", "--chdir"], "--cwd"),
    (&["--environment", "--setenv"], "--env"),
    (&["-i", "--count", "--replicas", "--numprocs"], "--instances"),
    (&["--autorestart", "--restart-policy"], "--restart"),
    (&["--log-file", "--logfile", "--output"], "--log"),
    (&["--depends-on", "--needs"], "--requires"),
    (&["-t"], "--timeout"),
    (&["-y"], "--yes"),
    (&["--ready", "--running"], "--for {option}"),
];
/// Options that these commands do not have, and how it is done with them. `{command}` and `{option}` stand
/// for what was written.
const OTHERWISE: [(&[&str], &[&str], &str); 26] = [
    (
        &["why", "output", "history"],
        &["--all", "-a"],
        "it is of one process; of all: provost status, or provost logs all",
    ),
    (&["start"], &["--all", "-a"], "all of them: provost start all"),
    (
        &["start"],
        &["-d", "--daemon", "--detach", "--background"],
        "without it: what is started is the service's; 'provost run' is what stays with it",
    ),
    (&["start"], &["--watch"], "files are not watched: what watches them runs 'provost restart NAME'"),
    (
        &["serve"],
        &["-d", "--daemon", "--detach", "--background"],
        "it stays in the foreground: a unit of systemd starts it, or: setsid provost serve &",
    ),
    (&["serve"], &["--check", "--test", "--validate", "-t", "--dry-run"], "provost config check FILE"),
    (
        &["run"],
        &["-it", "-i", "-t", "--tty"],
        "it has no terminal: its output is shown, and signals are passed on",
    ),
    (&["stop"], &["-f", "--force", "-9", "--kill"], "at once: provost stop --timeout 0"),
    (
        &["apply", "update", "scale"],
        &["--wait", "--timeout"],
        "that is a command of its own: provost wait --for ready --timeout 30s TARGET",
    ),
    (&["apply", "import"], &["-f", "--file"], "the file stands alone: provost {command} FILE"),
    (&["update"], &["--command"], "the program stands behind --: provost update NAME -- PROGRAM [ARG...]"),
    (&["update"], &["--instances"], "how many there are: provost scale NAME N"),
    (&["remove"], &["--stopped"], "those that run are refused: provost remove all takes the others"),
    (&["status"], &["--failed"], "those in trouble: provost list --failed"),
    (&["list"], &["-q", "--quiet"], "names alone: --format '{name}'"),
    (&["list"], &["--running", "--stopped"], "here that is --state {option}"),
    (
        &["logs"],
        &["-u", "--unit", "--no-pager"],
        "the process stands alone, and there is no pager: provost logs NAME",
    ),
    (
        &["logs"],
        &["--path", "--file"],
        "where they are: provost show TARGET, as log, or status --json, as log_files",
    ),
    (&["history"], &["--since"], "--limit N shows the last N"),
    (&["status", "why"], &["--run"], "how each run ended: provost history TARGET"),
    (&["history"], &["--run"], "it is of all runs; the output of one: provost logs --run N TARGET"),
    (&["audit"], &["--user", "--who", "-u"], "the name stands alone: provost audit NAME"),
    (&["events", "history", "audit", "schedule"], &["--count", "--lines"], "here that is -n N"),
    (&["env"], &["--unset"], "provost env unset KEY"),
    (&["user"], &["--role"], "roles stand in the configuration: [grpc.user_roles] ann = \"operator\""),
    (&["user"], &["--password"], "it is asked for at a terminal, or is one line of standard input"),
];
/// The most options of a command that a hint names.
const NAMED_MAX: usize = 10;

/// What is said to a person who gives a command an option that it does not have.
pub fn hint(command: &About, option: &str) -> String {
    let known: Vec<_> = manual::options(command).into_iter().flat_map(|o| o.names).collect();
    let has = |name: &str| known.iter().any(|known| known == name);
    let word = option.trim_start_matches('-');
    let written = |text: &str| text.replace("{command}", command.name).replace("{option}", word);
    let otherwise = OTHERWISE
        .iter()
        .find(|(commands, options, _)| commands.contains(&command.name) && options.contains(&option));
    if let Some((_, _, how)) = otherwise {
        return written(how);
    }
    match option {
        "--all" | "-a" if command.arguments == Positional::Targets => {
            return format!("all of them: provost {} all", command.name);
        }
        _ if has("-n") && word.starts_with(|c: char| c.is_ascii_digit()) => {
            return format!("so many of the last: provost {} -n N", command.name);
        }
        "-o" | "--output" if has("--json") && !has("--log") => return "here that is --json".to_owned(),
        _ => {}
    }
    let name_of = |here: &str| here.split(' ').next().unwrap_or_default().to_owned();
    if let Some((_, here)) = SAME.iter().find(|(words, here)| words.contains(&option) && has(&name_of(here)))
    {
        return format!("here that is {}", written(here));
    }
    let shows = format!("'provost help {}'", command.name);
    let own = known.iter().map(String::as_str).filter(|name| command.help.contains(name));
    let long: Vec<_> = own.filter(|name| name.starts_with("--")).collect();
    // As one word: --restart-always.
    let begun = long.iter().find_map(|name| Some((name, option.strip_prefix(name)?.strip_prefix('-')?)));
    if let Some((name, value)) = begun {
        return format!("did you mean {name} {value}? {shows} shows all");
    }
    match values::closest(option, known.clone()) {
        Some(near) => format!("did you mean {near}? {shows} shows all"),
        None if long.is_empty() || long.len() > NAMED_MAX => format!("{shows} shows the options"),
        None => format!("there are {}: see {shows}", long.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, option: &str) -> String {
        hint(crate::cli::abouts().into_iter().find(|about| about.name == name).expect(name), option)
    }

    fn has(about: &About, option: &str) -> bool {
        manual::options(about).into_iter().flat_map(|o| o.names).any(|name| name == option)
    }

    #[test]
    fn options_of_other_programs_are_answered_with_those_here() {
        let abouts = crate::cli::abouts();
        for (words, here) in SAME {
            let option = here.split(' ').next().unwrap();
            let of = abouts.iter().find(|about| has(about, option)).expect(option);
            assert!(words.iter().any(|word| hint(of, word).starts_with("here that is --")), "{here}");
        }
        for (commands, options, how) in OTHERWISE {
            for command in commands {
                let about = abouts.iter().find(|about| about.name == *command).expect(command);
                for option in options {
                    assert!(!has(about, option), "{command} has {option}");
                    assert!(
                        hint(about, option).starts_with(how.split('{').next().unwrap()),
                        "{command} {option}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_in_no_table_is_answered_too() {
        for (command, option, says) in [
            ("stop", "--all", "provost stop all"),
            ("start", "--replicas", "here that is --instances"),
            ("start", "--restart-always", "--restart always"),
            ("wait", "--ready", "--for ready"),
            ("list", "--stopped", "--state stopped"),
            ("apply", "-f", "provost apply FILE"),
            ("show", "-o", "--json"),
            ("events", "-5", "-n N"),
            ("stop", "--timeuot", "did you mean --timeout?"),
            ("events", "--kind", "there are --follow, --since, --limit"),
            ("doctor", "--full", "'provost help doctor'"),
        ] {
            assert!(of(command, option).contains(says), "{command} {option}: {}", of(command, option));
        }
    }
}

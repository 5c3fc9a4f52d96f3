//! Commands by the names that they have elsewhere: some are the same and are carried out; others would do
//! something else than their name says, and are answered with the command that does it.

use crate::cli::arguments::Arguments;
use crate::cli::text;
use crate::wire::error::Error;
use crate::wire::id::quoted;

/// What each is here, with its options.
pub const ALIASES: [(&str, &[&str]); 9] = [
    ("ls", &["list"]),
    ("ps", &["list"]),
    ("top", &["list", "--usage", "--watch"]),
    ("monit", &["list", "--usage", "--watch"]),
    ("stats", &["list", "--usage", "--watch"]),
    ("tail", &["output", "--tail", "10"]),
    ("rm", &["remove"]),
    ("delete", &["remove"]),
    ("reboot", &["restart"]),
];

/// Words that are no command here, and what does it.
const ANSWERS: [(&[&str], &str); 34] = [
    (
        &["suspend", "pause"],
        "provost stop TARGET suspends what has a schedule; what runs is halted by: provost signal STOP TARGET",
    ),
    (
        &["resume", "unpause", "continue"],
        "provost start TARGET resumes a schedule, and runs it; what was halted goes on by: provost signal CONT TARGET",
    ),
    (
        &["remote", "remotes", "login", "connect"],
        "another machine's service is described in [remote.NAME] of the configuration; then: provost list -H NAME",
    ),
    (
        &["diff", "plan"],
        "what a file would change: provost apply --dry-run FILE; of the service's own: provost reload --dry-run",
    ),
    (&["health", "ready"], "of a process: provost status TARGET; of the service: provost doctor"),
    (
        &["clear", "prune", "clean"],
        "provost remove TARGET forgets what is stopped; what has ended and has no name goes by itself: keep_ended",
    ),
    (
        &["mask", "unmask"],
        "provost stop TARGET: it stays stopped until it is started; or take it out of the file",
    ),
    (
        &["reset-failed", "try-restart", "rolling-restart", "rolling"],
        "provost start TARGET tries what has failed again; one after the other: provost restart --one-by-one 'web-*'",
    ),
    (
        &["avail", "status-all", "list-units", "list-timers", "is-enabled"],
        "provost list; times: provost schedule; how one is defined: provost show TARGET",
    ),
    (&["runs"], "provost history TARGET; the output of one run: provost logs --run N TARGET, or --run last"),
    (
        &["service", "daemon", "systemctl", "supervisorctl", "pm2"],
        "the service is what provost serve runs, or a unit of systemd; its own settings: provost reload; one of its \
         processes: provost restart TARGET",
    ),
    (
        &["add", "create", "new"],
        "provost start --name NAME -- PROGRAM [ARG...]; what a file declares: provost apply FILE",
    ),
    (
        &["reread", "daemon-reload", "refresh"],
        "provost apply takes what a file declares by now, provost reload the service's own settings",
    ),
    (
        &["check", "validate", "configtest", "test"],
        "provost config check FILE; what it would change: provost apply --dry-run FILE",
    ),
    (
        &["rename"],
        "a process keeps its name: provost show TARGET prints the command that makes it under another one",
    ),
    (
        &["cron", "next", "timers"],
        "provost schedule TARGET tells when, provost start --schedule WHEN makes one",
    ),
    (&["man"], "provost help COMMAND; provost help --man prints the manual page"),
    (&["cat"], "provost show TARGET; its output: provost output TARGET"),
    (
        &["edit", "modify", "set"],
        "provost update TARGET, with the options that change; or in a file: provost apply FILE",
    ),
    (
        &["shutdown", "halt", "quit", "exit"],
        "provost stop all stops what runs; the end of the service, which stops it too, is SIGTERM to the process of \
         provost serve, as systemctl stop sends it",
    ),
    (&["hup", "int", "term", "usr1", "usr2", "cont"], "provost signal HUP TARGET, or another signal"),
    (&["pid", "pgrep", "pidof", "get"], "provost list --format '{name} {pid}' PATTERN"),
    (&["jlist", "prettylist"], "provost list --json"),
    (
        &["is-active", "is-failed"],
        "provost list --count PATTERN, or --failed; provost wait --for ready --timeout 0 TARGET is an exit code",
    ),
    (
        &["save", "dump", "resurrect", "startup"],
        "what has a name comes back with the service by itself: provost update --autostart, or --no-autostart, TARGET",
    ),
    (
        &["log", "journal", "journalctl", "maintail"],
        "provost logs TARGET, or provost output TARGET; what happened: provost events",
    ),
    (
        &["describe", "info", "inspect"],
        "how it is: provost status TARGET; how it is defined: provost show TARGET",
    ),
    (
        &["rollback", "undo"],
        "what was is declared again: provost apply FILE, with the file of before; docs/recipes.md has a deployment that does it",
    ),
    (&["deploy"], "a script does it; docs/recipes.md has one, with the way back"),
    (&["trigger", "invoke"], "provost start TARGET runs at once what has a schedule"),
    (
        &["rotate", "logrotate", "flush", "reopen"],
        "log files are rotated by themselves: log_size, log_age; SIGHUP to provost serve opens them anew",
    ),
    (&["enable", "disable"], "provost update --autostart TARGET, or --no-autostart, and autostart in a file"),
    (
        &["up", "down"],
        "provost apply makes the processes be what a file declares; provost stop all stops them",
    ),
    (
        &["exec", "attach", "fg"],
        "a program beside it is a process of its own: provost run -- PROGRAM; its output: provost stream TARGET",
    ),
];

/// The command's own name; what else the alias says stands before the words behind it.
pub fn resolve(name: String, arguments: &mut Arguments) -> Result<String, Error> {
    if name == "kill" {
        return Err(kill(&arguments.rest()));
    }
    if let Some((_, answer)) = ANSWERS.iter().find(|(words, _)| words.contains(&name.as_str())) {
        return Err(Error::usage(format!("there is no command {}", quoted(&name))).hint(*answer));
    }
    let Some((_, meant)) = ALIASES.iter().find(|(alias, _)| *alias == name) else { return Ok(name) };
    arguments.insert(&meant[1..]);
    Ok(meant[0].to_owned())
}

/// The command that an alias means, for its help.
pub fn command_of(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, meant)| meant[0])
}

/// Elsewhere it ends a process, or sends it any signal, or ends the service.
fn kill(words: &[String]) -> Error {
    let e = Error::usage(format!("there is no command {}", quoted("kill")));
    let (options, targets): (Vec<_>, Vec<_>) = words.iter().cloned().partition(|word| word.starts_with('-'));
    let signal = options.first().map_or("KILL", |option| option.trim_start_matches('-'));
    // As kill -s HUP web.
    if let ("s", [signal, targets @ ..]) = (signal, &targets[..]) {
        return e.hint(format!("provost signal {signal} {}", text::quoted_command(targets)));
    }
    let targets = if targets.is_empty() { "TARGET".to_owned() } else { text::quoted_command(&targets) };
    e.hint(format!(
        "to end it for good: provost stop {targets}; at once: provost stop --timeout 0 {targets}; to send it a \
         signal: provost signal {signal} {targets}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_alias_adds_stands_in_front() {
        let mut arguments = Arguments::of("tail web");
        arguments.next().unwrap();
        assert_eq!(resolve("tail".into(), &mut arguments).unwrap(), "output");
        assert_eq!(arguments.next_option().unwrap().as_deref(), Some("--tail"));
        assert_eq!(arguments.value("--tail").unwrap(), "10");
        arguments.no_options().unwrap();
        assert_eq!(arguments.values(), ["web"]);
        assert_eq!(resolve("status".into(), &mut arguments).unwrap(), "status");
    }

    #[test]
    fn words_of_other_programs_are_answered_with_commands_that_there_are() {
        let names: Vec<_> = crate::cli::abouts().iter().map(|about| about.name).collect();
        for (words, answer) in ANSWERS {
            for word in words {
                assert!(!names.contains(word), "{word} is a command");
                let e = resolve((*word).to_owned(), &mut Arguments::of("web")).unwrap_err();
                assert_eq!(e.hint, answer);
            }
            for named in answer.split("provost ").skip(1) {
                let named = named.split([' ', ',', ';', ':']).next().unwrap();
                assert!(names.contains(&named), "{answer}");
            }
        }
    }

    #[test]
    fn kill_is_answered_with_what_does_it() {
        let words = ["-s", "HUP", "web"].map(str::to_owned);
        assert_eq!(kill(&words).hint, "provost signal HUP web");
        let e = kill(&["-9".to_owned(), "web 1".to_owned()]);
        assert!(
            e.hint.contains("provost stop 'web 1'") && e.hint.contains("provost signal 9 'web 1'"),
            "{e:?}"
        );
    }
}

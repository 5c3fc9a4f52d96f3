//! Commands by the names that they have elsewhere: some are the same and are carried out; others would do
//! something else than their name says, and are answered with the command that does it.

use crate::cli::arguments::Arguments;
use crate::cli::text;
use crate::wire::error::Error;
use crate::wire::id::quoted;

/// What each is here, with its options.
pub const ALIASES: [(&str, &[&str]); 7] = [
    ("ls", &["list"]),
    ("ps", &["list"]),
    ("top", &["list", "--usage", "--watch"]),
    ("tail", &["output", "--tail", "10"]),
    ("rm", &["remove"]),
    ("delete", &["remove"]),
    ("reboot", &["restart"]),
];

/// The command's own name; what else the alias says stands before the words behind it.
pub fn resolve(name: String, arguments: &mut Arguments) -> Result<String, Error> {
    if name == "kill" {
        return Err(kill(&arguments.rest()));
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
    let (options, targets): (Vec<_>, Vec<_>) = words.iter().partition(|word| word.starts_with('-'));
    let targets: Vec<String> = targets.into_iter().cloned().collect();
    let targets = if targets.is_empty() { "TARGET".to_owned() } else { text::quoted_command(&targets) };
    let signal = options.first().map_or("KILL", |option| option.trim_start_matches('-'));
    Error::usage(format!("there is no command {}", quoted("kill"))).hint(format!(
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
    fn kill_is_answered_with_what_does_it() {
        let e = kill(&["-9".to_owned(), "web 1".to_owned()]);
        assert!(
            e.hint.contains("provost stop 'web 1'") && e.hint.contains("provost signal 9 'web 1'"),
            "{e:?}"
        );
    }
}

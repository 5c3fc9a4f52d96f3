//! `provost completions`: scripts for shells, made from the table of commands and the help texts.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::manual;
use crate::cli::manual::{About, Flag, Positional, visible};
use crate::cli::remote;
use crate::cli::session::Session;
use crate::wire::error::Error;
use crate::wire::id::quoted;

/// The shells that are known.
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Names of processes, or else their ids.
const TARGETS: &str = "provost list 2>/dev/null | awk -F'\\t' '{print ($2 == \"-\") ? $1 : $2}'";

/// Names of services on other machines, from the configurations that a client reads.
const REMOTES: &str = "cat ${XDG_CONFIG_HOME:-$HOME/.config}/provost/provost.toml /etc/provost/provost.toml 2>/dev/null \
                       | sed -n 's/^ *\\[remote\\.\\([A-Za-z0-9_-]*\\)\\].*/\\1/p'";

/// Signals that people send.
const SIGNALS: &str = "HUP INT QUIT KILL USR1 USR2 TERM CONT STOP TSTP WINCH";

pub const COMMAND: Command =
    Command::new("completions", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
        .takes(Positional::OneOf(&SHELLS))
        .text_only();
const SUMMARY: &str = "Print a completion script for a shell";
const HELP: &str = "\
Usage: provost completions bash|zsh|fish

For one account, from its next shell on:

  bash: echo 'source <(provost completions bash)' >> ~/.bashrc
  zsh:  echo 'source <(provost completions zsh)' >> ~/.zshrc
  fish: mkdir -p ~/.config/fish && echo 'provost completions fish | source' >> ~/.config/fish/config.fish

Examples:
  provost completions bash
";

fn parse(arguments: &mut Arguments) -> Result<String, Error> {
    arguments.no_options()?;
    let shell = match arguments.next_value() {
        Some(shell) if SHELLS.contains(&shell.as_str()) => shell,
        Some(other) => {
            return Err(Error::usage(format!("no completions for {}", quoted(&other)))
                .hint(format!("shells are {}", SHELLS.join(", "))));
        }
        None if arguments.shared.help => String::new(),
        None => return Err(arguments.usage("no shell is given".into())),
    };
    arguments.no_values().map(|()| shell)
}

fn run(shell: String, session: &mut Session) -> Result<u8, Error> {
    let script = match shell.as_str() {
        "bash" => bash(&session.commands),
        "zsh" => zsh(&session.commands),
        _ => fish(&session.commands),
    };
    session.out.bytes(script.as_bytes());
    Ok(0)
}

fn names(commands: &[&'static About]) -> String {
    visible(commands).map(|c| c.name).collect::<Vec<_>>().join(" ")
}

/// What completes a command's words, as a line of shell that prints candidates.
fn candidates(command: &About, commands: &[&'static About]) -> String {
    match command.arguments {
        Positional::Targets | Positional::ProgramOrTargets | Positional::SignalAndTargets => {
            TARGETS.to_owned()
        }
        Positional::OneOf(arguments) => format!("echo {}", arguments.join(" ")),
        Positional::Command => format!("echo {}", names(commands)),
        Positional::Program | Positional::Nothing | Positional::Hidden => String::new(),
    }
}

fn is_path(flag: &Flag) -> bool {
    matches!(flag.value.as_deref(), Some("PATH" | "FILE" | "DIR"))
}

/// What an option's value can be, as a line of shell that prints candidates; none if that is not known.
fn choices(flag: &Flag) -> Option<String> {
    let words = match (flag.names.last()?.as_str(), flag.value.as_deref()?) {
        ("--remote", _) => return Some(REMOTES.to_owned()),
        ("--restart", _) => "never on-failure always",
        ("--scope" | "--stop-scope", _) if flag.text.contains("mixed") => "tree mixed group leader",
        ("--scope", _) => "tree group leader",
        ("--signal" | "--stop-signal", _) => SIGNALS,
        ("--for", _) => "stopped running ready",
        ("--state", "STATE,..") => "stopped starting running stopping backoff failed scheduled",
        ("--on-dependency", _) => "restart stop ignore",
        ("--cgroups", _) => "auto off",
        ("--restart-on-oom", _) => "true false",
        ("--since", "WHERE") => "start now",
        ("--stderr", "WHAT") => "off on-error all",
        ("--level", _) => "trace debug info warn error fatal",
        ("--run", _) => "last",
        ("--log-format", _) => "raw time json",
        ("--log-field", _) => "id instance pid host labels",
        ("--log-to", _) => "syslog journald",
        ("--schedule-overlap", _) => "forbid replace",
        ("--schedule-missed", _) => "skip run",
        _ => return None,
    };
    Some(format!("echo {words}"))
}

fn flags(command: &About) -> String {
    let flags = manual::options(command);
    flags.iter().flat_map(|f| f.names.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

/// The options of all commands that take a value: a word behind one of them is no target.
fn with_value(commands: &[&'static About]) -> String {
    let mut names: BTreeSet<String> = remote::NAMES.iter().map(|&name| name.to_owned()).collect();
    for command in visible(commands) {
        let flags = manual::options(command).into_iter().filter(|f| f.value.is_some() && !f.is_glued);
        names.extend(flags.flat_map(|f| f.names));
    }
    names.into_iter().collect::<Vec<_>>().join("|")
}

/// How a shell takes candidates that a line of shell prints, and paths.
struct Takes {
    previous: &'static str,
    path: &'static str,
    words: fn(&str) -> String,
}

/// The `case` of a command in bash and zsh, as far as the word behind an option is that option's value.
fn values_case(command: &About, takes: &Takes) -> String {
    let mut out = format!("  {})\n    case {} in\n", command.name, takes.previous);
    let mut others = Vec::new();
    for flag in manual::options(command).iter().filter(|f| f.value.is_some() && !f.is_glued) {
        let names = flag.names.join("|");
        match choices(flag) {
            Some(words) => {
                let _ = writeln!(out, "      {names}) {}; return;;", (takes.words)(&words));
            }
            None if is_path(flag) => {
                let _ = writeln!(out, "      {names}) {}; return;;", takes.path);
            }
            None => others.push(names),
        }
    }
    if !others.is_empty() {
        let _ = writeln!(out, "      {}) return;;", others.join("|"));
    }
    out.push_str("    esac\n");
    out
}

fn bash(commands: &[&'static About]) -> String {
    let takes = Takes {
        previous: "$prev",
        path: "compopt -o default",
        words: |line| format!("COMPREPLY=($(compgen -W \"$({line})\" -- \"$cur\"))"),
    };
    let mut out = String::from(
        "# bash completion for provost, made by 'provost completions bash'\n\
         _provost() {\n\
         \x20 local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= words=0 i\n\
         \x20 COMPREPLY=()\n\
         \x20 for ((i = 1; i < COMP_CWORD; i++)); do\n\
         \x20   case ${COMP_WORDS[i]} in\n\
         \x20     --) if ((i + 1 == COMP_CWORD)); then COMPREPLY=($(compgen -c -- \"$cur\")); fi\n\
         \x20       compopt -o default; return;;\n",
    );
    let _ = writeln!(out, "      {}) i=$((i + 1));;", with_value(commands));
    out.push_str(
        "\x20     -*) ;;\n\
         \x20     *) if [[ -z $command ]]; then command=${COMP_WORDS[i]}; else words=$((words + 1)); fi;;\n\
         \x20   esac\n\
         \x20 done\n",
    );
    let remotes = (takes.words)(REMOTES);
    let _ = writeln!(out, "  case $prev in -H|--remote) {remotes}; return;; esac\n  case $command in");
    for command in visible(commands) {
        out.push_str(&values_case(command, &takes));
        out.push_str("    if [[ $cur == -* ]]; then\n");
        let _ = writeln!(out, "      COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", flags(command));
        if command.arguments == Positional::SignalAndTargets {
            let signals = (takes.words)(&format!("echo {SIGNALS}"));
            let _ = writeln!(out, "    elif ((words == 0)); then\n      {signals}");
        }
        let candidates = candidates(command, commands);
        if !candidates.is_empty() {
            let _ = writeln!(out, "    else\n      {}", (takes.words)(&candidates));
        }
        out.push_str("    fi;;\n");
    }
    let _ = writeln!(
        out,
        "  *) COMPREPLY=($(compgen -W '{} --socket --help --version -H' -- \"$cur\"));;\n  esac\n}}\n\
         complete -F _provost provost",
        names(commands)
    );
    out
}

fn zsh(commands: &[&'static About]) -> String {
    let takes = Takes {
        previous: "$words[CURRENT-1]",
        path: "_files",
        words: |line| format!("compadd -- $({line})"),
    };
    let mut out = String::from(
        "#compdef provost\n\
         # zsh completion for provost, made by 'provost completions zsh'\n\
         _provost() {\n\
         \x20 local -a provost_commands words_of\n\
         \x20 local command i count=0\n\
         \x20 provost_commands=(\n",
    );
    for command in visible(commands) {
        let _ = writeln!(out, "    '{}:{}'", command.name, single_quoted(&described(command)));
    }
    out.push_str(
        "  )\n\
         \x20 for ((i = 2; i < CURRENT; i++)); do\n\
         \x20   case $words[i] in\n\
         \x20     --) shift $i words; ((CURRENT -= i)); _normal; return;;\n",
    );
    let _ = writeln!(out, "      {}) ((i++));;", with_value(commands));
    out.push_str(
        "\x20     -*) ;;\n\
         \x20     *) if [[ -z $command ]]; then command=$words[i]; else ((count++)); fi;;\n\
         \x20   esac\n\
         \x20 done\n",
    );
    let remotes = (takes.words)(REMOTES);
    let _ = writeln!(out, "  case $words[CURRENT-1] in -H|--remote) {remotes}; return;; esac");
    out.push_str("  case $command in\n  '') _describe command provost_commands;;\n");
    for command in visible(commands) {
        out.push_str(&values_case(command, &takes));
        out.push_str("    if [[ $PREFIX == -* ]]; then\n      words_of=(\n");
        for flag in manual::options(command) {
            for name in &flag.names {
                let _ = writeln!(out, "        '{}:{}'", name, single_quoted(&flag.text));
            }
        }
        out.push_str("      )\n      _describe option words_of\n");
        if command.arguments == Positional::SignalAndTargets {
            let _ = writeln!(out, "    elif ((count == 0)); then\n      compadd -- {SIGNALS}");
        }
        let candidates = candidates(command, commands);
        if !candidates.is_empty() {
            let _ = writeln!(out, "    else\n      {}", (takes.words)(&candidates));
        }
        out.push_str("    fi;;\n");
    }
    // As a file that is loaded by its name it is the function itself; read by a shell, it makes itself known.
    out.push_str(
        "  esac\n}\n\
         if [[ ${funcstack[1]} == _provost ]]; then\n\
         \x20 _provost \"$@\"\n\
         else\n\
         \x20 (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }\n\
         \x20 compdef _provost provost\n\
         fi\n",
    );
    out
}

fn fish(commands: &[&'static About]) -> String {
    let mut out = String::from(
        "# fish completion for provost, made by 'provost completions fish'\n\
         complete -c provost -f\n\
         function __provost_behind; contains -- -- (commandline -opc); end\n\
         function __provost_in; not __provost_behind; and __fish_seen_subcommand_from $argv; end\n\
         function __provost_words; count (string match -v -- '-*' (commandline -opc)); end\n\
         complete -c provost -n __provost_behind -F -a '(complete -C (commandline -ct))'\n",
    );
    let _ = writeln!(
        out,
        "complete -c provost -s H -l remote -x -a \"({})\" -d 'The service of another machine'",
        fish_quoted(&format!("sh -c {}", sh_quoted(REMOTES)))
    );
    for command in visible(commands) {
        let _ = writeln!(
            out,
            "complete -c provost -n __fish_use_subcommand -a {} -d '{}'",
            command.name,
            single_quoted(&described(command))
        );
        let condition = format!("-n '__provost_in {}'", command.name);
        if command.arguments == Positional::SignalAndTargets {
            let first = format!("-n '__provost_in {}; and test (__provost_words) -eq 2'", command.name);
            let _ = writeln!(out, "complete -c provost {first} -a '{SIGNALS}'");
        }
        let candidates = candidates(command, commands);
        if !candidates.is_empty() {
            // echo's words stand on one line, and fish takes lines.
            let _ = writeln!(
                out,
                "complete -c provost {condition} -a \"({} | string split ' ')\"",
                fish_quoted(&candidates)
            );
        }
        for flag in manual::options(command) {
            let mut line = format!("complete -c provost {condition}");
            for name in &flag.names {
                match name.strip_prefix("--") {
                    Some(long) => line.push_str(&format!(" -l {long}")),
                    None => line.push_str(&format!(" -s {}", name.trim_start_matches('-'))),
                }
            }
            if flag.value.is_some() && !flag.is_glued {
                line.push_str(if is_path(&flag) { " -r -F" } else { " -x" });
            }
            if let Some(words) = choices(&flag).as_deref().and_then(|line| line.strip_prefix("echo ")) {
                line.push_str(&format!(" -a '{words}'"));
            }
            let _ = writeln!(out, "{line} -d '{}'", single_quoted(&flag.text));
        }
    }
    out
}

/// A command's summary, and what it does to the world.
fn described(command: &About) -> String {
    format!("{} ({})", command.summary, command.effect.name())
}

/// One word of a shell.
fn sh_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Fit to stand between single quotes, and before a colon in zsh's lists.
fn single_quoted(text: &str) -> String {
    text.replace(['\'', ':'], "")
}

/// Fit to stand between double quotes in fish.
fn fish_quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::abouts;

    #[test]
    fn every_command_and_option_is_in_every_script() {
        let commands = &abouts();
        for script in [bash(commands), zsh(commands), fish(commands)] {
            for command in visible(commands) {
                assert!(script.contains(command.name), "{}", command.name);
                for flag in manual::options(command) {
                    let long = flag.names.last().unwrap().trim_start_matches('-');
                    assert!(script.contains(long), "{} {long}", command.name);
                }
            }
            assert!(!script.contains("engine)"), "hidden commands stay hidden");
        }
    }

    #[test]
    fn what_a_command_does_is_in_the_scripts_that_describe() {
        assert!(zsh(&abouts()).contains("(destructive)") && fish(&abouts()).contains("(destructive)"));
    }

    #[test]
    fn only_known_shells() {
        let parsed = |argument: &str| parse(&mut Arguments::new([argument.into()]).unwrap());
        assert_eq!(parsed("zsh"), Ok("zsh".into()));
        assert!(parsed("tcsh").is_err_and(|e| e.hint.contains("fish")));
        assert!(parse(&mut Arguments::of("")).is_err());
    }
}

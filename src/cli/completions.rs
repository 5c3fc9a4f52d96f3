//! `provost completions`: scripts for shells, made from the table of commands and the help texts.

use std::fmt::Write;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::manual;
use crate::cli::manual::{About, Flag, Positional, visible};
use crate::cli::session::Session;
use crate::wire::error::Error;
use crate::wire::id::quoted;

/// The shells that are known.
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Names of processes, or else their ids.
const TARGETS: &str = "provost list 2>/dev/null | awk -F'\\t' '{print ($2 == \"-\") ? $1 : $2}'";

pub const COMMAND: Command =
    Command::new("completions", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
        .takes(Positional::OneOf(&SHELLS))
        .text_only();
const SUMMARY: &str = "Print a completion script for a shell";
const HELP: &str = "\
Usage: provost completions bash|zsh|fish

  bash: provost completions bash > ~/.local/share/bash-completion/completions/provost
  zsh:  provost completions zsh > \"${fpath[1]}/_provost\"
  fish: provost completions fish > ~/.config/fish/completions/provost.fish
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
        Positional::Targets | Positional::ProgramOrTargets => TARGETS.to_owned(),
        Positional::OneOf(arguments) => format!("echo {}", arguments.join(" ")),
        Positional::Command => format!("echo {}", names(commands)),
        Positional::Program | Positional::Nothing | Positional::Hidden => String::new(),
    }
}

fn is_path(flag: &Flag) -> bool {
    matches!(flag.value.as_deref(), Some("PATH" | "FILE" | "DIR"))
}

fn flags(command: &About) -> String {
    let flags = manual::options(command);
    flags.iter().flat_map(|f| f.names.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

/// The `case` of a command in bash and zsh, as far as the word behind an option is that option's value.
fn values_case(command: &About, previous: &str, complete_path: &str) -> String {
    let flags = manual::options(command);
    let pattern = |of_path| {
        let picked = flags.iter().filter(|f| f.value.is_some() && !f.is_glued && is_path(f) == of_path);
        picked.flat_map(|f| f.names.iter().map(String::as_str)).collect::<Vec<_>>().join("|")
    };
    let (paths, values) = (pattern(true), pattern(false));
    let values = if values.is_empty() { values } else { format!("      {values}) return;;\n") };
    format!(
        "  {})\n    case {previous} in\n      {paths}) {complete_path}; return;;\n{values}    esac\n",
        command.name
    )
}

fn bash(commands: &[&'static About]) -> String {
    let mut out = String::from(
        "# bash completion for provost, made by 'provost completions bash'\n\
         _provost() {\n\
         \x20 local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= i\n\
         \x20 COMPREPLY=()\n\
         \x20 for ((i = 1; i < COMP_CWORD; i++)); do\n\
         \x20   case ${COMP_WORDS[i]} in\n\
         \x20     --) compopt -o default; return;;\n\
         \x20     --socket|-H|--remote|--host|--cert|--key|--ca|--user|--password-file) i=$((i + 1));;\n\
         \x20     -*) ;;\n\
         \x20     *) [[ -z $command ]] && command=${COMP_WORDS[i]};;\n\
         \x20   esac\n\
         \x20 done\n\
         \x20 case $command in\n",
    );
    for command in visible(commands) {
        out.push_str(&values_case(command, "$prev", "compopt -o default"));
        out.push_str("    if [[ $cur == -* ]]; then\n");
        let _ = writeln!(out, "      COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", flags(command));
        let candidates = candidates(command, commands);
        if !candidates.is_empty() {
            let _ =
                writeln!(out, "    else\n      COMPREPLY=($(compgen -W \"$({candidates})\" -- \"$cur\"))");
        }
        out.push_str("    fi;;\n");
    }
    let _ = writeln!(
        out,
        "  *) COMPREPLY=($(compgen -W '{} --socket --help --version' -- \"$cur\"));;\n  esac\n}}\n\
         complete -F _provost provost",
        names(commands)
    );
    out
}

fn zsh(commands: &[&'static About]) -> String {
    let mut out = String::from(
        "#compdef provost\n\
         # zsh completion for provost, made by 'provost completions zsh'\n\
         _provost() {\n\
         \x20 local -a commands words_of\n\
         \x20 local command i\n\
         \x20 commands=(\n",
    );
    for command in visible(commands) {
        let _ = writeln!(out, "    '{}:{}'", command.name, single_quoted(command.summary));
    }
    out.push_str(
        "  )\n\
         \x20 for ((i = 2; i < CURRENT; i++)); do\n\
         \x20   case $words[i] in\n\
         \x20     --) _normal; return;;\n\
         \x20     --socket|-H|--remote|--host|--cert|--key|--ca|--user|--password-file) ((i++));;\n\
         \x20     -*) ;;\n\
         \x20     *) [[ -z $command ]] && command=$words[i];;\n\
         \x20   esac\n\
         \x20 done\n\
         \x20 case $command in\n\
         \x20 '') _describe command commands;;\n",
    );
    for command in visible(commands) {
        out.push_str(&values_case(command, "$words[CURRENT-1]", "_files"));
        out.push_str("    if [[ $PREFIX == -* ]]; then\n      words_of=(\n");
        for flag in manual::options(command) {
            for name in &flag.names {
                let _ = writeln!(out, "        '{}:{}'", name, single_quoted(&flag.text));
            }
        }
        out.push_str("      )\n      _describe option words_of\n");
        let candidates = candidates(command, commands);
        if !candidates.is_empty() {
            let _ = writeln!(out, "    else\n      compadd -- $({candidates})");
        }
        out.push_str("    fi;;\n");
    }
    out.push_str("  esac\n}\n_provost \"$@\"\n");
    out
}

fn fish(commands: &[&'static About]) -> String {
    let mut out = String::from(
        "# fish completion for provost, made by 'provost completions fish'\ncomplete -c provost -f\n",
    );
    for command in visible(commands) {
        let _ = writeln!(
            out,
            "complete -c provost -n __fish_use_subcommand -a {} -d '{}'",
            command.name,
            single_quoted(command.summary)
        );
        let condition = format!("-n '__fish_seen_subcommand_from {}'", command.name);
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
            let _ = writeln!(out, "{line} -d '{}'", single_quoted(&flag.text));
        }
    }
    out
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
    fn only_known_shells() {
        let parsed = |argument: &str| parse(&mut Arguments::new([argument.into()]).unwrap());
        assert_eq!(parsed("zsh"), Ok("zsh".into()));
        assert!(parsed("tcsh").is_err_and(|e| e.hint.contains("fish")));
        assert!(parse(&mut Arguments::of("")).is_err());
    }
}

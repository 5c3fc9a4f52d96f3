//! What the help texts hold, read back from them: how a command is written, its options, the man page. The
//! texts are the one place where an option is described; completions and the manual follow them.

use crate::cli::remote;
use crate::cli::spec_help;
use crate::cli::values;
use crate::wire::error::Error;
use crate::wire::id::quoted;

/// The options of every command.
const SHARED: &str = "
Shared options:
      --socket PATH          The service's socket; else $PROVOST_SOCKET, else the default
  -h, --help                 Show this text
";
/// The option of every command that answers.
const SHARED_JSON: &str = "      --json                 Answer with one JSON object per line\n";

/// What the examples of a help text begin with. They are at its end, and are shown behind all options.
pub const EXAMPLES: &str = "\nExamples:\n";

const EXIT_CODES: &str = "\
Exit codes:
  0  done                    5  timed out
  1  failed                  6  refused
  2  wrong usage             7  the service is not reachable
  3  the answer is no        8  some targets of several failed
  4  no such target
'run' and 'wait' pass on the process's exit code, or 128 + its signal. Their own failures are 125;
126: the program cannot be executed, 127: it was not found.";

/// What a command says of itself.
pub struct About {
    pub name: &'static str,
    pub summary: &'static str,
    pub help: &'static str,
    pub answers: Answers,
    pub arguments: Positional,
    pub effect: Effect,
}

/// The most that a command can do to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It changes nothing.
    Read,
    /// It changes something, which another command can change back.
    Write,
    /// What it removes does not come back.
    Destructive,
}

impl Effect {
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Destructive => "destructive",
        }
    }

    /// The same as a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Read => "Effect: read. It changes nothing.",
            Self::Write => "Effect: write. It changes something, which another command can change back.",
            Self::Destructive => "Effect: destructive. What it removes does not come back.",
        }
    }
}

/// Whether a command knows `--json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    Json,
    /// It has nothing to say but text.
    Text,
}

/// What a command's arguments are besides options, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positional {
    /// It takes none.
    Nothing,
    Targets,
    OneOf(&'static [&'static str]),
    Command,
    /// Behind `--` a program with its arguments.
    Program,
    /// That, or without `--` names of processes.
    ProgramOrTargets,
    /// A signal, then names of processes.
    SignalAndTargets,
    /// The command is not for people and is not shown.
    Hidden,
}

/// The commands that people use.
pub fn visible<'a>(commands: &'a [&'static About]) -> impl Iterator<Item = &'static About> + 'a {
    commands.iter().copied().filter(|command| command.arguments != Positional::Hidden)
}

/// The refusal of a command that does not exist.
pub fn no_command(commands: &[&'static About], name: &str) -> Error {
    let e = Error::usage(format!("there is no command {}", quoted(name)));
    match values::closest(name, visible(commands).map(|command| command.name)) {
        Some(near) => e.hint(format!("did you mean 'provost {near}'? 'provost help' shows all commands")),
        None => e.hint("'provost help' shows all commands"),
    }
}

/// One option, as its help text describes it.
pub struct Flag {
    pub names: Vec<String>,
    /// What its value is called, if it takes one.
    pub value: Option<String>,
    /// The value has to be glued on, and may be left out: `--wait=ready`.
    pub is_glued: bool,
    pub text: String,
}

/// A command's whole help text.
pub fn help(command: &About) -> String {
    let (text, examples) = command.help.split_once(EXAMPLES).unwrap_or((command.help, ""));
    let mut out = format!("{}.\n{}\n\n{text}", command.summary, command.effect.sentence());
    if matches!(command.arguments, Positional::Program | Positional::ProgramOrTargets) {
        out.push_str(spec_help::HELP);
    }
    out.push_str(SHARED);
    if command.answers == Answers::Json {
        out.push_str(SHARED_JSON);
    }
    if !examples.is_empty() {
        out.push_str(&[EXAMPLES, examples].concat());
    }
    out.trim_end().to_owned()
}

/// How a command is written: "provost stop [OPTIONS] TARGET...".
pub fn usage(command: &About) -> &'static str {
    let first = command.help.lines().next().unwrap_or_default();
    first.strip_prefix("Usage: ").unwrap_or(first)
}

/// Whether it can be written in other ways, too.
pub fn has_other_usages(command: &About) -> bool {
    command.help.lines().nth(1).is_some_and(|line| line.trim_start().starts_with("provost "))
}

/// A command's options, the shared ones included.
pub fn options(command: &About) -> Vec<Flag> {
    let text = help(command);
    let mut flags: Vec<Flag> = Vec::new();
    for line in text.lines() {
        if let Some(flag) = flag(line) {
            flags.push(flag);
        } else if let (Some(flag), true) = (flags.last_mut(), line.starts_with("            ")) {
            flag.text.push(' ');
            flag.text.push_str(line.trim());
        }
    }
    flags
}

/// Reads `  -e, --env K=V   What it does`.
fn flag(line: &str) -> Option<Flag> {
    let trimmed = line.trim_start();
    if !line.starts_with("  ") || !trimmed.starts_with('-') {
        return None;
    }
    let (left, text) = trimmed.split_once("  ").unwrap_or((trimmed, ""));
    let mut flag = Flag { names: Vec::new(), value: None, is_glued: false, text: text.trim().to_owned() };
    for part in left.split(", ") {
        let end = part.find([' ', '[']).unwrap_or(part.len());
        flag.names.push(part[..end].to_owned());
        if end < part.len() {
            flag.is_glued = part[end..].starts_with('[');
            flag.value = Some(part[end..].trim_matches([' ', '[', ']', '=']).to_owned());
        }
    }
    Some(flag)
}

/// All commands on a screen.
pub fn overview(commands: &[&'static About]) -> String {
    let mut out =
        String::from("Provost keeps processes.\n\nUsage: provost COMMAND [OPTIONS] [--] [WORDS...]\n\n");
    for command in visible(commands) {
        out.push_str(&format!("  {:<12} {}\n", command.name, command.summary));
    }
    out.push_str(
        "\nA TARGET is a name, a UUID, the beginning of one (4 characters or more), or a pattern: 'web-*'.\n\
         'provost help COMMAND' shows a command's options.\n\n",
    );
    out.push_str(EXIT_CODES);
    out.push('\n');
    out.push_str(remote::HELP.trim_end());
    out
}

/// The manual page, in the language of man(7).
pub fn page(commands: &[&'static About]) -> String {
    let mut out = format!(
        ".\\\" Made by 'provost help --man'.\n.TH PROVOST 1 \"\" \"provost {}\" \"User Commands\"\n\
         .SH NAME\nprovost \\- keeps processes\n.SH SYNOPSIS\n.B provost\n\
         .I COMMAND\n[\\fIOPTIONS\\fR] [\\fB\\-\\-\\fR] [\\fIWORDS\\fR...]\n.SH DESCRIPTION\n\
         Provost starts processes, stops them, tells how they are, and hands out what they print.\n\
         A \\fITARGET\\fR is a name, a UUID, the beginning of one (4 characters or more), or a pattern with '*'.\n\
         .SH COMMANDS\n",
        env!("CARGO_PKG_VERSION")
    );
    for command in visible(commands) {
        out.push_str(&format!(
            ".SS {}\n.B {}\n.PP\n{}.\n.br\n{}\n.PP\n",
            command.name,
            roff(usage(command)),
            roff(command.summary),
            roff(command.effect.sentence())
        ));
        text_to_man(command.help, &mut out);
    }
    out.push_str(".SH OPTIONS OF A PROCESS\nFor start and run.\n");
    text_to_man(spec_help::HELP, &mut out);
    out.push_str(".SH SHARED OPTIONS\nEvery command has these; \\-\\-json those that answer.\n");
    text_to_man(SHARED, &mut out);
    text_to_man(SHARED_JSON, &mut out);
    out.push_str(".SH OPTIONS IN FRONT OF THE COMMAND\nFor the service of another machine.\n");
    text_to_man(remote::HELP, &mut out);
    out.push_str(".SH EXIT STATUS\n.nf\n");
    out.push_str(&roff(EXIT_CODES.trim_start_matches("Exit codes:\n")));
    out.push_str(
        "\n.fi\n.SH ENVIRONMENT\nOf commands:\n.TP\n.B PROVOST_SOCKET\nThe service's socket.\n\
         .TP\n.B PROVOST_PASSWORD\nThe password, to the service of another machine.\n\
         .TP\n.B XDG_RUNTIME_DIR\nWhere the socket of a user's own service is, below provost/.\n\
         .TP\n.B XDG_STATE_HOME\nWhat outlives a user's own service, below provost/ (~/.local/state).\n\
         .TP\n.B XDG_CONFIG_HOME\nA user's settings, as provost/provost.toml (~/.config).\n\
         .TP\n.B NO_COLOR\nNo colours, when it is set to anything.\n\
         .PP\nThat every process gets, and that the values of its variables may refer to as ${NAME}:\n\
         .TP\n.B PROVOST_ID\nIts UUID.\n\
         .TP\n.B PROVOST_NAME\nIts name, if it has one.\n\
         .TP\n.B PROVOST_INSTANCE\nIts number among several.\n\
         .TP\n.B PROVOST_RUN\nThe number of its run.\n\
         .TP\n.B PROVOST_SERVICE\nThe service that keeps it.\n\
         .TP\n.B NOTIFY_SOCKET\nWhere it may say READY=1, as sd_notify(3) does, if it is to.\n\
         .SH FILES\n.TP\n.I /run/provost/engine.sock\nThe socket of root's service.\n\
         .TP\n.I $XDG_RUNTIME_DIR/provost/engine.sock\nThe socket of a user's own service.\n\
         .TP\n.I /var/lib/provost, $XDG_STATE_HOME/provost\nWhat outlives the service.\n\
         .TP\n.I /etc/provost/provost.toml, /etc/provost/conf.d/*.toml\nSettings of root's service, and processes: provost.toml(5).\n",
    );
    out.push_str(".SH EXAMPLES\n");
    for command in visible(commands) {
        if let Some(example) = examples(command).next() {
            out.push_str(&format!(".TP\n.B {}\n{}.\n", roff(example), roff(command.summary)));
        }
    }
    out.push_str(".SH SEE ALSO\n.BR provost.toml (5),\n.BR signal (7),\n.BR sd_notify (3)\n");
    out
}

/// The lines under "Examples:" of a command's help text.
pub fn examples(command: &About) -> impl Iterator<Item = &'static str> {
    let (_, examples) = command.help.split_once(EXAMPLES).unwrap_or_default();
    examples.lines().map(str::trim)
}

/// A help text: options with their descriptions, paragraphs, and lines that stand for themselves.
fn text_to_man(text: &str, out: &mut String) {
    let (text, examples) = text.split_once(EXAMPLES).unwrap_or((text, ""));
    let mut in_option = false;
    for line in text.lines() {
        // How it is used stands above; what options are shows by itself.
        if line.starts_with("Usage: ") || line == "Options:" {
            continue;
        }
        if let Some(flag) = flag(line) {
            let (left, _) = line.trim_start().split_once("  ").unwrap_or((line.trim_start(), ""));
            out.push_str(&format!(".TP\n.B {}\n{}\n", roff(left), roff(&flag.text)));
            in_option = true;
        } else if line.trim().is_empty() {
            out.push_str(if in_option { "" } else { ".PP\n" });
            in_option = false;
        } else if in_option || !line.starts_with("  ") {
            out.push_str(&roff(line.trim()));
            out.push('\n');
        } else {
            out.push_str(&format!(".B {}\n.br\n", roff(line.trim())));
        }
    }
    if !examples.is_empty() {
        out.push_str(&format!(".PP\nExamples:\n.nf\n.RS 4\n{}\n.RE\n.fi\n", roff(&unindented(examples))));
    }
}

fn unindented(lines: &str) -> String {
    lines.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// Text as man(7) takes it.
pub fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    let guard =
        |line: &str| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() };
    escaped.lines().map(guard).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::abouts;
    use std::fs;
    use std::path::Path;

    #[test]
    fn an_option_is_read_from_its_line() {
        let read = |line| flag(line).map(|f| (f.names, f.value, f.is_glued, f.text));
        assert_eq!(
            read("  -e, --env K=V      Set it"),
            Some((vec!["-e".into(), "--env".into()], Some("K=V".into()), false, "Set it".into()))
        );
        assert_eq!(
            read("      --wait[=WHAT]  Wait"),
            Some((vec!["--wait".into()], Some("WHAT".into()), true, "Wait".into()))
        );
        assert_eq!(read("text - with a dash"), None);
    }

    // It has all commands.
    #[cfg(feature = "gateway")]
    #[test]
    fn the_manual_in_the_tree_is_the_one_that_is_made() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let kept = fs::read_to_string(root.join("packaging/provost.1")).unwrap();
        assert!(kept == page(&abouts()), "make it anew: provost help --man > packaging/provost.1");
    }

    #[test]
    fn the_reference_holds_every_help_text() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let reference = fs::read_to_string(root.join("docs/cli.md")).unwrap();
        for command in visible(&abouts()) {
            assert!(
                reference.contains(command.help.trim_end()),
                "docs/cli.md lacks the text of {}",
                command.name
            );
        }
        assert!(reference.contains(spec_help::HELP.trim()), "docs/cli.md lacks the options of a process");
        for effect in [Effect::Read, Effect::Write, Effect::Destructive] {
            let commands = abouts();
            let of_it = visible(&commands).filter(|command| command.effect == effect);
            let names: Vec<_> = of_it.map(|command| format!("`{}`", command.name)).collect();
            let row = format!("| {} | {} |", effect.name(), names.join(", "));
            assert!(!cfg!(feature = "gateway") || reference.contains(&row), "docs/cli.md lacks: {row}");
        }
    }

    #[test]
    fn every_command_has_an_example_and_no_line_of_its_text_is_lost_in_the_manual() {
        let page = page(&abouts());
        for command in visible(&abouts()) {
            assert!(examples(command).next().is_some(), "{} has no example", command.name);
            for line in command.help.lines().filter(|l| !l.starts_with(' ') && !l.starts_with("Usage: ")) {
                assert!(line == "Options:" || page.contains(&roff(line.trim())), "{}: {line}", command.name);
            }
        }
        // Each example on a line of its own, in a paragraph of their own.
        let examples = ".PP\nExamples:\n.nf\n.RS 4\nprovost restart web\nprovost restart \\-\\-wait";
        assert!(page.contains(examples), "{page}");
        for section in ["EXAMPLES", "FILES", "ENVIRONMENT", "SEE ALSO", "EXIT STATUS"] {
            assert!(page.contains(&format!(".SH {section}\n")), "{section}");
        }
    }
}

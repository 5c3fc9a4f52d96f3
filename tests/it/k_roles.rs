//! What each role may do with the command line, as docs/access.md has it: each row is tried by a viewer and
//! by an operator, over the network.

use std::collections::BTreeSet;
use std::process::Command;

use crate::harness::gateway::User;
use crate::harness::{Gateway, LATER, binary, cli};

/// The rows: how the command is written there, what is typed, and the least role that may do it.
const ROWS: [(&str, &[&str], &str); 33] = [
    ("list", &["list"], "viewer"),
    ("status", &["status", "web-1"], "viewer"),
    ("why", &["why", "web-1"], "viewer"),
    ("wait", &["wait", "--for", "running", "web-1"], "viewer"),
    ("schedule", &["schedule"], "viewer"),
    ("events", &["events"], "viewer"),
    ("history", &["history", "web-1"], "viewer"),
    ("reconcile", &["reconcile"], "viewer"),
    ("doctor", &["doctor"], "viewer"),
    ("version", &["version"], "viewer"),
    ("provider list", &["provider", "list"], "viewer"),
    ("registry list", &["registry", "list"], "viewer"),
    ("module list", &["module", "list"], "viewer"),
    ("output", &["output", "web-1"], "operator"),
    ("stream", &["stream", "--until-end", "done"], "operator"),
    ("logs", &["logs", "web-1"], "operator"),
    ("start NAME", &["start", "web-1"], "operator"),
    ("restart", &["restart", "web-1"], "operator"),
    ("signal", &["signal", "CONT", "web-1"], "operator"),
    ("stop", &["stop", "web-1"], "operator"),
    ("provider fetch", &["provider", "fetch", "nosuch", "key"], "operator"),
    ("module call", &["module", "call", "a.b", "--input", "{}"], "operator"),
    ("start -- PROGRAM", &["start", "--", "true"], "admin"),
    ("run", &["run", "--", "true"], "admin"),
    ("scale", &["scale", "web", "3"], "admin"),
    ("update", &["update", "--label", "a=b", "web-1"], "admin"),
    ("apply", &["apply", "--yes", "FILE"], "admin"),
    ("remove", &["remove", "done"], "admin"),
    ("show", &["show", "web-1"], "admin"),
    ("export", &["export"], "admin"),
    ("graph", &["graph"], "admin"),
    ("env", &["env"], "admin"),
    ("audit", &["audit"], "admin"),
];
/// What can only be tried by what it would break.
const UNTRIED: [(&str, &str); 2] = [("upgrade", "admin"), ("reload", "admin")];
/// What looks at this machine, whoever asks.
const HERE: [&str; 7] = ["serve", "config", "import", "cert", "user", "completions", "help"];
const PAGE: &str = include_str!("../../docs/access.md");

fn row(command: &str, least: &str) -> String {
    let yes = |may: bool| if may { "yes" } else { "no" };
    let (viewer, operator) = (yes(least == "viewer"), yes(least != "admin"));
    format!("| `{command}` | {viewer} | {operator} | yes |")
}

#[test]
fn each_role_may_do_what_the_page_says() {
    let gateway = Gateway::start();
    let service = gateway.service();
    service.ok(&["start", "--name", "web", "--instances", "2", "--", "sleep", "86001"]);
    service.start(&["--name", "done", "--", "true"]);
    service.until_state("done", "stopped");
    let file = gateway.file("declared.toml");
    std::fs::write(&file, "[process.more]\ncommand = [\"sleep\", \"86002\"]\n").expect("it is ours");
    for (command, args, least) in ROWS {
        assert!(PAGE.contains(&row(command, least)), "docs/access.md lacks: {}", row(command, least));
        let args: Vec<_> = args.iter().map(|&arg| if arg == "FILE" { file.as_str() } else { arg }).collect();
        for (user, roles) in [(User::Viewer, &["viewer"][..]), (User::Operator, &["viewer", "operator"])] {
            let output = gateway.cli(user, &args);
            // The failures of `run` have codes of their own.
            let is_refused = matches!(output.code, 6 | 125) && output.err().contains(" may not ");
            assert_eq!(is_refused, !roles.contains(&least), "{user:?}: {output:?}");
            // Who is refused is shown where it stands what who may.
            assert!(!is_refused || output.err().contains("docs/access.md"), "{output:?}");
        }
    }
}

#[test]
fn every_command_has_its_place_on_the_page_of_roles() {
    for (command, least) in UNTRIED {
        assert!(PAGE.contains(&row(command, least)), "docs/access.md lacks: {}", row(command, least));
    }
    for command in HERE {
        assert!(PAGE.contains(&format!("`{command}`")), "docs/access.md lacks {command}");
    }
    let mut help = Command::new(binary());
    help.arg("help");
    let overview = cli::run(help, LATER).out();
    let there = overview.lines().skip_while(|line| !line.starts_with("  serve"));
    let there = there.take_while(|line| !line.is_empty());
    let there: BTreeSet<_> = there.filter_map(|line| line.split_whitespace().next()).collect();
    let rows = ROWS.iter().map(|(command, ..)| *command).chain(UNTRIED.map(|(command, _)| command));
    let named = rows.filter_map(|command| command.split(' ').next());
    assert_eq!(there, named.chain(HERE).collect::<BTreeSet<_>>());
}

//! Completion in real shells, read as the help says for a fresh account.

use std::fs;
use std::process::Command;

use crate::harness::{Options, SOON, Service, binary, cli};

fn service() -> Service {
    let service = Options::new().without_cgroups().start();
    service.start(&["--name", "web", "--", "sleep", "86001"]);
    let config = service.scratch().file("provost");
    fs::create_dir(&config).expect("it is ours");
    fs::write(format!("{config}/provost.toml"), "[remote.lab]\n").expect("it is ours");
    service
}

fn shell(service: &Service, program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    let bin = binary().parent().expect("it is in a directory").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let home = service.scratch().path();
    command.args(args).env("PATH", format!("{bin}:{path}")).env("PROVOST_SOCKET", service.socket());
    command.env("HOME", home).env("XDG_CONFIG_HOME", home);
    cli::run(command, SOON).expect(0).out()
}

/// What bash offers for the last of these words.
fn bash(service: &Service, words: &str) -> Vec<String> {
    let script = format!(
        "source <(provost completions bash); COMP_WORDS=(provost {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
         compopt() {{ :; }}; _provost; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    shell(service, "bash", &["-c", &script]).lines().map(str::to_owned).collect()
}

fn fish(service: &Service, line: &str) -> Vec<String> {
    let script = format!("provost completions fish | source; complete -C '{line}'");
    let offered = shell(service, "fish", &["--no-config", "-c", &script]);
    offered.lines().filter_map(|line| line.split('\t').next()).map(str::to_owned).collect()
}

/// Types a line and a tab at a zsh on a terminal, and waits until it shows these, in this order.
fn zsh(service: &Service, line: &str, shown: &[&str]) {
    // What is typed is echoed: the word is in one piece only where it is printed.
    let setup = "PS1=; stty cols 200 rows 50; autoload -U compinit; compinit -u -D; \
                 source <(provost completions zsh); print LO\"\"ADED";
    let script = format!(
        "zmodload zsh/zpty; zpty z zsh -f -i; zpty -w z '{setup}'; zpty -r z out '*LOADED*'; \
         zpty -w -n z '{line}'$'\\t'; zpty -r z out '*{}*'; zpty -d z",
        shown.join("*")
    );
    shell(service, "zsh", &["-f", "-c", &script]);
}

#[track_caller]
fn expect(offered: &[String], wanted: &[&str]) {
    for word in wanted {
        assert!(offered.iter().any(|o| o == word), "{word} is not among {offered:?}");
    }
}

#[test]
fn bash_completes_commands_targets_signals_values_and_programs() {
    let service = service();
    expect(&bash(&service, "st''"), &["start", "stop", "status", "stream"]);
    expect(&bash(&service, "stop ''"), &["web"]);
    expect(&bash(&service, "signal ''"), &["HUP", "USR1"]);
    expect(&bash(&service, "signal HUP ''"), &["web"]);
    expect(&bash(&service, "signal --scope ''"), &["tree", "leader"]);
    expect(&bash(&service, "start --restart ''"), &["always", "never"]);
    expect(&bash(&service, "stop --signal ''"), &["INT", "TERM"]);
    expect(&bash(&service, "list --state ''"), &["running", "failed"]);
    expect(&bash(&service, "-H ''"), &["lab"]);
    expect(&bash(&service, "list -H ''"), &["lab"]);
    expect(&bash(&service, "run -- slee''"), &["sleep"]);
    expect(&bash(&service, "stop --ti''"), &["--timeout"]);
}

#[test]
fn zsh_completes_commands_targets_signals_values_and_programs() {
    let service = service();
    service.start(&["--name", "api", "--", "sleep", "86002"]);
    zsh(&service, "provost st", &["start", "status", "stop", "stream"]);
    zsh(&service, "provost stop ", &["api", "web"]);
    zsh(&service, "provost signal ", &["HUP", "INT", "USR1"]);
    zsh(&service, "provost signal HUP ", &["api", "web"]);
    zsh(&service, "provost signal --scope ", &["group", "leader", "tree"]);
    zsh(&service, "provost start --restart ", &["always", "never"]);
    zsh(&service, "provost list --state ", &["failed", "running"]);
    zsh(&service, "provost start --log-format ", &["json", "raw"]);
    zsh(&service, "provost -H l", &["lab"]);
    zsh(&service, "provost list -H l", &["lab"]);
    zsh(&service, "provost stop --t", &["--timeout"]);
    zsh(&service, "provost run -- slee", &["sleep"]);
}

#[test]
fn fish_completes_commands_targets_signals_values_and_programs() {
    let service = service();
    expect(&fish(&service, "provost st"), &["start", "stop", "status"]);
    expect(&fish(&service, "provost stop "), &["web"]);
    expect(&fish(&service, "provost signal "), &["HUP", "USR1"]);
    expect(&fish(&service, "provost signal HUP "), &["web"]);
    expect(&fish(&service, "provost start --restart "), &["always", "never"]);
    expect(&fish(&service, "provost -H "), &["lab"]);
    expect(&fish(&service, "provost run -- slee"), &["sleep"]);
    let script = "provost completions fish | source; complete -C 'provost rem'";
    assert!(shell(&service, "fish", &["--no-config", "-c", script]).contains("(destructive)"));
}

//! The documentation, run: what stands in `docs/guide.md` and `docs/recipes.md` is typed in its order, and
//! every command that a page names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

#[cfg(feature = "gateway")]
use crate::harness::Options;
use crate::harness::{LATER, Scratch, Service, binary, cli, free_port};

/// The blocks of a page between fences, each with its language and the paragraph before it.
fn blocks(text: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut before = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        match line.strip_prefix("```") {
            Some(language) => {
                let body: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
                found.push((language.to_owned(), std::mem::take(&mut before), body.join("\n") + "\n"));
            }
            None if line.is_empty() => {}
            None => line.clone_into(&mut before),
        }
    }
    found
}

#[test]
fn the_demo_does_what_it_says_and_ends_by_itself() {
    let mut demo = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/demo.sh"));
    demo.arg(binary());
    let out = cli::run(demo, LATER);
    assert!(out.code == 0 && out.out().contains("Every step did what it said"), "{out:?}");
}

/// Types what a page says into one directory: files of the language that they are in, commands of `sh`.
fn type_page(page: &str, dir: &Scratch, fit: impl Fn(&str) -> String, shell: impl Fn(&mut Command)) -> usize {
    let mut count = 0;
    for (language, before, body) in blocks(page) {
        match language.as_str() {
            "toml" | "bash" | "python" => {
                let ends = [".toml", ".sh", ".py"];
                let name = before.split('`').find(|word| ends.iter().any(|end| word.ends_with(end)));
                let path = dir.path().join(name.expect("it says which file"));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, fit(&body)).unwrap();
            }
            "sh" => {
                for line in body.lines() {
                    let code = line.split("# ends with ").nth(1).map_or(0, |rest| rest[..1].parse().unwrap());
                    let mut typed = Command::new("sh");
                    typed.args(["-ec", &fit(line)]).current_dir(dir.path());
                    shell(&mut typed);
                    let out = cli::run(typed, LATER);
                    assert_eq!(out.code, code, "{line}\n{out:?}");
                    count += 1;
                }
            }
            _ => {}
        }
    }
    count
}

fn path_with(first: &[&Path]) -> String {
    let first: String = first.iter().map(|dir| format!("{}:", dir.display())).collect();
    format!("{first}{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap())
}

#[test]
fn the_guide_works_as_it_is_written() {
    let service = Service::new();
    let scratch = Scratch::new();
    let dir = scratch.path().to_str().unwrap();
    let ports = [free_port(), free_port()];
    let fit = |text: &str| {
        let text = text.replace("8123", &ports[0].to_string()).replace("8124", &ports[1].to_string());
        text.replace("${DIRECTORY}", dir)
    };
    let count = type_page(include_str!("../../docs/guide.md"), &scratch, fit, |shell| {
        shell.env("PATH", path_with(&[])).env("PROVOST_SOCKET", service.socket());
    });
    assert!(count > 20, "{count} commands");
    assert!(service.list_json().is_empty(), "the guide leaves nothing behind");
}

#[cfg(feature = "gateway")]
#[test]
fn the_recipes_work_as_they_are_written() {
    let scratch = Scratch::new();
    let dir = scratch.path().to_str().unwrap();
    fs::write(scratch.file("provost.toml"), "").unwrap();
    let service = Options::new().serve(&["--config", &scratch.file("provost.toml")]).start();
    let ports = [free_port(), free_port()];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fit = |text: &str| {
        let text = text.replace("8123", &ports[0].to_string()).replace("7443", &ports[1].to_string());
        let text = text.replace("/var/lib/provost", &service.state_dir()).replace("${DIRECTORY}", dir);
        let socket = provost::client::grpc_socket(Path::new(service.socket())).unwrap();
        let text = text.replace("/run/provost/grpc.sock", socket.to_str().unwrap());
        text.replace("/usr/local/share/provost/proto", &format!("{}/proto", root.display()))
    };
    // The Python with gRPC that the tests have.
    let python = binary().parent().unwrap().parent().unwrap().join("clients/python/bin");
    assert!(python.exists(), "tests/install.sh tests installs {}", python.display());
    let count = type_page(include_str!("../../docs/recipes.md"), &scratch, fit, |shell| {
        shell.env("PATH", path_with(&[&python])).env("PROVOST_SOCKET", service.socket());
        shell.env("HOME", dir).env_remove("XDG_CONFIG_HOME");
    });
    assert!(count > 40, "{count} commands");
    let left = service.list_json();
    assert!(left.is_empty(), "the recipes leave nothing behind: {left:?}");
}

#[test]
fn every_command_that_a_page_names_is_there() {
    let mut help = Command::new(binary());
    help.arg("help");
    let overview = cli::run(help, LATER).out();
    let words = overview.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let known: BTreeSet<_> = words.collect();
    assert!(known.contains("apply") && known.contains("config"), "{overview}");
    for (page, text) in [
        ("guide.md", include_str!("../../docs/guide.md")),
        ("recipes.md", include_str!("../../docs/recipes.md")),
        ("access.md", include_str!("../../docs/access.md")),
        ("troubleshooting.md", include_str!("../../docs/troubleshooting.md")),
        ("migration.md", include_str!("../../docs/migration.md")),
        ("config.md", include_str!("../../docs/config.md")),
        ("README.md", include_str!("../../README.md")),
    ] {
        for part in
            text.split(['`', '\n']).filter_map(|part| part.trim_start_matches("$ ").strip_prefix("provost "))
        {
            let word = part.split([' ', ',', ':', ';']).next().unwrap();
            let is_command = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase());
            let is_hidden = ["engine", "keeper", "gateway", "host"].contains(&word);
            assert!(!is_command || is_hidden || known.contains(word), "{page}: provost {word}");
        }
    }
}

//! The documentation, run: what stands in `docs/guide.md` is typed in its order, and every command that a
//! page names is there.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

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
    let path = format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut count = 0;
    for (language, before, body) in blocks(include_str!("../../docs/guide.md")) {
        match language.as_str() {
            "toml" => {
                let name =
                    before.split('`').find(|word| word.ends_with(".toml")).expect("it says which file");
                fs::write(scratch.file(name), fit(&body)).unwrap();
            }
            "sh" => {
                for line in body.lines() {
                    let code = line.split("# ends with ").nth(1).map_or(0, |rest| rest[..1].parse().unwrap());
                    let mut shell = Command::new("sh");
                    shell.args(["-ec", &fit(line)]).current_dir(dir).env("PATH", &path);
                    shell.env("PROVOST_SOCKET", service.socket());
                    let out = cli::run(shell, LATER);
                    assert_eq!(out.code, code, "{line}\n{out:?}");
                    count += 1;
                }
            }
            _ => {}
        }
    }
    assert!(count > 20, "{count} commands");
    assert!(service.list_json().is_empty(), "the guide leaves nothing behind");
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

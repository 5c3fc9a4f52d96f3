//! One word for each idea: names in the code keep to the glossary of `src/lib.rs`.

use crate::{expect_none, has_word, read, sources};

/// Words that the glossary has replaced, and what is there in their place. None of them is a name or, in
/// tests, a part of one.
const RETIRED: [(&str, &str); 23] = [
    ("birth", "spawn"),
    ("born", "spawn"),
    ("cradle", "spawn slots"),
    ("door", "listener"),
    ("fate", "outcome"),
    ("fates", "outcome"),
    ("leafs", "cgroup"),
    ("ledger", "write queue"),
    ("lent", "shared output"),
    ("nursery", "spawn slots"),
    ("offence", "violation"),
    ("outlet", "response stream"),
    ("patience", "timeout"),
    ("penalties", "rate limit"),
    ("penalty", "rate limit"),
    ("seat", "slot"),
    ("seats", "slot"),
    ("tally", "counts"),
    ("ticket", "sequence number"),
    ("unborn", "pending"),
    ("verdict", "decision"),
    ("lane", "cursor"),
    ("ground", "resources"),
];

/// Words that only Provost used for what has a plain word. The same holds for them.
const PRIVATE: [&str; 11] =
    ["anew", "bear", "eager", "farewell", "hear", "scribe", "somebody", "spoken", "told", "twin", "whoever"];

/// Those of both that are a part of a good name now and then: `background`, `told` in the name of a test.
const WHOLE_ONLY: [&str; 6] = ["bear", "ground", "hear", "lane", "spoken", "told"];

/// Whether an identifier is such a word, or, where parts count, has one between its `_` and capitals.
fn is_retired(name: &str, parts_count: bool) -> bool {
    let is_listed = |word: &str| PRIVATE.contains(&word) || RETIRED.iter().any(|(old, _)| *old == word);
    let mut apart = String::new();
    let mut last = '_';
    for c in name.chars() {
        if c.is_uppercase() && last.is_lowercase() {
            apart.push('_');
        }
        apart.extend(c.to_lowercase());
        last = c;
    }
    let is_part = |word: &str| parts_count && is_listed(word) && !WHOLE_ONLY.contains(&word);
    is_listed(&apart) || apart.split('_').any(is_part)
}

/// The lines of a text without comments and without what is quoted in it: what is left are names and signs.
fn names(text: &str) -> Vec<String> {
    let mut quoted = false;
    let mut kept = |line: &str| {
        let mut rest = String::new();
        let mut last = ' ';
        for (at, c) in line.char_indices() {
            let is_literal = last == '\'' && line[at + c.len_utf8()..].starts_with('\'');
            match c {
                '/' if !quoted && line[at..].starts_with("//") => break,
                '"' if last != '\\' && !is_literal => quoted = !quoted,
                _ if !quoted => rest.push(c),
                _ => {}
            }
            last = if c == '\\' && last == '\\' { ' ' } else { c };
        }
        rest
    };
    text.lines().map(&mut kept).collect()
}

#[test]
fn retired_words_are_not_names() {
    let mut broken = Vec::new();
    for file in sources(&["src", "tests", "benches", "examples"]) {
        // Fields and messages of the protocol have their names, which only this folder sees.
        if file.is_in("src/wire") || file.is_tidy() {
            continue;
        }
        for (n, line) in names(&file.text).iter().enumerate() {
            let mut all = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if all.any(|name| is_retired(name, file.is_in("tests"))) {
                broken.push(format!("{}:{}: {}", file.path, n + 1, line.trim()));
            }
        }
    }
    expect_none("one word for each idea, see the glossary in src/lib.rs", broken);
}

#[test]
fn retired_words_are_found_in_names() {
    for name in ["door", "Door", "open_door", "DoorSettings", "SEAT", "told", "a_farewell"] {
        assert!(is_retired(name, true), "{name}");
    }
    for name in ["indoors", "background", "is_told_why", "seated", "_", ""] {
        assert!(!is_retired(name, true), "{name}");
    }
    assert!(is_retired("door", false) && !is_retired("tls13_ticket", false));
}

#[test]
fn what_is_quoted_is_no_name() {
    let text =
        "let door = \"a seat\"; // a lane\nlet quote = '\"'; lane(\"a \\\" fate\n  and a seat\") + seat";
    assert_eq!(names(text), ["let door = ; ", "let quote = '\"'; lane(", ") + seat"]);
}

#[test]
fn the_glossary_is_in_the_architecture() {
    let architecture = read("src/lib.rs");
    let glossary = architecture.split("//! # Glossary").nth(1).expect("src/lib.rs has a glossary");
    let glossary = glossary.split("//! # ").next().expect("a split has a first part");
    let rows: Vec<&str> = glossary.lines().filter(|line| line.starts_with("//! | ")).skip(1).collect();
    assert!(rows.len() >= 25, "only {} rows", rows.len());
    let replaced = RETIRED.iter().map(|(old, _)| *old).chain(PRIVATE);
    let replaced: Vec<&str> = replaced.collect();
    let retired = rows.iter().filter(|row| replaced.iter().any(|word| has_word(row, word)));
    expect_none("the glossary uses no word that it replaces", retired.map(|row| (*row).to_owned()).collect());
    let missing = RETIRED.iter().filter(|(_, new)| !rows.iter().any(|row| row.contains(new)));
    expect_none("the glossary has what is said instead", missing.map(|(_, new)| (*new).to_owned()).collect());
}

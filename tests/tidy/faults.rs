//! `docs/faults.md` and the tests named after its rows know each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::{expect_none, read, sources};

/// What a row says in the place of tests.
const NO_TEST: &str = "no test yet";

/// A fault, and the tests that its row names.
type Rows = BTreeMap<String, BTreeSet<String>>;

/// Whether this is the name of a fault: a letter and a number, as `b7`.
fn is_id(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.as_str().parse::<u32>().is_ok_and(|n| n.to_string() == chars.as_str())
}

/// The faults that a test is named after: those at the beginning of `g2_g3_bad_certificates`.
fn ids(test: &str) -> impl Iterator<Item = &str> {
    test.split('_').take_while(|part| is_id(part))
}

/// The names of all tests in a text, whatever they are named after.
fn tests(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("fn ").and_then(|rest| rest.split_once('(')) {
            Some((name, _)) if is_test => {
                found.push(name);
                is_test = false;
            }
            Some(_) => is_test = false,
            None => is_test |= line == "#[test]",
        }
    }
    found
}

/// The rows of the catalogue, and what is wrong with their form.
fn rows(catalogue: &str) -> (Rows, Vec<String>) {
    let (mut rows, mut broken) = (Rows::new(), Vec::new());
    for line in catalogue.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if !line.starts_with('|') || !is_id(cells[0]) {
            continue;
        }
        let [id, trigger, holds, named] = cells[..] else {
            broken.push(format!("{}: a row has four columns", cells[0]));
            continue;
        };
        let named: BTreeSet<_> = named.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        if trigger.is_empty() || holds.is_empty() || (named.is_empty() != line.contains(NO_TEST)) {
            broken
                .push(format!("{id}: a row says what happens, what must hold, and its tests or '{NO_TEST}'"));
        }
        if rows.insert(id.to_owned(), named).is_some() {
            broken.push(format!("{id}: there are two rows"));
        }
    }
    (rows, broken)
}

/// Where rows and tests do not agree.
fn disagreements(rows: &Rows, tests: &[&str]) -> Vec<String> {
    let known: BTreeSet<&str> = tests.iter().copied().collect();
    let unknown = rows.iter().flat_map(|(id, named)| named.iter().map(move |test| (id, test)));
    let unknown = unknown.filter(|(_, test)| !known.contains(test.as_str()));
    let mut broken: Vec<_> = unknown.map(|(id, test)| format!("{id}: there is no test {test}")).collect();
    for test in known {
        let missing = ids(test).filter(|id| rows.get(*id).is_none_or(|named| !named.contains(test)));
        broken.extend(missing.map(|id| format!("{test} is not in the row of {id}")));
    }
    broken
}

#[test]
fn faults_and_their_tests_know_each_other() {
    let files = sources(&["src", "tests"]);
    let tests: Vec<&str> = files.iter().flat_map(|file| tests(&file.text)).collect();
    let (rows, mut broken) = rows(&read("docs/faults.md"));
    assert!(rows.len() > 100, "only {} rows were found", rows.len());
    broken.extend(disagreements(&rows, &tests));
    expect_none("docs/faults.md lists each test named after a fault, and no other", broken);
}

#[test]
fn disagreements_are_found() {
    let text =
        "#[test]\nfn b7_one() {}\n/// b8.\n#[test]\n#[cfg(unix)]\nfn g2_g3_two() {}\nfn b9_no_test() {}";
    let tests = tests(text);
    assert_eq!(tests, ["b7_one", "g2_g3_two"]);
    let head = "| id | trigger | what must hold | tests |\n|---|---|---|---|\n";
    let whole = "| b7 | x | y | `b7_one` |\n| c1 | x | y | no test yet |\n| g2 | x | y | `g2_g3_two` |\n";
    let (found, broken) = rows(&format!("{head}{whole}| g3 | x | y | `g2_g3_two` |"));
    assert_eq!((found.len(), broken, disagreements(&found, &tests)), (4, vec![], vec![]));
    let (found, broken) = rows(&format!("{head}{whole}| g3 | x | y | `g3_gone` |\n| b7 | x | y | |"));
    assert_eq!(broken.len(), 2, "an empty row, and one that is there twice: {broken:?}");
    let expected = [
        "g3: there is no test g3_gone",
        "b7_one is not in the row of b7",
        "g2_g3_two is not in the row of g3",
    ];
    assert_eq!(disagreements(&found, &tests), expected);
}

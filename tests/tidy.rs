//! House rules that a compiler does not check: what a file opens with, who may import whom, where the
//! dangerous things live, how long a file may be, and that lists kept in two places agree. A rule that is
//! only written down decays.

#![forbid(unsafe_code)]

// Beside this file each of them would be a test program of its own.
#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/faults.rs"]
mod faults;
#[path = "tidy/words.rs"]
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom. A new edge is a change of the design. Files with a line of their own may do more than
/// their folder: those are the composition root.
const LAYERS: [(&str, &[&str]); 36] = [
    ("src/sys", &["sys"]),
    ("src/wire", &["wire", "sys"]),
    ("src/keeper", &["keeper", "sys", "wire"]),
    ("src/ring", &["ring", "sys", "wire"]),
    ("src/listener", &["listener", "sys", "wire"]),
    ("src/engine", &["engine", "listener", "ring", "sys", "wire"]),
    ("src/tls", &["tls", "sys", "wire"]),
    ("src/access", &["access", "guard", "sys", "wire"]),
    ("src/rpc", &["rpc", "sys", "wire"]),
    ("src/client", &["client", "ring", "rpc", "sys", "tls", "wire"]),
    ("src/sdk", &["rpc", "sdk", "sys", "tls", "wire"]),
    ("src/schema", &["schema", "sys", "wire"]),
    ("src/provider", &["client", "provider", "rpc", "schema", "sdk", "sys", "tls", "wire"]),
    ("src/registry", &["client", "guard", "module", "provider", "registry", "sys", "wire"]),
    ("src/module", &["guard", "meter", "module", "rpc", "sdk", "sys", "tls", "wire"]),
    (
        "src/host",
        &["access", "client", "host", "listener", "module", "provider", "registry", "rpc", "sys", "wire"],
    ),
    ("src/guard", &["guard", "sys"]),
    ("src/meter", &["guard", "meter", "rpc", "sys", "tls"]),
    ("src/gateway", &["access", "client", "gateway", "guard", "meter", "rpc", "sys", "tls", "wire"]),
    (
        "src/config",
        &[
            "access", "client", "config", "engine", "gateway", "guard", "module", "provider", "registry",
            "schema", "sdk", "sys", "tls", "wire",
        ],
    ),
    ("src/cli", &["cli", "client", "sys", "wire"]),
    ("src/cli/apply.rs", &["cli", "client", "config", "sys", "wire"]),
    ("src/cli/config.rs", &["cli", "config", "sys", "wire"]),
    ("src/cli/declared.rs", &["cli", "config", "wire"]),
    ("src/cli/service_settings.rs", &["cli", "config", "sys", "wire"]),
    ("src/cli/cert.rs", &["access", "cli", "client", "config", "sys", "tls", "wire"]),
    ("src/cli/user.rs", &["access", "cli", "client", "config", "gateway", "sys", "wire"]),
    ("src/cli/remote.rs", &["cli", "client", "config", "sys", "tls", "wire"]),
    ("src/cli/serve.rs", &["cli", "client", "config", "keeper", "sys", "wire"]),
    ("src/cli/keeper.rs", &["cli", "keeper", "sys", "wire"]),
    ("src/cli/engine.rs", &["access", "cli", "client", "config", "engine", "gateway", "host", "sys", "wire"]),
    ("src/cli/host.rs", &["cli", "config", "host", "registry", "sys", "wire"]),
    ("src/cli/provider.rs", &["cli", "client", "sdk", "sys", "wire"]),
    ("src/cli/gateway.rs", &["cli", "client", "gateway", "sys", "wire"]),
    (
        "src/lib.rs",
        &[
            "access", "cli", "client", "config", "engine", "gateway", "guard", "host", "keeper", "listener",
            "meter", "module", "provider", "registry", "ring", "rpc", "schema", "sdk", "sys", "tls", "wire",
        ],
    ),
    ("src/main.rs", &[]),
];

/// The same for the rooms of the engine, files or folders: which of the others each may import.
const ENGINE_LAYERS: [(&str, &[&str]); 31] = [
    ("src/engine/settings.rs", &[]),
    ("src/engine/reserve.rs", &[]),
    ("src/engine/board.rs", &[]),
    ("src/engine/memory.rs", &[]),
    ("src/engine/feed.rs", &["memory"]),
    ("src/engine/store", &["store"]),
    ("src/engine/audit_memory.rs", &[]),
    ("src/engine/write_queue.rs", &["audit_memory", "store"]),
    ("src/engine/holds.rs", &[]),
    ("src/engine/log_queue.rs", &[]),
    ("src/engine/retention.rs", &["settings", "store"]),
    ("src/engine/schedule_queue.rs", &[]),
    ("src/engine/drain.rs", &[]),
    ("src/engine/limit_mark.rs", &[]),
    ("src/engine/look.rs", &["limit_mark"]),
    ("src/engine/spawns.rs", &[]),
    (
        "src/engine/context.rs",
        &[
            "board",
            "drain",
            "feed",
            "holds",
            "log_queue",
            "look",
            "reserve",
            "retention",
            "schedule_queue",
            "spawns",
            "write_queue",
        ],
    ),
    (
        "src/engine/process",
        &[
            "board",
            "context",
            "limit_mark",
            "log_queue",
            "look",
            "memory",
            "process",
            "reserve",
            "write_queue",
        ],
    ),
    ("src/engine/logs", &["context", "logs", "memory", "process", "table"]),
    ("src/engine/schedules.rs", &["context", "process", "table"]),
    ("src/engine/table", &["process", "table"]),
    ("src/engine/history", &["context", "history", "settings", "store", "write_queue"]),
    ("src/engine/reconcile.rs", &["process", "settings", "store"]),
    (
        "src/engine/restore.rs",
        &["context", "memory", "process", "reconcile", "settings", "store", "survivors", "table"],
    ),
    ("src/engine/survivors.rs", &["context", "limit_mark", "look", "reconcile", "store"]),
    (
        "src/engine/store_writer.rs",
        &["context", "history", "reconcile", "retention", "settings", "store", "table", "write_queue"],
    ),
    (
        "src/engine/service",
        &[
            "context",
            "history",
            "logs",
            "look",
            "memory",
            "process",
            "service",
            "settings",
            "table",
            "write_queue",
        ],
    ),
    ("src/engine/ended.rs", &["internal", "process", "service"]),
    ("src/engine/internal.rs", &["memory", "process", "service", "settings"]),
    (
        "src/engine/takeover.rs",
        &[
            "audit_memory",
            "context",
            "feed",
            "log_queue",
            "memory",
            "process",
            "reconcile",
            "reserve",
            "restore",
            "retention",
            "schedule_queue",
            "service",
            "settings",
            "spawns",
            "store",
            "table",
            "write_queue",
        ],
    ),
    (
        "src/engine/mod.rs",
        &["ended", "history", "logs", "process", "schedules", "service", "settings", "store", "takeover"],
    ),
];

/// The longest file, in lines.
const LINES_MAX: usize = 600;

/// A source file with its path from the root of the crate.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Lines with their numbers, without comments. A `//` inside of a string ends the line too early, which
    /// hides nothing that is looked for here.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines
            .map(|(n, line)| (n + 1, line.split("//").next().unwrap_or("")))
            .filter(|(_, line)| !line.trim().is_empty())
    }

    /// Whether it is part of this program, which names what it forbids.
    fn is_tidy(&self) -> bool {
        self.path == "tests/tidy.rs" || self.is_in("tests/tidy")
    }

    fn is_in(&self, folder: &str) -> bool {
        Path::new(&self.path).starts_with(folder)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("cannot read {path}: {e}"))
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// All Rust files below these folders.
fn sources(folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    folders.iter().for_each(|folder| collect(&root().join(folder), &mut paths));
    paths.sort();
    assert!(!paths.is_empty(), "no source files found in {folders:?}");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file is text");
        let path = path
            .strip_prefix(root())
            .expect("it was found there")
            .to_str()
            .expect("its path is text")
            .to_owned();
        Source { path, text }
    };
    paths.into_iter().map(read).collect()
}

/// Fails with all the places that break a rule, not only the first.
#[track_caller]
fn expect_none(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// Whether a line holds this word, not as a part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

/// The lines of these files that hold one of these words.
fn lines_with(files: &[&Source], words: &[&str]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files {
        for (n, line) in file.code() {
            if words.iter().any(|word| has_word(line, word)) {
                broken.push(format!("{}:{n}: {}", file.path, line.trim()));
            }
        }
    }
    broken
}

#[test]
fn every_file_says_what_it_is_for() {
    let files = sources(&["src", "tests", "benches", "examples"]);
    let silent = files.iter().filter(|f| !f.text.starts_with("//! "));
    expect_none("a file opens with //! and what it is for", silent.map(|f| f.path.clone()).collect());
}

#[test]
fn files_are_short() {
    let files = sources(&["src", "tests", "benches", "examples"]);
    let long = files.iter().map(|f| (f, f.text.lines().count())).filter(|(_, lines)| *lines > LINES_MAX);
    let named = long.map(|(f, lines)| format!("{}: {lines} lines", f.path)).collect();
    expect_none(&format!("a file has at most {LINES_MAX} lines"), named);
}

#[test]
fn comments_are_narrow() {
    let files = sources(&["src", "tests", "benches", "examples"]);
    let is_wide = |line: &str| {
        let text = line.trim_start();
        // A row of a table cannot be wrapped.
        text.starts_with("//")
            && !text.trim_start_matches(['/', '!', ' ']).starts_with('|')
            && line.chars().count() > 110
    };
    let mut broken = Vec::new();
    for file in &files {
        let wide = file.text.lines().enumerate().filter(|(_, line)| is_wide(line));
        broken.extend(wide.map(|(n, line)| format!("{}:{}: {line}", file.path, n + 1)));
    }
    expect_none("a line of comment has at most 110 characters", broken);
}

/// The lines of these files, up to `end`, that import from the folder at `module` what the table does not let
/// their layer import.
fn forbidden_imports(
    files: &[Source],
    module: &str,
    layers: &[(&str, &[&str])],
    end: impl Fn(&Source) -> usize,
) -> Vec<String> {
    let folder = module.trim_end_matches("::").replace("crate", "src").replace("::", "/");
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.is_in(&folder)) {
        let own = layers.iter().filter(|(place, _)| file.is_in(place)).max_by_key(|(place, _)| place.len());
        let Some((_, allowed)) = own else {
            broken.push(format!("{} is in no layer: give it a line in the table", file.path));
            continue;
        };
        let end = end(file);
        for (n, line) in file.code().filter(|(n, _)| *n < end) {
            for (at, _) in line.match_indices(module) {
                let rest = &line[at + module.len()..];
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                let layer = &rest[..end];
                if rest.starts_with('{') {
                    broken.push(format!("{}:{n}: one import on a line, so that every edge shows", file.path));
                }
                // `crate::Error` and the like name a face, not a layer.
                let is_layer = [format!("{folder}/{layer}"), format!("{folder}/{layer}.rs")]
                    .iter()
                    .any(|place| root().join(place).exists());
                if is_layer && !layer.is_empty() && !allowed.contains(&layer) {
                    broken.push(format!("{}:{n}: {}", file.path, line.trim()));
                }
            }
        }
    }
    broken
}

#[test]
fn imports_point_down() {
    let broken = forbidden_imports(&sources(&["src"]), "crate::", &LAYERS, |_| usize::MAX);
    expect_none("a layer imports only what lies below it", broken);
}

#[test]
fn imports_of_the_engine_point_down() {
    // Unit tests take what they need from above.
    let end = |file: &Source| if file.path.contains("tests") { 0 } else { tests_begin(file) };
    let broken = forbidden_imports(&sources(&["src/engine"]), "crate::engine::", &ENGINE_LAYERS, end);
    expect_none("a room of the engine imports only those that lie below it", broken);

    let path = "src/engine/memory.rs".to_owned();
    let upwards = "use crate::engine::process;\n#[cfg(test)]\nmod tests {\nuse crate::engine::table;";
    let upwards = Source { path, text: upwards.to_owned() };
    let broken = forbidden_imports(&[upwards], "crate::engine::", &ENGINE_LAYERS, end);
    assert_eq!(broken, ["src/engine/memory.rs:1: use crate::engine::process;"]);
}

#[test]
fn unsafe_code_lives_in_sys_and_is_argued() {
    let files = sources(&["src", "tests", "benches", "examples"]);
    let (inside, outside): (Vec<&Source>, Vec<&Source>) = files.iter().partition(|f| f.is_in("src/sys"));
    let own = outside.into_iter().filter(|f| !f.is_tidy()).collect::<Vec<_>>();
    expect_none("unsafe and libc live in src/sys only", lines_with(&own, &["unsafe", "libc"]));

    let mut silent = Vec::new();
    for file in inside {
        let lines: Vec<&str> = file.text.lines().collect();
        for (n, line) in file.code().filter(|(_, line)| has_word(line, "unsafe")) {
            // On the line itself, or in the comment above its statement.
            let first = (n.saturating_sub(8)).max(1);
            let argued = lines[first - 1..n].iter().any(|l| l.contains("SAFETY:") || l.contains("# Safety"));
            if !argued {
                silent.push(format!("{}:{n}: {}", file.path, line.trim()));
            }
        }
    }
    expect_none("unsafe code has a SAFETY sentence", silent);
}

#[test]
fn every_other_layer_forbids_unsafe_code() {
    let faces = fs::read_dir(root().join("src")).expect("there are sources").flatten().map(|e| e.path());
    let open = faces
        .filter(|p| p.is_dir() && !p.ends_with("sys"))
        .map(|p| p.join("mod.rs"))
        .filter(|p| !fs::read_to_string(p).is_ok_and(|text| text.contains("#![forbid(unsafe_code)]")));
    expect_none(
        "a layer's mod.rs holds #![forbid(unsafe_code)]",
        open.map(|p| p.display().to_string()).collect(),
    );
}

#[test]
fn only_the_command_line_prints() {
    let files = sources(&["src"]);
    let files: Vec<_> = files.iter().filter(|f| !f.is_in("src/cli")).collect();
    let words = ["println", "eprintln", "print", "eprint", "dbg"].map(|word| format!("{word}!"));
    let mut broken = Vec::new();
    for file in files {
        let tests_begin = tests_begin(file);
        for (n, line) in file.code().take_while(|(n, _)| *n < tests_begin) {
            if words.iter().any(|word| has_word(line, word.trim_end_matches('!')) && line.contains(word)) {
                broken.push(format!("{}:{n}: {}", file.path, line.trim()));
            }
        }
    }
    expect_none("only src/cli prints", broken);
}

/// The line at which a file's unit tests begin; beyond its end where it has none, or has them in other files.
fn tests_begin(file: &Source) -> usize {
    let lines: Vec<&str> = file.text.lines().collect();
    let begins = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{');
    lines.windows(2).position(begins).map_or(usize::MAX, |n| n + 1)
}

#[test]
fn tests_do_not_sleep() {
    // The programs that are run as children have a pace of their own: that is not waiting for something to
    // happen.
    let files = sources(&["src", "tests"]);
    let mut broken = Vec::new();
    for file in files.iter().filter(|f| !f.is_in("tests/fixtures") && !f.is_tidy()) {
        let begin = if file.is_in("tests") { 0 } else { tests_begin(file) };
        for (n, line) in file.code().filter(|(n, _)| *n >= begin) {
            if line.contains("thread::sleep")
                || line.contains("sleep_ms(")
                || line.trim_start().starts_with("sleep(")
            {
                broken.push(format!("{}:{n}: {}", file.path, line.trim()));
            }
        }
    }
    expect_none("a test waits for what it wants, with a deadline", broken);
}

#[test]
fn exceptions_from_lints_are_single_and_have_a_reason() {
    let files = sources(&["src", "tests", "benches", "examples"]);
    let mut broken = Vec::new();
    for file in files.iter().filter(|f| !f.is_tidy()) {
        for (n, line) in file.code() {
            let exempt = line.contains("[allow(") || line.contains("[expect(");
            // The reason may stand on one of the next lines.
            let reason = file.text.lines().skip(n - 1).take(4).any(|l| l.contains("reason = "));
            if exempt && !reason {
                broken.push(format!("{}:{n}: {}", file.path, line.trim()));
            }
        }
    }
    expect_none("an exception from a lint has a reason", broken);
}

#[test]
fn every_command_is_in_the_table() {
    let table = read("src/cli/mod.rs");
    let mut rows = Vec::new();
    for file in sources(&["src/cli"]) {
        let stem = Path::new(&file.path).file_stem().expect("a file has a name").to_str().expect("text");
        let of_type = |line: &str| line.split_once(": Command =").map(|(left, _)| left.trim_end().to_owned());
        let names: Vec<_> = file.code().filter_map(|(_, line)| of_type(line)).collect();
        // A file that has a summary is a command, whatever it calls its constant.
        let is_command = file.code().any(|(_, line)| line.contains("const SUMMARY"));
        assert!(!is_command || !names.is_empty(), "{} has no COMMAND", file.path);
        rows.extend(names.iter().map(|left| {
            let name = left.rsplit(' ').next().unwrap_or_default();
            format!("    &{stem}::{name},\n")
        }));
    }
    assert!(rows.len() >= 31, "only {} commands: {rows:?}", rows.len());
    rows.retain(|row| !table.contains(row));
    expect_none("every command is in the table of src/cli/mod.rs", rows);
}

#[test]
fn no_async_runtime() {
    let runtimes: BTreeSet<&str> =
        ["tokio", "async-std", "smol", "async-executor", "async-io", "actix-rt", "monoio", "glommio"].into();
    let lock = read("Cargo.lock");
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    expect_none(
        "threads and blocking calls, no runtime",
        names.filter(|n| runtimes.contains(n)).map(str::to_owned).collect(),
    );
}

#[test]
fn every_dependency_is_accounted_for() {
    let manifest = read("Cargo.toml");
    let account = read("docs/dependencies.md");
    let mut section = "";
    let mut missing = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim();
        } else if section.ends_with("dependencies]")
            && let Some((name, _)) = line.split_once(" = ")
            && !account.lines().any(|l| l.contains(&format!("`{}`", name.trim())))
        {
            missing.push(name.trim().to_owned());
        }
    }
    expect_none("every dependency has a line in docs/dependencies.md with `its name`", missing);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let macros = [concat!("to", "do!("), concat!("un", "implemented!(")];
    let mut broken = Vec::new();
    for file in sources(&["src", "tests", "benches", "examples"]) {
        for (n, line) in file.text.lines().enumerate() {
            if marks.iter().any(|mark| has_word(line, mark)) || macros.iter().any(|m| line.contains(m)) {
                broken.push(format!("{}:{}: {}", file.path, n + 1, line.trim()));
            }
        }
    }
    expect_none("what is not done is not there", broken);
}

#[test]
fn files_that_comments_name_exist() {
    let mut broken = Vec::new();
    for file in sources(&["src"]) {
        let comments = file.text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"));
        for (n, line) in comments {
            for name in line.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs")) {
                let folder = Path::new(&file.path).parent().expect("a file is in a folder");
                let places = [PathBuf::from(name), Path::new("src").join(name), folder.join(name)];
                if !places.iter().any(|place| root().join(place).exists()) {
                    broken.push(format!("{}:{}: {name}", file.path, n + 1));
                }
            }
        }
    }
    expect_none("a file that a comment names exists", broken);
}

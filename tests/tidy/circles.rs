//! No circle of imports: files of `src/` that import each other, over however many steps. The search is a
//! function of paths and texts, so that a test can make a circle and see it found.

use std::collections::{BTreeMap, BTreeSet};

use crate::{expect_none, sources};

/// Which file of `files` a path such as `wire::error::Error` leads to: the deepest module that it names.
fn file_of<'f>(files: &'f [(String, String)], path: &str) -> Option<&'f str> {
    let mut module = path.split("::").collect::<Vec<_>>();
    while !module.is_empty() {
        let place = format!("src/{}", module.join("/"));
        let names = [format!("{place}.rs"), format!("{place}/mod.rs")];
        if let Some((found, _)) = files.iter().find(|(path, _)| names.contains(path)) {
            return Some(found);
        }
        module.pop();
    }
    None
}

/// What `super::` means in a file: the module above its own, with `::` behind it.
fn above(path: &str) -> String {
    let module = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    module
        .rsplit_once('/')
        .map_or("crate::".to_owned(), |(above, _)| format!("crate::{}::", above.replace('/', "::")))
}

/// The paths below `crate::` that a file imports or names, with the items in braces taken apart.
fn paths(path: &str, text: &str) -> Vec<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or("").to_owned() + "\n").collect();
    let code = code.replace("super::", &above(path));
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        let base = rest[..end].trim_end_matches(':');
        match rest[end..].strip_prefix('{') {
            Some(inner) => {
                let items = inner.split('}').next().unwrap_or("").split(',');
                found.extend(items.map(|item| format!("{base}::{}", item.trim().trim_end_matches("::self"))));
            }
            None => found.push(base.to_owned()),
        }
    }
    found.extend(children(path, &code));
    found
}

/// The modules of a folder that its `mod.rs` names without `crate::`, as in `worker::run`.
fn children(path: &str, code: &str) -> Vec<String> {
    let Some(folder) = path.trim_start_matches("src/").strip_suffix("/mod.rs") else { return Vec::new() };
    let is_inside = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let is_named = |child: &&str| {
        let name = format!("{child}::");
        code.match_indices(&name).any(|(at, _)| !code[..at].ends_with(is_inside))
    };
    let declared = code.lines().filter_map(|line| line.strip_suffix(';')?.rsplit_once("mod "));
    let named = declared.map(|(_, child)| child).filter(is_named);
    named.map(|child| format!("{}::{child}", folder.replace('/', "::"))).collect()
}

/// A file up to its unit tests. Where they are a file of their own, the rest follows their declaration.
fn before_tests(text: &str) -> &str {
    let is_inline = |at: usize| {
        let next = text[at..].lines().nth(1).unwrap_or("");
        next.contains("mod ") && next.contains('{')
    };
    let begin = text.match_indices("#[cfg(test)]").map(|(at, _)| at).find(|&at| is_inline(at));
    &text[..begin.unwrap_or(text.len())]
}

/// Rings of files that import each other, of (path, text). A folder's `mod.rs` is a file as any other: what
/// it names and what its files take from it are imports, so they share a file below both. Unit tests do not
/// count.
fn rings(files: &[(String, String)]) -> Vec<Vec<String>> {
    let imports = |(path, text): &(String, String)| {
        let all = paths(path, before_tests(text))
            .into_iter()
            .filter_map(|named| file_of(files, &named).map(str::to_owned));
        all.filter(|to| to != path).collect::<BTreeSet<_>>()
    };
    let edges: BTreeMap<_, _> = files.iter().map(|f| (f.0.clone(), imports(f))).collect();
    let reached = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(path) = next.pop() {
            next.extend(edges[path].iter().filter(|to| seen.insert((*to).clone())));
        }
        seen
    };
    let all: BTreeMap<_, _> = edges.keys().map(|path| (path, reached(path))).collect();
    let mut found = BTreeSet::new();
    for (path, to) in all.iter().filter(|(path, to)| to.contains(**path)) {
        let ring = to.iter().filter(|other| all[other].contains(*path)).cloned().collect::<Vec<_>>();
        found.insert(ring);
    }
    found.into_iter().collect()
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let is_test = |path: &str| {
        path.contains("tests") || path.ends_with("/fake_server.rs") || path.ends_with("/load.rs")
    };
    let files: Vec<_> = sources(&["src"])
        .into_iter()
        .filter(|file| !is_test(&file.path))
        .map(|file| (file.path, file.text))
        .collect();
    let broken = rings(&files).into_iter().map(|ring| ring.join(" <-> ")).collect();
    expect_none("files of src/ import each other in no circle", broken);
}

#[test]
fn circles_are_found() {
    let crate_of = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter().map(|(path, text)| (format!("src/{path}"), (*text).to_owned())).collect()
    };
    let two = crate_of(&[("a/x.rs", "use crate::b::y::Y;"), ("b/y.rs", "fn f() -> crate::a::x::X {}")]);
    assert_eq!(rings(&two), [["src/a/x.rs", "src/b/y.rs"]]);
    let three = crate_of(&[
        ("a/x.rs", "use crate::b::{y::Y, z};"),
        ("a/mod.rs", "mod x;"),
        ("b/y.rs", "use crate::c::C;"),
        ("c/mod.rs", "pub use crate::a::x::X;"),
    ]);
    assert_eq!(rings(&three), [["src/a/x.rs", "src/b/y.rs", "src/c/mod.rs"]]);
    let above = crate_of(&[("a/b/x.rs", "use super::y::Y;"), ("a/b/y.rs", "fn f() -> super::x::X {}")]);
    assert_eq!(rings(&above), [["src/a/b/x.rs", "src/a/b/y.rs"]]);
    let face = crate_of(&[
        ("a/mod.rs", "#[cfg(test)]\nmod tests;\npub use crate::a::x::X;"),
        ("a/x.rs", "use crate::a::Shared;"),
        ("b/mod.rs", "pub mod y;\nfn f() { y::g() }"),
        ("b/y.rs", "use super::Shared;"),
    ]);
    assert_eq!(rings(&face), [["src/a/mod.rs", "src/a/x.rs"], ["src/b/mod.rs", "src/b/y.rs"]]);
    let none = crate_of(&[
        ("a/mod.rs", "mod shared;\nmod x;\npub use crate::a::x::X;"),
        (
            "a/x.rs",
            "use crate::a::shared::Shared; // crate::b::y\n#[cfg(test)]\nmod tests { use crate::b::y::Y; }",
        ),
        ("a/shared.rs", ""),
        ("b/y.rs", "use crate::a::x::X;"),
    ]);
    assert_eq!(rings(&none), Vec::<Vec<String>>::new());
}

//! The files of a supervisord.conf: itself and those that it includes, put together as supervisord does, and
//! what names in their values stand for.

use std::env;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::cli::import::imported::read;
use crate::cli::import::ini::{Meaning, Names, Section, expand, sections, with_defaults};
use crate::wire::error::Error;

/// What stands for the directory of the file that it is in.
const HERE: &str = "%(here)s";

/// All sections, and what was odd about it.
pub fn load(path: &Path) -> Result<(Vec<Section>, Vec<String>), Error> {
    let directory = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    let here = directory(path);
    let (mut all, mut notes) = (in_file(path, &here)?, Vec::new());
    // As with supervisord, what is included includes nothing.
    let include = all.iter().find(|section| section.name == "include").cloned();
    let patterns = include.as_ref().and_then(|include| include.get("files")).unwrap_or_default();
    for pattern in expand(patterns, &names(&here))?.split_whitespace() {
        let found = matching(&here.join(pattern));
        if found.is_empty() {
            notes.push(format!("included {pattern}: there is no such file"));
        }
        for file in found {
            for section in in_file(&file, &directory(&file))? {
                // What is said in two files is one section.
                match all.iter_mut().find(|known| known.name == section.name) {
                    Some(known) => known.keys.extend(section.keys),
                    None => all.push(section),
                }
            }
        }
    }
    all.retain(|section| section.name != "include");
    Ok((with_defaults(all), notes))
}

fn in_file(path: &Path, here: &Path) -> Result<Vec<Section>, Error> {
    let mut all = sections(&read(path)?, &path.to_string_lossy())?;
    let here = here.to_string_lossy().replace('%', "%%");
    for (_, value) in all.iter_mut().flat_map(|section| &mut section.keys) {
        *value = value.replace(HERE, &here);
    }
    Ok(all)
}

/// What may stand in every value.
pub fn names(here: &Path) -> Names {
    let variables = env::vars_os().filter_map(|(key, value)| {
        Some((format!("ENV_{}", key.into_string().ok()?), Meaning::Text(value.into_string().ok()?)))
    });
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let here = here.to_string_lossy().into_owned();
    let own = [("here", here), ("host_node_name", host)];
    variables.chain(own.map(|(name, text)| (name.to_owned(), Meaning::Text(text)))).collect()
}

/// The files that fit the pattern, each part of which may have `*`, `?` and `[...]` in it, as Python's glob
/// has it; in their order.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let name = part.as_os_str().to_string_lossy();
        let is_pattern = matches!(part, Component::Normal(_)) && name.contains(['*', '?', '[']);
        found = if is_pattern {
            found.iter().flat_map(|directory| inside(directory, &name)).collect()
        } else {
            found.iter().map(|path| path.join(part)).collect()
        };
    }
    found.retain(|path| path.exists());
    found.sort();
    found
}

fn inside(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let pattern: Vec<char> = pattern.chars().collect();
    let fits = |name: &str| {
        let name: Vec<char> = name.chars().collect();
        (pattern[0] == '.' || name[0] != '.') && fits(&pattern, &name)
    };
    (fs::read_dir(directory).into_iter().flatten().flatten())
        .filter(|entry| fits(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect()
}

/// Whether the name is one of those that the pattern means. Of several stars only the last one is tried
/// again: so it takes no longer than the product of both lengths.
fn fits(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on when it does not fit: behind the last star, which takes one character more.
    let mut again = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                again = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some('[') => {
                if let Some((is_in, len)) = one_of(&pattern[p..], name[n]) {
                    if is_in {
                        (p, n) = (p + len, n + 1);
                        continue;
                    }
                } else if name[n] == '[' {
                    (p, n) = (p + 1, n + 1);
                    continue;
                }
            }
            Some(&c) if c == '?' || c == name[n] => {
                (p, n) = (p + 1, n + 1);
                continue;
            }
            Some(_) | None => {}
        }
        let Some((behind, taken)) = again else { return false };
        again = Some((behind, taken + 1));
        (p, n) = (behind, taken + 1);
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// Whether a character is one of `[a-z]` or `[!a-z]`, and how long that is; none: it is no such set.
fn one_of(pattern: &[char], c: char) -> Option<(bool, usize)> {
    let is_not = pattern.get(1) == Some(&'!');
    let begin = if is_not { 2 } else { 1 };
    // A bracket that is the first of a set is one of it.
    let end = begin + 1 + pattern.get(begin + 1..)?.iter().position(|&c| c == ']')?;
    let (mut at, mut is_in) = (begin, false);
    while at < end {
        if at + 2 < end && pattern[at + 1] == '-' {
            is_in |= (pattern[at]..=pattern[at + 2]).contains(&c);
            at += 3;
        } else {
            is_in |= pattern[at] == c;
            at += 1;
        }
    }
    Some((is_in != is_not, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_a_shell() {
        let fits = |pattern: &str, name: &str| {
            let [pattern, name] = [pattern, name].map(|text| text.chars().collect::<Vec<_>>());
            fits(&pattern, &name)
        };
        for (pattern, name) in [
            ("*.conf", "web.conf"),
            ("a*b*.ini", "a-b.ini"),
            ("x", "x"),
            ("?[0-9].c", "a1.c"),
            ("[!a]*", "b"),
            ("[]a]", "]"),
            ("[a-]", "-"),
            ("a[", "a["),
            ("*a*b", "aab"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.conf", "web.conf~"), ("a*", "b"), ("x", "xy"), ("[!a]", "a"), ("[0-9]", "a"), ("?", "")]
        {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_included_is_put_together() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "s.conf",
            "[include]\nfiles = d/*/?.conf none/*.conf\n[program:a]\ncommand=one\nuser=%(here)s\n",
        );
        write("d/x/b.conf", "[program:a]\ncommand=%(here)s\n[include]\nfiles=/etc/*\n");
        write("d/x/no.conf", "[program:b]\n");
        write("d/.x/b.conf", "[program:c]\n");
        let (all, notes) = load(&dir.path().join("s.conf")).unwrap();
        assert_eq!(all.len(), 1);
        let path = |name: &str| dir.path().join(name).to_string_lossy().trim_end_matches('/').to_owned();
        assert_eq!(all[0].get("command"), Some(&*path("d/x")));
        assert_eq!(all[0].get("user"), Some(&*path("")));
        assert_eq!(notes, ["included none/*.conf: there is no such file"]);
    }
}

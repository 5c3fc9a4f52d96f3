//! All that can stand in a configuration file: the tables of `docs/config.md`, which are the one list of it.
//! That page, the manual page, the schema for editors and `provost config show` are made of them; that what
//! is read is what stands there is tested. A table of settings has a header that begins with `| key |`.

use crate::wire::fields::FIELDS;

const TEXT: &str = include_str!("../../docs/config.md");

/// Stands in a path for a name that the user gives.
pub const ANY: &str = "*";
/// Ends a part of a path that is a list of tables.
pub const LIST: &str = "[]";

/// Sections whose keys are names, and what each of those takes.
const NAMES: [(&[&str], &str); 7] = [
    (&["environment"], "string"),
    (&["local", "group_roles"], ROLE),
    (&["grpc", "certificate_roles"], ROLE),
    (&["grpc", "user_roles"], ROLE),
    (&["grpc", "demo_users"], "string"),
    (&["modules", "namespaces"], "list of strings"),
    (&["registry", "schemas"], "string"),
];
const ROLE: &str = "`viewer`, `operator`, `admin`";

/// One row of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// The section that it is in: none at the top, [`ANY`] for a name, a part that ends with [`LIST`].
    pub path: Vec<String>,
    /// Only with this `kind` of the section.
    pub variant: Option<String>,
    /// [`ANY`]: whatever names there are.
    pub key: String,
    /// What it takes, as the reference says it.
    pub takes: String,
    /// As it stands there: a value between backquotes, or what holds instead.
    pub default: String,
    pub range: String,
    pub meaning: String,
}

impl Setting {
    /// Whether the section is nothing without it.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.default == "must be given"
    }

    /// What holds without it, as a sentence says it.
    #[must_use]
    pub fn default_text(&self) -> String {
        self.default.replace('`', "")
    }
}

/// All of them, in the order of the reference; those of `[process.NAME]` also as they are in `[defaults]`.
#[must_use]
pub fn settings() -> Vec<Setting> {
    let (mut all, mut path, mut variant, mut header) = (Vec::new(), Vec::new(), None, Vec::new());
    for line in TEXT.lines() {
        if let Some(title) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            if let Some(kind) = title.strip_prefix("`kind = \"") {
                variant = Some(kind.trim_end_matches("\"`").to_owned());
            } else if title.starts_with("`[") || line.starts_with("## ") {
                (path, variant) = (section(title), None);
            }
        } else if line.starts_with("`[[") {
            path = section(line);
        }
        let Some(row) = line.strip_prefix("| ") else {
            if !line.starts_with('|') {
                header.clear();
            }
            continue;
        };
        let cells: Vec<&str> = row.trim_end_matches('|').split(" |").map(str::trim).collect();
        if cells[0] == "key" {
            // A table without them explains what another one lists.
            header = if cells.contains(&"default") { cells } else { Vec::new() };
        } else if !header.is_empty() {
            all.extend(rows(&header, &cells, &path, variant.as_ref()));
        }
    }
    let names = NAMES.iter().map(|(path, takes)| Setting {
        path: path.iter().map(ToString::to_string).collect(),
        key: ANY.to_owned(),
        takes: (*takes).to_owned(),
        default: "none".to_owned(),
        ..Setting::default()
    });
    all.extend(names);
    let is_common = |s: &&Setting| s.path == ["process", ANY] && s.key != "command" && s.key != "instances";
    let defaults: Vec<_> = all.iter().filter(is_common).cloned().collect();
    all.extend(defaults.into_iter().map(|s| Setting { path: vec!["defaults".to_owned()], ..s }));
    all
}

/// A row, for each of the keys that it is about.
fn rows<'a>(
    header: &'a [&str],
    cells: &'a [&str],
    path: &'a [String],
    variant: Option<&'a String>,
) -> impl Iterator<Item = Setting> + 'a {
    let cell = |names: &[&str]| {
        let at = header.iter().position(|title| names.contains(title));
        at.and_then(|at| cells.get(at)).copied().unwrap_or_default().to_owned()
    };
    let keys = cells[0].split('`').skip(1).step_by(2);
    keys.map(move |key| {
        // The fields of a process have their own table in the code.
        let field = FIELDS.iter().find(|field| path == ["process", ANY] && field.key == key);
        Setting {
            path: path.to_vec(),
            variant: variant.cloned(),
            key: key.to_owned(),
            takes: field.map_or_else(|| cell(&["type", "takes"]), |field| field.takes.to_owned()),
            default: cell(&["default"]),
            range: cell(&["range"]),
            meaning: cell(&["meaning"]),
        }
    })
}

/// The path of a title: "`[grpc.limits]`", "`[[sink]]`".
fn section(title: &str) -> Vec<String> {
    let Some(inner) = title.strip_prefix("`[").and_then(|rest| rest.split_once("]`")) else {
        return Vec::new();
    };
    let (inner, list) = match inner.0.strip_prefix('[') {
        Some(inner) => (inner.trim_end_matches(']'), LIST),
        None => (inner.0, ""),
    };
    let mut path: Vec<String> = (inner.split('.'))
        .map(|part| if part.chars().all(|c| c.is_ascii_uppercase()) { ANY } else { part })
        .map(ToOwned::to_owned)
        .collect();
    if let Some(last) = path.last_mut() {
        last.push_str(list);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn one(path: &[&str], key: &str) -> Setting {
        let found: Vec<_> = settings().into_iter().filter(|s| s.path == path && s.key == key).collect();
        let [one] = &found[..] else { panic!("{path:?} {key}: {found:?}") };
        one.clone()
    }

    #[test]
    fn rows_are_settings() {
        assert_eq!(one(&[], "orphans").range, "`adopt`, `kill`, `leave`");
        let keep = one(&["history"], "keep");
        assert_eq!(
            (&keep.takes[..], &keep.default[..], &keep.range[..]),
            ("duration", "`\"30d\"`", "1m to 3650d")
        );
        assert!(one(&["sink[]"], "kind").is_required() && keep.default_text() == "\"30d\"");
        assert_eq!(one(&["sink[]"], "index").variant.as_deref(), Some("opensearch"));
        assert_eq!(one(&["providers", ANY], "cookie").takes, "boolean");
        assert_eq!(one(&["registry", "discovery", "environment[]"], "variable").takes, "string");
        assert_eq!(one(&["modules"], "ca").takes, "paths");
        assert!(one(&["process", ANY], "command").is_required());
        assert_eq!(one(&["defaults"], "nice").takes, "a whole number from -20 to 19");
        assert!(settings().iter().all(|s| !s.key.is_empty() && !s.takes.is_empty()), "{:?}", settings());
    }

    #[test]
    fn every_field_of_a_process_is_there() {
        let all = settings();
        for field in FIELDS {
            assert!(all.iter().any(|s| s.path == ["process", ANY] && s.key == field.key), "{}", field.key);
        }
    }
}

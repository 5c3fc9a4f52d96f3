//! The environment of a run, layer upon layer: the service's own or nothing, the global one, the spec's with
//! its `${NAME}` replaced, and what tells a child who it is. Pure: where the layers come from is the caller's
//! business.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::spec::{EnvExpand, STRING_LEN_MAX, STRINGS_LEN_MAX};

/// A list of variables; of two with one name the later counts.
pub type Vars = [(String, String)];

/// What a variable costs in the kernel beside its name and value: '=', NUL, and a pointer.
const OVERHEAD_LEN: usize = 10;

/// The layers, lowest first.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    /// The service's own environment, or nothing.
    pub base: &'a Vars,
    /// What `provost env set` holds.
    pub global: &'a Vars,
    pub spec: &'a Vars,
    /// Whether references in the spec's values are replaced.
    pub expand: EnvExpand,
    /// Who the child is. No other layer overrides these, and the spec's values may refer to them.
    pub instance: &'a Vars,
}

/// One environment out of all layers. First comes who the child is: whoever looks for what is ours reads no
/// more than the begin. The others stand in the order in which they were first seen.
///
/// Every limit is checked before memory is taken for a value: a chain of `A=${A}${A}` ends at the limit of
/// one variable, however long it is.
pub fn merge<'a>(layers: &Layers<'a>) -> Result<Merged<'a>, Error> {
    let instance = layers.instance;
    let room = layers.base.len() + layers.global.len() + layers.spec.len() + instance.len();
    let mut env = Environment::with_room(room);
    for (key, value) in instance.iter().chain(layers.base).chain(layers.global).chain(instance) {
        env.set(key, value.into())?;
    }
    for (key, value) in layers.spec {
        match layers.expand {
            EnvExpand::Literal => env.set(key, value.into())?,
            EnvExpand::Once => {
                let value = env.expand(key, value)?;
                env.set(key, value.into())?;
            }
        }
    }
    for (key, value) in instance {
        env.set(key, value.into())?;
    }
    Ok(Merged { vars: env.vars, unset: env.unset })
}

/// Of so many references that stand for nothing it is said.
const UNSET_MAX: usize = 8;

/// What layers come to.
#[derive(Debug)]
pub struct Merged<'a> {
    pub vars: Vec<(&'a str, Cow<'a, str>)>,
    /// Values that refer to what is not set, and those names.
    pub unset: Vec<(&'a str, String)>,
}

/// An environment under construction.
struct Environment<'a> {
    vars: Vec<(&'a str, Cow<'a, str>)>,
    /// Where each name stands in `vars`.
    index: HashMap<&'a str, usize>,
    /// References that stand for nothing, at most [`UNSET_MAX`].
    unset: Vec<(&'a str, String)>,
    /// What `vars` costs in the kernel, in bytes.
    total_len: usize,
}

impl<'a> Environment<'a> {
    /// For so many variables.
    fn with_room(room: usize) -> Self {
        let (vars, index) = (Vec::with_capacity(room), HashMap::with_capacity(room));
        Self { vars, index, unset: Vec::new(), total_len: 0 }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.index.get(key).map(|&at| &*self.vars[at].1)
    }

    fn set(&mut self, key: &'a str, value: Cow<'a, str>) -> Result<(), Error> {
        check_len(key, value.len())?;
        let entry = self.index.entry(key);
        let old_len = match &entry {
            Entry::Occupied(at) => key.len() + self.vars[*at.get()].1.len() + OVERHEAD_LEN,
            Entry::Vacant(_) => 0,
        };
        let total_len = self.total_len - old_len + key.len() + value.len() + OVERHEAD_LEN;
        if total_len > STRINGS_LEN_MAX {
            return Err(Error::usage(format!(
                "the environment takes over {STRINGS_LEN_MAX} bytes with variable {}",
                quoted(key)
            ))
            .hint("set less of it: 'provost env list' shows the global part; --clear-env leaves out the service's"));
        }
        self.total_len = total_len;
        match entry {
            Entry::Occupied(at) => self.vars[*at.get()].1 = value,
            Entry::Vacant(free) => {
                free.insert(self.vars.len());
                self.vars.push((key, value));
            }
        }
        Ok(())
    }

    /// `value` with each `${NAME}` replaced by what the environment holds now, once: what was put in is not
    /// looked at again. A name that is not set gives nothing; whatever is not exactly a reference stays as it
    /// is.
    fn expand(&mut self, key: &'a str, value: &str) -> Result<String, Error> {
        let mut out = String::new();
        let mut rest = value;
        while let Some(at) = rest.find("${") {
            let (before, reference) = rest.split_at(at);
            push(&mut out, key, before)?;
            match split_reference(reference) {
                Some((name, after)) => {
                    match self.get(name) {
                        Some(value) => push(&mut out, key, value)?,
                        None if self.unset.len() < UNSET_MAX => self.unset.push((key, name.to_owned())),
                        None => {}
                    }
                    rest = after;
                }
                None => {
                    push(&mut out, key, "${")?;
                    rest = &reference[2..];
                }
            }
        }
        push(&mut out, key, rest)?;
        Ok(out)
    }
}

/// The name in the reference that `text` begins with, and what follows it. Names as a shell knows them.
fn split_reference(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix("${")?;
    let (name, after) = text.split_at(text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?);
    let after = after.strip_prefix('}')?;
    let is_name = !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit());
    is_name.then_some((name, after))
}

fn push(out: &mut String, key: &str, text: &str) -> Result<(), Error> {
    check_len(key, out.len() + text.len())?;
    out.push_str(text);
    Ok(())
}

/// Linux takes no single string of [`STRING_LEN_MAX`] bytes, with '=' and NUL counted.
fn check_len(key: &str, value_len: usize) -> Result<(), Error> {
    if key.len() + value_len + 2 > STRING_LEN_MAX {
        return Err(Error::usage(format!(
            "variable {} has over {} bytes in the end, more than Linux takes",
            quoted(key),
            STRING_LEN_MAX - 1
        ))
        .hint("see what its references stand for; --no-expand keeps them as they are"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{EnvExpand, Error, Layers, STRING_LEN_MAX};

    fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    /// The merged layers as owned text.
    fn merge(layers: &Layers<'_>) -> Result<Vec<(String, String)>, Error> {
        let merged = super::merge(layers)?.vars;
        Ok(merged.into_iter().map(|(k, v)| (k.to_owned(), v.into_owned())).collect())
    }

    const NOTHING: Layers<'static> =
        Layers { base: &[], global: &[], spec: &[], expand: EnvExpand::Once, instance: &[] };

    /// The spec's layer over a base.
    fn expanded(base: &[(&str, &str)], spec: &[(&str, &str)]) -> Vec<(String, String)> {
        merge(&Layers { base: &vars(base), spec: &vars(spec), ..NOTHING }).unwrap()
    }

    #[test]
    fn later_layers_win_and_who_it_is_comes_first() {
        let merged = merge(&Layers {
            base: &vars(&[("A", "base"), ("B", "base"), ("C", "base"), ("PROVOST_ID", "outer")]),
            global: &vars(&[("B", "global"), ("D", "global")]),
            spec: &vars(&[("C", "spec"), ("E", "spec"), ("E", "again"), ("PROVOST_ID", "forged")]),
            expand: EnvExpand::Once,
            instance: &vars(&[("PROVOST_ID", "mine")]),
        })
        .unwrap();
        let expected = vars(&[
            ("PROVOST_ID", "mine"),
            ("A", "base"),
            ("B", "global"),
            ("C", "spec"),
            ("D", "global"),
            ("E", "again"),
        ]);
        assert_eq!(merged, expected);
    }

    #[test]
    fn a_reference_is_replaced_once_by_what_is_held_so_far() {
        let merged = expanded(
            &[("PATH", "/bin"), ("REF", "${PATH}")],
            &[
                ("PATH", "/opt:${PATH}"),
                ("TWICE", "${PATH}:${PATH}"),
                ("NOT_AGAIN", "${REF}"),
                ("LATER", "${LAST}"),
                ("LAST", "x"),
                ("UNKNOWN", "a${NOPE}b"),
            ],
        );
        let expected = vars(&[
            ("PATH", "/opt:/bin"),
            ("REF", "${PATH}"),
            ("TWICE", "/opt:/bin:/opt:/bin"),
            ("NOT_AGAIN", "${PATH}"),
            ("LATER", ""),
            ("LAST", "x"),
            ("UNKNOWN", "ab"),
        ]);
        assert_eq!(merged, expected);
    }

    #[test]
    fn what_is_not_exactly_a_reference_stays() {
        for value in [
            "$A", "$$", "${", "${A", "a}b", "${}", "${A:-x}", "${1}", "${A B}", "%A%", "100%", "$(id)",
            "${é}",
        ] {
            assert_eq!(expanded(&[("A", "1")], &[("X", value)])[1].1, value);
        }
        assert_eq!(expanded(&[("A", "1")], &[("X", "$${A}")])[1].1, "$1");
        assert_eq!(expanded(&[("A", "1")], &[("X", "${${A}")])[1].1, "${1");
        assert_eq!(expanded(&[("A", "1")], &[("X", "${é${A}")])[1].1, "${é1");
    }

    #[test]
    fn literal_values_and_lower_layers_are_not_looked_into() {
        let (base, spec) = (vars(&[("A", "1"), ("B", "${A}")]), vars(&[("C", "${A}")]));
        let merged =
            merge(&Layers { base: &base, spec: &spec, expand: EnvExpand::Literal, ..NOTHING }).unwrap();
        assert_eq!(merged, vars(&[("A", "1"), ("B", "${A}"), ("C", "${A}")]));
    }

    #[test]
    fn the_spec_may_refer_to_who_the_child_is() {
        let merged = merge(&Layers {
            spec: &vars(&[("PORT", "800${PROVOST_INSTANCE}")]),
            instance: &vars(&[("PROVOST_INSTANCE", "2")]),
            ..NOTHING
        });
        assert_eq!(merged.unwrap(), vars(&[("PROVOST_INSTANCE", "2"), ("PORT", "8002")]));
    }

    #[test]
    fn doubling_ends_at_the_limit_of_one_variable() {
        let mut spec = vars(&[("A", "0123456789abcdef")]);
        spec.extend(std::iter::repeat_n(("A".to_owned(), "${A}${A}".to_owned()), 100));
        let error = merge(&Layers { spec: &spec, ..NOTHING }).unwrap_err();
        assert!(error.message.contains("variable 'A'"), "{error}");
        // One long value, referred to as often as a request can hold.
        let spec = vars(&[("A", &"x".repeat(100_000)), ("B", &"${A}".repeat(30_000))]);
        assert!(merge(&Layers { spec: &spec, ..NOTHING }).is_err());
    }

    #[test]
    fn expansion_into_many_variables_ends_at_the_limit_of_all() {
        let mut spec = vars(&[("A", &"x".repeat(100_000))]);
        spec.extend((0..1000).map(|n| (format!("B{n}"), "${A}".to_owned())));
        let error = merge(&Layers { spec: &spec, ..NOTHING }).unwrap_err();
        assert!(error.message.contains("the environment takes over"), "{error}");
    }

    #[test]
    fn references_to_what_is_not_set_are_told() {
        let spec = vars(&[("A", "${B}x${C}"), ("D", "${A}${E}"), ("F", "$G ${")]);
        let base = vars(&[("C", "")]);
        let merged = super::merge(&Layers { base: &base, spec: &spec, ..NOTHING }).unwrap();
        assert_eq!(merged.unset, [("A", "B".to_owned()), ("D", "E".to_owned())]);
    }

    #[test]
    fn the_limits_are_exact() {
        let fits = "x".repeat(STRING_LEN_MAX - 3);
        assert!(merge(&Layers { spec: &vars(&[("A", &fits)]), ..NOTHING }).is_ok());
        let over = fits + "x";
        assert!(merge(&Layers { spec: &vars(&[("A", &over)]), ..NOTHING }).is_err());
        // Replacing gives back what the old value took.
        let spec: Vec<_> = (0..100).map(|_| ("A".to_owned(), "x".repeat(100_000))).collect();
        assert!(merge(&Layers { spec: &spec, ..NOTHING }).is_ok());
    }

    #[test]
    fn many_variables_are_quick() {
        let spec: Vec<_> = (0..100_000).map(|n| (format!("V{n}"), String::new())).collect();
        assert_eq!(merge(&Layers { spec: &spec, ..NOTHING }).unwrap().len(), spec.len());
    }
}

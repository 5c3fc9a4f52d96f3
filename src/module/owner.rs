//! Who a provider is: a program on this machine, or the holder of a certificate. What one has registered is
//! no other's.

use std::collections::{BTreeMap, BTreeSet};

/// Between names in a note. None of them has control characters.
const SEPARATOR: char = '\n';

/// The names of a certificate with their kinds, as `dns:host.example`; none: a program on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner(BTreeSet<String>);

impl Owner {
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().cloned().collect())
    }

    /// Whether it is a program on this machine.
    pub fn is_local(&self) -> bool {
        self.0.is_empty()
    }

    /// As a note has it.
    pub fn from_text(text: &str) -> Self {
        Self(text.split(SEPARATOR).filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// For a note.
    pub fn to_text(&self) -> String {
        Vec::from_iter(self.0.iter().map(String::as_str)).join(&SEPARATOR.to_string())
    }

    /// Why it may not have this namespace, if it may not.
    pub fn check(&self, namespace: &str, bound: &BTreeMap<String, BTreeSet<String>>) -> Result<(), String> {
        let is_above = |key: &str| {
            namespace.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        // The closest one counts.
        let names = bound.iter().filter(|(key, _)| is_above(key)).max_by_key(|(key, _)| key.len());
        match names {
            Some((_, names)) if !self.0.is_disjoint(names) => Ok(()),
            Some((key, _)) => {
                Err(format!("Namespace {key} is for certificates that [modules.namespaces] names"))
            }
            None if self.0.is_empty() || bound.is_empty() => Ok(()),
            None => Err(format!("Namespace {namespace} is not among [modules.namespaces]")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_for_those_that_they_are_bound_to() {
        let of = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        let bound = BTreeMap::from([
            ("ml".to_owned(), of(&["dns:a"])),
            ("ml.vision".to_owned(), of(&["dns:b", "dns:c"])),
        ]);
        let owner = |name: &str| Owner::new(&[name.to_owned(), "uri:x".to_owned()]);
        for (owner, namespace, may) in [
            (owner("dns:a"), "ml", true),
            (owner("dns:a"), "ml.text", true),
            (owner("dns:a"), "ml.vision", false),
            (owner("dns:c"), "ml.vision.x", true),
            (owner("dns:b"), "ml", false),
            (owner("dns:a"), "mlx", false),
            (owner("uri:a"), "ml", false),
            (Owner::default(), "ml", false),
            (Owner::default(), "mlx", true),
        ] {
            assert_eq!(owner.check(namespace, &bound).is_ok(), may, "{owner:?} {namespace}");
        }
        assert_eq!(owner("dns:z").check("any", &BTreeMap::new()), Ok(()));
    }

    #[test]
    fn an_owner_comes_back_from_a_note() {
        let owner = Owner::new(&["dns:b".to_owned(), "dns:a".to_owned()]);
        assert_eq!(Owner::from_text(&owner.to_text()), owner);
        assert_eq!(Owner::from_text(""), Owner::default());
    }
}

//! The global environment as a whole: what it takes for it to be what a file says.

use serde_json::Value;

use crate::cli::plan::Difference;
use crate::wire::request::EnvChange;
use crate::wire::secrets;

/// The variables of both, as pairs.
type Pairs = [(String, String)];

fn value<'a>(all: &'a Pairs, key: &str) -> Option<&'a String> {
    all.iter().rev().find(|(other, _)| other == key).map(|(_, value)| value)
}

/// From what there is to what is wanted, in one step; the default: nothing is to be done.
pub fn change(present: &Pairs, wanted: &Pairs) -> EnvChange {
    let is_new = |(key, new): &&(String, String)| value(present, key) != Some(new);
    EnvChange {
        set: wanted.iter().filter(is_new).cloned().collect(),
        unset: (present.iter().map(|(key, _)| key))
            .filter(|key| value(wanted, key).is_none())
            .cloned()
            .collect(),
    }
}

/// The same for people, without secrets.
pub fn differences(present: &Pairs, change: &EnvChange) -> Vec<Difference> {
    let shown = |key: &str, value: Option<&String>| -> Option<Value> {
        value.map(|value| if secrets::is_secret(key) { secrets::HIDDEN.into() } else { value.clone().into() })
    };
    let set = change.set.iter().map(|(key, after)| (key, Some(after)));
    let unset = change.unset.iter().map(|key| (key, None));
    set.chain(unset)
        .map(|(key, after)| Difference {
            field: key.clone(),
            before: shown(key, value(present, key)),
            after: shown(key, after),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_all_there_is_then() {
        let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let present = pairs(&[("A", "1"), ("B", "2"), ("API_KEY", "x")]);
        let change = |wanted: &[(&str, &str)]| change(&present, &pairs(wanted));
        assert_eq!(change(&[("API_KEY", "x"), ("A", "1"), ("B", "2")]), EnvChange::default());
        let some = change(&[("B", "3"), ("C", "4"), ("API_KEY", "y")]);
        assert_eq!(some.set, pairs(&[("B", "3"), ("C", "4"), ("API_KEY", "y")]));
        assert_eq!(some.unset, ["A"]);
        assert_eq!(change(&[]).unset, ["A", "B", "API_KEY"]);
        let shown = differences(&present, &some);
        assert!(shown.iter().all(|d| d.field != "API_KEY" || d.after == Some(secrets::HIDDEN.into())));
        assert_eq!((&shown[0].before, &shown[0].after), (&Some("2".into()), &Some("3".into())));
    }
}

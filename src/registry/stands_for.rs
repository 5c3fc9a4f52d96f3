//! What an entry stands for behind which nothing of ours runs.

use crate::provider::references::Reference;

/// A secret that is only named, or a namespace that others execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandsFor {
    Secret(Reference),
    /// Of the module plane.
    Namespace(String),
}

impl StandsFor {
    /// As it is noted.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Secret(reference) => reference.text(),
            Self::Namespace(namespace) => format!("module:{namespace}"),
        }
    }

    /// Reads what [`StandsFor::text`] has written.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        match text.strip_prefix("module:") {
            Some(namespace) => Some(Self::Namespace(namespace.to_owned())),
            None => Reference::from_text(text).map(Self::Secret),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_stands_for_comes_back_from_a_note() {
        for it in [StandsFor::Namespace("a.b".into()), StandsFor::Secret(Reference::Variable("A".into()))] {
            assert_eq!(StandsFor::from_text(&it.text()), Some(it));
        }
        assert_eq!(StandsFor::from_text("x"), None);
    }
}

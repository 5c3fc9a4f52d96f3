//! What an entry of the registry is made of.

use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::proto::v1;
use crate::wire::provider::Definition;
use crate::wire::spec::pairs_from_wire;

/// The most labels of an entry.
const LABELS_MAX: usize = 64;
/// The longest key or value of a label, in bytes.
const LABEL_LEN_MAX: usize = 256;
/// The type of an entry that is a namespace of the module plane.
pub const TYPE_MODULE: &str = "module";
/// The longest namespace, in bytes.
const NAMESPACE_LEN_MAX: usize = 256;

/// An entry to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Of which type it is.
    pub kind: String,
    /// How it is run; nothing, if it is a namespace.
    pub definition: Definition,
    /// The namespace of the module plane that it is.
    pub namespace: Option<String>,
    /// What people note about it.
    pub labels: Vec<(String, String)>,
}

impl Registration {
    pub(super) fn from_wire(w: &mut v1::RegistryCall) -> Result<Self, Error> {
        let (kind, labels) = (std::mem::take(&mut w.r#type), std::mem::take(&mut w.labels));
        let namespace = Some(std::mem::take(&mut w.namespace)).filter(|namespace| !namespace.is_empty());
        if namespace.as_ref().is_some_and(|namespace| namespace.len() > NAMESPACE_LEN_MAX) {
            return Err(Error::usage(format!("a namespace has at most {NAMESPACE_LEN_MAX} bytes")));
        }
        let definition = match (w.definition.take(), &namespace) {
            (Some(_), Some(_)) => {
                return Err(Error::usage("a namespace is executed by its members: it has no definition"));
            }
            (None, Some(_)) => Definition::default(),
            (definition, None) => Definition::from_wire(definition.unwrap_or_default())?,
        };
        Ok(Self { kind, definition, namespace, labels: checked_labels(pairs_from_wire(labels))? })
    }

    /// Where no type is said, it is that of what there is.
    pub(super) fn with_kind(self) -> Self {
        if !self.kind.is_empty() {
            return self;
        }
        let kind = if self.namespace.is_some() { TYPE_MODULE } else { self.definition.kind() };
        Self { kind: kind.to_owned(), ..self }
    }

    /// What it is, in a word: the binary, the address, or the namespace.
    pub(super) fn what(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("namespace {namespace}"),
            None => self.definition.what(),
        }
    }
}

/// Labels, if they are not too many or too long.
pub fn checked_labels(labels: Vec<(String, String)>) -> Result<Vec<(String, String)>, Error> {
    if labels.len() > LABELS_MAX {
        return Err(Error::usage(format!("{} labels are more than {LABELS_MAX}", labels.len())));
    }
    match labels.iter().find(|(k, v)| k.is_empty() || k.len().max(v.len()) > LABEL_LEN_MAX) {
        Some((key, _)) => {
            let e = format!("the label {} has no key, or more than {LABEL_LEN_MAX} bytes", quoted(key));
            Err(Error::usage(e))
        }
        None => Ok(labels),
    }
}

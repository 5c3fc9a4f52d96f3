//! Which files a process may reach, where the kernel sees to it (landlock).

use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::proto::v1;

/// The most paths of each kind.
const PATHS_MAX: usize = 64;
/// The longest path, in bytes.
const PATH_LEN_MAX: usize = 4095;

/// What may be reached; everything, if it names nothing. A path stands for all that is below it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Landlock {
    /// Read, and execute.
    pub read: Vec<String>,
    /// The same, and change.
    pub write: Vec<String>,
    /// A kernel without it runs the process all the same.
    pub optional: bool,
}

impl Landlock {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.write.is_empty()
    }

    pub fn check(&self) -> Result<(), Error> {
        if self.is_empty() && self.optional {
            return Err(Error::usage("an optional landlock that names no path").hint("give landlock_read"));
        }
        for paths in [&self.read, &self.write] {
            if paths.len() > PATHS_MAX {
                let what = format!("{} paths of landlock are over the limit of {PATHS_MAX}", paths.len());
                return Err(Error::usage(what));
            }
            for path in paths {
                if !path.starts_with('/') || path.len() > PATH_LEN_MAX || path.contains('\0') {
                    let what = format!("path {} of landlock is not absolute", quoted(path));
                    return Err(Error::usage(what));
                }
            }
        }
        Ok(())
    }

    pub(in crate::wire) fn to_wire(&self) -> Option<v1::Landlock> {
        let (read, write) = (self.read.clone(), self.write.clone());
        (*self != Self::default()).then_some(v1::Landlock { read, write, optional: self.optional })
    }

    pub(in crate::wire) fn from_wire(w: Option<v1::Landlock>) -> Self {
        let w = w.unwrap_or_default();
        Self { read: w.read, write: w.write, optional: w.optional }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_path_is_refused() {
        let of = |read: &[&str], optional| Landlock {
            read: read.iter().map(ToString::to_string).collect(),
            write: Vec::new(),
            optional,
        };
        assert!(of(&["/usr"], true).check().is_ok() && of(&[], false).check().is_ok());
        assert!(of(&[], true).check().is_err() && of(&["usr"], false).check().is_err());
        assert!(of(&["/usr"; PATHS_MAX + 1], false).check().is_err() && of(&["/\0"], false).check().is_err());
        for landlock in [of(&["/usr", "/lib"], true), of(&[], false)] {
            assert_eq!(Landlock::from_wire(landlock.to_wire()), landlock);
        }
    }
}

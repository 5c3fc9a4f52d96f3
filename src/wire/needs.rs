//! What a process needs of others: which, and what becomes of it when they end.

use crate::wire::error::Error;
use crate::wire::id::{Name, quoted};
use crate::wire::proto::{same_variants, v1};

/// The most others that one process names, of each kind.
const NAMES_MAX: usize = 64;

/// Names of processes, or `@GROUP` for all of a group.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Needs {
    /// It starts when these are ready, starts them where they rest, and follows when they end.
    pub requires: Vec<String>,
    /// It starts these where they rest, and starts itself when they are ready or have failed.
    pub wants: Vec<String>,
    /// It starts when those of these that are being started are ready or have failed.
    pub after: Vec<String>,
    pub on_dependency: OnDependency,
    /// The group that it is in.
    pub in_group: Option<String>,
}

/// What becomes of a process when one that it requires ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnDependency {
    /// It is stopped, and started again when that is ready again.
    #[default]
    Restart,
    /// It is stopped, for good.
    Stop,
    /// Nothing.
    Ignore,
}

impl OnDependency {
    pub const ALL: [Self; 3] = [Self::Restart, Self::Stop, Self::Ignore];

    /// As it is written in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Ignore => "ignore",
        }
    }

    pub(in crate::wire) fn to_number(self) -> i32 {
        self.to_wire() as i32
    }
}

same_variants!(OnDependency: Restart, Stop, Ignore);

impl Needs {
    /// All that have to come before it.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.requires.iter().chain(&self.wants).chain(&self.after).map(String::as_str)
    }

    #[must_use]
    pub fn is_none(&self) -> bool {
        self.all().next().is_none()
    }

    pub(in crate::wire) fn check(&self) -> Result<(), Error> {
        for names in [&self.requires, &self.wants, &self.after] {
            if names.len() > NAMES_MAX {
                let e = format!("{} names of what is needed are over the limit of {NAMES_MAX}", names.len());
                return Err(Error::usage(e));
            }
            names.iter().try_for_each(|name| check_name(name.strip_prefix('@').unwrap_or(name)))?;
        }
        self.in_group.as_deref().map_or(Ok(()), check_name)
    }

    pub(in crate::wire) fn from_wire(w: &mut v1::Spec) -> Self {
        let mut take = |names: fn(&mut v1::Spec) -> &mut Vec<String>| std::mem::take(names(w));
        Self {
            requires: take(|w| &mut w.requires),
            wants: take(|w| &mut w.wants),
            after: take(|w| &mut w.after),
            on_dependency: OnDependency::from_wire(w.on_dependency),
            in_group: Some(std::mem::take(&mut w.in_group)).filter(|group| !group.is_empty()),
        }
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    name.parse::<Name>().map(drop).map_err(|_| {
        Error::usage(format!("{} is no name of a process or a group", quoted(name)))
            .hint("letters, digits and . _ @ -; all of a group are @GROUP")
    })
}

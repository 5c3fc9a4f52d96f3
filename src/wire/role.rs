//! What a caller may do, in three steps. Each role may do what the lower ones may.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::str::FromStr;

use crate::sys::socket::{self, PeerCredentials};
use crate::wire::error::Error;
use crate::wire::id::quoted;

/// A role; the lesser one is the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sees how processes are.
    Viewer,
    /// Also reads what they print, and starts and stops those that are defined.
    Operator,
    /// Also defines them, which is to execute anything, and sees and sets their environment.
    Admin,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// As it goes over the command channel; 0 is none.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Viewer => 1,
            Self::Operator => 2,
            Self::Admin => 3,
        }
    }

    /// The role of that number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.number() == number)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            Error::usage(format!("there is no role {}", quoted(text)))
                .hint("roles are viewer, operator, admin")
        })
    }
}

/// The roles of this machine's groups, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupRoles(pub BTreeMap<u32, Role>);

impl GroupRoles {
    /// Whether no group has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the peer of a unix socket may ask for, by what the kernel says: root and the service's own user
    /// everything, others what their groups may. None: nothing.
    #[must_use]
    pub fn of_peer(&self, socket: BorrowedFd<'_>, peer: &PeerCredentials, service_uid: u32) -> Option<Role> {
        if peer.uid == 0 || peer.uid == service_uid {
            return Some(Role::Admin);
        }
        if self.is_empty() {
            return None;
        }
        let more = socket::peer_groups(socket).ok()?;
        self.of(more.into_iter().chain([peer.gid]))
    }

    /// The highest role of these groups.
    #[must_use]
    pub fn of(&self, groups: impl IntoIterator<Item = u32>) -> Option<Role> {
        groups.into_iter().filter_map(|group| self.0.get(&group)).max().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_groups_the_highest_role_counts() {
        let roles = GroupRoles([(7, Role::Viewer), (9, Role::Operator)].into());
        assert_eq!(roles.of([7, 8, 9, 7]), Some(Role::Operator));
        assert_eq!(roles.of([8, 7]), Some(Role::Viewer));
        assert_eq!((roles.of([8]), roles.of([])), (None, None));
    }

    #[test]
    fn the_lower_of_two_is_the_lesser() {
        assert_eq!(Role::Admin.min(Role::Viewer), Role::Viewer);
        assert_eq!(Role::Viewer.max(Role::Operator), Role::Operator);
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
            assert_eq!(Role::from_number(role.number()), Some(role));
        }
        for bad in ["", "root", "Admin", "admin "] {
            assert!(bad.parse::<Role>().is_err(), "{bad:?}");
        }
    }
}

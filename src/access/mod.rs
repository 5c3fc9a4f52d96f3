//! Who may do what: users with their passwords, roles, and the one table of what a role may ask for.

#![forbid(unsafe_code)]

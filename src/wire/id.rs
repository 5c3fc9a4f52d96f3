//! Who a command is about: process identifiers, names, and the targets that people type.

use std::fmt;
use std::str::FromStr;

use uuid::{Uuid, Variant};

use crate::wire::error::{Code, Error};

/// The longest name, in bytes.
pub const NAME_LEN_MAX: usize = 64;
/// The process of the service's own that serves gRPC.
pub const GATEWAY: &str = "provost.gateway";
/// The process of the service's own that applies the configuration when it begins.
pub const APPLY: &str = "provost.apply";
/// What the names of providers' processes begin with.
pub const PROVIDER_PREFIX: &str = "provider.";
/// The same of one that has taken the place of another, which had its name until then; as long as the other.
pub const PROVIDER_SECOND_PREFIX: &str = "provider@";
/// The shortest prefix of a UUID that counts as one.
pub const PREFIX_LEN_MIN: usize = 4;
/// The longest pattern, in bytes: a name with a star between any two characters.
pub const PATTERN_LEN_MAX: usize = 2 * NAME_LEN_MAX + 1;

/// A process, for as long as Provost knows it: a UUID of version 7, given once and kept over restarts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(Uuid);

impl ProcessId {
    /// Whether a client may choose it: nobody else has it then. Ours are of version 7; version 4 is as good,
    /// and is what most languages make.
    #[must_use]
    pub fn can_be_new(&self) -> bool {
        self.0.get_variant() == Variant::RFC4122 && matches!(self.0.get_version_num(), 4 | 7)
    }

    /// The last 8 hexadecimal digits: the random end, since the first ones are a clock.
    #[must_use]
    pub fn short(&self) -> String {
        let text = self.0.simple().to_string();
        text[24..].to_owned()
    }
}

impl fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ProcessId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // Only the hyphenated form: what we print is what we take.
        if text.len() == 36
            && let Ok(uuid) = Uuid::try_parse(text)
        {
            return Ok(Self(uuid));
        }
        Err(Error::usage(format!("{} is not a UUID", quoted(text))))
    }
}

/// One order to upgrade, named by the client that gave it: however often it is asked, it is done once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UpgradeId(Uuid);

/// One order to restart or signal, named by the client that gave it: a process does it once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OrderKey(Uuid);

impl FromStr for OrderKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse::<ProcessId>().map(|id| Self(id.0))
    }
}

/// What these kinds of id have; `$what` is the kind in an error.
macro_rules! uuid_of_16_bytes {
    ($id:ident, $what:literal) => {
        impl $id {
            /// Makes a fresh one; they sort by the time at which they were made.
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            pub(in crate::wire) fn from_wire(bytes: &[u8]) -> Result<Self, Error> {
                let wrong = |_| Error::usage(format!("{} has 16 bytes, not {}", $what, bytes.len()));
                bytes.try_into().map(Self::from_bytes).map_err(wrong)
            }
        }

        impl Default for $id {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_of_16_bytes!(ProcessId, "a process id");
uuid_of_16_bytes!(UpgradeId, "the id of an upgrade");
uuid_of_16_bytes!(OrderKey, "the key of an order");

/// A process's name: `[A-Za-z0-9][A-Za-z0-9._@-]{0,63}`. Safe in paths, tables, logs and shells.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a name for what the service runs for itself.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with("provost.")
    }

    /// Whether it is a name for what the host of providers runs.
    #[must_use]
    pub fn is_of_provider(&self) -> bool {
        self.0.starts_with(PROVIDER_PREFIX) || self.0.starts_with(PROVIDER_SECOND_PREFIX)
    }

    /// The name of instance `n`: `web` becomes `web-2`.
    pub fn instance(&self, n: u32) -> Result<Self, Error> {
        format!("{}-{n}", self.0).parse()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| {
            Err(Error::usage(format!("bad name {}: {why}", quoted(text)))
                .hint("a name is 1 to 64 of A-Z a-z 0-9 . _ @ -, and begins with a letter or a digit"))
        };
        if text.is_empty() {
            return bad("it is empty");
        }
        if text.len() > NAME_LEN_MAX {
            return bad("it is longer than 64 bytes");
        }
        if !text.as_bytes()[0].is_ascii_alphanumeric() {
            return bad("it does not begin with a letter or a digit");
        }
        if let Some(c) = text.chars().find(|&c| !is_name_char(c)) {
            return bad(&format!("it holds {}", quoted(&c.to_string())));
        }
        if text.parse::<ProcessId>().is_ok() {
            return bad("it looks like a UUID");
        }
        Ok(Self(text.to_owned()))
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '-')
}

/// What a person names processes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Id(ProcessId),
    /// A name, or else the beginning of a UUID.
    Name(String),
    /// Any number of stars among the characters of names; or `@GROUP`.
    Pattern(String),
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        // A group: no name begins so.
        if let Some(group) = text.strip_prefix('@') {
            return group.parse::<Name>().map(|_| Self::Pattern(text.to_owned()));
        }
        let odd = text.chars().find(|&c| !is_name_char(c) && c != '*');
        if text.is_empty() || text.len() > PATTERN_LEN_MAX || odd.is_some() {
            let e = Error::usage(format!("bad target {}", quoted(text)));
            return Err(match odd {
                // As supervisord has it.
                Some(':') => e.hint(format!(
                    "instances are called NAME-1, NAME-2: {}",
                    quoted(&text.replace(':', "-"))
                )),
                _ => e.hint("a target is a UUID, the beginning of one, a name, or a pattern with '*'"),
            });
        }
        if text.contains('*') { Ok(Self::Pattern(text.to_owned())) } else { Ok(Self::Name(text.to_owned())) }
    }
}

/// Text from outside, fit for one line of a message: quoted, control characters escaped, cut to 80
/// characters.
#[must_use]
pub fn quoted(text: &str) -> String {
    const CUT: usize = 80;
    let mut out = String::from("'");
    for (n, c) in text.chars().enumerate() {
        if n == CUT {
            out.push_str("...");
            break;
        }
        if c.is_control() || is_bidi(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.push('\'');
    out
}

/// Characters that reorder the line they stand in.
#[must_use]
pub fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The refusal for a target that names nothing.
#[must_use]
pub fn no_such_target(target: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no process {}", quoted(target)))
        .hint("'provost list' shows what there is; to start a new one: provost start -- PROGRAM [ARG...]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "web-1", "A.b_c@d-9", "0", &"x".repeat(64)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".", "/", "../x", "a b", "a\0", "a\n", "é", "a\u{202e}b", "a*", &"x".repeat(65)]
        {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_target_is_told_by_its_form() {
        let id = ProcessId::new();
        assert_eq!(id.to_string().parse::<Target>(), Ok(Target::Id(id)));
        assert_eq!("web-*".parse::<Target>(), Ok(Target::Pattern("web-*".into())));
        assert_eq!("web".parse::<Target>(), Ok(Target::Name("web".into())));
        assert!("a/b".parse::<Target>().is_err());
    }

    #[test]
    fn quoting_keeps_a_message_on_one_line() {
        assert_eq!(quoted("a\n\u{1b}[31m\u{202e}b"), "'a\\n\\u{1b}[31m\\u{202e}b'");
    }
}

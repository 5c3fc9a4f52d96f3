//! Strings as exec(2) takes them: each ends with NUL, one behind the other in one piece of memory, so that a
//! child that was just forked need not take one piece for each.

use std::ffi::CStr;
use std::fmt;

use crate::wire::error::Error;

/// Strings without a NUL inside, each ended by one.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Strings(Vec<u8>);

impl Strings {
    /// None yet, with room for so many bytes, NULs included.
    #[must_use]
    pub fn with_capacity(len: usize) -> Self {
        Self(Vec::with_capacity(len))
    }

    /// What [`Strings::as_bytes`] gave. An error: the last one does not end.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        match bytes.last() {
            None | Some(0) => Ok(Self(bytes)),
            Some(_) => Err(Error::usage("the last string has no end")),
        }
    }

    /// All of them with their ends.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds one string made of these parts. An error: they hold a NUL.
    pub fn push(&mut self, parts: &[&str]) -> Result<(), Error> {
        if parts.iter().any(|part| part.as_bytes().contains(&0)) {
            return Err(Error::usage("a string for a program holds a NUL byte"));
        }
        parts.iter().for_each(|part| self.0.extend_from_slice(part.as_bytes()));
        self.0.push(0);
        Ok(())
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        self.0.split_inclusive(|&b| b == 0).map(|s| CStr::from_bytes_with_nul(s).expect("each ends with NUL"))
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.iter().count()
    }
}

impl fmt::Debug for Strings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_out_as_they_went_in() {
        let mut strings = Strings::default();
        assert_eq!(strings.count(), 0);
        for parts in [&["A", "=", "1"][..], &[""], &["é"]] {
            strings.push(parts).unwrap();
        }
        assert!(strings.push(&["a\0b"]).is_err());
        let again = Strings::from_bytes(strings.as_bytes().to_vec()).unwrap();
        assert_eq!(again, strings);
        let texts: Vec<_> = again.iter().map(|s| s.to_str().unwrap()).collect();
        assert_eq!(texts, ["A=1", "", "é"]);
        assert!(Strings::from_bytes(b"a\0b".to_vec()).is_err());
    }
}

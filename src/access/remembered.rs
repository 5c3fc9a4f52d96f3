//! What a connection has proven already, so that its next call costs microseconds instead of a hash. Kept are
//! tags of whole headers under a key of this process: nothing from which a password could be got.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use crate::access::basic;
use crate::access::throttle::Key;
use crate::access::verifier::{Denied, Verifier};

/// The most logins of one connection.
const ENTRIES_MAX: usize = 4;

pub struct Remembered {
    verifier: Arc<Verifier>,
    entries: Mutex<VecDeque<Entry>>,
    /// Held while a password is looked at, which is long: calls that come together have the same login, and
    /// the first of them has it looked at for all. Nobody else waits for it.
    looking: Mutex<()>,
}

struct Entry {
    tag: Key,
    user: Arc<str>,
    /// Of the users among which this one was.
    generation: u64,
}

impl Remembered {
    #[must_use]
    pub fn new(verifier: Arc<Verifier>) -> Self {
        Self { verifier, entries: Mutex::default(), looking: Mutex::default() }
    }

    /// The user of a header that was right before, if the users are still the same. Does not wait.
    #[must_use]
    pub fn recall(&self, header: &[u8]) -> Option<Arc<str>> {
        let (tag, generation) = (self.tag(header)?, self.verifier.generation());
        let entries = self.entries.lock();
        // All of them: where it stands is not told by the time either.
        let found = entries.iter().fold(None, |found, entry| {
            let is_same = bool::from(entry.tag.ct_eq(&tag)) && entry.generation == generation;
            if is_same { Some(&entry.user) } else { found }
        });
        found.cloned()
    }

    /// Whether a header would be looked at now, as far as that is known at once. Does not wait.
    pub fn may_try(&self, source: &str, header: &[u8], now_ms: u64) -> Result<(), Denied> {
        let login = basic::parse(header).ok_or(Denied::Wrong)?;
        self.verifier.may_try(source, &login.user, now_ms)
    }

    /// Checks a header, and remembers it when it is right. Waits as [`Verifier::verify`] does, and for others
    /// of this connection.
    pub fn verify(&self, source: &str, header: &[u8], now_ms: u64) -> Result<Arc<str>, Denied> {
        let _looking = self.looking.lock();
        if let Some(user) = self.recall(header) {
            return Ok(user);
        }
        // Before the check: should the users change meanwhile, it is not remembered for the new ones.
        let generation = self.verifier.generation();
        let tag = self.tag(header).ok_or(Denied::Wrong)?;
        let login = basic::parse(header).ok_or(Denied::Wrong)?;
        self.verifier.verify(source, &login.user, &login.password, now_ms)?;
        let user: Arc<str> = login.user.into();
        let mut entries = self.entries.lock();
        entries.retain(|entry| entry.tag != tag && entry.generation == generation);
        if entries.len() >= ENTRIES_MAX {
            entries.pop_front();
        }
        entries.push_back(Entry { tag, user: user.clone(), generation });
        Ok(user)
    }

    fn tag(&self, header: &[u8]) -> Option<Key> {
        (header.len() <= basic::HEADER_LEN_MAX).then(|| self.verifier.tag(&[header]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::password::{Hash, Memory, Password};
    use crate::access::users::Users;
    use crate::wire::json::base64;

    fn header(user: &str, password: &str) -> Vec<u8> {
        format!("Basic {}", base64(format!("{user}:{password}").as_bytes())).into_bytes()
    }

    fn users(names: &[&str]) -> Users {
        let mut users = Users::default();
        for name in names {
            let password = Password::chosen(&format!("password of {name}")).unwrap();
            users.set(name.parse().unwrap(), Hash::new(&password, &mut Memory::default()).unwrap()).unwrap();
        }
        users
    }

    #[test]
    fn only_what_was_right_is_remembered_and_only_by_this_connection() {
        let verifier = Arc::new(Verifier::new(users(&["ann", "bob"])).unwrap());
        let (one, two) = (Remembered::new(verifier.clone()), Remembered::new(verifier));
        let ann = header("ann", "password of ann");
        assert_eq!(one.recall(&ann), None);
        assert_eq!(one.verify("c", &header("ann", "password of bob"), 0), Err(Denied::Wrong));
        assert_eq!(one.recall(&header("ann", "password of bob")), None);
        assert_eq!(one.verify("c", &ann, 0).as_deref(), Ok("ann"));
        assert_eq!(one.recall(&ann).as_deref(), Some("ann"));
        assert_eq!(one.recall(&header("bob", "password of ann")), None);
        assert_eq!(one.recall(&ann[..ann.len() - 1]), None);
        assert_eq!(two.recall(&ann), None);
        for bad in [&b""[..], b"Basic", &vec![b'x'; 2000]] {
            assert_eq!((one.recall(bad), one.verify("c", bad, 0)), (None, Err(Denied::Wrong)));
        }
    }

    #[test]
    fn it_is_forgotten_when_the_users_change_and_when_there_are_more() {
        let names = ["a1", "a2", "a3", "a4", "a5"];
        let all = users(&names);
        let verifier = Arc::new(Verifier::new(all.clone()).unwrap());
        let one = Remembered::new(verifier.clone());
        let headers = names.map(|name| header(name, &format!("password of {name}")));
        for header in &headers {
            one.verify("c", header, 0).unwrap();
        }
        one.verify("c", &headers[4], 0).unwrap();
        assert_eq!(headers.each_ref().map(|h| one.recall(h).is_some()), [false, true, true, true, true]);
        verifier.replace(all.clone());
        assert!(one.recall(&headers[1]).is_some(), "they are the same");
        let mut fewer = all;
        fewer.remove("a2");
        verifier.replace(fewer);
        assert_eq!(headers.each_ref().map(|h| one.recall(h)), [None, None, None, None, None]);
        assert_eq!(one.verify("c", &headers[1], 0), Err(Denied::Wrong));
        assert_eq!(one.verify("c", &headers[2], 0).as_deref(), Ok("a3"));
    }
}

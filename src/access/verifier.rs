//! Whether a password is that of a user. Hashing is slow and takes 19 MiB on purpose, so few hashes are
//! calculated at a time, few callers wait, and one that fails again and again is locked out for a while.
//! Neither the answer nor the time it takes tells whether there is such a user.

use std::num::NonZero;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use ring::hmac;

use crate::access::password::{Hash, Memory, Password, random};
use crate::access::throttle::{FailureCounter, Key, Login, Throttle};
use crate::access::users::Users;
use crate::sys::thread;
use crate::wire::error::{Code, Error};

/// The most hashes that are calculated at a time, on half of the processors: 76 MiB at most.
const MEMORIES_MAX: usize = 4;
/// The most callers that wait for one of them.
const WAITING_MAX: usize = 64;
/// Failures in a row that a certificate has free with a user.
const FREE_OF_PAIR: u32 = 5;
/// Failures in a row that a user has free over all certificates. There are more of these, so that guessing
/// does not lock out the user.
const FREE_OF_USER: u32 = 25;

/// Why a login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// There is no such user, the password is wrong, or it was no login at all.
    Wrong,
    /// There were too many failures; nothing was looked at.
    Throttled {
        /// When to come again.
        for_ms: u64,
    },
    /// Too many are waiting.
    Busy,
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Wrong => Self::new(Code::Refused, "wrong user or password")
                .hint("on the service's host: 'provost user list', 'provost user passwd NAME'"),
            Denied::Throttled { for_ms } => {
                let seconds = for_ms.div_ceil(1000);
                Self::new(Code::Refused, "too many wrong passwords").hint(format!("try again in {seconds} s"))
            }
            Denied::Busy => {
                Self::new(Code::Refused, "too many passwords are being checked").hint("try again")
            }
        }
    }
}

/// See the module. One for the whole process.
pub struct Verifier {
    users: Mutex<Known>,
    /// What a password is compared with when there is no such user.
    decoy: Hash,
    memories: Memories,
    throttle: Mutex<Throttle>,
    /// For tags of what must not be kept itself.
    key: hmac::Key,
}

/// Users, and how many others there were before them.
struct Known {
    users: Arc<Users>,
    generation: u64,
}

impl Verifier {
    pub fn new(users: Users) -> Result<Self, Error> {
        Ok(Self {
            users: Mutex::new(Known { users: Arc::new(users), generation: 0 }),
            decoy: Hash::decoy()?,
            memories: Memories::new(),
            throttle: Mutex::default(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()?),
        })
    }

    /// From now on these users count; what was remembered of others is forgotten.
    pub fn replace(&self, users: Users) {
        let mut known = self.users.lock();
        if *known.users != users {
            *known = Known { users: Arc::new(users), generation: known.generation + 1 };
        }
    }

    /// Waits for its turn and calculates, some 20 ms: for threads that may be held up. `source` is the
    /// caller, as far as that is proven; the time is monotonic.
    pub fn verify(&self, source: &str, user: &str, password: &Password, now_ms: u64) -> Result<(), Denied> {
        let login = self.login(source, user);
        self.check(&login, now_ms)?;
        let mut borrowed = self.memories.take().ok_or(Denied::Busy)?;
        // Logins before this one may have failed.
        self.check(&login, now_ms)?;
        let users = self.users();
        let hash = users.get(user);
        let fits = || hash.unwrap_or(&self.decoy).fits(password, &mut borrowed.memory);
        let fits = thread::behind_others("password", fits).map_err(|_| Denied::Busy)?;
        if fits && hash.is_some() {
            self.throttle.lock().succeeded(&login, now_ms);
            Ok(())
        } else {
            self.throttle.lock().failed(&login, now_ms);
            Err(Denied::Wrong)
        }
    }

    /// Whether a login would be looked at now. Does not wait.
    pub fn may_try(&self, source: &str, user: &str, now_ms: u64) -> Result<(), Denied> {
        self.check(&self.login(source, user), now_ms)
    }

    fn check(&self, login: &Login, now_ms: u64) -> Result<(), Denied> {
        match self.throttle.lock().locked(login, now_ms) {
            Some(for_ms) => Err(Denied::Throttled { for_ms }),
            None => Ok(()),
        }
    }

    fn login(&self, source: &str, user: &str) -> Login {
        Login {
            pair: FailureCounter { key: self.tag(&[source, user]), free: FREE_OF_PAIR },
            user: FailureCounter { key: self.tag(&[user]), free: FREE_OF_USER },
            // Of as many parts as no other.
            source: self.tag(&[source, "", ""]),
        }
    }

    /// Those that count now.
    pub fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.lock().users)
    }

    /// Changes when the users do.
    pub fn generation(&self) -> u64 {
        self.users.lock().generation
    }

    /// A tag of these parts that only this process can make, and from which nothing can be read.
    pub(super) fn tag(&self, parts: &[impl AsRef<[u8]>]) -> Key {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&part.as_ref().len().to_le_bytes());
            context.update(part.as_ref());
        }
        context.sign().as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }
}

/// The memory of those that calculate: 19 MiB each while they do. What was used last is taken first.
struct Memories {
    state: Mutex<Free>,
    freed: Condvar,
}

struct Free {
    memories: Vec<Memory>,
    waiting: usize,
}

/// One of them, until it is dropped.
struct Borrowed<'a> {
    memory: Memory,
    lender: &'a Memories,
}

impl Memories {
    fn new() -> Self {
        // The other processors are for those who are in already.
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let count = (processors / 2).clamp(1, MEMORIES_MAX);
        let memories = (0..count).map(|_| Memory::default()).collect();
        Self { state: Mutex::new(Free { memories, waiting: 0 }), freed: Condvar::new() }
    }

    /// None when too many wait already.
    fn take(&self) -> Option<Borrowed<'_>> {
        let mut state = self.state.lock();
        if state.memories.is_empty() {
            if state.waiting >= WAITING_MAX {
                return None;
            }
            state.waiting += 1;
            self.freed.wait_while(&mut state, |state| state.memories.is_empty());
            state.waiting -= 1;
        }
        let memory = state.memories.pop().expect("it was waited for");
        Some(Borrowed { memory, lender: self })
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut state = self.lender.state.lock();
        // The next one goes on in it; without a next one it is given back.
        let memory = if state.waiting > 0 { std::mem::take(&mut self.memory) } else { Memory::default() };
        state.memories.push(memory);
        drop(state);
        self.lender.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn password(text: &str) -> Password {
        Password::offered(text).unwrap()
    }

    fn verifier() -> Verifier {
        let mut users = Users::default();
        let hash = Hash::new(&password("correct horse"), &mut Memory::default()).unwrap();
        users.set("ann".parse().unwrap(), hash).unwrap();
        Verifier::new(users).unwrap()
    }

    #[test]
    fn users_are_replaced_at_once() {
        let verifier = verifier();
        let right = password("correct horse");
        assert_eq!(verifier.verify("c", "ann", &right, 0), Ok(()));
        assert_eq!(verifier.verify("c", "ann", &password("battery staple"), 0), Err(Denied::Wrong));
        assert_eq!(verifier.verify("c", "bob", &right, 0), Err(Denied::Wrong));
        let same = (*verifier.users.lock().users).clone();
        verifier.replace(same);
        assert_eq!(verifier.generation(), 0);
        verifier.replace(Users::default());
        assert_eq!(verifier.generation(), 1);
        assert_eq!(verifier.verify("c", "ann", &right, 0), Err(Denied::Wrong));
    }

    /// G28: a thousand wrong passwords cost five hashes, and no one else their way in.
    #[test]
    fn g28_guessing_is_throttled() {
        for user in ["ann", "nobody"] {
            let verifier = verifier();
            let begin = Instant::now();
            let mut counts = (0, 0);
            for n in 0..1000 {
                match verifier.verify("eve.example", user, &password(&format!("guess {n}")), n) {
                    Err(Denied::Wrong) => counts.0 += 1,
                    Err(Denied::Throttled { for_ms }) => {
                        assert!((1..=1000).contains(&for_ms), "{for_ms}");
                        counts.1 += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(counts, (5, 995), "{user}");
            assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
            let locked = verifier.verify("eve.example", "ann", &password("correct horse"), 999);
            let other = verifier.verify("ann.example", "ann", &password("correct horse"), 999);
            assert_eq!((locked.is_ok(), other), (user != "ann", Ok(())));
            assert_eq!(verifier.verify("eve.example", "ann", &password("correct horse"), 60_000), Ok(()));
        }
    }

    #[test]
    fn a_user_is_locked_over_all_certificates_too() {
        let verifier = verifier();
        for n in 0..FREE_OF_USER {
            assert_eq!(verifier.verify(&format!("c{n}"), "ann", &password("x"), 0), Err(Denied::Wrong));
        }
        let one_more = verifier.verify("another", "ann", &password("x"), 0);
        assert_eq!(one_more, Err(Denied::Throttled { for_ms: 1000 }));
    }

    /// G28: an unknown user takes as much time on the processor as a wrong password.
    #[test]
    fn g28_unknown_users_take_the_same_time() {
        /// Of this thread so far, ns: what else the machine does is not in it.
        fn processor_ns() -> u64 {
            let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
            text.split(' ').next().unwrap().parse().unwrap()
        }
        let verifier = verifier();
        let time = |user: &str, n: u32| {
            let begin = processor_ns();
            let denied = verifier.verify(&format!("source {n}"), user, &password("wrong"), 0);
            assert_eq!(denied, Err(Denied::Wrong));
            processor_ns() - begin
        };
        time("ann", 0);
        let (mut known, mut unknown): (Vec<_>, Vec<_>) =
            (1..=20).map(|n| (time("ann", n), time("nobody", n))).unzip();
        known.sort_unstable();
        unknown.sort_unstable();
        let (known, unknown) = (known[5], unknown[5]);
        assert!(
            (0.7..1.4).contains(&(known as f64 / unknown as f64)),
            "known {known} ns, unknown {unknown} ns"
        );
    }

    /// G28: many at once take turns, share few pieces of memory, and beyond the queue are told so.
    #[test]
    fn g28_many_at_once() {
        let verifier = verifier();
        let (right, count) = (password("correct horse"), verifier.memories.state.lock().memories.len());
        let answers: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..100)
                .map(|n| {
                    let (verifier, right) = (&verifier, &right);
                    scope.spawn(move || verifier.verify(&format!("c{n}"), "ann", right, 0))
                })
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let (right, busy): (Vec<&Result<(), Denied>>, Vec<_>) =
            answers.iter().partition(|answer| answer.is_ok());
        assert!(right.len() >= count + WAITING_MAX, "{} were right", right.len());
        assert!(busy.iter().all(|answer| **answer == Err(Denied::Busy)), "{busy:?}");
        assert_eq!(verifier.memories.state.lock().memories.len(), count);
    }
}

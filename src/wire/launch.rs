//! Everything a child needs between fork and exec, resolved: nothing is looked up there. The engine lays it
//! into the process's memory, and the child reads it where it lies: words of 64 bits, then the strings as
//! exec takes them. So a process that was just forked takes no memory and touches little code, each page of
//! which would cost it a fault.
//!
//! ```text
//! words of the head, flags, uid, gid, umask, nice, oom_score_adj,           head
//! limits, groups, bytes of argv, of env, of candidates, of cwd,
//! of readable and writable paths, of guarded candidates
//! limits (resource, soft, hard) and groups, a word each
//! argv, env, candidates, cwd, readable, writable, guarded candidates, each string ended by NUL
//! ```
//!
//! A newer engine may make the head longer; what a keeper does not know it passes over. What must not be
//! passed over has the candidates in another place, where such a keeper does not look: it finds nothing that
//! it could execute.

use crate::wire::error::Error;
use crate::wire::strings::Strings;

/// Words of the head.
const HEAD: usize = 16;
/// Those of the first form of it.
const HEAD_MIN: u64 = 13;
/// The most words of a head, of limits and of groups that are believed.
const VALUES_MAX: u64 = 1 << 17;
const VALUE_LEN: usize = 8;

const HAS_UID: u64 = 1;
const HAS_GID: u64 = 1 << 1;
const HAS_GROUPS: u64 = 1 << 2;
const HAS_UMASK: u64 = 1 << 3;
const HAS_NICE: u64 = 1 << 4;
const HAS_OOM: u64 = 1 << 5;
const NO_NEW_PRIVS: u64 = 1 << 6;
const BY_DESCRIPTOR: u64 = 1 << 7;
const LANDLOCK_OPTIONAL: u64 = 1 << 8;
const MERGE_STREAMS: u64 = 1 << 9;
const OUTLIVES: u64 = 1 << 10;

/// The launch of one run, as the engine makes it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Launch {
    pub argv: Strings,
    pub env: Strings,
    /// Absolute, or empty for none.
    pub cwd: String,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// `None`: leave them as they are.
    pub groups: Option<Vec<u32>>,
    pub umask: Option<u32>,
    pub nice: Option<i32>,
    pub oom_score_adj: Option<i32>,
    pub no_new_privs: bool,
    /// Resource number, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// The program is an open file, which the child was given. There are no candidates then, so that a keeper
    /// that does not know of this executes nothing.
    pub by_descriptor: bool,
    /// Paths below which it may read and execute. Where there are any, or any writable ones, nothing else can
    /// be reached.
    pub readable: Strings,
    /// Paths below which it may also change things.
    pub writable: Strings,
    /// It may be executed also where the kernel cannot see to that.
    pub landlock_optional: bool,
    /// Standard error is the pipe of standard output.
    pub merge_streams: bool,
    /// It is to go on writing when nobody of ours reads.
    pub outlives: bool,
    /// Paths to try, in order.
    pub candidates: Strings,
}

impl Launch {
    /// As it is laid down.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut cwd = Strings::default();
        cwd.push(&[&self.cwd])?;
        let none = Strings::default();
        let is_guarded = self.is_confined() && !self.landlock_optional;
        let (candidates, guarded) =
            if is_guarded { (&none, &self.candidates) } else { (&self.candidates, &none) };
        let strings = [&self.argv, &self.env, candidates, &cwd, &self.readable, &self.writable, guarded];
        let groups = self.groups.as_deref().unwrap_or_default();
        let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
        let head: [u64; HEAD] = [
            HEAD as u64,
            flag(self.uid.is_some(), HAS_UID)
                | flag(self.gid.is_some(), HAS_GID)
                | flag(self.groups.is_some(), HAS_GROUPS)
                | flag(self.umask.is_some(), HAS_UMASK)
                | flag(self.nice.is_some(), HAS_NICE)
                | flag(self.oom_score_adj.is_some(), HAS_OOM)
                | flag(self.no_new_privs, NO_NEW_PRIVS)
                | flag(self.by_descriptor, BY_DESCRIPTOR)
                | flag(self.landlock_optional, LANDLOCK_OPTIONAL)
                | flag(self.merge_streams, MERGE_STREAMS)
                | flag(self.outlives, OUTLIVES),
            self.uid.unwrap_or(0).into(),
            self.gid.unwrap_or(0).into(),
            self.umask.unwrap_or(0).into(),
            i64::from(self.nice.unwrap_or(0)).cast_unsigned(),
            i64::from(self.oom_score_adj.unwrap_or(0)).cast_unsigned(),
            self.rlimits.len() as u64,
            groups.len() as u64,
            strings[0].as_bytes().len() as u64,
            strings[1].as_bytes().len() as u64,
            strings[2].as_bytes().len() as u64,
            strings[3].as_bytes().len() as u64,
            strings[4].as_bytes().len() as u64,
            strings[5].as_bytes().len() as u64,
            strings[6].as_bytes().len() as u64,
        ];
        let limits = self.rlimits.iter().flat_map(|&(resource, soft, hard)| [resource.into(), soft, hard]);
        let values = head.into_iter().chain(limits).chain(groups.iter().map(|&g| g.into()));
        let text_len: usize = strings.iter().map(|s| s.as_bytes().len()).sum();
        let mut bytes =
            Vec::with_capacity(text_len + VALUE_LEN * (HEAD + 3 * self.rlimits.len() + groups.len()));
        values.for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        strings.iter().for_each(|s| bytes.extend_from_slice(s.as_bytes()));
        Ok(bytes)
    }

    fn is_confined(&self) -> bool {
        !self.readable.as_bytes().is_empty() || !self.writable.as_bytes().is_empty()
    }
}

/// A launch where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Laid<'m> {
    head: &'m [u8],
    limits: &'m [u8],
    groups: &'m [u8],
    /// Each ended by NUL.
    pub argv: &'m [u8],
    /// KEY=VALUE, each ended by NUL.
    pub env: &'m [u8],
    /// Each ended by NUL.
    pub candidates: &'m [u8],
    pub cwd: &'m [u8],
    /// Each ended by NUL.
    pub readable: &'m [u8],
    /// Each ended by NUL.
    pub writable: &'m [u8],
}

impl<'m> Laid<'m> {
    /// Finds the parts of what [`Launch::encode`] made. `None`: it is something else.
    #[must_use]
    pub fn find(bytes: &'m [u8]) -> Option<Self> {
        let head_words = value(bytes, 0)?;
        if !(HEAD_MIN..=VALUES_MAX).contains(&head_words) {
            return None;
        }
        let mut rest = bytes;
        let mut take = |len: u64| {
            let (part, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            rest = after;
            Some(part)
        };
        let values = |n: u64, each: u64| (n <= VALUES_MAX).then(|| n * each * VALUE_LEN as u64);
        let head = take(values(head_words, 1)?)?;
        let limits = take(values(value(head, 7)?, 3)?)?;
        let groups = take(values(value(head, 8)?, 1)?)?;
        let argv = take(value(head, 9)?)?;
        let env = take(value(head, 10)?)?;
        let candidates = take(value(head, 11)?)?;
        let cwd = take(value(head, 12)?)?;
        let mut later = |at: usize| take(value(head, at).unwrap_or(0));
        let (readable, writable, guarded) = (later(13)?, later(14)?, later(15)?);
        let candidates = if candidates.is_empty() { guarded } else { candidates };
        let is_ended = |strings: &[u8]| strings.last().is_none_or(|&b| b == 0);
        let all = [argv, env, candidates, cwd, readable, writable];
        let all_ended = all.into_iter().all(is_ended) && !cwd.is_empty();
        all_ended.then_some(Self { head, limits, groups, argv, env, candidates, cwd, readable, writable })
    }

    fn flagged(&self, flag: u64) -> bool {
        value(self.head, 1).is_some_and(|flags| flags & flag != 0)
    }

    fn value(&self, flag: u64, at: usize) -> Option<u64> {
        value(self.head, at).filter(|_| self.flagged(flag))
    }

    /// The user to become.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.value(HAS_UID, 2).map(low)
    }

    /// The group to become.
    #[must_use]
    pub fn gid(&self) -> Option<u32> {
        self.value(HAS_GID, 3).map(low)
    }

    /// The mask of permissions of new files.
    #[must_use]
    pub fn umask(&self) -> Option<u32> {
        self.value(HAS_UMASK, 4).map(low)
    }

    #[must_use]
    pub fn nice(&self) -> Option<i32> {
        self.value(HAS_NICE, 5).map(|n| low(n).cast_signed())
    }

    /// What the kernel adds when it looks for a process to kill.
    #[must_use]
    pub fn oom_score_adj(&self) -> Option<i32> {
        self.value(HAS_OOM, 6).map(|n| low(n).cast_signed())
    }

    /// Whether no exec may give more rights.
    #[must_use]
    pub fn no_new_privs(&self) -> bool {
        self.flagged(NO_NEW_PRIVS)
    }

    /// Whether the program is an open file that the child was given.
    #[must_use]
    pub fn by_descriptor(&self) -> bool {
        self.flagged(BY_DESCRIPTOR)
    }

    /// Whether it may be executed without landlock, where paths for it are given.
    #[must_use]
    pub fn landlock_optional(&self) -> bool {
        self.flagged(LANDLOCK_OPTIONAL)
    }

    /// Whether standard error is the pipe of standard output.
    #[must_use]
    pub fn merge_streams(&self) -> bool {
        self.flagged(MERGE_STREAMS)
    }

    /// Whether it is to go on writing when nobody of ours reads.
    #[must_use]
    pub fn outlives(&self) -> bool {
        self.flagged(OUTLIVES)
    }

    /// Supplementary groups; `None`: as they are.
    #[must_use]
    pub fn groups(&self) -> Option<Vec<u32>> {
        self.flagged(HAS_GROUPS).then(|| values(self.groups).map(low).collect())
    }

    /// Resource number, soft, hard.
    pub fn rlimits(&self) -> impl Iterator<Item = (u32, u64, u64)> {
        let all = self.limits;
        (0..all.len() / (3 * VALUE_LEN)).filter_map(move |n| {
            Some((low(value(all, 3 * n)?), value(all, 3 * n + 1)?, value(all, 3 * n + 2)?))
        })
    }

    /// As the engine made it.
    pub fn to_launch(self) -> Result<Launch, Error> {
        let cwd = self.cwd.strip_suffix(&[0]).unwrap_or(self.cwd);
        Ok(Launch {
            argv: Strings::from_bytes(self.argv.to_vec())?,
            env: Strings::from_bytes(self.env.to_vec())?,
            cwd: String::from_utf8_lossy(cwd).into_owned(),
            uid: self.uid(),
            gid: self.gid(),
            groups: self.groups(),
            umask: self.umask(),
            nice: self.nice(),
            oom_score_adj: self.oom_score_adj(),
            no_new_privs: self.no_new_privs(),
            rlimits: self.rlimits().collect(),
            by_descriptor: self.by_descriptor(),
            readable: Strings::from_bytes(self.readable.to_vec())?,
            writable: Strings::from_bytes(self.writable.to_vec())?,
            landlock_optional: self.landlock_optional(),
            merge_streams: self.merge_streams(),
            outlives: self.outlives(),
            candidates: Strings::from_bytes(self.candidates.to_vec())?,
        })
    }
}

fn value(values: &[u8], at: usize) -> Option<u64> {
    values.get(at * VALUE_LEN..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn values(bytes: &[u8]) -> impl Iterator<Item = u64> {
    (0..bytes.len() / VALUE_LEN).filter_map(|n| value(bytes, n))
}

/// The lower half: what was 32 bits wide.
#[expect(clippy::cast_possible_truncation, reason = "the upper half is the sign, or nothing")]
fn low(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Launch {
        let mut launch = Launch {
            cwd: "/tmp".into(),
            uid: Some(7),
            gid: Some(u32::MAX),
            groups: Some(vec![1, 2, 3]),
            umask: Some(0o27),
            nice: Some(-5),
            oom_score_adj: Some(-1000),
            no_new_privs: true,
            by_descriptor: true,
            merge_streams: true,
            outlives: true,
            rlimits: vec![(7, 1, u64::MAX), (0, 2, 3)],
            ..Launch::default()
        };
        launch.argv.push(&["prog"]).unwrap();
        launch.argv.push(&[""]).unwrap();
        launch.env.push(&["A=", "1"]).unwrap();
        launch.candidates.push(&["/bin/prog"]).unwrap();
        launch
    }

    fn confined(landlock_optional: bool) -> Launch {
        let mut launch = Launch { landlock_optional, ..full() };
        launch.readable.push(&["/usr"]).unwrap();
        launch.writable.push(&["/tmp"]).unwrap();
        launch
    }

    #[test]
    fn what_is_laid_is_found() {
        let least = Launch { cwd: "/".into(), ..Launch::default() };
        for launch in [full(), least, confined(false), confined(true)] {
            let bytes = launch.encode().unwrap();
            assert_eq!(Laid::find(&bytes).unwrap().to_launch().unwrap(), launch);
        }
    }

    /// As an engine from before it could be confined has laid it.
    #[test]
    fn a_shorter_head_is_whole_and_what_knows_no_more_finds_no_program_where_that_matters() {
        let short = |launch: &Launch| {
            let mut bytes = launch.encode().unwrap();
            bytes.drain(13 * VALUE_LEN..HEAD * VALUE_LEN);
            bytes[0] = 13;
            bytes
        };
        assert_eq!(Laid::find(&short(&full())).unwrap().to_launch().unwrap(), full());
        assert!(Laid::find(&short(&confined(false))).unwrap().candidates.is_empty());
        assert_eq!(Laid::find(&short(&confined(true))).unwrap().candidates, b"/bin/prog\0");
    }

    #[test]
    fn a_longer_head_is_passed_over_and_damage_is_found() {
        let bytes = full().encode().unwrap();
        let mut longer = bytes.clone();
        longer.splice(HEAD * VALUE_LEN..HEAD * VALUE_LEN, [1; 16]);
        longer[0] += 2;
        assert_eq!(Laid::find(&longer).unwrap().to_launch().unwrap(), full());
        for len in 0..bytes.len() {
            assert!(Laid::find(&bytes[..len]).is_none(), "cut to {len}");
        }
        for at in 0..HEAD * VALUE_LEN {
            let mut damaged = bytes.clone();
            damaged[at] = 0xff;
            // Found or not: no panic, and nothing beyond the bytes.
            let _ = Laid::find(&damaged).map(Laid::to_launch);
        }
    }
}

//! An order to upgrade, as the engine sees it: it looks at the binary, hands it to the keeper and is killed.
//! The next engine, old or new, is asked the same by the same client, and tells what the keeper told it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::engine::context::ending;
use crate::engine::service::engine::{Answer, Asked, Engine};
use crate::engine::service::upgrades::DECIDED_MS;
use crate::listener::{Replies, Woken};
use crate::sys::{O_NONBLOCK, clock};
use crate::wire::error::{Code, Error};
use crate::wire::id::{UpgradeId, quoted};
use crate::wire::keeper::ToKeeper;
use crate::wire::reply::{Reply, Upgraded};
use crate::wire::request::Upgrade;
use crate::wire::upgrade::{UpgradeOutcome, UpgradeResult};

/// What an ELF file begins with.
const ELF: [u8; 4] = *b"\x7fELF";

/// What to do about an order, given what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Ask,
    Wait,
    Answer(UpgradeOutcome),
    Refuse,
}

fn next(id: UpgradeId, asked: bool, last: Option<UpgradeOutcome>) -> Next {
    match last {
        Some(ours) if ours.id == id && ours.result == UpgradeResult::Undecided => Next::Wait,
        Some(ours) if ours.id == id => Next::Answer(ours),
        _ if asked => Next::Wait,
        Some(other) if other.result == UpgradeResult::Undecided => Next::Refuse,
        Some(_) | None => Next::Ask,
    }
}

impl Engine {
    pub(super) fn upgrade(&self, r: &Upgrade, asked: &Asked, replies: &mut Replies<'_>) -> Answer {
        // The engine that gives the order does not live to write that it was asked.
        self.recorded(asked.write_seq, replies)?;
        let deadline = clock::now_ms() + DECIDED_MS;
        let mut is_asked = false;
        loop {
            match next(r.id, is_asked, self.upgrades.watch(replies.waker())) {
                Next::Answer(outcome) => return Ok(answer(outcome)?),
                Next::Refuse => {
                    let e = Error::new(Code::Refused, "another upgrade is in progress");
                    return Err(e
                        .hint("ask again when it is over; 'provost version' shows what runs")
                        .into());
                }
                Next::Ask => {
                    self.ask_keeper(r)?;
                    is_asked = true;
                }
                Next::Wait => {}
            }
            if replies.wait(Some(deadline))? == Woken::Deadline {
                let e = format!("the upgrade is not decided after {} s", DECIDED_MS / 1000);
                return Err(Error::new(Code::TimedOut, e).hint("see what 'provost version' shows").into());
            }
        }
    }

    fn ask_keeper(&self, r: &Upgrade) -> Result<(), Error> {
        if self.context.is_stopping() {
            return Err(ending());
        }
        let path = r.path.as_deref().map(Path::new).or(self.exe.as_deref()).ok_or_else(|| {
            Error::new(Code::Refused, "the path that the service was started from is not known")
                .hint("name the binary: provost upgrade --to PATH")
        })?;
        let binary = open(path)?;
        self.context
            .link
            .send(&ToKeeper::Upgrade { id: r.id }, &[binary.as_fd()])
            .map_err(|e| Error::failed("tell the keeper of the upgrade", &e))
    }
}

/// Opens a binary and refuses what is plainly none. What was looked at is what is executed, whatever happens
/// to the path.
fn open(path: &Path) -> Result<File, Error> {
    let refused = |why: String| {
        let path = quoted(&path.to_string_lossy());
        Error::new(Code::Refused, format!("cannot upgrade to {path}: {why}; nothing was changed"))
    };
    if !path.is_absolute() {
        return Err(Error::usage(format!("{} is not an absolute path", quoted(&path.to_string_lossy()))));
    }
    let cannot = |e: io::Error| refused(e.to_string());
    // A pipe in its place must not make us wait for a writer.
    let mut file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    if !meta.is_file() {
        return Err(refused("it is not a regular file".into()));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(refused("it is not executable".into()));
    }
    let mut magic = [0; ELF.len()];
    match file.read_exact(&mut magic) {
        Ok(()) if magic == ELF => Ok(file),
        Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => Err(cannot(e)),
        Ok(()) | Err(_) => Err(refused("it is not a binary of this system (ELF)".into())),
    }
}

fn answer(outcome: UpgradeOutcome) -> Result<Reply, Error> {
    match outcome.result {
        UpgradeResult::Done => {
            let path = fs::read_link("/proc/self/exe").unwrap_or_default();
            Ok(Reply::Upgraded(Upgraded {
                before: outcome.before.text(),
                after: env!("CARGO_PKG_VERSION").to_owned(),
                path: path.to_string_lossy().into_owned(),
            }))
        }
        result => {
            let e = Error::new(Code::Failed, format!("not upgraded: {}", result.describe()));
            Err(e.hint("what the new binary said is on the standard error of 'provost serve'"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::upgrade::Version;

    #[test]
    fn an_order_is_given_once_and_answered_by_its_own_outcome() {
        let (ours, theirs) = (UpgradeId::new(), UpgradeId::new());
        let outcome = |id, result| UpgradeOutcome { id, result, before: Version::ours() };
        assert_eq!(next(ours, false, None), Next::Ask);
        assert_eq!(next(ours, true, None), Next::Wait);
        assert_eq!(next(ours, false, Some(outcome(theirs, UpgradeResult::Done))), Next::Ask);
        assert_eq!(next(ours, true, Some(outcome(theirs, UpgradeResult::Done))), Next::Wait);
        assert_eq!(next(ours, false, Some(outcome(theirs, UpgradeResult::Undecided))), Next::Refuse);
        assert_eq!(next(ours, false, Some(outcome(ours, UpgradeResult::Undecided))), Next::Wait);
        for result in [UpgradeResult::Done, UpgradeResult::HandedBack] {
            for asked in [false, true] {
                let decided = outcome(ours, result);
                assert_eq!(next(ours, asked, Some(decided)), Next::Answer(decided));
            }
        }
    }

    #[test]
    fn what_is_no_binary_is_refused_with_the_reason() {
        let refusal = |path: &str| open(Path::new(path)).unwrap_err().message;
        assert!(refusal("/nowhere/provost").contains("No such file"));
        assert!(refusal("/").contains("not a regular file"));
        assert!(refusal("/dev/null").contains("not a regular file"));
        assert!(refusal("/etc/passwd").contains("not executable"));
        assert!(refusal("provost").contains("not an absolute path"));
        assert!(open(&std::env::current_exe().unwrap()).is_ok());
    }
}

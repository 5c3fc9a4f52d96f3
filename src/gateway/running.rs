//! The calls that have threads of their own, and who makes them: they end when their caller loses what it had
//! when they began.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use grpcio::RpcStatus;
use parking_lot::Mutex;

use crate::access::password::Hash;
use crate::client::Canceller;
use crate::rpc::status::{self, Reason};
use crate::wire::error::{Code, Error};
use crate::wire::role::Role;

#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<Calls>>);

#[derive(Default)]
struct Calls {
    next: u64,
    by_number: BTreeMap<u64, Call>,
}

struct Call {
    /// The certificate's names, with their kinds.
    names: Vec<String>,
    user: Arc<str>,
    /// When it began.
    rights: Rights,
    end: Arc<End>,
}

/// What a caller is let in by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    /// What the password is compared with; none: there is no such user.
    pub hash: Option<Hash>,
    pub role: Option<Role>,
}

/// Whether a call may go on.
#[derive(Default)]
struct End {
    is_over: AtomicBool,
    /// Ends what its thread waits for.
    canceller: Mutex<Option<Canceller>>,
}

impl End {
    fn come(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(canceller) = &*self.canceller.lock() {
            canceller.cancel();
        }
    }
}

/// One of the calls, for as long as this is kept.
pub(super) struct RunningCall {
    running: Running,
    number: u64,
    end: Arc<End>,
}

impl Running {
    /// A call of this user. `now`: its rights; what is loaded after they were looked at is followed by a
    /// judgement, which finds the call.
    pub fn enter(
        &self,
        names: &[String],
        user: &Arc<str>,
        now: impl FnOnce() -> Result<Rights, RpcStatus>,
    ) -> Result<RunningCall, RpcStatus> {
        let mut calls = self.0.lock();
        let (rights, end) = (now()?, Arc::<End>::default());
        let number = calls.next;
        calls.next += 1;
        let call = Call { names: names.to_vec(), user: Arc::clone(user), rights, end: Arc::clone(&end) };
        calls.by_number.insert(number, call);
        Ok(RunningCall { running: self.clone(), number, end })
    }

    /// Ends the calls of callers whose user is gone or has another password, or whose role is lower than it
    /// was; how many.
    pub fn judge(&self, now: impl Fn(&[String], &str) -> Rights) -> usize {
        let is_bad = |call: &&Call| {
            let now = now(&call.names, &call.user);
            now.hash != call.rights.hash || now.role < call.rights.role
        };
        let calls = self.0.lock();
        calls.by_number.values().filter(is_bad).map(|call| call.end.come()).count()
    }
}

impl RunningCall {
    /// Of a caller on this machine, whose rights are in no file.
    pub fn unjudged() -> Self {
        Self { running: Running::default(), number: 0, end: Arc::default() }
    }

    /// From now on its thread waits for what this ends.
    pub fn waits(&self, canceller: &Canceller) {
        *self.end.canceller.lock() = Some(canceller.clone());
        // An end that comes later finds it; an earlier one has left the mark.
        if self.is_over() {
            canceller.cancel();
        }
    }

    pub fn is_over(&self) -> bool {
        self.end.is_over.load(Ordering::SeqCst)
    }

    /// What its caller is told then.
    pub fn over() -> RpcStatus {
        let e = Error::new(Code::Refused, "the call was ended: its user, password or role has changed");
        status::refusal(Reason::Role, &e)
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.running.0.lock().by_number.remove(&self.number);
    }
}

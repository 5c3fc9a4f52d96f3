//! Credentials of a call that needs none: those that are given are to be good all the same. A password is
//! looked at on a thread of its own; nobody waits for it but the call.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use grpcio::{RpcContext, RpcStatus};
use parking_lot::Mutex;

use crate::gateway::caller::Entry;
use crate::gateway::calls::Calls;
use crate::gateway::threads::busy;

/// What has come of a login, and who is to be told.
#[derive(Default)]
struct Decision {
    result: Option<Result<(), RpcStatus>>,
    waker: Option<Waker>,
}

impl Calls {
    /// Whether the call may go on, once that is known.
    pub fn allowed(&self, ctx: &RpcContext<'_>) -> impl Future<Output = Result<(), RpcStatus>> + use<> {
        let decision = Arc::new(Mutex::new(Decision::default()));
        let tell = |decision: &Mutex<Decision>, result| {
            let mut decision = decision.lock();
            decision.result.get_or_insert(result);
            decision.waker.take().into_iter().for_each(Waker::wake);
        };
        match self.caller.enter_freely(&self.gateway, ctx.request_headers()) {
            Ok(None | Some(Entry::Known(_))) => tell(&decision, Ok(())),
            Err(refusal) => tell(&decision, Err(refusal)),
            Ok(Some(Entry::Login(login))) => match self.place(&self.gateway.lasting, None) {
                Err(busy) => tell(&decision, Err(busy)),
                Ok(place) => {
                    let (ours, theirs) = (self.clone(), Arc::clone(&decision));
                    let work = move |()| {
                        let _place = place;
                        let user = ours.caller.verify(&ours.gateway, &login);
                        tell(&theirs, user.map(drop));
                    };
                    if self.gateway.threads.run((), work).is_err() {
                        tell(&decision, Err(busy()));
                    }
                }
            },
        }
        poll_fn(move |context| {
            let mut decision = decision.lock();
            match decision.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    decision.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

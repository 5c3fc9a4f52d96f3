//! The connections there are, so that some can be ended: all of them when the gateway ends, those of a
//! certificate when it is revoked.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::tls::closer::Closer;
use crate::tls::identity::Peer;

#[derive(Clone, Default)]
pub(super) struct Live(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    next: u64,
    connections: BTreeMap<u64, (Peer, Closer)>,
}

/// A connection, for as long as this is kept.
pub(super) struct Entered(Live, u64);

impl Live {
    pub fn enter(&self, peer: &Peer, closer: Closer) -> Entered {
        let mut state = self.0.lock();
        let number = state.next;
        state.next += 1;
        state.connections.insert(number, (peer.clone(), closer));
        Entered(self.clone(), number)
    }

    pub fn count(&self) -> usize {
        self.0.lock().connections.len()
    }

    /// Ends the connections of these peers; how many.
    pub fn close_if(&self, is_bad: impl Fn(&Peer) -> bool) -> usize {
        let state = self.0.lock();
        let bad = state.connections.values().filter(|(peer, _)| is_bad(peer));
        bad.map(|(_, closer)| closer.close()).count()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.lock().connections.remove(&self.1);
    }
}

//! The connections there are, so that some can be ended: all of them when the gateway ends, those of a
//! certificate when it is revoked.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::tls::closer::Closer;
use crate::tls::identity::Peer;

#[derive(Clone, Default)]
pub(super) struct Live(Arc<Mutex<Connections>>);

#[derive(Default)]
struct Connections {
    next: u64,
    by_number: BTreeMap<u64, (Peer, Closer)>,
}

/// A connection, for as long as this is kept.
pub(super) struct Entered(Live, u64);

impl Live {
    pub fn enter(&self, peer: &Peer, closer: Closer) -> Entered {
        let mut connections = self.0.lock();
        let number = connections.next;
        connections.next += 1;
        connections.by_number.insert(number, (peer.clone(), closer));
        Entered(self.clone(), number)
    }

    pub fn count(&self) -> usize {
        self.0.lock().by_number.len()
    }

    /// Ends the connections of these peers; how many.
    pub fn close_if(&self, is_bad: impl Fn(&Peer) -> bool) -> usize {
        let connections = self.0.lock();
        let bad = connections.by_number.values().filter(|(peer, _)| is_bad(peer));
        bad.map(|(_, closer)| closer.close()).count()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.lock().by_number.remove(&self.1);
    }
}

//! How a connection is ended by a thread that is not its pump.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::sys::poll::Waker;

/// Ends a connection from another thread, whether its pump runs already or not.
#[derive(Clone, Default)]
pub struct Closer(Arc<Mutex<Closing>>);

#[derive(Default)]
struct Closing {
    wanted: bool,
    pump: Option<Waker>,
}

impl Closer {
    /// The thread that is woken when the connection is to end.
    pub fn wakes(&self, pump: Waker) {
        self.0.lock().pump = Some(pump);
    }

    /// The pump has ended: there is nothing left to wake.
    pub(super) fn has_ended(&self) {
        self.0.lock().pump = None;
    }

    /// Ends it now; what is on its way is lost.
    pub fn close(&self) {
        let mut closing = self.0.lock();
        closing.wanted = true;
        if let Some(pump) = &closing.pump {
            pump.wake();
        }
    }

    /// Whether it is to end.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.lock().wanted
    }
}

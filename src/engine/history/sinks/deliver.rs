//! The way out of a sink: what its thread wants of a file or a search engine.

use std::time::Duration;

use crate::wire::event::Event;

/// Takes events to where they go. Called by one thread only; may wait, with a deadline of its own.
pub trait Deliver: Send {
    /// The most events it wants at a time.
    fn batch_max(&self) -> usize;
    /// The last event that is there already, where the other side knows that better than we do.
    fn resume(&mut self) -> Result<Option<u64>, Failed>;
    /// Delivers some of these, from the first on. Never called without events.
    fn deliver(&mut self, events: &[Event]) -> Result<Delivery, Failed>;
}

/// What became of the events that were given to a [`Deliver`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// How many, from the first on, were dealt with; at least one.
    pub count: usize,
    /// Those of them that were refused for ever.
    pub rejected: u64,
    /// Why the first of those was.
    pub reason: Option<String>,
    /// Indices of those that are to be sent again, ascending, and why.
    pub again: Option<(Vec<usize>, Failed)>,
}

/// Nothing was delivered, or it is not known what: all of it is to be sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failed {
    /// What happened to which object and why, in one line.
    pub message: String,
    /// The other side asked for this delay.
    pub after: Option<Duration>,
}

impl Failed {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), after: None }
    }
}

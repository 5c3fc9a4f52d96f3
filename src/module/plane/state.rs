//! Where a connection is in its life, and what can happen to it.

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its control stream is awaited.
    Registered,
    /// An earlier host has had it. Its executor answers for it until its provider registers again.
    Restored,
    Active,
    /// It gets no new calls.
    Draining,
    /// It is removed.
    Disconnected,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its control stream has begun.
    Bound,
    DrainBegun,
    /// The provider does not accept the drain.
    DrainRefused,
    /// Stream, heartbeats, executor or the time that it had have ended.
    Ended,
}

impl State {
    /// The state after this; none: it cannot happen now, and changes nothing.
    pub fn after(self, event: Event) -> Option<Self> {
        match (self, event) {
            (Self::Registered | Self::Restored, Event::Bound) | (Self::Draining, Event::DrainRefused) => {
                Some(Self::Active)
            }
            (Self::Active | Self::Restored, Event::DrainBegun) => Some(Self::Draining),
            (Self::Registered | Self::Restored | Self::Active | Self::Draining, Event::Ended) => {
                Some(Self::Disconnected)
            }
            (Self::Registered, Event::DrainBegun | Event::DrainRefused)
            | (Self::Restored, Event::DrainRefused)
            | (Self::Active, Event::Bound | Event::DrainRefused)
            | (Self::Draining, Event::Bound | Event::DrainBegun)
            | (Self::Disconnected, _) => None,
        }
    }

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Restored => "restored",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Disconnected => "disconnected",
        }
    }

    pub fn takes_calls(self) -> bool {
        matches!(self, Self::Registered | Self::Restored | Self::Active)
    }
}

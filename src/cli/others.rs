//! What a stop or a restart also does to processes that nobody named: those that require the others. It is
//! told to people; a script may ask for events.

use std::collections::HashMap;

use crate::cli::session::Session;
use crate::cli::{stdout, text};
use crate::client::Client;
use crate::wire::id::ProcessId;
use crate::wire::process::State;
use crate::wire::reply::Item;
use crate::wire::request::List;
use crate::wire::time::Timestamp;

/// Those that ran before, with their runs.
pub struct Others(HashMap<ProcessId, u64>);

impl Others {
    /// None where nobody would read it.
    pub fn before(session: &Session, client: &mut Client) -> Option<Self> {
        if session.is_json() || !session.out.is_terminal() {
            return None;
        }
        let all = client.list(List::default()).ok()?;
        let running = all.into_iter().filter(|p| matches!(p.state, State::Running | State::Starting));
        Some(Self(running.map(|p| (p.id, p.run)).collect()))
    }

    /// Says on standard error who of them has stopped since, or runs anew, beside those of the answer.
    pub fn tell(mut self, client: &mut Client, items: &[Item]) {
        for process in items.iter().filter_map(|item| item.process.as_ref()) {
            self.0.remove(&process.id);
        }
        for process in client.list(List::default()).unwrap_or_default() {
            let Some(&run) = self.0.get(&process.id) else { continue };
            let runs = matches!(process.state, State::Running | State::Starting);
            if !runs || process.run != run {
                let state = text::state(&process, Timestamp::now());
                stdout::notice(&format!("{} goes with it: {state}", process.label()));
            }
        }
    }
}

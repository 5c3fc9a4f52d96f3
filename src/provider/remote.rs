//! A provider that somebody else runs: it is met instead of started, and left instead of ended. It gets its
//! configuration once, and again where it says that it has none: whoever runs it has started it afresh.
//! Channels to it are opened when they are needed, and not kept.

use std::sync::Arc;

use crate::provider::alias::Phase;
use crate::provider::calls::Connection;
use crate::provider::cancel::Cancel;
use crate::provider::dial::Open;
use crate::provider::failure::Failure;
use crate::provider::run::{Run, Site, WriteNote, check_pins, wait_until_usable};
use crate::provider::{Providers, config, secrets};
use crate::wire::id::ProcessId;
use crate::wire::note::{InitState, ProviderNote};
use crate::wire::provider::{Definition, ProviderName};
use crate::wire::remote_end::RemoteEnd;

/// The most channels that stay open, beside those of calls that are under way.
const OPEN_MAX: usize = 128;

impl Site {
    /// Brings one to where it can be asked.
    pub(super) fn meet(
        &self,
        name: &ProviderName,
        (definition, end): (&Arc<Definition>, &RemoteEnd),
        write: WriteNote<'_>,
    ) -> Result<Run, Failure> {
        // Nothing is connected to that cannot be configured.
        config::given(definition)?;
        let is_noted = self.notes.has(name);
        let before = if is_noted { self.notes.read(name).ok() } else { None };
        let cancel = Cancel::default();
        let connection = Connection::remote(end, definition.timeouts.health, cancel.clone());
        let connection = connection.map_err(|why| why.failure_of_remote())?;
        wait_until_usable(&connection, definition)?;
        let about = check_pins(&connection, definition)?;
        let mut note = ProviderNote {
            process: Some((ProcessId::new(), 1)),
            init: InitState::Intended,
            ..ProviderNote::of(Definition::clone(definition))
        };
        let is_known =
            before.is_some_and(|note| note.init == InitState::Done && note.definition == **definition);
        if !is_known {
            // Where there is no note, the next host knows nothing of it either.
            if is_noted {
                write(&note)?;
            }
            initialise(&connection, name, definition)?;
        }
        note.init = InitState::Done;
        write(&note)?;
        Ok(Run::of_remote(&note, Arc::clone(definition), cancel).with(connection, about))
    }
}

/// Gives it its configuration.
fn initialise(connection: &Connection, name: &ProviderName, definition: &Definition) -> Result<(), Failure> {
    let config = config::given(definition)?;
    let (source, timeout) = (&definition.source_file_path, definition.timeouts.init);
    connection.init(name.alias(), &config, source, timeout).map_err(|failure| match failure {
        // It may repeat what it was given.
        Failure::InitFailed { status, ending } => {
            Failure::InitFailed { status: secrets::redact(&status, definition), ending }
        }
        other => other,
    })
}

impl Run {
    /// Gives it its configuration again, unless another thread has done so since it was asked.
    pub(super) fn initialise_again(&self, name: &ProviderName, asked_at: u64) -> Result<(), Failure> {
        let mut again = self.initialised_again.lock();
        if *again == asked_at {
            initialise(&self.connection()?, name, &self.definition)?;
            *again += 1;
        }
        Ok(())
    }
}

impl Providers {
    /// Closes channels that nobody uses, where there are many.
    pub(super) fn close_unused(&self) {
        if Open::count() <= OPEN_MAX {
            return;
        }
        for alias in self.of_set(None) {
            let Phase::Ready(run) = alias.current.lock().phase().clone() else { continue };
            if run.is_remote() && run.is_connected() && alias.calls.idle_since().is_some() {
                run.disconnect();
            }
        }
    }
}

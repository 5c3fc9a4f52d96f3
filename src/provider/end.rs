//! Ends runs within a time, whatever they do.

use std::time::{Duration, Instant};

use crate::provider::failure::Failure;
use crate::provider::run::{HowEnded, Site};
use crate::provider::{Alias, Providers};
use crate::sys::clock;
use crate::wire::error::Error;
use crate::wire::provider::ProviderName;
use crate::wire::time::millis;

impl Providers {
    /// Ends the run of one, and lets nobody start it until [`Providers::reopen`]. An error tells that it had
    /// to be killed, or could not be.
    pub fn end(&self, name: &ProviderName, limit: Duration) -> Result<(), Error> {
        let Ok(alias) = self.find(name) else { return Ok(()) };
        alias.current.close();
        alias.end_run(&self.site, clock::now_ms() + millis(limit)).map_err(|f| f.error(name))
    }

    /// The same within the provider's own timeouts.
    pub fn dispose(&self, name: &ProviderName) -> Result<(), Error> {
        let Ok(alias) = self.find(name) else { return Ok(()) };
        alias.current.close();
        alias.stop_run(&self.site).map_err(|f| f.error(name))
    }

    /// It may be started again.
    pub fn reopen(&self, name: &ProviderName) {
        if let Ok(alias) = self.find(name) {
            alias.current.lock().reopen();
        }
    }
}

impl Alias {
    fn end_run(&self, site: &Site, deadline_ms: u64) -> Result<(), Failure> {
        let left = deadline_ms.saturating_sub(clock::now_ms());
        let Ok(run) = self.current.take_by(Instant::now() + Duration::from_millis(left)) else {
            // Who starts it learns of the end, and gives up.
            site.kill(&self.name)?;
            return Err(Failure::Killed);
        };
        let Some(run) = run else { return Ok(()) };
        let ended = site.stop_by(&self.name, &run, deadline_ms);
        self.current.rest();
        match ended? {
            HowEnded::ByItself => Ok(()),
            HowEnded::Killed => Err(Failure::Killed),
        }
    }
}

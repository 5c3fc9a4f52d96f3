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
    /// Ends the run of one. An error tells that it had to be killed, or could not be.
    pub fn end(&self, name: &ProviderName, limit: Duration) -> Result<(), Error> {
        let Ok(alias) = self.find(name) else { return Ok(()) };
        alias.end_run(&self.site, clock::now_ms() + millis(limit)).map_err(|f| f.error(name))
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

//! Looks at runs without using them: nobody is started for it, and it is no use that keeps an idle process
//! running.

use std::time::Duration;

use crate::provider::alias::Phase;
use crate::provider::config;
use crate::provider::failure::Failure;
use crate::provider::{Alias, Providers};
use crate::wire::error::Error;
use crate::wire::provider::{Definition, ProviderAnswer, ProviderName};

/// What came of a look at a run.
type Checked = Result<Option<ProviderAnswer>, Error>;

impl Providers {
    /// Asks a provider that runs how it is, once; none: it does not run.
    pub fn check(&self, name: &ProviderName, timeout: Duration) -> Checked {
        self.find(name).and_then(|alias| self.check_alias(&alias, timeout)).map_err(|f| f.error(name))
    }

    /// Whether a provider like this could be started, as far as that is seen without starting it.
    pub fn could_start(&self, name: &ProviderName, definition: &Definition) -> Result<(), Error> {
        let look = || {
            self.site.check(definition)?;
            config::given(definition).map(drop)
        };
        look().map_err(|failure: Failure| failure.error(name))
    }

    /// Whether its configuration fits, as far as that is seen before it is started.
    pub fn fits(name: &ProviderName, definition: &Definition) -> Result<(), Error> {
        config::check(definition).map_err(|failure| failure.error(name))
    }

    fn check_alias(&self, alias: &Alias, timeout: Duration) -> Result<Option<ProviderAnswer>, Failure> {
        let Phase::Ready(run) = alias.current.lock().phase().clone() else { return Ok(None) };
        let connected = run.connect();
        let is_new = matches!(connected, Ok((_, true)));
        let result = connected.and_then(|(connection, _)| connection.health(timeout));
        // What was opened for this alone is not left open, whatever came of it: nobody else looks after it.
        if is_new && alias.calls.idle_since().is_some() {
            run.disconnect();
        }
        if run.cancel.is_cancelled() {
            return Err(Failure::ShutDown);
        }
        match result {
            Ok((health, _)) => Ok(Some(ProviderAnswer::Health(health))),
            Err(failure @ (Failure::Unavailable { .. } | Failure::NotProven { .. })) => {
                let Some(why) = self.site.look_after(&run)? else { return Err(failure) };
                alias.ended(&run, &why);
                Err(why)
            }
            Err(failure) => Err(failure),
        }
    }
}

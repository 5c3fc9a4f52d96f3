//! Runs that have ended without the host: each is taken down once, by whoever finds it first.

use std::sync::Arc;

use crate::provider::alias::Phase;
use crate::provider::failure::Failure;
use crate::provider::last_end::{End, LastEnd};
use crate::provider::run::Run;
use crate::provider::{Alias, Providers};
use crate::wire::provider::ProviderName;
use crate::wire::time::Timestamp;

impl Providers {
    /// Takes down the end of a run, and returns how it was; none: it goes on, or its end is known already.
    pub fn take_end(&self, name: &ProviderName) -> Option<End> {
        let alias = self.find(name).ok()?;
        let Phase::Ready(run) = alias.current.lock().phase().clone() else { return None };
        let why = self.site.end_of(&run).ok()??;
        alias.ended(&run, &why).then(|| match why {
            Failure::Crashed { ending } => End::ByItself(ending.text()),
            _ => End::Stopped,
        })
    }

    /// The last one, also of those that have ended while no host ran.
    #[must_use]
    pub fn last_end(&self, name: &ProviderName) -> Option<LastEnd> {
        self.find(name).ok()?.last_end.lock().clone()
    }
}

impl Alias {
    /// A run has ended by itself, or was stopped, for this reason; whether that was news.
    pub fn ended(&self, run: &Arc<Run>, why: &Failure) -> bool {
        // Held until it is known which one it was: whoever sees that one has ended asks for it next.
        let mut last = self.last_end.lock();
        let is_news = match why {
            Failure::ShutDown => self.current.lock().stopped(run),
            _ => self.current.lock().ended(run, why.clone()),
        };
        if let (true, Failure::Crashed { ending }) = (is_news, why) {
            *last = Some(LastEnd { process: run.process, how: ending.text(), at: Timestamp::now() });
        }
        is_news
    }
}

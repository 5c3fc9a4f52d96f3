//! Opening the store whatever state it is in: a damaged database is set aside, and what can be read of it is
//! taken over.

use std::path::Path;

use crate::engine::store::content::Loaded;
use crate::engine::store::directory::set_aside;
use crate::engine::store::error::{ErrorKind, StoreError};
use crate::engine::store::numbers;
use crate::engine::store::salvage::{salvage, salvage_numbers};
use crate::engine::store::sqlite::Sqlite;

/// A store that has been opened, with what it knew.
pub struct Opened {
    pub store: Sqlite,
    pub loaded: Loaded,
    /// Up to which number events were given to sinks, stored or not.
    pub given: u64,
    /// What was found wrong on the way, for the log.
    pub notices: Vec<String>,
    /// It was made in place of one that was damaged: nothing is in it yet.
    pub is_new: bool,
}

impl Opened {
    /// Opens the database. One that is damaged is set aside; what can still be read of it is taken over.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        match Self::try_open(dir) {
            Err(e) if e.kind == ErrorKind::Corrupt => {
                let aside = set_aside(dir)
                    .map_err(|why| StoreError { message: format!("{}; {why}", e.message), ..e.clone() })?;
                let (saved, (service, last_seq)) = (salvage(&aside), salvage_numbers(&aside));
                let mut opened = Self::try_open(dir)?;
                opened.notices.push(format!(
                    "{}: it is set aside as {}, and made anew with {} processes that could be read",
                    e.message,
                    aside.display(),
                    saved.len()
                ));
                opened.loaded.kept = saved;
                opened.loaded.service = service.unwrap_or(opened.loaded.service);
                opened.loaded.last_seq = last_seq;
                opened.is_new = true;
                Ok(opened)
            }
            other => other,
        }
    }

    fn try_open(dir: &Path) -> Result<Self, StoreError> {
        let mut store = Sqlite::open(dir)?;
        let loaded = store.load()?;
        let notices = loaded.damaged.iter().map(|what| format!("in the database: {what}")).collect();
        Ok(Self { store, loaded, given: numbers::given(dir), notices, is_new: false })
    }
}

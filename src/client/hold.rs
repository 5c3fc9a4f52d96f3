//! The word of a reader that the output of a process waits for. It holds as long as its connection, and is
//! given again to the next engine.

use crate::client::connection::Connection;
use crate::client::link::{Fault, TIMEOUT};
use crate::client::retry::{Attempts, Repeat};
use crate::client::session::Session;
use crate::wire::error::Error;
use crate::wire::id::ProcessId;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// Made by [`Client::hold`](crate::Client::hold).
#[derive(Debug)]
pub struct Hold {
    session: Session,
    id: ProcessId,
    link: Option<Connection>,
    attempts: Attempts,
}

impl Hold {
    pub(super) fn begin(session: Session, id: ProcessId) -> Result<Self, Error> {
        let mut hold = Self { session, id, link: None, attempts: Attempts::new() };
        hold.say()?;
        Ok(hold)
    }

    /// Goes on until the service ends, over the deaths of its engines.
    pub fn last(mut self) {
        loop {
            // Nothing more is said, unless it is that the connection has ended.
            if let Some(mut link) = self.link.take() {
                while link.receive(None).is_ok() {}
            }
            if self.say().is_err() {
                return;
            }
        }
    }

    /// Says it, and waits for the answer.
    fn say(&mut self) -> Result<(), Error> {
        while let Err(fault) = self.ask() {
            self.attempts.after(fault, Repeat::Safe, &self.session.address)?;
        }
        self.attempts.received();
        Ok(())
    }

    fn ask(&mut self) -> Result<(), Fault> {
        let mut link = self.session.send(&Request::Hold(self.id))?;
        if let (Reply::Error(e), _) = link.receive(Some(TIMEOUT))? {
            return Err(Fault::Final(e));
        }
        self.link = Some(link);
        Ok(())
    }
}

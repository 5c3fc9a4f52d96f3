//! What a client and its streams ask through: one connection at a time, and a new one when it breaks. A
//! request that may be repeated is sent again; the answer that broke off is dropped.

use std::time::Instant;

use crate::client::cancel::Canceller;
use crate::client::connection::{Address, Connection};
use crate::client::link::Fault;
use crate::client::retry::{self, Attempts};
use crate::wire::envelope::Behalf;
use crate::wire::error::{Code, Error};
use crate::wire::id::OrderKey;
use crate::wire::reply::{Item, More, Reply};
use crate::wire::request::Request;

#[derive(Debug)]
pub(super) struct Session {
    pub address: Address,
    /// None after a stream took it over, or when it broke.
    pub link: Option<Connection>,
    canceller: Option<Canceller>,
    /// The next request was sent on it already.
    is_asked: bool,
    /// The cause that the service records for every request, if it is not the caller itself.
    pub on_behalf_of: Option<Behalf>,
}

impl Session {
    pub fn open(address: &Address) -> Result<Self, Error> {
        let (address, link) = (address.clone(), Some(address.open()?));
        Ok(Self { address, link, canceller: None, is_asked: false, on_behalf_of: None })
    }

    /// A session with the same service that has the connection of this one.
    pub fn hand_over(&mut self) -> Self {
        let (address, on_behalf_of) = (self.address.clone(), self.on_behalf_of.clone());
        Self {
            address,
            link: self.link.take(),
            canceller: self.canceller.clone(),
            is_asked: false,
            on_behalf_of,
        }
    }

    pub fn canceller(&mut self) -> Canceller {
        let canceller = self.canceller.get_or_insert_default().clone();
        if let Some(link) = &self.link {
            // If it was used already, the next request finds that out.
            let _ = link.watch(&canceller);
        }
        canceller
    }

    /// Whoever has a canceller of it ends nothing with it from here on. False: somebody has ended it.
    #[cfg(feature = "gateway")]
    pub fn rest(&mut self) -> bool {
        self.on_behalf_of = None;
        // An answer that nobody has waited for would be taken for the next one's.
        if std::mem::take(&mut self.is_asked) {
            self.link = None;
        }
        self.canceller.take().is_none_or(|canceller| canceller.let_go())
    }

    /// Sends a request that [`Session::call`] is then called with. False: there is no connection, or it needs
    /// a key, and nothing was sent.
    #[cfg(feature = "gateway")]
    pub fn ask_ahead(&mut self, request: &Request) -> bool {
        if retry::has_key(request) {
            return false;
        }
        let Some(mut link) = self.link.take() else { return false };
        self.is_asked = link.send(request, self.on_behalf_of.as_ref(), None).is_ok();
        self.link = self.is_asked.then_some(link);
        self.is_asked
    }

    pub fn items(&mut self, request: Request) -> Result<Vec<Item>, Error> {
        let replies = self.call(request, None)?;
        Ok(replies
            .into_iter()
            .filter_map(|r| if let Reply::Item(item) = r { Some(item) } else { None })
            .collect())
    }

    /// Sends a request that is not a stream, and returns the replies in their order. `key`: of whoever asked
    /// for it, who may ask again.
    pub fn call(&mut self, request: Request, key: Option<OrderKey>) -> Result<Vec<Reply>, Error> {
        let removed =
            if let Request::Remove(remove) = &request { remove.targets.clone() } else { Vec::new() };
        let (result, attempts) = self.attempt(request, key);
        if removed.is_empty() || !attempts.is_repeated() {
            return result;
        }
        // The first request may have been done although its answer was lost. Then what is not there is what
        // was wanted.
        match result {
            Ok(replies) => Ok(replies.into_iter().map(gone_is_removed).collect()),
            Err(e) if e.code == Code::NotFound => {
                let item =
                    |target| Item { target, process: None, error: None, unrecorded: None, has_others: false };
                Ok(removed.into_iter().map(|target| Reply::Item(item(target))).collect())
            }
            Err(e) => Err(e),
        }
    }

    /// Sends the request until there is a whole answer.
    fn attempt(
        &mut self,
        mut request: Request,
        key: Option<OrderKey>,
    ) -> (Result<Vec<Reply>, Error>, Attempts) {
        let (repeat, began) = (retry::repeat(&request), Instant::now());
        // The same for every attempt: what has come already is not done again.
        let key = key.or_else(|| retry::has_key(&request).then(OrderKey::new));
        let wait_timeout = if let Request::Wait(wait) = &request { wait.timeout } else { None };
        let mut attempts = Attempts::new();
        loop {
            if let (Request::Wait(wait), Some(timeout)) = (&mut request, wait_timeout) {
                wait.timeout = Some(timeout.saturating_sub(began.elapsed()));
            }
            let fault = match self.ask_once(&request, key, &mut attempts) {
                Ok(replies) => return (Ok(replies), attempts),
                Err(fault) => fault,
            };
            if let Err(e) = attempts.after(fault, repeat, &self.address) {
                return (Err(e), attempts);
            }
        }
    }

    /// One attempt. After a failure the connection is given up.
    fn ask_once(
        &mut self,
        request: &Request,
        key: Option<OrderKey>,
        attempts: &mut Attempts,
    ) -> Result<Vec<Reply>, Fault> {
        let mut link = self.send_with(request, key)?;
        let timeout = retry::timeout(request);
        let mut replies = Vec::with_capacity(1);
        loop {
            let (reply, more) = link.receive(timeout)?;
            attempts.received();
            if let Reply::Error(e) = reply {
                // The request failed, the connection did not, if that was the last word.
                if more == More::Last {
                    self.link = Some(link);
                }
                return Err(Fault::Final(e));
            }
            replies.push(reply);
            if more == More::Last {
                self.link = Some(link);
                return Ok(replies);
            }
        }
    }

    /// Sends on the present connection or a new one, and returns that connection.
    pub fn send(&mut self, request: &Request) -> Result<Connection, Fault> {
        self.send_with(request, None)
    }

    fn send_with(&mut self, request: &Request, key: Option<OrderKey>) -> Result<Connection, Fault> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.address.open_again()?,
        };
        if let Some(canceller) = &self.canceller {
            link.watch(canceller).map_err(Fault::Final)?;
        }
        if !std::mem::take(&mut self.is_asked) {
            link.send(request, self.on_behalf_of.as_ref(), key)?;
        }
        Ok(link)
    }
}

fn gone_is_removed(mut reply: Reply) -> Reply {
    if let Reply::Item(item) = &mut reply
        && item.error.as_ref().is_some_and(|e| e.code == Code::NotFound)
    {
        item.error = None;
    }
    reply
}

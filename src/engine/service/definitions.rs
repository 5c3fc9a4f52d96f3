//! How processes are to be run: told, and changed.

use std::sync::Arc;

use crate::engine::logs;
use crate::engine::process::handle::Ask;
use crate::engine::service::batch;
use crate::engine::service::engine::{Answer, Asked, Engine};
use crate::listener::Replies;
use crate::wire::error::{Code, Error};
use crate::wire::reply::{Definition, More, Reply};
use crate::wire::request::Update;

impl Engine {
    /// What it is about is looked up first: a pattern that means several is refused before anything is
    /// changed.
    pub(super) fn update(&self, r: Update, asked: &Asked, replies: &mut Replies<'_>) -> Answer {
        let found = self.table.find(&r.target)?;
        let [process] = &found[..] else {
            let e = format!("'{}' means {} processes", r.target, found.len());
            return Err(Error::usage(e).hint("a definition is for one: name it").into());
        };
        if process.is_internal || process.name.as_ref().is_some_and(|name| name.is_of_provider()) {
            let e = Error::new(Code::Refused, format!("{} is the service's own", process.label()));
            return Err(e.hint("it is run as the configuration says").into());
        }
        self.check_needs(&r.spec, Some(process.id))?;
        logs::check(&self.context, &self.table, &r.spec, process.id)?;
        let target = [process.id.to_string()];
        let ask = Ask::Update { spec: Arc::new(r.spec), outdated: r.outdated };
        self.ask_each(&target, &|_| ask.clone(), asked, replies)
    }

    pub(super) fn definitions(&self, targets: &[String], asked: &Asked, replies: &mut Replies<'_>) -> Answer {
        let (found, missing) = self.find_allowed(targets, asked);
        for process in found {
            let definition = Definition { process: process.show(), spec: (*process.spec()).clone() };
            replies.send(&Reply::Definition(Box::new(definition)), More::Follows)?;
        }
        for (target, error) in missing {
            replies.send(&batch::missing(target, error, None), More::Follows)?;
        }
        Ok(Reply::Done)
    }
}

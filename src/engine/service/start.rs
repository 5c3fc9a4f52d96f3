//! New processes: all instances or none.

use std::sync::Arc;

use crate::engine::context::ending;
use crate::engine::logs;
use crate::engine::memory::Memory;
use crate::engine::process::fresh::fresh;
use crate::engine::process::handle::{Ask, Process};
use crate::engine::process::input::StopOrder;
use crate::engine::process::worker;
use crate::engine::service::batch;
use crate::engine::service::engine::{Answer, Asked, Engine};
use crate::listener::{Closed, Replies};
use crate::wire::error::{Code, Error};
use crate::wire::id::ProcessId;
use crate::wire::keeper::ToKeeper;
use crate::wire::log::NAME_MARK;
use crate::wire::process::State;
use crate::wire::record::Record;
use crate::wire::reply::{More, Reply};
use crate::wire::request::{Numbering, Start};
use crate::wire::spec::Spec;
use crate::wire::time::Timestamp;

impl Engine {
    /// Makes what is not there yet, starts it, and tells of all. A client that asks again after a broken
    /// connection gives the same ids: what the first request made is found, and is not started a second time.
    pub(super) fn start(&self, r: Start, asked: &Asked, replies: &mut Replies<'_>) -> Answer {
        if self.context.is_stopping() {
            return Err(ending().into());
        }
        self.check_needs(&r.spec, None)?;
        let is_scheduled = r.spec.schedule.times(Timestamp::now())?.is_some();
        self.make(&r)?;
        let all: Vec<_> = r.ids.iter().filter_map(|&id| self.table.get(id)).collect();
        // Not those that the first request has started already; what failed under it is tried again, and
        // tells why.
        let is_to_start = |p: &Arc<Process>| {
            let record = p.record();
            let has_failed = record.start_failure.is_some() && record.pid.is_none();
            record.run == 0 || record.state == State::Starting || has_failed
        };
        if !is_scheduled {
            self.pull_up(&all, asked);
        }
        let what = if is_scheduled { Ask::Schedule } else { Ask::Start };
        let to_start: Vec<_> = all.iter().filter(|p| is_to_start(p)).cloned().collect();
        let answers = self.ask_all(&to_start, &what, asked, replies)?;
        let failed = answers.into_iter().filter_map(|a| Some((a.tag, a.error?))).min_by_key(|(tag, _)| *tag);
        if let Some((_, error)) = failed.as_ref().filter(|_| r.spec.declared && have_failed(&to_start)) {
            // The configuration wants it: it stays, and says what is wrong.
            return Err(error.clone().into());
        }
        if let Some((tag, mut error)) = failed {
            if all.len() > 1 {
                error.message =
                    format!("{}: {}; no instance was started", to_start[tag].label(), error.message);
            }
            self.undo(&all, asked, replies)?;
            return Err(error.into());
        }
        for process in &all {
            let unrecorded = self.recorded(process.write_seq().max(asked.write_seq), replies)?;
            replies.send(&batch::item(process, None, unrecorded), More::Follows)?;
        }
        Ok(Reply::Done)
    }

    /// Makes known what is not: its memory is with the keeper when this returns. All or none.
    fn make(&self, r: &Start) -> Result<(), Error> {
        if let Some(name) = r.spec.name.as_ref().filter(|name| name.is_reserved()) {
            let e =
                Error::new(Code::Refused, format!("'{name}' is a name for what the service runs for itself"));
            return Err(e.hint("choose one that does not begin with 'provost.'"));
        }
        let is_shared = |path: &str| !path.contains(NAME_MARK);
        if r.ids.len() > 1 && r.spec.log.paths().into_iter().flatten().any(is_shared) {
            return Err(Error::usage(format!("{} instances cannot share one log", r.ids.len()))
                .hint("give each a file of its own, as with {name} in the path"));
        }
        let mut made = Vec::new();
        for (n, &id) in (r.numbering.first().unwrap_or(1)..).zip(&r.ids) {
            let spec = one(r, n)?;
            match self.table.get(id) {
                None => {
                    logs::check(&self.context, &self.table, &spec, id)?;
                    made.push(Arc::new(self.make_one(spec, r, n, id)?));
                }
                Some(process) if *process.spec() == spec => {}
                Some(process) => {
                    let e = format!("{id} is the id of another process, {}", process.label());
                    return Err(Error::new(Code::Refused, e).hint("choose an id that was never used"));
                }
            }
        }
        self.hold(&made)?;
        // Written while they are being started.
        made.iter().for_each(|process| process.mark(true));
        Ok(())
    }

    /// Makes these known, all or none.
    pub fn hold(&self, made: &[Arc<Process>]) -> Result<(), Error> {
        // Names first: what had one before is forgotten by the keeper when the table lets go of it, so the
        // keeper never holds two of one name. Then the keeper: as soon as others can find them, they may ask
        // for a child. Without the keeper the engine ends.
        self.table.reserve(made)?;
        for process in made {
            let hold = ToKeeper::Hold { id: process.id };
            if let Err(e) = self.context.link.send(&hold, &[process.memory.as_fd()]) {
                self.table.release(made);
                return Err(Error::new(Code::Failed, format!("the keeper does not answer: {e}")));
            }
        }
        self.table.insert_reserved(made);
        Ok(())
    }

    fn make_one(&self, spec: Spec, r: &Start, n: u32, id: ProcessId) -> Result<Process, Error> {
        let instance = (r.numbering != Numbering::Single).then_some(n);
        let memory = Memory::create(&spec)?;
        let record = Record { wanted: true, ..fresh(id, spec.name.clone(), instance) };
        memory.publish(&record);
        Ok(Process::new(spec, memory, record, Arc::clone(&self.context), worker::run))
    }

    /// Takes back what this request made, or made when it was first asked.
    fn undo(&self, made: &[Arc<Process>], asked: &Asked, replies: &mut Replies<'_>) -> Result<(), Closed> {
        self.ask_all(made, &Ask::Stop(StopOrder::at_once()), asked, replies)?;
        self.ask_all(made, &Ask::Remove, asked, replies)?;
        Ok(())
    }
}

/// Whether those that did not start say so themselves.
fn have_failed(all: &[Arc<Process>]) -> bool {
    all.iter().map(|p| p.record()).all(|r| r.start_failure.is_some() || r.state == State::Running)
}

/// The spec of the instance of this number.
fn one(r: &Start, n: u32) -> Result<Spec, Error> {
    let mut spec = r.spec.clone();
    if let (true, Some(name)) = (r.numbering != Numbering::Single, &spec.name) {
        spec.name = Some(name.instance(n)?);
    }
    Ok(spec)
}

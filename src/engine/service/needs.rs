//! What a request means for those that a process needs: they are started with it, and no circle comes about.

use std::collections::BTreeSet;
use std::sync::Arc;

use crossbeam_channel::unbounded;

use crate::engine::process::handle::{AnswerTo, Ask, Msg, Process};
use crate::engine::process::restart::is_done;
use crate::engine::service::engine::{Asked, Engine};
use crate::sys::poll::Waker;
use crate::wire::error::{Code, Error};
use crate::wire::event::CAUSE_FOR;
use crate::wire::id::ProcessId;
use crate::wire::order::{Node, order};
use crate::wire::spec::Spec;

impl Engine {
    /// Starts what these require or want and what rests, and what those do. How that goes they say
    /// themselves: whoever needs them waits for it.
    pub(super) fn pull_up(&self, processes: &[Arc<Process>], asked: &Asked) {
        let mut seen: BTreeSet<ProcessId> = processes.iter().map(|p| p.id).collect();
        let mut left = processes.to_vec();
        let mut to_start = Vec::new();
        while let Some(process) = left.pop() {
            let spec = process.spec();
            for name in spec.needs.requires.iter().chain(&spec.needs.wants) {
                let needed = self.table.meant_by(name).into_iter().filter(|p| !p.is_internal);
                for needed in needed.filter(|needed| seen.insert(needed.id)).collect::<Vec<_>>() {
                    let record = needed.record();
                    if record.state.is_at_rest() && !is_done(&record, &needed.spec()) {
                        self.context.board.start_is_ordered(needed.id);
                        to_start.push((Arc::clone(&needed), process.label()));
                    }
                    left.push(needed);
                }
            }
        }
        // The board knows of all of them before the first one looks there.
        for (process, whom) in to_start {
            let (to, _) = unbounded();
            let answer = AnswerTo::new(to, 0, Waker::for_this_thread());
            let cause = format!("{}{CAUSE_FOR}{whom}", asked.cause);
            process.send(Msg::Ask { what: Ask::Start, cause, answer });
        }
    }

    /// Refuses a definition with which processes would need one another in a circle. `but`: the process that
    /// it is for, if that is there already.
    pub(super) fn check_needs(&self, spec: &Spec, but: Option<ProcessId>) -> Result<(), Error> {
        let Some(name) =
            spec.name.as_ref().filter(|_| !spec.needs.is_none() || spec.needs.in_group.is_some())
        else {
            return Ok(());
        };
        let others: Vec<_> =
            self.table.others().into_iter().filter(|p| Some(p.id) != but).map(|p| p.spec()).collect();
        let node = |spec: &'_ Spec, name: &'_ str| -> (String, Option<String>, Vec<String>) {
            (name.to_owned(), spec.needs.in_group.clone(), spec.needs.all().map(str::to_owned).collect())
        };
        let named = others.iter().filter_map(|spec| Some(node(spec, spec.name.as_ref()?.as_str())));
        let all: Vec<_> = named.chain([node(spec, name.as_str())]).collect();
        let nodes: Vec<_> = (all.iter())
            .map(|(name, group, needs)| Node {
                name,
                group: group.as_deref(),
                needs: needs.iter().map(String::as_str).collect(),
            })
            .collect();
        order(&nodes).map(drop).map_err(|circle| {
            let e = format!("processes would need one another in a circle: {}", circle.join(" -> "));
            Error::new(Code::Refused, e).hint("none of them could ever start: leave one of these needs out")
        })
    }
}

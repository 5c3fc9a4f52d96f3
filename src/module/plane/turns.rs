//! Whose turn it is to execute a module, and what a call says about the one that has executed it.

use std::sync::Arc;
use std::time::Duration;

use crate::guard::breaker::{BreakerState, Outcome, Pass};
use crate::module::canary::track::Track;
use crate::module::canary::{Call, Standing};
use crate::module::executor::ExecutorAddress;
use crate::module::plane::Plane;
use crate::module::plane::connection::{Connection, Module, Reach};
use crate::module::plane::state::State;
use crate::wire::canary::Part;
use crate::wire::time::millis;

/// Whose turn it is.
#[derive(Debug)]
pub struct Member {
    pub id: String,
    pub executor: ExecutorAddress,
    /// Without the namespace.
    pub name: String,
    pass: Pass,
    counted: Option<Counted>,
}

/// A call that a canary counts.
#[derive(Debug)]
struct Counted {
    namespace: String,
    /// Of the canary.
    serial: u64,
    begun_ms: u64,
}

/// Who is asked first: a canary has a member on trial beside those that take turns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Usual,
    OnTrial,
}

/// Why there is no member for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoMember {
    Unknown,
    /// What is wrong with each.
    NoneHealthy(String),
    /// All that could take it have as much as they may, or others wait before it.
    Busy(String),
}

/// That nobody takes a call now; [`Plane::why_none`] has the reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nobody {
    Busy,
    Out,
}

/// What a call says about the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It has answered, be it with an error of its own.
    Answered,
    /// It was not reached.
    Unreached,
    /// It has had time enough, and there was no answer.
    Silent,
    /// What came was no answer.
    Broken,
    /// Nothing: the call had no time, or was not sent.
    Nothing,
}

/// How a call has ended.
#[derive(Debug)]
pub struct Ended {
    pub said: Said,
    /// Why the call failed, if it did.
    pub error: Option<String>,
    pub took_us: u64,
}

impl Plane {
    /// Whose turn it is to execute this module, among those that were not tried yet. `number`: of the
    /// caller in the queue.
    ///
    /// A member on trial gets exactly its share of the calls that it can take; what others cannot take it
    /// gets, too, but not what they are only too busy for.
    pub fn next(
        &mut self,
        qualified: &str,
        tried: &[String],
        number: Option<u64>,
        now_ms: u64,
    ) -> Result<Member, Nobody> {
        let (namespace, _) = qualified.rsplit_once('.').ok_or(Nobody::Out)?;
        let Some(share) = self.canaries.get(namespace).and_then(Track::share) else {
            return self.next_of(Side::Usual, qualified, tried, number, now_ms);
        };
        // A call that is tried once more is the same call.
        let share = if tried.is_empty() { share.ten_thousandths() } else { 0 };
        let owed = self.pools.get(qualified).map_or(0, |pool| pool.owed) + share;
        let is_owed = share > 0 && owed >= Part::WHOLE;
        let mut found = Err(Nobody::Out);
        if is_owed {
            found = self.next_of(Side::OnTrial, qualified, tried, number, now_ms);
        }
        let was_given = found.is_ok();
        if !was_given {
            found = self.next_of(Side::Usual, qualified, tried, number, now_ms);
        }
        if !is_owed && matches!(found, Err(Nobody::Out)) {
            found = self.next_of(Side::OnTrial, qualified, tried, number, now_ms);
        }
        if found.is_ok()
            && let Some(pool) = self.pools.get_mut(qualified)
        {
            // One turn at most can be made up for.
            pool.owed = if was_given { owed - Part::WHOLE } else { owed.min(Part::WHOLE) };
        }
        found
    }

    fn next_of(
        &mut self,
        side: Side,
        qualified: &str,
        tried: &[String],
        number: Option<u64>,
        now_ms: u64,
    ) -> Result<Member, Nobody> {
        let (namespace, name) = qualified.rsplit_once('.').ok_or(Nobody::Out)?;
        let mut is_busy = false;
        if let Some(pool) = self.pools.get_mut(qualified) {
            let is_first = pool.waiting.front().is_none_or(|first| Some(*first) == number);
            let len = pool.members.len();
            for n in 0..len {
                let at = (pool.next + n) % len;
                let id = pool.members[at].clone();
                let Some(connection) = self.connections.get_mut(&id) else { continue };
                let is_of_side = match connection.standing {
                    Standing::Usual | Standing::Promoted => side == Side::Usual,
                    Standing::OnTrial => side == Side::OnTrial,
                    Standing::Held => false,
                };
                if !is_of_side || tried.contains(&id) || !connection.state.takes_calls() {
                    continue;
                }
                if matches!(connection.reach, Reach::Deaf(_)) || !connection.modules.contains_key(name) {
                    continue;
                }
                if !is_first || connection.in_flight >= self.limits.member_calls {
                    is_busy = true;
                    continue;
                }
                let Ok(pass) = connection.breaker.ask(now_ms) else { continue };
                if side == Side::Usual {
                    pool.next = (at + 1) % len;
                }
                if tried.is_empty() {
                    pool.retries.earn();
                }
                connection.in_flight += 1;
                connection.counters.entry(name.to_owned()).or_default().requests += 1;
                let executor = connection.executor.clone();
                let counted = match connection.standing {
                    Standing::Promoted | Standing::OnTrial => self.canaries.get_mut(namespace),
                    Standing::Usual | Standing::Held => None,
                };
                let counted = counted.and_then(|track| {
                    track.begin_call(&executor.to_string(), now_ms);
                    Some(Counted {
                        namespace: namespace.to_owned(),
                        serial: track.serial()?,
                        begun_ms: now_ms,
                    })
                });
                return Ok(Member { id, executor, name: name.to_owned(), pass, counted });
            }
        }
        Err(if is_busy { Nobody::Busy } else { Nobody::Out })
    }

    /// Whether no other member of its group could be used. One without a group is alone anyway.
    fn is_last_of_its_group(&self, id: &str) -> bool {
        let Some(it) = self.connections.get(id).filter(|it| it.group.is_some()) else { return false };
        let is_usable = |c: &Connection| {
            c.state.takes_calls()
                && !matches!(c.reach, Reach::Deaf(_))
                && c.breaker.state() == BreakerState::Closed
        };
        let mut others =
            self.connections.iter().filter(|(other, c)| *other != id && c.namespace == it.namespace);
        !others.any(|(_, c)| is_usable(c))
    }

    /// Why nobody takes a call, in words.
    pub fn why_none(&self, nobody: Nobody, qualified: &str, tried: &[String]) -> NoMember {
        let why = self.reasons(qualified, tried);
        match nobody {
            Nobody::Busy => NoMember::Busy(why),
            Nobody::Out if why.is_empty() => NoMember::Unknown,
            Nobody::Out => NoMember::NoneHealthy(why),
        }
    }

    /// Why each of those that have this module does not execute it.
    fn reasons(&self, qualified: &str, tried: &[String]) -> String {
        let Some((namespace, name)) = qualified.rsplit_once('.') else { return String::new() };
        let of_it =
            self.connections.iter().filter(|(_, c)| c.namespace == namespace && c.modules.contains_key(name));
        let mut why: Vec<String> = of_it
            .map(|(id, c)| {
                let what = match c.out() {
                    Some(out) if !tried.contains(id) => out,
                    _ if !c.last_error.is_empty() && tried.contains(id) => c.last_error.clone(),
                    _ => format!("{} calls are under way", c.in_flight),
                };
                format!("{}: {what}", c.executor)
            })
            .collect();
        why.sort();
        why.join("; ")
    }

    /// One of those that have registered this module, for its types.
    pub fn module(&self, qualified: &str) -> Option<Arc<Module>> {
        let (namespace, name) = qualified.rsplit_once('.')?;
        let of = self.connections.values().filter(|c| c.namespace == namespace);
        of.filter_map(|c| c.modules.get(name)).next().map(Arc::clone)
    }

    /// A place in the queue of a module; none: it is full, or nobody executes the module.
    pub fn queue(&mut self, qualified: &str) -> Option<u64> {
        let pool = self.pools.get_mut(qualified)?;
        if pool.waiting.len() >= self.limits.member_queue as usize * pool.members.len() {
            return None;
        }
        self.last_number += 1;
        pool.waiting.push_back(self.last_number);
        Some(self.last_number)
    }

    /// How many have a place in the queue.
    #[cfg(test)]
    pub fn waiting(&self, qualified: &str) -> usize {
        self.pools.get(qualified).map_or(0, |pool| pool.waiting.len())
    }

    /// Gives a place in the queue back.
    pub fn leave_queue(&mut self, qualified: &str, number: u64) {
        if let Some(pool) = self.pools.get_mut(qualified) {
            pool.waiting.retain(|waiting| *waiting != number);
            if pool.is_unused() {
                self.pools.remove(qualified);
            }
        }
    }

    /// Whether a call that has failed may be tried once more.
    pub fn may_retry(&mut self, qualified: &str, now_ms: u64) -> bool {
        self.pools.get_mut(qualified).is_some_and(|pool| pool.retries.spend(now_ms))
    }

    /// A call that [`Plane::next`] gave out has ended. Whether its executor is to be probed now; none: its
    /// connection is gone.
    pub fn done(&mut self, member: Member, ended: Ended, now_ms: u64) -> Option<bool> {
        let patient_ms = millis(self.limits.heartbeat_timeout);
        self.count(&member, &ended, now_ms);
        let is_last = self.is_last_of_its_group(&member.id);
        let connection = self.connections.get_mut(&member.id)?;
        connection.in_flight = connection.in_flight.saturating_sub(1);
        let error = ended.error.clone().unwrap_or_default();
        let counters = connection.counters.entry(member.name).or_default();
        if ended.said == Said::Answered {
            counters.answered += 1;
            counters.total_us += ended.took_us;
        }
        if ended.error.is_some() {
            counters.errors += 1;
            connection.last_error.clone_from(&error);
        }
        let outcome = match ended.said {
            Said::Answered => Outcome::Success,
            // Calls that may fail are better than none.
            Said::Unreached | Said::Silent | Said::Broken if is_last => Outcome::Ignored,
            Said::Unreached | Said::Silent | Said::Broken => Outcome::Failure(error),
            Said::Nothing => Outcome::Ignored,
        };
        connection.breaker.report(member.pass, outcome, now_ms);
        connection.breaker.take_changes();
        match ended.said {
            Said::Answered => {
                connection.reach = Reach::Answers;
                if connection.state == State::Restored {
                    connection.deadline_ms = now_ms + patient_ms;
                } else {
                    connection.probe_due_ms = None;
                }
            }
            Said::Unreached | Said::Silent => connection.probe_due_ms = Some(now_ms),
            Said::Broken | Said::Nothing => {}
        }
        Some(connection.probe_due_ms == Some(now_ms))
    }

    /// A canary counts the call, also of a member that has left meanwhile.
    fn count(&mut self, member: &Member, ended: &Ended, now_ms: u64) {
        let Some(Counted { namespace, serial, begun_ms }) = &member.counted else { return };
        let took = Duration::from_micros(ended.took_us);
        let call = Call { failed: ended.error.is_some(), took };
        let call = (ended.said != Said::Nothing).then_some(call);
        let executor = member.executor.to_string();
        let track = self.canaries.get_mut(namespace);
        if track.is_some_and(|track| track.end_call(*serial, &executor, *begun_ms, call, now_ms)) {
            self.touch(namespace);
        }
    }

    /// An executor was probed: why it does not answer, if it does not. Which one, if that is new.
    pub fn probed(&mut self, id: &str, result: Result<(), String>, now_ms: u64) -> Option<String> {
        let limit_ms = millis(self.limits.heartbeat_timeout);
        let again_ms = now_ms + self.limits.probe_interval_ms();
        let connection = self.connections.get_mut(id)?;
        connection.is_probing = false;
        let was_deaf = matches!(connection.reach, Reach::Deaf(_));
        let is_restored = connection.state == State::Restored;
        match result {
            Ok(()) => {
                connection.reach = Reach::Answers;
                if is_restored {
                    connection.deadline_ms = now_ms + limit_ms;
                }
                connection.probe_due_ms = is_restored.then_some(again_ms);
            }
            Err(why) => {
                connection.reach = Reach::Deaf(why);
                connection.probe_due_ms = Some(again_ms);
            }
        }
        let is_deaf = matches!(connection.reach, Reach::Deaf(_));
        let (namespace, executor) = (connection.namespace.clone(), connection.executor.to_string());
        self.touch(&namespace);
        (is_deaf != was_deaf).then(|| format!("{namespace} at {executor}"))
    }
}

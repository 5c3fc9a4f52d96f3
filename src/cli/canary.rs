//! `provost module canary`: a new version of modules, tried with a share of the calls, and how that goes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::arguments::Arguments;
use crate::cli::json;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::text;
use crate::sys::{clock, poll};
use crate::wire::canary::{Canary, CanaryCall, CanaryMember, CanaryOrder, CanaryStep, Part};
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;
use crate::wire::time::{Timestamp, millis};

/// How long what is watched stays as it is shown.
const REDRAW: Duration = Duration::from_millis(500);
/// Exit code when a canary that was watched was not promoted.
const NOT_PROMOTED: u8 = 1;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    Ask(CanaryCall),
    /// Of this namespace, or of all.
    Watch(String),
}

/// What options say.
pub struct Options {
    order: CanaryOrder,
    is_watched: bool,
    /// The first that is for starting one.
    for_start: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { order: CanaryOrder::new("", ""), is_watched: false, for_start: None }
    }
}

impl Options {
    /// Takes an option; false: it is none of these.
    pub fn take(&mut self, option: &str, arguments: &mut Arguments) -> Result<bool, Error> {
        let part = |arguments: &mut Arguments| {
            let value = arguments.value(option)?;
            value.parse::<Part>().map_err(|e| {
                Error::usage(format!("bad value of {option}: {}", e.message)).hint("write it as 10% or 0.1")
            })
        };
        match option {
            "--watch" | "-w" => {
                self.is_watched = true;
                return Ok(true);
            }
            "--version" => self.order.version = arguments.value(option)?,
            "--share" => self.order.share = part(arguments)?,
            "--success-ratio" => self.order.success_ratio = part(arguments)?,
            "--latency" => self.order.latency = arguments.duration(option)?,
            "--window" => self.order.window = arguments.duration(option)?,
            "--min-calls" => self.order.min_calls = arguments.number(option)?,
            "--no-rollback" => self.order.rolls_back = false,
            _ => return Ok(false),
        }
        self.for_start.get_or_insert_with(|| option.to_owned());
        Ok(true)
    }

    /// Refuses them for what is done without a canary.
    pub fn none_for(&self, verb: &str, arguments: &Arguments) -> Result<(), Error> {
        let watched = self.is_watched.then_some("--watch");
        match self.for_start.as_deref().or(watched) {
            Some(option) => Err(arguments.usage(format!("{option} is not for '{verb}', but for 'canary'"))),
            None => Ok(()),
        }
    }

    /// What the words behind `canary` say with them.
    pub fn order(self, arguments: &mut Arguments) -> Result<Order, Error> {
        let verb = arguments.next_value().unwrap_or_else(|| "status".to_owned());
        let namespace = arguments.next_value();
        let needed = |arguments: &Arguments| {
            namespace.clone().ok_or_else(|| arguments.usage("no namespace is given".into()))
        };
        let order = match verb.as_str() {
            "start" => {
                let order = CanaryOrder { namespace: needed(arguments)?, ..self.order };
                if order.version.is_empty() {
                    let e = arguments.usage("no version is given".into());
                    return Err(e.hint("'--version V': what its providers call it"));
                }
                return Ok(Order::Ask(CanaryCall::Start(order)));
            }
            "abort" => Order::Ask(CanaryCall::Abort(needed(arguments)?)),
            "status" if self.is_watched => Order::Watch(namespace.unwrap_or_default()),
            "status" => Order::Ask(CanaryCall::Status(namespace.unwrap_or_default())),
            other => {
                let e = format!("there is no 'provost module canary {}'", quoted(other).trim_matches('\''));
                return Err(arguments.usage(e));
            }
        };
        match self.for_start {
            Some(option) => Err(arguments.usage(format!("{option} is for 'provost module canary start'"))),
            None => Ok(order),
        }
    }
}

/// Shows what was answered.
pub fn print(all: &[Canary], session: &mut Session) {
    if session.is_json() {
        all.iter().for_each(|canary| session.object(&object(canary)));
        return;
    }
    let now = Timestamp::now();
    for (n, canary) in all.iter().enumerate() {
        if n > 0 {
            session.out.line("");
        }
        lines(canary, now).iter().for_each(|line| session.out.line(&text::escaped(line)));
        let header =
            ["EXECUTOR", "VERSION", "STANDING", "CALLS", "FAILED", "RATIO", "SLOW", "MEAN_MS", "WHY"];
        stdout::table(&mut session.out, header, canary.members.iter().map(row).collect());
        stdout::table(
            &mut session.out,
            ["TIME", "STEP", "EXECUTOR", "DETAIL"],
            canary.steps.iter().map(step_row).collect(),
        );
    }
}

/// Shows it until all of it has ended: on a terminal as it is, else each step once.
pub fn watch(
    mut read: impl FnMut() -> Result<Vec<Canary>, Error>,
    session: &mut Session,
) -> Result<u8, Error> {
    let is_screen = session.out.is_terminal() && !session.is_json();
    let mut seen: BTreeMap<(String, Timestamp), Vec<CanaryStep>> = BTreeMap::new();
    loop {
        let all = read()?;
        if is_screen {
            // Home, and nothing of what was there.
            session.out.bytes(b"\x1b[H\x1b[2J");
            print(&all, session);
        } else {
            for canary in &all {
                let before = seen.entry((canary.order.namespace.clone(), canary.started_at)).or_default();
                for step in canary.steps.iter().filter(|step| !before.contains(step)) {
                    print_step(canary, step, session);
                }
                before.clone_from(&canary.steps);
            }
        }
        session.out.flush();
        if session.out.is_broken() {
            return Ok(0);
        }
        if !all.iter().any(Canary::is_running) {
            let latest: BTreeMap<_, _> = all.iter().map(|c| (&c.order.namespace, &*c.state)).collect();
            let is_good = latest.values().all(|state| *state == "promoted");
            return Ok(if is_good { 0 } else { NOT_PROMOTED });
        }
        poll::wait(&mut [], Some(clock::now_ms() + millis(REDRAW))).map_err(|e| Error::failed("wait", &e))?;
    }
}

/// The refusal of a namespace that has none.
pub fn none(namespace: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no canary of {}", quoted(namespace)))
        .hint("'provost module canary status' shows all")
}

fn print_step(canary: &Canary, step: &CanaryStep, session: &mut Session) {
    if session.is_json() {
        let mut shown = step_object(step);
        shown["namespace"] = json!(canary.order.namespace);
        shown["version"] = json!(canary.order.version);
        session.object(&shown);
        return;
    }
    let [at, what, executor, detail] = step_row(step);
    let whose = [canary.order.namespace.clone(), canary.order.version.clone()]
        .map(|t| text::escaped(&t).into_owned());
    session.out.line(&[&[at][..], &whose, &[what, executor, detail]].concat().join("\t"));
}

/// What is above the members.
fn lines(canary: &Canary, now: Timestamp) -> Vec<String> {
    let order = &canary.order;
    let when = match canary.ended_at {
        None => format!("for {}", text::age(canary.started_at, now)),
        Some(at) => format!("{} ago", text::age(at, now)),
    };
    let mut lines = vec![format!(
        "{} {}: {} {when}, {} of the calls, begun by {}",
        order.namespace,
        order.version,
        canary.state,
        order.share.percent(),
        canary.by
    )];
    let back = if order.rolls_back { "" } else { "; those that were promoted stay" };
    lines.push(format!(
        "passes: {} of at least {} calls succeed within {}, in {}{back}",
        order.success_ratio,
        order.min_calls,
        text::span(order.latency),
        text::span(order.window)
    ));
    lines.extend((!canary.reason.is_empty()).then(|| format!("why: {}", canary.reason)));
    lines.extend((!canary.next.is_empty()).then(|| format!("next: {}", canary.next)));
    lines
}

fn row(m: &CanaryMember) -> [String; 9] {
    let was_tried = m.since.is_some();
    let of = |n: String| if was_tried { n } else { "-".to_owned() };
    let ratio = m
        .success()
        .map_or_else(|| "-".to_owned(), |ratio| format!("{}.{:04}", ratio / 10_000, ratio % 10_000));
    [
        m.executor.clone(),
        m.version.clone(),
        m.standing.clone(),
        of(m.calls.to_string()),
        of(m.failures.to_string()),
        of(ratio),
        of(m.slow.to_string()),
        of(format!("{}.{:03}", m.mean_latency_us / 1000, m.mean_latency_us % 1000)),
        m.reason.clone(),
    ]
    .map(|t| text::escaped(&t).into_owned())
}

fn step_row(step: &CanaryStep) -> [String; 4] {
    [json::time(step.at), step.what.clone(), step.executor.clone(), step.detail.clone()]
        .map(|t| text::escaped(&t).into_owned())
}

fn object(c: &Canary) -> Value {
    let order = &c.order;
    json!({
        "namespace": order.namespace, "version": order.version, "state": c.state, "by": c.by,
        "share": order.share.fraction(), "success_ratio": order.success_ratio.fraction(),
        "latency_ms": millis(order.latency), "window_ms": millis(order.window), "min_calls": order.min_calls,
        "rolls_back": order.rolls_back, "started_at": c.started_at.0, "ended_at": c.ended_at.map(|at| at.0),
        "reason": c.reason, "next": c.next, "holds": c.holds,
        "members": c.members.iter().map(member_object).collect::<Vec<_>>(),
        "steps": c.steps.iter().map(step_object).collect::<Vec<_>>(),
    })
}

fn member_object(m: &CanaryMember) -> Value {
    let ratio =
        m.success().and_then(|ratio| u32::try_from(ratio).ok()).map(|ratio| f64::from(ratio) / 10_000.0);
    json!({
        "executor": m.executor, "version": m.version, "standing": m.standing,
        "since": m.since.map(|at| at.0), "calls": m.calls, "failures": m.failures, "slow": m.slow,
        "success_ratio": ratio, "mean_latency_us": m.mean_latency_us, "reason": m.reason,
    })
}

fn step_object(step: &CanaryStep) -> Value {
    json!({ "at": step.at.0, "step": step.what, "executor": step.executor, "detail": step.detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_canary_says_what_comes_next() {
        let canary = Canary::sample();
        assert_eq!(
            lines(&canary, Timestamp(1006)),
            [
                "n 2: rolled-back 1.0 s ago, 10 % of the calls, begun by uid 0",
                "passes: 0.95 of at least 50 calls succeed within 5.0 s, in 30 s; those that were promoted stay",
                "why: r",
                "next: x",
            ]
        );
        let all = row(&canary.members[0]);
        assert_eq!(all, ["localhost:1", "2", "on-trial", "4", "3", "0.2500", "2", "0.001", "deaf"]);
        let untried = CanaryMember { since: None, ..canary.members[0].clone() };
        assert_eq!(row(&untried)[3..8], ["-"; 5]);
    }
}

//! `provost graph`: which processes need which, as a tree; and what the last start took, as the chain
//! of those who waited for one another.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::json;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::text;
use crate::client::{Client, FeedItem};
use crate::wire::error::Error;
use crate::wire::event::{Event, EventKind, READY_AGAIN};
use crate::wire::process::Process;
use crate::wire::reply::Definition;
use crate::wire::request::{Events, List, TARGETS_MAX};
use crate::wire::time::Timestamp;

pub const COMMAND: Command =
    Command::new("graph", SUMMARY, HELP, |arguments| job(parse(arguments)?, run)).takes(Positional::Targets);
const SUMMARY: &str = "Show which processes need which, and what their start took";
const HELP: &str = "\
Usage: provost graph [--times] [TARGET...]

A tree: below each process those that it needs, with how they are. Without targets, from those that nobody
needs. With --times, the chain of the last start instead: each process with those that it waited for
longest, when it was ready (@, from the first one's start on) and what it took itself (+).

Options:
      --times                The chain of the last start

Examples:
  provost graph
  provost graph --times web
";

struct GraphArgs {
    targets: Vec<String>,
    is_timed: bool,
}

fn parse(arguments: &mut Arguments) -> Result<GraphArgs, Error> {
    let mut is_timed = false;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--times" => is_timed = true,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    Ok(GraphArgs { targets: arguments.values(), is_timed })
}

fn run(mut args: GraphArgs, session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client()?;
    let all = definitions(&mut client)?;
    let graph = Graph::new(&all);
    let tops = match args.targets.is_empty() {
        true => graph.tops(),
        false => {
            client = session.client_for(&mut args.targets)?;
            let mut tops = Vec::new();
            for item in client.status(args.targets)? {
                match (item.process, item.error) {
                    (Some(process), None) => tops.extend(graph.place(&process)),
                    (_, Some(e)) => return Err(e),
                    (None, None) => {}
                }
            }
            tops
        }
    };
    if args.is_timed {
        let spans = spans(&mut client)?;
        let last = |at: usize| spans.get(&graph.name(at)).and_then(|all| all.last()).copied();
        let Some(&top) = tops.iter().max_by_key(|&&at| last(at).map(|span| span.ready)) else {
            return Ok(0);
        };
        graph.print_chain(
            &chain(top, &graph.needs, |at| spans.get(&graph.name(at)).map(Vec::as_slice).unwrap_or_default()),
            session,
        );
        return Ok(0);
    }
    let now = Timestamp::now();
    let mut shown = HashSet::new();
    for at in tops {
        for line in graph.tree(at, &mut shown) {
            graph.print(&line, now, session);
        }
    }
    Ok(0)
}

fn definitions(client: &mut Client) -> Result<Vec<Definition>, Error> {
    let ids: Vec<_> = client.list(List::default())?.iter().map(|p| p.id.to_string()).collect();
    let mut all = Vec::with_capacity(ids.len());
    for some in ids.chunks(TARGETS_MAX) {
        all.extend(client.definitions(some.to_vec())?);
    }
    Ok(all)
}

/// The processes with the places of those that each needs, and how.
struct Graph<'a> {
    all: &'a [Definition],
    needs: Vec<Vec<(&'static str, usize)>>,
}

/// A process in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    at: usize,
    depth: usize,
    /// How the one above needs it.
    how: &'static str,
    /// What it needs stands further up.
    is_above: bool,
}

impl<'a> Graph<'a> {
    fn new(all: &'a [Definition]) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, d) in all.iter().enumerate() {
            by_name.entry(d.process.label()).or_default().push(at);
            if let Some(group) = &d.spec.needs.in_group {
                by_name.entry(format!("@{group}")).or_default().push(at);
            }
        }
        let needs = |(at, d): (usize, &Definition)| {
            let kinds = [
                ("requires", &d.spec.needs.requires),
                ("wants", &d.spec.needs.wants),
                ("after", &d.spec.needs.after),
            ];
            let mut needs = Vec::new();
            for (kind, names) in kinds {
                let meant = names.iter().filter_map(|name| by_name.get(name)).flatten();
                needs.extend(meant.filter(|need| **need != at).map(|need| (kind, *need)));
            }
            needs
        };
        Self { all, needs: all.iter().enumerate().map(needs).collect() }
    }

    fn name(&self, at: usize) -> String {
        self.all[at].process.label()
    }

    fn place(&self, process: &Process) -> Option<usize> {
        self.all.iter().position(|d| d.process.id == process.id)
    }

    /// Those that nobody needs, in the order in which they were made.
    fn tops(&self) -> Vec<usize> {
        let needed: HashSet<usize> = self.needs.iter().flatten().map(|(_, at)| *at).collect();
        (0..self.all.len()).filter(|at| !needed.contains(at)).collect()
    }

    /// Below each those that it needs. What stands further up with all that it needs stands here without.
    fn tree(&self, top: usize, shown: &mut HashSet<usize>) -> Vec<Line> {
        let (mut lines, mut left) = (Vec::new(), vec![(top, 0, "")]);
        while let Some((at, depth, how)) = left.pop() {
            let is_above = !shown.insert(at) && !self.needs[at].is_empty();
            lines.push(Line { at, depth, how, is_above });
            if !is_above {
                left.extend(self.needs[at].iter().rev().map(|(how, need)| (*need, depth + 1, *how)));
            }
        }
        lines
    }

    fn print(&self, line: &Line, now: Timestamp, session: &mut Session) {
        let Line { at, depth, how, is_above } = *line;
        let process = &self.all[at].process;
        if session.is_json() {
            let needs: Vec<_> = (self.needs[at].iter())
                .map(|(how, need)| json!({ "how": how, "name": self.name(*need) }))
                .collect();
            session.object(&json!({
                "depth": depth,
                "name": process.label(),
                "state": process.state.name(),
                "ready": process.ready,
                "needs": needs,
                "above": is_above,
            }));
            return;
        }
        let (indent, above) = ("  ".repeat(depth), if is_above { " (see above)" } else { "" });
        let how = if how.is_empty() { String::new() } else { format!("{how} ") };
        session.out.line(&format!("{indent}{how}{}: {}{above}", process.label(), text::state(process, now)));
    }

    fn print_chain(&self, chain: &[(usize, Option<Span>)], session: &mut Session) {
        let first = chain.iter().filter_map(|(_, span)| *span).map(|span| span.started).min().unwrap_or(0);
        for (depth, (at, span)) in chain.iter().enumerate() {
            let name = self.name(*at);
            if session.is_json() {
                session.object(&json!({
                    "name": name,
                    "started_ms": span.map(|span| span.started - first),
                    "ready_ms": span.and_then(|span| Some(span.ready? - first)),
                }));
                continue;
            }
            let times = match span {
                None => "has not started".to_owned(),
                Some(Span { started, ready: None }) => format!("started @{}, not ready", ms(started - first)),
                Some(Span { started, ready: Some(ready) }) => {
                    format!("@{} +{}", ms(ready - first), ms(ready.saturating_sub(*started)))
                }
            };
            session.out.line(&format!("{}{name} {times}", "  ".repeat(depth)));
        }
    }
}

/// From one to whom its last start waited for longest, and so on; each with the run that was waited for. That
/// need not be the last one: what was restarted since was not.
fn chain<'a>(
    top: usize,
    needs: &[Vec<(&'static str, usize)>],
    spans: impl Fn(usize) -> &'a [Span],
) -> Vec<(usize, Option<Span>)> {
    let mut chain = vec![(top, spans(top).last().copied())];
    while let Some((at, span)) = chain.last().copied() {
        let waited_for = |need: usize| {
            let is_before =
                |run: &&Span| span.is_none_or(|s| run.ready.is_some_and(|ready| ready <= s.started));
            spans(need).iter().rev().find(is_before).copied()
        };
        let is_new = |need: &usize| chain.iter().all(|(other, _)| other != need);
        let found = needs[at].iter().map(|(_, need)| *need).filter(is_new);
        let found = found.filter_map(|need| Some((need, waited_for(need)?)));
        let Some((need, run)) = found.max_by_key(|(_, run)| run.ready) else { break };
        chain.push((need, Some(run)));
    }
    chain
}

fn ms(ms: u64) -> String {
    if ms < 1000 { format!("{ms}ms") } else { format!("{}.{:03}s", ms / 1000, ms % 1000) }
}

/// When a run of a process began and was ready, by the monotonic clock, ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    started: u64,
    ready: Option<u64>,
}

/// Of each process its runs, the first one first.
type Spans = BTreeMap<String, Vec<Span>>;

fn spans(client: &mut Client) -> Result<Spans, Error> {
    let mut spans = BTreeMap::new();
    for item in client.events(Events { since: 0, follow: false, target: None })? {
        if let FeedItem::Event(event) = item? {
            note(&mut spans, &event);
        }
    }
    Ok(spans)
}

fn note(spans: &mut Spans, event: &Event) {
    let Some(id) = event.id else { return };
    let name = if event.name.is_empty() { id.to_string() } else { event.name.clone() };
    match event.kind {
        EventKind::Started => {
            // What has no measure of readiness is ready at once; another says so later.
            let span = Span { started: event.mono_ms, ready: Some(event.mono_ms) };
            spans.entry(name).or_default().push(span);
        }
        // What it took to come back is not of its start.
        EventKind::Ready if event.detail != READY_AGAIN => {
            if let Some(span) = spans.get_mut(&name).and_then(|all| all.last_mut()) {
                span.ready = Some(event.mono_ms);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::ProcessId;

    #[test]
    fn every_run_has_its_times() {
        let mut spans = BTreeMap::new();
        let id = Some(ProcessId::new());
        for (kind, mono_ms) in [
            (EventKind::Started, 10),
            (EventKind::Ready, 30),
            (EventKind::Started, 50),
            (EventKind::Ready, 75),
        ] {
            note(&mut spans, &Event { id, name: "web".into(), kind, mono_ms, ..Event::default() });
        }
        let detail = READY_AGAIN.to_owned();
        let again =
            Event { id, name: "web".into(), kind: EventKind::Ready, mono_ms: 90, detail, ..Event::default() };
        note(&mut spans, &again);
        let run = |started, ready| Span { started, ready: Some(ready) };
        assert_eq!(spans["web"], [run(10, 30), run(50, 75)]);
        assert_eq!((ms(999), ms(1234)), ("999ms".into(), "1.234s".into()));
    }

    #[test]
    fn a_chain_is_of_the_runs_that_were_waited_for() {
        let run = |started, ready| Span { started, ready: Some(ready) };
        // The database was restarted since; the cache is one that was not there yet.
        let (web, job) = ([run(1, 2), run(60, 60)], [run(40, 60)]);
        let (db, cache) = ([run(10, 40), run(70, 90)], [run(80, 80)]);
        let all: [&[Span]; 4] = [&web, &job, &db, &cache];
        let needs = [vec![("requires", 1), ("wants", 3)], vec![("requires", 2)], vec![("after", 0)], vec![]];
        assert_eq!(
            chain(0, &needs, |at| all[at]),
            [(0, Some(run(60, 60))), (1, Some(run(40, 60))), (2, Some(run(10, 40)))]
        );
        // One that waits has not started: all that it waits for counts.
        let none: [&[Span]; 2] = [&[], &db];
        let needs = [vec![("requires", 1)], vec![]];
        assert_eq!(chain(0, &needs, |at| none[at]), [(0, None), (1, Some(run(70, 90)))]);
    }

    #[test]
    fn what_many_need_stands_once_with_all_that_it_needs() {
        let layer = |n: usize| {
            if n < 2 {
                Vec::new()
            } else {
                vec![("requires", (n / 2 - 1) * 2), ("after", (n / 2 - 1) * 2 + 1)]
            }
        };
        let graph = Graph { all: &[], needs: (0..60).map(layer).collect() };
        let lines = graph.tree(59, &mut HashSet::new());
        assert_eq!(lines.len(), 1 + 29 * 4 - 2, "{lines:?}");
        assert_eq!(lines[1], Line { at: 56, depth: 1, how: "requires", is_above: false });
        assert_eq!(lines.last(), Some(&Line { at: 55, depth: 2, how: "after", is_above: true }));
    }

    #[test]
    fn options_are_read() {
        let args = parse(&mut Arguments::of("--times web")).unwrap();
        assert!(args.is_timed && args.targets == ["web"]);
        assert!(parse(&mut Arguments::of("--all")).is_err());
    }
}

//! `provost history`: everything that is recorded of a process, over all its runs and services.

use std::collections::VecDeque;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::events;
use crate::cli::json;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::client::FeedItem;
use crate::wire::error::Error;
use crate::wire::request::Events;

pub const COMMAND: Command = Command::new("history", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Show everything that is recorded of a process";
const HELP: &str = "\
Usage: provost history [OPTIONS] TARGET

A line for each event, oldest first, also from before the service was started. Of a process that was
removed, its UUID still has one.

Options:
  -n, --limit N              Only the last N

Examples:
  provost history --limit 20 web
";

#[derive(Debug, PartialEq, Eq)]
struct HistoryArgs {
    target: String,
    limit: Option<usize>,
}

fn parse(arguments: &mut Arguments) -> Result<HistoryArgs, Error> {
    let mut limit = None;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--limit" | "-n" => limit = Some(arguments.number(&option)?),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    Ok(HistoryArgs { target: arguments.one_target()?, limit })
}

fn run(args: HistoryArgs, session: &mut Session) -> Result<u8, Error> {
    let request = Events { target: Some(args.target), ..Events::default() };
    let limit = args.limit.unwrap_or(usize::MAX);
    let mut last = VecDeque::new();
    for item in session.client()?.events(request)? {
        let line = match item? {
            FeedItem::Event(event) if session.is_json() => json::event(&event).to_string(),
            FeedItem::Event(event) => events::line(&event),
            FeedItem::Missed(count) => {
                stdout::notice(&format!("{count} events of the service are no longer kept"));
                continue;
            }
        };
        if args.limit.is_none() {
            session.out.line(&line);
        } else {
            last.push_back(line);
            if last.len() > limit {
                last.pop_front();
            }
        }
        if session.out.is_broken() {
            break;
        }
    }
    for line in last {
        session.out.line(&line);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_target_is_needed() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        assert_eq!(parsed("--limit 3 web"), Ok(HistoryArgs { target: "web".into(), limit: Some(3) }));
        assert!(parsed("--limit x web").is_err());
        assert!(parsed("a b").is_err());
        assert!(parsed("--limit 3").is_err());
    }
}

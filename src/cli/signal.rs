//! `provost signal`: sends a signal, and changes nothing else.

use crate::cli::arguments::Arguments;
use crate::cli::batch::{Expectation, in_order, report};
use crate::cli::command::{Command, job};
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::text;
use crate::cli::values;
use crate::sys::signal;
use crate::wire::error::Error;
use crate::wire::request::Signal;
use crate::wire::spec::Scope;

pub const COMMAND: Command = Command::new("signal", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .writes()
    .takes(Positional::SignalAndTargets);
const SUMMARY: &str = "Send a signal to processes";
const HELP: &str = "\
Usage: provost signal [OPTIONS] SIG TARGET...

SIG is a name or a number: HUP, SIGHUP or 1. A process that ends by it has ended by itself, and is
started again if its restart policy says so; to end it for good: provost stop.

Options:
      --scope S              Whom it reaches: leader (default), group or tree

Examples:
  provost signal HUP web
  provost signal --scope tree USR1 'worker-*'
";

fn parse(arguments: &mut Arguments) -> Result<Signal, Error> {
    let mut scope = Scope::Leader;
    while let Some(option) = arguments.next_option()? {
        if option == "--scope" {
            scope = values::scope(&option, &arguments.value(&option)?)?;
            continue;
        }
        let e = arguments.unknown(&option);
        let bare = option.trim_start_matches('-');
        return Err(match values::signal(bare) {
            Ok(_) => e.hint(format!("write the signal without '-': provost signal {bare} TARGET...")),
            Err(_) => e,
        });
    }
    // -HUP is read as -H UP, another machine.
    if arguments.shared.remote.name.as_ref().is_some_and(|name| values::signal(&format!("H{name}")).is_ok()) {
        return Err(arguments.usage("a signal has no '-' here".into()).hint("provost signal HUP TARGET..."));
    }
    let signal = arguments.next_value().ok_or_else(|| arguments.usage("no signal is given".into()))?;
    let targets = arguments.targets();
    let number = values::signal(&signal).map_err(|e| match targets.as_deref() {
        Ok([.., last]) if values::signal(last).is_ok() => {
            e.hint(format!("the signal comes first: provost signal {last} {signal}"))
        }
        Err(_) => e.hint(format!(
            "the signal comes first: provost signal HUP {}",
            text::quoted_command(std::slice::from_ref(&signal))
        )),
        Ok(_) => e,
    })?;
    Ok(Signal { signal: number, targets: targets?, scope })
}

fn run(mut signal: Signal, session: &mut Session) -> Result<u8, Error> {
    let name = signal::name(signal.signal);
    let mut client = session.client_for(&mut signal.targets)?;
    let targets = signal.targets.clone();
    let items = in_order(client.signal(signal)?, &targets);
    Ok(report(session, &items, |_| Expectation::Yes(format!("{name} sent"))).exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Signal, Error> {
        parse(&mut Arguments::of(line))
    }

    #[test]
    fn the_signal_comes_first() {
        let signal = parsed("hup web --scope tree").unwrap();
        assert_eq!((signal.signal, signal.scope, signal.targets), (1, Scope::Tree, vec!["web".into()]));
        let e = parsed("web hup").unwrap_err();
        assert!(e.message.contains("'web'") && e.hint.contains("provost signal hup web"), "{e:?}");
        assert!(parsed("web db").is_err_and(|e| e.hint.contains("write its name")));
        assert!(parsed("web").is_err_and(|e| e.hint.contains("provost signal HUP web")));
        assert!(parsed("hup").is_err());
        assert!(parsed("-HUP web").is_err_and(|e| e.hint.contains("provost signal HUP")));
        assert!(parsed("-9 web").is_err_and(|e| e.hint.contains("provost signal 9")));
    }
}

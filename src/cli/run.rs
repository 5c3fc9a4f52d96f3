//! `provost run`: behaves like the program it runs. Passes signals on, writes what it writes, exits as it
//! does.
//!
//! Two threads: this one follows the output, `signals` waits for signals. A signal that a terminal sends
//! reaches the program's whole group, as it would there; any other the program alone.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cli::arguments::{Argument, Arguments};
use crate::cli::command::{Codes, Command, job};
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::spec_options::SpecOptions;
use crate::cli::stdout;
use crate::cli::suggest;
use crate::cli::text;
use crate::client::Address;
use crate::client::Client;
use crate::client::{OutputStream, StreamItem};
use crate::sys::errno;
use crate::sys::signal;
use crate::sys::signal::SignalFd;
use crate::sys::socket::set_nonblocking;
use crate::sys::thread;
use crate::wire::error::{Code, Error};
use crate::wire::hooks::When;
use crate::wire::id::{ProcessId, quoted};
use crate::wire::process::{Exit, Process};
use crate::wire::reply::{Chunk, Definition, Item};
use crate::wire::request::{
    Numbering, OutdatedRun, Remove, Signal, Since, Start, Stop, Stream, StreamKind, Update, Wait,
};
use crate::wire::spec::{Scope, Spec};

/// Output kept when no option says how much, in bytes. A process is never held back, so what it writes faster
/// than it can be passed on waits there; a program that writes no more than this in all loses nothing,
/// however slow its reader.
const OUTPUT_BYTES: u64 = 16 << 20;
/// The least that has to be kept of output that waits for its reader: some chunks, as they are taken.
const HOLD_BYTES_MIN: u64 = 64 << 10;
/// The exit code when output was missed, where the program's own is 0: it would say that all is well.
const MISSED: u8 = 122;
/// As a shell says that a program died of SIGPIPE.
const PIPE_CODE: u8 = 128 + 13;
/// How long a program may go on that is sent SIGPIPE, since nobody reads what it writes.
const PIPE_GRACE: Duration = Duration::from_secs(2);
/// The signals that are passed on to the program.
const PASSED_ON: [u32; 7] =
    [signal::HUP, signal::INT, signal::QUIT, signal::TERM, signal::USR1, signal::USR2, signal::WINCH];

pub const COMMAND: Command = Command::new("run", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .writes()
    .takes(Positional::Program)
    .text_only()
    .codes(Codes::Process);
const SUMMARY: &str = "Start a process, show its output, pass signals on, exit as it does";
const HELP: &str = "\
Usage: provost run [OPTIONS] -- PROGRAM [ARG...]

Standard input is empty, as for every process. Ctrl-c is passed on; a second one stops the process
with all it started, a third one kills it. If this command is killed, the process goes on.
Without --hold the process is never held back: output that nobody reads in time, beyond
--output-limit, is missed, and told on standard error to the byte; then the exit code is 122, unless
the program's own is not 0.
When the reader of the output has gone, the program gets SIGPIPE, and what that does not end is stopped.
With --name, the next one of this name is another run of the same process, once the last one has ended:
'provost history' has all of them, 'provost output --run N' shows one.

Options:
      --rm                   Forget the process when it has ended
      --hold                 The process waits for the reader of the output, as in a pipe: nothing is
                             missed. One reader at a time, who is root or the service's own user, on its
                             machine

Examples:
  provost run -- sh -c 'echo hello; exit 3'
  provost run --rm --limit nofile=64 -- sh -c 'ulimit -n'
";

struct RunArgs {
    spec: Box<Spec>,
    /// Whether the process is removed when it has ended.
    remove: bool,
    /// Whether the process waits for whoever reads its output.
    hold: bool,
}

fn parse(arguments: &mut Arguments) -> Result<RunArgs, Error> {
    let program = arguments.take_program();
    let (mut options, mut remove, mut hold) = (SpecOptions::keeping(OUTPUT_BYTES), false, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Value(value) => {
                let e = Error::usage(format!("{} stands where only options do", quoted(&value)));
                let dashes = suggest::with_dashes(arguments, "run", &value);
                let start = "what there is already is started by 'provost start NAME'";
                return Err(e.hint(format!("{start}; {dashes}")));
            }
            Argument::Option(option) if option == "--rm" => remove = true,
            Argument::Option(option) if option == "--hold" => hold = true,
            Argument::Option(option) if options.take(&option, arguments)? => {}
            Argument::Option(option) => return Err(arguments.unknown(&option)),
        }
    }
    let program = program.ok_or_else(|| arguments.usage("there is no -- with a program behind it".into()))?;
    Ok(RunArgs { spec: Box::new(options.finish(program)?), remove, hold })
}

fn run(args: RunArgs, session: &mut Session) -> Result<u8, Error> {
    // Before any other thread, so that none of them is interrupted instead.
    let signals =
        SignalFd::new(&PASSED_ON).map_err(|e| Error::failed("receive signals", &text::cause(&e)))?;
    let mut client = session.client()?;
    let id = ProcessId::new();
    let command = args.spec.command.clone();
    let held = held(&mut client, &args.spec)?;
    let id = held.as_ref().map_or(id, |held| held.process.id);
    if let Some(held) = &held {
        has_no_run(held)?;
    }
    let has_hook = args.spec.hooks.get(When::PreStart).is_some();
    let since = match &held {
        // Not what is kept by then: what is lost before the first look is missed, too.
        None => Some(Since::Offset(0)),
        Some(held) if has_hook => Some(Since::Offset(held.process.output_end)),
        Some(_) => None,
    };
    if args.hold {
        // Before the first byte is there.
        hold(client.address(), id, held.as_ref().map_or(&args.spec, |held| &held.spec))?;
    }
    let items = match held {
        Some(held) => next_run(&mut client, held, *args.spec),
        None => client.start(Start { spec: *args.spec, ids: vec![id], numbering: Numbering::Single }),
    };
    let items = items.map_err(|e| suggest::shell(e, "run", &command))?;
    let started = outcome(items).map_err(|e| suggest::shell(e, "run", &command));
    if started.is_ok() {
        pass_on(signals, client.address().clone(), id)?;
    }
    let code = started.and_then(|process| {
        // What came before is of earlier runs, to their last byte; a hook before the start is of this one.
        let since = since.unwrap_or(Since::Offset(process.run_output_start));
        let stream = Stream { targets: vec![id.to_string()], kind: StreamKind::Both, since };
        let stream = if args.hold { client.stream_held(stream)? } else { client.stream(stream)? };
        follow(&mut client, stream, id, session)
    });
    if args.remove {
        let remove = Remove { targets: vec![id.to_string()], force: true };
        if let (Err(e), Ok(_)) = (client.remove(remove), &code) {
            stdout::complain(&e);
        }
    }
    code
}

/// The process that is called so already.
fn held(client: &mut Client, spec: &Spec) -> Result<Option<Definition>, Error> {
    let Some(name) = &spec.name else { return Ok(None) };
    match client.definitions(vec![name.as_str().to_owned()]) {
        Ok(found) => Ok(found.into_iter().next()),
        Err(e) if e.code == Code::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// From now on the output waits for this command, for as long as it lives.
fn hold(address: &Address, id: ProcessId, spec: &Spec) -> Result<(), Error> {
    if spec.output_bytes < HOLD_BYTES_MIN {
        let least = text::bytes(HOLD_BYTES_MIN);
        return Err(Error::usage(format!("--hold needs an --output-limit of {least} at least")));
    }
    let hold = Client::connect_to(address)?.hold(id)?;
    let cannot = |e| Error::failed("hold the output", &text::cause(&e));
    thread::spawn("hold", move || hold.last()).map(drop).map_err(cannot)
}

/// Whether it may have another run, which is one of its own.
fn has_no_run(held: &Definition) -> Result<(), Error> {
    let Definition { process, spec: before } = held;
    let label = process.label();
    if !process.state.is_at_rest() {
        let e = format!("{label} is {}, and has one run at a time", process.state.name());
        return Err(Error::new(Code::Refused, e).hint(format!("wait for it: provost wait {label}")));
    }
    if before.declared || before.schedule.is_on() {
        let why = if before.declared { "is declared in the configuration" } else { "has a schedule" };
        return Err(Error::new(Code::Refused, format!("{label} {why}, and is run as it says"))
            .hint(format!("to run it now: provost start {label}")));
    }
    Ok(())
}

/// Starts another run of a process that rests, in the way that is given now.
fn next_run(client: &mut Client, held: Definition, mut spec: Spec) -> Result<Vec<Item>, Error> {
    let Definition { process, spec: before } = held;
    spec.output_bytes = before.output_bytes;
    let target = process.id.to_string();
    let update = Update { target: target.clone(), spec, outdated: OutdatedRun::Continue };
    outcome(client.update(update)?)?;
    client.start_again(vec![target])
}

/// The process of an answer about one.
fn outcome(items: Vec<Item>) -> Result<Process, Error> {
    match items.into_iter().next() {
        Some(Item { error: Some(e), .. }) => Err(e),
        Some(Item { process: Some(process), .. }) => Ok(process),
        Some(_) | None => Err(Error::new(Code::Failed, "the process is gone")),
    }
}

/// Shows the output to its end, then tells the exit code.
fn follow(
    client: &mut Client,
    stream: OutputStream,
    id: ProcessId,
    session: &mut Session,
) -> Result<u8, Error> {
    let targets = vec![id.to_string()];
    let (mut has_missed, mut nobody_reads, mut is_stopped) = (false, false, None);
    for item in stream {
        match item? {
            StreamItem::Chunk(chunk) => nobody_reads |= show(&chunk, session) == Shown::ToNobody,
            StreamItem::Gap(gap) => {
                has_missed = true;
                stdout::notice(&format!("{} bytes were missed", gap.missed));
            }
            StreamItem::Ended(item) => {
                if let Some(e) = item.error {
                    return Err(e);
                }
            }
        }
        if nobody_reads && is_stopped.is_none() {
            is_stopped = Some(break_pipe(client, id)?);
        }
    }
    let process = outcome(client.wait(Wait { targets, ..Wait::default() })?)?;
    let code = exit_code(&process)?;
    if is_stopped.is_some_and(|is_stopped| is_stopped.load(Ordering::Acquire)) {
        // In a shell it would have died of that, or of what its writes said.
        return Ok(PIPE_CODE);
    }
    Ok(if has_missed && code == 0 { MISSED } else { code })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Yes,
    /// Whoever read that stream has gone.
    ToNobody,
}

fn show(chunk: &Chunk, session: &mut Session) -> Shown {
    let is_broken = if chunk.stderr {
        stdout::pass_to_stderr(&chunk.data).is_err_and(|e| e.kind() == ErrorKind::BrokenPipe)
    } else {
        session.out.write(&chunk.data);
        session.out.is_broken()
    };
    if is_broken { Shown::ToNobody } else { Shown::Yes }
}

/// The program is sent what it would get if it wrote into the closed pipe itself. What goes on all the same
/// is stopped, as its writes would fail in a pipe; returns where it is said if so.
fn break_pipe(client: &mut Client, id: ProcessId) -> Result<Arc<AtomicBool>, Error> {
    send(client, id, signal::PIPE);
    let is_stopped = Arc::new(AtomicBool::new(false));
    let (said, address) = (Arc::clone(&is_stopped), client.address().clone());
    let stop = move || {
        let Ok(mut client) = Client::connect_to(&address) else { return };
        let targets = vec![id.to_string()];
        let wait = Wait { targets: targets.clone(), timeout: Some(PIPE_GRACE), ..Wait::default() };
        let is_over = client.wait(wait).is_ok_and(|items| items.iter().all(|item| item.error.is_none()));
        if !is_over {
            said.store(true, Ordering::Release);
            if let Err(e) = client.stop(Stop { targets, ..Stop::default() }) {
                stdout::complain(&e);
            }
        }
    };
    thread::spawn("pipe", stop).map_err(|e| Error::failed("stop what nobody reads", &text::cause(&e)))?;
    Ok(is_stopped)
}

/// The process's own exit code; an error when its last start came to nothing.
fn exit_code(process: &Process) -> Result<u8, Error> {
    if let Some(failure) = &process.start_failure {
        let code = match (failure.step.as_str(), failure.errno) {
            ("exec", errno::ENOENT) => Code::ProgramNotFound,
            ("exec", _) => Code::CannotExecute,
            _ => Code::Failed,
        };
        return Err(Error::new(code, format!("cannot start: {}", text::start_failure(failure))));
    }
    Ok(process.exit.as_ref().map_or(0, Exit::shell_code))
}

/// Starts the thread that passes signals on. It ends with the program: what it waits for may never come.
fn pass_on(signals: SignalFd, address: Address, id: ProcessId) -> Result<(), Error> {
    let cannot = |e| Error::failed("pass signals on", &text::cause(&e));
    set_nonblocking(signals.as_fd(), false).map_err(cannot)?;
    let work = move || {
        let mut interrupts = 0;
        while let Ok(Some(signal)) = signals.read() {
            interrupts += u32::from(signal == signal::INT);
            let address = address.clone();
            // Each has a thread, so that a stop under way does not hold up the next signal.
            let one = move || act(&address, id, signal, interrupts);
            if let Err(e) = thread::spawn("signal", one) {
                stdout::complain(&cannot(e));
            }
        }
    };
    thread::spawn("signals", work).map_err(cannot)?;
    Ok(())
}

fn act(address: &Address, id: ProcessId, signal: u32, interrupts: u32) {
    let Ok(mut client) = Client::connect_to(address) else { return };
    if signal != signal::INT || interrupts <= 1 {
        return send(&mut client, id, signal);
    }
    // Asked to end for the second time: stop it. For the third: now.
    let timeout = (interrupts > 2).then_some(Duration::ZERO);
    if let Err(e) = client.stop(Stop { targets: vec![id.to_string()], timeout, ..Stop::default() }) {
        stdout::complain(&e);
    }
}

fn send(client: &mut Client, id: ProcessId, signal: u32) {
    let from_terminal = [signal::HUP, signal::INT, signal::QUIT, signal::WINCH].contains(&signal);
    let scope = if from_terminal { Scope::Group } else { Scope::Leader };
    // A process that has just ended takes no signal; that it has ended shows elsewhere.
    let _ = client.signal(Signal { targets: vec![id.to_string()], signal, scope });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::process;
    use crate::wire::process::StartFailure;

    #[test]
    fn a_program_is_needed_behind_the_dashes() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        assert_eq!(parsed("--rm --name x -- a -b").unwrap().spec.command, ["a", "-b"]);
        assert!(parsed("sleep 5").is_err_and(|e| e.hint.contains("-- sleep")));
        assert!(parsed("--rm").is_err());
    }

    #[test]
    fn a_failed_start_has_the_codes_of_a_shell() {
        let code = |step: &str, errno| {
            let mut p = process("x");
            p.start_failure = Some(StartFailure { step: step.into(), errno, object: String::new() });
            exit_code(&p).unwrap_err().code
        };
        assert_eq!(code("exec", errno::ENOENT), Code::ProgramNotFound);
        assert_eq!(code("exec", errno::EACCES), Code::CannotExecute);
        assert_eq!(code("chdir", errno::ENOENT), Code::Failed);
    }
}

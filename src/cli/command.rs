//! A command: what it says of itself, how it reads its arguments, and what its exit code means. The file of
//! each command has a `COMMAND`, and `cli/mod.rs` has the table of them.

use crate::cli::arguments::Arguments;
use crate::cli::manual::{About, Answers, Effect, Positional};
use crate::cli::session::Session;
use crate::wire::error::{Code, Error};

pub struct Command {
    pub about: About,
    pub codes: Codes,
    pub parse: fn(&mut Arguments) -> Result<Job, Error>,
}

/// What a command's exit code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// How the command itself did.
    Own,
    /// The same, with codes for a program that is not there or cannot be executed, as shells have them.
    #[cfg_attr(not(feature = "gateway"), expect(dead_code, reason = "only what speaks gRPC has it"))]
    Program,
    /// How a process ended; so the command's own failures have codes that programs rarely use.
    Process,
}

/// What is left to do once the arguments are understood.
pub type Job = Box<dyn FnOnce(&mut Session) -> Result<u8, Error>>;

/// Binds a command's arguments to what it does with them.
pub fn job<A: 'static>(args: A, run: fn(A, &mut Session) -> Result<u8, Error>) -> Result<Job, Error> {
    Ok(Box::new(move |session| run(args, session)))
}

impl Command {
    /// As most commands are: it only reads, takes targets, knows `--json`, and its exit code tells how it did
    /// itself.
    pub const fn new(
        name: &'static str,
        summary: &'static str,
        help: &'static str,
        parse: fn(&mut Arguments) -> Result<Job, Error>,
    ) -> Self {
        let (answers, arguments, effect) = (Answers::Json, Positional::Targets, Effect::Read);
        let about = About { name, summary, help, answers, arguments, effect };
        Self { about, codes: Codes::Own, parse }
    }

    /// Changes something.
    pub const fn writes(mut self) -> Self {
        self.about.effect = Effect::Write;
        self
    }

    /// Removes something for good, or can.
    pub const fn destroys(mut self) -> Self {
        self.about.effect = Effect::Destructive;
        self
    }

    /// Takes these arguments instead of targets.
    pub const fn takes(mut self, arguments: Positional) -> Self {
        self.about.arguments = arguments;
        self
    }

    /// Does not know `--json`.
    pub const fn text_only(mut self) -> Self {
        self.about.answers = Answers::Text;
        self
    }

    pub const fn codes(mut self, codes: Codes) -> Self {
        self.codes = codes;
        self
    }

    /// The exit code when it ends with this error.
    pub fn exit_code(&self, e: &Error) -> u8 {
        match (self.codes, e.code) {
            (Codes::Process | Codes::Program, Code::CannotExecute) => 126,
            (Codes::Process | Codes::Program, Code::ProgramNotFound) => 127,
            (Codes::Own | Codes::Program, code) | (Codes::Process, code @ Code::TimedOut) => code.exit_code(),
            (Codes::Process, _) => 125,
        }
    }
}

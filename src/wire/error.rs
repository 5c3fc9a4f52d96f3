//! The one error that is sent to a client, with its code; and the one place that maps codes to exit codes.

use std::fmt;

use crate::wire::proto::v1;

/// The reason of a refusal of what is there for administrators only.
pub const ADMIN_ONLY: &str = "admin_only";

/// The reason where a client was sent away that had not said hello in time: nothing of it was heard.
pub const SILENT: &str = "silent";
/// The reason where a program is not the one that is pinned.
pub const EXECUTABLE_MISMATCH: &str = "executable_mismatch";
/// The reason where others could change a program that is pinned.
pub const EXECUTABLE_NOT_GUARDED: &str = "executable_not_guarded";

/// What kind of failure it is. The numbers are the exit codes of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// It was tried and did not work.
    Failed,
    /// The request is wrong in itself.
    Usage,
    /// It worked, and the answer is no.
    No,
    NotFound,
    /// The time given for it ran out.
    TimedOut,
    /// Not allowed, not now, or over a limit.
    Refused,
    /// The service does not answer.
    Unreachable,
    /// Some targets of several failed.
    Partial,
    /// The program is there but cannot be executed.
    CannotExecute,
    /// There is no such program.
    ProgramNotFound,
}

impl Code {
    pub const ALL: [Self; 10] = [
        Self::Failed,
        Self::Usage,
        Self::No,
        Self::NotFound,
        Self::TimedOut,
        Self::Refused,
        Self::Unreachable,
        Self::Partial,
        Self::CannotExecute,
        Self::ProgramNotFound,
    ];

    /// The code that the exit code of a program of ours stands for, where it stands for one.
    #[must_use]
    pub fn from_exit_code(code: u8) -> Option<Self> {
        [Self::Failed, Self::Usage, Self::Refused].into_iter().find(|c| c.exit_code() == code)
    }

    /// The exit code of a command that ends with this.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::No => 3,
            Self::NotFound => 4,
            Self::TimedOut => 5,
            Self::Refused => 6,
            Self::Unreachable => 7,
            Self::Partial => 8,
            // `run` alone passes these on; everything else says "failed".
            Self::CannotExecute | Self::ProgramNotFound => 1,
        }
    }

    /// The code's name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::No => "no",
            Self::NotFound => "not_found",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Partial => "partial",
            Self::CannotExecute => "cannot_execute",
            Self::ProgramNotFound => "program_not_found",
        }
    }

    fn to_wire(self) -> v1::Code {
        match self {
            Self::Failed => v1::Code::Failed,
            Self::Usage => v1::Code::Usage,
            Self::No => v1::Code::No,
            Self::NotFound => v1::Code::NotFound,
            Self::TimedOut => v1::Code::TimedOut,
            Self::Refused => v1::Code::Refused,
            Self::Unreachable => v1::Code::Unreachable,
            Self::Partial => v1::Code::Partial,
            Self::CannotExecute => v1::Code::CannotExecute,
            Self::ProgramNotFound => v1::Code::ProgramNotFound,
        }
    }

    fn from_wire(code: i32) -> Self {
        match v1::Code::try_from(code) {
            Ok(v1::Code::Usage) => Self::Usage,
            Ok(v1::Code::No) => Self::No,
            Ok(v1::Code::NotFound) => Self::NotFound,
            Ok(v1::Code::TimedOut) => Self::TimedOut,
            Ok(v1::Code::Refused) => Self::Refused,
            Ok(v1::Code::Unreachable) => Self::Unreachable,
            Ok(v1::Code::Partial) => Self::Partial,
            Ok(v1::Code::CannotExecute) => Self::CannotExecute,
            Ok(v1::Code::ProgramNotFound) => Self::ProgramNotFound,
            // A newer service's code that we do not know is at least a failure.
            Ok(v1::Code::Ok | v1::Code::Failed) | Err(_) => Self::Failed,
        }
    }
}

/// A failure as its receiver needs it: the kind, what happened to which object and why, and the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub code: Code,
    /// One line, lower case, no final period.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// For programs, more exact than the code: `crashed`. Empty: there is nothing more exact.
    pub reason: String,
    /// What most errors do not have: so they are small.
    pub more: Option<Box<More>>,
    /// In milliseconds, when it makes sense to ask again; 0: that is not known.
    pub retry_after_ms: u32,
}

/// What is known of an error about a text or a value that was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct More {
    details: Vec<Detail>,
    excerpt: String,
}

/// One thing that is wrong in what was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Detail {
    /// JSON pointer; empty: the whole of it.
    pub path: String,
    /// Never has the value itself.
    pub message: String,
}

impl Error {
    /// An error without a next step.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let (message, hint, reason) = (message.into(), String::new(), String::new());
        Self { code, message, hint, reason, more: None, retry_after_ms: 0 }
    }

    /// A request that is wrong in itself.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// What could not be done, and why: "cannot map the global memory: Cannot allocate memory".
    pub fn failed(what: &str, cause: &dyn fmt::Display) -> Self {
        Self::new(Code::Failed, format!("cannot {what}: {cause}"))
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds what programs tell it by.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Adds what is wrong in what was given.
    #[must_use]
    pub fn details(mut self, details: Vec<Detail>) -> Self {
        if !details.is_empty() || self.more.is_some() {
            self.more.get_or_insert_default().details = details;
        }
        self
    }

    /// What is wrong in what was given, each where it is.
    #[must_use]
    pub fn wrong(&self) -> &[Detail] {
        self.more.as_ref().map(|more| &more.details[..]).unwrap_or_default()
    }

    /// Adds lines of the text that is wrong, with a mark below the place. They stay with whoever has the
    /// text, and are sent to nobody.
    #[must_use]
    pub fn excerpt(mut self, lines: String) -> Self {
        if !lines.is_empty() {
            self.more.get_or_insert_default().excerpt = lines;
        }
        self
    }

    /// Those lines, if there are any.
    #[must_use]
    pub fn marked(&self) -> &str {
        self.more.as_ref().map(|more| &more.excerpt[..]).unwrap_or_default()
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::Error {
        let detail = |d: &Detail| v1::ErrorDetail { path: d.path.clone(), message: d.message.clone() };
        v1::Error {
            code: self.code.to_wire() as i32,
            message: self.message.clone(),
            hint: self.hint.clone(),
            reason: self.reason.clone(),
            details: self.wrong().iter().map(detail).collect(),
            retry_after_ms: self.retry_after_ms,
        }
    }

    pub(in crate::wire) fn from_wire(e: v1::Error) -> Self {
        let detail = |d: v1::ErrorDetail| Detail { path: d.path, message: d.message };
        let details = e.details.into_iter().map(detail).collect();
        let retry_after_ms = e.retry_after_ms;
        let error = Self::new(Code::from_wire(e.code), e.message).hint(e.hint).reason(e.reason);
        Self { retry_after_ms, ..error.details(details) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

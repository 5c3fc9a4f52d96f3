//! What can go wrong with a provider: one enum. Each kind has a stable reason for programs, a code for the
//! command line, and says the next step.

use std::fmt;
use std::time::Duration;

use crate::wire::error::{Code, Detail, EXECUTABLE_MISMATCH, Error};
use crate::wire::id::quoted;
use crate::wire::process::{End, Exit};
use crate::wire::provider::ProviderName;
use crate::wire::provider_rules::ShownStderr;

/// How a provider's process ended, and what it said last.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ending {
    /// None: its end was not seen.
    pub exit: Option<Exit>,
    /// The end of its standard error.
    pub stderr: String,
    /// Where it is told, as its definition says.
    pub shown: ShownStderr,
}

/// Why a provider does not do what it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no definition of this alias.
    UnknownAlias,
    /// It has another definition than is given now: what differs.
    OtherDefinition {
        differs: String,
    },
    BinaryNotFound {
        path: String,
        directories: String,
    },
    OutsideDirectories {
        path: String,
        directories: String,
    },
    /// Others than root and we could change the binary.
    NotPermitted {
        path: String,
        why: String,
    },
    PinMismatch {
        what: &'static str,
        wanted: String,
        found: String,
    },
    NotExecutable {
        path: String,
        why: String,
    },
    /// The file that was to be executed is not the one that is pinned, or others could change it: as the
    /// service says, which looked at what it would have executed.
    NotTheExecutable(Error),
    /// Its process cannot be started.
    NotStarted {
        why: String,
    },
    HandshakeTimeout {
        after: Duration,
        ending: Ending,
    },
    BadHandshake {
        why: String,
        line: Vec<u8>,
    },
    /// It does not say that it can what its definition asks for.
    MissingFeature {
        feature: &'static str,
    },
    /// Who listens on its port has not proven to be this launch of it.
    NotProven {
        why: String,
    },
    /// Who answers at the address of one that runs elsewhere does not prove to be it.
    Unproven {
        why: String,
    },
    /// What is said about where it runs does not do.
    BadEnd {
        why: String,
    },
    ExitedEarly {
        ending: Ending,
    },
    NotHealthy {
        why: String,
        ending: Ending,
    },
    InitFailed {
        status: String,
        ending: Ending,
    },
    PathNotFound {
        message: String,
    },
    InvalidPath {
        message: String,
    },
    NotInitialised {
        message: String,
    },
    PermissionDenied {
        message: String,
    },
    Deadline {
        call: &'static str,
        after: Duration,
    },
    Unavailable {
        message: String,
    },
    TooDeep {
        message: String,
    },
    TooLarge {
        message: String,
    },
    /// Another status than those above.
    Refused {
        call: &'static str,
        status: String,
    },
    /// It ended in the middle.
    Crashed {
        ending: Ending,
    },
    /// Its configuration names what is not there.
    BadConfig {
        why: String,
        /// Each fault where it is.
        details: Vec<Detail>,
    },
    /// It did not end by itself.
    Killed,
    /// Too many calls at once.
    Busy {
        max: usize,
    },
    /// The host ends, or the provider was stopped meanwhile.
    ShutDown,
    /// Of the service behind.
    Service(Error),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Service(e)
    }
}

impl Ending {
    /// "exit code 3", and the last lines of standard error.
    pub fn text(&self) -> String {
        let how = match self.exit.map(|exit| exit.end) {
            Some(End::Code(code)) => format!("exit code {code}"),
            Some(End::Signal(number)) => crate::sys::signal::name(u32::from(number)),
            None => "its end was not seen".to_owned(),
        };
        format!("{how}{}", self.last_words())
    }

    /// As they are told wherever the failure is: nothing, if its definition wants that.
    fn last_words(&self) -> String {
        match self.words() {
            Some(words) if self.shown != ShownStderr::Off => format!("; {words}"),
            _ => String::new(),
        }
    }

    fn words(&self) -> Option<String> {
        let text = Some(self.stderr.trim()).filter(|text| !text.is_empty())?;
        Some(format!("its standard error ends with: {}", one_line(text)))
    }
}

/// Several lines in one.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
}

impl Failure {
    fn ending(&self) -> Option<&Ending> {
        match self {
            Self::HandshakeTimeout { ending, .. }
            | Self::ExitedEarly { ending }
            | Self::NotHealthy { ending, .. }
            | Self::InitFailed { ending, .. }
            | Self::Crashed { ending } => Some(ending),
            _ => None,
        }
    }

    /// For programs; never changes.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownAlias => "alias_not_found",
            Self::OtherDefinition { .. } => "other_definition",
            Self::BinaryNotFound { .. } => "binary_not_found",
            Self::OutsideDirectories { .. } => "outside_directories",
            Self::NotPermitted { .. } => "not_permitted",
            Self::PinMismatch { .. } => "pin_mismatch",
            Self::NotTheExecutable(e) if e.reason == EXECUTABLE_MISMATCH => "pin_mismatch",
            Self::NotTheExecutable(_) => "not_permitted",
            Self::NotExecutable { .. } => "not_executable",
            Self::NotStarted { .. } => "not_started",
            Self::HandshakeTimeout { .. } => "handshake_timeout",
            Self::BadHandshake { .. } => "bad_handshake",
            Self::MissingFeature { .. } => "missing_feature",
            Self::NotProven { .. } | Self::Unproven { .. } => "not_proven",
            Self::BadEnd { .. } => "invalid_config",
            Self::ExitedEarly { .. } => "exited_early",
            Self::NotHealthy { .. } => "not_healthy",
            Self::InitFailed { .. } => "init_failed",
            Self::PathNotFound { .. } => "path_not_found",
            Self::InvalidPath { .. } => "invalid_path",
            Self::NotInitialised { .. } => "not_initialised",
            Self::PermissionDenied { .. } => "permission_denied",
            Self::Deadline { .. } => "deadline",
            Self::Unavailable { .. } => "unavailable",
            Self::TooDeep { .. } => "too_deep",
            Self::TooLarge { .. } => "too_large",
            Self::Refused { .. } => "refused",
            Self::Crashed { .. } => "crashed",
            Self::BadConfig { .. } => "invalid_config",
            Self::Killed => "killed",
            Self::Busy { .. } => "busy",
            Self::ShutDown => "shut_down",
            Self::Service(_) => "service",
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::UnknownAlias | Self::PathNotFound { .. } => Code::NotFound,
            Self::InvalidPath { .. } | Self::BadConfig { .. } | Self::BadEnd { .. } => Code::Usage,
            Self::Deadline { .. } | Self::Killed => Code::TimedOut,
            Self::OutsideDirectories { .. }
            | Self::NotPermitted { .. }
            | Self::PermissionDenied { .. }
            | Self::PinMismatch { .. }
            | Self::NotTheExecutable(_)
            | Self::OtherDefinition { .. }
            | Self::MissingFeature { .. }
            | Self::NotProven { .. }
            | Self::Unproven { .. }
            | Self::Busy { .. } => Code::Refused,
            Self::NotExecutable { .. } => Code::CannotExecute,
            Self::BinaryNotFound { .. } => Code::ProgramNotFound,
            Self::Service(e) => e.code,
            Self::NotStarted { .. }
            | Self::HandshakeTimeout { .. }
            | Self::BadHandshake { .. }
            | Self::ExitedEarly { .. }
            | Self::NotHealthy { .. }
            | Self::InitFailed { .. }
            | Self::NotInitialised { .. }
            | Self::Unavailable { .. }
            | Self::TooDeep { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. }
            | Self::Crashed { .. }
            | Self::ShutDown => Code::Failed,
        }
    }

    /// Whether another start may help: what is wrong with the definition stays so.
    #[must_use]
    pub fn is_of_the_start(&self) -> bool {
        matches!(
            self,
            Self::HandshakeTimeout { .. }
                | Self::BadHandshake { .. }
                | Self::NotProven { .. }
                | Self::Unproven { .. }
                | Self::ExitedEarly { .. }
                | Self::NotHealthy { .. }
                | Self::NotStarted { .. }
                | Self::InitFailed { .. }
                | Self::Crashed { .. }
        )
    }

    /// As a client is told, of this provider.
    #[must_use]
    pub fn error(&self, name: &ProviderName) -> Error {
        let (message, hint) = self.words(name);
        let details = if let Self::BadConfig { details, .. } = self { details.clone() } else { Vec::new() };
        let e = Error::new(self.code(), format!("provider {name}: {message}"));
        e.hint(hint).reason(self.reason()).details(details)
    }

    /// As a client is told that wants to hear more than the definition says. It is in the hint: messages go
    /// into events, breakers and the audit, too.
    #[must_use]
    pub fn error_louder(&self, name: &ProviderName, shown: ShownStderr) -> Error {
        let e = self.error(name);
        let ending = self.ending().filter(|ending| ending.shown == ShownStderr::Off);
        match ending.filter(|_| shown != ShownStderr::Off).and_then(Ending::words) {
            Some(words) if e.hint.is_empty() => e.hint(words),
            Some(words) => {
                let hint = format!("{words}; {}", e.hint);
                e.hint(hint)
            }
            None => e,
        }
    }

    /// What happened, without the provider's name.
    #[must_use]
    pub fn message(&self) -> String {
        self.words(&"ALIAS").0
    }

    /// What happened, and the next step.
    fn words(&self, name: &dyn fmt::Display) -> (String, String) {
        let logs = || format!("'provost provider logs {name}' shows what it has printed");
        match self {
            Self::UnknownAlias => {
                ("is not defined".into(), format!("define it: provost provider start {name} --binary FILE"))
            }
            Self::OtherDefinition { differs } => (
                format!("runs with another definition: {differs}"),
                format!("'provost provider stop {name}', then start it with the new one; or use another alias or --set"),
            ),
            Self::BinaryNotFound { path, directories } => (
                format!("there is no binary {}", quoted(path)),
                format!("give a path, or the name of a file in one of the provider directories ({directories})"),
            ),
            Self::OutsideDirectories { path, directories } => (
                format!("{} is outside of the provider directories ({directories})", quoted(path)),
                "put it there, or allow it with --allow-external".into(),
            ),
            Self::NotPermitted { path, why } => (
                format!("{} is not safe to execute: {why}", quoted(path)),
                "it and every directory above it has to belong to root or the service, and others must not write there".into(),
            ),
            Self::PinMismatch { what, wanted, found } => (
                format!("its {what} is {}, not {} as pinned", quoted(found), quoted(wanted)),
                "change the pin if the new one is meant".into(),
            ),
            Self::NotExecutable { path, why } => (
                format!("{} cannot be executed: {why}", quoted(path)),
                "is it a program for this machine, with its executable bit set?".into(),
            ),
            Self::NotStarted { why } => (format!("cannot be started: {why}"), String::new()),
            Self::HandshakeTimeout { after, ending } => (
                format!("has not reported its port within {} s{}", after.as_secs_f32(), ending.last_words()),
                "it has to print a line PROVIDER_PORT=<n>, and flush it; --handshake-timeout gives it more time".into(),
            ),
            Self::BadHandshake { why, line } if line.is_empty() => (
                format!("bad handshake: {why}"),
                "it has to report the port of its own listener on 127.0.0.1".into(),
            ),
            Self::BadHandshake { why, line } => (
                format!("bad handshake: {why}: {}", quoted(&String::from_utf8_lossy(line))),
                "the line is PROVIDER_PORT=<n>, n from 1 to 65535".into(),
            ),
            Self::MissingFeature { feature } => (
                format!("does not offer {feature}, which its definition asks for"),
                format!("it has to print PROVIDER_FEATURES={feature} before its port (docs/providers.md); or start it without --{feature}"),
            ),
            Self::NotProven { why } => (
                format!("what listens on its port has not proven to be it: {why}"),
                format!("'ss -ltnp' shows what it is; 'provost provider replace {name}' starts it afresh"),
            ),
            Self::Unproven { why } => (
                format!("who answers at its address has not proven to be it: {why}"),
                "'provost cert show' tells the names of a certificate, and how long it is good".into(),
            ),
            Self::BadEnd { why } => {
                (format!("cannot be spoken to: {why}"), "give --client-cert, --client-key and --client-ca".into())
            }
            Self::ExitedEarly { ending } => {
                let hint = "it has to go on running, and to print a line PROVIDER_PORT=<n>";
                (format!("exited before it reported its port: {}", ending.text()), hint.into())
            }
            Self::NotHealthy { why, ending } => {
                let hint = "it has to listen on the port that it reports, and to answer Health there";
                (format!("is not healthy: {why}{}", ending.last_words()), hint.into())
            }
            Self::InitFailed { status, ending } => {
                (format!("refuses its configuration: {status}{}", ending.last_words()), "see its documentation for what --config takes".into())
            }
            Self::PathNotFound { message } => (format!("path not found: {message}"), String::new()),
            Self::InvalidPath { message } => (format!("invalid path: {message}"), String::new()),
            Self::NotInitialised { message } => (
                format!("says that it is not initialised: {message}"),
                format!("'provost provider replace {name}' starts it afresh"),
            ),
            Self::PermissionDenied { message } => (format!("permission denied: {message}"), String::new()),
            Self::Deadline { call, after } => (
                format!("{call} was not answered within {} s", after.as_secs_f32()),
                format!("--{}-timeout gives it more time; {}", call.to_lowercase(), logs()),
            ),
            Self::Unavailable { message } => (format!("is unavailable: {message}"), "try again in a moment".into()),
            Self::TooDeep { message } => (message.clone(), "ask for a part of it: a longer path".into()),
            Self::TooLarge { message } => (message.clone(), "ask for a part of it: a longer path".into()),
            Self::Refused { call, status } => (format!("{call} failed: {status}"), logs()),
            Self::Crashed { ending } => {
                (format!("ended in the middle of the call: {}", ending.text()), "the next call starts it again".into())
            }
            Self::BadConfig { why, .. } => (
                format!("its configuration {why}"),
                if why.starts_with("cannot be resolved") {
                    "variables are those that the service was started with".into()
                } else {
                    "--json shows each place that is wrong, as a JSON pointer".into()
                },
            ),
            Self::Killed => ("did not end by itself and was killed".into(), logs()),
            Self::Busy { max } => (format!("has {max} calls waiting already"), "come again in a moment".into()),
            Self::ShutDown => ("was shut down".into(), "the next call starts it again".into()),
            Self::Service(e) | Self::NotTheExecutable(e) => (e.message.clone(), e.hint.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_with_the_last_words() {
        let name = ProviderName::new("", "app").unwrap();
        let exit = Exit::with(End::Signal(9));
        let ending = Ending { exit: Some(exit), stderr: "one\n\n two\n".into(), shown: ShownStderr::OnError };
        let quiet = Failure::Crashed { ending: Ending { shown: ShownStderr::Off, ..ending.clone() } };
        let e = Failure::Crashed { ending }.error(&name);
        assert_eq!(
            e.message,
            "provider app: ended in the middle of the call: SIGKILL; its standard error ends with: one | two"
        );
        assert_eq!((e.code, e.reason.as_str()), (Code::Failed, "crashed"));
        for e in [quiet.error(&name), quiet.error_louder(&name, ShownStderr::Off)] {
            assert!(!format!("{e:?}").contains("two"), "{e:?}");
        }
        let e = quiet.error_louder(&name, ShownStderr::OnError);
        assert!(
            !e.message.contains("one") && e.hint.contains("its standard error ends with: one | two"),
            "{e:?}"
        );
    }

    #[test]
    fn codes_are_those_that_scripts_rely_on() {
        let name = ProviderName::new("", "app").unwrap();
        let code = |failure: Failure| failure.error(&name).code;
        assert_eq!(code(Failure::UnknownAlias), Code::NotFound);
        assert_eq!(code(Failure::PathNotFound { message: String::new() }), Code::NotFound);
        assert_eq!(code(Failure::InvalidPath { message: String::new() }), Code::Usage);
        assert_eq!(
            code(Failure::BinaryNotFound { path: "x".into(), directories: String::new() }),
            Code::ProgramNotFound
        );
        assert_eq!(code(Failure::Deadline { call: "Fetch", after: Duration::from_secs(1) }), Code::TimedOut);
    }
}

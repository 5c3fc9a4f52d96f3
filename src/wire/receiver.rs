//! Who on the machine receives the lines of a process's output, in place of files.

use crate::wire::error::Error;
use crate::wire::id::quoted;

/// What stands between the kind and the path of a socket of one's own.
const MARK: char = ':';
/// The longest path that the address of a socket has room for, in bytes.
const PATH_LEN_MAX: usize = 107;
/// What can be said, to be shown where something else was.
pub const TAKES: &str =
    "\"syslog\" or \"journald\", or with the path of another socket, as \"syslog:/run/log\"; or \"none\"";

/// In what form it takes lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// As RFC 5424 has it.
    Syslog,
    /// The native protocol of systemd's journal.
    Journal,
}

/// A receiver: a datagram is sent to its socket for each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    pub protocol: Protocol,
    pub path: String,
}

impl Receiver {
    /// As it is written in a definition.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (name, path) = text.split_once(MARK).map_or((text, None), |(name, path)| (name, Some(path)));
        let (protocol, usual) = match name {
            "syslog" => (Protocol::Syslog, "/dev/log"),
            "journald" => (Protocol::Journal, "/run/systemd/journal/socket"),
            _ => {
                let what = format!("{} is no receiver of lines", quoted(text));
                return Err(Error::usage(what).hint(format!("write {TAKES}")));
            }
        };
        let path = path.unwrap_or(usual);
        if !path.starts_with('/') || path.len() > PATH_LEN_MAX || path.contains('\0') {
            return Err(Error::usage(format!("{} is not the path of a socket", quoted(path))));
        }
        Ok(Self { protocol, path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_has_its_usual_socket_or_another() {
        let parsed = |text: &str| Receiver::parse(text).map(|r| (r.protocol, r.path));
        assert_eq!(parsed("syslog").unwrap(), (Protocol::Syslog, "/dev/log".into()));
        assert_eq!(parsed("journald:/run/j").unwrap(), (Protocol::Journal, "/run/j".into()));
        for bad in ["", "syslogd", "syslog:", "syslog:log", &format!("journald:/{}", "x".repeat(107))] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}

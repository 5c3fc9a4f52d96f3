//! Of a program that puts itself into the background: that it does, and where it says which process is then
//! the main one.

use crate::wire::error::Error;
use crate::wire::id::quoted;

/// Nothing is said: the process that was started is the main one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Background {
    /// The program that is started ends with success, and another process of its tree goes on.
    pub forking: bool,
    /// The file that has that process's number.
    pub pid_file: Option<String>,
}

impl Background {
    /// `speaks`: the process can say its number at NOTIFY_SOCKET.
    pub fn check(&self, speaks: bool) -> Result<(), Error> {
        if let Some(path) = &self.pid_file {
            if !path.starts_with('/') || path.len() > 4095 || path.contains('\0') {
                return Err(Error::usage(format!("pid file {} is not an absolute path", quoted(path))));
            }
            if !self.forking {
                return Err(Error::usage("a pid file is of a program that puts itself into the background")
                    .hint("give forking = true beside pid_file"));
            }
        }
        if self.forking && self.pid_file.is_none() && !speaks {
            return Err(Error::usage("nothing tells which process goes on in the background").hint(
                "give the file in which the program writes its number as pid_file, or ready_notify if it says \
                 MAINPID= at NOTIFY_SOCKET",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_two_alone_is_refused() {
        let of = |forking, path: Option<&str>| Background { forking, pid_file: path.map(str::to_owned) };
        assert!(of(true, Some("/run/web.pid")).check(false).is_ok() && of(true, None).check(true).is_ok());
        assert!(Background::default().check(false).is_ok());
        for bad in [of(true, None), of(false, Some("/run/web.pid")), of(true, Some("web.pid"))] {
            assert!(bad.check(false).is_err(), "{bad:?}");
        }
    }
}

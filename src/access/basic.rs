//! `authorization: Basic`, as RFC 7617 has it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::access::password::Password;

/// The longest header that is looked at, in bytes.
pub const HEADER_LEN_MAX: usize = 1024;

/// What a caller says that it is.
pub struct Login {
    /// The user's name, as it was given: there may be no such user.
    pub user: String,
    /// Its proof.
    pub password: Password,
}

/// Reads `Basic BASE64(USER:PASSWORD)`; none for anything else.
#[must_use]
pub fn parse(header: &[u8]) -> Option<Login> {
    if header.len() > HEADER_LEN_MAX {
        return None;
    }
    let (scheme, encoded) = header.split_at_checked(b"Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    let password = Password::offered(password)?;
    (!user.is_empty()).then(|| Login { user: user.to_owned(), password })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::base64;

    fn header(text: &[u8]) -> Vec<u8> {
        format!("Basic {}", base64(text)).into_bytes()
    }

    #[test]
    fn a_login_is_read() {
        for (text, user, password) in
            [("ann:secret", "ann", "secret"), ("ann:a:b:", "ann", "a:b:"), ("é:ü", "é", "ü")]
        {
            let login = parse(&header(text.as_bytes())).unwrap();
            assert_eq!((login.user.as_str(), login.password.reveal()), (user, password.as_bytes()));
        }
        assert!(parse(b"bAsIc YTpi").is_some());
    }

    /// G29: what cannot be a login is told before anything is hashed.
    #[test]
    fn g29_what_cannot_be_a_login() {
        let long = |len: usize| header(format!("ann:{}", "x".repeat(len)).as_bytes());
        assert!(parse(&long(73)).is_some());
        assert!(parse(&long(256)).is_some());
        for bad in [long(257), long(700), long(1 << 20), vec![0xff; 1000]] {
            assert!(parse(&bad).is_none(), "{} bytes", bad.len());
        }
        for bad in [&b"ann"[..], b"ann:", b":secret", b":", b"", b"ann:a\0b", b"\xff:a", b"ann:\xff"] {
            assert!(parse(&header(bad)).is_none(), "{bad:?}");
        }
        for bad in [
            "",
            "Basic",
            "Basic ",
            "Bearer YTpi",
            "Basic  YTpi",
            "Basic YTpi ",
            "Basic YT pi",
            "Basic YTpi=",
            "Basic YTo",
            "Basic YTo",
            "BasicYTpi",
            "Basic YWE6Yh==",
            "Basic YWE6Yg",
        ] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(parse(b"Basic YWE6Yg==").is_some());
    }
}

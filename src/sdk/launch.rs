//! What a host hands over to a provider at its launch so that each can prove to the other who it is: by
//! certificates, by a token, or both. Off unless the host asks for it with variables, which name a private
//! file; `docs/providers.md` is for those who write one in another language.

use std::path::Path;
use std::sync::Arc;

use ring::hmac;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::sdk::handshake::Features;
use crate::sys::files;
use crate::tls::material::{Contents, server_of};
use crate::wire::error::Error;
use crate::wire::id::quoted;

/// The variable that asks for TLS with the value "1".
pub const TLS: &str = "PROVIDER_TLS";
/// The variable that asks in the same way for proofs by the token.
pub const COOKIE: &str = "PROVIDER_COOKIE";
/// The variable that has the path of the file.
pub const FILE: &str = "PROVIDER_LAUNCH_FILE";
/// Of a request: what is to be answered with a proof.
pub const CHALLENGE: &str = "provider-challenge";
/// Of its response.
pub const PROOF: &str = "provider-proof";

/// The largest file, in bytes.
const FILE_LEN_MAX: u64 = 64 << 10;

/// The file: JSON. Names that are not known are passed over.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
pub struct LaunchFile {
    /// Of the provider, PEM; empty: no TLS.
    pub certificate: String,
    /// That of the certificate, PEM.
    pub private_key: String,
    /// The one that the host's certificate has to come from, PEM.
    pub authority: String,
    /// The token; empty: none.
    pub cookie: String,
}

/// What the host of a provider asks of it.
#[derive(Default)]
pub struct Asked {
    pub tls: Option<Arc<ServerConfig>>,
    pub cookie: Option<Arc<Zeroizing<String>>>,
}

impl Asked {
    /// As the variables of this process say. Nothing is done without what was asked for.
    pub fn of_environment() -> Result<Self, Error> {
        let is_asked = |name| std::env::var_os(name).is_some_and(|value| value == "1");
        let wanted = Features { tls: is_asked(TLS), cookie: is_asked(COOKIE) };
        if wanted == Features::default() {
            return Ok(Self::default());
        }
        let path = std::env::var_os(FILE).ok_or_else(|| Error::usage(format!("there is no {FILE}")))?;
        Self::read(path.as_ref(), wanted)
    }

    fn read(path: &Path, wanted: Features) -> Result<Self, Error> {
        let refused = |why: &str| {
            Error::usage(format!("cannot use the launch file {}: {why}", quoted(&path.to_string_lossy())))
        };
        let bytes = Zeroizing::new(files::private(path, FILE_LEN_MAX).map_err(|why| refused(&why))?);
        // What the decoder says could repeat a part of it.
        let file: LaunchFile =
            serde_json::from_slice(&bytes).map_err(|_| refused("it is not what a host writes (JSON)"))?;
        let cookie = Zeroizing::new(file.cookie);
        let key = Zeroizing::new(file.private_key);
        if wanted.cookie && cookie.is_empty() {
            return Err(refused("there is no token in it"));
        }
        let contents = Contents::of_pem(path, &file.certificate, &key, &file.authority);
        Ok(Self {
            tls: wanted.tls.then(|| server_of(&contents)).transpose()?,
            cookie: wanted.cookie.then(|| Arc::new(cookie)),
        })
    }

    /// What the provider can offer now.
    #[must_use]
    pub fn features(&self) -> Features {
        Features { tls: self.tls.is_some(), cookie: self.cookie.is_some() }
    }
}

/// What proves to whoever has sent the challenge that one knows the token: HMAC-SHA256 with the token as its
/// key, in hexadecimal digits. Both are taken as the text that they are.
#[must_use]
pub fn proof(cookie: &str, challenge: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, cookie.as_bytes()), challenge);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tls::issue::{Authority, Usage};
    use crate::wire::time::Timestamp;

    const BOTH: Features = Features { tls: true, cookie: true };

    fn read(file: &LaunchFile, mode: u32, wanted: Features) -> Result<Asked, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("launch.json");
        fs::write(&path, serde_json::to_vec(file).unwrap()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Asked::read(&fs::canonicalize(path).unwrap(), wanted).map_err(|e| e.message)
    }

    fn file(now: Timestamp) -> LaunchFile {
        let (authority, ca) = Authority::new("launch", now).unwrap();
        let issued = authority.sign(Usage::Server, &["127.0.0.1".to_owned()], 397, now).unwrap();
        LaunchFile {
            certificate: issued.certificate,
            private_key: issued.key.to_string(),
            authority: ca.certificate,
            cookie: "token".into(),
        }
    }

    #[test]
    fn a_launch_file_is_read_and_what_was_asked_for_has_to_be_in_it() {
        let good = file(Timestamp::now());
        assert_eq!(read(&good, 0o600, BOTH).unwrap().features(), BOTH);
        let cookie = Features { cookie: true, tls: false };
        assert_eq!(read(&good, 0o400, cookie).unwrap().features(), cookie);
        let why = |file: &LaunchFile, mode, wanted| read(file, mode, wanted).err().unwrap();
        assert!(why(&good, 0o644, BOTH).contains("others than its owner have access"), "0644");
        assert!(why(&good, 0o620, cookie).contains("others than its owner have access"), "0620");
        let empty = LaunchFile { cookie: "token".into(), ..LaunchFile::default() };
        assert!(why(&empty, 0o600, BOTH).contains("there is no certificate in it"));
        assert!(why(&LaunchFile::default(), 0o600, cookie).contains("there is no token"));
        let other = LaunchFile { private_key: file(Timestamp::now()).private_key, ..file(Timestamp::now()) };
        assert!(why(&other, 0o600, BOTH).contains("not that of the certificate"));
        let expired = file(Timestamp(Timestamp::now().0 - 400 * 86_400_000));
        assert!(why(&expired, 0o600, BOTH).contains("it has expired on"));
        assert!(Asked::read(Path::new("/no/such/file"), BOTH).is_err());
    }

    #[test]
    fn a_proof_is_what_others_compute() {
        // printf 'challenge' | openssl dgst -sha256 -hmac token
        assert_eq!(
            proof("token", b"challenge"),
            "5d8a2ceba7b726fa80ecb682b1ee1ca6518b5c078489323cfdf68f87e3b375ec"
        );
        assert_ne!(proof("token", b"another"), proof("token", b"challenge"));
    }
}

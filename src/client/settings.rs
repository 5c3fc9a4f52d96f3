//! A service on another machine, as a client needs to know it. Plain values that have been checked; `config`
//! makes them from a file.

use std::path::PathBuf;

use crate::tls::material::Files;
use crate::wire::host::Host;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSettings {
    pub host: Host,
    /// The certificate that we show, and the authority that we believe.
    pub files: Files,
    /// It is said that there is no list of what that authority has revoked.
    pub is_without_crl: bool,
    /// Who we are besides.
    pub user: Option<String>,
    /// Where that user's password is.
    pub password_file: Option<PathBuf>,
}

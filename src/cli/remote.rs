//! The options in front of a command that lead to the service of another machine.

use std::path::PathBuf;
#[cfg(feature = "gateway")]
use std::sync::Once;

use crate::client::Address;
use crate::wire::error::Error;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteOptions {
    /// `-H`, `--remote`: a section of the configuration.
    pub name: Option<String>,
    pub host: Option<String>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub ca: Option<PathBuf>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
}

/// The options, for help texts.
pub const HELP: &str = "
Options in front of the command, for the service of another machine:
  -H, --remote NAME          The one that [remote.NAME] of the configuration describes
      --host HOST:PORT       Its gateway; the following are in the place of what the configuration says
      --cert FILE            Our certificate (PEM)
      --key FILE             Its private key
      --ca FILE              The authority that its certificate is of
      --user NAME            Who we are to it; the password is in $PROVOST_PASSWORD, or asked for
      --password-file FILE   The password, in a file that only its owner may read
";

/// The options that take a value.
pub const NAMES: [&str; 8] =
    ["-H", "--remote", "--host", "--cert", "--key", "--ca", "--user", "--password-file"];

#[cfg(feature = "gateway")]
static WARNED: Once = Once::new();

impl RemoteOptions {
    /// Takes the value of one of [`NAMES`].
    pub fn take(&mut self, option: &str, value: String) {
        match option {
            "-H" | "--remote" => self.name = Some(value),
            "--host" => self.host = Some(value),
            "--cert" => self.cert = Some(value.into()),
            "--key" => self.key = Some(value.into()),
            "--ca" => self.ca = Some(value.into()),
            "--user" => self.user = Some(value),
            _ => self.password_file = Some(value.into()),
        }
    }

    /// Whether another machine's service is meant.
    pub fn is_given(&self) -> bool {
        *self != Self::default()
    }

    /// Whether it says which machine.
    pub fn is_whole(&self) -> bool {
        self.name.is_some() || self.host.is_some()
    }

    #[cfg(not(feature = "gateway"))]
    pub fn address(&self) -> Result<Address, Error> {
        Err(crate::cli::text::without_gateway("cannot reach other machines"))
    }

    #[cfg(feature = "gateway")]
    pub fn address(&self) -> Result<Address, Error> {
        use crate::cli::stdout;
        use crate::client::Remote;

        let settings = self.settings()?;
        if let (Some(name), None, false) = (&self.name, &settings.files.crl, settings.is_without_crl) {
            let why = "a certificate of that service that was revoked is not noticed; crl = \"FILE\" names the list, \
                       as 'provost cert revoke' makes one there, and crl = \"none\" says that there is none yet";
            // A command may connect several times.
            WARNED.call_once(|| stdout::log(&format!("warning: [remote.{name}] has no 'crl': {why}")));
        }
        let password = settings.user.as_deref().map(|user| self.password(user, &settings)).transpose()?;
        Remote::new(&settings, password.as_ref().map(|password| password.as_str())).map(Address::remote)
    }
}

#[cfg(feature = "gateway")]
mod settings {
    use std::env;
    use std::path::PathBuf;

    use zeroize::Zeroizing;

    use crate::cli::remote::RemoteOptions;
    use crate::cli::state;
    use crate::cli::text;
    use crate::client::settings::RemoteSettings;
    use crate::config;
    use crate::sys::files;
    use crate::sys::terminal;
    use crate::tls::material::Files;
    use crate::wire::error::Error;
    use crate::wire::id::quoted;

    /// Where the password is when no file is named.
    const PASSWORD_VARIABLE: &str = "PROVOST_PASSWORD";

    impl RemoteOptions {
        /// What the configuration says of it, with what the command line says in its place.
        pub(super) fn settings(&self) -> Result<RemoteSettings, Error> {
            let named = self
                .name
                .as_deref()
                .map(|name| config::remote(&state::client_configs(), name))
                .transpose()?;
            let missing = |option: &str| {
                Error::usage(format!("{option} is needed to reach another machine"))
                    .hint("or describe it in [remote.NAME] of the configuration, and write -H NAME")
            };
            let host = match (&self.host, &named) {
                (Some(host), _) => host.parse()?,
                (None, Some(named)) => named.host.clone(),
                (None, None) => return Err(missing("--host")),
            };
            let file = |given: &Option<PathBuf>, of: fn(&Files) -> &PathBuf, option: &str| {
                let configured = || named.as_ref().map(|named| of(&named.files).clone());
                given.clone().or_else(configured).ok_or_else(|| missing(option))
            };
            Ok(RemoteSettings {
                host,
                files: Files {
                    certificate: file(&self.cert, |files| &files.certificate, "--cert")?,
                    key: file(&self.key, |files| &files.key, "--key")?,
                    ca: file(&self.ca, |files| &files.ca, "--ca")?,
                    crl: named.as_ref().and_then(|named| named.files.crl.clone()),
                },
                is_without_crl: named.as_ref().is_some_and(|named| named.is_without_crl),
                user: self.user.clone().or_else(|| named.as_ref()?.user.clone()),
                password_file: self.password_file.clone().or_else(|| named.as_ref()?.password_file.clone()),
            })
        }

        pub(super) fn password(
            &self,
            user: &str,
            settings: &RemoteSettings,
        ) -> Result<Zeroizing<String>, Error> {
            // What is said for this command is in the place of what is configured.
            if let (None, Ok(password)) = (&self.password_file, env::var(PASSWORD_VARIABLE)) {
                return Ok(Zeroizing::new(password));
            }
            if let Some(path) = &settings.password_file {
                let cannot = format!("cannot read the password file {}", text::path(path));
                let password = files::password(path).map(Zeroizing::new);
                return password.map_err(|why| Error::usage(format!("{cannot}: {why}")));
            }
            let asked = terminal::ask_silently(&format!("Password of {user}: "));
            asked
                .map_err(|_| "there is no terminal to ask at".to_owned())
                .and_then(|text| String::from_utf8(text).map_err(|_| "it is not UTF-8 text".to_owned()))
                .map(Zeroizing::new)
                .map_err(|why| {
                    Error::usage(format!("there is no password for {}: {why}", quoted(user))).hint(format!(
                        "give it in ${PASSWORD_VARIABLE}, with --password-file, or at a terminal"
                    ))
                })
        }
    }
}

//! `[remote.NAME]`: services on other machines, for clients.

use std::path::PathBuf;

use crate::client::settings::RemoteSettings;
use crate::config::section::{At, Section};
use crate::tls::material::Files;
use crate::wire::error::Error;
use crate::wire::host::Host;
use crate::wire::id::Name;

/// All of them, in the order of their names.
pub fn all(section: Section<'_>) -> Result<Vec<(String, RemoteSettings)>, Error> {
    let at = section.source();
    let one = |(name, mut table): (At<String>, Section<'_>)| {
        name.value.parse::<Name>().map_err(|e| at.bad(&name, &e.message).hint(e.hint))?;
        let remote = remote(&mut table)?;
        table.finish()?;
        Ok((name.value, remote))
    };
    section.tables()?.into_iter().map(one).collect()
}

fn remote(section: &mut Section<'_>) -> Result<RemoteSettings, Error> {
    let host = section.required("host")?;
    let parsed = host.value.parse::<Host>().map_err(|e| section.bad(&host, &e.message).hint(e.hint))?;
    let mut path = |key: &'static str| -> Result<PathBuf, Error> {
        section.path(key)?.ok_or_else(|| section.lacks(key))
    };
    let (certificate, key, ca) = (path("certificate")?, path("key")?, path("ca")?);
    let crl = section.path_or("crl", Some("none"))?;
    let is_without_crl = crl == Some(None);
    let files = Files { certificate, key, ca, crl: crl.flatten() };
    let user = section.text("user")?;
    if let Some(user) = &user {
        user.value.parse::<Name>().map_err(|e| section.bad(user, &e.message).hint(e.hint))?;
    }
    let password_file = section.path("password_file")?;
    if user.is_none() && password_file.is_some() {
        return Err(section.error("with 'password_file' goes 'user'"));
    }
    let user = user.map(|user| user.value.into_owned());
    Ok(RemoteSettings { host: parsed, files, is_without_crl, user, password_file })
}

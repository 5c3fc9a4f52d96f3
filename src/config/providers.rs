//! `[providers]`: where their binaries are, and those that are known from the start, each in a table of its
//! own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use prost::Message;

use crate::config::section::{At, Section};
use crate::provider::settings::ProviderSettings;
use crate::sdk::value;
use crate::wire::error::Error;
use crate::wire::fields;
use crate::wire::provider::{
    CONFIG_LEN_MAX, Definition, ProviderEnvironment, ProviderName, SET_DEFAULT, TYPE_PROCESS, TYPE_REMOTE,
};
use crate::wire::provider_rules::{RETRIES_MAX, RETRY_DELAY_MAX, ShownStderr, Tls};
use crate::wire::registration::checked_labels;
use crate::wire::remote_end::{EndFiles, RemoteEnd};
use crate::wire::spec::Spec;
use crate::wire::values::sha256;

/// The keys of the timeouts, each named after its step.
const TIMEOUTS: [&str; 9] = [
    "handshake_timeout",
    "health_timeout",
    "starting_timeout",
    "init_timeout",
    "fetch_timeout",
    "info_timeout",
    "shutdown_timeout",
    "term_timeout",
    "idle_timeout",
];

pub fn read(mut section: Section<'_>) -> Result<ProviderSettings, Error> {
    let directories = section.texts_of("directories")?;
    let directories = directories
        .map(|all| {
            all.into_iter()
                .map(|text| {
                    let path = PathBuf::from(&*text.value);
                    if path.is_absolute() {
                        Ok(path)
                    } else {
                        Err(section.bad(&text, "it is not an absolute path"))
                    }
                })
                .collect::<Result<Vec<_>, Error>>()
        })
        .transpose()?;
    let allow_external = section.flag("allow_external")?.unwrap_or(false);
    let source = section.source();
    let (mut definitions, mut known, mut lazy) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut labels = BTreeMap::new();
    for (alias, mut table) in section.tables()? {
        let set = table.text("set")?;
        let set = set.as_ref().map_or(SET_DEFAULT, |set| &*set.value);
        let name =
            ProviderName::new(set, &alias.value).map_err(|e| source.bad(&alias, &e.message).hint(e.hint))?;
        let is_enabled = table.flag("enabled")?.unwrap_or(true);
        if table.flag("lazy")?.unwrap_or(false) {
            lazy.insert(name.clone());
        }
        labels.insert(name.clone(), labels_of(&mut table)?);
        let types = [(TYPE_PROCESS, false), (TYPE_REMOTE, true)];
        let mut definition = match table.choice("type", &types)? {
            Some(true) => remote(&mut table)?,
            Some(false) | None => definition(&mut table)?,
        };
        definition.allow_external |= allow_external;
        definition.source_file_path = source.path.to_string_lossy().into_owned();
        table.finish()?;
        if !known.insert(name.clone()) {
            return Err(source.bad(&alias, &format!("there are two providers {name}")));
        }
        if is_enabled {
            definitions.push((name, definition));
        }
    }
    Ok(ProviderSettings { directories, allow_external, definitions, lazy, labels })
}

/// What is noted about it: the table `labels`.
pub(super) fn labels_of(table: &mut Section<'_>) -> Result<Vec<(String, String)>, Error> {
    let labels = table.section("labels")?.map(Section::texts).transpose()?.unwrap_or_default();
    let labels = labels.into_iter().map(|(key, text)| (key.value, text.value.into_owned())).collect();
    checked_labels(labels).map_err(|e| table.error(&e.message))
}

/// How a provider is run, by the keys of its table.
pub(super) fn definition(table: &mut Section<'_>) -> Result<Definition, Error> {
    let binary = table.required("binary")?;
    if binary.value.contains('/') && !binary.value.starts_with('/') {
        return Err(table.bad(&binary, "'binary' is an absolute path, or a name in one of the directories"));
    }
    let text = |table: &mut Section<'_>, key| {
        Ok::<_, Error>(table.text(key)?.map(|text: At<_>| text.value.into_owned()))
    };
    let config = config_of(table)?;
    let environment = environment_of(table, false)?;
    let digits = table.text("sha256")?;
    let sha256 =
        digits.map(|text| sha256(&text.value).map_err(|e| table.bad(&text, &e.message))).transpose()?;
    let mut definition = Definition {
        binary: binary.value.into_owned(),
        config,
        user: text(table, "user")?,
        group: text(table, "group")?,
        cwd: text(table, "cwd")?,
        environment,
        sha256,
        allow_external: table.flag("allow_external")?.unwrap_or(false),
        ..Definition::default()
    };
    set_pins(table, &mut definition)?;
    set_proof(table, &mut definition)?;
    if let Some(shown) = table.text("stderr")? {
        definition.stderr =
            ShownStderr::from_name(&shown.value).map_err(|e| table.bad(&shown, &e.message).hint(e.hint))?;
    }
    if let Some(count) = table.integer("retries", 0..=u64::from(RETRIES_MAX))? {
        definition.retries.count = u32::try_from(count).unwrap_or(RETRIES_MAX);
    }
    if let Some(delay) = table.duration("retry_delay", Duration::from_millis(1)..=RETRY_DELAY_MAX)? {
        definition.retries.delay = delay;
    }
    confine(table, &mut definition)?;
    set_timeouts(table, &mut definition)?;
    Ok(definition)
}

/// A provider that somebody else runs, by the keys of its table.
fn remote(table: &mut Section<'_>) -> Result<Definition, Error> {
    let address = table.required("address")?;
    let file = |table: &mut Section<'_>, key| {
        Ok::<_, Error>(table.path(key)?.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default())
    };
    let (certificate, key, ca) = (file(table, "certificate")?, file(table, "key")?, file(table, "ca")?);
    let files = EndFiles { certificate, key, ca };
    let files = (files != EndFiles::default()).then_some(files);
    let end = RemoteEnd::new(&address.value, files);
    let mut definition = Definition {
        remote: Some(end.map_err(|e| table.bad(&address, &e.message).hint(e.hint))?),
        config: config_of(table)?,
        ..Definition::default()
    };
    set_pins(table, &mut definition)?;
    definition.swap = table.flag("swap")?.unwrap_or(false);
    set_timeouts(table, &mut definition)?;
    Ok(definition)
}

/// The keys `pin_type` and `pin_version`.
fn set_pins(table: &mut Section<'_>, definition: &mut Definition) -> Result<(), Error> {
    definition.pin_type = table.text("pin_type")?.map(|text| text.value.into_owned());
    definition.pin_version = table.text("pin_version")?.map(|text| text.value.into_owned());
    Ok(())
}

/// The key `config`, encoded.
pub(super) fn config_of(table: &mut Section<'_>) -> Result<Vec<u8>, Error> {
    let Some(map) = table.json("config")? else { return Ok(Vec::new()) };
    let config = value::to_struct(map).map_err(|e| table.error(&e.message))?.encode_to_vec();
    if config.len() > CONFIG_LEN_MAX {
        return Err(table.error("'config' has more than 1 MiB"));
    }
    Ok(config)
}

/// The keys `env_allow` and `env_clear`. `is_clear`: as it is without them.
pub(super) fn environment_of(table: &mut Section<'_>, is_clear: bool) -> Result<ProviderEnvironment, Error> {
    let allowed = table.texts_of("env_allow")?;
    let is_clear = table.flag("env_clear")?.unwrap_or(is_clear);
    Ok(match (allowed, is_clear) {
        (Some(all), _) => {
            ProviderEnvironment::Allow(all.into_iter().map(|text| text.value.into_owned()).collect())
        }
        (None, true) => ProviderEnvironment::Clear,
        (None, false) => ProviderEnvironment::Inherit,
    })
}

/// The keys of the timeouts.
pub(super) fn set_timeouts(table: &mut Section<'_>, definition: &mut Definition) -> Result<(), Error> {
    let range = Duration::from_millis(1)..=Duration::from_secs(3600);
    for key in TIMEOUTS {
        let (timeout, step) = (table.duration(key, range.clone())?, key.trim_end_matches("_timeout"));
        if let (Some(timeout), Some(of)) = (timeout, definition.timeouts.of(step)) {
            *of = timeout;
        }
    }
    Ok(())
}

/// The keys `tls`, `cookie` and `swap`.
pub(super) fn set_proof(table: &mut Section<'_>, definition: &mut Definition) -> Result<(), Error> {
    if let Some(tls) = table.text("tls")? {
        definition.tls = Tls::from_name(&tls.value).map_err(|e| table.bad(&tls, &e.message).hint(e.hint))?;
    }
    definition.cookie = table.flag("cookie")?.unwrap_or(false);
    definition.swap = table.flag("swap")?.unwrap_or(false);
    Ok(())
}

/// Limits and landlock, as those of a process are written.
pub(super) fn confine(table: &mut Section<'_>, definition: &mut Definition) -> Result<(), Error> {
    let mut spec = Spec::new([""; 0]);
    for key in ["limits", "landlock_read", "landlock_write", "landlock_optional"] {
        if let (Some(value), Some(field)) = (table.value(key), fields::field(key)) {
            (field.set)(&mut spec, &value.value)
                .map_err(|takes| table.bad(&value, &format!("'{key}' takes {takes}")))?;
        }
    }
    spec.landlock.check().map_err(|e| table.error(&e.message))?;
    (definition.limits, definition.landlock) = (spec.rlimits, spec.landlock);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::section::Source;
    use crate::config::top;

    fn parsed(text: &str) -> Result<ProviderSettings, Error> {
        let source = Source { path: Path::new("/etc/provost/provost.toml"), text };
        let mut file = top(&source)?;
        let section = file.section("providers")?;
        read(section.expect("it is there"))
    }

    #[test]
    fn every_key_is_read() {
        let settings = parsed(
            "[providers]
            directories = ['/a', '/b']
            allow_external = true
            [providers.app]
            binary = 'files'
            set = 'ci'
            config = { directory = '/etc', n = 1, list = [1.5, true] }
            user = 'u'
            group = 'g'
            cwd = '/'
            env_allow = ['PATH']
            sha256 = '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'
            pin_type = 't'
            pin_version = 'v'
            handshake_timeout = '1s'
            term_timeout = '10ms'
            idle_timeout = '15m'
            stderr = 'all'
            retries = 3
            retry_delay = '1s'
            limits = { nofile = '64:128' }
            landlock_read = ['/usr', '/lib']
            landlock_optional = true
            tls = 'required'
            cookie = true
            swap = true
            lazy = true
            [providers.other]
            binary = '/usr/bin/x'
            env_clear = true
            [providers.there]
            type = 'remote'
            address = 'build.example:4000'
            certificate = 'c.pem'
            key = '/k.pem'
            ca = '/a.pem'
            config = { n = 1 }
            fetch_timeout = '1s'
            [providers.here]
            type = 'remote'
            address = 'localhost:4000'",
        )
        .unwrap();
        assert_eq!(settings.directories, Some(vec!["/a".into(), "/b".into()]));
        let (name, app) = &settings.definitions[0];
        assert_eq!((name.set(), name.alias(), app.binary.as_str()), ("ci", "app", "files"));
        let config = value::to_json(value::decode(&app.config).unwrap());
        assert_eq!(config["list"], serde_json::json!([1.5, true]));
        assert!(app.allow_external && app.source_file_path == "/etc/provost/provost.toml");
        assert_eq!(app.environment, ProviderEnvironment::Allow(vec!["PATH".into()]));
        assert_eq!(app.timeouts.idle, Duration::from_secs(900));
        assert_eq!((app.stderr, app.retries.count, app.retries.delay.as_secs()), (ShownStderr::All, 3, 1));
        assert_eq!((app.limits[0].soft, app.limits[0].hard, app.landlock.read.len()), (64, 128, 2));
        assert_eq!((app.timeouts.term, app.timeouts.init.as_secs()), (Duration::from_millis(10), 30));
        assert!(app.tls == Tls::Required && app.cookie && app.swap);
        let from_start: Vec<_> = settings.from_start().iter().map(|name| name.alias().to_owned()).collect();
        assert_eq!(from_start, ["other", "there", "here"]);
        let [_, (_, other), (_, there), (_, here)] = &settings.definitions[..] else {
            panic!("{settings:?}")
        };
        let end = there.remote.as_ref().unwrap();
        let files = end.files.as_ref().unwrap();
        assert_eq!((end.host.to_string().as_str(), files.key.as_str()), ("build.example:4000", "/k.pem"));
        assert_eq!((files.certificate.as_str(), there.timeouts.fetch.as_secs()), ("/etc/provost/c.pem", 1));
        assert!(here.remote.as_ref().unwrap().files.is_none() && here.binary.is_empty());
        assert_eq!((&other.environment, other.tls), (&ProviderEnvironment::Clear, Tls::Off));
        assert!(Definition::decode(&app.encode()).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused_where_it_stands() {
        for (text, why) in [
            ("[providers.app]", "needs 'binary'"),
            ("[providers.app]\nbinary = './x'", "line 2, column 10: 'binary' is an absolute path"),
            ("[providers.\"a/b\"]\nbinary = 'x'", "bad alias"),
            ("[providers.app]\nbinary = 'x'\nset = 'a.b'", "bad set"),
            ("[providers.app]\nbinary = 'x'\nsha256 = 'AB'", "is no SHA-256"),
            ("[providers.app]\nbinary = 'x'\nconfig = 1", "takes a table"),
            ("[providers.app]\ntype = 'remote'", "needs 'address'"),
            ("[providers.app]\ntype = 'remote'\naddress = '192.0.2.7:1'", "is not on this machine"),
            (
                "[providers.app]\ntype = 'remote'\naddress = 'localhost:1'\nbinary = 'x'",
                "unknown key 'binary'",
            ),
            ("[providers.app]\ntype = 'remote'\naddress = 'localhost:1'\nkey = '/k'", "not an absolute path"),
            ("[providers.app]\nbinary = 'x'\nfetch_timeout = '0s'", "is from 1ms to 1h"),
            ("[providers.app]\nbinary = 'x'\nstderr = 'loud'", "there is no 'loud'"),
            ("[providers.app]\nbinary = 'x'\ntls = 'maybe'", "there is no 'maybe' for TLS"),
            ("[providers.app]\nbinary = 'x'\nretries = 11", "a whole number from 0 to 10"),
            ("[providers.app]\nbinary = 'x'\nlimits = { files = '1' }", "'limits' takes"),
            ("[providers.app]\nbinary = 'x'\nlandlock_write = ['tmp']", "is not absolute"),
            ("[providers]\ndirectories = 'x'", "takes a list of strings"),
            ("[providers]\ndirectories = ['x']", "not an absolute path"),
            ("[providers]\nunknown = 1", "takes a table"),
            ("[providers.app]\nbinary = 'x'\nbinarry = 'x'", "unknown key 'binarry'"),
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(refused.message.contains(why), "{text}: {}", refused.message);
        }
    }
}

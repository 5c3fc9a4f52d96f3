//! The service's own settings, as they held when it began or was last reloaded, and what of them differs by
//! now. They are noted beside the socket, secrets as their digests alone.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::{state, text};
use crate::config;
use crate::config::origin::{Origin, shown};
use crate::sys::files;
use crate::wire::error::Error;

/// The longest note that is believed, in bytes.
const LEN_MAX: u64 = 4 << 20;
/// What any of others may do with a socket that is open to all.
const OTHERS_CAN_WRITE: u32 = 0o002;

/// What it takes for a change to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Another engine, of which no process notices anything.
    Engine,
    /// The gateway takes it on, or begins anew.
    Gateway,
    /// The host begins anew; providers go on meanwhile.
    Host,
    /// The service begins anew.
    Service,
}

impl Takes {
    /// As the first column of a table says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "in place",
            Self::Gateway => "gateway",
            Self::Host => "restart host",
            Self::Service => "next start",
        }
    }

    /// Of what a section sets; none: it is not the service's.
    fn of(section: &str, key: &str) -> Option<Self> {
        match section.split('.').next().unwrap_or_default() {
            "service" if key == "cgroups" => Some(Self::Service),
            "" | "service" | "history" | "sink" => Some(Self::Engine),
            "local" if section == "local" && key == "grpc" => Some(Self::Service),
            "local" => Some(Self::Engine),
            "grpc" => Some(Self::Gateway),
            "providers" | "modules" | "registry" => Some(Self::Host),
            // What is run, and what clients look for.
            _ => None,
        }
    }
}

/// A setting that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub takes: Takes,
    /// The section and the key: `history.keep`.
    pub setting: String,
    /// None: as by default.
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// A value as it is shown, and its digest.
type Settings = BTreeMap<String, (Value, u64)>;

/// The same with what each takes.
type Wanted = BTreeMap<String, (Takes, (Value, u64))>;

/// Notes what holds from now on. Who may not write there has told nobody.
pub fn note(socket: &Path, config: &Path) -> Result<(), Error> {
    note_after(&[], socket, config)
}

/// The same when these changes were made: what takes another start of the service does not hold yet.
pub fn note_after(changes: &[Change], socket: &Path, config: &Path) -> Result<(), Error> {
    let mut settings: Settings = read(config)?.into_iter().map(|(setting, (_, is))| (setting, is)).collect();
    let mut before = noted(socket).unwrap_or_default();
    for Change { setting, .. } in changes.iter().filter(|change| change.takes == Takes::Service) {
        settings.remove(setting);
        settings.extend(before.remove_entry(setting));
    }
    let row = |(setting, (value, digest))| json!({ "setting": setting, "value": value, "digest": digest });
    let rows: Vec<_> = settings.into_iter().map(row).collect();
    // For its owner alone: what is hidden of a short secret could be guessed by its digest.
    let _ = files::replace_for_now(&path(socket), 0o600, Value::from(rows).to_string().as_bytes());
    Ok(())
}

/// What differs by now; nothing where that is not known.
pub fn changes(socket: &Path, config: &Path) -> Result<Vec<Change>, Error> {
    let Some(before) = noted(socket) else { return Ok(Vec::new()) };
    let is_open = fs::metadata(socket).is_ok_and(|m| m.permissions().mode() & OTHERS_CAN_WRITE != 0);
    let mut changes = differences(&before, read(config)?);
    // Who may connect is decided where the socket is made.
    for change in changes.iter_mut().filter(|c| c.setting.starts_with("local.group_roles.") && !is_open) {
        change.takes = Takes::Service;
    }
    Ok(changes)
}

/// Whether the service could read this configuration, and which groups it names that there are not.
pub fn check(socket: &Path, config: &Path) -> Result<Vec<String>, Error> {
    let config = config::load(config, state::directory_of(socket).ok().as_deref())?;
    Ok(config::missing_groups(&config.local.unknown_groups))
}

fn path(socket: &Path) -> PathBuf {
    let mut path = socket.to_owned();
    path.as_mut_os_string().push(".settings");
    path
}

fn noted(socket: &Path) -> Option<Settings> {
    let note: Vec<Value> = serde_json::from_slice(&files::read(&path(socket), LEN_MAX).ok()?).ok()?;
    let row = |row: &Value| {
        Some((row["setting"].as_str()?.to_owned(), (row["value"].clone(), row["digest"].as_u64()?)))
    };
    note.iter().map(row).collect()
}

fn read(config: &Path) -> Result<Wanted, Error> {
    let said = shown(Some(config))?.into_iter().filter(|row| row.origin != Origin::Default);
    let rows = said.filter_map(|row| {
        let takes = Takes::of(&row.section, &row.key)?;
        let setting = if row.section.is_empty() { row.key } else { format!("{}.{}", row.section, row.key) };
        Some((setting, (takes, (row.value, row.digest))))
    });
    Ok(rows.collect())
}

fn differences(before: &Settings, after: Wanted) -> Vec<Change> {
    let gone =
        before.iter().filter(|(setting, _)| !after.contains_key(*setting)).filter_map(|(setting, was)| {
            let (section, key) = setting.rsplit_once('.').unwrap_or(("", setting));
            let (setting, takes) = (setting.clone(), Takes::of(section, key)?);
            Some(Change { takes, setting, before: Some(was.0.clone()), after: None })
        });
    let mut all: Vec<_> = gone.collect();
    for (setting, (takes, is)) in after {
        let was = before.get(&setting);
        if was != Some(&is) {
            all.push(Change { takes, setting, before: was.map(|was| was.0.clone()), after: Some(is.0) });
        }
    }
    all.sort_by(|a, b| a.setting.cmp(&b.setting));
    all
}

/// A table of them, for people.
pub fn table(changes: &[Change]) -> Vec<String> {
    /// The longest value in it, in characters.
    const VALUE_LEN_MAX: usize = 48;
    let header = ["ACTION", "SETTING", "IS", "IS TO BE"].map(str::to_owned);
    let cell = |value: &Option<Value>| {
        let text = value.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        text::cut(&text::escaped(&text), VALUE_LEN_MAX).into_owned()
    };
    let row = |change: &Change| {
        [change.takes.name().to_owned(), change.setting.clone(), cell(&change.before), cell(&change.after)]
    };
    text::columns(&[header].into_iter().chain(changes.iter().map(row)).collect::<Vec<_>>())
}

/// The same for programs.
pub fn object(change: &Change) -> Value {
    json!({
        "action": change.takes.name(),
        "setting": change.setting,
        "before": change.before,
        "after": change.after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_with_what_it_takes_and_secrets_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, config) = (dir.path().join("s"), dir.path().join("provost.toml"));
        let write = |text: &str| fs::write(&config, text).unwrap();
        write(
            "[process.web]\ncommand = ['a']\n[grpc.demo_users]\nann = 'x'\n[[sink]]\nkind = 'jsonl'\npath = '/a'\n",
        );
        assert_eq!(changes(&socket, &config).unwrap(), [], "nothing is known");
        note(&socket, &config).unwrap();
        assert_eq!(changes(&socket, &config).unwrap(), []);
        assert_eq!(fs::metadata(path(&socket)).unwrap().permissions().mode() & 0o777, 0o600);
        write(
            "orphans = 'adopt'\n[process.web]\ncommand = ['b']\n[grpc.demo_users]\nann = 'y'\n[history]\nkeep = '1d'\n\
             [local]\ngrpc = false\n[local.group_roles]\nadm = 'viewer'\n[modules]\nlisten = '127.0.0.1:1'\n",
        );
        let found = changes(&socket, &config).unwrap();
        let named: Vec<_> = found.iter().map(|c| (c.setting.as_str(), c.takes)).collect();
        let of = |setting: &str| found.iter().find(|c| c.setting == setting).unwrap();
        for expected in [
            ("grpc.demo_users.ann", Takes::Gateway),
            ("history.keep", Takes::Engine),
            ("local.group_roles.adm", Takes::Service),
            ("local.grpc", Takes::Service),
            ("modules.listen", Takes::Host),
            ("orphans", Takes::Engine),
            ("sink.1.path", Takes::Engine),
        ] {
            assert!(named.contains(&expected), "{expected:?} {named:?}");
        }
        assert_eq!(
            (&of("grpc.demo_users.ann").before, &of("sink.1.path").after),
            (&Some("***".into()), &None)
        );
        assert!(named.iter().all(|(setting, _)| !setting.starts_with("process")));
        // What a reload cannot do differs until the service begins anew.
        note_after(&found, &socket, &config).unwrap();
        let left: Vec<_> = changes(&socket, &config).unwrap().into_iter().map(|c| c.setting).collect();
        assert_eq!(left, ["local.group_roles.adm", "local.grpc"]);
        assert!(table(&found).iter().all(|line| !line.contains("\"y\"")));
    }
}

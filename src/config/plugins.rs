//! The folders of plugins: what each says of itself in its `plugin.toml`, and how much of that it may
//! (`policy.rs`). Whoever can put a folder there has one more provider run by the service, so it is looked at
//! who that can be, and nothing outside of the folder is taken.

use std::borrow::Cow;
use std::fs;
use std::path::{Component, Path};

use serde_json::Value;

use crate::config::discovery::name_of;
use crate::config::file::top;
use crate::config::policy;
use crate::config::providers::{config_of, confine, environment_of, labels_of, set_proof, set_timeouts};
use crate::config::section::{At, Section, Source};
use crate::registry::discovery::{Behind, Candidate, Found, Origin};
use crate::registry::settings::PluginPolicy;
use crate::schema;
use crate::sys::files;
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::provider::{Definition, SCHEMA_LEN_MAX, TYPE_REMOTE};
use crate::wire::registry::TYPE_CREDENTIAL;
use crate::wire::values::sha256;

/// What a folder's manifest is called.
const MANIFEST: &str = "plugin.toml";
/// The largest manifest, in bytes.
const MANIFEST_LEN_MAX: u64 = 1 << 20;
/// The most folders that are looked at.
const FOLDERS_MAX: usize = 1000;
/// The type of an executable that a folder brings and does not name.
const TYPE_PLUGIN: &str = "plugin";
/// Types that are something else than an executable.
const TYPES_TAKEN: [&str; 3] = [TYPE_CREDENTIAL, TYPE_REMOTE, "module"];
/// The longest type, version or capability, in bytes.
const TEXT_LEN_MAX: usize = 128;
/// The most capabilities of a plugin.
const CAPABILITIES_MAX: usize = 64;

/// The plugins in this directory, one folder each. What is wrong with one is told, and the others are there.
pub fn of_plugins(directory: &Path, policy: &PluginPolicy) -> Result<Found, Error> {
    let cannot = |e| Error::failed(&format!("read the directory of plugins {}", directory.display()), &e);
    let mut folders = Vec::new();
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        // Files beside the folders are no plugins; a link is refused below.
        if !is_hidden && !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            folders.push(entry.path());
        }
    }
    folders.sort();
    let mut found = Found::default();
    for folder in folders {
        let place = folder.to_string_lossy().into_owned();
        if found.candidates.len() + found.bad.len() >= FOLDERS_MAX {
            found.bad.push((place, format!("more than {FOLDERS_MAX} folders are not looked at")));
            break;
        }
        match plugin(&folder, policy) {
            Ok(plugin) => match found.candidates.iter().find(|other| other.name == plugin.name) {
                Some(other) => {
                    let why = format!("it is called {}, as the one in {} is", plugin.name, other.place);
                    found.bad.push((place, why));
                }
                None => found.candidates.push(plugin),
            },
            Err(e) => found.bad.push((place, e.message)),
        }
    }
    Ok(found)
}

/// One folder.
fn plugin(folder: &Path, policy: &PluginPolicy) -> Result<Candidate, Error> {
    let is_folder = fs::symlink_metadata(folder).is_ok_and(|metadata| metadata.is_dir());
    if !is_folder {
        return Err(Error::usage("it is a link, or something else that is no folder"));
    }
    let path = folder.join(MANIFEST);
    // It says what is executed.
    let text = text_in(folder, MANIFEST, MANIFEST_LEN_MAX)
        .map_err(|why| Error::usage(format!("{MANIFEST}: {why}")))?;
    let source = Source { path: &path, text: &text };
    let mut table = top(&source)?;
    let name = name_of(&mut table)?;
    let kind = short(&mut table, "type")?;
    if TYPES_TAKEN.contains(&kind.as_str()) {
        return Err(table.error(&format!("the type {} is no executable's", quoted(&kind))));
    }
    let version = short(&mut table, "version")?;
    let capabilities = capabilities(&mut table)?;
    let executable = table.required("executable")?;
    if !is_inside(folder, &executable.value) {
        return Err(table.bad(&executable, "'executable' is a path in the folder, and leads nowhere else"));
    }
    let digits = table.text("sha256")?;
    let sha256 =
        digits.map(|text| sha256(&text.value).map_err(|e| table.bad(&text, &e.message))).transpose()?;
    let labels = labels_of(&mut table)?;
    let mut definition = Definition {
        binary: folder.join(&*executable.value).to_string_lossy().into_owned(),
        config: config_of(&mut table)?,
        schemas: schema_of(&mut table, folder)?.into_iter().collect(),
        source_file_path: path.to_string_lossy().into_owned(),
        // Of the service's variables it gets those that it names.
        environment: environment_of(&mut table, true)?,
        sha256,
        // The folder is where it belongs.
        allow_external: true,
        ..Definition::default()
    };
    set_timeouts(&mut table, &mut definition)?;
    set_proof(&mut table, &mut definition)?;
    confine(&mut table, &mut definition)?;
    policy::apply(policy, folder, &mut definition).map_err(|why| table.error(&why))?;
    table.finish()?;
    Ok(Candidate {
        name,
        origin: Origin::Plugin,
        kind: if kind.is_empty() { TYPE_PLUGIN.to_owned() } else { kind },
        version,
        capabilities,
        labels,
        behind: Behind::Process(Box::new(definition)),
        is_lazy: false,
        place: folder.to_string_lossy().into_owned(),
    })
}

/// What it can: a word or two each.
fn capabilities(table: &mut Section<'_>) -> Result<Vec<String>, Error> {
    let all = table.texts_of("capabilities")?.unwrap_or_default();
    if all.len() > CAPABILITIES_MAX {
        return Err(table.error(&format!("{} capabilities are more than {CAPABILITIES_MAX}", all.len())));
    }
    let one = |text: At<Cow<'_, str>>| {
        let is_one = (1..=TEXT_LEN_MAX).contains(&text.value.len()) && !text.value.contains(char::is_control);
        if !is_one {
            let why = format!("a capability is one line of 1 to {TEXT_LEN_MAX} bytes");
            return Err(table.bad(&text, &why));
        }
        Ok(text.value.into_owned())
    };
    all.into_iter().map(one).collect()
}

/// A word or two that are shown; empty where there are none.
fn short(table: &mut Section<'_>, key: &'static str) -> Result<String, Error> {
    let Some(text) = table.text(key)? else { return Ok(String::new()) };
    if text.value.len() > TEXT_LEN_MAX || text.value.contains(char::is_control) {
        return Err(table.bad(&text, &format!("'{key}' is one line of at most {TEXT_LEN_MAX} bytes")));
    }
    Ok(text.value.into_owned())
}

/// Whether a path stays in the folder. Where links lead is what counts.
fn is_inside(folder: &Path, path: &str) -> bool {
    let leads_inside = match (fs::canonicalize(folder.join(path)), fs::canonicalize(folder)) {
        (Ok(real), Ok(folder)) => real.starts_with(folder),
        _ => true,
    };
    let is_normal = |part| matches!(part, Component::Normal(_));
    !path.is_empty() && leads_inside && Path::new(path).components().all(is_normal)
}

/// A file of the folder that nobody else can change.
fn text_in(folder: &Path, path: &str, max: u64) -> Result<String, String> {
    if !is_inside(folder, path) {
        return Err("it is a path in the folder, and leads nowhere else".to_owned());
    }
    let text = files::guarded(&folder.join(path), max)?;
    String::from_utf8(text).map_err(|_| "it is not UTF-8 text".to_owned())
}

/// The key `schema`: a table, or a file in the folder.
fn schema_of(table: &mut Section<'_>, folder: &Path) -> Result<Option<String>, Error> {
    let Some(given) = table.value("schema") else { return Ok(None) };
    let text = match &given.value {
        Value::String(path) => text_in(folder, path, SCHEMA_LEN_MAX as u64),
        Value::Object(_) => Ok(given.value.to_string()),
        _ => Err("it is a table, or a file in the folder".to_owned()),
    };
    let read = text.and_then(|text| schema::check(&text).map(|()| text));
    read.map(Some).map_err(|why| table.bad(&given, &format!("'schema': {why}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::wire::provider::ProviderEnvironment;

    /// A directory of plugins that is nobody else's.
    struct Plugins(tempfile::TempDir);

    impl Plugins {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> PathBuf {
            fs::canonicalize(self.0.path()).unwrap()
        }

        fn add(&self, folder: &str, manifest: &str) -> PathBuf {
            let folder = self.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("run"), "#!/bin/sh\n").unwrap();
            fs::write(folder.join(MANIFEST), manifest).unwrap();
            folder
        }

        fn found(&self) -> Found {
            of_plugins(&self.path(), &PluginPolicy::default()).unwrap()
        }
    }

    #[test]
    fn a_folder_is_a_plugin_as_its_manifest_says() {
        let plugins = Plugins::new();
        let folder = plugins.add(
            "files",
            "name = 'app'\ntype = 'files'\nversion = '1.2'\nexecutable = 'run'\nenv_allow = ['PATH']\n\
             fetch_timeout = '3s'\ncookie = true\n[config]\nkey = { '$env' = 'K' }\n[labels]\nteam = 'a'\n",
        );
        fs::write(plugins.path().join("README"), "no folder").unwrap();
        let found = plugins.found();
        let [plugin] = &found.candidates[..] else { panic!("{found:?}") };
        assert!(found.bad.is_empty() && plugin.origin == Origin::Plugin);
        assert_eq!((plugin.kind.as_str(), plugin.version.as_str()), ("files", "1.2"));
        assert_eq!(plugin.labels, [("team".to_owned(), "a".to_owned())]);
        let Behind::Process(definition) = &plugin.behind else { panic!("{plugin:?}") };
        assert_eq!(Path::new(&definition.binary), folder.join("run"));
        assert_eq!((definition.timeouts.fetch, definition.cookie), (Duration::from_secs(3), true));
    }

    #[test]
    fn h21_a_manifest_gives_its_executable_no_variable_of_its_own() {
        let plugins = Plugins::new();
        for (n, line) in ["env = { LD_PRELOAD = '/x.so' }", "env_file = '/x'", "[env]\nGRPC_TRACE = 'all'"]
            .iter()
            .enumerate()
        {
            plugins.add(&format!("bad{n}"), &format!("name = 'bad{n}'\nexecutable = 'run'\n{line}\n"));
        }
        // By default it gets none of the service's, and of those that it names not the values.
        plugins.add("fine", "name = 'fine'\nexecutable = 'run'\n");
        let found = plugins.found();
        let [fine] = &found.candidates[..] else { panic!("{found:?}") };
        let Behind::Process(definition) = &fine.behind else { panic!("{fine:?}") };
        assert_eq!(definition.environment, ProviderEnvironment::Clear);
        assert!(found.bad.len() == 3 && found.bad.iter().all(|(_, why)| why.contains("unknown key 'env")));
    }

    #[test]
    fn bad_folders_are_named_and_the_others_are_there() {
        let plugins = Plugins::new();
        let outside = Plugins::new();
        let fine = "name = 'fine'\nexecutable = 'run'\n";
        plugins.add("fine", fine);
        plugins.add("g-twice", fine);
        plugins.add("no-name", "executable = 'run'\n");
        plugins.add("key", "name = 'key'\nexecutable = 'run'\nexecutables = 'x'\n");
        plugins.add("misspelt", "name = 'misspelt'\nexecutabel = 'run'\n");
        plugins.add("dots", "name = 'dots'\nexecutable = '../fine/run'\n");
        plugins.add("absolute", "name = 'absolute'\nexecutable = '/bin/sh'\n");
        let linked = plugins.add("linked", "name = 'linked'\nexecutable = 'out'\n");
        symlink("/bin/sh", linked.join("out")).unwrap();
        symlink(outside.add("x", fine), plugins.path().join("link")).unwrap();
        let open = plugins.add("open", "name = 'open'\nexecutable = 'run'\n");
        fs::set_permissions(open.join(MANIFEST), fs::Permissions::from_mode(0o666)).unwrap();
        fs::create_dir(plugins.path().join("empty")).unwrap();
        let found = plugins.found();
        assert_eq!(found.candidates.len(), 1);
        let names: Vec<_> = found.bad.iter().map(|(place, _)| place.rsplit('/').next().unwrap()).collect();
        assert_eq!(
            names,
            ["absolute", "dots", "empty", "g-twice", "key", "link", "linked", "misspelt", "no-name", "open"],
            "{found:?}"
        );
        assert!(
            found.bad[7].1.contains("needs 'executable'; did you mean that by 'executabel'?"),
            "{found:?}"
        );
    }
}

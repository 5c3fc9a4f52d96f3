//! Where providers are discovered: `[registry.discovery]`, the folders of plugins with their `plugin.toml`,
//! and the rules for variables of the environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};
use std::time::Duration;

use crate::config::file::top;
use crate::config::providers::{config_of, definition, environment_of, set_proof, set_timeouts};
use crate::config::section::{Section, Source};
use crate::provider::references::{Reference, ServiceVariables};
use crate::registry::discovery::{Behind, Candidate, Found, Origin};
use crate::registry::settings::{DiscoverySettings, EnvironmentRule};
use crate::sys::files;
use crate::wire::error::{Code, Error};
use crate::wire::provider::{Definition, ProviderName, SET_DEFAULT, TYPE_PROCESS};
use crate::wire::registry::TYPE_CREDENTIAL;
use crate::wire::values::sha256;

/// What a folder's manifest is called.
const MANIFEST: &str = "plugin.toml";
/// The largest manifest, in bytes.
const MANIFEST_LEN_MAX: u64 = 1 << 20;
/// The most folders that are looked at.
const FOLDERS_MAX: usize = 1000;
/// The most rules of a configuration.
const RULES_MAX: usize = 256;
/// The type of an executable that a folder brings and does not name.
const TYPE_PLUGIN: &str = "plugin";
/// Variables that are known without a rule, and the providers that they stand for.
const KNOWN: [(&str, &str); 2] = [("ANTHROPIC_API_KEY", "anthropic"), ("OPENAI_API_KEY", "openai")];

/// `[registry.discovery]`.
pub fn read(mut section: Section<'_>) -> Result<DiscoverySettings, Error> {
    let plugin_path = section.path("plugin_path")?;
    if plugin_path.as_ref().is_some_and(|path| !path.is_absolute()) {
        return Err(section.error("'plugin_path' is an absolute path, or the file's own is"));
    }
    let range = Duration::from_secs(1)..=Duration::from_secs(86_400);
    let auto_refresh_interval = section.duration("auto_refresh_interval", range)?;
    let is_environment_used = section.flag("enable_environment_discovery")?.unwrap_or(false);
    let mut rules = Vec::new();
    for table in section.sections("environment", RULES_MAX)? {
        rules.push(rule(table)?);
    }
    section.finish()?;
    Ok(DiscoverySettings { plugin_path, auto_refresh_interval, is_environment_used, rules })
}

/// `[[registry.discovery.environment]]`.
fn rule(mut table: Section<'_>) -> Result<EnvironmentRule, Error> {
    let variable = table.required("variable")?;
    let is_name =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name(&variable.value) {
        return Err(table.bad(&variable, "'variable' is letters, digits and '_'"));
    }
    let variable = variable.value.into_owned();
    let name = name_of(&mut table)?;
    let types = [(TYPE_CREDENTIAL, TYPE_CREDENTIAL), (TYPE_PROCESS, TYPE_PROCESS)];
    let kind = table.choice("type", &types)?.unwrap_or(TYPE_CREDENTIAL);
    let behind = if kind == TYPE_PROCESS {
        Behind::Process(Box::new(definition(&mut table)?))
    } else {
        Behind::Credential(Reference::Variable(variable.clone()))
    };
    table.finish()?;
    Ok(EnvironmentRule { candidate: of_variable(&variable, name, kind, behind), variable })
}

fn of_variable(variable: &str, name: ProviderName, kind: &str, behind: Behind) -> Candidate {
    Candidate {
        name,
        origin: Origin::Environment,
        kind: kind.to_owned(),
        version: String::new(),
        labels: Vec::new(),
        behind,
        place: variable.to_owned(),
    }
}

fn name_of(table: &mut Section<'_>) -> Result<ProviderName, Error> {
    let (set, alias) = (table.text("set")?, table.required("name")?);
    let set = set.as_ref().map_or(SET_DEFAULT, |set| &*set.value);
    ProviderName::new(set, &alias.value).map_err(|e| table.bad(&alias, &e.message))
}

/// The providers of the configuration, as they are discovered.
#[must_use]
pub fn of_config(definitions: Vec<(ProviderName, Definition)>) -> Found {
    let candidate = |(name, definition): (ProviderName, Definition)| Candidate {
        name,
        origin: Origin::Config,
        kind: definition.kind().to_owned(),
        version: String::new(),
        labels: Vec::new(),
        place: definition.source_file_path.clone(),
        behind: Behind::Process(Box::new(definition)),
    };
    Found { candidates: definitions.into_iter().map(candidate).collect(), bad: Vec::new() }
}

/// What the variables stand for that the service was started with. Only those are looked at that a rule
/// names.
pub fn of_environment(settings: &DiscoverySettings) -> Result<Found, Error> {
    let variables = ServiceVariables::read().map_err(|why| Error::new(Code::Failed, why))?;
    Ok(of_variables(settings, &variables))
}

fn of_variables(settings: &DiscoverySettings, variables: &ServiceVariables) -> Found {
    let known = KNOWN.into_iter().filter_map(|(variable, alias)| {
        let name = ProviderName::new(SET_DEFAULT, alias).ok()?;
        let behind = Behind::Credential(Reference::Variable(variable.to_owned()));
        let candidate = of_variable(variable, name, TYPE_CREDENTIAL, behind);
        Some(EnvironmentRule { variable: variable.to_owned(), candidate })
    });
    // A rule of one's own comes first: it may make something else of a variable that is known.
    let is_ruled = |known: &EnvironmentRule| settings.rules.iter().any(|own| own.variable == known.variable);
    let rules = settings.rules.iter().cloned().chain(known.filter(|known| !is_ruled(known)));
    let mut found: BTreeMap<ProviderName, Candidate> = BTreeMap::new();
    for rule in rules {
        if variables.get(&rule.variable).is_some() {
            found.entry(rule.candidate.name.clone()).or_insert(rule.candidate);
        }
    }
    Found { candidates: found.into_values().collect(), bad: Vec::new() }
}

/// The plugins in this directory, one folder each. What is wrong with one is told, and the others are there.
pub fn of_plugins(directory: &Path) -> Result<Found, Error> {
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
        match plugin(&folder) {
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
fn plugin(folder: &Path) -> Result<Candidate, Error> {
    let is_folder = fs::symlink_metadata(folder).is_ok_and(|metadata| metadata.is_dir());
    if !is_folder {
        return Err(Error::usage("it is a link, or something else that is no folder"));
    }
    let path = folder.join(MANIFEST);
    // It says what is executed.
    let text =
        files::guarded(&path, MANIFEST_LEN_MAX).map_err(|why| Error::usage(format!("{MANIFEST}: {why}")))?;
    let text = String::from_utf8(text).map_err(|_| Error::usage(format!("{MANIFEST} is not UTF-8 text")))?;
    let source = Source { path: &path, text: &text };
    let mut table = top(&source)?;
    let name = name_of(&mut table)?;
    let text_of = |table: &mut Section<'_>, key| {
        Ok::<_, Error>(table.text(key)?.map(|text| text.value.into_owned()).unwrap_or_default())
    };
    let kind = text_of(&mut table, "type")?;
    let version = text_of(&mut table, "version")?;
    let executable = table.required("executable")?;
    let is_inside =
        Path::new(&*executable.value).components().all(|part| matches!(part, Component::Normal(_)));
    let binary = folder.join(&*executable.value);
    // Where links lead is what counts.
    let leads_inside = match (fs::canonicalize(&binary), fs::canonicalize(folder)) {
        (Ok(binary), Ok(folder)) => binary.starts_with(folder),
        _ => true,
    };
    if executable.value.is_empty() || !is_inside || !leads_inside {
        return Err(table.bad(&executable, "'executable' is a path in the folder, and leads nowhere else"));
    }
    let digits = table.text("sha256")?;
    let sha256 =
        digits.map(|text| sha256(&text.value).map_err(|e| table.bad(&text, &e.message))).transpose()?;
    let labels = table.section("labels")?.map(Section::texts).transpose()?.unwrap_or_default();
    let mut definition = Definition {
        binary: binary.to_string_lossy().into_owned(),
        config: config_of(&mut table)?,
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
    table.finish()?;
    Ok(Candidate {
        name,
        origin: Origin::Plugin,
        kind: if kind.is_empty() { TYPE_PLUGIN.to_owned() } else { kind },
        version,
        labels: labels.into_iter().map(|(key, text)| (key.value, text.value.into_owned())).collect(),
        behind: Behind::Process(Box::new(definition)),
        place: folder.to_string_lossy().into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;
    use crate::config::parse;
    use crate::wire::provider::ProviderEnvironment;

    fn settings(text: &str) -> Result<DiscoverySettings, Error> {
        parse(Path::new("/etc/provost.toml"), text, None).map(|(config, _)| config.registry.discovery)
    }

    #[test]
    fn every_setting_is_read() {
        let read = settings(
            "[registry.discovery]
            plugin_path = 'plugins'
            auto_refresh_interval = '1m'
            enable_environment_discovery = true
            [[registry.discovery.environment]]
            variable = 'MY_KEY'
            name = 'mine'
            [[registry.discovery.environment]]
            variable = 'MY_URL'
            name = 'app'
            set = 'ci'
            type = 'process'
            binary = '/usr/bin/x'
            config = { url = { '$env' = 'MY_URL' } }",
        )
        .unwrap();
        assert_eq!(read.plugin_path, Some("/etc/plugins".into()));
        assert!(read.is_environment_used && read.auto_refresh_interval == Some(Duration::from_secs(60)));
        let [mine, app] = &read.rules[..] else { panic!("{read:?}") };
        assert_eq!(mine.candidate.behind, Behind::Credential(Reference::Variable("MY_KEY".into())));
        assert!(matches!(&app.candidate.behind, Behind::Process(d) if d.binary == "/usr/bin/x"));
        assert_eq!(settings(""), Ok(DiscoverySettings::default()));
        for bad in [
            "[registry.discovery]\nx = 1",
            "[[registry.discovery.environment]]\nname = 'a'",
            "[[registry.discovery.environment]]\nvariable = 'A=B'\nname = 'a'",
            "[[registry.discovery.environment]]\nvariable = 'A'\nname = 'a/b'",
            "[[registry.discovery.environment]]\nvariable = 'A'\nname = 'a'\nbinary = '/x'",
        ] {
            assert!(settings(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variable_stands_for_all_that_rules_make_of_it() {
        let rule = |variable: &str, name: &str| {
            format!("[[registry.discovery.environment]]\nvariable = '{variable}'\nname = '{name}'\n")
        };
        let rules =
            [rule("K", "one"), rule("K", "two"), rule("OPENAI_API_KEY", "mine"), rule("NONE", "none")];
        let read = settings(&rules.concat()).unwrap();
        let set = ServiceVariables::of("KK=0\0K=1\0OPENAI_API_KEY=2\0ANTHROPIC_API_KEY=3\0NONE=\0");
        let found = of_variables(&read, &set).candidates;
        let names: Vec<_> = found.iter().map(|candidate| candidate.name.alias()).collect();
        assert_eq!(names, ["anthropic", "mine", "one", "two"]);
    }

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
            of_plugins(&self.path()).unwrap()
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
            ["absolute", "dots", "empty", "g-twice", "key", "link", "linked", "no-name", "open"],
            "{found:?}"
        );
    }
}

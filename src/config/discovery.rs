//! Where providers are discovered: `[registry.discovery]`, and the rules for variables of the environment.
//! The folders of plugins are in `plugins.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::providers::definition;
use crate::config::section::Section;
use crate::provider::references::{Reference, ServiceVariables};
use crate::provider::settings::ProviderSettings;
use crate::registry::discovery::{Behind, Candidate, Found, Origin};
use crate::registry::settings::{DiscoverySettings, EnvironmentRule, PluginPolicy};
use crate::wire::error::{Code, Error};
use crate::wire::provider::{Definition, ProviderName, SET_DEFAULT, TYPE_PROCESS};
use crate::wire::registry::TYPE_CREDENTIAL;

/// The most rules of a configuration.
const RULES_MAX: usize = 256;
/// Variables that are known without a rule, and the providers that they stand for.
const KNOWN: [(&str, &str); 2] = [("ANTHROPIC_API_KEY", "anthropic"), ("OPENAI_API_KEY", "openai")];

/// `[registry.discovery]`.
pub fn read(mut section: Section<'_>) -> Result<DiscoverySettings, Error> {
    let (config_path, plugin_path) = (section.path("config_path")?, section.path("plugin_path")?);
    for (key, path) in [("config_path", &config_path), ("plugin_path", &plugin_path)] {
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(section.error(&format!("'{key}' is an absolute path, or the file's own is")));
        }
    }
    let range = Duration::from_secs(1)..=Duration::from_secs(86_400);
    let auto_refresh_interval = section.duration("auto_refresh_interval", range)?;
    let is_environment_used = section.flag("enable_environment_discovery")?.unwrap_or(false);
    let mut rules = Vec::new();
    for table in section.sections("environment", RULES_MAX)? {
        rules.push(rule(table)?);
    }
    section.finish()?;
    let policy = PluginPolicy::default();
    Ok(DiscoverySettings {
        config_path,
        plugin_path,
        auto_refresh_interval,
        is_environment_used,
        rules,
        policy,
    })
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
        is_lazy: false,
        origin: Origin::Environment,
        kind: kind.to_owned(),
        version: String::new(),
        capabilities: Vec::new(),
        labels: Vec::new(),
        behind,
        place: variable.to_owned(),
    }
}

pub(super) fn name_of(table: &mut Section<'_>) -> Result<ProviderName, Error> {
    let (set, alias) = (table.text("set")?, table.required("name")?);
    let set = set.as_ref().map_or(SET_DEFAULT, |set| &*set.value);
    ProviderName::new(set, &alias.value).map_err(|e| table.bad(&alias, &e.message))
}

/// The providers of the configuration, as they are discovered.
#[must_use]
pub fn of_config(settings: ProviderSettings) -> Found {
    let ProviderSettings { definitions, lazy, labels, .. } = settings;
    let candidate = |(name, definition): (ProviderName, Definition)| Candidate {
        is_lazy: lazy.contains(&name),
        origin: Origin::Config,
        kind: definition.kind().to_owned(),
        version: String::new(),
        capabilities: Vec::new(),
        labels: labels.get(&name).cloned().unwrap_or_default(),
        name,
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn settings(text: &str) -> Result<DiscoverySettings, Error> {
        parse(Path::new("/etc/provost.toml"), text, None).map(|(config, _)| config.registry.discovery)
    }

    #[test]
    fn every_setting_is_read() {
        let read = settings(
            "[registry.discovery]
            config_path = 'more.toml'
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
        assert_eq!(read.config_path, Some("/etc/more.toml".into()));
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
}

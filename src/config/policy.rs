//! How much of what it asks for in its manifest a plugin may have: `[registry.plugins]`. What asks for more
//! is refused with the reason, and what does not ask has the limits all the same.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::config::providers::confine;
use crate::config::section::{Section, Texts};
use crate::provider::references::{Reference, all_in};
use crate::registry::settings::PluginPolicy;
use crate::sdk::value;
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::provider::{Definition, ProviderEnvironment};
use crate::wire::spec::Rlimit;

/// What hosts and services are spoken to with; no plugin gets it.
const OURS: &str = "PROVOST_";
/// What the names of variables begin with that have another code run in the place of a program's own. Only a
/// policy that names one allows it.
const LOADERS: [&str; 12] = [
    "LD_",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "BASH_ENV",
    "ENV",
    "NODE_OPTIONS",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PERL5",
    "RUBYOPT",
    "JAVA_TOOL_OPTIONS",
];

/// `[registry.plugins]`.
pub fn read(mut section: Section<'_>) -> Result<PluginPolicy, Error> {
    let all = |texts: Texts<'_>| texts.into_iter().map(|text| text.value.into_owned()).collect();
    let variables = section.texts_of("variables")?.map(all);
    let mut files: Option<Vec<PathBuf>> = None;
    if let Some(texts) = section.texts_of("files")? {
        if let Some(relative) = texts.iter().find(|text| !text.value.starts_with('/')) {
            return Err(section.bad(relative, "'files' is a list of absolute paths"));
        }
        files = Some(texts.into_iter().map(|text| PathBuf::from(&*text.value)).collect());
    }
    let is_pinned = section.flag("require_sha256")?.unwrap_or(false);
    let mut confined = Definition::default();
    confine(&mut section, &mut confined)?;
    section.finish()?;
    Ok(PluginPolicy { variables, files, is_pinned, limits: confined.limits, landlock: confined.landlock })
}

/// Has the definition be as the policy wants it. An error says what is asked for that is not allowed.
pub fn apply(policy: &PluginPolicy, folder: &Path, definition: &mut Definition) -> Result<(), String> {
    if policy.is_pinned && definition.sha256.is_none() {
        return Err("it has no 'sha256', which the policy requires".to_owned());
    }
    if let ProviderEnvironment::Allow(names) = &definition.environment {
        names.iter().try_for_each(|name| variable(policy, name))?;
    }
    if definition.environment == ProviderEnvironment::Inherit {
        return Err("'env_clear = false' is not for plugins: 'env_allow' names variables".to_owned());
    }
    let config = value::decode(&definition.config).map(value::to_json).unwrap_or_default();
    for reference in all_in(&config) {
        match reference {
            Reference::Variable(name) => variable(policy, &name)?,
            Reference::File(path) => file(policy, &path)?,
        }
    }
    limits(policy, definition)?;
    landlock(policy, folder, definition)
}

fn variable(policy: &PluginPolicy, name: &str) -> Result<(), String> {
    let is_named = policy.variables.as_ref().is_some_and(|all| all.iter().any(|known| known == name));
    let is_loader = LOADERS.iter().any(|loader| match loader.strip_suffix('_') {
        Some(_) => name.starts_with(loader),
        None => name == *loader || (*loader == "PERL5" && name.starts_with(loader)),
    });
    if name.starts_with(OURS) || (!is_named && (is_loader || policy.variables.is_some())) {
        return Err(format!("it asks for the variable {}, which the policy does not allow", quoted(name)));
    }
    Ok(())
}

fn file(policy: &PluginPolicy, path: &Path) -> Result<(), String> {
    let is_allowed = policy.files.as_ref().is_none_or(|allowed| is_below(path, allowed.iter()));
    if is_allowed {
        return Ok(());
    }
    Err(format!("it refers to the file {}, which the policy does not allow", quoted(&path.to_string_lossy())))
}

/// Where links lead is what counts.
fn is_below<P: AsRef<Path>>(path: &Path, mut allowed: impl Iterator<Item = P>) -> bool {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    !real.components().any(|part| part == Component::ParentDir)
        && allowed.any(|directory| {
            let directory = directory.as_ref();
            real.starts_with(fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned()))
        })
}

fn limits(policy: &PluginPolicy, definition: &mut Definition) -> Result<(), String> {
    for most in &policy.limits {
        match definition.limits.iter().find(|asked| asked.resource == most.resource) {
            Some(Rlimit { soft, hard, .. }) if *soft > most.soft || *hard > most.hard => {
                return Err(format!("it asks for more {} than the policy allows", most.resource));
            }
            Some(_) => {}
            None => definition.limits.push(most.clone()),
        }
    }
    Ok(())
}

fn landlock(policy: &PluginPolicy, folder: &Path, definition: &mut Definition) -> Result<(), String> {
    let asked = &mut definition.landlock;
    let own = folder.to_string_lossy().into_owned();
    if !policy.landlock.is_empty() {
        if asked.is_empty() {
            *asked = policy.landlock.clone();
        }
        let write = &policy.landlock.write;
        let readable: Vec<_> = policy.landlock.read.iter().chain(write).chain([&own]).collect();
        let refused = |path: &String| {
            Err(format!("it asks for {} by landlock, which the policy does not allow", quoted(path)))
        };
        if let Some(path) = asked.write.iter().find(|path| !is_below(Path::new(path), write.iter())) {
            return refused(path);
        }
        if let Some(path) = asked.read.iter().find(|path| !is_below(Path::new(path), readable.iter())) {
            return refused(path);
        }
        asked.optional = policy.landlock.optional;
    }
    // It has to read itself.
    if !asked.is_empty() && !asked.read.contains(&own) {
        asked.read.push(own);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::file::top;
    use crate::config::section::Source;
    use crate::wire::landlock::Landlock;
    use prost::Message;

    fn policy(text: &str) -> Result<PluginPolicy, Error> {
        let source = Source { path: Path::new("/etc/provost.toml"), text };
        read(top(&source)?)
    }

    fn asking(config: &Value) -> Definition {
        let config = value::to_struct(config.as_object().unwrap().clone()).unwrap().encode_to_vec();
        Definition { config, environment: ProviderEnvironment::Clear, ..Definition::default() }
    }

    /// What is refused; empty: nothing.
    fn refused(policy: &PluginPolicy, mut definition: Definition) -> String {
        apply(policy, Path::new("/plugins/app"), &mut definition).err().unwrap_or_default()
    }

    fn allowing(names: &[&str]) -> Definition {
        let names = names.iter().map(ToString::to_string).collect();
        Definition { environment: ProviderEnvironment::Allow(names), ..asking(&json!({})) }
    }

    #[test]
    fn c11_manifests_are_given_no_variable_of_the_loader() {
        let none = PluginPolicy::default();
        for bad in ["LD_PRELOAD", "LD_AUDIT", "PROVOST_LAUNCH", "GLIBC_TUNABLES", "PERL5LIB", "BASH_ENV"] {
            assert!(refused(&none, allowing(&["PATH", bad])).contains(bad), "{bad}");
            let config = json!({ "a": [{ "b": { "$env": bad } }] });
            assert!(refused(&none, asking(&config)).contains(bad), "{bad}");
        }
        assert_eq!(refused(&none, allowing(&["PATH", "LDAP_URL", "ENVIRONMENT"])), "");
        let some = policy("variables = ['LD_LIBRARY_PATH', 'PROVOST_X']").unwrap();
        assert_eq!(refused(&some, allowing(&["LD_LIBRARY_PATH"])), "");
        assert!(refused(&some, allowing(&["PATH"])).contains("'PATH'"));
        assert!(refused(&some, allowing(&["PROVOST_X"])).contains("PROVOST_X"));
        let inherits = Definition { environment: ProviderEnvironment::Inherit, ..asking(&json!({})) };
        assert!(refused(&none, inherits).contains("env_clear"));
    }

    #[test]
    fn files_limits_and_paths_are_those_that_are_allowed() {
        let policy = policy(
            "files = ['/run/secrets']\nrequire_sha256 = true\nlimits = { nofile = '64:128' }\n\
             landlock_read = ['/usr']\nlandlock_write = ['/var/lib/plugins']\nlandlock_optional = true\n",
        )
        .unwrap();
        let pinned = |definition| Definition { sha256: Some("0".repeat(64)), ..definition };
        let file = |path: &str| pinned(asking(&json!({ "key": { "$file": path } })));
        assert!(refused(&policy, asking(&json!({}))).contains("sha256"));
        assert_eq!(refused(&policy, file("/run/secrets/a")), "");
        for outside in ["/etc/shadow", "/run/secrets/../x", "/run/secretsx"] {
            assert!(refused(&policy, file(outside)).contains(outside), "{outside}");
        }
        let limits = |soft, hard| {
            let resource = "nofile".to_owned();
            Definition { limits: vec![Rlimit { resource, soft, hard }], ..pinned(asking(&json!({}))) }
        };
        assert_eq!(refused(&policy, limits(10, 128)), "");
        assert!(refused(&policy, limits(65, 128)).contains("more nofile"));
        assert!(refused(&policy, limits(64, 129)).contains("more nofile"));
        let paths = |read: &[&str], write: &[&str]| {
            let all = |paths: &[&str]| paths.iter().map(ToString::to_string).collect();
            let landlock = Landlock { read: all(read), write: all(write), optional: true };
            Definition { landlock, ..pinned(asking(&json!({}))) }
        };
        assert_eq!(refused(&policy, paths(&["/usr", "/plugins/app/data"], &["/var/lib/plugins/app"])), "");
        assert!(refused(&policy, paths(&["/etc"], &[])).contains("'/etc'"));
        assert!(refused(&policy, paths(&[], &["/usr"])).contains("'/usr'"));
        // Who asks for nothing has all of it, and itself.
        let mut none = pinned(asking(&json!({})));
        apply(&policy, Path::new("/plugins/app"), &mut none).unwrap();
        assert_eq!(none.limits, policy.limits);
        assert_eq!(none.landlock.read, ["/usr", "/plugins/app"]);
        assert_eq!(none.landlock.write, ["/var/lib/plugins"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(policy(""), Ok(PluginPolicy::default()));
        for bad in ["x = 1", "files = ['x']", "limits = { nofile = 'many' }", "landlock_write = ['x']"] {
            assert!(policy(bad).is_err(), "{bad}");
        }
    }
}

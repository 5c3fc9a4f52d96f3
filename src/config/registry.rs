//! `[registry]`: when calls of a provider are refused, and how long its users may take to leave it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::section::{At, Section};
use crate::config::{discovery, policy};
use crate::guard::breaker::BreakerSettings;
use crate::registry::health::{CHECK_INTERVAL, HealthSettings};
use crate::registry::settings::RegistrySettings;
use crate::wire::error::Error;
use crate::wire::registry::INTERVAL_MIN;

pub fn read(mut section: Section<'_>) -> Result<RegistrySettings, Error> {
    let or = RegistrySettings::default();
    let mut circuit_breaker = section.section("circuit_breaker")?;
    let open_last = circuit_breaker.as_mut().map(|table| table.flag("open_last")).transpose()?.flatten();
    let breaker = circuit_breaker.map(breaker).transpose()?.unwrap_or(or.breaker);
    let mut discovery = section.section("discovery")?.map(discovery::read).transpose()?.unwrap_or_default();
    discovery.policy = section.section("plugins")?.map(policy::read).transpose()?.unwrap_or_default();
    let schemas = section.section("schemas")?.map(schemas).transpose()?.unwrap_or_default();
    let health = section.section("health")?.map(health).transpose()?;
    let mut health = health.unwrap_or(or.health);
    // Who wants the registry wants it to look.
    health.check_interval.get_or_insert(CHECK_INTERVAL);
    let lifecycle = section.section("lifecycle")?;
    section.finish()?;
    let (mut init_timeout, mut dispose_timeout, mut graceful_shutdown_timeout) =
        (or.init_timeout, or.dispose_timeout, or.graceful_shutdown_timeout);
    if let Some(mut lifecycle) = lifecycle {
        let mut span =
            |key, or| Ok::<_, Error>(lifecycle.duration(key, seconds(1)..=seconds(3600))?.unwrap_or(or));
        init_timeout = span("init_timeout", init_timeout)?;
        dispose_timeout = span("dispose_timeout", dispose_timeout)?;
        graceful_shutdown_timeout = span("graceful_shutdown_timeout", graceful_shutdown_timeout)?;
        lifecycle.finish()?;
    }
    Ok(RegistrySettings {
        breaker,
        opens_last: open_last.unwrap_or(false),
        health,
        discovery,
        schemas,
        init_timeout,
        dispose_timeout,
        graceful_shutdown_timeout,
    })
}

/// `[registry.schemas]`: `TYPE = "FILE"`. They are read where they are used, so that a bad one harms its own
/// type alone.
fn schemas(section: Section<'_>) -> Result<BTreeMap<String, PathBuf>, Error> {
    let source = section.source();
    let here = source.path.parent().unwrap_or(Path::new(""));
    let one = |(kind, path): (At<String>, At<Cow<'_, str>>)| {
        if path.value.is_empty() || path.value.contains('\0') {
            return Err(source.bad(&path, "it is the path of a schema"));
        }
        Ok((kind.value, here.join(&*path.value)))
    };
    section.texts()?.into_iter().map(one).collect()
}

fn breaker(mut section: Section<'_>) -> Result<BreakerSettings, Error> {
    let or = BreakerSettings::default();
    let number = |section: &mut Section<'_>, key, or: u32| {
        let given = section.integer(key, 1..=1000)?.and_then(|n| u32::try_from(n).ok());
        Ok::<_, Error>(given.unwrap_or(or))
    };
    let span = |section: &mut Section<'_>, key, or| {
        Ok::<_, Error>(section.duration(key, seconds(1)..=seconds(86_400))?.unwrap_or(or))
    };
    let percent = |section: &mut Section<'_>, key| {
        Ok::<_, Error>(section.integer(key, 1..=100)?.and_then(|n| u32::try_from(n).ok()))
    };
    let settings = BreakerSettings {
        failure_percent: percent(&mut section, "failure_percent")?,
        slow_after: section.duration("slow_after", Duration::from_millis(1)..=seconds(3600))?,
        slow_percent: percent(&mut section, "slow_percent")?.unwrap_or(or.slow_percent),
        calls_needed: number(&mut section, "calls_needed", or.calls_needed)?,
        failure_threshold: number(&mut section, "failure_threshold", or.failure_threshold)?,
        monitoring_period: span(&mut section, "monitoring_period", or.monitoring_period)?,
        recovery_timeout: span(&mut section, "recovery_timeout", or.recovery_timeout)?,
        probe_timeout: span(&mut section, "probe_timeout", or.probe_timeout)?,
        probes: number(&mut section, "probes", or.probes)?,
        probes_needed: number(&mut section, "probes_needed", or.probes_needed)?,
    };
    if settings.probes_needed > settings.probes {
        return Err(section.error("'probes_needed' is at most 'probes': no more are let through"));
    }
    section.finish()?;
    Ok(settings)
}

fn health(mut section: Section<'_>) -> Result<HealthSettings, Error> {
    let or = HealthSettings::default();
    let number = |section: &mut Section<'_>, key, range, or: u32| {
        let given = section.integer(key, range)?.and_then(|n| u32::try_from(n).ok());
        Ok::<_, Error>(given.unwrap_or(or))
    };
    let interval = section.duration("check_interval", Duration::ZERO..=seconds(86_400))?;
    if interval.is_some_and(|interval| !interval.is_zero() && interval < INTERVAL_MIN) {
        return Err(section.error("'check_interval' is at least 100ms, or 0s for no checks"));
    }
    let timeout = section.duration("timeout", Duration::from_millis(10)..=seconds(300))?;
    let settings = HealthSettings {
        check_interval: interval,
        timeout: timeout.unwrap_or(or.timeout),
        retries: number(&mut section, "retries", 0..=10, or.retries)?,
        failure_threshold: number(&mut section, "failure_threshold", 1..=1000, or.failure_threshold)?,
        success_threshold: number(&mut section, "success_threshold", 1..=1000, or.success_threshold)?,
    };
    section.finish()?;
    Ok(settings)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn read(text: &str) -> Result<RegistrySettings, Error> {
        parse(Path::new("/etc/provost.toml"), text, None).map(|(config, _)| config.registry)
    }

    #[test]
    fn what_is_given_is_taken_and_the_rest_is_as_by_default() {
        assert_eq!(read(""), Ok(RegistrySettings::default()));
        let interval = |text| read(text).map(|settings| settings.health.check_interval);
        assert_eq!(interval(""), Ok(None));
        assert_eq!(interval("[registry]\n"), Ok(Some(seconds(30))));
        assert_eq!(interval("[registry.health]\nretries = 0\n"), Ok(Some(seconds(30))));
        let text = "[registry.circuit_breaker]\nfailure_threshold = 3\nrecovery_timeout = \"2s\"\n\
                    failure_percent = 50\nslow_after = \"1s\"\nslow_percent = 80\ncalls_needed = 10\n\
                    open_last = true\n\
                    [registry.health]\ncheck_interval = \"0s\"\nretries = 0\n\
                    [registry.lifecycle]\ninit_timeout = \"5s\"\ndispose_timeout = \"1m\"\n";
        let breaker = BreakerSettings {
            failure_threshold: 3,
            recovery_timeout: seconds(2),
            failure_percent: Some(50),
            slow_after: Some(seconds(1)),
            slow_percent: 80,
            calls_needed: 10,
            ..BreakerSettings::default()
        };
        let health =
            HealthSettings { check_interval: Some(Duration::ZERO), retries: 0, ..HealthSettings::default() };
        let or = RegistrySettings::default();
        let (init_timeout, dispose_timeout) = (seconds(5), seconds(60));
        let settings =
            RegistrySettings { breaker, opens_last: true, health, init_timeout, dispose_timeout, ..or };
        assert_eq!(read(text), Ok(settings));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "[registry]\nx = 1\n",
            "[registry.circuit_breaker]\nfailure_threshold = 0\n",
            "[registry.circuit_breaker]\nrecovery_timeout = \"1ms\"\n",
            "[registry.circuit_breaker]\nprobes = 1\nprobes_needed = 2\n",
            "[registry.circuit_breaker]\nfailure_percent = 101\n",
            "[registry.circuit_breaker]\nslow_after = \"0s\"\n",
            "[registry.lifecycle]\nx = 1\n",
            "[registry.health]\ncheck_interval = \"99ms\"\n",
            "[registry.health]\nfailure_threshold = 0\n",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}

//! `[modules]`: where providers of modules register, and how long they may be silent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::access::roles::typed;
use crate::config::grpc::files;
use crate::config::section::Section;
use crate::module::settings::{ModuleLimits, ModuleSettings};
use crate::wire::error::Error;

pub fn read(mut section: Section<'_>, state: Option<&Path>) -> Result<ModuleSettings, Error> {
    let listen = section.text("listen")?;
    let is_secured = section.boolean("tls")?.unwrap_or(false);
    let tls = is_secured.then(|| files(&mut section, state)).transpose()?;
    let listen = listen
        .map(|text| {
            let address = text.value.parse::<SocketAddr>().map_err(|_| {
                section.bad(&text, "'listen' is an address and a port, as \"127.0.0.1:9090\"")
            })?;
            if !address.ip().is_loopback() && !is_secured {
                return Err(section
                    .bad(&text, "'listen' of [modules] is without TLS an address of this machine alone")
                    .hint("write 127.0.0.1:PORT or [::1]:PORT, or 'tls = true' for mutual TLS"));
            }
            Ok(address)
        })
        .transpose()?;
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    let or = ModuleLimits::default();
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let limits = ModuleLimits {
        heartbeat_timeout: section
            .duration("heartbeat_timeout", range.clone())?
            .unwrap_or(or.heartbeat_timeout),
        control_timeout: section.duration("control_timeout", range.clone())?.unwrap_or(or.control_timeout),
        report_interval: section.duration("report_interval", range)?.unwrap_or(or.report_interval),
        reserved: section
            .texts_of("reserved")?
            .map_or(or.reserved, |all| all.into_iter().map(|text| text.value.into_owned()).collect()),
        namespaces: namespaces(section.section("namespaces")?)?,
        member_calls: section.integer("member_calls", 1..=1000)?.map_or(or.member_calls, small),
        member_queue: section.integer("member_queue", 0..=1000)?.map_or(or.member_queue, small),
    };
    section.finish()?;
    Ok(ModuleSettings { listen, tls, limits })
}

/// `NAMESPACE = ["dns:NAME", ...]`: which certificates may have it.
fn namespaces(section: Option<Section<'_>>) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
    let Some(section) = section else { return Ok(BTreeMap::new()) };
    let at = section.source();
    let bound = section.lists()?.into_iter().map(|(namespace, names)| {
        let names = names
            .into_iter()
            .map(|name| typed(&name.value).map_err(|e| at.bad(&name, &e.message).hint(e.hint)))
            .collect::<Result<_, _>>()?;
        Ok((namespace.value, names))
    });
    bound.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::section::Source;
    use crate::config::top;

    fn parsed(text: &str) -> Result<ModuleSettings, Error> {
        let source = Source { path: Path::new("/etc/provost/provost.toml"), text };
        let mut file = top(&source)?;
        let section = file.section("modules")?;
        read(section.expect("it is there"), Some(Path::new("/state")))
    }

    #[test]
    fn every_key_is_read() {
        let settings = parsed(
            "[modules]
            listen = '127.0.0.1:9090'
            heartbeat_timeout = '1s'
            control_timeout = '2s'
            report_interval = '3s'
            reserved = ['stdlib', 'ours']
            member_calls = 5
            member_queue = 6
            [modules.namespaces]
            'ml.vision' = ['host.example', 'uri:x']",
        );
        let limits = ModuleLimits {
            heartbeat_timeout: Duration::from_secs(1),
            control_timeout: Duration::from_secs(2),
            report_interval: Duration::from_secs(3),
            reserved: vec!["stdlib".into(), "ours".into()],
            namespaces: [(
                "ml.vision".to_owned(),
                ["dns:host.example".to_owned(), "uri:x".to_owned()].into(),
            )]
            .into(),
            member_calls: 5,
            member_queue: 6,
        };
        assert_eq!(
            settings,
            Ok(ModuleSettings { listen: Some(([127, 0, 0, 1], 9090).into()), tls: None, limits })
        );
    }

    #[test]
    fn with_tls_it_is_for_others_too_and_has_the_files_of_the_service() {
        let settings = parsed("[modules]\nlisten = '0.0.0.0:9090'\ntls = true\ncrl = '/c'").unwrap();
        let files = settings.tls.unwrap();
        assert_eq!(files.certificate, Path::new("/state/certs/server.pem"));
        assert_eq!(files.crl.as_deref(), Some(Path::new("/c")));
        let e = parsed("[modules]\nlisten = '0.0.0.0:9090'\n[modules.namespaces]\na = ['ip:x']").unwrap_err();
        assert!(e.message.contains("address"), "{e:?}");
    }

    #[test]
    fn what_others_could_reach_is_refused() {
        for (listen, why) in [
            ("0.0.0.0:1", "an address of this machine alone"),
            ("[::]:1", "an address of this machine alone"),
            ("x", "an address"),
        ] {
            let e = parsed(&format!("[modules]\nlisten = '{listen}'")).unwrap_err();
            assert!(e.message.contains(why), "{e:?}");
        }
    }
}

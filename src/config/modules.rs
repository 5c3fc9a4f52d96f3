//! `[modules]`: where providers of modules register, and how long they may be silent.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::section::Section;
use crate::module::settings::{ModuleLimits, ModuleSettings};
use crate::wire::error::Error;

pub fn read(mut section: Section<'_>) -> Result<ModuleSettings, Error> {
    let listen = section.text("listen")?;
    let listen = listen
        .map(|text| {
            let address = text.value.parse::<SocketAddr>().map_err(|_| {
                section.bad(&text, "'listen' is an address and a port, as \"127.0.0.1:9090\"")
            })?;
            if !address.ip().is_loopback() {
                return Err(section
                    .bad(&text, "'listen' of [modules] is an address of this machine alone")
                    .hint("write 127.0.0.1:PORT or [::1]:PORT: what comes from elsewhere needs mutual TLS"));
            }
            Ok(address)
        })
        .transpose()?;
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    let or = ModuleLimits::default();
    let limits = ModuleLimits {
        heartbeat_timeout: section
            .duration("heartbeat_timeout", range.clone())?
            .unwrap_or(or.heartbeat_timeout),
        control_timeout: section.duration("control_timeout", range.clone())?.unwrap_or(or.control_timeout),
        report_interval: section.duration("report_interval", range)?.unwrap_or(or.report_interval),
        reserved: section
            .texts_of("reserved")?
            .map_or(or.reserved, |all| all.into_iter().map(|text| text.value.into_owned()).collect()),
    };
    section.finish()?;
    Ok(ModuleSettings { listen, limits })
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
        read(section.expect("it is there"))
    }

    #[test]
    fn every_key_is_read() {
        let settings = parsed(
            "[modules]
            listen = '127.0.0.1:9090'
            heartbeat_timeout = '1s'
            control_timeout = '2s'
            report_interval = '3s'
            reserved = ['stdlib', 'ours']",
        );
        let limits = ModuleLimits {
            heartbeat_timeout: Duration::from_secs(1),
            control_timeout: Duration::from_secs(2),
            report_interval: Duration::from_secs(3),
            reserved: vec!["stdlib".into(), "ours".into()],
        };
        assert_eq!(settings, Ok(ModuleSettings { listen: Some(([127, 0, 0, 1], 9090).into()), limits }));
    }

    #[test]
    fn what_others_could_reach_is_refused() {
        for (listen, why) in
            [("0.0.0.0:1", "of this machine alone"), ("[::]:1", "of this machine alone"), ("x", "an address")]
        {
            let e = parsed(&format!("[modules]\nlisten = '{listen}'")).unwrap_err();
            assert!(e.message.contains(why), "{e:?}");
        }
    }
}

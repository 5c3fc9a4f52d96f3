//! `[modules]`: where providers of modules register, and how long they may be silent. A key that is not there
//! reads its variable of the environment, as the protocol's own server does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::access::roles::typed;
use crate::config::grpc::files;
use crate::config::section::Section;
use crate::module::executor::ExecutorAddress;
use crate::module::names::{check_module, check_namespace};
use crate::module::settings::{BEATS_PER_TIMEOUT, Elsewhere, ModuleLimits, ModuleSettings};
use crate::tls::material::Files;
use crate::wire::error::Error;
use crate::wire::values::duration_text;

/// What the variables are called that stand for keys.
const VARIABLE_PREFIX: &str = "CONSTELLATION_PROVIDER_";
/// Where providers register if nothing is said.
const PORT_DEFAULT: u16 = 9090;

pub fn read(section: Section<'_>, state: Option<&Path>) -> Result<ModuleSettings, Error> {
    read_with(section, state, &|name| std::env::var(name).ok())
}

fn read_with(
    mut section: Section<'_>,
    state: Option<&Path>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<ModuleSettings, Error> {
    let mut variables = Variables { get: variable, notices: Vec::new() };
    let listen = section.text("listen")?;
    let is_secured = section.boolean("tls")?.unwrap_or(false);
    let tls = is_secured.then(|| files(&mut section, state)).transpose()?;
    let listen = match listen {
        None => {
            let port = variables.read("listen", "PORT", |text| text.parse().ok().filter(|port| *port != 0));
            SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(PORT_DEFAULT)))
        }
        Some(text) => {
            let address = text.value.parse::<SocketAddr>().map_err(|_| {
                section.bad(&text, "'listen' is an address and a port, as \"127.0.0.1:9090\"")
            })?;
            if !address.ip().is_loopback() && !is_secured {
                return Err(section
                    .bad(&text, "'listen' of [modules] is without TLS an address of this machine alone")
                    .hint("write 127.0.0.1:PORT or [::1]:PORT, or 'tls = true' for mutual TLS"));
            }
            address
        }
    };
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    let or = ModuleLimits::default();
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let mut time = |key: &'static str, name: &str, default: Duration| {
        let seconds = |text: &str| text.parse().ok().map(Duration::from_secs).filter(|t| range.contains(t));
        Ok::<_, Error>(match section.duration(key, range.clone())? {
            Some(time) => time,
            None => variables.read(key, name, seconds).unwrap_or(default),
        })
    };
    let heartbeat_timeout = time("heartbeat_timeout", "HEARTBEAT_TIMEOUT", or.heartbeat_timeout)?;
    let control_timeout = time("control_timeout", "CONTROL_PLANE_TIMEOUT", or.control_timeout)?;
    let at_most = heartbeat_timeout / BEATS_PER_TIMEOUT;
    let default = or.heartbeat_interval.min(at_most);
    let heartbeat_interval = time("heartbeat_interval", "HEARTBEAT_INTERVAL", default)?;
    let report_interval = time("report_interval", "REPORT_INTERVAL", or.report_interval)?;
    let reserved = match section.texts_of("reserved")? {
        Some(all) => all.into_iter().map(|text| text.value.into_owned()).collect(),
        None => variables.read("reserved", "RESERVED_NS", names).unwrap_or(or.reserved),
    };
    if heartbeat_interval > at_most {
        let e = format!(
            "'heartbeat_interval' is {}, and {BEATS_PER_TIMEOUT} are to fit into 'heartbeat_timeout', {}",
            duration_text(heartbeat_interval),
            duration_text(heartbeat_timeout)
        );
        return Err(section.error(&e).hint("make the one shorter or the other longer"));
    }
    let limits = ModuleLimits {
        heartbeat_interval,
        heartbeat_timeout,
        control_timeout,
        report_interval,
        reserved,
        namespaces: namespaces(section.section("namespaces")?)?,
        elsewhere: section.section("executors")?.map(|s| elsewhere(s, state)).transpose()?,
        member_calls: section.integer("member_calls", 1..=1000)?.map_or(or.member_calls, small),
        member_queue: section.integer("member_queue", 0..=1000)?.map_or(or.member_queue, small),
        expect: expected(section.section("expect")?)?,
        expect_grace: section.duration("expect_grace", range)?.unwrap_or(or.expect_grace),
    };
    section.finish()?;
    Ok(ModuleSettings { listen: Some(listen), tls, limits, notices: variables.notices })
}

/// `[modules.executors]`: hosts that are spoken to with TLS, by their names or addresses.
fn elsewhere(mut section: Section<'_>, state: Option<&Path>) -> Result<Elsewhere, Error> {
    let mut hosts = BTreeSet::new();
    for host in section.texts_of("hosts")?.unwrap_or_default() {
        // Read as providers write it, with a port that does not matter.
        let read = ExecutorAddress::parse(&format!("{}:1", host.value)).ok();
        let read = read.ok_or_else(|| {
            section.bad(
                &host,
                "'hosts' are names or addresses, as \"vision.example\", \"10.0.0.7\" or \"[::1]\"",
            )
        })?;
        hosts.insert(read.host().to_owned());
    }
    if hosts.is_empty() {
        return Err(section.error("[modules.executors] needs 'hosts'"));
    }
    let dir = section.path("certificates")?.or_else(|| state.map(|state| state.join("certs")));
    let mut named = |key: &'static str, name: &str| match section.path(key)? {
        Some(path) => Ok(path),
        None => dir
            .as_ref()
            .map(|dir| dir.join(name))
            .ok_or_else(|| section.error(&format!("[modules.executors] needs '{key}', or 'certificates'"))),
    };
    let (certificate, key) = (named("certificate", "client.pem")?, named("key", "client.key")?);
    let (ca, crl) = (named("ca", "ca.pem")?, section.path("crl")?);
    section.finish()?;
    Ok(Elsewhere { hosts, files: Files { certificate, key, ca, crl } })
}

/// Variables that stand for keys that are not in the file.
struct Variables<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    /// Which have been used, and which could not be.
    notices: Vec<String>,
}

impl Variables<'_> {
    /// What this one has, if it is set. One that cannot be read is none, as for the protocol's own server.
    fn read<T>(&mut self, key: &str, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let name = format!("{VARIABLE_PREFIX}{name}");
        let text = (self.get)(&name).filter(|text| !text.is_empty())?;
        let value = parse(text.trim());
        self.notices.push(match value {
            Some(_) => format!("'{key}' of [modules] is {text:.80}, from {name}"),
            None => format!("'{key}' of [modules] is as without {name}, which cannot be read: {text:.80}"),
        });
        value
    }
}

/// Names with commas between.
fn names(text: &str) -> Option<Vec<String>> {
    let all = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    Some(all.map(str::to_owned).collect())
}

/// `NAMESPACE = ["NAME", ...]`: which modules of it there are to be; none: any.
fn expected(section: Option<Section<'_>>) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
    let Some(section) = section else { return Ok(BTreeMap::new()) };
    let at = section.source();
    let mut all = BTreeMap::new();
    for (namespace, names) in section.lists()? {
        check_namespace(&namespace.value).map_err(|why| at.bad(&namespace, &why))?;
        let checked = names.into_iter().map(|name| {
            check_module(&name.value).map_err(|why| at.bad(&name, &why))?;
            Ok::<_, Error>(name.value.into_owned())
        });
        all.insert(namespace.value.clone(), checked.collect::<Result<_, _>>()?);
    }
    Ok(all)
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
    use super::*;
    use crate::config::section::Source;
    use crate::config::top;

    fn parsed(text: &str) -> Result<ModuleSettings, Error> {
        let source = Source { path: Path::new("/etc/provost/provost.toml"), text };
        let mut file = top(&source)?;
        let section = file.section("modules")?;
        read_with(section.expect("it is there"), Some(Path::new("/state")), &|_| None)
    }

    fn parsed_with(text: &str, variables: &[(&str, &str)]) -> ModuleSettings {
        let source = Source { path: Path::new("/etc/provost/provost.toml"), text };
        let section = top(&source).unwrap().section("modules").unwrap().expect("it is there");
        let variable = |name: &str| {
            let name = name.strip_prefix(VARIABLE_PREFIX).expect("they begin with it");
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        read_with(section, None, &variable).unwrap()
    }

    #[test]
    fn every_key_is_read() {
        let settings = parsed(
            "[modules]
            listen = '127.0.0.1:9090'
            heartbeat_interval = '200ms'
            heartbeat_timeout = '1s'
            control_timeout = '2s'
            report_interval = '3s'
            reserved = ['stdlib', 'ours']
            member_calls = 5
            member_queue = 6
            expect_grace = '7s'
            [modules.executors]
            hosts = ['10.0.0.7', '[2001:DB8::1]', 'Vision.Example']
            certificates = '/c'
            key = '/k'
            [modules.expect]
            demo = ['add', 'words']
            'ml.vision' = []
            [modules.namespaces]
            'ml.vision' = ['host.example', 'uri:x']",
        );
        let limits = ModuleLimits {
            heartbeat_interval: Duration::from_millis(200),
            heartbeat_timeout: Duration::from_secs(1),
            control_timeout: Duration::from_secs(2),
            report_interval: Duration::from_secs(3),
            reserved: vec!["stdlib".into(), "ours".into()],
            namespaces: [(
                "ml.vision".to_owned(),
                ["dns:host.example".to_owned(), "uri:x".to_owned()].into(),
            )]
            .into(),
            elsewhere: Some(Elsewhere {
                hosts: ["10.0.0.7", "2001:db8::1", "vision.example"].map(str::to_owned).into(),
                files: Files {
                    certificate: "/c/client.pem".into(),
                    key: "/k".into(),
                    ca: "/c/ca.pem".into(),
                    crl: None,
                },
            }),
            member_calls: 5,
            member_queue: 6,
            expect: [
                ("demo".to_owned(), ["add".to_owned(), "words".to_owned()].into()),
                ("ml.vision".to_owned(), [].into()),
            ]
            .into(),
            expect_grace: Duration::from_secs(7),
        };
        let listen = Some(([127, 0, 0, 1], 9090).into());
        assert_eq!(settings, Ok(ModuleSettings { listen, tls: None, limits, notices: Vec::new() }));
    }

    #[test]
    fn without_a_key_its_default_holds() {
        let settings = parsed("[modules]").unwrap();
        let limits = &settings.limits;
        assert_eq!(settings.listen, Some(([127, 0, 0, 1], 9090).into()));
        let times = [limits.heartbeat_timeout, limits.control_timeout, limits.report_interval];
        assert_eq!(times.map(|time| time.as_secs()), [15, 30, 30]);
        assert_eq!(limits.heartbeat_interval.as_secs(), 5);
        assert_eq!(limits.reserved, ["stdlib"]);
    }

    #[test]
    fn a_key_that_is_not_there_reads_its_variable() {
        let variables = [
            ("PORT", "9999"),
            ("HEARTBEAT_INTERVAL", "1"),
            ("HEARTBEAT_TIMEOUT", "4"),
            ("CONTROL_PLANE_TIMEOUT", "2"),
            ("REPORT_INTERVAL", "3"),
            ("RESERVED_NS", "stdlib, ours"),
        ];
        let settings = parsed_with("[modules]", &variables);
        let limits = &settings.limits;
        assert_eq!(settings.listen, Some(([127, 0, 0, 1], 9999).into()));
        let times = [limits.heartbeat_timeout, limits.control_timeout, limits.report_interval];
        assert_eq!(times.map(|time| time.as_secs()), [4, 2, 3]);
        assert_eq!(limits.heartbeat_interval.as_secs(), 1);
        assert_eq!(limits.reserved, ["stdlib", "ours"]);
        let from = "'heartbeat_timeout' of [modules] is 4, from CONSTELLATION_PROVIDER_HEARTBEAT_TIMEOUT";
        assert!(settings.notices.len() == 6 && settings.notices.iter().any(|notice| notice == from));
        // The file comes first, and what cannot be read is none.
        let settings = parsed_with("[modules]\nlisten = '127.0.0.1:1'\nheartbeat_timeout = '9s'", &variables);
        assert_eq!(settings.listen, Some(([127, 0, 0, 1], 1).into()));
        assert_eq!((settings.limits.heartbeat_timeout.as_secs(), settings.notices.len()), (9, 4));
        for bad in ["abc", "-1", "0", "1.5", "99999999"] {
            let settings = parsed_with("[modules]", &[("HEARTBEAT_TIMEOUT", bad)]);
            assert_eq!(settings.limits, ModuleLimits::default());
            assert!(settings.notices[0].contains("cannot be read"), "{:?}", settings.notices);
        }
    }

    #[test]
    fn three_heartbeats_fit_into_what_one_may_be_late() {
        let fits = |text: &str| parsed(&format!("[modules]\n{text}"));
        let limits = fits("heartbeat_timeout = '2s'").unwrap().limits;
        assert_eq!(limits.heartbeat_interval, Duration::from_secs(2) / 3);
        let e = fits("heartbeat_timeout = '2s'\nheartbeat_interval = '1s'").unwrap_err();
        assert!(e.message.contains("3 are to fit into 'heartbeat_timeout', 2s"), "{e:?}");
        assert!(fits("heartbeat_timeout = '3s'\nheartbeat_interval = '1s'").is_ok());
    }

    #[test]
    fn hosts_of_executors_are_names_or_addresses() {
        for bad in ["", "hosts = []", "hosts = ['a b']", "hosts = ['10.0.0.1:1']", "hosts = ['2001:db8::1']"]
        {
            assert!(parsed(&format!("[modules.executors]\n{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_expected_has_the_names_of_modules() {
        for bad in ["demo = ['a.b']", "'a..b' = ['c']", "demo = 'add'", "demo = ['']"] {
            assert!(parsed(&format!("[modules.expect]\n{bad}")).is_err(), "{bad}");
        }
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

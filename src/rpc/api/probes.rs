//! What shows that a process is ready and well: the public messages into those that are checked and stored,
//! and back.

use crate::rpc::api::values::{Invalid, ms, proto};
use crate::rpc::services::public as api;
use crate::wire::probes::{LiveRules, Liveness, Readiness, ReadyRules};
use crate::wire::proto::v1;

fn unknown(field: &str) -> Invalid {
    Invalid::because(field, "it has no probe that this version knows")
}

fn command(exec: api::ProbeCommand) -> v1::ProbeCommand {
    v1::ProbeCommand { command: exec.command }
}

pub(super) fn readiness(probe: api::ReadinessProbe) -> Result<v1::Ready, Invalid> {
    use api::readiness_probe::Probe;
    use v1::ready::By;
    let by = match probe.probe {
        Some(Probe::Line(text)) => By::Line(text),
        Some(Probe::TcpPort(port)) => By::Tcp(port),
        Some(Probe::Notify(true)) => By::Notify(true),
        Some(Probe::HttpUrl(url)) => By::Http(url),
        Some(Probe::Exec(exec)) => By::Exec(command(exec)),
        Some(Probe::Exit(true)) => By::Exit(true),
        Some(Probe::Grpc(end)) => By::Grpc(end),
        None | Some(Probe::Notify(false) | Probe::Exit(false)) => return Err(unknown("spec.readiness")),
    };
    Ok(v1::Ready { by: Some(by) })
}

pub(super) fn liveness(probe: api::LivenessProbe) -> Result<v1::Live, Invalid> {
    use api::liveness_probe::Probe;
    use v1::live::By;
    let by = match probe.probe {
        Some(Probe::TcpPort(port)) => By::Tcp(port),
        Some(Probe::HttpUrl(url)) => By::Http(url),
        Some(Probe::Exec(exec)) => By::Exec(command(exec)),
        Some(Probe::Notify(true)) => By::Notify(true),
        Some(Probe::Grpc(end)) => By::Grpc(end),
        None | Some(Probe::Notify(false)) => return Err(unknown("spec.liveness")),
    };
    Ok(v1::Live { by: Some(by) })
}

pub(super) fn ready_rules(rules: api::ReadinessRules) -> Result<v1::ReadyRules, Invalid> {
    let ms = |field: &str, d| ms(&format!("spec.readiness_rules.{field}"), d);
    Ok(v1::ReadyRules {
        interval_ms: rules.interval.map(|d| ms("interval", d)).transpose()?,
        attempt_ms: rules.attempt.map(|d| ms("attempt", d)).transpose()?,
        successes: rules.successes,
        delay_ms: rules.delay.map(|d| ms("delay", d)).transpose()?.unwrap_or(0),
        timeout_ms: rules.timeout.map(|d| ms("timeout", d)).transpose()?,
        fail_line: rules.fail_line,
        recheck_ms: rules.recheck.map(|d| ms("recheck", d)).transpose()?,
        failures: rules.failures,
    })
}

pub(super) fn live_rules(rules: api::LivenessRules) -> Result<v1::LiveRules, Invalid> {
    let ms = |field: &str, d| ms(&format!("spec.liveness_rules.{field}"), d);
    Ok(v1::LiveRules {
        interval_ms: rules.interval.map(|d| ms("interval", d)).transpose()?,
        attempt_ms: rules.attempt.map(|d| ms("attempt", d)).transpose()?,
        failures: rules.failures,
        delay_ms: rules.delay.map(|d| ms("delay", d)).transpose()?.unwrap_or(0),
    })
}

impl From<&Readiness> for api::ReadinessProbe {
    fn from(ready: &Readiness) -> Self {
        use api::readiness_probe::Probe;
        let probe = match ready {
            Readiness::Line(text) => Probe::Line(text.clone()),
            Readiness::Tcp(port) => Probe::TcpPort(u32::from(*port)),
            Readiness::Notify => Probe::Notify(true),
            Readiness::Http(url) => Probe::HttpUrl(url.clone()),
            Readiness::Exec(command) => Probe::Exec(api::ProbeCommand { command: command.clone() }),
            Readiness::Exit => Probe::Exit(true),
            Readiness::Grpc(end) => Probe::Grpc(end.clone()),
        };
        Self { probe: Some(probe) }
    }
}

impl From<&Liveness> for api::LivenessProbe {
    fn from(live: &Liveness) -> Self {
        use api::liveness_probe::Probe;
        let probe = match live {
            Liveness::Tcp(port) => Probe::TcpPort(u32::from(*port)),
            Liveness::Http(url) => Probe::HttpUrl(url.clone()),
            Liveness::Exec(command) => Probe::Exec(api::ProbeCommand { command: command.clone() }),
            Liveness::Notify => Probe::Notify(true),
            Liveness::Grpc(end) => Probe::Grpc(end.clone()),
        };
        Self { probe: Some(probe) }
    }
}

impl From<&ReadyRules> for api::ReadinessRules {
    fn from(rules: &ReadyRules) -> Self {
        Self {
            interval: rules.interval.map(proto),
            attempt: Some(proto(rules.attempt)),
            successes: rules.successes,
            delay: Some(proto(rules.delay)),
            timeout: rules.timeout.map(proto),
            fail_line: rules.fail_line.clone().unwrap_or_default(),
            recheck: rules.recheck.map(proto),
            failures: rules.failures,
        }
    }
}

impl From<&LiveRules> for api::LivenessRules {
    fn from(rules: &LiveRules) -> Self {
        Self {
            interval: Some(proto(rules.interval)),
            attempt: Some(proto(rules.attempt)),
            failures: rules.failures,
            delay: Some(proto(rules.delay)),
        }
    }
}

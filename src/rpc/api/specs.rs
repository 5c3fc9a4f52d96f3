//! How a process is to be run: the public message into the one that is checked and stored, and back.

use crate::rpc::api::answers::Answer;
use crate::rpc::api::cgroups;
use crate::rpc::api::hooks;
use crate::rpc::api::probes;
use crate::rpc::api::processes::{POLICIES, labels, variables};
use crate::rpc::api::schedules;
use crate::rpc::api::values::{Invalid, Pairs, ms, proto, same_names};
use crate::rpc::services::public as api;
use crate::wire::error::Error;
use crate::wire::landlock::Landlock;
use crate::wire::log::{Log, LogFormat};
use crate::wire::needs::OnDependency;
use crate::wire::proto::v1;
use crate::wire::reply::{Definition, Reply};
use crate::wire::spec::{EnvBase, EnvExpand, Rlimit, Scope, Spec};

pub(super) const SCOPES: Pairs<Scope, api::SignalScope> =
    same_names!(Scope as SignalScope: Tree Group Leader Mixed);

const DEPENDENCIES: Pairs<OnDependency, api::DependencyAction> =
    same_names!(OnDependency as DependencyAction: Restart Stop Ignore);

/// For what takes it apart and checks it.
pub(super) fn to_wire(spec: api::ProcessSpec) -> Result<v1::Spec, Invalid> {
    let variable = |v: api::EnvironmentVariable| v1::EnvVar { key: v.key, value: v.value };
    Ok(v1::Spec {
        command: spec.command,
        name: spec.name,
        env: spec.environment.into_iter().map(variable).collect(),
        env_clear: spec.clear_environment,
        env_literal: spec.literal_environment,
        cwd: spec.working_directory,
        user: spec.user,
        group: spec.group,
        groups: spec.supplementary_groups,
        umask: spec.umask,
        nice: spec.nice,
        oom_score_adj: spec.oom_score_adjustment,
        no_new_privs: spec.no_new_privileges,
        merge_streams: spec.merge_streams,
        rlimits: spec.resource_limits.into_iter().map(limit).collect(),
        restart: spec.restart.map(restart).transpose()?,
        stop: spec.stop.map(stop).transpose()?,
        output_bytes: spec.output_bytes,
        ready: spec.readiness.map(probes::readiness).transpose()?,
        labels: spec.labels.into_iter().map(|l| v1::EnvVar { key: l.key, value: l.value }).collect(),
        autostart: spec.autostart,
        declared: spec.declared,
        executable_sha256: spec.executable_sha256,
        requires: spec.requires,
        wants: spec.wants,
        after: spec.after,
        on_dependency: DEPENDENCIES
            .asked("spec.on_dependency", spec.on_dependency)?
            .unwrap_or_default()
            .to_wire() as i32,
        in_group: spec.in_group,
        ready_rules: spec.readiness_rules.map(probes::ready_rules).transpose()?,
        live: spec.liveness.map(probes::liveness).transpose()?,
        live_rules: spec.liveness_rules.map(probes::live_rules).transpose()?,
        landlock: spec.landlock.map(landlock),
        log: spec.log.map(log).transpose()?,
        schedule: spec.schedule.map(schedules::to_wire).transpose()?,
        forking: spec.forking,
        essential: spec.essential,
        hooks: hooks::to_wire(spec.hooks)?,
        cgroup_limits: spec.cgroup_limits.map(cgroups::to_wire),
        redact: spec.redact,
        pid_file: spec.pid_file,
    })
}

pub(super) fn limit(l: api::ResourceLimit) -> v1::Rlimit {
    v1::Rlimit { resource: l.resource, soft: l.soft, hard: l.hard }
}

pub(super) fn limits(all: &[Rlimit]) -> Vec<api::ResourceLimit> {
    let limit = |l: &Rlimit| api::ResourceLimit { resource: l.resource.clone(), soft: l.soft, hard: l.hard };
    all.iter().map(limit).collect()
}

pub(super) fn landlock(l: api::Landlock) -> v1::Landlock {
    v1::Landlock { read: l.read_paths, write: l.write_paths, optional: l.optional }
}

const FORMATS: Pairs<LogFormat, api::LogFormat> = same_names!(LogFormat as LogFormat: Raw Time Json);

fn log(rules: api::LogRules) -> Result<v1::Log, Invalid> {
    Ok(v1::Log {
        file: rules.file,
        stdout: rules.stdout_file,
        stderr: rules.stderr_file,
        size: rules.max_size,
        age_ms: rules.max_age.map(|age| ms("spec.log.max_age", age)).transpose()?.unwrap_or(0),
        keep: rules.keep,
        gzip: rules.gzip,
        format: FORMATS.asked("spec.log.format", rules.format)?.unwrap_or_default().to_wire() as i32,
        prefix: rules.prefix,
        fields: rules.fields,
        to: rules.to,
    })
}

fn log_rules(log: &Log) -> api::LogRules {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    api::LogRules {
        file: text(&log.file),
        stdout_file: text(&log.stdout),
        stderr_file: text(&log.stderr),
        max_size: Some(log.size.unwrap_or(0)),
        max_age: log.age.map(proto),
        keep: Some(log.keep),
        gzip: log.gzip,
        format: FORMATS.number(log.format),
        prefix: text(&log.prefix),
        fields: log.fields.clone(),
        to: text(&log.to),
    }
}

fn restart(rules: api::RestartRules) -> Result<v1::Restart, Invalid> {
    let ms = |field: &str, sent: Option<_>| sent.map(|d| ms(&format!("spec.restart.{field}"), d)).transpose();
    let policy = POLICIES.asked("spec.restart.policy", rules.policy)?.unwrap_or_default();
    Ok(v1::Restart {
        policy: policy.to_wire() as i32,
        delay_ms: ms("delay", rules.delay)?,
        delay_max_ms: ms("delay_max", rules.delay_max)?,
        max_restarts: rules.max_restarts,
        window_ms: ms("window", rules.window)?,
        reset_after_ms: ms("reset_after", rules.reset_after)?,
        success_codes: rules.success_codes,
        on_oom: rules.on_oom,
    })
}

fn stop(rules: api::StopRules) -> Result<v1::Stop, Invalid> {
    let after = |d: Option<_>| ms("spec.stop.steps.after", d.unwrap_or_default());
    let step =
        |step: api::StopStep| Ok(v1::StopStep { after_ms: after(step.after)?, signal: step.signal_number });
    Ok(v1::Stop {
        steps: rules.steps.into_iter().map(step).collect::<Result<_, _>>()?,
        signal: rules.signal_number,
        timeout_ms: rules.timeout.map(|d| ms("spec.stop.timeout", d)).transpose()?,
        scope: SCOPES.asked("spec.stop.scope", rules.scope)?.unwrap_or_default().to_wire() as i32,
    })
}

impl Answer for api::DefinitionsResponse {
    fn put(&mut self, reply: Reply) {
        use api::definitions_response::Item as Public;
        self.item = match reply {
            Reply::Definition(d) => Some(Public::Definition(api::ProcessDefinition {
                spec: Some((&d.spec).into()),
                process: Some(d.process.into()),
            })),
            Reply::Item(item) => Some(Public::Missing(item.into())),
            _ => None,
        };
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        use api::definitions_response::Item as Public;
        let lacking = || Error::usage("a definition without its process or its spec");
        let reply = match self.item {
            None => return Ok(Vec::new()),
            Some(Public::Definition(d)) => {
                let spec = to_wire(d.spec.ok_or_else(lacking)?).map_err(|invalid| invalid.error)?;
                Reply::Definition(Box::new(Definition {
                    process: d.process.ok_or_else(lacking)?.try_into()?,
                    spec: Spec::from_wire(spec)?,
                }))
            }
            Some(Public::Missing(result)) => Reply::Item(result.try_into()?),
        };
        Ok(vec![reply])
    }
}

impl From<&Landlock> for Option<api::Landlock> {
    fn from(l: &Landlock) -> Self {
        let (read_paths, write_paths) = (l.read.clone(), l.write.clone());
        (!l.is_empty()).then_some(api::Landlock { read_paths, write_paths, optional: l.optional })
    }
}

impl From<&Spec> for api::ProcessSpec {
    fn from(spec: &Spec) -> Self {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let (restart, stop) = (&spec.restart, &spec.stop);
        Self {
            command: spec.command.clone(),
            name: spec.name.as_ref().map(|n| n.as_str().to_owned()).unwrap_or_default(),
            environment: variables(spec.env.clone()),
            clear_environment: spec.env_base == EnvBase::Empty,
            literal_environment: spec.env_expand == EnvExpand::Literal,
            working_directory: text(&spec.cwd),
            user: text(&spec.user),
            group: text(&spec.group),
            supplementary_groups: spec.groups.clone(),
            umask: spec.umask,
            nice: spec.nice,
            oom_score_adjustment: spec.oom_score_adj,
            no_new_privileges: spec.no_new_privs,
            merge_streams: spec.merge_streams,
            resource_limits: limits(&spec.rlimits),
            restart: Some(api::RestartRules {
                policy: POLICIES.number(restart.policy),
                delay: Some(proto(restart.delay)),
                delay_max: Some(proto(restart.delay_max)),
                max_restarts: Some(restart.max_restarts.unwrap_or(0)),
                window: Some(proto(restart.window)),
                reset_after: Some(proto(restart.reset_after)),
                success_codes: restart.success_codes.iter().map(|&code| u32::from(code)).collect(),
                on_oom: restart.on_oom,
            }),
            stop: Some(api::StopRules {
                signal_number: Some(stop.signal),
                timeout: Some(proto(stop.timeout)),
                scope: SCOPES.number(stop.scope),
                steps: (stop.steps.iter())
                    .map(|step| api::StopStep { after: Some(proto(step.after)), signal_number: step.signal })
                    .collect(),
            }),
            output_bytes: spec.output_bytes,
            readiness: spec.ready.as_ref().map(Into::into),
            requires: spec.needs.requires.clone(),
            wants: spec.needs.wants.clone(),
            after: spec.needs.after.clone(),
            on_dependency: DEPENDENCIES.number(spec.needs.on_dependency),
            in_group: spec.needs.in_group.clone().unwrap_or_default(),
            readiness_rules: Some((&spec.ready_rules).into()),
            liveness: spec.live.as_ref().map(Into::into),
            liveness_rules: Some((&spec.live_rules).into()),
            labels: labels(spec.labels.clone()),
            autostart: spec.autostart,
            declared: spec.declared,
            executable_sha256: text(&spec.executable_sha256),
            landlock: (&spec.landlock).into(),
            log: (*spec.log != Log::default()).then(|| log_rules(&spec.log)),
            schedule: schedules::rules(&spec.schedule),
            forking: spec.background.forking,
            essential: spec.essential,
            hooks: hooks::rules(&spec.hooks),
            cgroup_limits: cgroups::shown(spec.cgroup),
            redact: spec.redact.clone(),
            pid_file: text(&spec.background.pid_file),
        }
    }
}

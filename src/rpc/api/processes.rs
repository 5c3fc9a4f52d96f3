//! Processes as the public messages show them, and back.

use std::sync::Arc;
use std::time::Duration;

use crate::rpc::api::cgroups;
use crate::rpc::api::schedules;
use crate::rpc::api::values::{Pairs, duration, proto, proto_time, same_names, time};
use crate::rpc::services::public as api;
use crate::wire::cgroup_limits::CgroupLimits;
use crate::wire::error::{Code, Error};
use crate::wire::process::{End, Exit, Process, StartFailure, State, Usage};
use crate::wire::reply::Item;
use crate::wire::spec::RestartPolicy;
use crate::wire::time::{Timestamp, millis};

pub(super) const STATES: Pairs<State, api::ProcessState> =
    same_names!(State as ProcessState: Stopped Starting Running Stopping Backoff Failed Scheduled);

pub(super) const POLICIES: Pairs<RestartPolicy, api::RestartPolicy> =
    same_names!(RestartPolicy as RestartPolicy: Never OnFailure Always);

pub(super) const CODES: Pairs<Code, api::ErrorCode> = same_names! { Code as ErrorCode:
    Failed Usage No NotFound TimedOut Refused Unreachable Partial CannotExecute ProgramNotFound
};

pub(super) fn labels(pairs: Vec<(String, String)>) -> Vec<api::ProcessLabel> {
    pairs.into_iter().map(|(key, value)| api::ProcessLabel { key, value }).collect()
}

pub(super) fn variables(pairs: Vec<(String, String)>) -> Vec<api::EnvironmentVariable> {
    pairs.into_iter().map(|(key, value)| api::EnvironmentVariable { key, value }).collect()
}

impl From<Exit> for api::RunEnd {
    fn from(exit: Exit) -> Self {
        Self {
            status: Some(match exit.end {
                End::Code(code) => api::run_end::Status::ExitCode(u32::from(code)),
                End::Signal(signal) => api::run_end::Status::SignalNumber(u32::from(signal)),
            }),
            core_dumped: exit.core,
            out_of_memory: exit.oom,
            run_time: Some(proto(exit.ran)),
            user_time: Some(proto(exit.user)),
            system_time: Some(proto(exit.system)),
            max_resident_kib: exit.max_rss_kib,
        }
    }
}

/// None for an end that this version does not know.
pub(super) fn exit(end: api::RunEnd) -> Option<Exit> {
    Some(Exit {
        end: match end.status? {
            api::run_end::Status::ExitCode(code) => End::Code(u8::try_from(code).ok()?),
            api::run_end::Status::SignalNumber(signal) => End::Signal(u8::try_from(signal).ok()?),
        },
        core: end.core_dumped,
        oom: end.out_of_memory,
        ran: duration(end.run_time),
        user: duration(end.user_time),
        system: duration(end.system_time),
        max_rss_kib: end.max_resident_kib,
    })
}

impl From<Process> for api::ManagedProcess {
    fn from(p: Process) -> Self {
        Self {
            id: p.id.to_string(),
            name: p.name.map(|n| n.as_str().to_owned()).unwrap_or_default(),
            run: p.run,
            state: STATES.number(p.state),
            ready: p.ready,
            pid: p.pid.unwrap_or(0),
            restarts: p.restarts,
            create_time: Some(proto_time(p.created_at)),
            start_time: p.started_at.map(proto_time),
            stop_time: p.stopped_at.map(proto_time),
            last_end: p.exit.map(Into::into),
            start_failure: p.start_failure.map(|f| api::StartFailure {
                step: f.step,
                error_number: u32::try_from(f.errno).unwrap_or(0),
                subject: f.object,
            }),
            command: p.command,
            failed_attempts: p.attempts,
            max_restarts: p.max_restarts.unwrap_or(0),
            window_restarts: p.window_restarts,
            next_attempt_time: p.next_attempt_at.map(proto_time),
            kill_time: p.kill_at.map(proto_time),
            cause: p.cause,
            restart_policy: POLICIES.number(p.restart),
            output_start: p.output_start,
            output_end: p.output_end,
            instance: p.instance.unwrap_or(0),
            stuck: p.stuck,
            labels: labels(p.labels),
            working_directory: p.cwd,
            user: p.user.unwrap_or_default(),
            internal: p.internal,
            outdated: p.outdated,
            halted: p.halted,
            usage: p.usage.map(Into::into),
            unfit: p.unfit,
            status_text: p.status,
            waits_for: p.waits_for,
            hook: p.hook,
            cgroup_limits: cgroups::shown(*p.limits),
            limits_trouble: p.limits_trouble,
            blocked: p.is_blocked,
            run_output_start: p.run_output_start,
            stop_signal: p.stop_signal,
            stop_ask_time: p.stop_asked_at.map(proto_time),
            log_trouble: p.log_trouble,
            log_lost_bytes: p.log_lost,
            log_files: p.log_files,
            next_run_time: p.next_run_at.map(proto_time),
            schedule: schedules::rules(&p.schedule),
        }
    }
}

impl TryFrom<api::ManagedProcess> for Process {
    type Error = Error;

    fn try_from(p: api::ManagedProcess) -> Result<Self, Error> {
        Ok(Self {
            id: p.id.parse()?,
            name: (!p.name.is_empty()).then(|| p.name.parse()).transpose()?,
            instance: (p.instance != 0).then_some(p.instance),
            run: p.run,
            state: STATES.known(p.state).unwrap_or_default(),
            ready: p.ready,
            pid: (p.pid != 0).then_some(p.pid),
            restarts: p.restarts,
            created_at: p.create_time.map_or(Timestamp(0), time),
            started_at: p.start_time.map(time),
            stopped_at: p.stop_time.map(time),
            exit: p.last_end.and_then(exit),
            start_failure: p.start_failure.map(|f| StartFailure {
                step: f.step,
                errno: i32::try_from(f.error_number).unwrap_or(0),
                object: f.subject,
            }),
            command: p.command,
            attempts: p.failed_attempts,
            window_restarts: p.window_restarts,
            max_restarts: (p.max_restarts != 0).then_some(p.max_restarts),
            next_attempt_at: p.next_attempt_time.map(time),
            kill_at: p.kill_time.map(time),
            cause: p.cause,
            restart: POLICIES.known(p.restart_policy).unwrap_or_default(),
            output_start: p.output_start,
            output_end: p.output_end,
            stuck: p.stuck,
            labels: p.labels.into_iter().map(|l| (l.key, l.value)).collect(),
            cwd: p.working_directory,
            user: (!p.user.is_empty()).then_some(p.user),
            internal: p.internal,
            outdated: p.outdated,
            halted: p.halted,
            usage: p.usage.map(Into::into),
            unfit: p.unfit,
            status: p.status_text,
            waits_for: p.waits_for,
            hook: p.hook,
            limits: Box::new(CgroupLimits::from_wire(p.cgroup_limits.map(cgroups::to_wire))),
            limits_trouble: p.limits_trouble,
            is_blocked: p.blocked,
            run_output_start: p.run_output_start,
            stop_signal: p.stop_signal,
            stop_asked_at: p.stop_ask_time.map(time),
            log_trouble: p.log_trouble,
            log_lost: p.log_lost_bytes,
            log_files: p.log_files,
            next_run_at: p.next_run_time.map(time),
            schedule: Arc::new(p.schedule.map(schedules::shown).unwrap_or_default()),
        })
    }
}

impl From<Item> for api::TargetResult {
    fn from(item: Item) -> Self {
        Self {
            target: item.target,
            process: item.process.map(Into::into),
            error: item.error.map(|e| api::TargetError {
                code: CODES.number(e.code),
                message: e.message,
                hint: e.hint,
            }),
            unrecorded: item.unrecorded.unwrap_or_default(),
        }
    }
}

impl TryFrom<api::TargetResult> for Item {
    type Error = Error;

    fn try_from(result: api::TargetResult) -> Result<Self, Error> {
        Ok(Self {
            target: result.target,
            process: result.process.map(TryInto::try_into).transpose()?,
            error: result
                .error
                .map(|e| Error::new(CODES.known(e.code).unwrap_or(Code::Failed), e.message).hint(e.hint)),
            unrecorded: (!result.unrecorded.is_empty()).then_some(result.unrecorded),
            // That is not said here: who wants to know looks.
            has_others: true,
        })
    }
}

impl From<Usage> for api::ProcessUsage {
    fn from(usage: Usage) -> Self {
        Self {
            processor_time: Some(proto(Duration::from_millis(usage.cpu_ms))),
            memory_bytes: usage.memory,
            processes: usage.processes,
            threads: usage.threads,
            descriptors: usage.descriptors,
            read_bytes: usage.read,
            written_bytes: usage.written,
        }
    }
}

impl From<api::ProcessUsage> for Usage {
    fn from(usage: api::ProcessUsage) -> Self {
        Self {
            cpu_ms: millis(duration(usage.processor_time)),
            memory: usage.memory_bytes,
            processes: usage.processes,
            threads: usage.threads,
            descriptors: usage.descriptors,
            read: usage.read_bytes,
            written: usage.written_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::id::ProcessId;
    use crate::wire::schedule::{Missed, Overlap, Schedule};

    #[test]
    fn a_process_and_what_went_wrong_with_it_come_back() {
        let exit = Exit {
            end: End::Signal(9),
            core: true,
            oom: true,
            ran: Duration::from_millis(1234),
            user: Duration::from_micros(5),
            system: Duration::from_micros(6),
            max_rss_kib: 7,
        };
        let process = Process {
            id: ProcessId::new(),
            name: Some("web-1".parse().unwrap()),
            instance: Some(1),
            run: 2,
            state: State::Backoff,
            ready: true,
            pid: Some(3),
            restarts: 4,
            created_at: Timestamp(5),
            started_at: Some(Timestamp(6)),
            stopped_at: Some(Timestamp(7)),
            exit: Some(exit),
            start_failure: Some(StartFailure { step: "exec".into(), errno: 2, object: "/x".into() }),
            command: vec!["a".into(), "b".into()],
            attempts: 8,
            window_restarts: 9,
            max_restarts: Some(10),
            next_attempt_at: Some(Timestamp(11)),
            kill_at: Some(Timestamp(12)),
            cause: "uid 0".into(),
            restart: RestartPolicy::Always,
            output_start: 13,
            output_end: 14,
            stuck: true,
            labels: vec![("k".into(), "v".into())],
            cwd: "/".into(),
            user: Some("nobody".into()),
            internal: true,
            outdated: true,
            halted: true,
            usage: Some(Usage {
                cpu_ms: 1234,
                memory: 1 << 20,
                processes: 2,
                threads: 3,
                descriptors: 4,
                read: 5,
                written: 6,
            }),
            unfit: "it was late".into(),
            status: "half way".into(),
            waits_for: "db (starting)".into(),
            hook: "pre_start".into(),
            limits: Box::new(CgroupLimits {
                pids_max: Some(19),
                cpu_quota: Some(20),
                ..CgroupLimits::default()
            }),
            limits_trouble: "no controller".into(),
            is_blocked: true,
            run_output_start: 15,
            stop_signal: 16,
            stop_asked_at: Some(Timestamp(17)),
            log_trouble: "no space".into(),
            log_lost: 15,
            log_files: vec!["/var/log/web".into()],
            next_run_at: Some(Timestamp(18)),
            schedule: Arc::new(Schedule {
                when: Some("@daily".into()),
                zone: Some("UTC".into()),
                overlap: Overlap::Replace,
                missed: Missed::Run,
                jitter: Duration::from_secs(9),
            }),
        };
        for code in Code::ALL {
            let item = Item {
                target: "web-*".into(),
                process: Some(process.clone()),
                error: Some(Error::new(code, "a").hint("b")),
                unrecorded: Some("c".into()),
                has_others: true,
            };
            assert_eq!(Item::try_from(api::TargetResult::from(item.clone())), Ok(item));
        }
    }
}

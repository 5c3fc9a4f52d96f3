//! What a process may take of the machine as the public messages have it, and back.

use crate::rpc::services::public as api;
use crate::wire::cgroup_limits::{CgroupLimits, Memory};
use crate::wire::proto::v1;

/// Of a request, or of an answer.
pub(super) fn to_wire(limits: api::CgroupLimits) -> v1::CgroupLimits {
    let amount = |a: api::MemoryAmount| v1::MemoryAmount { bytes: a.bytes, percent: a.percent };
    v1::CgroupLimits {
        memory_max: limits.memory_max.map(amount),
        memory_high: limits.memory_high.map(amount),
        restart_above: limits.restart_above.map(amount),
        cpu_weight: limits.cpu_weight,
        cpu_quota_millis: limits.cpu_quota_millis,
        pids_max: limits.pids_max,
        io_weight: limits.io_weight,
        optional: limits.optional,
    }
}

pub(super) fn shown(limits: CgroupLimits) -> Option<api::CgroupLimits> {
    let amount = |a: Memory| match a {
        Memory::Bytes(bytes) => api::MemoryAmount { bytes, percent: 0 },
        Memory::Percent(percent) => api::MemoryAmount { bytes: 0, percent: percent.into() },
    };
    limits.is_on().then(|| api::CgroupLimits {
        memory_max: limits.memory_max.map(amount),
        memory_high: limits.memory_high.map(amount),
        restart_above: limits.restart_above.map(amount),
        cpu_weight: limits.cpu_weight,
        cpu_quota_millis: limits.cpu_quota,
        pids_max: limits.pids_max,
        io_weight: limits.io_weight,
        optional: limits.optional,
    })
}

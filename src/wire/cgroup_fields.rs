//! The fields of a definition that say what a process may take of the machine.

use serde_json::Value;

use crate::wire::cgroup_limits::{CgroupLimits, Memory, PIDS_MAX, QUOTA_MAX, WEIGHT_MAX, quota, quota_text};
use crate::wire::field::{Effect, Field};
use crate::wire::field_values::flag;
use crate::wire::spec::Spec;

const MEMORY: &str = "an amount of memory, as \"512 MiB\", \"2g\" or \"50%\" of the machine's";
const WEIGHT: &str = "a whole number from 1 to 10000";
const QUOTA: &str = "a number of processors, as \"1.5\" or \"150%\"";
const PIDS: &str = "a whole number from 1 to 4194304";

/// All of them, in the order in which they are shown.
pub(in crate::wire) const CGROUP_FIELDS: [Field; 9] = [
    Field {
        key: "memory_max",
        effect: Effect::InPlace,
        takes: MEMORY,
        get: |s| memory_value(s.cgroup.memory_max),
        set: |s, v| memory(v).map(|amount| s.cgroup.memory_max = Some(amount)),
    },
    Field {
        key: "memory_high",
        effect: Effect::InPlace,
        takes: MEMORY,
        get: |s| memory_value(s.cgroup.memory_high),
        set: |s, v| memory(v).map(|amount| s.cgroup.memory_high = Some(amount)),
    },
    Field {
        key: "restart_above",
        effect: Effect::InPlace,
        takes: MEMORY,
        get: |s| memory_value(s.cgroup.restart_above),
        set: |s, v| memory(v).map(|amount| s.cgroup.restart_above = Some(amount)),
    },
    Field {
        key: "cpu_weight",
        effect: Effect::InPlace,
        takes: WEIGHT,
        get: |s| s.cgroup.cpu_weight.map(Into::into),
        set: |s, v| weight(v).map(|weight| s.cgroup.cpu_weight = Some(weight)),
    },
    Field {
        key: "cpu_quota",
        effect: Effect::InPlace,
        takes: QUOTA,
        get: |s| s.cgroup.cpu_quota.map(|quota| quota_text(quota).into()),
        set: |s, v| processors(v).map(|quota| s.cgroup.cpu_quota = Some(quota)),
    },
    Field {
        key: "pids_max",
        effect: Effect::InPlace,
        takes: PIDS,
        get: |s| s.cgroup.pids_max.map(Into::into),
        set: |s, v| {
            let max = v.as_u64().filter(|max| (1..=PIDS_MAX).contains(max));
            s.cgroup.pids_max = Some(max.ok_or_else(|| PIDS.to_owned())?);
            Ok(())
        },
    },
    Field {
        key: "io_weight",
        effect: Effect::InPlace,
        takes: WEIGHT,
        get: |s| s.cgroup.io_weight.map(Into::into),
        set: |s, v| weight(v).map(|weight| s.cgroup.io_weight = Some(weight)),
    },
    Field {
        key: "restart_on_oom",
        effect: Effect::InPlace,
        takes: "true or false",
        get: |s| s.restart.on_oom.map(Into::into),
        set: |s, v| flag(v).map(|is| s.restart.on_oom = Some(is)),
    },
    Field {
        key: "limits_optional",
        effect: Effect::InPlace,
        takes: "true or false",
        get: |s| s.cgroup.optional.then(|| true.into()),
        set: |s, v| flag(v).map(|is| s.cgroup.optional = is),
    },
];

/// The one that is called so.
#[must_use]
pub fn cgroup_field(key: &str) -> Option<&'static Field> {
    CGROUP_FIELDS.iter().find(|field| field.key == key)
}

impl CgroupLimits {
    /// Those that there are, by their keys, as a definition has them.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let spec = Spec { cgroup: *self, ..Spec::new([""; 0]) };
        CGROUP_FIELDS.iter().filter_map(move |field| Some((field.key, (field.get)(&spec)?)))
    }
}

fn memory(value: &Value) -> Result<Memory, String> {
    let amount = value.as_u64().map(Memory::Bytes).or_else(|| Memory::parse(value.as_str()?));
    amount.ok_or_else(|| MEMORY.to_owned())
}

fn memory_value(amount: Option<Memory>) -> Option<Value> {
    amount.map(|amount| amount.text().into())
}

fn weight(value: &Value) -> Result<u32, String> {
    let weight = value.as_u64().and_then(|weight| u32::try_from(weight).ok());
    weight.filter(|weight| (1..=WEIGHT_MAX).contains(weight)).ok_or_else(|| WEIGHT.to_owned())
}

fn processors(value: &Value) -> Result<u32, String> {
    // A bare number as the same text.
    let text = if value.is_number() { value.to_string() } else { value.as_str().unwrap_or("").to_owned() };
    let text = text.strip_suffix(".0").unwrap_or(&text);
    quota(text).filter(|quota| *quota <= QUOTA_MAX).ok_or_else(|| QUOTA.to_owned())
}

//! What a field of a definition is: how it is called, what it takes, and what it means for a run that is
//! there.

use serde_json::Value;

use crate::wire::spec::Spec;

/// What a change of a field does to a process that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It holds at once, and the run goes on.
    InPlace,
    /// It holds from the next run on.
    NextRun,
    /// It can only be said of a new process.
    Never,
}

/// A field of a definition.
#[derive(Clone, Copy)]
pub struct Field {
    pub key: &'static str,
    pub effect: Effect,
    /// What it takes, as the reference says it.
    pub takes: &'static str,
    /// Its value; none: as by default.
    pub get: fn(&Spec) -> Option<Value>,
    /// Takes a value in, or says what it takes instead.
    pub set: fn(&mut Spec, &Value) -> Result<(), String>,
}

/// How many fields these are.
pub(in crate::wire) const fn count(parts: &[&[Field]]) -> usize {
    let (mut count, mut part) = (0, 0);
    while part < parts.len() {
        count += parts[part].len();
        part += 1;
    }
    count
}

/// All of these, in their order.
pub(in crate::wire) const fn joined<const N: usize>(parts: &[&[Field]]) -> [Field; N] {
    let mut all = [parts[0][0]; N];
    let (mut n, mut part, mut at) = (0, 0, 0);
    while n < N {
        if at == parts[part].len() {
            (part, at) = (part + 1, 0);
        } else {
            all[n] = parts[part][at];
            (n, at) = (n + 1, at + 1);
        }
    }
    all
}

//! Modules that are expected: which of them are missing, and since when. One that is gone for a moment, as
//! while its provider is started anew, is not missing yet.

use crate::module::plane::Plane;
use crate::module::plane::connection::Connection;
use crate::module::plane::expected::{Absent, Change, Expected};
use crate::wire::module::ModuleExpectation;
use crate::wire::time::{Timestamp, millis};

impl Plane {
    /// Looks for all that is expected. What has changed, with its name.
    pub(super) fn look_for_expected(&mut self, now_ms: u64) -> Vec<(String, Change)> {
        let mut expected = std::mem::take(&mut self.expected);
        let grace_ms = millis(self.limits.expect_grace);
        let mut changes = Vec::new();
        for one in &mut expected {
            if self.is_there(one) {
                one.absent = None;
                if std::mem::take(&mut one.is_missing) {
                    changes.push((one.label(), Change::Back));
                }
                continue;
            }
            let absent = *one.absent.get_or_insert(Absent { since_ms: now_ms, at: Timestamp::now() });
            if !one.is_missing && now_ms >= absent.since_ms + grace_ms {
                one.is_missing = true;
                changes.push((one.label(), Change::Missing(self.why_missing(one))));
            }
        }
        self.expected = expected;
        changes
    }

    /// When something may have been missing for too long, ms.
    pub(super) fn expected_due(&self) -> Option<u64> {
        let grace_ms = millis(self.limits.expect_grace);
        let waited_for = self.expected.iter().filter(|one| !one.is_missing);
        waited_for.filter_map(|one| Some(one.absent?.since_ms + grace_ms)).min()
    }

    /// All that is expected, as it is.
    pub fn expectations(&self) -> Vec<ModuleExpectation> {
        let shown = self.expected.iter().map(|one| ModuleExpectation {
            name: one.label(),
            missing_since: one.absent.filter(|_| one.is_missing).map(|absent| absent.at),
            why: if one.is_missing { self.why_missing(one) } else { String::new() },
        });
        shown.collect()
    }

    /// Whether somebody executes it.
    fn is_there(&self, one: &Expected) -> bool {
        self.connections.values().any(|c| one.is_of(c) && c.is_proven())
    }

    fn why_missing(&self, one: &Expected) -> String {
        let of_it = self.connections.values().filter(|c| one.is_of(c));
        let why = |c: &Connection| c.out().unwrap_or_else(|| "it was not asked yet".to_owned());
        let mut out: Vec<_> = of_it.map(|c| format!("{}: {}", c.executor, why(c))).collect();
        out.sort();
        if out.is_empty() { "nobody has registered it".to_owned() } else { out.join("; ") }
    }
}

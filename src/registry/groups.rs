//! Entries that stand in for each other: those that have the same label `group`.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::guard::group::{Group, Member};

/// The label that says in which group an entry is.
const LABEL: &str = "group";

/// All groups that have somebody in them.
#[derive(Debug, Default)]
pub struct Groups(Mutex<BTreeMap<String, Weak<Group>>>);

impl Groups {
    /// A place in the group that these labels name; none: they name none.
    pub fn member(&self, labels: &[(String, String)]) -> Option<Member> {
        let (_, name) = labels.iter().find(|(key, _)| key == LABEL)?;
        let mut groups = self.0.lock();
        groups.retain(|_, group| group.strong_count() > 0);
        let known = groups.get(name).and_then(Weak::upgrade);
        let group = known.unwrap_or_else(|| {
            let group = Arc::new(Group::default());
            groups.insert(name.clone(), Arc::downgrade(&group));
            group
        });
        Some(Member::of(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_same_label_is_in_one_group() {
        let groups = Groups::default();
        let labels =
            |group: &str| vec![("team".to_owned(), "a".to_owned()), (LABEL.to_owned(), group.to_owned())];
        let of = |group: &str| groups.member(&labels(group)).unwrap();
        let (mut one, mut two, mut other) = (of("web"), of("web"), of("db"));
        [&mut one, &mut two, &mut other].into_iter().for_each(Member::enter);
        assert!(one.leave_to_others() && !two.leave_to_others() && !other.leave_to_others());
        assert!(groups.member(&labels("web")[..1]).is_none());
        drop((one, two, other));
        let _last = of("mail");
        assert_eq!(groups.0.lock().len(), 1);
    }
}

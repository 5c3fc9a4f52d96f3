//! Tests of what all threads of the module plane share: notes, and who is woken by what.

use std::fs;
use std::path::PathBuf;

use super::*;

/// A directory of the test's own, gone with it.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("provost-module-shared-{}", Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn shared(&self, limits: ModuleLimits) -> Shared {
        Shared::new(limits, Notes::open(&self.0.join("notes")).unwrap(), Arc::new(|_: &str| ()))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn deregister(id: &str) -> proto::DeregisterRequest {
    proto::DeregisterRequest {
        namespace: "x".to_owned(),
        module_names: vec!["m".to_owned()],
        connection_id: id.to_owned(),
    }
}

#[test]
fn a_deregistration_of_what_is_nobodys_removes_no_file() {
    let dir = Dir::new();
    let shared = dir.shared(ModuleLimits::default());
    let (other, unread) = (dir.0.join("other"), Uuid::new_v4().to_string());
    fs::write(&other, "").unwrap();
    // One that another version has left, and that is not understood here.
    fs::write(dir.0.join("notes").join(&unread), "?").unwrap();
    for id in [other.to_str().unwrap(), "../other", &unread] {
        assert!(!shared.deregister(&deregister(id), &Owner::default()).success);
        assert!(other.exists() && dir.0.join("notes").join(&unread).exists(), "{id}");
    }
}

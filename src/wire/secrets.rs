//! Which values of a definition are not shown: those of variables whose names say that they are secret.

use crate::wire::spec::Spec;

/// What the name of a variable holds whose value is not shown.
const SECRET: [&str; 5] = ["PASSWORD", "SECRET", "TOKEN", "KEY", "CREDENTIAL"];
/// What is shown in place of such a value.
pub const HIDDEN: &str = "***";

/// Whether the values of a variable of this name are not for everybody's eyes.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET.iter().any(|word| name.contains(word))
}

/// The same definition without the values of such variables.
#[must_use]
pub fn without_secrets(mut spec: Spec) -> Spec {
    for (_, value) in spec.env.iter_mut().filter(|(name, _)| is_secret(name)) {
        HIDDEN.clone_into(value);
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_the_name() {
        for name in ["DB_PASSWORD", "client_secret", "GITHUB_TOKEN", "API_KEY", "CREDENTIALS"] {
            assert!(is_secret(name), "{name}");
        }
        assert!(!is_secret("PATH") && !is_secret("HOME"));
        let mut spec = Spec::new(["a"]);
        spec.env = vec![("A".into(), "1".into()), ("API_KEY".into(), "2".into())];
        assert_eq!(without_secrets(spec).env, [("A".into(), "1".into()), ("API_KEY".into(), "***".into())]);
    }
}

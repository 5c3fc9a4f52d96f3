//! Secrets of a configuration do not go into errors: a provider may have printed them.

use serde_json::{Map, Value};

use crate::provider::references;
use crate::sdk::value;

/// What a key contains whose value is a secret.
const SECRET_KEYS: [&str; 6] = ["pass", "secret", "token", "key", "credential", "auth"];
/// Shorter texts are too common to be hidden wherever they stand.
const LEN_MIN: usize = 4;
/// What stands for one.
const HIDDEN: &str = "[hidden]";

/// The text without the secrets of this configuration, a `Struct`.
pub fn redact(mut text: String, config: &[u8]) -> String {
    if text.is_empty() {
        return text;
    }
    let mut secrets = Vec::new();
    if let Ok(config) = value::decode(config) {
        let config = value::to_json(config);
        let referred = references::all_in(&config).into_iter().filter_map(|r| r.resolve().ok());
        secrets.extend(referred.filter(|secret| secret.len() >= LEN_MIN));
        collect(&config, &mut secrets);
    }
    // The longest first: one may be a part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        text = text.replace(&secret, HIDDEN);
    }
    text
}

fn collect(map: &Map<String, Value>, secrets: &mut Vec<String>) {
    for (key, value) in map {
        let key = key.to_ascii_lowercase();
        match value {
            Value::String(text) if text.len() >= LEN_MIN && SECRET_KEYS.iter().any(|k| key.contains(k)) => {
                secrets.push(text.clone());
            }
            Value::Object(inner) => collect(inner, secrets),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use serde_json::json;

    #[test]
    fn what_is_secret_is_hidden_wherever_it_stands() {
        let config = json!({ "db": { "Password": "hunter2", "host": "db1" }, "api_token": "hunter2-long", "key": "ab" });
        let bytes = value::to_struct(config.as_object().unwrap().clone()).unwrap().encode_to_vec();
        let said = "cannot log in to db1 as hunter2 (hunter2-long), ab".to_owned();
        assert_eq!(redact(said, &bytes), "cannot log in to db1 as [hidden] ([hidden]), ab");
        assert_eq!(redact("hunter2".into(), &[0xff]), "hunter2");
    }
}

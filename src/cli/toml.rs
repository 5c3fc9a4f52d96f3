//! Definitions as they stand in a configuration file.

use serde_json::{Map, Value};

/// A section with its fields; tables follow it, each as a section of its own.
pub fn section(path: &[&str], fields: &Map<String, Value>) -> String {
    let title: Vec<_> = path.iter().map(|name| key(name)).collect();
    let title = title.join(".");
    let mut out = format!("[{title}]\n");
    for (name, field) in fields.iter().filter(|(_, field)| !field.is_object()) {
        out.push_str(&format!("{} = {}\n", key(name), value(field)));
    }
    for (name, table) in fields.iter().filter_map(|(name, field)| Some((name, field.as_object()?))) {
        out.push_str(&format!("\n[{title}.{}]\n", key(name)));
        table.iter().for_each(|(name, field)| out.push_str(&format!("{} = {}\n", key(name), value(field))));
    }
    out
}

/// A key; one with a dot in it would be two.
pub fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { text(name) }
}

/// JSON escapes what TOML wants escaped, but for one character.
fn text(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

fn value(value: &Value) -> String {
    match value {
        Value::String(it) => text(it),
        Value::Array(all) => format!("[{}]", all.iter().map(self::value).collect::<Vec<_>>().join(", ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fields;
    use crate::wire::spec::Spec;

    #[test]
    fn a_section_is_toml_whatever_it_holds() {
        let mut spec = Spec::new(["a", "b\u{7f}\"\\\n\t\u{1}é'"]);
        spec.env = vec![("A.B".into(), "x = 1 # no comment".into()), ("C".into(), String::new())];
        spec.nice = Some(-5);
        spec.no_new_privs = true;
        spec.restart.success_codes = vec![0, 3];
        let text = section(&["process", "a.b@c"], &fields::to_map(&spec));
        assert!(text.starts_with("[process.\"a.b@c\"]\ncommand = [\"a\", "), "{text}");
        let read: toml::Table = toml::from_str(&text).unwrap();
        let read = serde_json::to_value(&read["process"]["a.b@c"]).unwrap();
        assert_eq!(read, Value::from(fields::to_map(&spec)));
    }
}

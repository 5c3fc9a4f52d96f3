//! JSON Schemas of configurations. They come with plugins, so they are strangers' programs: what they may
//! cost is looked at before they are compiled (`limits.rs`), and again for each value (`walk.rs`), nothing is
//! fetched for them, and what compiles and runs them has a thread of its own, whose end harms nobody.

#![forbid(unsafe_code)]

mod limits;
#[cfg(test)]
mod tests;
mod walk;
mod words;

use crossbeam_channel::bounded;
use serde_json::Value;

use crate::schema::walk::Walk;
use crate::sys::thread;
use crate::wire::error::Detail;
use crate::wire::provider::SCHEMA_LEN_MAX;

/// The most faults that are told; a value may have one in each of its parts.
const FAULTS_MAX: usize = 64;
/// The address that a schema has for the crate. Nothing is there.
const ADDRESS: &str = "provost:schema";

/// Whether this is a schema, and none that is too much.
pub fn check(text: &str) -> Result<(), String> {
    apart(text, |root| compiled(root).map(drop))
}

/// All that is wrong with a configuration, in the order of its paths. An error is about the schema.
pub fn faults(text: &str, config: Value) -> Result<Vec<Detail>, String> {
    apart(text, move |root| {
        Walk::of(root, &config)?;
        let (schemas, root) = compiled(root)?;
        let mut faults = match schemas.validate(&config, root) {
            Ok(()) => Vec::new(),
            Err(e) => words::faults(&e),
        };
        faults.sort();
        faults.dedup();
        let more = faults.len().saturating_sub(FAULTS_MAX);
        faults.truncate(FAULTS_MAX);
        if more > 0 {
            faults.push(Detail { path: String::new(), message: format!("and {more} more") });
        }
        Ok(faults)
    })
}

/// The texts and numbers that stand where the schema says `writeOnly`. Where it is too much to find them, all
/// of them are.
#[must_use]
pub fn secrets(text: &str, config: &Value) -> Vec<String> {
    let given = config.clone();
    apart(text, move |root| Walk::of(root, &given)).unwrap_or_else(|_| walk::scalars(config))
}

/// Does something with a schema that is within the limits, on a thread of its own: what others wrote runs
/// there, as deep as it likes.
fn apart<T: Send + 'static>(
    text: &str,
    work: impl FnOnce(&Value) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    if text.len() > SCHEMA_LEN_MAX {
        return Err(format!("it has {} bytes, more than {SCHEMA_LEN_MAX}", text.len()));
    }
    let (to, from) = bounded(1);
    let text = text.to_owned();
    let begin = move || drop(to.send(read(&text).and_then(|root| work(&root))));
    thread::spawn_for_others("schema", begin).map_err(|e| format!("it cannot be looked at now: {e}"))?;
    from.recv().unwrap_or_else(|_| Err("it cannot be used: its check has failed".to_owned()))
}

fn read(text: &str) -> Result<Value, String> {
    let mut root = serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?;
    limits::check(&root)?;
    // References are to the schema itself, whatever it is called.
    if let Value::Object(map) = &mut root {
        map.shift_remove("$id");
    }
    Ok(root)
}

fn compiled(root: &Value) -> Result<(boon::Schemas, boon::SchemaIndex), String> {
    let (mut compiler, mut schemas) = (boon::Compiler::new(), boon::Schemas::new());
    compiler.use_loader(Box::new(Nothing));
    compiler.set_default_draft(boon::Draft::V2020_12);
    compiler.add_resource(ADDRESS, root.clone()).map_err(|e| words::bad(&e))?;
    let root = compiler.compile(ADDRESS, &mut schemas).map_err(|e| words::bad(&e))?;
    Ok((schemas, root))
}

/// Fetches nothing.
struct Nothing;

impl boon::UrlLoader for Nothing {
    fn load(&self, _: &str) -> Result<Value, Box<dyn std::error::Error>> {
        Err("nothing is fetched for a schema".into())
    }
}

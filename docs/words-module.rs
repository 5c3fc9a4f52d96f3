//! A provider of modules in Rust, with the SDK: counts words, and adds.
//!
//! ```console
//! $ words-module 127.0.0.1:9090 words &
//! $ provost module call words.count --input '{"text": "one and one", "ignore": ["and"]}'
//! {"total":2,"each":{"one":2}}
//! ```
//!
//! The second argument is the namespace, a third one a group to share it with.

use std::collections::BTreeMap;
use std::time::Duration;

use provost::Error;
use provost::sdk::module::definition::{Call, Failure, Handler, Module};
use provost::sdk::module::provider::Provider;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Text {
    text: String,
    /// Words that do not count.
    ignore: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct Counts {
    total: u64,
    each: BTreeMap<String, u64>,
}

fn count(given: Text) -> Result<Counts, Failure> {
    let ignore = given.ignore.unwrap_or_default();
    let mut each = BTreeMap::new();
    for word in given.text.split_whitespace().filter(|word| !ignore.iter().any(|i| i == word)) {
        *each.entry(word.to_owned()).or_insert(0) += 1;
    }
    if each.is_empty() {
        return Err(Failure::of_input("there are no words in it"));
    }
    Ok(Counts { total: each.values().sum(), each })
}

/// What is more than a closure: it has the call, too.
struct Who;

impl Handler for Who {
    type Input = ();
    type Output = String;

    fn execute(&self, _: Self::Input, call: &Call) -> Result<String, Failure> {
        let trace = call.metadata.get("traceparent").map_or("none", String::as_str);
        Ok(format!("{} {trace}", std::process::id()))
    }
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |n: usize| arguments.get(n).map_or("", String::as_str);
    let provider = Provider::new(argument(1))
        .group(argument(2))
        .instance(argument(0))
        .heartbeat(Duration::from_millis(500), Duration::from_secs(15))
        .module(Module::new("count", count).version("1.0").description("Counts words"))
        .module(Module::of("who", Who).version("1.0"));
    provider.serve()
}

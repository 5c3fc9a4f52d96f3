//! Providers made with the SDK, asked by a client in Python without a host between: what the protocol says of
//! each call, whoever makes it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::g_clients::installed;
use crate::harness::cli::run;
use crate::harness::{LATER, Scratch, binary, fixture, procfs};

/// A provider that was started as a host does, and the port that it has reported.
struct Provider(Child, String);

impl Provider {
    fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the provider is built");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it was asked for");
        BufReader::new(stdout).read_line(&mut line).expect("it says a line");
        let port = line.trim().strip_prefix("PROVIDER_PORT=").expect("it reports its port").to_owned();
        Self(child, port)
    }

    fn files() -> Self {
        let examples = binary().parent().expect("it is in a directory").join("examples");
        Self::start(Command::new(examples.join("files-provider")))
    }

    fn rude() -> Self {
        let mut command = Command::new(fixture("rude"));
        command.arg("fine");
        Self::start(command)
    }

    /// What comes of these calls.
    fn ask(&self, calls: &Value) -> Vec<Value> {
        let here = |path: &str| format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(installed("python/bin/python3"));
        command.arg(here("tests/clients/ask_provider.py")).arg(&self.1).arg(calls.to_string());
        command.env("PROTO", here("proto"));
        let out = run(command, LATER);
        out.expect(0);
        out.json()
    }

    /// Their statuses.
    fn codes(&self, calls: &Value) -> Vec<String> {
        let answers = self.ask(calls);
        answers.iter().map(|answer| answer["code"].as_str().expect("it is text").to_owned()).collect()
    }

    /// Its exit code.
    fn end(mut self) -> Option<i32> {
        self.0.wait().expect("it is ours").code()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_whole_life_of_a_provider_is_as_the_protocol_says() {
    let files = Scratch::new();
    std::fs::write(files.file("app.json"), r#"{"db": {"port": 5432, "replicas": ["a", null, true]}}"#)
        .expect("the directory is ours");
    let config = json!({ "directory": files.path() });
    let provider = Provider::files();
    let answers = provider.ask(&json!([
        ["Info", {}],
        ["Health", {}],
        ["Fetch", { "path": ["app.json"] }],
        ["Init", { "config": config }],
        ["Init", { "alias": "app", "config": { "directory": "/is/not/there" } }],
        ["Fetch", { "path": ["app.json"] }],
        ["Init", { "alias": "app", "config": config }],
        ["Init", { "alias": "app", "config": config }],
        ["Health", {}],
        ["Fetch", { "path": ["app.json"] }],
        ["Fetch", { "path": ["app.json", "db", "port"] }],
        ["Fetch", { "path": ["app.json", "nothing"] }],
        ["Fetch", {}],
        ["Info", {}],
        ["Shutdown", {}],
    ]));
    let said = |n: usize| (answers[n]["code"].as_str().unwrap(), answers[n]["message"].as_str().unwrap());
    let codes: Vec<_> = (0..answers.len()).map(|n| said(n).0).collect();
    let expected = [
        "OK",
        "OK",
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "FAILED_PRECONDITION",
        "OK",
        "OK",
        "OK",
        "OK",
        "OK",
        "NOT_FOUND",
        "INVALID_ARGUMENT",
        "OK",
        "OK",
    ];
    assert_eq!(codes, expected, "{answers:?}");
    assert_eq!((said(2).1, said(3).1), ("there was no Init yet", "the alias is empty"));
    assert_eq!(said(11).1, "app.json/nothing");
    // Who it is, before Init and after.
    let info =
        |alias: Value| json!({ "type": "files", "version": env!("CARGO_PKG_VERSION"), "alias": alias });
    assert_eq!(answers[0]["answer"]["type"], "files");
    assert_eq!(answers[13]["answer"], info(json!("app")));
    let health = |n: usize| (&answers[n]["answer"]["status"], &answers[n]["answer"]["message"]);
    assert_eq!(health(1), (&json!("STATUS_DEGRADED"), &json!("not initialised")));
    assert_eq!(health(8), (&json!("STATUS_OK"), &json!("healthy")));
    // Numbers are doubles on their way, and come back as what they are.
    let db = json!({ "port": 5432.0, "replicas": ["a", null, true] });
    assert_eq!(answers[9]["answer"]["value"], json!({ "db": db }));
    assert_eq!(answers[10]["answer"]["value"], json!({ "value": 5432.0 }));
    assert_eq!(provider.end(), Some(0));
}

#[test]
fn many_inits_and_fetches_at_once_are_all_answered() {
    let provider = Provider::rude();
    let codes = provider.codes(&json!([["together", 20, "Init", { "alias": "app" }]]));
    assert_eq!(codes, ["OK"; 20]);
    let answers = provider.ask(&json!([["together", 50, "Fetch", { "path": ["inits"] }]]));
    assert!(answers.iter().all(|answer| answer["answer"]["value"]["value"] == 20.0), "{answers:?}");
}

#[test]
fn a_call_that_its_client_gives_up_is_cancelled_and_holds_up_nobody() {
    let provider = Provider::rude();
    let codes = provider.codes(&json!([
        ["Init", { "alias": "app" }],
        ["cancel", "Fetch", { "path": ["hang"] }],
        ["cancel", "Fetch", { "path": ["hang"] }],
        ["Fetch", { "path": ["pid"] }],
    ]));
    assert_eq!(codes, ["OK", "CANCELLED", "CANCELLED", "OK"]);
    // What hangs in it is no reason to stay.
    procfs::signal("TERM", provider.0.id());
    assert_eq!(provider.end(), Some(0));
}

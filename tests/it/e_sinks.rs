//! Sinks from end to end: settings in a file, a real service, and on the other side a file or a small HTTP
//! server that plays OpenSearch well or badly. Nothing is lost, nothing is there twice, and nobody waits for
//! a sink.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::e_disk;
use crate::harness::{LATER, Options, SOON, Scratch, Service, wait};

/// A service with these settings.
fn with_config(scratch: &Scratch, text: &str) -> Service {
    let config = scratch.file("provost.toml");
    fs::write(&config, text).expect("the directory is ours");
    Options::new().serve(&["--config", &config]).start()
}

fn sink(service: &Service, name: &str) -> Value {
    let doctor = service.doctor();
    let sinks = doctor["sinks"].as_array().expect("a list").clone();
    sinks.into_iter().find(|s| s["name"] == name).unwrap_or_else(|| panic!("no sink {name}: {doctor}"))
}

/// Waits until a sink has got everything.
#[track_caller]
fn until_delivered(service: &Service, name: &str) {
    let mut last = Value::Null;
    let found = wait::holds_within(LATER, || {
        last = sink(service, name);
        last["behind"] == 0 && last["failing"] == 0
    });
    assert!(found, "{name} has not got everything: {last}\n{}", service.log());
}

/// Some life for history to tell.
fn live(service: &Service, name: &str) {
    service.start(&["--name", name, "--env", "PASSWORD=hush-hush", "--", "sleep", "80000"]);
    service.ok(&["env", "set", "TOKEN=hush-hush"]);
    service.ok(&["stop", name]);
}

fn lines(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"))).collect()
}

/// A file of lines has what `provost events` has, each once, whatever dies.
#[test]
fn lines_are_the_events_each_once() {
    let scratch = Scratch::new();
    let path = scratch.file("events.jsonl");
    let config = format!("[[sink]]\nkind = \"jsonl\"\nname = \"audit\"\npath = {path:?}\n");
    let service = with_config(&scratch, &config);
    live(&service, "one");
    service.kill_engine();
    live(&service, "two");
    until_delivered(&service, "audit");
    service.until_store("sound");
    service.kill_all();
    service.serve_again();
    live(&service, "three");
    until_delivered(&service, "audit");
    service.end();
    service.serve_again();
    live(&service, "four");
    until_delivered(&service, "audit");
    assert_eq!(lines(&path), service.events());
    assert!(!fs::read_to_string(&path).expect("it is there").contains("hush"), "no value of a variable");
    // Moved away, as by a program that rotates logs: it is made anew with the next event.
    fs::rename(&path, format!("{path}.old")).expect("it is ours");
    live(&service, "five");
    until_delivered(&service, "audit");
    assert_eq!([lines(&format!("{path}.old")), lines(&path)].concat(), service.events());
}

/// What sinks were given while the database did not work, and everything died: no later event has its number,
/// none of it is overwritten or there twice, and that the database lacks it is said.
#[test]
fn numbers_given_without_a_database_are_not_given_again() {
    let scratch = Scratch::new();
    let (server, path) = (Server::start(&[]), scratch.file("events.jsonl"));
    let lines_to = format!("[[sink]]\nkind = \"jsonl\"\nname = \"audit\"\npath = {path:?}\n");
    let service = with_config(&scratch, &format!("{lines_to}{}", server.config()));
    live(&service, "one");
    service.until_store("sound");
    for (n, is_in_order) in [(2, false), (3, true)] {
        let holder = e_disk::hold(&e_disk::database(&service), "db.execute('begin immediate')");
        live(&service, &format!("dark{n}"));
        service.until_store("degraded");
        ["audit", "search"].iter().for_each(|name| until_delivered(&service, name));
        let given = lines(&path);
        assert_eq!(server.events(), given);
        if is_in_order {
            service.end()
        } else {
            service.kill_all()
        }
        drop(holder);
        service.serve_again();
        live(&service, &format!("light{n}"));
        ["audit", "search"].iter().for_each(|name| until_delivered(&service, name));
        let (after, documents) = (lines(&path), server.events());
        assert_eq!(after[..given.len()], given, "what was written stays");
        assert_eq!(documents, after, "and so do documents");
        let numbers: Vec<_> = after.iter().map(|e| e["seq"].as_u64().expect("a number")).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "none twice: {numbers:?}");
        for name in [format!("dark{n}"), format!("light{n}")] {
            assert!(after.iter().any(|e| e["name"] == name.as_str()), "{name} is told: {after:?}");
        }
        let doctor = service.until_store("sound");
        assert!(doctor["store"]["left_out"].as_u64() > Some(0), "what is missing is counted: {doctor}");
    }
}

/// A file that cannot be written: the doctor says so, nobody waits, and it catches up.
#[test]
fn file_that_cannot_be_written() {
    let scratch = Scratch::new();
    let (dir, other) = (scratch.file("dir"), scratch.file("other.jsonl"));
    let path = format!("{dir}/events.jsonl");
    let config = format!(
        "[[sink]]\nkind = \"jsonl\"\nname = \"dead\"\npath = {path:?}\n[[sink]]\nkind = \"jsonl\"\nname = \"well\"\npath = {other:?}\n"
    );
    let service = with_config(&scratch, &config);
    live(&service, "one");
    wait::until("it is known to fail", SOON, || sink(&service, "dead")["failing"].as_u64() > Some(0));
    let said = service.cli(&["doctor"]);
    assert!(said.expect(3).out().contains("sink dead: failing"), "{said:?}");
    assert!(sink(&service, "dead")["last_error"].as_str().is_some_and(|e| e.contains(&path)));
    until_delivered(&service, "well");
    service.expect_answer();
    fs::create_dir(&dir).expect("the directory is ours");
    until_delivered(&service, "dead");
    service.cli(&["doctor"]).expect(0);
    assert_eq!((lines(&path), lines(&other)), (service.events(), service.events()));
}

/// How a request is answered.
#[derive(Clone, Copy, Debug)]
enum Play {
    /// The first document has this status, all others are taken.
    FirstItem(u16),
    /// All of it has this status.
    Status(u16),
    /// Taken, but the connection is closed in the middle of the answer.
    CloseMidAnswer,
    /// The connection is closed without an answer.
    Close,
    /// Nothing is answered, for longer than anybody waits.
    Hang,
}

#[derive(Default)]
struct Seen {
    script: VecDeque<Play>,
    /// By their ids, and how often each came.
    documents: BTreeMap<String, (Value, u32)>,
    played: usize,
    is_over: bool,
}

/// Plays OpenSearch: by a script, and then as it should.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    fn start(script: &[Play]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let address = listener.local_addr().expect("it is bound");
        let seen = Seen { script: script.iter().copied().collect(), ..Seen::default() };
        let seen = Arc::new(Mutex::new(seen));
        let ours = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ours.lock().is_over {
                    return;
                }
                let ours = Arc::clone(&ours);
                // An error is the client's end of the connection.
                thread::spawn(move || talk(&mut BufReader::new(stream), &ours));
            }
        });
        Self { address, seen }
    }

    fn config(&self) -> String {
        format!(
            "[[sink]]\nkind = \"opensearch\"\nname = \"search\"\nurl = \"http://{}\"\nbatch = 5\ntimeout = \"1s\"\n",
            self.address
        )
    }

    /// The documents without the service's id, in the order of their numbers.
    fn events(&self) -> Vec<Value> {
        let seen = self.seen.lock();
        let mut events: Vec<Value> = Vec::new();
        for (id, (document, _)) in &seen.documents {
            let mut event = document.clone();
            let service =
                event.as_object_mut().and_then(|o| o.remove("service")).expect("it names the service");
            assert_eq!(*id, format!("{}-{}", service.as_str().expect("text"), event["seq"]));
            events.push(event);
        }
        events.sort_by_key(|e| e["seq"].as_u64());
        events
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.seen.lock().is_over = true;
        // Lets it out of its wait.
        let _ = TcpStream::connect(self.address);
    }
}

fn talk(stream: &mut BufReader<TcpStream>, seen: &Mutex<Seen>) -> io::Result<()> {
    loop {
        let mut len = 0;
        let mut is_bulk = false;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            is_bulk |= line.starts_with("POST /_bulk ");
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(text) = line.strip_prefix("content-length: ") {
                len = text.parse().expect("a number");
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body)?;
        assert!(is_bulk, "the one request that there is");
        let mut seen = seen.lock();
        let play = seen.script.pop_front();
        seen.played += usize::from(play.is_some());
        let first = match play {
            Some(Play::Close) => return Ok(()),
            Some(Play::Hang) => {
                drop(seen);
                // Until the client has had enough.
                return stream.read_to_end(&mut Vec::new()).map(drop);
            }
            Some(Play::Status(status)) => {
                write!(stream.get_mut(), "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")?;
                continue;
            }
            Some(Play::FirstItem(status)) => status,
            Some(Play::CloseMidAnswer) | None => 201,
        };
        let answer = take_in(&body, first, &mut seen.documents);
        drop(seen);
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
        if matches!(play, Some(Play::CloseMidAnswer)) {
            return stream.get_mut().write_all(&answer.as_bytes()[..answer.len() / 2]);
        }
        stream.get_mut().write_all(answer.as_bytes())?;
    }
}

/// Stores the documents, the first one only if its status is good; returns the answer.
fn take_in(body: &[u8], first: u16, documents: &mut BTreeMap<String, (Value, u32)>) -> String {
    let text = std::str::from_utf8(body).expect("UTF-8");
    assert!(!text.contains("hush"), "no value of a variable: {text}");
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let mut items = Vec::new();
    for (n, pair) in lines.chunks(2).enumerate() {
        let id = pair[0]["index"]["_id"].as_str().expect("an id").to_owned();
        let status = if n == 0 { first } else { 201 };
        if status < 300 {
            let entry = documents.entry(id.clone()).or_insert((Value::Null, 0));
            *entry = (pair[1].clone(), entry.1 + 1);
        }
        let mut item = json!({ "_id": id, "status": status });
        if status >= 300 {
            item["error"] = json!({ "type": "some_exception", "reason": "as played" });
        }
        items.push(json!({ "index": item }));
    }
    json!({ "errors": first >= 300, "items": items }).to_string()
}

#[test]
fn search_engine_that_is_overloaded() {
    goes_wrong_and_is_tried_again(&[Play::Status(429), Play::FirstItem(429), Play::Status(503)]);
}

#[test]
fn search_engine_that_breaks_off() {
    goes_wrong_and_is_tried_again(&[Play::Close, Play::CloseMidAnswer, Play::Hang, Play::FirstItem(500)]);
}

/// In the end each event is there, as itself, under one id.
#[track_caller]
fn goes_wrong_and_is_tried_again(plays: &[Play]) {
    let server = Server::start(plays);
    let scratch = Scratch::new();
    let service = with_config(&scratch, &server.config());
    live(&service, "one");
    wait::until("it is known to fail", SOON, || sink(&service, "search")["failing"].as_u64() > Some(0));
    // Nobody waits for it.
    service.expect_answer();
    for name in ["two", "three"] {
        live(&service, name);
    }
    wait::until("everything has been played", LATER, || server.seen.lock().played == plays.len());
    service.kill_engine();
    live(&service, "four");
    until_delivered(&service, "search");
    assert_eq!(server.events(), service.events());
    let health = sink(&service, "search");
    assert_eq!((&health["rejected"], &health["missed"]), (&0.into(), &0.into()), "{health}");
}

/// What is refused for ever is counted, and holds up nothing else.
#[test]
fn search_engine_that_refuses_a_document() {
    let server = Server::start(&[Play::FirstItem(400)]);
    let scratch = Scratch::new();
    let service = with_config(&scratch, &server.config());
    live(&service, "one");
    until_delivered(&service, "search");
    let health = sink(&service, "search");
    assert_eq!(health["rejected"], 1, "{health}");
    let all = service.events();
    assert_eq!(server.events(), all[1..], "all but the first");
    service.until_said("as played");
    // It goes on where it was, by its own account: nothing is sent twice after an orderly end.
    service.end();
    service.serve_again();
    live(&service, "two");
    until_delivered(&service, "search");
    assert_eq!(server.events(), service.events()[1..]);
    let most = server.seen.lock().documents.values().map(|(_, times)| *times).max();
    assert_eq!(most, Some(1), "each was sent once");
}

/// The name of its host is looked up by a program of its own, with an end in sight; `localhost` is not.
#[test]
fn the_name_of_a_search_engine_is_looked_up_by_a_program_of_its_own() {
    let (server, scratch) = (Server::start(&[]), Scratch::new());
    let sink_at = |name: &str, host: &str| {
        let port = server.address.port();
        format!("[[sink]]\nkind = \"opensearch\"\nname = \"{name}\"\nurl = \"http://{host}:{port}\"\n")
    };
    let service =
        with_config(&scratch, &(sink_at("here", "localhost") + &sink_at("lost", "nowhere.invalid")));
    live(&service, "one");
    until_delivered(&service, "here");
    wait::until("it is known to fail", SOON, || sink(&service, "lost")["failing"].as_u64() > Some(0));
    let doctor = service.cli(&["doctor"]).expect(3).out();
    assert!(doctor.contains("the name nowhere.invalid cannot be looked up"), "{doctor}");
    service.end();
}

/// Nobody is there at all; the service lives and ends without it, and what it has not got is kept for it.
#[test]
fn search_engine_that_is_not_there() {
    let nobody = Server::start(&[]).address;
    let scratch = Scratch::new();
    let config = |address: SocketAddr| {
        format!(
            "[[sink]]\nkind = \"opensearch\"\nname = \"search\"\nurl = \"http://{address}\"\ntimeout = \"1s\"\n"
        )
    };
    let service = with_config(&scratch, &config(nobody));
    live(&service, "one");
    wait::until("it is known to fail", SOON, || sink(&service, "search")["failing"].as_u64() > Some(0));
    assert!(service.cli(&["doctor"]).expect(3).out().contains("sink search: failing"));
    let begin = std::time::Instant::now();
    service.end();
    assert!(begin.elapsed() < Duration::from_secs(10), "its end waited for {:?}", begin.elapsed());
    let server = Server::start(&[]);
    fs::write(scratch.file("provost.toml"), config(server.address)).expect("the directory is ours");
    service.serve_again();
    until_delivered(&service, "search");
    assert_eq!(server.events(), service.events());
}

//! A small HTTP server that plays OpenSearch, well or badly: it answers by a script, and then as it should.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};

use super::*;
use crate::engine::settings::OpenSearchSettings;

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Play {
    /// The documents from this one on, as many as there are numbers, have these statuses; all others 201.
    Items(usize, Vec<u16>),
    /// Another status, with headers and a body.
    Status(u16, &'static str, &'static str),
    /// Documents are taken in, but the connection is closed in the middle of the answer.
    CloseMidAnswer,
    /// The connection is closed in the middle of the request.
    CloseMidRequest,
    Hang,
    /// A part of an answer, and then nothing.
    HangMidAnswer,
    /// An answer without an end.
    Endless,
    /// Documents are taken in, and the answer is too large to be read.
    Huge,
    /// This, with status 200.
    Nonsense(&'static str),
    /// As it should be, and then the connection is closed.
    Close,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    /// The ids of its documents.
    pub fn ids(&self) -> Vec<String> {
        let text = std::str::from_utf8(&self.body).unwrap();
        assert!(text.ends_with('\n'));
        let actions = text.lines().step_by(2).map(|line| serde_json::from_str::<Value>(line).unwrap());
        actions.map(|action| action["index"]["_id"].as_str().unwrap().to_owned()).collect()
    }
}

#[derive(Default)]
struct Seen {
    script: VecDeque<Play>,
    requests: Vec<Request>,
    /// Documents by index and id, and how often each was put there.
    documents: BTreeMap<(String, String), (Value, u32)>,
    is_over: bool,
}

/// A way to put TLS, or nothing, between the socket and the server.
type Wrap = fn(TcpStream) -> Box<dyn Talk>;

pub trait Talk: Read + Write {}
impl<T: Read + Write> Talk for T {}

pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(script: Vec<Play>) -> Self {
        Self::wrapped(script, |stream| Box::new(stream))
    }

    /// One connection at a time is enough: the sink has one.
    pub fn wrapped(script: Vec<Play>, wrap: Wrap) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen { script: script.into(), ..Seen::default() }));
        let ours = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ours.lock().is_over {
                    return;
                }
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                // Ends a read that hangs, should the client not end it.
                stream.set_read_timeout(Some(TIMEOUT)).unwrap();
                // An error is the client's end of the connection.
                let _ = talk(&mut BufReader::new(wrap(stream)), &ours);
            }
        });
        Self { address, seen, thread: Some(thread) }
    }

    pub fn settings(&self) -> SinkSettings {
        let search = OpenSearchSettings {
            url: format!("http://{}", self.address),
            index: "provost-events".into(),
            login: None,
            ca: None,
            batch: 500,
            timeout: Duration::from_secs(10),
        };
        SinkSettings { name: "search".into(), kind: SinkKind::OpenSearch(search) }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().requests.clone()
    }

    /// The events that are there, in their order, and how often the one that came most often did so.
    pub fn stored(&self) -> (Vec<u64>, u32) {
        let seen = self.seen.lock();
        let mut stored = Vec::new();
        for ((index, id), (document, _)) in &seen.documents {
            let seq = document["seq"].as_u64().unwrap();
            assert_eq!((index.as_str(), id), ("provost-events", &format!("{SERVICE}-{seq}")));
            let mut want = crate::wire::json::event(&event(seq));
            want["service"] = SERVICE.to_string().into();
            assert_eq!(*document, want);
            stored.push(seq);
        }
        stored.sort_unstable();
        (stored, seen.documents.values().map(|(_, times)| *times).max().unwrap_or(0))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.seen.lock().is_over = true;
        // Lets it out of its wait.
        let _ = TcpStream::connect(self.address);
        let ended = self.thread.take().expect("it runs until here").join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

fn talk(stream: &mut BufReader<Box<dyn Talk>>, seen: &Mutex<Seen>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            stream.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let play = seen.lock().script.pop_front().unwrap_or(Play::Items(0, Vec::new()));
        let len: usize = headers["content-length"].parse().unwrap();
        if matches!(play, Play::CloseMidRequest) {
            stream.read_exact(&mut vec![0; len.min(100)])?;
            return Ok(());
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body)?;
        let request = Request { line: line.trim_end().to_owned(), headers, body };
        seen.lock().requests.push(request.clone());
        if !answer(stream.get_mut(), &request, &play, seen)? {
            // Until the client has had enough of it.
            return if matches!(play, Play::Hang | Play::HangMidAnswer) {
                stream.read_to_end(&mut Vec::new()).map(drop)
            } else {
                Ok(())
            };
        }
    }
}

/// False: the connection is of no more use.
fn answer(stream: &mut impl Write, request: &Request, play: &Play, seen: &Mutex<Seen>) -> io::Result<bool> {
    let mut reply = |status: u16, headers: &str, body: &str| {
        let len = body.len();
        let reply = format!("HTTP/1.1 {status} X\r\ncontent-length: {len}\r\n{headers}\r\n{body}");
        stream.write_all(reply.as_bytes())?;
        stream.flush()
    };
    match play {
        Play::Items(from, statuses) => {
            reply(
                200,
                "",
                &take_in(request, seen, |n| n.checked_sub(*from).and_then(|n| statuses.get(n)).copied()),
            )?;
            return Ok(true);
        }
        Play::Status(status, headers, body) => {
            reply(*status, headers, body)?;
            return Ok(true);
        }
        Play::Nonsense(body) => {
            reply(200, "", body)?;
            return Ok(true);
        }
        Play::Close => reply(200, "", &take_in(request, seen, |_| None))?,
        Play::CloseMidAnswer => {
            let body = take_in(request, seen, |_| None);
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}",
                body.len(),
                &body[..body.len() / 2]
            )?;
        }
        Play::Huge => {
            let body = take_in(request, seen, |_| None) + &" ".repeat(9 << 20);
            reply(200, "", &body)?;
        }
        Play::HangMidAnswer => write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{{")?,
        Play::Endless => {
            write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{{\"items\":[")?;
            // Ends with the client's timeout.
            loop {
                stream.write_all(&[b' '; 65536])?;
            }
        }
        Play::Hang | Play::CloseMidRequest => {}
    }
    stream.flush()?;
    Ok(false)
}

/// Stores the documents of a request, but for those with another status; returns the answer.
fn take_in(request: &Request, seen: &Mutex<Seen>, status: impl Fn(usize) -> Option<u16>) -> String {
    let text = std::str::from_utf8(&request.body).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut errors = false;
    let mut items = Vec::new();
    for (n, pair) in lines.chunks(2).enumerate() {
        let [action, document] = pair else { panic!("an action without a document") };
        let key = |name: &str| action["index"][name].as_str().unwrap().to_owned();
        let status = status(n).unwrap_or(201);
        let mut item = json!({ "_index": key("_index"), "_id": key("_id"), "status": status });
        if status < 300 {
            let mut seen = seen.lock();
            let stored = seen.documents.entry((key("_index"), key("_id"))).or_insert((Value::Null, 0));
            *stored = (document.clone(), stored.1 + 1);
        } else {
            errors = true;
            item["error"] = json!({ "type": "some_exception", "reason": format!("item {n}\nis bad") });
        }
        items.push(json!({ "index": item }));
    }
    json!({ "took": 1, "errors": errors, "items": items }).to_string()
}

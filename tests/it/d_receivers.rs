//! Output sent to receivers on the machine: a real socket that reads what comes as strictly as the standard
//! has it, one that is full, and one that is not there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use provost::sys::socket::{Blocking, recvmsg};

use crate::harness::{LATER, SOON, Service, fixture, wait};

/// The longest message that is asked for.
const MESSAGE_MAX: usize = 128 << 10;

fn receiver(service: &Service) -> (UnixDatagram, String) {
    let path = service.scratch().file("receiver");
    let socket = UnixDatagram::bind(&path).expect("a free path");
    socket.set_read_timeout(Some(LATER)).expect("a time");
    (socket, path)
}

fn next(socket: &UnixDatagram) -> Vec<u8> {
    let mut bytes = vec![0; MESSAGE_MAX];
    let len = socket.recv(&mut bytes).expect("a message");
    bytes.truncate(len);
    bytes
}

/// A message of RFC 5424.
struct Message {
    priority: u8,
    app: String,
    pid: String,
    stream: String,
    parameters: BTreeMap<String, String>,
    text: Vec<u8>,
}

/// Takes one part of the header: printable, not empty, not too long.
fn part(rest: &mut &[u8], len_max: usize) -> String {
    let end = rest.iter().position(|&b| b == b' ').expect("a space behind it");
    let part = &rest[..end];
    assert!(!part.is_empty() && part.len() <= len_max && part.iter().all(u8::is_ascii_graphic), "{part:?}");
    *rest = &rest[end + 1..];
    String::from_utf8_lossy(part).into_owned()
}

fn parsed(message: &[u8]) -> Message {
    let mut rest = message;
    let priority = part(&mut rest, 6);
    let priority = priority.strip_prefix('<').and_then(|p| p.strip_suffix(">1")).expect("version 1");
    assert!(!priority.starts_with('0') && priority.len() <= 3);
    let priority: u8 = priority.parse().ok().filter(|p| *p <= 191).expect("a priority");
    let time = part(&mut rest, 32);
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    let (_host, app, pid, stream) =
        (part(&mut rest, 255), part(&mut rest, 48), part(&mut rest, 128), part(&mut rest, 32));
    let text = std::str::from_utf8(rest).map_or_else(|e| e.valid_up_to(), str::len);
    let mut data =
        std::str::from_utf8(&rest[..text]).expect("it is").strip_prefix('[').expect("data").chars();
    let mut word = |end: char| {
        let word: String = data.by_ref().take_while(|&c| c != end).collect();
        assert!(!word.is_empty() && word.len() <= 32 && word.chars().all(|c| c.is_ascii_graphic()), "{word}");
        word
    };
    assert_eq!(word(' '), "provost@32473");
    let mut parameters = BTreeMap::new();
    loop {
        let name: String = data.by_ref().take_while(|&c| c != '=').collect();
        assert_eq!(data.next(), Some('"'));
        let mut value = String::new();
        loop {
            match data.next().expect("the value ends") {
                '"' => break,
                '\\' => value.push(data.next().expect("what is escaped")),
                ']' => panic!("not escaped"),
                c => value.push(c),
            }
        }
        assert!(parameters.insert(name, value).is_none(), "once");
        match data.next() {
            Some(' ') => {}
            Some(']') => break,
            other => panic!("{other:?} behind a value"),
        }
    }
    assert_eq!(data.next(), Some(' '));
    let at = text - data.as_str().len();
    Message { priority, app, pid, stream, parameters, text: rest[at..].to_vec() }
}

#[test]
fn lines_go_to_syslog_as_the_standard_has_it() {
    let service = Service::new();
    let (socket, path) = receiver(&service);
    let script = "echo $$; echo 'a \"b\" [c] token=1234'; printf '\\377 no text\\n'; sleep 0.1; echo err >&2; \
                  printf '\\n'; head -c 20000 /dev/zero | tr '\\0' 'z'; printf 'end'";
    let to = format!("syslog:{path}");
    let options = ["--name", "web", "--instances", "2", "--log-to", &to, "--redact", "token=[0-9]+"];
    service.ok(&[&["start"], &options[..], &["--", "sh", "-c", script]].concat());
    let mut of: BTreeMap<String, Vec<Message>> = BTreeMap::new();
    let is_last = |all: &Vec<Message>| all.last().is_some_and(|m| m.text.ends_with(b"end"));
    while of.values().filter(|all| is_last(all)).count() < 2 {
        let message = parsed(&next(&socket));
        of.entry(message.app.clone()).or_default().push(message);
    }
    assert_eq!(of.keys().collect::<Vec<_>>(), ["web-1", "web-2"]);
    for (n, (name, all)) in (1..).zip(&of) {
        let (out, err): (Vec<_>, Vec<_>) = all.iter().partition(|m| m.stream == "stdout");
        assert_eq!(err.iter().map(|m| (&m.text[..], m.priority)).collect::<Vec<_>>(), [(&b"err"[..], 27)]);
        let pid = String::from_utf8(out[0].text.clone()).unwrap();
        assert_eq!(out[1].text, b"a \"b\" [c] ***");
        assert_eq!(out[2].text, b"\xff no text");
        assert_eq!(out[3].text, b"");
        assert_eq!(out.iter().map(|m| m.text.len()).max(), Some(7 << 10));
        let long: Vec<u8> = out[4..].iter().flat_map(|m| m.text.clone()).collect();
        assert!(long == format!("{}end", "z".repeat(20_000)).as_bytes());
        for message in &out {
            let parameter = |key: &str| message.parameters[key].clone();
            assert_eq!(
                (message.priority, parameter("name"), parameter("stream")),
                (30, name.clone(), "stdout".into())
            );
            assert_eq!((parameter("run"), parameter("instance")), ("1".into(), n.to_string()));
            assert!(message.pid == pid || message.pid == "-", "{}", message.pid);
        }
        assert!(out[4].parameters.contains_key("partial") && !out[1].parameters.contains_key("partial"));
    }
    assert_eq!(service.status_json("web-1")["log_lost"], 0);
}

/// The fields of an entry, each of one line.
fn entry(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let bytes = bytes.strip_suffix(b"\n").expect("an end");
    let field = |field: &[u8]| {
        let at = field.iter().position(|&b| b == b'=').expect("a value");
        let key = String::from_utf8(field[..at].to_vec()).unwrap();
        let is_plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        assert!(key.chars().all(is_plain) && key.starts_with(|c: char| c.is_ascii_uppercase()), "{key}");
        (key, field[at + 1..].to_vec())
    };
    bytes.split(|&b| b == b'\n').map(field).collect()
}

#[test]
fn lines_go_to_the_journal_and_long_ones_in_memory() {
    let service = Service::new();
    let (socket, path) = receiver(&service);
    let to = format!("journald:{path}");
    let script = "echo one; head -c 60000 /dev/zero | tr '\\0' 'z'; echo; echo 'a=b' >&2";
    service.start(&["--name", "web", "--log-to", &to, "--", "sh", "-c", script]);
    let mut all = Vec::new();
    while all.len() < 3 {
        let mut bytes = vec![0; MESSAGE_MAX];
        let (len, fds) = recvmsg(socket.as_fd(), &mut bytes, Blocking::Wait).expect("a message");
        bytes.truncate(len);
        if let Some(fd) = fds.into_iter().next() {
            assert_eq!(len, 0, "all of it is in the file");
            let mut file = File::from(fd);
            file.set_len(1).expect_err("it is sealed");
            file.read_to_end(&mut bytes).unwrap();
        }
        all.push(entry(&bytes));
    }
    let text = |n: usize, key: &str| String::from_utf8(all[n][key].clone()).unwrap();
    assert_eq!([text(0, "MESSAGE"), text(2, "MESSAGE")], ["one", "a=b"]);
    assert!(text(1, "MESSAGE") == "z".repeat(60_000));
    let fields =
        |n: usize| ["PRIORITY", "PROVOST_STREAM", "PROVOST_RUN", "SYSLOG_IDENTIFIER"].map(|key| text(n, key));
    assert_eq!(fields(0), ["6", "stdout", "1", "web"]);
    assert_eq!(fields(2), ["3", "stderr", "1", "web"]);
}

#[test]
fn d9_a_receiver_that_is_full_or_gone_holds_no_child_up() {
    let service = Service::new();
    let (socket, path) = receiver(&service);
    let to = format!("syslog:{path}");
    let options = ["--name", "numbers", "--output-limit", "64k", "--log-to", &to];
    let pace = ["--pace-us", "1000", "--burst", "20"];
    service.start(&[&options[..], &["--", &fixture("numbers")], &pace].concat());
    let status = || service.status_json("numbers");
    wait::until("it is full", LATER, || status()["log_trouble"].is_string());
    let trouble = status()["log_trouble"].as_str().unwrap().to_owned();
    assert!(trouble.contains("has taken no line for a second"), "{trouble}");
    let before = status()["output_end"].as_u64().unwrap();
    wait::until("the child writes on", LATER, || status()["output_end"].as_u64() > Some(before + 300_000));
    // Somebody reads again.
    let mut all = Vec::new();
    socket.set_read_timeout(Some(SOON)).unwrap();
    wait::until("it is told", LATER, || {
        all.push(parsed(&next(&socket)));
        all.last().is_some_and(|m: &Message| m.stream == "provost")
    });
    // Gone, and another one in its place.
    drop(socket);
    fs::remove_file(&path).unwrap();
    wait::until("it is gone", LATER, || status()["log_trouble"].is_string());
    let before = status()["output_end"].as_u64().unwrap();
    wait::until("the child writes on", LATER, || status()["output_end"].as_u64() > Some(before + 100_000));
    let socket = UnixDatagram::bind(&path).unwrap();
    service.ok(&["stop", "numbers"]);
    socket.set_read_timeout(Some(LATER)).unwrap();
    // The last line of all comes, too.
    let number = |m: &Message| String::from_utf8_lossy(&m.text).trim().parse::<u64>().ok();
    let last = String::from_utf8(service.output("numbers")).unwrap().lines().last().unwrap().parse().ok();
    let mut rest = Vec::new();
    wait::until("its last line is there", LATER, || {
        rest.push(parsed(&next(&socket)));
        rest.last().and_then(number) == last
    });
    wait::until("it is well", SOON, || status()["log_trouble"].is_null());
    assert!(all.iter().chain(&rest).filter(|m| m.stream == "provost").count() >= 2);
    // What came before the first trouble came in order.
    let first: Vec<_> = all.iter().take_while(|m| m.stream != "provost").filter_map(number).collect();
    assert!(first.len() > 5 && first.windows(2).all(|two| two[1] == two[0] + 1), "{:?}", first.first());
    assert!(status()["log_lost"].as_u64() > Some(200_000));
}

#[test]
fn no_line_to_a_receiver_is_lost_over_kills_of_the_engine() {
    const COUNT: u64 = 4000;
    let service = Service::new();
    let (socket, path) = receiver(&service);
    let to = format!("syslog:{path}");
    let count = COUNT.to_string();
    let pace = ["--count", &count, "--pace-us", "1000", "--burst", "2"];
    service.start(&[&["--name", "numbers", "--log-to", &to, "--", &fixture("numbers")][..], &pace].concat());
    let mut seen = vec![0; usize::try_from(COUNT).unwrap() + 1];
    let mut kills = 0;
    while seen[seen.len() - 1] == 0 {
        let message = parsed(&next(&socket));
        let n: usize = String::from_utf8(message.text).unwrap().parse().expect("a number");
        seen[n] += 1;
        if n / 800 > kills {
            kills += 1;
            service.kill_engine_only();
        }
    }
    assert!(kills >= 4);
    assert_eq!(seen[1..].iter().position(|&times| times == 0), None, "a line is missing");
}

#[test]
fn a_receiver_is_looked_at_before_the_start_and_has_no_file_beside_it() {
    let service = Service::new();
    let nowhere = format!("syslog:{}", service.scratch().file("nowhere"));
    let refused = service.cli(&["start", "--log-to", &nowhere, "--", "true"]).expect(6).err();
    assert!(refused.contains("receives no lines") && refused.contains("No such file"), "{refused}");
    let refused = service.cli(&["start", "--log-to", "syslogd", "--", "true"]).expect(2).err();
    assert!(refused.contains("'syslogd' is no receiver of lines"), "{refused}");
    let (_socket, path) = receiver(&service);
    let to = format!("syslog:{path}");
    let refused = service.cli(&["start", "--log-to", &to, "--log", "a.log", "--", "true"]).expect(2).err();
    assert!(refused.contains("leave out log_to"), "{refused}");
}

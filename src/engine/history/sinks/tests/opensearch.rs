//! The search engine: as it should be, and as it is on bad days.

use super::server::{Play, Server};
use super::*;
use crate::engine::history::sinks::bulk;
use crate::engine::history::sinks::opensearch::OpenSearch;
use crate::engine::settings::{Login, OpenSearchSettings, Secret};
use serde_json::json;

fn with(server: &Server, change: impl FnOnce(&mut OpenSearchSettings)) -> SinkSettings {
    let mut settings = server.settings();
    let SinkKind::OpenSearch(search) = &mut settings.kind else { unreachable!() };
    change(search);
    settings
}

/// Plays this, delivers 20 events, and checks that each of them is there.
#[track_caller]
fn play(script: Vec<Play>) -> (Server, Standing, Vec<String>) {
    let count = script.len() as u64;
    let server = Server::start(script);
    let kept = keep(events(1..=20));
    let sink = Running::new(&with(&server, |search| search.timeout = Duration::from_millis(500)), &kept);
    let standing = sink.finish();
    assert_eq!(server.stored().0, (1..=20).collect::<Vec<_>>());
    assert_eq!((standing.delivered, standing.rejected, standing.failed), (20, 0, count));
    assert_eq!(kept.inner.lock().cursor, 20);
    let log = sink.log();
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log[1].starts_with("sink search: works again after "), "{log:?}");
    (server, standing, log)
}

#[test]
fn documents_are_put_under_ids_of_their_own() {
    let server = Server::start(Vec::new());
    let kept = keep(events(1..=1200));
    let login = Login { username: "provost".into(), password: Secret::new("open sesame".into()) };
    let settings = with(&server, |search| {
        search.login = Some(login);
        search.url.push_str("/prefix");
    });
    let sink = Running::new(&settings, &kept);
    let standing = sink.finish();
    assert_eq!((standing.delivered, standing.failed), (1200, 0));
    assert_eq!(server.stored(), ((1..=1200).collect(), 1));
    let requests = server.requests();
    assert_eq!(requests.iter().map(|r| r.ids().len()).collect::<Vec<_>>(), [500, 500, 200]);
    for request in &requests {
        assert_eq!(request.line, "POST /prefix/_bulk HTTP/1.1");
        assert_eq!(request.headers["content-type"], "application/x-ndjson");
        assert_eq!(request.headers["authorization"], "Basic cHJvdm9zdDpvcGVuIHNlc2FtZQ==");
    }
    assert!(sink.log().is_empty(), "{:?}", sink.log());
}

/// Items that were not taken in for now are sent again, alone; those that never will be are counted.
#[test]
fn errors_of_items_are_theirs_alone() {
    let server = Server::start(vec![Play::Items(3, vec![429, 400, 503, 400]), Play::Items(0, vec![500])]);
    let kept = keep(events(1..=10));
    let sink = Running::new(&server.settings(), &kept);
    // Up to the first that is not there yet: no further is said to be delivered.
    sink.until(|standing| standing.failed == 1);
    assert_eq!(kept.inner.lock().cursor, 3);
    let standing = sink.finish();
    assert_eq!((standing.delivered, standing.rejected, standing.failed), (8, 2, 2));
    let ids: Vec<usize> = server.requests().iter().map(|r| r.ids().len()).collect();
    assert_eq!(ids, [10, 2, 1]);
    assert_eq!(server.stored(), (vec![1, 2, 3, 4, 6, 8, 9, 10], 1));
    let log = sink.log();
    let want = "sink search: 2 events in all were refused for ever, one of them so: status 400, some_exception: item 4 is bad";
    assert_eq!(log[0], want);
    assert!(log[1].contains("2 of 10 documents were not taken in, the first: status 429"), "{log:?}");
    assert!(log[2].contains("works again after 2 failed attempts"), "{log:?}");
    assert_eq!(log.len(), 3);
}

#[test]
fn a_failing_server_is_tried_again() {
    let (server, standing, log) = play(vec![
        Play::Status(500, "", "{\"error\":\n \"inner trouble\"}"),
        Play::Status(429, "retry-after: 1\r\n", ""),
    ]);
    assert!(
        log[0]
            .contains("HTTP 500 Internal Server Error: {\"error\": \"inner trouble\"}; its events are kept")
    );
    assert!(standing.last_error.unwrap().1.ends_with("HTTP 429 Too Many Requests"));
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|r| r.body == requests[0].body));
}

#[test]
fn the_delay_is_as_long_as_the_server_asks() {
    let begin = Instant::now();
    play(vec![Play::Status(503, "retry-after: 2\r\n", "")]);
    assert!(begin.elapsed() >= Duration::from_secs(2));
}

#[test]
fn a_connection_that_breaks_costs_nothing() {
    let (server, _, _) = play(vec![Play::CloseMidRequest, Play::CloseMidAnswer]);
    // Taken in twice under the same ids.
    assert_eq!(server.stored().1, 2);
}

#[test]
fn a_server_that_hangs_is_left_in_time() {
    let (_, standing, log) = play(vec![Play::Hang, Play::HangMidAnswer]);
    assert!(log[0].contains("no answer in time"), "{log:?}");
    assert!(standing.last_error.unwrap().1.contains("no answer in time"));
}

#[test]
fn an_answer_that_is_none_is_not_believed() {
    let (_, _, log) = play(vec![Play::Nonsense("<html>welcome</html>")]);
    assert!(log[0].contains("the answer is not that of a bulk request"), "{log:?}");
    let (_, _, log) = play(vec![Play::Nonsense("{\"errors\":false,\"items\":[]}")]);
    assert!(log[0].contains("the answer is about 0 documents, 20 were sent"), "{log:?}");
}

/// A redirection is not followed: the password would go to a place that is not configured.
#[test]
fn a_redirection_is_not_followed() {
    let other = Server::start(Vec::new());
    let there: &'static str =
        Box::leak(format!("location: http://{}/_bulk\r\n", other.address).into_boxed_str());
    let (_, _, log) = play(vec![Play::Status(307, there, "")]);
    assert!(log[0].contains("HTTP 307 Temporary Redirect: it points to 'http://127.0.0.1:"), "{log:?}");
    assert!(other.requests().is_empty());
}

#[test]
fn wrong_credentials_are_said_to_be_that() {
    let (_, _, log) = play(vec![Play::Status(401, "", "Unauthorized")]);
    assert!(log[0].contains("HTTP 401 Unauthorized: look at username, password_file"), "{log:?}");
}

#[test]
fn what_is_too_large_is_sent_in_parts() {
    let too_large = || Play::Status(413, "", "");
    let mut script = vec![too_large(), Play::Huge, Play::Endless, Play::Close];
    script.extend((0..5).map(|_| too_large()));
    let server = Server::start(script);
    let kept = keep(events(1..=8));
    let sink = Running::new(&server.settings(), &kept);
    let standing = sink.finish();
    // 8, 4 (taken in, but its answer is not read), 2 (the same); one; one that alone is too large, which is
    // believed the fifth time; the others.
    let ids: Vec<usize> = server.requests().iter().map(|r| r.ids().len()).collect();
    assert_eq!(ids[..9], [8, 4, 2, 1, 1, 1, 1, 1, 1]);
    assert_eq!((standing.delivered, standing.rejected, standing.failed), (7, 1, 4));
    let refused =
        "sink search: 1 events in all were refused for ever, one of them so: HTTP 413 Payload Too Large";
    assert!(sink.log().contains(&refused.to_owned()), "{:?}", sink.log());
}

/// What is too large for a moment loses nothing, and requests grow again.
#[test]
fn requests_grow_again() {
    let too_large = || Play::Status(413, "", "");
    let server = Server::start(vec![too_large(), too_large(), too_large(), too_large()]);
    let kept = keep(events(1..=120));
    let sink = Running::new(&with(&server, |search| search.batch = 8), &kept);
    let standing = sink.finish();
    assert_eq!((standing.delivered, standing.rejected), (120, 0));
    let ids: Vec<usize> = server.requests().iter().map(|r| r.ids().len()).collect();
    assert_eq!(ids[..5], [8, 4, 2, 1, 1]);
    assert!(ids.contains(&2) && *ids.iter().max().unwrap() == 8 && ids[5..].contains(&4), "{ids:?}");
}

/// What an operator can mend is no fault of the documents: they wait, and the sink says that it fails.
#[test]
fn what_an_operator_can_mend_is_sent_again() {
    for (status, kind) in [
        (401, "security_exception"),
        (403, "security_exception"),
        (403, "cluster_block_exception"),
        (404, "index_not_found_exception"),
        (409, "version_conflict_engine_exception"),
        (400, "index_closed_exception"),
        (400, "validation_exception"),
        (400, "illegal_argument_exception"),
    ] {
        let body =
            json!({ "items": [{ "index": { "status": status, "error": { "type": kind, "reason": "r" } } }] });
        let outcome = bulk::outcome(body.to_string().as_bytes(), &[event(1)], SERVICE).unwrap();
        assert_eq!((outcome.rejected, outcome.again.is_some()), (0, true), "{status} {kind}");
    }
    let long = json!({ "type": "max_bytes_length_exceeded_exception" });
    for error in [
        json!({ "type": "mapper_parsing_exception", "reason": "r" }),
        json!({ "type": "strict_dynamic_mapping_exception", "reason": "r" }),
        json!({ "type": "illegal_argument_exception", "reason": "immense term", "caused_by": long }),
    ] {
        let body = json!({ "items": [{ "index": { "status": 400, "error": error } }] });
        let outcome = bulk::outcome(body.to_string().as_bytes(), &[event(1)], SERVICE).unwrap();
        assert_eq!((outcome.rejected, outcome.again), (1, None), "{error}");
    }
    let server = Server::start(vec![Play::Items(0, vec![403; 3]), Play::Items(0, vec![404; 3])]);
    let kept = keep(events(1..=3));
    let standing = Running::new(&server.settings(), &kept).finish();
    assert_eq!((standing.delivered, standing.rejected, standing.failed), (3, 0, 2));
}

#[test]
fn a_request_is_bounded_in_bytes() {
    let server = Server::start(Vec::new());
    let mut sink = OpenSearch::new(
        match with(&server, |search| search.batch = 10_000).kind {
            SinkKind::OpenSearch(search) => search,
            SinkKind::Jsonl(_) => unreachable!(),
        },
        SERVICE,
    );
    let large: Vec<Event> = (1..=10).map(|seq| Event { detail: "x".repeat(1 << 20), ..event(seq) }).collect();
    let taken = sink.deliver(&large).unwrap();
    assert_eq!(taken.count, 4);
    assert!(server.requests()[0].body.len() <= 5 << 20);
}

#[test]
fn nobody_listens_at_first() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let server = Server::start(Vec::new());
    let settings = with(&server, |search| search.url = format!("http://{address}"));
    let kept = keep(events(1..=3));
    let sink = Running::new(&settings, &kept);
    let standing = sink.until(|standing| standing.failed == 1);
    assert!(standing.last_error.unwrap().1.contains("refused"), "{:?}", sink.log());
}

#[test]
fn its_end_does_not_wait_for_the_next_attempt() {
    let server = Server::start(vec![Play::Status(503, "retry-after: 60\r\n", "")]);
    let sink = Running::new(&with(&server, |_| {}), &keep(events(1..=3)));
    sink.until(|standing| standing.failed == 1);
    let begin = Instant::now();
    drop(sink);
    assert!(begin.elapsed() < Duration::from_secs(30));
}

fn tls(stream: std::net::TcpStream) -> Box<dyn server::Talk> {
    let pem = |text: &[u8]| ureq::tls::parse_pem(text).map(Result::unwrap).collect::<Vec<_>>();
    let [ureq::tls::PemItem::Certificate(certificate)] =
        &pem(include_bytes!("../../../../../tests/fixtures/tls/server.pem"))[..]
    else {
        panic!("one certificate")
    };
    let [ureq::tls::PemItem::PrivateKey(key)] =
        &pem(include_bytes!("../../../../../tests/fixtures/tls/server.key"))[..]
    else {
        panic!("one key")
    };
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().to_vec().into()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.der().to_vec()).into(),
        )
        .unwrap();
    Box::new(rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::new(config)).unwrap(), stream))
}

/// The certificate of a root of one's own is trusted when it is named, and only then.
#[test]
fn tls_trusts_the_root_that_is_named() {
    let server = Server::wrapped(Vec::new(), tls);
    let kept = keep(events(1..=700));
    let settings = |ca: Option<&[u8]>| {
        with(&server, |search| {
            search.url = format!("https://localhost:{}", server.address.port());
            search.ca = ca.map(<[u8]>::to_vec);
        })
    };
    let stranger = Running::new(&settings(None), &kept);
    let standing = stranger.until(|standing| standing.failed == 1);
    assert!(standing.last_error.unwrap().1.contains("UnknownIssuer"), "{:?}", stranger.log());
    drop(stranger);
    assert!(server.requests().is_empty());
    let friend =
        Running::new(&settings(Some(include_bytes!("../../../../../tests/fixtures/tls/ca.pem"))), &kept);
    friend.finish();
    assert_eq!(server.stored(), ((1..=700).collect(), 1));
}

/// Against a real one: `PROVOST_TEST_OPENSEARCH=http://127.0.0.1:9200`.
#[test]
fn a_real_one_has_every_event_once() {
    let Ok(url) = std::env::var("PROVOST_TEST_OPENSEARCH") else { return };
    let index = format!("provost-test-{}", Uuid::now_v7());
    let server = Server::start(Vec::new());
    let settings = with(&server, |search| {
        search.url.clone_from(&url);
        search.index.clone_from(&index);
    });
    let kept = keep(events(1..=2000));
    Running::new(&settings, &kept).finish();
    // Sent again, as after a crash.
    kept.inner.lock().cursor = 0;
    Running::new(&settings, &kept).finish();
    let get =
        |path: &str| ureq::get(format!("{url}/{index}/{path}")).call().unwrap().into_body().read_to_string();
    get("_refresh").unwrap();
    let count: serde_json::Value = serde_json::from_str(&get("_count").unwrap()).unwrap();
    assert_eq!(count["count"], 2000);
    ureq::delete(format!("{url}/{index}")).call().unwrap();
}

#[test]
fn throughput() {
    const COUNT: u64 = 20_000;
    let server = Server::start(Vec::new());
    let kept = keep(events(1..=COUNT));
    let begin = Instant::now();
    let sink = Running::new(&server.settings(), &kept);
    let standing = sink.finish();
    figure("opensearch, in batches of 500", COUNT, begin.elapsed());
    assert_eq!((standing.delivered, standing.failed), (COUNT, 0));
    assert_eq!(server.stored(), ((1..=COUNT).collect(), 1));
}

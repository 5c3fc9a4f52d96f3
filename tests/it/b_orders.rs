//! Restarts and signals that are asked for again: each process does what was ordered once.

use std::thread;
use std::time::Duration;

use provost::wire::id::OrderKey;
use provost::wire::reply::Reply;
use provost::wire::request::{Request, Signal};
use provost::wire::spec::Scope;

use crate::harness::{LATER, Random, SOON, Service, rounds, wait};

/// Says so for each SIGUSR1.
const COUNTS: &str = "trap 'echo got' USR1; echo up; while :; do sleep 76117 & wait $!; kill $!; done";

fn ask(client: &mut provost::Client, request: &Request, key: OrderKey) -> u64 {
    let replies = client.call_with_key(request.clone(), Some(key)).expect("it is answered");
    let item =
        replies.into_iter().find_map(|reply| if let Reply::Item(item) = reply { Some(item) } else { None });
    let item = item.expect("one target has a result");
    assert_eq!(item.error, None);
    item.process.expect("it is there").run
}

#[test]
fn what_was_ordered_with_a_key_is_done_once() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sh", "-c", COUNTS]);
    wait::until("it is up", SOON, || service.output("web") == b"up\n");
    let mut client = service.client();
    let targets = || vec!["web".to_owned()];
    let signal = Request::Signal(Signal { targets: targets(), signal: 10, scope: Scope::Leader });
    let keys = [(); 4].map(|()| OrderKey::new());
    for _ in 0..3 {
        ask(&mut client, &signal, keys[0]);
        wait::until("it has come", SOON, || service.output("web") == b"up\ngot\n");
        // The next engine knows, too.
        service.kill_engine();
    }
    ask(&mut client, &signal, keys[1]);
    wait::until("another one is another one", SOON, || service.output("web") == b"up\ngot\ngot\n");
    let restart = Request::Restart(targets());
    for _ in 0..3 {
        assert_eq!(ask(&mut client, &restart, keys[2]), 2);
        service.kill_engine();
    }
    assert_eq!(ask(&mut client, &restart, keys[3]), 3);
    assert_eq!(ask(&mut client, &restart, keys[2]), 3, "an old one is still known");
    // Of two that come at once, one is done.
    let key = OrderKey::new();
    let runs: Vec<_> = thread::scope(|scope| {
        let both: Vec<_> =
            (0..2).map(|_| scope.spawn(|| ask(&mut service.client(), &restart, key))).collect();
        both.into_iter().map(|asked| asked.join().expect("it is answered")).collect()
    });
    assert_eq!(runs, [4, 4]);
    assert_eq!(service.status_json("web")["run"], 4);
}

#[test]
fn commands_are_done_once_whatever_dies_under_them() {
    let service = Service::new();
    let mut random = Random::new();
    service.start(&["--name", "web", "--", "sleep", "76118"]);
    for round in 1..=rounds(12) {
        let restart = service.background(&["restart", "web"]);
        wait::pass(Duration::from_micros(random.below(20_000)));
        service.kill_engine_only();
        let ended = restart.end(LATER);
        assert_eq!(ended.code, 0, "{ended:?}\n{}", service.log());
        assert_eq!(service.status_json("web")["run"], u64::from(round) + 1, "round {round}");
    }
}

//! Two hundred providers that come and go while many call: no call is lost, and nothing is left of them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use provost::Client;
use provost::sdk::module::definition::Module;
use provost::sdk::module::provider::{Provider, Running};
use provost::wire::module::{ModuleAnswer, ModuleCall, ModuleOrder};

use crate::harness::{LATER, procfs, rounds, wait};
use crate::plane::Plane;

/// Providers, by how many threads they come and go at the same time, and how many threads call.
const PROVIDERS: u32 = 200;
const AT_ONCE: u32 = 8;
const CALLERS: u32 = 16;

/// A member of the group, active; it answers with its number.
fn member(address: &str, number: u32) -> Running {
    let who = Module::new("who", move |()| Ok(number));
    let provider = Provider::new("soak").group("g").instance(address).module(who);
    let pause = Duration::from_millis(50);
    let running = provider.reconnect(pause, pause).start().expect("its executor starts");
    assert!(running.wait_active(LATER), "{:?}", running.status());
    running
}

fn host(plane: &Plane) -> Client {
    Client::connect_to_host(plane.service.socket().as_ref()).expect("the host is there")
}

#[test]
fn no_call_is_lost_while_two_hundred_providers_come_and_go() {
    let plane = Plane::with("");
    let (pid, stays) = (plane.service.pid("provost.host"), member(&plane.address, 0));
    let order = || {
        let (name, input, timeout) = ("soak.who".to_owned(), b"{}".to_vec(), LATER);
        ModuleCall::Call(ModuleOrder { name, input, timeout, tagged: false, metadata: Vec::new() })
    };
    let (is_over, next, calls) = (AtomicBool::new(false), AtomicU32::new(1), AtomicU32::new(0));
    let last = PROVIDERS * rounds(1);
    let call = || {
        let (mut host, mut by) = (host(&plane), BTreeSet::new());
        while !is_over.load(Ordering::SeqCst) {
            match host.module(order()) {
                Ok(ModuleAnswer::Value(number)) => by.insert(number),
                other => {
                    is_over.store(true, Ordering::SeqCst);
                    panic!("a call was lost: {other:?}");
                }
            };
            calls.fetch_add(1, Ordering::SeqCst);
        }
        by
    };
    let come_and_go = || {
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number > last || is_over.load(Ordering::SeqCst) {
                return;
            }
            let member = member(&plane.address, number);
            // It is there for some calls, as many as all members have turns.
            let enough = calls.load(Ordering::SeqCst) + 2 * (AT_ONCE + 1);
            wait::until("others have called", LATER, || {
                calls.load(Ordering::SeqCst) >= enough || is_over.load(Ordering::SeqCst)
            });
            member.stop();
        }
    };
    let answered_by = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        let coming: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(come_and_go)).collect();
        let came: Vec<_> = coming.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::SeqCst);
        let by: Vec<_> = callers.into_iter().map(|caller| caller.join().expect("no call is lost")).collect();
        assert!(came.iter().all(Result::is_ok), "all have come and gone");
        by.into_iter().flatten().collect::<BTreeSet<_>>()
    });
    let members = answered_by.len();
    assert!(members > last as usize * 9 / 10, "only {members} of {last} were called");
    wait::until("only one is left", LATER, || plane.connections().len() == 1);
    let all = plane.connections();
    assert_eq!((&all[0]["state"], &all[0]["in_flight"]), (&"active".into(), &0.into()), "{all:?}");
    assert_eq!(plane.modules().lines().count(), 1);
    wait::until("its threads are gone", LATER, || procfs::thread_count(pid) < 50);
    stays.stop();
    wait::until("nobody is left", LATER, || plane.connections().is_empty());
}

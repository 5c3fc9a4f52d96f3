//! The transition function, without threads or clocks: every test says what happens and at what millisecond.

use std::time::Duration;

use super::*;
use crate::engine::process::fresh::fresh;
use crate::wire::id::ProcessId;
use crate::wire::leader::Leader;
use crate::wire::process::End;
use crate::wire::spec::{RestartPolicy, RestartRules, StopRules};

struct Sim {
    record: Record,
    rules: Rules,
    ms: u64,
}

impl Sim {
    fn new(policy: RestartPolicy) -> Self {
        let restart = RestartRules { policy, ..RestartRules::default() };
        let rules = Rules {
            restart,
            stop: StopRules::default(),
            proves_ready: false,
            ready_limit: None,
            is_job: false,
            forks: false,
            is_essential: false,
        };
        Self { record: fresh(ProcessId::new(), None, None), rules, ms: 1000 }
    }

    fn running(policy: RestartPolicy) -> Self {
        let mut sim = Self::new(policy);
        sim.put(Input::Start);
        sim.put(Input::Spawned { pid: 7 });
        sim.put(Input::Executed);
        assert_eq!(sim.record.state, State::Running);
        sim
    }

    fn put(&mut self, input: Input) -> Transition {
        let now = Now { mono_ms: self.ms, wall: Timestamp(self.ms), jitter: 0 };
        step(&mut self.record, &self.rules, input, "test", now)
    }

    fn exit(&mut self, code: u8) -> Transition {
        let exit = Exit::with(End::Code(code));
        self.put(Input::Exited(exit))
    }

    fn end(&mut self, code: u8) -> Transition {
        self.exit(code);
        self.put(Input::TreeEmpty)
    }
}

fn kinds(transition: &Transition) -> Vec<EventKind> {
    transition.events.iter().map(|t| t.kind).collect()
}

const SIGNAL: Action = Action::Signal { signal: 15, scope: Scope::Tree, whom: Whom::All };
/// To those who were not there yet.
const AGAIN: Action = Action::Signal { signal: 15, scope: Scope::Tree, whom: Whom::Untold };
const KILL: Action = Action::Kill { scope: Scope::Tree };
const LOOK: Action = Action::Look { scope: Scope::Tree };

#[test]
fn start_run_stop() {
    let mut sim = Sim::new(RestartPolicy::Never);
    assert_eq!(sim.put(Input::Start).actions, [Action::Spawn]);
    assert_eq!((sim.record.state, sim.record.run), (State::Starting, 1));
    sim.put(Input::Spawned { pid: 7 });
    assert_eq!(kinds(&sim.put(Input::Executed)), [EventKind::Started]);
    assert!(sim.record.ready);
    assert_eq!(sim.put(Input::Stop(StopOrder::default())).actions, [SIGNAL]);
    assert_eq!(sim.record.deadline, Some(11_000));
    assert_eq!(sim.exit(0).actions, [LOOK, AGAIN]);
    assert_eq!(sim.record.state, State::Stopping);
    assert_eq!(kinds(&sim.put(Input::TreeEmpty)), [EventKind::Stopped]);
    assert_eq!((sim.record.state, sim.record.deadline), (State::Stopped, None));
}

#[test]
fn stopped_is_not_said_while_the_leader_lives() {
    let mut sim = Sim::running(RestartPolicy::Never);
    sim.put(Input::Stop(StopOrder::default()));
    sim.put(Input::TreeEmpty);
    assert_eq!(sim.record.state, State::Stopping);
}

#[test]
fn the_kill_goes_to_what_the_leader_left_behind() {
    let mut sim = Sim::running(RestartPolicy::Never);
    sim.put(Input::Stop(StopOrder::default()));
    sim.exit(0);
    sim.ms = 11_000;
    assert_eq!(sim.put(Input::Deadline).actions, [KILL, LOOK]);
    assert_eq!(sim.record.state, State::Stopping);
    sim.ms = 13_000;
    assert_eq!(kinds(&sim.put(Input::Deadline)), [EventKind::Stuck]);
    assert!(sim.record.stuck && stop_was_in_vain(&sim.record));
    assert_eq!(sim.record.deadline, None, "nothing wakes us but its end");
    sim.put(Input::TreeEmpty);
    assert_eq!((sim.record.state, sim.record.stuck), (State::Stopped, false));
}

#[test]
fn no_kill_leaves_it_running() {
    let mut sim = Sim::running(RestartPolicy::Never);
    sim.put(Input::Stop(StopOrder { no_kill: true, ..StopOrder::default() }));
    sim.ms = 11_000;
    assert_eq!(sim.put(Input::Deadline).actions, []);
    assert_eq!(sim.record.state, State::Running);
    assert!(stop_was_in_vain(&sim.record));
}

#[test]
fn a_stop_after_a_stop_in_vain_goes_on() {
    let mut sim = Sim::running(RestartPolicy::Never);
    sim.put(Input::Stop(StopOrder { no_kill: true, ..StopOrder::default() }));
    sim.exit(0);
    sim.ms = 11_000;
    sim.put(Input::Deadline);
    assert!(sim.record.stuck && sim.record.deadline.is_none());
    sim.put(Input::Stop(StopOrder::default()));
    assert!(!sim.record.stuck);
    sim.ms = 21_000;
    assert_eq!(sim.put(Input::Deadline).actions, [KILL, LOOK]);
    sim.ms = 23_000;
    sim.put(Input::Deadline);
    assert!(sim.record.stuck);
    assert_eq!(sim.put(Input::Stop(StopOrder::default())).actions, [KILL, LOOK]);
    assert_eq!((sim.record.stuck, sim.record.deadline), (false, Some(25_000)));
}

fn signal(signal: u32, scope: Scope) -> Action {
    Action::Signal { signal, scope, whom: Whom::All }
}

#[test]
fn one_signal_follows_the_other_and_then_the_kill() {
    let mut sim = Sim::running(RestartPolicy::Never);
    sim.rules.stop.set_signals("TERM,10s,INT,5s,QUIT,1s,KILL").unwrap();
    assert_eq!(sim.put(Input::Stop(StopOrder::default())).actions, [SIGNAL]);
    for (ms, number, next) in [(11_000, 2, 16_000), (16_000, 3, 17_000)] {
        sim.ms = ms;
        let transition = sim.put(Input::Deadline);
        assert_eq!((kinds(&transition), sim.record.deadline), (vec![EventKind::Stopping], Some(next)));
        assert_eq!(transition.actions, [signal(number, Scope::Tree)]);
        // Another stop does not begin them anew, and a new engine knows how far they are.
        assert_eq!(sim.put(Input::Stop(StopOrder::default())), Transition::default());
        sim.record = Record::decode(&sim.record.encode()).unwrap();
    }
    sim.ms = 17_000;
    assert_eq!(sim.put(Input::Deadline).actions, [KILL, LOOK]);
}

#[test]
fn the_signal_of_an_order_stands_alone() {
    let mut sim = Sim::running(RestartPolicy::Never);
    sim.rules.stop.set_signals("TERM,10s,INT,5s,KILL").unwrap();
    sim.put(Input::Stop(StopOrder::default()));
    let order = StopOrder { signal: Some(1), ..StopOrder::default() };
    assert_eq!(sim.put(Input::Stop(order)).actions, [signal(1, Scope::Tree)]);
    assert_eq!(sim.record.deadline, Some(6000), "the time of the last signal");
    sim.ms = 6000;
    assert_eq!(sim.put(Input::Deadline).actions, [KILL, LOOK]);
}

#[test]
fn a_mixed_stop_asks_the_leader_and_kills_the_rest() {
    let (killed, looked) = (Action::Kill { scope: Scope::Mixed }, Action::Look { scope: Scope::Mixed });
    for (is_asked, policy) in [(true, RestartPolicy::Never), (false, RestartPolicy::Always)] {
        let mut sim = Sim::running(policy);
        sim.rules.stop.scope = Scope::Mixed;
        if is_asked {
            assert_eq!(sim.put(Input::Stop(StopOrder::default())).actions, [signal(15, Scope::Mixed)]);
        }
        assert_eq!(sim.exit(0).actions, [killed, looked]);
        assert_eq!(sim.record.state, State::Stopping);
        sim.put(Input::TreeEmpty);
        assert_eq!(sim.record.state, if is_asked { State::Stopped } else { State::Starting });
    }
}

#[test]
fn a_stop_before_the_birth_reaches_the_child() {
    let mut sim = Sim::new(RestartPolicy::Always);
    sim.put(Input::Start);
    assert_eq!(sim.put(Input::Stop(StopOrder::default())).actions, []);
    assert_eq!(sim.put(Input::Spawned { pid: 7 }).actions, [SIGNAL]);
    sim.put(Input::Executed);
    sim.end(0);
    assert_eq!(sim.record.state, State::Stopped);
}

#[test]
fn restart_is_a_stop_and_a_start_and_a_later_stop_wins() {
    let mut sim = Sim::running(RestartPolicy::Never);
    sim.put(Input::Restart);
    assert_eq!(sim.end(0).actions, [Action::Spawn]);
    assert_eq!((sim.record.state, sim.record.run, sim.record.restarts), (State::Starting, 2, 0));
    let mut sim = Sim::running(RestartPolicy::Always);
    sim.put(Input::Restart);
    sim.put(Input::Stop(StopOrder::default()));
    sim.end(0);
    assert_eq!(sim.record.state, State::Stopped);
}

#[test]
fn a_start_during_a_stop_follows_it() {
    let mut sim = Sim::running(RestartPolicy::Never);
    sim.put(Input::Stop(StopOrder::default()));
    sim.put(Input::Start);
    assert_eq!(sim.end(0).actions, [Action::Spawn]);
}

#[test]
fn a_second_stop_shortens_the_grace() {
    let mut sim = Sim::running(RestartPolicy::Never);
    sim.put(Input::Stop(StopOrder::default()));
    sim.put(Input::Stop(StopOrder { timeout: Some(Duration::from_secs(1)), ..StopOrder::default() }));
    assert_eq!(sim.record.deadline, Some(2000));
    sim.put(Input::Stop(StopOrder { timeout: Some(Duration::from_secs(60)), ..StopOrder::default() }));
    assert_eq!(sim.record.deadline, Some(2000));
}

#[test]
fn a_failing_process_backs_off_and_gives_up() {
    let mut sim = Sim::running(RestartPolicy::OnFailure);
    let mut delays = Vec::new();
    loop {
        let transition = sim.end(1);
        match sim.record.state {
            State::Starting => delays.push(0),
            State::Backoff => {
                let deadline = sim.record.deadline.expect("an attempt is due");
                delays.push(deadline - sim.ms);
                sim.ms = deadline;
                assert_eq!(sim.put(Input::Deadline).actions, [Action::Spawn]);
            }
            State::Failed => {
                assert_eq!(kinds(&transition), [EventKind::AttemptFailed, EventKind::GaveUp]);
                break;
            }
            state => panic!("{state:?}"),
        }
        sim.put(Input::Spawned { pid: 7 });
        sim.put(Input::Executed);
    }
    assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600]);
    sim.put(Input::Start);
    assert_eq!((sim.record.state, sim.record.attempts), (State::Starting, 0));
}

#[test]
fn policies_differ_by_success() {
    for (policy, code, rests) in [
        (RestartPolicy::Never, 1, true),
        (RestartPolicy::OnFailure, 0, true),
        (RestartPolicy::OnFailure, 1, false),
        (RestartPolicy::Always, 0, false),
    ] {
        let mut sim = Sim::running(policy);
        sim.end(code);
        assert_eq!(sim.record.state == State::Stopped, rests, "{policy:?} {code}");
    }
    let mut sim = Sim::running(RestartPolicy::OnFailure);
    sim.rules.restart.success_codes = vec![0, 3];
    sim.end(3);
    assert_eq!(sim.record.state, State::Stopped);
}

#[test]
fn a_stop_in_backoff_is_at_once() {
    let mut sim = Sim::running(RestartPolicy::Always);
    sim.end(1);
    sim.put(Input::Spawned { pid: 8 });
    sim.put(Input::Executed);
    sim.end(1);
    assert_eq!(sim.record.state, State::Backoff);
    sim.put(Input::Stop(StopOrder::default()));
    assert_eq!((sim.record.state, sim.record.deadline), (State::Stopped, None));
}

#[test]
fn a_failed_exec_is_never_running() {
    let failure = StartFailure { step: "exec".into(), errno: 2, object: "/x".into() };
    let mut sim = Sim::new(RestartPolicy::Never);
    sim.put(Input::Start);
    sim.put(Input::Spawned { pid: 7 });
    sim.put(Input::SpawnFailed { failure: failure.clone(), child: Child::Exits });
    assert_eq!(sim.record.state, State::Starting);
    sim.end(127);
    assert_eq!((sim.record.state, sim.record.exit), (State::Stopped, None));
    assert_eq!(sim.record.start_failure, Some(failure.clone()));

    let mut sim = Sim::new(RestartPolicy::Never);
    sim.put(Input::Start);
    sim.put(Input::SpawnFailed { failure, child: Child::None });
    assert_eq!(sim.record.state, State::Stopped);
}

#[test]
fn said_twice_changes_nothing() {
    for policy in [RestartPolicy::Never, RestartPolicy::Always] {
        let mut sim = Sim::running(policy);
        let before = sim.record.clone();
        for input in [Input::Executed, Input::Spawned { pid: 7 }, Input::TreeEmpty, Input::Start] {
            sim.put(input);
        }
        assert_eq!(sim.record, before);
    }
}

#[test]
fn readiness_is_a_fact_of_its_own() {
    let mut sim = Sim::new(RestartPolicy::Never);
    sim.rules.proves_ready = true;
    sim.put(Input::Start);
    sim.put(Input::Spawned { pid: 7 });
    sim.put(Input::Executed);
    assert!(!sim.record.ready);
    assert_eq!(kinds(&sim.put(Input::Ready)), [EventKind::Ready]);
    assert_eq!(kinds(&sim.put(Input::Ready)), []);
    sim.exit(0);
    assert!(!sim.record.ready);
}

#[test]
fn a_stop_that_comes_before_the_spawn_is_made_up_for() {
    let mut sim = Sim::new(RestartPolicy::Never);
    sim.put(Input::Start);
    sim.put(Input::Stop(StopOrder { timeout: Some(Duration::ZERO), ..StopOrder::default() }));
    assert_eq!(sim.put(Input::Deadline).actions[0], KILL);
    assert_eq!(sim.put(Input::Spawned { pid: 7 }).actions[0], KILL);
    sim.ms += KILL_MS;
    assert_eq!(kinds(&sim.put(Input::Deadline)), [EventKind::Stuck]);
    sim.exit(0);
    sim.put(Input::TreeEmpty);
    assert_eq!(sim.record.state, State::Stopped);
}

#[test]
fn what_is_on_record_is_not_told_twice() {
    let mut sim = Sim::running(RestartPolicy::Never);
    sim.put(Input::Stop(StopOrder::default()));
    sim.ms += 50;
    assert_eq!(sim.put(Input::Spawned { pid: 7 }), Transition::default());
    assert_eq!(sim.record.started_mono, 1000);
    assert_eq!(kinds(&sim.exit(3)), [EventKind::Exited]);
    assert_eq!(sim.exit(3), Transition::default());
    assert_eq!(sim.record.state, State::Stopping);
}

#[test]
fn a_run_that_a_probe_found_unfit_has_failed_however_it_ends() {
    let mut sim = Sim::running(RestartPolicy::OnFailure);
    let unfit = sim.put(Input::Unfit("no answer".into()));
    assert_eq!((sim.record.state, sim.record.unfit.as_str()), (State::Stopping, "no answer"));
    assert_eq!(kinds(&unfit), [EventKind::Unfit, EventKind::Stopping]);
    // Asked to end, it ends with success; it counts as a failure all the same.
    assert_eq!(sim.end(0).actions, [Action::Spawn]);
    assert!(sim.record.unfit.is_empty(), "the next run has a chance of its own");
    let mut sim = Sim::running(RestartPolicy::Never);
    sim.put(Input::Unfit("no answer".into()));
    sim.end(0);
    assert_eq!((sim.record.state, sim.record.wanted), (State::Stopped, true), "as after a failure");
}

#[test]
fn what_is_not_ready_has_so_long_and_may_ask_for_more() {
    let mut sim = Sim::new(RestartPolicy::Never);
    (sim.rules.proves_ready, sim.rules.ready_limit) = (true, Some(Duration::from_millis(500)));
    sim.put(Input::Start);
    sim.put(Input::Spawned { pid: 7 });
    sim.put(Input::Executed);
    assert_eq!((sim.record.ready, sim.record.deadline), (false, Some(1500)));
    sim.ms = 1400;
    sim.put(Input::Extend(Duration::from_millis(300)));
    assert_eq!(sim.record.deadline, Some(1700));
    sim.put(Input::Extend(Duration::from_millis(1)));
    assert_eq!(sim.record.deadline, Some(1700), "it does not ask for less");
    sim.rules.ready_limit = Some(Duration::from_millis(900));
    sim.put(Input::NewLimit);
    assert_eq!((sim.record.deadline, sim.record.deadline_at), (Some(1900), Some(Timestamp(1900))));
    sim.rules.ready_limit = Some(Duration::from_millis(100));
    sim.put(Input::NewLimit);
    assert_eq!(sim.record.deadline, Some(1400), "it is over");
    sim.put(Input::Ready);
    assert_eq!((sim.record.ready, sim.record.deadline), (true, None));
    sim.put(Input::Extend(Duration::from_millis(300)));
    assert_eq!(sim.record.deadline, None, "it is ready, and may take what time it likes");
    assert_eq!(kinds(&sim.put(Input::Unready("it said so".into()))), [EventKind::Unready]);
    assert!(kinds(&sim.put(Input::Unready("it said so".into()))).is_empty());
    sim.put(Input::NewLimit);
    assert_eq!(sim.record.deadline, None, "it was ready in its time");
    assert_eq!(sim.put(Input::Ready).events[0].detail, READY_AGAIN);
}

#[test]
fn a_process_that_forks_is_followed_to_its_main_process() {
    let mut sim = Sim::new(RestartPolicy::Never);
    (sim.rules.forks, sim.rules.proves_ready) = (true, true);
    sim.put(Input::Start);
    sim.put(Input::Spawned { pid: 7 });
    sim.put(Input::Executed);
    sim.record.start_ticks = Some(70);
    assert!(sim.record.awaits_main && !sim.record.ready);
    let main = Leader { pid: 9, start_ticks: 90 };
    let Transition { actions, events } = sim.put(Input::Forked(main, "named".into()));
    assert!(actions.is_empty() && events[0].kind == EventKind::Forked);
    let record = &sim.record;
    assert_eq!((record.pid, record.start_ticks, record.first_ticks), (Some(9), Some(90), Some(70)));
    assert!(!record.awaits_main && record.state == State::Running);
    // The next one does not make the tree younger, and one that comes too late changes nothing.
    sim.put(Input::Forked(Leader { pid: 11, start_ticks: 110 }, "said".into()));
    assert_eq!((sim.record.pid, sim.record.first_ticks), (Some(11), Some(70)));
    sim.put(Input::Stop(StopOrder::default()));
    sim.put(Input::Forked(main, "named".into()));
    assert_eq!(sim.record.pid, Some(11));
}

#[test]
fn what_is_to_end_may_ask_for_more_until_it_is_killed() {
    let mut sim = Sim::running(RestartPolicy::Never);
    sim.put(Input::Stop(StopOrder { timeout: Some(Duration::from_millis(500)), ..StopOrder::default() }));
    sim.ms = 1400;
    sim.put(Input::Extend(Duration::from_millis(300)));
    assert_eq!(sim.record.deadline, Some(1700));
    sim.ms = 1700;
    sim.put(Input::Deadline);
    assert_eq!(sim.record.stop.phase, StopPhase::Killed);
    let deadline = sim.record.deadline;
    sim.put(Input::Extend(Duration::from_secs(300)));
    assert_eq!(sim.record.deadline, deadline);
}

#[test]
fn what_has_a_schedule_rests_until_that_says() {
    let mut sim = Sim::new(RestartPolicy::OnFailure);
    sim.put(Input::Schedule);
    assert_eq!(sim.record.state, State::Stopped, "it has none");
    sim.record.next_run_at = Some(Timestamp(9));
    sim.put(Input::Schedule);
    assert_eq!((sim.record.state, sim.record.wanted), (State::Scheduled, false));
    for input in [Input::Deadline, Input::TreeEmpty, Input::Executed] {
        assert_eq!((sim.put(input), sim.record.state), (Transition::default(), State::Scheduled));
    }
    let for_now = StopOrder { for_now: true, ..StopOrder::default() };
    assert_eq!(sim.put(Input::Stop(for_now)), Transition::default(), "the service ends, and nothing else");
    // A run that succeeds, one that fails, and one that is stopped with its service.
    sim.rules.restart.max_restarts = Some(0);
    for (code, state) in [(0, State::Scheduled), (1, State::Failed)] {
        assert_eq!(sim.put(Input::Start).actions, [Action::Spawn]);
        sim.put(Input::Spawned { pid: 7 });
        sim.put(Input::Executed);
        sim.end(code);
        assert_eq!((sim.record.state, sim.record.wanted), (state, false));
    }
    sim.put(Input::Start);
    sim.put(Input::Spawned { pid: 7 });
    sim.put(Input::Stop(for_now));
    sim.end(0);
    assert_eq!(sim.record.state, State::Scheduled);
    // Suspended while it runs, while it is being stopped, and at rest.
    let suspending = StopOrder { suspends: true, ..StopOrder::default() };
    let details = |transition: &Transition| -> Vec<String> {
        transition.events.iter().map(|event| event.detail.clone()).collect()
    };
    sim.put(Input::Start);
    sim.put(Input::Spawned { pid: 7 });
    let suspended = sim.put(Input::Stop(suspending));
    assert_eq!(details(&suspended), ["SIGTERM; its schedule is suspended"]);
    let again = sim.put(Input::Stop(suspending));
    assert_eq!(
        (kinds(&again), details(&again)),
        (vec![EventKind::Stopping], vec![STOPPED_SCHEDULE.to_owned()])
    );
    assert!(details(&sim.put(Input::Stop(StopOrder::default()))).is_empty());
    sim.end(0);
    sim.record.next_run_at = None;
    sim.record.state = State::Scheduled;
    let suspended = sim.put(Input::Stop(StopOrder::default()));
    assert_eq!((sim.record.state, kinds(&suspended)), (State::Stopped, vec![EventKind::Stopped]));
}

#[test]
fn what_is_essential_ends_the_service_when_it_has_ended_for_good() {
    let essential = |policy| {
        let mut sim = Sim::running(policy);
        sim.rules.is_essential = true;
        sim
    };
    let mut sim = essential(RestartPolicy::Never);
    let ended = sim.end(3);
    assert_eq!(ended.actions, [Action::EndService { code: 3 }]);
    assert_eq!(kinds(&ended), [EventKind::Stopped, EventKind::EndsService]);
    assert_eq!((sim.record.ends_service, sim.record.wanted), (Some(3), true));
    assert_eq!(sim.put(Input::Start).actions, [Action::Spawn]);
    assert_eq!(sim.record.ends_service, None);
    let mut sim = essential(RestartPolicy::OnFailure);
    sim.rules.restart.max_restarts = Some(1);
    assert_eq!(sim.end(3).actions, [Action::Spawn], "its policy comes first");
    sim.put(Input::Spawned { pid: 8 });
    sim.put(Input::Executed);
    let ended = sim.end(4);
    assert_eq!(kinds(&ended), [EventKind::AttemptFailed, EventKind::GaveUp, EventKind::EndsService]);
    assert_eq!(ended.actions, [Action::EndService { code: 4 }]);
    let mut sim = essential(RestartPolicy::Never);
    sim.put(Input::Stop(StopOrder::default()));
    assert!(sim.end(3).actions.is_empty() && sim.record.ends_service.is_none(), "a client stops it");
}

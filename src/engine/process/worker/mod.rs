//! The thread of one process, there from its start to its rest. It owns the record, waits in one `poll` for
//! output, the exec, what is left of the tree, messages and the deadline, and does what [`step`] says.
//! Nothing else touches the process.
//!
//! What it says is on record first: a transition is published to the memory that the keeper holds, then acted
//! on, then answered. So whenever this thread ends in the middle, the next engine repeats the action and
//! never loses the fact.

mod answers;
mod asks;
mod background;
mod exit;
mod foreign;
mod hooks;
mod left_behind;
mod limits;
mod memory;
mod needs;
mod output;
mod prepare;
mod probes;
mod resume;
mod schedule;
mod update;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::engine::process::bonds::Bonds;
use crate::engine::process::executable;
use crate::engine::process::failure;
use crate::engine::process::handle::{Msg, Process};
use crate::engine::process::hook::{RunningHook, no_start};
use crate::engine::process::input::{Child, Input, Rules, StopOrder};
use crate::engine::process::memory_look::MemoryLook;
use crate::engine::process::now::Now;
use crate::engine::process::pipes::{Pipes, inodes};
use crate::engine::process::prepare::Prepared;
use crate::engine::process::probe::Probes;
use crate::engine::process::search::Search;
use crate::engine::process::state::{Action, Transition, step};
use crate::engine::process::tree::{Rest, Tree};
use crate::engine::process::waiting::Waiting;
use crate::ring::Source;
use crate::sys::cgroup::Cgroup;
use crate::sys::clock;
use crate::sys::errno::EMFILE;
use crate::sys::pidfd::PidFd;
use crate::sys::pipe::pipe;
use crate::sys::poll::{self, PollFd, Waker};
use crate::wire::error::{Code, Error};
use crate::wire::event::NewEvent;
use crate::wire::hooks::When;
use crate::wire::id::GATEWAY;
use crate::wire::keeper::{Ended, Program, Step, ToKeeper};
use crate::wire::leader::Leader;
use crate::wire::process::{StartFailure, State};
use crate::wire::record::Record;
use crate::wire::redact::Redactor;
use crate::wire::spec::Scope;
use crate::wire::time::Timestamp;

/// The step of a start that comes before the keeper is asked.
const PREPARE: &str = "prepare";

/// Runs a process's thread until it rests.
pub fn run(process: Arc<Process>, record: Box<Record>) {
    process.here(Waker::for_this_thread());
    worker(process, record).run();
}

/// What it works with. Not in a frame of the thread's stack, which would have a page more for each process.
#[inline(never)]
fn worker(process: Arc<Process>, record: Box<Record>) -> Box<Worker> {
    let rules = Rules::from(&*process.spec());
    let was_wanted = (record.wanted, record.next_run_at.is_some());
    // Of what was started without one, or by an earlier service, the tree is found by other means.
    let cgroup = process.context.cgroups.as_ref().map(|root| root.cgroup(&process.id.to_string()));
    let cgroup = cgroup.filter(|cgroup| !record.state.is_at_rest() && cgroup.exists());
    let before = || process.context.cgroup_of_another_keeper(process.id);
    let cgroup = cgroup.or_else(|| if record.left { before() } else { None });
    let tree = Tree {
        id: process.id,
        service: process.context.feed.service(),
        cgroup,
        leader: record.leader().unwrap_or_default(),
        first_ticks: record.first_ticks,
        leader_gone: record.leader_gone,
        notified: Vec::new(),
        looks: Arc::clone(&process.context.looks),
    };
    Box::new(Worker {
        process,
        record,
        rules,
        tree,
        pipes: Pipes::default(),
        rest: Rest::Empty,
        probes: Probes::default(),
        bonds: Bonds::default(),
        taken: Vec::new(),
        waiting: Vec::new(),
        refusal: None,
        removed: false,
        spawn_pending: false,
        is_starting: false,
        is_settled: false,
        was_wanted,
        left_out_for: 0,
        foreign: None,
        unreaped_until: None,
        search: None,
        old_pid_file: None,
        hook: None,
        hooked: [0; 4],
        redactor: None,
        memory: MemoryLook::default(),
    })
}

struct Worker {
    process: Arc<Process>,
    record: Box<Record>,
    rules: Rules,
    tree: Tree,
    pipes: Pipes,
    rest: Rest,
    probes: Probes,
    bonds: Bonds,
    /// Who had the port of the probe before the process was started.
    taken: Vec<u64>,
    waiting: Vec<Waiting>,
    /// Why the last start was refused before there was a child.
    refusal: Option<Error>,
    removed: bool,
    /// The keeper was asked for a child and has not answered: there may be one already.
    spawn_pending: bool,
    /// Counted among the host's starts.
    is_starting: bool,
    /// It runs, and the stack that it took to come to this is given back.
    is_settled: bool,
    /// As of the last commit: whether a client, and its schedule, want it to run.
    was_wanted: (bool, bool),
    /// The last run for which it was told that a time was left out.
    left_out_for: u64,
    /// The process itself, where it is not the keeper's child, or not the one that the keeper made.
    foreign: Option<PidFd>,
    /// Until when it is waited for that somebody reaps it, which shows how it ended (monotonic ms).
    unreaped_until: Option<u64>,
    /// What it put into the background is looked for.
    search: Option<Search>,
    /// What was in its pid file when the present run began, and since when (ms).
    old_pid_file: Option<(Vec<u8>, i64)>,
    /// A program beside its life that runs.
    hook: Option<Box<RunningHook>>,
    /// The last run in which each of them is over.
    hooked: [u64; 4],
    /// What must not be seen in its output.
    redactor: Option<Redactor>,
    memory: MemoryLook,
}

impl Worker {
    fn run(mut self: Box<Self>) {
        self.take_patterns();
        loop {
            while let Some(msg) = self.process.next_msg() {
                self.take(msg);
                // What has come after a removal is not for a process any more: `end` refuses it.
                if self.removed {
                    return self.process.end();
                }
            }
            self.look_at_others();
            if self.record.state.is_at_rest() && self.pipes.owed.is_none() {
                match self.process.become_idle(self.record) {
                    None => return,
                    Some(record) => self.record = record,
                }
                continue;
            }
            self.settle();
            self.wait();
        }
    }

    /// The one place where this thread waits.
    fn wait(&mut self) {
        let probe = self.probes.due();
        let deadlines =
            [self.deadline(), self.pipes.drain_until, self.pipes.paused_until, probe, self.rest.due()];
        let hook = self.hook.as_ref().map(|hook| hook.wakes());
        let more = [self.pipes.exec_look_at, self.goes_at(), self.unreaped_until, hook];
        let (held, memory) = (self.held_until(), self.memory.wakes());
        let deadline = deadlines
            .into_iter()
            .chain(more)
            .chain([held, memory, self.search.as_ref().map(Search::due)])
            .flatten()
            .min();
        let paused = self.pipes.paused_until.is_some() || held.is_some();
        let [out, err] = [&self.pipes.stdout, &self.pipes.stderr].map(|p| p.as_ref().filter(|_| !paused));
        let (stdout, stderr, executed, foreign, memory, rest, probes, hook) = {
            let mut fds = vec![
                PollFd::maybe(out.map(AsFd::as_fd), PollFd::readable),
                PollFd::maybe(err.map(AsFd::as_fd), PollFd::readable),
                PollFd::maybe(self.pipes.executed.as_ref().map(AsFd::as_fd), PollFd::readable),
                self.end_of_foreign(),
                self.memory.poll_fd(),
            ];
            let kind = if self.rest.is_cgroup() { PollFd::changed } else { PollFd::readable };
            fds.extend(self.rest.fds().into_iter().map(kind));
            let probes_at = fds.len();
            fds.extend(self.hears().map(|socket| PollFd::readable(socket.as_fd())));
            fds.extend(self.probes.poll_fds());
            let hook_at = fds.len();
            fds.extend(self.hook.iter().flat_map(|hook| hook.poll_fds(!paused)));
            if poll::wait(&mut fds, deadline).is_err() {
                return;
            }
            let is_ready = |n: usize| fds[n].is_ready();
            let any_of = |fds: &[PollFd<'_>]| fds.iter().any(PollFd::is_ready);
            let (rest, probes) = (any_of(&fds[5..probes_at]), any_of(&fds[probes_at..hook_at]));
            (
                is_ready(0),
                is_ready(1),
                is_ready(2),
                is_ready(3),
                is_ready(4),
                rest,
                probes,
                any_of(&fds[hook_at..]),
            )
        };
        // First, since it came first: the program writes after its exec.
        if executed && self.spawn_pending {
            // The keeper's word is on its way, or waits for us already.
            self.pipes.executed = None;
            self.pipes.executed_early = true;
            self.process.await_message();
        } else if executed {
            self.executed();
        }
        if stdout {
            self.read(Source::Stdout);
        }
        if stderr {
            self.read(Source::Stderr);
        }
        if foreign || self.unreaped_until.is_some_and(|until| until <= clock::now_ms()) {
            self.foreign_ended();
        }
        if memory || self.memory.wakes().is_some_and(|due| due <= clock::now_ms()) {
            self.look_at_memory();
        }
        if rest || self.rest.due().is_some_and(|due| due <= clock::now_ms()) {
            let end = self.looked(self.record.stop.scope);
            self.follow(end);
        }
        if probes || self.probes.due().is_some_and(|due| due <= clock::now_ms()) {
            self.go_on_with_probes();
        }
        if hook || self.hook.as_ref().is_some_and(|hook| hook.wakes() <= clock::now_ms()) {
            self.go_on_with_hook();
        }
        self.take_time();
    }

    fn take_time(&mut self) {
        let now = clock::now_ms();
        let is_due = self.deadline().is_some_and(|d| d <= now);
        if is_due && self.record.state == State::Running {
            self.found_late();
        } else if is_due {
            let cause = self.record.cause.clone();
            self.apply(Input::Deadline, &cause);
            // A stop that was in vain may leave it running, be it ready or not.
            self.start_probes();
        }
        if self.goes_at().is_some_and(|due| due <= now) {
            self.go_if_alone();
        }
        if self.search.as_ref().is_some_and(|search| search.due() <= now) {
            self.look_for_main();
        }
        self.pipes.paused_until = self.pipes.paused_until.filter(|&p| p > now);
        if self.pipes.drain_until.is_some_and(|d| d <= now) {
            match self.held_by_reader() {
                Some(_) => self.pipes.drain_longer(now),
                None => self.close_pipes(),
            }
        }
        if self.pipes.exec_look_at.is_some_and(|due| due <= now) {
            self.look_for_exec();
        }
    }

    // ---- messages

    fn take(&mut self, msg: Msg) {
        match msg {
            Msg::Ask { what, cause, answer } => self.ask(what, &cause, answer),
            Msg::Spawned { run, pid, leader, pipes } if run == self.record.run => {
                self.spawned(pid, leader, pipes);
            }
            Msg::NotSpawned { run, step, errno } if run == self.record.run => {
                self.spawn_pending = false;
                self.spawn_failed(step, errno, Child::None);
            }
            Msg::Exited { run, ended } if run == self.record.run => self.exited(ended),
            Msg::Exited { run, .. } => self.acknowledge(run),
            Msg::Lost { run } if run == self.record.run => self.main_lost(),
            // Of a run that is no longer the present one.
            Msg::Spawned { .. } | Msg::NotSpawned { .. } | Msg::Lost { .. } => {}
            Msg::Resume(inherited) => self.resume(inherited),
            Msg::Due => self.look_at_schedule(),
        }
    }

    // ---- what happens to the run

    fn spawned(&mut self, pid: u32, leader: Leader, pipes: Option<(OwnedFd, OwnedFd)>) {
        self.spawn_pending = false;
        self.tree.leader = leader;
        self.tree.first_ticks = None;
        self.tree.leader_gone = false;
        self.record.start_ticks = Some(leader.start_ticks).filter(|&ticks| ticks != 0);
        self.record.tree = Some(leader).filter(|leader| leader.pid != 0);
        self.record.pipes = pipes.as_ref().filter(|_| self.process.context.adopts).and_then(inodes);
        let is_captured = pipes.is_some();
        (self.pipes.stdout, self.pipes.stderr) = pipes.unzip();
        self.apply_quietly(Input::Spawned { pid });
        self.watch_memory();
        if !is_captured {
            self.refusal = Some(self.no_descriptors());
            self.apply(Input::Stop(StopOrder::at_once()), "want of descriptors");
        }
        if self.pipes.executed_early {
            self.executed();
        }
    }

    fn spawn_failed(&mut self, step: Step, errno: i32, child: Child) {
        let launch = self.process.memory.launch().unwrap_or_default();
        let failure = failure::remember(step, errno, &launch);
        self.apply_quietly(Input::SpawnFailed { failure, child });
    }

    /// The pipe that closes at the exec has closed: the program executes, or the child has written why not.
    fn executed(&mut self) {
        self.pipes.executed = None;
        self.pipes.executed_early = false;
        self.pipes.exec_look_at = None;
        match self.process.memory.failure(self.record.run) {
            Some(f) => {
                if self.record.start_failure.is_none() {
                    self.spawn_failed(f.step, f.errno, Child::Exits);
                }
            }
            None => {
                self.apply_quietly(Input::Executed);
                self.start_probes();
            }
        }
    }

    fn exited(&mut self, ended: Ended) {
        if self.is_of_another(&ended) {
            return;
        }
        // The end of the exec pipe and the end of the child may come in either order.
        if self.record.start_failure.is_none() && self.process.memory.failure(self.record.run).is_some()
            || self.record.state == State::Starting
        {
            self.executed();
        }
        if self.is_to_be_followed(&ended) {
            return self.search_for_main(ended);
        }
        self.foreign = None;
        self.drain();
        self.probes.end();
        self.tree.leader_gone = true;
        self.pipes.run_ended(self.record.run);
        let exit = self.exit_of(&ended);
        self.apply_quietly(Input::Exited(exit));
        self.close_pipes_if_done();
    }

    /// Without a keeper there is nothing to do here: the thread that listens to it ends the engine.
    fn send_to_keeper(&self, message: &ToKeeper) {
        let _ = self.process.context.link.send(message, &[]);
    }

    // ---- transitions

    /// What the process did itself: who brought the present state stays on record.
    fn apply_quietly(&mut self, input: Input) {
        let cause = self.record.cause.clone();
        self.apply(input, &cause);
    }

    fn apply(&mut self, input: Input, cause: &str) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = Now {
                mono_ms: clock::now_ms(),
                wall: Timestamp::now(),
                jitter: i64::try_from(clock::now_ns() % 201).expect("a small number") - 100,
            };
            let Transition { actions, events } = step(&mut self.record, &self.rules, input, cause, now);
            self.commit(&events);
            if self.record.state != State::Running {
                self.probes.end();
            }
            self.answer();
            for action in actions {
                inputs.extend(self.act(action));
            }
            inputs.extend(self.end_of_waiting());
            inputs.extend(self.end_of_search());
            inputs.extend(self.end_of_hook());
        }
        if self.record.state.is_at_rest()
            && let Some(cgroup) = &self.tree.cgroup
        {
            cgroup.remove();
        }
        self.note_end_of_tree();
        let is_starting = self.record.state == State::Starting;
        if is_starting != self.is_starting {
            self.is_starting = is_starting;
            let starts = &self.process.context.starts;
            if is_starting { starts.begin() } else { starts.end() }
        }
    }

    fn commit(&mut self, events: &[NewEvent]) {
        self.process.context.feed.commit(&self.process.memory, &mut self.record, events, Timestamp::now());
        self.process.publish(&self.record);
        self.put_standing();
        let is_wanted = (self.record.wanted, self.record.next_run_at.is_some());
        let is_promised = is_wanted != self.was_wanted;
        self.was_wanted = is_wanted;
        self.process.mark(is_promised);
        if self.record.state.is_at_rest() {
            // The begin of a line need not wait for its end any more.
            self.process.mark_log();
        }
    }

    /// Does it; returns what follows from it at once.
    fn act(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Spawn => self.try_spawn().err().map(|e| self.not_prepared(e)),
            // Looked for, and nobody is there.
            Action::Signal { .. } if self.tree.leader_gone && matches!(self.rest, Rest::Empty) => None,
            Action::Signal { signal, scope, whom } => {
                // What cannot be signalled is still there when the grace is over.
                let reached = self.process.context.reserve.with(|| self.tree.tell(signal, scope, whom));
                self.note_left_behind(signal, reached.unwrap_or(0));
                None
            }
            Action::Kill { scope } => {
                let _ = self.process.context.reserve.with(|| self.tree.kill(scope));
                None
            }
            Action::Look { scope } => self.looked(scope),
            Action::EndService { code } => {
                let label = self.process.label();
                let next = match self.process.spec().declared {
                    true => "",
                    false => "; it begins with it again, but for one with --state none or another directory",
                };
                self.process
                    .context
                    .say(&format!("{label} is essential and has ended: the service ends{next}"));
                self.send_to_keeper(&ToKeeper::EndService { code });
                None
            }
        }
    }

    fn try_spawn(&mut self) -> Result<(), Error> {
        self.rest = Rest::Empty;
        self.is_settled = false;
        self.refusal = None;
        self.record.output_from = self.process.memory.ring().head();
        self.record.held = self.process.context.holds.is_held(self.process.id);
        if self.record.left {
            self.refuse_beside_survivors()?;
        }
        // First it is told of changes, then it looks: so none is missed between.
        self.watch_others();
        if self.waits_for_others() {
            return Ok(());
        }
        self.close_pipes();
        if self.waits_for_hook(When::PreStart).map_err(|why| no_start(&why))? {
            return Ok(());
        }
        self.note_others();
        let spec = self.process.spec();
        self.note_old_pid_file(spec.background.pid_file.as_deref());
        let more = self.prepare_probes(&spec)?;
        let (process, context) = (&self.process, &self.process.context);
        let Prepared { mut launch, unset } = self.prepare(&spec, &more)?;
        self.tell_unset(&unset);
        launch.outlives = context.adopts;
        let program = executable::checked(&spec, &mut launch)?;
        let range = process.memory.lay_launch(&launch).map_err(|e| unlaunched(&e))?;
        // A cgroup that cannot be made is no reason not to run: the tree is then found by other means.
        self.tree.cgroup = context.cgroups.as_ref().map(|root| root.cgroup(&process.id.to_string()));
        let cgroup = self.tree.cgroup.as_ref().map(Cgroup::create).transpose();
        context.note_cgroup(cgroup.as_ref().err());
        let cgroup = cgroup.unwrap_or_default();
        self.tree.cgroup = self.tree.cgroup.take().filter(|_| cgroup.is_some());
        self.begin_limits(&spec)?;
        let (process, context) = (&self.process, &self.process.context);
        let (executed, until_exec) = pipe().map_err(|_| self.no_descriptors())?;
        // Only who is the gateway gets this; its name is reserved.
        let is_gateway = process.is_internal && process.name.as_ref().is_some_and(|n| n.as_str() == GATEWAY);
        let stdin = context.gateway_end.as_ref().filter(|_| is_gateway);
        let message = ToKeeper::Spawn {
            id: process.id,
            run: self.record.run,
            launch: range,
            program: if program.is_some() { Program::Descriptor } else { Program::ByPath },
            has_stdin: stdin.is_some(),
            service: context.feed.service(),
        };
        let others = cgroup.iter().map(AsFd::as_fd).chain(program.iter().map(AsFd::as_fd));
        let others = others.chain(stdin.map(AsFd::as_fd));
        let fds: Vec<_> = [until_exec.as_fd()].into_iter().chain(others).collect();
        context.link.send(&message, &fds).map_err(|e| unlaunched(&e))?;
        self.pipes.executed = Some(executed);
        self.spawn_pending = true;
        Ok(())
    }

    fn no_descriptors(&self) -> Error {
        let failure =
            StartFailure { step: Step::Pipe.name().to_owned(), errno: EMFILE, object: String::new() };
        failure::explain(&failure, &self.process.spec())
    }

    fn not_prepared(&mut self, error: Error) -> Input {
        let failure = StartFailure { step: PREPARE.to_owned(), errno: 0, object: error.message.clone() };
        self.refusal = Some(error);
        Input::SpawnFailed { failure, child: Child::None }
    }

    /// Goes on with what an action led to at once, if it did.
    fn follow(&mut self, input: Option<Input>) {
        if let Some(input) = input {
            self.apply_quietly(input);
        }
    }

    /// Whether anything of the tree is left beside the process itself. If so, its end wakes us.
    fn looked(&mut self, scope: Scope) -> Option<Input> {
        if self.record.pid.is_some() || self.spawn_pending {
            // The keeper's word comes first; then we look.
            return None;
        }
        self.rest = self.tree.rest(scope, &self.process.context.reserve);
        if !matches!(self.rest, Rest::Empty) {
            return None;
        }
        // "Stopped" is said when its last words can be read.
        self.drain();
        (!self.is_after_end()).then_some(Input::TreeEmpty)
    }

    /// Of its state; what follows the end of a run has its own.
    fn deadline(&self) -> Option<u64> {
        self.record.deadline.filter(|_| !self.runs_hook(When::PostStop))
    }
}

/// Why the keeper could not be asked.
fn unlaunched(e: &io::Error) -> Error {
    Error::new(Code::Failed, format!("cannot start: the launch does not reach the keeper: {e}"))
}

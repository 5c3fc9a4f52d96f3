//! The hooks of a process: what they stand before waits until they are over. What they print is output of the
//! process; what follows from their end is decided in `engine/process/hook.rs`. One that was under way when
//! an engine ended is begun again by the next.

use crate::engine::process::hook::{RunningHook, Then, has_place, no_start, then};
use crate::engine::process::input::Input;
use crate::engine::process::pipes::HELD_MAX;
use crate::engine::process::prepare::Variables;
use crate::engine::process::state::Action;
use crate::engine::process::worker::Worker;
use crate::ring::{Source, Writer};
use crate::sys::clock;
use crate::wire::event::{EventKind, NewEvent};
use crate::wire::hooks::{ATTEMPTS_MAX, When};
use crate::wire::process::{End, State};
use crate::wire::record::cut;
use crate::wire::request::StreamKind;
use crate::wire::spec::Spec;
use crate::wire::time::millis;

/// How much of what it said is looked at for its last line, in bytes.
const WORDS_MAX: u64 = 512;

impl Worker {
    /// Whether something has to wait for this hook. It is begun if it has not been in this run.
    pub(super) fn waits_for_hook(&mut self, when: When) -> Result<bool, String> {
        let is_over = self.hooked[when as usize] == self.record.run;
        if is_over || !has_place(when, self.record.state) || self.process.spec().hooks.get(when).is_none() {
            return Ok(false);
        }
        if self.hook.as_ref().is_some_and(|hook| hook.when == when) {
            return Ok(true);
        }
        self.begin_hook(when, 1)
    }

    /// Begins an attempt. One that cannot be begun has failed; an error says that this counts.
    fn begin_hook(&mut self, when: When, attempt: u32) -> Result<bool, String> {
        // Whatever other one there is has lost its place.
        self.hook = None;
        self.end_hook_output();
        let spec = self.process.spec();
        let hook = spec.hooks.of(when);
        if when == When::PreStart {
            // Of its own, before the program has one.
            let root = self.process.context.cgroups.as_ref();
            self.tree.cgroup = root.map(|root| root.cgroup(&self.process.id.to_string()));
        }
        let due = clock::now_ms().saturating_add(millis(hook.limit()));
        let spec = Spec { command: hook.command.clone(), ..Spec::clone(&spec) };
        let prepared = self.prepare(&spec, &self.variables_of(when)).map_err(|e| e.message);
        let mut new = RunningHook::waiting(when, attempt, due);
        new.from = self.process.memory.ring().head();
        let begun = prepared.and_then(|prepared| new.start(&prepared.launch, &self.tree));
        match begun {
            Ok(hook) => {
                self.hook = Some(Box::new(hook));
                self.record.hook = Some(when);
                self.commit(&[]);
                Ok(true)
            }
            Err(why) => self.hook_ended(when, attempt, Err(why)),
        }
    }

    /// The variables that it has beside those of the process.
    fn variables_of(&self, when: When) -> Variables {
        let mut variables = vec![("PROVOST_HOOK".to_owned(), when.name().to_owned())];
        variables.extend(self.record.pid.map(|pid| ("PROVOST_PID".to_owned(), pid.to_string())));
        let exit = self.record.exit.filter(|_| when == When::PostStop);
        variables.extend(exit.map(|exit| match exit.end {
            End::Code(code) => ("PROVOST_EXIT_CODE".to_owned(), code.to_string()),
            End::Signal(signal) => ("PROVOST_EXIT_SIGNAL".to_owned(), signal.to_string()),
        }));
        variables
    }

    /// Takes what it says, and sees whether it is over, or is to be tried again.
    pub(super) fn go_on_with_hook(&mut self) {
        self.hear_hook(0);
        let Some(hook) = &mut self.hook else { return };
        hook.pipes.paused_until = hook.pipes.paused_until.filter(|&until| until > clock::now_ms());
        let (when, attempt, is_due) = (hook.when, hook.attempt, hook.due <= clock::now_ms());
        let ended = match hook.look() {
            Some(ended) => ended,
            None if is_due && hook.is_waiting() => {
                let begun = self.begin_hook(when, attempt);
                return self.after_hook(when, begun);
            }
            None if is_due => Err("it has taken too long, and was ended".to_owned()),
            None => return,
        };
        let from = hook.from;
        self.hear_hook(HELD_MAX);
        self.end_hook_output();
        let ended = ended.map_err(|why| self.with_last_words(why, from));
        let over = self.hook_ended(when, attempt, ended);
        self.after_hook(when, over);
    }

    /// Takes what it has said, up to about so much from each stream.
    fn hear_hook(&mut self, most: u64) {
        if self.held_until().is_some() && most == 0 {
            return;
        }
        for source in [Source::Stdout, Source::Stderr] {
            let mut left = most;
            let (ring, redactor) = (self.process.memory.ring(), self.redactor.as_ref());
            while let Some(n) = self.hook.as_mut().and_then(|hook| hook.take(source, &ring, redactor)) {
                self.process.mark_log();
                self.process.wake_watchers();
                if left == 0 {
                    break;
                }
                left = left.saturating_sub(n.max(1));
            }
        }
    }

    /// No more of what it says is output.
    fn end_hook_output(&self) {
        if self.redactor.is_some() {
            self.bring_out_rest(Writer::Hook);
        }
    }

    /// With the last line that is in the output from there on.
    fn with_last_words(&self, why: String, from: u64) -> String {
        let ring = self.process.memory.ring();
        let from = from.max(ring.head().saturating_sub(WORDS_MAX));
        let Ok(read) = ring.read(from, WORDS_MAX, StreamKind::Both) else { return why };
        let bytes: Vec<u8> = read.pieces.iter().flat_map(|piece| read.bytes(piece)).collect();
        let said = String::from_utf8_lossy(&bytes);
        match said.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => format!("{why}: {}", line.trim()),
            None => why,
        }
    }

    /// What has become of an attempt; true: there is another. An error says why what it stands before cannot
    /// be.
    fn hook_ended(&mut self, when: When, attempt: u32, ended: Result<(), String>) -> Result<bool, String> {
        self.hook = None;
        let spec = self.process.spec();
        let then = then(spec.hooks.of(when), when, attempt, ended.is_err());
        let events: Vec<_> = (ended.as_ref().err().into_iter())
            .map(|why| {
                let again = match then {
                    Then::Again { .. } => format!(" (attempt {attempt} of {ATTEMPTS_MAX})"),
                    Then::GoOn | Then::Fail => String::new(),
                };
                let detail = cut(&format!("{}: {why}{again}", when.name()));
                NewEvent { kind: EventKind::HookFailed, detail }
            })
            .collect();
        let again = if let Then::Again { after_ms } = then { Some(clock::now_ms() + after_ms) } else { None };
        self.hook = again.map(|due| Box::new(RunningHook::waiting(when, attempt + 1, due)));
        if again.is_none() {
            self.hooked[when as usize] = self.record.run;
            self.record.hook = None;
        }
        self.commit(&events);
        match (then, ended) {
            (Then::Fail, Err(why)) => Err(format!("its {} failed: {why}", when.name())),
            _ => Ok(again.is_some()),
        }
    }

    /// Goes on with what the hook stood before, if it is over.
    fn after_hook(&mut self, when: When, over: Result<bool, String>) {
        match (when, over) {
            (_, Ok(true)) => {}
            (When::PreStart, Ok(false)) => {
                let failed = self.act(Action::Spawn);
                self.follow(failed);
            }
            (When::PreStart, Err(why)) => {
                let input = self.not_prepared(no_start(&why));
                self.apply_quietly(input);
            }
            (When::PostStart, Ok(false)) => self.found_ready(),
            (When::PostStart, Err(why)) => self.apply(Input::Unfit(why), "hook"),
            (When::PreStop, _) => self.go_if_alone(),
            (When::PostStop, _) => self.apply_quietly(Input::TreeEmpty),
        }
    }

    /// One whose place is gone ends: the process has ended, say, or a stop does not wait for it.
    pub(super) fn end_of_hook(&mut self) -> Option<Input> {
        let hook = self.hook.take_if(|hook| !has_place(hook.when, self.record.state))?;
        self.end_hook_output();
        self.record.hook = None;
        let is_stopped = hook.when == When::PreStart && self.record.state == State::Stopping;
        is_stopped.then_some(Input::TreeEmpty)
    }

    /// A stop that waits for nobody.
    pub(super) fn end_hook_now(&mut self) {
        let Some(hook) = self.hook.take() else { return };
        self.end_hook_output();
        self.record.hook = None;
        self.hooked[hook.when as usize] = self.record.run;
        if hook.when == When::PostStop {
            self.apply_quietly(Input::TreeEmpty);
        }
    }

    /// Whether a stop has to wait for its hook: a failure changes nothing.
    pub(super) fn is_before_stop(&mut self) -> bool {
        self.waits_for_hook(When::PreStop).unwrap_or(false)
    }

    /// Whether a stop, or a restart, has a hook that has not run yet.
    pub(super) fn has_pre_stop(&self) -> bool {
        let is_to_come = self.hooked[When::PreStop as usize] != self.record.run;
        is_to_come
            && has_place(When::PreStop, self.record.state)
            && self.process.spec().hooks.get(When::PreStop).is_some()
    }

    /// Whether the run is over but for what follows it.
    pub(super) fn is_after_end(&mut self) -> bool {
        let has_run = self.record.start_failure.is_none() && self.record.leader_gone;
        has_run && self.waits_for_hook(When::PostStop).unwrap_or(false)
    }

    pub(super) fn runs_hook(&self, when: When) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.when == when)
    }
}

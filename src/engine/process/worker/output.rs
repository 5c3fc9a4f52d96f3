//! Output: from the pipes into the ring, as fast as it comes, or at the pace of the log if there is one. Then
//! nothing is taken that would overwrite what is still to be written, and the child waits in its pipe, for as
//! long as the file takes what is written to it; or for a reader that holds it, for as long as that one is
//! there.

use crate::engine::log_queue::STUCK_MS;
use crate::engine::process::pipes::{HELD_MAX, Pipes};
use crate::engine::process::worker::Worker;
use crate::ring::{Source, Writer};
use crate::sys::clock;
use crate::sys::poll;
use crate::wire::keeper::ToKeeper;
use crate::wire::redact::{Ending, Redactor};

/// How long the last output of a run, and what is there at a removal, waits for a slow log, ms.
const LAST_MS: u64 = 2000;

impl Worker {
    /// Takes one chunk, unless it has to wait.
    pub(super) fn read(&mut self, source: Source) {
        if self.held_until().is_some() {
            return;
        }
        if self.is_read_still() {
            self.drain();
        } else {
            self.take_chunk(source);
        }
    }

    /// The reader that holds the output hears of it: until then the process is not over for him.
    fn note_more(&self, has_more: bool) {
        let process = &self.process;
        if process.context.holds.has_more(process.id) != has_more {
            process.context.holds.set_more(process.id, has_more);
            process.wake_watchers();
        }
    }

    /// Whether whoever holds the output of the last run has not got all of it: the next one would end what is
    /// left in its pipes.
    pub(super) fn is_read_still(&self) -> bool {
        self.pipes.owed.is_some() && self.process.context.holds.has_more(self.process.id)
    }

    fn take_chunk(&mut self, source: Source) -> Option<u64> {
        let taken = self.pipes.take(source, &self.process.memory.ring(), self.redactor.as_ref());
        if taken.is_some() {
            self.process.mark_log();
            self.process.wake_watchers();
            self.look_at_output();
        } else {
            self.close_pipes_if_done();
        }
        taken
    }

    /// Takes the patterns of the definition, also for what the last engine, or the last definition, has left
    /// of lines that were not whole.
    pub(super) fn take_patterns(&mut self) {
        // It was checked: the definition would not be there otherwise.
        self.redactor = Redactor::new(&self.process.spec().redact).ok().flatten();
        if self.redactor.is_none() && !self.process.memory.ring().has_rooms() {
            return;
        }
        // A hook that ran is begun again.
        self.bring_out_rest(Writer::Hook);
        if self.redactor.is_none() {
            self.bring_out_rest(Writer::Program);
            // In memory that does not fail.
            let _ = self.process.memory.ring().leave_rooms();
        } else if self.held_by_reader().is_none() {
            for source in [Source::Stdout, Source::Stderr] {
                self.bring_out((Writer::Program, source), Ending::Open);
            }
        }
    }

    /// Brings out what is left of the lines of one that writes no more.
    pub(super) fn bring_out_rest(&self, writer: Writer) {
        while let Ok(Some(source)) = self.process.memory.ring().rest_of(writer) {
            if !self.bring_out((writer, source), Ending::Final) {
                break;
            }
        }
    }

    /// Whether that was possible.
    fn bring_out(&self, of: (Writer, Source), ending: Ending) -> bool {
        let until = clock::now_ms() + LAST_MS;
        self.wait_for_log(until, |worker| worker.held_by_log().is_none());
        let is_out = self.process.memory.ring().bring_out_rest(of, self.redactor.as_ref(), ending).is_ok();
        self.process.mark_log();
        self.process.wake_watchers();
        is_out
    }

    /// Until when nothing is taken, unless reader or log are further before (monotonic ms).
    pub(super) fn held_until(&self) -> Option<u64> {
        self.held_by_reader().or_else(|| self.held_by_log())
    }

    pub(super) fn held_by_reader(&self) -> Option<u64> {
        let process = &self.process;
        process.context.holds.until(process.id, &process.memory.ring())
    }

    fn held_by_log(&self) -> Option<u64> {
        let (process, ring) = (&self.process, self.process.memory.ring());
        if process.log.has_room(&ring) {
            return None;
        }
        // In this order: what is written after that wakes us.
        process.log.wait();
        process.mark_log();
        let is_held = !process.log.has_room(&ring) && !process.context.logs.is_stuck();
        is_held.then(|| clock::now_ms() + STUCK_MS)
    }

    /// Takes everything that is there now.
    pub(super) fn drain(&mut self) {
        let until = clock::now_ms() + LAST_MS;
        for source in [Source::Stdout, Source::Stderr] {
            let mut left = HELD_MAX;
            loop {
                // However long the reader takes: the rest stays where it is.
                if self.held_by_reader().is_some() {
                    return self.note_more(true);
                }
                self.wait_for_log(until, |worker| worker.held_by_log().is_none());
                let Some(n) = self.take_chunk(source) else { break };
                if left == 0 {
                    break;
                }
                left = left.saturating_sub(n.max(1));
            }
        }
        self.note_more(false);
    }

    /// Before the process is forgotten, its log is whole.
    pub(super) fn finish_log(&mut self) {
        let until = clock::now_ms() + LAST_MS;
        self.wait_for_log(until, |worker| {
            let (log, head) = (&worker.process.log, worker.process.memory.ring().head());
            log.wait();
            worker.process.mark_log();
            log.is_done(head) || worker.process.context.logs.is_stuck()
        });
    }

    /// Messages that come meanwhile are taken after that.
    fn wait_for_log(&self, until: u64, is_over: impl Fn(&Self) -> bool) {
        while !is_over(self) && clock::now_ms() < until {
            if poll::wait(&mut [], Some(until)).is_err() {
                return;
            }
        }
    }

    pub(super) fn close_pipes_if_done(&mut self) {
        if self.pipes.is_done() {
            self.close_pipes();
        }
    }

    /// Lets the keeper close its ends of a run that has ended.
    pub(super) fn close_pipes(&mut self) {
        if self.redactor.is_some() {
            self.bring_out_rest(Writer::Program);
        }
        self.note_more(false);
        let run = self.pipes.owed.take();
        let Pipes { stdout, stderr, .. } = std::mem::take(&mut self.pipes);
        if self.process.context.adopts {
            self.process.context.drain.read_on(stdout.into_iter().chain(stderr));
        }
        if let Some(run) = run {
            self.acknowledge(run);
        }
    }

    pub(super) fn acknowledge(&self, run: u64) {
        self.send_to_keeper(&ToKeeper::Ack { id: self.process.id, run });
    }
}

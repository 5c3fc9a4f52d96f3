//! The thread that knows when the next process with a schedule is due, and tells that process. It waits for a
//! timer of the wall clock, which also ends when that clock was set; it polls nothing, and wakes for nothing
//! while nobody has a schedule. The process itself decides what its time leads to.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::engine::context::Context;
use crate::engine::process::handle::Msg;
use crate::engine::table::Table;
use crate::sys::poll::{self, PollFd};
use crate::sys::thread;
use crate::sys::timer::WallTimer;
use crate::wire::id::ProcessId;
use crate::wire::time::Timestamp;

const THREAD: &str = "schedules";

/// Starts the thread, with all that have a schedule already.
pub fn start(context: &Arc<Context>, table: &Arc<Table>) -> io::Result<()> {
    let (context, table) = (Arc::clone(context), Arc::clone(table));
    let timer = WallTimer::new()?;
    table.all().iter().for_each(|process| process.put_schedule(process.record().next_run_at));
    thread::spawn(THREAD, move || run(&context, &table, &timer)).map(drop)
}

fn run(context: &Context, table: &Table, timer: &WallTimer) {
    let tell = |ids: Vec<ProcessId>| {
        for process in ids.into_iter().filter_map(|id| table.get(id)) {
            process.send(Msg::Due);
        }
    };
    loop {
        let (due, next) = context.schedules.take_due(Timestamp::now());
        tell(due);
        // A timer that cannot be set would miss runs, and nobody would know: the next engine tries again.
        timer.set(next.map(|next| next.0)).expect("the timer takes any time");
        if poll::wait(&mut [PollFd::readable(timer.as_fd())], None).is_err() {
            return;
        }
        if timer.was_clock_set() {
            tell(context.schedules.all());
        }
    }
}

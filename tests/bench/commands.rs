//! Whole commands as a script runs them, through `sh -c`; and the status call of the library.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::ours::{Provost, only};
use crate::programs::{ANSWER_LEN, QUESTION_LEN, our_path};
use crate::rivals::{KINDS, Kind, Rival, VERBS, Verb};
use crate::sample::{Outcome, Samples, pass, shell, until};
use crate::sweep::MARK;
use crate::table::{Goal, Table};

/// Rounds of status, stop and start of each of some services.
const ROUNDS: u32 = 7;
/// Services in one round.
const WIDTH: u32 = 6;
/// Of a supervisor whose every command takes a tenth of a second, fewer samples have to do.
const WIDTH_SLOW: u32 = 2;
/// How often each is asked for its status in one round: it is quick, and the differences are small.
const STATUS_REPEAT: u32 = 6;
/// Between stop and start: runit and s6 answer a quick succession with a pause of a second, which nobody
/// waits for in a script either.
const REST: Duration = Duration::from_millis(1100);
/// Calls of the library, and how many are made in a row: the first one after something else finds cold
/// caches.
const LIBRARY_ROUNDS: u32 = 40;
const LIBRARY_ROW: u32 = 50;

pub fn measure(ours: &mut Provost, rivals: &[Rival], dir: &Path, table: &mut Table) -> Outcome {
    library(ours, dir, table)?;
    let mut samples: [Columns; VERBS.len()] = Default::default();
    for _ in 0..ROUNDS {
        for _ in 0..STATUS_REPEAT {
            round(ours, rivals, Verb::Status, &mut samples[Verb::Status as usize])?;
        }
        for verb in [Verb::Stop, Verb::Start] {
            pass(REST);
            round(ours, rivals, verb, &mut samples[verb as usize])?;
        }
    }
    for verb in VERBS {
        let columns = &samples[verb as usize];
        let rival = if verb == Verb::Status { Kind::S6 } else { Kind::Runit };
        let figures: [(&str, Figure); 2] =
            [("", Samples::median), (", fastest tenth", Samples::fastest_tenth)];
        for (what, figure) in figures {
            let mut row = table.row(format!("sh -c '{} one'{what}", verb.name()), "ms");
            row = row.ours(figure(&columns[0])).bare(figure(&columns[1]));
            if what.is_empty() {
                row = row.goal(Goal::RivalTimes(rival, 1.1));
            }
            for kind in KINDS {
                row = row.rival(kind, figure(&columns[2 + kind as usize]));
            }
            row.done();
        }
    }
    Ok(())
}

/// What is made of the samples of one lane.
type Figure = fn(&Samples) -> Option<f64>;

/// Of one verb: ours, the bare machine's (which runs `/bin/true`), each rival's.
type Columns = [Samples; 2 + KINDS.len()];

/// Asks everybody the same of some services, in turn. Who is first moves on: what runs before leaves its
/// traces in the processor's caches, and supervisord's Python most of all.
fn round(ours: &Provost, rivals: &[Rival], verb: Verb, columns: &mut Columns) -> Outcome {
    for n in 1..=WIDTH {
        let mut lines = vec![(0, ours.line(&format!("{} s-{n}", verb.name()))), (1, "/bin/true".to_owned())];
        let takes_part = |rival: &&Rival| rival.kind != Kind::Supervisord || n <= WIDTH_SLOW;
        let theirs = rivals.iter().filter(takes_part);
        lines.extend(theirs.map(|rival| (2 + rival.kind as usize, rival.line(verb, n))));
        let first = n as usize % lines.len();
        lines.rotate_left(first);
        for (column, line) in lines {
            columns[column].time(|| shell(&line))?;
        }
    }
    Ok(())
}

/// The status of one process over an open connection, against a question and an answer of the same size that
/// nobody thinks about.
fn library(ours: &mut Provost, dir: &Path, table: &mut Table) -> Outcome {
    let socket = dir.join("echo.sock");
    let mut echo =
        Command::new(our_path()?).arg("echo").arg(&socket).env(MARK, dir).stdin(Stdio::null()).spawn()?;
    until("the echo is there", Duration::from_secs(5), || socket.exists())?;
    let mut connection = UnixStream::connect(&socket)?;
    let (question, mut answer) = ([0; QUESTION_LEN], [0; ANSWER_LEN]);
    let (mut bare, mut status) = (Samples::default(), Samples::default());
    for _ in 0..LIBRARY_ROUNDS {
        for _ in 0..LIBRARY_ROW {
            bare.time(|| {
                connection.write_all(&question)?;
                Ok(connection.read_exact(&mut answer)?)
            })?;
        }
        for _ in 0..LIBRARY_ROW {
            status.time(|| only(ours.client.status(vec!["s-1".to_owned()])?))?;
        }
    }
    drop(connection);
    echo.wait()?;
    let micros = |samples: &Samples| samples.median().map(|ms| ms * 1e3);
    let row = table.row("status, by the library", "us").ours(micros(&status)).bare(micros(&bare));
    row.goal(Goal::Value(100.0)).done();
    Ok(())
}

//! The log of one process: how far it is, and one step further.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::engine::logs::cut::{Cut, Until, Wanted, cut};
use crate::engine::logs::file::LogFile;
use crate::engine::logs::message::{Line, Origin};
use crate::engine::logs::old::{Clearing, Job};
use crate::engine::logs::outbox::{Outbox, Sent};
use crate::engine::logs::render::{Form, Lost, OURS};
use crate::engine::memory::LogPosition;
use crate::engine::process::handle::Process;
use crate::ring::{READ_MAX, Read};
use crate::sys::clock;
use crate::wire::log::{Log, LogFormat};
use crate::wire::receiver::Receiver;
use crate::wire::request::StreamKind;
use crate::wire::spec::Spec;
use crate::wire::time::Timestamp;

/// How long the begin of a line waits for its end, ms.
const PARTIAL_MS: u64 = 1000;
/// How soon a file that failed is tried again, ms.
const RETRY_MS: u64 = 1000;
/// A receiver that takes nothing for longer holds nobody up, ms: as with a write to a file.
const FULL_MAX_MS: u64 = 1000;
/// How soon a receiver that is full is looked at even if the system says nothing, ms.
const FULL_LOOK_MS: u64 = 50;
/// What the machine is called: as it was when the first line was to say so.
static HOST: LazyLock<String> = LazyLock::new(|| {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
});
/// Less than this is not looked for to fill a file up, in bytes.
const FILL_MIN: u64 = 64;

/// What a step has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There may be more.
    More,
    /// Everything is written.
    Rests,
    /// Nothing before that (monotonic ms).
    At(u64),
    /// The same, unless the receiver takes more before.
    Full(u64),
    /// There is no log to write any more.
    Over,
}

/// What is to be written at one time.
struct Batch {
    read: Read,
    cut: Cut,
    texts: [Bytes; 2],
}

/// The thread that writes the logs owns it.
pub struct Follower {
    process: Arc<Process>,
    spec: Arc<Spec>,
    /// For standard output and standard error; the first is for both where they have one file.
    files: [Option<LogFile>; 2],
    position: LogPosition,
    /// What is sent in place of being written.
    outbox: Outbox,
    /// As of when it is: output before this offset is in it, and so much before that is lost.
    outbox_end: (u64, u64),
    /// Nothing is tried before (monotonic ms).
    retry_at: Option<u64>,
    /// Since when the begin of a line waits for its end (monotonic ms).
    partial_since: Option<u64>,
    /// No file was opened yet: it may hold what an engine before us has not recorded.
    is_first: bool,
}

impl Follower {
    pub fn new(process: Arc<Process>) -> Self {
        Self {
            spec: process.spec(),
            files: [None, None],
            position: process.memory.log_position(),
            outbox: Outbox::default(),
            outbox_end: (0, 0),
            retry_at: None,
            partial_since: None,
            is_first: true,
            process,
        }
    }

    /// Writes the next lines.
    pub fn step(&mut self, clearing: &Arc<Clearing>) -> Step {
        self.take_spec();
        if !self.spec.log.is_on() {
            return Step::Over;
        }
        if let Some(at) = self.retry_at.filter(|&at| at > clock::now_ms()) {
            return Step::At(at);
        }
        self.process.log.unmark();
        let ring = self.process.memory.ring();
        if ring.head() <= self.position.offset {
            self.partial_since = None;
            let is_over = self.process.is_removed() || self.process.record().state.is_at_rest();
            return if is_over { Step::Over } else { Step::Rests };
        }
        let log = Arc::clone(&self.spec);
        match self.advance(&log.log, clearing) {
            Ok(Some(step)) => step,
            Ok(None) => {
                self.retry_at = None;
                self.partial_since = None;
                if self.process.log.recover() {
                    let lost = self.position.lost;
                    self.say(&format!(
                        "its log is written again; {lost} bytes of output were lost to it so far"
                    ));
                }
                Step::More
            }
            Err((path, e)) => self.failed(&path, &e),
        }
    }

    /// One batch. `None`: it is written.
    fn advance(&mut self, log: &Log, clearing: &Arc<Clearing>) -> Result<Option<Step>, (String, io::Error)> {
        if let Some(to) = &log.to {
            return self.send(to).map_err(|e| (to.clone(), e));
        }
        self.look(log, clearing)?;
        let wanted = log.paths().map(|path| path.is_some());
        let (mut max, mut until) = (READ_MAX, Until::Lines);
        let batch = loop {
            let batch = match self.next(log, wanted, (max, until)) {
                Ok(Some(batch)) => batch,
                Ok(None) if max == READ_MAX => return Ok(Some(self.partial())),
                Ok(None) => {
                    // A line that is longer than what the file still takes, or than any file.
                    match self.rotate(log, clearing, |_| true)? {
                        0 => until = Until::End,
                        _ => max = READ_MAX,
                    }
                    continue;
                }
                Err(e) => return Err((String::new(), e)),
            };
            let room =
                (self.files.iter().flatten()).map(|file| file.room(log.size)).min().unwrap_or(u64::MAX);
            let longest = batch.texts.iter().map(Bytes::len).max().unwrap_or(0) as u64;
            let is_alone = self.files.iter().flatten().all(LogFile::is_empty);
            if longest <= room || (is_alone && max <= FILL_MIN) {
                break batch;
            }
            // As much as the file still takes, or another file.
            let less = if log.format == LogFormat::Raw { room.min(max - 1) } else { max / 2 };
            if less < FILL_MIN && !is_alone {
                self.rotate(log, clearing, |file| file.room(log.size) < longest)?;
                max = READ_MAX;
            } else {
                max = less.max(FILL_MIN);
            }
        };
        for (n, text) in batch.texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            let file = self.files[n].as_mut().expect("a stream that is wanted has a file");
            file.add(text).map_err(|e| (file.path().display().to_string(), e))?;
        }
        self.position.offset = batch.cut.end;
        self.position.lost += batch.read.missed + batch.cut.torn;
        self.note();
        Ok(None)
    }

    /// What comes next, from so many bytes of output at most; `None`: the end of a line is not there yet.
    fn next(&self, log: &Log, wanted: Wanted, (max, until): (u64, Until)) -> io::Result<Option<Batch>> {
        let Some((read, cut)) = self.read(wanted, (max, until))? else { return Ok(None) };
        let lost = self.lost(&read, &cut);
        let label = self.process.label();
        let run = self.run();
        let more = if log.fields.is_empty() { Map::new() } else { self.more(&log.fields) };
        let form = Form { log, name: &label, run, more: &more };
        let texts = match &self.files {
            [Some(_), None] if wanted == [true, true] => {
                [form.render(&cut.runs, wanted, lost.as_ref()), Bytes::new()]
            }
            _ => [0, 1].map(|n| {
                let own = [n == 0 && wanted[0], n == 1 && wanted[1]];
                let lost = lost.as_ref().filter(|_| wanted[n]);
                form.render(&cut.runs, own, lost)
            }),
        };
        Ok(Some(Batch { read, cut, texts }))
    }

    /// What comes next of the output, in lines.
    fn read(&self, wanted: Wanted, (max, until): (u64, Until)) -> io::Result<Option<(Read, Cut)>> {
        let from = self.position.offset;
        let read = self.process.memory.ring().read(from, max, StreamKind::Both)?;
        let is_full = read.next - from - read.missed >= READ_MAX;
        let begin = from + read.missed;
        let mut found = cut(&read, from, wanted, until);
        if found.end <= begin && (is_full || (max == READ_MAX && self.is_overdue())) {
            found = cut(&read, from, wanted, Until::End);
        }
        Ok((found.end > begin).then_some((read, found)))
    }

    fn lost(&self, read: &Read, cut: &Cut) -> Option<Lost> {
        let bytes = read.missed + cut.torn;
        (bytes > 0).then(|| Lost { bytes, at: Timestamp::now(), why: self.process.log.trouble() })
    }

    /// Of which run the next lines are.
    fn run(&self) -> u64 {
        let record = self.process.record();
        record.run - u64::from(self.position.offset < record.output_from && record.run > 0)
    }

    /// Sends one batch. `None`: it is sent.
    fn send(&mut self, to: &str) -> io::Result<Option<Step>> {
        let receiver = Receiver::parse(to).map_err(|e| io::Error::other(e.message))?;
        if self.outbox.is_empty() {
            let Some((read, cut)) = self.read([true, true], (READ_MAX, Until::Lines))? else {
                return Ok(Some(self.partial()));
            };
            let notice = self.lost(&read, &cut).map(|lost| {
                let text = lost.text();
                let line = Line { stream: OURS, at: lost.at, text: text.as_bytes(), is_part: false };
                self.origin().messages(line, receiver.protocol)
            });
            self.outbox_end = (cut.end, self.position.lost + read.missed + cut.torn);
            self.outbox.add(notice.unwrap_or_default(), cut.runs);
        }
        let origin = self.origin();
        match self.outbox.send(&receiver, &|line| origin.messages(line, receiver.protocol))? {
            Sent::All { lost } => {
                (self.position.offset, self.position.lost) = self.outbox_end;
                self.position.lost += lost;
                self.note();
                Ok(None)
            }
            Sent::Full { since } if clock::now_ms() >= since + FULL_MAX_MS => {
                Err(io::Error::other("it has taken no line for a second"))
            }
            Sent::Full { since } => {
                Ok(Some(Step::Full((clock::now_ms() + FULL_LOOK_MS).min(since + FULL_MAX_MS))))
            }
        }
    }

    /// Whose lines are sent.
    fn origin(&self) -> Origin {
        let (record, run) = (self.process.record(), self.run());
        Origin {
            host: HOST.clone(),
            name: self.process.label(),
            id: self.process.id.to_string(),
            instance: record.instance,
            run,
            pid: record.pid.filter(|_| run == record.run),
        }
    }

    /// Of these fields those that there are.
    fn more(&self, fields: &[String]) -> Map<String, Value> {
        let origin = self.origin();
        let labels = || self.spec.labels.iter().map(|(key, value)| (key.clone(), value.clone().into()));
        let value = |field: &str| match field {
            "id" => Some(origin.id.clone().into()),
            "instance" => origin.instance.map(Value::from),
            "pid" => origin.pid.map(Value::from),
            "host" => Some(origin.host.clone().into()),
            "labels" => Some(Value::Object(labels().collect())),
            _ => None,
        };
        fields.iter().filter_map(|field| Some((field.clone(), value(field)?))).collect()
    }

    /// What becomes writable when the receiver takes more.
    pub fn awaits(&self) -> Option<BorrowedFd<'_>> {
        self.outbox.awaits()
    }

    /// Whether the begin of a line has waited long enough.
    fn is_overdue(&self) -> bool {
        let has_waited = self.partial_since.is_some_and(|since| since + PARTIAL_MS <= clock::now_ms());
        has_waited || self.process.log.is_awaited() || self.process.record().state.is_at_rest()
    }

    fn partial(&mut self) -> Step {
        Step::At(*self.partial_since.get_or_insert_with(clock::now_ms) + PARTIAL_MS)
    }

    /// The definition may have changed.
    fn take_spec(&mut self) {
        let spec = self.process.spec();
        if !Arc::ptr_eq(&spec, &self.spec) {
            if spec.log != self.spec.log {
                self.files = [None, None];
                self.outbox = Outbox::default();
                self.retry_at = None;
            }
            self.spec = spec;
            self.position = self.process.memory.log_position();
        }
    }

    /// Opens what is not open, and sees whether the files are still where they were.
    fn look(&mut self, log: &Log, clearing: &Arc<Clearing>) -> Result<(), (String, io::Error)> {
        let paths = log.paths_of(&self.process.label());
        let is_one = paths[0] == paths[1];
        let mut is_other = false;
        for (n, path) in paths.into_iter().enumerate() {
            let Some(path) = path.filter(|_| n == 0 || !is_one) else { continue };
            let looked = match &mut self.files[n] {
                Some(file) => file.look(),
                None => {
                    let dir = self.process.context.logs.dir();
                    LogFile::open(&path, dir).and_then(|mut file| {
                        if self.is_first {
                            file.forget_unrecorded(self.position.files[n])?;
                        }
                        self.files[n] = Some(file);
                        Ok(true)
                    })
                }
            };
            is_other |= looked.map_err(|e| (path, e))?;
        }
        if is_other {
            self.is_first = false;
            self.note();
        }
        if self.files.iter().flatten().any(|file| file.is_old(log.age)) {
            self.rotate(log, clearing, |file| file.is_old(log.age))?;
        }
        Ok(())
    }

    /// Begins another file in place of those that hold something and for which this holds; how many.
    fn rotate(
        &mut self,
        log: &Log,
        clearing: &Arc<Clearing>,
        is_due: impl Fn(&LogFile) -> bool,
    ) -> Result<usize, (String, io::Error)> {
        let mut rotated = 0;
        for file in self.files.iter_mut().flatten().filter(|file| !file.is_empty() && is_due(file)) {
            rotated += 1;
            let path = file.path().display().to_string();
            file.rotate().map_err(|e| (path, e))?;
            // Without a descriptor for it, it is done after the next rotation.
            if let Ok((directory, name)) = file.directory() {
                clearing.add(Job { directory, name, keep: log.keep, gzip: log.gzip });
            }
        }
        self.note();
        Ok(rotated)
    }

    /// Puts on record how far it is, and lets go on who waits for that.
    fn note(&mut self) {
        self.position.files = [0, 1].map(|n| self.files[n].as_ref().map(LogFile::mark).unwrap_or_default());
        // The memory is ours, and as large as that.
        let _ = self.process.memory.set_log_position(&self.position);
        if self.process.log.advance(self.position.offset, self.position.lost) {
            self.process.wake();
        }
        if self.process.context.is_stopping() {
            self.process.wake_watchers();
        }
    }

    fn failed(&mut self, path: &str, e: &io::Error) -> Step {
        let why = if path.is_empty() { e.to_string() } else { format!("{path}: {e}") };
        let is_awaited = self.process.log.is_awaited();
        if self.process.log.fail(&why) {
            self.say(&format!("its log cannot be written, and output is not held up for it: {why}"));
        }
        if is_awaited {
            self.process.wake();
        }
        let at = clock::now_ms() + RETRY_MS;
        self.retry_at = Some(at);
        for (file, recorded) in self.files.iter_mut().flatten().zip(self.position.files) {
            // Of two files one may have been written already.
            let _ = file.forget_unrecorded(recorded);
        }
        self.files = [None, None];
        Step::At(at)
    }

    fn say(&self, what: &str) {
        self.process.context.say(&format!("{}: {what}", self.process.label()));
    }
}

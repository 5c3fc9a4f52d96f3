//! Old files of a log: how they are called, how many stay, and their compression. A thread of its own
//! (`log-old`), there while there is something to do, so that no log waits for it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;

use crate::sys::append::Directory;
use crate::sys::thread;
use crate::wire::log::{OLD_SUFFIX_LEN, old_at};

const ZIPPED: &str = ".gz";
/// What is being compressed.
const UNFINISHED: &str = ".gz.new";
/// The most logs that wait to be cleared up; the next rotation of one that is left out comes again.
const JOBS_MAX: usize = 1024;
const THREAD: &str = "log-old";

/// One old file: when it became that, and what is there of it.
#[derive(Debug, PartialEq, Eq)]
struct OldFile {
    suffix: String,
    is_plain: bool,
    is_zipped: bool,
}

/// The log whose old files are to be cleared up.
#[derive(Debug)]
pub struct Job {
    pub directory: Directory,
    pub name: OsString,
    pub keep: u32,
    pub gzip: bool,
}

/// Does one job after the other.
#[derive(Debug, Default)]
pub struct Clearing(Mutex<Jobs>);

#[derive(Debug, Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    has_thread: bool,
}

impl Clearing {
    /// Has this done, soon.
    pub fn add(self: &Arc<Self>, job: Job) {
        let mut jobs = self.0.lock();
        if jobs.waiting.len() < JOBS_MAX {
            jobs.waiting.push_back(job);
        }
        if !jobs.has_thread {
            let ours = Arc::clone(self);
            // Without a thread it is done after the next rotation.
            jobs.has_thread = thread::spawn(THREAD, move || ours.run()).is_ok();
        }
    }

    fn run(&self) {
        loop {
            let mut jobs = self.0.lock();
            let Some(job) = jobs.waiting.pop_front() else {
                jobs.has_thread = false;
                return;
            };
            drop(jobs);
            // What cannot be done now is done after the next rotation.
            let _ = job.run();
        }
    }
}

impl Job {
    fn run(&self) -> io::Result<()> {
        let name = self.name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        loop {
            let names = self.directory.names(name)?;
            for left in names.iter().filter(|left| left.ends_with(UNFINISHED)) {
                if old_at(&left[name.len()..left.len() - UNFINISHED.len()]).is_some() {
                    self.directory.remove(OsStr::new(left))?;
                }
            }
            let mut files = found(&names, name);
            let surplus = files.len().saturating_sub(self.keep as usize);
            for file in files.drain(..surplus) {
                for (is_there, end) in [(file.is_plain, ""), (file.is_zipped, ZIPPED)] {
                    if is_there {
                        self.directory.remove(OsStr::new(&format!("{name}{}{end}", file.suffix)))?;
                    }
                }
            }
            let Some(next) = files.into_iter().find(|file| self.gzip && file.is_plain) else { return Ok(()) };
            let plain = format!("{name}{}", next.suffix);
            if !next.is_zipped {
                self.compress(&plain)?;
            }
            self.directory.remove(OsStr::new(&plain))?;
        }
    }

    /// A file of the name with its ending is whole, whenever this ends.
    fn compress(&self, plain: &str) -> io::Result<()> {
        let (unfinished, zipped) = (format!("{plain}{UNFINISHED}"), format!("{plain}{ZIPPED}"));
        let mut from = self.directory.read(OsStr::new(plain))?;
        let to = self.directory.create(OsStr::new(&unfinished))?;
        let mut encoder = GzEncoder::new(to, Compression::default());
        let written = io::copy(&mut from, &mut encoder).and_then(|_| {
            let mut to = encoder.finish()?;
            to.flush()?;
            to.sync_all()
        });
        if let Err(e) = written {
            self.directory.remove(OsStr::new(&unfinished))?;
            return Err(e);
        }
        self.directory.rename(OsStr::new(&unfinished), OsStr::new(&zipped))
    }
}

/// The old files among these names, the oldest first.
fn found(names: &[String], of: &str) -> Vec<OldFile> {
    let mut files: Vec<OldFile> = Vec::new();
    let mut sorted: Vec<_> = names.iter().filter_map(|name| name.strip_prefix(of)).collect();
    sorted.sort_unstable();
    for end in sorted {
        let Some((suffix, kind)) =
            end.split_at_checked(OLD_SUFFIX_LEN).filter(|(suffix, _)| old_at(suffix).is_some())
        else {
            continue;
        };
        let (is_plain, is_zipped) = (kind.is_empty(), kind == ZIPPED);
        match files.last_mut() {
            Some(last) if last.suffix == suffix => {
                last.is_plain |= is_plain;
                last.is_zipped |= is_zipped;
            }
            _ if is_plain || is_zipped => {
                files.push(OldFile { suffix: suffix.to_owned(), is_plain, is_zipped });
            }
            _ => {}
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::log::old_suffix as suffix;
    use crate::wire::time::Timestamp;
    use std::fs;
    use std::io::Read;

    #[test]
    fn names_sort_by_time_and_are_told_from_others() {
        let (first, second) = (suffix(Timestamp(999)), suffix(Timestamp(1_700_000_000_000)));
        assert_eq!((first.as_str(), first.len()), (".19700101T000000.999Z", OLD_SUFFIX_LEN));
        let names = ["a", "a.1", "a.txt", "a.19700101T000000.999Zx", "ab.19700101T000000.999Z"];
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        names.extend([format!("a{second}"), format!("a{first}.gz"), format!("a{first}")]);
        let file = |suffix: &String, is_zipped| OldFile { suffix: suffix.clone(), is_plain: true, is_zipped };
        assert_eq!(found(&names, "a"), [file(&first, true), file(&second, false)]);
    }

    #[test]
    fn the_newest_stay_and_are_compressed() {
        let dir = std::env::temp_dir().join(format!("provost-old-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let dir = fs::canonicalize(dir).unwrap();
        let put = |name: String, text: &str| fs::write(dir.join(name), text).unwrap();
        let at = |n: u64| suffix(Timestamp(n));
        (1..=4).for_each(|n| put(format!("a{}", at(n)), &format!("text {n}")));
        // A crash has left these: an unfinished one, and one that is done but for the removal.
        put(format!("a{}.gz.new", at(3)), "half");
        put("a".into(), "present");
        put("a.other".into(), "other");
        let directory = Directory::open(&dir, None).unwrap();
        let job = Job { directory, name: "a".into(), keep: 2, gzip: true };
        for _ in 0..2 {
            job.run().unwrap();
        }
        let mut names: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["a".into(), format!("a{}.gz", at(3)), format!("a{}.gz", at(4)), "a.other".into()]);
        let mut text = String::new();
        let zipped = fs::File::open(dir.join(format!("a{}.gz", at(4)))).unwrap();
        flate2::read::GzDecoder::new(zipped).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text 4");
        fs::remove_dir_all(dir).unwrap();
    }
}

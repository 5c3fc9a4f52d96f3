//! The file: what a crash, a full disk, and others do to it.

use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::process::Command;

use super::*;
use crate::engine::history::sinks::jsonl::Jsonl;
use crate::engine::history::sinks::rotation::{numbered, steps};
use crate::sys::system::euid;

/// Delivers all of these, on this thread.
fn deliver(sink: &mut Jsonl, mut events: &[Event]) -> Result<(), Failed> {
    while !events.is_empty() {
        let taken = sink.deliver(events)?;
        assert!(taken.again.is_none() && taken.rejected == 0 && taken.count > 0);
        events = &events[taken.count..];
    }
    Ok(())
}

fn sink(path: &Path, max_size: u64, max_files: u32) -> Jsonl {
    let SinkKind::Jsonl(settings) = jsonl_at(path, max_size, max_files).kind else { unreachable!() };
    Jsonl::new(settings)
}

/// All events of a file and its rotated ones, the oldest first.
fn all_seqs(path: &Path, max_files: u32) -> Vec<u64> {
    (0..=max_files).rev().flat_map(|n| seqs(&numbered(path, n))).collect()
}

#[test]
fn lines_are_what_the_command_line_prints() {
    let scratch = Scratch::new();
    let path = scratch.path("events.jsonl");
    let kept = keep(events(1..=5));
    let running = Running::new(&jsonl_at(&path, 1 << 20, 2), &kept);
    running.finish();
    kept.add(events(6..=600));
    let standing = running.finish();
    // Their form is compared with that of the command line there.
    assert_eq!(seqs(&path), (1..=600).collect::<Vec<_>>());
    assert_eq!(standing.delivered, 600);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o037, 0);
}

#[test]
fn a_restart_neither_repeats_nor_skips() {
    let scratch = Scratch::new();
    let path = scratch.path("events.jsonl");
    let kept = keep(events(1..=10));
    let settings = jsonl_at(&path, 1 << 20, 2);
    Running::new(&settings, &kept).finish();
    // What it last told of itself was lost, and a crash tore its last line.
    kept.inner.lock().cursor = 3;
    let mut text = fs::read(&path).unwrap();
    text.truncate(text.len() - 10);
    fs::write(&path, text).unwrap();
    kept.add(events(11..=12));
    Running::new(&settings, &kept).finish();
    assert_eq!(seqs(&path), (1..=12).collect::<Vec<_>>());
    // The file is further than the numbers that there are: they began again.
    let kept = keep(events(1..=2));
    let running = Running::new(&settings, &kept);
    running.finish();
    assert!(running.log()[0].contains("the numbering began anew"), "{:?}", running.log());
    assert_eq!(seqs(&path)[12..], [1, 2]);
}

#[test]
fn files_are_rotated_by_size_and_count() {
    let scratch = Scratch::new();
    let path = scratch.path("events.jsonl");
    let mut sink = sink(&path, 4096, 3);
    deliver(&mut sink, &events(1..=200)).unwrap();
    let kept = all_seqs(&path, 3);
    assert_eq!(kept, (kept[0]..=200).collect::<Vec<_>>());
    for n in 0..=3 {
        let len = fs::metadata(numbered(&path, n)).unwrap().len();
        assert!(len <= 4096 && (n == 0 || len > 3000), "{n}: {len}");
    }
    assert!(!numbered(&path, 4).exists());
    // A line that is longer than a file may be has one of its own.
    let long = Event { detail: "x".repeat(5000), ..event(201) };
    deliver(&mut sink, &[long, event(202)]).unwrap();
    assert!(fs::metadata(numbered(&path, 1)).unwrap().len() > 5000);
    assert_eq!(seqs(&path), [202]);
}

/// D11: the process is killed before each of the renames of a rotation, and before the new file's first line;
/// once with all numbers taken and once with room. Twice in a row as well, at every pair of such points.
#[test]
fn d11_killed_in_the_middle_of_a_rotation() {
    let mut points = 0;
    for files in [1, 3, 5] {
        for full in [files - 1, files] {
            for first in 0..=files as usize {
                for second in 0..=files as usize {
                    sweep(files, full, [first, second]);
                    points += 1;
                }
            }
        }
    }
    assert!(points > 100, "{points}");
}

/// `full` rotated files; then two rotations are cut short after so many of their steps.
fn sweep(max_files: u32, full: u32, kills: [usize; 2]) {
    let scratch = Scratch::new();
    let path = scratch.path("events.jsonl");
    let mut next = 1;
    for n in (0..=full).rev() {
        let lines: Vec<u8> = events(next..=next + 3).iter().flat_map(line).collect();
        fs::write(numbered(&path, n), lines).unwrap();
        next += 4;
    }
    for kill in kills {
        let before = all_seqs(&path, max_files);
        let is_full = (0..=max_files).all(|n| numbered(&path, n).exists());
        for (from, to) in steps(&path, max_files).into_iter().take(kill) {
            fs::rename(from, to).unwrap();
        }
        // The next one finds out how far it has come, and writes more than fits.
        let mut sink = sink(&path, 2048, max_files);
        assert_eq!(sink.resume().unwrap(), Some(next - 1), "{max_files} {full} {kills:?}");
        deliver(&mut sink, &events(next..=next)).unwrap();
        next += 1;
        let after = all_seqs(&path, max_files);
        // Nothing twice, nothing out of order, and none lost but the oldest file's when all numbers were
        // taken.
        assert!(after.is_sorted_by(|a, b| a < b), "{after:?}");
        let lost = before.iter().filter(|seq| !after.contains(seq)).count();
        let of_oldest = usize::from(is_full) * 4;
        assert!(lost <= of_oldest && after.ends_with(&[next - 1]), "{max_files} {full} {kills:?}: {after:?}");
    }
}

fn line(e: &Event) -> Vec<u8> {
    let mut line = crate::wire::json::event(e).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// D10, D13: moved, deleted, replaced, and cut while it is written.
#[test]
fn d10_others_may_take_the_file_away() {
    let scratch = Scratch::new();
    let path = scratch.path("events.jsonl");
    let mut sink = sink(&path, 1 << 20, 3);
    deliver(&mut sink, &events(1..=3)).unwrap();
    fs::rename(&path, scratch.path("moved")).unwrap();
    deliver(&mut sink, &events(4..=5)).unwrap();
    assert_eq!((seqs(&scratch.path("moved")), seqs(&path)), (vec![1, 2, 3], vec![4, 5]));
    fs::remove_file(&path).unwrap();
    deliver(&mut sink, &events(6..=7)).unwrap();
    assert_eq!(seqs(&path), [6, 7]);
    // Copied and cut to nothing: no hole, and its length is known again.
    fs::write(&path, "").unwrap();
    deliver(&mut sink, &events(8..=9)).unwrap();
    assert_eq!(seqs(&path), [8, 9]);
    let meta = fs::metadata(&path).unwrap();
    assert!(meta.blocks() * 512 >= meta.len());
    // Cut in the middle of a line.
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(meta.len() - 5).unwrap();
    deliver(&mut sink, &events(10..=10)).unwrap();
    assert_eq!(seqs(&path), [8, 10]);
}

/// D14, F12: what stands at the path and is no file of ours is left alone.
#[test]
fn d14_a_foreign_file_is_not_touched() {
    let scratch = Scratch::new();
    let refusal = |path: &Path| sink(path, 1 << 20, 3).resume().unwrap_err().message;
    let target = scratch.path("passwd");
    for text in ["root:x:0:0:root:/root:/bin/sh\n", "no line", "root:x:0\ntorn"] {
        fs::write(&target, text).unwrap();
        assert!(refusal(&target).contains("something else in it than events"), "{text}");
        assert_eq!(fs::read_to_string(&target).unwrap(), text);
    }
    fs::write(&target, "").unwrap();
    let link = scratch.path("link");
    symlink(&target, &link).unwrap();
    assert!(refusal(&link).ends_with("it is a symbolic link"));
    assert_eq!(fs::metadata(&target).unwrap().len(), 0);
    let fifo = scratch.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // With a reader, so that it can be opened.
    let _reader = fs::OpenOptions::new().read(true).custom_flags(crate::sys::O_NONBLOCK).open(&fifo).unwrap();
    assert!(refusal(&fifo).contains("not a regular file"));
    assert!(refusal(scratch.0.path()).contains("directory"));
}

/// A small file system of this test's own, for root.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(dir: PathBuf) -> Self {
        fs::create_dir(&dir).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&dir).status();
        assert!(mount.unwrap().success());
        Self(dir)
    }

    fn remount(&self, how: &str) {
        let mount =
            Command::new("mount").args(["-o", &format!("remount,{how},size=64k")]).arg(&self.0).status();
        assert!(mount.unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
    }
}

/// D9, D12: a full disk and a read-only one are tried again, and heal; no line is torn, lost or doubled by
/// them.
#[test]
fn d9_a_full_disk_heals() {
    if euid() != 0 {
        return;
    }
    let scratch = Scratch::new();
    let disk = Tmpfs::new(scratch.path("disk"));
    let path = disk.0.join("events.jsonl");
    fs::write(disk.0.join("ballast"), vec![1; 40 << 10]).unwrap();
    let kept = keep(events(1..=20));
    let running = Running::new(&jsonl_at(&path, 1 << 20, 2), &kept);
    running.finish();
    kept.add(events(21..=100));
    let standing = running.until(|standing| standing.failed >= 1);
    assert!(standing.last_error.unwrap().1.contains("No space left on device"));
    // Whole lines only, even now.
    assert_eq!(seqs(&path), (1..=20).collect::<Vec<_>>());
    fs::remove_file(disk.0.join("ballast")).unwrap();
    running.finish();
    assert_eq!(seqs(&path), (1..=100).collect::<Vec<_>>());
    assert_eq!(running.log().len(), 2, "{:?}", running.log());
    assert!(running.log()[1].contains("works again after "), "{:?}", running.log());
    drop(running);

    disk.remount("ro");
    kept.add(events(101..=110));
    let running = Running::new(&jsonl_at(&path, 1 << 20, 2), &kept);
    let standing = running.until(|standing| standing.failed >= 1);
    assert!(standing.last_error.unwrap().1.contains("Read-only file system"));
    disk.remount("rw");
    running.finish();
    assert_eq!(seqs(&path), (1..=110).collect::<Vec<_>>());
}

#[test]
fn throughput() {
    const COUNT: u64 = 20_000;
    let scratch = Scratch::new();
    let path = scratch.path("events.jsonl");
    let kept = events(1..=COUNT);
    let mut sink = sink(&path, 1 << 30, 2);
    let begin = Instant::now();
    kept.chunks(sink.batch_max()).for_each(|batch| deliver(&mut sink, batch).unwrap());
    figure("jsonl", COUNT, begin.elapsed());
    assert_eq!(seqs(&path).len() as u64, COUNT);
}

//! Rotation: `path` becomes `path.1`, `path.1` becomes `path.2`, and so on. Killed between any two of these
//! steps, it leaves a gap in the numbers; the next rotation fills that gap first, so that no file is ever
//! moved onto another one, but for the oldest when all numbers are taken.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file with this number; 0 is the one that is written.
pub fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

/// The renames that free number 0, in their order, as (from, to). `taken(n)`: whether there is a file with
/// that number.
fn plan(taken: impl Fn(u32) -> bool, max: u32) -> Vec<(u32, u32)> {
    let gap = (1..=max).find(|n| !taken(*n)).unwrap_or(max);
    (0..gap).rev().map(|n| (n, n + 1)).collect()
}

/// The renames to be done now.
pub fn steps(path: &Path, max: u32) -> Vec<(PathBuf, PathBuf)> {
    let taken = |n| fs::symlink_metadata(numbered(path, n)).is_ok();
    let named = |(from, to)| (numbered(path, from), numbered(path, to));
    plan(taken, max).into_iter().map(named).collect()
}

/// Frees the path. The error names the file.
pub fn rotate(path: &Path, max: u32) -> Result<(), (PathBuf, io::Error)> {
    for (from, to) in steps(path, max) {
        fs::rename(&from, &to).map_err(|e| (to, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_filled_before_anything_is_given_up() {
        let plan = |taken: &[u32], max| plan(|n| taken.contains(&n), max);
        assert_eq!(plan(&[], 3), [(0, 1)]);
        assert_eq!(plan(&[1], 3), [(1, 2), (0, 1)]);
        assert_eq!(plan(&[1, 2, 3], 3), [(2, 3), (1, 2), (0, 1)]);
        assert_eq!(plan(&[1, 3], 3), [(1, 2), (0, 1)]);
        assert_eq!(plan(&[2, 3], 3), [(0, 1)]);
        assert_eq!(plan(&[1], 1), [(0, 1)]);
        assert_eq!(numbered(Path::new("/a/b.jsonl"), 2), Path::new("/a/b.jsonl.2"));
    }
}

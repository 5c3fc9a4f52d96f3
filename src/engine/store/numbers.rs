//! Up to which number events were given to a sink before they were stored: a few bytes beside the database,
//! which are written over where they lie, so that it can be done on a full disk and while another program
//! holds the database. A later service goes on behind them, and no sink ever has two events of one number.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::sys::{O_NOFOLLOW, O_NONBLOCK};

const NAME: &str = "provost.numbers";
/// The number, and the same with each bit turned: a write that was cut in two is none.
const LEN: usize = 16;

/// Makes the file while there is room for it. Without it, nothing is given before it is stored.
pub fn prepare(dir: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(O_NOFOLLOW);
    match options.open(dir.join(NAME)) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
        Ok(file) => {
            file.write_all_at(&encode(0), 0)?;
            file.sync_all()
        }
    }
}

/// The largest number that was given; 0: none.
#[must_use]
pub fn given(dir: &Path) -> u64 {
    let read = || {
        let file =
            OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(dir.join(NAME)).ok()?;
        let mut bytes = [0; LEN];
        file.read_exact_at(&mut bytes, 0).ok()?;
        decode(bytes)
    };
    read().unwrap_or(0)
}

/// Before numbers up to this one are given. One caller at a time.
pub fn give(dir: &Path, up_to: u64) -> io::Result<()> {
    if given(dir) >= up_to {
        return Ok(());
    }
    let file = OpenOptions::new().write(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(dir.join(NAME))?;
    file.write_all_at(&encode(up_to), 0)?;
    file.sync_data()
}

fn encode(number: u64) -> [u8; LEN] {
    (u128::from(number) << 64 | u128::from(!number)).to_le_bytes()
}

fn decode(bytes: [u8; LEN]) -> Option<u64> {
    let both = u128::from_le_bytes(bytes);
    let number = u64::try_from(both >> 64).ok()?;
    (encode(number) == bytes).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_and_what_was_cut_in_two_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(give(dir.path(), 7).is_err(), "there is no file");
        prepare(dir.path()).unwrap();
        assert_eq!(given(dir.path()), 0);
        give(dir.path(), 7).unwrap();
        give(dir.path(), 5).unwrap();
        prepare(dir.path()).unwrap();
        assert_eq!(given(dir.path()), 7);
        let mut torn = encode(0x0102_0304);
        torn[8] ^= 1;
        assert_eq!((decode(encode(0x0102_0304)), decode(torn)), (Some(0x0102_0304), None));
    }
}

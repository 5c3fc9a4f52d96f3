//! The store on files that were damaged at random: whatever happens, no process gets a command that was never
//! given, and a new store can be made beside what is left of the old one.

use std::fs;
use std::path::PathBuf;

use crate::engine::store::directory::{set_aside, with_suffix};
use crate::engine::store::salvage::salvage;
use crate::engine::store::tests::{Dir, copy_as_after_a_kill, event, put, running};
use crate::engine::store::{Change, ErrorKind, Kept, Sqlite, StoreError};

/// How many databases are damaged.
const ROUNDS: u64 = 200;

/// Numbers that look random and are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    /// Less than `below`.
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below.max(1) as u64).unwrap()
    }

    fn garbage(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|b| *b = u8::try_from(self.roll(256)).unwrap());
    }

    /// Damages a file, at a place and in a way of its own.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self.roll(6) {
            0 => {
                for _ in 0..=self.roll(40) {
                    bytes[self.roll(len)] ^= 1 << self.roll(8);
                }
            }
            1 => bytes.truncate(self.roll(len)),
            2 => self.garbage(&mut bytes[..100]),
            3 => {
                let page = self.roll(len / 4096) * 4096;
                let end = (page + 4096).min(len);
                self.garbage(&mut bytes[page..end]);
            }
            // Half of a page, as a torn write leaves it.
            4 => {
                let at = self.roll(len / 512) * 512;
                let end = (at + 2048).min(len);
                bytes[at..end].fill(0);
            }
            // The header of a page, which leads to others.
            5 => {
                let page = self.roll(len / 4096) * 4096;
                let end = (page + 64).min(len);
                self.garbage(&mut bytes[page..end]);
            }
            other => unreachable!("a roll below 6 gave {other}"),
        }
    }
}

/// A store with some of everything, as after a kill: part of it in the database, part in its log. With every
/// process as it ever was.
fn original() -> (Dir, Vec<Kept>) {
    let live = Dir::new();
    let mut store = Sqlite::open(&live.state()).unwrap();
    let mut ever = Vec::new();
    let mut kept: Vec<_> = (0..40).map(|n| running(&format!("web-{n}"), 100 + n)).collect();
    // One is too large for a page.
    kept[7].spec.command.push("x".repeat(20_000));
    for round in 0..3 {
        let events: Vec<_> = (0..200).map(|n| event(1 + round * 200 + n, Some(kept[0].record.id))).collect();
        for process in &mut kept {
            process.record.run += 1;
            process.record.cause = format!("round {round}");
        }
        ever.extend(kept.clone());
        let env = [("KEY".to_owned(), round.to_string())];
        let put = kept.iter().map(put).collect();
        store.write(&Change { put, env: Some(&env), events: &events, ..Change::default() }).unwrap();
        if round == 1 {
            store.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
        }
    }
    let killed = Dir::new();
    copy_as_after_a_kill(&live, &killed);
    (killed, ever)
}

/// The result, or none if it is known to be corrupt. There is no other answer.
#[track_caller]
fn or_corrupt<T>(result: Result<T, StoreError>, round: u64) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(e) => {
            assert_eq!(e.kind, ErrorKind::Corrupt, "round {round}: {e}");
            None
        }
    }
}

#[test]
fn e5_damage_never_becomes_a_command() {
    let (original, ever) = original();
    let (mut refused, mut noticed, mut salvaged) = (0, 0, 0);
    for round in 0..ROUNDS {
        let dir = Dir::new();
        copy_as_after_a_kill(&original, &dir);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (round + 1));
        // The first numbers of near seeds are alike.
        for _ in 0..20 {
            dice.roll(2);
        }
        for suffix in [&[""][..], &["-wal"], &["", "-wal"]][dice.roll(3)] {
            let path = with_suffix(&dir.database(), suffix);
            let mut bytes = fs::read(&path).unwrap();
            dice.damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
        }
        let given_up = Dir::new();
        copy_as_after_a_kill(&dir, &given_up);
        // When it is used: it works, or it says what it is.
        let mut believed = Vec::new();
        match or_corrupt(Sqlite::open(&dir.state()), round) {
            None => refused += 1,
            Some(mut store) => {
                if let Some(loaded) = or_corrupt(store.load(), round) {
                    noticed += usize::from(!loaded.damaged.is_empty());
                    believed.extend(loaded.kept);
                }
                let new = running("new", 1);
                let change =
                    Change { put: vec![put(&new)], events: &[event(9999, None)], ..Change::default() };
                or_corrupt(store.write(&change), round);
                or_corrupt(store.events(0, 1000, None), round);
                or_corrupt(store.events(0, 1000, Some(ever[0].record.id)), round);
                or_corrupt(store.runs(ever[0].record.id, 10), round);
                store.about();
                let remove = ever.iter().map(|kept| kept.record.id).collect();
                or_corrupt(store.write(&Change { remove, ..Change::default() }), round);
            }
        }
        // And when it is given up at once.
        let aside = set_aside(&given_up.state()).unwrap();
        let found = salvage(&aside);
        salvaged += usize::from(!found.is_empty());
        believed.extend(found);
        for kept in believed {
            let label = kept.record.id;
            assert!(ever.contains(&kept), "round {round}: what it says of {label} was never put");
        }
        let mut store = Sqlite::open(&given_up.state()).unwrap();
        assert!(store.load().unwrap().kept.is_empty());
    }
    // The damage is real, and it is not all that happens.
    let rounds = usize::try_from(ROUNDS).unwrap();
    assert!(refused > rounds / 10 && refused < rounds, "{refused} of {rounds} were refused");
    assert!(noticed > 0, "no damaged row was noticed");
    assert!(salvaged > rounds / 10, "only {salvaged} of {rounds} gave anything");
}

#[test]
fn a_damaged_row_is_told_and_not_believed() {
    let dir = Dir::new();
    let mut store = Sqlite::open(&dir.state()).unwrap();
    let kept = ["web", "db", "mail", "cron"].map(|name| running(name, 10));
    let env = [("GOOD".to_owned(), "1".to_owned()), ("BAD".to_owned(), "2".to_owned())];
    let cursors = [("file".to_owned(), 1), ("far".to_owned(), 2)];
    let put = kept.iter().map(put).collect();
    let change =
        Change { put, env: Some(&env), cursors: &cursors, events: &[event(1, None)], ..Change::default() };
    store.write(&change).unwrap();
    store
        .conn
        .execute_batch(
            "UPDATE processes SET wanted = 0 WHERE name = 'web';
             UPDATE processes SET boot_id = 'boot-2' WHERE name = 'db';
             UPDATE processes SET life = 7 WHERE name = 'mail';
             UPDATE env SET value = '3' WHERE key = 'BAD'",
        )
        .unwrap();
    let loaded = store.load().unwrap();
    assert_eq!((&loaded.kept[..], &loaded.env[..]), (&kept[3..], &env[..1]));
    assert_eq!(loaded.cursors, cursors[..1]);
    let said = loaded.damaged.join("\n");
    for part in ["'web'", "'db'", "'mail'", "'BAD'", "sink far"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    // Written again, it is whole.
    store.write(&change).unwrap();
    assert_eq!(store.load().unwrap().kept, kept);
}

#[test]
fn what_is_damaged_is_set_aside_and_never_written_over() {
    let (original, ever) = original();
    let before = ["", "-wal"].map(|s| fs::read(with_suffix(&original.database(), s)).unwrap());
    let mut asides: Vec<PathBuf> = Vec::new();
    for _ in 0..3 {
        let aside = set_aside(&original.state()).unwrap();
        assert!(aside.to_str().unwrap().contains("/provost.db.damaged-2"), "{}", aside.display());
        assert!(!original.database().exists() && !asides.contains(&aside));
        asides.push(aside);
        drop(Sqlite::open(&original.state()).unwrap());
    }
    // The newest of each, those in the log included; and what is set aside stays as it was.
    let mut newest = ever[80..].to_vec();
    newest.sort_by_key(|kept| kept.record.id);
    for _ in 0..2 {
        assert_eq!(salvage(&asides[0]), newest);
    }
    let after = ["", "-wal"].map(|s| fs::read(with_suffix(&asides[0], s)).unwrap());
    assert!(before == after, "it was changed");
    assert!(set_aside(&original.state().join("nothing")).is_err());
    // A disk that damages each one is not filled with them.
    let error = (0..20).find_map(|_| {
        drop(Sqlite::open(&original.state()).unwrap());
        set_aside(&original.state()).err()
    });
    assert!(error.is_some_and(|e| e.to_string().contains("20 damaged databases")));
    assert!(original.database().exists());
}

#[test]
fn rows_behind_a_damaged_page_are_salvaged() {
    let (original, ever) = original();
    let store = Sqlite::open(&original.state()).unwrap();
    let of = "SELECT count(*) FROM dbstat WHERE name = 'processes' AND pagetype = 'leaf'";
    let leaf = "SELECT pageno FROM dbstat WHERE name = 'processes' AND pagetype = 'leaf' ORDER BY path LIMIT 1 OFFSET 1";
    let leaves: u16 = store.conn.query_row(of, (), |row| row.get(0)).unwrap();
    let page = store.conn.query_row(leaf, (), |row| row.get::<_, u16>(0)).map(usize::from).unwrap();
    assert!(leaves > 2, "{leaves}");
    drop(store);
    let mut bytes = fs::read(original.database()).unwrap();
    bytes[(page - 1) * 4096..page * 4096].fill(0x55);
    fs::write(original.database(), bytes).unwrap();
    assert_eq!(Sqlite::open(&original.state()).unwrap_err().kind, ErrorKind::Corrupt);
    let found = salvage(&original.database());
    assert!(found.len() < 40 && found.len() >= 20, "{} of 40 were salvaged", found.len());
    assert!(found.iter().all(|kept| ever.contains(kept)));
}

//! What is checked, and not timed: that a database holds what it should.

use crate::{
    data::{FIRST, KEY_BYTES, Key, Random, word_sum},
    engine::{Engine, Reader, Result},
    task::Task,
};

/// What a scan of everything has to add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    pub rows: u64,
    pub sum: u64,
}

impl Total {
    /// Adds an entry: every byte of the value, and the first half of the key.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(word_sum(value));
        self.sum = self.sum.wrapping_add(word_sum(key.get(..8).unwrap_or_default()));
    }

    /// Of the entries `0..n` of a freshly loaded database.
    pub fn expected(task: &Task) -> Self {
        let values = task.values();
        let mut total = Self::default();
        let mut value = Vec::new();
        for key in (0..task.count()).map(|i| task.key(i)) {
            values.fill(&key, 0, &mut value);
            total.add(&key, &value);
        }
        total
    }
}

/// Reads every entry: keys have to ascend, values to fit. Returns how many there are.
pub fn everything<E: Engine>(task: &Task, engine: &E) -> Result<u64> {
    let values = task.values();
    let (mut rows, mut wrong) = (0, 0);
    let mut last: Option<Key> = None;
    let follows = |last: Key, key: Key| if E::ORDERED { last < key } else { last != key };
    let check = |key: &[u8], value: &[u8]| {
        rows += 1;
        match Key::try_from(key) {
            Ok(key) if last.is_none_or(|last| follows(last, key)) && values.fits(&key, value) => {
                last = Some(key);
            }
            _ => wrong += 1,
        }
    };
    engine.read(|reader| reader.scan(&FIRST, usize::MAX, check))?;
    fail_if(wrong, "entries of a scan are out of order or have a wrong value")?;
    Ok(rows)
}

/// Whether the database holds exactly `count` entries, all as they should be.
pub fn holds<E: Engine>(task: &Task, engine: &E, count: u64) -> Result<()> {
    let rows = everything(task, engine)?;
    if rows != count {
        return Err(format!("{rows} entries are stored and {count} should be").into());
    }
    Ok(())
}

/// Warms caches: one scan of everything, which is checked, and n/4 gets (where memory is short, no
/// more than are timed).
pub fn warm<E: Engine>(task: &Task, engine: &E) -> Result<()> {
    let count = task.count();
    holds(task, engine, count)?;
    let mut random = Random::new(0x3a73);
    let most = task.limit_mib.map_or(u64::MAX, |_| task.ops(u64::MAX));
    let gets = (count / 4).min(most);
    let mut found = 0;
    engine.read(|reader| {
        let mut keys = (0..gets).map(|_| task.key(random.below(count)));
        keys.try_for_each(|key| reader.get(&key, |_| found += 1))
    })?;
    fail_if(gets - found, "keys that are stored were not found")
}

/// An error if anything was `wrong`.
pub fn fail_if(wrong: u64, what: &str) -> Result<()> {
    match wrong {
        0 => Ok(()),
        wrong => Err(format!("{wrong} {what}").into()),
    }
}

/// A key as an engine gives it, if it can be one.
pub fn is(key: &[u8], sought: &Key) -> bool {
    key.len() == KEY_BYTES && key == sought
}

//! The six core workloads of YCSB (Cooper et al., "Benchmarking cloud serving systems with YCSB",
//! SoCC 2010), on one thread. Every read sees all writes before it.

use super::check::{self, Total, fail_if};
use crate::{
    data::{Random, Values, Zipf},
    engine::{Engine, Reader, Result},
    measure::{Laps, Meter, Phase},
    task::Task,
};
use std::hint::black_box;

/// The longest scan.
const LONGEST: u64 = 100;

/// What is done besides reading, in per cent of all operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    update: u64,
    insert: u64,
    scan: u64,
    modify: u64,
    /// Reads go to what was inserted last, or else to keys that are always hot.
    latest: bool,
}

impl Mix {
    /// The workload of that letter.
    pub fn of(letter: char) -> Result<Self> {
        let none = Self::default();
        Ok(match letter {
            'a' => Self { update: 50, ..none },
            'b' => Self { update: 5, ..none },
            'c' => none,
            'd' => Self { insert: 5, latest: true, ..none },
            'e' => Self { insert: 5, scan: 95, ..none },
            'f' => Self { modify: 50, ..none },
            other => return Err(format!("YCSB has no workload {other}").into()),
        })
    }
}

struct Session<'a, E> {
    task: &'a Task,
    engine: &'a E,
    mix: Mix,
    values: Values,
    value: Vec<u8>,
    zipf: Zipf,
    random: Random,
    /// Entries stored by now.
    count: u64,
    writes: u64,
    wrong: u64,
}

/// Runs a mix on a loaded database.
pub fn run<E: Engine>(task: &Task, mix: Mix) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    check::warm(task, &engine)?;
    let count = task.count();
    let most = if mix.scan > 0 { 400_000 } else { 2_000_000 };
    let mut session = Session {
        task,
        engine: &engine,
        mix,
        values: task.values(),
        value: Vec::new(),
        zipf: Zipf::new(count),
        random: Random::new(1),
        count,
        writes: 0,
        wrong: 0,
    };
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    for _ in 0..task.ops(count.min(most)) {
        session.step()?;
        if !laps.lap() {
            break;
        }
    }
    let phase = meter.phase("mix", laps.count())?.with(&laps);
    let (count, writes) = (session.count, session.writes);
    fail_if(session.wrong, "operations read something wrong")?;
    check::holds(task, &engine, count)?;
    engine.close()?;
    Ok(vec![phase.wrote(writes * task.entry_bytes())])
}

impl<E: Engine> Session<'_, E> {
    fn step(&mut self) -> Result<()> {
        let Mix { update, insert, scan, modify, .. } = self.mix;
        let dice = self.random.below(100);
        if dice < update {
            let i = self.draw();
            self.write(i)
        } else if dice < update + insert {
            self.count += 1;
            self.write(self.count - 1)
        } else if dice < update + insert + scan {
            self.scan()
        } else {
            let i = self.draw();
            self.read(i)?;
            if dice < update + insert + scan + modify { self.write(i) } else { Ok(()) }
        }
    }

    fn draw(&mut self) -> u64 {
        if self.mix.latest {
            return self.count - 1 - self.zipf.rank(&mut self.random);
        }
        self.zipf.scattered(&mut self.random)
    }

    fn read(&mut self, i: u64) -> Result<()> {
        let key = self.task.key(i);
        let mut right = false;
        let found = |value: &[u8]| right = self.values.fits(&key, value);
        self.engine.read(|reader| reader.get(&key, found))?;
        self.wrong += u64::from(!right);
        Ok(())
    }

    fn write(&mut self, i: u64) -> Result<()> {
        let key = self.task.key(i);
        self.writes += 1;
        self.values.fill(&key, self.writes, &mut self.value);
        self.engine.put(&key, &self.value)
    }

    fn scan(&mut self) -> Result<()> {
        let i = self.draw();
        let key = self.task.key(i);
        let limit = 1 + self.random.below(LONGEST);
        let mut total = Total::default();
        let mut right = false;
        let each = |found: &[u8], value: &[u8]| {
            right |= total.rows == 0 && check::is(found, &key) && self.values.fits(&key, value);
            total.add(found, value);
        };
        self.engine.read(|reader| reader.scan(&key, limit as usize, each))?;
        self.wrong += u64::from(!right || black_box(total).rows > limit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_add_up() {
        for letter in 'a'..='f' {
            let mix = Mix::of(letter).unwrap();
            assert!(mix.update + mix.insert + mix.scan + mix.modify <= 100);
        }
        assert!(Mix::of('g').is_err());
    }
}

//! Loading entries in bulk, in any order and in bounded memory: a radix sort by hash.
//!
//! Entries are put in [parts](parts) by the first bits of their hashes as they come. If they do
//! not fit in the memory that the database leaves, what there is goes to a [spill](spill) file,
//! part by part, again and again. At the end each part is read, sorted in memory, and appended to
//! the run; one that does not fit in memory either is divided in the same way by the next bits. So
//! a load that fits in memory is written once, and a larger one twice.
//!
//! A large run is cut into files for a slice of all hashes each, which several threads make side by
//! side. Of entries with the same key the last one counts.

mod parts;
mod spill;

use super::{
    output::{Output, bits_for},
    run::{HashRun, hash_run_name},
    runs::Table,
};
use crate::{
    Result,
    codec::seeded_hash,
    sorted::Kind,
    table::{Intake, Shop},
};
use parking_lot::Mutex;
use parts::{Entry, PART_BITS, PARTS, Parts, last_of_each, records, sort};
use spill::{Piece, Spill};
use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Bytes added between two looks at how much memory there is.
const LOOK_BYTES: u64 = if cfg!(test) { 1 << 10 } else { 1 << 20 };
/// What of the memory a part may take when it is sorted: so many times less.
const PART_SHARE: usize = 8;
/// And what a divided part has, however little memory there is.
const DIVIDED_MIN: usize = if cfg!(test) { 4 << 10 } else { 64 << 10 };
/// A run is cut into files for threads to make side by side, if each has this many bytes, and into
/// no more than these.
const FILE_BYTES_MIN: u64 = if cfg!(test) { 16 << 10 } else { 16 << 20 };
const FILES_AT_ONCE: u64 = 4;
/// Parts of parts: there are no more bits.
const LEVELS: u32 = u64::BITS / PART_BITS;

/// Writes entries as files of one run of `age`.
pub(super) fn load(
    entries: &mut Intake<'_>,
    shop: &Shop,
    table: &Table,
    age: u64,
) -> Result<Vec<Arc<HashRun>>> {
    let mut sorter = Sorter::new(shop, table, (shop.room.memory)())?;
    let mut look_at = LOOK_BYTES;
    while let Some((key, value)) = entries.next()? {
        sorter.add(seeded_hash(key, table.seed), key, value)?;
        if entries.bytes() >= look_at {
            look_at = entries.bytes() + LOOK_BYTES;
            shop.breathe()?;
            sorter.memory = (shop.room.memory)();
        }
    }
    let (bytes, count) = (entries.bytes(), entries.count());
    let at_once = (bytes / FILE_BYTES_MIN).clamp(1, FILES_AT_ONCE).ilog2() as u8;
    let bits = bits_for(table, bytes, count).max(at_once);
    sorter.spill.iter_mut().try_for_each(Spill::finish)?;
    sorter.finish(age, bits)
}

/// Sorts entries by hash.
struct Sorter<'a> {
    shop: &'a Shop,
    table: &'a Table,
    /// How much of it may be used.
    memory: usize,
    /// How many times the hashes were divided before: all begin with the same bits.
    level: u32,
    parts: Parts,
    spill: Option<Spill<'a>>,
}

/// Memory of one thread that sorts.
#[derive(Default)]
struct Desk {
    /// What was read of a part.
    read: Vec<u8>,
    order: Vec<Entry>,
}

impl<'a> Sorter<'a> {
    fn new(shop: &'a Shop, table: &'a Table, memory: usize) -> Result<Self> {
        Ok(Self { shop, table, memory, level: 0, parts: Parts::new(memory)?, spill: None })
    }

    #[inline]
    fn add(&mut self, hash: u64, key: &[u8], value: &[u8]) -> Result<()> {
        let part = hash << (self.level * PART_BITS) >> (u64::BITS - PART_BITS);
        let has_room = self.parts.held() <= self.memory - 2 * (self.memory / PART_SHARE);
        if has_room && self.parts.add(part as usize, key, value) {
            return Ok(());
        }
        self.spill()?;
        // Where nothing is, there is room.
        self.parts.add(part as usize, key, value);
        Ok(())
    }

    /// Makes room in memory.
    #[cold]
    fn spill(&mut self) -> Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::create(self.shop)?),
        };
        for part in 0..PARTS {
            if self.level == 0 {
                spill.add(part, self.parts.of(part))?;
                continue;
            }
            // What is so much in one part may be one key, again and again: only the last counts.
            let blocks: Vec<&[u8]> = self.parts.of(part).collect();
            let (mut order, mut left) = (Vec::new(), Vec::new());
            sort(&blocks, self.table.seed, &mut order);
            last_of_each(&blocks, &order, |_, record| {
                record.append_to(&mut left);
                Ok(())
            })?;
            spill.add(part, [left.as_slice()].into_iter())?;
        }
        self.parts.clear();
        Ok(())
    }

    /// Writes all entries as files with slices of so many bits.
    fn finish(&self, age: u64, bits: u8) -> Result<Vec<Arc<HashRun>>> {
        let units = 1 << u32::from(bits).min(PART_BITS);
        let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            let mut desk = Desk::default();
            loop {
                let unit = next.fetch_add(1, Ordering::Relaxed);
                if unit >= units {
                    return Ok(());
                }
                let of_unit = unit * (PARTS / units)..(unit + 1) * (PARTS / units);
                let mut output = Output::new(self.shop, self.table, age, bits);
                let written = of_unit.map(|part| self.pour(part, &mut output, &mut desk));
                let files = written.collect::<Result<()>>().and_then(|()| output.finish());
                // Nobody begins anything after a failure.
                made.lock().extend(files.inspect_err(|_| next.store(units, Ordering::Relaxed))?);
            }
        };
        let worked = side_by_side(self.shop.room.threads.min(units), &work);
        let made = made.into_inner();
        worked.inspect_err(|_| self.discard(&made))?;
        Ok(made)
    }

    /// What of a part is not in memory, oldest first.
    fn spilled(&self, part: usize) -> impl Iterator<Item = (&Spill<'a>, &Piece)> {
        self.spill.iter().flat_map(move |spill| spill.of(part).iter().map(move |p| (spill, p)))
    }

    /// Appends the entries of a part to the run.
    fn pour(&self, part: usize, output: &mut Output<'_>, desk: &mut Desk) -> Result<()> {
        self.shop.breathe()?;
        let spilled = self.spilled(part).map(|(_, piece)| piece.len());
        if spilled.sum::<usize>() > self.memory / PART_SHARE && self.level + 1 < LEVELS {
            return self.divide(part, output, desk);
        }
        let Desk { read, order } = desk;
        read.clear();
        for (spill, piece) in self.spilled(part) {
            spill.read(piece, read)?;
        }
        let mut blocks = vec![read.as_slice()];
        blocks.extend(self.parts.of(part));
        sort(&blocks, self.table.seed, order);
        last_of_each(&blocks, order, |hash, record| {
            output.add(hash, record.key, Kind::Put, record.value)
        })
    }

    /// [`Self::pour`] for a part that is too large to be sorted in memory.
    #[cold]
    fn divide(&self, part: usize, output: &mut Output<'_>, desk: &mut Desk) -> Result<()> {
        let memory = match self.level {
            0 => (self.memory / PART_SHARE).max(DIVIDED_MIN),
            _ => self.memory,
        };
        let mut inner = Self::new(self.shop, self.table, memory)?;
        inner.level = self.level + 1;
        let seed = self.table.seed;
        let mut add = |block: &[u8]| {
            let mut all = records(block);
            all.try_for_each(|record| {
                inner.add(seeded_hash(record.key, seed), record.key, record.value)
            })
        };
        for (spill, piece) in self.spilled(part) {
            desk.read.clear();
            spill.read(piece, &mut desk.read)?;
            add(&desk.read)?;
        }
        self.parts.of(part).try_for_each(&mut add)?;
        inner.spill.iter_mut().try_for_each(Spill::finish)?;
        (0..PARTS).try_for_each(|part| inner.pour(part, output, desk))
    }

    /// Removes files that will not be published.
    fn discard(&self, files: &[Arc<HashRun>]) {
        for run in files {
            // What cannot be removed is an orphan that the next open removes.
            let _ = self.shop.folder.remove(&hash_run_name(run.meta().file));
        }
    }
}

/// Does `work` on so many threads, of which the caller's is one.
fn side_by_side(threads: usize, work: &(impl Fn() -> Result<()> + Sync)) -> Result<()> {
    thread::scope(|scope| {
        let start =
            |_| thread::Builder::new().name("tonearm-load".into()).spawn_scoped(scope, work);
        // Where the system has no more threads, there are fewer.
        let others: Vec<_> = (1..threads).map_while(|i| start(i).ok()).collect();
        let mine = work();
        let join = |other: thread::ScopedJoinHandle<'_, _>| {
            other.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        let theirs = others.into_iter().map(join).collect::<Vec<Result<()>>>();
        theirs.into_iter().fold(mine, Result::and)
    })
}

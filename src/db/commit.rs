//! The write path: one short lock, one append, one insert; then, if asked for, one sync.
//!
//! ```text
//!   outside the lock   check limits, hash keys, checksum the record
//!   under `commit`     find room -> append to the log -> insert in memtables -> publish `visible`
//!   outside again      ride or drive a sync of the log, if the commit is to survive power loss
//! ```
//!
//! Under the lock nothing waits: when a memtable is full a fresh one takes its place, and when too
//! many are full the writer lets go of the lock before it waits (or, without threads, works).

use super::shared::{Commit, Shared, Tables, Writing};
use crate::{
    Error, ErrorKind, Result,
    codec::key_hash,
    log::{Position, payload_crc},
    memtable::{Memory, Memtable, MemtableWriter},
    sorted::Kind,
    table::{Batch, Checked, Durability, Op, SHORT_MAX, TableId, TableState, span_of},
};
use parking_lot::MutexGuard;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Full memtables a table may have before its writers wait.
const SEALED_MAX: usize = 2;
/// The longest that a write is slowed down, however large it is.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// How many operations of a batch wait for memory at a time.
const AHEAD: usize = 8;
/// How long a writer sleeps at most before it looks for room again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a commit needs in one table's memtable.
struct Need<'a> {
    table: &'a Arc<TableState>,
    entries: usize,
    bytes: usize,
}

impl Shared {
    /// Commits one operation.
    pub(super) fn write_one(
        &self,
        table: &Arc<TableState>,
        op: Op<'_>,
        durability: Option<Durability>,
    ) -> Result<()> {
        let writing = self.writing()?;
        op.check()?;
        let hash = op.hash();
        // All that comes before the insert hides how long the memory takes.
        table.view().active.prefetch(hash);
        let head = op.head(table.id());
        let mut buffer = [0; SHORT_MAX];
        let parts = op.log_parts(&head);
        let whole = op.short(&head, &mut buffer).map(|whole| [whole]);
        let parts = whole.as_ref().map_or(&parts[..], |whole| &whole[..]);
        let (crc, payload) = (payload_crc(parts), parts.iter().map(|part| part.len()).sum());
        self.keep_pace(op.bytes())?;
        let need = Need { table, entries: 1, bytes: op.bytes() };
        let mut commit = self.lock_with_room(writing, &[need], payload)?;
        let seq = commit.seq + 1;
        let end = commit.appender.append(seq, 1, crc, parts)?;
        commit.insert(table.id(), op, hash, seq);
        self.publish_writes(commit, seq, op.bytes());
        self.make_durable(writing, end, durability)
    }

    /// Commits all of a batch, or nothing; nothing too if it is a transaction's and does not hold.
    /// Returns the number of its last operation.
    pub(super) fn write_batch(
        &self,
        batch: &Batch,
        checked: Option<&Checked<'_>>,
        durability: Option<Durability>,
    ) -> Result<u64> {
        let writing = self.writing()?;
        let needs = needs(batch);
        let bytes = needs.iter().map(|need| need.bytes).sum();
        let parts = [batch.payload()];
        let crc = payload_crc(&parts);
        self.keep_pace(bytes)?;
        let lock = || self.lock_with_room(writing, &needs, batch.payload().len());
        let (mut commit, arrivals) = match checked {
            Some(checked) => self.lock_checked(checked, lock)?,
            None => (lock()?, None),
        };
        let first = commit.seq + 1;
        let end = commit.appender.append(first, batch.len() as u32, crc, &parts)?;
        let mut seq = commit.seq;
        let mut ahead = batch.hashes();
        for (table, hash) in ahead.by_ref().take(AHEAD) {
            commit.prefetch(table, hash);
        }
        for (table, hash, op) in batch.ops() {
            seq += 1;
            if let Some((table, hash)) = ahead.next() {
                commit.prefetch(table, hash);
            }
            if let Some(table) = batch.tables().get(table) {
                commit.insert(table.id(), op, hash, seq);
            }
        }
        self.publish_writes(commit, seq, bytes);
        drop(arrivals);
        self.make_durable(writing, end, durability).map(|()| seq)
    }

    /// Shows what was inserted to readers and lets the next writer in.
    #[inline]
    fn publish_writes(&self, mut commit: MutexGuard<'_, Commit>, seq: u64, bytes: usize) {
        commit.seq = seq;
        self.visible.publish(seq);
        commit.unaudited += bytes;
        if commit.unaudited >= self.audit_bytes() {
            commit.unaudited = 0;
            self.audit(&mut commit);
        }
    }

    /// Waits until the commit that ended at `end` survives what it was asked to survive.
    #[inline]
    fn make_durable(
        &self,
        writing: &Writing,
        end: Position,
        durability: Option<Durability>,
    ) -> Result<()> {
        match durability.unwrap_or(self.options.durability) {
            Durability::Process => Ok(()),
            Durability::PowerLoss => writing.log.sync_to(end),
        }
    }

    /// Makes every commit so far survive a power cut.
    pub(super) fn sync(&self) -> Result<()> {
        let writing = self.writing()?;
        let end = writing.commit.lock().appender.end();
        writing.log.sync_to(end)
    }

    /// Slows the writer of `bytes` if background work lags behind.
    #[inline]
    pub(super) fn keep_pace(&self, bytes: usize) -> Result<()> {
        if self.pace.is_easy() { Ok(()) } else { self.slow_down(bytes) }
    }

    #[cold]
    fn slow_down(&self, bytes: usize) -> Result<()> {
        if self.options.threads == 0 {
            return self.work_off_pressure();
        }
        let start = Instant::now();
        let mut delay = self.pace.delay(bytes, start);
        if delay.is_some() {
            while let Some(nap) = delay.filter(|_| start.elapsed() < PAUSE_MAX) {
                std::thread::sleep(nap);
                // A batch is worth many naps.
                delay = if self.pace.is_easy() { None } else { self.pace.delay(0, Instant::now()) };
            }
            self.pace.note_delay(start.elapsed());
        }
        while self.pace.pressure() >= 1.0 {
            let start = Instant::now();
            let waited = self.signals.wait_for_room(self.signals.finished(), LOOK_AGAIN);
            self.pace.note_merge_wait(start.elapsed());
            waited?;
        }
        Ok(())
    }

    /// The commit lock, once every memtable has room for what is needed of it. The log record will
    /// have `payload` bytes.
    fn lock_with_room<'a>(
        &self,
        writing: &'a Writing,
        needs: &[Need<'_>],
        payload: usize,
    ) -> Result<MutexGuard<'a, Commit>> {
        loop {
            let mut commit = writing.commit.lock();
            if let Some(error) = writing.log.poisoned() {
                return Err(error);
            }
            if !commit.appender.has_room(payload) {
                self.seal_with_segment(&mut commit);
            }
            let mut short = None;
            for need in needs {
                if !commit.has_room(need)? {
                    short = Some(need);
                    break;
                }
            }
            let Some(need) = short else { return Ok(commit) };
            if need.table.view().sealed.len() < SEALED_MAX {
                let least = capacity_for(need)?;
                self.seal(&mut commit, need.table, least);
                continue;
            }
            drop(commit);
            self.wait_for_room(need.table)?;
        }
    }

    /// The log is about to go on to its next segment: where several tables are written to,
    /// memtables that are more than half full end with this one. So when they are absorbed, full
    /// segments are synced and soon not needed, and the one being written is left in peace.
    #[cold]
    fn seal_with_segment(&self, commit: &mut Commit) {
        let half = self.options.memtable_capacity() / 2;
        let is_due = |table: &Arc<TableState>| {
            let view = table.view();
            view.active.bytes() > half && view.sealed.len() < SEALED_MAX
        };
        let tables = self.table_list();
        let written = tables.iter().filter(|table| table.first_unsettled().is_some());
        if written.count() < 2 {
            return;
        }
        let due: Vec<_> = tables.into_iter().filter(is_due).collect();
        due.iter().for_each(|table| self.seal(commit, table, 0));
    }

    /// Puts a fresh memtable with room for at least `least` bytes in the place of the active one.
    pub(super) fn seal(&self, commit: &mut Commit, table: &Arc<TableState>, least: usize) {
        let capacity = self.options.memtable_capacity().max(least);
        let active = table.view().active.clone();
        // A table that filled this one will fill the next.
        let memory = match active.bytes() > capacity / 2 {
            true => Memory::Pooled(self.pool.clone()),
            false => Memory::New(self.pool.clone()),
        };
        let (fresh, writer) = Memtable::new(capacity, memory);
        if active.is_empty() {
            // Nothing to seal: it was only too small for a large batch.
            table.replace_active(fresh);
        } else {
            table.rotate(fresh, commit.seq, commit.appender.end());
        }
        commit.writers.set(table.id(), writer);
        self.signals.ask();
    }

    /// Too many memtables are full: waits for one to be absorbed, or does it itself.
    #[cold]
    fn wait_for_room(&self, table: &Arc<TableState>) -> Result<()> {
        if self.options.threads == 0 {
            return self.absorb(table).map(|_| ());
        }
        let start = Instant::now();
        let seen = self.signals.finished();
        if table.view().sealed.len() < SEALED_MAX {
            return Ok(());
        }
        self.signals.ask();
        let waited = self.signals.wait_for_room(seen, LOOK_AGAIN);
        self.pace.note_flush_wait(start.elapsed());
        waited
    }

    /// Tells writers how far flushes lag behind. (Without threads they do them by themselves.)
    pub(super) fn measure_backlog(&self, tables: &Tables) {
        if self.options.threads == 0 {
            return;
        }
        let (capacity, most) = (self.options.memtable_capacity(), SEALED_MAX + 1);
        let (mut worst, mut held) = (0.0, 0);
        for table in tables.values() {
            let view = table.view();
            let active = view.active.bytes();
            held += active + view.sealed.iter().map(|s| s.memtable.bytes()).sum::<usize>();
            let filled = view.sealed.len() as f64 + (active as f64 / capacity as f64).min(1.0);
            worst = f64::max(worst, filled);
        }
        // Many tables together, none of which has much.
        let memory = self.options.memory.max(most * capacity);
        let most = most as f64;
        self.pace.set_backlog(worst.max(held as f64 / memory as f64 * most), most);
    }

    /// How many bytes are written between two looks at the budgets.
    fn audit_bytes(&self) -> usize {
        (self.options.memtable_capacity() / 16).clamp(1 << 10, 1 << 20)
    }

    /// Keeps memtables of all tables within the memory budget, and the log within its own: seals
    /// the largest memtable, or the one that holds on to the oldest part of the log.
    fn audit(&self, commit: &mut Commit) {
        let Some(writing) = &self.writing else { return };
        if writing.log.wants_pages() {
            self.signals.ask_for_pages();
        }
        let tables = self.tables.read();
        let active = |table: &&Arc<TableState>| table.view().active.bytes();
        let total: usize = tables.values().map(|table| active(&table)).sum();
        self.measure_backlog(&tables);
        let half = self.options.memtable_capacity() / 2;
        let is_half_full =
            |table: &Arc<TableState>| (half..half + half / 8).contains(&active(&table));
        if tables.values().any(is_half_full) && self.pool.want() {
            self.signals.ask();
        }
        let can_seal = |table: &&Arc<TableState>| {
            let view = table.view();
            view.sealed.len() < SEALED_MAX && !view.active.is_empty()
        };
        let victim = if total > self.options.memory / 2 {
            tables.values().filter(can_seal).max_by_key(active).cloned()
        } else if writing.log.bytes() > self.options.log_bytes {
            let oldest = |table: &&Arc<TableState>| table.first_unsettled();
            let pinning = tables.values().filter(|table| oldest(table).is_some());
            pinning.min_by_key(oldest).filter(can_seal).cloned()
        } else {
            None
        };
        let sealed = |table: &Arc<TableState>| -> usize {
            table.view().sealed.iter().map(|sealed| sealed.memtable.bytes()).sum()
        };
        let waiting: usize = tables.values().map(sealed).sum();
        if tables.values().any(|table| table.view().active.is_mostly_deletes()) {
            // Somebody puts them in order, before a reader has to.
            self.signals.ask();
        }
        let is_over = total + waiting > self.options.memory / 2;
        drop(tables);
        let is_due = victim.is_some() || (is_over && waiting > 0);
        if let Some(table) = victim {
            self.seal(commit, &table, 0);
        }
        if is_due && self.options.threads == 0 {
            // Nobody else absorbs what is full: the next writer does.
            self.pace.set_pressure(1.0);
        }
    }
}

impl Commit {
    /// Inserts an operation for which there is room.
    #[inline]
    pub(super) fn insert(&mut self, table: TableId, op: Op<'_>, hash: u64, seq: u64) {
        if let Some(writer) = self.writers.get(table) {
            apply(writer, op, hash, seq);
        }
        self.tail.note(table, op, seq);
    }

    /// Asks for the memory that [`Self::insert`] will look at first.
    #[inline]
    fn prefetch(&mut self, table: TableId, hash: u64) {
        if let Some(writer) = self.writers.get(table) {
            writer.prefetch(hash);
        }
    }

    #[inline]
    fn has_room(&mut self, need: &Need<'_>) -> Result<bool> {
        match self.writers.get(need.table.id()) {
            Some(writer) => Ok(writer.has_room(need.entries, need.bytes)),
            None => {
                let message = format!("table {:?} was dropped", need.table.name());
                Err(Error::new(ErrorKind::NotFound, message))
            }
        }
    }
}

/// Inserts an operation into a memtable that has room for it.
#[inline]
pub(super) fn apply(writer: &mut MemtableWriter, op: Op<'_>, hash: u64, seq: u64) {
    match op {
        Op::Put { key, value } => writer.insert(key, hash, seq, Kind::Put, value),
        Op::Delete { key } => writer.insert(key, hash, seq, Kind::Delete, &[]),
        Op::DeleteRange { start, end } => writer.delete_range(span_of(start, end), seq),
    }
}

/// How large a memtable has to be to take what is needed of it.
fn capacity_for(need: &Need<'_>) -> Result<usize> {
    Memtable::capacity_for(need.entries, need.bytes).ok_or_else(|| {
        let message = format!(
            "{} operations with {} bytes are too much for one batch: commit it in parts",
            need.entries, need.bytes
        );
        Error::new(ErrorKind::Limit, message)
    })
}

/// What a batch needs of each of its tables.
fn needs(batch: &Batch) -> Vec<Need<'_>> {
    let new = |table| Need { table, entries: 0, bytes: 0 };
    let mut needs: Vec<Need<'_>> = batch.tables().iter().map(new).collect();
    for (table, _, op) in batch.ops() {
        if let Some(need) = needs.get_mut(table) {
            need.entries += 1;
            need.bytes += op.bytes();
        }
    }
    needs
}

impl Op<'_> {
    /// The hash of its key, for the memtable.
    #[inline]
    pub(super) fn hash(self) -> u64 {
        match self {
            Op::Put { key, .. } | Op::Delete { key } => key_hash(key),
            Op::DeleteRange { .. } => 0,
        }
    }
}

//! Opening: read the manifest, replay the log, be where we were.
//!
//! The bytes of a log that a killed process left may be in the page cache only, and a sync that
//! failed before the crash may have marked them clean. So they are not trusted to become durable:
//!
//! ```text
//!   1  read and check the manifest, the files' ends, the log    (changes nothing)
//!   2  remove orphans
//!   3  copy what the old log still holds into a new log, sync it
//!   4  manifest edit: the log starts there          (until here a crash changes nothing)
//!   5  replay the new log into memtables, absorbing as they fill
//!   6  remove the old log
//! ```
//!
//! So a database that is damaged stays as it is, for whoever can read more of it. The work is
//! bounded by the log, whatever the size of the data.

use super::{
    Builder, Db, catalogue,
    commit::apply,
    machine,
    pace::Pace,
    shared::{Commit, Shared, Tables, Writers, Writing, access, instance_id},
    signals::Signals,
    tail::Tail,
};
use crate::{
    Error, ErrorKind, Result,
    cache::BlockCache,
    log::{Appender, Log, LogOptions, Position, Record, Replayed, replay, segment_name},
    manifest::{Edit, Manifest, State, TableRecord},
    memtable::{Memory, Memtable},
    sorted::{FileId, Graveyard, RunAccess},
    table::{Engine, FILE_SUFFIXES, FileIds, History, Op, TableId, TableState, Visible, read_ops},
    vfs::{Folder, Lock},
};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, atomic::AtomicBool},
};

/// The size of a new database's first log segment.
const FIRST_SEGMENT: u64 = 1 << 20;
/// No database gets to this many operations: a number beyond it was never given out.
const SEQ_MAX: u64 = 1 << 56;
/// How often a reader starts over because a writer changed files under it.
const READER_TRIES: usize = 20;

impl Db {
    pub(super) fn open_writer(options: Builder, folder: Arc<dyn Folder>) -> Result<Db> {
        let locked = folder.lock().map_err(|e| Error::io("lock the folder", "lock", e))?;
        let lock = locked.ok_or_else(|| {
            let message = "the database is open in another process, or elsewhere in this one: \
                           close it there, or open it with open_read_only";
            Error::new(ErrorKind::Locked, message)
        })?;
        let (mut manifest, state) = open_manifest(&options, &folder)?;
        let parts = Parts::open(&options, &folder, &state)?;
        let checked = check_log(&*folder, &state)?;
        let files = remove_orphans(&*folder, &mut manifest)?;
        let (log, appender, last_seq) = rehome(&options, &folder, &mut manifest, &checked)?;
        let state = manifest.state().clone();
        let commit = Commit {
            seq: last_seq,
            appender,
            writers: Writers::default(),
            tail: Tail::new(parts.history.clone()),
            unaudited: 0,
        };
        let writing = Writing {
            commit: Mutex::new(commit),
            manifest: Mutex::new(manifest),
            log,
            _lock: lock,
        };
        let shared = parts.into_shared(options, folder.clone(), files, Some(writing), None);
        let last_seq = shared.replay_into_memtables(&state, last_seq)?;
        shared.visible.publish(last_seq);
        if let Some(writing) = &shared.writing {
            writing.log.remove_below(state.log_start)?;
        }
        shared.measure_pressure();
        Ok(Db::start(shared))
    }

    pub(super) fn open_reader(options: Builder, folder: Arc<dyn Folder>) -> Result<Db> {
        let mut tries = 0;
        loop {
            let mut seen = None;
            let last = match read_once(&options, &folder, &mut seen) {
                Ok(Some(db)) => return Ok(db),
                Ok(None) => None,
                // A writer may remove files between our reading of the manifest and of the files.
                Err(error) if may_have_moved(&folder, &error) => Some(error),
                Err(error) => return Err(error),
            };
            tries += 1;
            if tries <= READER_TRIES {
                continue;
            }
            // What is missing in files that are still the database's is damage.
            let is_there = |state| Manifest::load(&*folder).is_ok_and(|now| now == state);
            return match last {
                Some(error) if seen.is_none_or(is_there) => Err(error),
                _ => {
                    let message = "the writer keeps changing the database faster than it is read";
                    Err(Error::new(ErrorKind::Busy, message))
                }
            };
        }
    }
}

/// The parts of a database that do not depend on the log.
struct Parts {
    visible: Arc<Visible>,
    views: Arc<Mutex<()>>,
    tables: Tables,
    cache: Arc<BlockCache>,
    memory: u64,
    history: Arc<History>,
}

impl Parts {
    fn open(options: &Builder, folder: &Arc<dyn Folder>, state: &State) -> Result<Self> {
        let cache = Arc::new(BlockCache::new(options.cache_bytes()));
        let bytes = |table: &crate::manifest::TableRecord| -> u64 {
            table.runs.iter().map(|file| file.bytes).sum()
        };
        let memory = machine::memory();
        let file_bytes = state.tables.values().map(bytes).sum();
        let access: RunAccess = access(options.read_path, file_bytes, memory, &cache);
        let visible = Arc::new(Visible::default());
        let views = Arc::new(Mutex::new(()));
        let mut tables = Tables::new();
        for record in state.tables.values() {
            let (engine, home) = catalogue::open_home(folder, record, &access)?;
            let (active, _) = Memtable::new(options.memtable_capacity(), Memory::Own);
            let (views, visible) = (views.clone(), visible.clone());
            let name = record.name.as_str();
            let table = TableState::new(record.id, engine, name, home, active, views, visible);
            tables.insert(record.id, Arc::new(table));
        }
        let history = History::new(options.history_bytes());
        Ok(Self { visible, views, tables, cache, memory, history })
    }

    fn into_shared(
        self,
        options: Builder,
        folder: Arc<dyn Folder>,
        files: FileIds,
        writing: Option<Writing>,
        reading: Option<Box<dyn Lock>>,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            id: instance_id(),
            options,
            folder,
            visible: self.visible,
            views: self.views,
            tables: RwLock::new(self.tables),
            files: Arc::new(files),
            history: self.history,
            graveyard: Graveyard::new(),
            cache: self.cache,
            loads: Arc::default(),
            memory: self.memory,
            signals: Signals::default(),
            pace: Pace::default(),
            pool: Arc::default(),
            closing: AtomicBool::new(false),
            catalogue: Mutex::new(()),
            writing,
            _reading: reading,
        })
    }
}

fn open_manifest(options: &Builder, folder: &Arc<dyn Folder>) -> Result<(Manifest, State)> {
    match Manifest::open(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound && options.create => {
            Manifest::create(folder, random_id())
        }
        opened => opened,
    }
}

/// A number that no other database has.
pub(super) fn random_id() -> u128 {
    let half = || u128::from(RandomState::new().hash_one(std::process::id()));
    (half() << 64) | half()
}

/// Removes files that no manifest edit ever published; says which number the next file gets.
///
/// What the manifest says has to be durable first: a file that a lost edit removed is no orphan.
fn remove_orphans(folder: &dyn Folder, manifest: &mut Manifest) -> Result<FileIds> {
    let names = folder.list().map_err(|e| Error::io("list the folder", "", e))?;
    let number = |name: &String| FILE_SUFFIXES.iter().find_map(|suffix| file_number(name, suffix));
    let files = || names.iter().filter_map(|name| Some((name, number(name)?)));
    let next = files().map(|(_, file)| file.saturating_add(1)).max();
    let next = manifest.state().next_file.max(next.unwrap_or(0));
    let is_orphan = |(_, file): &(&String, FileId)| !manifest.state().is_live(*file);
    let orphans: Vec<_> = files().filter(is_orphan).collect();
    if !orphans.is_empty() {
        manifest.commit(&[])?;
    }
    for (name, _) in orphans {
        folder.remove(name).map_err(|e| Error::io("remove a leftover", name, e))?;
    }
    Ok(FileIds::starting_at(next))
}

fn file_number(name: &str, suffix: &str) -> Option<FileId> {
    name.strip_suffix(suffix)?.parse().ok()
}

/// Shows the records of the log that the manifest names, and checks that none is missing.
pub(crate) fn read_log(
    folder: &dyn Folder,
    state: &State,
    visit: &mut dyn FnMut(Record<'_>) -> Result<()>,
) -> Result<Replayed> {
    let found = replay(folder, state.db_id, state.log_start, visit)?;
    if state.log_end != 0 {
        found.check_closed_at(Position::from_raw(state.log_end))?;
    }
    Ok(found)
}

/// Reads all of the log before anything is changed.
fn check_log(folder: &dyn Folder, state: &State) -> Result<Replayed> {
    let none = HashMap::new();
    let found = read_log(folder, state, &mut |record| {
        each_unsettled(&none, &record, &mut |_, _, _| Ok(()))
    })?;
    if last_seq_in(state) >= SEQ_MAX {
        return Err(Error::corrupt("manifest", 0, "its sequence numbers are past all bounds"));
    }
    Ok(found)
}

/// Copies what the old log still holds into a new one and makes the manifest start there. Returns
/// the new log and the last sequence number given out.
fn rehome(
    options: &Builder,
    folder: &Arc<dyn Folder>,
    manifest: &mut Manifest,
    checked: &Replayed,
) -> Result<(Arc<Log>, Appender, u64)> {
    let state = manifest.state().clone();
    let first = next_segment(&**folder)?.max(state.log_start + 1);
    let log_options = LogOptions {
        segment_bytes: options.segment_bytes,
        first_segment_bytes: FIRST_SEGMENT.min(options.segment_bytes),
        mapped: options.mapped_log,
    };
    let (log, mut appender) = Log::start(folder.clone(), state.db_id, first, log_options)?;
    let settled = settled_marks(&state);
    let found = replay(&**folder, state.db_id, state.log_start, &mut |record| {
        let mut is_needed = false;
        each_unsettled(&settled, &record, &mut |_, _, _| {
            is_needed = true;
            Ok(())
        })?;
        if is_needed {
            appender.append(record.first_seq, record.count, record.crc, &[record.payload])?;
        }
        Ok(())
    })?;
    if (found.end, found.records) != (checked.end, checked.records) {
        let what = "the log was read differently a moment ago";
        return Err(Error::corrupt(&segment_name(state.log_start), 0, what));
    }
    log.sync_to(appender.end())?;
    let last = last_seq_in(&state).max(found.last_seq);
    manifest.commit(&[Edit::SetLogStart(first), Edit::SetLastSeq(last)])?;
    Ok((log, appender, last))
}

/// The last sequence number that the manifest knows to have been given out. A table may have
/// settled more than the log still shows: the segment that held it is removed, and the next one
/// empty. To give a settled number out again would be to lose what gets it.
fn last_seq_in(state: &State) -> u64 {
    let settled = state.tables.values().map(|table| table.settled);
    settled.fold(state.last_seq, u64::max)
}

fn last_seq_of(record: &Record<'_>) -> u64 {
    record.first_seq.saturating_add(u64::from(record.count)).saturating_sub(1)
}

/// A number greater than that of every log segment in the folder.
fn next_segment(folder: &dyn Folder) -> Result<u64> {
    let names = folder.list().map_err(|e| Error::io("list the folder", "", e))?;
    let ids = names.iter().filter_map(|name| file_number(name, ".log"));
    Ok(ids.max().map_or(1, |id| id.saturating_add(1)))
}

/// Shows each operation of a record that is not in a file yet. Checks all of them.
fn each_unsettled(
    settled: &HashMap<TableId, u64>,
    record: &Record<'_>,
    visit: &mut dyn FnMut(TableId, u64, Op<'_>) -> Result<()>,
) -> Result<()> {
    let mut seq = record.first_seq;
    let end = record.first_seq.saturating_add(u64::from(record.count));
    if end >= SEQ_MAX {
        return Err(record.corrupt("its sequence numbers are past all bounds"));
    }
    for op in read_ops(record.payload) {
        // More operations than the record numbers would take the numbers of the next one.
        let Some((table, op)) = op.filter(|_| seq < end) else {
            return Err(record.corrupt(format!("operation {seq} does not decode")));
        };
        if settled.get(&table).is_some_and(|&settled| settled < seq) {
            visit(table, seq, op)?;
        }
        seq = seq.saturating_add(1);
    }
    Ok(())
}

fn settled_marks(state: &State) -> HashMap<TableId, u64> {
    state.tables.values().map(|table| (table.id, table.settled)).collect()
}

impl Shared {
    /// Fills the memtables from the log, absorbing those that are full.
    fn replay_into_memtables(self: &Arc<Self>, state: &State, last_seq: u64) -> Result<u64> {
        let writing = self.writing()?;
        for table in self.table_list() {
            let memory = Memory::New(self.pool.clone());
            let (active, writer) = Memtable::new(self.options.memtable_capacity(), memory);
            table.replace_active(active);
            writing.commit.lock().writers.set(table.id(), writer);
        }
        let settled = settled_marks(state);
        let mut last = last_seq;
        let found = replay(&*self.folder, state.db_id, state.log_start, &mut |record| {
            last = last.max(last_seq_of(&record));
            each_unsettled(&settled, &record, &mut |table, seq, op| self.replay_one(table, seq, op))
        })?;
        let copied = writing.log.stats().records;
        if found.records != copied {
            let what = format!("{} of {copied} records just copied are there", found.records);
            return Err(Error::corrupt(&segment_name(state.log_start), 0, what));
        }
        writing.commit.lock().seq = last;
        Ok(last)
    }

    fn replay_one(&self, table: TableId, seq: u64, op: Op<'_>) -> Result<()> {
        let Some(table) = self.tables.read().get(&table).cloned() else { return Ok(()) };
        if matches!(op, Op::DeleteRange { .. }) && !table.engine().is_ordered() {
            let what = "a range delete of a table that has no order";
            return Err(Error::corrupt("log", 0, what));
        }
        let writing = self.writing()?;
        let mut commit = writing.commit.lock();
        let room = |commit: &mut Commit| {
            commit.writers.get(table.id()).is_some_and(|writer| writer.has_room(1, op.bytes()))
        };
        if !room(&mut commit) {
            // All before this operation is in memtables or files; the log from here on is still
            // needed, although nobody has it in memory yet, and what is visible says so.
            commit.seq = seq - 1;
            self.visible.publish(seq - 1);
            let least = Memtable::capacity_for(1, op.bytes()).unwrap_or(usize::MAX);
            self.seal(&mut commit, &table, least);
            drop(commit);
            self.absorb(&table)?;
            commit = writing.commit.lock();
        }
        commit.insert(table.id(), op, op.hash(), seq);
        Ok(())
    }
}

/// Reads the database as its files say at this moment, which is what is then `seen`; `None` if a
/// writer changed them meanwhile.
fn read_once(
    options: &Builder,
    folder: &Arc<dyn Folder>,
    seen: &mut Option<State>,
) -> Result<Option<Db>> {
    let mut state = Manifest::load(&**folder)?;
    let is_rewritten = |table: &TableRecord| Engine::from_id(table.engine) == Some(Engine::Btree);
    let mut reading = None;
    if state.tables.values().any(is_rewritten) {
        reading = folder.share().map_err(|e| Error::io("announce a reader of", "readers", e))?;
        // Only what is read from here on stays as it is.
        state = Manifest::load(&**folder)?;
    }
    let state = &*seen.insert(state);
    let parts = Parts::open(options, folder, state)?;
    let last_seq = fill_reader(&parts.tables, &**folder, state)?;
    if Manifest::load(&**folder)? != *state {
        return Ok(None);
    }
    parts.visible.publish(last_seq);
    let files = FileIds::starting_at(state.next_file);
    let shared = parts.into_shared(options.clone(), folder.clone(), files, None, reading);
    Ok(Some(Db::start(shared)))
}

/// Replays the log into memtables that grow as needed. Bounded by the log's size.
fn fill_reader(tables: &Tables, folder: &dyn Folder, state: &State) -> Result<u64> {
    let settled = settled_marks(state);
    let mut needs: HashMap<TableId, (usize, usize)> = HashMap::new();
    read_log(folder, state, &mut |record| {
        each_unsettled(&settled, &record, &mut |table, _, op| {
            let need = needs.entry(table).or_default();
            *need = (need.0 + 1, need.1 + op.bytes());
            Ok(())
        })
    })?;
    let mut writers = HashMap::new();
    for (id, (entries, bytes)) in needs {
        let Some(table) = tables.get(&id) else { continue };
        // A writer may append between the two passes: what finds no room is not committed for us.
        let capacity = Memtable::capacity_for(entries, bytes).ok_or_else(|| {
            Error::new(ErrorKind::Limit, "the log holds too much for one memtable: open to write")
        })?;
        let (active, writer) = Memtable::new(capacity, Memory::Own);
        table.replace_active(active);
        writers.insert(id, writer);
    }
    let (mut last, mut full) = (last_seq_in(state), false);
    replay(folder, state.db_id, state.log_start, &mut |record| {
        if full {
            return Ok(());
        }
        each_unsettled(&settled, &record, &mut |table, seq, op| {
            let writer = writers.get_mut(&table);
            match writer.filter(|writer| writer.has_room(1, op.bytes())) {
                Some(writer) => apply(writer, op, op.hash(), seq),
                None => full = true,
            }
            Ok(())
        })?;
        if !full {
            last = last.max(last_seq_of(&record));
        }
        Ok(())
    })?;
    Ok(last)
}

/// Whether an error while reading can come from a writer that removed files meanwhile.
fn may_have_moved(folder: &Arc<dyn Folder>, error: &Error) -> bool {
    let gone = match error.kind() {
        ErrorKind::Io => std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|source| source.kind() == std::io::ErrorKind::NotFound),
        ErrorKind::Corrupt => true,
        _ => false,
    };
    gone && Manifest::load(&**folder).is_ok()
}

//! Writing: appending edits, and rolling to a new manifest file.

use super::{
    Edit, State,
    current::{self, CURRENT, CURRENT_NEW, Current, remove_if_there},
    load::{self, manifest_name, manifest_number},
    record::{self, Kind, MANIFEST_BYTES_MAX},
};
use crate::{
    Error, ErrorKind, Result,
    vfs::{Access, File, Folder, SyncKind, write_all_at},
};
use std::sync::Arc;

/// A manifest file that grew by more than this since its first record gives way to a new one.
const ROLL_BYTES: u64 = 4 << 20;
/// How much is allocated ahead, so that a commit changes no metadata of the file system.
const AHEAD_BYTES: u64 = if cfg!(fuzzing) { 4 << 10 } else { 64 << 10 };

/// The manifest of a database that is open for writing. The caller holds the folder's lock.
#[derive(Debug)]
pub(crate) struct Manifest {
    folder: Arc<dyn Folder>,
    state: State,
    /// The file that `current` names, if it may be appended to.
    tail: Option<Tail>,
    in_doubt: bool,
    /// What `current` says, if that may not be durable.
    doubtful: Option<Current>,
    next_number: u64,
    /// Manifest files that are not needed once the next one counts.
    obsolete: Vec<String>,
    roll_bytes: u64,
}

/// The end of a manifest file.
#[derive(Debug)]
struct Tail {
    file: Arc<dyn File>,
    name: String,
    seed: u64,
    /// Of the next record: its number, and where it will lie.
    number: u64,
    at: u64,
    allocated: u64,
    /// The length from which on the file is too long.
    full_at: u64,
}

impl Manifest {
    /// Makes the manifest of a new, empty database.
    ///
    /// Until it returns, a crash leaves a folder in which there is no database.
    pub(crate) fn create(folder: &Arc<dyn Folder>, db_id: u128) -> Result<(Self, State)> {
        if Current::read(&**folder)?.is_some() {
            return Err(Error::new(ErrorKind::Misuse, "there already is a database here"));
        }
        load::check_never_created(&**folder)?;
        Self::create_with(folder, db_id, &[], 0)
    }

    /// Makes the manifest of a new database that consists of files which are already there and
    /// durable, names included, and whose log, if it has one, is closed at `log_end`. Until it
    /// returns, a crash leaves no database.
    pub(crate) fn create_with(
        folder: &Arc<dyn Folder>,
        db_id: u128,
        edits: &[Edit],
        log_end: u64,
    ) -> Result<(Self, State)> {
        let mut state = State::new(db_id);
        state.apply_all(edits).map_err(|why| Error::new(ErrorKind::Misuse, why))?;
        state.log_end = log_end;
        let leftover = manifest_name(1);
        remove_if_there(&**folder, &leftover).map_err(|e| Error::io("remove", &leftover, e))?;
        let mut manifest = Self::unwritten(folder, state.clone(), 1);
        manifest.roll()?;
        Ok((manifest, state))
    }

    /// Opens the manifest. Nothing changes on disk before the first commit, which begins a new
    /// file: what an earlier process left behind a failed or torn write is never built upon.
    ///
    /// [`ErrorKind::NotFound`] if there is no database.
    pub(crate) fn open(folder: &Arc<dyn Folder>) -> Result<(Self, State)> {
        let current = load::read_current(&**folder)?;
        let state = load::replay(&load::read_manifest(&**folder, &current)?, &current)?;
        let names = folder.list().map_err(|e| Error::io("list the folder of", CURRENT, e))?;
        let obsolete: Vec<_> =
            names.into_iter().filter(|name| manifest_number(name).is_some()).collect();
        let highest = obsolete.iter().filter_map(|name| manifest_number(name)).max();
        let next = highest.unwrap_or(0).max(current.number).checked_add(1);
        let next = next.ok_or_else(|| Error::corrupt(CURRENT, 40, "no number is left"))?;
        // Creation may have failed at its last sync, so that a crash could still take this name
        // back: from manifest 2 on that would look like a loss. Later on there is always a
        // `current` that is durable, this one or the one before.
        let doubtful = (current.number == 1).then_some(current);
        let manifest = Self { doubtful, obsolete, ..Self::unwritten(folder, state.clone(), next) };
        Ok((manifest, state))
    }

    /// With no file yet.
    fn unwritten(folder: &Arc<dyn Folder>, state: State, next_number: u64) -> Self {
        Self {
            folder: Arc::clone(folder),
            state,
            tail: None,
            in_doubt: false,
            doubtful: None,
            next_number,
            obsolete: Vec::new(),
            roll_bytes: ROLL_BYTES,
        }
    }

    /// The state on disk, without changing anything there. A writer may be at work meanwhile.
    pub(crate) fn load(folder: &dyn Folder) -> Result<State> {
        load::load(folder)
    }

    /// The state as far as it can be read, and what is wrong with the rest, if anything is.
    pub(crate) fn remains(folder: &dyn Folder) -> Result<(State, Option<Error>)> {
        load::remains(folder)
    }

    /// The state after the last commit that succeeded.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Does all the edits or none; durable once it returns `Ok`.
    ///
    /// After an error [`Manifest::state`] is what it was, and a later call may succeed (a full
    /// disk is [`ErrorKind::Full`]). But see [`Manifest::in_doubt`].
    pub(crate) fn commit(&mut self, edits: &[Edit]) -> Result<()> {
        let undo = self.state.apply_all(edits).map_err(|why| Error::new(ErrorKind::Misuse, why))?;
        let written = self.write(edits);
        if written.is_err() {
            self.state.undo(undo);
        }
        written
    }

    /// Whether a commit failed such that a crash now may find it done or not. Until a later
    /// commit (an empty one will do) succeeds, no file named by either state may be removed.
    pub(crate) fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Says that the database was closed, its log at `log_end` (not 0), in a new file: so damage
    /// to the manifest's end or to the log's is found out, where it would else look like a torn
    /// write. A commit after it opens the database again.
    ///
    /// If the disk is too full for that, all stays as a killed process would leave it.
    pub(crate) fn close(&mut self, log_end: u64, last_seq: u64) -> Result<()> {
        self.state.log_end = log_end;
        self.state.last_seq = self.state.last_seq.max(last_seq);
        let closed = self.roll();
        match closed {
            Ok(()) => self.obsolete.extend(self.tail.take().map(|tail| tail.name)),
            Err(_) => self.state.log_end = 0,
        }
        closed.or_else(|e| match e.kind() {
            ErrorKind::Full if !self.in_doubt => Ok(()),
            _ => Err(e),
        })
    }

    #[cfg(test)]
    pub(super) fn set_roll_bytes(&mut self, bytes: u64) {
        self.roll_bytes = bytes;
        if let Some(tail) = &mut self.tail {
            tail.full_at = tail.at + bytes;
        }
    }

    /// Makes the edits, which `state` has already, durable.
    fn write(&mut self, edits: &[Edit]) -> Result<()> {
        match &mut self.tail {
            Some(_) if edits.is_empty() => return Ok(()),
            Some(tail) if tail.at < tail.full_at => return self.append(edits),
            _ => {}
        }
        let rolled = self.roll();
        match &mut self.tail {
            // There was no room for a new file: the old one is as good as it was. Commits that
            // free space depend on it.
            Some(tail) if rolled.is_err() => {
                tail.full_at = tail.at + self.roll_bytes;
                self.append(edits)
            }
            _ => rolled,
        }
    }

    /// Appends a record and syncs. If that fails, the file is not appended to any more.
    fn append(&mut self, edits: &[Edit]) -> Result<()> {
        let Some(tail) = &mut self.tail else {
            return Err(Error::new(ErrorKind::Misuse, "the manifest has no file to append to"));
        };
        let record = record::encode(tail.seed, Kind::Edits, tail.number, |out| {
            edits.iter().for_each(|edit| edit.encode(out));
        })?;
        tail.reserve(record.len() as u64)?;
        let written = write_all_at(&*tail.file, &record, tail.at)
            .map_err(|e| Error::io("write", &tail.name, e))
            .and_then(|()| {
                tail.file.sync(SyncKind::Data).map_err(|e| Error::io("sync", &tail.name, e))
            });
        tail.number += 1;
        tail.at += record.len() as u64;
        if written.is_err() {
            self.in_doubt = true;
            self.obsolete.extend(self.tail.take().map(|tail| tail.name));
        }
        written
    }

    /// Begins a new manifest file with `state`, makes `current` name it, and removes the others.
    ///
    /// If it fails before `current` is touched, the file in use stays in use.
    fn roll(&mut self) -> Result<()> {
        if let Some(current) = &self.doubtful {
            current.stage(&self.folder)?;
            current::publish(&*self.folder)?;
            self.doubtful = None;
        }
        let number = self.next_number;
        self.next_number += 1;
        let name = manifest_name(number);
        let tail = self.stage(number).inspect_err(|_| {
            // Nothing names it; best removed at once, for the disk may be full.
            let _ = self.folder.remove(&name);
            let _ = self.folder.remove(CURRENT_NEW);
        })?;
        self.obsolete.extend(self.tail.take().map(|tail| tail.name));
        self.in_doubt = true;
        if let Err(e) = current::publish(&*self.folder) {
            self.obsolete.push(name);
            return Err(e);
        }
        self.in_doubt = false;
        self.tail = Some(tail);
        let folder = &self.folder;
        // What cannot be removed now is, after the next roll or open.
        self.obsolete.retain(|old| remove_if_there(&**folder, old).is_err());
        Ok(())
    }

    /// Writes manifest `number` and the `current` that will name it, all durable but unused.
    fn stage(&self, number: u64) -> Result<Tail> {
        let name = manifest_name(number);
        let seed = record::seed(self.state.db_id, number);
        let first = record::encode(seed, Kind::State, 0, |out| self.state.encode(out))?;
        let len = first.len() as u64;
        let write = || {
            let file = self.folder.open(&name, Access::CreateNew)?;
            file.allocate(len + AHEAD_BYTES)?;
            write_all_at(&*file, &first, 0)?;
            file.sync(SyncKind::Full)?;
            Ok(file)
        };
        let file = write().map_err(|e| Error::io("write", &name, e))?;
        let first_checksum = record::checksum_of(&first);
        Current { db_id: self.state.db_id, number, first_len: len, first_checksum }
            .stage(&self.folder)?;
        self.folder.sync().map_err(|e| Error::io("sync the folder of", &name, e))?;
        let allocated = len + AHEAD_BYTES;
        // Twice the state at least, so that a large state is not written again for every commit.
        let full_at = len + self.roll_bytes.max(len);
        Ok(Tail { file, name, seed, number: 1, at: len, allocated, full_at })
    }
}

impl Tail {
    /// Makes room for a record. Nothing is lost if it fails: no record has been written.
    fn reserve(&mut self, len: u64) -> Result<()> {
        let end = self.at + len;
        if end > MANIFEST_BYTES_MAX {
            return Err(Error::new(ErrorKind::Limit, "the manifest would grow over its limit"));
        }
        if end > self.allocated {
            let ahead = (end + AHEAD_BYTES).min(MANIFEST_BYTES_MAX);
            let allocated = self.file.allocate(ahead).map(|()| ahead);
            let allocated = allocated.or_else(|_| self.file.allocate(end).map(|()| end));
            self.allocated = allocated.map_err(|e| Error::io("extend", &self.name, e))?;
        }
        Ok(())
    }
}

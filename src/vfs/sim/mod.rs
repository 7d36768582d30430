//! A simulated disk, for testing that a program survives what real disks do.
//!
//! Run a workload once on a [`SimDisk`], then ask its [`History`] for the disk that a crash after
//! any operation could have left, open that, and look whether it holds what was promised. The disk
//! also fails on demand ([`Fault`]), fills up, transfers less than asked, and rots. Nothing here
//! depends on time or on the machine: the same seed and calls give the same disk.
//!
//! # What a crash can leave
//!
//! The disk keeps no contents but a journal of *atoms*: each part of a write that lies in one
//! 512-byte sector, each change of a length, each name made, changed or taken away. An atom floats
//! until a successful sync makes it durable: [`File::sync`] those of one file, [`Folder::sync`]
//! the names, and neither those of the other. A crash keeps the durable atoms and *any* subset of
//! the floating ones ([`Choice`]). From this one rule follow
//!
//! - lost writes, and writes that reached the disk in another order than they were issued;
//! - torn writes: some sectors of a write and not others; [`Choice::Torn`] also cuts the last one
//!   at any byte, [`Choice::TornGarbage`] fills where it stopped with noise;
//! - a length without the bytes (they read as zeros), and bytes without the length (unseen);
//! - files whose names were lost, names that were lost twice ([`SimDisk::set_loose_renames`]);
//! - a killed process, which loses nothing: [`Choice::All`].
//!
//! It is harsher than any one disk: two writes to one sector are kept or lost separately (a page
//! can be on its way to the device while it is written again), and names change in any order.
//! A program that survives it relies on nothing but what the traits in [`vfs`](crate::vfs)
//! promise. It is not harsher where nobody could cope: a sector that is being rewritten does not
//! take durable bytes with it, unless [`Choice::TornSector`] asks for that.
//!
//! ```
//! use tonearm::vfs::{Access, File, Folder, SyncKind, sim::{Effort, SimDisk}};
//!
//! // The program under test: replaces a file's contents. Its promise: old or new, never between.
//! fn replace(folder: &dyn Folder, text: &[u8]) -> std::io::Result<()> {
//!     let file = folder.open("draft", Access::CreateNew)?;
//!     file.write_at(text, 0)?;
//!     file.sync(SyncKind::Full)?; // without this line, the assertion below fails
//!     folder.rename("draft", "text")?;
//!     folder.sync() // and without this one too
//! }
//!
//! let disk = SimDisk::new(7);
//! replace(&disk, b"old text")?;
//! disk.mark(1); // acknowledged: from here on there is a text
//! replace(&disk, b"new text")?;
//! disk.mark(2);
//!
//! let history = disk.history();
//! let mut crashes = 0;
//! for crash in history.crashes(Effort::default()) {
//!     let mut text = [0; 8];
//!     let file = crash.disk.open("text", Access::Read);
//!     let read = file.and_then(|file| file.read_at(&mut text, 0));
//!     let acknowledged = history.last_mark_at(crash.point).unwrap_or(0);
//!     match (read, &text) {
//!         (Ok(8), b"new text") => {}
//!         (Ok(8), b"old text") => assert!(acknowledged < 2, "lost: {crash:?}"),
//!         (Err(_), _) => assert!(acknowledged < 1, "lost: {crash:?}"),
//!         _ => panic!("in between: {crash:?}"),
//!     }
//!     crashes += 1;
//! }
//! assert!(crashes > 20);
//! # std::io::Result::Ok(())
//! ```
//!
//! An image is a disk like any other, with a history of its own: to crash a recovery, run it on an
//! image and enumerate that.
//!
//! # What else can go wrong
//!
//! | trouble | how to get it |
//! | --- | --- |
//! | an I/O error, once or for ever, at the n-th operation of some kind | [`SimDisk::inject`] |
//! | a sync that fails and forgets, reverts, fails late or lies | [`Effect`] |
//! | a full disk, and space that comes back | [`SimDisk::set_capacity`] |
//! | short reads and writes, interrupted calls | [`SimDisk::set_short`], [`SimDisk::set_interrupts`] |
//! | bits that rot, for good or in one read | [`SimDisk::flip`], [`SimDisk::set_rot`] |
//!
//! To fail every operation of a program in turn, run it with `Fault::nth(n)` for n = 1, 2, .. until
//! [`SimDisk::faults_fired`] stays 0, as SQLite's tests do.

mod atoms;
mod choice;
mod content;
mod faults;
mod file;
mod history;
#[cfg(test)]
mod model;
mod record;
mod state;
#[cfg(test)]
mod tests;

pub use self::{
    choice::{Choice, Effort},
    faults::{Effect, Fault, OpKind, Operation},
    history::{Crash, History},
};

use self::{
    atoms::Origin,
    file::SimFile,
    state::{Manner, State},
};
use super::{Access, File, Folder, Lock};
use parking_lot::Mutex;
use std::{fmt, io, sync::Arc};
use xxhash_rust::xxh3::Xxh3;

/// The disk behind its handles.
type Shared = Arc<Mutex<State>>;

/// A simulated disk with one folder. Clones are handles to the same disk.
#[derive(Clone)]
pub struct SimDisk {
    shared: Shared,
    seed: u64,
}

impl SimDisk {
    /// An empty disk. The seed decides what is left to chance.
    pub fn new(seed: u64) -> Self {
        Self::from_origin(seed, Origin::default(), Manner::default())
    }

    fn from_origin(seed: u64, origin: Origin, manner: Manner) -> Self {
        Self { shared: Arc::new(Mutex::new(State::new(seed, origin, manner))), seed }
    }

    // The past.

    /// The number of I/O operations so far: calls of the traits' methods, failed ones included,
    /// but for [`File::start_writeback`], which is only a hint.
    pub fn op_count(&self) -> usize {
        self.shared.lock().journal.ops.len()
    }

    /// Notes in the history that `mark` happened here, say that a commit was acknowledged.
    pub fn mark(&self, mark: u64) {
        let mut state = self.shared.lock();
        let point = state.journal.ops.len();
        state.journal.marks.push((point, mark));
    }

    /// All that happened so far.
    pub fn history(&self) -> History {
        let state = self.shared.lock();
        let origin = Arc::clone(&state.origin);
        History::new(origin, state.journal.clone(), state.manner, self.seed)
    }

    /// The disk that a crash would leave now: the last image of [`SimDisk::history`].
    pub fn crash(&self, choice: &Choice) -> Self {
        let history = self.history();
        history.image(history.len(), choice)
    }

    /// A hash of all names and the contents they lead to; durable or not is no difference.
    pub fn fingerprint(&self) -> u128 {
        let state = self.shared.lock();
        let mut hash = Xxh3::new();
        for (name, file) in &state.names {
            hash.update(&(name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            let digest = state.node(*file).map_or(0, |node| node.content.digest());
            hash.update(&digest.to_le_bytes());
        }
        hash.digest128()
    }

    // The trouble.

    /// Plans a fault. Several may be planned; each counts on its own.
    pub fn inject(&self, fault: Fault) {
        self.shared.lock().trouble.inject(fault);
    }

    /// Forgets all faults that have not fired, and those that fire for ever.
    pub fn clear_faults(&self) {
        self.shared.lock().trouble.clear();
    }

    /// How many operations were disturbed by a fault.
    pub fn faults_fired(&self) -> u64 {
        self.shared.lock().trouble.fired()
    }

    /// Sets how much the disk can hold, or that it holds anything. It may be less than is
    /// [used](SimDisk::used). A write that fits in part is short; one that does not fit at all,
    /// an allocation that does not, and a new file without room for one sector fail with
    /// [`io::ErrorKind::StorageFull`].
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.lock().capacity = bytes;
    }

    /// The space taken: whole sectors written or allocated, and one sector for each file that is
    /// named or open.
    pub fn used(&self) -> u64 {
        self.shared.lock().used()
    }

    /// Makes this share of reads and writes transfer fewer bytes than asked for.
    pub fn set_short(&self, per_mille: u32) {
        self.shared.lock().trouble.short_per_mille = per_mille;
    }

    /// Makes this share of reads and writes fail with [`io::ErrorKind::Interrupted`], never two in
    /// a row.
    pub fn set_interrupts(&self, per_mille: u32) {
        self.shared.lock().trouble.interrupt_per_mille = per_mille;
    }

    /// Makes this share of reads return one wrong bit. The file itself stays right.
    pub fn set_rot(&self, per_million: u32) {
        self.shared.lock().trouble.rot_per_million = per_million;
    }

    /// How many reads [`SimDisk::set_rot`] has spoilt.
    pub fn reads_rotted(&self) -> u64 {
        self.shared.lock().trouble.rotted()
    }

    /// Inverts these bits of one byte of a file for all reads and mappings from now on, whatever
    /// is written there. Doing it again heals it. Images do not inherit it.
    pub fn flip(&self, name: &str, at: u64, bits: u8) -> io::Result<()> {
        self.shared.lock().flip(name, at, bits)
    }

    // The manner. Images inherit it.

    /// Whether [`File::map_mut`] works (it does not at first). A store into such a mapping is an
    /// operation and makes atoms as a write does, but no fault hits it.
    pub fn set_mappable(&self, mappable: bool) {
        self.shared.lock().manner.mappable = mappable;
    }

    /// Whether a rename is two atoms, so that a crash may leave both names or none, as on a file
    /// system without a journal.
    pub fn set_loose_renames(&self, loose: bool) {
        self.shared.lock().manner.loose_renames = loose;
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("SimDisk")
            .field("seed", &self.seed)
            .field("operations", &state.journal.ops.len())
            .field("files", &state.names)
            .finish_non_exhaustive()
    }
}

impl Folder for SimDisk {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let name: Arc<str> = Arc::from(name);
        let kind = if access == Access::CreateNew { OpKind::Create } else { OpKind::Open };
        let mut state = self.shared.lock();
        state.begin(kind, &name, 0, 0).check()?;
        let file = state.open(&name, access)?;
        drop(state);
        Ok(Arc::new(SimFile::new(&self.shared, file, name, access != Access::Read)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (Arc::from(from), Arc::from(to));
        let mut state = self.shared.lock();
        state.begin(OpKind::Rename, &from, 0, 0).check()?;
        state.rename(&from, &to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let name = Arc::from(name);
        let mut state = self.shared.lock();
        state.begin(OpKind::Remove, &name, 0, 0).check()?;
        state.remove(&name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.shared.lock();
        state.begin(OpKind::List, &Arc::from(""), 0, 0).check()?;
        Ok(state.names.keys().map(|name| name.as_ref().to_owned()).collect())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.shared.lock();
        let hit = state.begin(OpKind::SyncFolder, &Arc::from(""), 0, 0);
        state.sync_names(hit)
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Lock>>> {
        let mut state = self.shared.lock();
        state.begin(OpKind::Lock, &Arc::from(""), 0, 0).check()?;
        if std::mem::replace(&mut state.locked, true) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimLock(self.clone()))))
    }

    fn share(&self) -> io::Result<Option<Box<dyn Lock>>> {
        let mut state = self.shared.lock();
        state.begin(OpKind::Share, &Arc::from(""), 0, 0).check()?;
        state.readers += 1;
        Ok(Some(Box::new(SimShare(self.clone()))))
    }

    fn is_shared(&self) -> io::Result<bool> {
        let mut state = self.shared.lock();
        state.begin(OpKind::IsShared, &Arc::from(""), 0, 0).check()?;
        Ok(state.readers > 0)
    }
}

/// Held by a reader of a disk.
#[derive(Debug)]
struct SimShare(SimDisk);

impl Lock for SimShare {}

impl Drop for SimShare {
    fn drop(&mut self) {
        self.0.shared.lock().readers -= 1;
    }
}

/// Held by one writer of a disk.
#[derive(Debug)]
struct SimLock(SimDisk);

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.shared.lock().locked = false;
    }
}

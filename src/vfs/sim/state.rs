//! What a running simulated disk shows, and the journal of how it came to be.

use super::{
    atoms::{Change, Fate, FileNo, Form, Journal, Names, Origin, Shared, Target},
    content::{Content, MAX_BYTES, SECTOR, pieces},
    faults::{Effect, OpKind, Operation, Trouble},
};
use crate::vfs::{Access, check_name};
use std::{
    collections::{BTreeMap, HashSet},
    io, mem,
    sync::Arc,
};

/// How a disk behaves apart from its faults; its images behave alike.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    pub(super) mappable: bool,
    pub(super) loose_renames: bool,
}

/// One file, named or not.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) content: Arc<Content>,
    /// Atoms that the next sync can pin.
    unsynced: Vec<usize>,
    /// A sync that returned `Ok` did not work; the next one says so.
    late: bool,
    handles: usize,
    /// (offset, flipped bits): what reads see on top of the content.
    rot: BTreeMap<u64, u8>,
}

impl Node {
    fn new(content: Arc<Content>) -> Self {
        Self { content, ..Self::default() }
    }

    /// Flips the rotten bits in `bytes`, which were read at `at`.
    pub(super) fn rot(&self, bytes: &mut [u8], at: u64) {
        for (place, bits) in self.rot.range(at..at.saturating_add(bytes.len() as u64)) {
            bytes[(place - at) as usize] ^= bits;
        }
    }

    pub(super) fn is_rotten(&self) -> bool {
        !self.rot.is_empty()
    }
}

/// A simulated disk, seen from inside its lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) journal: Journal,
    pub(super) origin: Arc<Origin>,
    pub(super) names: Names,
    files: BTreeMap<FileNo, Node>,
    next_file: FileNo,
    unsynced_names: Vec<usize>,
    late_names: bool,
    pub(super) manner: Manner,
    pub(super) trouble: Trouble,
    pub(super) capacity: Option<u64>,
    pub(super) locked: bool,
    /// Readers that announced themselves.
    pub(super) readers: usize,
}

impl State {
    pub(super) fn new(seed: u64, origin: Origin, manner: Manner) -> Self {
        let nodes = |(file, content): (&FileNo, &Arc<_>)| (*file, Node::new(Arc::clone(content)));
        Self {
            journal: Journal::default(),
            names: origin.names.clone(),
            files: origin.files.iter().map(nodes).collect(),
            next_file: origin.files.keys().next_back().map_or(0, |last| last + 1),
            origin: Arc::new(origin),
            unsynced_names: Vec::new(),
            late_names: false,
            manner,
            trouble: Trouble::new(seed),
            capacity: None,
            locked: false,
            readers: 0,
        }
    }

    /// Begins an operation: it gets its number, and the fault that hits it if there is one.
    pub(super) fn begin(&mut self, kind: OpKind, name: &Arc<str>, at: u64, len: u64) -> Struck {
        let op = Operation { kind, name: Arc::clone(name), at, len };
        let effect = self.trouble.strike(&op);
        self.journal.ops.push(op);
        Struck(effect)
    }

    pub(super) fn node(&self, file: FileNo) -> io::Result<&Node> {
        self.files.get(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn node_mut(&mut self, file: FileNo) -> io::Result<&mut Node> {
        self.files.get_mut(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The space taken: what is stored, and one sector a file for what describes it.
    pub(super) fn used(&self) -> u64 {
        let of = |node: &Node| node.content.stored_bytes() + SECTOR as u64;
        self.files.values().map(of).sum()
    }

    /// How many sectors are free.
    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |all| all.saturating_sub(self.used()) / SECTOR as u64)
    }

    /// Makes a change of a file visible and floating.
    fn change(&mut self, file: FileNo, change: Change) -> io::Result<()> {
        let node = self.files.get_mut(&file).ok_or(io::ErrorKind::NotFound)?;
        node.content.apply(&change, Form::Whole);
        node.unsynced.push(self.journal.issue(change));
        Ok(())
    }

    fn change_names(&mut self, change: Change) {
        self.names.apply(&change, Form::Whole);
        self.unsynced_names.push(self.journal.issue(change));
    }

    // Files.

    pub(super) fn write(&mut self, file: FileNo, buf: &[u8], at: u64) -> io::Result<usize> {
        let end = at.checked_add(buf.len() as u64).filter(|end| *end <= MAX_BYTES);
        end.ok_or(io::ErrorKind::FileTooLarge)?;
        let fits = self.fitting(file, buf.len(), at)?;
        if fits == 0 && !buf.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let all: Arc<[u8]> = Arc::from(&buf[..fits]);
        let len = at + fits as u64;
        if fits > 0 && len > self.node(file)?.content.len() {
            self.change(file, Change::Grow { file, len })?;
        }
        for (from, len) in pieces(at, fits) {
            let bytes = Shared::new(&all, from, len);
            self.change(file, Change::Piece { file, at: at + from as u64, bytes })?;
        }
        Ok(fits)
    }

    /// How many of `len` bytes at `at` there is room for.
    fn fitting(&self, file: FileNo, len: usize, at: u64) -> io::Result<usize> {
        if self.capacity.is_none() {
            return Ok(len);
        }
        let content = &self.node(file)?.content;
        let mut room = self.room();
        for (from, _) in pieces(at, len) {
            if content.is_hole(at + from as u64) {
                if room == 0 {
                    return Ok(from);
                }
                room -= 1;
            }
        }
        Ok(len)
    }

    pub(super) fn set_len(&mut self, file: FileNo, len: u64) -> io::Result<()> {
        if len > MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let now = self.node(file)?.content.len();
        match len.cmp(&now) {
            std::cmp::Ordering::Less => self.change(file, Change::Cut { file, len }),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => self.change(file, Change::Grow { file, len }),
        }
    }

    pub(super) fn allocate(&mut self, file: FileNo, len: u64) -> io::Result<()> {
        if len > MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let content = &self.node(file)?.content;
        let (holes, grows) = (content.holes_below(len) as u64, len > content.len());
        if holes > self.room() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if holes > 0 || grows {
            self.change(file, Change::Allocate { file, len, grows })?;
        }
        Ok(())
    }

    pub(super) fn sync_file(&mut self, file: FileNo, data: bool, hit: Struck) -> io::Result<()> {
        if hit.0 == Some(Effect::Lie) {
            return Ok(());
        }
        let node = self.node_mut(file)?;
        if hit.0.is_none() && !node.late {
            return self.pin(file, data);
        }
        // Whatever should have become durable is clean from now on: no sync looks at it again.
        let lost = mem::take(&mut node.unsynced);
        let late = mem::replace(&mut node.late, hit.0 == Some(Effect::FailLate));
        match hit.0 {
            Some(Effect::FailLate) if !late => return Ok(()),
            Some(Effect::FailReverting) => self.revert(file, &lost)?,
            _ => {}
        }
        Err(hit.0.unwrap_or(Effect::Fail).error())
    }

    /// Makes a file durable; for a data sync, but for a shorter length that no later growth needs:
    /// `fdatasync` may leave out what is not needed to read the bytes.
    fn pin(&mut self, file: FileNo, data: bool) -> io::Result<()> {
        let due = mem::take(&mut self.node_mut(file)?.unsynced);
        let needed = if data { self.up_to_last_growth(&due) } else { due.len() };
        let mut left = Vec::new();
        for (index, atom) in due.into_iter().enumerate() {
            if index >= needed && matches!(self.change_of(atom), Some(Change::Cut { .. })) {
                left.push(atom);
            } else {
                self.journal.decide(atom, Fate::Pinned);
            }
        }
        self.node_mut(file)?.unsynced = left;
        Ok(())
    }

    fn change_of(&self, atom: usize) -> Option<&Change> {
        self.journal.atoms.get(atom).map(|atom| &atom.change)
    }

    fn up_to_last_growth(&self, atoms: &[usize]) -> usize {
        let grows = |atom: &usize| {
            let change = self.change_of(*atom);
            matches!(change, Some(Change::Grow { .. } | Change::Allocate { grows: true, .. }))
        };
        atoms.iter().rposition(grows).map_or(0, |last| last + 1)
    }

    /// Takes back what a failed sync lost.
    fn revert(&mut self, file: FileNo, lost: &[usize]) -> io::Result<()> {
        for atom in lost {
            self.journal.decide(*atom, Fate::Dropped);
        }
        let dropped = self.journal.fates.iter().filter(|fate| fate.2 == Fate::Dropped);
        let dropped: HashSet<usize> = dropped.map(|fate| fate.1).collect();
        let mut content = self.origin.files.get(&file).cloned().unwrap_or_default();
        for (number, atom) in self.journal.atoms.iter().enumerate() {
            if atom.change.file() == Some(file) && !dropped.contains(&number) {
                content.apply(&atom.change, Form::Whole);
            }
        }
        content.finish();
        self.node_mut(file)?.content = content;
        Ok(())
    }

    // Names.

    pub(super) fn find(&self, name: &str) -> io::Result<FileNo> {
        check_name(name)?;
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn open(&mut self, name: &Arc<str>, access: Access) -> io::Result<FileNo> {
        let file = match (self.find(name), access) {
            (Ok(_), Access::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Err(error), Access::CreateNew) if error.kind() == io::ErrorKind::NotFound => {
                self.create(name)?
            }
            (found, _) => found?,
        };
        self.node_mut(file)?.handles += 1;
        Ok(file)
    }

    fn create(&mut self, name: &Arc<str>) -> io::Result<FileNo> {
        if self.room() == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = self.next_file;
        self.next_file += 1;
        self.files.insert(file, Node::default());
        self.change_names(Change::Name { name: Arc::clone(name), file });
        Ok(file)
    }

    pub(super) fn rename(&mut self, from: &Arc<str>, to: &Arc<str>) -> io::Result<()> {
        check_name(to)?;
        let file = self.find(from)?;
        let replaced = self.names.get(to).copied().filter(|replaced| *replaced != file);
        if from == to {
            return Ok(());
        }
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        if self.manner.loose_renames {
            self.change_names(Change::Name { name: to, file });
            self.change_names(Change::Unname { name: from, file });
        } else {
            self.change_names(Change::Rename { from, to, file });
        }
        replaced.into_iter().for_each(|file| self.free_if_unused(file));
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &Arc<str>) -> io::Result<()> {
        let file = self.find(name)?;
        self.change_names(Change::Unname { name: Arc::clone(name), file });
        self.free_if_unused(file);
        Ok(())
    }

    pub(super) fn sync_names(&mut self, hit: Struck) -> io::Result<()> {
        if hit.0 == Some(Effect::Lie) {
            return Ok(());
        }
        let due = mem::take(&mut self.unsynced_names);
        let late = mem::replace(&mut self.late_names, hit.0 == Some(Effect::FailLate));
        match hit.0 {
            Some(Effect::FailLate) if !late => Ok(()),
            None if !late => {
                due.into_iter().for_each(|atom| self.journal.decide(atom, Fate::Pinned));
                Ok(())
            }
            effect => Err(effect.unwrap_or(Effect::Fail).error()),
        }
    }

    pub(super) fn close(&mut self, file: FileNo) {
        if let Some(node) = self.files.get_mut(&file) {
            node.handles = node.handles.saturating_sub(1);
        }
        self.free_if_unused(file);
    }

    fn free_if_unused(&mut self, file: FileNo) {
        let named = self.names.values().any(|named| *named == file);
        if !named && self.files.get(&file).is_some_and(|node| node.handles == 0) {
            self.files.remove(&file);
        }
    }

    // Damage.

    pub(super) fn flip(&mut self, name: &str, at: u64, bits: u8) -> io::Result<()> {
        let file = self.find(name)?;
        *self.node_mut(file)?.rot.entry(at).or_insert(0) ^= bits;
        Ok(())
    }
}

/// What hit an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Struck(pub(super) Option<Effect>);

impl Struck {
    /// An error where the operation fails.
    pub(super) fn check(self) -> io::Result<()> {
        self.0.map_or(Ok(()), |effect| Err(effect.error()))
    }
}

//! The atoms a simulated disk is made of: the smallest changes a crash may keep or lose.
//!
//! The disk keeps no "durable state". It keeps every change, in the order of issue, and when each
//! became durable; what a crash leaves is computed from that (ALICE, OSDI 2014; CrashMonkey,
//! OSDI 2018). An atom is *floating* from its issue until a sync *pins* it:
//!
//! ```text
//!   operations   write  write  sync  write  rename  sync folder
//!   atoms         a b    c            d      e
//!                 ---------------                             a, b, c float, then are pinned
//!                                     ------------------->    d floats: its file is not synced
//!                                            --------         e floats, then is pinned
//! ```

use super::{
    content::{Content, SECTOR},
    faults::{Chance, Operation},
};
use std::{collections::BTreeMap, sync::Arc};

/// The number of a file, whatever its names.
pub(super) type FileNo = u32;

/// The names of a folder.
pub(super) type Names = BTreeMap<Arc<str>, FileNo>;

/// One change that a crash keeps or loses as a whole.
#[derive(Clone, Debug)]
pub(super) struct Atom {
    /// The operation that issued it.
    pub(super) op: usize,
    pub(super) change: Change,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Bytes of one write that lie in one sector.
    Piece { file: FileNo, at: u64, bytes: Shared },
    /// The file is at least this long.
    Grow { file: FileNo, len: u64 },
    /// Space is reserved up to `len`; if that made the file longer, it is at least this long.
    Allocate { file: FileNo, len: u64, grows: bool },
    /// The file is exactly this long; what was past it is gone.
    Cut { file: FileNo, len: u64 },
    /// The name is the file's.
    Name { name: Arc<str>, file: FileNo },
    /// The name is not the file's any more.
    Unname { name: Arc<str>, file: FileNo },
    /// Both at once.
    Rename { from: Arc<str>, to: Arc<str>, file: FileNo },
}

/// A part of the bytes of one write.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    all: Arc<[u8]>,
    from: usize,
    len: usize,
}

impl Shared {
    pub(super) fn new(all: &Arc<[u8]>, from: usize, len: usize) -> Self {
        Self { all: Arc::clone(all), from, len }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.all[self.from..self.from + self.len]
    }
}

impl Change {
    /// The file whose bytes or length this changes; `None` for names.
    pub(super) fn file(&self) -> Option<FileNo> {
        match self {
            Self::Piece { file, .. }
            | Self::Grow { file, .. }
            | Self::Allocate { file, .. }
            | Self::Cut { file, .. } => Some(*file),
            Self::Name { .. } | Self::Unname { .. } | Self::Rename { .. } => None,
        }
    }

    pub(super) fn is_piece(&self) -> bool {
        matches!(self, Self::Piece { .. })
    }
}

/// How an atom is applied; all but `Whole` are for the last write before a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Whole,
    /// Only these first bytes of a piece.
    First(usize),
    /// This length instead of the one asked for.
    Len(u64),
    /// Other bytes in place of a piece's.
    Garbage(u64),
    /// Other bytes in the whole sector that a piece lies in.
    GarbageSector(u64),
}

/// What atoms are applied to: a file's content or the folder's names.
pub(super) trait Target: Clone {
    fn apply(&mut self, change: &Change, form: Form);
    /// Called after the last atom.
    fn finish(&mut self) {}
}

impl Target for Arc<Content> {
    fn apply(&mut self, change: &Change, form: Form) {
        let content = Arc::make_mut(self);
        match change {
            Change::Piece { at, bytes, .. } => apply_piece(content, *at, bytes.bytes(), form),
            Change::Grow { len, .. } => match form {
                Form::Len(cut) => content.grow(cut),
                _ => content.grow(*len),
            },
            Change::Allocate { len, grows, .. } => {
                content.reserve(*len);
                if *grows {
                    content.grow(*len);
                }
            }
            Change::Cut { len, .. } => content.cut(*len),
            Change::Name { .. } | Change::Unname { .. } | Change::Rename { .. } => {}
        }
    }

    fn finish(&mut self) {
        Arc::make_mut(self).seal();
    }
}

fn apply_piece(content: &mut Content, at: u64, bytes: &[u8], form: Form) {
    match form {
        Form::Whole | Form::Len(_) => content.write_piece(at, bytes),
        Form::First(len) => content.write_piece(at, &bytes[..len.min(bytes.len())]),
        Form::Garbage(seed) => content.write_piece(at, &garbage(seed, bytes.len())),
        Form::GarbageSector(seed) => {
            content.write_piece(at - at % SECTOR as u64, &garbage(seed, SECTOR));
        }
    }
}

fn garbage(seed: u64, len: usize) -> Vec<u8> {
    let mut chance = Chance(seed);
    (0..len).map(|_| chance.next() as u8).collect()
}

impl Target for Names {
    fn apply(&mut self, change: &Change, _form: Form) {
        match change {
            Change::Name { name, file } => drop(self.insert(Arc::clone(name), *file)),
            Change::Unname { name, file } => unname(self, name, *file),
            Change::Rename { from, to, file } => {
                unname(self, from, *file);
                self.insert(Arc::clone(to), *file);
            }
            _ => {}
        }
    }
}

fn unname(names: &mut Names, name: &str, file: FileNo) {
    if names.get(name) == Some(&file) {
        names.remove(name);
    }
}

/// What ends an atom's floating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is durable.
    Pinned,
    /// It never reaches the disk and is not visible either.
    Dropped,
}

/// Everything that happened to a disk, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    pub(super) ops: Vec<Operation>,
    pub(super) atoms: Vec<Atom>,
    /// (operation, atom, fate), in order of operations.
    pub(super) fates: Vec<(usize, usize, Fate)>,
    /// (operations before it, mark).
    pub(super) marks: Vec<(usize, u64)>,
}

impl Journal {
    /// Records a change made by the operation that was begun last.
    pub(super) fn issue(&mut self, change: Change) -> usize {
        self.atoms.push(Atom { op: self.ops.len().saturating_sub(1), change });
        self.atoms.len() - 1
    }

    /// Records what the operation that was begun last did to `atom`.
    pub(super) fn decide(&mut self, atom: usize, fate: Fate) {
        self.fates.push((self.ops.len().saturating_sub(1), atom, fate));
    }
}

/// What a disk held when it was made: names and contents, all durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    pub(super) names: Names,
    pub(super) files: BTreeMap<FileNo, Arc<Content>>,
}

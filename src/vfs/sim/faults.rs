//! Which operations misbehave, and how: errors on demand, short transfers, bits that rot.

use std::{fmt, io, sync::Arc};

/// The kinds of I/O operations. Each call counts as one operation, also a failing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpKind {
    /// [`Folder::open`](crate::vfs::Folder::open) of a file that exists.
    Open,
    /// [`Folder::open`](crate::vfs::Folder::open) of a new file.
    Create,
    /// [`Folder::rename`](crate::vfs::Folder::rename).
    Rename,
    /// [`Folder::remove`](crate::vfs::Folder::remove).
    Remove,
    /// [`Folder::list`](crate::vfs::Folder::list).
    List,
    /// [`Folder::sync`](crate::vfs::Folder::sync).
    SyncFolder,
    /// [`Folder::lock`](crate::vfs::Folder::lock).
    Lock,
    /// [`Folder::share`](crate::vfs::Folder::share).
    Share,
    /// [`Folder::is_shared`](crate::vfs::Folder::is_shared).
    IsShared,
    /// [`File::read_at`](crate::vfs::File::read_at).
    Read,
    /// [`File::write_at`](crate::vfs::File::write_at).
    Write,
    /// [`File::size`](crate::vfs::File::size).
    Size,
    /// [`File::set_len`](crate::vfs::File::set_len).
    SetLen,
    /// [`File::allocate`](crate::vfs::File::allocate).
    Allocate,
    /// [`File::sync`](crate::vfs::File::sync) of the bytes.
    SyncData,
    /// [`File::sync`](crate::vfs::File::sync) of everything.
    SyncFull,
    /// [`File::map`](crate::vfs::File::map) and [`File::map_mut`](crate::vfs::File::map_mut).
    Map,
    /// [`MapMut::store`](crate::vfs::MapMut::store), which cannot fail.
    Store,
}

impl OpKind {
    /// Whether this is a sync of bytes, of a file, or of the folder.
    pub fn is_sync(self) -> bool {
        matches!(self, Self::SyncData | Self::SyncFull | Self::SyncFolder)
    }
}

/// One I/O operation that was asked for, as [`History`](super::History) remembers it.
#[derive(Clone, Debug)]
pub struct Operation {
    pub(super) kind: OpKind,
    pub(super) name: Arc<str>,
    pub(super) at: u64,
    pub(super) len: u64,
}

impl Operation {
    /// What was asked for.
    pub fn kind(&self) -> OpKind {
        self.kind
    }

    /// The name of the file when it was opened; empty for the folder.
    pub fn file(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, at, len } = self;
        match kind {
            OpKind::Read | OpKind::Write | OpKind::Store => {
                write!(f, "{kind:?} {name} {at}..{}", at.saturating_add(*len))
            }
            OpKind::SetLen | OpKind::Allocate => write!(f, "{kind:?} {name} {len}"),
            _ if name.is_empty() => write!(f, "{kind:?}"),
            _ => write!(f, "{kind:?} {name}"),
        }
    }
}

/// What a [`Fault`] does to the operation it hits.
///
/// After a failed sync nothing is ever known about the bytes it should have made durable: file
/// systems mark them clean, so that the next sync returns `Ok` without writing them ("Can
/// Applications Recover from fsync Failures?", USENIX ATC 2020). All failing effects do that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// The operation fails. A write may have written some of its bytes first; the bytes of a sync
    /// stay visible, no later sync makes them durable, a crash may keep any of them (ext4, XFS).
    Fail,
    /// As `Fail`, with an error of this kind.
    FailWith(io::ErrorKind),
    /// Syncs of a file only: fails, and the bytes that were not durable are gone at once (Btrfs).
    FailReverting,
    /// Syncs only: returns `Ok` without effect, and the *next* sync fails (ext4, data=journal).
    FailLate,
    /// Syncs only: returns `Ok` and makes nothing durable; a later, honest sync still can.
    Lie,
}

impl Effect {
    fn hits(self, kind: OpKind) -> bool {
        match self {
            Self::Fail | Self::FailWith(_) => kind != OpKind::Store,
            Self::FailReverting => matches!(kind, OpKind::SyncData | OpKind::SyncFull),
            Self::FailLate | Self::Lie => kind.is_sync(),
        }
    }

    pub(super) fn error(self) -> io::Error {
        match self {
            Self::FailWith(kind) => kind.into(),
            _ => io::Error::other("simulated I/O error"),
        }
    }
}

/// A plan to disturb the n-th operation from now on, of all kinds or of some.
///
/// ```
/// use tonearm::vfs::{Access, Folder, sim::{Effect, Fault, OpKind, SimDisk}};
///
/// let disk = SimDisk::new(1);
/// disk.inject(Fault::nth(2).of(OpKind::Create).named(".run"));
/// assert!(disk.open("1.run", Access::CreateNew).is_ok());
/// assert!(disk.open("1.log", Access::CreateNew).is_ok()); // not counted: another name
/// assert!(disk.open("2.run", Access::CreateNew).is_err());
/// assert!(disk.open("2.run", Access::CreateNew).is_ok()); // once
/// assert_eq!(disk.faults_fired(), 1);
///
/// disk.inject(Fault::nth(1).effect(Effect::Lie).forever());
/// disk.sync()?; // a drive that never does what it says
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    kinds: Vec<OpKind>,
    named: String,
    left: u64,
    forever: bool,
    effect: Effect,
}

impl Fault {
    /// Fails the n-th operation from now on, once; 1 (or 0) is the next one.
    pub fn nth(n: u64) -> Self {
        Self {
            kinds: Vec::new(),
            named: String::new(),
            left: n.max(1),
            forever: false,
            effect: Effect::Fail,
        }
    }

    /// Counts and disturbs only operations of this kind; call it again to add a kind.
    #[must_use]
    pub fn of(mut self, kind: OpKind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Counts and disturbs only operations on files whose name contains `part`.
    #[must_use]
    pub fn named(mut self, part: &str) -> Self {
        part.clone_into(&mut self.named);
        self
    }

    /// Disturbs every operation after the n-th as well.
    #[must_use]
    pub fn forever(mut self) -> Self {
        self.forever = true;
        self
    }

    /// Does this to the operation instead of [`Effect::Fail`].
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    fn counts(&self, op: &Operation) -> bool {
        self.effect.hits(op.kind)
            && (self.kinds.is_empty() || self.kinds.contains(&op.kind))
            && op.name.contains(&self.named)
    }
}

/// Everything that may go wrong with a disk, and the chance that decides.
#[derive(Debug)]
pub(super) struct Trouble {
    chance: Chance,
    faults: Vec<Fault>,
    fired: u64,
    rotted: u64,
    interrupted: bool,
    pub(super) short_per_mille: u32,
    pub(super) interrupt_per_mille: u32,
    pub(super) rot_per_million: u32,
}

impl Trouble {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            chance: Chance(seed),
            faults: Vec::new(),
            fired: 0,
            rotted: 0,
            interrupted: false,
            short_per_mille: 0,
            interrupt_per_mille: 0,
            rot_per_million: 0,
        }
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    pub(super) fn fired(&self) -> u64 {
        self.fired
    }

    pub(super) fn rotted(&self) -> u64 {
        self.rotted
    }

    /// What happens to `op`: every fault counts it, the first that is due decides.
    pub(super) fn strike(&mut self, op: &Operation) -> Option<Effect> {
        let mut effect = None;
        for fault in self.faults.iter_mut().filter(|fault| fault.counts(op)) {
            fault.left = fault.left.saturating_sub(1);
            if fault.left == 0 {
                effect.get_or_insert(fault.effect);
            }
        }
        self.faults.retain(|fault| fault.left > 0 || fault.forever);
        self.fired += u64::from(effect.is_some());
        effect
    }

    /// Whether a signal interrupts this transfer; never twice in a row, so that loops end.
    pub(super) fn interrupts(&mut self) -> bool {
        self.interrupted = !self.interrupted && self.chance.happens(self.interrupt_per_mille, 1000);
        self.interrupted
    }

    /// How much of a transfer of `len` bytes takes place: at least one byte.
    pub(super) fn shorten(&mut self, len: usize) -> usize {
        if len > 1 && self.chance.happens(self.short_per_mille, 1000) {
            1 + self.chance.below(len as u64 - 1) as usize
        } else {
            len
        }
    }

    /// How much of a failing write of `len` bytes takes place: often nothing.
    pub(super) fn part_of_failed_write(&mut self, len: usize) -> usize {
        if self.chance.happens(1, 2) { 0 } else { self.chance.below(len as u64 + 1) as usize }
    }

    /// Flips a bit of what was read, now and then.
    pub(super) fn rot(&mut self, bytes: &mut [u8]) {
        if self.chance.happens(self.rot_per_million, 1_000_000) && !bytes.is_empty() {
            let at = self.chance.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << self.chance.below(8);
            self.rotted += 1;
        }
    }
}

/// A seeded source of numbers (SplitMix64, Steele et al. 2014): same seed, same numbers.
#[derive(Clone, Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True `of` times in `out_of`; costs no number where that is never.
    pub(super) fn happens(&mut self, of: u32, out_of: u64) -> bool {
        of > 0 && self.below(out_of) < u64::from(of)
    }
}

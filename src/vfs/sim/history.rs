//! What happened to a disk, and every state in which a crash could have left it.

use super::{
    SimDisk,
    atoms::{Fate, FileNo, Form, Journal, Names, Origin, Target},
    choice::{Choice, Effort},
    content::Content,
    faults::Operation,
    record::Record,
    state::Manner,
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    sync::Arc,
};

/// Everything that happened to a [`SimDisk`] up to the call of [`SimDisk::history`].
///
/// A *point* is a number of operations: point 0 is before the first, point `len()` after the last.
/// At each point a crash keeps what was durable and any choice of the changes that were not.
/// Asking for points in ascending order is fastest; clones are cheap and can do so in parallel.
pub struct History {
    record: Arc<Record>,
    frame: Mutex<Arc<Frame>>,
}

impl History {
    pub(super) fn new(origin: Arc<Origin>, journal: Journal, manner: Manner, seed: u64) -> Self {
        let frame = Frame::new(&origin);
        let record = Record { origin, journal, manner, seed };
        Self { record: Arc::new(record), frame: Mutex::new(Arc::new(frame)) }
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.record.journal.ops.len()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The operation that leads from point `index` to the next.
    pub fn operation(&self, index: usize) -> Option<&Operation> {
        self.record.journal.ops.get(index)
    }

    /// The points worth a crash: 0, and those at which the disk or the marks differ from the
    /// point before (so not those after a read).
    pub fn points(&self) -> Vec<usize> {
        let journal = &self.record.journal;
        let atoms = journal.atoms.iter().map(|atom| atom.op + 1);
        let fates = journal.fates.iter().map(|fate| fate.0 + 1);
        let marks = journal.marks.iter().map(|mark| mark.0);
        let points: BTreeSet<usize> =
            std::iter::once(0).chain(atoms).chain(fates).chain(marks).collect();
        points.into_iter().collect()
    }

    /// The marks placed before the operation after `point` began, oldest first.
    pub fn marks_at(&self, point: usize) -> impl DoubleEndedIterator<Item = u64> + '_ {
        let marks = &self.record.journal.marks;
        let placed = marks.partition_point(|mark| mark.0 <= point);
        marks.iter().take(placed).map(|mark| mark.1)
    }

    /// The newest mark placed before the operation after `point` began.
    pub fn last_mark_at(&self, point: usize) -> Option<u64> {
        self.marks_at(point).next_back()
    }

    /// How many changes a crash at `point` may keep or lose.
    pub fn floating_at(&self, point: usize) -> usize {
        self.frame_at(point).floating.len()
    }

    /// How many bytes of the last write or store before `point` float: what [`Choice::Torn`] cuts.
    pub fn torn_at(&self, point: usize) -> usize {
        self.record.last_write(&self.frame_at(point).floating_atoms()).map_or(0, |last| last.len)
    }

    /// The disk that a crash at `point` leaves, if it keeps the durable changes and these. It is a
    /// new disk with a history of its own.
    pub fn image(&self, point: usize, choice: &Choice) -> SimDisk {
        let frame = self.frame_at(point);
        let kept = choice.kept(&self.record, &frame.floating_atoms());
        let origin = frame.crash(&self.record, &kept);
        SimDisk::from_origin(self.record.seed, origin, self.record.manner)
    }

    /// The choices worth making at `point`: nothing, everything, every prefix, all but one, one
    /// only, metadata or data only, torn last writes; every subset where there are few changes,
    /// some random ones where there are many.
    pub fn choices_at(&self, point: usize, effort: &Effort) -> Vec<Choice> {
        effort.choices(self.floating_at(point), self.torn_at(point), point as u64)
    }

    /// Every different crash that `effort` finds, at every point: the loop around most crash tests.
    pub fn crashes(&self, effort: Effort) -> impl Iterator<Item = Crash> + '_ {
        let mut seen = HashSet::new();
        let points = self.points().into_iter();
        let choices = points.flat_map(move |point| {
            let choices = self.choices_at(point, &effort).into_iter();
            choices.map(move |choice| (point, choice))
        });
        choices.filter_map(move |(point, choice)| {
            let disk = self.image(point, &choice);
            let marks = self.marks_at(point).count();
            let new = seen.insert((disk.fingerprint(), marks));
            new.then_some(Crash { point, choice, disk })
        })
    }

    fn frame_at(&self, point: usize) -> Arc<Frame> {
        let mut frame = self.frame.lock();
        if frame.point > point {
            *frame = Arc::new(Frame::new(&self.record.origin));
        }
        if frame.point < point {
            Arc::make_mut(&mut frame).advance(&self.record.journal, point);
        }
        Arc::clone(&frame)
    }
}

impl Clone for History {
    fn clone(&self) -> Self {
        Self { record: Arc::clone(&self.record), frame: Mutex::new(Arc::clone(&self.frame.lock())) }
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let journal = &self.record.journal;
        f.debug_struct("History")
            .field("operations", &journal.ops.len())
            .field("atoms", &journal.atoms.len())
            .finish_non_exhaustive()
    }
}

/// One crash: when, what was kept, and the disk it left.
#[derive(Clone, Debug)]
pub struct Crash {
    /// The number of operations before it.
    pub point: usize,
    /// What was kept of that which was not durable.
    pub choice: Choice,
    /// What is left.
    pub disk: SimDisk,
}

/// The disk at one point: for each file and for the names, what is settled, and what is applied on
/// top of it, in order of issue, if it is pinned or chosen.
#[derive(Clone)]
struct Frame {
    point: usize,
    atoms: usize,
    fates: usize,
    floating: BTreeSet<usize>,
    names: Lane<Names>,
    files: BTreeMap<FileNo, Lane<Arc<Content>>>,
}

/// A part of the disk whose atoms only act on it.
#[derive(Clone, Default)]
struct Lane<T> {
    settled: T,
    /// The oldest atom that floats, and all after it: (atom, whether it is pinned).
    tail: Vec<(usize, bool)>,
}

impl<T: Target> Lane<T> {
    fn new(settled: T) -> Self {
        Self { settled, tail: Vec::new() }
    }

    fn decide(&mut self, atom: usize, fate: Fate) {
        if let Ok(index) = self.tail.binary_search_by_key(&atom, |entry| entry.0) {
            match fate {
                Fate::Pinned => self.tail[index].1 = true,
                Fate::Dropped => drop(self.tail.remove(index)),
            }
        }
    }

    /// Applies for good what no floating atom precedes.
    fn settle(&mut self, journal: &Journal) {
        let settled = self.tail.iter().take_while(|entry| entry.1).count();
        for (atom, _) in self.tail.drain(..settled) {
            if let Some(atom) = journal.atoms.get(atom) {
                self.settled.apply(&atom.change, Form::Whole);
            }
        }
    }

    fn crash(&self, record: &Record, kept: &[(usize, Form)]) -> T {
        let mut target = self.settled.clone();
        let mut changed = false;
        for (atom, pinned) in &self.tail {
            let form = match kept.binary_search_by_key(atom, |entry| entry.0) {
                Ok(index) => kept[index].1,
                Err(_) if *pinned => Form::Whole,
                Err(_) => continue,
            };
            if let Some(change) = record.change(*atom) {
                target.apply(change, form);
                changed = true;
            }
        }
        if changed {
            target.finish();
        }
        target
    }
}

impl Frame {
    fn new(origin: &Origin) -> Self {
        let lane = |(file, content): (&FileNo, &Arc<_>)| (*file, Lane::new(Arc::clone(content)));
        Self {
            point: 0,
            atoms: 0,
            fates: 0,
            floating: BTreeSet::new(),
            names: Lane::new(origin.names.clone()),
            files: origin.files.iter().map(lane).collect(),
        }
    }

    fn floating_atoms(&self) -> Vec<usize> {
        self.floating.iter().copied().collect()
    }

    fn advance(&mut self, journal: &Journal, point: usize) {
        self.point = point;
        let mut touched = BTreeSet::new();
        while let Some(atom) = journal.atoms.get(self.atoms).filter(|atom| atom.op < point) {
            self.floating.insert(self.atoms);
            match atom.change.file() {
                Some(file) => self.files.entry(file).or_default().tail.push((self.atoms, false)),
                None => self.names.tail.push((self.atoms, false)),
            }
            self.atoms += 1;
        }
        while let Some((_, atom, fate)) = journal.fates.get(self.fates).filter(|f| f.0 < point) {
            self.floating.remove(atom);
            let file = journal.atoms.get(*atom).and_then(|atom| atom.change.file());
            match file {
                Some(file) => self.files.entry(file).or_default().decide(*atom, *fate),
                None => self.names.decide(*atom, *fate),
            }
            touched.insert(file);
            self.fates += 1;
        }
        for file in touched {
            match file.and_then(|file| self.files.get_mut(&file)) {
                Some(lane) => lane.settle(journal),
                None => self.names.settle(journal),
            }
        }
    }

    /// What a crash leaves that keeps these floating atoms.
    fn crash(&self, record: &Record, kept: &[(usize, Form)]) -> Origin {
        let names = self.names.crash(record, kept);
        let crash = |file: &FileNo| {
            let lane = self.files.get(file);
            (*file, lane.map(|lane| lane.crash(record, kept)).unwrap_or_default())
        };
        let files = names.values().map(crash).collect();
        Origin { names, files }
    }
}

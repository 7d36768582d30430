//! The simulated disk against a naive model of what may be on it after a crash.
//!
//! The model knows no atoms. For each byte, length and name it keeps the set of values that a
//! crash may show: a change adds its value, a sync leaves only the present one. Random programs
//! are crashed at random points in random ways; every image must lie within the sets, and what
//! was synced, where each set has one member, is so proven to survive always.

use super::{Choice, Effect, Fault, OpKind, SimDisk};
use crate::vfs::{Access, File, Folder, SyncKind, read_whole};
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::Arc};

const NAMES: [&str; 3] = ["a", "b", "c"];
const MOST: usize = 2600;

#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    Rename(usize, usize),
    Remove(usize),
    SyncFolder,
    Write { file: usize, at: usize, len: usize, byte: u8 },
    Store { file: usize, at: usize, len: usize, byte: u8 },
    SetLen { file: usize, len: usize },
    Allocate { file: usize, len: usize },
    Sync { file: usize, kind: SyncKind },
    FailedSync { file: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (file, name) = (0..4usize, 0..NAMES.len());
    let bytes = (file.clone(), 0..1500usize, 1..1100usize, 1..=255u8);
    let kind = prop_oneof![Just(SyncKind::Data), Just(SyncKind::Full)];
    let set = (file.clone(), 0..MOST);
    prop_oneof![
        2 => name.clone().prop_map(Step::Create),
        1 => (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => name.prop_map(Step::Remove),
        2 => Just(Step::SyncFolder),
        6 => bytes.clone().prop_map(|(file, at, len, byte)| Step::Write { file, at, len, byte }),
        3 => bytes.prop_map(|(file, at, len, byte)| Step::Store { file, at, len, byte }),
        2 => set.clone().prop_map(|(file, len)| Step::SetLen { file, len }),
        2 => set.prop_map(|(file, len)| Step::Allocate { file, len }),
        5 => (file.clone(), kind).prop_map(|(file, kind)| Step::Sync { file, kind }),
        1 => file.prop_map(|file| Step::FailedSync { file }),
    ]
}

/// What one byte may be after a crash.
#[derive(Clone, Debug)]
struct Byte {
    now: u8,
    may_be: BTreeSet<u8>,
    /// A failed sync left it uncertain, and it was not written since.
    stuck: bool,
}

impl Byte {
    fn set(&mut self, value: u8) {
        self.now = value;
        self.may_be.insert(value);
    }
}

#[derive(Clone, Debug)]
struct ModelFile {
    bytes: Vec<Byte>,
    len: usize,
    may_be_long: BTreeSet<usize>,
    /// The length after the last growth or full sync, and those it was cut to since.
    cuts: Vec<usize>,
    stuck: bool,
}

impl ModelFile {
    fn new() -> Self {
        let zero = Byte { now: 0, may_be: BTreeSet::from([0]), stuck: false };
        Self {
            bytes: vec![zero; MOST],
            len: 0,
            may_be_long: BTreeSet::from([0]),
            cuts: vec![0],
            stuck: false,
        }
    }

    fn grow(&mut self, len: usize) {
        if len > self.len {
            self.len = len;
            self.may_be_long.insert(len);
            self.cuts = vec![len];
        }
    }

    fn cut(&mut self, len: usize) {
        if len < self.len {
            self.len = len;
            self.may_be_long.insert(len);
            self.cuts.push(len);
            self.bytes[len..].iter_mut().for_each(|byte| byte.set(0));
        }
    }

    fn write(&mut self, at: usize, len: usize, value: u8) {
        self.grow(at + len);
        for byte in &mut self.bytes[at..at + len] {
            byte.set(value);
            byte.stuck = false;
        }
    }

    fn sync(&mut self, kind: SyncKind) {
        if kind == SyncKind::Full {
            self.cuts = vec![self.len];
        }
        if !self.stuck {
            self.may_be_long = self.cuts.iter().copied().collect();
        }
        let uncut = self.cuts.len() == 1;
        for (at, byte) in self.bytes.iter_mut().enumerate() {
            if !byte.stuck && (uncut || at < self.len) {
                byte.may_be = BTreeSet::from([byte.now]);
            }
        }
    }

    fn fail_sync(&mut self) {
        self.bytes.iter_mut().for_each(|byte| byte.stuck |= byte.may_be.len() > 1);
        self.stuck |= self.may_be_long.len() > 1;
    }

    fn now(&self) -> Vec<u8> {
        self.bytes[..self.len].iter().map(|byte| byte.now).collect()
    }

    fn admits(&self, bytes: &[u8]) -> bool {
        self.may_be_long.contains(&bytes.len())
            && bytes.iter().zip(&self.bytes).all(|(is, byte)| byte.may_be.contains(is))
    }
}

#[derive(Clone, Debug)]
struct Model {
    files: Vec<ModelFile>,
    names: [Option<usize>; 3],
    may_be: [BTreeSet<Option<usize>>; 3],
}

impl Model {
    fn name(&mut self, name: usize, file: Option<usize>) {
        self.names[name] = file;
        self.may_be[name].insert(file);
    }

    /// Whether a crash may leave `disk`.
    fn admits(&self, disk: &SimDisk) -> bool {
        let may_be = NAMES.iter().zip(&self.may_be);
        may_be.into_iter().all(|(name, files)| {
            let bytes = contents(disk, name);
            files.iter().any(|file| match (file, &bytes) {
                (None, None) => true,
                (Some(file), Some(bytes)) => self.files[*file].admits(bytes),
                _ => false,
            })
        })
    }

    fn is_now(&self, disk: &SimDisk) -> bool {
        NAMES
            .iter()
            .zip(&self.names)
            .all(|(name, file)| contents(disk, name) == file.map(|file| self.files[file].now()))
    }
}

fn contents(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    disk.open(name, Access::Read).ok().map(|file| read_whole(&*file).unwrap())
}

/// The disk and its model, run side by side.
struct Pair {
    disk: SimDisk,
    handles: Vec<Arc<dyn File>>,
    model: Model,
}

impl Pair {
    fn new() -> Self {
        let disk = SimDisk::new(3);
        disk.set_mappable(true);
        let none = || BTreeSet::from([None]);
        let model = Model { files: vec![], names: [None; 3], may_be: [none(), none(), none()] };
        Self { disk, handles: vec![], model }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Create(name) => {
                if let Ok(file) = self.disk.open(NAMES[name], Access::CreateNew) {
                    self.handles.push(file);
                    self.model.files.push(ModelFile::new());
                    self.model.name(name, Some(self.handles.len() - 1));
                }
            }
            Step::Rename(from, to) => {
                if self.disk.rename(NAMES[from], NAMES[to]).is_ok() && from != to {
                    let file = self.model.names[from];
                    self.model.name(from, None);
                    self.model.name(to, file);
                }
            }
            Step::Remove(name) => {
                if self.disk.remove(NAMES[name]).is_ok() {
                    self.model.name(name, None);
                }
            }
            Step::SyncFolder => {
                Folder::sync(&self.disk).unwrap();
                for (may_be, now) in self.model.may_be.iter_mut().zip(self.model.names) {
                    *may_be = BTreeSet::from([now]);
                }
            }
            _ => self.run_on_file(step),
        }
    }

    fn run_on_file(&mut self, step: &Step) {
        let (Step::Write { file, .. }
        | Step::Store { file, .. }
        | Step::SetLen { file, .. }
        | Step::Allocate { file, .. }
        | Step::Sync { file, .. }
        | Step::FailedSync { file }) = *step
        else {
            return;
        };
        let Some(handle) = self.handles.get(file) else { return };
        let model = &mut self.model.files[file];
        match *step {
            Step::Write { at, len, byte, .. } => {
                assert_eq!(handle.write_at(&vec![byte; len], at as u64).unwrap(), len);
                model.write(at, len, byte);
            }
            Step::Store { at, len, byte, .. } => {
                if let Some(mut map) = handle.map_mut((at + len) as u64).unwrap() {
                    map.store(at, &vec![byte; len]);
                    model.write(at, len, byte);
                }
            }
            Step::SetLen { len, .. } => {
                handle.set_len(len as u64).unwrap();
                model.grow(len);
                model.cut(len);
            }
            Step::Allocate { len, .. } => {
                handle.allocate(len as u64).unwrap();
                model.grow(len);
            }
            Step::Sync { kind, .. } => {
                handle.sync(kind).unwrap();
                model.sync(kind);
            }
            _ => {
                self.disk.inject(Fault::nth(1));
                handle.sync(SyncKind::Data).unwrap_err();
                model.fail_sync();
            }
        }
    }
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        Just(Choice::None),
        Just(Choice::MetadataOnly),
        Just(Choice::DataOnly),
        any::<u64>().prop_map(Choice::Random),
        any::<u64>().prop_map(Choice::Subset),
        (0..30usize).prop_map(Choice::Prefix),
        (0..30usize).prop_map(Choice::DropOne),
        (0..30usize).prop_map(Choice::KeepOne),
    ]
}

proptest! {
    #[test]
    fn a_crash_leaves_only_what_the_model_admits(
        steps in prop::collection::vec(step(), 1..40),
        choices in prop::collection::vec(choice(), 8),
    ) {
        let mut pair = Pair::new();
        let mut states = vec![(0, pair.model.clone())];
        for step in &steps {
            pair.run(step);
            states.push((pair.disk.op_count(), pair.model.clone()));
        }
        let history = pair.disk.history();
        for (point, model) in states {
            prop_assert!(model.is_now(&history.image(point, &Choice::All)), "killed at {}", point);
            for choice in &choices {
                let image = history.image(point, choice);
                prop_assert!(model.admits(&image), "{:?} at {}: {:?}", choice, point, image);
            }
        }
        prop_assert!(pair.model.is_now(&pair.disk));
    }

    #[test]
    fn a_killed_process_loses_nothing_whatever_went_wrong(
        steps in prop::collection::vec((step(), 0..12u64), 1..60),
        loose in any::<bool>(),
    ) {
        let mut disk = SimDisk::new(9);
        disk.set_loose_renames(loose);
        for (step, trouble) in steps {
            let sync = Fault::nth(1).of(OpKind::SyncData).of(OpKind::SyncFull);
            match trouble {
                0 => disk.inject(sync.effect(Effect::FailReverting)),
                1 => disk.inject(Fault::nth(1).of(OpKind::SyncData).effect(Effect::FailLate)),
                2 => disk.inject(sync.effect(Effect::Lie)),
                3 => disk.inject(Fault::nth(2)),
                4 => disk.set_capacity(Some(disk.used() + 1000)),
                5 => disk.set_capacity(None),
                6 => disk = disk.crash(&Choice::Random(trouble)),
                _ => {}
            }
            let _ = attempt(&disk, &step);
            prop_assert_eq!(disk.crash(&Choice::All).fingerprint(), disk.fingerprint());
        }
    }
}

/// Does a step by names, and does not mind errors.
fn attempt(disk: &SimDisk, step: &Step) -> std::io::Result<()> {
    let open = |file: usize| disk.open(NAMES[file % NAMES.len()], Access::Write);
    match *step {
        Step::Create(name) => disk.open(NAMES[name], Access::CreateNew).map(drop),
        Step::Rename(from, to) => disk.rename(NAMES[from], NAMES[to]),
        Step::Remove(name) => disk.remove(NAMES[name]),
        Step::SyncFolder => Folder::sync(disk),
        Step::Write { file, at, len, byte } | Step::Store { file, at, len, byte } => {
            open(file)?.write_at(&vec![byte; len], at as u64).map(drop)
        }
        Step::SetLen { file, len } => open(file)?.set_len(len as u64),
        Step::Allocate { file, len } => open(file)?.allocate(len as u64),
        Step::Sync { file, kind } => open(file)?.sync(kind),
        Step::FailedSync { file } => open(file)?.sync(SyncKind::Data),
    }
}

//! Operations of the folder that fail, full disks, and readers beside a writer.

use super::*;
use crate::{
    ErrorKind, Result,
    vfs::{File, Lock, SyncKind},
};
use parking_lot::Mutex;
use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// What goes wrong: operations that change something are counted, and some of them fail.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// How many succeed before the first that fails.
    after: u64,
    /// How many fail then.
    failures: u64,
    kind: io::ErrorKind,
    /// Whether an operation that fails happens nevertheless, as far as it can.
    happens: bool,
    fired: bool,
}

impl Plan {
    const NONE: Self = Self {
        after: u64::MAX,
        failures: 0,
        kind: io::ErrorKind::Other,
        happens: false,
        fired: false,
    };
}

#[derive(Clone, Debug)]
struct Faulty {
    inner: Arc<dyn Folder>,
    plan: Arc<Mutex<Plan>>,
}

impl Faulty {
    fn new() -> Self {
        Self { inner: mem(), plan: Arc::new(Mutex::new(Plan::NONE)) }
    }

    fn set(&self, plan: Plan) {
        *self.plan.lock() = plan;
    }

    /// Nothing goes wrong any more.
    fn heal(&self) {
        let mut plan = self.plan.lock();
        *plan = Plan { fired: plan.fired, ..Plan::NONE };
    }

    fn is_failing(&self) -> Option<(io::ErrorKind, bool)> {
        let mut plan = self.plan.lock();
        if plan.after > 0 {
            plan.after -= 1;
            return None;
        }
        plan.failures = plan.failures.checked_sub(1)?;
        plan.fired = true;
        Some((plan.kind, plan.happens))
    }

    /// Does what changes something, or fails.
    fn change<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Some((kind, happens)) = self.is_failing() else { return change() };
        if happens {
            let _ = change();
        }
        Err(kind.into())
    }
}

impl Folder for Faulty {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let open = || self.inner.open(name, access);
        let inner = if access == Access::CreateNew { self.change(open) } else { open() }?;
        Ok(Arc::new(FaultyFile { inner, folder: self.clone() }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|| self.inner.rename(from, to))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|| self.inner.remove(name))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }
    fn sync(&self) -> io::Result<()> {
        self.change(|| self.inner.sync())
    }
    fn lock(&self) -> io::Result<Option<Box<dyn Lock>>> {
        self.inner.lock()
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn File>,
    folder: Faulty,
}

impl File for FaultyFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.inner.read_at(buf, at)
    }
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<usize> {
        // Short writes, so that a failure can come in the middle.
        let part = &buf[..buf.len().min(100)];
        self.folder.change(|| self.inner.write_at(part, at))
    }
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.folder.change(|| self.inner.set_len(len))
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.folder.change(|| self.inner.allocate(len))
    }
    fn sync(&self, kind: SyncKind) -> io::Result<()> {
        self.folder.change(|| self.inner.sync(kind))
    }
}

/// Every operation of a whole life fails in turn, once or for a while, done or not: each commit
/// is there or not there, those after it succeed, and nothing of a failed one comes back.
#[test]
fn any_operation_may_fail() {
    for (failures, happens) in [(1, false), (1, true), (3, false), (9, true)] {
        for roll_bytes in [0, 150, 1 << 20] {
            for after in 0.. {
                let faulty = Faulty::new();
                let kind = io::ErrorKind::Other;
                faulty.set(Plan { after, failures, kind, happens, fired: false });
                live(&faulty, roll_bytes);
                if !faulty.plan.lock().fired {
                    assert!(after > 30, "the life has operations");
                    break;
                }
            }
        }
    }
}

/// Creates, commits all of the history, closes and opens, and tries again whatever fails.
fn live(faulty: &Faulty, roll_bytes: u64) {
    let folder: Arc<dyn Folder> = Arc::new(faulty.clone());
    let mut manifest = born(&folder);
    manifest.set_roll_bytes(roll_bytes);
    for (i, edits) in history().iter().enumerate() {
        let before = manifest.state().clone();
        while manifest.commit(edits).is_err() {
            assert_eq!(manifest.state(), &before);
            let after = &states(&history())[i + 1];
            // What a process that starts now would find.
            let found = Manifest::load(&*faulty.inner).unwrap();
            assert!(found == before || (manifest.in_doubt() && &found == after));
        }
        assert!(!manifest.in_doubt());
        assert_eq!(&Manifest::load(&*faulty.inner).unwrap(), manifest.state());
    }
    let last = State { log_end: 9, ..manifest.state().clone() };
    while manifest.close(9, 0).is_err() {}
    assert_eq!(Manifest::load(&*faulty.inner).unwrap(), last);
    let opened = retry(|| Manifest::open(&folder));
    assert_eq!(opened.1, last);
    faulty.heal();
    Manifest::open(&folder).unwrap().0.commit(&[]).unwrap();
    assert_eq!(manifests(&*folder).len(), 1);
    assert!(!folder.list().unwrap().contains(&"current.new".to_owned()));
}

/// A manifest of a new database, however often that takes.
fn born(folder: &Arc<dyn Folder>) -> Manifest {
    retry(|| match Manifest::create(folder, DB_ID) {
        Err(e) if e.kind() == ErrorKind::Misuse => Manifest::open(folder),
        result => result,
    })
    .0
}

fn retry<T>(mut attempt: impl FnMut() -> Result<T>) -> T {
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(e) => assert_eq!(e.kind(), ErrorKind::Io, "{e}"),
        }
    }
}

#[test]
fn nothing_is_appended_behind_a_failed_sync() {
    let faulty = Faulty::new();
    let folder: Arc<dyn Folder> = Arc::new(faulty.clone());
    let (mut manifest, _) = Manifest::create(&folder, DB_ID).unwrap();
    manifest.commit(&[create_table(1, "kept")]).unwrap();
    // The write succeeds, its sync does not.
    let kind = io::ErrorKind::Other;
    faulty.set(Plan { after: 1, failures: 1, kind, happens: true, fired: false });
    assert_eq!(manifest.commit(&[create_table(2, "lost")]).unwrap_err().kind(), ErrorKind::Io);
    assert!(manifest.in_doubt());
    assert_eq!(manifests(&*folder), ["manifest-0000000001"]);
    assert!(Manifest::load(&*folder).unwrap().table_named("lost").is_some());

    manifest.commit(&[]).unwrap();
    assert!(!manifest.in_doubt());
    assert_eq!(manifests(&*folder), ["manifest-0000000002"]);
    assert!(Manifest::load(&*folder).unwrap().table_named("lost").is_none());
    manifest.commit(&[create_table(2, "found")]).unwrap();
    assert_eq!(&Manifest::load(&*folder).unwrap(), manifest.state());
}

#[test]
fn a_full_disk_is_an_error_until_there_is_space() {
    let faulty = Faulty::new();
    let folder: Arc<dyn Folder> = Arc::new(faulty.clone());
    let (mut manifest, _) = Manifest::create(&folder, DB_ID).unwrap();
    manifest.commit(&[create_table(1, "t")]).unwrap();
    let full = |after| {
        let kind = io::ErrorKind::StorageFull;
        faulty.set(Plan { after, failures: u64::MAX, kind, happens: false, fired: false });
    };
    // More than is allocated ahead.
    let big = Edit::SetRoot { table: 1, root: vec![7; 100 << 10].into() };
    full(0);
    for _ in 0..3 {
        let e = manifest.commit(std::slice::from_ref(&big)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Full);
        assert!(e.is_retryable() && !manifest.in_doubt());
        assert!(manifest.state().tables[&1].root.is_empty());
    }
    faulty.set(Plan::NONE);
    manifest.commit(&[big]).unwrap();

    // In the middle of a write.
    full(1);
    let second = Edit::SetRoot { table: 1, root: vec![8; 3000].into() };
    for _ in 0..3 {
        let e = manifest.commit(std::slice::from_ref(&second)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Full);
    }
    faulty.set(Plan::NONE);
    manifest.commit(&[second]).unwrap();
    assert_eq!(&Manifest::load(&*folder).unwrap(), manifest.state());
    assert_eq!(manifests(&*folder).len(), 1);
}

/// What frees space must be able to say so: a file that should give way but cannot goes on.
#[test]
fn small_edits_go_on_when_there_is_no_room_to_roll() {
    /// A folder in which no file can be created or extended.
    #[derive(Debug)]
    struct NoRoom(Arc<dyn Folder>, AtomicBool);
    impl Folder for NoRoom {
        fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
            if access == Access::CreateNew && self.1.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.open(name, access)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.rename(from, to)
        }
        fn remove(&self, name: &str) -> io::Result<()> {
            self.0.remove(name)
        }
        fn list(&self) -> io::Result<Vec<String>> {
            self.0.list()
        }
        fn sync(&self) -> io::Result<()> {
            self.0.sync()
        }
        fn lock(&self) -> io::Result<Option<Box<dyn Lock>>> {
            self.0.lock()
        }
    }
    let no_room = Arc::new(NoRoom(mem(), AtomicBool::new(false)));
    let folder: Arc<dyn Folder> = no_room.clone();
    let (mut manifest, _) = Manifest::create(&folder, DB_ID).unwrap();
    manifest.set_roll_bytes(100);
    no_room.1.store(true, Ordering::Relaxed);
    for id in 1..50 {
        manifest.commit(&[create_table(id, &format!("table {id}"))]).unwrap();
        assert_eq!(&Manifest::load(&*folder).unwrap(), manifest.state());
    }
    assert_eq!(manifests(&*folder), ["manifest-0000000001"]);
    manifest.close(5, 0).unwrap();
    assert_eq!(Manifest::load(&*folder).unwrap().log_end, 0, "as a killed process leaves it");
    no_room.1.store(false, Ordering::Relaxed);
    (50..99).for_each(|id| manifest.commit(&[create_table(id, &format!("{id}"))]).unwrap());
    assert_eq!(manifests(&*folder).len(), 1);
    assert_ne!(manifests(&*folder), ["manifest-0000000001"]);
    assert_eq!(&Manifest::load(&*folder).unwrap(), manifest.state());
    manifest.close(5, 0).unwrap();
    assert_eq!(Manifest::load(&*folder).unwrap().log_end, 5);
}

#[test]
fn a_reader_beside_a_writer_sees_states_in_order() {
    let folder = mem();
    let (mut manifest, _) = Manifest::create(&folder, DB_ID).unwrap();
    manifest.set_roll_bytes(64);
    let loads = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::Acquire) {
                match Manifest::load(&*folder) {
                    Ok(state) => {
                        assert!(state.last_seq >= last);
                        last = state.last_seq;
                        loads.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Busy, "{e}"),
                }
            }
        });
        let mut seq = 0;
        while seq < 1000 || (loads.load(Ordering::Relaxed) < 20 && seq < 1_000_000) {
            seq += 1;
            manifest.commit(&[Edit::SetLastSeq(seq)]).unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert!(loads.into_inner() > 0);
}

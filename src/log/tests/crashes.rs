//! A tiny database that is nothing but a log and the number of its first segment, crashed at every
//! operation, while recovering too, and with every operation failing in turn.

use super::*;
use crate::vfs::{
    Access, Folder, SyncKind,
    sim::{Choice, Effort, Fault, OpKind, SimDisk},
    write_all_at,
};
use std::io;

const POINTER: &str = "first";
const DRAFT: &str = "first.draft";
const SMALL: LogOptions =
    LogOptions { segment_bytes: 1024, first_segment_bytes: 512, mapped: true };

struct Tiny {
    log: Arc<Log>,
    appender: Appender,
    batches: u64,
}

/// The batch numbered `seq`, in every run of every test here.
fn batch(seq: u64) -> Batch {
    let payload = (0..seq * 37 % 140).map(|i| (seq * 11 + i) as u8).collect();
    Batch { first_seq: seq, count: 1, payload }
}

impl Tiny {
    /// Opens as a database does: replay, a new log with what was found, point at it, clean up.
    fn open(folder: &SimDisk) -> Result<Self> {
        let read_pointer = || -> io::Result<SegmentId> {
            let mut bytes = [0; 8];
            crate::vfs::read_exact_at(&*folder.open(POINTER, Access::Read)?, &mut bytes, 0)?;
            Ok(u64::from_le_bytes(bytes))
        };
        let from = match read_pointer() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            result => result.map_err(|e| Error::io("read", POINTER, e))?,
        };
        let (batches, found) = read(folder, from)?;
        let (log, appender) = Log::start(Arc::new(folder.clone()), DB, found.next_segment, SMALL)?;
        let mut tiny = Self { log, appender, batches: 0 };
        for found in batches {
            assert_eq!(found, batch(tiny.batches + 1), "not what was appended");
            tiny.append()?;
        }
        tiny.log.sync_to(tiny.appender.end())?;
        point(folder, found.next_segment).map_err(|e| Error::io("write", POINTER, e))?;
        tiny.log.remove_below(found.next_segment)?;
        Ok(tiny)
    }

    fn append(&mut self) -> Result<()> {
        let Batch { first_seq, count, payload } = batch(self.batches + 1);
        self.appender.append(first_seq, count, payload_crc(&[&payload]), &[&payload])?;
        self.batches += 1;
        Ok(())
    }

    /// Appends so many, makes some of them durable, and marks how many are.
    fn work(&mut self, disk: &SimDisk, batches: u64) -> Result<()> {
        for _ in 0..batches {
            self.append()?;
            if self.batches.is_multiple_of(4) {
                self.log.sync_to(self.appender.end())?;
                disk.mark(self.batches);
            }
            if self.log.needs_spare() && self.batches.is_multiple_of(3) {
                self.log.prepare_spare().or_else(tolerate)?;
            }
        }
        Ok(())
    }
}

fn point(folder: &SimDisk, to: SegmentId) -> io::Result<()> {
    match folder.remove(DRAFT) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let draft = folder.open(DRAFT, Access::CreateNew)?;
    write_all_at(&*draft, &to.to_le_bytes(), 0)?;
    draft.sync(SyncKind::Full)?;
    folder.rename(DRAFT, POINTER)?;
    folder.sync()
}

/// A spare that could not be made is made by who needs it.
fn tolerate(error: Error) -> Result<()> {
    if error.kind() == ErrorKind::Poisoned { Err(error) } else { Ok(()) }
}

fn workload(disk: &SimDisk, batches: u64) -> Result<()> {
    let mut tiny = Tiny::open(disk)?;
    tiny.work(disk, batches)?;
    tiny.appender.close()?;
    disk.mark(tiny.batches);
    let mut tiny = Tiny::open(disk)?;
    disk.mark(tiny.batches);
    tiny.work(disk, batches / 2)
}

/// Opens, checks that what was acknowledged is there, and goes on working.
fn recover(disk: &SimDisk, acknowledged: u64, what: &dyn std::fmt::Debug) {
    let mut tiny = Tiny::open(disk).unwrap_or_else(|e| panic!("{what:?}: {e}"));
    assert!(tiny.batches >= acknowledged, "{} of {acknowledged}: {what:?}", tiny.batches);
    tiny.append().unwrap();
    tiny.appender.close().unwrap();
    let count = tiny.batches;
    assert_eq!(Tiny::open(disk).unwrap().batches, count, "{what:?}");
}

/// So few crashes of each kind at a point.
#[allow(clippy::field_reassign_with_default)] // `Effort` may get more fields.
fn less(each: usize) -> Effort {
    Effort { exhaustive: each as u32, each, random: each as u64, cuts: each, ..Effort::default() }
}

/// Returns how many crashes it tried.
fn crash_everywhere(batches: u64, mappable: bool, effort: Effort) -> u64 {
    let disk = SimDisk::new(5);
    disk.set_mappable(mappable);
    workload(&disk, batches).unwrap();
    let history = disk.history();
    let mut crashes = 0;
    for crash in history.crashes(effort) {
        let acknowledged = history.last_mark_at(crash.point).unwrap_or(0);
        recover(&crash.disk, acknowledged, &crash);
        crashes += 1;
        if crashes % 101 != 0 {
            continue;
        }
        // Again, crashing while it recovers.
        let recovering = crash.disk.history();
        for again in recovering.crashes(less(2)) {
            recover(&again.disk, acknowledged, &(&crash, &again));
        }
    }
    crashes
}

#[test]
fn every_crash_leaves_what_was_acknowledged() {
    for mappable in [false, true] {
        let crashes = crash_everywhere(13, mappable, less(3));
        assert!(crashes > 500, "{crashes}");
    }
}

#[test]
#[ignore = "takes minutes"]
fn every_crash_of_a_longer_run_leaves_what_was_acknowledged() {
    for mappable in [false, true] {
        assert!(crash_everywhere(60, mappable, Effort::default()) > 10_000);
    }
}

#[test]
fn every_failing_operation_leaves_what_was_acknowledged() {
    for mappable in [false, true] {
        for forever in [false, true] {
            let fired = (1..).take_while(|n| fail_nth(*n, mappable, forever)).count();
            assert!(fired > 50, "{fired}");
        }
    }
}

/// Runs the workload with its n-th operation failing; `false` if there are not so many.
fn fail_nth(n: u64, mappable: bool, forever: bool) -> bool {
    let disk = SimDisk::new(n);
    disk.set_mappable(mappable);
    disk.set_short(300);
    let fault = Fault::nth(n);
    disk.inject(if forever { fault.forever() } else { fault });
    let result = workload(&disk, 16);
    let has_fired = disk.faults_fired() > 0;
    disk.clear_faults();
    if !has_fired {
        result.unwrap();
        return false;
    }
    let history = disk.history();
    let end = disk.op_count();
    let acknowledged = history.last_mark_at(end).unwrap_or(0);
    for choice in [Choice::None, Choice::All, Choice::Random(n), Choice::Random(n + 1)] {
        recover(&history.image(end, &choice), acknowledged, &(n, &choice, &result));
    }
    recover(&disk, acknowledged, &(n, &result));
    true
}

#[test]
fn a_disk_that_fills_up_leaves_what_was_acknowledged() {
    for capacity in (600..6000).step_by(97) {
        let disk = SimDisk::new(capacity);
        disk.set_capacity(Some(capacity));
        if let Err(error) = workload(&disk, 30) {
            assert_eq!(error.kind(), ErrorKind::Full, "{capacity}: {error}");
        }
        disk.set_capacity(None);
        let acknowledged = disk.history().last_mark_at(disk.op_count()).unwrap_or(0);
        recover(&disk.crash(&Choice::None), acknowledged, &capacity);
        recover(&disk, acknowledged, &capacity);
    }
}

#[test]
fn lost_syncs_are_damage_or_a_shorter_prefix_but_never_a_hole() {
    for n in 1..40 {
        let disk = SimDisk::new(n);
        let fault = Fault::nth(n).of(OpKind::SyncData).effect(crate::vfs::sim::Effect::Lie);
        disk.inject(fault);
        workload(&disk, 16).unwrap();
        disk.clear_faults();
        for seed in 0..20 {
            let after = disk.crash(&Choice::Random(seed));
            match Tiny::open(&after) {
                Ok(tiny) => assert!(tiny.batches <= 24),
                Err(error) => assert!(error.is_corrupt()),
            }
        }
    }
}

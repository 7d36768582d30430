//! Every I/O operation fails in turn, once and for ever, and nothing acknowledged is lost.
//!
//! Goal: an error is reported to whoever it concerns; what was acknowledged is there after the
//! trouble; reads go on; nothing panics, hangs or guesses. Method: play the same steps with a
//! fault at the first operation, at the second, and so on until no fault fires, as the tests of
//! SQLite do. After each, look through the handles that are open, at the disk as it is, and at
//! disks that lost power.
//!
//! `TONEARM_EFFORT=ci` fails every operation; without it, one in some.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{
    is_thorough,
    look::{self, Promise},
    model::Model,
    player::{Manner, Player, Step},
    scenarios::{self, CACHED, MAPPED, PLAIN, commit, put},
    tell,
};
use std::{
    io,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use tonearm::{
    Durability, ErrorKind, OrderedTable, Table,
    vfs::{
        Access, Folder, SyncKind,
        sim::{Choice, Effect, Fault, OpKind, SimDisk},
    },
};

/// Longer than any run takes on a slow machine.
const HANG: Duration = Duration::from_secs(120);
/// Each failure of which nobody knows whether it happened doubles the states there may be. Beyond
/// so many there is more to compare than to learn.
const STATES_MAX: usize = 1 << 10;

/// One kind of trouble, to be met at each operation in turn.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    effect: Effect,
    forever: bool,
}

const ONCE: [Trouble; 6] = [
    Trouble { effect: Effect::Fail, forever: false },
    Trouble { effect: Effect::FailWith(io::ErrorKind::StorageFull), forever: false },
    Trouble { effect: Effect::FailWith(io::ErrorKind::Interrupted), forever: false },
    Trouble { effect: Effect::FailReverting, forever: false },
    Trouble { effect: Effect::FailLate, forever: false },
    Trouble { effect: Effect::Lie, forever: false },
];

const FOR_EVER: [Trouble; 4] = [
    Trouble { effect: Effect::Fail, forever: true },
    Trouble { effect: Effect::FailWith(io::ErrorKind::StorageFull), forever: true },
    Trouble { effect: Effect::FailReverting, forever: true },
    Trouble { effect: Effect::Lie, forever: true },
];

impl Trouble {
    fn nth(self, n: u64) -> Fault {
        let fault = Fault::nth(n).effect(self.effect);
        if self.forever { fault.forever() } else { fault }
    }

    /// Whether the disk claims that a sync worked that did not: no program can keep promises then
    /// that concern power cuts.
    fn lies(self) -> bool {
        matches!(self.effect, Effect::Lie | Effect::FailLate)
    }

    /// Whether bytes that were written and not synced may be gone without a crash.
    fn reverts(self) -> bool {
        self.effect == Effect::FailReverting
    }
}

/// Runs `job` and fails, with its name, if that takes for ever.
fn in_time(name: String, job: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        job();
        let _ = done.send(());
    });
    if wait.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("{name}: hangs");
    }
    if let Err(panic) = worker.join() {
        tell(&format!("in {name}:"));
        std::panic::resume_unwind(panic);
    }
}

/// Meets the trouble at every operation, or at one in `stride`; says how often.
fn meet_everywhere(trouble: Trouble, manner: Manner, stride: usize) -> u64 {
    let mut met = 0;
    for n in (1..).step_by(stride) {
        let name = format!("{trouble:?} at {n}, {manner:?}");
        let (fired, wait) = mpsc::channel();
        in_time(name, move || fired.send(meet(trouble, manner, n)).unwrap());
        if !wait.recv().unwrap() {
            break;
        }
        met += 1;
    }
    met
}

/// Meets the trouble at operation `n`; says whether there was that operation.
fn meet(trouble: Trouble, manner: Manner, n: u64) -> bool {
    let disk = manner.disk(n);
    disk.inject(trouble.nth(n));
    let mut player = Player::new(disk.clone(), manner);
    let errors = play_on(&mut player, &scenarios::everything());
    let fired = disk.faults_fired() > 0;
    disk.clear_faults();
    if let Some(visible) = player.visible() {
        let visible = visible.expect("reads go on after a failure");
        let states = player.model.now();
        assert!(states.contains(&visible), "{errors:?}: reads show {}", look::Brief(&visible));
    }
    let closed = player.close();
    if fired && errors.is_empty() && closed.is_ok() && trouble.effect == Effect::Fail {
        let history = disk.history();
        let all = (0..history.len()).filter_map(|at| history.operation(at));
        let mut can_fail = all.filter(|op| op.kind() != OpKind::Store);
        let struck = can_fail.nth(n as usize - 1).unwrap();
        assert!(may_go_unreported(struck.kind()), "nobody was told of a failed {struck}");
    }
    check_disks(trouble, &player);
    fired
}

/// Takes all steps whatever fails; after a failure, only those that the same handles can take.
fn play_on(player: &mut Player, steps: &[Step]) -> Vec<String> {
    let mut errors = Vec::new();
    for step in steps {
        let is_over = || {
            matches!(step, Step::Reopen)
                || player.visible().is_none()
                || player.model.now().len() > STATES_MAX
        };
        if !errors.is_empty() && is_over() {
            break;
        }
        if let Err(e) = player.step(step) {
            errors.push(format!("{step:?}: {e}"));
        }
    }
    errors
}

/// Failures that only leave something behind for later, or for which there is another way.
/// (Whether others read the folder is asked again, and until it is known, no page of theirs is
/// written; to be one of them is tried again where nobody can be told.)
fn may_go_unreported(kind: OpKind) -> bool {
    use OpKind::{IsShared, List, Map, Remove, Share};
    matches!(kind, Remove | List | Map | IsShared | Share)
}

/// Nothing that was promised is missing on the disk as it is, nor after a power cut.
fn check_disks(trouble: Trouble, player: &Player) {
    let (model, manner) = (&player.model, player.manner);
    if !trouble.lies() {
        let promise = Promise { model, window: model.promised(false) };
        for choice in [Choice::None, Choice::Random(1), Choice::Random(2), Choice::MetadataOnly] {
            let image = player.disk.crash(&choice);
            promise.survives(manner, &image).unwrap_or_else(|e| panic!("{choice:?}: {e}"));
        }
    }
    if trouble.effect == Effect::FailLate {
        // The sync that says so may be one of the next opening.
        let _ = manner.open(&player.disk);
        sync_page_files(&player.disk);
    }
    let killed = !trouble.reverts();
    let promise = Promise { model, window: model.promised(killed) };
    promise.survives(manner, &player.disk.crash(&Choice::All)).unwrap();
    promise.survives(manner, &player.disk).unwrap();
}

/// Page files go on being written: the sync that tells of a failure may come much later.
fn sync_page_files(disk: &SimDisk) {
    for name in disk.list().unwrap().iter().filter(|name| name.ends_with(".pages")) {
        let _ = disk.open(name, Access::Write).map(|file| file.sync(SyncKind::Full));
    }
}

#[test]
fn every_operation_fails_once() {
    everywhere("once", &ONCE, if is_thorough() { 1 } else { 2 });
}

#[test]
fn every_operation_fails_for_ever() {
    everywhere("for ever", &FOR_EVER, if is_thorough() { 1 } else { 2 });
}

fn everywhere(name: &str, troubles: &[Trouble], stride: usize) {
    let start = Instant::now();
    let met_by = |(number, manner): (usize, Manner)| {
        let troubles = troubles.iter().enumerate();
        let troubles = troubles.filter(|(turn, _)| is_thorough() || turn % 3 == number);
        let times = troubles.map(|(_, trouble)| {
            let times = meet_everywhere(*trouble, manner, stride);
            assert!(times > 3, "{trouble:?} was hardly met: {times} times");
            times
        });
        times.sum::<u64>()
    };
    // Side by side: this is the longest of all suites.
    let met: u64 = std::thread::scope(|scope| {
        let manners = [PLAIN, MAPPED, CACHED].into_iter().enumerate();
        let threads: Vec<_> = manners.map(|each| scope.spawn(move || met_by(each))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let took = start.elapsed().as_secs_f64();
    tell(&format!("faults: {met} operations failed {name}, {took:.1} s"));
}

#[test]
fn short_and_interrupted_transfers_are_no_trouble() {
    for (seed, manner) in [PLAIN, MAPPED, CACHED].into_iter().enumerate() {
        for scenario in scenarios::all(2) {
            let disk = manner.disk(seed as u64);
            disk.set_short(300);
            disk.set_interrupts(300);
            let mut player = Player::new(disk, manner);
            player.play(&scenario.steps);
            let promise = Promise { model: &player.model, window: player.model.promised(false) };
            promise.survives(manner, &player.disk).unwrap();
        }
    }
}

/// A disk is full at some step, and has space again: the same handles go on.
#[test]
fn a_full_disk_stops_nothing_for_good() {
    let stride = if is_thorough() { 512 } else { 512 * 7 };
    for manner in [PLAIN, MAPPED] {
        let mut times = 0;
        for extra in (0..).step_by(stride) {
            let name = format!("{extra} bytes of space, {manner:?}");
            let (full, wait) = mpsc::channel();
            in_time(name, move || full.send(fill_up(manner, extra)).unwrap());
            match wait.recv().unwrap() {
                0 => break,
                often => times += often,
            }
        }
        assert!(times > 10, "the disk was full {times} times");
    }
}

/// Plays on a disk with `extra` bytes of space; gives it more whenever it is full, and says how
/// often it was.
fn fill_up(manner: Manner, extra: u64) -> usize {
    let disk = manner.disk(extra);
    let mut player = Player::new(disk.clone(), manner);
    player.db().unwrap();
    let mut times = 0;
    disk.set_capacity(Some(disk.used() + extra));
    for step in scenarios::everything() {
        while let Err(error) = player.step(&step) {
            assert_eq!(error.kind(), ErrorKind::Full, "{step:?}: {error}");
            check_visible(&player);
            times += 1;
            assert!(times < 100, "{step:?} fails for ever: {error}");
            // Not enough for everything: it is full again soon.
            disk.set_capacity(Some(disk.used() + extra + 4096 * times as u64));
        }
    }
    disk.set_capacity(None);
    check_visible(&player);
    player.close().unwrap();
    let promise = Promise { model: &player.model, window: player.model.promised(false) };
    promise.survives(manner, &disk.crash(&Choice::None)).unwrap();
    promise.survives(manner, &disk).unwrap();
    times
}

fn check_visible(player: &Player) {
    if let Some(visible) = player.visible() {
        let visible = visible.unwrap();
        assert!(player.model.now().contains(&visible), "reads show {}", look::Brief(&visible));
    }
}

/// After a failed sync nobody knows what survives: no write is taken any more.
#[test]
fn a_failed_sync_poisons() {
    for effect in [Effect::Fail, Effect::FailReverting] {
        for manner in [PLAIN, MAPPED] {
            let disk = manner.disk(1);
            let db = manner.open(&disk).unwrap();
            let table = db.lsm("a").unwrap();
            table.insert_with(b"kept", b"1", Durability::PowerLoss).unwrap();
            disk.inject(Fault::nth(1).of(OpKind::SyncData).named(".log").effect(effect));
            let failed = table.insert_with(b"unknown", b"2", Durability::PowerLoss);
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Poisoned);
            for result in [table.insert(b"late", b"3"), table.remove(b"kept"), db.sync()] {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::Poisoned);
            }
            let mut batch = db.batch();
            batch.insert(&table, b"late", b"4");
            assert_eq!(batch.commit_default().unwrap_err().kind(), ErrorKind::Poisoned);
            assert_eq!(table.get(b"kept").unwrap().unwrap(), b"1"[..]);
            assert!(table.first().unwrap().is_some() && table.last().unwrap().is_some());
            drop(table);
            assert_eq!(db.close().unwrap_err().kind(), ErrorKind::Poisoned);
            let db = manner.open(&disk.crash(&Choice::None)).unwrap();
            let table = db.lsm("a").unwrap();
            assert_eq!(table.get(b"kept").unwrap().unwrap(), b"1"[..]);
            assert_eq!(table.get(b"late").unwrap(), None);
            table.insert_with(b"late", b"5", Durability::PowerLoss).unwrap();
        }
    }
}

/// A backup that meets trouble is no database, or a whole one.
#[test]
fn a_failing_backup_is_no_database() {
    let mut player = Player::new(PLAIN.disk(1), PLAIN);
    // As far as the first one: by then there are files of every engine, and a log.
    let steps = scenarios::everything();
    for step in steps.iter().take_while(|step| !matches!(step, Step::Backup)) {
        player.step(step).unwrap();
    }
    player.step(&commit(vec![put("h", 1, "in the log", 9)], Durability::Process)).unwrap();
    let expected = player.visible().unwrap().unwrap();
    let db = player.db().unwrap().clone();
    for n in 1.. {
        let target = SimDisk::new(n);
        target.inject(Fault::nth(n));
        let result = db.backup_in(&(Arc::new(target.clone()) as Arc<dyn Folder>));
        if target.faults_fired() == 0 {
            result.unwrap();
            assert!(n > 10, "only {n} operations");
            break;
        }
        target.clear_faults();
        let opened = PLAIN.builder().create(false).open_in(Arc::new(target));
        match opened {
            Ok(db) => assert_eq!(look::read(&db).unwrap(), expected),
            Err(e) => assert!(result.is_err(), "operation {n}: {e}"),
        }
    }
    drop(db);
    player.close().unwrap();
}

/// The suite must notice a database that does not report what failed: the model finds the loss.
#[test]
fn a_lost_commit_is_noticed() {
    let mut player = Player::new(PLAIN.disk(1), PLAIN);
    player.step(&scenarios::create("a")).unwrap();
    let durable = |n| commit(vec![put("a", n, "x", 5)], Durability::PowerLoss);
    player.step(&durable(1)).unwrap();
    let before = player.disk.crash(&Choice::All);
    player.step(&durable(2)).unwrap();
    let model: &Model = &player.model;
    let promise = Promise { model, window: model.promised(false) };
    assert!(promise.survives(PLAIN, &before).is_err());
    assert!(promise.survives(PLAIN, &player.disk.crash(&Choice::None)).is_ok());
}

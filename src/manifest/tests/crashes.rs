//! Power cuts at every operation, keeping any part of what was not synced, with and without an
//! operation that failed before.

use super::*;
use crate::{
    ErrorKind,
    vfs::sim::{Effect, Effort, Fault, SimDisk},
};

/// Does the whole history, marking state `i` with `i` once it is acknowledged.
fn live(disk: &SimDisk, roll_bytes: u64) {
    let folder: Arc<dyn Folder> = Arc::new(disk.clone());
    let mut manifest = loop {
        match Manifest::create(&folder, DB_ID) {
            Err(e) if e.kind() == ErrorKind::Misuse => break Manifest::open(&folder),
            Err(_) => {}
            created => break created,
        }
    }
    .or_else(|_| Manifest::open(&folder))
    .unwrap()
    .0;
    while manifest.commit(&[]).is_err() {}
    disk.mark(0);
    manifest.set_roll_bytes(roll_bytes);
    for (i, edits) in history().iter().enumerate() {
        while manifest.commit(edits).is_err() {}
        disk.mark(i as u64 + 1);
        if i == 3 {
            let _ = manifest.close(i as u64 + 1, 0);
            manifest = Manifest::open(&folder).or_else(|_| Manifest::open(&folder)).unwrap().0;
            manifest.set_roll_bytes(roll_bytes);
        }
    }
    let _ = manifest.close(99, 0);
}

/// Opens every disk that a crash could have left. Returns how many there were.
fn check_crashes(disk: &SimDisk, effort: Effort, again: bool) -> usize {
    let states = states(&history());
    let past = disk.history();
    let mut crashes = 0;
    for crash in past.crashes(effort) {
        let folder: Arc<dyn Folder> = Arc::new(crash.disk.clone());
        let acked = past.last_mark_at(crash.point).map(|mark| mark as usize);
        let (mut manifest, mut state) = match Manifest::open(&folder) {
            Ok(opened) => opened,
            Err(e) if acked.is_none() && e.kind() == ErrorKind::NotFound => {
                Manifest::create(&folder, DB_ID).unwrap()
            }
            Err(e) => panic!("{e}: {crash:?}"),
        };
        // Whether it was closed shows in nothing else.
        state.log_end = 0;
        let found = states.iter().position(|other| *other == state);
        let acked = acked.unwrap_or(0);
        assert!(found == Some(acked) || found == Some(acked + 1), "{found:?}: {crash:?}");
        manifest.commit(&[]).unwrap();
        if again && crashes % 7 == 0 {
            check_recovery(&crash.disk, &state);
        }
        manifest.commit(&[Edit::SetLastSeq(1000)]).unwrap();
        assert_eq!(&Manifest::load(&*folder).unwrap(), manifest.state());
        crashes += 1;
    }
    crashes
}

/// A crash while opening changes nothing.
fn check_recovery(disk: &SimDisk, state: &State) {
    let past = disk.history();
    let effort = Effort { exhaustive: 2, random: 4, ..Effort::default() };
    for crash in past.crashes(effort) {
        match Manifest::load(&crash.disk) {
            Ok(found) => assert_eq!(State { log_end: 0, ..found }, *state, "{crash:?}"),
            Err(e) => assert_eq!((e.kind(), state.next_table), (ErrorKind::NotFound, 1)),
        }
    }
}

#[test]
fn a_crash_leaves_the_state_before_or_after() {
    for roll_bytes in [0, 150, 1 << 20] {
        let disk = SimDisk::new(roll_bytes);
        live(&disk, roll_bytes);
        assert!(check_crashes(&disk, Effort::default(), true) > 200);
    }
}

#[test]
fn a_crash_after_a_failure_leaves_the_state_before_or_after() {
    let effort = Effort { exhaustive: 3, random: 3, ..Effort::default() };
    for effect in [Effect::Fail, Effect::FailReverting] {
        for nth in 1.. {
            let disk = SimDisk::new(nth);
            disk.inject(Fault::nth(nth).effect(effect));
            live(&disk, 150);
            if disk.faults_fired() == 0 {
                assert!(nth > 10);
                break;
            }
            check_crashes(&disk, effort, false);
        }
    }
}

//! Each promise of the simulated disk, and each of its troubles, by example.

use super::{Choice, Effect, Effort, Fault, OpKind, SimDisk};
use crate::vfs::{Access, File, Folder, SyncKind, read_exact_at, read_whole, write_all_at};
use std::{collections::BTreeSet, io::ErrorKind, sync::Arc};

type Disk = SimDisk;

fn create(disk: &Disk, name: &str) -> Arc<dyn File> {
    disk.open(name, Access::CreateNew).unwrap()
}

fn bytes(disk: &Disk, name: &str) -> Option<Vec<u8>> {
    disk.open(name, Access::Read).ok().map(|file| read_whole(&*file).unwrap())
}

/// A disk with a durable file `a` that holds `text`, its history empty.
fn disk_with(text: &[u8]) -> (Disk, Arc<dyn File>) {
    let disk = Disk::new(1);
    let file = create(&disk, "a");
    write_all_at(&*file, text, 0).unwrap();
    disk.sync().unwrap();
    let disk = disk.crash(&Choice::All);
    let file = disk.open("a", Access::Write).unwrap();
    (disk, file)
}

/// All that subsets of the floating changes can leave of file `a` now.
fn outcomes(disk: &Disk) -> BTreeSet<Option<Vec<u8>>> {
    let history = disk.history();
    let floating = history.floating_at(history.len());
    assert!(floating <= 10);
    let image = |bits| history.image(history.len(), &Choice::Subset(bits));
    (0..1 << floating).map(|bits| bytes(&image(bits), "a")).collect()
}

fn texts(texts: &[&str]) -> BTreeSet<Option<Vec<u8>>> {
    texts.iter().map(|text| Some(text.as_bytes().to_vec())).collect()
}

#[test]
fn keeps_the_contract() {
    crate::vfs::contract::check(&Disk::new(1));
}

#[test]
fn keeps_the_contract_with_short_transfers_and_interruptions() {
    let mut ops = 0;
    for seed in 0..20 {
        let disk = Disk::new(seed);
        disk.set_short(700);
        disk.set_interrupts(500);
        let file = create(&disk, "a");
        write_all_at(&*file, &[7; 5000], 300).unwrap();
        ops += disk.op_count();
        let mut back = [0; 5000];
        read_exact_at(&*file, &mut back, 300).unwrap();
        assert_eq!(back, [7; 5000]);
    }
    assert!(ops > 20 * 4, "nothing was short or interrupted");
}

#[test]
fn short_transfers_and_interruptions_happen_only_when_asked_for() {
    let (disk, file) = disk_with(&[1; 1000]);
    for _ in 0..200 {
        assert_eq!(file.read_at(&mut [0; 1000], 0).unwrap(), 1000);
    }
    disk.set_interrupts(1000);
    let results: Vec<_> = (0..4).map(|_| file.read_at(&mut [0; 1000], 0)).collect();
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(results[1].is_ok() && results[2].is_err() && results[3].is_ok());
    disk.set_interrupts(0);
    disk.set_short(1000);
    assert!((0..50).all(|_| matches!(file.write_at(&[2; 1000], 0), Ok(1..1000))));
    assert_eq!(file.read_at(&mut [0], 0).unwrap(), 1);
}

#[test]
fn unsynced_writes_are_lost_in_any_subset() {
    let (disk, file) = disk_with(b"abc");
    file.write_at(b"A", 0).unwrap();
    file.write_at(b"B", 1).unwrap();
    file.write_at(b"C", 2).unwrap();
    let all = ["abc", "Abc", "aBc", "abC", "ABc", "AbC", "aBC", "ABC"];
    assert_eq!(outcomes(&disk), texts(&all));
    file.sync(SyncKind::Data).unwrap();
    assert_eq!(outcomes(&disk), texts(&["ABC"]));
}

#[test]
fn a_write_tears_where_sectors_meet() {
    let (disk, file) = disk_with(&[b'.'; 1200]);
    file.write_at(&[b'x'; 600], 500).unwrap();
    let history = disk.history();
    assert_eq!(history.floating_at(history.len()), 3);
    let image = bytes(&history.image(history.len(), &Choice::Subset(0b101)), "a").unwrap();
    let mut torn = vec![b'.'; 1200];
    torn[500..512].fill(b'x');
    torn[1024..1100].fill(b'x');
    assert_eq!(image, torn);
}

#[test]
fn the_last_write_tears_at_every_byte() {
    let (disk, file) = disk_with(b"0123456789");
    file.write_at(b"X", 0).unwrap();
    let long = [b'y'; 1030];
    file.write_at(&long, 5).unwrap();
    let history = disk.history();
    let last = history.len();
    assert_eq!(history.torn_at(last), 1030);
    for cut in 0..=1030 {
        let mut expected = b"X123456789".to_vec();
        expected.resize(expected.len().max(5 + cut), 0);
        expected[5..5 + cut].copy_from_slice(&long[..cut]);
        let image = history.image(last, &Choice::Torn { bytes: cut });
        assert_eq!(bytes(&image, "a").unwrap(), expected, "cut at {cut}");
    }
}

#[test]
fn the_last_write_ends_in_garbage() {
    let (disk, file) = disk_with(&[b'.'; 2000]);
    file.write_at(&[b'y'; 1100], 100).unwrap();
    let history = disk.history();
    let mut where_it_stopped = BTreeSet::new();
    for seed in 0..6 {
        let image = bytes(&history.image(history.len(), &Choice::TornGarbage(seed)), "a").unwrap();
        let odd = |byte: &u8| *byte != b'y' && *byte != b'.';
        let (first, last) = (image.iter().position(odd), image.iter().rposition(odd));
        let (first, last) = (first.unwrap(), last.unwrap());
        assert_eq!(first / 512, last / 512, "in one sector");
        assert!((100..1200).contains(&first) && last < 1200, "only where it was written");
        assert!(image[100..(first / 512 * 512).max(100)].iter().all(|byte| *byte == b'y'));
        assert!(image[last + 1..].iter().filter(|byte| **byte == b'y').count() < 8);
        where_it_stopped.insert(first / 512);
        let image = bytes(&history.image(history.len(), &Choice::TornSector(0)), "a").unwrap();
        assert!(image[..100].iter().any(odd), "the sector's other bytes are spoilt too");
    }
    assert_eq!(where_it_stopped.len(), 3);
}

#[test]
fn a_length_survives_without_the_bytes_and_the_reverse() {
    let (disk, file) = disk_with(b"abc");
    file.write_at(b"defg", 3).unwrap();
    assert_eq!(outcomes(&disk), texts(&["abc", "abc\0\0\0\0", "abcdefg"]));
    assert_eq!(bytes(&disk.crash(&Choice::MetadataOnly), "a").unwrap(), b"abc\0\0\0\0");
    assert_eq!(bytes(&disk.crash(&Choice::DataOnly), "a").unwrap(), b"abc");
    // Bytes whose length was lost do not come back when the file grows after the crash.
    let image = disk.crash(&Choice::DataOnly);
    image.open("a", Access::Write).unwrap().set_len(7).unwrap();
    assert_eq!(bytes(&image, "a").unwrap(), b"abc\0\0\0\0");
}

#[test]
fn cuts_float_and_a_data_sync_may_leave_them_floating() {
    let (disk, file) = disk_with(b"abcdef");
    file.set_len(2).unwrap();
    assert_eq!(outcomes(&disk), texts(&["abcdef", "ab"]));
    file.sync(SyncKind::Data).unwrap();
    assert_eq!(outcomes(&disk), texts(&["abcdef", "ab"]));
    file.write_at(b"x", 3).unwrap();
    file.sync(SyncKind::Data).unwrap();
    assert_eq!(outcomes(&disk), texts(&["ab\0x"]));
    file.set_len(1).unwrap();
    file.sync(SyncKind::Full).unwrap();
    assert_eq!(outcomes(&disk), texts(&["a"]));
}

#[test]
fn names_float_until_the_folder_is_synced() {
    let disk = Disk::new(1);
    let file = create(&disk, "a");
    file.write_at(b"a", 0).unwrap();
    file.sync(SyncKind::Full).unwrap();
    assert_eq!(bytes(&disk.crash(&Choice::None), "a"), None);
    disk.sync().unwrap();
    assert_eq!(outcomes(&disk), texts(&["a"]));
    disk.remove("a").unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([Some(b"a".to_vec()), None]));
    disk.sync().unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([None]));
}

#[test]
fn a_folder_sync_does_not_make_bytes_durable() {
    let disk = Disk::new(1);
    create(&disk, "a").write_at(b"a", 0).unwrap();
    disk.sync().unwrap();
    assert_eq!(outcomes(&disk), texts(&["", "\0", "a"]));
}

#[test]
fn a_rename_is_one_change_or_two() {
    for (loose, expected) in [(false, 2), (true, 4)] {
        let (disk, _) = disk_with(b"old");
        disk.set_loose_renames(loose);
        let new = create(&disk, "b");
        new.write_at(b"new", 0).unwrap();
        new.sync(SyncKind::Full).unwrap();
        disk.sync().unwrap();
        disk.rename("b", "a").unwrap();
        let history = disk.history();
        let image = |bits| history.image(history.len(), &Choice::Subset(bits));
        let states: BTreeSet<_> = (0..4)
            .map(|bits| (bytes(&image(bits), "a").unwrap(), bytes(&image(bits), "b")))
            .collect();
        assert_eq!(states.len(), expected);
        assert!(states.contains(&(b"old".to_vec(), Some(b"new".to_vec()))));
        assert!(states.contains(&(b"new".to_vec(), None)));
        assert_eq!(states.contains(&(b"old".to_vec(), None)), loose, "lost in between");
    }
}

#[test]
fn a_name_is_only_taken_from_the_file_that_had_it() {
    let (disk, _) = disk_with(b"old");
    create(&disk, "b");
    disk.sync().unwrap();
    disk.rename("b", "a").unwrap();
    disk.remove("a").unwrap();
    assert_eq!(bytes(&disk.crash(&Choice::KeepOne(1)), "a").unwrap(), b"old");
    assert_eq!(disk.crash(&Choice::All).list().unwrap(), Vec::<String>::new());
}

#[test]
fn reserving_space_below_the_length_does_not_change_it() {
    let disk = Disk::new(1);
    let file = create(&disk, "a");
    disk.sync().unwrap();
    file.write_at(b"x", 1000).unwrap();
    file.allocate(600).unwrap();
    let lengths: BTreeSet<_> =
        outcomes(&disk).into_iter().map(|bytes| bytes.map(|bytes| bytes.len())).collect();
    assert_eq!(lengths, BTreeSet::from([Some(0), Some(1001)]));
    file.allocate(1500).unwrap();
    assert_eq!(bytes(&disk.crash(&Choice::KeepOne(3)), "a").unwrap(), [0; 1500]);
}

#[test]
fn a_failed_sync_marks_bytes_clean() {
    let (disk, file) = disk_with(b"abc");
    file.write_at(b"A", 0).unwrap();
    disk.inject(Fault::nth(1).of(OpKind::SyncData));
    assert!(file.sync(SyncKind::Data).is_err());
    assert_eq!(bytes(&disk, "a").unwrap(), b"Abc", "visible");
    file.write_at(b"B", 1).unwrap();
    file.sync(SyncKind::Data).unwrap();
    assert_eq!(outcomes(&disk), texts(&["aBc", "ABc"]), "the second sync wrote only its own");
    assert_eq!(disk.faults_fired(), 1);
}

#[test]
fn a_failed_sync_may_revert() {
    let (disk, file) = disk_with(b"abc");
    file.write_at(b"Adef", 0).unwrap();
    disk.inject(Fault::nth(1).effect(Effect::FailReverting));
    assert!(file.sync(SyncKind::Full).is_err());
    assert_eq!(bytes(&disk, "a").unwrap(), b"abc", "gone");
    file.write_at(b"B", 1).unwrap();
    assert_eq!(outcomes(&disk), texts(&["abc", "aBc"]));
    file.sync(SyncKind::Full).unwrap();
    assert_eq!(outcomes(&disk), texts(&["aBc"]));
    let before = disk.history().image(2, &Choice::All);
    assert_eq!(bytes(&before, "a").unwrap(), b"Adef", "before the sync they were floating");
}

#[test]
fn a_failed_sync_may_be_reported_by_the_next() {
    let (disk, file) = disk_with(b"abc");
    file.write_at(b"A", 0).unwrap();
    disk.inject(Fault::nth(1).effect(Effect::FailLate));
    file.sync(SyncKind::Data).unwrap();
    assert_eq!(outcomes(&disk), texts(&["abc", "Abc"]));
    assert!(file.sync(SyncKind::Data).is_err());
    file.sync(SyncKind::Data).unwrap();
    assert_eq!(outcomes(&disk), texts(&["abc", "Abc"]));
    create(&disk, "b");
    disk.inject(Fault::nth(1).of(OpKind::SyncFolder).effect(Effect::FailLate));
    disk.sync().unwrap();
    assert!(disk.sync().is_err());
    disk.sync().unwrap();
    assert_eq!(bytes(&disk.crash(&Choice::None), "b"), None);
}

#[test]
fn a_lying_sync_makes_nothing_durable_but_an_honest_one_still_can() {
    let (disk, file) = disk_with(b"abc");
    create(&disk, "b");
    file.write_at(b"A", 0).unwrap();
    disk.inject(Fault::nth(1).effect(Effect::Lie).forever());
    for _ in 0..3 {
        file.sync(SyncKind::Full).unwrap();
        disk.sync().unwrap();
    }
    let crash = disk.crash(&Choice::None);
    assert_eq!((bytes(&crash, "a").unwrap(), bytes(&crash, "b")), (b"abc".to_vec(), None));
    disk.clear_faults();
    file.sync(SyncKind::Full).unwrap();
    disk.sync().unwrap();
    let crash = disk.crash(&Choice::None);
    assert_eq!((bytes(&crash, "a").unwrap(), bytes(&crash, "b")), (b"Abc".to_vec(), Some(vec![])));
}

#[test]
fn every_kind_of_operation_fails_and_counts() {
    let disk = Disk::new(1);
    disk.set_mappable(true);
    let file = create(&disk, "a");
    file.allocate(10).unwrap();
    let mut map = file.map_mut(10).unwrap().unwrap();
    type Act<'a> = &'a dyn Fn() -> std::io::Result<()>;
    let acts: [(OpKind, Act<'_>); 16] = [
        (OpKind::Open, &|| disk.open("a", Access::Read).map(drop)),
        (OpKind::Create, &|| disk.open("c", Access::CreateNew).map(drop)),
        (OpKind::Rename, &|| disk.rename("c", "d")),
        (OpKind::Remove, &|| disk.remove("d")),
        (OpKind::List, &|| disk.list().map(drop)),
        (OpKind::SyncFolder, &|| Folder::sync(&disk)),
        (OpKind::Lock, &|| disk.lock().map(drop)),
        (OpKind::Read, &|| file.read_at(&mut [0], 0).map(drop)),
        (OpKind::Write, &|| file.write_at(&[1], 0).map(drop)),
        (OpKind::Size, &|| file.size().map(drop)),
        (OpKind::SetLen, &|| file.set_len(30)),
        (OpKind::Allocate, &|| file.allocate(40)),
        (OpKind::SyncData, &|| file.sync(SyncKind::Data)),
        (OpKind::SyncFull, &|| file.sync(SyncKind::Full)),
        (OpKind::Map, &|| file.map().map(drop)),
        (OpKind::Map, &|| file.map_mut(10).map(drop)),
    ];
    for (kind, act) in acts {
        let before = disk.op_count();
        disk.inject(Fault::nth(1).of(kind).effect(Effect::FailWith(ErrorKind::TimedOut)));
        map.store(0, b"no error");
        assert_eq!(act().unwrap_err().kind(), ErrorKind::TimedOut, "{kind:?}");
        act().unwrap();
        disk.inject(Fault::nth(2).of(kind).forever());
        act().or_else(|e| if e.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(e) }).ok();
        assert!((0..3).all(|_| act().is_err()), "{kind:?}");
        disk.clear_faults();
        assert_eq!(disk.op_count() - before, 7, "{kind:?}");
        if kind == OpKind::Rename || kind == OpKind::Create {
            let _ = disk.open("c", Access::CreateNew);
        } else if kind == OpKind::Remove {
            let _ = disk.open("d", Access::CreateNew);
        }
    }
}

#[test]
fn a_failing_write_may_leave_a_part() {
    let mut left = BTreeSet::new();
    for seed in 0..40 {
        let disk = Disk::new(seed);
        let file = create(&disk, "a");
        disk.inject(Fault::nth(1).of(OpKind::Write));
        assert!(file.write_at(b"abcd", 0).is_err());
        left.insert(bytes(&disk, "a").unwrap());
    }
    let parts: [&[u8]; 5] = [b"", b"a", b"ab", b"abc", b"abcd"];
    assert_eq!(left, parts.iter().map(|part| part.to_vec()).collect());
}

#[test]
fn a_full_disk_takes_what_fits_and_recovers() {
    let disk = Disk::new(1);
    disk.set_capacity(Some(4 * 512 + 100));
    let file = create(&disk, "a");
    assert_eq!(disk.used(), 512);
    let full = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::StorageFull);
    };
    assert_eq!(file.write_at(&[1; 4000], 100).unwrap(), 3 * 512 - 100, "what fits");
    full(file.write_at(&[1; 4000], 3 * 512).map(drop));
    full(write_all_at(&*file, &[1; 4000], 100));
    full(file.allocate(2000));
    full(disk.open("b", Access::CreateNew).map(drop));
    assert_eq!(disk.list().unwrap(), ["a"]);
    assert_eq!(file.write_at(&[2; 1000], 0).unwrap(), 1000, "in place");
    file.set_len(9000).unwrap();
    assert_eq!(disk.used(), 4 * 512, "holes take nothing");
    full(file.write_at(&[1], 8000).map(drop));
    disk.set_capacity(Some(20 * 512));
    file.allocate(9000).unwrap();
    assert_eq!(disk.used(), 512 + 18 * 512);
    create(&disk, "b");
    disk.rename("b", "a").unwrap();
    assert_eq!(disk.used(), 20 * 512, "replaced, but still open");
    drop(file);
    assert_eq!(disk.used(), 512);
    create(&disk, "b");
    disk.rename("b", "a").unwrap();
    assert_eq!(disk.used(), 512, "replaced");
    disk.remove("a").unwrap();
    assert_eq!(disk.used(), 0);
}

#[test]
fn stores_into_a_mapping_are_atoms_like_those_of_writes() {
    let (disk, file) = disk_with(b"");
    assert!(file.map_mut(10).unwrap().is_none());
    file.allocate(1000).unwrap();
    file.sync(SyncKind::Data).unwrap();
    assert!(file.map_mut(1000).unwrap().is_none(), "not mappable");
    disk.set_mappable(true);
    assert!(file.map_mut(1001).unwrap().is_none(), "too long");
    let mut map = file.map_mut(1000).unwrap().unwrap();
    map.store(510, b"wxyz");
    let history = disk.history();
    assert_eq!(history.floating_at(history.len()), 2);
    assert_eq!(history.torn_at(history.len()), 4);
    let kept = |choice| bytes(&disk.crash(&choice), "a").unwrap()[510..514].to_vec();
    assert_eq!(kept(Choice::None), b"\0\0\0\0");
    assert_eq!(kept(Choice::KeepOne(1)), b"\0\0yz");
    assert_eq!(kept(Choice::Torn { bytes: 3 }), b"wxy\0");
    assert_eq!(kept(Choice::All), b"wxyz");
    drop(file);
    disk.open("a", Access::Write).unwrap().sync(SyncKind::Data).unwrap();
    assert_eq!(kept(Choice::None), b"wxyz");
}

#[test]
fn bits_rot_for_good_or_in_one_read() {
    let (disk, file) = disk_with(&[0; 2000]);
    disk.flip("a", 700, 0b101).unwrap();
    let mut expected = vec![0; 2000];
    expected[700] = 0b101;
    assert_eq!(read_whole(&*file).unwrap(), expected);
    assert_eq!(*file.map().unwrap().unwrap(), expected);
    disk.flip("a", 700, 0b101).unwrap();
    assert_eq!(*file.map().unwrap().unwrap(), vec![0; 2000]);
    disk.set_rot(1_000_000);
    let rotten = read_whole(&*file).unwrap();
    assert_eq!(rotten.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!(disk.reads_rotted(), 1);
    disk.set_rot(0);
    assert_eq!(read_whole(&*file).unwrap(), vec![0; 2000]);
}

#[test]
fn handles_for_reading_cannot_write() {
    let (disk, _) = disk_with(b"abc");
    disk.set_mappable(true);
    let file = disk.open("a", Access::Read).unwrap();
    assert!(file.write_at(b"x", 0).is_err() && file.set_len(0).is_err());
    assert!(file.allocate(9).is_err() && file.map_mut(1).is_err());
    assert_eq!(bytes(&disk, "a").unwrap(), b"abc");
}

#[test]
fn marks_tell_what_was_acknowledged() {
    let disk = Disk::new(1);
    disk.mark(10);
    let file = create(&disk, "a");
    file.write_at(b"a", 0).unwrap();
    disk.mark(20);
    disk.mark(21);
    let _ = read_whole(&*file);
    disk.mark(30);
    let history = disk.history();
    assert_eq!(history.last_mark_at(0), Some(10));
    assert_eq!(history.last_mark_at(1), Some(10));
    assert_eq!(history.marks_at(2).collect::<Vec<_>>(), [10, 20, 21]);
    assert_eq!(history.last_mark_at(3), Some(21));
    assert_eq!(history.last_mark_at(history.len()), Some(30));
    assert_eq!(history.points(), [0, 1, 2, 4], "a mark makes a point, reads do not");
    let ops: Vec<String> = (0..4).map(|i| history.operation(i).unwrap().to_string()).collect();
    assert_eq!(ops, ["Create a", "Write a 0..1", "Size a", "Read a 0..1"]);
}

#[test]
fn an_image_is_durable_independent_and_can_crash_again() {
    let (disk, file) = disk_with(b"abc");
    file.write_at(b"A", 0).unwrap();
    let image = disk.crash(&Choice::All);
    let recovered = image.open("a", Access::Write).unwrap();
    recovered.write_at(b"B", 1).unwrap();
    assert_eq!(outcomes(&image), texts(&["Abc", "ABc"]), "A is durable, B floats");
    assert_eq!(bytes(&disk, "a").unwrap(), b"Abc", "the disk it is from did not change");
    assert_eq!(outcomes(&image.crash(&Choice::None)), texts(&["Abc"]));
}

#[test]
fn points_may_be_asked_for_in_any_order() {
    let (disk, file) = disk_with(b"abc");
    for (at, byte) in [(0, b"A"), (1, b"B"), (2, b"C")] {
        file.write_at(byte, at).unwrap();
        file.sync(SyncKind::Data).unwrap();
    }
    let history = disk.history();
    let at = |point| bytes(&history.image(point, &Choice::None), "a").unwrap();
    let first = history.operation(0).map(|op| op.kind());
    assert_eq!(first, Some(OpKind::Open));
    for point in [7_usize, 3, 5, 1, 6, 0, 7] {
        let synced = point.saturating_sub(1) / 2;
        let expected = [b"abc", b"Abc", b"ABc", b"ABC"][synced];
        assert_eq!(at(point), expected, "point {point}");
        assert_eq!(bytes(&history.clone().image(point, &Choice::None), "a").unwrap(), expected);
    }
}

#[test]
fn fingerprints_tell_disks_apart() {
    let (disk, file) = disk_with(b"abc");
    let empty = Disk::new(5).fingerprint();
    let before = disk.fingerprint();
    assert_ne!(empty, before);
    file.write_at(b"A", 0).unwrap();
    let changed = disk.fingerprint();
    assert_ne!(changed, before);
    assert_eq!(disk.crash(&Choice::All).fingerprint(), changed);
    assert_eq!(disk.crash(&Choice::None).fingerprint(), before);
    disk.rename("a", "b").unwrap();
    assert_ne!(disk.fingerprint(), changed);
}

#[test]
fn crashes_are_all_different_and_include_the_extremes() {
    let (disk, file) = disk_with(b"abc");
    file.write_at(&[b'x'; 3000], 0).unwrap();
    file.sync(SyncKind::Data).unwrap();
    let history = disk.history();
    let crashes: Vec<_> = history.crashes(Effort::default()).collect();
    let prints: BTreeSet<_> = crashes.iter().map(|crash| crash.disk.fingerprint()).collect();
    assert_eq!(prints.len(), crashes.len());
    assert!(crashes.len() > 30);
    let results: Vec<_> = crashes.iter().map(|crash| bytes(&crash.disk, "a").unwrap()).collect();
    assert!(results.contains(&b"abc".to_vec()) && results.contains(&vec![b'x'; 3000]));
    assert!(results.iter().any(|text| text.len() == 3000 && text[0] == b'a' && text[600] == b'x'));
}

/// Prints what one image costs: `cargo test --release --lib image_cost -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn image_cost() {
    let disk = Disk::new(1);
    let file = create(&disk, "base");
    write_all_at(&*file, &[1; 400 << 10], 0).unwrap();
    file.sync(SyncKind::Full).unwrap();
    disk.sync().unwrap();
    let log = create(&disk, "log");
    log.allocate(64 << 10).unwrap();
    for record in 0..400 {
        log.write_at(&[record as u8; 140], record * 140).unwrap();
        file.write_at(&[record as u8; 4096], record * 1000).unwrap();
        if record % 3 == 0 {
            log.sync(SyncKind::Data).unwrap();
            file.sync(SyncKind::Data).unwrap();
        }
    }
    let history = disk.history();
    let start = std::time::Instant::now();
    let (mut images, mut prints) = (0, BTreeSet::new());
    for point in history.points() {
        for choice in history.choices_at(point, &Effort::default()) {
            prints.insert(history.image(point, &choice).fingerprint());
            images += 1;
        }
    }
    let each = start.elapsed() / images;
    println!("{images} images with fingerprint, {} different: {each:?} each", prints.len());
}

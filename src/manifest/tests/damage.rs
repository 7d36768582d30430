//! Damaged, torn, missing and foreign files.

use super::*;
use crate::{
    Error, ErrorKind,
    manifest::{current::Current, load::replay, record},
};
use proptest::prelude::*;

/// A folder in which the history was committed, without a roll.
fn committed() -> (Arc<dyn Folder>, Manifest) {
    let folder = mem();
    let (mut manifest, _) = Manifest::create(&folder, DB_ID).unwrap();
    history().iter().for_each(|edits| manifest.commit(edits).unwrap());
    (folder, manifest)
}

const NAME: &str = "manifest-0000000001";

/// The manifest's bytes without the zeros at its end, and where each record begins and the last
/// one ends.
fn records(folder: &dyn Folder) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = bytes_of(folder, NAME);
    let seed = record::seed(DB_ID, 1);
    let mut places = vec![0];
    while let Some(record) =
        record::decode(&bytes[*places.last().unwrap()..], seed, places.len() as u64 - 1)
    {
        places.push(places.last().unwrap() + record.len);
    }
    bytes.truncate(*places.last().unwrap() + 64);
    (bytes, places)
}

fn current(folder: &dyn Folder) -> Current {
    Current::read(folder).unwrap().unwrap()
}

fn assert_corrupt_in_manifest(e: &Error) {
    assert_eq!((e.kind(), e.file()), (ErrorKind::Corrupt, Some(NAME)), "{e}");
}

#[test]
fn a_write_torn_at_any_byte_leaves_the_state_before() {
    let (folder, _) = committed();
    let (bytes, places) = records(&*folder);
    let current = current(&*folder);
    let states = states(&history());
    let end = places[places.len() - 1];
    for cut in places[1]..=end {
        let whole = places.iter().filter(|place| **place <= cut).count() - 1;
        assert_eq!(replay(&bytes[..cut], &current).unwrap(), states[whole - 1], "cut at {cut}");
        let mut zeroed = bytes.clone();
        zeroed[cut..].fill(0);
        // Zeros may be all that was torn off: then the record is whole nevertheless.
        let is_whole = |place: &&usize| zeroed[..**place] == bytes[..**place];
        let whole = places.iter().take_while(is_whole).count() - 1;
        assert_eq!(replay(&zeroed, &current).unwrap(), states[whole - 1], "zeroed from {cut}");
    }
    for cut in 0..places[1] {
        assert_corrupt_in_manifest(&replay(&bytes[..cut], &current).unwrap_err());
    }
}

#[test]
fn a_torn_tail_is_not_built_upon() {
    let (folder, _) = committed();
    let (bytes, places) = records(&*folder);
    let before_last = places[places.len() - 2];
    put_file(&*folder, NAME, &bytes[..before_last + 13]);
    let (mut manifest, state) = Manifest::open(&folder).unwrap();
    let states = states(&history());
    assert_eq!(state, states[states.len() - 2]);
    assert_eq!(manifests(&*folder), [NAME], "opening alone changes nothing");
    manifest.commit(history().last().unwrap()).unwrap();
    assert_eq!(manifests(&*folder), ["manifest-0000000002"]);
    assert_eq!(&Manifest::load(&*folder).unwrap(), states.last().unwrap());
}

#[test]
fn every_flipped_bit_of_a_closed_manifest_is_found() {
    let (folder, mut manifest) = committed();
    manifest.close(7, 100).unwrap();
    let current = current(&*folder);
    let (name, used) = ("manifest-0000000002", current.first_len as usize);
    assert_eq!(manifests(&*folder), [name]);
    let mut bytes = bytes_of(&*folder, name);
    let last = states(&history()).pop().unwrap();
    let state = State { log_end: 7, last_seq: 100, ..last };
    for at in 0..used + 64 {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            match replay(&bytes, &current) {
                Err(e) => assert_eq!((e.kind(), e.file()), (ErrorKind::Corrupt, Some(name))),
                Ok(read) => assert!(at >= used && read == state, "a flip at {at} was not seen"),
            }
            bytes[at] ^= 1 << bit;
        }
    }
    // Nobody appends to it any more.
    let fill = |out: &mut Vec<u8>| Edit::SetLastSeq(200).encode(out);
    let late = record::encode(record::seed(DB_ID, 2), record::Kind::Edits, 1, fill).unwrap();
    bytes.splice(used.., late);
    let e = replay(&bytes, &current).unwrap_err();
    assert_eq!((e.file(), e.offset()), (Some(name), Some(used as u64)));
}

#[test]
fn a_commit_after_closing_opens_again() {
    let (folder, mut manifest) = committed();
    manifest.close(7, 100).unwrap();
    manifest.commit(&[]).unwrap();
    assert_eq!(Manifest::load(&*folder).unwrap().log_end, 0);
    manifest.commit(&[Edit::SetLastSeq(200)]).unwrap();
    assert_eq!(&Manifest::load(&*folder).unwrap(), manifest.state());
}

#[test]
fn every_flipped_bit_before_the_last_record_is_found_without_a_close() {
    let (folder, _) = committed();
    let (mut bytes, places) = records(&*folder);
    let current = current(&*folder);
    for at in 0..places[places.len() - 2] {
        bytes[at] ^= 0x10;
        assert_corrupt_in_manifest(&replay(&bytes, &current).unwrap_err());
        bytes[at] ^= 0x10;
    }
}

#[test]
fn every_flipped_bit_of_current_is_found() {
    let (folder, _) = committed();
    let mut bytes = bytes_of(&*folder, "current");
    assert_eq!(bytes.len(), 64);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            put_file(&*folder, "current", &bytes);
            let e = Manifest::load(&*folder).unwrap_err();
            assert_eq!((e.kind(), e.file()), (ErrorKind::Corrupt, Some("current")), "{e}");
            bytes[at] ^= 1 << bit;
        }
    }
    for len in 0..64 {
        put_file(&*folder, "current", &bytes[..len]);
        assert!(Manifest::open(&folder).unwrap_err().is_corrupt());
    }
    put_file(&*folder, "current", &bytes.repeat(65));
    assert!(Manifest::open(&folder).unwrap_err().is_corrupt());
}

#[test]
fn another_version_is_told_from_damage() {
    let (folder, _) = committed();
    let mut bytes = bytes_of(&*folder, "current");
    bytes[16] = 2;
    bytes.extend_from_slice(b"what only version 2 knows");
    let sum = crate::codec::checksum(&bytes[16..], 0);
    bytes[8..16].copy_from_slice(&sum.to_le_bytes());
    put_file(&*folder, "current", &bytes);
    let e = Manifest::open(&folder).unwrap_err();
    assert_eq!((e.kind(), e.file()), (ErrorKind::Version, Some("current")));
}

#[test]
fn records_of_another_file_or_database_do_not_count() {
    let (folder, _) = committed();
    let bytes = bytes_of(&*folder, NAME);
    let current = current(&*folder);
    assert!(replay(&bytes, &Current { number: 2, ..current }).is_err());
    assert!(replay(&bytes, &Current { db_id: 1, ..current }).is_err());
    // The records of one database, replayed in a copy of it that went another way.
    let other = mem();
    let (mut manifest, _) = Manifest::create(&other, DB_ID).unwrap();
    manifest.commit(&[create_table(1, "another")]).unwrap();
    put_file(&*other, "manifest-0000000002", &bytes);
    assert_eq!(&Manifest::load(&*other).unwrap(), manifest.state());
}

#[test]
fn a_folder_without_current_was_never_a_database_or_lost_it() {
    let empty = mem();
    assert_eq!(Manifest::open(&empty).unwrap_err().kind(), ErrorKind::NotFound);
    put_file(&*empty, "readme.txt", b"not ours");
    assert_eq!(Manifest::load(&*empty).unwrap_err().kind(), ErrorKind::NotFound);
    put_file(&*empty, NAME, b"creation was cut short here");
    put_file(&*empty, "current.new", b"");
    assert_eq!(Manifest::open(&empty).unwrap_err().kind(), ErrorKind::NotFound);
    let (_, state) = Manifest::create(&empty, DB_ID).unwrap();
    assert_eq!(Manifest::load(&*empty).unwrap(), state);
    assert_eq!(Manifest::create(&empty, DB_ID).unwrap_err().kind(), ErrorKind::Misuse);

    for lost in ["0000000007.run", "0000000001.log", "12345678901.pages", "manifest-0000000002"] {
        let folder = mem();
        put_file(&*folder, NAME, b"");
        put_file(&*folder, lost, b"");
        for e in [
            Manifest::open(&folder).unwrap_err(),
            Manifest::load(&*folder).unwrap_err(),
            Manifest::create(&folder, DB_ID).unwrap_err(),
        ] {
            assert_eq!((e.kind(), e.file()), (ErrorKind::Corrupt, Some("current")), "{lost}: {e}");
        }
    }
}

#[test]
fn a_missing_manifest_is_named() {
    let (folder, _) = committed();
    folder.remove(NAME).unwrap();
    assert_corrupt_in_manifest(&Manifest::open(&folder).unwrap_err());
    assert_corrupt_in_manifest(&Manifest::load(&*folder).unwrap_err());
}

#[test]
fn edits_that_do_not_fit_are_damage_with_right_checksums() {
    let bad = [
        vec![Edit::DropTable(9)],
        vec![create_table(1, "again")],
        vec![create_table(3, "listens")],
        vec![create_table(3, "")],
        vec![add_file(1, 1)],
        vec![add_file(9, 5)],
        vec![add_file(1, u64::MAX)],
        vec![Edit::RemoveFile { table: 1, file: 5 }],
        vec![Edit::SetLogStart(2), Edit::SetLogStart(1)],
    ];
    for edits in bad {
        let folder = mem();
        let (mut manifest, _) = Manifest::create(&folder, DB_ID).unwrap();
        manifest.commit(&[create_table(1, "listens"), add_file(1, 1)]).unwrap();
        assert_eq!(manifest.commit(&edits).unwrap_err().kind(), ErrorKind::Misuse);
        let (mut bytes, places) = records(&*folder);
        let fill = |out: &mut Vec<u8>| edits.iter().for_each(|edit| edit.encode(out));
        let hostile = record::encode(record::seed(DB_ID, 1), record::Kind::Edits, 2, fill).unwrap();
        bytes.splice(places[2].., hostile);
        let e = replay(&bytes, &current(&*folder)).unwrap_err();
        assert_corrupt_in_manifest(&e);
        assert_eq!(e.offset(), Some(places[2] as u64));
    }
}

/// A manifest file of records with right checksums and any payloads.
fn hostile(state: &[u8], payloads: &[(u8, Vec<u8>)]) -> (Vec<u8>, Current) {
    let seed = record::seed(DB_ID, 1);
    let kinds = [record::Kind::State, record::Kind::Edits];
    let put = |out: &mut Vec<u8>, payload: &[u8]| out.extend_from_slice(payload);
    let mut bytes = record::encode(seed, record::Kind::State, 0, |out| put(out, state)).unwrap();
    let current = Current {
        db_id: DB_ID,
        number: 1,
        first_len: bytes.len() as u64,
        first_checksum: record::checksum_of(&bytes),
    };
    for (number, (kind, payload)) in payloads.iter().enumerate() {
        let kind = kinds[usize::from(*kind) % 2];
        let fill = |out: &mut Vec<u8>| put(out, payload);
        bytes.extend(record::encode(seed, kind, number as u64 + 1, fill).unwrap());
    }
    (bytes, current)
}

proptest! {
    #[test]
    fn payloads_of_an_attacker_do_not_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        payloads in prop::collection::vec((0u8..3, prop::collection::vec(0u8..16, 0..24)), 0..4),
    ) {
        let mut state = Vec::new();
        states(&history()).pop().unwrap().encode(&mut state);
        for (at, byte) in flips {
            let at = at.index(state.len());
            state[at] = byte;
        }
        let (bytes, current) = hostile(&state, &payloads);
        if let Err(e) = replay(&bytes, &current) {
            prop_assert!(e.is_corrupt());
        }
    }
}

#[test]
fn bytes_made_of_headers_do_not_cost_quadratic_time() {
    let mut state = Vec::new();
    State::new(DB_ID).encode(&mut state);
    let (mut bytes, current) = hostile(&state, &[]);
    // Every 24 bytes a header that claims half of the file.
    while bytes.len() < 4 << 20 {
        let mut header = vec![7; 8];
        header.extend_from_slice(&(2u32 << 20).to_le_bytes());
        header.extend_from_slice(&[2, 0, 0, 0]);
        header.extend_from_slice(&77u64.to_le_bytes());
        bytes.extend(header);
    }
    let started = std::time::Instant::now();
    assert!(replay(&bytes, &current).unwrap_err().is_corrupt());
    assert!(started.elapsed().as_secs() < 10);
}

//! What is left of a damaged database is found, and what is lost is said.
//!
//! Goal: one damaged place costs what lies there and no more, and nothing that was never written
//! comes out of a rescue. Method: each part of a small database is damaged in turn and salvaged;
//! what comes out is compared with what was put in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{
    chance::Chance,
    is_thorough,
    look::read,
    player::Player,
    scenarios::{self, PLAIN},
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};
use tonearm::{
    BtreeOptions, Compression, Db, ErrorKind, Lsm, LsmOptions, Table,
    check::{self, Report},
    vfs::{Access, Folder, mem::MemFolder, sim::Choice},
};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

const ENTRIES: u32 = 2000;

fn quiet() -> tonearm::Builder {
    Db::builder().threads(0).sync_interval(None).memory(1 << 20)
}

fn key(number: u32) -> Vec<u8> {
    format!("song {number:06}").into_bytes()
}

/// A database with one table in one run, and some commits in the log.
fn one_run(options: &LsmOptions, in_log: u32) -> MemFolder {
    let folder = MemFolder::default();
    let db = quiet().memory(64 << 20).open_in(Arc::new(folder.clone())).unwrap();
    let table = db.lsm_with("songs", options).unwrap();
    for number in 0..ENTRIES {
        let len = if number % 100 == 7 { 900 } else { 20 };
        table.insert(&key(number), &vec![number as u8; len]).unwrap();
    }
    table.flush().unwrap();
    (0..in_log).for_each(|n| table.insert(&key(ENTRIES + n), b"in the log").unwrap());
    drop(table);
    db.close().unwrap();
    folder
}

fn small() -> LsmOptions {
    LsmOptions::new().block_bytes(512)
}

fn entries(table: &Lsm) -> Entries {
    table.iter().map(|entry| entry.unwrap()).map(|(k, v)| (k.to_vec(), v.to_vec())).collect()
}

/// What salvaging the folder gives.
fn salvage(folder: &dyn Folder) -> (Db, Report) {
    let db = quiet().open_in_memory().unwrap();
    let report = check::salvage_in(folder, &db).unwrap();
    (db, report)
}

fn named(folder: &dyn Folder, end: &str) -> String {
    folder.list().unwrap().into_iter().find(|name| name.contains(end)).unwrap()
}

fn bytes_of(folder: &dyn Folder, name: &str) -> Vec<u8> {
    let file = folder.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn create(folder: &dyn Folder, name: &str, bytes: &[u8]) {
    folder.open(name, Access::CreateNew).unwrap().write_at(bytes, 0).unwrap();
}

fn overwrite(folder: &dyn Folder, name: &str, bytes: &[u8]) {
    folder.remove(name).unwrap();
    create(folder, name, bytes);
}

fn flip(folder: &dyn Folder, name: &str, at: usize) {
    let mut bytes = bytes_of(folder, name);
    bytes[at] ^= 0x40;
    overwrite(folder, name, &bytes);
}

#[test]
fn a_healthy_database_is_copied_whole() {
    for scenario in scenarios::all(0).iter().take(6) {
        let mut player = Player::new(scenario.manner.disk(1), scenario.manner);
        player.play(&scenario.steps);
        let (db, report) = salvage(&player.disk);
        assert!(player.model.now().contains(&read(&db).unwrap()), "{}", scenario.name);
        assert_eq!((report.missing, report.damage.len()), (0, 0), "{}: {report}", scenario.name);
    }
}

fn listing(folder: &dyn Folder) -> String {
    let mut out = Vec::new();
    check::dump_in(folder, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// What tests of lenders are made of has some, which the end of it does away with.
#[test]
fn lenders_come_and_go() {
    let mut player = Player::new(PLAIN.disk(1), PLAIN);
    let mut most = 0;
    for step in scenarios::lent_values() {
        player.step(&step).unwrap();
        let Ok(table) = player.db().unwrap().table("l") else { continue };
        let lenders = table.stats().lenders.files;
        assert_eq!(listing(&player.disk).matches("  lender ").count() as u64, lenders);
        most = most.max(lenders);
    }
    assert!(most > 2, "{most}");
    assert_eq!(player.db().unwrap().table("l").unwrap().stats().file_bytes, 0);
    let mut player = Player::new(PLAIN.disk(1), PLAIN);
    player.play(&scenarios::everything());
    assert!(listing(&player.disk).contains("  lender "), "{}", listing(&player.disk));
}

/// A table whose values mostly lie in other files than their entries.
fn lent() -> (MemFolder, Entries) {
    let folder = MemFolder::default();
    let db = quiet().open_in(Arc::new(folder.clone())).unwrap();
    let options = small().filter_bits(0).last_filter_bits(0).separate_values(400);
    let table = db.lsm_with("songs", &options).unwrap();
    for round in 0..4u32 {
        for number in (0..400).filter(|number| number % 4 == round || number % 10 == round) {
            table.insert(&key(number), &vec![number as u8 ^ round as u8; 500]).unwrap();
        }
        (40..44).for_each(|number| table.remove(&key(number + 10 * round)).unwrap());
        table.flush().unwrap();
        db.maintain().unwrap();
    }
    let entries = entries(&table);
    drop(table);
    db.close().unwrap();
    (folder, entries)
}

/// Entries of a lender are not read again; what is damaged in it is lost, and no more.
#[test]
fn lent_values_are_salvaged() {
    let (folder, expected) = lent();
    let text = listing(&folder);
    let lenders = text.lines().filter_map(|line| line.trim().strip_prefix("lender "));
    let lenders: Vec<_> = lenders.filter_map(|line| line.split(':').next()).collect();
    assert!(lenders.len() > 1, "{text}");
    let (db, report) = salvage(&folder);
    assert!(entries(&db.lsm("songs").unwrap()) == expected);
    assert_eq!((report.missing, report.damage.len()), (0, 0), "{report}");
    for name in &lenders {
        let whole = bytes_of(&folder, name);
        flip(&folder, name, 700);
        let (db, report) = salvage(&folder);
        let found = entries(&db.lsm("songs").unwrap());
        assert!(found.iter().all(|(key, value)| expected[key] == *value));
        assert!(expected.len() - found.len() <= 1, "{report}");
        assert_eq!(report.missing as usize, expected.len() - found.len());
        assert!(report.damage.iter().all(|damage| damage.file == **name), "{report}");

        // Without its end, values are still found.
        overwrite(&folder, name, &whole[..whole.len() - 60]);
        let (db, report) = salvage(&folder);
        assert!(entries(&db.lsm("songs").unwrap()) == expected, "{report}");

        folder.remove(name).unwrap();
        let (db, report) = salvage(&folder);
        let found = entries(&db.lsm("songs").unwrap());
        assert!(found.iter().all(|(key, value)| expected[key] == *value));
        let lost = expected.len() - found.len();
        assert!(lost > 10 && lost < expected.len(), "{lost}");
        assert_eq!((report.missing, report.damage.len()), (lost as u64, lost), "{report}");
        assert!(report.damage[0].what.contains(name), "{report}");
        assert!(quiet().open_in(Arc::new(folder.clone())).unwrap_err().is_corrupt());
        create(&folder, name, &whole);
    }
    // Without a manifest each file is a table, and finds what it points to.
    flip(&folder, &named(&folder, "manifest-"), 60);
    let (db, report) = salvage(&folder);
    assert_eq!((report.missing, report.damage.len()), (0, 1), "{report}");
    let mut found = Entries::new();
    for (name, _) in db.tables() {
        let of_table = entries(&db.lsm(&name).unwrap());
        assert!(!of_table.is_empty());
        if !lenders.contains(&&*name) {
            found.extend(of_table);
        }
    }
    assert!(found == expected);
}

/// A B+tree loses what lies in a damaged page, and of a branch nothing at all.
#[test]
fn a_damaged_tree_loses_its_leaf_and_no_more() {
    let folder = MemFolder::default();
    let db = quiet().memory(64 << 20).open_in(Arc::new(folder.clone())).unwrap();
    let table = db.btree_with("songs", &BtreeOptions::new().page_bytes(512)).unwrap();
    for round in 0..3u8 {
        (0..ENTRIES).for_each(|n| table.insert(&key(n), &[round; 20]).unwrap());
        table.flush().unwrap();
    }
    drop(table);
    db.close().unwrap();
    let name = named(&folder, ".pages");
    let pages = bytes_of(&folder, &name).len() / 512;
    let (mut costs, mut harmless) = (0, 0);
    for page in 1..pages {
        let copy = MemFolder::default();
        for name in folder.list().unwrap() {
            create(&copy, &name, &bytes_of(&folder, &name));
        }
        flip(&copy, &name, page * 512 + 100);
        let (db, report) = salvage(&copy);
        let found = db.btree("songs").unwrap().iter().map(|entry| entry.unwrap());
        let found: Vec<_> = found.map(|(_, value)| value[..] == [2; 20]).collect();
        assert!(found.iter().all(|is_new| *is_new), "page {page}: an old version came out");
        let lost = ENTRIES as usize - found.len();
        assert!(lost < 40 && report.missing as usize == lost, "page {page}: {lost} lost, {report}");
        costs += usize::from(lost > 0);
        harmless += usize::from(lost == 0 && !report.damage.is_empty());
    }
    assert!(costs > 50 && harmless > 0, "{costs} leaves, {harmless} branches");
    let mut listing = Vec::new();
    check::dump_in(&folder, &mut listing).unwrap();
    let listing = String::from_utf8(listing).unwrap();
    assert!(listing.contains("btree, 1 files") && listing.contains("2000 entries"), "{listing}");
}

/// One damaged block costs the entries in it, whichever it is; all others are there.
#[test]
fn a_damaged_block_costs_itself() {
    for compression in [Compression::None, Compression::Lz4] {
        let folder = one_run(&small().compression(compression), 0);
        let (name, expected) =
            (named(&folder, ".run"), entries(&salvage(&folder).0.lsm("songs").unwrap()));
        assert_eq!(expected.len(), ENTRIES as usize);
        let whole = bytes_of(&folder, &name);
        let mut lost_somewhere = 0;
        for at in (0..whole.len()).step_by(if is_thorough() { 37 } else { 301 }) {
            flip(&folder, &name, at);
            let (db, report) = salvage(&folder);
            let found = entries(&db.lsm("songs").unwrap());
            assert!(found.iter().all(|(key, value)| expected[key] == *value), "byte {at}");
            assert_eq!(report.entries, found.len() as u64);
            assert_eq!(report.entries + report.missing, u64::from(ENTRIES));
            // Where leaves of a compressed run lie, only the branch above them knew.
            let most = if compression == Compression::None { 40 } else { u64::from(ENTRIES) };
            assert!(report.missing <= most, "byte {at}: {report}");
            assert!(report.missing == 0 || !report.damage.is_empty(), "byte {at}");
            assert!(report.damage.iter().all(|damage| damage.file == name));
            lost_somewhere += usize::from(report.missing > 0);
            overwrite(&folder, &name, &whole);
        }
        assert!(lost_somewhere > 30, "{lost_somewhere}");
    }
}

/// The branches, or the whole end of a file, are not needed to find its leaves.
#[test]
fn leaves_are_found_without_what_leads_to_them() {
    let folder = one_run(&small(), 0);
    let name = named(&folder, ".run");
    let whole = bytes_of(&folder, &name);
    for share in [1, 2, 3] {
        let kept = whole.len() / 4 * share;
        overwrite(&folder, &name, &whole[..kept]);
        let (db, report) = salvage(&folder);
        let found = entries(&db.lsm("songs").unwrap()).len();
        // The rest of the file is filter and branches.
        assert!(found >= ENTRIES as usize / 5 * share, "{found} of {kept} bytes");
        assert_eq!((report.entries, report.damage.len()), (found as u64, 1), "{report}");
    }
    let mut zeroed = whole.clone();
    zeroed[whole.len() / 2..].fill(0);
    overwrite(&folder, &name, &zeroed);
    assert!(salvage(&folder).1.entries > u64::from(ENTRIES) / 3);
    folder.remove(&name).unwrap();
    let (_, report) = salvage(&folder);
    assert_eq!((report.entries, report.missing), (0, u64::from(ENTRIES)));
    assert_eq!(report.damage[0].file, name);
}

/// The same as [`one_run`], of a hash table.
fn one_hash_run() -> MemFolder {
    let folder = MemFolder::default();
    let db = quiet().memory(64 << 20).open_in(Arc::new(folder.clone())).unwrap();
    let table = db.hash("songs").unwrap();
    for number in 0..ENTRIES {
        let len = if number % 100 == 7 { 3000 } else { 20 };
        table.insert(&key(number), &vec![number as u8; len]).unwrap();
    }
    table.flush().unwrap();
    drop(table);
    db.close().unwrap();
    folder
}

/// One damaged page costs the entries in it, or nothing if it is the index's.
#[test]
fn a_damaged_page_costs_itself() {
    let folder = one_hash_run();
    let name = named(&folder, ".hash");
    let content = |db: &Db| -> Entries {
        let table = db.hash("songs").unwrap();
        let owned = |entry: tonearm::Result<(tonearm::Value, tonearm::Value)>| entry.unwrap();
        table.iter().map(owned).map(|(k, v)| (k.to_vec(), v.to_vec())).collect()
    };
    let expected = content(&salvage(&folder).0);
    assert_eq!(expected.len(), ENTRIES as usize);
    let whole = bytes_of(&folder, &name);
    let mut lost_somewhere = 0;
    for at in (0..whole.len()).step_by(if is_thorough() { 37 } else { 1301 }) {
        flip(&folder, &name, at);
        let (db, report) = salvage(&folder);
        let found = content(&db);
        assert!(found.iter().all(|(key, value)| expected[key] == *value), "byte {at}");
        assert_eq!(report.entries, found.len() as u64);
        assert_eq!(report.entries + report.missing, u64::from(ENTRIES));
        assert!(report.missing <= 4096 / 40, "byte {at}: {report}");
        assert!(report.missing == 0 || !report.damage.is_empty(), "byte {at}");
        lost_somewhere += usize::from(report.missing > 0);
        overwrite(&folder, &name, &whole);
    }
    assert!(lost_somewhere > 30, "{lost_somewhere}");
    // Without its end, and without a manifest.
    overwrite(&folder, &name, &whole[..whole.len() - 100]);
    let (db, report) = salvage(&folder);
    assert_eq!((content(&db).len(), report.damage.len()), (ENTRIES as usize, 1), "{report}");
    overwrite(&folder, &name, &whole);
    let manifest = named(&folder, "manifest-");
    flip(&folder, &manifest, 60);
    let (db, _) = salvage(&folder);
    assert_eq!(db.table(&name).unwrap().iter().count(), ENTRIES as usize);
    let mut out = Vec::new();
    check::dump_in(&folder, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(&format!("{name}: part of no table")), "{text}");
}

#[test]
fn a_listing_shows_hash_tables() {
    let folder = one_hash_run();
    let name = named(&folder, ".hash");
    let listed = |folder: &dyn Folder| {
        let mut out = Vec::new();
        check::dump_in(folder, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let text = listed(&folder);
    assert!(text.contains("table 1 \"songs\": hash, 1 files, settled to 2000"), "{text}");
    assert!(text.contains(&format!("  {name}: age 1, ")), "{text}");
    assert!(text.contains("2000 entries, of which 0 deletes, hashes from 0000000000000000 to ff"));
    assert!(!text.contains("damage"), "{text}");
    let end = bytes_of(&folder, &name).len() - 60;
    flip(&folder, &name, end);
    assert_eq!(listed(&folder).matches("damage: ").count(), 1);
}

#[test]
fn the_log_is_read_up_to_its_damage() {
    let folder = one_run(&small(), 100);
    let (db, report) = salvage(&folder);
    assert_eq!((db.lsm("songs").unwrap().iter().count(), report.damage.len()), (2100, 0));
    let name = named(&folder, ".log");
    let text = bytes_of(&folder, &name);
    let fiftieth = text.windows(11).position(|bytes| bytes == &key(ENTRIES + 50)[..]).unwrap();
    flip(&folder, &name, fiftieth);
    let (db, report) = salvage(&folder);
    let found = entries(&db.lsm("songs").unwrap());
    assert_eq!((found.len(), report.missing), (2050, 0));
    assert!(found.contains_key(&key(ENTRIES + 49)));
    assert_eq!((report.damage.len(), &report.damage[0].file), (1, &name), "{report}");
    assert!(report.damage[0].offset < fiftieth as u64);
    assert!(report.damage[0].offset + 64 > fiftieth as u64);
}

#[test]
fn a_lost_manifest_costs_the_names() {
    let folder = one_run(&small(), 10);
    let (manifest, run) = (named(&folder, "manifest-"), named(&folder, ".run"));
    let current = bytes_of(&folder, "current");
    folder.remove("current").unwrap();
    let (db, report) = salvage(&folder);
    assert_eq!(db.lsm("songs").unwrap().iter().count(), 2010);
    assert_eq!((report.damage.len(), report.damage[0].file.as_str()), (1, "current"));

    create(&folder, "current", &current);
    flip(&folder, &manifest, 60);
    let (db, report) = salvage(&folder);
    assert_eq!(db.tables().iter().map(|(name, _)| &**name).collect::<Vec<_>>(), [run.as_str()]);
    assert_eq!(db.lsm(&run).unwrap().iter().count(), ENTRIES as usize);
    assert_eq!((report.damage.len(), &report.damage[0].file), (1, &manifest), "{report}");
}

/// Whatever is damaged, no rescue fails, and nothing comes out that was never put in.
#[test]
fn nothing_is_made_up() {
    let mut player = Player::new(PLAIN.disk(1), PLAIN);
    player.play(&scenarios::everything());
    let tables = player.model.all().flat_map(|state| state.values());
    let ever: HashSet<_> = tables.flat_map(|entries| entries.iter()).collect();
    let history = player.disk.crash(&Choice::All).history();
    let mut chance = Chance(3);
    for round in 0..if is_thorough() { 5000 } else { 400 } {
        let disk = history.image(0, &Choice::All);
        let names = disk.list().unwrap();
        for _ in 0..1 + round % 3 {
            let name = chance.pick(&names);
            let bytes = bytes_of(&disk, name);
            match round % 5 {
                0 => overwrite(&disk, name, &bytes[..chance.below(bytes.len())]),
                _ if bytes.is_empty() => {}
                _ => flip(&disk, name, chance.below(bytes.len())),
            }
        }
        let (db, report) = salvage(&disk);
        let found = read(&db).unwrap();
        for entry in found.values().flat_map(|entries| entries.iter()) {
            assert!(ever.contains(&entry), "round {round}: {entry:?} was never put; {report}");
        }
        check::dump_in(&disk, &mut Vec::new()).unwrap();
    }
}

#[test]
fn a_listing_names_everything() {
    let folder = one_run(&small(), 2);
    let listed = |folder: &dyn Folder| {
        let mut out = Vec::new();
        check::dump_in(folder, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let text = listed(&folder);
    let (run, log) = (named(&folder, ".run"), named(&folder, ".log"));
    for part in [
        "database ",
        "closed at ",
        "table 1 \"songs\": lsm, 1 files, settled to 2000",
        &format!("  level 6 {run}: "),
        "2000 entries, of which 0 deletes, 0 range deletes, keys from \"song 000000\" up to",
        "operations 2001 to 2001",
        "put \"song 002001\", 10 bytes",
        "the log ends at ",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert!(!text.contains("damage"), "{text}");
    flip(&folder, &log, 200);
    folder.remove(&run).unwrap();
    let text = listed(&folder);
    assert_eq!(text.matches("damage: ").count(), 2, "{text}");
    folder.remove("current").unwrap();
    assert!(listed(&folder).starts_with("damage: corrupt data in current"));
}

#[test]
fn salvage_takes_a_new_database_and_finds_an_old_one() {
    let folder = one_run(&small(), 0);
    let taken = quiet().open_in_memory().unwrap();
    taken.lsm("a table").unwrap();
    let kind = |from: &dyn Folder, to| check::salvage_in(from, to).unwrap_err().kind();
    assert_eq!(kind(&folder, &taken), ErrorKind::Misuse);
    let new = quiet().open_in_memory().unwrap();
    assert_eq!(kind(&MemFolder::default(), &new), ErrorKind::NotFound);
}

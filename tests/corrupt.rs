//! Every bit of every file is flipped, and the answers stay right or say what is damaged.
//!
//! Goal: no damage to the files of a closed database goes unnoticed or makes an answer wrong.
//! Method: a small database with all kinds of files is closed; then each bit is flipped, each byte
//! set to 00 and FF, each sector zeroed, doubled and swapped, each file cut at many lengths,
//! removed and exchanged. After each, opening and reading everything gives what was stored or an
//! error that names the file, and verification finds all damage to bytes that matter: all but
//! space made ahead and not used yet. A database that does not open is left as it is.
//!
//! `TONEARM_EFFORT=ci` tries all of it; without it, a sample.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{
    chance::Chance,
    is_thorough,
    look::{Brief, read},
    model::{Change, State, Write},
    player::{Manner, Player, Step},
    scenarios::{CACHED, PLAIN, commit, create, delete, key, put},
    tell,
};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};
use tonearm::{
    Durability, Error, ErrorKind, Result,
    vfs::{
        Access, Folder,
        sim::{Choice, History, SimDisk},
    },
};

const SECTOR: usize = 512;

/// A closed database, and what is in it.
struct Victim {
    manner: Manner,
    history: History,
    expected: State,
    files: BTreeMap<String, Vec<u8>>,
}

impl Victim {
    fn new(manner: Manner) -> Self {
        let mut player = Player::new(manner.disk(1), manner);
        player.play(&steps());
        let expected = player.model.now()[0].clone();
        let history = player.disk.crash(&Choice::All).history();
        let files = all_contents(&history.image(0, &Choice::All));
        Self { manner, history, expected, files }
    }

    /// A disk with the database, undamaged.
    fn disk(&self) -> SimDisk {
        self.history.image(0, &Choice::All)
    }

    /// The bytes of a file that matter: not the space made ahead.
    fn used(&self, name: &str) -> Range<usize> {
        let bytes = &self.files[name];
        let ends = [".log", ".pages"];
        let grows = ends.iter().any(|end| name.ends_with(end)) || name.starts_with("manifest-");
        let last = bytes.iter().rposition(|byte| *byte != 0).filter(|_| grows);
        0..last.map_or(bytes.len(), |last| last / 8 * 8 + 8)
    }

    /// Whether `damaged` in place of the file is to be found by verification.
    fn matters(&self, name: &str, damaged: &[u8]) -> bool {
        let used = self.used(name);
        damaged.get(used.clone()) != self.files[name].get(used)
    }
}

/// Tables: one with several levels, one with little, one whose values lie in other files than its
/// entries, one in a log of several segments only, a B+tree with no free pages but the last and
/// with changes beside it, and a hash table of several files and with a value that lies apart.
fn steps() -> Vec<Step> {
    use Durability::{PowerLoss, Process};
    let mut steps = vec![create("a"), create("b"), create("only in the log"), create("t")];
    steps.push(create("h"));
    let leaves = (0..14).map(|n| put("t", n * 2, "in a leaf", 70));
    steps.extend([commit(leaves.collect(), Process), Step::Flush("t")]);
    for round in 0..4 {
        for n in 0..12 {
            let text = format!("round {round}, number {n}");
            steps.push(commit(vec![put("a", n * 3 + round, &text, 90)], Process));
        }
        steps.extend([Step::Flush("a"), Step::Maintain]);
    }
    for round in 0..2 {
        let cards = (0..14).map(|n| put("h", n * 2 + round, &format!("card of {round}"), 70));
        let apart = put("h", 30 + round, "lies apart", 1100);
        steps.push(commit(cards.chain([apart, delete("h", 9)]).collect(), Process));
        steps.push(Step::Flush("h"));
    }
    steps.push(create("l"));
    for round in 0..2 {
        let long = (0..6).map(|n| put("l", n * 2 + round, "long", 330));
        steps.extend([commit(long.collect(), Process), Step::Flush("l"), Step::Maintain]);
    }
    steps.push(commit(vec![put("b", 1, "little", 9), delete("b", 2)], PowerLoss));
    steps.push(Step::Change(Change::Ingest("b", vec![(key(7), vec![7; 700])]), PowerLoss));
    let cut = Write::DeleteRange("a", key(4), Some(key(9)));
    let apart = [1, 11, 21].map(|n| put("t", n, "beside the tree", 15));
    steps.push(commit(apart.into_iter().chain([delete("t", 8)]).collect(), Process));
    steps.extend([commit(vec![cut], Process), Step::FlushAll, Step::Reopen]);
    steps.push(commit(vec![put("t", 3, "in the log", 9), delete("t", 4)], Process));
    steps.push(commit(vec![put("h", 3, "in the log", 9), delete("h", 4)], Process));
    let last = vec![put("a", 30, "in the log", 20), put("only in the log", 1, "it is", 90)];
    steps.extend([commit(last, PowerLoss), commit(vec![delete("a", 1)], PowerLoss)]);
    steps.extend((0..9).map(|n| commit(vec![put("a", n, "in the log", 900)], Process)));
    steps.push(commit(vec![put("only in the log", 2, "last", 9)], Process));
    steps
}

fn contents(disk: &SimDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    let mut at = 0;
    while at < bytes.len() {
        at += file.read_at(&mut bytes[at..], at as u64).unwrap();
    }
    bytes
}

fn all_contents(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list().unwrap().into_iter();
    names.map(|name| (name.clone(), contents(disk, &name))).collect()
}

/// Puts `bytes` in the place of a file's.
fn overwrite(disk: &SimDisk, name: &str, bytes: &[u8]) {
    let file = disk.open(name, Access::Write).unwrap();
    file.set_len(0).unwrap();
    let mut at = 0;
    while at < bytes.len() {
        at += file.write_at(&bytes[at..], at as u64).unwrap();
    }
}

/// Opens the disk for reading, reads all, verifies, which has to find the damage if `found`; and
/// opens it again for writing, if `twice`.
fn judge(victim: &Victim, disk: &SimDisk, file: &str, found: bool, twice: bool, how: &str) {
    let place = |what: &str| format!("{file}, {how}: {what}");
    let folder: Arc<dyn Folder> = Arc::new(disk.clone());
    let opened = victim.manner.builder().open_read_only_in(folder);
    let verified = opened.as_ref().map_err(Error::clone).and_then(|db| db.verify());
    judge_read(victim, opened.and_then(|db| read(&db)), file, &place("reading"));
    match verified {
        Err(e) => check_error(&e, file, &place("verifying")),
        Ok(()) => assert!(!found, "{}", place("verification finds nothing")),
    }
    if twice {
        // Merging must not make damage whole.
        let work = |db: tonearm::Db| {
            let first = read(&db)?;
            db.flush()?;
            db.maintain()?;
            let second = read(&db)?;
            assert!(first == second, "{}", place("maintenance changes the answer"));
            Ok(second)
        };
        let before = all_contents(disk);
        let opened = victim.manner.builder().create(false).open_in(Arc::new(disk.clone()));
        if opened.is_err() {
            assert!(before == all_contents(disk), "{}", place("opening in vain changes files"));
        }
        judge_read(victim, opened.and_then(work), file, &place("writing"));
    }
}

fn judge_read(victim: &Victim, read: Result<State>, file: &str, place: &str) {
    match read {
        Err(e) => check_error(&e, file, place),
        Ok(state) => assert!(state == victim.expected, "{place} gives {}", Brief(&state)),
    }
}

/// The error is one of damage, and names the file.
fn check_error(error: &Error, file: &str, place: &str) {
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{place}: {error:?}");
    let is_named = file.is_empty() || error.file() == Some(file);
    assert!(is_named, "{place} blames another: {error}");
}

/// Runs `job` for all of `jobs` in two threads.
fn in_two_threads<T: Sync>(jobs: &[T], job: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(one) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    job(one);
                }
            });
        }
    });
}

/// Where bits are flipped: in all of a file, but for a sample of what is behind its end.
fn bytes_to_damage(victim: &Victim, name: &str, chance: &mut Chance) -> Vec<usize> {
    let len = victim.files[name].len();
    let end = (victim.used(name).end + 8).min(len);
    let mut places: Vec<usize> = (0..end).collect();
    places.extend(chance.sample((end..len).collect(), 32));
    if is_thorough() || end < 512 { places } else { chance.sample(places, 300) }
}

#[test]
fn every_flipped_bit_is_found() {
    for (mode, manner) in [PLAIN, CACHED].into_iter().enumerate() {
        let start = Instant::now();
        let victim = Victim::new(manner);
        let mut chance = Chance(mode as u64);
        let mut flips = Vec::new();
        for name in victim.files.keys() {
            for at in bytes_to_damage(&victim, name, &mut chance) {
                let bits: Vec<u8> = (0..8).collect();
                let bits = chance.sample(bits, if is_thorough() { 8 } else { 2 });
                flips.extend(bits.into_iter().map(|bit| (name, at, 1 << bit)));
            }
        }
        flip_all(&victim, &flips);
        let bytes: usize = victim.files.values().map(Vec::len).sum();
        let (count, files) = (flips.len(), victim.files.len());
        let took = start.elapsed().as_secs_f64();
        tell(&format!(
            "corrupt: {count} bits flipped in {files} files of {bytes} bytes, {took:.1} s"
        ));
    }
}

#[test]
fn every_byte_of_zeros_or_ones_is_found() {
    let victim = Victim::new(PLAIN);
    let mut chance = Chance(3);
    let mut flips = Vec::new();
    for (name, bytes) in &victim.files {
        for at in bytes_to_damage(&victim, name, &mut chance) {
            flips.extend([(name, at, bytes[at]), (name, at, !bytes[at])]);
        }
    }
    flips.retain(|flip| flip.2 != 0);
    flip_all(&victim, &flips);
}

/// Flips bits of one byte, looks, and flips them back.
fn flip_all(victim: &Victim, flips: &[(&String, usize, u8)]) {
    let chunks: Vec<_> = flips.chunks(64).collect();
    in_two_threads(&chunks, |chunk| {
        let disk = victim.disk();
        for &(name, at, bits) in *chunk {
            let found = victim.used(name).contains(&at);
            let how = format!("byte {at} xor {bits:#04x}");
            disk.flip(name, at as u64, bits).unwrap();
            judge(victim, &disk, name, found, false, &how);
            disk.flip(name, at as u64, bits).unwrap();
            if at % 8 == usize::from(bits.trailing_zeros() as u8) {
                let disk = victim.disk();
                disk.flip(name, at as u64, bits).unwrap();
                judge(victim, &disk, name, found, true, &how);
            }
        }
    });
}

/// Puts other contents in place of a file's, and looks.
fn replace_and_judge(victim: &Victim, name: &str, damaged: &[u8], how: &str) {
    if damaged == victim.files[name] {
        return;
    }
    let disk = victim.disk();
    overwrite(&disk, name, damaged);
    judge(victim, &disk, name, victim.matters(name, damaged), true, how);
}

#[test]
fn every_cut_is_found() {
    let victim = Victim::new(PLAIN);
    let mut chance = Chance(4);
    let mut cuts = Vec::new();
    for (name, bytes) in &victim.files {
        let lengths: Vec<usize> = (0..bytes.len()).collect();
        let most = if is_thorough() { usize::MAX } else { 60 };
        cuts.extend(chance.sample(lengths, most.min(bytes.len())).into_iter().map(|l| (name, l)));
        // Longer is damage, too: nobody appended that.
        let longer = [&bytes[..], &[0; 100]].concat();
        if name.ends_with(".run") || name.ends_with(".hash") || name == "current" {
            replace_and_judge_longer(&victim, name, &longer);
        }
    }
    in_two_threads(&cuts, |(name, len)| {
        replace_and_judge(&victim, name, &victim.files[*name][..*len], &format!("cut to {len}"));
    });
}

fn replace_and_judge_longer(victim: &Victim, name: &str, longer: &[u8]) {
    let disk = victim.disk();
    overwrite(&disk, name, longer);
    judge(victim, &disk, name, true, true, "longer");
}

#[test]
fn lost_doubled_and_swapped_sectors_are_found() {
    let victim = Victim::new(PLAIN);
    let sectors = |bytes: &[u8]| bytes.len() / SECTOR;
    let range = |sector: usize| sector * SECTOR..(sector + 1) * SECTOR;
    let mut jobs: Vec<(&String, usize, usize)> = Vec::new();
    for (name, bytes) in &victim.files {
        let all = sectors(bytes);
        jobs.extend((0..all).flat_map(|from| (0..all).map(move |to| (name, from, to))));
    }
    let jobs = if is_thorough() { jobs } else { Chance(6).sample(jobs, 300) };
    in_two_threads(&jobs, |(name, from, to)| {
        let bytes = &victim.files[*name];
        let (one, other) = (bytes[range(*from)].to_vec(), bytes[range(*to)].to_vec());
        let mut damaged = bytes.clone();
        damaged[range(*to)].copy_from_slice(&one);
        replace_and_judge(&victim, name, &damaged, &format!("sector {from} also at {to}"));
        damaged[range(*from)].copy_from_slice(&other);
        replace_and_judge(&victim, name, &damaged, &format!("sectors {from}, {to} swapped"));
        let mut damaged = bytes.clone();
        damaged[range(*from)].fill(0);
        replace_and_judge(&victim, name, &damaged, &format!("sector {from} zeroed"));
        damaged[range(*from)].fill(0xff);
        replace_and_judge(&victim, name, &damaged, &format!("sector {from} of ones"));
    });
}

/// A sector of another file of the same kind.
#[test]
fn misdirected_sectors_are_found() {
    let victim = Victim::new(PLAIN);
    let mut chance = Chance(8);
    let of_kind = |end: &str| {
        let files = victim.files.iter();
        let files = files.filter(|(name, bytes)| name.ends_with(end) && bytes.len() >= SECTOR);
        let files: Vec<_> = files.map(|(name, _)| name).collect();
        assert!(files.len() > 1, "only {files:?}");
        files
    };
    let kinds = [of_kind(".run"), of_kind(".hash")];
    for _ in 0..if is_thorough() { 2000 } else { 60 } {
        let runs = chance.pick(&kinds);
        let (name, other) = (*chance.pick(runs), *chance.pick(runs));
        let mut damaged = victim.files[name].clone();
        let sectors = damaged.len().min(victim.files[other].len()) / SECTOR;
        let at = chance.below(sectors) * SECTOR;
        damaged[at..at + SECTOR].copy_from_slice(&victim.files[other][at..at + SECTOR]);
        replace_and_judge(&victim, name, &damaged, &format!("sector at {at} of {other}"));
    }
}

#[test]
fn removed_and_exchanged_files_are_found() {
    let victim = Victim::new(PLAIN);
    for (name, bytes) in &victim.files {
        let disk = victim.disk();
        disk.remove(name).unwrap();
        judge(&victim, &disk, name, true, true, "removed");
        for (other, others) in victim.files.iter().filter(|(other, _)| *other != name) {
            let disk = victim.disk();
            overwrite(&disk, name, others);
            judge(&victim, &disk, name, true, true, &format!("replaced by {other}"));
            let disk = victim.disk();
            overwrite(&disk, name, others);
            overwrite(&disk, other, bytes);
            judge(&victim, &disk, "", true, true, &format!("exchanged with {other}"));
        }
    }
}

/// A bit flips on its way from the disk, once: opening says so, or it is as if nothing had been.
#[test]
fn bits_that_flip_on_the_way_lose_nothing() {
    for manner in [PLAIN, CACHED] {
        let victim = Victim::new(manner);
        let (mut rotted, mut refused) = (0, 0);
        for burnt in 0..if is_thorough() { 20_000 } else { 600 } {
            let disk = victim.disk();
            disk.set_rot(60_000);
            // Each disk's chance is the same: what is read before decides what comes.
            let any = disk.open("current", Access::Read).unwrap();
            for _ in 0..burnt {
                any.read_at(&mut [0; 64], 0).unwrap();
            }
            let before = disk.reads_rotted();
            let opened = manner.builder().create(false).open_in(Arc::new(disk.clone()));
            rotted += usize::from(disk.reads_rotted() > before);
            disk.set_rot(0);
            let db = opened.or_else(|e| {
                assert!(e.is_corrupt(), "after {burnt} reads: {e:?}");
                refused += 1;
                manner.open(&disk)
            });
            let found = read(&db.unwrap()).unwrap();
            assert!(found == victim.expected, "after {burnt} reads: {}", Brief(&found));
        }
        assert!(rotted > 100 && refused > 50, "{rotted} rotted, {refused} refused");
    }
}

/// After a clean close the log's end is known: every bit of its last records, and of the mark
/// behind them.
#[test]
fn the_end_of_a_closed_log_is_known() {
    let victim = Victim::new(PLAIN);
    let last = victim.files.keys().rfind(|name| name.ends_with(".log")).unwrap();
    let used = victim.used(last);
    let flips: Vec<_> = (used.end - 120..used.end)
        .flat_map(|at| (0..8).map(move |bit| (last, at, 1 << bit)))
        .collect();
    flip_all(&victim, &flips);
    for at in [used.end - 40, used.end - 80] {
        let mut damaged = victim.files[last].clone();
        damaged[at..].fill(0);
        replace_and_judge(&victim, last, &damaged, &format!("zeroed from {at}"));
    }
}

/// Even what nobody needs stays, and what could be tidied up.
#[test]
fn a_refused_opening_changes_nothing() {
    let victim = Victim::new(PLAIN);
    let disk = victim.disk();
    let first = victim.files.keys().find(|name| name.ends_with(".log")).unwrap();
    let (middle, orphan) = (victim.used(first).end as u64 / 2, "0000000099.run");
    disk.open(orphan, Access::CreateNew).unwrap().write_at(b"leftover", 0).unwrap();
    disk.flip(first, middle, 1).unwrap();
    let before = all_contents(&disk);
    let error = victim.manner.open(&disk).unwrap_err();
    assert_eq!((error.kind(), error.file()), (ErrorKind::Corrupt, Some(first.as_str())));
    assert!(before == all_contents(&disk));
    disk.flip(first, middle, 1).unwrap();
    let db = victim.manner.open(&disk).unwrap();
    assert!(read(&db).unwrap() == victim.expected);
    assert!(!disk.list().unwrap().contains(&orphan.to_owned()));
}

/// The undamaged database is fine in every way in which the damaged ones are looked at.
#[test]
fn no_damage_is_no_error() {
    for manner in [PLAIN, CACHED] {
        let victim = Victim::new(manner);
        let kinds = |end: &str| victim.files.keys().filter(|name| name.ends_with(end)).count();
        let least = [(".run", 3), (".log", 2), (".hash", 2), (".pages", 1)];
        let is_there = least.iter().all(|(kind, least)| kinds(kind) >= *least);
        assert!(is_there, "{:?}", victim.files.keys());
        let disk = victim.disk();
        let mut listing = Vec::new();
        tonearm::check::dump_in(&disk, &mut listing).unwrap();
        let listing = String::from_utf8(listing).unwrap();
        assert!(listing.contains("  lender ") && listing.contains("other files"), "{listing}");
        let folder: Arc<dyn Folder> = Arc::new(disk.clone());
        let db = manner.builder().open_read_only_in(folder).unwrap();
        db.verify().unwrap();
        assert!(read(&db).unwrap() == victim.expected);
    }
}

//! What programs do to databases: short plays, each about one thing that may go wrong.

use super::{
    chance::Chance,
    model::{Change, Name, Write},
    player::{Manner, Step},
};
use std::{cell::RefCell, collections::BTreeSet};
use tonearm::Durability::{self, PowerLoss, Process};

/// A named play.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) manner: Manner,
    pub(crate) steps: Vec<Step>,
}

/// Log records are written, and segments are this long, unless a scenario is about something else.
pub(crate) const PLAIN: Manner =
    Manner { mapped: false, loose: false, cached: false, segment_bytes: 4096 };
pub(crate) const MAPPED: Manner = Manner { mapped: true, segment_bytes: 8192, ..PLAIN };
pub(crate) const CACHED: Manner = Manner { cached: true, segment_bytes: 8192, ..PLAIN };
pub(crate) const LOOSE: Manner = Manner { loose: true, ..PLAIN };

/// All of them; the random ones with these many seeds.
pub(crate) fn all(seeds: u64) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |name: &str, manner: Manner, steps: Vec<Step>| {
        all.push(Scenario { name: name.to_owned(), manner, steps });
    };
    add("rotation", PLAIN, rotation());
    add("rotation, mapped", MAPPED, rotation());
    add("flushes", PLAIN, flushes());
    add("compaction", PLAIN, compaction());
    add("compaction, cached", CACHED, compaction());
    add("batches over tables", PLAIN, batches());
    add("batches over tables, mapped", MAPPED, batches());
    add("transactions over tables", PLAIN, transactions());
    add("transactions over tables, mapped", MAPPED, transactions());
    add("dropped tables", PLAIN, drops());
    add("renamed tables", LOOSE, renames());
    add("ingests", PLAIN, ingests());
    add("range deletes", PLAIN, range_deletes());
    add("reopened often", LOOSE, reopened());
    add("reopened often, mapped", MAPPED, reopened());
    add("large values", PLAIN, large_values());
    add("pinned by snapshots", CACHED, pinned());
    add("backed up", PLAIN, backed_up());
    add("hash: rotation", MAPPED, hashed(&["a"], rotation()));
    add("hash: flushes", PLAIN, hashed(&["a"], flushes()));
    add("hash: compaction", PLAIN, hashed(&["a"], compaction()));
    add("hash: compaction, cached", CACHED, hashed(&["a"], compaction()));
    add("hash: batches over engines", PLAIN, hashed(&["b"], batches()));
    add("hash: batches over engines, mapped", MAPPED, hashed(&["a", "c"], batches()));
    add("hash: transactions over engines", PLAIN, hashed(&["b"], transactions()));
    add("hash: dropped tables", PLAIN, hashed(&["a"], drops()));
    add("hash: renamed tables", LOOSE, hashed(&["a"], renames()));
    add("hash: ingests", PLAIN, hashed(&["a"], ingests()));
    add("hash: reopened often", LOOSE, hashed(&["a"], reopened()));
    add("hash: large values", PLAIN, hashed(&["a"], large_values()));
    add("hash: pinned by snapshots", CACHED, hashed(&["a"], pinned()));
    add("hash: backed up", PLAIN, hashed(&["a"], backed_up()));
    for seed in 0..seeds.div_ceil(2) {
        let manner = [PLAIN, CACHED, MAPPED, LOOSE][seed as usize % 4];
        add(&format!("hash: random {seed}"), manner, hashed(&["a", "b"], random(!seed, 70)));
    }
    add("btree: rotation", MAPPED, treed(&["a"], rotation()));
    add("btree: flushes", PLAIN, treed(&["a"], flushes()));
    add("btree: compaction", PLAIN, treed(&["a"], compaction()));
    add("btree: batches over engines", PLAIN, treed(&["b"], batches()));
    add("btree: batches over engines, mapped", MAPPED, treed(&["a", "c"], batches()));
    add("btree: transactions over engines", PLAIN, treed(&["b"], transactions()));
    add("btree: dropped tables", PLAIN, treed(&["a"], drops()));
    add("btree: renamed tables", LOOSE, treed(&["a"], renames()));
    add("btree: ingests", PLAIN, treed(&["a"], ingests()));
    add("btree: range deletes", PLAIN, treed(&["a"], range_deletes()));
    add("btree: reopened often", LOOSE, treed(&["a"], reopened()));
    add("btree: large values", PLAIN, treed(&["a"], large_values()));
    add("btree: pinned by snapshots", CACHED, treed(&["a"], pinned()));
    add("btree: backed up", PLAIN, treed(&["a"], backed_up()));
    add("btree: pages used again", PLAIN, pages_again());
    add("btree: put off", PLAIN, put_off());
    add("btree: put off, cached", CACHED, put_off());
    for seed in 0..seeds.div_ceil(2) {
        let manner = [PLAIN, CACHED, MAPPED, LOOSE][seed as usize % 4];
        let steps = treed(&["a", "c"], random(seed ^ 0x7ee, 70));
        add(&format!("btree: random {seed}"), manner, steps);
    }
    for seed in 0..seeds {
        let manner = [PLAIN, MAPPED, CACHED, LOOSE][seed as usize % 4];
        add(&format!("random {seed}"), manner, random(seed, 70));
    }
    all.extend(over_engines(seeds).into_iter().chain(with_lent_values(seeds)));
    all
}

/// Those of tables that leave values where they were written.
fn with_lent_values(seeds: u64) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |name: &str, manner: Manner, steps: Vec<Step>| {
        all.push(Scenario { name: format!("lent values: {name}"), manner, steps });
    };
    add("they come and go", PLAIN, lent_values());
    add("they come and go, mapped", MAPPED, lent_values());
    add("they come and go, cached", CACHED, lent_values());
    add("large values", PLAIN, lending(&["a"], large_values()));
    for seed in 0..seeds.div_ceil(2) {
        let manner = [PLAIN, MAPPED, CACHED, LOOSE][seed as usize % 4];
        let steps = lending(&["a", "b"], random(seed ^ 0x1e2d, 70));
        add(&format!("random {seed}"), manner, steps);
    }
    all
}

/// Those whose tables are of all engines.
fn over_engines(seeds: u64) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |name: &str, manner: Manner, steps: Vec<Step>| {
        all.push(Scenario { name: format!("engines: {name}"), manner, steps });
    };
    add("batches", PLAIN, mixed(0, batches()));
    add("batches, mapped", MAPPED, mixed(1, batches()));
    add("batches, cached", CACHED, mixed(2, batches()));
    add("batches and work", PLAIN, batches_and_work());
    add("batches and work, mapped", MAPPED, batches_and_work());
    add("dropped at once", LOOSE, dropped_at_once());
    add("backed up", PLAIN, mixed(1, backed_up()));
    for seed in 0..seeds.div_ceil(2) {
        let manner = [MAPPED, PLAIN, LOOSE, CACHED][seed as usize % 4];
        let steps = mixed(seed as usize, random(seed ^ 0xa11, 70));
        add(&format!("random {seed}"), manner, steps);
    }
    all
}

/// The same steps with hash tables in the place of those named, and without their range deletes.
fn hashed(tables: &[Name], steps: Vec<Step>) -> Vec<Step> {
    let name = |name: Name| match name {
        _ if !tables.contains(&name) => name,
        "a" => "ha",
        "b" => "hb",
        _ => "hc",
    };
    renamed(&name, steps)
}

/// The same steps with B+trees in the place of the tables named.
fn treed(tables: &[Name], steps: Vec<Step>) -> Vec<Step> {
    let name = |name: Name| match name {
        _ if !tables.contains(&name) => name,
        "a" => "ta",
        "b" => "tb",
        _ => "tc",
    };
    renamed(&name, steps)
}

/// The same steps with tables that leave values where they were written.
fn lending(tables: &[Name], steps: Vec<Step>) -> Vec<Step> {
    let name = |name: Name| match name {
        _ if !tables.contains(&name) => name,
        "a" => "la",
        "b" => "lb",
        _ => "lc",
    };
    renamed(&name, steps)
}

/// The same steps with one hash table and B+trees: three tables are of three engines, and which
/// is which the turn says.
fn mixed(turn: usize, steps: Vec<Step>) -> Vec<Step> {
    let [hash, tree] = [["b", "c"], ["a", "b"], ["c", "a"]][turn % 3];
    treed(&[tree], hashed(&[hash], steps))
}

/// The same steps with other names, and without range deletes of hash tables.
fn renamed(name: &dyn Fn(Name) -> Name, steps: Vec<Step>) -> Vec<Step> {
    // By the names that they have by then.
    let hashes = RefCell::new(BTreeSet::new());
    let write = |write| match write {
        Write::Put(table, key, value) => Some(Write::Put(name(table), key, value)),
        Write::Delete(table, key) => Some(Write::Delete(name(table), key)),
        Write::DeleteRange(table, ..) if hashes.borrow().contains(name(table)) => None,
        Write::DeleteRange(table, from, to) => Some(Write::DeleteRange(name(table), from, to)),
    };
    let change = |change| match change {
        Change::Create(table) => Change::Create(name(table)),
        Change::Drop(table) => Change::Drop(name(table)),
        Change::Rename(from, to) => Change::Rename(name(from), name(to)),
        Change::Batch(writes) => Change::Batch(writes.into_iter().filter_map(write).collect()),
        Change::Transaction(writes) => {
            Change::Transaction(writes.into_iter().filter_map(write).collect())
        }
        Change::Ingest(table, entries) => Change::Ingest(name(table), entries),
    };
    let note = |change: &Change| match change {
        Change::Create(table) if table.starts_with('h') => drop(hashes.borrow_mut().insert(*table)),
        Change::Rename(from, to) if hashes.borrow().contains(from) => {
            hashes.borrow_mut().remove(from);
            hashes.borrow_mut().insert(to);
        }
        Change::Drop(table) => drop(hashes.borrow_mut().remove(table)),
        _ => {}
    };
    let step = |step| match step {
        Step::Change(old, durability) => {
            let change = change(old);
            note(&change);
            Step::Change(change, durability)
        }
        Step::Flush(table) => Step::Flush(name(table)),
        other => other,
    };
    let is_nothing =
        |step: &Step| matches!(step, Step::Change(Change::Batch(writes), _) if writes.is_empty());
    steps.into_iter().map(step).filter(|step| !is_nothing(step)).collect()
}

/// A tree whose pages are given up and used again, flush by flush, while an old version is read.
fn pages_again() -> Vec<Step> {
    let mut steps = vec![create("t"), create("b")];
    for round in 0..8 {
        let all = (0..14).map(|n| put("t", n * 2 + round % 3, &format!("r{round}"), 40));
        steps.push(commit(all.collect(), if round % 2 == 0 { Process } else { PowerLoss }));
        steps.push(put_step("b", round, round, 30));
        steps.push(Step::Flush("t"));
        match round {
            2 => steps.push(Step::Hold),
            5 => steps.push(Step::Release),
            6 => steps.push(commit(vec![Write::DeleteRange("t", key(4), Some(key(25)))], Process)),
            _ => {}
        }
    }
    steps.extend([Step::FlushAll, Step::Maintain]);
    steps
}

pub(crate) fn key(number: usize) -> Vec<u8> {
    format!("k{number:02}").into_bytes()
}

/// A value that says what it is of, at least `len` bytes long.
fn value(text: &str, len: usize) -> Vec<u8> {
    let mut value = text.as_bytes().to_vec();
    while value.len() < len {
        value.push(b'.');
    }
    value
}

pub(crate) fn create(name: Name) -> Step {
    Step::Change(Change::Create(name), PowerLoss)
}

pub(crate) fn put(table: Name, number: usize, text: &str, len: usize) -> Write {
    Write::Put(table, key(number), value(text, len))
}

pub(crate) fn delete(table: Name, number: usize) -> Write {
    Write::Delete(table, key(number))
}

pub(crate) fn commit(writes: Vec<Write>, durability: Durability) -> Step {
    Step::Change(Change::Batch(writes), durability)
}

fn transact(writes: Vec<Write>, durability: Durability) -> Step {
    Step::Change(Change::Transaction(writes), durability)
}

/// One put; each fourth is durable.
fn put_step(table: Name, number: usize, round: usize, len: usize) -> Step {
    let text = format!("{table}{number}r{round}");
    let durability = if (number + round) % 4 == 3 { PowerLoss } else { Process };
    commit(vec![put(table, number, &text, len)], durability)
}

/// Entries for a table whose numbers step by two.
fn sorted(from: usize, to: usize, text: &str, len: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    (from..to).step_by(2).map(|n| (key(n), value(&format!("{text}{n}"), len))).collect()
}

/// Memtables and segments fill up and give way to new ones.
fn rotation() -> Vec<Step> {
    let mut steps = vec![create("a")];
    steps.extend((0..50).map(|n| put_step("a", n % 17, n / 17, 60 + n % 5 * 70)));
    steps.push(Step::Sync);
    steps.extend((50..60).map(|n| put_step("a", n % 17, n / 17, 200)));
    steps
}

/// Flushes, of little and of nothing.
fn flushes() -> Vec<Step> {
    let mut steps = vec![create("a"), create("b"), Step::Flush("a")];
    for round in 0..4 {
        steps.extend((0..5).map(|n| put_step("a", n * 3 + round, round, 40)));
        steps.push(commit(vec![delete("a", round * 3)], Process));
        steps.push(put_step("b", round, round, 20));
        steps.push(if round % 2 == 0 { Step::Flush("a") } else { Step::FlushAll });
    }
    steps
}

/// The same keys again and again, so that merges have something to throw away.
fn compaction() -> Vec<Step> {
    let mut steps = vec![create("a")];
    for round in 0..6 {
        steps.extend((0..12).map(|n| put_step("a", (n * 7 + round) % 30, round, 100)));
        steps.push(commit(vec![delete("a", round), delete("a", round + 9)], Process));
        steps.push(Step::Flush("a"));
        if round % 2 == 1 {
            steps.push(Step::Maintain);
        }
    }
    steps
}

/// Batches that cross tables, memtables and segments.
fn batches() -> Vec<Step> {
    let mut steps = vec![create("a"), create("b"), create("c")];
    for round in 0..14 {
        let text = format!("r{round}");
        let mut writes = Vec::new();
        for n in 0..1 + round % 4 {
            writes.push(put("a", n, &text, 30 + round * 10));
            writes.push(put("b", round, &text, 10));
            writes.push(delete("c", round.saturating_sub(2)));
            writes.push(put("c", round, &text, 100));
        }
        steps.push(commit(writes, if round % 3 == 2 { PowerLoss } else { Process }));
        if round % 5 == 4 {
            steps.push(Step::Flush("b"));
        }
    }
    steps
}

/// One key of each engine's table in each batch, while now one table is written out or merged, now
/// another: no moment may part them.
fn batches_and_work() -> Vec<Step> {
    let tables = ["a", "h", "t"];
    let mut steps = tables.map(create).to_vec();
    for round in 0..12 {
        let text = format!("r{round}");
        let same = tables.map(|table| put(table, round % 5, &text, 30 + round * 20));
        let last = tables.map(|table| delete(table, (round + 2) % 5));
        let durability = if round % 4 == 1 { PowerLoss } else { Process };
        steps.push(commit([same, last].concat(), durability));
        steps.push(match round % 6 {
            0 => Step::Flush("a"),
            1 => Step::Flush("h"),
            2 => Step::Flush("t"),
            3 => Step::Maintain,
            4 => transact(tables.map(|table| put(table, 9, &text, 90)).to_vec(), Process),
            _ => Step::Reopen,
        });
    }
    steps
}

/// Tables of all engines, each with files and with entries in memory, go and come again, while
/// others go on.
fn dropped_at_once() -> Vec<Step> {
    let tables = ["a", "h", "t"];
    let mut steps = vec![create("b")];
    for round in 0..3 {
        steps.extend(tables.map(create));
        for number in 0..4 {
            let text = format!("r{round}");
            let all = tables.map(|table| put(table, number, &text, 150)).to_vec();
            steps.extend([commit(all, Process), put_step("b", number, round, 40)]);
            if number == 2 {
                steps.push(Step::FlushAll);
            }
        }
        if round == 1 {
            steps.push(Step::Hold);
        }
        steps.extend(tables.map(|table| Step::Change(Change::Drop(table), PowerLoss)));
        steps.push(put_step("b", round, 9, 40));
        if round == 1 {
            steps.push(Step::Release);
        }
    }
    steps.push(Step::Maintain);
    steps
}

/// Transactions that read, write, take back, and delete ranges, of tables that fill and flush.
fn transactions() -> Vec<Step> {
    let mut steps = vec![create("a"), create("b")];
    for round in 0..10 {
        let text = format!("r{round}");
        let cut = Write::DeleteRange("a", key(round * 2), Some(key(round * 2 + 5)));
        let mut writes = vec![put("a", round, &text, 90), put("b", round, &text, 20), cut];
        writes.extend((0..round % 4).map(|n| put("a", round * 2 + n, &text, 200)));
        writes.push(delete("b", round / 2));
        steps.push(transact(writes, if round % 3 == 1 { PowerLoss } else { Process }));
        steps.push(commit(vec![put("b", 30 + round, "alone", 60)], Process));
        if round % 4 == 3 {
            steps.push(Step::Flush(if round == 3 { "a" } else { "b" }));
        }
    }
    steps
}

/// Tables go, with entries in the log, in memory and in files, and come again.
fn drops() -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..3 {
        steps.extend([create("a"), create("b")]);
        steps.extend((0..8).map(|n| put_step("a", n, round, 150)));
        steps.push(Step::Flush("a"));
        let both = vec![put("a", 30, "both", 9), put("b", 30 + round, "both", 9)];
        steps.push(commit(both, Process));
        steps.push(Step::Change(Change::Drop("a"), PowerLoss));
        steps.push(put_step("b", round, round, 30));
        if round == 1 {
            steps.push(Step::Reopen);
        }
    }
    steps.push(Step::Maintain);
    steps
}

/// Tables change names in a circle.
fn renames() -> Vec<Step> {
    let rename = |from, to| Step::Change(Change::Rename(from, to), PowerLoss);
    let mut steps = vec![create("a"), create("b")];
    for round in 0..3 {
        steps.extend((0..3).map(|n| put_step("a", n, round, 20)));
        steps.push(commit(vec![put("b", round, "b", 20)], Process));
        steps.push(rename("a", "c"));
        steps.push(put_step("c", 9, round, 20));
        steps.push(rename("b", "a"));
        steps.push(if round == 1 { Step::Reopen } else { Step::Flush("c") });
        steps.push(rename("c", "b"));
    }
    steps
}

/// Loads in bulk, between writes that are not durable yet.
fn ingests() -> Vec<Step> {
    let load = |name, entries| Step::Change(Change::Ingest(name, entries), PowerLoss);
    let mut steps = vec![create("a"), create("b"), load("a", sorted(0, 40, "load", 50))];
    for round in 0..4 {
        steps.push(commit(vec![put("b", round, "before", 20)], Process));
        steps.extend((0..4).map(|n| put_step("a", n * 5 + round, round, 40)));
        steps.push(commit(vec![put("b", round, "just before", 20)], Process));
        steps.push(load("a", sorted(round, 20 + round, &format!("r{round}."), 90)));
        steps.push(commit(vec![put("b", round + 20, "before", 20)], Process));
        steps.push(load("b", sorted(round * 8, round * 8 + 6, "load", 20)));
        steps.push(commit(vec![delete("a", round * 2), put("b", 50, "last", 9)], Process));
    }
    steps.extend([Step::Maintain, load("a", Vec::new())]);
    steps
}

/// Ranges deleted in memory, in files, and over both.
fn range_deletes() -> Vec<Step> {
    let cut = |from, to: Option<usize>| Write::DeleteRange("a", key(from), to.map(key));
    let mut steps = vec![create("a")];
    for round in 0..4 {
        steps.extend((0..10).map(|n| put_step("a", n * 4 + round, round, 60)));
        steps.push(commit(vec![cut(round * 5, Some(round * 5 + 12))], Process));
        steps.push(commit(vec![put("a", round * 5 + 1, "again", 10)], Process));
        if round % 2 == 0 {
            steps.push(Step::Flush("a"));
        }
        steps.push(commit(vec![cut(35, None), put("a", 36, "later", 9)], PowerLoss));
    }
    steps.extend([Step::FlushAll, commit(vec![cut(0, None)], PowerLoss), Step::Maintain]);
    steps
}

/// Opened and closed, with nothing and with little in between.
fn reopened() -> Vec<Step> {
    let mut steps = vec![Step::Reopen, create("a"), Step::Reopen];
    for round in 0..5 {
        steps.extend((0..round * 3).map(|n| put_step("a", n, round, 80)));
        steps.push(commit(vec![put("a", 40 + round, "last", 10)], Process));
        steps.push(Step::Reopen);
        if round == 3 {
            steps.push(Step::Flush("a"));
        }
    }
    steps.push(Step::Reopen);
    steps
}

/// Values larger than a block, a memtable, a segment.
fn large_values() -> Vec<Step> {
    let mut steps = vec![create("a")];
    for (n, len) in [300, 3000, 20, 5000, 10, 9000, 700].into_iter().enumerate() {
        steps.push(put_step("a", n, 0, len));
    }
    steps.extend([Step::Flush("a"), Step::Reopen]);
    let all = [6000, 10, 2000].into_iter().enumerate();
    steps.push(commit(all.map(|(n, len)| put("a", n, "batch", len)).collect(), PowerLoss));
    steps.push(Step::Maintain);
    steps
}

/// Values that merges leave where they are; some are overwritten, at last all of them, while
/// snapshots and backups need them.
pub(crate) fn lent_values() -> Vec<Step> {
    let mut steps = vec![create("l"), create("b")];
    for round in 0..7 {
        let all = (0..8).map(|n| put("l", (n * 3 + round * 5) % 24, &format!("r{round}"), 440));
        steps.push(commit(all.collect(), if round % 3 == 1 { PowerLoss } else { Process }));
        steps.push(commit(vec![delete("l", round), put("b", round, "b", 30)], Process));
        steps.push(Step::Flush("l"));
        match round {
            1 | 4 => steps.push(Step::Maintain),
            2 => steps.push(Step::Hold),
            3 => steps.extend([Step::Backup, Step::Reopen]),
            5 => steps.push(commit(vec![Write::DeleteRange("l", key(4), Some(key(9)))], Process)),
            _ => {}
        }
    }
    steps.extend([Step::Hold, Step::FlushAll, Step::Maintain]);
    steps.push(commit((0..24).map(|n| put("l", n, "short", 5)).collect(), Process));
    steps.extend([Step::Flush("l"), Step::Maintain, Step::Release, Step::Maintain]);
    steps.extend([commit(vec![Write::DeleteRange("l", key(0), None)], PowerLoss), Step::FlushAll]);
    steps.push(Step::Maintain);
    steps
}

/// Changes to a B+tree that lie so far apart that they wait beside it: several files of them become
/// one, and all of them are merged into the tree in slices.
fn put_off() -> Vec<Step> {
    // Of as many digits, so that they are in order.
    let load = Change::Ingest("t", sorted(100, 700, "loaded", 60));
    let mut steps = vec![create("t"), Step::Change(load, PowerLoss)];
    for round in 0..6 {
        let puts = (0..8).map(|n| put("t", 101 + n * 70 + round * 8, "apart", 60));
        let more = [delete("t", 104 + round * 90)];
        let cut = Write::DeleteRange("t", key(130 + round * 80), Some(key(133 + round * 80)));
        steps.push(commit(puts.chain(more).chain([cut]).collect(), Process));
        steps.push(Step::Flush("t"));
    }
    steps.extend([Step::Reopen, put_step("t", 399, 0, 60), Step::Flush("t"), Step::Maintain]);
    steps
}

/// Files that snapshots hold on to while they are merged away.
fn pinned() -> Vec<Step> {
    let mut steps = vec![create("a"), create("b")];
    for round in 0..4 {
        steps.extend((0..9).map(|n| put_step("a", n * 3, round, 110)));
        steps.extend([Step::Flush("a"), Step::Hold]);
        steps.extend((0..9).map(|n| put_step("a", n * 3 + 1, round, 110)));
        steps.extend([Step::Flush("a"), Step::Maintain]);
        if round == 2 {
            steps.push(Step::Change(Change::Drop("b"), PowerLoss));
        }
        steps.push(Step::Release);
    }
    steps.push(Step::Maintain);
    steps
}

/// Backups are taken while there is something in memory, in the log and in files.
fn backed_up() -> Vec<Step> {
    let mut steps = vec![create("a"), create("b"), Step::Backup];
    for round in 0..3 {
        steps.extend((0..9).map(|n| put_step("a", n, round, 110)));
        steps.extend([put_step("b", round, round, 30), Step::Backup, Step::Flush("a")]);
    }
    steps.extend([Step::Maintain, Step::Backup]);
    steps
}

/// Anything, in any order.
fn random(seed: u64, len: usize) -> Vec<Step> {
    let mut chance = Chance(seed);
    let tables: [Name; 3] = ["a", "b", "c"];
    let mut here: Vec<Name> = Vec::new();
    let mut steps = Vec::new();
    while steps.len() < len {
        let number = steps.len();
        let Some(away) = tables.iter().find(|name| !here.contains(name)) else {
            steps.push(random_step(&mut chance, &here, number));
            continue;
        };
        if here.is_empty() || chance.below(4) == 0 {
            here.push(away);
            steps.push(create(away));
        } else if chance.below(24) == 0 {
            let at = chance.below(here.len());
            steps.push(Step::Change(Change::Rename(here[at], away), PowerLoss));
            here[at] = away;
        } else {
            steps.push(random_step(&mut chance, &here, number));
        }
        if chance.below(30) == 0 {
            let gone = here.remove(chance.below(here.len()));
            steps.push(Step::Change(Change::Drop(gone), PowerLoss));
        }
    }
    steps
}

fn random_step(chance: &mut Chance, here: &[Name], number: usize) -> Step {
    let table = *chance.pick(here);
    match chance.below(40) {
        0..3 => Step::Flush(table),
        3 => Step::FlushAll,
        4..6 => Step::Maintain,
        6 => Step::Sync,
        7 => Step::Reopen,
        8 => Step::Hold,
        9 => Step::Release,
        10..12 => {
            let from = chance.below(40);
            let entries = sorted(from, from + chance.below(30), &format!("s{number}."), 30);
            Step::Change(Change::Ingest(table, entries), PowerLoss)
        }
        12 => Step::Backup,
        _ => {
            let writes = 1 + chance.below(3) * chance.below(3);
            let writes = (0..writes).map(|_| random_write(chance, here, number)).collect();
            let durability = if chance.below(4) == 0 { PowerLoss } else { Process };
            let transacts = chance.below(3) == 0;
            if transacts { transact(writes, durability) } else { commit(writes, durability) }
        }
    }
}

fn random_write(chance: &mut Chance, here: &[Name], number: usize) -> Write {
    let table = *chance.pick(here);
    let at = chance.below(40);
    match chance.below(10) {
        0..2 => delete(table, at),
        2 => {
            let to = chance.below(50);
            Write::DeleteRange(table, key(at), (to < 45).then(|| key(at.max(to))))
        }
        _ => {
            let len = *chance.pick(&[0, 10, 40, 40, 200, 200, 900]);
            put(table, at, &format!("s{number}"), len)
        }
    }
}

/// A bit of everything, in few operations: for suites that repeat it for each of them.
pub(crate) fn everything() -> Vec<Step> {
    let mut steps = vec![create("a"), create("b"), create("h"), create("l"), create("t")];
    steps.extend((0..6).map(|n| put_step("a", n * 3, 0, 300)));
    steps.push(commit((0..7).map(|n| put("l", n * 4, "long", 440)).collect(), Process));
    steps.push(Step::Flush("l"));
    let mut all = ["a", "b", "h", "t"].map(|table| put(table, 1, "all", 20)).to_vec();
    all.extend((0..8).map(|n| put("t", n * 3, "t", 120)));
    all.extend((0..5).map(|n| put("h", n * 3, "h", 300)));
    steps.push(commit(all, PowerLoss));
    steps.extend([Step::Flush("a"), Step::Flush("h"), Step::Flush("t")]);
    steps.extend((0..6).map(|n| put_step("a", n * 4, 1, 300)));
    let range = Write::DeleteRange("a", key(3), Some(key(7)));
    steps.push(commit(vec![range, delete("h", 3), put("h", 4, "large", 1500)], Process));
    steps.push(commit((0..7).map(|n| put("l", n * 4 + 2, "more", 440)).collect(), Process));
    steps.extend([Step::FlushAll, Step::Backup, Step::Maintain]);
    steps.push(Step::Change(Change::Ingest("b", sorted(0, 20, "load", 60)), PowerLoss));
    let range = Write::DeleteRange("t", key(5), Some(key(13)));
    steps.push(commit(vec![range, put("t", 4, "large", 700)], Process));
    steps.push(Step::Flush("t"));
    steps.push(Step::Change(Change::Ingest("h", sorted(0, 9, "load", 60)), PowerLoss));
    steps.push(Step::Change(Change::Ingest("t", sorted(8, 16, "load", 60)), PowerLoss));
    steps.push(commit(vec![delete("b", 4), put("a", 5, "after", 700)], Process));
    steps.push(Step::Sync);
    let gone = ["c", "hc", "tc"];
    steps.extend(gone.map(create));
    let all = gone.map(|table| put(table, 1, "soon gone", 300));
    steps.push(commit([&all[..], &[put("b", 2, "with them", 9)]].concat(), Process));
    steps.extend([Step::Flush("hc"), Step::Flush("tc")]);
    steps.extend(gone.map(|table| Step::Change(Change::Drop(table), PowerLoss)));
    steps.extend((0..3).map(|n| put_step("b", n * 4, 1, 100)));
    steps.extend([Step::Reopen, put_step("a", 9, 2, 50), put_step("b", 3, 0, 50)]);
    steps.push(commit((0..5).map(|n| put("l", n * 4, "short", 5)).collect(), Process));
    steps.extend([Step::FlushAll, Step::Maintain, put_step("a", 9, 3, 50)]);
    steps
}

/// Every sequence of `len` of these eight operations, as numbers in base eight.
pub(crate) const SHORT: usize = 8;

/// The tables and entries that every short sequence starts with.
pub(crate) fn before_short() -> Vec<Step> {
    let first = vec![put("a", 0, "first", 5), put("b", 0, "first", 5)];
    vec![create("a"), create("b"), commit(first, PowerLoss)]
}

/// Operation `which` of [`SHORT`], as step `number`.
pub(crate) fn short(which: usize, number: usize) -> Step {
    let text = format!("n{number}");
    match which % SHORT {
        0 => commit(vec![put("a", 1 + number, &text, 5)], Process),
        1 => commit(vec![put("a", 0, &text, 5)], Process),
        2 => commit(vec![delete("a", 0)], Process),
        3 => commit(vec![put("a", 7, &text, 5), put("b", 7, &text, 5)], Process),
        4 => commit(vec![put("b", 1, &text, 5)], PowerLoss),
        5 => Step::FlushAll,
        6 => Step::Maintain,
        _ => Step::Reopen,
    }
}

//! Power is lost after every I/O operation, and what is left must be what was promised.
//!
//! Goal: an acknowledged commit survives what its [`Durability`](tonearm::Durability) says, whole
//! and in order, whatever the disk made of the writes that were not synced. Method: play a
//! scenario once on a simulated disk that remembers every operation. Then, for every operation,
//! open disks that a crash right after it could have left: with none of the unsynced changes, all
//! of them, subsets, torn ones. Each must hold all tables as they were after one single change
//! (not older than the last one that was acknowledged), work on, pass verification, leave no file
//! behind that nothing needs, and hold the same after a clean reopen. Some are crashed again,
//! at every operation of their recovery.
//!
//! `TONEARM_CRASH_IMAGES=N` tries about N disks; `TONEARM_EFFORT=ci` tries some 600,000.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{
    chance::Chance,
    is_thorough,
    look::{self, Promise},
    model::{Change, Model},
    player::{Manner, Player, Step},
    scenarios::{self, PLAIN, SHORT, Scenario},
    tell,
};
use std::{
    collections::HashSet,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};
use tonearm::{
    Durability, Table,
    vfs::{
        Folder,
        sim::{Choice, Effort, History, SimDisk},
    },
};

/// How many disks are tried.
fn images_wanted() -> usize {
    let wanted = std::env::var("TONEARM_CRASH_IMAGES").ok();
    let wanted = wanted.map(|number| number.parse().expect("TONEARM_CRASH_IMAGES is a number"));
    wanted.unwrap_or(if is_thorough() { 600_000 } else { 12_000 })
}

/// One in so many images is crashed again while it recovers.
const AGAIN: usize = 40;

/// A scenario that was played.
struct Play {
    name: String,
    manner: Manner,
    model: Model,
    history: History,
    /// The operations before which no crash is of interest.
    from: usize,
}

/// How many images were looked at, or what was wrong with one of them.
type Images = Result<usize, String>;

/// Runs `job` for each of `jobs` in two threads; sums up how many images each looked at. Fails
/// with all that was found, at the end.
fn in_two_threads<T: Sync>(jobs: &[T], job: impl Fn(&T) -> Images + Sync) -> usize {
    let (next, images) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(one) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match job(one) {
                        Ok(count) => {
                            images.fetch_add(count, Ordering::Relaxed);
                        }
                        Err(failure) => failures.lock().unwrap().push(failure),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let shown = failures[..failures.len().min(5)].join("\n\n");
    assert!(failures.is_empty(), "{} failures, the first:\n{shown}", failures.len());
    images.into_inner()
}

/// Crashes a play at every point of `points`, up to `budget` times in all.
fn crash(play: &Play, points: &[usize], budget: usize) -> Images {
    let history = play.history.clone();
    let each = (budget / points.len().max(1)).max(1);
    let effort = if each > 150 { Effort::thorough() } else { Effort::default() };
    let mut chance = Chance(points.first().map_or(0, |first| *first as u64));
    let mut seen = HashSet::new();
    let mut images = 0;
    for &point in points {
        let (now, later): (Vec<_>, Vec<_>) = history
            .choices_at(point, &effort)
            .into_iter()
            .partition(|choice| matches!(choice, Choice::None | Choice::All));
        let rest = each.saturating_sub(now.len());
        let later = chance.sample(later, rest);
        for choice in now.into_iter().chain(later) {
            let killed = choice == Choice::All || history.floating_at(point) == 0;
            let window = play.model.window(history.last_mark_at(point), killed);
            let disk = history.image(point, &choice);
            if !seen.insert((disk.fingerprint(), window.clone())) {
                continue;
            }
            images += 1;
            check(play, point, &choice, &window, &disk)?;
            if chance.below(AGAIN) == 0 {
                images += crash_again(play, point, &choice, &window)?;
            }
        }
    }
    Ok(images)
}

/// Looks at one image; a failure says how to get there.
fn check(
    play: &Play,
    point: usize,
    choice: &Choice,
    window: &RangeInclusive<usize>,
    disk: &SimDisk,
) -> Result<(), String> {
    let promise = Promise { model: &play.model, window: window.clone() };
    let look = || promise.survives(play.manner, disk);
    let result = catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|panic| Err(told(panic)));
    result.map_err(|why| {
        let place = format!("{}, point {point}, {choice:?}, states {window:?}", play.name);
        format!("{place}: {why}\nbefore it:\n{}", trace(&play.history, point))
    })
}

fn told(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    format!("a panic: {}", text.unwrap_or_default())
}

/// The operations before a point.
fn trace(history: &History, point: usize) -> String {
    let shown = point.saturating_sub(24)..point;
    let lines = shown.filter_map(|at| Some(format!("  {at} {}", history.operation(at)?)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Crashes the recovery of an image at each of its operations. Once it had opened, it must stay
/// what it was.
fn crash_again(
    play: &Play,
    point: usize,
    choice: &Choice,
    first: &RangeInclusive<usize>,
) -> Images {
    let disk = play.history.clone().image(point, choice);
    let promise = Promise { model: &play.model, window: first.clone() };
    let (db, found) = promise.open(play.manner, &disk).expect("it opened before");
    disk.mark(1);
    db.close().unwrap();
    let place = play.model.place(first, &found).expect("it was found before");
    let again = Play {
        name: format!("{}, point {point}, {choice:?}, crashed again", play.name),
        manner: play.manner,
        model: play.model.clone(),
        history: disk.history(),
        from: 0,
    };
    let mut chance = Chance(point as u64);
    let mut images = 0;
    for point in again.history.points() {
        let opened = again.history.last_mark_at(point).is_some();
        let window = if opened { place..=place } else { first.clone() };
        let choices = again.history.choices_at(point, &Effort::default());
        for choice in chance.sample(choices, 2) {
            check(&again, point, &choice, &window, &again.history.image(point, &choice))?;
            images += 1;
        }
    }
    Ok(images)
}

fn play(scenario: &Scenario) -> Play {
    let mut player = Player::new(scenario.manner.disk(7), scenario.manner);
    player.play(&scenario.steps);
    let history = player.disk.history();
    let name = scenario.name.clone();
    Play { name, manner: scenario.manner, model: player.model, history, from: 0 }
}

#[test]
fn every_crash_is_survived() {
    let start = Instant::now();
    let wanted = images_wanted();
    let (for_short, for_backups) = (wanted * 35 / 100, wanted / 20);
    let scenarios = crash_scenarios(wanted - for_short - for_backups);
    let short = crash_short_sequences(for_short);
    let backups = crash_backups(for_backups);
    let images = scenarios + short + backups;
    let took = start.elapsed().as_secs_f64();
    tell(&format!(
        "crash: {images} images survived ({scenarios} of scenarios, {short} of short sequences, \
         {backups} of backups), {took:.1} s"
    ));
    assert!(images * 3 > wanted, "far fewer images than wanted: {images}");
}

/// Crashes all scenarios everywhere.
fn crash_scenarios(budget: usize) -> usize {
    let seeds = (budget as u64 / 4_000).clamp(16, 100);
    let plays: Vec<Play> = scenarios::all(seeds).iter().map(play).collect();
    let points: usize = plays.iter().map(|play| play.history.points().len()).sum();
    // Recoveries that are crashed again take about as many again.
    let each = budget as f64 / points as f64 / 1.9;
    let mut jobs = Vec::new();
    let mut chance = Chance(3);
    for play in &plays {
        for chunk in play.history.points().chunks(128) {
            let kept = (chunk.len() as f64 * each).max(1.0) as usize;
            let chunk = chance.sample(chunk.to_vec(), kept);
            jobs.push((play, chunk, kept));
        }
    }
    in_two_threads(&jobs, |(play, points, budget)| crash(play, points, *budget))
}

/// Crashes the last operation of all sequences of up to four; those before are other sequences.
fn crash_short_sequences(budget: usize) -> usize {
    let all: usize = (1..=4).map(|len| SHORT.pow(len)).sum();
    let each = (budget / all).max(12);
    let mut sequences: Vec<(u32, usize)> = Vec::with_capacity(all);
    for len in 1..=4 {
        sequences.extend((0..SHORT.pow(len)).map(|number| (len, number)));
    }
    let sequences = Chance(5).sample(sequences, (budget / each).max(10));
    in_two_threads(&sequences, |(len, number)| {
        let play = play_short(*len, *number);
        let points = play.history.points();
        let points: Vec<_> = points.into_iter().filter(|point| *point >= play.from).collect();
        let kept = Chance(*number as u64).sample(points, each);
        crash(&play, &kept, each)
    })
}

fn play_short(len: u32, number: usize) -> Play {
    let mut player = Player::new(PLAIN.disk(7), PLAIN);
    let digits: Vec<_> = (0..len).map(|digit| number / SHORT.pow(digit) % SHORT).collect();
    for step in scenarios::before_short() {
        player.step(&step).unwrap();
    }
    let mut from = 0;
    for (number, which) in digits.iter().enumerate() {
        from = player.disk.op_count();
        player.step(&scenarios::short(*which, number)).unwrap();
    }
    let history = player.disk.history();
    let name = format!("operations {digits:?}");
    Play { name, manner: PLAIN, model: player.model.clone(), history, from }
}

/// Crashes the disks that backups are written to.
fn crash_backups(budget: usize) -> usize {
    let mut images = 0;
    let sources = scenarios::all(0);
    let chosen = [
        "compaction",
        "batches over tables",
        "ingests",
        "range deletes",
        "hash: compaction",
        "hash: ingests",
        "btree: ingests",
        "btree: pages used again",
        "engines: batches and work",
    ];
    let sources: Vec<_> = sources.iter().filter(|s| chosen.contains(&&*s.name)).collect();
    assert_eq!(sources.len(), chosen.len());
    for scenario in &sources {
        let mut player = Player::new(scenario.manner.disk(7), scenario.manner);
        let half = scenario.steps.len() * 2 / 3;
        scenario.steps[..half].iter().for_each(|step| player.step(step).unwrap());
        let target = SimDisk::new(9);
        let db = player.db().unwrap();
        let expected = look::read(db).unwrap();
        db.backup_in(&(Arc::new(target.clone()) as Arc<dyn Folder>)).unwrap();
        target.mark(1);
        let history = target.history();
        let mut choices = Vec::new();
        for point in history.points() {
            let at = history.choices_at(point, &Effort::default());
            choices.extend(at.into_iter().map(|choice| (point, choice)));
        }
        for (point, choice) in Chance(1).sample(choices, budget / sources.len()) {
            let disk = history.image(point, &choice);
            let opened = scenario.manner.builder().create(false).open_in(Arc::new(disk.clone()));
            let done = history.last_mark_at(point).is_some();
            match opened {
                Ok(db) => {
                    assert_eq!(look::read(&db).unwrap(), expected, "{}: {choice:?}", scenario.name);
                    db.verify().unwrap();
                }
                Err(e) => assert!(!done, "{}, {point}, {choice:?}: {e}", scenario.name),
            }
            images += 1;
        }
    }
    images
}

/// The suite must notice a disk that lies: a sync that does nothing loses what was acknowledged.
#[test]
fn a_lying_disk_is_noticed() {
    use tonearm::vfs::sim::{Effect, Fault, OpKind};
    let scenario = &scenarios::all(0)[0];
    let disk = scenario.manner.disk(7);
    disk.inject(Fault::nth(8).of(OpKind::SyncData).named(".log").effect(Effect::Lie).forever());
    let mut player = Player::new(disk, scenario.manner);
    scenario.steps.iter().for_each(|step| player.step(step).unwrap());
    let history = player.disk.history();
    let model = player.model.clone();
    let lost = history.points().into_iter().filter(|point| {
        let window = model.window(history.last_mark_at(*point), false);
        let promise = Promise { model: &model, window };
        promise.open(scenario.manner, &history.image(*point, &Choice::None)).is_err()
    });
    assert!(lost.count() > 10);
}

/// A crash after every operation of an opening leaves either no database or an empty one.
#[test]
fn creation_is_atomic() {
    let images = AtomicU64::new(0);
    let failure = Mutex::new(None::<String>);
    for manner in [PLAIN, scenarios::MAPPED, scenarios::LOOSE] {
        let disk = manner.disk(1);
        manner.open(&disk).unwrap().close().unwrap();
        let model = Model::new();
        for crash in disk.history().crashes(Effort::default()) {
            let promise = Promise { model: &model, window: 0..=0 };
            if let Err(why) = promise.survives(manner, &crash.disk) {
                failure.lock().unwrap().get_or_insert(format!("{crash:?}: {why}"));
            }
            images.fetch_add(1, Ordering::Relaxed);
        }
    }
    let failure = failure.into_inner().unwrap();
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    assert!(images.into_inner() > 100);
}

/// A database with smaller memtables than before absorbs some while it still reads its log: the
/// part not read yet is needed until the end.
#[test]
fn memtables_that_fill_while_opening_lose_nothing() {
    let large = PLAIN.builder().memtable_bytes(64 << 10);
    let disk = PLAIN.disk(1);
    let db = large.open_in(Arc::new(disk.clone())).unwrap();
    let steps = [scenarios::create("a"), scenarios::create("b")];
    let mut player = Player::with(db, disk, PLAIN);
    steps.iter().for_each(|step| player.step(step).unwrap());
    for n in 0..60 {
        let both = vec![scenarios::put("a", n % 23, "a", 200), scenarios::put("b", n, "b", 100)];
        player.step(&scenarios::commit(both, Durability::Process)).unwrap();
    }
    player.close().unwrap();
    let disk = player.disk.crash(&Choice::None);
    let promise = Promise { model: &player.model, window: player.model.promised(false) };
    promise.open(PLAIN, &disk).unwrap().0.close().unwrap();
    let history = disk.history();
    let runs = |at: &usize| history.operation(*at).is_some_and(|op| op.file().ends_with(".run"));
    assert!((0..history.len()).any(|at| runs(&at)), "nothing was absorbed");
    for point in history.points() {
        for choice in [Choice::None, Choice::All] {
            let survived = promise.survives(PLAIN, &history.image(point, &choice));
            survived.unwrap_or_else(|why| panic!("point {point}, {choice:?}: {why}"));
        }
    }
}

/// What happens to tables is durable at once, and so are the commits before it.
#[test]
fn changes_of_tables_do_not_overtake_commits() {
    let put =
        |table| scenarios::commit(vec![scenarios::put(table, 1, "x", 5)], Durability::Process);
    let late = |change| Step::Change(change, Durability::PowerLoss);
    let changes = [
        Change::Create("c"),
        Change::Drop("b"),
        Change::Rename("b", "c"),
        Change::Ingest("b", vec![(b"in bulk".to_vec(), vec![1])]),
    ];
    for change in changes {
        let mut player = Player::new(PLAIN.disk(1), PLAIN);
        for step in [scenarios::create("a"), scenarios::create("b"), put("a"), late(change)] {
            player.step(&step).unwrap();
        }
        let promise = Promise { model: &player.model, window: player.model.promised(false) };
        promise.survives(PLAIN, &player.disk.crash(&Choice::None)).unwrap();
    }
}

/// All of a log may be settled and gone, and the next segment empty after a power cut: numbers
/// that settled entries had are not given to later commits, which would then count as settled.
#[test]
fn settled_numbers_are_not_given_out_again() {
    let put = |n, len, durability| {
        scenarios::commit(vec![scenarios::put("a", n, "large", len)], durability)
    };
    let mut player = Player::new(PLAIN.disk(1), PLAIN);
    player.step(&scenarios::create("a")).unwrap();
    // Each fills a memtable and a segment; the last has the first two written out.
    player.step(&put(0, 2000, Durability::Process)).unwrap();
    player.step(&put(1, 3000, Durability::PowerLoss)).unwrap();
    player.step(&put(2, 3000, Durability::Process)).unwrap();
    player.step(&put(3, 3000, Durability::Process)).unwrap();
    let disk = player.disk.crash(&Choice::None);
    let window = player.model.promised(false);
    let promise = Promise { model: &player.model, window };
    let (db, _) = promise.open(PLAIN, &disk).unwrap();
    let table = db.lsm("a").unwrap();
    table.insert_with(b"later", b"kept", Durability::PowerLoss).unwrap();
    drop((table, db));
    let db = PLAIN.open(&disk).unwrap();
    let kept = db.lsm("a").unwrap().get(b"later").unwrap();
    assert_eq!(kept.as_deref(), Some(&b"kept"[..]));
    promise.survives(PLAIN, &player.disk.crash(&Choice::None)).unwrap();
}

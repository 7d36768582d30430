//! What happens between a click on "play" and the music, in one program and with one database:
//! `cargo run --release --example play_button -- --help`.
//!
//! ```text
//!   who is it?        table `users`, a B+tree       the token is theirs
//!   which song?       table `songs`, a B+tree       the catalogue
//!   what comes next?  table `vectors`, a B+tree     songs near it in taste, by a search in a graph
//!                                                   of vectors (HNSW) that is built from the table
//!   show the card     table `cards`, a hash index
//!   remember it       table `clicks`, an LSM tree   } one transaction over three tables, durable
//!                     table `recent`, a hash index  }
//!                     table `counts`, a hash index  }
//! ```
//!
//! Each step is timed, with one client or several at once. Then clicks arrive in bulk, as from
//! another service's queue, a thousand in a transaction. At the end the counters must say what the
//! clicks do.

use bytes::Bytes;
use hdrhistogram::Histogram;
use instant_distance::{HnswMap, Point, Search};
use std::{
    collections::BTreeMap,
    fs,
    io::{Seek, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};
use tonearm::{Btree, Db, Durability, Hash, Lsm, Table, TransactOptions, Transaction, key};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What `--help` prints.
const HELP: &str = "\
A click on \"play\", end to end, timed step by step; then clicks in bulk.

usage: cargo run --release --example play_button -- [options]

  --clicks N     how many clicks to make one by one, each durable (default: 20000)
  --batched N    how many clicks to take in bulk (default: 1000000)
  --clients N    how many threads click at once (default: 1; more share syncs, and wait longer)
  --users N      how many users there are (default: 100000)
  --songs N      how many songs there are (default: 20000)
  --seed N       make other users, songs and clicks (default: 1)
  --dir DIR      keep the database in DIR, and go on with it if it is there
                 (default: a temporary folder, removed at the end)
  --help         print this
";

/// Clicks in one transaction of the bulk.
const BATCH: u64 = 1000;
/// How many songs a user has last played.
const RECENT: usize = 20;
/// How many songs are recommended.
const NEXT: usize = 10;
/// Numbers that say what a song is like.
const TASTES: usize = 32;
/// Songs of one genre are near each other.
const GENRES: u64 = 200;

/// The steps of a click, and all of it.
const STEPS: [&str; 6] = [
    "authenticate (btree)",
    "fetch song (btree)",
    "recommend (vectors)",
    "read card (hash)",
    "remember (all, durable)",
    "whole click",
];

fn main() -> ExitCode {
    let done = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => run(&args),
        Ok(None) => {
            print!("{HELP}");
            Ok(())
        }
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("play_button: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The options.
#[derive(Clone, Debug)]
struct Args {
    clicks: u64,
    batched: u64,
    clients: u64,
    users: u64,
    songs: u64,
    seed: u64,
    dir: Option<PathBuf>,
}

impl Args {
    /// Reads the words after the program's name; nothing if they ask for help.
    fn parse(words: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut args = Self {
            clicks: 20_000,
            batched: 1_000_000,
            clients: 1,
            users: 100_000,
            songs: 20_000,
            seed: 1,
            dir: None,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if matches!(word.as_str(), "--help" | "-h") {
                return Ok(None);
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let number = |min: u64, max: u64| {
                let number = value.parse().ok().filter(|number| (min..=max).contains(number));
                number.ok_or_else(|| format!("{word} takes a number from {min} to {max}"))
            };
            match word.as_str() {
                "--clicks" => args.clicks = number(1, 1 << 40)?,
                "--batched" => args.batched = number(0, 1 << 40)?,
                "--clients" => args.clients = number(1, 1024)?,
                "--users" => args.users = number(1, 1 << 24)?,
                "--songs" => args.songs = number(NEXT as u64 + 1, 1 << 24)?,
                "--seed" => args.seed = number(0, u64::MAX)?,
                "--dir" => args.dir = Some(value.into()),
                _ => return Err(format!("{word} is not an option; try --help").into()),
            }
        }
        Ok(Some(args))
    }
}

fn run(args: &Args) -> Result<()> {
    // Declared before the store, so that the folder goes after the database in it is closed.
    let mut temporary = None;
    let folder = match &args.dir {
        Some(dir) => dir.clone(),
        None => temporary.insert(tempfile::tempdir()?).path().join("play"),
    };
    let alone = syncs(&folder)?;
    let store = Store::open(&folder, args)?;
    let start = Instant::now();
    let graph = store.graph(args.seed)?;
    println!("{} vectors in a graph after {:.1?}", graph.values.len(), start.elapsed());

    let times = one_by_one(&store, &graph, args)?;
    let per_second = in_bulk(&store, args)?;
    let last = store.click(args, args.clicks + args.batched);
    println!("\n{}", store.play(&graph, &last, &mut Search::default(), &mut Times::new()?)?);
    let clicks = store.check()?;
    print!("{clicks} clicks in all, and the counters agree\n\n{times}");
    println!(
        "{:<24} {:>10.1} {:>10.1} {:>10.1}   for comparison: 200 bytes into a file of zeros\n",
        "one sync of this disk",
        alone.value_at_quantile(0.5) as f64 / 1000.0,
        alone.value_at_quantile(0.99) as f64 / 1000.0,
        alone.value_at_quantile(0.999) as f64 / 1000.0,
    );
    let whole = times.0.last().ok_or("nothing was timed")?;
    println!(
        "play_button: clicks={} durable_p50_us={} durable_p99_us={} batched_per_s={per_second}",
        args.clicks,
        whole.value_at_quantile(0.5) / 1000,
        whole.value_at_quantile(0.99) / 1000,
    );
    Ok(())
}

/// How long the disk itself takes to make a click's worth of bytes durable.
fn syncs(folder: &Path) -> Result<Histogram<u64>> {
    fs::create_dir_all(folder)?;
    let path = folder.join("sync.tmp");
    let mut file = fs::File::create(&path)?;
    file.write_all(&[0; 64 << 10])?;
    file.sync_all()?;
    file.rewind()?;
    let mut times = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    for _ in 0..200 {
        let start = Instant::now();
        file.write_all(&[1; 200])?;
        file.sync_data()?;
        times.saturating_record(u64::try_from(start.elapsed().as_nanos())?);
    }
    fs::remove_file(path)?;
    Ok(times)
}

/// All clients click, each one after the other.
fn one_by_one(store: &Store, graph: &Graph, args: &Args) -> Result<Times> {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        let client = || -> Result<Times> {
            let (mut times, mut search) = (Times::new()?, Search::default());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= args.clicks {
                    return Ok(times);
                }
                let click = store.click(args, number);
                store.play(graph, &click, &mut search, &mut times)?;
            }
        };
        let clients: Vec<_> = (0..args.clients).map(|_| scope.spawn(client)).collect();
        let mut all = Times::new()?;
        for client in clients {
            let times = client.join().map_err(|_| "a client panicked")??;
            all.add(&times)?;
        }
        Ok(all)
    })
}

/// Clicks come a thousand at a time, and each thousand is durable; returns how many a second.
fn in_bulk(store: &Store, args: &Args) -> Result<u64> {
    let start = Instant::now();
    for first in (0..args.batched).step_by(BATCH as usize) {
        let numbers = args.clicks + first..args.clicks + args.batched.min(first + BATCH);
        let clicks: Vec<Click> = numbers.map(|number| store.click(args, number)).collect();
        store.remember(&clicks)?;
    }
    Ok((args.batched as f64 / start.elapsed().as_secs_f64()) as u64)
}

/// Somebody clicked.
#[derive(Clone, Debug)]
struct Click {
    user: u32,
    token: u64,
    song: u32,
    /// Which click this is of all that there ever were.
    number: u64,
}

/// What the client gets to see.
#[derive(Debug)]
struct Answer {
    user: String,
    song: String,
    next: Vec<String>,
    card: String,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let card: String = self.card.chars().take(40).collect();
        writeln!(f, "{} plays {}", self.user, self.song)?;
        writeln!(f, "  next: {}", self.next.join(", "))?;
        writeln!(f, "  card: {card}...")
    }
}

/// The database.
struct Store {
    db: Db,
    /// user -> (name, hash of the token).
    users: Btree,
    /// song -> (title, artist).
    songs: Btree,
    /// song -> what it is like.
    vectors: Btree,
    /// user -> a text about their year.
    cards: Hash,
    /// (user, number) -> song.
    clicks: Lsm,
    /// user -> the songs played last, newest first.
    recent: Hash,
    /// song -> how often it was played.
    counts: Hash,
    /// Clicks that were there before.
    before: u64,
}

impl Store {
    fn open(folder: &Path, args: &Args) -> Result<Self> {
        let db = Db::open(folder)?;
        let store = Self {
            users: db.btree("users")?,
            songs: db.btree("songs")?,
            vectors: db.btree("vectors")?,
            cards: db.hash("cards")?,
            clicks: db.lsm("clicks")?,
            recent: db.hash("recent")?,
            counts: db.hash("counts")?,
            before: db.lsm("clicks")?.iter().count() as u64,
            db,
        };
        let (state, plan) = (store.db.lsm("state")?, (args.users, args.songs, args.seed));
        match state.get(b"plan")? {
            Some(old) if key::decode::<(u64, u64, u64)>(&old)? == plan => Ok(store),
            Some(_) => Err("the folder holds a run with other options: give another --dir".into()),
            None => {
                store.load(args)?;
                state.insert_with(b"plan", &key::encode(&plan), Durability::PowerLoss)?;
                Ok(store)
            }
        }
    }

    /// Fills the catalogue, in key order and without the log.
    fn load(&self, args: &Args) -> Result<()> {
        let start = Instant::now();
        let row = |number: u64, value: &[u8]| {
            Ok((Bytes::copy_from_slice(&key::encode(&(number as u32))), value.to_vec().into()))
        };
        let user = |user: u64| {
            row(user, &key::encode(&(format!("listener {user}"), mix(token(args, user)))))
        };
        let song = |song: u64| {
            row(song, &key::encode(&(format!("Take {song}"), format!("artist {}", song % 997))))
        };
        let card = |user: u64| {
            let text = format!("Your year, listener {user}: {} minutes", mix(user) % 100_000);
            row(user, text.repeat(8).as_bytes())
        };
        self.users.ingest(&mut (0..args.users).map(user))?;
        self.songs.ingest(&mut (0..args.songs).map(song))?;
        self.vectors.ingest(&mut (0..args.songs).map(|s| row(s, &Taste::of(args, s).bytes())))?;
        self.cards.ingest(&mut (0..args.users).map(card))?;
        println!("{} users and {} songs in {:.1?}", args.users, args.songs, start.elapsed());
        Ok(())
    }

    /// A graph in which to look for songs that are like another.
    fn graph(&self, seed: u64) -> Result<Graph> {
        let (mut tastes, mut songs) = (Vec::new(), Vec::new());
        for entry in self.vectors.iter() {
            let (song, taste) = entry?;
            songs.push(key::decode::<u32>(&song)?);
            tastes.push(Taste::from_bytes(&taste));
        }
        Ok(instant_distance::Builder::default().seed(seed).build(tastes, songs))
    }

    /// The click of this number: some users click more than others, and some songs are hits.
    fn click(&self, args: &Args, number: u64) -> Click {
        let number = self.before + number;
        let part = |salt: u64, power: i32| {
            let unit =
                (mix(args.seed ^ mix(number ^ salt << 56)) >> 11) as f64 / (1_u64 << 53) as f64;
            unit.powi(power)
        };
        let user = (part(1, 2) * args.users as f64) as u32;
        let song = (part(2, 3) * args.songs as f64) as u32;
        Click { user, token: token(args, u64::from(user)), song, number }
    }

    /// All of it, timed.
    fn play(
        &self,
        graph: &Graph,
        click: &Click,
        search: &mut Search,
        times: &mut Times,
    ) -> Result<Answer> {
        let start = Instant::now();
        let user = times.step(0, || self.authenticate(click))?;
        let song = times.step(1, || self.song(click.song))?;
        let next = times.step(2, || self.like(graph, click.song, search))?;
        let card = times.step(3, || self.card(click.user))?;
        times.step(4, || self.remember(std::slice::from_ref(click)))?;
        times.note(5, start.elapsed());
        Ok(Answer { user, song, next, card })
    }

    /// Who has this token.
    fn authenticate(&self, click: &Click) -> Result<String> {
        let user = self.users.get_with(&key::encode(&click.user), key::decode::<(String, u64)>)?;
        let (name, hash) = user.ok_or("there is no such user")??;
        if hash == mix(click.token) { Ok(name) } else { Err("this is not their token".into()) }
    }

    fn song(&self, song: u32) -> Result<String> {
        let found = self.songs.get_with(&key::encode(&song), key::decode::<(String, String)>)?;
        let (title, artist) = found.ok_or("there is no such song")??;
        Ok(format!("{title}, {artist}"))
    }

    /// The titles of some songs that are like this one.
    fn like(&self, graph: &Graph, song: u32, search: &mut Search) -> Result<Vec<String>> {
        let taste = self.vectors.get_with(&key::encode(&song), Taste::from_bytes)?;
        let taste = taste.ok_or("there is no such song")?;
        let near = graph.search(&taste, search).map(|found| *found.value);
        let keys: Vec<_> =
            near.filter(|near| *near != song).take(NEXT).map(|near| key::encode(&near)).collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let found = self.songs.get_many(&keys)?.into_iter().flatten();
        found.map(|song| Ok(key::decode::<(String, String)>(&song)?.0)).collect()
    }

    fn card(&self, user: u32) -> Result<String> {
        let text = |card: &[u8]| String::from_utf8_lossy(card).into_owned();
        Ok(self.cards.get_with(&key::encode(&user), text)?.ok_or("the user has no card")?)
    }

    /// All of the clicks, in all tables, or none; it is made again if somebody else counted the
    /// same song at the same time.
    fn remember(&self, clicks: &[Click]) -> Result<()> {
        let options = TransactOptions::new().durability(Durability::PowerLoss).retries(10_000);
        Ok(self.db.transact_with(&options, |tx| {
            clicks.iter().try_for_each(|click| self.write(tx, click))
        })?)
    }

    fn write(&self, tx: &mut Transaction, click: &Click) -> tonearm::Result<()> {
        let (user, song) = (key::encode(&click.user), key::encode(&click.song));
        let row = key::encode(&(click.user, click.number));
        tx.insert(&self.clicks, row, click.song.to_le_bytes())?;
        let count = tx.get_with(&self.counts, &song, number)?.unwrap_or(0);
        tx.insert(&self.counts, &song, (count + 1).to_le_bytes())?;
        let mut recent = click.song.to_le_bytes().to_vec();
        tx.get_with(&self.recent, &user, |old| recent.extend_from_slice(old))?;
        recent.truncate(RECENT * size_of::<u32>());
        tx.insert(&self.recent, &user, recent)
    }

    /// Counts the clicks, and compares that with what the counters say.
    fn check(&self) -> Result<u64> {
        let mut clicks: BTreeMap<u32, u64> = BTreeMap::new();
        let mut rows = self.clicks.iter();
        while let Some(row) = rows.next_ref() {
            let song = u32::from_le_bytes(row?.1.try_into()?);
            *clicks.entry(song).or_default() += 1;
        }
        let mut counted: BTreeMap<u32, u64> = BTreeMap::new();
        for entry in self.counts.iter() {
            let (song, count) = entry?;
            counted.insert(key::decode(&song)?, number(&count));
        }
        if clicks != counted {
            return Err("the counters do not say what the clicks do".into());
        }
        Ok(clicks.values().sum())
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// What only the user knows.
fn token(args: &Args, user: u64) -> u64 {
    mix(mix(user) ^ args.seed)
}

/// A bijection of 64 bits (splitmix64's finalizer).
fn mix(i: u64) -> u64 {
    let mut z = i.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

type Graph = HnswMap<Taste, u32>;

/// What a song is like.
#[derive(Clone, Debug)]
struct Taste([f32; TASTES]);

impl Taste {
    /// Somewhere around the middle of its genre.
    fn of(args: &Args, song: u64) -> Self {
        let unit = |i: u64| (mix(args.seed ^ mix(i)) >> 40) as f32 / (1 << 24) as f32;
        let genre = mix(song) % GENRES;
        Self(std::array::from_fn(|at| {
            let at = at as u64;
            unit(genre << 8 | at) + 0.2 * unit(1 << 40 | song << 8 | at)
        }))
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let (numbers, _) = bytes.as_chunks();
        let number = |at: usize| numbers.get(at).map_or(0.0, |bytes| f32::from_le_bytes(*bytes));
        Self(std::array::from_fn(number))
    }
}

impl Point for Taste {
    fn distance(&self, other: &Self) -> f32 {
        self.0.iter().zip(&other.0).map(|(a, b)| (a - b) * (a - b)).sum()
    }
}

/// How long each step took, in nanoseconds.
struct Times(Vec<Histogram<u64>>);

impl Times {
    fn new() -> Result<Self> {
        let empty = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        Ok(Self(vec![empty; STEPS.len()]))
    }

    fn step<T>(&mut self, step: usize, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        self.note(step, start.elapsed());
        done
    }

    fn note(&mut self, step: usize, took: Duration) {
        if let Some(times) = self.0.get_mut(step) {
            times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            own.add(other)?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:<24} {:>10} {:>10} {:>10}   microseconds", "step", "p50", "p99", "p99.9")?;
        for (name, times) in STEPS.iter().zip(&self.0) {
            let at = |part| times.value_at_quantile(part) as f64 / 1000.0;
            writeln!(f, "{name:<24} {:>10.1} {:>10.1} {:>10.1}", at(0.5), at(0.99), at(0.999))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &str) -> Result<Option<Args>> {
        Args::parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_small_run_goes_through_twice() {
        let dir = tempfile::tempdir().unwrap();
        let small = "--clicks 300 --batched 2500 --users 50 --songs 40 --clients 3";
        let mut small = args(small).unwrap().unwrap();
        small.dir = Some(dir.path().join("db"));
        run(&small).unwrap();
        run(&small).unwrap();
        let store = Store::open(&dir.path().join("db"), &small).unwrap();
        assert_eq!((store.before, store.check().unwrap()), (5602, 5602));
        let graph = store.graph(1).unwrap();
        let mut click = store.click(&small, 0);
        let mut times = Times::new().unwrap();
        let answer = store.play(&graph, &click, &mut Search::default(), &mut times).unwrap();
        assert_eq!(answer.user, format!("listener {}", click.user));
        assert!(answer.song.starts_with(&format!("Take {},", click.song)));
        assert_eq!(answer.next.len(), NEXT);
        assert!(answer.card.starts_with("Your year"));
        click.token ^= 1;
        assert!(store.authenticate(&click).is_err());
        assert_eq!(store.check().unwrap(), 5603);
        small.seed = 2;
        drop(store);
        assert!(run(&small).is_err(), "another plan in the same folder");
    }

    #[test]
    fn options_are_read() {
        let some = args("--clicks 7 --songs 99 --dir x").unwrap().unwrap();
        assert_eq!((some.clicks, some.songs, some.dir), (7, 99, Some("x".into())));
        assert!(args("--help").unwrap().is_none());
        for wrong in ["--clicks", "--clicks 0", "--clicks x", "--click 7"] {
            assert!(args(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_recommended_is_near() {
        let args = args("--songs 500").unwrap().unwrap();
        let tastes: Vec<Taste> = (0..500).map(|song| Taste::of(&args, song)).collect();
        let back = Taste::from_bytes(&tastes[7].bytes());
        assert_eq!(back.distance(&tastes[7]), 0.0);
        let same = |a: u64, b: u64| mix(a) % GENRES == mix(b) % GENRES;
        let other = (1..500).find(|song| same(0, *song)).unwrap() as usize;
        let unlike = (1..500).find(|song| !same(0, *song)).unwrap() as usize;
        assert!(tastes[0].distance(&tastes[other]) < tastes[0].distance(&tastes[unlike]));
    }
}

//! The tables, and the steps that fill them: each can be killed at any moment and goes on from
//! what its last batch left.

use super::{
    Result,
    args::Args,
    cards::{Card, Tally},
    data::Input,
    listens::{self, Listen, YEAR_DAYS},
    report::{Report, bar},
};
use bytes::Bytes;
use indicatif::ProgressBar;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc::sync_channel,
    thread,
};
use tonearm::{Batch, Btree, Db, Durability, Hash, Lsm, Table, key};
use xxhash_rust::xxh3::Xxh3;

/// Listens in one batch.
const BATCH_LISTENS: usize = 1000;
/// Cards in one batch.
const BATCH_CARDS: usize = 500;
/// Days made ahead of the day that is being written.
const DAYS_AHEAD: usize = 2;

/// Keys of table `state`.
const PLAN: &[u8] = b"plan";
const INGESTED: &[u8] = b"ingested";
const COUNTED: &[u8] = b"counted";

/// The open database.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    db: Db,
    /// (user, time, artist) -> track, u16.
    pub(crate) listens: Lsm,
    /// user -> card.
    pub(crate) cards: Hash,
    /// artist -> name.
    pub(crate) artists: Btree,
    /// user -> (name, how many artists they play).
    pub(crate) users: Btree,
    /// What is done, and how far.
    state: Lsm,
}

/// What all cards say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) users: u64,
    pub(crate) plays: u64,
    pub(crate) mismatches: u64,
}

/// How far the ingest is: it goes on in this day, after so many of its listens and so many in all.
type Place = (u32, u32, u64);

impl Store {
    /// Opens the database. In a new one, writes down the artists and what is going to be done; in
    /// an old one, makes sure that it is the same.
    pub(crate) fn open(
        folder: &Path,
        args: &Args,
        input: &Input,
        report: &mut Report,
    ) -> Result<Self> {
        let mut options = Db::builder();
        if let Some(mib) = args.memory_mib {
            options = options.memory(mib << 20);
        }
        let db = options.open(folder)?;
        let (listens, cards) = (db.lsm("listens")?, db.hash("cards")?);
        let (artists, users) = (db.btree("artists")?, db.btree("users")?);
        let (folder, state) = (folder.to_owned(), db.lsm("state")?);
        let store = Self { folder, db, listens, cards, artists, users, state };
        let plan = plan(input, args.seed).to_le_bytes();
        match store.state.get(PLAN)? {
            None => store.begin(input, &plan, report)?,
            Some(old) if old == plan => {}
            Some(_) => {
                let shown = store.folder.display();
                let message = format!("{shown} holds a run with other options: give another --dir");
                return Err(message.into());
            }
        }
        Ok(store)
    }

    /// Loads the catalogue. Killed in between, it is loaded once more: only then is there a plan.
    fn begin(&self, input: &Input, plan: &[u8], report: &mut Report) -> Result<()> {
        let row = |key: &[u8], value: &[u8]| {
            Ok((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))
        };
        report.step("load artists (btree)", || {
            let names = input.names.iter();
            let mut rows = names.map(|(artist, name)| row(&key::encode(artist), name.as_bytes()));
            Ok((self.artists.ingest(&mut rows)?, ()))
        })?;
        report.step("load users (btree)", || {
            let mut rows = input.users().map(|rows| {
                let user = rows.first().map_or(0, |row| row.user);
                let about = key::encode(&(format!("listener {user}"), rows.len() as u32));
                row(&key::encode(&user), &about)
            });
            Ok((self.users.ingest(&mut rows)?, ()))
        })?;
        report.disk(self.disk_bytes());
        Ok(self.state.insert_with(PLAN, plan, Durability::PowerLoss)?)
    }

    /// What the catalogue calls an artist; nothing if it has none of that number.
    pub(crate) fn artist(&self, artist: u32) -> Result<String> {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        Ok(self.artists.get_with(&key::encode(&artist), text)?.unwrap_or_default())
    }

    /// What the catalogue says of a user: the name, and how many artists they play.
    pub(crate) fn user(&self, user: u32) -> Result<Option<(String, u32)>> {
        let decode = |about: &[u8]| key::decode::<(String, u32)>(about);
        Ok(self.users.get_with(&key::encode(&user), decode)?.transpose()?)
    }

    /// Writes all listens that are not there yet, in the order in which they happen.
    pub(crate) fn ingest(&self, input: &Input, seed: u64, report: &mut Report) -> Result<()> {
        let start = self.place()?;
        if start.0 == YEAR_DAYS {
            return Ok(());
        }
        let bar = bar("ingest listens", input.plays(), start.2);
        report.step("ingest listens (lsm)", || {
            let mut place = start;
            thread::scope(|scope| {
                let (sender, days) = sync_channel(DAYS_AHEAD);
                scope.spawn(move || {
                    for day in start.0..YEAR_DAYS {
                        // The receiver is gone if writing failed.
                        if sender.send(listens::day(&input.rows, seed, day)).is_err() {
                            return;
                        }
                    }
                });
                for listens in days {
                    place = self.write_day(&listens, place, &bar)?;
                }
                Ok((place.2 - start.2, ()))
            })
        })?;
        bar.finish_and_clear();
        report.step("settle listens (lsm)", || Ok((0, self.listens.flush()?)))?;
        report.disk(self.disk_bytes());
        Ok(())
    }

    /// Writes what `place` leaves of its day's listens, and with each batch how far it got.
    fn write_day(&self, listens: &[Listen], place: Place, bar: &ProgressBar) -> Result<Place> {
        let (day, mut of_day, mut all) = place;
        loop {
            let rest = listens.get(of_day as usize..).unwrap_or_default();
            let now = rest.get(..BATCH_LISTENS).unwrap_or(rest);
            (of_day, all) = (of_day + now.len() as u32, all + now.len() as u64);
            let is_last = now.len() == rest.len();
            let place = if is_last { (day + 1, 0, all) } else { (day, of_day, all) };
            let mut batch = self.db.batch();
            for listen in now {
                let key = key::encode(&(listen.user, listen.time, listen.artist));
                batch.insert(&self.listens, key, listen.track.to_le_bytes());
            }
            batch.insert(&self.state, INGESTED, key::encode::<Place>(&place));
            batch.commit(Durability::Process)?;
            bar.set_position(all);
            if is_last {
                return Ok(place);
            }
        }
    }

    fn place(&self) -> Result<Place> {
        match self.state.get(INGESTED)? {
            Some(place) => Ok(key::decode(&place)?),
            None => Ok((0, 0, 0)),
        }
    }

    /// Counts the listens of all users that have no card yet into their cards.
    pub(crate) fn count(&self, input: &Input, report: &mut Report) -> Result<()> {
        let first = match self.state.get(COUNTED)? {
            Some(user) => key::decode::<Option<u32>>(&user)?,
            None => Some(0),
        };
        // Nothing: all are counted.
        let Some(first) = first else { return Ok(()) };
        let bar = bar("count into cards", input.plays(), 0);
        report.step("count into cards (hash)", || {
            let mut cards = Cards { store: self, batch: self.db.batch(), user: first };
            let mut tally = Tally::default();
            let mut rows = 0;
            let mut listens = self.listens.range(key::encode(&first)..);
            while let Some(entry) = listens.next_ref() {
                let (user, time, artist) = key::decode::<(u32, u32, u32)>(entry?.0)?;
                if user != cards.user {
                    cards.finish(&mut tally, Some(user))?;
                    bar.set_position(rows);
                }
                tally.add(time, artist);
                rows += 1;
            }
            cards.finish(&mut tally, None)?;
            Ok((rows, ()))
        })?;
        bar.finish_and_clear();
        report.step("settle cards (hash)", || Ok((0, self.cards.flush()?)))?;
        report.disk(self.disk_bytes());
        Ok(())
    }

    /// Compares every card with the plays that went in.
    pub(crate) fn check(&self, input: &Input, report: &mut Report) -> Result<Checked> {
        report.step("check cards", || {
            let mut checked = Checked::default();
            for entry in self.cards.iter() {
                checked.users += 1;
                let card = Card::decode(&entry?.1).unwrap_or_default();
                checked.plays += card.plays;
            }
            let mut expected = 0;
            for rows in input.users() {
                expected += 1;
                let user = rows.first().map_or(0, |row| row.user);
                let agrees = |bytes: &[u8]| {
                    Card::decode(bytes).is_some_and(|card| card.agrees_with(rows, &input.names))
                };
                let right = self.cards.get_with(&key::encode(&user), agrees)?;
                checked.mismatches += u64::from(right != Some(true));
            }
            // Cards of users that nobody asked for.
            checked.mismatches += checked.users.saturating_sub(expected);
            Ok((expected, checked))
        })
    }

    /// Bytes of all files of the database.
    fn disk_bytes(&self) -> u64 {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|about| about.len()).sum()
    }
}

/// The cards that are being written.
struct Cards<'a> {
    store: &'a Store,
    batch: Batch,
    /// Whose listens are being counted.
    user: u32,
}

impl Cards<'_> {
    /// Writes the card of the user counted so far, and goes on with `next`, if there is one.
    fn finish(&mut self, tally: &mut Tally, next: Option<u32>) -> Result<()> {
        let card = tally.finish(|artist| self.store.artist(artist))?;
        if card.plays > 0 {
            self.batch.insert(&self.store.cards, key::encode(&self.user), card.encode());
        }
        if self.batch.len() >= BATCH_CARDS || next.is_none() {
            let mut full = std::mem::replace(&mut self.batch, self.store.db.batch());
            full.insert(&self.store.state, COUNTED, key::encode(&next));
            full.commit(Durability::Process)?;
        }
        self.user = next.unwrap_or(self.user);
        Ok(())
    }
}

/// Tells one set of plays from another.
fn plan(input: &Input, seed: u64) -> u64 {
    let mut hash = Xxh3::with_seed(seed);
    for (artist, name) in &input.names {
        hash.update(&key::encode(&(artist, name)));
    }
    for row in &input.rows {
        hash.update(&key::encode(&(row.user, row.artist, row.plays)));
    }
    hash.digest()
}

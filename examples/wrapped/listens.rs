//! A year of listens, made from how often each user played each artist.
//!
//! The plays of a row are spread evenly: the year is cut into as many slots as there are plays, and
//! play `i` happens at a second within slot `i` that a hash of the row and `i` picks. So any part
//! of the year can be made alone, in the order in which it happened, and always comes out the same:
//! a killed run goes on where it was, and nothing but the rows needs to be kept.

use super::{
    Result,
    data::{Input, Row, merged},
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The first second of 2025, UTC.
pub(crate) const YEAR_START: u32 = 1_735_689_600;
pub(crate) const YEAR_DAYS: u32 = 365;
pub(crate) const DAY_SECONDS: u64 = 86_400;
pub(crate) const YEAR_SECONDS: u64 = YEAR_DAYS as u64 * DAY_SECONDS;
/// Artists there are when none are read from a file.
const ARTISTS: u32 = 20_000;
/// Tracks that an artist has.
const TRACKS: u64 = 40;
/// Most artists that one drawn user plays.
const ARTISTS_OF_USER_MAX: u64 = 100;

/// One play of one artist by one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listen {
    /// Seconds since 1970.
    pub(crate) time: u32,
    pub(crate) user: u32,
    pub(crate) artist: u32,
    /// Which of the artist's tracks.
    pub(crate) track: u16,
}

fn hash(seed: u64, a: u32, b: u32, c: u32) -> u64 {
    let mut bytes = [0; 12];
    for (slot, part) in bytes.chunks_exact_mut(4).zip([a, b, c]) {
        slot.copy_from_slice(&part.to_le_bytes());
    }
    xxh3_64_with_seed(&bytes, seed)
}

/// All listens of one day (0 to 364), by time, user and artist; no two are equal in these three.
pub(crate) fn day(rows: &[Row], seed: u64, day: u32) -> Vec<Listen> {
    let start = u64::from(day) * DAY_SECONDS;
    let mut listens = Vec::new();
    for row in rows {
        listens_between(row, seed, start, start + DAY_SECONDS, &mut listens);
    }
    listens.sort_unstable();
    listens
}

/// Adds the plays of `row` that happen from second `start` of the year to before second `end`.
fn listens_between(row: &Row, seed: u64, start: u64, end: u64, out: &mut Vec<Listen>) {
    let plays = u64::from(row.plays);
    let slot = |i: u64| i * YEAR_SECONDS / plays;
    let mut i = start * plays / YEAR_SECONDS;
    let mut from = slot(i);
    while i < plays && from < end {
        let next = slot(i + 1);
        let picked = hash(seed, row.user, row.artist, i as u32);
        let second = from + (picked >> 16) % (next - from);
        if (start..end).contains(&second) {
            out.push(Listen {
                time: YEAR_START + second as u32,
                user: row.user,
                artist: row.artist,
                track: 1 + (picked % TRACKS) as u16,
            });
        }
        (i, from) = (i + 1, next);
    }
}

/// Draws `plays` plays of `users` users: both users and the artists of each follow Zipf's law.
pub(crate) fn draw(seed: u64, users: u32, plays: u64) -> Result<Input> {
    let mut ids: Vec<u32> = (1..=users).collect();
    ids.sort_unstable_by_key(|id| hash(seed, *id, 0, 0));
    let popular = Zipf::new(u64::from(ARTISTS));
    let active = Zipf::new(u64::from(users));
    let favourite = Zipf::new(ARTISTS_OF_USER_MAX);
    let mut rows = Vec::new();
    for (rank, user) in ids.into_iter().enumerate() {
        let of_user = active.portion(rank as u64, plays);
        for place in 0..ARTISTS_OF_USER_MAX {
            let plays = favourite.portion(place, of_user);
            let plays = u32::try_from(plays).map_err(|_| "--plays are too many for --users")?;
            let artist = popular.pick(hash(seed, user, place as u32, 1)) as u32 + 1;
            rows.push(Row { user, artist, plays });
        }
    }
    let rows = merged(rows)?;
    let names = (1..=ARTISTS).map(|id| (id, format!("Artist {id}"))).collect();
    Ok(Input { rows, names })
}

/// Ranks of which each is as frequent as one over its place: the first twice the second.
struct Zipf {
    /// Sums of the frequencies up to and including each rank.
    sums: Vec<f64>,
}

impl Zipf {
    fn new(ranks: u64) -> Self {
        let mut sum = 0.0;
        let add = |rank| {
            sum += 1.0 / rank as f64;
            sum
        };
        Self { sums: (1..=ranks).map(add).collect() }
    }

    /// How many of all ranks' frequencies lie before `rank`, as a part of one.
    fn before(&self, rank: u64) -> f64 {
        let sum = |i: usize| self.sums.get(i).copied().unwrap_or_default();
        if rank == 0 { 0.0 } else { sum(rank as usize - 1) / sum(self.sums.len() - 1) }
    }

    /// The part of `count` that falls to `rank`. The parts of all ranks add up to `count`.
    fn portion(&self, rank: u64, count: u64) -> u64 {
        let up_to = |rank| (self.before(rank) * count as f64).round() as u64;
        up_to(rank + 1) - up_to(rank)
    }

    /// The rank that a hash picks.
    fn pick(&self, hash: u64) -> u64 {
        let all = self.sums.last().copied().unwrap_or_default();
        let at = (hash >> 11) as f64 / (1_u64 << 53) as f64 * all;
        self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn rows() -> Vec<Row> {
        let plays = [1, 2, 3, 7, 364, 365, 366, 1000, 86_400];
        let row =
            |(i, plays): (usize, &u32)| Row { user: i as u32 / 3, artist: i as u32, plays: *plays };
        plays.iter().enumerate().map(row).collect()
    }

    #[test]
    fn a_year_has_every_play_once_and_in_order() {
        let all: Vec<_> = (0..YEAR_DAYS).flat_map(|d| day(&rows(), 1, d)).collect();
        assert!(all.is_sorted_by_key(|l| (l.time, l.user, l.artist)));
        let keys: BTreeSet<_> = all.iter().map(|l| (l.user, l.time, l.artist)).collect();
        assert_eq!(keys.len(), all.len());
        let mut counts = BTreeMap::new();
        all.iter().for_each(|l| *counts.entry((l.user, l.artist)).or_insert(0) += 1);
        assert_eq!(counts, rows().iter().map(|r| ((r.user, r.artist), r.plays)).collect());
    }

    #[test]
    fn days_keep_to_themselves_and_to_the_seed() {
        for number in [0, 191, 364] {
            let listens = day(&rows(), 1, number);
            let start = YEAR_START + number * DAY_SECONDS as u32;
            assert!(listens.iter().all(|l| (start..start + 86_400).contains(&l.time)));
            assert_eq!(listens, day(&rows(), 1, number));
            assert_ne!(listens, day(&rows(), 2, number));
        }
    }

    #[test]
    fn the_busiest_row_has_a_play_each_second() {
        let row = Row { user: 1, artist: 2, plays: YEAR_SECONDS as u32 };
        let times: Vec<_> = day(&[row], 1, 364).iter().map(|l| l.time).collect();
        let end = YEAR_START + YEAR_SECONDS as u32;
        assert!(times.iter().copied().eq(end - 86_400..end));
    }

    #[test]
    fn draws_have_the_users_and_plays_asked_for() {
        let input = draw(1, 300, 1_000_000).unwrap();
        assert_eq!((input.plays(), input.users().count()), (1_000_000, 300));
        assert!(input.rows.is_sorted_by_key(|row| (row.user, row.artist)));
        assert!(input.rows.iter().all(|row| input.names.contains_key(&row.artist)));
        let mut by_user: Vec<u64> =
            input.users().map(|rows| rows.iter().map(|row| u64::from(row.plays)).sum()).collect();
        by_user.sort_unstable_by(|a, b| b.cmp(a));
        assert!(by_user[0] > by_user[1] * 19 / 10 && by_user[0] < by_user[1] * 21 / 10);
        assert_eq!(draw(1, 7, 3).unwrap().plays(), 3);
        assert!(draw(1, 1, 1 << 40).is_err());
    }
}

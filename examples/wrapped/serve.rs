//! What the service answers: a card, and what somebody played at some hour.

use super::{
    Result,
    cards::Card,
    data::{Input, Row},
    listens::{DAY_SECONDS, Listen, YEAR_DAYS, YEAR_START},
    report::{Latencies, Report},
    store::Store,
};
use std::fmt::Write;
use tonearm::key;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const CARD_LOOKUPS: u64 = 200_000;
const USER_LOOKUPS: u64 = 200_000;
const HOUR_LOOKUPS: u64 = 50_000;
/// Listens of an hour that are shown.
const SHOWN: usize = 8;
const HOUR_SECONDS: u32 = 3600;
/// 12 July, 9 PM: the 193rd day of a year that is not a leap year.
const JULY_12_NINE_PM: u32 = YEAR_START + 192 * DAY_SECONDS as u32 + 21 * HOUR_SECONDS;

/// Times look-ups of random users' cards and names, and of random hours.
pub(crate) fn measure(store: &Store, input: &Input, seed: u64, report: &mut Report) -> Result<()> {
    let users: Vec<u32> = input.users().flat_map(|rows| rows.first()).map(|row| row.user).collect();
    let random = |i: u64| xxh3_64_with_seed(&i.to_le_bytes(), seed);
    let user = |i: u64| users.get((random(i) % users.len() as u64) as usize).copied().unwrap_or(0);
    if users.is_empty() {
        return Ok(());
    }
    let mut latencies = Latencies::new()?;
    for i in 0..CARD_LOOKUPS {
        let key = key::encode(&user(i));
        let plays = |card: &[u8]| Card::decode(card).map(|card| card.plays);
        latencies.time(|| store.cards.get_with(&key, plays))?;
    }
    report.add_timed("look up a card (hash)", CARD_LOOKUPS, latencies);

    let mut latencies = Latencies::new()?;
    for i in 0..USER_LOOKUPS {
        latencies.time(|| store.user(user(i)))?;
    }
    report.add_timed("look up a user (btree)", USER_LOOKUPS, latencies);

    let mut latencies = Latencies::new()?;
    for i in 0..HOUR_LOOKUPS {
        let hour = random(!i) % u64::from(YEAR_DAYS * 24);
        let from = YEAR_START + hour as u32 * HOUR_SECONDS;
        latencies.time(|| played(store, user(i), from))?;
    }
    report.add_timed("look up an hour (lsm)", HOUR_LOOKUPS, latencies);
    Ok(())
}

/// What the user played in the hour that begins at `from`.
fn played(store: &Store, user: u32, from: u32) -> Result<Vec<Listen>> {
    let mut found = Vec::new();
    let hour = key::encode(&(user, from))..key::encode(&(user, from + HOUR_SECONDS));
    let mut listens = store.listens.range(hour);
    while let Some(listen) = listens.next_ref() {
        let (key, track) = listen?;
        let (user, time, artist) = key::decode(key)?;
        let track = track.try_into().map_err(|_| "a listen's value is not 2 bytes long")?;
        found.push(Listen { time, user, artist, track: u16::from_le_bytes(track) });
    }
    Ok(found)
}

/// The user who played most.
pub(crate) fn busiest(input: &Input) -> Option<u32> {
    let plays = |rows: &&[Row]| rows.iter().map(|row| u64::from(row.plays)).sum::<u64>();
    input.users().max_by_key(plays)?.first().map(|row| row.user)
}

/// A user's card, and what they played on 12 July at 9 PM.
pub(crate) fn show(store: &Store, user: u32) -> Result<String> {
    let card = store.cards.get_with(&key::encode(&user), Card::decode)?.flatten();
    let (name, artists) = store.user(user)?.unwrap_or_default();
    let mut text = card.unwrap_or_default().render(&format!("{name}, {artists} artists"));
    let played = played(store, user, JULY_12_NINE_PM)?;
    let count = played.len();
    let _ = write!(text, "\non 12 July from 9 to 10 PM, user {user} played {count} times");
    for Listen { time, artist, track, .. } in played.iter().take(SHOWN) {
        let name = store.artist(*artist)?;
        let minute = (time - JULY_12_NINE_PM) / 60;
        let _ = write!(text, "\n   21:{minute:02}  {name}, track {track}");
    }
    if played.len() > SHOWN {
        text.push_str("\n   ..");
    }
    Ok(text)
}

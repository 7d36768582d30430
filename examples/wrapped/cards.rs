//! A user's year on one card: counted week by week, rolled up, stored, and shown.
//!
//! ```text
//!   plays u64 | weeks u8 | plays of each week u32 .. | artists u8 |
//!     for each artist: id u32 | plays u64 | name's length u16 | name          all little-endian
//! ```

use super::{
    Result,
    data::Row,
    listens::{DAY_SECONDS, YEAR_DAYS, YEAR_START},
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

/// Artists on a card.
const TOP: usize = 5;
/// Weeks a year has, the last one short.
const WEEKS: usize = YEAR_DAYS.div_ceil(7) as usize;

/// An artist on a card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Favourite {
    pub(crate) artist: u32,
    pub(crate) plays: u64,
    pub(crate) name: String,
}

/// What a user's year comes down to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) plays: u64,
    pub(crate) weeks: Vec<u32>,
    pub(crate) top: Vec<Favourite>,
}

/// Listens of one user, counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    weeks: Vec<u32>,
    artists: HashMap<u32, u64>,
}

impl Tally {
    pub(crate) fn add(&mut self, time: u32, artist: u32) {
        self.weeks.resize(WEEKS, 0);
        let week = u64::from(time.saturating_sub(YEAR_START)) / (7 * DAY_SECONDS);
        if let Some(plays) = self.weeks.get_mut(week as usize) {
            *plays += 1;
        }
        *self.artists.entry(artist).or_default() += 1;
    }

    /// The card, with weeks rolled up to the year. Leaves nothing counted.
    pub(crate) fn finish(&mut self, name: impl Fn(u32) -> Result<String>) -> Result<Card> {
        let weeks = std::mem::take(&mut self.weeks);
        let plays = weeks.iter().map(|plays| u64::from(*plays)).sum();
        let top = top(self.artists.drain(), name)?;
        Ok(Card { plays, weeks, top })
    }
}

/// The most played artists, those with the smaller id first where plays are equal.
fn top(
    plays: impl Iterator<Item = (u32, u64)>,
    name: impl Fn(u32) -> Result<String>,
) -> Result<Vec<Favourite>> {
    let mut all: Vec<_> = plays.collect();
    all.sort_unstable_by_key(|(artist, plays)| (std::cmp::Reverse(*plays), *artist));
    all.truncate(TOP);
    let favourite = |(artist, plays)| Ok(Favourite { artist, plays, name: name(artist)? });
    all.into_iter().map(favourite).collect()
}

impl Card {
    /// Whether it says what the user's rows say: all plays, and the top artists with their names.
    pub(crate) fn agrees_with(&self, rows: &[Row], names: &BTreeMap<u32, String>) -> bool {
        let plays = rows.iter().map(|row| (row.artist, u64::from(row.plays)));
        let all: u64 = plays.clone().map(|(_, plays)| plays).sum();
        let name = |artist| Ok(names.get(&artist).cloned().unwrap_or_default());
        self.plays == all && top(plays, name).is_ok_and(|top| self.top == top)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.plays.to_le_bytes());
        out.push(self.weeks.len() as u8);
        out.extend(self.weeks.iter().flat_map(|plays| plays.to_le_bytes()));
        out.push(self.top.len() as u8);
        for Favourite { artist, plays, name } in &self.top {
            let name = name.as_bytes().get(..name.len().min(usize::from(u16::MAX)));
            let name = name.unwrap_or_default();
            out.extend(artist.to_le_bytes());
            out.extend(plays.to_le_bytes());
            out.extend((name.len() as u16).to_le_bytes());
            out.extend(name);
        }
        out
    }

    /// Reads what [`Card::encode`] wrote; nothing if it is anything else.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let from = &mut bytes;
        let plays = u64::from_le_bytes(take(from)?);
        let [weeks] = take(from)?;
        let weeks =
            (0..weeks).map(|_| take(from).map(u32::from_le_bytes)).collect::<Option<_>>()?;
        let [favourites] = take(from)?;
        let top = (0..favourites).map(|_| Favourite::decode(from)).collect::<Option<_>>()?;
        bytes.is_empty().then_some(Self { plays, weeks, top })
    }

    /// The card as text.
    pub(crate) fn render(&self, user: &str) -> String {
        let mut text = String::new();
        let busiest = self.weeks.iter().max().unwrap_or(&0);
        let week = self.weeks.iter().position(|plays| plays == busiest).unwrap_or(0) + 1;
        let _ = writeln!(text, "+-- {user} {}", "-".repeat(40));
        let _ = writeln!(text, "|  {} plays", self.plays);
        let _ = writeln!(text, "|  busiest week: {week}, with {busiest} plays");
        for (place, Favourite { plays, name, .. }) in self.top.iter().enumerate() {
            let _ = writeln!(text, "|  {}. {name} ({plays} plays)", place + 1);
        }
        let _ = write!(text, "+{}", "-".repeat(50));
        text
    }
}

impl Favourite {
    fn decode(from: &mut &[u8]) -> Option<Self> {
        let (artist, plays) = (u32::from_le_bytes(take(from)?), u64::from_le_bytes(take(from)?));
        let len = usize::from(u16::from_le_bytes(take(from)?));
        let name = from.split_off(..len)?;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        Some(Self { artist, plays, name })
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    from.split_off(..N)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> BTreeMap<u32, String> {
        (1..9).map(|id| (id, format!("Name {id}"))).collect()
    }

    fn card() -> Card {
        let mut tally = Tally::default();
        let week = 7 * DAY_SECONDS as u32;
        for (artist, plays) in [(8, 2), (3, 1), (1, 2), (5, 4), (2, 1), (4, 1)] {
            (0..plays).for_each(|i| tally.add(YEAR_START + i * week, artist));
        }
        tally.add(YEAR_START + 52 * week, 5);
        tally.finish(|artist| Ok(names()[&artist].clone())).unwrap()
    }

    #[test]
    fn weeks_roll_up_and_ties_go_to_the_smaller_id() {
        let card = card();
        assert_eq!((card.plays, card.weeks.len()), (12, 53));
        assert_eq!((card.weeks[0], card.weeks[1], card.weeks[52]), (6, 3, 1));
        let top: Vec<_> = card.top.iter().map(|f| (f.artist, f.plays)).collect();
        assert_eq!(top, [(5, 5), (1, 2), (8, 2), (2, 1), (3, 1)]);
        assert_eq!(card.top[0].name, "Name 5");
    }

    #[test]
    fn cards_are_checked_against_rows() {
        let row = |(artist, plays): &(u32, u32)| Row { user: 1, artist: *artist, plays: *plays };
        let rows = [(1, 2), (2, 1), (3, 1), (4, 1), (5, 5), (8, 2)].map(|r| row(&r));
        let card = card();
        assert!(card.agrees_with(&rows, &names()));
        let more_plays = Card { plays: card.plays + 1, ..card.clone() };
        assert!(!more_plays.agrees_with(&rows, &names()));
        let mut other_name = card.clone();
        other_name.top[4].name.push('!');
        assert!(!other_name.agrees_with(&rows, &names()));
        assert!(!card.agrees_with(&rows[1..], &names()));
    }

    #[test]
    fn cards_come_back_and_nothing_else_does() {
        let bytes = card().encode();
        assert_eq!(Card::decode(&bytes), Some(card()));
        assert_eq!(Card::decode(&Card::default().encode()), Some(Card::default()));
        for end in 0..bytes.len() {
            assert_eq!(Card::decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(Card::decode(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn cards_are_shown() {
        let text = card().render("user 7");
        assert!(text.starts_with("+-- user 7 ---"), "{text}");
        assert!(text.contains("\n|  12 plays\n|  busiest week: 1, with 6 plays\n"), "{text}");
        assert!(text.contains("\n|  1. Name 5 (5 plays)\n|  2. Name 1 (2 plays)\n"), "{text}");
    }
}

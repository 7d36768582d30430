//! Who played what how often: read from the files of the HetRec 2011 Last.fm data set.
//!
//! `user_artists.dat` has a header line and then `userID TAB artistID TAB weight`, where the weight
//! is how many times this user played this artist; `artists.dat` has a header line and then
//! `id TAB name TAB ..`. Lines end with LF or CR LF. Everything is read and checked before any of
//! it is used.

use super::{Result, args::Share, listens::YEAR_SECONDS};
use std::{collections::BTreeMap, fs, path::Path};

/// How often one user played one artist in the year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) user: u32,
    pub(crate) artist: u32,
    pub(crate) plays: u32,
}

/// All rows, by user and then artist, and the names of the artists.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pub(crate) rows: Vec<Row>,
    pub(crate) names: BTreeMap<u32, String>,
}

impl Input {
    /// Reads both files of `folder`, and takes `share` of the plays of each row, rounded up.
    pub(crate) fn read(folder: &Path, share: Share) -> Result<Self> {
        let names = each_line(&folder.join("artists.dat"), |line| {
            let [id, name] = fields(line)?;
            Ok((number(id)?, text(name)?.to_owned()))
        })?;
        let names: BTreeMap<u32, String> = names.into_iter().collect();
        let rows = each_line(&folder.join("user_artists.dat"), |line| {
            let [user, artist, weight] = fields(line)?;
            let row = Row { user: number(user)?, artist: number(artist)?, plays: number(weight)? };
            if u64::from(row.plays) > YEAR_SECONDS {
                return Err(format!("{} plays are more than a year has seconds", row.plays));
            }
            if !names.contains_key(&row.artist) {
                return Err(format!("artist {} is not in artists.dat", row.artist));
            }
            Ok(Row { plays: share.of(u64::from(row.plays)) as u32, ..row })
        })?;
        Ok(Self { rows: merged(rows)?, names })
    }

    /// The rows of each user, by user.
    pub(crate) fn users(&self) -> impl Iterator<Item = &[Row]> {
        self.rows.chunk_by(|a, b| a.user == b.user)
    }

    /// All plays of all rows.
    pub(crate) fn plays(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.plays)).sum()
    }
}

/// Sorts rows, makes one of those about the same user and artist, and drops those without plays.
pub(crate) fn merged(mut rows: Vec<Row>) -> Result<Vec<Row>> {
    rows.sort_unstable_by_key(|row| (row.user, row.artist));
    let mut out: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows.into_iter().filter(|row| row.plays > 0) {
        match out.last_mut() {
            Some(last) if (last.user, last.artist) == (row.user, row.artist) => {
                last.plays = last.plays.saturating_add(row.plays);
            }
            _ => out.push(row),
        }
    }
    match out.iter().find(|row| u64::from(row.plays) > YEAR_SECONDS) {
        Some(Row { user, artist, .. }) => {
            Err(format!("user {user} plays artist {artist} more often than a year has seconds")
                .into())
        }
        None => Ok(out),
    }
}

/// What `read` makes of each line of a file but the first, the header.
fn each_line<T>(
    path: &Path,
    mut read: impl FnMut(&[u8]) -> std::result::Result<T, String>,
) -> Result<Vec<T>> {
    let shown = path.display();
    let bytes = fs::read(path).map_err(|e| format!("could not read {shown}: {e}"))?;
    let body = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let mut found = Vec::new();
    for (i, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let wrong = |what: String| format!("{shown}:{}: {what}", i + 1);
        if i > 0 {
            found.push(read(line).map_err(wrong)?);
        } else if !line.first().is_some_and(u8::is_ascii_alphabetic) {
            return Err(wrong("a header line was expected".to_owned()).into());
        }
    }
    Ok(found)
}

/// The first `N` fields of a line.
fn fields<const N: usize>(line: &[u8]) -> std::result::Result<[&[u8]; N], String> {
    let all: Vec<_> = line.split(|byte| *byte == b'\t').collect();
    let wrong = || format!("{} fields where at least {N} were expected, by tabs", all.len());
    all.first_chunk().copied().ok_or_else(wrong)
}

fn text(field: &[u8]) -> std::result::Result<&str, String> {
    std::str::from_utf8(field)
        .map_err(|_| format!("\"{}\" is not UTF-8", String::from_utf8_lossy(field)))
}

fn number(field: &[u8]) -> std::result::Result<u32, String> {
    let text = text(field)?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or_else(|| format!("{text:?} is not a whole number from 0 to {}", u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARTISTS: &str = "id\tname\turl\n7\tBj\u{f6}rk\thttp://x\n9\tMuse\n";

    fn read(artists: &[u8], rows: &str) -> Result<Input> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("artists.dat"), artists).unwrap();
        fs::write(folder.path().join("user_artists.dat"), rows).unwrap();
        Input::read(folder.path(), Share::ALL)
    }

    #[test]
    fn both_ends_of_lines_are_read() {
        for end in ["\n", "\r\n"] {
            let rows = ["userID\tartistID\tweight", "3\t9\t2", "2\t7\t5", "3\t9\t1", "4\t9\t0"];
            for last in ["", end] {
                let input = read(ARTISTS.as_bytes(), &(rows.join(end) + last)).unwrap();
                let row = |user, artist, plays| Row { user, artist, plays };
                assert_eq!(input.rows, [row(2, 7, 5), row(3, 9, 3)]);
                assert_eq!((input.plays(), input.users().count()), (8, 2));
                assert_eq!(input.names[&7], "Bj\u{f6}rk");
            }
        }
    }

    #[test]
    fn bad_rows_are_named_by_file_and_line() {
        let message = |bad: &str| {
            let rows = format!("userID\tartistID\tweight\r\n2\t7\t5\r\n{bad}\r\n2\t9\t5\r\n");
            let error = read(ARTISTS.as_bytes(), &rows).unwrap_err().to_string();
            let (place, what) = error.split_once(": ").unwrap();
            assert!(place.ends_with("user_artists.dat:3"), "{error}");
            what.to_owned()
        };
        let not_a_number = "\"x\" is not a whole number from 0 to 4294967295";
        assert_eq!(message("2\t7"), "2 fields where at least 3 were expected, by tabs");
        assert_eq!(message(""), "1 fields where at least 3 were expected, by tabs");
        assert_eq!(message("2\tx\t1"), not_a_number);
        assert!(message("2\t7\t-1").starts_with("\"-1\" is not"));
        assert!(message("2\t7\t+1").starts_with("\"+1\" is not"));
        assert!(message("2\t7\t 1").starts_with("\" 1\" is not"));
        assert!(message("2\t7\t99999999999").starts_with("\"99999999999\" is not"));
        assert_eq!(message("2\t8\t1"), "artist 8 is not in artists.dat");
        assert_eq!(message("2\t7\t31536001"), "31536001 plays are more than a year has seconds");
    }

    #[test]
    fn bad_files_are_named() {
        let artists = read(b"id\tname\n7\t\xff\xfe\n", "").unwrap_err().to_string();
        assert!(artists.contains("artists.dat:2: ") && artists.ends_with("is not UTF-8"));
        let header = read(ARTISTS.as_bytes(), "2\t7\t5\n").unwrap_err().to_string();
        assert!(header.ends_with("user_artists.dat:1: a header line was expected"), "{header}");
        let gone = Input::read(Path::new("no/such/folder"), Share::ALL).unwrap_err().to_string();
        assert!(gone.starts_with("could not read no/such/folder/artists.dat: "), "{gone}");
    }

    #[test]
    fn shares_round_each_row_up() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("artists.dat"), ARTISTS).unwrap();
        let rows = "userID\tartistID\tweight\n1\t7\t1\n1\t7\t100\n1\t9\t101\n";
        fs::write(folder.path().join("user_artists.dat"), rows).unwrap();
        let args = crate::args::Args::parse(["--share=0.01".to_owned()]).unwrap().unwrap();
        let input = Input::read(folder.path(), args.share).unwrap();
        assert_eq!(input.rows.iter().map(|row| row.plays).collect::<Vec<_>>(), [2, 2]);
    }
}

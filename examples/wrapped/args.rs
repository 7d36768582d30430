//! What the command line asks for.

use super::Result;
use std::path::PathBuf;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
A music service's year: listens go into a log, are counted into one card per user, and are served.

usage: cargo run --release --example wrapped -- [options]

  --data DIR     read user_artists.dat and artists.dat from DIR instead of drawing listens
  --share F      take this part of each row's plays, rounded up (0 < F <= 1; default: 1)
  --plays N      how many listens to draw (default: 10000000)
  --users N      how many users to draw (default: 10000)
  --seed N       draw and spread other listens (default: 1)
  --dir DIR      keep the database in DIR and go on with it if it is there
                 (default: a temporary folder, removed at the end)
  --memory MIB   memory for tables and cache, in MiB (default: the database's own)
  --help         print this
";

/// The options, with their defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Args {
    pub(crate) data: Option<PathBuf>,
    pub(crate) share: Share,
    pub(crate) plays: u64,
    pub(crate) users: u32,
    pub(crate) seed: u64,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) memory_mib: Option<usize>,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            data: None,
            share: Share::ALL,
            plays: 10_000_000,
            users: 10_000,
            seed: 1,
            dir: None,
            memory_mib: None,
        }
    }
}

impl Args {
    /// Reads the words after the program's name; nothing if they ask for help.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut args = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            if matches!(name, "--help" | "-h") {
                return Ok(None);
            }
            let mut value = || {
                let value = inline.clone().or_else(|| words.next());
                value.ok_or_else(|| format!("{name} needs a value"))
            };
            match name {
                "--data" => args.data = Some(value()?.into()),
                "--dir" => args.dir = Some(value()?.into()),
                "--share" => args.share = Share::parse(&value()?)?,
                "--plays" => args.plays = number(name, &value()?, 1, 1 << 40)?,
                "--users" => args.users = number(name, &value()?, 1, 1 << 24)? as u32,
                "--seed" => args.seed = number(name, &value()?, 0, u64::MAX)?,
                "--memory" => args.memory_mib = Some(number(name, &value()?, 1, 1 << 20)? as usize),
                _ => return Err(format!("{word} is not an option; try --help").into()),
            }
        }
        Ok(Some(args))
    }
}

fn number(name: &str, text: &str, min: u64, max: u64) -> Result<u64> {
    let number = text.parse().ok().filter(|n| (min..=max).contains(n));
    number.ok_or_else(|| format!("{name} takes a number from {min} to {max}, not {text:?}").into())
}

/// A part of a whole, kept as the decimal fraction that was written: `0.01` is 1 / 100, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    part: u64,
    whole: u64,
}

impl Share {
    pub(crate) const ALL: Self = Self { part: 1, whole: 1 };

    fn parse(text: &str) -> Result<Self> {
        let wrong = || format!("--share takes a decimal above 0 and up to 1, not {text:?}");
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.len() > 1 || decimals.len() > 9 || !digits(whole) || !digits(decimals) {
            return Err(wrong().into());
        }
        let part = format!("0{whole}{decimals}").parse::<u64>().map_err(|_| wrong())?;
        let share = Self { part, whole: 10_u64.pow(decimals.len() as u32) };
        if share.part == 0 || share.part > share.whole {
            return Err(wrong().into());
        }
        Ok(share)
    }

    /// This part of `count`, rounded up.
    pub(crate) fn of(self, count: u64) -> u64 {
        (u128::from(count) * u128::from(self.part)).div_ceil(u128::from(self.whole)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Option<Args>> {
        Args::parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read() {
        assert_eq!(parse("").unwrap(), Some(Args::default()));
        let args = parse("--data a/b --dir=c --plays 7 --users=3 --memory 64 --seed 9").unwrap();
        let args = args.unwrap();
        assert_eq!((args.data, args.dir), (Some("a/b".into()), Some("c".into())));
        assert_eq!((args.plays, args.users, args.memory_mib, args.seed), (7, 3, Some(64), 9));
        assert_eq!(parse("--plays 7 --help").unwrap(), None);
    }

    #[test]
    fn mistakes_are_named() {
        let message = |words: &str| parse(words).unwrap_err().to_string();
        assert_eq!(message("--plays"), "--plays needs a value");
        assert_eq!(message("--play 7"), "--play is not an option; try --help");
        assert!(message("--users 0").starts_with("--users takes a number from 1 to "));
        for share in ["0", "0.0", "1.1", "-1", "x", "", "1e-2", "0.0000000001", "."] {
            assert!(message(&format!("--share={share}")).starts_with("--share takes"), "{share}");
        }
    }

    #[test]
    fn shares_are_exact_and_round_up() {
        let share = |text| parse(&format!("--share {text}")).unwrap().unwrap().share;
        assert_eq!(share("1").of(352_698), 352_698);
        assert_eq!(share("0.01").of(700), 7);
        assert_eq!(share("0.01").of(701), 8);
        assert_eq!(share(".5").of(1), 1);
        assert_eq!(share("1.0").of(u64::MAX), u64::MAX);
        assert_eq!(share("0.01").of(0), 0);
    }
}

//! Which of the changes that were not durable a crash keeps.

use super::{
    atoms::{Change, Form},
    faults::Chance,
    record::{LastWrite, Record},
};

/// What a crash keeps of the changes that float at its point, which are numbered from 0 in the
/// order of issue. All that was durable is always kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// Nothing: only what was synced.
    None,
    /// Everything: the process was killed, the machine went on.
    All,
    /// The first `n` changes: a disk that writes in order.
    Prefix(usize),
    /// Change `k` where bit `k` is set; none after the 64th.
    Subset(u64),
    /// All but one.
    DropOne(usize),
    /// Only one.
    KeepOne(usize),
    /// Everything, but of the last write only its first bytes; a file that it made longer ends
    /// there.
    Torn {
        /// How many bytes of the last write.
        bytes: usize,
    },
    /// Everything, but the last write stops in one sector (the seed says which), and its bytes
    /// there are garbage.
    TornGarbage(u64),
    /// As `TornGarbage`, but the sector's other bytes are garbage as well, even durable ones: a
    /// disk without "powersafe overwrite". Few designs survive it.
    TornSector(u64),
    /// Lengths and names, but no bytes: they are zeros, or what was there before.
    MetadataOnly,
    /// Bytes, but no lengths and no names.
    DataOnly,
    /// Some, as the seed decides.
    Random(u64),
}

impl Choice {
    /// The atoms kept, ascending, and the form in which each is.
    pub(super) fn kept(&self, record: &Record, floating: &[usize]) -> Vec<(usize, Form)> {
        let is_data = |atom: usize| record.change(atom).is_some_and(Change::is_piece);
        match self {
            Self::Torn { bytes } => torn(record, floating, &cut_at(*bytes)),
            Self::TornGarbage(seed) => torn(record, floating, &garbage_in(*seed, Form::Garbage)),
            Self::TornSector(seed) => {
                torn(record, floating, &garbage_in(*seed, Form::GarbageSector))
            }
            Self::None => Vec::new(),
            Self::All => pick(floating, |_, _| true),
            Self::Prefix(n) => pick(floating, |k, _| k < *n),
            Self::Subset(bits) => pick(floating, |k, _| k < 64 && bits >> k & 1 == 1),
            Self::DropOne(dropped) => pick(floating, |k, _| k != *dropped),
            Self::KeepOne(kept) => pick(floating, |k, _| k == *kept),
            Self::MetadataOnly => pick(floating, |_, atom| !is_data(atom)),
            Self::DataOnly => pick(floating, |_, atom| is_data(atom)),
            Self::Random(seed) => {
                let mut chance = Chance(*seed);
                let of_eight = [1, 4, 7][chance.below(3) as usize];
                pick(floating, |_, _| chance.happens(of_eight, 8))
            }
        }
    }
}

fn pick(floating: &[usize], mut keep: impl FnMut(usize, usize) -> bool) -> Vec<(usize, Form)> {
    let atoms = floating.iter().enumerate().filter(|(k, atom)| keep(*k, **atom));
    atoms.map(|(_, atom)| (*atom, Form::Whole)).collect()
}

/// Decides on one atom of the last write: (the write, the atom's change, how many of its pieces
/// came before).
type Tear = dyn Fn(&LastWrite, &Change, usize) -> Option<Form>;

/// Keeps everything, the last write as `tear` decides.
fn torn(record: &Record, floating: &[usize], tear: &Tear) -> Vec<(usize, Form)> {
    let Some(last) = record.last_write(floating) else { return pick(floating, |_, _| true) };
    let mut pieces = 0;
    let mut form = |atom: usize| {
        let change = record.change(atom)?;
        if record.op_of(atom) != Some(last.op) {
            return Some(Form::Whole);
        }
        let form = tear(&last, change, pieces);
        pieces += usize::from(change.is_piece());
        form
    };
    floating.iter().filter_map(|atom| form(*atom).map(|form| (*atom, form))).collect()
}

fn cut_at(kept: usize) -> Box<Tear> {
    Box::new(move |last, change, _| match change {
        Change::Piece { at, .. } => {
            let rest = kept.saturating_sub((at - last.at) as usize);
            (rest > 0).then_some(Form::First(rest))
        }
        Change::Grow { len, .. } => {
            (kept > 0).then_some(Form::Len((*len).min(last.at + kept as u64)))
        }
        _ => Some(Form::Whole),
    })
}

fn garbage_in(seed: u64, form: impl Fn(u64) -> Form + 'static) -> Box<Tear> {
    Box::new(move |last, change, piece| {
        let hit = (seed % last.pieces as u64) as usize;
        if !change.is_piece() || piece < hit {
            return Some(Form::Whole);
        }
        (piece == hit).then(|| form(seed))
    })
}

/// How many crashes to try at each point.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Effort {
    /// Up to how many floating changes every subset is tried.
    pub exhaustive: u32,
    /// Where there are more: how many prefixes, as many with one change left out, and as many
    /// with one change only; evenly spread.
    pub each: usize,
    /// Where there are more: how many random subsets.
    pub random: u64,
    /// At how many places the last write is cut, at most.
    pub cuts: usize,
    /// How often the last write ends in garbage.
    pub garbage: u64,
}

impl Default for Effort {
    /// For a test suite: up to 64 subsets, else some 80 of them; 16 cuts.
    fn default() -> Self {
        Self { exhaustive: 6, each: 16, random: 32, cuts: 16, garbage: 2 }
    }
}

impl Effort {
    /// For a long run: up to 4096 subsets, else some 1000 of them; most writes cut at every byte.
    pub fn thorough() -> Self {
        Self { exhaustive: 12, each: 256, random: 256, cuts: 4096, garbage: 8 }
    }

    pub(super) fn choices(&self, floating: usize, torn: usize, seed: u64) -> Vec<Choice> {
        let mut choices = vec![Choice::None];
        if floating == 0 {
            return choices;
        }
        choices.extend([Choice::All, Choice::MetadataOnly, Choice::DataOnly]);
        if floating <= self.exhaustive.min(20) as usize {
            choices.extend((0..1 << floating).map(Choice::Subset));
        } else {
            choices.extend(spread(self.each, floating).map(Choice::Prefix));
            choices.extend(spread(self.each, floating).map(Choice::DropOne));
            choices.extend(spread(self.each, floating).map(Choice::KeepOne));
            let mut chance = Chance(seed);
            choices.extend((0..self.random).map(|_| Choice::Random(chance.next())));
        }
        if torn > 0 {
            choices.extend(spread(self.cuts, torn).map(|bytes| Choice::Torn { bytes }));
            choices.extend((0..self.garbage).map(|n| Choice::TornGarbage(seed ^ n)));
        }
        choices
    }
}

/// Up to `most` numbers below `end`, evenly spread.
fn spread(most: usize, end: usize) -> impl Iterator<Item = usize> {
    let count = most.min(end);
    (0..count).map(move |k| k * end / count)
}

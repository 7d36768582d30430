//! The tree of losers (Knuth, volume 3, 5.4.1): the smallest of `k` with about log2 `k`
//! comparisons a step, each against the loser of the same match before.
//!
//! ```text
//!              [0] winner
//!              [1] loser of the final
//!        [2] loser          [3] loser
//!     src 0     src 1    src 2     src 3       leaf of source i: node k + i, parent: node / 2
//! ```
//!
//! The nodes hold the contenders themselves, head included, so a match touches no source unless
//! two heads are equal, and has no branch to mispredict.

/// The head of a contender that is at its end, and perhaps of some that are not.
pub(super) const LAST: u64 = u64::MAX;

/// What is known about a contender besides its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Standing {
    /// At an entry.
    Live,
    /// At an entry whose key a newer source has as well.
    Shadowed,
    /// Behind all entries.
    End,
}

/// A source and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contender {
    /// Orders contenders; equal heads leave it open.
    pub(super) head: u64,
    pub(super) source: u32,
    pub(super) standing: Standing,
}

impl Contender {
    pub(super) fn end(source: u32) -> Self {
        Self { head: LAST, source, standing: Standing::End }
    }
}

/// The tree. Where heads are equal, a function `ties` says whether the first goes before the second.
#[derive(Debug, Default)]
pub(super) struct Losers {
    nodes: Vec<Contender>,
    /// While building: contender `i` at `k + i`, the winner of each match at its node.
    winners: Vec<Contender>,
}

impl Losers {
    /// Sets all contenders; number `i` is source `i`. [`Losers::play`] must follow.
    pub(super) fn set(&mut self, contenders: impl Iterator<Item = Contender>) {
        self.nodes.clear();
        self.nodes.extend(contenders);
        self.winners.clear();
        self.winners.extend_from_slice(&self.nodes);
        self.winners.extend_from_slice(&self.nodes);
    }

    /// Gives all contenders new heads. [`Losers::play`] must follow.
    pub(super) fn rehead(&mut self, mut head: impl FnMut(Contender) -> u64) {
        let k = self.nodes.len();
        for node in &self.nodes {
            self.winners[k + node.source as usize] = Contender { head: head(*node), ..*node };
        }
    }

    /// Plays all matches.
    pub(super) fn play(&mut self, mut ties: impl FnMut(&mut Contender, &mut Contender) -> bool) {
        for node in (1..self.nodes.len()).rev() {
            let (mut a, mut b) = (self.winners[2 * node], self.winners[2 * node + 1]);
            play(&mut a, &mut b, &mut ties);
            self.winners[node] = a;
            self.nodes[node] = b;
        }
        if let [first, ..] = self.nodes.as_mut_slice() {
            *first = self.winners[1];
        }
    }

    /// The contender before all others. There is at least one.
    #[inline]
    pub(super) fn winner(&self) -> Contender {
        self.nodes[0]
    }

    /// The winner moved on to where nobody is before it.
    #[inline]
    pub(super) fn stay(&mut self, moved: Contender) {
        self.nodes[0] = moved;
    }

    /// The winner moved on: plays its matches again.
    #[inline]
    pub(super) fn replay(
        &mut self,
        mut moved: Contender,
        mut ties: impl FnMut(&mut Contender, &mut Contender) -> bool,
    ) {
        let nodes = self.nodes.as_mut_slice();
        let mut node = (nodes.len() + moved.source as usize) / 2;
        while node > 0 {
            play(&mut moved, &mut nodes[node], &mut ties);
            node /= 2;
        }
        nodes[0] = moved;
    }

    /// The head of whoever comes after the winner: the least of those that lost to it.
    pub(super) fn runner_up(&self) -> u64 {
        let mut least = LAST;
        let mut node = (self.nodes.len() + self.nodes[0].source as usize) / 2;
        while node > 0 {
            least = least.min(self.nodes[node].head);
            node /= 2;
        }
        least
    }

    /// All contenders, in no order.
    pub(super) fn contenders(&self) -> &[Contender] {
        &self.nodes
    }
}

/// One match: swaps the two unless `a` goes before `b`.
#[inline(always)]
fn play(
    a: &mut Contender,
    b: &mut Contender,
    ties: &mut impl FnMut(&mut Contender, &mut Contender) -> bool,
) {
    let stays = if a.head == b.head { ties(a, b) } else { a.head < b.head };
    let (winner, loser) = if stays { (*a, *b) } else { (*b, *a) };
    *a = winner;
    *b = loser;
}

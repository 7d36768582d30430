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

/// A source and where it stands.
///
/// Two words, so that a match is played in registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contender {
    /// Orders contenders; equal heads leave it open.
    pub(super) head: u64,
    /// The source, and what is known about it.
    tag: u64,
}

/// The tag of a contender at an entry whose key a newer source has as well.
const SHADOWED: u64 = 1 << 32;
/// The tag of a contender behind all its entries.
const END: u64 = 1 << 33;

impl Contender {
    /// `source` is at an entry with this head.
    #[inline]
    pub(super) fn at(head: u64, source: usize) -> Self {
        Self { head, tag: source as u64 }
    }

    /// `source` has no more entries.
    #[inline]
    pub(super) fn end(source: usize) -> Self {
        Self { head: LAST, tag: source as u64 | END }
    }

    #[inline]
    pub(super) fn source(self) -> usize {
        self.tag as u32 as usize
    }

    #[inline]
    pub(super) fn is_end(self) -> bool {
        self.tag & END != 0
    }

    #[inline]
    pub(super) fn is_shadowed(self) -> bool {
        self.tag & SHADOWED != 0
    }

    /// The same, marked as one that does not count.
    pub(super) fn shadowed(self) -> Self {
        Self { tag: self.tag | SHADOWED, ..self }
    }
}

/// The tree. Where heads are equal, a function `ties` puts the winner first.
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
            self.winners[k + node.source()] = Contender { head: head(*node), ..*node };
        }
    }

    /// Plays all matches.
    pub(super) fn play(
        &mut self,
        mut ties: impl FnMut(Contender, Contender) -> (Contender, Contender),
    ) {
        for node in (1..self.nodes.len()).rev() {
            let (a, b) = (self.winners[2 * node], self.winners[2 * node + 1]);
            (self.winners[node], self.nodes[node]) = play(a, b, &mut ties);
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
        mut ties: impl FnMut(Contender, Contender) -> (Contender, Contender),
    ) {
        let nodes = self.nodes.as_mut_slice();
        let mut node = (nodes.len() + moved.source()) / 2;
        while node > 0 {
            (moved, nodes[node]) = play(moved, nodes[node], &mut ties);
            node /= 2;
        }
        nodes[0] = moved;
    }

    /// The head of whoever comes after the winner: the least of those that lost to it.
    pub(super) fn runner_up(&self) -> u64 {
        let mut least = LAST;
        let mut node = (self.nodes.len() + self.nodes[0].source()) / 2;
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

/// One match: the winner, then the loser.
#[inline(always)]
fn play(
    a: Contender,
    b: Contender,
    ties: &mut impl FnMut(Contender, Contender) -> (Contender, Contender),
) -> (Contender, Contender) {
    if a.head == b.head {
        return ties(a, b);
    }
    // Swapped by arithmetic: who wins is a coin toss, and compilers like to branch.
    let swap = u64::from(b.head < a.head).wrapping_neg();
    let head = (a.head ^ b.head) & swap;
    let tag = (a.tag ^ b.tag) & swap;
    let winner = Contender { head: a.head ^ head, tag: a.tag ^ tag };
    (winner, Contender { head: b.head ^ head, tag: b.tag ^ tag })
}

//! What is known of the past of a disk: the part of a history that choices are made from.

use super::{
    atoms::{Atom, Change, Journal, Origin},
    state::Manner,
};
use std::sync::Arc;

/// The unchanging part of a history.
pub(super) struct Record {
    pub(super) origin: Arc<Origin>,
    pub(super) journal: Journal,
    pub(super) manner: Manner,
    pub(super) seed: u64,
}

/// The last write before a crash.
pub(super) struct LastWrite {
    pub(super) op: usize,
    pub(super) at: u64,
    pub(super) len: usize,
    pub(super) pieces: usize,
}

impl Record {
    pub(super) fn change(&self, atom: usize) -> Option<&Change> {
        self.journal.atoms.get(atom).map(|atom| &atom.change)
    }

    pub(super) fn op_of(&self, atom: usize) -> Option<usize> {
        self.journal.atoms.get(atom).map(|atom| atom.op)
    }

    /// The last write of which pieces float.
    pub(super) fn last_write(&self, floating: &[usize]) -> Option<LastWrite> {
        let piece = |atom: &Atom| match &atom.change {
            Change::Piece { at, bytes, .. } => Some((atom.op, *at, bytes.bytes().len())),
            _ => None,
        };
        let pieces = floating.iter().rev().filter_map(|atom| self.journal.atoms.get(*atom));
        let mut pieces = pieces.filter_map(piece).peekable();
        let (op, ..) = *pieces.peek()?;
        let mut last = LastWrite { op, at: u64::MAX, len: 0, pieces: 0 };
        for (_, at, len) in pieces.take_while(|piece| piece.0 == op) {
            last.at = last.at.min(at);
            last.len += len;
            last.pieces += 1;
        }
        Some(last)
    }
}

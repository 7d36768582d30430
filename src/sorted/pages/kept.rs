//! Branch blocks of a tree that is not mapped, once read.
//!
//! Readers borrow them from the tree, so they stay until the version goes. Slots are only ever
//! filled, never moved: each segment is twice as long as all before it.

use crate::{
    Result,
    cache::Frame,
    error::{Error, ErrorKind},
};
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

/// How many slots the first segment has, as a power of two.
const FIRST_BITS: u32 = 5;
const SEGMENTS: usize = 26;

type Slot = OnceLock<Arc<Frame>>;

/// Frames by the key of their block.
#[derive(Default)]
pub(super) struct Kept {
    slots: RwLock<HashMap<u64, u32>>,
    segments: [OnceLock<Box<[Slot]>>; SEGMENTS],
}

impl Kept {
    fn slot(&self, index: u32) -> Option<&Slot> {
        let place = u64::from(index) + (1 << FIRST_BITS);
        let segment = place.ilog2() - FIRST_BITS;
        let len = 1usize << (segment + FIRST_BITS);
        let slots = self
            .segments
            .get(segment as usize)?
            .get_or_init(|| (0..len).map(|_| OnceLock::new()).collect());
        slots.get(place as usize - len)
    }

    /// The frame of `key`, which `load` fetches the first time.
    pub(super) fn get(
        &self,
        key: u64,
        load: impl FnOnce() -> Result<Arc<Frame>>,
    ) -> Result<&Arc<Frame>> {
        let known = self.slots.read().get(&key).copied();
        let index = match known {
            Some(index) => index,
            None => {
                let mut slots = self.slots.write();
                let next = slots.len() as u32;
                *slots.entry(key).or_insert(next)
            }
        };
        let full = || Error::new(ErrorKind::Limit, "a tree has more branches than can be kept");
        let slot = self.slot(index).ok_or_else(full)?;
        match slot.get() {
            Some(frame) => Ok(frame),
            None => {
                let frame = load()?;
                Ok(slot.get_or_init(|| frame))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_loaded_once_and_stay() {
        let kept = Kept::default();
        let frame = |n: u64| Ok(Frame::new(n.to_le_bytes()));
        let first = kept.get(7, || frame(7)).unwrap();
        for key in 0..1000 {
            assert_eq!(kept.get(key, || frame(key)).unwrap().bytes(), key.to_le_bytes());
        }
        let fails = || Err(Error::new(ErrorKind::Misuse, "must not load"));
        assert_eq!(kept.get(999, fails).unwrap().bytes(), 999u64.to_le_bytes());
        assert!(kept.get(1000, fails).is_err());
        assert!(kept.get(1000, || frame(1000)).is_ok());
        assert_eq!(first.bytes(), 7u64.to_le_bytes());
    }
}

//! Sets of pages as extents: where each stretch begins and how long it is.

use crate::codec::{Reader, put_varint};

/// A stretch of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Extent {
    pub(crate) page: u32,
    pub(crate) pages: u32,
}

impl Extent {
    /// The page behind it.
    pub(crate) fn end(self) -> u32 {
        self.page.saturating_add(self.pages)
    }
}

/// Extents in order, joined where they touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extents(Vec<Extent>);

impl Extents {
    pub(crate) fn as_slice(&self) -> &[Extent] {
        &self.0
    }

    /// How many pages they have.
    #[cfg(test)]
    pub(crate) fn pages(&self) -> u64 {
        self.0.iter().map(|extent| u64::from(extent.pages)).sum()
    }

    /// Any extents, in any order; `Err` is a page that is in two of them.
    pub(crate) fn join(mut all: Vec<Extent>) -> Result<Self, u32> {
        all.retain(|extent| extent.pages > 0);
        all.sort_unstable();
        let mut joined: Vec<Extent> = Vec::new();
        for extent in all {
            match joined.last_mut() {
                Some(last) if last.end() > extent.page => return Err(extent.page),
                Some(last) if last.end() == extent.page => last.pages += extent.pages,
                _ => joined.push(extent),
            }
        }
        Ok(Self(joined))
    }

    /// What of the pages `from..to` is not in the set.
    pub(crate) fn complement(&self, from: u32, to: u32) -> Self {
        let (mut rest, mut at) = (Vec::new(), from);
        for extent in &self.0 {
            if extent.page > at {
                rest.push(Extent { page: at, pages: extent.page.min(to).saturating_sub(at) });
            }
            at = at.max(extent.end());
        }
        if to > at {
            rest.push(Extent { page: at, pages: to - at });
        }
        rest.retain(|extent| extent.pages > 0);
        Self(rest)
    }

    /// How many extents there are, then for each the pages since the one before and its length.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + 3 * self.0.len());
        put_varint(&mut out, self.0.len() as u64);
        let mut at = 0;
        for extent in &self.0 {
            put_varint(&mut out, u64::from(extent.page - at));
            put_varint(&mut out, u64::from(extent.pages));
            at = extent.end();
        }
        out
    }

    /// What [`Extents::encode`] wrote, of a file of `pages`; `None` if it is anything else.
    pub(crate) fn decode(bytes: &[u8], pages: u32) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        Self::read(&mut reader, pages).filter(|_| reader.is_empty())
    }

    /// The same, with zeros behind it.
    pub(crate) fn decode_padded(bytes: &[u8], pages: u32) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        Self::read(&mut reader, pages).filter(|_| reader.rest().iter().all(|byte| *byte == 0))
    }

    fn read(reader: &mut Reader<'_>, pages: u32) -> Option<Self> {
        let count = usize::try_from(reader.varint()?).ok()?;
        if count > reader.rest().len() / 2 {
            return None;
        }
        let (mut all, mut at) = (Vec::with_capacity(count), 0u32);
        for i in 0..count {
            let gap = u32::try_from(reader.varint()?).ok()?;
            let len = u32::try_from(reader.varint()?).ok()?;
            let page = at.checked_add(gap)?;
            at = page.checked_add(len)?;
            if len == 0 || (gap == 0 && i > 0) || page == 0 || at > pages {
                return None;
            }
            all.push(Extent { page, pages: len });
        }
        Some(Self(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn of(pages: &BTreeSet<u32>) -> Extents {
        Extents::join(pages.iter().map(|&page| Extent { page, pages: 1 }).collect()).unwrap()
    }

    proptest! {
        #[test]
        fn are_sets_of_pages(pages in prop::collection::btree_set(1u32..60, 0..40)) {
            let set = of(&pages);
            prop_assert_eq!(set.pages(), pages.len() as u64);
            let rest: BTreeSet<u32> = (1..60).filter(|page| !pages.contains(page)).collect();
            prop_assert_eq!(set.complement(1, 60), of(&rest));
            let bytes = set.encode();
            prop_assert_eq!(Extents::decode(&bytes, 60), Some(set.clone()));
            prop_assert_eq!(Extents::decode(&[&bytes[..], &[0]].concat(), 60), None);
            if let Some(last) = pages.last() {
                prop_assert_eq!(Extents::decode(&bytes, *last), None);
                let twice = [set.as_slice(), &[Extent { page: *last, pages: 1 }]].concat();
                prop_assert!(Extents::join(twice).is_err());
            }
        }

        #[test]
        fn any_bytes_do_no_harm(bytes: Vec<u8>) {
            if let Some(set) = Extents::decode(&bytes, u32::MAX) {
                prop_assert_eq!(set.encode(), bytes);
            }
        }
    }
}

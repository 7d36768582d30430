//! The shared state of one table: what readers pin, and how it changes.

use super::{Engine, History, Home, Order, Settled, Source};
use crate::{
    Error, ErrorKind, Result, Value,
    codec::key_hash,
    log::Position,
    memtable::Memtable,
    sorted::{Found, Lookup, Span},
};
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// The number of a table. Never used twice in one database.
pub(crate) type TableId = u32;

/// The newest sequence number readers may see, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Visible(AtomicU64);

impl Visible {
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Shows everything up to `seq`: called after it has been inserted.
    #[inline]
    pub(crate) fn publish(&self, seq: u64) {
        self.0.store(seq, Ordering::Release);
    }
}

/// A full memtable that waits to be absorbed.
#[derive(Clone)]
pub(crate) struct Sealed {
    pub(crate) memtable: Arc<Memtable>,
    /// Every entry of the table with a sequence number up to this is in this memtable, an older
    /// one, or settled.
    pub(crate) upto: u64,
    /// Where the log ended when it was sealed: synced that far before the memtable's entries are
    /// published as files, so that files never lead the log.
    pub(crate) log_end: Position,
}

/// A value where it was found.
pub(crate) enum Hit<'a> {
    /// In a memtable.
    Recent(&'a [u8]),
    /// In the home.
    Settled(Found<'a>),
}

impl Hit<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Hit::Recent(bytes) => bytes,
            Hit::Settled(found) => found.bytes(),
        }
    }

    /// A value that outlives the look-up: copied out of a memtable, whose bytes go away with it.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Hit::Recent(bytes) => Value::copied(bytes),
            Hit::Settled(found) => found.to_value(),
        }
    }
}

/// Up to so many keys are looked up at once without an allocation.
const MANY: usize = 16;

/// Everything a reader of a table needs, pinned together.
pub(crate) struct View {
    /// Takes new writes; a reader sees those up to its sequence number.
    pub(crate) active: Arc<Memtable>,
    /// Newest first.
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) settled: Arc<dyn Settled>,
}

impl View {
    /// Looks up the newest version of `key` not newer than `seq`. `found` is called with its value,
    /// if it has one.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], seq: u64, found: &mut dyn FnMut(Hit<'_>)) -> Result<bool> {
        let hash = key_hash(key);
        let sealed = self.sealed.iter().map(|sealed| &sealed.memtable);
        for memtable in std::iter::once(&self.active).chain(sealed) {
            match memtable.get(key, hash, seq) {
                Lookup::Found(value) => {
                    found(Hit::Recent(value));
                    return Ok(true);
                }
                Lookup::Deleted => return Ok(false),
                Lookup::Missing => {}
            }
        }
        Ok(matches!(
            self.settled.get(key, hash, &mut |value| found(Hit::Settled(value)))?,
            Lookup::Found(())
        ))
    }

    /// Looks many keys up side by side, so that one waits for memory while another is compared.
    pub(crate) fn get_many(&self, keys: &[&[u8]], seq: u64) -> Result<Vec<Option<Value>>> {
        let mut values = vec![None; keys.len()];
        self.read_many(keys, seq, &mut |index, found| {
            if let Some(value) = values.get_mut(index) {
                *value = Some(found.to_value());
            }
        })?;
        Ok(values)
    }

    /// The same; `found` is called with the index of each key that has a value, in no order.
    pub(crate) fn read_many(
        &self,
        keys: &[&[u8]],
        seq: u64,
        found: &mut dyn FnMut(usize, Hit<'_>),
    ) -> Result<()> {
        let hashed = keys.iter().map(|key| (*key, key_hash(key)));
        if self.active.is_empty() && self.sealed.is_empty() {
            let asked: SmallVec<[(&[u8], u64); MANY]> = hashed.collect();
            return self.settled.get_many(&asked, &mut |index, lookup| {
                if let Lookup::Found(value) = lookup {
                    found(index, Hit::Settled(value));
                }
            });
        }
        let mut open: SmallVec<[(usize, (&[u8], u64)); MANY]> = hashed.enumerate().collect();
        let sealed = self.sealed.iter().map(|sealed| &sealed.memtable);
        let memtables = std::iter::once(&self.active).chain(sealed);
        for memtable in memtables.filter(|memtable| !memtable.is_empty()) {
            open.iter().for_each(|(_, (_, hash))| memtable.prefetch(*hash));
            open.retain(|(index, (key, hash))| match memtable.get(key, *hash, seq) {
                Lookup::Missing => true,
                Lookup::Deleted => false,
                Lookup::Found(bytes) => {
                    found(*index, Hit::Recent(bytes));
                    false
                }
            });
        }
        let left: SmallVec<[(&[u8], u64); MANY]> = open.iter().map(|(_, asked)| *asked).collect();
        self.settled.get_many(&left, &mut |i, lookup| {
            if let (Lookup::Found(value), Some((index, _))) = (lookup, open.get(i)) {
                found(*index, Hit::Settled(value));
            }
        })
    }

    /// Appends cursors over everything that may hold keys of `span` at `seq`, newest first.
    pub(crate) fn sources(&self, span: &Span, seq: u64, out: &mut Vec<Source>) {
        let sealed = self.sealed.iter().map(|sealed| &sealed.memtable);
        let memtables = std::iter::once(&self.active).chain(sealed);
        let filled = memtables.filter(|memtable| !memtable.is_empty());
        out.extend(filled.map(|memtable| match self.settled.order() {
            Order::Keys => Source::Memtable(memtable.cursor(seq)),
            Order::Hashes(seed) => Source::Hashed(memtable.hashed(seq, seed)),
        }));
        self.settled.sources(span, out);
    }
}

/// One table of an open database.
pub(crate) struct TableState {
    id: TableId,
    engine: Engine,
    name: RwLock<Arc<str>>,
    home: Arc<dyn Home>,
    view: ArcSwap<View>,
    /// Held while any table's view changes, and by a snapshot while it collects all views.
    views: Arc<Mutex<()>>,
    visible: Arc<Visible>,
    dropped: AtomicBool,
    /// Held by whoever turns this table's memtables into files.
    pub(crate) absorbing: Mutex<()>,
    /// Set while a job of the home runs.
    pub(crate) working: AtomicBool,
}

impl TableState {
    pub(crate) fn new(
        id: TableId,
        engine: Engine,
        name: &str,
        home: Arc<dyn Home>,
        active: Arc<Memtable>,
        views: Arc<Mutex<()>>,
        visible: Arc<Visible>,
    ) -> Self {
        let view = View { active, sealed: Vec::new(), settled: home.current() };
        Self {
            id,
            engine,
            name: RwLock::new(name.into()),
            home,
            view: ArcSwap::from_pointee(view),
            views,
            visible,
            dropped: AtomicBool::new(false),
            absorbing: Mutex::new(()),
            working: AtomicBool::new(false),
        }
    }

    /// Whether it is a table of the database, dropped or not, whose commits `visible` counts.
    pub(crate) fn counts_by(&self, visible: &Arc<Visible>) -> bool {
        Arc::ptr_eq(&self.visible, visible)
    }

    pub(crate) fn id(&self) -> TableId {
        self.id
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    pub(crate) fn name(&self) -> Arc<str> {
        self.name.read().clone()
    }

    pub(crate) fn set_name(&self, name: &str) {
        *self.name.write() = name.into();
    }

    pub(crate) fn home(&self) -> &Arc<dyn Home> {
        &self.home
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    /// `NotFound` if it was dropped.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.is_dropped() {
            return Ok(());
        }
        let message = format!("table {:?} was dropped", self.name());
        Err(Error::new(ErrorKind::NotFound, message))
    }

    pub(crate) fn set_dropped(&self) {
        self.dropped.store(true, Ordering::Release);
    }

    /// The current view without counting a reference.
    #[inline]
    pub(crate) fn view(&self) -> arc_swap::Guard<Arc<View>> {
        self.view.load()
    }

    /// The newest sequence number readers may see.
    #[inline]
    pub(crate) fn visible(&self) -> u64 {
        self.visible.get()
    }

    /// A view and a sequence number that belong together: every entry up to the number is in the
    /// view, and its files hold none above.
    pub(crate) fn now(&self) -> (Arc<View>, u64) {
        loop {
            let view = self.view.load_full();
            let seq = self.visible.get();
            // The view that was current before and after `seq` was read was current at `seq`.
            if Arc::ptr_eq(&view, &self.view.load()) {
                return (view, seq);
            }
        }
    }

    /// Puts `fresh` in the place of an active memtable that is empty.
    pub(crate) fn replace_active(&self, fresh: Arc<Memtable>) {
        let _changing = self.views.lock();
        let old = self.view.load();
        let (sealed, settled) = (old.sealed.clone(), old.settled.clone());
        self.view.store(Arc::new(View { active: fresh, sealed, settled }));
    }

    /// Seals the active memtable and puts `fresh` in its place. The caller holds the commit lock.
    pub(crate) fn rotate(&self, fresh: Arc<Memtable>, upto: u64, log_end: Position) {
        let _changing = self.views.lock();
        let old = self.view.load();
        let mut sealed = Vec::with_capacity(old.sealed.len() + 1);
        sealed.push(Sealed { memtable: old.active.clone(), upto, log_end });
        sealed.extend(old.sealed.iter().cloned());
        self.view.store(Arc::new(View { active: fresh, sealed, settled: old.settled.clone() }));
    }

    /// Shows `settled` instead of the current home and the memtables in it, which are `absorbed`;
    /// `loaded` is the span of keys that a bulk load brings with it. Open transactions are told
    /// first, so whoever does not find a memtable in the view finds it in their `history`.
    pub(crate) fn settle(
        &self,
        settled: Arc<dyn Settled>,
        absorbed: &[Sealed],
        loaded: Option<Span>,
        history: &History,
    ) {
        let _arrival = loaded.is_some().then(|| history.hold_arrivals());
        let _changing = self.views.lock();
        history.absorbed(self.id, absorbed.iter().map(|sealed| &sealed.memtable));
        if let Some(span) = loaded {
            history.loaded(self.id, span);
        }
        let old = self.view.load();
        let is_absorbed = |sealed: &Sealed| {
            absorbed.iter().any(|done| Arc::ptr_eq(&done.memtable, &sealed.memtable))
        };
        let sealed = old.sealed.iter().filter(|sealed| !is_absorbed(sealed)).cloned().collect();
        self.view.store(Arc::new(View { active: old.active.clone(), sealed, settled }));
    }

    /// The smallest sequence number that is only in memory, if any is.
    pub(crate) fn first_unsettled(&self) -> Option<u64> {
        let view = self.view.load();
        let oldest = view.sealed.last().map(|sealed| &sealed.memtable);
        oldest.into_iter().chain([&view.active]).find_map(|memtable| memtable.first_seq())
    }
}

impl std::fmt::Debug for TableState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("name", &self.name())
            .field("engine", &self.engine)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

//! The databases that walks are made on: every choice of options at least once, sizes tiny so that
//! little data makes many blocks, files, levels and log segments.

use crate::content::{ALL_KEYS, Content, KeyKind};
use tonearm::{
    BtreeOptions, Builder, Compression, Db, Durability, Engine, HashOptions, LsmOptions, ReadPath,
};

/// What a database lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Memory,
    Files,
    /// A simulated disk, which may be mapped or not, and transfers less than asked, or nothing at
    /// first.
    Disk {
        mappable: bool,
        troubled: bool,
    },
}

/// Which engines tables have, in turn.
type Engines = &'static [Engine];
const LSM: Engines = &[Engine::Lsm];
const TREES: Engines = &[Engine::Btree];
const HASH: Engines = &[Engine::Hash];
const TREES_BESIDE: Engines = &[Engine::Btree, Engine::Lsm];
const HASH_BESIDE: Engines = &[Engine::Hash, Engine::Lsm];
/// A batch of more than one write is nearly always over several of them.
const ALL: Engines = &[Engine::Lsm, Engine::Btree, Engine::Hash];

/// One database to walk on.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    pub(crate) on: On,
    pub(crate) builder: Builder,
    pub(crate) options: LsmOptions,
    pub(crate) engines: Engines,
    pub(crate) tree_options: BtreeOptions,
    pub(crate) hash_options: HashOptions,
    pub(crate) content: Content,
    /// How many operations an everyday walk has.
    pub(crate) ops: usize,
}

const MIXED: Content = Content { keys: ALL_KEYS, many: 200, value_max: 200 << 10 };
pub(crate) const SMALL: Content = Content { keys: ALL_KEYS, many: 100, value_max: 300 };
const COUNTERS: Content = Content { keys: &[KeyKind::Counter], many: 3000, value_max: 600 };
const SHARED: Content =
    Content { keys: &[KeyKind::Shared, KeyKind::Longest], many: 500, value_max: 2000 };

/// Small in every way.
pub(crate) fn tiny_options() -> LsmOptions {
    LsmOptions::new()
        .block_bytes(256)
        .file_bytes(4 << 10)
        .base_bytes(16 << 10)
        .growth(3)
        .merge_at(2)
        .slow_at(6)
        .stop_at(12)
}

/// The same, with most values left where they were written.
fn lending_options() -> LsmOptions {
    tiny_options().filter_bits(0).last_filter_bits(0).separate_values(100)
}

/// The same for hash tables; the seed is fixed, so that a walk is the same each time.
pub(crate) fn tiny_hash() -> HashOptions {
    HashOptions::new().runs(2).file_bytes(4 << 10).seed(7)
}

/// Small in every way, and little is worth a leaf.
fn tiny_tree() -> BtreeOptions {
    BtreeOptions::new().page_bytes(256).spare_percent(30).deltas(3).rewrite_ratio(2)
}

/// Small in every way, without threads.
pub(crate) fn tiny_builder() -> Builder {
    Db::builder()
        .threads(0)
        .memory(64 << 10)
        .memtable_bytes(4 << 10)
        .segment_bytes(16 << 10)
        .log_bytes(64 << 10)
        .sync_interval(None)
}

fn setup(name: &'static str, on: On, builder: Builder, options: LsmOptions) -> Setup {
    let tree_options = tiny_tree();
    Setup {
        name,
        on,
        builder,
        options,
        engines: LSM,
        tree_options,
        hash_options: tiny_hash(),
        content: MIXED,
        ops: 1500,
    }
}

/// In memory.
pub(crate) fn in_memory() -> Vec<Setup> {
    let tiny = |name| setup(name, On::Memory, tiny_builder(), tiny_options());
    vec![
        setup("defaults", On::Memory, Db::builder(), LsmOptions::new()),
        tiny("tiny"),
        Setup { builder: tiny_builder().threads(1), ..tiny("one thread") },
        Setup { builder: tiny_builder().threads(2), ..tiny("two threads") },
        Setup { options: tiny_options().filter_bits(0).last_filter_bits(0), ..tiny("no filters") },
        Setup { options: tiny_options().expect_hits(true).filter_bits(1), ..tiny("expect hits") },
        Setup { content: COUNTERS, ops: 4000, ..tiny("counters") },
        Setup { content: SHARED, options: tiny_options().block_bytes(512), ..tiny("shared") },
        Setup {
            options: tiny_options().compression(Compression::Lz4).hot_compression(Compression::Lz4),
            ..tiny("lz4, mapped")
        },
        Setup {
            options: tiny_options().compression(Compression::Zstd),
            builder: tiny_builder().read_path(ReadPath::Cached),
            ..tiny("zstd, cached")
        },
        Setup { options: lending_options(), ..tiny("lent") },
        Setup {
            options: lending_options().compression(Compression::Lz4).growth(2),
            builder: tiny_builder().read_path(ReadPath::Cached).threads(2),
            ..tiny("lent, lz4 below, cached")
        },
        Setup {
            options: lending_options(),
            content: COUNTERS,
            ops: 4000,
            builder: tiny_builder().threads(1),
            ..tiny("lent, counters")
        },
        Setup { engines: TREES, ..tiny("trees") },
        Setup { engines: TREES_BESIDE, builder: tiny_builder().threads(2), ..tiny("trees beside") },
        Setup { engines: TREES, content: COUNTERS, ops: 4000, ..tiny("trees, counters") },
        Setup { tree_options: BtreeOptions::new(), engines: TREES, ..tiny("trees, defaults") },
        Setup { tree_options: tiny_tree().deltas(0), engines: TREES, ..tiny("trees, no deltas") },
        Setup {
            tree_options: tiny_tree().deltas(1).rewrite_ratio(1),
            engines: TREES,
            content: COUNTERS,
            ops: 3000,
            ..tiny("trees, one delta, counters")
        },
        Setup { engines: HASH, ops: 1000, ..tiny("hash") },
        Setup { engines: HASH_BESIDE, builder: tiny_builder().threads(2), ..tiny("hash beside") },
        Setup { engines: HASH, content: COUNTERS, ops: 2500, ..tiny("hash, counters") },
        Setup { hash_options: HashOptions::new(), engines: HASH, ..tiny("hash, defaults") },
        Setup {
            hash_options: tiny_hash().runs(16).compression(Compression::Lz4),
            engines: HASH,
            content: SHARED,
            ops: 600,
            ..tiny("hash, many runs, lz4, shared")
        },
        Setup { engines: ALL, ..tiny("all engines") },
        Setup { engines: ALL, builder: tiny_builder().threads(2), ..tiny("all engines, threads") },
        Setup { engines: ALL, content: COUNTERS, ops: 4000, ..tiny("all engines, counters") },
        Setup { engines: ALL, builder: Db::builder(), ..tiny("all engines, large memtables") },
        Setup {
            options: LsmOptions::new().block_bytes(32 << 10).file_bytes(64 << 10),
            builder: tiny_builder().memtable_bytes(64 << 10).memory(1 << 20),
            ..tiny("large blocks")
        },
    ]
}

/// On files of the operating system.
pub(crate) fn on_files() -> Vec<Setup> {
    let tiny = |name| setup(name, On::Files, tiny_builder(), tiny_options());
    let cached = || tiny_builder().read_path(ReadPath::Cached);
    let mut setups = vec![
        setup("files, defaults", On::Files, Db::builder(), LsmOptions::new()),
        Setup { builder: tiny_builder().mapped_log(false), ..tiny("files, log not mapped") },
        Setup { builder: cached().memory(0).threads(1), ..tiny("files, almost no cache") },
        Setup { builder: cached().memory(4 << 20).threads(2), ..tiny("files, cached") },
        Setup {
            builder: cached().threads(2),
            options: tiny_options().compression(Compression::Lz4),
            content: COUNTERS,
            ops: 4000,
            ..tiny("files, cached, lz4, counters")
        },
        Setup {
            builder: tiny_builder().read_path(ReadPath::Mapped).threads(2),
            options: tiny_options().block_bytes(1024).hot_compression(Compression::Zstd),
            content: SHARED,
            ..tiny("files, mapped, zstd, shared")
        },
        Setup {
            options: lending_options(),
            builder: tiny_builder().read_path(ReadPath::Mapped).threads(2),
            ..tiny("files, lent, mapped")
        },
        Setup { engines: TREES, ..tiny("files, trees") },
        Setup {
            engines: TREES,
            tree_options: BtreeOptions::new().page_bytes(1024),
            builder: tiny_builder().read_path(ReadPath::Mapped).threads(2),
            content: SHARED,
            ..tiny("files, trees, mapped, shared")
        },
        Setup {
            engines: TREES_BESIDE,
            builder: cached().memory(0).threads(1),
            ..tiny("files, trees beside, almost no cache")
        },
        Setup {
            builder: tiny_builder().segment_bytes(4096).log_bytes(0).mapped_log(false),
            content: SMALL,
            ops: 2000,
            ..tiny("files, tiny segments")
        },
        Setup {
            builder: tiny_builder()
                .threads(2)
                .durability(Durability::PowerLoss)
                .sync_interval(std::time::Duration::from_millis(20)),
            content: SMALL,
            ..tiny("files, durable")
        },
    ];
    // Syncs of real files are what costs time here, above all where each step of a merge has some.
    setups.iter_mut().for_each(|setup| setup.ops /= 3);
    setups.extend(hash_on_files().into_iter().map(|setup| Setup { ops: setup.ops / 6, ..setup }));
    setups
}

fn hash_on_files() -> Vec<Setup> {
    let tiny = |name| setup(name, On::Files, tiny_builder(), tiny_options());
    let cached = || tiny_builder().read_path(ReadPath::Cached);
    vec![
        Setup {
            engines: HASH,
            builder: tiny_builder().read_path(ReadPath::Mapped),
            ..tiny("files, hash, mapped")
        },
        Setup {
            engines: HASH,
            hash_options: tiny_hash().runs(4).file_bytes(16 << 10).compression(Compression::Zstd),
            builder: cached().memory(0).threads(1),
            ..tiny("files, hash, zstd, almost no cache")
        },
        Setup { engines: ALL, builder: tiny_builder().threads(2), ..tiny("files, all engines") },
        Setup {
            engines: ALL,
            builder: cached().mapped_log(false).durability(Durability::PowerLoss),
            content: SMALL,
            ..tiny("files, all engines, cached, durable")
        },
    ]
}

/// On a simulated disk.
pub(crate) fn on_disks() -> Vec<Setup> {
    let on = |mappable, troubled| On::Disk { mappable, troubled };
    let tiny = |name, on| Setup { ops: 1000, ..setup(name, on, tiny_builder(), tiny_options()) };
    let cached = || tiny_builder().read_path(ReadPath::Cached);
    vec![
        Setup { content: SMALL, ..tiny("disk", on(false, false)) },
        Setup { content: SMALL, ..tiny("disk, mappable", on(true, false)) },
        Setup { content: SMALL, ..tiny("disk, troubled", on(false, true)) },
        Setup { options: lending_options(), ..tiny("disk, lent, troubled", on(true, true)) },
        Setup { engines: TREES, ..tiny("disk, trees, troubled", on(true, true)) },
        Setup {
            engines: TREES_BESIDE,
            content: SMALL,
            ..tiny("disk, trees beside", on(false, false))
        },
        Setup { engines: HASH, ..tiny("disk, hash, troubled", on(true, true)) },
        Setup {
            engines: HASH,
            content: SMALL,
            builder: cached(),
            ..tiny("disk, hash, cached", on(false, false))
        },
        Setup { engines: ALL, content: SMALL, ..tiny("disk, all engines", on(true, false)) },
        Setup { engines: ALL, ..tiny("disk, all engines, troubled", on(false, true)) },
        Setup {
            content: SMALL,
            builder: cached(),
            ..tiny("disk, cached, troubled", on(true, true))
        },
        Setup {
            builder: cached().memory(0).threads(2),
            options: tiny_options().compression(Compression::Lz4),
            ..tiny("disk, almost no cache, troubled", on(false, true))
        },
        Setup {
            builder: tiny_builder().segment_bytes(4096),
            content: COUNTERS,
            ..tiny("disk, tiny segments, troubled", on(true, true))
        },
    ]
}

//! The decoders, opened to the fuzzers in `fuzz/`; compiled for them only (`cfg(fuzzing)`).
//!
//! Each function takes whatever bytes a fuzzer made up. It must return: no panic, no hang, no
//! allocation out of proportion. Where an encoder exists, what decodes must encode to the same.
//!
//! Formats with checksums are fuzzed twice: as they are, and [blindly](blind), since a fuzzer
//! never guesses a checksum but an attacker computes it. Files are made by the real writers and
//! then mutated, so that a run of the fuzzer starts behind the magic numbers.

#![allow(missing_docs, clippy::unwrap_used)]

use crate::{
    BtreeOptions, Compression, HashOptions, LsmOptions,
    btree::BtreeHome,
    cache::BlockCache,
    codec::{
        Reader, blindness, compress, decompress, key_hash, put_bytes, put_u32, put_u64, put_varint,
        seeded_hash,
    },
    hash::{Candidate, HashRun, HashRunMeta, HashRunOptions, HashRunWriter, Slice, hash_run_name},
    log::{Log, LogOptions, payload_crc, replay},
    manifest::{Edit, Manifest, State},
    memtable::{Memory, Memtable},
    sorted::{
        Block, Cursor, Extents, FilterBuilder, Kind, LINE, PageRoot, PageTree, Run, RunAccess,
        RunMeta, RunOptions, RunWriter, Span, line_may_contain, line_of, run_name,
    },
    table::{Change, FileIds, Home, Input, Room, Shop, read_ops},
    vfs::{Access, Folder, mem::MemFolder},
};
use std::sync::Arc;

/// From now on every checksum is 0, in what is written and in what is read; or no longer.
pub fn blind(on: bool) {
    blindness::set(on);
}

/// The reader that all decoders use, and the integers.
pub fn codec(data: &[u8]) {
    let mut reader = Reader::new(data);
    while let Some(kind) = reader.u8() {
        let before = reader.rest().len();
        let mut again = Vec::new();
        match kind % 4 {
            0 => reader.u32().into_iter().for_each(|number| put_u32(&mut again, number)),
            1 => reader.u64().into_iter().for_each(|number| put_u64(&mut again, number)),
            2 => reader.varint().into_iter().for_each(|number| put_varint(&mut again, number)),
            _ => reader.bytes().into_iter().for_each(|bytes| put_bytes(&mut again, bytes)),
        }
        let used = before - reader.rest().len();
        let read = data.get(data.len() - before..).unwrap().get(..used).unwrap();
        assert!(again.len() <= used && (kind % 4 > 1 || again == read));
        if used == 0 {
            break;
        }
    }
}

/// Unpacking: garbage, and what was packed.
pub fn compressed(data: &[u8]) {
    let Some(([how, low, high], rest)) = data.split_first_chunk() else { return };
    let how = [Compression::Lz4, Compression::Zstd, Compression::None][usize::from(how % 3)];
    let len = usize::from(u16::from_le_bytes([*low, *high]));
    if let Some(bytes) = decompress(how, rest, len) {
        assert_eq!(bytes.len(), len);
    }
    if let Some(packed) = compress(how, rest) {
        assert_eq!(decompress(how, &packed, rest.len()).as_deref(), Some(rest));
        assert_eq!(decompress(how, &packed, rest.len() + 1), None);
    }
}

/// One block: what is accepted is in order, and a search finds every key of it.
pub fn block(data: &[u8]) {
    let Some((level, bytes)) = data.split_first() else { return };
    let Ok(block) = Block::check(bytes, level % 4) else { return };
    let (mut key, mut before) = (Vec::new(), None::<Vec<u8>>);
    for i in 0..block.count() {
        block.start_key(&mut key);
        block.read_into(i, &mut key);
        assert!(before.as_ref().is_none_or(|before| *before < key), "keys do not ascend");
        assert_eq!(block.search(&key), (i, true));
        let (_, _, child) = (block.value(i), block.kind(i), block.child(i, 64));
        let _ = (child, block.child_index(&key));
        before = Some(key.clone());
    }
    block.search(bytes);
    block.search(&[]);
}

/// Filter lines of any bytes, and filters that must not forget.
pub fn filter(data: &[u8]) {
    let Some(([bits, probes], rest)) = data.split_first_chunk() else { return };
    let hashes: Vec<u64> = rest.chunks(5).map(key_hash).collect();
    for line in rest.chunks(LINE) {
        for hash in hashes.iter().take(4) {
            let _ = line_may_contain(line, *hash, *probes);
        }
    }
    let mut builder = FilterBuilder::new(*bits % 33);
    hashes.iter().for_each(|hash| builder.add(*hash));
    let filter = builder.finish();
    for hash in hashes {
        let line = filter.lines.get(line_of(hash, filter.lines.len())).unwrap();
        assert!(line_may_contain(line, hash, filter.probes));
    }
}

/// The operations of a batch.
pub fn batch(data: &[u8]) {
    read_ops(data).for_each(drop);
}

pub fn lsm_options(data: &[u8]) {
    if let Some(options) = LsmOptions::decode(data) {
        assert_eq!(LsmOptions::decode(&options.encode()), Some(options));
    }
}

pub fn run_meta(data: &[u8]) {
    let mut reader = Reader::new(data);
    if let Some(meta) = RunMeta::decode(&mut reader) {
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        assert_eq!(RunMeta::decode(&mut Reader::new(&bytes)), Some(meta));
    }
}

/// What the first record of a manifest holds, and edits.
pub fn state(data: &[u8]) {
    if let Some(state) = State::decode(data) {
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert_eq!(State::decode(&bytes), Some(state));
    }
    let mut reader = Reader::new(data);
    while Edit::decode(&mut reader).is_some() {}
}

/// A run with some bytes changed: opened, read in every way, verified.
pub fn run(data: &[u8]) {
    let Some(([kind, way], changes)) = data.split_first_chunk() else { return };
    blind(way & 1 == 1);
    let folder = MemFolder::default();
    let mut meta = write_run(&folder, *kind);
    let plain = RunAccess::Cached(Arc::new(BlockCache::new(0)));
    let lender = Run::open(&folder, meta.clone(), &plain).unwrap();
    if way & 8 == 8 {
        meta = borrow_run(&folder, &lender);
    }
    let name = run_name(meta.file);
    mutate(&folder, &name, changes);
    if way & 2 == 2 {
        // A manifest that agrees with a file of another length.
        meta.bytes = folder.open(&name, Access::Read).unwrap().size().unwrap();
    }
    let cache = Arc::new(BlockCache::new(usize::from(*way) << 8));
    let access = match way & 4 {
        0 => RunAccess::Mapped(cache),
        _ => RunAccess::Cached(cache),
    };
    if let Ok(run) = Run::open(&folder, meta, &access) {
        let _ = run.attach(|file| (file == 7).then(|| lender.file().clone()));
        read_run(&run, way & 1 == 1);
    }
    blind(false);
}

/// The same run with pointers to its long values.
fn borrow_run(folder: &MemFolder, lender: &Arc<Run>) -> RunMeta {
    let mut writer = RunWriter::create(folder, 9, RunOptions::default()).unwrap();
    let mut cursor = lender.cursor();
    cursor.seek_first().unwrap();
    while cursor.valid() {
        let (key, kind) = (cursor.key().to_vec(), cursor.kind());
        match cursor.lent() {
            Some(lent) => writer.add_lent(&key, &lent).unwrap(),
            None => writer.add(&key, kind, cursor.value().unwrap()).unwrap(),
        }
        cursor.next().unwrap();
    }
    writer.finish().unwrap()
}

fn write_run(folder: &MemFolder, kind: u8) -> RunMeta {
    let options = RunOptions {
        block_bytes: 256 << (kind & 1),
        compression: [Compression::None, Compression::Lz4][usize::from(kind >> 1 & 1)],
        filter_bits: 10 * (kind >> 2 & 1),
        lend_from: 500,
        ..RunOptions::default()
    };
    let mut writer = RunWriter::create(folder, 7, options).unwrap();
    if kind >> 3 & 1 == 1 {
        writer.delete_range(Span::new("b", Some("key005")));
        writer.delete_range(Span::new("key030", None::<&str>));
    }
    for i in 0..u32::from(kind >> 4) * 12 {
        let key = format!("key{i:03}{}", "x".repeat(i as usize % 7));
        let value = vec![i as u8; if i % 17 == 3 { 900 } else { i as usize % 40 }];
        let kind = if i % 5 == 4 { Kind::Delete } else { Kind::Put };
        let value = if kind == Kind::Put { &value[..] } else { &[] };
        writer.add(key.as_bytes(), kind, value).unwrap();
    }
    writer.finish().unwrap()
}

/// Reads all of a run. One whose checksums were made to fit may have its keys out of order from
/// block to block, which [`Run::verify`] finds and reading does not; it must do no other harm.
fn read_run(run: &Arc<Run>, is_forged: bool) {
    let mut keys = Vec::new();
    let mut cursor = run.cursor();
    let mut moved = cursor.seek_first();
    while moved.is_ok() && cursor.valid() && keys.len() < 10_000 {
        let key = cursor.key().to_vec();
        let ascends = keys.last().is_none_or(|last| *last < key);
        assert!(ascends || is_forged, "a run goes backwards");
        keys.push(key);
        let _ = (cursor.kind(), cursor.value().is_ok(), cursor.pinned_value().is_ok());
        moved = cursor.next();
    }
    let mut moved = cursor.seek_last();
    let mut steps = 0;
    while moved.is_ok() && cursor.valid() && steps < 10_000 {
        steps += 1;
        let _ = cursor.value().is_ok();
        moved = cursor.prev();
    }
    for key in keys.iter().map(Vec::as_slice).chain([&b""[..], b"key005", b"zzz"]) {
        let _ = cursor.seek(key);
        let _ = cursor.seek_before(key);
        let _ = run.get(key, key_hash(key), &mut |found| drop(found.to_value()));
    }
    let _ = run.verify();
}

pub fn hash_options(data: &[u8]) {
    if let Some(options) = HashOptions::decode(data) {
        assert_eq!(HashOptions::decode(&options.encode()), Some(options));
    }
}

pub fn hash_run_meta(data: &[u8]) {
    let mut reader = Reader::new(data);
    if let Some(meta) = HashRunMeta::decode(&mut reader) {
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        assert_eq!(HashRunMeta::decode(&mut Reader::new(&bytes)), Some(meta));
    }
}

/// A hash run with some bytes changed: opened, read in every way, verified, salvaged.
pub fn hash_run(data: &[u8]) {
    let Some(([kind, way], changes)) = data.split_first_chunk() else { return };
    blind(way & 1 == 1);
    let folder = MemFolder::default();
    let seed = u64::from(*kind >> 2 & 3);
    let (mut meta, keys) = write_hash_run(&folder, *kind, seed);
    let name = hash_run_name(meta.file);
    mutate(&folder, &name, changes);
    if way & 2 == 2 {
        // A manifest that agrees with a file of another length.
        meta.bytes = folder.open(&name, Access::Read).unwrap().size().unwrap();
    }
    let cache = Arc::new(BlockCache::new(usize::from(*way) << 8));
    let access = match way & 4 {
        0 => RunAccess::Mapped(cache),
        _ => RunAccess::Cached(cache),
    };
    if let Ok(run) = HashRun::open(&folder, meta.clone(), seed, &access) {
        read_hash_run(&run, &keys);
    }
    if let Ok((run, _)) = HashRun::open_damaged(&folder, meta) {
        let _ = run.rescue(&mut |_, _, _| Ok(()));
    }
    blind(false);
}

fn write_hash_run(folder: &MemFolder, kind: u8, seed: u64) -> (HashRunMeta, Vec<Vec<u8>>) {
    let compression = [Compression::None, Compression::Lz4][usize::from(kind & 1)];
    let slice = Slice { bits: kind >> 1 & 1, number: 0 };
    let options = HashRunOptions { seed, compression, slice, age: 5 };
    let mut writer = HashRunWriter::create(folder, 7, options).unwrap();
    let key = |i: u32| format!("key{i:03}{}", "x".repeat(if i % 19 == 4 { 1200 } else { 3 }));
    let count = u32::from(kind >> 4) * 24;
    let mut keys: Vec<Vec<u8>> = (0..count).map(|i| key(i).into_bytes()).collect();
    keys.retain(|key| slice.has(seeded_hash(key, seed)));
    keys.sort_by_key(|key| seeded_hash(key, seed));
    for (i, key) in keys.iter().enumerate() {
        let value = vec![i as u8; if i % 17 == 3 { 1900 } else { i % 40 }];
        let kind = if i % 5 == 4 { Kind::Delete } else { Kind::Put };
        writer.add(seeded_hash(key, seed), key, kind, &value).unwrap();
    }
    (writer.finish().unwrap(), keys)
}

fn read_hash_run(run: &Arc<HashRun>, keys: &[Vec<u8>]) {
    let mut cursor = run.cursor();
    let mut steps = 0;
    let mut moved = cursor.seek_first();
    while moved.is_ok() && cursor.valid() && steps < 10_000 {
        steps += 1;
        let _ = (cursor.kind(), cursor.value().is_ok(), cursor.pinned_value().is_ok());
        moved = cursor.next();
    }
    let mut moved = cursor.seek_last();
    while moved.is_ok() && cursor.valid() && steps < 20_000 {
        steps += 1;
        moved = cursor.prev();
    }
    for key in keys.iter().map(Vec::as_slice).chain([&b""[..], b"absent"]) {
        let hash = run.hash(key);
        let target = [&hash.to_be_bytes()[..], key].concat();
        let _ = (cursor.seek(&target).is_ok(), cursor.seek_before(&target).is_ok());
        let _ = run.get(key, hash, &mut |found| drop(found.to_value()));
        if let Ok(Candidate::At(place)) = run.candidate(hash) {
            let _ = run.get_at(place, key, &mut |found| drop(found.to_value()));
        }
    }
    let _ = run.verify();
}

/// A log with some bytes changed, or made up behind its first header.
pub fn log(data: &[u8]) {
    let Some(([way], changes)) = data.split_first_chunk() else { return };
    blind(way & 1 == 1);
    let folder = MemFolder::default();
    let options = LogOptions { segment_bytes: 4096, first_segment_bytes: 4096, mapped: false };
    let shared: Arc<dyn Folder> = Arc::new(folder.clone());
    let (log, mut appender) = Log::start(shared, 77, 1, options).unwrap();
    for i in 0..u64::from(way >> 4) {
        let payload = vec![i as u8; (i * i * 17 % 1500) as usize];
        let parts = [&payload[..]];
        let end = appender.append(1 + 3 * i, 3, payload_crc(&parts), &parts).unwrap();
        if i % 4 == 1 {
            log.sync_to(end).unwrap();
        }
    }
    if way & 2 == 2 {
        appender.close().unwrap();
    }
    let names = folder.list().unwrap();
    let name = names.get(usize::from(way >> 2 & 3) % names.len()).unwrap();
    mutate(&folder, name, changes);
    let mut last = 0;
    let _ = replay(&folder, 77, 1, &mut |record| {
        last = record.first_seq.max(last);
        read_ops(record.payload).for_each(drop);
        Ok(())
    });
    blind(false);
}

/// A manifest with some bytes changed: read, opened for writing, written to.
pub fn manifest(data: &[u8]) {
    let Some(([way], changes)) = data.split_first_chunk() else { return };
    blind(way & 1 == 1);
    let memory = MemFolder::default();
    let folder: Arc<dyn Folder> = Arc::new(memory.clone());
    let (mut manifest, _) = Manifest::create(&folder, 5).unwrap();
    for id in 1..=u32::from(way >> 4) {
        let create = Edit::CreateTable {
            id,
            name: format!("table {id}"),
            engine: 1,
            options: LsmOptions::default().encode(),
        };
        let file = u64::from(id) * 10;
        let meta = vec![id as u8; 20].into();
        let add = Edit::AddFile { table: id, level: 0, file, bytes: 100, meta };
        let next = [Edit::SetNextFile(file + 1), Edit::SetLastSeq(file), Edit::SetLogStart(file)];
        manifest.commit(&[&[create, add][..], &next].concat()).unwrap();
    }
    if way & 2 == 2 {
        manifest.close(7, 0).unwrap();
    }
    drop(manifest);
    let names = memory.list().unwrap();
    let name = names.get(usize::from(way >> 2 & 3) % names.len()).unwrap();
    mutate(&memory, name, changes);
    let read = Manifest::load(&memory);
    if let Ok((mut manifest, state)) = Manifest::open(&folder) {
        assert_eq!(read.as_ref().ok(), Some(&state), "readers and the writer differ");
        let _ = manifest.commit(&[Edit::SetLastSeq(u64::MAX)]);
        let _ = manifest.close(7, 0);
    }
    blind(false);
}

/// Changes a file as a fuzzer says, four bytes a change: what, and where in it.
pub fn mutate(folder: &dyn Folder, name: &str, changes: &[u8]) {
    let file = folder.open(name, Access::Write).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    let _ = file.read_at(&mut bytes, 0);
    for change in changes.as_chunks::<4>().0.iter().take(64) {
        let [what, low, high, value] = *change;
        if bytes.is_empty() {
            break;
        }
        let place = usize::from(u16::from_le_bytes([low, high]));
        // Ends are where footers are, and beginnings where headers are.
        let at = match what & 3 {
            0 => place % bytes.len(),
            1 => bytes.len() - 1 - place % bytes.len().min(256),
            _ => place % bytes.len().min(256),
        };
        match what >> 2 & 7 {
            0..=3 => bytes[at] = value,
            4 => bytes[at] = bytes[at].wrapping_add(1),
            5 => bytes.truncate(at),
            6 => bytes.resize((bytes.len() + usize::from(value)).min(1 << 16), 0),
            _ => {
                let end = (at + usize::from(value)).min(bytes.len());
                let to = bytes.len() - end;
                bytes.copy_within(at..end, to);
            }
        }
    }
    file.set_len(0).unwrap();
    let _ = file.write_at(&bytes, 0);
}

pub fn btree_options(data: &[u8]) {
    if let Some(options) = BtreeOptions::decode(data) {
        assert_eq!(BtreeOptions::decode(&options.encode()), Some(options));
    }
}

/// What the manifest says of a tree, and lists of free pages.
pub fn page_root(data: &[u8]) {
    if let Some(root) = PageRoot::decode(data) {
        assert_eq!(PageRoot::decode(&root.encode()), Some(root));
    }
    if let Some(extents) = Extents::decode(data, 1 << 20) {
        assert_eq!(extents.encode(), data);
        let _ = extents.complement(1, 1 << 20);
    }
    let _ = Extents::decode_padded(data, u32::MAX);
}

/// A page file with some bytes changed: opened, read in every way, verified, salvaged, written to.
pub fn pages(data: &[u8]) {
    let Some(([kind, way], changes)) = data.split_first_chunk() else { return };
    blind(way & 1 == 1);
    let folder = MemFolder::default();
    let shop = Shop {
        folder: Arc::new(folder.clone()),
        files: Arc::new(FileIds::starting_at(1)),
        access: RunAccess::Cached(Arc::new(BlockCache::new(usize::from(*way) << 8))),
        breathe: Arc::new(|| Ok(())),
        room: Room::default(),
    };
    let options = BtreeOptions::default().page_bytes(256 << (kind & 1)).spare_percent(5);
    let home = BtreeHome::new(options.clone());
    for round in 0..u32::from(kind >> 1 & 3) + 1 {
        let change = home.absorb(&some_writes(round, *kind), &shop).unwrap();
        publish(&home, change);
    }
    let root = home.current().root();
    drop(home);
    let Some(name) = folder.list().unwrap().into_iter().next() else {
        blind(false);
        return;
    };
    mutate(&folder, &name, changes);
    if let Ok(home) =
        BtreeHome::open(options.clone(), &shop.folder, 1, &root, Vec::new(), &shop.access)
    {
        read_tree(&home);
        for (_, file) in home.current().files() {
            let _ = file.verify();
        }
        for round in 0..3 {
            if let Ok(change) = home.absorb(&some_writes(round, !*kind), &shop) {
                publish(&home, change);
            }
            let job = home.next_job(true);
            if let Some(Ok(change)) = job.map(|mut job| job.run(&shop)) {
                publish(&home, change);
            }
        }
        read_tree(&home);
    }
    let root = PageRoot::decode(&root).unwrap();
    if let Ok((tree, _)) = PageTree::open_damaged(&folder, 1, options.page_len(), root) {
        let _ = tree.rescue(&mut |_, _| Ok(()));
    }
    if let Ok(tree) = PageTree::open_stray(&folder, 1) {
        let _ = tree.rescue(&mut |_, _| Ok(()));
    }
    blind(false);
}

fn publish(home: &BtreeHome, change: Change) {
    let staged = home.stage(change);
    home.adopt(&staged);
}

fn some_writes(round: u32, kind: u8) -> Input {
    let (memtable, mut writer) = Memtable::new(1 << 20, Memory::Own);
    for i in 0..u32::from(kind >> 3) * 8 {
        let number = i * (round * 2 + 1) % 251;
        let key = format!("key{number:03}{}", "x".repeat(number as usize % 7));
        let value = vec![i as u8; if i % 37 == 3 { 900 } else { i as usize % 40 }];
        let kind = if i % 5 == 4 { Kind::Delete } else { Kind::Put };
        let value = if kind == Kind::Put { &value[..] } else { &[] };
        writer.insert(key.as_bytes(), key_hash(key.as_bytes()), u64::from(i) + 1, kind, value);
    }
    if round == 2 {
        writer.delete_range(Span::new("key050", Some("key120")), 1 << 20);
    }
    Input::new(vec![memtable])
}

fn read_tree(home: &BtreeHome) {
    let settled = home.current();
    let mut sources = Vec::new();
    settled.sources(&Span::new("", None::<&str>), &mut sources);
    for mut cursor in sources {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut moved = cursor.seek_first();
        while moved.is_ok() && cursor.valid() && keys.len() < 10_000 {
            keys.push(cursor.key().to_vec());
            let _ = (cursor.kind(), cursor.value().is_ok(), cursor.pinned_value().is_ok());
            moved = cursor.next();
        }
        let (mut moved, mut steps) = (cursor.seek_last(), 0);
        while moved.is_ok() && cursor.valid() && steps < 10_000 {
            steps += 1;
            moved = cursor.prev();
        }
        keys.push(b"key005".to_vec());
        let asked: Vec<_> = keys.iter().map(|key| (&key[..], key_hash(key))).collect();
        let _ = settled.get_many(&asked, &mut |_, _| ());
        for (key, hash) in asked {
            let _ = (cursor.seek(key), cursor.seek_before(key));
            let _ = settled.get(key, hash, &mut |found| drop(found.to_value()));
        }
    }
}

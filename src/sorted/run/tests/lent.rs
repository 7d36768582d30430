//! Runs whose values lie in the files of others.

use super::*;
use crate::sorted::Lent;

const LENDER: FileId = 7;
const BORROWER: FileId = 9;

/// Values that lie apart, some of them larger than the cache takes; blocks are of 256 bytes.
fn long_values() -> Model {
    let long = |n: u32| match n % 7 {
        0 => 70_000,
        1 => 30,
        _ => 100 + n as usize * 3,
    };
    let value = |n: u32| (0..long(n)).map(|i| (i as u32 / 9 * n) as u8).collect();
    (0..60u32).map(|n| (format!("key{n:03}").into_bytes(), Some(value(n)))).collect()
}

/// A run that says what `from` does, but points to its values where that can be.
fn borrow(folder: &MemFolder, file: FileId, from: &Arc<Run>, options: RunOptions) -> RunMeta {
    let mut writer = RunWriter::create(folder, file, options).unwrap();
    let mut cursor = from.cursor();
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

/// A lender, and what a borrower of all its values is.
fn pair(folder: &MemFolder, compression: Compression) -> (RunMeta, RunMeta) {
    let options = RunOptions { lend_from: 400, ..options(256, compression) };
    let lender = write(folder, &long_values(), &[], options);
    assert_eq!(lender.file, LENDER);
    let run = Run::open(folder, lender.clone(), &How::Mapped.access()).unwrap();
    let borrower = borrow(folder, BORROWER, &run, options);
    (lender, borrower)
}

fn attached(folder: &MemFolder, lender: &RunMeta, borrower: &RunMeta, how: How) -> Arc<Run> {
    let lender = Run::open(folder, lender.clone(), &how.access()).unwrap();
    let run = Run::open(folder, borrower.clone(), &how.access()).unwrap();
    run.attach(|file| (file == LENDER).then(|| lender.file().clone())).unwrap();
    run
}

#[test]
fn lent_values_are_read_as_others_are() {
    for compression in [Compression::None, Compression::Lz4] {
        let (folder, model) = (MemFolder::default(), long_values());
        let (lender, borrower) = pair(&folder, compression);
        assert!(lender.lendable > 0 && lender.borrowed.is_empty());
        assert_eq!((borrower.lendable, borrower.borrowed.len()), (0, 1));
        assert!(borrower.borrowed_from(LENDER) > lender.lendable);
        assert_eq!((borrower.entries, borrower.raw_bytes), (lender.entries, lender.raw_bytes));
        assert!(borrower.bytes < 20_000 && borrower.span == lender.span);
        for how in ALL {
            let run = attached(&folder, &lender, &borrower, how);
            let (forward, backward) = scan(&mut run.cursor()).unwrap();
            assert!(forward == model && backward == model);
            let asked: Vec<_> = model.keys().map(|key| (key.as_slice(), key_hash(key))).collect();
            let mut many = Model::new();
            run.get_many(&asked, &mut |i, lookup| {
                let Lookup::Found(found) = lookup else { panic!("{i} is missing") };
                many.insert(asked[i].0.to_vec(), Some(found.to_value().to_vec()));
            })
            .unwrap();
            assert!(many == model);
            let one = |key: &[u8]| get(&run, key).unwrap().unwrap().map(|value| value.to_vec());
            assert!(model.iter().all(|(key, value)| one(key) == *value));
            run.verify().unwrap();
        }
    }
}

/// What is lent is lent on by the file that has it.
#[test]
fn a_borrower_of_a_borrower_points_to_the_lender() {
    let (folder, model) = (MemFolder::default(), long_values());
    let (lender, borrower) = pair(&folder, Compression::None);
    let run = attached(&folder, &lender, &borrower, How::Mapped);
    let third = borrow(&folder, 11, &run, options(256, Compression::None));
    assert_eq!(third.borrowed, borrower.borrowed);
    let run = attached(&folder, &lender, &third, How::Cached);
    assert!(scan(&mut run.cursor()).unwrap().0 == model);
    run.verify().unwrap();
}

/// Values keep the lender's file, also after all runs are gone; and no run keeps more than the
/// files that it points to.
#[test]
fn lenders_stay_while_they_are_needed() {
    for how in ALL {
        let folder = MemFolder::default();
        let (lender, borrower) = pair(&folder, Compression::None);
        let graveyard = Graveyard::new();
        let opened = Run::open(&folder, lender.clone(), &how.access()).unwrap();
        let run = Run::open(&folder, borrower.clone(), &how.access()).unwrap();
        run.attach(|_| Some(opened.file().clone())).unwrap();
        opened.retire(&graveyard);
        drop(opened);
        let detached = run.detached();
        assert!(graveyard.take().is_empty(), "its borrower needs it");
        let pinned = get(&run, b"key007").unwrap().unwrap().unwrap();
        let mut cursor = run.cursor();
        cursor.seek(b"key014").unwrap();
        let also = cursor.pinned_value().unwrap();
        drop((cursor, run));
        assert_eq!(graveyard.take().is_empty(), how == How::Mapped, "values in memory are pins");
        let model = long_values();
        assert_eq!(Some(pinned.to_vec()), model[&b"key007"[..]]);
        assert_eq!(Some(also.to_vec()), model[&b"key014"[..]]);
        drop((pinned, also));
        assert_eq!(graveyard.take().len(), usize::from(how == How::Mapped));
        detached.verify().unwrap();
    }
}

#[test]
fn a_missing_lender_is_an_error() {
    let folder = MemFolder::default();
    let (_, borrower) = pair(&folder, Compression::None);
    for how in ALL {
        let run = Run::open(&folder, borrower.clone(), &how.access()).unwrap();
        let error = run.attach(|_| None).unwrap_err();
        let text = error.to_string();
        assert!(error.is_corrupt() && text.contains(&run_name(LENDER)), "{text}");
        assert_eq!(error.file(), Some(&*run_name(BORROWER)));
        assert!(get(&run, b"key007").unwrap_err().is_corrupt());
        let mut cursor = run.cursor();
        cursor.seek(b"key007").unwrap();
        assert!(cursor.lent().is_none());
        assert!(cursor.value().unwrap_err().is_corrupt());
        assert_eq!(get(&run, b"key001").unwrap().unwrap().unwrap().len(), 30);
    }
}

#[test]
fn verifying_reads_what_is_lent() {
    for (compression, how) in [(Compression::None, How::Mapped), (Compression::Lz4, How::Cached)] {
        let folder = MemFolder::default();
        let (lender, borrower) = pair(&folder, compression);
        let run = attached(&folder, &lender, &borrower, how);
        let file = folder.open(&run_name(LENDER), Access::Write).unwrap();
        let mut byte = [0];
        file.read_at(&mut byte, 100).unwrap();
        write_all_at(&*file, &[byte[0] ^ 1], 100).unwrap();
        let error = run.verify().unwrap_err();
        assert!(error.is_corrupt() && error.file() == Some(&*run_name(LENDER)), "{error}");
        write_all_at(&*file, &byte, 100).unwrap();
        run.verify().unwrap();
    }
}

#[test]
fn verifying_compares_what_is_borrowed_and_lent() {
    let (folder, access) = (MemFolder::default(), How::Mapped.access());
    let (lender, borrower) = pair(&folder, Compression::None);
    let file = Run::open(&folder, lender.clone(), &access).unwrap().file().clone();
    let wrong = |meta: RunMeta, true_meta: &RunMeta| {
        // The properties say the same, with a right checksum: as whoever means harm would do it.
        let mut bytes =
            read_whole(&*folder.open(&run_name(meta.file), Access::Read).unwrap()).unwrap();
        let at = bytes.len() - FOOTER_BYTES;
        let mut footer = Footer::decode(&bytes[at..], at as u64).unwrap();
        bytes.truncate(footer.properties_at as usize);
        let mut properties = super::super::meta::encode_properties(&meta);
        crate::sorted::block::seal(&mut properties, place(meta.file, footer.properties_at));
        bytes.extend(properties);
        footer.properties_end = bytes.len() as u64;
        bytes.extend(footer.encode(footer.properties_end));
        let mut digest = crate::codec::Digest::default();
        digest.add(&bytes);
        let meta = RunMeta { bytes: bytes.len() as u64, digest: digest.finish(), ..meta };
        let folder = rewritten(&meta, &bytes);
        let run = Run::open(&folder, meta.clone(), &access).unwrap();
        run.attach(|_| Some(file.clone())).unwrap();
        assert_eq!(
            run.verify().is_ok(),
            meta.borrowed == true_meta.borrowed && { meta.lendable == true_meta.lendable }
        );
    };
    wrong(borrower.clone(), &borrower);
    let bytes = borrower.borrowed_from(LENDER);
    for borrowed in [vec![], vec![(LENDER, bytes + 1)], vec![(1, 1), (LENDER, bytes)]] {
        wrong(RunMeta { borrowed, ..borrower.clone() }, &borrower);
    }
    wrong(RunMeta { lendable: 1, ..borrower.clone() }, &borrower);
    wrong(lender.clone(), &lender);
    wrong(RunMeta { lendable: lender.bytes, ..lender.clone() }, &lender);
}

/// A pointer that was made up leads to an error, wherever it leads.
#[test]
fn hostile_pointers_are_refused() {
    let folder = MemFolder::default();
    let (lender, _) = pair(&folder, Compression::None);
    let opened = Run::open(&folder, lender.clone(), &How::Mapped.access()).unwrap();
    let mut cursor = opened.cursor();
    cursor.seek(b"key007").unwrap();
    let Lent { lender: file, far } = cursor.lent().unwrap();
    for wrong in [
        crate::sorted::FarValue { offset: u64::MAX, ..far },
        crate::sorted::FarValue { offset: lender.bytes - 10, ..far },
        crate::sorted::FarValue { stored: u32::MAX, len: u32::MAX, ..far },
        crate::sorted::FarValue { offset: far.offset + 1, ..far },
        crate::sorted::FarValue { stored: 10, ..far },
        crate::sorted::FarValue { checksum: 0, ..far },
    ] {
        let mut writer =
            RunWriter::create(&folder, BORROWER + 1, options(256, Compression::None)).unwrap();
        writer.add_lent(b"k", &Lent { lender: file.clone(), far: wrong }).unwrap();
        let meta = writer.finish().unwrap();
        for how in ALL {
            let run = attached(&folder, &lender, &meta, how);
            let error = get(&run, b"k").unwrap_err();
            assert!(error.is_corrupt() && error.file() == Some(&*run_name(LENDER)), "{error}");
            assert!(run.verify().unwrap_err().is_corrupt());
        }
        folder.remove(&run_name(meta.file)).unwrap();
    }
}

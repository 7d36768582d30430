//! Torn tails are cut, damage is named, and nothing jumps a hole.

use super::{disk::SECTOR, *};
use crate::log::format::{FIRST_RECORD_AT, Head, Header, Identity, LINK_AT};

/// A log of some batches over several segments, of which none was synced but by segments' making.
fn unsynced(batches: usize) -> Written {
    let mut written = Written::start(&Disk::default(), 1);
    for i in 0..batches {
        written.append(50 + i * 7 % 60).unwrap();
    }
    written
}

#[test]
fn a_record_torn_anywhere_is_cut_off() {
    let written = unsynced(5);
    let (from, to) = (written.ends[3], written.ends[4]);
    assert_eq!(from.segment(), 1);
    for kept in from.offset()..to.offset() {
        let disk = written.disk.copy();
        disk.edit(&segment_name(1), |bytes| bytes[kept as usize..].fill(0));
        let (batches, found) = read(&disk, 1).unwrap();
        // The last bytes are zeros of padding, and may be zeros of the payload.
        let whole = written.disk.bytes(&segment_name(1)) == disk.bytes(&segment_name(1));
        assert_eq!(batches.len(), if whole { 5 } else { 4 }, "{kept}");
        let torn = kept > from.offset() && !whole;
        assert_eq!(found.torn, torn.then(|| (segment_name(1), from.offset())), "{kept}");
    }
}

#[test]
fn no_flipped_bit_of_a_closed_log_passes() {
    let mut written = Written::start(&Disk::default(), 1);
    for _ in 0..20 {
        written.append(61).unwrap();
    }
    let mark_at = written.appender.end();
    written.appender.close().unwrap();
    let end = written.appender.end();
    assert_eq!(end.segment(), 2);
    for (segment, used) in
        [(1, written.disk.bytes(&segment_name(1)).len() as u64), (2, end.offset())]
    {
        for bit in 0..used * 8 {
            let disk = written.disk.copy();
            let at = bit / 8;
            disk.edit(&segment_name(segment), |bytes| bytes[at as usize] ^= 1 << (bit % 8));
            let result = read(&disk, 1);
            let is_mark = Position::new(segment, at) >= mark_at;
            let is_unused = segment == 1 && at >= written.last_end_in(1).offset();
            if is_mark || is_unused {
                assert_eq!(result.unwrap().0, written.batches);
            } else {
                assert!(is_corrupt(&result), "bit {bit} of {segment}: {result:?}");
            }
        }
    }
}

impl Written {
    fn last_end_in(&self, segment: SegmentId) -> Position {
        *self.ends.iter().rfind(|end| end.segment() == segment).unwrap()
    }
}

#[test]
fn damage_is_named_where_it_is() {
    let mut written = Written::start(&Disk::default(), 1);
    for _ in 0..4 {
        written.append(61).unwrap();
    }
    written.sync().unwrap();
    let before = written.disk.copy();
    written.append(10).unwrap();
    let at = written.ends[1].offset() as usize;
    for (disk, is_proven) in [(before, false), (written.disk.copy(), true)] {
        disk.edit(&segment_name(1), |bytes| bytes[at + 40] ^= 1);
        let result = read(&disk, 1);
        if is_proven {
            let error = result.unwrap_err();
            assert_eq!((error.file(), error.offset()), (Some("0000000001.log"), Some(at as u64)));
        } else {
            // Nothing was appended since the sync: this could as well be a torn tail.
            assert_eq!(result.unwrap().0, written.batches[..2]);
        }
    }
}

#[test]
fn a_proof_counts_even_if_its_own_payload_is_lost() {
    let mut written = Written::start(&Disk::default(), 1);
    written.append(61).unwrap();
    written.sync().unwrap();
    written.append(61).unwrap();
    let disk = written.disk.copy();
    disk.edit(&segment_name(1), |bytes| {
        bytes[FIRST_RECORD_AT as usize + 33] ^= 1;
        bytes[written.ends[0].offset() as usize + 33] ^= 1;
    });
    assert!(is_corrupt(&read(&disk, 1)));
}

#[test]
fn a_hole_is_never_jumped() {
    let written = unsynced(60);
    let segments = written.appender.end().segment();
    assert!(segments >= 3);
    for (i, end) in written.ends.iter().enumerate().skip(1) {
        let before = written.ends[i - 1];
        let disk = written.disk.copy();
        disk.edit(&segment_name(end.segment()), |bytes| {
            let from = if before.segment() == end.segment() { before.offset() } else { 104 };
            bytes[from as usize..end.offset() as usize].fill(0);
        });
        let (batches, found) = read(&disk, 1).unwrap();
        assert_eq!(batches, written.batches[..i]);
        assert_eq!(found.torn.is_some(), i + 1 < written.ends.len());
    }
    for segment in 2..=segments {
        let disk = written.disk.copy();
        disk.edit(&segment_name(segment), |bytes| bytes[LINK_AT as usize..].fill(0));
        let (batches, _) = read(&disk, 1).unwrap();
        assert_eq!(batches.len(), written.ends.iter().filter(|e| e.segment() < segment).count());
    }
}

#[test]
fn the_lost_tail_of_a_synced_segment_is_damage() {
    let mut written = unsynced(60);
    written.sync().unwrap();
    written.append(10).unwrap();
    let last = written.last_end_in(1);
    let previous = *written.ends.iter().rfind(|end| **end < last).unwrap();
    written.disk.edit(&segment_name(1), |bytes| bytes[previous.offset() as usize..].fill(0));
    let error = read(&written.disk, 1).unwrap_err();
    assert_eq!((error.file(), error.offset()), (Some("0000000001.log"), Some(previous.offset())));
}

#[test]
fn missing_cut_and_headless_segments_are_damage() {
    let written = unsynced(60);
    let segments = written.appender.end().segment();
    for segment in 1..segments {
        let disk = written.disk.copy();
        disk.remove(&segment_name(segment)).unwrap();
        let error = read(&disk, 1).unwrap_err();
        assert_eq!(error.file(), Some(segment_name(segment).as_str()));
    }
    for segment in 1..=segments {
        let disk = written.disk.copy();
        disk.edit(&segment_name(segment), |bytes| bytes[..64].fill(0));
        let error = read(&disk, 1).unwrap_err();
        assert_eq!(error.file(), Some(segment_name(segment).as_str()));
        let whole = written.disk.bytes(&segment_name(segment));
        // One byte less than the head of its link, and a last segment may never have been used.
        let from = if segment == segments { 96 } else { 0 };
        for len in (from..whole.len()).step_by(101) {
            disk.put(&segment_name(segment), &whole[..len]);
            assert!(is_corrupt(&read(&disk, 1)), "{segment} cut to {len}");
        }
    }
}

#[test]
fn a_spare_that_was_never_finished_is_ignored() {
    let written = unsynced(3);
    for bytes in [vec![], vec![0; 10], vec![0xab; 4096], vec![0; 4096]] {
        let disk = written.disk.copy();
        disk.put(&segment_name(2), &bytes);
        let (batches, found) = read(&disk, 1).unwrap();
        assert_eq!((batches, found.next_segment, found.torn), (written.batches.clone(), 3, None));
    }
}

#[test]
fn bytes_of_other_segments_and_other_databases_are_not_replayed() {
    let written = unsynced(3);
    let end = written.appender.end().offset() as usize;
    let name = segment_name(1);
    let foreign = {
        let disk = Disk::default();
        let (log, mut appender) = Log::start(disk.folder(), DB + 1, 1, options(false)).unwrap();
        for seq in 1..9 {
            appender.append(seq, 1, payload_crc(&[b"foreign"]), &[b"foreign"]).unwrap();
            log.sync_to(appender.end()).unwrap();
        }
        disk.bytes(&name)
    };
    // The same place of another database's segment, and this segment's own bytes elsewhere.
    for stale in [foreign[104..].to_vec(), written.disk.bytes(&name)[64..end].to_vec()] {
        let disk = written.disk.copy();
        disk.edit(&name, |bytes| {
            let len = stale.len().min(bytes.len() - end);
            bytes[end..end + len].copy_from_slice(&stale[..len]);
        });
        let (batches, found) = read(&disk, 1).unwrap();
        assert_eq!(batches, written.batches);
        assert_eq!(found.torn, Some((name.clone(), end as u64)));
    }
    written.disk.put(&name, &foreign);
    assert!(is_corrupt(&read(&written.disk, 1)));
}

#[test]
fn hostile_records_are_damage_or_harmless() {
    let identity = Identity::new(DB, 1);
    let header = Header { identity, segment: 1, bytes: 1 << 16 }.encode();
    let synced = Position::new(1, 64);
    let (link, payload) = Head::mark(Position::default(), synced);
    // Heads everywhere, each of which claims the rest of the file.
    let mut bytes = vec![0; 1 << 16];
    bytes[..64].copy_from_slice(&header);
    bytes[64..96].copy_from_slice(&link.encode(&identity, synced));
    bytes[96..104].copy_from_slice(&payload);
    for at in (104..bytes.len() - 32).step_by(32) {
        let len = (bytes.len() - at - 32) as u32;
        let head = Head { payload_crc: 1, len, count: 1, first_seq: 1, synced };
        bytes[at..at + 32].copy_from_slice(&head.encode(&identity, Position::new(1, at as u64)));
    }
    let disk = Disk::default();
    disk.put(&segment_name(1), &bytes);
    assert_eq!(read(&disk, 1).unwrap().0, []);
    // A record that claims more than the file has.
    let head = Head { payload_crc: 0, len: 1 << 29, count: 1, first_seq: 1, synced };
    bytes[104..136].copy_from_slice(&head.encode(&identity, Position::new(1, 104)));
    disk.put(&segment_name(1), &bytes);
    assert_eq!(read(&disk, 1).unwrap().0, []);
    // A link back into the segment before, shorter than what is there.
    let mut next = vec![0; 1 << 16];
    next[..64].copy_from_slice(&Header { identity, segment: 2, bytes: 1 << 16 }.encode());
    let (link, payload) = Head::mark(Position::new(1, 72), synced);
    next[64..96].copy_from_slice(&link.encode(&identity, Position::new(2, 64)));
    next[96..104].copy_from_slice(&payload);
    disk.put(&segment_name(2), &next);
    assert!(is_corrupt(&read(&disk, 1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever of the unsynced sectors survives: a prefix, and all that was acknowledged.
    #[test]
    fn a_power_cut_leaves_a_prefix(
        steps in prop::collection::vec((0..700usize, 0..6u8), 1..40),
        seed: u64,
        odds in 0..5u64,
        maps: bool,
    ) {
        let disk = Disk::mapped(maps);
        let mut written = Written::start(&disk, 1);
        let mut acked = 0;
        for (len, then) in steps {
            written.append(len).unwrap();
            match then {
                0 => {
                    written.sync().unwrap();
                    acked = written.batches.len();
                }
                1 => written.log.prepare_spare().unwrap(),
                _ => {}
            }
        }
        let mut next = choices(seed);
        let after = disk.power_cut(&mut || next() % 4 < odds);
        check_prefix(read(&after, 1), &written.batches, acked).unwrap();
        // Reading changes nothing, so a crash while recovering changes nothing either.
        let mut again = choices(seed);
        let same = disk.power_cut(&mut || again() % 4 < odds);
        prop_assert_eq!(read(&after, 1).unwrap(), read(&same, 1).unwrap());
    }

    /// Damage anywhere in a closed log: an error, or everything is there.
    #[test]
    fn damage_never_loses_a_closed_logs_batches(
        lens in prop::collection::vec(0..700usize, 1..30),
        seed: u64,
        kind in 0..4u8,
    ) {
        let disk = Disk::default();
        let mut written = Written::start(&disk, 1);
        for len in lens {
 written.append(len).unwrap();
 }
        let mark = written.appender.end();
        written.appender.close().unwrap();
        let mut next = choices(seed);
        let segment = next() % mark.segment() + 1;
        let (mut from, mut to) = (0, 0);
        disk.edit(&segment_name(segment), |bytes| {
            from = next() as usize % bytes.len();
            to = bytes.len().min(from + SECTOR);
            match kind {
                0 => bytes[from] ^= 1 << (next() % 8),
                1 => bytes[from..to].fill(0),
                2 => bytes[from..to].fill_with(|| next() as u8),
                _ => bytes.truncate(from),
            }
        });
        // Only the mark itself may go unnoticed, and then it takes what it proves with it; or all
        // of the last segment.
        let is_last = segment == mark.segment();
        prop_assume!(!is_last || if kind == 3 { from >= 96 } else { to as u64 <= mark.offset() });
        match read(&disk, 1) {
            Ok((batches, _)) => prop_assert_eq!(batches, written.batches),
            Err(error) => prop_assert!(error.is_corrupt()),
        }
    }

    /// Any bytes, and any mixture of real and random ones: no panic, no hang.
    #[test]
    fn hostile_bytes_are_read_without_panic(
        seed: u64,
        edits in 0..40usize,
        raw in prop::collection::vec(any::<u8>(), 0..2000),
        keep_header: bool,
    ) {
        let mut next = choices(seed);
        let mut written = Written::start(&Disk::default(), 1);
        for _ in 0..20 {
 written.append(next() as usize % 300).unwrap();
 }
        let disk = &written.disk;
        for _ in 0..edits {
            let segment = next() % written.appender.end().segment() + 1;
            disk.edit(&segment_name(segment), |bytes| {
                let low = if keep_header { 64 } else { 0 };
                let from = low + next() as usize % (bytes.len() - low);
                bytes[from] = next() as u8;
            });
        }
        let _ = read(disk, 1);
        let mut bytes = disk.bytes(&segment_name(1));
        let from = if keep_header { 64 } else { 0 };
        bytes.truncate(from);
        bytes.extend_from_slice(&raw);
        disk.put(&segment_name(1), &bytes);
        let _ = read(disk, 1);
    }
}

//! Long transactions beside a writer that fills memtable after memtable: nothing is overlooked, and
//! memory stays within bounds.

use crate::tiny_options;
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use tonearm::{Db, ErrorKind, Table};

const MEMORY: usize = 8 << 20;

#[test]
fn long_transactions_beside_a_heavy_writer() {
    let db = Db::builder().threads(2).memory(MEMORY).memtable_bytes(64 << 10);
    let db = db.open_in_memory().unwrap();
    let table = db.lsm_with("table", &tiny_options()).unwrap();
    let done = AtomicBool::new(false);
    let (mut refused, mut committed, mut old) = (0, 0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0_u64.. {
                if done.load(Relaxed) {
                    break;
                }
                // Long keys, so that the newest operations are soon not all of them.
                let key = [&number.wrapping_mul(0x9e37_79b9).to_be_bytes()[..], &[1; 500]].concat();
                table.insert(&key, &[7; 500]).unwrap();
            }
        });
        let end = Instant::now() + Duration::from_secs(2);
        for round in 0_u64.. {
            if Instant::now() > end {
                break;
            }
            let key = [&b"counter "[..], &(round % 7).to_be_bytes()].concat();
            let mut tx = db.transaction();
            let range = tx.range(&table, &b"counter"[..]..&b"counter "[..]);
            assert_eq!(range.count(), 0);
            tx.get(&table, &key).unwrap();
            tx.insert(&table, b"result", round.to_be_bytes()).unwrap();
            thread::sleep(Duration::from_millis(round * 7 % 60));
            let is_changed = round.is_multiple_of(3);
            if is_changed {
                table.insert(&key, &round.to_be_bytes()).unwrap();
                thread::sleep(Duration::from_millis(round * 5 % 60));
            }
            let kept = db.stats().transaction_bytes;
            assert!(kept <= MEMORY as u64 / 4, "{kept} bytes are kept");
            match tx.commit_default() {
                Ok(()) => {
                    assert!(!is_changed, "round {round}: a conflict was overlooked");
                    committed += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                    let is_old = error.to_string().contains("open for so long");
                    assert!(is_changed || is_old, "round {round}: there is no conflict");
                    if is_old { old += 1 } else { refused += 1 }
                }
            }
        }
        done.store(true, Relaxed);
    });
    println!("{committed} committed, {refused} refused, {old} too old");
    assert!(committed > 0 && refused > 0);
    assert!(table.stats().work.flushes > 10);
    assert_eq!(db.stats().transaction_bytes, 0);
}

//! SQLite as a key-value store: one table without row numbers, a write-ahead log, files mapped.

use crate::{
    data::{Key, Pairs},
    engine::{self, Engine, Result, Setup},
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, ToSql};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The most SQLite maps of a file.
const MAP: u64 = 2 << 30;

pub struct Sqlite {
    path: PathBuf,
    setup: Setup,
    writer: Mutex<Writer>,
    /// Connections nobody reads with now.
    readers: Mutex<Vec<Connection>>,
}

struct Writer {
    connection: Connection,
    durable: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(path: &Path, setup: &Setup) -> Result<Connection> {
    let connection = Connection::open(path)?;
    let cache_kib = setup.memory / 2 / 1024;
    let log_pages = setup.write_buffer() / 4096;
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA mmap_size = {MAP};
         PRAGMA cache_size = -{cache_kib}; PRAGMA wal_autocheckpoint = {log_pages};"
    ))?;
    connection.busy_timeout(std::time::Duration::from_secs(60))?;
    Ok(connection)
}

impl Sqlite {
    fn writer(&self, durable: bool) -> Result<MutexGuard<'_, Writer>> {
        let mut writer = lock(&self.writer);
        if writer.durable != durable {
            let mode = if durable { "FULL" } else { "OFF" };
            writer.connection.pragma_update(None, "synchronous", mode)?;
            writer.durable = durable;
        }
        Ok(writer)
    }
}

const PUT: &str = "INSERT INTO main VALUES (?1, ?2)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";

fn put(connection: &Connection, key: &Key, value: &[u8]) -> Result<()> {
    connection.prepare_cached(PUT)?.execute([key as &dyn ToSql, &value])?;
    Ok(())
}

fn put_all(mut writer: MutexGuard<'_, Writer>, pairs: &Pairs) -> Result<()> {
    let txn = writer.connection.transaction()?;
    pairs.iter().try_for_each(|(key, value)| put(&txn, key, value))?;
    Ok(txn.commit()?)
}

impl Engine for Sqlite {
    type Reader<'a> = Reader<'a>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let path = dir.join("main.sqlite");
        let connection = connect(&path, setup)?;
        // Large rows belong in a table with row numbers, as SQLite's documentation says.
        let rows = if setup.big_values { "" } else { "WITHOUT ROWID" };
        connection.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS main (key BLOB PRIMARY KEY NOT NULL, value BLOB) {rows}"
        ))?;
        let writer = Mutex::new(Writer { connection, durable: false });
        Ok(Self { path, setup: *setup, writer, readers: Mutex::default() })
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        put(&self.writer(false)?.connection, key, value)
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        put(&self.writer(true)?.connection, key, value)
    }

    fn put_batch(&self, pairs: &Pairs) -> Result<()> {
        put_all(self.writer(false)?, pairs)
    }

    fn put_batch_durable(&self, pairs: &Pairs) -> Result<()> {
        put_all(self.writer(true)?, pairs)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let writer = self.writer(false)?;
        writer.connection.prepare_cached("DELETE FROM main WHERE key = ?1")?.execute([key])?;
        Ok(())
    }

    fn read<R>(&self, work: impl FnOnce(&mut Reader<'_>) -> Result<R>) -> Result<R> {
        let spare = lock(&self.readers).pop();
        let connection = match spare {
            Some(connection) => connection,
            None => connect(&self.path, &self.setup)?,
        };
        let result = work(&mut Reader { connection: &connection, get: None, scan: None });
        lock(&self.readers).push(connection);
        result
    }

    /// In one transaction.
    fn load(&self, next: &mut dyn FnMut(&mut Pairs) -> bool) -> Result<()> {
        let mut writer = self.writer(true)?;
        let txn = writer.connection.transaction()?;
        let mut pairs = Pairs::default();
        while next(&mut pairs) {
            pairs.iter().try_for_each(|(key, value)| put(&txn, key, value))?;
        }
        txn.commit()?;
        drop(writer);
        self.settle()
    }

    fn settle(&self) -> Result<()> {
        // The log is emptied into the file.
        let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
        Ok(self.writer(true)?.connection.query_row(truncate, [], |_| Ok(()))?)
    }

    fn hold<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let mut connection = connect(&self.path, &self.setup)?;
        // What it sees is settled when it first reads.
        let held = connection.transaction()?;
        held.query_row("SELECT key FROM main LIMIT 1", [], |_| Ok(())).optional()?;
        work()
    }

    fn compact(&mut self) -> Result<()> {
        lock(&self.writer).connection.execute_batch("VACUUM")?;
        self.settle()
    }
}

/// Statements stay prepared while it is kept.
pub struct Reader<'a> {
    connection: &'a Connection,
    get: Option<CachedStatement<'a>>,
    scan: Option<CachedStatement<'a>>,
}

/// The statement in `place`, prepared when it is first asked for.
fn prepared<'s, 'a>(
    place: &'s mut Option<CachedStatement<'a>>,
    connection: &'a Connection,
    sql: &str,
) -> Result<&'s mut CachedStatement<'a>> {
    if place.is_none() {
        *place = Some(connection.prepare_cached(sql)?);
    }
    Ok(place.as_mut().ok_or("no statement")?)
}

impl engine::Reader for Reader<'_> {
    fn get(&mut self, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        let sql = "SELECT value FROM main WHERE key = ?1";
        let get = prepared(&mut self.get, self.connection, sql)?;
        let read = |row: &Row<'_>| {
            found(row.get_ref(0)?.as_blob()?);
            Ok(())
        };
        get.query_row([key], read).optional()?;
        Ok(())
    }

    fn scan(&mut self, from: &Key, limit: usize, each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let sql = "SELECT key, value FROM main WHERE key >= ?1 ORDER BY key";
        let scan = prepared(&mut self.scan, self.connection, sql)?;
        visit(scan.query([from])?, limit, each)
    }

    fn scan_back(&mut self, limit: usize, each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let sql = "SELECT key, value FROM main ORDER BY key DESC";
        visit(self.connection.prepare_cached(sql)?.query([])?, limit, each)
    }
}

fn visit(
    mut rows: rusqlite::Rows<'_>,
    limit: usize,
    mut each: impl FnMut(&[u8], &[u8]),
) -> Result<()> {
    for _ in 0..limit {
        let Some(row) = rows.next()? else { break };
        each(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
    }
    Ok(())
}

//! Writes that become visible together, and how they lie in the log.
//!
//! A batch is built in the very bytes that its log record will hold, so committing it copies them
//! once and encodes nothing:
//!
//! ```text
//! Format: batch
//!
//!   operation := kind u8 | table varint | key length varint | rest
//!   rest of a put           value length varint | key | value          kind 0
//!   rest of a delete        key                                        kind 1
//!   rest of a range delete  end length varint | start | end            kind 2
//!   rest of an open one     start                                      kind 3  (no end)
//! ```
//!
//! Operation `i` of a record has the sequence number `first_seq + i`.

use super::{Durability, Host, Table, TableState};
use crate::{
    Error, ErrorKind, Result,
    codec::{Reader, key_hash},
    sorted::{MAX_KEY, Span},
};
use std::{fmt, ops::Range, sync::Arc};

/// Longest value, in bytes.
pub(crate) const MAX_VALUE: usize = 256 << 20;
/// Most bytes in one batch.
pub(crate) const MAX_BATCH: usize = 512 << 20;
/// Most operations in one batch.
pub(crate) const MAX_OPS: usize = 1 << 24;
/// Longest head of an operation: kind, table, two lengths.
const HEAD_MAX: usize = 1 + 5 + 5 + 5;
/// Operations up to this length are put together before their checksum is made: three short
/// pieces take twice as long as a whole.
pub(crate) const SHORT_MAX: usize = 256;

const PUT: u8 = 0;
const DELETE: u8 = 1;
const DELETE_RANGE: u8 = 2;
const DELETE_FROM: u8 = 3;

/// One operation, as the log holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op<'a> {
    Put { key: &'a [u8], value: &'a [u8] },
    Delete { key: &'a [u8] },
    DeleteRange { start: &'a [u8], end: Option<&'a [u8]> },
}

impl<'a> Op<'a> {
    fn parts(self) -> (u8, &'a [u8], &'a [u8]) {
        match self {
            Op::Put { key, value } => (PUT, key, value),
            Op::Delete { key } => (DELETE, key, &[]),
            Op::DeleteRange { start, end: Some(end) } => (DELETE_RANGE, start, end),
            Op::DeleteRange { start, end: None } => (DELETE_FROM, start, &[]),
        }
    }

    /// The same, of an empty value.
    pub(crate) fn without_value(self) -> Self {
        match self {
            Op::Put { key, .. } => Op::Put { key, value: &[] },
            other => other,
        }
    }

    /// Bytes of keys and values in it.
    pub(crate) fn bytes(self) -> usize {
        let (_, first, second) = self.parts();
        first.len() + second.len()
    }

    /// Refuses keys and values over their limits. A range may be bounded just above the longest
    /// key, which takes a byte more.
    pub(crate) fn check(self) -> Result<()> {
        let (kind, key, second) = self.parts();
        let too_long = |what: &str, len: usize, max: usize| {
            let message = format!("a {what} of {len} bytes is over the limit of {max} bytes");
            Err(Error::new(ErrorKind::Limit, message))
        };
        match (kind, key.len(), second.len()) {
            (PUT | DELETE, len, _) if len > MAX_KEY => too_long("key", len, MAX_KEY),
            (PUT, _, len) if len > MAX_VALUE => too_long("value", len, MAX_VALUE),
            (DELETE_RANGE | DELETE_FROM, start, end) if start.max(end) > MAX_KEY + 1 => {
                too_long("range bound", start.max(end), MAX_KEY + 1)
            }
            _ => Ok(()),
        }
    }

    /// The operation's head for the log; key and value follow it.
    #[inline]
    pub(crate) fn head(self, table: u32) -> Head {
        let (kind, first, second) = self.parts();
        let mut head = Head { len: 1, bytes: [0; HEAD_MAX] };
        head.bytes[0] = kind;
        head.varint(u64::from(table));
        head.varint(first.len() as u64);
        if matches!(kind, PUT | DELETE_RANGE) {
            head.varint(second.len() as u64);
        }
        head
    }

    /// The operation in one piece, as the log takes it, if it is short.
    #[inline]
    pub(crate) fn short<'h>(
        self,
        head: &Head,
        buffer: &'h mut [u8; SHORT_MAX],
    ) -> Option<&'h [u8]> {
        let (_, first, second) = self.parts();
        let mut len = 0;
        for part in [head.as_slice(), first, second] {
            buffer.get_mut(len..len + part.len())?.copy_from_slice(part);
            len += part.len();
        }
        buffer.get(..len)
    }

    /// Head, key and value, as the log takes them.
    pub(crate) fn log_parts<'h>(self, head: &'h Head) -> [&'h [u8]; 3]
    where
        'a: 'h,
    {
        let (_, first, second) = self.parts();
        [head.as_slice(), first, second]
    }

    /// Reads one operation and the table it is for.
    fn read(reader: &mut Reader<'a>) -> Option<(u32, Op<'a>)> {
        let kind = reader.u8()?;
        let table = u32::try_from(reader.varint()?).ok()?;
        let first = usize::try_from(reader.varint()?).ok()?;
        let second = match kind {
            PUT | DELETE_RANGE => usize::try_from(reader.varint()?).ok()?,
            _ => 0,
        };
        let first = reader.take(first)?;
        let second = reader.take(second)?;
        let op = match kind {
            PUT => Op::Put { key: first, value: second },
            DELETE => Op::Delete { key: first },
            DELETE_RANGE => Op::DeleteRange { start: first, end: Some(second) },
            DELETE_FROM => Op::DeleteRange { start: first, end: None },
            _ => return None,
        };
        op.check().ok()?;
        Some((table, op))
    }
}

/// The first bytes of an operation in the log, on the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    len: u8,
    bytes: [u8; HEAD_MAX],
}

impl Head {
    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(usize::from(self.len)) {
            *slot = byte;
            self.len += 1;
        }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// The operations of a log record, in order; `None` in place of one that does not decode, which
/// ends it.
pub(crate) fn read_ops(payload: &[u8]) -> impl Iterator<Item = Option<(u32, Op<'_>)>> {
    let mut reader = Reader::new(payload);
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed || reader.is_empty() {
            return None;
        }
        let op = Op::read(&mut reader);
        failed = op.is_none();
        Some(op)
    })
}

/// Where an operation lies in the batch's bytes.
#[derive(Clone, Debug)]
struct Placed {
    table: u32,
    kind: u8,
    hash: u64,
    first: Range<u32>,
    second: Range<u32>,
}

/// Writes to any tables of one database that are committed together: after a crash all of them
/// are there or none, and no reader and no snapshot ever sees a part.
///
/// Later operations win over earlier ones on the same key. A batch holds up to 512 MiB and
/// 16,777,216 operations; going over a limit is reported by [`Batch::commit`], which then writes
/// nothing.
pub struct Batch {
    host: Arc<dyn Host>,
    tables: Vec<Arc<TableState>>,
    ops: Vec<Placed>,
    payload: Vec<u8>,
    error: Option<Error>,
}

impl Batch {
    pub(crate) fn new(host: Arc<dyn Host>) -> Self {
        Self { host, tables: Vec::new(), ops: Vec::new(), payload: Vec::new(), error: None }
    }

    /// Sets `key` to `value` in `table`.
    pub fn insert<T: Table + ?Sized>(
        &mut self,
        table: &T,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.add(table, Op::Put { key: key.as_ref(), value: value.as_ref() })
    }

    /// Removes `key` from `table`, whether or not it is there.
    pub fn remove<T: Table + ?Sized>(&mut self, table: &T, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(table, Op::Delete { key: key.as_ref() })
    }

    /// Removes all keys of `table` from `start` to before `end`; without an end, all from `start`.
    pub fn delete_range<T: super::OrderedTable + ?Sized>(
        &mut self,
        table: &T,
        start: impl AsRef<[u8]>,
        end: Option<&[u8]>,
    ) -> &mut Self {
        self.add(table, Op::DeleteRange { start: start.as_ref(), end })
    }

    /// How many operations it holds.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes it will take in the log.
    pub fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// Commits all of it, or nothing. See [`Durability`] for what `Ok` means.
    ///
    /// # Errors
    /// `Limit` for a key, value or batch over its limit, `Misuse` for tables of another database,
    /// `NotFound` for a dropped table, `Full`, `Io`, `Poisoned`. After `Io` or the first
    /// `Poisoned` it is unknown whether the batch survives, and the next open tells; after every
    /// other error none of it happened.
    pub fn commit(self, durability: Durability) -> Result<()> {
        self.finish(Some(durability))
    }

    /// Commits with the database's default durability.
    ///
    /// # Errors
    /// As [`Batch::commit`].
    pub fn commit_default(self) -> Result<()> {
        self.finish(None)
    }

    fn finish(self, durability: Option<Durability>) -> Result<()> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if self.ops.is_empty() {
            return Ok(());
        }
        self.host.clone().write_batch(&self, durability)
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn tables(&self) -> &[Arc<TableState>] {
        &self.tables
    }

    /// The operations with the index of their table in [`Batch::tables`] and their key's hash.
    pub(crate) fn ops(&self) -> impl Iterator<Item = (usize, u64, Op<'_>)> {
        let slice = |range: &Range<u32>| {
            self.payload.get(range.start as usize..range.end as usize).unwrap_or_default()
        };
        self.ops.iter().map(move |placed| {
            let (first, second) = (slice(&placed.first), slice(&placed.second));
            let op = match placed.kind {
                PUT => Op::Put { key: first, value: second },
                DELETE => Op::Delete { key: first },
                DELETE_RANGE => Op::DeleteRange { start: first, end: Some(second) },
                _ => Op::DeleteRange { start: first, end: None },
            };
            (placed.table as usize, placed.hash, op)
        })
    }

    /// The table's number and the hash of each operation's key.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = (u32, u64)> {
        self.ops
            .iter()
            .filter_map(|placed| Some((self.tables.get(placed.table as usize)?.id(), placed.hash)))
    }

    fn add<T: Table + ?Sized>(&mut self, table: &T, op: Op<'_>) -> &mut Self {
        if self.error.is_none()
            && let Err(error) = self.try_add(table.core().state(), op)
        {
            self.error = Some(error);
        }
        self
    }

    pub(crate) fn try_add(&mut self, table: &Arc<TableState>, op: Op<'_>) -> Result<()> {
        op.check()?;
        let (kind, first, second) = op.parts();
        if self.payload.len() + HEAD_MAX + op.bytes() > MAX_BATCH || self.ops.len() >= MAX_OPS {
            let message = format!(
                "a batch holds at most {MAX_BATCH} bytes and {MAX_OPS} operations: commit in parts"
            );
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let index = self.table_index(table)?;
        self.payload.extend_from_slice(op.head(table.id()).as_slice());
        let first_at = self.payload.len() as u32;
        self.payload.extend_from_slice(first);
        let second_at = self.payload.len() as u32;
        self.payload.extend_from_slice(second);
        self.ops.push(Placed {
            table: index,
            kind,
            hash: key_hash(first),
            first: first_at..second_at,
            second: second_at..self.payload.len() as u32,
        });
        Ok(())
    }

    fn table_index(&mut self, table: &Arc<TableState>) -> Result<u32> {
        let same = |known: &Arc<TableState>| Arc::ptr_eq(known, table);
        if let Some(index) = self.tables.iter().rposition(same) {
            return Ok(index as u32);
        }
        if !self.host.owns(table) {
            let message = "a batch can only hold writes to tables of the database it was made by";
            return Err(Error::new(ErrorKind::Misuse, message));
        }
        self.tables.push(table.clone());
        Ok((self.tables.len() - 1) as u32)
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("ops", &self.len()).field("bytes", &self.bytes()).finish()
    }
}

/// The span of keys a range delete is for.
pub(crate) fn span_of(start: &[u8], end: Option<&[u8]>) -> Span {
    Span {
        start: bytes::Bytes::copy_from_slice(start),
        end: end.map(bytes::Bytes::copy_from_slice),
    }
}

/// Writes a whole operation, as [`read_ops`] reads it.
pub(crate) fn put_op(out: &mut Vec<u8>, table: u32, op: Op<'_>) {
    let head = op.head(table);
    op.log_parts(&head).iter().for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn any_op() -> impl Strategy<Value = (u8, Vec<u8>, Vec<u8>)> {
        (0..4u8, proptest::collection::vec(any::<u8>(), 0..40), any::<Vec<u8>>())
    }

    fn as_op((kind, first, second): &(u8, Vec<u8>, Vec<u8>)) -> Op<'_> {
        match kind {
            0 => Op::Put { key: first, value: second },
            1 => Op::Delete { key: first },
            2 => Op::DeleteRange { start: first, end: Some(second) },
            _ => Op::DeleteRange { start: first, end: None },
        }
    }

    #[test]
    fn operations_are_written_as_ever() {
        let mut payload = Vec::new();
        put_op(&mut payload, 300, Op::Put { key: b"key", value: b"value" });
        put_op(&mut payload, 1, Op::Delete { key: b"key" });
        put_op(&mut payload, 1, Op::DeleteRange { start: b"a", end: Some(b"bc") });
        put_op(&mut payload, 1, Op::DeleteRange { start: b"a", end: None });
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "00ac0203056b657976616c75650101036b65790201010261626303010161");
    }

    proptest! {
        #[test]
        fn operations_round_trip(ops in vec((any_op(), any::<u32>()), 0..20)) {
            let mut payload = Vec::new();
            for (op, table) in &ops {
                put_op(&mut payload, *table, as_op(op));
            }
            let read: Vec<_> = read_ops(&payload).collect();
            let wrote: Vec<_> = ops.iter().map(|(op, table)| Some((*table, as_op(op)))).collect();
            prop_assert_eq!(read, wrote);
        }

        #[test]
        fn any_payload_is_read_without_panic(payload: Vec<u8>) {
            for op in read_ops(&payload) {
                if op.is_none() { break; }
            }
        }
    }
}

//! Edits: the steps from one state to the next, and how they are written.
//!
//! A record holds edits one after the other, each a kind byte and its fields: varints, and bytes
//! behind their length.
//!
//! ```text
//! Format: edit
//!
//!  1 table | name | engine u8 | options   create a table
//!  2 table                                drop it
//!  3 table | name                         rename it
//!  4 table | options                      replace its options
//!  5 table | level u8 | file | bytes | meta   add a file
//!  6 table | file                         remove a file
//!  7 table | seq                          operations up to seq are in its files
//!  8 table | root                         replace the engine's root
//!  9 segment                              the log starts here
//! 10 file                                 file numbers below are taken
//! 11 seq                                  sequence numbers up to it are taken
//! ```

use super::{FileId, SegmentId, TableId};
use crate::codec::{Reader, put_bytes, put_varint};
use bytes::Bytes;

/// One step. A commit takes several and does all or none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Edit {
    /// A new, empty table. Ids ascend: `id` is not below [`State::next_table`](super::State).
    CreateTable { id: TableId, name: String, engine: u8, options: Bytes },
    /// Drops the table and takes its files out of the database.
    DropTable(TableId),
    /// Gives the table another name, which no table has.
    RenameTable { id: TableId, name: String },
    /// Replaces the engine's options.
    SetOptions { id: TableId, options: Bytes },
    /// Makes a file, `bytes` long, part of the table, after those it has.
    AddFile { table: TableId, level: u8, file: FileId, bytes: u64, meta: Bytes },
    /// Takes a file out of the table.
    RemoveFile { table: TableId, file: FileId },
    /// Every entry of the table with a sequence number up to `seq` is in its home.
    SetSettled { table: TableId, seq: u64 },
    /// Replaces the engine's root.
    SetRoot { table: TableId, root: Bytes },
    /// Log segments below are not needed any more.
    SetLogStart(SegmentId),
    /// File ids below are taken.
    SetNextFile(FileId),
    /// Sequence numbers up to this one are taken.
    SetLastSeq(u64),
}

const CREATE_TABLE: u8 = 1;
const DROP_TABLE: u8 = 2;
const RENAME_TABLE: u8 = 3;
const SET_OPTIONS: u8 = 4;
const ADD_FILE: u8 = 5;
const REMOVE_FILE: u8 = 6;
const SET_SETTLED: u8 = 7;
const SET_ROOT: u8 = 8;
const SET_LOG_START: u8 = 9;
const SET_NEXT_FILE: u8 = 10;
const SET_LAST_SEQ: u8 = 11;

impl Edit {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::CreateTable { id, name, engine, options } => {
                put_kind(out, CREATE_TABLE, (*id).into());
                put_bytes(out, name.as_bytes());
                out.push(*engine);
                put_bytes(out, options);
            }
            Self::DropTable(id) => put_kind(out, DROP_TABLE, (*id).into()),
            Self::RenameTable { id, name } => {
                put_kind(out, RENAME_TABLE, (*id).into());
                put_bytes(out, name.as_bytes());
            }
            Self::SetOptions { id, options } => {
                put_kind(out, SET_OPTIONS, (*id).into());
                put_bytes(out, options);
            }
            Self::AddFile { table, level, file, bytes, meta } => {
                put_kind(out, ADD_FILE, (*table).into());
                out.push(*level);
                put_varint(out, *file);
                put_varint(out, *bytes);
                put_bytes(out, meta);
            }
            Self::RemoveFile { table, file } => {
                put_kind(out, REMOVE_FILE, (*table).into());
                put_varint(out, *file);
            }
            Self::SetSettled { table, seq } => {
                put_kind(out, SET_SETTLED, (*table).into());
                put_varint(out, *seq);
            }
            Self::SetRoot { table, root } => {
                put_kind(out, SET_ROOT, (*table).into());
                put_bytes(out, root);
            }
            Self::SetLogStart(segment) => put_kind(out, SET_LOG_START, *segment),
            Self::SetNextFile(file) => put_kind(out, SET_NEXT_FILE, *file),
            Self::SetLastSeq(seq) => put_kind(out, SET_LAST_SEQ, *seq),
        }
    }

    /// The next edit of a record; `None` if the bytes are none.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let kind = reader.u8()?;
        let number = reader.varint()?;
        Some(match kind {
            SET_LOG_START => Self::SetLogStart(number),
            SET_NEXT_FILE => Self::SetNextFile(number),
            SET_LAST_SEQ => Self::SetLastSeq(number),
            _ => Self::decode_of_table(kind, TableId::try_from(number).ok()?, reader)?,
        })
    }

    fn decode_of_table(kind: u8, table: TableId, reader: &mut Reader<'_>) -> Option<Self> {
        Some(match kind {
            CREATE_TABLE => Self::CreateTable {
                id: table,
                name: text(reader)?,
                engine: reader.u8()?,
                options: owned(reader)?,
            },
            DROP_TABLE => Self::DropTable(table),
            RENAME_TABLE => Self::RenameTable { id: table, name: text(reader)? },
            SET_OPTIONS => Self::SetOptions { id: table, options: owned(reader)? },
            ADD_FILE => Self::AddFile {
                table,
                level: reader.u8()?,
                file: reader.varint()?,
                bytes: reader.varint()?,
                meta: owned(reader)?,
            },
            REMOVE_FILE => Self::RemoveFile { table, file: reader.varint()? },
            SET_SETTLED => Self::SetSettled { table, seq: reader.varint()? },
            SET_ROOT => Self::SetRoot { table, root: owned(reader)? },
            _ => return None,
        })
    }
}

/// Every edit begins with its kind and the one number all of them have.
fn put_kind(out: &mut Vec<u8>, kind: u8, number: u64) {
    out.push(kind);
    put_varint(out, number);
}

/// Bytes behind their length, copied.
pub(super) fn owned(reader: &mut Reader<'_>) -> Option<Bytes> {
    reader.bytes().map(Bytes::copy_from_slice)
}

/// UTF-8 behind its length, copied.
pub(super) fn text(reader: &mut Reader<'_>) -> Option<String> {
    std::str::from_utf8(reader.bytes()?).ok().map(str::to_owned)
}

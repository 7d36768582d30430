//! The manifest: which files are the database.

mod commit;
mod edit;
mod state;

pub(crate) use commit::Manifest;
pub(crate) use edit::Edit;
pub(crate) use state::{FileRecord, Files, State, TABLE_NAME_MAX, TableRecord};

use crate::sorted::FileId;
/// Names a table; never reused.
pub(crate) type TableId = u32;
/// Names a log segment; ascending.
pub(crate) type SegmentId = u64;

//! What a table is, whatever its engine: handles, batches, snapshots, iterators, and the contract
//! between a table and its home.
//!
//! A table is a stack of sorted sources, newest on top:
//!
//! ```text
//!   active memtable     takes the writes
//!   sealed memtables    full, waiting to be absorbed        } a View: pinned together with
//!   home                settled entries, one version a key  } a sequence number
//! ```
//!
//! Reads go down the stack until something is known about the key; iterators merge it. Engines
//! differ in their [`Home`] alone.

mod batch;
mod entries;
mod feed;
mod handle;
mod history;
mod home;
mod pending;
mod reads;
mod snapshot;
mod source;
mod state;
mod stats;
mod transaction;
mod work;

pub use batch::Batch;
pub(crate) use batch::{Op, SHORT_MAX, put_op, read_ops, span_of};
pub use entries::Entries;
pub(crate) use entries::Inside;
pub(crate) use entries::{span_between, span_of_prefix};
pub use feed::Feed;
pub(crate) use feed::{Given, Intake};
pub use handle::{Durability, Engine, OrderedTable, Side, Table};
// Public only as the supertrait that seals `Table`.
#[allow(unreachable_pub)]
pub use handle::{Core, Sealed as SealedTable};
pub(crate) use handle::{Host, bounds, closures, ordered_closures};
pub(crate) use history::{Begun, History};
pub(crate) use home::{
    Change, FILE_SUFFIXES, FileIds, HASH_BYTES, Home, HomeFile, Input, Job, Order, Room, Settled,
    Shop, Staged,
};
pub(crate) use pending::{Pending, PendingCursor};
pub(crate) use reads::{ReadSet, Reads, TableReads, Walk};
pub use snapshot::{Snapshot, TableAt};
pub(crate) use source::Source;
pub(crate) use state::{Hit, Sealed, TableId, TableState, View, Visible};
pub(crate) use stats::HomeStats;
pub use stats::{LenderStats, LevelStats, TableStats, TreeStats, WorkStats};
pub(crate) use transaction::Checked;
pub use transaction::{Savepoint, Transaction};
pub(crate) use work::Work;

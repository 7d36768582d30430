//! What one child process is asked to do.

use crate::{
    data::{KEY_BYTES, Key, Keys, Values},
    engine::{Engine, Result, Setup},
};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// Bytes of a large value.
pub const BIG: usize = 64 << 10;

/// Which part of a workload a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Loads the database that read workloads share.
    Load,
    /// Writes, and then kills itself.
    Crash,
    /// What is measured.
    Run,
}

/// One child's work; also what every result is stored with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    pub engine: String,
    pub workload: String,
    pub step: Step,
    pub round: u32,
    pub dir: PathBuf,
    pub n: u64,
    pub asked_ops: Option<u64>,
    pub cap_seconds: f64,
    pub memory_mib: usize,
    pub threads: usize,
    pub keys: Keys,
    pub value_bytes: usize,
    pub big: bool,
    pub compact: bool,
    /// MiB that the process and the page cache it fills may take together.
    #[serde(default)]
    pub limit_mib: Option<usize>,
    /// Puts a second of a steady load; else what the engine takes, or a share of that.
    #[serde(default)]
    pub asked_rate: Option<f64>,
}

impl Task {
    /// Opens the engine as asked.
    pub fn open<E: Engine>(&self) -> Result<E> {
        E::open(&self.dir, &self.setup())
    }

    /// How engines are to be opened.
    pub fn setup(&self) -> Setup {
        Setup { memory: self.memory_mib << 20, big_values: self.big }
    }

    /// How many entries are stored; of large values, as many as take the same space.
    pub fn count(&self) -> u64 {
        if !self.big {
            return self.n;
        }
        let bytes = self.n * (KEY_BYTES + self.value_bytes) as u64;
        (bytes / (KEY_BYTES + BIG) as u64).max(64)
    }

    /// How many operations to do: as asked, or else `default`.
    pub fn ops(&self, default: u64) -> u64 {
        self.asked_ops.unwrap_or(default)
    }

    /// Number `i`'s key.
    pub fn key(&self, i: u64) -> Key {
        self.keys.random(i)
    }

    /// The values of this task.
    pub fn values(&self) -> Values {
        Values::new(if self.big { BIG } else { self.value_bytes })
    }

    /// Bytes of one entry.
    pub fn entry_bytes(&self) -> u64 {
        (KEY_BYTES + self.values().bytes()) as u64
    }

    /// The longest a phase may take, where it can be stopped.
    pub fn cap(&self) -> Duration {
        Duration::from_secs_f64(self.cap_seconds)
    }
}

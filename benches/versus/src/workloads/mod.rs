//! The workloads, and the one place that lists them.

mod check;
mod fill;
mod read;
mod scan;

use crate::{
    engine::{Engine, Result},
    measure::Phase,
    task::{Step, Task},
};

/// What a workload starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// An empty folder.
    Empty,
    /// The loaded database, which it only reads.
    Loaded,
}

/// A workload as the command line knows it.
pub struct Workload {
    pub name: &'static str,
    pub about: &'static str,
    pub start: Start,
}

const fn workload(name: &'static str, start: Start, about: &'static str) -> Workload {
    Workload { name, about, start }
}

/// All workloads, in the order `list` shows them.
pub const WORKLOADS: &[Workload] = &[
    workload("fillseq", Start::Empty, "n single puts, keys ascending"),
    workload("fillrandom", Start::Empty, "n single puts, keys in random order"),
    workload("fillbatch", Start::Empty, "n puts in batches of 1000, keys in random order"),
    workload("fillsync", Start::Empty, "4,000 durable puts"),
    workload("fillsync16", Start::Empty, "32,000 durable puts by 16 threads"),
    workload("readrandom", Start::Loaded, "gets of stored keys, all alike"),
    workload("readzipf", Start::Loaded, "gets of stored keys, zipfian"),
    workload("readmissing", Start::Loaded, "gets of keys that are not stored"),
    workload("readthreads", Start::Loaded, "readrandom by --threads threads"),
    workload("multiget", Start::Loaded, "gets of 16 keys at once"),
    workload("scan", Start::Loaded, "all entries ascending, every byte summed"),
    workload("scanback", Start::Loaded, "all entries descending, every byte summed"),
    workload("seek10", Start::Loaded, "10 entries from a stored key on"),
];

/// The workload of that name.
pub fn find(name: &str) -> Result<&'static Workload> {
    let known = WORKLOADS.iter().find(|workload| workload.name == name);
    known.ok_or_else(|| format!("no workload {name}: see `list`").into())
}

/// Does one child's work.
pub fn run<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    if task.step == Step::Load {
        return fill::load::<E>(task);
    }
    match task.workload.as_str() {
        "fillseq" => fill::single::<E>(task, |i| task.keys.ascending(i)),
        "fillrandom" => fill::single::<E>(task, |i| task.key(i)),
        "fillbatch" => fill::batches::<E>(task),
        "fillsync" => fill::durable::<E>(task, 1, 4_000),
        "fillsync16" => fill::durable::<E>(task, 16, 32_000),
        "readrandom" => read::gets::<E>(task, 1, read::Pick::Uniform),
        "readzipf" => read::gets::<E>(task, 1, read::Pick::Zipf),
        "readmissing" => read::gets::<E>(task, 1, read::Pick::Missing),
        "readthreads" => read::gets::<E>(task, task.threads, read::Pick::Uniform),
        "multiget" => read::many::<E>(task),
        "scan" => scan::all::<E>(task, scan::Way::Forward),
        "scanback" => scan::all::<E>(task, scan::Way::Backward),
        "seek10" => scan::seeks::<E>(task),
        other => Err(format!("nobody does workload {other}").into()),
    }
}

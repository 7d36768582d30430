//! The workloads, and the one place that lists them.

mod beside;
mod check;
mod delete;
mod fill;
mod open;
mod read;
mod scan;
mod steady;
mod together;
mod ycsb;

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
    /// A copy of the loaded database, which it changes.
    Copied,
    /// What a process that was killed has left behind.
    Killed,
}

/// A workload as the command line knows it.
pub struct Workload {
    pub name: &'static str,
    pub about: &'static str,
    pub start: Start,
    /// Whether values are of 64 KiB, in the place of --value-bytes.
    pub big: bool,
}

const fn workload(name: &'static str, start: Start, about: &'static str) -> Workload {
    Workload { name, about, start, big: false }
}

const fn big(name: &'static str, start: Start, about: &'static str) -> Workload {
    Workload { name, about, start, big: true }
}

/// All workloads, in the order `list` shows them.
pub const WORKLOADS: &[Workload] = &[
    workload("fillseq", Start::Empty, "n single puts, keys ascending"),
    workload("fillrandom", Start::Empty, "n single puts, keys in random order"),
    workload("fillbatch", Start::Empty, "n puts in batches of 1000, keys in random order"),
    workload("fillbatchsync", Start::Empty, "the same, each batch durable"),
    workload("load", Start::Empty, "n entries at once, keys ascending"),
    workload("fillsync", Start::Empty, "4,000 durable puts"),
    workload("fillsync8", Start::Empty, "16,000 durable puts by 8 threads"),
    workload("fillsync16", Start::Empty, "32,000 durable puts by 16 threads"),
    workload("overwrite", Start::Copied, "n single puts over stored keys"),
    workload("readrandom", Start::Loaded, "gets of stored keys, all alike"),
    workload("readzipf", Start::Loaded, "gets of stored keys, zipfian"),
    workload("readmissing", Start::Loaded, "gets of keys that are not stored"),
    workload("readthreads", Start::Loaded, "readrandom by --threads threads"),
    workload("multiget", Start::Loaded, "gets of 16 keys at once"),
    workload("scan", Start::Loaded, "all entries ascending, every byte summed"),
    workload("scanback", Start::Loaded, "all entries descending, every byte summed"),
    workload("seek10", Start::Loaded, "10 entries from a stored key on"),
    workload(
        "delete",
        Start::Copied,
        "deletes of the first 90 % of all keys, then the first entry",
    ),
    workload("ycsb-a", Start::Copied, "50 % gets, 50 % puts, zipfian"),
    workload("ycsb-b", Start::Copied, "95 % gets, 5 % puts, zipfian"),
    workload("ycsb-c", Start::Copied, "gets, zipfian"),
    workload("ycsb-d", Start::Copied, "95 % gets of the latest, 5 % new keys"),
    workload("ycsb-e", Start::Copied, "95 % scans of up to 100, 5 % new keys"),
    workload("ycsb-f", Start::Copied, "50 % gets, 50 % gets with a put of the same key"),
    workload("readwrite", Start::Copied, "gets beside puts, 20 seconds"),
    workload("readpaced", Start::Copied, "gets beside 20,000 puts a second, 20 seconds"),
    workload("steady", Start::Copied, "overwrites at the peak rate, then at 80 % of it"),
    workload("held", Start::Copied, "2 n overwrites while a snapshot is held, n after it"),
    workload("stuck", Start::Copied, "10 n overwrites while a snapshot is held, n after it"),
    workload("tables", Start::Empty, "n puts into 1,000 tables, opened again, gets"),
    workload("open", Start::Loaded, "opening after a clean close, and a get"),
    workload("openkilled", Start::Killed, "opening after SIGKILL behind n puts, and a get"),
    big("fillbig", Start::Empty, "single puts of 64 KiB, in all as many bytes as n entries"),
    big("readbig", Start::Loaded, "gets of 64 KiB, every byte summed"),
];

/// The workload of that name.
pub fn find(name: &str) -> Result<&'static Workload> {
    let known = WORKLOADS.iter().find(|workload| workload.name == name);
    known.ok_or_else(|| format!("no workload {name}: see `list`").into())
}

/// Does one child's work.
pub fn run<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    match task.step {
        Step::Load => fill::load::<E>(task),
        Step::Crash => open::crash::<E>(task),
        Step::Run => measured::<E>(task),
    }
}

fn measured<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    match task.workload.as_str() {
        "fillseq" => fill::single::<E>(task, |i| task.keys.ascending(i)),
        "fillrandom" | "fillbig" => fill::single::<E>(task, |i| task.key(i)),
        "fillbatch" => fill::batches(task, E::put_batch),
        "fillbatchsync" => fill::batches(task, E::put_batch_durable),
        "load" => fill::bulk::<E>(task),
        "fillsync" => fill::durable::<E>(task, 1, 4_000),
        "fillsync8" => fill::durable::<E>(task, 8, 16_000),
        "fillsync16" => fill::durable::<E>(task, 16, 32_000),
        "overwrite" => fill::overwrite::<E>(task),
        "readrandom" | "readbig" => read::gets::<E>(task, 1, read::Pick::Uniform),
        "readzipf" => read::gets::<E>(task, 1, read::Pick::Zipf),
        "readmissing" => read::gets::<E>(task, 1, read::Pick::Missing),
        "readthreads" => read::gets::<E>(task, task.threads, read::Pick::Uniform),
        "multiget" => read::many::<E>(task),
        "scan" => scan::all::<E>(task, scan::Way::Forward),
        "scanback" => scan::all::<E>(task, scan::Way::Backward),
        "seek10" => scan::seeks::<E>(task),
        "delete" => delete::front::<E>(task),
        "readwrite" => beside::run::<E>(task, None),
        "readpaced" => beside::run::<E>(task, Some(20_000)),
        "steady" => steady::overwrite::<E>(task),
        "held" => steady::held::<E>(task, "held", 2),
        "stuck" => steady::held::<E>(task, "stuck", 10),
        "tables" => steady::tables::<E>(task),
        "open" => open::clean::<E>(task),
        "openkilled" => open::killed::<E>(task),
        other => match other.strip_prefix("ycsb-").and_then(|letter| letter.chars().next()) {
            Some(letter) => ycsb::run::<E>(task, ycsb::Mix::of(letter)?),
            None => Err(format!("nobody does workload {other}").into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::Keys, engines, task::Task};

    fn task(workload: &str, step: Step, dir: &std::path::Path) -> Task {
        Task {
            engine: "tonearm".to_owned(),
            workload: workload.to_owned(),
            step,
            round: 0,
            dir: dir.to_owned(),
            n: 3000,
            asked_ops: Some(300),
            cap_seconds: if workload == "steady" { 0.5 } else { 60.0 },
            memory_mib: 16,
            threads: 2,
            keys: Keys::Decimal,
            value_bytes: 100,
            big: find(workload).is_ok_and(|workload| workload.big),
            compact: false,
            limit_mib: None,
            asked_rate: None,
        }
    }

    /// Every workload on Tonearm, small: that each is listed, known, and finds what it should.
    #[test]
    fn all_run() {
        for workload in WORKLOADS.iter().filter(|workload| workload.start != Start::Killed) {
            let dir = std::env::temp_dir().join(format!("versus-test-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            let engine = engines::find("tonearm").unwrap();
            if workload.start != Start::Empty {
                engine.run(&task(workload.name, Step::Load, &dir)).unwrap();
            }
            let phases = engine.run(&task(workload.name, Step::Run, &dir));
            std::fs::remove_dir_all(&dir).unwrap();
            let phases = phases.unwrap_or_else(|error| panic!("{}: {error}", workload.name));
            assert!(phases.iter().all(|phase| phase.ops > 0 && phase.rate() > 0.0));
        }
    }
}

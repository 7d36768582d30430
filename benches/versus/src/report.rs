//! Results: one JSON object a line, and tables of medians and ratios made of them.

use crate::{engine::Result, measure::Phase, task::Task};
use serde::{Deserialize, Serialize};
use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write as _},
    path::Path,
};

/// One measured phase and what was asked for: a line of the results file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Where it was measured.
    pub machine: String,
    #[serde(flatten)]
    pub task: Task,
    #[serde(flatten)]
    pub phase: Phase,
}

impl Record {
    /// The row of the table it belongs to.
    fn place(&self) -> (&str, &str) {
        (&self.task.workload, &self.phase.phase)
    }
}

/// Appends to the results file.
pub struct Sink(Option<File>);

impl Sink {
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let file = path.map(|path| OpenOptions::new().create(true).append(true).open(path));
        Ok(Self(file.transpose()?))
    }

    pub fn write(&mut self, record: &Record) -> Result<()> {
        if let Some(file) = &mut self.0 {
            writeln!(file, "{}", serde_json::to_string(record)?)?;
        }
        Ok(())
    }
}

/// Reads a results file.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let lines = BufReader::new(File::open(path)?).lines();
    lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

/// The middle of `numbers`, or the mean of the two in the middle.
pub fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let upper = *numbers.get(numbers.len() / 2)?;
    let lower = *numbers.get((numbers.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// All rounds of one engine in one row.
struct Cell<'a>(Vec<&'a Phase>);

impl Cell<'_> {
    fn median(&self, of: impl Fn(&Phase) -> Option<f64>) -> Option<f64> {
        median(self.0.iter().filter_map(|phase| of(phase)).collect())
    }

    fn rate(&self) -> f64 {
        self.median(|phase| Some(phase.rate())).unwrap_or(0.0)
    }

    /// The distance between the slowest and the fastest round, as a share of the median.
    fn spread(&self) -> f64 {
        let rates = || self.0.iter().map(|phase| phase.rate());
        let (low, high) = (rates().fold(f64::MAX, f64::min), rates().fold(0.0, f64::max));
        (high - low) / self.rate()
    }
}

/// How many times the throughput of `peer` that of `base` is.
pub fn ratio(base: f64, peer: f64) -> Option<f64> {
    (base > 0.0 && peer > 0.0).then(|| base / peer)
}

const COLUMNS: usize = 16;

const HEADINGS: [&str; COLUMNS] = [
    "engine",
    "ops/s",
    "spread",
    "ratio",
    "p50 us",
    "p99",
    "p99.9",
    "max",
    "cpu us/op",
    "write amp",
    "space amp",
    "at most",
    "read B/op",
    "faults/op",
    "peak MiB",
    "anon MiB",
];

/// A table for every phase: medians over rounds, and the ratio of the first engine's throughput to
/// each.
pub fn table(records: &[Record]) -> String {
    let mut places: Vec<(&str, &str)> = Vec::new();
    for record in records {
        if !places.contains(&record.place()) {
            places.push(record.place());
        }
    }
    let mut out = String::new();
    for place in places {
        let rows = rows(records, place);
        let _ = writeln!(out, "\n{}, {}", place.0, place.1);
        print_aligned(&mut out, &rows);
    }
    out
}

fn rows(records: &[Record], place: (&str, &str)) -> Vec<[String; COLUMNS]> {
    let here = || records.iter().filter(|record| record.place() == place);
    let mut engines: Vec<&str> = Vec::new();
    // In the order in which they first appear anywhere: as they were asked for.
    for record in records {
        let name = record.task.engine.as_str();
        if !engines.contains(&name) && here().any(|record| record.task.engine == name) {
            engines.push(name);
        }
    }
    let cell = |name: &str| {
        Cell(here().filter(|r| r.task.engine == name).map(|record| &record.phase).collect())
    };
    let base = engines.iter().find(|name| **name == "tonearm").or(engines.first());
    let base = base.map_or(0.0, |name| cell(name).rate());
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(engines.iter().map(|name| row(name, &cell(name), base)));
    rows
}

fn row(name: &str, cell: &Cell<'_>, base: f64) -> [String; COLUMNS] {
    let mut name = name.to_owned();
    if cell.0.iter().any(|phase| phase.capped) {
        name.push('*');
    }
    if let Some(lost) = cell.median(|phase| Some(phase.lost? as f64)).filter(|&lost| lost > 0.0) {
        let _ = write!(name, " (lost {lost:.0})");
    }
    let shown = |number: Option<f64>| number.map_or_else(String::new, significant);
    let latency = |of: fn(&Phase) -> Option<u64>| {
        shown(cell.median(|phase| of(phase).map(|nanos| nanos as f64 / 1e3)))
    };
    let mebibytes = |bytes: u64| Some(bytes as f64 / f64::from(1 << 20));
    [
        name,
        short(cell.rate()),
        format!("{:.0}%", 100.0 * cell.spread()),
        ratio(base, cell.rate()).map_or_else(String::new, |ratio| format!("{ratio:.2}x")),
        latency(|phase| Some(phase.latency?.p50)),
        latency(|phase| Some(phase.latency?.p99)),
        latency(|phase| Some(phase.latency?.p999)),
        latency(|phase| Some(phase.latency?.max)),
        shown(cell.median(|phase| Some(1e6 * phase.cpu_seconds / phase.ops.max(1) as f64))),
        shown(cell.median(Phase::write_amplification)),
        shown(cell.median(Phase::space_amplification)),
        shown(cell.median(Phase::peak_space_amplification)),
        shown(cell.median(Phase::read_for_each)),
        shown(cell.median(Phase::faults_for_each)),
        shown(cell.median(|phase| mebibytes(phase.peak_rss_bytes))),
        shown(cell.median(|phase| mebibytes(phase.anonymous_bytes))),
    ]
}

/// Three digits or so, without an exponent.
fn significant(number: f64) -> String {
    match number {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

fn short(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.2}M", n / 1e6),
        n if n >= 1e4 => format!("{:.0}k", n / 1e3),
        n if n >= 1e3 => format!("{:.1}k", n / 1e3),
        n => significant(n),
    }
}

fn print_aligned<const N: usize>(out: &mut String, rows: &[[String; N]]) {
    let widths: [usize; N] =
        std::array::from_fn(|i| rows.iter().map(|row| row[i].len()).max().unwrap_or(0));
    for row in rows {
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = match i {
                0 => write!(out, "{cell:<width$}"),
                _ => write!(out, "  {cell:>width$}"),
            };
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::Keys, measure::Latency, task::Step};

    fn record(engine: &str, round: u32, ops: u64, seconds: f64) -> Record {
        let task = Task {
            engine: engine.to_owned(),
            workload: "fillrandom".to_owned(),
            step: Step::Run,
            round,
            dir: "dir".into(),
            n: ops,
            asked_ops: None,
            cap_seconds: 60.0,
            memory_mib: 256,
            threads: 2,
            keys: Keys::Hashed,
            value_bytes: 100,
            big: false,
            compact: false,
            limit_mib: None,
            asked_rate: None,
        };
        let latency = Some(Latency { p50: 1500, p99: 2000, p999: 3000, max: 9_000_000 });
        let phase = Phase {
            phase: "load".to_owned(),
            ops,
            seconds,
            latency,
            user_bytes: 100,
            written_bytes: 250,
            ..Phase::default()
        };
        Record { machine: "one".to_owned(), task, phase }
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![7.0]), Some(7.0));
        assert_eq!(median(vec![9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(vec![4.0, 1.0, 9.0, 2.0]), Some(3.0));
    }

    #[test]
    fn ratios() {
        assert_eq!(ratio(300.0, 100.0), Some(3.0));
        assert_eq!(ratio(50.0, 100.0), Some(0.5));
        assert_eq!(ratio(0.0, 100.0), None);
        assert_eq!(ratio(100.0, 0.0), None);
    }

    #[test]
    fn a_row_is_the_median_of_its_rounds_and_compared_to_tonearm() {
        let mut records = Vec::new();
        // Medians of 200 and 50 operations a second.
        for (round, seconds) in [1.0, 0.5, 0.1].into_iter().enumerate() {
            records.push(record("peer", round as u32, 100, 4.0 * seconds));
            records.push(record("tonearm", round as u32, 100, seconds));
        }
        let table = table(&records);
        let line = |name: &str| {
            let line = table.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(line("tonearm")[1..5], ["200", "450%", "1.00x", "1.50"]);
        assert_eq!(line("peer")[1..5], ["50.0", "450%", "4.00x", "1.50"]);
        assert_eq!(line("peer")[7], "9000");
        assert_eq!(line("peer")[9], "2.50");
        let order: Vec<_> = ["peer", "tonearm"].map(|name| table.find(name).unwrap()).into();
        assert!(order.is_sorted());
    }

    #[test]
    fn capped_and_lost_are_marked() {
        let mut one = record("peer", 0, 100, 1.0);
        one.phase.capped = true;
        one.phase.lost = Some(12);
        assert!(table(&[one]).contains("peer* (lost 12)"));
    }

    #[test]
    fn lines_round_trip() {
        let record = record("tonearm", 3, 100, 1.25);
        let line = serde_json::to_string(&record).unwrap();
        assert!(!line.contains('\n'));
        let back: Record = serde_json::from_str(&line).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), line);
        assert_eq!((back.task.round, back.phase.ops), (3, 100));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(["0.25", "12.5", "1234"], [0.25, 12.5, 1234.4].map(significant));
        assert_eq!(["999", "9.9k", "12k", "1.50M"], [999.0, 9_900.0, 12_345.0, 1.5e6].map(short));
    }
}

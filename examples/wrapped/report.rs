//! How long each step took: bars while it runs, and a table at the end.

use super::Result;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fmt,
    time::{Duration, Instant},
};

/// A bar for a step of `rows` rows, of which `done` are done already. Shown on terminals only.
pub(crate) fn bar(name: &str, rows: u64, done: u64) -> ProgressBar {
    let bar = ProgressBar::new(rows).with_position(done).with_message(name.to_owned());
    let style = "{msg:<26} {bar:30} {human_pos} of {human_len}, {per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.reset_eta();
    bar
}

/// The steps done so far, in order.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: String,
    rows: u64,
    took: Duration,
    disk_bytes: Option<u64>,
    latencies: Option<Latencies>,
}

impl Report {
    /// Does a step and times it. `work` also says how many rows it went through.
    pub(crate) fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<(u64, T)>,
    ) -> Result<T> {
        let start = Instant::now();
        let (rows, done) = work()?;
        self.add(name, rows, start.elapsed(), None);
        Ok(done)
    }

    /// A step of look-ups, each timed.
    pub(crate) fn add_timed(&mut self, name: &str, rows: u64, latencies: Latencies) {
        self.add(name, rows, latencies.total, Some(latencies));
    }

    /// What the database takes on disk after the last step.
    pub(crate) fn disk(&mut self, bytes: u64) {
        if let Some(step) = self.steps.last_mut() {
            step.disk_bytes = Some(bytes);
        }
    }

    fn add(&mut self, name: &str, rows: u64, took: Duration, latencies: Option<Latencies>) {
        self.steps.push(Step { name: name.to_owned(), rows, took, disk_bytes: None, latencies });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dash = || "-".to_owned();
        write!(
            f,
            "{:<26} {:>12} {:>9} {:>12} {:>10}",
            "step", "rows", "seconds", "rows/s", "disk"
        )?;
        writeln!(f, " {:>9} {:>9} {:>9}", "p50", "p99", "p99.9")?;
        for step in &self.steps {
            let seconds = step.took.as_secs_f64();
            let rate = if seconds > 0.0 { step.rows as f64 / seconds } else { 0.0 };
            let disk = step.disk_bytes.map_or_else(dash, bytes);
            write!(f, "{:<26} {:>12} {seconds:>9.2}", step.name, grouped(step.rows))?;
            write!(f, " {:>12} {disk:>10}", grouped(rate as u64))?;
            for part in [0.5, 0.99, 0.999] {
                let at = step.latencies.as_ref().map_or_else(dash, |all| all.at(part));
                write!(f, " {at:>9}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// How long each of many calls took.
#[derive(Debug)]
pub(crate) struct Latencies {
    nanos: Histogram<u64>,
    total: Duration,
}

impl Latencies {
    pub(crate) fn new() -> Result<Self> {
        let nanos = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        Ok(Self { nanos, total: Duration::ZERO })
    }

    /// Times `call`.
    pub(crate) fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = call();
        self.add(start.elapsed());
        result
    }

    fn add(&mut self, took: Duration) {
        self.nanos.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.total += took;
    }

    /// The latency that this part of the calls did not exceed.
    fn at(&self, part: f64) -> String {
        let nanos = self.nanos.value_at_quantile(part) as f64;
        match nanos {
            _ if self.nanos.is_empty() => "-".to_owned(),
            0.0..1e3 => format!("{nanos:.0} ns"),
            1e3..1e6 => format!("{:.1} us", nanos / 1e3),
            1e6..1e9 => format!("{:.1} ms", nanos / 1e6),
            _ => format!("{:.1} s", nanos / 1e9),
        }
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        0.0..1e6 => format!("{:.1} kB", count / 1e3),
        1e6..1e9 => format!("{:.1} MB", count / 1e6),
        _ => format!("{:.2} GB", count / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_a_step() {
        let mut report = Report::default();
        report.add("ingest", 1_234_567, Duration::from_millis(500), None);
        report.disk(45_600_000);
        let mut latencies = Latencies::new().unwrap();
        for micros in 1..=1000 {
            latencies.add(Duration::from_micros(micros));
        }
        report.add_timed("cards", 1000, latencies);
        let text = report.to_string();
        let lines: Vec<_> =
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[0][..4], ["step", "rows", "seconds", "rows/s"]);
        let ingest = ["ingest", "1,234,567", "0.50", "2,469,134", "45.6", "MB", "-", "-", "-"];
        assert_eq!(lines[1], ingest);
        assert_eq!(lines[2][..5], ["cards", "1,000", "0.50", "1,998", "-"]);
        assert_eq!(lines[2][6], "us");
        let p99: f64 = lines[2][7].parse().unwrap();
        assert!((985.0..=995.0).contains(&p99), "{p99}");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            [bytes(0), bytes(1500), bytes(69_000_000_000)],
            ["0.0 kB", "1.5 kB", "69.00 GB"]
        );
        assert_eq!([grouped(0), grouped(999), grouped(1000)], ["0", "999", "1,000"]);
    }
}

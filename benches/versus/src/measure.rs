//! What is measured of a phase: time, latencies, processor, bytes written, memory, disk.

use crate::engine::Result;
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Latencies in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// A measured part of a workload.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Phase {
    pub phase: String,
    pub ops: u64,
    pub seconds: f64,
    pub latency: Option<Latency>,
    /// Whether the time limit ended it.
    pub capped: bool,
    /// Of the whole process, background work included.
    pub cpu_seconds: f64,
    /// Sent to storage, as the kernel counts: pages when they become dirty.
    pub written_bytes: u64,
    /// Of those, taken back before they were on disk, since the file was deleted.
    pub cancelled_bytes: u64,
    /// Read from storage, as the kernel counts, and page faults that waited for it.
    #[serde(default)]
    pub read_bytes: u64,
    #[serde(default)]
    pub major_faults: u64,
    /// Keys and values that were written.
    pub user_bytes: u64,
    /// Blocks allocated to all files.
    pub disk_bytes: Option<u64>,
    /// The most that they ever were while the phase went on.
    #[serde(default)]
    pub peak_disk_bytes: Option<u64>,
    /// Keys and values stored.
    pub live_bytes: Option<u64>,
    /// The most memory the process ever had, mapped files included.
    pub peak_rss_bytes: u64,
    /// Memory at the end that is not a file's.
    pub anonymous_bytes: u64,
    /// Entries that were acknowledged and are gone.
    pub lost: Option<u64>,
}

impl Phase {
    /// Adds latencies and whether the time limit was met.
    pub fn with(mut self, laps: &Laps) -> Self {
        self.latency = laps.latency();
        self.capped = laps.capped;
        self
    }

    /// Adds how many bytes the user wrote.
    pub fn wrote(mut self, bytes: u64) -> Self {
        self.user_bytes = bytes;
        self
    }

    /// Adds how much disk `live` bytes of keys and values take.
    pub fn stored(mut self, dir: &Path, live: u64) -> Result<Self> {
        self.disk_bytes = Some(allocated(dir)?);
        self.live_bytes = Some(live);
        Ok(self)
    }

    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.ops as f64 / self.seconds.max(1e-9)
    }

    /// Bytes written for every byte the user wrote.
    pub fn write_amplification(&self) -> Option<f64> {
        (self.user_bytes > 0).then(|| self.written_bytes as f64 / self.user_bytes as f64)
    }

    /// Bytes read from storage for every operation, if that is a byte or more.
    pub fn read_for_each(&self) -> Option<f64> {
        Some(self.read_bytes as f64 / self.ops.max(1) as f64).filter(|bytes| *bytes >= 1.0)
    }

    /// Page faults that waited for storage for every operation, if there were not only a few.
    pub fn faults_for_each(&self) -> Option<f64> {
        Some(self.major_faults as f64 / self.ops.max(1) as f64).filter(|faults| *faults >= 0.01)
    }

    /// Bytes on disk for every byte stored.
    pub fn space_amplification(&self) -> Option<f64> {
        Some(self.disk_bytes? as f64 / self.live_bytes.filter(|&bytes| bytes > 0)? as f64)
    }

    /// The same, of the moment when it was most.
    pub fn peak_space_amplification(&self) -> Option<f64> {
        Some(self.peak_disk_bytes? as f64 / self.live_bytes.filter(|&bytes| bytes > 0)? as f64)
    }
}

/// Measures from when it is made.
pub struct Meter {
    start: Instant,
    cpu: f64,
    io: Io,
    major_faults: u64,
}

impl Meter {
    pub fn start() -> Result<Self> {
        let (io, major_faults) = (Io::now()?, major_faults()?);
        Ok(Self { io, major_faults, cpu: cpu_seconds(), start: Instant::now() })
    }

    /// What has been spent until now on `ops` operations.
    pub fn phase(&self, name: &str, ops: u64) -> Result<Phase> {
        let seconds = self.start.elapsed().as_secs_f64();
        let cpu_seconds = cpu_seconds() - self.cpu;
        let io = Io::now()?;
        Ok(Phase {
            phase: name.to_owned(),
            ops,
            seconds,
            cpu_seconds,
            written_bytes: io.written - self.io.written,
            cancelled_bytes: io.cancelled - self.io.cancelled,
            read_bytes: io.read - self.io.read,
            major_faults: major_faults()? - self.major_faults,
            peak_rss_bytes: status_bytes("VmHWM:")?,
            anonymous_bytes: status_bytes("RssAnon:")?,
            ..Phase::default()
        })
    }
}

/// Times operations that follow each other: one look at the clock for each, the same for every
/// engine.
pub struct Laps {
    last: Instant,
    deadline: Instant,
    histogram: Histogram<u64>,
    capped: bool,
}

impl Laps {
    /// Begins, to end after `cap`.
    pub fn start(cap: Duration) -> Result<Self> {
        let histogram = Histogram::new(3)?;
        let last = Instant::now();
        Ok(Self { last, deadline: last + cap, histogram, capped: false })
    }

    /// Ends an operation and begins the next; `false` if there is no time for it.
    pub fn lap(&mut self) -> bool {
        let now = Instant::now();
        let spent = now.duration_since(self.last).as_nanos() as u64;
        // It grows as it needs to, so it takes all.
        let _ = self.histogram.record(spent);
        self.last = now;
        self.capped = now > self.deadline;
        !self.capped
    }

    /// Ends an operation that was due at `due` and begins the next: what it had to wait counts.
    pub fn lap_since(&mut self, due: Instant) -> bool {
        self.last = due;
        self.lap()
    }

    /// Forgets the time since the last operation.
    pub fn skip(&mut self) {
        self.last = Instant::now();
    }

    /// Whether the last operation was beyond the end.
    pub fn ended(&self) -> bool {
        self.capped
    }

    /// Operations so far.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Takes in another thread's operations.
    pub fn join(&mut self, other: &Laps) {
        // It grows as it needs to, so it takes all.
        let _ = self.histogram.add(&other.histogram);
        self.capped |= other.capped;
    }

    fn latency(&self) -> Option<Latency> {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        (!self.histogram.is_empty()).then(|| Latency {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: self.histogram.max(),
        })
    }
}

fn cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// Looks every tenth of a second how much disk a folder takes.
pub struct DiskWatch {
    most: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl DiskWatch {
    pub fn start(dir: &Path) -> Self {
        let (most, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (dir, peak, end) = (dir.to_owned(), most.clone(), ended.clone());
        let watch = move || {
            while !end.load(Ordering::Relaxed) {
                // What cannot be read now can a moment later.
                peak.fetch_max(allocated(&dir).unwrap_or(0), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(100));
            }
        };
        Self { most, ended, thread: thread::spawn(watch) }
    }

    /// Ends, and adds the most it saw to `phase`.
    pub fn ended(self, phase: Phase) -> Phase {
        self.ended.store(true, Ordering::Relaxed);
        // A watch that panicked has seen what it has seen.
        let _ = self.thread.join();
        Phase { peak_disk_bytes: Some(self.most.load(Ordering::Relaxed)), ..phase }
    }
}

/// Processor, cores, memory, kernel, and allocator, as far as they can be found out.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, field: &str| {
        let rest = text.split_once(field).map_or("", |(_, rest)| rest);
        rest.lines().next().unwrap_or_default().trim_matches([' ', '\t', ':']).to_owned()
    };
    let processor = after(&read("/proc/cpuinfo"), "model name");
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let memory = after(&read("/proc/meminfo"), "MemTotal");
    let kernel = read("/proc/sys/kernel/osrelease");
    let allocator = if cfg!(feature = "jemalloc") { "jemalloc" } else { "the system's" };
    format!("{processor}, {cores} cores, {memory}, Linux {}, allocator {allocator}", kernel.trim())
}

/// Waits until the process does nothing, as far as its processor time says: for engines that cannot
/// be asked whether they have work left.
#[allow(dead_code, reason = "only some engines need it")]
pub fn wait_until_idle() {
    const LOOK: Duration = Duration::from_millis(10);
    let mut quiet = 0;
    while quiet < 5 {
        let before = cpu_seconds();
        thread::sleep(LOOK);
        let busy = cpu_seconds() - before > 0.02 * LOOK.as_secs_f64();
        quiet = if busy { 0 } else { quiet + 1 };
    }
}

/// Bytes between this process, all threads, and storage.
struct Io {
    read: u64,
    written: u64,
    cancelled: u64,
}

impl Io {
    fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/self/io")?;
        let number = |field| number_after(&text, field);
        let (read, written) = (number("\nread_bytes:")?, number("\nwrite_bytes:")?);
        Ok(Self { read, written, cancelled: number("cancelled_write_bytes:")? })
    }
}

/// Page faults of this process that waited for storage.
fn major_faults() -> Result<u64> {
    Ok(major_faults_in(&fs::read_to_string("/proc/self/stat")?).ok_or("no faults in /proc")?)
}

/// The tenth field behind the program's name, which is in parentheses and may hold anything.
fn major_faults_in(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(9)?.parse().ok()
}

fn status_bytes(field: &str) -> Result<u64> {
    let kibibytes = number_after(&fs::read_to_string("/proc/self/status")?, field)?;
    Ok(kibibytes << 10)
}

fn number_after(text: &str, field: &str) -> Result<u64> {
    let rest = text.split_once(field).map(|(_, rest)| rest);
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    Ok(word.ok_or_else(|| format!("no {field} in /proc"))?.parse()?)
}

/// Bytes of blocks allocated to everything in `dir`.
pub fn allocated(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // A file may go away meanwhile: the engine is open.
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() { allocated(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_number_after_its_field() {
        let text = "wchar: 5\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n";
        assert_eq!(number_after(text, "\nwrite_bytes:").unwrap(), 4096);
        assert_eq!(number_after(text, "cancelled_write_bytes:").unwrap(), 7);
        assert!(number_after(text, "VmHWM:").is_err());
    }

    #[test]
    fn reads_faults_behind_any_name() {
        let stat = "12 (a ) b) S 1 2 3 4 5 6 70 8 9 10 11";
        assert_eq!(major_faults_in(stat), Some(9));
        assert_eq!(major_faults_in("12 (a"), None);
        major_faults().unwrap();
    }

    #[test]
    fn a_phase_counts_what_was_spent_in_it() {
        let meter = Meter::start().unwrap();
        let mut laps = Laps::start(Duration::from_secs(60)).unwrap();
        let mut sum = 0u64;
        for i in 0..1000u64 {
            sum = std::hint::black_box(sum.wrapping_mul(31) + i);
            assert!(laps.lap());
        }
        let phase = meter.phase("sums", laps.count()).unwrap().with(&laps).wrote(100);
        assert_eq!((phase.ops, phase.capped), (1000, false));
        assert!(phase.seconds > 0.0 && phase.rate() > 0.0 && phase.peak_rss_bytes > 1 << 16);
        let latency = phase.latency.unwrap();
        assert!(latency.p50 <= latency.p99 && latency.p99 <= latency.max);
        assert_eq!(phase.space_amplification(), None);
    }

    #[test]
    fn the_cap_ends_a_phase() {
        let mut laps = Laps::start(Duration::ZERO).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        assert!(!laps.lap());
        assert!(laps.capped);
    }
}

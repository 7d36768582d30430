//! Runs engines against each other: a child process for every engine, workload and round, so that
//! none inherits another's memory, and rounds take turns, so that a slow minute of the machine hits
//! all.

use crate::{
    data::Keys,
    engine::Result,
    engines,
    limit::{self, Limit},
    measure::{self, Phase},
    report::{self, Record, Sink},
    task::{Step, Task},
    workloads::{self, Start, Workload},
};
use std::{
    collections::HashMap,
    env, fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

/// What to compare, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Workloads, separated by commas; see `list`.
    #[arg(long, required = true, value_delimiter = ',')]
    workload: Vec<String>,
    /// Engines, separated by commas; the first or `tonearm` is what others are compared to.
    #[arg(long, required = true, value_delimiter = ',')]
    engines: Vec<String>,
    /// How often all of it is repeated.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Entries stored.
    #[arg(long, default_value_t = 10_000_000)]
    n: u64,
    /// Operations of a workload, in place of its own number.
    #[arg(long)]
    ops: Option<u64>,
    /// MiB of memory for caches and write buffers of an engine together.
    #[arg(long, default_value_t = 256)]
    memory: usize,
    /// MiB that an engine's process may take, with the page cache it fills. Loading is not limited.
    #[arg(long)]
    limit: Option<usize>,
    /// Threads of `readthreads`.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// What keys look like.
    #[arg(long, value_enum, default_value_t = Keys::Hashed)]
    keys: Keys,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// Compact databases fully before they are read; else they are read as their own background
    /// work leaves them.
    #[arg(long)]
    compact: bool,
    /// The longest a measured phase may take, in seconds; loads of read workloads are not limited.
    #[arg(long, default_value_t = 120.0)]
    seconds: f64,
    /// Puts a second in `steady` (by default 80 % of the engine's peak), and while a snapshot is
    /// held in `held` and `stuck` (by default as many as the engine takes).
    #[arg(long)]
    rate: Option<f64>,
    /// The longest a child may take, in seconds.
    #[arg(long, default_value_t = 3600)]
    timeout: u64,
    /// Where databases are made, and removed again.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// A file to append results to, one JSON object a line.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs everything and prints the tables; an error if anything failed.
pub fn compare(options: &Options) -> Result<()> {
    let workloads = options.workload.iter().map(|name| workloads::find(name));
    let workloads = workloads.collect::<Result<Vec<_>>>()?;
    options.engines.iter().try_for_each(|name| engines::find(name).map(|_| ()))?;
    let root = options.dir.clone().unwrap_or_else(env::temp_dir);
    let root = root.join(format!("versus-{}", std::process::id()));
    let mut run = Run {
        options,
        root: &root,
        bases: HashMap::new(),
        sink: Sink::open(options.out.as_deref())?,
        records: Vec::new(),
        failures: 0,
        machine: measure::machine(),
    };
    println!("{}", run.machine);
    fs::create_dir_all(&root)?;
    let result = run.all(&workloads);
    fs::remove_dir_all(&root)?;
    result?;
    println!("{}", report::table(&run.records));
    match run.failures {
        0 => Ok(()),
        failures => Err(format!("{failures} runs failed").into()),
    }
}

/// A child, and the limit it runs under, which ends after it.
struct Running {
    child: Child,
    _limit: Option<Limit>,
}

struct Run<'a> {
    options: &'a Options,
    root: &'a Path,
    /// Loaded databases by engine and size of values; `None` where the load failed.
    bases: HashMap<(String, bool), Option<PathBuf>>,
    sink: Sink,
    records: Vec<Record>,
    failures: u32,
    machine: String,
}

impl Run<'_> {
    fn all(&mut self, workloads: &[&Workload]) -> Result<()> {
        for workload in workloads {
            for round in 0..self.options.rounds {
                let mut engines = self.options.engines.clone();
                let first = round as usize % engines.len();
                engines.rotate_left(first);
                for engine in engines {
                    if let Err(error) = self.one(workload, &engine, round) {
                        self.failures += 1;
                        eprintln!("FAILED {} {engine} round {round}: {error}", workload.name);
                    }
                }
            }
        }
        Ok(())
    }

    fn one(&mut self, workload: &Workload, engine: &str, round: u32) -> Result<()> {
        let mut task = self.task(workload, engine, round);
        let scratch = self.root.join("scratch");
        if scratch.exists() {
            fs::remove_dir_all(&scratch)?;
        }
        match workload.start {
            Start::Empty => fs::create_dir_all(&scratch)?,
            Start::Loaded => task.dir = self.base(&task)?,
            Start::Copied => copy(&self.base(&task)?, &scratch)?,
            Start::Killed => {
                fs::create_dir_all(&scratch)?;
                self.crash(&Task { step: Step::Crash, ..task.clone() })?;
            }
        }
        let phases = self.child(&task)?;
        self.keep(&task, phases)
    }

    /// Runs a child that has to die of its own signal.
    fn crash(&self, task: &Task) -> Result<()> {
        let status = self.wait(&mut self.spawn(task, &self.root.join("nothing"))?)?;
        match status.signal() {
            Some(9) => Ok(()),
            _ => Err(format!("it was to kill itself, and ended with {status}").into()),
        }
    }

    fn task(&self, workload: &Workload, engine: &str, round: u32) -> Task {
        let options = self.options;
        Task {
            engine: engine.to_owned(),
            workload: workload.name.to_owned(),
            step: Step::Run,
            round,
            dir: self.root.join("scratch"),
            n: options.n,
            asked_ops: options.ops,
            cap_seconds: options.seconds,
            memory_mib: options.memory,
            threads: options.threads.max(1),
            keys: options.keys,
            value_bytes: options.value_bytes,
            big: workload.big,
            compact: options.compact,
            limit_mib: options.limit,
            asked_rate: options.rate,
        }
    }

    /// The loaded database for `task`, made when it is first asked for.
    fn base(&mut self, task: &Task) -> Result<PathBuf> {
        let key = (task.engine.clone(), task.big);
        if let Some(base) = self.bases.get(&key) {
            return base.clone().ok_or_else(|| "its load has failed".into());
        }
        self.bases.insert(key.clone(), None);
        let size = if task.big { "-big" } else { "" };
        let dir = self.root.join(format!("{}{size}", task.engine));
        fs::create_dir_all(&dir)?;
        let workload = if task.big { "loadbig" } else { "load" };
        let workload = workload.to_owned();
        let load = Task { workload, step: Step::Load, round: 0, dir: dir.clone(), ..task.clone() };
        let load = Task { limit_mib: None, ..load };
        let phases = self.child(&load)?;
        self.keep(&load, phases)?;
        self.bases.insert(key, Some(dir.clone()));
        Ok(dir)
    }

    fn keep(&mut self, task: &Task, phases: Vec<Phase>) -> Result<()> {
        for phase in phases {
            let record = Record { machine: self.machine.clone(), task: task.clone(), phase };
            let (rate, name) = (record.phase.rate(), &record.phase.phase);
            println!(
                "{} {} {} round {}: {rate:.0}/s",
                task.workload, name, task.engine, task.round
            );
            self.sink.write(&record)?;
            self.records.push(record);
        }
        Ok(())
    }

    /// Does `task` in a child process.
    fn child(&self, task: &Task) -> Result<Vec<Phase>> {
        let out = self.root.join("result.json");
        let status = self.wait(&mut self.spawn(task, &out)?)?;
        if !status.success() {
            return Err(status.to_string().into());
        }
        Ok(serde_json::from_str(&fs::read_to_string(out)?)?)
    }

    fn spawn(&self, task: &Task, out: &Path) -> Result<Running> {
        // What earlier children wrote is not to go to disk on this one's time.
        rustix::fs::sync();
        let limit = task.limit_mib.map(Limit::new).transpose()?;
        if limit.is_some() {
            limit::forget(&task.dir)?;
        }
        // This program, even if another has been built in its place meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg("child").arg(serde_json::to_string(task)?).arg(out);
        let child = command.spawn()?;
        if let Some(limit) = &limit {
            limit.take_in(child.id())?;
        }
        Ok(Running { child, _limit: limit })
    }

    fn wait(&self, Running { child, .. }: &mut Running) -> Result<ExitStatus> {
        let deadline = Instant::now() + Duration::from_secs(self.options.timeout);
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(20));
        }
        child.kill()?;
        child.wait()?;
        Err("it took too long and was killed".into())
    }
}

/// Copies a database. Sparse files stay sparse.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    if !status.success() {
        return Err(format!("cp has failed: {status}").into());
    }
    Ok(())
}

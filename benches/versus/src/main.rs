//! Tonearm beside its peers: the same workloads for each engine, in one run. See README.md.

mod compare;
mod data;
mod engine;
mod engines;
mod limit;
mod measure;
mod report;
mod task;
mod workloads;

use clap::{Parser, Subcommand};
use engine::Result;
use std::{fs, path::PathBuf, process::ExitCode};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static JEMALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Compares embedded engines.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs workloads on engines and prints medians and ratios.
    Compare(compare::Options),
    /// Prints the tables of a results file again.
    Report {
        /// A file written by `compare --out`.
        file: PathBuf,
    },
    /// Lists engines and workloads.
    List,
    /// Does one step of one workload: what `compare` starts.
    #[command(hide = true)]
    Child { task: String, out: PathBuf },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Verb::Compare(options) => compare::compare(&options),
        Verb::Report { file } => {
            report::read(&file).map(|read| println!("{}", report::table(&read)))
        }
        Verb::List => {
            list();
            Ok(())
        }
        Verb::Child { task, out } => child(&task, &out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    println!("engines:");
    for engine in engines::ENGINES {
        println!("  {:<16} {}", engine.name, engine.about);
    }
    println!("workloads:");
    for workload in workloads::WORKLOADS {
        println!("  {:<16} {}", workload.name, workload.about);
    }
}

fn child(task: &str, out: &PathBuf) -> Result<()> {
    let task: task::Task = serde_json::from_str(task)?;
    let phases = engines::find(&task.engine)?.run(&task)?;
    Ok(fs::write(out, serde_json::to_string(&phases)?)?)
}

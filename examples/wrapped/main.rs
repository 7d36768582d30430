//! A music service's year in one program: `cargo run --release --example wrapped -- --help`.
//!
//! ```text
//!   table `artists`, table `users`, B+trees: the catalogue, bulk-loaded, read at every step below
//!
//!   listens, in the order in which they happen   (time, user, artist)
//!      | batches, each with how far it got
//!      v
//!   table `listens`, an LSM tree by (user, time, artist): an event log that is read by user
//!      | one scan in key order, a card after each user
//!      v
//!   table `cards`, a hash index by user          "show my year", "what did I play at 9 PM?"
//! ```
//!
//! Killed at any moment and started again with the same `--dir`, it goes on where it was: what is
//! done and how far lie in table `state`, written by the same atomic batch as the rows themselves.
//! At the end every card is checked against the plays that went in.

mod args;
mod cards;
mod data;
mod listens;
mod report;
mod serve;
mod store;

use args::{Args, HELP};
use data::Input;
use report::Report;
use std::process::ExitCode;
use store::Store;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&*error),
    };
    match run(&args) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => fail(&*error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("wrapped: {error}");
    ExitCode::FAILURE
}

/// Does all steps that are not done yet, and returns how many cards are wrong.
fn run(args: &Args) -> Result<u64> {
    let mut report = Report::default();
    let input = match &args.data {
        Some(folder) => report.step("read plays", || {
            let input = Input::read(folder, args.share)?;
            Ok((input.rows.len() as u64, input))
        })?,
        None => report.step("draw plays", || {
            let input = listens::draw(args.seed, args.users, args.share.of(args.plays))?;
            Ok((input.rows.len() as u64, input))
        })?,
    };
    // Declared before the store, so that the folder goes after the database in it is closed.
    let mut temporary = None;
    let folder = match &args.dir {
        Some(dir) => dir.clone(),
        None => temporary.insert(tempfile::tempdir()?).path().join("wrapped"),
    };
    let store = Store::open(&folder, args, &input, &mut report)?;
    store.ingest(&input, args.seed, &mut report)?;
    store.count(&input, &mut report)?;
    let checked = store.check(&input, &mut report)?;
    serve::measure(&store, &input, args.seed, &mut report)?;

    if let Some(user) = serve::busiest(&input) {
        println!("{}\n", serve::show(&store, user)?);
    }
    println!("{report}");
    let store::Checked { users, plays, mismatches } = checked;
    println!("wrapped: users={users} plays={plays} mismatches={mismatches}");
    Ok(mismatches)
}

//! Random walks over a database beside a model of it: whatever operations come in whatever order,
//! with whatever options, every read answers as a `BTreeMap` would, of the present and of the past.
//!
//! A failure prints the walk's name, seed and last operations. To walk the same way again, with
//! `TONEARM_SETUP` a part of the name:
//!
//! ```text
//! TONEARM_SEED=123 TONEARM_SETUP="tiny" cargo test --test model
//! ```
//!
//! `TONEARM_EFFORT=ci` walks further, from more seeds.

mod choices;
mod content;
mod oracle;
mod setups;
mod steps;
mod transactions;
mod world;

use choices::Choices;
use setups::{On, Setup};
use std::{collections::VecDeque, time::Instant};
use world::World;

#[test]
fn walks_in_memory() {
    walk_all(&setups::in_memory());
}

#[test]
fn walks_on_files() {
    walk_all(&setups::on_files());
}

#[test]
fn walks_on_a_simulated_disk() {
    walk_all(&setups::on_disks());
}

/// How many walks are made in each setup, and how many times as far as every day.
fn effort() -> (u64, usize) {
    match std::env::var("TONEARM_EFFORT").as_deref() {
        Ok("ci") => (3, 4),
        _ => (1, 1),
    }
}

fn walk_all(setups: &[Setup]) {
    let (seeds, times) = effort();
    let chosen = std::env::var("TONEARM_SEED").ok().map(|seed| seed.parse().unwrap());
    let part = std::env::var("TONEARM_SETUP").unwrap_or_default();
    for (number, setup) in setups.iter().enumerate().filter(|(_, s)| s.name.contains(&part)) {
        let start = Instant::now();
        // Syncs of real files are what costs time there.
        let times = if setup.on == On::Files { times.min(2) } else { times };
        let first = chosen.unwrap_or(1000 * number as u64);
        for seed in first..first + chosen.map_or(seeds, |_: u64| 1) {
            walk(setup, seed, setup.ops * times);
        }
        println!(
            "{}: {} x {} operations, {:.1?}",
            setup.name,
            seeds,
            setup.ops * times,
            start.elapsed()
        );
    }
}

fn walk(setup: &Setup, seed: u64, ops: usize) {
    let mut trail = Trail { setup: setup.name, seed, done: 0, last: VecDeque::new() };
    let mut world = World::new(setup, seed, Choices::Seed(seed));
    for _ in 0..ops {
        let (name, step) = steps::any(&mut world);
        trail.note(name);
        step(&mut world);
    }
    trail.note("the end");
    steps::scan(&mut world);
    world.db().maintain().unwrap();
    world.db().verify().unwrap();
    world.reopen();
    steps::scan(&mut world);
}

/// Where a walk was when it failed.
struct Trail {
    setup: &'static str,
    seed: u64,
    done: usize,
    last: VecDeque<&'static str>,
}

impl Trail {
    fn note(&mut self, name: &'static str) {
        self.done += 1;
        self.last.push_back(name);
        if self.last.len() > 12 {
            self.last.pop_front();
        }
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Trail { setup, seed, done, last } = self;
            eprintln!("walk {setup:?} with TONEARM_SEED={seed}, operation {done}, last {last:?}");
        }
    }
}

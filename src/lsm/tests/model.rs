//! Random histories: writes, range deletes, ingests, jobs that overlap in time or fail, reopening.
//!
//! Goal: whatever happens in whatever order, reads say what an ordered map says. Method: random
//! operations on a tree so small that a few of them reach every level; after each the structure is
//! checked, at the end everything that can be read.

use super::*;
use proptest::{collection::vec, prelude::*};

const KEYS: u32 = 400;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Write>),
    /// Starts a job while the manifest is told of what was written.
    WriteAndStart(Vec<Write>),
    Ingest(u32, u32, u16),
    /// Starts the next job, if any.
    Start(bool),
    /// Runs a started job without publishing what it made.
    Run(usize),
    /// Publishes what a job made.
    Publish(usize),
    /// Drops a job, run or not.
    Abandon(usize),
    Settle(bool),
    Reopen,
    Check,
}

/// One value in three is eight times as long, which makes most of the bytes.
fn value(len: usize, fill: u8) -> Vec<u8> {
    vec![fill; if len.is_multiple_of(3) { len * 8 } else { len }]
}

fn any_write() -> impl Strategy<Value = Write> {
    let put = (0..KEYS, 0..120usize, any::<u8>());
    prop_oneof![
        60 => put.prop_map(|(k, len, fill)| Write::Put(key(k), value(len, fill))),
        20 => (0..KEYS).prop_map(|k| Write::Delete(key(k))),
        5 => (0..KEYS, 1..KEYS / 2).prop_map(|(k, n)| Write::DeleteRange(key(k), Some(key(k + n)))),
        1 => (0..KEYS).prop_map(|k| Write::DeleteRange(key(k), None)),
    ]
}

/// Writes near each other, so that some flushes fit below others.
fn near_writes() -> impl Strategy<Value = Vec<Write>> {
    (0..KEYS, vec((0..40u32, 0..120usize, any::<u8>()), 1..60)).prop_map(|(start, puts)| {
        puts.into_iter()
            .map(|(k, len, fill)| Write::Put(key(start + k), value(len, fill)))
            .collect()
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => vec(any_write(), 1..80).prop_map(Step::Write),
        3 => near_writes().prop_map(Step::Write),
        3 => near_writes().prop_map(Step::WriteAndStart),
        1 => (0..KEYS, 1..100u32, any::<u16>()).prop_map(|(at, n, fill)| Step::Ingest(at, n, fill)),
        6 => any::<bool>().prop_map(Step::Start),
        5 => (0..3usize).prop_map(Step::Run),
        5 => (0..3usize).prop_map(Step::Publish),
        1 => (0..3usize).prop_map(Step::Abandon),
        1 => any::<bool>().prop_map(Step::Settle),
        1 => Just(Step::Reopen),
        1 => Just(Step::Check),
    ]
}

/// A host with up to three jobs under way.
struct Run {
    host: Host,
    jobs: Vec<(Box<dyn Job>, Option<Change>)>,
}

impl Run {
    fn step(&mut self, step: &Step) {
        let host = &mut self.host;
        match step {
            Step::Write(writes) => host.write(writes),
            Step::WriteAndStart(writes) => {
                let change = host.absorb(writes);
                let (home, jobs) = (host.home.clone(), &mut self.jobs);
                host.publish_slowly(change, || jobs.extend(home.next_job(true).map(|j| (j, None))));
            }
            Step::Ingest(at, count, fill) => {
                let entries = (*at..at + count).map(|k| (key(k), fill.to_le_bytes().to_vec()));
                host.ingest(&entries.collect());
            }
            Step::Start(idle) if self.jobs.len() < 3 => {
                self.jobs.extend(host.home.next_job(*idle).map(|job| (job, None)));
            }
            Step::Run(at) => {
                if let Some((job, made)) = self.jobs.get_mut(*at) {
                    *made = Some(job.run(&host.shop).unwrap());
                }
            }
            Step::Publish(at) => {
                if let Some((_, made)) = self.jobs.get_mut(*at)
                    && let Some(change) = made.take()
                {
                    host.publish(change);
                    self.jobs.remove(*at);
                }
            }
            Step::Abandon(at) if *at < self.jobs.len() => {
                self.jobs.remove(*at);
            }
            Step::Settle(idle) => {
                self.jobs.clear();
                host.settle(*idle);
                assert!(host.home.next_job(*idle).is_none());
            }
            Step::Reopen => {
                self.jobs.clear();
                host.reopen();
            }
            Step::Check => host.check(),
            Step::Start(_) | Step::Abandon(_) => {}
        }
    }
}

fn options() -> impl Strategy<Value = LsmOptions> {
    use crate::Compression::{Lz4, None};
    let how = prop_oneof![Just((None, None)), Just((None, Lz4)), Just((Lz4, Lz4))];
    let numbers = (2..5u32, 2..4u32, any::<bool>(), any::<bool>());
    (how, numbers).prop_map(|((hot, cold), (merge, growth, hits, lends))| {
        let options = if lends { lending().separate_values(20) } else { tiny() };
        let options = options.hot_compression(hot).compression(cold);
        options.merge_at(merge).growth(growth).expect_hits(hits)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn reads_what_an_ordered_map_reads(options in options(), steps in vec(any_step(), 1..120)) {
        let mut run = Run { host: Host::new(&options), jobs: Vec::new() };
        steps.iter().for_each(|step| run.step(step));
        run.jobs.clear();
        run.host.check();
        run.host.settle(false);
        run.host.check();
        run.host.settle(true);
        run.host.check();
        run.host.reopen();
        run.host.check();
        prop_assert!(run.host.levels().fresh().len() <= 1);
    }
}

#[test]
fn long_histories_reach_every_level() {
    let mut host = Host::new(&tiny());
    let mut random = Random(7);
    let mut deepest_base = 6;
    for round in 0..150 {
        let writes: Vec<Write> = (0..60)
            .map(|_| match random.below(20) {
                0 => {
                    let start = random.below(4000);
                    Write::DeleteRange(key(start), Some(key(start + random.below(80))))
                }
                1..4 => Write::Delete(key(random.below(4000))),
                _ => Write::Put(key(random.below(4000)), vec![round as u8; 60]),
            })
            .collect();
        host.write(&writes);
        host.settle(false);
        deepest_base = deepest_base.min(host.levels().shape().base);
        if round % 50 == 49 {
            host.check();
        }
    }
    assert!(deepest_base <= 3, "only down to level {deepest_base}: {:?}", host.shape());
    assert!(host.shape()[4] > 0 && host.shape()[5] > 0 && host.shape()[6] > 0);
}

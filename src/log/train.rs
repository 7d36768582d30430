//! The fsync train: any number of threads that wait for durability share syncs.
//!
//! Who needs a position to be durable either finds it covered, or boards: if a sync is under way
//! it waits for that one to arrive and looks again, else it drives the next one itself, for all
//! that is appended at that moment. While one sync is under way the next group forms by itself;
//! there is no leader, no queue and no timer, and a lone writer hands nothing to anybody. Nobody
//! holds a lock while syncing, and appending takes none of the train's but when a segment fills.
//!
//! Disks take more than one sync at a time, so who comes while one is under way need not wait for
//! it: there are a few lanes, and a train may leave on each. Trains arrive in the order in which
//! they left, so a position counts as durable only after all before it.
//!
//! After a failed sync, nothing is known about what was written before it (Linux marks the pages
//! clean and forgets them: Rebello et al., "Can Applications Recover from fsync Failures?", ATC
//! 2020). So the first failure poisons the log for good and no sync is tried again. A file handle
//! hears of each failure once; so each lane has a handle of its own, and none gets another's news.
//!
//! [`Station`] is the state and its transitions, free of threads and files, so that a test can
//! try every interleaving; [`Train`] adds the lock, the waiting and the syncing.

use super::format::{Position, SegmentId, segment_name};
use crate::{
    Error, ErrorKind, Result,
    vfs::{File, SyncKind},
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How many syncs may be under way at once.
pub(super) const LANES: usize = 2;
/// The longest a driver waits for others.
const PATIENCE_MAX: Duration = Duration::from_millis(1);

/// One file, opened for each lane.
pub(super) type Handles = [Arc<dyn File>; LANES];

/// The state that boarding and arriving threads share.
#[derive(Clone, Debug)]
struct Station<F> {
    synced: Position,
    /// The trains that have not arrived, in the order in which they leave.
    under_way: VecDeque<Leaving>,
    /// The segments that may have unsynced bytes, oldest first.
    unsynced: VecDeque<(SegmentId, F)>,
    failed: Option<Error>,
    /// A sync has failed: whatever another one says, nobody knows what is durable.
    has_lost: bool,
}

/// A train that has not arrived.
#[derive(Clone, Debug)]
struct Leaving {
    lane: usize,
    /// How far it takes the log; `None` while it waits at the station, and then takes everybody.
    target: Option<Position>,
    /// How it went, if those before it are still under way.
    result: Option<Result<()>>,
}

/// What a thread that wants a position durable has to do.
#[derive(Debug)]
enum Board {
    Covered,
    /// Look again when the train on this lane has arrived: it takes us, or all lanes are taken.
    Wait(usize),
    /// Call [`Station::depart`], sync what it says, and then report to [`Station::arrive`].
    Drive(usize),
    Failed(Error),
}

/// What to sync, in this order.
#[derive(Clone, Debug)]
struct Trip<F> {
    lane: usize,
    files: Vec<(SegmentId, F)>,
}

impl<F: Clone> Station<F> {
    fn new(synced: Position) -> Self {
        let (under_way, unsynced) = (VecDeque::new(), VecDeque::new());
        Self { synced, under_way, unsynced, failed: None, has_lost: false }
    }

    /// Asks for all up to `upto` to be durable.
    fn board(&mut self, upto: Position) -> Board {
        if upto <= self.synced {
            return Board::Covered;
        }
        if let Some(error) = &self.failed {
            return Board::Failed(error.clone());
        }
        let takes_us = |train: &Leaving| train.target.is_none_or(|target| upto <= target);
        let is_free = |lane: &usize| self.under_way.iter().all(|train| train.lane != *lane);
        if let Some(train) = self.under_way.iter().find(|train| takes_us(train)) {
            return Board::Wait(train.lane);
        }
        let Some(lane) = (0..LANES).find(is_free) else {
            return Board::Wait(self.under_way.front().map_or(0, |train| train.lane));
        };
        self.under_way.push_back(Leaving { lane, target: None, result: None });
        Board::Drive(lane)
    }

    /// The train on `lane` leaves for `reach`, which was appended before this state was locked, so
    /// that the segments up to it are known.
    fn depart(&mut self, lane: usize, reach: Position) -> Trip<F> {
        if let Some(train) = self.under_way.iter_mut().find(|train| train.lane == lane) {
            train.target = Some(reach);
        }
        let within_reach = self.unsynced.iter().take_while(|(id, _)| *id <= reach.segment());
        Trip { lane, files: within_reach.cloned().collect() }
    }

    /// The sync on `lane` has ended: says on which lanes trains have arrived. What it made durable
    /// counts even if a write failed since.
    fn arrive(&mut self, lane: usize, result: Result<()>) -> [bool; LANES] {
        let mut arrived = [false; LANES];
        if let Err(cause) = &result {
            self.has_lost = true;
            drop(self.fail(cause));
        }
        if let Some(train) = self.under_way.iter_mut().find(|train| train.lane == lane) {
            train.result = Some(result);
        }
        while let Some(train) = self.under_way.pop_front_if(|train| train.result.is_some()) {
            arrived[train.lane % LANES] = true;
            if let (Some(Ok(())), Some(target), false) = (train.result, train.target, self.has_lost)
            {
                self.reach(target);
            }
        }
        arrived
    }

    /// All up to `target` is durable.
    fn reach(&mut self, target: Position) {
        self.synced = self.synced.max(target);
        while self.unsynced.front().is_some_and(|(id, _)| *id < target.segment()) {
            self.unsynced.pop_front();
        }
    }

    /// The first failure stays.
    fn fail(&mut self, cause: &Error) -> Error {
        let first = self.failed.get_or_insert_with(|| {
            let text = format!(
                "the log takes no more writes, because it {cause}; \
                 open the database again to find out what survived"
            );
            Error::new(ErrorKind::Poisoned, text)
        });
        first.clone()
    }
}

/// Shares syncs of the log among threads.
#[derive(Debug)]
pub(super) struct Train {
    appended: AtomicU64,
    /// A copy of the station's, to be read without its lock. It never runs ahead.
    synced: AtomicU64,
    has_failed: AtomicBool,
    /// Not `parking_lot`'s: that wakes waiters one by one, each by the one before, and the last
    /// of many would miss the next train.
    station: Mutex<Station<Handles>>,
    arrived: [Condvar; LANES],
    crowd: Crowd,
    syncs: AtomicU64,
    rides: AtomicU64,
}

impl Train {
    /// A log whose first segment is durable up to `synced`.
    pub(super) fn new(synced: Position, handles: Handles) -> Self {
        let mut station = Station::new(synced);
        station.unsynced.push_back((synced.segment(), handles));
        Self {
            appended: AtomicU64::new(synced.raw()),
            synced: AtomicU64::new(synced.raw()),
            has_failed: AtomicBool::new(false),
            station: Mutex::new(station),
            arrived: std::array::from_fn(|_| Condvar::new()),
            crowd: Crowd::default(),
            syncs: AtomicU64::new(0),
            rides: AtomicU64::new(0),
        }
    }

    fn station(&self) -> MutexGuard<'_, Station<Handles>> {
        // A thread that panicked while it held the lock left the state whole: each change is one.
        self.station.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        station: MutexGuard<'a, Station<Handles>>,
        lane: usize,
    ) -> MutexGuard<'a, Station<Handles>> {
        self.arrived[lane % LANES].wait(station).unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on records may be appended to this segment.
    pub(super) fn add(&self, id: SegmentId, handles: Handles) {
        self.station().unsynced.push_back((id, handles));
    }

    /// Nobody needs the segments before `below` any more: they are not worth a sync.
    pub(super) fn forget(&self, below: SegmentId) {
        let mut station = self.station();
        let gone = station.unsynced.partition_point(|(id, _)| *id < below);
        let files: Vec<_> = station.unsynced.drain(..gone).collect();
        drop(station);
        // Closing the last handle of a removed file frees its blocks, which takes long.
        drop(files);
    }

    /// All is written up to `end`; the segments it lies in were added before.
    #[inline]
    pub(super) fn publish(&self, end: Position) {
        self.appended.store(end.raw(), Ordering::Release);
    }

    #[inline]
    pub(super) fn appended(&self) -> Position {
        Position::from_raw(self.appended.load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn synced(&self) -> Position {
        Position::from_raw(self.synced.load(Ordering::Acquire))
    }

    /// Returns when all up to `upto` is durable. Which must have been appended.
    pub(super) fn sync_to(&self, upto: Position) -> Result<()> {
        self.sync(upto, |appended| appended)
    }

    /// [`Self::sync_to`] that leaves alone the segment being written, if `upto` is in one before.
    pub(super) fn sync_only_to(&self, upto: Position) -> Result<()> {
        self.sync(upto, |appended| match upto.segment() < appended.segment() {
            true => upto,
            false => appended,
        })
    }

    fn sync(&self, upto: Position, reach: impl Fn(Position) -> Position) -> Result<()> {
        debug_assert!(upto <= self.appended());
        if upto <= self.synced() {
            self.rides.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.crowd.boarding.fetch_add(1, Ordering::Relaxed);
        self.travel(upto, reach)
    }

    fn travel(&self, upto: Position, reach: impl Fn(Position) -> Position) -> Result<()> {
        let mut drove = false;
        let mut station = self.station();
        loop {
            match station.board(upto.min(self.appended())) {
                Board::Covered => break,
                Board::Failed(error) => return Err(error),
                Board::Wait(lane) => station = self.wait(station, lane),
                Board::Drive(lane) => {
                    drop(station);
                    drove = true;
                    self.crowd.gather(lane);
                    // What is appended by then lies in segments that the station knows.
                    let trip = self.station().depart(lane, reach(self.appended()));
                    self.crowd.depart(lane);
                    self.drive(&trip);
                    station = self.station();
                }
            }
        }
        if !drove {
            self.rides.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn drive(&self, trip: &Trip<Handles>) {
        let mut arrival = Arrival { train: self, lane: trip.lane, result: None };
        let start = Instant::now();
        arrival.result = Some(sync_all(trip));
        self.crowd.took(start.elapsed());
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    fn arrive(&self, lane: usize, result: Result<()>) {
        let mut station = self.station();
        let arrived = station.arrive(lane, result);
        self.synced.store(station.synced.raw(), Ordering::Release);
        self.has_failed.store(station.failed.is_some(), Ordering::Release);
        for (waiters, has_arrived) in self.arrived.iter().zip(arrived) {
            if has_arrived {
                waiters.notify_all();
            }
        }
    }

    /// Ends all writing; the error is the one that everybody gets from now on.
    pub(super) fn poison(&self, cause: &Error) -> Error {
        let mut station = self.station();
        let error = station.fail(cause);
        self.has_failed.store(true, Ordering::Release);
        self.arrived.iter().for_each(Condvar::notify_all);
        error
    }

    pub(super) fn poisoned(&self) -> Option<Error> {
        if self.has_failed.load(Ordering::Acquire) {
            return self.station().failed.clone();
        }
        None
    }

    /// How many syncs there were, and how many calls were covered by another call's.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.syncs.load(Ordering::Relaxed), self.rides.load(Ordering::Relaxed))
    }
}

/// Who waits for a train, and who may be expected to.
///
/// When a train arrives, all its passengers are on their way back to the station at once; one that
/// left with the first of them would be nearly empty, and the others would wait for another. So
/// where there was a crowd, the driver gives it a moment to come back: at most half as long as a
/// sync takes, and none for a lone writer.
#[derive(Debug, Default)]
struct Crowd {
    /// Threads that came to the station since the last train left.
    boarding: AtomicU64,
    /// How many the last train on each lane took along.
    expected: [AtomicU64; LANES],
    /// How long the last sync took.
    sync_nanos: AtomicU64,
}

impl Crowd {
    /// Waits for as many as last time.
    fn gather(&self, lane: usize) {
        let expected = self.expected(lane).load(Ordering::Relaxed);
        if expected <= 1 {
            return;
        }
        let patience = Duration::from_nanos(self.sync_nanos.load(Ordering::Relaxed) / 2);
        let start = Instant::now();
        while self.boarding.load(Ordering::Relaxed) < expected && start.elapsed() < patience {
            std::thread::yield_now();
        }
    }

    fn depart(&self, lane: usize) {
        let aboard = self.boarding.swap(0, Ordering::Relaxed);
        self.expected(lane).store(aboard, Ordering::Relaxed);
    }

    fn expected(&self, lane: usize) -> &AtomicU64 {
        &self.expected[lane % LANES]
    }

    fn took(&self, time: Duration) {
        let nanos = time.min(PATIENCE_MAX * 2).as_nanos() as u64;
        self.sync_nanos.store(nanos, Ordering::Relaxed);
    }
}

/// Reports the end of a sync even if the file's code panicked, so that nobody waits for ever.
struct Arrival<'a> {
    train: &'a Train,
    lane: usize,
    result: Option<Result<()>>,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let panicked = || Err(Error::new(ErrorKind::Io, "panicked while syncing"));
        self.train.arrive(self.lane, self.result.take().unwrap_or_else(panicked));
    }
}

fn sync_all(trip: &Trip<Handles>) -> Result<()> {
    for (id, handles) in &trip.files {
        let synced = handles[trip.lane % LANES].sync(SyncKind::Data);
        synced.map_err(|e| Error::io("sync the log", &segment_name(*id), e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Every interleaving of a few threads' steps, on a disk that forgets what was not synced.

    use super::*;
    use std::collections::{BTreeMap, HashSet};

    /// A segment: bytes written and bytes durable.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
    struct Disk(BTreeMap<SegmentId, (u64, u64)>);

    impl Disk {
        fn covers(&self, upto: Position) -> bool {
            self.0.iter().all(|(id, (written, durable))| {
                let need = if *id < upto.segment() { *written } else { upto.offset() };
                *id > upto.segment() || *durable >= need
            })
        }
    }

    #[derive(Clone, Debug)]
    enum Doing {
        Append,
        /// The rest of an append: the bytes are written, their end is not published yet.
        Publish(Position),
        Board(Position),
        /// For the train on a lane.
        Wait(Position, usize),
        /// The train on this lane is about to leave.
        Depart(Position, usize),
        /// Syncing the trip's files, the next one being the numbered.
        Sync(Position, Trip<SegmentId>, usize),
        Done,
    }

    #[derive(Clone, Debug)]
    struct World {
        disk: Disk,
        station: Station<SegmentId>,
        appended: Position,
        /// Who is between writing and publishing: the Db's commit lock.
        writer: Option<usize>,
        end: Position,
        threads: Vec<(Doing, u32)>,
        /// The sync that fails, counted down.
        fails_in: u32,
        lost: bool,
        lost_in: Option<SegmentId>,
        /// Segments and lanes: handles other than the one that failed, which have yet to hear.
        news: Vec<(SegmentId, usize)>,
    }

    impl World {
        fn new(threads: usize, rounds: u32, fails_in: u32) -> Self {
            let start = Position::new(1, 0);
            let mut station = Station::new(start);
            station.unsynced.push_back((1, 1));
            Self {
                disk: Disk(BTreeMap::from([(1, (0, 0))])),
                station,
                appended: start,
                writer: None,
                end: start,
                threads: vec![(Doing::Append, rounds); threads],
                fails_in,
                lost: false,
                lost_in: None,
                news: Vec::new(),
            }
        }

        /// Takes thread `n` one step further; `false` if it cannot go now.
        fn step(&mut self, n: usize) -> bool {
            let (doing, rounds) = self.threads[n].clone();
            let next = match doing {
                Doing::Done | Doing::Wait(..) => return false,
                Doing::Append if self.writer.is_some() => return false,
                Doing::Append => {
                    self.writer = Some(n);
                    Doing::Publish(self.write())
                }
                Doing::Publish(end) => {
                    self.appended = end;
                    self.writer = None;
                    Doing::Board(end)
                }
                Doing::Board(upto) => self.board(upto),
                Doing::Depart(upto, lane) => {
                    Doing::Sync(upto, self.station.depart(lane, self.appended), 0)
                }
                Doing::Sync(upto, trip, at) => self.sync(upto, trip, at),
            };
            self.threads[n] = match next {
                Doing::Done if rounds > 1 => (Doing::Append, rounds - 1),
                next => (next, rounds),
            };
            true
        }

        /// Appends one byte; a segment holds two.
        fn write(&mut self) -> Position {
            let mut id = self.end.segment();
            if self.end.offset() == 2 {
                id += 1;
                self.disk.0.insert(id, (0, 0));
                self.station.unsynced.push_back((id, id));
            }
            let segment = self.disk.0.get_mut(&id).unwrap();
            segment.0 += 1;
            self.end = Position::new(id, segment.0);
            self.end
        }

        fn board(&mut self, upto: Position) -> Doing {
            match self.station.board(upto) {
                Board::Covered => {
                    assert!(self.disk.covers(upto), "{upto:?} is not durable: {self:?}");
                    Doing::Done
                }
                Board::Wait(lane) => Doing::Wait(upto, lane),
                Board::Drive(lane) => Doing::Depart(upto, lane),
                Board::Failed(_) => {
                    assert!(self.lost, "failed for nothing: {self:?}");
                    Doing::Done
                }
            }
        }

        fn sync(&mut self, upto: Position, trip: Trip<SegmentId>, at: usize) -> Doing {
            let mut result = Ok(());
            if let Some((id, _)) = trip.files.get(at) {
                self.fails_in = self.fails_in.saturating_sub(1);
                if self.fails_in == 0 && !self.lost {
                    (self.lost, self.lost_in) = (true, Some(*id));
                    let others = (0..LANES).filter(|lane| *lane != trip.lane);
                    self.news = others.map(|lane| (*id, lane)).collect();
                    result = Err(Error::new(ErrorKind::Io, "failed"));
                } else if self.news.contains(&(*id, trip.lane)) {
                    self.news.retain(|news| *news != (*id, trip.lane));
                    result = Err(Error::new(ErrorKind::Io, "failed before"));
                } else {
                    let segment = self.disk.0.get_mut(id).unwrap();
                    // What was marked clean is not written any more.
                    segment.1 = if self.lost_in == Some(*id) { segment.1 } else { segment.0 };
                    return Doing::Sync(upto, trip, at + 1);
                }
            }
            let arrived = self.station.arrive(trip.lane, result);
            for (doing, _) in &mut self.threads {
                if let Doing::Wait(upto, lane) = *doing
                    && arrived[lane]
                {
                    *doing = Doing::Board(upto);
                }
            }
            Doing::Board(upto)
        }
    }

    /// Visits every state that can be reached; returns how many there are.
    fn explore(world: World) -> usize {
        let mut seen = HashSet::new();
        let mut open = vec![world];
        while let Some(world) = open.pop() {
            if !seen.insert(format!("{world:?}")) {
                continue;
            }
            let mut stuck = true;
            for n in 0..world.threads.len() {
                let mut next = world.clone();
                if next.step(n) {
                    stuck = false;
                    open.push(next);
                }
            }
            let done = world.threads.iter().all(|(doing, _)| matches!(doing, Doing::Done));
            assert!(!stuck || done, "nobody can go on: {world:?}");
            if done && !world.lost {
                assert!(world.disk.covers(world.end));
            }
        }
        seen.len()
    }

    #[test]
    fn every_interleaving_covers_what_it_promises() {
        for (threads, rounds) in [(1, 5), (2, 3), (3, 1), (4, 1)] {
            assert!(explore(World::new(threads, rounds, u32::MAX)) > 10);
        }
    }

    #[test]
    fn every_failing_sync_reaches_everybody() {
        for fails_in in 1..6 {
            explore(World::new(2, 3, fails_in));
            explore(World::new(3, 1, fails_in));
        }
    }

    #[test]
    fn a_failed_write_outlasts_the_sync_under_way() {
        let end = Position::new(1, 8);
        let mut station = Station::new(Position::new(1, 0));
        station.unsynced.push_back((1, 1));
        assert!(matches!(station.board(end), Board::Drive(0)));
        station.depart(0, end);
        drop(station.fail(&Error::new(ErrorKind::Io, "could not write")));
        station.arrive(0, Ok(()));
        assert!(matches!(station.board(end), Board::Covered), "it is durable");
        let later = Position::new(1, 16);
        assert!(matches!(station.board(later), Board::Failed(_)));
    }

    #[test]
    fn trains_arrive_in_the_order_in_which_they_left() {
        let at = |offset| Position::new(1, offset);
        let mut station = Station::new(at(0));
        station.unsynced.push_back((1, 1));
        assert!(matches!(station.board(at(8)), Board::Drive(0)));
        assert!(matches!(station.board(at(16)), Board::Wait(0)), "it takes everybody");
        station.depart(0, at(16));
        assert!(matches!(station.board(at(16)), Board::Wait(0)), "it is aboard");
        assert!(matches!(station.board(at(24)), Board::Drive(1)));
        station.depart(1, at(24));
        assert!(matches!(station.board(at(32)), Board::Wait(0)), "no lane is free");
        station.arrive(1, Ok(()));
        assert_eq!(station.synced, at(0), "the one before may still fail");
        assert!(matches!(station.board(at(24)), Board::Wait(1)));
        let mut fails = station.clone();
        station.arrive(0, Ok(()));
        assert_eq!((station.synced, station.under_way.len()), (at(24), 0));
        fails.arrive(0, Err(Error::new(ErrorKind::Io, "failed")));
        assert_eq!(fails.synced, at(0));
        assert!(matches!(fails.board(at(8)), Board::Failed(_)));
    }

    #[derive(Debug)]
    struct Panics;

    impl File for Panics {
        fn read_at(&self, _: &mut [u8], _: u64) -> std::io::Result<usize> {
            Ok(0)
        }
        fn write_at(&self, buf: &[u8], _: u64) -> std::io::Result<usize> {
            Ok(buf.len())
        }
        fn size(&self) -> std::io::Result<u64> {
            Ok(0)
        }
        fn set_len(&self, _: u64) -> std::io::Result<()> {
            Ok(())
        }
        fn allocate(&self, _: u64) -> std::io::Result<()> {
            Ok(())
        }
        fn sync(&self, _: SyncKind) -> std::io::Result<()> {
            panic!("on purpose")
        }
    }

    #[test]
    fn a_panic_while_syncing_leaves_nobody_waiting() {
        let handles = std::array::from_fn(|_| Arc::new(Panics) as Arc<dyn File>);
        let train = Train::new(Position::new(1, 64), handles);
        let end = Position::new(1, 128);
        train.publish(end);
        std::thread::scope(|scope| assert!(scope.spawn(|| train.sync_to(end)).join().is_err()));
        assert_eq!(train.sync_to(end).unwrap_err().kind(), ErrorKind::Poisoned);
        assert!(train.poisoned().is_some());
        assert!(train.sync_to(Position::new(1, 64)).is_ok(), "what was durable still is");
    }
}

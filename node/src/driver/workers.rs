//! Threads that answer calls of other nodes: as many at once as there are processors, and more where those wait for something.
//!
//! Why not a thread for each call: to wake one costs more than most functions take. Calls that come together are taken one after
//! the other by threads that are awake. A thread that waits for a disk or another node says so, and another goes on; one that a
//! function keeps busy for longer than [`STALL_MS`] is found out by whoever looks then (see [`Workers::look`]).

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::quic::block_on_with;

/// After so long without one being taken, calls that wait get another thread.
pub(super) const STALL_MS: u64 = 1;
/// A thread that has had nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(10);

/// What a thread is to do.
pub(super) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See the module's front page.
#[derive(Debug)]
pub(super) struct Workers {
    state: Mutex<State>,
    wake: Condvar,
    at_once: usize,
    threads_max: usize,
    /// Begins a thread.
    begin: fn(Arc<Workers>) -> io::Result<()>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Threads that wait for a job, without those that were told of one.
    idle: usize,
    /// Threads that wait in the middle of one.
    parked: usize,
    /// Threads that were told of a job and have not woken yet.
    told: usize,
    /// Somebody looks soon whether jobs still wait.
    is_watched: bool,
    /// No thread could be begun, and that was said.
    has_complained: bool,
}

impl Workers {
    pub(super) fn new(threads_max: usize) -> Workers {
        let processors = thread::available_parallelism().map_or(2, usize::from);
        Workers {
            state: Mutex::default(),
            wake: Condvar::new(),
            at_once: processors.max(2),
            threads_max,
            begin,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a job done. Whether somebody has to [`look`](Workers::look) in [`STALL_MS`].
    #[must_use]
    pub(super) fn submit(self: &Arc<Self>, job: Job) -> bool {
        let mut state = self.lock();
        state.jobs.push_back(job);
        if state.running() < self.at_once && self.one_more(&mut state) {
            return false;
        }
        !std::mem::replace(&mut state.is_watched, true)
    }

    /// Whether jobs still wait, so that somebody has to look again: those that should take them may be kept busy.
    #[must_use]
    pub(super) fn look(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        state.is_watched = !state.jobs.is_empty();
        if state.is_watched {
            // Whether or not that comes, somebody looks again.
            let _ = self.one_more(&mut state);
        }
        state.is_watched
    }

    /// Whether a thread comes for what waits, or there are as many as there may be: no other attempt is of use.
    fn one_more(self: &Arc<Self>, state: &mut State) -> bool {
        if state.idle > 0 {
            state.idle -= 1;
            state.told += 1;
            self.wake.notify_one();
        } else if state.threads < self.threads_max {
            if let Err(error) = (self.begin)(Arc::clone(self)) {
                if !std::mem::replace(&mut state.has_complained, true) {
                    tracing::warn!("no thread for a call, which waits for one: {error}");
                }
                return false;
            }
            state.has_complained = false;
            state.threads += 1;
        }
        true
    }

    fn run(self: Arc<Self>) {
        let ending = Ending(&self);
        while let Some(job) = self.next() {
            block_on_with(job, || self.park());
        }
        // Who ends for want of a job is not counted any more.
        std::mem::forget(ending);
    }

    /// The next job; none where there has been nothing to do for long.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let waited = self.wake.wait_timeout_while(state, IDLE, |state| state.told == 0);
            let (back, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state = back;
            if state.told == 0 {
                state.idle -= 1;
                state.threads -= 1;
                return None;
            }
            state.told -= 1;
        }
    }

    /// Waits in the middle of a job, with its place left to another.
    fn park(self: &Arc<Self>) {
        let mut state = self.lock();
        state.parked += 1;
        if !state.jobs.is_empty() && state.running() < self.at_once {
            // Somebody looks after those that wait.
            let _ = self.one_more(&mut state);
        }
        drop(state);
        thread::park();
        self.lock().parked -= 1;
    }
}

fn begin(workers: Arc<Workers>) -> io::Result<()> {
    let thread = thread::Builder::new().name("anabranch-calls".into());
    thread.spawn(move || workers.run()).map(drop)
}

impl State {
    /// Threads that are at work, or about to be.
    fn running(&self) -> usize {
        self.threads - self.idle - self.parked
    }
}

/// A thread that a panic ends.
struct Ending<'a>(&'a Workers);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("jobs", &self.jobs.len())
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tokio::sync::oneshot;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn workers() -> Arc<Workers> {
        Arc::new(Workers {
            at_once: 2,
            ..Workers::new(8)
        })
    }

    fn says(done: &Sender<u32>, n: u32) -> Job {
        let done = done.clone();
        Box::pin(async move { done.send(n).unwrap() })
    }

    /// A job that keeps its thread busy until it is let go.
    fn busy(done: &Sender<u32>) -> (Job, Sender<()>) {
        let (let_go, held) = channel();
        let done = done.clone();
        let job = Box::pin(async move {
            done.send(0).unwrap();
            let _: Result<(), _> = held.recv();
        });
        (job, let_go)
    }

    fn heard(done: &Receiver<u32>) -> u32 {
        done.recv_timeout(PATIENCE).unwrap()
    }

    #[test]
    fn jobs_that_come_together_are_done_by_few_threads() {
        let (workers, (done, all)) = (workers(), channel());
        for n in 0..1_000 {
            if workers.submit(says(&done, n)) {
                while workers.look() {
                    thread::yield_now();
                }
            }
        }
        let mut heard: Vec<u32> = (0..1_000).map(|_| heard(&all)).collect();
        heard.sort_unstable();
        assert!(heard.into_iter().eq(0..1_000));
        assert!(workers.lock().threads <= 8);
    }

    #[test]
    fn threads_that_functions_keep_busy_are_found_out() {
        let (workers, (done, all)) = (workers(), channel());
        let mut held = Vec::new();
        for _ in 0..2 {
            let (job, let_go) = busy(&done);
            assert!(!workers.submit(job));
            assert_eq!(heard(&all), 0);
            held.push(let_go);
        }
        assert!(workers.submit(says(&done, 7)), "somebody has to look after it");
        assert!(!workers.submit(says(&done, 8)), "once is enough");
        assert!(all.try_recv().is_err());
        while workers.look() {
            thread::yield_now();
        }
        assert_eq!([heard(&all), heard(&all)], [7, 8]);
        drop(held);
    }

    #[test]
    fn a_thread_that_waits_leaves_its_place_to_another() {
        let (workers, (done, all)) = (workers(), channel());
        let mut held = Vec::new();
        for n in 1..=6 {
            let (let_go, waiting) = oneshot::channel::<()>();
            let (done, begun) = (done.clone(), says(&done, 0));
            let job = Box::pin(async move {
                begun.await;
                let _ = waiting.await;
                done.send(n).unwrap();
            });
            // One that is about to wait may still count as busy.
            if workers.submit(job) {
                while workers.look() {
                    thread::yield_now();
                }
            }
            assert_eq!(heard(&all), 0);
            held.push(let_go);
        }
        let is_settled = || {
            let state = workers.lock();
            state.parked == 6 && state.running() == 0
        };
        while !is_settled() {
            thread::yield_now();
        }
        assert!(!workers.submit(says(&done, 9)));
        assert_eq!(heard(&all), 9);
        drop(held);
        let mut ended: Vec<u32> = (0..6).map(|_| heard(&all)).collect();
        ended.sort_unstable();
        assert_eq!(ended, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_job_that_no_thread_could_be_begun_for_has_one_later() {
        static LEFT: AtomicU32 = AtomicU32::new(3);
        let fails = |workers| {
            let is_left = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            match is_left {
                Ok(_) => Err(io::Error::from(io::ErrorKind::WouldBlock)),
                Err(_) => begin(workers),
            }
        };
        let workers = Arc::new(Workers {
            begin: fails,
            ..Workers::new(8)
        });
        let (done, all) = channel();
        assert!(workers.submit(says(&done, 7)), "somebody has to look after it");
        while workers.look() {
            thread::yield_now();
        }
        assert_eq!(heard(&all), 7);
    }

    #[test]
    fn a_panic_ends_its_thread_and_nothing_else() {
        let (workers, (done, all)) = (workers(), channel());
        for n in 0..10 {
            assert!(!workers.submit(Box::pin(async { panic!("a bug of ours") })));
            while workers.lock().threads > 0 {
                thread::yield_now();
            }
            assert!(!workers.submit(says(&done, n)));
            assert_eq!(heard(&all), n);
            // Its thread waits for the next.
            while workers.lock().idle == 0 {
                thread::yield_now();
            }
            let (job, let_go) = busy(&done);
            assert!(!workers.submit(job));
            assert_eq!(heard(&all), 0);
            drop(let_go);
            while workers.lock().idle == 0 {
                thread::yield_now();
            }
            assert!(!workers.submit(Box::pin(async { panic!("another") })));
            while workers.lock().threads > 0 {
                thread::yield_now();
            }
        }
    }
}

//! Threads for what was left to be done: few of their own, and none while what is done waits for others.
//!
//! Not here: what is left, and by whom (`left`). Why threads of its own: nobody waits for it, so it is not to hold up what somebody does
//! wait for; and a function may block. Contract: what is taken is gone on with until it ends, by a thread that is there; what is not
//! taken is known at once, logged and counted.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::function::BoxFuture;

/// So many threads at most. What they do waits on none of them.
const THREADS_MAX: usize = 8;
/// So much may be left at a time, what waits included.
const TASKS_MAX: usize = 100_000;
/// Of so many bytes together, by what those say who leave it.
const BYTES_MAX: usize = 64 << 20;
/// What each takes besides.
const TASK_BYTES: usize = 512;
/// Calls that are begun for nobody and not ended yet, at most: other nodes answer no more of them at once than of all others.
const CALLS_MAX: usize = 64;
/// A thread that has had nothing to do for so long ends, but for the last while something is left.
const IDLE: Duration = Duration::from_secs(10);

/// See the module's front page.
#[derive(Debug)]
pub(super) struct LeftTasks {
    state: Mutex<State>,
    wake: Condvar,
    calls: Semaphore,
    refused: AtomicU64,
    /// Begins a thread.
    begin: fn(Arc<LeftTasks>) -> io::Result<()>,
}

#[derive(Default)]
struct State {
    /// Those that have something to do.
    ready: VecDeque<Arc<Task>>,
    /// All of them.
    tasks: usize,
    bytes: usize,
    threads: usize,
    /// Threads that have nothing to do, without those that were told of something.
    idle: usize,
    /// Threads that were told of something and have not woken yet.
    told: usize,
}

/// Something that was left to be done.
struct Task {
    of: Arc<LeftTasks>,
    bytes: usize,
    stage: Mutex<Stage>,
}

enum Stage {
    Waiting(BoxFuture<'static, ()>),
    /// A thread is to go on with it.
    Ready(BoxFuture<'static, ()>),
    /// One does; `true`: it was woken meanwhile.
    Running(bool),
    Over,
}

impl LeftTasks {
    pub(super) fn new() -> Arc<LeftTasks> {
        LeftTasks::with(begin)
    }

    fn with(begin: fn(Arc<LeftTasks>) -> io::Result<()>) -> Arc<LeftTasks> {
        Arc::new(LeftTasks {
            state: Mutex::default(),
            wake: Condvar::new(),
            calls: Semaphore::new(CALLS_MAX),
            refused: AtomicU64::new(0),
            begin,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has something done that holds so many bytes. Whether it is.
    #[must_use]
    pub(super) fn take(self: &Arc<Self>, what: &str, bytes: usize, left: BoxFuture<'static, ()>) -> bool {
        let bytes = bytes.saturating_add(TASK_BYTES);
        let mut state = self.lock();
        if state.tasks >= TASKS_MAX || state.bytes.saturating_add(bytes) > BYTES_MAX {
            // What it was is dropped with nothing locked: it may leave something in its turn.
            drop(state);
            return self.refuse(what, "too much waits to be done");
        }
        state.tasks += 1;
        state.bytes += bytes;
        let task = Arc::new(Task {
            of: Arc::clone(self),
            bytes,
            stage: Mutex::new(Stage::Ready(left)),
        });
        state.ready.push_back(Arc::clone(&task));
        match self.one_more(&mut state) {
            Err(error) if state.threads == 0 => {
                state.ready.pop_back();
                drop(state);
                self.refuse(what, &format!("there is no thread for it: {error}"))
            }
            // Where no other can be had, one that is there comes to it.
            _ => true,
        }
    }

    fn refuse(&self, what: &str, why: &str) -> bool {
        self.refused.fetch_add(1, Ordering::Relaxed);
        tracing::error!("{what}: not done, as {why}");
        false
    }

    /// What was not done, since the start.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// What is not done yet.
    pub(super) fn waiting(&self) -> usize {
        self.lock().tasks
    }

    /// Waits for a place among the calls that are made for nobody.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.calls.acquire().await.ok()
    }

    fn make_ready(self: &Arc<Self>, task: Arc<Task>) {
        let mut state = self.lock();
        state.ready.push_back(task);
        // Where no other thread can be had, one that is there comes to it.
        let _ = self.one_more(&mut state);
    }

    /// Has another thread come, if there may be one.
    fn one_more(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        if state.idle > 0 {
            state.idle -= 1;
            state.told += 1;
            self.wake.notify_one();
        } else if state.threads < THREADS_MAX {
            (self.begin)(Arc::clone(self))?;
            state.threads += 1;
        }
        Ok(())
    }

    fn run(&self) {
        while let Some(task) = self.next() {
            task.step();
        }
    }

    /// What to go on with; none where there has been nothing for long.
    fn next(&self) -> Option<Arc<Task>> {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.ready.pop_front() {
                return Some(task);
            }
            state.idle += 1;
            let waited = self.wake.wait_timeout_while(state, IDLE, |state| state.told == 0);
            let (back, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state = back;
            if state.told > 0 {
                state.told -= 1;
                continue;
            }
            state.idle -= 1;
            // Another might not be had once what waits is woken.
            if state.threads > 1 || state.tasks == 0 {
                state.threads -= 1;
                return None;
            }
        }
    }
}

fn begin(tasks: Arc<LeftTasks>) -> io::Result<()> {
    let thread = thread::Builder::new().name("anabranch-left".into());
    thread.spawn(move || tasks.run()).map(drop)
}

impl Task {
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with it until it waits or ends.
    fn step(self: Arc<Self>) {
        let Stage::Ready(mut future) = mem::replace(&mut *self.lock(), Stage::Running(false)) else {
            unreachable!("only what is ready is gone on with, by one thread");
        };
        let waker = Waker::from(Arc::clone(&self));
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut Context::from_waker(&waker))
        }));
        if !matches!(polled, Ok(Poll::Pending)) {
            // A panic has been told already, and ends nothing else.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
            *self.lock() = Stage::Over;
            return;
        }
        let mut stage = self.lock();
        if matches!(*stage, Stage::Running(true)) {
            *stage = Stage::Ready(future);
            drop(stage);
            self.of.make_ready(Arc::clone(&self));
        } else {
            *stage = Stage::Waiting(future);
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let mut stage = self.lock();
        match mem::replace(&mut *stage, Stage::Over) {
            Stage::Waiting(future) => {
                *stage = Stage::Ready(future);
                drop(stage);
                self.of.make_ready(Arc::clone(&self));
            }
            Stage::Running(_) => *stage = Stage::Running(true),
            other => *stage = other,
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        state.tasks -= 1;
        state.bytes -= self.bytes;
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("tasks", &self.tasks)
            .field("bytes", &self.bytes)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tokio::sync::oneshot;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn says(done: &Sender<u32>, n: u32) -> BoxFuture<'static, ()> {
        let done = done.clone();
        Box::pin(async move { done.send(n).unwrap() })
    }

    /// Says 0, waits, and says 1 once it is let go.
    fn waits(done: &Sender<u32>) -> (BoxFuture<'static, ()>, oneshot::Sender<()>) {
        let (let_go, waiting) = oneshot::channel();
        let (begins, ends) = (says(done, 0), says(done, 1));
        let left = async move {
            begins.await;
            let _ = waiting.await;
            ends.await;
        };
        (Box::pin(left), let_go)
    }

    fn heard(done: &Receiver<u32>) -> u32 {
        done.recv_timeout(PATIENCE).unwrap()
    }

    fn until_done(tasks: &LeftTasks) {
        while tasks.waiting() > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn what_waits_has_no_thread() {
        let (tasks, (done, all)) = (LeftTasks::new(), channel());
        let mut held = Vec::new();
        for _ in 0..1_000 {
            let (left, let_go) = waits(&done);
            assert!(tasks.take("it", 0, left));
            held.push(let_go);
        }
        for _ in 0..1_000 {
            assert_eq!(heard(&all), 0);
        }
        assert!(tasks.take("it", 0, says(&done, 2)));
        assert_eq!(heard(&all), 2);
        assert!(tasks.lock().threads <= THREADS_MAX);
        drop(held);
        for _ in 0..1_000 {
            assert_eq!(heard(&all), 1);
        }
        until_done(&tasks);
        assert_eq!((tasks.lock().bytes, tasks.refused()), (0, 0));
    }

    #[test]
    fn threads_that_are_kept_busy_are_not_all_there_are() {
        let (tasks, (done, all)) = (LeftTasks::new(), channel());
        let mut held = Vec::new();
        for _ in 1..THREADS_MAX {
            let (let_go, busy) = channel::<()>();
            let begins = says(&done, 0);
            let left = async move {
                begins.await;
                let _ = busy.recv();
            };
            assert!(tasks.take("it", 0, Box::pin(left)));
            assert_eq!(heard(&all), 0);
            held.push(let_go);
        }
        assert!(tasks.take("it", 0, says(&done, 2)));
        assert_eq!(heard(&all), 2);
        drop(held);
        until_done(&tasks);
    }

    #[test]
    fn what_would_be_too_much_is_refused_and_counted() {
        let (tasks, (done, all)) = (LeftTasks::new(), channel());
        let (left, let_go) = waits(&done);
        assert!(tasks.take("it", BYTES_MAX - 2 * TASK_BYTES, left));
        assert!(!tasks.take("it", TASK_BYTES, says(&done, 7)));
        assert_eq!(tasks.refused(), 1);
        assert!(tasks.take("it", 0, says(&done, 2)), "there is room for this");
        let mut both = [heard(&all), heard(&all)];
        both.sort_unstable();
        assert_eq!(both, [0, 2]);
        drop(let_go);
        assert_eq!(heard(&all), 1);
        until_done(&tasks);
        assert!(tasks.take("it", TASK_BYTES, says(&done, 3)));
        assert_eq!(heard(&all), 3);
    }

    #[test]
    fn what_no_thread_comes_to_is_not_taken() {
        static LEFT: AtomicU64 = AtomicU64::new(1);
        let tasks = LeftTasks::with(|tasks| {
            let fails = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            match fails {
                Ok(_) => Err(io::ErrorKind::WouldBlock.into()),
                Err(_) => begin(tasks),
            }
        });
        let (done, all) = channel();
        assert!(!tasks.take("it", 0, says(&done, 1)));
        assert_eq!((tasks.waiting(), tasks.refused()), (0, 1));
        assert!(tasks.take("it", 0, says(&done, 2)));
        assert_eq!(heard(&all), 2);
        // One that is there does what no other could be had for.
        LEFT.store(u64::MAX, Ordering::Relaxed);
        for n in 3..100 {
            assert!(tasks.take("it", 0, says(&done, n)));
        }
        assert!((3..100).all(|n| heard(&all) == n));
    }

    #[test]
    fn a_panic_ends_what_it_is_in_and_nothing_else() {
        let (tasks, (done, all)) = (LeftTasks::new(), channel());
        for n in 0..20 {
            assert!(tasks.take("it", 0, Box::pin(async { panic!("a bug of ours") })));
            assert!(tasks.take("it", 0, says(&done, n)));
            assert_eq!(heard(&all), n);
        }
        until_done(&tasks);
    }
}

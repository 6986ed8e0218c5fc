//! Who moves the packets: one thread, which does quick work that came with them in between, and another in its place where that
//! turns out to take long.
//!
//! Why: to hand work to another thread, and what it makes of it back, wakes two, which costs more than most such work. Why not in a
//! task: what blocks there blocks all packets, and for good where it waits for one. So the thread leaves the runtime for it; whoever
//! looks after [`AWAY_MS`] and again, and finds it at the same piece, begins another thread, which goes on with the packets.
//!
//! Contract: one thread at a time moves packets, so events stay in order. Work is done outside of the runtime and with nothing
//! locked. What was taken is done, also while the transport closes.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::{io, thread};

use tokio::runtime::Runtime;

use crate::transport::alarm::Alarm;
use crate::transport::limits::WORK_MAX;

/// What is quick to do.
pub type Work = Box<dyn FnOnce() + Send>;

/// See the module's front page.
pub(super) struct Drive {
    alarm: Arc<Alarm>,
    state: Mutex<State>,
}

/// What moves packets. Whoever has it is the one thread that does.
pub(super) struct Reactor {
    pub(super) runtime: Runtime,
    /// The transport's life.
    pub(super) main: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What is left to do after it.
    pub(super) after: Box<dyn FnOnce(Runtime) + Send>,
}

#[derive(Default)]
struct State {
    work: VecDeque<Work>,
    /// Has the thread leave the runtime.
    leave: Option<Waker>,
    /// While its thread is at work.
    left: Option<Reactor>,
    /// Pieces of work that were begun with.
    begun: u64,
    /// How many those were when somebody looked last.
    looked_at: u64,
    /// Somebody looks soon.
    is_watched: bool,
    /// No work is taken any more.
    is_closing: bool,
}

impl Drive {
    pub(super) fn new(alarm: Arc<Alarm>) -> Arc<Drive> {
        let state = Mutex::default();
        Arc::new(Drive { alarm, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes work that is done once the packets at hand are read, or gives it back. Whether somebody has to
    /// [`look`](Drive::look) in [`super::AWAY_MS`].
    pub(super) fn push(&self, work: Work) -> Result<bool, Work> {
        let mut state = self.lock();
        if state.is_closing || state.work.len() >= WORK_MAX {
            return Err(work);
        }
        state.work.push_back(work);
        let leave = state.leave.take();
        let must_look = !std::mem::replace(&mut state.is_watched, true);
        drop(state);
        if let Some(leave) = leave {
            leave.wake();
        }
        Ok(must_look)
    }

    /// Whether there is still work, so that somebody has to look again.
    pub(super) fn look(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        let is_stuck = state.left.is_some() && state.looked_at == state.begun;
        state.looked_at = state.begun;
        state.is_watched = state.left.is_some() || !state.work.is_empty();
        let look_again = state.is_watched;
        drop(state);
        if is_stuck {
            self.relieve();
        }
        look_again
    }

    /// Takes no more work, and lets none keep the transport from its end.
    pub(super) fn close(self: &Arc<Self>) {
        let mut state = self.lock();
        state.is_closing = true;
        let is_left = state.left.is_some();
        drop(state);
        if is_left {
            self.relieve();
        }
    }

    /// Moves packets until the transport has ended, or another thread does.
    pub(super) fn run(self: &Arc<Self>, mut reactor: Reactor) {
        let _guard = self.alarm.guard();
        loop {
            let Reactor { runtime, main, .. } = &mut reactor;
            let is_over = runtime.block_on(poll_fn(|context| self.poll(main.as_mut(), context)));
            if is_over {
                return (reactor.after)(reactor.runtime);
            }
            match self.work(reactor) {
                Some(back) => reactor = back,
                None => return,
            }
        }
    }

    /// Ready where the runtime is to be left: for good, or for work.
    fn poll(
        &self,
        main: Pin<&mut (dyn Future<Output = ()> + Send)>,
        context: &mut Context<'_>,
    ) -> Poll<bool> {
        if main.poll(context).is_ready() {
            return Poll::Ready(true);
        }
        let mut state = self.lock();
        if state.work.is_empty() {
            state.leave = Some(context.waker().clone());
            return Poll::Pending;
        }
        if !state.is_closing {
            return Poll::Ready(false);
        }
        // Nobody would look after a thread that it keeps.
        let work = std::mem::take(&mut state.work);
        drop(state);
        if let Err(error) = begin(move || work.into_iter().for_each(done)) {
            tracing::warn!("what was asked last is not answered, for want of a thread: {error}");
        }
        Poll::Pending
    }

    /// Does what there is to do. Nothing where another thread has the reactor then, and does the rest.
    fn work(&self, reactor: Reactor) -> Option<Reactor> {
        let mut state = self.lock();
        if state.is_closing {
            return Some(reactor);
        }
        state.left = Some(reactor);
        while state.left.is_some()
            && let Some(work) = state.work.pop_front()
        {
            state.begun += 1;
            drop(state);
            done(work);
            state = self.lock();
        }
        state.left.take()
    }

    /// Has another thread go on in place of one that is at work, unless that comes back first.
    fn relieve(self: &Arc<Self>) {
        let drive = Arc::clone(self);
        let begun = begin(move || {
            let left = drive.lock().left.take();
            if let Some(reactor) = left {
                drive.run(reactor);
            }
        });
        if let Err(error) = begun {
            tracing::warn!("packets wait for a function, for want of a thread: {error}");
        }
    }
}

/// Begins a thread of the network.
pub(super) fn begin(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name("anabranch-net".into());
    thread.spawn(run).map(drop)
}

/// A panic ends the piece that it is in, and nothing else: it has been told already.
fn done(work: Work) {
    let _ = catch_unwind(AssertUnwindSafe(work));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    struct Running {
        drive: Arc<Drive>,
        runtime: tokio::runtime::Handle,
        stop: oneshot::Sender<()>,
        ended: Receiver<()>,
        said: (Sender<u32>, Receiver<u32>),
    }

    fn start() -> Running {
        let drive = Drive::new(Alarm::new(Arc::new(|event| panic!("{event:?}"))));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (tell, ended) = channel();
        let reactor = Reactor {
            runtime,
            main: Box::pin(async move { stopped.await.unwrap() }),
            after: Box::new(move |_| tell.send(()).unwrap()),
        };
        let driving = drive.clone();
        begin(move || driving.run(reactor)).unwrap();
        let (runtime, said) = (handle, channel());
        Running {
            drive,
            runtime,
            stop,
            ended,
            said,
        }
    }

    impl Running {
        fn says(&self, n: u32) -> Work {
            let say = self.said.0.clone();
            Box::new(move || say.send(n).unwrap())
        }

        /// Work that says 0, and is done when it is let go.
        fn held(&self) -> (Work, Sender<()>) {
            let (say, (let_go, held)) = (self.said.0.clone(), channel());
            let work: Work = Box::new(move || {
                say.send(0).unwrap();
                let _: Result<(), _> = held.recv();
            });
            (work, let_go)
        }

        fn heard(&self) -> u32 {
            self.said.1.recv_timeout(PATIENCE).unwrap()
        }

        /// Says so from within the runtime.
        fn spawn(&self, n: u32) {
            let work = self.says(n);
            self.runtime.spawn(async move { work() });
        }

        fn end(self) {
            self.stop.send(()).unwrap();
            self.ended.recv_timeout(PATIENCE).unwrap();
        }
    }

    fn taken(pushed: Result<bool, Work>) -> bool {
        pushed.unwrap_or_else(|_| panic!("it was not taken"))
    }

    #[test]
    fn work_is_done_in_order_between_packets() {
        let all = start();
        let panics = Box::new(|| panic!("a bug of ours"));
        assert!(taken(all.drive.push(all.says(1))), "somebody has to look");
        taken(all.drive.push(panics));
        for n in 2..=100 {
            taken(all.drive.push(all.says(n)));
        }
        assert!((1..=100).all(|n| all.heard() == n));
        all.spawn(7);
        assert_eq!(all.heard(), 7);
        while all.drive.look() {
            thread::yield_now();
        }
        assert!(taken(all.drive.push(all.says(8))), "nobody looks any more");
        assert_eq!(all.heard(), 8);
        all.end();
    }

    #[test]
    fn another_thread_goes_on_in_place_of_one_that_is_kept_busy() {
        let all = start();
        let mut kept = Vec::new();
        for _ in 0..3 {
            let (work, let_go) = all.held();
            taken(all.drive.push(work));
            assert_eq!(all.heard(), 0);
            all.spawn(1);
            taken(all.drive.push(all.says(2)));
            assert!(all.said.1.try_recv().is_err());
            while all.drive.look() {
                thread::yield_now();
            }
            let mut both = [all.heard(), all.heard()];
            both.sort_unstable();
            assert_eq!(both, [1, 2]);
            kept.push(let_go);
        }
        drop(kept);
        all.spawn(3);
        assert_eq!(all.heard(), 3);
        all.end();
    }

    #[test]
    fn work_does_not_keep_the_transport_from_its_end() {
        let all = start();
        let (work, let_go) = all.held();
        taken(all.drive.push(work));
        assert_eq!(all.heard(), 0);
        taken(all.drive.push(all.says(1)));
        all.drive.close();
        assert_eq!(all.heard(), 1, "what was taken is done");
        assert!(all.drive.push(all.says(2)).is_err());
        all.end();
        drop(let_go);
    }

    #[test]
    fn no_more_work_is_taken_than_its_limit() {
        let all = start();
        let (work, let_go) = all.held();
        taken(all.drive.push(work));
        assert_eq!(all.heard(), 0);
        for _ in 0..WORK_MAX {
            taken(all.drive.push(Box::new(|| {})));
        }
        assert!(all.drive.push(all.says(1)).is_err());
        drop(let_go);
        all.end();
    }
}

//! Makes the calls that nobody else does: those of schedules, and those that tell functions of changes.
//!
//! Not here: when one is due, what was called for and what becomes of a call (`trigger`). Contract: one thread looks, and never
//! waits for a function: calls run on threads that may block. What has changed is noted under the engine's lock, so that a version
//! vector read there covers nothing that was not noted.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_crdt::ReplicaId;

use super::clock::wall_ms;
use super::quic::block_on;
use super::shared::Shared;
use super::spans;
use crate::engine::Time;
use crate::function::Function;
use crate::trigger::{Ended, Errand, Home, Interest, Moment, News, Next, Runner, state_of};
use crate::wire::EntityId;

/// The wall clock may be set; no later than after so long that is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// What the thread is to look at.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    interest: Interest,
    inbox: Mutex<Inbox>,
    wake: Condvar,
    /// What was seen to, and of that what was not answered and is seen to again.
    seen_to: AtomicU64,
    unanswered: AtomicU64,
}

#[derive(Debug, Default)]
struct Inbox {
    news: News,
    has_stopped: bool,
}

/// An errand under way. Dropped it has ended, answered or not: also where there was no thread for it.
struct UnderWay {
    shared: Arc<Shared>,
    errand: Errand,
    was_answered: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let ended = self.errand.ended(self.was_answered);
        self.shared.triggers.ended(ended, self.was_answered);
    }
}

impl Home for Shared {
    fn has_function(&self, kind: &str) -> bool {
        self.functions.has(kind)
    }

    fn state_of(&self, entity: &EntityId) -> u64 {
        self.peek(|engine| state_of(engine, entity))
    }
}

impl Triggers {
    pub(super) fn new(functions: &[Arc<Function>]) -> Triggers {
        Triggers {
            interest: Interest::of(functions),
            ..Triggers::default()
        }
    }

    /// Whether there is anything to look at here.
    pub(super) fn are_any(&self) -> bool {
        self.interest.is_any()
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often schedules and changes were seen to here, and how often in vain.
    fn counters(&self) -> [(&'static str, u64); 2] {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        [
            ("triggers", count(&self.seen_to)),
            ("triggers_unanswered", count(&self.unanswered)),
        ]
    }

    /// An entity has changed. Called with the engine locked.
    pub(super) fn note(&self, entity: &EntityId) {
        if self.interest.is_about(entity) {
            self.inbox().news.note(entity);
            self.wake.notify_one();
        }
    }

    /// Who is there may be others than before, or this node takes writes now.
    pub(super) fn look_around(&self) {
        if self.are_any() {
            self.inbox().news.look_around();
            self.wake.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        self.inbox().has_stopped = true;
        self.wake.notify_one();
    }

    fn ended(&self, ended: Ended, was_answered: bool) {
        self.seen_to.fetch_add(1, Ordering::Relaxed);
        self.unanswered
            .fetch_add(u64::from(!was_answered), Ordering::Relaxed);
        self.inbox().news.ended(ended);
        self.wake.notify_one();
    }

    /// Waits for something to do, at most so long; false once the node stops.
    fn wait(&self, left_ms: Option<u64>) -> bool {
        let left = left_ms.map_or(SLEEP_MAX, Duration::from_millis);
        let is_idle = |inbox: &mut Inbox| inbox.news.is_empty() && !inbox.has_stopped;
        let waited = self
            .wake
            .wait_timeout_while(self.inbox(), left.min(SLEEP_MAX), is_idle);
        let (inbox, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !inbox.has_stopped
    }
}

impl Shared {
    /// See [`Triggers::counters`].
    pub(crate) fn trigger_counters(&self) -> [(&'static str, u64); 2] {
        self.triggers.counters()
    }
}

/// Runs until the node stops.
pub(super) fn run(shared: &Arc<Shared>) {
    let _watch = shared.panic_watch();
    let about = &shared.about;
    let mut runner = Runner::new(&shared.triggers.interest, about.node, about.shards, now(shared));
    let mut left_ms = None;
    while shared.triggers.wait(left_ms) {
        left_ms = step(shared, &mut runner);
    }
}

fn now(shared: &Shared) -> Moment {
    Moment {
        wall_ms: wall_ms(),
        ms: Time(0).ms_until(shared.clock.time()),
    }
}

/// Looks at everything there is to look at; returns how long until it is to look again, milliseconds.
fn step(shared: &Arc<Shared>, runner: &mut Runner) -> Option<u64> {
    let looked = now(shared);
    let live: BTreeSet<ReplicaId> = shared.network().live().into_iter().collect();
    // Under one lock: what a version vector covers now was noted before.
    let work = shared.peek(|engine| {
        let news = std::mem::take(&mut shared.triggers.inbox().news);
        runner.look(engine, news, &live, looked)
    });
    for update in work.updates {
        shared.submit(update);
    }
    for errand in work.errands {
        let under_way = UnderWay {
            shared: Arc::clone(shared),
            errand,
            was_answered: false,
        };
        let work = Box::new(move || carry_out(under_way));
        shared.network().spawn_blocking(work);
    }
    runner.next_ms(looked, now(shared))
}

/// Makes the calls of an errand.
fn carry_out(mut under_way: UnderWay) {
    let UnderWay { shared, errand, .. } = &mut under_way;
    let mut next = errand.begin(&**shared);
    let was_answered = loop {
        let heard = match next {
            Next::Over(was_answered) => break was_answered,
            Next::Here(call, timeout_ms) => block_on(shared.call(call, None, timeout_ms)),
            Next::Anywhere(call, timeout_ms) => {
                let call = call.with_trace(spans::begin(true));
                block_on(shared.call_anywhere(call, None, timeout_ms))
            }
        };
        next = errand.heard(&heard);
    };
    under_way.was_answered = was_answered;
}

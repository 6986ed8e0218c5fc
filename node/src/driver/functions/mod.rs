//! Where functions in Rust run: beside the entity, on the thread of whoever calls.
//!
//! Not here: the rules of it (`session`). Contract: nothing is locked while a function runs. Lock order: an entity's sessions
//! first, the engine's cell below them.

mod aside;
mod caller;
mod deleted;
mod direct;
mod followed;
mod foreign;
mod foreign_attend;
mod foreign_command;
mod foreign_stream;
mod hosted;
mod later;
mod left;
mod left_tasks;
mod look;
mod parked;
mod reactor;
mod stats;
mod step;
mod stream;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_crdt::ReplicaId;
use tokio::sync::Semaphore;
use tracing::Instrument;

#[cfg(feature = "sidecar")]
pub(crate) use self::foreign::Expected;
use self::foreign::ForeignFunctions;
use self::hosted::Sessions;
use self::left_tasks::LeftTasks;
use self::reactor::Reactor;
pub use self::stats::MethodStatus;
use self::stats::Stats;
use self::step::{Commit, Step};
use self::turn::Turn;
use super::calls::Due;
use super::shared::Shared;
use super::spans::{self, part};
use crate::engine::Time;
use crate::error::{Error, ErrorKind};
use crate::function::{self, Context, Foreign, Function, Nodes};
use crate::payload::Payload;
use crate::session::{Action, Call, Command, CommandId, Config, Input, Session, forward_failed};
use crate::trigger::OWN_KINDS;
use crate::wire::{EntityId, Token};

/// A session has fewer commands than this.
const LIVES_MAX: u64 = 1 << 40;
/// How many locks the sessions are spread over.
const LOCKS: usize = 16;

/// The functions of a node, and their sessions.
#[derive(Debug)]
pub(crate) struct Functions {
    by_kind: BTreeMap<String, Installed>,
    /// Those of other processes.
    foreign: ForeignFunctions,
    sessions: [Mutex<Sessions>; LOCKS],
    next: AtomicU64,
    seed: u64,
    /// Sessions that were begun.
    begun: AtomicU64,
    /// Commands whose effects nobody waits for, and that run.
    later: AtomicUsize,
    /// What goes on without whoever wanted it.
    left: Arc<LeftTasks>,
    /// Streams that are open.
    streams: AtomicUsize,
    /// Places for steps of streams that run on a thread aside.
    aside: Arc<Semaphore>,
    /// What functions that wait are within.
    reactor: Reactor,
    /// When sessions with somebody who waits are to be woken.
    due: Mutex<BTreeSet<(Time, Due)>>,
}

/// A function, and what is counted of it.
#[derive(Debug)]
struct Installed {
    function: Arc<Function>,
    stats: Stats,
}

/// A method of a function that is here, found once for all that a call needs of it.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) function: &'a Arc<Function>,
    pub(super) method: &'a function::Method,
    stats: &'a stats::Method,
}

impl Functions {
    pub(super) fn new(functions: &[Arc<Function>], seed: u64) -> Functions {
        let installed = |function: &Arc<Function>| {
            let installed = Installed {
                function: Arc::clone(function),
                stats: Stats::new(function),
            };
            (function.kind().to_owned(), installed)
        };
        Functions {
            by_kind: functions.iter().map(installed).collect(),
            foreign: ForeignFunctions::default(),
            sessions: Default::default(),
            next: AtomicU64::new(1),
            seed,
            begun: AtomicU64::new(0),
            later: AtomicUsize::new(0),
            left: LeftTasks::new(),
            streams: AtomicUsize::new(0),
            aside: Arc::new(Semaphore::new(aside::STEPS_MAX)),
            reactor: Reactor::default(),
            due: Mutex::default(),
        }
    }

    /// The node has stopped.
    pub(super) fn end(&self) {
        self.reactor.end();
    }

    /// All of them, by kind.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.by_kind.values().map(|installed| &installed.function)
    }

    /// Whether there is one that has the method of a call.
    pub(crate) fn has_method(&self, call: &Call) -> bool {
        self.find(call.entity.kind(), &call.method).is_some() || self.has_foreign(call)
    }

    /// Whether one in another process has it. Those in Rust come first: no kind has both.
    pub(crate) fn has_foreign(&self, call: &Call) -> bool {
        self.foreign_for(call).is_some()
    }

    /// The one in another process that a call is for.
    fn foreign_for(&self, call: &Call) -> Option<Arc<dyn Foreign>> {
        let foreign = self.foreign.of(call.entity.kind());
        foreign.filter(|foreign| foreign.has(&call.method))
    }

    /// The method of this name, if there is one here.
    pub(super) fn find(&self, kind: &str, method: &str) -> Option<Found<'_>> {
        let Installed { function, stats } = self.by_kind.get(kind)?;
        let method = function.method(method)?;
        Some(Found {
            function,
            method,
            stats: stats.of(method),
        })
    }

    /// The method of a call, where it is one that answers once.
    fn callable<'a>(&'a self, call: &Call, found: Option<Found<'a>>) -> Result<Found<'a>, Error> {
        if let Some(found) = found.filter(|found| !found.method.is_stream()) {
            return Ok(found);
        }
        let why = self.of(call)?.is_query(&call.method).err();
        let otherwise = || Error::new(ErrorKind::Internal, "a method that was not found is there");
        Err(why.unwrap_or_else(otherwise))
    }

    /// Whether there is one of this kind.
    pub(crate) fn has(&self, kind: &str) -> bool {
        self.by_kind.contains_key(kind)
    }

    /// The one in Rust of this kind.
    fn in_rust(&self, kind: &str) -> Option<&Arc<Function>> {
        self.by_kind.get(kind).map(|installed| &installed.function)
    }

    /// The one in Rust for a call that no function of another process takes.
    pub(super) fn of(&self, call: &Call) -> Result<&Arc<Function>, Error> {
        let kind = call.entity.kind();
        self.in_rust(kind).ok_or_else(|| {
            if let Some(foreign) = self.foreign.of(kind) {
                return function::no_method(kind, &call.method, &foreign.methods());
            }
            let own = |kind: &&str| !kind.starts_with(OWN_KINDS);
            let foreign = self.foreign.all();
            let foreign = foreign.iter().map(|function| function.kind());
            let rust = self.by_kind.keys().map(String::as_str).filter(own);
            let there: Vec<&str> = rust.chain(foreign).collect();
            let there = match there.as_slice() {
                [] => "this node has none".to_owned(),
                kinds => format!("this node has functions of {}", kinds.join(", ")),
            };
            let message = format!("nothing changed: there is no function of kind {kind:?}; {there}");
            Error::new(ErrorKind::NoFunction, message)
        })
    }

    /// The methods of the function of this kind, wherever it runs; none if there is none here.
    pub(super) fn methods_of(&self, kind: &str) -> Option<Vec<String>> {
        let foreign = || self.foreign.of(kind).map(|foreign| foreign.methods());
        let in_rust = self.in_rust(kind);
        in_rust
            .map(|function| function.methods().map(str::to_owned).collect())
            .or_else(foreign)
    }

    fn sessions(&self, entity: &EntityId) -> MutexGuard<'_, Sessions> {
        // The end of a key tells most of them apart, and a lock is held for a moment only.
        let end = entity.key().bytes().rev().take(8);
        let spread = end.fold(0, |sum: usize, byte| {
            sum.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        let lock = &self.sessions[spread % LOCKS];
        lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted of each method, by kind and name.
    pub(crate) fn methods(&self) -> Vec<MethodStatus> {
        let own = self.by_kind.values();
        let own = own.flat_map(|Installed { function, stats }| stats.all(function));
        let mut all: Vec<MethodStatus> = own.chain(self.foreign.stats.all()).collect();
        all.sort_by(|a, b| (&a.kind, &a.method).cmp(&(&b.kind, &b.method)));
        all
    }

    /// A stream has ended.
    fn note_stream(&self, kind: &str, method: &str, is_error: bool) {
        match self.find(kind, method) {
            Some(found) => found.stats.note_stream(is_error),
            None => {
                if let Some(stats) = self.foreign.stats.of(kind, method) {
                    stats.note_stream(is_error);
                }
            }
        }
    }

    /// What goes on without whoever wanted it, and what of that was not done.
    pub(crate) fn left(&self) -> (usize, u64) {
        (self.left.waiting(), self.left.refused())
    }

    /// How many times an entity's function was begun with, rather than gone on with.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// How many streams are open.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// How many commands wait or are being answered.
    pub(crate) fn commands(&self) -> usize {
        let all = self.sessions.iter().map(|lock| {
            let sessions = lock.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.commands()
        });
        all.sum::<usize>() + self.foreign.commands()
    }
}

impl Shared {
    /// Calls the function of an entity, here. What is rare in a call is boxed: a future is copied where it is made, at its full
    /// size. What the caller's session has seen, if it has one, is here before it begins, and
    /// what it sees then is added.
    pub(crate) async fn call(
        self: &Arc<Self>,
        call: Call,
        mut session: Option<&mut Token>,
        timeout_ms: u64,
    ) -> Result<Payload, Error> {
        let found = self.functions.find(call.entity.kind(), &call.method);
        match found.filter(|found| found.is_plain(&call, session.as_deref())) {
            Some(found) => match self.call_at_once(found, call, session.as_deref_mut(), timeout_ms) {
                Ok(answer) => answer,
                Err(begun) => begun.answer(session).await,
            },
            None => self.call_found(found, call, session, timeout_ms).await,
        }
    }

    /// The same, by its method, if that is here.
    pub(super) async fn call_found(
        self: &Arc<Self>,
        found: Option<Found<'_>>,
        call: Call,
        session: Option<&mut Token>,
        timeout_ms: u64,
    ) -> Result<Payload, Error> {
        let deadline = self.clock.time().after_ms(timeout_ms);
        self.call_chain(found, call, session, deadline, false).await
    }

    /// The same along all forwards; `is_left` where a change before it is in, so that it goes on although its caller has gone.
    async fn call_chain(
        self: &Arc<Self>,
        mut found: Option<Found<'_>>,
        mut call: Call,
        mut session: Option<&mut Token>,
        deadline: Time,
        is_left: bool,
    ) -> Result<Payload, Error> {
        let mut began = self.clock.time();
        let mut changed = is_left;
        loop {
            let from = call.entity.clone();
            let (span, trace) = part!("call", "internal", call.origin.trace, from, call.method);
            call.origin.trace = trace;
            let foreign = match found {
                Some(_) => None,
                None => self.functions.foreign.stats.of(from.kind(), &call.method),
            };
            let calling = self.call_one(found, call, session.as_deref_mut(), deadline);
            let ended = match trace {
                None => calling.await,
                // To carry the span the future moves, and most calls are part of no trace.
                Some(_) => Box::pin(calling).instrument(span.clone()).await,
            };
            match &ended {
                Ok((Action::Refuse(error), _)) | Err(error) => spans::end(&span, &Err::<(), _>(error)),
                Ok(_) => {}
            }
            let is_error = !matches!(ended, Ok((Action::Reply(_) | Action::Forward(_), _)));
            if let Some(stats) = found.map(|found| found.stats).or(foreign.as_deref()) {
                let now = self.clock.time();
                stats.note(std::mem::replace(&mut began, now), now, is_error);
            }
            match ended {
                Ok((Action::Reply(payload), _)) => return Ok(payload),
                Ok((Action::Forward(next), did)) => {
                    changed |= did;
                    if changed && !is_left {
                        return Box::pin(self.call_forwarded(next, session, deadline)).await;
                    }
                    found = self.functions.find(next.entity.kind(), &next.method);
                    if found.is_none() {
                        return Box::pin(self.call_beyond(next, session, deadline, changed)).await;
                    }
                    call = next;
                }
                Ok((Action::Refuse(error), _)) | Err(error) if changed => {
                    return Err(forward_failed(&from, &error));
                }
                Ok((Action::Refuse(error), _)) | Err(error) => return Err(error),
            }
        }
    }

    async fn call_one(
        self: &Arc<Self>,
        found: Option<Found<'_>>,
        call: Call,
        session: Option<&mut Token>,
        deadline: Time,
    ) -> Result<(Action, bool), Error> {
        if found.is_none()
            && let Some(foreign) = self.functions.foreign_for(&call)
        {
            call.check()?;
            Box::pin(self.await_session(&call.entity, session.as_deref(), deadline)).await?;
            return Box::pin(self.call_foreign(foreign, call, session, deadline)).await;
        }
        let found = self.functions.callable(&call, found)?;
        call.check()?;
        if session.as_deref().is_some_and(|token| !token.is_empty()) {
            Box::pin(self.await_session(&call.entity, session.as_deref(), deadline)).await?;
        }
        let command = Command {
            method: call.method,
            payload: call.payload,
            deadline,
            origin: call.origin,
        };
        if found.method.is_query() {
            let reply = self.look(found, &call.entity, &command, session, self.clock.time())?;
            return Ok((Action::Reply(reply), false));
        }
        let mut turn = Turn::new(self, found, call.entity);
        turn.run(command, session).await
    }

    /// Waits until what its caller's session has seen, if he has one, is here.
    async fn await_session(
        &self,
        entity: &EntityId,
        session: Option<&Token>,
        deadline: Time,
    ) -> Result<(), Error> {
        let Some(token) = session.filter(|token| !token.is_empty()) else {
            return Ok(());
        };
        let left_ms = self.clock.time().ms_until(deadline);
        self.await_seen(entity, token, left_ms).await
    }

    /// What can be known to be wrong with an answer before what the command did is in.
    fn check_action(&self, action: &Action) -> Result<(), Error> {
        action.check(|call| {
            // What is not here may be elsewhere.
            let is_rust = self.functions.by_kind.contains_key(call.entity.kind());
            let is_here = self.functions.has_method(call);
            if (is_here && is_rust) || (!is_here && self.network().nearest().is_empty()) {
                self.functions.of(call)?.is_query(&call.method)?;
            }
            call.check()
        })
    }

    fn context(self: &Arc<Self>, entity: &EntityId, id: CommandId) -> Context {
        self.context_at(entity, id, self.clock.time())
    }

    fn context_at(self: &Arc<Self>, entity: &EntityId, id: CommandId, now: Time) -> Context {
        let seed = self.functions.seed ^ id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let replica = ReplicaId::new(self.about.node, self.epoch());
        let nodes = Arc::clone(self) as Arc<dyn Nodes>;
        Context::new(entity.clone(), replica, self.clock.wall_ms_at(now), seed).with_nodes(nodes)
    }

    fn new_session(&self, function: &Function, entity: &EntityId) -> Session {
        let config = Config::new(self.about.node, entity.clone(), function.ty());
        let begun = self.functions.begun.fetch_add(1, Ordering::Relaxed);
        Session::new(Config {
            remembers: false,
            streams_from: begun.wrapping_mul(LIVES_MAX),
            ..config
        })
    }

    /// Gives an entity's session one input and everybody what follows for them; returns what follows for `own`. What its function
    /// did goes in with `commit` in the same turn, which says what the session is to hear of it.
    fn tell_session(
        &self,
        function: &Function,
        entity: &EntityId,
        input: Input,
        own: Option<CommandId>,
        commit: impl FnOnce(Commit) -> Input,
    ) -> Option<Step> {
        let mut sessions = self.functions.sessions(entity);
        let hosted = match &input {
            Input::Command { .. } => sessions.open(entity, || self.new_session(function, entity)),
            _ => sessions.get_mut(entity)?,
        };
        if matches!(input, Input::Wakeup) {
            hosted.due = None;
        }
        let look = || self.view_to_change(entity, function.ty());
        let now = self.clock.time();
        let mut mine = hosted.tell(now, input, own, &look);
        if let Some(Step::Commit(made)) = mine {
            mine = hosted.tell(now, commit(made), own, &look);
        }
        let mine = mine.or_else(|| hosted.late.remove(&own?));
        let next = hosted.next_due();
        if hosted.is_left() {
            sessions.keep_one_more();
        }
        drop(sessions);
        if let Some(at) = next {
            self.wake_at(at, Due::Session(entity.clone()));
        }
        mine
    }

    /// Has somebody looked after then, who waits.
    pub(super) fn wake_at(&self, at: Time, what: Due) {
        let mut due = self.functions.due.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever comes for the first of them sees when the next is due, and needs not be told of it.
        let is_first = due.first().is_none_or(|(first, _)| at < *first);
        due.insert((at, what));
        drop(due);
        if !is_first {
            return;
        }
        // After a bug broke the engine the node stops, and everybody is told.
        if self
            .with_cell(|cell| cell.want_functions_woken(at))
            .unwrap_or(false)
        {
            self.timer.notify_one();
        }
    }

    /// Nobody needs to be looked after then.
    pub(super) fn forget_due(&self, at: Time, what: Due) {
        let mut due = self.functions.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.remove(&(at, what));
    }

    /// For the timer's thread: time has passed. Returns when to come again.
    pub(super) fn wake_due(self: &Arc<Self>) -> Option<Time> {
        loop {
            let mut due = self.functions.due.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.time();
            let at = due.first().map(|(at, _)| *at)?;
            if at > now {
                return Some(at);
            }
            let (_, what) = due.pop_first()?;
            drop(due);
            match what {
                Due::Calls => self.look_at_calls(),
                Due::Foreign(entity) => self.wake_foreign(&entity),
                Due::Workers => self.look_at_workers(),
                Due::Network => self.look_at_network(),
                Due::Session(entity) => {
                    if let Some(function) = self.functions.in_rust(entity.kind()) {
                        let function = Arc::clone(function);
                        self.tell_session(&function, &entity, Input::Wakeup, None, nothing);
                    }
                }
            }
        }
    }
}

/// For what is no word of a function: nothing was done that could go in.
fn nothing(_: Commit) -> Input {
    unreachable!("a session commits what its function has just said it did, and nothing else");
}

impl Nodes for Shared {
    fn live(&self) -> Vec<ReplicaId> {
        self.network().live()
    }

    fn entities_of(&self, kind: &str) -> Option<u64> {
        Some(self.peek(|engine| engine.kind_entities(kind)))
    }
}

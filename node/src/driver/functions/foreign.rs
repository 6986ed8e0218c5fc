//! Where functions of other processes are hosted: sessions that tell them what becomes of their entities, and commands that are
//! seen to their end whether or not somebody waits for it.
//!
//! Not here: the rules of it (`session`), and how a process is reached (whoever is the [`Foreign`]).
//!
//! Contract: a command that was begun is ended: what its function did is in, even where its caller has gone. Lock order: the
//! sessions first, the engine's cell below them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::{oneshot, watch};

use super::followed::Turns;
use super::foreign_attend::{Attended, Follows};
use super::left::Handed;
use super::parked::Parked;
use super::stats::ForeignStats;
use super::{LIVES_MAX, deleted};
use crate::driver::calls::Due;
use crate::driver::shared::Shared;
use crate::engine::Time;
use crate::error::{Error, ErrorKind};
use crate::function::{Foreign, Handle, Hear, unknown_elsewhere};
use crate::session::{Action, Call, Command, CommandId, Config, Input, Output, Said, Session, StreamId};
use crate::wire::{EntityId, Token};

/// So many entities at most have a session with a function in another process at a time.
const SESSIONS_MAX: usize = 100_000;

/// Functions of other processes, and their sessions.
#[derive(Debug, Default)]
pub(super) struct ForeignFunctions {
    by_kind: RwLock<BTreeMap<String, Known>>,
    sessions: Mutex<BTreeMap<EntityId, Live>>,
    begun: AtomicU64,
    pub(super) attended: Attended,
    pub(super) turns: Turns,
    parked: Mutex<Parked>,
    pub(super) stats: ForeignStats,
    expected: Arc<AtomicUsize>,
    /// Says that some are here that were not.
    pub(super) served: watch::Sender<()>,
}

/// Functions of a process that is not known yet.
#[cfg(feature = "sidecar")]
#[derive(Debug)]
pub(crate) struct Expected(Arc<AtomicUsize>);

#[cfg(feature = "sidecar")]
impl Drop for Expected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A function that is here, or was: what it ended on is told by it.
#[derive(Debug)]
struct Known {
    function: Arc<dyn Foreign>,
    is_here: bool,
    /// How many times one of its kind has come: it ends once each time.
    comings: u64,
}

/// A session, its function, and who sees to its commands. Bounded by the session's own bound.
#[derive(Debug)]
struct Live {
    function: Arc<dyn Foreign>,
    session: Session,
    beside: Option<Beside>,
    waiting: BTreeMap<CommandId, Follows>,
    /// When it is looked after, if that is planned.
    due: Option<Time>,
}

/// A life of the function.
struct Beside {
    stream: StreamId,
    handle: Box<dyn Handle>,
    /// Dropped with the life: nobody need be told of the entity any more.
    _followed: oneshot::Sender<()>,
}

impl std::fmt::Debug for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Beside").field("stream", &self.stream).finish()
    }
}

/// How a command ended, whether it changed anything, and what its caller has seen by it.
pub(super) type Ended = (Result<(Action, bool), Error>, Token);

/// A command on its way.
pub(super) struct Begin {
    pub function: Arc<dyn Foreign>,
    pub follows: Follows,
}

impl ForeignFunctions {
    /// The function of a kind, if it is here.
    pub(super) fn of(&self, kind: &str) -> Option<Arc<dyn Foreign>> {
        self.known(kind, true)
    }

    /// That of a kind which was here, and is away.
    pub(super) fn away(&self, kind: &str) -> Option<Arc<dyn Foreign>> {
        self.known(kind, false)
    }

    fn known(&self, kind: &str, is_here: bool) -> Option<Arc<dyn Foreign>> {
        let by_kind = self.by_kind.read().unwrap_or_else(PoisonError::into_inner);
        let known = by_kind.get(kind).filter(|known| known.is_here == is_here);
        known.map(|known| Arc::clone(&known.function))
    }

    /// How many times the function of a kind has come.
    pub(super) fn comings(&self, kind: &str) -> u64 {
        let by_kind = self.by_kind.read().unwrap_or_else(PoisonError::into_inner);
        by_kind.get(kind).map_or(0, |known| known.comings)
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<dyn Foreign>> {
        let by_kind = self.by_kind.read().unwrap_or_else(PoisonError::into_inner);
        here(&by_kind)
    }

    /// How many commands wait or are being answered.
    pub(super) fn commands(&self) -> usize {
        self.lock().values().map(|live| live.session.commands()).sum()
    }

    pub(super) fn parked(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EntityId, Live>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those that are here.
fn here(by_kind: &BTreeMap<String, Known>) -> Vec<Arc<dyn Foreign>> {
    let here = by_kind.values().filter(|known| known.is_here);
    here.map(|known| Arc::clone(&known.function)).collect()
}

impl Shared {
    /// Functions of another process may be here soon, as long as this is held.
    #[cfg(feature = "sidecar")]
    pub(crate) fn expect_foreign(&self) -> Expected {
        let expected = &self.functions.foreign.expected;
        expected.fetch_add(1, Ordering::Relaxed);
        Expected(Arc::clone(expected))
    }

    /// What nobody has, this node may have soon: that is to be tried again.
    pub(in crate::driver) fn unless_expected(&self, error: Error) -> Error {
        let expected = self.functions.foreign.expected.load(Ordering::Relaxed);
        if expected == 0 || error.kind() != ErrorKind::NoFunction {
            return error;
        }
        let message = format!(
            "{}; a function beside this node is still starting",
            error.message()
        );
        Error::new(ErrorKind::NotReady, message)
    }

    /// Functions of another process are here from now on, in place of others of their kinds. What others than these have ended on is
    /// given to them as if nobody had.
    #[cfg(feature = "sidecar")]
    pub(crate) fn serve_foreign(&self, functions: Vec<Arc<dyn Foreign>>) {
        let by_kind = &self.functions.foreign.by_kind;
        let mut by_kind = by_kind.write().unwrap_or_else(PoisonError::into_inner);
        for function in functions {
            let kind = function.kind().to_owned();
            let before = by_kind.get(&kind);
            if before.is_some_and(|before| before.function.edition() != function.edition()) {
                self.functions.foreign.parked().forget(&kind);
            }
            let comings = before.map_or(0, |before| before.comings) + 1;
            let known = Known {
                function,
                is_here: true,
                comings,
            };
            by_kind.insert(kind, known);
        }
        self.functions.foreign.served.send_replace(());
        self.functions.foreign.stats.serve(&here(&by_kind));
    }

    /// These are here no more. What they have begun ends as their lives do.
    #[cfg(feature = "sidecar")]
    pub(crate) fn serve_foreign_no_more(&self, functions: &[Arc<dyn Foreign>]) {
        let by_kind = &self.functions.foreign.by_kind;
        let mut by_kind = by_kind.write().unwrap_or_else(PoisonError::into_inner);
        let is_one = |function: &Arc<dyn Foreign>| functions.iter().any(|one| Arc::ptr_eq(one, function));
        for known in by_kind.values_mut().filter(|known| is_one(&known.function)) {
            known.is_here = false;
        }
    }

    /// Has a command answered by a function of another process; and whether it changed anything. Dropping the future leaves a
    /// command that has begun to itself, and ends one of a function without entities.
    pub(super) async fn call_foreign(
        self: &Arc<Self>,
        function: Arc<dyn Foreign>,
        call: Call,
        session: Option<&mut Token>,
        deadline: Time,
    ) -> Result<(Action, bool), Error> {
        let wants = call.payload.encoding;
        let is_opened = function.is_stateless() || function.goes_on();
        if is_opened && function.is_streamed(&call.method) {
            // What has no entities has one key for all, which is nobody's business.
            let of = match function.is_stateless() {
                true => call.entity.kind().to_owned(),
                false => call.entity.to_string(),
            };
            let method = &call.method;
            let message = format!(
                "nothing changed: {method} of {of} takes or gives a stream, which is opened, not called"
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let call = function.take(call)?;
        let method = call.method.clone();
        let command = Command {
            method: call.method,
            payload: call.payload,
            deadline,
            origin: call.origin,
        };
        let token = session.as_deref().cloned().unwrap_or_default();
        let (sender, ended) = oneshot::channel();
        let id = CommandId(self.functions.next.fetch_add(1, Ordering::Relaxed));
        // Dropped with this future: what has not begun does not, and what is no entity's ends.
        let (_stays, gone) = oneshot::channel::<()>();
        let left = Left {
            shared: self,
            entity: (!function.is_stateless()).then(|| call.entity.clone()),
            id,
        };
        let running =
            Arc::clone(self).answer_foreign(Arc::clone(&function), call.entity, id, command, token, gone);
        let shared = Arc::clone(self);
        function.spawn(Box::pin(async move {
            let (result, token) = running.await;
            // Its caller may have gone.
            let _ = sender.send(Handed::new(&shared, result, token));
        }));
        let handed = tokio::select! {
            ended = ended => ended.map_err(|_| stopping())?,
            _ = self.stopped() => return Err(stopping()),
        };
        left.end();
        let (result, seen) = handed.take();
        if let Some(session) = session {
            session.join(&seen);
        }
        match result? {
            (Action::Reply(reply), changed) => {
                Ok((Action::Reply(function.give(&method, wants, reply)?), changed))
            }
            other => Ok(other),
        }
    }

    /// Gives an entity's session one input, and everybody what follows for them.
    pub(super) fn tell_foreign(self: &Arc<Self>, entity: &EntityId, input: Input, begin: Option<Begin>) {
        let mut sessions = self.functions.foreign.lock();
        if let (Input::Command { id, .. }, Some(begin)) = (&input, begin)
            && let Err(refused) = self.begin_foreign(&mut sessions, entity, *id, begin)
        {
            // Whoever waits hears that, and nothing else.
            let (follows, output) = *refused;
            follows.send(output);
            return;
        }
        let Some(live) = sessions.get_mut(entity) else {
            return;
        };
        if matches!(input, Input::Wakeup) {
            live.due = None;
        }
        let ended = match &input {
            Input::Said {
                stream,
                said: Said::Ended,
            } => Some(*stream),
            _ => None,
        };
        let (function, ty) = (Arc::clone(&live.function), live.function.ty());
        let cancelled = match &input {
            Input::Cancelled { id } => Some(*id),
            _ => None,
        };
        let look = || {
            self.peek(|engine| {
                deleted::check(engine, &*function, entity)?;
                match ty {
                    Some(ty) => engine.view(entity, ty),
                    None => Ok(engine.view_as_it_is(entity)),
                }
            })
        };
        live.session.handle(self.clock.time(), input, &look);
        if let Some(id) = cancelled.filter(|id| !live.session.has(*id)) {
            // It had not begun: nothing more is said of it.
            live.waiting.remove(&id);
        }
        if let Some(stream) = ended {
            live.beside.take_if(|beside| beside.stream == stream);
        }
        while let Some(output) = live.session.poll_output() {
            self.perform_foreign(entity, live, output);
        }
        let next = live.session.next_wakeup();
        let next = next.filter(|at| live.due.is_none_or(|due| *at < due));
        live.due = next.or(live.due);
        if live.session.is_vacant() && live.waiting.is_empty() {
            sessions.remove(entity);
        }
        drop(sessions);
        if let Some(at) = next {
            self.wake_at(at, Due::Foreign(entity.clone()));
        }
    }

    fn begin_foreign(
        &self,
        sessions: &mut BTreeMap<EntityId, Live>,
        entity: &EntityId,
        id: CommandId,
        begin: Begin,
    ) -> Result<(), Box<(Follows, Output)>> {
        let Begin { function, follows } = begin;
        if !sessions.contains_key(entity) {
            if sessions.len() >= SESSIONS_MAX {
                let message = format!(
                    "nothing changed: {SESSIONS_MAX} entities have sessions with functions of other processes; retry later"
                );
                let result = Err(Error::new(ErrorKind::Overloaded, message));
                return Err(Box::new((follows, Output::Answer { id, result })));
            }
            let begun = self.functions.foreign.begun.fetch_add(1, Ordering::Relaxed);
            let config = Config {
                streams_from: begun.wrapping_mul(LIVES_MAX),
                ..Config::new(self.about.node, entity.clone(), function.ty())
            };
            let live = Live {
                session: Session::new(function.session(config)),
                function: Arc::clone(&function),
                beside: None,
                waiting: BTreeMap::new(),
                due: None,
            };
            sessions.insert(entity.clone(), live);
        }
        if let Some(live) = sessions.get_mut(entity) {
            if live.beside.is_none() {
                live.function = function;
            }
            live.waiting.insert(id, follows);
        }
        Ok(())
    }

    fn perform_foreign(self: &Arc<Self>, entity: &EntityId, live: &mut Live, output: Output) {
        match output {
            Output::Tell { stream, told } => {
                let beside = live.beside.take_if(|beside| beside.stream == stream);
                if beside.is_none()
                    && let Some(function) = self.functions.foreign.of(entity.kind())
                {
                    // It may be another process by now.
                    live.function = function;
                }
                let beside = live
                    .beside
                    .insert(beside.unwrap_or_else(|| self.open_foreign(entity, &live.function, stream)));
                beside.handle.tell(told);
            }
            Output::Reset { stream } => {
                live.beside.take_if(|beside| beside.stream == stream);
            }
            Output::Report { what } => live.function.report(&format!("{entity}: {what}")),
            Output::Commit { id, .. } | Output::Effects { id, .. } | Output::Streamed { id, .. } => {
                if let Some(waiting) = live.waiting.get(&id) {
                    waiting.send(output);
                }
            }
            Output::Answer { id, .. } => {
                if let Some(waiting) = live.waiting.remove(&id) {
                    waiting.send(output);
                }
            }
        }
    }

    /// Begins a life of a function: it is told of the entity as long as it lasts.
    fn open_foreign(
        self: &Arc<Self>,
        entity: &EntityId,
        function: &Arc<dyn Foreign>,
        stream: StreamId,
    ) -> Beside {
        let (followed, gone) = oneshot::channel();
        function.spawn(Box::pin(follow(Arc::clone(self), entity.clone(), gone)));
        let (shared, of) = (Arc::clone(self), entity.clone());
        let who = Arc::clone(function);
        let hear = Hear::new(move |said| {
            let said = match said {
                Said::Reply(reply) => match shared.check_foreign(&*who, &reply.action) {
                    Ok(()) => Said::Reply(reply),
                    Err(error) => Said::Failed {
                        command: Some(reply.command),
                        error,
                    },
                },
                Said::Streamed {
                    command,
                    action: Some(action),
                    effects,
                    is_last,
                } => {
                    let is_fine = shared.check_foreign(&*who, &action);
                    Said::Streamed {
                        command,
                        action: Some(is_fine.map_or_else(Action::Refuse, |()| action)),
                        effects,
                        is_last,
                    }
                }
                said => said,
            };
            shared.tell_foreign(&of, Input::Said { stream, said }, None);
        });
        Beside {
            stream,
            handle: function.open(entity, hear),
            _followed: followed,
        }
    }

    /// What can be known to be wrong with an answer. Who gave it may have called others meanwhile: that nothing has changed nobody
    /// knows. Nor that its entity is as it was, of one that forwards: it may have been forwarded to by itself.
    pub(super) fn check_foreign(&self, function: &dyn Foreign, action: &Action) -> Result<(), Error> {
        self.check_action(action).map_err(|error| {
            let what = error.message();
            let what = what.strip_prefix("nothing changed: ").unwrap_or(what);
            let has_entity = !function.is_stateless() && !matches!(action, Action::Forward(_));
            let what = format!("{what}. {}", unknown_elsewhere(has_entity));
            match (action, error.kind()) {
                // Nobody has refused: it forwards in a circle, or says more than anybody is told.
                (Action::Forward(_) | Action::Reply(_), ErrorKind::Refused) => function.fault(&what),
                (_, kind) => Error::new(kind, what),
            }
        })
    }

    /// For the timer's thread: an entity's session is to be looked after.
    pub(super) fn wake_foreign(self: &Arc<Self>, entity: &EntityId) {
        self.tell_foreign(entity, Input::Wakeup, None);
    }
}

/// A command whose caller goes away before its end.
struct Left<'a> {
    shared: &'a Arc<Shared>,
    entity: Option<EntityId>,
    id: CommandId,
}

impl Left<'_> {
    fn end(mut self) {
        self.entity = None;
    }
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        if let Some(entity) = &self.entity {
            let input = Input::Cancelled { id: self.id };
            self.shared.tell_foreign(entity, input, None);
        }
    }
}

/// Tells an entity's session whenever the entity has changed, and who is there.
async fn follow(shared: Arc<Shared>, entity: EntityId, mut gone: oneshot::Receiver<()>) {
    let Some(mut mark) = shared.subscribe(&entity) else {
        return;
    };
    let mut live = shared.watch_live();
    // What came between the life's beginning and this.
    let mut input = Input::Recount;
    loop {
        shared.tell_foreign(&entity, input, None);
        input = tokio::select! {
            biased;
            _ = &mut gone => break,
            changed = mark.changed() => match changed {
                Ok(()) => Input::Changed,
                Err(_) => break,
            },
            Ok(()) = live.changed() => Input::Recount,
        };
    }
    shared.unsubscribe(&entity, mark);
}

pub(super) fn stopping() -> Error {
    let message = "the node stopped before the function had answered; whether anything changed is not known";
    Error::new(ErrorKind::Unanswered, message)
}

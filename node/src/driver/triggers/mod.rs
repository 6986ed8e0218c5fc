//! Makes the calls that nobody else does: those of schedules, and those that tell functions of changes.
//!
//! Not here: when one is due and what was called for (`trigger`). Contract: one thread looks, and never waits for a function: calls
//! run on threads that may block. What has changed is noted under the engine's lock, so that a version vector read there covers
//! nothing that was not noted.

mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_crdt::{Epoch, NodeId, ReplicaId, Type};

use self::kept::Host;
pub(crate) use self::kept::KEPT;
use super::clock::wall_ms;
use super::quic::block_on;
use super::shared::Shared;
use super::spans;
use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::engine::{Engine, Time};
use crate::error::{Error, ErrorKind};
use crate::function::{Change, Function};
use crate::json;
use crate::payload::{Encoding, Payload};
use crate::session::Call;
use crate::trigger::{Changes, Fire, Place, Planner, SCHEDULE, Telling, Trigger, read, responsible};
use crate::wire::{EntityId, ShardId};

/// Entities that have changed and were not looked at yet; beyond it everything is looked at.
const NOTED_MAX: usize = 100_000;
/// A node that starts gives the others so long to show up before it does what is theirs: as long as it takes to notice that one
/// has died.
const SETTLE_MS: u64 = 10_000;
/// Meanwhile it looks this often whether it has caught up with what others did.
const SETTLING_MS: u64 = 100;
/// The wall clock may be set; no later than after so long that is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// What the thread is to look at.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    /// Kinds of which changes are wanted; none where there are no functions.
    kinds: Vec<String>,
    triggers: Vec<Trigger>,
    inbox: Mutex<Inbox>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Inbox {
    changed: BTreeSet<EntityId>,
    /// More has changed than there was room for.
    has_lost: bool,
    ended: Vec<EndedCall>,
    /// Who is there may be others, or this node takes writes now.
    is_new: bool,
    has_stopped: bool,
}

#[derive(Debug)]
struct EndedCall {
    of: Called,
    was_answered: bool,
}

/// What was called for.
#[derive(Debug)]
enum Called {
    Fire { name: String, slot: u64 },
    Change(Telling),
}

/// A call under way. Dropped it has ended, answered or not: also where there was no thread for it.
struct UnderWay {
    shared: Arc<Shared>,
    ended: Option<EndedCall>,
}

impl UnderWay {
    fn new(shared: &Arc<Shared>, of: Called) -> UnderWay {
        UnderWay {
            shared: Arc::clone(shared),
            ended: Some(EndedCall {
                of,
                was_answered: false,
            }),
        }
    }

    fn end(mut self, was_answered: bool) {
        if let Some(ended) = &mut self.ended {
            ended.was_answered = was_answered;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            self.shared.triggers.ended(ended);
        }
    }
}

impl Triggers {
    pub(super) fn new(functions: &[Arc<Function>]) -> Triggers {
        let of = |function: &Arc<Function>| {
            let (kind, told) = (function.kind().to_owned(), function.told().to_vec());
            told.into_iter().map(move |told| Trigger {
                name: match &told.key {
                    None => format!("{kind}.{} of {}", told.method, told.kind),
                    Some(key) => format!("{kind}.{} of {}/{key}", told.method, told.kind),
                },
                kind: told.kind,
                key: told.key,
                function: kind.clone(),
                method: told.method,
            })
        };
        let triggers: Vec<Trigger> = functions.iter().flat_map(of).collect();
        let mut kinds: Vec<String> = triggers.iter().map(|trigger| trigger.kind.clone()).collect();
        if functions.iter().any(|function| function.kind() == SCHEDULE) {
            kinds.extend([SCHEDULE.to_owned(), KEPT.to_owned()]);
        }
        Triggers {
            kinds,
            triggers,
            ..Triggers::default()
        }
    }

    /// Whether there is anything to look at here.
    pub(super) fn are_any(&self) -> bool {
        !self.kinds.is_empty()
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An entity has changed. Called with the engine locked.
    pub(super) fn note(&self, entity: &EntityId) {
        if !self.kinds.iter().any(|kind| kind == entity.kind()) {
            return;
        }
        let mut inbox = self.inbox();
        if inbox.changed.len() < NOTED_MAX {
            inbox.changed.insert(entity.clone());
        } else {
            inbox.has_lost = true;
        }
        drop(inbox);
        self.wake.notify_one();
    }

    /// Who is there may be others than before, or this node takes writes now.
    pub(super) fn look_around(&self) {
        if self.are_any() {
            self.inbox().is_new = true;
            self.wake.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        self.inbox().has_stopped = true;
        self.wake.notify_one();
    }

    fn ended(&self, call: EndedCall) {
        self.inbox().ended.push(call);
        self.wake.notify_one();
    }

    /// Waits for something to do, at most so long; false once the node stops.
    fn wait(&self, left_ms: Option<u64>) -> bool {
        let left = left_ms.map_or(SLEEP_MAX, Duration::from_millis);
        let is_idle = |inbox: &mut Inbox| {
            let has_news = !inbox.changed.is_empty() || !inbox.ended.is_empty();
            !(has_news || inbox.has_lost || inbox.is_new || inbox.has_stopped)
        };
        let waited = self
            .wake
            .wait_timeout_while(self.inbox(), left.min(SLEEP_MAX), is_idle);
        let (inbox, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !inbox.has_stopped
    }
}

/// Runs until the node stops.
pub(super) fn run(shared: &Arc<Shared>) {
    let _watch = shared.panic_watch();
    let mut runner = Runner {
        shared,
        planner: Planner::default(),
        changes: Changes::new(shared.triggers.triggers.clone()),
        hosts: BTreeMap::new(),
        has_begun: false,
        settled_at: shared.clock.time().after_ms(SETTLE_MS),
        is_settling: true,
    };
    let mut left_ms = None;
    while shared.triggers.wait(left_ms) {
        left_ms = runner.step();
    }
}

struct Runner<'a> {
    shared: &'a Arc<Shared>,
    planner: Planner,
    changes: Changes,
    /// Which nodes have functions, as they say.
    hosts: BTreeMap<NodeId, Host>,
    /// Whether everything that is there was looked at.
    has_begun: bool,
    /// Until then who is not seen may be there, and what is here may be old.
    settled_at: Time,
    is_settling: bool,
}

/// Now, by the clock that schedules go by, and by the one that nobody sets.
#[derive(Clone, Copy)]
struct Moment {
    wall_ms: u64,
    ms: u64,
}

impl Runner<'_> {
    /// Looks at everything there is to look at; returns how long until it is to look again, milliseconds.
    fn step(&mut self) -> Option<u64> {
        let now = self.now();
        // What this node has not caught up with it would do again.
        if !self.shared.is_ready() {
            let inbox = std::mem::take(&mut *self.shared.triggers.inbox());
            self.take_ended(inbox.ended, now);
            self.has_begun = false;
            return None;
        }
        // Under one lock: what a version vector covers now was noted before.
        let (places, vectors, fires) = self.shared.peek(|engine| {
            let mut inbox = std::mem::take(&mut *self.shared.triggers.inbox());
            inbox.has_lost |= !self.has_begun;
            self.take_in(engine, &mut inbox, now);
            let places = self.changes.cursors_due(now.ms);
            let vector = |place: &Place| engine.version_vector(ShardId(place.1));
            let vectors: Vec<_> = places.iter().map(vector).collect();
            (places, vectors, self.due(engine, now.wall_ms))
        });
        self.has_begun = true;
        self.say_so();
        for (place, vector) in places.into_iter().zip(vectors) {
            let trigger = &self.changes.triggers()[place.0];
            if let Some(update) = kept::keep_cursor(trigger, place.1, &vector) {
                // Where it does not come to be kept, an earlier one is.
                self.shared.submit(update);
            }
        }
        for fire in fires {
            self.fire(fire);
        }
        for telling in self.changes.poll(now.ms) {
            self.tell(telling);
        }
        let then = self.now();
        let schedule = self.planner.next_wakeup(now.wall_ms);
        let change = self.changes.next_wakeup();
        // Nobody tells when this node has caught up.
        let again = self.is_settling.then_some(SETTLING_MS);
        let next = [
            schedule.map(|at| at.saturating_sub(then.wall_ms)),
            change.map(|at| at.saturating_sub(then.ms)),
            again,
        ];
        next.into_iter().flatten().min()
    }

    fn now(&self) -> Moment {
        Moment {
            wall_ms: wall_ms(),
            ms: Time(0).ms_until(self.shared.clock.time()),
        }
    }

    /// The schedules that are due and this node's.
    fn due(&mut self, engine: &Engine, now: u64) -> Vec<Fire> {
        let (live, me) = (self.live(), self.me());
        let knows = self.knows(engine);
        let is_mine = |name: &str| {
            let shard = EntityId::new(SCHEDULE, name).map(|entity| engine.shard_of(&entity));
            shard.is_ok_and(&knows) && responsible(name, live.iter().map(|(node, _)| *node)) == Some(me)
        };
        self.planner.poll(now, &is_mine)
    }

    /// In which shards this node knows what others have called for: once it has settled in all. Until then where every node that
    /// has functions is linked, and all that linked nodes have is here.
    fn knows<'e>(&self, engine: &'e Engine) -> impl Fn(ShardId) -> bool + use<'e> {
        let (has_settled, me) = (!self.is_settling, self.me());
        let mut others = self.hosts.keys().filter(|node| **node != me);
        let are_all_linked = others.all(|node| engine.linked_epoch(*node).is_some());
        move |shard| has_settled || are_all_linked && engine.has_what_peers_have(shard)
    }

    fn take_ended(&mut self, ended_calls: Vec<EndedCall>, now: Moment) {
        for EndedCall { of, was_answered } in ended_calls {
            match of {
                Called::Fire { name, slot } => self.planner.called(&name, slot, was_answered, now.wall_ms),
                Called::Change(telling) => self.changes.called(&telling, was_answered, now.ms),
            }
        }
    }

    fn take_in(&mut self, engine: &Engine, inbox: &mut Inbox, now: Moment) {
        self.take_ended(std::mem::take(&mut inbox.ended), now);
        if inbox.has_lost {
            inbox.changed.extend(engine.entities_of(SCHEDULE));
            // Those that are no more, too.
            let known = self.planner.names();
            let known = known.filter_map(|name| EntityId::new(SCHEDULE, name).ok());
            inbox.changed.extend(known);
            self.changes.lost_track();
        }
        let has_new_hosts = inbox.has_lost || inbox.changed.iter().any(kept::is_hosts);
        if has_new_hosts {
            self.hosts = kept::hosts(engine);
        }
        for entity in &inbox.changed {
            if entity.kind() == SCHEDULE {
                let is = engine.view(entity, schedule_type()).ok().and_then(read);
                self.planner.set(entity.key(), is, now.wall_ms);
            }
            self.changes.changed(entity, engine.shard_of(entity).0);
        }
        let mut to_find = self.changes.behind();
        if has_new_hosts || inbox.is_new || self.is_settling {
            self.is_settling = self.shared.clock.time() < self.settled_at;
            self.planner.look_again(now.wall_ms);
            to_find.extend(self.see_to(engine));
        }
        for place in to_find {
            self.find(engine, place);
        }
    }

    /// Which shards' changes are this node's to tell; those that were not.
    fn see_to(&mut self, engine: &Engine) -> Vec<Place> {
        let (live, me) = (self.live(), self.me());
        let knows = self.knows(engine);
        let is_mine = |trigger: &Trigger, shard: u32| {
            if !knows(ShardId(shard)) {
                return false;
            }
            let name = format!("{}:{shard}", trigger.name);
            let has_it = |host: &Host| host.triggers.contains(&trigger.name);
            let able = live
                .iter()
                .filter(|(_, host)| has_it(host))
                .map(|(node, _)| *node);
            responsible(&name, able) == Some(me)
        };
        self.changes.see_to(self.shared.about.shards, &is_mine)
    }

    /// What has changed in a shard since its cursor was kept.
    fn find(&mut self, engine: &Engine, place: Place) {
        let trigger = &self.changes.triggers()[place.0];
        let cursor = kept::cursor(engine, trigger, place.1);
        let found = engine.changed_since(ShardId(place.1), &trigger.kind, &cursor);
        let trigger = trigger.clone();
        for entity in found.iter().filter(|entity| trigger.is_about(entity)) {
            self.changes.found(place, entity);
        }
    }

    fn me(&self) -> NodeId {
        self.shared.about.node
    }

    /// The nodes with functions that are believed to be there, this one among them once it has said so.
    fn live(&self) -> Vec<(NodeId, Host)> {
        let live: BTreeSet<ReplicaId> = self.shared.network().live().into_iter().collect();
        let hosts = self.hosts.iter().filter(|(node, host)| {
            let run = ReplicaId::new(**node, Epoch(host.epoch));
            self.is_settling || **node == self.me() || live.contains(&run)
        });
        hosts.map(|(node, host)| (*node, host.clone())).collect()
    }

    /// Tells the other nodes, in each run of it, that this one has functions.
    fn say_so(&mut self) {
        let triggers = self.changes.triggers().iter().map(|trigger| trigger.name.clone());
        let host = Host {
            epoch: self.shared.epoch().0,
            triggers: triggers.collect(),
        };
        if self.hosts.get(&self.me()) == Some(&host) {
            return;
        }
        // Where it is refused, it is said at the next look.
        if let Some(update) = kept::keep_host(self.me(), &host) {
            self.shared.submit(update);
        }
    }

    fn fire(&self, fire: Fire) {
        let Fire { name, slot, call } = fire;
        let shared = Arc::clone(self.shared);
        let called = Called::Fire {
            name: name.clone(),
            slot,
        };
        let under_way = UnderWay::new(&shared, called);
        self.shared.network().spawn_blocking(Box::new(move || {
            let about = format!("schedule {name} at {slot}");
            let was_made = call.is_none_or(|(call, timeout_ms)| make(&shared, &about, call, timeout_ms));
            let is_done = || is_answer(&about, &block_on(note_done(&shared, &name, slot)));
            under_way.end(was_made && is_done());
        }));
    }

    fn tell(&self, telling: Telling) {
        let trigger = self.changes.triggers()[telling.place.0].clone();
        let (shared, entity) = (Arc::clone(self.shared), telling.entity.clone());
        let under_way = UnderWay::new(&shared, Called::Change(telling));
        self.shared.network().spawn_blocking(Box::new(move || {
            let answered = call_for(&shared, &trigger, &entity)
                .and_then(|call| block_on(shared.call_anywhere(call, None, TIMEOUT_MS_DEFAULT)));
            let about = format!("{}, told of {entity}", trigger.name);
            under_way.end(is_answer(&about, &answered));
        }));
    }
}

/// Makes a schedule's call; whether it was answered.
fn make(shared: &Arc<Shared>, about: &str, call: Call, timeout_ms: u64) -> bool {
    let about = format!("{call}, for {about}");
    let has_kind = shared.functions.has(call.entity.kind());
    let call = call.with_trace(spans::begin(true));
    let answered = block_on(shared.call_anywhere(call, None, timeout_ms));
    // That those that are there now have no such function is no answer of it.
    let is_nobody = |error: &Error| error.kind() == ErrorKind::NoFunction && !has_kind;
    is_answer(&about, &answered) && !answered.is_err_and(|error| is_nobody(&error))
}

/// The type of schedules.
fn schedule_type() -> Type {
    Type::OrMap
}

/// What tells a function of a change. Its name is the same while the entity is.
fn call_for(shared: &Shared, trigger: &Trigger, entity: &EntityId) -> Result<Call, Error> {
    let invalid = |e: String| Error::new(ErrorKind::Invalid, e);
    let target = EntityId::new(&trigger.function, entity.key()).map_err(|e| invalid(e.to_string()))?;
    let change = Change {
        kind: entity.kind().to_owned(),
        key: entity.key().to_owned(),
    };
    let argument = Payload::of(Encoding::Postcard, &change).map_err(|e| invalid(e.to_string()))?;
    let state = shared.peek(|engine| engine.read(entity));
    let state = state.map_or(0, |(ty, reading)| {
        let line = json::line(entity, &reading);
        u64::from(crc32c::crc32c(line.as_bytes())) << 8 | ty as u64
    });
    Ok(Call::new(target, trigger.method.clone(), argument)
        .with_id(format!("{entity}#{state:x}"))
        .with_trace(spans::begin(true)))
}

async fn note_done(shared: &Arc<Shared>, name: &str, slot: u64) -> Result<Payload, Error> {
    let invalid = |e: String| Error::new(ErrorKind::Invalid, e);
    let entity = EntityId::new(SCHEDULE, name).map_err(|e| invalid(e.to_string()))?;
    let slot = Payload::of(Encoding::Postcard, &slot).map_err(|e| invalid(e.to_string()))?;
    shared
        .call(Call::new(entity, "done", slot), None, TIMEOUT_MS_DEFAULT)
        .await
}

/// Whether a function has answered: also that it will not.
fn is_answer(about: &str, result: &Result<Payload, Error>) -> bool {
    let Err(error) = result else { return true };
    tracing::warn!("{about}, has failed: {error}");
    let is_open = matches!(
        error.kind(),
        ErrorKind::Lost | ErrorKind::Unanswered | ErrorKind::Poisoned | ErrorKind::Internal
    );
    !(is_open || error.may_retry()) || error.kind() == ErrorKind::Unconfirmed
}

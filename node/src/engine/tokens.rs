//! Session tokens: what they say of answers, and requests that wait until what their session has seen is here.
//!
//! Contract: a request with a token is looked at once this node covers the token in the shards it is about, not before.

use std::collections::{BTreeMap, BTreeSet};

#[cfg(planted)]
use anabranch_crdt::VersionVector;
use anabranch_crdt::{Reading, ReplicaId, Type, planted};

use crate::engine::Engine;
use crate::engine::io::{Answer, Output, Read, RequestId, Time, Update};
use crate::engine::limits::READ_ENTITIES_MAX;
use crate::error::{Error, ErrorKind};
use crate::wire::{EntityId, ShardId, Token};

/// What waits.
#[derive(Debug)]
enum Request {
    Update(Update),
    Read(Read),
    /// A read that has heard what a majority has: that is what it is after now.
    Polled(Read),
}

impl Request {
    fn after(&self) -> Option<&Token> {
        match self {
            Request::Update(update) => update.after.as_ref(),
            Request::Read(read) | Request::Polled(read) => Some(&read.after),
        }
    }

    fn timeout_ms(&self) -> u64 {
        match self {
            Request::Update(update) => update.timeout_ms,
            Request::Read(read) | Request::Polled(read) => read.timeout_ms,
        }
    }

    /// Everything there is is read.
    fn is_of_all(&self) -> bool {
        matches!(self, Request::Read(read) | Request::Polled(read) if read.all)
    }

    fn entities(&self) -> Box<dyn Iterator<Item = &EntityId> + '_> {
        match self {
            Request::Update(update) => Box::new(update.ops.iter().map(|op| &op.entity)),
            Request::Read(read) | Request::Polled(read) => Box::new(read.entities.iter()),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    request: Request,
    shards: BTreeSet<ShardId>,
    deadline: Time,
}

/// Requests whose session has seen what is not here yet.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    waiting: BTreeMap<RequestId, Waiting>,
    deadlines: BTreeSet<(Time, RequestId)>,
    by_shard: BTreeSet<(ShardId, RequestId)>,
    /// Shards in which something has changed since they were looked at.
    due: BTreeSet<ShardId>,
}

impl Parked {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn wakeup(&self) -> Option<Time> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A shard has changed: who waits for it may go on.
    pub fn recheck(&mut self, shard: ShardId) {
        if !self.waiting.is_empty() {
            self.due.insert(shard);
        }
    }

    fn insert(&mut self, id: RequestId, waiting: Waiting) {
        self.deadlines.insert((waiting.deadline, id));
        self.by_shard
            .extend(waiting.shards.iter().map(|shard| (*shard, id)));
        self.waiting.insert(id, waiting);
    }

    fn remove(&mut self, id: RequestId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.deadlines.remove(&(waiting.deadline, id));
        for shard in &waiting.shards {
            self.by_shard.remove(&(*shard, id));
        }
        Some(waiting)
    }

    fn of_shard(&self, shard: ShardId) -> Vec<RequestId> {
        let range = (shard, RequestId(0))..=(shard, RequestId(u64::MAX));
        self.by_shard.range(range).map(|(_, id)| *id).collect()
    }
}

impl Engine {
    /// What a session that had seen `after` has seen once it has read these entities here: all that their shards hold.
    ///
    /// Nothing is left out of it, not even what every member is known to have durably: who the members are is a hint, and a member
    /// may come back with an older disk, or with none. That a node which has caught up with another may answer does not mend that:
    /// the other may lack the same (`engine::tests::sessions` has each as a schedule; planted is the omission, with that rule). What would do is to name the runs of nodes that are known to have it,
    /// since a run never lacks again what it has joined. But names of runs are most of what a token is (see its test of sizes), no other
    /// run could answer without asking one of those, and none where all have restarted since.
    pub fn token<'a>(&self, after: &Token, entities: impl IntoIterator<Item = &'a EntityId>) -> Token {
        let mut token = after.clone();
        let shards: BTreeSet<ShardId> = entities.into_iter().map(|id| self.shard_of(id)).collect();
        self.add_shards(&mut token, shards);
        token
    }

    /// What a read of this entity shows that was answered so, in the step of its answer or later, and what its session has seen then:
    /// of a majority read what it was when a majority was seen to have it, else what is here now.
    pub fn read_answered(
        &self,
        answer: &Answer,
        after: &Token,
        id: &EntityId,
    ) -> (Option<(Type, Reading)>, Token) {
        match answer.shown.first() {
            Some(view) => (view.ty().zip(view.read()), answer.token.clone()),
            // What is here stays here: whatever is read now is at least as new, and so is the token.
            None => (self.read(id), self.token(after, [id])),
        }
    }

    /// Adds all that these shards hold now.
    pub(crate) fn add_shards(&self, token: &mut Token, shards: impl IntoIterator<Item = ShardId>) {
        for id in shards {
            let shard = &self.shards[id.0 as usize];
            planted!(
                "token_leaves_out_stable",
                shard.add_to(token, &above(&shard.vv, &self.stable(shard))),
                shard.add_to(token, &shard.vv)
            );
        }
    }

    /// Whether what a session has seen of a shard is here.
    fn has_seen(&self, token: &Token, id: ShardId) -> bool {
        let shard = &self.shards[id.0 as usize];
        let has = |(replica, seq): (ReplicaId, u64)| {
            shard
                .replicas
                .get(replica)
                .is_some_and(|ix| shard.vv.get(ix) >= seq)
        };
        planted!(
            "token_by_maximum",
            by_maximum(token, id, shard),
            planted!("token_leaves_out_stable", self.votes(id), true) && token.of(id).all(has)
        )
    }

    pub(crate) fn on_update(&mut self, id: RequestId, update: Update) {
        match &update.after {
            None => self.on_submit(id, update),
            Some(_) => self.on_request(id, Request::Update(update)),
        }
    }

    pub(crate) fn on_read(&mut self, id: RequestId, read: Read) {
        self.on_request(id, Request::Read(read));
    }

    /// A majority has told what it has: that must be here now.
    pub(crate) fn take_in(&mut self, id: RequestId, read: Read, seen: Token, deadline: Time) {
        let shards = read.entities.iter().map(|id| self.shard_of(id)).collect();
        let request = Request::Polled(Read { after: seen, ..read });
        let waiting = Waiting {
            request,
            shards,
            deadline,
        };
        self.wait_for(id, waiting);
    }

    /// Done at once if what the session has seen is here, otherwise when it is.
    fn on_request(&mut self, id: RequestId, request: Request) {
        let mut shards: BTreeSet<ShardId> = request.entities().map(|id| self.shard_of(id)).collect();
        if request.is_of_all() {
            let named = request.after().into_iter().flat_map(Token::iter);
            // Those of another cluster are refused below.
            shards.extend(
                named
                    .map(|(shard, ..)| shard)
                    .filter(|shard| shard.0 < self.config.shards),
            );
        }
        let waiting = Waiting {
            deadline: self.now.time.after_ms(request.timeout_ms()),
            request,
            shards,
        };
        if let Err(error) = self.check_request(&waiting.request) {
            return self.decline(id, error);
        }
        let waits = self.requests_waiting();
        let polls = matches!(&waiting.request, Request::Read(read) if read.majority);
        if (polls || !self.is_here(&waiting)) && waits >= self.config.limits.requests_max {
            let message = format!("nothing changed: {waits} requests wait already; retry later");
            return self.decline(id, Error::new(ErrorKind::Overloaded, message));
        }
        self.wait_for(id, waiting);
    }

    /// Requests that are not answered yet.
    pub(crate) fn requests_waiting(&self) -> usize {
        self.levels.len() + self.parked.len() + self.polls.len()
    }

    /// Those of them by which nothing has changed: they read, or wait for what their session has seen.
    pub fn unmade(&self) -> BTreeSet<RequestId> {
        let parked = self.parked.waiting.keys().copied();
        parked
            .chain(self.polls.requests())
            .chain(self.levels.reads())
            .collect()
    }

    fn wait_for(&mut self, id: RequestId, waiting: Waiting) {
        if self.is_here(&waiting) {
            return self.go_on(id, waiting);
        }
        let shards: Vec<ShardId> = waiting.shards.iter().copied().collect();
        self.parked.insert(id, waiting);
        for shard in shards {
            self.want_the_rest(shard);
        }
    }

    fn check_request(&self, request: &Request) -> Result<(), Error> {
        let shards = self.config.shards;
        let mut named = request.after().into_iter().flat_map(Token::iter);
        if named.any(|(shard, ..)| shard.0 >= shards) {
            let message = "nothing changed: the session token is of another cluster";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        match request {
            Request::Update(update) => self.check_size(&update.ops),
            Request::Read(read) | Request::Polled(read) if read.entities.len() > READ_ENTITIES_MAX => {
                let message = format!(
                    "nothing changed: a read of {} entities, at most {READ_ENTITIES_MAX}",
                    read.entities.len()
                );
                Err(Error::new(ErrorKind::Invalid, message))
            }
            Request::Read(_) | Request::Polled(_) => Ok(()),
        }
    }

    fn is_here(&self, waiting: &Waiting) -> bool {
        let after = waiting.request.after();
        after.is_none_or(|after| waiting.shards.iter().all(|shard| self.has_seen(after, *shard)))
    }

    /// What its session has seen is here.
    fn go_on(&mut self, id: RequestId, waiting: Waiting) {
        match waiting.request {
            Request::Update(update) => {
                let timeout_ms = self.now.time.ms_until(waiting.deadline);
                self.on_submit(id, Update { timeout_ms, ..update });
            }
            Request::Read(read) if read.majority => self.poll(id, read, waiting.shards, waiting.deadline),
            Request::Polled(read) => self.show_once_kept(id, &read, waiting.deadline),
            Request::Read(read) => {
                let token = self.token(&read.after, &read.entities);
                let answer = self.answer_of(self.started.epoch, Vec::new(), false);
                self.outputs.push_back(Output::Done {
                    request: id,
                    result: Ok(crate::engine::Answer { token, ..answer }),
                });
            }
        }
    }

    pub(crate) fn decline(&mut self, request: RequestId, error: Error) {
        self.outputs.push_back(Output::Done {
            request,
            result: Err(error),
        });
    }

    /// Goes on with whoever waited for what has come.
    pub(crate) fn release_parked(&mut self) {
        while let Some(shard) = self.parked.due.pop_first() {
            for id in self.parked.of_shard(shard) {
                let is_here = self.parked.waiting.get(&id).is_some_and(|w| self.is_here(w));
                if is_here && let Some(waiting) = self.parked.remove(id) {
                    self.go_on(id, waiting);
                }
            }
        }
    }

    pub(crate) fn on_parked_due(&mut self) {
        while let Some(&(deadline, id)) = self.parked.deadlines.first() {
            if deadline > self.now.time {
                return;
            }
            let Some(waiting) = self.parked.remove(id) else {
                continue;
            };
            let after = waiting.request.after();
            let is_behind = |shard: &&ShardId| after.is_some_and(|after| !self.has_seen(after, **shard));
            let behind = waiting.shards.iter().filter(is_behind).count();
            let message = format!(
                "nothing changed: the session has seen more than this node has, in {behind} of the {} shards asked for, and it \
                 did not come within {} ms; retry later or at another node",
                waiting.shards.len(),
                waiting.request.timeout_ms()
            );
            self.decline(id, Error::new(ErrorKind::Stale, message));
        }
    }
}

/// Planted: what is not stable.
#[cfg(planted)]
fn above(vv: &VersionVector, stable: &VersionVector) -> VersionVector {
    vv.iter().filter(|(ix, seq)| *seq > stable.get(*ix)).collect()
}

/// Planted: as if sequences of different replicas could be compared.
#[cfg(planted)]
fn by_maximum(token: &Token, id: ShardId, shard: &crate::engine::shard::Shard) -> bool {
    let here = shard.vv.iter().map(|(_, seq)| seq).max();
    here >= token.of(id).map(|(_, seq)| seq).max()
}

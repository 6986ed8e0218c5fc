//! Catching up: what a shard lacks is asked for as a vector interval, from any one holder, and comes in one answer.
//!
//! Links that do not reach everybody heal through third nodes this way. A holder that no longer has the operations
//! answers with a snapshot instead (see `snapshot`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anabranch_crdt::{Epoch, NodeId, ReplicaId, Replicas, VersionVector, planted};

use crate::engine::Engine;
use crate::engine::io::Time;
use crate::engine::limits::{IN_FLIGHT_BYTES_MAX, PULL_DOUBLINGS_MAX, TOO_LARGE_MS, TRANSFER_BYTES_MAX};
use crate::engine::push::out_entries;
use crate::engine::said::Tone;
use crate::engine::snapshot::Arriving;
use crate::engine::translate::{Head, Refused, TableWriter, write_interval};
use crate::wire::{Busy, Frame, Interval, Lane, PULL_ID_BIT, Pull, ShardId};

/// What is lacking, and what has been asked for.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    wants: BTreeMap<ShardId, Want>,
    under_way: BTreeMap<ShardId, UnderWay>,
    /// How many pulls of a shard came to nothing since the last that did not.
    failures: BTreeMap<ShardId, u32>,
    /// Shards whose snapshot was too large, until when they are left alone, and for how long that was.
    too_large: BTreeMap<ShardId, (Time, u64)>,
}

#[derive(Debug)]
struct Want {
    due: Time,
    /// Whom to ask first.
    prefer: Option<NodeId>,
    /// What it is hoped will come by itself.
    hope: Option<Hope>,
}

/// Operations that are on their way from their origins.
#[derive(Debug)]
struct Hope {
    /// What was here when they were first noticed to be lacking, and how far they went.
    had: VersionVector,
    theirs: VersionVector,
}

impl Hope {
    /// Whether more has come from every origin that was behind: then the rest is coming too.
    fn is_coming_true(&self, vv: &VersionVector) -> bool {
        self.theirs
            .iter()
            .all(|(ix, theirs)| vv.get(ix) >= theirs || vv.get(ix) > self.had.get(ix))
    }
}

/// A pull that is not answered yet.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pub peer: NodeId,
    pub id: u64,
    pub expires: Time,
    /// The snapshot it is being answered with.
    pub arriving: Option<Arriving>,
}

impl Pulls {
    /// When something is due. While all places are taken nothing that is wanted can start: a place that becomes free
    /// starts the next.
    pub fn wakeup(&self, places: usize) -> Option<Time> {
        let full = self.under_way.len() >= places;
        let wants = self.wants.values().map(|w| w.due).filter(|_| !full);
        wants.chain(self.under_way.values().map(|u| u.expires)).min()
    }

    pub fn under_way(&mut self, shard: ShardId) -> Option<&mut UnderWay> {
        self.under_way.get_mut(&shard)
    }

    /// Bytes of all snapshots that are arriving.
    pub fn arriving_bytes(&self) -> usize {
        self.arriving().map(|(_, bytes)| bytes).sum()
    }

    fn arriving(&self) -> impl Iterator<Item = (ShardId, usize)> {
        self.under_way
            .iter()
            .filter_map(|(shard, u)| Some((*shard, u.arriving.as_ref()?.bytes())))
    }

    /// The snapshot that has come least far.
    pub fn least_arrived(&self) -> Option<ShardId> {
        self.arriving()
            .min_by_key(|(_, bytes)| *bytes)
            .map(|(shard, _)| shard)
    }

    pub fn finish(&mut self, shard: ShardId) -> Option<UnderWay> {
        self.under_way.remove(&shard)
    }

    /// It was answered whole.
    pub fn succeed(&mut self, shard: ShardId) -> Option<UnderWay> {
        self.failures.remove(&shard);
        self.too_large.remove(&shard);
        self.finish(shard)
    }

    pub fn failures(&self, shard: ShardId) -> u32 {
        self.failures.get(&shard).copied().unwrap_or(0)
    }

    fn failed(&mut self, shard: ShardId) {
        let failures = self.failures.entry(shard).or_default();
        *failures = failures.saturating_add(1);
    }

    /// Its snapshot is larger than may be staged: it is left alone for a while.
    pub fn leave_alone(&mut self, shard: ShardId, now: Time) {
        let [first, most] = TOO_LARGE_MS;
        let last = self.too_large.get(&shard).map(|(_, ms)| *ms);
        let ms = last.map_or(first, |ms| (ms * 2).min(most));
        self.too_large.insert(shard, (now.after_ms(ms), ms));
    }

    pub fn is_idle(&self) -> bool {
        self.wants.is_empty() && self.under_way.is_empty()
    }
}

impl Engine {
    /// Something is missing in this shard: ask somebody in so many milliseconds, unless it comes by itself.
    pub(crate) fn want(&mut self, shard: ShardId, delay_ms: u64) {
        self.want_at(shard, None, delay_ms, None);
    }

    pub(crate) fn want_from(&mut self, shard: ShardId, peer: NodeId, delay_ms: u64) {
        self.want_at(shard, Some(peer), delay_ms, None);
    }

    fn want_at(&mut self, shard: ShardId, prefer: Option<NodeId>, delay_ms: u64, hope: Option<Hope>) {
        let mut due = self.now.time.after_ms(delay_ms);
        if let Some((until, _)) = self.pulls.too_large.get(&shard) {
            due = due.max(*until);
        }
        let new = Want { due, prefer, hope };
        match self.pulls.wants.entry(shard) {
            Entry::Vacant(place) => drop(place.insert(new)),
            Entry::Occupied(mut want) if due < want.get().due => drop(want.insert(new)),
            Entry::Occupied(_) => {}
        }
    }

    /// A peer has what we lack. From an origin whose link is up it is on its way already, and gets a moment to arrive.
    pub(crate) fn want_what(&mut self, id: ShardId, peer: NodeId, theirs: &VersionVector) {
        let shard = &self.shards[id.0 as usize];
        let lacking = theirs.iter().filter(|(ix, seq)| *seq > shard.vv.get(*ix));
        let mut on_its_way = lacking.map(|(ix, _)| shard.replicas.id(ix)).map(|replica| {
            self.peers
                .get(&replica.node)
                .is_some_and(|p| p.epoch == replica.epoch)
        });
        if !on_its_way.all(|yes| yes) {
            return self.want_from(id, peer, 0);
        }
        let hope = Hope {
            had: shard.vv.clone(),
            theirs: theirs.clone(),
        };
        self.want_at(id, Some(peer), self.config.limits.pull_grace_ms, Some(hope));
    }

    pub(crate) fn on_pulls_due(&mut self) {
        let now = self.now.time;
        let expired: Vec<ShardId> = self
            .pulls
            .under_way
            .iter()
            .filter(|(_, u)| u.expires <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            self.on_pull_expired(id);
        }
        let due: Vec<ShardId> = self
            .pulls
            .wants
            .iter()
            .filter(|(_, w)| w.due <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if self.pulls.under_way.len() >= self.config.limits.pulls_max {
                return;
            }
            self.on_want_due(id);
        }
    }

    /// Nothing came for too long. A snapshot that has begun to arrive goes on where it stands; otherwise another holder
    /// is asked. Each time the wait is longer: on a slow link it is the asking that takes the room of the answers.
    fn on_pull_expired(&mut self, id: ShardId) {
        self.counters.pulls_timed_out += 1;
        self.pulls.failed(id);
        let failures = self.pulls.failures(id);
        let expires = self.now.time.after_ms(self.config.limits.pull_wait_ms(failures));
        if let Some(pull) = self.pulls.under_way(id)
            && let Some(arriving) = pull.arriving.as_ref().filter(|_| failures <= PULL_DOUBLINGS_MAX)
        {
            pull.expires = expires;
            let (peer, next) = (pull.peer, arriving.next(id, pull.id));
            return self.send(peer, Lane::Control, &Frame::SnapshotNext(next));
        }
        let failed = self.pulls.finish(id);
        if let Some(pull) = &failed
            && let Some(p) = self.peers.get_mut(&pull.peer)
        {
            p.staging.drop_pull(pull.id);
        }
        let next = failed.and_then(|failed| self.holder_after(id, failed.peer));
        self.want_at(id, next, 0, None);
    }

    fn on_want_due(&mut self, id: ShardId) {
        let Some(want) = self.pulls.wants.remove(&id) else {
            return;
        };
        self.drop_held(id);
        let vv = &self.shards[id.0 as usize].vv;
        if want.hope.is_some_and(|hope| hope.is_coming_true(vv)) {
            return self.want_the_rest(id);
        }
        let Some(holder) = self.choose_holder(id, want.prefer) else {
            // It has come meanwhile, or nobody who has it can be reached; who has it will say so again.
            return;
        };
        if self.pulls.under_way.contains_key(&id) {
            let later = self.config.limits.said_delay_ms;
            return self.want_at(id, Some(holder), later, None);
        }
        self.pull(id, holder);
    }

    fn pull(&mut self, id: ShardId, holder: NodeId) {
        let pull_id = self.next_transfer | PULL_ID_BIT;
        self.next_transfer += 1;
        let wait_ms = self.config.limits.pull_wait_ms(self.pulls.failures(id));
        let under_way = UnderWay {
            peer: holder,
            id: pull_id,
            expires: self.now.time.after_ms(wait_ms),
            arriving: None,
        };
        self.pulls.under_way.insert(id, under_way);
        self.counters.pulls_sent += 1;
        let shard = self.shard(id);
        let mut table = TableWriter::new(&shard.replicas);
        let vv = table.vector(&shard.vv);
        let frame = Frame::Pull(Pull {
            shard: id.0,
            id: pull_id,
            replicas: table.ids,
            vv,
        });
        self.send(holder, Lane::Control, &frame);
    }

    /// What some connected peer has beyond what is here.
    pub(crate) fn want_the_rest(&mut self, id: ShardId) {
        let holder = self.peers.keys().copied().find(|p| self.holds_more(id, *p));
        let shard = &self.shards[id.0 as usize];
        let theirs = holder.and_then(|p| Some((p, shard.peers.get(&p)?.applied.clone())));
        if let Some((peer, theirs)) = theirs {
            self.want_what(id, peer, &theirs);
        }
    }

    /// Whether a connected peer is known to have operations that this shard lacks.
    fn holds_more(&self, id: ShardId, peer: NodeId) -> bool {
        let shard = &self.shards[id.0 as usize];
        self.peers.contains_key(&peer)
            && shard
                .peers
                .get(&peer)
                .is_some_and(|v| !shard.vv.covers(&v.applied))
    }

    /// Whether what a peer holds is known to be above its base: it need not answer with a snapshot.
    fn has_the_history(&self, id: ShardId, peer: NodeId) -> bool {
        let shard = &self.shards[id.0 as usize];
        let base = shard.peers.get(&peer).and_then(|v| v.base.as_ref());
        base.is_some_and(|base| shard.vv.covers(base))
    }

    /// Whom to ask: the preferred one, but rather one that has the history than one that would send the shard whole.
    fn choose_holder(&self, id: ShardId, prefer: Option<NodeId>) -> Option<NodeId> {
        let prefer = prefer.filter(|p| self.holds_more(id, *p));
        if prefer.is_some_and(|p| self.has_the_history(id, p)) {
            return prefer;
        }
        let mut others = self.peers.keys().copied().filter(|p| self.holds_more(id, *p));
        others
            .find(|p| self.has_the_history(id, *p))
            .or(prefer)
            .or_else(|| self.holder_after(id, self.config.node))
    }

    /// The next holder after this one, around the circle.
    fn holder_after(&self, id: ShardId, after: NodeId) -> Option<NodeId> {
        let holders = || self.peers.keys().copied().filter(|p| self.holds_more(id, *p));
        holders().find(|p| *p > after).or_else(|| holders().next())
    }

    /// Part of some answer has come from a peer: it is slow, not lost, and what else was asked of it waits behind that.
    pub(crate) fn pulls_progress(&mut self, peer: NodeId) {
        let (now, limits) = (self.now.time, &self.config.limits);
        let Pulls {
            under_way, failures, ..
        } = &mut self.pulls;
        for (id, pull) in under_way.iter_mut().filter(|(_, u)| u.peer == peer) {
            let failures = failures.get(id).copied().unwrap_or(0);
            pull.expires = now.after_ms(limits.pull_wait_ms(failures));
        }
    }

    pub(crate) fn pull_answered(&mut self, id: ShardId, peer: NodeId, transfer: u64) -> bool {
        let answered = self
            .pulls
            .under_way(id)
            .is_some_and(|u| u.peer == peer && u.id == transfer);
        if answered {
            self.pulls.succeed(id);
        }
        answered
    }

    /// The answer to a pull cannot become whole: it is asked for again.
    pub(crate) fn pull_broke(&mut self, id: ShardId, peer: NodeId, transfer: u64) {
        if self
            .pulls
            .under_way(id)
            .is_some_and(|u| u.peer == peer && u.id == transfer)
        {
            self.pulls.finish(id);
            self.want_after_failure(id, Some(peer));
        }
    }

    /// A pull came to nothing; the next waits the longer the more did.
    fn want_after_failure(&mut self, id: ShardId, prefer: Option<NodeId>) {
        self.pulls.failed(id);
        let doublings = (self.pulls.failures(id) - 1).min(PULL_DOUBLINGS_MAX);
        let delay_ms = self.config.limits.said_delay_ms << doublings;
        self.want_at(id, prefer, delay_ms, None);
    }

    /// The holder asked has no place for another snapshot: the next one is asked, or the same a little later.
    pub(crate) fn on_busy(&mut self, peer: NodeId, m: &Busy) -> Result<(), Refused> {
        let id = self.shard_id(m.shard)?;
        if self
            .pulls
            .under_way(id)
            .is_some_and(|u| u.peer == peer && u.id == m.id)
        {
            self.pulls.finish(id);
            let next = self.holder_after(id, peer);
            self.want_after_failure(id, next);
        }
        Ok(())
    }

    pub(crate) fn forget_pulls_from(&mut self, peer: NodeId) {
        let broken: Vec<ShardId> = self
            .pulls
            .under_way
            .iter()
            .filter(|(_, u)| u.peer == peer)
            .map(|(id, _)| *id)
            .collect();
        for id in broken {
            self.pulls.finish(id);
            self.want(id, 0);
        }
    }

    /// Answers with everything in `(their vector, ours]`, all origins at once; below a base with a snapshot.
    pub(crate) fn on_pull(&mut self, peer: NodeId, m: &Pull) -> Result<(), Refused> {
        let id = self.shard_id(m.shard)?;
        if m.id & PULL_ID_BIT == 0 {
            return Err("a pull without a pull's number".into());
        }
        let Some(p) = self.peers.get_mut(&peer) else {
            return Ok(());
        };
        // Two answers to one pull would be taken for one, and they may differ.
        let last = p.pulled.entry(id).or_default();
        if *last >= m.id {
            return Ok(());
        }
        *last = m.id;
        let theirs = known_vector(&self.shard(id).replicas, m)?;
        let shard = &self.shards[id.0 as usize];
        if theirs.covers(&shard.vv) {
            self.say(peer, &[id], Tone::News);
            return Ok(());
        }
        if shard.bases().iter().any(|(ix, base)| theirs.get(ix) < base) {
            self.open_session(peer, id, m.id);
            return Ok(());
        }
        let backlog = self.peers.get(&peer).map_or(0, |p| p.in_flight);
        if backlog > IN_FLIGHT_BYTES_MAX {
            self.say_busy(peer, id, m.id);
            return Ok(());
        }
        let Some(parts) = self.answer_to(id, m.id, &theirs) else {
            // More than is applied in one step: a snapshot comes in parts as they are asked for.
            self.open_session(peer, id, m.id);
            return Ok(());
        };
        self.counters.pulls_served += 1;
        for part in parts {
            self.send_state(peer, &[id], Lane::Bulk, Frame::Intervals(vec![part]));
        }
        Ok(())
    }

    /// Everything in `(theirs, ours]`; `None` if it is more than one step may take.
    fn answer_to(&self, id: ShardId, pull: u64, theirs: &VersionVector) -> Option<Vec<Interval>> {
        let shard = &self.shards[id.0 as usize];
        let to: VersionVector = shard
            .vv
            .iter()
            .filter(|(ix, seq)| *seq > theirs.get(*ix))
            .filter(|(ix, _)| {
                planted!(
                    "only_own_updates_pulled",
                    shard.replicas.id(*ix).node == self.config.node,
                    ix.at() < shard.replicas.len()
                )
            })
            .collect();
        let most = TRANSFER_BYTES_MAX.min(self.config.limits.staged_bytes_max / 2);
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in to
            .iter()
            .flat_map(|(ix, seq)| out_entries(shard, ix, theirs.get(ix), seq))
        {
            bytes += entry.len_bytes();
            if bytes > most {
                return None;
            }
            entries.push(entry);
        }
        let none = VersionVector::new();
        let head = Head {
            shard: id.0,
            id: pull,
            from: theirs,
            to: &to,
            deps: &none,
            urgent: false,
        };
        let parts = write_interval(
            &shard.replicas,
            &head,
            self.config.limits.part_bytes,
            entries.into_iter(),
        );
        Some(parts)
    }
}

/// The asker's vector as far as its replicas are known here: of others there is nothing to serve.
fn known_vector(replicas: &Replicas, m: &Pull) -> Result<VersionVector, Refused> {
    let mut theirs = VersionVector::new();
    for &(i, seq) in &m.vv {
        let id = m
            .replicas
            .get(usize::from(i))
            .ok_or_else(|| format!("replica index {i} of {}", m.replicas.len()))?;
        if let Some(ix) = replicas.get(ReplicaId::new(NodeId(id.node), Epoch(id.epoch))) {
            theirs.advance(ix, seq);
        }
    }
    Ok(theirs)
}

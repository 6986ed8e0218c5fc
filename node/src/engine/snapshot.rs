//! Whole shards, as they arrive: from a peer whose base is above what is here, and from the disk.
//!
//! Parts are staged beside the state and joined in one step, each side's vector as context: what a complete range does
//! not list, and its vector covers, is dead. An interrupted transfer leaves no trace.
//! Not here: where parts come from (`frozen`, `serve`), when one is asked for (`pull`).

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_crdt::{
    DOT_BYTES_MAX, Dot, Env, HashKey, NodeId, Put, Replicas, Value, VersionVector, decode_puts,
};

use crate::engine::Engine;
use crate::engine::frozen::resume_after;
use crate::engine::io::Output;
use crate::engine::placement::Placement;
use crate::engine::puts::check_sizes;
use crate::engine::ring::Ring;
use crate::engine::shard::{EntityKey, Kinds, Shard};
use crate::engine::translate::{Refused, TableReader, read_entity};
use crate::wire::{EntityId, Frame, Lane, Record, Resume, ShardId, ShardPart, SnapshotNext};

/// A snapshot being received.
#[derive(Debug, Default)]
pub(crate) struct Arriving {
    parts: Vec<ShardPart>,
    bytes: usize,
}

impl Arriving {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The request of the part that is to come next.
    pub fn next(&self, shard: ShardId, session: u64) -> SnapshotNext {
        SnapshotNext {
            shard: shard.0,
            session,
            resume: self.parts.last().and_then(resume_after),
        }
    }
}

/// What complete parts say, in a shard's terms.
pub(super) struct Image {
    pub(super) view: VersionVector,
    /// In order.
    rows: Vec<(EntityKey, Vec<(Dot, Put)>)>,
}

impl Image {
    pub(super) fn puts(&self) -> impl Iterator<Item = &Put> {
        self.rows.iter().flat_map(|(_, puts)| puts).map(|(_, put)| put)
    }
}

/// All rows must be of this shard.
pub(super) fn check_place(placement: &Placement, id: ShardId, image: &Image) -> Result<(), Refused> {
    let mut names = image.rows.iter().map(|((name, _), _)| name);
    match names.find(|name| placement.shard_of(name) != id) {
        Some(stray) => Err(format!("{stray} does not belong to shard {id}")),
        None => Ok(()),
    }
}

pub(super) fn read_image(replicas: &mut Replicas, parts: &[ShardPart]) -> Result<Image, Refused> {
    let mut image = Image {
        view: VersionVector::new(),
        rows: Vec::with_capacity(parts.iter().map(|part| part.rows.len()).sum()),
    };
    let mut after: Resume = None;
    for (i, part) in parts.iter().enumerate() {
        if part.after != after || part.last != (i + 1 == parts.len()) {
            return Err("snapshot parts that do not follow one another".into());
        }
        let table = TableReader::new(replicas, &part.replicas)?;
        let view = table.vector(&part.view)?;
        if i > 0 && view != image.view {
            return Err("snapshot parts of different views".into());
        }
        image.view = view;
        read_rows(&table, part, &mut image)?;
        after = resume_after(part);
    }
    Ok(image)
}

fn read_rows(table: &TableReader, part: &ShardPart, image: &mut Image) -> Result<(), Refused> {
    for (i, row) in part.rows.iter().enumerate() {
        let key = read_entity(&row.entity)?;
        let goes_on = i == 0 && part.after.as_ref().is_some_and(|(e, _)| *e == row.entity);
        let last = image.rows.last().map(|(last, _)| last);
        let is_begun = goes_on && last == Some(&key);
        if !is_begun && last.is_some_and(|last| *last >= key) {
            return Err(format!("snapshot rows out of order at {}", key.0));
        }
        let mut puts = decode_puts(&row.puts, key.1, table.len()).map_err(|e| format!("{}: {e}", key.0))?;
        if puts.len() as u64 != row.count {
            return Err(format!(
                "{}: {} puts announced, {} there",
                key.0,
                row.count,
                puts.len()
            ));
        }
        for (dot, put) in &mut puts {
            *dot = table.dot(dot.ix().0, dot.seq())?;
            check_sizes(put)?;
            if !image.view.contains(*dot) {
                return Err(format!(
                    "a snapshot shows operation {} of {}, which its vector does not cover",
                    dot.seq(),
                    key.0
                ));
            }
        }
        match image.rows.last_mut().filter(|_| is_begun) {
            Some((_, begun)) => begun.append(&mut puts),
            None => image.rows.push((key, puts)),
        }
    }
    Ok(())
}

/// About what a part takes once it is unpacked, which may be many times what arrived.
fn unpacked_bytes(part: &ShardPart) -> Result<usize, Refused> {
    let mut bytes = part.len_bytes();
    for row in &part.rows {
        let (id, ty) = read_entity(&row.entity)?;
        let puts = decode_puts(&row.puts, ty, part.replicas.len()).map_err(|e| format!("{id}: {e}"))?;
        bytes += puts
            .iter()
            .map(|(_, put)| DOT_BYTES_MAX + put.weight())
            .sum::<usize>();
    }
    Ok(bytes)
}

impl Engine {
    /// Stages a part; the last one installs them all.
    pub(crate) fn on_snapshot_part(&mut self, peer: NodeId, part: ShardPart) -> Result<(), Refused> {
        let id = self.shard_id(part.shard)?;
        self.pulls_progress(peer);
        let Some(pull) = self
            .pulls
            .under_way(id)
            .filter(|u| u.peer == peer && u.id == part.session)
        else {
            return Ok(());
        };
        let bytes = unpacked_bytes(&part)?;
        let arriving = pull.arriving.get_or_insert_with(Arriving::default);
        let expected = arriving.parts.last().and_then(resume_after);
        if part.after != expected || arriving.parts.last().is_some_and(|p| p.last) {
            // A repeat of a part that is here.
            return Ok(());
        }
        if part.rows.is_empty() && !part.last {
            return Err("a snapshot part that brings nothing and is not the last".into());
        }
        arriving.bytes += bytes;
        let (last, alone) = (part.last, arriving.bytes);
        arriving.parts.push(part);
        if !self.make_room_for(peer, id, alone) {
            return Ok(());
        }
        if last {
            let whole = self.pulls.succeed(id).and_then(|u| u.arriving);
            return self.take_snapshot(id, whole.unwrap_or_default().parts);
        }
        if let Some(pull) = self.pulls.under_way(id)
            && let Some(arriving) = &pull.arriving
        {
            let next = arriving.next(id, pull.id);
            self.send(peer, Lane::Control, &Frame::SnapshotNext(next));
        }
        Ok(())
    }

    /// Keeps all arriving snapshots within their bound; false if this one had to give way.
    fn make_room_for(&mut self, peer: NodeId, id: ShardId, alone: usize) -> bool {
        let bytes_max = self.config.limits.staged_bytes_max;
        if alone > bytes_max {
            self.pulls.finish(id);
            self.pulls.leave_alone(id, self.now.time);
            self.counters.snapshots_too_large += 1;
            tracing::error!(%peer, shard = %id, "a snapshot above {bytes_max} bytes cannot be taken: raise staged_bytes_max");
            self.want_from(id, peer, 0);
            return false;
        }
        let mut stays = true;
        while self.pulls.arriving_bytes() > bytes_max {
            // All of them together are too much: the one that has come least far begins again later.
            let Some(least) = self.pulls.least_arrived() else {
                return stays;
            };
            self.pulls.finish(least);
            self.want(least, self.config.limits.pull_timeout_ms);
            stays &= least != id;
        }
        stays
    }

    fn take_snapshot(&mut self, id: ShardId, parts: Vec<ShardPart>) -> Result<(), Refused> {
        if self.persist.bytes() > self.config.limits.unpersisted_bytes_max {
            self.counters.no_room += 1;
            self.want(id, self.config.limits.pull_timeout_ms);
            return Ok(());
        }
        let session = parts.first().map_or(0, |p| p.session);
        let changed = self.install(id, &parts)?;
        self.counters.snapshots_installed += 1;
        for part in parts {
            self.record(Record::Staged(part), &[]);
        }
        let reached = self.reached(id);
        self.record(Record::Installed { shard: id.0, session }, &reached);
        for entity in changed {
            self.outputs.push_back(Output::Changed { entity });
        }
        self.touch(id);
        // It may have caught up with this, and counts from now on.
        self.release_copies(id);
        self.retry_held(id);
        self.want_the_rest(id);
        Ok(())
    }

    /// Joins complete parts into a shard, in one step. On an error nothing has changed.
    pub(crate) fn install(&mut self, id: ShardId, parts: &[ShardPart]) -> Result<Vec<EntityId>, Refused> {
        let me = self.me();
        let shard = &mut self.shards[id.0 as usize];
        let image = read_image(Arc::make_mut(&mut shard.replicas), parts)?;
        if let Some(me) = shard.replicas.get(me)
            && image.view.get(me) > shard.vv.get(me)
        {
            return Err(format!(
                "a snapshot covers operation {} of this node, which has made {}",
                image.view.get(me),
                shard.vv.get(me)
            ));
        }
        check_place(&self.placement(), id, &image)?;
        // What is covered already was observed when it came, or was too far ahead then.
        let vv = self.shards[id.0 as usize].vv.clone();
        let puts = image.rows.iter().flat_map(|(_, puts)| puts);
        self.observe_clocks(puts.filter(|(dot, _)| !vv.contains(*dot)).map(|(_, put)| put));
        self.learn_epochs(id, &image.view);
        let shard = &mut self.shards[id.0 as usize];
        let changed = shard.join_image(&self.key, &mut self.kinds, image);
        if shard.check_caught_up() {
            self.on_caught_up(id);
        }
        Ok(changed)
    }
}

impl Shard {
    /// Joins what somebody has, whole; below that nothing can be served. Returns the entities that changed.
    pub(super) fn join_image(&mut self, key: &HashKey, kinds: &mut Kinds, image: Image) -> Vec<EntityId> {
        let vv = self.vv.clone();
        let changed = self.join_rows(key, kinds, image.rows, &image.view);
        for (ix, seq) in image.view.iter() {
            if seq > vv.get(ix) {
                // What led there is not known here: nothing below can be served.
                self.rings.entry(ix).or_insert_with(|| Ring::new(seq)).reset(seq);
            }
        }
        changed
    }

    /// Joins all rows of somebody who has seen `view`, and what that says of rows that are not among them. Returns the entities that
    /// changed.
    fn join_rows(
        &mut self,
        key: &HashKey,
        kinds: &mut Kinds,
        rows: Vec<(EntityKey, Vec<(Dot, Put)>)>,
        view: &VersionVector,
    ) -> Vec<EntityId> {
        let vv = self.vv.clone();
        let replicas = Arc::clone(&self.replicas);
        let env = Env {
            replicas: &replicas,
            key,
        };
        let (mut new, mut theirs) = (Vec::new(), BTreeMap::new());
        for (name, puts) in rows {
            // Where nothing is, and nothing of it was seen, their row is the joined one.
            let is_new = self.entities.get(&name).is_none() && !puts.iter().any(|(dot, _)| vv.contains(*dot));
            let value = Value::from_puts(&env, name.1, puts);
            match is_new && !value.is_vacant() {
                true => new.push((name, value)),
                false => drop(theirs.insert(name, value)),
            }
        }
        // Every range is complete: a row of ours that they do not list has nothing alive under their vector.
        for name in self.entities.keys() {
            if !theirs.contains_key(name) {
                theirs.insert(name.clone(), Value::new(name.1));
            }
        }
        let mut changed: Vec<EntityId> = new.iter().map(|((id, _), _)| id.clone()).collect();
        let waits = |(name, value): &(EntityKey, Value)| value.waiting().next().map(|_| name.clone());
        let waiting: Vec<EntityKey> = new.iter().filter_map(waits).collect();
        self.add_rows(key, kinds, new);
        for (name, value) in &theirs {
            let news = self.change(key, kinds, name, |ours, env| ours.join(env, &vv, value, view));
            if !news.is_empty() {
                changed.push(name.0.clone());
            }
        }
        changed.sort();
        self.vv.join(view);
        let now = Arc::new(self.vv.clone());
        for name in waiting.iter().chain(theirs.keys()) {
            self.note_waiting_in(name, &now);
        }
        changed
    }
}

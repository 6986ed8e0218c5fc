//! Whole shards: for a peer whose vector is below a base here, and for the disk.
//!
//! The server freezes the shard's state under its version vector (values are shared, not copied) and hands it out in
//! bounded parts as they are asked for. The receiver stages them beside its state and joins them in one step, each
//! side's vector as context: what a complete range does not list, and its vector covers, is dead. An interrupted
//! transfer leaves no trace.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_crdt::{Delta, Dot, Env, NodeId, Part, Put, Replicas, Value, VersionVector};

use crate::engine::Engine;
use crate::engine::io::{Output, Time};
use crate::engine::ring::Ring;
use crate::engine::shard::{EntityKey, Entry};
use crate::engine::translate::{
    Refused, TableReader, TableWriter, check_put, read_entity, read_put, wire_entity, wire_put,
};
use crate::wire::{Busy, EntityId, Frame, Lane, Record, Resume, ShardId, ShardPart, SnapshotNext, WireRow};

/// Snapshots being served.
#[derive(Debug, Default)]
pub(crate) struct Sessions(BTreeMap<(NodeId, ShardId), Session>);

#[derive(Debug)]
struct Session {
    id: u64,
    frozen: Frozen,
    expires: Time,
}

/// A shard's state at one moment.
#[derive(Debug)]
pub(crate) struct Frozen {
    replicas: Replicas,
    view: VersionVector,
    rows: Vec<(EntityKey, Arc<Value>)>,
}

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
}

impl Sessions {
    pub fn wakeup(&self) -> Option<Time> {
        self.0.values().map(|s| s.expires).min()
    }

    pub fn forget(&mut self, peer: NodeId) {
        self.0.retain(|(p, _), _| *p != peer);
    }
}

impl Frozen {
    pub fn of(shard: &crate::engine::shard::Shard) -> Frozen {
        Frozen {
            replicas: shard.replicas.clone(),
            view: shard.vv.clone(),
            rows: shard
                .entities
                .iter()
                .map(|(k, v)| (k.clone(), Arc::clone(v)))
                .collect(),
        }
    }

    /// The part of about `budget` bytes behind `after`.
    pub fn part(
        &self,
        shard: ShardId,
        session: u64,
        after: &Resume,
        budget: usize,
    ) -> Result<ShardPart, Refused> {
        let mut table = TableWriter::new(&self.replicas);
        let view = table.vector(&self.view);
        let (start, mut skip) = match after {
            None => (0, 0),
            Some((entity, puts)) => {
                let key = read_entity(entity)?;
                (
                    self.rows.partition_point(|(k, _)| *k < key),
                    usize::try_from(*puts).unwrap_or(usize::MAX),
                )
            }
        };
        let mut rows = Vec::new();
        let mut bytes = 0;
        let mut last = true;
        'rows: for (i, (key, value)) in self.rows.iter().enumerate().skip(start) {
            // Where the part before ended is a place in the first row only, and only if that row is still its entity.
            let skip = if i == start && after.as_ref().is_some_and(|(e, _)| *e == wire_entity(key)) {
                std::mem::take(&mut skip)
            } else {
                0
            };
            let mut row = WireRow {
                entity: wire_entity(key),
                puts: Vec::new(),
            };
            bytes += row.entity.len_bytes();
            for (dot, put) in value.puts().skip(skip) {
                if bytes >= budget && !(rows.is_empty() && row.puts.is_empty()) {
                    last = false;
                    if !row.puts.is_empty() {
                        rows.push(row);
                    }
                    break 'rows;
                }
                let wire = wire_put(&put);
                bytes += 13 + wire.len_bytes();
                row.puts.push((table.ix(dot.ix()), dot.seq(), wire));
            }
            if !row.puts.is_empty() {
                rows.push(row);
            }
        }
        Ok(ShardPart {
            shard: shard.0,
            session,
            replicas: table.ids,
            view,
            after: after.clone(),
            rows,
            last,
        })
    }
}

/// Where a part ends, for the request of the next.
pub(crate) fn resume_after(part: &ShardPart) -> Resume {
    let Some(row) = part.rows.last() else {
        return part.after.clone();
    };
    let before = match &part.after {
        Some((entity, puts)) if part.rows.len() == 1 && *entity == row.entity => *puts,
        _ => 0,
    };
    Some((row.entity.clone(), before + row.puts.len() as u64))
}

/// What complete parts say, in a shard's terms.
struct Image {
    view: VersionVector,
    rows: BTreeMap<EntityKey, Vec<(Dot, Put)>>,
}

fn read_image(replicas: &mut Replicas, parts: &[ShardPart]) -> Result<Image, Refused> {
    let mut image = Image {
        view: VersionVector::new(),
        rows: BTreeMap::new(),
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
        if !goes_on && image.rows.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(format!("snapshot rows out of order at {}", key.0));
        }
        let puts = image.rows.entry(key.clone()).or_default();
        for (replica, seq, put) in &row.puts {
            let dot = table.dot(*replica, *seq)?;
            if !image.view.contains(dot) {
                return Err(format!(
                    "a snapshot shows operation {seq} of {}, which its vector does not cover",
                    key.0
                ));
            }
            let part = Part {
                dot,
                put: Some(read_put(put.clone())?),
                kills: Vec::new(),
            };
            check_put(key.1, &part)?;
            if let Some(put) = part.put {
                puts.push((dot, put));
            }
        }
    }
    Ok(())
}

impl Engine {
    pub(crate) fn open_session(&mut self, peer: NodeId, id: ShardId, session: u64) {
        if self.sessions.0.len() >= self.config.limits.sessions_max
            && !self.sessions.0.contains_key(&(peer, id))
        {
            self.counters.snapshots_refused += 1;
            let busy = Frame::Busy(Busy {
                shard: id.0,
                id: session,
            });
            return self.send(peer, Lane::Control, &busy);
        }
        self.counters.snapshots_served += 1;
        let expires = self.now.time.after_ms(self.config.limits.pull_timeout_ms * 2);
        let frozen = Frozen::of(&self.shards[id.0 as usize]);
        self.sessions.0.insert(
            (peer, id),
            Session {
                id: session,
                frozen,
                expires,
            },
        );
        // A session just opened has a first part.
        let _ = self.send_part(peer, id, session, &None);
    }

    pub(crate) fn on_snapshot_next(&mut self, peer: NodeId, m: SnapshotNext) -> Result<(), Refused> {
        let id = self.shard_id(m.shard)?;
        self.send_part(peer, id, m.session, &m.resume)
    }

    fn send_part(&mut self, peer: NodeId, id: ShardId, session: u64, after: &Resume) -> Result<(), Refused> {
        let (budget, timeout_ms, now) = (
            self.config.limits.part_bytes,
            self.config.limits.pull_timeout_ms,
            self.now.time,
        );
        let Some(open) = self.sessions.0.get_mut(&(peer, id)).filter(|s| s.id == session) else {
            return Ok(());
        };
        open.expires = now.after_ms(timeout_ms * 2);
        let part = open.frozen.part(id, session, after, budget)?;
        if part.last {
            // Its place is free at once; should the part be lost, the asker begins again.
            self.sessions.0.remove(&(peer, id));
        }
        self.send_state(peer, &[id], Lane::Bulk, &Frame::SnapshotPart(part));
        Ok(())
    }

    pub(crate) fn on_sessions_due(&mut self) {
        let now = self.now.time;
        self.sessions.0.retain(|_, s| s.expires > now);
    }

    /// Stages a part; the last one installs them all.
    pub(crate) fn on_snapshot_part(&mut self, peer: NodeId, part: ShardPart) -> Result<(), Refused> {
        let id = self.shard_id(part.shard)?;
        let (bytes_max, timeout_ms, now) = (
            self.config.limits.staged_bytes_max,
            self.config.limits.pull_timeout_ms,
            self.now.time,
        );
        let Some(pull) = self
            .pulls
            .under_way(id)
            .filter(|u| u.peer == peer && u.id == part.session)
        else {
            return Ok(());
        };
        let arriving = pull.arriving.get_or_insert_with(Arriving::default);
        let expected = arriving.parts.last().and_then(resume_after);
        if part.after != expected || arriving.parts.last().is_some_and(|p| p.last) {
            // A repeat of a part that is here.
            return Ok(());
        }
        if part.rows.is_empty() && !part.last {
            return Err("a snapshot part that brings nothing and is not the last".into());
        }
        arriving.bytes += 24 * (part.replicas.len() + part.view.len());
        arriving.bytes += part.rows.iter().map(|r| r.entity.len_bytes()).sum::<usize>();
        arriving.bytes += part
            .rows
            .iter()
            .flat_map(|r| &r.puts)
            .map(|(_, _, p)| 13 + p.len_bytes())
            .sum::<usize>();
        let alone = arriving.bytes;
        pull.expires = now.after_ms(timeout_ms);
        let arriving_now = self.pulls.arriving_bytes();
        if alone > bytes_max {
            self.pulls.finish(id);
            self.counters.snapshots_too_large += 1;
            tracing::error!(%peer, shard = %id, "a snapshot above {bytes_max} bytes cannot be taken: raise staged_bytes_max");
            return Ok(());
        }
        if arriving_now > bytes_max {
            // Others are arriving too, and all of them together are too much: this one begins again later.
            self.pulls.finish(id);
            self.want_from(id, peer, timeout_ms);
            return Ok(());
        }
        let Some(arriving) = self.pulls.under_way(id).and_then(|u| u.arriving.as_mut()) else {
            return Ok(());
        };
        let (last, session, resume) = (part.last, part.session, resume_after(&part));
        arriving.parts.push(part);
        if !last {
            let next = Frame::SnapshotNext(SnapshotNext {
                shard: id.0,
                session,
                resume,
            });
            self.send(peer, Lane::Control, &next);
            return Ok(());
        }
        let parts = self
            .pulls
            .finish(id)
            .and_then(|u| u.arriving)
            .map(|a| a.parts)
            .unwrap_or_default();
        self.take_snapshot(id, parts)
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
            self.record(&Record::Staged(part), &[]);
        }
        self.record(&Record::Installed { shard: id.0, session }, &[id]);
        for entity in changed {
            self.outputs.push_back(Output::Changed { entity });
        }
        self.touch(id);
        // It may have caught up with this, and counts from now on.
        self.release_copies(id);
        self.retry_held(id);
        Ok(())
    }

    /// Joins complete parts into a shard, in one step. On an error nothing has changed.
    pub(crate) fn install(&mut self, id: ShardId, parts: &[ShardPart]) -> Result<Vec<EntityId>, Refused> {
        let me = self.me();
        let shard = &mut self.shards[id.0 as usize];
        let image = read_image(&mut shard.replicas, parts)?;
        if let Some(me) = shard.replicas.get(me)
            && image.view.get(me) > shard.vv.get(me)
        {
            return Err(format!(
                "a snapshot covers operation {} of this node, which has made {}",
                image.view.get(me),
                shard.vv.get(me)
            ));
        }
        if let Some((stray, _)) = image.rows.keys().find(|(entity, _)| self.shard_of(entity) != id) {
            return Err(format!("{stray} does not belong to shard {id}"));
        }
        let entries: Vec<Entry> = image
            .rows
            .iter()
            .flat_map(|(key, puts)| puts.iter().map(move |(dot, put)| (key, dot, put)))
            .map(|(key, dot, put)| Entry {
                entity: key.clone(),
                part: Part {
                    dot: *dot,
                    put: Some(put.clone()),
                    kills: Vec::new(),
                },
                commit_end: false,
            })
            .collect();
        self.observe_clocks(&entries);
        Ok(self.join_image(id, image))
    }

    fn join_image(&mut self, id: ShardId, image: Image) -> Vec<EntityId> {
        let shard = &mut self.shards[id.0 as usize];
        let mut theirs: BTreeMap<EntityKey, Value> = BTreeMap::new();
        let env = Env {
            replicas: &shard.replicas,
            key: &self.key,
        };
        for (key, puts) in image.rows {
            let parts = puts
                .into_iter()
                .map(|(dot, put)| Part {
                    dot,
                    put: Some(put),
                    kills: Vec::new(),
                })
                .collect();
            let mut value = Value::new(key.1);
            value.join_delta(&env, &(), &Delta::from_parts(key.1, parts));
            theirs.insert(key, value);
        }
        // Every range is complete: a row of ours that they do not list has nothing alive under their vector.
        for key in shard.entities.keys() {
            if !theirs.contains_key(key) {
                theirs.insert(key.clone(), Value::new(key.1));
            }
        }
        let mut changed = Vec::new();
        let vv = shard.vv.clone();
        for (key, value) in &theirs {
            if shard.change(&self.key, &mut self.kinds, key, |ours, env| {
                ours.join(env, &vv, value, &image.view)
            }) {
                changed.push(key.0.clone());
            }
        }
        shard.vv.join(&image.view);
        shard.check_caught_up();
        for (ix, seq) in image.view.iter() {
            if seq > vv.get(ix) {
                // What led there is not known here: nothing below can be served.
                shard.rings.entry(ix).or_insert_with(|| Ring::new(seq)).reset(seq);
                shard.forced.advance(ix, seq);
            }
        }
        changed
    }
}

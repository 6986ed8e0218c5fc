//! Between wire types and a shard's own terms: replica ids to and from indices, operations to and from slots.
//!
//! Contract: nothing of a message is used before all of it was checked; what is returned refers only to replicas
//! that this shard's table now knows.

use std::collections::BTreeMap;

use anabranch_crdt::{
    Dot, Epoch, Kill, NodeId, Part, Put, ReplicaId, ReplicaIx, Replicas, SEQ_MAX, Type, VersionVector,
};

use crate::engine::limits::MESSAGE_REPLICAS_MAX;
use crate::engine::peers::is_nobodys;
use crate::engine::puts::{read_path, read_put, read_type, totals, wire_path, wire_put};
use crate::engine::shard::{EntityKey, Entry, Incoming};
use crate::wire::{
    EntityId, Interval, Run, WireEntity, WireKill, WirePut, WireReplica, WireSlot, WireVector,
};

/// Why a message was refused: the peer's (or the disk's) fault, in its words.
pub(crate) type Refused = String;

/// The replica table of a message being written.
pub(crate) struct TableWriter<'a> {
    replicas: &'a Replicas,
    /// By the shard's index, as far as any was written.
    index: Vec<Option<u16>>,
    pub ids: Vec<WireReplica>,
}

impl<'a> TableWriter<'a> {
    pub fn new(replicas: &'a Replicas) -> TableWriter<'a> {
        TableWriter {
            replicas,
            index: Vec::new(),
            ids: Vec::new(),
        }
    }

    pub fn ix(&mut self, ix: ReplicaIx) -> u16 {
        let (ids, replicas) = (&mut self.ids, self.replicas);
        if self.index.len() <= ix.at() {
            self.index.resize(ix.at() + 1, None);
        }
        *self.index[ix.at()].get_or_insert_with(|| {
            ids.push(wire_replica(replicas, ix));
            (ids.len() - 1) as u16
        })
    }

    /// The dot under the message's table.
    pub fn dot(&mut self, dot: Dot) -> Dot {
        Dot::new(ReplicaIx(self.ix(dot.ix())), dot.seq())
    }

    pub fn vector(&mut self, vv: &VersionVector) -> WireVector {
        vv.iter().map(|(ix, seq)| (self.ix(ix), seq)).collect()
    }
}

/// The replica table of a message being read: every id known to the shard.
pub(crate) struct TableReader(Vec<ReplicaIx>);

impl TableReader {
    /// Checks the table whole, then makes its replicas known to the shard.
    pub fn new(replicas: &mut Replicas, ids: &[WireReplica]) -> Result<TableReader, Refused> {
        if ids.len() > MESSAGE_REPLICAS_MAX {
            return Err(format!(
                "{} replicas in one message, at most {MESSAGE_REPLICAS_MAX} are taken",
                ids.len()
            ));
        }
        let mut sorted: Vec<&WireReplica> = ids.iter().collect();
        sorted.sort();
        if sorted.windows(2).any(|w| w[0] == w[1]) {
            return Err("a replica stands twice in a message's table".into());
        }
        if let Some(r) = ids.iter().find(|r| is_nobodys(r.epoch)) {
            return Err(format!(
                "epoch {} of node {} is nobody's",
                r.epoch,
                NodeId(r.node)
            ));
        }
        ids.iter()
            .map(|r| {
                replicas
                    .intern(ReplicaId::new(NodeId(r.node), Epoch(r.epoch)))
                    .map_err(|e| e.to_string())
            })
            .collect::<Result<Vec<_>, _>>()
            .map(TableReader)
    }

    pub fn ix(&self, i: u16) -> Result<ReplicaIx, Refused> {
        self.0
            .get(usize::from(i))
            .copied()
            .ok_or_else(|| format!("replica index {i} of a table of {}", self.0.len()))
    }

    /// How many replicas the message names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn dot(&self, i: u16, seq: u64) -> Result<Dot, Refused> {
        if seq == 0 || seq > SEQ_MAX {
            return Err(format!("sequence {seq} is out of range"));
        }
        Ok(Dot::new(self.ix(i)?, seq))
    }

    pub fn vector(&self, wire: &WireVector) -> Result<VersionVector, Refused> {
        let mut vv = VersionVector::new();
        for &(i, seq) in wire {
            if seq > SEQ_MAX {
                return Err(format!("sequence {seq} is out of range"));
            }
            vv.advance(self.ix(i)?, seq);
        }
        Ok(vv)
    }
}

pub(crate) fn wire_replica(replicas: &Replicas, ix: ReplicaIx) -> WireReplica {
    let id = replicas.id(ix);
    WireReplica {
        node: id.node.0,
        epoch: id.epoch.0,
    }
}

pub(crate) fn wire_entity((id, ty): &EntityKey) -> WireEntity {
    WireEntity {
        kind: id.kind().to_owned(),
        key: id.key().to_owned(),
        ty: ty.id(),
    }
}

pub(crate) fn read_entity(e: &WireEntity) -> Result<EntityKey, Refused> {
    let id = EntityId::new(&e.kind, &e.key).map_err(|e| e.to_string())?;
    Ok((id, read_type(e.ty)?))
}

/// One operation to be written.
pub(crate) struct OutEntry<'a> {
    pub dot: Dot,
    pub entity: &'a EntityKey,
    pub put: Option<Put>,
    pub kills: &'a [Kill],
}

impl OutEntry<'_> {
    /// About what it takes on the wire, never less.
    pub fn len_bytes(&self) -> usize {
        let kills: usize = self.kills.iter().map(|k| 41 + k.path.weight()).sum();
        32 + self.entity.0.len_bytes() + self.put.as_ref().map_or(0, Put::weight) + kills
    }
}

/// The head of an interval to be written.
pub(crate) struct Head<'a> {
    pub shard: u32,
    pub id: u64,
    pub from: &'a VersionVector,
    pub to: &'a VersionVector,
    pub deps: &'a VersionVector,
    pub urgent: bool,
}

/// Writes operations as an interval in parts of about `budget` bytes; always at least one part.
pub(crate) fn write_interval<'a>(
    replicas: &Replicas,
    head: &Head<'_>,
    budget: usize,
    entries: impl Iterator<Item = OutEntry<'a>>,
) -> Vec<Interval> {
    let mut writer = IntervalWriter {
        replicas,
        head,
        budget,
        done: Vec::new(),
        open: None,
    };
    for entry in entries {
        writer.write(entry);
    }
    writer.finish()
}

struct IntervalWriter<'a> {
    replicas: &'a Replicas,
    head: &'a Head<'a>,
    budget: usize,
    done: Vec<Interval>,
    open: Option<OpenPart<'a>>,
}

struct OpenPart<'a> {
    table: TableWriter<'a>,
    /// The entity written last, which the next operation mostly is of too, and all before it.
    last: Option<(&'a EntityKey, u32)>,
    entities: BTreeMap<&'a EntityKey, u32>,
    bytes: usize,
    interval: Interval,
}

impl<'a> IntervalWriter<'a> {
    fn part(&mut self) -> &mut OpenPart<'a> {
        let (replicas, head, index) = (self.replicas, self.head, self.done.len());
        self.open.get_or_insert_with(|| {
            let mut table = TableWriter::new(replicas);
            let interval = Interval {
                shard: head.shard,
                id: head.id,
                part: index as u32,
                urgent: head.urgent,
                from: table.vector(head.from),
                to: table.vector(head.to),
                deps: table.vector(head.deps),
                ..Interval::default()
            };
            OpenPart {
                table,
                last: None,
                entities: BTreeMap::new(),
                bytes: 0,
                interval,
            }
        })
    }

    fn close(&mut self, last: bool) {
        if let Some(mut part) = self.open.take() {
            part.interval.replicas = part.table.ids;
            part.interval.last = last;
            self.done.push(part.interval);
        }
    }

    fn write(&mut self, entry: OutEntry<'a>) {
        let mut put = entry.put.as_ref().map(wire_put);
        let mut kills = entry.kills;
        loop {
            let budget = self.budget;
            let part = self.part();
            let room = budget.saturating_sub(part.bytes);
            // An operation may kill more dots than fit one part (a set of many elements cleared): it goes on in the next.
            let fitting = kills_within(kills, room).max(1).min(kills.len());
            let (now, later) = kills.split_at(fitting);
            part.slot(&entry, put.take(), now, !later.is_empty());
            let full = part.bytes >= budget;
            kills = later;
            if full {
                self.close(false);
            }
            if kills.is_empty() {
                return;
            }
            if !full {
                self.close(false);
            }
        }
    }

    fn finish(mut self) -> Vec<Interval> {
        if self.open.is_none() && self.done.is_empty() {
            self.part();
        }
        self.close(true);
        if let Some(last) = self.done.last_mut() {
            last.last = true;
        }
        self.done
    }
}

/// How many of these kills fit into `room` bytes.
fn kills_within(kills: &[Kill], room: usize) -> usize {
    let mut bytes = 0;
    kills
        .iter()
        .take_while(|k| {
            bytes += 37 + k.path.weight();
            bytes <= room
        })
        .count()
}

impl<'a> OpenPart<'a> {
    /// Its place among the entities of the part.
    fn entity(&mut self, key: &'a EntityKey) -> u32 {
        if let Some((_, i)) = self.last.filter(|(last, _)| *last == key) {
            return i;
        }
        let i = self.entities.get(key).copied().unwrap_or_else(|| {
            let wire = wire_entity(key);
            self.bytes += wire.len_bytes();
            self.interval.entities.push(wire);
            (self.interval.entities.len() - 1) as u32
        });
        self.entities.extend(self.last.replace((key, i)));
        i
    }

    fn slot(&mut self, entry: &OutEntry<'a>, put: Option<WirePut>, kills: &[Kill], more: bool) {
        let replica = self.table.ix(entry.dot.ix());
        let entity = self.entity(entry.entity);
        let put_path = entry.put.as_ref().map(|p| &p.path);
        let kills = kills
            .iter()
            .map(|k| WireKill {
                path: if put.is_some() && put_path == Some(&k.path) {
                    None
                } else {
                    Some(wire_path(&k.path))
                },
                replica: self.table.ix(k.dot.ix()),
                seq: k.dot.seq(),
                reset: k.reset.map(|reset| (reset.plus, reset.minus)),
            })
            .collect();
        let slot = WireSlot {
            entity,
            put,
            kills,
            more,
        };
        self.bytes += slot.len_bytes();
        let seq = entry.dot.seq();
        match self.interval.runs.last_mut() {
            Some(run) if run.replica == replica && run.first + run.slots.len() as u64 == seq => {
                run.slots.push(slot)
            }
            _ => self.interval.runs.push(Run {
                replica,
                first: seq,
                slots: vec![slot],
            }),
        }
    }
}

/// What a message's parts say, put together; checked whole.
pub(crate) fn read_intervals(replicas: &mut Replicas, parts: Vec<Interval>) -> Result<Incoming, Refused> {
    let mut incoming: Option<Incoming> = None;
    let mut unfinished = false;
    for part in parts {
        let table = TableReader::new(replicas, &part.replicas)?;
        let head = Incoming {
            from: table.vector(&part.from)?,
            to: table.vector(&part.to)?,
            deps: table.vector(&part.deps)?,
            urgent: part.urgent,
            bytes: 0,
            entries: Vec::new(),
        };
        let whole = match &mut incoming {
            Some(whole) if (&whole.from, &whole.to, &whole.deps) != (&head.from, &head.to, &head.deps) => {
                return Err("parts of different intervals".into());
            }
            Some(whole) => whole,
            none => none.insert(head),
        };
        whole.bytes += part.len_bytes();
        read_part(&table, part, &mut whole.entries, &mut unfinished)?;
    }
    if unfinished {
        return Err("an operation is not finished in the last part".into());
    }
    let incoming = incoming.ok_or("a message without parts")?;
    check_contiguous(&incoming)?;
    Ok(incoming)
}

fn read_part(
    table: &TableReader,
    part: Interval,
    entries: &mut Vec<Entry>,
    unfinished: &mut bool,
) -> Result<(), Refused> {
    let entities = part
        .entities
        .iter()
        .map(read_entity)
        .collect::<Result<Vec<_>, _>>()?;
    for run in part.runs {
        for (i, slot) in run.slots.into_iter().enumerate() {
            let seq = run.first.checked_add(i as u64).ok_or("a sequence out of range")?;
            let dot = table.dot(run.replica, seq)?;
            let entity = entities
                .get(slot.entity as usize)
                .ok_or_else(|| format!("entity index {} of a table of {}", slot.entity, entities.len()))?;
            let more = slot.more;
            let part = read_slot(table, entity.1, dot, slot)?;
            match entries.last_mut() {
                Some(last) if *unfinished => {
                    if last.part.dot != dot || last.entity != *entity || part.put.is_some() {
                        return Err("an unfinished operation is not gone on with".into());
                    }
                    last.part.kills.extend(part.kills);
                }
                _ => entries.push(Entry {
                    entity: entity.clone(),
                    part,
                }),
            }
            *unfinished = more;
        }
    }
    Ok(())
}

fn read_slot(table: &TableReader, ty: Type, dot: Dot, slot: WireSlot) -> Result<Part, Refused> {
    let put = slot.put.map(read_put).transpose()?;
    let kills = slot
        .kills
        .into_iter()
        .map(|k| {
            let path = match (k.path, &put) {
                (Some(path), _) => read_path(path)?,
                (None, Some(put)) => put.path.clone(),
                (None, None) => return Err("a killed dot without a place".to_owned()),
            };
            Ok(Kill {
                path,
                dot: table.dot(k.replica, k.seq)?,
                reset: k.reset.map(totals),
            })
        })
        .collect::<Result<Vec<_>, Refused>>()?;
    let part = Part { dot, put, kills };
    if part.kills.iter().any(|kill| kill.dot == dot) {
        return Err(format!("operation {} kills itself", dot.seq()));
    }
    if !part.kills.iter().all(|kill| ty.admits_kill(kill)) {
        let seq = dot.seq();
        return Err(format!("operation {seq} kills what no {} has", ty.name()));
    }
    check_put(ty, &part)?;
    Ok(part)
}

/// A type takes only what its own mutations make.
pub(crate) fn check_put(ty: Type, part: &Part) -> Result<(), Refused> {
    match &part.put {
        Some(put) if !ty.admits(put) || !put.payload.fits(part.dot) => Err(format!(
            "a {} does not hold what operation {} puts",
            ty.name(),
            part.dot.seq()
        )),
        _ => Ok(()),
    }
}

/// Every origin that the interval advances has exactly the operations `from + 1 ..= to`, in order, and nothing
/// else is there: a vector must never claim a dot that was not carried.
fn check_contiguous(incoming: &Incoming) -> Result<(), Refused> {
    let mut next: BTreeMap<ReplicaIx, u64> = BTreeMap::new();
    for (ix, to) in incoming.to.iter() {
        if to < incoming.from.get(ix) {
            return Err(format!("an interval that ends at {to}, before it begins"));
        }
        next.insert(ix, incoming.from.get(ix) + 1);
    }
    for entry in &incoming.entries {
        let (ix, seq) = (entry.part.dot.ix(), entry.part.dot.seq());
        match next.get_mut(&ix) {
            Some(n) if *n == seq => *n += 1,
            _ => return Err(format!("operation {seq} is out of place in its interval")),
        }
    }
    match next.iter().find(|&(&ix, &n)| n != incoming.to.get(ix) + 1) {
        Some((_, n)) => Err(format!("operation {n} is missing in its interval")),
        None => Ok(()),
    }
}

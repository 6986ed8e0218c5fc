//! The engines of a script, and what waits between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anabranch::engine::{EngineConfig, Input, Output, RecordId, RequestId};
use anabranch::store::Options;
use anabranch::{Answer, EntityId, Epoch, Error, Limits, NodeId, Update};
use bytes::Bytes;

use crate::model::Kind;
use crate::names::{Names, kind_name, type_of};
use crate::net::NodeIx;
use crate::oracle::{Asked, Failure, Oracle, Standing};
use crate::plan::ClockPlan;
use crate::queue::Micros;
use crate::world::host::{Host, NoStart, StartWith};

/// Nodes of a script: a, b, c.
pub(super) const NODES: usize = 3;
/// Keys that scripts may use, of each kind.
const KEYS: [&str; 3] = ["e", "f", "g"];
/// Chance in scripts: only ids come from it.
const SEED: u64 = 0xA4A;

/// A frame that waits.
#[derive(Clone, Debug)]
struct Waiting {
    /// The sender's epoch when it was sent.
    epoch: u64,
    bytes: Bytes,
}

/// Engines whose frames and syncs are let through by hand.
pub struct Trio {
    pub(super) hosts: Vec<Host>,
    pub(super) oracle: Oracle,
    limits: Limits,
    pub(super) now: Micros,
    links: BTreeSet<(NodeIx, NodeIx)>,
    waiting: BTreeMap<(NodeIx, NodeIx), VecDeque<Waiting>>,
    next_request: u64,
    pub(super) answers: BTreeMap<u64, Result<Answer, Error>>,
    /// Idempotency keys that were used, and where.
    pub(super) keys: BTreeSet<(NodeIx, String)>,
}

type Step = Result<(), String>;

fn said(failure: Failure) -> String {
    failure.to_string()
}

impl Trio {
    /// Three running engines without links.
    pub fn new(limits: Limits) -> Trio {
        let clock = ClockPlan {
            skew_ms: 0,
            drift_ppm: 0,
        };
        let hosts: Vec<Host> = (0..NODES).map(|ix| Host::new(SEED, ix, clock)).collect();
        let mut oracle = Oracle::new(
            1,
            hosts.iter().map(|host| host.id.0).collect(),
            Names::new(26),
            limits.clone(),
        );
        for kind in Kind::ALL {
            for key in KEYS {
                let Ok(id) = EntityId::new(kind_name(kind), key) else {
                    unreachable!("{key:?} is a good key")
                };
                oracle.names.add(id, kind);
                oracle.ledger.add_entity(kind, 0);
            }
        }
        let mut trio = Trio {
            hosts,
            oracle,
            limits,
            now: 0,
            links: BTreeSet::new(),
            waiting: BTreeMap::new(),
            next_request: 1,
            answers: BTreeMap::new(),
            keys: BTreeSet::new(),
        };
        for node in 0..NODES {
            if let Err(why) = trio.start(node) {
                panic!("node {node} does not start: {why}");
            }
        }
        trio
    }

    /// A machine's process starts.
    pub(super) fn start(&mut self, node: NodeIx) -> Step {
        if self.hosts[node].life.is_some() {
            return Err("it runs already".to_owned());
        }
        let config = EngineConfig {
            cluster: "trio".to_owned(),
            node: self.hosts[node].id,
            shards: 1,
            members: self.hosts.iter().map(|host| host.id).collect(),
            kinds: Kind::ALL
                .into_iter()
                .map(|kind| (kind_name(kind).to_owned(), type_of(kind)))
                .collect(),
            limits: self.limits.clone(),
        };
        let with = StartWith {
            seed: SEED,
            config,
            options: Options::default(),
            expects_others: false,
            now: self.now,
        };
        self.hosts[node].start(with).map_err(|why| match why {
            NoStart::Later(why) | NoStart::Damaged(why) | NoStart::Broken(why) => why,
        })?;
        let Some(life) = &self.hosts[node].life else {
            return Ok(());
        };
        let wall_ms = self.hosts[node].wall_ms(self.now);
        let mut engines = crate::world::World::engines(&self.hosts);
        engines.retain(|(peer, _)| *peer != node);
        self.oracle.note_bases(node, &engines).map_err(said)?;
        self.oracle
            .on_start(node, life.epoch, wall_ms, &life.engine)
            .map_err(said)
    }

    /// A process dies; nothing that was not synced survives.
    pub(super) fn crash(&mut self, node: NodeIx) -> Step {
        for peer in (0..NODES).filter(|&peer| peer != node) {
            if self.links.contains(&(node.min(peer), node.max(peer))) {
                self.cut(node, peer)?;
            }
        }
        self.hosts[node].life = None;
        self.hosts[node].disk.crash_with(&mut |_| false);
        self.oracle.on_stop(node);
        Ok(())
    }

    /// Both ends learn of a link.
    pub(super) fn link(&mut self, a: NodeIx, b: NodeIx) -> Step {
        if !self.links.insert((a.min(b), a.max(b))) {
            return Err("that link is up already".to_owned());
        }
        let mut all = Vec::new();
        for (node, peer) in [(a, b), (b, a)] {
            let Some(life) = &self.hosts[peer].life else {
                return Err("it is down".to_owned());
            };
            let (epoch, wall_ms) = (Epoch(life.epoch), self.hosts[peer].wall_ms(self.now));
            let outputs = self.handle(
                node,
                Input::Connected {
                    peer: self.hosts[peer].id,
                    epoch,
                    wall_ms,
                },
            )?;
            self.look(node, &outputs, &BTreeSet::new())?;
            all.push((node, outputs));
        }
        // Both know of the link before either says anything over it.
        all.into_iter()
            .try_for_each(|(node, outputs)| self.carry_out(node, outputs))
    }

    /// Both ends learn that a link is gone; what waited in it is lost.
    pub(super) fn cut(&mut self, a: NodeIx, b: NodeIx) -> Step {
        if !self.links.remove(&(a.min(b), a.max(b))) {
            return Err("there is no such link".to_owned());
        }
        for (node, peer) in [(a, b), (b, a)] {
            self.waiting.remove(&(node, peer));
            if let Some(life) = &self.hosts[peer].life {
                let (peer, epoch) = (self.hosts[peer].id, Epoch(life.epoch));
                self.give(node, Input::Disconnected { peer, epoch })?;
            }
        }
        Ok(())
    }

    /// Lets waiting frames through; their sender gets its credit back.
    pub(super) fn deliver(&mut self, from: NodeIx, to: NodeIx, count: usize) -> Result<usize, String> {
        let waiting = self.waiting.entry((from, to)).or_default();
        let count = count.min(waiting.len());
        let through: Vec<Waiting> = waiting.drain(..count).collect();
        for frame in through {
            self.credit(from, to, &frame)?;
            self.oracle.on_heard(to, from, &frame.bytes, false);
            self.receive(from, to, &frame)?;
        }
        Ok(count)
    }

    /// Lets a copy of the first waiting frame through; the frame itself still waits.
    pub(super) fn deliver_copy(&mut self, from: NodeIx, to: NodeIx) -> Step {
        let first = self
            .waiting
            .get(&(from, to))
            .and_then(|waiting| waiting.front().cloned());
        let frame = first.ok_or("no frame waits there")?;
        self.receive(from, to, &frame)
    }

    /// Loses waiting frames; their sender still gets its credit back.
    pub(super) fn lose(&mut self, from: NodeIx, to: NodeIx, count: usize) -> Step {
        let waiting = self.waiting.entry((from, to)).or_default();
        let count = count.min(waiting.len());
        let lost: Vec<Waiting> = waiting.drain(..count).collect();
        lost.iter().try_for_each(|frame| self.credit(from, to, frame))
    }

    fn credit(&mut self, from: NodeIx, to: NodeIx, frame: &Waiting) -> Step {
        let Some(life) = &self.hosts[to].life else {
            return Ok(());
        };
        let (peer, epoch) = (self.hosts[to].id, Epoch(life.epoch));
        self.give(
            from,
            Input::Writable {
                peer,
                epoch,
                bytes: frame.bytes.len() as u64,
            },
        )
    }

    fn receive(&mut self, from: NodeIx, to: NodeIx, frame: &Waiting) -> Step {
        let (peer, epoch) = (self.hosts[from].id, Epoch(frame.epoch));
        self.give(
            to,
            Input::Received {
                peer,
                epoch,
                frame: frame.bytes.clone(),
            },
        )
    }

    /// Everything waiting at a node becomes durable.
    pub(super) fn sync(&mut self, node: NodeIx) -> Step {
        let Some(life) = &mut self.hosts[node].life else {
            return Err("it is down".to_owned());
        };
        if !life.begin_commit().map_err(|e| e.to_string())? {
            return Ok(());
        }
        life.store.commit().map_err(|e| e.to_string())?;
        let Some(upto) = life.writing.take() else {
            return Ok(());
        };
        self.oracle.on_durable(node, upto);
        self.oracle.on_told(node, upto);
        self.give(node, Input::Persisted { upto: RecordId(upto) })
    }

    /// Time passes, with whatever the engines want to be woken for.
    pub(super) fn wait(&mut self, ms: u64) -> Step {
        let until = self.now + ms * 1_000;
        while self.now < until {
            let due = self
                .hosts
                .iter()
                .filter_map(|host| host.life.as_ref()?.engine.next_wakeup());
            let next = due.map(|due| due.0.max(self.now + 1)).min().unwrap_or(until);
            self.now = next.min(until);
            for node in 0..NODES {
                let wants = self.hosts[node]
                    .life
                    .as_ref()
                    .and_then(|life| life.engine.next_wakeup());
                if wants.is_some_and(|due| due.0 <= self.now) {
                    self.give(node, Input::Wakeup)?;
                }
            }
        }
        Ok(())
    }

    /// Frames and syncs go through on these links until nobody has anything to say.
    pub(super) fn talk(&mut self, pairs: &[(NodeIx, NodeIx)]) -> Step {
        let mut quiet_ms = 0;
        for _ in 0..20_000 {
            let mut moved = 0;
            for &(a, b) in pairs {
                moved += self.deliver(a, b, usize::MAX)? + self.deliver(b, a, usize::MAX)?;
                self.sync(a)?;
                self.sync(b)?;
            }
            // Longer than any period of the protocol but the digest's.
            quiet_ms = if moved == 0 { quiet_ms + 50 } else { 0 };
            if quiet_ms > 3_000 {
                return Ok(());
            }
            self.wait(if moved == 0 { 50 } else { 1 })?;
        }
        Err("they talk for ever".to_owned())
    }

    /// Hands a node an update; returns its number.
    pub(super) fn submit(
        &mut self,
        node: NodeIx,
        asked: &Asked,
        update: Update,
        standing: Standing,
    ) -> Result<u64, String> {
        let request = self.next_request;
        self.next_request += 1;
        let outputs = self.handle(
            node,
            Input::Submit {
                request: RequestId(request),
                update,
            },
        )?;
        let Some(life) = &self.hosts[node].life else {
            return Err("it is down".to_owned());
        };
        let error = outputs.iter().find_map(|output| match output {
            Output::Done {
                request: done,
                result: Err(error),
            } if done.0 == request => Some(error),
            _ => None,
        });
        let wall_ms = self.hosts[node].wall_ms(self.now);
        let (_, touched) = self
            .oracle
            .on_submit(node, wall_ms, &life.engine, asked, standing, error, &outputs)
            .map_err(said)?;
        self.look(node, &outputs, &touched)?;
        self.carry_out(node, outputs)?;
        Ok(request)
    }

    fn handle(&mut self, node: NodeIx, input: Input) -> Result<Vec<Output>, String> {
        self.now += 1;
        let host = &mut self.hosts[node];
        let now = host.now(self.now);
        let Some(life) = &mut host.life else {
            return Err("it is down".to_owned());
        };
        life.engine.handle(now, input);
        Ok(std::iter::from_fn(|| life.engine.poll_output()).collect())
    }

    fn give(&mut self, node: NodeIx, input: Input) -> Step {
        if self.hosts[node].life.is_none() {
            return Ok(());
        }
        let outputs = self.handle(node, input)?;
        self.look(node, &outputs, &BTreeSet::new())?;
        self.carry_out(node, outputs)
    }

    fn look(&mut self, node: NodeIx, outputs: &[Output], touched: &BTreeSet<u32>) -> Step {
        let Some(life) = &self.hosts[node].life else {
            return Ok(());
        };
        self.oracle
            .after_step(
                node,
                self.hosts[node].wall_ms(self.now),
                &life.engine,
                outputs,
                touched,
            )
            .map_err(said)?;
        self.oracle.compare_all(node, &life.engine).map_err(said)
    }

    fn carry_out(&mut self, node: NodeIx, outputs: Vec<Output>) -> Step {
        for output in outputs {
            match output {
                Output::Send {
                    peer, epoch, frame, ..
                } => self.on_send(node, peer, epoch, frame),
                Output::Persist { id, payload } => {
                    if let Some(life) = &mut self.hosts[node].life {
                        life.queued.push_back((id.0, payload));
                    }
                }
                Output::Done { request, result } => {
                    self.answers.insert(request.0, result);
                }
                Output::Changed { .. } => {}
                Output::Disconnect { peer, .. } => self.on_disconnect(node, peer)?,
                Output::Fence { peer, newest, .. } => {
                    let by = self.hosts[node].id;
                    self.on_disconnect(node, peer)?;
                    if let Some(fenced) = self.find(peer) {
                        self.give(fenced, Input::Fenced { by, newest })?;
                    }
                }
                Output::AdoptEpoch { above } => self.adopt(node, above)?,
            }
        }
        Ok(())
    }

    fn find(&self, id: NodeId) -> Option<NodeIx> {
        self.hosts.iter().position(|host| host.id == id)
    }

    fn on_send(&mut self, node: NodeIx, peer: NodeId, epoch: Epoch, bytes: Bytes) {
        let (Some(to), Some(life)) = (self.find(peer), &self.hosts[node].life) else {
            return;
        };
        let current = self.hosts[to].life.as_ref().map(|life| life.epoch);
        if current == Some(epoch.0) && self.links.contains(&(node.min(to), node.max(to))) {
            let frame = Waiting {
                epoch: life.epoch,
                bytes,
            };
            self.waiting.entry((node, to)).or_default().push_back(frame);
        }
    }

    /// What was said before the link was closed still arrives.
    fn on_disconnect(&mut self, node: NodeIx, peer: NodeId) -> Step {
        let Some(peer) = self.find(peer) else {
            return Ok(());
        };
        let link = (node.min(peer), node.max(peer));
        if self.links.contains(&link) {
            self.deliver(node, peer, usize::MAX)?;
        }
        if self.links.contains(&link) {
            self.cut(node, peer)
        } else {
            Ok(())
        }
    }

    /// As the driver does: the epoch is durable, then every link begins anew under it.
    fn adopt(&mut self, node: NodeIx, above: Epoch) -> Step {
        let wall_ms = self.hosts[node].wall_ms(self.now);
        let Some(life) = &mut self.hosts[node].life else {
            return Ok(());
        };
        if life.epoch > above.0 {
            return Ok(());
        }
        let old = Epoch(life.epoch);
        let epoch = life.adopt(above, wall_ms, 7).map_err(|e| e.to_string())?;
        self.oracle.on_epoch(node, epoch.0);
        let id = self.hosts[node].id;
        for peer in (0..NODES).filter(|&peer| peer != node) {
            if self.links.remove(&(node.min(peer), node.max(peer))) {
                self.waiting.remove(&(node, peer));
                self.waiting.remove(&(peer, node));
                self.give(peer, Input::Disconnected { peer: id, epoch: old })?;
            }
        }
        self.give(node, Input::EpochAdopted { epoch })
    }

    /// What every node covers, for a failed script's message.
    pub fn tell(&self) -> String {
        let mut lines = Vec::new();
        for (node, name) in ["a", "b", "c"].into_iter().enumerate() {
            match &self.hosts[node].life {
                None => lines.push(format!("{name} is down")),
                Some(life) => lines.push(format!(
                    "{name} covers {}",
                    self.oracle.told_vector(node, &life.engine)
                )),
            }
        }
        for ((from, to), waiting) in &self.waiting {
            lines.push(format!("{} frames wait from n{from} to n{to}", waiting.len()));
        }
        lines.join("\n")
    }
}

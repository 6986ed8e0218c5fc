//! The world: machines, the network between them, clients, faults, and the loop that lets it all happen.
//!
//! It stands where the driver stands in production, over the same engines and stores.
//!
//! Not here: what must hold (`crate::oracle`), what is planned (`crate::plan`).
//! Contract: a run is a function of its plan; watching it changes nothing.

mod app;
mod clients;
mod commit;
mod course;
mod faults;
mod functions;
pub(crate) mod host;
mod image;
mod keys;
mod limits;
mod members;
mod naming;
mod perform;
mod probe;
mod sessions;
mod settle;
mod tale;
mod waiting;

use std::collections::{BTreeMap, VecDeque};

use anabranch::engine::{Engine, Input, Limits};
use anabranch::wire::Lane;

use crate::kernel::Kernel;
use crate::model::EntityIx;
use crate::names::Names;
use crate::net::{FrameEvent, Net, NetCounts, NetEvent, News, NodeIx, STREAMS, Told};
use crate::oracle::{Failure, Looks, Oracle, Rule, broken};
use crate::plan::{Ending, Fault, Plan, Recovery, SECOND};
use crate::queue::{Micros, QueueKind};

pub use app::Cluster;
pub(crate) use app::Pace;
use clients::Client;
use host::{Host, NoStart, StartWith};
use keys::KeyBook;
use naming::name_entities;
use waiting::Waiting;

/// So many events between two looks are a cluster that talks to itself for ever.
const EVENTS_MAX: u64 = 500_000;

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// In the network.
    Net(NetEvent),
    /// An engine asked to be woken.
    Wake { node: NodeIx, life: u64, at: Micros },
    /// A commit comes to its end.
    Synced { node: NodeIx, life: u64 },
    /// A snapshot comes to its end.
    ImageWritten { node: NodeIx, life: u64 },
    /// A machine comes up.
    Boot {
        node: NodeIx,
        lives: u64,
        recovery: Option<Recovery>,
    },
    /// Somebody looks after a process whose store is poisoned.
    Operator { node: NodeIx, life: u64 },
    /// A process that stood still goes on.
    Resume { node: NodeIx, life: u64 },
    /// A client makes its next update.
    Client { client: usize },
    /// A function has done with a command.
    Function { act: functions::Act },
    /// A session asked to be woken.
    Session {
        node: NodeIx,
        entity: EntityIx,
        lives: u64,
        at: Micros,
    },
    /// An update is sent again, under its key.
    Repeat { key: u64 },
    /// The plan's next fault.
    Fault { index: usize },
    /// A node is asked for one more update.
    Probe { node: NodeIx },
    /// And at once for another.
    ProbeAgain { node: NodeIx },
    /// It must have been seen by now.
    Seen { node: NodeIx },
    /// The oracles' regular look.
    Look,
    /// In an application.
    App(app::Event),
}

/// What a run was like.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Events that happened.
    pub events: u64,
    /// Updates handed to nodes, and answered well.
    pub submitted: u64,
    /// Of them answered at their level.
    pub answered: u64,
    /// Commands given to sessions of functions.
    pub commands: u64,
    /// Of them those whose answers went on.
    pub streams: u64,
    /// Updates made by what functions had seen.
    pub committed: u64,
    /// Of the reads answered, those that asked a majority.
    pub majorities: u64,
    /// Reads answered to sessions.
    pub read: u64,
    /// Dots issued.
    pub dots: u64,
    /// Deaths of processes.
    pub crashes: u64,
    /// Virtual time it took everybody to agree after all was healed, microseconds.
    pub settled_us: Micros,
    /// Frames and bytes in the last second of rest.
    pub rest_bytes: u64,
    /// What the network did.
    pub net: NetCounts,
    /// What the oracles looked at.
    pub looks: Looks,
    /// Engines' counters, summed over all lives.
    pub counters: BTreeMap<&'static str, u64>,
    /// What an application counts.
    pub marks: BTreeMap<&'static str, u64>,
}

/// How long a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Chaos,
    /// All is healed, nobody writes.
    Settling,
    /// All agree; nothing may change any more.
    Rest,
    Over,
}

/// Where a run's story goes, if anybody listens.
pub type Teller = Box<dyn FnMut(&str)>;

/// A cluster and all that surrounds it.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) limits: Limits,
    pub(crate) kernel: Kernel<Event>,
    pub(crate) net: Net,
    pub(crate) hosts: Vec<Host>,
    pub(crate) oracle: Oracle,
    clients: Vec<Client>,
    keys: KeyBook,
    waiting: BTreeMap<u64, Waiting>,
    reads: BTreeMap<u64, sessions::Reading>,
    functions: functions::Functions,
    next_act: u64,
    sessions: Vec<sessions::Session>,
    /// Per shard what a majority has been known to have on its disks.
    kept: BTreeMap<u32, crate::model::Vv>,
    /// Whether no disk is ever lost or goes back.
    keeps_disks: bool,
    next_request: u64,
    phase: Phase,
    healed_at: Micros,
    /// Why all do not agree yet, as it was told last.
    why_unsettled: Option<String>,
    /// How many nodes have been asked for one more update since all agreed.
    probed: usize,
    /// And of how many it is planned.
    planned: usize,
    /// Frames at rest that were no digests.
    restless: u64,
    /// Events until the next look.
    budget: u64,
    agreed_at: Micros,
    rest_from: Option<(Micros, NetCounts)>,
    /// Events that wait for a process that stands still.
    late: Vec<(NodeIx, u64, Input)>,
    known_when_linked: members::KnownWhenLinked,
    tally: Tally,
    teller: Option<Teller>,
    /// The application that runs here, if one does, and what it has to hear of.
    apps: Option<Box<app::Apps>>,
    news: VecDeque<app::News>,
}

impl World {
    /// The world of a plan, before anything has happened.
    pub fn new(plan: Plan, queue: QueueKind, teller: Option<Teller>) -> World {
        World::with(plan, queue, teller, None)
    }

    fn with(plan: Plan, queue: QueueKind, teller: Option<Teller>, apps: Option<Box<app::Apps>>) -> World {
        let hosts: Vec<Host> = plan
            .clocks
            .iter()
            .enumerate()
            .map(|(ix, clock)| Host::new(plan.seed, ix, *clock))
            .collect();
        let ids = hosts.iter().map(|host| host.id.0).collect();
        let limits = limits::limits(&plan);
        let names = Names::new(plan.load.elements + 2 * plan.nodes as u64);
        let mut oracle = match apps {
            None => Oracle::new(plan.shards, ids, names, limits.clone()),
            Some(_) => Oracle::blind(plan.shards, ids, limits.clone()),
        };
        name_entities(&mut oracle, &plan, &hosts, &limits);
        let net = Net::new(plan.seed, plan.nodes, plan.net.clone());
        let mut world = World {
            limits,
            kernel: Kernel::new(queue),
            net,
            oracle,
            clients: (0..plan.load.clients).map(|ix| Client::new(&plan, ix)).collect(),
            keys: KeyBook::default(),
            waiting: BTreeMap::new(),
            reads: BTreeMap::new(),
            functions: BTreeMap::new(),
            next_act: 0,
            sessions: (0..plan.load.clients)
                .map(|_| sessions::Session::default())
                .collect(),
            kept: BTreeMap::new(),
            keeps_disks: !plan.families.iter().any(|family| {
                use crate::plan::Family;
                matches!(family, Family::LostDisk | Family::Backup | Family::Rot)
            }),
            next_request: 1,
            phase: Phase::Chaos,
            healed_at: 0,
            why_unsettled: None,
            probed: 0,
            planned: 0,
            restless: 0,
            budget: EVENTS_MAX,
            agreed_at: 0,
            rest_from: None,
            late: Vec::new(),
            known_when_linked: BTreeMap::new(),
            tally: Tally::default(),
            teller,
            apps,
            news: VecDeque::new(),
            hosts,
            plan,
        };
        world.schedule_beginning();
        world
    }

    fn schedule_beginning(&mut self) {
        for node in 0..self.plan.nodes {
            self.boot_after(node, node as Micros * 1_000, None);
        }
        for client in 0..self.clients.len() {
            self.kernel
                .at(SECOND / 10 + client as Micros * 7_000, Event::Client { client });
        }
        for (index, (at, _)) in self.plan.faults.iter().enumerate() {
            self.kernel.at(*at, Event::Fault { index });
        }
        self.kernel.at(SECOND, Event::Look);
    }

    /// What happened, in numbers; after the end.
    pub fn tally(&mut self) -> Tally {
        for node in 0..self.hosts.len() {
            self.count_life(node);
        }
        Tally {
            events: self.kernel.taken(),
            dots: self.oracle.ledger.len(),
            net: self.net.counts(),
            looks: self.oracle.looks(),
            marks: self.marks(),
            ..self.tally.clone()
        }
    }

    /// Virtual time, microseconds.
    pub fn now(&self) -> Micros {
        self.kernel.now()
    }

    /// The trace hash so far.
    pub fn trace(&self) -> u64 {
        self.kernel.trace()
    }

    /// An event's content, for the trace hash.
    fn absorb(&mut self, event: &Event) {
        let hash = self.kernel.hash();
        match event {
            Event::Net(NetEvent::Frame(frame)) => {
                hash.absorb(1 << 32 | (frame.from * 64 + frame.to) as u64);
                hash.absorb_bytes(&frame.bytes);
            }
            Event::Net(NetEvent::Taken { direction }) => hash.absorb(2 << 32 | *direction as u64),
            Event::Net(NetEvent::Up { pair, conn, side } | NetEvent::Down { pair, conn, side, .. }) => {
                hash.absorb(3 << 32 | (pair * 2 + side) as u64);
                hash.absorb(*conn);
            }
            Event::Net(_) => hash.absorb(4 << 32),
            Event::Wake { node, .. } => hash.absorb(5 << 32 | *node as u64),
            Event::Synced { node, .. } => hash.absorb(6 << 32 | *node as u64),
            Event::ImageWritten { node, .. } => hash.absorb(20 << 32 | *node as u64),
            Event::Boot { node, .. } => hash.absorb(7 << 32 | *node as u64),
            Event::Resume { node, .. } => hash.absorb(8 << 32 | *node as u64),
            Event::Client { client } => hash.absorb(9 << 32 | *client as u64),
            Event::Repeat { key } => hash.absorb(10 << 32 | key & 0xffff_ffff),
            Event::Fault { index } => hash.absorb(11 << 32 | *index as u64),
            Event::Operator { node, .. } => hash.absorb(13 << 32 | *node as u64),
            Event::Probe { node } => hash.absorb(14 << 32 | *node as u64),
            Event::ProbeAgain { node } => hash.absorb(16 << 32 | *node as u64),
            Event::Seen { node } => hash.absorb(15 << 32 | *node as u64),
            Event::Function { act } => hash.absorb(17 << 32 | act.node as u64),
            Event::Session { node, entity, .. } => {
                hash.absorb(18 << 32 | (*node as u64) << 16 | u64::from(*entity))
            }
            Event::Look => hash.absorb(12 << 32),
            Event::App(event) => hash.absorb(19 << 32 | event.number()),
        }
    }

    /// Tells what happens, if anybody listens.
    pub(crate) fn tell(&mut self, text: impl FnOnce() -> String) {
        if let Some(teller) = &mut self.teller {
            let now = self.kernel.now();
            teller(&format!("{:>4}.{:06} {}", now / SECOND, now % SECOND, text()));
        }
    }

    fn on_net(&mut self, event: NetEvent) -> Result<(), Failure> {
        let now = self.kernel.now();
        let kernel = &mut self.kernel;
        let told = self
            .net
            .on_event(now, &event, &mut |at, event| kernel.at(at, Event::Net(event)));
        for told in told {
            self.on_told(told)?;
        }
        let NetEvent::Frame(frame) = event else {
            return Ok(());
        };
        if !self.net.arrives(&frame) {
            return Ok(());
        }
        self.on_frame(frame)
    }

    fn on_frame(&mut self, frame: FrameEvent) -> Result<(), Failure> {
        let (node, peer) = (frame.to, self.hosts[frame.from].id);
        if frame.lane == STREAMS {
            self.news.push_back(app::News::Line {
                node,
                from: frame.from,
                epoch: frame.epoch,
                bytes: frame.bytes,
            });
            return Ok(());
        }
        if frame.lane == Lane::Calls as u8 {
            self.news.push_back(app::News::Frame {
                node,
                from: frame.from,
                epoch: frame.epoch,
                bytes: frame.bytes,
            });
            return Ok(());
        }
        if self.teller.is_some() {
            let text = self.describe(&frame.bytes);
            let ghost = if frame.ghost { " (ghost)" } else { "" };
            self.tell(|| format!("n{node} <- n{} {text}{ghost}", frame.from));
        }
        self.oracle.on_heard(node, frame.from, &frame.bytes, frame.ghost);
        let input = Input::Received {
            peer,
            epoch: anabranch::Epoch(frame.epoch),
            frame: frame.bytes.clone(),
        };
        self.give(node, input)?;
        self.check_members(&frame)
    }

    fn on_told(&mut self, told: Told) -> Result<(), Failure> {
        let Told {
            node,
            peer,
            epoch,
            news,
        } = told;
        let epoch = anabranch::Epoch(epoch);
        let wall_ms = self.hosts[peer].wall_ms(self.kernel.now());
        let peer_id = self.hosts[peer].id;
        let input = match news {
            News::Connected => Input::Connected {
                peer: peer_id,
                epoch,
                wall_ms,
            },
            News::Disconnected => Input::Disconnected { peer: peer_id, epoch },
            News::Fenced(newest) => Input::Fenced {
                by: peer_id,
                newest: anabranch::Epoch(newest),
            },
            News::Writable(bytes) => Input::Writable {
                peer: peer_id,
                epoch,
                bytes,
            },
        };
        if matches!(news, News::Connected) {
            self.note_members(node, peer);
            self.oracle.on_linked(node, peer);
            self.news.push_back(app::News::Linked(node));
        }
        if matches!(news, News::Disconnected) {
            let peer = Some(peer);
            self.news.push_back(app::News::Unlinked { node, peer });
        }
        if !matches!(news, News::Writable(_)) {
            self.tell(|| format!("n{node} {news:?} n{peer} in epoch {epoch}"));
        }
        self.give(node, input)
    }

    fn on_wake(&mut self, node: NodeIx, life: u64, at: Micros) -> Result<(), Failure> {
        let now = self.kernel.now();
        let host = &mut self.hosts[node];
        let Some(alive) = host.life.as_mut().filter(|_| host.lives == life) else {
            return Ok(());
        };
        if alive.wake_at != Some(at) {
            return Ok(());
        }
        alive.wake_at = None;
        if alive.engine.next_wakeup().is_some_and(|due| due.0 <= now) {
            alive.woke_at = now;
            return self.give(node, Input::Wakeup);
        }
        self.schedule_wake(node);
        Ok(())
    }

    fn on_boot(&mut self, node: NodeIx, lives: u64, recovery: Option<Recovery>) -> Result<(), Failure> {
        let now = self.kernel.now();
        let host = &mut self.hosts[node];
        if host.life.is_some() || host.lives != lives {
            return Ok(());
        }
        match recovery {
            Some(Recovery::CutShort(calls)) => host.disk.halt_after(calls),
            Some(Recovery::FailedRead) => host.disk.fail_reads(1),
            None => {}
        }
        let mut config = limits::config(&self.plan, &self.hosts, node, &self.limits);
        config.kinds.extend(self.kinds_of_functions());
        let with = StartWith {
            seed: self.plan.seed,
            config,
            options: limits::options(&self.plan),
            expects_others: self.plan.discovered,
            now,
        };
        match self.hosts[node].start(with) {
            Ok(()) => self.on_booted(node),
            Err(NoStart::Later(why)) => {
                self.tell(|| format!("n{node} does not start: {why}"));
                let ending = if lives.is_multiple_of(2) {
                    Ending::Machine
                } else {
                    Ending::Process
                };
                self.hosts[node].die(self.plan.seed, ending);
                self.boot_after(node, SECOND / 5, None);
                Ok(())
            }
            // As the message says: the operator moves the directory away, and its peers fill the new one.
            Err(NoStart::Damaged(why)) if self.hosts[node].rotten => {
                self.tell(|| format!("n{node} finds its disk damaged: {why}"));
                self.hosts[node].rotten = false;
                self.hosts[node].disk.wipe();
                self.oracle.on_disk_lost(node);
                self.boot_after(node, SECOND / 2, None);
                *self.tally.counters.entry("damage_refused").or_default() += 1;
                Ok(())
            }
            Err(NoStart::Damaged(why) | NoStart::Broken(why)) => {
                Err(broken(Rule::Store, node, format!("it cannot start: {why}")))
            }
        }
    }

    fn on_booted(&mut self, node: NodeIx) -> Result<(), Failure> {
        let now = self.kernel.now();
        let Some(life) = &self.hosts[node].life else {
            return Ok(());
        };
        let epoch = life.epoch;
        // A start that was to be cut short and came through after all is an ordinary one.
        self.hosts[node].disk.halt_after(u64::MAX / 2);
        self.hosts[node].disk.fail_reads(0);
        let wall_ms = self.hosts[node].wall_ms(now);
        let mut engines = World::engines(&self.hosts);
        engines.retain(|(peer, _)| *peer != node);
        self.oracle.note_bases(node, &engines)?;
        self.oracle.on_start(node, epoch, wall_ms, &life.engine)?;
        self.hosts[node].rotten = false;
        self.keys.on_start(node, &self.oracle);
        let lives = self.hosts[node].lives;
        self.tell(|| format!("n{node} starts, life {lives}, epoch {epoch}"));
        let kernel = &mut self.kernel;
        self.net.start(now, node, epoch, &mut |at, event| {
            kernel.at(at, Event::Net(event))
        });
        self.schedule_wake(node);
        self.news.push_back(app::News::Started(node));
        Ok(())
    }

    /// The engines that run.
    pub(crate) fn engines(hosts: &[Host]) -> Vec<(NodeIx, &Engine)> {
        hosts
            .iter()
            .filter_map(|host| host.life.as_ref().map(|life| (host.ix, &life.engine)))
            .collect()
    }

    /// Adds a life's counters to the tally.
    fn count_life(&mut self, node: NodeIx) {
        if let Some(life) = &self.hosts[node].life {
            for (name, count) in life.engine.counters().iter() {
                *self.tally.counters.entry(name).or_default() += count;
            }
        }
    }

    fn is_chaos(&self) -> bool {
        self.phase == Phase::Chaos && self.kernel.now() < self.plan.chaos_us
    }

    fn fault(&self, index: usize) -> Fault {
        self.plan.faults[index].1.clone()
    }
}

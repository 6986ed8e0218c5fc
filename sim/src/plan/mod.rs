//! A plan: everything one seed decides before the run begins, as plain data.
//!
//! Swarm: each family of faults is in or out with equal chance, intensities are log-uniform, so that most runs are hard
//! in a few ways and easy in others. Ranges overlap the protocol's own constants.
//!
//! Not here: how a fault is carried out (`crate::world`).
//! Contract: a plan is a function of its seed and profile.

mod application;
mod faults;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::latency::Latency;
use crate::model::Kind;
use crate::net::{NetPlan, NodeIx};
use crate::queue::Micros;
use crate::rng::Rng;

pub use settings::{Choice, Settings};

/// A second, in microseconds.
pub const SECOND: Micros = 1_000_000;
/// In a swarm plan faults and updates happen in the first so many microseconds.
pub const CHAOS_US: Micros = 60 * SECOND;
/// After them, everything must agree within this, microseconds.
pub const SETTLE_US_MAX: Micros = 60 * SECOND;
/// An application has longer: a call that was lost is waited for until its deadline, a minute for a schedule's, and then made again.
pub const APPLICATION_SETTLE_US_MAX: Micros = 180 * SECOND;
/// Agreement is watched for so long, microseconds: longer than any period of the protocol.
pub const REST_US: Micros = 20 * SECOND;

/// A family of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Frames are lost.
    Loss,
    /// Frames are lost in bursts.
    Burst,
    /// Frames come twice.
    Duplicate,
    /// Frames come seconds later, across links and restarts.
    Ghost,
    /// Frames overtake each other.
    Reorder,
    /// Delays of another shape and scale.
    Latency,
    /// A limit on bytes a second.
    Bandwidth,
    /// Partitions of every kind.
    Partition,
    /// A partition that comes and goes.
    Flapping,
    /// Links break.
    Reset,
    /// Processes die, at any effect.
    Crash,
    /// A process that dies again and again, also while it recovers.
    CrashLoop,
    /// All processes die at once.
    Blackout,
    /// A disk is lost.
    LostDisk,
    /// An old copy of a disk comes back.
    Backup,
    /// A bit flips in what is stored.
    Rot,
    /// A disk is full for a while.
    FullDisk,
    /// Syncs take long.
    SlowDisk,
    /// A sync or a write fails: the store is poisoned until a restart.
    FailedSync,
    /// Processes stand still.
    Pause,
    /// Wall clocks are wrong and jump.
    Clock,
    /// Bounds of the engine are small.
    Limits,
    /// Snapshots on disk are frequent.
    Snapshots,
    /// Membership sees nodes again and again.
    Hints,
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 24] = [
        Family::Loss,
        Family::Burst,
        Family::Duplicate,
        Family::Ghost,
        Family::Reorder,
        Family::Latency,
        Family::Bandwidth,
        Family::Partition,
        Family::Flapping,
        Family::Reset,
        Family::Crash,
        Family::CrashLoop,
        Family::Blackout,
        Family::LostDisk,
        Family::Backup,
        Family::Rot,
        Family::FullDisk,
        Family::SlowDisk,
        Family::FailedSync,
        Family::Pause,
        Family::Clock,
        Family::Limits,
        Family::Snapshots,
        Family::Hints,
    ];
}

/// Something done to the cluster at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes in these directions.
    Block(Vec<(NodeIx, NodeIx)>),
    /// It passes again.
    Unblock(Vec<(NodeIx, NodeIx)>),
    /// A link breaks.
    Reset(NodeIx, NodeIx),
    /// A process dies.
    Crash {
        /// Which.
        node: NodeIx,
        /// How.
        death: Death,
    },
    /// A process stands still.
    Pause {
        /// Which.
        node: NodeIx,
        /// For how long, microseconds.
        us: Micros,
    },
    /// A copy of a disk is made.
    TakeBackup(NodeIx),
    /// A disk has room for so many more bytes; `None`: for any.
    Room(NodeIx, Option<u64>),
    /// Syncs take so much longer from now on, microseconds.
    SlowSync(NodeIx, Micros),
    /// The next sync fails.
    FailSync(NodeIx),
    /// The next write fails half-way.
    FailWrite(NodeIx),
    /// A wall clock jumps.
    JumpClock(NodeIx, i64),
    /// Membership sees a node.
    Hint(NodeIx, NodeIx),
}

/// How a process dies, and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// When, once it is doomed.
    pub moment: Moment,
    /// What dies with it.
    pub ending: Ending,
    /// When it starts again, after its death, microseconds.
    pub back_after_us: Micros,
    /// What happens to its disk meanwhile.
    pub disk: DiskFate,
    /// What goes wrong with the disk while it recovers, once.
    pub recovery: Option<Recovery>,
}

/// When somebody doomed dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At once.
    Now,
    /// After so many more outputs of its engine.
    Outputs(u32),
    /// At a call to its disk, after so many more that went well.
    DiskCalls(u64),
}

/// What dies with a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing: what it wrote is there for the next process, also what was not synced.
    Process,
    /// The machine: of what was not synced anything may be there.
    Machine,
}

/// What may go wrong during a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// It is cut short after so many calls to the disk.
    CutShort(u64),
    /// A read fails.
    FailedRead,
}

/// What happens to a disk while its process is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFate {
    /// What was synced is there; of the rest anything may be.
    Kept,
    /// It is empty.
    Lost,
    /// The last copy made of it is put back.
    Restored,
    /// One bit of it has flipped.
    Rotten,
}

/// How clients behave.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// How many there are.
    pub clients: usize,
    /// The mean time between a client's updates, microseconds.
    pub think_us: f64,
    /// The types in use.
    pub kinds: Vec<Kind>,
    /// Entities of each type.
    pub entities: u64,
    /// Entities that clients write under two types.
    pub disputed: u64,
    /// How many updates go to the first entity.
    pub hot: f64,
    /// Different elements of a set.
    pub elements: u64,
    /// How many updates change several entities.
    pub batches: f64,
    /// How many updates carry an idempotency key.
    pub keyed: f64,
    /// How many keyed updates are sent again although they were answered.
    pub repeats: f64,
    /// How many updates ask for more than local, durable.
    pub levels: f64,
    /// How many updates are nonsense and must be refused.
    pub wrong: f64,
    /// How many updates leave it to the node to know the type.
    pub untyped: f64,
    /// How many repeats of a key are of another update, and must be refused.
    pub misused: f64,
    /// How many increments are large.
    pub large: f64,
    /// How many registers are set with a clock of the caller's.
    pub clocks: f64,
    /// How likely a client goes to another node for its next update.
    pub roams: f64,
    /// How likely a client reads before an update, at any node.
    pub reads: f64,
    /// How many updates are commits of functions: made by what was seen some time before.
    pub commits: f64,
}

impl Load {
    /// Every type, hot and cold keys, idempotency keys and levels, at a middling pace.
    pub fn calm(nodes: usize) -> Load {
        Load {
            clients: nodes,
            think_us: 100_000.0,
            kinds: Kind::ALL.to_vec(),
            entities: 4,
            disputed: 0,
            hot: 0.5,
            elements: 20,
            batches: 0.1,
            keyed: 0.3,
            repeats: 0.1,
            levels: 0.2,
            wrong: 0.01,
            untyped: 0.1,
            misused: 0.05,
            large: 0.05,
            clocks: 0.2,
            roams: 0.0,
            reads: 0.0,
            commits: 0.0,
        }
    }
}

/// A wall clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockPlan {
    /// How far it is off at the start, milliseconds.
    pub skew_ms: i64,
    /// How many millionths it runs fast.
    pub drift_ppm: i64,
}

/// Everything a seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How many shards.
    pub shards: u32,
    /// Whether nodes know nobody at first, and learn of each other from links and from membership.
    pub discovered: bool,
    /// Faults and updates happen in the first so many microseconds.
    pub chaos_us: Micros,
    /// Which families of faults are in.
    pub families: Vec<Family>,
    /// The network until everything heals.
    pub net: NetPlan,
    /// How long a sync takes.
    pub sync: Latency,
    /// Each node's wall clock.
    pub clocks: Vec<ClockPlan>,
    /// What clients do.
    pub load: Load,
    /// The engine's and the store's bounds.
    pub settings: Settings,
    /// What happens when, ascending.
    pub faults: Vec<(Micros, Fault)>,
    /// The links that are up at rest: connected, not complete.
    pub rest: Vec<(NodeIx, NodeIx)>,
}

impl Plan {
    /// A plan without faults, for scenarios that add their own.
    pub fn calm(seed: u64, nodes: usize, chaos_us: Micros) -> Plan {
        Plan {
            seed,
            nodes,
            shards: 2,
            discovered: false,
            chaos_us,
            families: Vec::new(),
            net: NetPlan::benign(),
            sync: Latency::LogNormal {
                median_us: 1_000.0,
                spread: 0.5,
            },
            clocks: vec![
                ClockPlan {
                    skew_ms: 0,
                    drift_ppm: 0
                };
                nodes
            ],
            load: Load::calm(nodes),
            settings: Settings::default(),
            faults: Vec::new(),
            rest: rest(seed, nodes),
        }
    }

    /// The plan of a seed, with so many nodes if they are given.
    pub fn swarm(seed: u64, nodes: Option<usize>) -> Plan {
        let mut rng = Rng::stream(seed, "plan", 0, 0);
        let nodes = nodes.unwrap_or_else(|| *rng.pick(&[3, 3, 4, 5, 5, 5, 5, 5, 5, 6, 7, 9]));
        let families: Vec<Family> = Family::ALL
            .into_iter()
            .filter(|&f| Rng::stream(seed, "family", f as u64, 0).chance(0.5))
            .collect();
        let has = |family| families.contains(&family);
        Plan {
            nodes,
            shards: *rng.pick(&[1, 1, 2, 3, 4]),
            discovered: Rng::stream(seed, "discovered", 0, 0).chance(0.3),
            chaos_us: CHAOS_US,
            net: swarm_net(seed, &has),
            sync: swarm_sync(seed, &has),
            clocks: (0..nodes).map(|node| swarm_clock(seed, node, &has)).collect(),
            load: swarm_load(seed, nodes),
            settings: Settings::swarm(seed, has(Family::Limits), has(Family::Snapshots)),
            faults: faults::swarm(seed, nodes, &has),
            rest: rest(seed, nodes),
            seed,
            families,
        }
    }
}

fn swarm_net(seed: u64, has: &dyn Fn(Family) -> bool) -> NetPlan {
    let mut rng = Rng::stream(seed, "plan-net", 0, 0);
    let mut chance = |family, low, high| {
        let p = rng.log_uniform(low, high);
        if has(family) { p } else { 0.0 }
    };
    let loss = chance(Family::Loss, 0.001, 0.4);
    let burst = chance(Family::Burst, 0.0005, 0.05);
    let duplicate = chance(Family::Duplicate, 0.005, 0.5);
    let ghost = chance(Family::Ghost, 0.001, 0.1);
    let reorder = chance(Family::Reorder, 0.005, 0.5);
    let benign = NetPlan::benign();
    NetPlan {
        latency: if has(Family::Latency) {
            Latency::random(&mut rng)
        } else {
            benign.latency
        },
        loss,
        loss_vanishes: rng.chance(0.5),
        burst,
        burst_us: rng.log_uniform(1_000.0, 3_000_000.0),
        duplicate,
        ghost,
        reorder,
        bytes_per_s: if has(Family::Bandwidth) {
            rng.log_uniform(20_000.0, 10_000_000.0) as u64
        } else {
            0
        },
        idle_us: rng.log_uniform(300_000.0, 30_000_000.0) as Micros,
        partition_vanishes: rng.chance(0.5),
    }
}

fn swarm_sync(seed: u64, has: &dyn Fn(Family) -> bool) -> Latency {
    let mut rng = Rng::stream(seed, "plan-sync", 0, 0);
    let median_us = if has(Family::SlowDisk) {
        rng.log_uniform(200.0, 300_000.0)
    } else {
        1_000.0
    };
    Latency::LogNormal {
        median_us,
        spread: rng.log_uniform(0.1, 1.5),
    }
}

fn swarm_clock(seed: u64, node: NodeIx, has: &dyn Fn(Family) -> bool) -> ClockPlan {
    let mut rng = Rng::stream(seed, "plan-clock", node as u64, 0);
    if !has(Family::Clock) {
        return ClockPlan {
            skew_ms: rng.between(0, 20) as i64 - 10,
            drift_ppm: 0,
        };
    }
    let skew = rng.log_uniform(1.0, 3_600_000.0) as i64;
    ClockPlan {
        skew_ms: if rng.chance(0.5) { skew } else { -skew },
        drift_ppm: rng.between(0, 2_000) as i64 - 1_000,
    }
}

fn swarm_load(seed: u64, nodes: usize) -> Load {
    let mut rng = Rng::stream(seed, "plan-load", 0, 0);
    let mut kinds = Kind::ALL.to_vec();
    for _ in 0..rng.below(4) {
        kinds.remove(rng.below(kinds.len() as u64) as usize);
    }
    let clients = rng.between(2, 2 + nodes as u64) as usize;
    Load {
        clients,
        // Over all clients between 5 and 200 updates a second.
        think_us: clients as f64 * 1e6 / rng.log_uniform(5.0, 200.0),
        kinds,
        entities: *rng.pick(&[1, 2, 4, 12, 40]),
        disputed: *rng.pick(&[0, 0, 2]),
        hot: rng.unit(),
        elements: *rng.pick(&[2, 5, 20, 100]),
        batches: rng.unit() * 0.3,
        keyed: rng.unit(),
        repeats: rng.unit() * 0.3,
        levels: rng.unit() * 0.6,
        wrong: rng.unit() * 0.03,
        untyped: rng.unit() * 0.3,
        misused: rng.unit() * 0.1,
        large: rng.unit() * 0.1,
        clocks: *rng.pick(&[0.0, 0.2, 0.8]),
        roams: *rng.pick(&[0.0, 0.05, 0.5]),
        reads: *rng.pick(&[0.0, 0.2, 0.8]),
        commits: *rng.pick(&[0.0, 0.1, 0.5]),
    }
}

/// A random tree over all nodes and a few more links, but never all (but for two nodes).
fn rest(seed: u64, nodes: usize) -> Vec<(NodeIx, NodeIx)> {
    let mut rng = Rng::stream(seed, "plan-rest", 0, 0);
    let mut order: Vec<NodeIx> = (0..nodes).collect();
    for i in (1..nodes).rev() {
        order.swap(i, rng.below(i as u64 + 1) as usize);
    }
    let line = rng.chance(0.5);
    let mut links: Vec<(NodeIx, NodeIx)> = (1..nodes)
        .map(|i| {
            (
                order[if line { i - 1 } else { rng.below(i as u64) as usize }],
                order[i],
            )
        })
        .map(|(a, b)| (a.min(b), a.max(b)))
        .collect();
    let complete = nodes * (nodes - 1) / 2;
    for _ in 0..rng.below(3) {
        let (a, b) = (rng.below(nodes as u64) as usize, rng.below(nodes as u64) as usize);
        let link = (a.min(b), a.max(b));
        if a != b && !links.contains(&link) && links.len() + 1 < complete {
            links.push(link);
        }
    }
    links.sort_unstable();
    links
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let families: Vec<String> = self.families.iter().map(|family| format!("{family:?}")).collect();
        writeln!(
            f,
            "seed {}: {} nodes, {} shards, {} faults",
            self.seed,
            self.nodes,
            self.shards,
            self.faults.len()
        )?;
        writeln!(f, "  families {}", families.join(" "))?;
        writeln!(f, "  network {:?}", self.net)?;
        writeln!(f, "  sync {:?}, {:?}", self.sync, self.settings)?;
        writeln!(f, "  load {:?}", self.load)?;
        write!(f, "  at rest {:?}", self.rest)
    }
}

//! Which faults happen when.

use super::{CHAOS_US, Death, DiskFate, Ending, Family, Fault, Moment, Recovery, SECOND};
use crate::net::NodeIx;
use crate::queue::Micros;
use crate::rng::Rng;

type Faults = Vec<(Micros, Fault)>;

/// All faults of a seed, by time.
pub(super) fn swarm(seed: u64, nodes: usize, has: &dyn Fn(Family) -> bool) -> Faults {
    let mut faults = Vec::new();
    for family in Family::ALL.into_iter().filter(|&family| has(family)) {
        let mut rng = Rng::stream(seed, "faults", family as u64, 0);
        match family {
            Family::Partition => partitions(&mut rng, nodes, &mut faults),
            Family::Flapping => flapping(&mut rng, nodes, &mut faults),
            Family::Reset => resets(&mut rng, nodes, &mut faults),
            Family::Crash => crashes(&mut rng, nodes, &mut faults),
            Family::CrashLoop => crash_loop(&mut rng, nodes, &mut faults),
            Family::Blackout => blackouts(&mut rng, nodes, &mut faults),
            Family::LostDisk => lost_disk(&mut rng, nodes, &mut faults),
            Family::Backup => backup(&mut rng, nodes, &mut faults),
            Family::Rot => rot(&mut rng, nodes, &mut faults),
            Family::FullDisk => full_disk(&mut rng, nodes, &mut faults),
            Family::SlowDisk => stalls(&mut rng, nodes, &mut faults),
            Family::FailedSync => failed_syncs(&mut rng, nodes, &mut faults),
            Family::Pause => pauses(&mut rng, nodes, &mut faults),
            Family::Clock => jumps(&mut rng, nodes, &mut faults),
            Family::Hints => hints(&mut rng, nodes, &mut faults),
            Family::Loss
            | Family::Burst
            | Family::Duplicate
            | Family::Ghost
            | Family::Reorder
            | Family::Latency
            | Family::Bandwidth
            | Family::Limits
            | Family::Snapshots => {}
        }
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn node(rng: &mut Rng, nodes: usize) -> NodeIx {
    rng.below(nodes as u64) as NodeIx
}

fn two(rng: &mut Rng, nodes: usize) -> (NodeIx, NodeIx) {
    let a = node(rng, nodes);
    (a, (a + 1 + rng.below(nodes as u64 - 1) as usize) % nodes)
}

fn sometime(rng: &mut Rng) -> Micros {
    rng.below(CHAOS_US)
}

/// Log-uniform between two lengths in milliseconds.
fn length(rng: &mut Rng, low_ms: f64, high_ms: f64) -> Micros {
    rng.log_uniform(low_ms * 1e3, high_ms * 1e3) as Micros
}

/// Times, on average so far apart.
fn times(rng: &mut Rng, apart_us: f64) -> Vec<Micros> {
    let mut all = Vec::new();
    let mut at = rng.exponential(apart_us) as Micros;
    while at < CHAOS_US {
        all.push(at);
        at += 1 + rng.exponential(apart_us) as Micros;
    }
    all
}

/// The directions that a partition blocks.
fn cut(rng: &mut Rng, nodes: usize) -> Vec<(NodeIx, NodeIx)> {
    let all = (0..nodes)
        .flat_map(|a| (0..nodes).map(move |b| (a, b)))
        .filter(|(a, b)| a != b);
    let (x, y) = two(rng, nodes);
    let sides: Vec<bool> = (0..nodes).map(|_| rng.chance(0.5)).collect();
    match rng.below(6) {
        // Two sides.
        0 => all.filter(|&(a, b)| sides[a] != sides[b]).collect(),
        // Two sides, one of which still hears the other.
        1 => all.filter(|&(a, b)| sides[a] && !sides[b]).collect(),
        // One alone.
        2 => all.filter(|&(a, b)| a == x || b == x).collect(),
        // One that nobody hears, or that hears nobody.
        3 => all
            .filter(|&(a, b)| if sides[0] { a == x } else { b == x })
            .collect(),
        // Not transitive: x and y only reach each other through others.
        4 => vec![(x, y), (y, x)],
        // One direction of one link.
        _ => vec![(x, y)],
    }
}

fn partition(rng: &mut Rng, nodes: usize, at: Micros, us: Micros, faults: &mut Faults) {
    let directions = cut(rng, nodes);
    faults.push((at, Fault::Block(directions.clone())));
    faults.push((at + us, Fault::Unblock(directions)));
}

fn partitions(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    let apart_us = rng.log_uniform(2e6, 30e6);
    for at in times(rng, apart_us) {
        let us = length(rng, 20.0, 25_000.0);
        partition(rng, nodes, at, us, faults);
    }
}

fn flapping(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    let directions = cut(rng, nodes);
    let (mut at, end) = (sometime(rng), CHAOS_US);
    let period = length(rng, 10.0, 3_000.0);
    for _ in 0..60 {
        let up = 1 + rng.below(period);
        let down = 1 + rng.below(period);
        if at + down >= end {
            break;
        }
        faults.push((at, Fault::Block(directions.clone())));
        faults.push((at + down, Fault::Unblock(directions.clone())));
        at += down + up;
    }
}

fn resets(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    let apart_us = rng.log_uniform(200_000.0, 20e6);
    for at in times(rng, apart_us) {
        let (a, b) = two(rng, nodes);
        faults.push((at, Fault::Reset(a, b)));
    }
}

fn crash(rng: &mut Rng, node: NodeIx, back_after_us: Micros, disk: DiskFate) -> Fault {
    let moment = match rng.below(10) {
        0..4 => Moment::Now,
        4..7 => Moment::Outputs(rng.between(1, 12) as u32),
        _ => Moment::DiskCalls(rng.below(12)),
    };
    let recovery = match rng.below(20) {
        0..3 => Some(Recovery::CutShort(rng.between(0, 6))),
        3 => Some(Recovery::FailedRead),
        _ => None,
    };
    let ending = if rng.chance(0.5) {
        Ending::Machine
    } else {
        Ending::Process
    };
    let death = Death {
        moment,
        ending,
        back_after_us,
        disk,
        recovery,
    };
    Fault::Crash { node, death }
}

fn crashes(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    let apart_us = rng.log_uniform(2e6, 20e6);
    for at in times(rng, apart_us) {
        let back = length(rng, 1.0, 15_000.0);
        let node = node(rng, nodes);
        faults.push((at, crash(rng, node, back, DiskFate::Kept)));
    }
}

fn crash_loop(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    let node = node(rng, nodes);
    let mut at = sometime(rng);
    for _ in 0..rng.between(3, 12) {
        let back = length(rng, 1.0, 300.0);
        faults.push((at, crash(rng, node, back, DiskFate::Kept)));
        at += back + length(rng, 1.0, 1_500.0);
    }
}

fn blackouts(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    for _ in 0..rng.between(1, 2) {
        let at = sometime(rng);
        for node in 0..nodes {
            let back = length(rng, 1.0, 8_000.0);
            faults.push((at, crash(rng, node, back, DiskFate::Kept)));
        }
    }
}

/// One node loses its disk, or two at different times; never so many that a majority could be gone at once.
fn lost_disk(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    let first = node(rng, nodes);
    for i in 0..rng.between(1, 2) as usize {
        let at = (15 + 25 * i as u64) * SECOND + rng.below(10 * SECOND);
        let back = length(rng, 1.0, 10_000.0);
        faults.push((at, crash(rng, (first + i) % nodes, back, DiskFate::Lost)));
    }
}

/// A node comes back from an old copy with its clock set back, to peers that never met the life it has lost and hear of it
/// from others only while it writes.
fn revenant(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    let x = node(rng, nodes);
    let others: Vec<NodeIx> = (0..nodes).filter(|n| *n != x).collect();
    let half = 1 + rng.below(others.len() as u64 - 1) as usize;
    let (met, unmet) = others.split_at(half);
    let both = |a: &[NodeIx], b: &[NodeIx]| -> Vec<(NodeIx, NodeIx)> {
        a.iter()
            .flat_map(|&a| b.iter().flat_map(move |&b| [(a, b), (b, a)]))
            .collect()
    };
    let t0 = SECOND + rng.below(CHAOS_US / 3);
    let t1 = t0 + length(rng, 200.0, 5_000.0);
    let t2 = t1 + length(rng, 500.0, 8_000.0);
    let t3 = t2 + length(rng, 300.0, 5_000.0);
    let now = |disk| Fault::Crash {
        node: x,
        death: Death {
            moment: Moment::Now,
            ending: Ending::Process,
            back_after_us: 2_000,
            disk,
            recovery: None,
        },
    };
    faults.push((t0, Fault::TakeBackup(x)));
    faults.push((t1 - 2, Fault::Block(both(&[x], unmet))));
    faults.push((t1, now(DiskFate::Kept)));
    // What it writes now reaches some only.
    faults.push((t2 - 4, Fault::Block(both(met, unmet))));
    faults.push((t2 - 3, Fault::Block(both(&[x], met))));
    faults.push((t2 - 2, Fault::JumpClock(x, -(((t2 - t1) / 1_000) as i64 + 100))));
    faults.push((t2, now(DiskFate::Restored)));
    faults.push((t2 + 1, Fault::Unblock(both(&[x], unmet))));
    faults.push((t3, Fault::Unblock(both(met, unmet))));
    faults.push((t3 + length(rng, 300.0, 5_000.0), Fault::Unblock(both(&[x], met))));
}

fn backup(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    if nodes > 2 && rng.chance(0.5) {
        revenant(rng, nodes, faults);
    }
    let node = node(rng, nodes);
    let taken = rng.below(CHAOS_US / 2);
    faults.push((taken, Fault::TakeBackup(node)));
    let back = length(rng, 1.0, 10_000.0);
    let at = taken + rng.below(CHAOS_US - taken);
    faults.push((at, crash(rng, node, back, DiskFate::Restored)));
}

fn rot(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    for _ in 0..rng.between(1, 3) {
        let (node, at) = (node(rng, nodes), sometime(rng));
        let back = length(rng, 1.0, 5_000.0);
        faults.push((at, crash(rng, node, back, DiskFate::Rotten)));
    }
}

fn full_disk(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    for _ in 0..rng.between(1, 3) {
        let (node, at) = (node(rng, nodes), sometime(rng));
        let room = rng.log_uniform(1.0, 200_000.0) as u64;
        faults.push((at, Fault::Room(node, Some(room))));
        faults.push((at + length(rng, 100.0, 20_000.0), Fault::Room(node, None)));
    }
}

fn stalls(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    for _ in 0..rng.between(1, 4) {
        let (node, at) = (node(rng, nodes), sometime(rng));
        faults.push((at, Fault::SlowSync(node, length(rng, 50.0, 6_000.0))));
        faults.push((at + length(rng, 100.0, 10_000.0), Fault::SlowSync(node, 0)));
    }
}

fn failed_syncs(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    for _ in 0..rng.between(1, 2) {
        let (node, at) = (node(rng, nodes), sometime(rng));
        let fails = if rng.chance(0.5) {
            Fault::FailSync(node)
        } else {
            Fault::FailWrite(node)
        };
        faults.push((at, fails));
        let back = length(rng, 1.0, 2_000.0);
        faults.push((
            at + length(rng, 10.0, 5_000.0),
            crash(rng, node, back, DiskFate::Kept),
        ));
    }
}

fn pauses(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    let apart_us = rng.log_uniform(1e6, 20e6);
    for at in times(rng, apart_us) {
        let us = length(rng, 1.0, 8_000.0);
        faults.push((
            at,
            Fault::Pause {
                node: node(rng, nodes),
                us,
            },
        ));
    }
}

fn jumps(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    for _ in 0..rng.between(1, 6) {
        let ms = rng.log_uniform(10.0, 3_600_000.0) as i64;
        let ms = if rng.chance(0.5) { ms } else { -ms };
        faults.push((sometime(rng), Fault::JumpClock(node(rng, nodes), ms)));
    }
}

fn hints(rng: &mut Rng, nodes: usize, faults: &mut Faults) {
    for at in times(rng, 2e6) {
        let (a, b) = two(rng, nodes);
        faults.push((at, Fault::Hint(a, b)));
    }
}

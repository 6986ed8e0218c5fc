//! A command to an entity that nothing has touched since the node started: against one that is warm.
//!
//! A function in Rust keeps nothing between commands, so waking is what it costs to find all of it cold.

use std::time::{Duration, Instant};

use anabranch::{EntityId, Level, Mutation, Node, Op, Type, Update};

use crate::embedded::hit;
use crate::measure::{Taken, Threads, median};
use crate::table::{Table, Wanted};
use crate::{Options, ours};

const ENTITIES: usize = 10_000;
/// Has no divisor in common with them: by this stride each is met once, and neighbours are not.
const STRIDE: usize = 6_311;

/// See the module's front page.
pub fn measure(options: &Options, table: &mut Table) {
    let dir = options.dir.join("waking");
    let node = ours::start(&dir, 1, &[], vec![]);
    ours::ready(&node);
    fill(&node);
    ours::stop(node);
    let node = ours::start(&dir, 1, &[], vec![]);
    ours::ready(&node);

    table.section("A command to an entity that is asleep, in memory");
    let runtime = Threads::One.runtime();
    let time = |key: &str| {
        let begun = Instant::now();
        hit(&runtime, &node, key, "hit");
        begun.elapsed()
    };
    // The first call of all pays for what has nothing to do with its entity.
    (0..ENTITIES).for_each(|_| hit(&runtime, &node, "warm-up", "hit"));
    let keys: Vec<String> = (0..ENTITIES).map(|n| key(n * STRIDE % ENTITIES)).collect();
    let mut first: Vec<Duration> = keys.iter().map(|key| time(key)).collect();
    let mut second: Vec<Duration> = keys.iter().map(|key| time(key)).collect();
    let mut warm: Vec<Duration> = keys.iter().map(|_| time(&keys[0])).collect();
    let [first, second, warm] =
        [&mut first, &mut second, &mut warm].map(|samples| Taken::once(median(samples).as_secs_f64() * 1e6));
    let case = format!("the first command of each of {ENTITIES} since the start");
    table.p50(
        &case,
        "ours: one entity, again and again",
        [first, warm],
        Wanted::Nothing,
    );
    table.p50("the second of each", "the same", [second, warm], Wanted::Nothing);
    ours::stop(node);
}

fn key(n: usize) -> String {
    format!("sleeper-{n}")
}

fn fill(node: &Node) {
    let op = |n| Op {
        entity: EntityId::new("hits", &key(n)).unwrap(),
        ty: Some(Type::PnCounter),
        mutation: Mutation::Increment(1),
    };
    let update = Update {
        ops: (0..ENTITIES).map(op).collect(),
        level: Level::default(),
        key: None,
        after: None,
        timeout_ms: 60_000,
    };
    Threads::One.runtime().block_on(node.update(update)).unwrap();
}

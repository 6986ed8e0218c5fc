//! What entities that are awake take: of the node, each its session, its stream and its state; of the function's process,
//! what the SDK keeps of it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::client::{self, Client};
use super::processes::{Prepared, at};
use crate::measure::{ROUNDS, Taken, Threads};
use crate::table::{Table, Unit, Wanted};

const ENTITIES: usize = 1_000;
/// Before: what any command takes once is no entity's.
const WARM_UP: usize = 500;
/// After so long without a command an entity is passivated: all must be there before.
const AWAKE: Duration = Duration::from_secs(25);

/// See the module's front page.
pub fn measure(prepared: &Prepared<'_>, table: &mut Table) {
    table.section("Memory, with carts that are awake");
    let mut rounds: [[Vec<f64>; 2]; 3] = Default::default();
    for round in 0..ROUNDS {
        let [before, after] = one_round(prepared, &format!("memory-{round}"));
        for side in [0, 1] {
            let each = (after[side] - before[side]) / ENTITIES as f64;
            for (taken, bytes) in rounds
                .iter_mut()
                .zip([before[side] / 1e6, after[side] / 1e6, each / 1e3])
            {
                taken[side].push(bytes);
            }
        }
    }
    let cases = [
        ("the daemon with one".to_owned(), Unit::Megabytes),
        (format!("the daemon with {ENTITIES}"), Unit::Megabytes),
        (format!("each of {ENTITIES}, in the daemon"), Unit::Kilobytes),
    ];
    for ((case, unit), both) in cases.into_iter().zip(rounds) {
        let both = both.map(Taken::of_samples);
        table.add(
            &case,
            "the function's process meanwhile",
            both,
            unit,
            Wanted::Nothing,
        );
    }
}

/// What the node and the function's process have before and after.
fn one_round(prepared: &Prepared<'_>, name: &str) -> [[f64; 2]; 2] {
    let function = prepared.function();
    let node = prepared.node(name, Path::new("data"), &at(&function)).start();
    client::until_answered(node.port);
    let resident = || [node.resident(), function.resident()];
    Threads::One.runtime().block_on(async {
        let mut client = Client::connect(node.port).await;
        for _ in 0..WARM_UP {
            client.add("warm-up").await;
        }
        let (before, begun) = (resident(), Instant::now());
        for n in 0..ENTITIES {
            client.add(&format!("cart-{n}")).await;
        }
        let after = resident();
        assert!(begun.elapsed() < AWAKE, "the first of them may sleep already");
        [before, after]
    })
}

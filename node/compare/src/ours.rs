//! Our side: nodes, and the functions that they run.

use std::path::Path;

use anabranch::state::{CounterMap, LwwRegister, PnCounter, State};
use anabranch::transport::ca::IssueOptions;
use anabranch::{Context, Copies, Function, Level, Node, NodeId, Stage, ca};
use serde::{Deserialize, Serialize};

use crate::measure::Threads;

/// Answered when it is in memory here.
pub const APPLIED: Level = Level {
    copies: Copies::Local,
    stage: Stage::Applied,
};

/// What is said and echoed: 64 bytes.
pub type Said = [[u8; 32]; 2];
pub const SAID: Said = [[7; 32]; 2];

/// A cart holds at most so many of a product, on each side.
pub const QUANTITY_MAX: u64 = 1_000;

#[derive(State)]
struct Cart {
    lines: CounterMap<String>,
    _note: LwwRegister<String>,
}

/// A product and how many of it, as it is sent and as it comes.
#[derive(Serialize)]
pub struct Line<'a> {
    pub product: &'a str,
    pub quantity: u32,
}

#[derive(Deserialize)]
struct OwnLine {
    product: String,
    quantity: u32,
}

impl Cart {
    /// As in `node/examples/cart.rs`, answered when it is in memory.
    fn add(&mut self, context: &mut Context, line: OwnLine) -> Result<u64, String> {
        let OwnLine { product, quantity } = line;
        if quantity == 0 {
            return Err(format!("there is nothing to add of {product}"));
        }
        let wanted = u64::try_from(self.lines.get(&product)).unwrap_or(0) + u64::from(quantity);
        if wanted > QUANTITY_MAX {
            return Err(format!("a cart holds at most {QUANTITY_MAX} of {product}"));
        }
        context.confirm(APPLIED);
        self.lines.increment(&product, quantity.into());
        Ok(wanted)
    }
}

fn functions() -> [Function; 3] {
    let raise = |hits: &mut PnCounter, by: i64| {
        hits.increment(by);
        Ok::<_, String>(hits.get())
    };
    let hits = Function::of::<PnCounter>("hits")
        .command("hit", move |hits, context, by| {
            context.confirm(APPLIED);
            raise(hits, by)
        })
        .command("hit_durable", move |hits, _, by| raise(hits, by))
        .query("get", |hits, _, ()| Ok::<_, String>(hits.get()));
    let cart = Function::of::<Cart>("cart").command("add", Cart::add);
    let echo = Function::of::<PnCounter>("echo").query("echo", |_, _, said: Said| Ok::<_, String>(said));
    [hits.into(), cart.into(), echo.into()]
}

/// A node of a cluster that has its CA and its nodes' directories here.
pub fn start(dir: &Path, id: u128, members: &[NodeId], seeds: Vec<String>) -> Node {
    let own = dir.join(format!("n{id}"));
    if !dir.join("ca").exists() {
        ca::init(&dir.join("ca"), "compare").unwrap();
    }
    if !own.exists() {
        ca::issue(&dir.join("ca"), NodeId(id), &own, &IssueOptions::default()).unwrap();
    }
    let mut builder = Node::builder()
        .directory(own.join("data"))
        .identity_files(own.join("ca.pem"), own.join("node.pem"), own.join("node.key"))
        .members(members.to_vec())
        .seeds(seeds);
    for function in functions() {
        builder = builder.function(function);
    }
    Threads::One.runtime().block_on(builder.start()).unwrap()
}

/// Waits until it takes writes.
pub fn ready(node: &Node) {
    Threads::One.runtime().block_on(node.ready());
}

/// Stops it, with all it took on its disk.
pub fn stop(node: Node) {
    Threads::One.runtime().block_on(node.shutdown()).unwrap();
}

//! What a quota does, and what moves its units between nodes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anabranch::state::{BoundedCounter, Flag};
use anabranch::{Context, Epoch, Error, Function, NodeId, ReplicaId};
use serde::{Deserialize, Serialize};

/// What somebody who takes is told.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// He has it.
    Taken,
    /// Not here: so much is left on this side, and so much with nodes that it may not reach.
    Denied { here: u64, elsewhere: u64 },
}

/// How much is left.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Left {
    pub here: u64,
    pub in_all: u64,
}

/// A node that holds less than this part of all that is left asks others for more.
const LOW_PART: u64 = 8;
/// And not more often than this.
const ASK_EVERY_MS: u64 = 50;

/// When a node last had more moved to it, by quota. It is about the node alone: a restart forgets it.
#[derive(Default)]
struct Asked(Mutex<BTreeMap<String, u64>>);

impl Asked {
    /// Whether it is time to ask.
    fn again(&self, key: &str, now_ms: u64) -> bool {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = asked.entry(key.to_owned()).or_default();
        let is_time = now_ms.abs_diff(*last) >= ASK_EVERY_MS;
        if is_time {
            *last = now_ms;
        }
        is_time
    }
}

fn total(quota: &BoundedCounter) -> u64 {
    u64::try_from(quota.get()).unwrap_or(0)
}

/// Takes from what this node holds, and has more moved to it where that is little.
fn take(quota: &mut BoundedCounter, context: &mut Context, amount: u32, asked: &Asked) -> Decision {
    let (held, in_all) = (quota.held(context.replica()), total(quota));
    let has = held >= u64::from(amount);
    if has {
        quota.take(amount);
    }
    let rest = if has { held - u64::from(amount) } else { held };
    let is_low = rest.saturating_mul(LOW_PART) < in_all || !has;
    let key = context.key().to_owned();
    if is_low && in_all > rest && asked.again(&key, context.now_ms()) {
        context.effect_later("quota-mover", &key, "refill", &());
    }
    match has {
        true => Decision::Taken,
        false => Decision::Denied {
            here: held,
            elsewhere: in_all - held,
        },
    }
}

/// Gives another node's run half of what this one holds.
fn hand_over(
    quota: &mut BoundedCounter,
    context: &mut Context,
    (node, epoch): (u128, u64),
) -> Result<u64, String> {
    let half = quota.held(context.replica()) / 2;
    if half > 0 {
        quota.transfer(ReplicaId::new(NodeId(node), Epoch(epoch)), half);
    }
    Ok(half)
}

/// The function of quotas.
pub fn quota() -> Function {
    let asked = Asked::default();
    Function::of::<BoundedCounter>("quota")
        .command("deposit", |quota, _, amount: u32| {
            quota.increment(amount);
            Ok::<_, String>(total(quota))
        })
        .command("take", move |quota, context, amount: u32| {
            Ok::<_, String>(take(quota, context, amount, &asked))
        })
        .command("hand_over", hand_over)
        .query("left", |quota, context, ()| {
            Ok::<_, String>(Left {
                here: quota.held(context.replica()),
                in_all: total(quota),
            })
        })
        .into()
}

/// Moves a quota's units between nodes. An entity of its own, so that nobody who takes waits while it does.
pub fn mover() -> Function {
    Function::of::<Flag>("quota-mover")
        .command_async("refill", |_, context: &mut Context, ()| {
            Box::pin(async move {
                let (key, me) = (context.key().to_owned(), context.replica());
                let me = (me.node.0, me.epoch.0);
                let mut moved = 0;
                for peer in context.peers() {
                    // One that cannot be asked now is asked the next time.
                    let given = context
                        .call_on::<_, u64>(peer, "quota", &key, "hand_over", &me)
                        .await;
                    moved += given.unwrap_or(0);
                }
                Ok::<_, Error>(moved)
            })
        })
        .into()
}

//! Schedules as entities with a function of their own: replicated, read, changed and called like any other.

use anabranch_crdt::planted;
use serde::{Deserialize, Serialize};

use super::order::{Order, OrderError, Plan, Schedule, Slot, Stand, believed};
use super::planner::SCHEDULES_MAX;
pub use crate::function::SCHEDULE;
use crate::function::state::{LwwRegister, MvRegister, State};
use crate::function::{Context, Function};

/// So far the clock of the node that made a call may be ahead of the one that notes it.
const AHEAD_MS_MAX: u64 = 3_600 * 1_000;

/// A schedule as it is kept.
#[derive(State)]
struct Kept {
    plan: LwwRegister<Plan>,
    /// Its last time that is done, of whichever plan is there: where versions before `answered` kept it. Can go once no such
    /// version's directory is upgraded from any more.
    done: MvRegister<u64>,
    /// The same, of a plan: nodes that could not see each other may have done several times, of several.
    answered: MvRegister<Slot>,
}

/// A schedule as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// What was ordered.
    pub order: Order,
    /// When it was taken, milliseconds since 1970.
    pub since_ms: u64,
    /// Its last time that was answered.
    pub last_ms: Option<u64>,
    /// Its next time.
    pub next_ms: Option<u64>,
}

impl Kept {
    /// The last time that is done of its plan, 0 for none.
    fn done(&self, schedule: &Schedule) -> u64 {
        let answered = self.answered.values().into_iter();
        let of_it =
            answered.filter(|slot| slot.plan == planted!("done_of_any_order", slot.plan, schedule.id()));
        let last = of_it.map(|slot| slot.ms).max();
        last.unwrap_or_else(|| self.done.values().into_iter().max().unwrap_or(0))
    }
}

/// Orders it, in place of what was ordered under its name before.
fn set(kept: &mut Kept, context: &mut Context, order: Order) -> Result<(), OrderError> {
    let plan = Plan {
        order,
        since_ms: context.now_ms(),
    };
    let schedule = Schedule::new(plan.clone())?;
    if kept.plan.get().is_none() {
        check_room(context)?;
    }
    if !kept.done.values().is_empty() {
        // Nodes of an earlier version go by it, while there are some.
        kept.done.set(&0);
    }
    kept.answered.set(&schedule.slot(0));
    kept.plan.set(&plan);
    Ok(())
}

/// One more than a node looks after would be taken, and never called. Orders that nodes take at one moment may be a few too many
/// all the same: their turn comes once others have gone.
fn check_room(context: &Context) -> Result<(), OrderError> {
    let there = context.entities_of(SCHEDULE);
    if there.is_some_and(|there| there >= SCHEDULES_MAX as u64) {
        return Err(OrderError(format!(
            "nothing changed: {SCHEDULES_MAX} schedules are there already, as many as a node looks after; cancel one first"
        )));
    }
    Ok(())
}

fn cancel(_: &mut Kept, context: &mut Context, (): ()) -> Result<(), OrderError> {
    context.delete();
    Ok(())
}

/// One of its times was answered.
fn done(kept: &mut Kept, context: &mut Context, slot: Slot) -> Result<(), OrderError> {
    let Some(plan) = kept.plan.get() else {
        return Ok(()); // cancelled meanwhile
    };
    let schedule = Schedule::new(plan)?;
    if !schedule.has(slot) {
        return Ok(()); // ordered anew meanwhile, by what was called perhaps
    }
    // Whoever calls this by hand does not silence it for good.
    if slot.ms > context.now_ms().saturating_add(AHEAD_MS_MAX) {
        return Err(OrderError(format!(
            "nothing changed: {} ms is later than now",
            slot.ms
        )));
    }
    if schedule.is_once() {
        context.delete();
    } else {
        let last = kept.done(&schedule);
        let was_ahead = believed(last, context.now_ms()) != last;
        let last = if was_ahead { slot.ms } else { last.max(slot.ms) };
        kept.answered.set(&schedule.slot(last));
    }
    Ok(())
}

fn show(kept: &Kept, context: &Context, (): ()) -> Result<Option<Shown>, OrderError> {
    let Some(plan) = kept.plan.get() else {
        return Ok(None);
    };
    let (order, since_ms) = (plan.order.clone(), plan.since_ms);
    let schedule = Schedule::new(plan)?;
    let done = kept.done(&schedule);
    let now = context.now_ms();
    let next_ms = match schedule.stand(believed(done, now), now) {
        Stand::Due(ms) | Stand::Next(ms) => Some(ms),
        Stand::Missed(_) | Stand::Over => None,
    };
    Ok(Some(Shown {
        order,
        since_ms,
        last_ms: Some(done).filter(|done| *done > 0),
        next_ms,
    }))
}

/// The function of schedules: `set` takes an [`Order`], `cancel` and `show` nothing; `done` is for those who make the calls.
/// Every node with functions has it, and those that are told to.
pub fn schedules() -> Function {
    Function::of::<Kept>(SCHEDULE)
        .command("set", set)
        .command("cancel", cancel)
        .command("done", done)
        .query("show", show)
        .into()
}

/// A schedule and its last time that is done; nothing where there is none that can be followed.
pub(crate) fn read(view: crate::view::View) -> Option<(Schedule, u64)> {
    let kept = Kept::open(&crate::function::state::Seen::of(view));
    let schedule = Schedule::new(kept.plan.get()?).ok()?;
    let done = kept.done(&schedule);
    Some((schedule, done))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::Arc;

    use anabranch_crdt::ReplicaId;

    use super::*;
    use crate::function::Nodes;
    use crate::function::state::Seen;
    use crate::trigger::When;
    use crate::view::View;
    use crate::wire::{EntityId, ShardId};

    /// A node with so many schedules.
    struct Node(u64);

    impl Nodes for Node {
        fn live(&self) -> Vec<ReplicaId> {
            Vec::new()
        }

        fn entities_of(&self, kind: &str) -> Option<u64> {
            (kind == SCHEDULE).then_some(self.0)
        }
    }

    #[test]
    fn an_order_that_no_node_would_look_after_is_refused() {
        let entity = EntityId::new(SCHEDULE, "a").unwrap();
        let context = Context::new(entity.clone(), ReplicaId::default(), 0, 0);
        let order = || Order::new(When::EveryMs(1_000), "job", "a", "run", &7).unwrap();
        let seen = Seen::of(View {
            entity,
            shard: ShardId(0),
            ty: None,
            value: None,
            replicas: Arc::default(),
            heir: None,
        });
        let most = SCHEDULES_MAX as u64;
        let there = |n| context.clone().with_nodes(Arc::new(Node(n)));
        let mut kept = Kept::open(&seen);
        let refused = set(&mut kept, &mut there(most), order()).unwrap_err();
        assert!(
            refused.0.starts_with("nothing changed: 100000 schedules"),
            "{refused}"
        );
        assert!(kept.plan.get().is_none());
        set(&mut kept, &mut there(most - 1), order()).unwrap();
        // In place of one that is there, it is none more.
        set(&mut kept, &mut there(most), order()).unwrap();
        // Who does not know refuses nothing.
        let mut kept = Kept::open(&seen);
        set(&mut kept, &mut context.clone(), order()).unwrap();
    }
}

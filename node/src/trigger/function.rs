//! Schedules as entities with a function of their own: replicated, read, changed and called like any other.

use serde::{Deserialize, Serialize};

use super::order::{Order, OrderError, Plan, Schedule, Stand};
use crate::function::state::{LwwRegister, MvRegister, State};
use crate::function::{Context, Function};

/// The kind of schedules.
pub const SCHEDULE: &str = "anabranch:schedule";

/// So far the clock of the node that made a call may be ahead of the one that notes it.
const AHEAD_MS_MAX: u64 = 3_600 * 1_000;

/// A schedule as it is kept.
#[derive(State)]
struct Kept {
    plan: LwwRegister<Plan>,
    /// Its last time that is done: the highest, where nodes that could not see each other did several.
    done: MvRegister<u64>,
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
    fn done(&self) -> u64 {
        self.done.values().into_iter().max().unwrap_or(0)
    }
}

/// Orders it, in place of what was ordered under its name before.
fn set(kept: &mut Kept, context: &mut Context, order: Order) -> Result<(), OrderError> {
    let plan = Plan {
        order,
        since_ms: context.now_ms(),
    };
    Schedule::new(plan.clone())?;
    // What it was before may be done later than this is to be.
    kept.done.set(&0);
    kept.plan.set(&plan);
    Ok(())
}

fn cancel(_: &mut Kept, context: &mut Context, (): ()) -> Result<(), OrderError> {
    context.delete();
    Ok(())
}

/// One of its times was answered.
fn done(kept: &mut Kept, context: &mut Context, slot: u64) -> Result<(), OrderError> {
    let Some(plan) = kept.plan.get() else {
        return Ok(()); // cancelled meanwhile
    };
    let schedule = Schedule::new(plan)?;
    if !schedule.has(slot) {
        return Ok(()); // ordered anew meanwhile, by what was called perhaps
    }
    // Whoever calls this by hand does not silence it for good.
    if slot > context.now_ms().saturating_add(AHEAD_MS_MAX) {
        return Err(OrderError(format!(
            "nothing changed: {slot} ms is later than now"
        )));
    }
    if schedule.is_once() {
        context.delete();
    } else {
        kept.done.set(&kept.done().max(slot));
    }
    Ok(())
}

fn show(kept: &Kept, context: &Context, (): ()) -> Result<Option<Shown>, OrderError> {
    let Some(plan) = kept.plan.get() else {
        return Ok(None);
    };
    let done = kept.done();
    let (order, since_ms) = (plan.order.clone(), plan.since_ms);
    let next_ms = match Schedule::new(plan)?.stand(done, context.now_ms()) {
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
    let plan = kept.plan.get()?;
    Some((Schedule::new(plan).ok()?, kept.done()))
}

//! Quotas as one might write them, and should not.

use anabranch::state::{BoundedCounter, PnCounter};
use anabranch::{Context, Copies, Function, Level, Stage};

use super::quota::{Decision, Left};

fn units(count: i128) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// Two sides of a partition take the same units.
pub fn plain_counter() -> Function {
    Function::of::<PnCounter>("quota")
        .command("deposit", |quota: &mut PnCounter, _, amount: u32| {
            quota.increment(amount.into());
            Ok::<_, String>(units(quota.get()))
        })
        .command("take", |quota: &mut PnCounter, _, amount: u32| {
            let here = units(quota.get());
            if here < u64::from(amount) {
                return Ok::<_, String>(Decision::Denied { here, elsewhere: 0 });
            }
            quota.increment(-i64::from(amount));
            Ok(Decision::Taken)
        })
        .query("left", |quota: &PnCounter, _, ()| {
            let in_all = units(quota.get());
            Ok::<_, String>(Left { here: 0, in_all })
        })
        .into()
}

fn bounded(take: fn(&mut BoundedCounter, &mut Context, u32) -> Decision) -> Function {
    Function::of::<BoundedCounter>("quota")
        .command("deposit", |quota: &mut BoundedCounter, _, amount: u32| {
            quota.increment(amount);
            Ok::<_, String>(units(quota.get()))
        })
        .command("take", move |quota: &mut BoundedCounter, context, amount: u32| {
            Ok::<_, String>(take(quota, context, amount))
        })
        .query("left", |quota: &BoundedCounter, context, ()| {
            Ok::<_, String>(Left {
                here: quota.held(context.replica()),
                in_all: units(quota.get()),
            })
        })
        .into()
}

fn decide(quota: &mut BoundedCounter, context: &Context, amount: u32, leaves: u64) -> Decision {
    let (here, in_all) = (quota.held(context.replica()), units(quota.get()));
    if here < u64::from(amount) + leaves {
        let elsewhere = in_all - here;
        return Decision::Denied { here, elsewhere };
    }
    quota.take(amount);
    Decision::Taken
}

/// What a crash takes was answered.
pub fn answers_early() -> Function {
    bounded(|quota, context, amount| {
        context.confirm(Level {
            copies: Copies::Local,
            stage: Stage::Applied,
        });
        decide(quota, context, amount, 0)
    })
}

/// It keeps some for itself.
pub fn denies_too_soon() -> Function {
    bounded(|quota, context, amount| decide(quota, context, amount, 10))
}

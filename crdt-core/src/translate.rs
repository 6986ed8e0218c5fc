//! The same dots under another replica table.
//!
//! Not here: decoding; both tables are ours.
//!
//! Contract: the result means what the original meant, and `to` grows by the replicas it lacked. If it has no room
//! for them there is no result, and `to` may hold some of them without any harm.

use crate::context::Context;
use crate::delta::{Delta, Kill, Part};
use crate::dot::Dot;
use crate::fragment::Fragment;
use crate::replicas::{Replicas, ReplicasFull};
use crate::value::{Env, Value};
use alloc::vec::Vec;

pub(crate) fn dot(dot: Dot, from: &Replicas, to: &mut Replicas) -> Result<Dot, ReplicasFull> {
    Ok(Dot::new(to.intern(from.id(dot.ix()))?, dot.seq()))
}

pub(crate) fn delta(delta: &Delta, from: &Replicas, to: &mut Replicas) -> Result<Delta, ReplicasFull> {
    let mut parts = Vec::with_capacity(delta.parts().len());
    for part in delta.parts() {
        let mut kills = Vec::with_capacity(part.kills.len());
        for kill in &part.kills {
            kills.push(Kill {
                path: kill.path.clone(),
                dot: dot(kill.dot, from, to)?,
                reset: kill.reset,
            });
        }
        parts.push(Part {
            dot: dot(part.dot, from, to)?,
            put: part.put.clone(),
            kills,
        });
    }
    Ok(Delta::from_parts(delta.ty(), parts))
}

pub(crate) fn context(
    context: &Context,
    from: &Replicas,
    to: &mut Replicas,
) -> Result<Context, ReplicasFull> {
    let mut translated = Context::new();
    for (ix, max) in context.maxima().iter() {
        translated.insert_run(to.intern(from.id(ix))?, 0, max);
    }
    for (ix, run_from, run_to) in context.runs() {
        translated.insert_run(to.intern(from.id(ix))?, run_from, run_to);
    }
    Ok(translated)
}

pub(crate) fn fragment(
    fragment: &Fragment,
    from: &Replicas,
    to: &mut Replicas,
) -> Result<Fragment, ReplicasFull> {
    let mut puts = Vec::with_capacity(fragment.puts().len());
    for (put_dot, put) in fragment.puts() {
        puts.push((dot(*put_dot, from, to)?, put.clone()));
    }
    let claims = context(fragment.claims(), from, to)?;
    Ok(Fragment::from_parts(fragment.ty(), puts, claims))
}

/// The value with a digest under `key`.
pub(crate) fn value(
    value: &Value,
    from: &Replicas,
    to: &mut Replicas,
    key: &crate::HashKey,
) -> Result<Value, ReplicasFull> {
    let mut puts = Vec::new();
    for (put_dot, put) in value.kept() {
        puts.push((dot(put_dot, from, to)?, put));
    }
    Ok(Value::from_puts(&Env { replicas: to, key }, value.ty(), puts))
}

//! Two judges that know nothing of our dots and kills: the types of the `crdts` crate driven through the same
//! history, and what the semantics say of the mutations a node has seen and of who had seen what.

use std::collections::BTreeSet;

use bytes::Bytes;
use crdts::{CmRDT, CvRDT};

use super::cluster::{Cluster, Event, Node, Past};
use crate::*;

/// Clock, replica, sequence: no two writes share it.
type Marker = (u64, ReplicaId, u64);

#[derive(Clone)]
pub(super) enum Oracle {
    GCounter(crdts::GCounter<ReplicaId>),
    PnCounter(crdts::PNCounter<ReplicaId>),
    LwwRegister(Option<crdts::LWWReg<Bytes, Marker>>),
    OrSet(crdts::Orswot<Bytes, ReplicaId>),
    GSet(crdts::GSet<Bytes>),
    MvRegister(crdts::MVReg<Bytes, ReplicaId>),
}

pub(super) enum OracleOp {
    Nothing,
    GCounter(crdts::Dot<ReplicaId>),
    PnCounter(crdts::pncounter::Op<ReplicaId>),
    LwwRegister(crdts::LWWReg<Bytes, Marker>),
    OrSet(crdts::orswot::Op<Bytes, ReplicaId>),
    GSet(Vec<Bytes>),
    MvRegister(crdts::mvreg::Op<Bytes, ReplicaId>),
}

impl Oracle {
    pub(super) fn new(ty: Type) -> Oracle {
        match ty {
            Type::GCounter => Oracle::GCounter(crdts::GCounter::new()),
            Type::PnCounter => Oracle::PnCounter(crdts::PNCounter::new()),
            Type::LwwRegister => Oracle::LwwRegister(None),
            Type::OrSet => Oracle::OrSet(crdts::Orswot::new()),
            Type::GSet => Oracle::GSet(crdts::GSet::new()),
            Type::MvRegister => Oracle::MvRegister(crdts::MVReg::new()),
            other => unreachable!("`crdts` has no {other}"),
        }
    }

    /// The same mutation in the terms of `crdts`. Presence it does not know.
    pub(super) fn mutate(
        &self,
        me: ReplicaId,
        mutation: &Mutation,
        delta: &Delta,
        replicas: &Replicas,
    ) -> OracleOp {
        match (self, mutation) {
            (_, Mutation::Create) => OracleOp::Nothing,
            (Oracle::GCounter(counter), Mutation::Increment(by)) => {
                OracleOp::GCounter(counter.inc_many(me, by.unsigned_abs()))
            }
            (Oracle::PnCounter(counter), Mutation::Increment(by)) if *by < 0 => {
                OracleOp::PnCounter(counter.dec_many(me, by.unsigned_abs()))
            }
            (Oracle::PnCounter(counter), Mutation::Increment(by)) => {
                OracleOp::PnCounter(counter.inc_many(me, by.unsigned_abs()))
            }
            (Oracle::LwwRegister(_), Mutation::Set { value, .. }) => {
                let part = &delta.parts()[0];
                let Some(Put {
                    payload: Payload::Stamped { clock, .. },
                    ..
                }) = &part.put
                else {
                    unreachable!()
                };
                OracleOp::LwwRegister(crdts::LWWReg {
                    val: value.clone(),
                    marker: (*clock, me, part.dot.full(replicas).1),
                })
            }
            (Oracle::OrSet(set), Mutation::Add(elements)) => {
                OracleOp::OrSet(set.add_all(elements.iter().cloned(), set.read_ctx().derive_add_ctx(me)))
            }
            (Oracle::OrSet(set), Mutation::Remove(elements)) => {
                OracleOp::OrSet(set.rm_all(elements.iter().cloned(), set.read_ctx().derive_rm_ctx()))
            }
            (Oracle::OrSet(set), Mutation::Clear) => {
                let all = set.read();
                OracleOp::OrSet(set.rm_all(all.val, set.read_ctx().derive_rm_ctx()))
            }
            (Oracle::GSet(_), Mutation::Add(elements)) => OracleOp::GSet(elements.clone()),
            (Oracle::MvRegister(register), Mutation::Set { value, .. }) => {
                let ctx = register.read_ctx().derive_add_ctx(me);
                OracleOp::MvRegister(register.write(value.clone(), ctx))
            }
            _ => unreachable!("the history holds only what the type takes"),
        }
    }

    pub(super) fn take(&mut self, op: &OracleOp) {
        match (self, op) {
            (_, OracleOp::Nothing) => (),
            (Oracle::GCounter(counter), OracleOp::GCounter(dot)) => counter.apply(*dot),
            (Oracle::PnCounter(counter), OracleOp::PnCounter(op)) => counter.apply(op.clone()),
            (Oracle::LwwRegister(Some(register)), OracleOp::LwwRegister(op)) => register.apply(op.clone()),
            (Oracle::LwwRegister(none), OracleOp::LwwRegister(op)) => *none = Some(op.clone()),
            (Oracle::OrSet(set), OracleOp::OrSet(op)) => set.apply(op.clone()),
            (Oracle::GSet(set), OracleOp::GSet(op)) => {
                op.iter().for_each(|element| set.apply(element.clone()))
            }
            (Oracle::MvRegister(register), OracleOp::MvRegister(op)) => register.apply(op.clone()),
            _ => unreachable!("one type a history"),
        }
    }

    pub(super) fn join(&mut self, other: &Oracle) {
        match (self, other) {
            (Oracle::GCounter(mine), Oracle::GCounter(theirs)) => mine.merge(theirs.clone()),
            (Oracle::PnCounter(mine), Oracle::PnCounter(theirs)) => mine.merge(theirs.clone()),
            (Oracle::LwwRegister(Some(mine)), Oracle::LwwRegister(Some(theirs))) => {
                mine.merge(theirs.clone())
            }
            (Oracle::LwwRegister(mine @ None), Oracle::LwwRegister(theirs)) => *mine = theirs.clone(),
            (Oracle::LwwRegister(_), Oracle::LwwRegister(None)) => (),
            (Oracle::OrSet(mine), Oracle::OrSet(theirs)) => mine.merge(theirs.clone()),
            (Oracle::GSet(mine), Oracle::GSet(theirs)) => mine.merge(theirs.clone()),
            (Oracle::MvRegister(mine), Oracle::MvRegister(theirs)) => mine.merge(theirs.clone()),
            _ => unreachable!("one type a history"),
        }
    }

    pub(super) fn check(&self, reading: &Reading) {
        match (self, reading) {
            // Its counters end at u64 per replica without saturating, so the strategy stays below.
            (Oracle::GCounter(counter), Reading::Count(count)) => {
                assert_eq!(counter.read().to_string(), count.to_string())
            }
            (Oracle::PnCounter(counter), Reading::Count(count)) => {
                assert_eq!(counter.read().to_string(), count.to_string())
            }
            (Oracle::LwwRegister(register), Reading::Register(value)) => {
                assert_eq!(register.as_ref().map(|register| &register.val), value.as_ref());
            }
            (Oracle::OrSet(set), Reading::Elements(elements)) => {
                let theirs: BTreeSet<Bytes> = set.read().val.into_iter().collect();
                assert!(
                    theirs.iter().eq(elements),
                    "crdts has {theirs:?}, we {elements:?}"
                );
            }
            (Oracle::GSet(set), Reading::Elements(elements)) => assert_eq!(
                &set.read()
                    .into_iter()
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect::<Vec<_>>(),
                elements
            ),
            (Oracle::MvRegister(register), Reading::Values(values)) => {
                let theirs: BTreeSet<Bytes> = register.read().val.into_iter().collect();
                assert!(theirs.iter().eq(values), "crdts has {theirs:?}, we {values:?}");
            }
            _ => unreachable!("one type a history"),
        }
    }
}

/// The value that the mutations a node has seen must have, by who had seen what alone.
pub(super) fn check_model(cluster: &Cluster, node: &Node) {
    let seen: Vec<&Event> = cluster.events.iter().filter(|event| node.covers(event)).collect();
    assert_eq!(
        node.value.exists(),
        !seen.is_empty(),
        "nothing that was touched is absent without a delete"
    );
    let expected = match cluster.ty {
        Type::GCounter | Type::PnCounter => Reading::Count(
            seen.iter()
                .map(|event| {
                    if let Mutation::Increment(by) = event.mutation {
                        i128::from(by)
                    } else {
                        0
                    }
                })
                .sum(),
        ),
        Type::OrSet => Reading::Elements(elements(&seen)),
        // `crdts` says it all: of a register, the largest of all clocks ever.
        _ => return,
    };
    assert_eq!(node.value.read(&node.replicas), expected, "{:?}", node.id);
}

/// An element is in the set if an addition of it was seen that no removal seen had seen.
fn elements(seen: &[&Event]) -> Vec<Bytes> {
    let had_seen = |past: &Past, event: &Event| past.get(&event.origin).is_some_and(|seq| event.to <= *seq);
    let removes = |event: &Event, element: &Bytes| match &event.mutation {
        Mutation::Clear => true,
        Mutation::Remove(elements) => elements.contains(element),
        _ => false,
    };
    let mut there = BTreeSet::new();
    for add in seen {
        let Mutation::Add(elements) = &add.mutation else {
            continue;
        };
        let alive = |element: &&Bytes| {
            !seen
                .iter()
                .any(|event| removes(event, element) && had_seen(&event.past, add))
        };
        there.extend(elements.iter().filter(alive).cloned());
    }
    there.into_iter().collect()
}

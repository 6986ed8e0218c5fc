//! An entity, and what becomes of it, as a function is shown them.
//!
//! Not here: when (`session`). Contract: what is shown is the whole value as a change of the empty one, or what became of what was
//! shown before; a type that the dialect has no word for is an error, never left out.

use std::collections::BTreeMap;

use anabranch_crdt::{NodeId, Reading, Type, Value};
use bytes::Bytes;

use super::datum::{Primitives, decode};
use super::proto::common::Any;
use super::proto::entity::{
    CounterDelta, CounterMapDelta, CounterMapEntry, Delta, Kind, MapDelta, MapEntry, MultiMapDelta,
    MultiMapEntry, RegisterDelta, RegisterMapDelta, RegisterMapEntry, SetDelta, VoteDelta,
};
use crate::session::Change;

/// Whom an entity is shown to.
pub struct Viewer<'a> {
    /// How its dialect names primitives.
    pub primitives: Primitives,
    /// The node it is at.
    pub me: NodeId,
    /// The nodes that are up, this one among them: they may vote.
    pub live: &'a dyn Fn() -> Vec<NodeId>,
}

impl Viewer<'_> {
    /// A whole entity; nothing, if it reads as nothing that a function could be shown.
    pub fn whole(&self, ty: Type, value: Option<&Value>, reading: &Reading) -> Result<Option<Delta>, String> {
        let kind = match (ty, reading) {
            (Type::PnCounter, Reading::Count(count)) => Kind::Counter(counter(*count)),
            (Type::OrSet, Reading::Elements(elements)) => Kind::Set(self.set(&[], elements)),
            (Type::LwwRegister, Reading::Register(Some(value))) => Kind::Register(self.register(value)),
            (Type::LwwRegister, Reading::Register(None)) => return Ok(None),
            (Type::Vote, Reading::Ballots(ballots)) => Kind::Vote(self.vote(ballots)),
            (_, Reading::Map(children)) if ty.child().is_some() || ty == Type::OrMap => {
                let added: Vec<_> = children.iter().collect();
                self.map(ty, value, &[], &[], &added)?
            }
            _ => return Err(unknown(ty)),
        };
        Ok(Some(Delta { kind: Some(kind) }))
    }

    /// What became of an entity.
    pub fn change(&self, ty: Type, value: Option<&Value>, change: &Change) -> Result<Option<Delta>, String> {
        let kind = match (ty, change) {
            (Type::PnCounter, Change::Count(by)) => Kind::Counter(counter(*by)),
            (Type::OrSet, Change::Elements { removed, added }) => Kind::Set(self.set(removed, added)),
            (Type::LwwRegister, Change::Register(Some(value))) => Kind::Register(self.register(value)),
            (Type::LwwRegister, Change::Register(None)) => return Ok(None),
            (Type::Vote, Change::Ballots(ballots)) => Kind::Vote(self.vote(ballots)),
            (
                _,
                Change::Map {
                    removed,
                    updated,
                    added,
                },
            ) => {
                let added: Vec<_> = added.iter().map(|(key, child)| (key, child)).collect();
                self.map(ty, value, removed, updated, &added)?
            }
            _ => return Err(unknown(ty)),
        };
        Ok(Some(Delta { kind: Some(kind) }))
    }

    /// How many there are to vote, where nobody did.
    pub fn no_votes(&self) -> Delta {
        let kind = Kind::Vote(self.vote(&BTreeMap::new()));
        Delta { kind: Some(kind) }
    }

    fn any(&self, bytes: &Bytes) -> Any {
        decode(bytes, self.primitives)
    }

    fn anys(&self, all: &[Bytes]) -> Vec<Any> {
        all.iter().map(|bytes| self.any(bytes)).collect()
    }

    fn set(&self, removed: &[Bytes], added: &[Bytes]) -> SetDelta {
        SetDelta {
            cleared: false,
            removed: self.anys(removed),
            added: self.anys(added),
        }
    }

    fn register(&self, value: &Bytes) -> RegisterDelta {
        RegisterDelta {
            value: Some(self.any(value)),
            ..RegisterDelta::default()
        }
    }

    fn vote(&self, ballots: &BTreeMap<NodeId, bool>) -> VoteDelta {
        let live = (self.live)();
        let votes_for = live.iter().filter(|node| ballots.get(node) == Some(&true));
        VoteDelta {
            self_vote: ballots.get(&self.me) == Some(&true),
            votes_for: small(votes_for.count()),
            total_voters: small(live.len()),
        }
    }

    fn map(
        &self,
        ty: Type,
        value: Option<&Value>,
        removed: &[Bytes],
        updated: &[(Bytes, Change)],
        added: &[(&Bytes, &Reading)],
    ) -> Result<Kind, String> {
        let removed = self.anys(removed);
        // Each child's key, and it as a change.
        let (mut changed, mut new) = (Vec::new(), Vec::new());
        let child = |key: &Bytes| value.and_then(|value| value.child(key));
        for (key, change) in updated {
            if let Some(child) = child(key) {
                let delta = self.change(child.ty(), Some(child), change)?;
                changed.extend(delta.map(|delta| (self.any(key), delta)));
            }
        }
        for (key, reading) in added {
            if let Some(child) = child(key) {
                let delta = self.whole(child.ty(), Some(child), reading)?;
                new.extend(delta.map(|delta| (self.any(key), delta)));
            }
        }
        let all = || changed.iter().chain(&new);
        Ok(match ty {
            Type::OrMap => {
                let entry = |(key, delta): (Any, Delta)| MapEntry {
                    key: Some(key),
                    delta: Some(delta),
                };
                Kind::Map(MapDelta {
                    cleared: false,
                    removed,
                    updated: changed.into_iter().map(entry).collect(),
                    added: new.into_iter().map(entry).collect(),
                })
            }
            Type::CounterMap => Kind::CounterMap(CounterMapDelta {
                cleared: false,
                removed,
                updated: all().filter_map(counter_entry).collect(),
            }),
            Type::RegisterMap => Kind::RegisterMap(RegisterMapDelta {
                cleared: false,
                removed,
                updated: all().filter_map(register_entry).collect(),
            }),
            Type::MultiMap => Kind::MultiMap(MultiMapDelta {
                cleared: false,
                removed,
                updated: all().filter_map(multi_entry).collect(),
            }),
            _ => return Err(unknown(ty)),
        })
    }
}

fn counter_entry((key, delta): &(Any, Delta)) -> Option<CounterMapEntry> {
    let Some(Kind::Counter(delta)) = delta.kind else {
        return None;
    };
    Some(CounterMapEntry {
        key: Some(key.clone()),
        delta: Some(delta),
    })
}

fn register_entry((key, delta): &(Any, Delta)) -> Option<RegisterMapEntry> {
    let Some(Kind::Register(delta)) = &delta.kind else {
        return None;
    };
    Some(RegisterMapEntry {
        key: Some(key.clone()),
        delta: Some(delta.clone()),
    })
}

/// A key without values is none of a multimap's.
fn multi_entry((key, delta): &(Any, Delta)) -> Option<MultiMapEntry> {
    let Some(Kind::Set(delta)) = &delta.kind else {
        return None;
    };
    let is_nothing = delta.added.is_empty() && delta.removed.is_empty();
    (!is_nothing).then(|| MultiMapEntry {
        key: Some(key.clone()),
        delta: Some(delta.clone()),
    })
}

/// What is beyond 64 bits nobody can be told.
fn counter(count: i128) -> CounterDelta {
    let bound = if count < 0 { i64::MIN } else { i64::MAX };
    CounterDelta {
        change: i64::try_from(count).unwrap_or(bound),
    }
}

fn small(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn unknown(ty: Type) -> String {
    format!(
        "{} is nothing that functions of this protocol know",
        ty.indefinite()
    )
}

#[cfg(test)]
mod tests {
    use anabranch_crdt::{Causal, Epoch, Mutation, ReplicaId};

    use super::super::taken::take;
    use super::*;
    use crate::session::{diff, empty};

    const ME: NodeId = NodeId(1);

    fn viewer() -> Viewer<'static> {
        Viewer {
            primitives: Primitives::Kalix,
            me: ME,
            live: &|| vec![ME, NodeId(2), NodeId(3)],
        }
    }

    fn update(key: &'static str, ty: Option<Type>, mutation: Mutation) -> Mutation {
        Mutation::Update {
            key: Bytes::from_static(key.as_bytes()),
            ty,
            mutation: Box::new(mutation),
        }
    }

    fn words(words: &[&'static str]) -> Vec<Bytes> {
        words
            .iter()
            .map(|word| Bytes::from_static(word.as_bytes()))
            .collect()
    }

    /// Whoever is shown an entity whole and does that to an empty one has the same, and so step by step.
    fn check(ty: Type, steps: &[Mutation]) {
        let me = ReplicaId::new(ME, Epoch(1));
        let mut here = Causal::new(ty);
        let mut stepwise = Causal::new(ty);
        let mut before = empty(ty);
        for (stamp, step) in steps.iter().enumerate() {
            here.join_op(&here.mutate(me, stamp as u64, step).unwrap())
                .unwrap();
            let reading = here.read();
            let change = diff(&before, &reading);
            if let Some(delta) =
                change.and_then(|change| viewer().change(ty, Some(here.value()), &change).unwrap())
            {
                follow(&mut stepwise, ty, &delta, stamp);
            }
            assert_eq!(stepwise.read(), reading, "{step:?}");
            let mut whole = Causal::new(ty);
            if let Some(delta) = viewer().whole(ty, Some(here.value()), &reading).unwrap() {
                follow(&mut whole, ty, &delta, stamp);
            }
            assert_eq!(whole.read(), reading, "{step:?}");
            before = reading;
        }
    }

    fn follow(there: &mut Causal, ty: Type, delta: &Delta, stamp: usize) {
        let them = ReplicaId::new(NodeId(9), Epoch(1));
        let (taken, mutations) = take(delta, false).unwrap();
        assert_eq!(taken, ty);
        for mutation in mutations {
            there
                .join_op(&there.mutate(them, stamp as u64, &mutation).unwrap())
                .unwrap();
        }
    }

    #[test]
    fn what_is_shown_is_what_is_there() {
        check(Type::PnCounter, &[5, -7, 0].map(Mutation::Increment));
        let [add, remove] = [Mutation::Add(words(&["a", "b"])), Mutation::Remove(words(&["a"]))];
        check(
            Type::OrSet,
            &[Mutation::Create, add.clone(), remove.clone(), Mutation::Clear],
        );
        let set = |value: &'static str| Mutation::Set {
            value: value.into(),
            clock: Default::default(),
        };
        check(Type::LwwRegister, &[set("a"), set(""), set("b")]);
        let counters = [
            update("x", None, Mutation::Increment(2)),
            update("y", None, Mutation::Increment(-1)),
        ];
        check(
            Type::CounterMap,
            &[&counters[..], &[Mutation::Remove(words(&["x"]))]].concat(),
        );
        check(
            Type::RegisterMap,
            &[update("x", None, set("a")), update("x", None, set("b"))],
        );
        check(
            Type::MultiMap,
            &[
                update("x", None, add.clone()),
                update("x", None, remove),
                Mutation::Clear,
            ],
        );
        let inner = update("deep", Some(Type::OrSet), add.clone());
        check(
            Type::OrMap,
            &[
                update("n", Some(Type::PnCounter), Mutation::Increment(3)),
                update("m", Some(Type::OrMap), inner),
                update("m", Some(Type::OrMap), update("deep", None, Mutation::Clear)),
                update(
                    "c",
                    Some(Type::CounterMap),
                    update("k", None, Mutation::Increment(1)),
                ),
                Mutation::Remove(words(&["n"])),
                update("n", Some(Type::OrSet), add),
            ],
        );
    }

    #[test]
    fn votes_are_counted_over_those_that_are_up() {
        let ballots = BTreeMap::from([(ME, true), (NodeId(2), false), (NodeId(7), true)]);
        let shown = viewer()
            .whole(Type::Vote, None, &Reading::Ballots(ballots))
            .unwrap();
        let vote = VoteDelta {
            self_vote: true,
            votes_for: 1,
            total_voters: 3,
        };
        assert_eq!(shown.unwrap().kind, Some(Kind::Vote(vote)));
        let nobody = VoteDelta {
            self_vote: false,
            votes_for: 0,
            total_voters: 3,
        };
        assert_eq!(viewer().no_votes().kind, Some(Kind::Vote(nobody)));
    }

    #[test]
    fn a_type_without_a_word_for_it_is_not_left_out() {
        let error = viewer()
            .whole(Type::Flag, None, &Reading::Flag(true))
            .unwrap_err();
        assert!(error.contains("a flag"), "{error}");
        let me = ReplicaId::new(ME, Epoch(1));
        let mut map = Causal::new(Type::OrMap);
        let flag = update("f", Some(Type::Flag), Mutation::Enable);
        map.join_op(&map.mutate(me, 0, &flag).unwrap()).unwrap();
        viewer()
            .whole(Type::OrMap, Some(map.value()), &map.read())
            .unwrap_err();
    }
}

//! An entity, and what becomes of it, as a function is shown them.
//!
//! Not here: when (`session`). Contract: what is shown is the whole value as a change of the empty one, or what became of what was
//! shown before; a type that the dialect has no word for is an error, never left out.

use std::collections::BTreeMap;

use anabranch_crdt::{NodeId, Reading, Type, Value};
use bytes::Bytes;
use prost::Message;
use prost::encoding::encoded_len_varint;

use super::datum::{Primitives, decode};
use super::delta::{Delta, MapDelta, RegisterDelta, SetDelta, VoteDelta};
use super::dialect::Dialect;
use super::proto::common::Any;
use crate::session::Change;

/// What is in nothing, of any type.
const EMPTY_BYTES: usize = 4;

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
        Ok(Some(match (ty, reading) {
            (Type::PnCounter, Reading::Count(count)) => Delta::Counter(counter(*count)),
            (Type::GCounter, Reading::Count(count)) => Delta::GCounter(grown(*count)?),
            (Type::OrSet, Reading::Elements(elements)) => Delta::Set(self.set(&[], elements)),
            (Type::GSet, Reading::Elements(elements)) => Delta::GSet(self.anys(elements)),
            (Type::LwwRegister, Reading::Register(Some(value))) => Delta::Register(self.register(value)),
            (Type::LwwRegister, Reading::Register(None)) => return Ok(None),
            (Type::Flag, Reading::Flag(flag)) => Delta::Flag(*flag),
            (Type::Vote, Reading::Ballots(ballots)) => Delta::Vote(self.vote(ballots)),
            (_, Reading::Map(children)) if ty.child().is_some() || ty == Type::OrMap => {
                let added: Vec<_> = children.iter().collect();
                self.map(ty, value, &[], &[], &added)?
            }
            _ => return Err(unknown(ty)),
        }))
    }

    /// What became of an entity.
    pub fn change(&self, ty: Type, value: Option<&Value>, change: &Change) -> Result<Option<Delta>, String> {
        Ok(Some(match (ty, change) {
            (Type::PnCounter, Change::Count(by)) => Delta::Counter(counter(*by)),
            (Type::GCounter, Change::Count(by)) => Delta::GCounter(grown(*by)?),
            (Type::OrSet, Change::Elements { removed, added }) => Delta::Set(self.set(removed, added)),
            (Type::GSet, Change::Elements { removed, added }) if removed.is_empty() => {
                Delta::GSet(self.anys(added))
            }
            (Type::LwwRegister, Change::Register(Some(value))) => Delta::Register(self.register(value)),
            (Type::LwwRegister, Change::Register(None)) => return Ok(None),
            (Type::Flag, Change::Flag(true)) => Delta::Flag(true),
            (Type::GSet, Change::Elements { .. }) | (Type::Flag, Change::Flag(false)) => return Err(less()),
            (Type::Vote, Change::Ballots(ballots)) => Delta::Vote(self.vote(ballots)),
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
        }))
    }

    /// How many there are to vote, where nobody did.
    pub fn no_votes(&self) -> Delta {
        Delta::Vote(self.vote(&BTreeMap::new()))
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
    ) -> Result<Delta, String> {
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
        Ok(Delta::Map(MapDelta {
            ty,
            cleared: false,
            removed: self.anys(removed),
            updated: changed,
            added: new,
        }))
    }
}

/// What is beyond 64 bits nobody can be told.
fn counter(count: i128) -> i64 {
    let bound = if count < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(count).unwrap_or(bound)
}

/// A count that only grows: what is less than it was can be shown whole only (`session`).
fn grown(count: i128) -> Result<u64, String> {
    match count {
        ..0 => Err(less()),
        _ => Ok(u64::try_from(count).unwrap_or(u64::MAX)),
    }
}

/// How many bytes a reading has where it is shown, but for what holds it together as a whole.
pub fn bytes(reading: &Reading, dialect: Dialect) -> usize {
    let field = |bytes: usize| 1 + encoded_len_varint(bytes as u64) + bytes;
    let any = |bytes: &Bytes| field(decode(bytes, dialect.primitives()).encoded_len());
    let anys = |all: &[Bytes]| all.iter().map(any).sum::<usize>();
    let value = match reading {
        Reading::Count(count) => number(counter(*count)),
        Reading::Flag(on) => number(i64::from(*on)),
        // Its own, and two numbers of nodes.
        Reading::Ballots(_) => 3 * number(i64::from(u8::MAX)),
        Reading::Elements(all) | Reading::Values(all) => anys(all),
        Reading::Register(value) => value.as_ref().map_or(0, any),
        Reading::Map(children) => {
            let child = |(key, child): (&Bytes, &Reading)| {
                // The first version is told of these that they are there, and then what is in them.
                let is_twice =
                    dialect == Dialect::Early && matches!(child, Reading::Elements(_) | Reading::Map(_));
                let there = if is_twice {
                    field(any(key) + EMPTY_BYTES)
                } else {
                    0
                };
                there + field(any(key) + bytes(child, dialect))
            };
            children.iter().map(child).sum()
        }
    };
    // It is what it is within what may be of any type.
    field(field(value))
}

/// A number that may be below 0, under its own.
fn number(value: i64) -> usize {
    1 + encoded_len_varint(((value << 1) ^ (value >> 63)).cast_unsigned())
}

fn less() -> String {
    "what only grows has become less".to_owned()
}

fn small(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

pub fn unknown(ty: Type) -> String {
    format!(
        "{} is nothing that functions in other processes know",
        ty.indefinite()
    )
}

#[cfg(test)]
mod tests {
    use anabranch_crdt::{Causal, Epoch, Mutation, ReplicaId};

    use super::super::taken::take;
    use super::super::word::Word;
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

    fn set(value: &'static str) -> Mutation {
        Mutation::Set {
            value: value.into(),
            clock: Default::default(),
        }
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
        let mutations = take(delta, false).unwrap();
        assert_eq!(delta.ty(), ty);
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
    fn how_large_an_entity_is_shown_is_known_without_showing_it() {
        let many =
            |prefix: &str| -> Vec<Bytes> { (0..1000).map(|n| format!("{prefix}{n}").into()).collect() };
        let each = |ty: Option<Type>, mutation: Mutation| -> Vec<Mutation> {
            let update = |key| Mutation::Update {
                key,
                ty,
                mutation: Box::new(mutation.clone()),
            };
            many("k").into_iter().map(update).collect()
        };
        let add = Mutation::Add(many("word"));
        for (ty, steps) in [
            (Type::PnCounter, vec![Mutation::Increment(i64::MIN + 1)]),
            (Type::OrSet, vec![add]),
            (Type::LwwRegister, vec![set("abc")]),
            (Type::CounterMap, each(None, Mutation::Increment(7))),
            (Type::RegisterMap, each(None, set("abc"))),
            (Type::MultiMap, each(None, Mutation::Add(words(&["a", "bc"])))),
            (Type::OrMap, each(Some(Type::Vote), Mutation::Vote(true))),
            (
                Type::OrMap,
                each(
                    Some(Type::OrMap),
                    update("in", Some(Type::OrSet), Mutation::Add(words(&["a"]))),
                ),
            ),
        ] {
            let mut here = Causal::new(ty);
            for step in steps {
                let delta = here.mutate(ReplicaId::new(ME, Epoch(1)), 0, &step).unwrap();
                here.join_op(&delta).unwrap();
            }
            let reading = here.read();
            for dialect in [Dialect::Kalix, Dialect::Cloudstate, Dialect::Early] {
                let viewer = Viewer {
                    primitives: dialect.primitives(),
                    ..viewer()
                };
                let shown = Word::Init {
                    service: String::new(),
                    entity: String::new(),
                    state: viewer.whole(ty, Some(here.value()), &reading).unwrap(),
                };
                // What a dialect has no word for is refused before.
                let Ok(messages) = dialect.encode(shown) else {
                    continue;
                };
                let is: usize = messages.iter().map(Bytes::len).sum();
                let known = bytes(&reading, dialect);
                assert!(is <= known + 100, "{ty} {dialect:?}: {is} {known}");
                assert!(known <= is + is / 4 + 100, "{ty} {dialect:?}: {is} {known}");
            }
        }
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
        assert_eq!(shown, Some(Delta::Vote(vote)));
        let nobody = VoteDelta {
            self_vote: false,
            votes_for: 0,
            total_voters: 3,
        };
        assert_eq!(viewer().no_votes(), Delta::Vote(nobody));
    }

    #[test]
    fn what_only_grows_is_shown_as_that_alone() {
        let by = |by| viewer().change(Type::GCounter, None, &Change::Count(by));
        assert_eq!(by(3), Ok(Some(Delta::GCounter(3))));
        assert_eq!(by(-3), Err(less()));
        let removed = Change::Elements {
            removed: words(&["a"]),
            added: Vec::new(),
        };
        assert_eq!(viewer().change(Type::GSet, None, &removed), Err(less()));
        let flag = |flag| viewer().change(Type::Flag, None, &Change::Flag(flag));
        assert_eq!(flag(true), Ok(Some(Delta::Flag(true))));
        assert_eq!(flag(false), Err(less()));
        let add = Mutation::Add(words(&["a", "b"]));
        check(Type::GSet, &[add.clone(), add]);
        check(Type::GCounter, &[5, 0, 7].map(Mutation::Increment));
        check(Type::Flag, &[Mutation::Create, Mutation::Enable]);
    }

    #[test]
    fn a_type_without_a_word_for_it_is_not_left_out() {
        let values = Reading::Values(words(&["a"]));
        let error = viewer().whole(Type::MvRegister, None, &values).unwrap_err();
        assert!(error.contains("an mvregister"), "{error}");
        let me = ReplicaId::new(ME, Epoch(1));
        let mut map = Causal::new(Type::OrMap);
        let values = update("f", Some(Type::MvRegister), set("a"));
        map.join_op(&map.mutate(me, 0, &values).unwrap()).unwrap();
        viewer()
            .whole(Type::OrMap, Some(map.value()), &map.read())
            .unwrap_err();
    }
}

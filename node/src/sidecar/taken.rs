//! What a function did to its entity, as operations on it.
//!
//! Not here: what they do (`anabranch_crdt`). Contract: what makes no sense is an error that says so, and nothing of it is done; the
//! operations come in the order that the dialect gives the parts of a change: clear, remove, add.

use anabranch_crdt::{Clock, Mutation, Type};
use bytes::Bytes;

use super::datum::{encode, is_blank};
use super::proto::common::Any;
use super::proto::entity::{Delta, Kind, MapDelta, RegisterClock, RegisterDelta, SetDelta};

/// A change of an entity: what it takes the entity for, and what it does.
pub type Taken = (Type, Vec<Mutation>);

/// The operations of a change. `is_first`: the function was shown no entity, so that a register's first value may be what the
/// function begins with, which nobody wrote: such a one loses against whatever was written by somebody who had been shown one, and one
/// that is blank against any other.
pub fn take(delta: &Delta, is_first: bool) -> Result<Taken, String> {
    let Some(kind) = &delta.kind else {
        return Err("its change is of no type".to_owned());
    };
    Ok(match kind {
        Kind::Counter(delta) => (Type::PnCounter, vec![Mutation::Increment(delta.change)]),
        Kind::Set(delta) => (Type::OrSet, or_create(set(delta))),
        Kind::Register(delta) => (Type::LwwRegister, vec![register(delta, is_first)?]),
        Kind::Map(delta) => (Type::OrMap, or_create(map(delta)?)),
        Kind::CounterMap(delta) => {
            let mut mutations = keys(delta.cleared, &delta.removed);
            for entry in &delta.updated {
                let change = entry.delta.unwrap_or_default().change;
                mutations.push(child(&entry.key, None, Mutation::Increment(change))?);
            }
            (Type::CounterMap, or_create(mutations))
        }
        Kind::RegisterMap(delta) => {
            let mut mutations = keys(delta.cleared, &delta.removed);
            for entry in &delta.updated {
                let write = register(&entry.delta.clone().unwrap_or_default(), false)?;
                mutations.push(child(&entry.key, None, write)?);
            }
            (Type::RegisterMap, or_create(mutations))
        }
        Kind::MultiMap(delta) => {
            let mut mutations = keys(delta.cleared, &delta.removed);
            for entry in &delta.updated {
                for mutation in or_create(set(&entry.delta.clone().unwrap_or_default())) {
                    mutations.push(child(&entry.key, None, mutation)?);
                }
            }
            (Type::MultiMap, or_create(mutations))
        }
        Kind::Vote(delta) => (Type::Vote, vec![Mutation::Vote(delta.self_vote)]),
    })
}

/// A change that does nothing makes an entity that is empty.
fn or_create(mutations: Vec<Mutation>) -> Vec<Mutation> {
    match mutations.is_empty() {
        true => vec![Mutation::Create],
        false => mutations,
    }
}

fn data(values: &[Any]) -> Vec<Bytes> {
    values.iter().map(encode).collect()
}

fn keys(cleared: bool, removed: &[Any]) -> Vec<Mutation> {
    let mut mutations = Vec::new();
    if cleared {
        mutations.push(Mutation::Clear);
    }
    if !removed.is_empty() {
        mutations.push(Mutation::Remove(data(removed)));
    }
    mutations
}

fn set(delta: &SetDelta) -> Vec<Mutation> {
    let mut mutations = keys(delta.cleared, &delta.removed);
    if !delta.added.is_empty() {
        mutations.push(Mutation::Add(data(&delta.added)));
    }
    mutations
}

fn register(delta: &RegisterDelta, is_first: bool) -> Result<Mutation, String> {
    let value = delta.value.as_ref();
    let value = value.ok_or_else(|| "it set a register to no value".to_owned())?;
    let clock = match RegisterClock::try_from(delta.clock) {
        Ok(RegisterClock::Default) if is_first => Clock::Custom(u64::from(!is_blank(value))),
        Ok(RegisterClock::Default) => Clock::Default,
        Ok(RegisterClock::Reverse) => Clock::Reverse,
        Ok(RegisterClock::Custom) => Clock::Custom(custom(delta)?),
        Ok(RegisterClock::CustomAutoIncrement) => Clock::AutoIncrement(custom(delta)?),
        Err(_) => return Err(format!("it set a register by a clock of number {}", delta.clock)),
    };
    Ok(Mutation::Set {
        value: encode(value),
        clock,
    })
}

fn custom(delta: &RegisterDelta) -> Result<u64, String> {
    let clock = delta.custom_clock_value;
    u64::try_from(clock).map_err(|_| format!("it set a register by a clock of {clock}, which is below 0"))
}

fn map(delta: &MapDelta) -> Result<Vec<Mutation>, String> {
    let mut mutations = keys(delta.cleared, &delta.removed);
    for entry in delta.added.iter().chain(&delta.updated) {
        let Some(change) = &entry.delta else {
            return Err("an entry of its map has no change".to_owned());
        };
        let (ty, changes) = take(change, false)?;
        for mutation in changes {
            mutations.push(child(&entry.key, Some(ty), mutation)?);
        }
    }
    Ok(mutations)
}

fn child(key: &Option<Any>, ty: Option<Type>, mutation: Mutation) -> Result<Mutation, String> {
    let key = key.as_ref();
    let key = key.ok_or_else(|| "an entry of its map has no key".to_owned())?;
    Ok(Mutation::Update {
        key: encode(key),
        ty,
        mutation: Box::new(mutation),
    })
}

#[cfg(test)]
mod tests {
    use super::super::proto::entity::*;
    use super::*;

    fn text(text: &str) -> Any {
        let mut value = Vec::new();
        if !text.is_empty() {
            prost::encoding::string::encode(1, &text.to_owned(), &mut value);
        }
        Any {
            type_url: "type.kalix.io/string".to_owned(),
            value: value.into(),
        }
    }

    fn delta(kind: Kind) -> Delta {
        Delta { kind: Some(kind) }
    }

    fn check(kind: Kind, is_first: bool, expected: &str) {
        let taken = match take(&delta(kind), is_first) {
            Ok((ty, mutations)) => format!("{} {mutations:?}", ty.name()),
            Err(why) => why,
        };
        assert_eq!(taken, expected);
    }

    #[test]
    fn parts_of_a_change_keep_their_order() {
        let set = SetDelta {
            cleared: true,
            removed: vec![text("b")],
            added: vec![text("a")],
        };
        check(
            Kind::Set(set.clone()),
            false,
            r#"orset [Clear, Remove([b"b"]), Add([b"a"])]"#,
        );
        check(Kind::Set(SetDelta::default()), false, "orset [Create]");
        let entry = |key: &str, kind| MapEntry {
            key: Some(text(key)),
            delta: Some(delta(kind)),
        };
        let map = MapDelta {
            cleared: false,
            removed: vec![text("x")],
            updated: vec![entry("n", Kind::Counter(CounterDelta { change: -1 }))],
            added: vec![entry("x", Kind::Set(SetDelta::default()))],
        };
        check(
            Kind::Map(map),
            false,
            r#"ormap [Remove([b"x"]), Update { key: b"x", ty: Some(OrSet), mutation: Create }, Update { key: b"n", ty: Some(PnCounter), mutation: Increment(-1) }]"#,
        );
        let multi = MultiMapDelta {
            updated: vec![MultiMapEntry {
                key: Some(text("k")),
                delta: Some(set),
            }],
            ..Default::default()
        };
        check(
            Kind::MultiMap(multi),
            false,
            r#"multimap [Update { key: b"k", ty: None, mutation: Clear }, Update { key: b"k", ty: None, mutation: Remove([b"b"]) }, Update { key: b"k", ty: None, mutation: Add([b"a"]) }]"#,
        );
    }

    #[test]
    fn what_a_function_begins_with_loses_against_what_was_written() {
        let register = |value: &str, clock: RegisterClock| {
            Kind::Register(RegisterDelta {
                value: Some(text(value)),
                clock: clock as i32,
                custom_clock_value: 7,
            })
        };
        let set =
            |value: &str, clock: &str| format!("lwwregister [Set {{ value: b\"{value}\", clock: {clock} }}]");
        check(register("", RegisterClock::Default), true, &set("", "Custom(0)"));
        check(register("", RegisterClock::Default), false, &set("", "Default"));
        check(
            register("a", RegisterClock::Default),
            true,
            &set("a", "Custom(1)"),
        );
        check(register("", RegisterClock::Custom), true, &set("", "Custom(7)"));
        check(
            register("a", RegisterClock::CustomAutoIncrement),
            false,
            &set("a", "AutoIncrement(7)"),
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(take(&Delta::default(), false).is_err());
        let no_value = RegisterDelta::default();
        check(Kind::Register(no_value), false, "it set a register to no value");
        let odd = |clock, custom_clock_value| {
            Kind::Register(RegisterDelta {
                value: Some(text("a")),
                clock,
                custom_clock_value,
            })
        };
        check(odd(9, 0), false, "it set a register by a clock of number 9");
        check(
            odd(2, -1),
            false,
            "it set a register by a clock of -1, which is below 0",
        );
        let map = MapDelta {
            updated: vec![MapEntry::default()],
            ..Default::default()
        };
        check(Kind::Map(map), false, "an entry of its map has no change");
        let counters = CounterMapDelta {
            updated: vec![CounterMapEntry::default()],
            ..Default::default()
        };
        check(
            Kind::CounterMap(counters),
            false,
            "an entry of its map has no key",
        );
    }
}

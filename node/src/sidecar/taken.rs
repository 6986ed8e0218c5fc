//! What a function did to its entity, as operations on it.
//!
//! Not here: what they do (`anabranch_crdt`). Contract: what makes no sense is an error that says so, and nothing of it is done; the
//! operations come in the order that the dialect gives the parts of a change: clear, remove, add.

use anabranch_crdt::{Clock, DEPTH_MAX, Mutation, Type};
use bytes::Bytes;

use super::datum::{encode, is_blank};
use super::delta::{Delta, MapDelta, RegisterClock, RegisterDelta, SetDelta};
use super::proto::common::Any;

/// The operations of a change. `is_first`: the function was shown no entity, so that a register's first value may be what the
/// function begins with, which nobody wrote: such a one loses against whatever was written by somebody who had been shown one, and one
/// that is blank against any other.
pub fn take(delta: &Delta, is_first: bool) -> Result<Vec<Mutation>, String> {
    take_within(0, delta, is_first)
}

/// The same within so many maps.
fn take_within(depth: usize, delta: &Delta, is_first: bool) -> Result<Vec<Mutation>, String> {
    Ok(match delta {
        Delta::Counter(change) => vec![Mutation::Increment(*change)],
        Delta::GCounter(by) => increments(*by),
        Delta::GSet(added) if added.is_empty() => vec![Mutation::Create],
        Delta::GSet(added) => vec![Mutation::Add(data(added))],
        Delta::Set(delta) => or_create(set(delta)),
        Delta::Register(delta) => vec![register(delta, is_first)?],
        Delta::Flag(true) => vec![Mutation::Enable],
        Delta::Flag(false) => vec![Mutation::Create],
        Delta::Map(delta) => or_create(map(depth + 1, delta)?),
        Delta::Vote(delta) => vec![Mutation::Vote(delta.self_vote)],
    })
}

/// An operation increments by 63 bits at most.
fn increments(by: u64) -> Vec<Mutation> {
    let (mut all, mut left) = (Vec::new(), by);
    loop {
        let part = i64::try_from(left).unwrap_or(i64::MAX);
        all.push(Mutation::Increment(part));
        left -= part.unsigned_abs();
        if left == 0 {
            return all;
        }
    }
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
    u64::try_from(clock).map_err(|_| {
        // Stored ones have no sign, nor have those of the command line: whatever stood for one below 0 would be out of order among them.
        format!("it set a register by a clock of {clock}: clocks are 0 or above here")
    })
}

fn map(depth: usize, delta: &MapDelta) -> Result<Vec<Mutation>, String> {
    let mut mutations = keys(delta.cleared, &delta.removed);
    let has_children = !(delta.added.is_empty() && delta.updated.is_empty());
    if depth > DEPTH_MAX && has_children {
        return Err(format!("it nested maps more than {DEPTH_MAX} deep"));
    }
    for (key, change) in delta.added.iter().chain(&delta.updated) {
        // Where all children are of one type it goes without saying.
        let ty = (delta.ty == Type::OrMap).then(|| change.ty());
        let within = take_within(depth, change, false)?.into_iter();
        mutations.extend(within.map(|mutation| Mutation::Update {
            key: encode(key),
            ty,
            mutation: Box::new(mutation),
        }));
    }
    Ok(mutations)
}

#[cfg(test)]
mod tests {
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

    fn check(delta: &Delta, is_first: bool, expected: &str) {
        let taken = match take(delta, is_first) {
            Ok(mutations) => format!("{} {mutations:?}", delta.ty().name()),
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
            &Delta::Set(set.clone()),
            false,
            r#"orset [Clear, Remove([b"b"]), Add([b"a"])]"#,
        );
        check(&Delta::Set(SetDelta::default()), false, "orset [Create]");
        let map = |ty, updated, added| {
            Delta::Map(MapDelta {
                ty,
                cleared: false,
                removed: vec![text("x")],
                updated,
                added,
            })
        };
        check(
            &map(
                Type::OrMap,
                vec![(text("n"), Delta::Counter(-1))],
                vec![(text("x"), Delta::Set(SetDelta::default()))],
            ),
            false,
            r#"ormap [Remove([b"x"]), Update { key: b"x", ty: Some(OrSet), mutation: Create }, Update { key: b"n", ty: Some(PnCounter), mutation: Increment(-1) }]"#,
        );
        check(
            &map(Type::MultiMap, vec![(text("k"), Delta::Set(set))], Vec::new()),
            false,
            r#"multimap [Remove([b"x"]), Update { key: b"k", ty: None, mutation: Clear }, Update { key: b"k", ty: None, mutation: Remove([b"b"]) }, Update { key: b"k", ty: None, mutation: Add([b"a"]) }]"#,
        );
    }

    #[test]
    fn what_only_grows_is_made_and_grows() {
        check(&Delta::GCounter(7), false, "gcounter [Increment(7)]");
        check(&Delta::GSet(vec![text("a")]), false, r#"gset [Add([b"a"])]"#);
        check(&Delta::GSet(Vec::new()), false, "gset [Create]");
        check(&Delta::Flag(true), false, "flag [Enable]");
        check(&Delta::Flag(false), false, "flag [Create]");
        check(
            &Delta::GCounter(1 << 63),
            false,
            "gcounter [Increment(9223372036854775807), Increment(1)]",
        );
        check(
            &Delta::GCounter(u64::MAX),
            false,
            "gcounter [Increment(9223372036854775807), Increment(9223372036854775807), Increment(1)]",
        );
        check(&Delta::GCounter(0), false, "gcounter [Increment(0)]");
    }

    #[test]
    fn what_a_function_begins_with_loses_against_what_was_written() {
        let register = |value: &str, clock: RegisterClock| {
            Delta::Register(RegisterDelta {
                value: Some(text(value)),
                clock: clock as i32,
                custom_clock_value: 7,
            })
        };
        let set =
            |value: &str, clock: &str| format!("lwwregister [Set {{ value: b\"{value}\", clock: {clock} }}]");
        check(&register("", RegisterClock::Default), true, &set("", "Custom(0)"));
        check(&register("", RegisterClock::Default), false, &set("", "Default"));
        check(
            &register("a", RegisterClock::Default),
            true,
            &set("a", "Custom(1)"),
        );
        check(&register("", RegisterClock::Custom), true, &set("", "Custom(7)"));
        check(
            &register("a", RegisterClock::CustomAutoIncrement),
            false,
            &set("a", "AutoIncrement(7)"),
        );
    }

    #[test]
    fn maps_are_nested_as_deep_as_entities_take_it() {
        let nested = |maps: usize| {
            (0..maps).fold(Delta::Counter(1), |within, _| {
                Delta::Map(MapDelta {
                    ty: Type::OrMap,
                    cleared: false,
                    removed: Vec::new(),
                    updated: vec![(text("k"), within)],
                    added: Vec::new(),
                })
            })
        };
        let deepest = take(&nested(DEPTH_MAX), false).unwrap();
        assert_eq!(deepest[0].check(Type::OrMap), Ok(()));
        check(&nested(DEPTH_MAX + 1), false, "it nested maps more than 8 deep");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let no_value = RegisterDelta::default();
        check(&Delta::Register(no_value), false, "it set a register to no value");
        let odd = |clock, custom_clock_value| {
            Delta::Register(RegisterDelta {
                value: Some(text("a")),
                clock,
                custom_clock_value,
            })
        };
        check(&odd(9, 0), false, "it set a register by a clock of number 9");
        check(
            &odd(2, -1),
            false,
            "it set a register by a clock of -1: clocks are 0 or above here",
        );
    }
}

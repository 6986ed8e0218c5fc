//! What an engine makes of many operations at once, and how it counts what they leave.

use anabranch_crdt::{Mutation, Type};

use super::world::{World, check};
use crate::engine::{Input, Op, RequestId, Update};
use crate::wire::EntityId;

fn submit(world: &mut World, name: char, ops: Vec<Op>) {
    let update = Update {
        ops,
        level: "local-applied".parse().unwrap(),
        ..Update::delete(EntityId::new("none", "none").unwrap())
    };
    let request = RequestId(1 << 40);
    world.handle(name, Input::Submit { request, update });
}

fn op(entity: &EntityId, ty: Type, mutation: Mutation) -> Op {
    Op {
        entity: entity.clone(),
        ty: Some(ty),
        mutation,
    }
}

/// Each operation was once compared with all before it.
#[test]
fn a_child_of_each_of_many_maps_changes_its_type_in_one_update() {
    let maps: Vec<EntityId> = (0..5_000)
        .map(|n| EntityId::new("o", &n.to_string()).unwrap())
        .collect();
    let child = |ty, mutation| Mutation::Update {
        key: "child".into(),
        ty: Some(ty),
        mutation: Box::new(mutation),
    };
    let count = || child(Type::PnCounter, Mutation::Increment(1));
    let set = || child(Type::OrSet, Mutation::Add(vec!["e".into()]));
    let remove = || Mutation::Remove(vec!["child".into()]);
    let each = |mutation: &dyn Fn() -> Mutation| {
        let ops = maps.iter().map(|map| op(map, Type::OrMap, mutation()));
        ops.collect::<Vec<_>>()
    };
    let mut world = check("a", "");
    submit(&mut world, 'a', each(&count));
    let before = world.engine('a').read(&maps[7]);
    submit(&mut world, 'a', [each(&remove), each(&set)].concat());
    let engine = world.engine('a');
    let after = engine.read(&maps[7]);
    assert!(after.is_some() && after != before, "{after:?}");
    assert!(maps.iter().all(|map| engine.read(map) == after));
}

#[test]
fn an_entity_that_is_deleted_and_kept_for_its_resets_is_not_counted() {
    // What b has not said that it has seen is kept at a.
    let mut world = check(
        "ab",
        "link a b\n run\n b p/x incr 5\n run\n a p/x = 5\n lose b a\n a p/x delete\n a p/x absent",
    );
    let status = world.engine('a').status();
    assert_eq!((status.waiting_slots, status.entities), (1, 0));
    world.script("a p/x incr 1\n a p/y incr 1");
    assert_eq!(world.engine('a').status().entities, 2);
}

#[test]
fn an_entity_of_two_types_is_counted_once() {
    let mut world = check("ab", "link a b\n run\n cut a b");
    let x = EntityId::new("kind", "x").unwrap();
    submit(
        &mut world,
        'a',
        vec![op(&x, Type::PnCounter, Mutation::Increment(1))],
    );
    submit(
        &mut world,
        'b',
        vec![op(&x, Type::OrSet, Mutation::Add(vec!["e".into()]))],
    );
    world.script("link a b\n wait 1000\n equal a b");
    for name in ['a', 'b'] {
        let engine = world.engine(name);
        assert_eq!(engine.kind_types("kind").len(), 2);
        assert_eq!((engine.status().entities, engine.kind_entities("kind")), (1, 1));
    }
    // Under whichever type it goes first.
    submit(&mut world, 'a', vec![op(&x, Type::OrSet, Mutation::Delete)]);
    world.script("wait 1000\n equal a b");
    for name in ['a', 'b'] {
        assert_eq!(world.engine(name).status().entities, 1);
    }
    let whole = Op {
        ty: None,
        ..op(&x, Type::OrSet, Mutation::Delete)
    };
    submit(&mut world, 'b', vec![whole]);
    world.script("wait 1000\n equal a b");
    for name in ['a', 'b'] {
        let engine = world.engine(name);
        assert_eq!((engine.status().entities, engine.kind_entities("kind")), (0, 0));
    }
}

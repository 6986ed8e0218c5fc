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

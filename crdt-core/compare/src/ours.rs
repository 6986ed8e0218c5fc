//! Our side: a value beside the version vector of its shard, as the engine has it.

use std::hint::black_box;

use anabranch_crdt::{
    Clock, Delta, Env, Epoch, HashKey, Issuer, Mutation, NodeId, ReplicaId, ReplicaIx, Replicas, Type, Value,
    VersionVector,
};
use bytes::Bytes;

use crate::cost::MANY;
use crate::measured;

const KEY: HashKey = HashKey([3; 16]);

/// A value, what was seen with it, and the table of replicas.
#[derive(Clone)]
pub struct World {
    pub replicas: Replicas,
    pub seen: VersionVector,
    pub value: Value,
}

impl World {
    pub fn new(ty: Type, replicas: u16) -> World {
        let mut table = Replicas::new();
        for n in 0..replicas {
            let id = ReplicaId::new(NodeId(u128::from(n) * 0x1_0000_0001), Epoch(1));
            table.intern(id).expect("a small table");
        }
        World {
            replicas: table,
            seen: VersionVector::new(),
            value: Value::new(ty),
        }
    }

    pub fn delta(&self, by: u16, mutation: &Mutation) -> Delta {
        let issuer = Issuer {
            replicas: &self.replicas,
            me: ReplicaIx(by),
            next_seq: self.seen.get(ReplicaIx(by)) + 1,
            stamp: 1,
            inherits: None,
        };
        self.value
            .mutate(&issuer, mutation)
            .expect("a mutation that the type takes")
    }

    pub fn join(&mut self, delta: &Delta) {
        let env = Env {
            replicas: &self.replicas,
            key: &KEY,
        };
        self.value.join_delta(&env, &self.seen, delta);
        for part in delta.parts() {
            self.seen.advance(part.dot.ix(), part.dot.seq());
        }
    }

    pub fn make(&mut self, by: u16, mutation: &Mutation) -> Delta {
        let delta = self.delta(by, mutation);
        self.join(&delta);
        delta
    }
}

/// Element `n` of 8 bytes: their order is none in which they are added.
pub fn element(n: u32) -> Bytes {
    Bytes::copy_from_slice(&number(n).to_be_bytes())
}

/// The same as a number: SplitMix64 of `n`.
pub fn number(n: u32) -> u64 {
    let mut z = u64::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A set of so many elements, added by so many replicas in turn.
pub fn set(elements: u32, replicas: u16) -> World {
    let mut world = World::new(Type::OrSet, replicas);
    for n in 0..elements {
        let by = (n % u32::from(replicas)) as u16;
        let _ = world.make(by, &Mutation::Add(vec![element(n)]));
    }
    world
}

pub fn add(replicas: u16) {
    let mut world = set(10_000, replicas);
    let new: Vec<Mutation> = (0..MANY)
        .map(|n| Mutation::Add(vec![element(20_000 + n)]))
        .collect();
    measured(|| {
        for mutation in &new {
            drop(black_box(world.make(0, mutation)));
        }
    });
}

pub fn remove(replicas: u16) {
    let mut world = set(10_000, replicas);
    let gone: Vec<Mutation> = (0..MANY)
        .map(|n| Mutation::Remove(vec![element(n * 90)]))
        .collect();
    measured(|| {
        for mutation in &gone {
            drop(black_box(world.make(0, mutation)));
        }
    });
}

pub fn contains() {
    let world = set(10_000, 3);
    let Value::OrSet(set) = &world.value else { return };
    let asked: Vec<Bytes> = (0..MANY).map(|n| element(n * 190)).collect();
    measured(|| {
        for element in &asked {
            black_box(set.contains(element));
        }
    });
}

pub fn merge() {
    let mut a = set(10_000, 3);
    let mut b = a.clone();
    for n in 0..5 {
        let _ = a.make(0, &Mutation::Add(vec![element(20_000 + n)]));
        let _ = b.make(1, &Mutation::Add(vec![element(30_000 + n)]));
    }
    let env = Env {
        replicas: &a.replicas,
        key: &KEY,
    };
    let changed = measured(|| a.value.join(&env, &a.seen, &b.value, &b.seen));
    assert_eq!(changed.added.len(), 5);
}

pub fn delta_into(elements: u32) {
    let mut world = set(elements, 3);
    let ten = Mutation::Add((0..10).map(|n| element(2_000_000 + n)).collect());
    let delta = world.delta(1, &ten);
    measured(|| world.join(&delta));
}

/// A counter to which so many replicas have added.
pub fn counter(replicas: u16) -> World {
    let mut world = World::new(Type::PnCounter, replicas);
    for by in 0..replicas {
        let _ = world.make(by, &Mutation::Increment(5));
    }
    world
}

pub fn increment(replicas: u16) {
    let mut world = counter(replicas);
    measured(|| {
        for _ in 0..MANY {
            drop(black_box(world.make(0, &Mutation::Increment(1))));
        }
    });
}

pub fn merge_counters(replicas: u16) {
    let mut a = counter(replicas);
    let mut b = a.clone();
    let _ = a.make(0, &Mutation::Increment(1));
    let _ = b.make(1, &Mutation::Increment(1));
    let env = Env {
        replicas: &a.replicas,
        key: &KEY,
    };
    measured(|| a.value.join(&env, &a.seen, &b.value, &b.seen));
}

/// The key of a map, in a map.
pub fn key(n: u32) -> Bytes {
    Bytes::from(format!("key-{n:04}"))
}

fn update(outer: u32, n: u32) -> Mutation {
    Mutation::Update {
        key: key(outer),
        ty: Some(Type::OrMap),
        mutation: Box::new(Mutation::Update {
            key: key(n % 10),
            ty: Some(Type::OrSet),
            mutation: Box::new(Mutation::Add(vec![element(n)])),
        }),
    }
}

pub fn nested() {
    let mut world = World::new(Type::OrMap, 3);
    for n in 0..1_000 {
        let _ = world.make(0, &update(n % 100, n));
    }
    let updates: Vec<Mutation> = (0..MANY).map(|n| update(n, 5_000 + n)).collect();
    measured(|| {
        for mutation in &updates {
            drop(black_box(world.make(1, mutation)));
        }
    });
}

pub fn write() {
    let mut world = World::new(Type::LwwRegister, 3);
    let writes: Vec<Mutation> = (0..MANY)
        .map(|n| Mutation::Set {
            value: element(n),
            clock: Clock::Default,
        })
        .collect();
    measured(|| {
        for mutation in &writes {
            drop(black_box(world.make(0, mutation)));
        }
    });
}

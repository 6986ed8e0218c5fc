//! The cases that are counted in bytes, a line each for `compare`.

use std::hint::black_box;

use anabranch_crdt::{Delta, Mutation, Type};
use crdts::{CmRDT, PNCounter};

use anabranch_crdt_compare::ours::{World, element, number};
use anabranch_crdt_compare::{ours, theirs};

#[global_allocator]
static HEAP: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

/// A line: the case, ours, theirs, and what ours is to be at most.
fn row(case: &str, ours: f64, other: f64, most: Option<f64>) {
    let most = most.map_or(String::new(), |most| most.to_string());
    println!("{case}|{ours}|{other}|{most}");
}

/// The bytes of heap that a value takes.
fn heap<T>(make: impl FnOnce() -> T) -> f64 {
    let before = HEAP.allocated();
    let value = black_box(make());
    let bytes = HEAP.allocated() - before;
    drop(value);
    bytes as f64
}

fn zstd(bytes: &[u8]) -> f64 {
    zstd::bulk::compress(bytes, 3).expect("memory").len() as f64
}

fn encoded(delta: &Delta, replicas: usize) -> f64 {
    let mut bytes = Vec::new();
    delta.encode(replicas, &mut bytes);
    bytes.len() as f64
}

fn theirs_encoded<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("memory")
}

fn main() {
    for (elements, name) in [(10_000, "10k"), (1_000_000, "1M")] {
        // A clone holds what is needed and no room to grow.
        let world = ours::set(elements, 3);
        let mine = heap(|| world.value.clone());
        drop(world);
        let set = theirs::crdts::set(elements, 3);
        let other = heap(|| set.clone());
        let each = f64::from(elements);
        row(
            &format!("heap of a set of {name}, an element of 8 bytes"),
            mine / each,
            other / each,
            Some(64.0),
        );
    }
    encoded_sets();
    deltas();
    idle();
}

/// Whole sets: elements without any order in which they were added, and such as a user would name in turn.
fn encoded_sets() {
    let each = 10_000.0;
    let world = ours::set(10_000, 3);
    let mine = world.value.canonical_bytes(&world.replicas);
    let other = theirs_encoded(&theirs::crdts::set(10_000, 3));
    row(
        "encoded set of 10k, random elements",
        mine.len() as f64 / each,
        other.len() as f64 / each,
        Some(10.0),
    );
    let (mine, other) = (zstd(&mine) / each, zstd(&other) / each);
    row("the same with zstd", mine, other, None);
    let mut named = World::new(Type::OrSet, 3);
    let mut set = crdts::Orswot::<String, u64>::new();
    for n in 0..10_000_u32 {
        let name = format!("{n:08}");
        let _ = named.make((n % 3) as u16, &Mutation::Add(vec![name.clone().into()]));
        set.apply(set.add(name, set.read_ctx().derive_add_ctx(u64::from(n % 3))));
    }
    let (mine, other) = (named.value.canonical_bytes(&named.replicas), theirs_encoded(&set));
    row(
        "encoded set of 10k, numbered elements",
        mine.len() as f64 / each,
        other.len() as f64 / each,
        Some(10.0),
    );
    row(
        "the same with zstd",
        zstd(&mine) / each,
        zstd(&other) / each,
        Some(6.0),
    );
}

fn deltas() {
    let mut world = ours::set(10_000, 3);
    let set = theirs::crdts::set(10_000, 3);
    let add = |n: u32| {
        let ctx = set.read_ctx().derive_add_ctx(0);
        theirs_encoded(&set.add(number(n), ctx)).len() as f64
    };
    let one = world.delta(0, &Mutation::Add(vec![element(20_000)]));
    row("delta of one add", encoded(&one, 3), add(20_000), Some(16.0));
    let removed = number(90);
    let theirs = theirs_encoded(&set.rm(removed, set.contains(&removed).derive_rm_ctx())).len() as f64;
    let remove = world.make(0, &Mutation::Remove(vec![element(90)]));
    row("delta of one remove", encoded(&remove, 3), theirs, None);
    let ten = world.delta(0, &Mutation::Add((0..10).map(|n| element(20_000 + n)).collect()));
    let theirs = (0..10).map(|n| add(20_000 + n)).sum();
    row("delta of ten adds", encoded(&ten, 3), theirs, Some(115.0));
    let counter: PNCounter<u64> = theirs::crdts::counter(3);
    let increment = ours::counter(3).delta(0, &Mutation::Increment(1));
    row(
        "delta of an increment",
        encoded(&increment, 3),
        theirs_encoded(&counter.inc(0)).len() as f64,
        None,
    );
}

/// What stays of what is over: a set that 100 replicas filled and emptied.
fn idle() {
    let mut world = ours::set(100, 100);
    let _ = world.make(0, &Mutation::Clear);
    let mut set = theirs::crdts::set(100, 100);
    let all: Vec<u64> = (0..100).map(number).collect();
    set.apply(set.rm_all(all, set.read_ctx().derive_rm_ctx()));
    row(
        "heap of an empty set that 100 replicas filled",
        heap(|| world.value.clone()),
        heap(|| set.clone()),
        Some(0.0),
    );
}

//! Anything as bytes: what decoders, and joins of what they let through, must stand.
//!
//! Each function takes any bytes and panics if a promise is broken: that nothing panics, that a refusal changes nothing,
//! that what is read is written as it was read, that joining it twice is joining it once, that digests stay those from
//! scratch. The fuzz targets in `crdt-core/fuzz` are these functions; so are the tests here, over the kept corpus and
//! over inputs that [`inputs`] makes.

use anabranch_crdt::{
    Causal, CausalError, Changed, Context, Delta, Env, Epoch, HashKey, Issuer, Kill, Knowledge, Mutation,
    NodeId, Op, Payload, Piece, Put, ReplicaId, Replicas, Type, Value, VersionVector, decode_puts,
    encode_puts,
};

use crate::random;
use crate::rng::Rng;

/// A decoder under attack: its name, and what it must stand.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The fuzz target's name, and that of its directory in the corpus.
    pub name: &'static str,
    /// The check.
    pub check: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 7] = [
    target("value", value),
    target("puts", puts),
    target("delta", delta),
    target("op", op),
    target("piece", piece),
    target("knowledge", knowledge),
    target("operations", operations),
];

const fn target(name: &'static str, check: fn(&[u8])) -> Target {
    Target { name, check }
}

const KEY: HashKey = HashKey([7; 16]);

fn replica(n: u128) -> ReplicaId {
    ReplicaId::new(NodeId(n), Epoch(1))
}

/// A table as a shard might have it.
fn table() -> Replicas {
    let mut replicas = Replicas::new();
    for n in [9, 3, 5] {
        assert!(replicas.intern(replica(n)).is_ok(), "three fit");
    }
    replicas
}

/// Canonical bytes.
///
/// # Panics
///
/// If a promise is broken.
pub fn value(bytes: &[u8]) {
    for mut replicas in [Replicas::new(), table()] {
        let before = replicas.len();
        match Value::from_canonical_bytes(bytes, &mut replicas, &KEY) {
            Ok(value) => {
                assert_eq!(value.canonical_bytes(&replicas), bytes, "one form and no other");
                let env = Env {
                    replicas: &replicas,
                    key: &KEY,
                };
                assert_eq!(value.digest(), value.digest_from_scratch(&env), "the digest");
                let _ = value.read(&replicas);
            }
            Err(_) => assert_eq!(replicas.len(), before, "a refusal changes nothing"),
        }
    }
}

/// Live dots and what they put; the first byte says for which type.
///
/// # Panics
///
/// If a promise is broken.
pub fn puts(bytes: &[u8]) {
    let Some((ty, bytes)) = bytes.split_first() else {
        return;
    };
    let ty = Type::ALL[usize::from(*ty) % Type::ALL.len()];
    if let Ok(puts) = decode_puts(bytes, ty, 3) {
        let mut again = Vec::new();
        encode_puts(&mut again, 3, &puts);
        assert_eq!(decode_puts(&again, ty, 3), Ok(puts), "what was read is written");
    }
}

/// A delta under a table of three, joined into an empty value and into one that is not.
///
/// # Panics
///
/// If a promise is broken.
pub fn delta(bytes: &[u8]) {
    let Ok(delta) = Delta::decode(bytes, 3) else {
        return;
    };
    let mut again = Vec::new();
    delta.encode(3, &mut again);
    assert_eq!(
        Delta::decode(&again, 3).as_ref(),
        Ok(&delta),
        "what was read is written"
    );
    let replicas = table();
    let env = Env {
        replicas: &replicas,
        key: &KEY,
    };
    for steps in [0, 12] {
        let (mut value, seen) = grown(delta.ty(), &replicas, steps);
        let mut seen = Context::from(seen);
        value.join_delta(&env, &seen, &delta);
        assert_eq!(value.digest(), value.digest_from_scratch(&env), "the digest");
        seen.join(&delta.context());
        let _ = value.read(&replicas);
        let digest = value.digest();
        let changed = value.join_delta(&env, &seen, &delta);
        if is_sane(&delta) {
            assert!(
                changed.is_empty() && value.digest() == digest,
                "twice is once: {delta:?} {steps} {changed:?}"
            );
        }
    }
}

/// Whether no slot is reset below an increment that is here too: where the slot was dropped nothing of it can be under way
/// any more, so no author makes that.
fn is_sane(delta: &Delta) -> bool {
    let counts = |kill: &Kill| {
        delta.parts().iter().any(|part| {
            let is_its_slot =
                |put: &Put| matches!(put.payload, Payload::Count { .. }) && put.path == kill.path;
            part.dot.ix() == kill.dot.ix() && part.put.as_ref().is_some_and(is_its_slot)
        })
    };
    let kills = delta.parts().iter().flat_map(|part| &part.kills);
    let mut resets = kills.filter(|kill| kill.reset.is_some());
    !resets.any(counts)
}

/// A value of this type after a few mutations, and what it has seen.
fn grown(ty: Type, replicas: &Replicas, steps: usize) -> (Value, VersionVector) {
    let (mut value, mut seen) = (Value::new(ty), VersionVector::new());
    let env = Env { replicas, key: &KEY };
    let mut rng = Rng::new(u64::from(ty.id()));
    for _ in 0..steps {
        let me = anabranch_crdt::ReplicaIx(rng.below(3) as u16);
        let issuer = Issuer {
            replicas,
            me,
            next_seq: seen.get(me) + 1,
            stamp: rng.below(9) as u64,
            inherits: None,
        };
        let mutation: Mutation = random::mutation(&mut rng, ty, 3);
        let Ok(delta) = value.mutate(&issuer, &mutation) else {
            continue;
        };
        value.join_delta(&env, &seen, &delta);
        seen.advance(me, seen.get(me) + delta.parts().len() as u64);
    }
    (value, seen)
}

/// A value that stands alone, after a few mutations, and the last of them.
fn mutated(ty: Type, rng: &mut Rng, mutations: usize) -> (Causal, Option<Op>) {
    let (mut value, mut last) = (Causal::new(ty), None);
    for _ in 0..mutations {
        let by = crate::replica_id(rng.below(3));
        let mutation = random::mutation(rng, ty, 3);
        let Ok(op) = value.mutate(by, rng.below(9) as u64, &mutation) else {
            continue;
        };
        assert!(value.join_op(&op).is_ok(), "its own operation");
        last = Some(op);
    }
    (value, last)
}

fn standing(ty: Type) -> Causal {
    mutated(ty, &mut Rng::new(u64::from(ty.id()) + 100), 8).0
}

/// What holds for whatever was let through, where nothing is and where something is: the digest, that it can be joined
/// again, which `again` does and says how it must end, that the state can be told to others, and that whoever joined it
/// goes on.
fn joined(
    ty: Type,
    join: impl Fn(&mut Causal) -> Result<Changed, CausalError>,
    again: impl Fn(&mut Causal) -> Again,
) {
    for mut value in [Causal::new(ty), standing(ty)] {
        if join(&mut value).is_err() {
            continue;
        }
        assert_eq!(value.value().digest(), value.digest_from_scratch(), "the digest");
        let before = value.clone();
        if again(&mut value) == Again::Same {
            assert_eq!(value, before, "twice is once");
        }
        is_told(&value);
        go_on(&mut value);
    }
}

/// How it must be after the second time.
#[derive(PartialEq)]
enum Again {
    Same,
    /// Nobody honest makes such a thing.
    Any,
}

/// An operation with its table.
///
/// # Panics
///
/// If a promise is broken.
pub fn op(bytes: &[u8]) {
    let Ok(op) = Op::decode(bytes) else { return };
    let again = Op::decode(&op.encode());
    assert_eq!(
        again.as_ref().map(Op::delta),
        Ok(op.delta()),
        "what was read is written"
    );
    let join = |value: &mut Causal| {
        let _ = value.check_order(&op);
        value.join_op(&op)
    };
    joined(op.delta().ty(), join, |value| {
        assert!(value.join_op(&op).is_ok(), "what was joined can be joined again");
        if is_sane(op.delta()) {
            Again::Same
        } else {
            Again::Any
        }
    });
}

/// What was joined can be told to others and kept.
fn is_told(value: &Causal) {
    let nothing = Causal::new(value.value().ty());
    let mut copy = nothing.clone();
    let piece = value
        .since(&nothing.knowledge())
        .map(|piece| Piece::decode(&piece.encode()));
    match piece {
        Ok(Ok(piece)) => assert!(copy.join_piece(&piece).is_ok(), "a copy of what is here"),
        other => panic!("what is here cannot be told: {other:?}"),
    }
    assert_eq!(copy, *value, "a copy");
    let bytes = value.canonical_bytes();
    assert!(
        Value::from_canonical_bytes(&bytes, &mut Replicas::new(), &KEY).is_ok(),
        "one's own bytes"
    );
    let mut both = value.clone();
    assert!(both.join(value).is_ok() && both == *value, "joining oneself");
}

/// Whoever joined it goes on: what was forged under its own id may have left it no sequence, and no more.
fn go_on(value: &mut Causal) {
    let mut rng = Rng::new(1);
    for n in 0..3 {
        let mutation = random::mutation(&mut rng, value.value().ty(), 3);
        if let Ok(op) = value.mutate(crate::replica_id(n), 1, &mutation) {
            assert!(value.join_op(&op).is_ok(), "an operation of one's own");
            assert_eq!(value.value().digest(), value.digest_from_scratch(), "the digest");
        }
    }
}

/// A part of a state with its table.
///
/// # Panics
///
/// If a promise is broken.
pub fn piece(bytes: &[u8]) {
    let Ok(piece) = Piece::decode(bytes) else { return };
    let again = Piece::decode(&piece.encode());
    assert_eq!(
        again.as_ref().map(Piece::fragment),
        Ok(piece.fragment()),
        "what was read is written"
    );
    let join = |value: &mut Causal| value.join_piece(&piece);
    joined(piece.fragment().ty(), join, |value| {
        for part in piece.clone().split(40) {
            assert!(value.join_piece(&part).is_ok(), "a part of what was joined");
        }
        Again::Same
    });
}

/// What somebody has seen.
///
/// # Panics
///
/// If a promise is broken.
pub fn knowledge(bytes: &[u8]) {
    let Ok(knowledge) = Knowledge::decode(bytes) else {
        return;
    };
    let again = Knowledge::decode(&knowledge.encode());
    assert_eq!(
        again.as_ref().map(Knowledge::seen),
        Ok(knowledge.seen()),
        "what was read is written"
    );
    let value = standing(Type::OrSet);
    assert!(value.since(&knowledge).is_ok(), "whatever they have seen");
}

/// Not a decoder: bytes as choices, which make a history that is run against the models.
///
/// # Panics
///
/// If the crate and a model differ.
pub fn operations(bytes: &[u8]) {
    if let Err(failure) = random::from_choices(bytes) {
        panic!("{failure}");
    }
}

/// Inputs for a target: what is valid, and the same damaged. Each is a function of the seed.
pub fn inputs(name: &str, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let ty = Type::ALL[rng.below(Type::ALL.len())];
    let mut bytes = match name {
        "operations" => (0..rng.below(150)).map(|_| rng.below(256) as u8).collect(),
        _ => valid(name, ty, &mut rng),
    };
    for _ in 0..rng.below(4) {
        damage(&mut bytes, &mut rng);
    }
    bytes
}

fn valid(name: &str, ty: Type, rng: &mut Rng) -> Vec<u8> {
    let mutations = 1 + rng.below(12);
    let (value, last) = mutated(ty, rng, mutations);
    let nothing = Causal::new(ty).knowledge();
    match (name, last) {
        ("value", _) => value.canonical_bytes(),
        ("puts", _) => {
            let at = Type::ALL.iter().position(|other| *other == ty).unwrap_or(0);
            let mut bytes = vec![at as u8];
            let puts: Vec<_> = value.value().kept().collect();
            encode_puts(&mut bytes, value.replicas().len(), &puts);
            bytes
        }
        ("delta", Some(op)) => {
            let mut bytes = Vec::new();
            op.delta().encode(3, &mut bytes);
            bytes
        }
        ("op", Some(op)) => op.encode(),
        ("piece", _) => value
            .since(&nothing)
            .map_or_else(|_| Vec::new(), |piece| piece.encode()),
        ("knowledge", _) => value.knowledge().encode(),
        _ => Vec::new(),
    }
}

/// Changes, takes away, doubles or adds some bytes.
fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(bytes.len() + 1);
    let extreme = [0, 1, 0x7f, 0x80, 0xff];
    match rng.below(6) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, *rng.pick(&extreme)),
        2 => {
            let more: Vec<u8> = bytes[at..].iter().copied().take(1 + rng.below(16)).collect();
            bytes.splice(at..at, more);
        }
        3 => bytes.extend((0..rng.below(10)).map(|_| rng.below(256) as u8)),
        _ => {
            let new = if rng.percent(30) {
                *rng.pick(&extreme)
            } else {
                rng.below(256) as u8
            };
            if let Some(byte) = bytes.get_mut(at) {
                *byte = new;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoders_stand_a_hundred_thousand_inputs_each() {
        for target in &TARGETS[..6] {
            for seed in 0..100_000 {
                (target.check)(&inputs(target.name, seed));
            }
        }
    }

    #[test]
    fn histories_from_a_hundred_thousand_inputs_agree_with_the_models() {
        for seed in 0..100_000 {
            operations(&inputs("operations", seed));
        }
    }

    #[test]
    fn the_kept_corpus_is_stood() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for target in TARGETS {
            let kept = std::fs::read_dir(corpus.join(target.name)).unwrap();
            let mut count = 0;
            for input in kept {
                (target.check)(&std::fs::read(input.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "nothing is kept for {}", target.name);
        }
    }
}

//! The semantics of each type, as short conversations between nodes, and the bytes that must never change.

use std::collections::BTreeMap;

use super::*;
use crate::context::VersionVector;
use crate::delta::{Base, ClockMode, Kill, Part, Totals};
use crate::id::{Epoch, NodeId, ReplicaId};
use crate::mutation::Clock;
use crate::replicas::ReplicaIx;

#[test]
fn a_walk_goes_on_behind_any_put() {
    let mut replicas = Replicas::new();
    let (me, other) = (
        replicas.intern(id("a")).unwrap(),
        replicas.intern(id("b")).unwrap(),
    );
    let key = &KEY;
    let put = |ix, seq, path: Path, payload: Payload| Part {
        dot: Dot::new(ix, seq),
        put: Some(Put { path, payload }),
        kills: Vec::new(),
    };
    let element = |e: &'static str| Path::Element(Bytes::from_static(e.as_bytes()));
    let set = vec![
        put(me, 1, Path::Root, Payload::Present),
        put(other, 1, Path::Root, Payload::Present),
        put(me, 2, element("x"), Payload::Present),
        put(other, 2, element("x"), Payload::Present),
        put(me, 3, element("y"), Payload::Present),
    ];
    let count = |plus| Payload::Count {
        totals: Totals { plus, minus: 0 },
        base: Base::opened(1),
    };
    let counter = vec![
        put(me, 1, Path::Root, count(1)),
        put(other, 1, Path::Root, count(2)),
    ];
    for (ty, parts) in [(Type::OrSet, set), (Type::GCounter, counter)] {
        let mut value = Value::new(ty);
        let env = Env {
            replicas: &replicas,
            key,
        };
        value.join_delta(&env, &(), &Delta::from_parts(ty, parts));
        let all: Vec<_> = value.puts().collect();
        for (i, (dot, put)) in all.iter().enumerate() {
            let rest: Vec<_> = value.kept_after(&put.path, *dot).collect();
            assert_eq!(rest, all[i + 1..], "{ty} behind {put:?}");
        }
        // Also behind one that is not alive any more.
        let gone = Dot::new(me, 9);
        assert_eq!(
            value.kept_after(&Path::Element(Bytes::new()), gone).count(),
            all.iter().filter(|(_, put)| put.path != Path::Root).count()
        );
    }
}

const KEY: HashKey = HashKey(*b"0123456789abcdef");

struct Talk {
    replicas: Replicas,
    nodes: BTreeMap<String, (VersionVector, Value)>,
    ty: Type,
}

/// Runs a script, line by line: `a add x y`, `a incr -3`, `a set v`, `a set v @9`, `a create`, `a remove x`,
/// `a clear`; `a>b`: b joins all that a has; `a = READING`; `a seq N`: a's last sequence; `a live N`: its live dots.
/// Nodes are `a` to `d`, in the order of their ids but not of their indices. The stamp of a default write is 100.
fn check(ty: Type, script: &str) {
    let mut replicas = Replicas::new();
    for name in ["c", "a", "d", "b"] {
        replicas.intern(id(name)).unwrap();
    }
    let mut talk = Talk {
        replicas,
        nodes: BTreeMap::new(),
        ty,
    };
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        talk.line(line);
    }
}

fn id(name: &str) -> ReplicaId {
    ReplicaId::new(NodeId(u128::from(name.as_bytes()[0])), Epoch(1))
}

fn list(words: &[&str]) -> Vec<Bytes> {
    words
        .iter()
        .map(|word| Bytes::copy_from_slice(word.as_bytes()))
        .collect()
}

fn parse(words: &[&str]) -> Option<Mutation> {
    Some(match words {
        ["create"] => Mutation::Create,
        ["clear"] => Mutation::Clear,
        ["incr", by] => Mutation::Increment(by.parse().unwrap()),
        ["add", elements @ ..] => Mutation::Add(list(elements)),
        ["remove", elements @ ..] => Mutation::Remove(list(elements)),
        ["set", value] => Mutation::Set {
            value: list(&[value])[0].clone(),
            clock: Clock::Default,
        },
        ["set", value, clock] => Mutation::Set {
            value: list(&[value])[0].clone(),
            clock: Clock::Custom(clock.trim_start_matches('@').parse().unwrap()),
        },
        _ => return None,
    })
}

impl Talk {
    fn node(&mut self, name: &str) -> &mut (VersionVector, Value) {
        let new = Value::new(self.ty);
        self.nodes
            .entry(name.to_owned())
            .or_insert((VersionVector::new(), new))
    }

    fn line(&mut self, line: &str) {
        if let Some((from, to)) = line.split_once('>') {
            let (theirs_seen, theirs) = self.node(from).clone();
            let (mut seen, mut value) = self.node(to).clone();
            value.join(
                &Env {
                    replicas: &self.replicas,
                    key: &KEY,
                },
                &seen,
                &theirs,
                &theirs_seen,
            );
            seen.join(&theirs_seen);
            *self.node(to) = (seen, value);
            return;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, rest) = (words[0], &words[1..]);
        let me = self.replicas.get(id(name)).unwrap();
        let (mut seen, mut value) = self.node(name).clone();
        match rest {
            ["=", expected @ ..] => assert_eq!(self.show(&value), expected.join(" "), "{line}"),
            ["seq", n] => assert_eq!(seen.get(me).to_string(), *n, "{line}"),
            ["live", n] => assert_eq!(value.puts().count().to_string(), *n, "{line}"),
            _ => {
                let issuer = Issuer {
                    replicas: &self.replicas,
                    me,
                    next_seq: seen.get(me) + 1,
                    stamp: 100,
                    inherits: None,
                };
                let delta = value
                    .mutate(&issuer, &parse(rest).unwrap_or_else(|| panic!("{line}")))
                    .unwrap();
                value.join_delta(
                    &Env {
                        replicas: &self.replicas,
                        key: &KEY,
                    },
                    &seen,
                    &delta,
                );
                seen.advance(me, seen.get(me) + delta.parts().len() as u64);
                *self.node(name) = (seen, value);
            }
        }
    }

    fn show(&self, value: &Value) -> String {
        if !value.exists() {
            return "absent".to_owned();
        }
        match value.read(&self.replicas) {
            Reading::Count(count) => count.to_string(),
            Reading::Elements(elements) => {
                format!(
                    "[{}]",
                    elements
                        .iter()
                        .map(|e| str::from_utf8(e).unwrap())
                        .collect::<Vec<_>>()
                        .join(" ")
                )
            }
            Reading::Register(None) => "unset".to_owned(),
            Reading::Register(Some(value)) => str::from_utf8(&value).unwrap().to_owned(),
            other => format!("{other:?}"),
        }
    }
}

#[test]
fn a_counter_sums_what_everybody_added() {
    check(
        Type::PnCounter,
        "a incr 5
         b incr -7
         a incr 1
         a live 1
         a>b
         b>a
         a = -1
         b = -1
         b live 2",
    );
}

#[test]
fn adding_nothing_creates_a_counter_once() {
    for ty in [Type::GCounter, Type::PnCounter] {
        check(
            ty,
            "a = absent\n a incr 0\n a = 0\n a seq 1\n a incr 0\n a create\n a seq 1",
        );
        check(
            ty,
            "a create\n a = 0\n a seq 1\n a>b\n b create\n b incr 0\n b seq 0\n b incr 2\n b>a\n a = 2",
        );
    }
}

#[test]
fn totals_saturate() {
    let max = i64::MAX;
    check(
        Type::GCounter,
        &format!(
            "a incr {max}\n a incr {max}\n a incr {max}\n a = {}\n b incr 1\n b>a\n a = {}",
            u64::MAX,
            u128::from(u64::MAX) + 1
        ),
    );
    let min = i64::MIN;
    check(
        Type::PnCounter,
        &format!("a incr {min}\n a incr {min}\n a incr {min}\n a = -{}", u64::MAX),
    );
}

#[test]
fn an_addition_wins_over_a_concurrent_removal() {
    check(
        Type::OrSet,
        "a add x
         a>b
         a remove x
         b add x
         a>b
         b>a
         a = [x]
         b = [x]",
    );
}

#[test]
fn a_removal_wins_over_what_it_saw() {
    check(
        Type::OrSet,
        "a add x y\n a>b\n b remove x\n b>a\n a = [y]\n a live 2",
    );
    check(
        Type::OrSet,
        "a add x y\n a>b\n a add z\n b clear\n b>a\n a = [z]\n a>b\n b = [z]",
    );
}

#[test]
fn a_removal_uses_one_dot_and_an_addition_one_an_element() {
    check(
        Type::OrSet,
        "a add x y z\n a seq 3\n a remove x y\n a seq 4\n a live 2\n a add z\n a seq 5\n a live 1",
    );
    check(Type::OrSet, "a add x x x\n a seq 1");
}

#[test]
fn removing_what_is_not_there_is_nothing() {
    check(Type::OrSet, "a remove x\n a clear\n a add\n a = absent\n a seq 0");
    check(
        Type::OrSet,
        "a add x\n a remove y\n a seq 1\n a remove x y\n a seq 2\n a remove x\n a clear\n a seq 2",
    );
}

#[test]
fn empty_is_not_absent() {
    check(
        Type::OrSet,
        "a create\n a = []\n a seq 1\n a create\n a seq 1\n a add x\n a live 1",
    );
    check(
        Type::OrSet,
        "a add x\n a remove x\n a = []\n a live 1\n a>b\n b = []",
    );
    check(
        Type::OrSet,
        "a add x y\n a clear\n a = []\n a seq 3\n a live 1\n a add x\n a live 1\n a = [x]",
    );
    check(
        Type::LwwRegister,
        "a create\n a = unset\n a>b\n b create\n b seq 0\n b set v\n b live 1\n b>a\n a = v",
    );
}

/// Neither removal emptied the set, so it must not take a removal that did to keep it.
#[test]
fn removals_that_empty_a_set_only_together_leave_it_empty_not_absent() {
    check(
        Type::OrSet,
        "a add x y\n a>b\n a remove x\n b remove y\n a>b\n b>a\n a = []\n b = []\n a live 2\n a add z\n a live 1",
    );
}

#[test]
fn marks_of_concurrent_creators_go_with_the_next_mutation() {
    check(
        Type::OrSet,
        "a create\n b create\n a>b\n b = []\n b live 2\n b add x\n b live 1\n b>a\n a live 1",
    );
    check(
        Type::OrSet,
        "a add x y\n b create\n b>a\n a live 3\n a remove x\n a = [y]\n a live 2",
    );
}

#[test]
fn an_observed_write_is_always_superseded() {
    check(
        Type::LwwRegister,
        "a set old @5000\n a>b\n b set new\n b = new\n b live 1\n b>a\n a = new",
    );
}

#[test]
fn concurrent_losers_stay_until_a_write_that_saw_them() {
    check(
        Type::LwwRegister,
        "a set x @3\n b set y @1\n b>a\n a = x\n a live 2\n a set z\n a = z\n a live 1\n a>b\n b = z",
    );
    // c saw only x and replaces it by something below y: then y is the value, wherever it had lost before.
    check(
        Type::LwwRegister,
        "a set x @3
         b set y @2
         a>c
         c set w @9
         a>b
         b>d
         d = x
         c>d
         d = w
         d live 2",
    );
}

#[test]
fn a_clock_of_ones_own_may_lose_and_then_both_stay() {
    check(
        Type::LwwRegister,
        "a set x @9\n a set y @3\n a = x\n a live 2\n a set z @4\n a = x\n a live 2\n a set w @10\n a = w\n a live 1",
    );
}

#[test]
fn a_losing_write_never_kills_what_is_above_it() {
    // A replica that has x and not yet w would otherwise go from 36 back to 0. Below both, y is not even made.
    check(
        Type::LwwRegister,
        "a set x @36\n a>b\n c set w @99\n c>b\n b set y @0\n b = w\n b live 2\n b seq 0",
    );
    check(
        Type::LwwRegister,
        "a set x @36\n a>b\n c set w @99\n c>b\n b set y @50\n b = w\n b live 2\n b seq 1",
    );
}

#[test]
fn a_tie_goes_to_the_larger_replica_id_then_to_the_later_write() {
    check(
        Type::LwwRegister,
        "a set x @7\n c set y @7\n a>c\n c>a\n a = y\n c = y",
    );
    check(Type::LwwRegister, "a set x @7\n a set y @7\n a = y\n a live 1");
    check(
        Type::LwwRegister,
        &format!(
            "a set x @{max}\n a>b\n a set y\n b set z @{max}\n b>a\n a = z",
            max = u64::MAX
        ),
    );
}

#[test]
fn a_clock_of_zero_is_above_no_write() {
    check(Type::LwwRegister, "a create\n a set v @0\n a = v\n a live 1");
    check(
        Type::LwwRegister,
        "b create\n a set v @0\n b>a\n a = v\n a live 2",
    );
}

fn table() -> (Replicas, ReplicaIx) {
    let mut replicas = Replicas::new();
    let me = replicas.intern(ReplicaId::new(NodeId(0xa), Epoch(2))).unwrap();
    (replicas, me)
}

/// The value after these mutations by one replica.
fn made(ty: Type, replicas: &Replicas, me: ReplicaIx, mutations: &[Mutation]) -> Value {
    let (mut value, mut seen) = (Value::new(ty), VersionVector::new());
    for mutation in mutations {
        let issuer = Issuer {
            replicas,
            me,
            next_seq: seen.get(me) + 1,
            stamp: 5,
            inherits: None,
        };
        let delta = value.mutate(&issuer, mutation).unwrap();
        value.join_delta(&Env { replicas, key: &KEY }, &seen, &delta);
        seen.advance(me, seen.get(me) + delta.parts().len() as u64);
    }
    value
}

fn samples(replicas: &Replicas, me: ReplicaIx) -> [Value; 5] {
    [
        made(Type::GCounter, replicas, me, &[Mutation::Increment(258)]),
        made(
            Type::PnCounter,
            replicas,
            me,
            &[Mutation::Increment(5), Mutation::Increment(-2)],
        ),
        made(
            Type::LwwRegister,
            replicas,
            me,
            &[Mutation::Set {
                value: "hi".into(),
                clock: Clock::Default,
            }],
        ),
        made(
            Type::OrSet,
            replicas,
            me,
            &[Mutation::Add(vec!["b".into(), "".into()])],
        ),
        made(Type::OrSet, replicas, me, &[Mutation::Create]),
    ]
}

/// Digests are compared between nodes of different versions that share the key.
#[test]
fn digests_are_pinned() {
    let (replicas, me) = table();
    let digests = samples(&replicas, me).map(|value| value.digest());
    assert_eq!(
        digests,
        [
            11_053_647_162_186_862_614,
            18_146_251_283_054_886_804,
            9421684023196222277,
            1123242618157021963,
            14054035606311476988
        ]
    );
}

#[test]
fn a_digest_without_the_key_says_nothing() {
    let (replicas, me) = table();
    let value = &samples(&replicas, me)[3];
    let other = value.digest_from_scratch(&Env {
        replicas: &replicas,
        key: &HashKey([1; 16]),
    });
    assert_ne!(value.digest(), other);
    assert_eq!(format!("{:?}", HashKey([1; 16])), "HashKey(..)");
}

#[test]
fn a_digest_returns_to_zero_when_the_last_dot_goes() {
    let (replicas, me) = table();
    let env = Env {
        replicas: &replicas,
        key: &KEY,
    };
    for mut value in samples(&replicas, me) {
        let kills = value.puts().map(|(dot, put)| Kill::of(put.path, dot)).collect();
        let seen = VersionVector::from_iter([(me, 9)]);
        let delete = Delta::from_parts(
            value.ty(),
            vec![Part {
                dot: Dot::new(me, 10),
                put: None,
                kills,
            }],
        );
        let changed = value.join_delta(&env, &seen, &delete);
        assert!(!changed.removed.is_empty() && changed.added.is_empty());
        assert!(!value.exists() && value.digest() == 0);
        assert_eq!(value, Value::new(value.ty()));
    }
}

#[test]
fn a_type_refuses_what_it_does_not_take_and_says_what_it_does() {
    let (replicas, me) = table();
    let issuer = Issuer {
        replicas: &replicas,
        me,
        next_seq: 1,
        stamp: 0,
        inherits: None,
    };
    let set = Mutation::Set {
        value: "v".into(),
        clock: Clock::Default,
    };
    let all = [
        Mutation::Increment(1),
        Mutation::Add(vec!["x".into()]),
        Mutation::Remove(vec![]),
        Mutation::Clear,
        set,
    ];
    for ty in Type::ALL {
        let value = Value::new(ty);
        assert!(value.mutate(&issuer, &Mutation::Create).is_ok());
        for mutation in &all {
            let takes = ty.operations().contains(mutation.name());
            let result = value.mutate(&issuer, mutation);
            assert_eq!(result.is_ok(), takes, "{ty} {}", mutation.name());
            if let Err(error) = result {
                assert!(error.to_string().contains(ty.operations()), "{error}");
            }
        }
    }
    let down = Value::new(Type::GCounter).mutate(&issuer, &Mutation::Increment(-1));
    assert_eq!(down, Err(MutationError::NegativeIncrement { by: -1 }));
}

/// A hostile peer can only send what a decoder let through; what it should have refused does no harm here.
#[test]
fn a_put_that_does_not_fit_is_ignored() {
    let (replicas, me) = table();
    let env = Env {
        replicas: &replicas,
        key: &KEY,
    };
    let stamped = Payload::Stamped {
        clock: 1,
        mode: ClockMode::Custom,
        value: "v".into(),
    };
    for ty in Type::ALL {
        for path in [Path::Root, Path::Element("x".into())] {
            for payload in [
                Payload::Present,
                Payload::Count {
                    totals: Totals { plus: 1, minus: 1 },
                    base: Base::opened(1),
                },
                stamped.clone(),
            ] {
                let put = Put {
                    path: path.clone(),
                    payload,
                };
                let part = Part {
                    dot: Dot::new(me, 1),
                    put: Some(put.clone()),
                    kills: vec![],
                };
                let mut value = Value::new(ty);
                let changed = value.join_delta(&env, &(), &Delta::from_parts(ty, vec![part]));
                assert_eq!(changed.is_empty(), !ty.admits(&put), "{ty} {put:?}");
                assert_eq!(value.exists(), ty.admits(&put));
            }
        }
    }
}

#[test]
fn a_put_that_its_own_delta_kills_never_shows() {
    let (replicas, me) = table();
    let env = Env {
        replicas: &replicas,
        key: &KEY,
    };
    let dot = |seq| Dot::new(me, seq);
    let put = |path| {
        Some(Put {
            path,
            payload: Payload::Present,
        })
    };
    let x = Path::Element("x".into());
    let add = Part {
        dot: dot(1),
        put: put(x.clone()),
        kills: vec![],
    };
    let remove = Part {
        dot: dot(2),
        put: put(Path::Root),
        kills: vec![Kill::of(x, dot(1))],
    };
    for parts in [
        vec![add.clone(), remove.clone()],
        vec![add.clone(), remove.clone(), add.clone()],
        vec![remove, add],
    ] {
        let mut value = Value::new(Type::OrSet);
        let changed = value.join_delta(&env, &(), &Delta::from_parts(Type::OrSet, parts));
        assert_eq!(
            changed,
            Changed {
                added: vec![dot(2)],
                ..Changed::default()
            }
        );
        assert_eq!(value.read(&replicas), Reading::Elements(vec![]));
        assert_eq!(value.digest(), value.digest_from_scratch(&env));
    }
}

#[test]
fn a_stored_value_does_not_keep_the_frame_it_came_in_alive() {
    let (replicas, me) = table();
    let frame = Bytes::from(vec![b'v'; 1000]);
    let value = made(
        Type::LwwRegister,
        &replicas,
        me,
        &[Mutation::Set {
            value: frame.slice(3..5),
            clock: Clock::Custom(1),
        }],
    );
    assert!(frame.is_unique(), "nobody else holds it");
    assert_eq!(value.read(&replicas), Reading::Register(Some("vv".into())));
}

/// In units of what the join of the delta asks: it must not look at more of the state than the delta names.
#[test]
fn joining_a_delta_asks_only_about_the_dots_it_names() {
    struct Counting<'a>(&'a VersionVector, std::cell::Cell<usize>);
    impl Seen for Counting<'_> {
        fn contains(&self, dot: Dot) -> bool {
            self.1.set(self.1.get() + 1);
            self.0.contains(dot)
        }
    }
    let (replicas, me) = table();
    let many: Vec<Bytes> = (0..5_000_u32)
        .map(|n| Bytes::copy_from_slice(&n.to_be_bytes()))
        .collect();
    let mut value = made(Type::OrSet, &replicas, me, &[Mutation::Add(many)]);
    let vv = VersionVector::from_iter([(me, 5_000)]);
    let issuer = Issuer {
        replicas: &replicas,
        me,
        next_seq: 5_001,
        stamp: 0,
        inherits: None,
    };
    let delta = value.mutate(&issuer, &Mutation::Add(vec!["new".into()])).unwrap();
    let seen = Counting(&vv, Default::default());
    value.join_delta(
        &Env {
            replicas: &replicas,
            key: &KEY,
        },
        &seen,
        &delta,
    );
    assert_eq!(seen.1.get(), 1);
}

#[test]
#[should_panic(expected = "a orset met a gcounter")]
fn states_of_unequal_types_are_a_bug_of_the_caller() {
    let (replicas, _) = table();
    let env = Env {
        replicas: &replicas,
        key: &KEY,
    };
    Value::new(Type::GCounter).join(&env, &(), &Value::new(Type::OrSet), &());
}

#[test]
fn a_replica_without_sequences_left_is_refused_and_does_not_use_one_twice() {
    let (replicas, me) = table();
    let set = Value::new(Type::OrSet);
    let add = |next_seq, elements: &[&str]| {
        let issuer = Issuer {
            replicas: &replicas,
            me,
            next_seq,
            stamp: 0,
            inherits: None,
        };
        set.mutate(&issuer, &Mutation::Add(list(elements)))
    };
    assert!(add(SEQ_MAX, &["x"]).is_ok());
    assert!(add(SEQ_MAX - 1, &["x", "y"]).is_ok());
    assert_eq!(add(SEQ_MAX, &["x", "y"]), Err(MutationError::Exhausted));
    assert_eq!(add(u64::MAX, &["x"]), Err(MutationError::Exhausted));
}

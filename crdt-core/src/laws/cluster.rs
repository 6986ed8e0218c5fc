//! A few nodes that hold one value each, with replica tables in different orders and version vectors like a
//! shard's: an event becomes visible whole and only after everything its origin had seen.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::oracle::{Oracle, OracleOp};
use crate::*;

pub(super) const KEY: HashKey = HashKey(*b"0123456789abcdef");
pub(super) const NODES: usize = 4;

/// Who has seen what, in terms that every node understands.
pub(super) type Past = BTreeMap<ReplicaId, u64>;

/// One mutation as it travels.
pub(super) struct Event {
    pub(super) origin: ReplicaId,
    pub(super) to: u64,
    /// What the origin had seen before.
    pub(super) past: Past,
    pub(super) mutation: Mutation,
    delta: Delta,
    table: Replicas,
    oracle: OracleOp,
}

#[derive(Clone)]
pub(super) struct Node {
    pub(super) id: ReplicaId,
    pub(super) replicas: Replicas,
    pub(super) vv: VersionVector,
    pub(super) value: Value,
    oracle: Oracle,
    clock: HybridClock,
}

pub(super) struct Cluster {
    pub(super) ty: Type,
    pub(super) nodes: Vec<Node>,
    pub(super) events: Vec<Event>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Mutate {
        node: usize,
        mutation: Mutation,
    },
    /// One event that the node can take next.
    Deliver {
        to: usize,
        pick: usize,
    },
    /// Several at once, joined as one delta.
    Group {
        to: usize,
        count: usize,
    },
    /// One that it has.
    Again {
        to: usize,
        pick: usize,
    },
    /// State with state.
    Join {
        to: usize,
        from: usize,
    },
}

pub(super) fn steps(ty: Type) -> impl Strategy<Value = Vec<Step>> {
    let node = || 0..NODES;
    let step = prop_oneof![
        4 => (node(), mutation(ty)).prop_map(|(node, mutation)| Step::Mutate { node, mutation }),
        4 => (node(), any::<usize>()).prop_map(|(to, pick)| Step::Deliver { to, pick }),
        1 => (node(), 1..4_usize).prop_map(|(to, count)| Step::Group { to, count }),
        1 => (node(), any::<usize>()).prop_map(|(to, pick)| Step::Again { to, pick }),
        1 => (node(), node()).prop_map(|(to, from)| Step::Join { to, from }),
    ];
    prop::collection::vec(step, 1..50)
}

fn mutation(ty: Type) -> BoxedStrategy<Mutation> {
    let element = || prop::sample::select(vec!["", "a", "b", "c", "an element longer than 22 bytes"]);
    let elements = || prop::collection::vec(element().prop_map(bytes::Bytes::from), 0..3);
    // The counters of `crdts` overflow where ours saturate, so totals stay below that here.
    let number = |from: i64| prop_oneof![8 => from..10, 1 => Just(i64::from(i32::MAX))];
    match ty {
        Type::GCounter => {
            prop_oneof![1 => Just(Mutation::Create), 8 => number(0).prop_map(Mutation::Increment)].boxed()
        }
        Type::PnCounter => {
            prop_oneof![1 => Just(Mutation::Create), 8 => number(-9).prop_map(Mutation::Increment)].boxed()
        }
        Type::OrSet => prop_oneof![
            1 => Just(Mutation::Create),
            6 => elements().prop_map(Mutation::Add),
            3 => elements().prop_map(Mutation::Remove),
            1 => Just(Mutation::Clear),
        ]
        .boxed(),
        Type::GSet => elements().prop_map(Mutation::Add).boxed(),
        Type::MvRegister => element()
            .prop_map(|value| Mutation::Set {
                value: value.into(),
                clock: Clock::Default,
            })
            .boxed(),
        Type::LwwRegister => {
            let clock = prop::option::of(0..4_u64);
            let set = (element(), clock).prop_map(|(value, clock)| Mutation::Set {
                value: value.into(),
                clock: clock.map_or(Clock::Default, Clock::Custom),
            });
            prop_oneof![1 => Just(Mutation::Create), 8 => set].boxed()
        }
        other => unreachable!("`crdts` has no {other}"),
    }
}

impl Node {
    fn env<'a>(replicas: &'a Replicas) -> Env<'a> {
        Env { replicas, key: &KEY }
    }

    pub(super) fn past(&self) -> Past {
        self.vv
            .iter()
            .map(|(ix, to)| (self.replicas.id(ix), to))
            .collect()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.value.canonical_bytes(&self.replicas)
    }

    fn seen(&self, replica: ReplicaId) -> u64 {
        self.replicas.get(replica).map_or(0, |ix| self.vv.get(ix))
    }

    pub(super) fn covers(&self, event: &Event) -> bool {
        event.to <= self.seen(event.origin)
    }

    fn can_take(&self, event: &Event) -> bool {
        !self.covers(event)
            && event
                .past
                .iter()
                .all(|(replica, seq)| *seq <= self.seen(*replica))
    }

    /// Joins events as one delta, and then covers them.
    fn take(&mut self, events: &[&Event]) -> Changed {
        let mut parts = Vec::new();
        for event in events {
            parts.extend(
                crate::translate::delta(&event.delta, &event.table, &mut self.replicas)
                    .unwrap()
                    .into_parts(),
            );
        }
        let delta = Delta::from_parts(self.value.ty(), parts);
        let changed = self
            .value
            .join_delta(&Node::env(&self.replicas), &self.vv, &delta);
        for event in events {
            self.vv
                .advance(self.replicas.intern(event.origin).unwrap(), event.to);
            self.oracle.take(&event.oracle);
        }
        changed
    }

    fn join(&mut self, from: &Node) {
        let theirs = crate::translate::value(&from.value, &from.replicas, &mut self.replicas, &KEY).unwrap();
        let theirs_seen =
            crate::translate::context(&from.vv.clone().into(), &from.replicas, &mut self.replicas).unwrap();
        let env = Node::env(&self.replicas);
        let mut other_way = theirs.clone();
        other_way.join(&env, &theirs_seen, &self.value, &self.vv);
        self.value.join(&env, &self.vv, &theirs, &theirs_seen);
        assert_eq!(self.value, other_way, "commutative, digest included");
        self.vv.join(theirs_seen.as_version_vector().unwrap());
        self.oracle.join(&from.oracle);
    }
}

impl Cluster {
    pub(super) fn new(ty: Type) -> Cluster {
        let id = |n: usize| ReplicaId::new(NodeId(n as u128 + 1), Epoch(7 - n as u64));
        let node = |n: usize| {
            let mut replicas = Replicas::new();
            for other in 0..NODES {
                replicas.intern(id((n + other * 3) % NODES)).unwrap(); // another order at every node
            }
            Node {
                id: id(n),
                replicas,
                vv: VersionVector::new(),
                value: Value::new(ty),
                oracle: Oracle::new(ty),
                clock: HybridClock::new(),
            }
        };
        Cluster {
            ty,
            nodes: (0..NODES).map(node).collect(),
            events: Vec::new(),
        }
    }

    pub(super) fn run(&mut self, step: &Step) {
        match step {
            Step::Mutate { node, mutation } => self.mutate(*node, mutation),
            Step::Deliver { to, pick } => {
                let next = self.next_for(*to);
                if let Some(event) = next.get(pick % next.len().max(1)) {
                    self.nodes[*to].take(&[&self.events[*event]]);
                }
            }
            Step::Group { to, count } => {
                let mut ahead = self.nodes[*to].clone();
                let mut group: Vec<&Event> = Vec::new();
                for _ in 0..*count {
                    let Some(event) = self.events.iter().find(|event| ahead.can_take(event)) else {
                        break;
                    };
                    ahead.take(&[event]);
                    group.push(event);
                }
                let node = &mut self.nodes[*to];
                node.take(&group);
                assert_eq!(node.value, ahead.value, "grouped or one by one");
            }
            Step::Again { to, pick } => {
                let known: Vec<&Event> = self
                    .events
                    .iter()
                    .filter(|event| self.nodes[*to].covers(event))
                    .collect();
                if let Some(event) = known.get(pick % known.len().max(1)) {
                    let before = self.nodes[*to].value.clone();
                    let changed = self.nodes[*to].take(&[event]);
                    assert!(changed.is_empty(), "a duplicate changed {changed:?}");
                    assert_eq!(self.nodes[*to].value, before);
                }
            }
            Step::Join { to, from } => {
                let from = self.nodes[*from].clone();
                self.nodes[*to].join(&from);
            }
        }
    }

    fn mutate(&mut self, node: usize, mutation: &Mutation) {
        let wall_ms = self.events.len() as u64 / 3; // slow, so that stamps of several nodes tie
        let node = &mut self.nodes[node];
        let stamp = node.clock.tick(wall_ms);
        let me = node.replicas.get(node.id).unwrap();
        let issuer = Issuer {
            replicas: &node.replicas,
            me,
            next_seq: node.vv.get(me) + 1,
            stamp,
            inherits: None,
        };
        let before = node.value.clone();
        let delta = node.value.mutate(&issuer, mutation).unwrap();
        assert_eq!(node.value, before, "a mutator changes nothing");
        if delta.is_empty() {
            return;
        }
        let seqs: Vec<u64> = delta.parts().iter().map(|part| part.dot.seq()).collect();
        assert!(
            seqs.iter()
                .copied()
                .eq(issuer.next_seq..issuer.next_seq + seqs.len() as u64),
            "{seqs:?}"
        );
        let to = issuer.next_seq + seqs.len() as u64 - 1;
        let oracle = node.oracle.mutate(node.id, mutation, &delta, &node.replicas);
        let event = Event {
            origin: node.id,
            to,
            past: node.past(),
            mutation: mutation.clone(),
            delta,
            table: node.replicas.clone(),
            oracle,
        };
        let changed = node.take(&[&event]);
        assert!(
            !changed.is_empty(),
            "a mutation that used a dot changed nothing: {mutation:?}"
        );
        assert!(node.value.exists(), "a mutation leaves a value that exists");
        self.events.push(event);
    }

    fn next_for(&self, to: usize) -> Vec<usize> {
        (0..self.events.len())
            .filter(|event| self.nodes[to].can_take(&self.events[*event]))
            .collect()
    }

    /// Brings everything everywhere, in another order at every node.
    pub(super) fn heal(&mut self) {
        for to in 0..NODES {
            loop {
                let next = self.next_for(to);
                let Some(event) = next.get(to % next.len().max(1)) else {
                    break;
                };
                self.nodes[to].take(&[&self.events[*event]]);
            }
        }
    }

    /// What must hold at every moment.
    pub(super) fn check(&self) {
        for node in &self.nodes {
            assert_eq!(
                node.value.digest(),
                node.value.digest_from_scratch(&Node::env(&node.replicas))
            );
            assert!(node.value.puts().all(|(dot, put)| {
                node.vv.contains(dot) && node.value.payload(&put.path, dot) == Some(put.payload)
            }));
            self.check_ledger(node);
            node.oracle.check(&node.value.read(&node.replicas));
            super::oracle::check_model(self, node);
            for other in &self.nodes {
                let same_bytes = node.bytes() == other.bytes();
                if node.past() == other.past() {
                    assert!(same_bytes, "equal version vectors, unequal bytes");
                    assert_eq!(node.value.digest(), other.value.digest());
                    assert_eq!(node.value.read(&node.replicas), other.value.read(&other.replicas));
                }
                assert_eq!(
                    same_bytes,
                    node.live() == other.live(),
                    "equal bytes exactly if equal live state"
                );
                assert_eq!(same_bytes, node.value.digest() == other.value.digest());
            }
        }
    }

    /// The state is what was put and covered, less what was killed and covered.
    fn check_ledger(&self, node: &Node) {
        let mut live = BTreeMap::new();
        let covered: Vec<&Event> = self.events.iter().filter(|event| node.covers(event)).collect();
        let parts = || {
            covered
                .iter()
                .flat_map(|event| event.delta.parts().iter().map(move |part| (part, &event.table)))
        };
        for (part, table) in parts() {
            if let Some(put) = &part.put {
                live.insert(part.dot.full(table), put.clone());
            }
        }
        for (part, table) in parts() {
            for kill in &part.kills {
                live.remove(&kill.dot.full(table));
            }
        }
        assert_eq!(node.live(), live, "the ledger");
    }
}

impl Node {
    fn live(&self) -> BTreeMap<(ReplicaId, u64), Put> {
        self.value
            .puts()
            .map(|(dot, put)| (dot.full(&self.replicas), put))
            .collect()
    }
}

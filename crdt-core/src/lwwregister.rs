//! A register: of all writes that are alive, the one with the largest clock is its value.
//!
//! Not here: the hybrid clock ([`crate::HybridClock`]); a write's stamp is an argument.
//!
//! Contract: the winner is a function of the live writes, by (clock, replica id, sequence). Concurrent losers stay
//! alive until a write that saw them removes them: to drop one on arrival would make its fate depend on the order
//! of delivery, should a third node remove the winner alone.

use bytes::Bytes;

use crate::context::Seen;
use crate::delta::{ClockMode, Kill, Part, Path, Payload, Put};
use crate::dot::Dot;
use crate::id::ReplicaId;
use crate::kind::{Crdt, Type};
use crate::mutation::{Issuer, Mutation, MutationError};
use crate::planted;
use crate::replicas::Replicas;
use crate::store::{Diff, DotFun, DotStore};
use crate::view::{Entry, View};

/// A register: the last writer wins.
///
/// ```
/// use anabranch_crdt::{Crdt, LwwRegister, Replicas};
///
/// assert_eq!(LwwRegister::TYPE.name(), "lwwregister");
/// assert_eq!(LwwRegister::default().get(&Replicas::new()), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LwwRegister {
    /// Each carries `Present` (created, never set) or `Stamped`.
    writes: DotFun<Payload>,
    digest: u64,
}

/// What decides between two writes; a write without a clock (the presence mark) is below all others.
type Rank = (Option<u64>, ReplicaId, u64);

fn rank(replicas: &Replicas, dot: Dot, payload: &Payload) -> Rank {
    let clock = match payload {
        Payload::Stamped { clock, .. } => Some(*clock),
        Payload::Present | Payload::Count { .. } => None,
    };
    let (replica, seq) = dot.full(replicas);
    crate::planted!(
        "tie_by_arrival",
        (clock, ReplicaId::default(), 0),
        (clock, replica, seq)
    )
}

impl LwwRegister {
    /// The value: nothing if it was never set.
    pub fn get(&self, replicas: &Replicas) -> Option<&Bytes> {
        match self.winner(replicas)? {
            (_, Payload::Stamped { value, .. }) => Some(value),
            _ => None,
        }
    }

    /// The digest of the live dots, kept up by the joins.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    fn winner(&self, replicas: &Replicas) -> Option<&(Dot, Payload)> {
        self.writes
            .as_slice()
            .iter()
            .max_by_key(|(dot, payload)| rank(replicas, *dot, payload))
    }

    fn create(&self, issuer: &Issuer<'_>) -> Vec<Part> {
        if !View::is_empty(self) {
            return Vec::new();
        }
        let put = Put {
            path: Path::Root,
            payload: Payload::Present,
        };
        vec![Part {
            dot: issuer.dot(0),
            put: Some(put),
            kills: Vec::new(),
        }]
    }

    fn set(&self, issuer: &Issuer<'_>, value: &Bytes, clock: Option<u64>) -> Vec<Part> {
        let winner = self.winner(issuer.replicas);
        let (mode, clock) = match clock {
            Some(clock) => (ClockMode::Custom, clock),
            None => {
                let above = match winner {
                    Some((_, Payload::Stamped { clock, .. })) => clock.saturating_add(1),
                    _ => 0,
                };
                let clock = crate::planted!("raw_wall_clock", issuer.stamp, issuer.stamp.max(above));
                (ClockMode::Default, clock)
            }
        };
        let payload = Payload::Stamped {
            clock,
            mode,
            value: value.clone(),
        };
        let dot = issuer.dot(0);
        let mine = rank(issuer.replicas, dot, &payload);
        // A clock of the caller's own may lose against writes the caller saw. It kills only what is below it: a replica
        // that has not yet got the winner must never go from a higher clock to this one. Below two of those it saw, it
        // could become the value nowhere but after removals of both, and is not made: so losers do not pile up.
        let lost = |dot: &Dot, payload: &Payload| {
            mode == ClockMode::Custom && rank(issuer.replicas, *dot, payload) > mine
        };
        let seen = self.writes.as_slice();
        if seen.iter().filter(|(dot, payload)| lost(dot, payload)).count() > 1 {
            return Vec::new();
        }
        let kills = seen
            .iter()
            .filter(|(dot, payload)| planted!("own_clock_kills_all", true, !lost(dot, payload)))
            .map(|(dot, _)| Kill {
                path: Path::Root,
                dot: *dot,
            })
            .collect();
        vec![Part {
            dot,
            put: Some(Put {
                path: Path::Root,
                payload,
            }),
            kills,
        }]
    }
}

impl Crdt for LwwRegister {
    const TYPE: Type = Type::LwwRegister;
}

impl View for LwwRegister {
    fn mutate(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Result<Vec<Part>, MutationError> {
        match mutation {
            Mutation::Create => Ok(self.create(issuer)),
            Mutation::Set { value, clock } => Ok(self.set(issuer, value, *clock)),
            other => Err(MutationError::WrongOperation {
                ty: Self::TYPE,
                operation: other.name(),
            }),
        }
    }

    fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    fn entries(&self) -> Box<dyn Iterator<Item = Entry> + '_> {
        Box::new(
            self.writes
                .entries()
                .map(|(dot, payload)| (Path::Root, dot, payload)),
        )
    }

    fn get(&self, path: &Path, dot: Dot) -> Option<Payload> {
        if *path != Path::Root {
            return None;
        }
        self.writes.get(dot).cloned()
    }

    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> bool {
        Self::TYPE.admits_at(path, payload) && self.writes.insert(dot, owned(payload))
    }

    fn remove(&mut self, path: &Path, dot: Dot) -> Option<Payload> {
        if *path != Path::Root {
            return None;
        }
        self.writes.remove(dot)
    }

    fn join_stores(
        &mut self,
        seen: &impl Seen,
        theirs: &LwwRegister,
        theirs_seen: &impl Seen,
    ) -> Diff<Entry> {
        let diff = self.writes.join(seen, &theirs.writes, theirs_seen);
        let outward = |writes: Vec<(Dot, Payload)>| {
            writes
                .into_iter()
                .map(|(dot, payload)| (Path::Root, dot, payload))
                .collect()
        };
        Diff {
            added: outward(diff.added),
            removed: outward(diff.removed),
        }
    }

    fn digest_mut(&mut self) -> &mut u64 {
        &mut self.digest
    }
}

/// The payload with bytes of its own: a slice of a received frame would keep the whole frame alive.
fn owned(payload: &Payload) -> Payload {
    match payload {
        Payload::Stamped { clock, mode, value } => Payload::Stamped {
            clock: *clock,
            mode: *mode,
            value: Bytes::copy_from_slice(value),
        },
        other => other.clone(),
    }
}

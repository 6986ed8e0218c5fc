//! A part of a state: some of its live dots, and which dots it speaks for.
//!
//! A delta names the places it touches, because the mutation knew them. A state keeps no trace of what was removed,
//! so what somebody lacks of it is said by dots alone: here are the live ones you have not seen, and of these
//! others you have seen, none is alive. (The Δ of Enes, Almeida, Baquero, Leitão: "Efficient Synchronization of
//! State-Based CRDTs", ICDE 2019, for causal types.)
//!
//! Not here: the bytes of a fragment.
//!
//! Contract: a fragment claims exactly the dots it speaks for. It holds every one of them that is alive, so whoever
//! joins it knows the others to be dead; and a dot it does not claim it says nothing about. So fragments may be cut
//! by dots, lost, repeated and joined in any order.

use crate::context::{Context, Seen};
use crate::delta::{DOT_BYTES_MAX, Kill, Payload, Put};
use crate::dot::Dot;
use crate::kind::Type;
use crate::planted;
use crate::value::{Changed, Env};
use crate::view::{self, Entry, Ledger, Stored, View};
use alloc::vec::Vec;

/// What a piece weighs before anything is in it, in bytes: how much is.
const HEAD_BYTES: usize = 10;

/// What a run of claimed dots weighs, in bytes.
const RUN_BYTES: usize = 20;

/// A part of a state, made by [`Value::since`](crate::Value::since). The only things to do with it are to ship it, to
/// cut it and to join it.
///
/// ```
/// use anabranch_crdt::{Causal, Epoch, Mutation, NodeId, ReplicaId, Type};
///
/// let me = ReplicaId::new(NodeId(1), Epoch(1));
/// let mut here = Causal::new(Type::OrSet);
/// let mut there = here.clone();
/// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into(), "y".into()]))?)?;
/// for piece in here.since(&there.knowledge())?.split(1) {
///     there.join_piece(&piece)?; // in any order
/// }
/// assert_eq!(there, here);
/// # Ok::<(), anabranch_crdt::CausalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a fragment changes nothing until it is joined"]
pub struct Fragment {
    ty: Type,
    /// Ascending by dot; each is claimed.
    puts: Vec<(Dot, Put)>,
    claims: Context,
}

impl Fragment {
    /// What `view`, which has seen `seen`, has beyond `theirs`.
    pub(crate) fn since<V: View>(ty: Type, view: &V, seen: &Context, theirs: &impl Seen) -> Fragment {
        let (known, mut puts): (Vec<_>, Vec<_>) = view
            .store()
            .entries()
            .map(|(path, dot, payload)| (dot, Put { path, payload }))
            // What was reset of a counter they may not know, whether they have the slot or not.
            .partition(|(dot, put)| theirs.contains(*dot) && !is_reset(&put.payload));
        sort(&mut puts);
        let mut alive_there_too: Vec<Dot> = known.into_iter().map(|(dot, _)| dot).collect();
        alive_there_too.sort_unstable();
        let claims = planted!(
            "since_leaves_out_removals",
            puts.iter().map(|(dot, _)| *dot).collect(),
            seen.without(&alive_there_too)
        );
        Fragment { ty, puts, claims }
    }

    /// A fragment of these puts, speaking for `claims`. Whoever read them from a peer or a disk asks
    /// [`Type::admits`] of every put first.
    ///
    /// ```
    /// use anabranch_crdt::{Fragment, Knowledge, Mutation, Type};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
    /// let piece = here.since(&Knowledge::default())?;
    /// let (puts, claims) = (piece.fragment().puts().to_vec(), piece.fragment().claims().clone());
    /// assert_eq!(Fragment::from_parts(Type::OrSet, puts, claims), *piece.fragment());
    /// # Ok::<(), CausalError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If a put is not among the claims.
    pub fn from_parts(ty: Type, mut puts: Vec<(Dot, Put)>, claims: Context) -> Fragment {
        sort(&mut puts);
        assert!(
            puts.iter().all(|(dot, _)| claims.contains(*dot)),
            "a fragment of dots it does not claim"
        );
        Fragment { ty, puts, claims }
    }

    /// The type of the value it is of.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Knowledge, Type};
    /// # use anabranch_crdt::CausalError;
    ///
    /// let piece = Causal::new(Type::Flag).since(&Knowledge::default())?;
    /// assert_eq!(piece.fragment().ty(), Type::Flag);
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// The live dots it carries, ascending.
    ///
    /// ```
    /// use anabranch_crdt::{Knowledge, Mutation};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into(), "y".into()]))?)?;
    /// here.join_op(&here.mutate(me, 0, &Mutation::Remove(vec!["x".into()]))?)?;
    /// let piece = here.since(&Knowledge::default())?;
    /// let seqs: Vec<u64> = piece.fragment().puts().iter().map(|(dot, _)| dot.seq()).collect();
    /// assert_eq!(seqs, [2, 3]); // "y", and the mark of the removal
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn puts(&self) -> &[(Dot, Put)] {
        &self.puts
    }

    /// The dots it speaks for: those it carries, and others that are dead.
    ///
    /// ```
    /// use anabranch_crdt::{Knowledge, Mutation, ReplicaIx};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into(), "y".into()]))?)?;
    /// here.join_op(&here.mutate(me, 0, &Mutation::Remove(vec!["x".into()]))?)?;
    /// let piece = here.since(&Knowledge::default())?;
    /// assert_eq!(piece.fragment().claims().maxima().get(ReplicaIx(0)), 3);
    /// assert_eq!(piece.fragment().puts().len(), 2); // the dot of "x" is dead
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn claims(&self) -> &Context {
        &self.claims
    }

    /// Whether it says nothing.
    ///
    /// ```
    /// use anabranch_crdt::{Knowledge, Mutation};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::Flag);
    /// assert!(here.since(&Knowledge::default())?.fragment().is_empty());
    /// here.join_op(&here.mutate(me, 0, &Mutation::Enable)?)?;
    /// assert!(!here.since(&Knowledge::default())?.fragment().is_empty());
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Whether the dot is among those it carries.
    fn carries(&self, dot: Dot) -> bool {
        self.puts.binary_search_by_key(&dot, |(dot, _)| *dot).is_ok()
    }

    /// The same in pieces that take at most `bytes_max` bytes each ([`Fragment::encode`]), except that a put is never
    /// divided. Each can be joined
    /// alone, in any order, any number of times; all of them together say what this one says.
    ///
    /// ```
    /// use anabranch_crdt::{Knowledge, Mutation};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into(), "y".into()]))?)?;
    /// let whole = here.since(&Knowledge::default())?.fragment().clone();
    /// assert_eq!(whole.clone().split(1_000), [whole.clone()]);
    /// let puts: Vec<usize> = whole.split(1).iter().map(|piece| piece.puts().len()).collect();
    /// assert_eq!(puts, [1, 1]);
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn split(self, bytes_max: usize) -> Vec<Fragment> {
        let whole = planted!("chunk_taken_for_the_whole", self.claims.clone(), Context::new());
        let mut cutter = Cutter::new(self.ty, bytes_max, whole);
        let mut puts = self.puts.into_iter().peekable();
        for (ix, mut from, to) in self.claims.all_runs() {
            cutter.room_for(RUN_BYTES);
            let mut last = None;
            while let Some((dot, put)) = puts.next_if(|(dot, _)| dot.ix() == ix && dot.seq() <= to) {
                if last.replace(dot) != Some(dot) && !cutter.has_room_for(DOT_BYTES_MAX + put.weight()) {
                    cutter.claim(ix, from, dot.seq() - 1);
                    cutter.close();
                    from = dot.seq() - 1;
                }
                cutter.put(dot, put);
            }
            cutter.claim(ix, from, to);
        }
        cutter.finish()
    }

    /// Its irreducible parts: a live dot each, or a dead one. There are as many as dots are claimed, so this is for
    /// small values and tests; [`Fragment::split`] is for shipping.
    ///
    /// ```
    /// use anabranch_crdt::{Knowledge, Mutation};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into(), "y".into()]))?)?;
    /// here.join_op(&here.mutate(me, 0, &Mutation::Remove(vec!["x".into()]))?)?;
    /// let piece = here.since(&Knowledge::default())?;
    /// let live: Vec<usize> = piece.fragment().decompose().map(|part| part.puts().len()).collect();
    /// assert_eq!(live, [0, 1, 1]); // "x" is dead
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn decompose(&self) -> impl Iterator<Item = Fragment> + '_ {
        let dots = self
            .claims
            .all_runs()
            .flat_map(|(ix, from, to)| (from + 1..=to).map(move |seq| Dot::new(ix, seq)));
        dots.map(|dot| {
            let at = self.puts.binary_search_by_key(&dot, |(dot, _)| *dot);
            Fragment {
                ty: self.ty,
                puts: at.map(|at| self.puts[at].clone()).into_iter().collect(),
                claims: Context::from_iter([dot]),
            }
        })
    }
}

/// Ascending by dot. One dot stands twice only where somebody forged a reset.
fn sort(puts: &mut [(Dot, Put)]) {
    puts.sort_unstable_by(|(a, x), (b, y)| (a, &x.path).cmp(&(b, &y.path)));
}

/// Whether something was reset of a counter's slot.
fn is_reset(payload: &Payload) -> bool {
    matches!(payload, Payload::Count { base, .. } if base.origin().1.is_some())
}

/// Pieces under way.
struct Cutter {
    /// What every piece begins as: nothing.
    new: Fragment,
    bytes_max: usize,
    bytes: usize,
    piece: Fragment,
    done: Vec<Fragment>,
}

impl Cutter {
    fn new(ty: Type, bytes_max: usize, whole: Context) -> Cutter {
        let new = Fragment {
            ty,
            puts: Vec::new(),
            claims: whole,
        };
        Cutter {
            bytes_max,
            bytes: HEAD_BYTES,
            piece: new.clone(),
            new,
            done: Vec::new(),
        }
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        // A piece claims its puts last.
        let is_new = self.piece.puts.is_empty() && self.piece.is_empty();
        is_new || self.bytes + bytes <= self.bytes_max
    }

    /// Begins another piece if so much does not fit.
    fn room_for(&mut self, bytes: usize) {
        if !self.piece.is_empty() && self.bytes + bytes > self.bytes_max {
            self.close();
        }
        self.bytes += bytes;
    }

    fn put(&mut self, dot: Dot, put: Put) {
        self.bytes += DOT_BYTES_MAX + put.weight();
        self.piece.puts.push((dot, put));
    }

    fn claim(&mut self, ix: crate::ReplicaIx, from: u64, to: u64) {
        self.piece.claims.insert_run(ix, from, to);
    }

    fn close(&mut self) {
        let done = core::mem::replace(&mut self.piece, self.new.clone());
        if !done.is_empty() {
            self.done.push(done);
        }
        self.bytes = HEAD_BYTES + RUN_BYTES;
    }

    fn finish(mut self) -> Vec<Fragment> {
        self.close();
        self.done
    }
}

/// Joins a fragment. Live dots it does not carry are looked for only if it claims dots this side has seen: a value
/// that lacks all of it pays for the fragment alone.
pub(crate) fn join<V: View>(view: &mut V, env: &Env<'_>, seen: &Context, fragment: &Fragment) -> Changed {
    let mut ledger = Ledger::new(env, view.digest());
    if seen.intersects(&fragment.claims) {
        let gone: Vec<Entry> = view
            .store()
            .entries()
            .filter(|(_, dot, payload)| {
                // What waits stays: they may have the slot with a later increment that knows nothing of the reset.
                payload.is_live(*dot) && fragment.claims.contains(*dot) && !fragment.carries(*dot)
            })
            .collect();
        for (path, dot, _) in gone {
            let kill = Kill::of(path, dot);
            ledger.note(&kill.path, view.store_mut().0.kill(&kill, true), None, None);
        }
    }
    for (dot, put) in &fragment.puts {
        if view::stays(*dot, seen) {
            let shift = view.insert(&put.path, *dot, &put.payload);
            ledger.note(&put.path, shift, Some(&put.payload), None);
        } else if let Payload::Count { base, .. } = put.payload
            && let (seq, reset @ Some(_)) = base.origin()
        {
            // They know of a reset. If the slot is gone here, it was of no use any more.
            let kill = Kill {
                path: put.path.clone(),
                dot: Dot::new(dot.ix(), seq),
                reset,
            };
            ledger.note(&put.path, view.store_mut().0.kill(&kill, true), None, None);
        }
    }
    *view.store_mut().1 = ledger.sum;
    ledger.finish()
}

//! The bytes of values, and of what travels between them.
//!
//! One form for the wire, for the disk and for comparing: dots as distances and runs, places front-coded, neighbours of
//! one kind together. The same things take the same bytes; what is to be *canonical* besides is put in order first.
//!
//! Not here: frames, checksums, compression, versions of a protocol: who ships or stores these bytes has those.
//!
//! Contract: whatever the bytes, decoding neither panics nor changes anything when it refuses, and what it allocates is
//! bounded by a fixed multiple of their number.

mod context;
mod dots;
mod octets;
mod parts;
mod paths;
mod payloads;
mod puts;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::causal::{Knowledge, Op, Piece};
use crate::delta::{Delta, Payload, Put};
use crate::dot::Dot;
use crate::fragment::Fragment;
use crate::id::ReplicaId;
use crate::kind::Type;
use crate::replicas::{REPLICAS_MAX, ReplicaIx, Replicas, ReplicasFull};
use crate::value::{Env, Value};
use crate::{HashKey, VersionVector};
use octets::{Reader, put_number};

/// The first byte of everything that stands alone. A change of any form needs another.
const VERSION: u8 = 3;

/// The bytes were refused; nothing was changed. Reading them again is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early, or claim to hold more than they do.
    #[error("the bytes end before what they announce")]
    CutShort,
    /// Something stands behind the end.
    #[error("{0} bytes too many")]
    TooLong(usize),
    /// A number that is too large, or not in its shortest form.
    #[error("a number is malformed")]
    Number,
    /// Another version of the form.
    #[error("version {0} of the form, this is {VERSION}; is the other side newer?")]
    Version(u8),
    /// A type that is not known.
    #[error("type {0} is unknown; is the other side newer?")]
    Type(u8),
    /// A payload that is not known.
    #[error("payload {0} is unknown; is the other side newer?")]
    Payload(u8),
    /// A replica that is not in the table.
    #[error("replica index {index} of a table of {table}")]
    Replica {
        /// Its index.
        index: u64,
        /// How many the table has.
        table: usize,
    },
    /// A table of replicas that names one twice, or too many.
    #[error("a table of replicas that is malformed")]
    Table,
    /// A sequence that no dot can have.
    #[error("a sequence out of range")]
    Sequence,
    /// A place that does not follow from the one before.
    #[error("a place is malformed")]
    Path,
    /// A put that the type, or its dot, cannot have.
    #[error("a {ty} does not hold what operation {seq} puts")]
    Misfit {
        /// The value's type.
        ty: Type,
        /// The put's sequence.
        seq: u64,
    },
    /// A dot stands twice, is not claimed, or kills itself; or a replica has two slots in one counter.
    #[error("operation {seq} is out of place")]
    Misplaced {
        /// Its sequence.
        seq: u64,
    },
    /// The bytes of a value that has others.
    #[error("not the bytes that this value has")]
    NotCanonical,
    /// There are more replicas than a table can hold.
    #[error(transparent)]
    Replicas(#[from] ReplicasFull),
}

/// Appends live dots and what they put, under a table of so many replicas. Smallest where they are in the order of
/// [`Value::kept`].
///
/// ```
/// use anabranch_crdt::{decode_puts, encode_puts, Dot, Path, Payload, Put, ReplicaIx, Type};
///
/// let put = Put { path: Path::Element("x".into()), payload: Payload::Present };
/// let puts = vec![(Dot::new(ReplicaIx(0), 7), put)];
/// let mut bytes = Vec::new();
/// encode_puts(&mut bytes, 1, &puts);
/// assert_eq!(decode_puts(&bytes, Type::OrSet, 1)?, puts);
/// # Ok::<(), anabranch_crdt::DecodeError>(())
/// ```
///
/// # Panics
///
/// If a dot is not of the table.
pub fn encode_puts(out: &mut Vec<u8>, replicas: usize, puts: &[(Dot, Put)]) {
    let dots: Vec<Dot> = puts.iter().map(|(dot, _)| *dot).collect();
    let places: Vec<&Put> = puts.iter().map(|(_, put)| put).collect();
    write_dots_and_puts(out, replicas, &dots, &places);
}

/// Reads what [`encode_puts`] wrote, all of it, for a value of this type.
///
/// # Errors
///
/// [`DecodeError`].
pub fn decode_puts(bytes: &[u8], ty: Type, replicas: usize) -> Result<Vec<(Dot, Put)>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let puts = read_puts(&mut reader, ty, replicas)?;
    reader.end()?;
    check_state(&puts)?;
    Ok(puts)
}

/// That these can be puts of one state: no dot is alive twice, and no replica has two slots in one counter.
fn check_state(puts: &[(Dot, Put)]) -> Result<(), DecodeError> {
    let live = puts.iter().filter(|(dot, put)| put.payload.is_live(*dot));
    let mut dots: Vec<Dot> = live.map(|(dot, _)| *dot).collect();
    dots.sort_unstable();
    let twice = dots
        .windows(2)
        .find(|pair| pair[0] == pair[1])
        .map(|pair| pair[0]);
    let mut slots = BTreeSet::new();
    let counts = |(_, put): &&(Dot, Put)| matches!(put.payload, Payload::Count { .. });
    let again = puts
        .iter()
        .filter(counts)
        .find(|(dot, put)| !slots.insert((&put.path, dot.ix())));
    match twice.or(again.map(|(dot, _)| *dot)) {
        Some(dot) => Err(DecodeError::Misplaced { seq: dot.seq() }),
        None => Ok(()),
    }
}

fn write_dots_and_puts(out: &mut Vec<u8>, replicas: usize, dots: &[Dot], puts: &[&Put]) {
    assert!(
        dots.iter().all(|dot| dot.ix().at() < replicas),
        "a dot that is not of a table of {replicas}"
    );
    // A reader takes no more puts than there are bytes: those that take none beside their dots have their dots one by
    // one.
    let has_runs = puts.iter().all(|put| !paths::Shape::of(&put.path).is_root());
    put_number(out, (puts.len() as u64) << 1 | u64::from(has_runs));
    let mut writer = dots::DotWriter::new(replicas);
    if has_runs {
        writer.all(out, dots);
    } else {
        for dot in dots {
            writer.one(out, *dot);
        }
    }
    puts::write(out, puts);
}

fn read_puts(reader: &mut Reader<'_>, ty: Type, replicas: usize) -> Result<Vec<(Dot, Put)>, DecodeError> {
    let head = reader.number()?;
    let count = usize::try_from(head >> 1).unwrap_or(usize::MAX);
    if count > reader.left() {
        return Err(DecodeError::CutShort);
    }
    let mut dot_reader = dots::DotReader::new(replicas);
    let dots = if head & 1 == 1 {
        dot_reader.all(reader, count)?
    } else {
        let one = |_| dot_reader.one(reader).map(|(dot, _)| dot);
        (0..count).map(one).collect::<Result<_, _>>()?
    };
    let puts: Vec<(Dot, Put)> = dots.into_iter().zip(puts::read(reader, count)?).collect();
    match puts
        .iter()
        .find(|(dot, put)| !ty.admits(put) || !put.payload.fits(*dot))
    {
        Some((dot, _)) => Err(DecodeError::Misfit { ty, seq: dot.seq() }),
        None => Ok(puts),
    }
}

fn read_version(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    match reader.byte()? {
        VERSION => Ok(()),
        other => Err(DecodeError::Version(other)),
    }
}

fn read_type(reader: &mut Reader<'_>) -> Result<Type, DecodeError> {
    let id = reader.byte()?;
    Type::from_id(id).ok_or(DecodeError::Type(id))
}

/// Appends the ids of a table.
fn write_table(out: &mut Vec<u8>, ids: impl ExactSizeIterator<Item = ReplicaId>) {
    put_number(out, ids.len() as u64);
    ids.for_each(|id| payloads::write_replica(out, id));
}

fn read_table(reader: &mut Reader<'_>) -> Result<Vec<ReplicaId>, DecodeError> {
    let count = reader.count(payloads::REPLICA_BYTES)?;
    if count > REPLICAS_MAX {
        return Err(DecodeError::Table);
    }
    (0..count).map(|_| payloads::read_replica(reader)).collect()
}

/// The ids by index.
fn ids(replicas: &Replicas) -> impl ExactSizeIterator<Item = ReplicaId> + '_ {
    (0..replicas.len()).map(|at| replicas.id(ReplicaIx(at as u16)))
}

/// A table of its own for what was read.
fn table(ids: &[ReplicaId]) -> Result<Replicas, DecodeError> {
    let mut replicas = Replicas::new();
    for id in ids {
        replicas.intern(*id)?;
    }
    if replicas.len() == ids.len() {
        Ok(replicas)
    } else {
        Err(DecodeError::Table)
    }
}

impl Value {
    /// The bytes of the live state: equal exactly when type and live state are, whatever the replica tables look like.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Epoch, HashKey, Mutation, NodeId, ReplicaId, Replicas, Type, Value};
    ///
    /// let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut set = Causal::new(Type::OrSet);
    /// set.join_op(&set.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
    /// let bytes = set.canonical_bytes();
    /// let mut replicas = Replicas::new();
    /// let copy = Value::from_canonical_bytes(&bytes, &mut replicas, &HashKey([0; 16]))?;
    /// assert_eq!(copy.canonical_bytes(&replicas), bytes);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn canonical_bytes(&self, replicas: &Replicas) -> Vec<u8> {
        let mut puts: Vec<(Dot, Put)> = self.puts().collect();
        let mut used = VersionVector::new();
        for (dot, _) in &puts {
            used.advance(dot.ix(), 1);
        }
        // Ascending by full id, and so the dots under one place.
        let used: Vec<(ReplicaIx, ReplicaId)> = replicas.iter().filter(|(ix, _)| used.get(*ix) > 0).collect();
        let mut new_ix = alloc::vec![ReplicaIx(0); replicas.len()];
        for (at, (ix, _)) in used.iter().enumerate() {
            new_ix[ix.at()] = ReplicaIx(at as u16);
        }
        for (dot, _) in &mut puts {
            *dot = Dot::new(new_ix[dot.ix().at()], dot.seq());
        }
        // Of one place only the dots can be out of order.
        for alike in puts.chunk_by_mut(|(_, a), (_, b)| a.path == b.path) {
            crate::planted!(
                "canonical_order_of_arrival",
                (),
                alike.sort_unstable_by_key(|(dot, _)| *dot)
            );
        }
        let mut out = alloc::vec![VERSION, self.ty().id()];
        write_table(&mut out, used.iter().map(|(_, id)| *id));
        encode_puts(&mut out, used.len(), &puts);
        out
    }

    /// The value with these bytes, and a digest under `key`. The table grows by the replicas it lacks.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; of several forms that say the same only the one that [`Value::canonical_bytes`] makes is taken.
    pub fn from_canonical_bytes(
        bytes: &[u8],
        replicas: &mut Replicas,
        key: &HashKey,
    ) -> Result<Value, DecodeError> {
        let mut reader = Reader::new(bytes);
        read_version(&mut reader)?;
        let ty = read_type(&mut reader)?;
        let ids = read_table(&mut reader)?;
        let own = table(&ids)?;
        let puts = read_puts(&mut reader, ty, ids.len())?;
        reader.end()?;
        check_state(&puts)?;
        let env = Env { replicas: &own, key };
        let value = Value::from_puts(&env, ty, puts);
        if value.canonical_bytes(&own) != bytes {
            return Err(DecodeError::NotCanonical);
        }
        replicas.check_room(&own)?;
        Ok(crate::translate::value(&value, &own, replicas, key)?)
    }
}

impl Delta {
    /// Appends the delta's bytes, under a table of so many replicas, which whoever reads them must have too.
    ///
    /// # Panics
    ///
    /// If a dot is not of the table.
    pub fn encode(&self, replicas: usize, out: &mut Vec<u8>) {
        parts::write(out, self, replicas);
    }

    /// The delta with these bytes, under a table of so many replicas.
    ///
    /// ```
    /// use anabranch_crdt::*;
    ///
    /// let mut replicas = Replicas::new();
    /// let me = replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
    /// let issuer = Issuer { replicas: &replicas, me, next_seq: 1, stamp: 0, inherits: None };
    /// let delta = Value::new(Type::OrSet).mutate(&issuer, &Mutation::Add(vec!["8 bytes!".into()]))?;
    /// let mut bytes = Vec::new();
    /// delta.encode(1, &mut bytes);
    /// assert_eq!((bytes.len(), Delta::decode(&bytes, 1)?), (14, delta));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8], replicas: usize) -> Result<Delta, DecodeError> {
        let mut reader = Reader::new(bytes);
        let delta = parts::read(&mut reader, replicas)?;
        reader.end()?;
        Ok(delta)
    }
}

impl Op {
    /// The operation's bytes, with its table.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = alloc::vec![VERSION];
        write_table(&mut out, ids(self.replicas()));
        self.delta().encode(self.replicas().len(), &mut out);
        out
    }

    /// The operation with these bytes.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Epoch, Mutation, NodeId, Op, ReplicaId, Type};
    ///
    /// let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut here = Causal::new(Type::PnCounter);
    /// let mut there = here.clone();
    /// let op = here.mutate(me, 0, &Mutation::Increment(5))?;
    /// here.join_op(&op)?;
    /// there.join_op(&Op::decode(&op.encode())?)?;
    /// assert_eq!(here, there);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Op, DecodeError> {
        let mut reader = Reader::new(bytes);
        read_version(&mut reader)?;
        let ids = read_table(&mut reader)?;
        let delta = Delta::decode(reader.rest(), ids.len())?;
        Ok(Op::new(table(&ids)?, delta))
    }
}

impl Piece {
    /// The piece's bytes, with its table.
    pub fn encode(&self) -> Vec<u8> {
        let fragment = self.fragment();
        let mut out = alloc::vec![VERSION, fragment.ty().id()];
        write_table(&mut out, ids(self.replicas()));
        fragment.encode(self.replicas().len(), &mut out);
        out
    }

    /// The piece with these bytes.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Epoch, Mutation, NodeId, Piece, ReplicaId, Type};
    ///
    /// let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut here = Causal::new(Type::OrSet);
    /// let mut there = here.clone();
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into(), "y".into()]))?)?;
    /// let bytes = here.since(&there.knowledge())?.encode();
    /// there.join_piece(&Piece::decode(&bytes)?)?;
    /// assert_eq!(here, there);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Piece, DecodeError> {
        let mut reader = Reader::new(bytes);
        read_version(&mut reader)?;
        let ty = read_type(&mut reader)?;
        let ids = read_table(&mut reader)?;
        let fragment = Fragment::decode(reader.rest(), ty, ids.len())?;
        Ok(Piece::new(table(&ids)?, fragment))
    }
}

impl Fragment {
    /// Appends the fragment's bytes, under a table of so many replicas; its type is not among them.
    ///
    /// # Panics
    ///
    /// If a dot is not of the table.
    pub fn encode(&self, replicas: usize, out: &mut Vec<u8>) {
        context::write(out, self.claims());
        let mut puts = self.puts().to_vec();
        puts.sort_by(|(a, x), (b, y)| (&x.path, a).cmp(&(&y.path, b)));
        encode_puts(out, replicas, &puts);
    }

    /// The fragment with these bytes, of a value of this type, under a table of so many replicas.
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8], ty: Type, replicas: usize) -> Result<Fragment, DecodeError> {
        let mut reader = Reader::new(bytes);
        let claims = context::read(&mut reader, replicas)?;
        let puts = read_puts(&mut reader, ty, replicas)?;
        reader.end()?;
        check_state(&puts)?;
        match puts.iter().find(|(dot, _)| !claims.contains(*dot)) {
            Some((dot, _)) => Err(DecodeError::Misplaced { seq: dot.seq() }),
            None => Ok(Fragment::from_parts(ty, puts, claims)),
        }
    }
}

impl Knowledge {
    /// The bytes of what was seen, with their table.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = alloc::vec![VERSION];
        write_table(&mut out, ids(self.replicas()));
        context::write(&mut out, self.seen());
        out
    }

    /// What these bytes say was seen.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Knowledge, Type};
    ///
    /// let nothing = Causal::new(Type::Flag).knowledge();
    /// assert!(Knowledge::decode(&nothing.encode())?.seen().is_empty());
    /// # Ok::<(), anabranch_crdt::DecodeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Knowledge, DecodeError> {
        let mut reader = Reader::new(bytes);
        read_version(&mut reader)?;
        let ids = read_table(&mut reader)?;
        let seen = context::read(&mut reader, ids.len())?;
        reader.end()?;
        Ok(Knowledge::new(table(&ids)?, seen))
    }
}

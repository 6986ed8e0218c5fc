//! Session tokens: what a caller has seen, for nodes that may be behind.
//!
//! Contract: a token names operations, never values; a replica that covers them all shows their effects or those of what
//! superseded them. Joining is the only change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use anabranch_crdt::{Epoch, NodeId, ReplicaId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base64;
use crate::error::Error;
use crate::wire::ids::ShardId;
use crate::wire::interval::WireReplica;

/// A token is at most this long as text.
pub const TOKEN_TEXT_BYTES_MAX: usize = 256 << 10;

/// The first byte of a token's bytes in the plain form, which every version reads.
const PLAIN: u8 = 1;
/// And in the short form, which is read since 2026-12 and takes a third: for tokens whose plain form is longer than this, which as text
/// is about what a header takes that clients take. Shorter ones are read by nodes of every version.
const SHORT: u8 = 2;
const PLAIN_BYTES_MAX: usize = 5 << 10;

/// What a session has seen: for shards it has read or written, operations by their replica and sequence.
///
/// Every answer to an update or a read carries one. Given back with the next request, at whichever node, it makes that node
/// show at least as much: it waits for what it lacks, and says [`Stale`](crate::ErrorKind::Stale) where that does not come
/// in time. So a session reads its own writes, and never an older state than it has read before. It holds a number for each
/// shard that the session touched and each run of a node that wrote there: a long one some 6 bytes a run and 3 a number.
///
/// Its text ([`Display`](fmt::Display), [`FromStr`]) is for headers and files: opaque, and of the version that wrote it.
///
/// ```
/// use anabranch::Token;
///
/// let token = Token::default();
/// assert!(token.is_empty());
/// assert_eq!(token.to_string().parse::<Token>()?, token);
/// assert!("no token".parse::<Token>().is_err());
/// # Ok::<(), anabranch::TokenError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Token {
    /// Ascending, each shard and replica once: most have one or two.
    seen: Vec<((ShardId, ReplicaId), u64)>,
}

/// The text is no token of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a session token that this version of Anabranch made")]
pub struct TokenError;

/// The short form of its bytes after the version: runs by node and time, each told by how much later it is than the one before.
#[derive(Serialize, Deserialize)]
struct ShortToken {
    /// Ascending; each with its runs, ascending: the epoch's milliseconds above those of the run before, and its lowest 16 bits.
    nodes: Vec<(u128, Vec<(u64, u16)>)>,
    /// Ascending; each with what was seen of it, ascending by run: how many runs were skipped, and the sequence.
    shards: Vec<(u32, Vec<(u16, u64)>)>,
}

/// The plain form of its bytes after the version.
#[derive(Serialize, Deserialize)]
struct WireToken {
    replicas: Vec<WireReplica>,
    shards: Vec<(u32, Vec<(u16, u64)>)>,
}

impl Token {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Takes in what another session has seen, or another answer to this one.
    ///
    /// ```
    /// # use anabranch::Token;
    /// let (mut mine, yours) = (Token::default(), Token::default());
    /// mine.join(&yours); // from here on I read what you have written
    /// ```
    pub fn join(&mut self, other: &Token) {
        if let [((shard, replica), seq)] = other.seen[..] {
            return self.insert(shard, replica, seq);
        }
        let mut all = std::mem::take(&mut self.seen);
        all.extend(&other.seen);
        *self = Token::of_all(all);
    }

    /// In whatever order.
    fn of_all(mut all: Vec<((ShardId, ReplicaId), u64)>) -> Token {
        all.sort();
        // The largest of one replica comes last.
        all.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 = next.1;
            }
            is_same
        });
        Token { seen: all }
    }

    /// An operation was seen, and all of its replica before it.
    pub(crate) fn insert(&mut self, shard: ShardId, replica: ReplicaId, seq: u64) {
        let name = (shard, replica);
        match self.seen.binary_search_by_key(&name, |(name, _)| *name) {
            Ok(at) => self.seen[at].1 = seq.max(self.seen[at].1),
            Err(at) => self.seen.insert(at, (name, seq)),
        }
    }

    /// What was seen, by shard and replica, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (ShardId, ReplicaId, u64)> + '_ {
        self.seen
            .iter()
            .map(|&((shard, replica), seq)| (shard, replica, seq))
    }

    /// What was seen of a shard.
    pub(crate) fn of(&self, shard: ShardId) -> impl Iterator<Item = (ReplicaId, u64)> + '_ {
        let first = self.seen.partition_point(|((of, _), _)| *of < shard);
        let from = self.seen[first..].iter();
        from.take_while(move |((of, _), _)| *of == shard)
            .map(|&((_, replica), seq)| (replica, seq))
    }

    fn to_wire(&self) -> WireToken {
        let mut index: BTreeMap<ReplicaId, u16> = BTreeMap::new();
        let mut wire = WireToken {
            replicas: Vec::new(),
            shards: Vec::new(),
        };
        for (shard, replica, seq) in self.iter() {
            let next = wire.replicas.len() as u16;
            let ix = *index.entry(replica).or_insert_with(|| {
                wire.replicas.push(WireReplica {
                    node: replica.node.0,
                    epoch: replica.epoch.0,
                });
                next
            });
            match wire.shards.last_mut() {
                Some((last, seen)) if *last == shard.0 => seen.push((ix, seq)),
                _ => wire.shards.push((shard.0, vec![(ix, seq)])),
            }
        }
        wire
    }

    fn from_wire(wire: &WireToken) -> Option<Token> {
        let mut all = Vec::new();
        for (shard, seen) in &wire.shards {
            for (ix, seq) in seen {
                let replica = wire.replicas.get(usize::from(*ix))?;
                let replica = ReplicaId::new(NodeId(replica.node), Epoch(replica.epoch));
                all.push(((ShardId(*shard), replica), *seq));
            }
        }
        Some(Token::of_all(all))
    }

    fn to_short(&self) -> ShortToken {
        let runs: BTreeSet<ReplicaId> = self.iter().map(|(_, replica, _)| replica).collect();
        let places: BTreeMap<ReplicaId, usize> = runs.iter().enumerate().map(|(i, run)| (*run, i)).collect();
        let mut short = ShortToken {
            nodes: Vec::new(),
            shards: Vec::new(),
        };
        let mut last_ms = 0;
        for run in runs {
            let (ms, low) = (run.epoch.0 >> 16, run.epoch.0 as u16);
            match short.nodes.last_mut() {
                Some((node, of_it)) if *node == run.node.0 => of_it.push((ms - last_ms, low)),
                _ => short.nodes.push((run.node.0, vec![(ms, low)])),
            }
            last_ms = ms;
        }
        let mut next = 0;
        for (shard, replica, seq) in self.iter() {
            if short.shards.last().is_none_or(|(last, _)| *last != shard.0) {
                short.shards.push((shard.0, Vec::new()));
                next = 0;
            }
            let place = places[&replica];
            if let Some((_, seen)) = short.shards.last_mut() {
                seen.push(((place - next) as u16, seq));
            }
            next = place + 1;
        }
        short
    }

    fn from_short(short: &ShortToken) -> Option<Token> {
        let mut runs = Vec::new();
        for (node, of_it) in &short.nodes {
            let mut ms = 0_u64;
            for (later, low) in of_it {
                ms = ms.checked_add(*later).filter(|ms| *ms < 1 << 48)?;
                runs.push(ReplicaId::new(NodeId(*node), Epoch(ms << 16 | u64::from(*low))));
            }
        }
        let mut all = Vec::new();
        for (shard, seen) in &short.shards {
            let mut next = 0;
            for (skipped, seq) in seen {
                let place = next + usize::from(*skipped);
                all.push(((ShardId(*shard), *runs.get(place)?), *seq));
                next = place + 1;
            }
        }
        Some(Token::of_all(all))
    }
}

/// A version and what is written in it.
fn written(version: u8, form: &impl Serialize) -> Vec<u8> {
    let Ok(bytes) = postcard::to_extend(form, vec![version]) else {
        unreachable!("a vector takes whatever is written into it");
    };
    bytes
}

/// What is written there, whole.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, TokenError> {
    match postcard::take_from_bytes(body) {
        Ok((form, [])) => Ok(form),
        _ => Err(TokenError),
    }
}

impl Token {
    /// What a session has seen with an update or a call that was accepted although this error came back: that its level was not
    /// confirmed in time takes nothing back. Nothing where the session has seen no more than before, or nobody knows.
    ///
    /// ```
    /// use anabranch::{Error, ErrorKind, Token};
    ///
    /// let refused = Error::new(ErrorKind::Overloaded, "nothing changed: a queue is full");
    /// assert_eq!(Token::of_error(&refused), None);
    /// ```
    pub fn of_error(error: &Error) -> Option<Token> {
        Token::from_bytes(error.session()?).ok()
    }

    /// The error of whoever has seen this with it.
    pub(crate) fn within(&self, error: Error) -> Error {
        error.with_session(self.to_bytes())
    }

    /// Its bytes, of which the text is the base64 form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let plain = written(PLAIN, &self.to_wire());
        if plain.len() <= PLAIN_BYTES_MAX {
            return plain;
        }
        written(SHORT, &self.to_short())
    }

    /// The token of these bytes.
    ///
    /// ```
    /// use anabranch::Token;
    /// let token = Token::default();
    /// assert_eq!(Token::from_bytes(&token.to_bytes()), Ok(token));
    /// assert!(Token::from_bytes(b"something else").is_err());
    /// ```
    ///
    /// # Errors
    /// The bytes are not a token.
    pub fn from_bytes(bytes: &[u8]) -> Result<Token, TokenError> {
        let token = match bytes.split_first() {
            Some((&PLAIN, body)) => Token::from_wire(&read(body)?),
            Some((&SHORT, body)) => Token::from_short(&read(body)?),
            _ => None,
        };
        token.ok_or(TokenError)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        base64::encode(&mut text, &self.to_bytes());
        f.write_str(&text)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Token, TokenError> {
        if text.len() > TOKEN_TEXT_BYTES_MAX {
            return Err(TokenError);
        }
        Token::from_bytes(&base64::decode(text).ok_or(TokenError)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replica(node: u128) -> ReplicaId {
        ReplicaId::new(NodeId(node), Epoch(7))
    }

    #[test]
    fn its_text_is_what_it_always_was() {
        let mut token = Token::default();
        assert_eq!(token.to_string(), "AQAA");
        token.insert(ShardId(3), replica(0x0102), 300);
        token.insert(ShardId(3), replica(1), 2);
        token.insert(ShardId(900), replica(1), 5);
        let text = token.to_string();
        assert_eq!(text, "AQIBB4ICBwIDAgACAawChAcBAAU=");
        assert_eq!(text.parse(), Ok(token));
    }

    /// As tokens are: ids of 128 random bits, epochs in milliseconds, and some hundred operations a shard and run.
    fn seen(shards: u32, runs: u64) -> Token {
        let mut token = Token::default();
        for shard in 0..shards {
            for node in 1..=3u128 {
                for run in 0..runs {
                    let id = NodeId(node.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
                    let epoch = Epoch((1_764_400_000_000 + run * 86_400_000) << 16);
                    token.insert(ShardId(shard), ReplicaId::new(id, epoch), 300 + u64::from(shard));
                }
            }
        }
        token
    }

    /// What names of runs take of it.
    fn names(token: &Token) -> usize {
        postcard::to_extend(&token.to_wire().replicas, Vec::new())
            .unwrap()
            .len()
    }

    #[test]
    fn a_token_is_small() {
        // Of three nodes, by how many shards a session has touched and how often each node was started anew.
        for (shards, runs, most) in [
            (1, 1, 100),
            (1, 10, 950),
            (1, 200, 4_900),
            (10, 1, 200),
            (100, 1, 1_300),
            (1_024, 1, 14_000),
        ] {
            let token = seen(shards, runs);
            let (bytes, text) = (token.to_bytes().len(), token.to_string().len());
            println!(
                "{shards} shards, {runs} runs of 3 nodes: {bytes} bytes, {} of them names of runs; {text} as text",
                names(&token)
            );
            assert!(bytes <= most && text < 4 * most / 3 + 4, "{bytes} {text}");
            assert!(text <= TOKEN_TEXT_BYTES_MAX);
        }
        // A token that named who is known to have all would be no smaller than what it is mostly used for.
        let one = seen(1, 1);
        assert!(4 * names(&one) > 3 * one.to_bytes().len());
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for bad in [
            "",
            "A",
            "AQ==",
            "AwAA",
            "AgAAAA==",
            "AQAAAA==",
            "AQABAwEAAQ==",
            "\u{fffd}",
        ] {
            assert_eq!(bad.parse::<Token>(), Err(TokenError), "{bad}");
        }
        let long = "A".repeat(TOKEN_TEXT_BYTES_MAX + 4);
        assert_eq!(long.parse::<Token>(), Err(TokenError));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut text = String::new();
            for version in [PLAIN, SHORT] {
                text.clear();
                base64::encode(&mut text, &[&[version], &bytes[..]].concat());
                if let Ok(token) = text.parse::<Token>() {
                    prop_assert_eq!(Token::from_bytes(&written(SHORT, &token.to_short())), Ok(token));
                }
            }
        }

        #[test]
        fn to_join_is_to_insert_all(sides in prop::array::uniform2(prop::collection::vec((0u32..3, 0u128..3, 0u64..5), 0..6))) {
            let mut tokens = [Token::default(), Token::default(), Token::default()];
            for (i, (shard, node, seq)) in (0..2).flat_map(|i| sides[i].iter().map(move |seen| (i, *seen))) {
                tokens[i].insert(ShardId(shard), replica(node), seq);
                tokens[2].insert(ShardId(shard), replica(node), seq);
            }
            let [mut one, other, all] = tokens;
            one.join(&other);
            prop_assert_eq!(&one, &all);
            let of = |shard| all.iter().filter(move |(of, ..)| *of == shard).map(|(_, replica, seq)| (replica, seq));
            for shard in (0..4).map(ShardId) {
                prop_assert!(all.of(shard).eq(of(shard)));
            }
        }

        #[test]
        fn a_token_reads_back(seen in prop::collection::vec((0u32..5, 0u128..4, any::<u64>()), 0..20)) {
            let mut token = Token::default();
            for (shard, node, seq) in seen {
                token.insert(ShardId(shard), replica(node), seq);
            }
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        #[test]
        fn a_short_token_reads_back(seen in prop::collection::vec((0u32..5, 0u128..4, any::<u64>(), any::<u64>()), 0..60)) {
            let mut token = Token::default();
            for (shard, node, epoch, seq) in seen {
                token.insert(ShardId(shard), ReplicaId::new(NodeId(node), Epoch(epoch)), seq);
            }
            prop_assert_eq!(Token::from_bytes(&written(SHORT, &token.to_short())), Ok(token));
        }
    }
}

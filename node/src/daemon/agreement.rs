//! Whether nodes hold the same: their shards compared by version vector and fingerprint.
//!
//! Contract: equal version vectors with different fingerprints are damage, never a matter of time; different version
//! vectors are nodes that have not caught up with each other yet. Under writes that never pause they are so at every moment: then
//! it is enough that each node has all that any had a while before ([`KEPT_UP`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::api::{ShardBody, SummariesBody};
use super::client::Client;
use super::exit::Failure;
use super::output::plural;
use crate::terms::millis;

/// How long one node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The same where no time is left: who looks at all must be able to see something.
pub const ANSWER_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// Between two looks at nodes that do not agree yet. They report no event that spans them.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whoever keeps up with writes that never pause has what anybody had so long before. (Where less time is given, at the first look.)
pub const KEPT_UP: Duration = Duration::from_secs(2);

/// One node and what it holds.
pub struct Holding {
    /// Where it was asked.
    pub address: String,
    /// Its answer.
    pub summaries: SummariesBody,
}

/// One way in which nodes differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "difference", rename_all = "snake_case")]
pub enum Difference {
    /// A node has not seen what another one has.
    Behind {
        /// In which shard.
        shard: u32,
        /// Which node.
        node: String,
        /// Who has it.
        than: String,
        /// How many operations it lacks.
        operations: u64,
    },
    /// Two nodes have seen the same and hold different things.
    Damage {
        /// In which shard.
        shard: u32,
        /// The nodes.
        nodes: [String; 2],
        /// Their fingerprints.
        fingerprints: [String; 2],
    },
    /// A node has itself met a peer with an equal version vector and a different fingerprint.
    Mismatches {
        /// Which node.
        node: String,
        /// How often since its start.
        count: u64,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Behind {
                shard,
                node,
                than,
                operations,
            } => {
                write!(
                    f,
                    "shard {shard}: {node} lacks {} that {than} has",
                    plural(*operations, "operation")
                )
            }
            Difference::Damage {
                shard,
                nodes: [a, b],
                fingerprints: [x, y],
            } => write!(
                f,
                "shard {shard}: DAMAGE: {a} and {b} have seen the same operations and hold different states \
                 (fingerprints {x} and {y})"
            ),
            Difference::Mismatches { node, count } => {
                write!(
                    f,
                    "{node}: DAMAGE: {} since its start a peer's fingerprint differed at equal version vectors",
                    plural(*count, "time")
                )
            }
        }
    }
}

/// What nodes hold, and how they differ.
pub struct Look {
    /// The nodes.
    pub holdings: Vec<Holding>,
    /// How they differ.
    pub differences: Vec<Difference>,
    /// Shards that kept changing: each node has what any had at the first look, and nothing more of them was compared.
    pub changing: usize,
}

/// Asks all nodes once and compares them. Each may take so long to answer.
async fn look(client: &Client, addresses: &[String], timeout: Duration) -> Result<Look, Failure> {
    let mut asking = tokio::task::JoinSet::new();
    for (i, address) in addresses.iter().cloned().enumerate() {
        let client = client.clone();
        asking.spawn(async move {
            let summaries = client
                .get::<SummariesBody>(&address, "/v1/shards", timeout)
                .await?;
            Ok::<_, Failure>((i, Holding { address, summaries }))
        });
    }
    let mut holdings = Vec::new();
    while let Some(answer) = asking.join_next().await {
        holdings.push(answer.map_err(|e| Failure::new("internal", e.to_string()))??);
    }
    holdings.sort_by_key(|(i, _)| *i);
    let holdings: Vec<Holding> = holdings.into_iter().map(|(_, holding)| holding).collect();
    let differences = compare(&holdings)?;
    check_distinct(&holdings)?;
    Ok(Look {
        holdings,
        differences,
        changing: 0,
    })
}

/// Of which cluster a node is.
pub struct Of {
    /// Where it was asked.
    pub address: String,
    /// Its cluster's name.
    pub cluster: String,
    /// What tells that cluster from others of its name; empty if the node is too old to say.
    pub cluster_id: String,
}

impl Of {
    /// Fails unless both are of one cluster.
    pub fn same(&self, other: &Of) -> Result<(), Failure> {
        let unknown = self.cluster_id.is_empty() || other.cluster_id.is_empty();
        if self.cluster == other.cluster && (unknown || self.cluster_id == other.cluster_id) {
            return Ok(());
        }
        let message = format!(
            "{} is of cluster {:?} ({}) and {} of cluster {:?} ({}): nodes of different clusters",
            self.address, self.cluster, self.cluster_id, other.address, other.cluster, other.cluster_id
        );
        Err(Failure::new("identity", message))
    }
}

/// Fails if two addresses are the same node's: it would agree with itself.
fn check_distinct(holdings: &[Holding]) -> Result<(), Failure> {
    for (i, holding) in holdings.iter().enumerate() {
        let same = |other: &&Holding| other.summaries.id == holding.summaries.id;
        if let Some(other) = holdings[..i].iter().find(same) {
            return Err(Failure::usage(format!(
                "{} and {} are the same node, {}: name each node once, and at least two",
                other.address, holding.address, holding.summaries.node
            )));
        }
    }
    Ok(())
}

/// Looks until the nodes agree or the time is over, and returns the last look. A node that stands still holds it up no longer
/// than that, but for [`ANSWER_TIMEOUT_MIN`].
///
/// Where writes never pause, the last look finds them to agree if by then each has what any had a while before ([`KEPT_UP`]).
pub async fn within(client: &Client, addresses: &[String], wait: Duration) -> Result<Look, Failure> {
    let deadline = Instant::now() + wait;
    let mut before: VecDeque<(Instant, Look)> = VecDeque::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // In whole milliseconds: it is told to people.
        let left = Duration::from_millis(millis(left) + 1);
        let timeout = left.clamp(ANSWER_TIMEOUT_MIN, ANSWER_TIMEOUT);
        let looked = look(client, addresses, timeout).await;
        let over = Instant::now() >= deadline;
        match looked {
            Ok(look) if look.differences.is_empty() || look.is_damaged() => return Ok(look),
            Ok(look) if over => {
                return Ok(match before.front() {
                    Some((_, earlier)) => look.since(&earlier.holdings),
                    None => look,
                });
            }
            Ok(look) => {
                let now = Instant::now();
                if before
                    .back()
                    .is_none_or(|(at, _)| now.duration_since(*at) >= KEPT_UP / 8)
                {
                    before.push_back((now, look));
                }
                // The first that is left is the latest of those that are old enough, if any is.
                while before
                    .get(1)
                    .is_some_and(|(at, _)| now.duration_since(*at) >= KEPT_UP)
                {
                    before.pop_front();
                }
            }
            Err(failure) if over || !failure.may_retry() => return Err(failure),
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_EVERY.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

impl Look {
    /// Whether there is damage: no later look takes that back.
    fn is_damaged(&self) -> bool {
        let mut all = self.differences.iter();
        all.any(|difference| matches!(difference, Difference::Damage { .. }))
    }

    /// The same where only that counts as missing that somebody had at an earlier look.
    fn since(self, earlier: &[Holding]) -> Look {
        let had = at_most(earlier);
        let nothing = BTreeMap::new();
        let mut changing = BTreeSet::new();
        let mut differences = self.differences;
        differences.retain(|difference| {
            let Difference::Behind { shard, node, .. } = difference else {
                return true;
            };
            let behind = self.holdings.iter().find(|holding| name(holding) == *node);
            let mine = behind.and_then(|holding| holding.summaries.shards.iter().find(|s| s.shard == *shard));
            let lacks = lacking_of(mine, had.get(shard).unwrap_or(&nothing)) > 0;
            if !lacks {
                changing.insert(*shard);
            }
            lacks
        });
        Look {
            differences,
            changing: changing.len(),
            ..self
        }
    }
}

/// What any node had seen in each shard.
fn at_most(holdings: &[Holding]) -> BTreeMap<u32, BTreeMap<String, u64>> {
    let mut all: BTreeMap<u32, BTreeMap<String, u64>> = BTreeMap::new();
    for shard in holdings.iter().flat_map(|holding| &holding.summaries.shards) {
        let most = all.entry(shard.shard).or_default();
        for (replica, &last) in &shard.version_vector {
            let known = most.entry(replica.clone()).or_default();
            *known = last.max(*known);
        }
    }
    all
}

/// In what these nodes differ. Nodes of different clusters cannot be compared.
pub fn compare(holdings: &[Holding]) -> Result<Vec<Difference>, Failure> {
    let Some(first) = holdings.first() else {
        return Ok(Vec::new());
    };
    for other in holdings {
        let of = |holding: &Holding| {
            let SummariesBody {
                cluster, cluster_id, ..
            } = &holding.summaries;
            Of {
                address: holding.address.clone(),
                cluster: cluster.clone(),
                cluster_id: cluster_id.clone(),
            }
        };
        of(first)
            .same(&of(other))
            .map_err(|e| e.at("there is nothing to compare"))?;
    }
    let mut differences = Vec::new();
    for holding in holdings {
        let count = holding.summaries.fingerprint_mismatches;
        if count > 0 {
            differences.push(Difference::Mismatches {
                node: name(holding),
                count,
            });
        }
    }
    let maps: Vec<BTreeMap<u32, &ShardBody>> = holdings
        .iter()
        .map(|h| {
            h.summaries
                .shards
                .iter()
                .map(|shard| (shard.shard, shard))
                .collect()
        })
        .collect();
    let shards: BTreeSet<u32> = maps.iter().flat_map(|map| map.keys().copied()).collect();
    for shard in shards {
        let views: Vec<Option<&ShardBody>> = maps.iter().map(|map| map.get(&shard).copied()).collect();
        compare_shard(shard, holdings, &views, &mut differences);
    }
    Ok(differences)
}

/// Each node with all that anybody has seen, and with each node that has seen the same.
fn compare_shard(
    shard: u32,
    holdings: &[Holding],
    views: &[Option<&ShardBody>],
    differences: &mut Vec<Difference>,
) {
    for (i, mine) in views.iter().enumerate() {
        // The one that has most of what this node lacks says enough; a list of all pairs says it many times.
        let lacks = |theirs: &Option<&ShardBody>| lacking(*mine, *theirs);
        let ahead = views
            .iter()
            .enumerate()
            .max_by_key(|(j, theirs)| (lacks(theirs), usize::MAX - j));
        if let Some((j, theirs)) = ahead
            && lacks(theirs) > 0
        {
            let (node, than) = (name(&holdings[i]), name(&holdings[j]));
            differences.push(Difference::Behind {
                shard,
                node,
                than,
                operations: lacks(theirs),
            });
        }
        for (j, theirs) in views.iter().enumerate().skip(i + 1) {
            let (Some(a), Some(b)) = (mine, theirs) else {
                continue;
            };
            if a.version_vector == b.version_vector && a.fingerprint != b.fingerprint {
                differences.push(Difference::Damage {
                    shard,
                    nodes: [name(&holdings[i]), name(&holdings[j])],
                    fingerprints: [a.fingerprint.clone(), b.fingerprint.clone()],
                });
            }
        }
    }
}

/// How many operations that they have seen are missing here.
fn lacking(mine: Option<&ShardBody>, theirs: Option<&ShardBody>) -> u64 {
    theirs.map_or(0, |theirs| lacking_of(mine, &theirs.version_vector))
}

fn lacking_of(mine: Option<&ShardBody>, seen_elsewhere: &BTreeMap<String, u64>) -> u64 {
    let seen = |replica| {
        mine.and_then(|mine| mine.version_vector.get(replica))
            .copied()
            .unwrap_or(0)
    };
    seen_elsewhere
        .iter()
        .map(|(replica, &last)| last.saturating_sub(seen(replica)))
        .sum()
}

fn name(holding: &Holding) -> String {
    format!("{} ({})", holding.summaries.node, holding.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Shard<'a> = (u32, &'a [(&'a str, u64)], &'a str);

    fn holding(name: &str, shards: &[Shard<'_>]) -> Holding {
        let shard = |&(shard, vv, fingerprint): &Shard<'_>| ShardBody {
            shard,
            version_vector: vv
                .iter()
                .map(|&(replica, last)| (replica.to_string(), last))
                .collect(),
            fingerprint: fingerprint.to_string(),
        };
        let summaries = SummariesBody {
            node: name.to_string(),
            id: String::new(),
            cluster: "c".to_string(),
            cluster_id: "1".to_string(),
            shards_total: 8,
            fingerprint_mismatches: 0,
            shards: shards.iter().map(shard).collect(),
        };
        Holding {
            address: format!("{name}:1"),
            summaries,
        }
    }

    fn differences(holdings: &[Holding]) -> Vec<String> {
        compare(holdings)
            .unwrap()
            .iter()
            .map(Difference::to_string)
            .collect()
    }

    #[test]
    fn the_same_is_the_same() {
        let a = [(1, &[("x/1", 5), ("y/1", 2)][..], "ab")];
        assert!(differences(&[holding("a", &a), holding("b", &a), holding("c", &a)]).is_empty());
        assert!(differences(&[holding("a", &[]), holding("b", &[])]).is_empty());
        assert!(differences(&[]).is_empty());
    }

    #[test]
    fn who_lacks_what_is_named_once() {
        let a = holding("a", &[(1, &[("x/1", 5)], "p")]);
        let b = holding("b", &[(1, &[("x/1", 3), ("y/1", 2)], "q")]);
        let c = holding("c", &[]);
        assert_eq!(
            differences(&[a, b, c]),
            [
                "shard 1: a (a:1) lacks 2 operations that b (b:1) has",
                "shard 1: b (b:1) lacks 2 operations that a (a:1) has",
                "shard 1: c (c:1) lacks 5 operations that a (a:1) has",
            ]
        );
    }

    #[test]
    fn nodes_that_never_stand_still_agree_once_each_has_what_any_had_at_first() {
        let look = |a: &[(&str, u64)], b: &[(&str, u64)]| {
            let holdings = vec![holding("a", &[(1, a, "p")]), holding("b", &[(1, b, "q")])];
            Look {
                differences: compare(&holdings).unwrap(),
                holdings,
                changing: 0,
            }
        };
        let first = look(&[("x/1", 5)], &[("x/1", 3), ("y/1", 2)]);
        let caught_up = look(&[("x/1", 9), ("y/1", 2)], &[("x/1", 5), ("y/1", 4)]);
        assert_eq!(caught_up.differences.len(), 2);
        let caught_up = caught_up.since(&first.holdings);
        assert_eq!((caught_up.differences, caught_up.changing), (Vec::new(), 1));
        let behind = look(&[("x/1", 9), ("y/1", 1)], &[("x/1", 5), ("y/1", 4)]).since(&first.holdings);
        let told: Vec<String> = behind.differences.iter().map(Difference::to_string).collect();
        assert_eq!(told, ["shard 1: a (a:1) lacks 3 operations that b (b:1) has"]);
    }

    #[test]
    fn equal_vectors_with_different_states_are_damage() {
        let a = holding("a", &[(1, &[("x/1", 5)], "p")]);
        let b = holding("b", &[(1, &[("x/1", 5)], "q")]);
        let found = differences(&[a, b]);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("shard 1: DAMAGE: a (a:1) and b (b:1)"),
            "{found:?}"
        );
        let mut counting = holding("a", &[]);
        counting.summaries.fingerprint_mismatches = 3;
        assert!(differences(&[counting])[0].contains("DAMAGE: 3 times"));
    }

    #[test]
    fn clusters_are_not_compared_with_each_other() {
        let (mut other, mut namesake) = (holding("b", &[]), holding("b", &[]));
        other.summaries.cluster = "d".to_string();
        namesake.summaries.cluster_id = "2".to_string();
        for stranger in [other, namesake] {
            let failure = compare(&[holding("a", &[]), stranger]).unwrap_err();
            assert_eq!(failure.name(), "identity");
            assert!(
                failure.message().contains("a:1") && failure.message().contains("b:1"),
                "{failure}"
            );
        }
    }
}

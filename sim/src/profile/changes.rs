//! Items that change, and what must hold of who is told of it: in the end whoever wants to be told has been told of every item as it
//! is, and what is kept of how far that has come (cursors) covers nothing that nobody was told of.
//!
//! Only what is added is looked at: that a deletion is told is not promised.

use std::collections::BTreeMap;

use anabranch::trigger::KEPT;
use anabranch::{Encoding, EntityId, Payload, Reading};

use super::functions::{ITEM, WARDED, WARDEN, WATCHER, text};
use super::ledger::Ledger;
use crate::app::{Answered, Ask, Client, Cluster, Made};
use crate::net::NodeIx;

const ITEMS: [&str; 4] = [WARDED, "b", "c", "d"];

/// A token that was added, and the operations that added it.
#[derive(Debug)]
struct Added {
    item: &'static str,
    token: String,
    made: Made,
}

/// What a client has asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    item: &'static str,
    token: String,
}

/// All items of a run.
#[derive(Debug)]
pub struct Changes {
    ledger: Ledger,
    next: u64,
    /// Those that nobody was told of when it was looked at last.
    untold: Vec<Added>,
    looks: u64,
}

/// How far a trigger has come in each shard: of each run of a node (its id, its epoch) the last operation.
type Cursors = BTreeMap<u32, Vec<(u128, u64, u64)>>;

impl Changes {
    pub fn new(ledger: Ledger) -> Changes {
        Changes {
            ledger,
            next: 0,
            untold: Vec::new(),
            looks: 0,
        }
    }

    /// A client adds something to an item.
    pub fn ask(&mut self, client: &mut Client) -> (Asked, Ask) {
        self.next += 1;
        let item = *client.rng.pick(&ITEMS);
        let token = format!("{:04}", self.next);
        let ask = Ask::of(ITEM, item, "add", &token).at(client.any_node());
        (Asked { item, token }, ask)
    }

    pub fn on_answer(&mut self, asked: Asked, answered: &Answered) {
        let Asked { item, token } = asked;
        if let (Ok(_), Some(made)) = (&answered.result, &answered.made) {
            let made = made.clone();
            self.untold.push(Added { item, token, made });
        }
    }

    /// What a node takes for told was told.
    pub fn look(&mut self, cluster: &Cluster<'_>, node: NodeIx) -> Result<(), String> {
        let seen = self.ledger.open();
        let is_told = |added: &Added| {
            seen.found
                .get(added.item)
                .is_some_and(|of| of.contains(&added.token))
        };
        self.untold.retain(|added| !is_told(added));
        drop(seen);
        for (function, of) in [(WATCHER, ITEM.to_owned()), (WARDEN, format!("{ITEM}/{WARDED}"))] {
            let cursors = cursors(cluster, node, &format!("cursors of {function}.note of {of}"))?;
            self.looks += cursors.len() as u64;
            let mut untold = self.untold.iter();
            if let Some(added) = untold.find(|added| function == WATCHER && is_covered(&cursors, &added.made))
            {
                return Err(format!(
                    "node {node} takes {added:?} for told to {function}, and it was not"
                ));
            }
        }
        Ok(())
    }

    /// Who has not been told of an item as it is.
    pub fn awaits(&self, cluster: &Cluster<'_>) -> Option<String> {
        for item in ITEMS {
            let tokens: Vec<String> = cluster.query(0, ITEM, item, "show", &()).ok()?;
            let wardens = (item == WARDED).then_some(WARDEN);
            for function in [WATCHER]
                .into_iter()
                .chain(wardens)
                .filter(|_| !tokens.is_empty())
            {
                let noted: Vec<String> = cluster.query(0, function, item, "show", &()).ok()?;
                if !noted.contains(&text(&tokens)) {
                    return Some(format!("{function} was not told of {item} as it is: {tokens:?}"));
                }
            }
        }
        None
    }

    /// How often functions were told.
    pub fn told(&self) -> u64 {
        self.ledger.open().told
    }

    /// How many cursors were looked at.
    pub fn looks(&self) -> u64 {
        self.looks
    }
}

fn cursors(cluster: &Cluster<'_>, node: NodeIx, name: &str) -> Result<Cursors, String> {
    let entity = EntityId::new(KEPT, name).map_err(|e| e.to_string())?;
    let Some((_, Reading::Map(shards))) = cluster.read(node, &entity) else {
        return Ok(Cursors::new());
    };
    let read = |(shard, kept): (bytes::Bytes, Reading)| {
        let Reading::Register(Some(bytes)) = kept else {
            return None;
        };
        let encoding = Encoding::Postcard;
        let cursor = Payload { encoding, bytes }.read().ok()?;
        Some((std::str::from_utf8(&shard).ok()?.parse().ok()?, cursor))
    };
    shards
        .into_iter()
        .map(|kept| read(kept).ok_or_else(|| format!("{name} cannot be read")))
        .collect()
}

/// Whether these cover all of what was made.
fn is_covered(cursors: &Cursors, made: &Made) -> bool {
    let by = (made.by.node.0, made.by.epoch.0);
    let has = |shard: u32, seq: u64| {
        let cursor = cursors.get(&shard);
        cursor.is_some_and(|of| {
            of.iter()
                .any(|(node, epoch, upto)| (*node, *epoch) == by && *upto >= seq)
        })
    };
    !made.dots.is_empty() && made.dots.iter().all(|(shard, _, upto)| has(shard.0, *upto))
}

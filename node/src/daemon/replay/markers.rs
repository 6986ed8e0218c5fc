//! Whether a run was begun before, and whether every node still remembers it: two marks at each node, which are keyed
//! updates that change nothing.
//!
//! Before the first event every node is given the mark `begun`; when all have it durably, every node is given `started`;
//! only then is an event sent. So a node that has `started` proves that all of them once had `begun`, and a node without
//! `begun` has then lost its directory, and with it the keys of the events it took: one sent again would count twice.
//!
//! Contract: the nodes are asked before anything is marked, so a run that was refused is refused again however often
//! it is tried. A mark leaves nothing but its key: no entity, no dot, no line in the dump.
//!
//! What this cannot see: that every node named lost its directory, while other nodes of the cluster kept what the events
//! did. The keys do not travel, so nobody is left who remembers.

use std::hash::Hasher as _;
use std::sync::Arc;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::super::api::{Octets, OpBody, OpName};
use super::super::exit::Failure;
use super::history::Contents;
use super::node::Node;
use crate::crdt::Type;

/// The kind that marks name. No entity of it is ever made.
const KIND: &str = "anabranch.replay";

/// One run of one file.
pub struct Run<'a> {
    /// What the file holds.
    pub contents: &'a Contents,
    /// The run's name.
    pub name: &'a str,
    /// The nodes, in the order in which authors are dealt to them.
    pub nodes: &'a [Arc<Node>],
}

/// The two marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Begun,
    Started,
}

impl Run<'_> {
    /// Begins the run, or goes on with one that was begun before. An error: events may not be sent.
    pub async fn begin(&self) -> Result<(), Failure> {
        let (mut started, mut begun) = (Vec::new(), Vec::new());
        for node in self.nodes {
            started.push(node.knows(&self.key(Mark::Started)).await?);
            begun.push(node.knows(&self.key(Mark::Begun)).await?);
        }
        // Those that have it compare what they have: other nodes, or another order, would deal authors differently.
        for (node, _) in self.nodes.iter().zip(&begun).filter(|(_, begun)| **begun) {
            self.mark(node, Mark::Begun).await?;
        }
        let proof = started.iter().position(|started| *started);
        let lost = begun.iter().position(|begun| !begun);
        if let (Some(proof), Some(lost)) = (proof, lost) {
            return Err(self.lost(&self.nodes[lost], &self.nodes[proof]));
        }
        for mark in [Mark::Begun, Mark::Started] {
            for node in self.nodes {
                self.mark(node, mark).await?;
            }
        }
        Ok(())
    }

    async fn mark(&self, node: &Node, mark: Mark) -> Result<(), Failure> {
        let parcel = node.parcel(vec![self.nothing()], self.key(mark))?;
        match node.send(parcel).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.name() == "key_reused" => Err(Failure::new(
                failure.name(),
                format!(
                    "{} was in this run before, but with other nodes, or named in another order: each author's events \
                     would go to another node now and count twice. Nothing was sent. Name the same nodes in the same \
                     order in --to, or count anew under another name with --run",
                    node.address()
                ),
            )),
            Err(failure) => Err(failure),
        }
    }

    /// A removal from a set that does not exist: it changes nothing, and is remembered with its key. The element says
    /// how authors are dealt, so that another deal under the same key is a different update.
    fn nothing(&self) -> OpBody {
        let ids: Vec<&str> = self.nodes.iter().map(|node| node.id()).collect();
        OpBody {
            ty: Some(Type::OrSet.name().to_string()),
            elements: Some(vec![Octets::from(ids.join(",").as_str())]),
            ..OpBody::new(KIND, "run", OpName::Remove)
        }
    }

    fn key(&self, mark: Mark) -> String {
        let mut hasher = SipHasher24::new();
        hasher.write(&self.contents.digest.to_le_bytes());
        hasher.write(self.name.as_bytes());
        let name = match mark {
            Mark::Begun => "begun",
            Mark::Started => "started",
        };
        format!("replay-{name}-{:032x}", hasher.finish128().as_u128())
    }

    fn lost(&self, lost: &Node, proof: &Node) -> Failure {
        lost.lost_its_directory(&format!(
            "{} remembers this run, {} does not",
            proof.address(),
            lost.address()
        ))
    }
}

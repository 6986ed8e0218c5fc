//! Ours: two nodes, one in each process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anabranch::{Call, Encoding, EntityId, Node, NodeId, Payload};

use super::Far;
use crate::cpus::until_told;
use crate::measure::{Threads, Way, one_by_one, tasks, threads, way};
use crate::ours::{self, SAID, Said};

const MEMBERS: [NodeId; 2] = [NodeId(1), NodeId(2)];
const TIMEOUT: Duration = Duration::from_secs(10);

/// The calling node, and the process of the called one.
pub struct Pair {
    node: Node,
    pub far: Far,
}

impl Pair {
    pub fn start(dir: &Path) -> Pair {
        let node = ours::start(dir, 1, &MEMBERS, vec![]);
        let seed = node.quic_address().to_string();
        let far = Far::start(&["ours", dir.to_str().unwrap(), &seed]);
        ours::ready(&node);
        Pair { node, far }
    }

    pub fn stop(self) {
        drop(self.far);
        ours::stop(self.node);
    }

    pub fn p50(&self) -> f64 {
        let runtime = Threads::One.runtime();
        one_by_one(|| runtime.block_on(call(&self.node)))
    }

    pub fn ways(&self) -> Vec<Way<'_>> {
        let far = [self.far.id()];
        let in_tasks = move |kind: Threads| {
            tasks(&kind.runtime(), &far, |_| {
                let node = self.node.clone();
                move || {
                    let node = node.clone();
                    async move { call(&node).await }
                }
            })
        };
        let in_threads = move || {
            threads(&far, |_| {
                let runtime = Threads::One.runtime();
                move || {
                    runtime.block_on(call(&self.node));
                    1
                }
            })
        };
        vec![
            way("64 tasks", move || in_tasks(Threads::One)),
            way("64 threads", in_threads),
        ]
    }
}

async fn call(node: &Node) {
    let argument = Payload::of(Encoding::Postcard, &SAID).unwrap();
    let call = Call::new(EntityId::new("echo", "a").unwrap(), "echo", argument);
    let (reply, _) = node.call_on(MEMBERS[1], call, None, TIMEOUT).await.unwrap();
    assert_eq!(reply.read::<Said>().unwrap(), SAID);
}

/// The called node.
pub fn far(dir: &Path, seed: &str) {
    let dir = PathBuf::from(dir);
    let node = ours::start(&dir, 2, &MEMBERS, vec![seed.to_owned()]);
    ours::ready(&node);
    println!("{}", node.quic_address());
    until_told();
    ours::stop(node);
}

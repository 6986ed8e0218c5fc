//! Higher epochs of running nodes, over real sockets.

use anabranch_crdt::Epoch;

use super::super::queue::Job;
use super::*;

/// Has the node take an epoch above this one, as if a peer had said so.
fn want(node: &Node, above: Epoch) {
    let queue = &node.handle().queue;
    if queue.push(Job::Epoch { above }) {
        queue.wake();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_opens_again_at_once_under_every_epoch() {
    let scratch = Scratch::new();
    let a = scratch.start(1, &[]).await;
    let b = scratch.start(2, &[&a]).await;
    within(b.ready()).await;
    let address = b.quic_address();
    for round in 1..=25 {
        // What adopting an epoch does to the network, without the pauses between epochs.
        let epoch = Epoch(b.epoch().0 + round);
        let opened = tokio::task::block_in_place(|| {
            let network = b.handle().network();
            network.close(false);
            std::sync::Arc::clone(network).open(epoch)
        });
        assert_eq!(opened, Ok(()), "round {round}");
        assert_eq!(b.quic_address(), address);
        let linked = || {
            let members = a.status().members;
            members.iter().any(|m| m.connected && m.epoch == Some(epoch))
        };
        until(linked).await;
    }
    for node in [b, a] {
        within(node.shutdown()).await.unwrap();
    }
}

#[tokio::test]
async fn a_node_takes_epoch_after_epoch_and_lives_on() {
    let scratch = Scratch::new();
    let a = scratch.start(1, &[]).await;
    let b = scratch.start(2, &[&a]).await;
    within(b.ready()).await;
    for round in 1..=3 {
        let above = Epoch(b.epoch().0 + 1_000_000_000_000);
        want(&b, above);
        until(|| b.epoch() > above).await;
        within(counter(&b, "k").increment(1)).await.unwrap();
        until_count(&a, "k", round).await;
    }
    for node in [b, a] {
        within(node.shutdown()).await.unwrap();
    }
}

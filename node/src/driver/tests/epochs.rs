//! Higher epochs of running nodes, over real sockets.

use anabranch_crdt::Epoch;

use super::super::queue::Job;
use super::*;

/// Has the node take an epoch above this one, as if a peer had said so.
fn want(node: &Node, above: Epoch) {
    let queue = &node.handle().queue;
    if queue.push(&Job::Epoch { above }) {
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
    for round in 1..=12 {
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

/// A has state of B under an epoch far ahead; B comes back with nothing, under an epoch below it, and A's process is a new
/// one, so that only its engine knows. `b_dials`: who finds whom.
async fn fenced_and_back(b_dials: bool) {
    let scratch = Scratch::new();
    let a = scratch.start(1, &[]).await;
    let b = scratch.start(2, &[&a]).await;
    within(b.ready()).await;
    let high = Epoch(b.epoch().0 + 1_000_000_000_000);
    want(&b, high);
    until(|| b.epoch() > high).await;
    within(counter(&b, "k").increment(5)).await.unwrap();
    until_count(&a, "k", 5).await;
    for node in [b, a] {
        within(node.shutdown()).await.unwrap();
    }
    std::fs::remove_dir_all(scratch.home(2).join("data")).unwrap();

    let (a, b);
    if b_dials {
        a = scratch.start(1, &[]).await;
        b = scratch.start(2, &[&a]).await;
    } else {
        // It knows that it has peers, or it would take writes at once; but it can find none.
        let nobody = vec!["127.0.0.1:1".into()];
        b = within(scratch.builder(2).seeds(nobody).start()).await.unwrap();
        a = scratch.start(1, &[&b]).await;
    }
    within(b.ready()).await;
    assert!(b.epoch() > high, "{} after {high}", b.epoch());
    assert!(a.status().counters["fenced"] >= 1);
    assert!(b.status().counters["fenced"] >= 1);
    until_count(&b, "k", 5).await;
    within(counter(&b, "k").increment(1)).await.unwrap();
    until_count(&a, "k", 6).await;
    for node in [b, a] {
        within(node.shutdown()).await.unwrap();
    }
}

#[tokio::test]
async fn a_fenced_node_that_dials_takes_a_higher_epoch_and_becomes_ready() {
    fenced_and_back(true).await;
}

#[tokio::test]
async fn a_fenced_node_that_is_dialled_takes_a_higher_epoch_and_becomes_ready() {
    fenced_and_back(false).await;
}

#[tokio::test]
async fn two_running_copies_of_one_node_push_each_other_out_again_and_again() {
    let scratch = Scratch::new();
    let a = scratch.start(1, &[]).await;
    let copy = |directory: &str| {
        let seeds = vec![a.quic_address().to_string()];
        let builder = scratch.builder(2).directory(scratch.path().join(directory));
        builder.seeds(seeds).start()
    };
    let first = within(copy("first")).await.unwrap();
    within(first.ready()).await;
    let second = within(copy("second")).await.unwrap();
    let mut last = first.epoch();
    // Slower and slower: that is its pace's own test.
    for _ in 0..5 {
        until(|| first.epoch() > last).await;
        last = first.epoch();
    }
    for node in [first, second, a] {
        within(node.shutdown()).await.unwrap();
    }
}

//! How large the state of a kind is said to be.

use std::sync::Arc;

use anabranch_crdt::{Mutation, Type};

use super::faults::Alone;
use super::{Scratch, increment, update, within};
use crate::function::Function;
use crate::function::state::OrSet;
use crate::store::MemDisk;

fn words() -> Arc<Function> {
    let words = Function::of::<OrSet<String>>("words")
        .query("show", |words, _, ()| Ok::<_, String>(words.elements()));
    Arc::new(words.into())
}

impl Alone {
    async fn add(&self, key: &str, word: String) {
        let add = Mutation::Add(vec![word.into()]);
        let update = update(&[("words", key, Type::OrSet, add)]);
        within(self.shared.update(update)).await.unwrap();
    }

    /// What it is by the engine's own account.
    fn bytes(&self) -> u64 {
        let views = self.shared.peek(|engine| {
            let ids = engine.entities_of("words");
            let views = ids.iter().map(|id| engine.view(id, Type::OrSet).unwrap());
            views.collect::<Vec<_>>()
        });
        let bytes_of = |view: &crate::view::View| {
            let value = view.value().unwrap().canonical_bytes(view.replicas());
            view.entity().key().len() + value.len()
        };
        views.iter().map(bytes_of).sum::<usize>() as u64
    }
}

#[tokio::test]
async fn the_state_is_measured_some_at_a_time_and_is_exact_at_rest() {
    let scratch = Scratch::new();
    let node = Alone::start_with(&scratch, &MemDisk::new(), 1 << 30, vec![words()]);
    assert_eq!(node.shared.state_bytes()["words"], 0);
    within(node.shared.update(increment("k", 1))).await.unwrap(); // no function's
    for key in 0..300 {
        node.add(&key.to_string(), "x".repeat(100)).await;
    }
    // Each time some more, and no more than a slice of values.
    let mut askings = 0;
    let mut last = 0;
    while last < node.bytes() {
        let now = node.shared.measure(1)["words"];
        assert!(now >= last && now <= node.bytes(), "{last} {now}");
        (last, askings) = (now, askings + 1);
        assert!(askings <= 300, "each asking measures something");
    }
    assert!(askings > 3, "{askings} askings measured it all");
    assert_eq!(node.shared.state_bytes()["words"], node.bytes());
    // What has changed, is new or gone is measured again.
    node.add("7", "y".repeat(1_000)).await;
    node.add("another", "z".to_owned()).await;
    let delete = update(&[("words", "8", Type::OrSet, Mutation::Delete)]);
    within(node.shared.update(delete)).await.unwrap();
    assert!(node.bytes() > last);
    assert_eq!(node.shared.state_bytes()["words"], node.bytes());
    // A change while a shard is half measured is found by the next asking.
    node.add("9", "x".repeat(5_000)).await;
    node.shared.measure(1);
    node.add("9", "y".repeat(5_000)).await;
    node.shared.state_bytes();
    assert_eq!(node.shared.state_bytes()["words"], node.bytes());
    assert_eq!(
        node.shared
            .state_bytes()
            .keys()
            .filter(|kind| *kind == "n")
            .count(),
        0
    );
    node.stop().await.unwrap();
}

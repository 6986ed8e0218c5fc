//! Maps of states: what concurrent commands make of one child, and how deep they go.

use anabranch_crdt::{Causal, Clock};

use super::*;

#[derive(State)]
struct Board {
    items: OrMap<String, Item>,
}

/// One copy of a board, with commands of its own.
struct Copy {
    me: ReplicaId,
    state: Causal,
}

impl Copy {
    fn pair() -> (Copy, Copy) {
        let copy = |node| Copy {
            me: ReplicaId::new(NodeId(node), Epoch(1)),
            state: Causal::new(Board::TYPE),
        };
        (copy(1), copy(2))
    }

    fn seen(&self) -> Seen {
        let value = self.state.value();
        Seen::of(View {
            entity: EntityId::new("board", "x").unwrap(),
            shard: crate::wire::ShardId(0),
            ty: Some(Board::TYPE),
            value: value.exists().then(|| Arc::new(value.clone())),
            replicas: Arc::new(self.state.replicas().clone()),
            heir: None,
        })
    }

    fn run<R>(&mut self, stamp: u64, command: impl FnOnce(&mut OrMap<String, Item>) -> R) -> R {
        let mut board = Board::open(&self.seen());
        let result = command(&mut board.items);
        for mutation in board.changes() {
            let op = self.state.mutate(self.me, stamp, &mutation).unwrap();
            self.state.join_op(&op).unwrap();
        }
        result
    }

    fn shown(&self) -> Vec<(String, ShownItem)> {
        shown_items(&Board::open(&self.seen()).items)
    }

    fn item(&self, key: &str) -> Option<ShownItem> {
        let board = Board::open(&self.seen());
        board.items.get(key).map(|item| item.shown())
    }

    fn join(&mut self, other: &Copy) {
        self.state.join(&other.state).unwrap();
    }
}

/// Each takes in what the other has done; then they show the same, which this says.
fn meet(one: &mut Copy, other: &mut Copy) -> Vec<(String, ShownItem)> {
    one.join(other);
    other.join(one);
    assert_eq!(one.state.canonical_bytes(), other.state.canonical_bytes());
    assert_eq!(one.shown(), other.shown());
    one.shown()
}

#[test]
fn what_two_did_to_one_child_is_all_there() {
    let (mut one, mut other) = Copy::pair();
    // Both make it, neither knowing of the other.
    one.run(1, |items| {
        let item = items.entry("a");
        item.count.increment(2);
        item.tags.add(&1u8);
        item.parts.entry(&7u8).increment(1);
    });
    other.run(2, |items| {
        let item = items.entry("a");
        item.count.increment(3);
        item.last.set(&9u8);
        item.parts.entry(&7u8).increment(1);
        items.entry("b");
    });
    meet(&mut one, &mut other);
    let both = ShownItem {
        count: 5,
        tags: vec![1],
        last: Some(9),
        parts: vec![(7, 2)],
    };
    assert_eq!(one.item("a"), Some(both));
    assert!(one.item("b").is_some(), "one to which nothing was done is there");
}

#[test]
fn an_update_of_a_child_wins_over_its_removal_and_stands_alone() {
    let (mut one, mut other) = Copy::pair();
    one.run(1, |items| {
        for key in ["a", "b", "c"] {
            let item = items.entry(key);
            item.count.increment(10);
            item.tags.add(&1u8);
        }
    });
    meet(&mut one, &mut other);
    one.run(2, |items| items.clear());
    other.run(2, |items| {
        items.entry("a").count.increment(1);
        items.entry("b"); // it was there: nothing is done
        items.remove("c");
        items.entry("c").tags.add(&2u8);
    });
    let shown = meet(&mut one, &mut other);
    let of = |count, tags: &[u8]| ShownItem {
        count,
        tags: tags.to_vec(),
        last: None,
        parts: Vec::new(),
    };
    let left = [("a".to_owned(), of(1, &[])), ("c".to_owned(), of(0, &[2]))];
    assert_eq!(shown, left);
}

proptest! {
    #[test]
    fn copies_that_have_met_are_equal_whatever_was_done_to_each(
        rounds in prop::collection::vec(
            (
                prop::collection::vec(item_step(), 0..6),
                prop::collection::vec(item_step(), 0..6),
                any::<bool>(),
            ),
            1..8,
        ),
    ) {
        let (mut one, mut other) = Copy::pair();
        for (round, (ones, others, meets)) in rounds.into_iter().enumerate() {
            let stamp = round as u64 + 1;
            for (copy, steps) in [(&mut one, ones), (&mut other, others)] {
                let seen = copy.run(stamp, |items| {
                    steps.iter().for_each(|step| step.run(items));
                    shown_items(items)
                });
                prop_assert_eq!(seen, copy.shown(), "{:?}", steps);
            }
            if meets {
                meet(&mut one, &mut other);
            }
        }
        meet(&mut one, &mut other);
    }
}

#[test]
fn a_removal_takes_of_a_child_what_the_function_was_shown() {
    let items = Function::of::<Board>("board")
        .command("do", |board, _, steps: Vec<ItemStep>| {
            steps.iter().for_each(|step| step.run(&mut board.items));
            Ok::<_, String>(())
        })
        .query("show", |board, _, ()| Ok::<_, String>(shown_items(&board.items)));
    let mut world = World::new(items.into());
    world
        .call("do", &[ItemStep::Count(1, 5), ItemStep::Tag(1, 1)])
        .unwrap();
    let before = world.view();
    world.call("do", &[ItemStep::Tag(1, 2)]).unwrap();
    world.call_by(before, "do", &[ItemStep::Drop(1)]).unwrap();
    let shown: Vec<(String, ShownItem)> = world.call("show", &()).unwrap().read().unwrap();
    let left = ShownItem {
        count: 0,
        tags: vec![2],
        last: None,
        parts: Vec::new(),
    };
    assert_eq!(shown, [("i1".to_owned(), left)]);
}

#[test]
fn what_others_keep_under_a_key_is_no_state() {
    let (mut one, _) = Copy::pair();
    let put = |key: &'static str, ty, mutation| Mutation::Update {
        key: key.into(),
        ty: Some(ty),
        mutation: Box::new(mutation),
    };
    let set = Mutation::Set {
        value: "text".into(),
        clock: Clock::Default,
    };
    let foreign = put("items", Type::OrMap, put("a", Type::LwwRegister, set));
    let op = one.state.mutate(one.me, 1, &foreign).unwrap();
    one.state.join_op(&op).unwrap();
    one.run(2, |items| {
        assert!(!items.contains_key("a") && items.is_empty() && items.get_mut("a").is_none());
        items.remove("a");
        items.entry("a").count.increment(1);
    });
    assert_eq!(
        one.item("a").map(|item| item.count),
        Some(1),
        "removed, it makes room"
    );
}

/// A tree: as deep as maps can be.
#[derive(State)]
struct Tree {
    leaf: PnCounter,
    below: OrMap<String, Tree>,
}

#[test]
fn a_tree_is_as_deep_as_maps_can_be_and_no_deeper() {
    fn grow(tree: &mut Tree, depth: usize) {
        tree.leaf.increment(1);
        if depth > 0 {
            grow(tree.below.entry("x"), depth - 1);
        }
    }
    fn height(tree: &Tree) -> usize {
        assert_eq!(tree.leaf.get(), 1);
        tree.below.get("x").map_or(0, |below| 1 + height(&below))
    }
    let trees = Function::of::<Tree>("tree")
        .command("grow", |tree, _, depth: usize| {
            grow(tree, depth);
            Ok::<_, String>(())
        })
        .query("height", |tree, _, ()| Ok::<_, String>(height(tree)));
    let mut world = World::new(trees.into());
    // The leaf of the third tree below the root is seven steps down, of the fourth nine.
    let deepest = (DEPTH_MAX - 1) / 2;
    let refused = world.call("grow", &(deepest + 1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    let expected = format!("nothing changed: states are nested at most {DEPTH_MAX} deep");
    assert_eq!(refused.message(), expected);
    world.call("grow", &deepest).unwrap();
    assert_eq!(world.call("height", &()).unwrap().read::<usize>(), Ok(deepest));
}

//! One law for all values: what a command sees of what it did is what everybody reads once it is in.

use std::net::{IpAddr, SocketAddr};

use anabranch_crdt::{Epoch, NodeId, ReplicaId};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::engine::{Engine, EngineConfig, Input, Limits, Now, Op, Output, RequestId, Start, Update};
use crate::function::{Context, Function};
use crate::payload::{Encoding, Payload};
use crate::session::{Action, Command, CommandId, Said, State as StateAction};
use crate::terms::Time;
use crate::wire::{DirectoryId, EntityId};

mod children;

#[derive(State)]
struct Inner {
    count: PnCounter,
    r#type: LwwRegister<u8>,
}

#[derive(State)]
struct All {
    up: GCounter,
    count: PnCounter,
    set: OrSet<String>,
    grows: GSet<u32>,
    last: LwwRegister<String>,
    values: MvRegister<u32>,
    flag: Flag,
    vote: Vote,
    counters: CounterMap<String>,
    registers: RegisterMap<u8, String>,
    sets: MultiMap<String, u8>,
    inner: Inner,
    items: OrMap<String, Item>,
    votes: OrMap<u8, Vote>,
}

#[derive(State)]
struct Item {
    count: PnCounter,
    tags: OrSet<u8>,
    last: LwwRegister<u8>,
    parts: OrMap<u8, PnCounter>,
}

/// Everything that can be seen of it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Shown {
    counts: Vec<i128>,
    set: Vec<String>,
    grows: Vec<u32>,
    last: Option<String>,
    values: Vec<u32>,
    flag: bool,
    counters: Vec<(String, i128)>,
    registers: Vec<(u8, String)>,
    sets: Vec<(String, Vec<u8>)>,
    inner: Option<u8>,
    items: Vec<(String, ShownItem)>,
    votes: Vec<u8>,
    lens: Vec<usize>,
    has: Vec<bool>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ShownItem {
    count: i128,
    tags: Vec<u8>,
    last: Option<u8>,
    parts: Vec<(u8, i128)>,
}

impl Item {
    fn shown(&self) -> ShownItem {
        let parts = self.parts.entries().into_iter();
        ShownItem {
            count: self.count.get(),
            tags: self.tags.elements(),
            last: self.last.get(),
            parts: parts.map(|(part, count)| (part, count.get())).collect(),
        }
    }
}

/// What is done to the items, and in them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum ItemStep {
    Make(u8),
    Count(u8, i8),
    /// Only if it is there.
    CountOld(u8, i8),
    Tag(u8, u8),
    Untag(u8, u8),
    Set(u8, u8),
    Part(u8, u8, i8),
    DropPart(u8, u8),
    Drop(u8),
    Clear,
}

impl ItemStep {
    fn run(self, items: &mut OrMap<String, Item>) {
        let name = |n: u8| format!("i{n}");
        match self {
            ItemStep::Make(n) => {
                items.entry(&name(n));
            }
            ItemStep::Count(n, by) => items.entry(&name(n)).count.increment(by.into()),
            ItemStep::CountOld(n, by) => {
                if let Some(item) = items.get_mut(&name(n)) {
                    item.count.increment(by.into());
                }
            }
            ItemStep::Tag(n, tag) => items.entry(&name(n)).tags.add(&tag),
            ItemStep::Untag(n, tag) => items.entry(&name(n)).tags.remove(&tag),
            ItemStep::Set(n, value) => items.entry(&name(n)).last.set(&value),
            ItemStep::Part(n, part, by) => items.entry(&name(n)).parts.entry(&part).increment(by.into()),
            ItemStep::DropPart(n, part) => items.entry(&name(n)).parts.remove(&part),
            ItemStep::Drop(n) => items.remove(&name(n)),
            ItemStep::Clear => items.clear(),
        }
    }
}

fn item_step() -> impl Strategy<Value = ItemStep> {
    let n = 0u8..3;
    let two = || (0u8..3, 0u8..3);
    prop_oneof![
        n.clone().prop_map(ItemStep::Make),
        (n.clone(), any::<i8>()).prop_map(|(n, by)| ItemStep::Count(n, by)),
        (n.clone(), any::<i8>()).prop_map(|(n, by)| ItemStep::CountOld(n, by)),
        two().prop_map(|(n, tag)| ItemStep::Tag(n, tag)),
        two().prop_map(|(n, tag)| ItemStep::Untag(n, tag)),
        two().prop_map(|(n, value)| ItemStep::Set(n, value)),
        (two(), any::<i8>()).prop_map(|((n, part), by)| ItemStep::Part(n, part, by)),
        two().prop_map(|(n, part)| ItemStep::DropPart(n, part)),
        n.prop_map(ItemStep::Drop),
        Just(ItemStep::Clear),
    ]
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Step {
    Up(u8),
    Count(i8),
    Add(u8),
    Remove(u8),
    Clear,
    Grow(u8),
    Set(u8),
    Value(u8),
    Flag(bool),
    Vote(bool),
    CountIn(u8, i8),
    DropCounter(u8),
    ClearCounters,
    SetIn(u8, u8),
    DropRegister(u8),
    AddIn(u8, u8),
    RemoveIn(u8, u8),
    DropSet(u8),
    ClearSets,
    Inner(i8, u8),
    Item(ItemStep),
    VoteOn(u8),
    DropVote(u8),
}

impl All {
    fn step(&mut self, step: &Step) {
        let name = |n: &u8| format!("e{n}");
        match step {
            Step::Up(by) => self.up.increment((*by).into()),
            Step::Count(by) => self.count.increment((*by).into()),
            Step::Add(n) => self.set.add(&name(n)),
            Step::Remove(n) => self.set.remove(&name(n)),
            Step::Clear => self.set.clear(),
            Step::Grow(n) => self.grows.add(&u32::from(*n)),
            Step::Set(n) => self.last.set(&name(n)),
            Step::Value(n) => self.values.set(&u32::from(*n)),
            Step::Flag(on) => self.flag.set(*on),
            Step::Vote(yes) => self.vote.cast(*yes),
            Step::CountIn(n, by) => self.counters.increment(&name(n), (*by).into()),
            Step::DropCounter(n) => self.counters.remove(&name(n)),
            Step::ClearCounters => self.counters.clear(),
            Step::SetIn(n, value) => self.registers.set(n, &name(value)),
            Step::DropRegister(n) => self.registers.remove(n),
            Step::AddIn(n, element) => self.sets.add(&name(n), element),
            Step::RemoveIn(n, element) => self.sets.remove_element(&name(n), element),
            Step::DropSet(n) => self.sets.remove(&name(n)),
            Step::ClearSets => self.sets.clear(),
            Step::Inner(by, n) => {
                self.inner.count.increment((*by).into());
                self.inner.r#type.set(n);
            }
            Step::Item(step) => step.run(&mut self.items),
            Step::VoteOn(n) => self.votes.entry(n).cast(true),
            Step::DropVote(n) => self.votes.remove(n),
        }
    }

    fn shown(&self) -> Shown {
        Shown {
            counts: vec![
                self.up.get(),
                self.count.get(),
                self.inner.count.get(),
                self.counters.get("e1"),
            ],
            set: self.set.elements(),
            grows: self.grows.elements(),
            last: self.last.get(),
            values: self.values.values(),
            flag: self.flag.get(),
            counters: self.counters.entries(),
            registers: self.registers.entries(),
            sets: self.sets.entries(),
            inner: self.inner.r#type.get(),
            items: shown_items(&self.items),
            votes: self.votes.keys(),
            lens: vec![
                self.items.len(),
                self.votes.len(),
                self.set.len(),
                self.grows.len(),
                self.counters.len(),
                self.registers.len(),
                self.sets.len(),
            ],
            has: vec![
                self.set.contains("e1"),
                self.grows.contains(&1u32),
                self.counters.contains_key("e2"),
                self.registers.get(&1) == Some("e1".into()),
                self.sets.contains("e1", &1),
                self.sets.get("e2").contains(&0),
                self.set.is_empty() && self.counters.is_empty(),
                self.items.is_empty(),
                self.items.contains_key("i1"),
                self.items.get("i1").is_some_and(|item| item.tags.contains(&1u8)),
            ],
        }
    }
}

fn shown_items(items: &OrMap<String, Item>) -> Vec<(String, ShownItem)> {
    let entries = items.entries().into_iter();
    entries.map(|(name, item)| (name, item.shown())).collect()
}

fn all() -> Function {
    Function::of::<All>("all")
        .command("do", |all, _, steps: Vec<Step>| {
            steps.iter().for_each(|step| all.step(step));
            Ok::<_, String>(all.shown())
        })
        .query("show", |all, _, ()| Ok::<_, String>(all.shown()))
        .into()
}

/// A function and the engine that has its entity.
struct World {
    engine: Engine,
    function: Function,
    requests: u64,
}

impl World {
    fn new(function: Function) -> World {
        let mut engine = Engine::new(
            EngineConfig {
                cluster: "state".into(),
                node: NodeId(1),
                shards: 1,
                members: vec![NodeId(1)],
                kinds: Default::default(),
                limits: Limits::default(),
            },
            Now::default(),
        );
        let start = Start {
            epoch: Epoch(7),
            before: None,
            directory: DirectoryId(1),
        };
        engine.start(Now::default(), start);
        World {
            engine,
            function,
            requests: 0,
        }
    }

    /// Runs a method and commits what it did.
    fn call<A: Serialize>(&mut self, method: &str, argument: &A) -> Result<Payload, Error> {
        self.call_by(self.view(), method, argument)
    }

    fn view(&self) -> View {
        let entity = EntityId::new(self.function.kind(), "x").unwrap();
        self.engine.view(&entity, self.function.ty()).unwrap()
    }

    /// The same by what was there then.
    fn call_by<A: Serialize>(&mut self, view: View, method: &str, argument: &A) -> Result<Payload, Error> {
        self.requests += 1;
        let entity = view.entity().clone();
        let command = Command {
            method: method.to_owned(),
            payload: Payload::of(Encoding::Json, argument).unwrap(),
            deadline: Time(u64::MAX),
            origin: Default::default(),
        };
        let context = Context::new(entity.clone(), ReplicaId::new(NodeId(1), Epoch(7)), 0, 0);
        let said = self.function.run(CommandId(1), &command, view.clone(), context);
        let Said::Reply(reply) = said else {
            panic!("{said:?}")
        };
        let payload = match reply.action {
            Action::Reply(payload) => payload,
            Action::Refuse(error) => {
                assert_eq!(reply.state, StateAction::Same);
                return Err(error);
            }
            Action::Forward(_) => unreachable!(),
        };
        if let StateAction::Update(mutations) = reply.state {
            let op = |mutation| Op {
                entity: entity.clone(),
                ty: Some(self.function.ty()),
                mutation,
            };
            let update = Update {
                ops: mutations.into_iter().map(op).collect(),
                level: "local-applied".parse().unwrap(),
                ..Update::delete(entity.clone())
            };
            let request = RequestId(self.requests);
            let now = Now {
                wall_ms: self.requests,
                ..Now::default()
            };
            let input = Input::Commit {
                request,
                update,
                view,
            };
            self.engine.handle(now, input);
            while let Some(output) = self.engine.poll_output() {
                if let Output::Done { result, .. } = output {
                    result?;
                }
            }
        }
        Ok(payload)
    }
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0u8..4;
    prop_oneof![
        1 => any::<u8>().prop_map(Step::Up),
        1 => any::<i8>().prop_map(Step::Count),
        1 => n.clone().prop_map(Step::Add),
        1 => n.clone().prop_map(Step::Remove),
        1 => Just(Step::Clear),
        1 => n.clone().prop_map(Step::Grow),
        1 => n.clone().prop_map(Step::Set),
        1 => n.clone().prop_map(Step::Value),
        1 => any::<bool>().prop_map(Step::Flag),
        1 => any::<bool>().prop_map(Step::Vote),
        1 => (n.clone(), any::<i8>()).prop_map(|(n, by)| Step::CountIn(n, by)),
        1 => n.clone().prop_map(Step::DropCounter),
        1 => Just(Step::ClearCounters),
        1 => (n.clone(), n.clone()).prop_map(|(n, value)| Step::SetIn(n, value)),
        1 => n.clone().prop_map(Step::DropRegister),
        1 => (n.clone(), n.clone()).prop_map(|(n, element)| Step::AddIn(n, element)),
        1 => (n.clone(), n.clone()).prop_map(|(n, element)| Step::RemoveIn(n, element)),
        1 => n.clone().prop_map(Step::DropSet),
        1 => Just(Step::ClearSets),
        1 => (any::<i8>(), n.clone()).prop_map(|(by, n)| Step::Inner(by, n)),
        6 => item_step().prop_map(Step::Item),
        1 => n.clone().prop_map(Step::VoteOn),
        1 => n.prop_map(Step::DropVote),
    ]
}

proptest! {
    #[test]
    fn what_a_command_sees_of_what_it_did_is_what_everybody_reads_then(
        commands in prop::collection::vec(prop::collection::vec(step(), 0..12), 1..8),
    ) {
        let mut world = World::new(all());
        for steps in commands {
            let seen: Shown = world.call("do", &steps).unwrap().read().unwrap();
            let read: Shown = world.call("show", &()).unwrap().read().unwrap();
            prop_assert_eq!(seen, read, "{:?}", steps);
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    quantity: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Paid { by: String },
}

#[derive(State)]
struct Kept {
    lines: OrSet<Line>,
    any: LwwRegister<serde_json::Value>,
    tagged: RegisterMap<String, Tagged>,
    by_name: MvRegister<std::collections::HashMap<String, u32>>,
}

#[test]
fn what_would_not_be_read_again_is_not_kept() {
    let line = |note: Option<&str>| Line {
        note: note.map(str::to_owned),
        quantity: 7,
    };
    let kept = Function::of::<Kept>("kept")
        .command("noted", move |kept, _, ()| {
            kept.lines.add(&line(Some("soon")));
            Ok::<_, String>(kept.lines.elements().len())
        })
        .command("plain", move |kept, _, ()| {
            kept.lines.add(&line(None));
            Ok::<_, String>(())
        })
        .command("any", |kept, _, value: serde_json::Value| {
            kept.any.set(&value);
            Ok::<_, String>(())
        })
        .command("tagged", |kept, _, by: String| {
            kept.tagged.set("x", &Tagged::Paid { by });
            Ok::<_, String>(())
        })
        .command("by_name", |kept, _, names: Vec<String>| {
            let of = names
                .into_iter()
                .zip(0u32..)
                .collect::<std::collections::HashMap<_, _>>();
            kept.by_name.set(&of);
            Ok::<_, String>(kept.by_name.values() == [of])
        });
    let mut world = World::new(kept.into());
    for (method, argument) in [
        ("plain", serde_json::Value::Null),
        ("any", serde_json::json!(5)),
        ("tagged", "me".into()),
    ] {
        let refused = world.call(method, &argument).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
        assert!(refused.message().contains("cannot be kept"), "{refused:?}");
    }
    assert_eq!(world.call("noted", &()).unwrap().read::<usize>().unwrap(), 1);
    // In whichever order its entries come.
    for n in 1..20u32 {
        let names: Vec<String> = (0..n).map(|n| n.to_string()).collect();
        assert!(world.call("by_name", &names).unwrap().read::<bool>().unwrap());
    }
}

#[derive(State)]
struct Typed {
    wide: LwwRegister<u64>,
    seen: OrSet<u64>,
    votes: CounterMap<u32>,
    maybe: MvRegister<Option<String>>,
    names: MultiMap<String, i16>,
    raw: OrSet<Bytes>,
}

#[test]
fn a_literal_is_kept_as_what_it_is_read_as() {
    let typed = Function::of::<Typed>("typed")
        .command("literals", |typed, _, ()| {
            typed.wide.set(&5);
            typed.seen.add(&7);
            typed.votes.increment(&3, 1);
            typed.maybe.set(&Some("x".into()));
            typed.names.add("a", &-1);
            let all = (
                typed.wide.get(),
                (typed.seen.elements(), typed.seen.contains(&7)),
                typed.votes.entries(),
                typed.maybe.values(),
                (typed.names.get("a"), typed.names.contains("a", &-1)),
            );
            let expected = (
                Some(5),
                (vec![7], true),
                vec![(3, 1)],
                vec![Some("x".to_owned())],
                (vec![-1], true),
            );
            Ok::<_, String>(all == expected)
        })
        .command("add_raw", |typed, _, ()| {
            typed.raw.add(&b"ab"[..]);
            Ok::<_, String>(())
        })
        .query("has_raw", |typed, _, ()| {
            Ok::<_, String>(typed.raw.contains(&b"ab"[..]))
        });
    let mut world = World::new(typed.into());
    assert_eq!(world.call("literals", &()).unwrap().read::<bool>(), Ok(true));
    // `Bytes` lend a list of bytes, which is written otherwise.
    for (method, why) in [("add_raw", "cannot be kept"), ("has_raw", "cannot be found by")] {
        let refused = world.call(method, &()).unwrap_err();
        assert!(refused.message().contains(why), "{refused}");
    }
}

/// Serde writes addresses, and identifiers of other crates, in one way for people and in another for programs.
#[derive(State)]
struct Peers {
    seen: OrSet<IpAddr>,
    ports: RegisterMap<IpAddr, SocketAddr>,
    last: LwwRegister<SocketAddr>,
    name: LwwRegister<String>,
}

#[test]
fn what_is_text_for_people_only_is_an_element_a_key_and_a_value() {
    let peers = Function::of::<Peers>("peers")
        .command("seen", |peers, _, at: SocketAddr| {
            peers.seen.add(&at.ip());
            peers.ports.set(&at.ip(), &at);
            peers.last.set(&at);
            peers.name.set("umbrella");
            Ok::<_, String>(())
        })
        .query("show", |peers, _, at: SocketAddr| {
            let (last, name) = (peers.last.get(), peers.name.get());
            Ok::<_, String>((
                peers.seen.contains(&at.ip()),
                peers.ports.get(&at.ip()),
                last,
                name,
            ))
        });
    let mut world = World::new(peers.into());
    for text in ["10.0.0.1:80", "[::1]:443"] {
        let at: SocketAddr = text.parse().unwrap();
        world.call("seen", &at).unwrap();
        let shown: (bool, Option<SocketAddr>, Option<SocketAddr>, Option<String>) =
            world.call("show", &at).unwrap().read().unwrap();
        assert_eq!(shown, (true, Some(at), Some(at), Some("umbrella".to_owned())));
    }
}

#[test]
fn a_field_that_is_kept_as_another_type_is_no_empty_one() {
    #[derive(State)]
    struct Before {
        hits: PnCounter,
    }
    #[derive(State)]
    struct After {
        hits: GCounter,
        words: OrSet<String>,
    }
    let before = Function::of::<Before>("board").command("hit", |board, _, by: u64| {
        board.hits.increment(by.try_into().unwrap());
        Ok::<_, String>(board.hits.get())
    });
    let mut world = World::new(before.into());
    world.call("hit", &5).unwrap();
    world.function = Function::of::<After>("board")
        .query("hits", |board, _, ()| Ok::<_, String>(board.hits.get()))
        .query("words", |board, _, ()| Ok::<_, String>(board.words.elements()))
        .into();
    let refused = world.call("hits", &()).unwrap_err();
    assert!(
        refused
            .message()
            .contains("\"hits\" is kept as pncounter, and the function reads gcounter"),
        "{refused:?}"
    );
    assert!(
        world
            .call("words", &())
            .unwrap()
            .read::<Vec<String>>()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_child_of_another_type_is_named_by_its_key() {
    let before =
        Function::of::<OrMap<String, LwwRegister<String>>>("shelf").command("put", |shelf, _, ()| {
            shelf.entry("b").set("text");
            Ok::<_, String>(())
        });
    let mut world = World::new(before.into());
    world.call("put", &()).unwrap();
    world.function = Function::of::<OrMap<String, PnCounter>>("shelf")
        .query("len", |shelf, _, ()| Ok::<_, String>(shelf.len()))
        .query("has", |shelf, _, key: String| {
            Ok::<_, String>(shelf.contains_key(&key))
        })
        .into();
    let has = world.call("has", &"b");
    for refused in [world.call("len", &()), has] {
        let refused = refused.unwrap_err();
        let says = "what is under the key \"b\" is kept as lwwregister, and the function reads pncounter";
        assert!(refused.message().contains(says), "{refused}");
    }
    assert!(!world.call("has", &"a").unwrap().read::<bool>().unwrap());
}

#[test]
fn what_others_kept_there_and_the_function_cannot_read_is_said() {
    let words = Function::of::<OrSet<String>>("kept").command("add", |set, _, word: String| {
        set.add(&word);
        Ok::<_, String>(set.elements())
    });
    let mut world = World::new(words.into());
    world.call("add", &"one").unwrap();
    world.function = Function::of::<OrSet<u32>>("kept")
        .command("add", |set, _, n: u32| {
            set.add(&n);
            Ok::<_, String>(set.elements())
        })
        .into();
    let refused = world.call("add", &1).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(
        refused
            .message()
            .starts_with("nothing changed: what is kept, \"one\", is no u32"),
        "{refused}"
    );
    // What cannot be written is nobody's state either.
    let odd = Function::of::<LwwRegister<Unwritable>>("kept2").command("set", |register, _, ()| {
        register.set(&Unwritable);
        Ok::<_, String>(())
    });
    let refused = World::new(odd.into()).call("set", &()).unwrap_err();
    assert!(refused.message().contains("cannot be kept"), "{refused}");
}

#[derive(Deserialize)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("never"))
    }
}

#[test]
fn a_bounded_counter_is_taken_from_as_far_as_it_is_held() {
    let stock = Function::of::<BoundedCounter>("stock")
        .command("put", |stock, _, n: u32| {
            stock.increment(n);
            Ok::<_, String>(stock.get())
        })
        .command("take_and_put", |stock, _, ()| {
            stock.take(5);
            stock.increment(3);
            Ok::<_, String>(stock.get())
        })
        .command("give", |stock, context: &mut Context, n: u64| {
            stock.transfer(ReplicaId::new(NodeId(2), Epoch(1)), n);
            Ok::<_, String>(stock.held(context.replica()))
        })
        .command("all", |stock, context: &mut Context, ()| {
            let others = [2, 3].map(|node| ReplicaId::new(NodeId(node), Epoch(1)));
            let held =
                |stock: &BoundedCounter| [context.replica(), others[0], others[1]].map(|by| stock.held(by));
            let before = held(stock);
            stock.increment(4);
            stock.take(1);
            stock.transfer(others[0], 2);
            stock.transfer(context.replica(), 1);
            Ok::<_, String>((before, held(stock)))
        })
        .command("take", |stock, _, n: u32| {
            stock.take(n);
            Ok::<_, String>(stock.get())
        });
    let mut world = World::new(stock.into());
    world.call("put", &3).unwrap();
    assert_eq!(world.call("take", &2).unwrap().read::<i128>(), Ok(1));
    assert_eq!(world.call("take", &2).unwrap_err().kind(), ErrorKind::Rights);
    assert_eq!(world.call("take", &1).unwrap().read::<i128>(), Ok(0));
    world.call("put", &3).unwrap();
    assert_eq!(
        world.call("take_and_put", &()).unwrap_err().kind(),
        ErrorKind::Rights,
        "one after the other"
    );
    world.call("put", &2).unwrap();
    let nobody = world.call("give", &2).unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Invalid, "{nobody}");
    let seen = Input::MemberSeen { node: NodeId(2) };
    world.engine.handle(Now::default(), seen);
    let never = world.call("give", &2).unwrap_err();
    assert_eq!(never.kind(), ErrorKind::Invalid, "{never}");
    let linked = Input::Connected {
        peer: NodeId(2),
        epoch: Epoch(1),
        wall_ms: 0,
    };
    world.engine.handle(Now::default(), linked);
    while world.engine.poll_output().is_some() {}
    assert_eq!(world.call("give", &2).unwrap().read::<u64>(), Ok(3));
    assert_eq!(world.call("give", &1).unwrap().read::<u64>(), Ok(2));
    assert_eq!(world.call("give", &3).unwrap_err().kind(), ErrorKind::Rights);
    let all = world.call("all", &()).unwrap();
    assert_eq!(all.read::<([u64; 3], [u64; 3])>(), Ok(([2, 3, 0], [3, 5, 0])));
}

#[test]
fn a_register_is_set_in_the_order_in_which_it_was() {
    let register = Function::of::<LwwRegister<String>>("register").command("set", |register, _, ()| {
        register.set("first");
        register.set("second");
        register.set_with_clock("old", anabranch_crdt::Clock::Custom(1));
        Ok::<_, String>(())
    });
    let mut world = World::new(register.into());
    world.call("set", &()).unwrap();
    let view = world
        .engine
        .view(&EntityId::new("register", "x").unwrap(), Type::LwwRegister)
        .unwrap();
    let second = anabranch_crdt::Reading::Register(Some("second".into()));
    assert_eq!(view.read(), Some(second), "what is set under an old clock loses");
}

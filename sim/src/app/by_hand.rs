//! A cluster whose story is told step by step, by a test.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anabranch::{Encoding, Error, Function, Reading, SCHEDULE, Type, Update, schedules};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Answered, Application, Ask, Client, Cluster};
use crate::net::NodeIx;
use crate::oracle::Failure;
use crate::plan::{Ending, Fault, Plan, SECOND};
use crate::queue::{Micros, QueueKind};
use crate::world::{Pace, World};

/// Whatever is waited for must come within so much virtual time, microseconds.
const WAIT_US_MAX: Micros = 600 * SECOND;

/// A cluster of nodes with functions, on a virtual network, virtual disks and clocks, to which nothing happens but what a test does:
/// for a scenario that one wants to read, beside the [`Simulation`](super::Simulation) that thinks of thousands.
///
/// The nodes are the engine, the store and the sessions of production. Whatever takes time takes virtual time, which passes only
/// within these methods: as much as it takes until what they wait for is there. All runs are alike.
///
/// ```
/// use anabranch::state::PnCounter;
/// use anabranch::{Context, Function};
/// use anabranch_sim::app::TestCluster;
///
/// let hits = || {
///     let hits = Function::of::<PnCounter>("hits")
///         .command("hit", |hits, _: &mut Context, by: i64| {
///             hits.increment(by);
///             Ok::<_, String>(hits.get())
///         })
///         .query("show", |hits, _, ()| Ok::<_, String>(hits.get()));
///     vec![hits.into()]
/// };
/// let mut cluster = TestCluster::start(3, hits);
/// cluster.split(&[&[0], &[1, 2]]);
/// let left: i64 = cluster.call(0, "hits", "a", "hit", &1)?;
/// let right: i64 = cluster.call(2, "hits", "a", "hit", &10)?;
/// assert_eq!((left, right), (1, 10));
/// cluster.heal();
/// cluster.settle();
/// let all: i64 = cluster.call(1, "hits", "a", "show", &())?;
/// assert_eq!(all, 11);
/// # Ok::<(), anabranch::Error>(())
/// ```
///
/// Contract: every method panics where the cluster itself breaks a rule (it is ours then), or where a node is named that is not there.
pub struct TestCluster {
    world: World,
    answers: Answers,
}

type Answers = Rc<RefCell<BTreeMap<usize, Answered>>>;

/// What was begun and is not waited for yet.
#[must_use = "its answer is had by `finish`"]
#[derive(Debug)]
pub struct Begun {
    client: usize,
}

/// A stream that is open.
#[must_use = "nobody else takes its replies"]
#[derive(Debug)]
pub struct Opened {
    client: usize,
    encoding: Encoding,
    /// Replies that were taken.
    taken: u64,
    has_ended: bool,
}

/// Functions, and the answers that came.
struct ByHand {
    functions: Box<dyn Fn() -> Vec<Function>>,
    answers: Answers,
}

impl Application for ByHand {
    fn functions(&self) -> Vec<Function> {
        // As a node has it that has functions.
        let mut functions = (self.functions)();
        let has_own = functions.iter().any(|function| function.kind() == SCHEDULE);
        if !functions.is_empty() && !has_own {
            functions.push(schedules());
        }
        functions
    }

    fn next(&mut self, _: &mut Client) -> Option<Ask> {
        None
    }

    fn on_answer(&mut self, answered: &Answered, _: &Cluster<'_>) -> Result<(), String> {
        let mut answers = self.answers.borrow_mut();
        answers.insert(answered.client, answered.clone());
        Ok(())
    }

    fn at_rest(&mut self, _: &Cluster<'_>) -> Result<(), String> {
        Ok(())
    }
}

impl TestCluster {
    /// So many nodes, each with these functions, made anew whenever one starts; all are up and linked. As in a
    /// [`NodeBuilder`](anabranch::NodeBuilder), the function of schedules is there beside them.
    ///
    /// # Panics
    /// There is to be no node at all.
    pub fn start(nodes: usize, functions: impl Fn() -> Vec<Function> + 'static) -> TestCluster {
        assert!(nodes > 0, "a cluster has a node at least");
        let mut plan = Plan::calm(1, nodes, Micros::MAX);
        plan.load.clients = 0;
        plan.load.kinds = Vec::new();
        let pairs = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b)));
        plan.rest = pairs.collect();
        let answers = Answers::default();
        let application = ByHand {
            functions: Box::new(functions),
            answers: Rc::clone(&answers),
        };
        let pace = Pace {
            clients: 1,
            think_us: 1.0,
            roams: 0.0,
            leaves: 0.0,
            doubts: 0.0,
        };
        let world = World::of_application(plan, QueueKind::Heap, None, Box::new(application), pace);
        let mut cluster = TestCluster { world, answers };
        cluster.wait("all nodes were up", |world| {
            let is_up = |node| world.with_cluster(|cluster| cluster.is_up(node));
            (0..nodes).all(is_up)
        });
        cluster.settle();
        cluster
    }

    /// From now on what happens is told, line by line: `|line| eprintln!("{line}")` where a test fails and one does not see why.
    pub fn tell(&mut self, teller: impl FnMut(&str) + 'static) {
        self.world.set_teller(Box::new(teller));
    }

    /// Calls the function of an entity at a node, as [`Node::call`](anabranch::Node::call) does, and waits for its answer.
    ///
    /// # Errors
    /// Those of the call. It ends by its deadline, ten virtual seconds, at the latest; at a node that is down at once.
    ///
    /// # Panics
    /// The name is no entity's, the argument cannot be written, or the reply is none of this type.
    pub fn call<A: Serialize + ?Sized, R: DeserializeOwned>(
        &mut self,
        node: NodeIx,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<R, Error> {
        let answered = self.ask(Ask::of(kind, key, method, argument).at(node));
        answered.reply().map_err(Clone::clone)
    }

    /// Makes an update at a node, as [`Node::update`](anabranch::Node::update) does, and waits until it has its level.
    ///
    /// ```
    /// use anabranch::{Copies, EntityId, Level, Mutation, Op, Reading, Stage, Type, Update};
    /// use anabranch_sim::app::TestCluster;
    ///
    /// // Without functions: what a program has that only keeps entities.
    /// let mut cluster = TestCluster::start(3, Vec::new);
    /// let page = EntityId::new("hits", "front page").unwrap();
    /// let hit = Update {
    ///     ops: vec![Op { entity: page.clone(), ty: Some(Type::PnCounter), mutation: Mutation::Increment(1) }],
    ///     level: Level { copies: Copies::Majority, stage: Stage::Durable },
    ///     ..Update::delete(page)
    /// };
    /// cluster.update(0, hit.clone())?;
    /// cluster.split(&[&[0], &[1, 2]]);
    /// assert!(cluster.update(0, hit).is_err(), "no majority is there, and it stays at the node");
    /// assert_eq!(cluster.read_majority(2, "hits", "front page")?, Some((Type::PnCounter, Reading::Count(1))));
    /// # Ok::<(), anabranch::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the update; at a node that is down at once.
    pub fn update(&mut self, node: NodeIx, update: Update) -> Result<(), Error> {
        self.ask(Ask::update(update).at(node)).result.map(|_| ())
    }

    /// Deletes an entity at a node, as [`Node::delete`](anabranch::Node::delete) does.
    ///
    /// # Errors
    /// Those of the update; at a node that is down at once.
    ///
    /// # Panics
    /// The name is no entity's.
    pub fn delete(&mut self, node: NodeIx, kind: &str, key: &str) -> Result<(), Error> {
        self.ask(Ask::delete(kind, key).at(node)).result.map(|_| ())
    }

    /// What more than half of the nodes have of an entity, asked of one as [`Node::read_majority`](anabranch::Node::read_majority)
    /// does. What a node itself has is [looked](TestCluster::look) at.
    ///
    /// # Errors
    /// Those of the read; at a node that is down at once.
    ///
    /// # Panics
    /// The name is no entity's.
    pub fn read_majority(
        &mut self,
        node: NodeIx,
        kind: &str,
        key: &str,
    ) -> Result<Option<(Type, Reading)>, Error> {
        let answered = self.ask(Ask::read_majority(kind, key).at(node));
        answered.result.map(|_| answered.read)
    }

    /// The same of whatever a client asks for: in a session, under a name, with another deadline. What is asked here is one
    /// client's, in one session; node 0 is asked where it names none.
    pub fn ask(&mut self, ask: Ask) -> Answered {
        self.begin_as(0, ask);
        self.finish(Begun { client: 0 })
    }

    /// Begins what another client asks for: others can be begun before it is [finished](TestCluster::finish).
    pub fn begin(&mut self, ask: Ask) -> Begun {
        let client = self.world.add_client();
        self.begin_as(client, ask);
        Begun { client }
    }

    fn begin_as(&mut self, client: usize, ask: Ask) {
        let node = ask.node().unwrap_or(0);
        let done = self.world.ask_by_hand(client, ask.at(node));
        held(done);
    }

    /// Waits for the answer to what was begun.
    #[allow(clippy::needless_pass_by_value, reason = "it is over")]
    pub fn finish(&mut self, begun: Begun) -> Answered {
        let (answers, client) = (Rc::clone(&self.answers), begun.client);
        self.wait("a call was answered", |_| answers.borrow().contains_key(&client));
        let answer = self.answers.borrow_mut().remove(&client);
        let Some(answer) = answer else {
            unreachable!("it is there");
        };
        answer
    }

    /// Opens a stream of an entity's function at a node, as [`Node::stream`](anabranch::Node::stream) does, and waits until it is open.
    ///
    /// ```
    /// # use anabranch::state::PnCounter;
    /// # use anabranch::{Context, Function};
    /// use anabranch_sim::app::TestCluster;
    /// # let hits = || {
    /// #     let hits = Function::of::<PnCounter>("hits")
    /// #         .command("hit", |hits, _: &mut Context, by: i64| {
    /// #             hits.increment(by);
    /// #             Ok::<_, String>(())
    /// #         })
    /// #         .query("show", |hits, _, ()| Ok::<_, String>(hits.get()));
    /// #     vec![hits.into()]
    /// # };
    /// let mut cluster = TestCluster::start(3, hits);
    /// let mut shown = cluster.stream(0, "hits", "a", "show", &())?;
    /// assert_eq!(cluster.next(&mut shown)?, Some(0));
    /// cluster.call::<_, ()>(2, "hits", "a", "hit", &5)?;
    /// assert_eq!(cluster.next(&mut shown)?, Some(5));
    /// cluster.leave(shown);
    /// cluster.settle();
    /// assert_eq!(cluster.look(|cluster| cluster.streams(0)), 0, "nobody follows it any more");
    /// # Ok::<(), anabranch::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of opening it; at a node that is down at once.
    ///
    /// # Panics
    /// The name is no entity's, or the argument cannot be written.
    pub fn stream<A: Serialize + ?Sized>(
        &mut self,
        node: NodeIx,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<Opened, Error> {
        self.open(Ask::stream(kind, key, method, argument).at(node))
    }

    /// The same of whatever [`Ask::stream`] makes: [on](Ask::on) another node, in a session. What it sends and how long it
    /// lasts is this test's to say.
    ///
    /// # Errors
    /// Those of opening it; at a node that is down at once.
    ///
    /// # Panics
    /// It opens no stream.
    pub fn open(&mut self, ask: Ask) -> Result<Opened, Error> {
        let encoding = ask.call().map_or(Encoding::Cbor, |call| call.payload.encoding);
        let client = self.world.add_client();
        self.begin_as(client, ask.by_hand());
        let mut opened = Opened {
            client,
            encoding,
            taken: 0,
            has_ended: false,
        };
        let answers = Rc::clone(&self.answers);
        self.wait("a stream was open", |world| {
            let is_open = world.stream_stands(client).is_some_and(|stands| stands.is_open);
            is_open || answers.borrow().contains_key(&client)
        });
        self.ended(&mut opened)?;
        Ok(opened)
    }

    /// Waits for a stream's next reply; `None` once it has ended well. As with a [`Streaming`](anabranch::Streaming), its function goes
    /// on only while this is waited for.
    ///
    /// # Errors
    /// What it has ended with, once.
    ///
    /// # Panics
    /// The reply is none of this type; nothing comes within 600 virtual seconds.
    pub fn next<R: DeserializeOwned>(&mut self, stream: &mut Opened) -> Result<Option<R>, Error> {
        if stream.has_ended {
            return Ok(None);
        }
        let (client, taken) = (stream.client, stream.taken);
        held(self.world.take_by_hand(client));
        self.wait("a stream replied", |world| {
            world
                .stream_stands(client)
                .is_none_or(|stands| stands.taken > taken)
        });
        let Some(stands) = self.world.stream_stands(client) else {
            self.ended(stream)?;
            return Ok(None);
        };
        stream.taken = stands.taken;
        let reply = stands.last.map(|last| last.read());
        Ok(reply.map(|reply| reply.unwrap_or_else(|e| panic!("a reply of a stream: {e}"))))
    }

    /// Sends a stream's function a message. It waits its turn, however many do.
    ///
    /// # Panics
    /// The message cannot be written.
    pub fn send<M: Serialize + ?Sized>(&mut self, stream: &mut Opened, message: &M) {
        let message = super::message(stream.encoding, message);
        held(self.world.send_by_hand(stream.client, Some(message)));
    }

    /// Says that a stream has no more messages, after all that were sent.
    pub fn finish_messages(&mut self, stream: &mut Opened) {
        held(self.world.send_by_hand(stream.client, None));
    }

    /// Whether all messages of a stream have found room on their way to its function.
    pub fn has_sent(&mut self, stream: &Opened) -> bool {
        let stands = self.world.stream_stands(stream.client);
        stands.is_none_or(|stands| stands.has_sent)
    }

    /// Goes away from a stream.
    #[allow(clippy::needless_pass_by_value, reason = "it is over")]
    pub fn leave(&mut self, stream: Opened) {
        held(self.world.leave_by_hand(stream.client));
        self.answers.borrow_mut().remove(&stream.client);
    }

    /// What a stream has ended with, if it has.
    fn ended(&mut self, stream: &mut Opened) -> Result<(), Error> {
        let answer = self.answers.borrow_mut().remove(&stream.client);
        let Some(answer) = answer else {
            return Ok(());
        };
        stream.has_ended = true;
        answer.result.map(|_| ())
    }

    /// Nodes of one side hear nothing of those of another; those that are on none hear everybody. What was split before stays split. As
    /// in production, who waits for somebody on the other side does not know yet that the link is gone.
    pub fn split(&mut self, sides: &[&[NodeIx]]) {
        let mut cut = Vec::new();
        for (at, side) in sides.iter().enumerate() {
            for &node in *side {
                let _ = self.checked(node);
                let others = sides.iter().enumerate().filter(|(other, _)| *other != at);
                cut.extend(others.flat_map(|(_, others)| others.iter().map(move |&other| (node, other))));
            }
        }
        held(self.world.fault_by_hand(Fault::Block(cut)));
    }

    /// Everybody can hear everybody again.
    pub fn heal(&mut self) {
        self.world.heal_links();
    }

    /// A node's process is killed: what it wrote to its disk is there, also what was not synced. Nothing happens where it is down.
    pub fn kill(&mut self, node: NodeIx) {
        let node = self.checked(node);
        held(self.world.stop_by_hand(node, Ending::Process));
    }

    /// A node's machine loses its power: of what was not synced, anything may be there.
    pub fn cut_power(&mut self, node: NodeIx) {
        let node = self.checked(node);
        held(self.world.stop_by_hand(node, Ending::Machine));
    }

    /// A node that is down is started again, and is up.
    pub fn restart(&mut self, node: NodeIx) {
        let node = self.checked(node);
        if !self.look(|cluster| cluster.is_up(node)) {
            self.world.boot_after(node, 0, None);
        }
        self.wait("a node was up again", |world| {
            world.with_cluster(|cluster| cluster.is_up(node))
        });
    }

    /// A node's process stands still for so long, and does not know it.
    pub fn pause(&mut self, node: NodeIx, time: Duration) {
        let node = self.checked(node);
        let us = micros(time);
        held(self.world.fault_by_hand(Fault::Pause { node, us }));
    }

    /// A node's wall clock is set so many milliseconds ahead, or back.
    pub fn set_clock_ahead(&mut self, node: NodeIx, ms: i64) {
        let node = self.checked(node);
        held(self.world.fault_by_hand(Fault::JumpClock(node, ms)));
    }

    /// So much time passes. Schedules come due, deadlines pass, links that were cut are found to be gone.
    pub fn pass(&mut self, time: Duration) {
        let until = self.world.now().saturating_add(micros(time));
        while held(self.world.go_on(until)) {}
        self.world.kernel.pass(until);
    }

    /// Waits until all nodes that run have all that there is, and nobody waits for anybody.
    ///
    /// # Panics
    /// That does not come about: of nodes that are split.
    pub fn settle(&mut self) {
        let end = self.world.now() + WAIT_US_MAX;
        while let Some(why) = self.world.unsettled() {
            let is_more = held(self.world.go_on(end));
            assert!(is_more, "it does not settle within 600 s: {why}");
        }
    }

    /// Waits until something is so at the nodes: that a function was told of a change, or a schedule was called for.
    ///
    /// # Panics
    /// It is not so within 600 virtual seconds.
    pub fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&Cluster<'_>) -> bool) {
        self.wait(what, |world| world.with_cluster(&mut is_so));
    }

    /// Looks at the nodes as they are: what they answer to queries, and hold, without a call.
    pub fn look<T>(&mut self, f: impl FnOnce(&Cluster<'_>) -> T) -> T {
        self.world.with_cluster(f)
    }

    fn wait(&mut self, what: &str, mut is_so: impl FnMut(&mut World) -> bool) {
        let end = self.world.now() + WAIT_US_MAX;
        while !is_so(&mut self.world) {
            let is_more = held(self.world.go_on(end));
            assert!(is_more, "600 s passed, and not so that {what}");
        }
    }

    fn checked(&mut self, node: NodeIx) -> NodeIx {
        let nodes = self.look(|cluster| cluster.nodes());
        assert!(
            node < nodes,
            "there is no node {node}: there are {nodes}, from 0 on"
        );
        node
    }
}

fn micros(time: Duration) -> Micros {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What the nodes did broke no rule.
fn held<T>(done: Result<T, Failure>) -> T {
    done.unwrap_or_else(|failure| panic!("{failure}"))
}

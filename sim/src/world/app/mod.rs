//! An application's functions at nodes, its clients, and the calls between them all: what the driver does with functions in
//! production, in virtual time.
//!
//! It stands above the rest of the world: that queues [`News`] for it, and everything it wants done is asked of that.
//!
//! Not here: what may be asked and what must hold (`crate::app`).
//! Contract: what becomes of a command is what `driver::functions` and `driver::calls` would make of it. A call that was sent is
//! never sent again; whoever goes away is waited for by nobody.

mod by_hand;
mod calling;
mod cancelling;
mod checks;
mod clients;
mod cluster;
mod desk;
mod direct;
mod effects;
mod news;
mod peers;
mod routing;
mod running;
mod streams;
mod triggers;
mod under_way;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use anabranch::engine::{Read, RequestId, Time};
use anabranch::session::{Config, Input, Session};
use anabranch::trigger::KEPT;
use anabranch::{EntityId, Error, Function, Payload, Token, Type};

use super::{Event as WorldEvent, Teller, World};
use crate::app::{Application, CallCounts};
use crate::net::NodeIx;
use crate::oracle::{Failure, Rule, broken};
use crate::plan::{Plan, SECOND};
use crate::queue::{Micros, QueueKind};

use calling::{Calling, For};
use clients::Client;
pub use cluster::Cluster;
use effects::Chain;
pub(crate) use news::Event;
pub(super) use news::News;
use peers::Asked;
use routing::Routing;
use streams::Streams;
use triggers::Triggers;

type Step = Result<(), Failure>;

/// Names a call, in the whole world.
pub(super) type CallIx = u64;

/// How much clients ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub clients: usize,
    /// The mean time between an answer and the next question, microseconds.
    pub think_us: f64,
    /// How likely a client goes to another node for its next call.
    pub roams: f64,
    /// How likely it goes away before it has its answer.
    pub leaves: f64,
    /// How likely a node that looks after schedules and changes takes another for dead that is not.
    pub doubts: f64,
}

/// What is to be done next, in the order in which it came up.
#[derive(Debug)]
enum Todo {
    Begin(CallIx),
    /// A call goes to the next node.
    Ask(CallIx),
    Session {
        node: NodeIx,
        entity: EntityId,
        input: Input,
    },
    Poll(CallIx),
    /// An engine is asked for what a stream waits for before it begins.
    Read {
        node: NodeIx,
        request: RequestId,
        read: Read,
    },
    NextEffect(CallIx),
    NextLater(u64),
    /// Whoever made a call hears how it went.
    Deliver(Delivery),
}

/// An answer on its way to whoever asked.
#[derive(Debug)]
struct Delivery {
    node: NodeIx,
    to: By,
    result: Result<Payload, Error>,
    /// What the session has seen, where there is one.
    session: Option<Token>,
    witness: calling::Witness,
}

/// Who made a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Client(usize),
    /// Another node.
    Peer {
        peer: NodeIx,
        epoch: u64,
        id: u64,
    },
    /// A function that waits for it.
    Function {
        of: CallIx,
        slot: u64,
    },
    /// A function that answers with a stream, and waits for it.
    Stream {
        of: u64,
        slot: u64,
    },
    /// A command whose effect it is, and that waits for it.
    Effect {
        of: CallIx,
    },
    /// A call that was forwarded, to where it is not.
    Forward {
        of: CallIx,
    },
    /// Nobody waits.
    Later {
        chain: u64,
    },
    /// What its node sees to of its own accord.
    Errand {
        number: u64,
    },
    /// A call that goes from node to node.
    Routed {
        number: u64,
    },
}

/// A session of an entity at a node.
#[derive(Debug)]
struct Hosted {
    session: Session,
    wake_at: Option<Time>,
}

/// The functions of a node's run, by kind.
type Functions = BTreeMap<String, Arc<Function>>;

/// An application on a world.
pub(super) struct Apps {
    application: Box<dyn Application>,
    pace: Pace,
    /// Per node.
    functions: Vec<Functions>,
    triggers: Vec<Option<Triggers>>,
    clients: Vec<Client>,
    sessions: BTreeMap<(NodeIx, EntityId), Hosted>,
    callings: BTreeMap<CallIx, Calling>,
    /// Whose each command is.
    commands: BTreeMap<u64, CallIx>,
    /// What each request to an engine was for.
    requests: BTreeMap<u64, (NodeIx, For)>,
    /// What clients ask without a function.
    directs: BTreeMap<CallIx, direct::Asked>,
    /// Calls that go from node to node until one answers.
    routes: BTreeMap<CallIx, Routing>,
    /// Calls of other nodes that wait for their answers.
    asked: BTreeMap<u64, Asked>,
    /// Calls of other nodes that are being answered: where, of whom, in which of its epochs, under which name.
    served: BTreeMap<(NodeIx, NodeIx, u64, u64), CallIx>,
    /// Effects that nobody waits for.
    chains: BTreeMap<u64, Chain>,
    streams: Streams,
    agenda: VecDeque<Todo>,
    /// What came for processes that stand still.
    held: Vec<(NodeIx, News)>,
    next: u64,
    counts: CallCounts,
}

impl World {
    /// The world of a plan for an application, before anything has happened.
    pub(crate) fn of_application(
        plan: Plan,
        queue: QueueKind,
        teller: Option<Teller>,
        application: Box<dyn Application>,
        pace: Pace,
    ) -> World {
        let apps = Apps {
            functions: vec![Functions::new(); plan.nodes],
            triggers: (0..plan.nodes).map(|_| None).collect(),
            clients: (0..pace.clients).map(|ix| Client::new(&plan, ix)).collect(),
            application,
            pace,
            sessions: BTreeMap::new(),
            callings: BTreeMap::new(),
            commands: BTreeMap::new(),
            requests: BTreeMap::new(),
            directs: BTreeMap::new(),
            routes: BTreeMap::new(),
            asked: BTreeMap::new(),
            served: BTreeMap::new(),
            chains: BTreeMap::new(),
            streams: Streams::default(),
            agenda: VecDeque::new(),
            held: Vec::new(),
            next: 1,
            counts: CallCounts::default(),
        };
        let mut world = World::with(plan, queue, teller, Some(Box::new(apps)));
        for client in 0..pace.clients {
            let event = WorldEvent::App(Event::Client { client });
            world.kernel.at(SECOND / 10 + client as Micros * 7_000, event);
        }
        world
    }

    /// What became of an application's calls so far.
    pub(crate) fn call_counts(&self) -> CallCounts {
        self.apps
            .as_ref()
            .map_or_else(CallCounts::default, |apps| apps.counts)
    }

    /// Whether it runs an application.
    pub(super) fn is_application(&self) -> bool {
        self.oracle.ledger.is_blind()
    }

    pub(super) fn is_still(&self, node: NodeIx) -> bool {
        self.hosts[node].paused_until > self.kernel.now()
    }

    /// The kinds of its functions and their types, as a node is started with them.
    pub(super) fn kinds_of_functions(&self) -> BTreeMap<String, Type> {
        let functions = self.apps.as_ref().map(|apps| apps.application.functions());
        let functions = functions.into_iter().flatten();
        // As in production, what is kept for triggers has its kind wherever there are functions.
        let kept = self.apps.is_some().then(|| (KEPT.to_owned(), Type::RegisterMap));
        functions
            .map(|function| (function.kind().to_owned(), function.ty()))
            .chain(kept)
            .collect()
    }

    /// With the application, if one runs here, while something is done to both.
    fn with_apps<T>(&mut self, f: impl FnOnce(&mut Apps, &mut World) -> T) -> Option<T> {
        let mut apps = self.apps.take()?;
        let done = f(&mut apps, self);
        self.apps = Some(apps);
        Some(done)
    }

    /// The application hears all that has happened, and everything follows from that.
    pub(super) fn run_application(&mut self) -> Step {
        let drained = self.with_apps(|apps, world| apps.drain(world));
        drained.unwrap_or_else(|| {
            self.news.clear();
            Ok(())
        })
    }

    /// All agree: the application says whether they are right.
    pub(super) fn rest_application(&mut self) -> Step {
        let judge = |apps: &mut Apps, world: &mut World| {
            let cluster = Cluster::new(world, &apps.functions, &apps.streams);
            apps.application.at_rest(&cluster)
        };
        let judged = self.with_apps(judge).unwrap_or(Ok(()));
        judged.map_err(|why| broken(Rule::Application, None, why))
    }

    /// What an application says that must still come.
    pub(super) fn awaited(&mut self) -> Option<String> {
        let awaited = self.with_apps(|apps, world| {
            let cluster = Cluster::new(world, &apps.functions, &apps.streams);
            apps.application.awaits(&cluster)
        });
        awaited.flatten()
    }

    /// What there is still to say on streams of clients, who leave them then; or what of theirs is left.
    pub(super) fn settle_streams(&mut self) -> Result<Option<String>, Failure> {
        let settled = self.with_apps(|apps, world| apps.settle_streams(world));
        let unsettled = settled.unwrap_or(Ok(None))?;
        self.run_application()?;
        Ok(unsettled)
    }

    /// What an application counts.
    pub(super) fn marks(&self) -> BTreeMap<&'static str, u64> {
        let apps = self.apps.as_ref();
        apps.map(|apps| apps.application.marks()).unwrap_or_default()
    }
}

impl Apps {
    fn drain(&mut self, world: &mut World) -> Step {
        loop {
            if let Some(news) = world.news.pop_front() {
                self.on_news(world, news)?;
            } else if let Some(todo) = self.agenda.pop_front() {
                self.on_todo(world, todo)?;
            } else if let Some(who) = self.streams.bells.next() {
                self.on_bell(world, who)?;
            } else if !self.send_line(world) {
                return Ok(());
            }
        }
    }

    fn on_news(&mut self, world: &mut World, news: News) -> Step {
        if let Some(node) = news.of_process() {
            if world.is_still(node) {
                self.held.push((node, news));
                return Ok(());
            }
            if world.hosts[node].life.is_none() {
                return Ok(());
            }
        }
        match news {
            News::Event(event) => self.on_event(world, event),
            News::Done {
                node,
                request,
                result,
            } => self.on_done(world, node, request, result),
            News::Frame {
                node,
                from,
                epoch,
                bytes,
            } => self.on_frame(world, node, from, epoch, &bytes),
            News::Line {
                node,
                from,
                epoch,
                bytes,
            } => {
                self.on_line(world, node, (from, epoch), &bytes);
                Ok(())
            }
            News::Changed { node, entity } => {
                self.wake_streams(node, Some(&entity));
                self.on_changed(world, node, &entity);
                Ok(())
            }
            News::Linked(node) => {
                self.wake_streams(node, None);
                self.look_around(world, node);
                Ok(())
            }
            News::Unlinked { node, peer } => {
                self.on_unlinked(world, node, peer);
                self.cut_streams(node, peer);
                self.wake_streams(node, None);
                self.look_around(world, node);
                Ok(())
            }
            News::Started(node) => self.on_started(world, node),
            News::Stopped(node) => {
                self.on_stopped(node);
                Ok(())
            }
            News::Resumed(node) => {
                let held = std::mem::take(&mut self.held);
                let (mine, others): (Vec<_>, Vec<_>) = held.into_iter().partition(|(of, _)| *of == node);
                self.held = others;
                mine.into_iter()
                    .try_for_each(|(_, news)| self.on_news(world, news))
            }
        }
    }

    fn on_event(&mut self, world: &mut World, event: Event) -> Step {
        match event {
            Event::Client { client } => self.on_client(world, client),
            Event::Leaves { client, call } => self.on_leaves(world, client, call),
            Event::Arrives { call, .. } => self.begin(world, call),
            Event::Ran { call, .. } => self.on_ran(world, call),
            Event::Session {
                node,
                lives,
                entity,
                at,
            } => self.on_session_due(world, node, lives, entity, at),
            Event::Overdue { id, .. } => {
                self.on_overdue(id);
                Ok(())
            }
            Event::Look { node, lives, at } => self.on_look(world, node, lives, at),
            Event::Rings { who, .. } => self.on_bell(world, who),
            Event::Steps { number, .. } => {
                self.on_step(world, number);
                Ok(())
            }
            Event::Ends { number, .. } => {
                self.end_stream(world, number);
                Ok(())
            }
            Event::Takes { number, .. } => {
                self.on_takes(number);
                Ok(())
            }
            Event::Sends { number, .. } => {
                self.on_sends(number);
                Ok(())
            }
        }
    }

    fn on_todo(&mut self, world: &mut World, todo: Todo) -> Step {
        match todo {
            Todo::Begin(call) => self.begin(world, call),
            Todo::Ask(call) => {
                self.ask_next(world, call);
                Ok(())
            }
            Todo::Session { node, entity, input } => self.tell(world, node, &entity, input),
            Todo::Poll(call) => self.poll(world, call),
            Todo::Read { node, request, read } => self.read_for_stream(world, node, request, read),
            Todo::NextEffect(call) => self.next_effect(world, call),
            Todo::NextLater(chain) => {
                self.next_later(world, chain);
                Ok(())
            }
            Todo::Deliver(delivery) => self.deliver(world, delivery),
        }
    }

    /// Gives an entity's session one input, and does all that it asks for then.
    fn tell(&mut self, world: &mut World, node: NodeIx, entity: &EntityId, input: Input) -> Step {
        let now = Time(world.kernel.now());
        let Some(life) = &world.hosts[node].life else {
            return Ok(());
        };
        let place = (node, entity.clone());
        if matches!(input, Input::Command { .. })
            && let Some(function) = self.functions[node].get(entity.kind())
        {
            let config = Config::new(world.hosts[node].id, entity.clone(), function.ty());
            self.sessions.entry(place.clone()).or_insert_with(|| Hosted {
                session: Session::new(Config {
                    remembers: false,
                    ..config
                }),
                wake_at: None,
            });
        }
        let (Some(hosted), Some(function)) = (
            self.sessions.get_mut(&place),
            self.functions[node].get(entity.kind()),
        ) else {
            return Ok(());
        };
        let look = || life.engine.view_to_change(entity, function.ty());
        hosted.session.handle(now, input, &look);
        while let Some(hosted) = self.sessions.get_mut(&place)
            && let Some(output) = hosted.session.poll_output()
        {
            self.on_session_output(world, node, entity, output)?;
        }
        self.look_after(world, place);
        Ok(())
    }

    /// A session is forgotten when nobody needs it, and woken when it asked for that.
    fn look_after(&mut self, world: &mut World, place: (NodeIx, EntityId)) {
        let Some(hosted) = self.sessions.get_mut(&place) else {
            return;
        };
        if hosted.session.is_vacant() {
            self.sessions.remove(&place);
            return;
        }
        let due = hosted.session.next_wakeup();
        if let Some(at) = due.filter(|at| hosted.wake_at.is_none_or(|planned| *at < planned)) {
            hosted.wake_at = Some(at);
            let (node, entity) = place;
            let lives = world.hosts[node].lives;
            let event = Event::Session {
                node,
                lives,
                entity,
                at,
            };
            world.kernel.at(at.0, WorldEvent::App(event));
        }
    }

    fn on_session_due(
        &mut self,
        world: &mut World,
        node: NodeIx,
        lives: u64,
        entity: EntityId,
        at: Time,
    ) -> Step {
        let hosted = self.sessions.get_mut(&(node, entity.clone()));
        let Some(hosted) = hosted.filter(|hosted| hosted.wake_at == Some(at)) else {
            return Ok(());
        };
        if world.hosts[node].lives != lives {
            return Ok(());
        }
        hosted.wake_at = None;
        self.tell(world, node, &entity, Input::Wakeup)
    }

    /// A node's run begins with functions of its own.
    fn on_started(&mut self, world: &mut World, node: NodeIx) -> Step {
        let mut functions = Functions::new();
        for function in self.application.functions_at(node) {
            let problem = function.problem();
            let kind = function.kind().to_owned();
            let twice = || format!("kind {kind:?} has two functions");
            let is_second = functions.insert(kind.clone(), Arc::new(function)).is_some();
            if let Some(problem) = problem.or_else(|| is_second.then(twice)) {
                return Err(broken(Rule::Application, node, problem));
            }
        }
        self.functions[node] = functions;
        self.begin_triggers(world, node);
        Ok(())
    }

    /// A node has died, and everything that was under way at it. Only clients notice at once.
    fn on_stopped(&mut self, node: NodeIx) {
        self.functions[node].clear();
        self.triggers[node] = None;
        self.sessions.retain(|(of, _), _| *of != node);
        self.requests.retain(|_, (of, _)| *of != node);
        self.served.retain(|(of, ..), _| *of != node);
        self.chains.retain(|_, chain| chain.node != node);
        self.held.retain(|(of, _)| *of != node);
        let gone: Vec<Calling> = self
            .callings
            .extract_if(.., |_, calling| calling.node == node)
            .map(|(_, calling)| calling)
            .collect();
        for calling in gone {
            self.commands.retain(|id, _| calling.command != Some(*id));
            self.tell_of_death(node, calling.by, calling.witness);
        }
        self.stop_streams(node);
        let routes = self.routes.extract_if(.., |_, routing| routing.node == node);
        let routes = routes.map(|(_, routing)| routing.by);
        let asked = self.asked.extract_if(.., |_, asked| asked.node == node);
        let asked = asked.map(|(_, asked)| asked.by);
        let directs = self.directs.extract_if(.., |_, direct| direct.node == node);
        let directs = directs.map(|(_, direct)| By::Client(direct.client));
        let others: Vec<By> = routes.chain(asked).chain(directs).collect();
        for by in others {
            self.tell_of_death(node, by, calling::Witness::default());
        }
    }

    /// A client hears that the node has died which it had asked.
    fn tell_of_death(&mut self, node: NodeIx, by: By, witness: calling::Witness) {
        if let By::Client(_) = by {
            let why = format!("node {node} died before it answered");
            self.agenda.push_back(Todo::Deliver(Delivery {
                node,
                to: by,
                result: Err(Error::new(anabranch::ErrorKind::Unanswered, why)),
                session: None,
                witness,
            }));
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

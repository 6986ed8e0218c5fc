//! A few engines in one room, driven by a script: the tests' one door.
//!
//! A script is lines; `#` begins a comment. Nodes are `a`, `b`, `c`, ...; entities `TYPE/KEY` with the type's first letters
//! (`g` counter, `p` counter with negatives, `s` set, `r` register).
//!
//! A `?` among the nodes' names: others are expected that are not known yet.
//!
//! | line | meaning |
//! |---|---|
//! | `a p/x incr 5` (`add E..`, `remove E..`, `clear`, `create`, `set V`, `set V @7`, `transfer 4 b2`: to b's epoch 2) | an update, level local-applied |
//! | `a o/x add E.. into K TYPE` | the same of a child of a map |
//! | `token a T`, `a reads s/x after T`, `a reads all after T` | the token of a's last answer is added to session T; a read of that session, as below |
//! | `forget a T` | session T loses what every member has durably, as far as a knows who that is |
//! | `a asks s/x` | a majority read, given up after a second: `answers` and `refused` tell of it as of an update |
//! | `a showed p/x = 5` | what the last of them that was answered at a showed |
//! | `a sees s/x`, `a commits s/x remove E..` | a takes a view; an update by the view that was taken last, several operations with `;` |
//! | `a durable p/x incr 5 key K` | an update at the default level, answered after `sync` |
//! | `link a b`, `cut a b` | a link comes up, goes down |
//! | `ahead MS` | all wall clocks are so far ahead of the monotonic one |
//! | `run` | deliver everything until nothing is under way, no time passes |
//! | `wait MS` | time passes, wake-ups and deliveries included |
//! | `pass a b` | deliver what is under way from a to b, now |
//! | `lose a b` | lose what is under way from a to b |
//! | `sync a` | what a handed to its log becomes durable |
//! | `crash a` | a stops; what was not synced is lost; its links go |
//! | `wipe a` | the same, and its directory is gone |
//! | `copy a`, `restore a` | a's directory is copied, is replaced by its copy |
//! | `start a` | a starts from its directory, under a new epoch |
//! | `a p/x = 5`, `a s/x = [e f]`, `a r/x = V`, `a p/x absent` | what a reads |
//! | `equal a b` | same vectors, same bytes, same fingerprints |
//! | `answers a N` | so many updates were answered well at a since the last time asked |
//! | `refused a KIND` | the last update at a was refused so |

use std::collections::{BTreeMap, VecDeque};

use anabranch_crdt::{Clock, Epoch, Mutation, NodeId, Reading, ReplicaId, Type};
use bytes::Bytes;

use crate::engine::{
    Engine, EngineConfig, Input, Level, Limits, Now, Op, Output, Read, RecordId, RequestId, Stage, Start,
    Time, Update, View,
};
use crate::error::Error;
use crate::wire::{DirectoryId, EntityId, Frame, IdempotencyKey, Token};

/// Answered at once.
const APPLIED: Level = Level {
    copies: crate::engine::Copies::Local,
    stage: Stage::Applied,
};

#[derive(Clone, Default)]
struct Directory {
    durable: Vec<Bytes>,
    epoch: Option<Epoch>,
}

struct Running {
    engine: Engine,
    epoch: Epoch,
    unsynced: VecDeque<(RecordId, Bytes)>,
    answered: usize,
    last: Option<Result<(), Error>>,
    /// Of the last answer.
    token: Token,
    shown: Option<View>,
}

pub(super) struct World {
    limits: Limits,
    members: Vec<NodeId>,
    expects_others: bool,
    now: Time,
    ahead_ms: u64,
    running: BTreeMap<char, Running>,
    tokens: BTreeMap<String, Token>,
    /// What functions at nodes saw of their entities.
    views: BTreeMap<(char, EntityId), View>,
    directories: BTreeMap<char, Directory>,
    copies: BTreeMap<char, Directory>,
    links: Vec<(char, char)>,
    under_way: BTreeMap<(char, char), VecDeque<Bytes>>,
    starts: u64,
    requests: u64,
    shards: u32,
    /// Frames arrive as soon as they are sent, unless a test paces them.
    pub(super) at_once: bool,
    /// What a link could have carried besides, of a frame that did not fit.
    credit: BTreeMap<(char, char), usize>,
    /// Every frame that was sent, with its sender.
    pub(super) sent: Vec<(char, Bytes)>,
    /// Of how many shards a node spoke in one step, at most.
    pub(super) spoken_of_at_once: usize,
    /// Who was fenced, and with which epoch.
    pub(super) fenced: Vec<(char, Epoch)>,
    /// How often a node closed a link because of what came over it.
    pub(super) refused: usize,
}

/// Runs a script from the beginning, with the default limits.
pub(super) fn check(nodes: &str, script: &str) -> World {
    check_with(nodes, Limits::default(), script)
}

pub(super) fn check_with(nodes: &str, limits: Limits, script: &str) -> World {
    check_shards(nodes, 1, limits, script)
}

pub(super) fn check_shards(nodes: &str, shards: u32, limits: Limits, script: &str) -> World {
    let mut world = World {
        limits,
        members: nodes.chars().filter(|c| *c != '?').map(node_id).collect(),
        expects_others: nodes.contains('?'),
        now: Time(1_000_000),
        ahead_ms: 0,
        running: BTreeMap::new(),
        views: BTreeMap::new(),
        tokens: BTreeMap::new(),
        directories: BTreeMap::new(),
        copies: BTreeMap::new(),
        links: Vec::new(),
        under_way: BTreeMap::new(),
        starts: 0,
        requests: 0,
        shards,
        at_once: true,
        credit: BTreeMap::new(),
        sent: Vec::new(),
        spoken_of_at_once: 0,
        fenced: Vec::new(),
        refused: 0,
    };
    for name in nodes.chars().filter(|c| *c != '?') {
        world.start(name);
    }
    world.script(script);
    world
}

pub(super) fn node_id(name: char) -> NodeId {
    NodeId(name as u128)
}

fn name_of(id: NodeId) -> char {
    char::from_u32(id.0 as u32).unwrap()
}

fn entity(text: &str) -> (EntityId, Type) {
    let ty = match &text[..1] {
        "g" => Type::GCounter,
        "p" => Type::PnCounter,
        "s" => Type::OrSet,
        "r" => Type::LwwRegister,
        "b" => Type::GSet,
        "f" => Type::Flag,
        "m" => Type::MvRegister,
        "v" => Type::Vote,
        "e" => Type::BoundedCounter, // escrow
        "c" => Type::CounterMap,
        "o" => Type::OrMap,
        other => panic!("no type begins with {other}"),
    };
    let (kind, key) = text.split_once('/').unwrap();
    (EntityId::new(kind, key).unwrap(), ty)
}

fn mutation(words: &[&str]) -> Mutation {
    let bytes = |w: &[&str]| {
        w.iter()
            .map(|e| Bytes::copy_from_slice(e.as_bytes()))
            .collect::<Vec<_>>()
    };
    match words {
        [op @ .., "into", key, ty] => Mutation::Update {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ty: Some(ty.parse().unwrap()),
            mutation: Box::new(mutation(op)),
        },
        ["incr", n, "in", key] => Mutation::Update {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ty: None,
            mutation: Box::new(Mutation::Increment(n.parse().unwrap())),
        },
        ["incr", n] => Mutation::Increment(n.parse().unwrap()),
        ["add", e @ ..] => Mutation::Add(bytes(e)),
        ["remove", e @ ..] => Mutation::Remove(bytes(e)),
        ["clear"] => Mutation::Clear,
        ["delete"] => Mutation::Delete,
        ["create"] => Mutation::Create,
        ["enable"] => Mutation::Enable,
        ["disable"] => Mutation::Disable,
        ["vote", yes] => Mutation::Vote(*yes == "yes"),
        ["transfer", amount, to] => {
            let (to, epoch) = to.split_at(1);
            Mutation::Transfer {
                to: ReplicaId::new(node_id(to.chars().next().unwrap()), Epoch(epoch.parse().unwrap())),
                amount: amount.parse().unwrap(),
            }
        }
        ["set", v] => Mutation::Set {
            value: Bytes::copy_from_slice(v.as_bytes()),
            clock: Clock::Default,
        },
        ["set", v, clock] => Mutation::Set {
            value: Bytes::copy_from_slice(v.as_bytes()),
            clock: Clock::Custom(clock.trim_start_matches('@').parse().unwrap()),
        },
        other => panic!("no operation {other:?}"),
    }
}

impl World {
    pub(super) fn now(&self) -> Now {
        Now {
            time: self.now,
            wall_ms: 1_700_000_000_000 + self.now.0 / 1_000 + self.ahead_ms,
        }
    }

    /// Goes on with more lines.
    pub(super) fn script(&mut self, script: &str) {
        for line in script.lines() {
            let line = line.split('#').next().unwrap_or("").trim();
            if !line.is_empty() {
                self.line(line);
                self.assert_whole(line);
                assert_eq!(self.refused, 0, "{line}: a node refused what another sent");
            }
        }
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = |w: &str| w.chars().next().unwrap();
        match words.as_slice() {
            ["link", x, y] => self.link(name(x), name(y)),
            ["cut", x, y] => self.cut(name(x), name(y)),
            ["run"] => self.run(),
            ["ahead", ms] => self.ahead_ms = ms.parse().unwrap(),
            ["wait", ms] => self.wait(ms.parse().unwrap()),
            ["pass", x, y] => self.pass(name(x), name(y)),
            ["lose", x, y] => {
                let lost = self.under_way.remove(&(name(x), name(y))).unwrap_or_default();
                let bytes: usize = lost.iter().map(Bytes::len).sum();
                self.taken(name(x), name(y), bytes);
            }
            ["sync", x] => self.sync(name(x)),
            ["crash", x] => self.crash(name(x)),
            ["wipe", x] => {
                self.crash(name(x));
                self.directories.remove(&name(x));
            }
            ["copy", x] => {
                let copy = self.directories[&name(x)].clone();
                self.copies.insert(name(x), copy);
            }
            ["restore", x] => {
                let copy = self.copies[&name(x)].clone();
                self.directories.insert(name(x), copy);
            }
            ["start", x] => self.start(name(x)),
            ["equal", x, y] => self.assert_equal(name(x), name(y), line),
            ["answers", x, n] => {
                let running = self.running.get_mut(&name(x)).unwrap();
                assert_eq!(
                    std::mem::take(&mut running.answered),
                    n.parse::<usize>().unwrap(),
                    "{line}"
                );
            }
            ["refused", x, kind] => {
                let last = self.running[&name(x)].last.clone();
                assert_eq!(last.unwrap().unwrap_err().kind().name(), *kind, "{line}");
            }
            [x, e, "absent"] => assert_eq!(self.engine(name(x)).read(&entity(e).0), None, "{line}"),
            [x, "showed", e, "=", ..] => self.assert_showed(name(x), e, &words[4..], line),
            [x, e, "=", ..] => self.assert_reads(name(x), e, &words[3..], line),
            [x, "durable", e, rest @ ..] => {
                let at = rest.iter().position(|w| *w == "key");
                let (op, key) = at.map_or((rest, None), |i| (&rest[..i], Some(rest[i + 1])));
                self.update(name(x), e, mutation(op), Level::default(), key);
            }
            [x, level, e, rest @ ..] if level.parse::<Level>().is_ok() => {
                self.update(name(x), e, mutation(rest), level.parse().unwrap(), None);
            }
            ["token", x, token] => {
                let seen = self.running[&name(x)].token.clone();
                self.tokens.entry((*token).to_owned()).or_default().join(&seen);
            }
            ["forget", x, token] => {
                let left = self.without_stable(name(x), &self.tokens[*token]);
                self.tokens.insert((*token).to_owned(), left);
            }
            [x, "reads", e, "after", token] => {
                self.requests += 1;
                let request = RequestId(self.requests);
                let all = *e == "all";
                let read = Read {
                    entities: if all { Vec::new() } else { vec![entity(e).0] },
                    all,
                    after: self.tokens[*token].clone(),
                    majority: false,
                    timeout_ms: 1_000,
                };
                self.handle(name(x), Input::Read { request, read });
            }
            [x, "asks", e] => {
                self.requests += 1;
                let request = RequestId(self.requests);
                let read = Read {
                    entities: vec![entity(e).0],
                    all: false,
                    after: Token::default(),
                    majority: true,
                    timeout_ms: 1_000,
                };
                self.handle(name(x), Input::Read { request, read });
            }
            [x, "sees", e] => {
                let (id, ty) = entity(e);
                let view = self.engine(name(x)).view(&id, ty).unwrap();
                self.views.insert((name(x), id), view);
            }
            [x, "commits", e, rest @ ..] => self.commit(name(x), e, rest),
            [x, e, rest @ ..] => {
                let level = Level {
                    stage: Stage::Applied,
                    ..Level::default()
                };
                self.update(name(x), e, mutation(rest), level, None);
            }
            other => panic!("no command {other:?}"),
        }
    }

    fn without_stable(&self, name: char, token: &Token) -> Token {
        let engine = self.engine(name);
        let mut left = Token::default();
        for (id, replica, seq) in token.iter() {
            let shard = &engine.shards[id.0 as usize];
            let stable = engine.stable(shard);
            let is_stable = shard
                .replicas
                .get(replica)
                .is_some_and(|ix| stable.get(ix) >= seq);
            if !is_stable {
                left.insert(id, replica, seq);
            }
        }
        left
    }

    /// Sessions go on in another cluster.
    pub(super) fn take_tokens(&mut self, from: &mut World) {
        self.tokens.append(&mut from.tokens);
    }

    fn commit(&mut self, name: char, e: &str, words: &[&str]) {
        let (id, ty) = entity(e);
        let view = self.views[&(name, id.clone())].clone();
        let op = |words: &[&str]| Op {
            entity: id.clone(),
            ty: Some(ty),
            mutation: mutation(words),
        };
        self.requests += 1;
        let request = RequestId(self.requests);
        let update = Update {
            ops: words.split(|word| *word == ";").map(op).collect(),
            level: APPLIED,
            key: None,
            after: None,
            timeout_ms: 1_000,
        };
        self.handle(
            name,
            Input::Commit {
                request,
                update,
                view,
            },
        );
    }

    /// What a node writes down is read by one that starts from it, and is the same there.
    pub(super) fn assert_image_reads(&self, name: char) {
        let shard = crate::wire::ShardId(0);
        let engine = self.engine(name);
        let mut next = Engine::new(self.config(name), self.now());
        for block in engine.image() {
            next.recover_image(&block).unwrap();
        }
        assert_eq!(next.canonical_bytes(shard), engine.canonical_bytes(shard));
        assert_eq!(next.fingerprint(shard), engine.fingerprint(shard));
        assert_eq!(next.keeps_since, engine.keeps_since);
    }

    pub(super) fn engine(&self, name: char) -> &Engine {
        &self.running[&name].engine
    }

    /// What the last update at a node was refused with.
    pub(super) fn refusal(&self, name: char) -> String {
        let last = self.running[&name].last.clone();
        last.unwrap().unwrap_err().message().to_owned()
    }

    pub(super) fn handle(&mut self, name: char, input: Input) {
        let now = self.now();
        let Some(running) = self.running.get_mut(&name) else {
            return;
        };
        running.engine.handle(now, input);
        let mut spoken_of = 0;
        while let Some(output) = running.engine.poll_output() {
            match output {
                Output::Send { peer, frame, .. } => {
                    if let Ok(Some(Frame::Said(said))) = Frame::decode(&frame) {
                        spoken_of += said.shards.len();
                    }
                    self.sent.push((name, frame.clone()));
                    self.under_way
                        .entry((name, name_of(peer)))
                        .or_default()
                        .push_back(frame);
                }
                Output::Persist { id, payload } => running.unsynced.push_back((id, payload)),
                Output::Done { result, .. } => {
                    running.answered += usize::from(result.is_ok());
                    if let Ok(answer) = &result {
                        running.token = answer.token.clone();
                        running.shown = answer.shown.first().cloned();
                    }
                    running.last = Some(result.map(|_| ()));
                }
                Output::Changed { .. } => {}
                Output::Disconnect { .. } => self.refused += 1,
                Output::Fence { peer, newest, .. } => self.fenced.push((name_of(peer), newest)),
                Output::AdoptEpoch { .. } => panic!("{name} was fenced"),
            }
        }
        self.spoken_of_at_once = self.spoken_of_at_once.max(spoken_of);
    }

    /// More nodes start.
    pub(super) fn join_later(&mut self, nodes: &str) {
        self.members.extend(nodes.chars().map(node_id));
        nodes.chars().for_each(|name| self.start(name));
    }

    /// A peer claims to know an epoch of this node.
    pub(super) fn fence(&mut self, from: char, to: char, newest: Epoch) {
        let by = node_id(from);
        self.handle(to, Input::Fenced { by, newest });
    }

    /// A peer says hello under some epoch.
    pub(super) fn connect(&mut self, name: char, peer: char, epoch: Epoch) {
        let (peer, wall_ms) = (node_id(peer), self.now().wall_ms);
        self.handle(name, Input::Connected { peer, epoch, wall_ms });
    }

    /// The sum of all that a node has.
    pub(super) fn rollup(&mut self, name: char) -> u64 {
        let running = self.running.get_mut(&name).unwrap();
        running.engine.rollup()
    }

    /// Bytes arrive that nobody here sent.
    pub(super) fn inject(&mut self, from: char, to: char, frame: Bytes) {
        let epoch = self.running[&from].epoch;
        self.handle(
            to,
            Input::Received {
                peer: node_id(from),
                epoch,
                frame,
            },
        );
        self.assert_whole("injected bytes");
    }

    /// Several operations on one entity as one update.
    pub(super) fn update_all(&mut self, name: char, e: &str, mutations: Vec<Mutation>) {
        let (entity, ty) = entity(e);
        let op = |mutation| Op {
            entity: entity.clone(),
            ty: Some(ty),
            mutation,
        };
        self.submit(name, mutations.into_iter().map(op).collect(), APPLIED, None);
    }

    pub(super) fn update(
        &mut self,
        name: char,
        e: &str,
        mutation: Mutation,
        level: Level,
        key: Option<&str>,
    ) {
        let (entity, ty) = entity(e);
        let ops = vec![Op {
            entity,
            ty: Some(ty),
            mutation,
        }];
        self.submit(name, ops, level, key);
    }

    fn submit(&mut self, name: char, ops: Vec<Op>, level: Level, key: Option<&str>) {
        self.requests += 1;
        let key = key.map(|k| IdempotencyKey::new(k.as_bytes()).unwrap());
        let update = Update {
            after: None,
            ops,
            level,
            key,
            timeout_ms: 10_000,
        };
        self.handle(
            name,
            Input::Submit {
                request: RequestId(self.requests),
                update,
            },
        );
    }

    fn config(&self, name: char) -> EngineConfig {
        EngineConfig {
            cluster: "test".into(),
            node: node_id(name),
            shards: self.shards,
            members: self.members.clone(),
            kinds: BTreeMap::new(),
            limits: self.limits.clone(),
        }
    }

    fn start(&mut self, name: char) {
        self.starts += 1;
        let config = self.config(name);
        let directory = self.directories.entry(name).or_default();
        let now = Now {
            time: self.now,
            wall_ms: 1_700_000_000_000 + self.now.0 / 1_000,
        };
        let mut engine = Engine::new(config, now);
        for record in &directory.durable {
            engine.recover_record(record).unwrap();
        }
        if self.expects_others {
            engine.expect_others();
        }
        let epoch = Epoch(self.starts);
        engine.start(
            now,
            Start {
                epoch,
                before: directory.epoch.replace(epoch),
                directory: DirectoryId(self.starts.into()),
            },
        );
        let running = Running {
            engine,
            epoch,
            unsynced: VecDeque::new(),
            answered: 0,
            last: None,
            token: Token::default(),
            shown: None,
        };
        self.running.insert(name, running);
    }

    fn crash(&mut self, name: char) {
        for (x, y) in self.links.clone() {
            if x == name || y == name {
                self.cut(x, y);
            }
        }
        self.running.remove(&name);
    }

    fn link(&mut self, x: char, y: char) {
        self.links.push((x, y));
        for (me, peer) in [(x, y), (y, x)] {
            let wall_ms = self.now().wall_ms;
            let epoch = self.running[&peer].epoch;
            self.handle(
                me,
                Input::Connected {
                    peer: node_id(peer),
                    epoch,
                    wall_ms,
                },
            );
        }
    }

    fn cut(&mut self, x: char, y: char) {
        self.links.retain(|l| *l != (x, y) && *l != (y, x));
        for (me, peer) in [(x, y), (y, x)] {
            self.under_way.remove(&(me, peer));
            let epoch = self.running[&peer].epoch;
            self.handle(
                me,
                Input::Disconnected {
                    peer: node_id(peer),
                    epoch,
                },
            );
        }
    }

    fn taken(&mut self, from: char, to: char, bytes: usize) {
        let epoch = self.running[&to].epoch;
        self.handle(
            from,
            Input::Writable {
                peer: node_id(to),
                epoch,
                bytes: bytes as u64,
            },
        );
    }

    fn pass(&mut self, from: char, to: char) {
        for frame in self.under_way.remove(&(from, to)).unwrap_or_default() {
            self.arrive(from, to, frame);
            self.assert_whole("a frame later");
        }
    }

    fn arrive(&mut self, from: char, to: char, frame: Bytes) {
        let epoch = self.running[&from].epoch;
        let (peer, bytes) = (node_id(from), frame.len());
        self.handle(to, Input::Received { peer, epoch, frame });
        self.taken(from, to, bytes);
    }

    fn run(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "messages without end");
            let Some(&(from, to)) = self.under_way.iter().find(|(_, q)| !q.is_empty()).map(|(l, _)| l) else {
                return;
            };
            self.pass(from, to);
        }
    }

    /// The records on a node's disk.
    pub(super) fn directory(&mut self, name: char) -> &mut Vec<Bytes> {
        &mut self.directories.get_mut(&name).unwrap().durable
    }

    /// Everything handed to a log is durable, and the log is not looked at again.
    pub(super) fn drain_log(&mut self, name: char) {
        let running = self.running.get_mut(&name).unwrap();
        let last = running.unsynced.back().map(|(id, _)| *id);
        running.unsynced.clear();
        if let Some(upto) = last {
            self.handle(name, Input::Persisted { upto });
        }
    }

    /// Time passes, and what was sent before it arrives after it: of state at most so many bytes on each link, in order and
    /// behind all else, as the lanes have it.
    pub(super) fn pace(&mut self, ms: u64, bytes_max: usize) {
        let until = self.now.after_ms(ms);
        let sent_before = std::mem::take(&mut self.under_way);
        self.wake_until(until);
        self.now = until;
        for ((from, to), frames) in sent_before {
            let is_state = |frame: &Bytes| matches!(frame[0], 5 | 6);
            let (state, small): (Vec<Bytes>, Vec<Bytes>) = frames.into_iter().partition(is_state);
            let credit = self.credit.remove(&(from, to)).unwrap_or(0) + bytes_max;
            let mut left = credit;
            let mut late = VecDeque::new();
            for frame in small.into_iter().chain(state) {
                if is_state(&frame) && (left < frame.len() || !late.is_empty()) {
                    late.push_back(frame);
                    continue;
                }
                left -= if is_state(&frame) { frame.len() } else { 0 };
                self.arrive(from, to, frame);
            }
            if !late.is_empty() {
                self.credit.insert((from, to), left);
            }
            late.extend(self.under_way.remove(&(from, to)).unwrap_or_default());
            self.under_way.insert((from, to), late);
        }
    }

    fn wait(&mut self, ms: u64) {
        let until = self.now.after_ms(ms);
        self.run();
        self.wake_until(until);
        self.now = until;
    }

    fn wake_until(&mut self, until: Time) {
        while let Some((at, name)) = self
            .running
            .iter()
            .filter_map(|(n, r)| r.engine.next_wakeup().map(|t| (t, *n)))
            .min()
        {
            if at > until {
                break;
            }
            self.now = self.now.max(at);
            self.handle(name, Input::Wakeup);
            if self.at_once {
                self.run();
            }
        }
    }

    fn sync(&mut self, name: char) {
        let running = self.running.get_mut(&name).unwrap();
        let records: Vec<(RecordId, Bytes)> = running.unsynced.drain(..).collect();
        let Some(upto) = records.last().map(|(id, _)| *id) else {
            return;
        };
        self.directories
            .get_mut(&name)
            .unwrap()
            .durable
            .extend(records.into_iter().map(|(_, r)| r));
        self.handle(name, Input::Persisted { upto });
    }

    fn assert_reads(&self, name: char, e: &str, expected: &[&str], line: &str) {
        let read = self.engine(name).read(&entity(e).0);
        assert_is(read.map(|(_, reading)| reading), expected, line);
    }

    fn assert_showed(&self, name: char, e: &str, expected: &[&str], line: &str) {
        let shown = self.running[&name].shown.as_ref();
        let shown = shown.filter(|view| *view.entity() == entity(e).0);
        assert_is(shown.and_then(View::read), expected, line);
    }

    fn assert_equal(&self, x: char, y: char, line: &str) {
        for shard in self.engine(x).shard_ids() {
            let (x, y) = (self.engine(x), self.engine(y));
            assert_eq!(x.version_vector(shard), y.version_vector(shard), "{line}");
            assert_eq!(x.canonical_bytes(shard), y.canonical_bytes(shard), "{line}");
            assert_eq!(x.fingerprint(shard), y.fingerprint(shard), "{line}");
        }
    }

    /// What must hold after every line: rings without gaps, fingerprints as from scratch, equal vectors equal bytes.
    fn assert_whole(&self, line: &str) {
        let mut seen: BTreeMap<_, (Vec<u8>, u64)> = BTreeMap::new();
        for running in self.running.values() {
            let engine = &running.engine;
            for shard in engine.shard_ids() {
                assert!(engine.rings_whole(shard), "{line}: a ring has a gap");
                assert_eq!(
                    engine.fingerprint(shard),
                    engine.fingerprint_from_scratch(shard),
                    "{line}"
                );
                let state = (engine.canonical_bytes(shard), engine.fingerprint(shard));
                let first = seen
                    .entry((shard, engine.version_vector(shard)))
                    .or_insert_with(|| state.clone());
                assert!(*first == state, "{line}: equal vectors, unequal state");
            }
        }
    }
}

fn assert_is(reading: Option<Reading>, expected: &[&str], line: &str) {
    let text = match reading.unwrap_or_else(|| panic!("{line}: it does not exist")) {
        Reading::Count(n) => n.to_string(),
        Reading::Elements(elements) => {
            let words: Vec<String> = elements
                .iter()
                .map(|e| String::from_utf8_lossy(e).into_owned())
                .collect();
            format!("[{}]", words.join(" "))
        }
        Reading::Register(v) => v.map_or("null".into(), |v| String::from_utf8_lossy(&v).into_owned()),
        other => {
            let mut text = String::new();
            crate::json::write_reading(&mut text, &other);
            text
        }
    };
    assert_eq!(text, expected.join(" "), "{line}");
}

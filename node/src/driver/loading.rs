//! Loads a directory's snapshot by all cores: one thread reads and checks its blocks, the others make shards of them.
//!
//! Not here: what a shard is made of (`engine::load`). Contract: the engine gets the shards in the order in which they were read,
//! whoever was done first; so a start is the same on one core and on many.

use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope};

use crate::engine::{Engine, Loaded, RecoverError, Unloaded};

/// Shards that wait for a thread, for each thread: more would only take memory.
const WAITING_PER_THREAD: usize = 2;

/// A shard, and which one of those that were given.
type Job = (usize, Unloaded);
type Waiting = Arc<Mutex<Receiver<Job>>>;
type Made = (usize, Result<Loaded, RecoverError>);

/// The threads, and what is under way.
pub(super) struct Loading<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    /// What a thread begins with; none once there are as many as there may be.
    begins: Option<(Waiting, Sender<Made>)>,
    threads: usize,
    threads_max: usize,
    /// None once no more are given.
    jobs: Option<SyncSender<Job>>,
    made: Receiver<Made>,
    given: usize,
}

impl<'scope, 'env> Loading<'scope, 'env> {
    /// By so many threads at most, each begun when there is something for it to do. They end with [`Loading::finish`], or when this is
    /// dropped.
    pub fn new(scope: &'scope Scope<'scope, 'env>, threads_max: usize) -> Loading<'scope, 'env> {
        let (jobs, waiting) = mpsc::sync_channel(threads_max * WAITING_PER_THREAD);
        let (tell, made) = mpsc::channel();
        Loading {
            scope,
            begins: Some((Arc::new(Mutex::new(waiting)), tell)),
            threads: 0,
            threads_max,
            jobs: Some(jobs),
            made,
            given: 0,
        }
    }

    /// One thread more, if there may be one and can be.
    fn begin(&mut self) {
        if let Some((waiting, tell)) = self.begins.clone().filter(|_| self.threads < self.threads_max) {
            let thread = thread::Builder::new().name("anabranch-load".into());
            match thread.spawn_scoped(self.scope, move || work(&waiting, &tell)) {
                Ok(_) => self.threads += 1,
                Err(_) => self.threads_max = self.threads,
            }
        }
        if self.threads == self.threads_max {
            // What is given to threads that have all panicked is given back then.
            self.begins = None;
        }
    }

    /// Has a shard made, here if there are no threads.
    pub fn load(&mut self, engine: &mut Engine, unloaded: Unloaded) -> Result<(), RecoverError> {
        self.begin();
        let job = (self.given, unloaded);
        let left = match self.jobs.as_ref().filter(|_| self.threads > 0) {
            Some(jobs) => jobs.send(job).err().map(|error| error.0),
            None => Some(job),
        };
        match left {
            // Where there were threads and none is left to do it, each has panicked, and the scope passes that on.
            Some((_, unloaded)) => engine.adopt(unloaded.load()?),
            None => self.given += 1,
        }
        Ok(())
    }

    /// Hands the engine all that was given to be made.
    pub fn finish(&mut self, engine: &mut Engine) -> Result<(), RecoverError> {
        (self.jobs, self.begins) = (None, None);
        let mut made: Vec<Made> = self.made.iter().take(self.given).collect();
        self.given = 0;
        made.sort_unstable_by_key(|(number, _)| *number);
        for (_, loaded) in made {
            engine.adopt(loaded?);
        }
        Ok(())
    }
}

fn work(waiting: &Mutex<Receiver<Job>>, tell: &Sender<Made>) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, unloaded)) = job else { return };
        if tell.send((number, unloaded.load())).is_err() {
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use anabranch_crdt::{Clock, Epoch, Mutation, NodeId, Type};

    use super::*;
    use crate::engine::{EngineConfig, Input, Level, Limits, Now, Op, RequestId, Start, Time, Update};
    use crate::wire::{DirectoryId, EntityId, ImageBlock, ShardId};

    const SHARDS: u32 = 40;
    const NOW: Now = Now {
        time: Time(1),
        wall_ms: 1_000_000,
    };

    fn engine() -> Engine {
        let config = EngineConfig {
            cluster: "c".into(),
            node: NodeId(1),
            shards: SHARDS,
            members: Vec::new(),
            kinds: Default::default(),
            limits: Limits::default(),
        };
        Engine::new(config, NOW)
    }

    /// The blocks of a directory that holds entities of several types, some of them deleted.
    fn blocks() -> Vec<Vec<u8>> {
        let mut engine = engine();
        engine.start(
            NOW,
            Start {
                epoch: Epoch(7 << 16),
                before: None,
                directory: DirectoryId(1),
            },
        );
        for n in 0..600u64 {
            let (ty, mutation) = match n % 4 {
                0 => (Type::PnCounter, Mutation::Increment(n as i64)),
                1 => (Type::OrSet, Mutation::Add(vec![n.to_string().into(), "x".into()])),
                2 => (
                    Type::CounterMap,
                    Mutation::Update {
                        key: "k".into(),
                        ty: None,
                        mutation: Box::new(Mutation::Increment(1)),
                    },
                ),
                _ => (
                    Type::LwwRegister,
                    Mutation::Set {
                        value: n.to_string().into(),
                        clock: Clock::Default,
                    },
                ),
            };
            let entity = EntityId::new(ty.name(), &n.to_string()).unwrap();
            let op = |mutation| Op {
                entity: entity.clone(),
                ty: Some(ty),
                mutation,
            };
            let gone = (n % 7 == 0).then_some(op(Mutation::Delete));
            let update = Update {
                ops: [op(mutation)].into_iter().chain(gone).collect(),
                level: Level::default(),
                key: None,
                after: None,
                timeout_ms: 1_000,
            };
            engine.handle(
                NOW,
                Input::Submit {
                    request: RequestId(n),
                    update,
                },
            );
            while engine.poll_output().is_some() {}
        }
        engine.freeze().blocks().collect()
    }

    fn loaded(blocks: &[Vec<u8>], threads: usize) -> Result<Engine, RecoverError> {
        let mut engine = engine();
        thread::scope(|scope| {
            let mut loading = Loading::new(scope, threads);
            for block in blocks {
                if let Some(unloaded) = engine.read_image(block)? {
                    loading.load(&mut engine, unloaded)?;
                }
            }
            loading.finish(&mut engine)
        })?;
        Ok(engine)
    }

    #[test]
    fn a_directory_is_the_same_by_however_many_threads_it_was_loaded() {
        let blocks = blocks();
        let all = |engine: &Engine| {
            let of = |shard| {
                let shard = ShardId(shard);
                let vector = engine.version_vector(shard);
                assert_eq!(engine.fingerprint_from_scratch(shard), engine.fingerprint(shard));
                (vector, engine.canonical_bytes(shard), engine.base(shard))
            };
            (0..SHARDS).map(of).collect::<Vec<_>>()
        };
        let mut one_by_one = engine();
        for block in &blocks {
            one_by_one.recover_image(block).unwrap();
        }
        for threads in [0, 1, 3] {
            let engine = loaded(&blocks, threads).unwrap();
            assert_eq!(all(&engine), all(&one_by_one), "{threads} threads");
            assert_eq!(engine.entity_ids(), one_by_one.entity_ids());
            let counts = |engine: &Engine| Type::ALL.map(|ty| engine.kind_entities(ty.name()));
            assert_eq!(counts(&engine), counts(&one_by_one));
            assert!(counts(&engine).iter().sum::<u64>() > 400, "{:?}", counts(&engine));
        }
    }

    #[test]
    fn a_shard_that_is_damaged_or_comes_twice_is_refused_by_whichever_thread() {
        let blocks = blocks();
        let is_shard = |block: &Vec<u8>| engine().read_image(block).unwrap().is_some();
        let at = blocks.iter().position(is_shard).unwrap();
        let mut twice = blocks.clone();
        twice.push(blocks[at].clone());
        let mut damaged = blocks.clone();
        let ImageBlock::Part(mut part) = ImageBlock::decode(&blocks[at]).unwrap() else {
            panic!("it is a shard");
        };
        part.rows[0].count += 1;
        damaged[at] = ImageBlock::Part(part).encode().into();
        for threads in [0, 1, 2] {
            let refused = |blocks| loaded(blocks, threads).err().unwrap().to_string();
            assert!(refused(&twice).contains("twice"), "{}", refused(&twice));
            assert!(refused(&damaged).contains("announced"), "{}", refused(&damaged));
        }
    }
}

//! How things are measured: one at a time for the median, 64 at once for the rate and the CPU time of each.
//!
//! A closed loop on two cores has clients and servers share them: hence CPU time beside the rates.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::cpus::{Awake, cpu_seconds};

/// How many are in flight where there is not one.
pub const IN_FLIGHT: usize = 64;

/// One-at-a-time samples of a round, and what is made before them.
const SAMPLES: usize = 4_000;
const WARM_UP: usize = 200;
/// A round of them ends after this, with as many samples as it has.
const SAMPLING: Duration = Duration::from_secs(2);
/// What is shorter than the clock can tell is made so many times for one sample.
const BATCH: u32 = 100;
/// Before a rate is taken, and while it is.
const RAMP: Duration = Duration::from_millis(400);
const INTERVAL: Duration = Duration::from_millis(1_500);
/// All sides of a comparison are measured so many times in turn; each side's median counts.
pub const ROUNDS: usize = 3;

/// The futures of a side run on one thread, or on two: whichever is better for it.
#[derive(Clone, Copy)]
pub enum Threads {
    One,
    Two,
}

impl Threads {
    pub const BOTH: [Threads; 2] = [Threads::One, Threads::Two];

    pub fn runtime(self) -> Runtime {
        let mut builder = match self {
            Threads::One => Builder::new_current_thread(),
            Threads::Two => Builder::new_multi_thread(),
        };
        builder.worker_threads(2).enable_all().build().unwrap()
    }

    pub fn name(self) -> &'static str {
        match self {
            Threads::One => "one thread",
            Threads::Two => "two threads",
        }
    }

    pub fn of(name: &str) -> Threads {
        *Threads::BOTH
            .iter()
            .find(|threads| threads.name() == name)
            .unwrap()
    }
}

/// The median of a few rounds.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub figure: f64,
    /// The largest of the rounds beside the smallest: what is far above 1 is not to be relied on.
    pub spread: f64,
    /// Of a rate: what one took of all CPUs, in all processes that were watched, microseconds.
    pub cpu_us: Option<f64>,
}

impl Taken {
    fn of(mut rounds: Vec<(f64, Option<f64>)>) -> Taken {
        rounds.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
        let (figure, cpu_us) = rounds[rounds.len() / 2];
        let spread = rounds[rounds.len() - 1].0 / rounds[0].0;
        Taken {
            figure,
            spread,
            cpu_us,
        }
    }

    /// The median of single samples, each a round of its own.
    pub fn of_samples(samples: Vec<f64>) -> Taken {
        Taken::of(samples.into_iter().map(|figure| (figure, None)).collect())
    }

    /// What cannot be measured twice.
    pub fn once(figure: f64) -> Taken {
        Taken::of(vec![(figure, None)])
    }
}

/// A rate of one round, and what one took of all CPUs.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    per_second: f64,
    cpu_us: f64,
}

/// The median of single ones, microseconds.
pub fn one_by_one(mut once: impl FnMut()) -> f64 {
    (0..WARM_UP).for_each(|_| once());
    let mut samples = Samples::new();
    while samples.go_on() {
        let begun = Instant::now();
        once();
        samples.add(begun.elapsed());
    }
    samples.median()
}

/// The same for what is polled.
pub async fn one_by_one_async(mut once: impl AsyncFnMut()) -> f64 {
    for _ in 0..WARM_UP {
        once().await;
    }
    let mut samples = Samples::new();
    while samples.go_on() {
        let begun = Instant::now();
        once().await;
        samples.add(begun.elapsed());
    }
    samples.median()
}

/// The same for what takes less than the clock can tell: a sample is the mean of a hundred.
pub fn each_of_many(mut once: impl FnMut()) -> f64 {
    one_by_one(|| (0..BATCH).for_each(|_| once())) / f64::from(BATCH)
}

struct Samples {
    begun: Instant,
    all: Vec<Duration>,
}

impl Samples {
    fn new() -> Samples {
        Samples {
            begun: Instant::now(),
            all: Vec::with_capacity(SAMPLES),
        }
    }

    fn go_on(&self) -> bool {
        self.all.len() < SAMPLES && self.begun.elapsed() < SAMPLING
    }

    fn add(&mut self, sample: Duration) {
        self.all.push(sample);
    }

    fn median(mut self) -> f64 {
        median(&mut self.all).as_secs_f64() * 1e6
    }
}

/// The one in the middle.
pub fn median<T: Ord + Copy>(samples: &mut [T]) -> T {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

/// Measures the medians of all sides in turn with the CPUs kept awake, so that a busy moment is busy for all.
pub fn medians<const N: usize>(mut sides: [&mut dyn FnMut() -> f64; N]) -> [Taken; N] {
    let _awake = Awake::keep();
    let mut rounds: [Vec<_>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (side, taken) in sides.iter_mut().zip(&mut rounds) {
            taken.push((side(), None));
        }
    }
    rounds.map(Taken::of)
}

/// Measures the rates of all sides in turn, each in all of its ways; gives what they took and their names, the best way first.
pub fn rates<const N: usize>(sides: [Vec<Way<'_>>; N]) -> [Vec<(Taken, String)>; N] {
    let mut sides = sides.map(|ways| ways.into_iter().map(|way| (way, Vec::new())).collect::<Vec<_>>());
    for _ in 0..ROUNDS {
        for ((_, run), taken) in sides.iter_mut().flatten() {
            let rate = run();
            taken.push((rate.per_second, Some(rate.cpu_us)));
        }
    }
    sides.map(|ways| {
        let taken = ways
            .into_iter()
            .map(|((name, _), rounds)| (Taken::of(rounds), name));
        let mut taken: Vec<_> = taken.collect();
        taken.sort_by(|(a, _), (b, _)| b.figure.total_cmp(&a.figure));
        taken
    })
}

/// One way of doing it, by name.
pub type Way<'a> = (String, Box<dyn FnMut() -> Rate + 'a>);

/// See [`Way`].
pub fn way<'a>(name: impl Into<String>, run: impl FnMut() -> Rate + 'a) -> Way<'a> {
    (name.into(), Box::new(run))
}

/// 64 workers that count what they have done, each on a line of the cache of its own, until they are told to stop.
pub struct Load {
    stop: AtomicBool,
    done: [Count; IN_FLIGHT],
}

#[derive(Default)]
#[repr(align(128))]
struct Count(AtomicU64);

impl Load {
    fn new() -> Arc<Load> {
        Arc::new(Load {
            stop: AtomicBool::new(false),
            done: std::array::from_fn(|_| Count::default()),
        })
    }

    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// So many more were done by this worker.
    pub fn add(&self, worker: usize, done: u64) {
        self.done[worker].0.fetch_add(done, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.done
            .iter()
            .map(|count| count.0.load(Ordering::Relaxed))
            .sum()
    }

    /// Takes the rate, and stops the workers.
    fn watch(&self, others: &[u32]) -> Rate {
        std::thread::sleep(RAMP);
        let (begun, cpu, done) = (Instant::now(), cpu_seconds(others), self.total());
        std::thread::sleep(INTERVAL);
        let (took, cpu, done) = (begun.elapsed(), cpu_seconds(others) - cpu, self.total() - done);
        self.stop.store(true, Ordering::Relaxed);
        Rate {
            per_second: done as f64 / took.as_secs_f64(),
            cpu_us: cpu * 1e6 / done as f64,
        }
    }
}

/// The rate of workers that are threads; `others` are processes that work for them. A worker does one, or says how many.
pub fn threads<W: FnMut() -> u64 + Send>(others: &[u32], start: impl Fn(usize) -> W) -> Rate {
    let load = Load::new();
    std::thread::scope(|scope| {
        for worker in 0..IN_FLIGHT {
            let (mut once, load) = (start(worker), &load);
            scope.spawn(move || {
                while load.goes_on() {
                    load.add(worker, once());
                }
            });
        }
        load.watch(others)
    })
}

/// The rate of whatever `run` starts and awaits, which looks at the load whether to go on.
pub fn polled<F: Future<Output = ()>>(
    runtime: &Runtime,
    others: &[u32],
    run: impl FnOnce(Arc<Load>) -> F,
) -> Rate {
    let load = Load::new();
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| load.watch(others));
        runtime.block_on(run(Arc::clone(&load)));
        watching.join().unwrap()
    })
}

/// The rate of workers that are tasks.
pub fn tasks<F: Future<Output = ()> + Send + 'static, W: FnMut() -> F + Send + 'static>(
    runtime: &Runtime,
    others: &[u32],
    start: impl Fn(usize) -> W,
) -> Rate {
    polled(runtime, others, async |load| {
        let workers: Vec<_> = (0..IN_FLIGHT)
            .map(|worker| {
                let (mut once, load) = (start(worker), Arc::clone(&load));
                tokio::spawn(async move {
                    while load.goes_on() {
                        once().await;
                        load.add(worker, 1);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
    })
}

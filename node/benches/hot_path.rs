//! What the hot paths cost, in memory: an update of a counter, a read, a command and a query of a function at one node, and a
//! query of another's, one at a time (`far`) and of 64 tasks (`far64`); and durable commands of 64 tasks.
//!
//! `cargo bench -p anabranch --bench hot_path [-- ROUNDS [PATH]]` prints the mean of each for wall and for CPU time, of
//! this thread alone and of all (the log is written beside it). With `valgrind --tool=callgrind` run the binary itself, with
//! few rounds and one path: instructions do not depend on what else the machine does.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anabranch::transport::ca::IssueOptions;
use anabranch::{
    Call, Copies, Encoding, EntityId, Function, Level, Node, NodeId, Payload, PnCounter, Stage, ca, state,
};

const ROUNDS: usize = 200_000;
const NODES: [NodeId; 2] = [NodeId(1), NodeId(2)];
const TASKS: usize = 64;

const APPLIED: Level = Level {
    copies: Copies::Local,
    stage: Stage::Applied,
};

fn main() {
    // Cargo hands a bench `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let rounds = arguments.next().map_or(ROUNDS, |n| n.parse().unwrap());
    let only = arguments.next();
    let dir = std::env::temp_dir().join(format!("anabranch-hot-{}", std::process::id()));
    ca::init(&dir.join("ca"), "hot").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let node = start(&dir, NODES[0], vec![]).await;
        node.ready().await;
        let wanted = |path: &str| only.as_deref().is_none_or(|only| only == path);
        let entity = node.entity::<PnCounter>("bare", "a").unwrap().with_level(APPLIED);
        if wanted("update") {
            measure("update", rounds, async || {
                entity.increment(1).await.unwrap();
            })
            .await;
        }
        if wanted("command") {
            measure("command", rounds, async || {
                node.call::<_, i64>("hits", "a", "hit", &1).await.unwrap();
            })
            .await;
        }
        if wanted("read") {
            measure("read", rounds, async || {
                black_box(entity.get());
            })
            .await;
        }
        if wanted("query") {
            node.call::<_, i64>("hits", "a", "hit", &1).await.unwrap();
            measure("query", rounds, async || {
                node.call::<_, i64>("hits", "a", "get", &()).await.unwrap();
            })
            .await;
        }
        if wanted("durable64") {
            measure_tasks("durable64", rounds, &node, hit_durable).await;
        }
        if wanted("far") || wanted("far64") {
            let other = start(&dir, NODES[1], vec![node.quic_address().to_string()]).await;
            other.ready().await;
            if wanted("far") {
                measure("far", rounds / 10, async || call_far(node.clone()).await).await;
            }
            if wanted("far64") {
                measure_tasks("far64", rounds, &node, |node, _| call_far(node)).await;
            }
            other.shutdown().await.unwrap();
        }
        node.shutdown().await.unwrap();
    });
    fs::remove_dir_all(&dir).unwrap();
}

async fn start(dir: &Path, id: NodeId, seeds: Vec<String>) -> Node {
    let own = dir.join(format!("n{id}"));
    ca::issue(&dir.join("ca"), id, &own, &IssueOptions::default()).unwrap();
    Node::builder()
        .directory(own.join("data"))
        .identity_files(own.join("ca.pem"), own.join("node.pem"), own.join("node.key"))
        .seeds(seeds)
        .function(hits())
        .start()
        .await
        .unwrap()
}

async fn hit_durable(node: Node, key: &'static str) {
    let _: i64 = node.call("hits", key, "hit_durable", &1).await.unwrap();
}

/// A query of the other node's that gives back its 64 bytes.
async fn call_far(node: Node) {
    let said = Payload::of(Encoding::Postcard, &[[7_u8; 32]; 2]).unwrap();
    let call = Call::new(EntityId::new("hits", "far").unwrap(), "echo", said);
    let answered = node.call_on(NODES[1], call, None, Duration::from_secs(10)).await;
    black_box(answered.unwrap());
}

/// A counter, raised in memory.
fn hits() -> Function {
    Function::of::<state::PnCounter>("hits")
        .command("hit", |hits, context, by: i64| {
            context.confirm(APPLIED);
            hits.increment(by);
            Ok::<_, String>(hits.get())
        })
        .command("hit_durable", |hits, _, by: i64| {
            hits.increment(by);
            Ok::<_, String>(hits.get())
        })
        .query("get", |hits, _, ()| Ok::<_, String>(hits.get()))
        .query("echo", |_, _, said: [[u8; 32]; 2]| Ok::<_, String>(said))
        .into()
}

async fn measure(path: &str, rounds: usize, mut once: impl AsyncFnMut()) {
    measure_all(path, rounds, async |rounds| {
        for _ in 0..rounds {
            once().await;
        }
    })
    .await;
}

/// Of so many tasks, each with its own key.
async fn measure_tasks<F>(
    path: &str,
    rounds: usize,
    node: &Node,
    once: impl Fn(Node, &'static str) -> F + Clone + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let keys = (0..TASKS).map(|n| &*n.to_string().leak());
    let keys: Vec<&'static str> = keys.collect();
    measure_all(path, rounds / TASKS * TASKS, async |rounds| {
        let tasks = keys.iter().map(|&key| {
            let (node, once) = (node.clone(), once.clone());
            async move {
                for _ in 0..rounds / TASKS {
                    once(node.clone(), key).await;
                }
            }
        });
        tasks.collect::<tokio::task::JoinSet<()>>().join_all().await;
    })
    .await;
}

async fn measure_all(path: &str, rounds: usize, mut run: impl AsyncFnMut(usize)) {
    run(rounds / 10).await;
    let (began, cpu, all) = (Instant::now(), cpu_of("thread-self"), cpu_of("self"));
    run(rounds).await;
    let each = |took: Duration| took.as_nanos() as f64 / rounds as f64;
    println!(
        "{path:<8} {:>7.0} ns   CPU {:>7.0} ns, of all threads {:>7.0} ns",
        each(began.elapsed()),
        each(cpu_of("thread-self").saturating_sub(cpu)),
        each(cpu_of("self").saturating_sub(all))
    );
}

/// What a thread, or all, have spent on a processor. Nothing where the kernel does not say.
fn cpu_of(whose: &str) -> Duration {
    let tasks = match whose {
        "self" => fs::read_dir("/proc/self/task")
            .map(|tasks| tasks.flatten().map(|task| task.path()).collect())
            .unwrap_or_default(),
        thread => vec![std::path::PathBuf::from("/proc").join(thread)],
    };
    let nanos = tasks.iter().filter_map(|task| {
        let text = fs::read_to_string(task.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

//! What the hot paths cost at one node, in memory: an update of a counter, a read, a command and a query of a function.
//!
//! `cargo bench -p anabranch --bench hot_path [-- ROUNDS [PATH]]` prints the mean of each for wall and for CPU time, of
//! this thread alone and of all (the log is written beside it). With `valgrind --tool=callgrind` run the binary itself, with
//! few rounds and one path: instructions do not depend on what else the machine does.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anabranch::transport::ca::IssueOptions;
use anabranch::{Copies, Function, Level, Node, NodeId, PnCounter, Stage, ca, state};

const ROUNDS: usize = 200_000;

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
    let own = dir.join("n1");
    ca::issue(&dir.join("ca"), NodeId(1), &own, &IssueOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let node = Node::builder()
            .directory(own.join("data"))
            .identity_files(own.join("ca.pem"), own.join("node.pem"), own.join("node.key"))
            .function(hits())
            .start()
            .await
            .unwrap();
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
            measure("query", rounds, async || {
                node.call::<_, i64>("hits", "a", "get", &()).await.unwrap();
            })
            .await;
        }
        node.shutdown().await.unwrap();
    });
    fs::remove_dir_all(&dir).unwrap();
}

/// A counter, raised in memory.
fn hits() -> Function {
    Function::of::<state::PnCounter>("hits")
        .command("hit", |hits, context, by: i64| {
            context.confirm(APPLIED);
            hits.increment(by);
            Ok::<_, String>(hits.get())
        })
        .query("get", |hits, _, ()| Ok::<_, String>(hits.get()))
        .into()
}

async fn measure(path: &str, rounds: usize, mut once: impl AsyncFnMut()) {
    for _ in 0..rounds / 10 {
        once().await;
    }
    let (began, cpu, all) = (Instant::now(), cpu_of("thread-self"), cpu_of("self"));
    for _ in 0..rounds {
        once().await;
    }
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

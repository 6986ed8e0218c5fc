//! What a program does beside its state, in memory: against a local Redis, and against a bare map.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;

use anabranch::{EntityId, Node};
use tokio::runtime::Runtime;

use crate::Options;
use crate::cpus::Placement;
use crate::measure::{
    IN_FLIGHT, Rate, Taken, Threads, Way, each_of_many, medians, one_by_one, rates, tasks, threads, way,
};
use crate::ours::{self, Line};
use crate::redis_side::{Redis, cart_by_script, increment};
use crate::table::{Table, Wanted};

/// Carts and products that are added to in turn.
const CARTS: usize = 100;
const PRODUCTS: usize = 10;

/// See the module's front page.
pub fn measure(options: &Options, table: &mut Table) {
    let node = ours::start(&options.dir.join("embedded"), 1, &[], vec![]);
    ours::ready(&node);
    let redis = Redis::at(&options.redis);
    counter_alone(&node, options, &redis, table);
    counter_at_once(&node, &redis, table);
    cart(&node, &redis, table);
    read(&node, &redis, table);
    ours::stop(node);
}

/// A command on a counter, by its method's name: once, on this thread.
pub fn hit(runtime: &Runtime, node: &Node, key: &str, method: &str) {
    let hit = node.call::<_, i64>("hits", key, method, &1);
    runtime.block_on(hit).unwrap();
}

fn counter_alone(node: &Node, options: &Options, redis: &Redis, table: &mut Table) {
    table.section("A command on a counter, one at a time");
    let runtime = Threads::One.runtime();
    let socket = Redis::at(&options.redis_socket);
    let key = ("hits".to_owned(), "a".to_owned());
    let mut tree = BTreeMap::from([(key.clone(), 0i64)]);
    let mut hash = HashMap::from([(key.clone(), 0i64)]);
    let [applied, durable, together, apart, unix, tree, hash] = medians([
        &mut || each_of_many(|| hit(&runtime, node, "a", "hit")),
        &mut || one_by_one(|| hit(&runtime, node, "a", "hit_durable")),
        &mut || redis.p50::<i64>(Placement::Together, |_| increment("a")),
        &mut || redis.p50::<i64>(Placement::Apart, |_| increment("a")),
        &mut || socket.p50::<i64>(Placement::Together, |_| increment("a")),
        &mut || each_of_many(|| *tree.get_mut(black_box(&key)).unwrap() += 1),
        &mut || each_of_many(|| *hash.get_mut(black_box(&key)).unwrap() += 1),
    ]);
    let goal = Wanted::Below(40.0);
    table.p50(
        "in memory",
        &placed("Redis INCR", Placement::Apart),
        [applied, apart],
        goal,
    );
    table.p50(
        "in memory",
        &placed("Redis INCR", Placement::Together),
        [applied, together],
        goal,
    );
    let by_socket = placed("Redis INCR over a Unix socket", Placement::Together);
    table.p50("in memory", &by_socket, [applied, unix], Wanted::Nothing);
    table.p50(
        "in memory",
        "a number in a `BTreeMap`",
        [applied, tree],
        Wanted::Nothing,
    );
    table.p50(
        "in memory",
        "a number in a `HashMap`",
        [applied, hash],
        Wanted::Nothing,
    );
    let in_memory = placed("Redis INCR, in memory", Placement::Apart);
    table.p50("durable", &in_memory, [durable, apart], Wanted::Nothing);
}

fn placed(what: &str, placement: Placement) -> String {
    format!("{what} ({})", placement.name())
}

fn counter_at_once(node: &Node, redis: &Redis, table: &mut Table) {
    table.section("Commands on counters, 64 at once");
    let names: &'static [String] = Vec::leak((0..IN_FLIGHT).map(|n| format!("c{n}")).collect());
    let [one, many, durable, redis_one, redis_many] = rates([
        hits(node, "hit", |_| "one"),
        hits(node, "hit", |worker| &names[worker]),
        hits(node, "hit_durable", |worker| &names[worker]),
        redis.ways::<i64, _>(|_| increment("one")),
        redis.ways::<i64, _>(|n| increment(&names[n % IN_FLIGHT])),
    ]);
    let rows = [
        (
            "in memory, one counter",
            &one[0],
            &redis_one[..],
            Wanted::Times(8.0),
        ),
        (
            "in memory, 64 counters",
            &many[0],
            &redis_many[..],
            Wanted::Times(8.0),
        ),
        (
            "durable, 64 counters",
            &durable[0],
            &redis_many[..1],
            Wanted::Nothing,
        ),
    ];
    for (case, (ours, way), theirs, wanted) in rows {
        beside_redis(
            table,
            &format!("{case} ({way})"),
            *ours,
            "in memory",
            theirs,
            wanted,
        );
    }
}

/// A row for each way of using Redis. The goal is one beside its best; the others are there to be seen.
pub fn beside_redis(
    table: &mut Table,
    case: &str,
    ours: Taken,
    how: &str,
    theirs: &[(Taken, String)],
    wanted: Wanted,
) {
    let goals = std::iter::once(wanted).chain(std::iter::repeat(Wanted::Nothing));
    for ((theirs, way), wanted) in theirs.iter().zip(goals) {
        let beside = format!("Redis INCR, {how} ({way})");
        table.rate(case, &beside, [ours, *theirs], wanted);
    }
}

/// Commands of 64 callers, on a thread each or as tasks of one.
pub fn hits<'a>(
    node: &'a Node,
    method: &'static str,
    name: impl Fn(usize) -> &'static str + Copy + 'a,
) -> Vec<Way<'a>> {
    vec![
        way("64 threads", move || {
            threads(&[], |worker| {
                let (runtime, name) = (Threads::One.runtime(), name(worker));
                move || {
                    hit(&runtime, node, name, method);
                    1
                }
            })
        }),
        way("64 tasks", move || hit_in_tasks(node, method, name)),
    ]
}

fn hit_in_tasks(node: &Node, method: &'static str, name: impl Fn(usize) -> &'static str) -> Rate {
    tasks(&Threads::One.runtime(), &[], |worker| {
        let (node, name) = (node.clone(), name(worker));
        move || {
            let node = node.clone();
            async move {
                node.call::<_, i64>("hits", name, method, &1).await.unwrap();
                // One that is answered at once would never let the next task begin.
                tokio::task::yield_now().await;
            }
        }
    })
}

fn cart(node: &Node, redis: &Redis, table: &mut Table) {
    table.section("An addition to a cart, if it stays below a limit; in memory, one at a time");
    let runtime = Threads::One.runtime();
    let script = redis.load_cart();
    let carts: Vec<String> = (0..CARTS).map(|n| format!("cart-{n}")).collect();
    let products: Vec<String> = (0..PRODUCTS).map(|n| format!("product-{n}")).collect();
    let name = |n: usize| {
        let product = &products[n / CARTS % PRODUCTS];
        (carts[n % CARTS].as_str(), product.as_str())
    };
    let by_script = |n| {
        let (cart, product) = name(n);
        cart_by_script(&script, cart, product)
    };
    let mut n = 0;
    let mut add = || {
        let (cart, product) = name(n);
        n += 1;
        let line = Line { product, quantity: 1 };
        let add = node.call::<_, u64>("cart", cart, "add", &line);
        runtime.block_on(add).unwrap();
    };
    let [ours, scripts @ .., watch_apart, watch_together] = medians([
        &mut || one_by_one(&mut add),
        &mut || redis.p50::<u64>(Placement::Apart, by_script),
        &mut || redis.p50::<u64>(Placement::Together, by_script),
        &mut || redis.cart_by_watch(Placement::Apart, name),
        &mut || redis.cart_by_watch(Placement::Together, name),
    ]);
    let kinds = [
        ("Redis Lua, EVALSHA", scripts, Wanted::Below(50.0)),
        (
            "Redis WATCH, MULTI, EXEC",
            [watch_apart, watch_together],
            Wanted::Nothing,
        ),
    ];
    for (what, theirs, wanted) in kinds {
        for (placement, theirs) in Placement::BOTH.into_iter().zip(theirs) {
            table.p50("a command", &placed(what, placement), [ours, theirs], wanted);
        }
    }
}

fn read(node: &Node, redis: &Redis, table: &mut Table) {
    table.section("A read of a counter, one at a time");
    let runtime = Threads::One.runtime();
    hit(&runtime, node, "read", "hit");
    redis.p50::<i64>(Placement::Together, |_| increment("read"));
    let id = EntityId::new("hits", "read").unwrap();
    let get = |placement| redis.p50::<i64>(placement, |_| redis::Cmd::get("read"));
    let [read, query, gets @ ..] = medians([
        &mut || {
            each_of_many(|| {
                black_box(node.read(black_box(&id)));
            })
        },
        &mut || {
            each_of_many(|| {
                let query = node.call::<_, i64>("hits", "read", "get", &());
                black_box(runtime.block_on(query).unwrap());
            })
        },
        &mut || get(Placement::Apart),
        &mut || get(Placement::Together),
    ]);
    for (what, ours) in [("`Node::read`", read), ("a query of its function", query)] {
        for (placement, theirs) in Placement::BOTH.into_iter().zip(gets) {
            let beside = placed("Redis GET", placement);
            table.p50(what, &beside, [ours, theirs], Wanted::Below(100.0));
        }
    }
}

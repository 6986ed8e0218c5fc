//! What is on disk before it is answered: against PostgreSQL and a Redis that syncs each command. All of them keep their files in
//! one directory.

use crate::cpus::Placement;
use crate::embedded::{beside_redis, hit, hits};
use crate::measure::{IN_FLIGHT, Taken, Threads, medians, one_by_one, rates};
use crate::postgres::Postgres;
use crate::redis_side::{Redis, increment};
use crate::table::{Table, Wanted};
use crate::{Options, ours};

/// See the module's front page.
pub fn measure(options: &Options, table: &mut Table) {
    let node = ours::start(&options.dir.join("durable"), 1, &[], vec![]);
    ours::ready(&node);
    let redis = Redis::at(&options.redis_always);
    let postgres = Postgres::at(&options.postgres);

    table.section("A durable command on a counter, one at a time");
    let runtime = Threads::One.runtime();
    let [ours, sql, always] = medians([
        &mut || one_by_one(|| hit(&runtime, &node, "a", "hit_durable")),
        &mut || postgres.p50(),
        &mut || redis.p50::<i64>(Placement::Apart, |_| increment("a")),
    ]);
    table.p50(
        "one counter",
        "PostgreSQL UPDATE .. RETURNING",
        [ours, sql],
        Wanted::Nothing,
    );
    table.p50(
        "one counter",
        "Redis INCR, appendfsync always",
        [ours, always],
        Wanted::Nothing,
    );

    table.section("Durable commands on counters, 64 at once");
    let names: &'static [String] = Vec::leak((0..IN_FLIGHT).map(|n| format!("c{n}")).collect());
    let [many, one, sql_many, sql_one, always] = rates([
        hits(&node, "hit_durable", |worker| &names[worker]),
        hits(&node, "hit_durable", |_| "one"),
        postgres.ways(|worker| worker as i64),
        postgres.ways(|_| 0),
        redis.ways::<i64, _>(|n| increment(&names[n % IN_FLIGHT])),
    ]);
    let rows = [
        (
            "64 counters",
            &many[0],
            "64 rows",
            &sql_many[0],
            Wanted::Times(2.0),
        ),
        ("one counter", &one[0], "one row", &sql_one[0], Wanted::Nothing),
    ];
    for (case, (ours, way), sql_rows, (sql, sql_way), beside_always) in rows {
        let case = format!("{case} ({way})");
        let beside = format!("PostgreSQL UPDATE .. RETURNING, {sql_rows} ({sql_way})");
        // The CPU time of the server's many processes was not taken.
        let sql = Taken { cpu_us: None, ..*sql };
        table.rate(&case, &beside, [*ours, sql], Wanted::Times(10.0));
        beside_redis(table, &case, *ours, "appendfsync always", &always, beside_always);
    }
    ours::stop(node);
}

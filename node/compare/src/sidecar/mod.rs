//! A command to an unmodified function on Kalix's SDK through a node's ingress, and back: against the same counter as a plain
//! gRPC service in Node.js with a Redis, against such a service alone, and against the function's process by its own protocol.
//!
//! What it has no level for is a reply from memory: Kalix's protocol knows none below durable here. A node whose directory is in
//! memory shows what the disk takes.

mod client;
mod handle;
mod memory;
mod processes;
mod starts;

use std::fs;
use std::path::Path;

use self::processes::{Prepared, Process, at};
use crate::Options;
use crate::measure::{IN_FLIGHT, Rate, Taken, medians, rates, way};
use crate::redis_side::Redis;
use crate::table::{Table, Unit, Wanted};

/// Changes by each of 64 callers, when it is counted how many are lost.
const CHANGES_EACH: usize = 100;
const PROTO: &str = "shop.proto";
const SDK: &str = "node_modules/@kalix-io/kalix-javascript-sdk/proto";

/// See the module's front page.
pub fn measure(options: &Options, table: &mut Table) {
    let dir = options.dir.join("sidecar");
    fs::create_dir_all(&dir).unwrap();
    describe(&options.function);
    let prepared = Prepared {
        dir: &dir,
        anabranch: &options.anabranch,
        function: &options.function,
        plain: &options.plain,
    };
    let sides = Sides::start(&prepared, options);
    sides.p50s(table);
    let title = "Commands to a function on Kalix's SDK, 64 at once";
    sides.rates(table, title, "64 counters", IN_FLIGHT);
    let title = "Commands to one entity of a function on Kalix's SDK, 64 at once";
    sides.rates(table, title, "one counter", 1);
    sides.lost(table);
    drop(sides);
    memory::measure(&prepared, table);
    starts::measure(&prepared, table);
    sizes(options, table);
}

/// What `protoc --include_imports --include_source_info --descriptor_set_out=user-function.desc` would make.
fn describe(function: &Path) {
    let includes = [function.to_owned(), function.join(SDK)];
    let mut compiler = protox::Compiler::new(includes).unwrap();
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file(PROTO).unwrap();
    let set = compiler.encode_file_descriptor_set();
    fs::write(function.join("user-function.desc"), set).unwrap();
}

/// All that are compared, each with processes of its own.
struct Sides {
    function: Process,
    node: Process,
    function_in_memory: Process,
    node_in_memory: Process,
    plain_always: Process,
    plain_redis: Process,
    alone: Process,
    always: Redis,
    redis: Redis,
}

impl Sides {
    fn start(prepared: &Prepared<'_>, options: &Options) -> Sides {
        let (function, function_in_memory) = (prepared.function(), prepared.function());
        let on_disk = prepared.node("on-disk", Path::new("data"), &at(&function));
        let in_memory = prepared.node("in-memory", &options.memory, &at(&function_in_memory));
        let sides = Sides {
            node: on_disk.start(),
            node_in_memory: in_memory.start(),
            plain_always: prepared.plain(&format!("redis://{}", options.redis_always)),
            plain_redis: prepared.plain(&format!("redis://{}", options.redis)),
            alone: prepared.plain("alone"),
            always: Redis::at(&options.redis_always),
            redis: Redis::at(&options.redis),
            function,
            function_in_memory,
        };
        for process in [&sides.node, &sides.node_in_memory] {
            client::until_answered(process.port);
        }
        sides
    }

    fn p50s(&self, table: &mut Table) {
        table.section("A command to a function on Kalix's SDK, by the ingress and back, one at a time");
        let taken = medians([
            &mut || client::p50(self.node.port),
            &mut || client::p50(self.node_in_memory.port),
            &mut || client::p50(self.plain_always.port),
            &mut || client::p50(self.plain_redis.port),
            &mut || client::p50(self.alone.port),
            &mut || handle::p50(self.function.port),
        ]);
        add_rows(table, "a counter", Unit::Microseconds, taken);
    }

    fn rates(&self, table: &mut Table, title: &str, case: &str, entities: usize) {
        table.section(title);
        let name = |worker: usize| format!("c{entities}-{}", worker % entities);
        let of = |process: &Process, others: &[u32]| -> Rate { client::rate(process.port, others, name) };
        let ours = [self.node.id(), self.function.id()];
        let in_memory = [self.node_in_memory.id(), self.function_in_memory.id()];
        let always = [self.plain_always.id(), self.always.process()];
        let redis = [self.plain_redis.id(), self.redis.process()];
        let function = [self.function.id()];
        let taken = rates([
            vec![way("", || of(&self.node, &ours))],
            vec![way("", || of(&self.node_in_memory, &in_memory))],
            vec![way("", || of(&self.plain_always, &always))],
            vec![way("", || of(&self.plain_redis, &redis))],
            vec![way("", || of(&self.alone, &[self.alone.id()]))],
            vec![way("", || handle::rate(self.function.port, &function, entities))],
        ]);
        add_rows(table, case, Unit::PerSecond, taken.map(|ways| ways[0].0));
    }

    fn lost(&self, table: &mut Table) {
        table.section("Changes of one counter that are lost, of 64 callers at once");
        let [ours, theirs] = [&self.node, &self.plain_redis].map(|process| {
            let lost = client::lost(process.port, CHANGES_EACH);
            Taken::once(lost as f64)
        });
        let case = format!("of {} changes by one", IN_FLIGHT * CHANGES_EACH);
        table.add(
            &case,
            "Node.js, Redis GET, then SET",
            [ours, theirs],
            Unit::Lost,
            Wanted::Nothing,
        );
    }
}

fn add_rows(table: &mut Table, what: &str, unit: Unit, taken: [Taken; 6]) {
    let [ours, in_memory, always, redis, alone, direct] = taken;
    let durable = format!("{what}, durable");
    let memory = format!("{what}, the node's directory in memory");
    let rows = [
        (
            &durable,
            ours,
            "Node.js, Redis GET, then SET, appendfsync always",
            always,
        ),
        (&durable, ours, "Node.js, Redis GET, then SET, in memory", redis),
        (&durable, ours, "Node.js alone, which only adds", alone),
        (
            &durable,
            ours,
            "the function's process by Kalix's protocol",
            direct,
        ),
        (
            &memory,
            in_memory,
            "Node.js, Redis GET, then SET, in memory",
            redis,
        ),
        (&memory, in_memory, "Node.js alone, which only adds", alone),
        (
            &memory,
            in_memory,
            "the function's process by Kalix's protocol",
            direct,
        ),
    ];
    for (case, ours, beside, theirs) in rows {
        table.add(case, beside, [ours, theirs], unit, Wanted::Nothing);
    }
}

fn sizes(options: &Options, table: &mut Table) {
    table.section("The program");
    let size = |path: &Path| fs::metadata(path).map(|about| Taken::once(about.len() as f64 / 1e6));
    let whole = size(options.anabranch.as_ref()).unwrap();
    let release = size(&options.release_stripped).unwrap();
    let unit = Unit::Megabytes;
    let (case, beside) = (
        "of the profile `release`, stripped",
        "the same with its line tables",
    );
    table.add(case, beside, [release, whole], unit, Wanted::Nothing);
    let (case, beside) = (
        "of the profile `dist`, stripped",
        "of the profile `release`, stripped",
    );
    match size(&options.dist_stripped) {
        Ok(dist) => table.add(case, beside, [dist, release], unit, Wanted::Within(20.0)),
        Err(_) => eprintln!("the profile `dist` was not built in time"),
    }
}

//! From a start to the first reply: of a node whose function is up, and of a function that was stopped as nobody used it.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::client::{Client, until_answered};
use super::processes::{Prepared, Process, at, free_port, until_listening};
use crate::measure::{Taken, Threads};
use crate::table::{Table, Unit, Wanted};

/// Each is done so many times; the median counts.
const STARTS: usize = 9;
const IDLE_STOP_MS: u32 = 300;
/// Between a process's last breath and the next command.
const SETTLE: Duration = Duration::from_millis(300);

/// See the module's front page.
pub fn measure(prepared: &Prepared<'_>, table: &mut Table) {
    table.section("From a start to the first reply");
    let function = prepared.function();
    let node = prepared.node("starts", Path::new("data"), &at(&function));
    let mut sleeper = Sleeper::start(prepared);
    let by_node = || {
        let started = node.start();
        until_answered(started.port);
        started
    };
    let plain = || {
        let started = prepared.starting_plain("alone");
        until_answered(started.port);
        started
    };
    let by_hand = || {
        let started = prepared.starting_function();
        until_listening(started.port, true);
        started
    };
    // It makes its directory.
    by_node();
    let mut taken: [Vec<f64>; 5] = Default::default();
    for _ in 0..STARTS {
        let [cold, warm] = sleeper.cold_and_warm();
        let all = [time(by_node), time(plain), time(by_hand), cold, warm];
        taken.iter_mut().zip(all).for_each(|(taken, one)| taken.push(one));
    }
    let [by_node, plain, by_hand, cold, warm] = taken.map(Taken::of_samples);
    let stopped = "a command to a function that was stopped (`idle_stop_ms`)";
    let rows = [
        (
            "a node, its function up",
            by_node,
            "the plain service, Node.js alone",
            plain,
            Wanted::Within(150.0),
        ),
        (
            stopped,
            cold,
            "a command to it while it runs",
            warm,
            Wanted::Nothing,
        ),
        (
            stopped,
            cold,
            "its process by hand, until it listens",
            by_hand,
            Wanted::Nothing,
        ),
    ];
    for (case, ours, beside, theirs, wanted) in rows {
        table.add(case, beside, [ours, theirs], Unit::Milliseconds, wanted);
    }
}

/// Milliseconds that it takes; what it makes ends behind it.
fn time<R>(once: impl FnOnce() -> R) -> f64 {
    let begun = Instant::now();
    let made = once();
    let took = begun.elapsed();
    drop(made);
    took.as_secs_f64() * 1e3
}

/// A node that stops its function when nobody uses it. The client's connection ends first.
struct Sleeper {
    client: Client,
    runtime: Runtime,
    port: u16,
    _node: Process,
}

impl Sleeper {
    fn start(prepared: &Prepared<'_>) -> Sleeper {
        let port = free_port();
        let function = format!(
            "command = [\"node\", \"index.js\"]\ndirectory = {:?}\nport = {port}\nidle_stop_ms = {IDLE_STOP_MS}",
            prepared.function
        );
        let node = prepared.node("cold", Path::new("data"), &function).start();
        let runtime = Threads::One.runtime();
        let client = runtime.block_on(Client::until_answered(node.port, "cold"));
        Sleeper {
            client,
            runtime,
            port,
            _node: node,
        }
    }

    /// A command that has its function started, and one behind it, which finds the entity awake.
    fn cold_and_warm(&mut self) -> [f64; 2] {
        until_listening(self.port, false);
        std::thread::sleep(SETTLE);
        [(); 2].map(|()| time(|| self.runtime.block_on(self.client.change("cold"))))
    }
}

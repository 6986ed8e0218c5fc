//! A call of another process with 64 bytes and as many back: ours between two nodes, against a bare stream of quinn's, a unary
//! call of tonic's, and a request through NATS. The other side is a process of its own each time.

mod nats;
mod ours_pair;
mod quinn_echo;
mod tonic_echo;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Options;
use crate::cpus::{self, Placement};
use crate::measure::{Rate, Threads, Way, medians, rates, way};
use crate::table::{Table, Wanted};

/// The other side: this program again.
pub struct Far {
    child: Child,
    /// Where it can be reached, as it says itself.
    pub address: String,
}

impl Far {
    fn start(args: &[&str]) -> Far {
        let own = std::env::current_exe().unwrap();
        let mut child = Command::new(own)
            .arg("far")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        assert!(!address.is_empty(), "the other side, {args:?}, did not start");
        Far { child, address }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        cpus::stop(&mut self.child);
    }
}

/// What the process of the other side does: says where it is, and answers until it is told to end.
pub fn far(args: &[&str]) {
    let _serving = match *args {
        ["ours", dir, seed] => return ours_pair::far(dir.as_ref(), seed),
        ["quinn", dir] => quinn_echo::far(dir.as_ref()),
        ["tonic", threads] => tonic_echo::far(Threads::of(threads)),
        ["nats", threads, server] => nats::far(Threads::of(threads), server),
        _ => panic!("there is no other side {args:?}"),
    };
    cpus::until_told();
}

/// Whom we compare with, in the order in which they are measured.
const PEERS: [&str; 3] = ["quinn, one stream", "tonic, unary", "NATS, request and reply"];

/// See the module's front page.
pub fn measure(options: &Options, table: &mut Table) {
    let dir = options.dir.join("calls");
    let pair = ours_pair::Pair::start(&dir);
    beside(&pair, &dir, options, table);
    pair.stop();
}

fn beside(pair: &ours_pair::Pair, dir: &Path, options: &Options, table: &mut Table) {
    let (server, process) = (options.nats.as_str(), options.nats_process);
    let quinn = Far::start(&["quinn", dir.to_str().unwrap()]);
    let tonic = Threads::BOTH.map(|threads| (threads, Far::start(&["tonic", threads.name()])));
    let nats = Threads::BOTH.map(|threads| (threads, Far::start(&["nats", threads.name(), server])));

    table.section("A call of another node, 64 bytes there and back, one at a time");
    for placement in Placement::BOTH {
        let [ours, others @ ..] = medians([
            &mut || placement.with(&[pair.far.id()], || pair.p50()),
            &mut || placement.with(&[quinn.id()], || quinn_echo::p50(dir, &quinn)),
            &mut || placement.with(&[tonic[0].1.id()], || tonic_echo::p50(&tonic[0].1)),
            &mut || placement.with(&[nats[0].1.id(), process], || nats::p50(server, &nats[0].1)),
        ]);
        let wanted = [Wanted::AtMost(1.5), Wanted::AtMost(0.75), Wanted::Below(2.5)];
        let case = format!("a query there ({})", placement.name());
        for ((name, theirs), wanted) in PEERS.iter().zip(others).zip(wanted) {
            table.p50(&case, name, [ours, theirs], wanted);
        }
    }

    table.section("Calls of another node, 64 bytes there and back, 64 at once");
    let best = rates([
        pair.ways(),
        vec![way("one thread a side", || quinn_echo::rate(dir, &quinn))],
        by_threads(&tonic, tonic_echo::rate),
        by_threads(&nats, |threads, far| nats::rate(threads, server, process, far)),
    ]);
    let [(ours, own_way), others @ ..] = best.map(|ways| ways.into_iter().next().unwrap());
    let wanted = [Wanted::Nothing, Wanted::Times(8.0), Wanted::Times(3.0)];
    let case = format!("a query there ({own_way})");
    for ((name, (theirs, way)), wanted) in PEERS.iter().zip(others).zip(wanted) {
        let name = format!("{name} ({way})");
        table.rate(&case, &name, [ours, theirs], wanted);
    }
}

fn by_threads<'a>(
    fars: &'a [(Threads, Far)],
    rate: impl Fn(Threads, &Far) -> Rate + Copy + 'a,
) -> Vec<Way<'a>> {
    let ways = fars.iter();
    ways.map(|(threads, far)| way(format!("{} a side", threads.name()), move || rate(*threads, far)))
        .collect()
}

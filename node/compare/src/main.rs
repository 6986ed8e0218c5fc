//! What functions cost beside what people would use otherwise: see README.md beside this package.
//!
//! `run`, the script there, starts the servers and gives their addresses. `compare far ..` is the other side of a call, in a
//! process of its own; `compare spin` keeps the CPUs awake.

mod calls;
mod cpus;
mod durable;
mod embedded;
mod measure;
mod ours;
mod postgres;
mod redis_side;
mod sidecar;
mod table;
mod waking;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::table::Table;

/// Where the servers are, and where there is room for files. What no part that is measured needs is empty.
pub struct Options {
    pub dir: PathBuf,
    pub redis: String,
    pub redis_socket: String,
    pub redis_always: String,
    pub postgres: String,
    pub nats: String,
    pub nats_process: u32,
    /// The program, and without what debuggers read of two profiles.
    pub anabranch: String,
    pub release_stripped: PathBuf,
    pub dist_stripped: PathBuf,
    /// The tests' function on Kalix's SDK and the plain service beside it, both installed.
    pub function: PathBuf,
    pub plain: PathBuf,
    /// A directory in memory.
    pub memory: PathBuf,
}

impl Options {
    /// From NAME=VALUE each.
    fn of(args: &[&str]) -> Options {
        let given: BTreeMap<&str, &str> = args.iter().filter_map(|arg| arg.split_once('=')).collect();
        let of = |name: &str| given.get(name).copied().unwrap_or_default().to_owned();
        Options {
            dir: of("dir").into(),
            redis: of("redis"),
            redis_socket: of("redis-socket"),
            redis_always: of("redis-always"),
            postgres: of("postgres"),
            nats: of("nats"),
            nats_process: of("nats-process").parse().unwrap_or_default(),
            anabranch: of("anabranch"),
            release_stripped: of("release-stripped").into(),
            dist_stripped: of("dist-stripped").into(),
            function: of("function").into(),
            plain: of("plain").into(),
            memory: of("memory").into(),
        }
    }
}

type Part = fn(&Options, &mut Table);

/// What is measured, in this order; `run` with names measures these only.
const PARTS: [(&str, Part); 5] = [
    ("embedded", embedded::measure),
    ("durable", durable::measure),
    ("calls", calls::measure),
    ("waking", waking::measure),
    ("sidecar", sidecar::measure),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["spin"] => cpus::spin(),
        ["far", ref args @ ..] => calls::far(args),
        ["all", ref args @ ..] => {
            let parts: Vec<&str> = args.iter().copied().filter(|arg| !arg.contains('=')).collect();
            return all(&Options::of(args), &parts);
        }
        _ => {
            eprintln!("the script `run` beside this package starts the servers and this");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn all(options: &Options, parts: &[&str]) -> ExitCode {
    if let Some(part) = parts
        .iter()
        .find(|part| PARTS.iter().all(|(name, _)| name != *part))
    {
        eprintln!("there is no part {part:?}: {:?}", PARTS.map(|(name, _)| name));
        return ExitCode::from(2);
    }
    let mut table = Table::default();
    for (name, measure) in PARTS {
        if parts.is_empty() || parts.contains(&name) {
            measure(options, &mut table);
        }
    }
    print!("{table}");
    ExitCode::SUCCESS
}

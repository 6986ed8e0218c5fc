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
mod table;
mod waking;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::table::Table;

/// Where the servers are, and where there is room for files.
pub struct Options {
    pub dir: PathBuf,
    pub redis: String,
    pub redis_socket: String,
    pub redis_always: String,
    pub postgres: String,
    pub nats: String,
    pub nats_process: u32,
}

type Part = fn(&Options, &mut Table);

/// What is measured, in this order; `run` with names measures these only.
const PARTS: [(&str, Part); 4] = [
    ("embedded", embedded::measure),
    ("durable", durable::measure),
    ("calls", calls::measure),
    ("waking", waking::measure),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["spin"] => cpus::spin(),
        ["far", ref args @ ..] => calls::far(args),
        [
            "all",
            dir,
            redis,
            redis_socket,
            redis_always,
            postgres,
            nats,
            nats_process,
            ref parts @ ..,
        ] => {
            let options = Options {
                dir: dir.into(),
                redis: redis.into(),
                redis_socket: redis_socket.into(),
                redis_always: redis_always.into(),
                postgres: postgres.into(),
                nats: nats.into(),
                nats_process: nats_process.parse().unwrap(),
            };
            return all(&options, parts);
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

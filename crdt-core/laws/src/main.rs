//! `anabranch-laws`: the proof suite at any length, and its own proof.

mod mutants;

use std::process::ExitCode;

use anabranch_crdt::Type;
use anabranch_laws::random;
use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "anabranch-laws", version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs random histories of every type against the models.
    Run(Run),
    /// Tries deliberate mistakes in the crate and prints within how many steps each is found.
    Mutants,
}

#[derive(Debug, Args)]
struct Run {
    /// Only this type.
    #[arg(long)]
    ty: Option<Type>,
    /// How many steps a type.
    #[arg(long, default_value_t = 10_000_000)]
    steps: u64,
    /// Where the seeds begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let is_right = match Cli::parse().command {
        Task::Run(run) => {
            let types = Type::ALL
                .into_iter()
                .filter(|ty| run.ty.is_none_or(|only| only == *ty));
            types.fold(true, |is_right, ty| is_right & one(ty, &run))
        }
        Task::Mutants => match mutants::run() {
            Ok(is_right) => is_right,
            Err(why) => {
                eprintln!("{why}");
                false
            }
        },
    };
    if is_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn one(ty: Type, run: &Run) -> bool {
    match random::run(ty, run.seed, run.steps) {
        Ok(()) => {
            println!("{ty}: {} steps, 0 mismatches", run.steps);
            true
        }
        Err(failure) => {
            println!("{ty}: a mismatch within {} steps: {failure}", failure.steps);
            false
        }
    }
}

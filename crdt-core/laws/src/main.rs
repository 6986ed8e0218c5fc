//! `anabranch-laws`: the proof suite at any length, and its own proof.

mod mutants;

use std::path::PathBuf;
use std::process::ExitCode;

use anabranch_crdt::Type;
use anabranch_laws::{golden, hostile, random};
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
    /// Writes inputs for the fuzz targets into a directory each, to begin with.
    Inputs(Inputs),
    /// Prints golden/v3.txt with the bytes of today.
    Golden,
    /// Tries deliberate mistakes in the crate and prints within how many steps each is found.
    Mutants,
}

#[derive(Debug, Args)]
struct Inputs {
    /// Where to.
    directory: PathBuf,
    /// How many for each target.
    #[arg(long, default_value_t = 100)]
    count: u64,
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
        Task::Inputs(inputs) => match write_inputs(&inputs) {
            Ok(()) => true,
            Err(e) => {
                eprintln!("{}: {e}", inputs.directory.display());
                false
            }
        },
        Task::Golden => match golden::print(golden::FILE) {
            Ok(text) => {
                print!("{text}");
                true
            }
            Err(why) => {
                eprintln!("{why}");
                false
            }
        },
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

fn write_inputs(inputs: &Inputs) -> std::io::Result<()> {
    for target in hostile::TARGETS {
        let directory = inputs.directory.join(target.name);
        std::fs::create_dir_all(&directory)?;
        for seed in 0..inputs.count {
            std::fs::write(
                directory.join(format!("made-{seed}")),
                hostile::inputs(target.name, seed),
            )?;
        }
    }
    Ok(())
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

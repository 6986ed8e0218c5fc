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

/// What decoders allocate. The tests of this program run in a process of their own, so that a heap can be counted.
#[cfg(test)]
mod tests {
    use std::alloc::System;

    use anabranch_crdt::{Delta, HashKey, Knowledge, Op, Piece, Replicas, Type, Value, decode_puts};
    use anabranch_laws::hostile::inputs;
    use cap::Cap;

    #[global_allocator]
    static HEAP: Cap<System> = Cap::new(System, usize::MAX);

    /// Bytes of heap for a byte of input, at most: a shared beginning of a string is 255, a step into a map a box.
    const PER_BYTE: usize = 1_000;
    /// And for none.
    const FIXED: usize = 4_000;

    /// What the call has allocated, all in all.
    fn allocated<T>(call: impl FnOnce() -> T) -> usize {
        let before = HEAP.total_allocated();
        drop(call());
        HEAP.total_allocated() - before
    }

    #[test]
    fn what_decoders_allocate_is_bounded_by_what_arrived() {
        let key = HashKey([0; 16]);
        let value = |bytes: &[u8]| Value::from_canonical_bytes(bytes, &mut Replicas::new(), &key).is_ok();
        let mut worst = 0;
        for seed in 0..20_000 {
            for (name, decode) in [
                ("value", &value as &dyn Fn(&[u8]) -> bool),
                ("puts", &|bytes| decode_puts(bytes, Type::OrMap, 3).is_ok()),
                ("delta", &|bytes| Delta::decode(bytes, 3).is_ok()),
                ("op", &|bytes| Op::decode(bytes).is_ok()),
                ("piece", &|bytes| Piece::decode(bytes).is_ok()),
                ("knowledge", &|bytes| Knowledge::decode(bytes).is_ok()),
            ] {
                let bytes = inputs(name, seed);
                let used = allocated(|| decode(&bytes));
                worst = worst.max(used.saturating_sub(FIXED) / bytes.len().max(1));
                assert!(
                    used <= FIXED + PER_BYTE * bytes.len(),
                    "{name}, seed {seed}: {used} bytes for {}",
                    bytes.len()
                );
            }
        }
        the_worst_that_can_be_announced();
        println!("at most {worst} bytes of heap a byte of input");
    }

    /// Of the one test: two at once would count each other.
    fn the_worst_that_can_be_announced() {
        // A long key, and then places that share all they may with it; a number of puts that is not there; long runs.
        let mut shared = vec![4, 0, 0xff, 0x0f, 0x81, 0x0f, 0xf0, 1];
        shared.extend([b'x'; 255]);
        shared.extend([0xf0, 0xf0, 1].repeat(1_000));
        for mut bytes in [
            shared,
            vec![0xff; 2_000],
            vec![0x81, 0x80, 0x04, 0, 0xff, 0x3f, 0x81],
        ] {
            bytes.extend([0; 500]);
            let used = allocated(|| decode_puts(&bytes, Type::OrSet, 1));
            assert!(
                used <= FIXED + PER_BYTE * bytes.len(),
                "{used} bytes for {}",
                bytes.len()
            );
        }
    }
}

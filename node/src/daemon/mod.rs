//! The daemon: the command line, configuration files, `up`, `dev`, the admin API and the commands that use it.
//!
//! Not here: what a node does. Everything goes through the library's public face, as an embedder's program would.
//!
//! Contract: a command's result is on stdout, everything else on stderr; it ends with one of `exit::CODES`.

mod agreement;
mod api;
mod certificate;
mod cli;
mod client;
mod cluster_dir;
mod commands;
mod config;
mod dev;
mod exit;
mod http;
mod lines;
mod node_command;
mod output;
mod ports;
mod process;
mod remarks;
mod replay;
mod serving;
mod session_file;
mod stdin;
mod strict;
mod target;
mod traces;
mod up;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use self::cli::{Cli, Command};
use self::commands as cmd;
use self::exit::Failure;
use crate::function::Function;

/// Runs the program `anabranch` with this process's arguments.
pub fn main() -> ExitCode {
    run([])
}

/// Runs it with functions: this program is then node, `up` and client at once, and every node that it starts has them.
///
/// ```no_run
/// use anabranch::state::PnCounter;
/// use anabranch::{Context, Function};
///
/// fn main() -> std::process::ExitCode {
///     let hit = |hits: &mut PnCounter, _: &mut Context, by: u32| {
///         hits.increment(by.into());
///         Ok::<_, String>(hits.get())
///     };
///     anabranch::cli::run([Function::of::<PnCounter>("hits").command("hit", hit).into()])
/// }
/// ```
pub fn run(functions: impl IntoIterator<Item = Function>) -> ExitCode {
    let functions: Vec<Arc<Function>> = functions.into_iter().map(Arc::new).collect();
    let line: Vec<OsString> = std::env::args_os().collect();
    let in_json = cli::asks_for_json(&line);
    let cli = match Cli::read(line) {
        Ok(cli) => cli,
        Err(wrong) if in_json && wrong.use_stderr() => {
            let failure = cli::misused(&wrong).changed(false);
            output::note_json(&failure.json());
            return ExitCode::from(failure.code());
        }
        // Wrong usage ends in here, with exit code 2 and clap's own words; help and the version, too.
        Err(wrong) => wrong.exit(),
    };
    if let Command::MindFunction(args) = &cli.command {
        return process::minder::run(&args.command);
    }
    let (in_json, changes_nothing) = (cli.command.fails_in_json(), cli.command.changes_nothing());
    match obey(cli.command, functions) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(failure) => {
            let failure = match changes_nothing {
                true => failure.changed(false),
                false => failure,
            };
            match (failure.message().is_empty(), in_json) {
                (true, _) => {}
                (false, true) => output::note_json(&failure.json()),
                (false, false) => output::note(&format!("error: {failure}")),
            }
            ExitCode::from(failure.code())
        }
    }
}

fn obey(command: Command, functions: Vec<Arc<Function>>) -> Result<(), Failure> {
    // A node serves many at once; the other commands wait for others.
    let mut builder = match command {
        Command::Node(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|e| Failure::io("cannot start the runtime", &e))?;
    let ended = runtime.block_on(async {
        match command {
            Command::Up(args) => up::run(args.into(), functions).await,
            Command::Dev(args) => dev::run(args, functions).await,
            Command::Node(args) => node_command::run(args, functions).await,
            Command::Update(args) => cmd::update::run(&args).await,
            Command::Delete(args) => cmd::update::delete(&args).await,
            Command::Call(args) => cmd::call::run(&args).await,
            Command::Schedule(command) => cmd::schedule::run(&command).await,
            Command::Stream(args) => cmd::stream::run(&args).await,
            Command::Get(args) => cmd::read::get(&args).await,
            Command::Watch(args) => cmd::read::watch(&args).await,
            Command::Dump(args) => cmd::read::dump(&args).await,
            Command::Status(args) => cmd::status::run(&args).await,
            Command::Verify(args) => cmd::verify::run(&args).await,
            Command::Replay(args) => replay::run(&args).await,
            Command::Leave(args) => cmd::leave::run(&args).await,
            // It has a runtime and exit codes of its own.
            Command::MindFunction(_) => Ok(()),
            Command::Ca(command) => cmd::ca::ca(&command),
            Command::Cert(command) => cmd::ca::cert(&command),
        }
    });
    // A function that never returns is not waited for.
    runtime.shutdown_background();
    ended
}

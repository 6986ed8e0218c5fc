//! `dev`: `up` with a function of the user's in another process, beside each node.
//!
//! Not here: the processes (`up`, and each node's own), what is kept of it (`cluster_dir`).
//!
//! Contract: a command that is not there is told before anything is made or started.

use std::env;
use std::sync::Arc;

use super::cli::Dev;
use super::cluster_dir::FunctionCommand;
use super::exit::Failure;
use super::{process, up};
use crate::function::Function;

/// Runs `dev` until it is told to stop or has no node left.
pub async fn run(args: Dev, functions: Vec<Arc<Function>>) -> Result<(), Failure> {
    let Some(program) = args.command.first() else {
        return Err(Failure::usage(
            "say behind -- what starts your function: anabranch dev -- npm start",
        ));
    };
    let directory = env::current_dir().map_err(|e| Failure::io("the working directory", &e))?;
    process::find(program, &directory)
        .map_err(|why| Failure::usage(format!("the function cannot be started: {why}")))?;
    let Some(directory) = directory.to_str() else {
        let message = format!(
            "the working directory's name is not UTF-8: {}",
            directory.display()
        );
        return Err(Failure::usage(message));
    };
    let function = FunctionCommand {
        command: args.command.clone(),
        directory: directory.to_string(),
        origins: args.origins,
    };
    let wanted = up::Wanted {
        nodes: args.nodes.into(),
        dir: args.dir,
        json: args.json,
        function: Some(function),
    };
    up::run(wanted, functions).await
}

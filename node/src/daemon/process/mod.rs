//! A function's command as a process of the node: started, listened to, started again, put to sleep and woken.
//!
//! `supervisor` is the node's task, `run` one life of the command, `minder` the process between the two that ends the command
//! whatever ends the node, `words` what it says, `outlet` where the command's output goes, `find` whether there is such a command,
//! `listening` where it listens, if that is not where it was told to.
//!
//! Not here: what the function is asked and answers (`sidecar`); whether and when it is idle, which its caller knows.
//!
//! Contract: at most one life at a time; none begins while anything of the one before is left, and none outlives the node.

mod find;
mod listening;
pub mod minder;
mod outlet;
mod run;
mod supervisor;
#[cfg(test)]
mod tests;
mod words;

pub use self::find::find;
pub use self::listening::Probe;
pub use self::outlet::Outlet;
pub use self::supervisor::{Handle, Starts, Supervisor};

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where a function's process is to listen: what it finds as HOST.
pub const HOST: &str = "127.0.0.1";

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The command and its arguments, never empty.
    pub command: Vec<String>,
    /// Where it runs, absolute.
    pub directory: PathBuf,
    /// What it finds as PORT.
    pub port: u16,
}

impl Settings {
    /// Where it is to listen.
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

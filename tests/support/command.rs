//! Commands that run to their end.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use super::ANABRANCH;
use super::process::{Ended, Process};

/// Runs `anabranch` with these arguments to its end.
#[track_caller]
pub fn anabranch<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ended {
    Process::start("anabranch", Command::new(ANABRANCH).args(args)).wait()
}

/// The same with a working directory.
#[track_caller]
pub fn anabranch_in<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> Ended {
    Process::start("anabranch", Command::new(ANABRANCH).args(args).current_dir(dir)).wait()
}

impl Ended {
    /// What it printed; it must have done what it was asked.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self}");
        self.stdout
    }

    /// It must have failed with this exit code, said all of this on stderr, and nothing on stdout.
    #[track_caller]
    pub fn failed(self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self}");
        assert_eq!(self.stdout, "", "{self}");
        for part in said {
            assert!(self.stderr.contains(part), "{part:?} is missing in\n{self}");
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit {:?}\nstdout: {}\nstderr: {}",
            self.code, self.stdout, self.stderr
        )
    }
}

/// Makes the authority of a cluster of this name.
#[track_caller]
pub fn make_authority(dir: &Path, cluster: &str) {
    anabranch(["ca", "init", "--dir", dir.to_str().unwrap(), "--cluster", cluster]).done();
}

/// Makes a node's certificate and key under the authority in `ca`.
#[track_caller]
pub fn make_certificate(ca: &Path, node: u128, out: &Path) {
    let id = format!("{node:032x}");
    let (ca, out) = (ca.to_str().unwrap(), out.to_str().unwrap());
    anabranch([
        "cert", "issue", "--force", "--ca", ca, "--out", out, "--node", &id,
    ])
    .done();
}

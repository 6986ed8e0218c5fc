//! A test in namespaces of its own: it may mount there what nobody else sees, and needs no privileges for it.

use std::io::Write;
use std::process::{Command, Stdio};

use super::process::Process;

/// Set for the process within.
const INSIDE: &str = "ANABRANCH_TEST_INSIDE_NAMESPACE";

/// Where this process stands.
pub enum Place {
    /// Within: go on with the test.
    Inside,
    /// Outside: the test ran within and passed, or cannot run on this machine (which was said).
    Over,
}

/// Runs the test of this name (as the test harness calls it) again in a user and mount namespace of its own.
#[track_caller]
pub fn enter(test: &str) -> Place {
    if std::env::var_os(INSIDE).is_some() {
        return Place::Inside;
    }
    let Some(flags) = ["-Urm", "-m"].into_iter().find(|flags| is_permitted(flags)) else {
        let why = "this machine lets nobody mount in a namespace of his own (unshare -Urm, unshare -m)";
        // Past the test harness, which keeps what a test that passes has printed to itself.
        let mut loud = std::io::stderr();
        writeln!(loud, "SKIPPED: {test}: {why}").unwrap();
        return Place::Over;
    };
    let mut command = Command::new("unshare");
    command
        .arg(flags)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"]);
    let ended = Process::start(test, command.env(INSIDE, "1")).wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(
        ended.stdout.contains("1 passed"),
        "the name of the test is wrong: {ended}"
    );
    Place::Over
}

/// Mounts a file system in memory of so many bytes, seen by this process and its children only.
pub fn mount_tmpfs(at: &std::path::Path, bytes: u64) {
    std::fs::create_dir_all(at).unwrap();
    let mut command = Command::new("mount");
    command
        .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
        .arg(at);
    Process::start("mount", &mut command).wait().done();
}

/// Whether a mount is possible in namespaces of this kind.
fn is_permitted(flags: &str) -> bool {
    let mut probe = Command::new("unshare");
    probe
        .args([flags, "sh", "-c", "mount -t tmpfs tmpfs /mnt"])
        .stdin(Stdio::null());
    probe
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

//! Whether there is such a command, so that a mistyped one is told at once and not by the end of a process.
//!
//! Not here: whether it can do anything: only a start tells.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Any of the permissions to run a file.
const MODE_EXECUTE: u32 = 0o111;

/// Looks for a program as the system will from that directory; the error is for people.
pub fn find(program: &str, directory: &Path) -> Result<(), String> {
    let is_file = |path: &Path| fs::metadata(path).ok().filter(fs::Metadata::is_file);
    let may_run = |metadata: &fs::Metadata| metadata.permissions().mode() & MODE_EXECUTE != 0;
    if program.contains('/') {
        let path = directory.join(program);
        return match is_file(&path) {
            Some(metadata) if may_run(&metadata) => Ok(()),
            Some(_) => Err(format!("{} is not executable", path.display())),
            None => Err(format!("there is no file {}", path.display())),
        };
    }
    let places = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&places).any(|place| {
        is_file(&directory.join(place).join(program)).is_some_and(|metadata| may_run(&metadata))
    });
    if found && !program.is_empty() {
        return Ok(());
    }
    Err(format!(
        "there is no command {program:?} in any directory of PATH"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_looked_for_as_the_system_does() {
        let root = Path::new("/");
        assert_eq!(find("sh", root), Ok(()));
        assert_eq!(find("bin/sh", root), Ok(()));
        let missing = find("no-such-command", root).unwrap_err();
        assert!(
            missing.contains("\"no-such-command\"") && missing.contains("PATH"),
            "{missing}"
        );
        assert!(find("./sh", root).unwrap_err().contains("no file"));
        assert!(find("etc/passwd", root).unwrap_err().contains("not executable"));
        for nothing in ["", ".", "/"] {
            assert!(find(nothing, root).is_err(), "{nothing:?}");
        }
    }
}

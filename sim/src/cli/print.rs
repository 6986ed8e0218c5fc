//! What goes to standard output. A reader that goes away (`| head`) is no failure: the run goes on, and its exit code counts.

use std::fmt::Display;
use std::io::Write;

/// One line.
pub(super) fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

//! What is wrong with what a function said of itself, in words for whoever wrote it, and where in their files.
//!
//! Not here: telling them (each dialect has its own way). Contract: a text says what is wrong and what to do, and makes sense without
//! the location.

use std::fmt;

use super::pool::{Location, location};
use prost_reflect::FileDescriptor;

/// Whether it can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, but perhaps not as meant.
    Warning,
    /// It cannot be used.
    Error,
}

/// Something wrong with a function's descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it can be used all the same.
    pub severity: Severity,
    /// What is wrong and what to do.
    pub message: String,
    /// Where, if the descriptors say.
    pub location: Option<Location>,
}

impl Problem {
    /// What makes it unusable; `paths` are places in the file, of which the first that has a location counts.
    pub fn error(message: impl Into<String>, file: &FileDescriptor, paths: &[impl AsRef<[i32]>]) -> Problem {
        Problem::new(Severity::Error, message.into(), file, paths)
    }

    /// What may not be meant.
    pub fn warning(
        message: impl Into<String>,
        file: &FileDescriptor,
        paths: &[impl AsRef<[i32]>],
    ) -> Problem {
        Problem::new(Severity::Warning, message.into(), file, paths)
    }

    /// What makes it unusable, and is nowhere in its files.
    pub fn nowhere(message: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            message: message.into(),
            location: None,
        }
    }

    fn new(
        severity: Severity,
        message: String,
        file: &FileDescriptor,
        paths: &[impl AsRef<[i32]>],
    ) -> Problem {
        Problem {
            severity,
            message,
            location: paths.iter().find_map(|path| location(file, path.as_ref())),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)
    }
}

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

/// Of which class it is, by a code that stays the same. Kalix's SDKs say where something is only if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `ANB-0001`: what it says of itself cannot be served, or perhaps not as meant.
    Descriptors,
    /// `ANB-0002`: options ask for what is not done here.
    Options,
    /// `ANB-0003`: what is stored is of another type than the function's entities.
    Stored,
    /// `ANB-0004`: as it runs it says what the protocol does not have, or what cannot be done.
    Protocol,
    /// `ANB-0005`: what it answered is passed on, but not all of it is as its descriptors say, or could be done.
    Answer,
}

impl Class {
    /// The code.
    pub fn code(self) -> &'static str {
        match self {
            Class::Descriptors => "ANB-0001",
            Class::Options => "ANB-0002",
            Class::Stored => "ANB-0003",
            Class::Protocol => "ANB-0004",
            Class::Answer => "ANB-0005",
        }
    }
}

/// Something wrong with a function: with its descriptors, unless its class says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Of which class it is.
    pub class: Class,
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
            class: Class::Descriptors,
            severity: Severity::Error,
            message: message.into(),
            location: None,
        }
    }

    /// The same of another class.
    pub fn of(self, class: Class) -> Problem {
        Problem { class, ..self }
    }

    fn new(
        severity: Severity,
        message: String,
        file: &FileDescriptor,
        paths: &[impl AsRef<[i32]>],
    ) -> Problem {
        Problem {
            class: Class::Descriptors,
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

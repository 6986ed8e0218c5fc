//! The file of a session: what its user has seen, kept for the next command, and shared by those that run at once.
//!
//! Contract: what a command adds stays, whatever others add meanwhile: each reads, joins and replaces the file under a lock,
//! which is on a file beside it, as the file itself is another one after each write. A file that cannot be written is found
//! out by [`Session::begin`], before anything is asked of a node.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::HeaderMap;

use super::api::SESSION_HEADER;
use super::exit::Failure;
use crate::wire::{Token, TokenError};

/// A file with what its user has seen.
#[derive(Clone, Debug)]
pub struct Session {
    /// Where it is; made by the first answer.
    pub file: PathBuf,
    /// How long a node may wait for what the session has seen.
    pub timeout: Duration,
    /// What has happened once a node has answered: said where the file cannot be written any more by then.
    pub done: &'static str,
}

impl Session {
    /// The session that a command was given, if it was.
    pub fn of(file: Option<&PathBuf>, timeout: Duration, done: &'static str) -> Option<Session> {
        let file = file?;
        // A link stays one, and leads to the same session whatever it is called.
        let target = file.is_symlink().then(|| fs::canonicalize(file).ok()).flatten();
        let file = target.unwrap_or_else(|| file.clone());
        Some(Session { file, timeout, done })
    }

    /// What the session has seen, of a file that what comes next can be kept in.
    pub fn begin(&self) -> Result<Token, Failure> {
        self.check()?;
        let _lock = self.lock()?;
        let token = self.token()?;
        // A file that is there is replaced by the same: that may be forbidden where making one is not.
        let is_there = self.file.exists();
        self.write(&token, |new| match is_there {
            true => fs::rename(new, &self.file),
            false => fs::remove_file(new),
        })?;
        Ok(token)
    }

    /// What is no session's file gets no lock's file beside it. Read without one: it is replaced whole, or not at all.
    fn check(&self) -> Result<(), Failure> {
        match fs::metadata(&self.file) {
            Ok(found) if found.is_file() => self.token().map(|_| ()),
            Ok(found) if found.is_dir() => {
                let why = io::Error::from(ErrorKind::IsADirectory);
                Err(self.failed("io", "cannot be read", &why))
            }
            // A device or a pipe: reading it might not end.
            Ok(_) => Err(self.failed("invalid", "is no session's file", &"it is no regular file")),
            // What stands in the way of making it is found by making it.
            Err(_) => Ok(()),
        }
    }

    /// Takes in what an answer says.
    pub fn note(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let text = headers.get(SESSION_HEADER).and_then(|value| value.to_str().ok());
        let Some(seen) = text.and_then(|text| text.parse().ok()) else {
            return Ok(()); // an answer that has nothing to do with sessions
        };
        self.add(&seen)
    }

    /// Takes in what was seen, beside what other commands have taken in since.
    pub fn add(&self, seen: &Token) -> Result<(), Failure> {
        let _lock = self.lock()?;
        let mut token = self.token()?;
        token.join(seen);
        self.write(&token, |new| fs::rename(new, &self.file))
    }

    /// Held by whoever reads the file to write it; given back when it is dropped, or its process ends. The lock's own file
    /// stays: somebody may be waiting for it.
    fn lock(&self) -> Result<File, Failure> {
        let path = self.beside(".lock");
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = file.map_err(|e| self.failed("io", "cannot be written", &in_file(&path, &e)))?;
        let locked = file.lock();
        locked.map_err(|e| self.failed("io", "cannot be locked", &in_file(&path, &e)))?;
        Ok(file)
    }

    fn token(&self) -> Result<Token, Failure> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Token::default()),
            Err(e) => return Err(self.failed("io", "cannot be read", &e)),
        };
        // As in a header, one that is empty begins a session.
        if text.trim().is_empty() {
            return Ok(Token::default());
        }
        text.trim_end()
            .parse()
            .map_err(|e: TokenError| self.failed("invalid", "is no session's file", &e))
    }

    /// Writes a file of this process's own, whole before it takes the session's place.
    fn write(&self, token: &Token, place: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Failure> {
        let new = self.beside(&format!(".{}.new", std::process::id()));
        let written = fs::write(&new, format!("{token}\n")).and_then(|()| place(&new));
        written.map_err(|e| {
            // It is of no use; what went wrong first is what is said.
            let _ = fs::remove_file(&new);
            self.failed("io", "cannot be written", &e)
        })
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.file.clone().into_os_string();
        path.push(suffix);
        PathBuf::from(path)
    }

    fn failed(&self, name: &str, what: &str, why: &dyn std::fmt::Display) -> Failure {
        Failure::new(name, format!("{} {what}: {why}", self.file.display()))
    }
}

fn in_file(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

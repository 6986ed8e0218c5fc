//! A history file: JSON events, one a line, read one after the other.
//!
//! Contract: a line is an [`Event`] whole, or a [`BadLine`] with its number and what is wrong. Memory does not grow
//! with the file. What was read is hashed, so that a file that changes underneath is noticed.

use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;
use siphasher::sip128::{Hasher128, SipHasher24};

use super::super::exit::Failure;
use super::super::strict;
use super::event;
use crate::wire::{KEY_BYTES_MAX, KIND_BYTES_MAX};

/// A line is at most this long.
const LINE_BYTES_MAX: usize = 16 << 20;
/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

const _: () = assert!(KIND_BYTES_MAX >= 8, "the history's own kinds fit");

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// Its name.
    pub commit: String,
    /// When, seconds since 1970.
    pub at: u64,
    /// Who.
    pub author: String,
    /// What it did to files.
    pub changes: Vec<Change>,
}

/// What a commit did to one file: git's letter, the path, lines added and deleted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(expecting = "a change: an array of its status, path, lines added and lines deleted")]
pub struct Change(pub String, pub String, pub i64, pub i64);

impl Change {
    /// Git's letter: A added, D deleted; anything else is a change.
    pub fn status(&self) -> &str {
        &self.0
    }

    /// The file.
    pub fn path(&self) -> &str {
        &self.1
    }

    /// Lines added less lines deleted. Checked when the line was read.
    pub fn lines(&self) -> i64 {
        self.2.saturating_sub(self.3)
    }
}

/// A line that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong.
    pub why: String,
}

/// One line of a file.
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// The event, or what is wrong.
    pub event: Result<Event, BadLine>,
}

/// What a file holds, before it is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The hash of its bytes.
    pub digest: u128,
    /// Its lines.
    pub lines: u64,
}

/// Reads a file once for its digest.
pub fn survey(path: &Path) -> Result<Contents, Failure> {
    let mut lines = Lines::open(path)?;
    let mut count = 0;
    while lines.next()?.is_some() {
        count += 1;
    }
    Ok(Contents {
        digest: lines.digest(),
        lines: count,
    })
}

/// A history, read event by event.
pub struct History {
    lines: Lines,
    line: u64,
}

impl History {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<History, Failure> {
        Ok(History {
            lines: Lines::open(path)?,
            line: 0,
        })
    }

    /// The next line; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Line>, Failure> {
        let Some(line) = self.lines.next()? else {
            return Ok(None);
        };
        self.line += 1;
        let number = self.line;
        let event = line.and_then(parse).map_err(|why| BadLine { line: number, why });
        Ok(Some(Line { number, event }))
    }

    /// The hash of all that was read.
    pub fn digest(&self) -> u128 {
        self.lines.digest()
    }
}

fn parse(line: &[u8]) -> Result<Event, String> {
    let text =
        std::str::from_utf8(line).map_err(|e| format!("not UTF-8 from byte {}", e.valid_up_to() + 1))?;
    if text.trim().is_empty() {
        return Err("the line is empty".to_string());
    }
    let event: Event = strict::object(text.as_bytes()).map_err(|e| describe(&e))?;
    check_name("author", &event.author)?;
    event::check(&event)?;
    for (i, change) in event.changes.iter().enumerate() {
        let place = |e| format!("change {}: {e}", i + 1);
        check_name("path", change.path()).map_err(place)?;
        if change.2.checked_sub(change.3).is_none() {
            return Err(place("the numbers of lines are too large".to_string()));
        }
    }
    Ok(event)
}

/// Authors and paths become keys.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err(format!("the {what} is empty")),
        len if len > KEY_BYTES_MAX => Err(format!(
            "the {what} has {len} bytes, at most {KEY_BYTES_MAX} fit a key"
        )),
        _ => Ok(()),
    }
}

/// The parser's words without its own count of lines: it only ever sees one.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(what, _)| what);
    strict::in_words(&format!("column {}: {what}", error.column()))
}

/// The lines of a file, hashed as they go by.
struct Lines {
    path: std::path::PathBuf,
    reader: BufReader<File>,
    hasher: SipHasher24,
    buffer: Vec<u8>,
}

impl Lines {
    fn open(path: &Path) -> Result<Lines, Failure> {
        // Looked at before it is opened: opening a pipe waits for somebody to write to it.
        let failed = |e: io::Error| Failure::io(path.display(), &e);
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(Failure::usage(format!(
                "{} is not a regular file: a replay reads it twice, once to know it and once to send it",
                path.display()
            )));
        }
        let file = File::open(path).map_err(failed)?;
        let reader = BufReader::with_capacity(READ_BYTES, file);
        Ok(Lines {
            path: path.to_path_buf(),
            reader,
            hasher: SipHasher24::new(),
            buffer: Vec::new(),
        })
    }

    fn digest(&self) -> u128 {
        self.hasher.finish128().as_u128()
    }

    /// The next line without its line feed, or that it is too long; `None` at the end.
    fn next(&mut self) -> Result<Option<Result<&[u8], String>>, Failure> {
        self.buffer.clear();
        let mut bytes: u64 = 0;
        loop {
            let failed = |e: io::Error| Failure::io(self.path.display(), &e);
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed(e)),
            };
            if available.is_empty() {
                break;
            }
            let end = available.iter().position(|&b| b == b'\n');
            let taken = &available[..end.map_or(available.len(), |end| end + 1)];
            self.hasher.write(taken);
            bytes += taken.len() as u64;
            // A line that is too long is passed over, not gathered.
            if self.buffer.len() <= LINE_BYTES_MAX {
                self.buffer.extend_from_slice(taken);
            }
            let taken = taken.len();
            self.reader.consume(taken);
            if end.is_some() {
                break;
            }
        }
        if bytes == 0 {
            return Ok(None);
        }
        if bytes > LINE_BYTES_MAX as u64 {
            return Ok(Some(Err(format!(
                "the line has {bytes} bytes, at most {LINE_BYTES_MAX} are read"
            ))));
        }
        Ok(Some(Ok(self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line as its author, or what is wrong with it.
    fn read(name: &str, text: &[u8]) -> Vec<(u64, Result<String, String>)> {
        let path = std::env::temp_dir().join(format!("anabranch-history-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let mut history = History::open(&path).unwrap();
        let mut lines = Vec::new();
        while let Some(Line { number, event }) = history.next().unwrap() {
            lines.push((
                number,
                event
                    .map(|event| event.author)
                    .map_err(|bad| format!("{}: {}", bad.line, bad.why)),
            ));
        }
        let contents = survey(&path).unwrap();
        assert_eq!(
            (contents.digest, contents.lines),
            (history.digest(), lines.len() as u64)
        );
        std::fs::remove_file(&path).unwrap();
        lines
    }

    fn event(author: &str) -> String {
        format!(r#"{{"commit":"c","at":5,"author":"{author}","changes":[["A","x",1,0],["R100","é y",0,3]]}}"#)
    }

    #[test]
    fn good_lines_are_events() {
        let text = format!(
            "{}\r\n{}\n{}",
            event("a"),
            event("b").replace("\"at\"", "\"more\":[1],\"at\""),
            event("c")
        );
        let authors = read("good", text.as_bytes());
        assert_eq!(
            authors,
            [(1, Ok("a".into())), (2, Ok("b".into())), (3, Ok("c".into()))]
        );
        assert!(read("empty", b"").is_empty());
    }

    #[test]
    fn bad_lines_are_named_and_the_next_one_is_read() {
        let long = event(&"x".repeat(KEY_BYTES_MAX + 1));
        for (bad, complaint) in [
            ("", "the line is empty"),
            ("{", "EOF while parsing"),
            ("[]", "invalid type: array, expected an object"),
            (r#"["c",5,"a",[]]"#, "invalid type: array, expected an object"),
            (
                r#"{"commit":"c","at":5,"author":"a"}"#,
                "missing member `changes`",
            ),
            (
                &event("a").replace(":5", ":-5"),
                "invalid value: integer `-5`, expected a whole number that is not negative",
            ),
            (&event("a").replace(":5", ":5.5"), "invalid type: floating point"),
            (
                &event("a").replace(",1,0]", ",1]"),
                "invalid length 3, expected a change: an array of its status, path",
            ),
            (&event("a").replace(",1,0]", ",1,0,0]"), "trailing characters"),
            (&event("a").replace(",1,0]", ",\"-\",0]"), "invalid type: string"),
            (
                &event("a").replace("\"x\"", "\"\""),
                "change 1: the path is empty",
            ),
            (
                &event("a").replace(",0,3]", ",-9223372036854775808,3]"),
                "change 2: the numbers of lines are too large",
            ),
            (&event("").clone(), "the author is empty"),
            (&long, "the author has 1025 bytes"),
            (&(event("a") + " x"), "trailing characters"),
        ] {
            let text = format!("{}\n{bad}\n{}\n", event("a"), event("z"));
            let lines = read("bad", text.as_bytes());
            assert_eq!(lines.len(), 3, "{bad}");
            assert_eq!(lines[2], (3, Ok("z".into())), "{bad}");
            let why = lines[1].1.as_ref().unwrap_err();
            assert!(why.starts_with("2: ") && why.contains(complaint), "{bad}: {why}");
            assert!(!why.contains("at line"), "{why}");
        }
        let lines = read("utf8", b"{\"commit\":\"\xff\"}\n");
        assert_eq!(lines, [(1, Err("1: not UTF-8 from byte 12".into()))]);
    }

    #[test]
    fn a_line_beyond_the_limit_is_passed_over() {
        let mut text = vec![b'x'; LINE_BYTES_MAX + 3];
        text.push(b'\n');
        text.extend(event("a").bytes());
        let lines = read("long", &text);
        assert!(
            lines[0]
                .1
                .as_ref()
                .unwrap_err()
                .contains("at most 16777216 are read")
        );
        assert_eq!(lines[1], (2, Ok("a".into())));
    }
}

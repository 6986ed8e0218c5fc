//! What commands print: lines on stdout for whoever asked, everything else on stderr.
//!
//! Contract: a reader that went away (`anabranch dump | head`) ends the command quietly, it is not a failure.

use std::io::{self, Write};
use std::path::Path;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::exit::Failure;
use crate::json;

/// Prints one line on stdout.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    written.map_err(|e| match e.kind() {
        io::ErrorKind::BrokenPipe => Failure::new("done", ""),
        _ => Failure::io("cannot write to stdout", &e),
    })
}

/// Does something that may take long while somebody reads what is printed: it ends, as `tail -f` does, when nobody does any more.
pub async fn while_read<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let (tell, gone) = oneshot::channel();
    // It goes with the process. Where there is no thread for it, the next line that is printed finds out.
    let _ = thread::Builder::new().spawn(move || {
        if wait_for_hangup() {
            let _ = tell.send(());
        }
    });
    tokio::select! {
        done = work => done,
        Ok(()) = gone => Err(Failure::new("done", "")),
    }
}

/// Until stdout is a pipe or a terminal whose other end is closed: of a file, for ever.
fn wait_for_hangup() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    loop {
        match poll(&mut polled, None) {
            Ok(_) if polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => return true,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Prints a value's JSON form on stdout, as one line.
pub fn object<T: serde::Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|e| Failure::new("internal", e.to_string()))?;
    line(&text)
}

/// Says something to people beside the result. Nobody may be there to read it: that is no failure.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", tame(text));
}

/// Says something to programs beside the result, as one line of JSON. Somebody may look at it all the same.
pub fn note_json(json: &str) {
    let escape = |c: char| match c.is_control() {
        // Within a string: JSON has none elsewhere.
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.to_string(),
    };
    let tame: String = json.chars().map(escape).collect();
    let _ = writeln!(io::stderr().lock(), "{tame}");
}

/// Says a line of somebody else's, with a name in front. Its tabs stay: they are how it is laid out.
pub fn note_as(name: &str, line: &str) {
    let tamed: Vec<String> = line.split('\t').map(printable).collect();
    let line = format!("{} | {}\n", printable(name), tamed.join("\t"));
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// The value's part of an entity's canonical line.
pub fn value_of<'a>(line: &'a str, kind: &str, key: &str) -> Option<&'a str> {
    let mut start = String::from("{\"kind\":");
    json::write_string(&mut start, kind);
    start.push_str(",\"key\":");
    json::write_string(&mut start, key);
    start.push_str(",\"value\":");
    line.strip_prefix(&start)?.strip_suffix('}')
}

/// A value for people: a counter's number, a register's text, a set's elements one a line.
pub fn for_people(value: &str) -> String {
    match serde_json::from_str(value) {
        Ok(serde_json::Value::String(text)) => printable(&text),
        Ok(serde_json::Value::Array(elements)) if elements.is_empty() => "(empty)".to_string(),
        Ok(serde_json::Value::Array(elements)) => {
            let text = |element: serde_json::Value| match element {
                serde_json::Value::String(text) => printable(&text),
                other => other.to_string(),
            };
            elements.into_iter().map(text).collect::<Vec<_>>().join("\n")
        }
        Ok(serde_json::Value::Null) => "(never set)".to_string(),
        // Counters: as they stand, since they may exceed what the parser holds exactly.
        _ => value.to_string(),
    }
}

/// Lines with control characters escaped: names that others chose stand in them.
pub fn tame(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// The text with control characters escaped, so that what is stored cannot drive the terminal.
pub fn printable(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().collect()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}

/// The text, cut where it is longer than a message should be: parsers repeat what they were given.
pub fn shortened(mut text: String) -> String {
    const BYTES_MAX: usize = 400;
    if text.len() > BYTES_MAX {
        text.truncate(text.floor_char_boundary(BYTES_MAX));
        text.push_str("...");
    }
    text
}

/// A path as a shell takes it for one word, so that what is printed can be typed.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%:,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A number of things, for people.
pub fn plural(count: u64, thing: &str) -> String {
    match (count, thing.strip_suffix('y')) {
        (1, _) => format!("1 {thing}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {thing}s"),
    }
}

/// Columns aligned for people; the last one is not padded.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < row.len() {
                out.extend(std::iter::repeat_n(
                    ' ',
                    widths[column] - cell.chars().count() + 2,
                ));
            }
        }
        out.push('\n');
    }
    out.pop();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_found_behind_any_name() {
        let line = r#"{"kind":"a\"b","key":"c,\"value\":","value":[1]}"#;
        assert_eq!(value_of(line, "a\"b", "c,\"value\":"), Some("[1]"));
        assert_eq!(value_of(line, "a", "c"), None);
    }

    #[test]
    fn people_see_values_plainly() {
        assert_eq!(
            for_people("-170141183460469231731687303715884105728"),
            i128::MIN.to_string()
        );
        assert_eq!(
            for_people(r#"["a","b c",{"base64":"/w=="}]"#),
            "a\nb c\n{\"base64\":\"/w==\"}"
        );
        assert_eq!(for_people("[]"), "(empty)");
        assert_eq!(for_people("null"), "(never set)");
        assert_eq!(for_people(r#""a\u001b[2J\n""#), "a\\u{1b}[2J\\n");
    }

    #[test]
    fn numbers_have_their_forms() {
        assert_eq!(
            [plural(0, "node"), plural(1, "entity"), plural(2, "entity")],
            ["0 nodes", "1 entity", "2 entities"]
        );
    }

    #[test]
    fn paths_can_be_typed() {
        let quoted = |text: &str| quoted(Path::new(text));
        assert_eq!(quoted("/srv/é/n1.toml"), "/srv/é/n1.toml");
        assert_eq!(quoted("/my data/n$1"), "'/my data/n$1'");
        assert_eq!(quoted("/it's"), "'/it'\\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn messages_are_not_longer_than_people_read() {
        assert_eq!(shortened("short".to_string()), "short");
        let long = shortened("é".repeat(10_000));
        assert!(long.len() < 410 && long.ends_with("é..."), "{long}");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [
            vec!["a".into(), "bb".into(), "c".into()],
            vec!["dddd".into(), "e".into(), "f".into()],
        ];
        assert_eq!(table(&rows), "a     bb  c\ndddd  e   f");
    }
}

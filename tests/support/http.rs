//! A client of HTTP/1.1 that sends exactly what it is told, one request a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::PATIENCE;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

/// Asks and reads the whole answer. Without a Host among `headers` it is the address, as a browser would say.
pub fn request(
    at: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Reply> {
    let (status, headers, mut stream) = open(at, method, path, headers, body.as_bytes())?;
    let mut body = String::new();
    stream.read_to_string(&mut body)?;
    Ok(Reply {
        status,
        headers,
        body,
    })
}

/// `GET`.
pub fn get(at: &str, path: &str) -> io::Result<Reply> {
    request(at, "GET", path, &[], "")
}

/// `POST` of JSON.
pub fn post(at: &str, path: &str, body: &str) -> io::Result<Reply> {
    request(at, "POST", path, &[("Content-Type", "application/json")], body)
}

/// Asks for an answer that goes on, and returns its lines as they come.
pub fn lines(at: &str, path: &str) -> io::Result<io::Lines<BufReader<Body>>> {
    lines_with(at, path, &[])
}

/// The same with these headers.
pub fn lines_with(at: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<io::Lines<BufReader<Body>>> {
    let (status, headers, body) = open(at, "GET", path, headers, b"")?;
    assert_eq!(status, 200, "{headers}");
    let is_stream = |kind: &&str| headers.contains(&format!("content-type: {kind}"));
    let kinds = ["text/event-stream", "application/x-ndjson"];
    assert!(kinds.iter().any(is_stream), "{headers}");
    Ok(BufReader::new(body).lines())
}

/// Asks, and reads the answer's head: its status, its headers, and what follows.
pub fn open(
    at: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<(u16, String, Body)> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text += &format!("Host: {at}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    stream.write_all(text.as_bytes())?;
    stream.write_all(body)?;

    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let before = head.len();
        if stream.read_line(&mut head)? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the answer ended in its head",
            ));
        }
        if head[before..].trim_end().is_empty() {
            break;
        }
    }
    let (first, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status: {first}")))?;
    let lower = |line: &str| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}\n", name.to_ascii_lowercase()),
        None => String::new(),
    };
    let fields: String = fields.lines().map(lower).collect();
    let field = |name: &str| {
        fields
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().to_string())
    };
    let rest = if field("transfer-encoding:").is_some_and(|coding| coding == "chunked") {
        Rest::Chunk(0)
    } else {
        Rest::Bytes(
            field("content-length:")
                .and_then(|length| length.parse().ok())
                .unwrap_or(0),
        )
    };
    Ok((
        status,
        fields,
        Body {
            stream,
            rest,
            begun: false,
        },
    ))
}

/// The body of an answer. One that breaks off is an error, not an end.
pub struct Body {
    stream: BufReader<TcpStream>,
    rest: Rest,
    begun: bool,
}

enum Rest {
    /// So many bytes of the body.
    Bytes(u64),
    /// So many bytes of the chunk.
    Chunk(u64),
    End,
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Rest::Chunk(0) = self.rest {
            self.next_chunk()?;
        }
        let left = match self.rest {
            Rest::Bytes(0) | Rest::End => return Ok(0),
            Rest::Bytes(left) | Rest::Chunk(left) => left,
        };
        let wanted = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.stream.read(&mut out[..wanted])?;
        if read == 0 && wanted > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body broke off"));
        }
        let left = left - read as u64;
        self.rest = if let Rest::Bytes(_) = self.rest {
            Rest::Bytes(left)
        } else {
            Rest::Chunk(left)
        };
        Ok(read)
    }
}

impl Body {
    fn next_chunk(&mut self) -> io::Result<()> {
        let mut line = String::new();
        // The line feed behind the chunk before.
        if self.begun {
            self.stream.read_line(&mut line)?;
            line.clear();
        }
        self.begun = true;
        self.stream.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim_end(), 16)
            .map_err(|_| io::Error::new(io::ErrorKind::UnexpectedEof, format!("no chunk size: {line:?}")))?;
        self.rest = if size == 0 { Rest::End } else { Rest::Chunk(size) };
        Ok(())
    }
}

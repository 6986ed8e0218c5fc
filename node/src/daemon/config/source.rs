//! A configuration file's text, and how its values are checked: every complaint carries the file and the line.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::DeserializeOwned;
use toml::Spanned;

use super::super::exit::Failure;
use super::super::strict;
use super::ADDRESSES_MAX;

/// The text of one file and where it is.
pub(super) struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Source<'a> {
        Source { file, text }
    }

    /// Reads all of it.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        toml::from_str(self.text).map_err(|e| {
            let span = e.span().unwrap_or(0..0);
            if let Some((at, message)) = self.repeated(&span, e.message()) {
                return self.at(at..at, message);
            }
            self.at(span, strict::in_words(e.message()))
        })
    }

    /// Where a section begins that is written as one of several, or a second time, if that is what is wrong; and what to do.
    fn repeated(&self, span: &Range<usize>, message: &str) -> Option<(usize, String)> {
        let line_of = |at: usize| {
            let begins = self.text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
            Some((begins, self.text.get(begins..)?.lines().next()?.trim()))
        };
        let is_second = message.starts_with("duplicate key");
        let (at, header) = match is_second {
            true => line_of(span.start)?,
            // There is no such section at all, which is said by its name.
            false if message.starts_with("unknown field") => return None,
            false => {
                let mut lists = self.text.match_indices("[[").filter_map(|(at, _)| line_of(at));
                lists.find(|(_, line)| line.starts_with("[["))?
            }
        };
        // A key that is repeated within a section is no section.
        let name = header.strip_prefix('[')?.trim_start_matches('[');
        let name = name.split(']').next()?.trim();
        let written = match is_second {
            true => "stands here a second time",
            false => "is written as one of several",
        };
        let why = match name {
            "function" => "a node has one function's process, which may have any number of services",
            _ => "there is one of it",
        };
        Some((at, format!("[{name}] {written}: {why}")))
    }

    /// A failure at these bytes of the file.
    pub(super) fn at(&self, span: Range<usize>, message: impl fmt::Display) -> Failure {
        Failure::new("config", format!("{}: {message}", self.place(Some(span))))
    }

    /// A failure at a value, or at the whole file where its default is what is wrong.
    pub(super) fn at_value<T>(&self, value: Option<&Spanned<T>>, message: impl fmt::Display) -> Failure {
        Failure::new(
            "config",
            format!("{}: {message}", self.place(value.map(Spanned::span))),
        )
    }

    /// `FILE:LINE` of a value, or `FILE` where its default is meant.
    pub(super) fn place(&self, span: Option<Range<usize>>) -> String {
        let file = self.file.display();
        span.map_or_else(
            || file.to_string(),
            |span| format!("{file}:{}", self.line(span.start)),
        )
    }

    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        1 + before.iter().filter(|&&b| b == b'\n').count()
    }

    /// A value that is written as a string and parsed.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(
        &self,
        key: &str,
        value: Option<&Spanned<String>>,
        default: T,
    ) -> Result<T, Failure> {
        let Some(value) = value else { return Ok(default) };
        let text = value.get_ref();
        text.parse()
            .map_err(|e| self.at(value.span(), format_args!("{key} = {text:?}: {e}")))
    }

    /// A text; empty is the same as not written.
    pub(super) fn text(
        &self,
        key: &str,
        value: Option<Spanned<String>>,
        bytes_max: usize,
    ) -> Result<Option<String>, Failure> {
        let Some(value) = value else { return Ok(None) };
        if value.get_ref().len() > bytes_max || value.get_ref().chars().any(char::is_control) {
            return Err(self.at(
                value.span(),
                format_args!("{key} must have at most {bytes_max} bytes, none a control character"),
            ));
        }
        Ok(Some(value.into_inner()).filter(|text| !text.is_empty()))
    }

    /// A path, relative to the file.
    pub(super) fn path(
        &self,
        key: &str,
        value: Option<&Spanned<String>>,
        default: &str,
    ) -> Result<PathBuf, Failure> {
        let base = self.file.parent().unwrap_or(Path::new("/"));
        match value {
            Some(value) if value.get_ref().is_empty() => {
                Err(self.at(value.span(), format_args!("{key} must not be empty")))
            }
            Some(value) => Ok(base.join(value.get_ref())),
            None => Ok(base.join(default)),
        }
    }

    /// A log filter.
    pub(super) fn filter(&self, value: Option<&Spanned<String>>) -> Result<String, Failure> {
        let Some(value) = value else {
            return Ok("info".to_string());
        };
        let text = value.get_ref();
        let refused = |why: &dyn fmt::Display| self.at(value.span(), format_args!("log = {text:?}: {why}"));
        if text.trim().is_empty() {
            return Ok("info".to_string());
        }
        tracing_subscriber::EnvFilter::try_new(text).map_err(|e| refused(&e))?;
        // What a filter of spans looks like is left to the parser.
        if text.contains(['[', ']', '{', '}']) {
            return Ok(text.clone());
        }
        let is_level = |word: &str| word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            if word.contains(char::is_whitespace) {
                return Err(refused(&"what is logged is separated by commas, without spaces"));
            }
            // A word alone is taken for a module's name, which silences all others: a mistyped level more often than not.
            if !word.contains('=') && !is_level(word) {
                return Err(refused(&format_args!(
                    "{word:?} is no level (off, error, warn, info, debug, trace); for a module's say {word}=LEVEL"
                )));
            }
        }
        Ok(text.clone())
    }

    /// A number in a range.
    pub(super) fn number(
        &self,
        key: &str,
        value: &Spanned<u64>,
        range: RangeInclusive<u64>,
    ) -> Result<u64, Failure> {
        let number = *value.get_ref();
        if range.contains(&number) {
            return Ok(number);
        }
        let bound = if *range.end() == u64::MAX {
            String::new()
        } else {
            format!(" and at most {}", range.end())
        };
        Err(self.at(
            value.span(),
            format_args!("{key} is {number}, it must be at least {}{bound}", range.start()),
        ))
    }

    /// A number in a range, or its default.
    pub(super) fn number_or<T: TryFrom<u64>>(
        &self,
        key: &str,
        value: Option<Spanned<u64>>,
        default: T,
        range: RangeInclusive<u64>,
    ) -> Result<T, Failure> {
        let Some(value) = value else { return Ok(default) };
        let number = self.number(key, &value, range)?;
        T::try_from(number)
            .map_err(|_| self.at(value.span(), format_args!("{key} is {number}: too large here")))
    }

    /// A list of at most so many, checked one by one.
    pub(super) fn each<T>(
        &self,
        key: &str,
        values: Option<Vec<Spanned<String>>>,
        count_max: usize,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Failure> {
        let values = values.unwrap_or_default();
        if let Some(beyond) = values.get(count_max) {
            let count = values.len();
            let message = format_args!("{key} names {count}, at most {count_max} are possible");
            return Err(self.at(beyond.span(), message));
        }
        let checked = |value: Spanned<String>| {
            check(value.get_ref()).map_err(|e| self.at(value.span(), format_args!("{key}: {e}")))
        };
        values.into_iter().map(checked).collect()
    }

    /// A list of `HOST:PORT`.
    pub(super) fn addresses(
        &self,
        key: &str,
        values: Option<Vec<Spanned<String>>>,
    ) -> Result<Vec<String>, Failure> {
        self.each(key, values, ADDRESSES_MAX, |text| match host_port(text) {
            Some(_) => Ok(text.to_string()),
            None => Err(format!("{text:?} is not HOST:PORT")),
        })
    }
}

/// Splits `HOST:PORT`; an IPv6 address stands in brackets.
pub fn host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| port.parse().ok())??;
    let bare = match host.strip_prefix('[') {
        Some(v6) => {
            let v6 = v6.strip_suffix(']')?;
            v6.parse::<std::net::Ipv6Addr>().ok()?;
            v6
        }
        None if host.contains([':', '/', '@', ' ', '[', ']']) || host.is_empty() => return None,
        None => host,
    };
    (port != 0).then_some((bare, port))
}

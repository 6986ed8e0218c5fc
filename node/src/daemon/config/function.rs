//! `[function]` and `[ingress]`: a function in another process, and where its callers come. They stand in the configuration
//! itself or in one file that it includes, never in both.
//!
//! Not here: whether the function answers, which is found out by asking it (`sidecar`).

use std::fmt;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::super::exit::Failure;
use super::super::process;
use super::source::{Source, host_port};
use super::{ADDRESSES_MAX, origin};
use crate::payload::PAYLOAD_BYTES_MAX;
use crate::sidecar::Tls;

/// Bytes of a message at the ingress when nothing else is configured, and at most: what an argument or a reply may have.
pub const MESSAGE_BYTES_MAX_DEFAULT: usize = PAYLOAD_BYTES_MAX;
/// Fewer than this no call is made of.
const MESSAGE_BYTES_MIN: u64 = 1024;
/// Connections at the ingress when nothing else is configured.
pub const INGRESS_CONNECTIONS_DEFAULT: usize = 1024;
const INGRESS_CONNECTIONS: RangeInclusive<u64> = 1..=65_536;
/// A command and its arguments, at most.
const COMMAND_WORDS_MAX: usize = 256;
/// How long a function may be idle before it is stopped, at most: a day.
const IDLE_STOP_MS: RangeInclusive<u64> = 0..=86_400_000;

/// `FILE:LINE` of a value, for complaints about what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(String);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A function in another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionConfig {
    /// Where it is, or how it is started.
    pub at: FunctionAt,
    /// Where that is said.
    pub place: Place,
    /// What becomes of its entities.
    pub terms: Terms,
    /// Where its callers come.
    pub ingress: IngressConfig,
}

/// What becomes of a function's entities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What its deletions mean.
    pub deletion: Deletion,
    /// Whether what it believes of an entity is taken to be right after it has failed a command.
    pub trust_failures: bool,
}

/// What becomes of an entity that a function deletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletion {
    /// What the function had seen of it is removed; the next command makes it anew.
    #[default]
    Observed,
    /// And it is never made again, which every node has to remember for each.
    Permanent,
}

impl FromStr for Deletion {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Deletion, &'static str> {
        match text {
            "observed" => Ok(Deletion::Observed),
            "permanent" => Ok(Deletion::Permanent),
            _ => Err("it is \"observed\" or \"permanent\""),
        }
    }
}

/// Where a function is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionAt {
    /// It runs already, at HOST:PORT.
    Address(String),
    /// The node runs it.
    Command(CommandConfig),
}

/// How a function is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandConfig {
    /// The command and its arguments, never empty.
    pub command: Vec<String>,
    /// Where it runs.
    pub directory: PathBuf,
    /// Where it listens; none: at any port that is free.
    pub port: Option<u16>,
    /// After this long without a call it is stopped; none: never.
    pub idle_stop: Option<Duration>,
}

/// What the ingress listens at and how much it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressConfig {
    /// Where it listens (TCP).
    pub listen: SocketAddr,
    /// Where that is said.
    pub place: Place,
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// Connections at a time.
    pub connections_max: usize,
    /// Origins whose pages may call; `*`: all.
    pub origins: Vec<String>,
    /// What connections are encrypted with, if they are.
    pub tls: Option<TlsFiles>,
}

/// Two PEM files, and where they are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, with those that it is issued by behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Where the certificate is named.
    pub place: Place,
}

impl IngressConfig {
    /// What connections are encrypted with, read.
    pub fn tls(&self) -> Result<Option<Tls>, Failure> {
        let Some(files) = &self.tls else { return Ok(None) };
        let failed = |error| {
            let message = format!("ingress.certificate and ingress.key: {error}");
            Failure::new("config", message).at(&files.place)
        };
        Tls::load(&files.certificate, &files.key)
            .map(Some)
            .map_err(failed)
    }
}

impl FunctionConfig {
    /// Fails when there is nothing to run, or nothing to encrypt with: before anything is started.
    pub fn check(&self) -> Result<(), Failure> {
        self.ingress.tls()?;
        let FunctionAt::Command(CommandConfig {
            command, directory, ..
        }) = &self.at
        else {
            return Ok(());
        };
        let failed = |message: String| Failure::new("config", message).at(&self.place);
        if !directory.is_dir() {
            return Err(failed(format!(
                "function.directory: there is no directory {}",
                directory.display()
            )));
        }
        let program = command.first().map(String::as_str).unwrap_or_default();
        process::find(program, directory).map_err(|why| failed(format!("function.command: {why}")))
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FunctionSection {
    address: Option<Spanned<String>>,
    command: Option<Spanned<Vec<Spanned<String>>>>,
    directory: Option<Spanned<String>>,
    port: Option<Spanned<u64>>,
    idle_stop_ms: Option<Spanned<u64>>,
    deletion: Option<Spanned<String>>,
    trust_failures: Option<Spanned<bool>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IngressSection {
    listen: Option<Spanned<String>>,
    message_bytes_max: Option<Spanned<u64>>,
    connections_max: Option<Spanned<u64>>,
    origins: Option<Spanned<Vec<Spanned<String>>>>,
    certificate: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
}

impl FunctionSection {
    /// Where any of it stands.
    fn span(&self) -> Option<Range<usize>> {
        let lists = [self.command.as_ref().map(Spanned::span)];
        let texts =
            [&self.address, &self.directory, &self.deletion].map(|text| text.as_ref().map(Spanned::span));
        let numbers = [&self.port, &self.idle_stop_ms].map(|number| number.as_ref().map(Spanned::span));
        let flags = [self.trust_failures.as_ref().map(Spanned::span)];
        let rest = numbers.into_iter().chain(flags);
        lists.into_iter().chain(texts).chain(rest).flatten().next()
    }

    fn checked(self, source: &Source<'_>) -> Result<Option<(FunctionAt, Place, Terms)>, Failure> {
        let terms = Terms {
            deletion: source.parsed("function.deletion", self.deletion.as_ref(), Deletion::default())?,
            trust_failures: self.trust_failures.is_some_and(Spanned::into_inner),
        };
        let address = self.address.filter(|address| !address.get_ref().is_empty());
        let command = self.command.filter(|command| !command.get_ref().is_empty());
        let directory = source.path("function.directory", self.directory.as_ref(), ".")?;
        let port: u16 = source.number_or("function.port", self.port.clone(), 0, 0..=u64::from(u16::MAX))?;
        let idle_stop_ms: u64 = source.number_or(
            "function.idle_stop_ms",
            self.idle_stop_ms.clone(),
            0,
            IDLE_STOP_MS,
        )?;
        let Some(command) = command else {
            let of_commands = [("port", self.port), ("idle_stop_ms", self.idle_stop_ms)];
            let set = |(_, value): &(_, Option<Spanned<u64>>)| {
                value.as_ref().is_some_and(|value| *value.get_ref() != 0)
            };
            if let Some((key, value)) = of_commands.iter().find(|entry| set(entry)) {
                let message =
                    format_args!("function.{key} is for a function that the node starts: function.command");
                return Err(source.at_value(value.as_ref(), message));
            }
            let Some(address) = address else { return Ok(None) };
            let text = address.get_ref();
            if host_port(text).is_none() {
                return Err(source.at(
                    address.span(),
                    format_args!("function.address = {text:?} is not HOST:PORT"),
                ));
            }
            let place = Place(source.place(Some(address.span())));
            return Ok(Some((FunctionAt::Address(address.into_inner()), place, terms)));
        };
        if let Some(address) = address {
            let message = "function.address is for a function that runs already, function.command for one that the node \
                           starts: one of them";
            return Err(source.at(address.span(), message));
        }
        let place = Place(source.place(Some(command.span())));
        let command = source.each(
            "function.command",
            Some(command.into_inner()),
            COMMAND_WORDS_MAX,
            word,
        )?;
        let command = CommandConfig {
            command,
            directory,
            port: Some(port).filter(|port| *port != 0),
            idle_stop: Some(Duration::from_millis(idle_stop_ms)).filter(|idle| !idle.is_zero()),
        };
        Ok(Some((FunctionAt::Command(command), place, terms)))
    }
}

/// What the operating system can be given as a word of a command.
fn word(text: &str) -> Result<String, String> {
    if text.contains('\0') {
        return Err(format!("{text:?} has a zero byte"));
    }
    Ok(text.to_string())
}

/// An origin, or what stands for all.
pub fn any_origin(text: &str) -> Result<String, String> {
    match text {
        "*" => Ok(text.to_string()),
        text => origin(text),
    }
}

impl IngressSection {
    fn span(&self) -> Option<Range<usize>> {
        let numbers = [&self.message_bytes_max, &self.connections_max];
        let numbers = numbers.map(|number| number.as_ref().map(Spanned::span));
        let texts = [&self.listen, &self.certificate, &self.key];
        let texts = texts.map(|text| text.as_ref().map(Spanned::span));
        let origins = self.origins.as_ref().map(Spanned::span);
        texts.into_iter().chain([origins]).chain(numbers).flatten().next()
    }

    fn checked(self, source: &Source<'_>) -> Result<Option<IngressConfig>, Failure> {
        let message_bytes_max = source.number_or(
            "ingress.message_bytes_max",
            self.message_bytes_max,
            MESSAGE_BYTES_MAX_DEFAULT,
            MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX_DEFAULT as u64,
        )?;
        let connections_max = source.number_or(
            "ingress.connections_max",
            self.connections_max,
            INGRESS_CONNECTIONS_DEFAULT,
            INGRESS_CONNECTIONS,
        )?;
        let origins = self.origins.map(Spanned::into_inner);
        let origins = source.each("ingress.origins", origins, ADDRESSES_MAX, any_origin)?;
        let tls = tls_files(source, self.certificate, self.key)?;
        let Some(listen) = self.listen.filter(|listen| !listen.get_ref().is_empty()) else {
            return Ok(None);
        };
        let text = listen.get_ref();
        // Beyond loopback, too: it is there for clients, and only where it is asked for.
        let address = text
            .parse()
            .map_err(|e| source.at(listen.span(), format_args!("ingress.listen = {text:?}: {e}")))?;
        Ok(Some(IngressConfig {
            listen: address,
            place: Place(source.place(Some(listen.span()))),
            message_bytes_max,
            connections_max,
            origins,
            tls,
        }))
    }
}

/// Both files, or neither.
fn tls_files(
    source: &Source<'_>,
    certificate: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
) -> Result<Option<TlsFiles>, Failure> {
    let named = |file: &Spanned<String>| !file.get_ref().is_empty();
    let (certificate, key) = (certificate.filter(named), key.filter(named));
    match (&certificate, &key) {
        (Some(at), Some(_)) => Ok(Some(TlsFiles {
            certificate: source.path("ingress.certificate", certificate.as_ref(), "")?,
            key: source.path("ingress.key", key.as_ref(), "")?,
            place: Place(source.place(Some(at.span()))),
        })),
        (Some(alone), None) => Err(source.at(
            alone.span(),
            "ingress.certificate needs ingress.key, its private key in PEM",
        )),
        (None, Some(alone)) => Err(source.at(
            alone.span(),
            "ingress.key needs ingress.certificate, its certificate in PEM",
        )),
        (None, None) => Ok(None),
    }
}

/// Another file's sections.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct IncludedFile {
    #[serde(default)]
    function: FunctionSection,
    #[serde(default)]
    ingress: IngressSection,
}

/// The file that a configuration includes, if it does.
#[derive(Default)]
pub(super) struct Included {
    path: PathBuf,
    text: String,
    raw: IncludedFile,
}

impl Included {
    pub(super) fn load(source: &Source<'_>, include: Option<Spanned<String>>) -> Result<Included, Failure> {
        let Some(include) = include.filter(|include| !include.get_ref().is_empty()) else {
            return Ok(Included::default());
        };
        let path = source.path("include", Some(&include), "")?;
        let text = super::read(&path)
            .map_err(|failure| source.at(include.span(), format_args!("include: {failure}")))?;
        let inner = Source::new(&path, &text);
        let raw = inner.read()?;
        Ok(Included { path, text, raw })
    }

    /// The function by both sections, each in the file it stands in.
    pub(super) fn checked(
        self,
        outer: &Source<'_>,
        function: FunctionSection,
        ingress: IngressSection,
    ) -> Result<Option<FunctionConfig>, Failure> {
        let inner = Source::new(&self.path, &self.text);
        let included = self.raw;
        let spans = [
            ("function", function.span(), included.function.span()),
            ("ingress", ingress.span(), included.ingress.span()),
        ];
        for (name, here, there) in &spans {
            if let (Some(_), Some(there)) = (here, there) {
                let place = inner.place(Some(there.clone()));
                let message = format_args!("[{name}] stands here and at {place}: one of them");
                return Err(outer.at(here.clone().unwrap_or(0..0), message));
            }
        }
        let function = match spans[0].2 {
            Some(_) => included.function.checked(&inner)?,
            None => function.checked(outer)?,
        };
        let ingress = match spans[1].2 {
            Some(_) => included.ingress.checked(&inner)?,
            None => ingress.checked(outer)?,
        };
        let failed = |place: Place, message: &str| Err(Failure::new("config", message).at(place));
        match (function, ingress) {
            (Some((at, place, terms)), Some(ingress)) => Ok(Some(FunctionConfig {
                at,
                place,
                terms,
                ingress,
            })),
            (Some((_, place, _)), None) => failed(
                place,
                "a function needs ingress.listen, where its callers come: HOST:PORT",
            ),
            (None, Some(ingress)) => failed(
                ingress.place,
                "ingress.listen needs a function to serve: function.address or function.command",
            ),
            (None, None) => Ok(None),
        }
    }
}

//! `[trace]`: where parts of traces go, and which.
//!
//! Not here: how they get there (`traces`).

use http::Uri;
use serde::Deserialize;
use toml::Spanned;

use super::super::exit::Failure;
use super::super::traces::TRACES_PATH;
use super::source::Source;

/// Where parts of traces go, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceConfig {
    /// A collector that speaks OTLP over HTTP, `http://HOST:PORT` without the path of traces; none where nothing is sent.
    pub collector: Option<String>,
    /// Of traces that begin at this node, how many are recorded: 0 to 1.
    pub sample: f64,
}

impl TraceConfig {
    /// Of traces that begin at this node, how many are recorded: none where nobody would take them.
    pub fn sample(&self) -> f64 {
        if self.collector.is_some() {
            self.sample
        } else {
            0.0
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceSection {
    collector: Option<Spanned<String>>,
    sample: Option<Spanned<f64>>,
}

impl TraceSection {
    pub(super) fn checked(self, source: &Source<'_>) -> Result<TraceConfig, Failure> {
        let collector = match self.collector {
            Some(text) if !text.get_ref().is_empty() => {
                let (span, text) = (text.span(), text.into_inner());
                let collector = collector(&text)
                    .map_err(|why| source.at(span, format_args!("trace.collector = {text:?} {why}")))?;
                Some(collector)
            }
            _ => None,
        };
        let sample = match self.sample {
            Some(sample) if !(0.0..=1.0).contains(sample.get_ref()) => {
                let message = format_args!("trace.sample is {}, it must be from 0 to 1", sample.get_ref());
                return Err(source.at(sample.span(), message));
            }
            sample => sample.map_or(1.0, Spanned::into_inner),
        };
        Ok(TraceConfig { collector, sample })
    }
}

/// Where a collector is, as it is asked: the path of traces comes behind that, and whoever has written it down already means the same.
/// A path before it is one that the collector itself is behind.
fn collector(text: &str) -> Result<String, &'static str> {
    const NONE: &str = "is not http://HOST:PORT of a collector";
    if !text.starts_with("http://") {
        return Err(NONE);
    }
    if text.contains(['?', '#', '@']) {
        return Err("has more than http://HOST:PORT of a collector, which is all that is wanted");
    }
    let uri: Uri = text.parse().map_err(|_| NONE)?;
    let authority = uri.authority().ok_or(NONE)?;
    let has_port = authority.as_str().len() > authority.host().len();
    if authority.host().is_empty() || has_port != authority.port_u16().is_some() {
        return Err(NONE);
    }
    let base = text.trim_end_matches('/');
    let base = base.strip_suffix(TRACES_PATH).unwrap_or(base);
    Ok(base.trim_end_matches('/').to_owned())
}

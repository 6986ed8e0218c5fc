//! `[trace]`: where parts of traces go, and which.
//!
//! Not here: how they get there (`traces`).

use serde::Deserialize;
use toml::Spanned;

use super::super::exit::Failure;
use super::source::Source;

/// Where parts of traces go, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceConfig {
    /// A collector that speaks OTLP over HTTP; none where nothing is sent.
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
                let is_address = text.get_ref().strip_prefix("http://").is_some_and(|rest| {
                    let host = rest.split('/').next().unwrap_or_default();
                    !host.is_empty() && !rest.contains(char::is_whitespace)
                });
                if !is_address {
                    let message = format_args!(
                        "trace.collector = {:?} is not http://HOST:PORT of a collector",
                        text.get_ref()
                    );
                    return Err(source.at(text.span(), message));
                }
                Some(text.into_inner())
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

//! What a replay has measured.

use std::time::Duration;

use serde::Serialize;

use super::super::api::StatusBody;
use super::super::output::plural;
use super::histogram::Histogram;

/// The report, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Events acknowledged.
    pub events: u64,
    /// Operations in them.
    pub updates: u64,
    /// Events that a node had already, from an earlier attempt or run.
    pub repeated: u64,
    /// Lines that were skipped.
    pub bad_lines: u64,
    /// From the first event to the last acknowledgement.
    pub seconds: f64,
    /// Events a second.
    pub events_per_s: f64,
    /// Operations a second.
    pub updates_per_s: f64,
    /// From sending an event to its acknowledgement, waits for a node included.
    pub latency_ms: Latency,
    /// From the last acknowledgement until all nodes held the same; `null` if they did not in time, or could not be
    /// asked.
    pub agreed_after_ms: Option<f64>,
    /// Whether they could be asked.
    #[serde(skip)]
    compared: bool,
    /// Bytes of UDP payload (everything QUIC sends) that the nodes sent each other, from the first event to their
    /// agreement.
    pub wire_bytes: u64,
    /// The same per operation.
    pub wire_bytes_per_update: f64,
    /// The part of it that is our own frames, before QUIC packs and encrypts them.
    pub frame_bytes: u64,
    /// Whether a node was restarted meanwhile: what it had sent before is then not counted.
    pub wire_bytes_incomplete: bool,
}

/// Latencies, milliseconds.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// Half of all.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// Ninety-nine of a hundred.
    pub p99: f64,
    /// All.
    pub max: f64,
}

/// What became of the nodes' agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// They held the same so long after the last acknowledgement.
    After(Duration),
    /// They did not in time.
    No,
    /// They could not all be asked.
    Unknown,
}

/// What is counted while events are sent.
pub struct Tally {
    /// Events acknowledged.
    pub events: u64,
    /// Operations in them.
    pub updates: u64,
    /// Events that were there already.
    pub repeated: u64,
    /// Lines skipped.
    pub bad_lines: u64,
    /// How long acknowledgements took.
    pub latency: Histogram,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Tally {
        Tally {
            events: 0,
            updates: 0,
            repeated: 0,
            bad_lines: 0,
            latency: Histogram::new(),
        }
    }

    /// The report on what was counted.
    pub fn report(&self, sending: Duration, agreement: Agreement, wire: Wire) -> Report {
        let seconds = sending.as_secs_f64();
        let per_s = |count: u64| {
            if seconds > 0.0 {
                rounded(count as f64 / seconds)
            } else {
                0.0
            }
        };
        let per_update = if self.updates > 0 {
            wire.bytes as f64 / self.updates as f64
        } else {
            0.0
        };
        Report {
            events: self.events,
            updates: self.updates,
            repeated: self.repeated,
            bad_lines: self.bad_lines,
            seconds: (seconds * 1_000.0).round() / 1_000.0,
            events_per_s: per_s(self.events),
            updates_per_s: per_s(self.updates),
            latency_ms: Latency {
                p50: self.latency.quantile_ms(0.5),
                p90: self.latency.quantile_ms(0.9),
                p99: self.latency.quantile_ms(0.99),
                max: self.latency.max_ms(),
            },
            agreed_after_ms: match agreement {
                Agreement::After(after) => Some(rounded(after.as_secs_f64() * 1_000.0)),
                Agreement::No | Agreement::Unknown => None,
            },
            compared: agreement != Agreement::Unknown,
            wire_bytes: wire.bytes,
            wire_bytes_per_update: rounded(per_update),
            frame_bytes: wire.frames,
            wire_bytes_incomplete: wire.incomplete,
        }
    }
}

fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// The transport's counter of what it has sent.
const UDP_BYTES_SENT: &str = "udp_bytes_sent";

/// Bytes between the nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wire {
    /// How many, as UDP payload.
    pub bytes: u64,
    /// How many of them are frames.
    pub frames: u64,
    /// Whether some are missing.
    pub incomplete: bool,
}

impl Wire {
    /// What one node has sent between two looks at it.
    pub fn between(before: &StatusBody, after: &StatusBody) -> Wire {
        let udp = |status: &StatusBody| status.counters.get(UDP_BYTES_SENT).copied().unwrap_or(0);
        let frames = |status: &StatusBody| status.members.iter().map(|member| member.bytes_sent).sum::<u64>();
        // A restarted process counts from nothing.
        let restarted = before.epoch != after.epoch || before.pid != after.pid;
        let since = |count: &dyn Fn(&StatusBody) -> u64| {
            count(after).saturating_sub(if restarted { 0 } else { count(before) })
        };
        Wire {
            bytes: since(&udp),
            frames: since(&frames),
            incomplete: restarted,
        }
    }

    /// Two nodes' together.
    pub fn and(self, other: Wire) -> Wire {
        Wire {
            bytes: self.bytes + other.bytes,
            frames: self.frames + other.frames,
            incomplete: self.incomplete || other.incomplete,
        }
    }
}

impl Report {
    /// The report for people; its last line is the summary.
    pub fn for_people(&self) -> String {
        let Latency { p50, p90, p99, max } = self.latency_ms;
        let agreed = match self.agreed_after_ms {
            Some(ms) => format!("all nodes agreed {ms} ms after the last"),
            None if self.compared => "the nodes do NOT agree".to_string(),
            None => "the nodes could not be compared".to_string(),
        };
        let at_least = if self.wire_bytes_incomplete {
            "at least "
        } else {
            ""
        };
        let mut text = format!(
            "latency of an event: p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, max {max:.1} ms\n\
             between the nodes: {at_least}{} bytes on the wire, {} of them frames\n",
            self.wire_bytes, self.frame_bytes
        );
        if self.repeated > 0 {
            let were = if self.repeated == 1 { "was" } else { "were" };
            text += &format!("{} {were} there already\n", plural(self.repeated, "event"));
        }
        if self.bad_lines > 0 {
            let were = if self.bad_lines == 1 { "was" } else { "were" };
            text += &format!("{} {were} skipped\n", plural(self.bad_lines, "bad line"));
        }
        text + &format!(
            "{} ({}) in {:.2} s: {:.0} events/s, {:.0} updates/s; {agreed}; {at_least}{} bytes on the wire \
             per update",
            plural(self.events, "event"),
            plural(self.updates, "update"),
            self.seconds,
            self.events_per_s,
            self.updates_per_s,
            self.wire_bytes_per_update
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_summary() {
        let mut tally = Tally::new();
        (tally.events, tally.updates, tally.repeated) = (10, 50, 2);
        tally.latency.record(Duration::from_millis(3));
        let wire = Wire {
            bytes: 5_000,
            frames: 4_000,
            incomplete: false,
        };
        let report = tally.report(
            Duration::from_secs(2),
            Agreement::After(Duration::from_millis(7)),
            wire,
        );
        let text = report.for_people();
        assert_eq!(
            text.lines().last(),
            Some(
                "10 events (50 updates) in 2.00 s: 5 events/s, 25 updates/s; all nodes agreed 7 ms after the last; \
                 100 bytes on the wire per update"
            )
        );
        assert!(text.contains("2 events were there already"), "{text}");
        let nothing = Tally::new().report(Duration::ZERO, Agreement::No, Wire::default());
        assert_eq!((nothing.events_per_s, nothing.wire_bytes_per_update), (0.0, 0.0));
        assert!(nothing.for_people().contains("do NOT agree"));
        let unknown = Tally::new().report(Duration::ZERO, Agreement::Unknown, Wire::default());
        assert!(unknown.for_people().contains("0 events (0 updates)"));
        assert!(unknown.for_people().contains("could not be compared"));
    }
}

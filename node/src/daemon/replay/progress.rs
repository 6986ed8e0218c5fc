//! The progress bar on stderr, and what people are told beside it; no bar where stderr is no terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::output;

const TEMPLATE: &str = "{bar:30} {pos}/{len} events, {per_sec}, {eta} left {msg}";

/// How far a replay is. Clones are the same bar.
#[derive(Clone)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for so many events.
    pub fn new(events: u64) -> Progress {
        // Not drawn where nobody looks.
        let bar = ProgressBar::with_draw_target(Some(events), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        Progress { bar }
    }

    /// One more is done.
    pub fn advance(&self) {
        self.bar.inc(1);
    }

    /// Something to tell people beside the bar.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| output::note(text));
    }

    /// What is going on once all is sent: in the bar, or where there is none as a line of its own.
    pub fn phase(&self, text: &str) {
        if self.bar.is_hidden() {
            return output::note(text);
        }
        self.bar.set_message(text.to_string());
        self.bar.tick();
    }

    /// The end.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
